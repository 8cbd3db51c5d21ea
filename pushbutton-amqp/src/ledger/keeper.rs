//! The task behind a ledger: reads its stream, and writes what it is asked to, many requests on one page.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Position, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::book::Book;
use super::page::{Key, Page};
use crate::codec::{self, Form, Unreadable};
use crate::link::Shared;
use crate::record::Mark;
use crate::session::{Reading, Session, acknowledge};
use crate::topology::WHOLE_EVERY;

/// Requests that may wait to be written.
pub(super) const REQUESTS: usize = 256;
/// How many of them go on one page.
const ON_A_PAGE: usize = 256;
/// Pages that may be on their way at once.
const PAGES: usize = 8;
/// Pauses between attempts to read.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Something to be written. Nothing at all asks to read up to the stream's end.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) seen: Vec<Key>,
    pub(super) position: Option<Position>,
    /// Answered when it was read back: whether the event, or the first of them, is new.
    pub(super) reply: oneshot::Sender<bool>,
}

/// What has been read, for those who ask.
#[derive(Debug)]
pub(super) struct Shelf {
    book: Mutex<Book>,
    pub(super) stand: watch::Sender<Stand>,
}

/// How far the reading is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stand {
    /// Never yet to the end.
    Reading,
    /// To the end, once at least.
    Open,
    /// The stream holds what cannot be understood.
    Refused(String),
}

impl Shelf {
    pub(super) fn new() -> Self {
        Self { book: Mutex::default(), stand: watch::Sender::new(Stand::Reading) }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    shelf: Arc<Shelf>,
    requests: mpsc::Receiver<Request>,
    /// Written or about to be, and not yet read back.
    waiting: HashMap<Mark, Written>,
}

#[derive(Debug)]
struct Written {
    page: Page,
    /// Each with the place of its event on the page, if it has one.
    replies: Vec<(Option<usize>, oneshot::Sender<bool>)>,
}

/// What lives as long as one connection.
struct Desk {
    session: Arc<Session>,
    reading: Reading,
    sending: FuturesUnordered<BoxFuture<'static, Result<()>>>,
    /// The last page read.
    last: u64,
    /// Bytes of pages since the last whole, and the size of that.
    unsaved: usize,
    saved: usize,
    /// When something was last read, or written with nothing on its way before it.
    moved: Instant,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, shelf: Arc<Shelf>, requests: mpsc::Receiver<Request>) -> Self {
        Self { shared, shelf, requests, waiting: HashMap::new() }
    }

    /// Works until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let mut link = self.shared.link();
            let Ok(session) = self.shared.session(None).await else {
                // Refused: whoever asks hears why from the connection itself.
                if link.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let Err(error) = self.live(&session, &mut backoff).await else { return };
            session.fail(&error);
            tracing::debug!("the ledger is read again from its beginning: {error}");
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Reads and writes on one connection; `Ok` when nobody can ask any more.
    async fn live(&mut self, session: &Arc<Session>, backoff: &mut Backoff) -> Result<()> {
        let first = AMQPValue::LongString("first".into());
        let reading = session.read_stream(&session.names.ledger, first).await?;
        let sending = FuturesUnordered::new();
        let session = Arc::clone(session);
        let moved = Instant::now();
        let mut desk = Desk { session, reading, sending, last: 0, unsaved: 0, saved: 0, moved };
        let fresh = self.catch_up(&mut desk).await?;
        backoff.reset();
        self.replace(&desk, fresh)?;
        self.shelf.stand.send_replace(Stand::Open);
        self.waiting.retain(|_, written| {
            written.replies.retain(|(_, reply)| !reply.is_closed());
            !written.replies.is_empty()
        });
        for written in self.waiting.values() {
            desk.send(&written.page)?;
        }
        loop {
            let patience = desk.moved + self.shared.config.timeout.0;
            tokio::select! {
                delivery = desk.reading.next() => self.read(&mut desk, &delivery?).await?,
                Some(sent) = desk.sending.next() => sent?,
                request = self.requests.recv(), if self.waiting.len() < PAGES => match request {
                    Some(request) => self.write(&mut desk, request)?,
                    None => return Ok(()),
                },
                () = sleep_until(patience), if !self.waiting.is_empty() => return Err(stuck()),
                () = desk.session.gone() => return Err(gone()),
            }
        }
    }

    /// Reads the stream from its beginning to a page of our own that is written now.
    async fn catch_up(&mut self, desk: &mut Desk) -> Result<Book> {
        let mut book = Book::default();
        let blank = Page::blank();
        desk.send(&blank)?;
        desk.moved = Instant::now();
        loop {
            let patience = desk.moved + self.shared.config.timeout.0;
            tokio::select! {
                delivery = desk.reading.next() => {
                    let Some((page, offset)) = self.take(desk, &delivery?).await? else { continue };
                    let news = book.enter(offset, &page);
                    self.settle(&page.mark, &news);
                    if page.mark == blank.mark {
                        return Ok(book);
                    }
                }
                Some(sent) = desk.sending.next() => sent?,
                () = sleep_until(patience) => return Err(stuck()),
                () = desk.session.gone() => return Err(gone()),
            }
        }
    }

    /// Takes what was read for what is known; what the broker has lost of that is written again.
    fn replace(&self, desk: &Desk, mut fresh: Book) -> Result<()> {
        let mut book = self.shelf.book();
        // Confirmed once, and gone with a broker that lost power, or a stream that somebody deleted.
        if let Some(lost) = book.beyond(&fresh) {
            tracing::warn!(
                events = lost.seen.len(),
                "the broker has lost a part of the ledger; writing it again"
            );
            desk.send(&lost)?;
            fresh.enter(desk.last, &lost);
        }
        *book = fresh;
        Ok(())
    }

    /// Takes one page in.
    async fn read(&mut self, desk: &mut Desk, delivery: &Delivery) -> Result<()> {
        let Some((page, offset)) = self.take(desk, delivery).await? else { return Ok(()) };
        let news = self.shelf.book().enter(offset, &page);
        // So that one of all readers writes the whole: the one whose page was one too many.
        if self.settle(&page.mark, &news) && desk.unsaved >= WHOLE_EVERY.max(desk.saved) {
            desk.unsaved = 0;
            let whole = self.shelf.book().whole(offset);
            desk.send(&whole)?;
        }
        Ok(())
    }

    /// Reads a message; none if it is none of ours, or was read before.
    async fn take(&self, desk: &mut Desk, delivery: &Delivery) -> Result<Option<(Page, u64)>> {
        let (page, offset) = (codec::decode::<Page>(delivery), codec::offset(delivery));
        // At once: RabbitMQ ends a channel that acknowledges nothing for half an hour.
        acknowledge(delivery).await?;
        let offset =
            offset.ok_or_else(|| Error::permanent(ErrorKind::Protocol, "the ledger is no stream"))?;
        (desk.last, desk.moved) = (offset, Instant::now());
        let size = delivery.data.len();
        match &page {
            Ok(page) if page.whole.is_some() => (desk.unsaved, desk.saved) = (0, size),
            _ => desk.unsaved += size,
        }
        match page {
            Ok(page) => Ok(Some((page, offset))),
            Err(Unreadable::Malformed(why)) => {
                tracing::warn!("the ledger holds a message that is none of ours: {why}");
                Ok(None)
            }
            Err(newer @ Unreadable::Newer(_)) => {
                let text = format!("the ledger holds a message that cannot be read: {newer}");
                self.shelf.stand.send_replace(Stand::Refused(text.clone()));
                Err(Error::permanent(ErrorKind::Protocol, text))
            }
        }
    }

    /// Answers those who wait for a page; whether it was ours.
    fn settle(&mut self, mark: &Mark, news: &[bool]) -> bool {
        let Some(written) = self.waiting.remove(mark) else { return false };
        for (event, reply) in written.replies {
            // Who asked may have gone.
            let _ = reply.send(event.is_some_and(|place| news.get(place).copied().unwrap_or_default()));
        }
        true
    }

    /// Writes this request, and with it those that wait behind it.
    fn write(&mut self, desk: &mut Desk, first: Request) -> Result<()> {
        let (mut page, mut replies) = (Page::blank(), Vec::new());
        let mut next = Some(first);
        while let Some(Request { seen, position, reply }) = next {
            if !reply.is_closed() {
                replies.push(((!seen.is_empty()).then_some(page.seen.len()), reply));
                page.seen.extend(seen);
                page.position = page.position.max(position);
            }
            next = if replies.len() < ON_A_PAGE { self.requests.try_recv().ok() } else { None };
        }
        if !replies.is_empty() {
            if self.waiting.is_empty() {
                desk.moved = Instant::now();
            }
            desk.send(&page)?;
            self.waiting.insert(page.mark, Written { page, replies });
        }
        Ok(())
    }
}

impl Desk {
    /// Sends a page; that it failed is heard among `sending`.
    fn send(&self, page: &Page) -> Result<()> {
        let (session, body) = (Arc::clone(&self.session), codec::encode(page)?);
        self.sending
            .push(Box::pin(async move { session.write(&session.names.ledger, Form::First, &body).await }));
        Ok(())
    }
}

fn stuck() -> Error {
    Error::temporary(ErrorKind::TimedOut, "what was written to the ledger did not come back in time")
}

fn gone() -> Error {
    Error::temporary(ErrorKind::Unreachable, "the connection failed")
}
