//! The ownership tags by which resources of this installation are found: in names, metadata and descriptions.

use std::collections::BTreeMap;

use pushbutton_core::{NodeRequest, OwnerName, RunId};
use serde_json::{Value, json};

use crate::api_types::Resource;

/// Metadata key: the installation that made it.
const OWNER: &str = "pushbutton_owner";
/// Metadata key: the run that it was made for.
const RUN: &str = "pushbutton_run";
/// Metadata key: the job that the run is an attempt of.
const JOB: &str = "pushbutton_job";

/// The longest server name that is also a host name label (RFC 1035, 2.3.4).
const MAX_NAME: usize = 63;

/// Writes and reads the tags of one owner.
#[derive(Debug, Clone)]
pub(crate) struct OwnershipTags {
    owner: OwnerName,
}

impl OwnershipTags {
    pub(crate) fn new(owner: OwnerName) -> Self {
        Self { owner }
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
        all.extend([(OWNER, self.owner.as_str()), (RUN, request.run.as_str()), (JOB, request.job.as_str())]);
        json!(all)
    }

    /// The description of a resource without metadata.
    pub(crate) fn description(&self, request: &NodeRequest) -> String {
        format!("pushbutton owner={} run={} job={}", self.owner, request.run, request.job)
    }

    /// The run in the tags, if the owner is this one.
    pub(crate) fn run_of(&self, resource: &Resource) -> Option<RunId> {
        let metadata = resource.metadata.as_ref().and_then(|metadata| self.run_of_metadata(metadata));
        metadata.or_else(|| self.run_of_description(resource.description.as_deref()?))
    }

    fn run_of_metadata(&self, metadata: &BTreeMap<String, Value>) -> Option<RunId> {
        let text = |key| metadata.get(key).and_then(Value::as_str);
        if text(OWNER)? != self.owner.as_str() { None } else { RunId::new(text(RUN)?).ok() }
    }

    fn run_of_description(&self, description: &str) -> Option<RunId> {
        let mut words = description.strip_prefix("pushbutton ")?.split(' ');
        let (owner, run) = (words.next()?.strip_prefix("owner=")?, words.next()?.strip_prefix("run=")?);
        if owner != self.owner.as_str() { None } else { RunId::new(run).ok() }
    }
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

    fn tags(owner: &str) -> OwnershipTags {
        OwnershipTags::new(OwnerName::new(owner).unwrap())
    }

    #[test]
    fn names_are_readable_host_names() {
        let name = tags("Acme_CI").name(&request("pushbutton-tempest-12345-2"));
        assert_eq!(name, "pb-acme-ci-tempest-12345-2-1234567890ab");
        let long = tags(&"o".repeat(80)).name(&request(&"tempest.full_".repeat(20)));
        assert!(long.len() <= MAX_NAME && long.ends_with("-1234567890ab"), "{long}");
        assert!(long.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{long}");
    }

    #[test]
    fn only_the_owners_own_tags_are_recognized() {
        let (ours, theirs, request) = (tags("acme"), tags("acme2"), request("x"));
        let metadata = ours.metadata(&request, &BTreeMap::from([("team".into(), "storage".into())]));
        let metadata: BTreeMap<String, Value> = serde_json::from_value(metadata).unwrap();
        assert_eq!(ours.run_of_metadata(&metadata), Some(request.run.clone()));
        assert_eq!(theirs.run_of_metadata(&metadata), None);
        let description = ours.description(&request);
        assert_eq!(ours.run_of_description(&description), Some(request.run.clone()));
        assert_eq!(theirs.run_of_description(&description), None);
        for other in ["", "a web server", "pushbutton owner=acme", "pushbutton owner=acme run=../x"] {
            assert_eq!(ours.run_of_description(other), None, "{other:?}");
        }
    }
}
