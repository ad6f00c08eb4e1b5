//! Consumers who sign in at an identity provider of the account's own: they show its token and get one of ours.

use super::openapi::{Jwt, SignInRefused, Token};
use super::tokens::{InternalError, NOT_NOW, NOT_VALID, UNKNOWN, refuse};
use super::{Native, Peer, error, too_many};
use crate::gateway::Error;
use crate::identity::Denied;
use crate::openapi::Sentence;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tieline_protocol::json::object;
use utoipa::ToSchema;

/// The kind of connector that signs consumers in, as clients know it.
const SIGN_IN: u32 = 1;

/// The provider that is meant where none is named.
const DEFAULT: &str = "default";

/// The provider's token has three names among clients.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ProvidersToken)]
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

/// An identity provider.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IdentityProvider)]
struct Provider {
    id: String,
    /// The kind of connector; 1 signs consumers in.
    #[serde(rename = "type")]
    kind: u32,
    name: String,
}

/// A token for a consumer of the account's usual provider.
#[utoipa::path(
    post, path = "/api/account/{account}/authenticate", operation_id = "authenticate", tag = "consumers", security(()),
    params(("account" = String, Path, description = "The account.")), request_body = Given,
    responses((status = 200, description = "What was asked for.", body = Jwt), SignInRefused),
)]
pub(super) async fn authenticate(State(native): State<Arc<Native>>, Path(account): Path<String>, peer: Peer, body: Body) -> Response {
    match signed_in(&native, &account, DEFAULT, &peer, body).await {
        Ok(jwt) => error::written(StatusCode::OK, &Jwt { jwt }),
        Err(response) => *response,
    }
}

/// A token for a consumer of the provider in the address.
#[utoipa::path(
    post, path = "/api/account/{account}/app/{connector}/authenticate", operation_id = "authenticate_by", tag = "consumers",
    security(()),
    params(
        ("account" = String, Path, description = "The account."), ("connector" = String, Path, description = "The provider's id."),
    ),
    request_body = Given, responses((status = 200, description = "What was asked for.", body = Token), SignInRefused),
)]
pub(super) async fn authenticate_by(
    State(native): State<Arc<Native>>,
    Path((account, provider)): Path<(String, String)>,
    peer: Peer,
    body: Body,
) -> Response {
    match signed_in(&native, &account, &provider, &peer, body).await {
        Ok(token) => error::written(StatusCode::OK, &Token { token }),
        Err(response) => *response,
    }
}

/// The providers by which consumers can sign in.
#[utoipa::path(
    get, path = "/api/account/{account}/configuration/le-connectors/all-connectors", operation_id = "identity_providers",
    tag = "consumers", security(()), params(("account" = String, Path, description = "The account.")),
    responses(
        (status = 200, description = "All of them.", body = Vec<Provider>),
        (status = 400, description = "The path cannot be read.", body = Sentence),
        (status = 404, description = "There is no such account.", body = InternalError),
    ),
)]
pub(super) async fn connectors(State(native): State<Arc<Native>>, Path(account): Path<String>) -> Response {
    let Some(account) = native.account(&account) else { return *refuse(StatusCode::NOT_FOUND, UNKNOWN) };
    let providers = native.gateway.identity().providers(&account);
    let shown = |id: &str| Provider { id: id.to_owned(), kind: SIGN_IN, name: id.to_owned() };
    error::written(StatusCode::OK, &providers.iter().map(|provider| shown(provider.id())).collect::<Vec<_>>())
}
