//! The rules, pure: no I/O, no `async`, no clock and no randomness of their own.
//!
//! What happened is a list of [`Entry`]s, the journal. A [`Conversation`] and a [`Consumer`] are what their entries
//! add up to. A [`Command`] is what an [`Actor`] wants; [`decide`] says which entries it becomes, or why it is
//! refused. Everything it may look at comes through a [`Draft`], so the same function runs behind any store.

mod command;
mod conversation;
mod draft;
mod entry;
mod filter;
mod people;
mod refusal;

pub use command::{Command, FieldChange, Outcome, ScopeKey, decide, visible};
pub use conversation::{Audience, Closer, Consumer, Conversation, Csat, Details, Dialog, OpenState, Participant, ParticipantState, Ttr};
pub use draft::{Draft, View};
pub use entry::{Change, Entry, Message, Opened, Sight};
pub use filter::ConversationFilter;
pub use people::{Actor, AgentRole, Person, Role};
pub use refusal::Refusal;

/// Milliseconds since 1970.
pub type Millis = i64;

#[cfg(test)]
mod tests;
