//! Who we are to Keystone, and how that is told.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// A domain, by id or by name.
#[derive(Debug, Clone)]
pub(crate) enum Domain {
    Id(String),
    Name(String),
}

/// A user, by id, or by name within a domain.
#[derive(Debug, Clone)]
pub(crate) enum User {
    Id(String),
    Name(String, Domain),
}

/// A project, by id, or by name within a domain.
#[derive(Debug, Clone)]
pub(crate) enum Project {
    Id(String),
    Name(String, Domain),
}

/// How to prove who we are.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    Password { user: User, password: SecretString },
    ApplicationCredential { id: String, secret: SecretString },
    NamedApplicationCredential { name: String, user: User, secret: SecretString },
    Token { token: SecretString },
}

/// Where to log in, as whom, and to which project.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) auth_url: String,
    pub(crate) login: Login,
    pub(crate) project: Option<Project>,
}

impl Domain {
    fn body(&self) -> Value {
        match self {
            Self::Id(id) => json!({"id": id}),
            Self::Name(name) => json!({"name": name}),
        }
    }
}

impl User {
    fn body(&self) -> Value {
        match self {
            Self::Id(id) => json!({"id": id}),
            Self::Name(name, domain) => json!({"name": name, "domain": domain.body()}),
        }
    }
}

impl Credentials {
    /// The body of `POST /v3/auth/tokens` (Identity API v3).
    pub(crate) fn body(&self) -> Value {
        let identity = match &self.login {
            Login::Password { user, password } => {
                let mut user = user.body();
                user["password"] = password.expose_secret().into();
                json!({"methods": ["password"], "password": {"user": user}})
            }
            Login::ApplicationCredential { id, secret } => json!({
                "methods": ["application_credential"],
                "application_credential": {"id": id, "secret": secret.expose_secret()},
            }),
            Login::NamedApplicationCredential { name, user, secret } => json!({
                "methods": ["application_credential"],
                "application_credential": {"name": name, "user": user.body(), "secret": secret.expose_secret()},
            }),
            Login::Token { token } => json!({"methods": ["token"], "token": {"id": token.expose_secret()}}),
        };
        // An application credential is bound to its project, and refuses to be told one.
        let bound = matches!(
            self.login,
            Login::ApplicationCredential { .. } | Login::NamedApplicationCredential { .. }
        );
        let scope = match &self.project {
            _ if bound => None,
            Some(Project::Id(id)) => Some(json!({"project": {"id": id}})),
            Some(Project::Name(name, domain)) => {
                Some(json!({"project": {"name": name, "domain": domain.body()}}))
            }
            None => None,
        };
        let mut auth = json!({"identity": identity});
        if let Some(scope) = scope {
            auth["scope"] = scope;
        }
        json!({"auth": auth})
    }

    pub(crate) fn tokens_url(&self) -> String {
        let base = self.auth_url.trim_end_matches('/');
        if base.ends_with("/v3") { format!("{base}/auth/tokens") } else { format!("{base}/v3/auth/tokens") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(login: Login) -> Credentials {
        let project = Some(Project::Name("ci".into(), Domain::Id("default".into())));
        Credentials { auth_url: "http://cloud.example.com/identity/".into(), login, project }
    }

    #[test]
    fn bodies_are_as_keystone_wants_them() {
        let user = User::Name("bob".into(), Domain::Id("d1".into()));
        let password = credentials(Login::Password { user, password: "hush".into() });
        assert_eq!(password.tokens_url(), "http://cloud.example.com/identity/v3/auth/tokens");
        let body = password.body();
        assert_eq!(body["auth"]["identity"]["password"]["user"]["domain"]["id"], "d1");
        assert_eq!(body["auth"]["scope"]["project"]["name"], "ci");
        let bound = credentials(Login::ApplicationCredential { id: "i".into(), secret: "hush".into() });
        assert_eq!(bound.body()["auth"].get("scope"), None);
        assert!(!format!("{bound:?}").contains("hush"));
    }
}
