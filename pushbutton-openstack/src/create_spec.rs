//! What is created for a node, and the bodies of the requests that create it.

use std::fmt;
use std::net::IpAddr;

use pushbutton_core::{NodeRequest, RunId};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::cloud_config::CloudNetwork;
use crate::config::{NetworkConfig, NodeLabelConfig, VolumeConfig};
use crate::endpoints::{Collection, FLOATING_IPS, PORTS, SERVERS, VOLUMES};
use crate::ownership_tags::OwnershipTags;

/// The ids behind the names in a label's configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) image: String,
    pub(crate) flavor: String,
    pub(crate) networks: Vec<String>,
    pub(crate) floating_network: Option<String>,
    pub(crate) server_group: Option<String>,
    /// Of the security groups, for ports with options. Nova takes them by name.
    pub(crate) security_groups: Vec<String>,
    /// What `clouds.yaml` says about networks that the cloud has.
    pub(crate) routes: Vec<(String, CloudNetwork)>,
}

/// What a server is connected to, created before it.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    /// One for each network: the port with options, if it has any.
    pub(crate) ports: Vec<Option<String>>,
    pub(crate) data_volumes: Vec<String>,
}

/// A resource to create.
#[derive(Clone)]
pub(crate) struct CreateSpec {
    pub(crate) collection: Collection,
    pub(crate) run: RunId,
    pub(crate) name: String,
    /// The whole body of the request. With the user data it has a private key in it.
    pub(crate) body: Value,
}

impl fmt::Debug for CreateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collection, run, name, body: _ } = self;
        f.debug_struct("CreateSpec")
            .field("kind", &collection.kind)
            .field("run", run)
            .field("name", name)
            .finish_non_exhaustive()
    }
}

impl CreateSpec {
    fn new(collection: Collection, request: &NodeRequest, name: String, body: Value) -> Self {
        Self { collection, run: request.run.clone(), name, body: json!({collection.key: body}) }
    }

    /// A server. It boots from the volume, if one is given.
    pub(crate) fn server(
        tags: &OwnershipTags,
        request: &NodeRequest,
        label: &NodeLabelConfig,
        ids: &Ids,
        attachments: &Attachments,
        volume: Option<&str>,
        user_data: Option<&SecretString>,
    ) -> Self {
        let name = tags.name(request);
        let mut server = json!({
            "name": name,
            "flavorRef": ids.flavor,
            "metadata": tags.metadata(request, &label.metadata),
        });
        let device = |index: i32, source: &str, destination: &str, id: &str| {
            json!({
                "boot_index": index, "uuid": id, "source_type": source, "destination_type": destination,
                "delete_on_termination": true,
            })
        };
        let mut devices = Vec::new();
        match volume {
            Some(volume) => devices.push(device(0, "volume", "volume", volume)),
            None => {
                server["imageRef"] = json!(ids.image);
                // With a list of devices, Nova wants the image in it, too.
                if !attachments.data_volumes.is_empty() {
                    devices.push(device(0, "image", "local", &ids.image));
                }
            }
        }
        devices.extend(attachments.data_volumes.iter().map(|id| device(-1, "volume", "volume", id)));
        if !devices.is_empty() {
            server["block_device_mapping_v2"] = json!(devices);
        }
        if !ids.networks.is_empty() {
            let ports = attachments.ports.iter().map(Option::as_deref).chain(std::iter::repeat(None));
            let networks = ids.networks.iter().zip(ports).map(|(network, port)| match port {
                Some(port) => json!({"port": port}),
                None => json!({"uuid": network}),
            });
            server["networks"] = networks.collect();
        }
        if !label.security_groups.is_empty() {
            let groups = label.security_groups.iter().map(|name| json!({"name": name}));
            server["security_groups"] = groups.collect();
        }
        if label.config_drive {
            server["config_drive"] = json!(true);
        }
        let optional = [
            ("key_name", &label.key_name),
            ("availability_zone", &label.availability_zone),
            ("user_data", &user_data.map(|data| data.expose_secret().to_owned())),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                server[key] = json!(value);
            }
        }
        let mut spec = Self::new(SERVERS, request, name, server);
        let mut hints = label.scheduler_hints.clone();
        hints.extend(ids.server_group.iter().map(|group| ("group".to_owned(), json!(group))));
        if !hints.is_empty() {
            spec.body["os:scheduler_hints"] = json!(hints);
        }
        spec
    }

    /// A volume to boot from.
    pub(crate) fn boot_volume(
        tags: &OwnershipTags,
        request: &NodeRequest,
        config: &VolumeConfig,
        image: &str,
    ) -> Self {
        let mut spec = Self::volume(tags, request, config, tags.name(request));
        spec.body[VOLUMES.key]["imageRef"] = json!(image);
        spec
    }

    /// An empty volume. Each has a name of its own, by which it is found again.
    pub(crate) fn data_volume(
        tags: &OwnershipTags,
        request: &NodeRequest,
        config: &VolumeConfig,
        number: usize,
    ) -> Self {
        Self::volume(tags, request, config, format!("{}-data{number}", tags.name(request)))
    }

    fn volume(tags: &OwnershipTags, request: &NodeRequest, config: &VolumeConfig, name: String) -> Self {
        let metadata = tags.metadata(request, &Default::default());
        let mut volume = json!({"name": name, "size": config.size_gb, "metadata": metadata});
        if let Some(volume_type) = &config.volume_type {
            volume["volume_type"] = json!(volume_type);
        }
        if let Some(zone) = &config.availability_zone {
            volume["availability_zone"] = json!(zone);
        }
        Self::new(VOLUMES, request, name, volume)
    }

    /// A port with options.
    pub(crate) fn port(
        tags: &OwnershipTags,
        request: &NodeRequest,
        config: &NetworkConfig,
        ids: &Ids,
        number: usize,
    ) -> Self {
        let name = format!("{}-port{number}", tags.name(request));
        let mut port = json!({
            "name": name, "network_id": ids.networks.get(number), "description": tags.description(request),
        });
        if !config.fixed_ips.is_empty() {
            port["fixed_ips"] = config.fixed_ips.iter().map(|ip| json!({"ip_address": ip})).collect();
        }
        if !config.allowed_address_pairs.is_empty() {
            let pairs = config.allowed_address_pairs.iter().map(|range| json!({"ip_address": range}));
            port["allowed_address_pairs"] = pairs.collect();
        }
        if let Some(enabled) = config.port_security_enabled {
            port["port_security_enabled"] = json!(enabled);
        }
        // Neutron refuses groups on a port without port security, and its default group, too.
        if config.port_security_enabled == Some(false) {
            port["security_groups"] = json!([]);
        } else if !ids.security_groups.is_empty() {
            port["security_groups"] = json!(ids.security_groups);
        }
        Self::new(PORTS, request, name, port)
    }

    /// A floating IP that is associated with its port from the start, so that no second step can be lost.
    pub(crate) fn floating_ip(
        tags: &OwnershipTags,
        request: &NodeRequest,
        network: &str,
        port: &str,
        fixed_address: Option<IpAddr>,
    ) -> Self {
        let description = tags.description(request);
        let mut ip = json!({"floating_network_id": network, "port_id": port, "description": description});
        if let Some(address) = fixed_address {
            ip["fixed_ip_address"] = json!(address);
        }
        Self::new(FLOATING_IPS, request, tags.name(request), ip)
    }
}
