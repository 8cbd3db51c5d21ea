//! Questions to Gerrit: `gerrit query`, `gerrit version`.

use jiff::Timestamp;
use pushbutton_core::{Account, Change, ChangeNumber, Error, ErrorKind, Patchset, PatchsetNumber, Result};

use crate::client::Gerrit;
use crate::command::quote;
use crate::convert;
use crate::recover::{self, Recovered};
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

/// What ends a page of a query's reply.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) rows: u32,
    pub(crate) more: bool,
    /// The newest change in it, by the server's clock.
    pub(crate) newest: Option<Timestamp>,
}

impl Gerrit {
    /// Asks for a change.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], permanent, when there is none, or none that our account may see.
    pub async fn change(&self, number: ChangeNumber) -> Result<ChangeState> {
        let mut found = None;
        let command = format!("gerrit query --format=JSON --patch-sets change:{number}");
        self.rows(&command, &mut |row| {
            found = Some(change_state(row));
        })
        .await?;
        found
            .unwrap_or_else(|| {
                Err(Error::permanent(ErrorKind::NotFound, "there is no such change, or we may not see it"))
            })
            .map_err(|error| error.during("gerrit::change").with("change", number))
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
        self.rows(&command, &mut |row| {
            messages.extend(row.comments.iter().map(|message| ChangeMessage {
                author: convert::account(message.reviewer.as_ref()),
                text: message.message.as_str().to_owned(),
            }));
        })
        .await?;
        Ok(messages)
    }

    /// One page of what happened since the horizon; each change's happenings go to `each` as soon as they are read.
    pub(crate) async fn since(
        &self,
        horizon: Timestamp,
        first_start: Timestamp,
        start: u32,
        mut each: impl FnMut(Vec<Recovered>) + Send,
    ) -> Result<Page> {
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
        let mut page = Page::default();
        let more = self
            .rows(&command, &mut |row| {
                page.rows += 1;
                page.newest = page.newest.max(convert::seconds(row.last_updated.0));
                match recover::happenings(row, horizon, first_start) {
                    Ok(found) if found.is_empty() => {}
                    Ok(found) => each(found),
                    Err(error) => tracing::warn!("a change in a query's reply is passed by: {error}"),
                }
            })
            .await?;
        page.more = more;
        Ok(page)
    }

    /// Runs a query and gives each change to `each`; says whether there are more. `gerrit query` exits 0 on a bad query: the error is a row.
    async fn rows(&self, command: &str, each: &mut (dyn FnMut(&WireChange<'_>) + Send)) -> Result<bool> {
        let (mut more, mut failed) = (false, None);
        let ended = self
            .run(command, None, |line| match serde_json::from_slice::<WireChange<'_>>(line) {
                Ok(row) => match row.kind.as_str() {
                    "stats" => more = row.more,
                    "error" => failed = Some(row.message.as_str().chars().take(300).collect::<String>()),
                    _ => each(&row),
                },
                Err(error) => tracing::warn!("a line of a query's reply is passed by: {error}"),
            })
            .await?;
        ended.ok()?;
        match failed {
            Some(said) => Err(Error::permanent(ErrorKind::Invalid, format!("gerrit answered: {said}"))
                .during("gerrit::query")),
            None => Ok(more),
        }
    }
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
