use std::fmt;

macro_rules! methods {
    ($($name:ident = $text:literal,)*) => {
        /// A method of a part, as a fault plan names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Method {
            $(#[doc = concat!("`", $text, "`.")] $name,)*
        }

        impl Method {
            /// All methods.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, as in errors: `part::verb`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The part that it belongs to, such as `queue`.
            pub fn part(self) -> &'static str {
                self.as_str().split(':').next().unwrap_or_default()
            }
        }
    };
}

methods! {
    Publish = "queue::publish",
    Claim = "queue::claim",
    Broadcast = "queue::broadcast",
    ControlMessages = "queue::control_messages",
    Depth = "queue::depth",
    Waiting = "queue::waiting",
    ListDeadLetters = "dead_letters::list",
    RequeueDeadLetter = "dead_letters::requeue",
    RemoveDeadLetter = "dead_letters::remove",
    LeasedRuns = "queue::leased_runs",
    ClaimReport = "queue::claim_report",
    ListUndelivered = "undelivered::list",
    RetryUndelivered = "undelivered::retry",
    DropUndelivered = "undelivered::drop",
    Done = "delivery::done",
    RetryDelivery = "delivery::retry",
    GiveUp = "delivery::give_up",
    Installation = "queue::installation",
    Renew = "claim::renew",
    Complete = "claim::complete",
    Retry = "claim::retry",
    HandBack = "claim::hand_back",
    Reject = "claim::reject",
    NextControlMessage = "control_messages::next",
    Provision = "provisioner::provision",
    Release = "provisioner::release",
    ListOwned = "provisioner::list_owned",
    Execute = "executor::execute",
    Report = "reporter::report",
    Deliver = "reporter::deliver",
    HasSeen = "event_store::has_seen",
    Record = "event_store::record",
    Position = "event_store::position",
    CommitEventStore = "event_store::commit",
    Intend = "journal::intend",
    Made = "journal::made",
    Gone = "journal::gone",
    OpenEntries = "journal::open",
    NextEvent = "source::next",
    CommitSource = "source::commit",
    ChangeStatus = "change_status::status",
    FindDependency = "dependencies::find",
    LookUpPatchset = "lookup::patchset",
    GroupMembers = "lookup::group_members",
    Alert = "alerter::alert",
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
