//! The run history: a reporter that writes down what it is told, and answers questions.

use async_trait::async_trait;
use jiff::Timestamp;
use pushbutton_core::{
    Error, ErrorKind, Job, JobState, Reporter, Result, RunId, StageName, StageOutcome, TestCounts, Update,
    UpdateKind, Verdict,
};
use rusqlite::{Connection, Row, TransactionBehavior, params};
use serde::de::DeserializeOwned;

use crate::error::Fault;
use crate::store::time;
use crate::{RunRecord, StageRecord, Store, upkeep};

/// What stands as the reason of a run whose operator died.
const VANISHED: &str = "its operator ended without a word; the job was taken again";

/// The runs of this file. Told everything, it keeps runs and stages, not lines; it forgets a run after
/// [`StoreConfig::keep_runs`](crate::StoreConfig::keep_runs).
#[derive(Debug, Clone)]
pub struct StoreHistory(pub(crate) Store);

impl StoreHistory {
    /// The latest runs, those that run now included, the newest first; at most `limit`.
    ///
    /// # Errors
    /// As any access to the file.
    pub async fn recent(&self, limit: usize) -> Result<Vec<RunRecord>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let ask = move |connection: &mut Connection| {
            let mut ask =
                connection.prepare_cached(&format!("{SELECT} ORDER BY started_at DESC, run DESC LIMIT ?"))?;
            let rows = ask.query_and_then(params![limit], record)?;
            rows.map(|record| with_stages(connection, record?)).collect()
        };
        self.0.call("history::recent", ask).await
    }

    /// One run.
    ///
    /// # Errors
    /// As any access to the file.
    pub async fn run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let run = run.to_string();
        let ask = move |connection: &mut Connection| {
            let mut ask = connection.prepare_cached(&format!("{SELECT} WHERE run = ?"))?;
            let found = ask.query_and_then(params![run], record)?.next().transpose()?;
            found.map(|record| with_stages(connection, record)).transpose()
        };
        self.0.call("history::run", ask).await
    }

    /// When a run last ended as a success.
    ///
    /// # Errors
    /// As any access to the file.
    pub async fn last_success(&self) -> Result<Option<Timestamp>> {
        let ask = |connection: &mut Connection| {
            let at: Option<i64> = connection.query_row(
                "SELECT max(ended_at) FROM runs WHERE verdict = ?",
                params![Verdict::Success.result()],
                |row| row.get(0),
            )?;
            at.map(time).transpose()
        };
        self.0.call("history::last_success", ask).await
    }

    /// How many runs of the history ended with each result word ([`Verdict::result`]), in the alphabet's order.
    ///
    /// # Errors
    /// As any access to the file.
    pub async fn verdicts(&self) -> Result<Vec<(String, u64)>> {
        let ask = |connection: &mut Connection| {
            let mut ask = connection.prepare_cached(
                "SELECT verdict, count(*) FROM runs WHERE verdict IS NOT NULL GROUP BY verdict ORDER BY verdict",
            )?;
            let rows = ask.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.0.call("history::verdicts", ask).await
    }

    /// Forgets runs that began before this, beside what is forgotten by itself; returns how many.
    ///
    /// # Errors
    /// As any access to the file.
    pub async fn prune(&self, before: Timestamp) -> Result<usize> {
        let before = before.as_millisecond();
        self.0.call("history::prune", move |connection| upkeep::prune_runs(connection, before)).await
    }
}

#[async_trait]
impl Reporter for StoreHistory {
    async fn report(&self, update: &Update) -> Result<()> {
        // Lines come by the thousand and are in the run's log; without a run there is nothing to write.
        let Some(run) = &update.run else { return Ok(()) };
        if matches!(update.kind, UpdateKind::Line { .. } | UpdateKind::Queued) {
            return Ok(());
        }
        let (run, update) = (run.clone(), update.clone());
        self.0.call("history::report", move |connection| write(connection, &run, &update)).await
    }

    fn name(&self) -> &'static str {
        "history"
    }
}

/// Writes one step down. A run that has ended is not touched again: told twice, it is written once.
fn write(connection: &mut Connection, run: &RunId, update: &Update) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (id, at) = (run.as_str(), update.at.as_millisecond());
    let open = begin(&transaction, id, update)?;
    if !open {
        return Ok(transaction.commit()?);
    }
    let state = |state: JobState, ended: Option<i64>, reason: Option<&str>| -> Result<(), Fault> {
        let sql = "UPDATE runs SET state = ?2, ended_at = ?3, reason = ?4 WHERE run = ?1";
        transaction.prepare_cached(sql)?.execute(params![id, word(&state)?, ended, reason])?;
        Ok(())
    };
    match &update.kind {
        UpdateKind::Provisioning => state(JobState::Provisioning, None, None)?,
        UpdateKind::NodeReady { name, .. } => {
            state(JobState::Running, None, None)?;
            transaction.execute("UPDATE runs SET node = ?2 WHERE run = ?1", params![id, name])?;
        }
        UpdateKind::StageStarted { stage } => {
            state(JobState::Running, None, None)?;
            add_stage(&transaction, id, stage, at, None)?;
        }
        UpdateKind::StageEnded { stage, outcome } => end_stage(&transaction, id, stage, at, outcome)?,
        UpdateKind::Retrying { why, .. } | UpdateKind::HandedBack { why } => {
            state(JobState::Retrying, Some(at), Some(why))?;
        }
        UpdateKind::Finished { report } => {
            let tests = report.tests;
            transaction.execute(
                "UPDATE runs SET state = ?2, ended_at = ?3, verdict = ?4, verdict_json = ?5, reason = ?6,
                 log_url = ?7, passed = ?8, failed = ?9, skipped = ?10 WHERE run = ?1",
                params![
                    id,
                    word(&JobState::Completed)?,
                    at,
                    report.verdict.result(),
                    serde_json::to_string(&report.verdict)?,
                    report.reason,
                    report.log_url,
                    tests.map(|tests| tests.passed.cast_signed()),
                    tests.map(|tests| tests.failed.cast_signed()),
                    tests.map(|tests| tests.skipped.cast_signed()),
                ],
            )?;
            for (stage, outcome) in &report.stages {
                end_stage(&transaction, id, stage, at, outcome)?;
            }
        }
        _ => {}
    }
    Ok(transaction.commit()?)
}

/// Makes the run's row unless it is there; tells whether the run is still open.
fn begin(connection: &Connection, run: &str, update: &Update) -> Result<bool, Fault> {
    let at = update.at.as_millisecond();
    let job = &update.job;
    let started = match &update.kind {
        UpdateKind::Finished { report } => report.started.as_millisecond(),
        _ => at,
    };
    let is_new = connection
        .prepare_cached(
            "INSERT INTO runs (run, job_id, name, project, target, job, attempt, state, started_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run) DO NOTHING",
        )?
        .execute(params![
            run,
            job.id.as_str(),
            job.name.as_str(),
            job.change.project.as_str(),
            job.target(),
            serde_json::to_string(job)?,
            update.attempt,
            word(&JobState::Claimed)?,
            started,
        ])?
        == 1;
    if is_new {
        // One run of a job at a time: an older one that is still open has lost its operator.
        connection
            .prepare_cached(
                "UPDATE runs SET state = ?3, ended_at = ?4, reason = ?5
                 WHERE job_id = ?1 AND run <> ?2 AND ended_at IS NULL",
            )?
            .execute(params![job.id.as_str(), run, word(&JobState::Retrying)?, at, VANISHED])?;
        return Ok(true);
    }
    Ok(connection
        .prepare_cached("SELECT 1 FROM runs WHERE run = ? AND ended_at IS NULL")?
        .exists(params![run])?)
}

fn add_stage(
    connection: &Connection,
    run: &str,
    stage: &StageName,
    at: i64,
    outcome: Option<&StageOutcome>,
) -> Result<(), Fault> {
    let outcome = outcome.map(serde_json::to_string).transpose()?;
    connection
        .prepare_cached(
            "INSERT INTO stages (run, number, stage, started_at, outcome)
             VALUES (?1, (SELECT count(*) FROM stages WHERE run = ?1), ?2, ?3, ?4)",
        )?
        .execute(params![run, stage.as_str(), at, outcome])?;
    Ok(())
}

/// Gives the stage its outcome; adds it when its start was not told.
fn end_stage(
    connection: &Connection,
    run: &str,
    stage: &StageName,
    at: i64,
    outcome: &StageOutcome,
) -> Result<(), Fault> {
    let text = serde_json::to_string(outcome)?;
    let known = connection
        .prepare_cached("UPDATE stages SET outcome = ?3 WHERE run = ?1 AND stage = ?2")?
        .execute(params![run, stage.as_str(), text])?;
    if known == 0 {
        add_stage(connection, run, stage, at.saturating_sub(upkeep::millis(outcome.took)), Some(outcome))?;
    }
    Ok(())
}

const SELECT: &str =
    "SELECT run, job, attempt, state, started_at, ended_at, node, verdict_json, reason, log_url,
                             passed, failed, skipped FROM runs";

fn record(row: &Row<'_>) -> Result<RunRecord, Fault> {
    let count = |at| row.get::<_, Option<i64>>(at).map(|n| n.map(i64::cast_unsigned));
    let tests = match (count(10)?, count(11)?, count(12)?) {
        (Some(passed), Some(failed), Some(skipped)) => Some(TestCounts { passed, failed, skipped }),
        _ => None,
    };
    Ok(RunRecord {
        run: RunId::new(row.get::<_, String>(0)?)?,
        job: serde_json::from_str::<Job>(&row.get::<_, String>(1)?)?,
        attempt: row.get(2)?,
        state: serde_json::from_value(row.get::<_, String>(3)?.into())?,
        started: time(row.get(4)?)?,
        ended: row.get::<_, Option<i64>>(5)?.map(time).transpose()?,
        node: row.get(6)?,
        verdict: json(row.get(7)?)?,
        reason: row.get(8)?,
        log_url: row.get(9)?,
        tests,
        stages: Vec::new(),
    })
}

fn with_stages(connection: &Connection, mut record: RunRecord) -> Result<RunRecord, Fault> {
    let mut ask = connection
        .prepare_cached("SELECT stage, started_at, outcome FROM stages WHERE run = ? ORDER BY number")?;
    let rows = ask.query_and_then(params![record.run.as_str()], |row| {
        Ok::<_, Fault>(StageRecord {
            stage: StageName::new(row.get::<_, String>(0)?)?,
            started: time(row.get(1)?)?,
            outcome: json(row.get(2)?)?,
        })
    })?;
    record.stages = rows.collect::<Result<_, _>>()?;
    Ok(record)
}

fn json<T: DeserializeOwned>(text: Option<String>) -> Result<Option<T>, Fault> {
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// A state as its serialised word.
fn word(state: &JobState) -> Result<String, Fault> {
    match serde_json::to_value(state)? {
        serde_json::Value::String(word) => Ok(word),
        _ => Err(Error::permanent(ErrorKind::Unexpected, "a job's state without a word").into()),
    }
}
