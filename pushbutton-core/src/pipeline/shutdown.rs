use tokio_util::sync::CancellationToken;

/// A request to shut down, in two grades. The binary handles the signals; the library gets one of these.
///
/// - [`begin`](Self::begin): take nothing new, finish what runs or, at the operator's deadline, return it to the queue.
/// - [`force`](Self::force): release nodes and return everything to the queue now.
///
/// Clones share the request.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    begun: CancellationToken,
    forced: CancellationToken,
}

impl Shutdown {
    /// No shutdown has been requested.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests a graceful shutdown.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Requests a shutdown at once. Implies [`begin`](Self::begin).
    pub fn force(&self) {
        self.begun.cancel();
        self.forced.cancel();
    }

    /// Waits until a shutdown is requested.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Waits until a forced shutdown is requested.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Whether a shutdown was requested.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Whether a forced shutdown was requested.
    pub fn is_forced(&self) -> bool {
        self.forced.is_cancelled()
    }
}
