//! The provisioners that need no cloud keep the contract that the real ones keep.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at what they cannot do")]

use std::time::Duration;

use pushbutton_core::NodeLabel;
use pushbutton_core::memory::{MemoryProvisioner, StaticNodeConfig, StaticNodes};
use pushbutton_testkit::conformance::provision::{self, ProvisionerSetup};

fn pool() -> StaticNodes {
    let machine = |name: &str| StaticNodeConfig {
        label: NodeLabel::new("any").unwrap(),
        name: name.into(),
        address: None,
        port: 22,
        user: "root".into(),
        key_file: None,
        host_keys: Vec::new(),
        local: true,
        vars: Default::default(),
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
async fn the_fixed_pool() {
    let setting =
        ProvisionerSetup { unknown: Some(NodeLabel::new("none").unwrap()), ..ProvisionerSetup::of("any") };
    provision::all(&pool(), &setting).await;
    let hasty = ProvisionerSetup { deadline: Duration::from_millis(50), ..setting };
    provision::a_full_cloud_is_temporary(&pool(), &hasty, 2).await;
}
