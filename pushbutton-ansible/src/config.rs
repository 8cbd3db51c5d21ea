use std::collections::BTreeMap;
use std::path::PathBuf;

use pushbutton_core::HumanDuration;
use secrecy::SecretString;
use serde::Deserialize;

/// How stages are run: the `ansible:` part of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AnsibleConfig {
    /// The program. Default: `ansible-playbook`, looked up on PATH.
    #[serde(default = "default_program")]
    pub ansible_playbook: PathBuf,
    /// The folder of the playbooks; a stage names a path below it. Its `roles` folder is searched for roles.
    pub playbooks: PathBuf,
    /// Where inventories, variables and accepted host keys are kept while a run lasts. Default: `ansible` in the state
    /// folder.
    #[serde(default)]
    pub work_dir: Option<PathBuf>,
    /// Further folders to search for roles. Default: none.
    #[serde(default)]
    pub roles_path: Vec<PathBuf>,
    /// How many nodes Ansible works on at once. Default: 5, as Ansible's.
    #[serde(default = "default_forks")]
    pub forks: u16,
    /// How many `-v` Ansible gets, 0 to 4. Default: 0.
    #[serde(default)]
    pub verbosity: u8,
    /// Names of environment variables that a playbook can read, besides PATH, HOME and LANG. Default: none.
    #[serde(default)]
    pub env: Vec<String>,
    /// How long a stage's processes may take to end after TERM before they get KILL. Default: 10s.
    #[serde(default = "default_kill_grace")]
    pub kill_grace: HumanDuration,
    /// How much of one stage's output the console log keeps, in MiB; what follows is counted, not kept. Default: 512.
    #[serde(default = "default_console_limit")]
    pub console_limit_mib: u64,
    /// The largest file that a stage's processes may write on this host, in MiB; 0 for no limit. A node can send an
    /// archive of any size. Default: 8192.
    #[serde(default = "default_file_limit")]
    pub file_limit_mib: u64,
    /// How much memory each process of a stage may take on this host, in MiB, without files that it maps; 0 for no
    /// limit. Ansible keeps what a node sends in memory. Default: 4096.
    #[serde(default = "default_memory_limit")]
    pub memory_limit_mib: u64,
    /// Patterns of `hosts:` that may match no host, written as in the play, such as a group that only some jobs have. A
    /// play with any other pattern that matches no host is an error of the configuration. Default: none.
    #[serde(default)]
    pub allow_no_hosts: Vec<String>,
    /// Variables for every stage whose values are redacted in all output. Ansible reads them from a file that only this
    /// user can read.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, String>"))]
    pub secrets: BTreeMap<String, SecretString>,
}

impl AnsibleConfig {
    /// The defaults, for the playbooks in this folder.
    pub fn new(playbooks: impl Into<PathBuf>) -> Self {
        Self {
            ansible_playbook: default_program(),
            playbooks: playbooks.into(),
            work_dir: None,
            roles_path: Vec::new(),
            forks: default_forks(),
            verbosity: 0,
            env: Vec::new(),
            kill_grace: default_kill_grace(),
            console_limit_mib: default_console_limit(),
            file_limit_mib: default_file_limit(),
            memory_limit_mib: default_memory_limit(),
            allow_no_hosts: Vec::new(),
            secrets: BTreeMap::new(),
        }
    }
}

pushbutton_core::__setters!(AnsibleConfig {
    ansible_playbook / with_ansible_playbook: PathBuf,
    playbooks / with_playbooks: PathBuf,
    work_dir / with_work_dir: Option<PathBuf>,
    roles_path / with_roles_path: Vec<PathBuf>,
    forks / with_forks: u16,
    verbosity / with_verbosity: u8,
    env / with_env: Vec<String>,
    kill_grace / with_kill_grace: HumanDuration,
    console_limit_mib / with_console_limit_mib: u64,
    file_limit_mib / with_file_limit_mib: u64,
    memory_limit_mib / with_memory_limit_mib: u64,
    allow_no_hosts / with_allow_no_hosts: Vec<String>,
    secrets / with_secrets: BTreeMap<String, SecretString>,
});

fn default_program() -> PathBuf {
    "ansible-playbook".into()
}

fn default_forks() -> u16 {
    5
}

fn default_kill_grace() -> HumanDuration {
    HumanDuration::secs(10)
}

fn default_console_limit() -> u64 {
    512
}

fn default_file_limit() -> u64 {
    8192
}

fn default_memory_limit() -> u64 {
    4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_a_file_leaves_out_have_the_defaults() {
        let read: AnsibleConfig = serde_json::from_str(r#"{"playbooks": "playbooks"}"#).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", AnsibleConfig::new("playbooks")));
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = r#"{"playbooks": "p", "secrets": {"array_password": "hunter22"}}"#;
        let read: AnsibleConfig = serde_json::from_str(text).unwrap();
        assert!(!format!("{read:?}").contains("hunter22"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = serde_json::from_str::<AnsibleConfig>(r#"{"playbooks": "p", "fork": 3}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `fork`"), "{error}");
    }
}
