//! The outbox: open buildsets, and the reports of complete ones until they are delivered.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use pushbutton_core::{
    Buildset, BuildsetId, BuildsetReport, Delivery, Error, ErrorKind, Job, JobEnd, JobId, JobName,
    OpenBuildset, Result, UndeliveredReport, UndeliveredReports,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params, params_from_iter};
use serde::Deserialize;

use crate::column::{Json, Millis, millis, now};
use crate::error::StoreError;
use crate::queue::shorten;
use crate::skipped::Skipped;
use crate::{Store, StoreQueue};

/// How long a buildset stays open of which no job is left in the queue. The handler publishes one job after the other,
/// and after a restart it publishes the rest.
const ABANDONED_AGE: Duration = Duration::from_secs(24 * 3600);

/// How many buildsets are closed in one transaction: others wait for it.
const MAX_CLOSED: u32 = 500;

/// The place of a job in its buildset. Of a job that cannot be read, this part may be whole.
#[derive(Debug, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: JobId,
    name: JobName,
    buildset: Buildset,
}

impl Member {
    /// As [`end_job`].
    pub(crate) fn end(self, connection: &Connection, end: JobEnd) -> Result<(), StoreError> {
        enter(connection, &self.buildset, self.name, end)
    }
}

/// Enters how a job ended in its buildset, as a part of the caller's transaction. If it was the last job, the report is
/// due.
pub(crate) fn end_job(connection: &Connection, job: &Job, end: JobEnd) -> Result<(), StoreError> {
    enter(connection, &job.buildset, job.name.clone(), end)
}

fn enter(connection: &Connection, buildset: &Buildset, job: JobName, end: JobEnd) -> Result<(), StoreError> {
    let mut open = known(connection, &buildset.id)?.unwrap_or_else(|| OpenBuildset::new(buildset.clone()));
    open.end(job, end);
    match open.is_complete() {
        true => close(connection, open),
        false => put(connection, &open),
    }
}

/// The open buildset, if it is known. One that cannot be read is not: otherwise none of its jobs could end.
fn known(connection: &Connection, id: &BuildsetId) -> Result<Option<OpenBuildset>, StoreError> {
    match read_open(connection, id.as_str())? {
        Some(Ok(open)) => Ok(Some(open)),
        Some(Err(why)) => {
            tracing::error!(buildset = %id, "a buildset that cannot be read begins anew: {why}");
            Ok(None)
        }
        None => Ok(None),
    }
}

/// The buildset in this row, or why it cannot be read.
fn read_open(
    connection: &Connection,
    id: &str,
) -> Result<Option<std::result::Result<OpenBuildset, String>>, StoreError> {
    let mut select = connection.prepare_cached("SELECT open FROM buildsets WHERE id = ?")?;
    let open = select.query_row(params![id], |row| Ok(row.get::<_, Json<OpenBuildset>>(0))).optional()?;
    Ok(open.map(|open| match open {
        Ok(Json(open)) if open.buildset().id.as_str() == id => Ok(open),
        Ok(_) => Err("its id differs".to_owned()),
        Err(error) => Err(error.to_string()),
    }))
}

/// Makes the report of a buildset due, if there is something to report.
fn close(connection: &Connection, open: OpenBuildset) -> Result<(), StoreError> {
    let id = open.buildset().id.clone();
    connection.prepare_cached("DELETE FROM buildsets WHERE id = ?")?.execute(params![id.as_str()])?;
    if let Some(report) = open.into_report() {
        let sql = "INSERT INTO reports (id, state, report) VALUES (?, 'due', ?) ON CONFLICT (id) DO NOTHING";
        connection.prepare_cached(sql)?.execute(params![id.as_str(), Json(report)])?;
    }
    Ok(())
}

/// Buildsets that no job can complete. The age alone says nothing, since a job may wait for days.
const ABANDONED: &str = "SELECT id FROM buildsets WHERE at < ?1 AND id NOT IN
    (SELECT coalesce(CASE WHEN json_valid(job) THEN job ->> '$.buildset.id' END, '') FROM jobs
     WHERE state IN ('ready', 'delayed', 'leased'))
    ORDER BY at LIMIT ?2";

/// Reports buildsets that cannot become complete without the jobs that are missing: their handler stopped before it
/// published them and then decided otherwise, or they ended long ago. Returns how many.
pub(crate) fn close_abandoned(connection: &mut Connection) -> Result<usize, StoreError> {
    let limits = params![now().saturating_sub(millis(ABANDONED_AGE)), MAX_CLOSED];
    if !connection.prepare_cached(ABANDONED)?.exists(limits)? {
        return Ok(0);
    }
    // Immediate: of two processes, the second waits here and then finds them closed.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut select = transaction.prepare_cached(ABANDONED)?;
    let ids = select.query_map(limits, |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    drop(select);
    for id in &ids {
        close_as_it_is(&transaction, id)?;
    }
    transaction.commit()?;
    Ok(ids.len())
}

fn close_as_it_is(connection: &Connection, id: &str) -> Result<(), StoreError> {
    let mut open = match read_open(connection, id)? {
        None => return Ok(()),
        Some(Ok(open)) => open,
        Some(Err(why)) => {
            tracing::error!(
                buildset = id,
                "moving a buildset that cannot be read to the undelivered reports: {why}"
            );
            let sql = "INSERT INTO reports (id, state, report, why, ended_at)
                       SELECT id, 'undelivered', open, ?2, ?3 FROM buildsets WHERE id = ?1 ON CONFLICT (id) DO NOTHING";
            connection.execute(sql, params![id, unreadable(&why), now()])?;
            connection.execute("DELETE FROM buildsets WHERE id = ?", params![id])?;
            return Ok(());
        }
    };
    for job in open.buildset().clone().jobs {
        if !open.has_ended(&job) {
            tracing::warn!(buildset = id, %job, "a buildset is reported without a job that was not published");
            open.end(job, JobEnd::Dead { why: "it was not run: no such job was published".into() });
        }
    }
    close(connection, open)
}

/// Why a row was set aside.
pub(crate) fn unreadable(why: &str) -> String {
    shorten(&format!("cannot be read: {why}"))
}

/// Notes that the dead letter of a job is put back on the queue. If its buildset was complete without it, the job gets
/// a buildset of its own: then the result is the changed job.
pub(crate) fn reopen(connection: &Connection, job: &Job) -> Result<Option<Job>, StoreError> {
    let Some(mut open) = known(connection, &job.buildset.id)? else {
        let alone = job.buildset_alone(&now().to_string());
        return Ok(Some(job.clone().with_buildset(alone)));
    };
    open.reopen(&job.name);
    put(connection, &open)?;
    Ok(None)
}

fn put(connection: &Connection, open: &OpenBuildset) -> Result<(), StoreError> {
    let sql = "INSERT INTO buildsets (id, open, at) VALUES (?, ?, ?)
               ON CONFLICT (id) DO UPDATE SET open = excluded.open, at = excluded.at";
    connection.prepare_cached(sql)?.execute(params![open.buildset().id.as_str(), Json(open), now()])?;
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
        // A person who makes such a report due again may repeat a comment, but loses no result.
        let forgotten = delivered.is_err();
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
                tracing::error!(
                    buildset = id,
                    "moving a report that cannot be read to the undelivered ones: {error}"
                );
                let sql = "UPDATE reports SET state = 'undelivered', boot = NULL, lease_ends = NULL, why = ?, ended_at = ?,
                           delivered = iif(?, '[]', delivered) WHERE seq = ?";
                transaction
                    .execute(sql, params![unreadable(&error.to_string()), now.date, forgotten, seq])?;
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
    let count = |row: &Row<'_>, at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.unsigned_abs());
    Ok(connection.prepare_cached(sql)?.query_row([], |row| Ok((count(row, 0)?, count(row, 1)?)))?)
}

/// When the last run ended of the report that is due longest.
pub(crate) fn oldest(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT id, report FROM reports WHERE state <> 'undelivered' ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let (mut rows, mut skipped, mut first) = (statement.query([])?, Skipped::default(), None);
    while let (None, Some(row)) = (&first, rows.next()?) {
        first = skipped.readable(row, row.get::<_, Json<BuildsetReport>>(1));
    }
    skipped.warn("reports");
    Ok(first.and_then(|report| report.0.ended()))
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
        self.0.call("undelivered::list", move |connection| list_undelivered(connection, limit)).await
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

fn list_undelivered(connection: &mut Connection, limit: usize) -> Result<Vec<UndeliveredReport>, StoreError> {
    // One transaction: both statements see the same rows.
    let transaction = connection.transaction()?;
    // Only the numbers are sorted: there may be many reports, and each may be large.
    let sql = "SELECT seq FROM reports WHERE state = 'undelivered' ORDER BY ended_at, seq";
    let mut statement = transaction.prepare_cached(sql)?;
    let order = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    let sql = "SELECT id, report, why, ended_at, delivered FROM reports WHERE seq = ?";
    let mut statement = transaction.prepare_cached(sql)?;
    let (mut reports, mut skipped) = (Vec::new(), Skipped::default());
    for seq in order {
        if reports.len() >= limit {
            break;
        }
        reports.extend(statement.query_row(params![seq], |row| {
            let report = undelivered(row);
            Ok(skipped.readable(row, report))
        })?);
    }
    skipped.warn("reports");
    Ok(reports)
}

fn undelivered(row: &Row<'_>) -> rusqlite::Result<UndeliveredReport> {
    Ok(UndeliveredReport::new(row.get::<_, Json<_>>(1)?.0, row.get::<_, String>(2)?)
        .with_at(row.get::<_, Millis>(3)?.0)
        .with_delivered(row.get::<_, Json<BTreeSet<String>>>(4)?.0))
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

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
