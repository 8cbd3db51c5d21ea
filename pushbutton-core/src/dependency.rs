//! What a change depends on: the changes below it in git, and those that `Depends-On:` lines of its commit message
//! name. A test needs them beside it.

use serde::{Deserialize, Serialize};

use crate::event::{Change, Patchset};
use crate::names::{BranchName, ChangeId, ChangeNumber, GitRef, PatchsetNumber, ProjectName, Revision};

/// The most dependencies that a job has. A change with more of them is not tested.
pub const MAX_DEPENDENCIES: usize = 50;

/// How much of a commit message is searched for footers, in bytes.
const MAX_MESSAGE: usize = 64 << 10;

/// How many footers of one commit message count.
const MAX_FOOTERS: usize = MAX_DEPENDENCIES;

/// The longest footer that counts, in bytes.
const MAX_FOOTER: usize = 500;

/// An open change that must be applied before the one that is tested.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Dependency {
    /// Its project.
    pub project: ProjectName,
    /// Its branch.
    pub branch: BranchName,
    /// Its number.
    pub change: ChangeNumber,
    /// The number of the patch set to apply.
    pub patchset: PatchsetNumber,
    /// Where that patch set can be fetched.
    #[serde(rename = "ref")]
    pub git_ref: GitRef,
    /// The commit of that patch set.
    pub revision: Revision,
    /// How the dependency is expressed.
    pub kind: DependencyKind,
}

impl Dependency {
    /// A dependency on this patch set of this change.
    pub fn new(change: &Change, patchset: &Patchset, kind: DependencyKind) -> Self {
        Self {
            project: change.project.clone(),
            branch: change.branch.clone(),
            change: change.number,
            patchset: patchset.number,
            git_ref: patchset.git_ref.clone(),
            revision: patchset.revision.clone(),
            kind,
        }
    }
}

/// How a dependency is expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DependencyKind {
    /// Its commit is a parent in git.
    Parent,
    /// By a footer of a commit message.
    DependsOn,
}

/// The value of a `Depends-On:` footer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DependsOn {
    /// A Change-Id: every change that has it, on any project and branch. OpenStack has deprecated this form.
    Id(ChangeId),
    /// The URL of a change.
    Url {
        /// Its server: the host in lower case, and the port where it is not the usual one.
        server: String,
        /// The number of the change there.
        change: ChangeNumber,
    },
    /// Something else, such as a pull request: it is not on a Gerrit.
    Other(String),
}

/// The `Depends-On:` footers of a commit message, in their order, each once.
///
/// As in Zuul, the name's case does not matter, and the line may be anywhere in the message.
///
/// ```
/// use pushbutton_core::dependency::{DependsOn, footers};
///
/// let found = footers("Retry\n\nDepends-On: https://review.example.org/c/openstack/nova/+/77\n");
/// let expected = DependsOn::Url { server: "review.example.org".into(), change: pushbutton_core::ChangeNumber(77) };
/// assert_eq!(found, [expected]);
/// ```
pub fn footers(message: &str) -> Vec<DependsOn> {
    const NAME: &str = "depends-on:";
    let mut found = Vec::new();
    for line in crate::text::cut(message, MAX_MESSAGE).lines() {
        let Some(value) = line
            .get(..NAME.len())
            .filter(|name| name.eq_ignore_ascii_case(NAME))
            .and_then(|name| line.get(name.len()..))
            .map(str::trim)
        else {
            continue;
        };
        if value.is_empty() || value.len() > MAX_FOOTER {
            continue;
        }
        let footer = match (ChangeId::new(value), change_of_url(value)) {
            (Ok(id), _) => DependsOn::Id(id),
            (_, Some((server, change))) => DependsOn::Url { server, change },
            _ => DependsOn::Other(value.to_owned()),
        };
        if !found.contains(&footer) {
            found.push(footer);
        }
        if found.len() == MAX_FOOTERS {
            break;
        }
    }
    found
}

/// The server of a URL: its host in lower case, and its port where it is not the usual one of the scheme.
pub fn server_of_url(url: &str) -> Option<String> {
    split_url(url).map(|(server, _)| server)
}

/// Server and path of a web address.
fn split_url(url: &str) -> Option<(String, &str)> {
    let scheme_end = url.find("://")?;
    let usual_port = match url.get(..scheme_end)? {
        scheme if scheme.eq_ignore_ascii_case("https") => ":443",
        scheme if scheme.eq_ignore_ascii_case("http") => ":80",
        _ => return None,
    };
    let rest = url.get(scheme_end + 3..)?;
    let (server, path) = rest.split_at(rest.find(['/', '#', '?']).unwrap_or(rest.len()));
    let server = server.to_ascii_lowercase();
    let server = server.strip_suffix(usual_port).unwrap_or(&server);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    (!server.is_empty() && server.chars().all(is_plain)).then(|| (server.to_owned(), path))
}

/// Server and number of a change's URL in one of Gerrit's forms: `/c/PROJECT/+/N`, `/c/N`, `/#/c/N`, `/N`, each perhaps
/// with a patch set and a file behind it.
fn change_of_url(url: &str) -> Option<(String, ChangeNumber)> {
    let (server, path) = split_url(url)?;
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix("#/").unwrap_or(path);
    let path = path.split(['#', '?']).next()?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let after = |mark: &str| parts.iter().position(|part| *part == mark).and_then(|at| parts.get(at + 1));
    let number = match after("+") {
        Some(number) => number,
        None => after("c").or_else(|| parts.first())?,
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| number.parse().ok()).flatten().filter(|number| *number > 0)?;
    Some((server, ChangeNumber(number)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "I0123456789abcdef0123456789abcdef01234567";

    fn url(server: &str, change: u64) -> DependsOn {
        DependsOn::Url { server: server.into(), change: ChangeNumber(change) }
    }

    #[test]
    fn every_form_of_a_changes_url_is_read() {
        for address in [
            "https://review.example.org/c/openstack/nova/+/77",
            "https://review.example.org/c/openstack/nova/+/77/3",
            "https://review.example.org/c/openstack/nova/+/77/3/nova/c/8.py",
            "https://review.example.org/c/openstack/nova/+/77/3..4#message-1",
            "https://Review.Example.org:443/c/openstack/nova/+/77?tab=x",
            "https://review.example.org/r/c/openstack/nova/+/77",
            "https://review.example.org/#/c/77/",
            "https://review.example.org/#/c/77/2/",
            "https://review.example.org/c/77",
            "https://review.example.org/77",
            "http://review.example.org:80/77",
        ] {
            let message = format!("A change\n\nDepends-On: {address}\n");
            assert_eq!(footers(&message), [url("review.example.org", 77)], "{address}");
        }
        assert_eq!(footers("Depends-On: http://[::1]:8080/77"), [url("[::1]:8080", 77)]);
    }

    #[test]
    fn what_is_no_change_of_a_gerrit_is_kept_as_it_is() {
        for value in [
            "https://github.com/owner/name/pull/5",
            "https://review.example.org/",
            "https://review.example.org/c/openstack/nova/+/x77",
            "https://review.example.org/0",
            "https://review.example.org/99999999999999999999999",
            "https://user@review.example.org/77",
            "ssh://review.example.org/77",
            "I0123",
            "I0123456789abcdef0123456789abcdef0123456Z",
            "77",
            "the other one",
        ] {
            let found = footers(&format!("x\n\nDepends-On: {value}"));
            assert_eq!(found, [DependsOn::Other(value.into())], "{value}");
        }
    }

    #[test]
    fn footers_are_found_as_zuul_finds_them() {
        let id = || DependsOn::Id(ID.parse().unwrap());
        let found = |message: &str| footers(message);
        assert_eq!(found(&format!("depends-on: {ID}  \r\n")), [id()], "any case, any line");
        let two = format!("x\n\nDepends-On: {ID}\nDepends-On: https://a/7\nDepends-On: {ID}\n\nbody");
        assert_eq!(found(&two), [id(), url("a", 7)], "in order, each once");
        for message in [
            format!(" Depends-On: {ID}"),
            format!("> Depends-On: {ID}"),
            "Depends-On:".into(),
            "Depends-On".into(),
            String::new(),
            format!("This Depends-On: {ID}"),
        ] {
            assert_eq!(found(&message), [], "{message:?}");
        }
    }

    #[test]
    fn the_footers_of_one_message_are_limited() {
        let message: String = (1..=1000).map(|n| format!("Depends-On: https://a/{n}\n")).collect();
        assert_eq!(footers(&message).len(), MAX_FOOTERS);
        assert_eq!(footers(&format!("Depends-On: {}", "x".repeat(MAX_FOOTER + 1))), []);
    }

    proptest! {
        #[test]
        fn arbitrary_messages_do_no_harm(message in "(?s).{0,200}") {
            prop_assert!(footers(&message).len() <= MAX_FOOTERS);
        }

        #[test]
        fn odd_footers_do_no_harm(
            values in prop::collection::vec("(https?://)?[a-zA-Z0-9@:\\[\\].é]{0,12}(/(c|\\+|#|r|[0-9]{1,22}|é)){0,6}[#?/]?", 0..8)
        ) {
            let message: String = values.iter().map(|value| format!("Depends-On: {value}\n")).collect();
            for footer in footers(&message) {
                match footer {
                    DependsOn::Url { server, change } => {
                        prop_assert!(message.to_ascii_lowercase().contains(&server));
                        prop_assert!(change.0 > 0 && message.contains(&change.to_string()));
                    }
                    DependsOn::Other(value) => prop_assert!(message.contains(&value)),
                    DependsOn::Id(id) => prop_assert!(message.contains(id.as_str())),
                }
            }
        }
    }
}
