//! SIGINT and SIGTERM: the first requests a graceful shutdown, the second a forced one. SIGHUP asks for a reload.

use pushbutton_core::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A shutdown that the process's signals request.
///
/// # Errors
/// When the system accepts no signal handler.
pub(crate) fn shutdown() -> std::io::Result<Shutdown> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let shutdown = Shutdown::new();
    let signalled = shutdown.clone();
    tokio::spawn(async move {
        for count in 1.. {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            if count == 1 {
                tracing::warn!("{name}: shutting down; running jobs may finish, a second signal stops them");
                signalled.begin();
            } else {
                tracing::warn!("{name}: shutting down now; running jobs return to the queue");
                signalled.force();
            }
        }
    });
    Ok(shutdown)
}

/// SIGHUP. From now on it does not end the process.
///
/// # Errors
/// When the system accepts no signal handler.
pub(crate) fn hangup() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}
