use tokio_util::sync::CancellationToken;

/// The wish to stop, in two grades. The binary owns the signals; the library is only told.
///
/// - [`begin`](Self::begin): take nothing new, finish what runs or, at the operator's deadline, hand it back.
/// - [`force`](Self::force): release nodes and hand everything back now.
///
/// Clones share the wish.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    begun: CancellationToken,
    forced: CancellationToken,
}

impl Shutdown {
    /// Nobody wishes to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a graceful end.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Asks for an end now. Implies [`begin`](Self::begin).
    pub fn force(&self) {
        self.begun.cancel();
        self.forced.cancel();
    }

    /// Waits until somebody wishes to stop.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Waits until somebody wishes to stop now.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Whether somebody wishes to stop.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }
}
