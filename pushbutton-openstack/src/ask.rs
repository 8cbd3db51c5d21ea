//! Requests, and what their failures mean for asking again.

use std::time::Duration;

use osauth::services::ServiceType;
use pushbutton_core::Error;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::error::{of_http, of_reply};

/// The longest that a `Retry-After` is obeyed; a cloud that asks for more is down for our purposes.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The services that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Compute,
    Network,
    Image,
    BlockStorage,
}

impl Service {
    /// The version that our requests are written for: added where a catalogue's URL names none.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Compute => "v2.1",
            Self::Network => "v2.0",
            Self::Image => "v2",
            Self::BlockStorage => "v3",
        }
    }
}

impl ServiceType for Service {
    fn catalog_type(&self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Network => "network",
            Self::Image => "image",
            Self::BlockStorage => "block-storage",
        }
    }

    /// A service behind a proxy often tells of itself by a name that only it can reach; the catalogue's URL is the one to trust.
    fn version_discovery_supported(&self) -> bool {
        false
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) service: Service,
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
}

impl Ask {
    fn new<const N: usize>(method: Method, service: Service, path: [&str; N]) -> Self {
        let path = path.into_iter().map(str::to_owned).collect();
        Self { service, method, path, query: Vec::new(), body: None }
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

    /// Whether sending it twice is as good as once.
    fn is_idempotent(&self) -> bool {
        self.method != Method::POST
    }
}

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The cloud may have done it all the same: there was no answer, or one that proves nothing.
    pub(crate) maybe_done: bool,
    /// Whether this very request may be sent again, and not before how long.
    pub(crate) again: Option<Duration>,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl Failed {
    /// A request that was never sent, for want of a token or an address.
    pub(crate) fn of_login(error: Error) -> Self {
        let again = error.is_temporary().then_some(Duration::ZERO);
        Self { error, maybe_done: false, again }
    }

    pub(crate) fn of_status(ask: &Ask, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let error = of_reply(status.as_u16(), body);
        let maybe_done = status.is_server_error();
        let refused_for_now = status == StatusCode::TOO_MANY_REQUESTS;
        let again = (refused_for_now || maybe_done && ask.is_idempotent()).then(|| retry_after(headers));
        Self { error, maybe_done, again }
    }

    pub(crate) fn of_http(ask: &Ask, error: reqwest::Error) -> Self {
        let never_sent = error.is_connect() || error.is_builder();
        let again = (never_sent || ask.is_idempotent()).then_some(Duration::ZERO);
        Self { error: of_http(error), maybe_done: !never_sent, again }
    }
}

/// What `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Duration {
    let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return Duration::ZERO;
    };
    let wanted = text.trim().parse().map(Duration::from_secs).ok().or_else(|| {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
    });
    wanted.unwrap_or_default().min(MAX_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_seconds_as_a_date_and_as_nonsense() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(asked("7"), Duration::from_secs(7));
        assert_eq!(asked("86400"), MAX_RETRY_AFTER);
        assert_eq!(asked("Wed, 21 Oct 2099 07:28:00 GMT"), MAX_RETRY_AFTER);
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Duration::ZERO);
        assert_eq!(asked("soon"), Duration::ZERO);
    }
}
