#![doc = include_str!("../README.md")]

// The routes and what they share.
mod router;
mod state;

// What they answer.
mod api;
mod logs;
mod metrics;
mod page;
mod recorded_metrics;

// The layout of the pages, and how values are shown.
mod html;

pub use recorded_metrics::Metrics;
pub use router::router;
pub use state::{WebState, disks_free};
