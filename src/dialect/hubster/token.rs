//! Tokens: for programs by a client's secret, and for visitors of web pages by the page that they are on.

use super::Hubster;
use super::caller::{Id, Power, shown};
use super::error::{Code, Fault};
use super::openapi::VisitorRefused;
use crate::config::Dialect;
use crate::dialect::form;
use crate::identity::{Account, KeyRefused, PassKind};
use crate::things::{IntegrationChannel, IntegrationKind, ThingId};
use crate::throttle::Wait;
use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_with::skip_serializing_none;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

/// How long a token holds: thirty days, as the vendor's.
const TIME: Duration = Duration::from_secs(30 * 86_400);
/// What a token is for.
const SCOPE: &str = "hubster-engine-api";
/// In front of a tenant in the id of a client.
const ENGINE: &str = "hubster.engine.api.";
const PORTAL: &str = "hubster.portal";

/// A token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    access_token: String,
    /// Seconds.
    expires_in: u64,
    /// The word in front of it: `Bearer`, or `WebBearer` for visitors.
    token_type: &'static str,
    /// `hubster-engine-api`.
    scope: &'static str,
}

impl Token {
    fn new(access_token: String, token_type: &'static str) -> Self {
        Self { access_token, expires_in: TIME.as_secs(), token_type, scope: SCOPE }
    }
}

/// What a client sends.
#[derive(ToSchema)]
#[schema(as = ClientCredentials)]
#[expect(dead_code, reason = "read from a form that may be encoded badly; here it is described")]
pub(super) struct Described {
    /// `client_credentials`.
    grant_type: String,
    /// `hubster.engine.api.` and the tenant's id in 32 hexadecimal digits.
    client_id: String,
    /// A key of the account.
    client_secret: String,
}

/// Why there is no token, in OAuth's words.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenError {
    /// `invalid_request`, `invalid_client`, `unsupported_grant_type` or `temporarily_unavailable`.
    error: &'static str,
    error_description: Option<String>,
}

/// How a client is refused.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes the answers")]
pub(super) enum ClientRefused {
    /// There is no such client, or it asks for what is not served.
    #[response(status = 400)]
    Bad(TokenError),
    /// The body did not come in time.
    #[response(status = 408)]
    Late(TokenError),
    /// The body is too large.
    #[response(status = 413)]
    Large(TokenError),
    /// Too many requests, or wrong secrets, of the address; `Retry-After` says how long to wait.
    #[response(status = 429)]
    Many(TokenError),
    /// No token can be made now; `Retry-After` says how long to wait.
    #[response(status = 503)]
    Unavailable(TokenError),
}

fn refused(status: StatusCode, error: &'static str, why: impl Into<String>) -> Response {
    (status, Json(TokenError { error, error_description: Some(why.into()) })).into_response()
}

fn bad(error: &'static str, why: impl Into<String>) -> Box<Response> {
    Box::new(refused(StatusCode::BAD_REQUEST, error, why))
}

fn waits(status: StatusCode, wait: Wait, why: String) -> Box<Response> {
    Box::new(wait.say(refused(status, "temporarily_unavailable", why)))
}

/// Whether a client's id is that of an account.
fn is_of(client: &str, account: &Account) -> bool {
    client.strip_prefix(ENGINE).and_then(|tenant| Uuid::try_parse(tenant).ok()) == Some(account.uuid())
}

/// A token for a program.
#[utoipa::path(post, path = "/connect/token", operation_id = "connectToken", tag = "tokens", security(()),
    request_body(content = Described, content_type = "application/x-www-form-urlencoded",
        example = json!({"grant_type": "client_credentials", "client_id": "hubster.engine.api.00000000000000000000000000000001", "client_secret": "demo-hubster-secret"})),
    responses((status = 200, description = "It.", body = Token), ClientRefused))]
pub(super) async fn connect(State(hubster): State<Arc<Hubster>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, body: Body) -> Response {
    let bytes = match hubster.read(body).await {
        Ok(bytes) => bytes,
        // Which of the two it was says the status.
        Err(fault) => return refused(fault.status(), "invalid_request", "The body is too large, or did not come in time."),
    };
    let given: HashMap<String, String> = form::members(&String::from_utf8_lossy(&bytes)).into_iter().collect();
    match hubster.token_for(&given, peer) {
        Ok(token) => fresh(Json(token)),
        Err(response) => *response,
    }
}

/// An answer that is kept by nobody but its receiver.
fn fresh(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Hubster {
    fn token_for(&self, given: &HashMap<String, String>, peer: SocketAddr) -> Result<Token, Box<Response>> {
        let get = |name: &str| given.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let grant =
            get("grant_type").ok_or_else(|| bad("invalid_request", "grant_type is missing; send a form with client_credentials"))?;
        let client = get("client_id").ok_or_else(|| bad("invalid_request", "client_id is missing"))?;
        if client.starts_with(PORTAL) {
            let why = format!("the portal is not served here; use {ENGINE} and the tenant's id in 32 hexadecimal digits");
            return Err(bad("invalid_client", why));
        }
        if grant != "client_credentials" {
            return Err(bad("unsupported_grant_type", "grant_type must be client_credentials"));
        }
        let secret = get("client_secret").ok_or_else(|| bad("invalid_request", "client_secret is missing"))?;
        let key = match self.gateway.identity().check_key(Dialect::Hubster, Some(secret), peer.ip()) {
            Ok((key, _)) if is_of(client, &key.account) => key,
            Ok(_) | Err(KeyRefused::Unknown) => return Err(bad("invalid_client", "there is no such client, or its secret is another")),
            Err(KeyRefused::TooMany(wait)) => {
                return Err(waits(StatusCode::TOO_MANY_REQUESTS, wait, format!("too many requests; wait {} s", wait.0)));
            }
        };
        let made = self.gateway.identity().issue_pass(PassKind::HubsterEngine, &key.account, &key.id.to_string(), None, TIME);
        let unavailable = |_| waits(StatusCode::SERVICE_UNAVAILABLE, Wait(1), "no token can be made now; try again".into());
        made.map(|token| Token::new(token, "Bearer")).map_err(unavailable)
    }

    /// The account of an integration that visitors may use from a page of this origin.
    fn web_chat(&self, id: &str, headers: &HeaderMap) -> Result<(Arc<Account>, ThingId), Fault> {
        let missing = || Fault::new(Code::NoIntegration, "Integration does not exist, or is no web chat of customers.");
        let id: ThingId = id.parse().map_err(|_| missing())?;
        let accounts = self.gateway.identity().directory().accounts();
        let found = accounts.into_iter().find_map(|account| Some((account.things().integrations.get(id)?, account)));
        let (integration, account) = found.ok_or_else(missing)?;
        if (integration.thing.kind, integration.thing.channel) != (IntegrationKind::Customer, IntegrationChannel::WebChat) {
            return Err(missing());
        }
        super::caller::is_active(&integration)?;
        let is_its_own = |origin: &HeaderValue| integration.thing.allowed_origins.iter().any(|known| *origin == known.as_str());
        let origin = headers.get(header::ORIGIN);
        if !(origin.is_some_and(is_its_own) || (origin.is_some() && crate::dialect::origin::is_allowed_origin(headers, &self.origins))) {
            let why = "Web chats need an Origin of the integration's allowed_origins, or of server.allowed_origins.";
            return Err(Fault::new(Code::Forbidden, why));
        }
        Ok((account, id))
    }
}

/// A token for a visitor of a web page. Who shows one of the same integration goes on as the same visitor.
#[utoipa::path(get, path = "/api/v1/integrations/web-chat/token/{integrationId}", operation_id = "getWebChatToken", tag = "tokens", security(()),
    params(("integrationId" = String, Path, description = "A customer's integration of the channel WebChat.")),
    responses((status = 200, description = "It.", body = Token), VisitorRefused))]
pub(super) async fn web_chat(
    State(hubster): State<Arc<Hubster>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    hubster.throttled("web chat token", peer.ip())?;
    let (account, integration) = hubster.web_chat(&id, &headers)?;
    let before = shown(&headers).and_then(|(scheme, token)| hubster.check(Some(scheme), token).ok()).map(|(caller, _)| caller.power);
    let visitor = match before {
        Some(Power::Web { integration: same, visitor }) if same == integration => visitor,
        _ => Uuid::new_v4().to_string(),
    };
    let identity = hubster.gateway.identity();
    let made = identity.issue_pass(PassKind::HubsterWebChat, &account, &integration.to_string(), Some(&visitor), TIME);
    let token = made.map_err(|_| Fault::unavailable())?;
    Ok(fresh(Json(Token::new(token, "WebBearer"))))
}
