//! `check`: tries every connection, changes nothing, and says what to mend.

use std::io::IsTerminal as _;

use pushbutton_core::check::{Finding, Level};

use crate::assemble::checks;
use crate::cli::Global;
use crate::config::Config;
use crate::exit::Exit;
use crate::logging::is_coloured;
use crate::out::{clean, count, say};
use crate::reach::check_logs;

/// Looks at every part, one after the other; shows each as soon as it is known.
pub(crate) async fn run(config: &Config, global: &Global) -> anyhow::Result<Exit> {
    let coloured = is_coloured(global, std::io::stdout().is_terminal());
    let mut counts = [0_usize; 3];
    let mut show = |part: &str, findings: Vec<Finding>| {
        for finding in findings {
            counts[finding.level as usize] += 1;
            say(row(part, &finding, coloured));
        }
    };
    let (triggers, jobs) = (config.triggers.len() as u64, config.jobs.len() as u64);
    let sizes = format!("{}, {}, no faults", count(triggers, "trigger"), count(jobs, "job"));
    show("config", vec![Finding::ok(sizes)]);
    show("state", checks::state(config).await);
    show("gerrit", checks::gerrit(config).await);
    show("queue", checks::queue(config).await);
    show("nodes", checks::nodes(config).await);
    show("ansible", checks::ansible(config).await);
    show("logs", check_logs(&config.logs).await);
    let [ok, warn, fail] = counts;
    say(format!("\n{ok} ok, {warn} to look at, {fail} to mend"));
    Ok(if fail == 0 { Exit::Ok } else { Exit::NotOk })
}

fn row(part: &str, finding: &Finding, coloured: bool) -> String {
    let (word, colour) = match finding.level {
        Level::Ok => ("ok", "\x1b[32m"),
        Level::Warn => ("warn", "\x1b[33m"),
        Level::Fail => ("FAIL", "\x1b[31m"),
    };
    let (on, off) = if coloured { (colour, "\x1b[0m") } else { ("", "") };
    let mut row = format!("{part:<8} {on}{word:<4}{off}  {}", clean(&finding.what));
    if let Some(remedy) = &finding.remedy {
        row.push_str(&format!("\n{:15}-> {}", "", clean(remedy)));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_the_part_and_the_remedy_stands_below() {
        let finding = Finding::fail("broker: connection refused", "start RabbitMQ");
        assert_eq!(
            row("queue", &finding, false),
            "queue    FAIL  broker: connection refused\n               -> start RabbitMQ"
        );
    }
}
