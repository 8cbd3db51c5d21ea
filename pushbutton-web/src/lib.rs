#![doc = include_str!("../README.md")]

// The routes and what they share.
mod router;
mod state;

// What they answer.
mod api;
mod logs;
mod metrics;
mod recorded_metrics;
mod page;

// The layout of the pages, and how values are shown.
mod html;

pub use router::router;
pub use recorded_metrics::Metrics;
pub use state::{WebState, disks_free};
