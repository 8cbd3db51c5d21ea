//! The proxy breaks connections as it says, and leaves alone what it does not break.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stop at what they cannot do")]

use std::io::ErrorKind;
use std::time::Duration;

use pushbutton_testkit::faults::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

/// What must happen happens within this time, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What must not happen is waited for so long: a broken proxy does it at once.
const MOMENT: Duration = Duration::from_millis(100);

struct Harness {
    server: TcpListener,
    proxy: Proxy,
}

impl Harness {
    async fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::before(&server.local_addr().unwrap().to_string()).await.unwrap();
        Self { server, proxy }
    }

    /// A connection's two ends, after a word went each way.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (mut server, _) = timeout(PATIENCE, self.server.accept()).await.unwrap().unwrap();
        say(&mut client, "hello").await;
        hear(&mut server, "hello").await;
        say(&mut server, "welcome").await;
        hear(&mut client, "welcome").await;
        (client, server)
    }
}

async fn say(stream: &mut TcpStream, words: &str) {
    stream.write_all(words.as_bytes()).await.unwrap();
}

async fn hear(stream: &mut TcpStream, words: &str) {
    let mut heard = vec![0; words.len()];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.expect("the words arrive").unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), words);
}

async fn hears_nothing(stream: &mut TcpStream) {
    let heard = timeout(MOMENT, stream.read(&mut [0; 64])).await;
    assert!(heard.is_err(), "nothing can arrive: {heard:?}");
}

/// How the stream ends: with its end, or an error.
async fn ending(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let read = timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("the connection ends");
    read.map_err(|error| error.kind())
}

const RESET: Result<usize, ErrorKind> = Err(ErrorKind::ConnectionReset);

#[tokio::test]
async fn bytes_pass_and_are_counted_also_of_several_connections() {
    let harness = Harness::new().await;
    let (mut first, mut first_server) = harness.connect().await;
    let (mut second, mut second_server) = harness.connect().await;
    say(&mut second, "two").await;
    hear(&mut second_server, "two").await;
    say(&mut first, "one").await;
    hear(&mut first_server, "one").await;
    let counts = harness.proxy.counts();
    assert_eq!((counts.accepted, counts.open, counts.lost), (2, 2, 0));
    assert_eq!((counts.to_server, counts.to_clients), (16, 14));

    // Each side's end passes too.
    first.shutdown().await.unwrap();
    assert_eq!(ending(&mut first_server).await, Ok(0));
    say(&mut first_server, "bye").await;
    hear(&mut first, "bye").await;
    drop(first_server);
    assert_eq!(ending(&mut first).await, Ok(0));
}

#[tokio::test]
async fn a_frozen_connection_holds_everything_back_and_loses_nothing() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    harness.proxy.freeze();
    say(&mut client, "anybody").await;
    say(&mut client, " there?").await;
    say(&mut server, "news").await;
    hears_nothing(&mut server).await;
    hears_nothing(&mut client).await;

    // A new connection is taken and hears nothing; the server does not hear of it.
    let mut late = TcpStream::connect(harness.proxy.address()).await.unwrap();
    say(&mut late, "late").await;
    assert!(timeout(MOMENT, harness.server.accept()).await.is_err());

    harness.proxy.pass();
    hear(&mut server, "anybody there?").await;
    hear(&mut client, "news").await;
    let (mut late_server, _) = harness.server.accept().await.unwrap();
    hear(&mut late_server, "late").await;
}

#[tokio::test]
async fn a_reset_ends_what_is_open_also_when_frozen_and_not_what_comes() {
    let harness = Harness::new().await;
    for frozen in [false, true] {
        let (mut client, mut server) = harness.connect().await;
        if frozen {
            harness.proxy.freeze();
            say(&mut client, "unheard").await;
        }
        harness.proxy.reset();
        assert_eq!((ending(&mut client).await, ending(&mut server).await), (RESET, RESET));
        harness.proxy.pass();
    }
    harness.connect().await;
}

#[tokio::test]
async fn an_end_is_a_goodbye_to_both() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    harness.proxy.end();
    assert_eq!((ending(&mut client).await, ending(&mut server).await), (Ok(0), Ok(0)));
    harness.connect().await;
}

#[tokio::test]
async fn refused_connections_are_refused_by_the_system_and_open_ones_stay() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    for _ in 0..3 {
        harness.proxy.refuse().await.unwrap();
        let refused = TcpStream::connect(harness.proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        say(&mut client, "still here").await;
        hear(&mut server, "still here").await;
        harness.proxy.admit().await.unwrap();
        harness.connect().await;
    }
}

#[tokio::test]
async fn lost_answers_are_lost_while_questions_arrive() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    harness.proxy.lose_answers();
    say(&mut client, "question").await;
    hear(&mut server, "question").await;
    say(&mut server, "answer").await;
    hears_nothing(&mut client).await;
    wait_for_lost(&harness.proxy, "answer".len() as u64).await;
    // A stream with a hole is no TCP stream: it ends.
    harness.proxy.pass();
    assert_eq!((ending(&mut client).await, ending(&mut server).await), (RESET, RESET));

    let (mut client, mut server) = harness.connect().await;
    harness.proxy.lose_questions();
    say(&mut client, "question").await;
    say(&mut server, "news").await;
    hear(&mut client, "news").await;
    hears_nothing(&mut server).await;
}

async fn wait_for_lost(proxy: &Proxy, bytes: u64) {
    let lost = async {
        while proxy.counts().lost < bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, lost).await.expect("bytes are lost and counted");
}

#[tokio::test]
async fn a_throttled_connection_is_as_slow_as_asked() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    harness.proxy.throttle(1000);
    let began = Instant::now();
    let words = "x".repeat(500);
    say(&mut client, &words).await;
    hear(&mut server, &words).await;
    // The pause after the last piece is not waited for.
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    harness.proxy.pass();
    let words = "x".repeat(1_000_000);
    let (_, ()) = tokio::join!(say(&mut client, &words), hear(&mut server, &words));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_reset() {
    // A port that nobody listens on, and that nobody else can get while we hold it.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let proxy = Proxy::before(&nobody.local_addr().unwrap().to_string()).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ending(&mut client).await, RESET);
}

#[tokio::test]
async fn connections_end_with_the_proxy() {
    let harness = Harness::new().await;
    let (mut client, mut server) = harness.connect().await;
    drop(harness.proxy);
    assert!(matches!(ending(&mut client).await, Ok(0) | RESET));
    assert!(matches!(ending(&mut server).await, Ok(0) | RESET));
}
