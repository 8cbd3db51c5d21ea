//! The command as a user runs it: its output and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test's helper fails the test, and prints a log"
)]

// What needs no server.
mod compose;
mod config;
mod explain;
mod help;
mod lint;
mod replay;
mod status;

// With real playbooks on this machine.
mod recorded;

// In a real browser.
mod browser;

// On a disk without room, and on one that hangs.
mod full_disk;
mod hung_logs;

// With real servers, or with servers that cannot be reached.
mod book;
mod broker;
mod gerrit;
mod history;
mod manual_jobs;
mod reload;
mod standby;
mod unreachable;

mod handler;
mod lab;
