//! What a person does with many things at once: dead letters or undelivered reports, by their ids or `--all`.

use std::collections::HashSet;

use pushbutton_core::Result;

use crate::cli::Selection;
use crate::exit::Exit;
use crate::print::{print, sanitize};

/// How many are read at once for `--all`.
pub(crate) const BATCH: usize = 1000;

/// Applies an action to each: `list` reads the ids of the oldest, `act` says whether there was such a thing. One that is
/// not there or fails is printed, with `missing` as the words for it, and changes the exit code. Returns how many were
/// changed.
pub(crate) async fn each(
    which: Selection,
    missing: &str,
    list: impl AsyncFn(usize) -> Result<Vec<String>>,
    act: impl AsyncFn(&str) -> Result<bool>,
) -> anyhow::Result<(u64, Exit)> {
    let (mut done, mut exit) = (0, Exit::Ok);
    let (mut batch, mut tried) = (which.ids, HashSet::new());
    loop {
        if which.all {
            // What failed, or what is back already, is not tried again.
            batch = list(tried.len() + BATCH).await?.into_iter().filter(|id| !tried.contains(id)).collect();
        }
        for id in &batch {
            match act(id).await {
                Ok(true) => done += 1,
                // Somebody else was faster.
                Ok(false) if which.all => {}
                Ok(false) => {
                    print(format!("{}: {missing}", sanitize(id)));
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
            return Ok((done, exit));
        }
        tried.extend(batch.drain(..));
    }
}
