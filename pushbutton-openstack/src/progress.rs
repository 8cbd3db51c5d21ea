//! How far a boot has come.

use std::sync::{Mutex, PoisonError};

/// How far a boot has come: read when it fails or runs out of time.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<(&'static str, Option<String>)>);

impl Progress {
    pub(crate) fn waiting_for_a_slot() -> Self {
        Self(Mutex::new(("other boots to end", None)))
    }

    pub(crate) fn at(&self, step: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = step;
    }

    pub(crate) fn has_server(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(id.to_owned());
    }

    /// What was being waited for.
    pub(crate) fn step(&self) -> &'static str {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The server, once there is one.
    pub(crate) fn server(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}
