//! Infrastructure failures that are recognised by what a failed stage printed: the key `retry_when` of a stage.

use regex::{Regex, RegexBuilder};

use crate::error::{Error, ErrorKind, Result};
use crate::run::TestCounts;
use crate::text::{cut, short_line};

/// The element of `retry_when` that stands for [`DEFAULT_RETRY_PATTERNS`].
pub const DEFAULTS: &str = "defaults";

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 1000;
/// The largest compiled pattern, in bytes. Patterns come from people: `(\w{100}){100}` has ten mebibytes.
const MAX_COMPILED: usize = 512 << 10;
/// How much of a line is searched, in bytes.
const MAX_LINE: usize = 2000;
/// How much of the text that a pattern matched is shown, in bytes.
const MAX_SHOWN: usize = 160;
/// The name of what a pattern of the configuration matched.
const OWN: &str = "retry_when";

/// Lines that say that the infrastructure failed: what is at fault, and a regular expression that is searched in each
/// line. A pattern names what only the way to a server outside of the node, or the node itself, can cause. Requests
/// from a test to the services under test fail in similar words: their hosts are addresses, and their paths differ from
/// those of package servers.
pub const DEFAULT_RETRY_PATTERNS: &[(&str, &str)] = &[
    ("name lookup", r"Could not resolve host(?:name)?\b|Temporary failure in name resolution"),
    ("name lookup", r"Temporary failure resolving '|[Uu]nable to resolve host address"),
    (
        "git server",
        r"(?:^|\s)fatal: unable to access '[^']*': (?:Failed to connect|The requested URL returned error: (?:429|5\d\d)|[Cc]onnection |Operation timed out|Empty reply|Recv failure|Send failure|GnuTLS|gnutls|OpenSSL|SSL|server certificate|transfer closed)",
    ),
    (
        "git server",
        r"(?:^|\s)fatal: (?:[Tt]he remote end hung up|early EOF|[Cc]ould not read from remote repository|unable to connect to |read error: |unable to look up |protocol error: |fetch-pack: )",
    ),
    ("git server", r"(?:^|\s)error: RPC failed; |(?:^|\s)error: \d+ bytes of body are still expected"),
    (
        "git server",
        r"(?:^|\s)fatal: invalid object name 'origin/|(?:^|\s)fatal: Remote branch \S+ not found in upstream|(?:^|\s)fatal: couldn't find remote ref ",
    ),
    ("git server", r"git call failed: \[git (?:clone|fetch|remote update)\b"),
    (
        "node of another kind",
        r"\[ERROR\] \S+:\d+ (?:If you wish to run this script anyway run with FORCE=yes|Could not determine host ip address\.)",
    ),
    ("leftovers on the node", r"(?:^|\s)fatal: detected dubious ownership in repository"),
    (
        "package index",
        r"HTTPS?ConnectionPool\(host='[^']+', port=\d+\): (?:Max retries exceeded with url: |Read timed out.*)/?(?:[\w.~-]+/)*(?:simple|packages|constraints|wheels?)/",
    ),
    (
        "package index",
        r"\bpip\._vendor\.\S*(?:ReadTimeoutError|ConnectTimeoutError|NewConnectionError|MaxRetryError|ProtocolError|IncompleteRead|SSLError|ConnectionError|ChunkedEncodingError)\b",
    ),
    ("package index", r"WARNING: Retrying \(Retry\(total=0\b"),
    (
        "package index",
        r"(?:^|\s)ERROR: (?:HTTP error )?(?:429|5\d\d) .*https?://\S+/(?:simple|packages|constraints|wheels?)/",
    ),
    ("package mirror", r"(?:^|\s)E: ?Failed to fetch |(?:^|\s)E: ?Unable to fetch some archives"),
    ("package mirror", r"Hash Sum mismatch|Mirror sync in progress\?"),
    (
        "package mirror",
        r"(?:^|\s)E: ?The repository '[^']*' (?:does not have|no longer has|does no longer have) a Release file",
    ),
    ("package mirror", r"Failed to update apt cache|Failed to lock apt for exclusive operation"),
    ("package mirror", r"Failed to download metadata for repo|All mirrors were tried"),
    (
        "packages of the node",
        r"(?:^|\s)E: ?(?:Could not get lock|Unable to acquire the dpkg|Unable to lock directory)",
    ),
    ("packages of the node", r"(?:^|\s)E: ?dpkg was interrupted"),
    (
        "service of the node",
        r"(?:^|\s)Job for (?:iscsid|multipathd|tgt|rabbitmq-server|mariadb|mysqld?|postgresql|memcached|libvirtd|openvswitch-switch|docker)\.service (?:failed|canceled)",
    ),
    ("disk of the node", r"No space left on device|\[Errno 28\]|Disk quota exceeded|Read-only file system"),
    ("disk of the node", r"You don't have enough free space in /var/cache/apt"),
    ("download", r"curl: \(6\) |curl: \(7\) Failed to connect to (?:[\w-]+\.)+[a-z]{2,}\b"),
    (
        "download",
        r"curl: \((?:28|35|56)\) .*(?:timed out|[Tt]imeout|reset by peer|SSL_ERROR|TLS|SSL connect)",
    ),
    ("download", r"\d\d:\d\d:\d\d ERROR (?:429|50[0234]): "),
    ("download", r"^Connecting to \S+ \([^)]+\)\|.*failed: (?:Connection|No route|Network)"),
    ("rate limit", r"\b429\b.{0,30}Too Many Requests|The requested URL returned error: 429|HTTP Error 429\b"),
    ("rate limit", r"\btoomanyrequests: |API rate limit exceeded"),
];

/// The patterns of one stage, compiled. Made when a stage has failed and dropped after the search: compiled patterns
/// take some mebibytes.
#[derive(Debug)]
pub struct RetryPatterns(Vec<(&'static str, Regex)>);

impl RetryPatterns {
    /// How many patterns a stage may have.
    pub const MAX: usize = 64;

    /// Compiles the patterns of a stage (`Stage::retry_when`).
    ///
    /// The defaults are left out when the stage left failed tests: what a failing test prints is the patch's. Patterns
    /// of the configuration count in any case.
    ///
    /// # Errors
    /// Permanent, of kind `Config`: a pattern that [`check_pattern`](Self::check_pattern) refuses, or more than 64.
    pub fn compile(patterns: &[String], tests: Option<TestCounts>) -> Result<Self> {
        if patterns.len() > Self::MAX {
            let message = "`retry_when` has more than 64 patterns; join some with |";
            return Err(Error::permanent(ErrorKind::Config, message));
        }
        let tests_failed = tests.is_some_and(|tests| tests.failed > 0);
        let mut compiled = Vec::new();
        for pattern in patterns {
            if pattern != DEFAULTS {
                compiled.push((OWN, compile(pattern)?));
            } else if !tests_failed {
                for (name, pattern) in DEFAULT_RETRY_PATTERNS {
                    compiled.push((name, compile(pattern)?));
                }
            }
        }
        Ok(Self(compiled))
    }

    /// Whether a pattern of a configuration can be used.
    ///
    /// # Errors
    /// Permanent, of kind `Config`, in one line: it does not compile, is too long or too large, or matches the empty
    /// text, and so every line.
    pub fn check_pattern(pattern: &str) -> Result<()> {
        if pattern == DEFAULTS { Ok(()) } else { compile(pattern).map(|_| ()) }
    }

    /// What in these lines says that the infrastructure failed, as `git server: "fatal: early EOF"`. The last line
    /// that matches is the one that is told. The text comes from the node: the caller redacts it.
    pub fn recognise<'a>(&self, lines: impl DoubleEndedIterator<Item = &'a str>) -> Option<String> {
        lines.rev().find_map(|line| {
            let line = cut(line, MAX_LINE);
            let (name, found) =
                self.0.iter().find_map(|(name, pattern)| Some((name, pattern.find(line)?)))?;
            // The line from the match on: a match is often only the beginning of the message.
            let shown = short_line(line.get(found.start()..)?, MAX_SHOWN);
            Some(format!("{name}: {shown:?}"))
        })
    }
}

fn compile(pattern: &str) -> Result<Regex> {
    let fail = |problem: String| Err(Error::permanent(ErrorKind::Config, problem));
    if pattern.len() > MAX_PATTERN {
        return fail(format!("a pattern of more than {MAX_PATTERN} characters; write several"));
    }
    let mut builder = RegexBuilder::new(pattern);
    match builder.size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build() {
        Ok(compiled) if compiled.is_match("") => fail(format!(
            "pattern {pattern:?} matches the empty line, and so every failure; make it match less"
        )),
        Ok(compiled) => Ok(compiled),
        Err(regex::Error::CompiledTooBig(_)) => {
            fail(format!("pattern {pattern:?} is too large when compiled; repeat less"))
        }
        Err(error) => {
            // The regex crate draws its error over several lines: the last one says what is wrong.
            let text = error.to_string();
            let text = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&text);
            fail(format!("pattern {pattern:?} does not compile: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each default pattern, in its order: lines that it must match, and lines that no default may match.
    const EXAMPLES: &[(&[&str], &[&str])] = &[
        (
            &[
                "fatal: unable to access 'https://opendev.org/openstack/nova.git/': Could not resolve host: opendev.org",
                "curl: (6) Could not resolve host: releases.openstack.org",
                "ssh: Could not resolve hostname review.opendev.org: Temporary failure in name resolution",
                "  Failed to establish a new connection: [Errno -3] Temporary failure in name resolution",
            ],
            &[
                "cinder.exception.InvalidInput: could not resolve the host of the pool",
                "resolving host names is disabled",
            ],
        ),
        (
            &[
                "  Temporary failure resolving 'archive.ubuntu.com'",
                "wget: unable to resolve host address 'github.com'",
                "wget: unable to resolve host address ‘tarballs.opendev.org’",
            ],
            &["sudo: unable to resolve host devstack-1: Name or service not known"],
        ),
        (
            &[
                "fatal: unable to access 'https://opendev.org/openstack/cinder.git/': Failed to connect to opendev.org port 443 after 130433 ms: Connection timed out",
                "fatal: unable to access 'https://opendev.org/openstack/keystone/': The requested URL returned error: 503",
                "fatal: unable to access 'https://opendev.org/openstack/nova/': GnuTLS recv error (-110): The TLS connection was non-properly terminated.",
                "fatal: unable to access 'https://opendev.org/openstack/nova/': server certificate verification failed. CAfile: none CRLfile: none",
            ],
            &[
                "fatal: unable to access 'https://opendev.org/openstack/no-such-plugin/': The requested URL returned error: 404",
                "fatal: repository 'https://opendev.org/openstack/no-such-plugin/' not found",
            ],
        ),
        (
            &[
                "fatal: the remote end hung up unexpectedly",
                "fatal: The remote end hung up unexpectedly",
                "fatal: early EOF",
                "fatal: Could not read from remote repository.",
                "fatal: unable to connect to git.lab.example.org:",
                "fatal: read error: Connection reset by peer",
                "fatal: fetch-pack: invalid index-pack output",
                "Failed to download remote objects and refs:  fatal: the remote end hung up unexpectedly",
            ],
            &[
                "fatal: not a git repository (or any of the parent directories): .git",
                "fatal: bad object 0123456789012345678901234567890123456789",
                "fatal: ambiguous argument 'HEAD~': unknown revision or path not in the working tree.",
            ],
        ),
        (
            &[
                "error: RPC failed; curl 92 HTTP/2 stream 0 was not closed cleanly: CANCEL (err 8)",
                "error: RPC failed; HTTP 504 curl 22 The requested URL returned error: 504",
                "error: 3472 bytes of body are still expected",
            ],
            &[
                "oslo_messaging.rpc.client.RemoteError: RPC failed; see the log of cinder-volume",
                "error: pathspec 'x' did not match any file(s) known to git",
            ],
        ),
        (
            &[
                "fatal: invalid object name 'origin/master'.",
                "fatal: Remote branch stable/2026.2 not found in upstream origin",
                "fatal: couldn't find remote ref stable/2025.1",
            ],
            &["fatal: invalid object name 'HEAD~1'.", "fatal: bad revision 'origin/master'"],
        ),
        (
            &[
                "[ERROR] /opt/stack/devstack/functions-common:709 git call failed: [git clone https://opendev.org/openstack/keystone.git /opt/stack/keystone --branch master]",
                "[ERROR] /opt/stack/devstack/functions-common:709 git call failed: [git fetch origin master]",
            ],
            &[
                "[ERROR] /opt/stack/devstack/functions-common:709 git call failed: [git checkout no-such-branch]",
                "[ERROR] /opt/stack/devstack/lib/cinder:597 c-api did not start",
            ],
        ),
        (
            &[
                "[ERROR] ./stack.sh:237 If you wish to run this script anyway run with FORCE=yes",
                "[ERROR] /opt/stack/devstack/stackrc:885 Could not determine host ip address. See local.conf for suggestions on setting HOST_IP.",
            ],
            &[
                "WARNING: this script has not been tested on noble",
                "tooz.coordination.ToozError: Could not determine host ip address",
            ],
        ),
        (
            &["fatal: detected dubious ownership in repository at '/opt/stack/cinder'"],
            &["fatal: could not create work tree dir '/opt/stack/cinder': Permission denied"],
        ),
        (
            &[
                "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='releases.openstack.org', port=443): Max retries exceeded with url: /constraints/upper/master (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))",
                "ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='pypi.example.org', port=443): Max retries exceeded with url: /simple/os-brick/ (Caused by ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 503 Service Unavailable')))",
                "HTTPConnectionPool(host='mirror.lab.example.org', port=8080): Max retries exceeded with url: /pypi/simple/pbr/",
                "ERROR: HTTPSConnectionPool(host='files.example.org', port=443): Max retries exceeded with url: /packages/ab/cd/pbr-6.1.0-py2.py3-none-any.whl",
            ],
            &[
                "requests.exceptions.ConnectionError: HTTPConnectionPool(host='10.0.0.5', port=80): Max retries exceeded with url: /volume/v3/0123/volumes (Caused by NewConnectionError(': Failed to establish a new connection: [Errno 111] Connection refused'))",
                "    urllib3.exceptions.MaxRetryError: HTTPSConnectionPool(host='192.0.2.7', port=443): Max retries exceeded with url: /api/2.0/login",
                "urllib3.exceptions.ReadTimeoutError: HTTPConnectionPool(host='10.0.0.5', port=80): Read timed out. (read timeout=60)",
                "Failed to discover available identity versions when contacting http://10.0.0.5/identity. Attempting to parse version from URL.",
            ],
        ),
        (
            &[
                "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files.example.org', port=443): Read timed out.",
                "pip._vendor.urllib3.exceptions.ProtocolError: ('Connection broken: IncompleteRead(8192 bytes read, 1024 more expected)', IncompleteRead(8192 bytes read, 1024 more expected))",
                "pip._vendor.requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
            ],
            &[
                "pip._vendor.packaging.requirements.InvalidRequirement: Expected end or semicolon (after name and no valid version specifier)",
                "pip._internal.exceptions.InstallationSubprocessError: python setup.py egg_info exited with 1",
                "http.client.IncompleteRead: IncompleteRead(10 bytes read)",
            ],
        ),
        (
            &[
                "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object>: Failed to establish a new connection')': /simple/os-brick/",
            ],
            &[
                "WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by 'ReadTimeoutError': /simple/pbr/",
            ],
        ),
        (
            &[
                "ERROR: HTTP error 503 while getting https://files.example.org/packages/aa/bb/pbr-6.1.0.tar.gz",
                "ERROR: 502 Server Error: Bad Gateway for url: https://pypi.example.org/simple/pbr/",
            ],
            &[
                "ERROR: Could not find a version that satisfies the requirement os-brick>=99.0 (from cinder) (from versions: 6.0.0, 6.1.0)",
                "ERROR: No matching distribution found for os-brick>=99.0",
                "ERROR: Cannot install cinder and oslo.config>=9 because these package versions have conflicting dependencies.",
                "requests.exceptions.HTTPError: 500 Server Error: Internal Server Error for url: http://10.0.0.5/volume/v3/",
                "ERROR: 404 Client Error: Not Found for url: https://pypi.example.org/simple/no-such-thing/",
            ],
        ),
        (
            &[
                "E: Failed to fetch http://archive.ubuntu.com/ubuntu/pool/main/q/qemu/qemu-system_8.2.deb  404  Not Found [IP: 192.0.2.4 80]",
                "E: Failed to fetch http://deb.example.org/debian/dists/bookworm/InRelease  Could not connect to deb.example.org:80 (192.0.2.9), connection timed out",
                "'/usr/bin/apt-get -y install git' failed: E: Failed to fetch http://deb.example.org/debian/pool/main/g/git.deb  503",
                "E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?",
            ],
            &[
                "E: Unable to locate package qemu-kvm",
                "E: Package 'python-dev' has no installation candidate",
                "E: Sub-process /usr/bin/dpkg returned an error code (1)",
            ],
        ),
        (
            &[
                "   Hash Sum mismatch",
                "   File has unexpected size (1234 != 5678). Mirror sync in progress? [IP: 192.0.2.4 80]",
            ],
            &["cinder.exception.ImageCopyFailure: checksum mismatch of the image"],
        ),
        (
            &[
                "E: The repository 'http://archive.ubuntu.com/ubuntu noble Release' does not have a Release file.",
                "E: The repository 'http://deb.example.org/debian bullseye-backports Release' no longer has a Release file.",
            ],
            &["E: The list of sources could not be read."],
        ),
        (
            &[
                "Failed to update apt cache: E:The repository is not signed.",
                "Failed to lock apt for exclusive operation: Failed to lock directory /var/lib/apt/lists/",
            ],
            &["No package matching 'no-such-package' is available"],
        ),
        (
            &[
                "Error: Failed to download metadata for repo 'appstream': Cannot prepare internal mirrorlist",
                "[MIRROR] x.rpm: All mirrors were tried",
            ],
            &["Error: Unable to find a match: no-such-package"],
        ),
        (
            &[
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1234 (unattended-upgr)",
                "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
                "E: Unable to lock directory /var/lib/apt/lists/",
            ],
            &["oslo_concurrency.lockutils: Could not get lock cinder-volume_create"],
        ),
        (
            &[
                "E: dpkg was interrupted, you must manually run 'sudo dpkg --configure -a' to correct the problem.",
            ],
            &["dpkg: error processing package rabbitmq-server (--configure):"],
        ),
        (
            &[
                "Job for iscsid.service failed because the service did not take the steps required by its unit configuration.",
                "Job for rabbitmq-server.service failed because the control process exited with error code.",
                "Job for mariadb.service failed because a timeout was exceeded.",
            ],
            &[
                "Job for devstack@c-vol.service failed because the control process exited with error code.",
                "Job for apache2.service failed because the control process exited with error code.",
            ],
        ),
        (
            &[
                "tar: /opt/stack/data/x: Cannot write: No space left on device",
                "OSError: [Errno 28] No space left on device",
                "mkdir: cannot create directory '/opt/stack/x': Disk quota exceeded",
                "mount: /sys: Read-only file system",
            ],
            &[
                "cinder.exception.InsufficientFreeSpace: no space left in pool lvm-1",
                "VolumeSizeExceedsAvailableQuota: Requested volume exceeds allowed gigabytes quota.",
            ],
        ),
        (
            &["E: You don't have enough free space in /var/cache/apt/archives/."],
            &["After this operation, 512 MB of additional disk space will be used."],
        ),
        (
            &[
                "curl: (6) Could not resolve proxy: proxy.example.org",
                "curl: (7) Failed to connect to github.com port 443 after 131 ms: Connection refused",
            ],
            &[
                "curl: (7) Failed to connect to 10.0.0.5 port 8776 after 0 ms: Connection refused",
                "curl: (7) Failed to connect to localhost port 80: Connection refused",
                "curl: (22) The requested URL returned error: 500",
            ],
        ),
        (
            &[
                "curl: (28) Operation timed out after 300000 milliseconds with 0 out of 0 bytes received",
                "curl: (28) Connection timed out after 300100 milliseconds",
                "curl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to github.com:443",
                "curl: (56) Recv failure: Connection reset by peer",
            ],
            &["curl: (52) Empty reply from server", "curl: (3) URL using bad/illegal format or missing URL"],
        ),
        (
            &[
                "2026-11-26 09:14:02 ERROR 503: Service Unavailable.",
                "2026-11-26 09:14:02 ERROR 502: Bad Gateway.",
            ],
            &[
                "2026-11-26 09:14:02 ERROR 404: Not Found.",
                "2026-11-26 09:14:02.123 4711 ERROR cinder.volume.manager [-] 503",
            ],
        ),
        (
            &[
                "Connecting to github.com (github.com)|192.0.2.3|:443... failed: Connection timed out.",
                "Connecting to tarballs.opendev.org (tarballs.opendev.org)|192.0.2.4|:443... failed: No route to host.",
            ],
            &[
                "Connecting to database (mysql+pymysql)... failed: Connection refused",
                "Connecting to the array... failed",
            ],
        ),
        (
            &[
                "HTTP error 429 Too Many Requests",
                "requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: https://api.github.com/x",
                "urllib.error.HTTPError: HTTP Error 429: Too Many Requests",
                "fatal: unable to access 'https://github.com/x/': The requested URL returned error: 429",
            ],
            &[
                "volume 429 has too many snapshots",
                "tempest.lib.exceptions.OverLimit: Request entity is too large",
                "test_429 [0.1s] ... ok",
            ],
        ),
        (
            &[
                "toomanyrequests: You have reached your pull rate limit.",
                "{\"message\":\"API rate limit exceeded for 192.0.2.9.\"}",
            ],
            &["the rate limit of the volume type is 100 IOPS"],
        ),
    ];

    fn defaults() -> RetryPatterns {
        RetryPatterns::compile(&[DEFAULTS.to_owned()], None).unwrap()
    }

    #[test]
    fn each_default_pattern_matches_its_lines_and_no_default_matches_what_a_patch_causes() {
        assert_eq!(EXAMPLES.len(), DEFAULT_RETRY_PATTERNS.len());
        let all = defaults();
        for ((name, pattern), (infrastructure, patch)) in DEFAULT_RETRY_PATTERNS.iter().zip(EXAMPLES) {
            let one = compile(pattern).unwrap();
            assert!(!infrastructure.is_empty() && !patch.is_empty(), "{pattern}");
            for line in *infrastructure {
                assert!(one.is_match(line), "{name}: {pattern}\n{line}");
                assert!(all.recognise([*line].into_iter()).is_some(), "{line}");
            }
            for line in *patch {
                assert_eq!(all.recognise([*line].into_iter()), None, "{line}");
            }
        }
    }

    #[test]
    fn the_last_line_that_matches_is_told_with_its_kind() {
        let lines = ["fatal: early EOF", "E: Failed to fetch http://x/y  503", "Error on exit"];
        let told = defaults().recognise(lines.into_iter());
        assert_eq!(told.as_deref(), Some(r#"package mirror: "E: Failed to fetch http://x/y  503""#));
        let own = RetryPatterns::compile(&["array .* is offline".to_owned()], None).unwrap();
        let told = own.recognise(["x: array a7 is offline since today"].into_iter());
        assert_eq!(told.as_deref(), Some(r#"retry_when: "array a7 is offline since today""#));
        assert_eq!(own.recognise(lines.into_iter()), None, "the list replaces the defaults");
    }

    #[test]
    fn failed_tests_leave_out_the_defaults_but_not_the_patterns_of_the_lab() {
        let patterns = [DEFAULTS.to_owned(), "array offline".to_owned()];
        let failed = RetryPatterns::compile(&patterns, Some(TestCounts::new(1, 1, 0))).unwrap();
        assert_eq!(failed.recognise(["No space left on device"].into_iter()), None);
        assert!(failed.recognise(["array offline"].into_iter()).is_some());
        let passed = RetryPatterns::compile(&patterns, Some(TestCounts::new(2, 0, 0))).unwrap();
        assert!(passed.recognise(["No space left on device"].into_iter()).is_some());
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_refused_in_one_line() {
        for (pattern, problem) in [
            ("(", "unclosed group"),
            ("a*", "matches the empty line"),
            ("", "matches the empty line"),
            (r"(\w{100}){100}", "too large"),
            (r"(?<=x)y", "look-around"),
            (&"x".repeat(1001), "more than 1000"),
        ] {
            let error = RetryPatterns::check_pattern(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(problem) && !error.message().contains('\n'), "{error}");
        }
        assert!(RetryPatterns::check_pattern(DEFAULTS).is_ok());
        assert!(RetryPatterns::compile(&vec!["x".to_owned(); 65], None).is_err());
    }

    #[test]
    fn a_hostile_line_takes_bounded_time() {
        let line = "HTTPSConnectionPool(host='a', port=1): Max retries exceeded with url: /".to_owned()
            + &"a/".repeat(1 << 20)
            + "é";
        let lines = vec![line.as_str(); 200];
        let began = std::time::Instant::now();
        assert_eq!(defaults().recognise(lines.into_iter()), None);
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
