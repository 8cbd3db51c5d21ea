use std::borrow::Cow;
use std::io;
use std::path::Path;

use pushbutton_core::{Error, ErrorKind};

/// An error of the local machine (a file, a folder, a process) while a stage runs. It is temporary whatever it is: the
/// operator's host must be fixed, and the job can run there later or on another operator.
pub(crate) fn local(error: io::Error, message: &'static str, path: &Path) -> Error {
    Error::temporary(ErrorKind::Local, message)
        .with("path", path.display())
        .with("reason", &error)
        .because(error)
}

/// Maps an error of the local machine at the start of the program to its kind and retry class.
pub(crate) fn startup(error: io::Error, message: &'static str, path: &Path) -> Error {
    use io::ErrorKind as Io;
    let mapped = match error.kind() {
        Io::NotFound => Error::permanent(ErrorKind::NotFound, message),
        Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::NotADirectory | Io::IsADirectory => {
            Error::permanent(ErrorKind::Local, message)
        }
        // A full disk, a quota, no free file handles or processes: these can pass by themselves.
        _ => Error::temporary(ErrorKind::Local, message),
    };
    mapped.with("path", path.display()).with("reason", &error).because(error)
}

/// An error of the configuration. The message says what to fix.
pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Error {
    Error::permanent(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_temporary_and_a_missing_permission_is_permanent() {
        let is_temporary =
            |kind: io::ErrorKind| startup(kind.into(), "cannot write", Path::new("x")).is_temporary();
        assert!(is_temporary(io::ErrorKind::StorageFull));
        assert!(is_temporary(io::Error::from_raw_os_error(24).kind()), "EMFILE");
        assert!(!is_temporary(io::ErrorKind::PermissionDenied));
        assert!(!is_temporary(io::ErrorKind::NotFound));
    }

    /// Issue 10, V7: a broken host is never the patch's fault, and does not move jobs to the dead letters.
    #[test]
    fn while_a_stage_runs_every_error_of_the_local_machine_is_temporary() {
        for errno in [2, 12, 13, 24, 28, 30] {
            let error = local(io::Error::from_raw_os_error(errno), "cannot write", Path::new("x"));
            assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Local, true), "{errno}");
        }
    }

    #[test]
    fn the_message_names_the_path() {
        let error = local(io::ErrorKind::StorageFull.into(), "cannot write", Path::new("a/b"));
        assert_eq!(error.to_string(), "cannot write (path=a/b, reason=no storage space)");
    }
}
