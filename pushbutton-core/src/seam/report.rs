use async_trait::async_trait;

use crate::error::Result;
use crate::report::Update;

/// Tells people and systems how runs go.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Reporter: Send + Sync {
    /// Takes note of one step of a run, and speaks where it has something to say.
    ///
    /// # Contract
    /// - Updates of one run come in order; those of several runs may mix.
    /// - Idempotent: told the same `Finished` twice, also after a restart, it speaks once.
    /// - What it does not care for is `Ok`, and costs next to nothing.
    /// - Temporary errors are tried again for `Finished`; those of all other steps are logged and forgotten.
    async fn report(&self, update: &Update) -> Result<()>;

    /// A short name for logs, as `gerrit`.
    fn name(&self) -> &'static str;
}
