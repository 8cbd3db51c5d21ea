//! The real servers of a run, used by nobody else, and the proxies before them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use pushbutton_testbed::{Broker, Change, Gerrit, Keypair, OpenStack, Version};
use pushbutton_testkit::faults::Proxy;
use tokio::runtime::Runtime;

use crate::configuration::Configuration;
use crate::embedded::EmbeddedOperator;
use crate::processes::{Process, ansible_link, command};
use crate::schedule::Target;

/// The owner of everything that the run creates.
pub(crate) const OWNER: &str = "chaos";
pub(crate) const PROJECT: &str = "openstack/acme-driver";

/// In the folder of the run.
pub(crate) const CLOUDS: &str = "clouds.yaml";

pub(crate) struct Servers {
    pub(crate) gerrit: RwLock<Gerrit>,
    pub(crate) broker: Mutex<Broker>,
    pub(crate) cloud: OpenStack,
}

/// Every connection of our processes goes through one of these, except to the cloud's other services.
pub(crate) struct Proxies {
    _runtime: Runtime,
    gerrit: HashMap<Target, Arc<Proxy>>,
    broker: HashMap<Target, Arc<Proxy>>,
    nova: Arc<Proxy>,
}

impl Servers {
    /// Starts them side by side.
    pub(crate) fn start(version: Version) -> Self {
        std::thread::scope(|scope| {
            let gerrit = scope.spawn(Gerrit::private);
            let broker = scope.spawn(move || Broker::private(version));
            let cloud = OpenStack::private();
            Self {
                gerrit: RwLock::new(gerrit.join().unwrap()),
                broker: Mutex::new(broker.join().unwrap()),
                cloud,
            }
        })
    }

    /// Pushes changes to comment on.
    pub(crate) fn push(&self, count: usize) -> Vec<Change> {
        let gerrit = self.gerrit.read().unwrap();
        gerrit.create_project(PROJECT);
        let push = |n| gerrit.push_change(PROJECT, "master", &[("driver.py", &format!("CHANGE = {n}\n"))]);
        (0..count).map(push).collect()
    }
}

impl Proxies {
    pub(crate) fn before(servers: &Servers, processes: &[Target]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let proxy = |server: String| Arc::new(runtime.block_on(Proxy::start(&server)).unwrap());
        let proxies =
            |server: String| processes.iter().map(|target| (*target, proxy(server.clone()))).collect();
        let gerrit = proxies(format!("127.0.0.1:{}", servers.gerrit.read().unwrap().ssh_port));
        let broker = proxies(format!("127.0.0.1:{}", servers.broker.lock().unwrap().port));
        let nova = servers.cloud.endpoint("compute").split('/').nth(2).unwrap().to_owned();
        let nova = proxy(nova);
        Self { _runtime: runtime, gerrit, broker, nova }
    }

    /// The proxies of a target.
    pub(crate) fn of(&self, target: Target) -> Vec<Arc<Proxy>> {
        let both = |target| [Arc::clone(&self.gerrit[&target]), Arc::clone(&self.broker[&target])];
        match target {
            Target::Broker => self.broker.values().cloned().collect(),
            Target::Gerrit => self.gerrit.values().cloned().collect(),
            Target::NovaApi => vec![Arc::clone(&self.nova)],
            Target::NovaConductor | Target::NovaCompute => Vec::new(),
            Target::Handler | Target::Operator1 | Target::Operator2 => both(target).to_vec(),
        }
    }
}

/// What all our processes share.
pub(crate) struct Site<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) proxies: &'a Proxies,
    pub(crate) keypair: &'a Keypair<'a>,
    pub(crate) folder: &'a Path,
    pub(crate) ansible: PathBuf,
}

impl Site<'_> {
    /// Writes the configuration of a process, checks it with `pushbutton-bin check`, and starts the process.
    pub(crate) fn start(&self, target: Target, name: &'static str, half: &'static str) -> Process {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let gerrit = self.servers.gerrit.read().unwrap();
        let port = |proxies: &HashMap<Target, Arc<Proxy>>| proxies[&target].address().port();
        let gerrit_port = port(&self.proxies.gerrit);
        let known_hosts = std::fs::read_to_string(&gerrit.known_hosts).unwrap();
        let known_hosts = known_hosts.replace(&format!("]:{}", gerrit.ssh_port), &format!("]:{gerrit_port}"));
        std::fs::write(folder.join("known_hosts"), known_hosts).unwrap();
        let ansible = ansible_link(&folder);
        std::os::unix::fs::symlink(self.ansible.join("ansible-playbook"), &ansible).unwrap();
        let key = gerrit.key("acme-ci");
        let broker = self.servers.broker.lock().unwrap();
        let broker_url =
            broker.url.replace(&format!(":{}/", broker.port), &format!(":{}/", port(&self.proxies.broker)));
        let text = Configuration {
            owner: OWNER,
            project: PROJECT,
            folder: &folder,
            logs: &self.folder.join("logs"),
            gerrit: (target == Target::Handler).then_some((gerrit_port, &key)),
            broker_url: &broker_url,
            clouds: &self.folder.join(CLOUDS),
            cloud: &self.servers.cloud.cloud,
            node_key: &self.keypair.private_key,
            ansible: &ansible,
        }
        .text();
        std::fs::write(folder.join("pushbutton.yml"), text).unwrap();
        let mut check = command(&folder);
        check.arg("check");
        if target != Target::Handler {
            check.arg("--operator");
        }
        let checked = check.output().unwrap();
        let output =
            String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "pushbutton-bin check, for the {name}:\n{output}");
        Process::start(name, half, &folder)
    }

    /// Starts the operator inside of the test. Its connections go through no proxy.
    pub(crate) fn start_embedded(&self) -> EmbeddedOperator {
        EmbeddedOperator::start(&Configuration {
            owner: OWNER,
            project: PROJECT,
            folder: self.folder,
            logs: &self.folder.join("logs"),
            gerrit: None,
            broker_url: &self.servers.broker.lock().unwrap().url,
            clouds: &self.folder.join(CLOUDS),
            cloud: &self.servers.cloud.cloud,
            node_key: &self.keypair.private_key,
            ansible: &self.ansible,
        })
    }

    /// Writes the cloud's own clouds.yaml, with the proxy as Nova's address.
    pub(crate) fn write_clouds(&self) {
        let file = self.folder.join(CLOUDS);
        let cloud = &self.servers.cloud;
        let endpoint = cloud.endpoint("compute");
        let (_, path) = endpoint.split_once("//").unwrap().1.split_once('/').unwrap();
        let line = format!(
            "    compute_endpoint_override: http://{}/{path}\n    region_name",
            self.proxies.nova.address()
        );
        let text = std::fs::read_to_string(&cloud.clouds_yaml).unwrap();
        std::fs::write(&file, text.replace("    region_name", &line)).unwrap();
    }
}
