//! OpenStack: what is on the cloud, asked of it directly, and key pairs for tests.

mod nova;
mod servers;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::nova::NovaService;
use crate::curl;
use crate::instance::Instance;
use crate::process::run;

/// The running OpenStack, seen as user and project `demo`: images `tiny` and `debian-12` (see [`stock_image`](crate::stock_image)); flavors `m1.tiny`, `m1.small`, `m1.huge` (fits nowhere);
/// networks `private` and `public` (external). Its servers are real to SSH: testbed/README.md.
#[derive(Debug)]
pub struct OpenStack {
    instance: Instance,
    /// A clouds.yaml with the two clouds below.
    pub clouds_yaml: PathBuf,
    /// The cloud of the project under test, in `clouds_yaml`.
    pub cloud: String,
    /// The administrator's, in `clouds_yaml`.
    pub admin_cloud: String,
    /// Keystone's address, with `/v3`.
    pub auth_url: String,
    session: OnceLock<Session>,
}

/// A token and the catalogue that came with it.
#[derive(Debug)]
struct Session {
    token: String,
    project: String,
    endpoints: HashMap<String, String>,
}

/// A server as Nova shows it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Nova's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// As `ACTIVE`.
    pub status: String,
    /// Its metadata.
    pub metadata: HashMap<String, String>,
    /// All its addresses, fixed and floating.
    pub addresses: Vec<String>,
}

/// A floating IP as Neutron shows it.
#[derive(Debug, Clone)]
pub struct FloatingIp {
    /// Neutron's id.
    pub id: String,
    /// The address.
    pub address: String,
    /// The port that it leads to.
    pub port: Option<String>,
    /// What its maker wrote.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
}

/// A port of a server (`compute:...`) as Neutron shows it.
#[derive(Debug, Clone)]
pub struct Port {
    /// Neutron's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The server that it belongs to; empty: none.
    pub server: String,
    /// As `compute:nova`; empty: made by hand.
    pub owner: String,
}

/// A volume as Cinder shows it.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Cinder's id.
    pub id: String,
    /// Its name; often empty.
    pub name: String,
    /// As `available`.
    pub status: String,
    /// Its metadata.
    pub metadata: HashMap<String, String>,
}

/// A key pair known to Nova; it is removed there on drop.
#[derive(Debug)]
pub struct Keypair<'a> {
    cloud: &'a OpenStack,
    /// Its name at Nova.
    pub name: String,
    /// The private key's file.
    pub private_key: PathBuf,
    folder: TempDir,
}

/// The shared OpenStack. It is one cloud with one project: tests that count what is on it must not run beside others that use it.
pub fn openstack() -> OpenStack {
    OpenStack::new(Instance::shared("openstack"))
}

impl OpenStack {
    /// A cloud of this test alone (16 s to start, 1.9 GB), with a range of addresses of its own.
    pub fn private() -> Self {
        Self::new(Instance::private("openstack", Vec::new()))
    }

    fn new(instance: Instance) -> Self {
        Self {
            clouds_yaml: instance.fact("OS_CLIENT_CONFIG_FILE").into(),
            cloud: instance.fact("OS_CLOUD").to_owned(),
            admin_cloud: format!("{}-admin", instance.fact("OS_CLOUD")),
            auth_url: instance.fact("OPENSTACK_AUTH_URL").to_owned(),
            session: OnceLock::new(),
            instance,
        }
    }

    /// The address of this machine as its guests see it: the first of the fixed range.
    pub fn host_address(&self) -> String {
        self.instance.fact("OPENSTACK_FIXED_RANGE").replace(".0/24", ".1")
    }

    /// Where a service (`compute`, `network`, ...) is, as the catalogue says.
    pub fn endpoint(&self, service: &str) -> &str {
        let session = self.session.get_or_init(|| Session::open(&self.auth_url));
        session.endpoints.get(service).unwrap_or_else(|| panic!("no service {service} in the catalogue"))
    }

    /// All servers of the project.
    pub fn list_servers(&self) -> Vec<Server> {
        self.list("compute", "/servers/detail", "servers", |server| Server {
            id: text(&server["id"]),
            name: text(&server["name"]),
            status: text(&server["status"]),
            metadata: map(&server["metadata"]),
            addresses: server["addresses"]
                .as_object()
                .into_iter()
                .flat_map(|networks| networks.values())
                .flat_map(|list| list.as_array().into_iter().flatten())
                .map(|address| text(&address["addr"]))
                .collect(),
        })
    }

    /// All floating IPs of the project.
    pub fn list_floating_ips(&self) -> Vec<FloatingIp> {
        self.list("network", "/v2.0/floatingips", "floatingips", |address| FloatingIp {
            id: text(&address["id"]),
            address: text(&address["floating_ip_address"]),
            port: address["port_id"].as_str().map(str::to_owned),
            description: text(&address["description"]),
            tags: address["tags"].as_array().into_iter().flatten().map(text).collect(),
        })
    }

    /// All ports of the project that are a server's or were made by hand: not those of routers and floating IPs.
    pub fn list_ports(&self) -> Vec<Port> {
        let mut ports = self.list("network", "/v2.0/ports", "ports", |port| Port {
            id: text(&port["id"]),
            name: text(&port["name"]),
            server: text(&port["device_id"]),
            owner: text(&port["device_owner"]),
        });
        ports.retain(|port| !port.owner.starts_with("network:"));
        ports
    }

    /// All volumes of the project.
    pub fn list_volumes(&self) -> Vec<Volume> {
        self.list("volumev3", "/volumes/detail", "volumes", |volume| Volume {
            id: text(&volume["id"]),
            name: text(&volume["name"]),
            status: text(&volume["status"]),
            metadata: map(&volume["metadata"]),
        })
    }

    /// Makes a key pair and makes it known to Nova under this name.
    pub fn keypair(&self, name: &str) -> Keypair<'_> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let private_key = folder.path().join("id_ed25519");
        let mut keygen = Command::new("ssh-keygen");
        run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&private_key), "");
        let public_key = std::fs::read_to_string(private_key.with_extension("pub")).expect("the public key");
        let body = json!({"keypair": {"name": name, "public_key": public_key.trim()}});
        self.request("POST", "compute", "/os-keypairs", Some(&body));
        Keypair { cloud: self, name: name.to_owned(), private_key, folder }
    }

    /// What a server's console shows.
    pub fn console(&self, server: &str) -> String {
        let body = json!({"os-getConsoleOutput": {}});
        text(&self.request("POST", "compute", &format!("/servers/{server}/action"), Some(&body))["output"])
    }

    /// Runs the openstack command as the project under test and returns its stdout (2 s a call).
    pub fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.instance.fact("OPENSTACK_COMMAND"));
        command.env("OS_CLIENT_CONFIG_FILE", &self.clouds_yaml).env("OS_CLOUD", &self.cloud).args(arguments);
        run(&mut command, "")
    }

    /// The Python in which the services and openstacksdk are installed.
    pub fn python(&self) -> PathBuf {
        PathBuf::from(self.instance.fact("OPENSTACK_COMMAND")).with_file_name("python")
    }

    /// One call of a service's API (`compute`, `network`, `volumev3`, `image`); panics unless the answer is 2xx. An answer without a body is null.
    pub fn request(&self, method: &str, service: &str, path: &str, body: Option<&Value>) -> Value {
        match self.try_request(method, service, path, body) {
            Ok(value) => value,
            Err((status, text)) => panic!("{service}: {method} {path}: {status} {text}"),
        }
    }

    /// As [`request`](Self::request); another answer than 2xx is returned as its status and text.
    pub fn try_request(
        &self,
        method: &str,
        service: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, (u16, String)> {
        let endpoint = self.endpoint(service);
        let session = self.session.get_or_init(|| Session::open(&self.auth_url));
        let token = format!("X-Auth-Token: {}", session.token);
        let reply = curl::request(method, &format!("{endpoint}{path}"), &["-H", &token], body);
        if !(200..300).contains(&reply.status) {
            return Err((reply.status, reply.body));
        }
        Ok(serde_json::from_str(&reply.body).unwrap_or(Value::Null))
    }

    fn list<T>(&self, service: &str, path: &str, key: &str, read: impl Fn(&Value) -> T) -> Vec<T> {
        let session = self.session.get_or_init(|| Session::open(&self.auth_url));
        let path = format!("{path}?project_id={}", session.project);
        let reply = self.request("GET", service, &path, None);
        reply[key]
            .as_array()
            .unwrap_or_else(|| panic!("{path}: no {key} in {reply}"))
            .iter()
            .map(read)
            .collect()
    }
}

impl Session {
    fn open(auth_url: &str) -> Self {
        let domain = json!({"id": "default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": "demo", "domain": domain, "password": "secret"}}},
            "scope": {"project": {"name": "demo", "domain": domain}},
        }});
        let reply = curl::request("POST", &format!("{auth_url}/auth/tokens"), &[], Some(&body));
        assert_eq!(reply.status, 201, "keystone refuses the login: {}", reply.body);
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("X-Subject-Token").then(|| value.trim().to_owned())
        };
        let token = reply.headers.lines().find_map(header).expect("a token");
        let body: Value = serde_json::from_str(&reply.body).expect("keystone's answer");
        let mut endpoints = HashMap::new();
        for service in body["token"]["catalog"].as_array().into_iter().flatten() {
            let all = service["endpoints"].as_array().into_iter().flatten();
            for endpoint in all.filter(|endpoint| endpoint["interface"] == "public") {
                endpoints.insert(text(&service["type"]), text(&endpoint["url"]));
            }
        }
        Self { token, project: text(&body["token"]["project"]["id"]), endpoints }
    }
}

impl Keypair<'_> {
    /// The folder of its files; gone on drop.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for Keypair<'_> {
    fn drop(&mut self) {
        let _ = self.cloud.try_request("DELETE", "compute", &format!("/os-keypairs/{}", self.name), None);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn map(value: &Value) -> HashMap<String, String> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}
