//! Brokers that refuse, and servers that are none.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use pushbutton_amqp::{AmqpConfig, AmqpQueue};
use pushbutton_core::check::{Check, Level};
use pushbutton_core::samples::job_on;
use pushbutton_core::{ErrorKind, HumanDuration, Queue};

use crate::{both, common, config};

/// A refusal is reported at once, with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_reported_at_once() {
    for url in both() {
        for (wrong, remedy) in [
            (url.replace("guest:guest", "guest:wr0ng"), "check user, password"),
            (url.replace("%2f", "nowhere"), "virtual host"),
        ] {
            let mut config = AmqpConfig::new(wrong);
            config.timeout = common::PATIENT;
            (config.lease, config.leader_lease) = (HumanDuration::secs(600), HumanDuration::secs(600));
            let error = AmqpQueue::connect(config.clone()).await.map(|_| ()).unwrap_err();
            assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Denied, false), "{error:?}");
            let findings = config.check().await;
            let reported = findings.last().unwrap().to_string();
            for text in [error.to_string(), reported] {
                assert!(text.contains(remedy) && !text.contains("wr0ng"), "{text}");
            }
        }
        let mut config = config(&url, "other", 30);
        let (_connection, channel) = common::channel(&url).await;
        let jobs = format!("{}.jobs", config.prefix);
        channel
            .queue_declare(jobs.as_str().into(), QueueDeclareOptions::durable(), Default::default())
            .await
            .unwrap();
        let error = AmqpQueue::connect(config.clone()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("rabbitmq.prefix"), "{error}");
        channel.queue_delete(jobs.into(), QueueDeleteOptions::default()).await.unwrap();
        config.prefix = "good".into();
        let findings = config.check().await;
        let (policies, others) = findings.split_last().unwrap();
        assert!(others.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        let policies = policies.to_string();
        assert!(
            policies.contains("rabbitmqctl list_policies -p /"),
            "the policies were not read: {policies}"
        );
        assert!(
            findings[0].what.contains("RabbitMQ 3.10.") || findings[0].what.contains("RabbitMQ 4."),
            "{findings:?}"
        );
    }
}

/// A server that takes the connection and says nothing is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = AmqpConfig::new(format!("amqp://guest:guest@{}/%2f", listener.local_addr().unwrap()));
    config.timeout = HumanDuration::secs(1);
    let giving_up = async {
        let queue = AmqpQueue::connect(config).await.unwrap();
        queue.publish(&job_on(1, "tempest")).await.unwrap_err()
    };
    let error = common::soon(giving_up).await;
    assert!(error.is_temporary(), "{error:?}");
}
