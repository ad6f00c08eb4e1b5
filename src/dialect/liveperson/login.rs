//! Agents' login, refresh and logout.

use super::lookup::Services;
use super::openapi::{LoginRefused, SessionRefused};
use super::{Native, Peer, empty, error};
use crate::gateway::Error;
use crate::identity::{Account, Denied, Login};
use crate::openapi::AnyObject;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tieline_protocol::ids::{ParticipantId, UserId};
use tieline_protocol::json::object;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, ToSchema)]
struct Credentials {
    #[schema(value_type = String)]
    username: Option<String>,
    #[schema(value_type = String)]
    password: Option<String>,
}

/// The error as this service shows it: a string, which clients call string methods on.
fn refused(status: StatusCode, error: &str) -> Response {
    error::json(status, json!({"error": error}).to_string())
}

/// Signs an agent in.
#[utoipa::path(
    post, path = "/api/account/{account}/login", operation_id = "login", tag = "agents", security(()),
    params(("account" = String, Path, description = "The account.")),
    request_body(content = Credentials, example = json!({"username": "ada", "password": "ada-demo"})),
    responses(
        (
            status = 200, description = "A session, in a cookie too.", body = Welcome,
            headers(("set-cookie" = String, description = "`Session_id`.")),
        ),
        LoginRefused,
    ),
)]
pub(super) async fn login(
    State(native): State<Arc<Native>>,
    Path(account): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    let text = match native.read_body(&mut body, native.limits.load().message.0).await {
        Ok(text) => text,
        Err(error) => return error::response(None, &error),
    };
    let Ok(credentials) = object::<Credentials>(&text) else {
        return refused(StatusCode::BAD_REQUEST, "the body must be an object with username and password");
    };
    let (Some(username), Some(password)) = (credentials.username, credentials.password) else {
        return refused(StatusCode::BAD_REQUEST, "username and password are needed; other ways to sign in are not offered");
    };
    let account = native.account(&account);
    let known =
        account.as_ref().and_then(|account| account.agent_by_login(&username).map(|agent| format!("{}/{}", account.id, agent.user)));
    // Names that are not ours share one count, so that they cannot fill the memory.
    if let Err(wait) = native.logins.check(known.as_deref().unwrap_or_default(), peer.0.ip()) {
        return wait.say(refused(StatusCode::TOO_MANY_REQUESTS, "too many attempts for this login"));
    }
    let Some(account) = account else { return refused(StatusCode::UNAUTHORIZED, "wrong login or password") };
    match native.gateway.identity().login(&account, &username, &password).await {
        Ok(login) => welcome(&native, &account, &login, &headers),
        Err(Denied::Invalid) => refused(StatusCode::UNAUTHORIZED, "wrong login or password"),
        Err(Denied::Unavailable) => refused(StatusCode::SERVICE_UNAVAILABLE, "the session cannot be kept now; try again"),
    }
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = AgentSession)]
struct Welcome<'l> {
    /// What a refresh and a logout must show.
    csrf: &'l str,
    wsuk: &'l str,
    /// Milliseconds, as text.
    #[serde(rename = "sessionTTl")]
    session_ttl: String,
    /// What opens sockets.
    bearer: &'l str,
    session_id: &'l str,
    config: AgentConfig<'l>,
    #[serde(rename = "csdsCollectionResponse")]
    collection: Services,
    #[schema(value_type = AnyObject)]
    account_data: Map<String, Value>,
}

/// Who signed in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AgentConfig<'l> {
    login_name: &'l str,
    #[schema(value_type = String)]
    user_id: &'l UserId,
    #[schema(value_type = String)]
    user_pid: &'l ParticipantId,
    user_privileges: Vec<u32>,
    is_admin: bool,
    #[serde(rename = "isLPA")]
    is_lpa: bool,
    /// Milliseconds since 1970.
    server_current_time: i64,
}

fn welcome(native: &Native, account: &Account, login: &Login, headers: &HeaderMap) -> Response {
    let agent = &login.agent;
    let is_admin = agent.roles.contains(&crate::domain::AgentRole::Admin);
    let body = Welcome {
        csrf: &login.csrf,
        wsuk: "",
        session_ttl: login.time.as_millis().to_string(),
        bearer: &login.bearer,
        session_id: &login.session,
        config: AgentConfig {
            login_name: &agent.login,
            user_id: &agent.user,
            user_pid: &agent.pid,
            user_privileges: Vec::new(),
            is_admin,
            is_lpa: false,
            server_current_time: native.gateway.identity().now(),
        },
        collection: Services { base_uris: native.services(account.id.as_str(), headers) },
        account_data: Map::new(),
    };
    let mut response = error::written(StatusCode::OK, &body);
    // A session id is 32 hexadecimal digits.
    if let Ok(cookie) = HeaderValue::from_str(&format!("Session_id={}; Path=/; Secure; HttpOnly; SameSite=Strict", login.session)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[derive(Debug, Deserialize, ToSchema)]
struct Csrf {
    csrf: String,
}

/// The session of a refresh or logout: its id by cookie, whose name clients spell differently, and the CSRF token.
async fn session(native: &Native, headers: &HeaderMap, mut body: Body) -> Result<(String, String), Error> {
    let text = native.read_body(&mut body, native.limits.load().message.0).await?;
    let csrf: Csrf = object(&text).map_err(|_| Error::missing("the body must be an object with csrf"))?;
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookie| cookie.to_str().ok()).flat_map(|cookie| cookie.split(';'));
    let mut named = cookies.filter_map(|cookie| cookie.split_once('=')).filter(|(name, _)| name.trim().eq_ignore_ascii_case("session_id"));
    let id = named.next().map(|(_, id)| id.trim().to_owned()).ok_or_else(|| Error::missing("the cookie Session_id is missing"))?;
    Ok((id, csrf.csrf))
}

/// Lets an agent's session last anew.
#[utoipa::path(
    post, path = "/api/account/{account}/refresh", operation_id = "refresh", tag = "agents", security(("session" = [])),
    params(("account" = String, Path, description = "The account.")), request_body = Csrf,
    responses((status = 200, description = "It lasts anew."), SessionRefused),
)]
pub(super) async fn refresh(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let Some(account) = native.account(&account) else { return over(Denied::Invalid) };
    match session(&native, &headers, body).await {
        Err(error) => error::response(None, &error),
        Ok((id, csrf)) => match native.gateway.identity().refresh(&account, &id, &csrf).await {
            // Empty: a client takes any JSON with an error in it for a failure.
            Ok(()) => empty(StatusCode::OK),
            Err(denied) => over(denied),
        },
    }
}

/// Ends an agent's session, and closes its sockets.
#[utoipa::path(
    post, path = "/api/account/{account}/logout", operation_id = "logout", tag = "agents", security(("session" = [])),
    params(("account" = String, Path, description = "The account.")), request_body = Csrf,
    responses((status = 200, description = "It is over."), SessionRefused),
)]
pub(super) async fn logout(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let Some(account) = native.account(&account) else { return over(Denied::Invalid) };
    match session(&native, &headers, body).await {
        Err(error) => error::response(None, &error),
        Ok((id, csrf)) => match native.gateway.identity().logout(&account, &id, &csrf).await {
            Ok(()) => empty(StatusCode::OK),
            Err(denied) => over(denied),
        },
    }
}

fn over(denied: Denied) -> Response {
    let (status, name) = match denied {
        Denied::Invalid => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        Denied::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
    };
    let error: Value = json!({"error": {"message": denied.to_string(), "internalCode": 10, "responseStatus": name}});
    error::json(status, error.to_string())
}
