//! The sentences of the wire, to the letter. Clients compare them, so they are vocabulary as the types are: what says that a
//! request succeeded, and the few refusals that clients know by their words.

use crate::body::ConversationField;
use crate::code::ErrorCode;
use crate::kind::RequestKind;

/// `InitConnection`.
pub const INITIALIZED: &str = "Connection initialized successfully";
/// `userprofile.SetUserProfile`.
pub const PROFILE_SET: &str = "OK User Profile set successfully";
/// `cqm.UnsubscribeExConversations`.
pub const UNSUBSCRIBED: &str = "OK Unsubscribed successfully";
/// `cqm.UpdateExConversationSubscription` and `rs.UpdateRoutingTaskSubscription`.
pub const SUBSCRIPTION_UPDATED: &str = "OK Subscription updated successfully";
/// `rs.SetAgentState`.
pub const AGENT_STATE_UPDATED: &str = "Agent state updated successfully";
/// `rs.UpdateRingState`.
pub const RING_STATE_UPDATED: &str = "Ring state updated successfully";

/// The refusal of an agent's request in a conversation in which it takes no part.
pub const NOT_A_PARTICIPANT: &str = "Agent does not exist in conversation";
/// The refusal of a `SUGGEST` of somebody who takes part already.
pub const ALREADY_A_PARTICIPANT: &str = "Transfer to agent failed: Agent already exist";
/// The refusal to open a conversation for no account, where one must be named.
pub const BRAND_MISSING: &str = "Brand Id is missing";

/// The sentence with which a request of this kind succeeds. None where the response is an object, and for
/// `cm.UpdateConversationField`, whose first field says it: see [`FieldText`].
#[must_use]
pub fn success(kind: RequestKind) -> Option<&'static str> {
    use RequestKind as K;
    match kind {
        K::InitConnection => Some(INITIALIZED),
        K::SetUserProfile => Some(PROFILE_SET),
        K::UnsubscribeExConversations => Some(UNSUBSCRIBED),
        K::UpdateExConversationSubscription | K::UpdateRoutingTaskSubscription => Some(SUBSCRIPTION_UPDATED),
        K::SetAgentState => Some(AGENT_STATE_UPDATED),
        K::UpdateRingState => Some(RING_STATE_UPDATED),
        K::GetClock
        | K::ConsumerRequestConversation
        | K::AgentRequestConversation
        | K::PublishEvent
        | K::UpdateConversationField
        | K::SubscribeExConversations
        | K::SubscribeMessagingEvents
        | K::QueryMessages
        | K::GetUserProfile
        | K::SubscribeAgentsState
        | K::SubscribeRoutingTasks
        | K::GenerateURLForUploadFile
        | K::GenerateURLForDownloadFile
        | K::GenerateUploadToken
        | K::GenerateDownloadToken
        | K::GetBrandProfile
        | K::SubscribeApplicationEvents => None,
    }
}

/// The details of an error of the Connector API, where they are fixed.
#[must_use]
pub fn details(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::InvalidAppJwt => Some("AppJWT has expired or is invalid"),
        ErrorCode::InvalidConsumerJws => Some("ConsumerJWS is invalid"),
        ErrorCode::MissingConsumerJws => Some("X_ON_BEHALF_HEADER is not present"),
        ErrorCode::MissingAppJwt => Some("AUTHORIZATION header is not present"),
        _ => None,
    }
}

/// What says that a field of a conversation was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldText {
    /// `ConversationStateField`, `Stage`, `DialogChange`: something was closed.
    Resolved,
    /// `ParticipantsChange` of type `ADD`.
    AgentAdded,
    /// `ParticipantsChange` of type `REMOVE` or `SUGGEST`, which are sent together.
    AgentRemoved,
    /// `ParticipantsChange` of type `UPDATE`.
    AgentUpdated,
    /// `Skill`.
    SkillChanged,
    /// `TTRField`.
    TtrUpdated,
    /// `ManualETTR`.
    ManualEttrUpdated,
    /// `CSATRate`.
    CsatProcessed,
    /// `Note`.
    NoteUpdated,
}

impl FieldText {
    /// Every text there is.
    pub const ALL: &[Self] = &[
        Self::Resolved,
        Self::AgentAdded,
        Self::AgentRemoved,
        Self::AgentUpdated,
        Self::SkillChanged,
        Self::TtrUpdated,
        Self::ManualEttrUpdated,
        Self::CsatProcessed,
        Self::NoteUpdated,
    ];

    /// The text that answers a field; of several fields the first is answered.
    #[must_use]
    pub fn of(field: &ConversationField) -> Self {
        match (field.field.as_deref().unwrap_or_default(), field.kind.as_deref()) {
            ("ParticipantsChange", Some("ADD")) => Self::AgentAdded,
            ("ParticipantsChange", Some("UPDATE")) => Self::AgentUpdated,
            ("ParticipantsChange", _) => Self::AgentRemoved,
            ("Skill", _) => Self::SkillChanged,
            ("TTRField", _) => Self::TtrUpdated,
            ("ManualETTR", _) => Self::ManualEttrUpdated,
            ("CSATRate", _) => Self::CsatProcessed,
            ("Note", _) => Self::NoteUpdated,
            _ => Self::Resolved,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "OK Conversation resolved successfully",
            Self::AgentAdded => "OK Agent added successfully",
            Self::AgentRemoved => "OK Agent removed successfully",
            Self::AgentUpdated => "OK Agent updated successfully",
            Self::SkillChanged => "Skill changed successfully",
            Self::TtrUpdated => "Update TTR ended successfully",
            Self::ManualEttrUpdated => "Update manual Ettr ended successfully",
            Self::CsatProcessed => "OK CSAT processed successfully",
            Self::NoteUpdated => "OK Update note success",
        }
    }
}
