//! `dead`: jobs that nobody will run, and what a person decides about them.

use std::fmt::Write as _;

use pushbutton_core::{DeadLetter, DeadLetters, Queue, Settlement};

use crate::assemble::QueueBackend;
use crate::cli::{DeadCommand, Selection};
use crate::config::Config;
use crate::exit::Exit;
use crate::print::{print, sanitize};
use crate::selection;

/// Lists dead letters, requeues them, or drops them.
pub(crate) async fn run(config: &Config, command: DeadCommand) -> anyhow::Result<Exit> {
    let (_store, backend) = QueueBackend::open(config).await?;
    let (queue, letters) = (backend.queue.as_ref(), backend.dead_letters.as_ref());
    let exit = match command {
        DeadCommand::List { last } => {
            print(page(&letters.list(last).await?).trim_end());
            Exit::Ok
        }
        DeadCommand::Requeue(ids) => each(queue, letters, ids, Settlement::RequeueJob).await?,
        DeadCommand::Drop(ids) => each(queue, letters, ids, Settlement::DropJob).await?,
    };
    backend.close().await;
    Ok(exit)
}

async fn each(
    queue: &dyn Queue,
    letters: &dyn DeadLetters,
    which: Selection,
    settlement: Settlement,
) -> anyhow::Result<Exit> {
    let list = async |limit| {
        let listed = letters.list(limit).await?.into_iter();
        Ok(listed.map(|letter| letter.id).collect())
    };
    let act = async |id: &str| match settlement {
        Settlement::RequeueJob => letters.requeue(id).await,
        _ => letters.remove(id).await,
    };
    selection::each(queue, settlement, which, list, act).await
}

/// Each letter with its id, its job and why it is here.
pub(crate) fn page(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "no dead letters".into();
    }
    let mut page = String::new();
    for letter in letters {
        let what = letter
            .job
            .as_ref()
            .map_or("(unreadable)".to_owned(), |job| format!("{}/{}", job.target(), job.name));
        let at = letter.at.map_or("-".to_owned(), |at| at.strftime("%F %T").to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{}  {at}  {what}\n    {}", sanitize(&letter.id), sanitize(&letter.why));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pushbutton_core::memory::MemoryQueue;
    use pushbutton_core::{JobFilter, Queue as _, samples};

    use super::*;

    async fn with_dead_letters(n: u64) -> (MemoryQueue, String) {
        let queue = MemoryQueue::with_lease(Duration::from_secs(60));
        for change in 0..n {
            queue.publish(&samples::job_on(change, "tempest")).await.unwrap();
            let claim = queue.claim(&JobFilter::any()).await.unwrap();
            claim.reject("no such \x1b[2J flavor").await.unwrap();
        }
        let id = queue.list(1).await.unwrap().remove(0).id;
        (queue, id)
    }

    fn these(ids: &[&str]) -> Selection {
        Selection { ids: ids.iter().map(ToString::to_string).collect(), all: false }
    }

    #[tokio::test]
    async fn a_letter_is_shown_with_the_id_that_the_other_commands_take() {
        let (queue, id) = with_dead_letters(1).await;
        let page = page(&queue.list(9).await.unwrap());
        assert!(page.starts_with(&id) && page.contains("0,2/tempest"), "{page}");
        assert!(page.contains("no such \u{fffd}[2J flavor"), "{page}");
    }

    #[tokio::test]
    async fn a_letter_is_requeued_once() {
        let (queue, id) = with_dead_letters(1).await;
        assert_eq!(each(&queue, &queue, these(&[&id]), Settlement::RequeueJob).await.unwrap(), Exit::Ok);
        assert_eq!(queue.depth().await.unwrap().waiting, 1);
        assert_eq!(
            each(&queue, &queue, these(&[&id]), Settlement::RequeueJob).await.unwrap(),
            Exit::NotFound
        );
    }

    #[tokio::test]
    async fn all_is_every_letter_however_many_there_are() {
        for (action, waiting) in
            [(Settlement::DropJob, 0), (Settlement::RequeueJob, selection::BATCH as u64 + 1)]
        {
            let (queue, _) = with_dead_letters(selection::BATCH as u64 + 1).await;
            let all = Selection { ids: Vec::new(), all: true };
            assert_eq!(each(&queue, &queue, all, action).await.unwrap(), Exit::Ok);
            let depth = queue.depth().await.unwrap();
            assert_eq!((depth.dead, depth.waiting), (0, waiting));
        }
    }
}
