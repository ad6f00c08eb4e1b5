//! Where is it: what is known of the way of one event, without a word of what it says.

use super::admin::Admin;
use super::{say, webhooks};
use crate::delivery::{Deliveries, DeliveryError};
use crate::domain::{Actor, Message, Millis, Person, Sight};
use crate::gateway::Gateway;
use crate::store::{Range, ReadError};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{ConversationId, DialogId};

/// How many events behind an event are looked at for receipts that name it.
const RECEIPTS: u64 = 1_000;

/// Which dialog of the conversation, if not the MAIN one.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    dialog: Option<String>,
}

/// A receipt, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Receipt {
    status: Option<String>,
    #[serde(rename = "sequenceList", default)]
    sequences: Vec<u64>,
}

/// Why there is no answer.
enum Lost {
    Nothing,
    Unreadable,
}

impl From<ReadError> for Lost {
    fn from(ReadError: ReadError) -> Self {
        Self::Unreadable
    }
}

impl From<DeliveryError> for Lost {
    fn from(_: DeliveryError) -> Self {
        Self::Unreadable
    }
}

pub(super) async fn trace(
    State(admin): State<Admin>,
    Path((conversation, sequence)): Path<(String, u64)>,
    Query(which): Query<Which>,
) -> Response {
    let id = ConversationId::from(conversation);
    let dialog = which.dialog.map_or_else(|| id.main_dialog(), DialogId::from);
    match found(&admin.gateway, &admin.deliveries, &id, &dialog, sequence).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(Lost::Nothing) => {
            say(StatusCode::NOT_FOUND, "there is no such event; name a conversation, and the number of an event in its dialog")
        }
        Err(Lost::Unreadable) => say(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read now; try again"),
    }
}

async fn found(
    gateway: &Arc<Gateway>,
    deliveries: &Deliveries,
    conversation: &ConversationId,
    dialog: &DialogId,
    sequence: u64,
) -> Result<Value, Lost> {
    let events = |from: u64, to: u64| gateway.store().events(dialog.clone(), Range::Forward { from, to, limit: usize::MAX });
    let one = events(sequence, sequence).await?;
    let sight = one.first().ok_or(Lost::Nothing)?;
    let message = sight.message().filter(|message| message.conversation == *conversation).ok_or(Lost::Nothing)?;
    let traces = gateway.hub().traces();
    let commit = traces.commit(sight.position);
    let (pushes, since) = traces.pushes(sight.position);
    let pushes: Vec<Value> = pushes
        .iter()
        .map(|push| {
            let (kind, id) = gateway.hub().who(push.connection).as_ref().map_or((Value::Null, Value::Null), described);
            json!({"at": time(push.at), "connection": push.connection, "as": kind, "id": id})
        })
        .collect();
    Ok(json!({
        "account": sight.account, "conversation": conversation, "dialog": dialog, "sequence": sequence,
        "position": sight.position, "message": deliveries.message_id(sight.position), "type": kind(message.class), "from": person(message),
        "received": commit.map(|commit| time(commit.received)), "decided": time(sight.at),
        "committed": commit.map(|commit| time(commit.committed)), "pushes": pushes, "pushesKnownSince": time(since),
        "receipts": receipts(dialog, sequence, events).await?, "webhooks": hooked(deliveries, sight).await?,
    }))
}

fn time(at: Millis) -> Value {
    webhooks::time(at)
}

/// The receipts behind an event that name it.
async fn receipts<R>(dialog: &DialogId, sequence: u64, events: impl Fn(u64, u64) -> R) -> Result<Vec<Value>, Lost>
where
    R: Future<Output = Result<Vec<Arc<Sight>>, ReadError>>,
{
    let (mut found, mut from) = (Vec::new(), sequence + 1);
    let to = sequence.saturating_add(RECEIPTS);
    while from <= to {
        let page = events(from, to).await?;
        let Some(last) = page.last().and_then(|sight| sight.message()) else { break };
        from = last.sequence + 1;
        for sight in &page {
            let Some(message) = sight.message().filter(|message| message.class == EventClass::Receipt && message.dialog == *dialog) else {
                continue;
            };
            let Ok(receipt) = serde_json::from_str::<Receipt>(message.event.get()) else { continue };
            if receipt.sequences.contains(&sequence) {
                found.push(json!({"at": time(sight.at), "status": receipt.status, "by": person(message), "sequence": message.sequence}));
            }
        }
    }
    Ok(found)
}

/// The attempts to hand it to endpoints, by endpoint.
async fn hooked(deliveries: &Deliveries, sight: &Sight) -> Result<Vec<Value>, Lost> {
    let mut by_endpoint: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for attempt in deliveries.attempts(sight.position).await? {
        let mut shown = webhooks::attempt(&attempt);
        // What an endpoint answers may hold anything.
        shown.as_object_mut().map(|shown| shown.remove("answer"));
        by_endpoint.entry(attempt.endpoint).or_default().push(shown);
    }
    let mut all = Vec::new();
    for (id, attempts) in by_endpoint {
        let app = deliveries.endpoint(id).await.ok().map(|row| row.app);
        all.push(json!({"endpoint": id, "clientId": app, "attempts": attempts}));
    }
    Ok(all)
}

fn kind(class: EventClass) -> &'static str {
    match class {
        EventClass::Content => "ContentEvent",
        EventClass::Rich => "RichContentEvent",
        EventClass::Receipt => "AcceptStatusEvent",
    }
}

fn person(message: &Message) -> Value {
    let id = match &message.from {
        Person::Consumer(id) => json!(id),
        Person::Agent { user, .. } => json!(user),
    };
    json!({"role": message.role.as_str(), "id": id})
}

/// What kind of peer it is, and which.
pub(super) fn described(actor: &Actor) -> (Value, Value) {
    match actor {
        Actor::Consumer { id, .. } => (json!("consumer"), json!(id)),
        Actor::Agent { user, .. } => (json!("agent"), json!(user)),
        Actor::Application { app, .. } => (json!("application"), json!(app)),
        Actor::System { .. } => (json!("system"), Value::Null),
    }
}
