//! Activities that are sent: by customers, and by the agents and bots of a hub.

use super::Hubster;
use super::caller::{Caller, Id, Known, is_active, is_in_good_standing};
use super::error::{Code, Fault};
use super::json::{Object, Problems, body};
use super::message::{self, Note, Writer, canonical, is_plain};
use super::object::{ActivityKind, conversation_uuid};
use super::openapi::SendRefused;
use crate::dialect::ids::event_uuid;
use crate::domain::{Actor, Command, Conversation, FieldChange, Millis, Outcome, ParticipantState, Person, Refusal, Role};
use crate::gateway::{Error, Request};
use crate::identity::{Agent, Kept};
use crate::store::StoreError;
use crate::things::{Integration, IntegrationKind, ThingId};
use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use serde_with::skip_serializing_none;
use std::sync::Arc;
use tieline_protocol::event::{EventClass, EventLimits, inspect};
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest name of its sender's own for an activity, in characters.
const LONGEST_EXTERNAL: usize = 255;
/// Events that are looked through for what somebody has seen.
const LOOKED_AT: usize = 100;

/// An activity that is to be sent, as the document shows it. Names may be in any case.
#[derive(ToSchema)]
#[schema(as = NewActivity)]
#[expect(dead_code, reason = "read in whatever case it comes; here it is described")]
pub(super) struct Described {
    /// `message` or `event`; left out, what is there says it.
    r#type: Option<ActivityKind>,
    /// Of agents and bots: `{"integrationId": "…"}`.
    #[schema(value_type = Option<Object>)]
    sender: Option<Value>,
    /// The sender's own name for it.
    #[schema(rename = "externalId", max_length = 255)]
    external_id: Option<String>,
    /// What is said: an object with a `type`.
    #[schema(value_type = Option<Object>)]
    message: Option<Value>,
    /// What is shown: an object with the type `seen`, `typing_on`, `typing_off` or `payload`.
    #[schema(value_type = Option<Object>)]
    event: Option<Value>,
}

/// An activity that was sent.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Sent {
    /// Always 200.
    status: u16,
    /// Milliseconds since 1970, which names it within its conversation.
    event_id: Millis,
    external_id: Option<String>,
    hub_id: Uuid,
    conversation_id: Uuid,
    /// The sender's.
    integration_id: Uuid,
    /// Of messages.
    interaction_id: Option<Uuid>,
}

/// What an activity is about.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    /// A message.
    Message(Value),
    /// Anything, for programs.
    Payload(Value),
    /// All that the other side said.
    Seen,
    /// Whether the sender is about to say something.
    Typing(bool),
}

/// An event with its metadata.
type Written = (Box<RawValue>, Option<Box<RawValue>>);

/// An activity that was read.
#[derive(Debug)]
struct Sending {
    external: Option<String>,
    said: Said,
}

impl Sending {
    /// Reads an activity, and says all that is wrong with it.
    fn read(activity: Object<'_>, writer: Writer, mut problems: Problems) -> Result<Self, Fault> {
        let external = external(activity, &mut problems);
        let said = said(activity, writer, &mut problems);
        problems.none()?;
        Ok(Self { external, said: said.ok_or_else(Fault::internal)? })
    }

    /// What is written down of it; nothing, if nothing is.
    ///
    /// # Errors
    /// 400 for a text that is too long.
    fn event(&self, limits: EventLimits) -> Result<Option<Written>, Fault> {
        let (event, message, shown) = match &self.said {
            Said::Message(message) => {
                let words =
                    if message["type"] == "text" { message::words(message) } else { shortened(&message::words(message), limits.text) };
                let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": words});
                (event, (!is_plain(message)).then(|| message.clone()), None)
            }
            Said::Payload(payload) => {
                let event = json!({"type": "ContentEvent", "contentType": "application/json", "message": payload["payload"].to_string()});
                (event, None, Some(payload.clone()))
            }
            Said::Seen | Said::Typing(_) => return Ok(None),
        };
        let event = to_raw_value(&event).map_err(|_| Fault::internal())?;
        inspect(&event, limits).map_err(|reason| Fault::new(Code::OutOfRange, reason))?;
        let note = Note { external_id: self.external.clone(), message, event: shown };
        Ok(Some((event, note.metadata())))
    }
}

/// Words that stand for something which is kept whole beside them.
fn shortened(words: &str, most: usize) -> String {
    match words.char_indices().nth(most.saturating_sub(1)) {
        Some((end, _)) if words.chars().count() > most => format!("{}…", &words[..end]),
        _ => words.to_owned(),
    }
}

fn external(activity: Object<'_>, problems: &mut Problems) -> Option<String> {
    let given = activity.get("externalId")?;
    let text = given.as_str().map(str::to_owned).or_else(|| given.as_number().map(ToString::to_string));
    let text = text.filter(|text| text.chars().count() <= LONGEST_EXTERNAL);
    if text.is_none() {
        problems.add(Code::OutOfRange, format!("Property 'externalId' must be a text of at most {LONGEST_EXTERNAL} characters."));
    }
    text.filter(|text| !text.is_empty())
}

fn said(activity: Object<'_>, writer: Writer, problems: &mut Problems) -> Option<Said> {
    // The vendor's pages call an event an action in places.
    let kind = match activity.get("type").map(|kind| kind.as_str().unwrap_or_default().to_lowercase()).as_deref() {
        None | Some("") => None,
        Some("message") => Some(ActivityKind::Message),
        Some("event" | "action") => Some(ActivityKind::Event),
        Some(other) => {
            problems.add(Code::ActivityUnsupported, format!("An activity cannot be of the type {other:?}; there are message, event."));
            return None;
        }
    };
    match (activity.get("message"), activity.get("event"), kind) {
        (Some(_), Some(_), _) => problems.add(Code::Both, "An activity has either 'message' or 'event', and not both."),
        (Some(message), None, None | Some(ActivityKind::Message)) => {
            let message = message::read(message, writer, problems);
            let is_command = writer == Writer::Brand && message["text"].as_str().is_some_and(|text| text.trim_start().starts_with("::"));
            if is_command {
                problems.add(Code::Command, "Commands (texts that begin with ::) are not served.");
            }
            return Some(Said::Message(message));
        }
        (None, Some(event), None | Some(ActivityKind::Event)) => return shown(event, problems),
        _ => problems.add(Code::Neither, "An activity needs 'message' or 'event', as its type says."),
    }
    None
}

fn shown(event: &Value, problems: &mut Problems) -> Option<Said> {
    let mut event = canonical(event);
    let kind = event["type"].as_str().map(str::to_lowercase);
    match kind.as_deref() {
        Some("seen") => return Some(Said::Seen),
        Some("typing_on") => return Some(Said::Typing(true)),
        Some("typing_off") => return Some(Said::Typing(false)),
        Some("payload") => {
            let has_type = event["payloadType"].as_str().is_some_and(|text| !text.trim().is_empty());
            problems.required(has_type.then_some(()), "event.payloadType", Code::ActivityMissing);
            problems.required(event.get("payload").filter(|payload| !payload.is_null()), "event.payload", Code::ActivityMissing);
            event["type"] = "payload".into();
            return Some(Said::Payload(event));
        }
        None => problems.add(Code::ActivityMissing, "Property 'event.type' is required."),
        Some(other) => {
            let why = format!("An event cannot be of the type {other:?}; there are seen, typing_on, typing_off, payload.");
            problems.add(Code::ActivityUnsupported, why);
        }
    }
    None
}

/// Who sends.
struct Sender {
    actor: Actor,
    integration: ThingId,
    /// The agent, if it is one, and as what it comes.
    agent: Option<(Person, IntegrationKind)>,
}

impl Sender {
    /// What brings an agent into a conversation in which it does not take part: it answers from then on, if nobody else does. A bot
    /// answers beside whoever does.
    fn comes(&self, conversation: &Conversation, is_taken: bool) -> Option<Command> {
        let (person, kind) = self.agent.as_ref()?;
        let details = &conversation.details;
        if details.participant(person).is_some_and(|participant| participant.state == ParticipantState::Active) {
            return None;
        }
        let change = match kind {
            IntegrationKind::Bot => FieldChange::Join { person: person.clone(), role: Role::BrandBot },
            _ if is_taken || details.assignee().is_some() => FieldChange::Join { person: person.clone(), role: Role::Agent },
            _ => FieldChange::Claim { person: person.clone(), takes_over: false, since: None },
        };
        Some(Command::Update { conversation: details.id.clone(), changes: vec![change] })
    }

    fn takes_part(&self, conversation: &Conversation) -> bool {
        self.comes(conversation, false).is_none()
    }
}

impl Hubster {
    /// Sends an activity.
    async fn send(&self, known: &Known, sender: Sender, sending: Sending) -> Result<Json<Sent>, Fault> {
        let conversation = &known.conversation;
        if !conversation.details.main_is_open() {
            return Err(Refusal::DialogClosed.into());
        }
        let sequence = match (sending.event(self.gateway.limits())?, &sending.said) {
            (Some((event, metadata)), _) => Some(self.publish(conversation, &sender, EventClass::Content, event, metadata).await?),
            (None, Said::Typing(is_on)) => {
                self.show_typing(conversation, &sender, *is_on).await?;
                None
            }
            (None, _) => {
                self.note_seen(conversation, &sender).await?;
                None
            }
        };
        let id = &conversation.details.id;
        // It is written down: whoever is told otherwise sends it again.
        let at = match sequence {
            Some(sequence) => self.gateway.message(&sender.actor, id, sequence).await.ok().flatten().map(|sight| sight.at),
            None => None,
        };
        let is_message = matches!(sending.said, Said::Message(_));
        Ok(Json(Sent {
            status: 200,
            event_id: at.unwrap_or_else(|| self.gateway.identity().now()),
            external_id: sending.external,
            hub_id: known.integration.thing.hub.uuid(),
            conversation_id: conversation_uuid(conversation),
            integration_id: sender.integration.uuid(),
            interaction_id: sequence.filter(|_| is_message).map(|sequence| event_uuid(id, sequence)),
        }))
    }

    /// Writes an event down; its number.
    async fn publish(
        &self,
        conversation: &Conversation,
        sender: &Sender,
        class: EventClass,
        event: Box<RawValue>,
        metadata: Option<Box<RawValue>>,
    ) -> Result<u64, Fault> {
        let id = &conversation.details.id;
        let publish = Command::Publish {
            conversation: id.clone(),
            dialog: id.main_dialog(),
            class,
            event,
            metadata,
            encoded_metadata: None,
            client: None,
            file: None,
            whisper: false,
        };
        let outcomes = self.submit(conversation, sender, publish).await?;
        let sequence = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Published { sequence, .. } => Some(*sequence),
            _ => None,
        });
        sequence.ok_or_else(Fault::internal)
    }

    /// Has something done by who takes part from then on.
    async fn submit(&self, conversation: &Conversation, sender: &Sender, command: Command) -> Result<Vec<Outcome>, Fault> {
        let mut is_taken = false;
        loop {
            let commands = sender.comes(conversation, is_taken).into_iter().chain([command.clone()]).collect();
            let request = Request { actor: sender.actor.clone(), commands, key: None, resend: None };
            match self.gateway.submit(request).await {
                Ok(decided) => return Ok(decided.outcomes),
                // Somebody else was quicker; then there are two.
                Err(Error::Store(StoreError::Refused(0, Refusal::Taken))) if !is_taken => is_taken = true,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn show_typing(&self, conversation: &Conversation, sender: &Sender, is_on: bool) -> Result<(), Fault> {
        // Who only stops to type need not come for it.
        if !is_on && !sender.takes_part(conversation) {
            return Ok(());
        }
        let id = &conversation.details.id;
        let state = if is_on { "COMPOSING" } else { "ACTIVE" };
        let event = to_raw_value(&json!({"type": "ChatStateEvent", "chatState": state})).map_err(|_| Fault::internal())?;
        let command = Command::Type { conversation: id.clone(), dialog: id.main_dialog(), event, whisper: false };
        self.submit(conversation, sender, command).await.map(drop)
    }

    /// Notes that somebody has read what the other side said.
    async fn note_seen(&self, conversation: &Conversation, sender: &Sender) -> Result<(), Fault> {
        if !sender.takes_part(conversation) {
            return Ok(());
        }
        let own = sender.actor.person();
        let last = self.gateway.last_messages(&sender.actor, &conversation.details.id, LOOKED_AT).await?;
        let mut unread: Vec<u64> = Vec::new();
        for message in last.iter().filter_map(|sight| sight.message()) {
            match message.class {
                EventClass::Receipt if Some(&message.from) == own.as_ref() && message.event.get().contains("\"READ\"") => unread.clear(),
                EventClass::Receipt => {}
                EventClass::Content | EventClass::Rich if Some(&message.from) != own.as_ref() => unread.push(message.sequence),
                EventClass::Content | EventClass::Rich => {}
            }
        }
        if unread.is_empty() {
            return Ok(());
        }
        let event = json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": unread});
        let event = to_raw_value(&event).map_err(|_| Fault::internal())?;
        self.publish(conversation, sender, EventClass::Receipt, event, None).await.map(drop)
    }

    async fn customers(&self, caller: &Caller, id: &str, bytes: &[u8]) -> Result<Json<Sent>, Fault> {
        caller.may_speak_for_customers()?;
        let known = caller.conversation(&self.gateway, id).await?;
        let value = body(bytes, Code::NoActivity)?;
        let activity = Object::of(&value).ok_or_else(Fault::internal)?;
        let sending = Sending::read(activity, Writer::Customer, Problems::default())?;
        is_active(&known.integration)?;
        let sender = Sender { actor: known.customer(), integration: known.integration.id, agent: None };
        is_in_good_standing(&self.gateway, &caller.account, &known.conversation.details.consumer)?;
        self.send(&known, sender, sending).await
    }
}

/// The integration by which an agent or a bot of the conversation's hub sends, and the agent.
fn business<'c>(caller: &'c Caller, known: &Known, id: Uuid) -> Result<(Arc<Kept<Integration>>, &'c Agent), Fault> {
    let missing = || Fault::new(Code::NoIntegration, format!("Integration {id} does not exist."));
    let integration = caller.account.things().integrations.get(id.into()).ok_or_else(missing)?;
    if integration.thing.hub != known.integration.thing.hub || !integration.thing.is_business() {
        let why = format!("Integration {id} is no agent or bot of the conversation's hub.");
        return Err(Fault::new(Code::ActivityUnsupported, why));
    }
    is_active(&integration)?;
    let gone = || Fault::new(Code::Terminated, format!("The agent of integration {id} is no more."));
    let agent = integration.thing.agent.as_ref().and_then(|agent| caller.account.agent(agent.as_str())).ok_or_else(gone)?;
    Ok((integration, agent))
}

/// Sends a customer's activity.
#[utoipa::path(post, path = "/inbound/customer/v1/direct/activity/{conversationId}", operation_id = "sendCustomerActivity", tag = "activities",
    params(("conversationId" = String, Path, description = "A GUID; anything else is no conversation.")),
    request_body(content = Described, example = json!({"type": "message", "message": {"type": "text", "text": "Hi"}})),
    responses((status = 200, description = "It is sent.", body = Sent), SendRefused))]
pub(super) async fn customer(
    State(hubster): State<Arc<Hubster>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    bytes: Bytes,
) -> Result<Json<Sent>, Fault> {
    hubster.customers(&caller, &id, &bytes).await
}

/// Sends the activity of a customer on a web page. It is the same as the other.
#[utoipa::path(post, path = "/inbound/customer/v1/web-chat/{conversationId}", operation_id = "sendWebChatActivity", tag = "activities",
    params(("conversationId" = String, Path, description = "A GUID; anything else is no conversation.")),
    request_body(content = Described, example = json!({"type": "message", "message": {"type": "text", "text": "Hi"}})),
    responses((status = 200, description = "It is sent.", body = Sent), SendRefused))]
pub(super) async fn web_chat(
    State(hubster): State<Arc<Hubster>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    bytes: Bytes,
) -> Result<Json<Sent>, Fault> {
    hubster.customers(&caller, &id, &bytes).await
}

/// Sends the activity of an agent or a bot.
#[utoipa::path(post, path = "/inbound/business/v1/direct/activity/{conversationId}", operation_id = "sendBusinessActivity", tag = "activities",
    params(("conversationId" = String, Path, description = "A GUID; anything else is no conversation.")),
    request_body(content = Described,
        example = json!({"sender": {"integrationId": "00000000-0000-0000-0000-000000000024"}, "message": {"type": "text", "text": "Hello"}})),
    responses((status = 200, description = "It is sent.", body = Sent), SendRefused))]
pub(super) async fn business_activity(
    State(hubster): State<Arc<Hubster>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    bytes: Bytes,
) -> Result<Json<Sent>, Fault> {
    let key = caller.engine()?;
    let known = caller.conversation(&hubster.gateway, &id).await?;
    let value = body(&bytes, Code::NoActivity)?;
    let activity = Object::of(&value).ok_or_else(Fault::internal)?;
    let mut problems = Problems::default();
    let named = activity.object("sender").and_then(|sender| sender.get("integrationId"));
    let named = problems.guid(named, "sender.integrationId", Code::ActivityMissing, Code::ActivityNoGuid);
    let sending = Sending::read(activity, Writer::Brand, problems)?;
    let (integration, agent) = business(&caller, &known, named.ok_or_else(Fault::internal)?)?;
    let others = || Fault::new(Code::NotAllowed, "This token's key acts as another agent, and may not write as this one.");
    let actor = key.actor.in_the_name_of(&agent.person()).ok_or_else(others)?;
    let sender = Sender { actor, integration: integration.id, agent: Some((agent.person(), integration.thing.kind)) };
    hubster.send(&known, sender, sending).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(activity: &Value, writer: Writer) -> Result<Said, Fault> {
        Sending::read(Object::of(activity).unwrap(), writer, Problems::default()).map(|sending| sending.said)
    }

    #[test]
    fn what_is_there_says_what_an_activity_is() {
        let text = json!({"type": "text", "text": "hi"});
        for activity in [
            json!({"type": "message", "message": text}),
            json!({"isEcho": false, "message": {"Text": "hi", "Type": "text"}}),
            json!({"Type": "MESSAGE", "Message": text, "Event": null}),
        ] {
            assert_eq!(read(&activity, Writer::Customer), Ok(Said::Message(text.clone())), "{activity}");
        }
        for (event, said) in [("seen", Said::Seen), ("Typing_On", Said::Typing(true)), ("typing_off", Said::Typing(false))] {
            assert_eq!(read(&json!({"type": "action", "event": {"type": event}}), Writer::Brand), Ok(said));
        }
        let payload = json!({"type": "payload", "payloadType": "cart", "payload": {"Text": null}});
        assert_eq!(
            read(&json!({"event": {"Type": "Payload", "PayloadType": "cart", "Payload": {"Text": null}}}), Writer::Brand),
            Ok(Said::Payload(payload))
        );
    }

    #[test]
    fn what_is_wrong_with_an_activity_is_said_by_its_number() {
        let text = json!({"type": "text", "text": "hi"});
        for (activity, number) in [
            (json!({}), 5_003),
            (json!({"type": "event", "message": text}), 5_003),
            (json!({"message": text, "event": {"type": "seen"}}), 5_004),
            (json!({"type": "letter", "message": text}), 5_002),
            (json!({"message": text, "externalId": {}}), 212),
            (json!({"message": text, "externalId": "x".repeat(256)}), 212),
            (json!({"event": {}}), 5_001),
            (json!({"event": {"type": "wave"}}), 5_002),
            (json!({"event": {"type": "payload", "payload": {}}}), 5_001),
            (json!({"event": {"type": "payload", "payloadType": "a"}}), 5_001),
        ] {
            let fault = read(&activity, Writer::Customer).unwrap_err();
            assert!(format!("{fault:?}").contains(&format!("code: {number},")), "{activity}: {fault:?}");
        }
        let command = json!({"message": {"type": "text", "text": "::close"}});
        assert!(format!("{:?}", read(&command, Writer::Brand)).contains("ENG009000"));
        assert!(read(&command, Writer::Customer).is_ok());
    }

    #[test]
    fn words_are_cut_where_the_whole_stands_beside_them_and_nowhere_else() {
        let limits = EventLimits { text: 10, rich: 10 };
        let event = |message: Value| Sending { external: None, said: Said::Message(message) }.event(limits);
        let (cut, note) = event(json!({"type": "image", "title": "A long title", "url": "https://a.example"})).unwrap().unwrap();
        assert!(cut.get().contains("A long ti…") && note.unwrap().get().contains("A long title"), "{cut}");
        assert!(event(json!({"type": "text", "text": "12345678901"})).is_err());
        let (_, note) = event(json!({"type": "text", "text": "1234567890"})).unwrap().unwrap();
        assert!(note.is_none());
    }
}
