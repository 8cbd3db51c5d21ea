#![doc = include_str!("../README.md")]

mod config;
mod error;

// The file: one worker thread owns the connection.
mod column;
mod retention;
mod schema;
mod skipped;
mod store;

// The parts, each an implementation of traits of core.
mod claim;
mod clocks;
mod control_messages;
mod dead_letters;
mod events;
mod history;
mod journal;
mod outbox;
mod queue;

pub use config::StoreConfig;
pub use events::StoreEvents;
pub use history::StoreHistory;
pub use journal::StoreJournal;
pub use queue::StoreQueue;
pub use store::Store;
