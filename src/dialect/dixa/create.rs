//! Conversations that begin.

use super::attachment::Fetching;
use super::caller::Caller;
use super::conversation::{Browser, Direction};
use super::error::{Absent, Any, Change, Fault};
use super::input::{Body, Repeat, at_most};
use super::messages::NewMessage;
use super::{Answer, Data};
use crate::domain::{Actor, Browser as Known, Channel, Command, Consumer, Origin, Outcome, Person, Ttr};
use crate::store::Decided;
use crate::things::{ContactEndpoint, ThingId};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tieline_protocol::ids::{ConversationId, QueueId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Longest subject: what a line of a letter's head may have.
const LONGEST_SUBJECT: usize = 998;
/// Longest name, number or address among the rest.
const LONGEST: usize = 256;
/// Longest address of a page.
const LONGEST_URL: usize = 2_048;

/// A conversation that is to begin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "_type")]
enum New {
    /// Somebody is to be called. It waits in its queue at once.
    #[serde(rename_all = "camelCase")]
    Callback {
        requester_id: Uuid,
        /// The number or the id of a telephone of the account's.
        contact_endpoint_id: String,
        direction: Direction,
        queue_id: Uuid,
    },
    /// A chat on a web page.
    #[serde(rename_all = "camelCase")]
    Chat { requester_id: Uuid, widget_id: String, message: NewMessage, browser_info: Option<Browser>, language: Option<String> },
    /// What a form on a web page begins.
    #[serde(rename_all = "camelCase")]
    ContactForm {
        requester_id: Uuid,
        /// The address or the id of a mailbox of the account's.
        email_integration_id: String,
        subject: String,
        message: NewMessage,
        language: Option<String>,
    },
    /// A letter.
    #[serde(rename_all = "camelCase")]
    Email {
        requester_id: Uuid,
        /// The address or the id of a mailbox of the account's.
        email_integration_id: String,
        subject: String,
        message: NewMessage,
        language: Option<String>,
    },
    /// A text message to an end user.
    #[serde(rename_all = "camelCase")]
    Sms {
        requester_id: Uuid,
        /// The number or the id of a telephone of the account's.
        contact_endpoint_id: String,
        message: NewMessage,
    },
}

/// The number of a conversation that began.
#[derive(Debug, Serialize, ToSchema)]
struct Began {
    id: i64,
}

/// A conversation that is to begin, with its first message.
struct Beginning {
    consumer: Consumer,
    origin: Origin,
    queue: QueueId,
    message: Option<NewMessage>,
}

/// A number or an address of the account's, and which it is.
struct Endpoint {
    id: ThingId,
    name: String,
}

/// The telephone that is meant.
fn telephone(caller: &Caller, meant: &str) -> Result<Endpoint, Fault> {
    let digits = |number: &str| number.chars().filter(char::is_ascii_digit).collect::<String>();
    let found = endpoint(caller, meant, |endpoint| match endpoint {
        ContactEndpoint::Telephony { number, .. } => Some((number.clone(), digits(number) == digits(meant))),
        ContactEndpoint::Email { .. } => None,
    });
    found.ok_or_else(|| Fault::missing("contactEndpointId is none of the account's telephones"))
}

/// The mailbox that is meant.
fn mailbox(caller: &Caller, meant: &str) -> Result<Endpoint, Fault> {
    let found = endpoint(caller, meant, |endpoint| match endpoint {
        ContactEndpoint::Email { address, .. } => Some((address.clone(), address.to_lowercase() == meant.trim().to_lowercase())),
        ContactEndpoint::Telephony { .. } => None,
    });
    found.ok_or_else(|| Fault::missing("emailIntegrationId is none of the account's mailboxes"))
}

fn endpoint(caller: &Caller, meant: &str, of: impl Fn(&ContactEndpoint) -> Option<(String, bool)>) -> Option<Endpoint> {
    let id = meant.parse::<ThingId>().ok();
    let all = caller.account().things().contact_endpoints.live();
    let mut all = all.iter().filter_map(|kept| {
        let (name, is_it) = of(&kept.thing)?;
        (is_it || Some(kept.id) == id).then_some(Endpoint { id: kept.id, name })
    });
    all.next()
}

impl Beginning {
    /// Looks up whom and what the request names.
    async fn of(caller: &Caller, new: New) -> Result<Self, Fault> {
        let default = || caller.account().default_queue();
        match new {
            New::Callback { requester_id, contact_endpoint_id, direction, queue_id } => {
                let consumer = requester(caller, requester_id).await?;
                let endpoint = telephone(caller, &contact_endpoint_id)?;
                let queue = caller.queue(queue_id).cloned().ok_or_else(|| Fault::missing(format!("there is no queue {queue_id}")))?;
                let theirs = consumer.phone().map(str::to_owned);
                let origin = between(Channel::Callback, direction, theirs, endpoint);
                Ok(Self { consumer, origin, queue, message: None })
            }
            New::Chat { requester_id, widget_id, message, browser_info, language } => {
                at_most("widgetId", &widget_id, LONGEST)?;
                let consumer = requester(caller, requester_id).await?;
                let browser = browser_info.map(browser).transpose()?;
                let origin = Origin { browser, ..Origin::new(Channel::WebChat, message.direction().into()) };
                Ok(Self { consumer, origin: in_language(origin, language)?, queue: default(), message: Some(message) })
            }
            New::ContactForm { requester_id, email_integration_id, subject, message, language } => {
                let from = Letter { requester_id, email_integration_id, subject, message, language };
                from.begins(caller, Channel::ContactForm).await
            }
            New::Email { requester_id, email_integration_id, subject, message, language } => {
                let from = Letter { requester_id, email_integration_id, subject, message, language };
                from.begins(caller, Channel::Email).await
            }
            New::Sms { requester_id, contact_endpoint_id, message } => {
                let consumer = requester(caller, requester_id).await?;
                let endpoint = telephone(caller, &contact_endpoint_id)?;
                if message.direction() == Direction::Inbound {
                    return Err(Fault::bad("an Sms conversation begins with an Outbound message"));
                }
                let theirs = consumer.phone().map(str::to_owned);
                let origin = between(Channel::Sms, Direction::Outbound, theirs, endpoint);
                Ok(Self { consumer, origin, queue: default(), message: Some(message) })
            }
        }
    }
}

/// What letters and forms begin with.
struct Letter {
    requester_id: Uuid,
    email_integration_id: String,
    subject: String,
    message: NewMessage,
    language: Option<String>,
}

impl Letter {
    async fn begins(self, caller: &Caller, channel: Channel) -> Result<Beginning, Fault> {
        at_most("subject", &self.subject, LONGEST_SUBJECT)?;
        let consumer = requester(caller, self.requester_id).await?;
        let endpoint = mailbox(caller, &self.email_integration_id)?;
        let theirs = consumer.email().map(str::to_owned);
        let origin = between(channel, self.message.direction(), theirs, endpoint);
        let origin = in_language(Origin { subject: Some(self.subject), ..origin }, self.language)?;
        Ok(Beginning { consumer, origin, queue: caller.account().default_queue(), message: Some(self.message) })
    }
}

async fn requester(caller: &Caller, id: Uuid) -> Result<Consumer, Fault> {
    caller.end_user(id).await?.ok_or_else(|| Fault::missing(format!("there is no end user {id}")))
}

fn between(channel: Channel, direction: Direction, theirs: Option<String>, endpoint: Endpoint) -> Origin {
    let Endpoint { id, name } = endpoint;
    let (from, to) = if direction == Direction::Inbound { (theirs, Some(name)) } else { (Some(name), theirs) };
    Origin { from, to, endpoint: Some(id.to_string()), ..Origin::new(channel, direction.into()) }
}

fn in_language(origin: Origin, language: Option<String>) -> Result<Origin, Fault> {
    language.iter().try_for_each(|language| at_most("language", language, LONGEST))?;
    Ok(Origin { language, ..origin })
}

fn browser(browser: Browser) -> Result<Known, Fault> {
    let Browser { name, version, ip_address, originating_url } = browser;
    at_most("browserInfo.name", &name, LONGEST)?;
    for (what, text) in [("version", &version), ("ipAddress", &ip_address)] {
        text.iter().try_for_each(|text| at_most(what, text, LONGEST))?;
    }
    originating_url.iter().try_for_each(|url| at_most("originatingUrl", url, LONGEST_URL))?;
    Ok(Known { name, version, address: ip_address, page: originating_url })
}

/// What opens a conversation of a consumer.
pub(super) fn opening(conversation: &ConversationId, consumer: &Consumer, queue: QueueId, origin: Origin) -> Command {
    Command::Open {
        conversation: conversation.clone(),
        consumer: Some(consumer.id.clone()),
        queue,
        ttr: Ttr { kind: "NORMAL".into(), seconds: 3_600 },
        context: None,
        campaign: None,
        features: Vec::new(),
        binding: None,
        origin: Some(Arc::new(origin)),
    }
}

/// The number of the conversation that was opened, by this request or by the one that it repeats.
pub(super) async fn opened(caller: &Caller, decided: &Decided) -> Result<i64, Fault> {
    let id = decided.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Opened { conversation, .. } => Some(conversation),
        _ => None,
    });
    let id = id.ok_or_else(|| Fault::missing("the conversation is no more"))?;
    Ok(caller.gateway().conversation(caller.actor(), id).await?.details.number)
}

/// How it is answered that a conversation has begun.
async fn began(caller: &Caller, decided: &Decided) -> Result<Answer<Began>, Fault> {
    let id = opened(caller, decided).await?;
    Ok(Answer::new(StatusCode::CREATED, Began { id }).replayed(decided.replayed))
}

/// The id of a conversation that is to be opened.
pub(super) fn fresh() -> ConversationId {
    ConversationId::from(Uuid::new_v4().to_string())
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(create))
}

/// Begins a conversation. One that an agent's message begins is that agent's; others wait in the account's default queue.
#[utoipa::path(post, path = "/v1/conversations", operation_id = "createConversation", tag = "conversations", params(Repeat), request_body = New,
    responses((status = 201, description = "It has begun.", body = Data<Began>), Any, Absent, Change))]
async fn create(caller: Caller, Body { said, key }: Body<New>) -> Result<Answer<Began>, Fault> {
    if let Some(decided) = caller.replayed(key.as_ref()).await? {
        return began(&caller, &decided).await;
    }
    let Beginning { consumer, origin, queue, message } = Beginning::of(&caller, said).await?;
    let requester = Person::Consumer(consumer.id.clone());
    let written = message.map(|message| message.writing(&caller, requester)).transpose()?;
    let (actor, writing): (Actor, _) = written.map_or_else(|| (caller.actor().clone(), None), |(actor, writing)| (actor, Some(writing)));
    let fetching = Fetching::of(&caller, writing.as_ref()).await?;
    let conversation = fresh();
    let mut commands = vec![opening(&conversation, &consumer, queue, origin)];
    commands.extend(writing.iter().flat_map(|writing| writing.commands(&conversation, fetching.files(0))));
    let decided = fetching.shown_by(actor, commands, key).await?;
    began(&caller, &decided).await
}
