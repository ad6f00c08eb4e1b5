//! The journal's entries: everything that ever changes a conversation or a person.

use super::conversation::{Closer, Csat, Ttr};
use super::people::{Person, Role};
use super::{Audience, Millis};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, QueueId};

/// One thing that happened. Serialised, it is a row of the journal: variants and members may be added, and
/// never change their meaning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Entry {
    /// A consumer was seen for the first time.
    ConsumerSeen {
        /// The consumer.
        consumer: ConsumerId,
        /// The application that speaks for it; none if it signed up itself.
        app: Option<ClientId>,
        /// What that application calls it.
        ext_id: Option<String>,
    },
    /// A consumer's profile was set: the members given replace those stored.
    ProfileSet {
        /// The consumer.
        consumer: ConsumerId,
        /// A JSON object.
        profile: Box<RawValue>,
    },
    /// A conversation was opened.
    Opened(Box<Opened>),
    /// An event was published into a dialog.
    Published(Box<Message>),
    /// A conversation was changed.
    Changed {
        /// The conversation.
        conversation: ConversationId,
        /// Who changed it.
        by: Person,
        /// What changed, together.
        changes: Vec<Change>,
    },
}

/// What an opened conversation starts with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opened {
    /// Its id.
    pub conversation: ConversationId,
    /// Its number within the account, from 1.
    pub number: i64,
    /// Its consumer.
    pub consumer: ConsumerId,
    /// The application it was opened through.
    pub app: Option<ClientId>,
    /// The agent who opened it, if one did.
    pub agent: Option<Person>,
    /// Its queue.
    pub queue: QueueId,
    /// How soon an answer is due.
    pub ttr: Ttr,
    /// Given and shown as it is.
    pub context: Option<Box<RawValue>>,
    /// Given and shown as it is.
    pub campaign: Option<Box<RawValue>>,
    /// Whether it is the consumer's first.
    pub first: bool,
}

/// A stored event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// The conversation.
    pub conversation: ConversationId,
    /// The dialog.
    pub dialog: DialogId,
    /// Position in the dialog: 0, 1, 2 … without holes.
    pub sequence: u64,
    /// What kind of event.
    pub class: EventClass,
    /// Who published it.
    pub from: Person,
    /// In which role.
    pub role: Role,
    /// Whether only the brand's side may see it.
    pub whisper: bool,
    /// The event as published.
    pub event: Box<RawValue>,
    /// As published.
    pub metadata: Option<Box<RawValue>>,
    /// As published.
    pub encoded_metadata: Option<String>,
    /// The application through which the conversation was opened: whose feed this belongs to.
    pub app: Option<ClientId>,
}

impl Message {
    /// Bytes of what was published: the event and its metadata.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event.get().len() + self.metadata.as_ref().map_or(0, |metadata| metadata.get().len())
    }
}

/// One change of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// A dialog was closed.
    DialogClosed {
        /// The dialog.
        dialog: DialogId,
        /// Who closed it.
        by: Closer,
        /// Why.
        cause: Option<String>,
    },
    /// The whole conversation was closed.
    Closed {
        /// Who closed it.
        by: Closer,
    },
    /// Somebody joined, or was invited.
    Joined {
        /// Who.
        person: Person,
        /// As what.
        role: Role,
        /// Whether the invitation is still to be accepted.
        suggested: bool,
    },
    /// Somebody left.
    Left {
        /// Who.
        person: Person,
    },
    /// Somebody's role changed.
    RoleSet {
        /// Who.
        person: Person,
        /// As what from now on.
        role: Role,
    },
    /// The conversation moved to another queue.
    QueueSet {
        /// The queue.
        queue: QueueId,
    },
    /// How soon an answer is due was changed.
    TtrSet {
        /// How soon.
        ttr: Ttr,
    },
    /// An agent set when the answer is due.
    DueSet {
        /// When.
        at: Millis,
    },
    /// The consumer rated the conversation.
    Rated {
        /// The rating.
        csat: Csat,
    },
    /// An agent noted something.
    Noted {
        /// The text.
        note: String,
    },
}

/// An entry with what the journal added when it was written.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Position in the journal; grows with each entry.
    pub position: u64,
    /// When, in milliseconds; never goes back within a conversation.
    pub at: Millis,
    /// The tenant.
    pub account: AccountId,
    /// What happened.
    pub entry: Entry,
    /// Who should hear of it now. Known for entries just written, not for those read back.
    pub audience: Option<Arc<Audience>>,
}

impl Sight {
    /// The stored event, if this is one.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match &self.entry {
            Entry::Published(message) => Some(message),
            _ => None,
        }
    }
}

impl Entry {
    /// The conversation it belongs to, if to any.
    #[must_use]
    pub fn conversation(&self) -> Option<&ConversationId> {
        match self {
            Self::Opened(opened) => Some(&opened.conversation),
            Self::Published(message) => Some(&message.conversation),
            Self::Changed { conversation, .. } => Some(conversation),
            Self::ConsumerSeen { .. } | Self::ProfileSet { .. } => None,
        }
    }
}
