//! The queue: rows of one table that change their state.

use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{
    Claim, ControlMessage, ControlMessages, Error, ErrorKind, InstallationId, Job, JobFilter, Queue,
    QueueDepth, Result, RunId,
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, TransactionBehavior, params};

use crate::Store;
use crate::claim::{Lease, StoreClaim};
use crate::column::{Json, Text, millis, now};
use crate::control_messages;
use crate::error::StoreError;

/// Reasons are for people; longer ones are cut.
const MAX_REASON: usize = 2_000;

/// A [`Queue`] in the store's file, for operators on one host.
///
/// Leases and delays are measured by the wall clock, the only one that processes and restarts share. A clock that is
/// set forward ends leases early: their holders learn that at their next renewal.
#[derive(Debug, Clone)]
pub struct StoreQueue(pub(crate) Store);

#[async_trait]
impl Queue for StoreQueue {
    async fn publish(&self, job: &Job) -> Result<()> {
        let job = job.clone();
        let write = move |connection: &mut Connection| insert(connection, &job);
        if self.0.call("queue::publish", write).await? {
            self.0.notify_changed();
        }
        Ok(())
    }

    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>> {
        let filter = Filter::from(filter);
        loop {
            let changed = self.0.changed();
            let (store, filter) = (self.0.clone(), filter.clone());
            let look = move |connection: &mut Connection| {
                let taken = take(connection, &filter, store.lease())?;
                Ok(taken.map(|(job, lease)| StoreClaim::new(store, job, lease)))
            };
            if let Some(claim) = self.0.call("queue::claim", look).await? {
                return Ok(Box::new(claim.deliver()));
            }
            changed.await;
        }
    }

    async fn broadcast(&self, message: &ControlMessage) -> Result<()> {
        control_messages::add(&self.0, message.clone()).await
    }

    async fn control_messages(&self) -> Result<ControlMessages> {
        control_messages::read(self.0.clone()).await
    }

    async fn depth(&self) -> Result<QueueDepth> {
        self.0.call("queue::depth", |connection| depth(connection, now())).await
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        let read = |connection: &mut Connection| {
            let sql = "SELECT run FROM jobs WHERE due_at > ? AND state = 'leased' AND run IS NOT NULL";
            let mut statement = connection.prepare_cached(sql)?;
            let runs = statement.query_map(params![now()], |row| Ok(row.get::<_, Text<_>>(0)?.0))?;
            Ok(runs.collect::<rusqlite::Result<_>>()?)
        };
        self.0.call("queue::leased_runs", read).await
    }

    async fn installation(&self) -> Result<InstallationId> {
        self.0.call("queue::installation", |connection| installation(connection)).await
    }
}

/// A [`JobFilter`] as the arguments of [`FIRST_READY`]: each a JSON array, or NULL for no condition.
#[derive(Debug, Clone, Default)]
struct Filter {
    names: Option<String>,
    labels: Option<String>,
}

impl From<&JobFilter> for Filter {
    fn from(filter: &JobFilter) -> Self {
        Self {
            names: filter.names.as_ref().map(|names| serde_json::json!(names).to_string()),
            labels: filter.labels.as_ref().map(|labels| serde_json::json!(labels).to_string()),
        }
    }
}

/// Adds a job; false when its id is known.
fn insert(connection: &Connection, job: &Job) -> Result<bool, StoreError> {
    let sql =
        "INSERT INTO jobs (id, state, name, label, job, failed_attempts) VALUES (?, 'ready', ?, ?, ?, ?)
               ON CONFLICT (id) DO NOTHING";
    let label = job.label.as_ref().map(|label| label.as_str());
    let row = params![job.id.as_str(), job.name.as_str(), label, Json(job), job.failed_attempts];
    Ok(connection.prepare_cached(sql)?.execute(row)? == 1)
}

const ANY_DUE: &str = "SELECT 1 FROM jobs WHERE due_at <= ? LIMIT 1";
const RETURN_DUE: &str = "UPDATE jobs SET state = 'ready', due_at = NULL, run = NULL WHERE due_at <= ?";
/// Walks the index in the queue's order and skips what the filter does not match.
const FIRST_READY: &str = "SELECT seq, id, job, failed_attempts, epoch FROM jobs WHERE state = 'ready'
    AND (?1 IS NULL OR name IN (SELECT value FROM json_each(?1)))
    AND (?2 IS NULL OR label IS NULL OR label IN (SELECT value FROM json_each(?2))) ORDER BY seq LIMIT 1";
const LEASE: &str = "UPDATE jobs SET state = 'leased', due_at = ?, epoch = ?, run = ? WHERE seq = ?";

/// Leases the first ready job that the filter matches.
fn take(
    connection: &mut Connection,
    filter: &Filter,
    lease: Duration,
) -> Result<Option<(Job, Lease)>, StoreError> {
    let now = now();
    let matching = [&filter.names as &dyn ToSql, &filter.labels];
    if !connection.prepare_cached(FIRST_READY)?.exists(matching)?
        && !connection.prepare_cached(ANY_DUE)?.exists(params![now])?
    {
        // Idle operators only read.
        return Ok(None);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Jobs whose delay or lease has ended keep their number, so they come before later ones.
    transaction.prepare_cached(RETURN_DUE)?.execute(params![now])?;
    let mut taken = None;
    let mut first_ready = transaction.prepare_cached(FIRST_READY)?;
    while let Some(ready) = first_ready.query_row(matching, Ready::read).optional()? {
        match ready.job {
            Ok(Json(job)) if job.id.as_str() == ready.id => {
                let ends = now.saturating_add(millis(lease));
                let lease = Lease { run: RunId::generate(), epoch: ready.epoch + 1, ends };
                let row = params![lease.ends, lease.epoch, lease.run.as_str(), ready.seq];
                transaction.prepare_cached(LEASE)?.execute(row)?;
                taken = Some((job.with_failed_attempts(ready.failed_attempts), lease));
                break;
            }
            // No operator will ever be able to run it: as a dead letter it does not block those behind it.
            unreadable => {
                let why = unreadable.err().map_or("its id differs".to_owned(), |error| error.to_string());
                tracing::error!(job = ready.id, why, "moving a job that cannot be read to the dead letters");
                let sql = "UPDATE jobs SET state = 'dead', why = 'cannot be read: ' || ?, ended_at = ? WHERE seq = ?";
                transaction.execute(sql, params![shorten(&why), now, ready.seq])?;
            }
        }
    }
    drop(first_ready);
    transaction.commit()?;
    Ok(taken)
}

/// A row of [`FIRST_READY`].
struct Ready {
    seq: i64,
    id: String,
    job: rusqlite::Result<Json<Job>>,
    failed_attempts: u32,
    epoch: i64,
}

impl Ready {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            id: row.get(1)?,
            job: row.get(2),
            failed_attempts: row.get(3)?,
            epoch: row.get(4)?,
        })
    }
}

fn depth(connection: &Connection, now: i64) -> Result<QueueDepth, StoreError> {
    let count = |condition: &str, arguments: &[&dyn ToSql]| -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM jobs WHERE {condition}");
        Ok(connection.prepare_cached(&sql)?.query_row(arguments, |row| row.get::<_, i64>(0))?.unsigned_abs())
    };
    let ready = count("state = 'ready'", &[])?;
    let due = count("due_at IS NOT NULL", &[])?;
    // A job whose lease has ended is waiting.
    let leased = count("due_at > ? AND state = 'leased'", &[&now])?;
    let dead = count("state = 'dead' AND ended_at IS NOT NULL", &[])?;
    Ok(QueueDepth::new(ready + due - leased, leased, dead))
}

/// The id in the file; of processes that ask at once, the first to write decides.
fn installation(connection: &Connection) -> Result<InstallationId, StoreError> {
    let insert = "INSERT INTO installation (only, id) VALUES (1, ?) ON CONFLICT (only) DO NOTHING";
    let read = || {
        let mut select = connection.prepare_cached("SELECT id FROM installation")?;
        Ok::<_, StoreError>(select.query_row([], |row| Ok(row.get::<_, Text<_>>(0)?.0)).optional()?)
    };
    if let Some(id) = read()? {
        return Ok(id);
    }
    connection.prepare_cached(insert)?.execute(params![InstallationId::generate().as_str()])?;
    read()?.ok_or_else(|| Error::temporary(ErrorKind::Unexpected, "the installation id was deleted").into())
}

pub(crate) fn shorten(why: &str) -> String {
    why.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{MIGRATIONS, migrate};
    use pushbutton_core::samples;
    use pushbutton_core::{JobName, NodeLabel};
    use rusqlite::StatementStatus;

    const LONG: Duration = Duration::from_secs(60);

    fn queue_of(jobs: impl IntoIterator<Item = Job>) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let transaction = connection.transaction().unwrap();
        for job in jobs {
            assert!(insert(&transaction, &job).unwrap());
        }
        transaction.commit().unwrap();
        connection
    }

    fn jobs(name: &'static str, count: u64) -> impl Iterator<Item = Job> {
        (0..count).map(move |n| samples::job_on(n, name))
    }

    fn only(name: &str) -> JobFilter {
        JobFilter::names([JobName::new(name).unwrap()])
    }

    fn taken(connection: &mut Connection, filter: &JobFilter) -> Option<Job> {
        take(connection, &filter.into(), LONG).unwrap().map(|(job, _)| job)
    }

    #[test]
    fn every_query_of_a_claim_uses_an_index() {
        let connection = queue_of([]);
        for sql in [ANY_DUE, RETURN_DUE, FIRST_READY, LEASE] {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let arguments = rusqlite::params_from_iter(vec![0; explain.parameter_count()]);
            let plan: Vec<String> =
                explain.query_map(arguments, |row| row.get(3)).unwrap().map(Result::unwrap).collect();
            let of_jobs: Vec<_> = plan.iter().filter(|step| step.contains("jobs")).collect();
            let searches = |step: &&String| step.starts_with("SEARCH") && step.contains("USING");
            assert!(!of_jobs.is_empty() && of_jobs.iter().all(searches), "{sql}: {plan:?}");
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{sql}: {plan:?}");
        }
    }

    /// Steps of SQLite's virtual machine: work, not time.
    fn steps_of_a_claim(mut connection: Connection, filter: &JobFilter) -> i32 {
        assert!(taken(&mut connection, filter).is_some());
        let steps = |sql| connection.prepare_cached(sql).unwrap().get_status(StatementStatus::VmStep);
        [ANY_DUE, RETURN_DUE, FIRST_READY, LEASE].into_iter().map(steps).sum()
    }

    #[test]
    fn a_claim_among_ten_thousand_jobs_is_as_much_work_as_among_ten() {
        for filter in [JobFilter::any(), only("tempest").with_labels([])] {
            let steps = |count| steps_of_a_claim(queue_of(jobs("tempest", count)), &filter);
            let (few, many) = (steps(10), steps(10_000));
            assert!(few > 0 && many <= few, "{few} steps among 10 jobs, {many} among 10,000: {filter:?}");
        }
    }

    #[test]
    fn jobs_that_a_filter_does_not_match_block_nobody_and_keep_their_place() {
        let mut connection = queue_of(jobs("tempest", 1000).chain(jobs("unit", 1)));
        assert_eq!(taken(&mut connection, &only("docs")), None);
        assert_eq!(taken(&mut connection, &only("unit")), Some(samples::job_on(0, "unit")));
        assert_eq!(taken(&mut connection, &only("unit")), None);
        assert_eq!(taken(&mut connection, &JobFilter::any()), Some(samples::job_on(0, "tempest")));
        let steps = steps_of_a_claim(queue_of(jobs("tempest", 1000).chain(jobs("unit", 1))), &only("unit"));
        assert!(steps < 50 * 1000, "{steps} steps to skip 1000 jobs");
    }

    #[test]
    fn a_filter_of_labels_matches_jobs_with_them_and_jobs_without_any() {
        let label = |label: &str| NodeLabel::new(label).unwrap();
        let plain = samples::job_on(1, "tempest");
        let large = samples::job_on(2, "tempest").with_label(label("large"));
        let mut connection = queue_of([large.clone(), plain.clone()]);
        let small = only("tempest").with_labels([label("small")]);
        assert_eq!(taken(&mut connection, &small), Some(plain));
        assert_eq!(taken(&mut connection, &small), None);
        let both = JobFilter::any().with_labels([label("small"), label("large")]);
        assert_eq!(taken(&mut connection, &both), Some(large));
    }

    #[test]
    fn an_unreadable_job_becomes_a_dead_letter_and_blocks_nobody() {
        let mut connection = queue_of(jobs("tempest", 1));
        connection.execute("UPDATE jobs SET seq = 5", []).unwrap();
        let sql =
            "INSERT INTO jobs (seq, id, name, state, job) VALUES (1, 'x', 'tempest', 'ready', '{\"id\": 7')";
        connection.execute(sql, []).unwrap();
        assert_eq!(taken(&mut connection, &JobFilter::any()), Some(samples::job_on(0, "tempest")));
        assert_eq!(depth(&connection, now()).unwrap(), QueueDepth::new(0, 1, 1));
    }
}
