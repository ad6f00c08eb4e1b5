//! What a decision may look at, and what it writes down.

use super::Millis;
use super::agent::AgentState;
use super::conversation::{Consumer, Conversation};
use super::entry::{Change, Entry, Message, Opened, Sight};
use super::people::{Person, Role};
use super::routing::RingState;
use crate::map::Map;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId, DialogId, UserId};

/// The state a decision sees: what is committed, and what earlier decisions of the same batch wrote. Only keys of
/// the decision's scope are there.
pub trait View {
    /// A conversation.
    fn conversation(&self, id: &ConversationId) -> Option<Conversation>;
    /// A consumer.
    fn consumer(&self, account: &AccountId, id: &ConsumerId) -> Option<Consumer>;
    /// The number that the account's next conversation gets.
    fn next_number(&self, account: &AccountId) -> i64;
    /// How often the very same request was stored before, where the application counts that.
    fn resends(&self) -> u64;
    /// What an agent last said of itself.
    fn agent(&self, account: &AccountId, agent: &UserId) -> Option<AgentState>;
    /// How many conversations an agent has or is offered.
    fn load(&self, account: &AccountId, agent: &UserId) -> usize;
    /// The open conversation of a consumer that its opener named so.
    fn bound(&self, account: &AccountId, consumer: &ConsumerId, name: &str) -> Option<ConversationId>;
    /// Whether a message of a conversation has this name of its writer's.
    fn has_message(&self, conversation: &ConversationId, name: &str) -> bool;
}

/// A decision in the making: it reads through the view and sees what it has itself written.
pub struct Draft<'v> {
    view: &'v dyn View,
    now: Millis,
    position: u64,
    /// What was written, in order.
    pub sights: Vec<Sight>,
    /// The conversations touched, as they are now.
    pub conversations: Map<ConversationId, Conversation>,
    /// The consumers touched, as they are now.
    pub consumers: Map<(AccountId, ConsumerId), Consumer>,
    /// The conversation numbers given out, by account: the next one.
    pub numbers: Map<AccountId, i64>,
    /// The agents touched, as they are now.
    pub agents: Map<(AccountId, UserId), AgentState>,
    /// How often an event was stored under the decision's resend key.
    pub stored: u64,
    /// What writers call the messages that were written.
    named: Map<ConversationId, HashSet<String>>,
    /// Conversations that were to be opened, and were found under their names instead.
    aliases: Map<ConversationId, ConversationId>,
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("now", &self.now).field("sights", &self.sights).finish_non_exhaustive()
    }
}

impl<'v> Draft<'v> {
    /// A draft whose first entry will stand at `position`.
    #[must_use]
    pub fn new(view: &'v dyn View, now: Millis, position: u64) -> Self {
        Self {
            view,
            now,
            position,
            sights: Vec::new(),
            conversations: Map::default(),
            consumers: Map::default(),
            numbers: Map::default(),
            agents: Map::default(),
            stored: 0,
            named: Map::default(),
            aliases: Map::default(),
        }
    }

    /// The time of the decision.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// An agent as it is now; one that has said nothing yet takes nothing.
    pub fn agent(&mut self, account: &AccountId, agent: &UserId) -> &AgentState {
        let view = self.view;
        self.agents
            .entry((account.clone(), agent.clone()))
            .or_insert_with(|| view.agent(account, agent).unwrap_or_else(|| AgentState::unknown(account, agent)))
    }

    /// How many conversations an agent has or is offered, with what this decision has changed of that.
    #[must_use]
    pub fn load(&self, account: &AccountId, agent: &UserId) -> usize {
        let holds = |conversation: &Conversation| {
            conversation.details.account == *account && conversation.details.occupies().any(|user| user == agent)
        };
        let mut load = self.view.load(account, agent);
        for (id, after) in &self.conversations {
            match (self.view.conversation(id).is_some_and(|before| holds(&before)), holds(after)) {
                (false, true) => load += 1,
                (true, false) => load = load.saturating_sub(1),
                _ => {}
            }
        }
        load
    }

    /// The open conversation of a consumer that its opener named so.
    #[must_use]
    pub fn bound(&self, account: &AccountId, consumer: &ConsumerId, name: &str) -> Option<ConversationId> {
        let is_it = |conversation: &&Conversation| {
            let details = &conversation.details;
            details.account == *account && details.consumer == *consumer && details.binding.as_deref() == Some(name)
        };
        let here = self.conversations.values().filter(is_it).find(|conversation| conversation.details.main_is_open());
        let here = here.map(|conversation| conversation.details.id.clone());
        // What the view knows may have been closed or handed over by this very decision.
        let there = || {
            let found = self.view.bound(account, consumer, name)?;
            let is_touched = self.conversations.get(&found).is_some_and(|now| !is_it(&now) || !now.details.main_is_open());
            (!is_touched).then_some(found)
        };
        here.or_else(there)
    }

    /// Whether a message of a conversation has this name of its writer's.
    #[must_use]
    pub fn has_message(&self, conversation: &ConversationId, name: &str) -> bool {
        let is_here = self.named.get(conversation).is_some_and(|names| names.contains(name));
        is_here || self.view.has_message(conversation, name)
    }

    /// From here on one conversation's id means another.
    pub fn stands_for(&mut self, id: &ConversationId, found: &ConversationId) {
        self.aliases.insert(id.clone(), found.clone());
    }

    /// The conversation and dialog that are meant.
    #[must_use]
    pub fn meant(&self, id: &ConversationId, dialog: &DialogId) -> (ConversationId, DialogId) {
        match self.aliases.get(id) {
            Some(found) if *dialog == id.main_dialog() => (found.clone(), found.main_dialog()),
            Some(found) => (found.clone(), dialog.clone()),
            None => (id.clone(), dialog.clone()),
        }
    }

    /// A conversation as it is now.
    pub fn conversation(&mut self, id: &ConversationId) -> Option<&Conversation> {
        if !self.conversations.contains_key(id) {
            self.conversations.insert(id.clone(), self.view.conversation(id)?);
        }
        self.conversations.get(id)
    }

    /// A consumer as it is now; one that was never seen is unknown, not absent.
    pub fn consumer(&mut self, account: &AccountId, id: &ConsumerId) -> &mut Consumer {
        let view = self.view;
        self.consumers
            .entry((account.clone(), id.clone()))
            .or_insert_with(|| view.consumer(account, id).unwrap_or_else(|| Consumer::unknown(account, id)))
    }

    /// Whether a consumer was ever seen, be it by this decision.
    #[must_use]
    pub fn knows_consumer(&self, account: &AccountId, id: &ConsumerId) -> bool {
        let is_seen = |sight: &Sight| match &sight.entry {
            Entry::ConsumerSeen { consumer, .. } => consumer == id && sight.account == *account,
            _ => false,
        };
        self.view.consumer(account, id).is_some() || self.sights.iter().any(is_seen)
    }

    /// How often the very same request was stored before.
    #[must_use]
    pub fn resends(&self) -> u64 {
        self.view.resends() + self.stored
    }

    /// Takes the account's next conversation number.
    pub fn take_number(&mut self, account: &AccountId) -> i64 {
        let view = self.view;
        let next = self.numbers.entry(account.clone()).or_insert_with(|| view.next_number(account));
        *next += 1;
        *next - 1
    }

    /// Writes down that a consumer was seen, or its profile set.
    pub fn about_consumer(&mut self, account: &AccountId, consumer: &ConsumerId, entry: Entry) {
        let at = self.now;
        self.consumer(account, consumer).apply(&entry, at);
        self.write(account, at, entry);
    }

    /// Writes down that a conversation was opened.
    pub fn open(&mut self, account: &AccountId, opened: Opened) {
        let position = self.next_position();
        let at = self.now;
        let conversation = Conversation::open(account, &opened, at, position);
        let (id, consumer) = (opened.conversation.clone(), opened.consumer.clone());
        self.conversations.insert(id, conversation);
        let entry = Entry::Opened(Box::new(opened));
        self.consumer(account, &consumer).apply(&entry, at);
        self.write(account, at, entry);
    }

    /// Writes down an event of a conversation that was looked up in this draft before.
    pub fn publish(&mut self, mut message: Message) {
        let now = self.now;
        let position = self.next_position();
        let Some(conversation) = self.conversations.get_mut(&message.conversation) else { return };
        let at = conversation.event_time(now);
        message.begins = conversation.begins_with(&message);
        if let Some(name) = &message.external {
            self.named.entry(message.conversation.clone()).or_default().insert(name.clone());
        }
        let message = Arc::new(message);
        conversation.add_message(&message, at, position);
        let account = conversation.details.account.clone();
        self.stored += 1;
        self.write(&account, at, Entry::Published(message));
    }

    /// Writes down a content of the gateway's own in a dialog of a conversation that was looked up in this draft before.
    pub fn say(
        &mut self,
        conversation: &ConversationId,
        dialog: &DialogId,
        bot: &Person,
        role: Role,
        event: Box<RawValue>,
        metadata: Option<Box<RawValue>>,
    ) {
        let Some(known) = self.conversations.get(conversation) else { return };
        let Some(sequence) = known.next_sequence(dialog) else { return };
        let app = known.details.app.clone();
        let stored = self.stored;
        self.publish(Message {
            conversation: conversation.clone(),
            dialog: dialog.clone(),
            sequence,
            class: EventClass::Content,
            from: bot.clone(),
            role,
            whisper: false,
            begins: false,
            event,
            metadata,
            encoded_metadata: None,
            client: None,
            file: None,
            app,
            written: None,
            external: None,
        });
        // It repeats no request.
        self.stored = stored;
    }

    /// Writes down what an agent said of itself.
    pub fn set_agent_state(&mut self, account: &AccountId, entry: Entry) {
        let (at, position) = (self.now, self.next_position());
        if let Some(state) = AgentState::of(account, &entry, at, position) {
            self.agents.insert((account.clone(), state.agent.clone()), state);
            self.write(account, at, entry);
        }
    }

    /// Writes down changes of a conversation that was looked up in this draft before, and the end of an offer that they
    /// make pointless. No changes are nothing.
    pub fn change(&mut self, id: &ConversationId, by: Person, mut changes: Vec<Change>) {
        let (now, position) = (self.now, self.next_position());
        let Some(conversation) = self.conversations.get_mut(id).filter(|_| !changes.is_empty()) else { return };
        let at = conversation.change_time(now);
        conversation.change(&changes, at, position);
        if conversation.has_moot_ring() {
            let ended = Change::RingEnded { state: RingState::Cancelled, not_before: None };
            conversation.change(std::slice::from_ref(&ended), at, position);
            changes.push(ended);
        }
        let account = conversation.details.account.clone();
        self.write(&account, at, Entry::Changed { conversation: id.clone(), by, changes });
    }

    fn next_position(&self) -> u64 {
        self.position + self.sights.len() as u64
    }

    fn write(&mut self, account: &AccountId, at: Millis, entry: Entry) {
        let position = self.next_position();
        let audience = entry.conversation().and_then(|id| self.conversations.get(id)).map(|conversation| conversation.audience.clone());
        self.sights.push(Sight { position, at, account: account.clone(), entry, audience });
    }
}
