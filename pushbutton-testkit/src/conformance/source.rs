//! The contract of [`EventSource`], as checks.
//!
//! A check acts upstream through a [`Harness`] and looks at what the source yields. The harness says what it can do: a finite source (a
//! recorded stream) has all its events before it is opened, and a source in memory forgets with its process.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::{Event, EventKind, EventSource, Position};
use tokio::time::{Instant, timeout};

/// How long a source may take to tell of something.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What is upstream of a source under test.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Somebody comments with this text; returns when it has happened.
    async fn happen(&mut self, text: &str);

    /// A source as a handler opens it at start, with the memory that the last one left.
    async fn open(&mut self) -> Box<dyn EventSource>;

    /// Whether the source ends after what happened before it was opened.
    fn is_finite(&self) -> bool;

    /// Something comes that cannot be understood. False: here it cannot come.
    async fn nonsense(&mut self) -> bool {
        false
    }

    /// Breaks the source's connection, and lets none be made until [`repair`](Self::repair). False: there is none.
    async fn cut(&mut self) -> bool {
        false
    }

    /// Ends [`cut`](Self::cut).
    async fn repair(&mut self) {}

    /// What the memory that survives a restart holds as committed. None: nothing survives.
    async fn committed(&self) -> Option<Position> {
        None
    }
}

/// Runs all checks; `fresh` makes a new harness for each.
pub async fn all<W: Harness>(mut fresh: impl AsyncFnMut() -> W) {
    every_event_comes_and_each_is_another(&mut fresh().await).await;
    equal_comments_are_two_events(&mut fresh().await).await;
    nonsense_is_passed_by(&mut fresh().await).await;
    a_dropped_call_loses_nothing(&mut fresh().await).await;
    a_finite_source_ends_and_a_live_one_waits(&mut fresh().await).await;
    nothing_from_before_the_first_start_comes(&mut fresh().await).await;
    a_broken_connection_loses_nothing(&mut fresh().await).await;
    a_restart_goes_on_with_the_same_ids(&mut fresh().await).await;
    an_older_commit_changes_nothing(&mut fresh().await).await;
}

/// A source that tells of what happens from now on; with these texts to come, or already there when it is finite.
async fn opened(harness: &mut dyn Harness, texts: &[&str]) -> Box<dyn EventSource> {
    if harness.is_finite() {
        for text in texts {
            harness.happen(text).await;
        }
        return harness.open().await;
    }
    let mut source = harness.open().await;
    warm_up(harness, &mut *source).await;
    for text in texts {
        harness.happen(text).await;
    }
    source
}

/// A live source may need a moment until it hears; only what happens then is promised to come.
async fn warm_up(harness: &mut dyn Harness, source: &mut dyn EventSource) {
    let end = Instant::now() + TIME_LIMIT;
    for round in 0.. {
        harness.happen(&format!("warm-up {round}")).await;
        if timeout(Duration::from_secs(1), source.next()).await.is_ok() {
            return;
        }
        assert!(Instant::now() < end, "a live source must tell of what happens");
    }
}

fn text(event: &Event) -> &str {
    match &event.kind {
        EventKind::CommentAdded { text, .. } => text,
        _ => "",
    }
}

/// The next event whose text is one of these; others (a warm-up, what came again) are let pass.
async fn next_of(source: &mut dyn EventSource, texts: &[&str]) -> Event {
    let wanted = async {
        loop {
            match source.next().await {
                Ok(Some(event)) if texts.contains(&text(&event)) => return event,
                Ok(Some(_)) => {}
                Ok(None) => panic!("the source ended before it told of {texts:?}"),
                Err(error) => panic!("the source failed where it must go on: {error}"),
            }
        }
    };
    match timeout(TIME_LIMIT, wanted).await {
        Ok(event) => event,
        Err(_) => panic!("the source did not tell of any of {texts:?} within {TIME_LIMIT:?}"),
    }
}

/// At least once: whatever happens comes, and different happenings have different ids.
pub async fn every_event_comes_and_each_is_another(harness: &mut dyn Harness) {
    let texts = ["one", "two", "three"];
    let mut source = opened(harness, &texts).await;
    let (mut seen, mut ids) = (HashSet::new(), HashSet::new());
    while seen.len() < texts.len() {
        let event = next_of(&mut *source, &texts).await;
        ids.insert(event.id.clone());
        seen.insert(text(&event).to_owned());
    }
    assert_eq!(ids.len(), texts.len(), "different happenings must have different ids, and one has one");
}

/// Two equal comments are two events.
pub async fn equal_comments_are_two_events(harness: &mut dyn Harness) {
    let mut source = opened(harness, &["recheck", "recheck"]).await;
    let first = next_of(&mut *source, &["recheck"]).await;
    let second = next_of(&mut *source, &["recheck"]).await;
    assert_ne!(first.id, second.id, "two equal comments must be two events");
}

/// What cannot be understood is passed by; it never ends the source.
pub async fn nonsense_is_passed_by(harness: &mut dyn Harness) {
    let mut source = if harness.is_finite() {
        if !harness.nonsense().await {
            return;
        }
        opened(harness, &["after"]).await
    } else {
        let source = opened(harness, &[]).await;
        if !harness.nonsense().await {
            return;
        }
        harness.happen("after").await;
        source
    };
    next_of(&mut *source, &["after"]).await;
}

/// Cancel-safe: a dropped call loses no event.
pub async fn a_dropped_call_loses_nothing(harness: &mut dyn Harness) {
    let texts = ["one", "two", "three", "four", "five"];
    let mut source = opened(harness, &texts).await;
    let (mut seen, end) = (HashSet::new(), Instant::now() + TIME_LIMIT);
    while seen.len() < texts.len() {
        assert!(Instant::now() < end, "dropped calls have lost events: only {seen:?} came");
        // Polled once and dropped, or a little later.
        for patience in [Duration::ZERO, Duration::from_millis(1)] {
            if let Ok(event) = timeout(patience, source.next()).await {
                match event {
                    Ok(Some(event)) if texts.contains(&text(&event)) => {
                        _ = seen.insert(text(&event).to_owned())
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => assert_eq!(
                        seen.len(),
                        texts.len(),
                        "dropped calls have lost events: only {seen:?} came"
                    ),
                    Err(error) => panic!("the source failed where it must go on: {error}"),
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
        Ok(Ok(Some(event))) => panic!("nothing happened, but the source told of {:?}", text(&event)),
        Ok(Err(error)) => panic!("the source failed where it must wait or end: {error}"),
        Err(_) => assert!(!harness.is_finite(), "a finite source must end"),
    }
}

/// On a first start nothing comes that is older than the start.
pub async fn nothing_from_before_the_first_start_comes(harness: &mut dyn Harness) {
    if harness.is_finite() {
        return;
    }
    harness.happen("before the first start").await;
    let mut source = harness.open().await;
    warm_up(harness, &mut *source).await;
    harness.happen("after it").await;
    let event = next_of(&mut *source, &["before the first start", "after it"]).await;
    assert_eq!(text(&event), "after it", "what is older than the first start was never ours");
}

/// Reconnects by itself, and after any gap fetches what it missed.
pub async fn a_broken_connection_loses_nothing(harness: &mut dyn Harness) {
    if harness.is_finite() {
        return;
    }
    let mut source = opened(harness, &["before the cut"]).await;
    let first = next_of(&mut *source, &["before the cut"]).await;
    if !harness.cut().await {
        return;
    }
    harness.happen("in the gap").await;
    harness.repair().await;
    let missed = next_of(&mut *source, &["in the gap"]).await;
    harness.happen("after the gap").await;
    let later = next_of(&mut *source, &["after the gap"]).await;
    assert_eq!(HashSet::from([first.id, missed.id, later.id]).len(), 3);
}

/// After a restart the source goes on from the last committed position; what was not committed comes again, with the same id.
pub async fn a_restart_goes_on_with_the_same_ids(harness: &mut dyn Harness) {
    if harness.is_finite() || harness.committed().await.is_none() && !remembers(harness).await {
        return;
    }
    let mut source = opened(harness, &["committed"]).await;
    let event = next_of(&mut *source, &["committed"]).await;
    source.commit(&event.position).await.expect("a commit succeeds");
    harness.happen("not committed").await;
    let before = next_of(&mut *source, &["not committed"]).await;
    drop(source);
    harness.happen("while nobody listened").await;
    let mut source = harness.open().await;
    let mut found = std::collections::HashMap::new();
    while found.len() < 2 {
        let event = next_of(&mut *source, &["not committed", "while nobody listened"]).await;
        found.insert(text(&event).to_owned(), event.id);
    }
    assert_eq!(
        found.get("not committed"),
        Some(&before.id),
        "the same event seen twice must have the same id"
    );
}

/// Whether anything survives a restart: a source that was opened has left a position.
async fn remembers(harness: &mut dyn Harness) -> bool {
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
