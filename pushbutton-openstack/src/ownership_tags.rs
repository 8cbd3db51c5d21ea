//! The ownership tags by which resources of this installation are found: in names, metadata and descriptions.

use std::collections::BTreeMap;

use pushbutton_core::{InstallationId, NodeRequest, OwnerName, RunId};
use serde_json::{Value, json};

use crate::api_types::Resource;

/// Metadata key: the owner, as the configuration names it.
const OWNER: &str = "pushbutton_owner";
/// Metadata key: the installation that made it. Without it a resource is nobody's: another installation may have the
/// same owner.
const INSTALLATION: &str = "pushbutton_installation";
/// Metadata key: the run that it was made for.
const RUN: &str = "pushbutton_run";
/// Metadata key: the job that the run is an attempt of.
const JOB: &str = "pushbutton_job";

/// The longest server name that is also a host name label (RFC 1035, 2.3.4).
const MAX_NAME: usize = 63;

/// Writes and reads the tags of one installation.
#[derive(Debug, Clone)]
pub(crate) struct OwnershipTags {
    owner: OwnerName,
    installation: InstallationId,
}

/// The tags of a resource.
struct Found<'a> {
    owner: &'a str,
    installation: Option<&'a str>,
    run: &'a str,
}

impl OwnershipTags {
    pub(crate) fn new(owner: OwnerName, installation: InstallationId) -> Self {
        Self { owner, installation }
    }

    /// What all names begin with. It narrows a search; the metadata decides.
    pub(crate) fn name_prefix(&self) -> String {
        format!("pb-{}-", host_label(self.owner.as_str(), 16))
    }

    /// `pb-<owner>-<the request's name>-<end of the run id>`: a valid host name, and the same in each try.
    pub(crate) fn name(&self, request: &NodeRequest) -> String {
        let suffix = run_suffix(&request.run);
        let prefix = self.name_prefix();
        let wanted = request.name.strip_prefix("pushbutton-").unwrap_or(&request.name);
        let room = MAX_NAME.saturating_sub(prefix.len() + suffix.len() + 1);
        format!("{prefix}{}-{suffix}", host_label(wanted, room))
    }

    /// The metadata of a server or a volume.
    pub(crate) fn metadata(&self, request: &NodeRequest, more: &BTreeMap<String, String>) -> Value {
        let mut all: BTreeMap<&str, &str> =
            more.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        all.extend([
            (OWNER, self.owner.as_str()),
            (INSTALLATION, self.installation.as_str()),
            (RUN, request.run.as_str()),
            (JOB, request.job.as_str()),
        ]);
        json!(all)
    }

    /// The description of a resource without metadata.
    pub(crate) fn description(&self, request: &NodeRequest) -> String {
        let Self { owner, installation } = self;
        format!(
            "pushbutton owner={owner} installation={installation} run={} job={}",
            request.run, request.job
        )
    }

    /// The run in the tags, if the owner and the installation are these.
    pub(crate) fn run_of(&self, resource: &Resource) -> Option<RunId> {
        let found = tags_of(resource).filter(|found| self.are_ours(found))?;
        RunId::new(found.run).ok()
    }

    /// Whether the tags name another owner or installation. A resource that the journal knows is deleted also when its
    /// tags were removed, but not when it is another installation's: the journal may be a copy of theirs.
    pub(crate) fn is_of_others(&self, resource: &Resource) -> bool {
        tags_of(resource).is_some_and(|found| found.installation.is_some() && !self.are_ours(&found))
    }

    fn are_ours(&self, found: &Found<'_>) -> bool {
        found.owner == self.owner.as_str() && found.installation == Some(self.installation.as_str())
    }
}

/// Reads the tags from the metadata, else from the description.
fn tags_of(resource: &Resource) -> Option<Found<'_>> {
    let metadata = resource.metadata.as_ref().and_then(|metadata| {
        let text = |key| metadata.get(key).and_then(Value::as_str);
        Some(Found { owner: text(OWNER)?, installation: text(INSTALLATION), run: text(RUN)? })
    });
    metadata.or_else(|| {
        let mut words = resource.description.as_deref()?.strip_prefix("pushbutton ")?.split(' ').peekable();
        let owner = words.next()?.strip_prefix("owner=")?;
        let installation = words.peek()?.strip_prefix("installation=");
        words.next_if(|_| installation.is_some());
        Some(Found { owner, installation, run: words.next()?.strip_prefix("run=")? })
    })
}

/// The end of a run id: its random part, which differs between runs of the same minute.
pub(crate) fn run_suffix(run: &RunId) -> String {
    let kept: Vec<char> = run.as_str().chars().filter(char::is_ascii_alphanumeric).collect();
    kept[kept.len().saturating_sub(12)..].iter().map(char::to_ascii_lowercase).collect()
}

/// The text as part of a host name: lower-case letters, digits, and single dashes that are not at the ends.
fn host_label(text: &str, max_len: usize) -> String {
    let mut kept = String::new();
    for c in text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }) {
        if kept.len() < max_len && !(c == '-' && (kept.is_empty() || kept.ends_with('-'))) {
            kept.push(c);
        }
    }
    kept.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pushbutton_core::NodeLabel;
    use pushbutton_core::samples;

    use super::*;

    fn request(name: &str) -> NodeRequest {
        let run = RunId::new("019ab3f0-0c11-7a54-b0f3-1234567890ab").unwrap();
        let label = NodeLabel::new("lab").unwrap();
        NodeRequest::new(run, samples::job("tempest").id, label, name, Duration::from_secs(1))
    }

    fn tags(owner: &str, installation: &str) -> OwnershipTags {
        OwnershipTags::new(OwnerName::new(owner).unwrap(), InstallationId::new(installation).unwrap())
    }

    const HERE: &str = "0123456789ab";
    const ELSEWHERE: &str = "0123456789ac";

    #[test]
    fn names_are_readable_host_names() {
        let name = tags("Acme_CI", HERE).name(&request("pushbutton-tempest-12345-2"));
        assert_eq!(name, "pb-acme-ci-tempest-12345-2-1234567890ab");
        let long = tags(&"o".repeat(80), HERE).name(&request(&"tempest.full_".repeat(20)));
        assert!(long.len() <= MAX_NAME && long.ends_with("-1234567890ab"), "{long}");
        assert!(long.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{long}");
    }

    fn with_metadata(metadata: &Value) -> Resource {
        serde_json::from_value(json!({"id": "1", "metadata": metadata})).unwrap()
    }

    fn with_description(description: &str) -> Resource {
        serde_json::from_value(json!({"id": "1", "description": description})).unwrap()
    }

    #[test]
    fn l4_only_the_tags_of_this_owner_and_installation_are_recognized() {
        let (ours, request) = (tags("acme", HERE), request("x"));
        let more = BTreeMap::from([("team".into(), "storage".into())]);
        let resources =
            [with_metadata(&ours.metadata(&request, &more)), with_description(&ours.description(&request))];
        for resource in &resources {
            assert_eq!(ours.run_of(resource), Some(request.run.clone()));
            assert!(!ours.is_of_others(resource));
            for theirs in [tags("acme2", HERE), tags("acme", ELSEWHERE)] {
                assert_eq!(theirs.run_of(resource), None, "{theirs:?}");
                assert!(theirs.is_of_others(resource), "{theirs:?}");
            }
        }
    }

    #[test]
    fn l4_what_names_no_installation_is_not_found_but_may_be_in_the_journal() {
        let ours = tags("acme", HERE);
        let run = request("x").run;
        let old = [
            with_metadata(&json!({"pushbutton_owner": "acme", "pushbutton_run": run, "pushbutton_job": "j"})),
            with_description(&format!("pushbutton owner=acme run={run} job=j")),
        ];
        let unknown = ["", "a web server", "pushbutton owner=acme", "pushbutton owner=acme run=../x"];
        for resource in old.into_iter().chain(unknown.map(with_description)) {
            assert_eq!(ours.run_of(&resource), None, "{resource:?}");
            assert!(!ours.is_of_others(&resource), "{resource:?}");
        }
    }

    /// Neutron keeps 255 characters of a description.
    #[test]
    fn the_longest_description_fits() {
        let mut request = request("x");
        request.run = RunId::new("r".repeat(64)).unwrap();
        assert!(tags(&"o".repeat(64), HERE).description(&request).len() <= 255);
    }
}
