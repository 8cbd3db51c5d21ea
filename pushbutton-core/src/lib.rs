#![doc = include_str!("../README.md")]

// In the order in which the data flows.
pub mod event;
pub mod trigger;

pub mod job;
pub mod job_state;

pub mod node;
pub mod report;
pub mod run;
pub mod verdict;

// What every step stands on.
pub mod check;
pub mod clock;
pub mod error;
pub mod human;
pub mod ident;
pub mod retry;

// The five traits, the two halves that compose them, and parts that work without any server.
pub mod memory;
pub mod pipeline;
pub mod seam;

pub use error::{Error, ErrorKind, Result, RetryClass};
pub use event::{
    Account, Approval, Change, ChangeStatus, Event, EventId, EventKind, Patchset, PatchsetKind, Position,
};
pub use human::HumanDuration;
pub use ident::{
    BranchName, ChangeNumber, GitRef, JobId, JobName, NodeLabel, OwnerName, PatchsetNumber, ProjectName,
    Revision, RunId, StageName,
};
pub use job::{Cause, Job};
pub use job_state::JobState;
pub use node::{Node, NodeRequest, OwnedResource, ResourceKind};
pub use pipeline::{
    BreakerPolicy, Handler, LogPlace, Mute, MutingReporter, Operator, Pipeline, Shutdown, SupersedePolicy,
    Sweeper,
};
pub use report::{Report, Update, UpdateKind};
pub use run::{JobSpec, OnFailure, RunWhen, Stage, StageContext, StageOutcome, StageStatus, TestCounts};
pub use seam::{
    Alarm, Changes, Claim, DeadLetter, EventSource, Executor, Journal, JournalEntry, Ledger, Notice, Notices,
    Provisioner, Queue, QueueDepth, Reporter, Standing,
};
pub use trigger::{Decision, Trigger, Triggers};
pub use verdict::{Verdict, Vote};
