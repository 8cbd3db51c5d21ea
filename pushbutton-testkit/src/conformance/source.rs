//! Checks of the contract of [`EventSource`].
//!
//! A check adds comments upstream through a [`Harness`], and looks at what the source yields. The methods of the
//! harness say what does not apply: a finite source (a recorded stream) has all its events before it is opened, and a
//! source in memory has no state after a restart.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{Event, EventKind, EventSource, Position};
use tokio::time::{Instant, timeout};

/// How long a source may take to yield an event.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The source under test, and its upstream.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Adds a comment with this text upstream. Returns when upstream has accepted it.
    async fn comment(&mut self, text: &str);

    /// Opens a source as a handler does at its start, with the state that the last one has stored.
    async fn open(&mut self) -> Box<dyn EventSource>;

    /// Whether the source ends after the events that happened before it was opened.
    fn is_finite(&self) -> bool;

    /// Sends the source something that cannot be parsed. False when that is not possible.
    async fn send_invalid(&mut self) -> bool {
        false
    }

    /// Breaks the connection of the source, and prevents a new one until [`repair`](Self::repair). False when there is
    /// no connection.
    async fn disconnect(&mut self) -> bool {
        false
    }

    /// Ends [`disconnect`](Self::disconnect): the source can connect again.
    async fn repair(&mut self) {}

    /// The committed position in the state that survives a restart. None when nothing survives.
    async fn committed(&self) -> Option<Position> {
        None
    }
}

/// Runs all checks; `fresh` makes a new harness for each.
pub async fn all<H: Harness>(mut fresh: impl AsyncFnMut() -> H) {
    every_event_arrives_with_its_own_id(&mut fresh().await).await;
    equal_comments_are_two_events(&mut fresh().await).await;
    invalid_input_is_skipped(&mut fresh().await).await;
    a_dropped_call_loses_no_event(&mut fresh().await).await;
    a_finite_source_ends_and_a_live_one_waits(&mut fresh().await).await;
    nothing_older_than_the_first_start_arrives(&mut fresh().await).await;
    a_broken_connection_loses_no_event(&mut fresh().await).await;
    a_restart_continues_with_the_same_ids(&mut fresh().await).await;
    an_older_commit_changes_nothing(&mut fresh().await).await;
}

/// Opens a source that will yield comments with these texts. For a finite source they are added before it is opened.
async fn opened(harness: &mut dyn Harness, texts: &[&str]) -> Box<dyn EventSource> {
    if harness.is_finite() {
        for text in texts {
            harness.comment(text).await;
        }
        return harness.open().await;
    }
    let mut source = harness.open().await;
    warm_up(harness, &mut *source).await;
    for text in texts {
        harness.comment(text).await;
    }
    source
}

/// Waits until a live source yields events. It may need a moment to connect, and yields nothing older than that.
async fn warm_up(harness: &mut dyn Harness, source: &mut dyn EventSource) {
    let end = Instant::now() + TIME_LIMIT;
    for round in 0.. {
        harness.comment(&format!("warm-up {round}")).await;
        if timeout(Duration::from_secs(1), source.next()).await.is_ok() {
            return;
        }
        assert!(Instant::now() < end, "a live source must yield what happens");
    }
}

fn text(event: &Event) -> &str {
    match &event.kind {
        EventKind::CommentAdded { texts, .. } => texts.first().map_or("", String::as_str),
        _ => "",
    }
}

/// The next event whose text is one of these. Others are skipped: warm-up comments, and events that arrive again.
async fn next_of(source: &mut dyn EventSource, texts: &[&str]) -> Event {
    let wanted = async {
        loop {
            match source.next().await {
                Ok(Some(event)) if texts.contains(&text(&event)) => return event,
                Ok(Some(_)) => {}
                Ok(None) => panic!("the source ended before it yielded {texts:?}"),
                Err(error) => panic!("the source failed where it must continue: {error}"),
            }
        }
    };
    match timeout(TIME_LIMIT, wanted).await {
        Ok(event) => event,
        Err(_) => panic!("the source yielded none of {texts:?} within {TIME_LIMIT:?}"),
    }
}

/// At least once: every event arrives, and different events have different ids.
pub async fn every_event_arrives_with_its_own_id(harness: &mut dyn Harness) {
    let texts = ["one", "two", "three"];
    let mut source = opened(harness, &texts).await;
    let (mut seen, mut ids) = (HashSet::new(), HashSet::new());
    while seen.len() < texts.len() {
        let event = next_of(&mut *source, &texts).await;
        ids.insert(event.id.clone());
        seen.insert(text(&event).to_owned());
    }
    assert_eq!(
        ids.len(),
        texts.len(),
        "different events must have different ids, and the same event the same id"
    );
}

/// Two equal comments are two events.
pub async fn equal_comments_are_two_events(harness: &mut dyn Harness) {
    let mut source = opened(harness, &["recheck", "recheck"]).await;
    let first = next_of(&mut *source, &["recheck"]).await;
    let second = next_of(&mut *source, &["recheck"]).await;
    assert_ne!(first.id, second.id, "two equal comments must be two events");
}

/// Input that cannot be parsed is skipped; it never ends the source.
pub async fn invalid_input_is_skipped(harness: &mut dyn Harness) {
    let mut source = if harness.is_finite() {
        if !harness.send_invalid().await {
            return;
        }
        opened(harness, &["after"]).await
    } else {
        let source = opened(harness, &[]).await;
        if !harness.send_invalid().await {
            return;
        }
        harness.comment("after").await;
        source
    };
    next_of(&mut *source, &["after"]).await;
}

/// Cancel-safe: a dropped call loses no event.
pub async fn a_dropped_call_loses_no_event(harness: &mut dyn Harness) {
    let texts = ["one", "two", "three", "four", "five"];
    let mut source = opened(harness, &texts).await;
    let (mut seen, end) = (HashSet::new(), Instant::now() + TIME_LIMIT);
    while seen.len() < texts.len() {
        assert!(Instant::now() < end, "dropped calls have lost events: only {seen:?} arrived");
        // Polled once and dropped, or dropped a little later.
        for wait in [Duration::ZERO, Duration::from_millis(1)] {
            if let Ok(event) = timeout(wait, source.next()).await {
                match event {
                    Ok(Some(event)) if texts.contains(&text(&event)) => {
                        _ = seen.insert(text(&event).to_owned())
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => assert_eq!(
                        seen.len(),
                        texts.len(),
                        "dropped calls have lost events: only {seen:?} arrived"
                    ),
                    Err(error) => panic!("the source failed where it must continue: {error}"),
                }
            }
        }
    }
}

/// `None` means that a finite source has ended; a live one waits.
pub async fn a_finite_source_ends_and_a_live_one_waits(harness: &mut dyn Harness) {
    let mut source = opened(harness, &["last"]).await;
    next_of(&mut *source, &["last"]).await;
    let after = timeout(Duration::from_millis(500), source.next()).await;
    match after {
        Ok(Ok(None)) => assert!(harness.is_finite(), "a live source must not end"),
        Ok(Ok(Some(event))) => panic!("nothing happened, but the source yielded {:?}", text(&event)),
        Ok(Err(error)) => panic!("the source failed where it must wait or end: {error}"),
        Err(_) => assert!(!harness.is_finite(), "a finite source must end"),
    }
}

/// On a first start nothing arrives that is older than the start.
pub async fn nothing_older_than_the_first_start_arrives(harness: &mut dyn Harness) {
    if harness.is_finite() {
        return;
    }
    harness.comment("before the first start").await;
    let mut source = harness.open().await;
    warm_up(harness, &mut *source).await;
    harness.comment("after it").await;
    let event = next_of(&mut *source, &["before the first start", "after it"]).await;
    assert_eq!(text(&event), "after it", "an event older than the first start must not arrive");
}

/// The source reconnects by itself, and fetches the events of the gap.
pub async fn a_broken_connection_loses_no_event(harness: &mut dyn Harness) {
    if harness.is_finite() {
        return;
    }
    let mut source = opened(harness, &["before the gap"]).await;
    let first = next_of(&mut *source, &["before the gap"]).await;
    if !harness.disconnect().await {
        return;
    }
    harness.comment("in the gap").await;
    harness.repair().await;
    let missed = next_of(&mut *source, &["in the gap"]).await;
    harness.comment("after the gap").await;
    let later = next_of(&mut *source, &["after the gap"]).await;
    assert_eq!(HashSet::from([first.id, missed.id, later.id]).len(), 3, "three events have three ids");
}

/// After a restart the source continues from the last committed position: later events arrive again, with the same ids.
pub async fn a_restart_continues_with_the_same_ids(harness: &mut dyn Harness) {
    if harness.is_finite() || harness.committed().await.is_none() && !keeps_position(harness).await {
        return;
    }
    let mut source = opened(harness, &["committed"]).await;
    let event = next_of(&mut *source, &["committed"]).await;
    source.commit(&event.position).await.expect("a commit succeeds");
    harness.comment("not committed").await;
    let before = next_of(&mut *source, &["not committed"]).await;
    drop(source);
    harness.comment("during the restart").await;
    let mut source = harness.open().await;
    let mut found = std::collections::HashMap::new();
    while found.len() < 2 {
        let event = next_of(&mut *source, &["not committed", "during the restart"]).await;
        found.insert(text(&event).to_owned(), event.id);
    }
    assert_eq!(
        found.get("not committed"),
        Some(&before.id),
        "the same event seen twice must have the same id"
    );
}

/// Whether a position survives a restart, once a source was opened.
async fn keeps_position(harness: &mut dyn Harness) -> bool {
    let mut source = harness.open().await;
    warm_up(harness, &mut *source).await;
    harness.committed().await.is_some()
}

/// A position older than the committed one changes nothing.
pub async fn an_older_commit_changes_nothing(harness: &mut dyn Harness) {
    let mut source = opened(harness, &["one", "two"]).await;
    let older = next_of(&mut *source, &["one"]).await.position;
    let newer = next_of(&mut *source, &["two"]).await.position;
    source.commit(&newer).await.expect("a commit succeeds");
    let committed = harness.committed().await;
    source.commit(&older).await.expect("a commit of an older position succeeds");
    assert_eq!(harness.committed().await, committed, "an older commit must change nothing");
}
