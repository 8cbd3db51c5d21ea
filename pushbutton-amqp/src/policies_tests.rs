use super::*;
use pushbutton_core::check::Level;
use serde_json::json;

fn levels(object: Object, policy: Value) -> Vec<(Level, String)> {
    let findings = judge(object, "ci.x", policy.as_object().unwrap());
    findings.into_iter().map(|finding| (finding.level, finding.what)).collect()
}

fn only(object: Object, policy: Value) -> Level {
    let levels = levels(object, policy);
    assert_eq!(levels.len(), 1, "{levels:?}");
    levels[0].0
}

#[test]
fn a_policy_that_can_drop_waiting_jobs_is_named() {
    for policy in [
        json!({"message-ttl": 60_000}),
        json!({"expires": 60_000}),
        json!({"max-length": 10}),
        json!({"max-length-bytes": 10, "overflow": "drop-head"}),
        json!({"delivery-limit": 50}),
    ] {
        let found = levels(Object::Inbox, policy.clone());
        let key = policy.as_object().unwrap().keys().next().unwrap();
        assert!(found[0].0 == Level::Warn && found[0].1.contains(key), "{policy}: {found:?}");
    }
    for policy in [
        json!({}),
        json!({"max-length": 10, "overflow": "reject-publish"}),
        json!({"dead-letter-exchange": "dlx", "dead-letter-routing-key": "x"}),
        json!({"delivery-limit": 10_000}),
        json!({"max-age": "1s"}),
    ] {
        assert_eq!(only(Object::Inbox, policy.clone()), Level::Ok, "{policy}");
    }
}

#[test]
fn a_policy_that_drops_the_log_too_early_is_a_failure() {
    for policy in
        [json!({"max-age": "1h"}), json!({"max-age": "90m"}), json!({"max-length-bytes": 1_000_000})]
    {
        assert_eq!(only(Object::Log, policy.clone()), Level::Fail, "{policy}");
    }
    for policy in [
        json!({"max-age": "1D"}),
        json!({"max-age": "3h"}),
        json!({"max-length-bytes": 1_000_000_000}),
        json!({"message-ttl": 1, "expires": 1, "max-length": 1, "overflow": "drop-head"}),
    ] {
        assert_eq!(only(Object::Log, policy.clone()), Level::Ok, "{policy}");
    }
}

#[test]
fn a_policy_that_shortens_the_history_is_named() {
    let history = Object::History { age_s: 90 * 24 * 3600, bytes: 64 << 20 };
    for policy in
        [json!({"max-age": "30D"}), json!({"max-age": "2M"}), json!({"max-length-bytes": 1_000_000})]
    {
        let found = levels(history, policy.clone());
        let key = policy.as_object().unwrap().keys().next().unwrap();
        assert!(found[0].0 == Level::Warn && found[0].1.contains(key), "{policy}: {found:?}");
    }
    for policy in [
        json!({"max-age": "90D"}),
        json!({"max-age": "1Y"}),
        json!({"max-length-bytes": 64 << 20}),
        json!({"message-ttl": 1, "expires": 1, "max-length": 1}),
    ] {
        assert_eq!(only(history, policy.clone()), Level::Ok, "{policy}");
    }
}
