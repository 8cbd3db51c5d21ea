//! Gerrit's REST API, used without a login, for one thing: the times of comments, which a query over SSH does not
//! contain.

use std::sync::atomic::{AtomicBool, Ordering};

use pushbutton_core::{ChangeNumber, Error, ErrorKind, ProjectName, Result};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use crate::client::rest_comments::{CommentTime, parse_comments};
use crate::config::GerritConfig;

/// The largest reply that is read. Gerrit's default limit for the comments of a change is 3 MiB; JSON and names are
/// added to that.
const MAX_REPLY: usize = 16 << 20;

/// A client of the REST API.
pub(crate) struct Rest {
    client: Client,
    base: Url,
    /// Whether the last request failed: logged once, not every few minutes.
    is_down: AtomicBool,
}

impl Rest {
    /// None if no `url` is configured. Sends nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent.
    pub(crate) fn new(config: &GerritConfig) -> Result<Option<Self>> {
        let Some(url) = &config.url else { return Ok(None) };
        let base = parse_url(url)
            .map_err(|problem| Error::permanent(ErrorKind::Config, format!("url: {problem}")))?;
        let client = Client::builder()
            .connect_timeout(config.deadlines.connect.0)
            .timeout(config.deadlines.command.0)
            // A redirect leads to a login page or to another server.
            .redirect(Policy::none())
            .user_agent(concat!("pushbutton/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                Error::permanent(ErrorKind::Config, "the HTTP client cannot be set up").because(error)
            })?;
        Ok(Some(Self { client, base, is_down: AtomicBool::new(false) }))
    }

    /// Reads when the comments on a change were written.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`]: the change is not public.
    /// - [`ErrorKind::Protocol`], permanent: the server is not a Gerrit.
    /// - Temporary ones of the network and the server.
    pub(crate) async fn comments(
        &self,
        project: &ProjectName,
        change: ChangeNumber,
    ) -> Result<Vec<CommentTime>> {
        let id = format!("{project}~{change}");
        let reply = self.get(&["changes", &id, "comments"]).await;
        reply
            .and_then(|reply| parse_comments(&reply))
            .map_err(|error| error.during("gerrit::rest").with("change", change))
    }

    /// Whether a Gerrit answers.
    ///
    /// # Errors
    /// As of [`comments`](Self::comments).
    pub(crate) async fn probe(&self) -> Result<()> {
        let reply =
            self.get(&["config", "server", "version"]).await.map_err(|error| error.during("gerrit::rest"))?;
        if reply.starts_with(b")]}'") {
            return Ok(());
        }
        Err(Error::permanent(ErrorKind::Protocol, "the reply does not begin like one of Gerrit"))
    }

    /// Records whether the last request failed; true if that has changed.
    pub(crate) fn set_down(&self, is_down: bool) -> bool {
        self.is_down.swap(is_down, Ordering::Relaxed) != is_down
    }

    async fn get(&self, path: &[&str]) -> Result<Vec<u8>> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Percent-encodes each, the slashes in a project's name too.
            segments.pop_if_empty().extend(path);
        }
        let mut reply = self.client.get(url).send().await.map_err(from_http)?;
        let status = reply.status();
        if status != StatusCode::OK {
            return Err(from_status(status));
        }
        let mut body = Vec::new();
        while let Some(chunk) = reply.chunk().await.map_err(from_http)? {
            if body.len() + chunk.len() > MAX_REPLY {
                return Err(Error::permanent(ErrorKind::Exhausted, "the reply is longer than 16 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Parses `url`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_url(url: &str) -> std::result::Result<Url, &'static str> {
    let url = Url::parse(url).map_err(|_| "must be a web address, as https://review.opendev.org")?;
    if !matches!(url.scheme(), "https" | "http") || url.cannot_be_a_base() {
        return Err("must begin with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a login: only public data is read");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with the path, without ? and #");
    }
    Ok(url)
}

fn from_status(status: StatusCode) -> Error {
    let said = format!("REST answered {status}");
    match status.as_u16() {
        404 => Error::permanent(ErrorKind::NotFound, said),
        401 | 403 => Error::permanent(ErrorKind::Denied, said),
        300..=399 => Error::permanent(
            ErrorKind::Protocol,
            format!("{said}; `url` must be the address that this redirects to"),
        ),
        429 | 500.. => Error::temporary(ErrorKind::Remote, said),
        _ => Error::permanent(ErrorKind::Protocol, said),
    }
}

fn from_http(error: reqwest::Error) -> Error {
    let kind = if error.is_timeout() { ErrorKind::TimedOut } else { ErrorKind::Unreachable };
    let mut cause: &dyn std::error::Error = &error;
    // The innermost cause has the useful text.
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Error::temporary(kind, format!("REST does not answer: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_urls_are_refused() {
        for url in [
            "review.opendev.org",
            "ftp://review.opendev.org",
            "https://u:p@h/",
            "https://u@h/",
            "https://h/?q=1",
            "mailto:x",
            "",
        ] {
            assert!(parse_url(url).is_err(), "{url}");
        }
        for url in ["https://review.opendev.org", "http://127.0.0.1:8080/r/"] {
            assert!(parse_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn only_overload_and_server_errors_are_temporary() {
        for (status, temporary) in [(301, false), (403, false), (404, false), (429, true), (503, true)] {
            assert_eq!(
                from_status(StatusCode::from_u16(status).unwrap()).is_temporary(),
                temporary,
                "{status}"
            );
        }
    }
}
