//! Where a session's requests wait for their answers.
//!
//! Replies leave in the order of the requests. A decision is answered by whoever has it from the store. If the session waits for
//! nothing else, its reply is written to its socket right there: its task need not be woken, which would cost as much again as
//! the write. Several replies are left to the task, which writes them together.

use super::codec::{Answer, Codec};
use super::{Then, Waiting, count_request};
use crate::gateway::Error;
use crate::hub::{Frame, Outbox, put_frame};
use crate::store::{Asker, Decided, StoreError};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Bytes of requests that may wait beside their number.
const PENDING_BYTES: usize = 256 * 1024;

/// A request that waits for its answer.
pub(super) struct Pending<T> {
    pub(super) tag: T,
    pub(super) size: usize,
    pub(super) answer: Waiting,
    pub(super) then: Then,
    /// If its reply is held back on demand: until when.
    pub(super) not_before: Option<Instant>,
}

impl<T> Pending<T> {
    /// Whether it waits for a decision, and there is nothing to its reply but a frame.
    fn is_plain(&self) -> bool {
        matches!((&self.answer, &self.then), (Waiting::Decision(_), Then::Nothing)) && self.not_before.is_none()
    }
}

/// What is asked and not answered.
pub(super) struct Asked<C: Codec> {
    pub(super) codec: C,
    pending: VecDeque<Pending<C::Tag>>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
}

impl<C: Codec> Asked<C> {
    /// Adds a request; its number.
    pub(super) fn push(&mut self, pending: Pending<C::Tag>) -> u64 {
        self.bytes += pending.size;
        self.pending.push_back(pending);
        self.first + self.pending.len() as u64 - 1
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Pending<C::Tag>> {
        self.pending.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Pending<C::Tag>> {
        let pending = self.pending.pop_front()?;
        self.bytes -= pending.size;
        self.first += 1;
        Some(pending)
    }

    /// The frame that answers a request.
    pub(super) fn reply(&mut self, tag: C::Tag, result: Result<Answer, Error>) -> Frame {
        let code = result.as_ref().map_or_else(|error| error.code().number(), |_| 200);
        count_request(self.codec.name(&tag), code);
        self.codec.reply(tag, result)
    }

    pub(super) fn shrink(&mut self) {
        self.pending.shrink_to_fit();
    }
}

/// The desk of one session.
pub(super) struct Desk<C: Codec> {
    asked: Mutex<Asked<C>>,
    outbox: Arc<Outbox>,
    most: usize,
}

impl<C: Codec> Desk<C> {
    pub(super) fn new(codec: C, outbox: Arc<Outbox>, most: usize) -> Arc<Self> {
        let asked = Asked { codec, pending: VecDeque::new(), first: 0, bytes: 0 };
        Arc::new(Self { asked: Mutex::new(asked), outbox, most })
    }

    /// Nobody who holds this may hand in a decision, which can be answered at once.
    pub(super) fn lock(&self) -> MutexGuard<'_, Asked<C>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().pending.len()
    }

    /// Whether there is room for another request.
    pub(super) fn has_room(&self) -> bool {
        let asked = self.lock();
        asked.pending.len() < self.most && asked.bytes < PENDING_BYTES
    }

    /// Says that the session has nothing to do but to listen, and to wait for the answer to one decision if one is asked for. Until
    /// it is polled again, what there is to say may be written to its socket by others.
    pub(super) fn rest(&self) {
        let asked = self.lock();
        let one = asked.pending.front().filter(|_| asked.pending.len() == 1);
        // Under the lock: an answer comes before this, or finds the session at rest.
        if asked.pending.is_empty() || one.is_some_and(Pending::is_plain) {
            self.outbox.rest(one.is_some());
        }
    }
}

impl<C: Codec> Asker for Desk<C> {
    fn answered(&self, number: u64, answer: Result<Decided, StoreError>) {
        let mut asked = self.lock();
        let place = number.checked_sub(asked.first).and_then(|place| usize::try_from(place).ok());
        let Some((place, pending)) = place.and_then(|place| Some((place, asked.pending.get_mut(place)?))) else { return };
        pending.answer = Waiting::Ready(Some(answer.map(Answer::Decided).map_err(Error::Store)));
        // Another one's turn comes with the first's.
        if place == 0 {
            self.outbox.reply(|frames| {
                if let Some(Pending { tag, answer: Waiting::Ready(Some(answer)), .. }) = asked.pop() {
                    put_frame(frames, asked.reply(tag, answer).as_bytes());
                }
            });
        }
    }
}
