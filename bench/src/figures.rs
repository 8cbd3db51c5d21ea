//! What is measured of a process, and how figures are summed up.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// The size of a benchmark from an environment variable.
pub(crate) fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Usage {
    /// Of this process.
    pub(crate) fn own() -> anyhow::Result<Self> {
        Self::of(std::process::id())
    }

    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(folder.join("stat")).context("the process has ended")?;
        // Fields 14 and 15 of proc(5), counted after the name in parentheses; in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let status = std::fs::read_to_string(folder.join("status")).context("the process has ended")?;
        let kib = |key: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
            value.trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        let cpu = Duration::from_millis(10 * (ticks(11) + ticks(12)));
        Ok(Self { cpu, resident_kib: kib("VmRSS:"), peak_kib: kib("VmHWM:") })
    }
}

/// The value at this fraction of the sorted ones, 0.5 for the median.
pub(crate) fn quantile(values: &mut [Duration], fraction: f64) -> Duration {
    values.sort_unstable();
    let at = ((values.len() as f64 * fraction) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// How long this disk takes to make 4 KiB durable: the median of 100 writes. No durable step can be faster.
pub(crate) fn disk_sync() -> anyhow::Result<Duration> {
    use std::io::Write as _;
    let mut file = tempfile::tempfile()?;
    let mut took = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    Ok(quantile(&mut took, 0.5))
}
