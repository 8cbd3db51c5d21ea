//! Checked names and numbers: what comes from outside becomes one of these at the edge, or is refused.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind};

/// The longest name of any kind. Git itself allows a ref of 4,096 bytes; no honest project, branch or job comes near
/// this.
pub const MAX_NAME: usize = 255;

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and takes it.
            ///
            /// # Errors
            /// [`ErrorKind::Invalid`], permanent, when the text is not of this form.
            pub fn new(text: impl Into<String>) -> Result<Self, Error> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if text.is_empty() || text.len() > MAX_NAME || !check(&text) {
                    let shown: String = text.chars().take(80).collect();
                    return Err(Error::permanent(ErrorKind::Invalid, format!(concat!("{:?} is not ", $what), shown)));
                }
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

/// Letters, digits and a few marks; starts with a letter or digit. Safe as a path segment, a host name part and a
/// metadata value.
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !text.contains("..")
}

/// The rules of git-check-ref-format(1) that matter for safety, plus: no shell or URL marks, no leading dash.
fn is_ref_path(text: &str) -> bool {
    text.split('/').all(|part| {
        !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.') && !part.ends_with(".lock")
    }) && !text.contains("..")
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+' | '@' | '=' | ',' | '#')
        })
        && !text.contains("@{")
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

checked_name!(
    /// A Gerrit project, as `openstack/cinder`: path segments without `..`, blanks or shell marks.
    ProjectName, "a project name such as openstack/cinder", is_ref_path
);
checked_name!(
    /// A branch without `refs/heads/`, as `master` or `stable/2026.1`.
    BranchName, "a branch name such as master", is_ref_path
);
checked_name!(
    /// A full ref, as `refs/changes/45/12345/2`.
    GitRef, "a ref such as refs/changes/45/12345/2", |text| text.starts_with("refs/") && is_ref_path(text)
);
checked_name!(
    /// A commit: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
    Revision, "a commit id of 40 or 64 hexadecimal digits", |text| matches!(text.len(), 40 | 64) && is_hex(text)
);
checked_name!(
    /// A Change-Id, which Gerrit knows a change by on one project and branch: `I` and 40 hexadecimal digits.
    ChangeId, "a Change-Id such as I0123456789abcdef0123456789abcdef01234567", |text| {
        text.len() == 41 && text.strip_prefix('I').is_some_and(is_hex)
    }
);
checked_name!(
    /// The name of a job. No blanks: result tables split on them (third-party CI requirements, "test-name-no-spaces").
    JobName, "a job name (letters, digits, - _ . and no blanks)", is_word
);
checked_name!(
    /// The name of a stage within a job.
    StageName, "a stage name (letters, digits, - _ . and no blanks)", is_word
);
checked_name!(
    /// The label of a kind of node, which the provisioner's configuration explains.
    NodeLabel, "a node label (letters, digits, - _ .)", is_word
);
checked_name!(
    /// Who owns what is made in a cloud, as people write it; several owners may share one cloud project.
    OwnerName, "an owner name (letters, digits, - _ .)", is_word
);
checked_name!(
    /// The participants of one queue, and no others. Beside the owner's name it tells two installations apart whose
    /// configurations give the same owner, such as a copy for tests.
    InstallationId, "an installation id of 12 hexadecimal digits", |text| text.len() == 12 && is_hex(text)
);
checked_name!(
    /// Identity of a job: the same for the same event and job name, on every machine, at every time.
    JobId, "a job id of 32 hexadecimal digits", |text| text.len() == 32 && is_hex(text)
);
checked_name!(
    /// Identity of one run (one attempt of a job). Sorts by time: a UUID of version 7 (RFC 9562).
    RunId, "a run id", |text| is_word(text) && text.len() <= 64
);

checked_name!(
    /// Identity of a buildset: the same for the same event and jobs of one installation.
    BuildsetId, "a buildset id of 32 hexadecimal digits", |text| text.len() == 32 && is_hex(text)
);

/// Of the names that a configuration holds, all of which are words.
#[cfg(feature = "schema")]
macro_rules! word_schemas {
    ($($name:ident)*) => {
        $(impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                // As `is_word`: two dots never follow each other.
                let pattern = r"^[A-Za-z0-9](\.?[A-Za-z0-9_-])*\.?$";
                schemars::json_schema!({
                    "type": "string", "title": "name", "pattern": pattern, "maxLength": MAX_NAME,
                })
            }
        })*
    };
}

#[cfg(feature = "schema")]
word_schemas!(JobName StageName NodeLabel OwnerName);

impl BuildsetId {
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(digest(parts))
    }
}

impl InstallationId {
    /// A new id. The digest of a run id: its last digits alone count up within a millisecond.
    pub fn generate() -> Self {
        let mut digits = digest([RunId::generate().as_str()]);
        digits.truncate(12);
        Self(digits)
    }
}

impl RunId {
    /// A new id, later than all before it on this machine.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().hyphenated().to_string())
    }

    /// When it was made, by the clock of the machine that made it; none when it is no UUID of version 7.
    pub fn made_at(&self) -> Option<Timestamp> {
        let uuid = uuid::Uuid::try_parse(&self.0).ok().filter(|uuid| uuid.get_version_num() == 7)?;
        let (seconds, nanoseconds) = uuid.get_timestamp()?.to_unix();
        Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
    }
}

/// A change's number, unique on one Gerrit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeNumber(pub u64);

/// A patch set's number within its change; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PatchsetNumber(pub u32);

impl fmt::Display for ChangeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PatchsetNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hashes parts to 32 hexadecimal digits (half of SHA-256). Each part is prefixed by its length, so that parts cannot
/// run together.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl JobId {
    /// The identity of the job of this name that this event called for.
    pub fn of(event: &crate::event::EventId, job: &JobName) -> Self {
        Self(digest([event.as_str(), job.as_str()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_names_pass() {
        for project in
            ["openstack/cinder", "openstack/python-cinderclient", "x", "a/b/c", "starlingx/app-x_1.0"]
        {
            assert!(ProjectName::new(project).is_ok(), "{project}");
        }
        for branch in ["master", "stable/2026.1", "feature/r1", "unmaintained/zed", "fix#12"] {
            assert!(BranchName::new(branch).is_ok(), "{branch}");
        }
        assert!(GitRef::new("refs/changes/45/12345/2").is_ok());
        assert!(Revision::new("0123456789abcdef0123456789abcdef01234567").is_ok());
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "",
            "a b",
            "../etc",
            "a/../b",
            "-oProxyCommand=x",
            "a/-x",
            "$(id)",
            "a;b",
            "a\nb",
            "a`b`",
            "x'y",
            "a//b",
            "a/",
            "é",
        ] {
            assert!(ProjectName::new(text).is_err(), "{text:?}");
            assert!(BranchName::new(text).is_err(), "{text:?}");
        }
        for text in [
            "changes/1/1/1",
            "refs/changes/1/1/1; rm -rf /",
            "refs/../x",
            "refs/heads/x.lock",
            "refs/heads/@{1}",
        ] {
            assert!(GitRef::new(text).is_err(), "{text:?}");
        }
        for text in ["HEAD", "0123", "0123456789ABCDEF0123456789abcdef01234567"] {
            assert!(Revision::new(text).is_err(), "{text:?}");
        }
        assert!(JobName::new("x".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn parts_of_a_digest_do_not_run_together() {
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        assert_eq!(digest(["ab", "c"]).len(), 32);
    }

    #[test]
    fn installation_ids_differ_and_are_checked() {
        let (one, other) = (InstallationId::generate(), InstallationId::generate());
        assert_ne!(one, other);
        assert_eq!(InstallationId::new(one.as_str()).unwrap(), one);
        for text in ["", "0123456789a", "0123456789abc", "0123456789AB", "0123456789a ", "lab"] {
            assert!(InstallationId::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn run_ids_sort_by_time() {
        let (first, second) = (RunId::generate(), RunId::generate());
        assert!(first < second);
    }

    #[test]
    fn a_run_id_tells_when_it_was_made() {
        // The example of RFC 9562, A.6: 2022-02-22T19:22:22Z.
        let example = RunId::new("017f22e2-79b0-7cc3-98c4-dc0c0c07398f").unwrap();
        assert_eq!(example.made_at(), Some("2022-02-22T19:22:22Z".parse().unwrap()));
        for other in ["r1", "c232ab00-9414-11ec-b3c8-9f6bdeced846"] {
            assert_eq!(RunId::new(other).unwrap().made_at(), None, "{other}");
        }
    }
}
