//! The tables, and the migrations that make them. The file's `application_id` says that it is ours, its
//! `user_version` which tables it has.
//!
//! Not `rusqlite_migration`: it reads the version before its transaction begins, so that of two processes that open a
//! new file one fails; and it would migrate another program's file.

use pushbutton_core::{Error, ErrorKind};
use rusqlite::{Connection, TransactionBehavior};

use crate::error::StoreError;

/// Each brings a file from the version of its index to the next. Never change one that was released: add another.
pub(crate) const MIGRATIONS: &[&str] =
    &[include_str!("schema.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// "PBTN".
const APPLICATION: i64 = 0x5042_544E;

/// Applies the migrations that the file does not have. Refuses files of other programs and of newer versions.
pub(crate) fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), StoreError> {
    // Immediate: of two processes that open a new file, the second waits here and then finds it migrated.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i64 = transaction.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = application == 0 && version == 0 && tables == 0;
    if !is_new && application != APPLICATION {
        return Err(refuse("this SQLite file belongs to another program: choose another path"));
    }
    let newest = migrations.len() as u32;
    if version > newest {
        return Err(refuse(format!(
            "the file has schema version {version}, and this pushbutton knows versions up to {newest}: \
             run the newer pushbutton that wrote it, or choose another file"
        )));
    }
    for (from, migration) in migrations.iter().enumerate().skip(version as usize) {
        transaction.execute_batch(migration)?;
        tracing::info!(from, to = from + 1, "migrated the store");
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", newest)?;
    Ok(transaction.commit()?)
}

fn refuse(why: impl Into<std::borrow::Cow<'static, str>>) -> StoreError {
    Error::permanent(ErrorKind::Config, why).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_is_migrated_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        connection.execute("INSERT INTO seen_events VALUES ('e', 1)", []).unwrap();
        let newer = [MIGRATIONS, &["ALTER TABLE seen_events ADD COLUMN extra TEXT"]].concat();
        // The second time there is nothing left to do.
        for _ in 0..2 {
            migrate(&mut connection, &newer).unwrap();
            let row: (String, Option<String>) = connection
                .query_row("SELECT event, extra FROM seen_events", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            assert_eq!(row, ("e".into(), None));
        }
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = Error::from(migrate(&mut connection, MIGRATIONS).unwrap_err());
        assert!(error.to_string().contains("knows versions up to"), "{error}");
        assert!(!error.is_temporary());
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, 99);
    }

    #[test]
    fn another_programs_file_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
        let error = Error::from(migrate(&mut connection, MIGRATIONS).unwrap_err());
        assert!(error.to_string().contains("another program"), "{error}");
    }
}
