//! The Gerrit client, in layers.
//!
//! `connection` (with `auth` and `host_key`) is one SSH connection; `command` runs a command on the connection that
//! all commands share; `query`, `review`, `change_status`, `dependency_lookup`, `trigger_lookup`, `change_events` and
//! `check` are what commands are for. `rest` asks over
//! HTTP what SSH does not say: `rest_comments` reads the replies.

use std::fmt;
use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use crate::config::GerritConfig;
use connection::Connection;
use rest::Rest;

mod auth;
pub(crate) mod change_events;
mod change_status;
mod check;
mod command;
pub(crate) mod connection;
pub(crate) mod dependency_lookup;
mod host_key;
pub(crate) mod query;
pub(crate) mod rest;
pub(crate) mod rest_comments;
pub(crate) mod review;
mod trigger_lookup;

/// A Gerrit server, used through one account. Shared in an [`Arc`]; connects when it is first used.
///
/// Commands share one SSH connection, which the event stream does not use: a channel that is not read stops its whole
/// connection.
///
/// # Cancel safety
/// Every call may be dropped: only its own channel is closed. A review may have been posted nevertheless.
pub struct Gerrit {
    config: GerritConfig,
    connection: Mutex<Option<Arc<Connection>>>,
    rest: Option<Rest>,
}

impl Gerrit {
    /// A client that is not connected yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with everything that is wrong with the configuration.
    pub fn new(config: GerritConfig) -> Result<Arc<Self>> {
        let context = |error: Error| error.during("gerrit::new");
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(context(Error::permanent(ErrorKind::Config, problems.join("; "))));
        }
        let rest = Rest::new(&config).map_err(context)?;
        Ok(Arc::new(Self { config, connection: Mutex::new(None), rest }))
    }

    /// The configuration.
    pub fn config(&self) -> &GerritConfig {
        &self.config
    }

    /// REST, if the configuration has a `url`.
    pub(crate) fn rest(&self) -> Option<&Rest> {
        self.rest.as_ref()
    }

    /// The connection that commands share. Callers wait while it is being made.
    async fn connection(&self) -> Result<Arc<Connection>> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        // The old one is dropped first: a server may limit the connections of an account.
        *slot = None;
        let connection = Arc::new(Connection::open(&self.config).await?);
        *slot = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Stops using a connection on which something failed or did not answer in time. The next caller connects again.
    async fn discard(&self, connection: &Arc<Connection>) {
        let mut slot = self.connection.lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *slot = None;
        }
    }
}

impl fmt::Debug for Gerrit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gerrit").field("config", &self.config).finish_non_exhaustive()
    }
}
