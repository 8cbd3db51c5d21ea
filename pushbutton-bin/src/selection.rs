//! What a person does with many things at once: dead letters or undelivered reports, by their ids or `--all`.

use std::collections::HashSet;

use jiff::Timestamp;
use pushbutton_core::{ControlMessage, Queue, Result, Settlement};

use crate::cancel::user;
use crate::cli::Selection;
use crate::exit::Exit;
use crate::print::{print, sanitize};

/// How many are read at once for `--all`.
pub(crate) const BATCH: usize = 1000;

/// Applies an action to each: `list` reads the ids of the oldest, `act` says whether there was such a thing. One that is
/// not there or fails is printed, and changes the exit code. What was changed is
/// recorded in the history, and printed.
pub(crate) async fn each(
    queue: &dyn Queue,
    settlement: Settlement,
    which: Selection,
    list: impl AsyncFn(usize) -> Result<Vec<String>>,
    act: impl AsyncFn(&str) -> Result<bool>,
) -> anyhow::Result<Exit> {
    let mut done = Vec::new();
    let result = try_each(settlement, which, &mut done, list, act).await;
    let count = done.len() as u64;
    if count > 0 {
        queue.broadcast(&ControlMessage::settled(settlement, done, user(), Timestamp::now())).await?;
    }
    let exit = result?;
    print(settlement.done(count));
    Ok(exit)
}

/// The same, without the record: `done` gets the ids of what was changed, also when an error ends it.
async fn try_each(
    settlement: Settlement,
    which: Selection,
    done: &mut Vec<String>,
    list: impl AsyncFn(usize) -> Result<Vec<String>>,
    act: impl AsyncFn(&str) -> Result<bool>,
) -> anyhow::Result<Exit> {
    let mut exit = Exit::Ok;
    let (mut batch, mut tried) = (which.ids, HashSet::new());
    loop {
        if which.all {
            // What failed, or what is back already, is not tried again.
            batch = list(tried.len() + BATCH).await?.into_iter().filter(|id| !tried.contains(id)).collect();
        }
        for id in &batch {
            match act(id).await {
                Ok(true) => done.push(id.clone()),
                // Somebody else was faster.
                Ok(false) if which.all => {}
                Ok(false) => {
                    print(format!("{}: {}", sanitize(id), missing(settlement)));
                    exit = Exit::NotFound;
                }
                Err(error) if !error.is_temporary() => {
                    print(format!("{}: {error}", sanitize(id)));
                    exit = Exit::Unexpected;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !which.all || batch.is_empty() {
            return Ok(exit);
        }
        tried.extend(batch.drain(..));
    }
}

fn missing(settlement: Settlement) -> &'static str {
    match settlement {
        Settlement::RetryReport | Settlement::DropReport => {
            "no such undelivered report; `pushbutton-bin reports list` shows them"
        }
        _ => "no such dead letter; `pushbutton-bin dead list` shows them",
    }
}
