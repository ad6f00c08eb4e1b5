//! Conversations that were had elsewhere.

use super::attachment::Fetching;
use super::caller::Caller;
use super::conversation::{Direction, channel_named};
use super::create::{fresh, opened, opening};
use super::error::{Absent, Any, Change, Fault};
use super::input::{Body, Repeat, When, at_most};
use super::message::{Attachment, Content, Writing};
use super::{Answer, Data};
use crate::domain::{Channel, Command, FieldChange, Millis, Origin, Person};
use crate::store::Decided;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Longest name of a channel, and of the conversation elsewhere.
const LONGEST: usize = 256;
/// Most messages of one conversation that is imported: they are decided in one step, and others wait for it.
const MOST: usize = 1_000;

/// What is to be imported.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "_type")]
enum Import {
    /// A conversation of whatever channel.
    GenericConversationImport(Generic),
}

/// A conversation that was had elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Generic {
    /// The name of a channel of ours in whatever case, or any other.
    generic_channel_name: String,
    requester_id: Uuid,
    requester_connection_status: Option<Connection>,
    direction: Direction,
    created_at: When,
    messages: Option<Vec<OldMessage>>,
    assignment: Option<OldAssignment>,
    /// What it is called elsewhere.
    external_id: Option<String>,
    closing: Option<Closing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
enum Connection {
    Connected,
    Disconnected,
}

/// A message that was written elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "_type")]
enum OldMessage {
    /// From the end user.
    #[serde(rename_all = "camelCase")]
    InboundImport { content: Content, created_at: When, attachments: Option<Vec<Attachment>>, external_id: Option<String> },
    /// From an agent.
    #[serde(rename_all = "camelCase")]
    OutboundImport { content: Content, agent_id: Uuid, created_at: When, attachments: Option<Vec<Attachment>>, external_id: Option<String> },
}

/// Who had it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OldAssignment {
    agent_id: Uuid,
    assigned_at: When,
}

/// That it is over. It counts as closed now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Closing {
    closed_at: When,
    closed_by: Option<Uuid>,
}

/// What was imported.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Imported {
    id: i64,
    /// What of it was not.
    partial_errors: Vec<Lacking>,
}

/// Something that was not imported.
#[derive(Debug, Serialize, ToSchema)]
struct Lacking {
    message: String,
}

impl OldMessage {
    fn writing(self, caller: &Caller, requester: &Person) -> Result<Writing, Fault> {
        let (from, content, created_at, attachments, external) = match self {
            Self::InboundImport { content, created_at, attachments, external_id } => {
                (requester.clone(), content, created_at, attachments, external_id)
            }
            Self::OutboundImport { content, agent_id, created_at, attachments, external_id } => {
                let agent = caller.agent(agent_id).ok_or_else(|| Fault::bad(format!("there is no agent {agent_id}")))?;
                (agent.person(), content, created_at, attachments, external_id)
            }
        };
        let written = Some(created_at.past("createdAt of a message", caller.now())?);
        let writing = Writing { from, content, attachments: attachments.unwrap_or_default(), external, written };
        writing.check(caller)?;
        Ok(writing)
    }
}

/// Who has it from then on.
fn claim(caller: &Caller, assignment: &OldAssignment, now: Millis) -> Result<FieldChange, Fault> {
    let id = assignment.agent_id;
    let agent = caller.agent(id).ok_or_else(|| Fault::bad(format!("there is no agent {id}")))?;
    caller.in_the_name_of(agent)?;
    let since = Some(assignment.assigned_at.past("assignedAt", now)?);
    Ok(FieldChange::Claim { person: agent.person(), takes_over: true, since })
}

/// What of the rest can be done; what cannot is named among what is lacking.
fn changes(caller: &Caller, generic: &Generic, lacking: &mut Vec<String>) -> Result<Vec<FieldChange>, Fault> {
    let now = caller.now();
    let mut changes = Vec::new();
    match generic.assignment.as_ref().map(|assignment| claim(caller, assignment, now)) {
        Some(Ok(change)) => changes.push(change),
        Some(Err(fault)) => lacking.push(format!("the assignment is refused: {}", fault.message())),
        None => {}
    }
    if let Some(closing) = &generic.closing {
        closing.closed_at.past("closedAt", now)?;
        let unknown = closing.closed_by.filter(|by| caller.agent(*by).is_none());
        lacking.extend(unknown.map(|by| format!("closedBy {by} is no agent or admin")));
        changes.push(FieldChange::Close);
    }
    Ok(changes)
}

/// How it is answered that a conversation is written down.
async fn imported(caller: &Caller, decided: &Decided) -> Result<Answer<Imported>, Fault> {
    let id = opened(caller, decided).await?;
    let partial_errors = decided.remarks().map(|message| Lacking { message: message.to_owned() }).collect();
    Ok(Answer::new(StatusCode::CREATED, Imported { id, partial_errors }).replayed(decided.replayed))
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(import))
}

/// Writes a conversation down that was had elsewhere, with its own times.
#[utoipa::path(post, path = "/v1/conversations/import", operation_id = "importConversation", tag = "conversations", params(Repeat), request_body = Import,
    responses((status = 201, description = "It is written down; what of it is not, is named.", body = Data<Imported>), Any, Absent, Change))]
async fn import(
    caller: Caller,
    Body { said: Import::GenericConversationImport(mut generic), key }: Body<Import>,
) -> Result<Answer<Imported>, Fault> {
    if let Some(decided) = caller.replayed(key.as_ref()).await? {
        return imported(&caller, &decided).await;
    }
    let name = generic.generic_channel_name.trim().to_owned();
    if name.is_empty() {
        return Err(Fault::bad("genericChannelName is empty"));
    }
    at_most("genericChannelName", &name, LONGEST)?;
    generic.external_id.iter().try_for_each(|external| at_most("externalId", external, LONGEST))?;
    let began = generic.created_at.past("createdAt", caller.now())?;
    let found = caller.end_user(generic.requester_id).await?;
    let consumer = found.ok_or_else(|| Fault::bad(format!("there is no end user {}", generic.requester_id)))?;
    let requester = Person::Consumer(consumer.id.clone());
    let messages = generic.messages.take().unwrap_or_default();
    if messages.len() > MOST {
        return Err(Fault::bad(format!("messages has {} entries; the limit is {MOST}", messages.len())));
    }
    let mut writings = messages.into_iter().map(|message| message.writing(&caller, &requester)).collect::<Result<Vec<_>, _>>()?;
    // Events are numbered as they are written down; two of one time stay in the order in which they came.
    writings.sort_by_key(|writing| writing.written);
    let mut lacking = Vec::new();
    let changes = changes(&caller, &generic, &mut lacking)?;
    let (fetching, refused) = Fetching::of_many(&caller, &writings).await;
    lacking.extend(refused);
    let channel = channel_named(&name).unwrap_or(Channel::Other(name));
    let theirs = match &channel {
        Channel::Email | Channel::ContactForm => consumer.email(),
        Channel::Sms | Channel::WhatsApp | Channel::Phone | Channel::Callback | Channel::Voicemail => consumer.phone(),
        _ => None,
    };
    let theirs = theirs.map(str::to_owned);
    let (from, to) = if generic.direction == Direction::Inbound { (theirs, None) } else { (None, theirs) };
    let origin = Origin {
        from,
        to,
        external: generic.external_id.clone(),
        began: Some(began),
        is_connected: generic.requester_connection_status.map(|status| status == Connection::Connected),
        ..Origin::new(channel, generic.direction.into())
    };
    let conversation = fresh();
    let mut commands = vec![opening(&conversation, &consumer, caller.account().default_queue(), origin)];
    for (place, writing) in writings.iter().enumerate() {
        commands.extend(writing.commands(&conversation, fetching.files(place)));
    }
    if !changes.is_empty() {
        commands.push(Command::Update { conversation, changes });
    }
    commands.extend(lacking.into_iter().map(Command::Remark));
    let decided = fetching.shown_by(caller.actor().clone(), commands, key).await?;
    imported(&caller, &decided).await
}
