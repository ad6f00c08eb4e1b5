//! What operators and integrators do with webhooks: look at endpoints and at what they are owed, pause them, have entries
//! owed again, test them, and fetch.
//!
//! The admin key may do it with every endpoint. An AppJWT may do it with the endpoints of its own application; whatever
//! else it names is answered as if the token were no good.

use super::admin::AdminKey;
use super::say;
use crate::config::Endpoint;
use crate::delivery::{Deliveries, DeliveryError, PulledEvent, Replay, Tested as Outcome, View};
use crate::domain::Millis;
use crate::gateway::Gateway;
use crate::openapi::{AnyObject, ByBearer, Sentence, refusals};
use crate::store::{Attempt, DeadLetter, EndpointId, EndpointRow, Owed};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId, ConversationId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi as Document;
use utoipa::{IntoParams, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Most rows, or events, in one answer; and how many if nobody says.
const MOST: usize = 1_000;
const USUAL: usize = 100;

/// Longest that a fetch waits for events, and how long if nobody says: below the time after which proxies give up.
const LONGEST_POLL: u64 = 60;
const USUAL_POLL: u64 = 25;

/// How long an order to deliver again is waited for; a large one goes on behind the answer.
const REPLAY: Duration = Duration::from_secs(10);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Webhooks",
        description = "What an application is owed, and what became of it: look, pause, replay, test, and fetch. The admin key may do \
            it with every endpoint, an AppJWT with those of its own application.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Sentence)),
    modifiers(&ByBearer),
    security(("bearer" = [])),
    tags((name = "webhooks", description = "Endpoints, and what they are owed.")),
)]
struct About;

refusals! {
    /// Whoever may not, and what is not there.
    Denied {
        400: "The path or the query cannot be read.",
        401: "Neither the admin key nor an AppJWT of its application; what is not there is another's to an application.",
        404: "There is no such endpoint.",
        503: "The store cannot be read now, or the gateway is stopping; try again.",
    }
}

/// The calls.
#[derive(Debug, Clone)]
pub(super) struct Webhooks {
    gateway: Arc<Gateway>,
    deliveries: Deliveries,
    key: AdminKey,
    stop: CancellationToken,
}

type Answer = Result<Response, Refused>;

/// An answer that ends a call early.
struct Refused(Box<Response>);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

impl Refused {
    fn with(status: StatusCode, reason: &str) -> Self {
        Self(Box::new(say(status, reason)))
    }

    fn bad(reason: &str) -> Self {
        Self::with(StatusCode::BAD_REQUEST, reason)
    }
}

impl From<DeliveryError> for Refused {
    fn from(error: DeliveryError) -> Self {
        let status = match error {
            DeliveryError::NoSuchEndpoint => StatusCode::NOT_FOUND,
            DeliveryError::IsOff
            | DeliveryError::IsGone
            | DeliveryError::IsPaused
            | DeliveryError::IsReplaying
            | DeliveryError::IsWanted
            | DeliveryError::IsPosted
            | DeliveryError::IsPulled
            | DeliveryError::OtherCursor => StatusCode::CONFLICT,
            DeliveryError::Unreadable | DeliveryError::NotKept | DeliveryError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::with(status, &error.to_string())
    }
}

/// Who calls.
enum Caller {
    Operator,
    /// An application of an account.
    App(AccountId, ClientId),
}

impl Webhooks {
    /// The routes. Without a key only applications may call.
    pub(super) fn routes(gateway: Arc<Gateway>, deliveries: Deliveries, key: AdminKey, stop: CancellationToken) -> Router {
        let webhooks = Self { gateway, deliveries, key, stop };
        Self::calls().with_state(webhooks).into()
    }

    fn calls() -> OpenApiRouter<Self> {
        OpenApiRouter::with_openapi(About::openapi())
            .routes(routes!(list))
            .routes(routes!(one, forget))
            .routes(routes!(owed))
            .routes(routes!(dead))
            .routes(routes!(attempts))
            .routes(routes!(events))
            .routes(routes!(pause))
            .routes(routes!(resume))
            .routes(routes!(replay))
            .routes(routes!(test))
    }

    /// What its document says.
    pub(super) fn openapi() -> Document {
        Self::calls().into_openapi()
    }

    /// Who calls, if `account` is the account that the call is about.
    fn caller(&self, headers: &HeaderMap, account: Option<&str>) -> Result<Caller, Refused> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let given = given.strip_prefix("Bearer ").unwrap_or(given);
        if self.key.load().as_ref().is_some_and(|key| crate::identity::same(key.expose_secret(), given)) {
            return Ok(Caller::Operator);
        }
        let identity = self.gateway.identity();
        let account = account.and_then(|account| identity.directory().account(account));
        let app = account.and_then(|account| identity.check_app(&account, given).ok());
        app.map(|app| Caller::App(app.account, app.app)).ok_or_else(|| self.unauthorised())
    }

    fn unauthorised(&self) -> Refused {
        let keys = if self.key.load().is_some() { "the admin key, or an AppJWT" } else { "an AppJWT" };
        let why = format!("send {keys} of the application whose endpoint this is, as `Authorization: Bearer …`");
        Refused::with(StatusCode::UNAUTHORIZED, &why)
    }

    /// The endpoint, if the caller may deal with it.
    async fn endpoint(&self, headers: &HeaderMap, id: &str) -> Result<EndpointRow, Refused> {
        let number = id.parse::<EndpointId>().ok();
        let found = match number {
            Some(number) => self.deliveries.endpoint(number).await,
            None => Err(DeliveryError::NoSuchEndpoint),
        };
        let account = found.as_ref().ok().map(|row| row.account.as_str().to_owned());
        match (self.caller(headers, account.as_deref())?, found) {
            (Caller::Operator, found) => Ok(found?),
            (Caller::App(account, app), Ok(row)) if (&account, &app) == (&row.account, &row.app) => Ok(row),
            // Not there and not theirs are told apart by nobody.
            (Caller::App(..), _) => Err(self.unauthorised()),
        }
    }

    /// The position that a message's id names.
    fn position(&self, message: &str) -> Result<u64, Refused> {
        let position = message.rsplit_once(':').map_or(message, |(_, position)| position).parse::<u64>().ok();
        let position = position.filter(|position| !message.contains(':') || self.deliveries.message_id(*position) == message);
        let why = || Refused::bad(&format!("{message:?} is no webhook-id of this gateway"));
        position.ok_or_else(why)
    }
}

fn page(value: &impl Serialize) -> Response {
    axum::Json(value).into_response()
}

fn done() -> Answer {
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A time in an answer.
pub(super) fn told(at: Millis) -> Option<Timestamp> {
    Timestamp::from_millisecond(at).ok()
}

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Endpoint)]
struct Shown {
    #[schema(value_type = i64)]
    id: EndpointId,
    #[schema(value_type = String)]
    account: AccountId,
    #[schema(value_type = String)]
    client_id: ClientId,
    /// Its URL, without the query; none where the application fetches.
    endpoint: Option<String>,
    pull: bool,
    /// The types of events that it is owed.
    events: Vec<String>,
    /// `on`, `paused` or the like.
    state: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    state_since: Option<Timestamp>,
    /// Whether it takes nothing, so that it is tried only now and then.
    failing: bool,
    owed: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_owed: Option<Timestamp>,
    dead_letters: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_taken: Option<Timestamp>,
    last_failure: Option<Failure>,
}

/// The last attempt that failed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Failure {
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    reason: String,
}

fn shown(view: &View) -> Shown {
    let View { row, balance, status } = view;
    // Without its query, in which people put keys.
    let url = row.target.parse::<Endpoint>().ok().map(|endpoint| endpoint.to_string());
    Shown {
        id: row.id,
        account: row.account.clone(),
        client_id: row.app.clone(),
        pull: url.is_none(),
        endpoint: url,
        events: row.events.clone(),
        state: row.state.as_str(),
        state_since: told(row.changed),
        failing: status.is_open,
        owed: balance.owed,
        oldest_owed: balance.oldest.and_then(told),
        dead_letters: balance.dead,
        last_taken: status.taken.and_then(told),
        last_failure: status.failed.as_ref().map(|(at, reason)| Failure { at: told(*at), reason: reason.clone() }),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The account. An application must name its own.
    account: Option<String>,
}

/// Endpoints.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Endpoints {
    endpoints: Vec<Shown>,
}

/// Every endpoint that the caller may deal with.
#[utoipa::path(
    get, path = "/admin/v1/webhooks", operation_id = "webhooks_list", tag = "webhooks", params(Which),
    responses((status = 200, description = "All of them.", body = Endpoints), Denied),
)]
async fn list(State(webhooks): State<Webhooks>, Query(which): Query<Which>, headers: HeaderMap) -> Answer {
    let caller = webhooks.caller(&headers, which.account.as_deref())?;
    let mut all = webhooks.deliveries.list().await?;
    all.retain(|view| match &caller {
        Caller::Operator => which.account.as_deref().is_none_or(|account| view.row.account.as_str() == account),
        Caller::App(account, app) => (account, app) == (&view.row.account, &view.row.app),
    });
    Ok(page(&Endpoints { endpoints: all.iter().map(shown).collect() }))
}

/// One endpoint.
#[utoipa::path(
    get, path = "/admin/v1/webhooks/{endpoint}", operation_id = "webhooks_get", tag = "webhooks",
    params(("endpoint" = String, Path, description = "Its number.")),
    responses((status = 200, description = "What was asked for.", body = Shown), Denied),
)]
async fn one(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let all = webhooks.deliveries.list().await?;
    let view = all.iter().find(|view| view.row.id == row.id).ok_or(DeliveryError::NoSuchEndpoint)?;
    Ok(page(&shown(view)))
}

/// Forgets an endpoint that is off, with all that it is owed.
#[utoipa::path(
    delete, path = "/admin/v1/webhooks/{endpoint}", operation_id = "webhooks_forget", tag = "webhooks",
    params(("endpoint" = String, Path, description = "Its number.")),
    responses(
        (status = 204, description = "It is done."), Denied,
        (status = 409, description = "Not in the state it is in; the sentence says why.", body = Sentence),
    ),
)]
async fn forget(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    webhooks.deliveries.forget(row.id).await?;
    done()
}

/// Pauses an endpoint: what it is owed waits.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/{endpoint}/pause", operation_id = "webhooks_pause", tag = "webhooks",
    params(("endpoint" = String, Path, description = "Its number.")),
    responses(
        (status = 204, description = "It is done."), Denied,
        (status = 409, description = "Not in the state it is in; the sentence says why.", body = Sentence),
    ),
)]
async fn pause(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    webhooks.deliveries.pause(row.id).await?;
    done()
}

/// Goes on with an endpoint that was paused or switched off.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/{endpoint}/resume", operation_id = "webhooks_resume", tag = "webhooks",
    params(("endpoint" = String, Path, description = "Its number.")),
    responses(
        (status = 204, description = "It is done."), Denied,
        (status = 409, description = "Not in the state it is in; the sentence says why.", body = Sentence),
    ),
)]
async fn resume(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    webhooks.deliveries.resume(row.id).await?;
    done()
}

/// Posts an event for tests now, and waits for the answer.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/{endpoint}/test", operation_id = "webhooks_test", tag = "webhooks",
    params(("endpoint" = String, Path, description = "Its number.")),
    responses(
        (status = 200, description = "What came of it.", body = Tested), Denied,
        (status = 409, description = "Not in the state it is in; the sentence says why.", body = Sentence),
    ),
)]
async fn test(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let tested = webhooks.deliveries.test(row.id).await?;
    let Outcome { result, reason, status, answer, took } = tested;
    Ok(page(&Tested { result, reason, status, took_ms: milliseconds(took), answer }))
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tested {
    /// `delivered`, or why not.
    result: String,
    /// The same in words, if it failed.
    reason: Option<String>,
    /// The answer's status, if there was one.
    status: Option<u16>,
    took_ms: f64,
    /// The first bytes of the answer, where they are shown.
    answer: Option<String>,
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Part {
    /// The `next` of the page before.
    after: Option<u64>,
    /// At most 1,000; 100 if nothing is said.
    limit: Option<usize>,
}

impl Part {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(USUAL).clamp(1, MOST)
    }

    /// What to send as `after` to get the next, if there may be more.
    fn next(&self, shown: usize, last: Option<u64>) -> Option<u64> {
        last.filter(|_| shown == self.limit())
    }
}

/// An event that an endpoint is owed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Debt {
    /// The `webhook-id`.
    message: String,
    /// Its place among the endpoint's.
    turn: u64,
    #[schema(value_type = String)]
    conversation: ConversationId,
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    attempts: u32,
    /// When it is tried again; none: as soon as what is before it is done.
    #[schema(value_type = Option<String>, format = DateTime)]
    due: Option<Timestamp>,
}

/// A page of what is owed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OwedPage {
    owed: Vec<Debt>,
    /// What to send as `after` to get the next page, if there may be one.
    next: Option<u64>,
}

/// An event that was given up.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeadLetter)]
struct Dead {
    /// The `webhook-id`.
    message: String,
    /// Its place among the endpoint's.
    turn: u64,
    #[schema(value_type = String)]
    conversation: ConversationId,
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    attempts: u32,
    /// When it was given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    reason: String,
    /// What the last attempt said.
    last: Option<String>,
}

/// A page of what was given up.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeadPage {
    dead_letters: Vec<Dead>,
    /// What to send as `after` to get the next page, if there may be one.
    next: Option<u64>,
}

/// What an endpoint is owed, in order.
#[utoipa::path(
    get, path = "/admin/v1/webhooks/{endpoint}/owed", operation_id = "webhooks_owed", tag = "webhooks",
    params(Part, ("endpoint" = String, Path, description = "Its number.")),
    responses((status = 200, description = "A page.", body = OwedPage), Denied),
)]
async fn owed(State(webhooks): State<Webhooks>, Path(id): Path<String>, Query(part): Query<Part>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let all = webhooks.deliveries.owed(row.id, part.after.unwrap_or(0), part.limit()).await?;
    let shown = |owed: &Owed| Debt {
        message: webhooks.deliveries.message_id(owed.position),
        turn: owed.turn,
        conversation: owed.conversation.clone(),
        since: told(owed.since),
        attempts: owed.attempts,
        due: told(owed.due).filter(|_| owed.due > 0),
    };
    Ok(page(&OwedPage { owed: all.iter().map(shown).collect(), next: part.next(all.len(), all.last().map(|owed| owed.turn)) }))
}

/// What was given up.
#[utoipa::path(
    get, path = "/admin/v1/webhooks/{endpoint}/dead", operation_id = "webhooks_dead", tag = "webhooks",
    params(Part, ("endpoint" = String, Path, description = "Its number.")),
    responses((status = 200, description = "A page.", body = DeadPage), Denied),
)]
async fn dead(State(webhooks): State<Webhooks>, Path(id): Path<String>, Query(part): Query<Part>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let all = webhooks.deliveries.dead_letters(row.id, part.after.unwrap_or(0), part.limit()).await?;
    let shown = |DeadLetter { owed, at, reason, last }: &DeadLetter| Dead {
        message: webhooks.deliveries.message_id(owed.position),
        turn: owed.turn,
        conversation: owed.conversation.clone(),
        since: told(owed.since),
        attempts: owed.attempts,
        at: told(*at),
        reason: reason.clone(),
        last: last.clone(),
    };
    let next = part.next(all.len(), all.last().map(|dead| dead.owed.turn));
    Ok(page(&DeadPage { dead_letters: all.iter().map(shown).collect(), next }))
}

/// An attempt to deliver an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Attempt)]
pub(super) struct Tried {
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    took_ms: f64,
    /// `delivered`, or why not.
    result: String,
    /// The answer's status, if there was one.
    status: Option<u16>,
    /// The first bytes of the answer, where they are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    turn: u64,
}

impl Tried {
    /// What an endpoint answers may hold anything.
    pub(super) fn without_answer(self) -> Self {
        Self { answer: None, ..self }
    }
}

/// An attempt, as it is shown.
pub(super) fn attempt(attempt: &Attempt) -> Tried {
    Tried {
        at: told(attempt.at),
        took_ms: milliseconds(Duration::from_micros(attempt.took)),
        result: attempt.result.clone(),
        status: attempt.status,
        answer: attempt.answer.clone(),
        turn: attempt.turn,
    }
}

/// The attempts to deliver a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Attempts {
    message: String,
    attempts: Vec<Tried>,
}

/// Every attempt to deliver one message.
#[utoipa::path(
    get, path = "/admin/v1/webhooks/{endpoint}/deliveries/{message}", operation_id = "webhooks_attempts", tag = "webhooks",
    params(("endpoint" = String, Path, description = "Its number."), ("message" = String, Path, description = "The `webhook-id`.")),
    responses((status = 200, description = "They; none where none is known.", body = Attempts), Denied),
)]
async fn attempts(State(webhooks): State<Webhooks>, Path((id, message)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let position = webhooks.position(&message)?;
    let all = webhooks.deliveries.attempts(position).await?;
    let own: Vec<_> = all.iter().filter(|one| one.endpoint == row.id).map(attempt).collect();
    Ok(page(&Attempts { message: webhooks.deliveries.message_id(position), attempts: own }))
}

/// From where to fetch, and how long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Fetch {
    /// The cursor of the last event that is done with; nothing: from where it was last acknowledged.
    after: Option<String>,
    /// At most 1,000; 100 if nothing is said.
    limit: Option<usize>,
    /// Seconds to wait for events, at most 60; 25 if nothing is said.
    wait: Option<u64>,
}

/// Events that were fetched.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Events<'e> {
    events: Vec<Fetched<'e>>,
    /// What to send as `after` to acknowledge these and get the next.
    cursor: &'e str,
}

/// An event that was fetched.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PulledEvent)]
struct Fetched<'e> {
    /// The id that a webhook would carry.
    id: &'e str,
    /// What to send as `after` to acknowledge this and all before it.
    cursor: &'e str,
    /// The type of event.
    event: &'e str,
    /// The body, as it would be posted.
    #[schema(value_type = AnyObject)]
    body: &'e RawValue,
}

/// Fetches events, and acknowledges those up to `after`. It waits until there are some.
#[utoipa::path(
    get, path = "/admin/v1/webhooks/{endpoint}/events", operation_id = "webhooks_events", tag = "webhooks",
    params(Fetch, ("endpoint" = String, Path, description = "Its number.")),
    responses(
        (status = 200, description = "Events, in order; none, if none came in time.", body = Events), Denied,
        (status = 409, description = "This endpoint is posted to, is off, or the cursor is not of it.", body = Sentence),
    ),
)]
async fn events(State(webhooks): State<Webhooks>, Path(id): Path<String>, Query(fetch): Query<Fetch>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let until = Instant::now() + Duration::from_secs(fetch.wait.unwrap_or(USUAL_POLL).min(LONGEST_POLL));
    let limit = fetch.limit.unwrap_or(USUAL).clamp(1, MOST);
    let pulled = tokio::select! {
        pulled = webhooks.deliveries.pull(row.id, fetch.after.as_deref(), limit, until) => pulled?,
        () = webhooks.stop.cancelled() => return Err(DeliveryError::Stopping.into()),
    };
    // None is left out: the cursor would acknowledge it.
    let body = |event: &PulledEvent| serde_json::from_slice(&event.body).map_err(|_| DeliveryError::Unreadable);
    let bodies = pulled.events.iter().map(body).collect::<Result<Vec<Box<RawValue>>, DeliveryError>>()?;
    let both = pulled.events.iter().zip(&bodies);
    let events = both.map(|(one, body)| Fetched { id: &one.id, cursor: &one.cursor, event: one.event, body }).collect();
    Ok(page(&Events { events, cursor: &pulled.cursor }))
}

/// What is to be owed again: one of these.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Replay)]
struct Again {
    /// Every dead letter.
    #[serde(default)]
    dead: bool,
    /// These, by their ids.
    messages: Option<Vec<String>>,
    /// From one id or time to another, both included.
    from: Option<String>,
    to: Option<String>,
}

/// How many events are owed again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Replayed {
    /// None, if it goes on.
    replayed: Option<u64>,
}

/// An end of a range.
enum End {
    Position(u64),
    Time(Millis),
}

impl Webhooks {
    fn end(&self, text: &str) -> Result<End, Refused> {
        match text.parse::<Timestamp>() {
            Ok(time) => Ok(End::Time(time.as_millisecond())),
            Err(_) => self
                .position(text)
                .map(End::Position)
                .map_err(|_| Refused::bad(&format!("{text:?} is neither a webhook-id nor a time such as 2026-01-31T12:00:00Z"))),
        }
    }

    fn wanted(&self, again: &Again) -> Result<Replay, Refused> {
        let ends = (again.from.as_deref().map(|from| self.end(from)).transpose()?, again.to.as_deref().map(|to| self.end(to)).transpose()?);
        match (again.dead, &again.messages, ends) {
            (true, None, (None, None)) => Ok(Replay::Dead),
            (false, Some(messages), (None, None)) if messages.len() > MOST => {
                Err(Refused::bad(&format!("at most {MOST} messages at a time")))
            }
            (false, Some(messages), (None, None)) => {
                messages.iter().map(|message| self.position(message)).collect::<Result<_, _>>().map(Replay::These)
            }
            (false, None, (Some(End::Position(from)), to @ (None | Some(End::Position(_))))) => {
                let to = if let Some(End::Position(to)) = to { to } else { u64::MAX };
                Ok(Replay::Range { from, to })
            }
            (false, None, (Some(End::Time(from)), to @ (None | Some(End::Time(_))))) => {
                Ok(Replay::Time { from, to: if let Some(End::Time(to)) = to { Some(to) } else { None } })
            }
            _ => Err(Refused::bad(
                r#"send one of {"dead":true}, {"messages":["ID", …]}, {"from":ID,"to":ID}, {"from":TIME,"to":TIME}; `to` may be left out"#,
            )),
        }
    }
}

/// Has events owed again.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/{endpoint}/replay", operation_id = "webhooks_replay", tag = "webhooks",
    params(("endpoint" = String, Path, description = "Its number.")),
    request_body(
        content = Again, description = "One of `dead`, `messages`, `from` (with or without `to`).", example = json!({"dead": true}),
    ),
    responses(
        (status = 200, description = "How many.", body = Replayed),
        (status = 202, description = "It takes longer, and goes on.", body = Replayed), Denied,
        (status = 409, description = "Not in the state it is in; the sentence says why.", body = Sentence),
        (status = 413, description = "The body is too large.", body = Sentence),
    ),
)]
async fn replay(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let again: Again = serde_json::from_slice(&body).map_err(|error| Refused::bad(&format!("the body is not understood: {error}")))?;
    let wanted = webhooks.wanted(&again)?;
    match tokio::time::timeout(REPLAY, webhooks.deliveries.replay(row.id, wanted)).await {
        Ok(count) => Ok(page(&Replayed { replayed: Some(count?) })),
        Err(_) => Ok((StatusCode::ACCEPTED, axum::Json(Replayed { replayed: None })).into_response()),
    }
}
