#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("pushbutton-ansible needs Linux: it stops processes through pidfds and /proc");

mod config;
mod error;
mod executor;

mod check;
mod command;
mod extra_vars;
mod inventory;
mod live;
mod workspace;

mod orphans;
mod process_tag;
mod process_tree;

mod console;
mod redact;

mod artifacts;
mod copied_files;
mod credentials;
mod exit_status;
mod gathered_logs;
mod liveness;
mod playbook_events;
mod redacted_copy;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

pub use config::AnsibleConfig;
pub use executor::AnsibleExecutor;
pub use pushbutton_results::CONSOLE_LOG;
