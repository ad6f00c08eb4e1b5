//! The journal and what is derived from it.
//!
//! A change is a [`Decision`]: a scope and a pure rule. One writer runs waiting decisions in the order they came,
//! appends what they write to the journal, commits once for all of them with a sync to disk, and only then answers
//! and tells. So:
//!
//! - **what is answered is on disk**, with its retry key;
//! - **numbers have no holes**: they are given out by the one writer, in commit order;
//! - a decision that is refused, or panics, fails alone; a commit that fails fails its whole batch, whose fate is *unknown* where
//!   a sync failed.
//!
//! State rows, the (dialog, sequence) index and the applications' feeds are projections: they follow the journal in
//! transactions of their own, and memory holds what they lack, so that a read is always current.
//!
//! [`Store`] is the contract; [`sqlite`] keeps it on one machine.

#[cfg(test)]
mod contract;
mod debts;
mod memory;
pub mod sqlite;

pub use debts::{Attempt, Balance, DeadLetter, Debts, EndpointId, EndpointRow, EndpointState, GivenUp, Owed, Owing, Settlement};

use crate::domain::{
    AgentState, Consumer, Conversation, ConversationFilter, Draft, Message, Millis, Outcome, Person, Refusal, ScopeKey, Sight,
};
use futures::future::BoxFuture;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, QueueId, UserId};
use tokio::sync::{oneshot, watch};

/// The pure part of a decision. It may run more than once; only the last run counts.
pub type Rule = Box<dyn Fn(&mut Draft<'_>) -> Result<Vec<Outcome>, (usize, Refusal)> + Send>;

/// A SHA-256 of what a request asks for.
pub type Fingerprint = [u8; 32];

/// A change to be decided.
pub struct Decision {
    /// The tenant.
    pub account: AccountId,
    /// What the rule may look at.
    pub scope: Vec<ScopeKey>,
    /// The rule.
    pub rule: Rule,
    /// When it was handed in.
    pub received: Millis,
    /// Set if the caller made a repeat harmless.
    pub retry: Option<Retry>,
    /// Set if the application counts repeats: the conversation, and what is repeated.
    pub resend: Option<(ConversationId, Fingerprint)>,
}

impl std::fmt::Debug for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decision").field("account", &self.account).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// An idempotency key: unique per account and sender, kept with what it caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Of the account, whose key it is, and the key.
    pub name: Fingerprint,
    /// What was asked for, so that another request under the same key is told apart.
    pub fingerprint: Fingerprint,
}

/// The answer to a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What became of each command.
    pub outcomes: Vec<Outcome>,
    /// Whether this is the stored answer to an earlier request of the same key.
    pub replayed: bool,
}

impl Decided {
    /// The sentences that were to be said again, in their order.
    pub fn remarks(&self) -> impl Iterator<Item = &str> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Remarked(sentence) => Some(sentence.as_str()),
            _ => None,
        })
    }
}

/// Why a decision has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The rules refuse the command at this place. Nothing was written.
    #[error("{1}")]
    Refused(usize, Refusal),
    /// The key was used for another request. Nothing was written.
    #[error("this idempotency key was used for another request; use a new key, or repeat that request unchanged")]
    KeyReused,
    /// The document has another revision by now. Nothing was written.
    #[error("the revision is {0} by now; read it again and repeat the change with that")]
    OtherRevision(u64),
    /// More is waiting than can be taken. Nothing was written.
    #[error("too many requests are waiting; try again in a second")]
    Busy,
    /// The disk is full. Nothing was written.
    #[error("the disk is full; nothing was written")]
    DiskFull,
    /// The store did not confirm the write: it may or may not be there.
    #[error("the store did not confirm the write; repeat it with the same idempotency key")]
    Unknown,
    /// A fault of ours. Nothing was written.
    #[error("internal error")]
    Internal,
}

impl StoreError {
    /// The code that tells a client what to do.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(_, refusal) => refusal.code(),
            Self::KeyReused => ErrorCode::KeyReused,
            Self::OtherRevision(_) => ErrorCode::OtherRevision,
            Self::Busy => ErrorCode::Busy,
            Self::DiskFull => ErrorCode::DiskFull,
            Self::Unknown => ErrorCode::Unknown,
            Self::Internal => ErrorCode::Internal,
        }
    }
}

/// A read failed; the detail is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read now")]
pub struct ReadError;

/// Which events of a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The first `limit` events from a number up to another, both included.
    Forward {
        /// Smallest number wanted.
        from: u64,
        /// Largest number wanted.
        to: u64,
        /// Most events.
        limit: usize,
    },
    /// The last `limit` events up to a number, included. Still in ascending order.
    Backward {
        /// Largest number wanted.
        to: u64,
        /// Most events.
        limit: usize,
    },
}

/// Conversations that pass a filter, and the journal position up to which that is certain.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Every change up to this position is in.
    pub position: u64,
    /// Most recently changed first.
    pub conversations: Vec<Conversation>,
}

/// Entries of a feed, in journal order, and the position up to which that is all.
pub type Feed = (Vec<Arc<Sight>>, u64);

/// An agent's login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The session.
    pub id: String,
    /// The tenant.
    pub account: AccountId,
    /// The agent.
    pub agent: String,
    /// What a refresh must repeat.
    pub csrf: String,
    /// Of what let the agent in. It holds as long as that does.
    pub made_with: Fingerprint,
    /// When it ends unless refreshed.
    pub expires: Millis,
    /// Whether it was ended.
    pub ended: bool,
}

/// A place where a file is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUse {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whether only the brand's side may see it there.
    pub is_whisper: bool,
    /// The journal position of the message that shows it.
    pub position: u64,
}

impl FileUse {
    pub(crate) fn of(message: &Message, position: u64) -> Self {
        Self { conversation: message.conversation.clone(), is_whisper: message.whisper, position }
    }
}

/// Something that was set up while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The tenant.
    pub account: AccountId,
    /// What kind of thing it is.
    pub collection: String,
    /// Its name among those.
    pub id: String,
    /// Grows by one with each change, from 1.
    pub revision: u64,
    /// JSON.
    pub body: String,
}

/// The wall clock, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// How the store fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Writes are confirmed.
    Writing,
    /// The disk is full; reads go on, writes are refused until there is room.
    DiskFull,
    /// A sync failed: what is on disk is no longer known, so writing has ended. The process must be restarted.
    Failed,
}

/// What a committed batch changed.
#[derive(Debug, Default)]
pub struct Committed {
    /// The entries, in order.
    pub sights: Vec<Arc<Sight>>,
    /// The conversations changed by more than events: as they were before the batch, and as they are now.
    pub changes: Vec<(Option<Conversation>, Conversation)>,
    /// Of each decision that wrote something, in order: the position of its first entry, and when it was handed in.
    pub decisions: Vec<(u64, Millis)>,
}

/// Told of each committed batch, in order, on the writer's own thread: it must not block.
pub type Announce = Box<dyn Fn(Committed) + Send>;

/// Who hands in decisions, and is told what became of each by the number that it gave it.
pub trait Asker: Send + Sync {
    /// Called once for each decision, from whatever thread. It must not block.
    fn answered(&self, number: u64, answer: Result<Decided, StoreError>);
}

/// Where the answer to a decision goes. If it is dropped before there is one, nobody knows what became of the decision, and that is
/// the answer.
pub struct AnswerTo(To);

enum To {
    Once(oneshot::Sender<Result<Decided, StoreError>>),
    Asker(Arc<dyn Asker>, u64),
    Nobody,
}

impl std::fmt::Debug for AnswerTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerTo")
    }
}

impl AnswerTo {
    /// Whoever has the receiver.
    #[must_use]
    pub fn once() -> (Self, oneshot::Receiver<Result<Decided, StoreError>>) {
        let (tell, answer) = oneshot::channel();
        (Self(To::Once(tell)), answer)
    }

    /// An asker, about its decision of this number.
    #[must_use]
    pub fn asker(asker: Arc<dyn Asker>, number: u64) -> Self {
        Self(To::Asker(asker, number))
    }

    /// Answers. Nobody minds if nobody waits any more, and who panics over it takes nobody else's answer along.
    pub fn answer(mut self, answer: Result<Decided, StoreError>) {
        self.tell(answer);
    }

    fn tell(&mut self, answer: Result<Decided, StoreError>) {
        match std::mem::replace(&mut self.0, To::Nobody) {
            To::Once(tell) => drop(tell.send(answer)),
            To::Asker(asker, number) => {
                if catch_unwind(AssertUnwindSafe(|| asker.answered(number, answer))).is_err() {
                    tracing::error!("whoever was answered panicked");
                }
            }
            To::Nobody => {}
        }
    }
}

impl Drop for AnswerTo {
    fn drop(&mut self) {
        // Who waits at the other end of a channel is told by its end.
        if matches!(self.0, To::Asker(..)) {
            self.tell(Err(StoreError::Unknown));
        }
    }
}

/// Which consumers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumersBy {
    /// All of the account.
    Account,
    /// Whose ids begin so.
    Id(String),
    /// Who have this e-mail address, whatever the case of its letters.
    Mail(String),
    /// Who have this telephone number.
    Phone(String),
    /// Whom an application calls so.
    ExtId(String),
}

impl ConsumersBy {
    /// Whether a consumer is one of them.
    pub(crate) fn has(&self, consumer: &Consumer) -> bool {
        match self {
            Self::Account => true,
            Self::Id(prefix) => consumer.id.as_str().starts_with(prefix.as_str()),
            Self::Mail(mail) => consumer.email().is_some_and(|known| known.to_lowercase() == mail.to_lowercase()),
            Self::Phone(phone) => consumer.phone() == Some(phone),
            Self::ExtId(ext_id) => consumer.ext_id.as_ref() == Some(ext_id),
        }
    }
}

/// What is asked to be erased of what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The request's id.
    pub id: String,
    /// The tenant.
    pub account: AccountId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The message, if it is about one alone.
    pub message: Option<(DialogId, u64)>,
    /// Who asked.
    pub by: Person,
    /// When.
    pub at: Millis,
    /// The journal position of that, and the place among the changes of that entry: no other erasure has both.
    pub position: u64,
    /// See `position`.
    pub place: u64,
    /// When it was erased.
    pub done: Option<Millis>,
}

/// How far an erasure has come: the next journal position that is to be looked at.
pub type Erased = u64;

/// Where conversations are kept.
///
/// Decisions are taken in the order of the calls to [`Store::decide_to`]. An answer means that everything the decision
/// wrote is on disk. Reads see everything that was answered before they began.
pub trait Store: Debts + Send + Sync + std::fmt::Debug {
    /// Hands in a decision. The answer comes after the commit.
    fn decide_to(&self, decision: Box<Decision>, to: AnswerTo);

    /// The same for who waits for this one answer; a receiver that is dropped means nobody does.
    fn decide(&self, decision: Decision) -> oneshot::Receiver<Result<Decided, StoreError>> {
        let (to, answer) = AnswerTo::once();
        self.decide_to(Box::new(decision), to);
        answer
    }

    /// Events of a dialog, ascending. Fewer may come than are asked for, where they are large; who wants more asks again
    /// from where they end. At least one comes, if there is one.
    fn events(&self, dialog: DialogId, range: Range) -> BoxFuture<'static, Result<Vec<Arc<Sight>>, ReadError>>;

    /// The same, if no disk must be asked for it and no more than `most` are found.
    fn events_at_hand(&self, dialog: &DialogId, range: Range, most: usize) -> Option<Vec<Arc<Sight>>>;

    /// A conversation.
    fn conversation(&self, id: ConversationId) -> BoxFuture<'static, Result<Option<Conversation>, ReadError>>;

    /// A conversation, if no disk must be asked for it.
    fn conversation_at_hand(&self, id: &ConversationId) -> Option<Conversation>;

    /// The most recently changed conversations that pass a filter.
    fn conversations(&self, filter: ConversationFilter, limit: usize) -> BoxFuture<'static, Result<Snapshot, ReadError>>;

    /// The conversation of a number within its account.
    fn numbered(&self, account: AccountId, number: i64) -> BoxFuture<'static, Result<Option<Conversation>, ReadError>>;

    /// The conversations of an account whose numbers lie between two, neither included: the smallest of them, or the largest.
    fn by_number(
        &self,
        account: AccountId,
        between: (i64, i64),
        is_up: bool,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>>;

    /// Conversations of an account, those first in whose MAIN dialogs somebody wrote last, or that were opened last: some of those of
    /// before a time, without as many as are to be passed over.
    fn by_word(
        &self,
        account: AccountId,
        before: Option<Millis>,
        offset: usize,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>>;

    /// The same among those of one consumer.
    fn of_consumer(
        &self,
        account: AccountId,
        consumer: ConsumerId,
        between: (i64, i64),
        is_up: bool,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>>;

    /// The conversation in which something is booked, by the other system's name for that: of several the one that was opened last.
    fn booked(&self, account: AccountId, booking: String) -> BoxFuture<'static, Result<Option<Conversation>, ReadError>>;

    /// What changed a conversation and is no event, from its opening on, in the order of the journal.
    fn changes(&self, conversation: ConversationId) -> BoxFuture<'static, Result<Vec<Arc<Sight>>, ReadError>>;

    /// The entries after a position that belong to an account.
    fn account_feed(&self, account: AccountId, after: u64, limit: usize) -> BoxFuture<'static, Result<Feed, ReadError>>;

    /// Consumers of an account, in the order of their ids, behind one.
    fn consumers(
        &self,
        account: AccountId,
        by: ConsumersBy,
        after: Option<ConsumerId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Consumer>, ReadError>>;

    /// The last consumers of an account in front of one, in the order of their ids.
    fn consumers_before(
        &self,
        account: AccountId,
        before: ConsumerId,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Consumer>, ReadError>>;

    /// What is asked to be erased and is not yet, the oldest first.
    fn erasures(&self) -> BoxFuture<'static, Result<Vec<Erasure>, ReadError>>;

    /// What was asked to be erased, done or not.
    fn erasure(&self, account: AccountId, id: String) -> BoxFuture<'static, Result<Option<Erasure>, ReadError>>;

    /// Erases some of what an erasure is about, from where it has come to, but for what names its files. Where it goes on, or nothing
    /// more, or [`StoreError::Busy`] if what was said is still on its way: then it is to be tried again.
    fn erase_words(&self, erasure: Erasure, from: Erased) -> oneshot::Receiver<Result<Option<Erased>, StoreError>>;

    /// The files that are shown by what an erasure is about and by nothing else.
    fn shown_only_by(&self, erasure: Erasure) -> BoxFuture<'static, Result<Vec<String>, ReadError>>;

    /// Notes that an erasure is done, when its files are gone.
    fn end_erasure(&self, erasure: Erasure, now: Millis) -> oneshot::Receiver<Result<(), StoreError>>;

    /// A consumer that was seen.
    fn consumer(&self, account: AccountId, id: ConsumerId) -> BoxFuture<'static, Result<Option<Consumer>, ReadError>>;

    /// The entries after a position that belong to conversations opened through an application.
    fn feed(&self, account: AccountId, app: ClientId, after: u64, limit: usize) -> BoxFuture<'static, Result<Feed, ReadError>>;

    /// What an agent last said of itself.
    fn agent(&self, account: AccountId, agent: UserId) -> BoxFuture<'static, Result<AgentState, ReadError>>;

    /// The agents of an account that ever said something of themselves.
    fn agents(&self, account: AccountId) -> BoxFuture<'static, Result<Vec<AgentState>, ReadError>>;

    /// Where a file is shown.
    fn shows(&self, account: AccountId, file: String) -> BoxFuture<'static, Result<Vec<FileUse>, ReadError>>;

    /// Conversations of all accounts in which something has fallen due, those due longest first.
    fn due(&self, now: Millis, limit: usize) -> BoxFuture<'static, Result<Vec<ConversationId>, ReadError>>;

    /// Open conversations of all accounts that agents answer.
    fn assigned(&self) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>>;

    /// Conversations of all accounts for which an agent must be found.
    fn pending(&self) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>>;

    /// Those of one account in one queue.
    fn pending_in(&self, account: AccountId, queue: QueueId) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>>;

    /// Closed conversations of all accounts that nothing has changed since a time, without those that [`Store::remove`] would
    /// leave because they are owed to a webhook or are the newest.
    fn expired(&self, before: Millis, limit: usize) -> BoxFuture<'static, Result<Vec<ConversationId>, ReadError>>;

    /// Takes a conversation away that is closed and unchanged since a time: with one entry of the journal it is no more. Whether
    /// it was taken; it stays if it changed, is owed to a webhook, or is the newest of its account.
    fn remove(&self, conversation: ConversationId, before: Millis) -> oneshot::Receiver<Result<bool, StoreError>>;

    /// What was taken away, and is not erased yet.
    fn removals(&self) -> BoxFuture<'static, Result<Vec<ConversationId>, ReadError>>;

    /// The files that are shown in a conversation and in no other, be it one that was taken away and is not erased yet.
    fn shown_only_in(&self, conversation: ConversationId) -> BoxFuture<'static, Result<Vec<String>, ReadError>>;

    /// Erases some of the rows of what was taken away, but for those that name its files. Whether there may be more: then it is
    /// to be called again.
    fn erase(&self, conversation: ConversationId) -> BoxFuture<'static, Result<bool, StoreError>>;

    /// Forgets that a conversation was taken away, when it is erased and its files are gone.
    fn forget_removed(&self, conversation: ConversationId) -> oneshot::Receiver<Result<(), StoreError>>;

    /// What was set up while running, of one kind, of all accounts.
    fn documents(&self, collection: &'static str) -> BoxFuture<'static, Result<Vec<Document>, ReadError>>;

    /// Keeps a document whose `revision` is one above that on disk; answered when it is there.
    fn keep_document(&self, document: Document) -> oneshot::Receiver<Result<(), StoreError>>;

    /// The position of the last committed entry.
    fn head(&self) -> u64;

    /// About how many decisions and other writes wait now.
    fn waiting(&self) -> usize;

    /// The name of this log. It changes when a copy of it goes its own way.
    fn epoch(&self) -> &str;

    /// An agent's login.
    fn session(&self, id: String) -> BoxFuture<'static, Result<Option<SessionRow>, ReadError>>;

    /// Keeps an agent's login; answered when it is on disk.
    fn keep_session(&self, row: SessionRow) -> oneshot::Receiver<Result<(), StoreError>>;

    /// Ends every login of an agent that is kept; answered when that is on disk.
    fn end_sessions(&self, account: AccountId, agent: UserId) -> oneshot::Receiver<Result<(), StoreError>>;

    /// What was last kept under a name.
    fn cursor(&self, name: String) -> BoxFuture<'static, Result<Option<String>, ReadError>>;

    /// Makes sure that a write is possible now, by one.
    fn probe(&self) -> oneshot::Receiver<Result<(), StoreError>>;

    /// How the store fares, and each change of that.
    fn health(&self) -> watch::Receiver<Health>;

    /// Finishes what was handed in, and stops. Later decisions are refused.
    fn close(&self) -> BoxFuture<'static, ()>;
}
