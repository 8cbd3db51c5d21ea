use async_trait::async_trait;

use crate::error::Result;
use crate::ident::RunId;
use crate::node::{Node, NodeRequest, OwnedResource};

/// Makes nodes and takes them away.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Provisioner: Send + Sync {
    /// Makes a node and waits until it answers SSH.
    ///
    /// # Contract
    /// - Whatever it makes carries the owner and the run, from the first call on.
    /// - Fails fast once the node cannot come up, with the cloud's own words, and at the latest at the request's deadline.
    /// - May fail or be dropped half-way: [`release`](Self::release) then clears away what was made.
    /// - Permanent errors are those that another attempt cannot mend (no such flavor); a full cloud is temporary.
    async fn provision(&self, request: &NodeRequest) -> Result<Node>;

    /// Takes away all that was made for a run.
    ///
    /// # Contract
    /// - Idempotent: nothing left to take away is `Ok`.
    /// - Works for a half-made and for a vanished node, and after a restart of this process.
    /// - `Ok` means gone, or surely going: the cloud has accepted every deletion.
    /// - Never touches what carries another owner or another run.
    async fn release(&self, run: &RunId) -> Result<()>;

    /// Lists all that carries our owner mark.
    async fn list_owned(&self) -> Result<Vec<OwnedResource>>;
}
