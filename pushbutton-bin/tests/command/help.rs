use std::fs;

use crate::lab::{command, ended};

#[test]
fn the_help_is_enough_to_start_with() {
    let help = ended(command().arg("--help")).with(0).out;
    for word in [
        "run",
        "handler",
        "operator",
        "check",
        "init",
        "replay",
        "enqueue",
        "status",
        "First steps",
        "Exit codes",
        "PUSHBUTTON_CONFIG",
        "--log-format",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for name in ["run", "handler", "operator", "check", "init", "replay", "enqueue", "status"] {
        let help = ended(command().args([name, "--help"])).with(0).out;
        assert!(help.contains("Usage: pushbutton-bin"), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error_with_a_hint() {
    let wrong = ended(command().arg("chekc")).with(2);
    assert!(wrong.err.contains("'check'"), "{}", wrong.err);
    ended(command().args(["enqueue", "12345"])).with(2);
    ended(command().args(["operator", "--slots", "0"])).with(2);
}

#[test]
fn init_writes_a_file_once_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let init = || ended(command().arg("init").current_dir(folder.path()));
    assert!(init().with(0).out.contains("check"));
    let written = fs::read_to_string(folder.path().join("pushbutton.yml")).unwrap();
    assert!(written.contains("triggers:") && written.contains("# rabbitmq:"));
    fs::write(folder.path().join("pushbutton.yml"), "mine").unwrap();
    let again = init().with(2);
    assert!(again.err.contains("it exists already"), "{}", again.err);
    assert_eq!(fs::read_to_string(folder.path().join("pushbutton.yml")).unwrap(), "mine");
}

#[test]
fn init_takes_over_the_settings_of_the_older_ci() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("ci.env"),
        "gerrit_host=review.openstack.org\nci_account=acmeci\nupload_script=./up.sh\n",
    )
    .unwrap();
    let init = |file: &str| ended(command().args(["init", "--from-env", file]).current_dir(folder.path()));
    let missing = init("other.env").with(2);
    assert!(missing.err.contains("cannot use other.env"), "{}", missing.err);
    let made = init("ci.env").with(0);
    assert!(
        made.out.contains("- upload_script: the playbook `gather_logs.yml` does its work"),
        "{}",
        made.out
    );
    let written = fs::read_to_string(folder.path().join("pushbutton.yml")).unwrap();
    assert!(written.contains("  host: review.opendev.org\n  # port: 29418\n"), "{written}");
    assert!(written.contains("\n  user: \"acmeci\"\n"), "{written}");
}
