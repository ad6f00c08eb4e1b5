//! The queries: what an actor may know.

use super::{Error, Gateway};
use crate::domain::{Actor, Consumer, ConversationFilter, Refusal, Sight};
use crate::identity::Agent;
use crate::store::{Range, Snapshot};
use std::sync::Arc;
use tieline_protocol::ids::{ConsumerId, ConversationId, DialogId};

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

impl Gateway {
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

    /// Events of a dialog.
    ///
    /// # Errors
    /// [`Refusal::NoSuchConversation`] for a conversation that is not there or not the actor's.
    pub async fn events(&self, actor: &Actor, id: &ConversationId, dialog: &DialogId, range: Range) -> Result<Vec<Arc<Sight>>, Error> {
        self.look(actor, id, dialog).await?;
        let mut events = self.store().events(dialog.clone(), range).await.map_err(|_| Error::Unreadable)?;
        if !matches!(actor, Actor::Agent { .. }) {
            events.retain(|sight| sight.message().is_none_or(|message| !message.whisper));
        }
        Ok(events)
    }

    /// Narrows a filter to what an actor may see, whatever it asks for.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`] for an application that speaks for nobody.
    pub fn narrow(&self, actor: &Actor, mut filter: ConversationFilter) -> Result<ConversationFilter, Error> {
        filter.account = actor.account().clone();
        match actor {
            Actor::Consumer { id, .. } => filter.consumer = Some(id.clone()),
            Actor::Agent { .. } => {}
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

    /// A profile: one's own if nobody is named.
    ///
    /// # Errors
    /// [`Refusal::NobodyThere`], the same for somebody whom the actor may not know.
    pub async fn profile(&self, actor: &Actor, whose: Option<&str>) -> Result<Profile, Error> {
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
            (Actor::Consumer { .. } | Actor::Application { .. }, _) => Err(nobody(whose.unwrap_or_default())),
        }
    }

    async fn consumer(&self, actor: &Actor, id: &ConsumerId) -> Result<Option<Consumer>, Error> {
        self.store().consumer(actor.account().clone(), id.clone()).await.map_err(|_| Error::Unreadable)
    }

    /// An agent may know a consumer with whom it has a conversation; a manager each.
    async fn may_know(&self, actor: &Actor, consumer: &ConsumerId) -> Result<bool, Error> {
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
