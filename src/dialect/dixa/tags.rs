//! Tags: those that there are, and those that a conversation has.

use super::caller::Caller;
use super::conversation::{Named, Which};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::{Body, Nothing, Perhaps};
use super::setup::{account, administers, unchanged};
use super::{Answer, Data};
use crate::domain::{Conversation, FieldChange};
use crate::gateway::IdempotencyKey;
use crate::identity::{Account, Kept};
use crate::things::{self, ThingId};
use axum::Json;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tieline_protocol::ids::TagId;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// The colour of a tag that has none: clients read one of each.
const GREY: &str = "#808080";

/// A word that conversations are marked with.
#[derive(Debug, Serialize, ToSchema)]
struct Tag {
    id: Uuid,
    name: String,
    state: TagState,
    /// `#rrggbb`.
    color: String,
}

/// Whether it may be put on conversations. Those that have it keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
enum TagState {
    Active,
    Inactive,
}

/// A tag that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
struct NewTag {
    /// No other tag has it, be it in other letters' case.
    name: String,
    /// `#rrggbb`.
    color: Option<String>,
}

/// The tag that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
struct NamedTag {
    /// The tag's id.
    tag_id: Uuid,
}

/// The conversation and the tag that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
struct Both {
    /// The conversation's number.
    conversation_id: i64,
    /// The tag's id.
    tag_id: Uuid,
}

/// Which tags are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct Listed {
    /// Whether those that are not active are, too.
    include_deactivated: Option<bool>,
}

fn shown(kept: &Kept<things::Tag>) -> Tag {
    let things::Tag { name, color, active } = kept.thing.clone();
    let state = if active && !kept.is_deleted { TagState::Active } else { TagState::Inactive };
    Tag { id: kept.id.uuid(), name, state, color: color.unwrap_or_else(|| GREY.into()) }
}

fn no_tag(id: Uuid) -> Fault {
    Fault::missing(format!("there is no tag {id}"))
}

/// What a tag is called; also one that is no more.
pub(super) fn name(account: &Account, tag: &TagId) -> String {
    let known = tag.as_str().parse().ok().and_then(|id| account.things().tags.resolve(id));
    known.map_or_else(|| tag.to_string(), |kept| kept.thing.name.clone())
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default()
        .routes(routes!(of_conversation))
        .routes(routes!(put, remove))
        .routes(routes!(list, create))
        .routes(routes!(get, delete))
        .routes(routes!(activate))
        .routes(routes!(deactivate))
}

/// The tags of a conversation, in the order in which they were added.
#[utoipa::path(get, path = "/v1/conversations/{conversationId}/tags", operation_id = "listConversationTags", tag = "tags", params(Named),
    responses((status = 200, description = "They.", body = Data<Vec<Tag>>), Any, Absent))]
async fn of_conversation(caller: Caller, Ours(Path(named)): Which) -> Result<Json<Data<Vec<Tag>>>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let ids = conversation.details.facts().tags.iter().filter_map(|tag| tag.as_str().parse::<ThingId>().ok());
    let known = ids.filter_map(|id| caller.account().things().tags.resolve(id));
    Ok(Json(Data { data: known.map(|kept| shown(&kept)).collect() }))
}

/// Puts a tag on a conversation: one that is active. It has it once, however often this is asked.
#[utoipa::path(put, path = "/v1/conversations/{conversationId}/tags/{tagId}", operation_id = "addConversationTag",
    tag = "tags", params(Both),
    responses((status = 204, description = "It has it."), Any, Absent, Change))]
async fn put(caller: Caller, Ours(Path(both)): Ours<Path<Both>>, Perhaps(Body { key, .. }): Perhaps<Nothing>) -> Result<Answer<()>, Fault> {
    if let Some(done) = caller.done(key.as_ref()).await? {
        return Ok(done);
    }
    let conversation = caller.conversation(both.conversation_id).await?;
    let kept = caller.account().things().tags.get(both.tag_id.into()).ok_or_else(|| no_tag(both.tag_id))?;
    if !kept.thing.active {
        return Err(Fault::bad(format!("tag {:?} is not active", kept.thing.name)));
    }
    change(&caller, &conversation, FieldChange::Tag(kept.id.into()), key).await
}

/// Takes a tag off a conversation, active or not.
#[utoipa::path(delete, path = "/v1/conversations/{conversationId}/tags/{tagId}", operation_id = "removeConversationTag",
    tag = "tags", params(Both),
    responses((status = 204, description = "It does not have it."), Any, Absent, Change))]
async fn remove(
    caller: Caller,
    Ours(Path(both)): Ours<Path<Both>>,
    Perhaps(Body { key, .. }): Perhaps<Nothing>,
) -> Result<Answer<()>, Fault> {
    if let Some(done) = caller.done(key.as_ref()).await? {
        return Ok(done);
    }
    let conversation = caller.conversation(both.conversation_id).await?;
    let kept = caller.account().things().tags.resolve(both.tag_id.into()).ok_or_else(|| no_tag(both.tag_id))?;
    change(&caller, &conversation, FieldChange::Untag(kept.id.into()), key).await
}

async fn change(
    caller: &Caller,
    conversation: &Conversation,
    change: FieldChange,
    key: Option<IdempotencyKey>,
) -> Result<Answer<()>, Fault> {
    let decided = caller.change(caller.actor().clone(), conversation, vec![change], key).await?;
    Ok(Answer::done(&decided))
}

/// All tags that may be put on conversations, the oldest first.
#[utoipa::path(get, path = "/v1/tags", operation_id = "listTags", tag = "tags", params(Listed),
    responses((status = 200, description = "They.", body = Data<Vec<Tag>>), Any))]
async fn list(caller: Caller, Ours(Query(listed)): Ours<Query<Listed>>) -> Result<Json<Data<Vec<Tag>>>, Fault> {
    let all = caller.account().things().tags.live();
    let wanted = all.iter().filter(|kept| kept.thing.active || listed.include_deactivated == Some(true));
    Ok(Json(Data { data: wanted.map(|kept| shown(kept)).collect() }))
}

/// A tag by its id.
#[utoipa::path(get, path = "/v1/tags/{tagId}", operation_id = "getTag", tag = "tags", params(NamedTag),
    responses((status = 200, description = "It.", body = Data<Tag>), Any, Absent))]
async fn get(caller: Caller, Ours(Path(NamedTag { tag_id })): Ours<Path<NamedTag>>) -> Result<Json<Data<Tag>>, Fault> {
    let kept = caller.account().things().tags.get(tag_id.into()).ok_or_else(|| no_tag(tag_id))?;
    Ok(Json(Data { data: shown(&kept) }))
}

/// Makes a tag. It is active.
#[utoipa::path(post, path = "/v1/tags", operation_id = "createTag", tag = "tags", request_body = NewTag,
    responses((status = 200, description = "It.", body = Data<Tag>), Any, Change))]
async fn create(caller: Caller, Body { said, .. }: Body<NewTag>) -> Result<Json<Data<Tag>>, Fault> {
    administers(&caller)?;
    let tag = things::Tag { name: said.name, color: said.color, active: true };
    let kept = caller.gateway().identity().create_thing(&account(&caller)?, tag).await.map_err(unchanged)?;
    Ok(Json(Data { data: shown(&kept) }))
}

/// Deletes a tag. Conversations that have it keep it, as one that is not active.
#[utoipa::path(delete, path = "/v1/tags/{tagId}", operation_id = "deleteTag", tag = "tags", params(NamedTag),
    responses((status = 204, description = "It is no more."), Any, Absent, Change))]
async fn delete(caller: Caller, Ours(Path(NamedTag { tag_id })): Ours<Path<NamedTag>>) -> Result<StatusCode, Fault> {
    administers(&caller)?;
    let account = account(&caller)?;
    caller.gateway().identity().delete_thing::<things::Tag>(&account, tag_id.into(), None).await.map_err(unchanged)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a tag be put on conversations.
#[utoipa::path(patch, path = "/v1/tags/{tagId}/activate", operation_id = "activateTag", tag = "tags", params(NamedTag),
    responses((status = 204, description = "It may."), Any, Absent, Change))]
async fn activate(caller: Caller, named: Ours<Path<NamedTag>>) -> Result<StatusCode, Fault> {
    set_active(&caller, named, true).await
}

/// Lets a tag be put on no more conversations. Those that have it keep it.
#[utoipa::path(patch, path = "/v1/tags/{tagId}/deactivate", operation_id = "deactivateTag", tag = "tags", params(NamedTag),
    responses((status = 204, description = "It may not."), Any, Absent, Change))]
async fn deactivate(caller: Caller, named: Ours<Path<NamedTag>>) -> Result<StatusCode, Fault> {
    set_active(&caller, named, false).await
}

async fn set_active(caller: &Caller, Ours(Path(NamedTag { tag_id })): Ours<Path<NamedTag>>, active: bool) -> Result<StatusCode, Fault> {
    administers(caller)?;
    let account: Arc<Account> = account(caller)?;
    let kept = account.things().tags.get(tag_id.into()).ok_or_else(|| no_tag(tag_id))?;
    if kept.thing.active != active {
        let edited = caller
            .gateway()
            .identity()
            .edit_thing(&account, kept.id, None, move |tag: &things::Tag| Ok(things::Tag { active, ..tag.clone() }));
        edited.await.map_err(unchanged)?;
    }
    Ok(StatusCode::NO_CONTENT)
}
