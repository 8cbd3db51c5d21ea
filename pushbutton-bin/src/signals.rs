//! SIGINT and SIGTERM: the first asks for a graceful end, the second for an end now.

use pushbutton_core::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

/// Listens from now on.
///
/// # Errors
/// When the system lets no handler be set.
pub(crate) fn listen(shutdown: Shutdown) -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        for count in 1.. {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            if count == 1 {
                tracing::warn!(
                    "{name}: finishing what runs, taking nothing new; a second signal stops at once"
                );
                shutdown.begin();
            } else {
                tracing::warn!("{name}: stopping at once, handing back what runs");
                shutdown.force();
            }
        }
    });
    Ok(())
}
