//! Policies: what an administrator has set for queues of the vhost, and whether it harms the inbox, the log or the
//! history.
//!
//! AMQP does not tell policies; the management API does.

use lapin::uri::AMQPUri;
use pushbutton_core::check::Finding;
use pushbutton_core::{Error, ErrorKind, Result};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::AmqpConfig;
use crate::topology::{LOG_BYTES, Names};

/// Half of the log's own size: room for two snapshots of the largest state and the entries between them.
const MIN_LOG_BYTES: i64 = LOG_BYTES / 2;
/// Three intervals of snapshots.
const MIN_LOG_AGE_S: u64 = 3 * 3600;
/// Each broken connection counts as a delivery, and so does each time that the log gets full: then what is on its way to
/// a participant goes back, up to once for each participant.
const MIN_DELIVERIES: i64 = 10_000;

/// An object on the broker, with the kind that decides what a policy does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Object {
    Inbox,
    Log,
    /// With the retention that the configuration asks for. Of two limits, the broker keeps to the lower one.
    History {
        age_s: u64,
        bytes: i64,
    },
}

/// Reads the effective policies of the three objects, and says which would drop or limit something.
pub(crate) async fn check(config: &AmqpConfig, uri: &AMQPUri) -> Vec<Finding> {
    let vhost = &uri.vhost;
    let by_hand = format!(
        "set rabbitmq.management to the URL of the management API (plugin rabbitmq_management), or read the policies with \
         `rabbitmqctl list_policies -p {vhost}`, `rabbitmqctl list_operator_policies -p {vhost}` and \
         `rabbitmqctl list_queues -p {vhost} name effective_policy_definition`"
    );
    let Some(management) = &config.management else {
        return vec![Finding::warn("RabbitMQ policies: not read, rabbitmq.management is not set", by_hand)];
    };
    let names = Names::new(&config.prefix);
    let history = Object::History { age_s: config.history_age.0.as_secs(), bytes: config.history_bytes() };
    let mut findings = Vec::new();
    for (object, name) in [(Object::Inbox, &names.jobs), (Object::Log, &names.log), (history, &names.history)]
    {
        let name = name.as_str();
        match effective_policy(config, management.expose_secret(), uri, name).await {
            Ok(Some(policy)) => findings.extend(judge(object, name, &policy)),
            // The history is declared with its first entry.
            Ok(None) if matches!(object, Object::History { .. }) => {}
            Ok(None) => findings.push(Finding::warn(
                format!("RabbitMQ policies of {name}: it is not declared yet"),
                "run `check` again once a handler or an operator was started",
            )),
            Err(error) => {
                findings.push(Finding::warn(format!("RabbitMQ policies: not read: {error}"), by_hand));
                break;
            }
        }
    }
    findings
}

/// What the management API says of a queue. Without a policy the definition is an empty list.
#[derive(Debug, Default, Deserialize)]
struct QueueInfo {
    #[serde(default)]
    effective_policy_definition: Value,
}

async fn effective_policy(
    config: &AmqpConfig,
    management: &str,
    uri: &AMQPUri,
    queue: &str,
) -> Result<Option<Map<String, Value>>> {
    let failed = |text: String| Error::temporary(ErrorKind::Remote, text);
    let mut url: Url = management.parse().map_err(|_| failed("rabbitmq.management is not a URL".into()))?;
    let login = match url.username() {
        "" => (uri.authority.userinfo.username.clone(), uri.authority.userinfo.password.clone()),
        user => (user.to_owned(), url.password().unwrap_or_default().to_owned()),
    };
    let _ = (url.set_username(""), url.set_password(None));
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["api", "queues", &uri.vhost, queue]);
    }
    let mut client = reqwest::Client::builder().timeout(config.timeout.0);
    if let Some(ca) = &config.ca {
        let pem = tokio::fs::read(ca).await.map_err(|error| failed(format!("rabbitmq.ca: {error}")))?;
        for certificate in reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default() {
            client = client.add_root_certificate(certificate);
        }
    }
    let asking = async {
        let request = client.build()?.get(url).basic_auth(login.0, Some(login.1));
        let answer = request.send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.error_for_status()?.json::<QueueInfo>().await.map(Some)
    };
    let info = asking.await.map_err(|error: reqwest::Error| failed(chain(&error)))?;
    Ok(info.map(|info| match info.effective_policy_definition {
        Value::Object(definition) => definition,
        _ => Map::new(),
    }))
}

/// An error and its causes on one line: reqwest's own line says only that sending failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

fn judge(object: Object, name: &str, policy: &Map<String, Value>) -> Vec<Finding> {
    let mut harmless = Vec::new();
    let mut findings = Vec::new();
    for (key, value) in policy {
        match harm(object, key, value, policy) {
            None => harmless.push(format!("{key}={value}")),
            Some((fatal, why)) => {
                let what = format!("RabbitMQ policy of {name}: {key}={value} {why}");
                let remedy = format!(
                    "exclude {name} from the policy (`rabbitmqctl list_policies` and `list_operator_policies` show its pattern), or remove {key} from it"
                );
                findings.push(if fatal { Finding::fail(what, remedy) } else { Finding::warn(what, remedy) });
            }
        }
    }
    if findings.is_empty() {
        let which =
            if harmless.is_empty() { "none".to_owned() } else { harmless.join(", ") + ", harmless here" };
        findings.push(Finding::ok(format!("RabbitMQ policies of {name}: {which}")));
    }
    findings
}

/// Whether a key of a policy does harm to an object: whether it can lose open jobs of a running installation, and why.
fn harm(
    object: Object,
    key: &str,
    value: &Value,
    policy: &Map<String, Value>,
) -> Option<(bool, &'static str)> {
    let number = value.as_i64().unwrap_or_default();
    let refuses =
        policy.get("overflow").and_then(Value::as_str).is_some_and(|word| word.starts_with("reject"));
    match (object, key) {
        (Object::Inbox, "message-ttl") => Some((
            false,
            "drops jobs that wait in the inbox for longer (ms). Running handlers and operators move jobs to the log at once, so this \
             happens while none of them runs, or while more than 4 MiB of jobs wait",
        )),
        (Object::Inbox, "expires") => Some((
            false,
            "deletes the inbox and its jobs when no handler or operator has run for so long (ms)",
        )),
        // A refused job is published again by the handler.
        (Object::Inbox, "max-length" | "max-length-bytes") if !refuses => Some((
            false,
            "drops the oldest jobs of a full inbox; with overflow=reject-publish handlers would wait instead",
        )),
        (Object::Inbox, "delivery-limit") if number < MIN_DELIVERIES => Some((
            false,
            "drops a job that went back to the inbox so often: when a connection breaks, and when more than 4 MiB of jobs wait",
        )),
        (Object::Log, "max-age") if seconds(value.as_str().unwrap_or_default()) < MIN_LOG_AGE_S => Some((
            true,
            "drops entries of the log before snapshots, written every hour, replace them: open jobs are lost",
        )),
        (Object::Log, "max-length-bytes") if number < MIN_LOG_BYTES => {
            Some((true, "leaves no room for a snapshot and the entries after it: open jobs are lost"))
        }
        (Object::History { age_s, .. }, "max-age") if seconds(value.as_str().unwrap_or_default()) < age_s => {
            Some((false, "drops runs from the history before rabbitmq.history_age"))
        }
        (Object::History { bytes, .. }, "max-length-bytes") if number < bytes => {
            Some((false, "drops runs from the history before it has rabbitmq.history_mib"))
        }
        // Dead lettering only copies what is dropped; all other limits have no effect on the object's type.
        _ => None,
    }
}

/// A stream's `max-age`: a number and one of Y, M, D, h, m, s.
fn seconds(age: &str) -> u64 {
    let (number, unit) = age.split_at(age.len().saturating_sub(1));
    let unit = match unit {
        "Y" => 365 * 24 * 3600,
        "M" => 30 * 24 * 3600,
        "D" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    number.parse::<u64>().unwrap_or_default().saturating_mul(unit)
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
