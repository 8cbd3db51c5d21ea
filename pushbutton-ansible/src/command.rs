//! The command line and the environment of ansible-playbook. Nothing is run here.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use pushbutton_core::Result;

use crate::config::AnsibleConfig;
use crate::error;
use crate::workspace::{ACTIONS, EVENTS, INVENTORY, LIBRARY, PLUGINS, SECRETS, StageFiles, TEMPORARY, VARS};

/// No master connection is kept, because it would outlive the stage. A silent node is given up after a minute.
/// Connecting is tried three times, in case sshd is just being restarted. Ansible's own `retries` would also repeat a
/// command whose connection broke while it ran.
const SSH_ARGS: &str = "-o ControlMaster=no -o ControlPath=none -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectionAttempts=3";
/// Seconds for one attempt to connect, including the key exchange. Ansible's default of 10 is too short on an
/// overloaded machine, or when a packet is lost four times (SYN is sent again after 1, 3, 7, and 15 seconds).
const CONNECT_TIMEOUT: &str = "30";

/// The path of a stage's playbook, which must be below the folder of the playbooks.
pub(crate) fn resolve_playbook(playbooks: &Path, name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if name.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        let message = "a stage's playbook is a path below the playbooks' folder, without ..; fix `playbook` of the stage";
        return Err(error::config(message).with("playbook", name));
    }
    let path = playbooks.join(path);
    let not_found = "the playbook does not exist; fix `playbook` of the stage or `ansible.playbooks`";
    let found = path.canonicalize().map_err(|error| error::local(error, not_found, &path))?;
    if !found.starts_with(playbooks) {
        let message = "the playbook is a link that leads out of the playbooks' folder; copy the file instead";
        return Err(error::config(message).with("playbook", name));
    }
    Ok(found)
}

/// Arguments after the program's name.
pub(crate) fn arguments(config: &AnsibleConfig, files: &StageFiles, playbook: &Path) -> Vec<OsString> {
    let at = |path: PathBuf| OsString::from_iter([OsString::from("@"), path.into()]);
    let mut arguments: Vec<OsString> = vec!["--inventory".into(), files.path(INVENTORY).into()];
    for name in [VARS, SECRETS] {
        arguments.extend(["--extra-vars".into(), at(files.path(name))]);
    }
    arguments.extend(["--forks".into(), config.forks.max(1).to_string().into()]);
    if config.verbosity > 0 {
        arguments.push(format!("-{}", "v".repeat(config.verbosity.min(4).into())).into());
    }
    arguments.push(playbook.into());
    arguments
}

/// The whole environment: nothing else of pushbutton's own is inherited.
pub(crate) fn environment(
    config: &AnsibleConfig,
    playbooks: &Path,
    inherited: impl Fn(&str) -> Option<OsString>,
) -> Vec<(String, OsString)> {
    let mut environment: Vec<(String, OsString)> = Vec::new();
    // Ansible does not start in a locale that is not UTF-8.
    let is_usable = |name: &str, value: &OsString| {
        name != "LANG" || value.to_string_lossy().to_ascii_lowercase().replace('-', "").contains("utf8")
    };
    for name in ["PATH", "HOME", "LANG"].into_iter().chain(config.env.iter().map(String::as_str)) {
        let fallback = || (name == "LANG").then(|| "C.UTF-8".into());
        environment.extend(
            inherited(name)
                .filter(|value| is_usable(name, value))
                .or_else(fallback)
                .map(|value| (name.to_owned(), value)),
        );
    }
    let mut roles = OsString::from(playbooks.join("roles"));
    for path in &config.roles_path {
        roles.extend([":".as_ref(), path.as_os_str()]);
    }
    let fixed: [(&str, OsString); 14] = [
        ("ANSIBLE_ROLES_PATH", roles),
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
        // Facts stay below `ansible_facts`: as variables of their own they come before the defaults of roles, and a node
        // can send facts of any name in the result of any module.
        ("ANSIBLE_INJECT_FACT_VARS", "0".into()),
        // A command's output may have any bytes; from 2.18 on Ansible fails a task for those that are not UTF-8.
        ("ANSIBLE_MODULE_STRICT_UTF8_RESPONSE", "0".into()),
        // Lines are written when they are printed, not when a buffer is full.
        ("PYTHONUNBUFFERED", "1".into()),
    ];
    environment.extend(fixed.into_iter().map(|(name, value)| (name.to_owned(), value)));
    environment
}

/// Where Ansible looks for modules and action plugins by default. A variable of the environment replaces it.
const DEFAULT_MODULES: &str = "~/.ansible/plugins/modules:/usr/share/ansible/plugins/modules";
const DEFAULT_ACTIONS: &str = "~/.ansible/plugins/action:/usr/share/ansible/plugins/action";

/// What a playbook needs to be parsed: the places of the module `pushbutton_command`. `inherited` is the environment
/// that the configuration allows.
pub(crate) fn module_environment(
    files: &StageFiles,
    inherited: impl Fn(&str) -> Option<OsString>,
) -> [(&'static str, OsString); 2] {
    let path = |name: &'static str, folder: &str, default: &str| {
        let mut path = OsString::from(files.path(folder));
        path.push(":");
        path.push(inherited(name).unwrap_or_else(|| default.into()));
        (name, path)
    };
    [
        path("ANSIBLE_LIBRARY", LIBRARY, DEFAULT_MODULES),
        path("ANSIBLE_ACTION_PLUGINS", ACTIONS, DEFAULT_ACTIONS),
    ]
}

/// What one stage adds to the environment. `sockets` is a folder with a short path.
pub(crate) fn stage_environment(files: &StageFiles, sockets: &Path) -> [(&'static str, OsString); 5] {
    [
        ("PUSHBUTTON_LINE_MARK", files.mark().into()),
        ("PUSHBUTTON_SOCKETS", sockets.into()),
        ("ANSIBLE_CALLBACK_PLUGINS", files.path(PLUGINS).into()),
        ("ANSIBLE_LOCAL_TEMP", files.path(TEMPORARY).into()),
        ("PUSHBUTTON_EVENTS", files.path(EVENTS).into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_has_what_is_allowed_and_nothing_else() {
        let config = AnsibleConfig::new("/p").with_env(["SSH_AUTH_SOCK".to_owned()]);
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
    fn a_locale_that_ansible_refuses_is_not_inherited() {
        for (lang, expected) in
            [("de_DE.ISO-8859-1", "C.UTF-8"), ("C", "C.UTF-8"), ("de_DE.utf8", "de_DE.utf8")]
        {
            let made = environment(&AnsibleConfig::new("/p"), Path::new("/p"), |_| Some(lang.into()));
            assert!(made.contains(&("LANG".into(), expected.into())), "{lang}");
        }
    }

    #[test]
    fn roles_beside_the_playbooks_are_searched_first() {
        let config = AnsibleConfig::new("/p").with_roles_path(["/r".into()]);
        let made = environment(&config, Path::new("/p"), |_| None);
        assert!(made.contains(&("ANSIBLE_ROLES_PATH".into(), "/p/roles:/r".into())));
    }
}
