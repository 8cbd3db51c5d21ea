//! What the command says on standard output.

use std::io::Write as _;

/// Writes a text and a line end. A reader that has gone (`| head`) is no fault of ours.
pub(crate) fn say(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
}

/// Foreign text as one harmless line: what controls a terminal becomes visible.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// `1 job`, `2 jobs`.
pub(crate) fn count(n: impl Into<u64>, what: &str) -> String {
    match n.into() {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_is_not_many() {
        assert_eq!([0_u64, 1, 2].map(|n| super::count(n, "job")), ["0 jobs", "1 job", "2 jobs"]);
    }

    #[test]
    fn a_terminal_is_not_controlled_from_outside() {
        assert_eq!(super::clean("a\x1b[2Jb\r\n\tc"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\tc");
    }
}
