//! Conversations, messages and who takes part, as the API shows them. Nothing here asks the store; and what is not there is left out,
//! for clients take `null` for an error.

use super::arn::Merchant;
use crate::dialect::channel;
use crate::dialect::ids::{consumer_uuid, event_uuid};
use crate::domain::{
    Change, Channel, Consumer, Conversation as Known, Entry, Message, Millis, OpenState, Participant, ParticipantState, Person, Role, Sight,
};
use crate::gateway::derived_uuid;
use crate::identity::Account;
use crate::search::read_of;
use serde::Serialize;
use serde_with::skip_serializing_none;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tieline_protocol::event::{EventClass, read_numbers};
use utoipa::ToSchema;
use uuid::Uuid;

/// What marks, in a message's metadata, what this dialect keeps with it.
pub(super) const MARK: &str = "ultracart";
/// What a consumer is called whose name is not known, or not for the reader.
const NOBODY: &str = "Visitor";

/// By what way a conversation came: text messages are `sms`, all else is `websocket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Medium {
    Sms,
    Websocket,
}

impl Medium {
    /// Of a conversation.
    pub(super) fn of(account: &Account, conversation: &Known) -> Self {
        match channel(account, conversation) {
            Channel::Sms => Self::Sms,
            _ => Self::Websocket,
        }
    }

    /// By its name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "sms" => Some(Self::Sms),
            "websocket" => Some(Self::Websocket),
            _ => None,
        }
    }
}

/// What a conversation is, without who takes part and what was said.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Summed {
    conversation_uuid: String,
    conversation_arn: String,
    merchant_id: String,
    /// How many messages it has.
    message_count: u64,
    /// Whether there is something that the caller has not read; for a caller who takes no part, whether the customer has the last word.
    unread_messages: bool,
    last_conversation_message_body: Option<String>,
    last_conversation_participant_arn: Option<String>,
    last_conversation_participant_name: Option<String>,
    last_message_dts: Option<String>,
    start_dts: String,
    closed: bool,
    medium: Medium,
    visible: bool,
    base_language_iso_code: Option<String>,
}

/// A conversation in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ConversationSummary {
    #[serde(flatten)]
    summed: Summed,
    /// Who takes part.
    participants: Vec<ConversationParticipant>,
}

/// A conversation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Conversation {
    #[serde(flatten)]
    summed: Summed,
    /// Who takes part, or did.
    participants: Vec<ConversationParticipant>,
    /// What was said, oldest first.
    messages: Vec<ConversationMessage>,
}

/// Whether somebody takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Presence {
    Joined,
    Left,
}

/// Somebody who takes part, or did.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ConversationParticipant {
    conversation_participant_arn: String,
    conversation_participant_uuid: Uuid,
    conversation_participant_name: String,
    joined_dts: Option<String>,
    left_dts: Option<String>,
    last_message_dts: Option<String>,
    status: Presence,
    /// How many messages it has not read.
    unread_messages: u32,
    email: Option<String>,
    sms_phone_number: Option<String>,
}

/// What kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum MessageKind {
    /// Of a person.
    Message,
    /// Of the gateway itself.
    Notice,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    Sent,
    Read,
}

/// How far a message has come to somebody.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct TransportStatus {
    conversation_participant_arn: String,
    status: Transport,
}

/// A message.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ConversationMessage {
    conversation_message_uuid: Uuid,
    merchant_id: String,
    r#type: MessageKind,
    author_conversation_participant_arn: String,
    author_conversation_participant_name: String,
    /// The text; of a file, what is said of it.
    body: String,
    /// Where its file can be fetched, for a short time.
    media_urls: Vec<String>,
    message_dts: String,
    /// When it was written down, in milliseconds; no other message of the conversation has the same.
    message_epoch: i64,
    pub(super) transport_statuses: Vec<TransportStatus>,
    /// Its writer's own name for it.
    client_message_id: Option<String>,
}

/// A time as the API writes it.
pub(super) fn stamp(at: Millis) -> String {
    // No time of ours lies beyond the year 9999.
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The UUID of somebody.
pub(super) fn person_uuid(person: &Person) -> Uuid {
    match person {
        Person::Consumer(id) => consumer_uuid(id),
        // The participant id of an agent is one.
        Person::Agent { pid, .. } => Uuid::parse_str(pid.as_str()).unwrap_or_else(|_| derived_uuid(&["agent", pid.as_str()])),
    }
}

/// Who has read which messages of a conversation, by their receipts.
#[derive(Debug, Default)]
pub(super) struct Receipts(HashMap<u64, BTreeSet<String>>);

impl Receipts {
    /// Out of the events of a dialog.
    pub(super) fn of(events: &[Arc<Sight>]) -> Self {
        let mut read: HashMap<u64, BTreeSet<String>> = HashMap::new();
        for message in events.iter().filter_map(|sight| sight.message()).filter(|message| message.class == EventClass::Receipt) {
            for sequence in read_numbers(&message.event) {
                read.entry(sequence).or_default().insert(message.from.public_id().to_owned());
            }
        }
        Self(read)
    }

    /// Whether somebody has read a message.
    pub(super) fn has_read(&self, person: &Person, sequence: u64) -> bool {
        self.0.get(&sequence).is_some_and(|readers| readers.contains(person.public_id()))
    }
}

/// Whether an event is a message that is shown: what everybody may see of its contents.
pub(super) fn is_shown(message: &Message) -> bool {
    message.class != EventClass::Receipt && !message.whisper
}

/// The writer's own name for a message, which came by this dialect.
pub(super) fn client_message_id(message: &Message) -> Option<String> {
    let said: Vec<serde_json::Value> = serde_json::from_str(message.metadata.as_ref()?.get()).ok()?;
    said.iter().find(|one| one["type"] == MARK)?["client_message_id"].as_str().map(str::to_owned)
}

/// From where conversations are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'s> {
    /// Whose they are.
    pub(super) account: &'s Account,
    /// What the API calls it.
    pub(super) merchant: &'s Merchant,
    /// Who looks, if that is somebody who could take part.
    pub(super) reader: Option<&'s Person>,
    /// What is known of the conversation's consumer, as far as the reader may know that.
    pub(super) consumer: Option<&'s Consumer>,
}

impl Scene<'_> {
    /// What somebody is called.
    pub(super) fn name(&self, person: &Person) -> String {
        match person {
            Person::Consumer(id) => {
                self.consumer.filter(|known| known.id == *id).and_then(Consumer::name).unwrap_or_else(|| NOBODY.to_owned())
            }
            Person::Agent { .. } if *person == self.account.policy.bot => {
                Some(self.account.name.as_str()).filter(|name| !name.is_empty()).unwrap_or(self.account.id.as_str()).to_owned()
            }
            Person::Agent { user, .. } => {
                self.account.agent(user.as_str()).map_or_else(|| format!("Agent {user}"), |agent| agent.name.clone())
            }
        }
    }

    fn summed(&self, conversation: &Known) -> Summed {
        let details = &conversation.details;
        let last = conversation.last_word();
        let takes_part = self.reader.filter(|reader| details.participant(reader).is_some_and(|one| one.active_role().is_some()));
        let unread_messages = match takes_part {
            Some(reader) => unread(conversation, reader) > 0,
            None => last.is_some_and(|last| last.message.role == Role::Consumer),
        };
        Summed {
            conversation_uuid: details.id.to_string(),
            conversation_arn: self.merchant.conversation(&details.id),
            merchant_id: self.merchant.as_str().to_owned(),
            message_count: conversation.contents,
            unread_messages,
            last_conversation_message_body: last.map(|last| read_of(&last.message).unwrap_or_default()),
            last_conversation_participant_arn: last.map(|last| self.merchant.person(&last.message.from)),
            last_conversation_participant_name: last.map(|last| self.name(&last.message.from)),
            last_message_dts: last.map(|last| stamp(last.message.written.unwrap_or(last.at))),
            start_dts: stamp(details.started),
            closed: details.stage == OpenState::Closed,
            medium: Medium::of(self.account, conversation),
            visible: true,
            base_language_iso_code: details.origin.as_ref().and_then(|origin| origin.language.clone()),
        }
    }

    /// A conversation in a list.
    pub(super) fn summary(&self, conversation: &Known) -> ConversationSummary {
        let present = conversation.details.participants.iter().filter(|one| one.state == ParticipantState::Active);
        let participants = present.map(|one| self.present(conversation, one)).collect();
        ConversationSummary { summed: self.summed(conversation), participants }
    }

    /// Somebody who takes part now.
    pub(super) fn present(&self, conversation: &Known, participant: &Participant) -> ConversationParticipant {
        let details = &conversation.details;
        let joined = match participant.role {
            Role::Consumer => Some(details.started),
            Role::AssignedAgent => details.assigned,
            _ => None,
        };
        let stay = Stay { person: participant.person.clone(), joined, left: None, spoke: None };
        self.participant(conversation, &stay)
    }

    /// Somebody who takes part, or did.
    pub(super) fn participant(&self, conversation: &Known, stay: &Stay) -> ConversationParticipant {
        let Stay { person, joined, left, spoke } = stay;
        let known = self.consumer.filter(|known| Person::Consumer(known.id.clone()) == *person);
        let agent = person.user().and_then(|user| self.account.agent(user.as_str()));
        let contact = |consumers: Option<&str>, agents: Option<&str>| consumers.or(agents).map(str::to_owned);
        ConversationParticipant {
            conversation_participant_arn: self.merchant.person(person),
            conversation_participant_uuid: person_uuid(person),
            conversation_participant_name: self.name(person),
            joined_dts: joined.map(stamp),
            left_dts: left.map(stamp),
            last_message_dts: spoke.map(stamp),
            status: if left.is_some() { Presence::Left } else { Presence::Joined },
            unread_messages: unread(conversation, person),
            email: contact(known.and_then(Consumer::email), agent.map(|agent| agent.email.as_str())),
            sms_phone_number: contact(known.and_then(Consumer::phone), agent.and_then(|agent| agent.phone.as_deref())),
        }
    }

    /// A message, if the event is one that is shown. `media` says where a file can be fetched.
    pub(super) fn message(
        &self,
        conversation: &Known,
        sight: &Sight,
        receipts: &Receipts,
        media: &dyn Fn(&str) -> Option<String>,
    ) -> Option<ConversationMessage> {
        let message = sight.message().filter(|message| is_shown(message))?;
        Some(self.told(conversation, sight, message, receipts, media))
    }

    /// The same for agents alone: what is whispered among them is a notice.
    pub(super) fn told(
        &self,
        conversation: &Known,
        sight: &Sight,
        message: &Message,
        receipts: &Receipts,
        media: &dyn Fn(&str) -> Option<String>,
    ) -> ConversationMessage {
        let is_notice = message.whisper || message.role == Role::Controller || message.from == self.account.policy.bot;
        let hears = conversation.details.participants.iter().filter(|one| one.active_role().is_some() && one.person != message.from);
        let status = |one: &Participant| TransportStatus {
            conversation_participant_arn: self.merchant.person(&one.person),
            status: if receipts.has_read(&one.person, message.sequence) { Transport::Read } else { Transport::Sent },
        };
        ConversationMessage {
            conversation_message_uuid: event_uuid(&message.conversation, message.sequence),
            merchant_id: self.merchant.as_str().to_owned(),
            r#type: if is_notice { MessageKind::Notice } else { MessageKind::Message },
            author_conversation_participant_arn: self.merchant.person(&message.from),
            author_conversation_participant_name: self.name(&message.from),
            body: read_of(message).unwrap_or_default(),
            media_urls: message.file.as_deref().and_then(media).into_iter().collect(),
            message_dts: stamp(sight.said_at()),
            message_epoch: sight.at,
            transport_statuses: hears.map(status).collect(),
            client_message_id: client_message_id(message),
        }
    }

    /// A whole conversation, by its messages and what changed it, with no more than the newest messages.
    pub(super) fn conversation(
        &self,
        conversation: &Known,
        events: &[Arc<Sight>],
        changes: &[Arc<Sight>],
        limit: usize,
        media: &dyn Fn(&str) -> Option<String>,
    ) -> Conversation {
        let receipts = Receipts::of(events);
        let said: Vec<&Arc<Sight>> = events.iter().filter(|sight| sight.message().is_some_and(is_shown)).collect();
        let newest = said.iter().skip(said.len().saturating_sub(limit));
        let stays = stays(conversation, events, changes);
        Conversation {
            summed: self.summed(conversation),
            participants: stays.iter().map(|stay| self.participant(conversation, stay)).collect(),
            messages: newest.filter_map(|sight| self.message(conversation, sight, &receipts, media)).collect(),
        }
    }
}

fn unread(conversation: &Known, person: &Person) -> u32 {
    conversation.unread.iter().find(|unread| unread.person == *person).map_or(0, |unread| unread.count)
}

/// From when to when somebody takes part, and when it last wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stay {
    pub(super) person: Person,
    pub(super) joined: Option<Millis>,
    pub(super) left: Option<Millis>,
    pub(super) spoke: Option<Millis>,
}

/// Everybody who takes part in a conversation or did, in the order in which they came.
fn stays(conversation: &Known, events: &[Arc<Sight>], changes: &[Arc<Sight>]) -> Vec<Stay> {
    let mut all: Vec<Stay> = Vec::new();
    let join = |all: &mut Vec<Stay>, person: &Person, at: Millis| match all.iter_mut().find(|stay| stay.person == *person) {
        // Who comes back has not left.
        Some(stay) => {
            if stay.left.take().is_some() {
                stay.joined = Some(at);
            }
        }
        None => all.push(Stay { person: person.clone(), joined: Some(at), left: None, spoke: None }),
    };
    let leave = |all: &mut Vec<Stay>, person: &Person, at: Millis| {
        for stay in all.iter_mut().filter(|stay| stay.person == *person) {
            stay.left.get_or_insert(at);
        }
    };
    for sight in changes {
        let at = sight.at;
        match &sight.entry {
            Entry::Opened(opened) => {
                join(&mut all, &Person::Consumer(opened.consumer.clone()), conversation.details.started);
                opened.agent.iter().for_each(|agent| join(&mut all, agent, at));
            }
            Entry::Changed { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Joined { person, suggested: false, .. } => join(&mut all, person, at),
                        Change::Left { person, .. } => leave(&mut all, person, at),
                        Change::Claimed { person, from, since } => {
                            from.iter().for_each(|from| leave(&mut all, from, at));
                            join(&mut all, person, since.unwrap_or(at));
                        }
                        Change::ConsumerReplaced { consumer } => {
                            let now = Person::Consumer(consumer.clone());
                            all.iter_mut().filter(|stay| !stay.person.is_agent()).for_each(|stay| stay.person = now.clone());
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let present = |person: &Person| conversation.details.participant(person).is_some_and(|one| one.active_role().is_some());
    for stay in all.iter_mut().filter(|stay| !present(&stay.person)) {
        // What is opened again has lost its agent without a word.
        stay.left.get_or_insert(conversation.details.staged);
    }
    for sight in events.iter().filter(|sight| sight.message().is_some_and(is_shown)) {
        let author = sight.message().map(|message| &message.from);
        for stay in all.iter_mut().filter(|stay| Some(&stay.person) == author) {
            stay.spoke = stay.spoke.max(Some(sight.said_at()));
        }
    }
    all
}
