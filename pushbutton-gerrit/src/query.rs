//! Questions to Gerrit: `gerrit query`, `gerrit version`.

use jiff::Timestamp;
use pushbutton_core::{Account, Change, ChangeNumber, Error, ErrorKind, Patchset, PatchsetNumber, Result};

use crate::client::Gerrit;
use crate::command::quote;
use crate::convert;
use crate::wire::WireChange;

/// A change and all its patch sets, as they are now.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeState {
    /// The change.
    pub change: Change,
    /// Its patch sets, oldest first; never empty.
    pub patchsets: Vec<Patchset>,
}

impl ChangeState {
    /// The newest patch set.
    pub fn current(&self) -> Option<&Patchset> {
        self.patchsets.last()
    }

    /// The patch set of this number.
    pub fn patchset(&self, number: PatchsetNumber) -> Option<&Patchset> {
        self.patchsets.iter().find(|patchset| patchset.number == number)
    }
}

/// A message on a change: who wrote it, when, and the whole text with Gerrit's header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChangeMessage {
    pub(crate) author: Account,
    pub(crate) text: String,
}

/// What the last line of a reply says, and what of the reply could not be read.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// How many changes it held, by the server's count.
    pub(crate) rows: u32,
    /// Whether there are more.
    pub(crate) more: bool,
    /// How many lines could not be read.
    pub(crate) unread: u32,
}

impl Reply {
    /// For questions whose answer must not be taken for "none" when it was only not understood.
    fn whole(self) -> Result<()> {
        if self.unread == 0 {
            return Ok(());
        }
        Err(Error::temporary(ErrorKind::Protocol, "Gerrit's reply could not be read").during("gerrit::query"))
    }
}

impl Gerrit {
    /// Asks for a change.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], permanent, when there is none, or none that our account may see.
    pub async fn change(&self, number: ChangeNumber) -> Result<ChangeState> {
        let mut found = None;
        let command = format!("gerrit query --format=JSON --patch-sets change:{number}");
        let reply = self.rows(&command, &mut |_, row| found = Some(change_state(row))).await?;
        if found.is_none() {
            reply.whole()?;
        }
        found
            .unwrap_or_else(|| {
                Err(Error::permanent(ErrorKind::NotFound, "there is no such change, or we may not see it"))
            })
            .map_err(|error| error.during("gerrit::change").with("change", number))
    }

    /// Asks for a change and its newest patch set only: one small reply.
    ///
    /// # Errors
    /// As of [`change`](Self::change).
    pub(crate) async fn newest(&self, number: ChangeNumber) -> Result<(Change, PatchsetNumber)> {
        let mut found = None;
        let command = format!("gerrit query --format=JSON --current-patch-set change:{number}");
        let reply = self.rows(&command, &mut |_, row| found = Some(newest(row))).await?;
        if found.is_none() {
            reply.whole()?;
        }
        found
            .unwrap_or_else(|| {
                Err(Error::permanent(ErrorKind::NotFound, "there is no such change, or we may not see it"))
            })
            .map_err(|error| error.during("gerrit::newest").with("change", number))
    }

    /// Asks what the server calls itself, as `3.10.2`.
    ///
    /// # Errors
    /// Of the connection.
    pub async fn version(&self) -> Result<String> {
        let mut version = String::new();
        let ended = self
            .run("gerrit version", None, |line| {
                let line = String::from_utf8_lossy(line);
                version = line.trim().trim_start_matches("gerrit version ").chars().take(100).collect();
            })
            .await?;
        ended.ok()?;
        Ok(version)
    }

    /// All messages on a change, oldest first.
    pub(crate) async fn messages(&self, number: ChangeNumber) -> Result<Vec<ChangeMessage>> {
        let mut messages = Vec::new();
        let command = format!("gerrit query --format=JSON --comments change:{number}");
        let mut take = |_: &[u8], row: &WireChange<'_>| {
            messages.extend(row.comments.iter().map(|message| ChangeMessage {
                author: convert::account(message.reviewer.as_ref()),
                text: message.message.as_str().to_owned(),
            }));
        };
        // A message that could not be read may be ours.
        self.rows(&command, &mut take).await?.whole()?;
        Ok(messages)
    }

    /// One page of the changes that were touched since the horizon, newest first, from the `start`-th on. Each goes to `each` as soon as it
    /// is read, with the line that it stood in.
    pub(crate) async fn touched(
        &self,
        horizon: Timestamp,
        start: u32,
        each: &mut (dyn FnMut(&[u8], &WireChange<'_>) + Send),
    ) -> Result<Reply> {
        let settings = &self.config().recovery;
        // The server's time is UTC where no zone is given; said all the same.
        let since = horizon.strftime("since:{%Y-%m-%d %H:%M:%S +0000}").to_string();
        let mut command = format!(
            "gerrit query --format=JSON --comments --patch-sets --all-approvals --start {start} {} {}",
            quote(&since),
            quote(&format!("limit:{}", settings.page)),
        );
        if let Some(terms) = &settings.query {
            // The words of the search are the configuration's own; each is one argument.
            for term in terms.split_whitespace() {
                command.push(' ');
                command.push_str(&quote(term));
            }
        }
        self.rows(&command, each).await
    }

    /// Runs a query and gives each change to `each`, with its line. `gerrit query` exits 0 on a bad query: the error is a row.
    async fn rows(
        &self,
        command: &str,
        each: &mut (dyn FnMut(&[u8], &WireChange<'_>) + Send),
    ) -> Result<Reply> {
        let (mut reply, mut is_complete, mut failed) = (Reply::default(), false, None);
        let ended = self
            .run(command, None, |line| match read_row(line) {
                Ok(Row::Change(change)) => {
                    reply.rows += 1;
                    each(line, &change);
                }
                Ok(Row::End { rows, more }) => {
                    is_complete = true;
                    reply.more = more;
                    reply.rows = rows.unwrap_or(reply.rows);
                }
                Ok(Row::Error(said)) => failed = Some(said),
                Err(error) => {
                    reply.unread += 1;
                    tracing::warn!("a line of a query's reply is passed by: {error}");
                }
            })
            .await?;
        ended.ok()?;
        reply.unread += ended.left_out;
        if let Some(said) = failed {
            let error = Error::permanent(ErrorKind::Invalid, format!("gerrit answered: {said}"));
            return Err(error.during("gerrit::query"));
        }
        if !is_complete {
            let error = Error::temporary(ErrorKind::Protocol, "Gerrit's reply ended before its last line");
            return Err(error.during("gerrit::query"));
        }
        Ok(reply)
    }
}

/// A line of a query's reply.
pub(crate) enum Row<'a> {
    Change(Box<WireChange<'a>>),
    /// The last line.
    End {
        rows: Option<u32>,
        more: bool,
    },
    Error(String),
}

/// Reads a line of a query's reply.
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is not JSON, or not what such a line must be.
pub(crate) fn read_row(line: &[u8]) -> Result<Row<'_>> {
    let row: WireChange<'_> = serde_json::from_slice(line)
        .map_err(|error| Error::permanent(ErrorKind::Invalid, format!("not a row of Gerrit: {error}")))?;
    Ok(match row.kind.as_str() {
        "stats" => Row::End { rows: row.rows.0.and_then(|rows| u32::try_from(rows).ok()), more: row.more },
        "error" => Row::Error(row.message.as_str().chars().take(300).collect()),
        _ => Row::Change(Box::new(row)),
    })
}

fn newest(row: &WireChange<'_>) -> Result<(Change, PatchsetNumber)> {
    let current = row.current.as_ref().map(convert::patchset);
    let current = current.unwrap_or_else(|| {
        Err(Error::temporary(ErrorKind::Protocol, "Gerrit's reply does not tell the current patch set"))
    })?;
    Ok((convert::change(row)?, current.number))
}

fn change_state(row: &WireChange<'_>) -> Result<ChangeState> {
    let change = convert::change(row)?;
    let mut patchsets: Vec<Patchset> = row.patchsets.iter().map(convert::patchset).collect::<Result<_>>()?;
    patchsets.sort_by_key(|patchset| patchset.number);
    if patchsets.is_empty() {
        return Err(Error::permanent(ErrorKind::Protocol, "the change has no patch set"));
    }
    Ok(ChangeState { change, patchsets })
}
