#![doc = include_str!("../README.md")]

mod config;
mod error;

// The wire: one connection, what it declares, what goes over it.
mod codec;
mod connect;
mod session;
mod topology;

// The record, and writing to it.
mod commit;
mod record;

// The tasks behind the queue, and the queue.
mod claim;
mod letters;
mod link;
mod notices;
mod publish;
mod queue;
mod take;
mod tasks;

// Beside the queue, for handlers.
mod ledger;
mod turn;

// What `check` asks of a broker.
mod check;

pub use check::check;
pub use config::AmqpConfig;
pub use ledger::AmqpLedger;
pub use queue::AmqpQueue;
pub use turn::{ActiveTurn, AmqpTurn};
