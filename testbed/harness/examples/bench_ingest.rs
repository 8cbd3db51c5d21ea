//! Streams events from a real sshd through `pushbutton-bin handler` into RabbitMQ, beside the same stream read by the
//! plain OpenSSH client. Prints events/s, CPU per event and memory of both, and their ratio.
//!
//!     bench_ingest PATH-OF-PUSHBUTTON-BIN     (BENCH_EVENTS, BENCH_ROUNDS and BENCH_JOBS_PER_1000 vary it)

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measuring program stops at what it cannot do, and prints"
)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pushbutton_testbed::{Sshd, SshdOptions, Version, rabbitmq};

/// The change of the last event: its job tells that all before it are on the queue.
const LAST: u64 = 99_999_999;

struct Figures {
    took: Duration,
    cpu: Duration,
    peak_kib: u64,
}

fn main() {
    let binary = PathBuf::from(std::env::args().nth(1).expect("usage: bench_ingest PATH-OF-PUSHBUTTON-BIN"));
    let (events, rounds, jobs) =
        (setting("BENCH_EVENTS", 100_000), setting("BENCH_ROUNDS", 3), setting("BENCH_JOBS_PER_1000", 20));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stream = folder.path().join("stream.jsonl");
    let bytes = write_stream(&stream, events, jobs);
    let forced = format!(
        "case \"$SSH_ORIGINAL_COMMAND\" in *stream-events*) cat {}; exec sleep infinity;; *query*) echo '{{\"type\":\"stats\",\"rowCount\":0}}';; \
         *version*) echo gerrit version 3.10.2;; esac",
        stream.display()
    );
    let sshd = Sshd::start(&SshdOptions { forced_command: Some(forced), ..SshdOptions::default() });
    let broker = rabbitmq(Version::V3);
    println!(
        "{events} events of {} bytes on average, {jobs} of 1000 call for a job; medians of {rounds} rounds",
        bytes / events
    );
    let (mut plain, mut handler) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        plain.push(read_plainly(&sshd, events));
        handler.push(through_handler(&binary, &sshd, &broker.url, folder.path(), round));
    }
    let plain = show("ssh client", events, &mut plain);
    let ours = show("handler", events, &mut handler);
    println!("handler / ssh client: {:.2} of its events/s", ours / plain);
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Events as Gerrit 3.10 sends them. Most are comments that call for nothing.
fn write_stream(path: &Path, events: u64, jobs_per_1000: u64) -> u64 {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("the stream's file"));
    let mut bytes = 0;
    for n in 0..events {
        let last = n + 1 == events;
        let wanted = last || n % 1000 < jobs_per_1000;
        let change = if last { LAST } else { 1_000_000 + n };
        let text = if wanted { "recheck" } else { "Looks good to me, one question inline." };
        let line = event(change, text);
        bytes += line.len() as u64;
        file.write_all(line.as_bytes()).expect("room on the disk");
    }
    file.flush().expect("room on the disk");
    bytes
}

fn event(change: u64, text: &str) -> String {
    let person = |name: &str| {
        format!(r#"{{"name":"{name} Example","email":"{name}@example.org","username":"{name}"}}"#)
    };
    let (alice, bob) = (person("alice"), person("bob"));
    let revision = format!("{change:040x}");
    let mut line = String::with_capacity(1200);
    let _ = writeln!(
        line,
        r#"{{"author":{bob},"approvals":[{{"type":"Code-Review","description":"Code-Review","value":"0"}},{{"type":"Verified","description":"Verified","value":"0"}},{{"type":"Workflow","description":"Workflow","value":"0"}}],"comment":"Patch Set 1:\n\n{text}","patchSet":{{"number":1,"revision":"{revision}","parents":["{revision}"],"ref":"refs/changes/{:02}/{change}/1","uploader":{alice},"createdOn":1795435000,"author":{alice},"kind":"REWORK","sizeInsertions":12,"sizeDeletions":3}},"change":{{"project":"openstack/cinder","branch":"master","id":"I{revision}","number":{change},"subject":"Acme driver: retry a failed attach once more","owner":{alice},"url":"http://review.example.org/c/openstack/cinder/+/{change}","commitMessage":"Acme driver: retry a failed attach once more\n\nThe array answers busy while it rebuilds.\n\nChange-Id: I{revision}\n","createdOn":1795435000,"status":"NEW"}},"project":"openstack/cinder","refName":"refs/heads/master","changeKey":{{"key":"I{revision}"}},"type":"comment-added","eventCreatedOn":1795435200}}"#,
        change % 100
    );
    line
}

/// Reads the stream with the OpenSSH client, to its last event.
fn read_plainly(sshd: &Sshd, events: u64) -> Figures {
    let began = Instant::now();
    let mut ssh = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-i"])
        .arg(&sshd.key)
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", sshd.known_hosts.display()))
        .args(["-p", &sshd.port.to_string(), "-l", &sshd.user, &sshd.host, "gerrit stream-events"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ssh");
    let mut lines = BufReader::with_capacity(1 << 16, ssh.stdout.take().expect("its output"));
    let mut line = Vec::new();
    for _ in 0..events {
        line.clear();
        lines.read_until(b'\n', &mut line).expect("the stream");
    }
    measure(&mut ssh, began)
}

/// Runs the handler on the stream until the job of the last event is confirmed.
fn through_handler(binary: &Path, sshd: &Sshd, broker: &str, folder: &Path, round: u64) -> Figures {
    let config = folder.join("pushbutton.yml");
    let state = folder.join(format!("state-{round}"));
    std::fs::create_dir_all(&state).expect("the state folder");
    let text = format!(
        "owner: bench\nstate: {state}\n\
         gerrit:\n  host: {host}\n  port: {port}\n  user: {user}\n  key: {key}\n  host_key: {{known_hosts: {known_hosts}}}\n\
         rabbitmq:\n  url: {broker}\n  prefix: bench-{pid}-{round}\n\
         machines:\n  - {{label: none, name: here, local: true}}\n\
         ansible:\n  playbooks: {folder}\n\
         logs: {{dir: {state}/logs}}\n\
         triggers:\n  - name: recheck\n    on: {{comment: {{pattern: '^recheck'}}}}\n    jobs: [none]\n\
         jobs:\n  none: {{node: none, stages: [{{name: none, playbook: none.yml}}]}}\n",
        state = state.display(),
        host = sshd.host,
        port = sshd.port,
        user = sshd.user,
        key = sshd.key.display(),
        known_hosts = sshd.known_hosts.display(),
        pid = std::process::id(),
        folder = folder.display(),
    );
    std::fs::write(&config, text).expect("the configuration");
    std::fs::write(folder.join("none.yml"), "- hosts: all\n").expect("a playbook");
    let began = Instant::now();
    let mut handler = Command::new(binary)
        .args(["--log-format", "json", "--config"])
        .arg(&config)
        .arg("handler")
        .env("RUST_LOG", "warn,pushbutton_core::pipeline::handler=info")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the handler");
    let marker = format!("{LAST},1");
    let mut last = String::new();
    for line in BufReader::new(handler.stderr.take().expect("its log")).lines() {
        let line = line.expect("its log");
        if line.contains(&marker) {
            return measure(&mut handler, began);
        }
        last = line;
    }
    let status = handler.wait().expect("the handler's end");
    println!("the handler ended with {status}; the last it said:\n{last}");
    std::process::exit(1);
}

/// Reads what the process has used so far, and ends it.
fn measure(child: &mut Child, began: Instant) -> Figures {
    let took = began.elapsed();
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let stat = std::fs::read_to_string(proc.join("stat")).expect("its figures");
    // Fields 14 and 15 of proc(5), counted after the name in parentheses; in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let status = std::fs::read_to_string(proc.join("status")).expect("its figures");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    let figures = Figures {
        took,
        cpu: Duration::from_millis(10 * (ticks(11) + ticks(12))),
        peak_kib: peak.trim().trim_end_matches(" kB").parse().unwrap_or(0),
    };
    child.kill().expect("its end");
    child.wait().expect("its end");
    figures
}

/// Prints the medians; returns events a second.
fn show(name: &str, events: u64, rounds: &mut [Figures]) -> f64 {
    rounds.sort_by_key(|figures| figures.took);
    let median = &rounds[rounds.len() / 2];
    let rate = events as f64 / median.took.as_secs_f64();
    println!(
        "{name:<11} {:>7.2} s  {rate:>9.0} events/s  {:>5.1} us of CPU per event  {:>6.1} MiB peak",
        median.took.as_secs_f64(),
        median.cpu.as_secs_f64() * 1e6 / events as f64,
        median.peak_kib as f64 / 1024.0,
    );
    rate
}
