//! The connection for everything but the stream: made when needed, shared, made anew when it is lost.

use std::sync::Arc;

use pushbutton_core::Result;
use tokio::sync::Mutex;

use crate::config::GerritConfig;
use crate::connect::Session;
use crate::web::Web;

/// A Gerrit server, as our account sees it. Cheap to share in an [`Arc`]; connects when first asked something.
///
/// Queries and reviews go over a connection of their own: an SSH connection on which one channel is not read stands still as a whole.
pub struct Gerrit {
    config: GerritConfig,
    session: Mutex<Option<Arc<Session>>>,
    web: Option<Web>,
}

impl Gerrit {
    /// A server that has not been connected to yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](pushbutton_core::ErrorKind::Config) with all that cannot work as configured.
    pub fn new(config: GerritConfig) -> Result<Arc<Self>> {
        let faults = config.faults();
        if !faults.is_empty() {
            let error =
                pushbutton_core::Error::permanent(pushbutton_core::ErrorKind::Config, faults.join("; "));
            return Err(error.during("gerrit::new"));
        }
        let web = Web::new(&config).map_err(|error| error.during("gerrit::new"))?;
        Ok(Arc::new(Self { config, session: Mutex::new(None), web }))
    }

    /// Its web side, where the configuration has the address.
    pub(crate) fn web(&self) -> Option<&Web> {
        self.web.as_ref()
    }

    /// How it is configured.
    pub fn config(&self) -> &GerritConfig {
        &self.config
    }

    /// The session, connected; callers that come while it is being made wait for it.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        // Dropped before a new one is made: a server may limit the connections of one account.
        *slot = None;
        let session = Arc::new(Session::open(&self.config).await?);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Gives up this session: something on it did not answer in time. The next caller connects anew.
    pub(crate) async fn abandon(&self, session: &Arc<Session>) {
        let mut slot = self.session.lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *slot = None;
        }
    }
}
