//! Gives happenings their event ids, the same whether they were streamed or found again by a query.
//!
//! Gerrit's events have no id, and its two ways of telling do not even agree on the time: the stream says when the *event* was made, a query
//! when the *comment* was, some seconds earlier. So a table of what was handed out of late joins the two; the ledger knows the rest.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use pushbutton_core::{EventId, EventKind, Ledger, Result};

use crate::convert::{Happening, What};

/// How many seconds an event of the stream may be younger than what it tells of. Measured: 0 to 2; more under load.
const LAG: i64 = 10;

/// How many different happenings the table remembers: some minutes of a busy server.
const TABLE: usize = 16_384;

/// What was handed out of late.
pub(crate) struct Identities {
    ledger: Arc<dyn Ledger>,
    table: HashMap<u64, Vec<Handed>>,
    order: VecDeque<u64>,
    pass: u64,
}

#[derive(Debug, Clone, Copy)]
struct Handed {
    nth: u32,
    /// The time that the stream gave it, once the stream has told of it.
    streamed: Option<i64>,
    /// The time that a query gave it, once one has found it.
    queried: Option<i64>,
    /// The last recovery that met it: one that finds two equal comments must match two entries.
    pass: u64,
}

impl Identities {
    pub(crate) fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger, table: HashMap::new(), order: VecDeque::new(), pass: 0 }
    }

    /// A recovery begins.
    pub(crate) fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// The id of what the stream told; none when a query was faster and it was handed out already.
    ///
    /// # Cancel safety
    /// A dropped call has changed nothing.
    pub(crate) async fn streamed(&mut self, happening: &Happening) -> Result<Option<EventId>> {
        let (key, at) = (key(happening), happening.at.as_second());
        let entries = self.table.get_mut(&key);
        if let Some(known) = entries.into_iter().flatten().find(|handed| {
            handed.streamed.is_none()
                && handed.queried.is_some_and(|queried| (-2..=LAG).contains(&(at - queried)))
        }) {
            known.streamed = Some(at);
            return Ok(None);
        }
        let handed = self.table.get(&key);
        let mut nth = handed.into_iter().flatten().map(|handed| handed.nth).max().map_or(1, |nth| nth + 1);
        match &happening.what {
            What::Comment { .. } => {
                while handed.is_none() && self.ledger.has_seen(&id(happening, nth, happening.at)).await? {
                    nth += 1;
                }
            }
            // The same commit cannot be uploaded twice as one patch set.
            What::Created { .. } if handed.is_some() => return Ok(None),
            _ => {}
        }
        self.insert(key, Handed { nth, streamed: Some(at), queried: None, pass: 0 });
        Ok(Some(id(happening, nth, happening.at)))
    }

    /// The id of what a query found; none when it was handed out before, by this process or an earlier one. `nth` counts equal
    /// comments since our very first start.
    ///
    /// # Cancel safety
    /// A dropped call has changed nothing.
    pub(crate) async fn recovered(&mut self, happening: &Happening, nth: u32) -> Result<Option<EventId>> {
        let (key, at, pass) = (key(happening), happening.at.as_second(), self.pass);
        if let Some(entries) = self.table.get_mut(&key) {
            let unmet = |handed: &Handed| handed.pass != pass;
            let same = |handed: &Handed| match (handed.queried, handed.streamed) {
                (Some(queried), _) => queried == at,
                (None, Some(streamed)) => (-2..=LAG).contains(&(streamed - at)),
                (None, None) => false,
            };
            let found = entries
                .iter()
                .position(|handed| unmet(handed) && same(handed))
                // The stream may have been later than we allow for: then the count decides.
                .or_else(|| {
                    entries
                        .iter()
                        .position(|handed| unmet(handed) && numbered(happening) && handed.nth == nth)
                })
                .or_else(|| {
                    (!entries.is_empty() && matches!(happening.what, What::Created { .. })).then_some(0)
                });
            if let Some(known) = found {
                entries[known].queried = Some(at);
                entries[known].pass = pass;
                return Ok(None);
            }
        }
        let mut seen = false;
        for candidate in candidates(happening, nth) {
            seen = seen || self.ledger.has_seen(&candidate).await?;
        }
        // What an earlier process has handled will not come by our stream any more.
        let streamed = seen.then_some(at);
        self.insert(key, Handed { nth, streamed, queried: Some(at), pass });
        Ok((!seen).then(|| id(happening, nth, happening.at)))
    }

    fn insert(&mut self, key: u64, handed: Handed) {
        let entries = self.table.entry(key).or_default();
        if entries.is_empty() {
            self.order.push_back(key);
        }
        entries.push(handed);
        if self.order.len() > TABLE {
            if let Some(oldest) = self.order.pop_front() {
                self.table.remove(&oldest);
            }
        }
    }
}

/// Whether equal ones are told apart by their number rather than by their time.
fn numbered(happening: &Happening) -> bool {
    matches!(happening.what, What::Comment { .. })
}

/// The ids under which something that a query found may have been recorded: the stream may have dated it a little later.
fn candidates(happening: &Happening, nth: u32) -> Vec<EventId> {
    let at = happening.at.as_second();
    match happening.what {
        What::Comment { .. } | What::Created { .. } => vec![id(happening, nth, happening.at)],
        _ => (at..=at + LAG)
            .filter_map(|second| Timestamp::from_second(second).ok())
            .map(|second| id(happening, nth, second))
            .collect(),
    }
}

fn id(happening: &Happening, nth: u32, at: Timestamp) -> EventId {
    let (change, patchset) = (happening.change.number, happening.patchset.number);
    match &happening.what {
        What::Created { .. } => EventId::patchset(change, &happening.patchset),
        What::Comment { author, text, .. } => {
            EventId::comment(change, patchset, author, &same_words(text), nth)
        }
        What::Vote { voter, vote } => EventId::vote(change, patchset, voter, vote, at),
        What::Merged => EventId::state(change, patchset, "merged", at),
        What::Abandoned => EventId::state(change, patchset, "abandoned", at),
        What::Restored { .. } => EventId::state(change, patchset, "restored", at),
    }
}

/// A text in the form in which it is compared: several texts of one review are joined by the stream in the order of writing, and by a
/// query in any.
pub(crate) fn same_words(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if !text.contains('\n') {
        return Cow::Borrowed(text);
    }
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    Cow::Owned(lines.join("\n"))
}

fn key(happening: &Happening) -> u64 {
    let mut hash = DefaultHasher::new();
    (happening.change.number, happening.patchset.number).hash(&mut hash);
    std::mem::discriminant(&happening.what).hash(&mut hash);
    match &happening.what {
        What::Comment { author, text, .. } => (author.handle(), same_words(text)).hash(&mut hash),
        What::Vote { voter, vote } => (voter.handle(), vote).hash(&mut hash),
        What::Created { .. } => happening.patchset.revision.hash(&mut hash),
        What::Merged | What::Abandoned | What::Restored { .. } => {}
    }
    hash.finish()
}

/// Core's word for what happened.
pub(crate) fn kind(what: What) -> EventKind {
    match what {
        What::Created { uploader } => EventKind::PatchsetCreated { uploader },
        What::Comment { author, text, approvals } => EventKind::CommentAdded { author, text, approvals },
        What::Vote { voter, vote } => {
            EventKind::CommentAdded { author: voter, text: String::new(), approvals: vec![vote] }
        }
        What::Merged => EventKind::ChangeMerged,
        What::Abandoned => EventKind::ChangeAbandoned,
        What::Restored { restorer } => EventKind::ChangeRestored { restorer },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::memory::{MemoryLedger, sample};
    use pushbutton_core::{Account, Approval};

    fn happening(what: What, at: i64) -> Happening {
        let at = Timestamp::from_second(1_795_435_200 + at).unwrap();
        Happening { change: sample::change(), patchset: sample::patchset(), at, what }
    }

    fn recheck(at: i64) -> Happening {
        happening(What::Comment { author: Account::of("bob"), text: "recheck".into(), approvals: vec![] }, at)
    }

    fn vote(at: i64) -> Happening {
        happening(
            What::Vote { voter: Account::of("zuul"), vote: Approval { label: "Verified".into(), value: 1 } },
            at,
        )
    }

    fn fresh() -> (Arc<MemoryLedger>, Identities) {
        let ledger = Arc::new(MemoryLedger::default());
        (Arc::clone(&ledger), Identities::new(ledger))
    }

    #[tokio::test]
    async fn streamed_then_found_by_query_is_one() {
        for (streamed, queried) in [(recheck(11), recheck(10)), (vote(11), vote(10))] {
            let (_, mut ids) = fresh();
            assert!(ids.streamed(&streamed).await.unwrap().is_some());
            for _ in 0..3 {
                ids.begin_pass();
                assert_eq!(ids.recovered(&queried, 1).await.unwrap(), None);
            }
        }
    }

    #[tokio::test]
    async fn found_by_query_then_streamed_is_one() {
        for (streamed, queried) in [(recheck(11), recheck(10)), (vote(11), vote(10))] {
            let (_, mut ids) = fresh();
            ids.begin_pass();
            assert!(ids.recovered(&queried, 1).await.unwrap().is_some());
            assert_eq!(ids.streamed(&streamed).await.unwrap(), None);
            // A later one is another.
            let later =
                Happening { at: Timestamp::from_second(streamed.at.as_second() + 60).unwrap(), ..streamed };
            assert!(ids.streamed(&later).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn the_id_is_the_same_after_a_restart() {
        let (ledger, mut ids) = fresh();
        let first = ids.streamed(&recheck(11)).await.unwrap().unwrap();
        // Not recorded, so a query after the restart finds it again, under the same id.
        let mut after = Identities::new(Arc::clone(&ledger) as Arc<dyn Ledger>);
        after.begin_pass();
        assert_eq!(after.recovered(&recheck(10), 1).await.unwrap(), Some(first.clone()));
        // Recorded: never again, and the next equal comment is the second.
        ledger.record(&first).await.unwrap();
        let mut after = Identities::new(Arc::clone(&ledger) as Arc<dyn Ledger>);
        after.begin_pass();
        assert_eq!(after.recovered(&recheck(10), 1).await.unwrap(), None);
        let second = after.streamed(&recheck(12)).await.unwrap().unwrap();
        assert_eq!(second, id(&recheck(12), 2, recheck(12).at));
    }

    #[tokio::test]
    async fn a_recorded_vote_is_known_though_the_stream_dated_it_later() {
        let (ledger, mut ids) = fresh();
        let streamed = ids.streamed(&vote(12)).await.unwrap().unwrap();
        ledger.record(&streamed).await.unwrap();
        let mut after = Identities::new(ledger);
        after.begin_pass();
        assert_eq!(after.recovered(&vote(10), 1).await.unwrap(), None);
    }

    #[tokio::test]
    async fn two_equal_comments_in_one_second_are_two() {
        let (_, mut ids) = fresh();
        let (first, second) =
            (ids.streamed(&recheck(10)).await.unwrap(), ids.streamed(&recheck(10)).await.unwrap());
        assert!(first.is_some() && second.is_some() && first != second);
        ids.begin_pass();
        assert_eq!(ids.recovered(&recheck(10), 1).await.unwrap(), None);
        assert_eq!(ids.recovered(&recheck(10), 2).await.unwrap(), None);
        assert!(ids.recovered(&recheck(10), 3).await.unwrap().is_some(), "a third was missed by the stream");
    }

    #[tokio::test]
    async fn a_patchset_is_one_however_it_is_told() {
        let created = happening(What::Created { uploader: Account::of("alice") }, 0);
        let (_, mut ids) = fresh();
        assert!(ids.streamed(&created).await.unwrap().is_some());
        ids.begin_pass();
        assert_eq!(ids.recovered(&created, 1).await.unwrap(), None);
        assert_eq!(ids.streamed(&created).await.unwrap(), None);
    }

    #[tokio::test]
    async fn texts_of_one_review_are_the_same_in_any_order() {
        let said = |text: &str, at| {
            happening(What::Comment { author: Account::of("bob"), text: text.into(), approvals: vec![] }, at)
        };
        let (_, mut ids) = fresh();
        assert!(ids.streamed(&said("recheck\nmore\n\nwords", 11)).await.unwrap().is_some());
        ids.begin_pass();
        assert_eq!(ids.recovered(&said("more\n\nwords\nrecheck", 10), 1).await.unwrap(), None);
        assert!(ids.streamed(&said("more words recheck", 11)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_table_is_bounded() {
        let (_, mut ids) = fresh();
        for n in 0..TABLE as u64 + 100 {
            let mut happening = recheck(0);
            happening.change.number.0 = n + 1;
            ids.streamed(&happening).await.unwrap();
        }
        assert_eq!((ids.table.len(), ids.order.len()), (TABLE, TABLE));
    }
}
