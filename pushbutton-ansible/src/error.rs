use std::io;
use std::path::Path;

use pushbutton_core::{Error, ErrorKind};

/// What the local machine refused: a file, a folder, a process.
pub(crate) fn local(error: io::Error, doing: &'static str, path: &Path) -> Error {
    use io::ErrorKind as Io;
    let made = match error.kind() {
        Io::NotFound => Error::permanent(ErrorKind::NotFound, doing),
        Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::NotADirectory | Io::IsADirectory => {
            Error::permanent(ErrorKind::Local, doing)
        }
        // A full disk, a quota, no more file handles or processes: these pass, or a person makes them pass.
        _ => Error::temporary(ErrorKind::Local, doing),
    };
    made.with("path", path.display()).with("reason", &error).because(error)
}

/// Something in the configuration that cannot work; the message says what to do about it.
pub(crate) fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::permanent(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_may_pass_and_a_missing_right_does_not() {
        let class = |kind: io::ErrorKind| local(kind.into(), "cannot write", Path::new("x")).is_temporary();
        assert!(class(io::ErrorKind::StorageFull));
        assert!(class(io::Error::from_raw_os_error(24).kind()), "EMFILE");
        assert!(!class(io::ErrorKind::PermissionDenied));
        assert!(!class(io::ErrorKind::NotFound));
    }

    #[test]
    fn the_message_names_the_place() {
        let error = local(io::ErrorKind::StorageFull.into(), "cannot write", Path::new("a/b"));
        assert_eq!(error.to_string(), "cannot write (path=a/b, reason=no storage space)");
    }
}
