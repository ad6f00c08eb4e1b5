//! UltraCart's Conversation API, on the conversations that connectors and agents have.
//!
//! - [`caller`]: who calls, by which key, and what is read of a request; [`error`]: refusals;
//! - [`oauth`]: tokens, for programs that agents let act for them;
//! - [`arn`]: what people and conversations are called; [`model`]: conversations, messages and participants as they are shown;
//! - [`conversations`]: lists, beginnings, one conversation and its messages; [`part`]: who comes, goes and reads; [`agent`]: what an
//!   agent is told of itself, and where it puts files; [`queues`]: who waits, and who is there;
//! - [`socket`]: what an agent hears of its account, and says; [`frames`]: how.
//!
//! The calls are under `/rest/v2`. Two generations of clients read each answer: what the older ones look for stands beside what the newer
//! ones do.

mod agent;
mod arn;
mod caller;
mod conversations;
mod error;
mod frames;
mod model;
mod oauth;
mod part;
mod queues;
mod socket;

use self::error::{Envelope, Fault, Nothing, in_our_words, internal};
pub use self::socket::AgentSocket;
use crate::config::{Config, LiveLimits};
use crate::gateway::Gateway;
use crate::throttle::Throttle;
use axum::http::StatusCode;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::IntoResponse;
use axum::routing::any;
use axum::{Extension, Json, Router};
use serde::Serialize;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;

/// The path of the agents' socket.
const SOCKET: &str = "/rest/v2/conversation/ws";

/// The dialect.
#[derive(Debug)]
pub struct UltraCart {
    gateway: Arc<Gateway>,
    limits: LiveLimits,
    public_url: String,
    /// Attempts to sign in, and calls for tokens.
    logins: Throttle,
    token_calls: Throttle,
}

/// A success of which there is no more to say.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    /// `true`.
    success: bool,
    metadata: Nothing,
}

/// It is done.
fn done() -> Json<Done> {
    Json(Done { success: true, metadata: Nothing {} })
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "UltraCart-compatible calls",
        description = "The Conversation API of UltraCart, on this gateway's conversations. Each refusal has `success` false, an `error` \
            and the header `UC-REST-ERROR`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Envelope, oauth::Said)),
    security(("ultraCartSimpleApiKey" = []), ("ultraCartOauth" = [])),
    modifiers(&Scheme),
    tags(
        (name = "agents", description = "What an agent is told of itself, and where it puts files."),
        (name = "conversations", description = "Conversations: listed, begun, shown, joined, left, read."),
        (name = "oauth", description = "Tokens for programs that agents let act for them."),
        (name = "queues", description = "Who waits, and which agents are there."),
    ),
)]
struct About;

/// How callers say who they are.
struct Scheme;

impl Modify for Scheme {
    fn modify(&self, api: &mut Document) {
        let key = ApiKeyValue::with_description(caller::SIMPLE_KEY, "A key of the account. Blanks around it do not matter.");
        let components = api.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An access token.")).build();
        components.add_security_scheme("ultraCartOauth", SecurityScheme::Http(bearer));
        components.add_security_scheme("ultraCartSimpleApiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
}

/// The calls of whoever has a key or a token.
fn calls() -> OpenApiRouter {
    let parts = [agent::calls(), conversations::calls(), part::calls(), queues::calls()];
    parts.into_iter().fold(OpenApiRouter::with_openapi(About::openapi()), OpenApiRouter::merge)
}

/// What the document of these calls says.
#[must_use]
pub fn openapi() -> Document {
    calls().merge(oauth::calls()).into_openapi()
}

impl UltraCart {
    /// Puts the dialect on the gateway.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, config: &Config, limits: LiveLimits) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            limits,
            public_url: config.server.public_url.clone(),
            logins: Throttle::per_minute(config.limits.logins_per_minute),
            token_calls: Throttle::per_minute(config.limits.token_calls_per_minute),
        })
    }

    /// The calls.
    pub fn routes(self: &Arc<Self>) -> Router {
        // The layer is around the calls alone: who wants a token has none yet.
        Router::from(calls())
            .route_layer(from_fn_with_state(self.clone(), caller::admit))
            .merge(Router::from(oauth::calls()).layer(Extension(self.clone())))
            // Behind the layer: which methods there are is no secret.
            .method_not_allowed_fallback(async || Fault::of(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method"))
            .merge(anything("there is nothing at this path"))
            .layer(map_response(in_our_words))
            .layer(CatchPanicLayer::custom(|_| internal()))
    }

    /// What answers on the dialect's paths while it is switched off.
    pub fn switched_off() -> Router {
        anything("this dialect is off; add \"ultracart\" to server.dialects")
    }
}

/// All paths of the dialect, with one answer. Two of the vendor's that are not served would else be taken for conversations.
fn anything(why: &'static str) -> Router {
    let answer = move || async move { Fault::missing(why).into_response() };
    let unserved = ["search", "autocomplete"].map(|name| format!("/rest/v2/conversation/conversations/{name}"));
    let all = ["/rest/v2", "/rest/v2/", "/rest/v2/{*rest}"].into_iter().map(str::to_owned).chain(unserved);
    all.fold(Router::new(), |routes, path| routes.route(&path, any(answer)))
}
