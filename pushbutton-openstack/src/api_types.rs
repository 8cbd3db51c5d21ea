//! What is read of the cloud's replies. Only ids are required: an unknown status or a missing field must not stop a
//! release.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pushbutton_core::{OwnedResource, ResourceKind, RunId};
use serde::Deserialize;
use serde_json::Value;

/// A server, a floating IP, a volume or a port.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Resource {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) status: Option<String>,
    #[serde(alias = "created_at")]
    pub(crate) created: Option<String>,
    /// Of servers and volumes.
    pub(crate) metadata: Option<BTreeMap<String, Value>>,
    /// Of floating IPs.
    pub(crate) description: Option<String>,
    pub(crate) floating_ip_address: Option<String>,
    /// Of servers.
    #[serde(rename = "OS-EXT-STS:task_state")]
    pub(crate) task_state: Option<String>,
    pub(crate) fault: Option<ServerFault>,
    /// Of ports.
    pub(crate) device_id: Option<String>,
    pub(crate) network_id: Option<String>,
    #[serde(default)]
    pub(crate) fixed_ips: Vec<FixedIp>,
}

/// Why a server is in ERROR.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServerFault {
    pub(crate) message: Option<String>,
}

/// An address of a port.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FixedIp {
    pub(crate) ip_address: IpAddr,
}

impl Resource {
    pub(crate) fn has_status(&self, status: &str) -> bool {
        self.status.as_deref() == Some(status)
    }

    /// Whether the cloud has accepted its deletion.
    pub(crate) fn is_being_deleted(&self) -> bool {
        matches!(self.task_state.as_deref(), Some("deleting" | "soft-deleting"))
            || matches!(self.status.as_deref(), Some("DELETED" | "deleting"))
    }

    pub(crate) fn owned(self, kind: ResourceKind, run: Option<RunId>) -> OwnedResource {
        let name = self.name.or(self.floating_ip_address).unwrap_or_default();
        let created = self.created.as_deref().and_then(timestamp);
        OwnedResource::new(kind, self.id, name).with_run(run).with_created(created)
    }
}

/// Anything that has an id and a name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) status: Option<String>,
    /// Of images.
    pub(crate) created_at: Option<String>,
}

/// A timestamp as OpenStack writes it. Cinder leaves out the zone and means UTC.
pub(crate) fn timestamp(text: &str) -> Option<jiff::Timestamp> {
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_and_missing_fields_are_accepted() {
        let odd = r#"{"id": "1", "status": "FROBBED", "metadata": null, "OS-EXT-STS:power_state": 99, "fault": {"code": 500}}"#;
        let server: Resource = serde_json::from_str(odd).unwrap();
        assert!(server.has_status("FROBBED"));
        assert!(server.fault.unwrap().message.is_none());
        assert!(serde_json::from_str::<Resource>(r#"{"id": "1"}"#).is_ok());
    }

    #[test]
    fn timestamps_are_read_with_and_without_a_zone() {
        assert!(timestamp("2026-11-23T16:00:00Z").is_some());
        assert_eq!(timestamp("2026-11-23T16:00:00.000000"), timestamp("2026-11-23T16:00:00Z"));
        assert_eq!(timestamp("soon"), None);
    }
}
