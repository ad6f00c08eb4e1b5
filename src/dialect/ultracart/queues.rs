//! Queues: who waits in them, and which agents are there.

use super::caller::{Body, Caller};
use super::error::{Absent, Any, Fault, Large, Nothing};
use super::model::{Scene, stamp};
use super::{Done, done};
use crate::domain::{AgentState, Availability, Command, Conversation, ConversationFilter, OpenState, Person};
use crate::identity::Agent;
use axum::Json;
use axum::extract::Path;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::collections::HashMap;
use tieline_protocol::ids::{QueueId, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(statuses)).routes(routes!(set_status))
}

/// Whether an agent takes conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum AgentStatus {
    Available,
    Busy,
    Unavailable,
}

impl From<Availability> for AgentStatus {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Online => Self::Available,
            Availability::Occupied | Availability::BackSoon => Self::Busy,
            Availability::Away | Availability::Offline => Self::Unavailable,
        }
    }
}

impl From<AgentStatus> for Availability {
    fn from(status: AgentStatus) -> Self {
        match status {
            AgentStatus::Available => Self::Online,
            AgentStatus::Busy => Self::Occupied,
            AgentStatus::Unavailable => Self::Offline,
        }
    }
}

/// An agent of a queue.
#[derive(Debug, Serialize, ToSchema)]
struct QueueAgent {
    agent_status: AgentStatus,
    conversation_participant_arn: String,
    conversation_participant_name: String,
}

/// A customer who waits.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
struct QueueEntry {
    conversation_webchat_queue_uuid: String,
    conversation_participant_arn: String,
    conversation_participant_name: String,
    email: Option<String>,
    /// Since when.
    join_dts: String,
    queue_name: String,
}

/// How a queue stands.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
struct QueueStatus {
    queue_name: String,
    agent_count: usize,
    agent_available_count: usize,
    agent_busy_count: usize,
    agent_unavailable_count: usize,
    /// Customers whom an agent answers.
    customer_active_count: usize,
    customer_waiting_count: usize,
    /// Since when the first of them waits.
    customer_waiting_join_dts: Option<String>,
    /// The agents who serve it.
    agents: Vec<QueueAgent>,
    /// Those who wait, the first first.
    queue_entries: Vec<QueueEntry>,
}

/// How the queues stand.
#[derive(Debug, Serialize, ToSchema)]
struct QueueStatuses {
    success: bool,
    queue_statuses: Vec<QueueStatus>,
    metadata: Nothing,
}

/// What a queue is called: its name, or its id where it has none. Conversations that nobody put into a queue are in `-1`.
fn name(caller: &Caller, queue: &QueueId) -> String {
    caller.account().queue_name(queue).unwrap_or(queue.as_str()).to_owned()
}

fn queues(caller: &Caller) -> Vec<QueueId> {
    let configured = caller.account().queues().into_keys().map(QueueId::from);
    let unassigned = QueueId::unassigned();
    let has_it = caller.account().queues().contains_key(unassigned.as_str());
    (!has_it).then_some(unassigned).into_iter().chain(configured).collect()
}

/// How the queues stand, by the 1,000 open conversations that changed last.
#[utoipa::path(get, path = "/rest/v2/conversation/conversations/queues/statuses", operation_id = "getConversationWebchatQueueStatuses", tag = "queues",
    responses((status = 200, description = "Each queue.", body = QueueStatuses), Any))]
async fn statuses(caller: Caller) -> Result<Json<QueueStatuses>, Fault> {
    let account = caller.account();
    let states = caller.gateway().agent_states(&account.id, &[]).await?;
    let states: HashMap<UserId, AgentState> = states.into_iter().map(|state| (state.agent.clone(), state)).collect();
    let filter = ConversationFilter { stages: vec![OpenState::Open], ..ConversationFilter::all(account.id.clone()) };
    let mut open: HashMap<QueueId, Vec<Conversation>> = HashMap::new();
    for one in caller.gateway().snapshot(filter).await?.conversations {
        open.entry(one.details.queue.clone()).or_default().push(one);
    }
    let mut queue_statuses = Vec::new();
    for queue in queues(&caller) {
        let conversations = open.remove(&queue).unwrap_or_default();
        queue_statuses.push(status(&caller, &queue, &conversations, &states).await?);
    }
    Ok(Json(QueueStatuses { success: true, queue_statuses, metadata: Nothing {} }))
}

async fn status(
    caller: &Caller,
    queue: &QueueId,
    open: &[Conversation],
    states: &HashMap<UserId, AgentState>,
) -> Result<QueueStatus, Fault> {
    let state = |agent: &Agent| states.get(&agent.user).map_or(Availability::Offline, |state| state.availability);
    let agent = |agent: &Agent| QueueAgent {
        agent_status: state(agent).into(),
        conversation_participant_arn: caller.merchant().person(&agent.person()),
        conversation_participant_name: agent.name.clone(),
    };
    let serving = caller.account().agents().into_iter().filter(|agent| agent.skills.contains(queue));
    let agents: Vec<QueueAgent> = serving.map(agent).collect();
    let count = |status| agents.iter().filter(|agent| agent.agent_status == status).count();
    let mut waiting: Vec<&Conversation> = open.iter().filter(|one| one.waiting.is_some()).collect();
    waiting.sort_by_key(|one| one.pending_since());
    let mut queue_entries = Vec::with_capacity(waiting.len());
    for one in &waiting {
        let consumer = caller.gateway().consumer_of(caller.actor(), one).await?;
        let scene = Scene { account: caller.account(), merchant: caller.merchant(), reader: None, consumer: consumer.as_ref() };
        let person = Person::Consumer(one.details.consumer.clone());
        queue_entries.push(QueueEntry {
            conversation_webchat_queue_uuid: one.details.id.to_string(),
            conversation_participant_arn: caller.merchant().person(&person),
            conversation_participant_name: scene.name(&person),
            email: consumer.as_ref().and_then(|known| known.email()).map(str::to_owned),
            join_dts: stamp(one.pending_since()),
            queue_name: name(caller, queue),
        });
    }
    Ok(QueueStatus {
        queue_name: name(caller, queue),
        agent_count: agents.len(),
        agent_available_count: count(AgentStatus::Available),
        agent_busy_count: count(AgentStatus::Busy),
        agent_unavailable_count: count(AgentStatus::Unavailable),
        customer_active_count: open.iter().filter(|one| one.details.assignee().is_some()).count(),
        customer_waiting_count: waiting.len(),
        customer_waiting_join_dts: waiting.first().map(|one| stamp(one.pending_since())),
        agents,
        queue_entries,
    })
}

/// What an agent says of itself.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = ConversationWebchatQueueStatusUpdateRequest)]
struct Said {
    agent_status: Option<AgentStatus>,
}

/// Says whether the caller takes conversations. An agent's state is one for all of its queues.
#[utoipa::path(put, path = "/rest/v2/conversation/conversations/queues/{queue_name}/status", operation_id = "updateConversationWebchatQueueStatus",
    tag = "queues", params(("queue_name" = String, Path, description = "The queue, by its name or id.")), request_body = Said,
    responses((status = 200, description = "It is said.", body = Done), Any, Absent, Large))]
async fn set_status(caller: Caller, Path(queue): Path<String>, Body(said): Body<Said>) -> Result<Json<Done>, Fault> {
    let agent = caller.agent()?.user.clone();
    let is_it = |known: &QueueId| known.as_str() == queue || name(&caller, known) == queue;
    if !queues(&caller).iter().any(is_it) {
        return Err(Fault::missing("there is no such queue"));
    }
    let status = said.agent_status.ok_or_else(|| Fault::bad("agent_status is missing: available, busy or unavailable"))?;
    let channels = AgentState::unknown(&caller.account().id, &agent).channels;
    let said = Command::SetAvailability { agent, availability: status.into(), channels, description: None, reason: None };
    caller.submit(vec![said]).await?;
    Ok(done())
}
