//! A published run in a real browser, through the dashboard's own web server.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use pushbutton_testbed::{browser, until};

use crate::handler::TIMEOUT;
use crate::history::{free_port, get};
use crate::lab::{Lab, Running};

#[allow(dead_code, missing_docs, unreachable_pub, reason = "an example that is a program of its own")]
#[path = "../../../pushbutton-results/examples/sample_pages.rs"]
mod sample_pages;

/// Does something that no text of a page says, should a browser run it.
const SCRIPT: &str = "<script>document.body.append('it was ' + 'run')</script>";

struct Browser {
    program: std::path::PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    /// The document at this address as the browser has it, after it was loaded.
    fn open(&self, url: &str) -> String {
        let document = self.load(url).unwrap_or_else(|why| panic!("{url}: {why}"));
        assert!(!document.contains("it was run"), "a script of {url} was run:\n{document}");
        document
    }

    /// The document, or what the browser says where there is none.
    fn load(&self, url: &str) -> Result<String, String> {
        let output = Command::new("timeout")
            .arg("120")
            .arg(&self.program)
            // Chromium's own sandbox cannot be set up by root.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .arg(url)
            .env("HOME", self.profile.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }
}

/// The target of the link with this text.
fn target<'d>(document: &'d str, text: &str) -> &'d str {
    let end =
        document.find(&format!("\">{text}</a>")).unwrap_or_else(|| panic!("no link {text:?}:\n{document}"));
    document[..end].rsplit_once("<a href=\"").unwrap().1
}

/// The element with this id, from its begin to the end of its name.
fn element<'d>(document: &'d str, id: &str, name: &str) -> &'d str {
    let begin = format!("<{name} id=\"{id}\"");
    let at = document.find(&begin).unwrap_or_else(|| panic!("no {begin}:\n{document}"));
    document[at..].split(&format!("</{name}>")).next().unwrap()
}

fn write_gzipped(path: &Path, text: &str) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    std::fs::write(path, encoder.finish().unwrap()).unwrap();
}

#[test]
fn a_browser_shows_a_published_run_its_failed_test_its_console_and_its_gzipped_logs() {
    let browser = Browser { program: browser(), profile: tempfile::tempdir().unwrap() };
    let (lab, port) = (Lab::new(), free_port());
    lab.configure(&format!(
        "owner: lab\nstate: state\nlogs: {{dir: logs}}\nweb: {{listen: \"127.0.0.1:{port}\"}}\n"
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = runtime.block_on(sample_pages::write_sample(lab.path("logs"))).unwrap();
    // What a node has sent is text for a browser, whatever it holds and is called.
    let log = format!("2026-11-23 DEBUG cinder.volume {SCRIPT} &amp; the last line\n");
    write_gzipped(&run.join("logs/c-vol.txt.gz"), &log);
    std::fs::write(run.join("logs/report.html"), &log).unwrap();
    write_gzipped(&run.join("logs/console.html.gz"), &log);
    std::fs::write(run.join("tempest.subunit"), b"\xb3\0 binary content").unwrap();
    let dashboard = Running::start(&mut lab.command(&["dashboard"]));
    until("the dashboard answers", TIMEOUT, || get(port, "/healthz"));
    let path = run.strip_prefix(lab.path("logs")).unwrap().display().to_string();
    let at = |file: &str| format!("http://127.0.0.1:{port}/logs/{path}/{}", file.trim_start_matches("./"));

    let index = browser.open(&at(""));
    assert!(index.contains("<span class=\"badge bad\">FAILURE</span> cinder-tempest"), "{index}");
    let test = "tempest.api.volume.test_volumes_get.VolumesGetTest.test_volume_create_get_update_delete";
    // The failed test leads to its row among the results, with what it said.
    let link = target(&index, &format!("{test}[id-07fc1e3a]"));
    let (page, anchor) = link.split_once('#').unwrap();
    assert_eq!(page, "./testr_results.html.gz");
    let row = element(&browser.open(&at(link)), anchor, "tr").to_owned();
    assert!(
        row.contains(&format!("{test}[id-07fc1e3a]")) && row.contains("VolumeResourceBuildErrorException"),
        "{row}"
    );
    // And to the line of the console that names it.
    let row = index.split(&format!("{test}[id-07fc1e3a]</a>")).nth(1).unwrap();
    let (page, anchor) =
        row.split("<a href=\"").nth(1).unwrap().split_once('"').unwrap().0.split_once('#').unwrap();
    assert_eq!(page, "./console.html.gz");
    let console = browser.open(&at(&format!("{page}#{anchor}")));
    let line = element(&console, anchor, "span");
    assert!(line.contains(&format!("{test} [71.400000s] ... FAILED")), "{line}");
    let lines = std::fs::read_to_string(run.join("console.log")).unwrap().lines().count();
    assert_eq!(console.matches("<span id=\"L").count(), lines, "all lines of the console are there");

    // A gzipped log is unpacked by the browser, and shown in the window.
    let shown = log.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    assert_eq!(target(&index, "logs/c-vol.txt.gz"), "./logs/c-vol.txt.gz");
    for file in ["logs/c-vol.txt.gz", "logs/c-vol.txt", "logs/report.html", "logs/console.html.gz"] {
        let document = browser.open(&at(file));
        let text = document.split_once("<pre").map_or("", |(_, rest)| rest);
        let text = text.split_once('>').unwrap_or_default().1.split("</pre>").next().unwrap();
        assert_eq!(text, shown, "{file}:\n{document}");
    }
    // What is no text is a download: there is no page to show.
    let why = browser.load(&at("tempest.subunit")).unwrap_err();
    assert!(why.contains("net::ERR_ABORTED"), "{why}");
    dashboard.signal("-TERM");
    assert_eq!(dashboard.ends().0.code(), Some(0));
}
