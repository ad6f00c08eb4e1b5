//! Agents' login, refresh and logout.

use super::{Native, Peer, empty, error};
use crate::gateway::Error;
use crate::identity::{Account, Denied, Login};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tieline_protocol::json::object;

#[derive(Debug, Deserialize)]
struct Credentials {
    username: Option<String>,
    password: Option<String>,
}

/// The error as this service shows it: a string, which clients call string methods on.
fn refused(status: StatusCode, error: &str) -> Response {
    error::json(status, json!({"error": error}).to_string())
}

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

fn welcome(native: &Native, account: &Account, login: &Login, headers: &HeaderMap) -> Response {
    let agent = &login.agent;
    let is_admin = agent.roles.contains(&crate::domain::AgentRole::Admin);
    let body = json!({
        "csrf": login.csrf,
        "wsuk": "",
        "sessionTTl": login.time.as_millis().to_string(),
        "bearer": login.bearer,
        "sessionId": login.session,
        "config": {
            "loginName": agent.login,
            "userId": agent.user,
            "userPid": agent.pid,
            "userPrivileges": [],
            "isAdmin": is_admin,
            "isLPA": false,
            "serverCurrentTime": native.gateway.identity().now(),
        },
        "csdsCollectionResponse": {"baseURIs": native.services(account.id.as_str(), headers)},
        "accountData": {},
    });
    let mut response = error::json(StatusCode::OK, body.to_string());
    // A session id is 32 hexadecimal digits.
    if let Ok(cookie) = HeaderValue::from_str(&format!("Session_id={}; Path=/; Secure; HttpOnly; SameSite=Strict", login.session)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[derive(Debug, Deserialize)]
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
