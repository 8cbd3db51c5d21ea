//! The two halves, and both of them in one process.
//!
//! [`Handler`] is the ingest half: events in, jobs out. [`Operator`] is the work half: jobs in, reports out. They
//! meet only at the [`Queue`](crate::Queue), so that each can run alone, on machines of its own. [`Pipeline`] runs
//! both.

// The ingest half.
mod handler;
mod supersede;

// The work half, and what watches over it.
mod operator;
pub(crate) mod orphan_sweep;
mod report_guard;

// Both.
mod combined;
mod notify;
mod panics;
mod shutdown;

pub use combined::Pipeline;
pub use handler::{Handler, HandlerStats};
pub use operator::{
    BreakerPolicy, BreakerState, Health, LogLocation, NoRoom, NoRoomPolicy, Operator, OperatorStats,
};
pub use orphan_sweep::{Orphan, SweepReport, Sweeper};
pub use report_guard::{GuardedReporter, Muted, ReportGuard};
pub use shutdown::Shutdown;
pub use supersede::{SupersedePolicy, control_message_of};
