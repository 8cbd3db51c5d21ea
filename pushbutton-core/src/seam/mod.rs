//! The five traits that backends implement, in the order in which the data flows, and four smaller ones: two for memory, one to ask
//! about a change, one to call a person.
//!
//! Each method's documentation is its contract: the bullets are what the suites of `pushbutton-testkit` check, on the in-memory parts
//! of this crate, on the embedded ones, and on the real backends alike.

mod alarm;
mod changes;
mod execute;
mod journal;
mod ledger;
mod provision;
mod queue;
mod report;
mod source;

pub use alarm::Alarm;
pub use changes::{Changes, Standing};
pub use execute::{Executor, LineSink};
pub use journal::{Journal, JournalEntry};
pub use ledger::Ledger;
pub use provision::Provisioner;
pub use queue::{Claim, DeadLetter, Notice, Notices, Queue, QueueDepth};
pub use report::Reporter;
pub use source::EventSource;

#[cfg(feature = "mock")]
pub use self::{
    alarm::MockAlarm, changes::MockChanges, execute::MockExecutor, journal::MockJournal, ledger::MockLedger,
    provision::MockProvisioner, queue::MockClaim, queue::MockNotices, queue::MockQueue, report::MockReporter,
    source::MockEventSource,
};
