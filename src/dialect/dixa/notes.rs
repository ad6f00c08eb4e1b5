//! What agents note about a conversation, which its end user never sees.

use super::caller::{Caller, person_uuid};
use super::conversation::{Named, Which};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::{Body, Repeat, Stamp, When, at_most};
use super::{Answer, Data};
use crate::domain::{Command, Conversation, FieldChange, Millis, Person, Refusal};
use crate::gateway::{AgentNote, IdempotencyKey};
use crate::store::Decided;
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tieline_protocol::ids::NoteId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Longest note, in characters, as for agents on the native surface.
const LONGEST: usize = 10_000;
/// Most notes of one request: they are decided in one step, and others wait for it.
const MOST: usize = 1_000;

/// A note that is to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewNote {
    message: String,
    /// Whose it is; without: whose the key is.
    agent_id: Option<Uuid>,
    /// When it was written; without: now.
    created_at: Option<When>,
}

/// Notes that are to be added.
#[derive(Debug, Deserialize, ToSchema)]
struct NewNotes {
    data: Vec<NewNote>,
}

/// A note.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Note {
    id: Uuid,
    author_id: Uuid,
    created_at: Stamp,
    /// The conversation's number.
    csid: i64,
    message: String,
}

/// What became of one of several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "_type")]
enum NoteOutcome {
    BulkActionSuccess { data: Note },
    BulkActionFailure { error: Why },
}

/// Why it was not done.
#[derive(Debug, Serialize, ToSchema)]
struct Why {
    message: String,
}

/// A note that can be added.
struct Ready {
    id: String,
    author: Person,
    at: Millis,
    text: String,
}

impl Ready {
    fn new(caller: &Caller, note: NewNote, id: String) -> Result<Self, Fault> {
        if note.message.is_empty() {
            return Err(Fault::bad("message is empty"));
        }
        at_most("message", &note.message, LONGEST)?;
        let author = caller.user(note.agent_id)?.person().ok_or_else(|| Fault::from(Refusal::NotAParticipant))?;
        let now = caller.now();
        let at = note.created_at.map_or(Ok(now), |at| at.past("createdAt", now))?;
        Ok(Self { id, author, at, text: note.message })
    }

    fn change(&self) -> FieldChange {
        let (note, author) = (self.text.clone(), self.author.clone());
        FieldChange::AddNote { id: NoteId::from(self.id.as_str()), note, author, written: Some(self.at) }
    }

    fn note(&self) -> AgentNote {
        AgentNote { id: self.id.clone(), author: self.author.clone(), at: self.at, text: self.text.clone() }
    }
}

fn shown(conversation: &Conversation, note: AgentNote) -> Note {
    Note {
        // Every id of a note is one.
        id: Uuid::parse_str(&note.id).unwrap_or_default(),
        author_id: person_uuid(&note.author),
        created_at: Stamp(note.at),
        csid: conversation.details.number,
        message: note.text,
    }
}

/// What is asked for of notes, of which some may have been refused.
struct Asked {
    /// The ids of all, in their order.
    ids: Vec<String>,
    /// Those that can be added.
    ready: Vec<Ready>,
    /// Why others cannot.
    refused: Vec<String>,
}

/// Adds notes, all of them or none, and says what became of each that was asked for; and whether that was so already.
async fn noted(
    caller: &Caller,
    conversation: &Conversation,
    Asked { ids, ready, refused }: Asked,
    key: Option<IdempotencyKey>,
) -> Result<(Vec<NoteOutcome>, bool), Fault> {
    if ready.is_empty() {
        return Ok((outcomes(conversation, &ids, &[], refused), false));
    }
    let changes = ready.iter().map(Ready::change).collect();
    let update = Command::Update { conversation: conversation.details.id.clone(), changes };
    let commands = std::iter::once(update).chain(refused.iter().cloned().map(Command::Remark)).collect();
    let decided = caller.submit(caller.actor().clone(), commands, key).await?;
    if decided.replayed {
        return Ok((stands(caller, conversation, &ids, &decided).await?, true));
    }
    let notes: Vec<AgentNote> = ready.iter().map(Ready::note).collect();
    Ok((outcomes(conversation, &ids, &notes, refused), false))
}

/// What became of notes that were asked for before.
async fn stands(caller: &Caller, conversation: &Conversation, ids: &[String], decided: &Decided) -> Result<Vec<NoteOutcome>, Fault> {
    let known = caller.gateway().agent_notes(caller.actor(), &conversation.details.id).await?;
    Ok(outcomes(conversation, ids, &known, decided.remarks().map(str::to_owned)))
}

/// What became of each: the note that stands, or the next of the reasons why others do not.
fn outcomes(
    conversation: &Conversation,
    ids: &[String],
    notes: &[AgentNote],
    refused: impl IntoIterator<Item = String>,
) -> Vec<NoteOutcome> {
    let notes: HashMap<&str, &AgentNote> = notes.iter().map(|note| (note.id.as_str(), note)).collect();
    let mut refused = refused.into_iter();
    let outcome = |id: &String| match notes.get(id.as_str()) {
        Some(note) => Some(NoteOutcome::BulkActionSuccess { data: shown(conversation, (*note).clone()) }),
        None => refused.next().map(|message| NoteOutcome::BulkActionFailure { error: Why { message } }),
    };
    ids.iter().filter_map(outcome).collect()
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(list, add)).routes(routes!(add_many))
}

/// All notes about a conversation, by the times when they were written, the oldest first.
#[utoipa::path(get, path = "/v1/conversations/{conversationId}/notes", operation_id = "notes_list", tag = "notes",
    params(Named),
    responses((status = 200, description = "They.", body = Data<Vec<Note>>), Any, Absent))]
async fn list(caller: Caller, Ours(Path(named)): Which) -> Result<Json<Data<Vec<Note>>>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let notes = caller.gateway().agent_notes(caller.actor(), &conversation.details.id).await?;
    Ok(Json(Data { data: notes.into_iter().map(|note| shown(&conversation, note)).collect() }))
}

/// Adds a note.
#[utoipa::path(post, path = "/v1/conversations/{conversationId}/notes", operation_id = "notes_add", tag = "notes",
    params(Named, Repeat), request_body = NewNote,
    responses((status = 200, description = "It.", body = Data<Note>), Any, Absent, Change))]
async fn add(caller: Caller, Ours(Path(named)): Which, Body { said, key }: Body<NewNote>) -> Result<Answer<Note>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let id = caller.id_of(key.as_ref(), &["note", conversation.details.id.as_str(), "0"]).to_string();
    let ids = vec![id.clone()];
    let (mut outcomes, replayed) = match caller.replayed(key.as_ref()).await? {
        Some(decided) => (stands(&caller, &conversation, &ids, &decided).await?, true),
        None => {
            let ready = vec![Ready::new(&caller, said, id)?];
            noted(&caller, &conversation, Asked { ids, ready, refused: Vec::new() }, key).await?
        }
    };
    match outcomes.pop() {
        Some(NoteOutcome::BulkActionSuccess { data }) => Ok(Answer::new(StatusCode::OK, data).replayed(replayed)),
        _ => Err(Fault::missing("the note is no more")),
    }
}

/// Adds notes: each that can be, and says of each others why not, in their order.
#[utoipa::path(post, path = "/v1/conversations/{conversationId}/notes/bulk", tag = "notes", params(Named, Repeat),
    request_body = NewNotes, responses((status = 200, description = "What became of each.", body = Data<Vec<NoteOutcome>>), Any, Absent, Change))]
async fn add_many(caller: Caller, Ours(Path(named)): Which, Body { said, key }: Body<NewNotes>) -> Result<Answer<Vec<NoteOutcome>>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    if said.data.len() > MOST {
        return Err(Fault::bad(format!("data has {} notes; the limit is {MOST}", said.data.len())));
    }
    let id_of = |place: usize| caller.id_of(key.as_ref(), &["note", conversation.details.id.as_str(), &place.to_string()]).to_string();
    let ids: Vec<String> = (0..said.data.len()).map(id_of).collect();
    if let Some(decided) = caller.replayed(key.as_ref()).await? {
        return Ok(Answer::new(StatusCode::OK, stands(&caller, &conversation, &ids, &decided).await?).replayed(true));
    }
    let (mut ready, mut refused) = (Vec::new(), Vec::new());
    for (note, id) in said.data.into_iter().zip(&ids) {
        match Ready::new(&caller, note, id.clone()) {
            Ok(note) => ready.push(note),
            Err(fault) => refused.push(fault.message().to_owned()),
        }
    }
    let (outcomes, replayed) = noted(&caller, &conversation, Asked { ids, ready, refused }, key).await?;
    Ok(Answer::new(StatusCode::OK, outcomes).replayed(replayed))
}
