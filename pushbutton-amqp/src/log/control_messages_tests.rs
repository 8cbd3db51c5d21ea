use super::super::entry::{Entry, Op};
use super::super::replica::Replica;
use super::super::state_machine::Arrival;
use super::*;

fn broadcast(text: &str) -> Entry {
    Entry::new(Op::Broadcast { message: text.to_owned() })
}

fn read(replica: &mut Replica, offset: u64, entry: &Entry) {
    replica.read(offset, entry.clone(), 100, Arrival::now());
}

fn new_messages(listened: &mut Listened, replica: &Replica) -> Vec<String> {
    listened.new_messages(&replica.state().unwrap().messages)
}

/// Found by the simulation (seed 5): the broker loses `2`, somebody writes `3`, and `2` is written again after it.
#[test]
fn a_message_before_one_that_was_written_again_is_heard() {
    let [first, second, third] = ["1", "2", "3"].map(broadcast);
    let (mut replica, mut listened) = (Replica::default(), Listened::default());
    read(&mut replica, 0, &first);
    read(&mut replica, 1, &second);
    assert_eq!(replica.reached_end(Arrival::now()), None);
    assert_eq!(new_messages(&mut listened, &replica), ["1", "2"]);
    replica.resume();
    read(&mut replica, 1, &third);
    replica.resume();
    read(&mut replica, 0, &first);
    read(&mut replica, 1, &third);
    let restore = Entry::new(replica.reached_end(Arrival::now()).unwrap());
    let _outcome = replica.expect(restore.id);
    read(&mut replica, 2, &restore);
    assert_eq!(replica.reached_end(Arrival::now()), None);
    assert_eq!(new_messages(&mut listened, &replica), ["3"]);
    assert!(new_messages(&mut listened, &replica).is_empty());
}
