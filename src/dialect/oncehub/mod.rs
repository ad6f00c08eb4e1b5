//! OnceHub's dialect: compatible with the conversation object of its API v2, and with its webhooks.
//!
//! - [`conversations`]: conversations and bookings; [`people`]: contacts and users; [`subscriptions`]: webhooks, and [`webhook`]
//!   what they carry;
//! - [`object`]: the objects as they are shown, [`expand`] what of their references, [`list`] how lists are cut into pages;
//! - [`error`]: how a call is refused; [`openapi`]: what the document says.
//!
//! The calls are at `/v2/…`. Each answer has a `Request-Id`.

mod conversations;
mod error;
mod expand;
mod list;
mod object;
mod openapi;
mod people;
mod subscriptions;
mod webhook;

use self::error::{Refused, flat};
use self::list::Asked;
use self::object::Scene;
use self::openapi::KeyRefused;
pub use self::subscriptions::Begin;
use self::subscriptions::Subscriptions;
use self::webhook::Told;
use crate::config::{Config, Dialect, LiveLimits};
use crate::delivery::Deliveries;
use crate::domain::Actor;
use crate::faults::Tenant;
use crate::gateway::Gateway;
use crate::identity::{Account, ApiKey};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use serde::Serialize;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The largest body.
const LARGEST: usize = 64 * 1024;

/// The dialect.
#[derive(Debug)]
pub struct OnceHub {
    gateway: Arc<Gateway>,
    public_url: String,
    limits: LiveLimits,
    subscriptions: Subscriptions,
}

/// Who calls.
#[derive(Debug, Clone)]
struct Caller(Arc<ApiKey>);

impl Caller {
    fn account(&self) -> &Arc<Account> {
        &self.0.account
    }

    fn actor(&self) -> &Actor {
        &self.0.actor
    }

    /// Whether it may change what holds for the account.
    fn may_manage(&self) -> Result<(), Refused> {
        if self.actor().is_manager() {
            return Ok(());
        }
        Err(Refused::of(StatusCode::FORBIDDEN, "this key acts as an agent who is no manager, and may not do this"))
    }
}

/// That a key is good.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Good {
    message: String,
}

impl OnceHub {
    /// Puts the dialect on the gateway.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, config: &Config, limits: LiveLimits, deliveries: &Deliveries) -> Arc<Self> {
        let render = Arc::new(Told(gateway.clone()));
        Arc::new(Self {
            subscriptions: Subscriptions::new(deliveries, &config.webhooks, config.allow_loopback_webhooks, render),
            public_url: config.server.public_url.clone(),
            limits,
            gateway,
        })
    }

    fn scene<'s>(&'s self, caller: &'s Caller) -> Scene<'s> {
        Scene { gateway: &self.gateway, account: caller.account(), actor: caller.actor() }
    }

    /// The HTTP calls.
    pub fn routes(self: &Arc<Self>) -> Router {
        let calls: Router = Self::calls().with_state(self.clone()).into();
        // Whoever asks with a wrong method is told so without a key.
        calls
            .route_layer(from_fn_with_state(self.clone(), authorised))
            .merge(anything("there is nothing at this path"))
            .layer(from_fn(finish))
    }

    /// What answers on the dialect's paths while it is switched off.
    pub fn switched_off() -> Router {
        anything("this dialect is off; add \"oncehub\" to server.dialects").layer(from_fn(finish))
    }

    fn calls() -> OpenApiRouter<Arc<Self>> {
        OpenApiRouter::with_openapi(openapi::about())
            .routes(routes!(test))
            .routes(routes!(conversations::list))
            .routes(routes!(conversations::one))
            .routes(routes!(conversations::booking))
            .routes(routes!(people::contacts))
            .routes(routes!(people::contact))
            .routes(routes!(people::users))
            .routes(routes!(people::user))
            .routes(routes!(subscriptions::list, subscriptions::create))
            .routes(routes!(subscriptions::one, subscriptions::delete))
    }
}

/// What the dialect's document says.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    OnceHub::calls().into_openapi()
}

/// All paths of the dialect, with one answer.
fn anything(why: &'static str) -> Router {
    let answer = move || async move { Refused::of(StatusCode::NOT_FOUND, why) };
    ["/v2", "/v2/", "/v2/{*rest}"].into_iter().fold(Router::new(), |routes, path| routes.route(path, axum::routing::any(answer)))
}

/// Lets in who shows a key, and says to whom it belongs.
async fn authorised(
    State(oncehub): State<Arc<OnceHub>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get("api-key").and_then(|value| value.to_str().ok());
    let key = match oncehub.gateway.identity().check_key(Dialect::OnceHub, given, peer.ip()) {
        Ok((key, _)) => key,
        Err(refused) => return Refused::from(refused).into_response(),
    };
    let (mut parts, mut body) = request.into_parts();
    if parts.method == Method::POST {
        // Nobody stalls here for longer than anywhere else.
        let time = oncehub.limits.load().body_timeout.0;
        body = match tokio::time::timeout(time, axum::body::to_bytes(body, LARGEST)).await {
            Ok(Ok(bytes)) => Body::from(bytes),
            Ok(Err(_)) => {
                return Refused::of(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {LARGEST} bytes")).into_response();
            }
            Err(_) => return Refused::bad("the body did not come in time").into_response(),
        };
    }
    let asked = Asked::of(&parts, &oncehub.public_url);
    let tenant = Tenant(key.account.id.clone());
    parts.extensions.insert(Caller(key));
    parts.extensions.insert(asked);
    request = Request::from_parts(parts, body);
    let mut response = next.run(request).await;
    response.extensions_mut().insert(tenant);
    response
}

/// Gives each answer a name, and each error the one form, be it of the router's or of a panic's making.
async fn finish(request: Request, next: Next) -> Response {
    static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = match answered {
        Ok(response) => flat(response).await,
        Err(_) => Refused::of(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response(),
    };
    let id = uuid::Uuid::new_v4().to_string();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(&REQUEST_ID, value);
    }
    tracing::debug!(request_id = id, status = response.status().as_u16(), "answered");
    response
}

/// Whether a key is good.
#[utoipa::path(get, path = "/v2/test", operation_id = "test", tag = "keys", responses((status = 200, description = "It is.", body = Good), KeyRefused))]
async fn test(axum::extract::Extension(caller): axum::extract::Extension<Caller>) -> axum::Json<Good> {
    let account = caller.account();
    let name = if account.name.is_empty() { account.id.as_str() } else { &account.name };
    axum::Json(Good { message: format!("This key is good for the account {name}") })
}
