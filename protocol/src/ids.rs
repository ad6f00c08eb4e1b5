//! Identifiers as types of their own, so that a dialog's id cannot be passed where a person's is meant.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        // So that a map by ids can be asked by text: both have its hash and its order.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

text_id!(
    /// A tenant. Nothing crosses it.
    AccountId
);
text_id!(
    /// A conversation: a UUID, given out by the gateway.
    ConversationId
);
text_id!(
    /// A dialog. The MAIN dialog of a conversation has the conversation's own id.
    DialogId
);
text_id!(
    /// A consumer: 64 hexadecimal digits for one that a connector speaks for, a UUID for one that signed up itself.
    ConsumerId
);
text_id!(
    /// An agent's number within its account, the `userId` of the login reply.
    UserId
);
text_id!(
    /// An agent's participant id, a UUID; what other people see of an agent.
    ParticipantId
);
text_id!(
    /// An application, named by its `client_id`.
    ClientId
);
text_id!(
    /// A queue (the vendor's "skill"). `"-1"` is the queue of conversations without one.
    QueueId
);

text_id!(
    /// An offer of a conversation to an agent. It begins with the conversation's id and an underscore.
    RingId
);

text_id!(
    /// A tag: a UUID.
    TagId
);
text_id!(
    /// A custom attribute's definition: a UUID.
    AttributeId
);
text_id!(
    /// A rating that was offered: a UUID.
    RatingId
);
text_id!(
    /// An agents' note: a UUID.
    NoteId
);
text_id!(
    /// What has no type of its own here: something of an account's directory, such as a website or a bot, a question, or a request.
    PlainId
);

impl RingId {
    /// The conversation that is offered, as the id says.
    #[must_use]
    pub fn conversation(&self) -> Option<ConversationId> {
        self.0.split_once('_').map(|(conversation, _)| ConversationId::from(conversation))
    }
}

/// What the id of a survey's dialog ends with.
const SURVEY: &str = "-survey";

impl ConversationId {
    /// The dialog of the questions behind the conversation.
    #[must_use]
    pub fn survey_dialog(&self) -> DialogId {
        DialogId::from(format!("{self}{SURVEY}"))
    }

    /// The MAIN dialog, which has the conversation's own id.
    #[must_use]
    pub fn main_dialog(&self) -> DialogId {
        DialogId(self.0.clone())
    }
}

impl DialogId {
    /// The conversation that a dialog's id names: the MAIN one's is its own, a survey's begins with it.
    #[must_use]
    pub fn as_conversation(&self) -> ConversationId {
        match self.0.strip_suffix(SURVEY) {
            Some(conversation) => ConversationId::from(conversation),
            None => ConversationId(self.0.clone()),
        }
    }
}

impl QueueId {
    /// The queue of conversations that nobody assigned to one.
    #[must_use]
    pub fn unassigned() -> Self {
        Self::from("-1")
    }
}
