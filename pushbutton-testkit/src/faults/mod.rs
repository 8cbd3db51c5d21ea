//! Things that go wrong, on a schedule: what networks, clouds and servers do to a pipeline sooner or later.
//!
//! [`Faulty`] wraps any part and breaks its calls as a [`FaultPlan`] says; [`Proxy`] stands before any server and breaks its connections.
//!
//! ```
//! use std::sync::Arc;
//!
//! use pushbutton_core::Queue;
//! use pushbutton_core::memory::{MemoryQueue};
//! use pushbutton_core::samples;
//! use pushbutton_testkit::faults::{Fault, FaultyQueue, Method, FaultPlan};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let schedule = FaultPlan::none();
//! let queue = FaultyQueue::new(Arc::new(MemoryQueue::default()), &schedule);
//! let job = samples::job("tempest");
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
mod fault_plan;
mod method;

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
pub use fault_plan::{FaultPlan, Injected};
pub use faulty::{
    Faulty, FaultyAlerter, FaultyChangeStatus, FaultyEventStore, FaultyExecutor, FaultyJournal,
    FaultyProvisioner, FaultyQueue, FaultyReporter,
};
pub use method::Method;
pub use proxy::Proxy;
pub use source::FaultySource;
