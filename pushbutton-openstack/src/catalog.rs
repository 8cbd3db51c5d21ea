//! Reads the catalogue that comes with a token.

use openstack::EndpointFilters;
use serde::Deserialize;

/// A service in a token's catalogue.
#[derive(Deserialize)]
pub(crate) struct CatalogEntry {
    #[serde(rename = "type")]
    service_type: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    interface: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    region_id: Option<String>,
    url: String,
}

/// Other names of a service in catalogues, as `block-storage` was `volumev3` for long (OpenStack service types authority).
pub(crate) fn names_of(service: &str) -> &[&str] {
    match service {
        "block-storage" => &["block-storage", "volumev3", "block-store", "volume"],
        "compute" => &["compute"],
        "network" => &["network"],
        "image" => &["image"],
        _ => &[],
    }
}

/// The URL of a service: the first of its names, of the wanted interfaces in order, in the wanted region.
pub(crate) fn endpoint_of(
    catalog: &[CatalogEntry],
    service: &str,
    filters: &EndpointFilters,
) -> Option<String> {
    let region_fits = |endpoint: &&Endpoint| match &filters.region {
        Some(region) => {
            endpoint.region.as_ref() == Some(region) || endpoint.region_id.as_ref() == Some(region)
        }
        None => true,
    };
    let mut services =
        names_of(service).iter().flat_map(|name| catalog.iter().filter(move |one| one.service_type == *name));
    services.find_map(|one| {
        filters.interfaces.iter().find_map(|interface| {
            let interface = interface.to_string();
            let fits =
                one.endpoints.iter().filter(region_fits).find(|endpoint| endpoint.interface == interface);
            fits.map(|endpoint| endpoint.url.clone())
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_catalogue_is_read_by_region_interface_and_old_names() {
        let catalog: Vec<CatalogEntry> = serde_json::from_value(json!([
            {"type": "volumev3", "endpoints": [
                {"interface": "public", "region_id": "south", "url": "http://south"},
                {"interface": "internal", "region_id": "north", "url": "http://inside"},
                {"interface": "public", "region_id": "north", "url": "http://north"}]},
        ]))
        .unwrap();
        let mut filters = EndpointFilters::default();
        filters.region = Some("north".into());
        assert_eq!(endpoint_of(&catalog, "block-storage", &filters).as_deref(), Some("http://north"));
        filters.region = Some("west".into());
        assert_eq!(endpoint_of(&catalog, "block-storage", &filters), None);
        assert_eq!(endpoint_of(&catalog, "compute", &filters), None);
    }
}
