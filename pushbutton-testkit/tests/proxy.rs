//! Each command of the proxy has its documented effect on connections, and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests panics when it cannot work")]

use std::io::ErrorKind;
use std::time::Duration;

use pushbutton_testkit::faults::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

/// How long a step may take on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// How long a test waits for what must not happen: a broken proxy does it at once.
const SHORT_WAIT: Duration = Duration::from_millis(100);

struct Harness {
    server: TcpListener,
    proxy: Proxy,
}

impl Harness {
    async fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(&server.local_addr().unwrap().to_string()).await.unwrap();
        Self { server, proxy }
    }

    /// The two ends of a connection, after one message in each direction.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (mut server, _) = timeout(TIME_LIMIT, self.server.accept()).await.unwrap().unwrap();
        send(&mut client, "hello").await;
        receive(&mut server, "hello").await;
        send(&mut server, "welcome").await;
        receive(&mut client, "welcome").await;
        (client, server)
    }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn receive(stream: &mut TcpStream, text: &str) {
    let mut received = vec![0; text.len()];
    timeout(TIME_LIMIT, stream.read_exact(&mut received)).await.expect("the text arrives").unwrap();
    assert_eq!(String::from_utf8(received).unwrap(), text);
}

async fn receives_nothing(stream: &mut TcpStream) {
    let received = timeout(SHORT_WAIT, stream.read(&mut [0; 64])).await;
    assert!(received.is_err(), "nothing can arrive: {received:?}");
}

/// How the stream ends: `Ok(0)` is FIN.
async fn ending(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let read = timeout(TIME_LIMIT, stream.read(&mut [0; 64])).await.expect("the connection ends");
    read.map_err(|error| error.kind())
}

const RESET: Result<usize, ErrorKind> = Err(ErrorKind::ConnectionReset);

#[tokio::test]
async fn bytes_of_several_connections_are_forwarded_and_counted() {
    let harness = Harness::new().await;
    let (mut first, mut first_server) = harness.connect().await;
    let (mut second, mut second_server) = harness.connect().await;
    send(&mut second, "two").await;
    receive(&mut second_server, "two").await;
    send(&mut first, "one").await;
    receive(&mut first_server, "one").await;
    let counts = harness.proxy.counts();
    assert_eq!((counts.accepted, counts.open, counts.dropped), (2, 2, 0));
    assert_eq!((counts.to_server, counts.to_clients), (16, 14));

    // The end of each stream is forwarded too.
    first.shutdown().await.unwrap();
    assert_eq!(ending(&mut first_server).await, Ok(0));
    send(&mut first_server, "done").await;
    receive(&mut first, "done").await;
    drop(first_server);
    assert_eq!(ending(&mut first).await, Ok(0));
}

#[tokio::test]
async fn a_frozen_connection_holds_bytes_back_and_drops_none() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    harness.proxy.freeze();
    send(&mut client, "first").await;
    send(&mut client, " second").await;
    send(&mut server, "news").await;
    receives_nothing(&mut server).await;
    receives_nothing(&mut client).await;

    // A new connection is accepted and gets nothing; the server does not see it.
    let mut late = TcpStream::connect(harness.proxy.address()).await.unwrap();
    send(&mut late, "late").await;
    assert!(timeout(SHORT_WAIT, harness.server.accept()).await.is_err());

    harness.proxy.pass();
    receive(&mut server, "first second").await;
    receive(&mut client, "news").await;
    let (mut late_server, _) = harness.server.accept().await.unwrap();
    receive(&mut late_server, "late").await;
}

#[tokio::test]
async fn a_reset_ends_open_connections_also_frozen_ones_and_no_later_ones() {
    let harness = Harness::new().await;
    for frozen in [false, true] {
        let (mut client, mut server) = harness.connect().await;
        if frozen {
            harness.proxy.freeze();
            send(&mut client, "held back").await;
        }
        harness.proxy.reset();
        assert_eq!((ending(&mut client).await, ending(&mut server).await), (RESET, RESET));
        harness.proxy.pass();
    }
    harness.connect().await;
}

#[tokio::test]
async fn a_close_ends_both_sides_with_fin() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    harness.proxy.close();
    assert_eq!((ending(&mut client).await, ending(&mut server).await), (Ok(0), Ok(0)));
    harness.connect().await;
}

#[tokio::test]
async fn new_connections_are_refused_by_the_system_and_open_ones_stay() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    for _ in 0..3 {
        harness.proxy.refuse().await.unwrap();
        let refused = TcpStream::connect(harness.proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        send(&mut client, "still open").await;
        receive(&mut server, "still open").await;
        harness.proxy.accept().await.unwrap();
        harness.connect().await;
    }
}

#[tokio::test]
async fn responses_are_dropped_while_requests_arrive_and_the_other_way_round() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    harness.proxy.drop_responses();
    send(&mut client, "request").await;
    receive(&mut server, "request").await;
    send(&mut server, "response").await;
    receives_nothing(&mut client).await;
    wait_for_dropped(&harness.proxy, "response".len() as u64).await;
    // A TCP stream cannot have a gap: the connection is reset.
    harness.proxy.pass();
    assert_eq!((ending(&mut client).await, ending(&mut server).await), (RESET, RESET));

    let (mut client, mut server) = harness.connect().await;
    harness.proxy.drop_requests();
    send(&mut client, "request").await;
    send(&mut server, "news").await;
    receive(&mut client, "news").await;
    receives_nothing(&mut server).await;
}

async fn wait_for_dropped(proxy: &Proxy, bytes: u64) {
    let dropped = async {
        while proxy.counts().dropped < bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIME_LIMIT, dropped).await.expect("bytes are dropped and counted");
}

#[tokio::test]
async fn a_throttled_connection_has_the_given_rate() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    harness.proxy.throttle(1000);
    let began = Instant::now();
    let text = "x".repeat(500);
    send(&mut client, &text).await;
    receive(&mut server, &text).await;
    // The test does not wait for the pause after the last piece.
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    harness.proxy.pass();
    let text = "x".repeat(1_000_000);
    let (_, ()) = tokio::join!(send(&mut client, &text), receive(&mut server, &text));
}

#[tokio::test]
async fn a_connection_to_a_missing_server_is_reset() {
    // A port without a listener, reserved so that no other process gets it.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let proxy = Proxy::start(&reserved.local_addr().unwrap().to_string()).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ending(&mut client).await, RESET);
}

#[tokio::test]
async fn connections_end_when_the_proxy_is_dropped() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    drop(harness.proxy);
    assert!(matches!(ending(&mut client).await, Ok(0) | RESET));
    assert!(matches!(ending(&mut server).await, Ok(0) | RESET));
}
