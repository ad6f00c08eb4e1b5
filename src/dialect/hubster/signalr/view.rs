//! What a connection is shown, and how.

use super::super::Hubster;
use super::super::caller::Known;
use super::wire;
use crate::domain::{Conversation, Person, Sight};
use crate::hub::Typing;
use crate::identity::{Account, Kept};
use crate::things::{Integration, IntegrationKind, ThingId};
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ConversationId};

/// Of what a connection is told.
#[derive(Debug, Clone)]
pub(super) enum Reach {
    /// A customer: of its conversation.
    Conversation(Box<Known>),
    /// An agent or a bot: of each conversation of its hub, or of one.
    Hub(Option<ConversationId>),
}

/// What is shown to one connection.
#[derive(Debug)]
pub(super) struct View {
    pub(super) hubster: Arc<Hubster>,
    pub(super) account: AccountId,
    /// Whose it is.
    pub(super) integration: ThingId,
    pub(super) reach: Reach,
    /// What absolute addresses begin with.
    pub(super) origin: String,
}

impl View {
    /// The account and the integration as they are now.
    fn now(&self) -> Option<(Arc<Account>, Arc<Kept<Integration>>)> {
        let account = self.hubster.gateway.identity().directory().account(self.account.as_str())?;
        let integration = account.things().integrations.resolve(self.integration)?;
        Some((account, integration))
    }

    /// Whether it is the connection's own side that says or does something.
    fn is_own(&self, integration: &Integration, from: &Person) -> bool {
        match self.reach {
            Reach::Conversation(_) => !from.is_agent(),
            Reach::Hub(_) => from.user().is_some() && from.user() == integration.agent.as_ref(),
        }
    }

    /// An event of the customer's conversation, as it is told.
    pub(super) fn event(&self, sight: &Sight) -> Option<String> {
        let Reach::Conversation(known) = &self.reach else { return None };
        // Who answers changes, and is named in the customer's own messages.
        let conversation = self.hubster.gateway.store().conversation_at_hand(&known.conversation.details.id);
        match conversation {
            Some(conversation) if !sight.message()?.from.is_agent() => self.told(&Known { conversation, ..(**known).clone() }, sight),
            _ => self.told(known, sight),
        }
    }

    /// An entry of the hub's feed with its conversation, as it is told.
    pub(super) fn entry(&self, sight: &Sight, conversation: &Conversation) -> Option<String> {
        if !self.covers(&conversation.details.id) || sight.message().is_none() {
            return None;
        }
        let (account, _) = self.now()?;
        self.told(&Known::of(&account, conversation.clone())?, sight)
    }

    fn covers(&self, conversation: &ConversationId) -> bool {
        match &self.reach {
            Reach::Conversation(known) => known.conversation.details.id == *conversation,
            Reach::Hub(only) => only.as_ref().is_none_or(|only| only == conversation),
        }
    }

    fn told(&self, known: &Known, sight: &Sight) -> Option<String> {
        let (account, integration) = self.now()?;
        let is_own = self.is_own(&integration.thing, &sight.message()?.from);
        if is_own && !integration.thing.echo {
            return None;
        }
        let is_brands = matches!(self.reach, Reach::Hub(_));
        let scene = self.hubster.scene(&account, &self.origin);
        let mut activity = scene.activity(known, sight, is_brands.then_some(integration.thing.kind))?;
        if is_brands && activity.sender.kind == IntegrationKind::Customer {
            // What a customer says goes to all who answer in the hub, and so to this one.
            activity.recipient = scene.of_integration(known, &integration);
        }
        activity.is_echo = is_own;
        Some(wire::pushed(&activity))
    }

    /// Whether somebody who types is shown: others, to who may see what they will say.
    pub(super) fn shows(&self, typing: &Typing) -> bool {
        let conversation = &typing.audience.conversation;
        let is_seen = !typing.whisper && typing.dialog == conversation.main_dialog() && self.covers(conversation);
        is_seen
            && self.now().is_some_and(|(_, integration)| !self.is_own(&integration.thing, &typing.from))
            && self.typing(typing).is_some()
    }

    /// Somebody who types, as all are told who are told.
    pub(super) fn typing(&self, typing: &Typing) -> Option<String> {
        let (account, _) = self.now()?;
        let known = Known::of(&account, typing.conversation.clone())?;
        let activity = self.hubster.scene(&account, &self.origin).typing(&known, typing)?;
        Some(wire::pushed(&activity))
    }
}
