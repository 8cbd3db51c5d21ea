//! Parts that work in memory, for embedding, examples and tests. They keep the same contracts as the real ones, but outlive nothing.

mod execute;
mod journal;
mod ledger;
mod pool;
mod provision;
mod queue;
mod report;
pub mod sample;
mod source;

pub use execute::{MemoryExecutor, Script};
pub use journal::MemoryJournal;
pub use ledger::MemoryLedger;
pub use pool::{MachineConfig, MachinePool};
pub use provision::MemoryProvisioner;
pub use queue::MemoryQueue;
pub use report::MemoryReporter;
pub use source::MemorySource;
