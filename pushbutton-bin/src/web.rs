//! Serves the dashboard, if the configuration asks for one. It shares the process with runs, so what strangers can
//! take from it is limited.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use pushbutton_core::{Error, ErrorKind, Result, Shutdown};
use pushbutton_web::{WebState, router};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio_io_timeout::TimeoutStream;

use crate::config::Config;

/// What clients may use. Idle connections must not take the file descriptors that runs need.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at once.
    connections: u32,
    /// Connections of one client at once.
    per_client: usize,
    /// Whose connections are counted together; none is not counted.
    client: fn(IpAddr) -> Option<IpAddr>,
    /// Connections beyond these limits, which are served probes only. For one more, the oldest is closed.
    spare: usize,
    /// How long such a connection may take.
    spare_lifetime: Duration,
    /// How long a connection takes new requests, and how long it may take in all.
    lifetime: (Duration, Duration),
    /// How long a client may take to send a request's head, and how long a connection may be idle before it.
    header_timeout: Duration,
    /// How long a client may read nothing of an answer.
    write_timeout: Duration,
}

const LIMITS: Limits = Limits {
    connections: 128,
    per_client: 32,
    client,
    spare: 32,
    spare_lifetime: Duration::from_secs(10),
    lifetime: (Duration::from_secs(300), Duration::from_secs(3600)),
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

/// Accepts every connection at once. One beyond the limits is served in a spare place, where a probe is answered as
/// always and everything else is refused: that a dashboard has many readers is no reason to restart an operator with
/// its runs, and a probe that waits for a place would be one that fails. Only the peer's address is known before a
/// request is read, and a kubelet may come from that of the clients; so it is the request that decides.
async fn serve_connections(listener: TcpListener, router: Router, limits: Limits, shutdown: Shutdown) {
    let probes = router.clone().layer(from_fn(probes_only));
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let mut spare_server = server.clone();
    spare_server.http1().keep_alive(false);
    let places = Places::new(limits);
    let mut spare: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.begun() => break,
            next = listener.accept() => match next {
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
        if let Some(place) = places.take(peer.ip()) {
            let connection =
                connection(server.clone(), stream, router.clone(), limits.lifetime, shutdown.clone());
            tokio::spawn(async move {
                connection.await;
                drop(place);
            });
        } else {
            let lifetime = (limits.spare_lifetime, limits.spare_lifetime);
            let connection =
                connection(spare_server.clone(), stream, probes.clone(), lifetime, shutdown.clone());
            spare.push_back(tokio::spawn(connection).abort_handle());
            // It may have ended long since.
            if spare.len() > limits.spare
                && let Some(oldest) = spare.pop_front()
            {
                oldest.abort();
            }
        }
    }
    drop(listener);
    // Each connection has one until it ends.
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, places.all.acquire_many(limits.connections)).await;
}

/// Serves a connection until its end, or that of its lifetime.
async fn connection(
    server: auto::Builder<TokioExecutor>,
    stream: TimeoutStream<TcpStream>,
    router: Router,
    (takes_requests, in_all): (Duration, Duration),
    shutdown: Shutdown,
) {
    let began = tokio::time::Instant::now();
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(server.serve_connection(TokioIo::new(Box::pin(stream)), service));
    let log = |result: std::result::Result<_, _>| {
        if let Err(error) = result {
            tracing::debug!("a connection to the dashboard has ended: {error}");
        }
    };
    tokio::select! {
        result = connection.as_mut() => return log(result),
        () = shutdown.begun() => {}
        () = tokio::time::sleep(takes_requests) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(result) = tokio::time::timeout_at(began + in_all, connection).await {
        log(result);
    }
}

/// Refuses all but probes.
async fn probes_only(request: Request, next: Next) -> Response {
    match request.uri().path() {
        "/healthz" | "/readyz" => next.run(request).await,
        _ => {
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], "too many connections\n").into_response()
        }
    }
}

/// Whose connections are counted together: those of an address, and in IPv6 those of a network, of which a client has as
/// many addresses as it likes. Not those of this host, such as a proxy's.
fn client(peer: IpAddr) -> Option<IpAddr> {
    match peer.to_canonical() {
        peer if peer.is_loopback() => None,
        IpAddr::V6(peer) => Some(Ipv6Addr::from_bits(peer.to_bits() >> 64 << 64).into()),
        peer => Some(peer),
    }
}

/// The places of connections, by client.
struct Places {
    all: Arc<Semaphore>,
    of_clients: Arc<Mutex<HashMap<IpAddr, usize>>>,
    limits: Limits,
}

/// The place of one connection, while that is open.
struct Place {
    client: Option<IpAddr>,
    of_clients: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _one_of_all: OwnedSemaphorePermit,
}

impl Places {
    fn new(limits: Limits) -> Self {
        let all = Arc::new(Semaphore::new(limits.connections as usize));
        Self { all, of_clients: Arc::default(), limits }
    }

    /// None when there is none, or this client has its share.
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let one_of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let client = (self.limits.client)(peer);
        if let Some(client) = client {
            let mut of_clients = self.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = of_clients.entry(client).or_default();
            if *taken >= self.limits.per_client {
                return None;
            }
            *taken += 1;
        }
        Some(Place { client, of_clients: Arc::clone(&self.of_clients), _one_of_all: one_of_all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut of_clients = self.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        let left = of_clients.get(&client).map_or(0, |taken| taken - 1);
        match left {
            0 => _ = of_clients.remove(&client),
            left => _ = of_clients.insert(client, left),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpSocket, TcpStream};
    use tokio::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn served(limits: Limits) -> (SocketAddr, Shutdown) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let router = Router::new()
            .route("/", axum::routing::get(async || "here"))
            .route("/healthz", axum::routing::get(async || "alive"))
            .route("/endless", axum::routing::get(async || std::future::pending::<()>().await))
            .route("/large", axum::routing::get(async || vec![b'x'; 64 << 20]));
        tokio::spawn(serve_connections(listener, router, limits, shutdown.clone()));
        (address, shutdown)
    }

    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        tokio::time::timeout(LONG, stream.read_to_string(&mut reply)).await.unwrap().unwrap();
        reply
    }

    async fn get(stream: &mut TcpStream) -> String {
        ask(stream, "/").await
    }

    /// Asks again until it is served.
    async fn is_served_at_last(address: SocketAddr) {
        let asked = async {
            loop {
                let reply = get(&mut TcpStream::connect(address).await.unwrap()).await;
                if reply.ends_with("here") {
                    return;
                }
                assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
            }
        };
        tokio::time::timeout(LONG, asked).await.expect("it is served");
    }

    /// Reads until the other side closes, with an error or without.
    async fn until_closed(stream: &mut TcpStream) -> usize {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.expect("it is closed");
        rest.len()
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
        let (began, mut idle) = (Instant::now(), Vec::new());
        for _ in 0..12 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        is_served_at_last(address).await;
        assert!(began.elapsed() >= limits.header_timeout, "only four idle ones at a time are accepted");
    }

    /// Liveness probes come by the same port.
    #[tokio::test]
    async fn a_client_that_stops_reading_keeps_no_connection() {
        let limits = Limits { connections: 1, write_timeout: Duration::from_millis(300), ..LIMITS };
        let (address, _shutdown) = served(limits).await;
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        is_served_at_last(address).await;
        assert!(until_closed(&mut stuck).await < 64 << 20, "it got all");
    }

    #[tokio::test]
    async fn a_probe_is_answered_at_once_while_all_connections_are_taken_and_others_are_refused() {
        let (header_timeout, spare_lifetime) = (LONG * 2, LONG * 2);
        let limits = Limits { connections: 2, spare: 3, header_timeout, spare_lifetime, ..LIMITS };
        let (address, _shutdown) = served(limits).await;
        let mut taken = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            taken.push(stream);
        }
        // These wait in the spare places, which is all that they do.
        for _ in 0..20 {
            taken.push(TcpStream::connect(address).await.unwrap());
        }
        let probe = ask(&mut TcpStream::connect(address).await.unwrap(), "/healthz").await;
        assert!(probe.starts_with("HTTP/1.1 200 ") && probe.ends_with("alive"), "{probe}");
        let refused = get(&mut TcpStream::connect(address).await.unwrap()).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 10"), "{refused}");
        // The oldest in a spare place.
        assert_eq!(until_closed(&mut taken[2]).await, 0);
    }

    #[tokio::test]
    async fn a_spare_place_is_nobodys_for_long() {
        let spare_lifetime = Duration::from_millis(200);
        let limits = Limits { connections: 1, header_timeout: LONG * 2, spare_lifetime, ..LIMITS };
        let (address, _shutdown) = served(limits).await;
        let _first = TcpStream::connect(address).await.unwrap();
        until_closed(&mut TcpStream::connect(address).await.unwrap()).await;
    }

    #[tokio::test]
    async fn one_client_leaves_connections_to_others() {
        let limits = Limits { connections: 8, per_client: 2, client: Some, ..LIMITS };
        let (address, _shutdown) = served(limits).await;
        let connect = async |from: &str| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
            socket.connect(address).await.unwrap()
        };
        let mut taken = Vec::new();
        for _ in 0..8 {
            let mut stream = connect("127.0.0.2").await;
            stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            taken.push(stream);
        }
        assert!(get(&mut connect("127.0.0.3").await).await.ends_with("here"));
        assert!(get(&mut connect("127.0.0.2").await).await.starts_with("HTTP/1.1 503 "));
        // What is beyond its share was refused; the rest of it goes on.
        for refused in &mut taken[2..] {
            assert!(until_closed(refused).await > 0);
        }
        taken.clear();
        let served = async { while !get(&mut connect("127.0.0.2").await).await.ends_with("here") {} };
        tokio::time::timeout(LONG, served).await.expect("its places are free again");
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_ipv6_and_this_host_is_none() {
        let client = |peer: &str| client(peer.parse().unwrap()).map(|client| client.to_string());
        for this_host in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(client(this_host), None, "{this_host}");
        }
        assert_eq!(client("192.0.2.7").unwrap(), "192.0.2.7");
        assert_eq!(client("::ffff:192.0.2.7").unwrap(), "192.0.2.7");
        assert_eq!(client("2001:db8:1:2:3:4:5:6").unwrap(), "2001:db8:1:2::");
    }

    #[tokio::test]
    async fn a_connection_takes_new_requests_for_its_time_only() {
        let lifetime = (Duration::from_millis(300), LONG);
        let (address, _shutdown) = served(Limits { lifetime, ..LIMITS }).await;
        let (began, mut busy) = (Instant::now(), TcpStream::connect(address).await.unwrap());
        // A request after the other, each in time: header and write timeouts never end it.
        let mut reply = [0; 4096];
        let asked = async {
            while busy.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok()
                && busy.read(&mut reply).await.is_ok_and(|length| length > 0)
            {}
        };
        tokio::time::timeout(LONG / 2, asked).await.expect("it is closed");
        assert!(began.elapsed() >= lifetime.0);
    }

    #[tokio::test]
    async fn an_answer_that_is_read_for_ever_is_cut() {
        let lifetime = (Duration::from_millis(100), Duration::from_millis(400));
        let (address, _shutdown) = served(Limits { lifetime, ..LIMITS }).await;
        let (began, mut slow) = (Instant::now(), TcpStream::connect(address).await.unwrap());
        slow.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        until_closed(&mut slow).await;
        assert!(began.elapsed() >= lifetime.1, "it is given its time");
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
