//! Finds and reads `clouds.yaml`, `secure.yaml` and the `OS_*` variables.
//!
//! The openstack crate reads these files only in fixed places, and supports neither `v3password`, nor a user's domain
//! by id, nor an application credential without `auth_type`. The files are shared with other OpenStack tools, so
//! unknown keys are ignored.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use openstack::InterfaceType;
use openstack::session::ServiceType;
use pushbutton_core::{Error, ErrorKind, Result};
use reqwest::Url;
use serde_yaml::{Mapping, Value};

use crate::catalog::Service;
use crate::config::OpenStackConfig;
use crate::credentials::Credentials;

/// One cloud, as `clouds.yaml` or the environment describes it.
#[derive(Debug, Clone)]
pub(crate) struct CloudConfig {
    /// Its name, for messages.
    pub(crate) name: String,
    pub(crate) credentials: Credentials,
    pub(crate) region: Option<String>,
    pub(crate) interface: InterfaceType,
    pub(crate) cacert: Option<PathBuf>,
    /// URLs to use instead of the catalogue's, by service type.
    pub(crate) endpoint_overrides: HashMap<String, Url>,
}

/// Reads an environment variable; tests pass their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A permanent configuration error.
pub(crate) fn refuse(message: impl Into<String>) -> Error {
    Error::permanent(ErrorKind::Config, message.into()).during("cloud")
}

/// A scalar as text: ids and regions are often written without quotes.
pub(crate) fn text(mapping: &Mapping, key: &str) -> Option<String> {
    match mapping.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

impl CloudConfig {
    /// Reads the cloud that the configuration names.
    pub(crate) fn read(config: &OpenStackConfig, environment: Environment<'_>) -> Result<Self> {
        let wanted = config.cloud.clone().or_else(|| environment("OS_CLOUD"));
        if wanted.is_none() && config.clouds_file.is_none() && environment("OS_AUTH_URL").is_some() {
            return Self::of_entry("the OS_* variables", &entry_of_environment(environment));
        }
        let path = find(config, environment)?;
        let mut clouds = clouds_in(&path)?;
        let secure = path.with_file_name("secure.yaml");
        if secure.is_file() {
            merge(&mut clouds, clouds_in(&secure)?);
        }
        let names = clouds.keys().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        let place = path.display();
        let name = match wanted {
            Some(name) => name,
            None if clouds.len() == 1 => names.clone(),
            None => {
                return Err(refuse(format!("{place} holds several clouds ({names}): name one with `cloud`")));
            }
        };
        match clouds.get(&name).and_then(Value::as_mapping) {
            Some(entry) => Self::of_entry(&name, entry).map_err(|error| error.with("file", place)),
            None => Err(refuse(format!("{place} has no cloud {name:?}: it has {names}"))),
        }
    }

    fn of_entry(name: &str, entry: &Mapping) -> Result<Self> {
        if entry.get("verify").and_then(Value::as_bool) == Some(false) {
            return Err(refuse(format!(
                "cloud {name:?} has `verify: false`: give the cloud's own certificate authority with `cacert` instead"
            )));
        }
        let interface = text(entry, "interface").or_else(|| text(entry, "endpoint_type"));
        let interface = interface.as_deref().unwrap_or("public").parse().map_err(|_| {
            refuse(format!("cloud {name:?}: the interface is none of public, internal and admin"))
        })?;
        let mut endpoint_overrides = HashMap::new();
        for (key, url) in entry {
            let service = key.as_str().and_then(|key| key.strip_suffix("_endpoint_override"));
            let service = service.and_then(|name| Service::of_name(&name.replace('_', "-")));
            let (Some(service), Some(url)) = (service, url.as_str()) else { continue };
            let url = url.parse::<Url>().map_err(|error| {
                refuse(format!("cloud {name:?}: {url:?} of {} is not a URL: {error}", service.catalog_type()))
            })?;
            endpoint_overrides.insert(service.catalog_type().to_owned(), service.with_version(url));
        }
        Ok(Self {
            name: name.into(),
            credentials: Credentials::of_entry(name, entry)?,
            region: text(entry, "region_name"),
            interface,
            cacert: text(entry, "cacert").map(PathBuf::from),
            endpoint_overrides,
        })
    }
}

fn find(config: &OpenStackConfig, environment: Environment<'_>) -> Result<PathBuf> {
    let named =
        config.clouds_file.clone().or_else(|| environment("OS_CLIENT_CONFIG_FILE").map(PathBuf::from));
    if let Some(path) = named {
        return Ok(path);
    }
    let home = environment("HOME").map(|home| PathBuf::from(home).join(".config/openstack/clouds.yaml"));
    let places = [Some("clouds.yaml".into()), home, Some("/etc/openstack/clouds.yaml".into())];
    places.into_iter().flatten().find(|place| place.is_file()).ok_or_else(|| {
        refuse(
            "no clouds.yaml: name it with `clouds_file` or OS_CLIENT_CONFIG_FILE, put it into ~/.config/openstack, or set OS_AUTH_URL and the other OS_* variables",
        )
    })
}

fn clouds_in(path: &Path) -> Result<Mapping> {
    let place = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| refuse(format!("cannot read {place}: {error}")).because(error))?;
    let mut root: Value = serde_yaml::from_str(&text)
        .map_err(|error| refuse(format!("{place} is not YAML: {}", location(&error))))?;
    // An anchor may be merged into another cloud with `<<`.
    root.apply_merge().map_err(|error| refuse(format!("{place}: {}", location(&error))))?;
    match root.get("clouds").and_then(Value::as_mapping) {
        Some(clouds) => Ok(clouds.clone()),
        None => Err(refuse(format!("{place} has no `clouds:` mapping"))),
    }
}

/// Where a YAML error is. The parser's message is left out: it may quote a secret.
fn location(error: &serde_yaml::Error) -> String {
    error.location().map_or_else(
        || "it is incomplete or mixes types".into(),
        |place| format!("line {}, column {}", place.line(), place.column()),
    )
}

/// Merges `over` into `under`, mapping by mapping; `over` wins.
fn merge(under: &mut Mapping, over: Mapping) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Mapping(below)), Value::Mapping(above)) => merge(below, above),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// The `OS_*` variables in the form of a file's entry.
fn entry_of_environment(environment: Environment<'_>) -> Mapping {
    let auth = "auth_url username user_id password token project_id project_name project_domain_id project_domain_name \
        user_domain_id user_domain_name application_credential_id application_credential_name application_credential_secret";
    let read = |keys: &str| {
        let value = |key: &str| environment(&format!("OS_{}", key.to_ascii_uppercase()));
        let values = keys.split_whitespace().filter_map(|key| Some((key.into(), value(key)?.into())));
        values.collect::<Mapping>()
    };
    let mut entry = read("auth_type region_name interface cacert default_domain");
    entry.insert("auth".into(), Value::Mapping(read(auth)));
    entry
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const CLOUDS: &str = "
clouds:
  lab: &lab
    auth: {auth_url: 'http://cloud.example.com/v3', username: ci, project_name: ci, user_domain_id: default}
    auth_type: v3password
    region_name: 7
  second:
    <<: *lab
    interface: internalURL
    compute_endpoint_override: 'http://nova.example.com/v2.1'
";

    fn config(dir: &Path, cloud: Option<&str>) -> OpenStackConfig {
        let mut config: OpenStackConfig = serde_yaml::from_str("nodes: {a: {image: i, flavor: f}}").unwrap();
        config.clouds_file = Some(dir.join("clouds.yaml"));
        config.cloud = cloud.map(str::to_owned);
        config
    }

    fn no_variables(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_file_at_any_path_is_read_with_the_secrets_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("clouds.yaml"), CLOUDS).unwrap();
        std::fs::write(dir.path().join("secure.yaml"), "clouds: {lab: {auth: {password: hush}}}").unwrap();
        let entry = CloudConfig::read(&config(dir.path(), Some("lab")), &no_variables).unwrap();
        assert_eq!(entry.region.as_deref(), Some("7"));
        assert!(entry.credentials.body.expose_secret().contains(r#""password":"hush""#));
        assert!(!format!("{entry:?}").contains("hush"));

        let several = CloudConfig::read(&config(dir.path(), None), &no_variables).unwrap_err().to_string();
        assert!(several.contains("lab, second") && several.contains("`cloud`"), "{several}");
        let unknown =
            CloudConfig::read(&config(dir.path(), Some("labs")), &no_variables).unwrap_err().to_string();
        assert!(unknown.contains("no cloud \"labs\": it has lab, second"), "{unknown}");
        let incomplete =
            CloudConfig::read(&config(dir.path(), Some("second")), &no_variables).unwrap_err().to_string();
        assert!(incomplete.contains("has no password: add `auth.password`"), "{incomplete}");
    }

    #[test]
    fn the_environment_alone_is_enough() {
        let environment = |name: &str| {
            let value = match name {
                "OS_AUTH_URL" => "http://cloud.example.com/v3",
                "OS_USERNAME" | "OS_PASSWORD" | "OS_PROJECT_NAME" => "ci",
                "OS_REGION_NAME" => "north",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let config = serde_yaml::from_str("nodes: {a: {image: i, flavor: f}}").unwrap();
        let entry = CloudConfig::read(&config, &environment).unwrap();
        assert_eq!(entry.region.as_deref(), Some("north"));
        assert!(entry.credentials.body.expose_secret().contains(r#""scope":{"project":{"#));
    }

    #[test]
    fn a_broken_file_is_refused_with_the_line_and_never_quoted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("clouds.yaml"), "clouds:\n  lab:\n    password: 'hush\n  x").unwrap();
        let error = format!("{:?}", CloudConfig::read(&config(dir.path(), None), &no_variables).unwrap_err());
        assert!(error.contains("is not YAML") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn an_entry_is_read_with_its_interface_and_endpoint_overrides() {
        let of = |text: &str| CloudConfig::of_entry("lab", &serde_yaml::from_str(text).unwrap());
        let login = "auth: {auth_url: u, username: a, password: b}";
        let entry = of(&format!(
            "{{{login}, endpoint_type: internalURL, volumev3_endpoint_override: 'http://c', other_endpoint_override: x}}"
        ))
        .unwrap();
        assert_eq!(entry.interface, InterfaceType::Internal);
        assert_eq!(entry.endpoint_overrides.len(), 1);
        assert_eq!(entry.endpoint_overrides["block-storage"].as_str(), "http://c/v3");
        for (more, says) in [
            ("verify: false", "`cacert`"),
            ("interface: outside", "none of public, internal and admin"),
            ("compute_endpoint_override: nova", "is not a URL"),
        ] {
            let error = of(&format!("{{{login}, {more}}}")).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
