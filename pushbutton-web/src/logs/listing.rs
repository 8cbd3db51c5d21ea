//! A folder, as a page.

use std::fmt::Write;

use jiff::Timestamp;

use super::folder::{Listed, MAX_ENTRIES};
use crate::WebState;
use crate::html::{Escaped, Segment, moment, page};

pub(super) fn render(state: &WebState, path: &str, entries: &[Listed]) -> String {
    let mut body = String::from("<p>");
    // The way back: every folder above, from the status page down.
    let _ = write!(body, "<a href=\"{}\">status</a> / ", Escaped(state.home()));
    let mut href = format!("{}/logs/", state.base());
    let _ = write!(body, "<a href=\"{}\">logs</a>", Escaped(&href));
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let _ = write!(href, "{}/", Segment(segment));
        let _ = write!(body, " / <a href=\"{}\">{}</a>", Escaped(&href), Escaped(segment));
    }
    body.push_str("</p>\n<table><tbody>\n");
    for entry in entries.iter().take(MAX_ENTRIES) {
        let slash = if entry.is_file { "" } else { "/" };
        let size = if entry.is_file { entry.length.to_string() } else { String::new() };
        let time = entry.modified.and_then(|at| Timestamp::try_from(at).ok()).map(moment).unwrap_or_default();
        let _ = writeln!(
            body,
            "<tr><td><a href=\"{}{slash}\">{}{slash}</a><td>{size}<td>{time}</tr>",
            Segment(&entry.name),
            Escaped(&entry.name),
        );
    }
    body.push_str("</tbody></table>\n");
    if entries.is_empty() {
        body.push_str("<p>This folder is empty.</p>\n");
    }
    if entries.len() > MAX_ENTRIES {
        let _ = writeln!(body, "<p>There is more than these {MAX_ENTRIES} entries.</p>");
    }
    page(state.base(), state.title(), false, &body)
}
