#![doc = include_str!("../README.md")]

// What the pages show, and where it comes from.
mod history;
mod state;

// The routes, and what they answer.
mod api;
mod logs;
mod metrics;
mod page;
mod router;

mod html;

pub use history::{RunHistory, RunView, StageView};
pub use router::router;
pub use state::WebState;
