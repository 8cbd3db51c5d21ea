//! What is read of the cloud's replies. Only ids are demanded: a status or a field that is new must not break a release.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A server, as `GET /servers/{id}` and `/servers/detail` show it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Server {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) status: Option<String>,
    #[serde(default, rename = "OS-EXT-STS:task_state")]
    pub(crate) task_state: Option<String>,
    #[serde(default)]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) metadata: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    pub(crate) fault: Option<Fault>,
}

/// Why a server went into ERROR.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Fault {
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// A port.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Port {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) device_id: Option<String>,
    #[serde(default)]
    pub(crate) network_id: Option<String>,
    #[serde(default)]
    pub(crate) fixed_ips: Vec<FixedIp>,
    #[serde(default)]
    pub(crate) created_at: Option<String>,
}

/// An address of a port.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FixedIp {
    pub(crate) ip_address: std::net::IpAddr,
}

/// A floating IP.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FloatingIp {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) floating_ip_address: Option<String>,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) created_at: Option<String>,
}

/// A volume.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Volume {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) created_at: Option<String>,
    #[serde(default)]
    pub(crate) metadata: Option<BTreeMap<String, Value>>,
}

/// Anything that has an id.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Made {
    pub(crate) id: String,
}

/// Anything that has an id and a name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) status: Option<String>,
}

/// A moment as OpenStack writes it; Cinder leaves out the zone, and means UTC.
pub(crate) fn moment(text: Option<&str>) -> Option<jiff::Timestamp> {
    let text = text?;
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_and_missing_fields_are_no_fault() {
        let odd = r#"{"id": "1", "status": "FROBBED", "metadata": null, "OS-EXT-STS:power_state": 99, "fault": {"code": 500}}"#;
        let server: Server = serde_json::from_str(odd).unwrap();
        assert_eq!(server.status.as_deref(), Some("FROBBED"));
        assert!(server.fault.unwrap().message.is_none());
        assert!(serde_json::from_str::<Port>(r#"{"id": "1"}"#).is_ok());
    }

    #[test]
    fn moments_with_and_without_a_zone() {
        assert!(moment(Some("2026-11-23T16:00:00Z")).is_some());
        assert_eq!(moment(Some("2026-11-23T16:00:00.000000")), moment(Some("2026-11-23T16:00:00Z")));
        assert_eq!(moment(Some("soon")), None);
        assert_eq!(moment(None), None);
    }
}
