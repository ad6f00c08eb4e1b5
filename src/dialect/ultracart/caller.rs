//! Who calls: an account's key or a token, and in whose name it acts; and what is read of a request.

use super::UltraCart;
use super::arn::Merchant;
use super::error::Fault;
use super::model::Scene;
use crate::config::{Dialect, Limits};
use crate::dialect::origin::origin;
use crate::domain::{Actor, Command, Consumer, Conversation, FieldChange, Millis, Person};
use crate::faults::Tenant;
use crate::gateway::{Gateway, Request as Wanted};
use crate::identity::{Access, Account, Agent, KeyRefused, Scopes, Warrant};
use crate::store::Decided;
use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tieline_protocol::ids::{ConversationId, UserId};

/// The header with a simple key.
pub(super) const SIMPLE_KEY: &str = "x-ultracart-simple-key";

/// The paths of calls that need other scopes than their methods say.
const AUTH: &str = "/rest/v2/conversation/agent/auth";
const CONVERSATIONS: &str = "/rest/v2/conversation/conversations";
const UPLOAD_URL: &str = "/rest/v2/conversation/upload_url/{extension}";

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    ultracart: Arc<UltraCart>,
    account: Arc<Account>,
    actor: Actor,
    /// The agent in whose name it acts; none for a key that acts for the account itself.
    agent: Option<UserId>,
    warrant: Warrant,
    merchant: Merchant,
    /// Scheme and host under which the caller reaches us.
    origin: Arc<str>,
}

/// Lets in who has a key and has not used it too often.
pub(super) async fn admit(State(ultracart): State<Arc<UltraCart>>, mut request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let Who { account, actor, agent, scopes, warrant } = match who(&ultracart, request.headers(), address).await {
        Ok(who) => who,
        Err(fault) => return fault.into_response(),
    };
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if let Some(lacking) = needed(request.method(), path).without(scopes) {
        return Fault::bad(format!("the access token is not for this: it lacks the scope {lacking}")).into_response();
    }
    let origin = origin(&ultracart.public_url, request.headers(), request.extensions()).into();
    let (tenant, merchant) = (account.id.clone(), Merchant::of(&account));
    request.extensions_mut().insert(Caller { ultracart, account, actor, agent, warrant, merchant, origin });
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Tenant(tenant));
    response
}

/// What a token must be for: reading or changing, as the method says. Two calls by PUT show whatever the agent may see, and one by GET
/// has a file stored.
fn needed(method: &Method, path: &str) -> Scopes {
    match path {
        AUTH => Scopes::ALL,
        CONVERSATIONS if !method.is_safe() => Scopes::ALL,
        UPLOAD_URL => Scopes { read: false, write: true },
        _ => Scopes { read: method.is_safe(), write: !method.is_safe() },
    }
}

/// A header's text, without blanks around it; none where nothing is left.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

/// A bearer's token. One client sends the word with nothing behind it, beside its key.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = text(headers, header::AUTHORIZATION.as_str())?;
    let (word, token) = given.split_once(' ')?;
    Some(token.trim()).filter(|token| word.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// Who shows a key or a token.
struct Who {
    account: Arc<Account>,
    actor: Actor,
    agent: Option<UserId>,
    scopes: Scopes,
    /// What was shown.
    warrant: Warrant,
}

async fn who(ultracart: &UltraCart, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Who, Fault> {
    let given = text(headers, SIMPLE_KEY);
    if let (None, Some(token)) = (given, bearer(headers)) {
        let Access { account, actor, agent, scopes, warrant } = ultracart.gateway.identity().check_access(token).await?;
        return Ok(Who { account, actor, agent: Some(agent), scopes, warrant });
    }
    let address = address.ok_or(KeyRefused::Unknown)?;
    let checked = ultracart.gateway.identity().check_key(Dialect::UltraCart, given, address);
    let (key, _) = checked.map_err(|refused| match refused {
        KeyRefused::Unknown if given.is_none() => Fault::denied("Send a simple key in the header x-ultracart-simple-key."),
        refused => refused.into(),
    })?;
    let (account, actor, agent) = (key.account.clone(), key.actor.clone(), key.agent.clone());
    Ok(Who { account, actor, agent, scopes: Scopes::ALL, warrant: Warrant::Key(key.id) })
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        Self::of(&parts.extensions).cloned()
    }
}

impl Caller {
    /// Who makes a request that was let in.
    fn of(extensions: &Extensions) -> Result<&Self, Fault> {
        extensions.get::<Self>().ok_or_else(|| Fault::denied("Send a simple key in the header x-ultracart-simple-key."))
    }

    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.ultracart.gateway
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// By what it was let in.
    pub(super) fn warrant(&self) -> &Warrant {
        &self.warrant
    }

    pub(super) fn merchant(&self) -> &Merchant {
        &self.merchant
    }

    pub(super) fn actor(&self) -> &Actor {
        &self.actor
    }

    pub(super) fn now(&self) -> Millis {
        self.gateway().identity().now()
    }

    /// The agent in whose name it acts.
    ///
    /// # Errors
    /// 400 for a key that acts for the account itself.
    pub(super) fn agent(&self) -> Result<&Agent, Fault> {
        let found = self.agent.as_ref().and_then(|agent| self.account.agent(agent.as_str()));
        found.ok_or_else(|| {
            Fault::bad("this key acts for the account and is nobody who could take part; bind it to an agent (accounts.api_keys.agent)")
        })
    }

    /// The same, as somebody who takes part in conversations.
    ///
    /// # Errors
    /// As [`Self::agent`].
    pub(super) fn person(&self) -> Result<Person, Fault> {
        self.agent().map(Agent::person)
    }

    /// Who looks at conversations, if that is somebody who could take part in them.
    pub(super) fn reader(&self) -> Option<Person> {
        self.agent().ok().map(Agent::person)
    }

    /// From where the caller looks at a conversation.
    pub(super) fn scene<'s>(&'s self, reader: Option<&'s Person>, consumer: Option<&'s Consumer>) -> Scene<'s> {
        Scene { account: &self.account, merchant: &self.merchant, reader, consumer }
    }

    /// An address of ours as the caller can use it anywhere.
    pub(super) fn absolute(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The address of a socket of ours.
    pub(super) fn socket(&self, path: &str) -> String {
        // `https` becomes `wss`.
        self.absolute(path).replacen("http", "ws", 1)
    }

    /// Where a file can be fetched, for a short time.
    pub(super) fn media(&self, path: &str) -> Option<String> {
        let signed = self.gateway().files().download_url(path, self.now()).ok()?;
        Some(self.absolute(&signed.relative_url()))
    }

    /// A conversation by its id.
    ///
    /// # Errors
    /// 404, 503.
    pub(super) async fn conversation(&self, id: &str) -> Result<Conversation, Fault> {
        Ok(self.gateway().conversation(&self.actor, &ConversationId::from(id)).await?)
    }

    /// Has commands done: all of them or none.
    ///
    /// # Errors
    /// What the gateway refuses.
    pub(super) async fn submit(&self, commands: Vec<Command>) -> Result<Decided, Fault> {
        Ok(self.gateway().submit(Wanted { actor: self.actor.clone(), commands, key: None, resend: None }).await?)
    }

    /// Has a conversation changed.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub(super) async fn change(&self, conversation: &Conversation, changes: Vec<FieldChange>) -> Result<(), Fault> {
        self.change_named(conversation.details.id.as_str(), changes).await
    }

    /// The same of one by its id.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub(super) async fn change_named(&self, id: &str, changes: Vec<FieldChange>) -> Result<(), Fault> {
        let conversation = id.into();
        self.submit(vec![Command::Update { conversation, changes }]).await.map(drop)
    }
}

/// A body, if it is not too large and comes in time.
///
/// # Errors
/// 413, 400.
pub(super) async fn read_body(limits: &Limits, body: axum::body::Body) -> Result<Bytes, Fault> {
    let most = limits.message.0;
    match tokio::time::timeout(limits.body_timeout.0, to_bytes(body, most)).await {
        Err(_) => Err(Fault::bad("the body did not come in time")),
        // Whether it broke off cannot be told: then nobody is there to be told.
        Ok(Err(_)) => Err(Fault::large(most)),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// A body of JSON, which may be left out, whatever the request says that it is. Clients say so of bodies that are empty.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let limits = Caller::of(request.extensions())?.ultracart.limits.load_full();
        let bytes = read_body(&limits, request.into_body()).await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(T::default()));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| Fault::bad(format!("the body is not understood: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn blanks_around_a_key_and_a_bearer_of_nothing_are_nothing() {
        let headers =
            |name: &'static str, value: &'static str| HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]);
        for (value, key) in [("KEY ", Some("KEY")), (" KEY", Some("KEY")), ("", None), ("  ", None)] {
            assert_eq!(text(&headers(SIMPLE_KEY, value), SIMPLE_KEY), key, "{value:?}");
        }
        for (value, token) in
            [("Bearer T", Some("T")), ("bearer  T ", Some("T")), ("Bearer ", None), ("Bearer", None), ("Basic T", None), ("", None)]
        {
            assert_eq!(bearer(&headers("authorization", value)), token, "{value:?}");
        }
    }
}
