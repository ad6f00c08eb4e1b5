//! The rules, pure: no I/O, no `async`, no clock and no randomness of their own.
//!
//! What happened is a list of [`Entry`]s, the journal. A [`Conversation`] and a [`Consumer`] are what their entries
//! add up to; an [`AgentState`] is the last that its agent said. A [`Command`] is what an [`Actor`] wants; [`decide`] says,
//! under an account's [`Policy`], which entries it becomes, or why it is refused. Everything it may look at comes through a [`Draft`], so the same function runs behind any store.

mod access;
mod agent;
mod command;
mod conversation;
mod draft;
mod entry;
mod facts;
mod filter;
mod offer;
mod origin;
mod outcome;
mod people;
mod policy;
mod record;
mod refusal;
mod routing;
mod survey;

pub use access::visible;
pub use agent::AgentState;
pub use command::{Command, FieldChange, ScopeKey, decide};
pub use conversation::{
    Audience, Closer, Consumer, Conversation, Csat, Details, Dialog, DialogKind, EVENTS_AHEAD, LastContent, OpenState, Participant,
    ParticipantState, Ttr, Unread,
};
pub use draft::{Draft, View};
pub use entry::{Change, Entry, Message, Opened, Sight};
pub use facts::{Answer, AttributeValue, Facts, Link, LinkKind, Place, Rating, RatingGiven, Scale};
pub use filter::ConversationFilter;
pub use origin::{Browser, Channel, Direction, Origin};
pub use outcome::{Outcome, Routed};
pub use people::{Actor, AgentRole, Availability, Person, Role};
pub use policy::{Policy, Question, QuestionKind, Survey};
pub use refusal::Refusal;
pub use routing::{Candidate, Choice, Refused, Ring, RingState, Standing, choose};

/// Milliseconds since 1970.
pub type Millis = i64;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
