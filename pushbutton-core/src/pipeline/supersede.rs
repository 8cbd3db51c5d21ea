//! Which events make older jobs of a change stale.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::control::ControlMessage;
use crate::event::{Event, EventKind};
use crate::names::PatchsetNumber;
use crate::setters::setters;
use crate::trigger::Triggers;

/// What makes the jobs of a patch set stale. The [`Handler`](crate::Handler) goes by it when it broadcasts to
/// operators, the [`Operator`](crate::Operator) when it looks up a change before it boots a node. In a configuration
/// this is `supersede:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SupersedePolicy {
    /// A newer patch set of the same change. Default: true.
    pub newer_patchset: bool,
    /// A merge, an abandon or a deletion of the change. Default: true.
    pub closed: bool,
}

impl SupersedePolicy {
    /// Nothing does: every job runs to its end unless a person cancels it.
    pub const NEVER: Self = Self { newer_patchset: false, closed: false };
}

impl Default for SupersedePolicy {
    fn default() -> Self {
        Self { newer_patchset: true, closed: true }
    }
}

setters!(SupersedePolicy { newer_patchset / with_newer_patchset: bool, closed / with_closed: bool });

/// The control message that operators must get because of an event, if any. The handler and `replay` both use it.
///
/// `now` is our own clock's time, as it is for jobs: Gerrit's clock may differ.
pub fn control_message_of(
    event: &Event,
    triggers: &Triggers,
    policy: SupersedePolicy,
    now: Timestamp,
) -> Option<ControlMessage> {
    let change = &event.change;
    if !triggers.matches_project(change.project.as_str(), change.branch.as_str()) {
        return None;
    }
    match event.kind {
        EventKind::PatchsetCreated { .. }
            if policy.newer_patchset && event.patchset.number > PatchsetNumber(1) =>
        {
            Some(ControlMessage::Superseded { change: change.number, by: event.patchset.number, at: now })
        }
        EventKind::ChangeMerged | EventKind::ChangeAbandoned | EventKind::ChangeDeleted if policy.closed => {
            Some(ControlMessage::Closed { change: change.number, at: now })
        }
        _ => None,
    }
}
