//! Calls of the file system of the log folder. It may hang: a hard mount waits for its server without an end.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

/// Bytes read from a file at a time.
const CHUNK: usize = 64 << 10;

/// Runs a few calls at once, each on a thread, and waits for none without an end. A call that hangs keeps its permit
/// even when nobody waits for it any more: threads of the runtime are few, and the rest of the process needs them.
/// Clones share the permits.
#[derive(Debug, Clone)]
pub(crate) struct FileCalls {
    permits: Arc<Semaphore>,
    /// How long to wait for a permit.
    turn: Duration,
    /// How long to wait for a call.
    patience: Duration,
}

impl Default for FileCalls {
    fn default() -> Self {
        Self::new(16, Duration::from_secs(5), Duration::from_secs(20))
    }
}

impl FileCalls {
    pub(crate) fn new(at_once: usize, turn: Duration, patience: Duration) -> Self {
        Self { permits: Arc::new(Semaphore::new(at_once)), turn, patience }
    }

    /// Runs it. What it holds is dropped on its thread: to close a file may take as long as to read it.
    ///
    /// # Errors
    /// Those of the call; and [`ErrorKind::TimedOut`] when it takes too long, or too many do.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let Ok(permit) = timeout(self.turn, Arc::clone(&self.permits).acquire_owned()).await else {
            return Err(io::Error::new(ErrorKind::TimedOut, "other calls have not ended"));
        };
        let call = tokio::task::spawn_blocking(move || {
            let result = call();
            // Not before: it bounds the threads.
            drop(permit);
            result
        });
        match timeout(self.patience, call).await {
            Ok(ended) => ended.map_err(io::Error::other)?,
            Err(_) => Err(io::Error::new(ErrorKind::TimedOut, "the file system does not answer")),
        }
    }

    /// So many bytes of a file, read while they are sent. When they cannot be read, the body ends before them.
    pub(crate) fn body(&self, file: File, length: u64) -> Body {
        let (to, from) = tokio::io::duplex(CHUNK);
        tokio::spawn(self.clone().copy(file, length, to));
        Body::from_stream(ReaderStream::with_capacity(from, CHUNK))
    }

    async fn copy(self, mut file: File, mut left: u64, mut to: DuplexStream) {
        let mut buffer = Vec::new();
        while left > 0 {
            let wanted = left.min(CHUNK as u64);
            let read = self.run(move || {
                buffer.clear();
                (&file).take(wanted).read_to_end(&mut buffer)?;
                Ok((file, buffer))
            });
            match read.await {
                Ok(read) => (file, buffer) = read,
                Err(error) => return tracing::warn!("cannot read a log to its end: {error}"),
            }
            left -= buffer.len() as u64;
            // It has become shorter, or the client is gone.
            if buffer.is_empty() || to.write_all(&buffer).await.is_err() {
                break;
            }
        }
        let _ = tokio::task::spawn_blocking(move || drop(file)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(50);

    /// With so few threads for blocking calls that one too many is noticed.
    fn with_threads<T>(threads: usize, test: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.max_blocking_threads(threads).enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn calls_that_hang_and_are_given_up_leave_threads_for_the_rest_of_the_process() {
        let (release, hung) = mpsc::channel::<()>();
        let hung = Arc::new(std::sync::Mutex::new(hung));
        with_threads(3, async {
            let calls = FileCalls::new(2, SHORT, SHORT);
            for _ in 0..6 {
                let hung = Arc::clone(&hung);
                let result = calls.run(move || hung.lock().unwrap().recv().map_err(io::Error::other));
                assert_eq!(result.await.unwrap_err().kind(), ErrorKind::TimedOut);
            }
            let other = tokio::task::spawn_blocking(|| 7);
            let other = timeout(LONG, other).await;
            drop(release);
            assert_eq!(other.expect("a thread is free").unwrap(), 7);
            let calls = FileCalls { turn: LONG, patience: LONG, ..calls };
            assert_eq!(calls.run(|| Ok(8)).await.unwrap(), 8, "what hung has ended");
        });
    }

    #[tokio::test]
    async fn a_body_ends_at_its_length_though_the_file_grows_and_early_where_it_shrinks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text: Vec<u8> = (0..CHUNK * 2 + 5).map(|n| n.to_le_bytes()[0]).collect();
        std::fs::write(&path, &text).unwrap();
        let calls = FileCalls::default();
        for (length, expected) in [(3, 3), (CHUNK, CHUNK), (CHUNK * 2, CHUNK * 2), (CHUNK * 9, text.len())] {
            let body = calls.body(File::open(&path).unwrap(), length as u64);
            let sent = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            assert!(sent == text[..expected], "{length}: {} bytes", sent.len());
        }
    }
}
