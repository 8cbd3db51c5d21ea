//! The man pages and shell completions in deploy/package/generated, made from the definition of the command line.
//! `make man` writes them. As a test they cost the binary nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

const NAME: &str = "pushbutton-bin";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/package/generated")
}

/// Path in the folder, content.
fn generated() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (shell, name) in [
        (Shell::Bash, "pushbutton-bin.bash"),
        (Shell::Zsh, "_pushbutton-bin"),
        (Shell::Fish, "pushbutton-bin.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), NAME, &mut text);
        files.insert(format!("completions/{name}"), text);
    }
    let pages = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command(), pages.path()).unwrap();
    for page in fs::read_dir(pages.path()).unwrap() {
        let page = page.unwrap();
        files.insert(format!("man/{}", page.file_name().display()), fs::read(page.path()).unwrap());
    }
    files
}

/// The same of the files that are there.
fn committed() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for kind in ["completions", "man"] {
        for file in fs::read_dir(folder().join(kind)).into_iter().flatten() {
            let file = file.unwrap();
            let name = format!("{kind}/{}", file.file_name().display());
            files.insert(name, fs::read(file.path()).unwrap());
        }
    }
    files
}

#[test]
fn the_man_pages_and_completions_are_those_of_the_command_line() {
    let wanted = generated();
    if std::env::var_os("PUSHBUTTON_WRITE_GENERATED").is_some() {
        for kind in ["completions", "man"] {
            let _ = fs::remove_dir_all(folder().join(kind));
            fs::create_dir_all(folder().join(kind)).unwrap();
        }
        for (name, content) in &wanted {
            fs::write(folder().join(name), content).unwrap();
        }
    }
    let committed = committed();
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&wanted), "run `make man`");
    for (name, content) in wanted {
        assert!(committed[&name] == content, "{name} is not what the command line says: run `make man`");
    }
}
