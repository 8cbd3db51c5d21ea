//! Tells the lab's people of changes that do not merge. The review server tells its own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::buildset::BuildsetReport;
use crate::error::Result;
use crate::traits::{Alerter, Reporter};
use crate::verdict::Verdict;

/// A reporter beside those of the review, so that an alert is as durable as a report: it is tried again for days, and
/// not sent again when it is another reporter that is away.
pub(super) struct MergeConflictAlert {
    pub(super) alerter: Option<Arc<dyn Alerter>>,
}

#[async_trait]
impl Reporter for MergeConflictAlert {
    async fn deliver(&self, report: &BuildsetReport) -> Result<()> {
        let results = report.results.iter().filter(|result| result.verdict == Verdict::MergeConflict);
        let lines: Vec<String> = results
            .map(|result| {
                let reason = result.reason.as_deref().unwrap_or("it does not merge");
                format!("{}: {reason}", result.job.name)
            })
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        let (target, project) = (report.target(), &report.change.project);
        tracing::warn!(patchset = %target, %project, "not tested, because of a merge conflict: {}", lines.join("; "));
        let Some(alerter) = &self.alerter else { return Ok(()) };
        let url = report.change.url.as_deref().unwrap_or("-");
        let text = format!(
            "Change {target} of {project} was not tested, because of a merge conflict:\n\n{}\n\n{url}\n\n\
             Once the conflict is solved, a new patch set or `pushbutton-bin rerun {}` tests it.\n",
            lines.join("\n"),
            report.change.number,
        );
        alerter.alert(&format!("merge conflict of change {target}"), &text).await
    }

    fn name(&self) -> &'static str {
        "merge conflict alert"
    }
}
