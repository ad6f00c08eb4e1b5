//! What no surface writes of a conversation, for operators and their programs: the website, the bot and the audience that it has to do
//! with, what the consumer was asked and said, and what was booked. Each change is an entry of the journal, by the account itself, and
//! pushed as every other.

use super::admin::{Admin, Denied, TooLarge, to_the_end};
use super::say;
use crate::dialect::ids::prefixed;
use crate::domain::{Actor, Answer, Command, Conversation, FieldChange, Place};
use crate::gateway::{Error, Gateway, Request};
use crate::identity::{Account, Shelf};
use crate::openapi::refusals;
use crate::things::{self, Thing};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use std::sync::Arc;
use tieline_protocol::ids::{ConversationId, PlainId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Longest id of a question, and longest name of a booking, in bytes.
const LONGEST_ID: usize = 128;

refusals! {
    /// A conversation that is not read.
    Unread { 503: "The store cannot be read now; try again." }
}

refusals! {
    /// A change that is not made. One that the conversation does not take any more is 400.
    Unwritten { 503: "The store cannot be written now; try again." }
}

/// Of which conversation, and whose.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read as parts of the path; here it is described")]
struct OfConversation {
    /// The account.
    account: String,
    /// Its id, or its number.
    conversation: String,
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter<Admin> {
    OpenApiRouter::default().routes(routes!(facts, change)).routes(routes!(answers, answer)).routes(routes!(book, call_off))
}

/// What is known of a conversation beside what is said in it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ShownFacts {
    /// The website's id.
    #[schema(required, value_type = Option<String>)]
    website: Option<PlainId>,
    /// The bot's.
    #[schema(required, value_type = Option<String>)]
    bot: Option<PlainId>,
    /// The audience's.
    #[schema(required, value_type = Option<String>)]
    audience: Option<PlainId>,
    /// In the order in which they were asked.
    answers: Vec<ShownAnswer>,
    /// By the names that other systems gave.
    bookings: Vec<String>,
}

/// What the consumer was asked and said.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ShownAnswer {
    /// The question's.
    #[schema(value_type = String)]
    id: PlainId,
    label: String,
    question: String,
    value: String,
}

/// What a conversation is to have to do with: what is left out stays, null takes away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedFacts {
    /// The id of a website of the account.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    website: Option<Option<Uuid>>,
    /// The id of a bot.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    bot: Option<Option<Uuid>>,
    /// The id of an audience.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    audience: Option<Option<Uuid>>,
}

/// Tells null from nothing.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Uuid>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What the consumer was asked and said: in place of what is known of that question, if anything is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedAnswer {
    /// The question's; one is made up if there is none.
    #[serde(default)]
    id: Option<String>,
    /// What the brand calls it.
    #[serde(default)]
    label: String,
    question: String,
    value: String,
}

type Refused = Box<Response>;

fn refuse(status: StatusCode, why: &str) -> Refused {
    Box::new(say(status, why))
}

fn bad(why: &str) -> Refused {
    refuse(StatusCode::BAD_REQUEST, why)
}

fn refused(error: &Error) -> Refused {
    if error.is_no_such_conversation() {
        return refuse(StatusCode::NOT_FOUND, "there is no such conversation");
    }
    refuse(StatusCode::from_u16(error.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &error.to_string())
}

fn either(answer: Result<Response, Refused>) -> Response {
    answer.unwrap_or_else(|response| *response)
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| bad(&format!("the body is not understood: {error}")))
}

/// A conversation that a call names.
struct Meant {
    gateway: Arc<Gateway>,
    account: Arc<Account>,
    actor: Actor,
    conversation: Conversation,
}

impl Meant {
    /// By the conversation's id, or by its number.
    async fn find(admin: &Admin, account: &str, id: &str) -> Result<Self, Refused> {
        let account = admin.tenant(Some(account))?;
        let (gateway, actor) = (admin.gateway.clone(), account.system());
        let found = match id.parse::<i64>() {
            Ok(number) => gateway.numbered(&actor, number).await,
            Err(_) => gateway.conversation(&actor, &ConversationId::from(id)).await,
        };
        let conversation = found.map_err(|error| refused(&error))?;
        Ok(Self { gateway, account, actor, conversation })
    }

    /// Makes changes; the conversation as it is then.
    async fn change(self, changes: Vec<FieldChange>) -> Result<Conversation, Refused> {
        let Self { gateway, actor, conversation, .. } = self;
        let id = conversation.details.id.clone();
        let command = Command::Update { conversation: id.clone(), changes };
        let request = Request { actor: actor.clone(), commands: vec![command], key: None, resend: None };
        gateway.submit(request).await.map_err(|error| refused(&error))?;
        gateway.conversation(&actor, &id).await.map_err(|error| refused(&error))
    }
}

fn shown(conversation: &Conversation) -> ShownFacts {
    let facts = conversation.details.facts();
    ShownFacts {
        website: facts.website.clone(),
        bot: facts.bot.clone(),
        audience: facts.audience.clone(),
        answers: facts.answers.iter().map(shown_answer).collect(),
        bookings: facts.bookings.clone(),
    }
}

fn shown_answer(answer: &Answer) -> ShownAnswer {
    ShownAnswer { id: answer.id.clone(), label: answer.label.clone(), question: answer.question.clone(), value: answer.value.clone() }
}

/// A change of a place; what is to stand there must be there.
fn placed<T: Thing>(shelf: &Shelf<T>, place: Place, wanted: Option<Option<Uuid>>) -> Result<Option<FieldChange>, Refused> {
    let Some(wanted) = wanted else { return Ok(None) };
    if let Some(unknown) = wanted.filter(|id| shelf.get(things::ThingId::from(*id)).is_none()) {
        return Err(bad(&format!("there is no {unknown} among the account's {}", T::KIND.name())));
    }
    Ok(Some(FieldChange::SetPlace(place, wanted.map(|id| PlainId::from(id.to_string())))))
}

/// A name that another system gave, as it stands in addresses.
fn name(what: &str, given: &str) -> Result<String, Refused> {
    if given.is_empty() || given.len() > LONGEST_ID || !given.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad(&format!("{what} has 1 to {LONGEST_ID} letters, digits and signs")));
    }
    Ok(given.to_owned())
}

/// What is known of a conversation beside what is said in it.
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/conversations/{conversation}/facts", operation_id = "facts_get", tag = "facts",
    params(OfConversation),
    responses(
        (status = 200, description = "That.", body = ShownFacts),
        Denied, Unread))]
async fn facts(State(admin): State<Admin>, Path((account, id)): Path<(String, String)>) -> Response {
    either(Meant::find(&admin, &account, &id).await.map(|meant| axum::Json(shown(&meant.conversation)).into_response()))
}

/// Sets what of the account a conversation has to do with.
#[utoipa::path(patch, path = "/admin/v1/accounts/{account}/conversations/{conversation}/facts", operation_id = "facts_change", tag = "facts",
    params(OfConversation),
    request_body = WantedFacts,
    responses(
        (status = 200, description = "All that is known of it then.", body = ShownFacts),
        Denied, TooLarge, Unwritten))]
async fn change(State(admin): State<Admin>, Path((account, id)): Path<(String, String)>, body: Bytes) -> Response {
    to_the_end(async move {
        let changed = async {
            let meant = Meant::find(&admin, &account, &id).await?;
            let WantedFacts { website, bot, audience } = read(&body)?;
            let things = meant.account.things();
            let changes = [
                placed(&things.websites, Place::Website, website)?,
                placed(&things.bots, Place::Bot, bot)?,
                placed(&things.audiences, Place::Audience, audience)?,
            ];
            let changes = changes.into_iter().flatten().collect();
            Ok(axum::Json(shown(&meant.change(changes).await?)).into_response())
        };
        either(changed.await)
    })
    .await
}

/// What the consumer was asked and said.
#[utoipa::path(get, path = "/admin/v1/accounts/{account}/conversations/{conversation}/answers", operation_id = "answers_list", tag = "facts",
    params(OfConversation),
    responses(
        (status = 200, description = "That, in the order in which it was asked.", body = Vec<ShownAnswer>),
        Denied, Unread))]
async fn answers(State(admin): State<Admin>, Path((account, id)): Path<(String, String)>) -> Response {
    either(Meant::find(&admin, &account, &id).await.map(|meant| axum::Json(shown(&meant.conversation).answers).into_response()))
}

/// Writes down what the consumer was asked and said.
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/conversations/{conversation}/answers", operation_id = "answers_add", tag = "facts",
    params(OfConversation),
    request_body = WantedAnswer,
    responses(
        (status = 201, description = "As it is written down.", body = ShownAnswer),
        Denied, TooLarge, Unwritten))]
async fn answer(State(admin): State<Admin>, Path((account, id)): Path<(String, String)>, body: Bytes) -> Response {
    to_the_end(async move {
        let added = async {
            let meant = Meant::find(&admin, &account, &id).await?;
            let WantedAnswer { id, label, question, value } = read(&body)?;
            let id = match id {
                Some(id) => name("id", &id)?,
                None => prefixed("INT-", Uuid::new_v4()),
            };
            let answer = Answer { id: PlainId::from(id), label, question, value };
            let answered = axum::Json(shown_answer(&answer));
            meant.change(vec![FieldChange::Answer(answer)]).await?;
            Ok((StatusCode::CREATED, answered).into_response())
        };
        either(added.await)
    })
    .await
}

/// Notes that something was booked in a conversation.
#[utoipa::path(put, path = "/admin/v1/accounts/{account}/conversations/{conversation}/bookings/{booking}", operation_id = "bookings_put", tag = "facts",
    params(OfConversation,
        ("booking" = String, Path, description = "The other system's name for it, such as `BKNG-…`.")),
    responses(
        (status = 200, description = "All that is booked in it then.", body = Vec<String>),
        Denied, Unwritten))]
async fn book(State(admin): State<Admin>, Path((account, id, booking)): Path<(String, String, String)>) -> Response {
    to_the_end(async move {
        let booked = async {
            let meant = Meant::find(&admin, &account, &id).await?;
            let booking = name("a booking's name", &booking)?;
            let conversation = meant.change(vec![FieldChange::Book { booking, stands: true }]).await?;
            Ok(axum::Json(json!(conversation.details.facts().bookings)).into_response())
        };
        either(booked.await)
    })
    .await
}

/// Notes that what was booked in a conversation was called off.
#[utoipa::path(delete, path = "/admin/v1/accounts/{account}/conversations/{conversation}/bookings/{booking}", operation_id = "bookings_delete", tag = "facts",
    params(OfConversation,
        ("booking" = String, Path, description = "The other system's name for it, such as `BKNG-…`.")),
    responses(
        (status = 204, description = "It was called off."),
        Denied, Unwritten))]
async fn call_off(State(admin): State<Admin>, Path((account, id, booking)): Path<(String, String, String)>) -> Response {
    to_the_end(async move {
        let done = async {
            let meant = Meant::find(&admin, &account, &id).await?;
            if !meant.conversation.details.facts().bookings.contains(&booking) {
                return Err(refuse(StatusCode::NOT_FOUND, "the conversation has no such booking"));
            }
            meant.change(vec![FieldChange::Book { booking, stands: false }]).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        };
        either(done.await)
    })
    .await
}
