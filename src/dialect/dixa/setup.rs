//! What an account has set up, for calls that read or change it: queues, contact endpoints, flows, definitions of attributes, and the
//! organisation itself.

use super::Data;
use super::caller::Caller;
use super::conversation::{channel_name, channel_named};
use super::error::{Absent, Any, Fault, Ours};
use super::input::Stamp;
use crate::domain::{Channel, Refusal};
use crate::gateway::Error;
use crate::identity::{Account, Kept, ThingError};
use crate::things::{Attribute, ContactEndpoint, Entity, Input};
use axum::Json;
use axum::extract::{Path, Query};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::sync::Arc;
use tieline_protocol::ids::QueueId;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// The caller's account, as changes of what it has set up want it.
///
/// # Errors
/// 404, if it is gone.
pub(super) fn account(caller: &Caller) -> Result<Arc<Account>, Fault> {
    let found = caller.gateway().identity().directory().account(caller.account().id.as_str());
    found.ok_or_else(|| Fault::missing("the account is no more"))
}

/// Lets only those change what the account has set up who may.
///
/// # Errors
/// 401.
pub(super) fn administers(caller: &Caller) -> Result<(), Fault> {
    match caller.actor().is_manager() {
        true => Ok(()),
        false => Err(Fault::denied("this key is of an agent who may not change what the account has set up")),
    }
}

/// Why a thing is not changed.
pub(super) fn unchanged(error: ThingError) -> Fault {
    let said = error.to_string();
    match error {
        ThingError::NotFound => Fault::missing(said),
        ThingError::Invalid(_) | ThingError::Taken(_) | ThingError::TooMany => Fault::bad(said),
        ThingError::Needed(_) | ThingError::OtherRevision(_) => Refusal::NotNow(said.into()).into(),
        ThingError::Store(error) => Error::from(error).into(),
    }
}

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Queue {
    id: Uuid,
    name: String,
    /// Whether conversations come here whose opener names none.
    is_default: bool,
    organization_id: Uuid,
}

/// The queue that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
struct NamedQueue {
    /// The queue's id.
    queue_id: Uuid,
}

/// What a queue is called.
pub(super) fn queue_name(account: &Account, queue: &QueueId) -> String {
    let unnamed = || if *queue == QueueId::unassigned() { "Unassigned".to_owned() } else { queue.to_string() };
    account.queue_name(queue).map_or_else(unnamed, str::to_owned)
}

fn queue(account: &Account, queue: &QueueId) -> Queue {
    Queue {
        id: account.queue_uuid(queue),
        name: queue_name(account, queue),
        is_default: *queue == account.default_queue(),
        organization_id: account.uuid(),
    }
}

/// An address or a number of the account's own. Flows and calls that begin conversations name it by that.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ContactEndpoint)]
#[serde(tag = "_type")]
enum Endpoint {
    /// A mailbox.
    EmailEndpoint { address: String, name: Option<String> },
    /// A telephone.
    TelephonyEndpoint { number: String, functionality: Vec<String>, name: Option<String> },
}

/// A way that conversations of a channel come in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Flow {
    id: Uuid,
    name: String,
    channel: String,
    /// The address or number through which they come.
    contact_endpoint_id: String,
}

/// Which flows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Flows {
    /// The channel; `PstnPhone`, if none is named.
    channel: Option<String>,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AttributeEntityType)]
enum EntityType {
    Contact,
    Conversation,
}

/// What an attribute takes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "_type")]
enum InputDefinition {
    /// Any text.
    Text {},
    /// An option, with those that it lies under.
    Select { options: Vec<Choice> },
}

/// An option, and what lies under it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SelectOption)]
#[serde(rename_all = "camelCase")]
struct Choice {
    value: String,
    label: String,
    #[schema(no_recursion)]
    nested_options: Vec<Self>,
}

/// The definition of a custom attribute.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CustomAttributeDefinition)]
#[serde(rename_all = "camelCase")]
struct Definition {
    id: Uuid,
    entity_type: EntityType,
    /// What programs call it.
    identifier: String,
    /// What people call it.
    label: String,
    input_definition: InputDefinition,
    is_required: bool,
    is_archived: bool,
    is_deactivated: bool,
    created_at: Stamp,
    updated_at: Option<Stamp>,
}

/// Options as a tree.
fn choices(options: &[Vec<String>]) -> Vec<Choice> {
    let mut roots: Vec<Choice> = Vec::new();
    for option in options {
        let mut level = &mut roots;
        for step in option {
            let place = level.iter().position(|known| known.value == *step).unwrap_or_else(|| {
                level.push(Choice { value: step.clone(), label: step.clone(), nested_options: Vec::new() });
                level.len() - 1
            });
            level = &mut level[place].nested_options;
        }
    }
    roots
}

fn definition(kept: &Kept<Attribute>) -> Definition {
    let attribute = &kept.thing;
    Definition {
        id: kept.id.uuid(),
        entity_type: match attribute.entity {
            Entity::Contact => EntityType::Contact,
            Entity::Conversation => EntityType::Conversation,
        },
        identifier: attribute.identifier.clone(),
        label: attribute.label.clone(),
        input_definition: match &attribute.input {
            Input::Text {} => InputDefinition::Text {},
            Input::Select { options } => InputDefinition::Select { options: choices(options) },
        },
        is_required: attribute.required,
        is_archived: attribute.archived,
        is_deactivated: attribute.deactivated,
        created_at: Stamp(kept.created),
        updated_at: (kept.updated != kept.created).then_some(Stamp(kept.updated)),
    }
}

/// The account.
#[derive(Debug, Serialize, ToSchema)]
struct Organization {
    id: Uuid,
    name: String,
    /// What the account is called in addresses.
    subdomain: String,
    status: Status,
}

/// How it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationStatus)]
enum Status {
    Active,
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default()
        .routes(routes!(queues))
        .routes(routes!(one_queue))
        .routes(routes!(contact_endpoints))
        .routes(routes!(flows))
        .routes(routes!(definitions))
        .routes(routes!(organization))
}

/// All queues. One of them is that of conversations without another.
#[utoipa::path(get, path = "/v1/queues", operation_id = "listQueues", tag = "directory",
    responses((status = 200, description = "They.", body = Data<Vec<Queue>>), Any))]
async fn queues(caller: Caller) -> Json<Data<Vec<Queue>>> {
    let account = caller.account();
    let ids = account.queues().into_keys().map(QueueId::from).chain([QueueId::unassigned()]);
    Json(Data { data: ids.map(|id| queue(account, &id)).collect() })
}

/// A queue by its id.
#[utoipa::path(get, path = "/v1/queues/{queueId}", operation_id = "getQueue", tag = "directory", params(NamedQueue),
    responses((status = 200, description = "It.", body = Data<Queue>), Any, Absent))]
async fn one_queue(caller: Caller, Ours(Path(NamedQueue { queue_id })): Ours<Path<NamedQueue>>) -> Result<Json<Data<Queue>>, Fault> {
    let found = caller.queue(queue_id).ok_or_else(|| Fault::missing(format!("there is no queue {queue_id}")))?;
    Ok(Json(Data { data: queue(caller.account(), found) }))
}

/// All addresses and numbers of the account's own.
#[utoipa::path(get, path = "/v1/contact-endpoints", operation_id = "listContactEndpoints", tag = "directory",
    responses((status = 200, description = "They.", body = Data<Vec<Endpoint>>), Any))]
async fn contact_endpoints(caller: Caller) -> Json<Data<Vec<Endpoint>>> {
    let all = caller.account().things().contact_endpoints.live();
    let shown = all.iter().map(|kept| match kept.thing.clone() {
        ContactEndpoint::Email { address, name } => Endpoint::EmailEndpoint { address, name },
        ContactEndpoint::Telephony { number, name, functionality } => Endpoint::TelephonyEndpoint { number, functionality, name },
    });
    Json(Data { data: shown.collect() })
}

/// The ways that conversations of a channel come in.
#[utoipa::path(get, path = "/v1/conversations/flows", operation_id = "listFlows", tag = "directory", params(Flows),
    responses((status = 200, description = "They.", body = Data<Vec<Flow>>), Any))]
async fn flows(caller: Caller, Ours(Query(wanted)): Ours<Query<Flows>>) -> Result<Json<Data<Vec<Flow>>>, Fault> {
    let channel = match wanted.channel.as_deref() {
        None => Channel::Phone,
        Some(name) => channel_named(name).ok_or_else(|| Fault::bad(format!("there is no channel {name:?}")))?,
    };
    let things = caller.account().things();
    let all = things.flows.live();
    let of_channel = all.iter().filter(|kept| channel_named(&kept.thing.channel).as_ref() == Some(&channel));
    let shown = of_channel.map(|kept| {
        let endpoint = things.contact_endpoints.resolve(kept.thing.contact_endpoint);
        let contact_endpoint_id = endpoint.map_or_else(
            || kept.thing.contact_endpoint.to_string(),
            |endpoint| match &endpoint.thing {
                ContactEndpoint::Email { address, .. } => address.clone(),
                ContactEndpoint::Telephony { number, .. } => number.clone(),
            },
        );
        let (name, channel) = (kept.thing.name.clone(), channel_name(&channel).to_owned());
        Flow { id: kept.id.uuid(), name, channel, contact_endpoint_id }
    });
    Ok(Json(Data { data: shown.collect() }))
}

/// All definitions of custom attributes.
#[utoipa::path(get, path = "/v1/custom-attributes", operation_id = "listAttributeDefinitions", tag = "attributes",
    responses((status = 200, description = "They.", body = Data<Vec<Definition>>), Any))]
async fn definitions(caller: Caller) -> Json<Data<Vec<Definition>>> {
    let all = caller.account().things().attributes.live();
    Json(Data { data: all.iter().map(|kept| definition(kept)).collect() })
}

/// The account that the key is of.
#[utoipa::path(get, path = "/v1/organization", operation_id = "getOrganization", tag = "directory",
    responses((status = 200, description = "It.", body = Data<Organization>), Any))]
async fn organization(caller: Caller) -> Json<Data<Organization>> {
    let account = caller.account();
    let name = if account.name.is_empty() { account.id.to_string() } else { account.name.clone() };
    let data = Organization { id: account.uuid(), name, subdomain: account.id.to_string(), status: Status::Active };
    Json(Data { data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_a_tree_in_their_order() {
        let path = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
        let leaf = |value: &str, nested_options| Choice { value: value.into(), label: value.into(), nested_options };
        let made = choices(&[path(&["Shipping", "Lost"]), path(&["Other"]), path(&["Shipping", "Late", "Very"]), path(&["Shipping"])]);
        let late = leaf("Late", vec![leaf("Very", Vec::new())]);
        assert_eq!(made, [leaf("Shipping", vec![leaf("Lost", Vec::new()), late]), leaf("Other", Vec::new())]);
    }
}
