//! The broker is killed, frozen, slow, or away, and no job is lost or run twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod leases;
mod long_run;
mod outbox;
mod restarts;
mod slow;
