//! A queue of your own: here one around a list in memory, checked against the same contract as RabbitMQ and SQLite.
//! Run it with `cargo run -p pushbutton-core --example custom_queue`.
//!
//! It needs the methods of `Queue` and `Claim` and nothing else. What carries results back to the handler is taken from
//! the memory queue.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pushbutton_core::memory::MemoryOutbox;
use pushbutton_core::{
    Claim, ControlMessage, ControlMessages, Delivery, Error, ErrorKind, InstallationId, Job, JobEnd,
    JobFilter, Queue, QueueDepth, Result, RunId, RunResult, Stream, WaitingJobs, async_trait,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

const LEASE: Duration = Duration::from_secs(2);

/// All jobs that were ever published, in order, with their states.
#[derive(Clone)]
struct SmallQueue {
    contents: Arc<Mutex<Contents>>,
    outbox: MemoryOutbox,
}

impl Default for SmallQueue {
    fn default() -> Self {
        Self { contents: Arc::default(), outbox: MemoryOutbox::with_lease(LEASE) }
    }
}

#[derive(Default)]
struct Contents {
    jobs: VecDeque<(Job, State)>,
    messages: Vec<ControlMessage>,
    subscribers: Vec<mpsc::UnboundedSender<ControlMessage>>,
    installation: Option<InstallationId>,
}

enum State {
    /// Not to be claimed before this time.
    Waiting(Instant),
    Leased(RunId, Instant),
    /// By this run; none for a job that was absorbed.
    Completed(Option<RunId>),
    Dead,
}

impl SmallQueue {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_claim(&self, filter: &JobFilter) -> Option<SmallClaim> {
        let (mut contents, now) = (self.lock(), Instant::now());
        // A lease that has ended is the holder's until another claim takes the job.
        let is_due = |state: &State| matches!(state, State::Waiting(at) | State::Leased(_, at) if *at <= now);
        let (job, state) =
            contents.jobs.iter_mut().find(|(job, state)| is_due(state) && filter.matches(job))?;
        let run = RunId::generate();
        *state = State::Leased(run.clone(), now + LEASE);
        let claim = SmallClaim { queue: self.clone(), job: job.clone(), run, end: Mutex::new(now + LEASE) };
        Some(claim)
    }
}

#[async_trait]
impl Queue for SmallQueue {
    async fn publish(&self, job: &Job) -> Result<()> {
        let mut contents = self.lock();
        if contents.jobs.iter().any(|(known, _)| known.id == job.id) {
            return Ok(());
        }
        let waits = |state: &State| matches!(state, State::Waiting(_));
        let equal = contents.jobs.iter().find(|(waiting, state)| waits(state) && waiting.absorbs(job));
        let state = match equal {
            Some((waiting, _)) => {
                self.outbox.end(job, JobEnd::Absorbed { by: waiting.buildset.id.clone() });
                State::Completed(None)
            }
            None => State::Waiting(Instant::now()),
        };
        contents.jobs.push_back((job.clone(), state));
        Ok(())
    }

    async fn claim(&self, filter: &JobFilter) -> Result<Box<dyn Claim>> {
        loop {
            if let Some(claim) = self.try_claim(filter) {
                return Ok(Box::new(claim));
            }
            // Short code instead of a notification. `MemoryQueue` shows how to wait without polling.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn broadcast(&self, message: &ControlMessage) -> Result<()> {
        let mut contents = self.lock();
        contents.messages.push(message.clone());
        contents.subscribers.retain(|subscriber| subscriber.send(message.clone()).is_ok());
        Ok(())
    }

    async fn control_messages(&self) -> Result<ControlMessages> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut contents = self.lock();
        for message in &contents.messages {
            let _ = sender.send(message.clone());
        }
        contents.subscribers.push(sender);
        Ok(Box::pin(Messages(receiver)))
    }

    async fn claim_report(&self) -> Result<Box<dyn Delivery>> {
        self.outbox.claim().await
    }

    async fn depth(&self) -> Result<QueueDepth> {
        let mut depth = QueueDepth::default().with_reports(self.outbox.due());
        for (_, state) in &self.lock().jobs {
            match state {
                State::Leased(_, end) if *end > Instant::now() => depth.leased += 1,
                State::Waiting(_) | State::Leased(..) => depth.waiting += 1,
                State::Dead => depth.dead += 1,
                State::Completed(_) => {}
            }
        }
        Ok(depth)
    }

    async fn waiting(&self) -> Result<Vec<WaitingJobs>> {
        let (contents, now) = (self.lock(), Instant::now());
        let waits = |state: &State| match state {
            State::Waiting(_) => true,
            State::Leased(_, end) => *end <= now,
            State::Completed(_) | State::Dead => false,
        };
        let jobs = contents.jobs.iter().filter(|(_, state)| waits(state)).map(|(job, _)| job);
        Ok(WaitingJobs::count(jobs.map(|job| (&job.name, job.label.as_ref(), job.created))))
    }

    async fn leased_runs(&self) -> Result<Vec<RunId>> {
        let run = |state: &State| match state {
            State::Leased(run, end) if *end > Instant::now() => Some(run.clone()),
            _ => None,
        };
        Ok(self.lock().jobs.iter().filter_map(|(_, state)| run(state)).collect())
    }

    async fn installation(&self) -> Result<InstallationId> {
        Ok(self.lock().installation.get_or_insert_with(InstallationId::generate).clone())
    }
}

struct Messages(mpsc::UnboundedReceiver<ControlMessage>);

impl Stream for Messages {
    type Item = Result<ControlMessage>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|message| message.map(Ok))
    }
}

struct SmallClaim {
    queue: SmallQueue,
    job: Job,
    run: RunId,
    end: Mutex<Instant>,
}

impl SmallClaim {
    /// Changes the state of the job, unless the lease is lost.
    fn set(&self, state: State, failed_attempts: u32) -> Result<()> {
        let mut contents = self.queue.lock();
        let is_mine = |state: &State| matches!(state, State::Leased(run, _) if *run == self.run);
        let Some(entry) = contents.jobs.iter_mut().find(|(_, state)| is_mine(state)) else {
            return Err(Error::permanent(ErrorKind::LeaseLost, "another operator may hold the job"));
        };
        entry.0.failed_attempts += failed_attempts;
        entry.1 = state;
        Ok(())
    }
}

#[async_trait]
impl Claim for SmallClaim {
    fn job(&self) -> &Job {
        &self.job
    }

    fn run(&self) -> &RunId {
        &self.run
    }

    fn lease(&self) -> Duration {
        LEASE
    }

    fn expires_in(&self) -> Duration {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).saturating_duration_since(Instant::now())
    }

    async fn renew(&self) -> Result<()> {
        let end = Instant::now() + LEASE;
        self.set(State::Leased(self.run.clone(), end), 0)?;
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
        Ok(())
    }

    async fn complete(&self, result: &RunResult) -> Result<()> {
        let done = State::Completed(Some(self.run.clone()));
        let is_done =
            |(_, state): &(Job, State)| matches!(state, State::Completed(Some(run)) if *run == self.run);
        if self.queue.lock().jobs.iter().any(is_done) {
            return Ok(());
        }
        self.set(done, 0)?;
        self.queue.outbox.end(&self.job, JobEnd::Finished { result: Box::new(result.clone()) });
        Ok(())
    }

    async fn retry(self: Box<Self>, after: Duration, _why: &str) -> Result<()> {
        self.set(State::Waiting(Instant::now() + after), 1)
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.set(State::Waiting(Instant::now()), 0)
    }

    async fn reject(self: Box<Self>, why: &str) -> Result<()> {
        self.set(State::Dead, 0)?;
        self.queue.outbox.end(&self.job, JobEnd::Dead { why: why.to_owned() });
        Ok(())
    }
}

// ---- the test ------------------------------------------------------------------------------------------------------

use pushbutton_testkit::conformance::queue;

/// The clock is paused: the suite waits for the ends of leases, which takes no time then.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let queues = Mutex::new(HashMap::<String, SmallQueue>::new());
    // The same name opens the same queue, as from another machine.
    queue::all(async |name: &str| {
        let mut queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(queues.entry(name.to_owned()).or_default().clone()) as Arc<dyn Queue>
    })
    .await;
    println!("SmallQueue keeps the contract of a Queue");
}
