//! The frames of the agent socket: what is told to an agent, and what an agent says. All are one model, of which each kind of frame
//! fills its part; clients take `null` for an error, so what is not there is left out.

use super::arn::{Merchant, Named};
use super::error::Fault;
use super::model::{ConversationMessage, ConversationParticipant, ConversationSummary, MessageKind, Receipts, Scene, Stay, stamp};
use super::queues::QueueEntry;
use crate::dialect::ids::event_uuid;
use crate::domain::{Change, Conversation, Entry, Message, Millis, Person, Sight};
use crate::gateway::{Error, Fed};
use crate::hub::{Frame, Typing};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::ConversationId;
use uuid::Uuid;

/// Longest id of a conversation.
const LONGEST_ID: usize = 128;
/// Longest name that an agent's program may give to a message, in characters.
const LONGEST_NAME: usize = 128;
/// Most files of one message.
const MOST_FILES: usize = 10;
/// What is shown of somebody who types: not what.
const TYPES: &str = "typing";

/// Where a client stands in the feed: behind an entry, or behind a frame of one that is told by several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The log.
    pub(super) epoch: String,
    /// The entry.
    pub(super) position: u64,
    /// The last frame of it that the client has, if it may lack some.
    pub(super) part: Option<u64>,
}

impl Cursor {
    /// Reads one: `epoch:position` or `epoch:position.part`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (epoch, place) = text.rsplit_once(':')?;
        let (position, part) = match place.split_once('.') {
            Some((position, part)) => (position, Some(part.parse().ok()?)),
            None => (place, None),
        };
        Some(Self { epoch: epoch.to_owned(), position: position.parse().ok()?, part })
    }

    /// The position behind which entries must be read.
    pub(super) fn after(&self) -> u64 {
        match self.part {
            Some(_) => self.position.saturating_sub(1),
            None => self.position,
        }
    }

    /// Whether the client has a frame of an entry.
    fn has(&self, position: u64, part: u64) -> bool {
        position < self.position || position == self.position && self.part.is_none_or(|last| part <= last)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.epoch, self.position)?;
        self.part.map_or(Ok(()), |part| write!(f, ".{part}"))
    }
}

/// A message, with what is ours.
#[skip_serializing_none]
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    message: ConversationMessage,
    /// Its number in the conversation.
    sequence: u64,
}

/// A message of which no more is known than who wrote it.
#[skip_serializing_none]
#[derive(Debug, Serialize)]
struct Again<'m> {
    conversation_message_uuid: Uuid,
    r#type: MessageKind,
    author_conversation_participant_arn: String,
    body: &'m str,
    client_message_id: Option<&'m str>,
    sequence: u64,
}

/// A word of the gateway's own to one socket.
#[skip_serializing_none]
#[derive(Debug, Serialize)]
struct Notice<'m> {
    r#type: MessageKind,
    body: &'m str,
    client_message_id: Option<&'m str>,
}

/// Why something was refused.
#[derive(Debug, Serialize)]
struct Refused<'m> {
    error_code: String,
    developer_message: &'m str,
}

/// How long a conversation must wait.
#[derive(Debug, Serialize)]
struct QueuePosition {
    position: i64,
    available: bool,
}

/// Up to where somebody has read.
#[derive(Debug, Serialize)]
struct ReadMessage {
    conversation_message_uuid: Uuid,
    message_dts: String,
    message_epoch: Millis,
    /// Who. The model has no place for it.
    conversation_participant_arn: String,
}

/// Somebody types, or has ceased to.
#[skip_serializing_none]
#[derive(Debug, Serialize)]
struct Types {
    author_conversation_participant_arn: String,
    /// Of an agent.
    author_conversation_participant_name: Option<String>,
    value: &'static str,
}

/// An event.
#[derive(Debug, Serialize)]
#[serde(tag = "event_type")]
enum Event {
    #[serde(rename = "new conversation")]
    NewConversation { event_new_conversation: ConversationSummary },
    #[serde(rename = "conversation closed")]
    ConversationClosed { event_conversation_closed: ConversationSummary },
    #[serde(rename = "new message")]
    NewMessage { event_new_message: ConversationSummary },
    #[serde(rename = "updated message")]
    UpdatedMessage { event_updated_message: Told },
    #[serde(rename = "participant join")]
    ParticipantJoin { event_participant_join: ConversationSummary, event_participant_join_participant: ConversationParticipant },
    #[serde(rename = "participant left")]
    ParticipantLeft { event_participant_left: ConversationSummary, event_participant_left_participant: ConversationParticipant },
    #[serde(rename = "participant update")]
    ParticipantUpdate { event_participant_update: ConversationSummary },
    #[serde(rename = "read message")]
    ReadMessage { event_read_message: ReadMessage },
    #[serde(rename = "typing")]
    Typing { event_typing: Types },
    #[serde(rename = "engage customer")]
    EngageCustomer { event_engage_customer: QueueEntry },
    #[serde(rename = "queue new member")]
    QueueNewMember { event_queue_new_member: QueueEntry },
    #[serde(rename = "queue position")]
    QueuePosition { event_queue_position: QueuePosition },
}

/// What kind of frame.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Message,
    Event,
    Ping,
}

/// What stands in a frame that is a message.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Words<'f> {
    Told(Box<Told>),
    Again(Again<'f>),
    Notice(Notice<'f>),
}

/// A frame.
#[skip_serializing_none]
#[derive(Debug, Serialize)]
struct Whole<'f> {
    r#type: Kind,
    #[serde(flatten)]
    event: Option<Box<Event>>,
    conversation_uuid: Option<&'f str>,
    conversation_arn: Option<String>,
    message: Option<Words<'f>>,
    /// Of a notice: why. Ours, and so are those below.
    error: Option<Refused<'f>>,
    /// Whether what was asked for had been done before.
    replayed: Option<bool>,
    /// Where the feed goes on behind this frame.
    cursor: Option<String>,
}

impl<'f> Whole<'f> {
    fn of(kind: Kind) -> Self {
        Self {
            r#type: kind,
            event: None,
            conversation_uuid: None,
            conversation_arn: None,
            message: None,
            error: None,
            replayed: None,
            cursor: None,
        }
    }

    fn message(words: Words<'f>) -> Self {
        Self { message: Some(words), ..Self::of(Kind::Message) }
    }

    fn event(event: Event) -> Self {
        Self { event: Some(Box::new(event)), ..Self::of(Kind::Event) }
    }

    fn about(self, merchant: &Merchant, id: &'f ConversationId) -> Self {
        Self { conversation_uuid: Some(id.as_str()), conversation_arn: Some(merchant.conversation(id)), ..self }
    }

    fn write(&self) -> Frame {
        // It is made of what JSON has.
        serde_json::to_string(self).map(Frame::from).unwrap_or_default()
    }
}

/// A sign of life, with the place in the feed where a client begins.
pub(super) fn ping(cursor: Option<&Cursor>) -> Frame {
    Whole { cursor: cursor.map(ToString::to_string), ..Whole::of(Kind::Ping) }.write()
}

/// Says to one socket what was refused, and why.
pub(super) fn notice(conversation: Option<&str>, client_message_id: Option<&str>, error: Error) -> Frame {
    let fault = Fault::from(error);
    let body = fault.message();
    let words = Words::Notice(Notice { r#type: MessageKind::Notice, body, client_message_id });
    let error = Refused { error_code: fault.status().as_u16().to_string(), developer_message: body };
    Whole { conversation_uuid: conversation, error: Some(error), ..Whole::message(words) }.write()
}

/// How long a conversation must wait; for ever, if it does not wait.
pub(super) fn queue_position(merchant: &Merchant, id: &ConversationId, position: Option<usize>, available: bool) -> Frame {
    let position = position.and_then(|position| i64::try_from(position).ok()).unwrap_or(-1);
    Whole::event(Event::QueuePosition { event_queue_position: QueuePosition { position, available } }).about(merchant, id).write()
}

/// What an agent said before, told once more to the socket that said it again.
pub(super) fn again(merchant: &Merchant, id: &ConversationId, agent: &Person, said: &Saying, sequence: u64) -> Frame {
    let words = Words::Again(Again {
        conversation_message_uuid: event_uuid(id, sequence),
        r#type: MessageKind::Message,
        author_conversation_participant_arn: merchant.person(agent),
        body: &said.body,
        client_message_id: said.client_message_id.as_deref(),
        sequence,
    });
    Whole { replayed: Some(true), ..Whole::message(words).about(merchant, id) }.write()
}

/// Somebody types. Of an agent its name is said.
pub(super) fn typing(merchant: &Merchant, typing: &Typing, name: Option<String>) -> Frame {
    #[derive(Deserialize)]
    struct State {
        #[serde(rename = "chatState")]
        state: String,
    }
    let composes = serde_json::from_str::<State>(typing.event.get()).is_ok_and(|state| state.state == "COMPOSING");
    let types = Types {
        author_conversation_participant_arn: merchant.person(&typing.from),
        author_conversation_participant_name: name,
        value: if composes { TYPES } else { "" },
    };
    Whole::event(Event::Typing { event_typing: types }).about(merchant, &typing.audience.conversation).write()
}

/// Who tells an agent of what happens.
pub(super) struct Teller<'t> {
    /// Where.
    pub(super) scene: Scene<'t>,
    /// To whom.
    pub(super) agent: &'t Person,
    /// Says where a file can be fetched.
    pub(super) media: &'t dyn Fn(&str) -> Option<String>,
}

impl<'t> Teller<'t> {
    /// What there is to tell of entries, but for what the client has already.
    pub(super) fn feed(&self, epoch: &str, known: Option<&Cursor>, entries: &[Fed]) -> Vec<Frame> {
        let mut frames = Vec::new();
        // What is said of one consumer is told of each of its conversations.
        for entry in entries.chunk_by(|one, other| one.sight.position == other.sight.position) {
            let Some(position) = entry.first().map(|fed| fed.sight.position) else { continue };
            let mut parts: Vec<(u64, Whole<'_>)> = entry.iter().flat_map(|fed| self.parts(fed)).collect();
            let last = parts.len().saturating_sub(1);
            for (place, (part, whole)) in parts.iter_mut().enumerate() {
                let part = *part;
                if known.is_some_and(|known| known.has(position, part)) {
                    continue;
                }
                let cursor = Cursor { epoch: epoch.to_owned(), position, part: (place < last).then_some(part) };
                whole.cursor = Some(cursor.to_string());
                frames.push(whole.write());
            }
        }
        frames
    }

    /// What there is to tell of an entry, each part under a number that only grows and does not depend on what else is told: a client
    /// that has one comes back for those behind it.
    fn parts<'f>(&self, fed: &'f Fed) -> Vec<(u64, Whole<'f>)> {
        let Some(conversation) = &fed.conversation else { return Vec::new() };
        let one = One {
            scene: Scene { consumer: fed.consumer.as_ref(), ..self.scene },
            teller: self,
            conversation,
            at: fed.sight.at,
            takes_part: takes_part(conversation, self.agent),
        };
        let told = match &fed.sight.entry {
            Entry::Published(message) => one.published(&fed.sight, message, &fed.about),
            Entry::Opened(_) => vec![(0, one.begins()), (1, one.waits())],
            Entry::Changed { changes, .. } => one.changed(changes, &fed.about),
            Entry::ProfileSet { .. } => {
                let number = u64::try_from(conversation.details.number).unwrap_or(0);
                vec![(number, Some(one.update()))]
            }
            _ => Vec::new(),
        };
        let about = |whole: Whole<'f>| whole.about(self.scene.merchant, &conversation.details.id);
        told.into_iter().filter_map(|(part, whole)| Some((part, about(whole?)))).collect()
    }
}

/// Whether somebody takes part in a conversation now.
pub(super) fn takes_part(conversation: &Conversation, person: &Person) -> bool {
    conversation.details.participant(person).is_some_and(|one| one.active_role().is_some())
}

/// What there is to tell, under its number; nothing, where that is not for this agent, or not any more.
type Part<'f> = (u64, Option<Whole<'f>>);

/// An entry of a conversation's that is told to an agent.
struct One<'o> {
    scene: Scene<'o>,
    teller: &'o Teller<'o>,
    conversation: &'o Conversation,
    at: Millis,
    takes_part: bool,
}

impl<'o> One<'o> {
    fn summary(&self) -> ConversationSummary {
        self.scene.summary(self.conversation)
    }

    fn begins<'f>(&self) -> Option<Whole<'f>> {
        Some(Whole::event(Event::NewConversation { event_new_conversation: self.summary() }))
    }

    fn update<'f>(&self) -> Whole<'f> {
        Whole::event(Event::ParticipantUpdate { event_participant_update: self.summary() })
    }

    /// By this entry it began to wait, which it still does: no two entries of a conversation have the same time.
    fn waits<'f>(&self) -> Option<Whole<'f>> {
        let waits = self.conversation.waiting == Some(self.at);
        let entry = || QueueEntry::of(&self.scene, self.conversation);
        waits.then(|| Whole::event(Event::QueueNewMember { event_queue_new_member: entry() }))
    }

    fn published<'f>(&self, sight: &Sight, message: &Message, about: &[Arc<Sight>]) -> Vec<Part<'f>> {
        if message.dialog != self.conversation.details.id.main_dialog() {
            return Vec::new();
        }
        if message.class == EventClass::Receipt {
            return vec![(0, about.first().filter(|_| self.takes_part).and_then(|last| self.read(&message.from, last)))];
        }
        let told = self.takes_part.then(|| Whole::message(Words::Told(Box::new(self.told(sight, message)))));
        let new = (!message.whisper).then(|| Whole::event(Event::NewMessage { event_new_message: self.summary() }));
        vec![(0, told), (1, new), (2, self.waits())]
    }

    fn told(&self, sight: &Sight, message: &Message) -> Told {
        let said = self.scene.told(self.conversation, sight, message, &Receipts::default(), self.teller.media);
        Told { message: said, sequence: message.sequence }
    }

    fn read<'f>(&self, reader: &Person, last: &Sight) -> Option<Whole<'f>> {
        let message = last.message()?;
        let event_read_message = ReadMessage {
            conversation_message_uuid: event_uuid(&message.conversation, message.sequence),
            message_dts: stamp(last.said_at()),
            message_epoch: last.at,
            conversation_participant_arn: self.scene.merchant.person(reader),
        };
        Some(Whole::event(Event::ReadMessage { event_read_message }))
    }

    fn changed<'f>(&self, changes: &[Change], about: &[Arc<Sight>]) -> Vec<Part<'f>> {
        let mut parts = Vec::new();
        for (place, change) in (0_u64..).zip(changes) {
            let (first, second) = self.change(change, about);
            parts.extend([(2 * place, first), (2 * place + 1, second)]);
        }
        let behind = 2 * changes.len() as u64;
        parts.push((behind, self.waits()));
        if changes.iter().any(|change| matches!(change, Change::Anonymised { .. })) {
            let left = about.iter().filter_map(|sight| Some((behind + 1 + sight.message()?.sequence, self.left_of(sight))));
            parts.extend(left);
        }
        parts
    }

    /// What there is to tell of one change, which is two frames at most.
    fn change<'f>(&self, change: &Change, about: &[Arc<Sight>]) -> (Option<Whole<'f>>, Option<Whole<'f>>) {
        match change {
            Change::Closed { .. } => (Some(Whole::event(Event::ConversationClosed { event_conversation_closed: self.summary() })), None),
            Change::Reopened => (self.begins(), None),
            Change::Joined { person, suggested: false, .. } => (Some(self.joined(person)), None),
            Change::Left { person, role: Some(_) } => (Some(self.left(person)), None),
            Change::Claimed { person, from, .. } => {
                (from.as_ref().filter(|from| *from != person).map(|from| self.left(from)), Some(self.joined(person)))
            }
            Change::RoleSet { .. } | Change::ConsumerReplaced { .. } | Change::Anonymised { .. } => (Some(self.update()), None),
            Change::MessageAnonymised { sequence, .. } => {
                let it = about.iter().find(|sight| sight.message().is_some_and(|message| message.sequence == *sequence));
                (it.and_then(|it| self.left_of(it)), None)
            }
            Change::Offered { ring, agent, .. } => {
                let stands = agent == self.teller.agent && self.conversation.details.ring.as_ref().is_some_and(|now| now.id == *ring);
                let entry = || QueueEntry::of(&self.scene, self.conversation);
                (stands.then(|| Whole::event(Event::EngageCustomer { event_engage_customer: entry() })), None)
            }
            _ => (None, None),
        }
    }

    fn joined<'f>(&self, person: &Person) -> Whole<'f> {
        let stay = Stay { person: person.clone(), joined: Some(self.at), left: None, spoke: None };
        Whole::event(Event::ParticipantJoin {
            event_participant_join: self.summary(),
            event_participant_join_participant: self.scene.participant(self.conversation, &stay),
        })
    }

    fn left<'f>(&self, person: &Person) -> Whole<'f> {
        let stay = Stay { person: person.clone(), joined: None, left: Some(self.at), spoke: None };
        Whole::event(Event::ParticipantLeft {
            event_participant_left: self.summary(),
            event_participant_left_participant: self.scene.participant(self.conversation, &stay),
        })
    }

    /// What is left of a message that is to be erased, be it that it is not erased yet.
    fn left_of<'f>(&self, sight: &Sight) -> Option<Whole<'f>> {
        let message = sight.message().filter(|message| message.class != EventClass::Receipt && (!message.whisper || self.takes_part))?;
        let mut event_updated_message = self.told(sight, &message.without_words());
        // Who has read it is not looked for here, and an empty list takes nothing back.
        event_updated_message.message.transport_statuses.clear();
        Some(Whole::event(Event::UpdatedMessage { event_updated_message }))
    }
}

/// A frame of an agent's, as it comes.
#[derive(Debug, Deserialize)]
struct Came {
    r#type: Option<String>,
    event_type: Option<String>,
    conversation_uuid: Option<String>,
    conversation_arn: Option<String>,
    message: Option<CameMessage>,
    event_typing: Option<CameTyping>,
    event_read_message: Option<CameRead>,
}

#[derive(Debug, Deserialize)]
struct CameMessage {
    body: Option<String>,
    client_message_id: Option<String>,
    upload_keys: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct CameTyping {
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct CameRead {
    conversation_message_uuid: Option<Uuid>,
}

/// What an agent wants to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saying {
    /// The text, which may be empty where there are files.
    pub(super) body: String,
    /// The files.
    pub(super) keys: Vec<String>,
    /// The program's own name for it.
    pub(super) client_message_id: Option<String>,
}

/// What an agent wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Say(Saying),
    /// Whether it types.
    Type(bool),
    /// It has read up to a message, or everything.
    Read(Option<Uuid>),
    Come,
    Go,
    Close,
    Position,
}

/// What a frame of an agent's says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is a sign of life.
    Ping,
    /// The agent wants something with a conversation.
    Wants(ConversationId, Wanted),
}

/// Why a frame is not followed.
#[derive(Debug)]
pub(super) struct Unheard {
    /// Whether it is no frame at all.
    pub(super) is_bad: bool,
    /// The conversation that it names.
    pub(super) conversation: Option<String>,
    /// The program's own name for the message.
    pub(super) client_message_id: Option<String>,
    /// Why.
    pub(super) error: Error,
}

/// Reads a frame of an agent's.
///
/// # Errors
/// [`Unheard`].
pub(super) fn read(text: &str, merchant: &Merchant) -> Result<Heard, Unheard> {
    let bad = |error: Error| Unheard { is_bad: true, conversation: None, client_message_id: None, error };
    let came: Came = serde_json::from_str(text).map_err(|error| bad(Error::invalid(format!("the frame is not understood: {error}"))))?;
    let name = came.message.as_ref().and_then(|message| message.client_message_id.clone());
    let known = match came.r#type.as_deref() {
        Some("ping") => return Ok(Heard::Ping),
        Some("message" | "event" | "check queue position") => came.wanted(merchant).map_err(|error| (false, error)),
        Some(other) => {
            Err((true, Error::invalid(format!("type {other:?} is not known; it is message, event, ping or check queue position"))))
        }
        None => Err((true, Error::missing("type is missing"))),
    };
    known.map_err(|(is_bad, error)| Unheard { is_bad, conversation: came.conversation_uuid.clone(), client_message_id: name, error })
}

impl Came {
    fn conversation(&self, merchant: &Merchant) -> Result<ConversationId, Error> {
        let id = match (self.conversation_uuid.as_deref(), self.conversation_arn.as_deref()) {
            (Some(id), _) if !id.is_empty() => ConversationId::from(id),
            (_, Some(arn)) => match merchant.read(arn) {
                Some(Named::Conversation(id)) => id,
                _ => return Err(Error::invalid("conversation_arn is no arn of a conversation of this account")),
            },
            _ => return Err(Error::missing("conversation_uuid is missing")),
        };
        if id.as_str().len() > LONGEST_ID {
            return Err(Error::invalid(format!("conversation_uuid is longer than {LONGEST_ID} bytes")));
        }
        Ok(id)
    }

    fn wanted(&self, merchant: &Merchant) -> Result<Heard, Error> {
        let wanted = match (self.r#type.as_deref(), self.event_type.as_deref()) {
            (Some("message"), _) => Wanted::Say(self.saying()?),
            (Some("check queue position"), _) => Wanted::Position,
            (_, Some("typing")) => {
                let value = self.event_typing.as_ref().and_then(|typing| typing.value.as_deref()).unwrap_or_default();
                Wanted::Type(!value.is_empty())
            }
            (_, Some("read message")) => Wanted::Read(self.event_read_message.as_ref().and_then(|read| read.conversation_message_uuid)),
            (_, Some("participant join")) => Wanted::Come,
            (_, Some("participant left")) => Wanted::Go,
            (_, Some("conversation closed")) => Wanted::Close,
            (_, Some(other)) => {
                return Err(Error::invalid(format!(
                    "event_type {other:?} is nothing that an agent sends here; it is typing, read message, participant join, participant left \
                     or conversation closed"
                )));
            }
            (_, None) => return Err(Error::missing("event_type is missing")),
        };
        Ok(Heard::Wants(self.conversation(merchant)?, wanted))
    }

    fn saying(&self) -> Result<Saying, Error> {
        let message = self.message.as_ref().ok_or_else(|| Error::missing("message is missing"))?;
        let saying = Saying {
            body: message.body.clone().unwrap_or_default(),
            keys: message.upload_keys.clone().unwrap_or_default(),
            client_message_id: message.client_message_id.clone().filter(|name| !name.is_empty()),
        };
        if saying.body.is_empty() && saying.keys.is_empty() {
            return Err(Error::missing("message has neither a body nor upload_keys"));
        }
        if saying.keys.len() > MOST_FILES {
            return Err(Error::invalid(format!("a message has at most {MOST_FILES} upload_keys")));
        }
        let is_plain = |name: &String| name.chars().count() <= LONGEST_NAME && !name.chars().any(char::is_control);
        if !saying.client_message_id.as_ref().is_none_or(is_plain) {
            return Err(Error::invalid(format!("client_message_id has at most {LONGEST_NAME} printable characters")));
        }
        Ok(saying)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::ultracart::arn::Merchant;

    fn cursor(text: &str) -> Cursor {
        Cursor::read(text).unwrap()
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_says_what_the_client_has() {
        for text in ["e:7", "e:7.0", "a:b:12.345"] {
            assert_eq!(cursor(text).to_string(), text);
        }
        for other in ["", "7", "e:", "e:x", "e:7.", "e:7.x", "e:-1", "e:7.1.2"] {
            assert_eq!(Cursor::read(other), None, "{other}");
        }
        assert_eq!((cursor("e:7").after(), cursor("e:7.1").after()), (7, 6));
        let (whole, part) = (cursor("e:7"), cursor("e:7.1"));
        assert!(whole.has(7, 9) && whole.has(6, 0) && !whole.has(8, 0));
        assert!(part.has(7, 0) && part.has(7, 1) && !part.has(7, 2) && part.has(6, 9) && !part.has(8, 0));
    }

    fn heard(text: &str) -> Result<Heard, (bool, String)> {
        read(text, &Merchant::named("demo")).map_err(|unheard| (unheard.is_bad, unheard.error.to_string()))
    }

    #[test]
    fn what_an_agent_sends_is_told_apart() {
        let wants = |wanted| Ok(Heard::Wants("c".into(), wanted));
        let uuid = Uuid::from_u128(7);
        for (text, expected) in [
            (r#"{"type":"ping"}"#.to_owned(), Ok(Heard::Ping)),
            (
                r#"{"type":"message","conversation_uuid":"c","message":{"body":"hi","client_message_id":"1","upload_keys":null}}"#
                    .to_owned(),
                wants(Wanted::Say(Saying { body: "hi".into(), keys: Vec::new(), client_message_id: Some("1".into()) })),
            ),
            (
                r#"{"type":"event","event_type":"typing","conversation_uuid":"c","event_typing":{"value":"h"}}"#.to_owned(),
                wants(Wanted::Type(true)),
            ),
            (r#"{"type":"event","event_type":"typing","conversation_uuid":"c"}"#.to_owned(), wants(Wanted::Type(false))),
            (
                format!(
                    r#"{{"type":"event","event_type":"read message","conversation_uuid":"c","event_read_message":{{"conversation_message_uuid":"{uuid}"}}}}"#
                ),
                wants(Wanted::Read(Some(uuid))),
            ),
            (
                r#"{"type":"event","event_type":"participant join","conversation_arn":"arn:gw:conversation:DEMO:conversation/c"}"#
                    .to_owned(),
                wants(Wanted::Come),
            ),
            (r#"{"type":"event","event_type":"participant left","conversation_uuid":"c"}"#.to_owned(), wants(Wanted::Go)),
            (r#"{"type":"event","event_type":"conversation closed","conversation_uuid":"c"}"#.to_owned(), wants(Wanted::Close)),
            (r#"{"type":"check queue position","conversation_uuid":"c"}"#.to_owned(), wants(Wanted::Position)),
        ] {
            assert_eq!(heard(&text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_frame_is_bad_and_what_is_not_possible_is_refused() {
        let long = "x".repeat(129);
        for (text, is_bad, reason) in [
            ("no json".to_owned(), true, "not understood"),
            ("[]".to_owned(), true, "not understood"),
            (r#"{"type":7}"#.to_owned(), true, "not understood"),
            (r#"{"message":{}}"#.to_owned(), true, "type is missing"),
            (r#"{"type":"pong"}"#.to_owned(), true, "\"pong\" is not known"),
            (r#"{"type":"message","conversation_uuid":"c"}"#.to_owned(), false, "message is missing"),
            (r#"{"type":"message","conversation_uuid":"c","message":{}}"#.to_owned(), false, "neither a body"),
            (r#"{"type":"message","message":{"body":"x"}}"#.to_owned(), false, "conversation_uuid is missing"),
            (r#"{"type":"message","conversation_arn":"c","message":{"body":"x"}}"#.to_owned(), false, "no arn"),
            (format!(r#"{{"type":"check queue position","conversation_uuid":"{long}"}}"#), false, "longer"),
            (
                format!(r#"{{"type":"message","conversation_uuid":"c","message":{{"body":"x","client_message_id":"{long}"}}}}"#),
                false,
                "client_message_id",
            ),
            (r#"{"type":"event","conversation_uuid":"c"}"#.to_owned(), false, "event_type is missing"),
            (r#"{"type":"event","event_type":"rrweb","conversation_uuid":"c"}"#.to_owned(), false, "\"rrweb\""),
        ] {
            let (was_bad, said) = heard(&text).unwrap_err();
            assert!(was_bad == is_bad && said.contains(reason), "{text}: {said}");
        }
    }
}
