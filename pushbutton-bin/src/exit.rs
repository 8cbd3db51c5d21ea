//! Exit codes by name. The numbers are part of the interface: scripts and service managers depend on them.

use std::process::ExitCode;

use pushbutton_core::{Error, ErrorKind};

use crate::config::ConfigErrors;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Success; also a graceful shutdown.
    Ok = 0,
    /// A failure that has no code of its own.
    Unexpected = 1,
    /// The command line or the configuration is wrong: nothing was started. clap uses the same number.
    Usage = 2,
    /// A server could not be reached, or did not answer in time.
    Unreachable = 3,
    /// A server refused the login, key, token or permission; or its host key is not the known one.
    Denied = 4,
    /// `check` or `lint` found something to fix, or a run of `run --recorded` did not succeed.
    NotOk = 5,
    /// The change, patch set or job that was named does not exist.
    NotFound = 6,
    /// Shut down by a second signal; running jobs returned to the queue. 128 + SIGINT, as in shells.
    Interrupted = 130,
}

/// The codes, as the help shows them.
pub(crate) const HELP: &str = "\
Exit codes:
    0  success, or a graceful shutdown (SIGINT or SIGTERM)
    1  an unexpected failure
    2  the command line or the configuration is wrong; nothing was started
    3  a server could not be reached
    4  a server refused the login, or showed the wrong host key
    5  `check` or `lint` found something to fix, or a run of `run --recorded` did not succeed
    6  the change, patch set or job does not exist
  130  shut down by a second signal; running jobs returned to the queue";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The code of an error that ends the command: that of the first cause that has one.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(|cause| {
                if cause.is::<ConfigErrors>() {
                    return Some(Self::Usage);
                }
                cause.downcast_ref::<Error>().map(|error| Self::of_kind(error.kind()))
            })
            .unwrap_or(Self::Unexpected)
    }

    fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Config | ErrorKind::Invalid => Self::Usage,
            ErrorKind::Unreachable | ErrorKind::TimedOut => Self::Unreachable,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Cancelled => Self::Interrupted,
            _ => Self::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_has_its_code_through_any_context() {
        let error = |kind| Err::<(), _>(Error::permanent(kind, "x")).context("while starting").unwrap_err();
        assert_eq!(Exit::of(&error(ErrorKind::Denied)), Exit::Denied);
        assert_eq!(Exit::of(&error(ErrorKind::Unreachable)), Exit::Unreachable);
        assert_eq!(Exit::of(&error(ErrorKind::Local)), Exit::Unexpected);
        assert_eq!(Exit::of(&anyhow::anyhow!("x")), Exit::Unexpected);
    }

    #[test]
    fn the_help_names_every_code() {
        use Exit::*;
        for exit in [Ok, Unexpected, Usage, Unreachable, Denied, NotOk, NotFound, Interrupted] {
            let number = format!("{:>5}  ", exit as u8);
            assert!(HELP.lines().any(|line| line.starts_with(&number)), "{exit:?}");
        }
    }
}
