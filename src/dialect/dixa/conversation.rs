//! A conversation as it is shown.
//!
//! Its channel says what it is: the two always go together.

use super::Data;
use super::caller::{Caller, person_uuid};
use super::error::{Absent, Any, Fault, Ours};
use super::input::Stamp;
pub(super) use crate::dialect::channel;
use crate::dialect::ids::consumer_uuid;
use crate::domain::{
    AttributeValue, Browser as Known, Channel, Conversation, Direction as Way, Link as Joined, LinkKind, OpenState, Origin,
};
use crate::identity::Account;
use crate::things::ThingId;
use axum::Json;
use axum::extract::Path;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// The conversation that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    /// The conversation's number.
    pub(super) conversation_id: i64,
}

/// The extractor of [`Named`].
pub(super) type Which = Ours<Path<Named>>;

/// A conversation.
#[allow(clippy::enum_variant_names, reason = "the API's names")]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversation)]
#[serde(tag = "_type")]
pub(super) enum Shown {
    /// A chat on a web page.
    ChatConversation(Chat),
    /// A talk in a messenger of the brand's own. So are those of connectors that say no channel.
    MessengerConversation(Chat),
    /// Letters.
    EmailConversation(Mail),
    /// What a form on a web page began.
    ContactFormConversation(Form),
    /// Text messages.
    SmsConversation(Sms),
    /// WhatsApp.
    WhatsAppConversation(Common),
    /// Facebook's messenger.
    FacebookMessengerConversation(Common),
    /// Twitter.
    TwitterConversation(Tweets),
    /// Telephone calls, asked for or made, and messages on an answering machine.
    PstnPhoneConversation(Common),
    /// Of a channel that is none of these.
    GenericConversation(Common),
    /// What was said is erased.
    AnonymizedConversation(Anonymized),
}

/// What all have.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Common {
    /// Its number.
    id: i64,
    /// The end user.
    requester_id: Uuid,
    /// `WhatsApp`, `Voicemail`, `WidgetChat`, `FacebookMessenger`, `Twitter`, `Email`, `ContactForm`, `Callback`, `PstnPhone`, `Sms`,
    /// `Messenger`; of a generic one the name that was given.
    channel: String,
    created_at: Stamp,
    direction: Direction,
    state: State,
    state_updated_at: Stamp,
    assignment: Option<Assignment>,
    queue: Option<InQueue>,
    link: Option<Link>,
    custom_attributes: Vec<CustomAttribute>,
}

/// Of a chat.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chat {
    #[serde(flatten)]
    common: Common,
    browser_info: Option<Browser>,
    language: Option<String>,
}

/// Of letters.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mail {
    #[serde(flatten)]
    common: Common,
    to_email: String,
    from_email: String,
    integration_email: String,
    subject: Option<String>,
    language: Option<String>,
}

/// Of a form.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Form {
    #[serde(flatten)]
    common: Common,
    from_email: String,
    to_email: Option<String>,
    integration_email: Option<String>,
    subject: Option<String>,
    language: Option<String>,
}

/// Of text messages.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sms {
    #[serde(flatten)]
    common: Common,
    from_number: Option<String>,
    to_number: Option<String>,
}

/// Of tweets.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tweets {
    #[serde(flatten)]
    common: Common,
    conversation_type: TweetKind,
}

#[derive(Debug, Serialize, ToSchema)]
enum TweetKind {
    DirectMessage,
}

/// What is left when what was said is erased.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Anonymized {
    #[serde(flatten)]
    common: Common,
    anonymized_at: Stamp,
}

/// Who began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Inbound => Self::Inbound,
            Way::Outbound => Self::Outbound,
        }
    }
}

impl From<Direction> for Way {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::Inbound,
            Direction::Outbound => Self::Outbound,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
enum State {
    Open,
    Closed,
}

/// Who has it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Assignment {
    agent_id: Uuid,
    assigned_at: Stamp,
}

/// Where it waits, or waited.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InQueue {
    id: Uuid,
    queued_at: Stamp,
}

/// The end user's browser.
#[skip_serializing_none]
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Browser {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) ip_address: Option<String>,
    pub(super) originating_url: Option<String>,
}

impl From<&Known> for Browser {
    fn from(known: &Known) -> Self {
        let Known { name, version, address, page } = known.clone();
        Self { name, version, ip_address: address, originating_url: page }
    }
}

/// What it belongs to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "_type")]
enum Link {
    #[serde(rename_all = "camelCase")]
    SideConversation { parent_id: i64 },
    #[serde(rename_all = "camelCase")]
    EmailForward { parent_id: i64 },
    #[serde(rename_all = "camelCase")]
    FollowUp { parent_id: i64 },
}

impl From<&Joined> for Link {
    fn from(joined: &Joined) -> Self {
        let parent_id = joined.number;
        match joined.kind {
            LinkKind::Side => Self::SideConversation { parent_id },
            LinkKind::Forward => Self::EmailForward { parent_id },
            // The union has no member for what is merely related; this one says the least.
            LinkKind::FollowUp | LinkKind::Related => Self::FollowUp { parent_id },
        }
    }
}

/// What a custom attribute says of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CustomAttribute {
    pub(super) id: Uuid,
    /// What people call the attribute.
    pub(super) name: String,
    /// What programs call it.
    pub(super) identifier: String,
    pub(super) value: Value,
}

/// A text, or of a select its choice: the options on the way to it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Value {
    Text(String),
    Choices(Vec<String>),
}

/// What the attributes say of a conversation. A definition that is deleted is still known; one that never was here is left out.
pub(super) fn attributes(account: &Account, conversation: &Conversation) -> Vec<CustomAttribute> {
    let values = conversation.details.facts().attributes.iter();
    let known = values.filter_map(|(id, value)| {
        let id: ThingId = id.as_str().parse().ok()?;
        let attribute = &account.things().attributes.resolve(id)?.thing;
        let value = match value {
            AttributeValue::Text(text) => Value::Text(text.clone()),
            AttributeValue::Choices(choices) => Value::Choices(choices.clone()),
        };
        Some(CustomAttribute { id: id.uuid(), name: attribute.label.clone(), identifier: attribute.identifier.clone(), value })
    });
    known.collect()
}

/// What a channel is called.
pub(super) fn channel_name(channel: &Channel) -> &str {
    match channel {
        Channel::Messenger => "Messenger",
        Channel::WebChat => "WidgetChat",
        Channel::Email => "Email",
        Channel::ContactForm => "ContactForm",
        Channel::Sms => "Sms",
        Channel::WhatsApp => "WhatsApp",
        Channel::Facebook => "FacebookMessenger",
        Channel::Twitter => "Twitter",
        Channel::Phone => "PstnPhone",
        Channel::Callback => "Callback",
        Channel::Voicemail => "Voicemail",
        Channel::Other(name) => name,
    }
}

/// The channel of a name, however its letters are written.
pub(super) fn channel_named(name: &str) -> Option<Channel> {
    const ALL: [Channel; 11] = [
        Channel::Messenger,
        Channel::WebChat,
        Channel::Email,
        Channel::ContactForm,
        Channel::Sms,
        Channel::WhatsApp,
        Channel::Facebook,
        Channel::Twitter,
        Channel::Phone,
        Channel::Callback,
        Channel::Voicemail,
    ];
    ALL.into_iter().find(|channel| channel_name(channel).eq_ignore_ascii_case(name))
}

/// The addresses of letters: the end user's and ours. What nobody said is made up, where no mail can go, for both must be there.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) theirs: String,
    pub(super) ours: String,
}

impl Addresses {
    pub(super) fn of(account: &Account, conversation: &Conversation) -> Self {
        let details = &conversation.details;
        let origin = details.origin.as_deref();
        let (from, to) = (origin.and_then(|origin| origin.from.clone()), origin.and_then(|origin| origin.to.clone()));
        let (theirs, ours) = if way(origin) == Way::Inbound { (from, to) } else { (to, from) };
        let made_up = |name: &str| format!("{name}@{}.invalid", account.id.as_str().replace('_', "-")).to_lowercase();
        Self {
            theirs: theirs.unwrap_or_else(|| made_up(&consumer_uuid(&details.consumer).to_string())),
            ours: ours.unwrap_or_else(|| made_up("conversations")),
        }
    }
}

/// Who began; the end user, if nobody said.
fn way(origin: Option<&Origin>) -> Way {
    origin.map_or(Way::Inbound, |origin| origin.direction)
}

/// A conversation as it is shown.
pub(super) fn shown(account: &Account, conversation: &Conversation) -> Shown {
    let details = &conversation.details;
    let origin = details.origin.as_deref();
    let channel = channel(account, conversation);
    let common = common(account, conversation, &channel);
    if let Some(at) = details.anonymised {
        let common = Common { assignment: None, queue: None, ..common };
        return Shown::AnonymizedConversation(Anonymized { common, anonymized_at: Stamp(at) });
    }
    let language = origin.and_then(|origin| origin.language.clone());
    let subject = origin.and_then(|origin| origin.subject.clone());
    let browser_info = origin.and_then(|origin| origin.browser.as_ref()).map(Browser::from);
    let (from, to) = (origin.and_then(|origin| origin.from.clone()), origin.and_then(|origin| origin.to.clone()));
    let addresses = || {
        let Addresses { theirs, ours } = Addresses::of(account, conversation);
        let integration = ours.clone();
        if way(origin) == Way::Inbound { (theirs, ours, integration) } else { (ours, theirs, integration) }
    };
    match channel {
        Channel::WebChat => Shown::ChatConversation(Chat { common, browser_info, language }),
        Channel::Messenger => Shown::MessengerConversation(Chat { common, browser_info, language }),
        Channel::Email => {
            let (from_email, to_email, integration_email) = addresses();
            Shown::EmailConversation(Mail { common, to_email, from_email, integration_email, subject, language })
        }
        Channel::ContactForm => {
            let (from_email, to, integration) = addresses();
            let (to_email, integration_email) = (Some(to), Some(integration));
            Shown::ContactFormConversation(Form { common, from_email, to_email, integration_email, subject, language })
        }
        Channel::Sms => Shown::SmsConversation(Sms { common, from_number: from, to_number: to }),
        Channel::WhatsApp => Shown::WhatsAppConversation(common),
        Channel::Facebook => Shown::FacebookMessengerConversation(common),
        Channel::Twitter => Shown::TwitterConversation(Tweets { common, conversation_type: TweetKind::DirectMessage }),
        Channel::Phone | Channel::Callback | Channel::Voicemail => Shown::PstnPhoneConversation(common),
        Channel::Other(_) => Shown::GenericConversation(common),
    }
}

fn common(account: &Account, conversation: &Conversation, channel: &Channel) -> Common {
    let details = &conversation.details;
    let assigned = details.assigned.unwrap_or(details.started);
    let assignment =
        details.assignee().map(|assignee| Assignment { agent_id: person_uuid(&assignee.person), assigned_at: Stamp(assigned) });
    // While the consumer is asked how it was, what it was about is over.
    let asked = details.dialogs.first().filter(|main| details.stage == OpenState::Open && main.state == OpenState::Closed);
    Common {
        id: details.number,
        requester_id: consumer_uuid(&details.consumer),
        channel: channel_name(channel).to_owned(),
        created_at: Stamp(details.started),
        direction: way(details.origin.as_deref()).into(),
        state: if details.main_is_open() { State::Open } else { State::Closed },
        state_updated_at: Stamp(asked.and_then(|main| main.ended).unwrap_or(details.staged)),
        assignment,
        queue: Some(InQueue { id: account.queue_uuid(&details.queue), queued_at: Stamp(details.queued) }),
        link: details.facts().parent.as_ref().map(Link::from),
        custom_attributes: attributes(account, conversation),
    }
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(get))
}

/// A conversation by its number.
#[utoipa::path(get, path = "/v1/conversations/{conversationId}", operation_id = "getConversation", tag = "conversations", params(Named),
    responses((status = 200, description = "It.", body = Data<Shown>), Any, Absent))]
async fn get(caller: Caller, Ours(Path(named)): Which) -> Result<Json<Data<Shown>>, Fault> {
    let found = caller.conversation(named.conversation_id).await?;
    Ok(Json(Data { data: shown(caller.account(), &found) }))
}
