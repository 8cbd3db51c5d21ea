//! Several URLs, tried in turn.

use pushbutton_core::check::{Check, Level};
use pushbutton_core::samples::job_on;
use secrecy::SecretString;

use crate::common::proxy::Proxy;
use crate::{both, common, config};

/// The first URL that works is used; when its broker goes away, the next one is.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_url_is_tried_when_one_fails() {
    for url in both() {
        let (one, other) = (Proxy::before(&url).await, Proxy::before(&url).await);
        let refused = "amqp://guest:guest@127.0.0.1:1/%2f";
        let mut config = config(&url, "urls", 30);
        config.url = None;
        config.urls = [refused, &one.url, &other.url].map(SecretString::from).into();
        let queue = common::connect(&config).await;
        common::publish(&queue, &job_on(1, "tempest")).await;
        for closed in [&one, &other] {
            closed.close();
            common::publish(&queue, &job_on(1, "tempest")).await;
            let claim = common::claim(&queue).await;
            claim.hand_back().await.unwrap();
            closed.open();
        }
        let findings = config.check().await;
        assert!(
            findings[0].level == Level::Fail && findings[0].to_string().contains("127.0.0.1:1/"),
            "{findings:?}"
        );
        assert_eq!(findings.iter().filter(|finding| finding.what.contains("login: accepted")).count(), 2);
        common::delete(&url, [&config.prefix]).await;
    }
}
