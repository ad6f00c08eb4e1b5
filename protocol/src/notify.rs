//! The bodies of notifications. A member that is `None` is left out.

use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A notification with changes of a v3 dialog or of a subscription.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes<'a, C> {
    /// The subscription, in notifications about conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<&'a str>,
    /// When it was sent, in milliseconds, in notifications about conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_ts: Option<i64>,
    /// The dialog, in notifications about events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialog_id: Option<&'a str>,
    /// What to pass as `after` to resume behind this notification, on the connector socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<&'a str>,
    /// The changes.
    pub changes: Vec<C>,
}

/// One event of a dialog.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventChange<'a> {
    /// Position in the dialog; absent for a typing state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Who: a consumer's id; an agent's participant id (v3) or old id (v2).
    pub originator_id: &'a str,
    /// Who, by participant id; v2 only, and required there.
    #[serde(rename = "originatorPId", skip_serializing_if = "Option::is_none")]
    pub originator_pid: Option<&'a str>,
    /// Who, and in which role.
    pub originator_metadata: Originator<'a>,
    /// What the publisher's client said of itself; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub originator_client_properties: Option<&'a RawValue>,
    /// When, in milliseconds; absent for a typing state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_timestamp: Option<i64>,
    /// The event as published.
    pub event: &'a RawValue,
    /// The conversation.
    pub conversation_id: &'a str,
    /// The dialog.
    pub dialog_id: &'a str,
    /// Who may see it; absent inside a conversation, whose last content everybody may see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_audience: Option<&'a str>,
    /// As published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a RawValue>,
    /// As published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoded_metadata: Option<&'a str>,
}

/// Who published an event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Originator<'a> {
    /// A consumer's id or an agent's participant id.
    pub id: &'a str,
    /// The role in the dialog.
    pub role: &'a str,
    /// What the publisher's client said of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_properties: Option<&'a RawValue>,
}

/// One conversation that came into, changed in, or left a subscription.
#[derive(Debug, Serialize)]
pub struct ConversationChange<R> {
    /// `UPSERT` or `DELETE`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The whole conversation, in a `DELETE` too.
    pub result: R,
}

/// A conversation as subscribers see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversationResult<'a> {
    /// The conversation.
    pub conv_id: &'a str,
    /// When an answer is due, in milliseconds; -1 if none is.
    #[serde(rename = "effectiveTTR")]
    pub effective_ttr: i64,
    /// Equal to `metaDataLastUpdateTs`; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<i64>,
    /// How many contents each participant has to read, by its id; v2 only.
    #[serde(rename = "numberOfunreadMessages", skip_serializing_if = "Option::is_none")]
    pub number_of_unread_messages: Option<BTreeMap<&'a str, u32>>,
    /// The last content that everybody may see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_content_event_notification: Option<EventChange<'a>>,
    /// The conversation.
    pub conversation_details: ConversationDetails<'a>,
}

/// The details of a conversation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversationDetails<'a> {
    /// The conversation; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_id: Option<&'a str>,
    /// The queue.
    pub skill_id: &'a str,
    /// Who takes part, by role.
    pub participants: Participants<'a>,
    /// The same in the same order, by participant id; v2 only, and required there.
    #[serde(rename = "participantsPId", skip_serializing_if = "Option::is_none")]
    pub participants_pid: Option<BTreeMap<&'a str, Vec<&'a str>>>,
    /// The dialogs.
    pub dialogs: Vec<DialogDetails<'a>>,
    /// The account.
    pub brand_id: &'a str,
    /// State of the MAIN dialog.
    pub state: &'a str,
    /// State of the whole conversation.
    pub stage: &'a str,
    /// Who closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<&'a str>,
    /// When it was opened, in milliseconds.
    pub start_ts: i64,
    /// When it was closed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_ts: Option<i64>,
    /// Grows with every change and never goes back.
    pub meta_data_last_update_ts: i64,
    /// Whether it is this consumer's first.
    pub first_conversation: bool,
    /// How soon an answer is due.
    pub ttr: Ttr<'a>,
    /// The answer's due time, set by an agent; v2 only.
    #[serde(rename = "manualETTR", skip_serializing_if = "Option::is_none")]
    pub manual_ettr: Option<i64>,
    /// The consumer's rating.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csat: Option<Csat<'a>>,
    /// The agents' last note; v2 only, and only for the brand's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'a str>,
    /// What else is known of it, such as its tags; only for the brand's side, and only where there is something. An extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<&'a RawValue>,
    /// The context it was opened with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<&'a RawValue>,
    /// The campaign it was opened from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_info: Option<&'a RawValue>,
    /// The application that opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_inst_id: Option<&'a str>,
    /// Who handles it.
    pub conversation_handler_details: Handler<'a>,
}

/// Participants: by role in v2, a list in v3.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Participants<'a> {
    /// v2: every value is an array.
    ByRole(BTreeMap<&'a str, Vec<&'a str>>),
    /// v3.
    List(Vec<Participant<'a>>),
}

/// One participant in v3.
#[derive(Debug, Serialize)]
pub struct Participant<'a> {
    /// A consumer's id or an agent's participant id.
    pub id: &'a str,
    /// The role.
    pub role: &'a str,
}

/// One dialog of a conversation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DialogDetails<'a> {
    /// The dialog.
    pub dialog_id: &'a str,
    /// Who takes part; suggested agents last.
    pub participants_details: Vec<ParticipantDetails<'a>>,
    /// `MAIN`, `POST_SURVEY`.
    pub dialog_type: &'a str,
    /// `MESSAGING`.
    pub channel_type: &'a str,
    /// `OPEN`, `CLOSE`.
    pub state: &'a str,
    /// When it was opened, in milliseconds.
    pub creation_ts: i64,
    /// When it was closed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_ts: Option<i64>,
    /// Grows with every change and never goes back.
    pub meta_data_last_update_ts: i64,
    /// Who closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<&'a str>,
    /// Why it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_cause: Option<&'a str>,
}

/// One participant of a dialog.
#[derive(Debug, Serialize)]
pub struct ParticipantDetails<'a> {
    /// A consumer's id; an agent's old id (v2) or participant id (v3).
    pub id: &'a str,
    /// The role.
    pub role: &'a str,
    /// `ACTIVE`, `SUGGESTED`.
    pub state: &'a str,
}

/// How soon an answer is due.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ttr<'a> {
    /// `NORMAL`, `URGENT`, `PRIORITIZED`, `CUSTOM`.
    pub ttr_type: &'a str,
    /// Seconds.
    pub value: u64,
}

/// A consumer's rating.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Csat<'a> {
    /// 0 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csat_rate: Option<u8>,
    /// Whether the matter is settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csat_resolution_confirmation: Option<bool>,
    /// How much of the survey was filled.
    pub status: &'a str,
}

/// Who handles a conversation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Handler<'a> {
    /// The account.
    pub account_id: &'a str,
    /// The queue.
    pub skill_id: &'a str,
}

/// One conversation that is offered to an agent, or was.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutingTask<'a> {
    /// The task: a conversation's search for an agent.
    pub routing_task_id: &'a str,
    /// The agent, by old id (v2) or participant id (v3).
    pub assigned_agent_id: &'a str,
    /// The account.
    pub brand_id: &'a str,
    /// Whether the offer is over.
    pub task_completed: bool,
    /// The conversation.
    pub conversation_id: &'a str,
    /// Its consumer.
    pub consumer_id: &'a str,
    /// Its queue.
    pub skill_id: &'a str,
    /// Exactly one.
    pub rings_details: [RingDetails<'a>; 1],
}

/// One offer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RingDetails<'a> {
    /// The offer.
    pub ring_id: &'a str,
    /// `WAITING`, `ACCEPTED`, `REJECTED`, `CANCELLED`, `EXPIRED`.
    pub ring_state: &'a str,
    /// For how long it may be accepted, in milliseconds.
    pub ring_expiration: i64,
    /// Until when, in milliseconds.
    pub ring_expiration_ts: i64,
    /// Orders offers: when the conversation began to wait.
    pub weight: i64,
    /// The account.
    pub brand_id: &'a str,
    /// The conversation.
    pub conv_id: &'a str,
    /// Its consumer.
    pub consumer_id: &'a str,
    /// Its queue.
    pub skill_id: &'a str,
}

/// What an agent says of itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentState<'a> {
    /// As it was given.
    pub channels: &'a [String],
    /// `ONLINE`, `OCCUPIED`, `BACK_SOON`, `AWAY`, `OFFLINE`.
    pub availability: &'a str,
    /// As it was given.
    pub description: &'a str,
    /// The agent, by old id (v2) or participant id (v3).
    pub agent_user_id: &'a str,
}
