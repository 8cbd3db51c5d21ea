//! RabbitMQ: the shared brokers, and private ones to kill and freeze.

use crate::instance::Instance;
use crate::process::run;

/// A line of RabbitMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.10, as Debian 12 ships it.
    V3,
    /// 4.0, as Debian 13 ships it.
    V4,
}

impl Version {
    fn part(self) -> &'static str {
        match self {
            Self::V3 => "rabbitmq3",
            Self::V4 => "rabbitmq4",
        }
    }
}

/// A running RabbitMQ with nothing but the defaults; login guest/guest.
#[derive(Debug)]
pub struct Broker {
    instance: Instance,
    version: Version,
    /// Its AMQP address with login and vhost `/`. Kept through [`restart`](Self::restart).
    pub url: String,
    /// The AMQP port on 127.0.0.1. Kept through [`restart`](Self::restart).
    pub port: u16,
}

/// The shared broker of that version: give each test queues with names of its own.
pub fn rabbitmq(version: Version) -> Broker {
    Broker::new(Instance::shared(version.part()), version)
}

impl Broker {
    /// A broker of this test alone (3-7 s to start).
    pub fn private(version: Version) -> Self {
        Self::new(Instance::private(version.part(), Vec::new()), version)
    }

    /// The same, with more lines in its rabbitmq.conf and terms in its advanced.config (either may be empty), as
    /// `"consumer_timeout = 20000"` and `"{rabbit, [{channel_tick_interval, 2000}]}"`.
    pub fn private_with(version: Version, conf: &str, advanced: &str) -> Self {
        let knobs = vec![
            ("TESTBED_RABBITMQ_CONF", conf.to_owned()),
            ("TESTBED_RABBITMQ_ADVANCED", advanced.to_owned()),
        ];
        Self::new(Instance::private(version.part(), knobs), version)
    }

    fn new(instance: Instance, version: Version) -> Self {
        let prefix = version.part().to_uppercase();
        let url = instance.fact(&format!("{prefix}_URL")).to_owned();
        let port = instance.number(&format!("{prefix}_PORT"));
        Self { instance, version, url, port }
    }

    /// Which line of RabbitMQ it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its Erlang process, now.
    pub fn pid(&self) -> u32 {
        self.instance.number(&format!("{}_PID", self.version.part().to_uppercase()))
    }

    /// Kills it as a crash would; returns when it is gone. Private brokers only.
    pub fn kill9(&self) {
        self.instance.signal("KILL");
    }

    /// Stops it in an orderly way. Private brokers only.
    pub fn stop(&self) {
        self.instance.signal("CONT");
        self.instance.down();
    }

    /// Freezes it: connections stay, nothing answers. Private brokers only.
    pub fn freeze(&self) {
        self.instance.signal("STOP");
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.instance.signal("CONT");
    }

    /// Starts it again on the same port with the data it had, after an orderly stop if it is still up; returns when it answers.
    pub fn restart(&mut self) {
        self.instance.down();
        self.instance.up();
    }

    /// Runs a tool of this broker, as `["rabbitmqctl", "list_queues"]`, and returns its stdout (1-2 s a call).
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = self.instance.testbed(&["ctl", self.version.part()]);
        run(command.args(arguments), "")
    }
}
