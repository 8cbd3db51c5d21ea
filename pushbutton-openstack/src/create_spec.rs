//! What is created for a node, and the bodies of the requests that create it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pushbutton_core::{Error, ErrorKind, NodeRequest, Result, RunId};
use serde_json::{Value, json};

use crate::config::{BootVolume, NodeLabelConfig, UserData};
use crate::endpoints::{Collection, FLOATING_IPS, SERVERS, VOLUMES};
use crate::ownership_tags::OwnershipTags;

/// The ids behind the names in a label's configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) image: String,
    pub(crate) flavor: String,
    pub(crate) networks: Vec<String>,
    pub(crate) floating_network: Option<String>,
}

/// A resource to create.
#[derive(Debug, Clone)]
pub(crate) struct CreateSpec {
    pub(crate) collection: Collection,
    pub(crate) run: RunId,
    pub(crate) name: String,
    pub(crate) body: Value,
}

impl CreateSpec {
    fn new(collection: Collection, tags: &OwnershipTags, request: &NodeRequest, body: Value) -> Self {
        Self { collection, run: request.run.clone(), name: tags.name(request), body }
    }

    /// A server. It boots from the volume, if one is given.
    pub(crate) fn server(
        tags: &OwnershipTags,
        request: &NodeRequest,
        label: &NodeLabelConfig,
        ids: &Ids,
        volume: Option<&str>,
        user_data: Option<String>,
    ) -> Self {
        let mut server = json!({
            "name": tags.name(request),
            "flavorRef": ids.flavor,
            "metadata": tags.metadata(request, &label.metadata),
        });
        match volume {
            Some(volume) => {
                server["block_device_mapping_v2"] = json!([{
                    "boot_index": 0, "uuid": volume, "source_type": "volume", "destination_type": "volume",
                    "delete_on_termination": true,
                }]);
            }
            None => server["imageRef"] = json!(ids.image),
        }
        if !ids.networks.is_empty() {
            server["networks"] = ids.networks.iter().map(|id| json!({"uuid": id})).collect();
        }
        if !label.security_groups.is_empty() {
            let groups = label.security_groups.iter().map(|name| json!({"name": name}));
            server["security_groups"] = groups.collect();
        }
        let optional = [
            ("key_name", &label.key_name),
            ("availability_zone", &label.availability_zone),
            ("user_data", &user_data),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                server[key] = json!(value);
            }
        }
        Self::new(SERVERS, tags, request, server)
    }

    /// A volume to boot from.
    pub(crate) fn volume(
        tags: &OwnershipTags,
        request: &NodeRequest,
        config: &BootVolume,
        image: &str,
    ) -> Self {
        let metadata = tags.metadata(request, &Default::default());
        let mut volume = json!({
            "name": tags.name(request), "size": config.size_gb, "imageRef": image, "metadata": metadata,
        });
        if let Some(volume_type) = &config.volume_type {
            volume["volume_type"] = json!(volume_type);
        }
        Self::new(VOLUMES, tags, request, volume)
    }

    /// A floating IP that is associated with its port from the start, so that no second step can be lost.
    pub(crate) fn floating_ip(
        tags: &OwnershipTags,
        request: &NodeRequest,
        network: &str,
        port: &str,
    ) -> Self {
        let description = tags.description(request);
        let ip = json!({"floating_network_id": network, "port_id": port, "description": description});
        Self::new(FLOATING_IPS, tags, request, ip)
    }
}

/// Reads user data and encodes it as Nova requires.
pub(crate) async fn encode_user_data(config: Option<&UserData>) -> Result<Option<String>> {
    let bytes = match config {
        Some(UserData { text: Some(text), .. }) => text.clone().into_bytes(),
        Some(UserData { file: Some(path), .. }) => tokio::fs::read(path).await.map_err(|error| {
            let message = format!("cannot read the user data {}: {error}", path.display());
            Error::permanent(ErrorKind::Config, message).because(error)
        })?,
        _ => return Ok(None),
    };
    Ok(Some(STANDARD.encode(bytes)))
}
