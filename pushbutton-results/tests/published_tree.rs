//! The published folder of a run as a browser sees it: each page is well-formed HTML without scripts, and each link
//! leads to a file of the folder, and to an anchor that is there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failed step must fail the test")]

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

#[allow(dead_code, missing_docs, unreachable_pub, reason = "an example that is a program of its own")]
#[path = "../examples/sample_pages.rs"]
mod sample_pages;

/// Elements that have no end (HTML's "void elements"), as far as the pages use them.
const VOID: [&str; 3] = ["meta", "br", "link"];

/// One element's begin.
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// Reads a page strictly: a stray `<` or `&`, an attribute without quotes, an element that is not closed or closed by
/// another's end fails the test.
fn elements(page: &str) -> Vec<Element> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap_or_else(|| panic!("no doctype"));
    let (mut open, mut found) = (Vec::<String>::new(), Vec::new());
    while !rest.is_empty() {
        let (text, tag) = rest.split_once('<').unwrap_or((rest, ""));
        if open.last().is_none_or(|name| name != "style") {
            for after in text.split('&').skip(1) {
                let known = ["lt;", "gt;", "amp;", "quot;"].iter().any(|entity| after.starts_with(entity));
                assert!(known, "a stray & before {after:.40}");
            }
            assert!(!text.contains('>'), "a stray > in {text:.40}");
        }
        if tag.is_empty() {
            break;
        }
        let (tag, after) = tag.split_once('>').unwrap_or_else(|| panic!("no end of <{tag:.40}"));
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {after:.60}");
            continue;
        }
        let (name, mut words) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = Vec::new();
        while let Some((key, value)) = words.trim_start().split_once("=\"") {
            let (value, after) =
                value.split_once('"').unwrap_or_else(|| panic!("no closing quote in <{tag}>"));
            attributes.push((key.to_owned(), unescaped(value)));
            words = after;
        }
        assert_eq!(words.trim(), "", "in <{tag}>");
        if !VOID.contains(&name) {
            open.push(name.to_owned());
        }
        found.push(Element { name: name.to_owned(), attributes });
    }
    assert_eq!(open, Vec::<String>::new());
    found
}

fn text_of(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match path.extension().is_some_and(|end| end == "gz") {
        true => flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap(),
        false => fs::File::open(path).unwrap().read_to_string(&mut text).unwrap(),
    };
    text
}

fn decoded(url: &str) -> String {
    percent_encoding::percent_decode_str(url).decode_utf8().unwrap().into_owned()
}

#[tokio::test]
async fn each_page_is_well_formed_and_each_link_leads_to_a_line_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let run = sample_pages::write_sample(folder.path().to_owned()).await.unwrap();
    let pages = ["index.html", "console.html.gz", "testr_results.html.gz"];
    let (mut links, mut anchored) = (HashSet::new(), 0);
    for page in pages {
        for Element { name, attributes } in elements(&text_of(&run.join(page))) {
            let allowed =
                !matches!(name.as_str(), "script" | "iframe" | "object" | "img" | "form" | "link" | "base");
            assert!(allowed, "{page} has <{name}>");
            for (key, value) in attributes {
                assert!(!key.starts_with("on") && key != "src", "{page}: {key}={value}");
                if key == "href" && !value.starts_with("https://review.example.org/") {
                    links.insert((page, value));
                }
            }
        }
    }
    for (page, link) in &links {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target: PathBuf = match path {
            "" => run.join(page),
            "./" => run.join("index.html"),
            path => run.join(decoded(path.strip_prefix("./").unwrap())),
        };
        assert!(
            fs::metadata(&target).is_ok_and(|meta| meta.is_file()),
            "{page} links to {link}, which is no file"
        );
        if !anchor.is_empty() {
            let is_there = elements(&text_of(&target))
                .iter()
                .any(|element| element.attributes.iter().any(|(key, value)| key == "id" && value == anchor));
            assert!(is_there, "{page} links to {link}, where there is no such anchor");
            anchored += 1;
        }
    }
    // Each line of the console links to itself; the index links to stages, faults, and tests in both pages.
    let console = fs::read_to_string(run.join("console.log")).unwrap().lines().count();
    assert_eq!(anchored, console + 4 + 1 + 2 + 2, "{links:?}");
    let listed = links.iter().filter(|(page, link)| *page == "index.html" && !link.contains('#')).count();
    let files =
        walkdir::WalkDir::new(&run).into_iter().flatten().filter(|entry| entry.file_type().is_file()).count();
    assert_eq!(listed + 1, files, "all files but the index itself are listed");
}

#[tokio::test]
async fn the_lines_that_the_index_names_say_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let run = sample_pages::write_sample(folder.path().to_owned()).await.unwrap();
    let console = fs::read_to_string(run.join("console.log")).unwrap();
    let line = |number: &str| console.lines().nth(number.parse::<usize>().unwrap() - 1).unwrap();
    let index = text_of(&run.join("index.html"));
    let mut said = Vec::new();
    for found in index.split("./console.html.gz#L").skip(1) {
        let (number, text) = found.split_once("\">").unwrap();
        said.push((unescaped(text.split_once('<').unwrap().0), line(number).to_owned()));
    }
    for stage in ["prepare-node", "install-devstack", "run-tempest", "gather-logs"] {
        let (_, line) = said.iter().find(|(text, _)| text == stage).unwrap();
        assert!(line.contains(&format!("stage {stage} begins")), "{line}");
    }
    let (_, fault) = said.iter().find(|(text, _)| text.contains("2 tests failed")).unwrap();
    assert!(fault.contains("fatal: [node]: FAILED!"), "{fault}");
    let failed: Vec<&String> =
        said.iter().filter(|(text, _)| text.starts_with("line ")).map(|(_, line)| line).collect();
    assert_eq!(failed.len(), 2);
    assert!(
        failed[0].contains("test_volume_create_get_update_delete [71.400000s] ... FAILED"),
        "{}",
        failed[0]
    );
    assert!(
        failed[1].contains("test_volume_create_get_update_delete_from_image [71.400000s] ... FAILED"),
        "{}",
        failed[1]
    );
}
