//! `init`: writes the default configuration.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use pushbutton_core::{Error, ErrorKind};

use crate::config::DEFAULT;
use crate::exit::Exit;
use crate::print::print;

/// Writes the file, unless it exists.
pub(crate) fn run(path: &Path) -> anyhow::Result<Exit> {
    let refused = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "it exists already: name another path, or move it away",
            std::io::ErrorKind::NotFound => "create its folder first",
            _ => "check the folder's permissions",
        };
        Error::permanent(ErrorKind::Config, format!("cannot write {}: {error}; {remedy}", path.display()))
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(refused)?;
    file.write_all(DEFAULT.as_bytes()).map_err(refused)?;
    let shown = path.display();
    print(format!(
        "Wrote {shown}.\n\n\
         Next:\n  \
         1. edit it: every key is explained there\n  \
         2. pushbutton-bin --config {shown} check    tries every connection and says what to fix\n  \
         3. pushbutton-bin --config {shown} run"
    ));
    Ok(Exit::Ok)
}
