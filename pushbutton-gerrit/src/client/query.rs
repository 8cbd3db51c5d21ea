//! `gerrit query` and `gerrit version`.

use jiff::Timestamp;
use pushbutton_core::{Account, Change, ChangeNumber, Error, ErrorKind, Patchset, PatchsetNumber, Result};

use crate::client::Gerrit;
use crate::client::command::quote;
use crate::raw_event;
use crate::wire::{WireChange, WireMessage};

/// A change and all its patch sets.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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

/// How a reply ended, and what of it was skipped.
#[derive(Debug, Default)]
pub(crate) struct QueryStats {
    /// How many changes the reply held, by the server's count.
    pub(crate) rows: u32,
    /// Whether there are more.
    pub(crate) more: bool,
    /// How many lines could not be read.
    pub(crate) skipped: u32,
}

impl QueryStats {
    /// Fails if lines were skipped: their content must not be taken for missing.
    pub(crate) fn complete(self) -> Result<()> {
        if self.skipped == 0 {
            return Ok(());
        }
        Err(Error::temporary(ErrorKind::Protocol, "Gerrit's reply could not be read").during("gerrit::query"))
    }
}

impl Gerrit {
    /// Reads a change with its patch sets.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], permanent, if there is no such change or the account may not see it.
    pub async fn change(&self, number: ChangeNumber) -> Result<ChangeState> {
        self.one_change("--patch-sets", number, change_state)
            .await
            .map_err(|error| error.during("gerrit::change"))
    }

    /// Reads one change with what `option` adds to the reply.
    ///
    /// # Errors
    /// As [`change`](Self::change), and those of `read`.
    pub(crate) async fn one_change<T: Send>(
        &self,
        option: &str,
        number: ChangeNumber,
        read: impl Fn(&WireChange<'_>) -> Result<T> + Send + Sync,
    ) -> Result<T> {
        let mut found = None;
        let command = format!("gerrit query --format=JSON {option} change:{number}");
        let stats = self.query(&command, &mut |_, row| found = Some(read(row))).await?;
        let not_found = || {
            stats.complete()?;
            Err(Error::permanent(
                ErrorKind::NotFound,
                "there is no such change, or this account may not see it",
            ))
        };
        found.unwrap_or_else(not_found).map_err(|error| error.with("change", number))
    }

    /// Reads the server's version, as `3.10.2`.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn version(&self) -> Result<String> {
        let mut version = String::new();
        let end = self
            .run("gerrit version", None, |line| {
                version = line.trim().trim_start_matches("gerrit version ").chars().take(100).collect();
            })
            .await?;
        end.success()?;
        Ok(version)
    }

    /// Whether there is a message on a change since then for which `matches`, called with author and text, is true.
    pub(crate) async fn has_message(
        &self,
        number: ChangeNumber,
        since: Timestamp,
        matches: impl Fn(&Account, &str) -> bool + Send + Sync,
    ) -> Result<bool> {
        let mut found = false;
        let command = format!("gerrit query --format=JSON --comments change:{number}");
        let mut look = |_: &str, row: &WireChange<'_>| {
            let is_match = |message: &WireMessage<'_>| {
                message.timestamp.0.is_some_and(|at| at >= since.as_second())
                    && matches(&raw_event::account(message.reviewer.as_ref()), message.message.as_str())
            };
            found |= row.comments.iter().any(is_match);
        };
        // If it was not found, it may be in a line that was skipped.
        let stats = self.query(&command, &mut look).await?;
        if !found {
            stats.complete()?;
        }
        Ok(found)
    }

    /// Reads one page of the changes that were updated since `since`, newest first, from the `start`-th on. Passes
    /// each to `each` when it is read, with its line.
    pub(crate) async fn updated_since(
        &self,
        since: Timestamp,
        start: u32,
        each: &mut (dyn FnMut(&str, &WireChange<'_>) + Send),
    ) -> Result<QueryStats> {
        let settings = &self.config().backfill;
        // The zone is UTC by default, and named to be sure.
        let since = since.strftime("since:{%Y-%m-%d %H:%M:%S +0000}").to_string();
        let mut command = format!(
            "gerrit query --format=JSON --comments --patch-sets --all-approvals --start {start} {} {}",
            quote(&since),
            quote(&format!("limit:{}", settings.page)),
        );
        if let Some(query) = settings.query.as_deref().filter(|query| !query.trim().is_empty()) {
            // As it was written, in one piece: it may have phrases in quotes. In brackets, because of an OR.
            command.push(' ');
            command.push_str(&quote(&format!("({query})")));
        }
        self.query(&command, each).await
    }

    /// Runs a query and passes each change to `each`, with its line. `gerrit query` exits with 0 on a bad query: the
    /// error is a row.
    pub(crate) async fn query(
        &self,
        command: &str,
        each: &mut (dyn FnMut(&str, &WireChange<'_>) + Send),
    ) -> Result<QueryStats> {
        let (mut stats, mut is_complete, mut refusal) = (QueryStats::default(), false, None);
        let end = self
            .run(command, None, |line| match read_row(line) {
                Ok(Row::Change(change)) => {
                    stats.rows += 1;
                    each(line, &change);
                }
                Ok(Row::End { rows, more }) => {
                    is_complete = true;
                    stats.more = more;
                    stats.rows = rows.unwrap_or(stats.rows);
                }
                Ok(Row::Error(text)) => refusal = Some(text),
                Err(error) => {
                    stats.skipped += 1;
                    tracing::warn!("skipping a line of a query reply: {error}");
                }
            })
            .await?;
        end.success()?;
        stats.skipped += end.skipped;
        let context = |error: Error| error.during("gerrit::query");
        if let Some(text) = refusal {
            return Err(context(Error::permanent(ErrorKind::Invalid, format!("gerrit answered: {text}"))));
        }
        if !is_complete {
            let text = "Gerrit's reply ended before its last line";
            return Err(context(Error::temporary(ErrorKind::Protocol, text)));
        }
        Ok(stats)
    }
}

/// A line of a query reply.
pub(crate) enum Row<'a> {
    Change(Box<WireChange<'a>>),
    /// The last line.
    End {
        rows: Option<u32>,
        more: bool,
    },
    Error(String),
}

/// Parses a line of a query reply.
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is not a JSON object.
pub(crate) fn read_row(line: &str) -> Result<Row<'_>> {
    let row: WireChange<'_> = serde_json::from_str(line).map_err(|error| {
        Error::permanent(ErrorKind::Invalid, format!("not a row of a Gerrit query: {error}"))
    })?;
    Ok(match row.r#type.as_str() {
        "stats" => Row::End {
            rows: row.row_count.0.and_then(|rows| u32::try_from(rows).ok()),
            more: row.more_changes.unwrap_or_default(),
        },
        "error" => Row::Error(row.message.as_str().chars().take(300).collect()),
        _ => Row::Change(Box::new(row)),
    })
}

pub(super) fn change_state(row: &WireChange<'_>) -> Result<ChangeState> {
    let change = raw_event::change(row)?;
    let mut patchsets: Vec<Patchset> =
        row.patch_sets.iter().map(raw_event::patchset).collect::<Result<_>>()?;
    patchsets.sort_by_key(|patchset| patchset.number);
    if patchsets.is_empty() {
        return Err(Error::permanent(ErrorKind::Protocol, "the change has no patch set"));
    }
    Ok(ChangeState { change, patchsets })
}
