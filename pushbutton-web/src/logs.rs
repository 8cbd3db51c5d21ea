//! The log folder, readable in a browser without a download, as OpenStack's rules for third-party CIs ask.
//!
//! The files come from machines that ran strangers' patches as root. So they are shown as text, never rendered; links
//! cannot lead out of the folder; and only plain files and folders are served. The pages of a run, which the operator
//! wrote, are rendered, in a sandbox without scripts.

use std::io::ErrorKind;

use axum::extract::{Path as UrlPath, State};
use axum::http::header::{
    ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, LOCATION, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};

use crate::WebState;
use crate::file_calls::FileCalls;
use crate::html::{page, segment, time};
use crate::large_answers::busy;

mod folder;

use folder::{Content, Entry, Listed, LogFile, MAX_ENTRIES};

pub(crate) async fn root(state: State<WebState>, uri: Uri, headers: HeaderMap) -> Response {
    entry(state, UrlPath(String::new()), uri, headers).await
}

pub(crate) async fn entry(
    State(state): State<WebState>,
    UrlPath(path): UrlPath<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(root) = state.logs() else { return not_found() };
    let (wanted, at) = (path.clone(), root.clone());
    let found = state.log_calls().run(move || folder::find(&root, &wanted)).await;
    match found {
        Ok(Entry::File(file)) => send(file, state.log_calls(), accepts_gzip(&headers)),
        // Relative links of a listing need the slash.
        Ok(Entry::Folder(_)) if !uri.path().ends_with('/') => redirect(&state, &path),
        Ok(Entry::Folder(entries)) => {
            let answer = async { page(&state, false, &listing(&state, &path, &entries)).into_response() };
            state.lists().bound(answer).await
        }
        Err(error) if error.kind() == ErrorKind::NotFound => not_found(),
        // The file server is away, or busy: whether there is such a log is not known.
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            tracing::warn!(folder = %at.display(), path, "cannot show a log: {error}");
            busy()
        }
        Err(error) => {
            tracing::warn!(folder = %at.display(), path, "cannot show a log: {error}");
            not_found()
        }
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "no such log\n").into_response()
}

fn redirect(state: &WebState, path: &str) -> Response {
    let to = folders(state, path).pop().map(|(href, _)| href).unwrap_or_default();
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, to)]).into_response()
}

/// Streams a file: as text where a person can read it, as a download otherwise.
fn send(file: LogFile, calls: &FileCalls, accepts_gzip: bool) -> Response {
    // A log that is still written may grow: no more is sent than `content-length` says.
    let mut response = calls.body(file.file, file.length).into_response();
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
    match file.content {
        Content::Text => _ = set(CONTENT_TYPE, "text/plain; charset=utf-8"),
        Content::GzippedText if accepts_gzip => {
            set(CONTENT_TYPE, "text/plain; charset=utf-8");
            set(CONTENT_ENCODING, "gzip");
        }
        Content::Page { compressed } if !compressed || accepts_gzip => {
            set(CONTENT_TYPE, "text/html; charset=utf-8");
            set(CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; style-src 'unsafe-inline'");
            if compressed {
                set(CONTENT_ENCODING, "gzip");
            }
        }
        Content::GzippedText | Content::Page { .. } | Content::Bytes => {
            set(CONTENT_TYPE, "application/octet-stream");
            set(CONTENT_DISPOSITION, "attachment");
        }
    }
    if matches!(file.content, Content::GzippedText | Content::Page { compressed: true }) {
        set(VARY, "accept-encoding");
    }
    headers.insert(CONTENT_LENGTH, file.length.into());
    response
}

/// Whether the client accepts gzip (RFC 9110, 12.5.3). Every browser does; `curl` without an option does not.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name == "*" || name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| {
            part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|quality| quality <= 0.0)
        });
        named && !refused
    })
}

/// The log folder and the folders on the path below it: where each is, and its name.
fn folders<'a>(state: &WebState, path: &'a str) -> Vec<(String, &'a str)> {
    let mut folders = vec![(format!("{}/logs/", state.base_path()), "logs")];
    let mut href = folders[0].0.clone();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        href += &format!("{}/", segment(name));
        folders.push((href.clone(), name));
    }
    folders
}

/// A folder, as a page.
fn listing(state: &WebState, path: &str, entries: &[Listed]) -> Markup {
    html! {
        p {
            a href=(state.home()) { "status" }
            @for (href, name) in folders(state, path) { " / " a href=(href) { (name) } }
        }
        table.listing {
            thead { tr { th { "Name" } th.number { "Size" } th { "Modified (UTC)" } } }
            tbody {
                @for entry in entries.iter().take(MAX_ENTRIES) {
                    @let slash = if entry.is_file { "" } else { "/" };
                    @let modified = entry.modified.and_then(|at| Timestamp::try_from(at).ok()).map(time);
                    tr {
                        td { a href={ (segment(&entry.name)) (slash) } { (entry.name) (slash) } }
                        td.short.number {
                            @if entry.is_file { span title={ (entry.length) " bytes" } { (pushbutton_results::file_size(entry.length)) } }
                        }
                        td.short { (modified.unwrap_or_default()) }
                    }
                }
            }
        }
        @if entries.is_empty() { p { "This folder is empty." } }
        @if entries.len() > MAX_ENTRIES { p { "Only " (MAX_ENTRIES) " entries are shown; there are more." } }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use pushbutton_core::memory::{MemoryHistory, MemoryQueue};

    use super::*;

    /// Holds a lease of a file: as long as it lives, for 45 seconds at most, whoever opens the file hangs in the kernel.
    const LEASE: &str = "
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
";

    #[test]
    fn a_log_whose_file_system_hangs_is_refused_in_time_and_takes_few_threads() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hangs.log"), "late").unwrap();
        std::fs::write(folder.path().join("other.log"), "here").unwrap();
        let mut holder = Command::new("python3")
            .args(["-c", LEASE])
            .arg(folder.path().join("hangs.log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        let short = Duration::from_millis(100);
        let queue = MemoryQueue::with_lease(Duration::from_secs(60));
        let state = WebState::new(queue, MemoryHistory::default()).with_logs(folder.path());
        let of = async |calls: &FileCalls, name: &str| {
            let state = State(state.clone().with_log_calls(calls.clone()));
            let uri = format!("/logs/{name}").parse().unwrap();
            entry(state, UrlPath(name.to_owned()), uri, HeaderMap::new()).await
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(3).enable_all().build().unwrap();
        runtime.block_on(async {
            let calls = FileCalls::new(2, short, short);
            assert_eq!(of(&calls, "other.log").await.status(), StatusCode::OK);
            for _ in 0..5 {
                let answer = of(&calls, "hangs.log").await;
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!(answer.headers()[axum::http::header::RETRY_AFTER], "5");
            }
            let other = tokio::task::spawn_blocking(|| 7);
            let other = tokio::time::timeout(Duration::from_secs(20), other).await;
            assert_eq!(other.expect("a thread is free for the rest of the process").unwrap(), 7);
            drop(holder.stdin.take());
            holder.wait().unwrap();
            let calls = FileCalls::new(1, Duration::from_secs(20), Duration::from_secs(20));
            let answer = of(&calls, "hangs.log").await;
            let text = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            assert_eq!(text, "late");
        });
    }

    #[test]
    fn gzip_is_accepted_when_it_is_named_and_not_refused() {
        let accepts =
            |value| accepts_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]));
        for yes in ["gzip", "deflate, GZIP;q=0.5", "*", "br, gzip"] {
            assert!(accepts(yes), "{yes}");
        }
        for no in ["", "identity", "gzip;q=0", "br, gzip; q=0.0", "x-gzipped"] {
            assert!(!accepts(no), "{no}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
