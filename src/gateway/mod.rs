//! The operations: every command and query there is. Whatever a dialect wants to change or know, it asks here.
//!
//! This is where store and hub meet, in this order: append to the log, then announce. Ownership is checked inside
//! each decision and before each read, by one rule ([`crate::domain::visible`]).

mod feed;
mod fetch;
mod notes;
mod programs;
mod query;

pub use feed::Fed;
pub use notes::{Note, Noted, Notes};
pub use programs::{AgentNote, Part, derived_uuid};
pub(crate) use query::CATCH_UP;
pub use query::{Followed, Found, Profile, Query};

use crate::config::{LiveLimits, LiveRetention};
use crate::domain::{
    Actor, AgentState, Command, Consumer, Conversation, Draft, FieldChange, Outcome, Person, Policy, Refusal, Role, View, decide,
};
use crate::faults::Faults;
use crate::files::{FilePath, Files, Gone};
use crate::hub::{Hub, Typing};
use crate::identity::{Account, Identity, fingerprint};
use crate::store::{AnswerTo, Committed, Decided, Decision, Fingerprint, ReadError, Retry, Store, StoreError};
use crate::throttle::Throttle;
use futures::future::BoxFuture;
use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tieline_protocol::code::{CloseCode, ErrorCode};
use tieline_protocol::event::EventLimits;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, UserId};
use tokio::sync::{Semaphore, oneshot};

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store's answer: refused, or not confirmed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be read now.
    #[error("the store cannot be read now; try again")]
    Unreadable,
    /// The position is from another log.
    #[error("the position is of another log; this is log {epoch}, its numbers begin at {oldest}{}", newest(*head))]
    OtherEpoch {
        /// The log that is served.
        epoch: String,
        /// Its oldest number.
        oldest: u64,
        /// Its newest number, if there is any.
        head: Option<u64>,
    },
    /// The request was refused before it became an operation.
    #[error("{detail}")]
    Fault {
        /// The code.
        code: ErrorCode,
        /// What is wrong.
        detail: Cow<'static, str>,
    },
}

fn newest(head: Option<u64>) -> String {
    head.map_or_else(|| " and there is none yet".to_owned(), |head| format!(" and end at {head}"))
}

impl Error {
    /// A request that is refused before it becomes an operation.
    pub fn fault(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Fault { code, detail: detail.into() }
    }

    /// A request that is not understood.
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::fault(ErrorCode::InvalidRequest, detail)
    }

    /// A request that lacks something.
    pub fn missing(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::fault(ErrorCode::MissingParameter, detail)
    }

    /// The code that tells a client what to do.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.code(),
            Self::Unreadable => ErrorCode::Busy,
            Self::OtherEpoch { .. } => ErrorCode::OtherEpoch,
            Self::Fault { code, .. } => *code,
        }
    }

    /// Which command of several is at fault.
    #[must_use]
    pub fn place(&self) -> usize {
        match self {
            Self::Store(StoreError::Refused(place, _)) => *place,
            _ => 0,
        }
    }

    /// Whether the conversation is another's or not there, which no surface may tell apart.
    #[must_use]
    pub fn is_no_such_conversation(&self) -> bool {
        matches!(self, Self::Store(StoreError::Refused(_, Refusal::NoSuchConversation)))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Store(StoreError::Refused(0, refusal))
    }
}

/// Commands that belong together, from one actor.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks.
    pub actor: Actor,
    /// What for: all of it happens or nothing.
    pub commands: Vec<Command>,
    /// Set if a repeat is to be harmless.
    pub key: Option<IdempotencyKey>,
    /// Set if the application counts repeats: what is repeated.
    pub resend: Option<Fingerprint>,
}

/// An idempotency key, and what it was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    key: String,
    fingerprint: Fingerprint,
    /// Whose it is, if not the actor's of the request.
    owner: Option<String>,
}

/// Longest idempotency key, in characters.
const LONGEST_KEY: usize = 255;

impl IdempotencyKey {
    /// A key for a request of which `parts` are what is asked for: types and bodies, each body in whatever form it
    /// came. Two bodies that differ only in white space or the order of members are the same.
    ///
    /// # Errors
    /// [`Error::Fault`] if the key is empty, too long, or holds what cannot be printed.
    pub fn new(key: &str, parts: &[&str]) -> Result<Self, Error> {
        if key.is_empty() || key.chars().count() > LONGEST_KEY || key.chars().any(char::is_control) {
            return Err(Error::invalid("an idempotency key has 1 to 255 printable characters"));
        }
        Ok(Self { key: key.to_owned(), fingerprint: canonical_fingerprint(parts), owner: None })
    }

    /// The same as the key of whoever calls, in whose name that may ever act: so it is known before a request says in whose.
    #[must_use]
    pub fn kept_for(self, caller: &Actor) -> Self {
        Self { owner: Some(caller.sender()), ..self }
    }

    /// What the store knows it by.
    fn retry(self, actor: &Actor) -> Retry {
        let owner = self.owner.unwrap_or_else(|| actor.sender());
        Retry { name: fingerprint(&[actor.account().as_str(), &owner, &self.key]), fingerprint: self.fingerprint }
    }

    /// The key, as it came.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key
    }
}

/// A SHA-256 of types and bodies that does not depend on white space or the order of members.
#[must_use]
pub fn canonical_fingerprint(parts: &[&str]) -> Fingerprint {
    let canonical =
        |part: &&str| serde_json::from_str::<serde_json::Value>(part).map_or_else(|_| (*part).to_owned(), |value| value.to_string());
    let canonical: Vec<String> = parts.iter().map(canonical).collect();
    fingerprint(&canonical.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What a gateway is put together from.
#[derive(Debug)]
pub struct Parts {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Who is connected.
    pub hub: Arc<Hub>,
    /// Who is who.
    pub identity: Arc<Identity>,
    /// The attachments.
    pub files: Arc<Files>,
    /// What an event is held to.
    pub limits: LiveLimits,
    /// What commits leave behind.
    pub notes: Arc<Notes>,
    /// What is to go wrong on demand.
    pub faults: Arc<Faults>,
    /// How many files one person may put into the store.
    pub uploads: Throttle,
    /// How long is remembered where events went.
    pub retention: LiveRetention,
}

/// The operations.
#[derive(Debug)]
pub struct Gateway {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    identity: Arc<Identity>,
    limits: LiveLimits,
    notes: Arc<Notes>,
    files: Arc<Files>,
    faults: Arc<Faults>,
    uploads: Throttle,
    retention: LiveRetention,
    catch_ups: Semaphore,
}

/// Sessions that read and encode what they have missed at one time.
const CATCH_UPS: usize = 1;

/// An answer on its way.
pub struct Pending(Waiting);

enum Waiting {
    Store(oneshot::Receiver<Result<Decided, StoreError>>),
    Other(BoxFuture<'static, Result<Decided, Error>>),
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}

impl Future for Pending {
    type Output = Result<Decided, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Waiting::Store(answer) => Pin::new(answer).poll(context).map(|answer| match answer {
                Ok(decided) => decided.map_err(Error::Store),
                // The writer is gone without a word.
                Err(_) => Err(Error::Store(StoreError::Unknown)),
            }),
            Waiting::Other(answer) => answer.as_mut().poll(context),
        }
    }
}

/// Files that nothing may begin to show.
#[derive(Debug)]
pub(crate) struct Leaving(HashMap<String, Gone>);

impl Leaving {
    /// Whether this file is among them.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

impl Gateway {
    /// Puts the parts together. Whoever opened the store must have it tell [`announcer`] of each commit, with these notes.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { store, hub, identity, files, limits, notes, faults, uploads, retention } = parts;
        Arc::new(Self { store, hub, identity, limits, notes, files, faults, uploads, retention, catch_ups: Semaphore::new(CATCH_UPS) })
    }

    /// Forgets who has been quiet. Call it now and then.
    pub fn tidy(&self) {
        self.identity.tidy();
        self.uploads.tidy();
        let kept = i64::try_from(self.retention.load().traces.0.as_millis()).unwrap_or(i64::MAX);
        self.hub.traces().forget(self.identity.now().saturating_sub(kept));
    }

    /// Ends what an application that is removed or disabled was let in by, and closes its sockets and its consumers'; how many.
    pub fn close_app(&self, account: &AccountId, app: &ClientId) -> usize {
        // Their leases end, so that nothing is acked any more; whoever is still there is told at once.
        self.identity.end_app(account, app);
        let (account, app) = (account.clone(), app.clone());
        let is_theirs = move |actor: &Actor| match actor {
            Actor::Application { app: own, .. } | Actor::Consumer { app: Some(own), .. } => *own == app,
            _ => false,
        };
        self.hub.close_where(move |actor| *actor.account() == account && is_theirs(actor), CloseCode::Token)
    }

    /// What is to go wrong on demand.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The attachments.
    #[must_use]
    pub fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// What commits leave behind for whoever looks for agents.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// What the actor's account has decided beforehand.
    fn policy(&self, actor: &Actor) -> Arc<Policy> {
        self.account(actor).map(|account| account.policy.clone()).unwrap_or_default()
    }

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Who is who.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The store, for what is no conversation's business: health and the log's name.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What an event is held to.
    #[must_use]
    pub fn limits(&self) -> EventLimits {
        self.limits.load().events()
    }

    /// Holds people to the limits as they are now, where that is the gateway's business.
    pub fn limits_changed(&self) {
        self.uploads.set(self.limits.load().uploads_per_minute);
    }

    /// The account of an actor; every actor has one.
    fn account(&self, actor: &Actor) -> Option<Arc<Account>> {
        self.identity.directory().account(actor.account().as_str())
    }

    /// Hands commands in. They are decided in the order of the calls, and answered when they are on disk.
    pub fn submit(self: &Arc<Self>, request: Request) -> Pending {
        match self.prepare(request) {
            Ok(decision) => {
                let (to, answer) = AnswerTo::once();
                self.store.decide_to(decision, to);
                Pending(Waiting::Store(answer))
            }
            Err(pending) => pending,
        }
    }

    /// Makes commands into the decision that is to be handed in to the store.
    ///
    /// # Errors
    /// An answer, where that is not all that there is to do.
    pub fn prepare(self: &Arc<Self>, request: Request) -> Result<Box<Decision>, Pending> {
        let other = |answer: BoxFuture<'static, Result<Decided, Error>>| Err(Pending(Waiting::Other(answer)));
        let Request { actor, commands, key, resend } = request;
        if let Some(error) = self.unknown_queue(&actor, &commands).or_else(|| self.foreign_file(&actor, &commands)) {
            let this = self.clone();
            // What was done once is answered as it was then, whatever has changed since.
            return other(Box::pin(async move { this.replayed(&actor, key).await?.ok_or(error) }));
        }
        let shows_typing = commands.iter().any(|command| matches!(command, Command::Type { .. }));
        if !shows_typing {
            return Ok(Box::new(self.decision(actor, commands, key, resend)));
        }
        if commands.len() == 1 {
            let this = self.clone();
            return other(Box::pin(async move {
                this.show_typing(&actor, &commands[0]).await?;
                Ok(Decided { outcomes: vec![Outcome::Published { sequence: 0, resends: 0 }], replayed: false })
            }));
        }
        let meant = commands.iter().find_map(|command| match command {
            Command::Open { conversation, .. } => Some(conversation.clone()),
            _ => None,
        });
        let typed: Vec<Command> = commands.iter().filter(|command| matches!(command, Command::Type { .. })).cloned().collect();
        let answer = self.store.decide(self.decision(actor.clone(), commands, key, resend));
        let this = self.clone();
        other(Box::pin(async move {
            let decided = Pending(Waiting::Store(answer)).await?;
            let opened = decided.outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Opened { conversation, .. } => Some(conversation),
                _ => None,
            });
            for command in &typed {
                // The conversation that was to be opened may have been found under its name.
                let command = &standing_for(command, meant.as_ref().zip(opened));
                // It was allowed a moment ago; if it no longer is, there is nothing to show.
                if let Err(error) = this.show_typing(&actor, command).await {
                    tracing::debug!(%error, "typing is no longer shown");
                }
            }
            Ok(decided)
        }))
    }

    fn decision(&self, actor: Actor, commands: Vec<Command>, key: Option<IdempotencyKey>, resend: Option<Fingerprint>) -> Decision {
        let conversation = commands.iter().find_map(|command| match command {
            Command::Publish { conversation, .. } => Some(conversation.clone()),
            _ => None,
        });
        let policy = self.policy(&actor);
        let going = commands.iter().any(|command| shown_file(command).is_some()).then(|| self.files.going().clone());
        Decision {
            account: actor.account().clone(),
            received: self.identity.now(),
            scope: match commands.as_slice() {
                [command] => command.scope(&actor),
                commands => commands.iter().flat_map(|command| command.scope(&actor)).collect(),
            },
            retry: key.map(|key| key.retry(&actor)),
            resend: conversation.zip(resend),
            rule: Box::new(move |draft| {
                // Looked at when it is decided: what is decided before a file begins to go shows it, and then it stays.
                let is_gone = |command: &Command| going.as_ref().zip(shown_file(command)).is_some_and(|(going, path)| going.has(path));
                match commands.iter().position(is_gone) {
                    Some(place) => {
                        Err((place, Refusal::NotNow("the file is gone: nothing has shown it for too long; put it here again".into())))
                    }
                    None => decide(&actor, &commands, &policy, draft),
                }
            }),
        }
    }

    /// The answer to an earlier request of the same key and the same words, if there was one. It is to be given again, whatever the
    /// request would be refused for by now: so this is asked before anything is checked that may change, and before anything is fetched.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] for other words; whatever keeps the store from answering.
    pub async fn replayed(&self, actor: &Actor, key: Option<IdempotencyKey>) -> Result<Option<Decided>, Error> {
        match key {
            Some(key) => self.ask_writer(actor.account(), Some(key.retry(actor))).await,
            None => Ok(None),
        }
    }

    /// Waits until all that was handed in before is decided, and can be read.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    pub(crate) async fn settled(&self, account: &AccountId) -> Result<(), Error> {
        self.ask_writer(account, None).await.map(drop)
    }

    /// Has files go: nothing begins to show them any more, and what was handed in before can be read. That is so until what this
    /// returns is dropped.
    ///
    /// # Errors
    /// [`ReadError`], if the store does not answer.
    pub(crate) async fn go(&self, paths: &[String]) -> Result<Leaving, ReadError> {
        let leaving = Leaving(paths.iter().map(|path| (path.clone(), self.files.going().enter(path))).collect());
        if let Some(file) = paths.first().and_then(|path| FilePath::parse(path)) {
            self.settled(file.account()).await.map_err(|_| ReadError)?;
        }
        Ok(leaving)
    }

    /// Hands in a decision that nothing comes of: what was decided before it under a key answers it, else it is refused.
    async fn ask_writer(&self, account: &AccountId, retry: Option<Retry>) -> Result<Option<Decided>, Error> {
        let decision = Decision {
            account: account.clone(),
            received: self.identity.now(),
            scope: Vec::new(),
            retry,
            resend: None,
            rule: Box::new(|_| Err((0, Refusal::NotNow("nothing is asked for".into())))),
        };
        match Pending(Waiting::Store(self.store.decide(decision))).await {
            Ok(decided) => Ok(Some(decided)),
            Err(Error::Store(StoreError::Refused(..))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Only who put a file there may show it: a path alone is no proof that one may see what it names.
    fn foreign_file(&self, actor: &Actor, commands: &[Command]) -> Option<Error> {
        if !commands.iter().any(|command| shown_file(command).is_some()) {
            return None;
        }
        let person = actor.person()?;
        let owns = |person: &Person, path: &str| self.files.is_owner(actor.account(), &query::owner(person), path);
        let is_foreign = |command: &Command| match command {
            Command::Publish { file: Some(path), .. } => !owns(&person, path),
            // Who writes in another's name puts files there in its own or in theirs.
            Command::Record { file: Some(path), from, .. } => !owns(from, path) && !owns(&person, path),
            _ => false,
        };
        let place = commands.iter().position(is_foreign)?;
        let why = "relativePath is no file that you have put here; ask for a URL by ms.GenerateURLForUploadFile, and put it there first";
        Some(Error::Store(StoreError::Refused(place, Refusal::Invalid(why.into()))))
    }

    /// A queue that nobody configured would be served by nobody.
    fn unknown_queue(&self, actor: &Actor, commands: &[Command]) -> Option<Error> {
        // Most commands name none, and then nobody is looked up.
        if !commands.iter().any(|command| matches!(command, Command::Open { .. } | Command::Update { .. })) {
            return None;
        }
        let account = self.account(actor)?;
        let queues = commands.iter().enumerate().flat_map(|(place, command)| {
            let queues: Vec<_> = match command {
                Command::Open { queue, .. } => vec![queue],
                Command::Update { changes, .. } => changes
                    .iter()
                    .filter_map(|change| match change {
                        FieldChange::SetQueue(queue) | FieldChange::Transfer(queue) => Some(queue),
                        _ => None,
                    })
                    .collect(),
                _ => Vec::new(),
            };
            queues.into_iter().map(move |queue| (place, queue))
        });
        let (place, queue) = queues.into_iter().find(|(_, queue)| !account.has_queue(queue))?;
        let refusal = Refusal::NobodyThere(format!("Skill {queue}").into());
        Some(Error::Store(StoreError::Refused(place, refusal)))
    }

    /// Checks a typing state like an event, and shows it.
    async fn show_typing(&self, actor: &Actor, command: &Command) -> Result<(), Error> {
        let Command::Type { conversation: id, dialog, event, whisper } = command else { return Ok(()) };
        let conversation = match self.store.conversation_at_hand(id) {
            Some(conversation) => Some(conversation),
            None => self.store.conversation(id.clone()).await.map_err(|_| Error::Unreadable)?,
        };
        let view = One(conversation);
        let mut draft = Draft::new(&view, self.identity.now(), 0);
        decide(actor, std::slice::from_ref(command), &self.policy(actor), &mut draft)
            .map_err(|(place, refusal)| StoreError::Refused(place, refusal))?;
        let (Some(conversation), Some(from)) = (view.0, actor.person()) else { return Ok(()) };
        let role = conversation.details.participant(&from).map_or(Role::Consumer, |participant| participant.role);
        self.hub.show_typing(Typing::new(conversation, dialog.clone(), (from, role), event.clone(), *whisper));
        Ok(())
    }

    /// The conversation, if the actor may know of it, and its dialog.
    async fn look(&self, actor: &Actor, id: &ConversationId, dialog: &DialogId) -> Result<Conversation, Error> {
        let conversation = self.conversation(actor, id).await?;
        match conversation.dialog(dialog) {
            Some(_) => Ok(conversation),
            None => Err(Refusal::NoSuchDialog.into()),
        }
    }
}

/// The file that a command shows.
fn shown_file(command: &Command) -> Option<&str> {
    match command {
        Command::Publish { file, .. } | Command::Record { file, .. } => file.as_deref(),
        _ => None,
    }
}

/// A typing state in the conversation that came to stand for the one it names.
fn standing_for(command: &Command, found: Option<(&ConversationId, &ConversationId)>) -> Command {
    match (command, found) {
        (Command::Type { conversation, dialog, event, whisper }, Some((meant, opened))) if conversation == meant => {
            let dialog = if *dialog == meant.main_dialog() { opened.main_dialog() } else { dialog.clone() };
            Command::Type { conversation: opened.clone(), dialog, event: event.clone(), whisper: *whisper }
        }
        _ => command.clone(),
    }
}

/// What the store must be told to do with each commit, so that the hub's sessions hear of it.
#[must_use]
pub fn announcer(hub: Arc<Hub>, notes: Arc<Notes>) -> crate::store::Announce {
    Box::new(move |committed| {
        notes.write(&committed);
        let Committed { sights, changes, decisions } = committed;
        hub.traces().committed(&decisions, jiff::Timestamp::now().as_millisecond());
        hub.announce(sights, changes);
    })
}

/// A view of one conversation, for checks that write nothing.
struct One(Option<Conversation>);

impl View for One {
    fn conversation(&self, id: &ConversationId) -> Option<Conversation> {
        self.0.clone().filter(|conversation| conversation.details.id == *id)
    }
    fn consumer(&self, _: &AccountId, _: &ConsumerId) -> Option<Consumer> {
        None
    }
    fn next_number(&self, _: &AccountId) -> i64 {
        1
    }
    fn resends(&self) -> u64 {
        0
    }
    fn agent(&self, _: &AccountId, _: &UserId) -> Option<AgentState> {
        None
    }
    fn load(&self, _: &AccountId, _: &UserId) -> usize {
        0
    }
    fn has_message(&self, _: &ConversationId, _: &str) -> bool {
        false
    }
    fn bound(&self, _: &AccountId, _: &ConsumerId, _: &str) -> Option<ConversationId> {
        None
    }
}
