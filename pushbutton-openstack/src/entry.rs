//! Reads one cloud's entry: of `clouds.yaml`, or the `OS_*` variables in its shape.

use std::path::PathBuf;

use pushbutton_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use serde_yaml::{Mapping, Value};

use crate::credentials::{Credentials, Domain, Login, Project, User};

/// A cloud as its owner describes it.
#[derive(Debug, Clone)]
pub(crate) struct CloudEntry {
    /// Its name, for messages.
    pub(crate) name: String,
    pub(crate) credentials: Credentials,
    pub(crate) region: Option<String>,
    /// `public` unless the entry says otherwise.
    pub(crate) interface: String,
    pub(crate) cacert: Option<PathBuf>,
    /// Service type to URL, for clouds whose catalogue lies.
    pub(crate) overrides: Vec<(String, String)>,
}

pub(crate) fn refuse(message: impl Into<String>) -> Error {
    Error::permanent(ErrorKind::Config, message.into()).during("cloud")
}

/// A scalar as text: people write ids and regions without quotes.
fn text(mapping: &Mapping, key: &str) -> Option<String> {
    match mapping.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

/// What an entry says, as far as we use it.
pub(crate) fn of_entry(name: &str, entry: &Mapping) -> Result<CloudEntry> {
    let nothing = Mapping::new();
    let auth = entry.get("auth").and_then(Value::as_mapping).unwrap_or(&nothing);
    if entry.get("verify").and_then(Value::as_bool) == Some(false) {
        return Err(refuse(format!(
            "cloud {name:?} says `verify: false`: give the cloud's own certificate authority with `cacert` instead"
        )));
    }
    let need = |key: &str| {
        text(auth, key).ok_or_else(|| refuse(format!("cloud {name:?} has no {key}: add `auth.{key}`")))
    };
    let secret = |key: &str| need(key).map(SecretString::from);
    let default = text(entry, "default_domain").unwrap_or_else(|| "default".into());
    let domain = |whose: &str| {
        let id =
            text(auth, &format!("{whose}_domain_id")).or_else(|| text(auth, "domain_id")).map(Domain::Id);
        let named = text(auth, &format!("{whose}_domain_name")).or_else(|| text(auth, "domain_name"));
        id.or(named.map(Domain::Name)).unwrap_or_else(|| Domain::Id(default.clone()))
    };
    let user = || match text(auth, "user_id") {
        Some(id) => Ok(User::Id(id)),
        None => Ok::<_, Error>(User::Name(need("username")?, domain("user"))),
    };
    let project =
        match (text(auth, "project_id"), text(auth, "project_name").or_else(|| text(auth, "tenant_name"))) {
            (Some(id), _) => Some(Project::Id(id)),
            (None, Some(name)) => Some(Project::Name(name, domain("project"))),
            (None, None) => None,
        };
    let guessed = if auth.contains_key("application_credential_secret") {
        "v3applicationcredential"
    } else if auth.contains_key("token") {
        "v3token"
    } else {
        "password"
    };
    let login = match text(entry, "auth_type").as_deref().unwrap_or(guessed) {
        // Many files that hold an application credential say nothing, or `password`, of its type.
        "password" | "v3password" if guessed == "password" => {
            Login::Password { user: user()?, password: secret("password")? }
        }
        "v3applicationcredential" | "password" | "v3password"
            if auth.contains_key("application_credential_secret") =>
        {
            let secret = secret("application_credential_secret")?;
            match text(auth, "application_credential_id") {
                Some(id) => Login::ApplicationCredential { id, secret },
                None => Login::NamedApplicationCredential {
                    name: need("application_credential_name")?,
                    user: user()?,
                    secret,
                },
            }
        }
        "v3applicationcredential" => {
            return Err(need("application_credential_secret").err().unwrap_or_else(|| refuse("no secret")));
        }
        "token" | "v3token" | "password" | "v3password" => Login::Token { token: secret("token")? },
        other => {
            return Err(refuse(format!(
                "cloud {name:?}: auth_type {other:?} is not supported: use password, v3applicationcredential or v3token"
            )));
        }
    };
    let overrides = entry.iter().filter_map(|(key, url)| {
        let service = key.as_str()?.strip_suffix("_endpoint_override")?;
        Some((service.replace('_', "-"), url.as_str()?.to_owned()))
    });
    let auth_url = need("auth_url").map_err(|error| match text(entry, "profile") {
        Some(profile) => refuse(format!(
            "cloud {name:?} has no auth_url, and its profile {profile:?} would be in a clouds-public.yaml, which is not read: add `auth.auth_url`"
        )),
        None => error,
    })?;
    let interface = text(entry, "interface").or_else(|| text(entry, "endpoint_type"));
    Ok(CloudEntry {
        name: name.into(),
        credentials: Credentials { auth_url, login, project },
        region: text(entry, "region_name"),
        interface: interface.map_or_else(|| "public".into(), |name| name.trim_end_matches("URL").to_owned()),
        cacert: text(entry, "cacert").map(PathBuf::from),
        overrides: overrides.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_by_its_kind_of_login() {
        let of = |text: &str| of_entry("lab", &serde_yaml::from_str(text).unwrap());
        let credential =
            of("auth: {auth_url: u, application_credential_id: i, application_credential_secret: s}");
        assert!(matches!(credential.unwrap().credentials.login, Login::ApplicationCredential { .. }));
        let named = "auth_type: password\nauth: {auth_url: u, username: a, application_credential_name: n, application_credential_secret: s}";
        assert!(matches!(of(named).unwrap().credentials.login, Login::NamedApplicationCredential { .. }));
        let token = of("auth: {auth_url: u, token: t, project_id: p}").unwrap();
        assert!(matches!(token.credentials.login, Login::Token { .. }));
        for (text, says) in [
            (
                "auth_type: v3oidcpassword\nauth: {auth_url: u}",
                "use password, v3applicationcredential or v3token",
            ),
            ("auth_type: v3applicationcredential\nauth: {auth_url: u}", "application_credential_secret"),
            ("verify: false\nauth: {auth_url: u}", "`cacert`"),
            ("profile: bigcloud\nauth: {username: a, password: b}", "clouds-public.yaml"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
