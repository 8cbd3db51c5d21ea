//! How fast the parser reads a recorded stream: `cargo run --release -p pushbutton-gerrit --example parse_speed --
//! FILE`.
//!
//! Prints events and microseconds per line, for parsing and deduplication; the network is not in it.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use pushbutton_core::{EventSource, Result};
use pushbutton_gerrit::{EventFilter, RecordedStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let file = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "pushbutton-gerrit/tests/payloads/stream-3.10.jsonl".into());
    let text = std::fs::read(&file).unwrap_or_default();
    let rounds = 200;
    let lines = text.iter().filter(|byte| **byte == b'\n').count() * rounds;
    for (name, filter) in
        [("everything", EventFilter::everything()), ("nothing", EventFilter::projects(|_, _| false))]
    {
        let begin = Instant::now();
        let mut stream = RecordedStream::new(&file, std::io::Cursor::new(text.repeat(rounds)), filter);
        let mut events = 0;
        while stream.next().await?.is_some() {
            events += 1;
        }
        let each = begin.elapsed().as_secs_f64() * 1e6 / lines.max(1) as f64;
        println!("filter {name}: {lines} lines, {events} events, {each:.2} us a line");
    }
    Ok(())
}
