//! One suite for each trait: public async functions that take any implementation. Each panics with the bullet of the
//! contract that is broken.

pub mod dead_letters;
pub mod dependencies;
pub mod event_store;
pub mod execute;
pub mod history;
pub mod journal;
pub mod outbox;
pub mod provision;
pub mod queue;
pub mod report;
pub mod source;
pub mod time_bounded;
pub mod trigger_lookup;
