//! The objects as they are shown, and what of ours they are made of.

use super::super::ids::{consumer_uuid, prefixed, unprefixed};
use super::error::Refused;
use super::expand::Expand;
use crate::domain::{self, Actor, AgentRole, Consumer, Direction, Millis, OpenState};
use crate::gateway::{Gateway, derived_uuid};
use crate::identity::{Account, Agent, Kept, Shelf};
use crate::things::{self, Thing};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tieline_protocol::ids::{ConsumerId, ConversationId, PlainId};
use utoipa::ToSchema;
use uuid::Uuid;

/// A reference: an id, or what it names, or what is left of that.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Ref<T> {
    /// Its id.
    Id(String),
    /// The object itself.
    Whole(Box<T>),
    /// The object was deleted.
    Deleted(Deleted),
}

/// What is left of an object that was deleted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Deleted {
    /// What it was.
    object: &'static str,
    id: String,
    /// Always true.
    deleted: bool,
}

/// An object, or what is left of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Shown<T> {
    Whole(Box<T>),
    Deleted(Deleted),
}

impl<T> From<Shown<T>> for Ref<T> {
    fn from(shown: Shown<T>) -> Self {
        match shown {
            Shown::Whole(whole) => Self::Whole(whole),
            Shown::Deleted(deleted) => Self::Deleted(deleted),
        }
    }
}

/// How a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// The visitor has said something.
    Started,
    /// It came to its end.
    Closed,
    /// The visitor was silent for too long.
    Abandoned,
}

/// Who began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Initiator {
    /// The brand.
    Bot,
    /// The visitor.
    Contact,
}

/// A conversation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Conversation {
    /// `conversation`.
    object: &'static str,
    /// `CVR-…`.
    id: String,
    #[schema(format = DateTime)]
    creation_time: String,
    initiated_by: Initiator,
    /// Moves with every change.
    #[schema(format = DateTime)]
    last_updated_time: String,
    /// When somebody last wrote.
    #[schema(format = DateTime)]
    last_interacted_time: String,
    /// `CTC-…`, or the contact.
    #[schema(required)]
    contact: Option<Ref<Contact>>,
    /// `USR-…`, or the user who answers.
    #[schema(required)]
    owner: Option<Ref<User>>,
    status: Status,
    /// `BOT-…`, or the bot.
    #[schema(required)]
    bot: Option<Ref<Named>>,
    /// `WEB-…`, or the website.
    #[schema(required)]
    website: Option<Ref<Website>>,
    /// `AUD-…`, or the audience.
    #[schema(required)]
    audience: Option<Ref<Named>>,
    /// In the order in which they were asked.
    answers: Vec<Answer>,
    /// Ids that the booking system gave.
    bookings: Vec<String>,
}

impl Conversation {
    /// The same as it stood at another time.
    pub(super) fn with(self, status: Status) -> Self {
        Self { status, ..self }
    }
}

/// What a visitor was asked and said.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// `INT-…`: the question's.
    id: String,
    internal_label: String,
    question: String,
    value: String,
}

/// A website.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Website {
    /// `website`.
    object: &'static str,
    /// `WEB-…`.
    id: String,
    name: String,
    url: String,
}

/// An audience or a bot.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// `audience` or `bot`.
    object: &'static str,
    /// `AUD-…` or `BOT-…`.
    id: String,
    name: String,
}

/// A contact: one of our consumers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Contact {
    /// `contact`.
    object: &'static str,
    /// `CTC-…`.
    id: String,
    #[schema(format = DateTime)]
    creation_time: String,
    #[schema(format = DateTime)]
    last_updated_time: String,
    #[schema(required)]
    last_interacted_time: Option<String>,
    /// `USR-…`, or the user who answers the contact's last conversation.
    #[schema(required)]
    owner: Option<Ref<User>>,
    /// `Qualified`, `Sales qualified`, `Marketing qualified` or `Disqualified`.
    #[schema(required)]
    status: Option<String>,
    #[schema(required)]
    first_name: Option<String>,
    #[schema(required)]
    last_name: Option<String>,
    #[schema(required)]
    email: Option<String>,
    #[schema(required)]
    phone: Option<String>,
    #[schema(required)]
    mobile_phone: Option<String>,
    #[schema(required)]
    company: Option<String>,
    #[schema(required)]
    company_size: Option<String>,
    #[schema(required)]
    job_title: Option<String>,
    #[schema(required)]
    employees: Option<i64>,
    #[schema(required)]
    salutation: Option<String>,
    #[schema(required)]
    street_address: Option<String>,
    #[schema(required)]
    city: Option<String>,
    #[schema(required)]
    state: Option<String>,
    #[schema(required)]
    post_code: Option<String>,
    #[schema(required)]
    country: Option<String>,
    #[schema(required)]
    timezone: Option<String>,
    has_consent: bool,
    /// So it is spelled.
    terms_of_sevice: bool,
    custom_fields: Vec<CustomField>,
}

/// A field of a contact that the account made up.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomField {
    name: String,
    #[schema(required)]
    value: Option<String>,
}

/// A user: one of our agents.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    /// `user`.
    object: &'static str,
    /// `USR-…`.
    id: String,
    first_name: String,
    last_name: String,
    email: String,
    /// `active`.
    status: &'static str,
    /// `Administrator`, `Team Manager` or `Member`.
    role_name: &'static str,
    /// An IANA name.
    timezone: &'static str,
    /// `TM-…`: the queues that the agent serves.
    teams: Vec<String>,
}

/// A booking, as far as it is known by a conversation that names it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Booking {
    /// `booking`.
    object: &'static str,
    id: String,
    /// `CVR-…`, or the conversation.
    #[schema(required)]
    conversation: Option<Ref<Conversation>>,
}

/// A time as it is shown: UTC, with milliseconds.
pub(super) fn time(at: Millis) -> String {
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

/// The id of a conversation.
pub(super) fn conversation_id(id: &ConversationId) -> String {
    // Each conversation's own id is a UUID; another would have no way back.
    prefixed("CVR-", Uuid::parse_str(id.as_str()).unwrap_or_else(|_| derived_uuid(&["conversation", id.as_str()])))
}

/// The conversation that an id names.
pub(super) fn conversation_of(id: &str) -> Option<ConversationId> {
    unprefixed("CVR-", id).map(|uuid| ConversationId::from(uuid.to_string()))
}

/// The id of a contact.
pub(super) fn contact_id(id: &ConsumerId) -> String {
    prefixed("CTC-", consumer_uuid(id))
}

/// The id of a user, of an agent's participant id.
pub(super) fn user_id(pid: &str) -> String {
    prefixed("USR-", Uuid::parse_str(pid).unwrap_or_else(|_| derived_uuid(&["agent", pid])))
}

/// The id of a thing.
pub(super) fn thing_id(prefix: &str, id: &PlainId) -> String {
    prefixed(prefix, uuid_of(id))
}

fn uuid_of(id: &PlainId) -> Uuid {
    Uuid::parse_str(id.as_str()).unwrap_or_else(|_| derived_uuid(&["thing", id.as_str()]))
}

/// The prefix of an answer's id.
const INTERACTION: &str = "INT-";

fn answer(answer: &domain::Answer) -> Answer {
    // It may be one that the vendor gave; then it is shown as it is.
    let id = if answer.id.as_str().starts_with(INTERACTION) { answer.id.to_string() } else { thing_id(INTERACTION, &answer.id) };
    Answer { id, internal_label: answer.label.clone(), question: answer.question.clone(), value: answer.value.clone() }
}

/// How a conversation stands. What was abandoned stays so, be it that it was closed since.
pub(super) fn status(conversation: &domain::Conversation) -> Status {
    match (&conversation.details.abandoned, conversation.details.stage) {
        (Some(_), _) => Status::Abandoned,
        (None, OpenState::Closed) => Status::Closed,
        (None, OpenState::Open) => Status::Started,
    }
}

/// Whether it is one at all: as long as the visitor is silent, it is not.
pub(super) fn is_one(conversation: &domain::Conversation) -> bool {
    conversation.heard.is_some()
}

/// When it was last changed, be it by a word.
pub(super) fn last_updated(conversation: &domain::Conversation) -> Millis {
    conversation.updated.max(conversation.last_at)
}

/// A user.
pub(super) fn user(account: &Account, agent: &Agent) -> User {
    let (first, last) = agent.name.trim().split_once(' ').unwrap_or((agent.name.trim(), ""));
    let has = |role: AgentRole| agent.roles.contains(&role);
    let mut teams: Vec<String> = agent.skills.iter().map(|queue| prefixed("TM-", account.queue_uuid(queue))).collect();
    teams.sort_unstable();
    User {
        object: "user",
        id: user_id(agent.pid.as_str()),
        first_name: first.to_owned(),
        last_name: last.trim().to_owned(),
        email: agent.email.clone(),
        status: "active",
        role_name: if has(AgentRole::Admin) {
            "Administrator"
        } else if has(AgentRole::Manager) {
            "Team Manager"
        } else {
            "Member"
        },
        timezone: "UTC",
        teams,
    }
}

/// What it takes to show the objects of an account.
pub(super) struct Scene<'s> {
    pub(super) gateway: &'s Gateway,
    pub(super) account: &'s Account,
    /// As whom it is looked.
    pub(super) actor: &'s Actor,
}

impl Scene<'_> {
    /// A conversation.
    pub(super) async fn conversation(&self, conversation: &domain::Conversation, expand: &Expand) -> Result<Conversation, Refused> {
        let details = &conversation.details;
        let (facts, things) = (details.facts(), self.account.things());
        let contact = if expand.has("contact") {
            self.contact(&details.consumer, &expand.within("contact")).await?
        } else {
            Ref::Id(contact_id(&details.consumer))
        };
        let named = |object| move |id: String, name: &str| Named { object, id, name: name.to_owned() };
        let website = |id, site: &things::Website| Website { object: "website", id, name: site.name.clone(), url: site.url.clone() };
        Ok(Conversation {
            object: "conversation",
            id: conversation_id(&details.id),
            creation_time: time(details.started),
            initiated_by: match details.direction() {
                Direction::Inbound => Initiator::Contact,
                Direction::Outbound => Initiator::Bot,
            },
            last_updated_time: time(last_updated(conversation)),
            last_interacted_time: time(conversation.spoken),
            contact: Some(contact),
            owner: self.owner(conversation, expand.has("owner")),
            status: status(conversation),
            bot: facts
                .bot
                .as_ref()
                .map(|id| refer(&things.bots, "BOT-", "bot", id, expand.has("bot"), |id, bot: &things::Bot| named("bot")(id, &bot.name))),
            website: facts.website.as_ref().map(|id| refer(&things.websites, "WEB-", "website", id, expand.has("website"), website)),
            audience: facts.audience.as_ref().map(|id| {
                let shown = |id, audience: &things::Audience| named("audience")(id, &audience.name);
                refer(&things.audiences, "AUD-", "audience", id, expand.has("audience"), shown)
            }),
            answers: facts.answers.iter().map(answer).collect(),
            bookings: facts.bookings.clone(),
        })
    }

    /// The user who answers.
    fn owner(&self, conversation: &domain::Conversation, is_expanded: bool) -> Option<Ref<User>> {
        let person = &conversation.details.assignee()?.person;
        Some(if is_expanded { self.user(person.public_id()).into() } else { Ref::Id(user_id(person.public_id())) })
    }

    /// A user, by the agent's participant id.
    fn user(&self, pid: &str) -> Shown<User> {
        match self.account.agent(pid) {
            Some(agent) => Shown::Whole(Box::new(user(self.account, agent))),
            None => gone("user", user_id(pid)),
        }
    }

    /// A contact.
    pub(super) async fn contact(&self, id: &ConsumerId, expand: &Expand) -> Result<Ref<Contact>, Refused> {
        Ok(match self.gateway.known_consumer(self.actor, id).await? {
            Some(consumer) => Ref::Whole(Box::new(self.contact_of(&consumer, expand).await?)),
            // Whom an agent does not know, and who is known to nobody, it cannot tell apart.
            None => Ref::Id(contact_id(id)),
        })
    }

    /// The same of a consumer that is known.
    pub(super) async fn contact_of(&self, consumer: &Consumer, expand: &Expand) -> Result<Contact, Refused> {
        let last = self.gateway.conversations_of(self.actor, &consumer.id, 1).await?.into_iter().next();
        let owner = last.as_ref().and_then(|last| self.owner(last, expand.has("owner")));
        let profile = Profile(&consumer.profile);
        let text = |name| profile.text(name);
        Ok(Contact {
            object: "contact",
            id: contact_id(&consumer.id),
            creation_time: time(consumer.seen),
            last_updated_time: time(consumer.updated),
            last_interacted_time: last.map(|last| time(last.spoken)),
            owner,
            status: text("status").filter(|status| STATUSES.contains(&status.as_str())),
            first_name: text("firstName"),
            last_name: text("lastName"),
            email: consumer.email().map(str::to_owned),
            phone: text("phone"),
            mobile_phone: consumer.phone().map(str::to_owned),
            company: text("company"),
            company_size: text("companySize"),
            job_title: text("jobTitle"),
            employees: consumer.profile.get("employees").and_then(Value::as_i64),
            salutation: text("salutation"),
            street_address: text("streetAddress"),
            city: text("city"),
            state: text("state"),
            post_code: text("postCode"),
            country: text("country"),
            timezone: text("timezone"),
            has_consent: profile.is_so("hasConsent"),
            terms_of_sevice: profile.is_so("termsOfService"),
            custom_fields: profile.custom(),
        })
    }

    /// A booking that a conversation names.
    pub(super) async fn booking(&self, id: &str, conversation: &domain::Conversation, expand: &Expand) -> Result<Booking, Refused> {
        let shown = match () {
            () if !is_one(conversation) => None,
            () if expand.has("conversation") => {
                Some(Ref::Whole(Box::new(self.conversation(conversation, &expand.within("conversation")).await?)))
            }
            () => Some(Ref::Id(conversation_id(&conversation.details.id))),
        };
        Ok(Booking { object: "booking", id: id.to_owned(), conversation: shown })
    }
}

/// What a contact's status may be.
const STATUSES: [&str; 4] = ["Qualified", "Sales qualified", "Marketing qualified", "Disqualified"];

/// What is known of a consumer, by its own names.
struct Profile<'p>(&'p Map<String, Value>);

impl Profile<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn is_so(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The members of `customFields`; what is no text is shown as JSON.
    fn custom(&self) -> Vec<CustomField> {
        let shown = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let fields = self.0.get("customFields").and_then(Value::as_object).into_iter().flatten();
        fields.map(|(name, value)| CustomField { name: name.clone(), value: shown(value) }).collect()
    }
}

fn gone<T>(object: &'static str, id: String) -> Shown<T> {
    Shown::Deleted(Deleted { object, id, deleted: true })
}

/// A reference to a thing.
fn refer<T: Thing, U>(
    shelf: &Shelf<T>,
    prefix: &str,
    object: &'static str,
    id: &PlainId,
    is_expanded: bool,
    shown: impl Fn(String, &T) -> U,
) -> Ref<U> {
    let name = thing_id(prefix, id);
    if !is_expanded {
        return Ref::Id(name);
    }
    let found = shelf.resolve(things::ThingId::from(uuid_of(id)));
    match found.as_deref() {
        Some(Kept { is_deleted: false, thing, .. }) => Ref::Whole(Box::new(shown(name, thing))),
        _ => gone(object, name).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_ids_lead_back() {
        assert_eq!([time(0), time(1_706_781_600_120)], ["1970-01-01T00:00:00.000Z", "2024-02-01T10:00:00.120Z"]);
        let id = ConversationId::from("6f0c1a52-0f1e-4d0b-9a57-1f5f3f1c0a01");
        let shown = conversation_id(&id);
        assert!(shown.starts_with("CVR-") && shown[4..].bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()), "{shown}");
        assert_eq!(conversation_of(&shown), Some(id));
        assert_eq!(conversation_of(&shown.to_lowercase()), None);
        assert_ne!(conversation_id(&"one".into()), conversation_id(&"other".into()));
    }

    #[test]
    fn a_profile_is_read_where_it_is_what_it_should_be() {
        let profile = serde_json::json!({"company": "Shop", "jobTitle": "", "city": 7, "hasConsent": true, "termsOfService": "yes",
            "customFields": {"size": "L", "age": 7, "none": null}});
        let profile = Profile(profile.as_object().unwrap());
        assert_eq!([profile.text("company"), profile.text("jobTitle"), profile.text("city")], [Some("Shop".to_owned()), None, None]);
        assert_eq!((profile.is_so("hasConsent"), profile.is_so("termsOfService")), (true, false));
        let custom: Vec<_> = profile.custom().into_iter().map(|field| (field.name, field.value)).collect();
        let expected = [("age", Some("7")), ("none", None), ("size", Some("L"))];
        assert_eq!(custom, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
    }
}
