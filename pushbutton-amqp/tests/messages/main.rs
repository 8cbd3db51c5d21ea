//! Messages: hostile ones, floods, broken connections, refusals, and a log that is longer than the broker keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests report by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod control_messages;
mod cuts;
mod dead_letters;
mod refusals;
mod restore;
mod urls;
mod volume;

use std::time::Duration;

use pushbutton_amqp::AmqpConfig;
use pushbutton_testbed::{Version, rabbitmq};
use tokio::task::block_in_place;

fn both() -> [String; 2] {
    block_in_place(|| [rabbitmq(Version::V3).url.clone(), rabbitmq(Version::V4).url.clone()])
}

fn config(url: &str, test: &str, seconds: u64) -> AmqpConfig {
    common::config(url, &common::prefix(test), Duration::from_secs(seconds))
}
