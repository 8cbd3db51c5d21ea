//! SQLite's errors as core's error.

use pushbutton_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Why a piece of work on the connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Core(#[from] Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Sqlite(error) => classify(error),
            StoreError::Core(error) => error,
        }
    }
}

/// Kind and retry class of SQLite's result codes (sqlite.org/rescode.html).
fn classify(error: rusqlite::Error) -> Error {
    use ErrorCode::*;
    use ErrorKind as Kind;
    let permanent = |kind, text: &'static str| Error::permanent(kind, text);
    let temporary = |kind, text: &'static str| Error::temporary(kind, text);
    let classified = match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked) => {
            temporary(Kind::TimedOut, "another process is using the file and kept it locked for too long")
        }
        Some(DiskFull) => temporary(Kind::Exhausted, "the disk is full: free some space"),
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
            "the file is damaged: restore a backup, or recover rows with `sqlite3 FILE .recover`",
        ),
        None if matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) => {
            permanent(Kind::Invalid, "a record in the file cannot be read")
        }
        _ => permanent(Kind::Unexpected, "the database refused a statement"),
    };
    classified.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::Text;
    use pushbutton_core::{JobName, RetryClass};
    use rusqlite::Connection;

    fn refused(prepare: &str) -> Error {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (x TEXT)").unwrap();
        connection.execute_batch(prepare).unwrap();
        StoreError::from(connection.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err())
            .into()
    }

    #[test]
    fn a_full_disk_is_temporary() {
        let error = refused("PRAGMA max_page_count = 3");
        let found = (error.kind(), error.retry_class());
        assert_eq!(found, (ErrorKind::Exhausted, RetryClass::Temporary), "{error:?}");
    }

    #[test]
    fn a_file_that_may_not_be_written_is_permanent() {
        let error = refused("PRAGMA query_only = ON");
        let found = (error.kind(), error.retry_class());
        assert_eq!(found, (ErrorKind::Denied, RetryClass::Permanent), "{error:?}");
    }

    #[test]
    fn an_unreadable_record_is_permanent_and_says_what_is_wrong() {
        let connection = Connection::open_in_memory().unwrap();
        let read = connection.query_row("SELECT '/'", [], |row| row.get::<_, Text<JobName>>(0).map(|_| ()));
        let error: Error = StoreError::from(read.unwrap_err()).into();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Invalid, false), "{error:?}");
        assert!(format!("{error:?}").contains("name"), "{error:?}");
    }

    #[test]
    fn the_message_of_sqlite_is_kept() {
        let connection = Connection::open_in_memory().unwrap();
        let error: Error = StoreError::from(connection.execute_batch("SELEC 1").unwrap_err()).into();
        assert_eq!(error.kind(), ErrorKind::Unexpected);
        assert!(format!("{error:?}").contains("syntax error"), "{error:?}");
    }
}
