//! What operators and integrators do with webhooks: look at endpoints and at what they are owed, pause them, have entries
//! owed again, test them, and fetch.
//!
//! The admin key may do it with every endpoint. An AppJWT may do it with the endpoints of its own application; whatever
//! else it names is answered as if the token were no good.

use super::admin::AdminKey;
use super::say;
use crate::config::Endpoint;
use crate::delivery::{Deliveries, DeliveryError, PulledEvent, Replay, View};
use crate::domain::Millis;
use crate::gateway::Gateway;
use crate::store::{Attempt, DeadLetter, EndpointId, EndpointRow, Owed};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most rows, or events, in one answer; and how many if nobody says.
const MOST: usize = 1_000;
const USUAL: usize = 100;
/// Longest that a fetch waits for events, and how long if nobody says: below the time after which proxies give up.
const LONGEST_POLL: u64 = 60;
const USUAL_POLL: u64 = 25;
/// How long an order to deliver again is waited for; a large one goes on behind the answer.
const REPLAY: Duration = Duration::from_secs(10);

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
        Router::new()
            .route("/admin/v1/webhooks", get(list))
            .route("/admin/v1/webhooks/{endpoint}", get(one).delete(forget))
            .route("/admin/v1/webhooks/{endpoint}/owed", get(owed))
            .route("/admin/v1/webhooks/{endpoint}/dead", get(dead))
            .route("/admin/v1/webhooks/{endpoint}/deliveries/{message}", get(attempts))
            .route("/admin/v1/webhooks/{endpoint}/events", get(events))
            .route("/admin/v1/webhooks/{endpoint}/pause", post(pause))
            .route("/admin/v1/webhooks/{endpoint}/resume", post(resume))
            .route("/admin/v1/webhooks/{endpoint}/replay", post(replay))
            .route("/admin/v1/webhooks/{endpoint}/test", post(test))
            .with_state(webhooks)
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

fn page(value: &Value) -> Response {
    axum::Json(value).into_response()
}

fn done() -> Answer {
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A time as people read it.
pub(super) fn time(at: Millis) -> Value {
    Timestamp::from_millisecond(at).map_or(Value::Null, |at| Value::from(at.to_string()))
}

fn shown(view: &View) -> Value {
    let View { row, balance, status } = view;
    // Without its query, in which people put keys.
    let url = row.target.parse::<Endpoint>().ok().map(|endpoint| endpoint.to_string());
    let failed = status.failed.as_ref().map(|(at, reason)| json!({"at": time(*at), "reason": reason}));
    json!({
        "id": row.id, "account": row.account, "clientId": row.app, "endpoint": url, "pull": url.is_none(), "events": row.events,
        "state": row.state.as_str(), "stateSince": time(row.changed), "failing": status.is_open, "owed": balance.owed,
        "oldestOwed": balance.oldest.map(time), "deadLetters": balance.dead, "lastTaken": status.taken.map(time), "lastFailure": failed,
    })
}

#[derive(Debug, Deserialize)]
struct Which {
    account: Option<String>,
}

async fn list(State(webhooks): State<Webhooks>, Query(which): Query<Which>, headers: HeaderMap) -> Answer {
    let caller = webhooks.caller(&headers, which.account.as_deref())?;
    let mut all = webhooks.deliveries.list().await?;
    all.retain(|view| match &caller {
        Caller::Operator => which.account.as_deref().is_none_or(|account| view.row.account.as_str() == account),
        Caller::App(account, app) => (account, app) == (&view.row.account, &view.row.app),
    });
    Ok(page(&json!({"endpoints": all.iter().map(shown).collect::<Vec<_>>()})))
}

async fn one(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let all = webhooks.deliveries.list().await?;
    let view = all.iter().find(|view| view.row.id == row.id).ok_or(DeliveryError::NoSuchEndpoint)?;
    Ok(page(&shown(view)))
}

async fn forget(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    webhooks.deliveries.forget(row.id).await?;
    done()
}

async fn pause(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    webhooks.deliveries.pause(row.id).await?;
    done()
}

async fn resume(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    webhooks.deliveries.resume(row.id).await?;
    done()
}

async fn test(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let tested = webhooks.deliveries.test(row.id).await?;
    Ok(page(&json!({
        "result": tested.result, "reason": tested.reason, "status": tested.status, "tookMs": milliseconds(tested.took),
        "answer": tested.answer,
    })))
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Which part of a list.
#[derive(Debug, Deserialize)]
struct Part {
    after: Option<u64>,
    limit: Option<usize>,
}

impl Part {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(USUAL).clamp(1, MOST)
    }
}

/// A list of debts, with what to send as `after` to get the next, if there may be more.
fn listed(name: &str, rows: Vec<Value>, last: Option<u64>, part: &Part) -> Response {
    let next = last.filter(|_| rows.len() == part.limit());
    page(&json!({name: rows, "next": next}))
}

fn debt(webhooks: &Webhooks, owed: &Owed) -> Value {
    json!({
        "message": webhooks.deliveries.message_id(owed.position), "turn": owed.turn, "conversation": owed.conversation,
        "since": time(owed.since), "attempts": owed.attempts,
    })
}

async fn owed(State(webhooks): State<Webhooks>, Path(id): Path<String>, Query(part): Query<Part>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let all = webhooks.deliveries.owed(row.id, part.after.unwrap_or(0), part.limit()).await?;
    let shown = |owed: &Owed| {
        let mut shown = debt(&webhooks, owed);
        shown["due"] = if owed.due > 0 { time(owed.due) } else { Value::Null };
        shown
    };
    Ok(listed("owed", all.iter().map(shown).collect(), all.last().map(|owed| owed.turn), &part))
}

async fn dead(State(webhooks): State<Webhooks>, Path(id): Path<String>, Query(part): Query<Part>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let all = webhooks.deliveries.dead_letters(row.id, part.after.unwrap_or(0), part.limit()).await?;
    let shown = |dead: &DeadLetter| {
        let mut shown = debt(&webhooks, &dead.owed);
        (shown["at"], shown["reason"], shown["last"]) = (time(dead.at), json!(dead.reason), json!(dead.last));
        shown
    };
    Ok(listed("deadLetters", all.iter().map(shown).collect(), all.last().map(|dead| dead.owed.turn), &part))
}

/// An attempt, as it is shown.
pub(super) fn attempt(attempt: &Attempt) -> Value {
    json!({
        "at": time(attempt.at), "tookMs": milliseconds(Duration::from_micros(attempt.took)), "result": attempt.result,
        "status": attempt.status, "answer": attempt.answer, "turn": attempt.turn,
    })
}

async fn attempts(State(webhooks): State<Webhooks>, Path((id, message)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let position = webhooks.position(&message)?;
    let all = webhooks.deliveries.attempts(position).await?;
    let own: Vec<_> = all.iter().filter(|one| one.endpoint == row.id).map(attempt).collect();
    Ok(page(&json!({"message": webhooks.deliveries.message_id(position), "attempts": own})))
}

/// From where to fetch, and how long to wait.
#[derive(Debug, Deserialize)]
struct Fetch {
    after: Option<String>,
    limit: Option<usize>,
    wait: Option<u64>,
}

async fn events(State(webhooks): State<Webhooks>, Path(id): Path<String>, Query(fetch): Query<Fetch>, headers: HeaderMap) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let until = Instant::now() + Duration::from_secs(fetch.wait.unwrap_or(USUAL_POLL).min(LONGEST_POLL));
    let limit = fetch.limit.unwrap_or(USUAL).clamp(1, MOST);
    let pulled = tokio::select! {
        pulled = webhooks.deliveries.pull(row.id, fetch.after.as_deref(), limit, until) => pulled?,
        () = webhooks.stop.cancelled() => return Err(DeliveryError::Stopping.into()),
    };
    let shown = |event: &PulledEvent| {
        // None is left out: the cursor would acknowledge it.
        let body: &RawValue = serde_json::from_slice(&event.body).map_err(|_| DeliveryError::Unreadable)?;
        Ok(json!({"id": event.id, "cursor": event.cursor, "event": event.event, "body": body}))
    };
    let events = pulled.events.iter().map(shown).collect::<Result<Vec<_>, DeliveryError>>()?;
    Ok(page(&json!({"events": events, "cursor": pulled.cursor})))
}

/// What is to be owed again: one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
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

async fn replay(State(webhooks): State<Webhooks>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let row = webhooks.endpoint(&headers, &id).await?;
    let again: Again = serde_json::from_slice(&body).map_err(|error| Refused::bad(&format!("the body is not understood: {error}")))?;
    let wanted = webhooks.wanted(&again)?;
    match tokio::time::timeout(REPLAY, webhooks.deliveries.replay(row.id, wanted)).await {
        Ok(count) => Ok(page(&json!({"replayed": count?}))),
        Err(_) => Ok((StatusCode::ACCEPTED, axum::Json(json!({"replayed": null}))).into_response()),
    }
}
