//! What is written into the record.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use pushbutton_core::{Job, JobId, RunId};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::snapshot::Snapshot;
use crate::codec::Form;

/// A number that nobody else draws: names an entry. (A UUID of version 7, RFC 9562.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Mark(u128);

impl Mark {
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7().as_u128())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).simple().fmt(f)
    }
}

impl FromStr for Mark {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(|uuid| Self(uuid.as_u128()))
    }
}

impl TryFrom<String> for Mark {
    type Error = uuid::Error;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> Self {
        mark.to_string()
    }
}

/// One entry. It may stand in the record twice when its writer could not know that the first try arrived: the second
/// finds the world changed by the first, and does nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// By this its writer knows it again.
    pub(crate) mark: Mark,
    pub(crate) op: Op,
}

impl Entry {
    pub(crate) fn new(op: Op) -> Self {
        Self { mark: Mark::new(), op }
    }
}

/// What an entry wants. Each names the condition under which it holds; [`State::apply`](super::state::State::apply) is the judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub(crate) enum Op {
    /// Nothing: a reader that sees its own knows that it has read all that stood before.
    Hello,
    /// Takes a job over from the jobs queue, as claimed. Holds unless the record knows the job, open or ended.
    Adopt {
        job: Job,
        #[serde(deserialize_with = "run")]
        claim: RunId,
        lease_ms: u64,
    },
    /// Claims an open job that waits or whose lease ran out. Holds if nothing happened to it since `seen`.
    Take {
        job: JobId,
        seen: u64,
        #[serde(deserialize_with = "run")]
        claim: RunId,
        lease_ms: u64,
    },
    /// Holds while the claim does, as do the next four.
    Renew {
        job: JobId,
        #[serde(deserialize_with = "run")]
        claim: RunId,
    },
    /// Also holds for a job that the record does not know: done is done.
    Complete {
        job: JobId,
        #[serde(deserialize_with = "run")]
        claim: RunId,
    },
    Retry {
        job: JobId,
        #[serde(deserialize_with = "run")]
        claim: RunId,
        due: Timestamp,
        after_ms: u64,
    },
    HandBack {
        job: JobId,
        #[serde(deserialize_with = "run")]
        claim: RunId,
    },
    Reject {
        job: JobId,
        #[serde(deserialize_with = "run")]
        claim: RunId,
        why: String,
        at: Timestamp,
    },
    /// Moves a job on which operators died too often to the dead letters. Holds if nothing happened to it since `seen`.
    Bury { job: JobId, seen: u64, why: String, at: Timestamp },
    /// Keeps what could not be read on the jobs queue. Holds unless it stands there already.
    Malformed { why: String, at: Timestamp },
    /// Gives the job of a dead letter all its attempts again. Holds if the letter of that time is still there, as does the next.
    RequeueLetter { letter: String, at: Timestamp },
    /// Forgets a dead letter; its job, if it has one, counts as completed.
    DropLetter { letter: String, at: Timestamp },
    /// The state before all entries after `as_of`, so that the record's beginning can be dropped.
    Snapshot { as_of: u64, state: Box<Snapshot> },
}

impl Op {
    /// The form that it must be written in: one that no reader takes who would pass it over and know something else than all others.
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::RequeueLetter { .. } | Self::DropLetter { .. } => Form::Second,
            _ => Form::First,
        }
    }
}

/// Reads the name of a claim: its run. The first version drew a number of the same kind for it, and wrote that without hyphens.
pub(super) fn run<'de, D: Deserializer<'de>>(from: D) -> Result<RunId, D::Error> {
    let text = String::deserialize(from)?;
    let text = Uuid::parse_str(&text).map_or(text, |number| number.hyphenated().to_string());
    RunId::new(text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::snapshot::Place;
    use pushbutton_core::samples;
    use serde_json::json;

    const MARK: &str = "0199d3c6f0a07cc1a2f3b9d5e4c6a7b8";
    const RUN: &str = "0199d3c6-f0a0-7cc1-a2f3-b9d5e4c6a7b8";

    #[test]
    fn claims_that_the_first_version_wrote_are_runs() {
        let entries = [
            json!({"op": "adopt", "job": samples::job("tempest"), "claim": MARK, "lease_ms": 1000}),
            json!({"op": "renew", "job": samples::job("tempest").id, "claim": MARK}),
        ];
        for entry in entries {
            match serde_json::from_value(json!({"mark": MARK, "op": entry})) {
                Ok(Entry { op: Op::Adopt { claim, .. } | Op::Renew { claim, .. }, .. }) => {
                    assert_eq!(claim.as_str(), RUN);
                }
                other => panic!("{other:?}"),
            }
        }
        let place: Place =
            serde_json::from_value(json!({"is": "leased", "claim": MARK, "lease_ms": 1000})).unwrap();
        assert_eq!(place, Place::Leased { claim: RunId::new(RUN).unwrap(), lease_ms: 1000 });
    }

    #[test]
    fn claims_are_written_so_that_the_first_version_reads_them() {
        let renew = Op::Renew { job: samples::job("tempest").id, claim: RunId::generate() };
        let written = serde_json::to_value(&renew).unwrap();
        assert!(written["claim"].as_str().unwrap().parse::<Mark>().is_ok(), "{written}");
        assert_eq!(serde_json::from_value::<Op>(written).unwrap(), renew);
        assert_eq!(renew.form(), Form::First);
    }

    #[test]
    fn the_first_version_does_not_pass_over_what_is_done_to_letters() {
        let (letter, at) = (String::from("x"), samples::AT);
        for op in
            [Op::RequeueLetter { letter: letter.clone(), at }, Op::DropLetter { letter: letter.clone(), at }]
        {
            assert_eq!(op.form(), Form::Second);
            assert_eq!(serde_json::from_value::<Op>(serde_json::to_value(&op).unwrap()).unwrap(), op);
        }
    }
}
