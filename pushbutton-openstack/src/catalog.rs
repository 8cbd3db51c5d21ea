//! The OpenStack services that are used, and how their URLs are found in a token's service catalogue.

use std::collections::BTreeSet;

use openstack::session::ServiceType;
use reqwest::Url;
use serde::Deserialize;

use crate::cloud_config::EndpointChoice;

/// A service that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Service {
    Compute,
    Network,
    Image,
    BlockStorage,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Compute, Self::Network, Self::Image, Self::BlockStorage];

    /// The service of this name, as catalogues name it.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.names().contains(&name))
    }

    /// The API version that the requests are written for, as in URLs.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Compute => "v2.1",
            Self::Network => "v2.0",
            Self::Image => "v2",
            Self::BlockStorage => "v3",
        }
    }

    /// The service's names in catalogues and in settings, in order of preference (OpenStack service types authority).
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Compute => &["compute"],
            Self::Network => &["network"],
            Self::Image => &["image"],
            Self::BlockStorage => &["block-storage", "volumev3", "volumev2", "volume", "block-store"],
        }
    }

    /// The key in `clouds.yaml` that gives its URL instead of the catalogue.
    pub(crate) fn url_key(self) -> String {
        format!("{}_endpoint_override", self.names()[0].replace('-', "_"))
    }

    /// Whether every node needs it.
    pub(crate) fn is_needed_by_all(self) -> bool {
        self != Self::BlockStorage
    }

    /// Adds the API version to a URL that names none.
    pub(crate) fn with_version(self, mut url: Url) -> Url {
        let is_version = |part: &str| {
            part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        if !url.path_segments().is_some_and(|mut parts| parts.any(is_version)) {
            if let Ok(mut parts) = url.path_segments_mut() {
                parts.pop_if_empty().push(self.version());
            }
        }
        url
    }
}

impl ServiceType for Service {
    fn catalog_type(&self) -> &'static str {
        self.names()[0]
    }

    /// The session uses the catalogue's URL as it is. A service behind a proxy often names itself by a host that only
    /// the proxy can reach, or answers a version request with a web page.
    fn version_discovery_supported(&self) -> bool {
        false
    }
}

/// A service in a token's catalogue.
#[derive(Debug, Deserialize)]
pub(crate) struct CatalogEntry {
    #[serde(rename = "type")]
    service_type: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    interface: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    region_id: Option<String>,
    url: String,
}

impl Endpoint {
    fn region(&self) -> Option<&str> {
        self.region_id.as_deref().or(self.region.as_deref())
    }
}

/// Why the catalogue has no URL to use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoEndpoint {
    /// There is none in the region; there are some in these.
    Missing(BTreeSet<String>),
    /// No region is configured, and there are endpoints in all of these.
    SeveralRegions(BTreeSet<String>),
}

/// The URL of a service: the first of its names, of the wanted interface, in the wanted region. An old name that
/// stands for another version of the API does not count.
pub(crate) fn endpoint_of(
    catalog: &[CatalogEntry],
    service: Service,
    choice: &EndpointChoice,
) -> std::result::Result<String, NoEndpoint> {
    let interface = choice.interface.to_string();
    let names = service.names().iter().filter(|name| **name != "volumev2");
    let entries = names.flat_map(|name| catalog.iter().filter(move |one| one.service_type == *name));
    let endpoints: Vec<&Endpoint> =
        entries.flat_map(|entry| &entry.endpoints).filter(|one| one.interface == interface).collect();
    let regions =
        || endpoints.iter().filter_map(|one| one.region()).map(str::to_owned).collect::<BTreeSet<_>>();
    match &choice.region {
        Some(region) => {
            let in_region = |one: &&&Endpoint| [&one.region, &one.region_id].contains(&&Some(region.clone()));
            let found = endpoints.iter().find(in_region);
            found.map(|one| one.url.clone()).ok_or_else(|| NoEndpoint::Missing(regions()))
        }
        // Each service would take the first of its list, which may be of another region than that of the next service.
        None if regions().len() > 1 => Err(NoEndpoint::SeveralRegions(regions())),
        None => {
            endpoints.first().map(|one| one.url.clone()).ok_or_else(|| NoEndpoint::Missing(BTreeSet::new()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn report_8_an_endpoint_is_chosen_by_region_and_interface_and_never_by_chance() {
        let catalog: Vec<CatalogEntry> = serde_json::from_value(json!([
            {"type": "volumev3", "endpoints": [
                {"interface": "public", "region_id": "south", "url": "http://south"},
                {"interface": "internal", "region_id": "north", "url": "http://inside"},
                {"interface": "public", "region_id": "north", "url": "http://north"}]},
        ]))
        .unwrap();
        let of = |service, region: Option<&str>| {
            let choice = EndpointChoice {
                region: region.map(str::to_owned),
                interface: openstack::InterfaceType::Public,
                url: None,
            };
            endpoint_of(&catalog, service, &choice)
        };
        assert_eq!(of(Service::BlockStorage, Some("north")).as_deref(), Ok("http://north"));
        let both = || ["north", "south"].map(str::to_owned).into();
        assert_eq!(of(Service::BlockStorage, Some("west")), Err(NoEndpoint::Missing(both())));
        assert_eq!(of(Service::BlockStorage, None), Err(NoEndpoint::SeveralRegions(both())));
        assert_eq!(of(Service::Compute, None), Err(NoEndpoint::Missing(BTreeSet::new())));
    }

    #[test]
    fn a_url_without_a_version_gets_the_one_that_is_used() {
        let with_version = |url: &str| Service::Compute.with_version(url.parse().unwrap()).to_string();
        assert_eq!(with_version("http://cloud/compute/"), "http://cloud/compute/v2.1");
        assert_eq!(with_version("http://cloud/compute/v2.1/p1"), "http://cloud/compute/v2.1/p1");
    }
}
