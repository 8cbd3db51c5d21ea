//! The rules for a run's folder of logs.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::Findings;

/// Of a larger tree only so many files are looked at, and so many folders deep.
const MAX_FILES: usize = 20_000;
const MAX_DEPTH: usize = 8;

/// So much of a file is read.
const MAX_READ: u64 = 4 << 20;

/// The files of a folder, by their paths in it.
struct Tree {
    folder: PathBuf,
    files: Vec<String>,
}

/// Checks a folder. `is_cinder`: whether it is of a run for Cinder; not known without a configuration.
pub(crate) fn check(folder: &Path, is_cinder: Option<bool>, findings: &mut Findings) -> std::io::Result<()> {
    let tree = Tree::read(folder)?;
    browsable(&tree, findings);
    if tree.files.iter().all(|file| is_archive(file)) {
        return Ok(());
    }
    contents(&tree, findings);
    layout(&tree, findings);
    let has_cinder = tree.has(|name| name.starts_with("cinder") || name.contains("c-vol"));
    if is_cinder.unwrap_or(has_cinder) {
        cinder(&tree, findings);
    }
    Ok(())
}

fn browsable(tree: &Tree, findings: &mut Findings) {
    if tree.files.is_empty() {
        findings.fail("A34", "the folder is empty", "publish the logs of the run");
    } else if tree.files.iter().all(|file| is_archive(file)) {
        let fix = "publish the files themselves: people read them in a browser";
        findings.fail("A34", "there are only archives", fix);
    } else if !tree.has_at_root(|name| name == "index.html") {
        let fix = "write an index.html, or let the web server list folders";
        findings.note("A34", "there is no index.html", fix);
    }
}

fn contents(tree: &Tree, findings: &mut Findings) {
    let mut want = |is_there: bool, what: &str, fix: &str| {
        if !is_there {
            findings.warn("A35", format!("there is no {what}"), fix);
        }
    };
    want(
        tree.has(|name| name == "testr_results.html.gz" || name == "testr_results.html"),
        "testr_results.html.gz",
        "make it of tempest's results (subunit2html)",
    );
    want(
        tree.has(|name| name.starts_with("tempest.")),
        "log of tempest",
        "gather what tempest prints, as tempest.txt.gz",
    );
    want(
        tree.has(|name| ["local.conf", "localrc", "tempest.conf"].iter().any(|file| name.starts_with(file))),
        "configuration of the test",
        "gather local.conf and tempest.conf",
    );
    want(
        tree.has(is_service_log),
        "log of an OpenStack service",
        "gather the journal of each devstack service into logs/",
    );
    want(
        tree.texts(is_console)
            .chain(tree.texts(|name| name.starts_with("environment")))
            .any(|text| has_utc_time(&text)),
        "time in UTC in the console or the environment",
        "write the time as 2026-11-23T12:00:00Z",
    );
}

fn layout(tree: &Tree, findings: &mut Findings) {
    if !tree.has_at_root(is_console) {
        findings.warn(
            "A37",
            "there is no console in the root",
            "put the console there, as console.html.gz or console.log",
        );
    }
    if !tree.has_at_root(|name| name.starts_with("local.conf") || name.starts_with("localrc")) {
        findings.warn("A37", "there is no local.conf in the root", "put it there");
    }
    if !tree.files.iter().any(|file| file.starts_with("logs/")) {
        findings.warn("A37", "there is no folder logs/", "put the logs of services and of tempest there");
    }
}

fn cinder(tree: &Tree, findings: &mut Findings) {
    let backends: Vec<String> = tree
        .texts(|name| name.starts_with("cinder.conf"))
        .flat_map(|text| text.lines().filter_map(enabled_backends).collect::<Vec<_>>())
        .flatten()
        .collect();
    if let Some(lvm) = backends.iter().find(|backend| backend.to_lowercase().starts_with("lvm")) {
        let fix = "name only the backend of the driver in CINDER_ENABLED_BACKENDS";
        findings.warn("A28", format!("cinder.conf enables the backend {lvm:?}"), fix);
    }
    if !tree.has(|name| name.starts_with("cinder.conf")) {
        findings.warn("A39", "there is no cinder.conf", "gather /etc/cinder/cinder.conf");
    }
    for (short, long) in [("c-vol", "cinder-volume"), ("c-sch", "cinder-scheduler"), ("c-api", "cinder-api")]
    {
        if !tree.has(|name| is_service_log(name) && (name.contains(short) || name.contains(long))) {
            findings.warn(
                "A39",
                format!("there is no log of {long}"),
                "gather the logs of all cinder services",
            );
        }
    }
    if !tree.has(|name| name.starts_with("patchset"))
        && !tree.texts(is_console).any(|text| text.contains("refs/changes/"))
    {
        let fix = "print what is tested, such as the output of git log";
        findings.warn("A39", "nothing shows which patch was tested", fix);
    }
}

/// The backends of the line `enabled_backends = a, b`.
fn enabled_backends(line: &str) -> Option<Vec<String>> {
    let (key, value) = line.split_once('=')?;
    (key.trim() == "enabled_backends").then(|| value.split(',').map(|name| name.trim().to_owned()).collect())
}

fn is_console(name: &str) -> bool {
    name.starts_with("console") || name.starts_with("job-output")
}

fn is_archive(file: &str) -> bool {
    [".tar", ".tar.gz", ".tgz", ".zip", ".tar.xz", ".tar.bz2"]
        .iter()
        .any(|end| file.to_lowercase().ends_with(end))
}

/// devstack's short names of services, and the long ones.
fn is_service_log(name: &str) -> bool {
    let stem = name.strip_suffix(".gz").unwrap_or(name);
    let stem = stem.strip_suffix(".txt").or_else(|| stem.strip_suffix(".log")).unwrap_or(stem);
    let stem = stem.strip_prefix("screen-").or_else(|| stem.strip_prefix("devstack@")).unwrap_or(stem);
    let services = ["c-", "n-", "q-", "g-", "s-", "m-", "ir-", "o-", "h-", "placement-", "neutron-"];
    let daemons = ["cinder-", "nova-", "glance-", "manila-", "ironic-", "keystone", "swift-"];
    stem != name && services.iter().chain(&daemons).any(|service| stem.starts_with(service))
}

/// Whether a text has a time such as `2026-11-23T12:00:00Z`, `... UTC` or `+00:00`.
fn has_utc_time(text: &str) -> bool {
    let is_time = |word: &str| {
        let bytes = word.as_bytes();
        bytes.len() >= 19
            && bytes[4] == b'-'
            && bytes[7] == b'-'
            && matches!(bytes[10], b'T' | b' ')
            && bytes[13] == b':'
    };
    text.lines().any(|line| {
        let mut words = line.split_whitespace().map(|word| word.trim_matches(['[', ']', '(', ')', '|', ',']));
        line.contains(" UTC") && line.contains(':')
            || words.any(|word| is_time(word) && (word.ends_with('Z') || word.ends_with("+00:00")))
    })
}

impl Tree {
    fn read(folder: &Path) -> std::io::Result<Self> {
        let mut tree = Self { folder: folder.to_owned(), files: Vec::new() };
        let mut open = vec![(folder.to_owned(), 0)];
        while let Some((inner, depth)) = open.pop() {
            for entry in std::fs::read_dir(&inner)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                // Links are not followed: a log folder has none that matter, and one may lead anywhere.
                if kind.is_dir() && depth < MAX_DEPTH {
                    open.push((entry.path(), depth + 1));
                } else if kind.is_file() && tree.files.len() < MAX_FILES {
                    let path = entry.path();
                    let relative = path.strip_prefix(folder).unwrap_or(&path);
                    tree.files.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        tree.files.sort();
        Ok(tree)
    }

    fn has(&self, is_it: impl Fn(&str) -> bool) -> bool {
        self.files.iter().any(|file| is_it(name_of(file)))
    }

    fn has_at_root(&self, is_it: impl Fn(&str) -> bool) -> bool {
        self.files.iter().any(|file| !file.contains('/') && is_it(file))
    }

    /// The beginnings of these files, decompressed.
    fn texts(&self, is_it: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        let files = self.files.iter().filter(move |file| is_it(name_of(file)));
        files.filter_map(|file| {
            let opened = std::fs::File::open(self.folder.join(file)).ok()?;
            let mut bytes = Vec::new();
            let read = match file.ends_with(".gz") {
                true => MultiGzDecoder::new(opened).take(MAX_READ).read_to_end(&mut bytes),
                false => opened.take(MAX_READ).read_to_end(&mut bytes),
            };
            read.ok().map(|_| String::from_utf8_lossy(&bytes).into_owned())
        })
    }
}

fn name_of(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}
