//! Text from outside: cutting it to a size, and making it safe to show on one line.

/// The longest part of a text, from its start, that has at most `max` bytes and ends at a character's end.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The same for the end of a text.
pub fn cut_start(text: &str, max: usize) -> &str {
    let mut start = text.len().saturating_sub(max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Whether a character changes how the text around it is shown: control characters, and marks that change the
/// direction of text, with which hostile text can make a line read as something else (Unicode Technical Report 36).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// One line for a log, a terminal or a comment: unsafe characters become a blank, blanks at the ends go.
pub fn one_line(text: &str) -> String {
    let safe: String = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    safe.trim().to_owned()
}

/// [`one_line`] of at most `max` bytes; `…` marks what was cut.
pub fn short_line(text: &str, max: usize) -> String {
    let line = one_line(cut(text, max.saturating_mul(4)));
    if line.len() <= max && text.len() <= max.saturating_mul(4) {
        return line;
    }
    format!("{}…", cut(&line, max).trim_end())
}

/// Longer words are not compared: that takes time of the product of both lengths.
const MAX_COMPARED: usize = 100;

/// The candidate that somebody probably meant by a misspelt word: for "did you mean".
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may differ, at least one and at most three: beyond that a suggestion misleads.
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| word.len().max(candidate.len()) <= MAX_COMPARED)
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("aé", 99)), ("a", "aé", "aé"));
        assert_eq!((cut_start("éa", 2), cut_start("éa", 3)), ("a", "éa"));
    }

    #[test]
    fn a_line_has_no_control_characters_and_no_direction_marks() {
        assert_eq!(one_line(" a\u{1b}[31m\nb\u{202e}c\u{2066} "), "a [31m b c");
        assert_eq!(short_line("äöü", 4), "äö…");
        assert_eq!(short_line("short", 10), "short");
        assert!(short_line(&"x".repeat(1000), 100).len() <= 103);
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["project", "pipeline", "wiki"];
        assert_eq!(suggest("projcet", known), Some("project"));
        assert_eq!(suggest("piplin", known), Some("pipeline"));
        assert_eq!(suggest("zuul", known), None);
        let long = "x".repeat(MAX_COMPARED + 1);
        assert_eq!(suggest(&long, [long.as_str()]), None);
    }
}
