//! The queue: rows of one table that change their state.

use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use pushbutton_core::{
    BuildsetId, Claim, ControlMessage, ControlMessages, DeadLetter, Delivery, Error, ErrorKind,
    InstallationId, Job, JobEnd, JobFilter, Queue, QueueAges, QueueDepth, Result, RunId, WaitingJobs,
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, TransactionBehavior, params};

use crate::Store;
use crate::claim::{Lease, StoreClaim};
use crate::clocks::Moment;
use crate::column::{Json, Text, millis};
use crate::error::StoreError;
use crate::history::end_runs_of_dead_letter;
use crate::outbox::Member;
use crate::skipped::Skipped;
use crate::{control_messages, outbox};

/// Reasons are for people; longer ones are cut.
const MAX_REASON: usize = 2_000;

/// A [`Queue`] in the store's file, for operators on one host.
///
/// Leases are measured by the machine's clock since its boot, which nobody can set; delays of retries by the time of
/// day.
#[derive(Debug, Clone)]
pub struct StoreQueue(pub(crate) Store);

#[async_trait]
impl Queue for StoreQueue {
    async fn publish(&self, job: &Job) -> Result<()> {
        let job = job.clone();
        let write = move |connection: &mut Connection| publish(connection, &job);
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
                let limits = Limits { lease: store.lease(), max_lost_leases: store.max_lost_leases() };
                let taken = take(connection, &filter, limits, &store.now())?;
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

    async fn claim_report(&self) -> Result<Box<dyn Delivery>> {
        outbox::claim(&self.0).await
    }

    async fn depth(&self) -> Result<QueueDepth> {
        let now = self.0.now();
        self.0.call("queue::depth", move |connection| depth(connection, &now)).await
    }

    async fn waiting(&self) -> Result<Vec<WaitingJobs>> {
        let now = self.0.now();
        self.0.call("queue::waiting", move |connection| waiting(connection, &now)).await
    }

    async fn ages(&self) -> Result<QueueAges> {
        self.0.call("queue::ages", |connection| ages(connection)).await
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        let now = self.0.now();
        let read = move |connection: &mut Connection| {
            let sql = "SELECT run FROM jobs WHERE state = 'leased' AND boot = ? AND lease_ends > ?";
            let mut statement = connection.prepare_cached(sql)?;
            let runs =
                statement.query_map(params![now.boot, now.uptime], |row| Ok(row.get::<_, Text<_>>(0)?.0))?;
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

/// How old a dead letter must be so that a job of the same id is a new one.
const DEAD_LETTER_AGE: SignedDuration = SignedDuration::from_hours(24);

/// Adds a job, or lets a waiting one absorb it; false when its id is known.
fn publish(connection: &mut Connection, job: &Job) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let old = job.created.checked_sub(DEAD_LETTER_AGE).map_or(i64::MIN, |before| before.as_millisecond());
    let forget = "DELETE FROM jobs WHERE id = ? AND state = 'dead' AND ended_at < ?";
    transaction.prepare_cached(forget)?.execute(params![job.id.as_str(), old])?;
    let absorber = absorber(&transaction, job)?;
    let is_new = insert(&transaction, job)?;
    if let (true, Some(by)) = (is_new, absorber) {
        let sql = "UPDATE jobs SET state = 'done', job = NULL, ended_at = ? WHERE id = ?";
        transaction.prepare_cached(sql)?.execute(params![crate::column::now(), job.id.as_str()])?;
        outbox::end_job(&transaction, job, JobEnd::Absorbed { by })?;
    }
    transaction.commit()?;
    Ok(is_new)
}

/// The buildset whose waiting job absorbs this one.
fn absorber(connection: &Connection, job: &Job) -> Result<Option<BuildsetId>, StoreError> {
    let sql =
        "SELECT job FROM jobs WHERE change = ? AND name = ? AND state IN ('ready', 'delayed') AND id <> ?";
    let mut statement = connection.prepare_cached(sql)?;
    let waiting = statement
        .query_map(params![change_of(job), job.name.as_str(), job.id.as_str()], |row| {
            Ok(row.get::<_, Json<Job>>(0))
        })?;
    for waiting in waiting {
        // One that cannot be read absorbs nothing; a claim makes it a dead letter.
        if let Ok(Json(waiting)) = waiting? {
            if waiting.absorbs(job) {
                return Ok(Some(waiting.buildset.id));
            }
        }
    }
    Ok(None)
}

fn change_of(job: &Job) -> i64 {
    i64::try_from(job.change.number.0).unwrap_or(i64::MAX)
}

/// Adds a job; false when its id is known.
fn insert(connection: &Connection, job: &Job) -> Result<bool, StoreError> {
    let sql =
        "INSERT INTO jobs (id, state, name, label, change, job, failed_attempts) VALUES (?, 'ready', ?, ?, ?, ?, ?)
               ON CONFLICT (id) DO NOTHING";
    let label = job.label.as_ref().map(|label| label.as_str());
    let row =
        params![job.id.as_str(), job.name.as_str(), label, change_of(job), Json(job), job.failed_attempts];
    Ok(connection.prepare_cached(sql)?.execute(row)? == 1)
}

const ANY_DUE: &str = "SELECT 1 FROM jobs WHERE due_at <= ? LIMIT 1";
const RETURN_DUE: &str = "UPDATE jobs SET state = 'ready', due_at = NULL WHERE due_at <= ?";
const ANY_LOST: &str =
    "SELECT 1 FROM jobs WHERE state = 'leased' AND (boot IS NOT ?1 OR lease_ends <= ?2) LIMIT 1";
/// Leases that have ended. There are at most as many leases as slots of operators.
const LOST: &str = "SELECT seq, id, lost_leases + 1, job FROM jobs WHERE state = 'leased' AND (boot IS NOT ?1 OR lease_ends <= ?2)";
const RETURN_LOST: &str =
    "UPDATE jobs SET state = 'ready', boot = NULL, lease_ends = NULL, run = NULL, lost_leases = ?2
    WHERE seq = ?1";
const DEAD_LETTER_LOST: &str =
    "UPDATE jobs SET state = 'dead', boot = NULL, lease_ends = NULL, run = NULL, lost_leases = ?2,
    why = ?3, ended_at = ?4 WHERE seq = ?1";
/// Walks the index in the queue's order and skips what the filter does not match.
const FIRST_READY: &str = "SELECT seq, id, job, failed_attempts, epoch FROM jobs WHERE state = 'ready'
    AND (?1 IS NULL OR name IN (SELECT value FROM json_each(?1)))
    AND (?2 IS NULL OR label IS NULL OR label IN (SELECT value FROM json_each(?2))) ORDER BY seq LIMIT 1";
const LEASE: &str =
    "UPDATE jobs SET state = 'leased', boot = ?, lease_ends = ?, epoch = ?, run = ? WHERE seq = ?";

#[derive(Debug, Clone, Copy)]
struct Limits {
    lease: Duration,
    max_lost_leases: u32,
}

/// Returns jobs whose leases have ended. One whose leases ended too often becomes a dead letter.
fn return_lost(connection: &Connection, limits: Limits, now: &Moment) -> Result<(), StoreError> {
    let mut lost = connection.prepare_cached(LOST)?;
    let rows = lost.query_map(params![now.boot, now.uptime], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, u32>(2)?,
            row.get::<_, Json<Member>>(3).ok(),
        ))
    })?;
    for (seq, job, count, member) in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        if count < limits.max_lost_leases {
            tracing::warn!(job, count, "a lease has ended, the job returns to the queue");
            connection.prepare_cached(RETURN_LOST)?.execute(params![seq, count])?;
        } else {
            let why = DeadLetter::lost_leases_reason(count);
            tracing::warn!(job, "the job becomes a dead letter: {why}");
            connection.prepare_cached(DEAD_LETTER_LOST)?.execute(params![seq, count, why, now.date])?;
            // No further claim ends its last run.
            end_runs_of_dead_letter(connection, &job, now.date, &why)?;
            if let Some(Json(member)) = member.filter(|member| member.0.id.as_str() == job) {
                member.end(connection, JobEnd::Dead { why })?;
            }
        }
    }
    Ok(())
}

/// Leases the first ready job that the filter matches.
fn take(
    connection: &mut Connection,
    filter: &Filter,
    limits: Limits,
    now: &Moment,
) -> Result<Option<(Job, Lease)>, StoreError> {
    let matching = [&filter.names as &dyn ToSql, &filter.labels];
    if !connection.prepare_cached(FIRST_READY)?.exists(matching)?
        && !connection.prepare_cached(ANY_DUE)?.exists(params![now.date])?
        && !connection.prepare_cached(ANY_LOST)?.exists(params![now.boot, now.uptime])?
    {
        // Idle operators only read.
        return Ok(None);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Jobs whose delay or lease has ended keep their number, so they come before later ones.
    transaction.prepare_cached(RETURN_DUE)?.execute(params![now.date])?;
    return_lost(&transaction, limits, now)?;
    let mut taken = None;
    let mut first_ready = transaction.prepare_cached(FIRST_READY)?;
    while let Some(ready) = first_ready.query_row(matching, Ready::read).optional()? {
        match ready.job {
            Ok(Json(job)) if job.id.as_str() == ready.id => {
                let ends = now.uptime.saturating_add(millis(limits.lease));
                let lease = Lease { run: RunId::generate(), epoch: ready.epoch + 1, ends };
                let row = params![now.boot, lease.ends, lease.epoch, lease.run.as_str(), ready.seq];
                transaction.prepare_cached(LEASE)?.execute(row)?;
                taken = Some((job.with_failed_attempts(ready.failed_attempts), lease));
                break;
            }
            // No operator will ever be able to run it: as a dead letter it does not block those behind it.
            unreadable => {
                let why = unreadable.err().map_or("its id differs".to_owned(), |error| error.to_string());
                tracing::error!(job = ready.id, why, "moving a job that cannot be read to the dead letters");
                let why = outbox::unreadable(&why);
                let sql = "UPDATE jobs SET state = 'dead', why = ?, ended_at = ? WHERE seq = ?";
                transaction.execute(sql, params![why, now.date, ready.seq])?;
                if let Some(Json(member)) = ready.member.filter(|member| member.0.id.as_str() == ready.id) {
                    member.end(&transaction, JobEnd::Dead { why })?;
                }
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
    /// What can be read of a job that cannot be read as a whole.
    member: Option<Json<Member>>,
    failed_attempts: u32,
    epoch: i64,
}

impl Ready {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let job = row.get(2);
        Ok(Self {
            seq: row.get(0)?,
            id: row.get(1)?,
            member: if job.is_err() { row.get(2).ok() } else { None },
            job,
            failed_attempts: row.get(3)?,
            epoch: row.get(4)?,
        })
    }
}

fn depth(connection: &Connection, now: &Moment) -> Result<QueueDepth, StoreError> {
    let count = |condition: &str, arguments: &[&dyn ToSql]| -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM jobs WHERE {condition}");
        Ok(connection.prepare_cached(&sql)?.query_row(arguments, |row| row.get::<_, i64>(0))?.unsigned_abs())
    };
    let ready = count("state = 'ready'", &[])?;
    let delayed = count("due_at IS NOT NULL", &[])?;
    let claimed = count("state = 'leased'", &[])?;
    let leased = count("state = 'leased' AND boot = ? AND lease_ends > ?", &[&now.boot, &now.uptime])?;
    let dead = count("state = 'dead' AND ended_at IS NOT NULL", &[])?;
    // A job whose lease has ended is waiting.
    let (reports, undelivered) = outbox::depth(connection)?;
    Ok(QueueDepth::new(ready + delayed + claimed - leased, leased, dead)
        .with_reports(reports)
        .with_undelivered(undelivered))
}

/// Jobs of one kind are counted by SQLite: there may be many.
fn waiting(connection: &Connection, now: &Moment) -> Result<Vec<WaitingJobs>, StoreError> {
    // A job whose lease has ended is waiting. Times are compared as texts: right to a second.
    let sql = "SELECT name, label, count(*), min(CASE WHEN json_valid(job) THEN job ->> '$.created' END) FROM jobs WHERE state IN ('ready', 'delayed') \
               OR (state = 'leased' AND (boot <> ? OR lease_ends <= ?)) GROUP BY name, label ORDER BY name, label";
    let mut statement = connection.prepare_cached(sql)?;
    let kind = |row: &Row<'_>| {
        let label: Option<Text<_>> = row.get(1)?;
        let (count, created): (i64, Text<_>) = (row.get(2)?, row.get(3)?);
        let name: Text<_> = row.get(0)?;
        Ok(WaitingJobs::new(name.0, label.map(|label| label.0), count.unsigned_abs(), created.0))
    };
    let (mut kinds, mut skipped) = (Vec::new(), Skipped::default());
    let mut rows = statement.query(params![now.boot, now.uptime])?;
    while let Some(row) = rows.next()? {
        kinds.extend(skipped.readable(row, kind(row)));
    }
    skipped.warn("jobs");
    Ok(kinds)
}

fn ages(connection: &Connection) -> Result<QueueAges, StoreError> {
    let sql = "SELECT min(CASE WHEN json_valid(job) THEN job ->> '$.created' END) FROM jobs \
               WHERE state IN ('ready', 'delayed')";
    let waiting: Option<String> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    let waiting = waiting.and_then(|text| text.parse().ok());
    Ok(QueueAges::new(waiting, outbox::oldest(connection)?))
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

    const LIMITS: Limits = Limits { lease: Duration::from_secs(60), max_lost_leases: 3 };

    /// This long after the boot with this name.
    fn moment(boot: &str, uptime: i64) -> Moment {
        Moment { date: 1_700_000_000_000 + uptime, uptime, boot: boot.into() }
    }

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
        take(connection, &filter.into(), LIMITS, &moment("boot", 0)).unwrap().map(|(job, _)| job)
    }

    /// How SQLite would run a statement on a new file.
    fn plan_of(sql: &str) -> Vec<String> {
        let connection = queue_of([]);
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let arguments = rusqlite::params_from_iter(vec![0; explain.parameter_count()]);
        explain.query_map(arguments, |row| row.get(3)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn every_query_of_a_claim_uses_an_index() {
        for sql in [ANY_DUE, RETURN_DUE, ANY_LOST, LOST, RETURN_LOST, DEAD_LETTER_LOST, FIRST_READY, LEASE] {
            let plan = plan_of(sql);
            let of_jobs: Vec<_> = plan.iter().filter(|step| step.contains("jobs")).collect();
            let searches = |step: &&String| step.starts_with("SEARCH") && step.contains("USING");
            assert!(!of_jobs.is_empty() && of_jobs.iter().all(searches), "{sql}: {plan:?}");
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{sql}: {plan:?}");
        }
    }

    #[test]
    fn the_first_report_that_is_due_is_found_without_sorting_all() {
        assert_eq!(plan_of(outbox::FIRST_DUE), ["SCAN reports USING INDEX reports_open"]);
    }

    /// Steps of SQLite's virtual machine: work, not time.
    fn steps_of_a_claim(mut connection: Connection, filter: &JobFilter) -> i32 {
        assert!(taken(&mut connection, filter).is_some());
        let steps = |sql| connection.prepare_cached(sql).unwrap().get_status(StatementStatus::VmStep);
        [ANY_DUE, RETURN_DUE, ANY_LOST, LOST, FIRST_READY, LEASE].into_iter().map(steps).sum()
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
    fn a_lease_ends_by_the_clock_since_boot_alone_and_at_a_reboot() {
        let lease = millis(LIMITS.lease);
        let mut connection = queue_of(jobs("tempest", 1));
        let mut claim_at = |now: &Moment| take(&mut connection, &Filter::default(), LIMITS, now).unwrap();
        let epoch = |claim: Option<(Job, Lease)>| claim.map(|(_, lease)| lease.epoch);
        assert_eq!(epoch(claim_at(&moment("one", 0))), Some(1));
        for days in [-1, 1] {
            let date = moment("one", 0).date + days * 86_400_000;
            assert_eq!(epoch(claim_at(&Moment { date, ..moment("one", lease - 1) })), None, "{days} days");
        }
        assert_eq!(epoch(claim_at(&moment("one", lease))), Some(2));
        // No holder has survived a reboot.
        assert_eq!(epoch(claim_at(&moment("two", 5))), Some(3));
    }

    #[test]
    fn an_unreadable_job_becomes_a_dead_letter_and_blocks_nobody() {
        let mut connection = queue_of(jobs("tempest", 1));
        connection.execute("UPDATE jobs SET seq = 5", []).unwrap();
        let sql =
            "INSERT INTO jobs (seq, id, name, state, job) VALUES (1, 'x', 'tempest', 'ready', '{\"id\": 7')";
        connection.execute(sql, []).unwrap();
        assert_eq!(taken(&mut connection, &JobFilter::any()), Some(samples::job_on(0, "tempest")));
        assert_eq!(depth(&connection, &moment("boot", 0)).unwrap(), QueueDepth::new(0, 1, 1));
    }

    /// A job that is published, and edited in the file so that it cannot be read; its buildset can.
    fn damaged(change: u64, damage: &str) -> (Connection, Job) {
        let job = samples::job_on(change, "tempest");
        let names = ["tempest", "unit"].map(|name| JobName::new(name).unwrap());
        let buildset = pushbutton_core::Buildset::of(&job.cause.event, names);
        let [tempest, unit] = ["tempest", "unit"].map(|name| samples::job_on(change, name));
        let [tempest, unit] = [tempest, unit].map(|job| job.with_buildset(buildset.clone()));
        let connection = queue_of([tempest.clone()]);
        let end = JobEnd::Finished { result: Box::new(samples::success(&unit)) };
        outbox::end_job(&connection, &unit, end).unwrap();
        connection.execute(&format!("UPDATE jobs SET job = {damage}"), []).unwrap();
        (connection, tempest)
    }

    fn missing(connection: &Connection) -> Vec<(String, String)> {
        let sql = "SELECT m.value ->> '$.name', m.value ->> '$.why' FROM reports, json_each(report, '$.missing') AS m";
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_job_that_cannot_be_read_ends_in_its_buildset_at_once_where_that_is_known() {
        let (mut connection, _) = damaged(1, "json_remove(job, '$.change')");
        assert_eq!(taken(&mut connection, &JobFilter::any()), None);
        let found = missing(&connection);
        assert_eq!(found.len(), 1, "the result of its sibling is reported");
        assert_eq!(found[0].0, "tempest");
        assert!(found[0].1.starts_with("cannot be read: "), "{found:?}");
        let why: String = connection.query_row("SELECT why FROM jobs", [], |row| row.get(0)).unwrap();
        assert_eq!(why, found[0].1, "the dead letter says the same");
        for unknown in ["'{\"id\": 7'", "json_set(job, '$.id', '0123456789abcdef0123456789abcdef')"] {
            let (mut connection, _) = damaged(1, unknown);
            assert_eq!(taken(&mut connection, &JobFilter::any()), None);
            assert_eq!(missing(&connection), [], "the buildset may be another one's: {unknown}");
            assert_eq!(depth(&connection, &moment("boot", 0)).unwrap(), QueueDepth::new(0, 0, 1));
        }
    }

    #[test]
    fn a_job_that_cannot_be_read_and_dies_of_lost_leases_ends_in_its_buildset() {
        let (mut connection, job) = damaged(1, "job");
        let limits = Limits { max_lost_leases: 1, ..LIMITS };
        let claim_at = |connection: &mut Connection, now| {
            take(connection, &Filter::default(), limits, &moment("boot", now)).unwrap()
        };
        assert_eq!(claim_at(&mut connection, 0).map(|(taken, _)| taken), Some(job));
        connection.execute("UPDATE jobs SET job = json_remove(job, '$.change')", []).unwrap();
        assert!(claim_at(&mut connection, millis(LIMITS.lease)).is_none());
        assert_eq!(missing(&connection), [("tempest".into(), DeadLetter::lost_leases_reason(1))]);
    }

    #[test]
    fn waiting_jobs_and_ages_are_known_beside_jobs_that_cannot_be_read() {
        let connection = queue_of(jobs("tempest", 3));
        let all = |connection: &Connection| {
            let waiting = waiting(connection, &moment("boot", 0)).unwrap();
            (waiting, ages(connection).unwrap())
        };
        let expected = all(&connection);
        assert_eq!((expected.0.len(), expected.1.waiting), (1, Some(samples::AT)));
        for (name, job) in [("docs", "{\"id\": 7"), ("lint", "{}"), ("not a name!", "{}")] {
            let sql = "INSERT INTO jobs (id, name, state, job) VALUES (?1, ?1, 'ready', ?2)";
            connection.execute(sql, params![name, job]).unwrap();
        }
        assert_eq!(all(&connection), expected);
    }
}
