//! The provisioner's contract on a real OpenStack.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what helps a test is part of it")]

mod common;

use pushbutton_core::NodeLabel;
use pushbutton_testbed::openstack;
use pushbutton_testkit::conformance::provision::{self, ProvisionerSetup};

use common::{Lab, owner};

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_on_a_real_cloud() {
    let cloud = openstack();
    let key = cloud.keypair(&owner("conformance"));
    let lab = Lab::new(
        &cloud,
        "conformance",
        &format!(
            "nodes: {{lab: {{image: tiny, flavor: m1.tiny, key_name: {}, user: debian, networks: [private], floating_ip: {{network: public}}}}}}",
            key.name
        ),
    );
    let mut setup = ProvisionerSetup::of("lab");
    setup.unknown = Some(NodeLabel::new("gpu").unwrap());
    setup.answers_ssh = true;
    setup.journal = lab.journal.clone();
    provision::all(&lab.provisioner, &setup).await;
    lab.has_left_nothing(&cloud).await;
}
