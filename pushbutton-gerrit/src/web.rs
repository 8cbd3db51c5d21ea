//! Gerrit's REST, asked without a login: when comments were written that stand in a query without a time.

use std::sync::atomic::{AtomicBool, Ordering};

use pushbutton_core::{ChangeNumber, Error, ErrorKind, ProjectName, Result};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use crate::config::GerritConfig;
use crate::web_reply::{Written, written};

/// The largest reply that is read. Gerrit lets a change have 3 MiB of comments by default; JSON and the names of authors come on top.
const MAX_REPLY: usize = 16 << 20;

/// The server's web side.
pub(crate) struct Web {
    client: Client,
    base: Url,
    /// Whether it failed when it was last asked: told once, not every few minutes.
    is_down: AtomicBool,
}

impl Web {
    /// None where no address is configured. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent.
    pub(crate) fn new(config: &GerritConfig) -> Result<Option<Self>> {
        let Some(url) = &config.url else { return Ok(None) };
        let base = base(url).map_err(|fault| Error::permanent(ErrorKind::Config, format!("url: {fault}")))?;
        let client = Client::builder()
            .connect_timeout(config.deadlines.connect.0)
            .timeout(config.deadlines.command.0)
            // A login page, or another server altogether: neither would say what we asked for.
            .redirect(Policy::none())
            .user_agent(concat!("pushbutton/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                Error::permanent(ErrorKind::Config, "the HTTP client cannot be set up").because(error)
            })?;
        Ok(Some(Self { client, base, is_down: AtomicBool::new(false) }))
    }

    /// When the comments on a change were written.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`]: people who are not logged in may not see this change.
    /// - [`ErrorKind::Protocol`], permanent: what answers is no Gerrit.
    /// - Temporary ones of the network and the server.
    pub(crate) async fn comments(&self, project: &ProjectName, change: ChangeNumber) -> Result<Vec<Written>> {
        let id = format!("{project}~{change}");
        let reply = self.get(&["changes", &id, "comments"]).await;
        reply
            .and_then(|reply| written(&reply))
            .map_err(|error| error.during("gerrit::web").with("change", change))
    }

    /// Whether it answers as a Gerrit does.
    ///
    /// # Errors
    /// As of [`comments`](Self::comments).
    pub(crate) async fn probe(&self) -> Result<()> {
        let reply =
            self.get(&["config", "server", "version"]).await.map_err(|error| error.during("gerrit::web"))?;
        if reply.starts_with(b")]}'") {
            return Ok(());
        }
        Err(Error::permanent(ErrorKind::Protocol, "the reply does not begin as Gerrit's replies do"))
    }

    /// Notes that it could or could not be asked; true when that has changed.
    pub(crate) fn is_news(&self, is_down: bool) -> bool {
        self.is_down.swap(is_down, Ordering::Relaxed) != is_down
    }

    async fn get(&self, path: &[&str]) -> Result<Vec<u8>> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Encodes each: the slashes of a project's name too.
            segments.pop_if_empty().extend(path);
        }
        let mut reply = self.client.get(url).send().await.map_err(of_http)?;
        let status = reply.status();
        if status != StatusCode::OK {
            return Err(of_status(status));
        }
        let mut body = Vec::new();
        while let Some(chunk) = reply.chunk().await.map_err(of_http)? {
            if body.len() + chunk.len() > MAX_REPLY {
                return Err(Error::permanent(ErrorKind::Exhausted, "the reply is longer than 16 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Reads a web address.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn base(url: &str) -> std::result::Result<Url, &'static str> {
    let url = Url::parse(url).map_err(|_| "must be a web address, as https://review.opendev.org")?;
    if !matches!(url.scheme(), "https" | "http") || url.cannot_be_a_base() {
        return Err("must begin with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no login: only what everybody may read is asked for");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with the path, without ? and #");
    }
    Ok(url)
}

fn of_status(status: StatusCode) -> Error {
    let said = format!("the web side answered {status}");
    match status.as_u16() {
        404 => Error::permanent(ErrorKind::NotFound, said),
        401 | 403 => Error::permanent(ErrorKind::Denied, said),
        300..=399 => {
            Error::permanent(ErrorKind::Protocol, format!("{said}; `url` must name the last address"))
        }
        429 | 500.. => Error::temporary(ErrorKind::Remote, said),
        _ => Error::permanent(ErrorKind::Protocol, said),
    }
}

fn of_http(error: reqwest::Error) -> Error {
    let kind = if error.is_timeout() { ErrorKind::TimedOut } else { ErrorKind::Unreachable };
    let mut cause: &dyn std::error::Error = &error;
    // reqwest's own words say little; the cause at the bottom says it all.
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Error::temporary(kind, format!("the web side does not answer: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_work_are_refused() {
        for url in [
            "review.opendev.org",
            "ftp://review.opendev.org",
            "https://u:p@h/",
            "https://u@h/",
            "https://h/?q=1",
            "mailto:x",
            "",
        ] {
            assert!(base(url).is_err(), "{url}");
        }
        for url in ["https://review.opendev.org", "http://127.0.0.1:8080/r/"] {
            assert!(base(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn only_what_may_pass_is_temporary() {
        for (status, temporary) in [(301, false), (403, false), (404, false), (429, true), (503, true)] {
            assert_eq!(
                of_status(StatusCode::from_u16(status).unwrap()).is_temporary(),
                temporary,
                "{status}"
            );
        }
    }
}
