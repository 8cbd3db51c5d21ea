//! The connection to the file, and how it is set up.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use crate::error::Fault;
use crate::{StoreConfig, schema};

/// The WAL file is cut back to this after a checkpoint.
const WAL_LIMIT: i64 = 16 << 20;

/// Changes when another connection has written (SQLite's `data_version`). None when it cannot be read: the next look will tell.
pub(crate) fn data_version(connection: &Connection) -> Option<i64> {
    connection
        .prepare_cached("PRAGMA data_version")
        .and_then(|mut ask| ask.query_row([], |row| row.get(0)))
        .ok()
}

/// Opens the file, makes it ours, and chooses how it is written.
pub(crate) fn connect(config: &StoreConfig) -> Result<Connection, Fault> {
    // Without URIs: the path is a path, whatever it looks like.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&config.file, flags)?;
    connection.busy_timeout(config.lock_wait.into())?;
    // FULL syncs the WAL at each commit: with NORMAL, a power cut could take back a job whose `publish` said durable.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    // Before WAL: a file that is not ours is left as it is.
    schema::migrate(&mut connection)?;
    use_wal(&connection, config.lock_wait.into())?;
    Ok(connection)
}

/// Readers and the writer do not block each other in WAL mode, and a commit syncs once.
fn use_wal(connection: &Connection, patience: Duration) -> Result<(), Fault> {
    let started = Instant::now();
    loop {
        let set = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match set {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                tracing::warn!(mode, "this file system cannot do WAL; the store will be slower");
                return Ok(());
            }
            // SQLite does not wait by itself here when two processes turn WAL on at once.
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && started.elapsed() < patience =>
            {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_one_sync_of_the_wal() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connect(&StoreConfig::new(folder.path().join("x.db"))).unwrap();
        let ask = |name| {
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0))
        };
        assert_eq!(ask("journal_mode").unwrap(), "wal".to_owned().into());
        assert_eq!(ask("synchronous").unwrap(), 2.into(), "2 is FULL");
    }
}
