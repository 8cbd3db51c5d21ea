#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("pushbutton-ansible ends processes by Linux's pidfds and /proc");

mod artifacts;
mod callback;
mod check;
mod command;
mod config;
mod console;
mod error;
mod executor;
mod home;
mod inventory;
mod judge;
mod marks;
mod mask;
mod notes;
mod owner;
mod presence;
mod process;
mod results;
mod stage_files;
mod subunit;
mod vars;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

pub use config::AnsibleConfig;
pub use executor::AnsibleExecutor;

/// The file in a run's log folder that every stage's output is appended to.
pub const CONSOLE_LOG: &str = "console.log";
