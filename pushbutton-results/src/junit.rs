//! Reads JUnit's XML, which pytest, Maven, Go's tools and many others write.
//!
//! A pull parser: it holds one event at a time, reads no DTD, and knows XML's five entities and character references
//! only, so that a hostile report can neither expand nor fetch anything.

use std::io::{self, BufRead};
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::subunit::Status;

/// The longest text of a test that is kept, in bytes.
pub(crate) const MAX_TEXT: usize = 32 << 10;
/// The deepest nesting of elements. Reports have some five.
const MAX_DEPTH: usize = 64;
/// A longer time is a mistake or a lie: ten days.
const MAX_SECONDS: f64 = 864_000.0;

/// A test case.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    /// The class's name and the test's, as `tests.test_sums.Sums.test_one`.
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) took: Option<Duration>,
    /// What a failure, an error or a skip says.
    pub(crate) text: String,
}

/// Reads a report to its end and calls `take` for each test case. Returns whether it is a report at all: another XML
/// file has another root.
pub(crate) fn read(from: impl BufRead, mut take: impl FnMut(Case)) -> io::Result<bool> {
    let mut reader = Reader::from_reader(from);
    // An end without its begin, or a name that differs, is an error of the parser.
    reader.config_mut().expand_empty_elements = true;
    let mut buffer = Vec::new();
    let (mut depth, mut is_report) = (0usize, false);
    let (mut case, mut in_text) = (None::<Case>, false);
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(invalid)? {
            Event::Start(element) => {
                let name = element.local_name();
                if depth == 0 && !matches!(name.as_ref(), "testsuites" | "testsuite") {
                    return Ok(false);
                }
                is_report = true;
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(invalid("elements are nested too deeply"));
                }
                match (name.as_ref(), &mut case) {
                    ("testcase", None) => case = Some(begin(&element)),
                    (kind @ ("failure" | "error" | "skipped"), Some(case)) => {
                        let status = if kind == "skipped" { Status::Skipped } else { Status::Failed };
                        // One failure is enough, whatever else the case says.
                        if case.status != Status::Failed {
                            case.status = status;
                        }
                        if let Some(message) = attribute(&element, "message") {
                            push(&mut case.text, &message);
                            push(&mut case.text, "\n");
                        }
                        in_text = true;
                    }
                    _ => {}
                }
            }
            Event::End(element) => {
                depth = depth.saturating_sub(1);
                match element.local_name().as_ref() {
                    "testcase" => case.take().into_iter().for_each(&mut take),
                    "failure" | "error" | "skipped" => in_text = false,
                    _ => {}
                }
            }
            Event::Text(text) => {
                if let (Some(case), true) = (&mut case, in_text) {
                    push(&mut case.text, &text.xml10_content());
                }
            }
            Event::CData(text) => {
                if let (Some(case), true) = (&mut case, in_text) {
                    push(&mut case.text, &text.xml10_content());
                }
            }
            Event::GeneralRef(reference) => {
                if let (Some(case), true) = (&mut case, in_text) {
                    push(&mut case.text, &resolve(&reference));
                }
            }
            Event::Eof if depth > 0 => return Err(invalid("it ends in the middle of an element")),
            Event::Eof => return Ok(is_report),
            _ => {}
        }
    }
}

fn begin(element: &BytesStart<'_>) -> Case {
    let name = attribute(element, "name").unwrap_or_default();
    let name = match attribute(element, "classname").filter(|class| !class.is_empty()) {
        Some(class) => format!("{class}.{name}"),
        None => name,
    };
    let seconds =
        attribute(element, "time").and_then(|time| time.replace(',', "").trim().parse::<f64>().ok());
    let took = seconds.filter(|seconds| (0.0..MAX_SECONDS).contains(seconds)).map(Duration::from_secs_f64);
    Case { name, status: Status::Passed, took, text: String::new() }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found =
        element.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == name)?;
    // An entity that XML does not know stands as it is.
    let unescaped = quick_xml::escape::unescape(&found.value).map(|text| text.into_owned());
    Some(unescaped.unwrap_or_else(|_| found.value.into_owned()))
}

/// A character reference or one of XML's entities; any other is kept as it stands.
fn resolve(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name = reference.xml10_content();
    quick_xml::escape::resolve_xml_entity(&name).map_or_else(|| format!("&{name};"), ToOwned::to_owned)
}

fn push(text: &mut String, more: &str) {
    let room = MAX_TEXT.saturating_sub(text.len());
    text.push_str(pushbutton_core::text::cut(more, room));
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(text: &str) -> Vec<Case> {
        let mut cases = Vec::new();
        assert!(read(text.as_bytes(), |case| cases.push(case)).unwrap(), "{text}");
        cases
    }

    fn case(name: &str, status: Status, seconds: f64, text: &str) -> Case {
        let took = (seconds > 0.0).then(|| Duration::from_secs_f64(seconds));
        Case { name: name.into(), status, took, text: text.into() }
    }

    #[test]
    fn a_report_of_pytest_is_read() {
        let report = r#"<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" tests="4">
            <testcase classname="tests.test_a.A" name="test_ok" time="0.5" />
            <testcase classname="tests.test_a.A" name="test_bad[a&lt;b]" time="1,002.25"><failure message="assert 1 == 2&#10;x">E  1 &lt; 2
tests/a.py:3: AssertionError</failure><system-out>not this</system-out></testcase>
            <testcase classname="" name="test_error" time="-1"><error message="boom"><![CDATA[<trace>]]></error></testcase>
            <testcase classname="c" name="test_skip" time="nan"><skipped type="pytest.skip" message="no array"/></testcase>
            </testsuite></testsuites>"#;
        assert_eq!(
            cases(report),
            [
                case("tests.test_a.A.test_ok", Status::Passed, 0.5, ""),
                case(
                    "tests.test_a.A.test_bad[a<b]",
                    Status::Failed,
                    1002.25,
                    "assert 1 == 2\nx\nE  1 < 2\ntests/a.py:3: AssertionError"
                ),
                case("test_error", Status::Failed, 0.0, "boom\n<trace>"),
                case("c.test_skip", Status::Skipped, 0.0, "no array\n"),
            ]
        );
    }

    #[test]
    fn a_failure_stays_one_when_the_case_also_says_skipped() {
        let report = "<testsuite><testcase name='a'><failure/><skipped/></testcase></testsuite>";
        assert_eq!(cases(report), [case("a", Status::Failed, 0.0, "")]);
    }

    #[test]
    fn another_xml_file_is_no_report() {
        for text in ["<domain type='kvm'/>", "", "no xml", "<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>"] {
            assert!(!read(text.as_bytes(), |_| panic!("a case")).unwrap_or(false), "{text}");
        }
    }

    #[test]
    fn entities_are_not_expanded() {
        let report = "<!DOCTYPE x [<!ENTITY a '0123456789'><!ENTITY b '&a;&a;'><!ENTITY f SYSTEM 'file:///etc/passwd'>]>\
                      <testsuite><testcase name='a'><failure message='&b;'>&b;&f;&amp;&#65;</failure></testcase></testsuite>";
        assert_eq!(cases(report), [case("a", Status::Failed, 0.0, "&b;\n&b;&f;&A")]);
    }

    #[test]
    fn what_is_broken_or_too_deep_is_an_error_after_the_cases_before_it() {
        let deep = format!("<testsuite><testcase name='a'/>{}", "<x>".repeat(100_000));
        for text in [deep.as_str(), "<testsuite><testcase name='a'/></wrong>"] {
            let mut found = 0;
            let result = read(text.as_bytes(), |_| found += 1);
            assert_eq!((result.unwrap_err().kind(), found), (io::ErrorKind::InvalidData, 1));
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let report = format!(
            "<testsuite><testcase name='a'><failure>{}</failure></testcase></testsuite>",
            "é".repeat(MAX_TEXT)
        );
        assert_eq!(cases(&report)[0].text.len(), MAX_TEXT);
    }
}
