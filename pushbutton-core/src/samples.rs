//! One change with one patch set, and events about it: data for examples and tests.

use jiff::Timestamp;

use crate::dependency::{Dependency, DependencyKind};
use crate::event::{
    Account, Approval, Change, ChangeStatus, Event, EventId, EventKind, Patchset, PatchsetKind, Position,
};
use crate::job::{Cause, Job};
use crate::names::{ChangeNumber, PatchsetNumber, RunId};
use crate::report::RunResult;
use crate::verdict::Verdict;

/// When all this happens: 2026-11-23T12:00:00Z.
pub const AT: Timestamp = Timestamp::constant(1_795_435_200, 0);

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

fn parsed<T: std::str::FromStr>(text: &str) -> T {
    match text.parse() {
        Ok(value) => value,
        Err(_) => unreachable!("{text:?} is well-formed"),
    }
}

/// Change 12345 of openstack/cinder on master.
pub fn change() -> Change {
    Change {
        project: parsed("openstack/cinder"),
        branch: parsed("master"),
        number: ChangeNumber(12345),
        subject: "Acme: retry a failed attach".into(),
        url: Some("https://review.example.org/c/openstack/cinder/+/12345".into()),
        owner: None,
        topic: None,
        hashtags: Vec::new(),
        status: ChangeStatus::New,
        wip: false,
        private: false,
    }
}

/// Its second patch set.
pub fn patchset() -> Patchset {
    Patchset {
        number: PatchsetNumber(2),
        revision: parsed(REVISION),
        git_ref: parsed("refs/changes/45/12345/2"),
        kind: PatchsetKind::Rework,
        uploader: None,
    }
}

/// A dependency on the first patch set of change `number` of openstack/nova, by a footer.
pub fn dependency(number: u64) -> Dependency {
    let change = Change::new(parsed("openstack/nova"), parsed("master"), ChangeNumber(number));
    let git_ref = parsed(&format!("refs/changes/{:02}/{number}/1", number % 100));
    let patchset = Patchset::new(PatchsetNumber(1), parsed(&format!("{number:040x}")), git_ref);
    Dependency::new(&change, &patchset, DependencyKind::DependsOn)
}

fn event(id: EventId, kind: EventKind) -> Event {
    Event { id, position: Position::at(AT), change: change(), patchset: patchset(), kind }
}

/// A comment on it.
pub fn comment(author: &str, text: &str) -> Event {
    let author = Account::of(author);
    let id = EventId::comment(change().number, patchset().number, &author, text, 1);
    event(id, EventKind::CommentAdded { author, texts: vec![text.into()], approvals: Vec::new() })
}

/// A vote on it.
pub fn vote(author: &str, vote: Approval) -> Event {
    let author = Account::of(author);
    let id = EventId::vote(change().number, patchset().number, &author, &vote, AT);
    event(id, EventKind::CommentAdded { author, texts: Vec::new(), approvals: vec![vote] })
}

/// The patch set is uploaded.
pub fn patchset_created() -> Event {
    event(
        EventId::patchset(change().number, &patchset()),
        EventKind::PatchsetCreated { uploader: Account::of("alice") },
    )
}

/// A job for it, called for by a recheck. The same name gives the same job.
pub fn job(name: &str) -> Job {
    let mut job = Job::new(parsed(name), &comment("bob", "recheck"), "recheck", AT);
    job.cause = Cause { by: Some("bob".into()), ..job.cause };
    job
}

/// The result of a job that passed, after ten minutes.
pub fn success(job: &Job) -> RunResult {
    RunResult::new(RunId::generate(), job.clone(), Verdict::Success, AT, std::time::Duration::from_secs(600))
}

/// A job like [`job`], but a different one for each `n`: the recheck of change `n`.
pub fn job_on(change: u64, name: &str) -> Job {
    let mut event = comment("bob", "recheck");
    event.change.number = ChangeNumber(change);
    event.id =
        EventId::comment(event.change.number, event.patchset.number, &Account::of("bob"), "recheck", 1);
    Job::new(parsed(name), &event, "recheck", AT)
}
