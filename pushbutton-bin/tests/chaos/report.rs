//! Tables of a run, for people.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::records::Records;
use crate::schedule::{FaultKind, PlannedFault, Target};

/// Faults, by target and kind.
pub(crate) fn faults(faults: &[PlannedFault]) -> String {
    let mut counts: HashMap<(Target, FaultKind), usize> = HashMap::new();
    for fault in faults {
        *counts.entry((fault.target, fault.kind)).or_default() += 1;
    }
    let mut text = format!("{:15}", "faults");
    for fault in FaultKind::ALL {
        let _ = write!(text, "{fault:>9}");
    }
    for target in Target::ALL {
        let _ = write!(text, "\n{target:15}");
        for fault in FaultKind::ALL {
            let count = counts.get(&(target, fault)).map_or_else(|| "-".to_owned(), usize::to_string);
            let _ = write!(text, "{count:>9}");
        }
    }
    text
}

/// The time from the triggering comment to ours.
pub(crate) fn waits(records: &Records) -> String {
    let mut seconds: Vec<i64> = Vec::new();
    for (key, asked) in &records.triggered {
        if let Some(first) = records.answers.get(key).and_then(|answers| answers.first()) {
            seconds.push(first.at.duration_since(*asked).as_secs());
        }
    }
    seconds.sort_unstable();
    let at =
        |percent: usize| seconds.get((seconds.len() * percent / 100).min(seconds.len().saturating_sub(1)));
    let shown = |percent| at(percent).map_or_else(|| "none".to_owned(), |seconds| format!("{seconds} s"));
    format!("comment to comment: median {}, p95 {}, max {}", shown(50), shown(95), shown(100))
}

/// The results in our comments.
pub(crate) fn results(records: &Records) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for result in records.answers.values().flatten().flat_map(|answer| &answer.results) {
        *counts.entry(result).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(result, count)| format!("{count} {result}")).collect();
    format!("results: {}; negative votes: {}", words.join(", "), records.negative_votes)
}

/// Counts of log messages. Only for the reader: nothing is decided by them.
pub(crate) fn work(logs: &[PathBuf]) -> String {
    const MESSAGES: [(&str, &str); 9] = [
        ("runs", "claimed"),
        ("retried", "the infrastructure failed, another attempt follows"),
        ("leases lost", "the lease is lost"),
        ("leases not renewed in time", "the lease could not be renewed in time"),
        ("pauses of claiming", "no job is claimed for"),
        ("handed back by a broken host", "this host cannot run jobs"),
        ("deliveries retried", "not delivered, it will be tried again"),
        ("reported before", "the change already has the comment"),
        ("orphans released", "released an orphan"),
    ];
    let mut counts = [0; MESSAGES.len()];
    for log in logs {
        let text = std::fs::read(log).unwrap();
        for line in text.split(|byte| *byte == b'\n') {
            // A killed process may have left half a line.
            let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
            let message = line["message"].as_str().unwrap_or_default();
            for (count, (_, start)) in counts.iter_mut().zip(MESSAGES) {
                *count += usize::from(message.starts_with(start));
            }
        }
    }
    let words: Vec<String> =
        counts.iter().zip(MESSAGES).map(|(count, (name, _))| format!("{name} {count}")).collect();
    words.join(", ")
}
