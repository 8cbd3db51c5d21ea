#![doc = include_str!("../README.md")]

mod config;
mod error;

// The Gerrit client: connection, commands, queries, reviews, REST.
mod client;

// Events, in order: bytes of the stream to lines, to JSON, to raw events that pass the filter.
mod comment_text;
mod event_filter;
mod lines;
mod raw_event;
mod stream;
mod wire;

// The sources: raw events of the stream and of backfill, with ids and positions.
mod backfill;
mod deduplication;
mod position;
mod recorded_stream;
mod recorder;
mod source;

// The reporters, and the text of comments.
pub mod dashboards;
mod dry_run;
pub mod message;
mod reporter;
mod samples;
pub mod template;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

pub use client::Gerrit;
pub use client::change_events::{ChangeEvents, ChangeMessage, PastEvent};
pub use client::query::ChangeState;
pub use client::review::{Posted, Review, Target};
pub use config::{
    BackfillConfig, BackoffConfig, Deadlines, GerritConfig, HostKeyPolicy, JumpConfig, KeepaliveConfig,
};
pub use dry_run::{DryRunReporter, preview};
pub use event_filter::EventFilter;
pub use message::{CommentConfig, Notify, VoteMode};
pub use recorded_stream::RecordedStream;
pub use recorder::{Recorder, Recording};
pub use reporter::GerritReporter;
pub use samples::{SampleReport, sample_reports};
pub use source::GerritSource;
