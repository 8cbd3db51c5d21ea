#![doc = include_str!("../README.md")]

// What a person configures.
mod config;

// The connection.
mod auth;
mod client;
mod connect;
mod error;
mod host_key;

// Events: from bytes to identified events.
mod catch_up;
mod comment_text;
mod convert;
mod deeds;
mod identity;
mod interest;
mod lines;
mod parse;
mod recorded;
mod recover;
mod source;
mod stream;
mod web_reply;
mod wire;
mod wire_list;

// Everything else that is asked of Gerrit or told to it.
mod check;
mod command;
mod dry_run;
pub mod message;
mod query;
mod reporter;
mod review;
mod standing;
mod web;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

pub use client::Gerrit;
pub use config::{
    BackoffConfig, Deadlines, GerritConfig, HostKeyPolicy, JumpConfig, KeepaliveConfig, RecoveryConfig,
};
pub use dry_run::{DryRunReporter, preview};
pub use interest::Interest;
pub use message::{CommentConfig, Notify, VoteMode};
pub use query::ChangeState;
pub use recorded::RecordedStream;
pub use reporter::GerritReporter;
pub use review::{Posted, Review, Target};
pub use source::GerritSource;
