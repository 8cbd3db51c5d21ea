//! A stage that prints a gigabyte, through an operator into its console log, beside `cat` of the same bytes into a file.
//!
//! The stage is a shell script in ansible-playbook's place that prints the bytes and then runs the real one.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use pushbutton_core::{LogLocation, Verdict};

use crate::figures::{Usage, mib, setting};
use crate::program::{self, Program};
use crate::review_server::ReviewServer;
use crate::site::{Backend, Site, job};

/// As devstack prints them.
const LINE: &str = "2026-11-26 12:00:00.000 | + lib/cinder:start_cinder:512 :   run_process c-vol --config-file /etc/cinder/cinder.conf";

pub(crate) struct Size {
    pub(crate) mib: usize,
}

impl Size {
    pub(crate) fn by_hand() -> Self {
        Self { mib: setting("BENCH_MIB", 1024) }
    }
}

pub(crate) async fn run(size: &Size) -> anyhow::Result<String> {
    let site = Site::new(Backend::Sqlite, "")?;
    let folder = site.folder.path();
    let print = format!("yes '{LINE}' | head -c {}M", size.mib);
    let began = Instant::now();
    let plain = folder.join("plain");
    let status = Command::new("sh").arg("-c").arg(format!("{print} | cat >{}", plain.display())).status()?;
    anyhow::ensure!(status.success(), "cat: {status}");
    let cat = began.elapsed();
    std::fs::remove_file(plain)?;

    let script = folder.join("ansible-playbook");
    let real = tokio::task::block_in_place(pushbutton_testbed::ansible_bin).join("ansible-playbook");
    std::fs::write(&script, format!("#!/bin/sh\n{print}\necho\nexec {} \"$@\"\n", real.display()))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let server = ReviewServer::start(None).await?;
    let ansible =
        format!("  ansible_playbook: {}\n  console_limit_mib: {}\n", script.display(), 2 * size.mib);
    let config = program::write_config(folder, &server, &site.section(), &ansible)?;
    let participant = site.participant().await?;
    let job = job(1)?;
    participant.queue.publish(&job).await?;
    let operator = Program::start("operator", &config, "warn")?;
    let delivery = participant.queue.claim_report().await?;
    let (took, usage) = (operator.began.elapsed(), Usage::of(operator.pid())?);
    let result = delivery.report().results.first().context("the report has a result")?;
    anyhow::ensure!(result.verdict == Verdict::Success, "the run did not pass: {result:?}");
    let logs = LogLocation::new(folder.join("logs")).of(&result.run, &job).dir;
    let kept = std::fs::metadata(logs.join("console.log")).context("the console log")?.len();
    anyhow::ensure!(kept > (size.mib as u64) << 20, "the console log has {kept} bytes only");

    let rate = |took: std::time::Duration| size.mib as f64 / took.as_secs_f64();
    let mut text = format!(
        "{} MiB of output; the operator's time includes its start, Ansible and the pages\n",
        size.mib
    );
    writeln!(
        text,
        "operator {:>7.2} s  {:>6.0} MiB/s  {:>6.2} s of CPU  {:>6.1} MiB peak\ncat      {:>7.2} s  {:>6.0} MiB/s\noperator / cat: {:.2} of its MiB/s",
        took.as_secs_f64(),
        rate(took),
        usage.cpu.as_secs_f64(),
        mib(usage.peak_kib),
        cat.as_secs_f64(),
        rate(cat),
        rate(took) / rate(cat),
    )?;
    Ok(text)
}
