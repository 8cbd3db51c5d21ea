use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::node::Node;
use crate::run::{Stage, StageContext, StageOutcome};

/// Runs stages on nodes.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Executor: Send + Sync {
    /// Runs one stage to its end.
    ///
    /// # Contract
    /// - Output goes to `lines` as it comes, in order, and to the console log in [`StageContext::log_dir`]; a slow or closed reader never blocks the stage.
    /// - Ends within the stage's time limit (`TimedOut`), or soon after `cancel` (`Cancelled`): TERM to every process of the stage,
    ///   output still read, KILL after a grace time. No process of the stage outlives the call, also when the call is dropped.
    /// - An unreachable node is `Unreachable`, whatever else failed.
    /// - What the stage does wrong is an outcome; an error means that it could not be run at all.
    async fn execute(
        &self,
        stage: &Stage,
        nodes: &[Node],
        context: &StageContext,
        lines: &LineSink,
        cancel: &CancellationToken,
    ) -> Result<StageOutcome>;
}

/// Where a stage's lines go. Never blocks: when the reader is behind, lines are dropped and counted, and the next one that fits says how many.
#[derive(Debug, Clone)]
pub struct LineSink {
    sender: mpsc::Sender<String>,
    dropped: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl LineSink {
    /// A line longer than this many bytes is cut: one line must not fill the memory.
    pub const MAX_LINE: usize = 16 * 1024;

    /// A sink that holds this many lines for its reader.
    pub fn bounded(capacity: usize) -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(capacity.max(2));
        (Self { sender, dropped: Default::default() }, receiver)
    }

    /// Hands a line to the reader, if it has room for it.
    pub fn line(&self, line: impl Into<String>) {
        use std::sync::atomic::Ordering::Relaxed;
        let mut line: String = line.into();
        if line.len() > Self::MAX_LINE {
            let mut end = Self::MAX_LINE;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            line.push('…');
        }
        // Room for two: the note about what was lost, and the line.
        if self.dropped.load(Relaxed) > 0 && self.sender.capacity() >= 2 {
            let lost = self.dropped.swap(0, Relaxed);
            let _ = self.sender.try_send(format!("… {lost} lines not shown here: the console log has them"));
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
    fn a_slow_reader_never_blocks_and_is_told_what_it_missed() {
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
