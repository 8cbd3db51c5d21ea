//! A provisioner of your own: nodes that are folders, checked against the same contract as the real ones.
//! Run it with `cargo run -p pushbutton-core --example custom_provisioner`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::path::PathBuf;
use std::sync::Arc;

use pushbutton_core::{
    Error, ErrorKind, Journal, Node, NodeRequest, OwnedResource, Provisioner, ResourceKind, Result, RunId,
    async_trait,
};
use pushbutton_testkit::conformance::provision::{self, ProvisionerSetup};

/// Each node is a folder below this one. A lab would boot a machine, unlock a storage array, or reserve a port.
struct Folders(PathBuf);

/// The pipeline retries temporary errors; permanent ones need a person.
fn local(error: std::io::Error) -> Error {
    Error::temporary(ErrorKind::Local, "the folder's disk failed").because(error)
}

#[async_trait]
impl Provisioner for Folders {
    async fn provision(&self, request: &NodeRequest, _: &Arc<dyn Journal>) -> Result<Node> {
        if request.label.as_str() != "folder" {
            let message = format!("no node has the label {:?}; there is \"folder\"", request.label.as_str());
            return Err(Error::permanent(ErrorKind::Config, message));
        }
        // The name of the folder is the run's id: `release` needs no memory of what was made.
        let folder = self.0.join(request.run.as_str());
        std::fs::create_dir_all(&folder).map_err(local)?;
        let vars = [("folder".to_owned(), folder.display().to_string().into())];
        Ok(Node::local(request.run.as_str(), request.label.clone()).with_vars(vars))
    }

    async fn release(&self, run: &RunId, _: &Arc<dyn Journal>) -> Result<()> {
        match std::fs::remove_dir_all(self.0.join(run.as_str())) {
            // Idempotent: it does not matter who removed it.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(local(error)),
            _ => Ok(()),
        }
    }

    async fn list_owned(&self) -> Result<Vec<OwnedResource>> {
        let entries = std::fs::read_dir(&self.0).map_err(local)?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let owned =
            |id: String| OwnedResource::new(ResourceKind::Server, &id, &id).with_run(RunId::new(&id).ok());
        Ok(names.map(owned).collect())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folders = Folders(std::env::temp_dir().join(format!("pushbutton-{}", RunId::generate())));
    std::fs::create_dir(&folders.0).map_err(local)?;
    // The suite that the real clouds must pass too. It panics with the bullet of the contract that is broken.
    let mut setup = ProvisionerSetup::of("folder");
    setup.unknown = Some("cloud".parse()?);
    provision::all(&folders, &setup).await;
    println!("Folders keeps the contract of a Provisioner; {} are left", folders.list_owned().await?.len());
    std::fs::remove_dir(&folders.0).map_err(local)
}
