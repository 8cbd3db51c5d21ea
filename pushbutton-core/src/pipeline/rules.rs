//! What a handler decides by.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::supersede::SupersedePolicy;
use crate::names::{JobName, NodeLabel};
use crate::setters::setters;
use crate::trigger::Triggers;

/// What a handler decides by. All of it can be replaced while the handler runs
/// ([`Handler::rules`](crate::Handler::rules)): each event is decided by one set of rules, that of the time at which it
/// was taken from the source.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rules {
    /// Which events call for which jobs. What they [look up](Triggers::lookups) is only decided if the handler has a
    /// look-up.
    pub triggers: Triggers,
    /// Which events make jobs of older patch sets stale.
    pub supersede: SupersedePolicy,
    /// How many builds of one change may be started within 24 hours; none: any number.
    pub build_limit: Option<NonZeroU32>,
    /// The label of the node that each job needs, so that only operators with such nodes claim it.
    pub labels: BTreeMap<JobName, NodeLabel>,
}

impl Rules {
    /// These triggers, without a limit of builds and without labels.
    pub fn new(triggers: Triggers) -> Self {
        Self { triggers, supersede: SupersedePolicy::default(), build_limit: None, labels: BTreeMap::new() }
    }
}

setters!(Rules {
    supersede / with_supersede: SupersedePolicy,
    build_limit / with_build_limit: Option<NonZeroU32>,
    labels / with_labels: BTreeMap<JobName, NodeLabel>,
});
