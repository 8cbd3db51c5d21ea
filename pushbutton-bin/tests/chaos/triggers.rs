//! The triggers: real comments on real changes, spread over the time of the faults.

use std::sync::RwLock;
use std::time::Duration;

use pushbutton_testbed::{Change, Gerrit};
use serde_json::json;

use crate::configuration::EVENTS;
use crate::records;
use crate::rng::Rng;
use crate::run_log::RunLog;

/// The delay after a comment that Gerrit refused.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// One comment that triggers two jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    at: Duration,
    /// Which of the changes.
    change: usize,
    event: &'static str,
    by: &'static str,
    /// Typed in the web page: then a query shows it as `(1 comment)`, and its text elsewhere, without a time.
    in_web_ui: bool,
}

/// The number of changes that this number of triggers needs.
pub(crate) fn changes_for(triggers: usize) -> usize {
    triggers.div_ceil(EVENTS.len())
}

/// Comments within the window, each for another pair of change and event.
pub(crate) fn plan(rng: &mut Rng, count: usize, window: Duration) -> Vec<Trigger> {
    let mut pairs: Vec<_> =
        (0..changes_for(count)).flat_map(|change| EVENTS.map(|(event, _)| (change, event))).collect();
    rng.shuffle(&mut pairs);
    let mut trigger = |(change, event)| Trigger {
        at: rng.between(Duration::from_secs(2), window),
        change,
        event,
        by: rng.pick(&["alice", "bob"]),
        in_web_ui: rng.below(2) == 0,
    };
    let mut triggers: Vec<Trigger> = pairs.into_iter().take(count).map(&mut trigger).collect();
    triggers.sort_by_key(|trigger| trigger.at);
    triggers
}

/// Posts the comments one after another, each at its time or as soon as Gerrit accepts it.
pub(crate) fn comment(gerrit: &RwLock<Gerrit>, changes: &[Change], triggers: &[Trigger], log: &RunLog) {
    for trigger in triggers {
        log.wait_until(trigger.at, || {});
        let change = &changes[trigger.change];
        let text = format!("run-{} please", trigger.event);
        let body = if trigger.in_web_ui {
            json!({"comments": {"/PATCHSET_LEVEL": [{"message": text, "unresolved": false}]}})
        } else {
            json!({"message": text})
        };
        let path = format!("/changes/{}/revisions/{}/review", change.number, change.patchset);
        let post = |gerrit: &Gerrit| gerrit.try_rest(trigger.by, "POST", &path, Some(&body)).is_ok();
        let mut posted = post(&gerrit.read().unwrap());
        while !posted && !log.has_ended() {
            log.wait(RETRY_DELAY);
            let gerrit = gerrit.read().unwrap();
            // Gerrit may have accepted it all the same: posted twice, it would be two triggers.
            posted = match records::triggers_on(&gerrit, change) {
                Ok(found) => found.contains_key(trigger.event) || post(&gerrit),
                Err(_) => false,
            };
        }
    }
}
