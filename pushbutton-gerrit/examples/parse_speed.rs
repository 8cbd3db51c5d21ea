//! How fast the parser reads a recorded stream: `cargo run --release -p pushbutton-gerrit --example parse_speed -- FILE`.
//!
//! Prints events and microseconds per line, of parsing and identifying; the network is not in it.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use pushbutton_core::{EventSource, Result};
use pushbutton_gerrit::{Interest, RecordedStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let file = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "pushbutton-gerrit/tests/payloads/stream-3.10.jsonl".into());
    let text = std::fs::read(&file).unwrap_or_default();
    let rounds = 200;
    let lines = text.iter().filter(|byte| **byte == b'\n').count() * rounds;
    for (name, interest) in
        [("everything", Interest::everything()), ("nothing", Interest::places(|_, _| false))]
    {
        let begin = Instant::now();
        let mut stream = RecordedStream::read(&file, std::io::Cursor::new(text.repeat(rounds)), interest);
        let mut events = 0;
        while stream.next().await?.is_some() {
            events += 1;
        }
        let each = begin.elapsed().as_secs_f64() * 1e6 / lines.max(1) as f64;
        println!("interest in {name}: {lines} lines, {events} events, {each:.2} us a line");
    }
    Ok(())
}
