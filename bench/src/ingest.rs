//! Events over SSH through `pushbutton-bin handler` into RabbitMQ with confirms, beside the same stream read by the plain
//! OpenSSH client.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pushbutton_testbed::{Sshd, SshdOptions};
use tokio::task::block_in_place;

use crate::change;
use crate::figures::{Usage, mib, setting};
use crate::plain_amqp::{self, Kind};
use crate::program::{self, Program};
use crate::review_server::ReviewServer;

/// The change of the last event: its job tells that all before it are on the queue.
const LAST: u64 = 99_999_999;

pub(crate) struct Size {
    pub(crate) events: u64,
    pub(crate) rounds: usize,
    pub(crate) jobs_per_1000: u64,
}

impl Size {
    pub(crate) fn by_hand() -> Self {
        Self {
            events: setting("BENCH_EVENTS", 100_000) as u64,
            rounds: setting("BENCH_ROUNDS", 3),
            jobs_per_1000: setting("BENCH_JOBS_PER_1000", 20) as u64,
        }
    }
}

struct Figures {
    took: Duration,
    usage: Usage,
}

pub(crate) async fn run(size: &Size, broker: &str) -> anyhow::Result<String> {
    let Size { events, rounds, jobs_per_1000 } = *size;
    // As many messages as there are jobs; at least so many that ticks of 10 ms say something.
    let messages = usize::try_from(events * jobs_per_1000 / 1000)?.max(1000);
    let folder = tempfile::tempdir()?;
    let stream = folder.path().join("stream.jsonl");
    let bytes = write_stream(&stream, events, jobs_per_1000)?;
    let server = ReviewServer::start(Some(&stream)).await?;
    let sshd = block_in_place(|| plain_server(&stream));
    let mut text = format!(
        "{events} events of {} bytes on average, {jobs_per_1000} of 1000 call for a job; medians of {rounds} rounds\n",
        bytes / events
    );
    let (mut plain, mut handler) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        plain.push(block_in_place(|| read_plainly(&sshd, events))?);
        let folder = folder.path().join(format!("round-{round}"));
        handler.push(block_in_place(|| through_handler(&server, broker, &folder, round))?);
    }
    let plain = show(&mut text, "ssh client", events, &mut plain)?;
    let ours = show(&mut text, "handler", events, &mut handler)?;
    writeln!(text, "handler / ssh client: {:.2} of its events/s", ours / plain)?;
    for kind in Kind::ALL {
        let cpu = plain_amqp::cpu_of_a_message(broker, kind, messages).await?;
        let (name, micros) = (kind.name(), cpu.as_secs_f64() * 1e6);
        writeln!(
            text,
            "plain AMQP client: {micros:.1} us of CPU for a message through one {name} queue and back"
        )?;
    }
    Ok(text)
}

/// Events as Gerrit 3.10 sends them. Most are comments that call for nothing.
fn write_stream(path: &Path, events: u64, jobs_per_1000: u64) -> anyhow::Result<u64> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut bytes = 0;
    for n in 0..events {
        let last = n + 1 == events;
        let wanted = last || n % 1000 < jobs_per_1000;
        let change = if last { LAST } else { 1_000_000 + n };
        let text = if wanted { "recheck" } else { "Looks good to me, one question inline." };
        let line = change::comment_added(change, text);
        bytes += line.len() as u64;
        file.write_all(line.as_bytes())?;
    }
    file.flush()?;
    Ok(bytes)
}

/// OpenSSH's own server: its client reads faster from it than from ours.
fn plain_server(stream: &Path) -> Sshd {
    let forced_command = Some(format!("exec cat {}", stream.display()));
    Sshd::start(&SshdOptions { forced_command, ..SshdOptions::default() })
}

/// Reads the stream with the OpenSSH client, to its last event.
fn read_plainly(sshd: &Sshd, events: u64) -> anyhow::Result<Figures> {
    let began = Instant::now();
    let mut ssh = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-i"])
        .arg(&sshd.key)
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", sshd.known_hosts.display()))
        .args(["-p", &sshd.port.to_string(), "-l", &sshd.user, &sshd.host, "gerrit stream-events"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::with_capacity(1 << 16, ssh.stdout.take().context("its output is piped")?);
    let mut line = Vec::new();
    for _ in 0..events {
        line.clear();
        anyhow::ensure!(lines.read_until(b'\n', &mut line)? > 0, "the stream ended early");
    }
    let figures = Figures { took: began.elapsed(), usage: Usage::of(ssh.id())? };
    ssh.kill()?;
    ssh.wait()?;
    Ok(figures)
}

/// Runs the handler on the stream until the job of the last event is confirmed.
fn through_handler(
    server: &ReviewServer,
    broker: &str,
    folder: &Path,
    round: usize,
) -> anyhow::Result<Figures> {
    let queue = format!("rabbitmq: {{url: \"{broker}\", prefix: ingest-{}-{round}}}\n", std::process::id());
    let config = program::write_config(folder, server, &queue, "")?;
    let mut handler = Program::start("handler", &config, "warn,pushbutton_core::pipeline::handler=info")?;
    handler.wait_for(&[&format!("{LAST},1")])?;
    Ok(Figures { took: handler.began.elapsed(), usage: Usage::of(handler.pid())? })
}

/// Adds the medians to the text; returns events a second.
fn show(text: &mut String, name: &str, events: u64, rounds: &mut [Figures]) -> anyhow::Result<f64> {
    rounds.sort_by_key(|figures| figures.took);
    let median = rounds.get(rounds.len() / 2).context("at least one round")?;
    let rate = events as f64 / median.took.as_secs_f64();
    writeln!(
        text,
        "{name:<11} {:>7.2} s  {rate:>9.0} events/s  {:>5.1} us of CPU per event  {:>6.1} MiB peak",
        median.took.as_secs_f64(),
        median.usage.cpu.as_secs_f64() * 1e6 / events as f64,
        mib(median.usage.peak_kib),
    )?;
    Ok(rate)
}
