//! Maps the errors of SSH and Gerrit to core's error kinds and retry classes.

use pushbutton_core::{Error, ErrorKind};

/// An error of the SSH client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshError {
    /// The protocol, the network, or the peer.
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    /// The server's host key is not trusted.
    #[error("{0}")]
    HostKey(Error),
}

/// Maps an error of the connection.
pub(crate) fn from_ssh(error: SshError) -> Error {
    let error = match error {
        SshError::HostKey(refusal) => return refusal,
        SshError::Ssh(error) => error,
    };
    let (kind, message) = match &error {
        russh::Error::NoCommonAlgo { kind, ours, theirs } => {
            let message = format!(
                "no common {kind:?} algorithm: the server offers {}, this client {}",
                theirs.join(","),
                ours.join(",")
            );
            return Error::permanent(ErrorKind::Protocol, message);
        }
        russh::Error::KeepaliveTimeout
        | russh::Error::InactivityTimeout
        | russh::Error::ConnectionTimeout => (ErrorKind::TimedOut, "the server does not answer any more"),
        russh::Error::Elapsed(_) => (ErrorKind::TimedOut, "the deadline has passed"),
        russh::Error::IO(_)
        | russh::Error::HUP
        | russh::Error::Disconnect
        | russh::Error::SendError
        | russh::Error::RecvError => (ErrorKind::Unreachable, "the connection broke"),
        russh::Error::ChannelOpenFailure(_) => (ErrorKind::Remote, "the server refused to open a channel"),
        russh::Error::Version => (ErrorKind::Protocol, "the server does not speak SSH"),
        _ => (ErrorKind::Protocol, "the SSH session failed"),
    };
    Error::temporary(kind, message).because(error)
}

/// Maps an error of russh.
pub(crate) fn from_russh(error: russh::Error) -> Error {
    from_ssh(SshError::Ssh(error))
}

/// Maps the exit status and stderr of a Gerrit command.
///
/// Gerrit writes `error: ...` and then `fatal: ...`, with a blank line between; the first is more specific.
pub(crate) fn from_command(status: u32, stderr: &str) -> Error {
    let text = stderr
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("error:") || line.starts_with("fatal:"))
        .or_else(|| stderr.lines().map(str::trim).find(|line| !line.is_empty()))
        .unwrap_or("nothing");
    let text: String =
        text.trim_start_matches("error: ").trim_start_matches("fatal: ").chars().take(300).collect();
    let message = format!("gerrit answered: {text}");
    let is_in = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    let error = match REFUSALS.iter().find(|(_, texts)| is_in(texts)) {
        Some((kind, _)) => Error::permanent(*kind, message),
        // A lock failure, a server that shuts down, a full queue; or a refusal that is not in the table.
        None => Error::temporary(ErrorKind::Remote, message),
    };
    error.with(STATUS, status)
}

const STATUS: &str = "status";

/// Whether Gerrit ran the command, and refused it with a text that is not in the table: it may be temporary or not.
pub(crate) fn is_unknown_refusal(error: &Error) -> bool {
    error.is_temporary() && error.kind() == ErrorKind::Remote && error.context(STATUS).is_some()
}

/// What Gerrit writes to stderr when a retry will not help; the first row that matches decides. A review that is
/// [`Denied`](ErrorKind::Denied) is posted once more without its vote.
const REFUSALS: [(ErrorKind, &[&str]); 5] = [
    (
        // Gerrit's classes PostReview and PostReviewOp: the label, its value, or the change that is closed by now.
        ErrorKind::Denied,
        &[
            "is restricted",
            "not permitted to modify label",
            "is not a configured label",
            "is not a valid value",
            "change is closed",
            "Voting on labels disallowed after submit",
            "Cannot reduce vote on labels",
        ],
    ),
    (ErrorKind::NotFound, &["no such change", "no such patch set", "not found", "Change not found"]),
    (ErrorKind::Exhausted, &["size exceeds limit", "too large", "Exceeding maximum"]),
    (
        ErrorKind::Denied,
        &["not permitted", "Not permitted", "does not permit", "Capability", "prohibited", "capability"],
    ),
    (
        ErrorKind::Invalid,
        &["is not a valid option", "JSON", "Json", "IllegalArgument", "BadRequest", "rejected in validation"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::RetryClass::{self, Permanent, Temporary};

    #[test]
    fn recorded_replies_of_gerrit_are_classified() {
        for (stderr, kind, class) in [
            ("fatal: \"9999\" no such change\n", ErrorKind::NotFound, Permanent),
            ("fatal: \"1,7\" no such patch set\n", ErrorKind::NotFound, Permanent),
            (
                "error: Applying label \"Verified\": 2 is restricted\n\nfatal: one or more reviews failed; review output above\n",
                ErrorKind::Denied,
                Permanent,
            ),
            (
                "error: One or more comments were rejected in validation: Comment size exceeds limit (17000 > 16384)\n\nfatal: one or \
                 more reviews failed; review output above\n",
                ErrorKind::Exhausted,
                Permanent,
            ),
            // core.md S1-3, reports.md 2: these were retried without end.
            (
                "error: change is closed\n\nfatal: one or more reviews failed; review output above\n",
                ErrorKind::Denied,
                Permanent,
            ),
            (
                "error: Voting on labels disallowed after submit: Verified\n\nfatal: x\n",
                ErrorKind::Denied,
                Permanent,
            ),
            (
                "error: Cannot reduce vote on labels for closed change: Verified\n\nfatal: x\n",
                ErrorKind::Denied,
                Permanent,
            ),
            (
                "error: label \"Verified\" is not a configured label\n\nfatal: x\n",
                ErrorKind::Denied,
                Permanent,
            ),
            ("error: label \"Verified\": 7 is not a valid value\n\nfatal: x\n", ErrorKind::Denied, Permanent),
            (
                "error: project state READ_ONLY does not permit write\n\nfatal: x\n",
                ErrorKind::Denied,
                Permanent,
            ),
            ("fatal: \"--strict-labels\" is not a valid option\n", ErrorKind::Invalid, Permanent),
            ("fatal: gerrit: nope: not found\n", ErrorKind::NotFound, Permanent),
            ("error: Update failed: LOCK_FAILURE\n", ErrorKind::Remote, Temporary),
            ("", ErrorKind::Remote, Temporary),
        ] {
            let error = from_command(1, stderr);
            assert_eq!((error.kind(), error.retry_class()), (kind, class), "{stderr}");
        }
        assert!(is_unknown_refusal(&from_command(1, "error: some plugin says no\n")));
        assert!(!is_unknown_refusal(&from_command(1, "error: change is closed\n")));
        assert!(!is_unknown_refusal(&from_russh(russh::Error::HUP)));
        let text =
            from_command(1, "error: Applying label \"Verified\": 2 is restricted\n\nfatal: x").to_string();
        assert_eq!(text, "gerrit answered: Applying label \"Verified\": 2 is restricted (status=1)");
    }

    #[test]
    fn a_broken_connection_is_temporary_and_an_unknown_host_key_is_permanent() {
        let class = |error: russh::Error| from_russh(error).retry_class();
        assert_eq!(class(russh::Error::HUP), RetryClass::Temporary);
        assert_eq!(from_russh(russh::Error::KeepaliveTimeout).kind(), ErrorKind::TimedOut);
        let unknown = Error::permanent(ErrorKind::Denied, "the host key is unknown");
        assert_eq!(from_ssh(SshError::HostKey(unknown)).retry_class(), RetryClass::Permanent);
    }
}
