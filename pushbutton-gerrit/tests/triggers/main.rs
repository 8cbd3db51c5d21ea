//! What triggers make of Gerrit's events, and what they look up on it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

#[path = "../common/mod.rs"]
mod common;

mod decisions;
mod lookup;
