//! A full disk: a small file system that only the command sees.

use std::path::Path;
use std::process::Command;

use crate::handler::{Handler, Site};
use crate::lab::{Lab, ended};

/// The same command with a file system of this size at `folder`. Needs root, like all of the testbed.
fn on_small_disk(command: &Command, folder: &str, kib: u32) -> Command {
    let mut small = Command::new("unshare");
    small.args(["--mount", "sh", "-c"]);
    small.arg(format!(
        "mkdir -p {folder} && mount -t tmpfs -o size={kib}k tmpfs {folder} && exec \"$0\" \"$@\""
    ));
    small.arg(command.get_program()).args(command.get_args());
    small.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => small.env(name, value),
            None => small.env_remove(name),
        };
    }
    small
}

#[test]
fn logs_on_a_full_disk_change_no_verdict() {
    let lab = Lab::new().with_ansible();
    lab.write(
        "playbooks/wait.yml",
        "- hosts: nodes\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug: {msg: \"{{ 'x' * 1000 }}\"}\n      loop: \"{{ range(200) }}\"\n",
    );
    let run = lab.command(&["run", "--recorded", "stream.jsonl"]);
    let ended = ended(&mut on_small_disk(&run, "logs", 64)).with(0);
    assert!(ended.err.contains("cannot write the console log"), "{}", ended.err);
    assert!(ended.out.contains("verdict   SUCCESS"), "{}", ended.out);
}

#[test]
fn a_handler_with_a_full_disk_waits_for_space_and_loses_nothing() {
    let site = Site::new("full");
    let lab = site.lab();
    let mut handler =
        Handler::of(&lab, on_small_disk(&lab.command(&["handler", "--wait", "2m"]), "state", 4096));
    handler.says("the event stream runs");
    let filler = handler.state().join("filler");
    fill(&filler);
    let asked = [site.recheck(), site.recheck()];
    handler.says("the disk is full: free some space");
    std::fs::remove_file(&filler).unwrap();
    for change in asked {
        handler.says(&format!("{change},1/wait queued"));
    }
    handler.ends();
}

/// Writes until the disk is full.
fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).unwrap();
    let error = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}
