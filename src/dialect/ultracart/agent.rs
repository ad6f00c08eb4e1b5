//! What an agent is told of itself, and where it puts files.

use super::caller::Caller;
use super::error::{Any, Fault, Nothing};
use super::{Done, done};
use crate::gateway::{Found, Query};
use axum::Json;
use axum::extract::Path;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(keepalive)).routes(routes!(upload_url))
}

/// Says that the caller is still there. Whether it is, its socket tells; this one only looks at the key.
#[utoipa::path(get, path = "/rest/v2/conversation/agent/keepalive", operation_id = "getAgentKeepAlive", tag = "agents",
    responses((status = 200, description = "It is heard.", body = Done), Any))]
async fn keepalive(_: Caller) -> Json<Done> {
    done()
}

/// Where a file is put, and what it is called then.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConversationMultimediaUploadUrl)]
struct UploadUrl {
    /// Names the file among the `upload_keys` of a message.
    key: String,
    /// Takes the bytes by PUT, once, within a short time.
    url: String,
}

/// An answer with that.
#[derive(Debug, Serialize, ToSchema)]
struct UploadUrlResponse {
    success: bool,
    conversation_multimedia_upload_url: UploadUrl,
    metadata: Nothing,
}

/// Where the caller may put a file.
#[utoipa::path(get, path = "/rest/v2/conversation/upload_url/{extension}", operation_id = "getConversationMultimediaUploadUrl", tag = "agents",
    params(("extension" = String, Path, description = "The end of its name, such as `jpg`.")),
    responses((status = 200, description = "There.", body = UploadUrlResponse), Any))]
async fn upload_url(caller: Caller, Path(extension): Path<String>) -> Result<Json<UploadUrlResponse>, Fault> {
    caller.agent()?;
    let wanted = Query::UploadUrl { size: None, kind: extension };
    let Found::Url(signed) = caller.gateway().ask(caller.actor(), wanted).await? else { return Err(Fault::missing("there is no URL")) };
    let url = caller.absolute(&signed.relative_url());
    let conversation_multimedia_upload_url = UploadUrl { key: signed.path, url };
    Ok(Json(UploadUrlResponse { success: true, conversation_multimedia_upload_url, metadata: Nothing {} }))
}
