//! The layout of all pages, and how times, sizes and links are shown.

use std::time::Duration;

use axum::response::Html;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pushbutton_core::HumanDuration;
use pushbutton_core::text::is_unsafe;

use crate::WebState;

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A whole page. `refresh` reloads it every 30 seconds.
pub(crate) fn page(state: &WebState, refresh: bool, body: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                @if refresh { meta http-equiv="refresh" content="30"; }
                title { (state.title()) }
                link rel="stylesheet" href={ (state.base_path()) "/style.css" };
            }
            body { h1 { (state.title()) } (body) }
        }
    };
    // Markup is escaped by maud. Characters that change the direction of text could still make a page show what it
    // does not say.
    let shown = |c| if is_unsafe(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    Html(page.into_string().chars().map(shown).collect())
}

/// Text that links to a URL if it is a web address: never `javascript:` or the like.
pub(crate) fn link(url: Option<&str>, text: &str) -> Markup {
    let url = url.filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    html! {
        @match url {
            Some(url) => a href=(url) rel="noopener nofollow" { (text) },
            None => (text),
        }
    }
}

/// A name as one segment of a URL's path.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

/// A time to the second, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// How long something took, or has taken so far.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> String {
    HumanDuration(Duration::try_from(to.duration_since(from)).unwrap_or_default()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_escaped() {
        let text = "<script>alert('x')</script> & \"y\"";
        let shown = html! { p title=(text) { (text) } }.into_string();
        let escaped = "&lt;script&gt;alert('x')&lt;/script&gt; &amp; &quot;y&quot;";
        assert_eq!(shown, format!("<p title=\"{escaped}\">{escaped}</p>"));
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(
            link(Some("https://x.example/?a=1&b=\"2\""), "a<b").into_string(),
            "<a href=\"https://x.example/?a=1&amp;b=&quot;2&quot;\" rel=\"noopener nofollow\">a&lt;b</a>"
        );
        for bad in ["javascript:alert(1)", "data:text/html,x", "//evil.example", " https://x", ""] {
            assert_eq!(link(Some(bad), "text").into_string(), "text", "{bad}");
        }
        assert_eq!(link(None, "text").into_string(), "text");
    }

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("a b/../ü?#%"), "a%20b%2F..%2F%C3%BC%3F%23%25");
    }
}
