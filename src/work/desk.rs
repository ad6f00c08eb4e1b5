//! The queues as one looks at them who hands out conversations: pure, told by notes what changed, and asked what to do
//! next. Whether it is done the decision says; the desk may be behind.

use crate::gateway::{Note, Noted};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use tieline_protocol::ids::{AccountId, ConversationId, QueueId, RingId, UserId};

/// Conversations that stand for the same agents: a queue, or those of it to which somebody is invited by name, who wait for
/// that one and not behind the others.
type Line = (AccountId, QueueId, bool);
/// A place in a line: since when, and the conversation's number, which is unique in its account.
type Place = (i64, i64);
/// An agent of an account.
type Agent = (AccountId, UserId);

/// A conversation for which to look for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) line: Line,
    pub(super) id: ConversationId,
}

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Desk {
    known: HashMap<ConversationId, Note>,
    lines: BTreeMap<Line, BTreeMap<Place, ConversationId>>,
    /// Lines that must be looked at, each with the place behind which to go on.
    stirred: BTreeMap<Line, Option<Place>>,
    /// The account that was served last; the next one is another's turn.
    served: Option<AccountId>,
    rings: BTreeMap<Agent, BTreeMap<ConversationId, RingId>>,
    assigned: BTreeMap<Agent, BTreeSet<ConversationId>>,
    /// How many of those known are pending.
    waiting: usize,
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

fn line_of(note: &Note) -> Line {
    (note.account.clone(), note.queue.clone(), note.invited.is_some())
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
        for line in self.lines.keys().filter(|(owner, ..)| owner == account) {
            self.stirred.insert(line.clone(), None);
        }
    }

    /// Lets every line be looked at from its beginning.
    pub(super) fn stir_all(&mut self) {
        self.stirred = self.lines.keys().map(|line| (line.clone(), None)).collect();
    }

    fn put(&mut self, id: ConversationId, note: Note) {
        self.forget(&id);
        if note.is_pending && note.ring.is_none() {
            let line = line_of(&note);
            self.lines.entry(line.clone()).or_default().insert(note.place, id.clone());
            // A line that is being walked is not begun again for one who stands further behind.
            let is_ahead = matches!(self.stirred.get(&line), Some(Some(behind)) if note.place > *behind);
            if !is_ahead {
                self.stirred.insert(line, None);
            }
        }
        if let Some((agent, ring)) = &note.ring {
            self.rings.entry((note.account.clone(), agent.clone())).or_default().insert(id.clone(), ring.clone());
        }
        if let Some(agent) = &note.assignee {
            self.assigned.entry((note.account.clone(), agent.clone())).or_default().insert(id.clone());
        }
        if note.is_pending || note.ring.is_some() || note.assignee.is_some() {
            self.waiting += usize::from(note.is_pending);
            self.known.insert(id, note);
        }
    }

    fn forget(&mut self, id: &ConversationId) {
        let Some(old) = self.known.remove(id) else { return };
        self.waiting -= usize::from(old.is_pending);
        let line = line_of(&old);
        if let Some(places) = self.lines.get_mut(&line) {
            places.remove(&old.place);
            if places.is_empty() {
                self.lines.remove(&line);
                self.stirred.remove(&line);
            }
        }
        if let Some((agent, _)) = old.ring {
            let agent = (old.account.clone(), agent);
            if let Some(theirs) = self.rings.get_mut(&agent) {
                theirs.remove(id);
                if theirs.is_empty() {
                    self.rings.remove(&agent);
                }
            }
        }
        if let Some(agent) = old.assignee {
            let agent = (old.account, agent);
            if let Some(theirs) = self.assigned.get_mut(&agent) {
                theirs.remove(id);
                if theirs.is_empty() {
                    self.assigned.remove(&agent);
                }
            }
        }
    }

    /// The next conversation for which to look for an agent: accounts take turns, and of an account's lines that must be
    /// looked at, it is who waits longest.
    pub(super) fn next(&mut self) -> Option<Task> {
        let lines = &self.lines;
        let first = |line: &Line, behind: Option<Place>| {
            let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
            lines.get(line).and_then(|places| places.range((from, Bound::Unbounded)).next())
        };
        self.stirred.retain(|line, behind| first(line, *behind).is_some());
        let later = |line: &&Line| self.served.as_ref().is_some_and(|served| line.0 > *served);
        let account = self.stirred.keys().find(later).or_else(|| self.stirred.keys().next())?.0.clone();
        let theirs = self.stirred.iter().filter(|(line, _)| line.0 == account);
        let fronts = theirs.filter_map(|(line, behind)| Some((first(line, *behind)?, line)));
        let ((_, id), line) = fronts.min_by_key(|((place, _), _)| **place)?;
        let task = Task { line: line.clone(), id: id.clone() };
        self.served = Some(account);
        Some(task)
    }

    /// What became of it.
    pub(super) fn tried(&mut self, Task { line, id }: &Task, attempt: Attempt) {
        match attempt {
            Attempt::Enough | Attempt::Failed => {
                self.stirred.remove(line);
            }
            Attempt::GoOn => {
                // Where it stood; if it has moved since, a note has stirred the line anew or will.
                let place = self.known.get(id).map(|note| note.place);
                match (self.stirred.get_mut(line), place) {
                    (Some(behind), Some(place)) => *behind = Some(place),
                    _ => {
                        self.stirred.remove(line);
                    }
                }
            }
        }
    }

    /// How many conversations need an agent, offered or not.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// What an agent has not answered.
    pub(super) fn rings_of(&self, agent: &Agent) -> Vec<(ConversationId, RingId)> {
        self.rings.get(agent).into_iter().flatten().map(|(id, ring)| (id.clone(), ring.clone())).collect()
    }

    /// What an agent answers.
    pub(super) fn assigned_to(&self, agent: &Agent) -> Vec<ConversationId> {
        self.assigned.get(agent).into_iter().flatten().cloned().collect()
    }

    /// The agents to whom something is offered, and those who answer something.
    pub(super) fn agents(&self) -> BTreeSet<Agent> {
        self.rings.keys().chain(self.assigned.keys()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(account: &str, queue: &str, since: i64, number: i64) -> Note {
        Note {
            account: account.into(),
            queue: queue.into(),
            place: (since, number),
            is_pending: true,
            invited: None,
            ring: None,
            assignee: None,
            refused: 0,
        }
    }

    fn hear(desk: &mut Desk, notes: Vec<(&str, Note)>) {
        let mut noted = Noted::default();
        noted.conversations.extend(notes.into_iter().map(|(id, note)| (ConversationId::from(id), note)));
        desk.hear(noted);
    }

    fn next(desk: &mut Desk, attempt: Attempt) -> Option<String> {
        let task = desk.next()?;
        desk.tried(&task, attempt);
        Some(task.id.to_string())
    }

    #[test]
    fn who_waits_longest_in_any_queue_of_the_account_comes_first() {
        let mut desk = Desk::default();
        hear(&mut desk, vec![("b", note("one", "77", 10, 2)), ("a", note("one", "-1", 20, 1)), ("c", note("one", "77", 30, 3))]);
        assert_eq!(next(&mut desk, Attempt::GoOn).as_deref(), Some("b"));
        assert_eq!(next(&mut desk, Attempt::Enough).as_deref(), Some("a"));
        assert_eq!(next(&mut desk, Attempt::GoOn).as_deref(), Some("c"));
        assert_eq!(next(&mut desk, Attempt::GoOn), None);
    }

    #[test]
    fn an_invited_one_does_not_wait_behind_those_for_whom_nobody_is_free() {
        let mut desk = Desk::default();
        let invited = Note { invited: Some("1".into()), ..note("one", "77", 20, 2) };
        hear(&mut desk, vec![("front", note("one", "77", 10, 1)), ("invited", invited)]);
        assert_eq!(next(&mut desk, Attempt::Enough).as_deref(), Some("front"));
        assert_eq!(next(&mut desk, Attempt::GoOn).as_deref(), Some("invited"));
    }

    #[test]
    fn a_busy_account_does_not_keep_another_from_its_turn() {
        let mut desk = Desk::default();
        hear(&mut desk, vec![("a", note("a", "-1", 1, 1)), ("z", note("z", "-1", 1_000, 1))]);
        let served: Vec<_> = (0..4)
            .map(|_| {
                let served = next(&mut desk, Attempt::GoOn).unwrap();
                desk.stir(&"a".into());
                served
            })
            .collect();
        assert_eq!(served.iter().filter(|id| *id == "z").count(), 1, "{served:?}");
    }

    #[test]
    fn what_an_agent_holds_is_known_by_the_agent() {
        let mut desk = Desk::default();
        let agent: Agent = ("one".into(), "1".into());
        let rung = Note { ring: Some(("1".into(), "a_1".into())), ..note("one", "-1", 1, 1) };
        let taken = Note { is_pending: false, assignee: Some("1".into()), ..note("one", "-1", 0, 2) };
        hear(&mut desk, vec![("a", rung), ("b", taken)]);
        assert_eq!((desk.rings_of(&agent).len(), desk.assigned_to(&agent).len(), desk.waiting()), (1, 1, 1));
        assert_eq!(next(&mut desk, Attempt::GoOn), None, "what is offered is not looked at");
        let over = |number| Note { is_pending: false, ..note("one", "-1", 0, number) };
        hear(&mut desk, vec![("a", over(1)), ("b", over(2))]);
        assert!(desk.agents().is_empty() && desk.known.is_empty() && desk.waiting() == 0);
    }
}
