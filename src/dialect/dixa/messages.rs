//! Messages of a conversation: one more, and all.

use super::attachment::Fetching;
use super::caller::Caller;
use super::conversation::{Direction, Named, Which, channel, channel_name};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::{Body, Repeat, Stamp};
use super::message::{Attachment, Content, Shown, Writing, together};
use super::{Answer, Data};
use crate::dialect::ids::{consumer_uuid, event_uuid};
use crate::domain::{Actor, Channel, Command, Conversation, FieldChange, Outcome, Person};
use crate::store::Decided;
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// A message that is to be written down. Members that are not named here, such as `integrationEmail`, `cc` and `bcc`, are not looked
/// at: nothing is mailed.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "_type")]
pub(super) enum NewMessage {
    /// From the end user.
    #[serde(rename_all = "camelCase")]
    Inbound {
        content: Content,
        attachments: Option<Vec<Attachment>>,
        /// The writer's own name for it; no other message of the conversation has it.
        external_id: Option<String>,
    },
    /// From an agent.
    #[serde(rename_all = "camelCase")]
    Outbound {
        content: Content,
        agent_id: Uuid,
        attachments: Option<Vec<Attachment>>,
        /// The writer's own name for it; no other message of the conversation has it.
        external_id: Option<String>,
    },
}

impl NewMessage {
    /// Who began, if it is the first.
    pub(super) fn direction(&self) -> Direction {
        match self {
            Self::Inbound { .. } => Direction::Inbound,
            Self::Outbound { .. } => Direction::Outbound,
        }
    }

    fn parts(self) -> (Option<Uuid>, Said, Option<Vec<Attachment>>) {
        match self {
            Self::Inbound { content, attachments, external_id } => (None, Said { content, external_id }, attachments),
            Self::Outbound { content, agent_id, attachments, external_id } => (Some(agent_id), Said { content, external_id }, attachments),
        }
    }

    /// What is to be written down, and as whom. `requester` writes what comes in.
    ///
    /// # Errors
    /// 404 for an agent that is not there, 401, 400.
    pub(super) fn writing(self, caller: &Caller, requester: Person) -> Result<(Actor, Writing), Fault> {
        let (agent, Said { content, external_id: external }, attachments) = self.parts();
        let (actor, from) = match agent {
            None => (caller.actor().clone(), requester),
            Some(id) => {
                let agent = caller.agent(id).ok_or_else(|| Fault::missing(format!("there is no agent {id}")))?;
                (caller.in_the_name_of(agent)?, agent.person())
            }
        };
        let writing = Writing { from, content, attachments: attachments.unwrap_or_default(), external, written: None };
        writing.check(caller)?;
        Ok((actor, writing))
    }
}

/// What a message says.
#[derive(Debug, Clone)]
struct Said {
    content: Content,
    external_id: Option<String>,
}

/// A message that was written down.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Written {
    content: Content,
    direction: Direction,
    author_id: Uuid,
    external_id: Option<String>,
    message_id: Uuid,
    created_at: Stamp,
}

/// How it is answered that a message is written down.
fn written(conversation: &Conversation, message: NewMessage, decided: &Decided) -> Answer<Written> {
    let recorded = decided.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Recorded { sequence, at } => Some((*sequence, *at)),
        _ => None,
    });
    let (sequence, at) = recorded.unwrap_or_default();
    let direction = message.direction();
    let (agent, Said { content, external_id }, _) = message.parts();
    let data = Written {
        direction,
        author_id: agent.unwrap_or_else(|| consumer_uuid(&conversation.details.consumer)),
        content,
        external_id,
        message_id: event_uuid(&conversation.details.id, sequence),
        created_at: Stamp(at),
    };
    Answer::new(StatusCode::OK, data).replayed(decided.replayed)
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(list, add))
}

/// All messages of a conversation, oldest first. Addresses of files are good for a short time.
#[utoipa::path(get, path = "/v1/conversations/{conversationId}/messages", operation_id = "listMessages", tag = "messages", params(Named),
    responses((status = 200, description = "They.", body = Data<Vec<Shown>>), Any, Absent))]
async fn list(caller: Caller, Ours(Path(named)): Which) -> Result<Json<Data<Vec<Shown>>>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let events = caller.gateway().messages(caller.actor(), &conversation.details.id).await?;
    let data = together(&events).iter().map(|one| Shown::new(&caller, &conversation, one)).collect();
    Ok(Json(Data { data }))
}

/// One message more, in a conversation of the channels `Email`, `WidgetChat` and `Messenger`. What is closed is opened again by it.
#[utoipa::path(post, path = "/v1/conversations/{conversationId}/messages", operation_id = "addMessage", tag = "messages", params(Named, Repeat),
    request_body = NewMessage, responses((status = 200, description = "It is written down.", body = Data<Written>), Any, Absent, Change))]
async fn add(caller: Caller, Ours(Path(named)): Which, Body { said, key }: Body<NewMessage>) -> Result<Answer<Written>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    if let Some(decided) = caller.replayed(key.as_ref()).await? {
        return Ok(written(&conversation, said, &decided));
    }
    let channel = channel(caller.account(), &conversation);
    if !matches!(channel, Channel::Email | Channel::WebChat | Channel::Messenger) {
        let name = channel_name(&channel);
        return Err(Fault::bad(format!("messages can be added to Email, WidgetChat and Messenger conversations; this one is {name}")));
    }
    let requester = Person::Consumer(conversation.details.consumer.clone());
    // An agent that is not there is the body's fault.
    let (actor, writing) = said.clone().writing(&caller, requester).map_err(Fault::or_bad)?;
    let fetching = Fetching::of(&caller, Some(&writing)).await?;
    let opens = reopens(&actor, &writing, &conversation);
    let commands = std::iter::once(opens).chain(writing.commands(&conversation.details.id, fetching.files(0))).collect();
    let decided = fetching.shown_by(actor, commands, key).await?;
    Ok(written(&conversation, said, &decided))
}

/// What opens a conversation again that is closed, or may be by now. An agent who writes for itself has it from then on: without it, it
/// would have no part in it any more, and could not write.
fn reopens(actor: &Actor, writing: &Writing, conversation: &Conversation) -> Command {
    let claims = !actor.is_manager() && !conversation.details.main_is_open();
    let claim = claims.then(|| FieldChange::Claim { person: writing.from.clone(), takes_over: true, since: None });
    let changes = [FieldChange::Reopen].into_iter().chain(claim).collect();
    Command::Update { conversation: conversation.details.id.clone(), changes }
}
