//! Dixa's Conversations API, on the conversations that connectors and agents have.
//!
//! - [`caller`]: who calls, by which key, in whose name; [`input`]: bodies, dates; [`error`]: refusals; [`page`]: long lists;
//! - [`conversation`]: a conversation as it is shown; [`message`] and [`attachment`]: what is said in it;
//! - [`create`] and [`import`] begin conversations, [`state`] moves them, [`messages`] and [`notes`] add to them, [`link`] joins them,
//!   [`tags`] and [`attributes`] mark them, [`ratings`] rate them, [`anonymize`] takes away what was said;
//! - [`activity`]: what happened in them; [`search`]: where something was said; [`setup`], [`agents`] and [`end_users`]: what and who there is.
//!
//! Numbers of conversations are those of the account; everybody and everything else goes by UUIDs ([`super::ids`]). Each call
//! stands in the document that [`openapi`] makes: router and document are made of the same words.

mod activity;
mod agents;
mod anonymize;
mod attachment;
mod attributes;
mod caller;
mod conversation;
mod create;
mod end_users;
mod error;
mod import;
mod input;
mod link;
mod message;
mod messages;
mod notes;
mod page;
mod ratings;
mod search;
mod setup;
mod state;
mod tags;

use self::error::{Fault, in_our_words, internal};
use crate::config::{Config, LiveLimits};
use crate::gateway::Gateway;
use crate::search::Search;
use crate::store::Decided;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;

/// The dialect.
#[derive(Debug)]
pub struct Dixa {
    gateway: Arc<Gateway>,
    search: Search,
    limits: LiveLimits,
    public_url: String,
}

/// A success: what was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct Data<T: ToSchema> {
    data: T,
}

/// A success of a call that changes something, as it is told.
#[derive(Debug)]
struct Answer<T> {
    status: StatusCode,
    data: Option<T>,
    /// Whether this is the answer to an earlier request of the same key.
    replayed: bool,
}

impl<T> Answer<T> {
    fn new(status: StatusCode, data: T) -> Self {
        Self { status, data: Some(data), replayed: false }
    }

    fn replayed(self, replayed: bool) -> Self {
        Self { replayed, ..self }
    }
}

impl Answer<()> {
    /// It is done, and there is nothing to say of it.
    fn done(decided: &Decided) -> Self {
        Self { status: StatusCode::NO_CONTENT, data: None, replayed: decided.replayed }
    }
}

impl<T: Serialize + ToSchema> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let mut response = match self.data {
            Some(data) => (self.status, Json(Data { data })).into_response(),
            None => self.status.into_response(),
        };
        if self.replayed {
            response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Dixa-compatible calls",
        description = "The Conversations API of Dixa, on this gateway's conversations. Every refusal is one object with a `message`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    security(("ApiKeyAuth" = [])),
    modifiers(&Scheme),
    tags(
        (name = "conversations", description = "Conversations: begun, moved, linked, shown."),
        (name = "messages", description = "What is said in them."),
        (name = "notes", description = "What agents note about them."),
        (name = "tags", description = "Words that they are marked with."),
        (name = "attributes", description = "What custom attributes say of them."),
        (name = "ratings", description = "How end users rate them."),
        (name = "anonymization", description = "What was said in them, taken away."),
        (name = "activity", description = "What happened in them."),
        (name = "search", description = "Conversations by what was said in them."),
        (name = "users", description = "Agents and end users."),
        (name = "directory", description = "What else the account has set up."),
    ),
)]
struct About;

/// How callers say who they are.
struct Scheme;

impl Modify for Scheme {
    fn modify(&self, api: &mut Document) {
        let key = ApiKeyValue::with_description("Authorization", "The key, as it is or behind `Bearer `.");
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("ApiKeyAuth", SecurityScheme::ApiKey(ApiKey::Header(key)));
        components.schemas.extend([error::schema()]);
    }
}

/// The calls, as they belong together.
fn parts() -> Vec<OpenApiRouter> {
    let conversations =
        [conversation::calls(), create::calls(), import::calls(), state::calls(), messages::calls(), notes::calls(), link::calls()];
    let about_them = [tags::calls(), attributes::calls(), ratings::calls(), anonymize::calls(), activity::calls(), search::calls()];
    let directory = [setup::calls(), agents::calls(), end_users::calls()];
    conversations.into_iter().chain(about_them).chain(directory).collect()
}

/// All calls.
fn calls() -> OpenApiRouter {
    parts().into_iter().fold(OpenApiRouter::with_openapi(About::openapi()), OpenApiRouter::merge)
}

/// What the document of these calls says.
#[must_use]
pub fn openapi() -> Document {
    calls().into_openapi()
}

impl Dixa {
    /// Puts the dialect on the gateway.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, search: Search, config: &Config, limits: LiveLimits) -> Arc<Self> {
        Arc::new(Self { gateway, search, limits, public_url: config.server.public_url.clone() })
    }

    /// The calls.
    pub fn routes(self: &Arc<Self>) -> Router {
        let nothing = || async { Fault::missing("there is nothing at this path") };
        Router::from(calls())
            .route_layer(from_fn_with_state(self.clone(), caller::admit))
            // Behind the layer: which methods there are is no secret.
            .method_not_allowed_fallback(async || Fault::of(StatusCode::METHOD_NOT_ALLOWED, ""))
            .route("/v1", any(nothing))
            .route("/v1/{*rest}", any(nothing))
            .layer(map_response(in_our_words))
            .layer(CatchPanicLayer::custom(|_| internal()))
    }

    /// What answers on the dialect's paths while it is switched off.
    pub fn switched_off() -> Router {
        let off = || async { Fault::missing("this dialect is off; add \"dixa\" to server.dialects").into_response() };
        Router::new().route("/v1", any(off)).route("/v1/{*rest}", any(off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The document has one place for each name.
    #[test]
    fn no_two_schemas_have_one_name() {
        let mut known = BTreeMap::new();
        for part in parts() {
            let components = part.into_openapi().components.unwrap_or_default();
            for (name, schema) in components.schemas {
                let schema = serde_json::to_value(schema).unwrap();
                assert_eq!(known.entry(name.clone()).or_insert_with(|| schema.clone()), &schema, "{name}");
            }
        }
        assert!(known.len() > 60, "{}", known.len());
    }
}
