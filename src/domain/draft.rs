//! What a decision may look at, and what it writes down.

use super::Millis;
use super::conversation::{Consumer, Conversation};
use super::entry::{Change, Entry, Message, Opened, Sight};
use super::people::Person;
use std::collections::HashMap;
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId};

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
}

/// A decision in the making: it reads through the view and sees what it has itself written.
pub struct Draft<'v> {
    view: &'v dyn View,
    now: Millis,
    position: u64,
    /// What was written, in order.
    pub sights: Vec<Sight>,
    /// The conversations touched, as they are now.
    pub conversations: HashMap<ConversationId, Conversation>,
    /// The consumers touched, as they are now.
    pub consumers: HashMap<(AccountId, ConsumerId), Consumer>,
    /// The conversation numbers given out, by account: the next one.
    pub numbers: HashMap<AccountId, i64>,
    /// How often an event was stored under the decision's resend key.
    pub stored: u64,
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
            conversations: HashMap::new(),
            consumers: HashMap::new(),
            numbers: HashMap::new(),
            stored: 0,
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

    /// Whether a consumer was ever seen.
    #[must_use]
    pub fn knows_consumer(&self, account: &AccountId, id: &ConsumerId) -> bool {
        self.view.consumer(account, id).is_some()
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
        self.consumer(account, consumer).apply(&entry);
        let at = self.now;
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
        self.consumer(account, &consumer).apply(&entry);
        self.write(account, at, entry);
    }

    /// Writes down an event of a conversation that was looked up in this draft before.
    pub fn publish(&mut self, message: Message) {
        let now = self.now;
        let Some(conversation) = self.conversations.get_mut(&message.conversation) else { return };
        let at = conversation.event_time(now);
        conversation.add_message(&message, at);
        let account = conversation.details.account.clone();
        self.stored += 1;
        self.write(&account, at, Entry::Published(Box::new(message)));
    }

    /// Writes down changes of a conversation that was looked up in this draft before.
    pub fn change(&mut self, id: &ConversationId, by: Person, changes: Vec<Change>) {
        let (now, position) = (self.now, self.next_position());
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        let at = conversation.change_time(now);
        conversation.change(&changes, at, position);
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
