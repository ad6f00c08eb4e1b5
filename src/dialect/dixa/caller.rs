//! Who calls: an account's key, and in whose name it acts.

use super::error::Fault;
use super::{Answer, Dixa};
use crate::config::{Dialect, Limits};
use crate::dialect::ids::{consumer_of_uuid, consumer_uuid};
use crate::dialect::origin::origin;
use crate::domain::{Actor, Command, Consumer, Conversation, FieldChange, Millis, Person};
use crate::faults::Tenant;
use crate::gateway::{Gateway, IdempotencyKey, Request as Wanted, derived_uuid};
use crate::identity::{Account, Agent, ApiKey, KeyRefused};
use crate::search::Search;
use crate::store::Decided;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use tieline_protocol::ids::QueueId;
use uuid::Uuid;

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    dixa: Arc<Dixa>,
    key: Arc<ApiKey>,
    /// Scheme and host under which the caller reaches us.
    origin: Arc<str>,
}

/// Lets in who has a key and has not used it too often.
pub(super) async fn admit(State(dixa): State<Arc<Dixa>>, mut request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(bare);
    let checked = match address {
        Some(address) => dixa.gateway.identity().check_key(Dialect::Dixa, given, address),
        None => Err(KeyRefused::Unknown),
    };
    let key = match checked {
        Ok((key, _)) => key,
        // One that is missing and one that is wrong are answered alike.
        Err(KeyRefused::Unknown) => {
            return Fault::denied("the request is not authorised: Authorization must be a valid API key").into_response();
        }
        Err(KeyRefused::TooMany(wait)) => return Fault::many(wait).into_response(),
    };
    let origin = origin(&dixa.public_url, request.headers(), request.extensions());
    let account = key.account.id.clone();
    request.extensions_mut().insert(Caller { dixa, key, origin: origin.into() });
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Tenant(account));
    response
}

/// A key without the word that some put in front of it.
fn bare(given: &str) -> &str {
    let given = given.trim();
    given.split_once(' ').filter(|(word, _)| word.eq_ignore_ascii_case("bearer")).map_or(given, |(_, key)| key.trim())
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        Self::of(&parts.extensions).cloned()
    }
}

impl Caller {
    /// Who makes a request that was let in.
    pub(super) fn of(extensions: &Extensions) -> Result<&Self, Fault> {
        extensions.get::<Self>().ok_or_else(|| Fault::denied("the request is not authorised"))
    }

    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.dixa.gateway
    }

    pub(super) fn search(&self) -> &Search {
        &self.dixa.search
    }

    pub(super) fn limits(&self) -> Arc<Limits> {
        self.dixa.limits.load_full()
    }

    pub(super) fn account(&self) -> &Account {
        &self.key.account
    }

    /// As whom the key itself acts.
    pub(super) fn actor(&self) -> &Actor {
        &self.key.actor
    }

    pub(super) fn now(&self) -> Millis {
        self.gateway().identity().now()
    }

    /// An address of ours as the caller can use it anywhere.
    pub(super) fn absolute(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// An agent by its UUID.
    pub(super) fn agent(&self, id: Uuid) -> Option<&Agent> {
        self.account().agent(&id.hyphenated().to_string())
    }

    /// The key's powers in the name of an agent: a manager's and an account's in anybody's, another agent's in its own.
    ///
    /// # Errors
    /// 401.
    pub(super) fn in_the_name_of(&self, agent: &Agent) -> Result<Actor, Fault> {
        let acting = self.actor().in_the_name_of(&agent.person());
        acting.ok_or_else(|| Fault::denied("this key acts in the name of its own agent only"))
    }

    /// The same of the user that a request names; as the key itself, if it names none.
    ///
    /// # Errors
    /// 400 for who is no agent, 401.
    pub(super) fn user(&self, user: Option<Uuid>) -> Result<Actor, Fault> {
        let Some(user) = user else { return Ok(self.actor().clone()) };
        let agent = self.agent(user).ok_or_else(|| Fault::bad(format!("user {user} is no agent or admin")))?;
        self.in_the_name_of(agent)
    }

    /// A queue by its UUID.
    pub(super) fn queue(&self, id: Uuid) -> Option<&QueueId> {
        self.account().queue_by_uuid(id)
    }

    /// An end user by its UUID.
    ///
    /// # Errors
    /// 503.
    pub(super) async fn end_user(&self, id: Uuid) -> Result<Option<Consumer>, Fault> {
        Ok(consumer_of_uuid(self.gateway(), self.actor(), id).await?)
    }

    /// A conversation by its number.
    ///
    /// # Errors
    /// 404, 503.
    pub(super) async fn conversation(&self, number: i64) -> Result<Conversation, Fault> {
        Ok(self.gateway().numbered(self.actor(), number).await?)
    }

    /// The id of what a request makes, of which `what` says what it is: of one that can be repeated always the same.
    pub(super) fn id_of(&self, key: Option<&IdempotencyKey>, what: &[&str]) -> Uuid {
        match key {
            None => Uuid::new_v4(),
            Some(key) => derived_uuid(&[&[self.account().id.as_str(), &self.actor().sender(), key.name()], what].concat()),
        }
    }

    /// Has commands done: all of them or none.
    ///
    /// # Errors
    /// What the gateway refuses.
    pub(super) async fn submit(&self, actor: Actor, commands: Vec<Command>, key: Option<IdempotencyKey>) -> Result<Decided, Fault> {
        Ok(self.gateway().submit(Wanted { actor, commands, key, resend: None }).await?)
    }

    /// The answer to an earlier request of the same key, if this repeats one: asked before anything is checked that may change.
    ///
    /// # Errors
    /// 409 for a key of another request, 503.
    pub(super) async fn replayed(&self, key: Option<&IdempotencyKey>) -> Result<Option<Decided>, Fault> {
        Ok(self.gateway().replayed(self.actor(), key.cloned()).await?)
    }

    /// The same of a call of whose success there is nothing to say.
    ///
    /// # Errors
    /// As [`Self::replayed`].
    pub(super) async fn done(&self, key: Option<&IdempotencyKey>) -> Result<Option<Answer<()>>, Fault> {
        Ok(self.replayed(key).await?.as_ref().map(Answer::done))
    }

    /// Has a conversation changed.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub(super) async fn change(
        &self,
        actor: Actor,
        conversation: &Conversation,
        changes: Vec<FieldChange>,
        key: Option<IdempotencyKey>,
    ) -> Result<Decided, Fault> {
        let conversation = conversation.details.id.clone();
        self.submit(actor, vec![Command::Update { conversation, changes }], key).await
    }
}

/// The UUID of somebody.
pub(super) fn person_uuid(person: &Person) -> Uuid {
    match person {
        Person::Consumer(id) => consumer_uuid(id),
        // The participant id of an agent is one.
        Person::Agent { pid, .. } => Uuid::parse_str(pid.as_str()).unwrap_or_else(|_| derived_uuid(&["agent", pid.as_str()])),
    }
}
