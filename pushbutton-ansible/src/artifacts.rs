//! Makes sure that a log folder holds nothing but its own files: it is published as it is.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// Deeper folders are not read. Logs are never that deep.
const MAX_DEPTH: usize = 32;
/// So many entries are read. Devstack leaves some hundred files.
const MAX_FILES: usize = 200_000;

/// Calls `visit` for everything below a folder, without following links.
pub(crate) fn walk(root: &Path, visit: &mut dyn FnMut(&Path, &Metadata)) {
    let mut left = vec![(root.to_owned(), 0)];
    let mut seen = 0;
    while let Some((folder, depth)) = left.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MAX_FILES {
                tracing::warn!(folder = %root.display(), "too many files: the rest was not read");
                return;
            }
            let Ok(meta) = entry.metadata() else { continue };
            visit(&entry.path(), &meta);
            if meta.is_dir() && depth < MAX_DEPTH {
                left.push((entry.path(), depth + 1));
            }
        }
    }
}

/// Removes links that lead out of the folder or nowhere, and what is neither file nor folder: a web server would follow
/// the links, and block on the others. Returns what was removed. Blocks.
pub(crate) fn sanitize_tree(log_dir: &Path) -> Vec<PathBuf> {
    let Ok(root) = log_dir.canonicalize() else { return Vec::new() };
    let mut removed = Vec::new();
    walk(&root, &mut |path, meta| {
        let stays_inside = || path.canonicalize().is_ok_and(|target| target.starts_with(&root));
        if !(meta.is_dir() || meta.is_file() || (meta.is_symlink() && stays_inside())) {
            removed.push(path.to_owned());
        }
    });
    removed.retain(|path| match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a link that leads out of the log folder");
            false
        }
    });
    removed.into_iter().filter_map(|path| path.strip_prefix(&root).map(Path::to_owned).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

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
        assert!(Path::new("/etc/passwd").exists());
    }
}
