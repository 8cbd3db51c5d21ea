//! Logs in to Keystone: osauth's point of extension, so that its sessions carry our tokens.
//!
//! osauth's own logins wait for ever, cannot be told that a token was revoked, and log in again for each request on a cloud
//! whose tokens live less than ten minutes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openstack::{EndpointFilters, Error, ErrorKind};
use osauth::AuthType;
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::RwLock;
use tokio::time::Instant;

use crate::catalog::{CatalogEntry, endpoint_of, names_of};
use crate::credentials::Credentials;
use crate::error::of_http;
use crate::reply::{read_bounded, words_of};

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
    project: Option<ProjectBody>,
}

#[derive(Deserialize)]
struct ProjectBody {
    id: String,
}

struct Token {
    value: SecretString,
    renew_at: Instant,
    catalog: Vec<CatalogEntry>,
    project: Option<String>,
}

struct State {
    /// Counts the logins, so that of many requests that met a revoked token only the first causes a new one.
    generation: u64,
    token: Option<Token>,
}

/// A login that renews itself. Clones share it.
#[derive(Clone)]
pub(crate) struct Identity(Arc<Inner>);

struct Inner {
    credentials: Credentials,
    /// Passed over for what the catalogue says.
    overrides: Vec<(String, String)>,
    state: RwLock<State>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("auth_url", &self.0.credentials.auth_url).finish_non_exhaustive()
    }
}

impl Identity {
    pub(crate) fn new(credentials: Credentials, overrides: Vec<(String, String)>) -> Self {
        let state = RwLock::new(State { generation: 0, token: None });
        Self(Arc::new(Inner { credentials, overrides, state }))
    }

    /// Logs in where that is needed, and tells which login is in use: for [`forget`](Self::forget).
    pub(crate) async fn logged_in(&self, client: &Client) -> Result<u64, Error> {
        self.with_token(client, |_| ()).await?;
        Ok(self.0.state.read().await.generation)
    }

    /// Drops the token of that login, unless another has taken its place: the cloud says that it is not valid (any more).
    pub(crate) async fn forget(&self, generation: u64) {
        let mut state = self.0.state.write().await;
        if state.generation == generation {
            state.token = None;
        }
    }

    /// The project that we are logged in to.
    pub(crate) async fn project(&self, client: &Client) -> Result<Option<String>, Error> {
        self.with_token(client, |token| token.project.clone()).await
    }

    async fn with_token<T>(&self, client: &Client, read: impl FnOnce(&Token) -> T) -> Result<T, Error> {
        {
            let state = self.0.state.read().await;
            if let Some(token) = state.token.as_ref().filter(|token| token.renew_at > Instant::now()) {
                return Ok(read(token));
            }
        }
        let mut state = self.0.state.write().await;
        // Somebody else may have logged in while we waited for the lock.
        if state.token.as_ref().is_none_or(|token| token.renew_at <= Instant::now()) {
            let token = self.log_in(client).await?;
            state.token = Some(token);
            state.generation += 1;
        }
        state.token.as_ref().map(read).ok_or_else(|| Error::new(ErrorKind::AuthenticationFailed, "no token"))
    }

    async fn log_in(&self, client: &Client) -> Result<Token, Error> {
        let credentials = &self.0.credentials;
        let request = client.post(credentials.tokens_url()).json(&credentials.body());
        let mut reply = request.send().await.map_err(no_answer)?;
        let status = reply.status();
        let value =
            reply.headers().get("x-subject-token").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = read_bounded(&mut reply).await.map_err(no_answer)?;
        if !status.is_success() {
            let words = format!("the login was refused: {}", words_of(&body));
            return Err(Error::new(ErrorKind::from(status), words).with_status(status));
        }
        let odd = |what: &str| {
            let words = format!("{} does not answer as Keystone does: {what}", credentials.auth_url);
            Error::new(ErrorKind::InvalidResponse, words)
        };
        let value = value.ok_or_else(|| odd("no X-Subject-Token"))?;
        // The parser's words could quote the body, which holds nothing that is secret but much that is long.
        let TokenReply { token } =
            serde_json::from_slice(&body).map_err(|_| odd("its body is not a token's"))?;
        let lifetime = match (token.issued_at, token.expires_at) {
            (Some(from), Some(to)) => Duration::try_from(to.duration_since(from)).unwrap_or_default(),
            _ => Duration::from_secs(3600),
        };
        // A request may be long on its way, but a cloud's tokens may be short-lived too.
        let margin = (lifetime / 4).min(Duration::from_secs(300));
        Ok(Token {
            value: value.into(),
            renew_at: Instant::now() + lifetime.saturating_sub(margin),
            catalog: token.catalog,
            project: token.project.map(|project| project.id),
        })
    }
}

/// osauth's own conversion keeps neither the cause nor that it was a timeout.
fn no_answer(error: reqwest::Error) -> Error {
    let kind = if error.is_timeout() { ErrorKind::OperationTimedOut } else { ErrorKind::ProtocolError };
    Error::new(kind, format!("cannot log in: {}", of_http(error).message()))
}

#[async_trait]
impl AuthType for Identity {
    async fn authenticate(&self, client: &Client, request: RequestBuilder) -> Result<RequestBuilder, Error> {
        self.with_token(client, |token| request.header("x-auth-token", token.value.expose_secret())).await
    }

    async fn get_endpoint(
        &self,
        client: &Client,
        service: &str,
        filters: &EndpointFilters,
    ) -> Result<Url, Error> {
        let given = self.0.overrides.iter().find(|(name, _)| names_of(service).contains(&name.as_str()));
        let url = match given {
            Some((_, url)) => Some(url.clone()),
            None => self.with_token(client, |token| endpoint_of(&token.catalog, service, filters)).await?,
        };
        let none = || {
            let region = filters.region.as_deref().unwrap_or("any");
            let words = format!(
                "the catalogue has no endpoint for {service} (region {region}): see region_name and interface"
            );
            Error::new(ErrorKind::EndpointNotFound, words)
        };
        let url = url.ok_or_else(none)?;
        Url::parse(&url).map_err(|error| {
            Error::new(
                ErrorKind::InvalidResponse,
                format!("the catalogue's URL for {service} is not one: {error}"),
            )
        })
    }

    async fn refresh(&self, _: &Client) -> Result<(), Error> {
        // Tokens are renewed when they are needed: a cloud that is down must not keep an operator from starting.
        Ok(())
    }
}
