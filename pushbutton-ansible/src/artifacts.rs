//! Makes sure that a log folder holds nothing but its own files: it is published as it is.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// Removes links that lead out of the folder or nowhere, and what is neither file nor folder: a web server would follow
/// the links, and block on the others. Returns what was removed. Blocks.
pub(crate) fn sanitize_tree(log_dir: &Path) -> Vec<PathBuf> {
    let Ok(root) = log_dir.canonicalize() else { return Vec::new() };
    let is_harmless = |entry: &DirEntry| {
        let kind = entry.file_type();
        let leads_inside = || entry.path().canonicalize().is_ok_and(|target| target.starts_with(&root));
        kind.is_dir() || kind.is_file() || (kind.is_symlink() && leads_inside())
    };
    // Without a limit: what was not looked at could be a link. A folder that cannot be read, as when its path is longer
    // than the kernel takes, is removed.
    let unwanted = WalkDir::new(&root).min_depth(1).into_iter().filter_map(|entry| match entry {
        Ok(entry) => (!is_harmless(&entry)).then(|| entry.into_path()),
        Err(error) => unreadable(&error).filter(|path| *path != root).map(Path::to_owned),
    });
    let mut removed: Vec<PathBuf> = unwanted.collect();
    removed.retain(|path| match remove(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a link that leads out of the log folder");
            false
        }
    });
    removed.into_iter().filter_map(|path| path.strip_prefix(&root).map(Path::to_owned).ok()).collect()
}

/// The folder that could not be read, or the deepest one above it whose path is short enough to be removed by.
fn unreadable(error: &walkdir::Error) -> Option<&Path> {
    let is_too_long = error.io_error().is_some_and(|error| error.kind() == ErrorKind::InvalidFilename);
    let is_usable = |path: &&Path| !is_too_long || path.symlink_metadata().is_ok();
    error.path()?.ancestors().find(is_usable)
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return fs::remove_dir_all(path);
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Issue 10, H4.
    #[test]
    fn h4_links_are_removed_however_deep_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join(["d"; 60].join("/"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("kept"), "kept").unwrap();
        symlink("/etc", deep.join("link")).unwrap();
        // Deeper than a path can say (PATH_MAX is 4096): made from inside, as a program on the local machine can.
        let script = "import os\nfor _ in range(30):\n    os.mkdir('n' * 200)\n    os.chdir('n' * 200)\nos.symlink('/etc', 'link')";
        let mut python = std::process::Command::new("/usr/bin/python3");
        let made = python.args(["-c", script]).current_dir(folder.path()).status();
        assert!(made.unwrap().success());
        let removed = sanitize_tree(folder.path());
        assert_eq!(removed.len(), 2, "{removed:?}");
        assert_eq!(fs::read_to_string(deep.join("kept")).unwrap(), "kept");
        assert!(deep.join("link").symlink_metadata().is_err());
        let unreadable = WalkDir::new(folder.path()).into_iter().filter(Result::is_err).count();
        assert_eq!(unreadable, 0);
    }

    #[test]
    fn links_that_lead_out_of_the_folder_are_removed_and_others_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        fs::create_dir_all(root.join("logs")).unwrap();
        fs::write(root.join("logs/a.txt"), "a").unwrap();
        fs::write(folder.path().join("secret"), "s").unwrap();
        symlink("a.txt", root.join("logs/inside")).unwrap();
        symlink("/etc/passwd", root.join("logs/absolute")).unwrap();
        symlink("../../secret", root.join("logs/climbing")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("/etc", root.join("folder")).unwrap();
        symlink("logs/absolute", root.join("chained")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
        let mut removed = sanitize_tree(&root);
        removed.sort();
        let expected = ["chained", "dangling", "folder", "logs/absolute", "logs/climbing", "socket"];
        assert_eq!(removed, expected.map(PathBuf::from));
        assert_eq!(fs::read_to_string(root.join("logs/inside")).unwrap(), "a");
        assert_eq!(fs::read_to_string(folder.path().join("secret")).unwrap(), "s");
    }
}
