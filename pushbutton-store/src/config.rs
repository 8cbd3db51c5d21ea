use std::path::PathBuf;
use std::time::Duration;

use pushbutton_core::HumanDuration;
use serde::Deserialize;

/// How the store is used. Only the file has to be named.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StoreConfig {
    /// The SQLite file. Created when missing; its folder is not. On a local disk: WAL does not work over a network
    /// file system.
    pub file: PathBuf,
    /// How long a claim lasts unless renewed. Each process may have its own value. Default: 60s.
    #[serde(default = "lease")]
    pub lease: HumanDuration,
    /// How long to wait for another process that is writing to the file. Default: 5s.
    #[serde(default = "lock_wait")]
    pub lock_wait: HumanDuration,
    /// How long runs stay in the history. Default: 2160h (90 days).
    #[serde(default = "keep_runs")]
    pub keep_runs: HumanDuration,
}

impl StoreConfig {
    /// This file, and the defaults.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), lease: lease(), lock_wait: lock_wait(), keep_runs: keep_runs() }
    }

    /// Sets [`lease`](Self::lease).
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = HumanDuration(lease);
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
}

fn lease() -> HumanDuration {
    HumanDuration::secs(60)
}

fn lock_wait() -> HumanDuration {
    HumanDuration::secs(5)
}

fn keep_runs() -> HumanDuration {
    HumanDuration::secs(90 * 24 * 3600)
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
}
