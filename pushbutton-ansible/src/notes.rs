//! What pushbutton itself says in the console log.

use pushbutton_core::{HumanDuration, Stage, StageContext, StageOutcome};

pub(crate) fn header(stage: &Stage, context: &StageContext) -> String {
    format!(
        "pushbutton: stage {} begins: {} of job {} for {} ({}), run {}, attempt {}",
        stage.name,
        stage.playbook,
        context.job.name,
        context.job.target(),
        context.job.patchset.revision,
        context.run,
        context.attempt,
    )
}

pub(crate) fn footer(stage: &Stage, outcome: &StageOutcome) -> String {
    let mut text = format!(
        "pushbutton: stage {} ended: {:?} in {}",
        stage.name,
        outcome.status,
        HumanDuration(outcome.took)
    );
    if let Some(detail) = &outcome.detail {
        text.push_str(": ");
        text.push_str(detail);
    }
    if let Some(tests) = outcome.tests {
        text.push_str(&format!(
            "; tests: {} passed, {} failed, {} skipped",
            tests.passed, tests.failed, tests.skipped
        ));
    }
    text
}
