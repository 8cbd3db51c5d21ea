//! The two halves on in-memory parts, under tokio's paused clock.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

mod breaker;
mod currency;
mod ingest;
mod lab;
mod lease;
mod limits;
mod mute;
mod rolling;
mod shutdown;
mod supersede;
mod sweep;
mod verdicts;
