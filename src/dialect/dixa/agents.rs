//! Agents, as they are configured.

use super::Data;
use super::caller::{Caller, person_uuid};
use super::error::{Absent, Any, Fault, Ours};
use super::input::Stamp;
use super::page::{self, Page, limit};
use crate::domain::AgentRole;
use crate::identity::Agent as Known;
use axum::Json;
use axum::extract::{Path, Query};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Where they are listed.
const LIST: &str = "/v1/agents";
/// Agents of a page, and most.
const USUAL: usize = 100;
const MOST: usize = 1_000;

/// An agent.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Agent {
    id: Uuid,
    /// Agents are configured, which has no time: always 1970.
    created_at: Stamp,
    display_name: String,
    /// One that is not configured is made up, where no mail can go.
    email: String,
    phone_number: Option<String>,
    roles: Vec<Role>,
}

/// What an agent may do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentRole)]
enum Role {
    Agent,
    Manager,
    Admin,
}

/// The agent that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
struct NamedAgent {
    /// The agent's id.
    agent_id: Uuid,
}

/// Which agents.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    /// Most of a page.
    page_limit: Option<i32>,
    /// Leads to another page; from `meta`.
    page_key: Option<String>,
    /// Those with this address, whatever the case of its letters.
    email: Option<String>,
    /// Those with this number.
    phone: Option<String>,
}

/// Where a page begins, and what it is of.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    after: usize,
    limit: Option<usize>,
    email: Option<String>,
    phone: Option<String>,
}

fn shown(agent: &Known) -> Agent {
    let roles = agent.roles.iter().map(|role| match role {
        AgentRole::Agent => Role::Agent,
        AgentRole::Manager => Role::Manager,
        AgentRole::Admin => Role::Admin,
    });
    Agent {
        id: person_uuid(&agent.person()),
        created_at: Stamp(0),
        display_name: agent.name.clone(),
        email: agent.email.clone(),
        phone_number: agent.phone.clone(),
        roles: roles.collect(),
    }
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(get))
}

/// All agents, in pages.
#[utoipa::path(get, path = "/v1/agents", operation_id = "listAgents", tag = "users", params(Wanted),
    responses((status = 200, description = "A page of them.", body = Page<Agent>), Any))]
async fn list(caller: Caller, Ours(Query(wanted)): Ours<Query<Wanted>>) -> Result<Json<Page<Agent>>, Fault> {
    let account = caller.account();
    let place = match wanted.page_key {
        Some(key) => page::open(account, LIST, &key)?,
        None => Place { email: wanted.email, phone: wanted.phone, ..Place::default() },
    };
    let limit = limit(wanted.page_limit, place.limit.unwrap_or(USUAL), MOST)?;
    let has_mail = |agent: &Known| place.email.as_ref().is_none_or(|email| agent.email.to_lowercase() == email.to_lowercase());
    let has_phone = |agent: &Known| place.phone.is_none() || agent.phone == place.phone;
    let all: Vec<_> = account.agents().into_iter().filter(|agent| has_mail(agent) && has_phone(agent)).collect();
    let data = all.iter().skip(place.after).take(limit).map(|agent| shown(agent)).collect();
    let after = place.after.saturating_add(limit);
    let next = (after < all.len()).then(|| page::address(account, LIST, &Place { after, limit: Some(limit), ..place }));
    Ok(Json(Page::new(data, next)))
}

/// An agent by its id.
#[utoipa::path(get, path = "/v1/agents/{agentId}", operation_id = "getAgent", tag = "users", params(NamedAgent),
    responses((status = 200, description = "It.", body = Data<Agent>), Any, Absent))]
async fn get(caller: Caller, Ours(Path(NamedAgent { agent_id })): Ours<Path<NamedAgent>>) -> Result<Json<Data<Agent>>, Fault> {
    let agent = caller.agent(agent_id).ok_or_else(|| Fault::missing(format!("there is no agent {agent_id}")))?;
    Ok(Json(Data { data: shown(agent) }))
}
