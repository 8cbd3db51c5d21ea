//! What all pages share: a static document without scripts and without anything from elsewhere, and how values are
//! shown. Text is escaped by maud, in which only markup of a template is markup.

use std::time::Duration;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pushbutton_core::HumanDuration;
use pushbutton_core::text::is_unsafe;

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a browser may do with a page, whatever gets into it: no script, no request, no form.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The beginning of a page, up to its content; [`END`] follows the content.
pub(crate) fn begin(title: &str, is_wide: bool) -> String {
    let title = safe(title);
    let head = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width";
                meta name="robots" content="noindex, nofollow";
                title { (title) }
                // Our own file.
                style { (PreEscaped(include_str!("style.css"))) }
            }
        }
    };
    let head = head.into_string();
    let body = if is_wide { "<body class=\"wide\">\n" } else { "<body>\n" };
    format!("{}{body}", head.strip_suffix("</html>").unwrap_or(&head))
}

/// The end of a page.
pub(crate) const END: &str = "</body></html>\n";

/// Text without control characters, and without marks that change the direction of text: they could make a page show
/// what it does not say.
pub(crate) fn safe(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// Text that links to a URL if it is a web address: never `javascript:` or the like.
pub(crate) fn web_link(url: Option<&str>, text: &str) -> Markup {
    let url = url.filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    html! {
        @match url {
            Some(url) => a href=(url) rel="noopener nofollow" { (text) },
            None => (text),
        }
    }
}

/// A path below the folder as a relative URL: each name is one segment.
pub(crate) fn relative_url(path: &str) -> String {
    let segments: Vec<String> =
        path.split('/').map(|name| utf8_percent_encode(name, RESERVED).to_string()).collect();
    // A first segment with a colon would be a scheme; it is encoded, and this says so to every reader.
    format!("./{}", segments.join("/"))
}

/// A time to the second.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How long something took: to a tenth of a second below a minute.
pub(crate) fn took(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    HumanDuration(duration).to_string()
}

/// A size of a file with a unit in which it is a small number: `23.2 KiB`.
pub fn file_size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if size < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1024.0;
    }
    format!("{size:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_cannot_leave_its_element() {
        let page = begin("</title><script>alert(1)</script>\u{202e}", false);
        assert!(
            page.contains("<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;\u{fffd}</title>"),
            "{page}"
        );
        assert!(page.ends_with("<body>\n") && !page.contains("<script"));
    }

    #[test]
    fn a_path_is_a_relative_url_whatever_its_names() {
        assert_eq!(relative_url("logs/a b#?.txt"), "./logs/a%20b%23%3F.txt");
        assert_eq!(relative_url("javascript:alert(1)"), "./javascript%3Aalert%281%29");
    }

    #[test]
    fn only_web_addresses_become_links() {
        for bad in ["javascript:alert(1)", "data:text/html,x", "//evil.example", ""] {
            assert_eq!(web_link(Some(bad), "a<b").into_string(), "a&lt;b", "{bad}");
        }
        assert_eq!(
            web_link(Some("https://x/?\"&"), "t").into_string(),
            "<a href=\"https://x/?&quot;&amp;\" rel=\"noopener nofollow\">t</a>"
        );
    }

    #[test]
    fn times_and_sizes_are_short() {
        let shown = [0.04, 59.9, 60.0, 3723.0].map(|seconds| took(Duration::from_secs_f64(seconds)));
        assert_eq!(shown, ["0.0s", "59.9s", "1m 00s", "1h 02m 03s"]);
        assert_eq!([0, 1023, 1536, 3 << 30].map(file_size), ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
    }
}
