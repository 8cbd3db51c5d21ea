use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ident::RunId;
use crate::node::ResourceKind;

/// Remembers what a provisioner is about to make, so that a crash between a cloud's act and its answer leaks nothing.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Journal: Send + Sync {
    /// Records that something is about to be made; returns the entry's number.
    ///
    /// # Contract
    /// - `Ok` means durable: call it before the cloud.
    async fn intend(&self, run: &RunId, kind: ResourceKind, name: &str) -> Result<u64>;

    /// Records what the cloud calls it.
    async fn made(&self, entry: u64, id: &str) -> Result<()>;

    /// Records that it is gone, or was never made.
    ///
    /// # Contract
    /// - Idempotent.
    async fn gone(&self, entry: u64) -> Result<()>;

    /// Lists what is not gone, oldest first.
    async fn open(&self) -> Result<Vec<JournalEntry>>;
}

/// Something that was made, or was about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The entry's number.
    pub entry: u64,
    /// The run it is for.
    pub run: RunId,
    /// What it is.
    pub kind: ResourceKind,
    /// The name it was to be given.
    pub name: String,
    /// What the cloud calls it; none when the answer never came.
    pub id: Option<String>,
    /// When the intent was recorded.
    pub at: Timestamp,
}
