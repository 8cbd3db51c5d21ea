//! Builds the login request for Keystone from a cloud's `auth` section.

use pushbutton_core::Result;
use secrecy::SecretString;
use serde_json::{Value as Json, json};

use crate::cloud_config::refuse;
use crate::cloud_files::{Mapping, text};

/// Where to log in, and with which request.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) auth_url: String,
    /// The body of `POST /v3/auth/tokens` (Identity API v3), as JSON text.
    pub(crate) body: SecretString,
}

impl Credentials {
    pub(crate) fn tokens_url(&self) -> String {
        let base = self.auth_url.trim_end_matches('/');
        if base.ends_with("/v3") { format!("{base}/auth/tokens") } else { format!("{base}/v3/auth/tokens") }
    }

    /// Reads a cloud's settings.
    ///
    /// The `auth_type` is only believed where it decides something: many files that hold an application credential give
    /// no type, or `password`.
    pub(crate) fn of_settings(cloud: &str, settings: &Mapping) -> Result<Self> {
        let nothing = Mapping::new();
        let auth = settings.get("auth").and_then(|auth| auth.as_object()).unwrap_or(&nothing);
        let section = AuthSection { cloud, auth };
        let (method, identity) = match text(settings, "auth_type").as_deref() {
            None | Some("password" | "v3password") if section.has("application_credential_secret") => {
                section.application_credential()?
            }
            None | Some("password" | "v3password") if !section.has("token") => section.password()?,
            None | Some("password" | "v3password" | "token" | "v3token") => section.token()?,
            Some("v3applicationcredential") => section.application_credential()?,
            Some(other) => {
                return Err(refuse(format!(
                    "cloud {cloud:?}: auth_type {other:?} is not supported: use password, v3applicationcredential or v3token"
                )));
            }
        };
        let mut request = json!({"identity": {"methods": [method], method: identity}});
        // Keystone refuses a scope for an application credential: the credential belongs to one project.
        if let Some(project) = section.project().filter(|_| method != APPLICATION_CREDENTIAL) {
            request["scope"] = json!({"project": project});
        }
        let auth_url = section.need("auth_url").map_err(|error| match text(settings, "profile") {
            Some(profile) => refuse(format!(
                "cloud {cloud:?} has no auth_url, and no clouds-public.yaml has its profile {profile:?}: add `auth.auth_url`, or copy the profile into a clouds-public.yaml"
            )),
            None => error,
        })?;
        Ok(Self { auth_url, body: json!({"auth": request}).to_string().into() })
    }
}

const APPLICATION_CREDENTIAL: &str = "application_credential";

/// The `auth` section of a cloud's entry.
struct AuthSection<'a> {
    cloud: &'a str,
    auth: &'a Mapping,
}

impl AuthSection<'_> {
    fn has(&self, key: &str) -> bool {
        self.auth.contains_key(key)
    }

    fn get(&self, key: &str) -> Option<String> {
        text(self.auth, key)
    }

    fn need(&self, key: &str) -> Result<String> {
        self.get(key).ok_or_else(|| refuse(format!("cloud {:?} has no {key}: add `auth.{key}`", self.cloud)))
    }

    fn password(&self) -> Result<(&'static str, Json)> {
        let mut user = self.user()?;
        user["password"] = self.need("password")?.into();
        Ok(("password", json!({"user": user})))
    }

    fn token(&self) -> Result<(&'static str, Json)> {
        Ok(("token", json!({"id": self.need("token")?})))
    }

    fn application_credential(&self) -> Result<(&'static str, Json)> {
        let secret = self.need("application_credential_secret")?;
        let credential = match self.get("application_credential_id") {
            Some(id) => json!({"id": id, "secret": secret}),
            None => {
                let name = self.need("application_credential_name")?;
                json!({"name": name, "user": self.user()?, "secret": secret})
            }
        };
        Ok((APPLICATION_CREDENTIAL, credential))
    }

    fn user(&self) -> Result<Json> {
        match self.get("user_id") {
            Some(id) => Ok(json!({"id": id})),
            None => Ok(json!({"name": self.need("username")?, "domain": self.domain("user")})),
        }
    }

    fn project(&self) -> Option<Json> {
        let id = self.get("project_id").map(|id| json!({"id": id}));
        id.or_else(|| {
            let name = self.get("project_name").or_else(|| self.get("tenant_name"))?;
            Some(json!({"name": name, "domain": self.domain("project")}))
        })
    }

    fn domain(&self, of: &str) -> Json {
        let any = |what: &str| {
            let keys =
                [format!("{of}_domain_{what}"), format!("domain_{what}"), format!("default_domain_{what}")];
            keys.iter().find_map(|key| self.get(key))
        };
        match (any("id"), any("name")) {
            (Some(id), _) => json!({"id": id}),
            (None, Some(name)) => json!({"name": name}),
            (None, None) => json!({"id": self.get("default_domain").as_deref().unwrap_or("default")}),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(entry: &str) -> Result<Credentials> {
        Credentials::of_settings("lab", &serde_yaml::from_str(entry).unwrap())
    }

    fn body(entry: &str) -> Json {
        serde_json::from_str(read(entry).unwrap().body.expose_secret()).unwrap()
    }

    #[test]
    fn each_kind_of_login_is_sent_as_keystone_expects_it() {
        let password =
            body("auth: {auth_url: u, username: bob, password: p, user_domain_id: d1, project_name: ci}");
        let user = json!({"name": "bob", "domain": {"id": "d1"}, "password": "p"});
        assert_eq!(
            password["auth"],
            json!({
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": "ci", "domain": {"id": "default"}}},
            })
        );
        let by_id = body(
            "auth: {auth_url: u, application_credential_id: i, application_credential_secret: s, project_id: p}",
        );
        let identity = json!({"methods": ["application_credential"], "application_credential": {"id": "i", "secret": "s"}});
        assert_eq!(by_id["auth"], json!({"identity": identity}), "without a scope");
        let by_name = body(
            "auth_type: password\nauth: {auth_url: u, username: a, application_credential_name: n, application_credential_secret: s}",
        );
        let credential = &by_name["auth"]["identity"]["application_credential"];
        assert_eq!((&credential["name"], &credential["user"]["name"]), (&json!("n"), &json!("a")));
        let token = body("auth: {auth_url: u, token: t, project_id: p}");
        assert_eq!(token["auth"]["identity"]["token"]["id"], "t");
        assert_eq!(token["auth"]["scope"]["project"]["id"], "p");
    }

    #[test]
    fn what_cannot_log_in_is_refused_with_what_to_change() {
        for (entry, says) in [
            (
                "auth_type: v3oidcpassword\nauth: {auth_url: u}",
                "use password, v3applicationcredential or v3token",
            ),
            ("auth_type: v3applicationcredential\nauth: {auth_url: u}", "application_credential_secret"),
            ("profile: bigcloud\nauth: {username: a, password: b}", "clouds-public.yaml"),
        ] {
            let error = read(entry).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_url_of_tokens_has_the_version_once_and_secrets_are_not_printed() {
        let of =
            |url: &str| read(&format!("auth: {{auth_url: '{url}', username: a, password: hush}}")).unwrap();
        assert_eq!(of("http://c/identity/").tokens_url(), "http://c/identity/v3/auth/tokens");
        assert_eq!(of("http://c/identity/v3").tokens_url(), "http://c/identity/v3/auth/tokens");
        assert!(!format!("{:?}", of("http://c")).contains("hush"));
    }
}
