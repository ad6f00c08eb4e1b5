//! Our conversations and events as this dialect shows them. v2 names an agent by its old id and adds the participant
//! id; v3 knows the participant id alone.

use crate::domain::{Conversation, Participant, ParticipantState, Person, Role, Sight};
use crate::gateway::Profile;
use crate::hub::{Frame, Typing};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tieline_protocol::envelope::{Notification, NotificationKind};
use tieline_protocol::ids::AccountId;
use tieline_protocol::kind::Version;
use tieline_protocol::notify;

/// Writes a value that always can be written: our own structures have string keys and finite numbers.
pub(super) fn to_frame(value: &impl Serialize) -> Frame {
    Frame::from(to_text(value))
}

pub(super) fn to_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a frame cannot be written");
        "{}".into()
    })
}

pub(super) fn notification<B: Serialize>(kind_name: &str, body: B) -> Frame {
    to_frame(&Notification { kind: NotificationKind::Notification, kind_name, body })
}

/// An agent's old id.
pub(super) fn old_id(account: &AccountId, person: &Person) -> String {
    match person {
        Person::Consumer(id) => id.to_string(),
        Person::Agent { user, .. } => format!("{account}.{user}"),
    }
}

fn audience(whisper: bool) -> &'static str {
    if whisper { "AGENTS_AND_MANAGERS" } else { "ALL" }
}

/// Calls `then` with an event as it is shown.
pub(super) fn with_event<T>(version: Version, sight: &Sight, then: impl FnOnce(notify::EventChange<'_>) -> T) -> Option<T> {
    let message = sight.message()?;
    let id = message.from.public_id();
    let old = (version == Version::V2).then(|| old_id(&sight.account, &message.from));
    Some(then(notify::EventChange {
        sequence: Some(message.sequence),
        originator_id: old.as_deref().unwrap_or(id),
        originator_pid: old.as_ref().map(|_| id),
        originator_metadata: notify::Originator { id, role: message.role.as_str() },
        server_timestamp: Some(sight.at),
        event: &message.event,
        conversation_id: message.conversation.as_str(),
        dialog_id: message.dialog.as_str(),
        message_audience: audience(message.whisper),
        metadata: message.metadata.as_deref(),
        encoded_metadata: message.encoded_metadata.as_deref(),
    }))
}

/// Calls `then` with a typing state as it is shown.
pub(super) fn with_typing<T>(version: Version, typing: &Typing, then: impl FnOnce(notify::EventChange<'_>) -> T) -> T {
    let id = typing.from.public_id();
    let old = (version == Version::V2).then(|| old_id(&typing.audience.account, &typing.from));
    then(notify::EventChange {
        sequence: None,
        originator_id: old.as_deref().unwrap_or(id),
        originator_pid: old.as_ref().map(|_| id),
        originator_metadata: notify::Originator { id, role: typing.role.as_str() },
        server_timestamp: None,
        event: &typing.event,
        conversation_id: typing.audience.conversation.as_str(),
        dialog_id: typing.dialog.as_str(),
        message_audience: audience(typing.whisper),
        metadata: None,
        encoded_metadata: None,
    })
}

/// A conversation as it stands inside a notification.
pub(super) fn conversation(version: Version, conversation: &Conversation) -> Frame {
    let details = &conversation.details;
    let account = &details.account;
    let is_v2 = version == Version::V2;
    // In v2 the k-th of a role stands at the same place in both lists; who is only suggested is in neither.
    let active = || details.participants.iter().filter(|participant| participant.state == ParticipantState::Active);
    let old_ids: Vec<(Role, String)> = active().map(|participant| (participant.role, old_id(account, &participant.person))).collect();
    let by_role = |ids: &mut dyn Iterator<Item = (Role, &'_ str)>| -> Vec<(&'static str, String)> {
        ids.map(|(role, id)| (role.as_str(), id.to_owned())).collect()
    };
    let shown = by_role(&mut old_ids.iter().map(|(role, id)| (*role, id.as_str())));
    let pids = by_role(&mut active().map(|participant| (participant.role, participant.person.public_id())));
    let participants = if is_v2 {
        notify::Participants::ByRole(grouped(&shown))
    } else {
        notify::Participants::List(
            active()
                .map(|participant| notify::Participant { id: participant.person.public_id(), role: participant.role.as_str() })
                .collect(),
        )
    };
    let detail_ids: Vec<String> = details
        .participants
        .iter()
        .map(|participant| if is_v2 { old_id(account, &participant.person) } else { participant.person.public_id().to_owned() })
        .collect();
    let main = details.dialogs.first();
    let result = notify::ConversationResult {
        conv_id: details.id.as_str(),
        effective_ttr: conversation.due,
        last_update_time: is_v2.then_some(details.updated),
        conversation_details: notify::ConversationDetails {
            conv_id: is_v2.then_some(details.id.as_str()),
            skill_id: details.queue.as_str(),
            participants,
            participants_pid: is_v2.then(|| grouped(&pids)),
            dialogs: details
                .dialogs
                .iter()
                .map(|dialog| notify::DialogDetails {
                    dialog_id: dialog.id.as_str(),
                    participants_details: participant_details(&details.participants, &detail_ids),
                    dialog_type: "MAIN",
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
            close_reason: details.closed_by.map(|by| by.as_str()),
            start_ts: details.started,
            end_ts: details.ended,
            meta_data_last_update_ts: details.updated,
            first_conversation: details.first,
            ttr: notify::Ttr { ttr_type: &details.ttr.kind, value: details.ttr.seconds },
            manual_ettr: details.manual_due.filter(|_| is_v2),
            csat: details.csat.as_ref().map(|csat| notify::Csat {
                csat_rate: csat.rate,
                csat_resolution_confirmation: csat.resolved,
                status: &csat.status,
            }),
            note: details.note.as_deref().filter(|_| is_v2),
            context: details.context.as_deref(),
            campaign_info: details.campaign.as_deref(),
            app_inst_id: details.app.as_ref().map(|app| app.as_str()),
            conversation_handler_details: notify::Handler { account_id: account.as_str(), skill_id: details.queue.as_str() },
        },
    };
    to_frame(&result)
}

fn grouped<'a>(ids: &'a [(&'static str, String)]) -> BTreeMap<&'static str, Vec<&'a str>> {
    let mut roles: BTreeMap<&'static str, Vec<&'a str>> = BTreeMap::new();
    for (role, id) in ids {
        roles.entry(role).or_default().push(id);
    }
    roles
}

fn participant_details<'a>(participants: &'a [Participant], ids: &'a [String]) -> Vec<notify::ParticipantDetails<'a>> {
    let details = participants.iter().zip(ids).map(|(participant, id)| notify::ParticipantDetails {
        id,
        role: participant.role.as_str(),
        state: participant.state.as_str(),
    });
    details.collect()
}

/// A profile as it is shown to anybody who may see it.
pub(super) fn profile(profile: &Profile) -> Value {
    match profile {
        Profile::Consumer(consumer) => {
            let mut shown = json!({"userId": consumer.id.as_str(), "firstName": null, "lastName": null, "nickName": null, "avatarUrl": null, "role": "CONSUMER", "description": null});
            if let Some(members) = shown.as_object_mut() {
                members.extend(consumer.profile.clone());
                members.insert("userId".into(), consumer.id.as_str().into());
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
