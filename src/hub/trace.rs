//! Where an event went: when it came, when it was committed, and which sessions it was written to.
//!
//! Kept in memory only, so that it costs the way of an event next to nothing: a bounded number of small records, the
//! oldest of which make room for the newest. What is told of an event therefore says since when nothing is missing. A
//! record holds numbers and times, never what somebody said.

use crate::domain::{Actor, Millis};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records of pushes, in all: 12 MiB when they are there.
const PUSHES: usize = 512 * 1024;
/// Sessions push side by side; each shard has a lock and a part of the records of its own.
const SHARDS: usize = 16;
/// Words that records of what was sent to many at once may take: 4 MiB.
const SENT: usize = 512 * 1024;
/// Records of commits.
const COMMITS: usize = 128 * 1024;
/// Sessions that ended and may still be named by a push.
const GONE: usize = 32 * 1024;

/// A decision that was committed, and the entries that it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// The position of its first entry.
    pub first: u64,
    /// When what caused it was handed in.
    pub received: Millis,
    /// When it was on disk.
    pub committed: Millis,
}

/// An event that was written to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// The event's position in the journal.
    pub position: u64,
    /// The connection.
    pub connection: u64,
    /// When.
    pub at: Millis,
}

/// What is remembered.
#[derive(Debug)]
pub struct Traces {
    shards: [Mutex<Ring<Push>>; SHARDS],
    sent: Mutex<Ring<Sent>>,
    commits: Mutex<Ring<Commit>>,
    gone: Mutex<BTreeMap<u64, (Actor, Millis)>>,
    since: Millis,
}

/// Events that were written together to the sockets of several sessions.
#[derive(Debug)]
struct Sent {
    positions: Box<[u64]>,
    connections: Box<[u64]>,
    at: Millis,
}

/// Records in the order of their times, of which the oldest are dropped.
#[derive(Debug)]
struct Ring<T> {
    records: VecDeque<T>,
    weight: usize,
    most: usize,
    /// The time of the newest record that was dropped.
    dropped: Option<Millis>,
}

trait Timed {
    fn at(&self) -> Millis;

    /// How much of its ring it takes.
    fn weight(&self) -> usize {
        1
    }
}

impl Timed for Sent {
    fn at(&self) -> Millis {
        self.at
    }

    fn weight(&self) -> usize {
        // Its own words, too.
        self.positions.len() + self.connections.len() + 8
    }
}

impl Timed for Push {
    fn at(&self) -> Millis {
        self.at
    }
}

impl Timed for Commit {
    fn at(&self) -> Millis {
        self.committed
    }
}

impl<T: Timed> Ring<T> {
    fn new(most: usize) -> Self {
        Self { records: VecDeque::new(), weight: 0, most, dropped: None }
    }

    fn push(&mut self, record: T) {
        self.weight += record.weight();
        self.records.push_back(record);
        while self.weight > self.most && self.records.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.records.pop_front() {
            self.weight -= oldest.weight();
            self.dropped = self.dropped.max(Some(oldest.at()));
        }
    }

    fn forget(&mut self, before: Millis) {
        while self.records.front().is_some_and(|oldest| oldest.at() < before) {
            self.drop_oldest();
        }
        if self.records.is_empty() {
            self.records.shrink_to_fit();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traces {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Ring::new(PUSHES / SHARDS))),
            sent: Mutex::new(Ring::new(SENT)),
            commits: Mutex::new(Ring::new(COMMITS)),
            gone: Mutex::default(),
            since: now,
        }
    }

    /// Events were written to a connection's socket, now.
    pub(super) fn pushed(&self, connection: u64, positions: impl Iterator<Item = u64>, now: Millis) {
        let mut ring = lock(&self.shards[(connection % SHARDS as u64) as usize]);
        for position in positions {
            ring.push(Push { position, connection, at: now });
        }
    }

    /// The same events were written to the sockets of several connections, now.
    pub(super) fn sent(&self, positions: Vec<u64>, connections: Vec<u64>, now: Millis) {
        lock(&self.sent).push(Sent { positions: positions.into(), connections: connections.into(), at: now });
    }

    /// Decisions were committed: in order, by the first position of each and when it was received.
    pub fn committed(&self, decisions: &[(u64, Millis)], now: Millis) {
        let mut ring = lock(&self.commits);
        for (first, received) in decisions {
            ring.push(Commit { first: *first, received: *received, committed: now });
        }
    }

    /// A session ended to which events were written.
    pub(super) fn left(&self, connection: u64, actor: Actor, now: Millis) {
        let mut gone = lock(&self.gone);
        gone.insert(connection, (actor, now));
        if gone.len() > GONE {
            gone.pop_first();
        }
    }

    pub(super) fn who(&self, connection: u64) -> Option<Actor> {
        lock(&self.gone).get(&connection).map(|(actor, _)| actor.clone())
    }

    /// The commit that wrote an entry, if it is remembered.
    #[must_use]
    pub fn commit(&self, position: u64) -> Option<Commit> {
        let ring = lock(&self.commits);
        // What is older than the first record may belong to one that was dropped.
        let behind = ring.records.partition_point(|commit| commit.first <= position);
        behind.checked_sub(1).and_then(|place| ring.records.get(place)).copied()
    }

    /// The pushes of an entry, by time, and since when none is missing. It looks through all that is remembered.
    #[must_use]
    pub fn pushes(&self, position: u64) -> (Vec<Push>, Millis) {
        let (mut found, mut since) = (Vec::new(), self.since);
        for shard in &self.shards {
            let ring = lock(shard);
            found.extend(ring.records.iter().filter(|push| push.position == position).copied());
            since = since.max(ring.dropped.unwrap_or(self.since));
        }
        let ring = lock(&self.sent);
        for sent in ring.records.iter().filter(|sent| sent.positions.contains(&position)) {
            found.extend(sent.connections.iter().map(|connection| Push { position, connection: *connection, at: sent.at }));
        }
        since = since.max(ring.dropped.unwrap_or(self.since));
        drop(ring);
        found.sort_by_key(|push| (push.at, push.connection));
        (found, since)
    }

    /// Forgets what is older.
    pub fn forget(&self, before: Millis) {
        self.shards.iter().for_each(|shard| lock(shard).forget(before));
        lock(&self.sent).forget(before);
        lock(&self.commits).forget(before);
        lock(&self.gone).retain(|_, (_, left)| *left >= before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_found_by_position_and_time() {
        let traces = Traces::new(100);
        traces.pushed(1, [5, 6].into_iter(), 120);
        traces.pushed(17, [5].into_iter(), 110);
        traces.pushed(1, [5].into_iter(), 130);
        let push = |connection, at| Push { position: 5, connection, at };
        assert_eq!(traces.pushes(5), (vec![push(17, 110), push(1, 120), push(1, 130)], 100));
        assert_eq!(traces.pushes(7), (vec![], 100));
        traces.forget(121);
        assert_eq!(traces.pushes(5), (vec![push(1, 130)], 120), "and it says since when nothing is missing");
    }

    #[test]
    fn the_oldest_make_room_and_that_is_said() {
        let traces = Traces::new(0);
        let most = (PUSHES / SHARDS) as u64;
        for at in 0..most + 10 {
            traces.pushed(2, std::iter::once(at), at.cast_signed());
        }
        assert_eq!(traces.pushes(9), (vec![], 9));
        assert_eq!(traces.pushes(10).0, [Push { position: 10, connection: 2, at: 10 }]);
        assert_eq!(lock(&traces.shards[2]).records.len() as u64, most);
    }

    #[test]
    fn what_was_sent_to_many_at_once_is_found_for_each_and_bounded_by_what_it_takes() {
        let traces = Traces::new(0);
        traces.pushed(7, std::iter::once(4), 9);
        traces.sent(vec![4, 5], vec![1, 2], 10);
        let push = |position, connection, at| Push { position, connection, at };
        assert_eq!(traces.pushes(4), (vec![push(4, 7, 9), push(4, 1, 10), push(4, 2, 10)], 0));
        assert_eq!(traces.pushes(5).0, [push(5, 1, 10), push(5, 2, 10)]);
        traces.sent(vec![6], (0..SENT as u64 - 20).collect(), 11);
        assert_eq!(traces.pushes(5), (vec![], 10), "the oldest made room, and that is said");
        traces.forget(12);
        assert_eq!((traces.pushes(6).0.len(), lock(&traces.sent).weight), (0, 0));
    }

    #[test]
    fn a_commit_is_found_for_each_of_its_entries() {
        let traces = Traces::new(0);
        assert_eq!(traces.commit(1), None);
        traces.committed(&[(4, 10), (7, 11)], 20);
        traces.committed(&[(8, 25)], 30);
        let commit = |first, received, committed| Some(Commit { first, received, committed });
        for (position, expected) in
            [(3, None), (4, commit(4, 10, 20)), (6, commit(4, 10, 20)), (7, commit(7, 11, 20)), (8, commit(8, 25, 30))]
        {
            assert_eq!(traces.commit(position), expected, "{position}");
        }
        traces.forget(21);
        assert_eq!((traces.commit(7), traces.commit(8)), (None, commit(8, 25, 30)));
    }

    #[test]
    fn who_left_is_known_for_a_while() {
        let traces = Traces::new(0);
        let ann = || Actor::Consumer { account: "demo".into(), id: "ann".into(), app: None, was: None };
        for connection in 0..=GONE as u64 {
            traces.left(connection, ann(), connection.cast_signed());
        }
        assert!(traces.who(0).is_none() && traces.who(1).is_some());
        // No longer than the pushes that name them.
        traces.forget(100);
        assert!(traces.who(99).is_none() && traces.who(100).is_some());
    }
}
