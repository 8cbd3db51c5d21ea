//! Servers for tests that do not make them by the product itself.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Keypair, OpenStack, Server};
use crate::until;

const LIMIT: Duration = Duration::from_secs(180);

impl OpenStack {
    /// Boots a server of the flavor `m1.tiny` on the network `private` and waits until it is ACTIVE. `more` goes into the
    /// request as it is: `metadata`, `user_data`.
    pub fn boot(&self, image: &str, name: &str, keypair: &Keypair<'_>, more: &Value) -> Server {
        let first = |service: &str, path: &str, list: &str| {
            let reply = self.request("GET", service, path, None);
            let found =
                reply[list].as_array().and_then(|all| all.iter().find(|one| one["name"] != "m1.huge"));
            found.and_then(|one| one["id"].as_str()).expect("an id").to_owned()
        };
        let mut body = json!({"server": {
            "name": name, "key_name": keypair.name,
            "imageRef": first("image", &format!("/v2/images?name={image}"), "images"),
            "flavorRef": first("compute", "/flavors", "flavors"),
            "networks": [{"uuid": first("network", "/v2.0/networks?name=private", "networks")}],
        }});
        for (key, value) in more.as_object().into_iter().flatten() {
            body["server"][key] = value.clone();
        }
        let reply = self.request("POST", "compute", "/servers", Some(&body));
        until("the server is active", LIMIT, || {
            self.list_servers()
                .into_iter()
                .find(|server| reply["server"]["id"] == server.id && server.status == "ACTIVE")
        })
    }

    /// Deletes a server; returns when it and its ports are gone.
    pub fn delete(&self, server: &Server) {
        self.request("DELETE", "compute", &format!("/servers/{}", server.id), None);
        until("the server is gone", LIMIT, || {
            self.list_servers().iter().all(|other| other.id != server.id).then_some(())
        });
        until("its port is gone", LIMIT, || {
            self.list_ports().iter().all(|port| port.server != server.id).then_some(())
        });
    }
}

impl Server {
    /// Runs a shell command on it as its login `debian`. Its host key is not checked.
    pub fn ssh(&self, keypair: &Keypair<'_>, command: &str) -> Output {
        let mut ssh = Command::new("ssh");
        for option in
            ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=5"]
        {
            ssh.args(["-o", option]);
        }
        let address = self.addresses.first().expect("an address");
        ssh.args(["-F", "none", "-i"])
            .arg(&keypair.private_key)
            .args([&format!("debian@{address}"), command])
            .output()
            .expect("ssh runs")
    }
}
