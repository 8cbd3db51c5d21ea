//! Memory stays bounded, whatever the server sends. It is measured on the whole process, so this is one test in a
//! binary of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

mod common;

use std::time::Duration;

use common::{all_within, comment, gerrit_like, next_where, source_on as source, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded() {
    a_line_of_50_mb_is_skipped().await;
    events_that_nobody_reads_wait_on_the_server().await;
}

/// The peak memory of this process, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn a_line_of_50_mb_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    std::fs::write(&before, comment("before") + "\n").unwrap();
    std::fs::write(&after, comment("after") + "\n").unwrap();
    let stream = format!(
        "cat {}; head -c 50000000 /dev/zero | tr '\\0' x; echo; cat {}; sleep 60",
        before.display(),
        after.display()
    );
    let server = gerrit_like(&stream);
    let mut source = source(&server);
    next_where(&mut source, |e| text(e) == "before").await;
    let memory = peak();
    next_where(&mut source, |e| text(e) == "after").await;
    let grown = peak() - memory;
    assert!(grown < 30 << 10, "grew by {grown} KiB on a line of 50 MB");
}

async fn events_that_nobody_reads_wait_on_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stream");
    // 20,000 comments of 8 KiB: 160 MB, ten times what may wait.
    let padding = "x".repeat(7 << 10);
    let mut flood = String::new();
    for n in 0..200 {
        flood.push_str(&comment(&format!("flood {n} {padding}")));
        flood.push('\n');
    }
    std::fs::write(&file, &flood).unwrap();
    let end = folder.path().join("end");
    std::fs::write(&end, comment("the end") + "\n").unwrap();
    let script = format!(
        "i=0; while [ $i -lt 100 ]; do cat {}; i=$((i+1)); done; cat {}; sleep 60",
        file.display(),
        end.display()
    );
    let server = gerrit_like(&script);
    let mut source = source(&server);
    next_where(&mut source, |e| text(e).starts_with("flood 0 ")).await;
    let memory = peak();
    // Nobody reads events for a while.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = peak() - memory;
    assert!(grown < 64 << 10, "grew by {grown} KiB while nobody read events");
    let later = all_within(&mut source, Duration::from_secs(2)).await;
    assert!(later.len() > 100, "it goes on: {}", later.len());
}
