//! Who commented and voted on a patch set, read from a query reply. Pure.
//!
//! A query shows a comment that was written in the web UI apart from the message that it came with, and without a
//! time: the message says only `(1 comment)`. Such an undated comment is assigned to a message by counting, or by its
//! time if REST has it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use pushbutton_core::{Account, Approval, PatchsetNumber};

use crate::client::rest_comments::CommentTime;
use crate::comment_text::split_header;
use crate::raw_event::{self, Texts, seconds};
use crate::wire::{PATCHSET_LEVEL, WireChange, WirePatchset};

/// One review by one person: texts, votes, or both.
pub(super) struct ReviewAction<'a> {
    pub(super) at: Timestamp,
    pub(super) author: Account,
    pub(super) texts: Texts<'a>,
    pub(super) votes: Vec<Approval>,
}

/// A message on a patch set.
pub(super) struct Message<'a> {
    at: Timestamp,
    author: Account,
    text: &'a str,
    /// How many comments came with it, those on files included.
    inline: usize,
}

/// The messages of people on a change, by patch set.
pub(super) fn messages<'a>(change: &'a WireChange<'_>) -> HashMap<PatchsetNumber, Vec<Message<'a>>> {
    let mut messages: HashMap<_, Vec<_>> = HashMap::new();
    for message in change.comments.iter() {
        let parts = split_header(message.message.as_str());
        let (Some(patchset), Some(at)) = (parts.patchset, seconds(message.timestamp.0)) else { continue };
        let author = raw_event::account(message.reviewer.as_ref());
        let message = Message { at, author, text: parts.text, inline: parts.inline };
        messages.entry(PatchsetNumber(patchset)).or_default().push(message);
    }
    messages
}

/// Whether a message since then came with comments, which the reply shows without a time.
pub(super) fn has_undated_comments(change: &WireChange<'_>, since: Timestamp) -> bool {
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
    /// The undated comments on the patch set as a whole, oldest first.
    comments: Vec<&'a str>,
    /// How many undated comments on files there are.
    on_files: usize,
    /// Votes by the second in which they were given.
    votes: BTreeMap<i64, Vec<Approval>>,
}

/// Times of comments by patch set and author, oldest first.
pub(super) type TimesByAuthor<'a> = HashMap<(PatchsetNumber, &'a str), Vec<&'a CommentTime>>;

pub(super) fn times_by_author(times: &[CommentTime]) -> TimesByAuthor<'_> {
    let mut sorted: TimesByAuthor<'_> = HashMap::new();
    for comment in times {
        sorted.entry((comment.patchset, comment.author.handle())).or_default().push(comment);
    }
    for comments in sorted.values_mut() {
        comments.sort_by_key(|comment| comment.at);
    }
    sorted
}

/// The reviews of a patch set. `times` is the answer of REST, if there is one.
pub(super) fn review_actions<'a>(
    patchset: &'a WirePatchset<'_>,
    number: PatchsetNumber,
    messages: Vec<Message<'a>>,
    times: Option<&TimesByAuthor<'_>>,
) -> Vec<ReviewAction<'a>> {
    let mut actions = Vec::new();
    for mut person in people(patchset, messages).into_values() {
        let mut add = |at, texts, votes| {
            actions.push(ReviewAction { at, author: person.account.clone(), texts, votes });
        };
        let times = times.and_then(|times| person_times(&person, number, times));
        let assigned = match &times {
            Some(times) => assign_by_time(&person, times),
            None => assign_by_count(
                &person.messages.iter().collect::<Vec<_>>(),
                &person.comments,
                person.on_files,
            ),
        };
        for (message, comments) in person.messages.iter().zip(assigned.comments) {
            let votes = person.votes.remove(&message.at.as_second()).unwrap_or_default();
            add(message.at, Texts::new(message.text, &comments), votes);
        }
        for (at, comments) in assigned.separate {
            add(at, Texts::new("", &comments), Vec::new());
        }
        for (at, votes) in std::mem::take(&mut person.votes) {
            if let Some(at) = seconds(Some(at)) {
                add(at, Texts::default(), votes);
            }
        }
    }
    actions
}

/// Ordered, so that their order is always the same.
type People<'a> = BTreeMap<PersonKey, Person<'a>>;

/// Login, address, full name. All of them: somebody's full name may be another one's login.
type PersonKey = (Option<String>, Option<String>, Option<String>);

fn person_key(account: &Account) -> PersonKey {
    (account.username.clone(), account.email.clone(), account.name.clone())
}

fn person_of<'p, 'a>(people: &'p mut People<'a>, account: Account) -> &'p mut Person<'a> {
    people.entry(person_key(&account)).or_insert_with(|| Person { account, ..Person::default() })
}

fn people<'a>(patchset: &'a WirePatchset<'_>, messages: Vec<Message<'a>>) -> People<'a> {
    let mut people = People::new();
    for message in messages {
        person_of(&mut people, message.author.clone()).messages.push(message);
    }
    for comment in patchset.comments.iter() {
        let person = person_of(&mut people, raw_event::account(comment.reviewer.as_ref()));
        match comment.file.as_str() {
            PATCHSET_LEVEL => person.comments.push(comment.message.as_str()),
            _ => person.on_files += 1,
        }
    }
    let created = patchset.created_on.0;
    for vote in patchset.approvals.iter() {
        // A vote that is older than its patch set was copied from an earlier one, and is not new.
        let granted = vote.granted_on.0.filter(|granted| created.is_none_or(|created| created <= *granted));
        if let (Some(granted), Some(approval)) = (granted, raw_event::approval(vote)) {
            let person = person_of(&mut people, raw_event::account(vote.by.as_ref()));
            person.votes.entry(granted).or_default().push(approval);
        }
    }
    people
}

/// When a person's comments were written: those on the patch set, in their order, and those on files.
struct PersonTimes {
    comments: Vec<Timestamp>,
    on_files: Vec<Timestamp>,
}

/// None if REST does not know all of the comments: without a login it may see less.
fn person_times(
    person: &Person<'_>,
    number: PatchsetNumber,
    times: &TimesByAuthor<'_>,
) -> Option<PersonTimes> {
    let own = times.get(&(number, person.account.handle())).map_or(&[][..], Vec::as_slice);
    let mut on_files = Vec::new();
    let mut by_text: HashMap<&str, VecDeque<Timestamp>> = HashMap::new();
    for comment in own {
        match &comment.text {
            Some(text) => by_text.entry(text).or_default().push_back(comment.at),
            None => on_files.push(comment.at),
        }
    }
    let comments =
        person.comments.iter().map(|text| by_text.get_mut(text)?.pop_front()).collect::<Option<_>>()?;
    Some(PersonTimes { comments, on_files })
}

/// Undated comments, assigned.
struct Assigned<'a> {
    /// For each message, its comments.
    comments: Vec<Vec<&'a str>>,
    /// Comments that could not be assigned for certain, with their latest possible time.
    separate: Vec<(Timestamp, Vec<&'a str>)>,
}

/// Assigns a person's comments to the messages of the same second; several messages within one second are told apart
/// by counting.
fn assign_by_time<'a>(person: &Person<'a>, times: &PersonTimes) -> Assigned<'a> {
    #[derive(Default)]
    struct Second<'a> {
        messages: Vec<usize>,
        comments: Vec<&'a str>,
        on_files: usize,
    }
    let mut by_second: BTreeMap<i64, Second<'_>> = BTreeMap::new();
    for (index, message) in person.messages.iter().enumerate() {
        by_second.entry(message.at.as_second()).or_default().messages.push(index);
    }
    for (text, at) in person.comments.iter().zip(&times.comments) {
        by_second.entry(at.as_second()).or_default().comments.push(text);
    }
    for at in &times.on_files {
        by_second.entry(at.as_second()).or_default().on_files += 1;
    }
    let mut assigned = Assigned { comments: vec![Vec::new(); person.messages.len()], separate: Vec::new() };
    for (at, second) in by_second {
        let messages: Vec<&Message<'_>> =
            second.messages.iter().map(|&index| &person.messages[index]).collect();
        if messages.is_empty() {
            assigned.separate.extend(seconds(Some(at)).map(|at| (at, second.comments)));
            continue;
        }
        let in_second = assign_by_count(&messages, &second.comments, second.on_files);
        for (message, comments) in second.messages.into_iter().zip(in_second.comments) {
            assigned.comments[message] = comments;
        }
        assigned.separate.extend(in_second.separate);
    }
    assigned
}

/// Assigns a person's comments on the patch set (oldest first, without times) to the messages that say `(k comments)`.
///
/// Only the number of comments of each message is known, and it includes those on files, whose order among the others
/// is unknown. So a comment has an earliest message, if all comments on files came after it, and a latest one, if all
/// came before it. If both are the same message, it is certain.
///
/// Example: bob's messages say `(1 comment)` at 10:00, `(2 comments)` at 10:05 and `(1 comment)` at 10:10. He has
/// written `A`, `B` and `C` on the patch set, and one comment on a file. The messages hold the comments 1, 2-3 and 4,
/// so `A` is comment 1 or 2 (10:00 or 10:05), `B` is 2 or 3 (10:05 for certain), `C` is 3 or 4 (10:05 or 10:10). `B`
/// goes with the message of 10:05; `A` becomes a separate comment at 10:05, and `C` one at 10:10.
fn assign_by_count<'a>(messages: &[&Message<'_>], comments: &[&'a str], on_files: usize) -> Assigned<'a> {
    let mut assigned = Assigned { comments: vec![Vec::new(); messages.len()], separate: Vec::new() };
    // How many comments there were after each message.
    let mut totals = Vec::with_capacity(messages.len());
    let mut total = 0_usize;
    for message in messages {
        total = total.saturating_add(message.inline);
        totals.push(total);
    }
    let adds_up = total == comments.len() + on_files;
    // The message that holds the n-th comment.
    let message_of = |nth: usize| {
        let index = totals.partition_point(|&total| total < nth);
        (index < messages.len()).then_some(index)
    };
    let last_with_comments = messages.iter().rposition(|message| message.inline > 0);
    for (index, &text) in comments.iter().enumerate() {
        let (earliest, latest) = (message_of(index + 1), message_of(index + 1 + on_files));
        match (earliest, latest) {
            (Some(first), Some(last)) if first == last && adds_up => assigned.comments[first].push(text),
            _ => {
                let message = latest.or(last_with_comments).or(messages.len().checked_sub(1));
                assigned.separate.extend(message.map(|message| (messages[message].at, vec![text])));
            }
        }
    }
    assigned
}
