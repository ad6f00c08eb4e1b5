//! Who comes to a conversation, who goes, and who has read it.

use super::caller::{Body, Caller};
use super::error::{Absent, Any, Fault, Large};
use super::model::{Receipts, is_shown};
use super::{Done, done};
use crate::domain::{Command, Conversation, FieldChange, Person, Refusal, Role};
use crate::gateway::{Found, Query};
use crate::store::Range;
use axum::Json;
use axum::extract::Path;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::to_raw_value;
use tieline_protocol::event::EventClass;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Events among which those are looked for that are marked as read at once.
const MARKED: usize = 1_000;

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(join)).routes(routes!(leave)).routes(routes!(read))
}

/// In which language somebody joins. It is taken and not kept: nothing is translated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = ConversationJoinRequest)]
struct Join {
    #[expect(dead_code, reason = "read so that a wrong one is refused")]
    participant_language_iso_code: Option<String>,
}

fn takes_part(conversation: &Conversation, person: &Person) -> bool {
    conversation.details.participant(person).is_some_and(|one| one.active_role().is_some())
}

/// Joins a conversation: one that waits is the caller's from then on. Whoever is there stays as it is.
#[utoipa::path(put, path = "/rest/v2/conversation/conversations/{conversation_uuid}/join", operation_id = "joinConversation", tag = "conversations",
    params(("conversation_uuid" = String, Path, description = "The conversation.")), request_body = Option<Join>,
    responses((status = 200, description = "The caller takes part.", body = Done), Any, Absent, Large))]
async fn join(caller: Caller, Path(id): Path<String>, Body(_said): Body<Join>) -> Result<Json<Done>, Fault> {
    let person = caller.person()?;
    let conversation = caller.conversation(&id).await?;
    if takes_part(&conversation, &person) {
        return Ok(done());
    }
    let join = |role| vec![FieldChange::Join { person: person.clone(), role }];
    if conversation.details.assignee().is_none() {
        let answers = caller.change(&conversation, join(Role::AssignedAgent)).await;
        let Err(fault) = answers else { return Ok(done()) };
        // Another may have been faster; then there is still a place beside.
        if caller.conversation(&id).await?.details.assignee().is_none() {
            return Err(fault);
        }
    }
    caller.change(&conversation, join(Role::Agent)).await?;
    Ok(done())
}

/// Takes a conversation that waits.
///
/// # Errors
/// 404; 400, if the caller is nobody who could take part, or another was faster, or it is closed.
pub(super) async fn take(caller: &Caller, id: &str) -> Result<(), Fault> {
    let person = caller.person()?;
    let conversation = caller.conversation(id).await?;
    caller.change(&conversation, vec![FieldChange::Join { person, role: Role::AssignedAgent }]).await
}

/// Leaves a conversation. One that loses its agent waits in its queue again. Who is not there stays as it is.
#[utoipa::path(delete, path = "/rest/v2/conversation/conversations/{conversation_uuid}/leave", operation_id = "leaveConversation", tag = "conversations",
    params(("conversation_uuid" = String, Path, description = "The conversation.")),
    responses((status = 200, description = "The caller takes no part.", body = Done), Any, Absent))]
async fn leave(caller: Caller, Path(id): Path<String>) -> Result<Json<Done>, Fault> {
    let person = caller.person()?;
    let conversation = caller.conversation(&id).await?;
    if let Some(present) = conversation.details.participant(&person) {
        caller.change(&conversation, vec![FieldChange::Leave { role: present.role, person }]).await?;
    }
    Ok(done())
}

/// Marks what was said as read by the caller.
#[utoipa::path(put, path = "/rest/v2/conversation/conversations/{conversation_uuid}/markread", operation_id = "markReadConversation", tag = "conversations",
    params(("conversation_uuid" = String, Path, description = "The conversation.")),
    responses((status = 200, description = "It is marked.", body = Done), Any, Absent))]
async fn read(caller: Caller, Path(id): Path<String>) -> Result<Json<Done>, Fault> {
    let person = caller.person()?;
    let known = caller.conversation(&id).await?;
    if !takes_part(&known, &person) {
        return Err(Refusal::NotAParticipant.into());
    }
    let conversation = known.details.id.clone();
    let dialog = conversation.main_dialog();
    let Some(newest) = known.next[0].checked_sub(1) else { return Ok(done()) };
    let range = Range::Backward { to: newest, limit: MARKED };
    let wanted = Query::Events { conversation: conversation.clone(), dialog: dialog.clone(), range };
    let Found::Events(events) = caller.gateway().ask(caller.actor(), wanted).await? else { return Ok(done()) };
    let receipts = Receipts::of(&events);
    let messages = events.iter().filter_map(|sight| sight.message());
    let unread: Vec<u64> = messages
        .filter(|message| is_shown(message) && message.from != person && !receipts.has_read(&person, message.sequence))
        .map(|message| message.sequence)
        .collect();
    if unread.is_empty() {
        return Ok(done());
    }
    let event = to_raw_value(&json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": unread}));
    let receipt = Command::Publish {
        conversation,
        dialog,
        class: EventClass::Receipt,
        // What was just made of JSON values is JSON.
        event: event.unwrap_or_default(),
        metadata: None,
        encoded_metadata: None,
        client: None,
        file: None,
        whisper: false,
    };
    caller.submit(vec![receipt]).await?;
    Ok(done())
}
