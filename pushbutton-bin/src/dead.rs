//! `dead`: what nobody will run, and what a person decides about it.

use std::fmt::Write as _;

use pushbutton_core::{DeadLetter, Queue};

use crate::assemble;
use crate::cli::{DeadCommand, Letters};
use crate::config::Config;
use crate::exit::Exit;
use crate::out::{clean, count, say};

/// So many at a time, when all are meant.
const PAGE: usize = 1000;

/// Lists dead letters, puts them back, or drops them.
pub(crate) async fn run(config: &Config, command: DeadCommand) -> anyhow::Result<Exit> {
    let store = assemble::store(config).await?;
    let carrier = assemble::queue(config, &store).await?;
    let queue = carrier.shared();
    assemble::reach_queue(config, queue.as_ref(), assemble::PATIENCE).await?;
    let exit = match command {
        DeadCommand::List { last } => {
            say(page(&queue.dead_letters(last).await?).trim_end());
            Exit::Ok
        }
        DeadCommand::Requeue(letters) => each(queue.as_ref(), letters, What::Requeue).await?,
        DeadCommand::Drop(letters) => each(queue.as_ref(), letters, What::Drop).await?,
    };
    carrier.close().await;
    Ok(exit)
}

#[derive(Clone, Copy)]
enum What {
    Requeue,
    Drop,
}

/// Does it to each letter; those that are not there, or cannot be read, are named and change the exit code.
async fn each(queue: &dyn Queue, letters: Letters, what: What) -> anyhow::Result<Exit> {
    let ids = if letters.all {
        queue.dead_letters(PAGE).await?.into_iter().map(|letter| letter.id).collect()
    } else {
        letters.ids
    };
    let (mut done, mut exit) = (0_u64, Exit::Ok);
    for id in ids {
        let result = match what {
            What::Requeue => queue.requeue_dead_letter(&id).await,
            What::Drop => queue.drop_dead_letter(&id).await,
        };
        match result {
            Ok(true) => done += 1,
            Ok(false) => {
                say(format!("{}: no such dead letter; `pushbutton-bin dead list` shows them", clean(&id)));
                exit = Exit::NotFound;
            }
            Err(error) if !error.is_temporary() => {
                say(format!("{}: {error}", clean(&id)));
                exit = Exit::Unexpected;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let verb = match what {
        What::Requeue => "put back on the queue",
        What::Drop => "dropped",
    };
    say(format!("{} {verb}", count(done, "job")));
    Ok(exit)
}

fn page(letters: &[DeadLetter]) -> String {
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
        let _ = writeln!(page, "{}  {at}  {what}\n    {}", clean(&letter.id), clean(&letter.why));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pushbutton_core::memory::MemoryQueue;
    use pushbutton_core::samples;

    use super::*;

    async fn with_a_dead_letter() -> (MemoryQueue, String) {
        let queue = MemoryQueue::with_lease(Duration::from_secs(60));
        queue.publish(&samples::job("tempest")).await.unwrap();
        queue.claim().await.unwrap().reject("no such \x1b[2J flavor").await.unwrap();
        let id = queue.dead_letters(1).await.unwrap().remove(0).id;
        (queue, id)
    }

    fn these(ids: &[&str]) -> Letters {
        Letters { ids: ids.iter().map(ToString::to_string).collect(), all: false }
    }

    #[tokio::test]
    async fn a_letter_is_shown_with_the_name_that_the_other_commands_take() {
        let (queue, id) = with_a_dead_letter().await;
        let page = page(&queue.dead_letters(9).await.unwrap());
        assert!(page.starts_with(&id) && page.contains("12345,2/tempest"), "{page}");
        assert!(page.contains("no such \u{fffd}[2J flavor"), "{page}");
    }

    #[tokio::test]
    async fn a_letter_is_put_back_once() {
        let (queue, id) = with_a_dead_letter().await;
        assert_eq!(each(&queue, these(&[&id]), What::Requeue).await.unwrap(), Exit::Ok);
        assert_eq!(queue.depth().await.unwrap().waiting, 1);
        assert_eq!(each(&queue, these(&[&id]), What::Requeue).await.unwrap(), Exit::NotFound);
    }

    #[tokio::test]
    async fn all_means_all_that_are_there() {
        let (queue, _) = with_a_dead_letter().await;
        let all = Letters { ids: Vec::new(), all: true };
        assert_eq!(each(&queue, all, What::Drop).await.unwrap(), Exit::Ok);
        let depth = queue.depth().await.unwrap();
        assert_eq!((depth.dead, depth.waiting), (0, 0));
    }
}
