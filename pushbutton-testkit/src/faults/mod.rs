//! Things that go wrong, on a schedule: what networks, clouds and servers do to a pipeline sooner or later.
//!
//! [`Faulty`] wraps any part and breaks its calls as a [`Schedule`] says; [`Proxy`] stands before any server and breaks its connections.
//!
//! ```
//! use std::sync::Arc;
//!
//! use pushbutton_core::Queue;
//! use pushbutton_core::memory::{MemoryQueue, sample};
//! use pushbutton_testkit::faults::{Fault, FaultyQueue, Method, Schedule};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let schedule = Schedule::calm();
//! let queue = FaultyQueue::new(Arc::new(MemoryQueue::default()), &schedule);
//! let job = sample::job("tempest");
//!
//! // The first call fails, the second is carried out although its caller hears an error, the third goes well.
//! schedule.next(Method::Publish, [Some(Fault::unreachable()), Some(Fault::answer_lost()), None]);
//! queue.publish(&job).await.unwrap_err();
//! assert_eq!(queue.depth().await.unwrap().waiting, 0);
//! queue.publish(&job).await.unwrap_err();
//! assert_eq!(queue.depth().await.unwrap().waiting, 1);
//! queue.publish(&job).await.unwrap();
//! assert_eq!(queue.depth().await.unwrap().waiting, 1);
//!
//! let injected: Vec<_> = schedule.injected().iter().map(ToString::to_string).collect();
//! assert_eq!(injected[1], "queue::publish, call 2: the answer is lost");
//! # }
//! ```

// What goes wrong, and when.
mod fault;
mod method;
mod schedule;

// Around each part.
mod executor;
mod faulty;
mod memory;
mod provisioner;
mod queue;
mod reporter;
mod source;
mod upstream;

// Before each server.
pub mod proxy;

pub use fault::{Fault, Rates};
pub use faulty::{
    Faulty, FaultyAlarm, FaultyChanges, FaultyExecutor, FaultyJournal, FaultyLedger, FaultyProvisioner,
    FaultyQueue, FaultyReporter,
};
pub use method::Method;
pub use proxy::Proxy;
pub use schedule::{Injected, Schedule};
pub use source::FaultySource;
