//! A handler and operators that run, lose their connections, are shut down or killed, and start again.

use std::sync::Arc;
use std::time::Duration;

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

/// How long runs may continue at a graceful shutdown.
const DEADLINE: Duration = Duration::from_secs(300);

/// The random faults of one process.
pub(crate) fn fault_plan(seed: u64) -> FaultPlan {
    let flaky = Rates::none().with_fail(0.08).with_lose_response(0.08).with_delay(0.2, 3 * SECOND);
    let plan = FaultPlan::seeded(seed, flaky);
    // A lost response of the stream would be a lost message, which the contract excludes.
    plan.rates(Method::NextControlMessage, flaky.with_lose_response(0.0).with_fail(0.05));
    // A source reconnects by itself.
    plan.rates(Method::NextEvent, flaky.with_fail(0.0));
    plan.rates(Method::Provision, flaky.with_hang(0.02));
    let stages =
        Rates::none().with_fail(0.03).with_lose_response(0.03).with_delay(0.1, 3 * SECOND).with_hang(0.01);
    plan.rates(Method::Execute, stages);
    plan
}

/// The calls of a handler to its parts.
const HANDLER: &[Method] = &[
    Method::NextEvent,
    Method::HasSeen,
    Method::Broadcast,
    Method::Publish,
    Method::Record,
    Method::CommitSource,
    Method::ClaimReport,
    Method::Deliver,
    Method::Done,
    Method::RetryDelivery,
];

/// The calls of an operator to its parts.
const OPERATOR: &[Method] = &[
    Method::Claim,
    Method::Renew,
    Method::Provision,
    Method::Execute,
    Method::Release,
    Method::Complete,
    Method::Retry,
    Method::HandBack,
    Method::ListOwned,
    Method::LeasedRuns,
];

/// One process: how it is started, how long it runs, and its faults.
struct Process<'a> {
    plan: FaultPlan,
    rng: Rng,
    longest: Duration,
    calls: &'static [Method],
    start: Box<Start<'a>>,
}

type Start<'a> = dyn Fn(&FaultPlan, Shutdown) -> JoinHandle<Result<()>> + 'a;

impl Process<'_> {
    /// Runs, is stopped and started again until the lab is done, then shuts down.
    async fn run(mut self, lab: &Lab, name: &str) {
        let done = lab.done.clone();
        while !done.has_begun() {
            let shutdown = Shutdown::new();
            let task = (self.start)(&self.plan, shutdown.clone());
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
                    self.during_a_call().await;
                    task.abort();
                }
            }
            // The shutdown deadline, and the time for releasing nodes in a cloud that may be unreachable.
            match timeout(DEADLINE + 60 * MINUTE, task).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => lab.error(format!("{name} ended with an error: {error}")),
                Ok(Err(error)) if error.is_cancelled() => {}
                Ok(Err(error)) => lab.error(format!("{name} panicked: {error}")),
                Err(_) => lab.error(format!("{name} does not shut down")),
            }
            if !done.has_begun() {
                sleep(self.rng.between(Duration::ZERO, self.longest / 4)).await;
            }
        }
    }

    /// Waits for a call, before or after it is carried out: the moments at which a kill does most harm.
    async fn during_a_call(&mut self) {
        let method = self.calls[self.rng.below(self.calls.len() as u64) as usize];
        let fault = if self.rng.percent(50) { Fault::Hang } else { Fault::NoResponse };
        self.plan.next(method, [Some(fault)]);
        let next = self.plan.calls(method) + 1;
        let _ = timeout(self.longest, self.plan.until_called(method, next)).await;
        // Time to carry out the call.
        sleep(self.rng.between(Duration::ZERO, 10 * SECOND)).await;
        self.plan.repair(method);
    }

    /// Makes a peer unreachable for a while: shorter or longer than a lease.
    async fn outage(&mut self) {
        let parts: [&[&str]; 3] =
            [&["queue", "claim", "control_messages", "delivery"], &["provisioner"], &["reporter"]];
        let parts = parts[self.rng.below(3) as usize];
        let longest = if self.rng.percent(50) { 30 * SECOND } else { 10 * MINUTE };
        let length = self.rng.between(SECOND, longest);
        let methods = || Method::ALL.iter().filter(|method| parts.contains(&method.part()));
        for method in methods() {
            self.plan.always(*method, Fault::unreachable());
        }
        sleep(length).await;
        for method in methods() {
            self.plan.repair(*method);
        }
    }
}

pub(crate) async fn handler(lab: &Lab) {
    let store = Arc::clone(&lab.event_store);
    let start = move |plan: &FaultPlan, shutdown: Shutdown| {
        let queue: Arc<dyn Queue> = Arc::new(FaultyQueue::new(lab.queue.clone(), plan));
        let store: Arc<dyn EventStore> = Arc::new(FaultyEventStore::new(store.clone(), plan));
        let source = FaultySource::new(lab.upstream.stream(), plan);
        let review: Arc<dyn Reporter> = Arc::new(Faulty::new(lab.review.clone(), plan));
        let handler = Handler::new(source, triggers(), queue).with_event_store(store).with_reporter(review);
        tokio::spawn(async move { handler.run(&shutdown).await.map(|_| ()) })
    };
    let process = Process {
        plan: lab.plans[0].clone(),
        rng: Rng::new(lab.seed, 10),
        longest: 3 * MINUTE,
        calls: HANDLER,
        start: Box::new(start),
    };
    process.run(lab, "the handler").await;
}

pub(crate) async fn operator(lab: &Lab, n: usize) {
    let start = move |plan: &FaultPlan, shutdown: Shutdown| {
        let queue: Arc<dyn Queue> = Arc::new(FaultyQueue::new(lab.queue.clone(), plan));
        let cloud: Arc<dyn Provisioner> = Arc::new(FaultyProvisioner::new(lab.cloud.clone(), plan));
        let executor: Arc<dyn Executor> = Arc::new(Faulty::new(lab.executor.clone(), plan));
        let logs = LogLocation::new("logs");
        let sweeper = Sweeper::new(cloud.clone(), queue.clone())
            // Without a safety age only the leases protect nodes that are in use.
            .with_safety_age(Duration::ZERO)
            .with_interval(10 * MINUTE);
        let operator = Operator::new(queue, cloud, executor, [(job_name(), spec())], logs)
            .with_slots(4)
            .with_retry_delays(10 * SECOND, MINUTE)
            .with_breaker(BreakerPolicy::default().with_pause(MINUTE).with_pause_cap(5 * MINUTE))
            .with_shutdown_deadline(DEADLINE)
            .with_sweeper(sweeper);
        tokio::spawn(async move { operator.run(&shutdown).await.map(|_| ()) })
    };
    let process = Process {
        plan: lab.plans[n].clone(),
        rng: Rng::new(lab.seed, 10 + n as u64),
        longest: 20 * MINUTE,
        calls: OPERATOR,
        start: Box::new(start),
    };
    process.run(lab, &format!("operator {n}")).await;
}
