//! Consumers who sign in at an identity provider of the account's own: they show its token and get one of ours.

use super::tokens::{NOT_NOW, NOT_VALID, UNKNOWN, refuse};
use super::{Native, Peer, error, too_many};
use crate::gateway::Error;
use crate::identity::Denied;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tieline_protocol::json::object;

/// The kind of connector that signs consumers in, as clients know it.
const SIGN_IN: u32 = 1;
/// The provider that is meant where none is named.
const DEFAULT: &str = "default";

/// The provider's token has three names among clients.
#[derive(Debug, Deserialize)]
struct Given {
    #[serde(rename = "authCode")]
    auth_code: Option<String>,
    id_token: Option<String>,
    code: Option<String>,
    /// The token that the consumer has of us already: it steps up.
    lp_jwt: Option<String>,
}

async fn signed_in(native: &Native, account: &str, provider: &str, peer: &Peer, mut body: Body) -> Result<String, Box<Response>> {
    if let Err(wait) = native.token_calls.check("", peer.0.ip()) {
        return Err(Box::new(wait.say(error::response(None, &too_many("too many token calls from this address")))));
    }
    let say = |error: Error| Box::new(error::response(None, &error));
    let text = native.read_body(&mut body, native.limits.load().message.0).await.map_err(say)?;
    let given: Given = object(&text).map_err(|reason| say(Error::invalid(format!("the body is not understood: {reason}"))))?;
    let identity = native.gateway.identity();
    let unknown = || refuse(StatusCode::NOT_FOUND, UNKNOWN);
    let account = native.account(account).ok_or_else(unknown)?;
    let provider = identity.provider(&account, provider).ok_or_else(unknown)?;
    let token = given.id_token.or(given.code).or(given.auth_code).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| say(Error::missing("id_token is missing, the identity provider's token")))?;
    let before = match given.lp_jwt {
        None => None,
        Some(jwt) => Some(identity.check_sign_up(&account, &jwt).map_err(|_| refuse(StatusCode::UNAUTHORIZED, NOT_VALID))?),
    };
    identity.sign_in(&account, &provider, &token, before).await.map_err(|denied| match denied {
        // The status that clients know for it.
        Denied::Invalid => refuse(StatusCode::INTERNAL_SERVER_ERROR, NOT_VALID),
        Denied::Unavailable => refuse(StatusCode::SERVICE_UNAVAILABLE, NOT_NOW),
    })
}

/// A token for a consumer of the account's usual provider.
pub(super) async fn authenticate(State(native): State<Arc<Native>>, Path(account): Path<String>, peer: Peer, body: Body) -> Response {
    match signed_in(&native, &account, DEFAULT, &peer, body).await {
        Ok(jwt) => error::json(StatusCode::OK, json!({"jwt": jwt}).to_string()),
        Err(response) => *response,
    }
}

/// A token for a consumer of the provider in the address.
pub(super) async fn authenticate_by(
    State(native): State<Arc<Native>>,
    Path((account, provider)): Path<(String, String)>,
    peer: Peer,
    body: Body,
) -> Response {
    match signed_in(&native, &account, &provider, &peer, body).await {
        Ok(token) => error::json(StatusCode::OK, json!({"token": token}).to_string()),
        Err(response) => *response,
    }
}

/// The providers by which consumers can sign in.
pub(super) async fn connectors(State(native): State<Arc<Native>>, Path(account): Path<String>) -> Response {
    let Some(account) = native.account(&account) else { return *refuse(StatusCode::NOT_FOUND, UNKNOWN) };
    let providers = native.gateway.identity().providers(&account);
    let all: Vec<Value> = providers.iter().map(|provider| json!({"id": provider.id(), "type": SIGN_IN, "name": provider.id()})).collect();
    error::json(StatusCode::OK, Value::from(all).to_string())
}
