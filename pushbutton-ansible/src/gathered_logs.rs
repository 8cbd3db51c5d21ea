//! Unpacks the logs that a stage gathered from its nodes (`.logs-NODE.tar.gz` in the log folder).
//!
//! The patch is root on the node, so an archive can hold anything. It is unpacked with limits, into an empty folder, and
//! only as plain files; `logs/` and `local.conf` are then moved to the log folder, beside what is there. The content of
//! text files is redacted, also in files that are compressed themselves.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::redacted_copy::{CopyError, Filters, RedactedCopy};

const BLOCK: u64 = 512;
/// The longest name of a file with its folders, and of each folder, in bytes. File systems allow 4096 and 255; endings
/// are added here.
const MAX_PATH: usize = 1000;
const MAX_NAME: usize = 200;
/// An extended header holds a name, and attributes that are not read.
const MAX_HEADER: u64 = 64 << 10;
/// Entries that were left out are named one by one up to here.
const MAX_NAMED: u64 = 10;

/// Bounds of one archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of all files, where text that is compressed counts as what it holds.
    pub(crate) total: u64,
    pub(crate) entries: u64,
    pub(crate) depth: usize,
}

/// A run of devstack leaves some hundred files with less than 1 GiB.
pub(crate) const LIMITS: Limits = Limits { total: 4 << 30, entries: 50_000, depth: 16 };

/// Why unpacking ended early.
#[derive(Debug)]
enum Fault {
    /// The archive is broken.
    Archive(String),
    /// The files cannot be written.
    Local(io::Error),
}

/// How an archive was unpacked.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// What people should know, for the console log.
    pub(crate) notes: Vec<String>,
    /// Why it was not unpacked to its end, where the archive is broken or the disk is full.
    pub(crate) fault: Option<String>,
    /// Whether it is one of this host, and says nothing about the node.
    pub(crate) is_local_fault: bool,
}

/// Where the playbooks leave the archive of a node.
pub(crate) fn archive(log_dir: &Path, node: &str) -> PathBuf {
    log_dir.join(format!(".logs-{node}.tar.gz"))
}

/// Unpacks the archives of these nodes: of one node to the log folder itself, of several to a folder for each. `id` is
/// unique to the stage. Blocks.
pub(crate) fn unpack_all(
    log_dir: &Path,
    nodes: &[String],
    id: &str,
    filters: Filters<'_>,
    stop: &dyn Fn() -> bool,
) -> Vec<(String, Unpacked)> {
    let work = log_dir.join(format!(".unpacking-{id}"));
    let unpack_node = |node: &String| {
        let target = if nodes.len() == 1 { log_dir.to_owned() } else { log_dir.join(node) };
        let unpacked = unpack(&archive(log_dir, node), &work, &target, filters, LIMITS, stop)?;
        Some((node.clone(), unpacked))
    };
    nodes.iter().filter_map(unpack_node).collect()
}

/// Unpacks an archive to `target` and removes it; None when there is none. `work` is a folder of the same file system
/// that does not exist yet. `stop` is asked now and then. Blocks.
pub(crate) fn unpack(
    archive: &Path,
    work: &Path,
    target: &Path,
    filters: Filters<'_>,
    limits: Limits,
    stop: &dyn Fn() -> bool,
) -> Option<Unpacked> {
    let kind = archive.symlink_metadata().ok()?;
    let mut unpacked = Unpacked::default();
    if kind.is_file() {
        let result = fs::create_dir(work).and_then(|()| File::open(archive)).map_err(Fault::Local);
        let result = result.and_then(|file| {
            let mut unpacking = Unpacking {
                from: GzDecoder::new(BufReader::new(file)),
                work,
                filters,
                limits,
                stop,
                left: limits.total,
                left_out: 0,
                notes: &mut unpacked.notes,
            };
            let result = unpacking.entries();
            let left_out = unpacking.left_out;
            if left_out > MAX_NAMED {
                unpacked.notes.push(format!("{left_out} entries were left out in all"));
            }
            // What was unpacked before a fault is published all the same.
            result.and(move_files(work, target).map_err(Fault::Local))
        });
        unpacked.is_local_fault = matches!(result, Err(Fault::Local(_)));
        unpacked.fault = result.err().map(|fault| match fault {
            Fault::Archive(why) => format!("the archive is broken: {why}"),
            Fault::Local(error) => format!("cannot unpack: {error}"),
        });
        let _ = fs::remove_dir_all(work);
    } else {
        unpacked.fault = Some("the archive is no plain file".into());
    }
    let removed = if kind.is_dir() { fs::remove_dir_all(archive) } else { fs::remove_file(archive) };
    if let Err(error) = removed {
        tracing::warn!(archive = %archive.display(), %error, "cannot remove the archive of gathered logs");
    }
    Some(unpacked)
}

/// Moves `logs` and `local.conf`. What is already in the target stays, and the new one gets a number.
fn move_files(work: &Path, target: &Path) -> io::Result<()> {
    for (stem, ending) in [("logs", ""), ("local", ".conf")] {
        let from = work.join(format!("{stem}{ending}"));
        if from.symlink_metadata().is_err() {
            continue;
        }
        fs::create_dir_all(target)?;
        let names = (1..1000).map(|n| match n {
            1 => format!("{stem}{ending}"),
            n => format!("{stem}-{n}{ending}"),
        });
        let free = names.map(|name| target.join(name)).find(|path| path.symlink_metadata().is_err());
        fs::rename(&from, free.ok_or(io::ErrorKind::AlreadyExists)?)?;
    }
    Ok(())
}

struct Unpacking<'a> {
    from: GzDecoder<BufReader<File>>,
    work: &'a Path,
    filters: Filters<'a>,
    limits: Limits,
    stop: &'a dyn Fn() -> bool,
    /// Bytes that may still be written.
    left: u64,
    left_out: u64,
    notes: &'a mut Vec<String>,
}

impl Unpacking<'_> {
    fn entries(&mut self) -> Result<(), Fault> {
        let mut name = None;
        for _ in 0..self.limits.entries {
            if self.left == 0 || (self.stop)() {
                self.notes.push("the limit of gathered logs was reached: the rest was left out".into());
                return Ok(());
            }
            let mut header = [0; BLOCK as usize];
            self.from.read_exact(&mut header).map_err(broken)?;
            if header.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let header = Header::parse(&header)?;
            match header.kind {
                b'x' | b'L' => {
                    if header.size > MAX_HEADER {
                        return Err(Fault::Archive("an extended header is too large".into()));
                    }
                    let mut text = Vec::new();
                    self.from.by_ref().take(header.size).read_to_end(&mut text).map_err(broken)?;
                    self.skip(header.padding())?;
                    name =
                        if header.kind == b'x' { pax_path(&text) } else { Some(until_zero(&text).to_vec()) }
                            .or(name);
                    continue;
                }
                b'g' => self.skip(header.size)?,
                b'5' => self.skip(header.size)?,
                b'0' | b'7' | 0 => {
                    let name = name.take().unwrap_or(header.name.clone());
                    self.file(&name, header.size)?;
                }
                kind => {
                    self.leave_out(
                        &header.name,
                        &format!("it is no plain file (type {:?})", char::from(kind)),
                    );
                    self.skip(header.size)?;
                }
            }
            name = None;
            self.skip(header.padding())?;
        }
        self.notes.push("there are too many gathered files: the rest was left out".into());
        Ok(())
    }

    fn file(&mut self, name: &[u8], size: u64) -> Result<(), Fault> {
        let opened =
            self.safe_path(name).and_then(|path| create(&self.work.join(&path)).map(|file| (path, file)));
        let (path, file) = match opened {
            Ok(opened) => opened,
            Err(Refused::Entry(why)) => {
                self.leave_out(name, why);
                return self.skip(size);
            }
            Err(Refused::Local(error)) => return Err(Fault::Local(error)),
        };
        let compressed = path.ends_with(".gz");
        let mut content = self.from.by_ref().take(size);
        let mut copy = RedactedCopy::new(self.filters, &mut self.left, self.stop);
        let to = BufWriter::new(file);
        let result = if compressed { copy.gzip(&mut content, to) } else { copy.plain(&mut content, to) };
        let cut = copy.is_cut;
        let rest = content.limit();
        match result {
            // A log that was being compressed: what could be read of it is kept.
            Err(CopyError::Read(_)) if compressed => self.notes.push(format!("{path} is not whole")),
            Err(CopyError::Read(error)) => return Err(broken(error)),
            Err(CopyError::Write(error)) => return Err(Fault::Local(error)),
            Ok(()) => {}
        }
        if cut {
            self.notes.push(format!("{path} was cut: the limit of gathered logs was reached"));
        }
        self.skip(rest)
    }

    /// The path below the folder: relative, without `..`, printable, not hidden, and not shown as a page by a web server.
    fn safe_path(&self, name: &[u8]) -> Result<String, Refused> {
        let name = str::from_utf8(name).map_err(|_| Refused::Entry("its name is not UTF-8"))?;
        let parts: Vec<&str> = name.split('/').collect();
        let is_plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.chars().any(char::is_control);
        if !parts.iter().all(is_plain) {
            return Err(Refused::Entry(
                "its name is absolute, or leads out of the folder, or cannot be printed",
            ));
        }
        if parts.len() > self.limits.depth
            || name.len() > MAX_PATH
            || parts.iter().any(|part| part.len() > MAX_NAME)
        {
            return Err(Refused::Entry("its name is too long or too deep"));
        }
        if !(parts.first() == Some(&"logs") && parts.len() > 1 || name == "local.conf") {
            return Err(Refused::Entry("only logs/ and local.conf are taken"));
        }
        // A web server may obey a hidden file (`.htaccess`), and shows a page with scripts as its own.
        let mut path = parts.iter().map(|part| match part.strip_prefix('.') {
            Some(rest) => format!("_{rest}"),
            None => (*part).to_owned(),
        });
        let path = path.by_ref().collect::<Vec<_>>().join("/");
        Ok(shown_as_text(&path))
    }

    fn leave_out(&mut self, name: &[u8], why: &str) {
        self.left_out += 1;
        if self.left_out <= MAX_NAMED {
            self.notes.push(format!("left out {:?}: {why}", String::from_utf8_lossy(name)));
        }
    }

    fn skip(&mut self, size: u64) -> Result<(), Fault> {
        let mut rest = self.from.by_ref().take(size);
        let mut block = vec![0; 64 << 10];
        loop {
            match rest.read(&mut block).map_err(broken)? {
                0 if rest.limit() > 0 => {
                    return Err(Fault::Archive("it ends in the middle of a file".into()));
                }
                0 => return Ok(()),
                _ if (self.stop)() => {
                    return Err(Fault::Local(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the stage's time is over",
                    )));
                }
                _ => {}
            }
        }
    }
}

/// Endings that a browser shows as a page, or runs as a script of one.
const PAGES: &[&str] = &[
    "html", "htm", "xhtml", "xhtm", "xht", "mhtml", "mht", "xml", "xsl", "xslt", "rdf", "atom", "rss", "mml",
    "svg", "svgz", "js", "mjs",
];
/// Endings that a web server obeys itself, some of them wherever they are in the name.
const SCRIPTS: &[&str] = &[
    "php", "php3", "php4", "php5", "php6", "php7", "php8", "phtml", "pht", "phps", "phar", "shtml", "shtm",
    "stm", "cgi", "fcgi", "asp", "aspx", "jsp", "jspx", "cfm", "var", "asis",
];

/// The path under which a web server shows the file as text. Apache (`mod_mime`) looks at each ending of a name, as in
/// `x.html.en`: the last one that it knows gives the type, so `.txt` is added; any one can make it a script, so its
/// dot goes. The part before the first dot is no ending, and `.gz` at the end stays there.
fn shown_as_text(path: &str) -> String {
    let (folder, file) =
        path.rsplit_once('/').map_or(("", path), |(folder, _)| path.split_at(folder.len() + 1));
    let is_gzip = file.len() > 3 && file.to_ascii_lowercase().ends_with(".gz");
    let (stem, gz) = if is_gzip { file.split_at(file.len() - 3) } else { (file, "") };
    let mut endings = stem.split('.');
    let mut shown = format!("{folder}{}", endings.next().unwrap_or_default());
    let mut is_active = false;
    let mut is_text = false;
    for ending in endings {
        let lower = ending.to_ascii_lowercase();
        let is_script = SCRIPTS.contains(&lower.as_str());
        is_active |= is_script || PAGES.contains(&lower.as_str());
        is_text = lower == "txt";
        shown.push(if is_script { '_' } else { '.' });
        shown.push_str(ending);
    }
    if is_active && !is_text {
        shown.push_str(".txt");
    }
    if is_active { shown + &gz.to_ascii_lowercase() } else { path.to_owned() }
}

enum Refused {
    Entry(&'static str),
    Local(io::Error),
}

/// Makes a file and its folders. Nothing is replaced, so there are no links that could be followed.
fn create(path: &Path) -> Result<File, Refused> {
    use io::ErrorKind::{AlreadyExists, InvalidFilename, IsADirectory, NotADirectory};
    let parent = path.parent().unwrap_or(path);
    let made = fs::create_dir_all(parent)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o644).open(path));
    made.map_err(|error| match error.kind() {
        AlreadyExists | NotADirectory | IsADirectory => {
            Refused::Entry("something of this name is already there")
        }
        InvalidFilename => Refused::Entry("the file system refuses its name"),
        _ => Refused::Local(error),
    })
}

fn broken(error: io::Error) -> Fault {
    Fault::Archive(error.to_string())
}

/// What is used of a header (POSIX ustar, and GNU's).
struct Header {
    name: Vec<u8>,
    size: u64,
    kind: u8,
}

impl Header {
    fn parse(block: &[u8; BLOCK as usize]) -> Result<Self, Fault> {
        let field = |at: std::ops::Range<usize>| until_zero(block.get(at).unwrap_or_default());
        let number = |at| {
            let text = str::from_utf8(field(at)).unwrap_or_default().trim();
            u64::from_str_radix(text, 8).map_err(|_| Fault::Archive("a header is malformed".into()))
        };
        // The field of the sum counts as blanks.
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        if number(148..156)? != sum {
            return Err(Fault::Archive("a header has a wrong checksum".into()));
        }
        let mut name = field(0..100).to_vec();
        let prefix = field(345..500);
        if field(257..263) == b"ustar" && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        Ok(Self { name, size: number(124..136)?, kind: block[156] })
    }

    /// Each file is filled up to whole blocks.
    fn padding(&self) -> u64 {
        self.size.next_multiple_of(BLOCK) - self.size
    }
}

fn until_zero(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The name in an extended header: lines of `LENGTH KEY=VALUE`, where the length is that of the whole line.
fn pax_path(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut path = None;
    while let Some(blank) = text.iter().position(|byte| *byte == b' ') {
        let length: usize = str::from_utf8(&text[..blank]).ok()?.parse().ok()?;
        let line = text.get(blank + 1..length)?;
        if let Some(value) = line.strip_prefix(b"path=") {
            path = value.strip_suffix(b"\n").map(<[u8]>::to_vec);
        }
        text = text.get(length..)?;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::CredentialFilter;
    use crate::redact::Redactor;
    use flate2::Compression;
    use flate2::read::MultiGzDecoder;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    /// A tar header.
    fn header(name: &[u8], size: usize, kind: u8, link: &str) -> Vec<u8> {
        let mut block = vec![0; BLOCK as usize];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        entry_of(name, b'0', content)
    }

    fn entry_of(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut entry = header(name.as_bytes(), content.len(), kind, "");
        entry.extend(content);
        entry.resize(entry.len().next_multiple_of(BLOCK as usize), 0);
        entry
    }

    fn pax(name: &str) -> Vec<u8> {
        let line = format!(" path={name}\n");
        let length =
            (1..).map(|n| (n, n + line.len())).find(|(n, all)| all.to_string().len() == *n).unwrap().1;
        entry_of("pax", b'x', format!("{length}{line}").as_bytes())
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut to = GzEncoder::new(Vec::new(), Compression::fast());
        to.write_all(content).unwrap();
        to.finish().unwrap()
    }

    fn gunzip(path: &Path) -> String {
        let mut text = String::new();
        MultiGzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
        gzip(&[entries.concat(), vec![0; 1024]].concat())
    }

    struct Run {
        folder: tempfile::TempDir,
        unpacked: Unpacked,
    }

    impl Run {
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join("run").join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }

        /// All files, sorted.
        fn files(&self) -> Vec<String> {
            let root = self.path("");
            let all = walkdir::WalkDir::new(&root)
                .into_iter()
                .flatten()
                .filter(|entry| !entry.file_type().is_dir());
            let mut all: Vec<_> =
                all.map(|entry| entry.path().strip_prefix(&root).unwrap().display().to_string()).collect();
            all.sort();
            all
        }
    }

    fn unpacked_with(
        archive: &[u8],
        limits: Limits,
        prepare: impl FnOnce(&Path),
        stop: &dyn Fn() -> bool,
    ) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let log_dir = folder.path().join("run");
        fs::create_dir(&log_dir).unwrap();
        prepare(&log_dir);
        let path = super::archive(&log_dir, "node");
        fs::write(&path, archive).unwrap();
        let secrets = [("s".to_owned(), "configured-secret".into())];
        let (secrets, credentials) =
            (Redactor::new(&secrets.into()).unwrap(), CredentialFilter::new().unwrap());
        let filters = Filters { secrets: &secrets, credentials: &credentials };
        let unpacked = unpack(&path, &log_dir.join("work"), &log_dir, filters, limits, stop).unwrap();
        assert!(!path.exists() && !log_dir.join("work").exists());
        Run { folder, unpacked }
    }

    fn unpacked(entries: &[Vec<u8>]) -> Run {
        unpacked_with(&tar(entries), LIMITS, |_| {}, &|| false)
    }

    #[test]
    fn h1_links_special_files_and_names_that_lead_out_are_left_out() {
        let link = |kind, name: &str, to| header(name.as_bytes(), 0, kind, to);
        let run = unpacked(&[
            link(b'2', "logs/link", "/etc"),
            entry("logs/link/passwd", b"written into the folder that stands for it"),
            link(b'1', "logs/hard", "/etc/passwd"),
            link(b'3', "logs/device", ""),
            link(b'6', "logs/pipe", ""),
            link(b'5', "logs/folder", ""),
            entry("/etc/absolute", b"x"),
            entry("../outside", b"x"),
            entry("logs/../../outside", b"x"),
            entry("logs//double", b"x"),
            entry("logs/a\u{7}b", b"x"),
            pax("logs/../../outside"),
            entry("logs/short", b"x"),
            entry("logs/plain.txt", b"plain"),
        ]);
        assert_eq!(run.files(), ["logs/link/passwd", "logs/plain.txt"]);
        assert_eq!(run.unpacked.fault, None);
        assert_eq!(fs::read_dir(run.folder.path()).unwrap().count(), 1, "nothing outside");
        assert!(run.unpacked.notes.iter().any(|note| note.contains("logs/hard")), "{:?}", run.unpacked.notes);
    }

    #[test]
    fn h3_a_node_cannot_replace_the_evidence() {
        let run = unpacked_with(
            &tar(&[
                entry("console.log", b"forged"),
                entry("patchset.txt", b"forged"),
                entry("tempest.subunit", b"forged"),
                entry("local.conf", b"HOST_IP=192.0.2.7\n"),
                entry("logs/console.log", b"of the node"),
            ]),
            LIMITS,
            |log_dir| {
                fs::write(log_dir.join("console.log"), "ours").unwrap();
                fs::write(log_dir.join("local.conf"), "ours").unwrap();
                symlink("/tmp", log_dir.join("logs")).unwrap();
            },
            &|| false,
        );
        assert_eq!((run.read("console.log").as_str(), run.read("local.conf").as_str()), ("ours", "ours"));
        assert_eq!(run.files(), ["console.log", "local-2.conf", "local.conf", "logs", "logs-2/console.log"]);
    }

    #[test]
    fn h2_credentials_and_configured_secrets_are_redacted_also_in_compressed_files() {
        let text =
            b"[acme]\nsan_password = hunter2\nnote = configured-secret\nrbd_secret_uuid = 457e\n\xe9\n";
        let run = unpacked(&[
            entry("local.conf", b"ADMIN_PASSWORD=hunter2\n"),
            entry("logs/cinder/cinder.conf", text),
            entry("logs/c-vol.txt.gz", &gzip(b"DEBUG netapp_password = hunter2 x\nconfigured-secret\n")),
        ]);
        assert_eq!(run.read("local.conf"), "ADMIN_PASSWORD=********\n");
        let expected = b"[acme]\nsan_password = ********\nnote = ********\nrbd_secret_uuid = 457e\n\xe9\n";
        assert_eq!(fs::read(run.path("logs/cinder/cinder.conf")).unwrap(), expected);
        assert_eq!(gunzip(&run.path("logs/c-vol.txt.gz")), "DEBUG netapp_password = ******** x\n********\n");
    }

    #[test]
    fn h7_pages_and_hidden_files_do_not_keep_their_names() {
        let run = unpacked(&[
            entry("logs/report.html", b"<script>"),
            entry("logs/x.SVG", b"<svg>"),
            entry("logs/old.html.gz", &gzip(b"<script>")),
            entry("logs/.htaccess", b"Options +ExecCGI"),
            entry("logs/.git/config", b"x"),
        ]);
        assert_eq!(
            run.files(),
            [
                "logs/_git/config",
                "logs/_htaccess",
                "logs/old.html.txt.gz",
                "logs/report.html.txt",
                "logs/x.SVG.txt"
            ]
        );
    }

    /// Apache looks at each ending of a name, in any order.
    #[test]
    fn h7_each_ending_of_a_name_is_judged() {
        let names = [
            ("page.html.en", "page.html.en.txt"),
            ("page.HTML.foo", "page.HTML.foo.txt"),
            ("page.html.gz.gz", "page.html.gz.txt.gz"),
            ("page.xht", "page.xht.txt"),
            ("page.xhtm.1.gz", "page.xhtm.1.txt.gz"),
            ("page.html.txt", "page.html.txt"),
            ("page.txt.html", "page.txt.html.txt"),
            ("run.php", "run_php.txt"),
            ("run.PHP8.txt", "run_PHP8.txt"),
            ("run.log.phtml.1", "run.log_phtml.1.txt"),
            ("run.phar.gz", "run_phar.txt.gz"),
            ("run.cgi.log", "run_cgi.log.txt"),
            ("run.shtml.en", "run_shtml.en.txt"),
            ("run.var", "run_var.txt"),
            ("foo.py.txt", "foo.py.txt"),
            ("etc/x.conf", "etc/x.conf"),
            ("a.html/c-vol.log.1.gz", "a.html/c-vol.log.1.gz"),
            ("html", "html"),
            ("php.ini", "php.ini"),
            ("screen-n-cpu.2026-11-27.txt.gz", "screen-n-cpu.2026-11-27.txt.gz"),
        ];
        for (name, expected) in names {
            let run = unpacked(&[entry(&format!("logs/{name}"), &gzip(b"x"))]);
            assert_eq!(run.files(), [format!("logs/{expected}")], "{name}");
        }
    }

    #[test]
    fn h1_size_count_depth_and_length_of_names_are_bounded() {
        let limits = Limits { total: 100_000, entries: 5, depth: 4 };
        let unpacked = |entries: &[Vec<u8>]| unpacked_with(&tar(entries), limits, |_| {}, &|| false);
        let written =
            |run: &Run| run.files().iter().map(|name| run.path(name).metadata().unwrap().len()).sum::<u64>();
        // A text of zeros is a thousand times smaller when it is compressed, in each of two layers.
        for content in [vec![b'\n'; 10_000_000], vec![0; 10_000_000]] {
            let run = unpacked(&[entry("logs/plain", &content), entry("logs/after", b"x")]);
            assert!(written(&run) <= limits.total + 100, "{}", written(&run));
            let run = unpacked(&[entry("logs/bomb.txt.gz", &gzip(&content)), entry("logs/after", b"x")]);
            assert!(written(&run) <= limits.total + 100, "{}", written(&run));
            assert_eq!(run.files(), ["logs/bomb.txt.gz"]);
            assert!(
                run.unpacked.notes.iter().any(|note| note.contains("was cut")),
                "{:?}",
                run.unpacked.notes
            );
        }
        let run = unpacked(&(0..10).map(|n| entry(&format!("logs/{n}"), b"x")).collect::<Vec<_>>());
        assert_eq!(run.files().len(), 5);
        let long = format!("logs/{}", "x".repeat(201));
        let run =
            unpacked(&[entry("logs/a/b/c/d", b"x"), pax(&long), entry("x", b"x"), entry("logs/a/b/c", b"x")]);
        assert_eq!(run.files(), ["logs/a/b/c"]);
        let run = unpacked_with(&tar(&[entry("logs/a", b"x")]), LIMITS, |_| {}, &|| true);
        assert!(
            run.files().is_empty() && run.unpacked.notes[0].contains("limit"),
            "{:?}",
            run.unpacked.notes
        );
    }

    #[test]
    fn a_name_that_comes_twice_keeps_the_first_and_long_names_are_read() {
        let long = format!("logs/{}/{}", "a".repeat(150), "é".repeat(80));
        let gnu = |name: &str| entry_of("././@LongLink", b'L', format!("{name}\0").as_bytes());
        let run = unpacked(&[
            entry("logs/a", b"first"),
            entry("logs/a", b"second"),
            entry("logs/a/b", b"below a file"),
            pax(&long),
            entry("logs/aaa", b"pax"),
            gnu(&format!("{long}-gnu")),
            entry("logs/aaa", b"gnu"),
        ]);
        assert_eq!((run.read("logs/a").as_str(), run.read(&long).as_str()), ("first", "pax"));
        assert_eq!(run.read(&format!("{long}-gnu")), "gnu");
        assert_eq!(run.files().len(), 3);
    }

    #[test]
    fn a_broken_archive_is_unpacked_as_far_as_it_is_whole() {
        let whole = tar(&[entry("logs/a", b"first"), entry("logs/b", &[7; 100_000])]);
        let plain = [entry("logs/a", b"first"), b"garbage that is no header".repeat(100)].concat();
        for archive in [&whole[..whole.len() / 2], &gzip(&plain), b"", b"no gzip at all", &gzip(b"")] {
            let run = unpacked_with(archive, LIMITS, |_| {}, &|| false);
            assert!(run.unpacked.fault.is_some_and(|fault| fault.contains("broken")));
        }
        assert_eq!(unpacked_with(&gzip(&plain), LIMITS, |_| {}, &|| false).files(), ["logs/a"]);
        let half = gzip(b"a line\n");
        let run = unpacked(&[entry("logs/half.txt.gz", &half[..half.len() - 8]), entry("logs/after", b"x")]);
        assert_eq!((&run.unpacked.fault, run.unpacked.notes.len()), (&None, 1));
        assert_eq!(gunzip(&run.path("logs/half.txt.gz")), "a line\n");
        assert_eq!(run.read("logs/after"), "x");
    }

    #[test]
    fn an_archive_that_is_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path(), "node");
        let target = folder.path().join("target");
        fs::write(&target, tar(&[entry("logs/a", b"not the node's")])).unwrap();
        let before = fs::read(&target).unwrap();
        symlink(&target, &archive).unwrap();
        let (secrets, credentials) =
            (Redactor::new(&Default::default()).unwrap(), CredentialFilter::new().unwrap());
        let filters = Filters { secrets: &secrets, credentials: &credentials };
        let [(_, unpacked)] =
            &unpack_all(folder.path(), &["node".into(), "other".into()], "1", filters, &|| false)[..]
        else {
            panic!("one archive")
        };
        assert!(unpacked.fault.is_some() && archive.symlink_metadata().is_err());
        assert_eq!(fs::read(&target).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was unpacked");
    }
}
