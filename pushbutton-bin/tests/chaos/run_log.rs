//! The run's clock, its output, and the flag that it has ended.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What all threads of a run share.
pub(crate) struct RunLog {
    began: Instant,
    ended: AtomicBool,
    journal: Mutex<File>,
}

/// Sets the flag when it is dropped, also by a panic: threads that wait for it must end.
pub(crate) struct EndOnDrop<'a>(pub(crate) &'a RunLog);

impl RunLog {
    /// Starts the clock; what is printed goes to standard error and into a file of this folder.
    pub(crate) fn start(folder: &Path) -> Self {
        let journal = File::options().create(true).append(true).open(folder.join("chaos.log")).unwrap();
        Self { began: Instant::now(), ended: AtomicBool::new(false), journal: Mutex::new(journal) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Prints even when the test passes: people read this as the proof.
    pub(crate) fn print(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        let mut journal = self.journal.lock().unwrap();
        for line in text.lines() {
            let line = format!("{:7.1} s | {line}", self.elapsed().as_secs_f64());
            let _ = writeln!(stderr, "{line}");
            let _ = writeln!(journal, "{} {line}", jiff::Timestamp::now());
        }
    }

    /// Prints the last line to standard output.
    pub(crate) fn print_result(&self, text: &str) {
        let mut journal = self.journal.lock().unwrap();
        let _ = writeln!(std::io::stdout().lock(), "{text}");
        let _ = writeln!(journal, "{text}");
    }

    /// Waits, unless the run has ended. `look` is called at short intervals.
    pub(crate) fn wait_until(&self, at: Duration, mut look: impl FnMut()) {
        loop {
            look();
            let left = at.saturating_sub(self.elapsed());
            if left.is_zero() || self.has_ended() {
                return;
            }
            std::thread::park_timeout(left.min(Duration::from_millis(200)));
        }
    }

    /// Waits for this time from now.
    pub(crate) fn wait(&self, time: Duration) {
        self.wait_until(self.elapsed() + time, || {});
    }
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Relaxed);
    }
}
