//! The bodies of the requests that make things.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pushbutton_core::{Error, ErrorKind, NodeRequest, Result};
use serde_json::{Value, json};

use crate::config::{BootVolume, NodeClass, UserData};
use crate::marks::Marks;

/// The ids that a class's names stand for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) image: String,
    pub(crate) flavor: String,
    pub(crate) networks: Vec<String>,
    pub(crate) floating_network: Option<String>,
}

/// `POST /servers`; it boots from the volume where one is given.
pub(crate) fn server(
    marks: &Marks,
    request: &NodeRequest,
    class: &NodeClass,
    ids: &Ids,
    volume: Option<&str>,
    user_data: Option<String>,
) -> Value {
    let mut server = json!({
        "name": marks.name(request),
        "flavorRef": ids.flavor,
        "metadata": marks.metadata(request, &class.metadata),
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
    if !class.security_groups.is_empty() {
        server["security_groups"] = class.security_groups.iter().map(|name| json!({"name": name})).collect();
    }
    if let Some(key) = &class.key_name {
        server["key_name"] = json!(key);
    }
    if let Some(zone) = &class.availability_zone {
        server["availability_zone"] = json!(zone);
    }
    if let Some(data) = user_data {
        server["user_data"] = json!(data);
    }
    json!({"server": server})
}

/// `POST /volumes`, to boot from.
pub(crate) fn volume(marks: &Marks, request: &NodeRequest, wanted: &BootVolume, image: &str) -> Value {
    let mut volume = json!({
        "name": marks.name(request),
        "size": wanted.size_gb,
        "imageRef": image,
        "metadata": marks.metadata(request, &Default::default()),
    });
    if let Some(kind) = &wanted.volume_type {
        volume["volume_type"] = json!(kind);
    }
    json!({"volume": volume})
}

/// `POST /floatingips`, for this port from the start: one that waits for its port would be one more thing to lose.
pub(crate) fn floating_ip(marks: &Marks, request: &NodeRequest, network: &str, port: &str) -> Value {
    let description = marks.description(request);
    json!({"floatingip": {"floating_network_id": network, "port_id": port, "description": description}})
}

/// Nova takes user data in base64 only.
pub(crate) async fn user_data(wanted: Option<&UserData>) -> Result<Option<String>> {
    let Some(UserData { text, file }) = wanted else { return Ok(None) };
    let bytes = match (text, file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(path)) => tokio::fs::read(path).await.map_err(|error| {
            let message = format!("cannot read the user data {}: {error}", path.display());
            Error::permanent(ErrorKind::Config, message).because(error)
        })?,
        (None, None) => return Ok(None),
    };
    Ok(Some(STANDARD.encode(bytes)))
}
