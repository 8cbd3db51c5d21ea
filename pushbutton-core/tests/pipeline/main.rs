//! The two halves on in-memory parts, under tokio's paused clock.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

mod circuit_breaker;
mod handler;
mod lab;
mod lease_fencing;
mod limits;
mod orphan_sweep;
mod report_guard;
mod rolling;
mod shutdown;
mod staleness;
mod supersede;
mod untrusted_parts;
mod verdicts;
