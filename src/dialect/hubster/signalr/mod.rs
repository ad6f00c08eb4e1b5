//! The events hub: activities as they happen, over SignalR.
//!
//! A client negotiates, or does not; connects a WebSocket, with its token; shakes hands; and is told of each activity by a call of
//! its method. It has nothing to call here. [`wire`] is the protocol, [`view`] what a connection is shown, and [`codec`] how.

mod codec;
mod view;
mod wire;

pub use codec::{EventsCodec, Tag};

use self::view::{Reach, View};
use self::wire::END;
use super::Hubster;
use super::caller::{Caller, Power, is_active, is_in_good_standing, shown};
use super::error::{Code, Fault};
use super::openapi::NegotiateRefused;
use crate::dialect::origin::origin;
use crate::dialect::{Socket, form};
use crate::domain::{Actor, EVENTS_AHEAD, Millis};
use crate::hub::Frame;
use crate::identity::{Kept, Lease};
use crate::session::{Admission, Admitted, Ask, Asked, Codec, Doorway, Greeting, MOST_IN_FRAME};
use crate::things::{Integration, IntegrationKind, ThingId};
use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_with::skip_serializing_none;
use std::net::SocketAddr;
use std::sync::Arc;
use tieline_protocol::code::CloseCode;
use tieline_protocol::ids::ClientId;
use utoipa::ToSchema;

/// How far in front of the last event a hub's replay begins. Times grow within a conversation, and one in which more is said than
/// there are milliseconds is ahead of others by so much at most.
const MARGIN: Millis = EVENTS_AHEAD;
/// Longest handshake that comes in parts.
const LONGEST_HANDSHAKE: usize = 4 * 1024;

/// What a client asks for by an address.
#[derive(Default)]
struct Wanted {
    integration: Option<String>,
    conversation: Option<String>,
    after: Option<String>,
    token: Option<String>,
    version: Option<String>,
}

impl Wanted {
    fn of(uri: &Uri) -> Self {
        let mut wanted = Self::default();
        for (name, value) in form::members(uri.query().unwrap_or_default()) {
            let place = match name.to_ascii_lowercase().as_str() {
                "iid" => &mut wanted.integration,
                "cid" => &mut wanted.conversation,
                "leid" => &mut wanted.after,
                "access_token" => &mut wanted.token,
                "negotiateversion" => &mut wanted.version,
                _ => continue,
            };
            *place = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
        wanted
    }

    /// The token: of the header, with whichever of our words in front of it, for clients have but one; else of the address.
    fn token<'w>(&'w self, headers: &'w HeaderMap) -> Option<&'w str> {
        match shown(headers) {
            Some((word, token)) => ["bearer", "webbearer"].iter().any(|known| word.eq_ignore_ascii_case(known)).then_some(token),
            None if headers.contains_key(header::AUTHORIZATION) => None,
            None => self.token.as_deref(),
        }
    }

    /// The event behind which it begins, if not now.
    fn after(&self) -> Result<Option<Millis>, Fault> {
        let Some(text) = &self.after else { return Ok(None) };
        let wrong = || Fault::new(Code::BadFormat, "Query parameter 'leid' must be an eventId: milliseconds since 1970.");
        match text.parse().map_err(|_| wrong())? {
            after @ 0.. => Ok(Some(after)),
            _ => Err(Fault::new(Code::OutOfRange, "Query parameter 'leid' must be at least 0.")),
        }
    }
}

/// What a connection is to be.
struct Seat {
    actor: Actor,
    view: View,
    begin: Ask,
}

/// Whether an integration is an agent's or a bot's that the caller may speak for.
///
/// # Errors
/// 403.
fn is_own_desk(caller: &Caller, integration: &Kept<Integration>) -> Result<(), Fault> {
    if !integration.thing.is_business() {
        let why = "A customer's integration sees one conversation; name it by 'cId'. Only agents' and bots' see their hub's.";
        return Err(Fault::new(Code::Forbidden, why));
    }
    let others = || Fault::new(Code::NotAllowed, "This token's key acts as another agent, and may not see what this one sees.");
    let agent = integration.thing.agent.as_ref().and_then(|agent| caller.account.agent(agent.as_str())).ok_or_else(others)?;
    caller.engine()?.actor.in_the_name_of(&agent.person()).map(drop).ok_or_else(others)
}

impl Hubster {
    /// Who asks by an address.
    fn comes(&self, wanted: &Wanted, headers: &HeaderMap) -> Result<(Caller, String), Fault> {
        let token = wanted.token(headers).ok_or_else(Fault::unauthorised)?;
        let (caller, _) = self.check(None, token)?;
        Ok((caller, token.to_owned()))
    }

    /// Counts that a visitor connects. A program may have many connections, which all come back at once after a cut, and its stock
    /// clients try but a few times: so its key's rate is for calls alone.
    fn count_visitor(&self, caller: &Caller, extensions: &Extensions) -> Result<(), Fault> {
        match (&caller.power, extensions.get::<ConnectInfo<SocketAddr>>()) {
            (Power::Web { .. }, Some(ConnectInfo(peer))) => self.count(caller, peer.ip()),
            _ => Ok(()),
        }
    }

    /// What is wanted, if the caller may have it.
    async fn seat(self: &Arc<Self>, caller: &Caller, wanted: &Wanted, origin: String) -> Result<Seat, Fault> {
        let missing = || Fault::new(Code::ParameterMissing, "Query parameter 'iId' is required.");
        let named = wanted.integration.as_deref().ok_or_else(missing)?;
        let nothing = || Fault::new(Code::NoIntegration, format!("Integration {named} does not exist."));
        let id = named.parse::<ThingId>().map_err(|_| nothing())?;
        caller.may_use(id)?;
        let integration = caller.account.things().integrations.get(id).ok_or_else(nothing)?;
        is_active(&integration)?;
        let after = wanted.after()?;
        let (actor, reach, begin) = match &wanted.conversation {
            Some(conversation) if integration.thing.kind == IntegrationKind::Customer => {
                self.at_conversation(caller, &integration, conversation, after).await?
            }
            only => self.at_hub(caller, &integration, only.as_deref(), after).await?,
        };
        let view = View { hubster: self.clone(), account: caller.account.id.clone(), integration: id, reach, origin };
        Ok(Seat { actor, view, begin })
    }

    async fn at_conversation(
        &self,
        caller: &Caller,
        integration: &Kept<Integration>,
        conversation: &str,
        after: Option<Millis>,
    ) -> Result<(Actor, Reach, Ask), Fault> {
        let known = caller.conversation(&self.gateway, conversation).await?;
        if known.integration.id != integration.id {
            return Err(Fault::no_conversation());
        }
        let details = &known.conversation.details;
        is_in_good_standing(&self.gateway, &caller.account, &details.consumer)?;
        let from = match after {
            Some(after) => self.gateway.first_after(&known.conversation, after).await?,
            None => known.conversation.next[0],
        };
        let (id, dialog, actor) = (details.id.clone(), details.id.main_dialog(), known.customer());
        let begin = Ask::Follow { actor: actor.clone(), conversation: id, dialog, from, epoch: None };
        Ok((actor, Reach::Conversation(Box::new(known)), begin))
    }

    async fn at_hub(
        &self,
        caller: &Caller,
        integration: &Kept<Integration>,
        only: Option<&str>,
        after: Option<Millis>,
    ) -> Result<(Actor, Reach, Ask), Fault> {
        is_own_desk(caller, integration)?;
        let hub = integration.thing.hub;
        let only = match only {
            Some(conversation) => {
                let known = caller.conversation(&self.gateway, conversation).await?;
                let is_its_hubs = known.integration.thing.hub == hub;
                Some(is_its_hubs.then(|| known.conversation.details.id.clone()).ok_or_else(Fault::no_conversation)?)
            }
            None => None,
        };
        let position = match after {
            Some(after) => Some(self.gateway.position_before(after.saturating_sub(MARGIN)).await?),
            None => None,
        };
        let begin = Ask::FollowFeed(position.map(|position| (self.gateway.store().epoch().to_owned(), position)));
        let actor = Actor::Application { account: caller.account.id.clone(), app: ClientId::from(hub.to_string()) };
        Ok((actor, Reach::Hub(only), begin))
    }

    /// How long a connection lives that was opened with a token. What let it in is looked at once more, for it may have ended since.
    fn lease(&self, token: &str, actor: &Actor) -> Result<Lease, Fault> {
        let identity = self.gateway.identity();
        let (caller, remaining) = self.check(None, token)?;
        if let Actor::Consumer { id, .. } = actor {
            is_in_good_standing(&self.gateway, &caller.account, id)?;
        }
        let lease = match &caller.power {
            Power::Engine(key) => identity.key_lease(key, token, remaining),
            Power::Web { .. } => identity.lease(token, remaining),
        };
        // A key that was taken away meanwhile may not have found the lease.
        self.check(None, token).map(|_| lease)
    }

    /// The socket of the events hub.
    #[must_use]
    pub fn events_socket(self: &Arc<Self>) -> EventsSocket {
        EventsSocket(self.clone())
    }
}

/// The socket of the events hub.
#[derive(Debug, Clone)]
pub struct EventsSocket(Arc<Hubster>);

impl Socket for EventsSocket {
    type Doorway = EventsDoorway;

    fn path(&self) -> &'static str {
        "/engine-chat-hub"
    }

    fn allows_origin(&self, parts: &Parts) -> bool {
        parts.headers.get(header::ORIGIN).is_some_and(|origin| self.0.is_allowed(origin, parts))
    }

    fn admit<'p>(&'p self, parts: &'p Parts) -> BoxFuture<'p, Result<Admission<EventsDoorway>, Box<Response>>> {
        Box::pin(async move {
            let wanted = Wanted::of(&parts.uri);
            let hubster = &self.0;
            let admitted = async {
                let (caller, token) = hubster.comes(&wanted, &parts.headers)?;
                let origin = origin(&hubster.public_url, &parts.headers, &parts.extensions);
                let seat = hubster.seat(&caller, &wanted, origin).await?;
                // Last, for who is refused is looked at twice.
                hubster.count_visitor(&caller, &parts.extensions)?;
                Ok::<_, Fault>(EventsDoorway { hubster: hubster.clone(), token, seat: Some(seat), part: String::new() })
            };
            admitted.await.map(Admission::Unknown).map_err(|fault| Box::new(fault.into_response()))
        })
    }
}

/// A client that may come in and has not shaken hands.
pub struct EventsDoorway {
    hubster: Arc<Hubster>,
    token: String,
    seat: Option<Seat>,
    /// The beginning of its handshake.
    part: String,
}

impl std::fmt::Debug for EventsDoorway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the token.
        f.debug_struct("EventsDoorway").finish_non_exhaustive()
    }
}

fn refused(why: &str, code: CloseCode) -> Greeting<EventsCodec> {
    Greeting::Refused(Frame::from(wire::turned(why)), code)
}

impl Doorway for EventsDoorway {
    type Codec = EventsCodec;

    fn greet(&mut self, text: &str) -> Greeting<EventsCodec> {
        self.part.push_str(text);
        let Some((handshake, rest)) = self.part.split_once(END) else {
            let is_endless = self.part.len() > LONGEST_HANDSHAKE;
            return if is_endless { refused("The handshake does not end.", CloseCode::Policy) } else { Greeting::Part };
        };
        if let Err(why) = wire::shake(handshake) {
            return refused(&why, CloseCode::Policy);
        }
        let Some(Seat { actor, view, begin }) = self.seat.take() else { return Greeting::Turned(CloseCode::Policy) };
        let lease = match self.hubster.lease(&self.token, &actor) {
            Ok(lease) => lease,
            Err(fault) => return refused(&fault.exception(), CloseCode::Token),
        };
        let mut codec = EventsCodec::new(view);
        let mut first = vec![Asked { tag: Tag::Begin, ask: begin }];
        // What was said in the same breath.
        let said = || rest.split_inclusive(END);
        if said().nth(MOST_IN_FRAME).is_some() {
            return refused(&format!("A frame has at most {MOST_IN_FRAME} messages behind the handshake."), CloseCode::Policy);
        }
        first.extend(said().map(|text| codec.decode(text)));
        Greeting::Welcome(Frame::from_static(wire::WELCOME), Box::new(Admitted { actor, lease, codec, first }))
    }
}

/// How to connect.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Negotiated {
    /// 0 or 1.
    negotiate_version: u8,
    connection_id: String,
    /// What the client names as `id` when it connects; of version 1.
    connection_token: Option<String>,
    available_transports: [Transport; 1],
}

/// A way to connect.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Transport {
    /// `WebSockets`.
    transport: &'static str,
    /// `Text`: the hub protocol is spoken as JSON.
    #[schema(value_type = Vec<String>)]
    transfer_formats: [&'static str; 1],
}

/// Says how to connect to the events hub, if the caller may: by a WebSocket at `/engine-chat-hub`, with the same query.
#[utoipa::path(post, path = "/engine-chat-hub/negotiate", operation_id = "negotiateEvents", tag = "events",
    params(
        ("iId" = String, Query, description = "The integration that is to be told."),
        ("cId" = Option<String>, Query, description = "The conversation: of a customer's integration it must be named."),
        ("leid" = Option<String>, Query, description = "The `eventId` behind which it begins; left out, it begins now."),
        ("negotiateVersion" = Option<String>, Query, description = "0, which it is if left out, or 1."),
        ("access_token" = Option<String>, Query, description = "The token, where it cannot be a header."),
    ),
    responses((status = 200, description = "By a WebSocket.", body = Negotiated), NegotiateRefused))]
pub(super) async fn negotiate(
    State(hubster): State<Arc<Hubster>>,
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Json<Negotiated>, Fault> {
    let wanted = Wanted::of(&uri);
    let (caller, _) = hubster.comes(&wanted, &headers)?;
    hubster.count_visitor(&caller, &extensions)?;
    let version = match wanted.version.as_deref().map_or(Ok(0), str::parse::<u32>) {
        Ok(version) => u8::from(version > 0),
        Err(_) => return Err(Fault::new(Code::BadFormat, "Query parameter 'negotiateVersion' must be 0 or 1.")),
    };
    hubster.seat(&caller, &wanted, String::new()).await?;
    let name = || URL_SAFE_NO_PAD.encode(crate::random::bytes::<16>());
    Ok(Json(Negotiated {
        negotiate_version: version,
        connection_id: name(),
        connection_token: (version > 0).then(name),
        available_transports: [Transport { transport: "WebSockets", transfer_formats: ["Text"] }],
    }))
}
