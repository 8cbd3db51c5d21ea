//! The router, served on loopback and requested over HTTP.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod logs;
mod server;
mod status;
