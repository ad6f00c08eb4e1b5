//! What an operator sees and does about people: accounts, conversations, sessions, consumers. No word of what was said is in
//! any of these answers.

use super::admin::{Admin, to_the_end};
use super::say;
use super::trace::described;
use super::webhooks::time;
use crate::domain::{Conversation, ConversationFilter, Millis, OpenState};
use crate::hub::SessionView;
use crate::identity::Account;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::CloseCode;
use tieline_protocol::ids::{ClientId, ConsumerId, ConversationId, UserId};

/// Entries of one answer, unless asked otherwise, and at most.
const SOME: usize = 100;
const MOST: usize = 1_000;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/admin/v1/accounts", get(accounts))
        .route("/admin/v1/accounts/{account}/revoked-consumers", get(revoked).post(revoke))
        .route("/admin/v1/accounts/{account}/revoked-consumers/{consumer}", delete(allow))
        .route("/admin/v1/conversations", get(conversations))
        .route("/admin/v1/conversations/{conversation}", get(conversation))
        .route("/admin/v1/sessions", get(sessions))
        .route("/admin/v1/sessions/{connection}", get(session).delete(kick))
}

type Answer = Result<Value, Box<Response>>;

fn either(answer: Answer) -> Response {
    answer.map_or_else(|response| *response, |answer| axum::Json(answer).into_response())
}

fn refuse(status: StatusCode, why: &str) -> Box<Response> {
    Box::new(say(status, why))
}

fn unreadable() -> Box<Response> {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read now; try again")
}

async fn accounts(State(admin): State<Admin>) -> Response {
    let hub = admin.gateway.hub();
    let shown = |account: Arc<Account>| {
        let agents: Vec<Value> = account
            .agents()
            .into_iter()
            .map(|agent| {
                json!({"userId": agent.user, "login": agent.login, "name": agent.name, "email": agent.email,
                    "phone": agent.phone, "roles": agent.roles.iter().collect::<Vec<_>>(),
                    "skills": sorted(agent.skills.iter().map(|skill| skill.as_str())), "capacity": agent.capacity,
                    "connected": hub.is_present(&account.id, &agent.user, Duration::ZERO)})
            })
            .collect();
        let apps: Vec<Value> = account.apps().iter().map(|id| json!({"clientId": id, "enabled": account.app(id).is_some()})).collect();
        let keys = admin.gateway.identity().directory().api_keys(&account.id);
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({"dialect": key.dialect.name(), "name": key.name, "agent": key.agent})).collect();
        json!({"id": account.id, "name": account.name, "apps": apps, "agents": agents, "queues": account.queues(), "apiKeys": keys})
    };
    axum::Json(Value::from(admin.gateway.identity().directory().accounts().into_iter().map(shown).collect::<Vec<_>>())).into_response()
}

fn sorted<'t>(all: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all
}

/// Which conversations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    account: Option<String>,
    state: Option<String>,
    agent: Option<String>,
    consumer: Option<String>,
    limit: Option<usize>,
}

async fn conversations(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Response {
    either(admin.conversations(wanted).await)
}

async fn conversation(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    let found = admin.gateway.store().conversation(ConversationId::from(id)).await;
    either(match found {
        Ok(Some(conversation)) => Ok(shown(&conversation, admin.gateway.identity().now(), true)),
        Ok(None) => Err(refuse(StatusCode::NOT_FOUND, "there is no such conversation")),
        Err(_) => Err(unreadable()),
    })
}

impl Admin {
    async fn conversations(&self, wanted: Wanted) -> Answer {
        let mut filter = ConversationFilter::all(self.tenant(wanted.account.as_deref())?.id.clone());
        filter.stages = match wanted.state.as_deref() {
            None => Vec::new(),
            Some("open") => vec![OpenState::Open],
            Some("closed") => vec![OpenState::Closed],
            Some(_) => return Err(refuse(StatusCode::BAD_REQUEST, "state is open or closed")),
        };
        filter.agents = wanted.agent.into_iter().map(UserId::from).collect();
        filter.consumer = wanted.consumer.map(ConsumerId::from);
        let limit = wanted.limit.unwrap_or(SOME).clamp(1, MOST);
        let found = self.gateway.store().conversations(filter, limit).await.map_err(|_| unreadable())?;
        let now = self.gateway.identity().now();
        Ok(found.conversations.iter().map(|conversation| shown(conversation, now, false)).collect())
    }
}

/// A conversation without what was said in it, nor the notes and what was given at opening.
fn shown(conversation: &Conversation, now: Millis, is_whole: bool) -> Value {
    let details = &conversation.details;
    let state = if details.stage == OpenState::Open { "open" } else { "closed" };
    let waiting = conversation.is_pending().then(|| (now - conversation.pending_since()) / 1000);
    let mut all = json!({
        "id": details.id, "account": details.account, "number": details.number, "state": state, "consumer": details.consumer,
        "clientId": details.app, "queue": details.queue, "agent": details.assignee().and_then(|assignee| assignee.person.user()),
        "offeredTo": details.ring.as_ref().and_then(|ring| ring.agent.user()), "waitingSeconds": waiting,
        "started": time(details.started), "updated": time(conversation.updated), "ended": details.ended.map(time),
    });
    if is_whole {
        let participants: Vec<Value> =
            details.participants.iter().map(|one| json!({"role": one.role.as_str(), "user": one.person.user()})).collect();
        let dialogs: Vec<Value> = details
            .dialogs
            .iter()
            .map(|dialog| {
                let state = if dialog.state == OpenState::Open { "open" } else { "closed" };
                json!({"id": dialog.id, "state": state, "events": conversation.next_sequence(&dialog.id), "started": time(dialog.started), "ended": dialog.ended.map(time)})
            })
            .collect();
        all["participants"] = Value::from(participants);
        all["dialogs"] = Value::from(dialogs);
    }
    all
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sessions {
    account: Option<String>,
    /// `agent`, `consumer` or `application`.
    kind: Option<String>,
    limit: Option<usize>,
}

async fn sessions(State(admin): State<Admin>, Query(wanted): Query<Sessions>) -> Response {
    let mut all = admin.gateway.hub().session_list(|actor| {
        let kind = described(actor).0;
        wanted.account.as_deref().is_none_or(|account| actor.account().as_str() == account)
            && wanted.kind.as_deref().is_none_or(|wanted| kind == wanted)
    });
    let count = all.len();
    all.truncate(wanted.limit.unwrap_or(SOME).clamp(1, MOST));
    let shown: Vec<Value> = all.iter().map(one).collect();
    axum::Json(json!({"count": count, "sessions": shown})).into_response()
}

fn one(session: &SessionView) -> Value {
    let (kind, id) = described(&session.actor);
    json!({"connection": session.connection, "account": session.actor.account(), "as": kind, "id": id,
        "connectedSeconds": session.since.as_secs(), "waiting": session.waiting, "lagging": session.is_lagging})
}

fn no_session() -> Box<Response> {
    refuse(StatusCode::NOT_FOUND, "there is no such session; it may have ended")
}

async fn session(State(admin): State<Admin>, Path(connection): Path<u64>) -> Response {
    let hub = admin.gateway.hub();
    either(hub.session(connection).ok_or_else(no_session).map(|session| {
        let mut shown = one(&session);
        shown["subscriptions"] = Value::from(hub.subscriptions(connection));
        shown
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    /// 1012: it may come back at once; 4401: with another token.
    code: Option<u16>,
}

async fn kick(State(admin): State<Admin>, Path(connection): Path<u64>, Query(kick): Query<Kick>) -> Response {
    let code = match kick.code {
        None | Some(1012) => CloseCode::Restart,
        Some(4401) => CloseCode::Token,
        Some(_) => return say(StatusCode::BAD_REQUEST, "code is 1012 (come back and resume) or 4401 (come back with a new token)"),
    };
    if !admin.gateway.hub().close(connection, code) {
        return *no_session();
    }
    tracing::info!(connection_id = connection, code = code.number(), "a session is closed by an operator");
    StatusCode::NO_CONTENT.into_response()
}

/// Whom to revoke: by the id, or by what its application calls it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Whom {
    consumer_id: Option<String>,
    client_id: Option<String>,
    ext_consumer_id: Option<String>,
}

async fn revoked(State(admin): State<Admin>, Path(account): Path<String>) -> Response {
    either(admin.tenant(Some(&account)).map(|account| json!(admin.gateway.identity().revoked_consumers(&account.id))))
}

async fn revoke(State(admin): State<Admin>, Path(account): Path<String>, body: Bytes) -> Response {
    to_the_end(async move { either(admin.revoke(&account, &body).await) }).await
}

async fn allow(State(admin): State<Admin>, Path((account, consumer)): Path<(String, String)>) -> Response {
    to_the_end(async move { either(admin.set_revoked(&account, ConsumerId::from(consumer), false).await) }).await
}

impl Admin {
    async fn revoke(&self, account: &str, body: &[u8]) -> Answer {
        let bad = |why: &str| refuse(StatusCode::BAD_REQUEST, why);
        let whom: Whom = serde_json::from_slice(body).map_err(|error| bad(&format!("the body is not understood: {error}")))?;
        let consumer = match whom {
            Whom { consumer_id: Some(id), client_id: None, ext_consumer_id: None } => ConsumerId::from(id),
            Whom { consumer_id: None, client_id: Some(app), ext_consumer_id: Some(name) } => {
                let account = self.tenant(Some(account))?;
                self.gateway.identity().consumer_id(&account.id, &ClientId::from(app), &name)
            }
            _ => return Err(bad("send consumerId, or clientId and extConsumerId")),
        };
        self.set_revoked(account, consumer, true).await
    }

    async fn set_revoked(&self, account: &str, consumer: ConsumerId, is_revoked: bool) -> Answer {
        let account = self.tenant(Some(account))?;
        let identity = self.gateway.identity();
        let kept = identity.set_revoked(&account.id, &consumer, is_revoked).await;
        // A revocation holds from here on, also one that could not be kept.
        let closed = if is_revoked { self.gateway.hub().close_consumer(&account.id, &consumer, CloseCode::Token) } else { 0 };
        if kept.is_err() {
            return Err(refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "the store did not confirm the change; look whether it holds, and try again",
            ));
        }
        tracing::info!(account = %account.id, consumer = %consumer, is_revoked, closed, "a consumer is revoked or allowed by an operator");
        Ok(json!({"consumerId": consumer, "revoked": is_revoked, "closedSockets": closed}))
    }
}
