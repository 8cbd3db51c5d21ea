use std::time::Duration;

use super::*;

fn parse(text: &str) -> Result<AmqpConfig, serde_json::Error> {
    serde_json::from_str(text)
}

fn invalid(url: &str, change: impl FnOnce(&mut AmqpConfig)) -> String {
    let mut config = AmqpConfig::new(url);
    change(&mut config);
    config.validate().unwrap_err().to_string()
}

#[test]
fn the_url_is_enough() {
    let config = parse(r#"{"url": "amqp://ci:s3cret@rabbit:5672/%2f"}"#).unwrap();
    assert_eq!((config.prefix.as_str(), config.lease), ("pushbutton", HumanDuration::secs(900)));
    assert_eq!(config.lease_term().held(), Duration::from_secs(882));
    config.validate().unwrap();
    assert_eq!(config.uris().unwrap()[0].query.heartbeat, Some(10));
}

#[test]
fn frames_are_small_unless_the_url_says_how_large() {
    let frame = |url| AmqpConfig::new(url).uris().unwrap()[0].query.frame_max;
    assert_eq!(frame("amqp://rabbit/ci"), Some(16 << 10));
    assert_eq!(frame("amqp://rabbit/ci?frame_max=65536"), Some(65536));
}

#[test]
fn several_urls_are_named_without_logins() {
    let config = parse(r#"{"urls": ["amqp://ci:s3cret@one/ci", "amqp://ci:s3cret@two:5673/ci"]}"#).unwrap();
    config.validate().unwrap();
    assert_eq!(config.address(), "amqp://one:5672/ci, amqp://two:5673/ci");
    let both = parse(r#"{"url": "amqp://one", "urls": ["amqp://two"]}"#).unwrap();
    assert!(both.validate().unwrap_err().to_string().contains("exclude each other"));
    assert!(parse("{}").unwrap().validate().unwrap_err().to_string().contains("rabbitmq.url is missing"));
}

#[test]
fn the_password_is_never_shown() {
    let config = AmqpConfig::new("amqps://ci:s3cret@rabbit:5671/ci");
    assert!(!format!("{config:?}").contains("s3cret"));
    assert_eq!(config.address(), "amqps://rabbit:5671/ci");
    let broken = AmqpConfig::new("amqp://ci:s3cret@rabbit:port/ci");
    assert!(!format!("{:?} {}", broken.validate().unwrap_err(), broken.address()).contains("s3cret"));
}

#[test]
fn a_client_certificate_logs_in_where_the_url_has_no_password() {
    let external = |url: &str, auth| {
        let mut config = AmqpConfig::new(url);
        config.client_cert = Some("cert.pem".into());
        config.client_key = Some("key.pem".into());
        config.auth = auth;
        config.validate().unwrap();
        config.is_external()
    };
    assert!(external("amqps://rabbit/ci", None));
    assert!(external("amqps://ci@rabbit/ci", None));
    assert!(!external("amqps://ci:s3cret@rabbit/ci", None));
    assert!(external("amqps://ci:s3cret@rabbit/ci", Some(AmqpAuth::External)));
    assert!(!external("amqps://rabbit/ci", Some(AmqpAuth::Password)));
    assert!(!AmqpConfig::new("amqp://rabbit/ci").is_external());
    let without = invalid("amqps://rabbit", |c| c.auth = Some(AmqpAuth::External));
    assert!(without.contains("rabbitmq.auth external needs rabbitmq.client_cert"), "{without}");
    let half = invalid("amqps://rabbit", |c| c.client_cert = Some("cert.pem".into()));
    assert!(half.contains("belong together"), "{half}");
}

#[test]
fn an_invalid_value_is_named() {
    let with = |change: fn(&mut AmqpConfig)| invalid("amqp://guest:guest@localhost", change);
    let url = with(|c| c.url = Some(SecretString::from("http://x")));
    assert!(url.contains("rabbitmq.url must look like amqp://"), "{url}");
    let slash = with(|c| c.url = Some(SecretString::from("amqp://guest:guest@localhost:5672/")));
    assert!(slash.contains("rabbitmq.url names no virtual host after the last slash: write %2f"), "{slash}");
    assert!(with(|c| c.prefix = "a b".into()).contains("rabbitmq.prefix must be"));
    assert!(with(|c| c.lease = HumanDuration::secs(0)).contains("rabbitmq.lease must be between 1s and 1h"));
    assert!(with(|c| c.heartbeat = HumanDuration::secs(61)).contains("rabbitmq.heartbeat"));
    assert!(with(|c| c.timeout = HumanDuration::secs(0)).contains("rabbitmq.timeout"));
    assert!(with(|c| c.max_lost_leases = 0).contains("rabbitmq.max_lost_leases"));
    assert!(with(|c| c.ca = Some("ca.pem".into())).contains("rabbitmq.ca has no effect with amqp://"));
    assert!(
        with(|c| c.management = Some(SecretString::from("rabbit:15672"))).contains("rabbitmq.management")
    );
    assert!(parse(r#"{"url": "amqp://x", "leese": "1m"}"#).unwrap_err().to_string().contains("leese"));
}

#[test]
fn all_wrong_values_are_named_at_once() {
    let mut config = AmqpConfig::new("http://x");
    (config.lease, config.timeout) = (HumanDuration::secs(0), HumanDuration::secs(0));
    (config.prefix, config.max_lost_leases) = ("a b".into(), 0);
    let keys = ["url", "prefix", "lease", "timeout", "max_lost_leases"];
    let problems = config.problems();
    let named: Vec<_> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
    assert_eq!(named, keys, "{problems:?}");
    let error = config.validate().unwrap_err().to_string();
    for key in keys {
        assert!(error.contains(&format!("rabbitmq.{key} ")), "{error}");
    }
}

#[test]
fn a_lease_outlasts_two_timeouts() {
    let with = |lease, timeout| {
        let mut config = AmqpConfig::new("amqp://guest:guest@localhost");
        (config.lease, config.timeout) = (HumanDuration::secs(lease), HumanDuration::secs(timeout));
        config.validate()
    };
    with(31, 15).unwrap();
    assert!(with(30, 15).unwrap_err().to_string().contains("rabbitmq.lease is too short"));
    let leader = invalid("amqp://guest:guest@localhost", |c| c.leader_lease = HumanDuration::secs(18));
    assert!(leader.contains("rabbitmq.leader_lease is too short"), "{leader}");
}
