//! Retention: which rows are deleted, and when.

use std::time::Duration;

use pushbutton_core::Error;
use rusqlite::{Connection, params};

use crate::column::{millis, now};
use crate::error::StoreError;
use crate::outbox;

/// How often old rows are deleted.
const INTERVAL: Duration = Duration::from_secs(3600);

/// The queue's contract asks for a day; the rest covers a listener that reads its start late in it.
const KEEP_CONTROL_MESSAGES: Duration = Duration::from_secs(26 * 3600);

/// Seen events and completed jobs. Only events after the position are fetched again, which is minutes or hours old,
/// never a month.
const KEEP_IDS: Duration = Duration::from_secs(30 * 24 * 3600);

/// Processes that have ended, in whatever way, are of interest for a week.
const KEEP_PARTICIPANTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Deletes old rows now and then every hour.
pub(crate) async fn run(connection: tokio_rusqlite::Connection, keep_runs: Duration, max_runs: u32) {
    let mut timer = tokio::time::interval(INTERVAL);
    let mut is_first = true;
    loop {
        timer.tick().await;
        let hourly = move |connection: &mut Connection| {
            // Not at the start: after an outage the handler must first read the events again, and publish what is missing.
            let closed = if is_first { Ok(0) } else { outbox::close_abandoned(connection) };
            let rows = prune(connection, keep_runs, max_runs)?;
            Ok::<_, StoreError>(rows + closed?)
        };
        let done = connection.call(hourly).await;
        is_first = false;
        match done {
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
fn prune(connection: &Connection, keep_runs: Duration, max_runs: u32) -> Result<usize, StoreError> {
    let now = now();
    let mut rows = 0;
    for (sql, age) in [
        ("DELETE FROM control_messages WHERE at < ?", KEEP_CONTROL_MESSAGES),
        ("DELETE FROM seen_events WHERE at < ?", KEEP_IDS),
        ("DELETE FROM jobs WHERE state = 'done' AND ended_at < ?", KEEP_IDS),
        ("DELETE FROM runs WHERE started_at < ?", keep_runs),
        ("DELETE FROM history WHERE kind <> 'participant' AND at < ?", keep_runs),
        ("DELETE FROM history WHERE kind = 'participant' AND at < ?", KEEP_PARTICIPANTS.min(keep_runs)),
        ("DELETE FROM reports WHERE state = 'undelivered' AND ended_at < ?", keep_runs),
    ] {
        rows += connection.execute(sql, params![now.saturating_sub(millis(age))])?;
    }
    let too_many = "DELETE FROM runs WHERE run IN (SELECT run FROM runs ORDER BY started_at DESC, run DESC LIMIT -1 OFFSET ?)";
    rows += connection.execute(too_many, params![max_runs])?;
    for kind in ["control", "delivery", "participant"] {
        let too_many = "DELETE FROM history WHERE kind = ?1 AND key IN
                        (SELECT key FROM history WHERE kind = ?1 ORDER BY at DESC, key LIMIT -1 OFFSET ?2)";
        rows += connection.execute(too_many, params![kind, max_runs])?;
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
                "INSERT INTO history (kind, key, at, entry) VALUES ('control', ?1, ?2, '{}')",
            ] {
                connection.execute(sql, params![id, now() - age]).unwrap();
            }
        }
        prune(&connection, Duration::from_secs(30 * 24 * 3600), 100).unwrap();
        let left = |table: &str| -> i64 {
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        let counts = ["control_messages", "seen_events", "jobs", "resources", "runs", "history"].map(left);
        assert_eq!(counts, [1, 1, 3, 2, 1, 1]);
    }

    #[tokio::test]
    async fn abandoned_buildsets_are_closed_hourly_but_not_at_the_start() {
        use pushbutton_core::{Buildset, JobEnd, Queue, samples};
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.db");
        let mut connection = Connection::open(&file).unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let job = samples::job("tempest");
        let names = [job.name.clone(), "unit".parse().unwrap()];
        let job = job.clone().with_buildset(Buildset::of(&job.cause.event, names));
        let end = JobEnd::Finished { result: Box::new(samples::success(&job)) };
        outbox::end_job(&connection, &job, end).unwrap();
        connection
            .execute_batch("UPDATE buildsets SET at = 0; INSERT INTO seen_events VALUES ('old', 0)")
            .unwrap();
        let seen =
            || connection.query_row("SELECT count(*) FROM seen_events", [], |row| row.get::<_, i64>(0));
        let store = crate::Store::open(&file).await.unwrap();
        // The first round is over when it has deleted the old event.
        while seen().unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(store.queue().depth().await.unwrap().reports, 0, "the handler may publish the rest yet");
        tokio::time::pause();
        tokio::time::advance(INTERVAL).await;
        tokio::time::resume();
        let due = tokio::time::timeout(Duration::from_secs(20), store.queue().claim_report()).await;
        let due = due.expect("an hour later it is closed").unwrap();
        assert_eq!((&due.report().id, due.report().missing.len()), (&job.buildset.id, 1));
    }

    #[test]
    fn of_more_than_so_many_runs_and_actions_the_newest_are_kept() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        for n in 0..10 {
            let id = n.to_string();
            for sql in [
                "INSERT INTO runs (run, job_id, started_at, record) VALUES (?1, ?1, ?2, '{}')",
                "INSERT INTO history (kind, key, at, entry) VALUES ('control', ?1, ?2, '{}')",
                "INSERT INTO history (kind, key, at, entry) VALUES ('delivery', ?1, ?2, '{}')",
            ] {
                connection.execute(sql, params![id, now() + n]).unwrap();
            }
        }
        prune(&connection, Duration::from_secs(3600), 4).unwrap();
        let oldest = |sql: &str| -> (i64, String) {
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
        };
        assert_eq!(oldest("SELECT count(*), min(run) FROM runs"), (4, "6".into()));
        assert_eq!(oldest("SELECT count(*), min(key) FROM history WHERE kind = 'control'"), (4, "6".into()));
        assert_eq!(oldest("SELECT count(*), min(key) FROM history WHERE kind = 'delivery'"), (4, "6".into()));
    }
}
