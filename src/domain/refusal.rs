//! Why a command is refused. It is certain then that nothing was written.

use std::borrow::Cow;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::text;

/// Why the rules refuse a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The conversation is another's, or there is none: the two are not told apart.
    #[error("Conversation does not exist")]
    NoSuchConversation,
    /// The conversation has no such dialog.
    #[error("Dialog does not exist in conversation")]
    NoSuchDialog,
    /// The agent has not joined.
    #[error("{}", text::NOT_A_PARTICIPANT)]
    NotAParticipant,
    /// The dialog takes no more events.
    #[error("Dialog is closed; open a new conversation")]
    DialogClosed,
    /// Nobody of that id is known.
    #[error("{0} does not exist")]
    NobodyThere(Cow<'static, str>),
    /// The actor's kind or role may not do this.
    #[error("{0}")]
    NotPermitted(Cow<'static, str>),
    /// What is asked for is not possible in the present state.
    #[error("{0}")]
    NotNow(Cow<'static, str>),
    /// Somebody else has it.
    #[error("Conversation is assigned to another agent")]
    Taken,
    /// There is one of that name already.
    #[error("{0} exists already")]
    Duplicate(Cow<'static, str>),
    /// What was said is erased; nothing may be added.
    #[error("Conversation is anonymised")]
    Anonymised,
    /// The request is not understood.
    #[error("{0}")]
    Invalid(Cow<'static, str>),
}

impl Refusal {
    /// The code that tells a client what to do.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchConversation => ErrorCode::InvalidConsumerJws,
            Self::NoSuchDialog | Self::NotAParticipant | Self::DialogClosed | Self::NobodyThere(_) | Self::NotNow(_) => ErrorCode::Refused,
            Self::Taken | Self::Duplicate(_) | Self::Anonymised => ErrorCode::Refused,
            Self::NotPermitted(_) => ErrorCode::NotPermitted,
            Self::Invalid(_) => ErrorCode::InvalidRequest,
        }
    }
}
