//! What is said in a conversation: as it comes, as it is written down, as it is shown.
//!
//! A message with attachments is written down as several events, so that native sockets see each file as they see any: first what is
//! said, then the files, each marked as belonging to what stands in front of it. Here they are one message again.

use super::caller::{Caller, person_uuid};
use super::conversation::{Addresses, Direction, channel};
use super::error::Fault;
use super::input::{Stamp, at_most};
use crate::dialect::ids::event_uuid;
use crate::dialect::rich;
use crate::domain::{Channel, Command, Conversation, Message as Event, Millis, Person, Role, Sight};
use crate::identity::Account;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use serde_with::skip_serializing_none;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::ConversationId;
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest name of an attachment, in characters; the console shows so many.
const LONGEST_NAME: usize = 500;
/// What marks a file of a message that has more.
const ATTACHED: &str = "Attachment";

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "_type")]
pub(super) enum Content {
    /// Plain text.
    Text { value: String },
    /// HTML. Native sockets carry it as it came, and the console shows its source.
    Html { value: String },
    /// Markdown.
    Markdown { value: String },
}

impl Content {
    fn value(&self) -> &str {
        match self {
            Self::Text { value } | Self::Html { value } | Self::Markdown { value } => value,
        }
    }

    fn event(&self) -> Box<RawValue> {
        let kind = match self {
            Self::Text { .. } => "text/plain",
            Self::Html { .. } => "text/html",
            Self::Markdown { .. } => "text/markdown",
        };
        raw(&json!({"type": "ContentEvent", "contentType": kind, "message": self.value()}))
    }

    /// What an event says; nothing, if it is a file and has no more to say.
    fn of(event: &Event) -> Option<Self> {
        let said: Value = serde_json::from_str(event.event.get()).ok()?;
        if event.class == EventClass::Rich {
            return Some(Self::Text { value: rich::words(&said["content"]) });
        }
        if event.file.is_some() {
            return None;
        }
        let value = said["message"].as_str().map_or_else(|| said["message"].to_string(), str::to_owned);
        Some(match said["contentType"].as_str() {
            Some("text/html") => Self::Html { value },
            Some("text/markdown") => Self::Markdown { value },
            _ => Self::Text { value },
        })
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    // What was just made of JSON values is JSON.
    to_raw_value(value).unwrap_or_default()
}

/// An attachment that is to be fetched.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attachment {
    /// Where it lies.
    pub(super) url: String,
    /// What it is called.
    pub(super) pretty_name: Option<String>,
}

/// A message that is to be written down.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) from: Person,
    pub(super) content: Content,
    pub(super) attachments: Vec<Attachment>,
    pub(super) external: Option<String>,
    /// When it was written, if that was not now.
    pub(super) written: Option<Millis>,
}

/// A file of ours that a message shows.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) path: String,
    /// Its type, as native events name it.
    pub(super) kind: &'static str,
    pub(super) name: Option<String>,
}

impl Writing {
    /// Whether it may be written down, but for what only the rules know.
    ///
    /// # Errors
    /// 400.
    pub(super) fn check(&self, caller: &Caller) -> Result<(), Fault> {
        let limits = caller.gateway().limits();
        let most = if matches!(self.content, Content::Text { .. }) { limits.text } else { limits.rich };
        at_most("content.value", self.content.value(), most)?;
        if self.content.value().is_empty() && self.attachments.is_empty() {
            return Err(Fault::bad("a message has a text or an attachment"));
        }
        let mut names = self.attachments.iter().filter_map(|attachment| attachment.pretty_name.as_deref());
        names.try_for_each(|name| at_most("prettyName", name, LONGEST_NAME))
    }

    /// What writes it down, with its files. The first of these is the message.
    pub(super) fn commands(&self, conversation: &ConversationId, files: &[File]) -> Vec<Command> {
        let says = !self.content.value().is_empty() || files.is_empty();
        let said = says.then(|| (self.content.event(), None));
        let shown = files.iter().map(|file| {
            let message = json!({"relativePath": file.path, "fileType": file.kind, "caption": file.name});
            (raw(&json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message})), Some(file.path.clone()))
        });
        let record = |(place, (event, file)): (usize, (Box<RawValue>, Option<String>))| Command::Record {
            conversation: conversation.clone(),
            from: self.from.clone(),
            event,
            metadata: (place > 0).then(|| raw(&json!([{"type": ATTACHED}]))),
            file,
            written: self.written,
            external: self.external.clone().filter(|_| place == 0),
        };
        said.into_iter().chain(shown).enumerate().map(record).collect()
    }
}

fn direction(from: &Person) -> Direction {
    if from.is_agent() { Direction::Outbound } else { Direction::Inbound }
}

/// The events of one message: itself, and files that belong to it.
#[derive(Debug)]
pub(super) struct Together<'e> {
    pub(super) at: Millis,
    pub(super) message: &'e Event,
    pub(super) attached: Vec<&'e Event>,
}

/// The messages of a conversation: what everybody may see of its contents, with their files.
pub(super) fn together(events: &[Arc<Sight>]) -> Vec<Together<'_>> {
    let mut all: Vec<Together<'_>> = Vec::new();
    for sight in events {
        let Some(message) = sight.message().filter(|message| message.class != EventClass::Receipt && !message.whisper) else { continue };
        let at = message.written.unwrap_or(sight.at);
        let belongs =
            |last: &&mut Together<'_>| last.message.from == message.from && (is_attached(message) || (last.at == at && is_blank(message)));
        match all.last_mut().filter(belongs) {
            Some(last) => last.attached.push(message),
            None => all.push(Together { at, message, attached: Vec::new() }),
        }
    }
    all
}

/// Whether it is a file of a message that stands in front of it.
pub(super) fn is_attached(message: &Event) -> bool {
    let marked = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).is_ok_and(|said| said[0]["type"] == ATTACHED);
    message.file.is_some() && message.metadata.as_deref().is_some_and(marked)
}

/// Whether nothing is said, as in what is left of a file that was erased.
fn is_blank(message: &Event) -> bool {
    message.file.is_none() && matches!(Content::of(message), Some(content) if content.value().is_empty())
}

/// A message.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Message)]
pub(super) struct Shown {
    id: Uuid,
    author_id: Uuid,
    external_id: Option<String>,
    created_at: Stamp,
    attributes: Attributes,
}

/// What a message says, by its conversation's channel.
#[allow(clippy::enum_variant_names, reason = "the API's names")]
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "_type")]
enum Attributes {
    ChatAttributes(Said),
    EmailAttributes(Letter),
    SmsAttributes(Plain),
    WhatsAppAttributes(Plain),
    FacebookMessengerAttributes(Plain),
    TwitterAttributes(Plain),
    /// Of other channels.
    GenericAttributes(Plain),
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Plain {
    content: Option<Content>,
    direction: Direction,
    attachments: Vec<Shelved>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Said {
    #[serde(flatten)]
    said: Plain,
    /// Whether the gateway or a bot said it.
    is_automated: bool,
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Letter {
    email_content: Option<Mailed>,
    from: Mailbox,
    to: Vec<Mailbox>,
    is_auto_reply: bool,
    direction: Direction,
    attachments: Vec<Shelved>,
}

/// The text of a letter. None is too large to be shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "_type")]
enum Mailed {
    Regular { content: Content },
}

#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
struct Mailbox {
    email: String,
    name: Option<String>,
}

/// A file, for a short time.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Shelved {
    url: String,
    pretty_name: Option<String>,
}

impl Shown {
    /// A message as it is shown to a caller.
    pub(super) fn new(caller: &Caller, conversation: &Conversation, together: &Together<'_>) -> Self {
        let Together { at, message, attached } = together;
        let account = caller.account();
        let files = std::iter::once(*message).chain(attached.iter().copied());
        let attachments: Vec<Shelved> = files.filter_map(|event| shelved(caller, event)).collect();
        let (content, direction) = (Content::of(message), direction(&message.from));
        let is_automated = matches!(message.role, Role::Controller | Role::BrandBot) || message.from == account.policy.bot;
        let plain = |content| Plain { content, direction, attachments: Vec::new() };
        let attributes = match channel(account, conversation) {
            Channel::Email | Channel::ContactForm => {
                let (from, to) = mailboxes(account, conversation, &message.from);
                let email_content = content.map(|content| Mailed::Regular { content });
                Attributes::EmailAttributes(Letter {
                    email_content,
                    from,
                    to: vec![to],
                    is_auto_reply: is_automated,
                    direction,
                    attachments,
                })
            }
            Channel::WebChat | Channel::Messenger => {
                Attributes::ChatAttributes(Said { said: Plain { attachments, ..plain(content) }, is_automated })
            }
            Channel::Sms => Attributes::SmsAttributes(Plain { attachments, ..plain(content) }),
            Channel::WhatsApp => Attributes::WhatsAppAttributes(Plain { attachments, ..plain(content) }),
            Channel::Facebook => Attributes::FacebookMessengerAttributes(Plain { attachments, ..plain(content) }),
            Channel::Twitter => Attributes::TwitterAttributes(Plain { attachments, ..plain(content) }),
            // What is written beside a call has words, which the attributes of calls have no place for.
            Channel::Phone | Channel::Callback | Channel::Voicemail | Channel::Other(_) => {
                Attributes::GenericAttributes(Plain { attachments, ..plain(content) })
            }
        };
        Self {
            id: event_uuid(&conversation.details.id, message.sequence),
            author_id: person_uuid(&message.from),
            external_id: message.external.clone(),
            created_at: Stamp(*at),
            attributes,
        }
    }
}

/// Who wrote a letter, and to whom.
fn mailboxes(account: &Account, conversation: &Conversation, from: &Person) -> (Mailbox, Mailbox) {
    let Addresses { theirs, ours } = Addresses::of(account, conversation);
    let (theirs, ours) = (Mailbox { email: theirs, name: None }, Mailbox { email: ours, name: None });
    match from.user() {
        None => (theirs, ours),
        Some(user) => (Mailbox { name: account.agent(user.as_str()).map(|agent| agent.name.clone()), ..ours }, theirs),
    }
}

fn shelved(caller: &Caller, event: &Event) -> Option<Shelved> {
    let path = event.file.as_ref()?;
    let said: Value = serde_json::from_str(event.event.get()).ok()?;
    let pretty_name = said["message"]["caption"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let signed = caller.gateway().files().download_url(path, caller.now()).ok()?;
    Some(Shelved { url: caller.absolute(&signed.relative_url()), pretty_name })
}
