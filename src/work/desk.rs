//! The queues as one looks at them who hands out conversations: pure, told by notes what changed, and asked what to do
//! next. Whether it is done the decision says; the desk may be behind.

use crate::gateway::{Note, Noted};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tieline_protocol::ids::{AccountId, ConversationId, QueueId, RingId, UserId};

/// A queue's line, or that of conversations to which an agent is invited: whether those who serve the queue are free says
/// nothing about them.
type Line = (AccountId, Option<QueueId>);
/// A place in a line: since when, and the conversation's number, which is unique in its account.
type Place = (i64, i64);

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Desk {
    known: HashMap<ConversationId, Note>,
    lines: BTreeMap<Line, BTreeMap<Place, ConversationId>>,
    /// Lines that must be looked at, each with the place behind which to go on.
    stirred: BTreeMap<Line, Option<Place>>,
}

/// What became of the attempt to find an agent for the next of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The next one may have more luck.
    GoOn,
    /// Nobody is free for any of the line.
    Enough,
    /// It could not be tried.
    Failed,
}

fn line(note: &Note) -> Line {
    (note.account.clone(), (!note.is_invited).then(|| note.queue.clone()))
}

impl Desk {
    /// Takes in what was noted.
    pub(super) fn hear(&mut self, noted: Noted) {
        for (id, note) in noted.conversations {
            self.put(id, note);
        }
        for account in noted.freed.into_iter().chain(noted.agents.into_iter().map(|(account, _)| account)) {
            self.stir(&account);
        }
    }

    /// Lets every line of an account be looked at from its beginning.
    pub(super) fn stir(&mut self, account: &AccountId) {
        for line in self.lines.keys().filter(|(owner, _)| owner == account) {
            self.stirred.insert(line.clone(), None);
        }
    }

    /// Lets every line be looked at from its beginning.
    pub(super) fn stir_all(&mut self) {
        self.stirred = self.lines.keys().map(|line| (line.clone(), None)).collect();
    }

    fn put(&mut self, id: ConversationId, note: Note) {
        if let Some(old) = self.known.remove(&id) {
            let line = line(&old);
            if let Some(places) = self.lines.get_mut(&line) {
                places.remove(&old.place);
                if places.is_empty() {
                    self.lines.remove(&line);
                    self.stirred.remove(&line);
                }
            }
        }
        if note.is_pending && note.ring.is_none() {
            let line = line(&note);
            self.lines.entry(line.clone()).or_default().insert(note.place, id.clone());
            self.stirred.insert(line, None);
        }
        if note.is_pending || note.ring.is_some() || note.assignee.is_some() {
            self.known.insert(id, note);
        }
    }

    /// The next conversation for which to look for an agent.
    pub(super) fn next(&mut self) -> Option<(AccountId, QueueId, ConversationId)> {
        while let Some((line, behind)) = self.stirred.first_key_value() {
            let (line, behind) = (line.clone(), *behind);
            let place = self.lines.get(&line).and_then(|places| {
                let from = behind.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
                places.range((from, std::ops::Bound::Unbounded)).next().map(|(place, id)| (*place, id.clone()))
            });
            match place {
                Some((_, id)) => {
                    // Whoever stands in a line is known.
                    let queue = self.known.get(&id)?.queue.clone();
                    return Some((line.0, queue, id));
                }
                None => self.stirred.remove(&line),
            };
        }
        None
    }

    /// What became of it.
    pub(super) fn tried(&mut self, id: &ConversationId, attempt: Attempt) {
        // Nothing was heard since: it still stands where it stood.
        let Some((line, place)) = self.known.get(id).map(|note| (line(note), note.place)) else { return };
        match attempt {
            Attempt::Enough | Attempt::Failed => {
                self.stirred.remove(&line);
            }
            Attempt::GoOn => {
                if let Some(behind) = self.stirred.get_mut(&line) {
                    *behind = Some(place);
                }
            }
        }
    }

    /// The offers that agents have not answered.
    pub(super) fn rings(&self) -> impl Iterator<Item = (&AccountId, &UserId, &ConversationId, &RingId)> {
        self.known.iter().filter_map(|(id, note)| note.ring.as_ref().map(|(user, ring)| (&note.account, user, id, ring)))
    }

    /// The conversations that agents answer.
    pub(super) fn assigned(&self) -> impl Iterator<Item = (&AccountId, &UserId, &ConversationId)> {
        self.known.iter().filter_map(|(id, note)| note.assignee.as_ref().map(|user| (&note.account, user, id)))
    }

    /// The accounts and agents for whom the desk knows of anything.
    pub(super) fn agents(&self) -> BTreeSet<(AccountId, UserId)> {
        let rings = self.rings().map(|(account, user, ..)| (account.clone(), user.clone()));
        rings.chain(self.assigned().map(|(account, user, _)| (account.clone(), user.clone()))).collect()
    }
}
