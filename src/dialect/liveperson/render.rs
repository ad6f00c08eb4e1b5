//! Our conversations and events as this dialect shows them. v2 names an agent by its old id and adds the participant
//! id; v3 knows the participant id alone.

use crate::domain::{
    AgentState, AttributeValue, Conversation, Details, Facts, Link, Message, Millis, Participant, ParticipantState, Person, Rating, Ring,
    RingState, Role, Sight,
};
use crate::gateway::Profile;
use crate::hub::{Frame, Typing};
use crate::identity::Account;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tieline_protocol::envelope::{Notification, NotificationKind};
use tieline_protocol::ids::{AccountId, AttributeId, ConversationId, TagId};
use tieline_protocol::kind::Version;
use tieline_protocol::notify;

/// Writes a value that always can be written: our own structures have string keys and finite numbers.
pub(super) fn to_frame(value: &impl Serialize) -> Frame {
    Frame::from(to_text(value))
}

pub(super) fn to_text(value: &impl Serialize) -> String {
    write(value, 192)
}

/// Writes into a place for so many bytes, which grows if need be.
fn write(value: &impl Serialize, bytes: usize) -> String {
    let mut text = Vec::with_capacity(bytes);
    let written = serde_json::to_writer(&mut text, value);
    written.map_err(|error| error.to_string()).and_then(|()| String::from_utf8(text).map_err(|error| error.to_string())).unwrap_or_else(
        |error| {
            tracing::error!(%error, "a frame cannot be written");
            "{}".into()
        },
    )
}

pub(super) fn notification<B: Serialize>(kind_name: &str, body: B) -> Frame {
    to_frame(&Notification { kind: NotificationKind::Notification, kind_name, body })
}

/// The text of a notification, which has about so many bytes.
pub(super) fn notification_text<B: Serialize>(kind_name: &str, body: B, bytes: usize) -> String {
    write(&Notification { kind: NotificationKind::Notification, kind_name, body }, bytes)
}

/// An agent's old id.
pub(super) fn old_id(account: &AccountId, person: &Person) -> String {
    match person {
        Person::Consumer(id) => id.to_string(),
        Person::Agent { user, .. } => format!("{account}.{user}"),
    }
}

/// The answer to who wanted a conversation.
pub(super) fn opened(conversation: &ConversationId, found: bool) -> Value {
    match found {
        true => json!({"conversationId": conversation, "found": true}),
        false => json!({"conversationId": conversation}),
    }
}

fn audience(whisper: bool) -> &'static str {
    if whisper { "AGENTS_AND_MANAGERS" } else { "ALL" }
}

/// An agent's old id, for the version that shows it.
fn shown_old_id(version: Version, account: &AccountId, person: &Person) -> Option<String> {
    (version == Version::V2).then(|| old_id(account, person))
}

/// A stored event as it is shown; `old` is its originator's old id, where that is shown.
fn event_change<'m>(message: &'m Message, at: Millis, old: Option<&'m str>, audience: Option<&'m str>) -> notify::EventChange<'m> {
    let id = message.from.public_id();
    let client = message.client.as_deref();
    notify::EventChange {
        sequence: Some(message.sequence),
        originator_id: old.unwrap_or(id),
        originator_pid: old.map(|_| id),
        originator_metadata: notify::Originator { id, role: message.role.as_str(), client_properties: client },
        originator_client_properties: client.filter(|_| old.is_some()),
        server_timestamp: Some(message.written.unwrap_or(at)),
        event: &message.event,
        conversation_id: message.conversation.as_str(),
        dialog_id: message.dialog.as_str(),
        message_audience: audience,
        metadata: message.metadata.as_deref(),
        encoded_metadata: message.encoded_metadata.as_deref(),
    }
}

/// Calls `then` with an event as it is shown.
pub(super) fn with_event<T>(version: Version, sight: &Sight, then: impl FnOnce(notify::EventChange<'_>) -> T) -> Option<T> {
    let message = sight.message()?;
    let old = shown_old_id(version, &sight.account, &message.from);
    Some(then(event_change(message, sight.at, old.as_deref(), Some(audience(message.whisper)))))
}

/// Calls `then` with a typing state as it is shown.
pub(super) fn with_typing<T>(version: Version, typing: &Typing, then: impl FnOnce(notify::EventChange<'_>) -> T) -> T {
    let id = typing.from.public_id();
    let old = shown_old_id(version, &typing.audience.account, &typing.from);
    then(notify::EventChange {
        sequence: None,
        originator_id: old.as_deref().unwrap_or(id),
        originator_pid: old.as_ref().map(|_| id),
        originator_metadata: notify::Originator { id, role: typing.role.as_str(), client_properties: None },
        originator_client_properties: None,
        server_timestamp: None,
        event: &typing.event,
        conversation_id: typing.audience.conversation.as_str(),
        dialog_id: typing.dialog.as_str(),
        message_audience: Some(audience(typing.whisper)),
        metadata: None,
        encoded_metadata: None,
    })
}

/// For whom a conversation is shown. Connectors are on the consumer's side.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side<'a> {
    /// Agents, and their account: what it calls things.
    Brand(Option<&'a Account>),
    /// The consumer, and who carries its messages.
    Consumer,
}

/// What else is known of a conversation, in names of our own; nothing, if there is nothing.
fn facts(details: &Details, account: Option<&Account>) -> Option<Box<RawValue>> {
    let things = account.map(Account::things);
    let id = |text: &str| uuid::Uuid::parse_str(text).ok().map(crate::things::ThingId::from);
    let tag = |tag: &TagId| {
        let name = things.zip(id(tag.as_str())).and_then(|(things, id)| Some(things.tags.resolve(id)?.thing.name.clone()));
        json!({"id": tag, "name": name})
    };
    let attribute = |(attribute, value): (&AttributeId, &AttributeValue)| {
        let known = things.zip(id(attribute.as_str())).and_then(|(things, id)| things.attributes.resolve(id));
        let (identifier, label) = known.as_ref().map(|kept| (&kept.thing.identifier, &kept.thing.label)).unzip();
        json!({"id": attribute, "identifier": identifier, "label": label, "value": value})
    };
    let facts = details.facts();
    if *facts == Facts::default()
        && details.origin.is_none()
        && details.notes == 0
        && details.anonymised.is_none()
        && details.abandoned.is_none()
    {
        return None;
    }
    let origin = details.origin.as_deref();
    let link = |link: &Link| json!({"conversationId": link.parent, "number": link.number, "kind": link.kind});
    let rating = |rating: &Rating| {
        let given = rating.given.as_ref();
        json!({"id": rating.id, "scale": rating.scale, "offeredAt": rating.offered, "score": given.map(|given| given.score),
            "comment": given.and_then(|given| given.comment.as_deref()), "givenAt": given.map(|given| given.at)})
    };
    let mut shown = json!({
        "number": details.number,
        "channel": origin.map(|origin| &origin.channel),
        "direction": origin.map(|origin| origin.direction),
        "subject": origin.and_then(|origin| origin.subject.as_deref()),
        "language": origin.and_then(|origin| origin.language.as_deref()),
        "tags": facts.tags.iter().map(tag).collect::<Vec<_>>(),
        "attributes": facts.attributes.iter().map(attribute).collect::<Vec<_>>(),
        "ratings": facts.ratings.iter().map(rating).collect::<Vec<_>>(),
        "parent": facts.parent.as_ref().map(link),
        "children": facts.children,
        "website": facts.website,
        "bot": facts.bot,
        "audience": facts.audience,
        "answers": facts.answers,
        "bookings": facts.bookings,
        "notes": details.notes,
        "abandonedAt": details.abandoned,
        "anonymisedAt": details.anonymised,
    });
    if let Some(members) = shown.as_object_mut() {
        let is_empty = |value: &Value| {
            value.is_null()
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_i64() == Some(0)
        };
        members.retain(|_, value| !is_empty(value));
    }
    serde_json::value::to_raw_value(&shown).ok()
}

/// A conversation as it stands inside a notification.
pub(super) fn conversation(version: Version, side: Side<'_>, conversation: &Conversation) -> Frame {
    let details = &conversation.details;
    let facts = match side {
        Side::Brand(account) => facts(details, account),
        Side::Consumer => None,
    };
    let account = &details.account;
    let is_v2 = version == Version::V2;
    // In v2 the k-th of a role stands at the same place in both lists; who is only suggested is in neither. Who leads a
    // further dialog takes part as an agent.
    let shown_id = |person: &Person| if is_v2 { old_id(account, person) } else { person.public_id().to_owned() };
    let hosts = details.dialogs.iter().filter_map(|dialog| dialog.host.as_ref()).map(|host| (Role::Agent, host));
    let active = details.participants.iter().filter(|participant| participant.state == ParticipantState::Active);
    let active: Vec<(Role, &Person)> = active.map(|participant| (participant.role, &participant.person)).chain(hosts).collect();
    let old_ids: Vec<String> = active.iter().map(|(_, person)| shown_id(person)).collect();
    let roles = || active.iter().map(|(role, _)| role.as_str());
    let participants = if is_v2 {
        notify::Participants::ByRole(grouped(roles().zip(old_ids.iter().map(String::as_str))))
    } else {
        notify::Participants::List(
            active.iter().map(|(role, person)| notify::Participant { id: person.public_id(), role: role.as_str() }).collect(),
        )
    };
    let detail_ids: Vec<String> = details.participants.iter().map(|participant| shown_id(&participant.person)).collect();
    let host_ids: Vec<Option<String>> = details.dialogs.iter().map(|dialog| dialog.host.as_ref().map(shown_id)).collect();
    let unread: Vec<(String, u32)> = conversation.unread.iter().map(|unread| (old_id(account, &unread.person), unread.count)).collect();
    let last = conversation.last_content.as_ref();
    let last_old = last.and_then(|last| shown_old_id(version, account, &last.message.from));
    let main = details.dialogs.first();
    let result = notify::ConversationResult {
        conv_id: details.id.as_str(),
        effective_ttr: conversation.due,
        last_update_time: is_v2.then_some(conversation.updated),
        number_of_unread_messages: is_v2.then(|| unread.iter().map(|(id, count)| (id.as_str(), *count)).collect()),
        last_content_event_notification: last.map(|last| event_change(&last.message, last.at, last_old.as_deref(), None)),
        conversation_details: notify::ConversationDetails {
            conv_id: is_v2.then_some(details.id.as_str()),
            skill_id: details.queue.as_str(),
            participants,
            participants_pid: is_v2.then(|| grouped(roles().zip(active.iter().map(|(_, person)| person.public_id())))),
            dialogs: details
                .dialogs
                .iter()
                .zip(&host_ids)
                .map(|(dialog, host)| notify::DialogDetails {
                    dialog_id: dialog.id.as_str(),
                    participants_details: participant_details(&details.participants, &detail_ids, host.as_deref()),
                    dialog_type: dialog.kind.as_str(),
                    channel_type: "MESSAGING",
                    state: dialog.state.as_str(),
                    creation_ts: dialog.started,
                    end_ts: dialog.ended,
                    meta_data_last_update_ts: dialog.updated,
                    closed_by: dialog.closed_by.map(|by| by.as_str()),
                    closed_cause: dialog.closed_cause.as_deref(),
                })
                .collect(),
            brand_id: account.as_str(),
            state: main.map_or(details.stage, |dialog| dialog.state).as_str(),
            stage: details.stage.as_str(),
            close_reason: details.closed_by.map(|by| by.reason()),
            start_ts: details.started,
            end_ts: details.ended,
            meta_data_last_update_ts: conversation.updated,
            first_conversation: details.first,
            ttr: notify::Ttr { ttr_type: &details.ttr.kind, value: details.ttr.seconds },
            manual_ettr: details.manual_due.filter(|_| is_v2),
            csat: details.csat.as_ref().map(|csat| notify::Csat {
                csat_rate: csat.rate,
                csat_resolution_confirmation: csat.resolved,
                status: &csat.status,
            }),
            note: details.note.as_deref().filter(|_| is_v2 && matches!(side, Side::Brand(_))),
            facts: facts.as_deref(),
            context: details.context.as_deref(),
            campaign_info: details.campaign.as_deref(),
            app_inst_id: details.app.as_ref().map(|app| app.as_str()),
            conversation_handler_details: notify::Handler { account_id: account.as_str(), skill_id: details.queue.as_str() },
        },
    };
    to_frame(&result)
}

fn grouped<'a>(ids: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut roles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (role, id) in ids {
        roles.entry(role).or_default().push(id);
    }
    roles
}

/// Who takes part in a dialog: in the MAIN one everybody, in another its host and the consumer.
fn participant_details<'a>(
    participants: &'a [Participant],
    ids: &'a [String],
    host: Option<&'a str>,
) -> Vec<notify::ParticipantDetails<'a>> {
    let of = |participant: &Participant| host.is_none() || participant.role == Role::Consumer;
    let details = participants
        .iter()
        .zip(ids)
        .filter(|(participant, _)| of(participant))
        .map(|(participant, id)| notify::ParticipantDetails { id, role: participant.role.as_str(), state: participant.state.as_str() });
    let host = host.map(|id| notify::ParticipantDetails { id, role: Role::Agent.as_str(), state: ParticipantState::Active.as_str() });
    details.chain(host).collect()
}

/// What is offered to an agent, or was, as it is shown to that agent.
pub(super) fn routing_task(version: Version, conversation: &Conversation, ring: &Ring) -> Frame {
    let details = &conversation.details;
    let account = &details.account;
    let agent = shown_old_id(version, account, &ring.agent);
    let (id, consumer, queue) = (details.id.as_str(), details.consumer.as_str(), ring.queue.as_str());
    to_frame(&notify::RoutingTask {
        routing_task_id: id,
        assigned_agent_id: agent.as_deref().unwrap_or(ring.agent.public_id()),
        brand_id: account.as_str(),
        task_completed: ring.state != RingState::Waiting,
        conversation_id: id,
        consumer_id: consumer,
        skill_id: queue,
        rings_details: [notify::RingDetails {
            ring_id: ring.id.as_str(),
            ring_state: ring.state.as_str(),
            ring_expiration: ring.until - ring.since,
            ring_expiration_ts: ring.until,
            weight: conversation.pending_since(),
            brand_id: account.as_str(),
            conv_id: id,
            consumer_id: consumer,
            skill_id: queue,
        }],
    })
}

/// What an agent says of itself, as it is shown.
pub(super) fn agent_state(version: Version, agent: &Person, state: &AgentState) -> Frame {
    let old = shown_old_id(version, &state.account, agent);
    to_frame(&notify::AgentState {
        channels: &state.channels,
        availability: state.availability.as_str(),
        description: state.description.as_deref().unwrap_or(""),
        agent_user_id: old.as_deref().unwrap_or(agent.public_id()),
    })
}

/// A profile as it is shown to anybody who may see it.
pub(super) fn profile(profile: &Profile) -> Value {
    match profile {
        Profile::Consumer(consumer) => {
            let mut shown = json!({"userId": consumer.id.as_str(), "firstName": null, "lastName": null, "nickName": null, "avatarUrl": null, "role": "CONSUMER", "description": null});
            if let Some(members) = shown.as_object_mut() {
                members.extend(consumer.profile.clone());
                members.insert("userId".into(), consumer.id.as_str().into());
                if let Some(claims) = consumer.claims.as_ref().and_then(|claims| serde_json::from_str::<Value>(claims.get()).ok()) {
                    members.insert("claims".into(), claims);
                    members.insert("acr".into(), "loa1".into());
                }
                // Clients take the list out of it without looking whether it is there.
                if let Some(data) = members.get_mut("authenticatedData").and_then(Value::as_object_mut) {
                    data.entry("lp_sdes").or_insert_with(|| json!([]));
                }
            }
            shown
        }
        Profile::Agent(agent) => json!({
            "userId": agent.pid.as_str(), "firstName": agent.name, "lastName": null, "nickName": agent.name, "avatarUrl": null,
            "role": null, "description": null, "privateData": {"mobileNum": null, "mail": null},
        }),
    }
}
