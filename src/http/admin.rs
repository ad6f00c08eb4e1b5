//! What operators and, on a double for tests, integrators may do: `/admin/v1`, by the admin key.

use super::say;
use crate::delivery::Deliveries;
use crate::faults::Wanted;
use crate::gateway::Gateway;
use crate::identity::Account;
use crate::openapi::{ByBearer, Sentence, refusals};
use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::CloseCode;
use tieline_protocol::ids::AccountId;
use utoipa::openapi::OpenApi as Document;
use utoipa::{IntoParams, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Longest that a reply may be held back: below the time after which a client gives up.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What `/admin` asks for; none switches it off. A reload may replace it.
pub type AdminKey = Arc<ArcSwapOption<SecretString>>;

/// Reloads the configuration: what then is said, or why nothing was changed.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Operations and administration",
        description = "Health, version and metrics, for anybody who reaches the listener; and what operators see and do, by the admin key.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Sentence)),
    modifiers(&ByBearer),
    security(("bearer" = [])),
    tags(
        (name = "operations", description = "How the gateway is, and its configuration."),
        (name = "people", description = "Accounts, conversations, sessions and consumers, without a word of what was said."),
        (name = "things", description = "What an account has: tags, attributes, flows, websites and the like, and its default queue."),
        (name = "facts", description = "What no surface writes of a conversation."),
        (name = "faults", description = "What goes wrong on demand, on a double for tests."),
    ),
)]
struct About;

refusals! {
    /// Whoever has not the key.
    Denied {
        400: "The path or the query cannot be read, or names what cannot be.",
        401: "The admin key is missing, or another.",
        404: "There is no such thing; or there is no admin key, and all of this is off.",
    }
}

refusals! {
    /// A body that cannot be taken.
    TooLarge { 413: "The body is too large." }
}

/// The admin's calls.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) gateway: Arc<Gateway>,
    pub(super) deliveries: Deliveries,
    key: AdminKey,
    reload: Option<Reload>,
}

impl Admin {
    /// The routes. Without a key each of them says that it is off.
    pub(super) fn routes(gateway: Arc<Gateway>, deliveries: Deliveries, key: AdminKey, reload: Option<Reload>) -> Router {
        let admin = Self { gateway, deliveries, key, reload };
        let authorised = axum::middleware::from_fn_with_state(admin.clone(), authorised);
        Self::calls().layer(authorised).with_state(admin).into()
    }

    fn calls() -> OpenApiRouter<Self> {
        OpenApiRouter::with_openapi(About::openapi())
            .routes(routes!(reload_now))
            .routes(routes!(faults, set_faults, clear_faults))
            .routes(routes!(super::trace::trace))
            .merge(super::operate::calls())
            .merge(super::things::calls())
            .merge(super::facts::calls())
    }

    /// What their document says.
    pub(super) fn openapi() -> Document {
        Self::calls().into_openapi()
    }

    /// The account that a call names.
    pub(super) fn tenant(&self, id: Option<&str>) -> Result<Arc<Account>, Box<Response>> {
        let id = id.ok_or_else(|| Box::new(say(StatusCode::BAD_REQUEST, "account is missing")))?;
        let known = self.gateway.identity().directory().account(id);
        known.ok_or_else(|| Box::new(say(StatusCode::NOT_FOUND, "there is no such account")))
    }

    fn account(&self, id: Option<&str>) -> Result<AccountId, Box<Response>> {
        self.tenant(id).map(|account| account.id.clone())
    }
}

async fn authorised(State(admin): State<Admin>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.strip_prefix("Bearer ").unwrap_or_default();
    let is_right = match admin.key.load().as_ref() {
        None => return say(StatusCode::NOT_FOUND, "/admin is off; set internal.admin_key"),
        Some(key) => crate::identity::same(key.expose_secret(), given),
    };
    if !is_right {
        return say(StatusCode::UNAUTHORIZED, "send the admin key as `Authorization: Bearer …`");
    }
    next.run(request).await
}

/// Makes a change to its end, also when who asked for it hangs up: half of it must not be all of it.
pub(super) async fn to_the_end(change: impl Future<Output = Response> + Send + 'static) -> Response {
    tokio::spawn(change).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change by an operator did not end");
        say(StatusCode::INTERNAL_SERVER_ERROR, "internal error; look whether the change holds")
    })
}

/// A reload that was done.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reloaded {
    /// `reloaded`.
    status: &'static str,
    /// What has changed, and what would need a start.
    detail: String,
}

/// Reads the configuration again, and applies what can change while running: all of it or nothing.
#[utoipa::path(
    post, path = "/admin/v1/reload", operation_id = "reload", tag = "operations",
    responses(
        (status = 200, description = "It holds.", body = Reloaded), Denied,
        (status = 409, description = "Nothing was changed; the sentence says why.", body = Sentence),
    ),
)]
async fn reload_now(State(admin): State<Admin>) -> Response {
    let Some(reload) = &admin.reload else {
        return say(StatusCode::CONFLICT, "this gateway was started without a configuration that could be read again");
    };
    let reloaded = reload();
    to_the_end(async move {
        match reloaded.await {
            Ok(said) => axum::Json(Reloaded { status: "reloaded", detail: said }).into_response(),
            Err(why) => say(StatusCode::CONFLICT, &why),
        }
    })
    .await
}

/// What to let go wrong, as it is asked for. Members that are absent change nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FaultsWanted)]
struct Asked {
    /// The account.
    #[schema(value_type = String)]
    account: Option<String>,
    /// How many of the next replies are not sent.
    drop_replies: Option<u32>,
    /// How long replies are held back, such as `250ms`; at most 60 s.
    delay_replies: Option<String>,
    /// How many of the next webhooks are sent twice.
    double_webhooks: Option<u32>,
    /// Close every socket of the account now, with this code.
    close_sockets: Option<u16>,
    /// Make this token worthless now.
    expire_token: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The account.
    #[param(required = true)]
    account: Option<String>,
}

/// What goes wrong.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Faults)]
struct Shown {
    #[schema(value_type = String)]
    account: AccountId,
    drop_replies: u32,
    delay_replies: Option<String>,
    double_webhooks: u32,
    /// How many sockets were closed, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_sockets: Option<usize>,
    /// How many sessions a token was good for that is worthless now, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_token: Option<usize>,
}

fn shown(account: &AccountId, wanted: Wanted) -> Shown {
    Shown {
        account: account.clone(),
        drop_replies: wanted.drop_replies,
        delay_replies: wanted.delay.map(|delay| format!("{}ms", delay.as_millis())),
        double_webhooks: wanted.double_webhooks,
        closed_sockets: None,
        expired_token: None,
    }
}

/// What goes wrong for an account.
#[utoipa::path(
    get, path = "/admin/v1/faults", operation_id = "faults_get", tag = "faults", params(Which),
    responses((status = 200, description = "What was asked for.", body = Shown), Denied),
)]
async fn faults(State(admin): State<Admin>, Query(which): Query<Which>) -> Response {
    match admin.account(which.account.as_deref()) {
        Ok(account) => axum::Json(shown(&account, admin.gateway.faults().wanted(&account))).into_response(),
        Err(response) => *response,
    }
}

/// Lets nothing go wrong any more for an account.
#[utoipa::path(
    delete, path = "/admin/v1/faults", operation_id = "faults_clear", tag = "faults", params(Which),
    responses((status = 204, description = "Nothing goes wrong."), Denied),
)]
async fn clear_faults(State(admin): State<Admin>, Query(which): Query<Which>) -> Response {
    match admin.account(which.account.as_deref()) {
        Ok(account) => {
            admin.gateway.faults().want(&account, Wanted::default());
            StatusCode::NO_CONTENT.into_response()
        }
        Err(response) => *response,
    }
}

/// Lets things go wrong for an account, or closes its sockets, or ends a token.
#[utoipa::path(
    post, path = "/admin/v1/faults", operation_id = "faults_set", tag = "faults",
    request_body(content = Asked, example = json!({"account": "demo", "doubleWebhooks": 1})),
    responses(
        (status = 200, description = "What goes wrong now.", body = Shown), Denied, TooLarge,
        (status = 409, description = "This is no double for tests.", body = Sentence),
    ),
)]
async fn set_faults(State(admin): State<Admin>, body: Bytes) -> Response {
    if !admin.gateway.faults().is_on() {
        return say(StatusCode::CONFLICT, "faults happen on a double for tests only; start it with `tieline serve --dev`");
    }
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return say(StatusCode::BAD_REQUEST, &format!("the body is not understood: {error}")),
    };
    match set(&admin, &asked) {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(response) => *response,
    }
}

fn set(admin: &Admin, asked: &Asked) -> Result<Shown, Box<Response>> {
    let bad = |reason: &str| Box::new(say(StatusCode::BAD_REQUEST, reason));
    let account = admin.account(asked.account.as_deref())?;
    let faults = admin.gateway.faults();
    let mut wanted = faults.wanted(&account);
    wanted.drop_replies = asked.drop_replies.unwrap_or(wanted.drop_replies);
    wanted.double_webhooks = asked.double_webhooks.unwrap_or(wanted.double_webhooks);
    if let Some(delay) = &asked.delay_replies {
        wanted.delay = match delay.as_str() {
            "" | "0" | "0ms" | "0s" => None,
            text => Some(text.parse::<crate::config::Span>().map_err(|reason| bad(&reason))?.0),
        };
        if wanted.delay.is_some_and(|delay| delay > LONGEST_DELAY) {
            return Err(bad("delayReplies is at most 60s"));
        }
    }
    let code = asked.close_sockets;
    if code.is_some_and(|code| !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)) {
        return Err(bad("closeSockets must be a code that may stand in a close frame: 1000 to 1003, 1007 to 1014, 3000 to 4999"));
    }
    faults.want(&account, wanted);
    let closed = code.map(|code| admin.gateway.hub().close_all(&account, CloseCode::OnDemand(code)));
    let expired = asked.expire_token.as_ref().map(|token| admin.gateway.identity().expire(token));
    if closed.is_some() || expired.is_some() {
        tracing::warn!(%account, ?code, ?closed, ?expired, "fault: sockets are closed, or a token expires");
    }
    Ok(Shown { closed_sockets: closed, expired_token: expired, ..shown(&account, wanted) })
}
