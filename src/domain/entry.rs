//! The journal's entries: everything that ever changes a conversation or a person.

use super::conversation::{Closer, Csat, DialogKind, Ttr};
use super::facts::{Answer, AttributeValue, LinkKind, Place, Rating, RatingGiven};
use super::origin::Origin;
use super::people::{Availability, Person, Role};
use super::routing::RingState;
use super::{Audience, Millis};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{
    AccountId, AttributeId, ClientId, ConsumerId, ConversationId, DialogId, NoteId, PlainId, QueueId, RatingId, RingId, TagId, UserId,
};

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
    /// What a consumer's identity provider says of it became known, or changed.
    ClaimsSeen {
        /// The consumer.
        consumer: ConsumerId,
        /// A JSON object.
        claims: Box<RawValue>,
    },
    /// A consumer's profile was set: the members given replace those stored.
    ProfileSet {
        /// The consumer.
        consumer: ConsumerId,
        /// A JSON object.
        profile: Box<RawValue>,
    },
    /// An agent said whether it takes conversations.
    AgentStateSet {
        /// The agent.
        agent: UserId,
        /// Whether it takes conversations.
        availability: Availability,
        /// Given and shown as it is.
        channels: Vec<String>,
        /// Given and shown as it is.
        description: Option<String>,
        /// Given and shown as it is.
        reason: Option<String>,
    },
    /// A conversation was opened.
    Opened(Box<Opened>),
    /// An event was published into a dialog.
    Published(Arc<Message>),
    /// A conversation was changed.
    Changed {
        /// The conversation.
        conversation: ConversationId,
        /// Who changed it.
        by: Person,
        /// What changed, together.
        changes: Vec<Change>,
    },
    /// A closed conversation was kept long enough: it is no more, and its entries are being erased.
    Removed {
        /// The conversation that was.
        conversation: ConversationId,
        /// Its number within the account.
        number: i64,
    },
}

/// What an opened conversation starts with.
#[skip_serializing_none]
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
    /// What the consumer's client says it can do.
    pub features: Vec<String>,
    /// The opener's own name for it, under which it is found again while it is open.
    pub binding: Option<String>,
    /// How long nobody may write before it is closed.
    pub silence: Option<Millis>,
    /// How long the consumer may be silent before it counts as abandoned.
    pub patience: Option<Millis>,
    /// Where it comes from, if its opener said.
    pub origin: Option<Arc<Origin>>,
}

/// A stored event. What it lacks is not written: each of them is stored three times.
#[skip_serializing_none]
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whisper: bool,
    /// Whether it is the first that the consumer says in the conversation. [`super::Draft::publish`] knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins: bool,
    /// The event as published.
    pub event: Box<RawValue>,
    /// As published.
    pub metadata: Option<Box<RawValue>>,
    /// As published.
    pub encoded_metadata: Option<String>,
    /// What the publisher's client says of itself, as it came.
    pub client: Option<Box<RawValue>>,
    /// The path of the file that it shows, if it shows one of ours.
    pub file: Option<String>,
    /// The application through which the conversation was opened: whose feed this belongs to.
    pub app: Option<ClientId>,
    /// When it was written, where that was before it was written down here.
    pub written: Option<Millis>,
    /// Its writer's own name for it, which no other message of the conversation has.
    pub external: Option<String>,
}

impl Message {
    /// The same without what was said. A receipt says nothing but what it is, and stays.
    #[must_use]
    pub fn without_words(&self) -> Self {
        let mut message = self.clone();
        if message.class != EventClass::Receipt {
            message.class = EventClass::Content;
            message.event = super::policy::text_event("");
        }
        (message.metadata, message.encoded_metadata, message.client) = (None, None, None);
        (message.file, message.external) = (None, None);
        message
    }

    /// Bytes of what was published: the event, its metadata, and what came with it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| raw.get().len());
        self.event.get().len() + length(&self.metadata) + length(&self.client)
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
        /// As what it was there; none if it was only invited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
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
        /// Whether an agent is looked for from now on, also if nobody has said anything yet.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        asks: bool,
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
        /// Its id; none, where the place of the entry names it.
        id: Option<NoteId>,
        /// Whose it is, if it is not theirs who wrote it down.
        author: Option<Person>,
        /// When it was written, where that was before it was written down here.
        written: Option<Millis>,
    },
    /// What was closed is open again, in its queue and without an agent.
    Reopened,
    /// An agent took it, from whoever had it.
    Claimed {
        /// The agent.
        person: Person,
        /// Who had it.
        from: Option<Person>,
        /// Since when it has it, where that was before it was written down here.
        since: Option<Millis>,
    },
    /// A tag was added.
    Tagged {
        /// The tag.
        tag: TagId,
    },
    /// A tag was taken off.
    Untagged {
        /// The tag.
        tag: TagId,
    },
    /// Values of custom attributes were set, or taken away.
    AttributesSet {
        /// Which, and what they are now.
        values: Vec<(AttributeId, Option<AttributeValue>)>,
    },
    /// The consumer was asked for a rating.
    RatingOffered {
        /// What it was asked.
        rating: Box<Rating>,
    },
    /// The consumer gave a rating that it was asked for.
    RatingAnswered {
        /// Which.
        rating: RatingId,
        /// What it said.
        given: RatingGiven,
    },
    /// It belongs to another from now on.
    LinkedToParent {
        /// That one.
        parent: ConversationId,
        /// That one's number.
        number: i64,
        /// As what.
        kind: LinkKind,
    },
    /// Another belongs to it from now on.
    LinkedFromChild {
        /// That one.
        child: ConversationId,
        /// That one's number.
        number: i64,
        /// As what.
        kind: LinkKind,
    },
    /// What of the directory it has to do with was set, or taken away.
    PlaceSet {
        /// What kind.
        place: Place,
        /// Which.
        id: Option<PlainId>,
    },
    /// What the consumer was asked and said was written down, in place of what was known of that question.
    Answered {
        /// Question and answer.
        answer: Answer,
    },
    /// Something was booked in it, or that was called off.
    Booked {
        /// The other system's name for it.
        booking: String,
        /// Whether it stands.
        stands: bool,
    },
    /// The consumer has been silent for too long.
    Abandoned,
    /// The consumer was not silent: it is looked at again at this time.
    PatienceRenewed {
        /// The time.
        until: Millis,
    },
    /// What was said in it is to be erased. Nothing may be added any more.
    Anonymised {
        /// The request's id.
        request: PlainId,
    },
    /// What was said in one message is to be erased.
    MessageAnonymised {
        /// The request's id.
        request: PlainId,
        /// The dialog.
        dialog: DialogId,
        /// The message's place in it.
        sequence: u64,
        /// How many files go with it.
        #[serde(default)]
        files: u32,
    },
    /// It was offered to an agent, who may accept until a time.
    Offered {
        /// The offer.
        ring: RingId,
        /// To whom.
        agent: Person,
        /// Until when.
        until: Millis,
    },
    /// The offer is over.
    RingEnded {
        /// How.
        state: RingState,
        /// If the agent did not take it: until when it is not offered it again.
        not_before: Option<Millis>,
    },
    /// Agents who did not take it may be offered it again: those who were to be left alone until this time or before.
    RefusalsForgotten {
        /// The time.
        now: Millis,
    },
    /// A further dialog was opened.
    DialogOpened {
        /// The dialog.
        dialog: DialogId,
        /// What it is for.
        kind: DialogKind,
        /// Who leads it.
        host: Person,
        /// When it is closed if nobody does.
        until: Millis,
    },
    /// A survey's question was asked.
    Asked {
        /// The survey's dialog.
        dialog: DialogId,
        /// Its name.
        question: String,
    },
    /// The consumer goes on under another identity.
    ConsumerReplaced {
        /// The identity from now on.
        consumer: ConsumerId,
    },
}

impl Change {
    /// Takes away what people said.
    fn forget_words(&mut self) {
        match self {
            Self::Noted { note, .. } => note.clear(),
            Self::AttributesSet { values } => values.iter_mut().for_each(|(_, value)| *value = None),
            Self::RatingAnswered { given, .. } => given.comment = None,
            Self::RatingOffered { rating } => rating.given = None,
            Self::Answered { answer } => (answer.question, answer.value) = (String::new(), String::new()),
            Self::Booked { booking, .. } => booking.clear(),
            Self::DialogClosed { cause, .. } => *cause = None,
            _ => {}
        }
    }

    /// Whether a conversation's subscribers can see it. Offers are their agents' business, and a question is an event.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        !matches!(
            self,
            Self::Offered { .. }
                | Self::RingEnded { .. }
                | Self::RefusalsForgotten { .. }
                | Self::Asked { .. }
                | Self::PatienceRenewed { .. }
        )
    }
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

impl Entry {
    /// The same without what people said in it, or could be known by.
    #[must_use]
    pub fn without_words(&self) -> Self {
        let mut entry = self.clone();
        match &mut entry {
            Self::Published(message) => *message = Arc::new(message.without_words()),
            Self::Opened(opened) => {
                (opened.context, opened.campaign, opened.binding) = (None, None, None);
                opened.origin = opened.origin.as_ref().map(|origin| Arc::new(origin.without_words()));
            }
            Self::Changed { changes, .. } => changes.iter_mut().for_each(Change::forget_words),
            _ => {}
        }
        entry
    }
}

impl Sight {
    /// When an event was written: where that is said of it, before it was stored.
    #[must_use]
    pub fn said_at(&self) -> Millis {
        self.message().and_then(|message| message.written).unwrap_or(self.at)
    }

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
    /// Whether it changes what a conversation's subscribers see of it.
    #[must_use]
    pub fn changes_what_is_shown(&self) -> bool {
        match self {
            Self::Opened(_) => true,
            Self::Changed { changes, .. } => changes.iter().any(Change::is_shown),
            _ => false,
        }
    }

    /// The conversation it belongs to, if to any.
    #[must_use]
    pub fn conversation(&self) -> Option<&ConversationId> {
        match self {
            Self::Opened(opened) => Some(&opened.conversation),
            Self::Published(message) => Some(&message.conversation),
            Self::Changed { conversation, .. } => Some(conversation),
            // What is no more has no state that this could change.
            Self::Removed { .. } => None,
            Self::ConsumerSeen { .. } | Self::ClaimsSeen { .. } | Self::ProfileSet { .. } | Self::AgentStateSet { .. } => None,
        }
    }
}
