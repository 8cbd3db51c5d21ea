//! The brokers answer, and private ones can be killed, frozen and started again on the same port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use pushbutton_testbed::{Broker, Version, rabbitmq};

/// What the server says to AMQP's protocol header within 2 s; None: nothing.
fn greeting(port: u16) -> Option<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"AMQP\0\0\x09\x01").ok()?;
    let mut first = [0];
    stream.read_exact(&mut first).ok()?;
    Some(first[0])
}

#[test]
fn shared_brokers_answer_and_are_the_versions_they_say() {
    for (version, number) in [(Version::V3, "3.10."), (Version::V4, "4.")] {
        let broker = rabbitmq(version);
        assert_eq!(greeting(broker.port), Some(1), "a method frame begins with 1");
        let said = broker.ctl(&["rabbitmqctl", "version"]);
        assert!(said.starts_with(number), "{said}");
        assert_eq!(rabbitmq(version).url, broker.url, "asked again, it is the same");
    }
}

#[test]
fn a_private_broker_is_killed_frozen_and_started_again() {
    for version in [Version::V3, Version::V4] {
        let mut broker = Broker::private(version);
        assert_ne!(broker.port, rabbitmq(version).port);
        broker.kill9();
        assert_eq!(greeting(broker.port), None);
        broker.restart();
        assert_eq!(greeting(broker.port), Some(1));
        broker.freeze();
        assert_eq!(greeting(broker.port), None);
        broker.thaw();
        assert_eq!(greeting(broker.port), Some(1));
        let port = broker.port;
        drop(broker);
        assert_eq!(greeting(port), None, "it ends with its value");
    }
}
