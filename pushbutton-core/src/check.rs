//! What a part finds when it checks itself: for people, each finding with what to fix.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

/// A part that can check its configuration and its connections before it is used. `pushbutton-bin check` runs every
/// part's.
///
/// ```
/// use pushbutton_core::check::{Check, Finding};
/// use pushbutton_core::async_trait;
///
/// struct LogFolder(std::path::PathBuf);
///
/// #[async_trait]
/// impl Check for LogFolder {
///     async fn check(&self) -> Vec<Finding> {
///         let shown = self.0.display();
///         match self.0.is_dir() {
///             true => vec![Finding::ok(format!("logs: {shown}"))],
///             false => vec![Finding::fail(format!("logs: {shown} is no folder"), format!("mkdir -p {shown}"))],
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Check: Send + Sync {
    /// Tries what the part needs, and returns what was found, in the order in which people should fix it.
    ///
    /// # Contract
    /// - Changes nothing that others can see.
    /// - Ends within a minute, whatever the peer does.
    async fn check(&self) -> Vec<Finding>;
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The result.
    pub level: Level,
    /// What was checked, and what was found, as `login: acme-ci on review.opendev.org:29418`.
    pub what: String,
    /// What to do about it, where there is something to do.
    pub remedy: Option<String>,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Level {
    /// It works.
    Ok,
    /// It works, but will cause trouble.
    Warn,
    /// It does not work.
    Fail,
}

impl Finding {
    /// It works.
    pub fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), remedy: None }
    }

    /// It works, but should be fixed.
    pub fn warn(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, what: what.into(), remedy: Some(remedy.into()) }
    }

    /// It does not work.
    pub fn fail(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, what: what.into(), remedy: Some(remedy.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        write!(f, "{level:<4}  {}", self.what)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "\n      -> {remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_remedy() {
        let finding = Finding::fail("broker: connection refused", "start RabbitMQ, or fix `rabbitmq.url`");
        assert_eq!(
            finding.to_string(),
            "FAIL  broker: connection refused\n      -> start RabbitMQ, or fix `rabbitmq.url`"
        );
        assert!(Level::Ok < Level::Warn && Level::Warn < Level::Fail);
    }
}
