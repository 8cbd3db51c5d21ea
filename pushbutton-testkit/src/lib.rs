#![doc = include_str!("../README.md")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a conformance suite reports a broken contract by panicking"
)]

pub mod conformance;
pub mod faults;
