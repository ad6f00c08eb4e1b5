//! What became of commands.

use super::Millis;
use serde::{Deserialize, Serialize};
use tieline_protocol::ids::ConversationId;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The consumer is known.
    ConsumerSeen,
    /// The profile is set.
    ProfileSet,
    /// The conversation is open.
    Opened {
        /// Its id.
        conversation: ConversationId,
        /// Whether it was open before, and was found by its name.
        found: bool,
    },
    /// The event is stored, or, for a typing state, shown.
    Published {
        /// Its position in the dialog; 0 for a typing state.
        sequence: u64,
        /// How often the very same request was stored before, where the application counts that.
        resends: u64,
    },
    /// The message is stored in the MAIN dialog.
    Recorded {
        /// Its position there.
        sequence: u64,
        /// When it counts as written.
        at: Millis,
    },
    /// The conversation is changed.
    Updated,
    /// What became of the search for an agent.
    Routed(Routed),
    /// What is to be said again to a repeat.
    Remarked(String),
}

/// What became of the search for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Routed {
    /// It is offered to somebody.
    Offered,
    /// An invitation was withdrawn; it is to be looked at again.
    Withdrawn,
    /// Nobody who serves the queue is free, so nobody is for those behind it either.
    NobodyFree,
    /// Who is free has not taken it.
    AllRefused,
    /// It needs nobody now, or its queue is another.
    NotPending,
}
