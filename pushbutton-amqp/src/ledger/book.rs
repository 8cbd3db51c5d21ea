//! The ledger as one participant has read it. No input, no output.

use std::collections::{HashSet, VecDeque};

use pushbutton_core::Position;

use super::page::{Key, Page};
use crate::record::Mark;

/// How many events are remembered. Gerrit is asked for what came after the position, some minutes or hours ago; and never so few
/// that an event is forgotten while the record still remembers its jobs (10,000), or a comment could be taken for an earlier one.
pub(super) const SEEN: usize = 50_000;

/// Seen events, the newest of them in the order of the stream, and the position.
#[derive(Debug, Default)]
pub(crate) struct Book {
    seen: HashSet<Key>,
    /// Each with the place of the page that told of it.
    order: VecDeque<(u64, Key)>,
    position: Option<Position>,
}

impl Book {
    pub(crate) fn has_seen(&self, event: Key) -> bool {
        self.seen.contains(&event)
    }

    pub(crate) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether that position would be a step forward.
    pub(crate) fn is_behind(&self, position: &Position) -> bool {
        self.position.as_ref().is_none_or(|known| known < position)
    }

    /// Takes a page in; says of each of its events whether it is new.
    pub(crate) fn enter(&mut self, offset: u64, page: &Page) -> Vec<bool> {
        if let Some(position) = page.position.as_ref().filter(|position| self.is_behind(position)) {
            self.position = Some(position.clone());
        }
        match page.whole {
            Some(as_of) => {
                // What its writer had read and does not tell of, it had forgotten. What came later goes behind.
                let mut later = std::mem::take(&mut self.order);
                later.retain(|(offset, _)| *offset > as_of);
                self.seen.clear();
                let told = page.seen.iter().map(|key| (as_of, *key));
                for (offset, key) in told.chain(later) {
                    self.insert(offset, key);
                }
                Vec::new()
            }
            None => page.seen.iter().map(|key| self.insert(offset, *key)).collect(),
        }
    }

    fn insert(&mut self, offset: u64, key: Key) -> bool {
        if !self.seen.insert(key) {
            return false;
        }
        self.order.push_back((offset, key));
        if self.order.len() > SEEN {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.seen.remove(&oldest);
            }
        }
        true
    }

    /// All of it as one page, for those who come later.
    pub(crate) fn whole(&self, as_of: u64) -> Page {
        let seen = self.order.iter().map(|(_, key)| *key).collect();
        Page { mark: Mark::new(), seen, position: self.position.clone(), whole: Some(as_of) }
    }

    /// What this one knows and the other does not, if anything.
    pub(crate) fn beyond(&self, other: &Self) -> Option<Page> {
        let seen: Vec<_> =
            self.order.iter().map(|(_, key)| *key).filter(|key| !other.has_seen(*key)).collect();
        let position = self.position.clone().filter(|position| other.is_behind(position));
        (!seen.is_empty() || position.is_some()).then(|| Page { seen, position, ..Page::blank() })
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use pushbutton_core::samples;

    use super::*;

    fn page(seen: impl IntoIterator<Item = u128>, position: Option<i64>) -> Page {
        let position = position.map(|at| Position::at(samples::AT + SignedDuration::from_secs(at)));
        Page { seen: seen.into_iter().map(Key).collect(), position, ..Page::blank() }
    }

    fn keys(book: &Book) -> Vec<u128> {
        book.order.iter().map(|(_, key)| key.0).collect()
    }

    #[test]
    fn an_event_is_new_once_and_a_position_never_goes_back() {
        let mut book = Book::default();
        assert_eq!(book.enter(0, &page([1, 2, 1], Some(20))), [true, true, false]);
        assert_eq!(book.enter(1, &page([2, 3], Some(10))), [false, true]);
        assert_eq!(book.position(), page([], Some(20)).position.as_ref());
        assert!(book.has_seen(Key(3)) && !book.has_seen(Key(4)));
    }

    #[test]
    fn who_begins_at_a_whole_comes_to_the_same() {
        let mut all = Book::default();
        all.enter(0, &page([1, 2], Some(1)));
        all.enter(1, &page([3], None));
        let whole = all.whole(1);
        // Somebody wrote on while it was on its way.
        all.enter(2, &page([4], Some(2)));
        all.enter(3, &whole);
        all.enter(4, &page([5], None));
        // The broker has dropped the first page: only a part of what was before the whole is read.
        let mut late = Book::default();
        late.enter(1, &page([3], None));
        late.enter(2, &page([4], Some(2)));
        late.enter(3, &whole);
        late.enter(4, &page([5], None));
        assert_eq!((keys(&all), all.position()), (vec![1, 2, 3, 4, 5], late.position()));
        assert_eq!(keys(&all), keys(&late));
        assert_eq!(all.seen, late.seen);
    }

    #[test]
    fn the_newest_are_remembered_and_a_whole_brings_no_forgotten_one_back() {
        let many = SEEN as u128;
        let mut book = Book::default();
        book.enter(0, &page(0..10, None));
        book.enter(1, &page(10..many + 10, None));
        assert_eq!((book.seen.len(), book.order.len()), (SEEN, SEEN));
        assert!(!book.has_seen(Key(9)) && book.has_seen(Key(10)) && book.has_seen(Key(many + 9)));
        // A reader that still finds the first page comes to the same.
        let mut late = Book::default();
        late.enter(0, &page(0..10, None));
        late.enter(2, &book.whole(1));
        assert_eq!(keys(&late), keys(&book));
    }

    #[test]
    fn what_a_broker_has_lost_is_found() {
        let (mut mine, mut theirs) = (Book::default(), Book::default());
        mine.enter(0, &page([1, 2, 3], Some(5)));
        theirs.enter(0, &page([1, 4], Some(4)));
        let lost = mine.beyond(&theirs).unwrap();
        assert_eq!((lost.seen, lost.position), (vec![Key(2), Key(3)], page([], Some(5)).position));
        assert_eq!(Book::default().beyond(&theirs), None);
    }

    #[test]
    fn a_page_is_written_as_it_is_read() {
        let page = page([7, u128::MAX], Some(3));
        let text = serde_json::to_string(&page).unwrap();
        assert_eq!(serde_json::from_str::<Page>(&text).unwrap(), page);
        assert!(serde_json::from_str::<Page>(&text.replace("00000007", "0000007")).is_err());
    }
}
