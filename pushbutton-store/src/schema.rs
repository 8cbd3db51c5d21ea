//! The tables, and how a file comes to have them.

use pushbutton_core::{Error, ErrorKind};
use rusqlite::{Connection, TransactionBehavior};

use crate::error::Fault;

/// Each brings a file from the version of its index to the next. Never change one that was released: add another.
const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/0001_queue.sql"),
    include_str!("../migrations/0002_history.sql"),
    include_str!("../migrations/0003_lease_run.sql"),
];

/// The schema's version that this crate reads and writes (SQLite's `user_version`).
pub const VERSION: u32 = MIGRATIONS.len() as u32;

/// Marks a SQLite file as ours: "PBTN" (SQLite's `application_id`).
const APPLICATION: i64 = 0x5042_544E;

/// Refuses foreign and newer files, and brings older and empty ones to [`VERSION`].
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    // Immediate: of two processes that open a new file, one migrates and the other then finds it done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i64 = transaction.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = application == 0 && version == 0 && tables == 0;
    if !is_new && application != APPLICATION {
        return Err(refuse("this SQLite file belongs to another program: choose another path").into());
    }
    if version > VERSION {
        let text = format!(
            "the file has schema version {version}, and this pushbutton knows versions up to {VERSION}: \
             run the newer pushbutton that wrote it, or choose another file"
        );
        return Err(refuse(text).into());
    }
    for (from, migration) in MIGRATIONS.iter().enumerate().skip(version as usize) {
        transaction.execute_batch(migration)?;
        tracing::info!(from, to = from + 1, "migrated the store");
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

fn refuse(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::permanent(ErrorKind::Config, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as version 1 left it, with a job and a seen event.
    fn version_1() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "application_id", APPLICATION).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection
            .execute_batch(
                "INSERT INTO jobs (id, state, job) VALUES ('a', 'ready', '{}'); INSERT INTO seen VALUES ('e', 1)",
            )
            .unwrap();
        connection
    }

    fn count(connection: &Connection, table: &str) -> i64 {
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_file_is_migrated_and_keeps_what_it_holds() {
        let mut connection = version_1();
        migrate(&mut connection).unwrap();
        assert_eq!(
            (count(&connection, "jobs"), count(&connection, "seen"), count(&connection, "runs")),
            (1, 1, 0)
        );
        migrate(&mut connection).unwrap();
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let mut connection = version_1();
        connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        let error = Error::from(migrate(&mut connection).unwrap_err());
        assert!(error.to_string().contains("knows versions up to"), "{error}");
        assert!(!error.is_temporary());
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, VERSION + 1);
    }

    #[test]
    fn another_programs_file_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
        let error = Error::from(migrate(&mut connection).unwrap_err());
        assert!(error.to_string().contains("another program"), "{error}");
    }
}
