//! The job that `init` writes, on the playbooks that are shipped. Its first stages run for real on a stock Debian:
//! `tests/stock_node` of this crate and of pushbutton-ansible.

use std::fs;
use std::path::Path;

use pushbutton_core::OnFailure;

use super::*;

fn default_job(place: &Path) -> JobSpec {
    for name in ["key", "clouds.yaml"] {
        fs::write(place.join(name), "").unwrap();
    }
    let playbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../playbooks");
    std::os::unix::fs::symlink(playbooks, place.join("playbooks")).unwrap();
    let env = |name: &str| match name {
        "GERRIT_KEY" => Some("key".to_owned()),
        "PUSHBUTTON_OWNER" => Some("acme-ci".to_owned()),
        _ => None,
    };
    let config = parse(DEFAULT, &place.join("pushbutton.yml"), Needs::ALL, &env).unwrap();
    config.jobs.into_values().next().unwrap()
}

#[test]
fn what_comes_over_the_network_comes_in_a_stage_that_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let job = default_job(folder.path());
    let stages: Vec<_> = job.stages.iter().map(|stage| (stage.playbook.as_str(), stage.on_failure)).collect();
    let expected = [
        ("prepare_node.yml", OnFailure::Retry),
        ("install_devstack.yml", OnFailure::Fail),
        ("verify_devstack.yml", OnFailure::Retry),
        ("run_tempest.yml", OnFailure::Fail),
    ];
    assert_eq!(stages[..4], expected);
    assert_eq!(job.vars["checkout_patchset_url"], "https://review.opendev.org");
}
