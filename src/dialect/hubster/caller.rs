//! Who calls, what they may do, and the conversation that a call is about.

use super::Hubster;
use super::error::{Code, Fault};
use super::object::{self, Bound, Scene};
use crate::config::Dialect;
use crate::dialect::origin::origin;
use crate::domain::{Actor, Conversation};
use crate::faults::Tenant;
use crate::gateway::Gateway;
use crate::identity::{Account, ApiKey, Denied, Kept, PassKind};
use crate::things::{Integration, ThingId};
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{ClientId, ConsumerId, ConversationId};
use uuid::Uuid;

/// Who calls, by a token.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) account: Arc<Account>,
    pub(super) power: Power,
}

/// What a token lets its bearer do.
#[derive(Debug, Clone)]
pub(super) enum Power {
    /// Whatever the key may for which it was given.
    Engine(Arc<ApiKey>),
    /// A visitor of a web page: its own conversations on one integration.
    Web {
        /// The integration.
        integration: ThingId,
        /// The visitor, as only its tokens name it.
        visitor: String,
    },
}

impl Caller {
    /// As whom it looks at conversations.
    pub(super) fn actor(&self) -> Actor {
        match &self.power {
            Power::Engine(key) => key.actor.clone(),
            // Whose they are is asked by [`Self::conversation`].
            Power::Web { .. } => self.account.system(),
        }
    }

    /// The key of a program that may do more than a visitor.
    ///
    /// # Errors
    /// 403 for a visitor.
    pub(super) fn engine(&self) -> Result<&Arc<ApiKey>, Fault> {
        match &self.power {
            Power::Engine(key) => Ok(key),
            Power::Web { .. } => Err(forbidden()),
        }
    }

    /// Whether it may speak for customers: for its own a visitor, for all a key that may write in others' names.
    ///
    /// # Errors
    /// 403.
    pub(super) fn may_speak_for_customers(&self) -> Result<(), Fault> {
        match &self.power {
            Power::Engine(key) if !key.actor.is_manager() => {
                Err(Fault::new(Code::NotAllowed, "This token's key acts as an agent who is no manager, and may not speak for customers."))
            }
            _ => Ok(()),
        }
    }

    /// The customer that a binding on an integration names: another for each visitor.
    pub(super) fn customer(&self, gateway: &Gateway, on: &Kept<Integration>, binding: &str) -> Customer {
        let hub = ClientId::from(on.thing.hub.to_string());
        let name = match &self.power {
            Power::Engine(_) => format!("{}/{binding}", on.id),
            Power::Web { visitor, .. } => format!("{}/{visitor}/{binding}", on.id),
        };
        let id = gateway.identity().consumer_id(&self.account.id, &hub, &name);
        Customer { id, hub, name }
    }

    /// Whether it may use an integration.
    ///
    /// # Errors
    /// 403.
    pub(super) fn may_use(&self, integration: ThingId) -> Result<(), Fault> {
        match &self.power {
            Power::Web { integration: own, .. } if *own != integration => Err(forbidden()),
            _ => Ok(()),
        }
    }

    /// The conversation of an id, if it is one of this dialect's and the caller may know of it.
    ///
    /// # Errors
    /// 404, also for an id that is none; 403 for a visitor, if it is another's, or the visitor is revoked; 503.
    pub(super) async fn conversation(&self, gateway: &Gateway, id: &str) -> Result<Known, Fault> {
        let id = Uuid::try_parse(id).map_err(|_| Fault::no_conversation())?;
        let found = gateway.conversation(&self.actor(), &ConversationId::from(id.hyphenated().to_string())).await?;
        let known = Known::of(&self.account, found).ok_or_else(Fault::no_conversation)?;
        if let Power::Web { .. } = &self.power {
            self.may_use(known.integration.id)?;
            let own = self.customer(gateway, &known.integration, &known.bound.binding);
            if own.id != known.conversation.details.consumer {
                return Err(forbidden());
            }
            is_in_good_standing(gateway, &self.account, &own.id)?;
        }
        Ok(known)
    }
}

fn forbidden() -> Fault {
    Fault::new(Code::Forbidden, "This token opens only its own conversations on its own integration.")
}

/// Whether a customer may speak and be told: one that is revoked may not.
///
/// # Errors
/// 403.
pub(super) fn is_in_good_standing(gateway: &Gateway, account: &Account, customer: &ConsumerId) -> Result<(), Fault> {
    if gateway.identity().is_revoked(&account.id, customer) {
        return Err(Fault::new(Code::NotAllowed, "This customer is revoked."));
    }
    Ok(())
}

/// A customer, as the gateway knows it.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) id: ConsumerId,
    /// The hub, which speaks for it.
    pub(super) hub: ClientId,
    /// What the hub calls it.
    pub(super) name: String,
}

impl Customer {
    /// The customer as an actor of an account.
    pub(super) fn actor(&self, account: &Account) -> Actor {
        Actor::Consumer { account: account.id.clone(), id: self.id.clone(), app: Some(self.hub.clone()), was: None }
    }
}

/// A conversation of this dialect's, with what it was established with.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) conversation: Conversation,
    pub(super) bound: Bound,
    /// Also one that was deleted since.
    pub(super) integration: Arc<Kept<Integration>>,
}

impl Known {
    /// A conversation, if it is one of this dialect's.
    pub(super) fn of(account: &Account, conversation: Conversation) -> Option<Self> {
        let bound = Bound::of(&conversation)?;
        let integration = account.things().integrations.resolve(bound.integration())?;
        let is_its_hubs = conversation.details.app.as_ref().is_some_and(|app| app.as_str() == integration.thing.hub.to_string());
        is_its_hubs.then_some(Self { conversation, bound, integration })
    }

    /// The customer as an actor.
    pub(super) fn customer(&self) -> Actor {
        let details = &self.conversation.details;
        Actor::Consumer { account: details.account.clone(), id: details.consumer.clone(), app: details.app.clone(), was: None }
    }
}

impl Hubster {
    /// Who shows a token, and how long it holds from now. `scheme` is the word in front of it, if there is a place for one.
    ///
    /// # Errors
    /// 401, 503.
    pub(super) fn check(&self, scheme: Option<&str>, token: &str) -> Result<(Caller, Duration), Fault> {
        match scheme {
            Some(word) if word.eq_ignore_ascii_case("bearer") => self.engine(token),
            Some(word) if word.eq_ignore_ascii_case("webbearer") => self.visitor(token),
            Some(_) => Err(Fault::unauthorised()),
            // Where there is no place for the word.
            None => match self.engine(token) {
                // It may be of the other kind. Whatever else is wrong is so with both.
                Err(fault) if fault.status() == StatusCode::UNAUTHORIZED => self.visitor(token),
                known => known,
            },
        }
    }

    fn engine(&self, token: &str) -> Result<(Caller, Duration), Fault> {
        let identity = self.gateway.identity();
        let pass = identity.check_pass(PassKind::HubsterEngine, token).map_err(denied)?;
        let key = Uuid::try_parse(&pass.subject).ok().and_then(|id| identity.directory().api_key_named(Dialect::Hubster, id));
        // A key that was taken away ends its tokens.
        let key = key.filter(|key| key.account.id == pass.account.id).ok_or_else(Fault::unauthorised)?;
        Ok((Caller { account: key.account.clone(), power: Power::Engine(key) }, pass.remaining))
    }

    fn visitor(&self, token: &str) -> Result<(Caller, Duration), Fault> {
        let pass = self.gateway.identity().check_pass(PassKind::HubsterWebChat, token).map_err(denied)?;
        let integration = pass.subject.parse::<ThingId>().map_err(|_| Fault::unauthorised())?;
        let is_there = pass.account.things().integrations.get(integration).is_some();
        let visitor = pass.bound.filter(|_| is_there).ok_or_else(Fault::unauthorised)?;
        Ok((Caller { account: pass.account, power: Power::Web { integration, visitor } }, pass.remaining))
    }

    /// Counts a request of a caller.
    ///
    /// # Errors
    /// 429.
    pub(super) fn count(&self, caller: &Caller, address: IpAddr) -> Result<(), Fault> {
        match &caller.power {
            Power::Engine(key) => key.admit(address).map(drop).map_err(Fault::many),
            Power::Web { .. } => self.throttled("visitor", address),
        }
    }

    /// What it takes to show the objects of an account to who makes a request.
    pub(super) fn scene<'s>(&'s self, account: &'s Account, origin: &'s str) -> Scene<'s> {
        Scene { account, files: self.gateway.files(), origin, now: self.gateway.identity().now() }
    }

    /// Reads a body, which must come in time and not be too large.
    ///
    /// # Errors
    /// 408, 413.
    pub(super) async fn read(&self, body: Body) -> Result<Bytes, Fault> {
        let limits = self.limits.load_full();
        match tokio::time::timeout(limits.body_timeout.0, axum::body::to_bytes(body, limits.message.0)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) => Err(Fault::large(limits.message.0)),
            Err(_) => Err(Fault::new(Code::TimedOut, "The body did not come in time.")),
        }
    }
}

fn denied(denied: Denied) -> Fault {
    match denied {
        Denied::Invalid => Fault::unauthorised(),
        Denied::Unavailable => Fault::unavailable(),
    }
}

/// The word in front of a token, and the token.
pub(super) fn shown(headers: &HeaderMap) -> Option<(&str, &str)> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    Some((scheme, token.trim()))
}

/// What absolute addresses begin with in the answer to a request.
#[derive(Debug, Clone)]
pub(super) struct Origin(pub(super) Arc<str>);

/// Lets in who shows a token.
pub(super) async fn admit(
    State(hubster): State<Arc<Hubster>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match admitted(&hubster, peer.ip(), request).await {
        Ok((tenant, request)) => {
            let mut response = next.run(request).await;
            response.extensions_mut().insert(tenant);
            response
        }
        Err(fault) => fault.into_response(),
    }
}

async fn admitted(hubster: &Hubster, address: IpAddr, request: Request) -> Result<(Tenant, Request), Fault> {
    let (scheme, token) = shown(request.headers()).ok_or_else(Fault::unauthorised)?;
    let (caller, _) = hubster.check(Some(scheme), token)?;
    hubster.count(&caller, address)?;
    let (mut parts, body) = request.into_parts();
    let bytes = hubster.read(body).await?;
    let tenant = Tenant(caller.account.id.clone());
    let origin = origin(&hubster.public_url, &parts.headers, &parts.extensions);
    parts.extensions.insert(Origin(origin.into()));
    parts.extensions.insert(caller);
    Ok((tenant, Request::from_parts(parts, Body::from(bytes))))
}

/// The id that stands in a path. One that cannot be read names nothing, as any other that is none.
#[derive(Debug)]
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(read.map(|Path(id)| id).unwrap_or_default()))
    }
}

/// Whether an integration takes messages.
///
/// # Errors
/// 400.
pub(super) fn is_active(integration: &Kept<Integration>) -> Result<(), Fault> {
    match object::state(integration) {
        crate::things::IntegrationState::Active => Ok(()),
        crate::things::IntegrationState::Paused => Err(Fault::new(Code::Paused, "The integration is paused.")),
        crate::things::IntegrationState::Cancelled => Err(Fault::new(Code::Terminated, "The integration is terminated.")),
    }
}
