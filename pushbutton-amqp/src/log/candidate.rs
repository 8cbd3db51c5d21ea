//! What a candidate for the leadership does next.

use tokio::time::Instant;

use super::entry::Op;
use super::ids::EntryId;
use super::lease::LeaseTerm;
use super::state_machine::State;

/// What a candidate does next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Candidacy {
    /// Another one leads; nothing can be done before then, or until the state changes.
    WaitUntil(Instant),
    /// Write this entry: if it is accepted, the candidate leads.
    Write(Op),
}

/// The decision of a candidate that sees this state.
pub(crate) fn next(candidate: EntryId, state: Option<&State>, term: LeaseTerm, now: Instant) -> Candidacy {
    let leader = state.and_then(State::leader);
    match leader {
        Some((leader, end)) if leader.candidate != candidate && now < *end => Candidacy::WaitUntil(*end),
        _ => {
            let expected_version = leader.map(|(leader, _)| leader.version);
            Candidacy::Write(Op::Lead { candidate, expected_version, lease_ms: term.ms() })
        }
    }
}

/// The entry that renews the lease of a leader.
pub(crate) fn renewal(candidate: EntryId, term: LeaseTerm) -> Op {
    Op::Lead { candidate, expected_version: None, lease_ms: term.ms() }
}
