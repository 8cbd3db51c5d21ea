//! Fault injection: what networks, clouds and servers do to a pipeline sooner or later.
//!
//! [`Faulty`] wraps a part and injects the faults of a [`FaultPlan`] into its calls. [`Proxy`] runs in front of a TCP
//! server and breaks its connections.
//!
//! ```
//! use std::sync::Arc;
//!
//! use pushbutton_core::memory::MemoryQueue;
//! use pushbutton_core::{Queue, samples};
//! use pushbutton_testkit::faults::{Fault, FaultPlan, FaultyQueue, Method};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let plan = FaultPlan::none();
//! let queue = FaultyQueue::new(Arc::new(MemoryQueue::default()), &plan);
//! let job = samples::job("tempest");
//!
//! // The first call fails. The second is carried out, but its caller gets an error. The third succeeds.
//! plan.next(Method::Publish, [Some(Fault::unreachable()), Some(Fault::response_lost()), None]);
//! queue.publish(&job).await.unwrap_err();
//! assert_eq!(queue.depth().await.unwrap().waiting, 0);
//! queue.publish(&job).await.unwrap_err();
//! assert_eq!(queue.depth().await.unwrap().waiting, 1);
//! queue.publish(&job).await.unwrap();
//! assert_eq!(queue.depth().await.unwrap().waiting, 1);
//!
//! let injected: Vec<_> = plan.injected().iter().map(ToString::to_string).collect();
//! assert_eq!(injected[1], "queue::publish, call 2: the response is lost");
//! # }
//! ```

// What goes wrong, and with which calls.
mod fault;
mod fault_plan;
mod method;

// Wrappers for parts.
mod faulty;
mod faulty_source;

// In front of servers.
pub mod proxy;

pub use fault::{Fault, Rates};
pub use fault_plan::{FaultPlan, Injected};
pub use faulty::{
    Faulty, FaultyAlerter, FaultyChangeStatus, FaultyDependencies, FaultyEventStore, FaultyExecutor,
    FaultyJournal, FaultyProvisioner, FaultyQueue, FaultyReporter, FaultyTriggerLookup,
};
pub use faulty_source::FaultySource;
pub use method::Method;
pub use proxy::Proxy;
