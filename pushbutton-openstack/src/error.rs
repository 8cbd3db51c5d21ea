//! From the cloud's refusals and broken connections to kind and retry class.

use std::borrow::Cow;

use pushbutton_core::text::short_line;
use pushbutton_core::{Error, ErrorKind, RetryClass};
use reqwest::header::{HeaderMap, LOCATION};

/// The longest message of the cloud that an error keeps, in bytes.
const MAX_MESSAGE: usize = 500;

/// Values that are shorter than this are shown in messages.
const MIN_SECRET: usize = 8;

/// How many sentences of a message are tried as the end of the value in it.
const MAX_SENTENCES: usize = 50;

/// Parts of the messages of the services' exceptions that mean "no room now": a quota, the hosts, the back ends or the
/// addresses are used up, and are free again when another run ends. In lower case.
const NO_ROOM: &[&str] = &[
    // Nova OverQuota and its subclasses, Neutron OverQuota, Cinder ImageLimitExceeded; Glance wraps Cinder's.
    "quota exceeded",
    // Cinder VolumeLimitExceeded, VolumeSizeExceedsAvailableQuota, UnexpectedOverQuota; Glance StorageQuotaFull.
    "exceeded for quota",
    "exceeds allowed",
    "over quota on",
    "exceeds the quota",
    // Glance LimitExceeded.
    "quota threshold was breached",
    // oslo.limit ProjectOverLimit, for Nova and Glance with unified limits.
    "is over a limit for",
    // Neutron IpAddressGenerationFailure, ExternalIpAddressExhausted; Nova NoMoreFixedIps.
    "no more ip addresses",
    "unable to find any ip address",
    "no fixed ip addresses available",
    // Neutron NoNetworkAvailable.
    "network is available for allocation",
    // Nova NoValidHost, ComputeResourcesUnavailable, ImageQuotaExceeded.
    "no valid host",
    "insufficient compute resources",
    "out of space for image",
    // Cinder NoValidBackend, and its message for users.
    "no valid backend",
    "could not find any available weighted backend",
    "not enough quota",
    "exceeds available space",
];

/// Parts of messages about the request alone: it would be refused by an empty cloud as well.
const TOO_LARGE: &[&str] = &[
    // Cinder VolumeSizeExceedsLimit.
    "is larger than maximum allowed limit",
    // Nova MetadataLimitExceeded, OnsetFileLimitExceeded, TooManyDiskDevices.
    "metadata items exceeds",
    "personality file",
    "maximum allowed number of disk devices",
    // Neutron AllowedAddressPairExhausted.
    "number of allowed address pair",
];

/// Whether a service's message means that there is no room now.
pub(crate) fn is_no_room(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let says = |text: &str| message.contains(text);
    NO_ROOM.iter().copied().any(says)
        // Nova PortLimitExceeded, FloatingIpLimitExceeded, SecurityGroupLimitExceeded; Cinder SnapshotLimitExceeded.
        || message.split_once("maximum number of").is_some_and(|(_, rest)| rest.contains("exceeded"))
        // Neutron IpAddressInUse, IpAddressAlreadyAllocated, Nova FixedIpAlreadyInUse: another node has the fixed address.
        || says("ip address ") && (says("in use") || says("already allocated"))
}

/// What a refusal means, by its status and its message.
fn classify(status: u16, message: &str) -> (ErrorKind, RetryClass) {
    use RetryClass::{Permanent, Temporary};
    let lower = message.to_ascii_lowercase();
    let says = |text: &str| lower.contains(text);
    match status {
        // A token that was revoked has been replaced before; this is about the account.
        401 => (ErrorKind::Denied, Permanent),
        404 | 410 => (ErrorKind::NotFound, Permanent),
        408 => (ErrorKind::TimedOut, Temporary),
        400..=499 if TOO_LARGE.iter().copied().any(says) => (ErrorKind::Config, Permanent),
        // The statuses differ by service and release: a full quota is 403 from Nova, 413 from Cinder, 409 from Neutron;
        // used-up addresses are 400 or 409. So the words decide.
        400..=599 if is_no_room(message) => (ErrorKind::Exhausted, Temporary),
        // The words of an unknown release or of a provider's own service.
        403 | 409 | 413 if says("quota") || says("limit") => (ErrorKind::Exhausted, Temporary),
        403 => (ErrorKind::Denied, Permanent),
        // Nova wants a network to be named where there are several.
        409 if says("multiple possible networks") => (ErrorKind::Config, Permanent),
        // Neutron AddressPairAndPortSecurityRequired, PortSecurityPortHasSecurityGroup: options that exclude each other.
        409 if says("port security") => (ErrorKind::Config, Permanent),
        409 => (ErrorKind::Remote, Temporary),
        // A proxy's page: the user data are longer than it accepts.
        413 if says("request entity too large") => (ErrorKind::Config, Permanent),
        413 | 429 => (ErrorKind::Exhausted, Temporary),
        400..=499 => (ErrorKind::Config, Permanent),
        500..=599 => (ErrorKind::Remote, Temporary),
        _ => (ErrorKind::Protocol, Temporary),
    }
}

/// The error of a refused request.
pub(crate) fn refusal(status: u16, message: &str) -> Error {
    let (kind, class) = classify(status, message);
    let mut message = short_line(&without_value(message), MAX_MESSAGE);
    if message.is_empty() {
        message.push_str("the cloud gave no reason");
    }
    let error = match class {
        RetryClass::Permanent => Error::permanent(kind, message),
        _ => Error::temporary(kind, message),
    };
    error.with("status", status)
}

/// A refusal without the value that was sent: `Invalid input for field/attribute user_data. Value: V. 'V' is too long`
/// has the user data in it twice, possibly with passwords, and a message is shown on the review.
fn without_value(message: &str) -> Cow<'_, str> {
    const VALUE: &str = "Value: ";
    let Some((before, rest)) = message.split_once(VALUE) else { return message.into() };
    // The value is everything up to a reason that repeats it, if one does.
    let repeated = rest.rmatch_indices(". ").take(MAX_SENTENCES).find_map(|(at, _)| {
        let (value, reason) = (&rest[..at], &rest[at + 2..]);
        reason.contains(value).then_some((value, reason))
    });
    let repeated = match repeated {
        Some((value, _)) if value.len() < MIN_SECRET => return message.into(),
        other => other.map(|(value, reason)| reason.replace(value, "…")),
    };
    let reason = repeated.unwrap_or_else(|| {
        // It may repeat the value in another notation, in quotes.
        let reason = rest.rsplit_once(". ").map_or("", |(_, reason)| reason);
        let quoted = reason.find('\'').zip(reason.rfind('\'')).filter(|(from, to)| from < to);
        match quoted {
            Some((from, to)) => format!("{}'…{}", &reason[..from], &reason[to..]),
            None => reason.to_owned(),
        }
    });
    format!("{before}{VALUE}…. {reason}").into()
}

/// Marks a permanent error that no job can have a node with this entry of `clouds.yaml`.
pub(crate) fn of_entry(error: Error) -> Error {
    if error.is_temporary() { error } else { error.affecting_all_jobs() }
}

/// The error of a redirect, which is not followed. `key` names what in `clouds.yaml` gives the URL.
pub(crate) fn redirect(status: u16, headers: &HeaderMap, key: &str) -> Error {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("nowhere");
    // Its query may hold a secret.
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let location = short_line(location, MAX_MESSAGE);
    let message = format!(
        "the cloud answers with a redirect to {location}, and redirects are not followed: give the right URL as `{key}` in \
         clouds.yaml"
    );
    Error::permanent(ErrorKind::Config, message).with("status", status)
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
        openstack::ErrorKind::EndpointNotFound | openstack::ErrorKind::InvalidConfig => {
            Error::permanent(ErrorKind::Config, error.to_string())
        }
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

    /// Refusals in the services' own words, with status, kind, retry class, and where they come from: "recorded" means
    /// recorded from Nova 31, Neutron 26, Cinder 26 or a HAProxy before them; else the exception in the service's source
    /// (2025.1) whose message it is, or the public report that quotes it.
    const REFUSALS: &str = r#"
403 Exhausted Temporary | recorded | {"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances"}}
413 Exhausted Temporary | recorded | {"overLimit": {"code": 413, "message": "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.", "retryAfter": "0"}}
409 Exhausted Temporary | recorded | {"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['floatingip'].", "detail": ""}}
409 Config Permanent | recorded | {"conflictingRequest": {"code": 409, "message": "Multiple possible networks found, use a Network ID to be more specific."}}
409 Remote Temporary | recorded | {"conflictingRequest": {"code": 409, "message": "Cannot 'delete' instance while it is in task_state spawning"}}
400 Config Permanent | recorded | {"badRequest": {"code": 400, "message": "Invalid key_name provided."}}
401 Denied Permanent | recorded | {"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}
403 Denied Permanent | recorded | {"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create to be performed."}}
404 NotFound Permanent | recorded | {"itemNotFound": {"code": 404, "message": "Instance could not be found."}}
429 Exhausted Temporary | recorded | -
503 Remote Temporary | recorded | <html><body><h1>503 Service Unavailable</h1></body></html>
403 Exhausted Temporary | nova PortLimitExceeded; VertebrateResequencing/wr#38 | {"forbidden": {"message": "Maximum number of ports exceeded", "code": 403}}
403 Exhausted Temporary | nova FloatingIpLimitExceeded | {"forbidden": {"message": "Maximum number of floating IPs exceeded", "code": 403}}
403 Exhausted Temporary | nova SecurityGroupLimitExceeded | {"forbidden": {"message": "Maximum number of security groups or rules exceeded", "code": 403}}
403 Exhausted Temporary | nova TooManyInstances; rackerlabs/understack#529 | {"forbidden": {"code": 403, "message": "Quota exceeded for cores, ram: Requested 32, 98304, but already used 0, 0 of 20, 51200 cores, ram"}}
403 Exhausted Temporary | nova GroupMemberLimitExceeded | {"forbidden": {"code": 403, "message": "Quota exceeded, too many servers in group"}}
403 Exhausted Temporary | nova ServerGroupLimitExceeded | {"forbidden": {"code": 403, "message": "Quota exceeded, too many server groups."}}
403 Exhausted Temporary | nova KeypairLimitExceeded | {"forbidden": {"code": 403, "message": "Quota exceeded, too many key pairs."}}
403 Exhausted Temporary | nova/limit/placement.py with oslo.limit ProjectOverLimit | {"forbidden": {"code": 403, "message": "Project 8e1f is over a limit for [Resource servers is over limit of 10 due to current usage 10 and delta 1]"}}
413 Exhausted Temporary | nova OverQuota | {"overLimit": {"code": 413, "message": "Quota exceeded for resources: instances"}}
413 Exhausted Temporary | nova and cinder before 2014: rate limits | {"overLimit": {"code": 413, "message": "This request was rate-limited.", "retryAfter": "24"}}
400 Exhausted Temporary | nova FixedIpAlreadyInUse: another node of the label has it | {"badRequest": {"code": 400, "message": "Fixed IP address 10.0.0.9 is already in use on instance 7c2e."}}
400 Exhausted Temporary | nova NoMoreFixedIps | {"badRequest": {"code": 400, "message": "No fixed IP addresses available for network: 5f4a"}}
400 Exhausted Temporary | nova NoValidHost | {"badRequest": {"code": 400, "message": "No valid host was found. There are not enough hosts available."}}
500 Exhausted Temporary | nova NoValidHost | {"computeFault": {"code": 500, "message": "No valid host was found. There are not enough hosts available."}}
413 Exhausted Temporary | cinder VolumeSizeExceedsAvailableQuota | {"overLimit": {"code": 413, "message": "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 80G, quota is 1000G and 960G has been consumed.", "retryAfter": "0"}}
413 Exhausted Temporary | cinder VolumeLimitExceeded of a volume type; redhat-openstack/openshift-on-openstack#249 | {"overLimit": {"code": 413, "message": "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes_fast'.", "retryAfter": "0"}}
413 Exhausted Temporary | cinder SnapshotLimitExceeded | {"overLimit": {"code": 413, "message": "SnapshotLimitExceeded: Maximum number of snapshots allowed (10) exceeded"}}
413 Exhausted Temporary | cinder UnexpectedOverQuota | {"overLimit": {"code": 413, "message": "UnexpectedOverQuota: Unexpected over quota on gigabytes."}}
413 Exhausted Temporary | cinder ImageLimitExceeded | {"overLimit": {"code": 413, "message": "Image quota exceeded"}}
413 Config Permanent | cinder VolumeSizeExceedsLimit (per_volume_gigabytes): no other run makes room | {"overLimit": {"code": 413, "message": "VolumeSizeExceedsLimit: Requested volume size 900G is larger than maximum allowed limit 500G."}}
500 Exhausted Temporary | cinder NoValidBackend | {"computeFault": {"code": 500, "message": "No valid backend was found. No weighed backends available"}}
409 Exhausted Temporary | neutron OverQuota of ports | {"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port'].", "detail": ""}}
409 Exhausted Temporary | neutron_lib IpAddressGenerationFailure; redhat-performance/jetpack#70 | {"NeutronError": {"type": "IpAddressGenerationFailure", "message": "No more IP addresses available on network be3a70aa.", "detail": ""}}
409 Exhausted Temporary | neutron.ipam IpAddressGenerationFailureAllSubnets | {"NeutronError": {"type": "IpAddressGenerationFailureAllSubnets", "message": "No more IP addresses available.", "detail": ""}}
400 Exhausted Temporary | neutron_lib ExternalIpAddressExhausted; terraform-provider-openstack#1171 | {"NeutronError": {"type": "ExternalIpAddressExhausted", "message": "Unable to find any IP address on external network 9fb20ca2.", "detail": ""}}
409 Exhausted Temporary | neutron_lib IpAddressInUse | {"NeutronError": {"type": "IpAddressInUse", "message": "Unable to complete operation for network 5f4a. The IP address 10.0.0.9 is in use.", "detail": ""}}
409 Exhausted Temporary | neutron.ipam IpAddressAlreadyAllocated | {"NeutronError": {"type": "IpAddressAlreadyAllocated", "message": "IP address 10.0.0.9 already allocated in subnet 1b", "detail": ""}}
503 Exhausted Temporary | neutron_lib NoNetworkAvailable, a ResourceExhausted | {"NeutronError": {"type": "NoNetworkAvailable", "message": "Unable to create the network. No tenant network is available for allocation.", "detail": ""}}
409 Config Permanent | neutron_lib AddressPairAndPortSecurityRequired | {"NeutronError": {"type": "AddressPairAndPortSecurityRequired", "message": "Port Security must be enabled in order to have allowed address pairs on a port.", "detail": ""}}
409 Config Permanent | neutron_lib PortSecurityPortHasSecurityGroup | {"NeutronError": {"type": "PortSecurityPortHasSecurityGroup", "message": "Port has security group associated. Cannot disable port security or IP address until security group is removed.", "detail": ""}}
409 Remote Temporary | neutron_lib PortInUse | {"NeutronError": {"type": "PortInUse", "message": "Unable to complete operation on port 3 for network 4. Port already has an attached device 5.", "detail": ""}}
400 Config Permanent | neutron_lib AllowedAddressPairExhausted: one port wants too many | {"NeutronError": {"type": "AllowedAddressPairExhausted", "message": "The number of allowed address pair exceeds the maximum 10.", "detail": ""}}
403 Config Permanent | nova MetadataLimitExceeded: one server wants too much | {"forbidden": {"code": 403, "message": "Maximum number of metadata items exceeds 128"}}
403 Config Permanent | nova OnsetFileContentLimitExceeded | {"forbidden": {"code": 403, "message": "Personality file content exceeds maximum 10240"}}
403 Config Permanent | nova TooManyDiskDevices | {"forbidden": {"code": 403, "message": "The maximum allowed number of disk devices (1) to attach to a single instance has been exceeded."}}
403 Denied Permanent | nova ExternalNetworkAttachForbidden | {"forbidden": {"code": 403, "message": "It is not allowed to create an interface on external network 9fb2"}}
413 Exhausted Temporary | glance LimitExceeded | <html><head><title>413 Request Entity Too Large</title></head><body><h1>Request Entity Too Large</h1>The request returned a 413 Request Entity Too Large. This generally means that rate limiting or a quota threshold was breached.</body></html>
413 Exhausted Temporary | glance StorageQuotaFull | <html><body><h1>Request Entity Too Large</h1>Denying attempt to upload image because it exceeds the quota: The size of the data 100 will exceed the limit. 5 bytes remaining.</body></html>
413 Exhausted Temporary | glance with oslo.limit | {"message": "Project 8e1f is over a limit for [Resource image_size_total is over limit of 1000 due to current usage 900 and delta 200]", "code": "413 Request Entity Too Large"}
413 Config Permanent | nginx, client_max_body_size: the user data is too long | <html><head><title>413 Request Entity Too Large</title></head><body><center><h1>413 Request Entity Too Large</h1></center></body></html>"#;

    /// Report 7 and V6: quotas and capacity are "no room", by kind, for each service.
    #[test]
    fn report_7_v6_quotas_and_capacity_are_recognized_in_each_services_own_words() {
        for line in REFUSALS.trim_start().lines() {
            let (expected, rest) = line.split_once(" | ").unwrap();
            let (_source, body) = rest.split_once(" | ").unwrap();
            let (status, expected) = expected.split_once(' ').unwrap();
            let error = refusal(status.parse().unwrap(), &message_of(body.as_bytes()));
            let found = format!("{:?} {:?}", error.kind(), error.retry_class());
            assert_eq!(found, expected, "{line}");
        }
    }

    /// V6: what Nova and Cinder say of a server or a volume that went into ERROR.
    #[test]
    fn v6_no_room_is_recognized_in_the_fault_of_a_server_or_a_volume() {
        for (no_room, fault) in [
            (true, "No valid host was found. There are not enough hosts available."),
            (true, "No valid host was found. Exceeded max scheduling attempts 3 for instance f4fb"),
            (true, "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances"),
            (
                true,
                "Build of instance 9c aborted: Failed to allocate the network(s) with error No fixed IP addresses available for network: 5f4a, not rescheduling.",
            ),
            (true, "Build of instance 9c aborted: Maximum number of ports exceeded"),
            (
                true,
                "Build of instance 9c aborted: VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.",
            ),
            (
                true,
                "Build of instance 9c was re-scheduled: Insufficient compute resources: Free memory 3 MB < requested 512 MB.",
            ),
            (
                true,
                "Build of instance 9c aborted: Quota exceeded or out of space for image 1f in the image service.",
            ),
            (true, "schedule allocate volume:Could not find any available weighted backend."),
            // Hosts were tried, and each failed: for want of room, or because of the image or the network.
            (
                false,
                "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures for instance 14.",
            ),
            (false, "Build of instance 9c aborted: Failed to allocate the network(s), not rescheduling."),
            (
                false,
                "Build of instance 9c aborted: Volume 1 did not finish being created even after we waited 3 seconds.",
            ),
            (false, "copy image to volume:An unknown error occurred."),
        ] {
            assert_eq!(is_no_room(fault), no_room, "{fault}");
        }
    }

    #[test]
    fn the_words_of_a_quota_are_found_in_a_long_message_too() {
        let long = format!("{} Quota exceeded for instances", "x".repeat(2 * MAX_MESSAGE));
        assert_eq!(refusal(403, &long).kind(), ErrorKind::Exhausted);
    }

    /// Nova's and Cinder's words for a value that their schema refuses.
    #[test]
    fn the_value_that_was_refused_is_not_in_the_error_but_the_reason_is() {
        let data = "aHVzaA==".repeat(9000);
        for (value, repeated, reason) in [
            (data.as_str(), format!("'{data}'"), "is too long"),
            ("hush: a. b", "'hush: a. b'".to_owned(), "does not match '^[a-z]*$'"),
            ("hush one", r"'hush\none'".to_owned(), "is too long"),
            ("{'key': 'hush. x'}", "{'key': 'hush. x'}".to_owned(), "is not of type 'string'"),
        ] {
            let sent =
                format!("Invalid input for field/attribute user_data. Value: {value}. {repeated} {reason}");
            let error = refusal(400, &sent);
            let shown = error.message();
            assert!(!shown.contains("hush") && !shown.contains("aHVz"), "{shown}");
            assert!(shown.starts_with("Invalid input for field/attribute user_data. Value: …"), "{shown}");
            assert!(shown.ends_with(reason), "{shown}");
        }
        let short = "Invalid input for field/attribute min_count. Value: a. 'a' is not of type 'integer'";
        assert_eq!(refusal(400, short).message(), short);
        let unexplained = refusal(400, "Invalid input for field/attribute user_data. Value: hush");
        assert!(!unexplained.message().contains("hush"), "{unexplained}");
    }

    #[test]
    fn the_clouds_message_is_kept_and_bounded() {
        let error = refusal(400, "Invalid key_name provided.");
        assert_eq!(error.to_string(), "Invalid key_name provided. (status=400)");
        assert!(refusal(500, &"x".repeat(100_000)).message().len() <= MAX_MESSAGE + '…'.len_utf8());
    }
}
