//! Who comes to a conversation, who goes, and who has read it.

use super::caller::{Body, Caller};
use super::error::{Absent, Any, Fault, Large};
use super::{Done, done};
use crate::domain::{FieldChange, Role};
use axum::Json;
use axum::extract::Path;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(join)).routes(routes!(leave)).routes(routes!(read))
}

/// In which language somebody joins. It is taken and not kept: nothing is translated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = ConversationJoinRequest)]
struct Join {
    #[expect(dead_code, reason = "read so that a wrong one is refused")]
    participant_language_iso_code: Option<String>,
}

/// Joins a conversation: one that waits is the caller's from then on. Whoever is there stays as it is.
#[utoipa::path(put, path = "/rest/v2/conversation/conversations/{conversation_uuid}/join",
    operation_id = "joinConversation", tag = "conversations",
    params(("conversation_uuid" = String, Path, description = "The conversation.")), request_body = Option<Join>,
    responses((status = 200, description = "The caller takes part.", body = Done), Any, Absent, Large))]
async fn join(caller: Caller, Path(id): Path<String>, Body(_said): Body<Join>) -> Result<Json<Done>, Fault> {
    let person = caller.person()?;
    caller.change_named(&id, vec![FieldChange::Come { person }]).await?;
    Ok(done())
}

/// Takes a conversation that waits.
///
/// # Errors
/// 404; 400, if the caller is nobody who could take part, or another was faster, or it is closed.
pub(super) async fn take(caller: &Caller, id: &str) -> Result<(), Fault> {
    let person = caller.person()?;
    let conversation = caller.conversation(id).await?;
    caller.change(&conversation, vec![FieldChange::Join { person, role: Role::AssignedAgent }]).await
}

/// Leaves a conversation. One that loses its agent waits in its queue again. Who is not there stays as it is.
#[utoipa::path(delete, path = "/rest/v2/conversation/conversations/{conversation_uuid}/leave",
    operation_id = "leaveConversation", tag = "conversations",
    params(("conversation_uuid" = String, Path, description = "The conversation.")),
    responses((status = 200, description = "The caller takes no part.", body = Done), Any, Absent))]
async fn leave(caller: Caller, Path(id): Path<String>) -> Result<Json<Done>, Fault> {
    let person = caller.person()?;
    caller.change_named(&id, vec![FieldChange::Go { person }]).await?;
    Ok(done())
}

/// Marks what was said as read by the caller.
#[utoipa::path(put, path = "/rest/v2/conversation/conversations/{conversation_uuid}/markread",
    operation_id = "markReadConversation", tag = "conversations",
    params(("conversation_uuid" = String, Path, description = "The conversation.")),
    responses((status = 200, description = "It is marked.", body = Done), Any, Absent))]
async fn read(caller: Caller, Path(id): Path<String>) -> Result<Json<Done>, Fault> {
    caller.agent()?;
    caller.gateway().mark_read(caller.actor(), &id.as_str().into(), None).await?;
    Ok(done())
}
