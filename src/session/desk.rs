//! Where a session's requests wait for their answers.
//!
//! Replies leave in the order of the requests. A decision is answered by whoever has it from the store. If the session waits for
//! nothing else, its reply is written to its socket right there, past its task ([`Outbox`]). Several replies are left to the
//! task, which writes them together.

use super::codec::{Answer, Codec};
use super::{Then, Waiting, count_request};
use crate::gateway::Error;
use crate::hub::{Frame, Outbox, put_frame};
use crate::store::{Asker, Decided, StoreError};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tieline_protocol::code::CloseCode;
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
pub(super) struct Asked<T> {
    pending: VecDeque<Pending<T>>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
}

impl<T> Asked<T> {
    /// Adds a request; its number.
    pub(super) fn push(&mut self, pending: Pending<T>) -> u64 {
        self.bytes += pending.size;
        self.pending.push_back(pending);
        self.first + self.pending.len() as u64 - 1
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Pending<T>> {
        self.pending.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Pending<T>> {
        let pending = self.pending.pop_front()?;
        self.bytes -= pending.size;
        self.first += 1;
        Some(pending)
    }

    pub(super) fn shrink(&mut self) {
        self.pending.shrink_to_fit();
    }
}

/// The desk of one session. Its locks are taken in this order: what is asked, the outbox, the codec.
pub(super) struct Desk<C: Codec> {
    asked: Mutex<Asked<C::Tag>>,
    codec: Mutex<C>,
    /// The session's: a decision that is still to come keeps no socket open.
    outbox: Weak<Outbox>,
    most: usize,
}

impl<C: Codec> Desk<C> {
    pub(super) fn new(codec: C, outbox: &Arc<Outbox>, most: usize) -> Arc<Self> {
        let asked = Asked { pending: VecDeque::new(), first: 0, bytes: 0 };
        Arc::new(Self { asked: Mutex::new(asked), codec: Mutex::new(codec), outbox: Arc::downgrade(outbox), most })
    }

    /// Nobody who holds this may hand in a decision, which can be answered at once, or do what takes long: others answer.
    pub(super) fn lock(&self) -> MutexGuard<'_, Asked<C::Tag>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task's, as long as the session is not at rest.
    pub(super) fn codec(&self) -> MutexGuard<'_, C> {
        self.codec.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().pending.len()
    }

    /// Whether there is room for another request.
    pub(super) fn has_room(&self) -> bool {
        let asked = self.lock();
        asked.pending.len() < self.most && asked.bytes < PENDING_BYTES
    }

    /// The frame that answers a request, if there is to be one.
    pub(super) fn reply(&self, tag: C::Tag, result: Result<Answer, Error>) -> Option<Frame> {
        let code = result.as_ref().map_or_else(|error| error.code().number(), |_| 200);
        let mut codec = self.codec();
        count_request(codec.name(&tag), code);
        codec.reply(tag, result)
    }

    /// Says that the session has nothing to do but to listen or, if it may, to wait for the answer to one decision. Until it is
    /// polled again, what there is to say may be written to its socket by others.
    pub(super) fn rest(&self, may_ask: bool) {
        let asked = self.lock();
        let asks = match asked.pending.front() {
            None => false,
            Some(one) if may_ask && asked.pending.len() == 1 && one.is_plain() => true,
            Some(_) => return,
        };
        // Under the lock: an answer comes before this, or finds the session at rest.
        if let Some(outbox) = self.outbox.upgrade() {
            outbox.rest(asks);
        }
    }

    /// The session is over.
    pub(super) fn clear(&self) {
        let pending = std::mem::take(&mut self.lock().pending);
        drop(pending);
    }
}

/// Ends a session over whose reply somebody panics, as it would end in its own task.
struct EndsWithPanic<'o>(&'o Outbox);

impl Drop for EndsWithPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close(CloseCode::Restart);
        }
    }
}

impl<C: Codec> Asker for Desk<C> {
    fn answered(&self, number: u64, answer: Result<Decided, StoreError>) {
        let Some(outbox) = self.outbox.upgrade() else { return };
        let _ending = EndsWithPanic(&outbox);
        let mut asked = self.lock();
        let place = number.checked_sub(asked.first).and_then(|place| usize::try_from(place).ok());
        let Some((place, pending)) = place.and_then(|place| Some((place, asked.pending.get_mut(place)?))) else { return };
        pending.answer = Waiting::Ready(Some(answer.map(Answer::Decided).map_err(Error::Store)));
        // Another one's turn comes with the first's.
        if place == 0 {
            outbox.reply(|frames| {
                if let Some(Pending { tag, answer: Waiting::Ready(Some(answer)), .. }) = asked.pop()
                    && let Some(reply) = self.reply(tag, answer)
                {
                    put_frame(frames, reply.as_bytes());
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{Ask, Asked as Read, BatchEncoder};
    use super::*;
    use crate::domain::Millis;
    use crate::gateway::Fed;
    use crate::hub::{EventEncoder, Line, Sent, Slot, Typing};
    use crate::store::AnswerTo;
    use futures::task::noop_waker;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Replies with the tag; over one of them it panics.
    struct Plain;

    const PANICS: u64 = 13;
    /// Of this nothing is said.
    const SILENT: u64 = 7;

    impl Codec for Plain {
        type Tag = u64;

        fn slot(&self) -> Slot {
            Slot(0)
        }
        fn encoder(&self) -> EventEncoder {
            EventEncoder::Shared(Slot(0), |_| None)
        }
        fn hears_unasked(&self) -> bool {
            false
        }
        fn decode(&mut self, text: &str) -> Read<u64> {
            Read { tag: text.len() as u64, ask: Ask::Clock }
        }
        fn name(&self, _: &u64) -> &'static str {
            "plain"
        }
        fn reply(&mut self, tag: u64, result: Result<Answer, Error>) -> Option<Frame> {
            assert_ne!(tag, PANICS);
            (tag != SILENT).then(|| Frame::from(format!("{tag}{}", if result.is_ok() { "" } else { "!" })))
        }
        fn batch_encoder(&self) -> BatchEncoder {
            Arc::new(|_, _| Vec::new())
        }
        fn typing(&self, _: &Typing) -> Frame {
            Frame::default()
        }
        fn feed(&self, _: &str, _: Millis, _: &[Fed]) -> Vec<Frame> {
            Vec::new()
        }
    }

    #[derive(Debug, Default)]
    struct Paper(Mutex<Vec<u8>>);

    impl Line for Paper {
        fn send(&self, frames: &[u8]) -> Sent {
            self.0.lock().unwrap().extend_from_slice(frames);
            Sent::All
        }
        fn approach(&self) {}
    }

    struct Office {
        desk: Arc<Desk<Plain>>,
        outbox: Arc<Outbox>,
        paper: Arc<Paper>,
    }

    impl Office {
        fn open() -> Self {
            let (outbox, paper) = (Arc::new(Outbox::default()), Arc::new(Paper::default()));
            outbox.connect(paper.clone());
            Self { desk: Desk::new(Plain, &outbox, 8), outbox, paper }
        }

        fn ask(&self, tag: u64) -> AnswerTo {
            let pending = Pending { tag, size: 1, answer: Waiting::Decision(None), then: Then::Nothing, not_before: None };
            let number = self.desk.lock().push(pending);
            AnswerTo::asker(self.desk.clone(), number)
        }

        /// What was written past the session: the tags.
        fn written(&self) -> String {
            let bytes = std::mem::take(&mut *self.paper.0.lock().unwrap());
            bytes.into_iter().filter(|byte| byte.is_ascii_digit() || *byte == b'!').map(char::from).collect()
        }

        /// What the session finds to say: the tags.
        fn found(&self) -> Vec<String> {
            self.outbox.take(&noop_waker());
            let mut found = Vec::new();
            loop {
                let mut asked = self.desk.lock();
                let Some(Waiting::Ready(answer)) = asked.front_mut().map(|front| &mut front.answer) else { return found };
                let answer = answer.take().unwrap();
                let tag = asked.pop().unwrap().tag;
                drop(asked);
                found.extend(self.desk.reply(tag, answer).map(|reply| reply.to_string()));
            }
        }
    }

    fn yes() -> Result<Decided, StoreError> {
        Ok(Decided { outcomes: Vec::new(), replayed: false })
    }

    #[test]
    fn one_answer_is_written_past_a_session_at_rest_and_several_wait_for_it_in_order() {
        let office = Office::open();
        let one = office.ask(1);
        office.desk.rest(true);
        one.answer(yes());
        assert_eq!((office.written().as_str(), office.desk.len()), ("1", 0));
        // Answered in whatever order.
        let (two, three, four) = (office.ask(2), office.ask(3), office.ask(4));
        office.desk.rest(true);
        three.answer(Err(StoreError::Busy));
        two.answer(yes());
        assert_eq!(office.found(), ["2", "3!"]);
        // Of what is left the session waits for one.
        office.desk.rest(true);
        four.answer(yes());
        assert_eq!(office.written(), "4");
        // An answer that comes before it rests, and one where it may not leave its socket to others, are its own to say.
        let five = office.ask(5);
        office.outbox.take(&noop_waker());
        five.answer(yes());
        office.desk.rest(true);
        assert_eq!((office.written().as_str(), office.found().as_slice()), ("", ["5".to_owned()].as_slice()));
        let six = office.ask(6);
        office.desk.rest(false);
        six.answer(yes());
        assert_eq!((office.written().as_str(), office.found().as_slice()), ("", ["6".to_owned()].as_slice()));
        // What has no reply is answered all the same.
        let seven = office.ask(SILENT);
        office.desk.rest(true);
        seven.answer(yes());
        assert_eq!((office.written().as_str(), office.desk.len()), ("", 0));
    }

    #[test]
    fn a_second_request_does_not_disturb_the_answer_to_the_first() {
        let office = Office::open();
        let one = office.ask(1);
        office.desk.rest(true);
        // The session reads on, and has not looked at its outbox.
        let two = office.ask(2);
        two.answer(Err(StoreError::Busy));
        one.answer(yes());
        assert_eq!(office.written(), "1");
        assert_eq!(office.found(), ["2!"]);
    }

    #[test]
    fn what_is_dropped_unanswered_is_unknown_and_a_session_that_is_over_keeps_nothing() {
        let office = Office::open();
        let one = office.ask(1);
        office.desk.rest(true);
        drop(one);
        assert_eq!(office.written(), "1!");
        let two = office.ask(2);
        let Office { desk, outbox, paper } = office;
        desk.clear();
        drop((desk, outbox));
        assert_eq!(Arc::strong_count(&paper), 1, "the socket is gone");
        two.answer(yes());
        assert!(paper.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_codec_that_panics_ends_its_session_and_nobody_elses() {
        #[derive(Default)]
        struct Counting(AtomicUsize);
        impl Asker for Counting {
            fn answered(&self, _: u64, answer: Result<Decided, StoreError>) {
                self.0.fetch_add(usize::from(answer.is_ok()), Ordering::Relaxed);
            }
        }
        let (office, counting) = (Office::open(), Arc::new(Counting::default()));
        let ill = office.ask(PANICS);
        office.desk.rest(true);
        for answer in [AnswerTo::asker(counting.clone(), 0), ill, AnswerTo::asker(counting.clone(), 1)] {
            answer.answer(yes());
        }
        assert_eq!(counting.0.load(Ordering::Relaxed), 2);
        assert_eq!(office.outbox.take(&noop_waker()).and_then(|taken| taken.close), Some(CloseCode::Restart));
    }
}
