//! `MemoryProvisioner` and `StaticNodes` keep the contract of `Provisioner`.

#![allow(clippy::unwrap_used, reason = "a helper of tests panics when it cannot work")]

use std::time::Duration;

use pushbutton_core::memory::MemoryProvisioner;
use pushbutton_core::{NodeLabel, StaticNodeConfig, StaticNodes, serde_json};
use pushbutton_testkit::conformance::provision::{self, ProvisionerSetup};

fn two_static_nodes() -> StaticNodes {
    let node = |name: &str| -> StaticNodeConfig {
        serde_json::from_str(&format!(r#"{{"label": "any", "name": "{name}", "local": true}}"#)).unwrap()
    };
    StaticNodes::new(vec![node("one"), node("two")]).unwrap()
}

#[tokio::test]
async fn the_memory_provisioner_keeps_the_contract() {
    provision::all(&MemoryProvisioner::default(), &ProvisionerSetup::of("any")).await;
    let small = MemoryProvisioner::with_capacity(1);
    provision::a_full_cloud_is_a_temporary_error(&small, &ProvisionerSetup::of("any"), 1).await;
}

#[tokio::test]
async fn static_nodes_keep_the_contract() {
    let setup = ProvisionerSetup::of("any").with_unknown(NodeLabel::new("none").unwrap());
    provision::all(&two_static_nodes(), &setup).await;
    let short = setup.with_deadline(Duration::from_millis(50));
    provision::a_full_cloud_is_a_temporary_error(&two_static_nodes(), &short, 2).await;
}
