//! What was published and what was seen of it: numbers without holes and repeats for everybody who looks, and each publish
//! that was acked at one place.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Who looks: the number of a link.
pub(super) type Viewer = usize;

/// The application's feed.
pub(super) const FEED: Viewer = 0;

/// What was found in all conversations, also those forgotten.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// Publishes that were acked.
    pub(super) published: u64,
    /// Of these, those that came back on the feed.
    pub(super) seen: u64,
    /// Numbers that did not come, and acked publishes that did not.
    pub(super) missed: u64,
    /// Numbers that came again, and publishes that are stored twice.
    pub(super) doubled: u64,
}

/// What was seen in one dialog.
#[derive(Debug, Default)]
struct Sights {
    /// The next number of each viewer.
    next: BTreeMap<Viewer, u64>,
    /// Where each of our publishes was seen.
    places: HashMap<u64, u64>,
}

/// The book of one conversation.
#[derive(Debug, Default)]
pub(super) struct Book {
    dialogs: BTreeMap<String, Sights>,
    /// Publishes that were acked and not seen yet, and at which number they are.
    owed: HashMap<u64, Option<u64>>,
    counted: HashSet<u64>,
}

impl Book {
    /// Somebody looks at a dialog from its first number on.
    pub(super) fn look(&mut self, viewer: Viewer, dialog: &str) {
        self.dialogs.entry(dialog.to_owned()).or_default().next.entry(viewer).or_insert(0);
    }

    /// From where a viewer goes on, if it looks at the dialog.
    pub(super) fn next(&self, viewer: Viewer, dialog: &str) -> Option<u64> {
        self.dialogs.get(dialog)?.next.get(&viewer).copied()
    }

    /// A viewer saw a number, and whose publish it is if it is one of ours; whether it was new to the viewer.
    pub(super) fn saw(&mut self, viewer: Viewer, dialog: &str, number: u64, publish: Option<u64>, tally: &mut Tally) -> bool {
        let sights = self.dialogs.entry(dialog.to_owned()).or_default();
        let next = sights.next.entry(viewer).or_insert(0);
        if number < *next {
            tally.doubled += 1;
            return false;
        }
        tally.missed += number - *next;
        *next = number + 1;
        if viewer != FEED {
            return true;
        }
        let Some(publish) = publish else { return true };
        if sights.places.insert(publish, number).is_some() {
            tally.doubled += 1;
        } else if let Some(place) = self.owed.remove(&publish) {
            count(place, number, tally);
        }
        true
    }

    /// A publish was acked, with the number it has if the answer says so.
    pub(super) fn acked(&mut self, publish: u64, number: Option<u64>, tally: &mut Tally) {
        if !self.counted.insert(publish) {
            return;
        }
        tally.published += 1;
        match self.dialogs.values().find_map(|sights| sights.places.get(&publish)) {
            Some(place) => count(number, *place, tally),
            None => drop(self.owed.insert(publish, number)),
        }
    }

    /// Whether everything that was acked was seen, and everybody saw as much as the feed.
    pub(super) fn is_settled(&self) -> bool {
        self.open() == 0
    }

    /// How many publishes and numbers have not been seen that should have been.
    pub(super) fn open(&self) -> u64 {
        let behind = self.dialogs.values().map(|sights| {
            let head = sights.next.values().max().copied().unwrap_or(0);
            sights.next.values().map(|next| head - next).sum::<u64>()
        });
        behind.sum::<u64>() + u64::try_from(self.owed.len()).unwrap_or(u64::MAX)
    }
}

/// A publish that was acked as one number and is at another is not what was acked.
fn count(acked: Option<u64>, place: u64, tally: &mut Tally) {
    if acked.is_none_or(|acked| acked == place) {
        tally.seen += 1;
    } else {
        tally.missed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(published: u64, seen: u64, missed: u64, doubled: u64) -> Tally {
        Tally { published, seen, missed, doubled }
    }

    #[test]
    fn what_is_acked_before_and_after_it_is_seen_counts_once() {
        let (mut book, mut found) = (Book::default(), Tally::default());
        book.acked(7, Some(0), &mut found);
        assert_eq!(book.open(), 1);
        assert!(book.saw(FEED, "d", 0, Some(7), &mut found));
        assert!(book.saw(FEED, "d", 1, Some(8), &mut found));
        book.acked(8, Some(1), &mut found);
        book.acked(8, Some(1), &mut found);
        assert_eq!((found, book.is_settled()), (tally(2, 2, 0, 0), true));
    }

    #[test]
    fn holes_repeats_publishes_stored_twice_and_elsewhere_are_found() {
        let (mut book, mut found) = (Book::default(), Tally::default());
        book.saw(FEED, "d", 0, Some(1), &mut found);
        book.saw(FEED, "d", 2, None, &mut found);
        assert_eq!(found, tally(0, 0, 1, 0), "a hole");
        assert!(!book.saw(FEED, "d", 2, None, &mut found));
        assert_eq!(found, tally(0, 0, 1, 1), "a repeat");
        book.saw(FEED, "d", 3, Some(1), &mut found);
        assert_eq!(found, tally(0, 0, 1, 2), "one publish at two numbers");
        book.acked(1, Some(9), &mut found);
        assert_eq!(found, tally(1, 0, 2, 2), "acked as another number");
        book.look(1, "d");
        assert_eq!((book.open(), book.next(1, "d"), book.next(2, "d")), (4, Some(0), None), "an agent that has seen nothing");
    }
}
