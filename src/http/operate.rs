//! What an operator sees and does about people: accounts, conversations, sessions, consumers. No word of what was said is in
//! any of these answers.

use super::admin::{Admin, Denied, TooLarge, to_the_end};
use super::say;
use super::trace::described;
use super::webhooks::told;
use crate::domain::{AgentRole, Conversation, ConversationFilter, Dialog, Millis, OpenState};
use crate::hub::SessionView;
use crate::identity::Account;
use crate::openapi::Sentence;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::CloseCode;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, QueueId, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Entries of one answer, unless asked otherwise, and at most.
const SOME: usize = 100;
const MOST: usize = 1_000;

pub(super) fn calls() -> OpenApiRouter<Admin> {
    OpenApiRouter::default()
        .routes(routes!(accounts))
        .routes(routes!(revoked, revoke))
        .routes(routes!(allow))
        .routes(routes!(conversations))
        .routes(routes!(conversation))
        .routes(routes!(sessions))
        .routes(routes!(session, kick))
}

type Answer<T> = Result<T, Box<Response>>;

fn either(answer: Answer<impl Serialize>) -> Response {
    answer.map_or_else(|response| *response, |answer| axum::Json(answer).into_response())
}

fn refuse(status: StatusCode, why: &str) -> Box<Response> {
    Box::new(say(status, why))
}

fn unreadable() -> Box<Response> {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read now; try again")
}

/// An account, and who belongs to it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Account)]
struct ShownAccount {
    #[schema(value_type = String)]
    id: AccountId,
    name: String,
    apps: Vec<ShownApp>,
    agents: Vec<ShownAgent>,
    /// Names by id.
    queues: BTreeMap<String, String>,
    api_keys: Vec<ShownKey>,
}

/// A key of an account, which itself is not shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiKey)]
struct ShownKey {
    /// The dialect that it opens.
    dialect: &'static str,
    name: String,
    /// The agent in whose name it acts.
    #[schema(value_type = Option<String>)]
    agent: Option<UserId>,
}

/// An application of an account.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Application)]
struct ShownApp {
    #[schema(value_type = String)]
    client_id: ClientId,
    enabled: bool,
}

/// An agent of an account.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Agent)]
struct ShownAgent {
    #[schema(value_type = String)]
    user_id: UserId,
    login: String,
    name: String,
    email: String,
    phone: Option<String>,
    /// `agent`, `manager`, `admin`.
    #[schema(value_type = Vec<String>)]
    roles: Arc<[AgentRole]>,
    /// The queues that it serves.
    skills: Vec<String>,
    /// How many conversations it is given at a time.
    capacity: usize,
    /// Whether it has a socket.
    connected: bool,
}

/// Every account.
#[utoipa::path(
    get, path = "/admin/v1/accounts", operation_id = "accounts_list", tag = "people",
    responses((status = 200, description = "All of them.", body = Vec<ShownAccount>), Denied),
)]
async fn accounts(State(admin): State<Admin>) -> Response {
    let hub = admin.gateway.hub();
    let shown = |account: Arc<Account>| {
        let agents = account.agents().into_iter().map(|agent| ShownAgent {
            user_id: agent.user.clone(),
            login: agent.login.clone(),
            name: agent.name.clone(),
            email: agent.email.clone(),
            phone: agent.phone.clone(),
            roles: agent.roles.clone(),
            skills: sorted(agent.skills.iter().map(ToString::to_string)),
            capacity: agent.capacity,
            connected: hub.is_present(&account.id, &agent.user, Duration::ZERO),
        });
        let apps = account.apps().into_iter().map(|id| ShownApp { enabled: account.app(&id).is_some(), client_id: id });
        let keys = admin.gateway.identity().directory().api_keys(&account.id);
        let keys = keys.iter().map(|key| ShownKey { dialect: key.dialect.name(), name: key.name.clone(), agent: key.agent.clone() });
        ShownAccount {
            agents: agents.collect(),
            apps: apps.collect(),
            queues: account.queues().into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect(),
            api_keys: keys.collect(),
            id: account.id.clone(),
            name: account.name.clone(),
        }
    };
    axum::Json(admin.gateway.identity().directory().accounts().into_iter().map(shown).collect::<Vec<_>>()).into_response()
}

fn sorted(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all
}

/// Which conversations.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// The account.
    #[param(required = true)]
    account: Option<String>,
    /// `open` or `closed`.
    state: Option<String>,
    /// The assigned agent's user id.
    agent: Option<String>,
    /// The consumer's id.
    consumer: Option<String>,
    /// At most 1,000; 100 if nothing is said.
    limit: Option<usize>,
}

/// Conversations of an account, the newest first.
#[utoipa::path(
    get, path = "/admin/v1/conversations", operation_id = "conversations_list", tag = "people", params(Wanted),
    responses(
        (status = 200, description = "All of them.", body = Vec<ShownConversation>), Denied,
        (status = 503, description = "The store cannot be read now; try again.", body = Sentence),
    ),
)]
async fn conversations(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Response {
    either(admin.conversations(wanted).await)
}

/// One conversation, with its participants and dialogs.
#[utoipa::path(
    get, path = "/admin/v1/conversations/{conversation}", operation_id = "conversations_get", tag = "people",
    responses(
        (status = 200, description = "What was asked for.", body = ShownConversation), Denied,
        (status = 503, description = "The store cannot be read now; try again.", body = Sentence),
    ),
)]
async fn conversation(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    let found = admin.gateway.store().conversation(ConversationId::from(id)).await;
    either(match found {
        Ok(Some(conversation)) => Ok(shown(&conversation, admin.gateway.identity().now(), true)),
        Ok(None) => Err(refuse(StatusCode::NOT_FOUND, "there is no such conversation")),
        Err(_) => Err(unreadable()),
    })
}

impl Admin {
    async fn conversations(&self, wanted: Wanted) -> Answer<Vec<ShownConversation>> {
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
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Conversation)]
struct ShownConversation {
    #[schema(value_type = String)]
    id: ConversationId,
    #[schema(value_type = String)]
    account: AccountId,
    /// Its number within the account.
    number: i64,
    /// `open` or `closed`.
    state: &'static str,
    #[schema(value_type = String)]
    consumer: ConsumerId,
    /// The application that opened it.
    #[schema(value_type = Option<String>)]
    client_id: Option<ClientId>,
    #[schema(value_type = String)]
    queue: QueueId,
    /// The assigned agent.
    #[schema(value_type = Option<String>)]
    agent: Option<UserId>,
    /// The agent whom it is offered to.
    #[schema(value_type = Option<String>)]
    offered_to: Option<UserId>,
    /// For how long it waits for an agent, if it does.
    waiting_seconds: Option<i64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    started: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    updated: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended: Option<Timestamp>,
    /// Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    participants: Option<Vec<ShownParticipant>>,
    /// Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialogs: Option<Vec<ShownDialog>>,
}

/// Who takes part.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Participant)]
struct ShownParticipant {
    role: &'static str,
    /// An agent's user id.
    #[schema(value_type = Option<String>)]
    user: Option<UserId>,
}

/// A dialog.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Dialog)]
struct ShownDialog {
    #[schema(value_type = String)]
    id: DialogId,
    /// `open` or `closed`.
    state: &'static str,
    /// How many events it has.
    events: Option<u64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    started: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended: Option<Timestamp>,
}

fn state(state: OpenState) -> &'static str {
    if state == OpenState::Open { "open" } else { "closed" }
}

fn shown(conversation: &Conversation, now: Millis, is_whole: bool) -> ShownConversation {
    let details = &conversation.details;
    let participants =
        || details.participants.iter().map(|one| ShownParticipant { role: one.role.as_str(), user: one.person.user().cloned() });
    let dialog = |dialog: &Dialog| ShownDialog {
        id: dialog.id.clone(),
        state: state(dialog.state),
        events: conversation.next_sequence(&dialog.id),
        started: told(dialog.started),
        ended: dialog.ended.and_then(told),
    };
    ShownConversation {
        id: details.id.clone(),
        account: details.account.clone(),
        number: details.number,
        state: state(details.stage),
        consumer: details.consumer.clone(),
        client_id: details.app.clone(),
        queue: details.queue.clone(),
        agent: details.assignee().and_then(|assignee| assignee.person.user()).cloned(),
        offered_to: details.ring.as_ref().and_then(|ring| ring.agent.user()).cloned(),
        waiting_seconds: conversation.is_pending().then(|| (now - conversation.pending_since()) / 1000),
        started: told(details.started),
        updated: told(conversation.updated),
        ended: details.ended.and_then(told),
        participants: is_whole.then(|| participants().collect()),
        dialogs: is_whole.then(|| details.dialogs.iter().map(dialog).collect()),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Sessions {
    /// Of this account only.
    account: Option<String>,
    /// `agent`, `consumer` or `application`.
    kind: Option<String>,
    /// At most 1,000; 100 if nothing is said.
    limit: Option<usize>,
}

/// Sessions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Sessions)]
struct ShownSessions {
    /// How many there are; fewer may be shown.
    count: usize,
    sessions: Vec<ShownSession>,
}

/// A peer that has said who it is, on one connection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Session)]
struct ShownSession {
    /// The connection's number.
    connection: u64,
    #[schema(value_type = String)]
    account: AccountId,
    /// `agent`, `consumer`, `application` or `system`.
    #[serde(rename = "as")]
    kind: &'static str,
    /// Who it is.
    id: Option<String>,
    connected_seconds: u64,
    /// Announcements that wait for it.
    waiting: usize,
    /// Whether it missed some, and has to read the log.
    lagging: bool,
    /// What it follows. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriptions: Option<Vec<String>>,
}

/// Who is connected.
#[utoipa::path(
    get, path = "/admin/v1/sessions", operation_id = "sessions_list", tag = "people", params(Sessions),
    responses((status = 200, description = "All of them.", body = ShownSessions), Denied),
)]
async fn sessions(State(admin): State<Admin>, Query(wanted): Query<Sessions>) -> Response {
    let mut all = admin.gateway.hub().session_list(|actor| {
        let kind = described(actor).0;
        wanted.account.as_deref().is_none_or(|account| actor.account().as_str() == account)
            && wanted.kind.as_deref().is_none_or(|wanted| kind == wanted)
    });
    let count = all.len();
    all.truncate(wanted.limit.unwrap_or(SOME).clamp(1, MOST));
    axum::Json(ShownSessions { count, sessions: all.iter().map(one).collect() }).into_response()
}

fn one(session: &SessionView) -> ShownSession {
    let (kind, id) = described(&session.actor);
    ShownSession {
        connection: session.connection,
        account: session.actor.account().clone(),
        kind,
        id,
        connected_seconds: session.since.as_secs(),
        waiting: session.waiting,
        lagging: session.is_lagging,
        subscriptions: None,
    }
}

fn no_session() -> Box<Response> {
    refuse(StatusCode::NOT_FOUND, "there is no such session; it may have ended")
}

/// One session, with what it follows.
#[utoipa::path(
    get, path = "/admin/v1/sessions/{connection}", operation_id = "sessions_get", tag = "people",
    responses((status = 200, description = "What was asked for.", body = ShownSession), Denied),
)]
async fn session(State(admin): State<Admin>, Path(connection): Path<u64>) -> Response {
    let hub = admin.gateway.hub();
    either(hub.session(connection).ok_or_else(no_session).map(|session| {
        let subscriptions = Some(hub.subscriptions(connection));
        ShownSession { subscriptions, ..one(&session) }
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Kick {
    /// 1012: it may come back at once; 4401: with another token.
    code: Option<u16>,
}

/// Closes a session's socket.
#[utoipa::path(
    delete, path = "/admin/v1/sessions/{connection}", operation_id = "sessions_close", tag = "people", params(Kick),
    responses((status = 204, description = "It is closed."), Denied),
)]
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
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Consumer)]
struct Whom {
    consumer_id: Option<String>,
    client_id: Option<String>,
    ext_consumer_id: Option<String>,
}

/// A consumer that was revoked, or allowed again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Revocation {
    #[schema(value_type = String)]
    consumer_id: ConsumerId,
    revoked: bool,
    /// How many of its sockets were closed.
    closed_sockets: usize,
}

/// Consumers whose tokens are worthless.
#[utoipa::path(
    get, path = "/admin/v1/accounts/{account}/revoked-consumers", operation_id = "revoked_consumers_list", tag = "people",
    responses((status = 200, description = "Their ids.", body = Vec<String>), Denied),
)]
async fn revoked(State(admin): State<Admin>, Path(account): Path<String>) -> Response {
    either(admin.tenant(Some(&account)).map(|account| admin.gateway.identity().revoked_consumers(&account.id)))
}

/// Makes every token of a consumer worthless, and closes its sockets.
#[utoipa::path(
    post, path = "/admin/v1/accounts/{account}/revoked-consumers", operation_id = "revoked_consumers_add", tag = "people",
    request_body(
        content = Whom, description = "`consumerId`, or `clientId` and `extConsumerId`.",
        example = json!({"clientId": "demo-connector", "extConsumerId": "somebody"}),
    ),
    responses(
        (status = 200, description = "It holds.", body = Revocation), Denied, TooLarge,
        (
            status = 503, description = "The store did not confirm the change; look whether it holds, and try again.",
            body = Sentence,
        ),
    ),
)]
async fn revoke(State(admin): State<Admin>, Path(account): Path<String>, body: Bytes) -> Response {
    to_the_end(async move { either(admin.revoke(&account, &body).await) }).await
}

/// Lets tokens of a consumer be good again.
#[utoipa::path(
    delete, path = "/admin/v1/accounts/{account}/revoked-consumers/{consumer}", operation_id = "revoked_consumers_remove",
    tag = "people",
    responses(
        (status = 200, description = "It holds.", body = Revocation), Denied,
        (
            status = 503, description = "The store did not confirm the change; look whether it holds, and try again.",
            body = Sentence,
        ),
    ),
)]
async fn allow(State(admin): State<Admin>, Path((account, consumer)): Path<(String, String)>) -> Response {
    to_the_end(async move { either(admin.set_revoked(&account, ConsumerId::from(consumer), false).await) }).await
}

impl Admin {
    async fn revoke(&self, account: &str, body: &[u8]) -> Answer<Revocation> {
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

    async fn set_revoked(&self, account: &str, consumer: ConsumerId, is_revoked: bool) -> Answer<Revocation> {
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
        Ok(Revocation { consumer_id: consumer, revoked: is_revoked, closed_sockets: closed })
    }
}
