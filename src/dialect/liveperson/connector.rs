//! The Connector API: SEND and CONVERSATION, over HTTP and on the connector socket. An application speaks for
//! consumers, each request with the ConsumerJWS of the one it is for.

use super::render::Side;
use super::request::{Caller, Client, identity_of, key_in_envelope, kind_of, success_text};
use super::socket::{bare, conversations_frame, found_body, name_of, typing_frame};
use super::{Native, error, render};
use crate::config::ReplySequence;
use crate::domain::{Actor, Command, Conversation, Millis, Outcome, Sight};
use crate::gateway::{Error, Fed, IdempotencyKey, Request};
use crate::hub::{EventEncoder, Frame, Frame as Text, Slot, Typing};
use crate::identity::{Account, AppIdentity};
use crate::session::{Admitted, Answer, Ask, Asked, BatchEncoder, ChangeKind, Codec, Doorway, Greeting, count_request};
use crate::store::Decided;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use futures::future::poll_fn;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::envelope::{self, Batch, Code, ConnectorResponse, Malformed, OkText, RespKind};
use tieline_protocol::ids::{ClientId, ConversationId};
use tieline_protocol::kind::{RequestKind, Version};
use tieline_protocol::{body, notify, text};

/// Most requests in one batch.
const LONGEST_BATCH: usize = 100;

/// Conversations of which a socket remembers the ConsumerJWS.
const REMEMBERED: usize = 10_000;

/// What a success has to say of one request.
#[derive(Debug)]
struct Part {
    id: String,
    kind: RequestKind,
    text: &'static str,
}

/// Requests that were read and belong together.
struct Parsed {
    parts: Vec<Part>,
    request: Request,
}

/// An error, and the id of the request it belongs to.
struct Failed {
    id: Option<String>,
    error: Error,
    /// Whether the text was no request at all.
    is_malformed: bool,
}

impl From<Malformed> for Failed {
    fn from(malformed: Malformed) -> Self {
        Self { id: malformed.id, error: Error::invalid(malformed.reason), is_malformed: true }
    }
}

impl Failed {
    fn new(id: Option<&str>, error: Error) -> Self {
        Self { id: id.map(str::to_owned), error, is_malformed: false }
    }
}

/// The body of a success.
#[derive(Serialize)]
#[serde(untagged)]
enum Said {
    Sequence { sequence: u64 },
    Text { msg: &'static str },
    Opened(Value),
}

fn connector_success(part: &Part, outcome: &Outcome, sequence: ReplySequence) -> Said {
    match outcome {
        Outcome::Published { resends, .. } if sequence == ReplySequence::ResendCount => Said::Sequence { sequence: 2 * resends },
        Outcome::Published { sequence, .. } | Outcome::Recorded { sequence, .. } => Said::Sequence { sequence: *sequence },
        Outcome::Opened { conversation, found } => Said::Opened(render::opened(conversation, *found)),
        Outcome::ProfileSet => Said::Text { msg: text::PROFILE_SET },
        Outcome::Updated | Outcome::ConsumerSeen | Outcome::Routed(_) | Outcome::Remarked(_) => Said::Text { msg: part.text },
    }
}

fn success_frame(kind: Option<RespKind>, part: &Part, body: &impl Serialize, replayed: bool) -> String {
    render::to_text(&ConnectorResponse { kind, code: Code::Ok(OkText::Ok), body, req_id: &part.id, replayed })
}

/// The answer to requests that belong together, in their order.
fn success(kind: Option<RespKind>, parts: &[Part], decided: &Decided, sequence: ReplySequence, is_batch: bool) -> String {
    // Over HTTP a header says that the answer is an earlier one's.
    let replayed = decided.replayed && kind.is_some();
    let mut frames = parts
        .iter()
        .zip(&decided.outcomes)
        .map(|(part, outcome)| success_frame(kind, part, &connector_success(part, outcome, sequence), replayed));
    if is_batch { format!("[{}]", frames.collect::<Vec<_>>().join(",")) } else { frames.next().unwrap_or_default() }
}

fn sequence_of(account: &Account, app: &ClientId) -> ReplySequence {
    account.app(app).map_or(ReplySequence::Position, |app| app.reply_sequence)
}

/// A request, or why the text is none: each text is read once, and what is wrong with it is said at its turn.
type Read<'t> = Result<envelope::Request<'t>, Malformed>;

fn read_each<'t>(texts: &[&'t str]) -> Vec<Read<'t>> {
    texts.iter().map(|text| envelope::read(text)).collect()
}

/// Makes requests that belong together into commands of one consumer.
fn parse(caller: &Caller<'_>, requests: &[Read<'_>], key: Option<&str>) -> Result<Parsed, Failed> {
    let mut parts = Vec::with_capacity(requests.len());
    let mut commands = Vec::with_capacity(requests.len());
    let mut opened: Option<ConversationId> = None;
    let mut identities: Vec<String> = Vec::new();
    let mut key = key.map(str::to_owned);
    let mut resend = None;
    for request in requests {
        let request = request.as_ref().map_err(|malformed| Failed::from(malformed.clone()))?;
        let fail = |error| Failed::new(Some(&request.id), error);
        let kind = kind_of(request).map_err(fail)?;
        if kind == RequestKind::ConsumerRequestConversation {
            let brand: Result<body::RequestConversation<'_>, _> = serde_json::from_str(request.body.map_or("{}", |body| body.get()));
            if brand.is_ok_and(|body| body.brand_id.is_none()) {
                return Err(fail(Error::missing(text::BRAND_MISSING)));
            }
        }
        let command = caller.command(kind, request, opened.as_ref()).map_err(fail)?;
        if let Command::Open { conversation, .. } = &command {
            opened = Some(conversation.clone());
        }
        identities.extend(identity_of(kind, request).into_iter().map(str::to_owned));
        key = key.or_else(|| key_in_envelope(request));
        resend = resend.or_else(|| caller.resend(kind, request));
        let text = if kind == RequestKind::UpdateConversationField { success_text(request) } else { "" };
        parts.push(Part { id: request.id.clone(), kind, text });
        commands.push(command);
    }
    let identities: Vec<&str> = identities.iter().map(String::as_str).collect();
    let key = key.map(|key| IdempotencyKey::new(&key, &identities)).transpose().map_err(|error| Failed::new(None, error))?;
    Ok(Parsed { parts, request: Request { actor: caller.actor.clone(), commands, key, resend } })
}

/// Which of the two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// One request.
    Send,
    /// Several: the profile, the conversation, and perhaps its first events.
    Conversation,
}

impl Native {
    /// Checks both tokens of a call, in the documented order.
    fn speaker(&self, account: &Account, headers: &HeaderMap) -> Result<(AppIdentity, Actor), Error> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        let app = text("authorization").ok_or_else(|| Error::fault(ErrorCode::MissingAppJwt, "AppJWT is missing"))?;
        let identity = self.gateway.identity();
        let app = identity.check_app(account, bare(app)).map_err(|_| Error::fault(ErrorCode::InvalidAppJwt, "AppJWT is invalid"))?;
        let consumer = text("x-lp-on-behalf").or_else(|| text("lp-on-behalf"));
        let consumer = consumer.ok_or_else(|| Error::fault(ErrorCode::MissingConsumerJws, "ConsumerJWS is missing"))?;
        let actor = identity.check_consumer(&app, bare(consumer)).map_err(|_| invalid_consumer())?;
        Ok((app, actor))
    }

    /// Serves SEND and CONVERSATION.
    pub(super) async fn connector_call(&self, call: Call, account: &str, headers: &HeaderMap, body: &mut Body) -> Response {
        let failed = |failed: &Failed| {
            count_request("connector", failed.error.code().number());
            error::response(failed.id.as_deref(), &failed.error)
        };
        let Some(account) = self.account(account) else {
            // An account that is not there has no applications, so no token is good for it.
            let error = if headers.contains_key("authorization") { ErrorCode::InvalidAppJwt } else { ErrorCode::MissingAppJwt };
            return failed(&Failed::new(None, Error::fault(error, "AppJWT is invalid")));
        };
        let (app, actor) = match self.speaker(&account, headers) {
            Ok(speaker) => speaker,
            Err(error) => return failed(&Failed::new(None, error)),
        };
        let limit = if call == Call::Send { self.limits.load().message.0 } else { self.limits.load().batch.0 };
        let text = match self.read_body(body, limit).await {
            Ok(text) => text,
            Err(error) => return failed(&Failed::new(None, error)),
        };
        // The body may have taken its time, and a token that has ended since is not acted on.
        if let Err(error) = self.speaker(&account, headers) {
            return failed(&Failed::new(None, error));
        }
        let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap_or(""));
        let client = headers.get("client-properties").and_then(|text| Client::read(text.to_str().ok()?));
        let caller = Caller { gateway: &self.gateway, account: &account, actor: &actor, version: Version::V3, client: client.as_ref() };
        let texts = match call {
            Call::Send => Ok(vec![text.as_str()]),
            Call::Conversation => batch(&text),
        };
        let requests = texts.map(|texts| read_each(&texts));
        if let (Call::Send, Ok([Ok(request)])) = (call, requests.as_deref())
            && let Some(answered) = self.query(&caller, request).await
        {
            return answered.unwrap_or_else(|error| failed(&error));
        }
        let parsed = requests.and_then(|requests| {
            if call == Call::Conversation {
                is_opening(&requests)?;
            }
            parse(&caller, &requests, key)
        });
        let Parsed { parts, request } = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return failed(&error),
        };
        match self.gateway.submit(request).await {
            Ok(decided) => {
                for part in &parts {
                    count_request(name_of(Some(part.kind)), 200);
                }
                let sequence = if call == Call::Send { sequence_of(&account, &app.app) } else { ReplySequence::Position };
                let mut response = error::json(StatusCode::OK, success(None, &parts, &decided, sequence, call == Call::Conversation));
                if decided.replayed {
                    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
                }
                response
            }
            Err(error) => {
                let id = parts.get(error.place()).map(|part| part.id.as_str());
                failed(&Failed::new(id, error))
            }
        }
    }

    /// Answers SEND's queries; nothing if the request is none.
    async fn query(&self, caller: &Caller<'_>, request: &envelope::Request<'_>) -> Option<Result<Response, Failed>> {
        let kind = kind_of(request).ok().filter(|kind| is_query(*kind))?;
        let fail = |error| Failed::new(Some(&request.id), error);
        let query = match caller.ask(kind, request) {
            Ok(Ask::Query(_, query)) => query,
            Ok(_) => return None,
            Err(error) => return Some(Err(fail(error))),
        };
        let answer = self.gateway.ask(caller.actor, query).await.map_err(fail);
        Some(answer.map(|found| {
            count_request(name_of(Some(kind)), 200);
            let part = Part { id: request.id.clone(), kind, text: "" };
            error::json(StatusCode::OK, success_frame(None, &part, &found_body(Version::V3, &found), false))
        }))
    }

    /// The body as text, whole and in time. What is too much is left unread.
    pub(super) async fn read_body(&self, body: &mut Body, limit: usize) -> Result<Text, Error> {
        let read = tokio::time::timeout(self.limits.load().body_timeout.0, whole(body, limit)).await;
        match read {
            Err(_) => Err(Error::invalid("the body did not come in time")),
            Ok(None) => Err(Error::fault(ErrorCode::TooLarge, format!("the body is larger than {limit} bytes"))),
            Ok(Some(bytes)) => Text::try_from(bytes).map_err(|_| Error::invalid("the body is not UTF-8")),
        }
    }
}

/// All of a body, unless it breaks off or is larger. Most come in one piece, which is not copied.
async fn whole(body: &mut Body, limit: usize) -> Option<Bytes> {
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if first.len().max(all.len()) + data.len() > limit {
            return None;
        }
        if first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    Some(if all.is_empty() { first } else { all.into() })
}

/// Whether a request only wants to know something.
fn is_query(kind: RequestKind) -> bool {
    matches!(
        kind,
        RequestKind::QueryMessages
            | RequestKind::GetUserProfile
            | RequestKind::GetBrandProfile
            | RequestKind::GenerateURLForUploadFile
            | RequestKind::GenerateURLForDownloadFile
            | RequestKind::GenerateUploadToken
            | RequestKind::GenerateDownloadToken
    )
}

/// Whether SEND takes it, for whom it speaks for.
pub(super) fn is_over_http(kind: RequestKind) -> bool {
    let is_command = matches!(
        kind,
        RequestKind::ConsumerRequestConversation
            | RequestKind::PublishEvent
            | RequestKind::UpdateConversationField
            | RequestKind::SetUserProfile
    );
    // What was filled in is for agents.
    is_command || is_query(kind) && kind != RequestKind::GenerateDownloadToken
}

fn invalid_consumer() -> Error {
    Error::fault(ErrorCode::InvalidConsumerJws, "ConsumerJWS is invalid")
}

/// The requests of a CONVERSATION call.
fn batch(text: &str) -> Result<Vec<&str>, Failed> {
    let texts = match envelope::split(text) {
        Ok(Batch::Many(texts)) => texts,
        Ok(Batch::One(_)) => return Err(Failed::new(None, Error::invalid("the body must be an array of requests"))),
        Err(malformed) => return Err(malformed.into()),
    };
    if texts.len() > LONGEST_BATCH {
        return Err(Failed::new(None, Error::invalid(format!("a batch has at most {LONGEST_BATCH} requests"))));
    }
    Ok(texts)
}

/// A CONVERSATION call holds the profile and the conversation at least. What cannot be read is said at its turn; only
/// when all can be is something missing.
fn is_opening(requests: &[Read<'_>]) -> Result<(), Failed> {
    let has = |wanted: RequestKind| requests.iter().flatten().any(|request| RequestKind::parse(&request.kind) == Some(wanted));
    let missing = |what: &'static str| Err(Failed::new(None, Error::missing(what)));
    if requests.iter().any(Result::is_err) {
        Ok(())
    } else if !has(RequestKind::SetUserProfile) {
        missing("userprofile.SetUserProfile is missing")
    } else if !has(RequestKind::ConsumerRequestConversation) {
        missing("cm.ConsumerRequestConversation is missing")
    } else {
        Ok(())
    }
}

/// The codec of the connector socket.
pub struct ConnectorCodec {
    native: Arc<Native>,
    app: AppIdentity,
    /// The ConsumerJWS last used for a conversation.
    speaking: HashMap<ConversationId, String>,
}

/// What a reply must know of its request or requests.
#[derive(Debug)]
pub struct Tag {
    id: Option<String>,
    parts: Vec<Part>,
    is_batch: bool,
    kind: Option<RequestKind>,
    /// The conversations named, and the ConsumerJWS for them.
    spoken: Option<(Vec<ConversationId>, String)>,
}

impl Tag {
    /// Of a request of which no more than its id need be known.
    fn of(id: Option<String>) -> Self {
        Self { id, parts: Vec::new(), is_batch: false, kind: None, spoken: None }
    }
}

impl std::fmt::Debug for ConnectorCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the tokens.
        f.debug_struct("ConnectorCodec").field("app", &self.app).finish_non_exhaustive()
    }
}

impl ConnectorCodec {
    fn read(&mut self, text: &str) -> Result<(Tag, Ask), Failed> {
        let batch = envelope::split(text).map_err(Failed::from)?;
        let (texts, is_batch) = match batch {
            Batch::One(text) => (vec![text], false),
            Batch::Many(texts) => (texts, true),
        };
        if texts.is_empty() || texts.len() > LONGEST_BATCH {
            return Err(Failed::new(None, Error::invalid(format!("a batch has 1 to {LONGEST_BATCH} requests"))));
        }
        let requests = read_each(&texts);
        let first = requests[0].as_ref().map_err(|malformed| Failed::from(malformed.clone()))?;
        let fail = |error| Failed::new(Some(&first.id), error);
        let kind = kind_of(first).map_err(fail)?;
        let alone = || Tag { kind: Some(kind), ..Tag::of(Some(first.id.clone())) };
        if let (Some(ask), false) = (self.own(kind, first).map_err(fail)?, is_batch) {
            return Ok((alone(), ask));
        }
        let jws = self.jws(&requests).ok_or_else(|| fail(Error::fault(ErrorCode::MissingConsumerJws, "ConsumerJWS is missing")))?;
        let native = self.native.clone();
        let account = native.account(self.app.account.as_str()).ok_or_else(|| fail(invalid_consumer()))?;
        let actor = native.gateway.identity().check_consumer(&self.app, bare(&jws)).map_err(|_| fail(invalid_consumer()))?;
        let client = first.header("ClientProperties").and_then(|header| Client::read(header.raw?.get()));
        let caller = Caller { gateway: &native.gateway, account: &account, actor: &actor, version: Version::V3, client: client.as_ref() };
        if !is_batch && is_query(kind) {
            return Ok((alone(), caller.ask(kind, first).map_err(fail)?));
        }
        let Parsed { parts, request } = parse(&caller, &requests, None)?;
        let named = conversations(&request.commands);
        for conversation in &named {
            self.believe(conversation, &jws, false);
        }
        let tag = Tag { parts, is_batch, spoken: Some((named, jws)), ..alone() };
        Ok((tag, Ask::Submit(request)))
    }

    /// What an application asks for itself.
    fn own(&self, kind: RequestKind, request: &envelope::Request<'_>) -> Result<Option<Ask>, Error> {
        match kind {
            RequestKind::GetClock => Ok(Some(Ask::Clock)),
            RequestKind::InitConnection => {
                let jwt = request.header("AppAuthentication").and_then(|header| header.jwt.as_deref());
                let jwt = jwt.ok_or_else(|| Error::fault(ErrorCode::MissingAppJwt, "AppJWT is missing"))?;
                let invalid = || Error::fault(ErrorCode::InvalidAppJwt, "AppJWT is invalid");
                let account = self.native.account(self.app.account.as_str()).ok_or_else(invalid)?;
                let fresh = self.native.gateway.identity().check_app(&account, bare(jwt)).map_err(|_| invalid())?;
                if fresh.app == self.app.app { Ok(Some(Ask::Renew(Some(fresh.remaining)))) } else { Err(invalid()) }
            }
            RequestKind::SubscribeApplicationEvents => {
                let body: body::SubscribeApplicationEvents =
                    tieline_protocol::json::object(request.body.map_or("{}", |body| body.get()))
                        .map_err(|reason| Error::invalid(format!("the body is not understood: {reason}")))?;
                let after = body.after.filter(|cursor| !cursor.is_empty()).map(|cursor| read_cursor(&cursor)).transpose()?;
                Ok(Some(Ask::FollowFeed(after)))
            }
            RequestKind::SubscribeExConversations
            | RequestKind::UnsubscribeExConversations
            | RequestKind::UpdateExConversationSubscription
            | RequestKind::SubscribeMessagingEvents
            | RequestKind::SubscribeAgentsState
            | RequestKind::SubscribeRoutingTasks
            | RequestKind::UpdateRoutingTaskSubscription
            | RequestKind::SetAgentState
            | RequestKind::UpdateRingState
            | RequestKind::AgentRequestConversation => Err(Error::invalid(
                "this is not for the connector socket; it follows all of its conversations by ms.SubscribeApplicationEvents",
            )),
            _ => Ok(None),
        }
    }

    /// The ConsumerJWS of a request, or the last one given for its conversation on this socket.
    fn jws(&self, requests: &[Read<'_>]) -> Option<String> {
        let read = || requests.iter().flatten();
        let given =
            read().find_map(|request| request.header("ConsumerAuthentication").and_then(|header| header.jwt.as_deref().map(str::to_owned)));
        given.or_else(|| {
            read().find_map(|request| {
                let body: body::PublishEvent<'_> = serde_json::from_str(request.body?.get()).ok()?;
                let named = body.conversation_id.or(body.dialog_id)?;
                self.speaking.get(&*named).cloned()
            })
        })
    }

    /// Whom a conversation is for. What is given first is believed at once, for requests that follow without waiting; a
    /// later one replaces it when it has proved good. That it is theirs each decision checks anew.
    fn believe(&mut self, conversation: &ConversationId, jws: &str, has_proved_good: bool) {
        if self.speaking.len() >= REMEMBERED && !self.speaking.contains_key(conversation) {
            self.speaking.clear();
        }
        if has_proved_good || !self.speaking.contains_key(conversation) {
            self.speaking.insert(conversation.clone(), jws.to_owned());
        }
    }

    fn disbelieve(&mut self, conversation: &ConversationId, jws: &str) {
        if self.speaking.get(conversation).is_some_and(|known| known == jws) {
            self.speaking.remove(conversation);
        }
    }

    fn ok(&self, tag: &Tag, kind: RequestKind, body: &impl Serialize) -> Frame {
        let part = Part { id: tag.id.clone().unwrap_or_default(), kind, text: "" };
        Frame::from(success_frame(Some(RespKind::Resp), &part, body, false))
    }
}

fn conversations(commands: &[Command]) -> Vec<ConversationId> {
    let named = commands.iter().filter_map(|command| match command {
        Command::Open { conversation, .. }
        | Command::Publish { conversation, .. }
        | Command::Type { conversation, .. }
        | Command::Update { conversation, .. } => Some(conversation.clone()),
        _ => None,
    });
    named.collect()
}

/// A cursor is the log's name and a position in it.
fn read_cursor(cursor: &str) -> Result<(String, u64), Error> {
    let parts = cursor.rsplit_once(':').and_then(|(epoch, position)| Some((epoch.to_owned(), position.parse().ok()?)));
    parts.ok_or_else(|| Error::invalid(format!("{cursor:?} is no cursor; pass the one of a notification, or none")))
}

fn write_cursor(epoch: &str, position: u64) -> String {
    format!("{epoch}:{position}")
}

impl Codec for ConnectorCodec {
    type Tag = Tag;

    fn slot(&self) -> Slot {
        Slot(2)
    }

    fn encoder(&self) -> EventEncoder {
        // An application follows its feed, not single dialogs.
        EventEncoder::Shared(self.slot(), |_| None)
    }

    fn hears_unasked(&self) -> bool {
        false
    }

    fn decode(&mut self, text: &str) -> Asked<Tag> {
        match self.read(text) {
            Ok((tag, ask)) => Asked { tag, ask },
            Err(Failed { id, error, is_malformed }) => {
                Asked { tag: Tag::of(id), ask: if is_malformed { Ask::Bad(error) } else { Ask::Refuse(error) } }
            }
        }
    }

    fn name(&self, tag: &Tag) -> &'static str {
        name_of(tag.kind)
    }

    fn reply(&mut self, tag: Tag, result: Result<Answer, Error>) -> Option<Frame> {
        if let Some((conversations, jws)) = &tag.spoken {
            let is_refused = result.as_ref().is_err_and(Error::is_no_such_conversation);
            for conversation in conversations {
                match is_refused {
                    true => self.disbelieve(conversation, jws),
                    false => self.believe(conversation, jws, result.is_ok()),
                }
            }
        }
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => {
                let id = tag.parts.get(error.place()).map(|part| part.id.as_str()).or(tag.id.as_deref());
                return Some(Frame::from(error::body(id, &error)));
            }
        };
        let kind = tag.kind.unwrap_or(RequestKind::GetClock);
        Some(match answer {
            Answer::Nothing => return None,
            Answer::Decided(decided) => {
                let sequence = self
                    .native
                    .account(self.app.account.as_str())
                    .map_or(ReplySequence::Position, |account| sequence_of(&account, &self.app.app));
                let sequence = if tag.is_batch { ReplySequence::Position } else { sequence };
                Frame::from(success(Some(RespKind::Resp), &tag.parts, &decided, sequence, tag.is_batch))
            }
            Answer::Clock(now) => self.ok(&tag, kind, &json!({"currentTime": now})),
            Answer::Renewed => self.ok(&tag, kind, &json!({"msg": text::INITIALIZED})),
            Answer::Following { epoch, oldest, head } => {
                // Where the feed begins for this socket, so that whoever keeps it skips nothing; and where the log ends.
                let cursor = write_cursor(&epoch, oldest);
                let head = write_cursor(&epoch, head.unwrap_or(0));
                self.ok(&tag, kind, &json!({"epoch": epoch, "cursor": cursor, "head": head}))
            }
            Answer::Found(found) => self.ok(&tag, kind, &found_body(Version::V3, &found)),
            Answer::Watching(_) | Answer::Unwatched => self.ok(&tag, kind, &json!({})),
        })
    }

    fn batch_encoder(&self) -> BatchEncoder {
        Arc::new(|_, _| Vec::new())
    }

    fn typing(&self, typing: &Typing) -> Frame {
        typing_frame(Version::V3, typing)
    }

    fn conversation(&self, conversation: &Conversation) -> Frame {
        render::conversation(Version::V3, Side::Consumer, conversation)
    }

    fn conversations(&self, subscription: &str, now: Millis, changes: &[(ChangeKind, Frame)]) -> Frame {
        conversations_frame(Version::V3, Some(subscription), None, now, changes)
    }

    fn feed(&self, epoch: &str, now: Millis, entries: &[Fed]) -> Vec<Frame> {
        entries.iter().filter_map(|fed| feed_frame(epoch, now, &fed.sight, fed.conversation.as_ref())).collect()
    }
}

/// One entry of the feed, with the cursor to resume behind it.
fn feed_frame(epoch: &str, now: Millis, sight: &Sight, state: Option<&Conversation>) -> Option<Frame> {
    let cursor = write_cursor(epoch, sight.position);
    if let Some(state) = state {
        if !sight.entry.changes_what_is_shown() {
            return None;
        }
        let changes = [(ChangeKind::Upsert, render::conversation(Version::V3, Side::Consumer, state))];
        return Some(conversations_frame(Version::V3, None, Some(&cursor), now, &changes));
    }
    render::with_event(Version::V3, sight, |change| {
        let dialog = change.dialog_id;
        let body =
            notify::Changes { subscription_id: None, sent_ts: None, dialog_id: Some(dialog), cursor: Some(&cursor), changes: vec![change] };
        render::notification(tieline_protocol::kind::events_notification(Version::V3), body)
    })
}

/// An application that connected without its AppJWT and has to send it first.
#[derive(Debug)]
pub struct ConnectorDoorway {
    pub(super) native: Arc<Native>,
    pub(super) account: tieline_protocol::ids::AccountId,
}

impl Native {
    /// An application's session to be.
    pub(super) fn connector(self: &Arc<Self>, app: AppIdentity, token: &str) -> Admitted<ConnectorCodec> {
        let actor = Actor::Application { account: app.account.clone(), app: app.app.clone() };
        let lease = self.gateway.identity().app_lease(&app.account, &app.app, token, app.remaining);
        Admitted { actor, lease, codec: ConnectorCodec { native: self.clone(), app, speaking: HashMap::new() }, first: Vec::new() }
    }
}

impl Doorway for ConnectorDoorway {
    type Codec = ConnectorCodec;

    fn greet(&mut self, text: &str) -> Greeting<ConnectorCodec> {
        let refuse = |id: Option<&str>, error: &Error| Greeting::NotYet(Frame::from(error::body(id, error)));
        let request = match envelope::read(text) {
            Ok(request) => request,
            Err(malformed) => return refuse(malformed.id.as_deref(), &Error::invalid(malformed.reason)),
        };
        let jwt = request.header("AppAuthentication").and_then(|header| header.jwt.as_deref());
        let Some(jwt) = jwt.filter(|_| RequestKind::parse(&request.kind) == Some(RequestKind::InitConnection)) else {
            return refuse(Some(&request.id), &Error::fault(ErrorCode::MissingAppJwt, "AppJWT is missing"));
        };
        let account = self.native.account(self.account.as_str());
        let app = account.and_then(|account| self.native.gateway.identity().check_app(&account, bare(jwt)).ok());
        let Some(app) = app else { return Greeting::Turned(tieline_protocol::code::CloseCode::Token) };
        let part = Part { id: request.id.clone(), kind: RequestKind::InitConnection, text: "" };
        let body = json!({"msg": text::INITIALIZED});
        let reply = Frame::from(success_frame(Some(RespKind::Resp), &part, &body, false));
        Greeting::Welcome(reply, Box::new(self.native.connector(app, bare(jwt))))
    }
}

/// A consumer socket opened by an application for one consumer.
pub(super) fn on_behalf(native: &Native, account: &Account, headers: &HeaderMap) -> Result<(Actor, Duration), Error> {
    native.speaker(account, headers).map(|(app, actor)| (actor, app.remaining))
}
