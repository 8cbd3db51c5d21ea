//! One suite per trait: public async functions that any implementation can be passed to. Each panics with what was broken.

pub mod dead_letters;
pub mod event_store;
pub mod execute;
pub mod journal;
pub mod provision;
pub mod queue;
pub mod report;
pub mod source;
