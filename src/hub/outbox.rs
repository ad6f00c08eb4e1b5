//! What waits for one session, in bounded memory.
//!
//! Items wait in the order they were announced. When there are too many, no more memory is spent on them: of each
//! dialog only the first missed number is kept, and the session reads the rest from the log; of each conversation
//! only its oldest *before* and newest *after*; typing states are dropped.

use super::announcement::{Announcement, ConversationChange, Typing, coalesce};
use crate::domain::AgentState;
use futures::task::AtomicWaker;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use tieline_protocol::code::CloseCode;
use tieline_protocol::ids::{AccountId, ConversationId, DialogId, UserId};

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
    /// An event.
    Event(Arc<Announcement>),
    /// A changed conversation.
    Change(Arc<ConversationChange>),
    /// Somebody types.
    Typing(Arc<Typing>),
}

/// Everything that waited.
#[derive(Debug, Default)]
pub struct Taken {
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

impl Taken {
    fn is_empty(&self) -> bool {
        self.items.is_empty()
            && self.gaps.is_empty()
            && self.changes.is_empty()
            && self.agents.is_empty()
            && !self.feed
            && !self.lost
            && self.close.is_none()
    }
}

#[derive(Debug, Default)]
struct State {
    taken: Taken,
    bytes: usize,
}

/// The outbox of one session.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    /// Set when something was put in and the session has not looked yet, so that it is woken once.
    signalled: AtomicBool,
}

impl Outbox {
    fn put(&self, put: impl FnOnce(&mut State)) -> bool {
        put(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        !self.signalled.swap(true, Ordering::AcqRel)
    }

    /// Puts an event in; whether the session must be woken.
    pub(super) fn push_event(&self, event: &Arc<Announcement>) -> bool {
        self.put(|state| {
            let Some(message) = event.sight.message() else { return };
            // Behind a gap everything of the dialog is read from the log.
            if state.full() || state.taken.gaps.contains_key(&message.dialog) {
                state.miss(&message.dialog, message.sequence);
            } else {
                state.bytes += message.bytes();
                state.taken.items.push_back(Item::Event(event.clone()));
            }
        })
    }

    pub(super) fn push_change(&self, change: &Arc<ConversationChange>) -> bool {
        self.put(|state| {
            if state.full() || state.taken.changes.contains_key(change.id()) {
                coalesce(&mut state.taken.changes, change.clone());
                state.taken.lost |= state.taken.changes.len() > MISSED;
            } else {
                state.bytes += CHANGE;
                state.taken.items.push_back(Item::Change(change.clone()));
            }
        })
    }

    pub(super) fn push_typing(&self, typing: &Arc<Typing>) -> bool {
        self.put(|state| {
            if state.taken.items.len() < ITEMS / 2 && state.bytes < BYTES / 2 {
                state.bytes += typing.event.get().len();
                state.taken.items.push_back(Item::Typing(typing.clone()));
            }
        })
    }

    pub(super) fn push_gap(&self, dialog: &DialogId, sequence: u64) -> bool {
        self.put(|state| state.miss(dialog, sequence))
    }

    /// There are as many at most as the account has agents.
    pub(super) fn push_agent(&self, agent: &AgentState) -> bool {
        self.put(|state| {
            state.taken.agents.insert((agent.account.clone(), agent.agent.clone()), agent.clone());
        })
    }

    pub(super) fn push_feed(&self) -> bool {
        self.put(|state| state.taken.feed = true)
    }

    /// Lets the session end with a code.
    /// How many items wait, and whether some were missed.
    pub(super) fn fill(&self) -> (usize, bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.taken.items.len(), !state.taken.gaps.is_empty() || state.taken.lost)
    }

    pub(super) fn close(&self, code: CloseCode) {
        self.put(|state| state.taken.close = Some(code));
    }

    /// Wakes the session.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Takes everything that waits. If nothing does, `waker` is called when that changes.
    pub fn take(&self, waker: &Waker) -> Option<Taken> {
        self.waker.register(waker);
        self.signalled.store(false, Ordering::Release);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.taken.is_empty() {
            return None;
        }
        state.bytes = 0;
        Some(std::mem::take(&mut state.taken))
    }
}

impl State {
    fn full(&self) -> bool {
        self.taken.items.len() >= ITEMS || self.bytes >= BYTES
    }

    fn miss(&mut self, dialog: &DialogId, sequence: u64) {
        self.taken.gaps.entry(dialog.clone()).or_insert(sequence);
        self.taken.lost |= self.taken.gaps.len() > MISSED;
    }
}
