//! How many bytes are free on disks, without ever waiting long for one: a file server that is gone lets calls of a hard
//! mount wait until it is back.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long a measurement is waited for, from its start.
const PATIENCE: Duration = Duration::from_secs(1);

/// A younger answer is not asked for again.
const FRESH: Duration = Duration::from_secs(1);

/// From this age on an answer says nothing about now.
const OLD: Duration = Duration::from_secs(180);

/// A measurement that takes so long is a fault that is logged.
const FAULT: Duration = Duration::from_secs(30);

/// Free bytes by file system calls that may hang; none when there is no such folder.
type Measure = dyn Fn(&Path) -> Option<u64> + Send + Sync;

/// The disks that a process writes to. Clones share what was measured.
///
/// Each disk is measured on a thread of its own, never by two at once. One that hangs keeps that one thread, and its last
/// answer is unknown after 3 minutes.
#[derive(Debug, Clone, Default)]
pub struct Disks(Arc<[Arc<Disk>]>);

struct Disk {
    name: String,
    folder: PathBuf,
    measure: Box<Measure>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// When the measurement began that has not ended yet.
    measuring: Option<Instant>,
    /// When the last one ended, and what it was.
    last: Option<(Instant, Option<u64>)>,
    is_logged: bool,
}

/// What is known of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskReading {
    pub(crate) name: String,
    /// None: unknown, or there is no such folder.
    pub(crate) free: Option<u64>,
    /// Whether it has not answered for so long that nothing is known of it.
    pub(crate) hangs: bool,
}

impl Disks {
    /// The disks of these folders, each by a name of its own. Nothing is measured yet.
    pub fn new(folders: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        Self::measured_by(folders.into_iter().map(|(name, folder)| (name, folder, Box::new(free) as _)))
    }

    pub(crate) fn measured_by(disks: impl Iterator<Item = (String, PathBuf, Box<Measure>)>) -> Self {
        let disk = |(name, folder, measure)| {
            Arc::new(Disk { name, folder, measure, state: watch::Sender::default() })
        };
        Self(disks.map(disk).collect())
    }

    /// Free bytes of each disk that people may use, by its name; without those that are not there, and those that have not
    /// answered for 3 minutes. It takes a second at most.
    pub async fn free(&self) -> Vec<(String, u64)> {
        let readings = self.readings().await.into_iter();
        readings.filter_map(|reading| Some((reading.name, reading.free?))).collect()
    }

    pub(crate) async fn readings(&self) -> Vec<DiskReading> {
        self.0.iter().for_each(Disk::start);
        let mut readings = Vec::new();
        for disk in self.0.iter() {
            readings.push(disk.reading().await);
        }
        readings
    }
}

impl Disk {
    /// Measures it, unless that is being done or has just been done. Not on a thread of the runtime's: its end would wait
    /// for a disk that hangs.
    fn start(self: &Arc<Self>) {
        let begins = self.state.send_if_modified(|state| {
            let is_fresh = state.last.is_some_and(|(at, _)| at.elapsed() < FRESH);
            let begins = state.measuring.is_none() && !is_fresh;
            if begins {
                state.measuring = Some(Instant::now());
            }
            begins
        });
        if !begins {
            return;
        }
        let disk = Arc::clone(self);
        let work = move || {
            let free = (disk.measure)(&disk.folder);
            disk.state.send_modify(|state| {
                *state = State { last: Some((Instant::now(), free)), ..State::default() };
            });
        };
        // Without a thread it is tried again at the next request.
        if std::thread::Builder::new().name("disk".to_owned()).spawn(work).is_err() {
            self.state.send_modify(|state| state.measuring = None);
        }
    }

    /// What the measurement that runs says, or what is known without it.
    async fn reading(&self) -> DiskReading {
        let mut states = self.state.subscribe();
        let measuring = states.borrow().measuring;
        if let Some(since) = measuring {
            let ended = states.wait_for(|state| state.measuring != measuring);
            let _ = tokio::time::timeout_at((since + PATIENCE).into(), ended).await;
        }
        let (state, now) = (*self.state.borrow(), Instant::now());
        if state.is_fault(now) {
            self.log();
        }
        DiskReading { name: self.name.clone(), free: state.free(now), hangs: state.hangs(now) }
    }

    /// Once for each measurement.
    fn log(&self) {
        let is_first = self.state.send_if_modified(|state| !std::mem::replace(&mut state.is_logged, true));
        if is_first {
            let (name, folder) = (&self.name, self.folder.display());
            tracing::warn!("the disk of the {name} does not answer; look at the file server of {folder}");
        }
    }
}

impl State {
    fn free(&self, now: Instant) -> Option<u64> {
        self.last.filter(|(at, _)| now.duration_since(*at) < OLD).and_then(|(_, free)| free)
    }

    fn hangs(&self, now: Instant) -> bool {
        let answered = self.last.is_some_and(|(at, _)| now.duration_since(at) < OLD);
        self.measuring.is_some_and(|since| now.duration_since(since) >= PATIENCE) && !answered
    }

    fn is_fault(&self, now: Instant) -> bool {
        self.measuring.is_some_and(|since| now.duration_since(since) >= FAULT)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, folder, state, measure: _ } = self;
        let mut disk = f.debug_struct("Disk");
        disk.field("name", name).field("folder", folder).field("state", &*state.borrow()).finish()
    }
}

fn free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// A disk that answers, and one whose calls hang until the sender is dropped. They are counted.
    pub(crate) fn one_hangs() -> (Disks, mpsc::Sender<()>, Arc<AtomicUsize>) {
        let (release, hung) = mpsc::channel::<()>();
        let (hung, calls) = (std::sync::Mutex::new(hung), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&calls);
        let hang = move |_: &Path| {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = hung.lock().unwrap().recv();
            Some(9)
        };
        let disks: [(String, PathBuf, Box<Measure>); 2] = [
            ("logs".into(), "/logs".into(), Box::new(hang)),
            ("state".into(), "/state".into(), Box::new(|_: &Path| Some(7))),
        ];
        (Disks::measured_by(disks.into_iter()), release, calls)
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_asked_once_and_the_others_are_shown() {
        let (disks, release, calls) = one_hangs();
        for _ in 0..5 {
            assert_eq!(disks.free().await, [("state".to_owned(), 7)]);
        }
        assert!(disks.readings().await[0].hangs, "nothing is known of it");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        drop(release);
        let mut states = disks.0[0].state.subscribe();
        states.wait_for(|state| state.measuring.is_none()).await.unwrap();
        assert_eq!(disks.free().await, [("logs".to_owned(), 9), ("state".to_owned(), 7)]);
        assert!(!disks.readings().await[0].hangs);
    }

    #[test]
    fn an_old_answer_is_unknown_and_the_disk_hangs_only_while_it_does_not_answer() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut state = State { last: Some((now, Some(5))), ..State::default() };
        assert_eq!((state.free(at(179)), state.hangs(at(179))), (Some(5), false));
        assert_eq!((state.free(at(180)), state.hangs(at(180))), (None, false), "nobody has asked");
        state.measuring = Some(at(15));
        assert_eq!((state.free(at(179)), state.hangs(at(179))), (Some(5), false));
        assert_eq!((state.free(at(180)), state.hangs(at(180))), (None, true));
        assert_eq!((state.is_fault(at(44)), state.is_fault(at(45))), (false, true));
        // There is no such folder: that is an answer.
        let missing = State { last: Some((now, None)), ..State::default() };
        assert_eq!((missing.free(at(1)), missing.hangs(at(1))), (None, false));
    }

    #[tokio::test]
    async fn free_bytes_are_those_of_the_file_system_and_a_missing_folder_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let disks = [("here".to_owned(), folder.path().to_owned()), ("missing".to_owned(), missing)];
        let found = Disks::new(disks).free().await;
        assert!(matches!(&found[..], [(name, free)] if name == "here" && *free > 0), "{found:?}");
    }
}
