//! The search over what was said, and over what conversations are about.

use super::caller::{Caller, person_uuid};
use super::conversation::{channel, channel_name};
use super::error::{Any, Change, Fault, Ours};
use super::input::{Body, Perhaps, Stamp, When};
use super::message::is_attached;
use super::page::{self, Page, limit};
use crate::dialect::ids::{consumer_uuid, event_uuid};
use crate::domain::Conversation;
use crate::gateway::Error;
use crate::identity::Account;
use crate::search::{Cursor, Found, Hit as Matched, Mode, Question, Scope};
use axum::Json;
use axum::extract::Query;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::collections::{BTreeMap, HashSet};
use tieline_protocol::ids::ConversationId;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Where it is asked.
const LIST: &str = "/v1/search/conversations";
/// Hits of a page, and most.
const USUAL: usize = 20;
const MOST: usize = 50;
/// How often the index is asked for one page, and how many conversations are looked at for one without words: behind that a page ends,
/// full or not, and leads on.
const ROUNDS: usize = 20;
const LOOKED_AT: usize = 2_000;
const CHUNK: usize = 200;
/// Most conditions, and most values of one.
const MOST_CONDITIONS: usize = 50;
const MOST_VALUES: usize = 200;
/// Most bytes of a search, as JSON: what leads to its next page says all of it, in the head of a request, and that has 16 KiB.
const LARGEST: usize = 10_000;
/// Files of one message that are gone back over to find it.
const MOST_FILES: u64 = 100;

/// What is searched for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    /// The words. They may be left out with `pageKey` alone.
    #[param(required = false, min_length = 1)]
    query: Option<String>,
    /// Whether they must stand one after the other, as they are given.
    exact_match: Option<bool>,
    /// Most of a page.
    #[param(maximum = 50)]
    page_limit: Option<i32>,
    /// Leads to another page; from `meta`. Then it says what is searched for.
    page_key: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct Paging {
    /// Most of a page.
    #[param(maximum = 50)]
    page_limit: Option<i32>,
    /// Leads to another page; from `meta`. Then the body is not looked at.
    page_key: Option<String>,
}

/// What is searched for, or by what.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = Search)]
#[serde(default)]
struct Asked {
    /// Words; without, all conversations that pass the filters, the newest first.
    query: Option<Words>,
    filters: Option<Filters>,
}

/// Words.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SearchWords)]
#[serde(rename_all = "camelCase")]
struct Words {
    value: String,
    /// Whether they must stand one after the other, as they are given.
    exact_match: Option<bool>,
}

/// What a conversation must be like.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SearchFilters)]
struct Filters {
    strategy: Strategy,
    conditions: Vec<Condition>,
}

/// How many of the conditions it must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SearchStrategy)]
enum Strategy {
    All,
    Any,
}

/// One condition.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SearchCondition)]
struct Condition {
    field: Field,
}

/// What is looked at, and what it must be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SearchField)]
#[serde(tag = "_type")]
enum Field {
    /// Its tags.
    TagId { operator: Ids },
    /// Its queue.
    QueueId { operator: Ids },
    /// The agent who has it.
    AssigneeId { operator: Ids },
    /// Its end user.
    RequesterId { operator: Ids },
    /// Its channel, as it is shown.
    Channel { operator: Names },
    /// `Open` or `Closed`.
    Status { operator: Names },
    /// When it began.
    CreationDate { operator: Span },
}

/// Among which ids they must be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SearchIds)]
#[serde(tag = "_type")]
enum Ids {
    /// One of these is there.
    #[serde(rename = "IncludesOne")]
    One { values: Vec<Uuid> },
    /// All of these are there.
    #[serde(rename = "IncludesAll")]
    All { values: Vec<Uuid> },
    /// None of these is there.
    #[serde(rename = "IncludesNone")]
    None { values: Vec<Uuid> },
}

/// Among which names it must be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SearchNames)]
#[serde(tag = "_type")]
enum Names {
    /// It is one of these.
    #[serde(rename = "IncludesOne")]
    One { values: Vec<String> },
    /// It is none of these.
    #[serde(rename = "IncludesNone")]
    None { values: Vec<String> },
}

/// When it must lie.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SearchSpan)]
#[serde(tag = "_type")]
enum Span {
    /// Between two times, both included.
    Between {
        #[serde(serialize_with = "written")]
        from: When,
        #[serde(serialize_with = "written")]
        to: When,
    },
}

fn written<S: serde::Serializer>(when: &When, serializer: S) -> Result<S::Ok, S::Error> {
    Stamp(when.0).serialize(serializer)
}

/// Where a page begins, and what it is of.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    asked: Asked,
    limit: Option<usize>,
    /// Of a search for words.
    cursor: Option<String>,
    /// Of one without: below this number.
    below: Option<i64>,
}

/// A conversation that was found.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchHit)]
#[serde(tag = "_type")]
enum Hit {
    #[serde(rename_all = "camelCase")]
    ConversationSearchHit {
        /// Its number.
        id: i64,
        /// Parts of what it is about that match, by the name of the field, as HTML.
        highlights: BTreeMap<&'static str, Vec<String>>,
        /// Its messages that match, the newest first; only a few.
        inner_hits: Option<Vec<InnerHit>>,
    },
}

/// A message that matches.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchMessage)]
struct InnerHit {
    /// The message's id.
    id: Uuid,
    /// The part that matches, by the name of the field, as HTML: what matches is in `<em class="highlight">`.
    highlight: BTreeMap<&'static str, String>,
}

impl Ids {
    fn has(&self, there: &HashSet<Uuid>) -> bool {
        match self {
            Self::One { values } => values.iter().any(|id| there.contains(id)),
            Self::All { values } => values.iter().all(|id| there.contains(id)),
            Self::None { values } => !values.iter().any(|id| there.contains(id)),
        }
    }

    fn count(&self) -> usize {
        let (Self::One { values } | Self::All { values } | Self::None { values }) = self;
        values.len()
    }
}

impl Names {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One { values } => values.iter().any(|value| value == name),
            Self::None { values } => !values.iter().any(|value| value == name),
        }
    }

    fn count(&self) -> usize {
        let (Self::One { values } | Self::None { values }) = self;
        values.len()
    }
}

impl Field {
    fn fits(&self, account: &Account, conversation: &Conversation) -> bool {
        let details = &conversation.details;
        match self {
            Self::TagId { operator } => {
                operator.has(&details.facts().tags.iter().filter_map(|tag| Uuid::parse_str(tag.as_str()).ok()).collect())
            }
            Self::QueueId { operator } => operator.has(&[account.queue_uuid(&details.queue)].into()),
            Self::AssigneeId { operator } => {
                operator.has(&details.assignee().map(|assignee| person_uuid(&assignee.person)).into_iter().collect())
            }
            Self::RequesterId { operator } => operator.has(&[consumer_uuid(&details.consumer)].into()),
            Self::Channel { operator } => operator.has(channel_name(&channel(account, conversation))),
            Self::Status { operator } => operator.has(if details.main_is_open() { "Open" } else { "Closed" }),
            Self::CreationDate { operator: Span::Between { from, to } } => (from.0..=to.0).contains(&details.started),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::TagId { operator } | Self::QueueId { operator } => operator.count(),
            Self::AssigneeId { operator } | Self::RequesterId { operator } => operator.count(),
            Self::Channel { operator } | Self::Status { operator } => operator.count(),
            Self::CreationDate { .. } => 2,
        }
    }
}

impl Asked {
    /// # Errors
    /// 400 for what is searched for in vain or at too great a length.
    fn check(&self) -> Result<(), Fault> {
        if self.query.as_ref().is_some_and(|words| words.value.trim().is_empty()) {
            return Err(Fault::bad("query is empty"));
        }
        let conditions = self.filters.as_ref().map_or(&[][..], |filters| &filters.conditions);
        if conditions.len() > MOST_CONDITIONS || conditions.iter().any(|condition| condition.field.count() > MOST_VALUES) {
            return Err(Fault::bad(format!("a search has at most {MOST_CONDITIONS} conditions, and each at most {MOST_VALUES} values")));
        }
        // Texts and numbers always become JSON.
        match serde_json::to_string(self).unwrap_or_default().len() {
            size if size > LARGEST => {
                let count: usize = conditions.iter().map(|condition| condition.field.count()).sum();
                let why = "so that the next page can be asked for; about 240 ids fit";
                Err(Fault::bad(format!("the search has {count} values, and {size} bytes as JSON; the limit is {LARGEST} bytes, {why}")))
            }
            _ => Ok(()),
        }
    }

    fn fits(&self, account: &Account, conversation: &Conversation) -> bool {
        let Some(filters) = self.filters.as_ref().filter(|filters| !filters.conditions.is_empty()) else { return true };
        let mut conditions = filters.conditions.iter();
        match filters.strategy {
            Strategy::All => conditions.all(|condition| condition.field.fits(account, conversation)),
            Strategy::Any => conditions.any(|condition| condition.field.fits(account, conversation)),
        }
    }
}

/// A page of hits in the making.
struct Search<'c> {
    caller: &'c Caller,
    shows_messages: bool,
    limit: usize,
    hits: Vec<Hit>,
}

impl Search<'_> {
    /// The page of a search for words, and where the next one begins.
    async fn by_words(&mut self, asked: &Asked, words: &Words, after: Option<Cursor>) -> Result<Option<Cursor>, Fault> {
        let mode = if words.exact_match == Some(true) { Mode::Exact } else { Mode::Loose };
        let mut after = after;
        for _ in 0..ROUNDS {
            let question = Question {
                account: self.caller.account().id.clone(),
                text: words.value.clone(),
                mode,
                // What only agents see is no message here.
                scope: Scope::Shown,
                limit: self.limit - self.hits.len(),
                after: after.take(),
            };
            let found = self.caller.search().search(question).await;
            let found = found.map_err(|error| Fault::from(Error::fault(error.code(), error.to_string())))?;
            for hit in found.hits {
                if let Some(conversation) = self.conversation(&hit.conversation).await?
                    && asked.fits(self.caller.account(), &conversation)
                {
                    let hit = self.hit(&conversation, hit).await?;
                    self.hits.push(hit);
                }
            }
            after = found.next;
            if after.is_none() || self.hits.len() >= self.limit {
                break;
            }
        }
        Ok(after)
    }

    /// The page of all that pass, and below which number the next one begins.
    async fn by_number(&mut self, asked: &Asked, below: i64) -> Result<Option<i64>, Fault> {
        let (mut below, mut looked_at) = (below, 0);
        loop {
            let (caller, account) = (self.caller, self.caller.account());
            let some = caller.gateway().by_number(caller.actor(), (0, below), false, CHUNK).await?;
            looked_at += some.len();
            let is_last = some.len() < CHUNK;
            for conversation in some {
                if self.hits.len() >= self.limit {
                    return Ok(Some(below));
                }
                below = conversation.details.number;
                if conversation.details.anonymised.is_none() && asked.fits(account, &conversation) {
                    let hit = Matched { conversation: conversation.details.id.clone(), subject: Vec::new(), messages: Vec::new() };
                    let hit = self.hit(&conversation, hit).await?;
                    self.hits.push(hit);
                }
            }
            if is_last {
                return Ok(None);
            }
            if looked_at >= LOOKED_AT {
                return Ok(Some(below));
            }
        }
    }

    /// A conversation that the index names. It may be behind.
    async fn conversation(&self, id: &ConversationId) -> Result<Option<Conversation>, Fault> {
        match self.caller.gateway().conversation(self.caller.actor(), id).await {
            Ok(found) => Ok(Some(found).filter(|found| found.details.anonymised.is_none())),
            Err(error) if error.is_no_such_conversation() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn hit(&self, conversation: &Conversation, matched: Matched) -> Result<Hit, Fault> {
        let inner_hits = if self.shows_messages { Some(self.messages(conversation, matched.messages).await?) } else { None };
        let subject = Some(matched.subject).filter(|fragments| !fragments.is_empty());
        let highlights = subject.map(|fragments| ("subject", fragments)).into_iter().collect();
        Ok(Hit::ConversationSearchHit { id: conversation.details.number, highlights, inner_hits })
    }

    async fn messages(&self, conversation: &Conversation, found: Vec<Found>) -> Result<Vec<InnerHit>, Fault> {
        let id = &conversation.details.id;
        let mut hits: Vec<InnerHit> = Vec::new();
        // What the survey asks is no message of the conversation.
        for Found { sequence, fragment, .. } in found.into_iter().filter(|found| found.dialog == id.main_dialog()) {
            let message = event_uuid(id, self.message_of(id, sequence).await?);
            if hits.iter().all(|hit| hit.id != message) {
                hits.push(InnerHit { id: message, highlight: [("text", fragment)].into() });
            }
        }
        Ok(hits)
    }

    /// The message that an event belongs to: itself, but for a file that stands behind one.
    async fn message_of(&self, conversation: &ConversationId, sequence: u64) -> Result<u64, Fault> {
        for back in 0..MOST_FILES.min(sequence + 1) {
            let event = self.caller.gateway().message(self.caller.actor(), conversation, sequence - back).await?;
            if event.is_none_or(|event| event.message().is_none_or(|message| !is_attached(message))) {
                return Ok(sequence - back);
            }
        }
        Ok(sequence)
    }
}

/// The page of a place.
async fn page(caller: &Caller, place: Place, asked_limit: Option<i32>, shows_messages: bool) -> Result<Json<Page<Hit>>, Fault> {
    place.asked.check()?;
    let limit = limit(asked_limit, place.limit.unwrap_or(USUAL), MOST)?;
    let mut search = Search { caller, shows_messages, limit, hits: Vec::new() };
    let next = match &place.asked.query {
        Some(words) => {
            let after = place.cursor.as_deref().map(str::parse).transpose();
            let after = after.map_err(|_| Fault::bad("pageKey is none of this list; take it from meta.next as it stands"))?;
            let next = search.by_words(&place.asked, words, after).await?;
            next.map(|cursor| Place { cursor: Some(cursor.to_string()), limit: Some(limit), asked: place.asked.clone(), below: None })
        }
        None => {
            let next = search.by_number(&place.asked, place.below.unwrap_or(i64::MAX)).await?;
            next.map(|below| Place { below: Some(below), limit: Some(limit), asked: place.asked.clone(), cursor: None })
        }
    };
    let next = next.map(|next| page::address(caller.account(), LIST, &next));
    Ok(Json(Page::new(search.hits, next)))
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(get, post))
}

/// Conversations in which something was said, or whose subject has it, those with the newest match first. What was just said may not be
/// found yet.
#[utoipa::path(get, path = "/v1/search/conversations", operation_id = "searchConversations", tag = "search", params(Wanted),
    responses((status = 200, description = "A page of them, each with the messages that match.", body = Page<Hit>), Any))]
async fn get(caller: Caller, Ours(Query(wanted)): Ours<Query<Wanted>>) -> Result<Json<Page<Hit>>, Fault> {
    let place = match (&wanted.page_key, wanted.query) {
        (Some(key), _) => page::open(caller.account(), LIST, key)?,
        (None, Some(value)) => {
            let query = Some(Words { value, exact_match: wanted.exact_match });
            Place { asked: Asked { query, filters: None }, ..Place::default() }
        }
        (None, None) => return Err(Fault::bad("query is missing")),
    };
    page(&caller, place, wanted.page_limit, true).await
}

/// The same, also by what conversations are like. Messages that match are not named.
#[utoipa::path(post, path = "/v1/search/conversations", operation_id = "searchConversationsByFilters",
    tag = "search", params(Paging), request_body = Option<Asked>,
    responses((status = 200, description = "A page of them.", body = Page<Hit>), Any, Change))]
async fn post(
    caller: Caller,
    Ours(Query(paging)): Ours<Query<Paging>>,
    Perhaps(Body { said, .. }): Perhaps<Asked>,
) -> Result<Json<Page<Hit>>, Fault> {
    let place = match &paging.page_key {
        Some(key) => page::open(caller.account(), LIST, key)?,
        None => Place { asked: said, ..Place::default() },
    };
    page(&caller, place, paging.page_limit, false).await
}
