//! Reads JUnit's XML, which pytest, Maven, Go's tools and many others write.
//!
//! A pull parser: it holds one event at a time, reads no DTD, and knows XML's five entities and character references
//! only, so that a hostile report can neither expand nor fetch anything. A text or a tag that is too long ends it.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};
use std::time::Duration;

use pushbutton_core::text::cut;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, BytesText, Event};

use crate::subunit::{Ending, Status};

/// The longest text of a test that is kept, in bytes.
pub(crate) const MAX_TEXT: usize = 32 << 10;
/// The longest text or tag, in bytes: the parser holds it as a whole. What a test suite printed is one text.
const MAX_EVENT: usize = 16 << 20;
/// The deepest nesting of elements. Reports have some five.
const MAX_DEPTH: usize = 64;
/// The longest name of an element, in bytes.
const MAX_ELEMENT_NAME: usize = 1000;
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

/// Reads a report and calls `take` for each test case. Another XML file has another root, and no results.
pub(crate) fn read(from: impl BufRead, mut take: impl FnMut(Case)) -> Ending {
    let mut report = Report::default();
    let result = report.read(from, &mut take);
    match result {
        Ok(()) if report.has_begun => Ending::Whole,
        Err(error) if report.has_begun => {
            // A case that is cut has failed already if it says so. Of any other one nothing is known.
            report.case.filter(|case| case.status == Status::Failed).into_iter().for_each(take);
            Ending::Incomplete(error.to_string())
        }
        Ok(()) | Err(_) => Ending::NoResults,
    }
}

/// A report as far as it was read.
#[derive(Default)]
struct Report {
    /// Whether the root was one of a report.
    has_begun: bool,
    depth: usize,
    case: Option<Case>,
    in_text: bool,
}

impl Report {
    /// Reads to the end, or to the begin of a root that is no report's.
    fn read(&mut self, from: impl BufRead, take: &mut impl FnMut(Case)) -> io::Result<()> {
        let mut reader = Reader::from_reader(Bounded { from, room: 0 });
        // An end without its begin, or a name that differs, is an error of the parser.
        reader.config_mut().expand_empty_elements = true;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            reader.get_mut().room = MAX_EVENT;
            let event = match reader.read_event_into(&mut buffer) {
                Ok(event) => event,
                Err(error) => {
                    // Cut in the tag of its root.
                    self.has_begun |= buffer.starts_with(b"<testsuite");
                    return Err(invalid(error));
                }
            };
            match event {
                Event::Start(element) => {
                    let name = element.local_name();
                    if self.depth == 0 && !matches!(name.as_ref(), "testsuites" | "testsuite") {
                        return Ok(());
                    }
                    self.has_begun = true;
                    self.begin(&element)?;
                }
                Event::End(element) => {
                    self.depth = self.depth.saturating_sub(1);
                    match element.local_name().as_ref() {
                        "testcase" => self.case.take().into_iter().for_each(&mut *take),
                        "failure" | "error" | "skipped" => self.in_text = false,
                        _ => {}
                    }
                }
                Event::Text(text) => self.say(|| eols(&text)),
                Event::CData(text) => self.say(|| eols(&text)),
                Event::GeneralRef(reference) => self.say(|| resolve(&reference)),
                Event::Eof if self.depth > 0 => return Err(invalid("it ends in the middle of an element")),
                Event::Eof => return Ok(()),
                _ => {}
            }
        }
    }

    /// An element begins.
    fn begin(&mut self, element: &BytesStart<'_>) -> io::Result<()> {
        let name = element.local_name();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(invalid("elements are nested too deeply"));
        }
        // The parser holds the names of all open elements.
        if element.name().as_ref().len() > MAX_ELEMENT_NAME {
            return Err(invalid("an element has a name that is too long"));
        }
        match (name.as_ref(), &mut self.case) {
            ("testcase", None) => self.case = Some(begin(element)),
            (kind @ ("failure" | "error" | "skipped"), Some(case)) => {
                let status = if kind == "skipped" { Status::Skipped } else { Status::Failed };
                // One failure is enough, whatever else the case says.
                if case.status != Status::Failed {
                    case.status = status;
                }
                if let Some(message) = attribute(element, "message") {
                    push(&mut case.text, &message);
                    push(&mut case.text, "\n");
                }
                self.in_text = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds to what a failure, an error or a skip says.
    fn say(&mut self, text: impl FnOnce() -> String) {
        if let (Some(case), true) = (&mut self.case, self.in_text) {
            push(&mut case.text, &text());
        }
    }
}

/// Passes on so many bytes, and then an error: the parser holds a whole text or tag.
struct Bounded<R> {
    from: R,
    room: usize,
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.room {
            0 => Err(invalid("a text or a tag is too long")),
            room => self.from.fill_buf().map(|bytes| &bytes[..bytes.len().min(room)]),
        }
    }

    fn consume(&mut self, length: usize) {
        self.room = self.room.saturating_sub(length);
        self.from.consume(length);
    }
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let length = from.len().min(to.len());
        to[..length].copy_from_slice(&from[..length]);
        self.consume(length);
        Ok(length)
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

/// The value of an attribute. Of a long one the beginning, cut before it is copied.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = element.attributes();
    // To find duplicates, all names would be held.
    let mut attributes = attributes.with_checks(false).flatten();
    let found = attributes.find(|attribute| attribute.key.local_name().as_ref() == name)?;
    let mut value = cut(&found.value, MAX_TEXT);
    if let Some(start) = value.rfind('&').filter(|_| value.len() < found.value.len()) {
        // Not a part of an entity.
        value = if value[start..].contains(';') { value } else { &value[..start] };
    }
    // An entity that XML does not know stands as it is.
    Some(quick_xml::escape::unescape(value).unwrap_or(Cow::Borrowed(value)).into_owned())
}

/// A text with plain ends of lines. Of a long one the beginning, cut before it is copied.
fn eols(text: &str) -> String {
    BytesText::from_escaped(cut(text, MAX_TEXT)).xml10_content().into_owned()
}

/// A character reference or one of XML's entities; any other is kept as it stands.
fn resolve(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name = eols(reference);
    quick_xml::escape::resolve_xml_entity(&name).map_or_else(|| format!("&{name};"), ToOwned::to_owned)
}

fn push(text: &mut String, more: &str) {
    let room = MAX_TEXT.saturating_sub(text.len());
    text.push_str(cut(more, room));
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(text: &str) -> Vec<Case> {
        let mut cases = Vec::new();
        assert_eq!(read(text.as_bytes(), |case| cases.push(case)), Ending::Whole, "{text}");
        cases
    }

    /// The cases of a report that is not whole, and why it is not.
    fn cut_cases(text: &str) -> (Vec<Case>, String) {
        let mut cases = Vec::new();
        match read(text.as_bytes(), |case| cases.push(case)) {
            Ending::Incomplete(why) => (cases, why),
            other => panic!("{other:?}: {text:.200}"),
        }
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
            assert_eq!(read(text.as_bytes(), |_| panic!("a case")), Ending::NoResults, "{text}");
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
            let (cases, why) = cut_cases(text);
            assert_eq!(cases.len(), 1);
            assert!(why.contains("too deeply") || why.contains("</wrong>"), "{why}");
        }
    }

    #[test]
    fn a_report_that_is_cut_anywhere_after_its_root_began_is_incomplete() {
        let report = "<?xml version='1.0'?><testsuites a='1'><testsuite><testcase name='a'/><testcase name='b'><failure>\
                      <![CDATA[boom]]>&amp;</failure></testcase></testsuite></testsuites>";
        let root = report.find("<testsuites").unwrap();
        for length in 0..report.len() {
            let result = read(&report.as_bytes()[..length], |_| {});
            let is_known = length >= root + "<testsuite".len();
            assert_eq!(
                matches!(result, Ending::Incomplete(_)),
                is_known,
                "{}: {result:?}",
                &report[..length]
            );
            assert_eq!(result == Ending::NoResults, !is_known);
        }
    }

    #[test]
    fn a_case_that_is_cut_counts_if_it_has_failed_already() {
        let begin = "<testsuite><testcase name='a'/><testcase name='b'>";
        let failed = format!("{begin}<failure message='boom'>Traceback");
        assert_eq!(
            cut_cases(&failed).0,
            [case("a", Status::Passed, 0.0, ""), case("b", Status::Failed, 0.0, "boom\nTraceback")]
        );
        for rest in ["", "<skipped>", "<system-out>x", "<fail"] {
            assert_eq!(cut_cases(&format!("{begin}{rest}")).0.len(), 1, "{rest}");
        }
    }

    #[test]
    fn a_long_attribute_is_cut_at_an_end_of_an_entity() {
        let name = format!("é{}", "&lt;".repeat(MAX_TEXT));
        let report = format!("<testsuite><testcase classname='{name}' name='{name}'/></testsuite>");
        let expected = format!("é{}", "<".repeat((MAX_TEXT - 2) / 4));
        assert_eq!(cases(&report)[0].name, format!("{expected}.{expected}"));
    }

    #[test]
    fn a_text_or_a_tag_or_a_name_without_end_is_not_held() {
        // What the parser holds of an endless part is bounded by what it takes from the reader.
        struct Endless<'a> {
            begin: &'a [u8],
            taken: usize,
        }
        impl Read for Endless<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let length = self.begin.read(to)?;
                to[length..].fill(b'x');
                self.taken += to.len();
                assert!(self.taken < 2 * MAX_EVENT, "it goes on reading");
                Ok(to.len())
            }
        }
        for begin in
            ["<testsuite>", "<testsuite a='", "<testsuite><", "<testsuite><!--", "<testsuite><![CDATA["]
        {
            let endless = Endless { begin: begin.as_bytes(), taken: 0 };
            let result = read(io::BufReader::new(endless), |_| {});
            assert!(
                matches!(&result, Ending::Incomplete(why) if why.contains("too long")),
                "{begin}: {result:?}"
            );
        }
        let names = format!("<testsuite><{}>", "x".repeat(MAX_ELEMENT_NAME + 1));
        assert!(cut_cases(&names).1.contains("name that is too long"));
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
