//! What the cloud's replies mean: kind and retry class.

use pushbutton_core::{Error, ErrorKind, RetryClass};

use crate::reply::words_of;

/// The longest piece of the cloud's own words that an error keeps, in characters.
const MAX_WORDS: usize = 500;

/// What a refusal by the cloud means. `message` is what it said.
fn classify(status: u16, message: &str) -> (ErrorKind, RetryClass) {
    use RetryClass::{Permanent, Temporary};
    let says = |word: &str| message.to_ascii_lowercase().contains(word);
    match status {
        // The token was renewed before, so this is about who we are.
        401 => (ErrorKind::Denied, Permanent),
        // Nova says 403 for a quota, Cinder 413, Neutron 409; room may come, as other runs end.
        403 | 409 | 413 if says("quota") || says("limit") => (ErrorKind::Exhausted, Temporary),
        409 if says("no more ip addresses") => (ErrorKind::Exhausted, Temporary),
        403 => (ErrorKind::Denied, Permanent),
        404 | 410 => (ErrorKind::NotFound, Permanent),
        408 => (ErrorKind::TimedOut, Temporary),
        // Nova asks for a network when there are several: no other attempt will find fewer.
        409 if says("multiple possible networks") => (ErrorKind::Config, Permanent),
        409 => (ErrorKind::Remote, Temporary),
        413 | 429 => (ErrorKind::Exhausted, Temporary),
        400..=499 => (ErrorKind::Config, Permanent),
        500..=599 => (ErrorKind::Remote, Temporary),
        _ => (ErrorKind::Protocol, Temporary),
    }
}

fn of_class(kind: ErrorKind, class: RetryClass, message: String) -> Error {
    match class {
        RetryClass::Permanent => Error::permanent(kind, message),
        RetryClass::Temporary | RetryClass::RetriedOut => Error::temporary(kind, message),
    }
}

/// The error that a reply stands for.
pub(crate) fn of_reply(status: u16, body: &[u8]) -> Error {
    let words: String = words_of(body).chars().take(MAX_WORDS).collect();
    let (kind, class) = classify(status, &words);
    let message = if words.is_empty() { "the cloud gave no reason".to_owned() } else { words };
    of_class(kind, class, message).with("status", status)
}

/// The error that osauth's own stands for: a login, the catalogue, or the connection.
pub(crate) fn of_osauth(error: openstack::Error) -> Error {
    use RetryClass::{Permanent, Temporary};
    use openstack::ErrorKind as Theirs;
    let (kind, class) = match error.kind() {
        Theirs::AuthenticationFailed | Theirs::AccessDenied => (ErrorKind::Denied, Permanent),
        Theirs::EndpointNotFound | Theirs::InvalidConfig => (ErrorKind::Config, Permanent),
        Theirs::ResourceNotFound => (ErrorKind::NotFound, Permanent),
        Theirs::OperationTimedOut => (ErrorKind::TimedOut, Temporary),
        Theirs::ProtocolError => (ErrorKind::Unreachable, Temporary),
        Theirs::InvalidResponse | Theirs::IncompatibleApiVersion => (ErrorKind::Protocol, Permanent),
        // osauth folds 429 and 413 into this one. For the lookups that go through it nothing else leads here.
        Theirs::InvalidInput => (ErrorKind::Exhausted, Temporary),
        _ => (ErrorKind::Remote, Temporary),
    };
    of_class(kind, class, error.to_string())
}

/// The error of a request that got no reply.
pub(crate) fn of_http(error: reqwest::Error) -> Error {
    let error = error.without_url();
    let (kind, what) = if error.is_timeout() {
        (ErrorKind::TimedOut, "no answer in time")
    } else if error.is_connect() {
        (ErrorKind::Unreachable, "cannot connect")
    } else {
        (ErrorKind::Unreachable, "the connection broke")
    };
    let cause = innermost(&error);
    Error::temporary(kind, format!("{what}: {cause}")).because(error)
}

/// reqwest's own words say little; the cause at the bottom says it all.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(inner) = at.source() {
        at = inner;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replies that were recorded from Nova 31, Neutron 26, Cinder 26 and a HAProxy before them.
    #[test]
    fn recorded_replies() {
        use ErrorKind::{Config, Denied, Exhausted, NotFound, Remote};
        for (status, body, kind, temporary) in [
            (
                403,
                r#"{"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances"}}"#,
                Exhausted,
                true,
            ),
            (
                413,
                r#"{"overLimit": {"code": 413, "message": "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.", "retryAfter": "0"}}"#,
                Exhausted,
                true,
            ),
            (
                409,
                r#"{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['floatingip'].", "detail": ""}}"#,
                Exhausted,
                true,
            ),
            (
                409,
                r#"{"NeutronError": {"type": "ExternalIpAddressExhausted", "message": "Unable to find any IP address on external network; no more IP addresses available", "detail": ""}}"#,
                Exhausted,
                true,
            ),
            (
                409,
                r#"{"conflictingRequest": {"code": 409, "message": "Multiple possible networks found, use a Network ID to be more specific."}}"#,
                Config,
                false,
            ),
            (
                409,
                r#"{"conflictingRequest": {"code": 409, "message": "Cannot 'delete' instance while it is in task_state spawning"}}"#,
                Remote,
                true,
            ),
            (400, r#"{"badRequest": {"code": 400, "message": "Invalid key_name provided."}}"#, Config, false),
            (
                401,
                r#"{"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}"#,
                Denied,
                false,
            ),
            (
                403,
                r#"{"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create to be performed."}}"#,
                Denied,
                false,
            ),
            (
                404,
                r#"{"itemNotFound": {"code": 404, "message": "Instance could not be found."}}"#,
                NotFound,
                false,
            ),
            (429, "", Exhausted, true),
            (503, "<html><body><h1>503 Service Unavailable</h1></body></html>", Remote, true),
        ] {
            let error = of_reply(status, body.as_bytes());
            assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{status} {body}");
        }
    }

    #[test]
    fn the_clouds_words_are_kept_and_bounded() {
        let body = br#"{"badRequest": {"code": 400, "message": "Invalid key_name provided."}}"#;
        assert_eq!(of_reply(400, body).to_string(), "Invalid key_name provided. (status=400)");
        assert!(of_reply(500, "x".repeat(100_000).as_bytes()).message().len() <= MAX_WORDS);
    }
}
