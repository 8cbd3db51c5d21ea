//! Hostile text in pages: all of it goes through here.

use std::fmt::{self, Display, Write};

use jiff::Timestamp;
use pushbutton_core::HumanDuration;

/// Text for element content and quoted attributes.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Marks that turn the direction of text around can make a page lie.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A name as one segment of a URL's path: all but RFC 3986's unreserved characters as %XX.
pub(crate) struct Segment<'a>(pub(crate) &'a str);

impl Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    f.write_char(byte.into())?
                }
                byte => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// Text that links to a URL, if there is one, and if it is one of the web: never `javascript:` or the like.
pub(crate) fn link(url: Option<&str>, text: &str) -> String {
    match url {
        Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
            format!("<a href=\"{}\" rel=\"noopener nofollow\">{}</a>", Escaped(url), Escaped(text))
        }
        _ => Escaped(text).to_string(),
    }
}

/// A time for people, to the second.
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How long something took, or has taken so far.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> String {
    HumanDuration(to.duration_since(from).try_into().unwrap_or_default()).to_string()
}

/// A whole page.
pub(crate) fn page(base: &str, title: &str, refresh: bool, body: &str) -> String {
    let refresh = if refresh { "<meta http-equiv=\"refresh\" content=\"30\">" } else { "" };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{refresh}<title>{title}</title>\
         <link rel=\"stylesheet\" href=\"{base}/style.css\"></head><body><h1>{title}</h1>\n{body}</body></html>\n",
        title = Escaped(title),
        base = Escaped(base),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_shown_and_not_obeyed() {
        let text = "<script>alert('x')</script> & \"y\"\u{202e}\u{0}";
        let shown = Escaped(text).to_string();
        assert_eq!(
            shown,
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(
            link(Some("https://x.example/?a=1&b=\"2\""), "a<b"),
            "<a href=\"https://x.example/?a=1&amp;b=&quot;2&quot;\" rel=\"noopener nofollow\">a&lt;b</a>"
        );
        for bad in ["javascript:alert(1)", "data:text/html,x", "//evil.example", " https://x", ""] {
            assert_eq!(link(Some(bad), "text"), "text", "{bad}");
        }
        assert_eq!(link(None, "text"), "text");
    }

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(Segment("a b/../ü?#%").to_string(), "a%20b%2F..%2F%C3%BC%3F%23%25");
    }
}
