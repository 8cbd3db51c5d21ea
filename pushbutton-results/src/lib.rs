#![doc = include_str!("../README.md")]

// Test results.
mod junit;
mod subunit;
mod test_results;

// Pages.
mod console_page;
mod files;
mod index_page;
mod page;
mod run_pages;
mod test_page;

// How long they are kept.
mod retention;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

pub use page::file_size;
pub use retention::{Pass, Retention};
pub use run_pages::RunPages;
pub use test_results::{KnownResults, TestResults};

/// The file in a run's log folder that every stage's output is appended to.
pub const CONSOLE_LOG: &str = "console.log";

/// The same as a page, in which each line has the anchor `L` and its number. Compressed, as OpenStack's CIs publish it.
pub const CONSOLE_PAGE: &str = "console.html.gz";

/// The page that shows the run: web servers show it in place of the folder.
pub const INDEX_PAGE: &str = "index.html";

/// Whether a file in a run's log folder is named like a page of this crate: [`INDEX_PAGE`], [`CONSOLE_PAGE`] or a page of
/// tests. A web server may show these as HTML, and should show everything else that nodes sent as text.
pub fn is_page_name(name: &str) -> bool {
    let is_test_page = || {
        let number = name.strip_prefix(test_page::STEM)?.strip_suffix(test_page::ENDING)?;
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        Some(number.is_empty() || number.strip_prefix('-').is_some_and(is_number))
    };
    matches!(name, INDEX_PAGE | CONSOLE_PAGE) || is_test_page() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_pages_have_names_of_pages() {
        for page in ["index.html", "console.html.gz", "testr_results.html.gz", "testr_results-2.html.gz"] {
            assert!(is_page_name(page), "{page}");
        }
        for other in [
            "a.html",
            "testr_results-.html.gz",
            "testr_results-x.html.gz",
            "testr_results.html",
            "console.html",
        ] {
            assert!(!is_page_name(other), "{other}");
        }
    }
}
