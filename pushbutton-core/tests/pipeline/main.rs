//! The two halves on in-memory parts, under tokio's paused clock.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

mod ingest;
mod lab;
mod lease;
mod shutdown;
mod supersede;
mod verdicts;
