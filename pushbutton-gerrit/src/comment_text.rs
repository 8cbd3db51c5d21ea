//! Splits the header that Gerrit puts before a comment from the text that a person wrote.

/// The parts of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Parts<'a> {
    /// The patch set in the header `Patch Set N:`; none if there is no such header.
    pub(crate) patchset: Option<u32>,
    /// How many comments on files, or on the patch set as a whole, came with it: `(2 comments)`.
    pub(crate) inline: usize,
    /// The text that a person wrote.
    pub(crate) text: &'a str,
}

/// Removes `Patch Set N: Label+1`, `(k comments)` and the blank lines between from the beginning of a message.
///
/// Once only: a person may type such a header in a comment, and then it is part of the text.
pub(crate) fn split_header(message: &str) -> Parts<'_> {
    let Some((number, rest)) = message.strip_prefix("Patch Set ").and_then(|rest| rest.split_once(':'))
    else {
        return Parts { text: message.trim(), ..Parts::default() };
    };
    let Ok(number) = number.parse::<u32>() else {
        return Parts { text: message.trim(), ..Parts::default() };
    };
    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
    // Votes are on the line of the header. Old servers put the text there if there are no votes.
    let rest = if line.split_whitespace().all(is_vote) { after } else { rest };
    let rest = rest.trim();
    let (inline, text) = match count(rest) {
        Some((inline, text)) => (inline, text),
        None => (0, rest),
    };
    Parts { patchset: Some(number), inline, text }
}

/// `Verified+1`, `Code-Review-2`, or `-Code-Review` for a vote that was removed.
fn is_vote(word: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match word.strip_prefix('-') {
        Some(label) => is_label(label),
        None => word.rsplit_once(['+', '-']).is_some_and(|(label, value)| {
            is_label(label) && !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit())
        }),
    }
}

/// `(1 comment)` or `(2 comments)`, at the end of the message or of a line.
fn count(text: &str) -> Option<(usize, &str)> {
    let (inside, rest) = text.strip_prefix('(')?.split_once(')')?;
    let (number, word) = inside.split_once(' ')?;
    let whole_line = rest.is_empty() || rest.starts_with('\n') || rest.starts_with('\r');
    let known = matches!(word, "comment" | "comments" | "inline comment" | "inline comments") && whole_line;
    number.parse().ok().filter(|_| known).map(|number| (number, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_headers_are_removed() {
        for (message, inline, text) in [
            ("Patch Set 1:\n\nrecheck", 0, "recheck"),
            ("Patch Set 1:\n\n(1 comment)", 1, ""),
            ("Patch Set 1:\n\n(2 comments)\n\ncover words", 2, "cover words"),
            (
                "Patch Set 1: Verified+1\n\nBuild succeeded (check pipeline).",
                0,
                "Build succeeded (check pipeline).",
            ),
            ("Patch Set 1: Code-Review+1 -Workflow Verified-2\n\n(1 comment)\n\nrecheck", 1, "recheck"),
            ("Patch Set 1: Code-Review+1", 0, ""),
            ("Patch Set 1: -Code-Review", 0, ""),
            ("Patch Set 1: recheck", 0, "recheck"),
            ("Patch Set 1:\n\nPatch Set 1: Verified+1\n\nrecheck", 0, "Patch Set 1: Verified+1\n\nrecheck"),
            ("Patch Set 1:\n\n(not a count) recheck", 0, "(not a count) recheck"),
            ("Patch Set 1:\n\n(1 comment) recheck", 0, "(1 comment) recheck"),
            ("Patch Set 1:\n\n", 0, ""),
        ] {
            assert_eq!(split_header(message), Parts { patchset: Some(1), inline, text }, "{message:?}");
        }
    }

    #[test]
    fn a_message_without_a_header_is_unchanged() {
        for text in [
            "recheck",
            "Abandoned\n\nno",
            "Uploaded patch set 1.",
            "Patch Set x: y",
            "",
            "Patch Set 99999999999: z",
        ] {
            assert_eq!(split_header(text), Parts { patchset: None, inline: 0, text }, "{text:?}");
        }
    }
}
