//! The socket of an agent: it hears of all that happens in its account, and writes where it takes part.

use super::arn::Merchant;
use super::caller::bearer;
use super::error::Fault;
use super::frames::{self, Cursor, Heard, Saying, Teller, Unheard, Wanted};
use super::model::{MARK, Scene};
use super::{SOCKET, UltraCart};
use crate::dialect::Socket;
use crate::dialect::ids::event_of_uuid;
use crate::dialect::origin::origin;
use crate::domain::{Actor, Command, FieldChange, Millis, Outcome, Person, Refusal};
use crate::gateway::{Error, Fed, Found, IdempotencyKey, Query as Question, Request};
use crate::hub::{EventEncoder, Frame, Slot, Typing};
use crate::identity::{Account, AgentPass, Denied, Lease, NoAccess, PassKind};
use crate::session::{Admission, Admitted, Answer, Ask, Asked, BatchEncoder, Codec, Course, Doorway, Greeting};
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::{CloseCode, ErrorCode};
use tieline_protocol::event::{EventClass, inspect};
use tieline_protocol::ids::{AccountId, ConversationId};
use tokio::time::Instant;

/// A ping is answered so often at most: two sides that answer each other's would never end.
const PING: Duration = Duration::from_secs(5);

/// Subprotocols that are looked at.
const MOST_PROTOCOLS: usize = 16;

/// The codecs of this socket encode what somebody types alike.
const SLOT: Slot = Slot(5);

/// The socket of an agent.
#[derive(Debug, Clone)]
pub struct AgentSocket(Arc<UltraCart>);

impl UltraCart {
    /// The agent's socket.
    #[must_use]
    pub fn agent_socket(self: &Arc<Self>) -> AgentSocket {
        AgentSocket(self.clone())
    }
}

/// What the address of an upgrade request says.
#[derive(Debug, Default, Deserialize)]
struct Address {
    jwt: Option<String>,
    token: Option<String>,
    access_token: Option<String>,
    /// Where the feed goes on.
    after: Option<String>,
}

/// The subprotocols that are offered.
fn offered(parts: &Parts) -> impl Iterator<Item = &str> {
    let lines = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|name| !name.is_empty()).take(MOST_PROTOCOLS)
}

/// Whether a subprotocol is rather a token: three parts with points between them.
fn is_token(name: &str) -> bool {
    name.split('.').count() == 3 && name.starts_with("ey")
}

impl Socket for AgentSocket {
    type Doorway = Nobody;

    fn path(&self) -> &'static str {
        SOCKET
    }

    fn protocol(&self, parts: &Parts) -> Option<HeaderValue> {
        // A browser hangs up if none of what it offers is taken. The token is taken only if there is nothing else.
        let chosen = offered(parts).find(|name| !is_token(name)).or_else(|| offered(parts).next())?;
        HeaderValue::from_str(chosen).ok()
    }

    fn admit<'p>(&'p self, parts: &'p Parts) -> BoxFuture<'p, Result<Admission<Nobody>, Box<Response>>> {
        Box::pin(self.admitted(parts))
    }
}

fn refused(fault: Fault) -> Box<Response> {
    Box::new(fault.into_response())
}

impl AgentSocket {
    async fn admitted(&self, parts: &Parts) -> Result<Admission<Nobody>, Box<Response>> {
        let Query(address) = Query::<Address>::try_from_uri(&parts.uri)
            .map_err(|error| refused(Fault::bad(format!("the address is not understood: {}", error.body_text()))))?;
        let gateway = &self.0.gateway;
        let store = gateway.store();
        let identity = gateway.identity();
        let named = [&address.jwt, &address.token, &address.access_token].into_iter().flatten().map(String::as_str);
        let tokens = named.chain(bearer(&parts.headers)).chain(offered(parts));
        let mut why = Fault::denied("Open this socket with the jwt of PUT /rest/v2/conversation/agent/auth, as ?jwt= or as a bearer.");
        let mut checked = None;
        for token in tokens {
            match identity.check_agent_pass(PassKind::UltraCartSocket, token).await {
                Ok(pass) => {
                    checked = Some(pass);
                    break;
                }
                Err(NoAccess::Denied(Denied::Invalid)) => {
                    why = Fault::denied("The token has ended or is not valid; ask for another by agent/auth.");
                }
                Err(NoAccess::Denied(Denied::Unavailable)) => return Err(refused(Error::Unreadable.into())),
                Err(too_many @ NoAccess::TooMany(_)) => return Err(refused(too_many.into())),
                Err(NoAccess::Gone) => {
                    let why = "The agent or the application of this token is gone or has changed; ask for another by agent/auth.";
                    return Err(refused(Fault::of(StatusCode::GONE, why)));
                }
            }
        }
        let Some(AgentPass { account, agent, lease }) = checked else { return Err(refused(why)) };
        let no_cursor = || refused(Fault::bad("after is no cursor; give that of the last frame that you have, or leave it out"));
        let after = address.after.as_deref().filter(|after| !after.is_empty());
        let known = after.map(|after| Cursor::read(after).ok_or_else(no_cursor)).transpose()?;
        let is_here = |known: &&Cursor| known.epoch == store.epoch();
        if known.as_ref().filter(is_here).is_some_and(|known| known.position > store.head()) {
            return Err(no_cursor());
        }
        if known.as_ref().is_some_and(|known| !is_here(&known)) {
            let error = Error::fault(
                ErrorCode::OtherEpoch,
                "after is a cursor of another log; connect without it, and read what you show by REST again",
            );
            return Ok(Admission::Turned(CloseCode::OtherLog, Some(frames::notice(None, None, error))));
        }
        let origin = origin(&self.0.public_url, &parts.headers, &parts.extensions).into();
        let actor = agent.actor(&account.id);
        let codec = AgentCodec {
            ultracart: self.0.clone(),
            account: account.id.clone(),
            agent: agent.person(),
            actor,
            origin,
            known,
            pinged: None,
        };
        Ok(Admission::Known(Box::new(codec.admitted(lease))))
    }
}

/// A peer that is not known by its upgrade. There is none: it is refused.
#[derive(Debug)]
pub enum Nobody {}

impl Doorway for Nobody {
    type Codec = AgentCodec;

    fn greet(&mut self, _: &str) -> Greeting<AgentCodec> {
        match *self {}
    }
}

/// The codec of an agent's socket.
#[derive(Debug)]
pub struct AgentCodec {
    ultracart: Arc<UltraCart>,
    account: AccountId,
    agent: Person,
    actor: Actor,
    /// Scheme and host under which the agent reaches us.
    origin: Arc<str>,
    /// What the client has of the feed.
    known: Option<Cursor>,
    /// When a ping was last answered.
    pinged: Option<Instant>,
}

/// What a reply must know of its request.
#[derive(Debug)]
pub struct Tag {
    name: &'static str,
    conversation: Option<ConversationId>,
    said: Option<Saying>,
    /// Whether a ping is answered.
    answers: bool,
}

impl Tag {
    fn of(name: &'static str) -> Self {
        Self { name, conversation: None, said: None, answers: false }
    }
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    // What was just made of JSON values is JSON.
    to_raw_value(value).unwrap_or_default()
}

/// What is published of a message: its text and each of its files. The first of them has the name that the client gave it, so that
/// the client takes no other for it.
fn parts(said: &Saying, conversation: &ConversationId) -> Vec<Command> {
    let text = (!said.body.is_empty()).then(|| (json!({"type": "ContentEvent", "contentType": "text/plain", "message": said.body}), None));
    let file = |path: &String| {
        let kind = path.rsplit_once('.').map_or("", |(_, extension)| extension).to_uppercase();
        let message = json!({"relativePath": path, "fileType": kind});
        (json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message}), Some(path.clone()))
    };
    let name = said.client_message_id.as_ref().map(|name| raw(&json!([{"type": MARK, "client_message_id": name}])));
    let publish = |(place, (event, file)): (usize, (serde_json::Value, Option<String>))| Command::Publish {
        conversation: conversation.clone(),
        dialog: conversation.main_dialog(),
        class: EventClass::Content,
        event: raw(&event),
        metadata: name.clone().filter(|_| place == 0),
        encoded_metadata: None,
        client: None,
        file,
        whisper: false,
    };
    text.into_iter().chain(said.keys.iter().map(file)).enumerate().map(publish).collect()
}

impl AgentCodec {
    fn admitted(self, lease: Lease) -> Admitted<Self> {
        let after = self.known.as_ref().map(|known| (known.epoch.clone(), known.after()));
        let first = vec![Asked { tag: Tag::of("ultracart.feed"), ask: Ask::FollowFeed(after) }];
        Admitted { actor: self.actor.clone(), lease, codec: self, first }
    }

    fn account(&self) -> Option<Arc<Account>> {
        self.ultracart.gateway.identity().directory().account(self.account.as_str())
    }

    fn merchant(&self) -> Merchant {
        Merchant::named(self.account.as_str())
    }

    fn submit(&self, commands: Vec<Command>, key: Option<IdempotencyKey>) -> Ask {
        Ask::Submit(Request { actor: self.actor.clone(), commands, key, resend: None })
    }

    fn change(&self, conversation: ConversationId, change: FieldChange) -> Ask {
        self.submit(vec![Command::Update { conversation, changes: vec![change] }], None)
    }

    fn say(&self, conversation: &ConversationId, said: &Saying) -> Result<Ask, Error> {
        let gateway = &self.ultracart.gateway;
        if !said.keys.iter().all(|key| gateway.owns_file(&self.agent, &self.account, key)) {
            let why = "upload_keys has one that was not given to you; ask for a key by GET /rest/v2/conversation/upload_url/{extension}";
            return Err(Refusal::Invalid(why.into()).into());
        }
        let commands = parts(said, conversation);
        for command in &commands {
            if let Command::Publish { event, .. } = command {
                inspect(event, gateway.limits()).map_err(Error::invalid)?;
            }
        }
        let asked: Vec<&str> = ["message", said.body.as_str()].into_iter().chain(said.keys.iter().map(String::as_str)).collect();
        let key = |name: &String| IdempotencyKey::new(&format!("{MARK}:{conversation}:{name}"), &asked);
        let key = said.client_message_id.as_ref().map(key).transpose()?;
        Ok(self.submit(commands, key))
    }

    fn ask(&mut self, conversation: &ConversationId, wanted: &Wanted) -> Result<Ask, Error> {
        let id = conversation.clone();
        let person = self.agent.clone();
        Ok(match wanted {
            Wanted::Say(said) => return self.say(conversation, said),
            Wanted::Type(types) => {
                let state = if *types { "COMPOSING" } else { "PAUSE" };
                let event = raw(&json!({"type": "ChatStateEvent", "chatState": state}));
                self.submit(vec![Command::Type { dialog: id.main_dialog(), conversation: id, event, whisper: false }], None)
            }
            Wanted::Read(up_to) => {
                let up_to = match up_to {
                    None => None,
                    Some(uuid) => Some(
                        event_of_uuid(&id, *uuid)
                            .ok_or_else(|| Error::invalid("conversation_message_uuid is that of no message of this conversation"))?,
                    ),
                };
                let (gateway, actor) = (self.ultracart.gateway.clone(), self.actor.clone());
                Ask::Course(Course(Box::pin(async move { gateway.mark_read(&actor, &id, up_to).await.map(|()| Answer::Nothing) })))
            }
            Wanted::Come => self.change(id, FieldChange::Come { person }),
            Wanted::Go => self.change(id, FieldChange::Go { person }),
            Wanted::Close => self.change(id, FieldChange::Close),
            Wanted::Position => Ask::Query(self.actor.clone(), Question::Place(id)),
        })
    }

    /// Whether a ping that comes now is answered.
    fn answers_ping(&mut self) -> bool {
        let now = Instant::now();
        let answers = self.pinged.is_none_or(|last| now.duration_since(last) >= PING);
        if answers {
            self.pinged = Some(now);
        }
        answers
    }

    /// A notice that something was not done.
    fn refuses(unheard: Unheard) -> Asked<Tag> {
        let Unheard { is_bad, conversation, client_message_id, error } = unheard;
        let said = client_message_id.map(|name| Saying { body: String::new(), keys: Vec::new(), client_message_id: Some(name) });
        let name = if is_bad { "unknown" } else { "ultracart.refused" };
        let tag = Tag { conversation: conversation.map(ConversationId::from), said, ..Tag::of(name) };
        Asked { tag, ask: if is_bad { Ask::Bad(error) } else { Ask::Refuse(error) } }
    }
}

impl Codec for AgentCodec {
    type Tag = Tag;

    const FEED_HAS_STATES: bool = true;

    fn slot(&self) -> Slot {
        SLOT
    }

    fn encoder(&self) -> EventEncoder {
        // It follows the feed, not single dialogs.
        EventEncoder::Shared(self.slot(), |_| None)
    }

    fn hears_unasked(&self) -> bool {
        false
    }

    fn decode(&mut self, text: &str) -> Asked<Tag> {
        match frames::read(text, &self.merchant()) {
            Ok(Heard::Ping) => Asked { tag: Tag { answers: self.answers_ping(), ..Tag::of("ultracart.ping") }, ask: Ask::Nothing },
            Ok(Heard::Wants(conversation, wanted)) => {
                let ask = self.ask(&conversation, &wanted).unwrap_or_else(Ask::Refuse);
                let name = match &wanted {
                    Wanted::Say(_) => "ultracart.message",
                    Wanted::Type(_) => "ultracart.typing",
                    Wanted::Read(_) => "ultracart.read",
                    Wanted::Come => "ultracart.join",
                    Wanted::Go => "ultracart.leave",
                    Wanted::Close => "ultracart.close",
                    Wanted::Position => "ultracart.position",
                };
                let said = if let Wanted::Say(said) = wanted { Some(said) } else { None };
                Asked { tag: Tag { conversation: Some(conversation), said, ..Tag::of(name) }, ask }
            }
            Err(unheard) => Self::refuses(unheard),
        }
    }

    fn name(&self, tag: &Tag) -> &'static str {
        tag.name
    }

    fn reply(&mut self, tag: Tag, result: Result<Answer, Error>) -> Option<Frame> {
        let Tag { conversation, said, answers, .. } = tag;
        match result {
            Err(error) => {
                let name = said.as_ref().and_then(|said| said.client_message_id.as_deref());
                Some(frames::notice(conversation.as_ref().map(ConversationId::as_str), name, error))
            }
            Ok(Answer::Nothing) => answers.then(|| frames::ping(None)),
            // Where it begins, for who is cut off before anything comes.
            Ok(Answer::Following { epoch, oldest, .. }) => {
                let begins = Cursor { epoch, position: oldest, part: None };
                Some(frames::ping(Some(self.known.as_ref().unwrap_or(&begins))))
            }
            Ok(Answer::Found(Found::Place { position, is_served })) => {
                Some(frames::queue_position(&self.merchant(), conversation.as_ref()?, position, is_served))
            }
            // What is new is told by the feed. What was there before is told here, for the feed may be past it.
            Ok(Answer::Decided(decided)) if decided.replayed => match decided.outcomes.first() {
                Some(Outcome::Published { sequence, .. }) => {
                    Some(frames::again(&self.merchant(), conversation.as_ref()?, &self.agent, said.as_ref()?, *sequence))
                }
                _ => None,
            },
            Ok(_) => None,
        }
    }

    fn batch_encoder(&self) -> BatchEncoder {
        Arc::new(|_, _| Vec::new())
    }

    fn shows_typing(&self, typing: &Typing) -> bool {
        let takes_part = self.agent.user().is_some_and(|user| typing.audience.agents.contains(user));
        takes_part && typing.from != self.agent && typing.dialog == typing.audience.conversation.main_dialog()
    }

    fn typing(&self, typing: &Typing) -> Frame {
        let account = self.account();
        let name = typing.from.user().and_then(|user| Some(account.as_ref()?.agent(user.as_str())?.name.clone()));
        frames::typing(&self.merchant(), typing, name)
    }

    fn feed(&self, epoch: &str, now: Millis, entries: &[Fed]) -> Vec<Frame> {
        // Of an account that is gone the sockets are being closed.
        let Some(account) = self.account() else { return Vec::new() };
        let merchant = self.merchant();
        let scene = Scene { account: &account, merchant: &merchant, reader: Some(&self.agent), consumer: None };
        let files = self.ultracart.gateway.files();
        let media = |path: &str| Some(format!("{}{}", self.origin, files.download_url(path, now).ok()?.relative_url()));
        Teller { scene, agent: &self.agent, media: &media }.feed(epoch, self.known.as_ref(), entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts_of(lines: &[&'static str]) -> Parts {
        let mut request = axum::http::Request::builder();
        for line in lines {
            request = request.header(header::SEC_WEBSOCKET_PROTOCOL, *line);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn every_subprotocol_that_is_offered_is_looked_at() {
        let all = |lines: &[&'static str]| offered(&parts_of(lines)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(all(&["a, b", "c ,, d"]), ["a", "b", "c", "d"]);
        assert!(all(&[]).is_empty());
        assert!(is_token("eyJhbGciOiJSUzI1NiJ9.e30.c2ln") && !is_token("v1.ultracart.chat") && !is_token("ultracart"));
    }
}
