//! App tokens, consumer identity and consumers' sign-up.

use super::lookup::{self, Callback};
use super::openapi::{AuthorizeRefused, BadAppToken, Jwt, Keys, NamingRefused, SignUpRefused, Token};
use super::socket::bare;
use super::{Native, Peer, error, too_many};
use crate::dialect::form;
use crate::domain::{Actor, Command};
use crate::gateway::{Error, Request};
use crate::identity::{Denied, SignedIn};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::json::object;
use utoipa::{IntoParams, ToSchema};

/// Longest external id of a consumer, in characters.
const LONGEST_EXT_ID: usize = 512;

/// An application's token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AppToken {
    /// The AppJWT.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
}

/// What is asked with, in the form or in the query.
#[derive(IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read from wherever it stands; here it is described")]
struct AppCredentials {
    client_id: Option<String>,
    client_secret: Option<String>,
    /// `client_credentials`, or nothing.
    grant_type: Option<String>,
}

fn oauth(status: StatusCode, error: &str) -> Response {
    error::json(status, json!({"error": error}).to_string())
}

/// An application's token. The credentials come in the form or in the query.
#[utoipa::path(
    post, path = "/sentinel/api/account/{account}/app/token", operation_id = "app_token", tag = "applications", security(()),
    params(("account" = String, Path, description = "The account."), AppCredentials),
    request_body(
        content = AppCredentials, content_type = "application/x-www-form-urlencoded",
        example = json!({"client_id": "demo-connector", "client_secret": "demo-connector-secret"}),
    ),
    responses((status = 200, description = "What was asked for.", body = AppToken), BadAppToken),
)]
pub(super) async fn app_token(
    State(native): State<Arc<Native>>,
    Path(account): Path<String>,
    peer: Peer,
    Query(query): Query<HashMap<String, String>>,
    mut body: Body,
) -> Response {
    if let Err(wait) = native.token_calls.check("", peer.0.ip()) {
        return wait.say(error::response(None, &too_many("too many token calls from this address")));
    }
    let text = match native.read_body(&mut body, native.limits.load().message.0).await {
        Ok(text) => text,
        Err(error) => return error::response(None, &error),
    };
    let mut given: HashMap<String, String> = query;
    given.extend(form::members(&text));
    let get = |name: &str| given.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if get("grant_type").is_some_and(|grant| grant != "client_credentials") {
        return oauth(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let (Some(id), Some(secret)) = (get("client_id"), get("client_secret")) else {
        return oauth(StatusCode::BAD_REQUEST, "invalid_request");
    };
    let signed =
        native.account(&account).ok_or(Denied::Invalid).and_then(|account| native.gateway.identity().sign_in_app(&account, id, secret));
    match signed {
        Ok(token) => {
            let time = native.gateway.identity().app_token_time().as_secs();
            error::written(StatusCode::OK, &AppToken { access_token: token, token_type: "Bearer", expires_in: time })
        }
        Err(Denied::Invalid) => oauth(StatusCode::UNAUTHORIZED, "invalid_client"),
        Err(Denied::Unavailable) => oauth(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
    }
}

#[derive(Debug, Deserialize, ToSchema)]
struct NameConsumer {
    /// What the application calls the consumer: text of at most 512 characters, or a number.
    #[schema(value_type = String)]
    ext_consumer_id: Option<tieline_protocol::body::Loose>,
}

/// A consumer's identity, for a connector.
#[utoipa::path(
    post, path = "/api/account/{account}/consumer", operation_id = "consumer_identity", tag = "applications",
    security(("app_jwt" = [])), params(("account" = String, Path, description = "The account.")),
    request_body(content = NameConsumer, example = json!({"ext_consumer_id": "ann"})),
    responses((status = 201, description = "The ConsumerJWS.", body = Token), NamingRefused),
)]
pub(super) async fn consumer(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap, body: Body) -> Response {
    match name_consumer(&native, &account, &headers, body).await {
        Ok(token) => error::written(StatusCode::CREATED, &Token { token }),
        Err(error) => error::response(None, &error),
    }
}

async fn name_consumer(native: &Arc<Native>, account: &str, headers: &HeaderMap, mut body: Body) -> Result<String, Error> {
    let token = headers.get("authorization").map(|token| token.to_str().unwrap_or(""));
    let token = token.ok_or_else(|| Error::fault(ErrorCode::MissingAppJwt, "AppJWT is missing"))?;
    let invalid = || Error::fault(ErrorCode::InvalidAppJwt, "AppJWT is invalid");
    let account = native.account(account).ok_or_else(invalid)?;
    let app = native.gateway.identity().check_app(&account, bare(token)).map_err(|_| invalid())?;
    let text = native.read_body(&mut body, native.limits.load().message.0).await?;
    let given: NameConsumer = object(&text).map_err(|reason| Error::invalid(format!("the body is not understood: {reason}")))?;
    let ext_id =
        given.ext_consumer_id.map(|id| id.0).filter(|id| !id.is_empty()).ok_or_else(|| Error::missing("ext_consumer_id is missing"))?;
    if ext_id.chars().count() > LONGEST_EXT_ID {
        return Err(Error::invalid(format!("ext_consumer_id is longer than {LONGEST_EXT_ID} characters")));
    }
    let unavailable = |_| Error::fault(ErrorCode::Internal, "the consumer cannot be named now");
    let (id, jws) = native.gateway.identity().name_consumer(&app, &ext_id).map_err(unavailable)?;
    let actor = Actor::Consumer { account: app.account.clone(), id: id.clone(), app: Some(app.app.clone()), was: None };
    let seen = Command::SeeConsumer { is_new: false, consumer: id, app: Some(app.app), ext_id: Some(ext_id) };
    native.gateway.submit(Request { actor, commands: vec![seen], key: None, resend: None }).await?;
    Ok(jws)
}

/// There is no such account or identity provider, as this service says it.
pub(super) const UNKNOWN: &str = "9004";

/// The token cannot be validated.
pub(super) const NOT_VALID: &str = "9007";

/// It may work later.
pub(super) const NOT_NOW: &str = "9000";

/// An error as the services of sign-up and sign-in show it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct InternalError {
    internal_error_code: &'static str,
}

/// An error as this service shows it.
pub(super) fn refuse(status: StatusCode, code: &'static str) -> Box<Response> {
    Box::new(error::written(status, &InternalError { internal_error_code: code }))
}

/// A token for a new consumer, or for one that shows an old token of its own.
fn signed_up(native: &Native, account: &str, peer: &Peer, known: Option<&str>) -> Result<String, Box<Response>> {
    if let Err(wait) = native.token_calls.check("", peer.0.ip()) {
        return Err(Box::new(wait.say(error::response(None, &too_many("too many token calls from this address")))));
    }
    let Some(account) = native.account(account) else { return Err(refuse(StatusCode::NOT_FOUND, UNKNOWN)) };
    let identity = native.gateway.identity();
    let known = match known {
        None => None,
        Some(token) => match identity.check_sign_up(&account, token) {
            // Whoever signed in at an identity provider goes on by signing in there: it may not know them any more.
            Ok(SignedIn { actor: Actor::Consumer { id, .. }, claims: None, .. }) => Some(id),
            Ok(_) | Err(_) => return Err(refuse(StatusCode::UNAUTHORIZED, NOT_VALID)),
        },
    };
    identity.sign_up(&account.id, known).map(|(_, token)| token).map_err(|_| refuse(StatusCode::SERVICE_UNAVAILABLE, NOT_NOW))
}

/// A token for a new consumer.
#[utoipa::path(
    post, path = "/api/account/{account}/signup", operation_id = "sign_up", tag = "consumers", security(()),
    params(("account" = String, Path, description = "The account.")),
    responses((status = 200, description = "What was asked for.", body = Jwt), SignUpRefused),
)]
pub(super) async fn sign_up(State(native): State<Arc<Native>>, Path(account): Path<String>, peer: Peer) -> Response {
    match signed_up(&native, &account, &peer, None) {
        Ok(jwt) => error::written(StatusCode::OK, &Jwt { jwt }),
        Err(response) => *response,
    }
}

/// A token for a new consumer, as JavaScript.
#[utoipa::path(
    get, path = "/api/account/{account}/signup.jsonp", operation_id = "sign_up_script", tag = "consumers", security(()),
    params(("account" = String, Path, description = "The account."), Callback),
    responses(
        (
            status = 200, description = "A call of the function.", body = String,
            content_type = "application/javascript; charset=utf-8",
        ),
        SignUpRefused,
    ),
)]
pub(super) async fn sign_up_script(
    State(native): State<Arc<Native>>,
    Path(account): Path<String>,
    Query(callback): Query<Callback>,
    peer: Peer,
) -> Response {
    let Some(name) = callback.name() else {
        return error::response(None, &Error::missing("callback must name a function"));
    };
    match signed_up(&native, &account, &peer, None) {
        Ok(jwt) => lookup::call(&name, &json!({"jwt": jwt})),
        Err(response) => *response,
    }
}

#[derive(Debug, Default, Deserialize, ToSchema)]
struct Authorize {
    /// An earlier token of the same consumer.
    id_token: Option<String>,
}

/// A token for a new consumer, or a fresh one for a consumer that shows an earlier token.
#[utoipa::path(
    post, path = "/api/account/{account}/anonymous/authorize", operation_id = "anonymous_authorize", tag = "consumers",
    security(()), params(("account" = String, Path, description = "The account.")), request_body = Option<Authorize>,
    responses((status = 200, description = "What was asked for.", body = Token), AuthorizeRefused),
)]
pub(super) async fn authorize(State(native): State<Arc<Native>>, Path(account): Path<String>, peer: Peer, mut body: Body) -> Response {
    let text = match native.read_body(&mut body, native.limits.load().message.0).await {
        Ok(text) => text,
        Err(error) => return error::response(None, &error),
    };
    let given: Authorize = match object(if text.trim().is_empty() { "{}" } else { &text }) {
        Ok(given) => given,
        Err(error) => return error::response(None, &Error::invalid(format!("the body is not understood: {error}"))),
    };
    match signed_up(&native, &account, &peer, given.id_token.as_deref()) {
        Ok(token) => error::written(StatusCode::OK, &Token { token }),
        Err(response) => *response,
    }
}

/// The public keys, for whoever wants to check our tokens.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", operation_id = "keys", tag = "lookup", security(()),
    responses((status = 200, description = "All of them.", body = Keys)),
)]
pub(super) async fn keys(State(native): State<Arc<Native>>) -> Response {
    axum::Json(native.gateway.identity().published_keys()).into_response()
}
