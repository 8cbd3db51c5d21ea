//! The log folder, to be read in a browser without download (OpenStack's rules for third-party CIs), and without trusting a byte of it.
//!
//! What lies there was gathered from machines that ran strangers' patches as root. So files are shown as text, never rendered; links
//! cannot lead out of the folder; and whatever is no plain file or folder is not there.

use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::header::{
    ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, LOCATION, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::WebState;
use crate::html::Segment;

mod accept;
mod folder;
mod listing;

use folder::{Content, Entry, LogFile};

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
        Ok(Ok(Entry::File(file))) => send(file, accept::gzip(&headers)),
        // Relative links of a listing need the slash.
        Ok(Ok(Entry::Folder(_))) if !uri.path().ends_with('/') => redirect(&state, &path),
        Ok(Ok(Entry::Folder(entries))) => Html(listing::render(&state, &path, &entries)).into_response(),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => not_found(),
        Ok(Err(error)) => {
            tracing::warn!(folder = %at.display(), path, "cannot show a log: {error}");
            not_found()
        }
        Err(error) => {
            tracing::error!("reading the log folder was cut short: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "no such log\n").into_response()
}

fn redirect(state: &WebState, path: &str) -> Response {
    let mut to = format!("{}/logs/", state.base());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        to.push_str(&format!("{}/", Segment(segment)));
    }
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, to)]).into_response()
}

/// Streams a file: as text where a person can read it, as a download where not.
fn send(file: LogFile, accepts_gzip: bool) -> Response {
    // A log that is still written grows meanwhile: what was promised is sent, no more.
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
        Content::GzippedText | Content::Bytes => {
            set(CONTENT_TYPE, "application/octet-stream");
            set(CONTENT_DISPOSITION, "attachment");
        }
    }
    if file.content == Content::GzippedText {
        set(VARY, "accept-encoding");
    }
    headers.insert(CONTENT_LENGTH, file.length.into());
    response
}
