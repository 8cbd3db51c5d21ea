//! The outbox: open buildsets, and the reports of complete ones until they are delivered.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use pushbutton_core::{
    BuildsetId, BuildsetReport, Delivery, Error, ErrorKind, Job, JobEnd, OpenBuildset, Result,
    UndeliveredReport, UndeliveredReports,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params, params_from_iter};

use crate::column::{Json, Millis, millis, now};
use crate::error::StoreError;
use crate::queue::shorten;
use crate::{Store, StoreQueue};

/// Enters how a job ended in its buildset, as a part of the caller's transaction. If it was the last job, the report is
/// due.
pub(crate) fn end_job(connection: &Connection, job: &Job, end: JobEnd) -> Result<(), StoreError> {
    let id = job.buildset.id.as_str();
    let mut select = connection.prepare_cached("SELECT open FROM buildsets WHERE id = ?")?;
    let known = select.query_row(params![id], |row| Ok(row.get::<_, Json<OpenBuildset>>(0)?.0)).optional()?;
    let mut open = known.unwrap_or_else(|| OpenBuildset::new(job.buildset.clone()));
    open.end(job.name.clone(), end);
    if !open.is_complete() {
        return put(connection, id, &open);
    }
    connection.prepare_cached("DELETE FROM buildsets WHERE id = ?")?.execute(params![id])?;
    if let Some(report) = open.into_report() {
        let sql = "INSERT INTO reports (id, state, report) VALUES (?, 'due', ?) ON CONFLICT (id) DO NOTHING";
        connection.prepare_cached(sql)?.execute(params![id, Json(report)])?;
    }
    Ok(())
}

/// Notes that the dead letter of a job is put back on the queue. If its buildset was complete without it, the job gets
/// a buildset of its own: then the result is the changed job.
pub(crate) fn reopen(connection: &Connection, job: &Job) -> Result<Option<Job>, StoreError> {
    let id = job.buildset.id.as_str();
    let mut select = connection.prepare_cached("SELECT open FROM buildsets WHERE id = ?")?;
    let open = select.query_row(params![id], |row| Ok(row.get::<_, Json<OpenBuildset>>(0)?.0)).optional()?;
    let Some(mut open) = open else {
        let alone = job.buildset_alone(&now().to_string());
        return Ok(Some(job.clone().with_buildset(alone)));
    };
    open.reopen(&job.name);
    put(connection, id, &open)?;
    Ok(None)
}

fn put(connection: &Connection, id: &str, open: &OpenBuildset) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO buildsets (id, open) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET open = excluded.open";
    connection.prepare_cached(sql)?.execute(params![id, Json(open)])?;
    Ok(())
}

// Without the first condition SQLite cannot use the index `reports_open`, and sorts all that is due.
pub(crate) const FIRST_DUE: &str = "SELECT seq, id, report, delivered, failed_attempts, epoch FROM reports
    WHERE state <> 'undelivered'
    AND (state = 'due' AND due_at <= ?1 OR state = 'leased' AND (boot IS NOT ?2 OR lease_ends <= ?3))
    ORDER BY seq LIMIT 1";

/// Waits for a report that is due, and leases it.
pub(crate) async fn claim(store: &Store) -> Result<Box<dyn Delivery>> {
    loop {
        let changed = store.changed();
        let look = {
            let store = store.clone();
            move |connection: &mut Connection| take(connection, &store)
        };
        if let Some(delivery) = store.call("queue::claim_report", look).await? {
            return Ok(Box::new(delivery));
        }
        changed.await;
    }
}

fn take(connection: &mut Connection, store: &Store) -> Result<Option<StoreDelivery>, StoreError> {
    let now = store.now();
    if !connection.prepare_cached(FIRST_DUE)?.exists(params![now.date, now.boot, now.uptime])? {
        // An idle handler only reads.
        return Ok(None);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut statement = transaction.prepare_cached(FIRST_DUE)?;
    let taken = loop {
        let row = statement.query_row(params![now.date, now.boot, now.uptime], |row| {
            let report = row.get::<_, Json<BuildsetReport>>(2).map(|report| report.0);
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                report,
                row.get::<_, Json<BTreeSet<String>>>(3),
                row.get(4)?,
                row.get::<_, i64>(5)?,
            ))
        });
        let Some((seq, id, report, delivered, failed_attempts, epoch)) = row.optional()? else { break None };
        match (report, delivered) {
            (Ok(report), Ok(Json(delivered))) => {
                let lease = now.uptime.saturating_add(millis(store.lease()));
                let sql =
                    "UPDATE reports SET state = 'leased', boot = ?, lease_ends = ?, epoch = ? WHERE seq = ?";
                transaction.prepare_cached(sql)?.execute(params![now.boot, lease, epoch + 1, seq])?;
                let store = store.clone();
                break Some(StoreDelivery {
                    store,
                    report,
                    delivered,
                    failed_attempts,
                    epoch: epoch + 1,
                    settled: false,
                });
            }
            // It must not block those behind it. The file is damaged, or was edited.
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(buildset = id, "a report that cannot be read is deleted: {error}");
                transaction.execute("DELETE FROM reports WHERE seq = ?", params![seq])?;
            }
        }
    };
    drop(statement);
    transaction.commit()?;
    Ok(taken)
}

/// The number of reports that are due or being delivered, and of undelivered ones.
pub(crate) fn depth(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let sql = "SELECT count(*) FILTER (WHERE state <> 'undelivered'), count(*) FILTER (WHERE state = 'undelivered') FROM reports";
    let count = |row: &rusqlite::Row<'_>, at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.unsigned_abs());
    Ok(connection.prepare_cached(sql)?.query_row([], |row| Ok((count(row, 0)?, count(row, 1)?)))?)
}

/// When the last run ended of the report that is due longest.
pub(crate) fn oldest(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT report FROM reports WHERE state <> 'undelivered' ORDER BY seq LIMIT 1";
    let report = connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Json<BuildsetReport>>(0));
    Ok(report.optional()?.and_then(|report| report.0.ended()))
}

struct StoreDelivery {
    store: Store,
    report: BuildsetReport,
    delivered: BTreeSet<String>,
    failed_attempts: u32,
    epoch: i64,
    settled: bool,
}

// Each applies only while no other delivery has begun.
const WHILE_HELD: &str = " WHERE id = ?1 AND epoch = ?2 AND state = 'leased'";
const DONE: &str = "DELETE FROM reports";
const RETRY: &str =
    "UPDATE reports SET state = 'due', boot = NULL, lease_ends = NULL, due_at = ?3, delivered = ?4,
    failed_attempts = failed_attempts + 1, seq = (SELECT max(seq) + 1 FROM reports)";
const GIVE_UP: &str =
    "UPDATE reports SET state = 'undelivered', boot = NULL, lease_ends = NULL, ended_at = ?3,
    delivered = ?4, why = ?5";
const RELEASE: &str = "UPDATE reports SET state = 'due', boot = NULL, lease_ends = NULL";

impl StoreDelivery {
    fn change(
        &self,
        sql: &str,
        further: Vec<Value>,
    ) -> impl FnOnce(&mut Connection) -> Result<bool, StoreError> + Send + use<> {
        let arguments: Vec<Value> =
            [self.report.id.to_string().into(), self.epoch.into()].into_iter().chain(further).collect();
        let sql = format!("{sql}{WHILE_HELD}");
        move |connection| Ok(connection.prepare_cached(&sql)?.execute(params_from_iter(arguments))? == 1)
    }

    async fn settle(
        mut self: Box<Self>,
        operation: &'static str,
        sql: &str,
        further: Vec<Value>,
    ) -> Result<()> {
        let changed = self.store.call(operation, self.change(sql, further)).await?;
        self.settled = true;
        self.store.notify_changed();
        match changed {
            true => Ok(()),
            false => {
                Err(Error::permanent(ErrorKind::LeaseLost, "another delivery of the report may have begun")
                    .during(operation)
                    .with("buildset", &self.report.id))
            }
        }
    }
}

/// A delivery that ends without an answer, as when its handler shuts down, makes the report due at once.
impl Drop for StoreDelivery {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let (store, release) = (self.store.clone(), self.change(RELEASE, Vec::new()));
        let release = move |connection: &mut Connection| {
            let released = release(connection)?;
            store.notify_changed();
            Ok(released)
        };
        // Polled once, the call is with the worker thread, unless too many others wait; then the lease runs out.
        let _ = self.store.call("delivery::release", release).now_or_never();
    }
}

fn names(delivered: &BTreeSet<String>) -> Value {
    serde_json::json!(delivered).to_string().into()
}

#[async_trait]
impl Delivery for StoreDelivery {
    fn report(&self) -> &BuildsetReport {
        &self.report
    }

    fn failed_attempts(&self) -> u32 {
        self.failed_attempts
    }

    fn delivered(&self) -> &BTreeSet<String> {
        &self.delivered
    }

    fn lease(&self) -> Duration {
        self.store.lease()
    }

    async fn done(self: Box<Self>) -> Result<()> {
        self.settle("delivery::done", DONE, Vec::new()).await
    }

    async fn retry(self: Box<Self>, after: Duration, delivered: &BTreeSet<String>) -> Result<()> {
        let due = self.store.now().date.saturating_add(millis(after));
        self.settle("delivery::retry", RETRY, vec![due.into(), names(delivered)]).await
    }

    async fn give_up(self: Box<Self>, why: &str, delivered: &BTreeSet<String>) -> Result<()> {
        let now = self.store.now().date;
        self.settle("delivery::give_up", GIVE_UP, vec![now.into(), names(delivered), shorten(why).into()])
            .await
    }
}

#[async_trait]
impl UndeliveredReports for StoreQueue {
    async fn list_undelivered(&self, limit: usize) -> Result<Vec<UndeliveredReport>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = move |connection: &mut Connection| {
            let sql = "SELECT report, why, ended_at, delivered FROM reports WHERE state = 'undelivered'
                       ORDER BY ended_at, seq LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let reports = statement.query_map(params![limit], |row| {
                let report = UndeliveredReport::new(row.get::<_, Json<_>>(0)?.0, row.get::<_, String>(1)?)
                    .with_at(row.get::<_, Millis>(2)?.0)
                    .with_delivered(row.get::<_, Json<BTreeSet<String>>>(3)?.0);
                Ok(report)
            })?;
            Ok(reports.collect::<rusqlite::Result<_>>()?)
        };
        self.0.call("undelivered::list", read).await
    }

    async fn retry_undelivered(&self, id: &BuildsetId) -> Result<bool> {
        let sql =
            "UPDATE reports SET state = 'due', due_at = 0, failed_attempts = 0, why = NULL, ended_at = NULL,
                   seq = (SELECT max(seq) + 1 FROM reports) WHERE id = ? AND state = 'undelivered'";
        let retried = change_undelivered(&self.0, "undelivered::retry", sql, id).await?;
        self.0.notify_changed();
        Ok(retried)
    }

    async fn drop_undelivered(&self, id: &BuildsetId) -> Result<bool> {
        let sql = "DELETE FROM reports WHERE id = ? AND state = 'undelivered'";
        change_undelivered(&self.0, "undelivered::drop", sql, id).await
    }
}

async fn change_undelivered(
    store: &Store,
    operation: &'static str,
    sql: &'static str,
    id: &BuildsetId,
) -> Result<bool> {
    let id = id.to_string();
    store.call(operation, move |connection| Ok(connection.execute(sql, params![id])? == 1)).await
}
