//! Random and hostile texts: reading them ends, and each error has a line of the text.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Pieces that mean something in YAML, or here.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "- ",
    "-",
    ": ",
    ":",
    "|",
    ">",
    "&a ",
    "*a",
    "<<: *a",
    "!tag ",
    "'",
    "\"",
    "#",
    "---",
    "...",
    "?",
    "%",
    "\t",
    "\n",
    "  ",
    "~",
    "null",
    "yes",
    "1e999",
    "-0",
    ".nan",
    "9223372036854775808",
    "${",
    "${X}",
    "${X:-",
    "$${",
    "${file:/",
    "é",
    "\u{0}",
    "\u{feff}",
    "\u{2028}",
    "x-a: &a",
    "jobs:",
    "triggers:",
    "machines:",
    "cloud:",
];

fn check(text: &str) -> Result<(), TestCaseError> {
    let file = Path::new("/nonexistent/pushbutton.yml");
    if let Err(errors) = parse(text, file, Needs::ALL, &|name| (name == "X").then(|| "x: [1".to_owned())) {
        let lines = text.lines().count().max(1);
        prop_assert!(!errors.list.is_empty());
        for error in &errors.list {
            prop_assert!((1..=lines).contains(&error.line), "line {} of {lines}: {errors}", error.line);
            prop_assert!(!error.problem.is_empty());
        }
        prop_assert!(errors.list.is_sorted_by_key(|error| error.line), "{errors}");
    }
    Ok(())
}

/// The default file with some of its lines and places changed.
fn mutated() -> impl Strategy<Value = String> {
    let change =
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6u8, prop::sample::select(PIECES));
    vec(change, 1..12).prop_map(|changes| {
        let mut lines: Vec<String> = DEFAULT.lines().map(str::to_owned).collect();
        for (one, other, kind, piece) in changes {
            let (a, b) = (one.index(lines.len()), other.index(lines.len()));
            match kind {
                0 if lines.len() > 1 => drop(lines.remove(a)),
                1 => lines.insert(a, lines[b].clone()),
                2 => lines.swap(a, b),
                // Uncomments an example, or not.
                3 => lines[a] = lines[a].replacen("# ", "", 1),
                4 => lines[a].push_str(piece),
                _ => {
                    let at = other.index(lines[a].chars().count() + 1);
                    let at = lines[a].char_indices().nth(at).map_or(lines[a].len(), |(at, _)| at);
                    lines[a].insert_str(at, piece);
                }
            }
        }
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_to_its_end(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn any_pieces_are_read_to_their_end(pieces in vec(prop::sample::select(PIECES), 0..60)) {
        check(&pieces.concat())?;
    }

    #[test]
    fn the_default_file_may_be_changed_in_any_way(text in mutated()) {
        check(&text)?;
    }
}

#[test]
fn a_text_that_would_grow_without_bound_is_refused_or_small() {
    // Aliases of aliases: nine levels are a billion elements.
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (inner, outer) in ('a'..='i').zip('b'..='j') {
        let list = vec![format!("*{inner}"); 10].join(",");
        laughs.push_str(&format!("{outer}: &{outer} [{list}]\n"));
    }
    // Brackets that never end (libyaml takes quadratic time for them), and dashes that only look like list elements.
    let deep = "a: ".to_owned() + &"[".repeat(100_000);
    let dashes = format!("{{a: \"\n{}\"}}", "- ".repeat(100_000));
    // Names so long that an edit distance takes much time and memory.
    let long = "x".repeat(100_000);
    let names = format!("jobs:\n  ? {long}\n  : {{}}\ntriggers:\n  - name: n\n    jobs: [{long}y]\n");
    for text in [laughs, deep, dashes, names] {
        check(&text).unwrap();
    }
}
