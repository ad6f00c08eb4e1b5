//! What an operator sees and does about an account's tags, attributes, contact endpoints, flows, websites, audiences, bots, hubs,
//! integrations, and its default queue: `/admin/v1/accounts/{account}/{kind}`.

use super::admin::{Admin, Denied, TooLarge, to_the_end};
use super::say;
use super::webhooks::told;
use crate::identity::{Account, Kept, Shelved, ThingError};
use crate::openapi::{AnyObject, refusals};
use crate::things::{Attribute, Audience, Bot, ContactEndpoint, Flow, Hub, Integration, Kind, Tag, Thing, ThingId, Website};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tieline_protocol::ids::QueueId;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn calls() -> OpenApiRouter<Admin> {
    OpenApiRouter::default()
        .routes(routes!(default_queue, set_default_queue, unset_default_queue))
        .routes(routes!(list, create))
        .routes(routes!(one, replace, patch, remove))
}

refusals! {
    /// A change that is not made.
    Unchanged {
        409: "The name is another's, the thing is needed, or there are too many.",
        412: "It has another revision by now.",
        503: "The store did not confirm the change; look whether it holds, and try again.",
    }
}

/// A thing of a kind, as it is shown: what it is, and what is known of it.
struct ShownThing;

impl PartialSchema for ShownThing {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        ObjectBuilder::new()
            .description(Some("A thing: the members of its kind, and these."))
            .property("id", text())
            .property("source", text().description(Some("Whether the file has it so, it was changed while running, or it was made so.")))
            .property("revision", ObjectBuilder::new().schema_type(Type::Integer))
            .property("created", text())
            .property("updated", text())
            .property("deleted", ObjectBuilder::new().schema_type(Type::Boolean))
            .required("id")
            .required("source")
            .required("revision")
            .required("created")
            .required("updated")
            .into()
    }
}

impl ToSchema for ShownThing {
    fn name() -> std::borrow::Cow<'static, str> {
        "Thing".into()
    }
}

/// The queue of those who are sent to none.
#[derive(ToSchema)]
#[expect(dead_code, reason = "put together by hand in one place; here it is described")]
struct DefaultQueue {
    queue: String,
    revision: u64,
    /// The queue that was set, if it is not there any more.
    missing: Option<String>,
    source: Option<String>,
    created: Option<String>,
    updated: Option<String>,
}

/// Of what kind, and whose.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read as parts of the path; here it is described")]
struct OfKind {
    /// The account.
    account: String,
    /// `tags`, `attributes`, `contact-endpoints`, `flows`, `websites`, `audiences`, `bots`, `hubs` or `integrations`.
    kind: String,
}

/// Which of them.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read as a part of the path; here it is described")]
struct NamedThing {
    /// The thing's id.
    id: String,
}

/// To which revision a change is made.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read from the headers; here it is described")]
struct AtRevision {
    /// The `ETag` of an earlier answer; nothing, or `*`: whichever it is.
    #[param(rename = "if-match")]
    if_match: Option<String>,
}

type Answer = Result<Response, Box<Response>>;

fn either(answer: Answer) -> Response {
    answer.unwrap_or_else(|response| *response)
}

fn refuse(status: StatusCode, why: &str) -> Box<Response> {
    Box::new(say(status, why))
}

fn refused(error: &ThingError) -> Box<Response> {
    match error {
        ThingError::NotFound => refuse(StatusCode::NOT_FOUND, &error.to_string()),
        ThingError::Invalid(_) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        ThingError::Taken(_) | ThingError::Needed(_) | ThingError::TooMany => refuse(StatusCode::CONFLICT, &error.to_string()),
        ThingError::OtherRevision(_) => refuse(StatusCode::PRECONDITION_FAILED, &error.to_string()),
        ThingError::Store(_) => {
            let why = "the store did not confirm the change; look whether it holds, and try again";
            refuse(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}

/// A thing with what is known of it.
fn shown<T: Thing>(kept: &Kept<T>) -> Map<String, Value> {
    let mut all = match serde_json::to_value(&kept.thing) {
        Ok(Value::Object(members)) => members,
        // Things are objects.
        _ => Map::new(),
    };
    all.insert("id".into(), json!(kept.id));
    all.insert("source".into(), json!(kept.source()));
    all.insert("revision".into(), json!(kept.revision));
    all.insert("created".into(), json!(told(kept.created)));
    all.insert("updated".into(), json!(told(kept.updated)));
    if kept.is_deleted {
        all.insert("deleted".into(), Value::from(true));
    }
    all
}

fn tagged(status: StatusCode, revision: u64, body: Value) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn reply<T: Thing>(status: StatusCode, kept: &Kept<T>) -> Response {
    tagged(status, kept.revision, Value::Object(shown(kept)))
}

/// The revision that a change is to be made to, if it names one.
fn named_revision(headers: &HeaderMap) -> Result<Option<u64>, Box<Response>> {
    let Some(named) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = named.to_str().unwrap_or_default();
    match text {
        "*" => Ok(None),
        text => {
            let number = text.trim_matches('"').parse();
            number.map(Some).map_err(|_| refuse(StatusCode::BAD_REQUEST, "If-Match must be the ETag of an earlier answer, such as \"3\""))
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| refuse(StatusCode::BAD_REQUEST, &format!("the body is not understood: {error}")))
}

fn no_such_kind(name: &str) -> Box<Response> {
    let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    refuse(StatusCode::NOT_FOUND, &format!("there is nothing called {name:?}; there are {}", kinds.join(", ")))
}

/// Does with the type of a kind what it does with each.
macro_rules! by_kind {
    ($name:expr, $kind:ident => $does:expr) => {
        match Kind::parse($name) {
            Some(Kind::Tags) => {
                type $kind = Tag;
                $does
            }
            Some(Kind::Attributes) => {
                type $kind = Attribute;
                $does
            }
            Some(Kind::ContactEndpoints) => {
                type $kind = ContactEndpoint;
                $does
            }
            Some(Kind::Flows) => {
                type $kind = Flow;
                $does
            }
            Some(Kind::Websites) => {
                type $kind = Website;
                $does
            }
            Some(Kind::Audiences) => {
                type $kind = Audience;
                $does
            }
            Some(Kind::Bots) => {
                type $kind = Bot;
                $does
            }
            Some(Kind::Hubs) => {
                type $kind = Hub;
                $does
            }
            Some(Kind::Integrations) => {
                type $kind = Integration;
                $does
            }
            // It has an address of its own.
            Some(Kind::DefaultQueue) | None => Err(no_such_kind($name)),
        }
    };
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Those that were deleted, instead of those that there are.
    #[serde(default)]
    deleted: bool,
}

/// Things of a kind.
#[utoipa::path(
    get, path = "/admin/v1/accounts/{account}/{kind}", operation_id = "things_list", tag = "things",
    params(OfKind, Which),
    responses((status = 200, description = "All of them.", body = Vec<ShownThing>), Denied),
)]
async fn list(State(admin): State<Admin>, Path((account, kind)): Path<(String, String)>, Query(which): Query<Which>) -> Response {
    let listed = admin.tenant(Some(&account)).and_then(|account| by_kind!(&kind, T => Ok(all::<T>(&account, which.deleted))));
    either(listed)
}

fn all<T: Shelved>(account: &Account, is_deleted: bool) -> Response {
    let shelf = T::shelf(account.things());
    let all: Vec<_> = if is_deleted {
        shelf.deleted().iter().map(|kept| shown(kept)).collect()
    } else {
        shelf.live().iter().map(|kept| shown(kept)).collect()
    };
    axum::Json(all).into_response()
}

/// Makes a thing.
#[utoipa::path(
    post, path = "/admin/v1/accounts/{account}/{kind}", operation_id = "things_create", tag = "things",
    params(OfKind),
    request_body(content = AnyObject, description = "The members of its kind.", example = json!({"name": "urgent"})),
    responses((status = 201, description = "The thing.", body = ShownThing), Denied, TooLarge, Unchanged),
)]
async fn create(State(admin): State<Admin>, Path((account, kind)): Path<(String, String)>, body: Bytes) -> Response {
    to_the_end(async move {
        either(match admin.tenant(Some(&account)) {
            Ok(account) => by_kind!(&kind, T => admin.create::<T>(&account, &body).await),
            Err(response) => Err(response),
        })
    })
    .await
}

/// One thing.
#[utoipa::path(
    get, path = "/admin/v1/accounts/{account}/{kind}/{id}", operation_id = "things_get", tag = "things",
    params(OfKind, NamedThing),
    responses((status = 200, description = "The thing.", body = ShownThing), Denied),
)]
async fn one(State(admin): State<Admin>, Path((account, kind, id)): Path<(String, String, String)>) -> Response {
    either(admin.tenant(Some(&account)).and_then(|account| by_kind!(&kind, T => found::<T>(&account, &id))))
}

fn found<T: Shelved>(account: &Account, id: &str) -> Answer {
    let kept = id.parse().ok().and_then(|id| T::shelf(account.things()).resolve(id));
    kept.map(|kept| reply(StatusCode::OK, &kept)).ok_or_else(|| refused(&ThingError::NotFound))
}

/// Says anew what a thing is.
#[utoipa::path(
    put, path = "/admin/v1/accounts/{account}/{kind}/{id}", operation_id = "things_replace", tag = "things",
    params(OfKind, NamedThing, AtRevision),
    request_body(content = AnyObject, description = "The members of its kind."),
    responses((status = 200, description = "The thing.", body = ShownThing), Denied, TooLarge, Unchanged),
)]
async fn replace(admin: State<Admin>, path: Path<(String, String, String)>, headers: HeaderMap, body: Bytes) -> Response {
    change(admin, path, Method::PUT, headers, body).await
}

/// Changes members of a thing: those that are null are removed.
#[utoipa::path(
    patch, path = "/admin/v1/accounts/{account}/{kind}/{id}", operation_id = "things_change", tag = "things",
    params(OfKind, NamedThing, AtRevision),
    request_body(content = AnyObject, description = "The members of its kind."),
    responses((status = 200, description = "The thing.", body = ShownThing), Denied, TooLarge, Unchanged),
)]
async fn patch(admin: State<Admin>, path: Path<(String, String, String)>, headers: HeaderMap, body: Bytes) -> Response {
    change(admin, path, Method::PATCH, headers, body).await
}

/// Deletes a thing. It is shown among those that were.
#[utoipa::path(
    delete, path = "/admin/v1/accounts/{account}/{kind}/{id}", operation_id = "things_delete", tag = "things",
    params(OfKind, NamedThing, AtRevision),
    responses((status = 200, description = "The thing.", body = ShownThing), Denied, Unchanged),
)]
async fn remove(admin: State<Admin>, path: Path<(String, String, String)>, headers: HeaderMap) -> Response {
    change(admin, path, Method::DELETE, headers, Bytes::new()).await
}

async fn change(
    State(admin): State<Admin>,
    Path((account, kind, id)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    to_the_end(async move {
        either(match admin.tenant(Some(&account)) {
            Ok(account) => by_kind!(&kind, T => admin.change::<T>(&account, &id, &method, &headers, &body).await),
            Err(response) => Err(response),
        })
    })
    .await
}

impl Admin {
    async fn create<T: Shelved>(&self, account: &Arc<Account>, body: &[u8]) -> Answer {
        let created = self.gateway.identity().create_thing::<T>(account, read(body)?).await.map_err(|error| refused(&error))?;
        tracing::info!(account = %account.id, kind = T::KIND.name(), id = %created.id, "made by an operator");
        Ok(reply(StatusCode::CREATED, &created))
    }

    async fn change<T: Shelved>(&self, account: &Arc<Account>, id: &str, method: &Method, headers: &HeaderMap, body: &[u8]) -> Answer {
        let revision = named_revision(headers)?;
        let id: ThingId = id.parse().map_err(|_| refused(&ThingError::NotFound))?;
        let identity = self.gateway.identity();
        let changed = match *method {
            Method::DELETE => identity.delete_thing::<T>(account, id, revision).await,
            Method::PATCH => {
                let patch = changes(body)?;
                identity.edit_thing(account, id, revision, move |before: &T| patched(before, patch)).await
            }
            _ => {
                let members = changes(body)?;
                identity.edit_thing(account, id, revision, move |_: &T| thing(members)).await
            }
        };
        let changed = changed.map_err(|error| refused(&error))?;
        tracing::info!(account = %account.id, kind = T::KIND.name(), %id, "changed or deleted by an operator");
        Ok(reply(StatusCode::OK, &changed))
    }
}

/// What an answer says of a thing beside what it is. Whoever sends an answer back, changed, means nothing by these.
const SAID: [&str; 6] = ["id", "source", "revision", "created", "updated", "deleted"];

fn changes(body: &[u8]) -> Result<Map<String, Value>, Box<Response>> {
    let mut changes: Map<String, Value> = read(body)?;
    changes.retain(|name, _| !SAID.contains(&name.as_str()));
    Ok(changes)
}

fn thing<T: Thing>(members: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(members)).map_err(|error| format!("the body is not understood: {error}"))
}

/// A thing with the members of a merge patch.
fn patched<T: Thing>(before: &T, patch: Map<String, Value>) -> Result<T, String> {
    let Ok(Value::Object(mut members)) = serde_json::to_value(before) else { return thing(patch) };
    merge(&mut members, patch);
    thing(members)
}

fn merge(members: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, change) in patch {
        match (members.get_mut(&name), change) {
            (_, Value::Null) => drop(members.remove(&name)),
            (Some(Value::Object(inner)), Value::Object(change)) => merge(inner, change),
            (_, change) => drop(members.insert(name, change)),
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedQueue {
    #[schema(value_type = String)]
    queue: QueueId,
}

/// The queue of those who are sent to none.
#[utoipa::path(
    get, path = "/admin/v1/accounts/{account}/default-queue", operation_id = "default_queue_get", tag = "things",
    params(("account" = String, Path, description = "The account.")),
    responses((status = 200, description = "The queue that holds.", body = DefaultQueue), Denied),
)]
async fn default_queue(State(admin): State<Admin>, Path(account): Path<String>) -> Response {
    either(admin.tenant(Some(&account)).map(|account| shown_queue(&account)))
}

/// Sets the queue of those who are sent to none.
#[utoipa::path(
    put, path = "/admin/v1/accounts/{account}/default-queue", operation_id = "default_queue_set", tag = "things",
    params(("account" = String, Path, description = "The account."), AtRevision),
    request_body(content = WantedQueue, example = json!({"queue": "-1"})),
    responses((status = 200, description = "The queue that holds.", body = DefaultQueue), Denied, TooLarge, Unchanged),
)]
async fn set_default_queue(State(admin): State<Admin>, Path(account): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    to_the_end(async move {
        either(match read::<WantedQueue>(&body) {
            Ok(wanted) => admin.set_default_queue(&account, Some(wanted.queue), &headers).await,
            Err(response) => Err(response),
        })
    })
    .await
}

/// Lets the queue of those who are sent to none be as the file has it.
#[utoipa::path(
    delete, path = "/admin/v1/accounts/{account}/default-queue", operation_id = "default_queue_unset", tag = "things",
    params(("account" = String, Path, description = "The account."), AtRevision),
    responses((status = 200, description = "The queue that holds.", body = DefaultQueue), Denied, Unchanged),
)]
async fn unset_default_queue(State(admin): State<Admin>, Path(account): Path<String>, headers: HeaderMap) -> Response {
    to_the_end(async move { either(admin.set_default_queue(&account, None, &headers).await) }).await
}

impl Admin {
    async fn set_default_queue(&self, account: &str, queue: Option<QueueId>, headers: &HeaderMap) -> Answer {
        let account = self.tenant(Some(account))?;
        let revision = named_revision(headers)?;
        match self.gateway.identity().set_default_queue(&account, queue, revision).await {
            // To unset what is not set changes nothing.
            Ok(_) | Err(ThingError::NotFound) => Ok(shown_queue(&account)),
            Err(error) => Err(refused(&error)),
        }
    }
}

/// The queue that holds, and how it was set.
fn shown_queue(account: &Account) -> Response {
    let queue = account.default_queue();
    let Some(setting) = account.default_queue_setting() else {
        return tagged(StatusCode::OK, 0, json!({"queue": queue, "revision": 0}));
    };
    let mut all = shown(&setting);
    all.retain(|name, _| !["id", "deleted", "queue"].contains(&name.as_str()));
    // It is not in the file any more, and so does not hold.
    if !setting.is_deleted && setting.thing.queue != queue {
        all.insert("missing".into(), json!(setting.thing.queue));
    }
    all.insert("queue".into(), json!(queue));
    tagged(StatusCode::OK, setting.revision, Value::Object(all))
}
