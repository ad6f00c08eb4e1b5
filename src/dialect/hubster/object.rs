//! The objects as they are shown, and what of ours they are made of: conversations with their integrations and hubs, and activities.
//! Nothing here waits for anything.

use super::caller::Known;
use super::message::{from_event, note_of};
use crate::dialect::ids::event_uuid;
use crate::domain::{Conversation, Millis, OpenState, Person, Role, Sight};
use crate::files::Files;
use crate::gateway::derived_uuid;
use crate::hub::Typing;
use crate::identity::{Account, Kept};
use crate::things::{Hub, Integration, IntegrationChannel, IntegrationKind, IntegrationState, ThingId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;
use std::collections::BTreeMap;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::UserId;
use utoipa::ToSchema;
use uuid::Uuid;

/// Channels with their names and numbers.
pub(super) const CHANNELS: [(IntegrationChannel, &str, i64); 11] = [
    (IntegrationChannel::Hubster, "Hubster", 0),
    (IntegrationChannel::Direct, "Direct", 1),
    (IntegrationChannel::Bot, "Bot", 2),
    (IntegrationChannel::System, "System", 3),
    (IntegrationChannel::Messenger, "Messenger", 101),
    (IntegrationChannel::TwilioSMS, "TwilioSMS", 102),
    (IntegrationChannel::Line, "Line", 103),
    (IntegrationChannel::Telegram, "Telegram", 104),
    (IntegrationChannel::Kik, "Kik", 105),
    (IntegrationChannel::WebChat, "WebChat", 106),
    (IntegrationChannel::Slack, "Slack", 1_001),
];

/// What a channel is called.
pub(super) fn channel_name(channel: IntegrationChannel) -> &'static str {
    CHANNELS.into_iter().find(|(known, ..)| *known == channel).map_or("Direct", |(_, name, _)| name)
}

/// What a kind of integration is called.
pub(super) fn kind_name(kind: IntegrationKind) -> &'static str {
    match kind {
        IntegrationKind::Customer => "Customer",
        IntegrationKind::Agent => "Agent",
        IntegrationKind::Bot => "Bot",
        IntegrationKind::System => "System",
    }
}

/// Whether an integration is in use: one that was deleted is not.
pub(super) fn state(integration: &Kept<Integration>) -> IntegrationState {
    if integration.is_deleted { IntegrationState::Cancelled } else { integration.thing.state }
}

/// Collections of names and texts.
pub(super) type Properties = BTreeMap<String, BTreeMap<String, String>>;

/// What a conversation was established with, as it is kept in its context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bound {
    r#type: Mark,
    integration_id: Uuid,
    pub(super) binding: String,
    token_id: String,
    pub(super) properties: Properties,
}

/// Says whose context it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Hubster,
}

impl Bound {
    /// Of a conversation that is to be opened.
    pub(super) fn new(integration: ThingId, binding: &str, properties: Properties) -> Self {
        let token_id = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, crate::random::bytes::<16>());
        Self { r#type: Mark::Hubster, integration_id: integration.uuid(), binding: binding.to_owned(), token_id, properties }
    }

    /// Of a conversation, if it is one of this dialect's.
    pub(super) fn of(conversation: &Conversation) -> Option<Self> {
        serde_json::from_str(conversation.details.context.as_deref()?.get()).ok()
    }

    /// As it is kept.
    pub(super) fn context(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(self).ok()
    }

    /// On which integration.
    pub(super) fn integration(&self) -> ThingId {
        self.integration_id.into()
    }
}

/// A time with its zone, which is UTC.
fn zoned(at: Millis) -> String {
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.7}")
}

/// A time without a zone. It is UTC all the same.
fn zoneless(at: Millis) -> String {
    let mut text = zoned(at);
    text.pop();
    text
}

/// A conversation as it is answered by who establishes it.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Established {
    tenant_id: Uuid,
    hub_id: Uuid,
    integration_id: Uuid,
    conversation_id: Uuid,
    /// Base64 of 16 bytes.
    token_id: String,
    #[schema(format = DateTime)]
    opened_date_time: String,
    #[schema(format = DateTime)]
    closed_date_time: Option<String>,
    /// Whether this call opened it.
    is_new: bool,
    properties: Properties,
}

/// A conversation as it is shown.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Conversation)]
pub(super) struct Shown {
    conversation_id: Uuid,
    integration_id: Uuid,
    /// Base64 of 16 bytes.
    token_id: String,
    integration: ShownIntegration,
    properties: Properties,
    /// UTC, without saying so.
    opened_date_time: String,
    closed_date_time: Option<String>,
}

/// An integration.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Integration)]
struct ShownIntegration {
    integration_id: Uuid,
    hub_id: Uuid,
    hub: ShownHub,
    /// `Customer`, `Agent`, `Bot` or `System`.
    integration_type_id: &'static str,
    /// The channel's name.
    channel_id: &'static str,
    name: String,
    /// 3000 active, 3001 cancelled, 3002 paused.
    status_id: u32,
    created: String,
    modified: String,
}

/// A hub.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Hub)]
struct ShownHub {
    hub_id: Uuid,
    tenant_id: Uuid,
    name: String,
    description: Option<String>,
    /// 2000 active, 2001 cancelled.
    status_id: u32,
    created: String,
    modified: String,
}

/// Whether an activity says something or shows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ActivityKind {
    Message,
    Event,
}

/// Something that somebody said or did in a conversation.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Activity {
    r#type: ActivityKind,
    /// `message:customer`, `message:agent` or `message:bot`, of messages.
    event_trigger: Option<&'static str>,
    /// Milliseconds since 1970, which names it within its conversation. 0 of what is not kept.
    pub(super) event_id: Millis,
    /// Its sender's own name for it.
    external_id: Option<String>,
    /// Whether it is shown to who sent it, by the wish of its integration.
    pub(super) is_echo: bool,
    /// Of messages.
    interaction_id: Option<Uuid>,
    /// `Default`, or `AutoReplay` of what the gateway said by itself.
    flow_process: &'static str,
    pub(super) sender: Source,
    pub(super) recipient: Source,
    #[schema(value_type = Option<Object>)]
    message: Option<Value>,
    #[schema(value_type = Option<Object>)]
    event: Option<Value>,
}

/// One end of an activity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Source {
    pub(super) integration_id: Uuid,
    /// `Customer`, `Agent` or `Bot`.
    integration_type: &'static str,
    /// The channel's name.
    channel_type: &'static str,
    token_id: String,
    #[serde(skip)]
    pub(super) kind: IntegrationKind,
}

/// What it takes to show the objects of an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'s> {
    pub(super) account: &'s Account,
    pub(super) files: &'s Files,
    /// What absolute addresses begin with.
    pub(super) origin: &'s str,
    pub(super) now: Millis,
}

impl Scene<'_> {
    /// A conversation as it is answered by who establishes it.
    pub(super) fn established(&self, known: &Known, is_new: bool) -> Established {
        let details = &known.conversation.details;
        Established {
            tenant_id: self.account.uuid(),
            hub_id: known.integration.thing.hub.uuid(),
            integration_id: known.integration.id.uuid(),
            conversation_id: conversation_uuid(&known.conversation),
            token_id: known.bound.token_id.clone(),
            opened_date_time: zoned(details.started),
            closed_date_time: closed(&known.conversation).map(zoned),
            is_new,
            properties: known.bound.properties.clone(),
        }
    }

    /// A conversation.
    pub(super) fn conversation(&self, known: &Known) -> Shown {
        Shown {
            conversation_id: conversation_uuid(&known.conversation),
            integration_id: known.integration.id.uuid(),
            token_id: known.bound.token_id.clone(),
            integration: self.integration(&known.integration),
            properties: known.bound.properties.clone(),
            opened_date_time: zoneless(known.conversation.details.started),
            closed_date_time: closed(&known.conversation).map(zoneless),
        }
    }

    fn integration(&self, integration: &Kept<Integration>) -> ShownIntegration {
        let Integration { name, hub, kind, channel, .. } = &integration.thing;
        ShownIntegration {
            integration_id: integration.id.uuid(),
            hub_id: hub.uuid(),
            hub: self.hub(*hub),
            integration_type_id: kind_name(*kind),
            channel_id: channel_name(*channel),
            name: name.clone(),
            status_id: match state(integration) {
                IntegrationState::Active => 3_000,
                IntegrationState::Cancelled => 3_001,
                IntegrationState::Paused => 3_002,
            },
            created: zoneless(integration.created),
            modified: zoneless(integration.updated),
        }
    }

    fn hub(&self, id: ThingId) -> ShownHub {
        let hub: Option<Arc<Kept<Hub>>> = self.account.things().hubs.resolve(id);
        let is_there = hub.as_ref().is_some_and(|hub| !hub.is_deleted);
        ShownHub {
            hub_id: id.uuid(),
            tenant_id: self.account.uuid(),
            name: hub.as_ref().map(|hub| hub.thing.name.clone()).unwrap_or_default(),
            description: hub.as_ref().and_then(|hub| hub.thing.description.clone()),
            status_id: if is_there { 2_000 } else { 2_001 },
            created: zoneless(hub.as_ref().map_or(0, |hub| hub.created)),
            modified: zoneless(hub.as_ref().map_or(0, |hub| hub.updated)),
        }
    }

    /// What an entry of a conversation is as an activity; nothing for what is none. What a customer sends goes to who answers; `to`
    /// says of which kind that should be, where it is looked at for one of them.
    pub(super) fn activity(&self, known: &Known, sight: &Sight, to: Option<IntegrationKind>) -> Option<Activity> {
        let message =
            sight.message().filter(|message| !message.whisper && message.dialog == known.conversation.details.id.main_dialog())?;
        let note = note_of(message);
        let (said, event) = if message.class == EventClass::Receipt {
            (None, Some(seen(message.event.get())?))
        } else if let Some(event) = note.event {
            (None, Some(event))
        } else {
            (Some(note.message.unwrap_or_else(|| from_event(self, message))), None)
        };
        let (sender, recipient) = self.ends(known, (&message.from, message.role), to);
        let is_message = said.is_some();
        Some(Activity {
            r#type: if is_message { ActivityKind::Message } else { ActivityKind::Event },
            event_trigger: is_message.then_some(match sender.kind {
                IntegrationKind::Customer | IntegrationKind::System => "message:customer",
                IntegrationKind::Agent => "message:agent",
                IntegrationKind::Bot => "message:bot",
            }),
            event_id: sight.at,
            external_id: note.external_id,
            is_echo: false,
            interaction_id: is_message.then(|| event_uuid(&known.conversation.details.id, message.sequence)),
            flow_process: if message.role == Role::Controller { "AutoReplay" } else { "Default" },
            sender,
            recipient,
            message: said,
            event,
        })
    }

    /// Somebody who types or has stopped, as an activity.
    pub(super) fn typing(&self, known: &Known, typing: &Typing) -> Option<Activity> {
        let state: Value = serde_json::from_str(typing.event.get()).ok()?;
        let kind = if state["chatState"] == "COMPOSING" { "typing_on" } else { "typing_off" };
        let (sender, recipient) = self.ends(known, (&typing.from, typing.role), None);
        Some(Activity {
            r#type: ActivityKind::Event,
            event_trigger: None,
            // It is not kept, so there is nothing behind it: who names it, or the largest it knows, as the last it had misses nothing.
            event_id: 0,
            external_id: None,
            is_echo: false,
            interaction_id: None,
            flow_process: "Default",
            sender,
            recipient,
            message: None,
            event: Some(serde_json::json!({"type": kind})),
        })
    }

    /// From whom something comes.
    pub(super) fn sender(&self, known: &Known, who: (&Person, Role)) -> Source {
        self.ends(known, who, None).0
    }

    /// From whom and to whom something goes. What a customer sends goes to who answers, of a kind where that is given.
    fn ends(&self, known: &Known, (from, role): (&Person, Role), to: Option<IntegrationKind>) -> (Source, Source) {
        let customer = self.customer(known);
        match from {
            Person::Consumer(_) => (customer, self.business(known, self.answering(known), to)),
            Person::Agent { user, .. } => {
                let is_bot = matches!(role, Role::BrandBot | Role::Controller);
                (self.business(known, Some(user), is_bot.then_some(IntegrationKind::Bot)), customer)
            }
        }
    }

    /// The customer's end.
    pub(super) fn customer(&self, known: &Known) -> Source {
        Source {
            integration_id: known.integration.id.uuid(),
            integration_type: kind_name(IntegrationKind::Customer),
            channel_type: channel_name(known.integration.thing.channel),
            token_id: known.bound.token_id.clone(),
            kind: IntegrationKind::Customer,
        }
    }

    /// Who answers now.
    fn answering<'k>(&self, known: &'k Known) -> Option<&'k UserId> {
        known.conversation.details.assignee().and_then(|assignee| assignee.person.user())
    }

    /// The end of somebody of the brand: the integration through which that agent writes, else the first one of the hub, else one that
    /// is made up. Of several, one of the wanted kind goes before others.
    fn business(&self, known: &Known, user: Option<&UserId>, wanted: Option<IntegrationKind>) -> Source {
        let hub = known.integration.thing.hub;
        let all = self.account.things().integrations.live();
        let of_hub = || all.iter().filter(|one| one.thing.hub == hub && one.thing.is_business());
        let is_wanted = |one: &&Arc<Kept<Integration>>| wanted.is_none_or(|kind| one.thing.kind == kind);
        let is_theirs = |one: &&Arc<Kept<Integration>>| user.is_some() && one.thing.agent.as_ref() == user;
        let agents_first = || of_hub().find(|one| one.thing.kind == IntegrationKind::Agent).or_else(|| of_hub().next());
        let own = of_hub().filter(is_theirs).find(is_wanted);
        let of_kind = || of_hub().find(|one| wanted.is_some() && is_wanted(one));
        let found = own.or_else(of_kind).or_else(|| of_hub().find(is_theirs)).or_else(agents_first);
        let kind = wanted.or_else(|| found.map(|found| found.thing.kind)).unwrap_or(IntegrationKind::Agent);
        let integration_id = found.map_or_else(|| self.account.uuid_of("hub's agents", &hub.to_string()), |found| found.id.uuid());
        let channel = found.map_or(IntegrationChannel::Direct, |found| found.thing.channel);
        self.of_brand(known, (integration_id, kind, channel))
    }

    /// The end of an agent's or a bot's integration.
    pub(super) fn of_integration(&self, known: &Known, integration: &Kept<Integration>) -> Source {
        self.of_brand(known, (integration.id.uuid(), integration.thing.kind, integration.thing.channel))
    }

    fn of_brand(&self, known: &Known, (integration_id, kind, channel): (Uuid, IntegrationKind, IntegrationChannel)) -> Source {
        let conversation = conversation_uuid(&known.conversation);
        Source {
            integration_id,
            integration_type: kind_name(kind),
            channel_type: channel_name(channel),
            token_id: format!("{conversation}.{integration_id}"),
            kind,
        }
    }

    /// Whether a hub has somebody of a kind. One that has nobody at all is answered by agents of other desks.
    pub(super) fn has(&self, hub: ThingId, kind: IntegrationKind) -> bool {
        let all = self.account.things().integrations.live();
        let mut of_hub = all.iter().filter(|one| one.thing.hub == hub && one.thing.is_business()).peekable();
        match of_hub.peek() {
            None => kind == IntegrationKind::Agent,
            Some(_) => of_hub.any(|one| one.thing.kind == kind),
        }
    }
}

/// When a conversation was closed, if it is.
fn closed(conversation: &Conversation) -> Option<Millis> {
    let details = &conversation.details;
    match details.stage {
        OpenState::Closed => Some(details.ended.unwrap_or(conversation.updated)),
        OpenState::Open => None,
    }
}

/// The GUID of a conversation.
pub(super) fn conversation_uuid(conversation: &Conversation) -> Uuid {
    let id = conversation.details.id.as_str();
    // Each conversation's own id is a UUID.
    Uuid::parse_str(id).unwrap_or_else(|_| derived_uuid(&["conversation", id]))
}

/// A receipt as an event; nothing, if it does not say that something was read.
fn seen(event: &str) -> Option<Value> {
    let receipt: Value = serde_json::from_str(event).ok()?;
    (receipt["status"] == "READ").then(|| serde_json::json!({"type": "seen"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_seven_digits_with_and_without_a_zone() {
        assert_eq!(zoned(1_795_170_547_484), "2026-11-20T10:29:07.4840000Z");
        assert_eq!(zoneless(1_795_170_547_000), "2026-11-20T10:29:07.0000000");
    }

    #[test]
    fn what_was_established_is_read_back_and_nothing_else_is_taken_for_it() {
        let properties = Properties::from([("profile".into(), BTreeMap::from([("full name".into(), "Ann".into())]))]);
        let bound = Bound::new(ThingId::random(), "customer-81", properties);
        let read = |text: &str| serde_json::from_str::<Bound>(text).ok();
        let context = bound.context().unwrap();
        assert_eq!(read(context.get()), Some(bound.clone()));
        assert_eq!(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &bound.token_id).unwrap().len(), 16);
        assert_eq!(read(&context.get().replace("hubster", "SharkContext")), None);
        assert_eq!(read(r#"{"type":"CustomContext"}"#), None);
    }
}
