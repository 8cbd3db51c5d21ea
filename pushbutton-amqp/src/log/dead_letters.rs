//! Dead letters: bounded, and each with an id by which a person can requeue or remove it.

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use pushbutton_core::Job;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ids::JobKey;
use super::jobs::json_size;

/// How many dead letters are kept; beyond that the oldest are dropped.
pub(crate) const MAX_LETTERS: usize = 1_000;
/// How many bytes dead letters may take in all, as a snapshot has them.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// How much older than a job a dead letter of the same id must be so that the job is a new one.
const REPLACEABLE_AGE: SignedDuration = SignedDuration::from_hours(24);

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) job: Option<Job>,
    pub(crate) why: String,
    /// Distinguishes it from an earlier letter of the same job, which somebody requeued.
    pub(crate) at: Timestamp,
}

impl Letter {
    /// Its id: that of the job, or a digest of what is known about a message that could not be read.
    pub(crate) fn id(&self) -> String {
        match &self.job {
            Some(job) => job.id.to_string(),
            None => {
                let digest =
                    Sha256::new().chain_update(self.at.to_string()).chain_update(&self.why).finalize();
                let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                format!("unreadable-{digits}")
            }
        }
    }

    /// Whether this job is another one than that of the letter: its event is a day newer, and its identity repeats.
    pub(super) fn is_replaced_by(&self, job: &Job) -> bool {
        job.created.duration_since(self.at) > REPLACEABLE_AGE
    }

    fn bytes(&self) -> usize {
        json_size(self)
    }
}

/// All of them, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeadLetters {
    kept: VecDeque<Letter>,
    jobs: HashSet<JobKey>,
    bytes: usize,
}

impl DeadLetters {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Letter> {
        self.kept.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Finds a letter by its id.
    pub(crate) fn find(&self, id: &str) -> Option<&Letter> {
        self.kept.iter().find(|letter| letter.id() == id)
    }

    /// Whether this letter is there, or another one of the same job.
    pub(super) fn holds(&self, letter: &Letter) -> bool {
        letter
            .job
            .as_ref()
            .map_or_else(|| self.kept.contains(letter), |job| self.has_job(JobKey::of(&job.id)))
    }

    pub(super) fn has_job(&self, key: JobKey) -> bool {
        self.jobs.contains(&key)
    }

    /// Whether a letter stands for this job.
    pub(super) fn blocks(&self, job: &Job) -> bool {
        self.of_job(JobKey::of(&job.id))
            .and_then(|at| self.kept.get(at))
            .is_some_and(|letter| !letter.is_replaced_by(job))
    }

    /// Drops the letter of this job.
    pub(super) fn forget(&mut self, job: JobKey) {
        self.of_job(job).and_then(|at| self.remove(at));
    }

    fn of_job(&self, job: JobKey) -> Option<usize> {
        let is_its = |letter: &Letter| letter.job.as_ref().is_some_and(|it| JobKey::of(&it.id) == job);
        self.has_job(job).then(|| self.kept.iter().position(is_its)).flatten()
    }

    /// Adds one, unless the same is there; the oldest are dropped to make room.
    pub(super) fn keep(&mut self, letter: Letter) -> bool {
        if self.holds(&letter) {
            return false;
        }
        self.bytes += letter.bytes();
        self.jobs.extend(letter.job.as_ref().map(|job| JobKey::of(&job.id)));
        self.kept.push_back(letter);
        while self.kept.len() > MAX_LETTERS || self.bytes > MAX_BYTES {
            if self.remove(0).is_none() {
                break;
            }
        }
        true
    }

    /// Takes one out, if it is this one and `may` allows it.
    pub(super) fn take(&mut self, id: &str, at: Timestamp, may: fn(&Letter) -> bool) -> Option<Letter> {
        // The date first: it costs no digest.
        let is_it = |letter: &Letter| letter.at == at && letter.id() == id && may(letter);
        self.remove(self.kept.iter().position(is_it)?)
    }

    fn remove(&mut self, index: usize) -> Option<Letter> {
        let letter = self.kept.remove(index)?;
        self.bytes -= letter.bytes();
        if let Some(job) = &letter.job {
            self.jobs.remove(&JobKey::of(&job.id));
        }
        Some(letter)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[path = "dead_letters_tests.rs"]
mod tests;
