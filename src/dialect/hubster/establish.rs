//! A conversation that is established: read from the request, opened or found under its binding, and shown.

use super::Hubster;
use super::caller::{Caller, Customer, Known, Origin, is_active, is_in_good_standing};
use super::error::{Code, Fault};
use super::json::{Object, Problems, body};
use super::object::{Bound, CHANNELS, Established, Properties, channel_name};
use super::openapi::EstablishRefused;
use super::profile;
use crate::domain::{Channel, Command, Consumer, Direction, Origin as From, Outcome, Ttr};
use crate::gateway::Request;
use crate::identity::Kept;
use crate::things::{Integration, IntegrationChannel, IntegrationKind, ThingId};
use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tieline_protocol::ids::{ConversationId, QueueId};
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest binding, in characters.
const LONGEST_BINDING: usize = 255;
/// Most bytes of properties, as JSON: they are told with each change of the conversation.
const LARGEST_PROPERTIES: usize = 7 * 1024;

/// A conversation that is to be established, as the document shows it. Names may be in any case.
#[derive(ToSchema)]
#[schema(as = Establish)]
#[expect(dead_code, reason = "read in whatever case it comes; here it is described")]
pub(super) struct Described {
    /// The customer's integration.
    #[schema(rename = "integrationId")]
    integration_id: Uuid,
    /// Names the customer, and finds the conversation again.
    #[schema(min_length = 1, max_length = 255)]
    binding: String,
    /// `Direct`, 2000 or 1; or another channel's name or number, as the integration has it.
    #[schema(rename = "channelType", value_type = Value)]
    channel_type: Value,
    /// Collections of names and texts, of which `profile` and `additional` are known.
    #[schema(value_type = Option<Object>)]
    properties: Option<Value>,
}

/// The same, understood.
struct Wanted {
    integration: ThingId,
    binding: String,
    channel: IntegrationChannel,
    properties: Properties,
}

impl Wanted {
    /// Reads a request, and says all that is wrong with it.
    fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let value = body(bytes, Code::NoRequest)?;
        let Some(request) = Object::of(&value) else { return Err(Fault::internal()) };
        let mut problems = Problems::default();
        let missing = Code::PropertyMissing;
        let integration = problems.guid(request.get("integrationId"), "integrationId", missing, Code::PropertyNoGuid);
        let binding = binding(request, &mut problems);
        let channel = problems.required(request.get("channelType"), "channelType", missing).and_then(|said| channel(said, &mut problems));
        let properties = properties(request.get("properties"), &mut problems);
        problems.none()?;
        let all = integration.zip(binding).zip(channel);
        let ((integration, binding), channel) = all.ok_or_else(Fault::internal)?;
        Ok(Self { integration: integration.into(), binding, channel, properties })
    }
}

fn binding(request: Object<'_>, problems: &mut Problems) -> Option<String> {
    let given = problems.required(request.get("binding").filter(|given| given.as_str() != Some("")), "binding", Code::PropertyMissing)?;
    // Keys of customers are numbers in many databases.
    let text = given.as_str().map(str::to_owned).or_else(|| given.as_number().map(ToString::to_string));
    let is_fine = |text: &String| (1..=LONGEST_BINDING).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let text = text.filter(is_fine);
    if text.is_none() {
        let why = format!("Property 'binding' must be a text of 1 to {LONGEST_BINDING} characters, without control characters.");
        problems.add(Code::OutOfRange, why);
    }
    text
}

/// A channel by its name or its number, which for Direct are two.
fn channel(said: &Value, problems: &mut Problems) -> Option<IntegrationChannel> {
    const DIRECT: i64 = 2_000;
    let number = said.as_i64().or_else(|| said.as_str()?.trim().parse().ok());
    let name = said.as_str().unwrap_or_default().trim();
    let is_it = |known: &str, its: i64| number.map_or_else(|| known.eq_ignore_ascii_case(name), |number| number == its);
    let found = match number {
        Some(DIRECT) => Some(IntegrationChannel::Direct),
        _ => CHANNELS.into_iter().find(|(_, known, its)| is_it(known, *its)).map(|(channel, ..)| channel),
    };
    if found.is_none() {
        let names: Vec<_> = CHANNELS.iter().map(|(_, name, _)| *name).collect();
        problems.add(Code::Unsupported, format!("Property 'channelType' must be 2000, or one of {}.", names.join(", ")));
    }
    found
}

/// The collections that are given. Values are texts to the vendor's client, so numbers and booleans become such.
fn properties(given: Option<&Value>, problems: &mut Problems) -> Properties {
    let mut all = Properties::from([("additional".into(), BTreeMap::new()), ("profile".into(), BTreeMap::new())]);
    let Some(given) = given else { return all };
    let Some(collections) = Object::of(given) else {
        problems.add(Code::Unsupported, "Property 'properties' must be an object of collections.");
        return all;
    };
    for (name, collection) in collections.members() {
        let name = ["profile", "additional"].into_iter().find(|known| known.eq_ignore_ascii_case(name)).unwrap_or(name);
        let Some(members) = Object::of(collection) else {
            problems.add(Code::Unsupported, format!("Property 'properties.{name}' must be an object of names and texts."));
            continue;
        };
        let kept = all.entry(name.to_owned()).or_default();
        for (key, value) in members.members() {
            match value {
                Value::String(text) => drop(kept.insert(key.clone(), text.clone())),
                Value::Number(_) | Value::Bool(_) => drop(kept.insert(key.clone(), value.to_string())),
                _ => problems.add(Code::Unsupported, format!("Property 'properties.{name}.{key}' must be a text.")),
            }
        }
    }
    if serde_json::to_string(&all).map_or(0, |text| text.len()) > LARGEST_PROPERTIES {
        problems.add(Code::OutOfRange, format!("Property 'properties' has at most {LARGEST_PROPERTIES} bytes as JSON."));
    }
    all
}

/// The integration that is named, if conversations can be established on it by that channel.
fn integration(caller: &Caller, wanted: &Wanted) -> Result<Arc<Kept<Integration>>, Fault> {
    caller.may_use(wanted.integration)?;
    let things = caller.account.things();
    let missing = || Fault::new(Code::NoIntegration, format!("Integration {} does not exist.", wanted.integration));
    let found = things.integrations.get(wanted.integration).ok_or_else(missing)?;
    let Integration { kind, channel, hub, .. } = &found.thing;
    if *kind != IntegrationKind::Customer {
        return Err(Fault::new(Code::Unsupported, "Conversations are established on integrations of customers."));
    }
    // The vendor's own sample says WebChat of a Direct integration.
    let is_fit = wanted.channel == *channel || (*channel == IntegrationChannel::Direct && wanted.channel == IntegrationChannel::WebChat);
    if !is_fit {
        let (said, is) = (channel_name(wanted.channel), channel_name(*channel));
        return Err(Fault::new(Code::Unsupported, format!("Property 'channelType' is {said}, and the integration's channel is {is}.")));
    }
    is_active(&found)?;
    match things.hubs.get(*hub) {
        Some(_) => Ok(found),
        None => Err(Fault::new(Code::NoHub, format!("Hub {hub} does not exist."))),
    }
}

/// Our word for a channel.
fn way(channel: IntegrationChannel) -> Channel {
    match channel {
        IntegrationChannel::Direct => Channel::Messenger,
        IntegrationChannel::WebChat => Channel::WebChat,
        IntegrationChannel::Messenger => Channel::Facebook,
        IntegrationChannel::TwilioSMS => Channel::Sms,
        other => Channel::Other(channel_name(other).to_owned()),
    }
}

/// What establishes a conversation: the customer is made known, and the conversation opened or found.
fn commands(
    caller: &Caller,
    on: &Kept<Integration>,
    customer: &Customer,
    bound: &Bound,
    profile: Option<Box<serde_json::value::RawValue>>,
) -> Vec<Command> {
    let queue: QueueId =
        on.thing.queue.clone().filter(|queue| caller.account.has_queue(queue)).unwrap_or_else(|| caller.account.default_queue());
    let see = Command::SeeConsumer {
        is_new: false,
        consumer: customer.id.clone(),
        app: Some(customer.hub.clone()),
        ext_id: Some(customer.name.clone()),
    };
    let open = Command::Open {
        conversation: ConversationId::from(Uuid::new_v4().to_string()),
        consumer: None,
        queue,
        ttr: Ttr { kind: "NORMAL".into(), seconds: 3_600 },
        context: bound.context(),
        campaign: None,
        features: Vec::new(),
        binding: Some(bound.binding.clone()),
        origin: Some(Arc::new(From::new(way(on.thing.channel), Direction::Inbound))),
    };
    let set = profile.map(|profile| Command::SetProfile { consumer: None, profile });
    std::iter::once(see).chain(set).chain([open]).collect()
}

/// Establishes a conversation: opens one, or finds the one that is open under the binding.
#[utoipa::path(post, path = "/api/v1/conversations/establish", operation_id = "establishConversation", tag = "conversations",
    request_body(content = Described, example = json!({"integrationId": "00000000-0000-0000-0000-000000000023", "binding": "customer-81", "channelType": 2000})),
    responses((status = 200, description = "It.", body = Established), EstablishRefused))]
pub(super) async fn establish(
    State(hubster): State<Arc<Hubster>>,
    Extension(caller): Extension<Caller>,
    Extension(Origin(origin)): Extension<Origin>,
    bytes: Bytes,
) -> Result<Json<Established>, Fault> {
    caller.may_speak_for_customers()?;
    let wanted = Wanted::read(&bytes)?;
    let on = integration(&caller, &wanted)?;
    let gateway = &hubster.gateway;
    let customer = caller.customer(gateway, &on, &wanted.binding);
    is_in_good_standing(gateway, &caller.account, &customer.id)?;
    let before: Option<Consumer> = gateway.known_consumer(&caller.account.system(), &customer.id).await?;
    let mut properties = wanted.properties;
    let given = properties.entry("profile".into()).or_default();
    let news = profile::filled(given, on.thing.channel, &customer.id, before.as_ref());
    let bound = Bound::new(on.id, &wanted.binding, properties);
    let actor = customer.actor(&caller.account);
    let commands = commands(&caller, &on, &customer, &bound, news);
    let decided = gateway.submit(Request { actor: actor.clone(), commands, key: None, resend: None }).await?;
    let opened = decided.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Opened { conversation, found } => Some((conversation, !found)),
        _ => None,
    });
    let (conversation, is_new) = opened.ok_or_else(Fault::internal)?;
    let conversation = gateway.conversation(&actor, conversation).await?;
    let known = Known::of(&caller.account, conversation).ok_or_else(Fault::no_conversation)?;
    Ok(Json(hubster.scene(&caller.account, &origin).established(&known, is_new)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_channel_has_a_name_and_numbers() {
        let read = |said: Value| {
            let mut problems = Problems::default();
            (channel(&said, &mut problems), problems.codes())
        };
        for said in [json!(2_000), json!(1), json!("2000"), json!(" 1"), json!("Direct"), json!("direct"), json!("DIRECT")] {
            assert_eq!(read(said.clone()), (Some(IntegrationChannel::Direct), vec![]), "{said}");
        }
        assert_eq!(read(json!("webchat")).0, Some(IntegrationChannel::WebChat));
        assert_eq!(read(json!(106)).0, Some(IntegrationChannel::WebChat));
        for said in [json!(7), json!("Fax"), json!(""), json!(true), json!({}), json!(1.5), json!("-1")] {
            assert_eq!(read(said.clone()), (None, vec![206]), "{said}");
        }
    }

    #[test]
    fn collections_are_texts_by_their_names() {
        let read = |given: Value| {
            let mut problems = Problems::default();
            (properties(Some(&given), &mut problems), problems.codes())
        };
        let (all, wrong) =
            read(json!({"Profile": {"full name": "Ann", "Age": 7, "vip": true, "none": null}, "Additional": null, "Cart": {"a": "1"}}));
        assert_eq!(json!(all), json!({"profile": {"full name": "Ann", "Age": "7", "vip": "true"}, "additional": {}, "Cart": {"a": "1"}}));
        assert!(wrong.is_empty());
        for (given, wrong) in [
            (json!([]), vec![206]),
            (json!({"profile": "Ann"}), vec![206]),
            (json!({"profile": {"a": {}, "b": []}, "x": 1}), vec![206, 206, 206]),
            (json!({"profile": {"a": "x".repeat(8 * 1024)}}), vec![212]),
        ] {
            assert_eq!(read(given.clone()).1, wrong, "{given}");
        }
    }
}
