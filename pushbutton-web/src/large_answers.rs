//! Bounds the memory of answers that list many records: whoever asks may read them as slowly as they like.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, RETRY_AFTER};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

/// How long to wait for a turn, and again for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are handed to the connection at a time.
const CHUNK: usize = 64 << 10;

/// How many answers are made at once, and how many bytes of those that were made may wait for their readers.
///
/// There are two bounds, because an answer with all its records takes several times its text, but ends with its making;
/// while a reader who is slow keeps the text only, and must not keep others from theirs.
#[derive(Debug)]
pub(crate) struct LargeAnswers {
    making: Semaphore,
    /// In KiB.
    waiting: Arc<Semaphore>,
    room: u32,
}

impl LargeAnswers {
    pub(crate) fn new(at_once: usize, mebibytes: u16) -> Self {
        let room = u32::from(mebibytes) << 10;
        Self { making: Semaphore::new(at_once), waiting: Arc::new(Semaphore::new(room as usize)), room }
    }

    /// Makes an answer when it is its turn, and sends it when there is room for it; else an answer that says when to ask
    /// again.
    pub(crate) async fn bound(&self, answer: impl Future<Output = Response>) -> Response {
        let Ok(Ok(turn)) = timeout(PATIENCE, self.making.acquire()).await else { return busy() };
        let (mut parts, body) = answer.await.into_parts();
        let Ok(text) = to_bytes(body, usize::MAX).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        // One that is larger than the room takes all of it.
        let size = u32::try_from(text.len().div_ceil(1 << 10)).unwrap_or(u32::MAX).min(self.room);
        let room = Arc::clone(&self.waiting).acquire_many_owned(size);
        let Ok(Ok(room)) = timeout(PATIENCE, room).await else { return busy() };
        drop(turn);
        parts.headers.entry(CONTENT_LENGTH).or_insert(text.len().into());
        // Not as a whole: the connection would copy it, and the room would be free while the copy waits.
        let text = ReaderStream::with_capacity(Cursor::new(Held { text, _room: room }), CHUNK);
        Response::from_parts(parts, Body::from_stream(text))
    }
}

/// A text and the room that it takes.
struct Held {
    text: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// As a layer of routes.
pub(crate) async fn bound(
    State(answers): State<Arc<LargeAnswers>>,
    request: Request,
    next: Next,
) -> Response {
    answers.bound(next.run(request)).await
}

/// Somebody asks for more than there is memory for.
pub(crate) fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], "busy: ask again later\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(mebibytes: usize) -> Response {
        vec![b'x'; mebibytes << 20].into_response()
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_made_at_once_than_there_is_memory_for() {
        let answers = Arc::new(LargeAnswers::new(2, 64));
        let endless: Vec<_> = (0..2)
            .map(|_| {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move { answers.bound(std::future::pending()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let refused = answers.bound(of(1)).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[RETRY_AFTER], "5");
        // A client that leaves gives its turn back.
        endless.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(answers.bound(of(1)).await.status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_nobody_reads_take_no_more_than_their_room_until_they_are_gone() {
        let answers = LargeAnswers::new(2, 4);
        let unread = [answers.bound(of(1)).await, answers.bound(of(2)).await];
        assert_eq!(answers.bound(of(2)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        let small = answers.bound(of(1)).await;
        assert_eq!(small.status(), StatusCode::OK, "there is room for a small one");
        for (answer, length) in unread.into_iter().zip([1 << 20, 2 << 20]) {
            assert_eq!(answer.headers()[CONTENT_LENGTH], length.to_string());
            let text = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            assert!(text == vec![b'x'; length], "{} bytes", text.len());
        }
        assert_eq!(answers.bound(of(3)).await.status(), StatusCode::OK, "they were read");
        drop(small);
        let largest = answers.bound(of(5)).await;
        assert_eq!(largest.status(), StatusCode::OK, "alone, a larger one is sent, too");
    }
}
