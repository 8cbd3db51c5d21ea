//! The provisioner in memory and the static nodes keep the contract of `Provisioner`.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

use std::time::Duration;

use pushbutton_core::memory::MemoryProvisioner;
use pushbutton_core::{NodeLabel, StaticNodeConfig, StaticNodes, serde_json};
use pushbutton_testkit::conformance::provision::{self, ProvisionerSetup};

fn two_static_nodes() -> StaticNodes {
    let machine = |name: &str| -> StaticNodeConfig {
        serde_json::from_str(&format!(r#"{{"label": "any", "name": "{name}", "local": true}}"#)).unwrap()
    };
    StaticNodes::new(vec![machine("one"), machine("two")]).unwrap()
}

#[tokio::test]
async fn the_one_in_memory() {
    provision::all(&MemoryProvisioner::default(), &ProvisionerSetup::of("any")).await;
    let small = MemoryProvisioner::with_capacity(1);
    provision::a_full_cloud_is_temporary(&small, &ProvisionerSetup::of("any"), 1).await;
}

#[tokio::test]
async fn the_static_nodes() {
    let mut setup = ProvisionerSetup::of("any");
    setup.unknown = Some(NodeLabel::new("none").unwrap());
    provision::all(&two_static_nodes(), &setup).await;
    setup.deadline = Duration::from_millis(50);
    provision::a_full_cloud_is_temporary(&two_static_nodes(), &setup, 2).await;
}
