//! The two halves, and both of them in one process.
//!
//! [`Handler`] talks to the review: events in, jobs out, and the reports of complete buildsets back. [`Operator`] is
//! the work half: jobs in, results out. They meet only at the [`Queue`](crate::Queue), so that each can run alone, on
//! machines of its own, and an operator needs no account on the review. [`Pipeline`] runs both.

// The review half: events in, reports out.
mod build_limit;
mod decider;
mod delivery;
mod dependencies;
mod handler;
mod merge_conflict;
mod report_guard;
mod rules;
mod supersede;

// The work half, and what watches over it.
mod operator;
pub(crate) mod orphan_sweep;

// Both.
mod combined;
mod control_listener;
mod notify;
mod panics;
mod shutdown;

/// How long releasing the node of a run may take before it is left to the next orphan sweep. After a run it is tried
/// once: the slot must not wait for a cloud that is away.
pub const RELEASE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(300);

pub use combined::Pipeline;
pub use decider::{Decider, Observed, Refusal};
pub use dependencies::{Dependencies, resolve_dependencies};
pub use handler::{Handler, HandlerStats};
pub use operator::{
    BreakerPolicy, BreakerState, Health, LogLocation, NoRoom, NoRoomPolicy, Operator, OperatorSettings,
    OperatorStats,
};
pub use orphan_sweep::{Orphan, SweepReport, Sweeper};
pub use report_guard::{GuardedReporter, Muted, ReportGuard};
pub use rules::Rules;
pub use shutdown::Shutdown;
pub use supersede::{SupersedePolicy, control_message_of};
