//! Where the lines of a stage go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc;

use crate::text::cut;

/// Where a stage's lines go. Never blocks: when the reader is too slow, lines are dropped and counted, and the next
/// one that fits is preceded by their number. The console log has all of them.
#[derive(Debug, Clone)]
pub struct LineSink {
    sender: mpsc::Sender<String>,
    dropped: Arc<AtomicU64>,
}

impl LineSink {
    /// A line longer than this many bytes is cut: one line must not fill the memory.
    pub const MAX_LINE: usize = 16 * 1024;

    /// A sink that holds this many lines for its reader.
    pub fn bounded(capacity: usize) -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(capacity.max(2));
        (Self { sender, dropped: Arc::default() }, receiver)
    }

    /// Passes a line to the reader, if there is room for it.
    pub fn line(&self, line: impl Into<String>) {
        let mut line: String = line.into();
        if line.len() > Self::MAX_LINE {
            line.truncate(cut(&line, Self::MAX_LINE).len());
            line.push('…');
        }
        // Room for two: the number of dropped lines, and the line.
        if self.dropped.load(Relaxed) > 0 && self.sender.capacity() >= 2 {
            let dropped = self.dropped.swap(0, Relaxed);
            let _ =
                self.sender.try_send(format!("… {dropped} lines not shown here: the console log has them"));
        }
        if self.sender.try_send(line).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_never_blocks_and_sees_how_many_lines_it_missed() {
        let (sink, mut reader) = LineSink::bounded(2);
        for n in 0..5 {
            sink.line(format!("line {n}"));
        }
        assert_eq!(reader.try_recv().unwrap(), "line 0");
        assert_eq!(reader.try_recv().unwrap(), "line 1");
        sink.line("line 5");
        assert_eq!(reader.try_recv().unwrap(), "… 3 lines not shown here: the console log has them");
        assert_eq!(reader.try_recv().unwrap(), "line 5");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let (sink, mut reader) = LineSink::bounded(2);
        sink.line("é".repeat(LineSink::MAX_LINE));
        let line = reader.try_recv().unwrap();
        assert!(line.len() <= LineSink::MAX_LINE + '…'.len_utf8() && line.ends_with('…'));
    }
}
