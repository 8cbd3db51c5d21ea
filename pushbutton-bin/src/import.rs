//! `init --from-env`: turns the settings of pushbutton-ci (2016) or sos-ci into a configuration.
//!
//! pushbutton-ci kept them in an environment file (`ci.env`) or a flat YAML file (`vars.yaml`), sos-ci in an INI file
//! (`sos-ci.conf`) or a YAML file with sections (`sos-ci.yaml`). Names were the same in all of them, so that one table
//! serves all. What has no counterpart is listed, with the reason.

use std::collections::BTreeMap;

use crate::config::DEFAULT;

/// How much of a settings file is read, in bytes. They have some hundred bytes.
pub(crate) const MAX_BYTES: u64 = 256 * 1024;

/// A configuration, and what a person must know about it.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The default configuration, with the settings filled in.
    pub(crate) text: String,
    /// One line for each setting that was changed on the way or has no counterpart.
    pub(crate) notes: Vec<String>,
}

/// What becomes of a setting.
#[derive(Clone, Copy)]
enum Counterpart {
    /// The value of these keys: section, then key.
    Key(&'static [(&'static str, &'static str)]),
    /// Handled by [`import`] itself.
    Special,
    /// None, and why.
    Nothing(&'static str),
}

use Counterpart::{Key, Nothing, Special};

/// The settings of pushbutton-ci and of sos-ci.
const SETTINGS: &[(&str, Counterpart)] = &[
    ("gerrit_host", Special),
    ("gerrit_port", Special),
    ("gerrit_ssh_key", Key(&[("gerrit", "key")])),
    ("ci_account", Key(&[("gerrit", "user"), ("", "owner")])),
    ("ci_name", Special),
    ("project_name", Special),
    ("recheck_string", Special),
    ("image_id", Key(&[("cloud", "image")])),
    ("flavor_id", Key(&[("cloud", "flavor")])),
    ("key_name", Key(&[("cloud", "key_name")])),
    ("cloud_name", Key(&[("cloud", "cloud")])),
    ("results_dir", Key(&[("logs", "dir")])),
    ("data_dir", Key(&[("logs", "dir")])),
    ("log_dir", Special),
    ("devstack_branch", Special),
    ("from_address", Special),
    ("to_address", Special),
    ("enable_notifications", Special),
    ("auto_ip", Nothing("set `floating_ip` of the node in `cloud.nodes` if your cloud has floating IPs")),
    (
        "use_floating_ip",
        Nothing("set `floating_ip` of the node in `cloud.nodes` if your cloud has floating IPs"),
    ),
    ("multinic", Nothing("list the networks in `networks` of the node in `cloud.nodes`")),
    (
        "localconf",
        Nothing(
            "copy the lines about your device from that file to `install_devstack_local_conf`; the services and \
             the patch set are set by the playbooks",
        ),
    ),
    ("upload_script", Nothing("the playbook `gather_logs.yml` does its work")),
    ("publish_dir", Nothing("let a web server show `logs.dir`, or copy with the playbook `publish.yml`")),
    ("web_server_address", Nothing("write the address of the web server to `logs.url`")),
    ("web_server_ip", Nothing("write the address of the web server to `logs.url`")),
    ("ansible_dir", Nothing("playbooks are in `ansible.playbooks`; those of the old CI do not fit")),
    ("debug", Nothing("use `--log-level debug`")),
    ("enable_subunit2sql", Nothing("runs and test counts are kept in the history")),
    ("database_connection_string", Nothing("runs and test counts are kept in the history")),
    ("os_login", Nothing("credentials of the cloud are in the file of `cloud.clouds_file`")),
    ("os_password", Nothing("credentials of the cloud are in the file of `cloud.clouds_file`")),
    ("os_tenant_name", Nothing("credentials of the cloud are in the file of `cloud.clouds_file`")),
    ("auth_url", Nothing("credentials of the cloud are in the file of `cloud.clouds_file`")),
];

/// The configuration for these settings.
///
/// # Errors
///
/// No line of the text is a setting of pushbutton-ci or sos-ci.
pub(crate) fn import(settings: &str) -> Result<Imported, String> {
    let found = read(settings);
    let known =
        |name: &str| SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, counterpart)| *counterpart);
    if !found.keys().any(|name| known(name).is_some()) {
        return Err("no line is a setting of pushbutton-ci (`gerrit_host=...`) or of sos-ci".to_owned());
    }
    let mut imported = Imported { text: DEFAULT.to_owned(), notes: Vec::new() };
    for (name, value) in &found {
        match known(name) {
            Some(Key(keys)) => {
                for (section, key) in keys {
                    imported.set(section, key, &quoted(value));
                }
            }
            Some(Nothing(why)) => imported.note(name, why),
            Some(Special) => imported.set_special(name, value),
            None => imported.note(name, "it is not a setting of pushbutton-ci or sos-ci"),
        }
    }
    imported.set_alarm(&found);
    Ok(imported)
}

impl Imported {
    fn note(&mut self, name: &str, why: &str) {
        self.notes.push(format!("{name}: {why}"));
    }

    fn set_special(&mut self, name: &str, value: &str) {
        match name {
            "gerrit_host" if value == "review.openstack.org" => {
                self.set("gerrit", "host", "review.opendev.org");
                self.note(name, "OpenStack's Gerrit is review.opendev.org now");
            }
            "gerrit_port" => match value.parse::<u16>() {
                Ok(port) => self.set("gerrit", "port", &port.to_string()),
                Err(_) => self.note(name, "it is not the number of a port"),
            },
            "gerrit_host" => self.set("gerrit", "host", &quoted(value)),
            "ci_name" => {
                self.set("gerrit", "name", &quoted(value));
                if !value.ends_with(" CI") {
                    self.note(
                        name,
                        "OpenStack asks for a name that ends in \" CI\", such as Acme Storage CI",
                    );
                }
            }
            // One list for each trigger.
            "project_name" => {
                let from = self.text.find("\ntriggers:").unwrap_or_default();
                let (head, triggers) = self.text.split_at(from);
                let lines = triggers.split('\n').map(|line| match line.split_once("projects: ") {
                    Some((indent, _)) if indent.trim().is_empty() => {
                        format!("{indent}projects: [{}]", quoted(value.trim_matches('"')))
                    }
                    _ => line.to_owned(),
                });
                let triggers: Vec<String> = lines.collect();
                self.text = head.to_owned() + &triggers.join("\n");
            }
            "recheck_string" => {
                let pattern = format!("(?i)^(recheck|{})\\b", regex::escape(value));
                self.set("triggers", "pattern", &quoted(&pattern));
                self.note(
                    name,
                    "one `recheck` must re-run every CI, so it is in the pattern too; now both count only at the \
                     beginning of a comment",
                );
            }
            "log_dir" if value.starts_with("http") => self.set("logs", "url", &quoted(value)),
            "log_dir" => {
                self.note(name, "log lines go to standard error, and from there to the journal of systemd")
            }
            "devstack_branch" if value == "master" => {}
            "devstack_branch" => self.note(name, "set the variable `install_devstack_branch` of the job"),
            _ => {} // see `set_alarm`
        }
    }

    /// The mails of sos-ci went through a mail server on its own host.
    fn set_alarm(&mut self, found: &BTreeMap<String, String>) {
        let (Some(from), Some(to)) = (found.get("from_address"), found.get("to_address")) else { return };
        let off = found.get("enable_notifications").is_some_and(|value| value.eq_ignore_ascii_case("false"));
        if off {
            return;
        }
        let alarm = format!(
            "alarm:\n  mail:\n    server: smtp://127.0.0.1:25\n    from: {}\n    to: [{}]\n",
            quoted(from),
            quoted(to)
        );
        self.text.push('\n');
        self.text.push_str(&alarm);
        self.note("to_address", "mails are sent only when a person must act, not for each run");
    }

    /// Gives the first key of this name in a section of the default configuration this value. A key that is commented
    /// out there becomes an active one.
    fn set(&mut self, section: &str, key: &str, value: &str) {
        let mut inside = section.is_empty();
        let mut done = false;
        let lines = self.text.split('\n').map(|line| {
            if !section.is_empty() && !line.starts_with([' ', '#']) && !line.is_empty() {
                inside = line.strip_suffix(':').is_some_and(|name| name == section);
            }
            let bare = line.trim_start();
            let bare = bare.strip_prefix("# ").unwrap_or(bare);
            let rest = bare.strip_prefix(key).and_then(|rest| rest.strip_prefix(':'));
            let depth_fits = section.is_empty() != line.starts_with(' ');
            if done
                || !inside
                || !depth_fits
                || !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            {
                return line.to_owned();
            }
            done = true;
            let indent = line.len() - line.trim_start().len();
            format!("{}{key}: {value}", &line[..indent])
        });
        let lines: Vec<String> = lines.collect();
        self.text = lines.join("\n");
        debug_assert!(done, "the default configuration has no {key} in {section}");
    }
}

/// The settings of a text, whichever of the four forms it has. Sections are dropped; of a repeated name the last counts.
fn read(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some(at) = line.find(['=', ':']) else { continue };
        let (name, value) = (line[..at].trim(), line[at + 1..].trim());
        // A section of sos-ci.yaml has no value.
        if !value.is_empty() {
            found.insert(name.to_lowercase(), unquoted(value).to_owned());
        }
    }
    found
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

/// A text as YAML, in quotes, so that `101` or `no` stay texts. The configuration replaces `${`, so that it is doubled.
fn quoted(value: &str) -> String {
    let text = serde_json::Value::from(value.replace("${", "$${")).to_string();
    text.replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CI_ENV: &str = "# a note\nimage_id=c1c9cc09-8148-408e-b3be-1ef56eb59cc3\nflavor_id=101\ncloud_name=lab73\nkey_name=ci\n\
        localconf=./contrib/localconf.base\nupload_script=./contrib/upload.sh\nresults_dir=/results_dir\n\
        web_server_address=web\npublish_dir=~/www.acme-ci-logs\ngerrit_host=review.openstack.org\ngerrit_port=29418\n\
        ci_name=Acme-dsvm-full\nci_account=acmeci\ngerrit_ssh_key=~/.ssh/acme_rsa\nrecheck_string=run acme\n\
        project_name=openstack/cinder\n";

    /// The line of a key, without its indentation.
    fn line<'a>(imported: &'a Imported, key: &str) -> &'a str {
        let active = |line: &&str| line.starts_with(&format!("{key}: "));
        imported.text.lines().map(str::trim).find(active).unwrap_or_default()
    }

    #[test]
    fn the_settings_of_pushbutton_ci_become_a_configuration() {
        let imported = import(CI_ENV).unwrap();
        for (key, wanted) in [
            ("owner", "owner: \"acmeci\""),
            ("host", "host: review.opendev.org"),
            ("user", "user: \"acmeci\""),
            ("key", "key: \"~/.ssh/acme_rsa\""),
            ("name", "name: \"Acme-dsvm-full\""),
            ("image", "image: \"c1c9cc09-8148-408e-b3be-1ef56eb59cc3\""),
            ("flavor", "flavor: \"101\""),
            ("key_name", "key_name: \"ci\""),
            ("cloud", "cloud: \"lab73\""),
            ("dir", "dir: \"/results_dir\""),
            ("pattern", "pattern: \"(?i)^(recheck|run acme)\\\\b\""),
            ("projects", "projects: [\"openstack/cinder\"]"),
        ] {
            assert_eq!(line(&imported, key), wanted);
        }
        assert!(!imported.text.contains("os-brick]"), "both triggers have the project");
        let named: Vec<&str> = imported.notes.iter().filter_map(|note| note.split(':').next()).collect();
        let wanted = [
            "ci_name",
            "gerrit_host",
            "localconf",
            "publish_dir",
            "recheck_string",
            "upload_script",
            "web_server_address",
        ];
        assert_eq!(named, wanted);
    }

    #[test]
    fn all_four_forms_are_read() {
        let yaml = CI_ENV.replace('=', ": ");
        let ini = format!("[AccountInfo]\n{}", CI_ENV.replace('=', " = "));
        let nested = format!(
            "AccountInfo:\n{}",
            CI_ENV.replace('\n', "\n    ").replace('=', ": \"").replace("\n    ", "\"\n    ")
        );
        let wanted = read(CI_ENV);
        assert_eq!(wanted.len(), 16);
        assert_eq!(read(&yaml), wanted);
        assert_eq!(read(&ini), wanted);
        // The comment and the end of the file have a quote too many, which no setting has.
        assert_eq!(read(&nested), wanted);
    }

    #[test]
    fn the_mails_of_sos_ci_become_the_alarm() {
        let text = "gerrit_host = review.example.org\nenable_notifications = true\nfrom_address = ci@example.org\nto_address = lab@example.org\nlog_dir = http://logs.example.org/ci\n";
        let imported = import(text).unwrap();
        assert!(imported.text.ends_with(
            "alarm:\n  mail:\n    server: smtp://127.0.0.1:25\n    from: \"ci@example.org\"\n    to: [\"lab@example.org\"]\n"
        ));
        assert_eq!(line(&imported, "url"), "url: \"http://logs.example.org/ci\"");
        let off = import(&text.replace("true", "False")).unwrap();
        assert!(!off.text.contains("\nalarm:"));
    }

    #[test]
    fn values_cannot_change_what_is_around_them() {
        let hostile = "ci_account=a: b # c\nimage_id=\"x\"\\n${HOME}\nci_name={x}\n";
        let imported = import(hostile).unwrap();
        let parsed: serde_yaml::Value = serde_yaml::from_str(&imported.text).unwrap();
        assert_eq!(parsed["gerrit"]["user"], "a: b # c");
        assert_eq!(parsed["cloud"]["nodes"]["devstack"]["image"], "\"x\"\\n$${HOME}");
        assert_eq!(parsed["gerrit"]["comment"]["name"], "{x}");
    }

    #[test]
    fn another_file_is_refused() {
        assert!(import("hello: world\n").is_err());
    }

    #[test]
    fn every_setting_has_a_place_in_the_default_configuration() {
        for (name, counterpart) in SETTINGS {
            if let Key(keys) = counterpart {
                for (section, key) in *keys {
                    let mut imported = Imported { text: DEFAULT.to_owned(), notes: Vec::new() };
                    imported.set(section, key, "placed-here");
                    assert!(
                        imported.text.contains(&format!("{key}: placed-here")),
                        "{name}: {section}.{key}"
                    );
                }
            }
        }
    }
}
