//! Conversations that belong to others.

use super::caller::Caller;
use super::conversation::{Named, Shown, Which, shown};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::Body;
use super::{Answer, Data};
use crate::domain::{Command, LinkKind};
use axum::Json;
use axum::extract::Path;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What it belongs to from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Joins {
    /// The number of that conversation.
    parent_id: i64,
    link_type: LinkType,
}

/// As what.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
enum LinkType {
    /// They are about the same matter. It is shown as `FollowUp`.
    Related,
    /// A talk aside about it.
    SideConversation,
}

impl From<LinkType> for LinkKind {
    fn from(kind: LinkType) -> Self {
        match kind {
            LinkType::Related => Self::Related,
            LinkType::SideConversation => Self::Side,
        }
    }
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(linked)).routes(routes!(link))
}

/// The conversations that belong to one, in the order in which they were linked.
#[utoipa::path(get, path = "/v1/conversations/{conversationId}/linked", operation_id = "listLinked", tag = "conversations", params(Named),
    responses((status = 200, description = "They.", body = Data<Vec<Shown>>), Any, Absent))]
async fn linked(caller: Caller, Ours(Path(named)): Which) -> Result<Json<Data<Vec<Shown>>>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let mut data = Vec::new();
    for child in &conversation.details.facts().children {
        // One that was kept long enough is no more.
        match caller.gateway().conversation(caller.actor(), child).await {
            Ok(child) => data.push(shown(caller.account(), &child)),
            Err(error) if error.is_no_such_conversation() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Json(Data { data }))
}

/// Links a conversation to another: each to one at most, and to none that is linked itself.
#[utoipa::path(put, path = "/v1/conversations/{conversationId}/link", operation_id = "linkConversation", tag = "conversations", params(Named), request_body = Joins,
    responses((status = 204, description = "It is linked."), Any, Absent, Change))]
async fn link(caller: Caller, Ours(Path(named)): Which, Body { said, key }: Body<Joins>) -> Result<Answer<()>, Fault> {
    if let Some(done) = caller.done(key.as_ref()).await? {
        return Ok(done);
    }
    let child = caller.conversation(named.conversation_id).await?;
    let parent = caller.conversation(said.parent_id).await?;
    let was = child.details.facts().parent.as_ref().map(|link| link.parent.clone());
    let command = Command::Link { child: child.details.id.clone(), parent: parent.details.id.clone(), kind: said.link_type.into(), was };
    let decided = caller.submit(caller.actor().clone(), vec![command], key).await?;
    Ok(Answer::done(&decided))
}
