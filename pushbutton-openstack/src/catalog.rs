//! The OpenStack services that are used, and how their URLs are found in a token's service catalogue.

use openstack::EndpointFilters;
use openstack::session::ServiceType;
use reqwest::Url;
use serde::Deserialize;

/// A service that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    Compute,
    Network,
    Image,
    BlockStorage,
}

impl Service {
    /// The service of this name, as catalogues and `*_endpoint_override` keys name it.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let all = [Self::Compute, Self::Network, Self::Image, Self::BlockStorage];
        all.into_iter().find(|service| service.api().1.contains(&name))
    }

    /// The API version that the requests are written for, and the service's names in catalogues, in order of preference
    /// (OpenStack service types authority).
    fn api(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Compute => ("v2.1", &["compute"]),
            Self::Network => ("v2.0", &["network"]),
            Self::Image => ("v2", &["image"]),
            Self::BlockStorage => ("v3", &["block-storage", "volumev3", "block-store", "volume"]),
        }
    }

    /// Adds the API version to a URL that names none.
    pub(crate) fn with_version(self, mut url: Url) -> Url {
        let is_version = |part: &str| {
            part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        if !url.path_segments().is_some_and(|mut parts| parts.any(is_version)) {
            if let Ok(mut parts) = url.path_segments_mut() {
                parts.pop_if_empty().push(self.api().0);
            }
        }
        url
    }
}

impl ServiceType for Service {
    fn catalog_type(&self) -> &'static str {
        self.api().1[0]
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

/// The URL of a service: the first of its names, of the wanted interfaces in order, in the wanted region.
pub(crate) fn endpoint_of(
    catalog: &[CatalogEntry],
    service: Service,
    filters: &EndpointFilters,
) -> Option<String> {
    let in_region = |endpoint: &&Endpoint| {
        let names = [&endpoint.region, &endpoint.region_id];
        filters.region.is_none() || names.contains(&&filters.region)
    };
    let mut entries =
        service.api().1.iter().flat_map(|name| catalog.iter().filter(move |one| one.service_type == *name));
    entries.find_map(|entry| {
        filters.interfaces.iter().find_map(|interface| {
            let interface = interface.to_string();
            let mut endpoints = entry.endpoints.iter().filter(in_region);
            endpoints.find(|endpoint| endpoint.interface == interface).map(|endpoint| endpoint.url.clone())
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endpoint_is_chosen_by_region_interface_and_old_service_names() {
        let catalog: Vec<CatalogEntry> = serde_json::from_value(json!([
            {"type": "volumev3", "endpoints": [
                {"interface": "public", "region_id": "south", "url": "http://south"},
                {"interface": "internal", "region_id": "north", "url": "http://inside"},
                {"interface": "public", "region_id": "north", "url": "http://north"}]},
        ]))
        .unwrap();
        let mut filters = EndpointFilters::default();
        filters.region = Some("north".into());
        assert_eq!(endpoint_of(&catalog, Service::BlockStorage, &filters).as_deref(), Some("http://north"));
        filters.region = Some("west".into());
        assert_eq!(endpoint_of(&catalog, Service::BlockStorage, &filters), None);
        assert_eq!(endpoint_of(&catalog, Service::Compute, &filters), None);
    }

    #[test]
    fn a_url_without_a_version_gets_the_one_that_is_used() {
        let with_version = |url: &str| Service::Compute.with_version(url.parse().unwrap()).to_string();
        assert_eq!(with_version("http://cloud/compute/"), "http://cloud/compute/v2.1");
        assert_eq!(with_version("http://cloud/compute/v2.1/p1"), "http://cloud/compute/v2.1/p1");
    }
}
