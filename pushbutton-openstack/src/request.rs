//! One request to a service, and what its failure means: whether it may be sent again, and whether the cloud may have
//! carried it out.

use std::fmt;
use std::time::Duration;

use pushbutton_core::Error;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::catalog::Service;
use crate::error::{no_reply, of_entry, redirect, refusal};
use crate::response::message_of;

/// The longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// One request.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) service: Service,
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    /// The API microversion that it needs, with the service's type. Default: the service's lowest.
    pub(crate) microversion: Option<&'static str>,
}

impl fmt::Debug for Request {
    /// Without the body, which may hold a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, method, path, query, body: _, microversion: _ } = self;
        f.debug_struct("Request")
            .field("service", service)
            .field("method", method)
            .field("path", path)
            .field("query", query)
            .finish_non_exhaustive()
    }
}

impl Request {
    fn new<const N: usize>(method: Method, service: Service, path: [&str; N]) -> Self {
        let path = path.into_iter().map(str::to_owned).collect();
        Self { service, method, path, query: Vec::new(), body: None, microversion: None }
    }

    pub(crate) fn get<const N: usize>(service: Service, path: [&str; N]) -> Self {
        Self::new(Method::GET, service, path)
    }

    pub(crate) fn delete<const N: usize>(service: Service, path: [&str; N]) -> Self {
        Self::new(Method::DELETE, service, path)
    }

    pub(crate) fn post<const N: usize>(service: Service, path: [&str; N], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, service, path) }
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// Marks a permanent error that is the fault of the cloud's entry in `clouds.yaml`, not of what was asked for.
    pub(crate) fn of_entry(&self, error: Error) -> Error {
        if self.service.is_needed_by_all() { of_entry(error) } else { error }
    }

    fn is_idempotent(&self) -> bool {
        self.method != Method::POST
    }
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct RequestError {
    pub(crate) error: Error,
    /// The cloud may have carried it out: there was no reply, or one that does not prove the contrary.
    pub(crate) ambiguous: bool,
    /// Where the request may be sent again: the shortest delay before that.
    pub(crate) retry_after: Option<Duration>,
}

impl From<RequestError> for Error {
    fn from(failed: RequestError) -> Self {
        failed.error
    }
}

impl RequestError {
    /// The request was not sent: there is no token or no endpoint.
    pub(crate) fn not_sent(error: Error) -> Self {
        let retry_after = error.is_temporary().then_some(Duration::ZERO);
        Self { error, ambiguous: false, retry_after }
    }

    /// The service refused it.
    pub(crate) fn refused(request: &Request, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if status.is_redirection() {
            let error = redirect(status.as_u16(), headers, &request.service.url_key());
            return Self { error: request.of_entry(error), ambiguous: false, retry_after: None };
        }
        let ambiguous = status.is_server_error();
        let retry = status == StatusCode::TOO_MANY_REQUESTS || ambiguous && request.is_idempotent();
        let retry_after = retry.then(|| retry_after(headers));
        let error = refusal(status.as_u16(), &message_of(body));
        // A new login did not help.
        let error = if status == StatusCode::UNAUTHORIZED { request.of_entry(error) } else { error };
        Self { error, ambiguous, retry_after }
    }

    /// There was no reply.
    pub(crate) fn no_reply(request: &Request, error: reqwest::Error) -> Self {
        let never_sent = error.is_connect() || error.is_builder();
        let retry_after = (never_sent || request.is_idempotent()).then_some(Duration::ZERO);
        Self { error: no_reply(error), ambiguous: !never_sent, retry_after }
    }

    /// The service accepted it, but its reply cannot be read.
    pub(crate) fn unreadable(error: Error) -> Self {
        Self { error, ambiguous: true, retry_after: None }
    }
}

/// The delay that `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Duration {
    let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return Duration::ZERO;
    };
    let delay = text.trim().parse().map(Duration::from_secs).ok().or_else(|| {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
    });
    delay.unwrap_or_default().min(MAX_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let delay = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(delay("7"), Duration::from_secs(7));
        assert_eq!(delay("86400"), MAX_RETRY_AFTER);
        assert_eq!(delay("Wed, 21 Oct 2099 07:28:00 GMT"), MAX_RETRY_AFTER);
        assert_eq!(delay("Wed, 21 Oct 2015 07:28:00 GMT"), Duration::ZERO);
        assert_eq!(delay("soon"), Duration::ZERO);
    }
}
