//! How long to wait before trying again. Who decides whether to is elsewhere.

use std::future::Future;
use std::time::Duration;

use crate::error::{Error, Result};

/// Growing delays with jitter and a cap.
///
/// The delay before try *n* is drawn between half and the whole of `first * 2^(n-1)`, never above `cap`: clients that lost the
/// same server do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    tries: u32,
    seed: u64,
}

impl Backoff {
    /// Delays from `first` to `cap`, jitter seeded from the process and the moment.
    pub fn new(first: Duration, cap: Duration) -> Self {
        let seed = uuid::Uuid::now_v7().as_u128() as u64;
        Self { first, cap, tries: 0, seed: seed | 1 }
    }

    /// The same series of delays for the same seed, for tests.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed | 1;
        self
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        // xorshift64: jitter wants spread, not secrecy.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let part = (self.seed % 1024) as u32;
        whole / 2 + (whole / 2) * part / 1024
    }

    /// Starts the series again, after a time in which all was well.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// How many delays were given since the start or the last reset.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

/// How often and how long to try.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries in all, the first included; 0 for no limit.
    pub tries: u32,
    /// Delay before the second try.
    pub first: Duration,
    /// Longest delay.
    pub cap: Duration,
}

impl RetryPolicy {
    /// Five tries over some ten seconds: for calls that somebody waits for.
    pub const SHORT: Self = Self { tries: 5, first: Duration::from_millis(500), cap: Duration::from_secs(5) };
    /// No limit, up to a minute between tries: for what must happen in the end.
    pub const FOR_EVER: Self =
        Self { tries: 0, first: Duration::from_millis(500), cap: Duration::from_secs(60) };

    /// Calls until it succeeds, fails permanently, or the tries are used up; the last error is then [`retried_out`](Error::retried_out).
    ///
    /// # Cancel safety
    /// As cancel-safe as the call itself.
    pub async fn run<T, F, Fut>(&self, what: &'static str, mut call: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut backoff = Backoff::new(self.first, self.cap);
        loop {
            let error: Error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error.during(what),
            };
            if !error.is_temporary() {
                return Err(error);
            }
            if self.tries != 0 && backoff.tries() + 1 >= self.tries {
                return Err(error.retried_out());
            }
            let delay = backoff.next_delay();
            tracing::warn!(operation = what, tries = backoff.tries(), ?delay, "will try again: {error}");
            tokio::time::sleep(delay).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, RetryClass};
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn delays_grow_to_the_cap_with_jitter_between_half_and_whole() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8)).with_seed(7);
        for whole in [1, 2, 4, 8, 8, 8] {
            let delay = backoff.next_delay();
            assert!(
                delay >= Duration::from_secs(whole) / 2 && delay <= Duration::from_secs(whole),
                "{delay:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }

    #[test]
    fn very_many_tries_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for _ in 0..100 {
            assert!(backoff.next_delay() <= Duration::from_secs(60));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_temporary_error_is_tried_again_and_then_changes_class() {
        let calls = AtomicU32::new(0);
        let failing = || async {
            calls.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(Error::temporary(ErrorKind::Unreachable, "down"))
        };
        let error = RetryPolicy::SHORT.run("test::call", failing).await.unwrap_err();
        assert_eq!((calls.into_inner(), error.retry_class()), (5, RetryClass::RetriedOut));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_error_is_not() {
        let calls = AtomicU32::new(0);
        let failing = || async {
            calls.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(Error::permanent(ErrorKind::Denied, "no"))
        };
        assert!(RetryPolicy::FOR_EVER.run("test::call", failing).await.is_err());
        assert_eq!(calls.into_inner(), 1);
    }
}
