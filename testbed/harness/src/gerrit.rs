//! Gerrit: what developers, reviewers and the upstream CI do on it, and what it then shows.

mod change;
mod rest;

use std::path::PathBuf;

use serde_json::Value;

pub use change::Change;
pub use rest::{Message, Vote};

use crate::curl;
use crate::instance::Instance;

/// A running Gerrit 3.10, seeded: users `admin`, developers `alice` and `bob`, the upstream CI `zuul` (Verified -2..+2), us as
/// `acme-ci` (Verified -1..+1); projects `openstack/cinder`, `openstack/os-brick`, `openstack/nova`, `acme/sandbox`, each with
/// branches `master` and `stable/2026.1`. Everyone's REST password is `secret`.
#[derive(Debug)]
pub struct Gerrit {
    instance: Instance,
    /// `http://127.0.0.1:PORT`, without a slash at the end. Kept through [`restart`](Self::restart).
    pub http_url: String,
    /// Always 127.0.0.1.
    pub ssh_host: String,
    /// Kept through [`restart`](Self::restart).
    pub ssh_port: u16,
    /// A known_hosts file with all its host keys.
    pub known_hosts: PathBuf,
}

/// The shared Gerrit: give each test changes, or a project ([`Gerrit::create_project`]), of its own.
pub fn gerrit() -> Gerrit {
    Gerrit::new(Instance::shared("gerrit"))
}

impl Gerrit {
    /// A Gerrit of this test alone (7 s to start).
    pub fn private() -> Self {
        Self::new(Instance::private("gerrit", Vec::new()))
    }

    fn new(instance: Instance) -> Self {
        Self {
            http_url: instance.fact("GERRIT_URL").to_owned(),
            ssh_host: instance.fact("GERRIT_SSH_HOST").to_owned(),
            ssh_port: instance.number("GERRIT_SSH_PORT"),
            known_hosts: instance.fact("GERRIT_KNOWN_HOSTS").into(),
            instance,
        }
    }

    /// The private SSH key of a user.
    pub fn key(&self, user: &str) -> PathBuf {
        PathBuf::from(self.instance.fact("GERRIT_KEYS")).join(user)
    }

    /// Its Java process, now.
    pub fn pid(&self) -> u32 {
        self.instance.number("GERRIT_PID")
    }

    /// Kills it as a crash would; returns when it is gone. Private ones only.
    pub fn kill9(&self) {
        self.instance.signal("KILL");
    }

    /// Freezes it: connections stay, nothing answers. Private ones only.
    pub fn freeze(&self) {
        self.instance.signal("STOP");
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.instance.signal("CONT");
    }

    /// Starts it again on the same ports with the data it had, after an orderly stop if it is still up; returns when it answers.
    pub fn restart(&mut self) {
        self.instance.down();
        self.instance.up();
    }

    /// One call of the REST API as `user`; `path` begins after `/a`. Panics unless the answer is 2xx.
    pub fn rest(&self, user: &str, method: &str, path: &str, body: Option<&Value>) -> Value {
        match self.try_rest(user, method, path, body) {
            Ok(value) => value,
            Err((status, text)) => panic!("gerrit: {method} {path} as {user}: {status} {text}"),
        }
    }

    /// As [`rest`](Self::rest); another answer than 2xx is returned as its status and text, and none at all as 0 and the reason.
    pub fn try_rest(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, (u16, String)> {
        let login = format!("{user}:secret");
        let reply = curl::try_request(method, &format!("{}/a{path}", self.http_url), &["-u", &login], body)
            .map_err(|why| (0, why))?;
        if !(200..300).contains(&reply.status) {
            return Err((reply.status, reply.body));
        }
        // Replies begin with a line against cross-site script inclusion.
        let json = reply.body.strip_prefix(")]}'").unwrap_or("null");
        Ok(serde_json::from_str(json)
            .unwrap_or_else(|error| panic!("gerrit: {method} {path}: {error} in {json}")))
    }

    /// Makes a project with an empty first commit on `master`.
    pub fn create_project(&self, name: &str) {
        let body = serde_json::json!({"create_empty_commit": true, "branches": ["master"]});
        self.rest("admin", "PUT", &format!("/projects/{}", encode(name)), Some(&body));
    }
}

/// A name as one segment of a path.
fn encode(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F").replace(' ', "%20").replace('~', "%7E")
}
