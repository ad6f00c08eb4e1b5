//! Conversations as they are looked up.

use super::Hubster;
use super::caller::{Caller, Id, Known, Origin};
use super::error::{Code, Fault};
use super::object::{Established, Shown};
use super::openapi::OneRefused;
use crate::things::ThingId;
use axum::extract::State;
use axum::{Extension, Json};
use std::sync::Arc;
use tieline_protocol::ids::ClientId;

/// Most conversations of a hub that are listed.
const MOST: usize = 500;

/// A conversation.
#[utoipa::path(get, path = "/api/v1/conversations/{conversationId}", operation_id = "getConversation", tag = "conversations",
    params(("conversationId" = String, Path, description = "A GUID; anything else is no conversation.")),
    responses((status = 200, description = "It.", body = Shown), OneRefused))]
pub(super) async fn one(
    State(hubster): State<Arc<Hubster>>,
    Extension(caller): Extension<Caller>,
    Extension(Origin(origin)): Extension<Origin>,
    Id(id): Id,
) -> Result<Json<Shown>, Fault> {
    let known = caller.conversation(&hubster.gateway, &id).await?;
    Ok(Json(hubster.scene(&caller.account, &origin).conversation(&known)))
}

/// A conversation, as who established it was answered.
#[utoipa::path(get, path = "/api/v1/conversations/{conversationId}/established", operation_id = "getEstablishedConversation",
    tag = "conversations", params(("conversationId" = String, Path, description = "A GUID; anything else is no conversation.")),
    responses((status = 200, description = "It.", body = Established), OneRefused))]
pub(super) async fn established(
    State(hubster): State<Arc<Hubster>>,
    Extension(caller): Extension<Caller>,
    Extension(Origin(origin)): Extension<Origin>,
    Id(id): Id,
) -> Result<Json<Established>, Fault> {
    let known = caller.conversation(&hubster.gateway, &id).await?;
    Ok(Json(hubster.scene(&caller.account, &origin).established(&known, false)))
}

/// The open conversations of a hub, the most recently changed first; at most 500.
#[utoipa::path(get, path = "/api/v1/conversations/hubs/{hubId}/established", operation_id = "listEstablishedConversations",
    tag = "conversations", params(("hubId" = String, Path, description = "A GUID; anything else is no hub.")),
    responses((status = 200, description = "They.", body = Vec<Established>), OneRefused))]
pub(super) async fn of_hub(
    State(hubster): State<Arc<Hubster>>,
    Extension(caller): Extension<Caller>,
    Extension(Origin(origin)): Extension<Origin>,
    Id(id): Id,
) -> Result<Json<Vec<Established>>, Fault> {
    caller.engine()?;
    let hub = id.parse::<ThingId>().ok().and_then(|id| caller.account.things().hubs.get(id));
    let hub = hub.ok_or_else(|| Fault::new(Code::NoHub, "Hub does not exist."))?;
    let app = ClientId::from(hub.id.to_string());
    let found = hubster.gateway.open_through(&caller.actor(), &app, MOST).await?;
    let scene = hubster.scene(&caller.account, &origin);
    let known = found.into_iter().filter_map(|one| Known::of(&caller.account, one));
    Ok(Json(known.map(|known| scene.established(&known, false)).collect()))
}
