//! Who said and voted what on a patch set, from a query's reply: pure.
//!
//! Texts that were typed in the web UI stand apart from the messages that they came with (`(1 comment)`), and have no time. Which message it
//! was follows from the counts, or, where REST told the times, from those.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use pushbutton_core::{Account, Approval, PatchsetNumber};

use crate::comment_text::take_apart;
use crate::convert::{self, PATCHSET_LEVEL, seconds};
use crate::web_reply::Written;
use crate::wire::{WireChange, WirePatchset};

/// One review by one person: a text, votes, or both.
pub(crate) struct Deed {
    pub(crate) at: Timestamp,
    pub(crate) author: Account,
    pub(crate) text: String,
    pub(crate) votes: Vec<Approval>,
}

/// A message on a patch set.
pub(crate) struct Message<'a> {
    at: Timestamp,
    author: Account,
    text: &'a str,
    inline: usize,
}

/// The messages of people on a change, by patch set.
pub(crate) fn messages<'a>(change: &'a WireChange<'_>) -> HashMap<PatchsetNumber, Vec<Message<'a>>> {
    let mut messages: HashMap<_, Vec<_>> = HashMap::new();
    for message in &change.comments {
        let parts = take_apart(message.message.as_str());
        let (Some(of), Some(at)) = (parts.patchset, seconds(message.timestamp.0)) else { continue };
        let author = convert::account(message.reviewer.as_ref());
        let message = Message { at, author, text: parts.text, inline: parts.inline };
        messages.entry(PatchsetNumber(of)).or_default().push(message);
    }
    messages
}

/// Whether texts came with messages since then, of which the reply does not tell with which.
pub(crate) fn has_loose_texts(change: &WireChange<'_>, since: Timestamp) -> bool {
    messages(change)
        .values()
        .flatten()
        .any(|message| message.inline > 0 && message.at.as_second() >= since.as_second())
}

/// Everything that one person did on a patch set.
#[derive(Default)]
struct Person<'a> {
    account: Account,
    messages: Vec<Message<'a>>,
    /// Texts on the patch set as a whole, oldest first.
    whole: Vec<&'a str>,
    /// How many comments on files.
    on_files: usize,
    /// Votes by the second in which they were given.
    votes: BTreeMap<i64, Vec<Approval>>,
}

/// What REST told of the comments on a change.
pub(crate) type ByAuthor<'a> = HashMap<(PatchsetNumber, &'a str), Vec<&'a Written>>;

/// Sorts it by patch set and author, oldest first.
pub(crate) fn by_author(written: &[Written]) -> ByAuthor<'_> {
    let mut sorted: ByAuthor<'_> = HashMap::new();
    for comment in written {
        sorted.entry((comment.patchset, comment.author.handle())).or_default().push(comment);
    }
    for comments in sorted.values_mut() {
        comments.sort_by_key(|comment| comment.at);
    }
    sorted
}

/// What was done on this patch set. `written` is there if REST was asked.
pub(crate) fn deeds<'a>(
    patchset: &'a WirePatchset<'_>,
    number: PatchsetNumber,
    messages: Vec<Message<'a>>,
    written: Option<&ByAuthor<'_>>,
) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for mut person in people(patchset, messages) {
        let times = written.and_then(|written| times(&person, number, written));
        let (joined, apart) = match &times {
            Some(times) => assign_by_time(&person, times),
            None => assign(&person.messages.iter().collect::<Vec<_>>(), &person.whole, person.on_files),
        };
        for (message, text) in person.messages.iter().zip(joined) {
            // The stream shows the words on the patch set, and the message's own only where there are none.
            let text = if text.is_empty() { message.text.to_owned() } else { text };
            let votes = person.votes.remove(&message.at.as_second()).unwrap_or_default();
            deeds.push(Deed { at: message.at, author: person.account.clone(), text, votes });
        }
        for (at, text) in apart {
            deeds.push(Deed { at, author: person.account.clone(), text, votes: Vec::new() });
        }
        for (at, votes) in person.votes {
            let Some(at) = seconds(Some(at)) else { continue };
            deeds.push(Deed { at, author: person.account.clone(), text: String::new(), votes });
        }
    }
    deeds
}

fn people<'a>(patchset: &'a WirePatchset<'_>, messages: Vec<Message<'a>>) -> Vec<Person<'a>> {
    let (mut people, mut known): (Vec<Person<'a>>, HashMap<String, usize>) = Default::default();
    let mut place = |account: &Account, people: &mut Vec<Person<'a>>| {
        *known.entry(account.handle().to_owned()).or_insert_with(|| {
            people.push(Person { account: account.clone(), ..Person::default() });
            people.len() - 1
        })
    };
    for message in messages {
        let at = place(&message.author, &mut people);
        people[at].messages.push(message);
    }
    for comment in &patchset.comments {
        let at = place(&convert::account(comment.reviewer.as_ref()), &mut people);
        match comment.file.as_str() {
            PATCHSET_LEVEL => people[at].whole.push(comment.message.as_str()),
            _ => people[at].on_files += 1,
        }
    }
    let created = patchset.created_on.0;
    for vote in &patchset.approvals {
        let (Some(granted), Some(approval)) = (vote.granted_on.0, convert::approval(vote)) else { continue };
        // A vote that is older than its patch set was copied from the one before: nobody has just given it.
        if created.is_none_or(|created| created <= granted) {
            let at = place(&convert::account(vote.by.as_ref()), &mut people);
            people[at].votes.entry(granted).or_default().push(approval);
        }
    }
    people
}

/// When a person's comments were written: each text on the patch set, in order, and those on files.
struct Times {
    whole: Vec<Timestamp>,
    on_files: Vec<Timestamp>,
}

/// None where REST does not know all of the texts: it may have been asked by somebody who sees less.
fn times(person: &Person<'_>, number: PatchsetNumber, written: &ByAuthor<'_>) -> Option<Times> {
    let own = written.get(&(number, person.account.handle())).map_or(&[][..], Vec::as_slice);
    let mut on_files = Vec::new();
    let mut by_text: HashMap<&str, VecDeque<Timestamp>> = HashMap::new();
    for written in own {
        match &written.text {
            Some(text) => by_text.entry(text).or_default().push_back(written.at),
            None => on_files.push(written.at),
        }
    }
    let whole = person.whole.iter().map(|text| by_text.get_mut(text)?.pop_front()).collect::<Option<_>>()?;
    Some(Times { whole, on_files })
}

/// A text for each message, in their order, and texts that stand apart.
type Assigned = (Vec<String>, Vec<(Timestamp, String)>);

/// Gives a person's texts to the messages of the same second; within one second the counts decide.
fn assign_by_time(person: &Person<'_>, times: &Times) -> Assigned {
    #[derive(Default)]
    struct Second<'a> {
        messages: Vec<usize>,
        texts: Vec<&'a str>,
        on_files: usize,
    }
    let mut by_second: BTreeMap<i64, Second<'_>> = BTreeMap::new();
    for (at, message) in person.messages.iter().enumerate() {
        by_second.entry(message.at.as_second()).or_default().messages.push(at);
    }
    for (text, at) in person.whole.iter().zip(&times.whole) {
        by_second.entry(at.as_second()).or_default().texts.push(text);
    }
    for at in &times.on_files {
        by_second.entry(at.as_second()).or_default().on_files += 1;
    }
    let (mut joined, mut apart) = (vec![String::new(); person.messages.len()], Vec::new());
    for (at, second) in by_second {
        let messages: Vec<&Message<'_>> = second.messages.iter().map(|&at| &person.messages[at]).collect();
        if messages.is_empty() {
            let whole = convert::cut(second.texts.join("\n").trim()).to_owned();
            apart.extend(seconds(Some(at)).filter(|_| !whole.is_empty()).map(|at| (at, whole)));
            continue;
        }
        let (texts, loose) = assign(&messages, &second.texts, second.on_files);
        for (message, text) in second.messages.into_iter().zip(texts) {
            joined[message] = text;
        }
        apart.extend(loose);
    }
    (joined, apart)
}

/// Gives a person's texts (oldest first, without times) to the messages that say `(k comments)`.
///
/// Of each message only the number of its comments is known, comments on files included. The i-th text lies at the earliest in the
/// message where the count passes i with no file comment before it, at the latest where it does with all of them before it. Where both are
/// the same message it is certain, and the texts of one message are joined as the stream joins them. All others stand apart, at
/// the latest possible time.
fn assign(messages: &[&Message<'_>], whole: &[&str], on_files: usize) -> Assigned {
    let (mut joined, mut apart) = (vec![String::new(); messages.len()], Vec::new());
    let mut reached = Vec::with_capacity(messages.len());
    let mut sum = 0_usize;
    for message in messages {
        sum = sum.saturating_add(message.inline);
        reached.push(sum);
    }
    let complete = sum == whole.len() + on_files;
    let holder = |count: usize| {
        let at = reached.partition_point(|&reached| reached < count);
        (at < messages.len()).then_some(at)
    };
    let last_with_comments = messages.iter().rposition(|message| message.inline > 0);
    for (at, text) in whole.iter().enumerate() {
        let (earliest, latest) = (holder(at + 1), holder(at + 1 + on_files));
        match (earliest, latest) {
            (Some(first), Some(last)) if first == last && complete => {
                if !joined[first].is_empty() {
                    joined[first].push('\n');
                }
                joined[first].push_str(text);
            }
            _ => {
                let message = latest.or(last_with_comments).or(messages.len().checked_sub(1));
                let text = convert::cut(text.trim());
                if let Some(message) = message.filter(|_| !text.is_empty()) {
                    apart.push((messages[message].at, text.to_owned()));
                }
            }
        }
    }
    for text in &mut joined {
        *text = convert::cut(text.trim()).to_owned();
    }
    (joined, apart)
}
