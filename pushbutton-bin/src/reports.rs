//! `reports`: results that could not be posted on the review, and what a person decides about them.

use std::fmt::Write as _;

use pushbutton_core::{BuildsetId, Queue, Settlement, UndeliveredReport, UndeliveredReports};

use crate::assemble::QueueBackend;
use crate::cli::{ReportsCommand, Selection};
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{print, sanitize};
use crate::selection;

/// Lists undelivered reports, delivers them again, or drops them.
pub(crate) async fn run(config: &Config, command: ReportsCommand) -> anyhow::Result<Exit> {
    let (_store, backend) = QueueBackend::open(config).await?;
    let (queue, reports) = (backend.queue.as_ref(), backend.undelivered.as_ref());
    let exit = match command {
        ReportsCommand::List { last, json: false } => {
            print(page(&reports.list_undelivered(last).await?).trim_end());
            Exit::Ok
        }
        ReportsCommand::List { last, json: true } => {
            for report in reports.list_undelivered(last).await? {
                print(serde_json::to_string(&report)?);
            }
            Exit::Ok
        }
        ReportsCommand::Retry(ids) => each(queue, reports, ids, Settlement::RetryReport).await?,
        ReportsCommand::Drop(ids) => each(queue, reports, ids, Settlement::DropReport).await?,
    };
    backend.close().await;
    Ok(exit)
}

async fn each(
    queue: &dyn Queue,
    reports: &dyn UndeliveredReports,
    which: Selection,
    settlement: Settlement,
) -> anyhow::Result<Exit> {
    let list = async |limit| {
        let listed = reports.list_undelivered(limit).await?.into_iter();
        Ok(listed.map(|undelivered| undelivered.report.id.to_string()).collect())
    };
    let act = async |id: &str| {
        // What cannot be an id is none of a report.
        let Ok(id) = BuildsetId::new(id) else { return Ok(false) };
        match settlement {
            Settlement::RetryReport => reports.retry_undelivered(&id).await,
            _ => reports.drop_undelivered(&id).await,
        }
    };
    selection::each(queue, settlement, which, list, act).await
}

/// Each report with its id, its results and why it is here.
pub(crate) fn page(reports: &[UndeliveredReport]) -> String {
    if reports.is_empty() {
        return "no undelivered reports".into();
    }
    let mut page = String::new();
    for UndeliveredReport { report, why, at, .. } in reports {
        let at = at.map_or("-".to_owned(), |at| at.strftime("%F %T").to_string());
        let (results, why) = (sanitize(&report.summary()), sanitize(why));
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{}  {at}  {}: {results}\n    {why}", report.id, report.target());
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pushbutton_core::memory::MemoryQueue;
    use pushbutton_core::{JobFilter, Queue as _, samples};

    use super::*;

    async fn with_undelivered(n: usize) -> MemoryQueue {
        let queue = MemoryQueue::default();
        for change in 0..n {
            queue.publish(&samples::job_on(change as u64, "tempest")).await.unwrap();
            let claim = queue.claim(&JobFilter::any()).await.unwrap();
            claim.complete(&samples::success(claim.job())).await.unwrap();
            let delivery = queue.claim_report().await.unwrap();
            delivery.give_up("gerrit: no such \x1b[2J change", &BTreeSet::new()).await.unwrap();
        }
        queue
    }

    #[tokio::test]
    async fn a_report_is_shown_with_the_id_that_the_other_commands_take() {
        let queue = with_undelivered(1).await;
        let page = page(&queue.list_undelivered(9).await.unwrap());
        assert!(page.contains("0,2: tempest SUCCESS\n    gerrit: no such \u{fffd}[2J change"), "{page}");
        let these = |id: &str| Selection { ids: vec![id.to_owned()], all: false };
        let id = page.split(' ').next().unwrap();
        assert_eq!(each(&queue, &queue, these(id), Settlement::RetryReport).await.unwrap(), Exit::Ok);
        let depth = queue.depth().await.unwrap();
        assert_eq!((depth.reports, depth.undelivered), (1, 0));
        assert_eq!(each(&queue, &queue, these(id), Settlement::DropReport).await.unwrap(), Exit::NotFound);
        assert_eq!(
            each(&queue, &queue, these("no id"), Settlement::DropReport).await.unwrap(),
            Exit::NotFound
        );
    }

    #[tokio::test]
    async fn all_is_every_report_however_many_there_are() {
        for (action, due) in [(Settlement::DropReport, 0), (Settlement::RetryReport, selection::BATCH + 1)] {
            let queue = with_undelivered(selection::BATCH + 1).await;
            let all = Selection { ids: Vec::new(), all: true };
            assert_eq!(each(&queue, &queue, all, action).await.unwrap(), Exit::Ok);
            let depth = queue.depth().await.unwrap();
            assert_eq!((depth.undelivered, depth.reports), (0, due as u64));
        }
    }
}
