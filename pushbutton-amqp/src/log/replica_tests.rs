use super::*;
use pushbutton_core::samples::job_on;
use pushbutton_core::{InstallationId, RunId};

fn import(n: u64) -> Entry {
    Entry::new(Op::Import { jobs: vec![job_on(n, "tempest")], unreadable: Vec::new() })
}

fn read(replica: &mut Replica, offset: u64, entry: &Entry) -> Applied {
    replica.read(offset, entry.clone(), 1 << 20, Arrival::now())
}

fn knows(replica: &Replica, n: u64) -> bool {
    replica.state().is_some_and(|state| state.knows(&job_on(n, "tempest").id))
}

/// A replica that has read these entries to the end of the log.
fn caught_up(entries: &[Entry]) -> Replica {
    let mut replica = Replica::default();
    for (offset, entry) in (0..).zip(entries) {
        read(&mut replica, offset, entry);
    }
    replica.caught_up();
    replica
}

fn due(replica: &mut Replica) -> Option<Op> {
    replica.due_snapshot(Duration::ZERO, Arrival::now())
}

#[test]
fn a_reader_that_begins_with_a_snapshot_comes_to_the_same_state() {
    let entries: Vec<_> = (0..6).map(import).collect();
    let mut all = caught_up(&entries[..3]);
    assert!(due(&mut all).is_none(), "the writer of the last entry writes the snapshot");
    let mut all = Replica::default();
    let _waiter = all.expect(entries[2].id);
    for (offset, entry) in (0..).zip(&entries[..2]) {
        read(&mut all, offset, entry);
    }
    assert!(due(&mut all).is_none(), "not enough was written");
    read(&mut all, 2, &entries[2]);
    all.caught_up();
    let snapshot = Entry::new(due(&mut all).unwrap());
    // Others wrote on while the snapshot was on its way.
    read(&mut all, 3, &entries[3]);
    read(&mut all, 4, &snapshot);
    assert!(due(&mut all).is_none());
    read(&mut all, 5, &entries[5]);

    // The broker has dropped offsets 0 to 2.
    let mut late = Replica::default();
    assert_eq!(late.resume(), Resume::First);
    assert_eq!(read(&mut late, 3, &entries[3]), Applied::No);
    assert!(!late.has_beginning(), "without a beginning nothing is known");
    assert_eq!(read(&mut late, 4, &snapshot), Applied::Yes);
    read(&mut late, 5, &entries[5]);
    assert!(late.state().is_none(), "the end of the log was not read yet");
    late.caught_up();
    let now = Arrival::now();
    assert_eq!(all.state().unwrap().snapshot(now), late.state().unwrap().snapshot(now));

    // Offset 3 is dropped, too: this snapshot is of no use.
    let mut later = Replica::default();
    read(&mut later, 4, &snapshot);
    assert!(!later.has_beginning());
}

/// Of participants that write all the time, each reads entries of its own before the snapshot comes. If each of them
/// wrote one, too, all would have to read as many snapshots as there are participants.
#[test]
fn one_of_many_busy_participants_writes_the_snapshot() {
    let mut replicas: Vec<_> = (0..20).map(|_| caught_up(&[])).collect();
    let mut written = Vec::new();
    for offset in 0..40 {
        let entry = Entry::new(Op::Barrier);
        let _waiter = replicas[offset % 20].expect(entry.id);
        for (index, replica) in replicas.iter_mut().enumerate() {
            replica.read(offset as u64, entry.clone(), 64 << 10, Arrival::now());
            if due(replica).is_some() {
                written.push((offset, index));
            }
        }
    }
    // At 2 MiB. As it does not come, another one half a MiB later.
    assert_eq!(written, [(31, 11), (39, 19)]);
}

#[test]
fn a_snapshot_that_none_of_those_writes_who_made_it_due_is_written_by_anybody() {
    let mut replica = caught_up(&[]);
    for offset in 0..4 {
        let own = Entry::new(Op::Barrier);
        let _waiter = replica.expect(own.id);
        replica.read(2 * offset, own, 100, Arrival::now());
        assert!(due(&mut replica).is_none(), "nobody made it due, or somebody else");
        replica.read(2 * offset + 1, Entry::new(Op::Barrier), 1 << 20, Arrival::now());
        assert!(due(&mut replica).is_none(), "somebody else made it due");
    }
    let own = Entry::new(Op::Barrier);
    let _waiter = replica.expect(own.id);
    replica.read(8, own, 100, Arrival::now());
    assert!(due(&mut replica).is_some(), "twice as many bytes as make one due");
}

#[test]
fn a_snapshot_is_due_after_an_hour_whoever_wrote_the_entries() {
    let mut replica = caught_up(&[import(1)]);
    let mut later = Arrival::now();
    later.instant += SNAPSHOT_INTERVAL - Duration::from_secs(1);
    assert!(replica.due_snapshot(Duration::ZERO, later).is_none());
    later.instant += Duration::from_secs(2);
    assert!(replica.due_snapshot(Duration::from_secs(60), later).is_none(), "others may be first");
    let snapshot = Entry::new(replica.due_snapshot(Duration::ZERO, later).unwrap());
    assert!(replica.due_snapshot(Duration::ZERO, later).is_none(), "it is on its way");
    replica.read(1, snapshot, 100, later);
    later.instant += SNAPSHOT_INTERVAL * 2;
    assert!(replica.due_snapshot(Duration::ZERO, later).is_none(), "nothing has changed since");
}

#[test]
fn a_writer_gets_the_outcome_of_its_entry() {
    let mut replica = caught_up(&[import(1)]);
    let lead =
        |_| Entry::new(Op::Lead { candidate: EntryId::new(), expected_version: None, lease_ms: 9_000 });
    let [entry, rival] = [0, 1].map(lead);
    let (mut mine, mut theirs) = (replica.expect(entry.id), replica.expect(rival.id));
    read(&mut replica, 1, &entry);
    read(&mut replica, 2, &rival);
    assert_eq!((mine.try_recv(), theirs.try_recv()), (Ok(Outcome::Accepted), Ok(Outcome::Rejected)));
}

#[test]
fn a_log_that_was_cut_short_is_read_again_and_the_lost_entries_restored() {
    let entries: Vec<_> = (0..3).map(import).collect();
    let mut replica = caught_up(&entries);
    assert_eq!(replica.resume(), Resume::At(2));
    assert_eq!(read(&mut replica, 2, &entries[2]), Applied::No);
    assert_eq!(read(&mut replica, 1, &entries[1]), Applied::No);
    assert!(knows(&replica, 2));
    assert_eq!(replica.lost(Arrival::now()), None);
    // The broker's host lost power, and with it the last entry.
    assert_eq!(replica.resume(), Resume::At(2));
    assert_eq!(read(&mut replica, 2, &import(7)), Applied::Diverged);
    assert!(replica.state().is_none());
    assert_eq!(replica.resume(), Resume::First);
    read(&mut replica, 0, &entries[0]);
    // The connection breaks again before the end of the log.
    replica.forget();
    for offset in 0..2 {
        read(&mut replica, offset, &entries[usize::try_from(offset).unwrap()]);
    }
    let restore = Entry::new(replica.lost(Arrival::now()).unwrap());
    // It is not forgotten before it was read back.
    assert!(replica.lost(Arrival::now()).is_some());
    let _waiter = replica.expect(restore.id);
    read(&mut replica, 2, &restore);
    assert_eq!(replica.lost(Arrival::now()), None);
    replica.caught_up();
    assert!((0..3).all(|n| knows(&replica, n)));
}

#[test]
fn a_log_that_went_on_and_dropped_its_beginning_has_lost_nothing() {
    let mut replica = caught_up(&[import(0), import(1)]);
    replica.resume();
    let snapshot = Op::Snapshot { as_of: 9, state: Box::default() };
    assert_eq!(read(&mut replica, 10, &Entry::new(snapshot.clone())), Applied::Diverged);
    replica.resume();
    assert_eq!(read(&mut replica, 10, &Entry::new(snapshot)), Applied::Yes);
    assert_eq!(replica.lost(Arrival::now()), None, "what it knew has ended since");
}

fn snapshot_as_of(offset: u64, replica: &Replica) -> Entry {
    let state = replica.state().unwrap().snapshot(Arrival::now());
    Entry::new(Op::Snapshot { as_of: offset, state: Box::new(state) })
}

/// backends.md L5: a participant that comes first after somebody has deleted the stream sees no leases. It sees no
/// machines of the former installation either, because it does not have its id before it has its leases.
#[test]
fn l5_in_a_new_log_the_former_installation_comes_only_together_with_its_leases() {
    let (installation, other) = (InstallationId::generate(), InstallationId::generate());
    let (job, run, imported) = (job_on(1, "tempest").id, RunId::generate(), import(1));
    let claim = Op::Claim { job, expected_version: (1, imported.id), run: run.clone(), lease_ms: 600_000 };
    let id =
        |installation: &InstallationId| Entry::new(Op::Installation { installation: installation.clone() });
    let mut holder = caught_up(&[id(&installation), imported, Entry::new(claim)]);
    let leased = |replica: &Replica| replica.state().unwrap().jobs.leased_runs(Instant::now());
    assert_eq!(leased(&holder), std::slice::from_ref(&run));

    let barrier = Entry::new(Op::Barrier);
    holder.resume();
    assert_eq!(read(&mut holder, 0, &barrier), Applied::Diverged);
    holder.resume();
    read(&mut holder, 0, &barrier);
    let restore = Entry::new(holder.reached_end(Arrival::now()).unwrap());
    for asks_first in [false, true] {
        let mut fresh = caught_up(std::slice::from_ref(&barrier));
        assert_eq!((leased(&fresh), &fresh.state().unwrap().installation), (vec![], &None));
        let mut entries = [restore.clone(), id(&other)];
        if asks_first {
            entries.reverse();
        }
        for (offset, entry) in (1..).zip(&entries) {
            read(&mut fresh, offset, entry);
            let has_id = fresh.state().unwrap().installation.as_ref() == Some(&installation);
            assert!(!has_id || leased(&fresh) == [run.clone()]);
        }
        let wins = if asks_first { &other } else { &installation };
        assert_eq!(
            (leased(&fresh), fresh.state().unwrap().installation.as_ref()),
            (vec![run.clone()], Some(wins))
        );
    }
}

/// Found by the simulation: RabbitMQ moves a reader on silently when it drops what the reader has not read yet.
#[test]
fn a_reader_that_was_moved_on_reads_the_log_again() {
    let entries: Vec<_> = (0..4).map(import).collect();
    let others = caught_up(&entries);
    let mut replica = caught_up(&entries[..1]);
    let snapshot = snapshot_as_of(3, &others);
    assert_eq!(read(&mut replica, 4, &snapshot), Applied::Diverged, "three entries are missing");
    assert_eq!(replica.resume(), Resume::First);
    assert_eq!(read(&mut replica, 4, &snapshot), Applied::Yes);
    assert_eq!(replica.reached_end(Arrival::now()), None);
    assert!((0..4).all(|n| knows(&replica, n)));
}

/// A segment of the stream begins with an entry that no reader gets. Reading goes on: what is published at that moment
/// must not fail.
#[test]
fn the_place_at_the_beginning_of_a_segment_is_read_over() {
    let mut replica = caught_up(&[import(0), import(1)]);
    assert_eq!(read(&mut replica, 3, &import(2)), Applied::Yes);
    assert!((0..3).all(|n| knows(&replica, n)));
}

/// If the entry before the gap is still there, nothing was dropped.
#[test]
fn a_gap_in_the_log_itself_is_read_over() {
    let entries: Vec<_> = (0..3).map(import).collect();
    let mut replica = Replica::default();
    for gaps in [[0, 3, 4], [0, 3, 6]] {
        for _ in 0..2 {
            replica.forget();
            for (offset, entry) in gaps.iter().zip(&entries) {
                if read(&mut replica, *offset, entry) == Applied::Diverged {
                    break;
                }
            }
        }
        assert_eq!(replica.last_offset(), gaps.last().copied());
    }
}

/// Found by the simulation (seed 1795): the connection breaks again while the log is read again, and meanwhile its
/// beginning is dropped.
#[test]
fn what_was_lost_is_written_again_also_if_the_beginning_is_dropped_meanwhile() {
    let entries: Vec<_> = (0..3).map(import).collect();
    let mut replica = caught_up(&entries);
    replica.resume();
    assert_eq!(read(&mut replica, 2, &import(7)), Applied::Diverged);
    replica.resume();
    read(&mut replica, 0, &entries[0]);
    replica.resume();
    let others = caught_up(&entries[..2]);
    let snapshot = snapshot_as_of(8, &others);
    assert_eq!(read(&mut replica, 9, &snapshot), Applied::Diverged);
    replica.resume();
    read(&mut replica, 9, &snapshot);
    let Some(Op::Restore { lost }) = replica.reached_end(Arrival::now()) else {
        panic!("an entry is missing")
    };
    assert_eq!(lost.jobs.len(), 1);
}

/// Found by the simulation (seed 748): the broker lost the end of the log, and the writer of the last entry wrote it
/// again, at the same place by chance. What is before it is not the same.
#[test]
fn a_second_copy_at_the_same_place_hides_no_loss() {
    let entries: Vec<_> = (0..3).map(import).collect();
    let mut replica = caught_up(&entries);
    replica.resume();
    let again = Entry { copy: 1, ..entries[2].clone() };
    assert_eq!(read(&mut replica, 2, &again), Applied::Diverged);
    for (offset, entry) in [&entries[0], &import(7), &again].into_iter().enumerate() {
        read(&mut replica, offset as u64, entry);
    }
    let Some(Op::Restore { lost }) = replica.reached_end(Arrival::now()) else {
        panic!("entry 1 is missing")
    };
    assert_eq!(lost.jobs.len(), 1);
}

/// Found by the simulation (seed 2949).
#[test]
fn a_restore_that_is_lost_as_soon_as_it_was_read_is_written_again() {
    let entries: Vec<_> = (0..2).map(import).collect();
    let mut replica = caught_up(&entries);
    for _ in 0..2 {
        replica.resume();
        assert_eq!(read(&mut replica, 1, &import(7)), Applied::Diverged);
        replica.resume();
        read(&mut replica, 0, &entries[0]);
        let Some(op) = replica.reached_end(Arrival::now()) else { panic!("an entry is missing") };
        let restore = Entry::new(op);
        let _outcome = replica.expect(restore.id);
        // The connection breaks before anybody looks at the outcome.
        read(&mut replica, 1, &restore);
    }
}

/// After a power cut of the broker the end of the log may be missing: a snapshot would say what the log does not.
#[test]
fn no_snapshot_is_written_before_the_log_has_shown_its_end_again() {
    let entries: Vec<_> = (0..3).map(import).collect();
    let mut replica = Replica::default();
    let _waiter = replica.expect(entries[2].id);
    for (offset, entry) in (0..).zip(&entries) {
        read(&mut replica, offset, entry);
    }
    replica.caught_up();
    assert_eq!(replica.resume(), Resume::At(2));
    assert!(due(&mut replica).is_none());
    assert_eq!(read(&mut replica, 2, &entries[2]), Applied::No, "it is there again");
    assert!(due(&mut replica).is_some());
}

#[test]
fn a_snapshot_of_entries_that_come_after_it_is_of_no_use() {
    let others = caught_up(&(0..6).map(import).collect::<Vec<_>>());
    let snapshot = snapshot_as_of(5, &others);
    let mut replica = Replica::default();
    read(&mut replica, 3, &import(7));
    assert_eq!(read(&mut replica, 4, &snapshot), Applied::No);
    assert!(!replica.has_beginning());
}

/// A connection that fails before the end of the log came says nothing about what is in the log.
#[test]
fn a_reader_that_gives_up_restores_nothing_that_was_there_again() {
    let entries: Vec<_> = (0..3).map(import).collect();
    let (mut same, mut lost) = (caught_up(&entries), caught_up(&entries));
    same.resume();
    read(&mut same, 2, &entries[2]);
    same.give_up_reading();
    assert_eq!(same.resume(), Resume::At(2));
    assert_eq!(read(&mut same, 2, &entries[2]), Applied::No);
    assert_eq!(same.reached_end(Arrival::now()), None);
    // The last entry did not come.
    lost.resume();
    lost.give_up_reading();
    assert_eq!(lost.resume(), Resume::First);
    read(&mut lost, 0, &entries[0]);
    assert!(matches!(lost.reached_end(Arrival::now()), Some(Op::Restore { .. })));
}
