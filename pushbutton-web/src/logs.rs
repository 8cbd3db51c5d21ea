//! The log folder, readable in a browser without a download, as OpenStack's rules for third-party CIs ask.
//!
//! The files come from machines that ran strangers' patches as root. So they are shown as text, never rendered; links
//! cannot lead out of the folder; and only plain files and folders are served. The pages of a run, which the operator
//! wrote, are rendered, in a sandbox without scripts.

use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::header::{
    ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, LOCATION, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::WebState;
use crate::html::{page, segment, time};

mod folder;

use folder::{Content, Entry, Listed, LogFile, MAX_ENTRIES};

/// Bytes read from a file at a time.
const CHUNK: usize = 64 << 10;

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
    let found = tokio::task::spawn_blocking(move || folder::find(&root, &wanted)).await;
    match found {
        Ok(Ok(Entry::File(file))) => send(file, accepts_gzip(&headers)),
        // Relative links of a listing need the slash.
        Ok(Ok(Entry::Folder(_))) if !uri.path().ends_with('/') => redirect(&state, &path),
        Ok(Ok(Entry::Folder(entries))) => {
            page(&state, false, &listing(&state, &path, &entries)).into_response()
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => not_found(),
        Ok(Err(error)) => {
            tracing::warn!(folder = %at.display(), path, "cannot show a log: {error}");
            not_found()
        }
        Err(error) => {
            tracing::error!("reading the log folder failed: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
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
fn send(file: LogFile, accepts_gzip: bool) -> Response {
    // A log that is still written may grow: no more is sent than `content-length` says.
    let body = tokio::fs::File::from_std(file.file).take(file.length);
    let mut response = Body::from_stream(ReaderStream::with_capacity(body, CHUNK)).into_response();
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
    use super::*;

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
