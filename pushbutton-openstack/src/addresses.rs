//! Chooses the addresses of a node that may answer from here.

use std::net::IpAddr;

use pushbutton_core::{Error, ErrorKind, Result};

use crate::api_types::Resource;
use crate::cloud_config::CloudNetwork;
use crate::config::AddressChoice;
use crate::create_spec::Ids;

/// What `clouds.yaml` says about an address, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Route {
    /// Its network routes this family to the outside.
    External,
    /// Nothing.
    Unknown,
    /// Its network does not.
    Internal,
}

/// The fixed addresses to try. None while the ports have no addresses yet.
///
/// Addresses that are routed to the outside come alone. Those that are not are only tried where there are no others:
/// then this machine is most likely inside the cloud. Without route flags, the addresses of the first network are
/// tried, of both families: which of them is routed cannot be known.
pub(crate) fn candidates(ports: &[Resource], ids: &Ids, choice: AddressChoice) -> Result<Vec<IpAddr>> {
    let flags = |port: &Resource| {
        let of_network = |(id, _): &&(String, CloudNetwork)| port.network_id.as_ref() == Some(id);
        ids.routes.iter().find(of_network).map(|(_, network)| network)
    };
    let is_default = |port: &&&Resource| flags(port).is_some_and(|network| network.default_interface);
    let mut ports: Vec<&Resource> = ports.iter().filter(|port| !port.fixed_ips.is_empty()).collect();
    if let Some(port) = ports.iter().find(is_default) {
        ports = vec![port];
    }
    ports.sort_by_key(|port| order(port, ids));
    let all =
        || ports.iter().flat_map(|port| port.fixed_ips.iter().map(move |fixed| (*port, fixed.ip_address)));
    let is_wanted = |ip: &IpAddr| match choice {
        AddressChoice::Ipv4 => ip.is_ipv4(),
        AddressChoice::Ipv6 => ip.is_ipv6(),
        AddressChoice::Any | AddressChoice::Floating => true,
    };
    let route = |port: &Resource, ip: &IpAddr| match flags(port) {
        None => Route::Unknown,
        Some(network) if ip.is_ipv4() && network.routes_ipv4_externally => Route::External,
        Some(network) if ip.is_ipv6() && network.routes_ipv6_externally => Route::External,
        Some(_) => Route::Internal,
    };
    let wanted: Vec<_> =
        all().filter(|(_, ip)| is_wanted(ip)).map(|(port, ip)| (route(port, &ip), port, ip)).collect();
    let Some(best) = wanted.iter().map(|(route, ..)| *route).min() else {
        let present = all().map(|(_, ip)| ip.to_string()).collect::<Vec<_>>().join(", ");
        if present.is_empty() {
            return Ok(Vec::new());
        }
        let message =
            format!("the node has no address of the family that `address` asks for: it has {present}");
        return Err(Error::permanent(ErrorKind::Config, message));
    };
    let mut chosen: Vec<_> = wanted.into_iter().filter(|(route, ..)| *route == best).collect();
    if let Some((_, first, _)) = chosen.first().filter(|_| best != Route::External).copied() {
        chosen.retain(|(_, port, _)| port.id == first.id);
    }
    Ok(chosen.into_iter().map(|(.., ip)| ip).collect())
}

/// The port that a floating IP leads to: on the network that `nat_destination` names, else on the first; and its first
/// IPv4 address where it has several, since Neutron then does not choose one. None while a port has no address yet.
///
/// # Errors
/// [`ErrorKind::Config`], permanent: no port has an IPv4 address.
pub(crate) fn nat_port<'a>(
    ports: &'a [Resource],
    ids: &Ids,
) -> Result<Option<(&'a Resource, Option<IpAddr>)>> {
    let is_destination = |port: &Resource| {
        let of_port = |(id, network): &(String, CloudNetwork)| {
            network.nat_destination && port.network_id.as_ref() == Some(id)
        };
        ids.routes.iter().any(of_port)
    };
    let ipv4 = |port: &'a Resource| port.fixed_ips.iter().map(|ip| ip.ip_address).filter(IpAddr::is_ipv4);
    let with_address = ports.iter().filter(|port| ipv4(port).next().is_some());
    if let Some(port) = with_address.min_by_key(|port| (!is_destination(port), order(port, ids))) {
        return Ok(Some((port, ipv4(port).next().filter(|_| ipv4(port).count() > 1))));
    }
    if ports.is_empty() || ports.iter().any(|port| port.fixed_ips.is_empty()) {
        return Ok(None);
    }
    let present = ports.iter().flat_map(|port| &port.fixed_ips).map(|ip| ip.ip_address.to_string());
    let present = present.collect::<Vec<_>>().join(", ");
    let message = format!(
        "the node has no IPv4 address that a floating IP could lead to: it has {present}; connect it to a network with an \
         IPv4 subnet, or remove `floating_ip`"
    );
    Err(Error::permanent(ErrorKind::Config, message))
}

/// The place of a port's network in the configuration.
fn order(port: &Resource, ids: &Ids) -> usize {
    let is_network = |id: &String| port.network_id.as_ref() == Some(id);
    ids.networks.iter().position(is_network).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn port(network: &str, addresses: &[&str]) -> Resource {
        let fixed: Vec<_> = addresses.iter().map(|ip| json!({"ip_address": ip})).collect();
        serde_json::from_value(
            json!({"id": format!("on-{network}"), "network_id": network, "fixed_ips": fixed}),
        )
        .unwrap()
    }

    fn ids(networks: &[&str], routes: &[CloudNetwork]) -> Ids {
        Ids {
            image: String::new(),
            flavor: String::new(),
            networks: networks.iter().map(|id| (*id).to_owned()).collect(),
            floating_network: None,
            server_group: None,
            security_groups: Vec::new(),
            routes: routes.iter().map(|network| (network.name.clone(), network.clone())).collect(),
        }
    }

    fn network(name: &str) -> CloudNetwork {
        CloudNetwork { name: name.into(), ..CloudNetwork::default() }
    }

    /// Report 10: an IPv4 address that is not routed, beside a public IPv6 address.
    #[test]
    fn report_10_route_flags_choose_the_address() {
        let gateway = port("gateway", &["10.4.0.7", "2001:db8::7"]);
        let routed6 = CloudNetwork { routes_ipv6_externally: true, ..network("gateway") };
        let routed4 = CloudNetwork { routes_ipv4_externally: true, ..network("gateway") };
        let both = CloudNetwork { routes_ipv4_externally: true, ..routed6.clone() };
        let of = |flags: &[CloudNetwork], choice| {
            let found =
                candidates(std::slice::from_ref(&gateway), &ids(&["gateway"], flags), choice).unwrap();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(std::slice::from_ref(&routed6), AddressChoice::Any), ["2001:db8::7"]);
        assert_eq!(of(&[routed4], AddressChoice::Any), ["10.4.0.7"]);
        assert_eq!(of(&[both], AddressChoice::Any), ["10.4.0.7", "2001:db8::7"]);
        assert_eq!(of(&[], AddressChoice::Any), ["10.4.0.7", "2001:db8::7"], "unknown: both");
        assert_eq!(of(&[network("gateway")], AddressChoice::Any), ["10.4.0.7", "2001:db8::7"], "no other");
        assert_eq!(of(&[routed6], AddressChoice::Ipv4), ["10.4.0.7"], "the label decides");
        assert_eq!(of(&[], AddressChoice::Ipv6), ["2001:db8::7"]);
    }

    #[test]
    fn report_10_default_interface_and_nat_destination_choose_the_network() {
        let ports = [port("b", &["10.2.0.7"]), port("a", &["10.1.0.7"]), port("c", &["10.3.0.7"])];
        let of = |flags: &[CloudNetwork]| {
            candidates(&ports, &ids(&["a", "b", "c"], flags), AddressChoice::Any).unwrap()
        };
        let address = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
        assert_eq!(of(&[]), address("10.1.0.7"), "the first configured network");
        assert_eq!(of(&[CloudNetwork { default_interface: true, ..network("b") }]), address("10.2.0.7"));
        assert_eq!(of(&[CloudNetwork { routes_ipv4_externally: true, ..network("c") }]), address("10.3.0.7"));
        let nat = |flags: &[CloudNetwork]| {
            nat_port(&ports, &ids(&["a", "b", "c"], flags)).unwrap().unwrap().0.id.clone()
        };
        assert_eq!(nat(&[]), "on-a");
        assert_eq!(nat(&[CloudNetwork { nat_destination: true, ..network("c") }]), "on-c");
    }

    #[test]
    fn a_family_that_the_node_does_not_have_is_refused() {
        let ids = ids(&["a"], &[]);
        let error = candidates(&[port("a", &["10.1.0.7"])], &ids, AddressChoice::Ipv6).unwrap_err();
        assert!(error.to_string().contains("it has 10.1.0.7") && !error.is_temporary(), "{error}");
        assert!(candidates(&[port("a", &[])], &ids, AddressChoice::Ipv6).unwrap().is_empty(), "not yet");
    }
}
