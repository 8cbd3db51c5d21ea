//! Finds and merges `clouds.yaml`, `secure.yaml`, `clouds-public.yaml` and the `OS_*` variables, as openstacksdk does.
//!
//! The result is one flat mapping for one cloud in one region, whatever old or new words the files use. The files are
//! shared with other OpenStack tools, so unknown keys are ignored.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use pushbutton_core::Result;
use serde_json::{Map, Value, json};

use crate::cloud_config::refuse;
use crate::config::OpenStackConfig;

pub(crate) type Mapping = Map<String, Value>;

/// The suffixes of the files, in the order in which they are looked for.
const SUFFIXES: [&str; 3] = ["yaml", "yml", "json"];

/// What of the process decides which files are read. Tests pass their own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) variables: BTreeMap<String, String>,
    /// The working directory.
    pub(crate) directory: PathBuf,
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        // Variables that are no UTF-8 are none of these.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            let is_read = name.starts_with("OS_")
                || ["HOME", "SNAP_REAL_HOME", "XDG_CONFIG_HOME"].contains(&name.as_str());
            (is_read && !value.is_empty()).then_some((name, value))
        });
        Self { variables: variables.collect(), directory: PathBuf::from(".") }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The path with `~` replaced by the home directory.
    pub(crate) fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix('~'), self.get("HOME")) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                PathBuf::from(format!("{home}{rest}"))
            }
            _ => self.directory.join(path),
        }
    }

    /// The directories in which openstacksdk looks for its files.
    fn search_path(&self) -> Vec<PathBuf> {
        let mut directories = vec![self.directory.clone()];
        directories.extend(self.get("XDG_CONFIG_HOME").map(|home| Path::new(home).join("openstack")));
        let home = self.get("SNAP_REAL_HOME").or_else(|| self.get("HOME"));
        directories.extend(home.map(|home| Path::new(home).join(".config/openstack")));
        directories.extend(["/etc/xdg/openstack", "/etc/openstack"].map(PathBuf::from));
        directories
    }

    /// The mapping that the `OS_*` variables stand for: `OS_AUTH_URL` is `auth_url`.
    fn entry(&self) -> Mapping {
        let ignored = ["OS_TEST", "OS_STD", "OS_LOG"];
        let mut entry = Mapping::new();
        for (name, value) in &self.variables {
            let Some(key) = name.strip_prefix("OS_") else { continue };
            if !ignored.iter().any(|prefix| name.starts_with(prefix)) {
                entry.insert(key.to_ascii_lowercase(), value.as_str().into());
            }
        }
        entry
    }
}

/// One cloud in one region.
#[derive(Debug)]
pub(crate) struct CloudEntry {
    /// The cloud's name, for messages.
    pub(crate) name: String,
    /// The file it was read from; none: the environment.
    pub(crate) file: Option<PathBuf>,
    /// Its settings. All that a login needs is in `auth`.
    pub(crate) settings: Mapping,
    pub(crate) warnings: Vec<String>,
}

/// Reads the cloud that the configuration names.
pub(crate) fn read(config: &OpenStackConfig, environment: &Environment) -> Result<CloudEntry> {
    let wanted = config.cloud.as_deref().or_else(|| environment.get("OS_CLOUD"));
    let of_variables = environment.get("OS_CLOUD_NAME").unwrap_or("envvars");
    let has_variables = environment.get("OS_AUTH_URL").is_some();
    let use_variables = match wanted {
        Some(name) => name == of_variables && has_variables,
        None => config.clouds_file.is_none() && has_variables,
    };
    let mut directories = environment.search_path();
    if use_variables {
        let entry = normalized(environment.entry());
        return select(config, of_variables, None, &entry, &directories);
    }
    let (file, mut clouds) = clouds_file(config, environment, &mut directories)?;
    let secure = environment.get("OS_CLIENT_SECURE_FILE").map(|path| environment.expand(path));
    let secure = secure.into_iter().filter(|path| path.is_file()).chain(candidates(&directories, "secure"));
    if let Some((path, root)) = read_first(secure)? {
        merge(&mut clouds, section(root, "clouds", &path)?);
    }
    let names = clouds.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let place = file.display();
    let name = match wanted {
        Some(name) => name.to_owned(),
        None if clouds.len() == 1 => names.clone(),
        None => {
            return Err(refuse(format!("{place} holds several clouds ({names}): name one with `cloud`")));
        }
    };
    match clouds.get(&name).and_then(Value::as_object) {
        Some(entry) => {
            let entry = normalized(entry.clone());
            let selected = select(config, &name, Some(file.clone()), &entry, &directories);
            selected.map_err(|error| error.with("file", place))
        }
        None => Err(refuse(format!("{place} has no cloud {name:?}: it has {names}"))),
    }
}

/// Finds `clouds.yaml`. The directory of a file that was named is searched first for its companions.
fn clouds_file(
    config: &OpenStackConfig,
    environment: &Environment,
    directories: &mut Vec<PathBuf>,
) -> Result<(PathBuf, Mapping)> {
    let named = match &config.clouds_file {
        Some(path) => Some(path.to_str().map_or_else(|| path.clone(), |path| environment.expand(path))),
        None => environment.get("OS_CLIENT_CONFIG_FILE").map(|path| environment.expand(path)),
    };
    let found = match named {
        Some(path) => {
            directories.insert(0, path.parent().map_or_else(PathBuf::new, Path::to_owned));
            let root = parse(&path).map_err(|failed| failed.refusal(&path))?;
            Some((path, root))
        }
        None => read_first(candidates(directories, "clouds"))?,
    };
    let (path, root) = found.ok_or_else(|| {
        refuse(
            "no clouds.yaml: name it with `clouds_file` or OS_CLIENT_CONFIG_FILE, put it into ~/.config/openstack, or set OS_AUTH_URL and the other OS_* variables",
        )
    })?;
    let clouds = section(root, "clouds", &path)?;
    Ok((path, clouds))
}

/// Merges the profile, the cloud's own entry and its region's values, and brings old words up to date.
fn select(
    config: &OpenStackConfig,
    name: &str,
    file: Option<PathBuf>,
    entry: &Mapping,
    directories: &[PathBuf],
) -> Result<CloudEntry> {
    let mut warnings = Vec::new();
    let profile = profile(name, entry, directories, &mut warnings)?;
    let regions = match regions(name, entry)? {
        Some(regions) => regions,
        None => regions_of_profile(name, &profile)?,
    };
    let region = match (&config.region, regions.first()) {
        (None, first) => first.cloned(),
        (Some(wanted), None) => Some(Region { name: wanted.clone(), values: Mapping::new() }),
        (Some(wanted), Some(_)) => match regions.iter().find(|region| region.name == *wanted) {
            Some(region) => Some(region.clone()),
            None => {
                let names = regions.iter().map(|region| region.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(refuse(format!("cloud {name:?} has no region {wanted:?}: it has {names}")));
            }
        },
    };
    let mut settings: Mapping =
        [("auth_type", "password"), ("interface", "public"), ("network_api_version", "2")]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
    settings.insert("auth".into(), json!({}));
    for layer in [profile, entry.clone()] {
        overlay(&mut settings, layer);
    }
    settings.remove("regions");
    let Region { name: region, values } =
        region.unwrap_or_else(|| Region { name: String::new(), values: Mapping::new() });
    overlay(&mut settings, values.into_iter().filter(|(_, value)| !value.is_null()).collect());
    settings.insert("region_name".into(), region.into());
    modernize(&mut settings);
    expand_references(&mut settings);
    Ok(CloudEntry { name: name.into(), file, settings, warnings })
}

/// The profile of the cloud, from the first `clouds-public.yaml` that there is.
fn profile(
    cloud: &str,
    entry: &Mapping,
    directories: &[PathBuf],
    warnings: &mut Vec<String>,
) -> Result<Mapping> {
    let named = entry.get("profile").or_else(|| entry.get("cloud")).and_then(Value::as_str);
    let Some(profile) = named.filter(|profile| *profile != "envvars") else { return Ok(Mapping::new()) };
    if let Some((path, root)) = read_first(candidates(directories, "clouds-public"))? {
        let mut profiles = section(root, "public-clouds", &path)?;
        if let Some(Value::Object(found)) = profiles.remove(profile) {
            return Ok(normalized(found));
        }
    }
    if profile.contains("://") {
        return Err(refuse(format!(
            "cloud {cloud:?}: the profile {profile} is not fetched from the network: save what it answers below `public-clouds:` in a clouds-public.yaml, under this very name"
        )));
    }
    warnings.push(format!(
        "cloud {cloud:?}: no clouds-public.yaml has the profile {profile:?}, and those that come with openstacksdk are not included: copy it into a clouds-public.yaml"
    ));
    Ok(Mapping::new())
}

#[derive(Debug, Clone)]
struct Region {
    name: String,
    /// What differs in this region.
    values: Mapping,
}

/// The regions that an entry names itself; none: it says nothing about regions.
fn regions(cloud: &str, entry: &Mapping) -> Result<Option<Vec<Region>>> {
    if let Some(regions) = entry.get("regions") {
        return regions_in(cloud, regions).map(Some);
    }
    match entry.get("region_name") {
        Some(Value::String(names)) => Ok(Some(
            names.split(',').map(|name| Region { name: name.into(), values: Mapping::new() }).collect(),
        )),
        Some(list @ Value::Array(_)) => regions_in(cloud, list).map(Some),
        _ => Ok(None),
    }
}

fn regions_of_profile(cloud: &str, profile: &Mapping) -> Result<Vec<Region>> {
    match profile.get("regions").filter(|regions| **regions != json!([])) {
        Some(regions) => regions_in(cloud, regions),
        None => Ok(text(profile, "region_name")
            .map(|name| Region { name, values: Mapping::new() })
            .into_iter()
            .collect()),
    }
}

/// A list of regions, each a name, or a mapping of `name` and `values`.
fn regions_in(cloud: &str, list: &Value) -> Result<Vec<Region>> {
    let one = |region: &Value| match region {
        Value::Object(region) if region.keys().all(|key| key == "name" || key == "values") => {
            let values = region.get("values").and_then(Value::as_object).cloned().unwrap_or_default();
            Some(Region { name: text(region, "name")?, values: normalized(values) })
        }
        other => Some(Region { name: scalar(other)?, values: Mapping::new() }),
    };
    let regions = list.as_array().and_then(|list| list.iter().map(one).collect());
    regions.ok_or_else(|| {
        refuse(format!(
            "cloud {cloud:?}: `regions` is a list of names, or of mappings of `name` and `values`"
        ))
    })
}

/// Puts a layer over the settings. Only `auth` is merged key by key.
fn overlay(settings: &mut Mapping, layer: Mapping) {
    for (key, value) in layer {
        match (settings.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) if key == "auth" => below.extend(above),
            (_, value) => {
                settings.insert(key, value);
            }
        }
    }
}

/// What a login may need. It belongs into `auth`, but many files and all variables have it beside.
const AUTH_KEYS: [&str; 13] = [
    "auth_url",
    "username",
    "user_name",
    "user_id",
    "password",
    "default_domain_id",
    "default_domain_name",
    "default_domain",
    "system_scope",
    "trust_id",
    "application_credential_id",
    "application_credential_name",
    "application_credential_secret",
];

/// Keys of `auth` with their older names, the strongest last.
const OLD_NAMES: [(&str, &[&str]); 9] = [
    ("domain_id", &["domain_id"]),
    ("domain_name", &["domain_name"]),
    ("user_domain_id", &["user_domain_id"]),
    ("user_domain_name", &["user_domain_name"]),
    ("project_domain_id", &["project_domain_id"]),
    ("project_domain_name", &["project_domain_name"]),
    ("token", &["auth_token", "token"]),
    ("project_id", &["tenant_id", "project_id"]),
    ("project_name", &["tenant_name", "project_name"]),
];

/// Replaces old words by new ones, and moves what a login needs into `auth`.
fn modernize(settings: &mut Mapping) {
    let old: Vec<String> = settings.keys().filter(|key| key.ends_with("endpoint_type")).cloned().collect();
    for key in old {
        if let Some(value) = settings.remove(&key) {
            settings.insert(key.replace("endpoint_type", "interface"), value);
        }
    }
    let mut auth = match settings.remove("auth") {
        Some(Value::Object(auth)) => auth,
        _ => Mapping::new(),
    };
    for (key, names) in OLD_NAMES {
        let mut found = None;
        for name in names {
            for value in [auth.remove(*name), settings.remove(*name)].into_iter().flatten() {
                found = Some(value);
            }
        }
        if let Some(value) = found.and_then(|value| scalar(&value)).filter(|value| !value.is_empty()) {
            auth.insert(key.into(), value.into());
        }
    }
    for key in AUTH_KEYS {
        let beside = settings.remove(key);
        if text(&auth, key).is_none() {
            auth.remove(key);
            auth.extend(
                beside
                    .filter(|value| scalar(value).is_some_and(|text| !text.is_empty()))
                    .map(|value| (key.to_owned(), value)),
            );
        }
    }
    if let Some(name) = auth.remove("user_name") {
        auth.entry("username").or_insert(name);
    }
    // One domain for both the user and the project.
    if auth.contains_key("project_id") || auth.contains_key("project_name") {
        for what in ["id", "name"] {
            if let Some(domain) = auth.remove(&format!("domain_{what}")) {
                for of in ["user", "project"] {
                    auth.entry(format!("{of}_domain_{what}")).or_insert_with(|| domain.clone());
                }
            }
        }
    }
    settings.insert("auth".into(), Value::Object(auth));
}

/// Replaces `{region_name}` and other references to settings in texts.
fn expand_references(settings: &mut Mapping) {
    let known = settings.clone();
    for (key, value) in settings.iter_mut() {
        match value {
            Value::String(text) if key != "password" => *text = expanded(text, &known),
            Value::Object(auth) if key == "auth" => {
                if let Some(Value::String(url)) = auth.get_mut("auth_url") {
                    *url = expanded(url, &known);
                }
            }
            _ => {}
        }
    }
}

fn expanded(template: &str, settings: &Mapping) -> String {
    let mut text = template.to_owned();
    for (key, value) in settings {
        if let Some(value) = scalar(value) {
            text = text.replace(&format!("{{{key}}}"), &value);
        }
    }
    text
}

fn candidates(directories: &[PathBuf], name: &'static str) -> impl Iterator<Item = PathBuf> {
    let in_directory = move |dir: &PathBuf| SUFFIXES.map(|suffix| dir.join(format!("{name}.{suffix}")));
    directories.iter().flat_map(in_directory).collect::<Vec<_>>().into_iter()
}

/// Reads the first of these files that exists and may be read.
fn read_first(paths: impl Iterator<Item = PathBuf>) -> Result<Option<(PathBuf, Mapping)>> {
    for path in paths {
        match parse(&path) {
            Ok(root) => return Ok(Some((path, root))),
            Err(Failed::ToRead(error))
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
            Err(failed) => return Err(failed.refusal(&path)),
        }
    }
    Ok(None)
}

enum Failed {
    ToRead(io::Error),
    ToParse(String),
}

impl Failed {
    fn refusal(self, path: &Path) -> pushbutton_core::Error {
        let place = path.display();
        match self {
            Self::ToRead(error) => refuse(format!("cannot read {place}: {error}")).because(error),
            Self::ToParse(why) => refuse(format!("{place} is not YAML: {why}")),
        }
    }
}

fn parse(path: &Path) -> std::result::Result<Mapping, Failed> {
    let text = std::fs::read_to_string(path).map_err(Failed::ToRead)?;
    // JSON is YAML, too.
    let mut root: serde_yaml::Value =
        serde_yaml::from_str(&text).map_err(|error| Failed::ToParse(location(&error)))?;
    // An anchor may be merged into another cloud with `<<`.
    root.apply_merge().map_err(|error| Failed::ToParse(location(&error)))?;
    match as_json(root) {
        Value::Object(root) => Ok(root),
        _ => Ok(Mapping::new()),
    }
}

/// Where a YAML error is. The parser's message is left out: it may quote a secret.
fn location(error: &serde_yaml::Error) -> String {
    error.location().map_or_else(
        || "it is incomplete or mixes types".into(),
        |place| format!("line {}, column {}", place.line(), place.column()),
    )
}

/// YAML as JSON: keys become texts.
fn as_json(value: serde_yaml::Value) -> Value {
    use serde_yaml::Value as Yaml;
    match value {
        Yaml::Mapping(mapping) => {
            let entries =
                mapping.into_iter().filter_map(|(key, value)| Some((scalar(&as_json(key))?, as_json(value))));
            Value::Object(entries.collect())
        }
        Yaml::Sequence(items) => items.into_iter().map(as_json).collect(),
        Yaml::Tagged(tagged) => as_json(tagged.value),
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

fn section(mut root: Mapping, key: &str, path: &Path) -> Result<Mapping> {
    match root.remove(key) {
        Some(Value::Object(section)) => Ok(section),
        _ => Err(refuse(format!("{} has no `{key}:` mapping", path.display()))),
    }
}

/// Merges `over` into `under`, mapping by mapping; `over` wins.
fn merge(under: &mut Mapping, over: Mapping) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Keys with `_`, and numbers as texts: ids and regions are often written without quotes.
fn normalized(mapping: Mapping) -> Mapping {
    let value = |value| match value {
        Value::Object(mapping) => Value::Object(normalized(mapping)),
        Value::Number(number) => number.to_string().into(),
        other => other,
    };
    mapping.into_iter().map(|(key, one)| (key.replace('-', "_"), value(one))).collect()
}

/// A text, or a number or a truth value as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The text of a key; none if it is missing or empty.
pub(crate) fn text(mapping: &Mapping, key: &str) -> Option<String> {
    scalar(mapping.get(key)?).filter(|text| !text.is_empty())
}

/// Whether a setting is true. YAML 1.1, which openstacksdk reads, has more words for it than YAML 1.2.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::String(text) => ["true", "yes", "on"].contains(&text.to_ascii_lowercase().as_str()),
        _ => false,
    }
}
