//! Finds and reads `clouds.yaml`, `secure.yaml` and the `OS_*` variables.
//!
//! The openstack crate reads them too, but from fixed places only, and takes neither `v3password` nor the id of a user's domain.
//! The files belong to all OpenStack tools of a site: keys that are none of ours are passed over.

use std::path::{Path, PathBuf};

use pushbutton_core::Result;
use serde_yaml::{Mapping, Value};

use crate::config::OpenStackConfig;
use crate::entry::{CloudEntry, of_entry, refuse};

/// The variables of this process, or of a test.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the cloud that the configuration asks for.
pub(crate) fn read(config: &OpenStackConfig, environment: Environment<'_>) -> Result<CloudEntry> {
    let wanted = config.cloud.clone().or_else(|| environment("OS_CLOUD"));
    if wanted.is_none() && config.clouds_file.is_none() && environment("OS_AUTH_URL").is_some() {
        return of_entry("the OS_* variables", &of_environment(environment));
    }
    let path = find(config, environment)?;
    let mut clouds = clouds_of(&path)?;
    let secure = path.with_file_name("secure.yaml");
    if secure.is_file() {
        merge(&mut clouds, clouds_of(&secure)?);
    }
    let names = clouds.keys().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let place = path.display();
    let name = match wanted {
        Some(name) => name,
        None if clouds.len() == 1 => names.clone(),
        None => return Err(refuse(format!("{place} holds several clouds ({names}): name one with `cloud`"))),
    };
    match clouds.get(&name).and_then(Value::as_mapping) {
        Some(entry) => of_entry(&name, entry).map_err(|error| error.with("file", place)),
        None => Err(refuse(format!("{place} has no cloud {name:?}: it has {names}"))),
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
            "no clouds.yaml: name it with `clouds_file` or OS_CLIENT_CONFIG_FILE, put it into ~/.config/openstack, or set OS_AUTH_URL and its like",
        )
    })
}

fn clouds_of(path: &Path) -> Result<Mapping> {
    let place = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| refuse(format!("cannot read {place}: {error}")).because(error))?;
    // The parser's message may quote the text, but never more than the offending scalar's place.
    let mut root: Value = serde_yaml::from_str(&text)
        .map_err(|error| refuse(format!("{place} is not YAML: {}", at(&error))))?;
    // An anchor may be merged into another cloud with `<<`.
    root.apply_merge().map_err(|error| refuse(format!("{place}: {}", at(&error))))?;
    match root.get("clouds").and_then(Value::as_mapping) {
        Some(clouds) => Ok(clouds.clone()),
        None => Err(refuse(format!("{place} has no `clouds:` mapping"))),
    }
}

/// Where a YAML error lies, without its words: they may quote a secret.
fn at(error: &serde_yaml::Error) -> String {
    error.location().map_or_else(
        || "it breaks off or mixes types".into(),
        |place| format!("line {}, column {}", place.line(), place.column()),
    )
}

/// Lays `over` onto `under`, mapping by mapping.
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

/// The variables in the shape of an entry of the file.
fn of_environment(environment: Environment<'_>) -> Mapping {
    let mut auth = Mapping::new();
    for key in [
        "auth_url",
        "username",
        "user_id",
        "password",
        "token",
        "project_id",
        "project_name",
        "project_domain_id",
        "project_domain_name",
        "user_domain_id",
        "user_domain_name",
        "application_credential_id",
        "application_credential_name",
        "application_credential_secret",
    ] {
        if let Some(value) = environment(&format!("OS_{}", key.to_ascii_uppercase())) {
            auth.insert(key.into(), value.into());
        }
    }
    let mut entry = Mapping::from_iter([("auth".into(), Value::Mapping(auth))]);
    for key in ["auth_type", "region_name", "interface", "cacert", "default_domain"] {
        if let Some(value) = environment(&format!("OS_{}", key.to_ascii_uppercase())) {
            entry.insert(key.into(), value.into());
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::credentials::{Login, Project};

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

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn any_path_with_its_secrets_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("clouds.yaml"), CLOUDS).unwrap();
        std::fs::write(dir.path().join("secure.yaml"), "clouds: {lab: {auth: {password: hush}}}").unwrap();
        let entry = read(&config(dir.path(), Some("lab")), &nothing).unwrap();
        assert_eq!(entry.region.as_deref(), Some("7"));
        let Login::Password { password, .. } = &entry.credentials.login else { panic!("{entry:?}") };
        assert_eq!(password.expose_secret(), "hush");
        assert!(!format!("{entry:?}").contains("hush"));

        let several = read(&config(dir.path(), None), &nothing).unwrap_err().to_string();
        assert!(several.contains("lab, second") && several.contains("`cloud`"), "{several}");
        let unknown = read(&config(dir.path(), Some("labs")), &nothing).unwrap_err().to_string();
        assert!(unknown.contains("no cloud \"labs\": it has lab, second"), "{unknown}");
        let incomplete = read(&config(dir.path(), Some("second")), &nothing).unwrap_err().to_string();
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
        let entry = read(&config, &environment).unwrap();
        assert_eq!(entry.region.as_deref(), Some("north"));
        assert!(matches!(entry.credentials.project, Some(Project::Name(..))));
    }

    #[test]
    fn a_broken_file_is_named_by_its_place_and_never_quoted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("clouds.yaml"), "clouds:\n  lab:\n    password: 'hush\n  x").unwrap();
        let error = format!("{:?}", read(&config(dir.path(), None), &nothing).unwrap_err());
        assert!(error.contains("is not YAML") && !error.contains("hush"), "{error}");
    }
}
