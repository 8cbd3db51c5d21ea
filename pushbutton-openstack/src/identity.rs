//! Logs in to Keystone: the authentication plug-in of the openstack crate's session.
//!
//! The crate's own plug-ins cannot replace a revoked token, and log in again for each request on a cloud whose tokens
//! live less than ten minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openstack::EndpointFilters;
use openstack::auth::AuthType;
use pushbutton_core::{Error, ErrorKind, Result};
use reqwest::{Client, RequestBuilder, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api_types::Named;
use crate::catalog::{CatalogEntry, NoEndpoint, Service, endpoint_of};
use crate::cloud_config::{CloudConfig, EndpointChoice};
use crate::cloud_files::Environment;
use crate::config::OpenStackConfig;
use crate::credentials::Credentials;
use crate::error::{no_reply, of_entry, redirect, refusal, to_session_error};
use crate::response::{message_of, read_bounded};

/// The longest time before its expiry that a token is replaced: a request may take long, and Nova passes the token on.
const MAX_RENEWAL_MARGIN: Duration = Duration::from_secs(300);
/// The lifetime of a token that does not say when it expires: Keystone's default.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
struct TokenReply {
    token: TokenBody,
}

#[derive(Deserialize)]
struct TokenBody {
    issued_at: Option<jiff::Timestamp>,
    expires_at: Option<jiff::Timestamp>,
    #[serde(default)]
    catalog: Vec<CatalogEntry>,
    project: Option<Named>,
}

#[derive(Debug)]
struct Token {
    value: SecretString,
    renew_at: Instant,
    catalog: Vec<CatalogEntry>,
    project: Option<String>,
}

#[derive(Debug)]
struct State {
    credentials: Credentials,
    /// The project of the first login.
    project: Option<String>,
    /// Identifies the login in use: of many requests that are refused with one token, only the first drops it.
    logins: u64,
    token: Option<Token>,
}

/// A login that is renewed when needed. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Says which entry of which file has the credentials.
    config: Arc<OpenStackConfig>,
    endpoints: BTreeMap<Service, EndpointChoice>,
    state: Arc<Mutex<State>>,
}

impl Identity {
    pub(crate) fn new(cloud: &CloudConfig, config: OpenStackConfig) -> Self {
        let credentials = cloud.credentials.clone();
        let state = State { credentials, project: None, logins: 0, token: None };
        let endpoints = cloud.endpoints.clone();
        Self { config: Arc::new(config), endpoints, state: Arc::new(Mutex::new(state)) }
    }

    /// Logs in if there is no valid token. Returns the number of the login, for [`forget`](Self::forget).
    pub(crate) async fn log_in(&self, client: &Client) -> Result<u64> {
        self.with_token(client, |login, _| login).await
    }

    /// Drops the token of that login after a service refused it.
    pub(crate) async fn forget(&self, login: u64) {
        let mut state = self.state.lock().await;
        if state.logins == login {
            state.token = None;
        }
    }

    /// The id of the project of the login.
    pub(crate) async fn project(&self, client: &Client) -> Result<Option<String>> {
        self.with_token(client, |_, token| token.project.clone()).await
    }

    async fn with_token<T>(&self, client: &Client, read: impl FnOnce(u64, &Token) -> T) -> Result<T> {
        let State { credentials, project, logins, token } = &mut *self.state.lock().await;
        match token {
            Some(token) if token.renew_at > Instant::now() => Ok(read(*logins, token)),
            other => {
                *other = None;
                self.read_again(credentials).await;
                let new = request_token(client, credentials).await;
                let new = new.and_then(|new| of_project(new, project));
                let token = other.insert(new.map_err(of_entry)?);
                *logins += 1;
                Ok(read(*logins, token))
            }
        }
    }

    /// Takes the credentials that `clouds.yaml` and the files beside it have now: they may have been rotated.
    async fn read_again(&self, credentials: &mut Credentials) {
        let config = Arc::clone(&self.config);
        let read = move || CloudConfig::read(&config, &Environment::of_process());
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(cloud)) => *credentials = cloud.credentials,
            Ok(Err(error)) => {
                tracing::warn!("cannot read the credentials again, the former ones are used: {error}")
            }
            // Only at the end of the process.
            Err(error) => tracing::debug!("the credentials were not read again: {error}"),
        }
    }
}

/// Refuses a token of another project than the first one's. What was made there could not be found in this one, and
/// would count as deleted.
fn of_project(token: Token, first: &mut Option<String>) -> Result<Token> {
    match (&*first, &token.project) {
        (Some(before), Some(now)) if before != now => {
            let message = format!(
                "the login leads to another project ({now}) than before ({before}), where resources may be left: correct \
                 the project in clouds.yaml, or sweep the former one and restart"
            );
            Err(Error::permanent(ErrorKind::Config, message))
        }
        (_, now) => {
            *first = first.take().or_else(|| now.clone());
            Ok(token)
        }
    }
}

async fn request_token(client: &Client, credentials: &Credentials) -> Result<Token> {
    let Credentials { auth_url, body } = credentials;
    let request = client.post(credentials.tokens_url());
    let request =
        request.header(header::CONTENT_TYPE, "application/json").body(body.expose_secret().to_owned());
    let mut reply = request.send().await.map_err(no_reply)?;
    let status = reply.status();
    let headers = reply.headers().clone();
    let value = headers.get("x-subject-token").and_then(|value| value.to_str().ok());
    let value = value.map(SecretString::from);
    let body = read_bounded(&mut reply).await.map_err(no_reply)?;
    if status.is_redirection() {
        return Err(redirect(status.as_u16(), &headers, "auth.auth_url").with("auth_url", auth_url));
    }
    if !status.is_success() {
        let message = format!("the login was refused: {}", message_of(&body));
        return Err(refusal(status.as_u16(), &message).with("auth_url", auth_url));
    }
    let unreadable = |what| {
        let message = format!("the reply to the login is not Keystone's: {what}");
        Error::permanent(ErrorKind::Protocol, message).with("auth_url", auth_url)
    };
    let value = value.ok_or_else(|| unreadable("it has no X-Subject-Token"))?;
    let reply: TokenReply =
        serde_json::from_slice(&body).map_err(|error| unreadable("its body is no token").because(error))?;
    let token = reply.token;
    let lifetime = match (token.issued_at, token.expires_at) {
        (Some(from), Some(to)) => Duration::try_from(to.duration_since(from)).unwrap_or_default(),
        _ => DEFAULT_LIFETIME,
    };
    let margin = (lifetime / 4).min(MAX_RENEWAL_MARGIN);
    Ok(Token {
        value,
        renew_at: Instant::now() + lifetime.saturating_sub(margin),
        catalog: token.catalog,
        project: token.project.map(|project| project.id),
    })
}

/// Fills in the project, as keystoneauth does.
fn with_project(url: &str, project: Option<&str>) -> String {
    let project = project.unwrap_or_default();
    url.replace("%(project_id)s", project).replace("%(tenant_id)s", project)
}

#[async_trait]
impl AuthType for Identity {
    async fn authenticate(
        &self,
        client: &Client,
        request: RequestBuilder,
    ) -> openstack::Result<RequestBuilder> {
        let authenticated =
            self.with_token(client, |_, token| request.header("x-auth-token", token.value.expose_secret()));
        authenticated.await.map_err(to_session_error)
    }

    /// The filters of the session are not used: each service has its own choice in the cloud's entry.
    async fn get_endpoint(
        &self,
        client: &Client,
        service_type: &str,
        _: &EndpointFilters,
    ) -> openstack::Result<Url> {
        use openstack::{Error, ErrorKind};
        let fail = |kind, message: String| Error::new(kind, message);
        let known = Service::of_name(service_type).and_then(|one| Some((one, self.endpoints.get(&one)?)));
        let Some((service, choice)) = known else {
            return Err(fail(ErrorKind::EndpointNotFound, format!("no service {service_type} is used")));
        };
        let url = self.with_token(client, |_, token| match &choice.url {
            Some(url) => Ok(with_project(url, token.project.as_deref())),
            None => endpoint_of(&token.catalog, service, choice),
        });
        let url = url.await.map_err(to_session_error)?.map_err(|missing| match missing {
            NoEndpoint::Missing(regions) => {
                let region = choice.region.as_deref().unwrap_or("any");
                let others = Vec::from_iter(regions).join(", ");
                let others = if others.is_empty() { others } else { format!(", there is one in {others}") };
                let message = format!(
                    "the catalogue has no endpoint for {service_type} (region {region}{others}): see region_name and interface"
                );
                fail(ErrorKind::EndpointNotFound, message)
            }
            NoEndpoint::SeveralRegions(regions) => {
                let regions = Vec::from_iter(regions).join(", ");
                let message = format!(
                    "the cloud has several regions ({regions}): name one with region_name in clouds.yaml, or with `region`"
                );
                fail(ErrorKind::InvalidConfig, message)
            }
        })?;
        let url = url.parse::<Url>().map_err(|error| {
            let message = format!("the catalogue's URL for {service_type} is not a URL: {error}");
            fail(ErrorKind::InvalidResponse, message)
        })?;
        Ok(service.with_version(url))
    }

    /// Does nothing: the session calls it when it is created, and an operator must be able to start while the cloud is
    /// down.
    async fn refresh(&self, _: &Client) -> openstack::Result<()> {
        Ok(())
    }
}
