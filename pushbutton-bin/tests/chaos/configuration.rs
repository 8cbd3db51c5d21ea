//! The configuration of the processes, with times so short that a run of minutes shows what takes days otherwise.

use std::path::Path;

/// What can be asked for, and the jobs that each calls for: two, which are reported together. Each change gets each of
/// them at most once, so that a comment answers exactly one trigger.
pub(crate) const EVENTS: [(&str, [&str; 2]); 2] =
    [("attach", ["acme-attach", "acme-detach"]), ("resize", ["acme-migrate", "acme-resize"])];
/// The job whose node boots from a volume.
const ON_VOLUME: &str = "acme-resize";
/// The lease of a job, in seconds.
pub(crate) const LEASE: u64 = 20;

/// The label of the node of a job.
pub(crate) fn node(job: &str) -> &'static str {
    if job == ON_VOLUME { "volume" } else { "plain" }
}

/// What the configuration of a process depends on.
pub(crate) struct Configuration<'a> {
    pub(crate) owner: &'a str,
    pub(crate) project: &'a str,
    /// The process's own folder.
    pub(crate) folder: &'a Path,
    pub(crate) logs: &'a Path,
    /// Port and key, for a handler. Operators have no account on Gerrit.
    pub(crate) gerrit: Option<(u16, &'a Path)>,
    pub(crate) broker_url: &'a str,
    pub(crate) clouds: &'a Path,
    pub(crate) cloud: &'a str,
    pub(crate) node_key: &'a Path,
    pub(crate) ansible: &'a Path,
}

impl Configuration<'_> {
    fn gerrit_section(&self) -> String {
        let Some((gerrit_port, gerrit_key)) = self.gerrit else { return String::new() };
        format!(
            r#"gerrit:
  host: 127.0.0.1
  port: {gerrit_port}
  user: acme-ci
  key: {gerrit_key}
  host_key: {{known_hosts: {folder}/known_hosts}}
  keepalive: {{interval: 4s, count: 2}}
  deadlines: {{connect: 15s, auth: 15s, command: 30s}}
  backoff: {{first: 500ms, cap: 5s, healthy: 20s}}
  backfill: {{every: 20s}}
  comment: {{vote: both}}
"#,
            gerrit_key = gerrit_key.display(),
            folder = self.folder.display(),
        )
    }

    /// The cloud's section, indented by two.
    pub(crate) fn cloud_section(&self) -> String {
        format!(
            r#"  clouds_file: {clouds}
  cloud: {cloud}
  connect_timeout: 5s
  request_timeout: 20s
  release_timeout: 1m
  create_visibility_timeout: 5s
  nodes:
    plain: &node
      image: tiny
      flavor: m1.tiny
      key_name: {owner}
      key_file: {node_key}
      networks: [private]
      floating_ip: {{network: public}}
      vars: {{ansible_python_interpreter: /usr/bin/python3}}
    volume:
      <<: *node
      boot_from_volume: {{size_gb: 1}}
"#,
            owner = self.owner,
            clouds = self.clouds.display(),
            cloud = self.cloud,
            node_key = self.node_key.display(),
        )
    }

    /// As YAML. The numbers of attempts and lost leases are practically unlimited: faults must not end a job.
    pub(crate) fn text(&self) -> String {
        let playbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/playbooks");
        let mut text = format!(
            r#"
owner: {owner}
state: {folder}/state
{gerrit}rabbitmq:
  url: {broker_url}
  prefix: {owner}
  lease: {lease}s
  leader_lease: 20s
  timeout: 7s
  heartbeat: 4s
  max_lost_leases: 1000
cloud:
{cloud_section}ansible:
  ansible_playbook: {ansible}
  playbooks: {playbooks}
  kill_grace: 2s
logs:
  dir: {logs}
  url: http://127.0.0.1:8000
handler: {{mute_after: 0}}
operator:
  slots: 2
  retry_delay: 1s
  retry_delay_cap: 5s
  shutdown_deadline: 5s
  breaker: {{failures: 5, pause: 3s, pause_cap: 10s}}
  no_room: {{pause: 3s, pause_cap: 10s}}
sweep: {{every: 15s, safety_age: 45s}}
"#,
            owner = self.owner,
            lease = LEASE,
            cloud_section = self.cloud_section(),
            folder = self.folder.display(),
            gerrit = self.gerrit_section(),
            broker_url = self.broker_url,
            ansible = self.ansible.display(),
            playbooks = playbooks.display(),
            logs = self.logs.display(),
        );
        text += "triggers:\n";
        for (event, jobs) in EVENTS {
            text += &format!(
                "  - {{name: {event}, on: {{comment: {{pattern: '^run-{event}\\b'}}}}, projects: [{}], jobs: [{}]}}\n",
                self.project,
                jobs.join(", ")
            );
        }
        text += "jobs:\n";
        for job in EVENTS.iter().flat_map(|(_, jobs)| jobs) {
            let node = node(job);
            text += &format!(
                "  {job}:\n    node: {node}\n    attempts: 1000\n    boot_timeout: 90s\n    timeout: 5m\n    stages:\n      \
                 - {{name: test, playbook: test.yml, timeout: 3m}}\n      - {{name: logs, playbook: logs.yml, run: always, timeout: 3m}}\n"
            );
        }
        text
    }
}
