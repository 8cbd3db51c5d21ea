//! From the cloud's refusals and broken connections to kind and retry class.

use pushbutton_core::text::short_line;
use pushbutton_core::{Error, ErrorKind, RetryClass};

/// The longest message of the cloud that an error keeps, in bytes.
const MAX_MESSAGE: usize = 500;

/// What a refusal means, by its status and its message.
fn classify(status: u16, message: &str) -> (ErrorKind, RetryClass) {
    use RetryClass::{Permanent, Temporary};
    let message = message.to_ascii_lowercase();
    let says = |text: &str| message.contains(text);
    match status {
        // A token that was revoked has been replaced before; this is about the account.
        401 => (ErrorKind::Denied, Permanent),
        // A full quota is 403 from Nova, 413 from Cinder and 409 from Neutron. Other runs end and make room.
        403 | 409 | 413 if says("quota") || says("limit") => (ErrorKind::Exhausted, Temporary),
        409 if says("no more ip addresses") => (ErrorKind::Exhausted, Temporary),
        403 => (ErrorKind::Denied, Permanent),
        404 | 410 => (ErrorKind::NotFound, Permanent),
        408 => (ErrorKind::TimedOut, Temporary),
        // Nova wants a network to be named where there are several.
        409 if says("multiple possible networks") => (ErrorKind::Config, Permanent),
        409 => (ErrorKind::Remote, Temporary),
        413 | 429 => (ErrorKind::Exhausted, Temporary),
        400..=499 => (ErrorKind::Config, Permanent),
        500..=599 => (ErrorKind::Remote, Temporary),
        _ => (ErrorKind::Protocol, Temporary),
    }
}

/// The error of a refused request.
pub(crate) fn refusal(status: u16, message: &str) -> Error {
    let mut message = short_line(message, MAX_MESSAGE);
    let (kind, class) = classify(status, &message);
    if message.is_empty() {
        message.push_str("the cloud gave no reason");
    }
    let error = match class {
        RetryClass::Permanent => Error::permanent(kind, message),
        _ => Error::temporary(kind, message),
    };
    error.with("status", status)
}

/// The error of a request that got no reply.
pub(crate) fn no_reply(error: reqwest::Error) -> Error {
    let error = error.without_url();
    let (kind, what) = if error.is_timeout() {
        (ErrorKind::TimedOut, "no reply in time")
    } else if error.is_connect() {
        (ErrorKind::Unreachable, "cannot connect")
    } else {
        (ErrorKind::Unreachable, "the connection broke")
    };
    let cause = innermost(&error);
    Error::temporary(kind, format!("{what}: {cause}")).because(error)
}

/// The message of the innermost cause: the outer ones only say that a request failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// An error of the login on its way through the session. What it was is found out by the retry, which logs in first.
pub(crate) fn to_session_error(error: Error) -> openstack::Error {
    openstack::Error::new(openstack::ErrorKind::ProtocolError, error.to_string())
}

/// The error of a session that has no endpoint for a request, or no token.
pub(crate) fn of_session(error: openstack::Error) -> Error {
    match error.kind() {
        openstack::ErrorKind::EndpointNotFound => Error::permanent(ErrorKind::Config, error.to_string()),
        openstack::ErrorKind::InvalidResponse => Error::permanent(ErrorKind::Protocol, error.to_string()),
        _ => Error::temporary(ErrorKind::Unreachable, error.to_string()),
    }
}

/// Whether an error says nothing about the thing that was asked for: the API was away or busy for longer than a
/// request's retries.
pub(crate) fn is_transient(error: &Error) -> bool {
    let by_status = error.context("status").is_some_and(|status| status.starts_with('5') || status == "429");
    error.is_temporary()
        && (by_status || matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::message_of;

    /// Refusals that were recorded from Nova 31, Neutron 26, Cinder 26 and a HAProxy before them, with kind and retry
    /// class.
    const RECORDED: &str = r#"
403 Exhausted Temporary {"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances"}}
413 Exhausted Temporary {"overLimit": {"code": 413, "message": "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.", "retryAfter": "0"}}
409 Exhausted Temporary {"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['floatingip'].", "detail": ""}}
409 Exhausted Temporary {"NeutronError": {"type": "ExternalIpAddressExhausted", "message": "Unable to find any IP address on external network; no more IP addresses available", "detail": ""}}
409 Config Permanent {"conflictingRequest": {"code": 409, "message": "Multiple possible networks found, use a Network ID to be more specific."}}
409 Remote Temporary {"conflictingRequest": {"code": 409, "message": "Cannot 'delete' instance while it is in task_state spawning"}}
400 Config Permanent {"badRequest": {"code": 400, "message": "Invalid key_name provided."}}
401 Denied Permanent {"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}
403 Denied Permanent {"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create to be performed."}}
404 NotFound Permanent {"itemNotFound": {"code": 404, "message": "Instance could not be found."}}
429 Exhausted Temporary -
503 Remote Temporary <html><body><h1>503 Service Unavailable</h1></body></html>"#;

    #[test]
    fn recorded_refusals_have_their_kind_and_retry_class() {
        for line in RECORDED.trim_start().lines() {
            let (status, rest) = line.split_once(' ').unwrap();
            let (kind, rest) = rest.split_once(' ').unwrap();
            let (class, body) = rest.split_once(' ').unwrap();
            let error = refusal(status.parse().unwrap(), &message_of(body.as_bytes()));
            let found = (format!("{:?}", error.kind()), format!("{:?}", error.retry_class()));
            assert_eq!(found, (kind.to_owned(), class.to_owned()), "{line}");
        }
    }

    #[test]
    fn the_clouds_message_is_kept_and_bounded() {
        let error = refusal(400, "Invalid key_name provided.");
        assert_eq!(error.to_string(), "Invalid key_name provided. (status=400)");
        assert!(refusal(500, &"x".repeat(100_000)).message().len() <= MAX_MESSAGE + '…'.len_utf8());
    }
}
