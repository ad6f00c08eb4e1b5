//! Conversations: a list of them, the beginning of one, one as it is, and what was said in it after a time.

use super::arn::Named;
use super::caller::{Body, Caller};
use super::error::{Absent, Any, Fault, Large, Nothing};
use super::model::{Conversation, ConversationMessage, ConversationSummary, Medium, Receipts, is_shown};
use super::part;
use crate::domain::{Command, Conversation as Known, FieldChange, Millis, Outcome, Person, Role, Ttr};
use crate::identity::Agent;
use axum::Json;
use axum::extract::{Path, Query};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::str::FromStr;
use tieline_protocol::ids::{ConsumerId, ConversationId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Conversations of a page, if nobody says, and at most.
const USUAL: usize = 100;
const MOST: usize = 200;
/// Conversations that can be passed over.
const FARTHEST: usize = 10_000;
/// Conversations that are looked at for one page of a medium, and of those so many at a time.
const LOOKED_AT: usize = 2_000;
const SOME: usize = 500;
/// Conversations of one customer among which one is resolved.
const OF_ONE: usize = 1_000;
/// Messages of an answer to who asks for those after a time, if nobody says, and at most.
const MESSAGES: usize = 100;
const MOST_MESSAGES: usize = 1_000;

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(list, start)).routes(routes!(one)).routes(routes!(since))
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Paging {
    /// Most conversations of the answer: from 1, 100 if nothing is said; 200 if more are asked for.
    #[serde(rename = "_limit")]
    #[param(rename = "_limit")]
    limit: Option<String>,
    /// How many are passed over, 10,000 at most; of all media, whichever is asked for.
    #[serde(rename = "_offset")]
    #[param(rename = "_offset")]
    offset: Option<String>,
    /// `sms` or `websocket`.
    medium: Option<String>,
    /// Conversations in which nobody wrote at this time or later: ISO 8601 with a zone, or milliseconds.
    before: Option<String>,
}

/// The same, understood.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    limit: usize,
    offset: usize,
    medium: Option<Medium>,
    before: Option<Millis>,
}

impl Paging {
    fn read(&self) -> Result<Page, Fault> {
        let medium = self.medium.as_deref().filter(|medium| !medium.is_empty());
        let medium = medium.map(|name| Medium::parse(name).ok_or_else(|| Fault::bad("medium must be sms or websocket"))).transpose()?;
        let before = self.before.as_deref().filter(|before| !before.is_empty());
        let offset = number("_offset", self.offset.as_deref(), 0)?.unwrap_or(0);
        if offset > FARTHEST {
            return Err(Fault::bad(format!("_offset must be at most {FARTHEST}; go on with before, the last_message_dts of the last one")));
        }
        Ok(Page {
            limit: number("_limit", self.limit.as_deref(), 1)?.unwrap_or(USUAL).min(MOST),
            offset,
            medium,
            before: before.map(|text| time("before", text)).transpose()?,
        })
    }
}

/// A whole number that is not below another.
fn number(name: &str, text: Option<&str>, least: usize) -> Result<Option<usize>, Fault> {
    let read = |text: &str| usize::from_str(text.trim()).ok().filter(|number| *number >= least);
    text.map(|text| read(text).ok_or_else(|| Fault::bad(format!("{name} must be a whole number, at least {least}")))).transpose()
}

/// A time: ISO 8601 with its zone, or milliseconds since 1970.
fn time(name: &str, text: &str) -> Result<Millis, Fault> {
    // In a query a plus means a space.
    let text = text.trim().replace(' ', "+");
    let iso = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    let read = text.parse::<Millis>().ok().or_else(iso);
    read.ok_or_else(|| Fault::bad(format!("{name} must be a time, such as 2026-11-20T10:15:02.120Z, or milliseconds since 1970")))
}

/// Which part of a list an answer is.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
struct ResultSet {
    count: usize,
    limit: usize,
    offset: usize,
    /// Whether there are more, or may be: those of a medium are looked for among the next 2,000 of all.
    more: bool,
    /// Where they begin.
    next_offset: Option<usize>,
}

/// What an answer is.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
struct Metadata {
    payload_name: &'static str,
    result_set: Option<ResultSet>,
}

/// Conversations.
#[derive(Debug, Serialize, ToSchema)]
struct Conversations {
    success: bool,
    conversations: Vec<ConversationSummary>,
    metadata: Metadata,
}

/// Conversations, those first in which somebody wrote last.
#[utoipa::path(get, path = "/rest/v2/conversation/conversations", operation_id = "getConversations", tag = "conversations", params(Paging),
    responses((status = 200, description = "A page of them.", body = Conversations), Any))]
async fn list(caller: Caller, Query(paging): Query<Paging>) -> Result<Json<Conversations>, Fault> {
    let page = paging.read()?;
    let Listed { found, next_offset } = match page.medium {
        None => listed(&caller, &page).await?,
        Some(medium) => of_medium(&caller, medium, &page).await?,
    };
    let mut conversations = Vec::with_capacity(found.len());
    let reader = caller.reader();
    for one in &found {
        let consumer = caller.gateway().consumer_of(caller.actor(), one).await?;
        let scene = caller.scene(reader.as_ref(), consumer.as_ref());
        conversations.push(scene.summary(one));
    }
    let (count, more) = (conversations.len(), next_offset.is_some());
    let result_set = ResultSet { count, limit: page.limit, offset: page.offset, more, next_offset };
    let metadata = Metadata { payload_name: "conversations", result_set: Some(result_set) };
    Ok(Json(Conversations { success: true, conversations, metadata }))
}

/// Conversations of a page, and where the next one begins, if there is one.
struct Listed {
    found: Vec<Known>,
    next_offset: Option<usize>,
}

async fn listed(caller: &Caller, page: &Page) -> Result<Listed, Fault> {
    let mut found = caller.gateway().by_word(caller.actor(), page.before, page.offset, page.limit + 1).await?;
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    Ok(Listed { found, next_offset: more.then_some(page.offset + page.limit) })
}

/// Those of one medium. It stands in no index: so many are looked at, of whichever medium, and the next page begins behind them.
async fn of_medium(caller: &Caller, medium: Medium, page: &Page) -> Result<Listed, Fault> {
    let (mut found, mut at) = (Vec::new(), page.offset);
    while at < page.offset + LOOKED_AT {
        let some = caller.gateway().by_word(caller.actor(), page.before, at, SOME).await?;
        let is_end = some.len() < SOME;
        for one in some {
            if found.len() == page.limit {
                return Ok(Listed { found, next_offset: Some(at) });
            }
            at += 1;
            if Medium::of(caller.account(), &one) == medium {
                found.push(one);
            }
        }
        if is_end {
            return Ok(Listed { found, next_offset: None });
        }
    }
    Ok(Listed { found, next_offset: Some(at) })
}

/// How many messages of a conversation.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Most {
    /// Most messages of the answer, from 1.
    limit: Option<String>,
}

/// One conversation, for clients of both generations.
#[derive(Debug, Serialize, ToSchema)]
struct One {
    #[serde(flatten)]
    itself: Conversation,
    /// The same once more.
    conversation: Conversation,
    success: bool,
    metadata: Metadata,
}

/// One conversation with who takes part and what was said; of its messages the newest, if there are more than `limit`.
#[utoipa::path(get, path = "/rest/v2/conversation/conversations/{conversation_uuid}",
    operation_id = "getConversation", tag = "conversations",
    params(("conversation_uuid" = String, Path, description = "The conversation."), Most),
    responses((status = 200, description = "It.", body = One), Any, Absent))]
async fn one(caller: Caller, Path(id): Path<String>, Query(most): Query<Most>) -> Result<Json<One>, Fault> {
    let limit = number("limit", most.limit.as_deref(), 1)?.unwrap_or(usize::MAX);
    let conversation = whole(&caller, &caller.conversation(&id).await?, limit).await?;
    let metadata = Metadata { payload_name: "conversation", result_set: None };
    Ok(Json(One { itself: conversation.clone(), conversation, success: true, metadata }))
}

/// A conversation as it is shown to a caller.
async fn whole(caller: &Caller, known: &Known, limit: usize) -> Result<Conversation, Fault> {
    let events = caller.gateway().newest_messages(caller.actor(), known, (limit, is_shown)).await?;
    let changes = caller.gateway().changes(caller.actor(), &known.details.id).await?;
    let consumer = caller.gateway().consumer_of(caller.actor(), known).await?;
    let reader = caller.reader();
    let scene = caller.scene(reader.as_ref(), consumer.as_ref());
    Ok(scene.conversation(known, &events, &changes, limit, &|path| caller.media(path)))
}

/// Messages.
#[derive(Debug, Serialize, ToSchema)]
struct Messages {
    success: bool,
    /// Oldest first.
    conversation_messages: Vec<ConversationMessage>,
    metadata: Metadata,
}

/// What was said in a conversation after a time, oldest first: ask again with the `message_epoch` of the last, until nothing comes.
#[utoipa::path(get, path = "/rest/v2/conversation/conversations/{conversation_uuid}/messages/{since}",
    operation_id = "getConversationMessages",
    tag = "conversations",
    params(
        ("conversation_uuid" = String, Path, description = "The conversation."),
        ("since" = String, Path, description = "A `message_epoch`, or a time in ISO 8601; what is of that very time is not shown."),
        Most,
    ),
    responses((status = 200, description = "A part of them.", body = Messages), Any, Absent))]
async fn since(caller: Caller, Path((id, since)): Path<(String, String)>, Query(most): Query<Most>) -> Result<Json<Messages>, Fault> {
    let limit = number("limit", most.limit.as_deref(), 1)?.unwrap_or(MESSAGES).min(MOST_MESSAGES);
    let since = time("since", &since)?;
    let known = caller.conversation(&id).await?;
    let events = caller.gateway().messages_since(caller.actor(), &known, since, (limit, is_shown)).await?;
    let consumer = caller.gateway().consumer_of(caller.actor(), &known).await?;
    let reader = caller.reader();
    let scene = caller.scene(reader.as_ref(), consumer.as_ref());
    let receipts = Receipts::of(&events);
    let shown = events.iter().filter_map(|sight| scene.message(&known, sight, &receipts, &|path| caller.media(path)));
    let metadata = Metadata { payload_name: "conversation_messages", result_set: None };
    Ok(Json(Messages { success: true, conversation_messages: shown.take(limit).collect(), metadata }))
}

/// How a conversation begins. All of it may be left out: then it is with a customer of whom nothing is known.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = ConversationStartRequest)]
struct Start {
    /// A customer with whom it is, and agents who join.
    add_conversation_participant_arns: Option<Vec<String>>,
    /// One that is there already.
    conversation_arn: Option<String>,
    /// A customer who waits in a queue, by the conversation's id: the caller takes it.
    conversation_webchat_queue_uuid: Option<String>,
    /// Whether nothing is to begin: what is there is shown.
    resolve_only: Option<bool>,
}

/// A conversation that has begun, for clients of both generations.
#[derive(Debug, Serialize, ToSchema)]
struct Started {
    conversation_arn: String,
    conversation_uuid: String,
    conversation: Conversation,
    success: bool,
    metadata: Nothing,
}

/// Begins a conversation, or finds one. The caller takes part in what begins.
#[utoipa::path(put, path = "/rest/v2/conversation/conversations", operation_id = "startConversation", tag = "conversations",
    request_body = Option<Start>, responses((status = 200, description = "It.", body = Started), Any, Absent, Large))]
async fn start(caller: Caller, Body(wanted): Body<Start>) -> Result<Json<Started>, Fault> {
    let Start { add_conversation_participant_arns: arns, conversation_arn, conversation_webchat_queue_uuid: waiting, resolve_only } =
        wanted;
    let company = Company::read(&caller, &arns.unwrap_or_default())?;
    let resolves = resolve_only.unwrap_or(false);
    let id = match (conversation_arn, waiting) {
        (Some(_), Some(_)) => {
            return Err(Fault::bad("name a conversation by conversation_arn or by conversation_webchat_queue_uuid, not by both"));
        }
        (Some(arn), None) => match caller.merchant().read(&arn) {
            Some(Named::Conversation(id)) => company.comes_to(&caller, id, resolves).await?,
            _ => return Err(Fault::bad("conversation_arn is no arn of a conversation of this account")),
        },
        (None, Some(id)) => {
            if !resolves {
                part::take(&caller, &id).await?;
            }
            company.comes_to(&caller, id.into(), resolves).await?
        }
        (None, None) if resolves => company.found(&caller).await?,
        (None, None) => company.begins(&caller).await?,
    };
    let known = caller.conversation(id.as_str()).await?;
    Ok(Json(Started {
        conversation_arn: caller.merchant().conversation(&id),
        conversation_uuid: id.to_string(),
        conversation: whole(&caller, &known, usize::MAX).await?,
        success: true,
        metadata: Nothing {},
    }))
}

/// Who is to take part beside the caller.
#[derive(Debug)]
struct Company {
    customer: Option<ConsumerId>,
    agents: Vec<Person>,
}

impl Company {
    fn read(caller: &Caller, arns: &[String]) -> Result<Self, Fault> {
        let (mut customer, mut agents) = (None, Vec::new());
        for arn in arns {
            match caller.merchant().read(arn) {
                Some(Named::Customer(id)) if customer.is_none() || customer.as_ref() == Some(&id) => customer = Some(id),
                Some(Named::Customer(_)) => {
                    return Err(Fault::bad("a conversation has one customer; name one in add_conversation_participant_arns"));
                }
                Some(Named::Agent(user)) => match caller.account().agent(user.as_str()).map(Agent::person) {
                    Some(agent) if agents.contains(&agent) => {}
                    Some(agent) => agents.push(agent),
                    None => return Err(Fault::bad(format!("there is no agent {user}"))),
                },
                Some(Named::Conversation(_)) | None => {
                    return Err(Fault::bad("add_conversation_participant_arns must be arns of customers and agents of this account"));
                }
            }
        }
        Ok(Self { customer, agents })
    }

    /// What has those agents join a conversation who are not there: the first of them answers it, if nobody does.
    fn joins(&self, has_answerer: bool, is_there: impl Fn(&Person) -> bool) -> Vec<FieldChange> {
        let mut has_answerer = has_answerer;
        let others = self.agents.iter().filter(|agent| !is_there(agent));
        let join = |person: &Person| {
            let role = if std::mem::replace(&mut has_answerer, true) { Role::Agent } else { Role::AssignedAgent };
            FieldChange::Join { person: person.clone(), role }
        };
        others.map(join).collect()
    }

    /// Has the agents join a conversation that is there.
    async fn comes_to(&self, caller: &Caller, id: ConversationId, resolves: bool) -> Result<ConversationId, Fault> {
        let known = caller.conversation(id.as_str()).await?;
        if self.customer.as_ref().is_some_and(|customer| *customer != known.details.consumer) {
            return Err(Fault::bad("the conversation is with another customer"));
        }
        let is_there = |person: &Person| known.details.participant(person).and_then(|one| one.active_role()).is_some();
        let joins = self.joins(known.details.assignee().is_some(), is_there);
        if !resolves && !joins.is_empty() {
            caller.change(&known, joins).await?;
        }
        Ok(id)
    }

    /// The open conversation with the customer that changed last, in which the agents take part.
    async fn found(&self, caller: &Caller) -> Result<ConversationId, Fault> {
        let Some(customer) = &self.customer else {
            return Err(Fault::bad("with resolve_only, name a customer, a conversation or who waits in a queue"));
        };
        let theirs = caller.gateway().conversations_of(caller.actor(), customer, OF_ONE).await?;
        let has_all = |one: &&Known| {
            let takes_part = |agent: &Person| one.details.participant(agent).and_then(|one| one.active_role()).is_some();
            one.details.main_is_open() && self.agents.iter().all(takes_part)
        };
        let found = theirs.iter().find(has_all).map(|one| one.details.id.clone());
        found.ok_or_else(|| Fault::missing("there is no open conversation with this customer"))
    }

    /// Opens a conversation.
    async fn begins(&self, caller: &Caller) -> Result<ConversationId, Fault> {
        let conversation = ConversationId::from(Uuid::new_v4().to_string());
        let consumer = self.customer.clone().unwrap_or_else(|| Uuid::new_v4().to_string().into());
        let see = Command::SeeConsumer { is_new: true, consumer: consumer.clone(), app: None, ext_id: None };
        let open = Command::Open {
            conversation: conversation.clone(),
            consumer: Some(consumer),
            queue: caller.account().default_queue(),
            ttr: Ttr { kind: "NORMAL".into(), seconds: 3_600 },
            context: None,
            campaign: None,
            features: Vec::new(),
            binding: None,
            origin: None,
        };
        let opener = caller.reader();
        let joins = self.joins(opener.is_some(), |agent| opener.as_ref() == Some(agent));
        let join = (!joins.is_empty()).then(|| Command::Update { conversation: conversation.clone(), changes: joins });
        let see = self.customer.is_none().then_some(see);
        // A customer or an agent that is not there is the body's fault.
        let decided = caller.submit(see.into_iter().chain([open]).chain(join).collect()).await.map_err(Fault::or_bad)?;
        let opened = decided.outcomes.into_iter().find_map(|outcome| match outcome {
            Outcome::Opened { conversation, .. } => Some(conversation),
            _ => None,
        });
        Ok(opened.unwrap_or(conversation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_of_numbers_within_bounds() {
        let page = |limit: Option<&str>, offset: Option<&str>, medium: Option<&str>, before: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Paging { limit: text(limit), offset: text(offset), medium: text(medium), before: text(before) }.read()
        };
        assert_eq!(page(None, None, None, None).unwrap(), Page { limit: 100, offset: 0, medium: None, before: None });
        let all = page(Some("1000"), Some("7"), Some("sms"), Some("2026-11-20T10:15:02.120Z")).unwrap();
        assert_eq!(all, Page { limit: 200, offset: 7, medium: Some(Medium::Sms), before: Some(1_795_169_702_120) });
        assert_eq!(page(None, None, None, Some("2026-11-20T11:15:02.120 01:00")).unwrap().before, Some(1_795_169_702_120));
        assert_eq!(page(None, None, Some(""), Some("1795169702120")).unwrap().before, Some(1_795_169_702_120));
        for limit in ["0", "-1", "ten", "", "1.0", "99999999999999999999999"] {
            assert!(page(Some(limit), None, None, None).is_err(), "{limit}");
        }
        assert!(page(None, Some("10000"), None, None).is_ok() && page(None, Some("10001"), None, None).is_err());
        assert!(page(None, Some("-1"), None, None).is_err() && page(None, None, Some("fax"), None).is_err());
        assert!(page(None, None, None, Some("yesterday")).is_err());
    }
}
