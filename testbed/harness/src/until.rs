//! Waiting for what a server does in its own time and tells nobody.

use std::time::{Duration, Instant};

/// Asks every 200 ms until there is an answer, and returns it; panics with `what` after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}
