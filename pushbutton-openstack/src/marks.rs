//! The marks by which we know our own: names, metadata, descriptions.

use std::collections::BTreeMap;

use pushbutton_core::{NodeRequest, OwnerName, RunId};
use serde_json::{Value, json};

/// Metadata key: the installation that made it.
pub(crate) const OWNER: &str = "pushbutton_owner";
/// Metadata key: the run that it was made for.
pub(crate) const RUN: &str = "pushbutton_run";
/// Metadata key: the job that the run is an attempt of.
pub(crate) const JOB: &str = "pushbutton_job";

/// The longest server name that is also a host name label (RFC 1035, 2.3.4).
const MAX_NAME: usize = 63;

/// How we mark what we make.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    owner: OwnerName,
}

impl Marks {
    pub(crate) fn of(owner: OwnerName) -> Self {
        Self { owner }
    }

    /// What the names of all that we make start with: enough to ask a cloud for, but only the metadata decide.
    pub(crate) fn prefix(&self) -> String {
        format!("pb-{}-", label(self.owner.as_str(), 16))
    }

    /// `pb-<owner>-<what people call it>-<end of the run id>`: a host name label, the same at every try.
    pub(crate) fn name(&self, request: &NodeRequest) -> String {
        let tail = run_tail(&request.run);
        let prefix = self.prefix();
        let wanted = request.name.strip_prefix("pushbutton-").unwrap_or(&request.name);
        let room = MAX_NAME.saturating_sub(prefix.len() + tail.len() + 1);
        format!("{prefix}{}-{tail}", label(wanted, room))
    }

    /// The metadata of a server or a volume.
    pub(crate) fn metadata(&self, request: &NodeRequest, further: &BTreeMap<String, String>) -> Value {
        let mut all: BTreeMap<&str, &str> =
            further.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        all.extend([(OWNER, self.owner.as_str()), (RUN, request.run.as_str()), (JOB, request.job.as_str())]);
        json!(all)
    }

    /// The description of what has no metadata.
    pub(crate) fn description(&self, request: &NodeRequest) -> String {
        format!("pushbutton owner={} run={} job={}", self.owner, request.run, request.job)
    }

    /// The run in some metadata, when they are ours.
    pub(crate) fn run_of_metadata(&self, metadata: &BTreeMap<String, Value>) -> Option<RunId> {
        let text = |key| metadata.get(key).and_then(Value::as_str);
        if text(OWNER)? != self.owner.as_str() { None } else { RunId::new(text(RUN)?).ok() }
    }

    /// The run in a description, when it is ours.
    pub(crate) fn run_of_description(&self, description: &str) -> Option<RunId> {
        let mut words = description.strip_prefix("pushbutton ")?.split(' ');
        let (owner, run) = (words.next()?.strip_prefix("owner=")?, words.next()?.strip_prefix("run=")?);
        if owner != self.owner.as_str() { None } else { RunId::new(run).ok() }
    }
}

/// The end of a run id is its random part: what tells runs of the same minute apart.
pub(crate) fn run_tail(run: &RunId) -> String {
    let kept: Vec<char> = run.as_str().chars().filter(char::is_ascii_alphanumeric).collect();
    kept[kept.len().saturating_sub(12)..].iter().map(char::to_ascii_lowercase).collect()
}

/// Letters, digits and single dashes, at most so many, not at the ends: what a host name may hold.
fn label(text: &str, most: usize) -> String {
    let mut kept = String::new();
    for c in text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }) {
        if kept.len() < most && !(c == '-' && (kept.is_empty() || kept.ends_with('-'))) {
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
        NodeRequest {
            run: RunId::new("019ab3f0-0c11-7a54-b0f3-1234567890ab").unwrap(),
            job: samples::job("tempest").id,
            label: NodeLabel::new("lab").unwrap(),
            name: name.into(),
            deadline: Duration::from_secs(1),
        }
    }

    fn marks(owner: &str) -> Marks {
        Marks::of(OwnerName::new(owner).unwrap())
    }

    #[test]
    fn names_are_host_names_that_people_can_read() {
        let name = marks("Acme_CI").name(&request("pushbutton-tempest-12345-2"));
        assert_eq!(name, "pb-acme-ci-tempest-12345-2-1234567890ab");
        let long = marks(&"o".repeat(80)).name(&request(&"tempest.full_".repeat(20)));
        assert!(long.len() <= MAX_NAME && long.ends_with("-1234567890ab"), "{long}");
        assert!(long.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{long}");
    }

    #[test]
    fn our_marks_are_found_again_and_nobody_elses() {
        let (ours, theirs, request) = (marks("acme"), marks("acme2"), request("x"));
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
