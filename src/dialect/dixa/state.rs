//! Conversations that are moved: claimed, closed, opened again, put into another queue.

use super::Answer;
use super::caller::Caller;
use super::conversation::{Named, Which};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::{Body, Perhaps};
use crate::domain::FieldChange;
use axum::extract::Path;
use serde::Deserialize;
use tieline_protocol::ids::QueueId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Who takes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Claim {
    agent_id: Uuid,
    /// Whether it is taken from another agent who has it; so it is, unless this says no.
    force: Option<bool>,
}

/// In whose name.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct By {
    /// An agent or admin; the key itself, if there is none.
    user_id: Option<Uuid>,
}

/// Where it goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Transfer {
    queue_id: Uuid,
    /// An agent or admin; the key itself, if there is none.
    user_id: Option<Uuid>,
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(claim)).routes(routes!(close)).routes(routes!(reopen)).routes(routes!(transfer))
}

/// Gives a conversation to an agent.
#[utoipa::path(put, path = "/v1/conversations/{conversationId}/claim", operation_id = "claimConversation", tag = "conversations", params(Named), request_body = Claim,
    responses((status = 204, description = "The agent has it."), Any, Absent, Change))]
async fn claim(caller: Caller, Ours(Path(named)): Which, Body { said, key }: Body<Claim>) -> Result<Answer<()>, Fault> {
    if let Some(done) = caller.done(key.as_ref()).await? {
        return Ok(done);
    }
    let conversation = caller.conversation(named.conversation_id).await?;
    let agent = caller.agent(said.agent_id).ok_or_else(|| Fault::missing(format!("there is no agent {}", said.agent_id)))?;
    let actor = caller.in_the_name_of(agent)?;
    let change = FieldChange::Claim { person: agent.person(), takes_over: said.force.unwrap_or(true), since: None };
    let decided = caller.change(actor, &conversation, vec![change], key).await?;
    Ok(Answer::done(&decided))
}

/// Closes a conversation. One that is closed stays as it is.
#[utoipa::path(put, path = "/v1/conversations/{conversationId}/close", operation_id = "closeConversation", tag = "conversations", params(Named), request_body = Option<By>,
    responses((status = 204, description = "It is closed."), Any, Absent, Change))]
async fn close(caller: Caller, Ours(Path(named)): Which, Perhaps(Body { said, key }): Perhaps<By>) -> Result<Answer<()>, Fault> {
    if let Some(done) = caller.done(key.as_ref()).await? {
        return Ok(done);
    }
    let conversation = caller.conversation(named.conversation_id).await?;
    let decided = caller.change(caller.user(said.user_id)?, &conversation, vec![FieldChange::Close], key).await?;
    Ok(Answer::done(&decided))
}

/// Opens a conversation again, in its queue. One that nobody put into a queue goes into the account's default queue; one that is open
/// stays as it is.
#[utoipa::path(put, path = "/v1/conversations/{conversationId}/reopen", operation_id = "reopenConversation", tag = "conversations", params(Named), request_body = Option<By>,
    responses((status = 204, description = "It is open."), Any, Absent, Change))]
async fn reopen(caller: Caller, Ours(Path(named)): Which, Perhaps(Body { said, key }): Perhaps<By>) -> Result<Answer<()>, Fault> {
    if let Some(done) = caller.done(key.as_ref()).await? {
        return Ok(done);
    }
    let conversation = caller.conversation(named.conversation_id).await?;
    let actor = caller.user(said.user_id)?;
    let default = caller.account().default_queue();
    let moves =
        !conversation.details.main_is_open() && conversation.details.queue == QueueId::unassigned() && default != QueueId::unassigned();
    let changes = [FieldChange::Reopen].into_iter().chain(moves.then_some(FieldChange::SetQueue(default))).collect();
    let decided = caller.change(actor, &conversation, changes, key).await?;
    Ok(Answer::done(&decided))
}

/// Puts a conversation into a queue, without an agent, and opens it again if it is closed.
#[utoipa::path(put, path = "/v1/conversations/{conversationId}/transfer/queue", operation_id = "transferConversation", tag = "conversations", params(Named),
    request_body = Transfer, responses((status = 204, description = "It is there."), Any, Absent, Change))]
async fn transfer(caller: Caller, Ours(Path(named)): Which, Body { said, key }: Body<Transfer>) -> Result<Answer<()>, Fault> {
    if let Some(done) = caller.done(key.as_ref()).await? {
        return Ok(done);
    }
    let conversation = caller.conversation(named.conversation_id).await?;
    let actor = caller.user(said.user_id)?;
    let queue = caller.queue(said.queue_id).ok_or_else(|| Fault::bad(format!("there is no queue {}", said.queue_id)))?;
    let decided = caller.change(actor, &conversation, vec![FieldChange::Transfer(queue.clone())], key).await?;
    Ok(Answer::done(&decided))
}
