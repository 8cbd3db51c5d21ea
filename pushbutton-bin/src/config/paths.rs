//! Which values are paths. They are relative to the configuration file's folder, and most must exist.

use std::path::{Component, Path, PathBuf};

/// How a path is checked when the configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathCheck {
    /// It must be a file that can be read.
    File,
    /// It must be a folder.
    Folder,
    /// It must be a folder that this process can write to or create.
    Writable,
    /// It is a command: with a slash a file that can be read, without one it is looked up in PATH when it is started.
    Program,
    /// Not at all: it is created when needed.
    None,
}

/// Every path of the configuration. `*` is any key or element.
pub(crate) const PATHS: &[(&str, PathCheck)] = &[
    ("state", PathCheck::Writable),
    ("logs.dir", PathCheck::Writable),
    ("gerrit.key", PathCheck::File),
    ("gerrit.host_key.known_hosts", PathCheck::File),
    ("gerrit.jump.key", PathCheck::File),
    ("gerrit.jump.host_key.known_hosts", PathCheck::File),
    ("rabbitmq.ca", PathCheck::File),
    ("rabbitmq.client_cert", PathCheck::File),
    ("rabbitmq.client_key", PathCheck::File),
    ("cloud.clouds_file", PathCheck::File),
    ("cloud.console_dir", PathCheck::Writable),
    ("cloud.nodes.*.key_file", PathCheck::File),
    ("cloud.nodes.*.user_data.file", PathCheck::File),
    ("machines.*.key_file", PathCheck::File),
    ("ansible.playbooks", PathCheck::Folder),
    ("ansible.ansible_playbook", PathCheck::Program),
    ("ansible.work_dir", PathCheck::None),
    ("ansible.roles_path.*", PathCheck::Folder),
];

/// An absolute path: `~/` is the home folder, anything relative is below `folder`, `.` and inner `..` are resolved.
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

impl PathCheck {
    /// What is wrong with a path, and how to fix it; none when nothing is.
    pub(crate) fn problem(self, path: &Path) -> Option<(String, String)> {
        let shown = path.display();
        let unreadable = |what: &str, error: std::io::Error| {
            (format!("cannot read {what}{shown}: {error}"), "check path and permissions".to_owned())
        };
        match self {
            Self::None => None,
            Self::File | Self::Program => match std::fs::File::open(path) {
                Ok(_) if path.is_file() => None,
                Ok(_) => Some((format!("{shown} is not a file"), "name a file".into())),
                Err(error) => Some(unreadable("", error)),
            },
            Self::Folder => std::fs::read_dir(path).err().map(|error| unreadable("the folder ", error)),
            Self::Writable => not_writable(path).map(|why| {
                let fix = "create it, and give this user write permission";
                (format!("cannot write to the folder {shown}: {why}"), fix.into())
            }),
        }
    }
}

/// Why this folder, or the nearest existing one above it, is not writable.
fn not_writable(path: &Path) -> Option<String> {
    let mut there = path;
    while !there.exists() {
        there = there.parent()?;
    }
    if !there.is_dir() {
        return Some(format!("{} is not a folder", there.display()));
    }
    // Only an attempt shows it: file modes, read-only mounts and capabilities all matter.
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
        for (path, check, ok) in [
            (file.as_path(), PathCheck::File, true),
            (folder.path(), PathCheck::File, false),
            (&none, PathCheck::File, false),
            (folder.path(), PathCheck::Folder, true),
            (&file, PathCheck::Folder, false),
            (&none, PathCheck::Writable, true),
            (&file, PathCheck::Writable, false),
            (&none, PathCheck::None, true),
        ] {
            assert_eq!(check.problem(path).is_none(), ok, "{path:?} {check:?}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the probe is gone");
    }
}
