//! Serves the dashboard, if the configuration asks for one. It shares the process with runs, so what strangers can
//! take from it is limited.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use pushbutton_core::{Error, ErrorKind, Result, Shutdown};
use pushbutton_web::{WebState, router};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use crate::config::Config;

/// What clients may use. Idle connections must not take the file descriptors that runs need.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at once; more wait until one has ended.
    connections: usize,
    /// How long a client may take to send a request's head, and how long a connection may be idle before it.
    header_timeout: Duration,
    /// How long a client may read nothing of an answer.
    write_timeout: Duration,
}

const LIMITS: Limits = Limits {
    connections: 128,
    header_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(60),
};

/// How long open requests may go on after a shutdown has begun.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves it in the background until the shutdown. Where another process listens already, such as the handler beside an
/// operator with the same configuration, that one serves it, unless this process `must`.
pub(crate) async fn serve(config: &Config, state: WebState, must: bool, shutdown: &Shutdown) -> Result<()> {
    let Some(web) = &config.web else { return Ok(()) };
    let listener = match TcpListener::bind(web.listen).await {
        Ok(listener) => listener,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !must => {
            tracing::warn!("another process listens on {}: this one serves no dashboard", web.listen);
            return Ok(());
        }
        Err(error) => {
            let message = format!("cannot listen on {}: {error}; fix `web.listen`", web.listen);
            return Err(Error::permanent(ErrorKind::Local, message).during("web::listen"));
        }
    };
    tracing::info!("the dashboard is at http://{}/", web.listen);
    tokio::spawn(serve_connections(listener, router(state), LIMITS, shutdown.clone()));
    Ok(())
}

async fn serve_connections(listener: TcpListener, router: Router, limits: Limits, shutdown: Shutdown) {
    let mut server = auto::Builder::new(hyper_util::rt::TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let (connections, graceful) = (Arc::new(Semaphore::new(limits.connections)), GracefulShutdown::new());
    loop {
        let next = async {
            // It is never closed.
            let permit = Arc::clone(&connections).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?.0, permit))
        };
        let (stream, permit) = tokio::select! {
            () = shutdown.begun() => break,
            next = next => match next {
                Ok(next) => next,
                Err(error) => {
                    // Such as no free file descriptor: a connection that ends may free one.
                    tracing::warn!("the dashboard cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            },
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_timeout));
        let stream = TokioIo::new(Box::pin(stream));
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(server.serve_connection(stream, service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection to the dashboard has ended: {error}");
            }
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn served(limits: Limits) -> (std::net::SocketAddr, Shutdown) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let router = Router::new()
            .route("/", axum::routing::get(async || "here"))
            .route("/large", axum::routing::get(async || vec![b'x'; 64 << 20]));
        tokio::spawn(serve_connections(listener, router, limits, shutdown.clone()));
        (address, shutdown)
    }

    async fn get(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut reply = String::new();
        tokio::time::timeout(LONG, stream.read_to_string(&mut reply)).await.unwrap().unwrap();
        reply
    }

    // core.md S2-6
    #[tokio::test]
    async fn a_client_that_sends_nothing_is_disconnected() {
        let limits = Limits { connections: 8, header_timeout: Duration::from_millis(200), ..LIMITS };
        let (address, _shutdown) = served(limits).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut reply = Vec::new();
        tokio::time::timeout(LONG, idle.read_to_end(&mut reply)).await.expect("it is closed").unwrap();
    }

    #[tokio::test]
    async fn idle_connections_take_no_more_than_their_share_and_end() {
        let limits = Limits { connections: 4, header_timeout: Duration::from_millis(300), ..LIMITS };
        let (address, _shutdown) = served(limits).await;
        let mut idle = Vec::new();
        for _ in 0..12 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut honest = TcpStream::connect(address).await.unwrap();
        let began = tokio::time::Instant::now();
        assert!(get(&mut honest).await.ends_with("here"));
        assert!(began.elapsed() >= limits.header_timeout, "only four idle ones at a time are accepted");
    }

    /// Liveness probes come by the same port.
    #[tokio::test]
    async fn a_client_that_stops_reading_keeps_no_connection() {
        let limits = Limits { connections: 1, write_timeout: Duration::from_millis(300), ..LIMITS };
        let (address, _shutdown) = served(limits).await;
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut honest = TcpStream::connect(address).await.unwrap();
        assert!(get(&mut honest).await.ends_with("here"));
        let mut rest = Vec::new();
        let _ = stuck.read_to_end(&mut rest).await;
        assert!(rest.len() < 64 << 20, "it got all");
    }

    #[tokio::test]
    async fn a_shutdown_closes_the_port() {
        let (address, shutdown) = served(LIMITS).await;
        assert!(get(&mut TcpStream::connect(address).await.unwrap()).await.ends_with("here"));
        shutdown.begin();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
