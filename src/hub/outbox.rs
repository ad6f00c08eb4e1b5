//! What waits for one session, in bounded memory; and the short way past it.
//!
//! A session that has nothing to do says that it is at rest. Events of a dialog that it follows and has all of are then
//! written to its socket by whoever announces them. So is, by whoever has it from the store, the answer to the one decision that a
//! session may wait for. Its task need not be woken for either, which would cost as much again as the write.
//! The lock makes the two sides take turns: the session looks here before it writes anything itself, which ends its rest.
//!
//! Items wait in the order they were announced. When there are too many, no more memory is spent on them: of each
//! dialog only the first missed number is kept, and the session reads the rest from the log; of each conversation
//! only its oldest *before* and newest *after*; typing states are dropped.

use super::announcement::{ConversationChange, EventEncoder, Run, Typing, coalesce};
use crate::domain::AgentState;
use futures::task::AtomicWaker;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use tieline_protocol::code::CloseCode;
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId, DialogId, UserId};
use tokio_tungstenite::tungstenite::Bytes;

/// Most items that wait, and how many bytes of shared encodings they may keep alive.
const ITEMS: usize = 1_024;
const BYTES: usize = 1024 * 1024;
/// About what a changed conversation keeps alive.
const CHANGE: usize = 4 * 1024;
/// Dialogs and conversations that may be missed before the session counts as lost.
const MISSED: usize = 16_384;

/// One thing announced to a session.
#[derive(Debug, Clone)]
pub enum Item {
    /// Events of a dialog.
    Events(Arc<Run>),
    /// A changed conversation.
    Change(Arc<ConversationChange>),
    /// Somebody types.
    Typing(Arc<Typing>),
}

/// Everything that waited.
#[derive(Debug, Default)]
pub struct Taken {
    /// An answer that was to be sent at once and was not taken: it comes first of all.
    pub reply: Option<Bytes>,
    /// In order.
    pub items: VecDeque<Item>,
    /// Dialogs of which events were missed, each with the first number missed.
    pub gaps: HashMap<DialogId, u64>,
    /// Changes that were coalesced; they are newer than those among the items.
    pub changes: HashMap<ConversationId, Arc<ConversationChange>>,
    /// The newest that agents said of themselves.
    pub agents: HashMap<(AccountId, UserId), AgentState>,
    /// Whether the application's feed has something new.
    pub feed: bool,
    /// Whether so much was missed that the session must start afresh.
    pub lost: bool,
    /// The code with which the session is to end.
    pub close: Option<CloseCode>,
}

/// Where a session's frames go.
pub trait Line: std::fmt::Debug + Send + Sync {
    /// Sends frames, unless something speaks against it. It does not block.
    fn send(&self, frames: &[u8]) -> Sent;

    /// Says soon before that it will be asked to: see [`Outbox::approach`].
    fn approach(&self);
}

/// What became of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// They left.
    All,
    /// They are taken, and the session's task must see that the rest of them leaves.
    Part,
    /// They were not taken; the session's task will know why.
    Nothing,
}

/// How a session stands to a dialog that it follows, for those who announce its events. The session's task changes it while
/// it is awake, whoever announces while it is at rest; the outbox's lock lies between.
#[derive(Debug)]
pub struct Live {
    next: AtomicU64,
    is_open: AtomicBool,
    encoder: EventEncoder,
    sees_whispers: bool,
    /// The consumer whose session this is: what is handed to another identity it hears no more.
    owner: Option<ConsumerId>,
}

impl Live {
    /// Not open yet.
    #[must_use]
    pub fn new(encoder: EventEncoder, sees_whispers: bool, owner: Option<ConsumerId>) -> Self {
        Self { next: AtomicU64::new(0), is_open: AtomicBool::new(false), encoder, sees_whispers, owner }
    }

    /// The next number to send.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Sets the next number to send.
    pub fn set_next(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// Says whether the next number may be sent as soon as it is there.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// The frames of a run, if it is what comes next here and all of it is shown.
    fn frames(&self, run: &Run) -> Option<Bytes> {
        let is_owned = self.owner.as_ref().is_none_or(|owner| *owner == run.audience.consumer);
        let fits =
            self.is_open.load(Ordering::Relaxed) && self.next() == run.first && is_owned && (self.sees_whispers || !run.has_whispers);
        fits.then(|| run.encoded(&self.encoder)).filter(|encoded| encoded.is_whole()).map(|encoded| encoded.all())
    }
}

#[derive(Debug, Default)]
struct State {
    /// There is none while nothing waits, which is nearly always.
    taken: Option<Box<Taken>>,
    /// How many items wait, each event of a run counted, and the bytes that they keep alive.
    count: usize,
    bytes: usize,
    /// Set when something was put in and the session has not looked yet, so that it is woken once.
    signalled: bool,
    rest: Rest,
    is_retired: bool,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Rest {
    /// It has something to do, or is about to.
    #[default]
    None,
    /// Nothing is asked: it only listens.
    Listens,
    /// It waits for one answer. An event would come before that, so it ends the rest.
    Asks,
}

thread_local! {
    /// Where replies are put together.
    static REPLIES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
/// Room for them that is kept.
const KEPT: usize = 64 * 1024;

/// The outbox of one session.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    line: OnceLock<Arc<dyn Line>>,
    /// Whether an event was written to its socket.
    was_told: AtomicBool,
}

/// What became of events that were announced to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// They went over the line.
    Sent,
    /// They wait, or the line does; the session is to be woken, or is awake already.
    Waits(bool),
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: impl FnOnce(&mut State)) -> bool {
        let mut state = self.lock();
        put(&mut state);
        state.signal()
    }

    /// Says where the session's frames go, once.
    pub fn connect(&self, line: Arc<dyn Line>) {
        let _ = self.line.set(line);
    }

    /// Remembers that the session was told of an event.
    pub(super) fn told(&self) {
        self.was_told.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_told(&self) -> bool {
        self.was_told.load(Ordering::Relaxed)
    }

    /// Looks at what [`Outbox::push_run`] will look at. Of a thousand sessions nothing is in the processor's caches when an
    /// event comes after a while: looked at one after the other, the memory of several is fetched at the same time.
    pub(super) fn approach(&self, live: Option<&Live>) {
        std::hint::black_box(self.state.is_poisoned());
        if let Some(live) = live {
            std::hint::black_box(live.next());
        }
        if let Some(line) = self.line.get() {
            line.approach();
        }
    }

    /// Puts events in, or sends them past it.
    pub(super) fn push_run(&self, run: &Arc<Run>, live: Option<&Live>) -> Pushed {
        let mut state = self.lock();
        if state.rest == Rest::Listens
            && let (Some(live), Some(line)) = (live, self.line.get())
            && let Some(frames) = live.frames(run)
        {
            let sent = line.send(&frames);
            if sent != Sent::Nothing {
                live.set_next(run.end());
                self.told();
            }
            if sent == Sent::All {
                return Pushed::Sent;
            }
            if sent == Sent::Part {
                return Pushed::Waits(state.signal());
            }
        }
        // Behind a gap everything of the dialog is read from the log.
        if state.is_full() || state.taken().gaps.contains_key(&run.dialog) {
            state.miss(&run.dialog, run.first);
        } else {
            state.count += run.events.len();
            state.bytes += run.bytes();
            state.taken().items.push_back(Item::Events(run.clone()));
        }
        Pushed::Waits(state.signal())
    }

    pub(super) fn push_change(&self, change: &Arc<ConversationChange>) -> bool {
        self.put(|state| {
            if state.is_full() || state.taken().changes.contains_key(change.id()) {
                let taken = state.taken();
                coalesce(&mut taken.changes, change.clone());
                taken.lost |= taken.changes.len() > MISSED;
            } else {
                state.count += 1;
                state.bytes += CHANGE;
                state.taken().items.push_back(Item::Change(change.clone()));
            }
        })
    }

    pub(super) fn push_typing(&self, typing: &Arc<Typing>) -> bool {
        self.put(|state| {
            if state.count < ITEMS / 2 && state.bytes < BYTES / 2 {
                state.count += 1;
                state.bytes += typing.event.get().len();
                state.taken().items.push_back(Item::Typing(typing.clone()));
            }
        })
    }

    pub(super) fn push_gap(&self, dialog: &DialogId, sequence: u64) -> bool {
        self.put(|state| state.miss(dialog, sequence))
    }

    /// There are as many at most as the account has agents.
    pub(super) fn push_agent(&self, agent: &AgentState) -> bool {
        self.put(|state| {
            state.taken().agents.insert((agent.account.clone(), agent.agent.clone()), agent.clone());
        })
    }

    pub(super) fn push_feed(&self) -> bool {
        self.put(|state| state.taken().feed = true)
    }

    /// How many items wait, and whether some were missed.
    pub(super) fn fill(&self) -> (usize, bool) {
        let state = self.lock();
        (state.count, state.taken.as_ref().is_some_and(|taken| !taken.gaps.is_empty() || taken.lost))
    }

    /// Lets the session end with a code.
    pub fn close(&self, code: CloseCode) {
        self.put(|state| state.taken().close = Some(code));
        self.wake();
    }

    /// Wakes the session.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Takes everything that waits, and ends the session's rest. If nothing does, `waker` is called when that changes.
    pub fn take(&self, waker: &Waker) -> Option<Box<Taken>> {
        self.waker.register(waker);
        let mut state = self.lock();
        (state.signalled, state.rest) = (false, Rest::None);
        (state.count, state.bytes) = (0, 0);
        state.taken.take()
    }

    /// Says that the session has nothing to do, but to wait for one answer if it asks for one, and all that it wrote has left. It
    /// is not so if something waits.
    pub fn rest(&self, asks: bool) {
        let mut state = self.lock();
        let is_at_rest = state.taken.is_none() && !state.signalled && !state.is_retired;
        state.rest = match (is_at_rest, asks) {
            (false, _) => Rest::None,
            (true, false) => Rest::Listens,
            (true, true) => Rest::Asks,
        };
    }

    /// The answer that the session waits for is there: its frame is put down and sent, if the session waits for nothing else. Else
    /// the session is woken, and finds it by itself.
    pub fn reply(&self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if let Some(line) = self.line.get().filter(|_| state.rest == Rest::Asks) {
            let sent = REPLIES.with_borrow_mut(|frames| {
                frames.clear();
                put(frames);
                // An answer may have nothing to say.
                let sent = if frames.is_empty() { Sent::All } else { line.send(frames) };
                if sent == Sent::Nothing {
                    state.taken().reply = Some(Bytes::copy_from_slice(frames));
                }
                frames.shrink_to(KEPT);
                sent
            });
            if sent == Sent::All {
                state.rest = Rest::Listens;
                return;
            }
        }
        if state.signal() {
            drop(state);
            self.wake();
        }
    }

    /// The session is over: nobody writes to its socket any more.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        (state.rest, state.is_retired) = (Rest::None, true);
    }
}

impl State {
    /// There is something to do: ends the rest. Whether the session is to be woken, and not about to look anyway.
    fn signal(&mut self) -> bool {
        self.rest = Rest::None;
        !std::mem::replace(&mut self.signalled, true)
    }

    fn taken(&mut self) -> &mut Taken {
        self.taken.get_or_insert_default()
    }

    fn is_full(&self) -> bool {
        self.count >= ITEMS || self.bytes >= BYTES
    }

    fn miss(&mut self, dialog: &DialogId, sequence: u64) {
        let taken = self.taken();
        taken.gaps.entry(dialog.clone()).or_insert(sequence);
        taken.lost |= taken.gaps.len() > MISSED;
    }
}
