use std::path::PathBuf;
use std::time::Duration;

use pushbutton_core::HumanDuration;
use serde::Deserialize;

/// The jobs of a dead operator must not wait longer than this.
const MAX_LEASE: Duration = Duration::from_secs(24 * 3600);

/// How the store is used. Only the file has to be named.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StoreConfig {
    /// The SQLite file. Created when missing; its folder is not. On a local disk: WAL does not work over a network
    /// file system.
    pub file: PathBuf,
    /// How long a claim lasts unless renewed, and so how long the jobs of a dead operator wait. Operators renew often:
    /// an outage of four fifths of it disturbs no run. Each process may have its own value. Default: 15m.
    #[serde(default = "lease")]
    pub lease: HumanDuration,
    /// How many leases on one job may run out before it becomes a dead letter: the job may be what kills operators.
    /// Default: 5.
    #[serde(default = "max_lost_leases")]
    pub max_lost_leases: u32,
    /// How long to wait for another process that is writing to the file. Default: 5s.
    #[serde(default = "lock_wait")]
    pub lock_wait: HumanDuration,
    /// How long runs stay in the history. Default: 2160h (90 days).
    #[serde(default = "keep_runs")]
    pub keep_runs: HumanDuration,
    /// How many runs stay in the history, and as many control messages and deliveries: the newest. Default: 20000.
    #[serde(default = "max_runs")]
    pub max_runs: u32,
}

impl StoreConfig {
    /// This file, and the defaults.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            lease: lease(),
            max_lost_leases: max_lost_leases(),
            lock_wait: lock_wait(),
            keep_runs: keep_runs(),
            max_runs: max_runs(),
        }
    }

    /// Sets [`lease`](Self::lease).
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = HumanDuration(lease);
        self
    }

    /// Sets [`max_lost_leases`](Self::max_lost_leases).
    #[must_use]
    pub fn with_max_lost_leases(mut self, count: u32) -> Self {
        self.max_lost_leases = count;
        self
    }

    /// Sets [`lock_wait`](Self::lock_wait).
    #[must_use]
    pub fn with_lock_wait(mut self, lock_wait: Duration) -> Self {
        self.lock_wait = HumanDuration(lock_wait);
        self
    }

    /// Sets [`keep_runs`](Self::keep_runs).
    #[must_use]
    pub fn with_keep_runs(mut self, keep_runs: Duration) -> Self {
        self.keep_runs = HumanDuration(keep_runs);
        self
    }

    /// Sets [`max_runs`](Self::max_runs).
    #[must_use]
    pub fn with_max_runs(mut self, max_runs: u32) -> Self {
        self.max_runs = max_runs;
        self
    }

    /// What is wrong with the values: each problem begins with its key, as `lease: must be ...`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.lease.0.is_zero() || self.lease.0 > MAX_LEASE {
            problems.push(format!("lease: must be longer than 0s and at most {}", HumanDuration(MAX_LEASE)));
        }
        if self.max_lost_leases == 0 {
            problems.push("max_lost_leases: must be at least 1".to_owned());
        }
        if self.keep_runs.0.is_zero() {
            problems.push("keep_runs: must be longer than 0s".to_owned());
        }
        if self.max_runs == 0 {
            problems.push("max_runs: must be at least 1".to_owned());
        }
        problems
    }
}

fn lease() -> HumanDuration {
    HumanDuration::secs(15 * 60)
}

fn max_lost_leases() -> u32 {
    5
}

fn lock_wait() -> HumanDuration {
    HumanDuration::secs(5)
}

fn keep_runs() -> HumanDuration {
    HumanDuration::secs(90 * 24 * 3600)
}

fn max_runs() -> u32 {
    20_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_enough_and_a_typo_is_named() {
        let config: StoreConfig = serde_json::from_str(r#"{"file": "state/pushbutton.db"}"#).unwrap();
        assert_eq!(config, StoreConfig::new("state/pushbutton.db"));
        let typo = serde_json::from_str::<StoreConfig>(r#"{"file": "x", "leese": "1m"}"#).unwrap_err();
        assert!(typo.to_string().contains("`leese`"), "{typo}");
    }

    #[test]
    fn every_wrong_value_is_named() {
        let config = StoreConfig::new("x");
        assert_eq!(config.problems(), Vec::<String>::new());
        let zero = Duration::ZERO;
        let problems =
            config.with_lease(zero).with_max_lost_leases(0).with_keep_runs(zero).with_max_runs(0).problems();
        let keys: Vec<_> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(keys, ["lease", "max_lost_leases", "keep_runs", "max_runs"], "{problems:?}");
    }
}
