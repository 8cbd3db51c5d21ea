//! The two halves, and both of them in one process.
//!
//! [`Handler`] is the ingest half: events in, jobs out. [`Operator`] is the work half: jobs in, reports out. They meet only at the
//! [`Queue`](crate::Queue), so that each can run alone, on machines of its own; [`Pipeline`] runs both.

mod builder;
mod ingest;
mod mute;
mod shutdown;
mod supersede;
mod sweep;
mod tell;
mod work;

pub use builder::{Pipeline, PipelineBuilder};
pub use ingest::{Handler, Intake};
pub use mute::{Mute, MutingReporter, Silence};
pub use shutdown::Shutdown;
pub use supersede::SupersedePolicy;
pub use sweep::{Orphan, Sweeper, Swept};
pub use work::{BreakerPolicy, Claiming, Health, LogPlace, Operator, Tally};
