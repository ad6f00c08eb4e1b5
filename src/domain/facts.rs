//! What is known of a conversation beside what is said in it: tags, attributes, ratings, links, answers, bookings.

use super::Millis;
use super::people::Person;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::collections::BTreeMap;
use tieline_protocol::ids::{AttributeId, ConversationId, PlainId, RatingId, TagId};

/// Most tags of a conversation.
pub(super) const MOST_TAGS: usize = 100;
/// Most ratings that are offered in a conversation.
pub(super) const MOST_RATINGS: usize = 100;
/// Most conversations that are linked to one.
pub(super) const MOST_CHILDREN: usize = 100;
/// Most answers of a conversation, and most bookings.
pub(super) const MOST_ANSWERS: usize = 200;
/// Longest text among these, in characters.
pub(super) const LONGEST: usize = 4_000;

/// What is known of a conversation beside what is said in it.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// In the order in which they were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagId>,
    /// Values of the account's custom attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<AttributeId, AttributeValue>,
    /// In the order in which they were offered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ratings: Vec<Rating>,
    /// The conversation that it belongs to.
    pub parent: Option<Link>,
    /// The conversations that belong to it, in the order in which they were linked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ConversationId>,
    /// The website that it came from.
    pub website: Option<PlainId>,
    /// The bot that leads it.
    pub bot: Option<PlainId>,
    /// The group of consumers for whom it was offered.
    pub audience: Option<PlainId>,
    /// What the consumer was asked and said, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// What was booked in it, by names that other systems gave.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bookings: Vec<String>,
}

/// What a custom attribute says of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A text.
    Text(String),
    /// Choices out of a list; of a list with levels, a path through them.
    Choices(Vec<String>),
}

/// A rating that the consumer was asked for.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// Its id.
    pub id: RatingId,
    /// What is asked.
    pub scale: Scale,
    /// Of whom.
    pub of: Option<Person>,
    /// By whom.
    pub by: Person,
    /// When it was offered.
    pub offered: Millis,
    /// The answer.
    pub given: Option<RatingGiven>,
}

/// A consumer's answer to the question for a rating.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatingGiven {
    /// Within the scale.
    pub score: u8,
    /// What the consumer adds.
    pub comment: Option<String>,
    /// When.
    pub at: Millis,
}

/// What a rating may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scale {
    /// 1 to 5.
    Csat,
    /// 0 or 1.
    Thumbs,
    /// 0 to 10.
    Nps,
}

impl Scale {
    /// Whether a score is on the scale.
    #[must_use]
    pub fn has(self, score: u8) -> bool {
        match self {
            Self::Csat => (1..=5).contains(&score),
            Self::Thumbs => score <= 1,
            Self::Nps => score <= 10,
        }
    }
}

/// The conversation that another belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// That conversation.
    pub parent: ConversationId,
    /// Its number within the account.
    pub number: i64,
    /// As what.
    pub kind: LinkKind,
}

/// As what a conversation belongs to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinkKind {
    /// They are about the same matter.
    Related,
    /// A talk aside with somebody else about it.
    Side,
    /// The same, forwarded.
    Forward,
    /// What came after it.
    FollowUp,
}

/// What a consumer was asked and said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's id.
    pub id: PlainId,
    /// What the brand calls it.
    pub label: String,
    /// What was asked.
    pub question: String,
    /// What was said.
    pub value: String,
}

/// One of the places of the directory that a conversation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    /// [`Facts::website`].
    Website,
    /// [`Facts::bot`].
    Bot,
    /// [`Facts::audience`].
    Audience,
}

impl Facts {
    /// What stands at a place.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<&PlainId> {
        match place {
            Place::Website => self.website.as_ref(),
            Place::Bot => self.bot.as_ref(),
            Place::Audience => self.audience.as_ref(),
        }
    }

    /// A place as it is named.
    pub(super) fn place(&mut self, place: Place) -> &mut Option<PlainId> {
        match place {
            Place::Website => &mut self.website,
            Place::Bot => &mut self.bot,
            Place::Audience => &mut self.audience,
        }
    }
}
