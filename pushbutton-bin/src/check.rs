//! `check`: tries every connection, changes nothing, and says what to fix.

use std::io::IsTerminal as _;

use pushbutton_core::check::{Finding, Level};

use crate::assemble::checks;
use crate::cli::Global;
use crate::config::{Config, Need, Needs};
use crate::exit::Exit;
use crate::lint;
use crate::logging::is_colored;
use crate::print::{count, print, sanitize};

/// Checks the parts that are needed, one after the other, and prints the findings of each as soon as they are known.
pub(crate) async fn run(config: &Config, global: &Global, needs: Needs) -> anyhow::Result<Exit> {
    let colored = is_colored(global, std::io::stdout().is_terminal());
    let mut counts = [0_usize; 3];
    let mut show = |part: &str, findings: Vec<Finding>| {
        for finding in findings {
            counts[finding.level as usize] += 1;
            print(row(part, &finding, colored));
        }
    };
    let (triggers, jobs) = (config.triggers.len() as u64, config.jobs.len() as u64);
    let sizes = format!("{}, {}, no errors", count(triggers, "trigger"), count(jobs, "job"));
    show("config", vec![Finding::ok(sizes)]);
    for (name, part) in checks::needed(config, needs) {
        show(name, part.check().await);
    }
    if needs.gerrit != Need::Nothing {
        show("rules", lint::for_check(config));
    }
    let [ok, warn, fail] = counts;
    print(format!("\n{ok} ok, {warn} to look at, {fail} to fix"));
    Ok(if fail == 0 { Exit::Ok } else { Exit::NotOk })
}

fn row(part: &str, finding: &Finding, colored: bool) -> String {
    let (word, color) = match finding.level {
        Level::Ok => ("ok", "\x1b[32m"),
        Level::Warn => ("warn", "\x1b[33m"),
        _ => ("FAIL", "\x1b[31m"),
    };
    let (on, off) = if colored { (color, "\x1b[0m") } else { ("", "") };
    let mut row = format!("{part:<8} {on}{word:<4}{off}  {}", sanitize(&finding.what));
    if let Some(remedy) = &finding.remedy {
        row.push_str(&format!("\n{:15}-> {}", "", sanitize(remedy)));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_the_part_and_the_remedy_follows() {
        let finding = Finding::fail("broker: connection refused", "start RabbitMQ");
        assert_eq!(
            row("queue", &finding, false),
            "queue    FAIL  broker: connection refused\n               -> start RabbitMQ"
        );
    }
}
