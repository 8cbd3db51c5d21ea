//! Dead letters: jobs that were rejected, until a person requeues or removes them.

use async_trait::async_trait;
use pushbutton_core::{DeadLetter, DeadLetters, Error, ErrorKind, Job, Result};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::StoreQueue;
use crate::column::{Json, Millis};
use crate::error::StoreError;
use crate::outbox;

#[async_trait]
impl DeadLetters for StoreQueue {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = move |connection: &mut Connection| {
            let sql = "SELECT id, job, failed_attempts, why, ended_at FROM jobs
                       WHERE state = 'dead' AND ended_at IS NOT NULL ORDER BY ended_at, seq LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_map(params![limit], dead_letter)?.collect::<rusqlite::Result<_>>()?)
        };
        self.0.call("dead_letters::list", read).await
    }

    async fn requeue(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        let write = move |connection: &mut Connection| requeue(connection, &id);
        let requeued = self.0.call("dead_letters::requeue", write).await?;
        if requeued {
            self.0.notify_changed();
        }
        Ok(requeued)
    }

    async fn remove(&self, id: &str) -> Result<bool> {
        let (id, now) = (id.to_owned(), self.0.now().date);
        let write = move |connection: &mut Connection| {
            // Kept as done, so that publishing the job again does not run it.
            let sql =
                "UPDATE jobs SET state = 'done', job = NULL, ended_at = ? WHERE id = ? AND state = 'dead'";
            Ok(connection.execute(sql, params![now, id])? == 1)
        };
        self.0.call("dead_letters::remove", write).await
    }
}

fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let failed_attempts: u32 = row.get(2)?;
    let job: Option<Json<Job>> = row.get(1).ok();
    let why: Option<String> = row.get(3)?;
    Ok(DeadLetter::new(row.get::<_, String>(0)?, why.unwrap_or_default())
        .with_job(job.map(|job| job.0.with_failed_attempts(failed_attempts)))
        .with_at(Some(row.get::<_, Millis>(4)?.0)))
}

/// Moves a dead letter to the end of the queue; false when there is none.
fn requeue(connection: &mut Connection, id: &str) -> Result<bool, StoreError> {
    // Immediate: of two people at once, one finds it and the other does not.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "SELECT job FROM jobs WHERE id = ? AND state = 'dead'";
    let job = transaction.query_row(sql, params![id], |row| Ok(row.get::<_, Json<Job>>(0))).optional()?;
    match job {
        None => return Ok(false),
        Some(Err(_)) => {
            let message = "the job of this dead letter cannot be read, so no operator can run it: remove it";
            return Err(Error::permanent(ErrorKind::Invalid, message).with("dead letter", id).into());
        }
        Some(Ok(Json(job))) => {
            if let Some(job) = outbox::reopen(&transaction, &job)? {
                transaction.execute("UPDATE jobs SET job = ? WHERE id = ?", params![Json(job), id])?;
            }
        }
    }
    let sql = "UPDATE jobs SET state = 'ready', ended_at = NULL, why = NULL, failed_attempts = 0,
               lost_leases = 0, seq = (SELECT max(seq) + 1 FROM jobs) WHERE id = ?";
    transaction.execute(sql, params![id])?;
    transaction.commit()?;
    Ok(true)
}
