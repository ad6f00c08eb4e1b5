//! Which conversations a subscription is about.

use super::Millis;
use super::conversation::{Conversation, Dialog, DialogKind, OpenState};
use super::people::Person;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, UserId};

/// A filter; an empty list or `None` restricts nothing. The account always does.
#[derive(Debug, Clone)]
pub struct ConversationFilter {
    /// The tenant.
    pub account: AccountId,
    /// States of the MAIN dialog.
    pub states: Vec<OpenState>,
    /// States of the whole conversation.
    pub stages: Vec<OpenState>,
    /// Agents of whom one takes part.
    pub agents: Vec<UserId>,
    /// The consumer.
    pub consumer: Option<ConsumerId>,
    /// The application through which it was opened.
    pub app: Option<ClientId>,
    /// Just this conversation.
    pub conversation: Option<ConversationId>,
    /// Changed at this time or later.
    pub updated_from: Option<Millis>,
    /// Changed at this time or earlier.
    pub updated_to: Option<Millis>,
    /// An answer is due at this time or earlier.
    pub due_by: Option<Millis>,
    /// Has an open dialog of one of these kinds.
    pub dialogs: Vec<DialogKind>,
    /// It is offered to this agent now.
    pub rings: Option<UserId>,
}

impl ConversationFilter {
    /// Everything in an account.
    #[must_use]
    pub fn all(account: AccountId) -> Self {
        Self {
            account,
            states: Vec::new(),
            stages: Vec::new(),
            agents: Vec::new(),
            consumer: None,
            app: None,
            conversation: None,
            updated_from: None,
            updated_to: None,
            due_by: None,
            dialogs: Vec::new(),
            rings: None,
        }
    }

    /// What is offered to an agent.
    #[must_use]
    pub fn offered(account: AccountId, agent: UserId) -> Self {
        Self { rings: Some(agent), stages: vec![OpenState::Open], ..Self::all(account) }
    }

    /// Whether a conversation passes.
    #[must_use]
    pub fn matches(&self, conversation: &Conversation) -> bool {
        let details = &conversation.details;
        let main = details.dialogs.first().map_or(details.stage, |dialog| dialog.state);
        self.is_about(conversation)
            && (self.states.is_empty() || self.states.contains(&main))
            && (self.stages.is_empty() || self.stages.contains(&details.stage))
            && self.updated_from.is_none_or(|from| conversation.updated >= from)
            && self.updated_to.is_none_or(|to| conversation.updated <= to)
            && self.due_by.is_none_or(|by| conversation.due >= 0 && conversation.due <= by)
            && (self.dialogs.is_empty() || details.dialogs.iter().any(|dialog| self.has(dialog)))
            && self.rings.as_ref().is_none_or(|agent| details.ring.as_ref().is_some_and(|ring| ring.agent.user() == Some(agent)))
    }

    /// Whether a conversation is one of whom and what it names, in whatever state that is. Offers are in one state only.
    #[must_use]
    pub fn is_about(&self, conversation: &Conversation) -> bool {
        let details = &conversation.details;
        details.account == self.account
            && self.consumer.as_ref().is_none_or(|consumer| *consumer == details.consumer)
            && self.app.as_ref().is_none_or(|app| details.app.as_ref() == Some(app))
            && self.conversation.as_ref().is_none_or(|id| *id == details.id)
            && (self.agents.is_empty() || details.participants.iter().any(|participant| self.names(&participant.person)))
    }

    fn has(&self, dialog: &Dialog) -> bool {
        dialog.state == OpenState::Open && self.dialogs.contains(&dialog.kind)
    }

    fn names(&self, person: &Person) -> bool {
        matches!(person, Person::Agent { user, .. } if self.agents.contains(user))
    }
}
