//! Parts that work in memory: for embedding, examples and tests. They keep the same contracts as the real ones, but
//! lose everything when the process ends.

mod changes;
mod event_store;
mod execute;
mod history;
mod journal;
mod lookup;
mod outbox;
mod provision;
mod queue;
mod report;
mod source;

pub use changes::MemoryChanges;
pub use event_store::MemoryEventStore;
pub use execute::{FakeStage, MemoryExecutor};
pub use history::MemoryHistory;
pub use journal::MemoryJournal;
pub use lookup::MemoryLookup;
pub use outbox::MemoryOutbox;
pub use provision::MemoryProvisioner;
pub use queue::MemoryQueue;
pub use report::MemoryReporter;
pub use source::MemorySource;
