//! Deduplication: gives events their ids, the same whether the stream or a query brought them, and drops those that
//! came before.
//!
//! Gerrit's events have no id, and the stream and a query do not even agree on the time: the stream has the time of
//! the *event*, a query that of the *comment*, some seconds earlier. So a table of recent events matches the two, and
//! the event store knows older ones.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use pushbutton_core::{EventId, EventStore, Result};

use crate::raw_event::{RawEvent, RawEventKind};

/// How many seconds later than a query the stream may date an event, so that they are matched by time alone.
/// Measured: 0 to 2, more under load; any number if the server was suspended in between.
const MAX_LAG: i64 = 10;

/// The same for an event that the stream brought before a restart: nobody gives the same vote twice within a minute
/// on purpose.
const MAX_LAG_ACROSS_RESTARTS: i64 = 60;

/// How many different events the table holds: some minutes of a busy server.
const TABLE: usize = 16_384;

/// Matches events of the stream with those that backfill found.
pub(crate) struct Deduplicator {
    store: Arc<dyn EventStore>,
    /// Equal events (same change, patch set, person, text) by their hash.
    table: HashMap<u64, Vec<SeenEntry>>,
    /// The keys of the table, oldest first.
    order: VecDeque<u64>,
    /// The number of the current backfill.
    backfill: u64,
}

/// What an event turns out to be.
#[derive(Debug, PartialEq)]
pub(crate) enum Dedup {
    /// A new event, with its id.
    New(EventId),
    /// This process or an earlier one has passed it on.
    Duplicate,
    /// Only for events of the stream. A query or an earlier process brought an equal event, and this is either that
    /// same one, late, or another one, whose id would be this. Example: a query found bob's `recheck`, and a minute
    /// later the stream brings bob's `recheck`. A query that is sent now counts how many there are: if two, it finds
    /// the second as new.
    Ambiguous(EventId),
}

/// One of several equal events.
#[derive(Debug, Clone, Copy)]
struct SeenEntry {
    /// Which of them it is, from 1.
    nth: u32,
    /// Whether this process passed it on; otherwise an earlier one did.
    passed_on: bool,
    /// Its time in the stream, if the stream has brought it.
    streamed: Option<i64>,
    /// Its time in a query, if a query has found it.
    queried: Option<i64>,
    /// The last backfill that found it. A backfill that finds two equal events must match two entries.
    backfill: u64,
}

impl Deduplicator {
    pub(crate) fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, table: HashMap::new(), order: VecDeque::new(), backfill: 0 }
    }

    /// Must be called when a backfill starts.
    pub(crate) fn begin_backfill(&mut self) {
        self.backfill += 1;
    }

    /// Judges an event of the stream.
    ///
    /// # Cancel safety
    /// A dropped call has changed nothing.
    pub(crate) async fn check_streamed(&mut self, event: &RawEvent) -> Result<Dedup> {
        let (key, at) = (key(event), event.at.as_second());
        if let Some(known) = self.table.get_mut(&key).into_iter().flatten().find(|entry| {
            entry.passed_on
                && entry.streamed.is_none()
                && entry.queried.is_some_and(|queried| (-2..=MAX_LAG).contains(&(at - queried)))
        }) {
            known.streamed = Some(at);
            return Ok(Dedup::Duplicate);
        }
        let equal = self.table.get(&key);
        let mut ambiguous = equal.into_iter().flatten().any(|entry| entry.streamed.is_none());
        let mut nth = equal.into_iter().flatten().map(|entry| entry.nth).max().map_or(1, |nth| nth + 1);
        match &event.kind {
            RawEventKind::Comment { .. } => {
                while equal.is_none() && self.store.has_seen(&id(event, nth, event.at)).await? {
                    (nth, ambiguous) = (nth + 1, true);
                }
            }
            // The same commit cannot be uploaded twice as one patch set.
            RawEventKind::Created { .. } if equal.is_some() => return Ok(Dedup::Duplicate),
            _ => {}
        }
        let id = id(event, nth, event.at);
        if ambiguous {
            return Ok(Dedup::Ambiguous(id));
        }
        self.insert(key, SeenEntry { nth, passed_on: true, streamed: Some(at), queried: None, backfill: 0 });
        Ok(Dedup::New(id))
    }

    /// Judges an event that backfill found: new, or a duplicate. `nth` counts equal comments since the very first
    /// start.
    ///
    /// # Cancel safety
    /// A dropped call has changed nothing.
    pub(crate) async fn check_backfilled(&mut self, event: &RawEvent, nth: u32) -> Result<Dedup> {
        let (key, at, backfill) = (key(event), event.at.as_second(), self.backfill);
        if let Some(entries) = self.table.get_mut(&key) {
            let unmatched = |entry: &SeenEntry| entry.backfill != backfill;
            let same_time = |entry: &SeenEntry| match (entry.queried, entry.streamed) {
                (Some(queried), _) => queried == at,
                (None, Some(streamed)) => (-2..=MAX_LAG).contains(&(streamed - at)),
                (None, None) => false,
            };
            // The stream may have dated it later than `MAX_LAG`. Then the count decides; of votes a query shows the
            // last only.
            let same_count = |entry: &SeenEntry| match event.kind {
                RawEventKind::Comment { .. } => entry.nth == nth,
                RawEventKind::Vote { .. } => {
                    entry.queried.is_none() && entry.streamed.is_some_and(|streamed| streamed >= at)
                }
                _ => false,
            };
            let is_created = matches!(event.kind, RawEventKind::Created { .. });
            let found = entries
                .iter()
                .position(|entry| unmatched(entry) && same_time(entry))
                .or_else(|| entries.iter().position(|entry| unmatched(entry) && same_count(entry)))
                .or_else(|| (!entries.is_empty() && is_created).then_some(0));
            if let Some(known) = found {
                entries[known].queried = Some(at);
                entries[known].backfill = backfill;
                return Ok(Dedup::Duplicate);
            }
        }
        let mut seen = false;
        for candidate in candidates(event, nth) {
            seen = seen || self.store.has_seen(&candidate).await?;
        }
        self.insert(key, SeenEntry { nth, passed_on: !seen, streamed: None, queried: Some(at), backfill });
        Ok(if seen { Dedup::Duplicate } else { Dedup::New(id(event, nth, event.at)) })
    }

    fn insert(&mut self, key: u64, entry: SeenEntry) {
        let entries = self.table.entry(key).or_default();
        if entries.is_empty() {
            self.order.push_back(key);
        }
        entries.push(entry);
        if self.order.len() > TABLE {
            if let Some(oldest) = self.order.pop_front() {
                self.table.remove(&oldest);
            }
        }
    }
}

impl fmt::Debug for Deduplicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deduplicator").field("entries", &self.table.len()).finish_non_exhaustive()
    }
}

/// The ids under which an event that a query found may have been recorded: the stream may have dated it later.
pub(crate) fn candidates(event: &RawEvent, nth: u32) -> Vec<EventId> {
    let at = event.at.as_second();
    match event.kind {
        RawEventKind::Comment { .. }
        | RawEventKind::Created { .. }
        | RawEventKind::Ready { .. }
        | RawEventKind::Public { .. } => vec![id(event, nth, event.at)],
        _ => (at..=at + MAX_LAG_ACROSS_RESTARTS)
            .filter_map(|second| Timestamp::from_second(second).ok())
            .map(|second| id(event, nth, second))
            .collect(),
    }
}

fn id(event: &RawEvent, nth: u32, at: Timestamp) -> EventId {
    let (change, patchset) = (event.change.number, event.patchset.number);
    match &event.kind {
        RawEventKind::Created { .. } => EventId::patchset(change, &event.patchset),
        RawEventKind::Comment { author, texts, .. } => {
            EventId::comment(change, patchset, author, &canonical_text(texts), nth)
        }
        RawEventKind::Ready { .. } => EventId::opened(change, &event.patchset, "ready"),
        RawEventKind::Public { .. } => EventId::opened(change, &event.patchset, "public"),
        RawEventKind::Vote { voter, vote } => EventId::vote(change, patchset, voter, vote, at),
        RawEventKind::Merged => EventId::state(change, patchset, "merged", at),
        RawEventKind::Abandoned => EventId::state(change, patchset, "abandoned", at),
        RawEventKind::Restored { .. } => EventId::state(change, patchset, "restored", at),
        RawEventKind::Deleted => EventId::state(change, patchset, "deleted", at),
    }
}

/// The form in which the texts of a review are compared: sorted lines. Some servers join several comments in the stream,
/// in the order in which they were written; a query has them one by one, in any order.
pub(crate) fn canonical_text(texts: &[String]) -> Cow<'_, str> {
    if let [text] = texts {
        if !text.contains('\n') {
            return Cow::Borrowed(text.trim());
        }
    }
    let lines = texts.iter().flat_map(|text| text.lines());
    let mut lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    Cow::Owned(lines.join("\n"))
}

fn key(event: &RawEvent) -> u64 {
    let mut hash = DefaultHasher::new();
    (event.change.number, event.patchset.number).hash(&mut hash);
    std::mem::discriminant(&event.kind).hash(&mut hash);
    match &event.kind {
        RawEventKind::Comment { author, texts, .. } => {
            (author.handle(), canonical_text(texts)).hash(&mut hash);
        }
        RawEventKind::Vote { voter, vote } => (voter.handle(), vote).hash(&mut hash),
        RawEventKind::Created { .. } => event.patchset.revision.hash(&mut hash),
        RawEventKind::Ready { .. }
        | RawEventKind::Public { .. }
        | RawEventKind::Merged
        | RawEventKind::Abandoned
        | RawEventKind::Restored { .. }
        | RawEventKind::Deleted => {}
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushbutton_core::memory::MemoryEventStore;
    use pushbutton_core::samples;
    use pushbutton_core::{Account, Approval};

    fn event(kind: RawEventKind, at: i64) -> RawEvent {
        let at = Timestamp::from_second(1_795_435_200 + at).unwrap();
        RawEvent { change: samples::change(), patchset: samples::patchset(), at, kind }
    }

    fn recheck(at: i64) -> RawEvent {
        event(
            RawEventKind::Comment {
                author: Account::of("bob"),
                texts: vec!["recheck".into()],
                message: None,
                approvals: vec![],
            },
            at,
        )
    }

    fn vote(at: i64) -> RawEvent {
        event(RawEventKind::Vote { voter: Account::of("zuul"), vote: Approval::new("Verified", 1) }, at)
    }

    fn fresh() -> (Arc<MemoryEventStore>, Deduplicator) {
        let store = Arc::new(MemoryEventStore::default());
        (Arc::clone(&store), Deduplicator::new(store))
    }

    fn new(result: Result<Dedup>) -> EventId {
        match result.unwrap() {
            Dedup::New(id) => id,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn streamed_then_found_by_query_is_one() {
        // A server that was suspended dates the event much later than the comment.
        for late in [1, 300] {
            for (streamed, queried) in [(recheck(10 + late), recheck(10)), (vote(10 + late), vote(10))] {
                let (_, mut dedup) = fresh();
                new(dedup.check_streamed(&streamed).await);
                for _ in 0..3 {
                    dedup.begin_backfill();
                    assert_eq!(dedup.check_backfilled(&queried, 1).await.unwrap(), Dedup::Duplicate);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_stream_event_much_later_than_a_query_is_ambiguous_until_a_query_counts() {
        for (streamed, queried, again) in
            [(recheck(40), recheck(10), recheck(39)), (vote(40), vote(10), vote(39))]
        {
            let (_, mut dedup) = fresh();
            dedup.begin_backfill();
            let first = new(dedup.check_backfilled(&queried, 1).await);
            assert!(matches!(dedup.check_streamed(&streamed).await.unwrap(), Dedup::Ambiguous(_)));
            // It was the same one: there is no other.
            dedup.begin_backfill();
            assert_eq!(dedup.check_backfilled(&queried, 1).await.unwrap(), Dedup::Duplicate);
            // Or it was another one.
            dedup.begin_backfill();
            assert_eq!(dedup.check_backfilled(&queried, 1).await.unwrap(), Dedup::Duplicate);
            assert_ne!(new(dedup.check_backfilled(&again, 2).await), first);
            assert_eq!(dedup.check_streamed(&streamed).await.unwrap(), Dedup::Duplicate);
        }
    }

    #[tokio::test]
    async fn found_by_query_then_streamed_is_one() {
        for (streamed, queried) in [(recheck(11), recheck(10)), (vote(11), vote(10))] {
            let (_, mut dedup) = fresh();
            dedup.begin_backfill();
            new(dedup.check_backfilled(&queried, 1).await);
            assert_eq!(dedup.check_streamed(&streamed).await.unwrap(), Dedup::Duplicate);
            // A later one is another.
            let later =
                RawEvent { at: Timestamp::from_second(streamed.at.as_second() + 60).unwrap(), ..streamed };
            new(dedup.check_streamed(&later).await);
        }
    }

    #[tokio::test]
    async fn the_id_is_the_same_after_a_restart() {
        let (store, mut dedup) = fresh();
        let first = new(dedup.check_streamed(&recheck(11)).await);
        // Not recorded, so a query after the restart finds it again, under the same id.
        let mut after = Deduplicator::new(Arc::clone(&store) as Arc<dyn EventStore>);
        after.begin_backfill();
        assert_eq!(new(after.check_backfilled(&recheck(10), 1).await), first);
        // Recorded: never again, and the next equal comment is the second.
        store.record(&first).await.unwrap();
        for asked_before in [true, false] {
            let mut after = Deduplicator::new(Arc::clone(&store) as Arc<dyn EventStore>);
            after.begin_backfill();
            if asked_before {
                assert_eq!(after.check_backfilled(&recheck(10), 1).await.unwrap(), Dedup::Duplicate);
            }
            let second = id(&recheck(12), 2, recheck(12).at);
            assert_eq!(after.check_streamed(&recheck(12)).await.unwrap(), Dedup::Ambiguous(second.clone()));
            after.begin_backfill();
            assert_eq!(after.check_backfilled(&recheck(10), 1).await.unwrap(), Dedup::Duplicate);
            assert_eq!(new(after.check_backfilled(&recheck(12), 2).await), second);
        }
    }

    #[tokio::test]
    async fn a_recorded_vote_is_known_though_the_stream_dated_it_later() {
        let (store, mut dedup) = fresh();
        let streamed = new(dedup.check_streamed(&vote(12)).await);
        store.record(&streamed).await.unwrap();
        let mut after = Deduplicator::new(store);
        after.begin_backfill();
        assert_eq!(after.check_backfilled(&vote(10), 1).await.unwrap(), Dedup::Duplicate);
    }

    #[tokio::test]
    async fn two_equal_comments_in_one_second_are_two() {
        let (_, mut dedup) = fresh();
        assert_ne!(
            new(dedup.check_streamed(&recheck(10)).await),
            new(dedup.check_streamed(&recheck(10)).await)
        );
        dedup.begin_backfill();
        assert_eq!(dedup.check_backfilled(&recheck(10), 1).await.unwrap(), Dedup::Duplicate);
        assert_eq!(dedup.check_backfilled(&recheck(10), 2).await.unwrap(), Dedup::Duplicate);
        // A third was missed by the stream.
        new(dedup.check_backfilled(&recheck(10), 3).await);
    }

    #[tokio::test]
    async fn a_patchset_is_one_event_from_stream_and_query() {
        let created = event(RawEventKind::Created { uploader: Account::of("alice") }, 0);
        let (_, mut dedup) = fresh();
        new(dedup.check_streamed(&created).await);
        dedup.begin_backfill();
        assert_eq!(dedup.check_backfilled(&created, 1).await.unwrap(), Dedup::Duplicate);
        assert_eq!(dedup.check_streamed(&created).await.unwrap(), Dedup::Duplicate);
    }

    #[tokio::test]
    async fn texts_of_one_review_are_equal_in_any_order() {
        let comment = |texts: &[&str], at| {
            let texts = texts.iter().map(|&text| text.to_owned()).collect();
            event(
                RawEventKind::Comment { author: Account::of("bob"), texts, message: None, approvals: vec![] },
                at,
            )
        };
        let (_, mut dedup) = fresh();
        new(dedup.check_streamed(&comment(&["recheck", "more\n\nwords"], 11)).await);
        dedup.begin_backfill();
        assert_eq!(
            dedup.check_backfilled(&comment(&["more\n\nwords", "recheck"], 10), 1).await.unwrap(),
            Dedup::Duplicate
        );
        // A server that joins them in the stream.
        let (_, mut joined) = fresh();
        new(joined.check_streamed(&comment(&["recheck\nmore\n\nwords"], 11)).await);
        joined.begin_backfill();
        assert_eq!(
            joined.check_backfilled(&comment(&["more\n\nwords", "recheck"], 10), 1).await.unwrap(),
            Dedup::Duplicate
        );
        new(dedup.check_streamed(&comment(&["more words recheck"], 11)).await);
        // A server that leaves the message beside comments out of the stream.
        let (_, mut without) = fresh();
        new(without.check_streamed(&comment(&["recheck"], 11)).await);
        without.begin_backfill();
        let mut with_message = comment(&["recheck"], 10);
        if let RawEventKind::Comment { message, .. } = &mut with_message.kind {
            *message = Some("cover".into());
        }
        assert_eq!(without.check_backfilled(&with_message, 1).await.unwrap(), Dedup::Duplicate);
    }

    #[tokio::test]
    async fn the_table_is_bounded() {
        let (_, mut dedup) = fresh();
        for n in 0..TABLE as u64 + 100 {
            let mut event = recheck(0);
            event.change.number.0 = n + 1;
            dedup.check_streamed(&event).await.unwrap();
        }
        assert_eq!((dedup.table.len(), dedup.order.len()), (TABLE, TABLE));
    }
}
