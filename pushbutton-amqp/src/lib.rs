#![doc = include_str!("../README.md")]

mod config;
mod error;

// The job queue: inbox -> log -> claim -> log -> delivery.
mod claim;
mod claimer;
mod control_messages;
mod delivery;
mod ingest;
mod publish;
mod queue;

// What participants show each other.
mod history;

// What handlers share.
mod event_store;
mod leader_election;

// The command log: pure rules in `log`; an entry is written and read back in `commit`.
mod commit;
mod log;

// The connection.
mod codec;
mod connect;
mod session;
mod supervise;
mod topology;

// Checks of a broker before it is used.
mod check;
mod policies;

pub use config::{AmqpAuth, AmqpConfig};
pub use event_store::AmqpEventStore;
pub use history::AmqpHistory;
pub use leader_election::{LeaderElection, Leadership};
pub use queue::AmqpQueue;
