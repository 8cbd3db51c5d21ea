#![doc = include_str!("../README.md")]

mod config;
mod error;

// The file: one thread owns the connection, everything else asks it.
mod connect;
mod schema;
mod store;
mod upkeep;

// The parts, in the order of core's traits.
mod claim;
mod history;
mod journal;
mod ledger;
mod notices;
mod queue;
mod record;

pub use config::StoreConfig;
pub use history::StoreHistory;
pub use journal::StoreJournal;
pub use ledger::StoreLedger;
pub use queue::StoreQueue;
pub use record::{RunRecord, StageRecord};
pub use schema::VERSION;
pub use store::Store;
