//! What is forgotten, and when.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::error::Fault;
use crate::store::now;

/// The contract says a day at least; the rest covers a listener that starts late in it.
const KEEP_NOTICES: Duration = Duration::from_secs(26 * 3600);

/// Seen events and completed jobs. Gerrit is asked for what came after the position, which is minutes or hours old, never a month.
const KEEP_IDENTITIES: Duration = Duration::from_secs(30 * 24 * 3600);

/// Forgets what nobody will ask for; returns how many rows went.
pub(crate) fn prune(connection: &Connection, keep_runs: Duration) -> Result<usize, Fault> {
    let before = |age: Duration| now().saturating_sub(millis(age));
    let notices = connection.execute("DELETE FROM notices WHERE at < ?", params![before(KEEP_NOTICES)])?;
    let seen = connection.execute("DELETE FROM seen WHERE at < ?", params![before(KEEP_IDENTITIES)])?;
    let done = connection.execute(
        "DELETE FROM jobs WHERE state = 'done' AND ended_at < ?",
        params![before(KEEP_IDENTITIES)],
    )?;
    Ok(notices + seen + done + prune_runs(connection, before(keep_runs))?)
}

/// Forgets runs that began before this, with their stages. An unfinished one, too: no run lasts that long.
pub(crate) fn prune_runs(connection: &Connection, before: i64) -> Result<usize, Fault> {
    Ok(connection.execute("DELETE FROM runs WHERE started_at < ?", params![before])?)
}

/// Whole milliseconds, as the tables count time.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::migrate;

    #[test]
    fn old_rows_go_and_young_ones_dead_letters_and_open_entries_stay() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let day = 24 * 3600 * 1000;
        for (id, age) in [("old", 31 * day), ("young", day / 2)] {
            let at = now() - age;
            let run = "INSERT INTO runs (run, job_id, name, project, target, job, attempt, state, started_at)
                       VALUES (?1, ?1, '', '', '', '', 1, '', ?2)";
            for sql in [
                "INSERT INTO notices (notice, at) VALUES (?1, ?2)",
                "INSERT INTO seen VALUES (?1, ?2)",
                "INSERT INTO jobs (id, state, ended_at) VALUES ('done ' || ?1, 'done', ?2)",
                "INSERT INTO jobs (id, state, ended_at) VALUES ('dead ' || ?1, 'dead', ?2)",
                "INSERT INTO resources (run, kind, name, at) VALUES (?1, 'server', 's', ?2)",
                run,
            ] {
                connection.execute(sql, params![id, at]).unwrap();
            }
        }
        prune(&connection, Duration::from_secs(30 * 24 * 3600)).unwrap();
        let left = |table: &str| -> i64 {
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        let counts = ["notices", "seen", "jobs", "resources", "runs"].map(left);
        assert_eq!(counts, [1, 1, 3, 2, 1]);
    }
}
