//! The bodies of requests. Members that are not known are ignored; ids may be strings or numbers.

use crate::envelope::OneOrMany;
use crate::json::Text;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::value::RawValue;

/// Text that may be written as a number, as ids often are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loose(pub String);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Loose;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a whole number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Loose, E> {
                Ok(Loose(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Loose, E> {
                Ok(Loose(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `ms.PublishEvent`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishEvent<'a> {
    /// The dialog; `""` in a batch means the conversation that the batch opens.
    #[serde(borrow)]
    pub dialog_id: Option<Text<'a>>,
    /// The conversation, for a dialog that is not its MAIN one.
    #[serde(borrow)]
    pub conversation_id: Option<Text<'a>>,
    /// The event, as it will be stored and shown.
    #[serde(borrow)]
    pub event: Option<&'a RawValue>,
    /// `ALL`, or `AGENTS_AND_MANAGERS` for what only the brand's side may see.
    #[serde(borrow)]
    pub message_audience: Option<Text<'a>>,
}

/// `cm.ConsumerRequestConversation`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestConversation<'a> {
    /// The account.
    pub brand_id: Option<Loose>,
    /// Only `MESSAGING` is known.
    pub channel_type: Option<String>,
    /// How urgent an answer is: `NORMAL`, `URGENT`, `PRIORITIZED`, `CUSTOM`.
    pub ttr_def_name: Option<String>,
    /// The queue.
    pub skill_id: Option<Loose>,
    /// Kept and shown as it is.
    #[serde(borrow)]
    pub conversation_context: Option<&'a RawValue>,
    /// Kept and shown as it is.
    #[serde(borrow)]
    pub campaign_info: Option<&'a RawValue>,
    /// The consumer, when an agent opens.
    pub consumer_id: Option<Loose>,
    /// The opener's own name for the conversation. Ours: while one of this name is open, it is found instead of opened.
    pub binding: Option<Loose>,
}

/// `cm.UpdateConversationField`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateConversationField {
    /// The conversation.
    pub conversation_id: Option<String>,
    /// What to change, all or nothing.
    pub conversation_field: Option<OneOrMany<ConversationField>>,
}

/// One field of a [`UpdateConversationField`], its members as they came.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConversationField {
    /// Which field.
    pub field: Option<String>,
    /// How: `ADD`, `REMOVE`, `SUGGEST`, `UPDATE`, `CREATE`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `CLOSE`.
    pub conversation_state: Option<String>,
    /// The dialog of a `DialogChange`.
    pub dialog: Option<DialogChange>,
    /// The dialog of a `ParticipantsChange`.
    pub dialog_id: Option<String>,
    /// A participant's role.
    pub role: Option<String>,
    /// A participant.
    pub user_id: Option<Loose>,
    /// The queue of a `Skill`.
    pub skill: Option<Loose>,
    /// The kind of a `TTRField`.
    pub ttr_type: Option<String>,
    /// Seconds, in a `TTRField`.
    pub value: Option<u64>,
    /// Milliseconds since 1970, in a `ManualETTR`.
    pub time: Option<i64>,
    /// 0 to 5, in a `CSATRate`.
    pub csat_rate: Option<Loose>,
    /// Whether the matter is settled, in a `CSATRate`.
    pub csat_resolution_confirmation: Option<bool>,
    /// How much of the survey was filled, in a `CSATRate`.
    pub status: Option<String>,
    /// The text of a `Note`.
    pub note: Option<String>,
}

/// The dialog of a `DialogChange`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DialogChange {
    /// The dialog.
    pub dialog_id: Option<String>,
    /// `CLOSE`.
    pub state: Option<String>,
    /// Who closed it, as the closer says.
    pub closed_by: Option<String>,
    /// Why, as the closer says.
    pub closed_cause: Option<String>,
}

/// `cqm.SubscribeExConversations` and `cqm.UpdateExConversationSubscription`; what is absent restricts nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscribeConversations {
    /// The subscription to change, in an update.
    pub subscription_id: Option<String>,
    /// States of the MAIN dialog.
    pub conv_state: Option<OneOrMany<String>>,
    /// States of the whole conversation.
    pub stage: Option<OneOrMany<String>>,
    /// The account.
    pub brand_id: Option<Loose>,
    /// Agents of whom one takes part, by old or participant id.
    pub agent_ids: Option<OneOrMany<String>>,
    /// The consumer.
    pub consumer_id: Option<String>,
    /// Just this conversation.
    pub conversation_id: Option<String>,
    /// Milliseconds, inclusive.
    pub min_last_updated_time: Option<i64>,
    /// Milliseconds, inclusive.
    pub max_last_updated_time: Option<i64>,
    /// An answer is due no later than this, in milliseconds.
    #[serde(rename = "maxETTR")]
    pub max_ettr: Option<i64>,
    /// Kinds of dialogs of which one is open.
    pub dialog_types: Option<OneOrMany<String>>,
}

/// `cqm.UnsubscribeExConversations`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unsubscribe {
    /// The subscription.
    pub subscription_id: Option<String>,
}

/// `ms.SubscribeMessagingEvents`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscribeMessagingEvents {
    /// The dialog.
    pub dialog_id: Option<String>,
    /// The conversation, for a dialog that is not its MAIN one.
    pub conversation_id: Option<String>,
    /// The first number wanted; 0 if absent.
    pub from_seq: Option<u64>,
    /// The log the number is from, if the client knows it.
    pub epoch: Option<String>,
}

/// `ms.QueryMessages`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryMessages {
    /// The dialog.
    pub dialog_id: Option<String>,
    /// The conversation, for a dialog that is not its MAIN one.
    pub conversation_id: Option<String>,
    /// Most events to return.
    pub max_quantity: Option<u64>,
    /// Smallest number wanted, inclusive in spite of its name.
    pub newer_than_sequence: Option<i64>,
    /// Largest number wanted, inclusive in spite of its name.
    pub older_than_sequence: Option<u64>,
}

/// `ms.SubscribeApplicationEvents`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubscribeApplicationEvents {
    /// The cursor of the last notification seen; absent: only what comes.
    pub after: Option<String>,
}

/// `userprofile.GetUserProfile`: an object, or the id alone.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum GetUserProfile {
    /// The id alone, as one client sends it.
    Bare(String),
    /// An object.
    Object {
        /// Whose profile; one's own if absent.
        #[serde(rename = "userId", default)]
        user_id: Option<Loose>,
    },
}

/// `rs.SetAgentState`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetAgentState {
    /// `ONLINE`, `OCCUPIED`, `BACK_SOON`, `AWAY`, `OFFLINE`.
    pub availability: Option<String>,
    /// Kept and shown as they are.
    pub channels: Option<OneOrMany<String>>,
    /// The agent, by old or participant id; oneself if absent.
    pub agent_user_id: Option<Loose>,
    /// Kept and shown as it is.
    pub description: Option<String>,
    /// Kept.
    pub reason_id: Option<Loose>,
}

/// `rs.SubscribeAgentsState` and `rs.SubscribeRoutingTasks`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscribeAgents {
    /// The subscription, where one is changed.
    pub subscription_id: Option<String>,
    /// The account.
    pub brand_id: Option<Loose>,
    /// Only `MESSAGING` is known.
    pub channel_type: Option<String>,
    /// One agent, by old or participant id; oneself if absent.
    pub agent_id: Option<Loose>,
    /// Several agents.
    pub agent_ids: Option<OneOrMany<Loose>>,
}

/// `rs.UpdateRingState`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateRingState {
    /// The offer.
    pub ring_id: Option<String>,
    /// `ACCEPTED` or `REJECTED`.
    pub ring_state: Option<String>,
}

/// `ms.GenerateURLForUploadFile`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GenerateUploadUrl {
    /// Bytes.
    pub file_size: Option<Loose>,
    /// `PNG`, `JPG` and so on.
    pub file_type: Option<String>,
}

/// `ms.GenerateURLForDownloadFile`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GenerateDownloadUrl {
    /// The file, as it was published.
    pub relative_path: Option<String>,
}

/// `ms.GenerateUploadToken` and `ms.GenerateDownloadToken`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct GenerateFormToken {
    /// The form to read.
    pub downloadable: Option<SecureForm>,
    /// The form to fill.
    pub uploadable: Option<SecureForm>,
}

/// A secure form.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecureForm {
    /// `SecureForm`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The dialog in which it was sent.
    pub dialog_id: Option<String>,
    /// The conversation, for a dialog that is not its MAIN one.
    pub conversation_id: Option<String>,
    /// What was filled in.
    pub submission_id: Option<String>,
    /// What was asked to be filled in.
    pub invitation_id: Option<String>,
}
