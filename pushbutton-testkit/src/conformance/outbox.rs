//! Checks of buildsets and their reports: [`Queue::claim_report`], [`Delivery`] and [`UndeliveredReports`].
//!
//! Each check opens queues through `open`, as in [`queue`](super::queue): the same name gives another handle to the
//! same queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pushbutton_core::{
    Buildset, BuildsetReport, DeadLetters, Delivery, ErrorKind, Job, JobFilter, Queue, UndeliveredReports,
    Verdict, samples,
};
use tokio::time::{Instant, timeout};

use super::queue::{TIME_LIMIT, claim, complete, nothing_for, publish};

/// A queue that also lists its dead letters and undelivered reports.
pub trait QueueWithOutbox: Queue + DeadLetters + UndeliveredReports {}

impl<T: Queue + DeadLetters + UndeliveredReports + ?Sized> QueueWithOutbox for T {}

/// Runs all checks concurrently, each on its own queue.
pub async fn all(open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>) {
    let open = &open;
    tokio::join!(
        Box::pin(a_buildset_makes_one_report_when_its_last_job_has_ended(open)),
        Box::pin(a_report_survives_a_restart_and_frees_the_claim(open)),
        Box::pin(completing_twice_reports_once(open)),
        Box::pin(a_stale_result_makes_no_report(open)),
        Box::pin(exactly_one_caller_gets_a_report(open)),
        Box::pin(a_delivery_that_is_not_settled_is_made_again(open)),
        Box::pin(a_failed_delivery_waits_and_is_counted(open)),
        Box::pin(a_refused_report_is_kept_until_a_person_decides(open)),
        Box::pin(a_waiting_job_absorbs_an_equal_one(open)),
        Box::pin(a_dead_letter_ends_its_job_in_the_buildset(open)),
        Box::pin(a_requeued_dead_letter_is_reported_alone(open)),
    );
}

/// Jobs of these names that one event called for.
fn buildset(change: u64, names: &[&str]) -> Vec<Job> {
    let jobs: Vec<Job> = names.iter().map(|name| samples::job_on(change, name)).collect();
    let buildset = Buildset::of(&jobs[0].cause.event, jobs.iter().map(|job| job.name.clone()));
    jobs.into_iter().map(|job| job.with_buildset(buildset.clone())).collect()
}

/// Jobs like those of [`buildset`], of a later event on the same patch set.
fn buildset_again(change: u64, names: &[&str]) -> Vec<Job> {
    let later = |job: Job| {
        let mut event = samples::comment("bob", "recheck");
        event.change = job.change.clone();
        let author = pushbutton_core::Account::of("bob");
        event.id = pushbutton_core::EventId::comment(
            event.change.number,
            event.patchset.number,
            &author,
            "recheck",
            2,
        );
        Job::new(job.name, &event, "recheck", samples::AT)
    };
    let jobs: Vec<Job> = buildset(change, names).into_iter().map(later).collect();
    let buildset = Buildset::of(&jobs[0].cause.event, jobs.iter().map(|job| job.name.clone()));
    jobs.into_iter().map(|job| job.with_buildset(buildset.clone())).collect()
}

/// Claims the report that must be due.
async fn delivery(queue: &dyn Queue) -> Box<dyn Delivery> {
    let claimed = timeout(TIME_LIMIT, queue.claim_report()).await;
    claimed.expect("a report that is due is claimed").expect("claiming a report returns no error")
}

/// Checks that no report can be claimed for this time.
async fn no_report_for(queue: &dyn Queue, time: Duration, because: &str) {
    if let Ok(delivery) = timeout(time, queue.claim_report()).await {
        let delivery = delivery.expect("waiting for a report returns no error");
        panic!("{because}, but a report was due: {}", delivery.report().summary());
    }
}

/// Publishes a job and completes it as a success.
async fn run(queue: &dyn Queue, job: &Job) {
    publish(queue, job).await;
    let held = claim(queue).await;
    assert_eq!(held.job().id, job.id, "the only job is claimed");
    complete(&*held).await.expect("a claimed job is completed");
}

fn names_of(report: &BuildsetReport) -> Vec<&str> {
    report.results.iter().map(|result| result.job.name.as_str()).collect()
}

fn no_names() -> BTreeSet<String> {
    BTreeSet::new()
}

/// A report is due once every job of the buildset has ended, and holds the result of each.
pub async fn a_buildset_makes_one_report_when_its_last_job_has_ended(
    open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>,
) {
    let (handler, operator) = (open("buildset").await, open("buildset").await);
    let jobs = buildset(1, &["tempest", "unit"]);
    for job in &jobs {
        publish(&*handler, job).await;
    }
    let (first, second) = (claim(&*operator).await, claim(&*operator).await);
    let mut result = samples::success(first.job());
    result.reason = Some("as it was \u{1f980}".into());
    first.complete(&result).await.expect("a claimed job is completed");
    second.renew().await.expect("a lease that has not expired is renewed");
    no_report_for(&*handler, second.lease() / 4, "a job of the buildset runs").await;
    second.renew().await.expect("a lease that has not expired is renewed");
    complete(&*second).await.expect("a claimed job is completed");
    let due = delivery(&*handler).await;
    assert_eq!(due.report().id, jobs[0].buildset.id);
    assert_eq!(names_of(due.report()), ["tempest", "unit"], "the results are ordered by name");
    assert_eq!(due.report().results[0], result, "the result is as it was given");
    assert_eq!((due.failed_attempts(), due.delivered()), (0, &no_names()));
    let lease = due.lease();
    due.done().await.expect("a held report is done");
    no_report_for(&*operator, lease + lease / 2, "the report was delivered").await;
    drop((handler, operator));
    no_report_for(&*open("buildset").await, lease / 4, "the report was delivered before the restart").await;
}

/// `complete` is durable, and the operator can claim the next job before the report is delivered.
pub async fn a_report_survives_a_restart_and_frees_the_claim(
    open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>,
) {
    let operator = open("outbox").await;
    run(&*operator, &samples::job_on(1, "tempest")).await;
    run(&*operator, &samples::job_on(2, "tempest")).await;
    drop(operator);
    let handler = open("outbox").await;
    for change in [1, 2] {
        let due = delivery(&*handler).await;
        assert_eq!(
            due.report().change.number.0,
            change,
            "reports are claimed in the order in which they were due"
        );
        due.done().await.expect("a held report is done");
    }
}

/// A claim that is completed twice, as after a lost answer, makes one report.
pub async fn completing_twice_reports_once(open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>) {
    let queue = open("twice").await;
    publish(&*queue, &samples::job_on(1, "tempest")).await;
    let held = claim(&*queue).await;
    let lease = held.lease();
    complete(&*held).await.expect("a claimed job is completed");
    complete(&*held).await.expect("the first call has arrived: nothing is left to do");
    delivery(&*queue).await.done().await.expect("a held report is done");
    no_report_for(&*queue, lease + lease / 2, "the report was delivered").await;
}

/// A buildset that nobody waits for makes no report.
pub async fn a_stale_result_makes_no_report(open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>) {
    let queue = open("stale").await;
    publish(&*queue, &samples::job_on(1, "tempest")).await;
    let held = claim(&*queue).await;
    let lease = held.lease();
    let mut result = samples::success(held.job());
    result.verdict = Verdict::Superseded;
    held.complete(&result).await.expect("a claimed job is completed");
    no_report_for(&*queue, lease / 2, "the patch set is superseded").await;
}

/// Of many callers, exactly one gets each report.
pub async fn exactly_one_caller_gets_a_report(open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>) {
    const REPORTS: u64 = 8;
    let (one, other) = (open("share").await, open("share").await);
    for change in 0..REPORTS {
        run(&*one, &samples::job_on(change, "tempest")).await;
    }
    let take = async |queue: &dyn Queue| {
        let mut changes = Vec::new();
        while let Ok(due) = timeout(Duration::from_secs(1), queue.claim_report()).await {
            let due = due.expect("waiting for a report returns no error");
            changes.push(due.report().change.number.0);
            due.done().await.expect("a held report is done");
        }
        changes
    };
    let (mine, theirs) = tokio::join!(take(&*one), take(&*other));
    let mut all = [mine, theirs].concat();
    all.sort_unstable();
    assert_eq!(all, (0..REPORTS).collect::<Vec<_>>(), "each report was claimed once");
}

/// A delivery that ended without a word is made again after its lease, and the old one can no longer settle it.
pub async fn a_delivery_that_is_not_settled_is_made_again(
    open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>,
) {
    let (one, other) = (open("lost").await, open("lost").await);
    run(&*one, &samples::job_on(1, "tempest")).await;
    let (began, held) = (Instant::now(), delivery(&*one).await);
    let lease = held.lease();
    let again = delivery(&*other).await;
    assert!(began.elapsed() >= lease * 3 / 4, "a lease of {lease:?} was over after {:?}", began.elapsed());
    assert_eq!(again.report(), held.report());
    let late = held.done().await.expect_err("another delivery has begun");
    assert_eq!(late.kind(), ErrorKind::LeaseLost, "{late:?}");
    again.done().await.expect("a held report is done");
}

/// A failed delivery is made again after its delay, with one more attempt, and knows who has the report.
pub async fn a_failed_delivery_waits_and_is_counted(open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>) {
    let (one, other) = (open("again").await, open("again").await);
    run(&*one, &samples::job_on(1, "tempest")).await;
    let held = delivery(&*one).await;
    let (returned, after) = (Instant::now(), held.lease() / 2);
    let mail = BTreeSet::from(["mail".to_owned()]);
    held.retry(after, &mail).await.expect("a held report is returned");
    assert_eq!(one.depth().await.expect("counting works").reports, 1, "a report that waits is due");
    drop(one);
    let again = delivery(&*other).await;
    assert!(returned.elapsed() >= after, "a delay of {after:?} was over after {:?}", returned.elapsed());
    assert_eq!((again.failed_attempts(), again.delivered()), (1, &mail));
    again.done().await.expect("a held report is done");
}

/// A report that was refused for good is listed with the reason, until a person retries or drops it.
pub async fn a_refused_report_is_kept_until_a_person_decides(
    open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>,
) {
    let (handler, person) = (open("refused").await, open("refused").await);
    let mail = BTreeSet::from(["mail".to_owned()]);
    for change in [1, 2] {
        run(&*handler, &samples::job_on(change, "tempest")).await;
        let held = delivery(&*handler).await;
        held.give_up("the label is not permitted", &mail).await.expect("a held report is kept");
    }
    let lease = claimed_lease(&*handler).await;
    no_report_for(&*handler, lease / 2, "both reports were refused").await;
    for queue in [&handler, &person] {
        let listed = queue.list_undelivered(10).await.expect("listing works");
        let found: Vec<_> =
            listed.iter().map(|report| (report.report.change.number.0, report.why.as_str())).collect();
        let why = "the label is not permitted";
        assert_eq!(
            found,
            [(1, why), (2, why)],
            "undelivered reports are listed oldest first, with the reason"
        );
        assert_eq!(listed[0].delivered, mail);
    }
    assert_eq!(person.list_undelivered(1).await.expect("listing works").len(), 1, "at most the limit");
    assert_eq!(person.depth().await.expect("counting works").undelivered, 2);
    let [first, second] = [1, 2].map(|change| samples::job_on(change, "tempest").buildset.id);
    assert!(person.retry_undelivered(&first).await.expect("retrying works"));
    assert!(!person.retry_undelivered(&first).await.expect("retrying works"), "it is due already");
    assert!(person.drop_undelivered(&second).await.expect("dropping works"));
    assert!(!person.drop_undelivered(&second).await.expect("dropping works"), "it is gone");
    let again = delivery(&*handler).await;
    assert_eq!(again.report().id, first);
    assert_eq!((again.failed_attempts(), again.delivered()), (0, &mail), "all attempts are available again");
    again.done().await.expect("a held report is done");
    assert_eq!(person.list_undelivered(10).await.expect("listing works"), []);
}

/// The lease of this queue.
async fn claimed_lease(queue: &dyn Queue) -> Duration {
    publish(queue, &samples::job_on(99, "lease")).await;
    let held = claim(queue).await;
    let lease = held.lease();
    held.hand_back().await.expect("a claimed job is handed back");
    lease
}

/// A job that equals a waiting one is not run: the waiting one stands for it, also in its buildset.
pub async fn a_waiting_job_absorbs_an_equal_one(open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>) {
    let (handler, operator) = (open("absorb").await, open("absorb").await);
    let (first, second) = (buildset(1, &["tempest"]), buildset_again(1, &["tempest", "unit"]));
    for job in first.iter().chain(&second).chain(&second) {
        publish(&*handler, job).await;
    }
    let claims = [claim(&*operator).await, claim(&*operator).await];
    let ids = claims.iter().map(|claim| claim.job().id.clone()).collect::<Vec<_>>();
    assert_eq!(ids, [first[0].id.clone(), second[1].id.clone()], "the second tempest was absorbed");
    // A claimed job absorbs nothing: its run may have begun with an older state of the world.
    publish(&*handler, &samples::job_on(1, "other")).await;
    let lease = claims[0].lease();
    for claim in claims {
        complete(&*claim).await.expect("a claimed job is completed");
    }
    for (buildset, results, missing) in
        [(&first[0].buildset, vec!["tempest"], 0), (&second[0].buildset, vec!["unit"], 1)]
    {
        let due = delivery(&*handler).await;
        assert_eq!(due.report().id, buildset.id);
        assert_eq!((names_of(due.report()), due.report().missing.len()), (results, missing));
        due.done().await.expect("a held report is done");
    }
    claim(&*operator).await.reject("done with it").await.expect("a claimed job is rejected");
    publish(&*handler, &second[0]).await;
    nothing_for(&*operator, lease / 2, "the absorbed job was published again").await;
}

/// A dead letter ends its job: the rest of the buildset is reported, and says that it is missing.
pub async fn a_dead_letter_ends_its_job_in_the_buildset(
    open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>,
) {
    let queue = open("dead").await;
    for job in buildset(1, &["tempest", "unit"]) {
        publish(&*queue, &job).await;
    }
    let (first, second) = (claim(&*queue).await, claim(&*queue).await);
    complete(&*first).await.expect("a claimed job is completed");
    second.reject("no such flavor").await.expect("a claimed job is rejected");
    let due = delivery(&*queue).await;
    assert_eq!(names_of(due.report()), ["tempest"]);
    assert_eq!(due.report().missing[0].why, "no such flavor");
    assert_eq!(due.report().vote(), None, "not every job has passed");
    due.done().await.expect("a held report is done");
}

/// A dead letter that is requeued after its buildset was reported makes a report of its own, with another id.
pub async fn a_requeued_dead_letter_is_reported_alone(open: impl AsyncFn(&str) -> Arc<dyn QueueWithOutbox>) {
    let queue = open("requeue").await;
    let jobs = buildset(1, &["tempest", "unit"]);
    for job in &jobs {
        publish(&*queue, job).await;
    }
    let (first, second) = (claim(&*queue).await, claim(&*queue).await);
    let letter = second.job().id.to_string();
    second.reject("no such flavor").await.expect("a claimed job is rejected");
    // Requeued before the buildset is complete, it is waited for again.
    assert!(queue.requeue(&letter).await.expect("requeueing works"));
    let filter = JobFilter::names([jobs[1].name.clone()]);
    let again =
        timeout(TIME_LIMIT, queue.claim(&filter)).await.expect("it is claimed").expect("claiming works");
    complete(&*first).await.expect("a claimed job is completed");
    no_report_for(&*queue, again.lease() / 4, "a job of the buildset runs again").await;
    again.reject("still no such flavor").await.expect("a claimed job is rejected");
    let due = delivery(&*queue).await;
    let reported = due.report().id.clone();
    due.done().await.expect("a held report is done");
    assert!(queue.requeue(&letter).await.expect("requeueing works"));
    let last = claim(&*queue).await;
    complete(&*last).await.expect("a claimed job is completed");
    let due = delivery(&*queue).await;
    assert_eq!(names_of(due.report()), ["unit"]);
    assert_ne!(due.report().id, reported, "reporters must not take it for the earlier report");
    due.done().await.expect("a held report is done");
}
