//! What SQLite and JSON say, as core's error.

use pushbutton_core::{Error, ErrorKind, Result};
use rusqlite::ErrorCode;

/// What a piece of work on the connection may fail with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Core(#[from] Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Sqlite(error) => classify(error),
            Fault::Json(error) => {
                Error::permanent(ErrorKind::Invalid, "a record in the file cannot be read").because(error)
            }
            Fault::Core(error) => error,
        }
    }
}

/// Kind and retry class of SQLite's result codes (sqlite.org/rescode.html).
fn classify(error: rusqlite::Error) -> Error {
    use ErrorCode::*;
    use ErrorKind as Kind;
    let permanent = |kind, text: &'static str| Error::permanent(kind, text);
    let temporary = |kind, text: &'static str| Error::temporary(kind, text);
    let classed = match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked) => {
            temporary(Kind::TimedOut, "another process is using the file and did not let go in time")
        }
        Some(DiskFull) => temporary(Kind::Exhausted, "no room left: free some disk space"),
        Some(SystemIoFailure) => temporary(Kind::Local, "the disk failed to read or write the file"),
        Some(OutOfMemory) => temporary(Kind::Exhausted, "out of memory"),
        Some(ReadOnly | PermissionDenied) => permanent(
            Kind::Denied,
            "the file cannot be written: make it and its folder writable for this user, or choose another",
        ),
        Some(CannotOpen) => permanent(
            Kind::NotFound,
            "the file cannot be opened: its folder must exist and be writable for this user",
        ),
        Some(NotADatabase) => {
            permanent(Kind::Invalid, "this is not a SQLite file: move it away or choose another path")
        }
        Some(DatabaseCorrupt) => permanent(
            Kind::Local,
            "the file is damaged: restore it, or save what can be saved with `sqlite3 FILE .recover`",
        ),
        _ => permanent(Kind::Unexpected, "the database refused a statement"),
    };
    classed.because(error)
}

/// The answer when the thread that owns the connection is no more.
pub(crate) fn ended<T>() -> Result<T> {
    Err(Error::permanent(ErrorKind::Unexpected, "the store's thread has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::RetryClass;
    use rusqlite::Connection;

    fn refused(prepare: &str) -> Error {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (x TEXT)").unwrap();
        connection.execute_batch(prepare).unwrap();
        Fault::from(connection.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err()).into()
    }

    #[test]
    fn a_full_disk_may_pass() {
        let error = refused("PRAGMA max_page_count = 3");
        assert_eq!(
            (error.kind(), error.retry_class()),
            (ErrorKind::Exhausted, RetryClass::Temporary),
            "{error:?}"
        );
    }

    #[test]
    fn a_file_that_may_not_be_written_stays_so() {
        let error = refused("PRAGMA query_only = ON");
        assert_eq!(
            (error.kind(), error.retry_class()),
            (ErrorKind::Denied, RetryClass::Permanent),
            "{error:?}"
        );
    }

    #[test]
    fn what_sqlite_said_is_kept() {
        let connection = Connection::open_in_memory().unwrap();
        let error: Error = Fault::from(connection.execute_batch("SELEC 1").unwrap_err()).into();
        assert_eq!(error.kind(), ErrorKind::Unexpected);
        assert!(format!("{error:?}").contains("syntax error"), "{error:?}");
    }
}
