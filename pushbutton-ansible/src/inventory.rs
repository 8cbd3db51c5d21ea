//! The nodes of a run as an inventory (JSON, which Ansible reads as YAML) and as lines of `known_hosts`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pushbutton_core::{Node, Result};
use serde_json::{Value, json};

use crate::error::config;

/// The group of all nodes of a run.
const GROUP: &str = "nodes";
/// The variable that pins host keys.
pub(crate) const SSH_COMMON_ARGS: &str = "ansible_ssh_common_args";

/// The inventory. Each node is in the group `nodes`, and in the group `label_X` of its label.
pub(crate) fn inventory(nodes: &[Node], known_hosts: &Path) -> Result<Value> {
    let mut groups: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    groups.entry(GROUP.into()).or_default();
    for (node, name) in nodes.iter().zip(names(nodes)) {
        let label = node.label.as_str().replace(['-', '.'], "_");
        groups.entry(format!("label_{label}")).or_default().insert(name.clone(), Value::Null);
        groups.entry(GROUP.into()).or_default().insert(name, host_vars(node, known_hosts)?);
    }
    Ok(groups.into_iter().map(|(group, hosts)| (group, json!({ "hosts": hosts }))).collect())
}

/// The nodes' names in the inventory.
pub(crate) fn names(nodes: &[Node]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let name = [&node.name, &node.id].into_iter().find(|name| is_host(name)).cloned();
        let name = name.unwrap_or_else(|| format!("node-{}", at + 1));
        names.push(if names.contains(&name) { format!("{name}-{}", at + 1) } else { name });
    }
    names
}

/// What a playbook can call a node by: its name in the inventory, or its address.
pub(crate) fn names_and_addresses(nodes: &[Node]) -> BTreeSet<String> {
    let addresses = nodes.iter().filter(|node| !node.local).map(|node| node.address.clone());
    names(nodes).into_iter().chain(addresses).collect()
}

fn host_vars(node: &Node, known_hosts: &Path) -> Result<Value> {
    let mut vars: BTreeMap<String, Value> = if node.local {
        // The interpreter that runs Ansible has what Ansible's modules need; the first python3 on PATH may not.
        let python = json!("{{ ansible_playbook_python }}");
        [("ansible_connection".into(), json!("local")), ("ansible_python_interpreter".into(), python)].into()
    } else {
        ssh_vars(node, known_hosts)?
    };
    for (name, value) in &node.vars {
        // A jump host is named here, and must not replace what pins the host keys: ssh takes the first of two settings.
        let pinning = vars.get(name).and_then(Value::as_str).filter(|_| name == SSH_COMMON_ARGS);
        let value = match (pinning, value.as_str()) {
            (Some(pinning), Some(more)) => json!(format!("{pinning} {more}")),
            _ => value.clone(),
        };
        vars.insert(name.clone(), value);
    }
    Ok(json!(vars))
}

fn ssh_vars(node: &Node, known_hosts: &Path) -> Result<BTreeMap<String, Value>> {
    // Ansible expands values of an inventory as templates and passes them to ssh as arguments: nothing that either
    // would interpret is allowed.
    let refuse = |message: &'static str, value: &str| {
        Err(config(message).with("node", node.name.escape_debug()).with("value", value.escape_debug()))
    };
    if !is_host(&node.address) {
        return refuse(
            "a node's address must be an IP address or a host name; fix the provisioner",
            &node.address,
        );
    }
    let is_user = |c: char| is_plain(c) && c != ':';
    if node.user.is_empty() || node.user.starts_with('-') || !node.user.chars().all(is_user) {
        return refuse("a node's user must be a plain name; fix `user` of the node's label", &node.user);
    }
    let mut vars = BTreeMap::from([
        ("ansible_host".into(), json!(node.address)),
        ("ansible_port".into(), json!(node.port)),
        ("ansible_user".into(), json!(node.user)),
    ]);
    let checking = if node.host_keys.is_empty() { "accept-new" } else { "yes" };
    let mut args = format!(
        "-o StrictHostKeyChecking={checking} -o 'UserKnownHostsFile=\"{}\"' -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no -o BatchMode=yes",
        plain_path(known_hosts)?
    );
    if let Some(key_file) = &node.key_file {
        vars.insert("ansible_ssh_private_key_file".into(), json!(plain_path(key_file)?));
        args.push_str(" -o IdentitiesOnly=yes");
    }
    vars.insert(SSH_COMMON_ARGS.into(), json!(args));
    Ok(vars)
}

/// The lines of `known_hosts` that pin the nodes' keys.
pub(crate) fn known_hosts(nodes: &[Node]) -> Vec<String> {
    let mut lines = Vec::new();
    for node in nodes.iter().filter(|node| !node.local && is_host(&node.address)) {
        let host = match node.port {
            22 => node.address.clone(),
            port => format!("[{}]:{port}", node.address),
        };
        for key in &node.host_keys {
            // Of each key only its type and body are taken, so that it cannot add another line, a marker or a comment.
            let mut words = key.split_ascii_whitespace();
            let (Some(kind), Some(body)) = (words.next(), words.next()) else { continue };
            let is_key =
                |word: &str| word.chars().all(|c| c.is_ascii_graphic()) && !word.starts_with(['#', '@']);
            if is_key(kind) && is_key(body) {
                lines.push(format!("{host} {kind} {body}"));
            }
        }
    }
    lines
}

/// A path that neither shell-like splitting nor ssh (`%`, `$`) nor Ansible's templates would change.
pub(crate) fn plain_path(path: &Path) -> Result<&str> {
    let plain = |c: char| {
        c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ',' | '=' | '@' | ':' | ' ')
    };
    path.to_str().filter(|text| text.chars().all(plain)).ok_or_else(|| {
        config("this path has characters that ssh or Ansible would expand; use letters, digits and / . _ - + , = @")
            .with("path", path.display())
    })
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%')
}

/// An IPv4 or IPv6 address (with a zone), or a host name.
fn is_host(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
        && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node::ssh("7", "devstack-8g".parse().unwrap(), "192.0.2.7", "debian")
            .with_name("pushbutton-tempest")
            .with_port(2222u16)
            .with_key_file(Some("/etc/pushbutton/id".into()))
            .with_host_keys(["ssh-ed25519 AAAA root@node".into()])
    }

    /// The same node with one field changed.
    fn changed(change: impl FnOnce(&mut Node)) -> Node {
        let mut node = node();
        change(&mut node);
        node
    }

    fn vars_of(node: Node) -> Value {
        let name = node.name.clone();
        inventory(&[node], Path::new("/var/lib/x/known_hosts")).unwrap()["nodes"]["hosts"][&name].clone()
    }

    #[test]
    fn a_node_with_known_keys_is_pinned() {
        let vars = vars_of(node());
        assert_eq!((&vars["ansible_host"], &vars["ansible_port"]), (&json!("192.0.2.7"), &json!(2222)));
        let args = vars["ansible_ssh_common_args"].as_str().unwrap();
        assert!(
            args.contains("StrictHostKeyChecking=yes") && args.contains("/var/lib/x/known_hosts"),
            "{args}"
        );
        assert_eq!(known_hosts(&[node()]), ["[192.0.2.7]:2222 ssh-ed25519 AAAA"]);
    }

    /// Issue 10, H6.
    #[test]
    fn h6_a_jump_host_is_added_to_the_arguments_that_pin_host_keys() {
        let vars = [(SSH_COMMON_ARGS.to_owned(), json!("-J bastion"))];
        let args = vars_of(node().with_vars(vars))[SSH_COMMON_ARGS].as_str().unwrap().to_owned();
        assert!(args.contains("StrictHostKeyChecking=yes") && args.ends_with(" -J bastion"), "{args}");
    }

    #[test]
    fn a_node_without_known_keys_is_trusted_at_first_contact() {
        let vars = vars_of(node().with_host_keys([]));
        assert!(
            vars["ansible_ssh_common_args"].as_str().unwrap().contains("StrictHostKeyChecking=accept-new")
        );
        assert!(known_hosts(&[node().with_host_keys([])]).is_empty());
    }

    #[test]
    fn a_local_node_needs_no_ssh_and_its_own_variables_take_precedence() {
        let vars = [("ansible_python_interpreter".to_owned(), json!("/usr/bin/python3"))];
        let vars = vars_of(Node::local("local", "devstack-8g".parse().unwrap()).with_vars(vars));
        assert_eq!(
            vars,
            json!({"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"})
        );
    }

    #[test]
    fn nodes_with_equal_or_unusable_names_get_names_of_their_own() {
        let nodes =
            [node(), node(), changed(|node| (node.name, node.id) = ("{{ x }}".into(), "$(id)".into()))];
        let made = inventory(&nodes, Path::new("/k")).unwrap();
        let names: Vec<_> = made["nodes"]["hosts"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["node-3", "pushbutton-tempest", "pushbutton-tempest-2"]);
        assert_eq!(made["label_devstack_8g"]["hosts"].as_object().unwrap().len(), 3);
    }

    #[test]
    fn values_that_ssh_or_a_template_would_expand_are_refused() {
        for address in ["-oProxyCommand=x", "{{ x }}", "a b", ""] {
            assert!(
                inventory(&[changed(|node| node.address = address.into())], Path::new("/k")).is_err(),
                "{address}"
            );
        }
        for user in ["-l", "{{x}}", "a;b", ""] {
            assert!(
                inventory(&[changed(|node| node.user = user.into())], Path::new("/k")).is_err(),
                "{user}"
            );
        }
        for path in ["/a/{{x}}", "/a/%h", "/a/${HOME}", "/a'b", "/a\"b"] {
            assert!(inventory(&[node()], Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_forged_key_adds_no_other_line() {
        let keys =
            vec!["ssh-ed25519 AAAA\n* ssh-rsa BBBB".into(), "@cert-authority ssh-rsa".into(), "".into()];
        assert_eq!(known_hosts(&[node().with_host_keys(keys)]), ["[192.0.2.7]:2222 ssh-ed25519 AAAA"]);
    }
}
