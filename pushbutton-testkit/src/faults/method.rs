use std::fmt;

macro_rules! methods {
    ($($name:ident = $text:literal,)*) => {
        /// A method of a part, as a schedule names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Method {
            $(#[doc = concat!("`", $text, "`.")] $name,)*
        }

        impl Method {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name as errors have it: `part::verb`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The part that has it, as `queue`.
            pub fn part(self) -> &'static str {
                self.as_str().split(':').next().unwrap_or_default()
            }
        }
    };
}

methods! {
    Publish = "queue::publish",
    Claim = "queue::claim",
    Announce = "queue::announce",
    Notices = "queue::notices",
    Depth = "queue::depth",
    DeadLetters = "queue::dead_letters",
    RequeueDeadLetter = "queue::requeue_dead_letter",
    DropDeadLetter = "queue::drop_dead_letter",
    LeasedRuns = "queue::leased_runs",
    Renew = "claim::renew",
    Complete = "claim::complete",
    Retry = "claim::retry",
    HandBack = "claim::hand_back",
    Reject = "claim::reject",
    NextNotice = "notices::next",
    Provision = "provisioner::provision",
    Release = "provisioner::release",
    ListOwned = "provisioner::list_owned",
    Execute = "executor::execute",
    Report = "reporter::report",
    HasSeen = "ledger::has_seen",
    Record = "ledger::record",
    Position = "ledger::position",
    CommitLedger = "ledger::commit",
    Intend = "journal::intend",
    Made = "journal::made",
    Gone = "journal::gone",
    OpenEntries = "journal::open",
    NextEvent = "source::next",
    CommitSource = "source::commit",
    Standing = "changes::standing",
    Raise = "alarm::raise",
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
