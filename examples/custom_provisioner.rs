//! A provisioner of your own: nodes that are folders, checked against the same contract as the real ones.
//! Run it with `cargo run -p pushbutton-core --example custom_provisioner`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]
use std::path::PathBuf;

use async_trait::async_trait;
use pushbutton_core::{
    Error, ErrorKind, Node, NodeRequest, OwnedResource, Provisioner, ResourceKind, Result, RunId,
};
use pushbutton_testkit::conformance::provision::{self, Setting};

/// Each node is a folder below `root`; a lab would boot a machine, unlock a storage array, reserve a port.
struct Folders {
    root: PathBuf,
}

impl Folders {
    /// A run's folder carries the run's id: what must be taken away is found without any memory of having made it.
    fn of(&self, run: &RunId) -> PathBuf {
        self.root.join(run.as_str())
    }
}

/// The pipeline tries temporary errors again; permanent ones are told to people.
fn local(error: std::io::Error) -> Error {
    Error::temporary(ErrorKind::Local, "the folder's disk failed").because(error)
}

#[async_trait]
impl Provisioner for Folders {
    async fn provision(&self, request: &NodeRequest) -> Result<Node> {
        if request.label.as_str() != "folder" {
            let message = format!("no node has the label {:?}; there is \"folder\"", request.label.as_str());
            return Err(Error::permanent(ErrorKind::Config, message));
        }
        let folder = self.of(&request.run);
        std::fs::create_dir_all(&folder).map_err(local)?;
        Ok(Node {
            id: request.run.to_string(),
            name: request.name.clone(),
            label: request.label.clone(),
            address: "127.0.0.1".into(),
            port: 22,
            user: "root".into(),
            key_file: None,
            host_keys: Vec::new(),
            local: true,
            vars: [("folder".to_owned(), folder.display().to_string().into())].into(),
        })
    }

    async fn release(&self, run: &RunId) -> Result<()> {
        match std::fs::remove_dir_all(self.of(run)) {
            // Idempotent: nothing left to take away is fine, whoever took it.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(local(error)),
            _ => Ok(()),
        }
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let entries = std::fs::read_dir(&self.root).map_err(local)?;
        let owned = |id: String| {
            let (run, name) = (RunId::new(&id).ok(), id.clone());
            OwnedResource { kind: ResourceKind::Server, id, name, run, created: None }
        };
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).map(owned).collect())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folders = Folders { root: std::env::temp_dir().join(format!("pushbutton-{}", RunId::generate())) };
    std::fs::create_dir(&folders.root).map_err(local)?;
    // The suite that the real clouds must pass: it panics with the name of the promise that is broken.
    let setting = Setting { unknown: Some("cloud".parse()?), ..Setting::of("folder") };
    provision::all(&folders, &setting).await;
    println!("Folders keeps the contract of a Provisioner; {} are left", folders.list_owned().await?.len());
    std::fs::remove_dir(&folders.root).map_err(local)
}
