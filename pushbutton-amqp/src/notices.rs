//! ControlMessages: a stream that every listener reads for itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lapin::types::AMQPValue;
use pushbutton_core::{ControlMessage, ControlMessages, Result};

use crate::codec;
use crate::session::{Reading, Session, acknowledge};
use crate::tasks::Tasks;

/// How far back a listener begins.
const BACK: Duration = Duration::from_secs(24 * 3600);

/// One listener.
#[derive(Debug)]
pub(crate) struct AmqpNotices {
    tasks: Arc<Tasks>,
    /// When listening began; in seconds.
    since: u64,
    /// The last notice that was heard.
    last: Option<u64>,
    reading: Option<(Arc<Session>, Reading)>,
    /// Heard, and not told yet: a dropped call loses nothing.
    heard: Option<ControlMessage>,
}

impl AmqpNotices {
    pub(crate) fn new(tasks: Arc<Tasks>) -> Self {
        let since = u64::try_from(Timestamp::now().as_second()).unwrap_or_default() - BACK.as_secs();
        Self { tasks, since, last: None, reading: None, heard: None }
    }

    /// Begins to read where it stopped.
    async fn listen(&mut self) -> Result<()> {
        let session = self.tasks.shared().session(None).await?;
        let from = match self.last {
            Some(last) => AMQPValue::LongLongInt(i64::try_from(last + 1).unwrap_or(i64::MAX)),
            None => AMQPValue::Timestamp(self.since),
        };
        match session.read_notices(from).await {
            Ok(reading) => self.reading = Some((session, reading)),
            Err(error) => session.fail(&error),
        }
        Ok(())
    }

    /// Hears one message; what is none of ours is passed over.
    async fn hear(&mut self) {
        let Some((session, reading)) = &mut self.reading else { return };
        let delivery = tokio::select! {
            delivery = reading.next() => delivery,
            () = session.gone() => {
                self.reading = None;
                return;
            }
        };
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => {
                session.fail(&error);
                self.reading = None;
                return;
            }
        };
        let offset = codec::offset(&delivery);
        if offset.is_some_and(|offset| self.last.is_none_or(|last| offset > last)) {
            self.last = offset;
            match codec::decode(&delivery) {
                Ok(notice) => self.heard = Some(notice),
                Err(why) => tracing::warn!("a notice was not understood: {why}"),
            }
        }
        if let Err(error) = acknowledge(&delivery).await {
            session.fail(&error);
        }
    }
}

#[async_trait]
impl ControlMessages for AmqpNotices {
    async fn next(&mut self) -> Result<ControlMessage> {
        loop {
            if let Some(notice) = self.heard.take() {
                return Ok(notice);
            }
            if self.reading.is_none() {
                self.listen().await?;
            }
            self.hear().await;
        }
    }
}
