//! Which values are paths: they are relative to the configuration file's folder, and some must exist.

use std::path::{Component, Path, PathBuf};

/// What a path must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Must {
    /// A file that can be read.
    BeFile,
    /// A folder.
    BeFolder,
    /// A folder that we can write to, or can make.
    BeWritable,
    /// Nothing: it is made when needed, or its part says what is wrong.
    Nothing,
}

/// Every path of the configuration. `*` is any key or element.
pub(crate) const PATHS: &[(&str, Must)] = &[
    ("state", Must::BeWritable),
    ("logs.dir", Must::BeWritable),
    ("gerrit.key", Must::BeFile),
    ("gerrit.host_key.known_hosts", Must::BeFile),
    ("gerrit.jump.key", Must::BeFile),
    ("gerrit.jump.host_key.known_hosts", Must::BeFile),
    ("rabbitmq.ca", Must::BeFile),
    ("cloud.clouds_file", Must::BeFile),
    ("cloud.console_dir", Must::BeWritable),
    ("cloud.nodes.*.key_file", Must::BeFile),
    ("cloud.nodes.*.user_data.file", Must::BeFile),
    ("machines.*.key_file", Must::BeFile),
    ("ansible.playbooks", Must::BeFolder),
    ("ansible.work_dir", Must::Nothing),
    ("ansible.roles_path.*", Must::BeFolder),
];

/// A path as the process needs it: `~/` is the home folder, anything relative is below `folder`, `.` and inner `..` are gone.
pub(crate) fn absolute(path: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let path = match (path.strip_prefix("~/"), env("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => folder.join(path),
    };
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

/// What is wrong with a path, and the remedy; none when nothing is.
pub(crate) fn refusal(path: &Path, must: Must) -> Option<(String, String)> {
    let shown = path.display();
    match must {
        Must::Nothing => None,
        Must::BeFile => match std::fs::File::open(path) {
            Ok(_) if path.is_file() => None,
            Ok(_) => Some((format!("{shown} is not a file"), "name a file".into())),
            Err(error) => {
                Some((format!("cannot read {shown}: {error}"), "check path and permissions".into()))
            }
        },
        Must::BeFolder => match std::fs::read_dir(path) {
            Ok(_) => None,
            Err(error) => Some((
                format!("cannot read the folder {shown}: {error}"),
                "check path and permissions".into(),
            )),
        },
        Must::BeWritable => not_writable(path).map(|why| {
            (
                format!("cannot write to the folder {shown}: {why}"),
                "make it, and let this user write there".into(),
            )
        }),
    }
}

/// Why we cannot write to this folder, or to the nearest one above it that is there.
fn not_writable(path: &Path) -> Option<String> {
    let mut there = path;
    while !there.exists() {
        there = there.parent()?;
    }
    if !there.is_dir() {
        return Some(format!("{} is not a folder", there.display()));
    }
    // Only a try tells for sure: modes, read-only mounts and capabilities all have a say.
    let probe = there.join(format!(".pushbutton-probe-{}", std::process::id()));
    let tried = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    let _ = std::fs::remove_file(&probe);
    tried.err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_and_home_is_known() {
        let home = |name: &str| (name == "HOME").then(|| "/home/ci".to_owned());
        let absolute = |path| absolute(path, Path::new("/etc/pushbutton"), &home);
        assert_eq!(absolute("./keys/../id"), Path::new("/etc/pushbutton/id"));
        assert_eq!(absolute("~/.ssh/id"), Path::new("/home/ci/.ssh/id"));
        assert_eq!(absolute("/var/log"), Path::new("/var/log"));
    }

    #[test]
    fn what_must_exist_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (file, none) = (folder.path().join("file"), folder.path().join("none/deeper"));
        std::fs::write(&file, "").unwrap();
        for (path, must, well) in [
            (file.as_path(), Must::BeFile, true),
            (folder.path(), Must::BeFile, false),
            (&none, Must::BeFile, false),
            (folder.path(), Must::BeFolder, true),
            (&file, Must::BeFolder, false),
            (&none, Must::BeWritable, true),
            (&file, Must::BeWritable, false),
            (&none, Must::Nothing, true),
        ] {
            assert_eq!(refusal(path, must).is_none(), well, "{path:?} {must:?}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the probe is gone");
    }
}
