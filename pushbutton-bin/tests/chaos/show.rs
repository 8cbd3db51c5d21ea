//! The run's clock, its voice, and the word that it is over.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What all threads of a run share.
pub(crate) struct Show {
    began: Instant,
    over: AtomicBool,
    journal: Mutex<File>,
}

/// Says that the run is over when it is dropped, also by a panic: threads that wait for that word must not wait in vain.
pub(crate) struct Curtain<'a>(pub(crate) &'a Show);

impl Show {
    /// Begins now; what is said goes to standard error and into a file of this folder.
    pub(crate) fn begin(folder: &Path) -> Self {
        let journal = File::options().create(true).append(true).open(folder.join("chaos.log")).unwrap();
        Self { began: Instant::now(), over: AtomicBool::new(false), journal: Mutex::new(journal) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Shows what happens also when the test passes: this is the proof that people read.
    pub(crate) fn say(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        let mut journal = self.journal.lock().unwrap();
        for line in text.lines() {
            let line = format!("{:7.1} s | {line}", self.elapsed().as_secs_f64());
            let _ = writeln!(stderr, "{line}");
            let _ = writeln!(journal, "{} {line}", jiff::Timestamp::now());
        }
    }

    /// The last word, on a line of its own; also shown when the test passes.
    pub(crate) fn conclude(&self, text: &str) {
        let mut journal = self.journal.lock().unwrap();
        let _ = writeln!(std::io::stdout().lock(), "{text}");
        let _ = writeln!(journal, "{text}");
    }

    /// Lets time pass, unless the run is over before. `look` is called now and then.
    pub(crate) fn wait_until(&self, at: Duration, mut look: impl FnMut()) {
        loop {
            look();
            let left = at.saturating_sub(self.elapsed());
            if left.is_zero() || self.is_over() {
                return;
            }
            std::thread::park_timeout(left.min(Duration::from_millis(200)));
        }
    }

    /// The same, for so long from now.
    pub(crate) fn wait(&self, time: Duration) {
        self.wait_until(self.elapsed() + time, || {});
    }
}

impl Drop for Curtain<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Relaxed);
    }
}
