//! The native dialect: compatible with the LivePerson Connector API and its messaging sockets.
//!
//! - [`lookup`]: where each service lives; [`tokens`]: app tokens, consumer identity, sign-up; [`sign_in`]: consumers at an
//!   identity provider; [`login`]: agents;
//! - [`connector`]: SEND and CONVERSATION, over HTTP and on the connector socket;
//! - [`socket`]: the sockets of consumers (v3) and agents (v2, v2.1, v3);
//! - [`installations`]: applications that come and go; [`history`]: a conversation when it is over;
//! - [`webhook`]: the bodies of webhooks;
//! - [`openapi`](mod@openapi): what the document of the calls says beside them;
//! - [`request`] reads requests, [`render`] and [`error`] write what we have to say; [`webhook`]: what is posted.

mod connector;
mod error;
mod history;
mod installations;
mod login;
mod lookup;
mod openapi;
mod render;
mod request;
mod sign_in;
mod socket;
mod tokens;
mod webhook;

use self::connector::ConnectorDoorway;
use self::installations::Installations;
use self::openapi::{ConnectorRefused, ConnectorReply, ConnectorRequest, Spoken};
use self::request::Client;
use self::socket::{ConsumerDoorway, Renewal, bare};
pub use self::webhook::Webhooks;
use super::{Call, Socket, fits};
use crate::config::{Config, LiveLimits};
use crate::delivery::Deliveries;
use crate::domain::Actor;
use crate::gateway::{Error, Gateway};
use crate::identity::{Account, Denied};
use crate::openapi::also;
use crate::session::Admission;
use crate::throttle::Throttle;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use futures::future::BoxFuture;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use tieline_protocol::code::{CloseCode, ErrorCode};
use tieline_protocol::kind::Version;
use tower_http::cors::CorsLayer;
use utoipa::IntoParams;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The dialect.
#[derive(Debug)]
pub struct Native {
    gateway: Arc<Gateway>,
    limits: LiveLimits,
    public_url: String,
    logins: Throttle,
    token_calls: Throttle,
    installations: Installations,
    /// Held while a history is put together.
    history: tokio::sync::Mutex<()>,
}

/// The query parameter that names a version.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct VersionQuery {
    /// `3`; there is no other.
    #[param(required = true)]
    v: Option<String>,
}

/// What the dialect's document says: the HTTP calls. The sockets are on the protocol's page.
#[must_use]
pub fn openapi() -> OpenApi {
    Native::calls().into_openapi()
}

impl Native {
    /// Puts the dialect on the gateway.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, config: &Config, limits: LiveLimits, deliveries: Deliveries) -> Arc<Self> {
        Arc::new(Self {
            installations: Installations::new(deliveries, config),
            history: tokio::sync::Mutex::default(),
            gateway,
            limits,
            public_url: config.server.public_url.clone(),
            logins: Throttle::per_minute(config.limits.logins_per_minute),
            token_calls: Throttle::per_minute(config.limits.token_calls_per_minute),
        })
    }

    fn account(&self, id: &str) -> Option<Arc<Account>> {
        self.gateway.identity().directory().account(id)
    }

    /// Holds callers to the limits as they are now.
    pub fn limits_changed(&self) {
        let limits = self.limits.load();
        self.logins.set(limits.logins_per_minute);
        self.token_calls.set(limits.token_calls_per_minute);
    }

    /// Takes the accounts as they are now: the webhooks of the configuration, and what is installed beside it.
    ///
    /// # Errors
    /// [`Error::Unreadable`], if what is installed cannot be read.
    pub async fn accounts_changed(&self, config: &Config) -> Result<(), Error> {
        self.installations.accounts_changed(config);
        self.restore().await
    }

    /// Forgets callers that have been quiet. Call it now and then.
    pub fn tidy(&self) {
        self.logins.tidy();
        self.token_calls.tidy();
    }

    /// The HTTP calls.
    pub fn routes(self: &Arc<Self>) -> Router {
        Self::calls().with_state(self.clone()).into()
    }

    fn calls() -> OpenApiRouter<Arc<Self>> {
        let services = |routes| also(routes, "/api/account", "/csdr/account");
        // Web pages call these; no cookie is used, so any origin may.
        let open = OpenApiRouter::default()
            .routes(services(routes!(lookup::all)))
            .routes(services(routes!(lookup::one)))
            .routes(services(routes!(lookup::script)))
            .routes(routes!(tokens::sign_up))
            .routes(routes!(tokens::sign_up_script))
            .routes(routes!(tokens::authorize))
            .routes(routes!(sign_in::authenticate))
            .routes(routes!(sign_in::authenticate_by))
            .routes(routes!(sign_in::connectors))
            .routes(routes!(tokens::keys))
            .layer(CorsLayer::permissive());
        OpenApiRouter::with_openapi(openapi::about())
            .routes(routes!(tokens::app_token))
            .routes(routes!(tokens::consumer))
            .routes(routes!(conversation))
            .routes(routes!(send))
            .routes(routes!(installations::list, installations::install))
            .routes(routes!(installations::one, installations::change, installations::overridden, installations::remove))
            .routes(routes!(history::conversation))
            .routes(routes!(login::login))
            .routes(routes!(login::refresh))
            .routes(routes!(login::logout))
            .merge(open)
    }

    /// SEND, once more.
    #[must_use]
    pub fn send_call(self: &Arc<Self>) -> SendCall {
        SendCall(self.clone())
    }

    /// What answers on the dialect's paths while it is switched off.
    pub fn switched_off() -> Router {
        let off = || async {
            error::response(None, &Error::fault(ErrorCode::NotFound, "this dialect is off; add \"liveperson\" to server.dialects"))
        };
        let paths = [
            "/api/account/{*rest}",
            "/csdr/account/{*rest}",
            "/sentinel/api/account/{*rest}",
            "/messaging_history/{*rest}",
            "/ws_api/account/{*rest}",
        ];
        paths.into_iter().fold(Router::new(), |routes, path| routes.route(path, axum::routing::any(off)))
    }

    /// The consumer's socket.
    #[must_use]
    pub fn consumer_socket(self: &Arc<Self>) -> ConsumerSocket {
        ConsumerSocket(self.clone())
    }

    /// The agent's socket, its bearer in the path or in a header.
    #[must_use]
    pub fn agent_sockets(self: &Arc<Self>) -> [AgentSocket; 2] {
        let socket = |path| AgentSocket { native: self.clone(), path };
        [socket("/ws_api/account/{account}/messaging/brand/{bearer}"), socket("/ws_api/account/{account}/messaging/brand")]
    }

    /// The connector's socket.
    #[must_use]
    pub fn connector_socket(self: &Arc<Self>) -> ConnectorSocket {
        ConnectorSocket(self.clone())
    }
}

/// Where messages are sent to.
const SEND: &str = "/api/account/{account}/messaging/consumer/conversation/send";

/// SEND as it is asked for by nearly everybody.
#[derive(Debug)]
pub struct SendCall(Arc<Native>);

impl Call for SendCall {
    fn path(&self) -> &'static str {
        SEND
    }

    fn is_meant(&self, method: &Method, uri: &Uri) -> bool {
        matches!(uri.query(), Some("v=3" | "v=3.0")) && *method == Method::POST && fits(SEND, uri.path())
    }

    fn answer<'c>(&'c self, parts: &'c Parts, body: &'c mut Body) -> BoxFuture<'c, Response> {
        // /api/account/{account}
        let account = parts.uri.path().split('/').nth(3).unwrap_or_default();
        Box::pin(self.0.connector_call(connector::Call::Send, account, &parts.headers, body))
    }
}

/// SEND: one request for a consumer.
#[utoipa::path(
    post, path = "/api/account/{account}/messaging/consumer/conversation/send", operation_id = "send", tag = "connector",
    security(("app_jwt" = [], "consumer_jws" = [])),
    params(("account" = String, Path, description = "The account."), VersionQuery, Spoken),
    request_body(
        content = ConnectorRequest,
        examples(
            ("profile" = (value = json!({"kind": "req", "id": "1", "type": "userprofile.SetUserProfile", "body": {"firstName": "Ann"}}))),
            ("account" = (value = json!({"kind": "req", "id": "2", "type": "brandprofile.GetBrandProfile", "body": {}}))),
            ("file" = (value = json!({"kind": "req", "id": "3", "type": "ms.GenerateURLForUploadFile", "body": {"fileSize": 9, "fileType": "PNG"}}))),
            ("who" = (value = json!({"kind": "req", "id": "4", "type": "userprofile.GetUserProfile", "body": {}})))
        ),
    ),
    responses(
        (
            status = 200, description = "What became of it.", body = ConnectorReply,
            headers(("idempotent-replayed" = Option<String>, description = "`true` for the answer of an earlier request."))
        ),
        ConnectorRefused,
    ),
)]
async fn send(
    State(native): State<Arc<Native>>,
    Path(account): Path<String>,
    Query(version): Query<VersionQuery>,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    match only_v3(&version) {
        Ok(()) => native.connector_call(connector::Call::Send, &account, &headers, &mut body).await,
        Err(error) => error::response(None, &error),
    }
}

/// CONVERSATION: the profile, the conversation, and perhaps its first events; all of them or none.
#[utoipa::path(
    post, path = "/api/account/{account}/messaging/consumer/conversation", operation_id = "conversation", tag = "connector",
    security(("app_jwt" = [], "consumer_jws" = [])),
    params(("account" = String, Path, description = "The account."), VersionQuery, Spoken),
    request_body(
        content = Vec<ConnectorRequest>,
        example = json!([
            {"kind": "req", "id": "1", "type": "userprofile.SetUserProfile", "body": {"firstName": "Ann"}},
            {"kind": "req", "id": "2", "type": "cm.ConsumerRequestConversation", "body": {"brandId": "demo"}},
            {"kind": "req", "id": "3", "type": "ms.PublishEvent", "body": {"dialogId": "", "event": {"type": "ContentEvent", "message": "hi"}}},
        ]),
    ),
    responses(
        (
            status = 200, description = "What became of each, in their order.", body = Vec<ConnectorReply>,
            headers(("idempotent-replayed" = Option<String>, description = "`true` for the answer of an earlier request."))
        ),
        ConnectorRefused,
    ),
)]
async fn conversation(
    State(native): State<Arc<Native>>,
    Path(account): Path<String>,
    Query(version): Query<VersionQuery>,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    match only_v3(&version) {
        Ok(()) => native.connector_call(connector::Call::Conversation, &account, &headers, &mut body).await,
        Err(error) => error::response(None, &error),
    }
}

fn only_v3(version: &VersionQuery) -> Result<(), Error> {
    match version.v.as_deref() {
        Some("3" | "3.0") => Ok(()),
        _ => Err(Error::fault(ErrorCode::NotFound, "this call has version 3 only; add ?v=3")),
    }
}

/// Too many attempts of one caller.
fn too_many(what: &'static str) -> Error {
    Error::fault(ErrorCode::TooMany, what)
}

/// The account and version in the address of an upgrade request.
struct Address<'p> {
    account: &'p str,
    bearer: Option<&'p str>,
    version: Option<String>,
}

impl<'p> Address<'p> {
    fn of(parts: &'p Parts) -> Self {
        // /ws_api/account/{account}/messaging/{side}/{bearer}
        let mut segments = parts.uri.path().split('/').skip(3);
        let account = segments.next().unwrap_or_default();
        let bearer = segments.nth(2);
        let query = parts.uri.query().unwrap_or_default().split('&');
        let version = query.filter_map(|pair| pair.strip_prefix("v=")).next().map(str::to_owned);
        Self { account, bearer, version }
    }
}

fn unknown_account(account: &str) -> Box<Response> {
    Box::new(error::response(None, &Error::fault(ErrorCode::NotFound, format!("there is no account {account:?}"))))
}

fn unknown_version(allowed: &str) -> Box<Response> {
    Box::new(error::response(None, &Error::fault(ErrorCode::NotFound, format!("this socket has no such version; {allowed}"))))
}

fn header<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    parts.headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

/// The socket of a consumer, v3: by its own token in the upgrade or in InitConnection, or opened by an application.
#[derive(Debug, Clone)]
pub struct ConsumerSocket(Arc<Native>);

impl Socket for ConsumerSocket {
    type Doorway = ConsumerDoorway;

    fn path(&self) -> &'static str {
        "/ws_api/account/{account}/messaging/consumer"
    }

    fn admit<'p>(&'p self, parts: &'p Parts) -> BoxFuture<'p, Result<Admission<ConsumerDoorway>, Box<Response>>> {
        Box::pin(async move {
            let address = Address::of(parts);
            if address.version.as_deref().is_some_and(|version| version != "3") {
                return Err(unknown_version("add ?v=3"));
            }
            let Some(account) = self.0.account(address.account) else { return Err(unknown_account(address.account)) };
            let id = account.id.clone();
            let client = header(parts, "client-properties").and_then(Client::read);
            if header(parts, "x-lp-on-behalf").or_else(|| header(parts, "lp-on-behalf")).is_some() {
                let spoken = connector::on_behalf(&self.0, &account, &parts.headers);
                let (actor, time) = spoken.map_err(|error| Box::new(error::response(None, &error)))?;
                let app = header(parts, "authorization").map(bare).unwrap_or_default();
                let lease = match &actor {
                    Actor::Consumer { app: Some(client), .. } => self.0.gateway.identity().app_lease(&id, client, app, time),
                    _ => self.0.gateway.identity().lease(app, time),
                };
                return Ok(Admission::Known(Box::new(self.0.consumer(id, actor, lease, Renewal::App, client))));
            }
            let Some(token) = header(parts, "authorization") else {
                return Ok(Admission::Unknown(ConsumerDoorway { native: self.0.clone(), account: id, client }));
            };
            match self.0.gateway.identity().check_sign_up(&account, bare(token)) {
                Ok(known) => {
                    let lease = self.0.gateway.identity().lease(bare(token), known.remaining);
                    self.0.welcome(&known);
                    Ok(Admission::Known(Box::new(self.0.consumer(id, known.actor, lease, Renewal::SignUp, client))))
                }
                Err(_) => Ok(Admission::Turned(CloseCode::Token, None)),
            }
        })
    }
}

/// The socket of an agent: v2 and v2.1, and v3 for one that asks for it.
#[derive(Debug, Clone)]
pub struct AgentSocket {
    native: Arc<Native>,
    path: &'static str,
}

impl Socket for AgentSocket {
    // Never met: an agent is known by the upgrade or not at all.
    type Doorway = ConsumerDoorway;

    fn path(&self) -> &'static str {
        self.path
    }

    fn admit<'p>(&'p self, parts: &'p Parts) -> BoxFuture<'p, Result<Admission<ConsumerDoorway>, Box<Response>>> {
        Box::pin(async move {
            let address = Address::of(parts);
            let version = match address.version.as_deref() {
                Some("2" | "2.0" | "2.1") => Version::V2,
                Some("3") => Version::V3,
                _ => return Err(unknown_version("add ?v=2.1 or ?v=3")),
            };
            let Some(account) = self.native.account(address.account) else { return Err(unknown_account(address.account)) };
            let bearer = address.bearer.or_else(|| header(parts, "authorization").map(bare)).unwrap_or_default();
            match self.native.gateway.identity().check_agent(&account, bearer).await {
                Ok((actor, lease)) => Ok(Admission::Known(Box::new(self.native.agent(account.id.clone(), actor, lease, version)))),
                // Clients look for the 401 and sign in again.
                Err(Denied::Invalid) => Err(Box::new(error::response(
                    None,
                    &Error::fault(ErrorCode::NotAuthenticated, "the bearer is not valid; sign in again"),
                ))),
                Err(Denied::Unavailable) => Err(Box::new(error::response(None, &Error::Unreadable))),
            }
        })
    }
}

/// The socket of an application, v3: it speaks for many consumers and hears of all it opened.
#[derive(Debug, Clone)]
pub struct ConnectorSocket(Arc<Native>);

impl Socket for ConnectorSocket {
    type Doorway = ConnectorDoorway;

    fn path(&self) -> &'static str {
        "/ws_api/account/{account}/messaging/connector"
    }

    fn admit<'p>(&'p self, parts: &'p Parts) -> BoxFuture<'p, Result<Admission<ConnectorDoorway>, Box<Response>>> {
        Box::pin(async move {
            let address = Address::of(parts);
            if address.version.as_deref() != Some("3") {
                return Err(unknown_version("add ?v=3"));
            }
            let Some(account) = self.0.account(address.account) else { return Err(unknown_account(address.account)) };
            let Some(token) = header(parts, "authorization") else {
                return Ok(Admission::Unknown(ConnectorDoorway { native: self.0.clone(), account: account.id.clone() }));
            };
            match self.0.gateway.identity().check_app(&account, bare(token)) {
                Ok(app) => Ok(Admission::Known(Box::new(self.0.connector(app, bare(token))))),
                Err(_) => Err(Box::new(error::response(None, &Error::fault(ErrorCode::InvalidAppJwt, "AppJWT is invalid")))),
            }
        })
    }
}

/// The address a request came from, for limits.
type Peer = ConnectInfo<SocketAddr>;

/// A reply without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
