//! The queries: what an actor may know.

use super::{Error, Gateway};
use crate::domain::{
    Actor, AgentState, Availability, Consumer, Conversation, ConversationFilter, OpenState, Person, Refusal, Sight, visible,
};
use crate::files::{Files, Signed};
use crate::identity::{Agent, FormUse};
use crate::store::{Range, ReadError, Snapshot};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId, DialogId, UserId};
use tokio::sync::SemaphorePermit;

/// Most conversations in a snapshot; clients page beyond it by time.
const SNAPSHOT: usize = 1_000;
/// Most events in one read of a session that catches up.
pub(crate) const CATCH_UP: usize = 100;

/// Where a session that follows a dialog begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The first number to send.
    pub next: u64,
    /// The newest number, if there is any.
    pub head: Option<u64>,
}

/// Somebody's profile.
#[derive(Debug, Clone)]
pub enum Profile {
    /// A consumer's.
    Consumer(Consumer),
    /// An agent's.
    Agent(Agent),
}

/// What can be asked once and answered once.
#[derive(Debug, Clone)]
pub enum Query {
    /// Events of a dialog.
    Events {
        /// The conversation.
        conversation: ConversationId,
        /// The dialog.
        dialog: DialogId,
        /// Which.
        range: Range,
    },
    /// A profile; one's own if nobody is named.
    Profile(Option<String>),
    /// Where to put a file.
    UploadUrl {
        /// Its size in bytes, if that is known.
        size: Option<u64>,
        /// Its type, as the end of a name.
        kind: String,
    },
    /// Where to get a file.
    DownloadUrl {
        /// The file, as it was published.
        path: String,
    },
    /// A token for a secure form.
    FormToken {
        /// What for.
        purpose: FormUse,
        /// The conversation.
        conversation: ConversationId,
        /// The dialog in which the form was sent.
        dialog: DialogId,
        /// What was asked to be filled in.
        invitation: String,
        /// What was filled in.
        submission: Option<String>,
    },
    /// What is known of the account.
    Account,
    /// How long a conversation must wait.
    Place(ConversationId),
}

/// The answer to a [`Query`].
#[derive(Debug)]
pub enum Found {
    /// Events, ascending.
    Events(Vec<Arc<Sight>>),
    /// A profile.
    Profile(Box<Profile>),
    /// A signed URL.
    Url(Signed),
    /// A token.
    Token(FormUse, String),
    /// The account.
    Account {
        /// Its id.
        id: AccountId,
        /// Its name.
        name: String,
    },
    /// How long a conversation must wait.
    Place {
        /// Its place in its queue, from 1; none, if it does not wait.
        position: Option<usize>,
        /// Whether an agent of the queue is online.
        is_served: bool,
    },
}

impl Gateway {
    /// Answers a query.
    ///
    /// # Errors
    /// [`Error`]; the same for what is not there and for what the actor may not know of.
    pub async fn ask(&self, actor: &Actor, query: Query) -> Result<Found, Error> {
        match query {
            Query::Events { conversation, dialog, range } => self.events(actor, &conversation, &dialog, range).await.map(Found::Events),
            Query::Profile(whose) => self.profile(actor, whose.as_deref()).await.map(|profile| Found::Profile(Box::new(profile))),
            Query::UploadUrl { size, kind } => self.upload_url(actor, size, &kind).await.map(Found::Url),
            Query::DownloadUrl { path } => self.download_url(actor, path).await.map(Found::Url),
            Query::FormToken { purpose, conversation, dialog, invitation, submission } => {
                let found = self.look(actor, &conversation, &dialog).await?;
                let is_there = actor
                    .person()
                    .zip(found.dialog(&dialog))
                    .is_some_and(|(person, (_, dialog))| found.details.role_in(dialog, &person).is_some());
                let is_their_side = match purpose {
                    FormUse::Fill => matches!(actor, Actor::Consumer { .. }),
                    FormUse::Read => matches!(actor, Actor::Agent { .. }),
                };
                if !is_there {
                    return Err(Refusal::NotAParticipant.into());
                }
                if !is_their_side {
                    return Err(Refusal::NotPermitted("a consumer fills a secure form, and an agent reads it".into()).into());
                }
                let account = actor.account();
                let whose = actor.person().map(|person| person.public_id().to_owned()).unwrap_or_default();
                let token = self.identity().form_token(account, &whose, purpose, &dialog, &invitation, submission.as_deref());
                token
                    .map(|token| Found::Token(purpose, token))
                    .ok_or_else(|| Error::fault(ErrorCode::Internal, "the token cannot be signed"))
            }
            Query::Place(conversation) => self.place(actor, &conversation).await,
            Query::Account => {
                let account = self.account(actor).ok_or_else(|| Error::fault(ErrorCode::NotFound, "the account is gone"))?;
                Ok(Found::Account { id: account.id.clone(), name: account.name.clone() })
            }
        }
    }

    /// Whoever signs up for nothing must not fill the disk: a consumer needs a conversation to show a file in, and everybody
    /// has so many a minute.
    async fn upload_url(&self, actor: &Actor, size: Option<u64>, kind: &str) -> Result<Signed, Error> {
        let Some(person) = actor.person() else { return Err(silent()) };
        if let Actor::Consumer { account, id, .. } = actor {
            let open = ConversationFilter {
                consumer: Some(id.clone()),
                stages: vec![OpenState::Open],
                ..ConversationFilter::all(account.clone())
            };
            let open = self.store().conversations(open, 1).await.map_err(|_| Error::Unreadable)?;
            if open.conversations.is_empty() {
                return Err(Refusal::NotNow("there is no open conversation to show a file in; open one first".into()).into());
            }
        }
        let owner = owner(&person);
        if let Err(wait) = self.uploads.check(&format!("{}/{owner}", actor.account()), Ipv4Addr::UNSPECIFIED.into()) {
            return Err(Error::fault(ErrorCode::TooMany, format!("too many uploads; wait {} s", wait.0)));
        }
        let refused = |refused: crate::files::Refused| Error::fault(refused.code(), refused.to_string());
        self.files().upload_url(actor.account(), &owner, size, kind, self.identity().now()).map_err(refused)
    }

    /// A file may be fetched by whom it belongs to, and by everybody who may read a conversation in which it is shown.
    async fn download_url(&self, actor: &Actor, path: String) -> Result<Signed, Error> {
        let nothing = || Error::from(Refusal::NobodyThere("File".into()));
        let Some(person) = actor.person() else { return Err(silent()) };
        let account = actor.account();
        if Files::account_of(&path).as_ref() != Some(account) {
            return Err(nothing());
        }
        if !self.files().is_owner(account, &owner(&person), &path) {
            let shown = self.store().shows(account.clone(), path.clone()).await.map_err(|_| Error::Unreadable)?;
            let mut may = false;
            for place in shown.into_iter().filter(|place| person.is_agent() || !place.is_whisper) {
                let found = self.store().conversation(place.conversation).await.map_err(|_| Error::Unreadable)?;
                may = visible(actor, found.as_ref()).is_ok();
                if may {
                    break;
                }
            }
            if !may {
                return Err(nothing());
            }
        }
        self.files().download_url(&path, self.identity().now()).map_err(|refused| Error::fault(refused.code(), refused.to_string()))
    }

    async fn place(&self, actor: &Actor, id: &ConversationId) -> Result<Found, Error> {
        let conversation = self.conversation(actor, id).await?;
        let details = &conversation.details;
        let order = |one: &Conversation| (one.pending_since(), one.details.number);
        let position = if conversation.is_pending() {
            let pending = self.store().pending_in(details.account.clone(), details.queue.clone()).await;
            let pending = pending.map_err(|_| Error::Unreadable)?;
            Some(1 + pending.iter().filter(|other| order(other) < order(&conversation)).count())
        } else {
            None
        };
        let states = self.agent_states(&details.account, &[]).await?;
        let account = self.account(actor);
        let serves = |agent: &UserId| {
            account.as_ref().and_then(|account| account.agent(agent.as_str())).is_some_and(|agent| agent.skills.contains(&details.queue))
        };
        let is_served = states.iter().any(|state| state.availability == Availability::Online && serves(&state.agent));
        Ok(Found::Place { position, is_served })
    }

    /// Whether somebody may show a file by its path: whoever was given the path to put the file there.
    #[must_use]
    pub fn owns_file(&self, person: &Person, account: &AccountId, path: &str) -> bool {
        self.files().is_owner(account, &owner(person), path)
    }

    /// What agents last said of themselves: of these, or of all who ever did.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub async fn agent_states(&self, account: &AccountId, agents: &[UserId]) -> Result<Vec<AgentState>, Error> {
        if agents.is_empty() {
            return self.store().agents(account.clone()).await.map_err(|_| Error::Unreadable);
        }
        let mut states = Vec::with_capacity(agents.len());
        for agent in agents {
            states.push(self.store().agent(account.clone(), agent.clone()).await.map_err(|_| Error::Unreadable)?);
        }
        Ok(states)
    }

    /// Begins to follow a dialog from a number on. A number beyond the head begins at the next event.
    ///
    /// # Errors
    /// As every query of a conversation; [`Error::OtherEpoch`] if the number is from another log.
    pub async fn follow(
        &self,
        actor: &Actor,
        id: &ConversationId,
        dialog: &DialogId,
        from: u64,
        epoch: Option<&str>,
    ) -> Result<Followed, Error> {
        let conversation = self.look(actor, id, dialog).await?;
        let next = conversation.next_sequence(dialog).unwrap_or(0);
        let head = next.checked_sub(1);
        if let Some(epoch) = epoch.filter(|epoch| *epoch != self.store().epoch()) {
            tracing::debug!(asked = epoch, "a position of another log");
            return Err(Error::OtherEpoch { epoch: self.store().epoch().to_owned(), oldest: 0, head });
        }
        Ok(Followed { next: from.min(next), head })
    }

    async fn events(&self, actor: &Actor, id: &ConversationId, dialog: &DialogId, range: Range) -> Result<Vec<Arc<Sight>>, Error> {
        self.look(actor, id, dialog).await?;
        let mut events = self.store().events(dialog.clone(), range).await.map_err(|_| Error::Unreadable)?;
        if !matches!(actor, Actor::Agent { .. }) {
            events.retain(|sight| sight.message().is_none_or(|message| !message.whisper));
        }
        Ok(events)
    }

    /// Events of a dialog on from a number, for a consumer's session that follows it. Nothing more for one who may no longer
    /// know of it: a conversation can be handed to another identity of its consumer.
    pub(crate) async fn follow_on(
        &self,
        owner: &Actor,
        conversation: ConversationId,
        dialog: DialogId,
        range: Range,
    ) -> Result<Vec<Arc<Sight>>, ReadError> {
        let found = self.store().conversation(conversation).await?;
        match visible(owner, found.as_ref()) {
            Ok(_) => self.store().events(dialog, range).await,
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Waits for the turn to read and encode events for a session that catches up. It ends when the permit is dropped.
    pub(crate) async fn catch_up_turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.catch_ups.acquire().await.ok()
    }

    /// Narrows a filter to what an actor may see, whatever it asks for.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`] for an application that speaks for nobody.
    pub fn narrow(&self, actor: &Actor, mut filter: ConversationFilter) -> Result<ConversationFilter, Error> {
        filter.account = actor.account().clone();
        match actor {
            Actor::Consumer { id, .. } => filter.consumer = Some(id.clone()),
            Actor::Agent { .. } | Actor::System { .. } => {}
            Actor::Application { .. } => return Err(Refusal::NotPermitted("an application follows its own feed instead".into()).into()),
        }
        Ok(filter)
    }

    /// The conversations that pass a filter which [`Gateway::narrow`] returned.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub async fn snapshot(&self, filter: ConversationFilter) -> Result<Snapshot, Error> {
        self.store().conversations(filter, SNAPSHOT).await.map_err(|_| Error::Unreadable)
    }

    async fn profile(&self, actor: &Actor, whose: Option<&str>) -> Result<Profile, Error> {
        let nobody = |name: &str| Error::from(Refusal::NobodyThere(format!("User {name}").into()));
        let account = self.account(actor).ok_or_else(|| nobody(""))?;
        match (actor, whose) {
            (Actor::Agent { user, .. }, None) => {
                account.agent(user.as_str()).cloned().map(Profile::Agent).ok_or_else(|| nobody(user.as_str()))
            }
            (Actor::Agent { .. }, Some(name)) => {
                if let Some(agent) = account.agent(name) {
                    return Ok(Profile::Agent(agent.clone()));
                }
                let consumer = ConsumerId::from(name);
                if !self.may_know(actor, &consumer).await? {
                    return Err(nobody(name));
                }
                self.consumer(actor, &consumer).await?.map(Profile::Consumer).ok_or_else(|| nobody(name))
            }
            (Actor::Consumer { id, account: tenant, .. }, whose) if whose.is_none_or(|name| name == id.as_str()) => {
                let known = self.consumer(actor, id).await?;
                Ok(Profile::Consumer(known.unwrap_or_else(|| Consumer::unknown(tenant, id))))
            }
            (Actor::Consumer { id, .. }, Some(name)) => {
                let agent = account.agent(name).ok_or_else(|| nobody(name))?;
                let mut filter = ConversationFilter::all(actor.account().clone());
                filter.consumer = Some(id.clone());
                let theirs = self.snapshot(filter).await?.conversations;
                let met = theirs.iter().any(|conversation| conversation.details.participant(&agent.person()).is_some());
                if met { Ok(Profile::Agent(agent.clone())) } else { Err(nobody(name)) }
            }
            (Actor::Consumer { .. } | Actor::Application { .. } | Actor::System { .. }, _) => Err(nobody(whose.unwrap_or_default())),
        }
    }

    async fn consumer(&self, actor: &Actor, id: &ConsumerId) -> Result<Option<Consumer>, Error> {
        self.store().consumer(actor.account().clone(), id.clone()).await.map_err(|_| Error::Unreadable)
    }

    /// An agent may know a consumer with whom it has a conversation; a manager each.
    pub(super) async fn may_know(&self, actor: &Actor, consumer: &ConsumerId) -> Result<bool, Error> {
        if actor.is_manager() {
            return Ok(true);
        }
        let Some(person) = actor.person() else { return Ok(false) };
        let mut filter = ConversationFilter::all(actor.account().clone());
        filter.consumer = Some(consumer.clone());
        let theirs = self.snapshot(filter).await?.conversations;
        Ok(theirs.iter().any(|conversation| conversation.details.participant(&person).is_some()))
    }
}

/// Whose a file is.
pub(super) fn owner(person: &Person) -> String {
    match person {
        Person::Consumer(id) => format!("consumer:{id}"),
        Person::Agent { user, .. } => format!("agent:{user}"),
    }
}

fn silent() -> Error {
    Refusal::NotPermitted("an application asks for files only with the ConsumerJWS of the consumer it speaks for".into()).into()
}
