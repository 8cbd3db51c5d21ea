//! What a part finds when it is asked to check itself: for people, each with what to mend.

use std::fmt;

use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it stands.
    pub level: Level,
    /// What was looked at, and what was found, as `login: acme-ci on review.opendev.org:29418`.
    pub what: String,
    /// What to do about it, where something is to be done.
    pub remedy: Option<String>,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good.
    Ok,
    /// It works, but somebody will complain.
    Warn,
    /// It does not work.
    Fail,
}

impl Finding {
    /// Good.
    pub fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), remedy: None }
    }

    /// It works, but should be mended.
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
    fn a_finding_reads_as_a_line_and_its_remedy() {
        let finding = Finding::fail("broker: connection refused", "start RabbitMQ, or mend `rabbitmq.url`");
        assert_eq!(
            finding.to_string(),
            "FAIL  broker: connection refused\n      -> start RabbitMQ, or mend `rabbitmq.url`"
        );
        assert!(Level::Ok < Level::Warn && Level::Warn < Level::Fail);
    }
}
