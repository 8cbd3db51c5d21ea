//! Sends requests to the cloud, with time limits, retries, and a new login when a token was revoked.
//!
//! This is the only way to the cloud. The openstack crate's session chooses the endpoint and authenticates the request.
//! Its own request methods are not used: they do not retry, and hide whether a failed request was sent, its status and
//! its headers.

use std::path::Path;
use std::time::Duration;

use openstack::session::Session;
use pushbutton_core::retry::Backoff;
use pushbutton_core::{Error, ErrorKind, Result};
use reqwest::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::catalog::Service;
use crate::cloud_config::{CloudConfig, Tls, refuse};
use crate::config::OpenStackConfig;
use crate::error::of_session;
use crate::identity::Identity;
use crate::request::{Request, RequestError};
use crate::response::read_bounded;

/// How often a request is sent at most, not counting new logins.
const MAX_TRIES: u32 = 6;
/// How many new logins one request may cause.
const MAX_LOGINS: u32 = 2;
/// The delay before a second new login. Keystone revokes by whole seconds: a token issued in the second of a revocation
/// is refused too.
const SECOND_LOGIN_DELAY: Duration = Duration::from_millis(1100);
/// The most pages of a list that are read. Nova's pages hold a thousand entries; a service that ignores `marker` never
/// ends.
const MAX_PAGES: usize = 100;

/// The cloud's APIs.
#[derive(Debug)]
pub(crate) struct Api {
    cloud: CloudConfig,
    client: Client,
    identity: Identity,
    session: OnceCell<Session>,
    /// How long a request may take with all its retries.
    max_time: Duration,
}

impl Api {
    /// Builds the client. Sends nothing.
    pub(crate) fn new(cloud: CloudConfig, config: &OpenStackConfig) -> Result<Self> {
        let mut client = Client::builder()
            .connect_timeout(config.connect_timeout.0)
            .timeout(config.request_timeout.0)
            // A redirect would turn a POST into a GET, and take the token to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("pushbutton/", env!("CARGO_PKG_VERSION")));
        let Tls { verify, cacert, cert, key } = &cloud.tls;
        client = client.danger_accept_invalid_certs(!verify);
        if let Some(path) = cacert {
            let certificates =
                reqwest::Certificate::from_pem_bundle(&read("cacert", path)?).map_err(|error| {
                    refuse(format!("the cacert {} is not PEM", path.display())).because(error)
                })?;
            for certificate in certificates {
                client = client.add_root_certificate(certificate);
            }
        }
        if let Some(path) = cert {
            let mut pem = read("cert", path)?;
            if let Some(key) = key {
                pem.extend(read("key", key)?);
            }
            let identity = reqwest::Identity::from_pem(&pem).map_err(|error| {
                let place = path.display();
                refuse(format!("the client certificate {place} and its key are not PEM")).because(error)
            })?;
            client = client.identity(identity);
        }
        let client = client.build().map_err(|error| refuse("cannot set up an HTTP client").because(error))?;
        let identity = Identity::new(&cloud, config.clone());
        // Room for a request that timed out, and for one more.
        let max_time = config.request_timeout.0 * 2;
        Ok(Self { cloud, client, identity, session: OnceCell::new(), max_time })
    }

    /// The cloud's entry in its file.
    pub(crate) fn cloud(&self) -> &CloudConfig {
        &self.cloud
    }

    async fn session(&self) -> Result<&Session> {
        let connect = || Session::new_with_client(self.client.clone(), self.identity.clone());
        self.session.get_or_try_init(connect).await.map_err(of_session)
    }

    /// The id of the project of the login.
    pub(crate) async fn project(&self) -> Result<Option<String>> {
        self.identity.project(&self.client).await
    }

    /// Whether the catalogue has the service.
    pub(crate) async fn has(&self, service: Service) -> Result<bool> {
        match self.session().await?.get_endpoint(service, None::<&str>).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == openstack::ErrorKind::EndpointNotFound => Ok(false),
            Err(error) => Err(of_session(error)),
        }
    }

    /// The request with its URL and its token.
    async fn authenticated(&self, request: &Request) -> Result<reqwest::RequestBuilder> {
        let session = self.session().await?;
        let url = session.get_endpoint(request.service, &request.path).await;
        let url = url.map_err(|error| request.of_entry(of_session(error)))?;
        let mut builder = self.client.request(request.method.clone(), url).query(&request.query);
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        if let Some(version) = request.microversion {
            builder = builder.header("OpenStack-API-Version", version);
        }
        session.auth_type().authenticate(&self.client, builder).await.map_err(of_session)
    }

    async fn send_once(&self, request: &Request) -> std::result::Result<Vec<u8>, RequestError> {
        let builder = self.authenticated(request).await.map_err(RequestError::not_sent)?;
        let no_reply = |error| RequestError::no_reply(request, error);
        let mut reply = builder.send().await.map_err(no_reply)?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let body = read_bounded(&mut reply).await.map_err(no_reply)?;
        if status.is_success() {
            return Ok(body);
        }
        Err(RequestError::refused(request, status, &headers, &body))
    }

    /// Sends a request until there is a final answer, or the tries or the time are used up.
    ///
    /// A request that is not idempotent is sent again only where it was certainly not carried out: refused for now
    /// (429), or never sent.
    pub(crate) async fn send(&self, request: &Request) -> std::result::Result<Vec<u8>, RequestError> {
        let end = Instant::now() + self.max_time;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut new_logins = 0;
        loop {
            let (login, sent) = match self.identity.log_in(&self.client).await {
                Ok(login) => (Some(login), self.send_once(request).await),
                Err(error) => (None, Err(RequestError::not_sent(error))),
            };
            let failed = match sent {
                Ok(body) => return Ok(body),
                Err(failed) => failed,
            };
            let unauthorized = failed.error.context("status") == Some("401");
            if let Some(login) = login.filter(|_| unauthorized && new_logins < MAX_LOGINS) {
                self.identity.forget(login).await;
                if new_logins > 0 {
                    tokio::time::sleep(SECOND_LOGIN_DELAY).await;
                }
                new_logins += 1;
                continue;
            }
            let Some(at_least) = failed.retry_after else { return Err(failed) };
            let delay = backoff.next_delay() + at_least;
            if backoff.tries() >= MAX_TRIES || Instant::now() + delay > end {
                return Err(failed);
            }
            tracing::debug!(path = %request.path.join("/"), ?delay, "will retry a request: {}", failed.error);
            tokio::time::sleep(delay).await;
        }
    }

    /// Sends a request and reads the value of `key` in the reply.
    pub(crate) async fn fetch<T: DeserializeOwned>(
        &self,
        request: &Request,
        key: &'static str,
    ) -> std::result::Result<T, RequestError> {
        let body = self.send(request).await?;
        let mut reply: Value = serde_json::from_slice(&body)
            .map_err(|error| RequestError::unreadable(not_readable(key).because(error)))?;
        let value = reply.get_mut(key).map(Value::take);
        let value = value.ok_or_else(|| RequestError::unreadable(not_readable(key)))?;
        T::deserialize(value).map_err(|error| RequestError::unreadable(not_readable(key).because(error)))
    }

    /// Reads one thing; none if it does not exist.
    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        request: &Request,
        key: &'static str,
    ) -> Result<Option<T>> {
        unless_missing(self.fetch(request, key).await)
    }

    /// Sends a deletion; fine if the thing does not exist.
    pub(crate) async fn send_delete(&self, request: &Request) -> Result<()> {
        unless_missing(self.send(request).await).map(|_| ())
    }

    /// Reads a list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        request: Request,
        key: &'static str,
    ) -> Result<Vec<T>> {
        Ok(self.pages(request, key).await?)
    }

    /// Reads a list that an extension of the service provides. It is empty without the extension.
    pub(crate) async fn list_of_extension<T: DeserializeOwned>(
        &self,
        request: Request,
        key: &'static str,
    ) -> Result<Vec<T>> {
        Ok(unless_missing(self.pages(request, key).await)?.unwrap_or_default())
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        request: Request,
        key: &'static str,
    ) -> std::result::Result<Vec<T>, RequestError> {
        let unreadable = || RequestError::unreadable(not_readable(key));
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = match &marker {
                Some(marker) => request.clone().with("marker", marker),
                None => request.clone(),
            };
            let body = match self.send(&page).await {
                // The first page alone shows whether there is such a list.
                Err(failed) if marker.is_some() && failed.error.kind() == ErrorKind::NotFound => {
                    return Err(RequestError::unreadable(not_readable(key).because(failed.error)));
                }
                body => body?,
            };
            let because = |error| RequestError::unreadable(not_readable(key).because(error));
            let reply: Value = serde_json::from_slice(&body).map_err(because)?;
            let items = reply.get(key).and_then(Value::as_array).ok_or_else(unreadable)?;
            for item in items {
                all.push(T::deserialize(item).map_err(because)?);
            }
            let last = items.last().and_then(|item| item.get("id")).and_then(Value::as_str);
            match last.filter(|last| has_next(&reply, key) && marker.as_deref() != Some(last)) {
                Some(last) => marker = Some(last.to_owned()),
                None => break,
            }
        }
        Ok(all)
    }
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    let place = path.display();
    std::fs::read(path)
        .map_err(|error| refuse(format!("cannot read the {what} {place}: {error}")).because(error))
}

/// A missing thing is none, not an error.
pub(crate) fn unless_missing<T>(result: std::result::Result<T, RequestError>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(failed) if failed.error.kind() == ErrorKind::NotFound => Ok(None),
        Err(failed) => Err(failed.error),
    }
}

fn not_readable(key: &str) -> Error {
    let message = format!("the cloud's reply has no {key:?} that can be read");
    Error::temporary(ErrorKind::Protocol, message)
}

/// Whether a list continues: `servers_links` with a `next` (Nova, Neutron, Cinder), or `next` alone (Glance).
fn has_next(page: &Value, key: &str) -> bool {
    let links = page.get(format!("{key}_links")).and_then(Value::as_array);
    let is_next = |link: &Value| link.get("rel").and_then(Value::as_str) == Some("next");
    links.is_some_and(|links| links.iter().any(is_next)) || page.get("next").is_some_and(Value::is_string)
}
