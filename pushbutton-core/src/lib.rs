#![doc = include_str!("../README.md")]

mod setters;

// Data, in the order in which it flows.
pub mod event;
pub mod trigger;

pub mod control;
pub mod dependency;
pub mod job;
pub mod operators;

pub mod node;
pub mod run;

pub mod buildset;
pub mod history;
pub mod report;
pub mod shared_history;
pub mod verdict;

// Used by every step.
pub mod check;
pub mod clock;
mod current;
pub mod duration;
pub mod error;
mod line_sink;
pub mod names;
pub mod retry;
pub mod retry_when;
pub mod text;

// The traits, the two halves that compose them, and parts that need no server.
pub mod memory;
pub mod pipeline;
pub mod static_nodes;
pub mod traits;

#[cfg(any(test, feature = "test-util"))]
pub mod samples;

pub use buildset::{Buildset, BuildsetReport, JobEnd, MissingJob, OpenBuildset};
pub use control::{ControlMessage, Settlement};
pub use current::Current;
pub use dependency::{Dependency, DependencyKind};
pub use duration::HumanDuration;
pub use error::{Error, ErrorKind, Result, RetryClass};
pub use event::{
    Account, Approval, Change, ChangeStatus, Event, EventId, EventKind, Patchset, PatchsetKind, Position,
};
pub use history::{FailureCount, FailureQuery, RunHistory, RunRecord, RunState, StageRecord};
pub use job::{Cause, Job, JobFilter};
pub use line_sink::LineSink;
pub use names::{
    BranchName, BuildsetId, ChangeId, ChangeNumber, GitRef, InstallationId, JobId, JobName, NodeLabel,
    OwnerName, PatchsetNumber, ProjectName, Revision, RunId, StageName,
};
pub use node::{Node, NodeRequest, OwnedResource, ResourceKind};
pub use operators::{OperatorState, Operators, WaitingJobs};
pub use pipeline::{
    BreakerPolicy, BreakerState, Decider, GuardedReporter, Handler, HandlerStats, Health, LogLocation,
    NoRoom, NoRoomPolicy, Operator, OperatorSettings, OperatorStats, Pipeline, ReportGuard, Rules, Shutdown,
    SupersedePolicy, Sweeper,
};
pub use report::{RunResult, StageResult, Update, UpdateKind};
pub use retry_when::RetryPatterns;
pub use run::{
    JobSpec, OnFailure, RunWhen, Stage, StageContext, StageOutcome, StageStatus, TestCounts, TestTime,
    test_anchor,
};
pub use shared_history::{
    ConfigHealth, DeliveryRecord, DeliveryState, HistoryEntry, HistoryLog, HistoryReplica, HistoryReporter,
    ParticipantRecord, StreamHealth, StreamMonitor, StreamState,
};
pub use static_nodes::{StaticNodeConfig, StaticNodes};
pub use traits::{
    Alerter, ChangeSelector, ChangeStatusLookup, Claim, ControlMessages, CurrentVote, DeadLetter,
    DeadLetters, Delivery, DependencyLookup, EventSource, EventStore, Executor, Journal, JournalEntry,
    LinkedChange, PatchsetCommit, PatchsetDetails, PatchsetStatus, Provisioner, Queue, QueueAges, QueueDepth,
    Reporter, TriggerLookup, UndeliveredReport, UndeliveredReports,
};
pub use trigger::{
    Decision, Evaluation, EventMatch, Exceptions, Matched, PlannedJob, PredicateTrace, Preset, RuleTrace,
    Trigger, Triggers, VoteCondition,
};
pub use verdict::{Verdict, Vote};

// Foreign types that stand in signatures: an implementer needs no other crate but tokio.
pub use async_trait::async_trait;
pub use futures_util::Stream;
pub use jiff::{self, Timestamp};
pub use serde_json;
pub use tokio_util::sync::CancellationToken;
