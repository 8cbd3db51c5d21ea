//! Finds credentials in gathered configuration files and logs by the names of their options, whatever their values.
//!
//! A node holds credentials of the tested array and of its own services, in files such as `cinder.conf` and
//! `local.conf`, and gathered files are published. What is found here is the value of an option whose name says that it
//! is a credential (INI, YAML, JSON, shell, command lines), the password of a URL, and private keys. It protects
//! against publishing by accident. Code that runs on the node knows these values, and could write them in other ways.

use std::borrow::Cow;

use pushbutton_core::{Error, ErrorKind, Result};
use regex::bytes::{Captures, Regex, RegexBuilder};

use crate::redact::MASK;

/// A name of an option that is a credential. `pass` and `key` alone are ordinary words, so they need a prefix.
const NAME: &str = r"[\w.:-]*(?:password|passwd|passphrase|secret|token|credential|auth_?key|api_?key|access_?key|fixed_key|swift_key|store_key|[a-z0-9]_pass\b|[a-z0-9]_pwd)[\w.-]*";
/// Endings of names that are about a credential, but hold none: `rbd_secret_uuid`, `token_expiration`.
const HARMLESS: &str = r"(?i)(?:uuid|file|path|dir|expiration|expire|expiry|ttl|time|timeout|interval|length|len|size|count|limit|rounds|algorithm|driver|provider|type|types|methods?|backend|plugin|cache|version|format|enabled|required|name|url|uri|ref)$";
/// Values that say that there is no credential, or that are redacted already.
const EMPTY: [&str; 9] = ["", "none", "null", "<none>", "true", "false", "\"\"", "''", "****"];

/// Redacts credentials line by line. It is made anew for each file, because some span several lines.
#[derive(Debug, Clone)]
pub(crate) struct CredentialFilter {
    /// Quick test that most lines of a log fail.
    any: Regex,
    /// A line that is nothing but an option: all that follows the name is its value.
    option: Regex,
    harmless: Regex,
    /// Parts of a line. In each, the last group is the credential.
    parts: [Regex; 6],
    /// Lines with a deeper indentation than this continue a value.
    continued: Option<usize>,
    in_private_key: bool,
}

impl CredentialFilter {
    pub(crate) fn new() -> Result<Self> {
        let regex = |pattern: &str| {
            RegexBuilder::new(pattern).case_insensitive(true).unicode(false).build().map_err(|error| {
                Error::permanent(ErrorKind::Unexpected, "a pattern of credentials is wrong").because(error)
            })
        };
        let value = r#"[ub]?(?:\\+".*?\\+"|"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^\s,;&"'{}\[\]()\\]+)"#;
        Ok(Self {
            any: regex(&format!(r"{NAME}|://|authorization|-----|mysql"))?,
            option: regex(&format!(
                r#"^((\s*)(?:[#;]\s*)?(?:-\s+)?(?:export\s+)?["']?({NAME})["']?\s*(?:=|:(?:\s|$))\s*)(.*?)(\s*,?\s*)$"#
            ))?,
            harmless: regex(HARMLESS)?,
            parts: [
                regex(&format!(r#"(({NAME})\\*["']?\s*(?:[=:]|=>)\s*)({value})"#))?,
                regex(&format!(r"(--({NAME})[ =]+)({value})"))?,
                regex(&format!(r"(\bini(?:set|add)\w*\s+(?:-sudo\s+)?\S+\s+\S+\s+({NAME})\s+)(.*)"))?,
                regex(r#"(()\bauthorization\\*["']?\s*[:=]\s*\\*["']?\w+\s+)([^\s"'\\,]+)"#)?,
                // Of URLs only the password: `rabbit://user:password@host,user:password@other`.
                regex(r"(()(?:://|,)[^\s/@:,]*:)([^\s@/]+?)@")?,
                regex(r"(()\bmysql\w*\b.*?\s-p)([^\s-]\S*)")?,
            ],
            continued: None,
            in_private_key: false,
        })
    }

    /// One line, with or without its end.
    pub(crate) fn redact<'a>(&mut self, line: &'a [u8]) -> Cow<'a, [u8]> {
        let text = line.trim_ascii_end();
        let end = line.get(text.len()..).unwrap_or_default();
        let masked = |start: &[u8]| Cow::Owned([start, MASK.as_bytes(), end].concat());
        let indentation = text.len() - text.trim_ascii_start().len();
        if self.in_private_key {
            self.in_private_key = !contains(text, b"-----END");
            return masked(b"");
        }
        if self.continued.is_some_and(|option| indentation > option && !text.is_empty()) {
            return masked(text.get(..indentation).unwrap_or_default());
        }
        self.continued = None;
        if !self.any.is_match(text) {
            return Cow::Borrowed(line);
        }
        if contains(text, b"-----BEGIN") && contains(text, b"PRIVATE KEY") {
            self.in_private_key = !contains(text, b"-----END");
            return masked(b"");
        }
        if let Some(option) = self.option.captures(text).filter(|option| self.is_credential(option, 3)) {
            // In YAML and INI a value can go on in lines that are indented.
            self.continued = Some(indentation);
            let value = option.get(4).map_or(&b""[..], |value| value.as_bytes());
            if !is_empty(value) && !matches!(value, [b'{' | b'[', ..]) {
                let comma = option.get(5).map_or(&b""[..], |comma| comma.as_bytes());
                return Cow::Owned([&option[1], &quoted(value), comma, end].concat());
            }
        }
        let mut redacted = Cow::Borrowed(text);
        for part in &self.parts {
            let replaced = part.replace_all(&redacted, |found: &Captures<'_>| {
                let value = found.get(3).map_or(&b""[..], |value| value.as_bytes());
                if is_empty(value) || !(found[2].is_empty() || self.is_credential(found, 2)) {
                    return found[0].to_vec();
                }
                let rest = found[0].get(found[1].len() + value.len()..).unwrap_or_default();
                [&found[1], &quoted(value), rest].concat()
            });
            if let Cow::Owned(replaced) = replaced {
                redacted = Cow::Owned(replaced);
            }
        }
        match redacted {
            Cow::Borrowed(_) => Cow::Borrowed(line),
            Cow::Owned(redacted) => Cow::Owned([&redacted, end].concat()),
        }
    }

    /// A text of its own, of several lines.
    pub(crate) fn redact_text(&mut self, text: &str) -> String {
        (self.continued, self.in_private_key) = (None, false);
        let lines: Vec<u8> =
            text.split_inclusive('\n').flat_map(|line| self.redact(line.as_bytes()).into_owned()).collect();
        String::from_utf8_lossy(&lines).into_owned()
    }

    fn is_credential(&self, found: &Captures<'_>, group: usize) -> bool {
        found.get(group).is_some_and(|name| !self.harmless.is_match(name.as_bytes()))
    }
}

/// The mask, in the quotes of the value, so that the file still parses.
fn quoted(value: &[u8]) -> Vec<u8> {
    match (value.first(), value.last()) {
        (Some(first @ (b'"' | b'\'')), Some(last)) if first == last => {
            [&[*first], MASK.as_bytes(), &[*last]].concat()
        }
        _ => MASK.into(),
    }
}

fn is_empty(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    EMPTY.iter().any(|empty| value.eq_ignore_ascii_case(empty.as_bytes()))
        || value.iter().all(|byte| *byte == b'*')
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        let mut filter = CredentialFilter::new().unwrap();
        let lines = text.split_inclusive('\n').map(|line| filter.redact(line.as_bytes()).into_owned());
        String::from_utf8(lines.collect::<Vec<_>>().concat()).unwrap()
    }

    /// Issue 10, H2. Option names are those of the drivers' documentation.
    const CINDER_CONF: &str = "\
[DEFAULT]
enabled_backends = netapp,solidfire,3par,pure,ceph,powermax
transport_url = rabbit://stackrabbit:LEAK01@192.0.2.7:5672,stackrabbit:LEAK02@192.0.2.8:5672/
auth_strategy = keystone
backup_swift_key = LEAK03
backup_ceph_user = cinder-backup

[database]
connection = mysql+pymysql://root:LEAK04@127.0.0.1/cinder?charset=utf8&plugin=dbcounter

[keystone_authtoken]
memcached_servers = localhost:11211
password = LEAK05
username = cinder
token_cache_time = 300

[key_manager]
fixed_key = LEAK06

[netapp]
volume_driver = cinder.volume.drivers.netapp.common.NetAppDriver
netapp_login = openstack
netapp_password = LEAK07 with spaces # and a comment
netapp_server_hostname = 192.0.2.20

[solidfire]
san_ip = 192.0.2.21
san_login = admin
san_password=LEAK08
sf_account_prefix = ci
sf_enable_vag = true

[3par]
hpe3par_api_url = https://192.0.2.22:8080/api/v1
hpe3par_username = 3paradm
hpe3par_password = LEAK09
#hpe3par_iscsi_chap_enabled = false
;hpe3par_password = LEAK10

[pure]
pure_api_token = 9b2cLEAK11-ffff-eeee
use_chap_auth = true
chap_password: LEAK12

[ceph]
rbd_pool = volumes
rbd_user = cinder
rbd_secret_uuid = 457eb676-33da-42ec-9a8c-9293d545c337

[powermax]
powermax_array = 000123800006
san_password =
    LEAK13
driver_ssl_cert_verify = false
zfssa_rest_timeout = 60
smbfs_mount_options = username=ci,password=LEAK14,vers=3

[s3]
backup_s3_store_access_key = LEAK15
backup_s3_store_secret_key = LEAK16
";

    const LOCAL_CONF: &str = "\
[[local|localrc]]
ADMIN_PASSWORD=LEAK20
DATABASE_PASSWORD=\"LEAK21\"
RABBIT_PASSWORD='LEAK22'
export SERVICE_PASSWORD=LEAK23
SERVICE_TOKEN=LEAK24
HOST_IP=192.0.2.7
enable_plugin cinder-acme https://ci:LEAK25@git.example.com/cinder-acme master
CINDER_ENABLED_BACKENDS=acme:acme1
[[post-config|$CINDER_CONF]]
[acme1]
san_login = admin
san_password = LEAK26
VOLUME_BACKING_FILE_SIZE=24G
";

    const KEPT: [&str; 16] = [
        "rbd_secret_uuid = 457eb676-33da-42ec-9a8c-9293d545c337",
        "rbd_user = cinder",
        "token_cache_time = 300",
        "auth_strategy = keystone",
        "netapp_login = openstack",
        "hpe3par_api_url = https://192.0.2.22:8080/api/v1",
        "powermax_array = 000123800006",
        "driver_ssl_cert_verify = false",
        "use_chap_auth = true",
        "sf_account_prefix = ci",
        "transport_url = rabbit://stackrabbit:********@192.0.2.7:5672,stackrabbit:********@192.0.2.8:5672/",
        "connection = mysql+pymysql://root:********@127.0.0.1/cinder?charset=utf8&plugin=dbcounter",
        "smbfs_mount_options = username=ci,password=********,vers=3",
        "DATABASE_PASSWORD=\"********\"",
        "HOST_IP=192.0.2.7",
        "VOLUME_BACKING_FILE_SIZE=24G",
    ];

    fn assert_no_leak(text: &str) {
        let leaks: Vec<_> = text.lines().filter(|line| line.contains("LEAK")).collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
    }

    #[test]
    fn h2_credentials_of_drivers_in_cinder_conf_and_local_conf_are_redacted_and_the_rest_is_kept() {
        let text = redacted(&format!("{CINDER_CONF}{LOCAL_CONF}"));
        assert_no_leak(&text);
        for kept in KEPT {
            assert!(text.lines().any(|line| line == kept), "{kept}\n{text}");
        }
        assert_eq!(text.lines().count(), CINDER_CONF.lines().count() + LOCAL_CONF.lines().count());
        assert_eq!(redacted(&text), text, "a second pass changes nothing");
    }

    #[test]
    fn h2_credentials_in_yaml_and_json_are_redacted() {
        let yaml = "clouds:\n  devstack:\n    auth:\n      username: admin\n      password: LEAK1\n      user_domain_id: default\n    \
                    - secret_key: \"LEAK2\"\n  private: |\n    -----BEGIN RSA PRIVATE KEY-----\n    MIILEAK3\n    -----END RSA PRIVATE KEY-----\n  \
                    token: >-\n    LEAK4\n    LEAK5\n  region: one\n";
        let text = redacted(yaml);
        assert_no_leak(&text);
        for kept in ["username: admin", "user_domain_id: default", "region: one", "\"********\""] {
            assert!(text.contains(kept), "{kept}\n{text}");
        }
        let json = r#"{"auth": {"identity": {"password": {"user": {"name": "admin", "password": "LEAK\"1"}}}}, "san_password":"LEAK2", "n": 1}
  "api_token": "LEAK3",
  "project": "demo"
"#;
        let text = redacted(json);
        assert_no_leak(&text);
        for kept in [r#""name": "admin""#, r#""n": 1"#, r#""api_token": "********","#, r#""project": "demo""#]
        {
            assert!(text.contains(kept), "{kept}\n{text}");
        }
    }

    #[test]
    fn h2_credentials_in_logs_and_traces_are_redacted() {
        let log = r#"2026-11-26 DEBUG cinder.service [-] netapp_password = LEAK1 log_opt_values
2026-11-26 + lib/cinder:configure_cinder:300 : iniset /etc/cinder/cinder.conf acme san_password LEAK2
2026-11-26 + openstack user create --password LEAK3 --email x cinder
2026-11-26 + mysql -uroot -pLEAK4 -h127.0.0.1 -e 'x'
REQ: curl -H "X-Auth-Token: LEAK5" -H "Authorization: Basic TEVBLEAK6" https://array/api
DEBUG body: {'auth': {'password': u'LEAK7'}, 'x': 1}
DEBUG text: "{\"password\": \"LEAK8\", \"user\": \"ci\"}"
GET /api?user=ci&api_token=LEAK9&x=1
ok: 12 tests pass: 3, the secret of success
"#;
        let text = redacted(log);
        assert_no_leak(&text);
        for kept in [
            "--email x cinder",
            "'x': 1",
            r#"\"user\": \"ci\""#,
            "&x=1",
            "tests pass: 3, the secret of success",
        ] {
            assert!(text.contains(kept), "{kept}\n{text}");
        }
    }

    #[test]
    fn lines_without_credentials_are_unchanged_whatever_their_bytes() {
        let mut filter = CredentialFilter::new().unwrap();
        for line in
            [&b"\xff\xfe caf\xe9\r\n"[..], b"", b"\n", b"   \n", b"password\n", b"password =\n", b"a: b"]
        {
            assert_eq!(filter.redact(line), line);
            filter.continued = None;
        }
        assert_eq!(&*filter.redact(b"san_password = \xe9\xff\r\n"), b"san_password = ********\r\n");
    }
}
