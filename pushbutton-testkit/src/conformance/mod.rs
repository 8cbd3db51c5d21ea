//! One suite per trait: public async functions that any implementation can be given to. Each panics with what was broken.

pub mod execute;
pub mod journal;
pub mod ledger;
pub mod provision;
pub mod queue;
pub mod report;
pub mod source;
