//! Tests of handler and operator with in-memory parts, on a paused clock.

#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

mod circuit_breaker;
mod decider;
mod delivery;
mod dependencies;
mod handler;
mod lab;
mod lease_fencing;
mod limits;
mod no_room;
mod orphan_sweep;
mod reload;
mod report_guard;
mod rolling;
mod shutdown;
mod staleness;
mod supersede;
mod untrusted_parts;
mod verdicts;
