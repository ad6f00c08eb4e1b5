//! What was said, taken away for ever: in a conversation, or in one message of it.

use super::caller::{Caller, person_uuid};
use super::conversation::{Named, Which};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::{Body, Nothing, Perhaps, Repeat, Stamp};
use super::message::together;
use super::{Answer, Data};
use crate::dialect::ids::{event_of_uuid, event_uuid};
use crate::domain::{Actor, Conversation, FieldChange};
use crate::gateway::{IdempotencyKey, derived_uuid};
use crate::store::Erasure;
use axum::Json;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use tieline_protocol::ids::PlainId;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Whether it is done in any case.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Force {
    /// Whether a conversation that is open is closed first; without, it is refused.
    force: Option<bool>,
}

/// The message that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
struct NamedMessage {
    /// The conversation's number.
    conversation_id: i64,
    /// The message's id.
    message_id: Uuid,
}

/// The request that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
struct NamedRequest {
    /// The request's id.
    request_id: Uuid,
}

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AnonymizationKind)]
enum Kind {
    Conversation,
    Message,
}

/// The same by its older name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AnonymizationEntityType)]
enum EntityType {
    ConversationAnonymizationType,
    MessageAnonymizationType,
}

/// A request that something is taken away.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AnonymizationRequest {
    id: Uuid,
    entity_type: EntityType,
    #[serde(rename = "_type")]
    kind: Kind,
    initiated_at: Stamp,
    /// The conversation's number; of a message, with the message's id behind it.
    target_entity_id: String,
    requested_by: Uuid,
    /// When it was done.
    processed_at: Option<Stamp>,
}

fn shown(conversation: &Conversation, erasure: &Erasure) -> AnonymizationRequest {
    let number = conversation.details.number;
    let (kind, entity_type, target_entity_id) = match &erasure.message {
        None => (Kind::Conversation, EntityType::ConversationAnonymizationType, number.to_string()),
        Some((_, sequence)) => {
            let message = event_uuid(&erasure.conversation, *sequence);
            (Kind::Message, EntityType::MessageAnonymizationType, format!("{number}_{message}"))
        }
    };
    AnonymizationRequest {
        // Every id of ours is one.
        id: Uuid::parse_str(&erasure.id).unwrap_or_default(),
        entity_type,
        kind,
        initiated_at: Stamp(erasure.at),
        target_entity_id,
        requested_by: person_uuid(&erasure.by),
        processed_at: erasure.done.map(Stamp),
    }
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(conversation)).routes(routes!(message)).routes(routes!(request))
}

async fn asked(
    caller: &Caller,
    conversation: &Conversation,
    changes: Vec<FieldChange>,
    id: String,
    key: Option<IdempotencyKey>,
) -> Result<Answer<AnonymizationRequest>, Fault> {
    let actor: Actor = caller.actor().clone();
    let replayed = caller.change(actor, conversation, changes, key).await?.replayed;
    answered(caller, conversation, &id, replayed).await
}

/// How it is answered that something will be taken away: as it stands.
async fn answered(caller: &Caller, conversation: &Conversation, id: &str, replayed: bool) -> Result<Answer<AnonymizationRequest>, Fault> {
    let erasure = caller.gateway().erasure(caller.actor(), id).await?.ok_or_else(|| Fault::missing("the request is no more"))?;
    Ok(Answer::new(StatusCode::ACCEPTED, shown(conversation, &erasure)).replayed(replayed))
}

/// Takes away all that was said in a conversation, with its files, for ever. It must be closed. It is done soon after the answer;
/// nothing can be added or changed from now on.
#[utoipa::path(patch, path = "/v1/conversations/{conversationId}/anonymize", operation_id = "anonymizeConversation",
    tag = "anonymization", params(Named, Force, Repeat),
    responses((status = 202, description = "It will be done.", body = Data<AnonymizationRequest>), Any, Absent, Change))]
async fn conversation(
    caller: Caller,
    Ours(Path(named)): Which,
    Ours(Query(Force { force })): Ours<Query<Force>>,
    Perhaps(Body { key, .. }): Perhaps<Nothing>,
) -> Result<Answer<AnonymizationRequest>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let id = caller.id_of(key.as_ref(), &["anonymization", conversation.details.id.as_str()]).to_string();
    let change = FieldChange::Anonymise { request: PlainId::from(id.as_str()), closes: force == Some(true) };
    asked(&caller, &conversation, vec![change], id, key).await
}

/// Takes away what was said in one message, with its files, for ever. It is done soon after the answer; the message stays in its place,
/// without words.
#[utoipa::path(patch, path = "/v1/conversations/{conversationId}/messages/{messageId}/anonymize", operation_id = "anonymizeMessage",
    tag = "anonymization",
    params(NamedMessage, Repeat),
    responses((status = 202, description = "It will be done.", body = Data<AnonymizationRequest>), Any, Absent, Change))]
async fn message(
    caller: Caller,
    Ours(Path(named)): Ours<Path<NamedMessage>>,
    Perhaps(Body { key, .. }): Perhaps<Nothing>,
) -> Result<Answer<AnonymizationRequest>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let conversation_id = &conversation.details.id;
    let missing = || Fault::missing(format!("there is no message {}", named.message_id));
    let sequence = event_of_uuid(conversation_id, named.message_id).ok_or_else(missing)?;
    let id = caller.id_of(key.as_ref(), &["anonymization", conversation_id.as_str(), &sequence.to_string()]).to_string();
    if caller.replayed(key.as_ref()).await?.is_some() {
        return answered(&caller, &conversation, &id, true).await;
    }
    let events = caller.gateway().messages(caller.actor(), conversation_id).await?;
    let all = together(&events);
    let found = all.iter().find(|one| one.message.sequence == sequence).ok_or_else(missing)?;
    let parts: Vec<_> = std::iter::once(found.message).chain(found.attached.iter().copied()).collect();
    let files = parts.iter().filter(|part| part.file.is_some()).count();
    // Each of its files is an event of its own; what is answered is the request for the message, which stands first.
    let changes = parts.iter().enumerate().map(|(place, part)| FieldChange::AnonymiseMessage {
        request: PlainId::from(if place == 0 { id.clone() } else { derived_uuid(&["file", &id, &place.to_string()]).to_string() }),
        dialog: conversation_id.main_dialog(),
        sequence: part.sequence,
        files: if place == 0 { u32::try_from(files).unwrap_or(u32::MAX) } else { 0 },
    });
    asked(&caller, &conversation, changes.collect(), id, key).await
}

/// A request that something is taken away, and whether that is done.
#[utoipa::path(get, path = "/v1/anonymization/request/{requestId}", operation_id = "getAnonymizationRequest",
    tag = "anonymization", params(NamedRequest),
    responses((status = 200, description = "It.", body = Data<AnonymizationRequest>), Any, Absent))]
async fn request(
    caller: Caller,
    Ours(Path(NamedRequest { request_id })): Ours<Path<NamedRequest>>,
) -> Result<Json<Data<AnonymizationRequest>>, Fault> {
    let missing = || Fault::missing(format!("there is no request {request_id}"));
    let id = request_id.hyphenated().to_string();
    let erasure = caller.gateway().erasure(caller.actor(), &id).await?.ok_or_else(missing)?;
    let conversation = caller.gateway().conversation(caller.actor(), &erasure.conversation).await?;
    Ok(Json(Data { data: shown(&conversation, &erasure) }))
}
