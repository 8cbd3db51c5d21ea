#![doc = include_str!("../README.md")]

// The routes and what they share.
mod router;
mod state;

// What keeps strangers and a file system that hangs from taking too much.
mod disks;
mod file_calls;
mod large_answers;

// What they answer.
mod api;
mod logs;
mod metrics;
mod page;
mod recorded_metrics;

// The layout of the pages, and how values are shown.
mod html;

pub use disks::Disks;
pub use recorded_metrics::Metrics;
pub use router::router;
pub use state::WebState;
