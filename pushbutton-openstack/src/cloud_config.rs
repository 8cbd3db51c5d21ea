//! One cloud: where to log in and how, which region and interfaces, what its TLS and its networks are like.

use std::collections::BTreeMap;
use std::path::PathBuf;

use openstack::InterfaceType;
use openstack::session::ServiceType;
use pushbutton_core::{Error, ErrorKind, Result};
use reqwest::Url;
use serde_json::{Map, Value};

use crate::catalog::Service;
use crate::cloud_files::{CloudEntry, Environment, Mapping, is_true, read, text};
use crate::config::OpenStackConfig;
use crate::credentials::Credentials;

/// One cloud in one region, as `clouds.yaml` or the environment describes it.
#[derive(Debug, Clone)]
pub(crate) struct CloudConfig {
    /// Its name, for messages.
    pub(crate) name: String,
    pub(crate) credentials: Credentials,
    pub(crate) tls: Tls,
    pub(crate) endpoints: BTreeMap<Service, EndpointChoice>,
    /// What the entry says about networks.
    pub(crate) networks: Vec<CloudNetwork>,
    /// What people should know about this entry, at each start.
    pub(crate) warnings: Vec<String>,
}

/// Whom to trust, and who this is, on TLS connections.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// Whether certificates are verified at all.
    pub(crate) verify: bool,
    pub(crate) cacert: Option<PathBuf>,
    /// The client certificate, and its key where that is in a file of its own.
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Which of a service's endpoints is used.
#[derive(Debug, Clone)]
pub(crate) struct EndpointChoice {
    pub(crate) region: Option<String>,
    pub(crate) interface: InterfaceType,
    /// A URL to use instead of the catalogue's. It may refer to `%(project_id)s`.
    pub(crate) url: Option<String>,
}

/// What the entry says about one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CloudNetwork {
    pub(crate) name: String,
    /// Whether an address on it can be reached from outside the cloud, by address family.
    pub(crate) routes_ipv4_externally: bool,
    pub(crate) routes_ipv6_externally: bool,
    /// Floating IPs lead to addresses on it.
    pub(crate) nat_destination: bool,
    /// Its address is the one to log in to; servers are connected to it if nothing else is said.
    pub(crate) default_interface: bool,
    /// These two decide nothing here.
    pub(crate) routes_externally: bool,
    pub(crate) nat_source: bool,
}

/// A permanent configuration error.
pub(crate) fn refuse(message: impl Into<String>) -> Error {
    Error::permanent(ErrorKind::Config, message.into()).during("cloud")
}

impl CloudConfig {
    /// Reads the cloud that the configuration names.
    pub(crate) fn read(config: &OpenStackConfig, environment: &Environment) -> Result<Self> {
        let entry = read(config, environment)?;
        let file = entry.file.clone();
        let cloud = Self::of_entry(entry, environment);
        match file {
            Some(file) => cloud.map_err(|error| error.with("file", file.display())),
            None => cloud,
        }
    }

    fn of_entry(entry: CloudEntry, environment: &Environment) -> Result<Self> {
        let CloudEntry { name, settings, mut warnings, .. } = entry;
        let endpoints = Service::ALL
            .into_iter()
            .map(|service| Ok((service, endpoint_choice(&name, service, &settings, &mut warnings)?)))
            .collect::<Result<_>>()?;
        let tls = tls(&settings, environment);
        if !tls.verify {
            warnings.push(format!(
                "cloud {name:?}: TLS certificates are NOT verified (`verify: false` or `insecure: true`): whoever is between here and the cloud can read the credentials and take over every node; give the cloud's own certificate authority with `cacert` instead"
            ));
        }
        let credentials = Credentials::of_settings(&name, &settings)?;
        let networks = networks(&name, &settings)?;
        Ok(Self { name, credentials, tls, endpoints, networks, warnings })
    }
}

fn endpoint_choice(
    cloud: &str,
    service: Service,
    settings: &Mapping,
    warnings: &mut Vec<String>,
) -> Result<EndpointChoice> {
    let of_service = |key: &str| {
        let names = service.names().iter();
        names.map(|name| format!("{}_{key}", name.replace('-', "_"))).find_map(|key| text(settings, &key))
    };
    let interface = of_service("interface").or_else(|| text(settings, "interface"));
    let interface = interface.as_deref().unwrap_or("public").parse().map_err(|_| {
        refuse(format!("cloud {cloud:?}: the interface is none of public, internal and admin"))
    })?;
    let url = of_service("endpoint_override").or_else(|| of_service("endpoint"));
    if let Some(url) = &url {
        url.parse::<Url>().map_err(|error| {
            refuse(format!("cloud {cloud:?}: {url:?} of {} is not a URL: {error}", service.catalog_type()))
        })?;
    }
    let wanted = of_service("api_version");
    let major = |version: &str| version.trim_start_matches('v').split('.').next().map(str::to_owned);
    if let Some(wanted) = wanted.filter(|wanted| major(wanted) != major(service.version())) {
        warnings.push(format!(
            "cloud {cloud:?}: the API version {wanted} of {} is not supported: {} is used",
            service.catalog_type(),
            service.version()
        ));
    }
    let region = of_service("region_name").or_else(|| text(settings, "region_name"));
    Ok(EndpointChoice { region, interface, url })
}

fn tls(settings: &Mapping, environment: &Environment) -> Tls {
    let path = |key: &str| text(settings, key).map(|path| environment.expand(&path));
    let is_off = |value: &Value| match value {
        Value::Bool(truth) => !truth,
        Value::String(text) => ["false", "no", "off"].contains(&text.to_ascii_lowercase().as_str()),
        _ => false,
    };
    let insecure =
        settings.get("insecure").is_some_and(is_true) || settings.get("verify").is_some_and(is_off);
    // `verify` may name the certificates.
    let of_verify = || {
        let path = settings.get("verify")?.as_str()?;
        (!insecure && path.contains(['/', '.'])).then(|| environment.expand(path))
    };
    Tls { verify: !insecure, cacert: path("cacert").or_else(of_verify), cert: path("cert"), key: path("key") }
}

/// The entry's networks, also in the old words `external_network` and `internal_network`.
fn networks(cloud: &str, settings: &Mapping) -> Result<Vec<CloudNetwork>> {
    let mut all = Vec::new();
    let list = settings.get("networks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for network in list {
        let nothing = Map::new();
        let network = network.as_object().unwrap_or(&nothing);
        let name = text(network, "name")
            .ok_or_else(|| refuse(format!("cloud {cloud:?}: an entry of `networks` has no `name`")))?;
        let flag = |key: &str| network.get(key).map(is_true);
        let routes_externally = flag("routes_externally").unwrap_or_default();
        all.push(CloudNetwork {
            name,
            routes_externally,
            routes_ipv4_externally: flag("routes_ipv4_externally").unwrap_or(routes_externally),
            routes_ipv6_externally: flag("routes_ipv6_externally").unwrap_or(routes_externally),
            nat_source: flag("nat_source").unwrap_or_default(),
            nat_destination: flag("nat_destination").unwrap_or_default(),
            default_interface: flag("default_interface").unwrap_or_default(),
        });
    }
    for (key, external) in [("external_network", true), ("internal_network", false)] {
        let Some(name) = text(settings, key) else { continue };
        if settings.contains_key("networks") {
            return Err(refuse(format!("cloud {cloud:?} has both {key} and networks: remove {key}")));
        }
        all.push(CloudNetwork {
            name,
            routes_externally: external,
            routes_ipv4_externally: external,
            routes_ipv6_externally: external,
            nat_destination: !external,
            default_interface: external,
            ..CloudNetwork::default()
        });
    }
    for (key, flagged) in [
        ("nat_destination", all.iter().filter(|one| one.nat_destination).count()),
        ("default_interface", all.iter().filter(|one| one.default_interface).count()),
    ] {
        if flagged > 1 {
            return Err(refuse(format!("cloud {cloud:?}: only one network can have {key}")));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod openstacksdk_tests;
#[cfg(test)]
mod tests;
