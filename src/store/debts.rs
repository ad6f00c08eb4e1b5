//! What is owed to webhooks, beside the journal: which endpoints there are, which entries each is still owed, those that
//! were given up, and the attempts that were made.
//!
//! A debt is the name of a journal entry and of an endpoint, never a copy of the entry. Debts are written in the
//! transaction that moves the cursor of who matches entries to endpoints, so an entry is owed exactly once. These
//! writes follow the journal as projections do and are not synced on their own: a power cut takes the last of them
//! back together, and what is repeated then is repeated, not lost.

use super::{Feed, ReadError, StoreError};
use crate::domain::{Millis, Sight};
use futures::future::BoxFuture;
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ClientId, ConversationId};
use tokio::sync::oneshot;

/// An endpoint's number in this database, from 1.
pub type EndpointId = i64;

/// An endpoint that is owed entries, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRow {
    /// Its number.
    pub id: EndpointId,
    /// The tenant.
    pub account: AccountId,
    /// The application.
    pub app: ClientId,
    /// Its URL, or how it fetches.
    pub target: String,
    /// The types of events that go there.
    pub events: Vec<String>,
    /// Entries after this position are owed, or still to be found.
    pub since: u64,
    /// Whether nobody has looked yet which entries after `since` it is owed, up to where the others are.
    pub is_behind: bool,
    /// Whether it is delivered to.
    pub state: EndpointState,
    /// When the state was last set.
    pub changed: Millis,
}

/// Whether an endpoint is delivered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// It is.
    On,
    /// Somebody said to wait: it is owed what happens, and gets it later.
    Paused,
    /// Nobody wants it any more: it is owed nothing new, and what it is owed waits in case somebody does again.
    Off,
    /// It answered that it is gone for good: it is owed nothing new, and what it is owed waits in case somebody knows better.
    Gone,
}

impl EndpointState {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Paused => "paused",
            Self::Off => "off",
            Self::Gone => "gone",
        }
    }
}

impl std::str::FromStr for EndpointState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::On, Self::Paused, Self::Off, Self::Gone];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| format!("{text:?} is no state of an endpoint"))
    }
}

/// One entry that is owed to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// To whom.
    pub endpoint: EndpointId,
    /// Its place in the order of what is owed; grows with each debt of the database and is never used again.
    pub turn: u64,
    /// The entry's position in the journal.
    pub position: u64,
    /// The conversation within which order is kept.
    pub conversation: ConversationId,
    /// Since when.
    pub since: Millis,
    /// Not before this is it tried again.
    pub due: Millis,
    /// How often it was tried.
    pub attempts: u32,
}

/// Why a debt is not paid any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// Every attempt that it was to have has failed.
    Exhausted,
    /// It grew older than the application wants.
    TooOld,
    /// Its entry cannot be read or shown; nothing to post would come of it.
    Unreadable,
}

impl GivenUp {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::TooOld => "too_old",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A debt that was given up, kept so that it can be owed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What was owed.
    pub owed: Owed,
    /// When it was given up.
    pub at: Millis,
    /// Why, as [`GivenUp::as_str`].
    pub reason: String,
    /// What the last attempt said.
    pub last: Option<String>,
}

/// One try to post an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The entry.
    pub position: u64,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The debt.
    pub turn: u64,
    /// When it began.
    pub at: Millis,
    /// How long it took, in microseconds.
    pub took: u64,
    /// `delivered`, or why not.
    pub result: String,
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// The first bytes of the answer, where they are kept.
    pub answer: Option<String>,
}

/// Debts to be written, with how far the one who found them has come.
#[derive(Debug, Default)]
pub struct Owing {
    /// The debts.
    pub owed: Vec<Owed>,
    /// Given up before, and owed again by this: taken off the list.
    pub revived: Vec<(EndpointId, u64)>,
    /// Endpoints as they are from then on.
    pub endpoints: Vec<EndpointRow>,
    /// A cursor's name and value.
    pub cursor: Option<(String, String)>,
}

/// What became of debts.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Paid, or owed no more.
    pub done: Vec<(EndpointId, u64)>,
    /// Tried without success, with when they are due again.
    pub waiting: Vec<Owed>,
    /// Given up.
    pub dead: Vec<DeadLetter>,
    /// The attempts behind all that.
    pub attempts: Vec<Attempt>,
}

impl Settlement {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.done.is_empty() && self.waiting.is_empty() && self.dead.is_empty() && self.attempts.is_empty()
    }
}

/// How much an endpoint is owed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Entries owed.
    pub owed: u64,
    /// Since when the oldest of them.
    pub oldest: Option<Millis>,
    /// Entries given up.
    pub dead: u64,
}

type Done = oneshot::Receiver<Result<(), StoreError>>;
type Read<T> = BoxFuture<'static, Result<T, ReadError>>;

/// What is owed to webhooks. Writes are taken in the order of the calls.
pub trait Debts {
    /// The entries of every account after a position, and the position up to which that is all.
    fn journal(&self, after: u64, limit: usize) -> Read<Feed>;

    /// One entry; none if there is none.
    fn entry(&self, position: u64) -> Read<Option<Arc<Sight>>>;

    /// Every endpoint that is known, by number.
    fn endpoints(&self) -> Read<Vec<EndpointRow>>;

    /// Keeps an endpoint; answered when it is on disk.
    fn keep_endpoint(&self, row: EndpointRow) -> Done;

    /// Forgets an endpoint with what it is owed and what was given up; answered when that is on disk.
    fn forget_endpoint(&self, id: EndpointId) -> Done;

    /// Writes debts and moves the cursor, together.
    fn owe(&self, owing: Arc<Owing>) -> Done;

    /// Writes what became of debts, together.
    fn settle(&self, settlement: Arc<Settlement>) -> Done;

    /// What an endpoint is owed after a turn, in order.
    fn owed(&self, endpoint: EndpointId, after: u64, limit: usize) -> Read<Vec<Owed>>;

    /// The same of one conversation.
    fn owed_of(&self, endpoint: EndpointId, conversation: ConversationId, after: u64, limit: usize) -> Read<Vec<Owed>>;

    /// What was given up at an endpoint after a turn, in order.
    fn dead_letters(&self, endpoint: EndpointId, after: u64, limit: usize) -> Read<Vec<DeadLetter>>;

    /// How much every endpoint is owed. It counts every debt.
    fn balances(&self) -> Read<Vec<(EndpointId, Balance)>>;

    /// The position of the first entry that was written at a time or later; one above the head if there is none.
    fn position_at(&self, time: Millis) -> Read<u64>;

    /// The attempts to post an entry to any endpoint, by endpoint and time.
    fn attempts(&self, position: u64) -> Read<Vec<Attempt>>;

    /// Removes some of what is older: of the dead letters, and of the attempts. Whether there may be more.
    fn tidy_debts(&self, dead_before: Millis, attempts_before: Millis) -> BoxFuture<'static, Result<bool, StoreError>>;
}
