//! Speaks HTTP to the cloud: with time limits, with patience, and with a new login where a token was revoked.
//!
//! osauth's own calls have no time limit, do not try again, and hide a reply's status and headers; so the session is asked for
//! endpoints and tokens, and the requests are ours.

use std::time::Duration;

use openstack::Cloud;
use osauth::client::NO_PATH;
use osauth::{InterfaceType, Session};
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Result};
use reqwest::{Client, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::ask::{Ask, Failed, Service};
use crate::config::OpenStackConfig;
use crate::entry::CloudEntry;
use crate::error::of_osauth;
use crate::identity::Identity;
use crate::reply::read_bounded;

/// Tries of one call in all.
const TRIES: u32 = 6;
/// New logins that one call may cost.
const LOGINS: u32 = 2;
/// Keystone revokes by whole seconds: a token from the very second in which others were revoked is taken for one of them.
const SAME_SECOND: Duration = Duration::from_millis(1100);

/// The cloud's APIs.
#[derive(Debug)]
pub(crate) struct Api {
    entry: CloudEntry,
    client: Client,
    identity: Identity,
    session: OnceCell<Session>,
    patience: Duration,
}

impl Api {
    /// Builds the client. Nothing is sent yet.
    pub(crate) fn new(entry: CloudEntry, config: &OpenStackConfig) -> Result<Self> {
        let refuse = |message: String| Error::permanent(ErrorKind::Config, message).during("cloud");
        let mut client = Client::builder()
            .connect_timeout(config.connect_timeout.0)
            .timeout(config.request_timeout.0)
            .user_agent(concat!("pushbutton/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &entry.cacert {
            let place = path.display();
            let pem = std::fs::read(path)
                .map_err(|error| refuse(format!("cannot read the cacert {place}: {error}")).because(error))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| refuse(format!("the cacert {place} is not PEM")).because(error))?;
            for certificate in certificates {
                client = client.add_root_certificate(certificate);
            }
        }
        let client =
            client.build().map_err(|error| refuse("cannot set up an HTTP client".into()).because(error))?;
        let identity = Identity::new(entry.credentials.clone(), entry.overrides.clone());
        // Two requests' time: one that hung, and one more chance.
        let patience = config.request_timeout.0 * 2;
        Ok(Self { entry, client, identity, session: OnceCell::new(), patience })
    }

    /// The cloud's name in its file.
    pub(crate) fn name(&self) -> &str {
        &self.entry.name
    }

    async fn session(&self) -> Result<&Session> {
        let make = || async {
            let interface: InterfaceType = self.entry.interface.parse().map_err(of_osauth)?;
            let session = Session::new_with_client(self.client.clone(), self.identity.clone());
            let mut session = session.await.map_err(of_osauth)?.with_endpoint_interface(interface);
            if let Some(region) = &self.entry.region {
                session = session.with_region(region.clone());
            }
            Ok(session)
        };
        self.session.get_or_try_init(make).await
    }

    /// The id of the project that we are logged in to.
    pub(crate) async fn project(&self) -> Result<Option<String>> {
        self.identity.project(&self.client).await.map_err(of_osauth)
    }

    /// Whether the cloud has such a service at all.
    pub(crate) async fn has(&self, service: Service) -> Result<bool> {
        match self.session().await?.get_endpoint(service, NO_PATH).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == openstack::ErrorKind::EndpointNotFound => Ok(false),
            Err(error) => Err(of_osauth(error)),
        }
    }

    async fn url(&self, ask: &Ask) -> Result<Url> {
        let root = self.session().await?.get_endpoint(ask.service, NO_PATH).await.map_err(of_osauth)?;
        let is_version = |part: &str| {
            part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let versioned = root.path_segments().is_some_and(|mut parts| parts.any(is_version));
        let mut url = root;
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty();
            if !versioned {
                parts.push(ask.service.version());
            }
            parts.extend(&ask.path);
        }
        Ok(url)
    }

    async fn send_once(&self, ask: &Ask) -> std::result::Result<Vec<u8>, Failed> {
        use osauth::AuthType;
        let url = self.url(ask).await.map_err(Failed::of_login)?;
        let mut request = self.client.request(ask.method.clone(), url).query(&ask.query);
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        let request = self.identity.authenticate(&self.client, request).await;
        let request = request.map_err(|error| Failed::of_login(of_osauth(error)))?;
        let mut reply = request.send().await.map_err(|error| Failed::of_http(ask, error))?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let body = read_bounded(&mut reply).await.map_err(|error| Failed::of_http(ask, error))?;
        if status.is_success() { Ok(body) } else { Err(Failed::of_status(ask, status, &headers, &body)) }
    }

    /// Drops a token that the cloud does not take (any more).
    async fn log_in_again(&self, generation: u64, before: u32) {
        self.identity.forget(generation).await;
        if before > 0 {
            tokio::time::sleep(SAME_SECOND).await;
        }
    }

    /// Sends a request until it is answered for good, or patience ends.
    ///
    /// What is not idempotent is sent again only where it was certainly not done: refused for now (429), or never sent.
    pub(crate) async fn send(&self, ask: &Ask) -> std::result::Result<Vec<u8>, Failed> {
        let end = Instant::now() + self.patience;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut logins = 0;
        loop {
            let login = self.identity.logged_in(&self.client).await;
            let sent = match &login {
                Ok(_) => self.send_once(ask).await,
                Err(error) => Err(Failed::of_login(of_osauth(error.clone()))),
            };
            let mut failed = match sent {
                Ok(body) => return Ok(body),
                Err(failed) => failed,
            };
            let revoked = failed.error.context("status") == Some("401");
            if let (Ok(generation), true, true) = (&login, revoked, logins < LOGINS) {
                self.log_in_again(*generation, logins).await;
                logins += 1;
                continue;
            }
            let Some(at_least) = failed.again.take() else { return Err(failed) };
            let delay = backoff.next_delay() + at_least;
            if backoff.tries() >= TRIES || Instant::now() + delay > end {
                return Err(failed);
            }
            tracing::debug!(path = %ask.path.join("/"), ?delay, "will ask the cloud again: {}", failed.error);
            tokio::time::sleep(delay).await;
        }
    }

    /// Sends a request and reads what stands under `key` in the reply.
    pub(crate) async fn fetch<T: DeserializeOwned>(
        &self,
        ask: &Ask,
        key: &'static str,
    ) -> std::result::Result<T, Failed> {
        let body = self.send(ask).await?;
        let odd = |error: Option<serde_json::Error>| {
            let message = format!("the cloud's reply does not hold a {key:?} that can be read");
            let odd = Error::temporary(ErrorKind::Protocol, message);
            let error = match error {
                Some(error) => odd.because(error),
                None => odd,
            };
            Failed { error, maybe_done: true, again: None }
        };
        let mut value: Value = serde_json::from_slice(&body).map_err(|error| odd(Some(error)))?;
        let part = value.get_mut(key).map(Value::take).ok_or_else(|| odd(None))?;
        serde_json::from_value(part).map_err(|error| odd(Some(error)))
    }

    /// Reads one thing; none when it is not there.
    pub(crate) async fn find<T: DeserializeOwned>(&self, ask: &Ask, key: &'static str) -> Result<Option<T>> {
        match self.fetch(ask, key).await {
            Ok(found) => Ok(Some(found)),
            Err(failed) if failed.error.kind() == ErrorKind::NotFound => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    /// Deletes one thing; it is as well when it is not there.
    pub(crate) async fn remove(&self, ask: &Ask) -> Result<()> {
        match self.send(ask).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.error.kind() == ErrorKind::NotFound => Ok(()),
            Err(failed) => Err(failed.error),
        }
    }

    /// Reads a list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(&self, ask: Ask, key: &'static str) -> Result<Vec<T>> {
        /// A list that does not end is not one; Nova's pages hold a thousand.
        const MAX_PAGES: usize = 100;
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = match &marker {
                Some(marker) => ask.clone().with("marker", marker),
                None => ask.clone(),
            };
            let body = self.send(&page).await?;
            let odd =
                || Error::temporary(ErrorKind::Protocol, format!("the cloud's reply is not a list of {key}"));
            let value: Value = serde_json::from_slice(&body).map_err(|error| odd().because(error))?;
            let items = value.get(key).and_then(Value::as_array).ok_or_else(odd)?;
            let last = items.last().and_then(|item| item.get("id")).and_then(Value::as_str);
            let more = has_next(&value, key);
            for item in items {
                all.push(T::deserialize(item).map_err(|error| odd().because(error))?);
            }
            match last {
                Some(last) if more && marker.as_deref() != Some(last) => marker = Some(last.to_owned()),
                _ => break,
            }
        }
        Ok(all)
    }

    /// Calls the openstack crate, with the same patience.
    pub(crate) async fn through_crate<T, F, Fut>(&self, call: F) -> Result<T>
    where
        F: Fn(Cloud) -> Fut,
        Fut: Future<Output = openstack::Result<T>>,
    {
        let end = Instant::now() + self.patience;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut logins = 0;
        loop {
            let login = self.identity.logged_in(&self.client).await;
            let called = match &login {
                Ok(_) => call(Cloud::from(self.session().await?.clone())).await,
                Err(error) => Err(error.clone()),
            };
            let error = match called {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let revoked = error.kind() == openstack::ErrorKind::AuthenticationFailed;
            if let (Ok(generation), true, true) = (&login, revoked, logins < LOGINS) {
                self.log_in_again(*generation, logins).await;
                logins += 1;
                continue;
            }
            let error = of_osauth(error);
            let delay = backoff.next_delay();
            if !error.is_temporary() || backoff.tries() >= TRIES || Instant::now() + delay > end {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }
}

/// Whether a list goes on: `servers_links` with a `next` (Nova, Neutron, Cinder), or `next` alone (Glance).
fn has_next(page: &Value, key: &str) -> bool {
    let links = page.get(format!("{key}_links")).and_then(Value::as_array);
    let is_next = |link: &Value| link.get("rel").and_then(Value::as_str) == Some("next");
    links.is_some_and(|links| links.iter().any(is_next)) || page.get("next").is_some_and(Value::is_string)
}
