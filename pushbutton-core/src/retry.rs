//! How long to wait before a retry, and a loop that retries temporary errors.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::error::{Error, Result};

/// No delay is longer: beyond this the arithmetic of time overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Growing delays with jitter and a cap.
///
/// The delay before try *n* is drawn between half and the whole of `first * 2^(n-1)`, never above `cap`: clients that
/// lost the same server do not reconnect at the same moment.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    delays: ExponentialBackoff,
    tries: u32,
}

impl Backoff {
    /// Delays from `first` to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        let cap = cap.min(LONGEST);
        let delays =
            ExponentialBuilder::new().with_min_delay(first.min(cap)).with_max_delay(cap).without_max_times();
        Self { first, cap, delays: delays.build(), tries: 0 }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        self.tries = self.tries.saturating_add(1);
        let whole = self.delays.next().unwrap_or(self.cap);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Starts the series again, after a healthy period.
    pub fn reset(&mut self) {
        *self = Self::new(self.first, self.cap);
    }

    /// How many delays were returned since the start or the last reset.
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
    /// Five tries over some ten seconds: for calls that a person waits for.
    pub const SHORT: Self = Self { tries: 5, first: Duration::from_millis(500), cap: Duration::from_secs(5) };
    /// No limit, up to a minute between tries: for what must succeed in the end.
    pub const UNTIL_SUCCESS: Self =
        Self { tries: 0, first: Duration::from_millis(500), cap: Duration::from_secs(60) };

    /// Calls until it succeeds, fails permanently, or the tries are used up; the last error is then
    /// [`retried_out`](Error::retried_out).
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

/// The delay after this many failures, from 1: it doubles from `first` to `cap`. Without jitter.
pub(crate) fn delay_after(first: Duration, cap: Duration, failures: u32) -> Duration {
    first.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, RetryClass};
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn delays_grow_to_the_cap_with_jitter_between_half_and_whole() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
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
        assert!(RetryPolicy::UNTIL_SUCCESS.run("test::call", failing).await.is_err());
        assert_eq!(calls.into_inner(), 1);
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let delay = |failed| delay_after(Duration::from_secs(60), Duration::from_secs(900), failed).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(delay), [60, 120, 240, 480, 900, 900]);
    }
}
