//! What the command writes to standard output.

use std::io::Write as _;

use pushbutton_core::text::is_unsafe;

/// Writes a text and a line end. It is not an error when the reader is gone (`| head`).
pub(crate) fn print(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
}

/// Foreign text on one line: characters that control the terminal or the direction of text are replaced by a visible
/// one.
pub(crate) fn sanitize(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) && c != '\t' { '\u{fffd}' } else { c }).collect()
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
    fn only_one_is_singular() {
        assert_eq!([0_u64, 1, 2].map(|n| super::count(n, "job")), ["0 jobs", "1 job", "2 jobs"]);
    }

    #[test]
    fn foreign_text_controls_no_terminal() {
        assert_eq!(super::sanitize("a\x1b[2Jb\r\n\tc\u{202e}"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\tc\u{fffd}");
    }
}
