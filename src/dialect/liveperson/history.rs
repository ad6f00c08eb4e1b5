//! The history of one conversation, as consoles ask for it when it is over: everything in one answer.

use super::openapi::{History, HistoryRefused};
use super::socket::bare;
use super::{Native, error, render};
use crate::domain::{Actor, Conversation, Message, Millis, OpenState, ParticipantState, Person, Role, Sight};
use crate::gateway::{Error, Found, Query};
use crate::identity::{Account, Denied};
use crate::store::Range;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{ConsumerId, ConversationId};
use tieline_protocol::json::object;
use utoipa::ToSchema;

/// Most events of a dialog in one answer, and about the most bytes of what was published: an answer is put together in
/// memory. What is over that is left out, the newest, and the answer says that it is partial.
const MOST: usize = 10_000;
const BYTES: usize = 2 * 1024 * 1024;

/// Events in one read.
const PAGE: usize = 1_000;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = HistoryOf)]
struct Asked {
    #[serde(rename = "conversationId")]
    #[schema(value_type = String)]
    conversation_id: Option<String>,
}

/// The history of one conversation, everything in one answer.
#[utoipa::path(
    post, path = "/messaging_history/api/account/{account}/conversations/conversation/search",
    operation_id = "conversation_history", tag = "agents", security(("bearer" = [])),
    params(("account" = String, Path, description = "The account.")), request_body = Asked,
    responses((status = 200, description = "It, or nothing.", body = History), HistoryRefused),
)]
pub(super) async fn conversation(
    State(native): State<Arc<Native>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match native.history(&account, &headers, body).await {
        Ok(answer) => error::json(StatusCode::OK, answer.to_string()),
        Err(error) => error::response(None, &error),
    }
}

/// A time as this service writes it, beside the same in milliseconds.
fn written(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%d %H:%M:%S%.3f+0000").to_string())
}

impl Native {
    async fn history(&self, account: &str, headers: &HeaderMap, mut body: Body) -> Result<Value, Error> {
        let denied = || Error::fault(ErrorCode::NotAuthenticated, "the bearer is not valid; sign in again");
        let account = self.account(account).ok_or_else(denied)?;
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(bare).unwrap_or_default();
        let (actor, _) = self.gateway.identity().check_agent(&account, bearer).await.map_err(|reason| match reason {
            Denied::Invalid => denied(),
            Denied::Unavailable => Error::Unreadable,
        })?;
        let text = self.read_body(&mut body, self.limits.load().message.0).await?;
        let asked: Asked = object(&text).map_err(|reason| Error::invalid(format!("the body is not understood: {reason}")))?;
        let id = asked.conversation_id.filter(|id| !id.is_empty()).ok_or_else(|| Error::missing("conversationId is missing"))?;
        let found = self.gateway.store().conversation(ConversationId::from(id)).await.map_err(|_| Error::Unreadable)?;
        // What is another tenant's is not there.
        let Ok(conversation) = crate::domain::visible(&actor, found.as_ref()).cloned() else {
            return Ok(json!({"_metadata": {"count": 0}, "conversationHistoryRecords": []}));
        };
        let record = self.record(&account, &actor, &conversation).await?;
        Ok(json!({"_metadata": {"count": 1}, "conversationHistoryRecords": [record]}))
    }

    async fn record(&self, account: &Account, actor: &Actor, conversation: &Conversation) -> Result<Value, Error> {
        let details = &conversation.details;
        // One at a time: each may take many times its size while it is written.
        let _turn = self.history.lock().await;
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut is_partial = conversation.next.iter().any(|next| *next > MOST as u64);
        for (dialog, next) in details.dialogs.iter().zip(&conversation.next) {
            let mut from = next.saturating_sub(MOST as u64);
            while from < *next {
                let range = Range::Forward { from, to: u64::MAX, limit: PAGE };
                let query = Query::Events { conversation: details.id.clone(), dialog: dialog.id.clone(), range };
                let Found::Events(page) = self.gateway.ask(actor, query).await? else { break };
                let Some(last) = page.last().and_then(|sight| sight.message()) else { break };
                from = last.sequence + 1;
                for sight in page {
                    bytes += sight.message().map_or(0, Message::bytes);
                    if bytes > BYTES {
                        is_partial = true;
                        break;
                    }
                    events.push(sight);
                }
                if bytes > BYTES {
                    break;
                }
            }
        }
        // A profile that the agent may not see is left out.
        let profile = match self.gateway.ask(actor, Query::Profile(Some(details.consumer.to_string()))).await {
            Ok(Found::Profile(profile)) => render::profile(&profile),
            Err(Error::Unreadable) => return Err(Error::Unreadable),
            _ => json!({}),
        };
        let contents = events.iter().filter_map(|sight| Some((sight, sight.message()?)));
        let (receipts, contents): (Vec<_>, Vec<_>) = contents.partition(|(_, message)| message.class == EventClass::Receipt);
        Ok(json!({
            "info": info(account, conversation, is_partial),
            "campaign": details.campaign,
            "messageRecords": contents.iter().map(|(sight, message)| record(sight, message)).collect::<Vec<_>>(),
            "messageStatuses": receipts.iter().flat_map(|(sight, message)| statuses(sight, message)).collect::<Vec<_>>(),
            "agentParticipants": agents(account, conversation, &events),
            "consumerParticipants": [consumer_participant(&details.consumer, &profile, conversation)],
            "dialogs": details.dialogs.iter().map(|dialog| json!({
                "dialogId": dialog.id, "status": dialog.state.as_str(), "dialogType": dialog.kind.as_str(),
                "dialogChannelType": "MESSAGING", "startTime": written(dialog.started), "startTimeL": dialog.started,
                "endTime": dialog.ended.map(written), "endTimeL": dialog.ended,
                "closeReason": dialog.closed_by.map(|by| by.reason()),
            })).collect::<Vec<_>>(),
            "conversationSurveys": survey(conversation),
            "sdes": {"events": profile["authenticatedData"]["lp_sdes"].as_array().cloned().unwrap_or_default()},
            "transfers": [], "interactions": [], "messageScores": [], "coBrowseSessions": [], "summary": {},
        }))
    }
}

fn info(account: &Account, conversation: &Conversation, is_partial: bool) -> Value {
    let details = &conversation.details;
    let agent = details.assignee().and_then(|assignee| account.agent(assignee.person.user()?.as_str()));
    let is_open = details.stage == OpenState::Open;
    json!({
        "conversationId": details.id, "brandId": details.account, "firstConversation": details.first,
        "startTime": written(details.started), "startTimeL": details.started,
        "endTime": details.ended.map(written), "endTimeL": details.ended,
        "duration": details.ended.map(|ended| ended - details.started),
        "status": if is_open { "OPEN" } else { "CLOSE" },
        "fullDialogStatus": if details.main_is_open() { "OPEN" } else { "CLOSE" },
        "closeReason": details.closed_by.map(|by| by.reason()),
        "closeReasonDescription": details.closed_by.map(|by| by.reason()),
        "latestSkillId": details.queue, "latestSkillName": account.queue_name(&details.queue),
        "latestAgentId": agent.map(|agent| &agent.user), "latestAgentLoginName": agent.map(|agent| &agent.login),
        "latestAgentNickname": agent.map(|agent| &agent.name), "latestAgentFullName": agent.map(|agent| &agent.name),
        "csat": details.csat.as_ref().and_then(|csat| csat.rate), "csatRate": details.csat.as_ref().and_then(|csat| csat.rate),
        "source": details.app, "appInstallId": details.app, "channelType": "MESSAGING", "isPartial": is_partial,
    })
}

/// Who wrote it, by the id that this service shows: a consumer's, or an agent's number.
fn participant(person: &Person) -> &str {
    person.user().map_or_else(|| person.public_id(), |user| user.as_str())
}

fn side(person: &Person) -> &'static str {
    if person.is_agent() { "Agent" } else { "Consumer" }
}

fn message_id(message: &Message, sequence: u64) -> String {
    format!("ams::dialog:{}-{sequence}", message.dialog)
}

fn record(sight: &Sight, message: &Message) -> Value {
    let event: Value = serde_json::from_str(message.event.get()).unwrap_or_default();
    let content_type = event["contentType"].as_str().unwrap_or("text/plain");
    let (kind, data) = match (message.class, content_type) {
        (EventClass::Rich, _) => ("RICH_CONTENT", json!({"richContent": {"content": event["content"].to_string()}})),
        (_, "hosted/file") => ("HOSTED_FILE", json!({"file": event["message"]})),
        (_, "text/plain") => ("TEXT_PLAIN", json!({"msg": {"text": event["message"]}})),
        (_, other) if other.starts_with("forms/") => ("TEXT_PLAIN", json!({"msg": {"text": event["message"].to_string()}})),
        _ => ("EXTERNAL_FILE", json!({"file": event["message"]})),
    };
    json!({
        "type": kind, "messageData": data, "messageId": message_id(message, message.sequence), "seq": message.sequence,
        "dialogId": message.dialog, "participantId": participant(&message.from), "sentBy": side(&message.from),
        "time": written(sight.said_at()), "timeL": sight.said_at(), "source": message.app,
        "audience": if message.whisper { "AGENTS_AND_MANAGERS" } else { "ALL" },
        "quickReplies": event.get("quickReplies").map(|replies| json!({"content": replies.to_string()})),
        "contextData": message.metadata.as_ref().map(|metadata| json!({"rawMetadata": metadata.get()})),
    })
}

/// What a receipt says of each message that it names.
fn statuses(sight: &Sight, message: &Message) -> Vec<Value> {
    let event: Value = serde_json::from_str(message.event.get()).unwrap_or_default();
    let named = event["sequenceList"].as_array().cloned().unwrap_or_default();
    let status = |sequence: u64| {
        json!({
            "messageId": message_id(message, sequence), "seq": message.sequence, "dialogId": message.dialog,
            "time": written(sight.said_at()), "timeL": sight.said_at(), "participantId": participant(&message.from),
            "participantType": side(&message.from), "messageDeliveryStatus": event["status"],
        })
    };
    named.iter().filter_map(Value::as_u64).map(status).collect()
}

/// Everybody of the brand's side who takes part or wrote something.
fn agents(account: &Account, conversation: &Conversation, events: &[Arc<Sight>]) -> Vec<Value> {
    let details = &conversation.details;
    let present = details.participants.iter().filter(|participant| participant.state == ParticipantState::Active);
    let present = present.map(|participant| (participant.person.clone(), participant.role));
    let wrote = events.iter().filter_map(|sight| sight.message()).map(|message| (message.from.clone(), message.role));
    let mut known: Vec<(Person, Role)> = Vec::new();
    for (person, role) in present.chain(wrote).filter(|(person, _)| person.is_agent()) {
        if !known.iter().any(|(other, _)| *other == person) {
            known.push((person, role));
        }
    }
    let shown = known.iter().map(|(person, role)| {
        let agent = person.user().and_then(|user| account.agent(user.as_str()));
        json!({
            "agentId": person.user(), "agentPid": person.public_id(), "agentDeleted": agent.is_none(),
            "agentLoginName": agent.map(|agent| &agent.login), "agentNickname": agent.map(|agent| &agent.name),
            "agentFullName": agent.map(|agent| &agent.name), "role": role.as_str(), "permission": role.as_str(),
            "userType": "1", "dialogId": details.id,
        })
    });
    shown.collect()
}

fn consumer_participant(id: &ConsumerId, profile: &Value, conversation: &Conversation) -> Value {
    let started = conversation.details.started;
    json!({
        "participantId": id, "firstName": profile["firstName"], "lastName": profile["lastName"],
        "consumerName": profile["nickName"].as_str().or(profile["firstName"].as_str()), "avatarURL": profile["avatarUrl"],
        "email": profile["privateData"]["mail"], "phone": profile["privateData"]["mobileNum"],
        "time": written(started), "timeL": started, "dialogId": conversation.details.id,
    })
}

/// The rating, if the consumer gave one.
fn survey(conversation: &Conversation) -> Vec<Value> {
    let Some(csat) = &conversation.details.csat else { return Vec::new() };
    let asked = [("rate", csat.rate.map(|rate| rate.to_string())), ("resolved", csat.resolved.map(|is_settled| is_settled.to_string()))];
    let data: Vec<_> = asked.into_iter().filter_map(|(question, answer)| Some(json!({"question": question, "answer": answer?}))).collect();
    vec![json!({"surveyType": "CSAT", "surveyStatus": csat.status, "surveyData": data})]
}
