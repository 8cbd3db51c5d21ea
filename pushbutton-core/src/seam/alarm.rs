use async_trait::async_trait;

use crate::error::Result;

/// Calls a person of the lab, who is not upstream.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Alarm: Send + Sync {
    /// Tells them that something needs their hand.
    ///
    /// # Contract
    /// - `Ok` means that somebody else is responsible for it now, such as a mail server.
    /// - Never told to the review, nor to anyone upstream.
    async fn raise(&self, subject: &str, text: &str) -> Result<()>;
}
