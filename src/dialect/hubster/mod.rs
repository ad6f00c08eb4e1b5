//! Hubster's dialect: compatible with its Conversations API, that is identity, engine and the sending of Direct activities.
//!
//! - [`token`]: tokens; [`caller`]: who shows one, and what they may do;
//! - [`establish`]: conversations that are established, with [`profile`] who their customers are; [`conversations`]: those that are
//!   looked up;
//! - [`inbound`]: activities that are sent, [`interactions`]: those that are read, [`message`]: what they say;
//! - [`signalr`]: activities as they happen;
//! - [`object`]: the objects as they are shown; [`json`]: how requests are read; [`error`]: how they are refused;
//! - [`openapi`]: what the document says.

mod caller;
mod conversations;
mod error;
mod establish;
mod inbound;
mod interactions;
mod json;
mod message;
mod object;
mod openapi;
mod profile;
pub mod signalr;
mod token;

use self::error::{Code, Fault, in_our_words};
use crate::config::{Config, LiveLimits};
use crate::gateway::Gateway;
use crate::throttle::Throttle;
use axum::Router;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The dialect.
#[derive(Debug)]
pub struct Hubster {
    gateway: Arc<Gateway>,
    public_url: String,
    limits: LiveLimits,
    /// Origins of pages that may call, beside those that integrations name.
    origins: Vec<String>,
    /// Tokens that are asked for by web pages, and calls of visitors, by address.
    visitors: Throttle,
}

impl Hubster {
    /// Puts the dialect on the gateway.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, config: &Config, limits: LiveLimits) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            public_url: config.server.public_url.clone(),
            origins: config.server.allowed_origins.clone(),
            visitors: Throttle::per_minute(config.limits.token_calls_per_minute),
            limits,
        })
    }

    /// The HTTP calls.
    pub fn routes(self: &Arc<Self>) -> Router {
        let calls: Router = Self::calls().with_state(self.clone()).into();
        let open: Router = Self::open_calls().with_state(self.clone()).into();
        let this = self.clone();
        let origins = AllowOrigin::predicate(move |origin, parts| this.is_allowed(origin, parts));
        let cors = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER, interactions::NEXT])
            .allow_credentials(true);
        calls
            .route_layer(from_fn_with_state(self.clone(), caller::admit))
            .merge(open)
            // Behind the layer: which methods there are is no secret.
            .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED)
            .merge(anything("There is nothing at this path."))
            .layer(from_fn(finish))
            .layer(cors)
    }

    /// What answers on the dialect's paths while it is switched off.
    pub fn switched_off() -> Router {
        anything("This dialect is off; add \"hubster\" to server.dialects.").layer(from_fn(finish))
    }

    /// Forgets callers that have been quiet. Call it now and then.
    pub fn tidy(&self) {
        self.visitors.tidy();
    }

    fn calls() -> OpenApiRouter<Arc<Self>> {
        OpenApiRouter::with_openapi(openapi::about())
            .routes(routes!(establish::establish))
            .routes(routes!(conversations::one))
            .routes(routes!(conversations::established))
            .routes(routes!(conversations::of_hub))
            .routes(routes!(inbound::customer))
            .routes(routes!(inbound::web_chat))
            .routes(routes!(inbound::business_activity))
            .routes(routes!(interactions::activities))
    }

    /// Calls without a token, or with one that need not be a header.
    fn open_calls() -> OpenApiRouter<Arc<Self>> {
        OpenApiRouter::with_openapi(openapi::about())
            .routes(routes!(token::connect))
            .routes(routes!(token::web_chat))
            .routes(routes!(signalr::negotiate))
    }

    /// Whether a page of an origin may call: one that is allowed everywhere, or that any integration names. Which of the integrations
    /// it may use, the token says.
    fn is_allowed(&self, origin: &HeaderValue, parts: &Parts) -> bool {
        let names = |known: &String| *origin == known.as_str();
        let accounts = || self.gateway.identity().directory().accounts();
        crate::dialect::origin::is_allowed_origin(&parts.headers, &self.origins)
            || accounts().iter().any(|account| {
                account.things().integrations.live().iter().any(|integration| integration.thing.allowed_origins.iter().any(names))
            })
    }

    /// Counts something that a web page does.
    fn throttled(&self, what: &str, address: IpAddr) -> Result<(), Fault> {
        self.visitors.set(self.limits.load().token_calls_per_minute);
        self.visitors.check(what, address).map_err(Fault::many)
    }
}

/// What the dialect's document says.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Hubster::calls().merge(Hubster::open_calls()).into_openapi()
}

/// All paths of the dialect, with one answer.
fn anything(why: &'static str) -> Router {
    let answer = move || async move { Fault::new(Code::NotFound, why) };
    let paths = ["/connect", "/connect/{*rest}", "/api/v1", "/api/v1/{*rest}", "/inbound", "/inbound/{*rest}", "/engine-chat-hub/{*rest}"];
    paths.into_iter().fold(Router::new(), |routes, path| routes.route(path, axum::routing::any(answer)))
}

/// Gives each error the one form, be it of the router's or of a panic's making.
async fn finish(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => in_our_words(response).await,
        Err(_) => Fault::internal().into_response(),
    }
}
