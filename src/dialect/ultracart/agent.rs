//! What an agent is told of itself, and where it puts files.

use super::SOCKET;
use super::caller::Caller;
use super::error::{Any, Fault, Nothing};
use super::{Done, done};
use crate::gateway::{Found, Query};
use crate::identity::PassKind;
use axum::Json;
use axum::extract::Path;
use serde::Serialize;
use serde_with::skip_serializing_none;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(auth)).routes(routes!(keepalive)).routes(routes!(upload_url))
}

/// What an agent opens its socket with, and what it is.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, ToSchema)]
struct AgentAuth {
    conversation_participant_arn: String,
    conversation_participant_name: String,
    merchant_id: String,
    /// Opens the socket, for so long as a token of an application holds.
    jwt: String,
    /// Where the socket is; the token stands in it.
    websocket_url: String,
    /// Empty: nothing is sent by telephone.
    twilio_accounts: Vec<Nothing>,
    chat_user: bool,
    /// Whether the agent is a manager.
    chat_admin: bool,
    /// The agent's number, where an integer holds it.
    user_id: Option<i64>,
}

/// The same for clients of both generations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConversationAgentAuthResponse)]
struct AgentAuthResponse {
    conversation_participant_arn: String,
    conversation_participant_name: String,
    merchant_id: String,
    jwt: String,
    websocket_url: String,
    /// Empty: nothing is sent by telephone.
    twilio_phone_numbers: Vec<String>,
    agent_auth: AgentAuth,
    success: bool,
    metadata: Nothing,
}

/// What an agent opens its socket with.
#[utoipa::path(put, path = "/rest/v2/conversation/agent/auth", operation_id = "getAgentWebsocketAuthorization", tag = "agents",
    responses((status = 200, description = "That.", body = AgentAuthResponse), Any))]
async fn auth(caller: Caller) -> Result<Json<AgentAuthResponse>, Fault> {
    let agent = caller.agent()?;
    let identity = caller.gateway().identity();
    let time = identity.app_token_time();
    let jwt = identity.issue_agent_pass(PassKind::UltraCartSocket, caller.account(), agent, caller.warrant(), time)?;
    let agent_auth = AgentAuth {
        conversation_participant_arn: caller.merchant().person(&agent.person()),
        conversation_participant_name: agent.name.clone(),
        merchant_id: caller.merchant().as_str().to_owned(),
        websocket_url: caller.socket(&format!("{SOCKET}?jwt={jwt}")),
        jwt,
        twilio_accounts: Vec::new(),
        chat_user: true,
        chat_admin: agent.actor(&caller.account().id).is_manager(),
        user_id: agent.user.as_str().parse().ok(),
    };
    Ok(Json(AgentAuthResponse {
        conversation_participant_arn: agent_auth.conversation_participant_arn.clone(),
        conversation_participant_name: agent_auth.conversation_participant_name.clone(),
        merchant_id: agent_auth.merchant_id.clone(),
        jwt: agent_auth.jwt.clone(),
        websocket_url: agent_auth.websocket_url.clone(),
        twilio_phone_numbers: Vec::new(),
        agent_auth,
        success: true,
        metadata: Nothing {},
    }))
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
#[utoipa::path(get, path = "/rest/v2/conversation/upload_url/{extension}",
    operation_id = "getConversationMultimediaUploadUrl", tag = "agents",
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
