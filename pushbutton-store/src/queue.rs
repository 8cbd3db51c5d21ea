//! The queue, as rows of one table that change their state.

use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::traits::DeadLetter;
use pushbutton_core::{
    Claim, ControlMessage, ControlMessages, Error, ErrorKind, Job, Queue, QueueDepth, Result, RunId,
};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::Store;
use crate::claim::{Lease, StoreClaim};
use crate::error::Fault;
use crate::notices::{self, StoreNotices};
use crate::store::{now, time};

/// The longest wait before looking again: a step of the wall clock delays nothing for longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Reasons are for people; longer ones are cut.
const MAX_WHY: usize = 2_000;

/// A [`Queue`] in the store's file, for operators on one host.
///
/// Leases and delays are measured by the wall clock, the only one that processes and restarts share. A clock that is set forward ends
/// leases early: their holders learn it at their next renewal.
#[derive(Debug, Clone)]
pub struct StoreQueue {
    pub(crate) store: Store,
    pub(crate) lease: Duration,
}

impl StoreQueue {
    pub(crate) fn new(store: Store, lease: Duration) -> Self {
        Self { store, lease }
    }
}

#[async_trait]
impl Queue for StoreQueue {
    async fn publish(&self, job: &Job) -> Result<()> {
        let job = job.clone();
        let write = move |connection: &mut Connection| {
            let text = serde_json::to_string(&job)?;
            let mut write = connection.prepare_cached(
                "INSERT INTO jobs (id, state, job, failed_attempts) VALUES (?, 'ready', ?, ?)
                 ON CONFLICT (id) DO NOTHING",
            )?;
            Ok(write.execute(params![job.id.as_str(), text, job.failed_attempts])? == 1)
        };
        if self.store.call("queue::publish", write).await? {
            self.store.announce_change();
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Box<dyn Claim>> {
        let news = self.store.news();
        let _waiting = news.wait();
        loop {
            let changed = news.changed.notified();
            tokio::pin!(changed);
            // Listen before looking, so that nothing falls between the two.
            changed.as_mut().enable();
            let queue = self.clone();
            let look = move |connection: &mut Connection| {
                take(connection, queue.lease).map(|look| match look {
                    Look::Got(job, lease) => Ok(StoreClaim::new(queue, *job, lease)),
                    Look::Nothing { next } => Err(next),
                })
            };
            let next = match self.store.call("queue::claim", look).await? {
                Ok(claim) => return Ok(Box::new(claim.heard())),
                Err(next) => next,
            };
            let wait = next.map_or(LONGEST_WAIT, |at| {
                Duration::from_millis(u64::try_from(at - now()).unwrap_or(0) + 1).min(LONGEST_WAIT)
            });
            // Either way there is a reason to look again.
            let _ = tokio::time::timeout(wait, changed).await;
        }
    }

    async fn broadcast(&self, notice: &ControlMessage) -> Result<()> {
        let notice = notice.clone();
        self.store.call("queue::broadcast", move |connection| notices::add(connection, &notice)).await?;
        self.store.announce_change();
        Ok(())
    }

    async fn control_messages(&self) -> Result<Box<dyn ControlMessages>> {
        Ok(Box::new(StoreNotices::new(self.store.clone()).await?))
    }

    async fn depth(&self) -> Result<QueueDepth> {
        self.store.call("queue::depth", |connection| depth(connection, now())).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let ask = move |connection: &mut Connection| {
            let mut ask = connection.prepare_cached(
                "SELECT job, failed_attempts, why, ended_at, id FROM jobs
                 WHERE state = 'dead' AND ended_at IS NOT NULL ORDER BY ended_at, place LIMIT ?",
            )?;
            let rows = ask.query_and_then(params![limit], dead_letter)?;
            rows.collect()
        };
        self.store.call("queue::dead_letters", ask).await
    }

    async fn requeue_dead_letter(&self, letter: &str) -> Result<bool> {
        let letter = letter.to_owned();
        let write = move |connection: &mut Connection| requeue(connection, &letter);
        let requeued = self.store.call("queue::requeue_dead_letter", write).await?;
        if requeued {
            self.store.announce_change();
        }
        Ok(requeued)
    }

    async fn drop_dead_letter(&self, letter: &str) -> Result<bool> {
        let letter = letter.to_owned();
        let write = move |connection: &mut Connection| {
            let change =
                "UPDATE jobs SET state = 'done', job = NULL, ended_at = ? WHERE id = ? AND state = 'dead'";
            Ok(connection.execute(change, params![now(), letter])? == 1)
        };
        self.store.call("queue::drop_dead_letter", write).await
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        let ask = |connection: &mut Connection| {
            let mut ask = connection.prepare_cached(
                "SELECT run FROM jobs WHERE due_at > ? AND state = 'leased' AND run IS NOT NULL",
            )?;
            let rows = ask.query_and_then(params![now()], |row| -> Result<RunId, Fault> {
                Ok(RunId::new(row.get::<_, String>(0)?)?)
            })?;
            rows.collect()
        };
        self.store.call("queue::leased_runs", ask).await
    }
}

enum Look {
    Got(Box<Job>, Lease),
    /// When the next delay or lease ends, if there is any.
    Nothing {
        next: Option<i64>,
    },
}

const GIVE_BACK_DUE: &str = "UPDATE jobs SET state = 'ready', due_at = NULL WHERE due_at <= ?";
const FIRST_READY: &str =
    "SELECT place, id, job, failed_attempts, epoch FROM jobs WHERE state = 'ready' ORDER BY place LIMIT 1";
const LEASE: &str = "UPDATE jobs SET state = 'leased', due_at = ?, epoch = ?, run = ? WHERE place = ?";
const NEXT_DUE: &str = "SELECT min(due_at) FROM jobs WHERE due_at IS NOT NULL";

/// Takes the first job that may be run, or tells when to look again.
fn take(connection: &mut Connection, lease: Duration) -> Result<Look, Fault> {
    let now = now();
    let next: Option<i64> = connection.prepare_cached(NEXT_DUE)?.query_row([], |row| row.get(0))?;
    let ready = connection.prepare_cached(FIRST_READY)?.exists([])?;
    if !ready && next.is_none_or(|next| next > now) {
        // Nothing to take: idle operators write nothing.
        return Ok(Look::Nothing { next });
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // What its delay or its holder has given free keeps its place, ahead of what came later.
    transaction.prepare_cached(GIVE_BACK_DUE)?.execute(params![now])?;
    let mut found = None;
    loop {
        let Some((place, id, text, failed_attempts, epoch)) = first_ready(&transaction)? else { break };
        match serde_json::from_str::<Job>(&text) {
            Ok(mut job) if job.id.as_str() == id => {
                job.failed_attempts = failed_attempts;
                let ends = now.saturating_add(crate::upkeep::millis(lease));
                let lease = Lease { run: RunId::generate(), epoch: epoch + 1, ends };
                let values = params![lease.ends, lease.epoch, lease.run.as_str(), place];
                transaction.prepare_cached(LEASE)?.execute(values)?;
                found = Some((job, lease));
                break;
            }
            // Nobody will ever be able to run it: put aside, so that it does not block those behind it.
            unreadable => {
                let why = unreadable.err().map_or("its id differs".to_owned(), |error| error.to_string());
                tracing::error!(job = id, why, "a queued job cannot be read; it goes to the dead letters");
                transaction.execute(
                    "UPDATE jobs SET state = 'dead', why = 'cannot be read: ' || ?, ended_at = ? WHERE place = ?",
                    params![cut(&why), now, place],
                )?;
            }
        }
    }
    let next: Option<i64> = transaction.prepare_cached(NEXT_DUE)?.query_row([], |row| row.get(0))?;
    transaction.commit()?;
    Ok(match found {
        Some((job, lease)) => Look::Got(Box::new(job), lease),
        None => Look::Nothing { next },
    })
}

type Ready = (i64, String, String, u32, i64);

fn first_ready(connection: &Connection) -> Result<Option<Ready>, Fault> {
    let mut ask = connection.prepare_cached(FIRST_READY)?;
    let row = |row: &Row<'_>| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get::<_, Option<_>>(2)?.unwrap_or_default(),
            row.get(3)?,
            row.get(4)?,
        ))
    };
    Ok(ask.query_row([], row).optional()?)
}

fn depth(connection: &Connection, now: i64) -> Result<QueueDepth, Fault> {
    let count = |sql: &str, params: &[&dyn rusqlite::ToSql]| -> Result<u64, Fault> {
        let count: i64 = connection.prepare_cached(sql)?.query_row(params, |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    let ready = count("SELECT count(*) FROM jobs WHERE state = 'ready'", &[])?;
    let due = count("SELECT count(*) FROM jobs WHERE due_at IS NOT NULL", &[])?;
    // A lease that has run out is a job that waits.
    let leased = count("SELECT count(*) FROM jobs WHERE due_at > ? AND state = 'leased'", &[&now])?;
    let dead = count("SELECT count(*) FROM jobs WHERE state = 'dead' AND ended_at IS NOT NULL", &[])?;
    Ok(QueueDepth { waiting: ready + due - leased, leased, dead })
}

fn dead_letter(row: &Row<'_>) -> Result<DeadLetter, Fault> {
    let text: Option<String> = row.get(0)?;
    let mut job = text.and_then(|text| serde_json::from_str::<Job>(&text).ok());
    if let Some(job) = &mut job {
        job.failed_attempts = row.get(1)?;
    }
    let why: Option<String> = row.get(2)?;
    let at: Option<i64> = row.get(3)?;
    let id = row.get(4)?;
    Ok(DeadLetter { id, job, why: why.unwrap_or_default(), at: at.map(time).transpose()? })
}

/// Makes a dead job wait at the end of the queue; false when there is none.
fn requeue(connection: &mut Connection, letter: &str) -> Result<bool, Fault> {
    // Immediate: of two people at once, one finds it and the other does not.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let text: Option<Option<String>> = transaction
        .query_row("SELECT job FROM jobs WHERE id = ? AND state = 'dead'", params![letter], |row| row.get(0))
        .optional()?;
    let Some(text) = text else { return Ok(false) };
    if text.and_then(|text| serde_json::from_str::<Job>(&text).ok()).is_none() {
        let message = "this dead letter's job cannot be read, so nobody can run it: drop it";
        return Err(Error::permanent(ErrorKind::Invalid, message).with("letter", letter).into());
    }
    transaction.execute(
        "UPDATE jobs SET state = 'ready', ended_at = NULL, why = NULL, failed_attempts = 0,
         place = (SELECT max(place) + 1 FROM jobs) WHERE id = ?",
        params![letter],
    )?;
    transaction.commit()?;
    Ok(true)
}

/// As much of a reason as is kept.
pub(crate) fn cut(why: &str) -> String {
    why.chars().take(MAX_WHY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::migrate;
    use pushbutton_core::samples;
    use rusqlite::StatementStatus;

    fn with_jobs(count: u64) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let transaction = connection.transaction().unwrap();
        for n in 0..count {
            let job = samples::job_on(n, "tempest");
            transaction
                .prepare_cached("INSERT INTO jobs (id, state, job) VALUES (?, 'ready', ?)")
                .unwrap()
                .execute(params![job.id.as_str(), serde_json::to_string(&job).unwrap()])
                .unwrap();
        }
        transaction.commit().unwrap();
        connection
    }

    #[test]
    fn every_question_of_a_claim_is_answered_from_an_index() {
        let connection = with_jobs(0);
        for sql in [GIVE_BACK_DUE, FIRST_READY, NEXT_DUE] {
            let plan: Vec<String> = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap()
                .query_map(rusqlite::params_from_iter((sql.contains('?')).then_some(0)), |row| row.get(3))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert!(
                plan.iter().all(|step| step.contains("USING") && step.contains("INDEX")),
                "{sql}: {plan:?}"
            );
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{sql}: {plan:?}");
        }
    }

    /// Steps of SQLite's virtual machine: work, not time.
    fn steps_of_a_claim(connection: &mut Connection) -> i32 {
        assert!(matches!(take(connection, Duration::from_secs(60)).unwrap(), Look::Got(..)));
        let steps = |sql| connection.prepare_cached(sql).unwrap().get_status(StatementStatus::VmStep);
        [GIVE_BACK_DUE, FIRST_READY, NEXT_DUE, LEASE].into_iter().map(steps).sum()
    }

    #[test]
    fn a_claim_among_ten_thousand_jobs_is_as_much_work_as_among_ten() {
        let (few, many) = (steps_of_a_claim(&mut with_jobs(10)), steps_of_a_claim(&mut with_jobs(10_000)));
        assert!(few > 0 && many <= few, "{few} steps among 10 jobs, {many} among 10,000");
    }

    #[test]
    fn a_job_that_cannot_be_read_is_put_aside_and_blocks_nobody() {
        let mut connection = with_jobs(1);
        connection.execute("UPDATE jobs SET place = 5", []).unwrap();
        connection
            .execute("INSERT INTO jobs (place, id, state, job) VALUES (1, 'x', 'ready', '{\"id\": 7')", [])
            .unwrap();
        let Look::Got(job, _) = take(&mut connection, Duration::from_secs(60)).unwrap() else {
            panic!("the job behind it was not found")
        };
        assert_eq!(job.id, samples::job_on(0, "tempest").id);
        assert_eq!(depth(&connection, now()).unwrap(), QueueDepth { waiting: 0, leased: 1, dead: 1 });
    }
}
