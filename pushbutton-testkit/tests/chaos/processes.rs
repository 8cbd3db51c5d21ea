//! The lives of a handler and of operators: they work, are cut off, are ended or killed, and start again.

use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::memory::MemoryEventStore;
use pushbutton_core::{
    BreakerPolicy, EventStore, Executor, Handler, LogLocation, Operator, Provisioner, Queue, Reporter,
    Result, Shutdown, Sweeper,
};
use pushbutton_testkit::faults::{
    Fault, FaultPlan, Faulty, FaultyEventStore, FaultyProvisioner, FaultyQueue, FaultySource, Method, Rates,
};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::lab::{Lab, spec};
use crate::rng::Rng;
use crate::upstream::{job_name, triggers};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// At a graceful end, runs get so long.
const DEADLINE: Duration = Duration::from_secs(300);

/// What breaks by chance in everybody's parts.
pub(crate) fn schedule(seed: u64) -> FaultPlan {
    let flaky = Rates { fail: 0.08, lose_answer: 0.08, delay: 0.2, longest_delay: 3 * SECOND, hang: 0.0 };
    let schedule = FaultPlan::seeded(seed, flaky);
    // A lost answer of the stream would be a lost message, which the contract excludes.
    schedule.rates(Method::NextControlMessage, Rates { lose_answer: 0.0, fail: 0.05, ..flaky });
    // A source reconnects by itself.
    schedule.rates(Method::NextEvent, Rates { fail: 0.0, ..flaky });
    schedule.rates(Method::Provision, Rates { hang: 0.02, ..flaky });
    schedule.rates(
        Method::Execute,
        Rates { fail: 0.03, lose_answer: 0.03, delay: 0.1, hang: 0.01, longest_delay: 3 * SECOND },
    );
    schedule
}

/// What a handler asks of its parts.
const HANDLER: &[Method] = &[
    Method::NextEvent,
    Method::HasSeen,
    Method::Broadcast,
    Method::Publish,
    Method::Record,
    Method::CommitSource,
];

/// What an operator asks of its parts.
const OPERATOR: &[Method] = &[
    Method::Claim,
    Method::Renew,
    Method::Provision,
    Method::Execute,
    Method::Report,
    Method::Release,
    Method::Complete,
    Method::Retry,
    Method::HandBack,
    Method::ListOwned,
    Method::LeasedRuns,
];

/// One process: how it is started, how long it lives, and what breaks in it.
struct Life<'a> {
    schedule: FaultPlan,
    rng: Rng,
    longest: Duration,
    asks: &'static [Method],
    start: Box<Start<'a>>,
}

type Start<'a> = dyn Fn(&FaultPlan, Shutdown) -> JoinHandle<Result<()>> + 'a;

impl Life<'_> {
    /// Works, breaks and starts again until the lab is done, then works until it is ended.
    async fn live(mut self, lab: &Lab, name: &str) {
        let done = lab.done.clone();
        while !done.has_begun() {
            let shutdown = Shutdown::new();
            let task = (self.start)(&self.schedule, shutdown.clone());
            for _ in 0..self.rng.below(3) {
                let pause = self.rng.between(SECOND, self.longest);
                tokio::select! { () = sleep(pause) => self.outage().await, () = done.begun() => break }
            }
            let pause = self.rng.between(SECOND, self.longest);
            tokio::select! { () = sleep(pause) => {}, () = done.begun() => {} }
            match if done.has_begun() { 0 } else { self.rng.below(5) } {
                0 => shutdown.begin(),
                1 => {
                    shutdown.begin();
                    sleep(self.rng.between(Duration::ZERO, 20 * SECOND)).await;
                    shutdown.force();
                }
                2 => task.abort(),
                _ => {
                    self.amid_a_call().await;
                    task.abort();
                }
            }
            // The deadline, and the tries to release nodes in a cloud that may be away.
            match timeout(DEADLINE + 60 * MINUTE, task).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => lab.fault(format!("{name} ended with an error: {error}")),
                Ok(Err(error)) if error.is_cancelled() => {}
                Ok(Err(error)) => lab.fault(format!("{name} died: {error}")),
                Err(_) => lab.fault(format!("{name} does not end")),
            }
            if !done.has_begun() {
                sleep(self.rng.between(Duration::ZERO, self.longest / 4)).await;
            }
        }
    }

    /// Waits for the middle of a call, before or after it is carried out: the worst moments to be killed.
    async fn amid_a_call(&mut self) {
        let method = self.asks[self.rng.below(self.asks.len() as u64) as usize];
        let fault = if self.rng.percent(50) { Fault::Hang } else { Fault::NoAnswer };
        self.schedule.next(method, [Some(fault)]);
        let next = self.schedule.calls(method) + 1;
        let _ = timeout(self.longest, self.schedule.until_called(method, next)).await;
        // Time to do what was asked.
        sleep(self.rng.between(Duration::ZERO, 10 * SECOND)).await;
        self.schedule.repair(method);
    }

    /// One of its peers is away for a while: short or longer than a lease.
    async fn outage(&mut self) {
        let parts: [&[&str]; 3] = [&["queue", "claim", "control_messages"], &["provisioner"], &["reporter"]];
        let parts = parts[self.rng.below(3) as usize];
        let longest = if self.rng.percent(50) { 30 * SECOND } else { 10 * MINUTE };
        let away = self.rng.between(SECOND, longest);
        let methods = || Method::ALL.iter().filter(|method| parts.contains(&method.part()));
        for method in methods() {
            self.schedule.always(*method, Fault::unreachable());
        }
        sleep(away).await;
        for method in methods() {
            self.schedule.repair(*method);
        }
    }
}

pub(crate) async fn handler(lab: &Lab) {
    let store = Arc::new(MemoryEventStore::default());
    let start = move |schedule: &FaultPlan, shutdown: Shutdown| {
        let queue: Arc<dyn Queue> = Arc::new(FaultyQueue::new(lab.queue.clone(), schedule));
        let store: Arc<dyn EventStore> = Arc::new(FaultyEventStore::new(store.clone(), schedule));
        let source = FaultySource::new(lab.upstream.stream(), schedule);
        let handler = Handler::new(source, triggers(), queue).with_event_store(store);
        tokio::spawn(async move { handler.run(&shutdown).await.map(|_| ()) })
    };
    let life = Life {
        schedule: lab.schedules[0].clone(),
        rng: Rng::new(lab.seed, 10),
        longest: 3 * MINUTE,
        asks: HANDLER,
        start: Box::new(start),
    };
    life.live(lab, "the handler").await;
}

pub(crate) async fn operator(lab: &Lab, n: usize) {
    let start = move |schedule: &FaultPlan, shutdown: Shutdown| {
        let queue: Arc<dyn Queue> = Arc::new(FaultyQueue::new(lab.queue.clone(), schedule));
        let cloud: Arc<dyn Provisioner> = Arc::new(FaultyProvisioner::new(lab.cloud.clone(), schedule));
        let executor: Arc<dyn Executor> = Arc::new(Faulty::new(lab.bench.clone(), schedule));
        let review: Arc<dyn Reporter> = Arc::new(Faulty::new(lab.review.clone(), schedule));
        let logs = LogLocation::new("logs");
        let sweeper = Sweeper::new(cloud.clone(), queue.clone())
            // The strictest: nothing but the leases keeps it from what is in use.
            .with_safety_age(Duration::ZERO)
            .with_interval(10 * MINUTE);
        let operator = Operator::new(queue, cloud, executor, [(job_name(), spec())], logs)
            .with_slots(4)
            .with_reporter(review)
            .with_retry_delays(10 * SECOND, MINUTE)
            .with_breaker(BreakerPolicy::default().with_pause(MINUTE).with_pause_cap(5 * MINUTE))
            .with_shutdown_deadline(DEADLINE)
            .with_sweeper(sweeper);
        tokio::spawn(async move { operator.run(&shutdown).await.map(|_| ()) })
    };
    let life = Life {
        schedule: lab.schedules[n].clone(),
        rng: Rng::new(lab.seed, 10 + n as u64),
        longest: 20 * MINUTE,
        asks: OPERATOR,
        start: Box::new(start),
    };
    life.live(lab, &format!("operator {n}")).await;
}
