//! `init`: writes the default configuration.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use pushbutton_core::{Error, ErrorKind};

use crate::config::DEFAULT;
use crate::exit::Exit;
use crate::import::{self, Imported};
use crate::print::{print, sanitize};

/// Writes the file, unless it exists; with the settings of an older CI, if there is a file with them.
pub(crate) fn run(path: &Path, from_env: Option<&Path>) -> anyhow::Result<Exit> {
    let imported = match from_env {
        Some(settings) => read_settings(settings)?,
        None => Imported { text: DEFAULT.to_owned(), notes: Vec::new() },
    };
    let refused = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "it exists already: name another path, or move it away",
            std::io::ErrorKind::NotFound => "create its folder first",
            _ => "check the folder's permissions",
        };
        Error::permanent(ErrorKind::Config, format!("cannot write {}: {error}; {remedy}", path.display()))
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(refused)?;
    file.write_all(imported.text.as_bytes()).map_err(refused)?;
    let shown = path.display();
    if !imported.notes.is_empty() {
        print("Settings that were changed, or that have no counterpart:");
        for note in &imported.notes {
            print(format!("  - {}", sanitize(note)));
        }
        print("");
    }
    print(format!(
        "Wrote {shown}.\n\n\
         Next:\n  \
         1. edit it: every key is explained there, and its first lines say where to begin\n  \
         2. pushbutton-bin --config {shown} check    tries every connection and says what to fix\n  \
         3. pushbutton-bin --config {shown} run"
    ));
    Ok(Exit::Ok)
}

fn read_settings(path: &Path) -> anyhow::Result<Imported> {
    let shown = path.display();
    let refused =
        |problem: String| Error::permanent(ErrorKind::Config, format!("cannot use {shown}: {problem}"));
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(import::MAX_BYTES).read_to_string(&mut text));
    read.map_err(|error| refused(format!("{error}; name the settings file of the older CI")))?;
    Ok(import::import(&text).map_err(refused)?)
}
