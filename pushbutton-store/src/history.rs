//! The run history: a reporter that records every step of a run, and the answers from what it has recorded.

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{
    ControlMessage, DeliveryRecord, FailureCount, FailureQuery, HistoryEntry, HistoryLog, HistoryReplica,
    ParticipantRecord, Reporter, Result, RunHistory, RunId, RunRecord, Update, UpdateKind, Verdict,
};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::Store;
use crate::column::{Json, Millis};
use crate::error::StoreError;
use crate::skipped::Skipped;

/// Kinds of entries that are no runs, as in the table.
const CONTROL: &str = "control";
const DELIVERY: &str = "delivery";
const PARTICIPANT: &str = "participant";

/// How many participants are listed, at most: each process is one.
const MAX_PARTICIPANTS: usize = 200;

/// The history in this file: runs, control messages, deliveries and participants. As a [`Reporter`] it records runs and
/// stages, not lines of output. Entries are deleted after [`StoreConfig::keep_runs`](crate::StoreConfig::keep_runs), and
/// when there are more than [`StoreConfig::max_runs`](crate::StoreConfig::max_runs) of one kind.
#[derive(Debug, Clone)]
pub struct StoreHistory(pub(crate) Store);

impl StoreHistory {
    /// The latest entries of one kind that is not a run, the newest first. One that cannot be read, such as that of a
    /// newer version, is left out.
    async fn newest(
        &self,
        operation: &'static str,
        kind: &'static str,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = move |connection: &mut Connection| {
            let sql = "SELECT entry FROM history WHERE kind = ? ORDER BY at DESC, key LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![kind, limit], |row| row.get::<_, String>(0))?;
            let texts = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
        };
        self.0.call(operation, read).await
    }
}

#[async_trait]
impl RunHistory for StoreHistory {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        let read = move |connection: &mut Connection| readable(connection, RECENT, &[], limit, |_| true);
        self.0.call("history::recent", read).await
    }

    async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        let read = |connection: &mut Connection| {
            let sql = "SELECT verdict, count(*) FROM runs WHERE verdict IS NOT NULL GROUP BY verdict ORDER BY verdict";
            let mut statement = connection.prepare_cached(sql)?;
            let counts =
                statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            Ok(counts.collect::<rusqlite::Result<_>>()?)
        };
        self.0.call("history::verdicts", read).await
    }

    async fn last_success(&self) -> Result<Option<Timestamp>> {
        let read = |connection: &mut Connection| {
            let sql = "SELECT max(ended_at) FROM runs WHERE verdict = ?";
            let verdict = Verdict::Success.result();
            let last: Option<Millis> = connection.query_row(sql, params![verdict], |row| row.get(0))?;
            Ok(last.map(|at| at.0))
        };
        self.0.call("history::last_success", read).await
    }

    async fn failure_counts(&self, query: &FailureQuery) -> Result<Vec<FailureCount>> {
        let query = query.clone();
        let read = move |connection: &mut Connection| {
            let limit = query.runs as usize;
            let runs =
                readable(connection, OF_JOB, &[&query.job.as_str()], limit, |record| query.includes(record))?;
            Ok(query.count(&runs))
        };
        self.0.call("history::failure_counts", read).await
    }

    async fn find_run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let run = run.clone();
        self.0.call("history::find_run", move |connection| load(connection, &run)).await
    }

    async fn actions(&self, limit: usize) -> Result<Vec<ControlMessage>> {
        let entries = self.newest("history::actions", CONTROL, limit).await?;
        Ok(entries
            .into_iter()
            .filter_map(|entry| match entry {
                HistoryEntry::Control { message } => Some(message),
                _ => None,
            })
            .collect())
    }

    async fn deliveries(&self, limit: usize) -> Result<Vec<DeliveryRecord>> {
        let entries = self.newest("history::deliveries", DELIVERY, limit).await?;
        Ok(entries
            .into_iter()
            .filter_map(|entry| match entry {
                HistoryEntry::Delivery { delivery } => Some(delivery),
                _ => None,
            })
            .collect())
    }

    async fn participants(&self) -> Result<Vec<ParticipantRecord>> {
        let entries = self.newest("history::participants", PARTICIPANT, MAX_PARTICIPANTS).await?;
        Ok(entries
            .into_iter()
            .filter_map(|entry| match entry {
                HistoryEntry::Participant { participant } => Some(*participant),
                _ => None,
            })
            .collect())
    }
}

#[async_trait]
impl HistoryLog for StoreHistory {
    async fn append(&self, entry: HistoryEntry) -> Result<()> {
        let write = move |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            take_over(&transaction, &entry)?;
            Ok(transaction.commit()?)
        };
        self.0.call("history::append", write).await
    }

    /// Nothing is kept back: what cannot be written is an error.
    fn dropped(&self) -> u64 {
        0
    }
}

#[async_trait]
impl HistoryReplica for StoreHistory {
    async fn feed_position(&self, feed: &str) -> Result<Option<String>> {
        let feed = feed.to_owned();
        let read = move |connection: &mut Connection| {
            let sql = "SELECT position FROM history_feeds WHERE feed = ?";
            Ok(connection.query_row(sql, params![feed], |row| row.get(0)).optional()?)
        };
        self.0.call("history::feed_position", read).await
    }

    async fn apply(&self, feed: &str, entries: Vec<HistoryEntry>, position: &str) -> Result<()> {
        let (feed, position) = (feed.to_owned(), position.to_owned());
        let write = move |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for entry in &entries {
                take_over(&transaction, entry)?;
            }
            let sql = "INSERT OR REPLACE INTO history_feeds (feed, position) VALUES (?, ?)";
            transaction.execute(sql, params![feed, position])?;
            Ok(transaction.commit()?)
        };
        self.0.call("history::apply", write).await
    }
}

#[async_trait]
impl Reporter for StoreHistory {
    async fn report(&self, update: &Update) -> Result<()> {
        // Lines come by the thousand and are in the run's log. Without a run there is nothing to record.
        let Some(run) = update.run.clone() else { return Ok(()) };
        if matches!(update.kind, UpdateKind::Line { .. } | UpdateKind::Queued) {
            return Ok(());
        }
        let update = update.clone();
        self.0.call("history::report", move |connection| record(connection, &run, &update)).await
    }

    fn name(&self) -> &str {
        "history"
    }
}

/// The newest runs first, in the order of an index: rows are read until there are enough.
const RECENT: &str = "SELECT run, record FROM runs ORDER BY started_at DESC, run DESC";
/// Those of one job that have ended, by the expression of the index `runs_name`.
const OF_JOB: &str = "SELECT run, record FROM runs
    WHERE CASE WHEN json_valid(record) THEN record ->> '$.job.name' END = ? AND verdict IS NOT NULL
    ORDER BY started_at DESC, run DESC";

/// The first runs that match, at most `limit`.
fn readable(
    connection: &Connection,
    sql: &str,
    arguments: &[&dyn ToSql],
    limit: usize,
    matches: impl Fn(&RunRecord) -> bool,
) -> Result<Vec<RunRecord>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let (mut rows, mut runs) = (statement.query(arguments)?, Vec::new());
    let mut skipped = Skipped::default();
    while runs.len() < limit {
        let Some(row) = rows.next()? else { break };
        let record = skipped.readable(row, row.get::<_, Json<RunRecord>>(1));
        runs.extend(record.map(|record| record.0).filter(&matches));
    }
    skipped.warn("runs");
    Ok(runs)
}

/// Applies an update to the run's record. A run that has ended is not changed again, so an update that is reported
/// twice counts once.
fn record(connection: &mut Connection, run: &RunId, update: &Update) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut record = match load_readable(&transaction, run)? {
        Some(record) if record.ended.is_some() => return Ok(()),
        Some(record) => record,
        None => {
            end_lost_runs(&transaction, update.job.id.as_str(), None, |record| {
                record.end_as_lost(update.at)
            })?;
            RunRecord::begun_by(run, update)
        }
    };
    record.apply(update);
    save(&transaction, &record)?;
    Ok(transaction.commit()?)
}

/// Takes over what somebody has appended, as a part of the caller's transaction.
fn take_over(connection: &Connection, entry: &HistoryEntry) -> Result<(), StoreError> {
    let kind = match entry {
        HistoryEntry::Run { record } => return take_over_run(connection, record),
        HistoryEntry::Control { .. } => CONTROL,
        HistoryEntry::Delivery { .. } => DELIVERY,
        HistoryEntry::Participant { .. } => PARTICIPANT,
        // Of a newer version.
        _ => return Ok(()),
    };
    let sql = "INSERT INTO history (kind, key, at, entry) VALUES (?, ?, ?, ?) ON CONFLICT (kind, key)
               DO UPDATE SET at = excluded.at, entry = excluded.entry WHERE excluded.at >= at";
    connection.prepare_cached(sql)?.execute(params![kind, entry.key(), Millis(entry.at()), Json(entry)])?;
    Ok(())
}

fn take_over_run(connection: &Connection, record: &RunRecord) -> Result<(), StoreError> {
    match load_readable(connection, &record.run)? {
        Some(known) if !record.is_news_to(&known) => return Ok(()),
        Some(_) => {}
        // It may be an old one that is read late: only runs that began before it can be lost.
        None => {
            let lost = |older: &mut RunRecord| older.end_as_lost(record.started);
            end_lost_runs(connection, record.job.id.as_str(), Some(record.started), lost)?;
        }
    }
    save(connection, record)
}

/// A control message, as a part of the caller's transaction.
pub(crate) fn take_over_control(connection: &Connection, message: &ControlMessage) -> Result<(), StoreError> {
    match message.is_action() {
        true => take_over(connection, &HistoryEntry::Control { message: message.clone() }),
        false => Ok(()),
    }
}

/// A job has one run at a time: an older one that is still open has lost its operator.
fn end_lost_runs(
    connection: &Connection,
    job: &str,
    began_before: Option<Timestamp>,
    end: impl Fn(&mut RunRecord),
) -> Result<(), StoreError> {
    let sql = "SELECT run, record FROM runs
               WHERE job_id = ?1 AND ended_at IS NULL AND (?2 IS NULL OR started_at < ?2)";
    let before = began_before.map(Millis);
    for mut record in readable(connection, sql, &[&job, &before], usize::MAX, |_| true)? {
        end(&mut record);
        save(connection, &record)?;
    }
    Ok(())
}

/// Ends the runs of a job that became a dead letter without its operator's word, as a part of the caller's transaction.
pub(crate) fn end_runs_of_dead_letter(
    connection: &Connection,
    job: &str,
    at: i64,
    why: &str,
) -> Result<(), StoreError> {
    let at = Timestamp::from_millisecond(at).unwrap_or_default();
    end_lost_runs(connection, job, None, |record| record.end_without_verdict(at, why))
}

/// The record, if it can be read. One that cannot is written anew: otherwise it would hold up a feed for good.
fn load_readable(connection: &Connection, run: &RunId) -> Result<Option<RunRecord>, StoreError> {
    Ok(readable(connection, "SELECT run, record FROM runs WHERE run = ?", &[&run.as_str()], 1, |_| true)?
        .pop())
}

fn load(connection: &Connection, run: &RunId) -> Result<Option<RunRecord>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT record FROM runs WHERE run = ?")?;
    Ok(statement.query_row(params![run.as_str()], |row| Ok(row.get::<_, Json<_>>(0)?.0)).optional()?)
}

fn save(connection: &Connection, record: &RunRecord) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO runs (run, job_id, started_at, ended_at, verdict, record)
               VALUES (?, ?, ?, ?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![
        record.run.as_str(),
        record.job.id.as_str(),
        Millis(record.started),
        record.ended.map(Millis),
        record.verdict.as_ref().map(Verdict::result),
        Json(record),
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{MIGRATIONS, migrate};
    use pushbutton_core::samples;

    #[test]
    fn runs_are_read_in_the_order_of_an_index_and_those_of_one_job_are_searched() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let plan = |sql: &str, arguments: &[&dyn ToSql]| -> Vec<String> {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            explain.query_map(arguments, |row| row.get(3)).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(plan(OF_JOB, &[&"tempest"]), ["SEARCH runs USING INDEX runs_name (<expr>=?)"]);
        assert_eq!(plan(RECENT, &[]), ["SCAN runs USING INDEX runs_started"]);
    }

    /// SQLite itself refuses to write a record that is not JSON. A disk does not.
    #[test]
    fn records_whose_bytes_are_damaged_hide_no_others_and_prevent_no_migration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.db");
        let open = |migrations| {
            let mut connection = Connection::open(&file).unwrap();
            migrate(&mut connection, migrations).unwrap();
            connection
        };
        let record = |seconds| {
            let at = samples::AT + jiff::SignedDuration::from_secs(seconds);
            RunRecord::new(RunId::generate(), samples::job("tempest"), 1, at)
        };
        let ended: Vec<_> =
            (0..3).map(|nth| record(nth).with_ended(samples::AT).with_verdict(Verdict::Success)).collect();
        let open_runs = [record(3), record(4)];
        let connection = open(&MIGRATIONS[..2]);
        for record in ended.iter().chain(&open_runs) {
            save(&connection, record).unwrap();
        }
        drop(connection);
        let damage = |record: &RunRecord| {
            let start = format!("{{\"run\":\"{}\"", record.run);
            let mut bytes = std::fs::read(&file).unwrap();
            let places: Vec<usize> =
                (0..bytes.len()).filter(|at| bytes[*at..].starts_with(start.as_bytes())).collect();
            assert!(!places.is_empty());
            // SQLite may have moved it: what it left behind is of no account.
            for place in places {
                bytes[place] = b'x';
            }
            std::fs::write(&file, bytes).unwrap();
        };
        damage(&ended[0]);
        drop(open(MIGRATIONS));
        damage(&ended[1]);
        damage(&open_runs[0]);
        let connection = open(MIGRATIONS);
        let all = |sql, arguments: &[&dyn ToSql]| {
            let runs = readable(&connection, sql, arguments, 10, |_| true).unwrap();
            runs.into_iter().map(|record| record.run).collect::<Vec<_>>()
        };
        assert_eq!(all(RECENT, &[]), [open_runs[1].run.clone(), ended[2].run.clone()]);
        assert_eq!(all(OF_JOB, &[&"tempest"]), [ended[2].run.clone()]);
        end_lost_runs(&connection, ended[0].job.id.as_str(), None, |record| record.end_as_lost(samples::AT))
            .unwrap();
        assert!(load(&connection, &open_runs[1].run).unwrap().unwrap().ended.is_some());
        // What comes later writes it anew.
        take_over_run(&connection, &open_runs[0]).unwrap();
        assert_eq!(load(&connection, &open_runs[0].run).unwrap(), Some(open_runs[0].clone()));
    }
}
