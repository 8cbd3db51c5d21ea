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
use pushbutton_core::{EventId, EventKind, EventStore, Result};

use crate::convert::{Happening, What};

/// How many seconds an event of the stream may be younger than what it tells of, and be taken for it without a question. Measured: 0 to 2,
/// more under load; a server that stood still in between makes it any number.
const LAG: i64 = 10;

/// The same where a restart lies between the two: nobody gives the same vote twice within a minute and means two.
const LAG_ACROSS_RESTARTS: i64 = 60;

/// How many different happenings the table remembers: some minutes of a busy server.
const TABLE: usize = 16_384;

/// What was handed out of late.
pub(crate) struct Identities {
    ledger: Arc<dyn EventStore>,
    table: HashMap<u64, Vec<Handed>>,
    order: VecDeque<u64>,
    pass: u64,
}

/// What the stream or a query has just told.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    /// Something new, with its id.
    New(EventId),
    /// Something that was handed out before, by this process or an earlier one.
    Known,
    /// By the stream only: either something equal to what a query or an earlier process told of, with this id; or that very thing, late. A
    /// query that is asked now can tell, because it counts.
    Doubtful(EventId),
}

#[derive(Debug, Clone, Copy)]
struct Handed {
    nth: u32,
    /// By this process; otherwise by an earlier one.
    handed_out: bool,
    /// The time that the stream gave it, once the stream has told of it.
    streamed: Option<i64>,
    /// The time that a query gave it, once one has found it.
    queried: Option<i64>,
    /// The last recovery that met it: one that finds two equal comments must match two entries.
    pass: u64,
}

impl Identities {
    pub(crate) fn new(ledger: Arc<dyn EventStore>) -> Self {
        Self { ledger, table: HashMap::new(), order: VecDeque::new(), pass: 0 }
    }

    /// A recovery begins.
    pub(crate) fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// What the stream told.
    ///
    /// # Cancel safety
    /// A dropped call has changed nothing.
    pub(crate) async fn streamed(&mut self, happening: &Happening) -> Result<Told> {
        let (key, at) = (key(happening), happening.at.as_second());
        let came_by_stream = |handed: &Handed| handed.streamed.is_some();
        if let Some(known) = self.table.get_mut(&key).into_iter().flatten().find(|handed| {
            handed.handed_out
                && !came_by_stream(handed)
                && handed.queried.is_some_and(|queried| (-2..=LAG).contains(&(at - queried)))
        }) {
            known.streamed = Some(at);
            return Ok(Told::Known);
        }
        let handed = self.table.get(&key);
        // What only queries have told of so far may be what the stream tells now, late.
        let mut doubtful = handed.into_iter().flatten().any(|handed| !came_by_stream(handed));
        let mut nth = handed.into_iter().flatten().map(|handed| handed.nth).max().map_or(1, |nth| nth + 1);
        match &happening.what {
            What::Comment { .. } => {
                while handed.is_none() && self.ledger.has_seen(&id(happening, nth, happening.at)).await? {
                    (nth, doubtful) = (nth + 1, true);
                }
            }
            // The same commit cannot be uploaded twice as one patch set.
            What::Created { .. } if handed.is_some() => return Ok(Told::Known),
            _ => {}
        }
        let id = id(happening, nth, happening.at);
        if doubtful {
            return Ok(Told::Doubtful(id));
        }
        self.insert(key, Handed { nth, handed_out: true, streamed: Some(at), queried: None, pass: 0 });
        Ok(Told::New(id))
    }

    /// What a query found: new, or known to this process or an earlier one. `nth` counts equal comments since our very first start.
    ///
    /// # Cancel safety
    /// A dropped call has changed nothing.
    pub(crate) async fn recovered(&mut self, happening: &Happening, nth: u32) -> Result<Told> {
        let (key, at, pass) = (key(happening), happening.at.as_second(), self.pass);
        if let Some(entries) = self.table.get_mut(&key) {
            let unmet = |handed: &Handed| handed.pass != pass;
            let same = |handed: &Handed| match (handed.queried, handed.streamed) {
                (Some(queried), _) => queried == at,
                (None, Some(streamed)) => (-2..=LAG).contains(&(streamed - at)),
                (None, None) => false,
            };
            // The stream may have been later than we allow for. Then the count decides; of votes a query tells the last one only.
            let late = |handed: &Handed| match happening.what {
                What::Comment { .. } => handed.nth == nth,
                What::Vote { .. } => {
                    handed.queried.is_none() && handed.streamed.is_some_and(|streamed| streamed >= at)
                }
                _ => false,
            };
            let found = entries
                .iter()
                .position(|handed| unmet(handed) && same(handed))
                .or_else(|| entries.iter().position(|handed| unmet(handed) && late(handed)))
                .or_else(|| {
                    (!entries.is_empty() && matches!(happening.what, What::Created { .. })).then_some(0)
                });
            if let Some(known) = found {
                entries[known].queried = Some(at);
                entries[known].pass = pass;
                return Ok(Told::Known);
            }
        }
        let mut seen = false;
        for candidate in candidates(happening, nth) {
            seen = seen || self.ledger.has_seen(&candidate).await?;
        }
        self.insert(key, Handed { nth, handed_out: !seen, streamed: None, queried: Some(at), pass });
        Ok(if seen { Told::Known } else { Told::New(id(happening, nth, happening.at)) })
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

/// The ids under which something that a query found may have been recorded: the stream may have dated it a little later.
fn candidates(happening: &Happening, nth: u32) -> Vec<EventId> {
    let at = happening.at.as_second();
    match happening.what {
        What::Comment { .. } | What::Created { .. } => vec![id(happening, nth, happening.at)],
        _ => (at..=at + LAG_ACROSS_RESTARTS)
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
    use pushbutton_core::memory::MemoryEventStore;
    use pushbutton_core::samples;
    use pushbutton_core::{Account, Approval};

    fn happening(what: What, at: i64) -> Happening {
        let at = Timestamp::from_second(1_795_435_200 + at).unwrap();
        Happening { change: samples::change(), patchset: samples::patchset(), at, what }
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

    fn fresh() -> (Arc<MemoryEventStore>, Identities) {
        let ledger = Arc::new(MemoryEventStore::default());
        (Arc::clone(&ledger), Identities::new(ledger))
    }

    fn new(told: Result<Told>) -> EventId {
        match told.unwrap() {
            Told::New(id) => id,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn streamed_then_found_by_query_is_one() {
        // A server that stood still dates the event much later than the comment.
        for late in [1, 300] {
            for (streamed, queried) in [(recheck(10 + late), recheck(10)), (vote(10 + late), vote(10))] {
                let (_, mut ids) = fresh();
                new(ids.streamed(&streamed).await);
                for _ in 0..3 {
                    ids.begin_pass();
                    assert_eq!(ids.recovered(&queried, 1).await.unwrap(), Told::Known);
                }
            }
        }
    }

    #[tokio::test]
    async fn what_the_stream_tells_much_later_than_a_query_is_counted_before_it_is_believed() {
        for (streamed, queried, again) in
            [(recheck(40), recheck(10), recheck(39)), (vote(40), vote(10), vote(39))]
        {
            let (_, mut ids) = fresh();
            ids.begin_pass();
            let first = new(ids.recovered(&queried, 1).await);
            assert!(matches!(ids.streamed(&streamed).await.unwrap(), Told::Doubtful(_)));
            // It was the same one: there is no other.
            ids.begin_pass();
            assert_eq!(ids.recovered(&queried, 1).await.unwrap(), Told::Known);
            // Or it was another one.
            ids.begin_pass();
            assert_eq!(ids.recovered(&queried, 1).await.unwrap(), Told::Known);
            assert_ne!(new(ids.recovered(&again, 2).await), first);
            assert_eq!(ids.streamed(&streamed).await.unwrap(), Told::Known);
        }
    }

    #[tokio::test]
    async fn found_by_query_then_streamed_is_one() {
        for (streamed, queried) in [(recheck(11), recheck(10)), (vote(11), vote(10))] {
            let (_, mut ids) = fresh();
            ids.begin_pass();
            new(ids.recovered(&queried, 1).await);
            assert_eq!(ids.streamed(&streamed).await.unwrap(), Told::Known);
            // A later one is another.
            let later =
                Happening { at: Timestamp::from_second(streamed.at.as_second() + 60).unwrap(), ..streamed };
            new(ids.streamed(&later).await);
        }
    }

    #[tokio::test]
    async fn the_id_is_the_same_after_a_restart() {
        let (ledger, mut ids) = fresh();
        let first = new(ids.streamed(&recheck(11)).await);
        // Not recorded, so a query after the restart finds it again, under the same id.
        let mut after = Identities::new(Arc::clone(&ledger) as Arc<dyn EventStore>);
        after.begin_pass();
        assert_eq!(new(after.recovered(&recheck(10), 1).await), first);
        // Recorded: never again, and the next equal comment is the second.
        ledger.record(&first).await.unwrap();
        for asked_before in [true, false] {
            let mut after = Identities::new(Arc::clone(&ledger) as Arc<dyn EventStore>);
            after.begin_pass();
            if asked_before {
                assert_eq!(after.recovered(&recheck(10), 1).await.unwrap(), Told::Known);
            }
            let second = id(&recheck(12), 2, recheck(12).at);
            assert_eq!(after.streamed(&recheck(12)).await.unwrap(), Told::Doubtful(second.clone()));
            after.begin_pass();
            assert_eq!(after.recovered(&recheck(10), 1).await.unwrap(), Told::Known);
            assert_eq!(new(after.recovered(&recheck(12), 2).await), second);
        }
    }

    #[tokio::test]
    async fn a_recorded_vote_is_known_though_the_stream_dated_it_later() {
        let (ledger, mut ids) = fresh();
        let streamed = new(ids.streamed(&vote(12)).await);
        ledger.record(&streamed).await.unwrap();
        let mut after = Identities::new(ledger);
        after.begin_pass();
        assert_eq!(after.recovered(&vote(10), 1).await.unwrap(), Told::Known);
    }

    #[tokio::test]
    async fn two_equal_comments_in_one_second_are_two() {
        let (_, mut ids) = fresh();
        assert_ne!(new(ids.streamed(&recheck(10)).await), new(ids.streamed(&recheck(10)).await));
        ids.begin_pass();
        assert_eq!(ids.recovered(&recheck(10), 1).await.unwrap(), Told::Known);
        assert_eq!(ids.recovered(&recheck(10), 2).await.unwrap(), Told::Known);
        // A third was missed by the stream.
        new(ids.recovered(&recheck(10), 3).await);
    }

    #[tokio::test]
    async fn a_patchset_is_one_however_it_is_told() {
        let created = happening(What::Created { uploader: Account::of("alice") }, 0);
        let (_, mut ids) = fresh();
        new(ids.streamed(&created).await);
        ids.begin_pass();
        assert_eq!(ids.recovered(&created, 1).await.unwrap(), Told::Known);
        assert_eq!(ids.streamed(&created).await.unwrap(), Told::Known);
    }

    #[tokio::test]
    async fn texts_of_one_review_are_the_same_in_any_order() {
        let said = |text: &str, at| {
            happening(What::Comment { author: Account::of("bob"), text: text.into(), approvals: vec![] }, at)
        };
        let (_, mut ids) = fresh();
        new(ids.streamed(&said("recheck\nmore\n\nwords", 11)).await);
        ids.begin_pass();
        assert_eq!(ids.recovered(&said("more\n\nwords\nrecheck", 10), 1).await.unwrap(), Told::Known);
        new(ids.streamed(&said("more words recheck", 11)).await);
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
