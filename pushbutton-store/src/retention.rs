//! Retention: which rows are deleted, and when.

use std::time::Duration;

use pushbutton_core::Error;
use rusqlite::{Connection, params};

use crate::column::{millis, now};
use crate::error::StoreError;

/// How often old rows are deleted.
const INTERVAL: Duration = Duration::from_secs(3600);

/// The queue's contract asks for a day; the rest covers a listener that reads its start late in it.
const KEEP_CONTROL_MESSAGES: Duration = Duration::from_secs(26 * 3600);

/// Seen events and completed jobs. Only events after the position are fetched again, which is minutes or hours old,
/// never a month.
const KEEP_IDS: Duration = Duration::from_secs(30 * 24 * 3600);

/// Deletes old rows now and then every hour.
pub(crate) async fn run(connection: tokio_rusqlite::Connection, keep_runs: Duration) {
    let mut timer = tokio::time::interval(INTERVAL);
    loop {
        timer.tick().await;
        match connection.call(move |connection| prune(connection, keep_runs)).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "deleted old rows"),
            Err(tokio_rusqlite::Error::Error(error)) => {
                tracing::warn!("cannot delete old rows, will retry in an hour: {}", Error::from(error));
            }
            Err(_) => return,
        }
    }
}

/// Deletes what is older than its retention time; returns how many rows. Unfinished runs too: no run lasts that long.
fn prune(connection: &Connection, keep_runs: Duration) -> Result<usize, StoreError> {
    let now = now();
    let mut rows = 0;
    for (sql, age) in [
        ("DELETE FROM control_messages WHERE at < ?", KEEP_CONTROL_MESSAGES),
        ("DELETE FROM seen_events WHERE at < ?", KEEP_IDS),
        ("DELETE FROM jobs WHERE state = 'done' AND ended_at < ?", KEEP_IDS),
        ("DELETE FROM runs WHERE started_at < ?", keep_runs),
        ("DELETE FROM reports WHERE state = 'undelivered' AND ended_at < ?", keep_runs),
    ] {
        rows += connection.execute(sql, params![now.saturating_sub(millis(age))])?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{MIGRATIONS, migrate};

    #[test]
    fn old_rows_are_deleted_and_young_rows_dead_letters_and_open_journal_entries_stay() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let day = 24 * 3600 * 1000;
        for (id, age) in [("old", 31 * day), ("young", day / 2)] {
            for sql in [
                "INSERT INTO control_messages (message, at) VALUES (?1, ?2)",
                "INSERT INTO seen_events VALUES (?1, ?2)",
                "INSERT INTO jobs (id, name, state, ended_at) VALUES ('done ' || ?1, '', 'done', ?2)",
                "INSERT INTO jobs (id, name, state, ended_at) VALUES ('dead ' || ?1, '', 'dead', ?2)",
                "INSERT INTO resources (run, kind, name, at) VALUES (?1, 'server', 's', ?2)",
                "INSERT INTO runs (run, job_id, started_at, record) VALUES (?1, ?1, ?2, '{}')",
            ] {
                connection.execute(sql, params![id, now() - age]).unwrap();
            }
        }
        prune(&connection, Duration::from_secs(30 * 24 * 3600)).unwrap();
        let left = |table: &str| -> i64 {
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        let counts = ["control_messages", "seen_events", "jobs", "resources", "runs"].map(left);
        assert_eq!(counts, [1, 1, 3, 2, 1]);
    }
}
