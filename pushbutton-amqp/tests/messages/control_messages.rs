//! Control messages.

use futures_util::StreamExt;
use pushbutton_core::samples::AT;
use pushbutton_core::{ControlMessage, ControlMessages, Queue};

use crate::{both, common, config};

async fn next(listener: &mut ControlMessages) -> ControlMessage {
    common::soon(listener.next()).await.expect("the stream does not end").expect("without an error")
}

/// A message of a newer version, or of somebody else, is skipped; those around it are delivered, also to a late
/// listener.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_message_that_is_not_understood_is_skipped() {
    for url in both() {
        let config = config(&url, "control", 30);
        let queue = common::connect(&config).await;
        let mut listener = queue.control_messages().await.unwrap();
        let muted =
            ControlMessage::Muted { by: "operator host-3".into(), why: "5 failures in a row".into(), at: AT };
        let unmuted = ControlMessage::Unmuted { by: "alice".into(), at: AT };
        queue.broadcast(&muted).await.unwrap();
        let (_connection, channel) = common::channel(&url).await;
        let log = format!("{}.log", config.prefix);
        let id = "0199d3c6f0a07cc1a2f3b9d5e4c6a7b8";
        let newer = r#"{\"notice\": \"tomorrow\", \"by\": \"x\"}"#;
        let newer = format!(r#"{{"id": "{id}", "op": {{"broadcast": {{"message": "{newer}"}}}}}}"#);
        common::publish_raw(&channel, &log, Some(1), newer.as_bytes()).await;
        for body in [&br#"{"op": "tomorrow"}"#[..], b"\xff", b"hello"] {
            common::publish_raw(&channel, &log, Some(1), body).await;
        }
        common::publish_raw(&channel, &log, None, b"hello").await;
        queue.broadcast(&unmuted).await.unwrap();
        let mut late = common::connect(&config).await.control_messages().await.unwrap();
        for listener in [&mut listener, &mut late] {
            assert_eq!(next(listener).await, muted);
            assert_eq!(next(listener).await, unmuted);
        }
        queue.close().await;
        assert!(common::soon(listener.next()).await.unwrap().is_err_and(|error| !error.is_temporary()));
        assert!(common::soon(listener.next()).await.is_none(), "an error ends the stream");
        common::delete(&url, [&config.prefix]).await;
    }
}

/// The broker has lost the log, and so all offsets begin again: every listener still gets each message once.
#[tokio::test(flavor = "multi_thread")]
async fn messages_after_the_loss_of_the_log_reach_every_listener() {
    for url in both() {
        let proxy = common::proxy::Proxy::before(&url).await;
        let config = config(&proxy.url, "lost-control", 30);
        let queue = common::connect(&config).await;
        let mut listener = queue.control_messages().await.unwrap();
        let message = |n: i64| ControlMessage::Unmuted { by: n.to_string(), at: AT };
        for n in 0..3 {
            queue.broadcast(&message(n)).await.unwrap();
        }
        for n in 0..3 {
            assert_eq!(next(&mut listener).await, message(n));
        }
        proxy.close();
        let (connection, channel) = common::channel(&url).await;
        common::delete_queue(&channel, &format!("{}.log", config.prefix)).await;
        connection.close(200, "done".into()).await.unwrap();
        proxy.open();
        common::soon(async { while queue.broadcast(&message(3)).await.is_err() {} }).await;
        assert_eq!(next(&mut listener).await, message(3), "an offset that is used again");
        let mut late = common::connect(&config).await.control_messages().await.unwrap();
        for n in 0..=3 {
            assert_eq!(next(&mut late).await, message(n), "also what was written before the loss");
        }
        common::delete(&url, [&config.prefix]).await;
    }
}
