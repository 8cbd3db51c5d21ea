//! One error for all traits: what failed, whether a retry can help, what was being done, to what.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible call in pushbutton.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong, coarse enough for a caller to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration cannot work as it is.
    Config,
    /// The peer refused who we are: login, token, key or host key.
    Denied,
    /// The requested thing does not exist.
    NotFound,
    /// The peer has no room for it: quota, capacity, size limit.
    Exhausted,
    /// The peer could not be reached, or the connection broke.
    Unreachable,
    /// A deadline passed.
    TimedOut,
    /// The lease on a job was lost: another operator may hold it now.
    LeaseLost,
    /// The peer answered something that breaks its own protocol.
    Protocol,
    /// Input from outside was malformed.
    Invalid,
    /// The caller asked to stop.
    Cancelled,
    /// The local machine failed: disk, process, memory.
    Local,
    /// The peer answered that it failed.
    Remote,
    /// None of the above; a defect until shown otherwise.
    Unexpected,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryClass {
    /// The same call will fail again.
    Permanent,
    /// The same call may succeed later.
    Temporary,
    /// It was temporary, and was tried as often as the policy allows: outer loops must not multiply the attempts.
    RetriedOut,
}

/// An error of any part: kind, retry class, operation, context and source.
///
/// `Display` is one line that fits after "failed to"; `Debug` is a report over several lines.
///
/// ```
/// use pushbutton_core::{Error, ErrorKind};
/// let error = Error::temporary(ErrorKind::Unreachable, "connection refused")
///     .during("queue::publish")
///     .with("broker", "amqp.example.com:5672");
/// assert_eq!(error.to_string(), "queue::publish: connection refused (broker=amqp.example.com:5672)");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    class: RetryClass,
    operation: Option<&'static str>,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    people_text: Option<String>,
    affects_all_jobs: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    fn new(kind: ErrorKind, class: RetryClass, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            class,
            operation: None,
            message: message.into(),
            context: Vec::new(),
            people_text: None,
            affects_all_jobs: false,
            source: None,
        }))
    }

    /// An error that will occur again if the same call is tried again.
    pub fn permanent(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, RetryClass::Permanent, message)
    }

    /// An error after which a later try may succeed.
    pub fn temporary(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, RetryClass::Temporary, message)
    }

    /// Names the operation, unless an inner call has already done so.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds what it was done to. A key that is already set keeps its value: the innermost caller knows best.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        if !self.0.context.iter().any(|(known, _)| *known == key) {
            self.0.context.push((key, value.to_string()));
        }
        self
    }

    /// Sets what people on the review may read about it, such as the cloud's own words. The innermost text wins. It
    /// must hold no address or name of the lab that is not public.
    ///
    /// ```
    /// use pushbutton_core::{Error, ErrorKind};
    /// let error = Error::temporary(ErrorKind::Exhausted, "the server went into ERROR").for_people("No valid host was found");
    /// assert_eq!(error.people_text(), Some("No valid host was found"));
    /// ```
    #[must_use]
    pub fn for_people(mut self, text: impl Into<String>) -> Self {
        self.0.people_text.get_or_insert_with(|| text.into());
        self
    }

    /// Says that any other job would fail here in the same way: it is the fault of this operator's host or settings, such
    /// as a login that the cloud refuses. The operator then stops claiming for a while, and the job is not counted.
    ///
    /// ```
    /// use pushbutton_core::{Error, ErrorKind};
    /// let error = Error::permanent(ErrorKind::Denied, "the login was refused").affecting_all_jobs();
    /// assert!(error.during("provisioner::provision").affects_all_jobs());
    /// ```
    #[must_use]
    pub fn affecting_all_jobs(mut self) -> Self {
        self.0.affects_all_jobs = true;
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Marks a temporary error as tried often enough; a permanent one stays permanent.
    #[must_use]
    pub fn retried_out(mut self) -> Self {
        if self.0.class == RetryClass::Temporary {
            self.0.class = RetryClass::RetriedOut;
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn retry_class(&self) -> RetryClass {
        self.0.class
    }

    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        self.0.class == RetryClass::Temporary
    }

    /// What was being done, as `part::verb`.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The message alone, without operation and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What people on the review may read about it, where a part has set it.
    pub fn people_text(&self) -> Option<&str> {
        self.0.people_text.as_deref()
    }

    /// Whether any other job would fail here in the same way.
    pub fn affects_all_jobs(&self) -> bool {
        self.0.affects_all_jobs
    }

    /// All context, in the order in which it was added.
    pub fn contexts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The value of a context key.
    pub fn context(&self, key: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        for (at, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { " (" } else { ", " })?;
        }
        if self.0.context.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.message)?;
        writeln!(f, "  kind: {:?}, {:?}", self.0.kind, self.0.class)?;
        if let Some(operation) = self.0.operation {
            writeln!(f, "  during: {operation}")?;
        }
        for (key, value) in &self.0.context {
            writeln!(f, "  {key}: {value}")?;
        }
        if let Some(text) = &self.0.people_text {
            writeln!(f, "  for people: {text}")?;
        }
        if self.0.affects_all_jobs {
            f.write_str("  affects all jobs\n")?;
        }
        let mut cause = self.source();
        while let Some(inner) = cause {
            writeln!(f, "  because: {inner}")?;
            cause = inner.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Error {
        Error::temporary(ErrorKind::Unreachable, "connection refused")
            .during("queue::publish")
            .with("broker", "127.0.0.1:5672")
            .with("job", "tempest")
            .because(std::io::Error::other("os error 111"))
    }

    #[test]
    fn display_is_one_line() {
        assert_eq!(
            sample().to_string(),
            "queue::publish: connection refused (broker=127.0.0.1:5672, job=tempest)"
        );
    }

    #[test]
    fn debug_is_a_report_with_the_cause() {
        let report = format!("{:?}", sample());
        assert!(report.contains("during: queue::publish"), "{report}");
        assert!(report.contains("because: os error 111"), "{report}");
    }

    #[test]
    fn the_innermost_operation_and_context_win() {
        let error = sample().during("ingest").with("broker", "elsewhere");
        assert_eq!(error.operation(), Some("queue::publish"));
        assert_eq!(error.context("broker"), Some("127.0.0.1:5672"));
    }

    #[test]
    fn only_a_temporary_error_is_retried_out() {
        assert_eq!(sample().retried_out().retry_class(), RetryClass::RetriedOut);
        let permanent = Error::permanent(ErrorKind::Config, "no such flavor").retried_out();
        assert_eq!(permanent.retry_class(), RetryClass::Permanent);
    }
}
