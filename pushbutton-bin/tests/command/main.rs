//! The command as a user runs it: what it says, how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test's helper fails the test, and shows a log"
)]

// What needs no server.
mod config;
mod help;
mod replay;
mod status;

// With real playbooks on this machine.
mod recorded;

// On a disk without room.
mod full_disk;

// With real servers, or with such that are not there.
mod broker;
mod gerrit;
mod hand;
mod standby;
mod unreachable;

mod handler;
mod lab;
