//! The command line and the environment of one stage. Nothing here runs anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::AnsibleConfig;
use crate::stage_files::StageFiles;

/// Keeps no master connection alive (it would outlive the stage), gives up a silent node after a minute, and knocks three times, as for a node
/// whose sshd is restarted. Ansible's own `retries` would also run a command again whose connection broke in its midst.
const SSH_ARGS: &str = "-o ControlMaster=no -o ControlPath=none -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectionAttempts=3";
/// Seconds that one try to connect may take, key exchange included. Ansible's own 10 are too few on a machine with more to do than it can, or
/// when a packet is lost four times (SYN is sent again after 1, 3, 7, and 15 seconds).
const CONNECT_TIMEOUT: &str = "30";

/// Arguments after the program's name.
pub(crate) fn arguments(config: &AnsibleConfig, files: &StageFiles, playbook: &Path) -> Vec<OsString> {
    let at = |path: &Path| {
        let mut text = OsString::from("@");
        text.push(path);
        text
    };
    let mut arguments: Vec<OsString> = vec!["--inventory".into(), files.inventory().into()];
    for vars in [files.vars(), files.secrets()] {
        arguments.extend(["--extra-vars".into(), at(&vars)]);
    }
    arguments.extend(["--forks".into(), config.forks.max(1).to_string().into()]);
    if config.verbosity > 0 {
        arguments.push(format!("-{}", "v".repeat(config.verbosity.min(4).into())).into());
    }
    arguments.push(playbook.into());
    arguments
}

/// The whole environment: nothing else is inherited.
pub(crate) fn environment(
    config: &AnsibleConfig,
    playbooks: &Path,
    inherited: impl Fn(&str) -> Option<OsString>,
) -> Vec<(String, OsString)> {
    let mut environment: Vec<(String, OsString)> = Vec::new();
    for name in ["PATH", "HOME", "LANG"].into_iter().chain(config.env.iter().map(String::as_str)) {
        let fallback = || (name == "LANG").then(|| "C.UTF-8".into());
        environment.extend(inherited(name).or_else(fallback).map(|value| (name.to_owned(), value)));
    }
    let roles = [playbooks.join("roles")].into_iter().chain(config.roles_path.iter().cloned());
    let fixed: [(&str, OsString); 12] = [
        ("ANSIBLE_ROLES_PATH", joined(roles)),
        ("ANSIBLE_SSH_ARGS", SSH_ARGS.into()),
        ("ANSIBLE_TIMEOUT", CONNECT_TIMEOUT.into()),
        ("ANSIBLE_PIPELINING", "1".into()),
        ("ANSIBLE_HOST_KEY_CHECKING", "1".into()),
        ("ANSIBLE_RETRY_FILES_ENABLED", "0".into()),
        ("ANSIBLE_STDOUT_CALLBACK", "default".into()),
        ("ANSIBLE_CALLBACKS_ENABLED", "pushbutton".into()),
        ("ANSIBLE_NOCOLOR", "1".into()),
        ("ANSIBLE_NOCOWS", "1".into()),
        ("ANSIBLE_PYTHON_INTERPRETER", "auto_silent".into()),
        // Lines come as they are printed, not when a buffer is full.
        ("PYTHONUNBUFFERED", "1".into()),
    ];
    environment.extend(fixed.into_iter().map(|(name, value)| (name.to_owned(), value)));
    environment
}

/// The part of the environment that belongs to one stage.
pub(crate) fn stage_environment(files: &StageFiles) -> [(&'static str, OsString); 3] {
    [
        ("ANSIBLE_CALLBACK_PLUGINS", files.plugins().into()),
        ("ANSIBLE_LOCAL_TEMP", files.temporary().into()),
        ("PUSHBUTTON_EVENTS", files.events().into()),
    ]
}

fn joined(paths: impl Iterator<Item = PathBuf>) -> OsString {
    paths
        .map(PathBuf::into_os_string)
        .reduce(|mut all, path| {
            all.push(":");
            all.push(path);
            all
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_holds_what_is_allowed_and_nothing_else() {
        let config = AnsibleConfig { env: vec!["SSH_AUTH_SOCK".into()], ..AnsibleConfig::at("/p") };
        let made = environment(&config, Path::new("/p"), |name| {
            (name != "LANG").then(|| name.to_lowercase().into())
        });
        let get = |name: &str| {
            made.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(get("PATH"), Some("path"));
        assert_eq!(get("SSH_AUTH_SOCK"), Some("ssh_auth_sock"));
        assert_eq!(get("LANG"), Some("C.UTF-8"));
        assert_eq!(get("OS_PASSWORD"), None);
        assert!(get("ANSIBLE_SSH_ARGS").is_some_and(|args| !args.contains("ControlPersist")));
    }

    #[test]
    fn roles_are_searched_beside_the_playbooks_first() {
        let config = AnsibleConfig { roles_path: vec!["/r".into()], ..AnsibleConfig::at("/p") };
        let made = environment(&config, Path::new("/p"), |_| None);
        assert!(made.contains(&("ANSIBLE_ROLES_PATH".into(), "/p/roles:/r".into())));
    }
}
