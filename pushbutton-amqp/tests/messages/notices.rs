//! What operators are told.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use pushbutton_core::samples::AT;
use pushbutton_core::{ControlMessage, Queue};

use crate::{both, common, config};

/// A notice of a newer version, or of nobody's, is passed over; those around it are heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_not_understood_is_passed_over() {
    for url in both() {
        let config = config(&url, "notices", 30);
        let queue = common::connect(&config).await;
        let mut heard = queue.control_messages().await.unwrap();
        let muted =
            ControlMessage::Muted { by: "operator host-3".into(), why: "5 failures in a row".into(), at: AT };
        let unmuted = ControlMessage::Unmuted { by: "alice".into(), at: AT };
        queue.broadcast(&muted).await.unwrap();
        let (_connection, channel) = common::channel(&url).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for (form, body) in [(1, &br#"{"notice": "tomorrow", "by": "x"}"#[..]), (99, b"{}"), (1, b"\xff")] {
            let headers = FieldTable::from(BTreeMap::from([("pushbutton-format".into(), form.into())]));
            let properties = BasicProperties::default().with_headers(headers);
            let (stream, options) = (format!("{}.notices", config.prefix), BasicPublishOptions::default());
            let sent = channel.basic_publish("".into(), stream.into(), options, body, properties).await;
            assert!(sent.unwrap().await.unwrap().is_ack());
        }
        queue.broadcast(&unmuted).await.unwrap();
        let mut later = common::connect(&config).await.control_messages().await.unwrap();
        for listener in [&mut heard, &mut later] {
            assert_eq!(common::soon(listener.next()).await.unwrap(), muted);
            assert_eq!(common::soon(listener.next()).await.unwrap(), unmuted);
        }
        common::delete(&url, [&config.prefix]).await;
    }
}
