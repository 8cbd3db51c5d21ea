//! The run history: a reporter that records every step of a run, and the answers from what it has recorded.

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::history::{FailureCount, FailureQuery, RunHistory, RunRecord};
use pushbutton_core::{Reporter, Result, RunId, Update, UpdateKind, Verdict};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::Store;
use crate::column::{Json, Millis};
use crate::error::StoreError;

/// The reason of a run whose operator died.
const LOST: &str = "its operator stopped without a report, and the job was claimed again";

/// The runs in this file. As a [`Reporter`] it records runs and stages, not lines of output; runs are deleted after
/// [`StoreConfig::keep_runs`](crate::StoreConfig::keep_runs).
#[derive(Debug, Clone)]
pub struct StoreHistory(pub(crate) Store);

impl StoreHistory {
    /// One run.
    ///
    /// # Errors
    /// As any access to the file.
    pub async fn run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let run = run.clone();
        self.0.call("history::run", move |connection| load(connection, &run)).await
    }
}

#[async_trait]
impl RunHistory for StoreHistory {
    async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = move |connection: &mut Connection| {
            let sql = "SELECT record FROM runs ORDER BY started_at DESC, run DESC LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let records = statement.query_map(params![limit], |row| Ok(row.get::<_, Json<_>>(0)?.0))?;
            Ok(records.collect::<rusqlite::Result<_>>()?)
        };
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
            // The index of the starts gives the order; rows are read until there are enough.
            let sql = "SELECT record FROM runs WHERE name = ? AND change <> ? AND verdict IS NOT NULL
                       ORDER BY started_at DESC, run DESC";
            let mut statement = connection.prepare_cached(sql)?;
            // Changes of a Gerrit have far smaller numbers.
            let change = i64::try_from(query.not_on.0).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![query.job.as_str(), change])?;
            let mut runs = Vec::new();
            while runs.len() < query.runs as usize {
                let Some(row) = rows.next()? else { break };
                let Json(record) = row.get::<_, Json<RunRecord>>(0)?;
                runs.extend(Some(record).filter(|record| query.includes(record)));
            }
            Ok(query.count(&runs))
        };
        self.0.call("history::failure_counts", read).await
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

/// Applies an update to the run's record. A run that has ended is not changed again, so an update that is reported
/// twice counts once.
fn record(connection: &mut Connection, run: &RunId, update: &Update) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut record = match load(&transaction, run)? {
        Some(record) if record.ended.is_some() => return Ok(()),
        Some(record) => record,
        None => {
            end_lost_runs(&transaction, update)?;
            let started = match &update.kind {
                UpdateKind::Finished { result } => result.started,
                _ => update.at,
            };
            RunRecord::new(run.clone(), update.job.clone(), update.attempt, started)
        }
    };
    record.apply(update);
    save(&transaction, &record)?;
    Ok(transaction.commit()?)
}

/// A job has one run at a time: an older one that is still open has lost its operator.
fn end_lost_runs(connection: &Connection, update: &Update) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT record FROM runs WHERE job_id = ? AND ended_at IS NULL")?;
    let open =
        statement.query_map(params![update.job.id.as_str()], |row| row.get::<_, Json<RunRecord>>(0))?;
    for Json(mut record) in open.collect::<rusqlite::Result<Vec<_>>>()? {
        record.end_without_verdict(update.at, LOST);
        save(connection, &record)?;
    }
    Ok(())
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
