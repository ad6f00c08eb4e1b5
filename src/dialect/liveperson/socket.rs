//! The sockets of consumers and agents: v2 and v3 of the same protocol.

use super::Native;
use super::render;
use super::render::Side;
use super::request::{Caller, Client, kind_of, success_text};
use crate::domain::{Actor, AgentState, Command, Conversation, Millis, Outcome, Person, Ring, Sight};
use crate::files::{EXPIRES, SIGNATURE};
use crate::gateway::{Error, Found, Request};
use crate::hub::{EventEncoder, Frame, Slot, Typing};
use crate::identity::{Agent, FormUse, Lease, SignedIn};
use crate::session::{Admitted, Answer, Ask, Asked, BatchEncoder, ChangeKind, Codec, Doorway, Greeting, batches};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;
use tieline_protocol::code::{CloseCode, ErrorCode};
use tieline_protocol::envelope::{self, RespKind, Response};
use tieline_protocol::ids::{AccountId, DialogId};
use tieline_protocol::kind::{
    RequestKind, Version, agents_notification, conversations_notification, error_response, events_notification, routing_notification,
};
use tieline_protocol::notify::{Changes, ConversationChange};
use tieline_protocol::text::{INITIALIZED, success};

/// The codec of a consumer's or an agent's socket.
#[derive(Debug)]
pub struct SocketCodec {
    pub(super) native: Arc<Native>,
    pub(super) account: AccountId,
    pub(super) actor: Actor,
    pub(super) version: Version,
    /// How to check a fresh credential of this socket.
    pub(super) renewal: Renewal,
    /// What the client said of itself.
    pub(super) client: Option<Client>,
}

/// Which credential a socket lives by, and so may be renewed with.
#[derive(Debug, Clone)]
pub(super) enum Renewal {
    /// A consumer's own token.
    SignUp,
    /// An AppJWT; the ConsumerJWS does not expire.
    App,
    /// An agent's session, which is refreshed over HTTP.
    Agent,
}

/// What a reply must know of its request.
#[derive(Debug)]
pub struct Tag {
    id: Option<String>,
    kind: Option<RequestKind>,
    /// The sentence for success, where the response is one.
    text: &'static str,
}

/// What is said of an event that was stored.
#[derive(Serialize)]
struct Sequence {
    sequence: u64,
}

pub(super) fn slot_of(version: Version) -> Slot {
    match version {
        Version::V2 => Slot(0),
        Version::V3 => Slot(1),
    }
}

impl SocketCodec {
    fn read(&mut self, request: &envelope::Request<'_>) -> Result<(RequestKind, Ask), Error> {
        let kind = kind_of(request)?;
        let Some(account) = self.native.account(self.account.as_str()) else {
            return Err(Error::fault(ErrorCode::NotFound, "the account is gone"));
        };
        if kind == RequestKind::InitConnection {
            let ask = self.renew(request)?;
            self.client = client_of(request).or(self.client.take());
            return Ok((kind, ask));
        }
        let client = self.client.as_ref();
        let caller = Caller { gateway: &self.native.gateway, account: &account, actor: &self.actor, version: self.version, client };
        caller.ask(kind, request).map(|ask| (kind, ask))
    }

    /// A second InitConnection with a fresh token for the same identity lets the connection live on.
    fn renew(&self, request: &envelope::Request<'_>) -> Result<Ask, Error> {
        let invalid = |what: &'static str| Error::fault(ErrorCode::NotAuthenticated, what);
        let account = self.native.account(self.account.as_str()).ok_or_else(|| invalid("the account is gone"))?;
        let identity = self.native.gateway.identity();
        let jwt = |name: &str| request.header(name).and_then(|header| header.jwt.clone());
        match self.renewal {
            Renewal::Agent => Err(Error::invalid("an agent's session is refreshed over HTTP")),
            Renewal::SignUp => match jwt("ConsumerAuthentication") {
                None => Ok(Ask::Renew(None)),
                Some(jwt) => {
                    let known = identity.check_sign_up(&account, bare(&jwt)).map_err(|_| invalid("the token is not valid"))?;
                    if known.actor.person() == self.actor.person() {
                        Ok(Ask::Renew(Some(known.remaining)))
                    } else {
                        Err(invalid("the token is another consumer's; open a connection for it"))
                    }
                }
            },
            Renewal::App => match jwt("AppAuthentication") {
                None => Ok(Ask::Renew(None)),
                Some(jwt) => {
                    let app = identity.check_app(&account, bare(&jwt)).map_err(|_| invalid("the AppJWT is not valid"))?;
                    let is_same = matches!(&self.actor, Actor::Consumer { app: Some(own), .. } if *own == app.app);
                    if is_same { Ok(Ask::Renew(Some(app.remaining))) } else { Err(invalid("the AppJWT is another application's")) }
                }
            },
        }
    }
}

/// What a client says of itself in InitConnection.
fn client_of(request: &envelope::Request<'_>) -> Option<Client> {
    Client::read(request.header("ClientProperties")?.raw?.get())
}

/// A token without the word in front of it.
pub(super) fn bare(token: &str) -> &str {
    let token = token.trim();
    let word_free = token.split_once(' ').filter(|(word, _)| word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("jwt"));
    word_free.map_or(token, |(_, token)| token.trim())
}

fn response(version: Version, tag: &Tag, body: impl Serialize) -> Frame {
    replayable(version, tag, body, false)
}

fn replayable(version: Version, tag: &Tag, body: impl Serialize, replayed: bool) -> Frame {
    let kind_name = tag.kind.map_or(error_response(version), |kind| kind.response(version));
    let code = tag.kind.map_or(200, RequestKind::success);
    render::to_frame(&Response { kind: RespKind::Resp, req_id: tag.id.as_deref(), code, kind_name, body, replayed })
}

/// The error as this protocol knows it: an integer code and a sentence.
fn error_frame(version: Version, actor: Option<&Actor>, id: Option<&str>, error: &Error) -> Frame {
    // An agent knows the account's conversations, so for it a missing one is a mistake, not a trespass.
    let code = match (error.is_no_such_conversation(), actor) {
        (true, Some(Actor::Agent { .. })) => 400,
        _ => error.code().status(),
    };
    let kind_name = error_response(version);
    render::to_frame(&Response { kind: RespKind::Resp, req_id: id, code, kind_name, body: error.to_string(), replayed: false })
}

impl SocketCodec {
    fn is_brands(&self) -> bool {
        matches!(self.actor, Actor::Agent { .. })
    }
}

impl Codec for SocketCodec {
    type Tag = Tag;

    fn slot(&self) -> Slot {
        slot_of(self.version)
    }

    fn conversation_slot(&self) -> Slot {
        match (self.is_brands(), self.version) {
            (true, Version::V2) => Slot(3),
            (true, Version::V3) => Slot(4),
            (false, _) => self.slot(),
        }
    }

    fn encoder(&self) -> EventEncoder {
        match self.version {
            Version::V2 => EventEncoder::Shared(self.slot(), |sight| event_text(Version::V2, sight)),
            Version::V3 => EventEncoder::Shared(self.slot(), |sight| event_text(Version::V3, sight)),
        }
    }

    fn hears_unasked(&self) -> bool {
        self.version == Version::V2
    }

    fn decode(&mut self, text: &str) -> Asked<Tag> {
        let request = match envelope::read(text) {
            Ok(request) => request,
            Err(malformed) => {
                let tag = Tag { id: malformed.id, kind: None, text: "" };
                return Asked { tag, ask: Ask::Bad(Error::invalid(malformed.reason)) };
            }
        };
        match self.read(&request) {
            Ok((kind, ask)) => {
                let text = match kind {
                    RequestKind::UpdateConversationField => success_text(&request),
                    _ => success(kind).unwrap_or(""),
                };
                Asked { tag: Tag { id: Some(request.id), kind: Some(kind), text }, ask }
            }
            Err(error) => {
                let tag = Tag { id: Some(request.id), kind: RequestKind::parse(&request.kind), text: "" };
                Asked { tag, ask: Ask::Refuse(error) }
            }
        }
    }

    fn name(&self, tag: &Tag) -> &'static str {
        name_of(tag.kind)
    }

    fn reply(&mut self, tag: Tag, result: Result<Answer, Error>) -> Option<Frame> {
        let version = self.version;
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return Some(error_frame(version, Some(&self.actor), tag.id.as_deref(), &error)),
        };
        Some(match answer {
            Answer::Nothing => return None,
            Answer::Decided(decided) => match decided.outcomes.into_iter().next() {
                Some(Outcome::Published { sequence, .. } | Outcome::Recorded { sequence, .. }) => {
                    replayable(version, &tag, Sequence { sequence }, decided.replayed)
                }
                Some(Outcome::Opened { conversation, found }) => {
                    replayable(version, &tag, render::opened(&conversation, found), decided.replayed)
                }
                Some(Outcome::Updated | Outcome::ProfileSet | Outcome::ConsumerSeen | Outcome::Routed(_) | Outcome::Remarked(_)) | None => {
                    replayable(version, &tag, tag.text, decided.replayed)
                }
            },
            Answer::Clock(now) => response(version, &tag, json!({"currentTime": now})),
            Answer::Watching(id) if tag.text.is_empty() => response(version, &tag, json!({"subscriptionId": id})),
            Answer::Renewed | Answer::Unwatched | Answer::Watching(_) => response(version, &tag, tag.text),
            Answer::Following { epoch, oldest, head } => {
                let mut body = json!({"epoch": epoch, "oldestSeq": oldest});
                body["headSeq"] = head.map_or_else(|| json!(-1), |head| json!(head));
                response(version, &tag, body)
            }
            Answer::Found(found) => response(version, &tag, found_body(version, &found)),
        })
    }

    fn batch_encoder(&self) -> BatchEncoder {
        let version = self.version;
        Arc::new(move |dialog, events| events_frames(version, dialog, events))
    }

    fn typing(&self, typing: &Typing) -> Frame {
        typing_frame(self.version, typing)
    }

    fn conversation(&self, conversation: &Conversation) -> Frame {
        if !self.is_brands() {
            return render::conversation(self.version, Side::Consumer, conversation);
        }
        let account = self.native.gateway.identity().directory().account(self.account.as_str());
        render::conversation(self.version, Side::Brand(account.as_deref()), conversation)
    }

    fn conversations(&self, subscription: &str, now: Millis, changes: &[(ChangeKind, Frame)]) -> Frame {
        conversations_frame(self.version, Some(subscription), None, now, changes)
    }

    fn offers(&self, subscription: &str, offers: &[(&Conversation, &Ring)]) -> Frame {
        let shown = offers.iter().map(|(conversation, ring)| (ChangeKind::Upsert, render::routing_task(self.version, conversation, ring)));
        changes_frame(routing_notification(self.version), subscription, &shown.collect::<Vec<_>>())
    }

    fn agents(&self, subscription: &str, agents: &[AgentState]) -> Frame {
        let shown = agents.iter().map(|state| {
            let account = self.native.account(state.account.as_str());
            let known = account.as_ref().and_then(|account| account.agent(state.agent.as_str()));
            // Whoever is no longer configured has no participant id any more.
            let person = known.map_or_else(|| Person::Agent { user: state.agent.clone(), pid: "".into() }, Agent::person);
            (ChangeKind::Upsert, render::agent_state(self.version, &person, state))
        });
        changes_frame(agents_notification(self.version), subscription, &shown.collect::<Vec<_>>())
    }

    fn feed(&self, _: &str, _: Millis, _: &[(Arc<Sight>, Option<Conversation>)]) -> Vec<Frame> {
        // A consumer's or an agent's socket is refused when it asks for a feed.
        Vec::new()
    }
}

/// What was asked for, as it is shown.
pub(super) fn found_body(version: Version, found: &Found) -> serde_json::Value {
    match found {
        Found::Events(events) => json!(changes(version, events)),
        Found::Profile(profile) => render::profile(profile),
        Found::Url(url) => {
            let query = json!({SIGNATURE: url.signature, EXPIRES: url.expires.to_string()});
            json!({"relativePath": url.path, "queryParams": query})
        }
        Found::Token(FormUse::Read, token) => json!({"token": {"type": "SecureFormReadToken", "readOtk": token}}),
        Found::Token(FormUse::Fill, token) => json!({"token": {"type": "SecureFormWriteToken", "writeOtk": token}}),
        Found::Account { id, name } => json!({"id": id, "name": name}),
    }
}

/// The name under which requests are counted.
pub(super) fn name_of(kind: Option<RequestKind>) -> &'static str {
    kind.map_or("unknown", |kind| kind.spellings()[0])
}

/// Events as changes, each as the text it is shown as.
pub(super) fn changes(version: Version, events: &[Arc<Sight>]) -> Vec<Box<RawValue>> {
    let raw = |sight: &Arc<Sight>| render::with_event(version, sight, |change| serde_json::value::to_raw_value(&change).ok()).flatten();
    events.iter().filter_map(raw).collect()
}

/// Most bytes of changes in one notification; more go into the next.
const NOTIFICATION: usize = 256 * 1024;

pub(super) fn events_frames(version: Version, dialog: &DialogId, events: &[Arc<Sight>]) -> Vec<Frame> {
    let name = events_notification(version);
    let all = changes(version, events);
    if version == Version::V2 {
        return all.into_iter().map(|change| render::notification(name, change)).collect();
    }
    let notification = |changes: Vec<_>| render::notification(name, dialog_changes(dialog.as_str(), changes));
    batches(all, NOTIFICATION, |change| change.get().len()).into_iter().map(notification).collect()
}

/// An event as it is told when it happens.
fn event_text(version: Version, sight: &Sight) -> Option<String> {
    let dialog = sight.message()?.dialog.as_str();
    let name = events_notification(version);
    // What surrounds a message is about as long again as a short one.
    let bytes = sight.message()?.bytes() + 512;
    render::with_event(version, sight, |change| match version {
        Version::V2 => render::notification_text(name, change, bytes),
        Version::V3 => render::notification_text(name, dialog_changes(dialog, [change]), bytes),
    })
}

fn dialog_changes<T>(dialog: &str, changes: impl Into<Vec<T>>) -> Changes<'_, T> {
    Changes { subscription_id: None, sent_ts: None, dialog_id: Some(dialog), cursor: None, changes: changes.into() }
}

pub(super) fn typing_frame(version: Version, typing: &Typing) -> Frame {
    let name = events_notification(version);
    render::with_typing(version, typing, |change| match version {
        Version::V2 => render::notification(name, change),
        Version::V3 => render::notification(name, dialog_changes(typing.dialog.as_str(), [change])),
    })
}

pub(super) fn conversations_frame(
    version: Version,
    subscription: Option<&str>,
    cursor: Option<&str>,
    now: Millis,
    changes: &[(ChangeKind, Frame)],
) -> Frame {
    let body = Changes { subscription_id: subscription, sent_ts: Some(now), dialog_id: None, cursor, changes: raw_changes(changes) };
    render::notification(conversations_notification(version), body)
}

/// A notification about anything else that a subscription is about.
fn changes_frame(name: &str, subscription: &str, changes: &[(ChangeKind, Frame)]) -> Frame {
    let changes = raw_changes(changes);
    render::notification(name, Changes { subscription_id: Some(subscription), sent_ts: None, dialog_id: None, cursor: None, changes })
}

fn raw_changes(changes: &[(ChangeKind, Frame)]) -> Vec<ConversationChange<&RawValue>> {
    let changes = changes.iter().filter_map(|(kind, result)| {
        let kind = match kind {
            ChangeKind::Upsert => "UPSERT",
            ChangeKind::Delete => "DELETE",
        };
        // It is JSON that we wrote ourselves.
        serde_json::from_str::<&RawValue>(result.as_str()).ok().map(|result| ConversationChange { kind, result })
    });
    changes.collect()
}

/// A consumer that connected without a token and has to send InitConnection first.
#[derive(Debug)]
pub struct ConsumerDoorway {
    pub(super) native: Arc<Native>,
    pub(super) account: AccountId,
    /// What the upgrade request said of the client.
    pub(super) client: Option<Client>,
}

impl Doorway for ConsumerDoorway {
    type Codec = SocketCodec;

    fn greet(&mut self, text: &str) -> Greeting<SocketCodec> {
        let refuse = |id: Option<&str>, error: &Error| Greeting::NotYet(error_frame(Version::V3, None, id, error));
        let request = match envelope::read(text) {
            Ok(request) => request,
            Err(malformed) => return refuse(malformed.id.as_deref(), &Error::invalid(malformed.reason)),
        };
        let first = || Error::fault(ErrorCode::NotAuthenticated, "send InitConnection with a token first");
        if RequestKind::parse(&request.kind) != Some(RequestKind::InitConnection) {
            return refuse(Some(&request.id), &first());
        }
        let Some(jwt) = request.header("ConsumerAuthentication").and_then(|header| header.jwt.as_deref()) else {
            return refuse(Some(&request.id), &first());
        };
        let Some(account) = self.native.account(self.account.as_str()) else { return Greeting::Turned(CloseCode::Token) };
        match self.native.gateway.identity().check_sign_up(&account, bare(jwt)) {
            Err(_) => Greeting::Turned(CloseCode::Token),
            Ok(known) => {
                let tag = Tag { id: Some(request.id.clone()), kind: Some(RequestKind::InitConnection), text: INITIALIZED };
                self.native.welcome(&known);
                let client = client_of(&request).or(self.client.take());
                let lease = self.native.gateway.identity().lease(bare(jwt), known.remaining);
                let admitted = self.native.consumer(account.id.clone(), known.actor, lease, Renewal::SignUp, client);
                Greeting::Welcome(response(Version::V3, &tag, INITIALIZED), Box::new(admitted))
            }
        }
    }
}

impl Native {
    /// Keeps what a consumer's identity provider says of it, for agents who ask who it is.
    pub(super) fn welcome(&self, known: &SignedIn) {
        let claims = known.claims.as_ref().and_then(|claims| serde_json::value::to_raw_value(claims).ok());
        if let Some(claims) = claims {
            let commands = vec![Command::SeeClaims { claims }];
            drop(self.gateway.submit(Request { actor: known.actor.clone(), commands, key: None, resend: None }));
        }
    }

    /// A consumer's session to be.
    pub(super) fn consumer(
        self: &Arc<Self>,
        account: AccountId,
        actor: Actor,
        lease: Lease,
        renewal: Renewal,
        client: Option<Client>,
    ) -> Admitted<SocketCodec> {
        // The consumer is known from here on, for agents who ask who it is.
        if let (Actor::Consumer { id, app: None, .. }, Renewal::SignUp) = (&actor, &renewal) {
            let seen = Command::SeeConsumer { is_new: false, consumer: id.clone(), app: None, ext_id: None };
            drop(self.gateway.submit(Request { actor: actor.clone(), commands: vec![seen], key: None, resend: None }));
        }
        let codec = SocketCodec { native: self.clone(), account, actor: actor.clone(), version: Version::V3, renewal, client };
        Admitted { actor, lease, codec, first: Vec::new() }
    }

    /// An agent's session to be.
    pub(super) fn agent(self: &Arc<Self>, account: AccountId, actor: Actor, lease: Lease, version: Version) -> Admitted<SocketCodec> {
        let codec = SocketCodec { native: self.clone(), account, actor: actor.clone(), version, renewal: Renewal::Agent, client: None };
        Admitted { actor, lease, codec, first: Vec::new() }
    }
}
