//! The command as a user runs it: what it says, how it ends.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

// What needs no server.
mod config;
mod help;
mod replay;
mod status;

// With real playbooks on this machine.
mod recorded;

// With real servers, or with such that are not there.
mod broker;
mod gerrit;
mod hand;
mod unreachable;

mod lab;
