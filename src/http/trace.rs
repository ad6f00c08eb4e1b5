//! Where is it: what is known of the way of one event, without a word of what it says.

use super::admin::{Admin, Denied};
use super::say;
use super::webhooks::{self, Tried, told};
use crate::delivery::{Deliveries, DeliveryError};
use crate::domain::{Actor, Message, Person, Sight};
use crate::gateway::Gateway;
use crate::openapi::Sentence;
use crate::store::{EndpointId, Range, ReadError};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ClientId, ConversationId, DialogId};
use utoipa::{IntoParams, ToSchema};

/// How many events behind an event are looked at for receipts that name it.
const RECEIPTS: u64 = 1_000;

/// Which dialog of the conversation, if not the MAIN one.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The dialog's id.
    dialog: Option<String>,
}

/// The way of one event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Trace {
    #[schema(value_type = String)]
    account: AccountId,
    #[schema(value_type = String)]
    conversation: ConversationId,
    #[schema(value_type = String)]
    dialog: DialogId,
    sequence: u64,
    /// Its position in the journal.
    position: u64,
    /// The id that a webhook with it carries.
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    from: By,
    /// When it was handed in; none where that is not known any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    received: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    decided: Option<Timestamp>,
    /// When it was on disk; none where that is not known any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    committed: Option<Timestamp>,
    /// The sessions that it was handed to.
    pushes: Vec<Push>,
    /// Pushes before that are not known any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    pushes_known_since: Option<Timestamp>,
    receipts: Vec<Received>,
    webhooks: Vec<Hooked>,
}

/// Who wrote it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct By {
    role: &'static str,
    id: String,
}

/// A session that it was handed to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Push {
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    connection: u64,
    /// `agent`, `consumer`, `application` or `system`; none where the session has ended.
    #[serde(rename = "as")]
    kind: Option<&'static str>,
    id: Option<String>,
}

/// A receipt that names it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Receipt)]
struct Received {
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    status: Option<String>,
    by: By,
    /// The receipt's own number.
    sequence: u64,
}

/// The attempts to hand it to one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Hooked {
    #[schema(value_type = i64)]
    endpoint: EndpointId,
    #[schema(value_type = Option<String>)]
    client_id: Option<ClientId>,
    attempts: Vec<Tried>,
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

/// Where an event is: committed when, handed to whom, received by whom, posted where.
#[utoipa::path(
    get, path = "/admin/v1/conversations/{conversation}/events/{sequence}/trace", operation_id = "events_trace", tag = "people",
    params(
        ("conversation" = String, Path, description = "The conversation."),
        ("sequence" = u64, Path, description = "The event's number."), Which,
    ),
    responses(
        (status = 200, description = "What was asked for.", body = Trace), Denied,
        (status = 503, description = "The store cannot be read now; try again.", body = Sentence),
    ),
)]
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
) -> Result<Trace, Lost> {
    let events = |from: u64, to: u64| gateway.store().events(dialog.clone(), Range::Forward { from, to, limit: usize::MAX });
    let one = events(sequence, sequence).await?;
    let sight = one.first().ok_or(Lost::Nothing)?;
    let message = sight.message().filter(|message| message.conversation == *conversation).ok_or(Lost::Nothing)?;
    let traces = gateway.hub().traces();
    let commit = traces.commit(sight.position);
    let (pushes, since) = traces.pushes(sight.position);
    let pushes = pushes.iter().map(|push| {
        let who = gateway.hub().who(push.connection).as_ref().map(described);
        let (kind, id) = who.map_or((None, None), |(kind, id)| (Some(kind), id));
        Push { at: told(push.at), connection: push.connection, kind, id }
    });
    Ok(Trace {
        account: sight.account.clone(),
        conversation: conversation.clone(),
        dialog: dialog.clone(),
        sequence,
        position: sight.position,
        message: deliveries.message_id(sight.position),
        kind: kind(message.class),
        from: person(message),
        received: commit.and_then(|commit| told(commit.received)),
        decided: told(sight.at),
        committed: commit.and_then(|commit| told(commit.committed)),
        pushes: pushes.collect(),
        pushes_known_since: told(since),
        receipts: receipts(dialog, sequence, events).await?,
        webhooks: hooked(deliveries, sight).await?,
    })
}

/// The receipts behind an event that name it.
async fn receipts<R>(dialog: &DialogId, sequence: u64, events: impl Fn(u64, u64) -> R) -> Result<Vec<Received>, Lost>
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
                found.push(Received { at: told(sight.at), status: receipt.status, by: person(message), sequence: message.sequence });
            }
        }
    }
    Ok(found)
}

/// The attempts to hand it to endpoints, by endpoint.
async fn hooked(deliveries: &Deliveries, sight: &Sight) -> Result<Vec<Hooked>, Lost> {
    let mut by_endpoint: BTreeMap<EndpointId, Vec<Tried>> = BTreeMap::new();
    for attempt in deliveries.attempts(sight.position).await? {
        by_endpoint.entry(attempt.endpoint).or_default().push(webhooks::attempt(&attempt).without_answer());
    }
    let mut all = Vec::new();
    for (endpoint, attempts) in by_endpoint {
        let client_id = deliveries.endpoint(endpoint).await.ok().map(|row| row.app);
        all.push(Hooked { endpoint, client_id, attempts });
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

fn person(message: &Message) -> By {
    let id = match &message.from {
        Person::Consumer(id) => id.to_string(),
        Person::Agent { user, .. } => user.to_string(),
    };
    By { role: message.role.as_str(), id }
}

/// What kind of peer it is, and which.
pub(super) fn described(actor: &Actor) -> (&'static str, Option<String>) {
    match actor {
        Actor::Consumer { id, .. } => ("consumer", Some(id.to_string())),
        Actor::Agent { user, .. } => ("agent", Some(user.to_string())),
        Actor::Application { app, .. } => ("application", Some(app.to_string())),
        Actor::System { .. } => ("system", None),
    }
}
