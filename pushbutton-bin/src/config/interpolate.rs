//! `${VAR}`, `${VAR:-default}` and `${file:PATH}` in the configuration's scalars. `$${` is a plain `${`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A scalar after its references were filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    /// The text with everything filled in.
    pub(crate) text: String,
    /// The whole scalar was one reference: the text may be a number or a truth value.
    pub(crate) whole: bool,
}

/// Why a reference could not be filled in, and how to fix it.
pub(crate) type Unusable = (String, String);

/// Such a file holds a secret or a short text; a larger one is a mistake.
const LARGEST_FILE: u64 = 64 * 1024;

/// Fills in a scalar; none when it has no reference.
pub(crate) fn fill(
    text: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Filled>, Unusable> {
    let Some(first) = text.find("${") else { return Ok(None) };
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        filled.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err((
                "a ${ is never closed".into(),
                "close it with }, or write $${ for a plain ${".into(),
            ));
        };
        filled.push_str(&value_of(&rest[at + 2..at + end], folder, env)?);
        rest = &rest[at + end + 1..];
    }
    filled.push_str(rest);
    let whole = first == 0 && text.find('}') == Some(text.len() - 1);
    Ok(Some(Filled { text: filled, whole }))
}

/// The files that a scalar names as `${file:PATH}`, whether they are there or not.
pub(crate) fn files(text: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${") {
        let is_plain = rest[..at].ends_with('$');
        rest = &rest[at + 2..];
        let path = rest.split_once('}').and_then(|(reference, _)| reference.strip_prefix("file:"));
        found.extend(path.filter(|_| !is_plain).map(|path| super::paths::absolute(path, folder, env)));
    }
    found
}

fn value_of(
    reference: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Unusable> {
    if let Some(path) = reference.strip_prefix("file:") {
        return content_of(&super::paths::absolute(path, folder, env));
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err((
            format!("${{{reference}}} is not the name of a variable"),
            "write ${NAME}, ${NAME:-default} or ${file:PATH}; $${ for a plain ${".into(),
        ));
    }
    // As in a shell, an empty variable gets the default too.
    match (env(name).filter(|value| !value.is_empty() || default.is_none()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment has no variable {name}"),
            format!("set it, or give a default: ${{{name}:-value}}"),
        )),
    }
}

/// A file's text without the line end that editors add.
fn content_of(path: &Path) -> Result<String, Unusable> {
    let refused = |why: String| {
        (format!("cannot read {}: {why}", path.display()), "check path and permissions".to_owned())
    };
    // Reading a device or a pipe may never end.
    if !std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.is_file() {
        return Err(refused("it is not a regular file".into()));
    }
    let mut text = String::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text));
    let size = read.map_err(|error| refused(error.to_string()))?;
    if size as u64 > LARGEST_FILE {
        return Err(refused(format!("it has more than {LARGEST_FILE} bytes")));
    }
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<Option<Filled>, Unusable> {
        let env = |name: &str| match name {
            "HOST" => Some("review".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        fill(text, Path::new("/nowhere"), &env)
    }

    fn text(text: &str) -> String {
        filled(text).unwrap().unwrap().text
    }

    #[test]
    fn references_are_filled_in_and_everything_else_stays() {
        assert_eq!(filled("^recheck$").unwrap(), None);
        assert_eq!(text("a ${HOST} b ${NONE:-c d}!"), "a review b c d!");
        assert_eq!(text("${EMPTY:-x}"), "x");
        assert_eq!(text("<${EMPTY}>"), "<>");
        assert_eq!(text("$${HOST} $${x} ${HOST}"), "${HOST} ${x} review");
        assert_eq!(text("${NONE:-}"), "");
    }

    #[test]
    fn only_a_scalar_that_is_one_reference_is_whole() {
        assert!(filled("${HOST}").unwrap().unwrap().whole);
        assert!(!filled("${HOST}:${HOST}").unwrap().unwrap().whole);
        assert!(!filled("x${HOST}").unwrap().unwrap().whole);
    }

    #[test]
    fn an_unusable_reference_is_reported_with_a_fix() {
        assert!(filled("${NONE}").unwrap_err().1.contains("${NONE:-value}"));
        assert!(filled("${HOST").unwrap_err().0.contains("never closed"));
        assert!(filled("${a b}").unwrap_err().0.contains("is not the name of a variable"));
        assert!(filled("${file:secret}").unwrap_err().0.starts_with("cannot read /nowhere/secret: "));
    }

    #[test]
    fn devices_and_large_files_are_not_read() {
        assert!(filled("${file:/dev/zero}").unwrap_err().0.ends_with("it is not a regular file"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("large"), vec![b'x'; 65 * 1024]).unwrap();
        let unusable = fill("${file:large}", folder.path(), &|_| None).unwrap_err();
        assert!(unusable.0.ends_with("it has more than 65536 bytes"), "{}", unusable.0);
    }

    #[test]
    fn the_last_line_end_of_a_file_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "s3cret\n").unwrap();
        let filled = fill("${file:secret}", folder.path(), &|_| None).unwrap().unwrap();
        assert_eq!(filled, Filled { text: "s3cret".into(), whole: true });
    }
}
