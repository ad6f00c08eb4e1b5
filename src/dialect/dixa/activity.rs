//! What happened in conversations, as the journal has it: in one, or in all of the account, in the order in which it was written down.
//!
//! Nothing is kept for this: an entry of the journal becomes none, one or several here, each with an id that its place in the journal
//! makes. So a page is read from a position on, and leads on to a position.

use super::Data;
use super::caller::{Caller, person_uuid};
use super::conversation::{Named, Which};
use super::error::{Absent, Any, Fault, Ours};
use super::input::{Stamp, When};
use super::message::is_attached;
use super::page::{self, Page, limit};
use super::setup::queue_name;
use super::tags;
use crate::dialect::ids::event_uuid;
use crate::domain::{
    AttributeValue, Change, Consumer, Conversation, Direction, Entry, LinkKind, Message, Millis, Opened, Person, Rating, RingState, Role,
    Sight,
};
use crate::gateway::derived_uuid;
use crate::identity::Account;
use axum::Json;
use axum::extract::{Path, Query};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{ConsumerId, ConversationId, DialogId, QueueId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Where the account's is listed.
const LIST: &str = "/v1/conversations/activitylog";
/// Activities of a page, and most: as many as known clients ask for.
const USUAL: usize = 1_000;
const MOST: usize = 10_000;
/// Entries of the journal that are read at a time, and those that a page is made of at most: it may have less than was asked for, even
/// nothing, and yet lead on.
const CHUNK: usize = 1_000;
const READ: usize = 50_000;
/// Conversations that are remembered while a page is made.
const REMEMBERED: usize = 256;
/// By how much times of entries may be out of order: they are those of their conversations, and clocks are set.
const SLACK: Millis = 60_000;

/// Something that happened.
#[skip_serializing_none]
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Activity {
    id: Uuid,
    /// The conversation's number.
    conversation_id: i64,
    /// When it was written down, which of what was imported is later than when it happened.
    activity_timestamp: Stamp,
    /// `_type`, with `ActivityType` behind it.
    activity_type: String,
    /// What happened, such as `ConversationClosed`.
    #[serde(rename = "_type")]
    kind: &'static str,
    author: Option<Who>,
    attributes: Option<Attributes>,
}

/// Somebody who had to do with it.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ActivityPerson)]
#[serde(rename_all = "camelCase")]
struct Who {
    id: Uuid,
    name: Option<String>,
    email: Option<String>,
    phone_number: Option<String>,
}

/// What more there is to say of it.
#[skip_serializing_none]
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ActivityAttributes)]
#[serde(tag = "_type")]
#[expect(clippy::enum_variant_names, reason = "as they are called")]
enum Attributes {
    ConversationCreatedByCustomerAttribute {
        subject: Option<String>,
    },
    ConversationCreatedByAgentAttribute {
        subject: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    MessageAddedByCustomerAttribute {
        message_id: Uuid,
    },
    #[serde(rename_all = "camelCase")]
    MessageAddedByAgentAttribute {
        message_id: Uuid,
    },
    NoteAddedAttribute {
        message: String,
    },
    #[serde(rename_all = "camelCase")]
    ConversationAssignedAttribute {
        agent_id: Uuid,
        agent_name: Option<String>,
    },
    ConversationUnassignedAttribute {
        agent: Who,
    },
    #[serde(rename_all = "camelCase")]
    ConversationClaimedAttribute {
        claimed_from_type: ClaimedFrom,
        claimed_from_label: Option<String>,
    },
    TransferInitiatedAttribute(Transfer),
    TransferSuccessfulAttribute(Transfer),
    #[serde(rename_all = "camelCase")]
    ConversationOfferedAttribute {
        agent_names: Vec<String>,
        queue_label: Option<String>,
    },
    TagAddedAttribute {
        tag: String,
    },
    TagRemovedAttribute {
        tag: String,
    },
    ConversationRatingOfferedAttribute {
        agent: Option<Who>,
        user: Option<Who>,
    },
    ConversationRatedAttribute {
        agent: Option<Who>,
        score: Option<u8>,
        message: Option<String>,
    },
    ConversationCustomAttributesUpdatedAttribute(Updated),
    #[serde(rename_all = "camelCase")]
    ConversationMessageRedactedAttribute {
        message_id: Uuid,
        was_text_redacted: bool,
        number_of_deleted_files: u32,
    },
    ConversationLinkedToParentAttribute(Linked),
    ConversationLinkedFromChildAttribute(Linked),
}

/// From whom a conversation was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ActivityClaimedFrom)]
enum ClaimedFrom {
    Agent,
    Queue,
}

/// Where a conversation was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ActivityTransfer)]
#[serde(rename_all = "camelCase")]
struct Transfer {
    transfer_type: &'static str,
    destination_type: &'static str,
    destination_id: Uuid,
    destination_label: String,
}

/// What custom attributes say from then on.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ActivityValues)]
#[serde(rename_all = "camelCase")]
struct Updated {
    updated_attribute_ids: Vec<String>,
    /// By their ids; `null` for what was taken away.
    #[schema(value_type = BTreeMap<String, super::attributes::Given>)]
    updated_attribute_values: BTreeMap<String, Option<AttributeValue>>,
}

/// Two conversations that belong together, by their numbers.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ActivityLink)]
#[serde(rename_all = "camelCase")]
struct Linked {
    child: i64,
    parent: i64,
    link_type: &'static str,
}

/// Which activities.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    /// From this time on, included.
    from_datetime: Option<When>,
    /// Up to this time, included.
    to_datetime: Option<When>,
    /// Most of a page.
    page_limit: Option<i32>,
    /// Leads to another page; from `meta`. Then it says from when to when.
    page_key: Option<String>,
}

/// Where a page begins, and what it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Behind this position of the journal,
    after: u64,
    /// behind so many activities of the entry there,
    skip: usize,
    /// up to this position, the last when the first page was made.
    until: u64,
    from: Millis,
    to: Option<Millis>,
    limit: usize,
}

/// What happened, before it is known who is named there.
struct Happened {
    kind: &'static str,
    author: Option<Person>,
    attributes: Option<Attributes>,
}

/// Whom and what entries name, looked up once.
struct Known<'c> {
    caller: &'c Caller,
    conversations: HashMap<ConversationId, Option<Conversation>>,
    people: HashMap<Person, Who>,
}

impl<'c> Known<'c> {
    fn new(caller: &'c Caller) -> Self {
        Self { caller, conversations: HashMap::new(), people: HashMap::new() }
    }

    async fn conversation(&mut self, id: &ConversationId) -> Result<Option<Conversation>, Fault> {
        if let Some(known) = self.conversations.get(id) {
            return Ok(known.clone());
        }
        let found = match self.caller.gateway().conversation(self.caller.actor(), id).await {
            Ok(found) => Some(found),
            // One that was kept long enough is no more.
            Err(error) if error.is_no_such_conversation() => None,
            Err(error) => return Err(error.into()),
        };
        // A page may name very many, and each may be large.
        if self.conversations.len() >= REMEMBERED {
            self.conversations.clear();
        }
        self.conversations.insert(id.clone(), found.clone());
        Ok(found)
    }

    async fn who(&mut self, person: &Person) -> Result<Who, Fault> {
        if let Some(known) = self.people.get(person) {
            return Ok(known.clone());
        }
        let nobody = Who { id: person_uuid(person), name: None, email: None, phone_number: None };
        let who = match person {
            Person::Agent { user, .. } => match self.caller.account().agent(user.as_str()) {
                Some(agent) => {
                    Who { name: Some(agent.name.clone()), email: Some(agent.email.clone()), phone_number: agent.phone.clone(), ..nobody }
                }
                None => nobody,
            },
            Person::Consumer(id) => match self.consumer(id).await? {
                Some(consumer) => {
                    let own = |text: Option<&str>| text.map(str::to_owned);
                    Who { name: consumer.name(), email: own(consumer.email()), phone_number: own(consumer.phone()), ..nobody }
                }
                None => nobody,
            },
        };
        self.people.insert(person.clone(), who.clone());
        Ok(who)
    }

    async fn consumer(&self, id: &ConsumerId) -> Result<Option<Consumer>, Fault> {
        Ok(self.caller.gateway().known_consumer(self.caller.actor(), id).await?)
    }

    async fn who_of(&mut self, person: Option<&Person>) -> Result<Option<Who>, Fault> {
        match person {
            Some(person) => self.who(person).await.map(Some),
            None => Ok(None),
        }
    }

    /// What an entry says that happened.
    async fn activities(&mut self, sight: &Sight) -> Result<Vec<Activity>, Fault> {
        let Some(id) = sight.entry.conversation() else { return Ok(Vec::new()) };
        // Most entries say nothing here, and then nothing is looked up.
        if matches!(&sight.entry, Entry::Published(message) if !is_message(message)) {
            return Ok(Vec::new());
        }
        let Some(conversation) = self.conversation(id).await? else { return Ok(Vec::new()) };
        // What is to be erased is not shown while it is still there.
        let cleaned = conversation.details.anonymised.map(|_| sight.entry.without_words());
        let happened = match cleaned.as_ref().unwrap_or(&sight.entry) {
            Entry::Opened(opened) => self.opened(opened).await?,
            Entry::Published(message) => vec![said(message)],
            Entry::Changed { by, changes, .. } => self.changed(&conversation, by, changes).await?,
            _ => Vec::new(),
        };
        let mut activities = Vec::with_capacity(happened.len());
        for (place, Happened { kind, author, attributes }) in happened.into_iter().enumerate() {
            let made_of = ["activity", id.as_str(), &sight.position.to_string(), &place.to_string()];
            activities.push(Activity {
                id: derived_uuid(&made_of),
                conversation_id: conversation.details.number,
                activity_timestamp: Stamp(sight.at),
                activity_type: format!("{kind}ActivityType"),
                kind,
                author: self.who_of(author.as_ref()).await?,
                attributes,
            });
        }
        Ok(activities)
    }

    async fn opened(&mut self, opened: &Opened) -> Result<Vec<Happened>, Fault> {
        let origin = opened.origin.as_ref();
        let subject = origin.and_then(|origin| origin.subject.clone());
        let is_agents = origin.map_or(opened.agent.is_some(), |origin| origin.direction == Direction::Outbound);
        let created = if is_agents {
            let attributes = Attributes::ConversationCreatedByAgentAttribute { subject };
            Happened { kind: "ConversationCreatedByAgent", author: opened.agent.clone(), attributes: Some(attributes) }
        } else {
            let (author, attributes) =
                (Person::Consumer(opened.consumer.clone()), Attributes::ConversationCreatedByCustomerAttribute { subject });
            Happened { kind: "ConversationCreatedByCustomer", author: Some(author), attributes: Some(attributes) }
        };
        let mut happened = vec![created];
        if let Some(agent) = &opened.agent {
            happened.push(self.assigned(agent, agent).await?);
        }
        Ok(happened)
    }

    async fn assigned(&mut self, agent: &Person, by: &Person) -> Result<Happened, Fault> {
        let Who { id, name, .. } = self.who(agent).await?;
        let attributes = Attributes::ConversationAssignedAttribute { agent_id: id, agent_name: name };
        Ok(Happened { kind: "ConversationAssigned", author: Some(by.clone()), attributes: Some(attributes) })
    }

    async fn changed(&mut self, conversation: &Conversation, by: &Person, changes: &[Change]) -> Result<Vec<Happened>, Fault> {
        let mut happened = Vec::new();
        for change in changes {
            let plain = |kind| Happened { kind, author: Some(by.clone()), attributes: None };
            let with = |kind, attributes| Happened { kind, author: Some(by.clone()), attributes: Some(attributes) };
            match change {
                Change::DialogClosed { .. } | Change::Closed { .. } if closes(conversation, change, changes) => {
                    happened.push(plain("ConversationClosed"));
                }
                Change::Reopened => happened.push(plain("ConversationReopened")),
                Change::Joined { person, role: Role::AssignedAgent, suggested: false }
                | Change::RoleSet { person, role: Role::AssignedAgent } => {
                    happened.push(self.assigned(person, by).await?);
                }
                Change::Left { person, role: Some(Role::AssignedAgent) } => {
                    let agent = self.who(person).await?;
                    happened.push(with("ConversationUnassigned", Attributes::ConversationUnassignedAttribute { agent }));
                }
                Change::Claimed { person, from, .. } => {
                    let label = match from {
                        Some(before) => self.who(before).await?.name,
                        None => Some(queue_name(self.caller.account(), &conversation.details.queue)),
                    };
                    let kind = if from.is_some() { ClaimedFrom::Agent } else { ClaimedFrom::Queue };
                    let attributes = Attributes::ConversationClaimedAttribute { claimed_from_type: kind, claimed_from_label: label };
                    happened.push(with("ConversationClaimed", attributes));
                    happened.push(self.assigned(person, by).await?);
                }
                Change::QueueSet { queue, .. } => {
                    let transfer = transfer(self.caller.account(), queue);
                    happened.push(with("TransferInitiated", Attributes::TransferInitiatedAttribute(transfer.clone())));
                    happened.push(with("TransferSuccessful", Attributes::TransferSuccessfulAttribute(transfer)));
                }
                Change::Offered { agent, .. } => {
                    let agent_names = self.who(agent).await?.name.into_iter().collect();
                    let queue_label = Some(queue_name(self.caller.account(), &conversation.details.queue));
                    happened.push(with("ConversationOffered", Attributes::ConversationOfferedAttribute { agent_names, queue_label }));
                }
                Change::RingEnded { state, .. } => happened.extend(ended(*state).map(plain)),
                Change::Noted { note, author, .. } => {
                    let noted = with("NoteAdded", Attributes::NoteAddedAttribute { message: note.clone() });
                    happened.push(Happened { author: author.clone().or(noted.author), ..noted });
                }
                Change::Tagged { tag } => {
                    let tag = tags::name(self.caller.account(), tag);
                    happened.push(with("TagAdded", Attributes::TagAddedAttribute { tag }));
                }
                Change::Untagged { tag } => {
                    let tag = tags::name(self.caller.account(), tag);
                    happened.push(with("TagRemoved", Attributes::TagRemovedAttribute { tag }));
                }
                Change::AttributesSet { values } => {
                    let updated = Updated {
                        updated_attribute_ids: values.iter().map(|(id, _)| id.to_string()).collect(),
                        updated_attribute_values: values.iter().map(|(id, value)| (id.to_string(), value.clone())).collect(),
                    };
                    let attributes = Attributes::ConversationCustomAttributesUpdatedAttribute(updated);
                    happened.push(with("ConversationCustomAttributesUpdated", attributes));
                }
                Change::RatingOffered { rating } => {
                    let (agent, user) = (self.who_of(rating.of.as_ref()).await?, Some(self.who(&rating.by).await?));
                    let attributes = Attributes::ConversationRatingOfferedAttribute { agent, user };
                    happened.push(with("ConversationRatingOffered", attributes));
                }
                Change::RatingAnswered { rating, given } => {
                    let offered: Option<&Rating> = conversation.details.facts().ratings.iter().find(|known| known.id == *rating);
                    let agent = self.who_of(offered.and_then(|offered| offered.of.as_ref())).await?;
                    let attributes =
                        Attributes::ConversationRatedAttribute { agent, score: Some(given.score), message: given.comment.clone() };
                    let author = Person::Consumer(conversation.details.consumer.clone());
                    happened.push(Happened { author: Some(author), ..with("ConversationRated", attributes) });
                }
                // What the consumer said of itself; what it was asked for has an entry of its own, and the survey's parts none.
                Change::Rated { csat } if csat.status == "FILLED" && !is_answer(changes) => {
                    let attributes = Attributes::ConversationRatedAttribute { agent: None, score: csat.rate, message: None };
                    happened.extend(csat.rate.map(|_| with("ConversationRated", attributes)));
                }
                // Files of a message go with it, and stand behind it.
                Change::MessageAnonymised { dialog, sequence, files, .. } if is_first_redacted(changes, dialog, *sequence) => {
                    let attributes = Attributes::ConversationMessageRedactedAttribute {
                        message_id: event_uuid(&conversation.details.id, *sequence),
                        was_text_redacted: true,
                        number_of_deleted_files: *files,
                    };
                    happened.push(with("ConversationMessageRedacted", attributes));
                }
                Change::LinkedToParent { number, kind, .. } => {
                    let linked = Linked { child: conversation.details.number, parent: *number, link_type: link_type(*kind) };
                    happened.push(with("ConversationLinkedToParent", Attributes::ConversationLinkedToParentAttribute(linked)));
                }
                Change::LinkedFromChild { number, kind, .. } => {
                    let linked = Linked { child: *number, parent: conversation.details.number, link_type: link_type(*kind) };
                    happened.push(with("ConversationLinkedFromChild", Attributes::ConversationLinkedFromChildAttribute(linked)));
                }
                Change::ConsumerReplaced { .. } => happened.push(plain("ConversationEndUserReplaced")),
                _ => {}
            }
        }
        Ok(happened)
    }
}

/// Whether an event is one of the messages of a conversation.
fn is_message(message: &Message) -> bool {
    let is_main = message.dialog == message.conversation.main_dialog();
    is_main && message.class != EventClass::Receipt && !message.whisper && !is_attached(message)
}

fn said(message: &Message) -> Happened {
    let message_id = event_uuid(&message.conversation, message.sequence);
    let author = Some(message.from.clone());
    if message.from.is_agent() {
        let attributes = Attributes::MessageAddedByAgentAttribute { message_id };
        return Happened { kind: "MessageAddedByAgent", author, attributes: Some(attributes) };
    }
    let attributes = Attributes::MessageAddedByCustomerAttribute { message_id };
    Happened { kind: "MessageAddedByCustomer", author, attributes: Some(attributes) }
}

/// Whether a conversation is closed for agents by a change among those that were made together: what follows its MAIN dialog is the
/// consumer's alone.
fn closes(conversation: &Conversation, change: &Change, together: &[Change]) -> bool {
    let main = conversation.details.id.main_dialog();
    match change {
        Change::DialogClosed { dialog, .. } => *dialog == main,
        _ => !together.iter().any(|other| matches!(other, Change::DialogClosed { .. })),
    }
}

fn is_answer(together: &[Change]) -> bool {
    together.iter().any(|change| matches!(change, Change::RatingAnswered { .. }))
}

fn is_first_redacted(together: &[Change], dialog: &DialogId, sequence: u64) -> bool {
    let first = together.iter().find_map(|change| match change {
        Change::MessageAnonymised { dialog, sequence, .. } => Some((dialog, *sequence)),
        _ => None,
    });
    first == Some((dialog, sequence))
}

fn transfer(account: &Account, queue: &QueueId) -> Transfer {
    Transfer {
        transfer_type: "Queue",
        destination_type: "Queue",
        destination_id: account.queue_uuid(queue),
        destination_label: queue_name(account, queue),
    }
}

fn ended(state: RingState) -> Option<&'static str> {
    match state {
        RingState::Accepted => Some("ConversationOfferAccepted"),
        RingState::Rejected => Some("ConversationOfferRejected"),
        RingState::Expired => Some("ConversationOfferTimeout"),
        RingState::Waiting | RingState::Cancelled => None,
    }
}

fn link_type(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Side => "SideConversation",
        LinkKind::Forward => "EmailForward",
        LinkKind::FollowUp => "FollowUp",
        LinkKind::Related => "Related",
    }
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(of_one)).routes(routes!(of_all))
}

/// What happened in a conversation, the oldest first.
#[utoipa::path(get, path = "/v1/conversations/{conversationId}/activitylog", operation_id = "listConversationActivity",
    tag = "activity", params(Named),
    responses((status = 200, description = "It.", body = Data<Vec<Activity>>), Any, Absent))]
async fn of_one(caller: Caller, Ours(Path(named)): Which) -> Result<Json<Data<Vec<Activity>>>, Fault> {
    let conversation = caller.conversation(named.conversation_id).await?;
    let id = &conversation.details.id;
    let mut entries: Vec<Arc<Sight>> = caller.gateway().changes(caller.actor(), id).await?;
    entries.extend(caller.gateway().messages(caller.actor(), id).await?);
    entries.sort_by_key(|sight| sight.position);
    let mut known = Known::new(&caller);
    let mut data = Vec::new();
    for sight in &entries {
        data.extend(known.activities(sight).await?);
    }
    Ok(Json(Data { data }))
}

/// What happened in all conversations of the account, the oldest first, in pages. What happens after the first page was asked for is on
/// none of them.
#[utoipa::path(get, path = "/v1/conversations/activitylog", operation_id = "listActivity", tag = "activity", params(Wanted),
    responses((status = 200, description = "A page of it.", body = Page<Activity>), Any))]
async fn of_all(caller: Caller, Ours(Query(wanted)): Ours<Query<Wanted>>) -> Result<Json<Page<Activity>>, Fault> {
    let account = caller.account();
    let place = match &wanted.page_key {
        Some(key) => page::open(account, LIST, key)?,
        None => first(&caller, &wanted).await?,
    };
    let limit = limit(wanted.page_limit, place.limit, MOST)?;
    let (data, next) = read(&caller, Place { limit, ..place }).await?;
    Ok(Json(Page::new(data, next.map(|next| page::address(account, LIST, &next)))))
}

async fn first(caller: &Caller, wanted: &Wanted) -> Result<Place, Fault> {
    let (from, to) = (wanted.from_datetime.map_or(0, |from| from.0), wanted.to_datetime.map(|to| to.0));
    if to.is_some_and(|to| to < from) {
        return Err(Fault::bad("fromDatetime lies behind toDatetime"));
    }
    let until = caller.gateway().head();
    let after = if from > SLACK { caller.gateway().position_before(from - SLACK).await? } else { 0 };
    Ok(Place { after, skip: 0, until, from, to, limit: USUAL })
}

/// A page, and where the next one begins, if there is one.
async fn read(caller: &Caller, place: Place) -> Result<(Vec<Activity>, Option<Place>), Fault> {
    let mut known = Known::new(caller);
    let (mut data, mut after, mut skip, mut read) = (Vec::new(), place.after, place.skip, 0);
    while after < place.until {
        if read >= READ {
            return Ok((data, Some(Place { after, skip: 0, ..place })));
        }
        let (entries, reached) = caller.gateway().happened(caller.actor(), after, CHUNK).await?;
        read += entries.len().max(1);
        for sight in entries {
            if sight.position > place.until || place.to.is_some_and(|to| sight.at > to.saturating_add(SLACK)) {
                return Ok((data, None));
            }
            let is_meant = sight.at >= place.from && place.to.is_none_or(|to| sight.at <= to);
            let made = if is_meant { known.activities(&sight).await? } else { Vec::new() };
            for (number, activity) in made.into_iter().enumerate().skip(std::mem::take(&mut skip)) {
                if data.len() >= place.limit {
                    return Ok((data, Some(Place { after: sight.position - 1, skip: number, ..place })));
                }
                data.push(activity);
            }
        }
        if reached <= after {
            break;
        }
        after = reached;
    }
    Ok((data, None))
}
