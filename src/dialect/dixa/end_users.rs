//! End users: the account's consumers, by their profiles. Native agents see what is written here, and here is seen what applications and
//! consumers say there.

use super::caller::Caller;
use super::conversation::{Shown as Talk, shown as talk};
use super::error::{Absent, Any, Change, Fault, Ours};
use super::input::{Body, Repeat, Stamp, at_most};
use super::page::{self, Page, limit};
use super::{Answer, Data};
use crate::dialect::ids::consumer_uuid;
use crate::domain::{Command, Consumer};
use crate::gateway::IdempotencyKey;
use crate::store::ConsumersBy;
use crate::things::{check_email, check_phone};
use axum::Json;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use futures::future::join_all;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use serde_with::skip_serializing_none;
use tieline_protocol::ids::{ClientId, ConsumerId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Where they are listed.
const LIST: &str = "/v1/endusers";
/// End users of a page, and most; of one's conversations the same.
const USUAL: usize = 100;
const MOST: usize = 1_000;
/// Most end users of one request, and of those that are handed in at a time.
const MOST_AT_ONCE: usize = 1_000;
const TOGETHER: usize = 50;
/// Longest name, and most names and addresses of one.
const LONGEST: usize = 256;
const LONGEST_URL: usize = 2_048;
const MOST_NAMES: usize = 20;
/// In whose name external ids stand that come by these calls; no application of an account is called so.
const CALLS: &str = "dixa/endusers";

/// An end user.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndUser {
    id: Uuid,
    created_at: Stamp,
    display_name: Option<String>,
    email: Option<String>,
    phone_number: Option<String>,
    additional_emails: Vec<String>,
    additional_phone_numbers: Vec<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    middle_names: Vec<String>,
    avatar_url: Option<String>,
    /// What it is called elsewhere.
    external_id: Option<String>,
}

/// What is said of an end user. Members that are not named here are not looked at.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = EndUserValues)]
#[serde(default, rename_all = "camelCase")]
struct Given {
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    display_name: Said<String>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    email: Said<String>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    phone_number: Said<String>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<Vec<String>>)]
    additional_emails: Said<Vec<String>>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<Vec<String>>)]
    additional_phone_numbers: Said<Vec<String>>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    first_name: Said<String>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    last_name: Said<String>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<Vec<String>>)]
    middle_names: Said<Vec<String>>,
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    avatar_url: Said<String>,
    /// What it is called elsewhere. It is given once, and stays.
    external_id: Option<String>,
}

/// What is said of a member: nothing, that there is none, or what it is.
type Said<T> = Option<Option<T>>;

fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Said<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// End users that are to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EndUsersValues)]
struct Several {
    data: Vec<Given>,
}

/// What is said of an end user that there is.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EndUserChange)]
struct Edit {
    id: Uuid,
    #[serde(flatten)]
    given: Given,
}

/// What is said of end users that there are.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EndUsersChange)]
struct Edits {
    data: Vec<Edit>,
}

/// What became of one of several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "_type")]
enum EndUserOutcome {
    BulkActionSuccess { data: Box<EndUser> },
    BulkActionFailure { error: EndUserFailure },
}

/// Why it was not done.
#[derive(Debug, Serialize, ToSchema)]
struct EndUserFailure {
    message: String,
}

/// The end user that an address names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[serde(rename_all = "camelCase")]
struct NamedUser {
    /// The end user's id.
    user_id: Uuid,
}

/// Which end users.
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
    /// Those that are called so elsewhere.
    external_id: Option<String>,
}

/// Where a page begins, and what it is of.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    after: Option<ConsumerId>,
    limit: Option<usize>,
    email: Option<String>,
    phone: Option<String>,
    external_id: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct Paging {
    /// Most of a page.
    page_limit: Option<i32>,
    /// Leads to another page; from `meta`.
    page_key: Option<String>,
}

/// Where a page of one's conversations begins.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Behind {
    number: i64,
    limit: Option<usize>,
}

fn text(profile: &Map<String, Value>, name: &str) -> Option<String> {
    profile.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn shown(consumer: &Consumer) -> EndUser {
    let profile = &consumer.profile;
    let private = |name| profile.get("privateData").and_then(|data| data.get(name));
    EndUser {
        id: consumer_uuid(&consumer.id),
        created_at: Stamp(consumer.seen),
        display_name: consumer.name(),
        email: consumer.email().map(str::to_owned),
        phone_number: consumer.phone().map(str::to_owned),
        additional_emails: texts(private("additionalMails")),
        additional_phone_numbers: texts(private("additionalNums")),
        first_name: text(profile, "firstName"),
        last_name: text(profile, "lastName"),
        middle_names: texts(profile.get("middleNames")),
        avatar_url: text(profile, "avatarUrl"),
        external_id: consumer.ext_id.clone(),
    }
}

fn all_of<T>(said: &Said<Vec<T>>) -> impl Iterator<Item = &T> {
    said.iter().flatten().flatten()
}

impl Given {
    /// As it stands for all: what is not said is not there.
    fn whole(self) -> Self {
        Self {
            display_name: self.display_name.or(Some(None)),
            email: self.email.or(Some(None)),
            phone_number: self.phone_number.or(Some(None)),
            additional_emails: self.additional_emails.or(Some(None)),
            additional_phone_numbers: self.additional_phone_numbers.or(Some(None)),
            first_name: self.first_name.or(Some(None)),
            last_name: self.last_name.or(Some(None)),
            middle_names: self.middle_names.or(Some(None)),
            avatar_url: self.avatar_url.or(Some(None)),
            external_id: self.external_id,
        }
    }

    /// # Errors
    /// 400.
    fn check(&self) -> Result<(), Fault> {
        let names = [("displayName", &self.display_name), ("firstName", &self.first_name), ("lastName", &self.last_name)];
        for (name, said) in names {
            said.iter().flatten().try_for_each(|text| at_most(name, text, LONGEST))?;
        }
        all_of(&self.middle_names).try_for_each(|text| at_most("middleNames", text, LONGEST))?;
        self.avatar_url.iter().flatten().try_for_each(|url| at_most("avatarUrl", url, LONGEST_URL))?;
        let external = self.external_id.as_deref();
        external.map_or(Ok(()), |id| at_most("externalId", id, LONGEST))?;
        if external == Some("") {
            return Err(Fault::bad("externalId is empty"));
        }
        let bad = |name: &str, reason: String| Fault::bad(format!("{name} {reason}"));
        let mails = self.email.iter().flatten().map(|mail| ("email", mail));
        for (name, mail) in mails.chain(all_of(&self.additional_emails).map(|mail| ("additionalEmails", mail))) {
            check_email(mail).map_err(|reason| bad(name, reason))?;
        }
        let phones = self.phone_number.iter().flatten().map(|phone| ("phoneNumber", phone));
        for (name, phone) in phones.chain(all_of(&self.additional_phone_numbers).map(|phone| ("additionalPhoneNumbers", phone))) {
            check_phone(phone).map_err(|reason| bad(name, reason))?;
        }
        let counts = [
            ("additionalEmails", all_of(&self.additional_emails).count()),
            ("additionalPhoneNumbers", all_of(&self.additional_phone_numbers).count()),
            ("middleNames", all_of(&self.middle_names).count()),
        ];
        match counts.iter().find(|(_, count)| *count > MOST_NAMES) {
            Some((name, _)) => Err(Fault::bad(format!("{name} has at most {MOST_NAMES} entries"))),
            None => Ok(()),
        }
    }

    /// What of a profile it changes.
    fn profile(&self) -> Map<String, Value> {
        let mut profile = Map::new();
        for (name, said) in [
            ("nickName", &self.display_name),
            ("firstName", &self.first_name),
            ("lastName", &self.last_name),
            ("avatarUrl", &self.avatar_url),
        ] {
            profile.extend(said.iter().map(|said| (name.to_owned(), json!(said))));
        }
        profile.extend(self.middle_names.iter().map(|names| ("middleNames".to_owned(), json!(names))));
        let private = [
            ("mail", self.email.as_ref().map(|said| json!(said))),
            ("mobileNum", self.phone_number.as_ref().map(|said| json!(said))),
            ("additionalMails", self.additional_emails.as_ref().map(|said| json!(said))),
            ("additionalNums", self.additional_phone_numbers.as_ref().map(|said| json!(said))),
        ];
        let changed: Map<_, _> = private.into_iter().filter_map(|(name, said)| Some((name.to_owned(), said?))).collect();
        if !changed.is_empty() {
            profile.insert("privateData".into(), Value::Object(changed));
        }
        profile
    }
}

fn set_profile(consumer: &ConsumerId, profile: &Map<String, Value>) -> Result<Command, Fault> {
    let profile = to_raw_value(profile).map_err(|error| Fault::bad(format!("the profile cannot be written: {error}")))?;
    Ok(Command::SetProfile { consumer: Some(consumer.clone()), profile })
}

fn nobody(id: Uuid) -> Fault {
    Fault::missing(format!("there is no end user {id}"))
}

/// Makes an end user, and says whether it was made before.
async fn make(caller: &Caller, given: Given, key: Option<IdempotencyKey>) -> Result<(EndUser, bool), Fault> {
    given.check()?;
    let (account, gateway) = (caller.account(), caller.gateway());
    let id = match &given.external_id {
        Some(external) => gateway.identity().consumer_id(&account.id, &ClientId::from(CALLS), external),
        None => ConsumerId::from(caller.id_of(key.as_ref(), &["end user"]).to_string()),
    };
    if caller.replayed(key.as_ref()).await?.is_some() {
        return Ok((made(caller, &id).await?, true));
    }
    if let Some(external) = &given.external_id {
        // Known by an application of its own, it has another id.
        let named = gateway.consumers(caller.actor(), ConsumersBy::ExtId(external.clone()), None, 1).await?;
        if !named.is_empty() {
            return Err(Fault::bad(format!("an end user with the externalId {external:?} exists already")));
        }
    }
    let see = Command::SeeConsumer { is_new: true, consumer: id.clone(), app: None, ext_id: given.external_id.clone() };
    let describe = set_profile(&id, &given.whole().profile())?;
    let decided = caller.submit(caller.actor().clone(), vec![see, describe], key).await?;
    Ok((made(caller, &id).await?, decided.replayed))
}

async fn made(caller: &Caller, id: &ConsumerId) -> Result<EndUser, Fault> {
    let made = caller.gateway().known_consumer(caller.actor(), id).await?.ok_or_else(|| nobody(consumer_uuid(id)))?;
    Ok(shown(&made))
}

/// Changes an end user that there is.
async fn change(caller: &Caller, id: Uuid, given: Given, key: Option<IdempotencyKey>) -> Result<(EndUser, bool), Fault> {
    given.check()?;
    let consumer = caller.end_user(id).await?.ok_or_else(|| nobody(id))?;
    if given.external_id.is_some() && given.external_id != consumer.ext_id {
        return Err(Fault::bad("externalId is given when an end user is made, and stays"));
    }
    let describe = set_profile(&consumer.id, &given.profile())?;
    let decided = caller.submit(caller.actor().clone(), vec![describe], key).await?;
    let now = caller.gateway().known_consumer(caller.actor(), &consumer.id).await?.ok_or_else(|| nobody(id))?;
    Ok((shown(&now), decided.replayed))
}

fn outcome(became: Result<(EndUser, bool), Fault>) -> EndUserOutcome {
    match became {
        Ok((data, _)) => EndUserOutcome::BulkActionSuccess { data: Box::new(data) },
        Err(fault) => EndUserOutcome::BulkActionFailure { error: EndUserFailure { message: fault.message().to_owned() } },
    }
}

fn not_too_many(count: usize) -> Result<(), Fault> {
    match count {
        count if count > MOST_AT_ONCE => Err(Fault::bad(format!("data has {count} end users; the limit is {MOST_AT_ONCE}"))),
        _ => Ok(()),
    }
}

/// Does something for each, some at a time.
async fn each<T, F: Future<Output = Result<(EndUser, bool), Fault>>>(all: Vec<T>, what: impl Fn(T) -> F) -> Vec<EndUserOutcome> {
    let mut outcomes = Vec::with_capacity(all.len());
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let some = join_all(all.by_ref().take(TOGETHER).map(&what)).await;
        outcomes.extend(some.into_iter().map(outcome));
    }
    outcomes
}

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default()
        .routes(routes!(list, create, replace_several_as_before))
        .routes(routes!(create_several, replace_several, edit_several))
        .routes(routes!(get, replace, edit))
        .routes(routes!(conversations))
}

/// All end users, in pages. A key of an agent finds those with whom the agent has a conversation, and only by what they are asked for.
#[utoipa::path(get, path = "/v1/endusers", operation_id = "listEndUsers", tag = "users", params(Wanted),
    responses((status = 200, description = "A page of them.", body = Page<EndUser>), Any))]
async fn list(caller: Caller, Ours(Query(wanted)): Ours<Query<Wanted>>) -> Result<Json<Page<EndUser>>, Fault> {
    let account = caller.account();
    let place = match wanted.page_key {
        Some(key) => page::open(account, LIST, &key)?,
        None => Place { email: wanted.email, phone: wanted.phone, external_id: wanted.external_id, ..Place::default() },
    };
    let limit = limit(wanted.page_limit, place.limit.unwrap_or(USUAL), MOST)?;
    let by = [
        place.external_id.clone().map(ConsumersBy::ExtId),
        place.email.clone().map(ConsumersBy::Mail),
        place.phone.clone().map(ConsumersBy::Phone),
    ];
    let by: Vec<ConsumersBy> = by.into_iter().flatten().collect();
    // An agent is shown those whom it knows, and that makes no pages.
    if by.is_empty() && !caller.actor().is_manager() {
        return Err(Fault::denied("this key is of an agent, who may only look for end users by email, phone or externalId"));
    }
    let first = by.first().cloned().unwrap_or(ConsumersBy::Account);
    let found = caller.gateway().consumers(caller.actor(), first, place.after.clone(), limit + 1).await?;
    let next = (found.len() > limit).then(|| found.get(limit - 1).map(|last| last.id.clone())).flatten();
    // One filter leads to so few that the others may leave holes in a page.
    let fits = |consumer: &&Consumer| by.iter().all(|by| by.has(consumer));
    let data = found.iter().take(limit).filter(fits).map(shown).collect();
    let next = next.map(|after| page::address(account, LIST, &Place { after: Some(after), limit: Some(limit), ..place }));
    Ok(Json(Page::new(data, next)))
}

/// An end user by its id.
#[utoipa::path(get, path = "/v1/endusers/{userId}", operation_id = "getEndUser", tag = "users", params(NamedUser),
    responses((status = 200, description = "It.", body = Data<EndUser>), Any, Absent))]
async fn get(caller: Caller, Ours(Path(NamedUser { user_id })): Ours<Path<NamedUser>>) -> Result<Json<Data<EndUser>>, Fault> {
    let consumer = caller.end_user(user_id).await?.ok_or_else(|| nobody(user_id))?;
    Ok(Json(Data { data: shown(&consumer) }))
}

/// Makes an end user.
#[utoipa::path(post, path = "/v1/endusers", operation_id = "createEndUser", tag = "users", params(Repeat), request_body = Given,
    responses((status = 201, description = "It.", body = Data<EndUser>), Any, Change))]
async fn create(caller: Caller, Body { said, key }: Body<Given>) -> Result<Answer<EndUser>, Fault> {
    let (made, replayed) = make(&caller, said, key).await?;
    Ok(Answer::new(StatusCode::CREATED, made).replayed(replayed))
}

/// Makes end users: each that can be, and says of each others why not, in their order.
#[utoipa::path(post, path = "/v1/endusers/bulk", operation_id = "createEndUsers", tag = "users", request_body = Several,
    responses((status = 200, description = "What became of each.", body = Data<Vec<EndUserOutcome>>), Any, Change))]
async fn create_several(caller: Caller, Body { said, .. }: Body<Several>) -> Result<Json<Data<Vec<EndUserOutcome>>>, Fault> {
    not_too_many(said.data.len())?;
    Ok(Json(Data { data: each(said.data, |given| make(&caller, given, None)).await }))
}

/// Changes all that is known of an end user: what is not said is not there any more, but for its `externalId`.
#[utoipa::path(put, path = "/v1/endusers/{userId}", operation_id = "replaceEndUser",
    tag = "users", params(NamedUser, Repeat), request_body = Given,
    responses((status = 200, description = "It.", body = Data<EndUser>), Any, Absent, Change))]
async fn replace(
    caller: Caller,
    Ours(Path(NamedUser { user_id })): Ours<Path<NamedUser>>,
    Body { said, key }: Body<Given>,
) -> Result<Answer<EndUser>, Fault> {
    let (now, replayed) = change(&caller, user_id, said.whole(), key).await?;
    Ok(Answer::new(StatusCode::OK, now).replayed(replayed))
}

/// Changes some of what is known of an end user; `null` takes it away.
#[utoipa::path(patch, path = "/v1/endusers/{userId}", operation_id = "editEndUser",
    tag = "users", params(NamedUser, Repeat), request_body = Given,
    responses((status = 200, description = "It.", body = Data<EndUser>), Any, Absent, Change))]
async fn edit(
    caller: Caller,
    Ours(Path(NamedUser { user_id })): Ours<Path<NamedUser>>,
    Body { said, key }: Body<Given>,
) -> Result<Answer<EndUser>, Fault> {
    let (now, replayed) = change(&caller, user_id, said, key).await?;
    Ok(Answer::new(StatusCode::OK, now).replayed(replayed))
}

/// Changes all that is known of end users: of each that can be, and says of each others why not, in their order.
#[utoipa::path(put, path = "/v1/endusers/bulk", operation_id = "replaceEndUsers", tag = "users", request_body = Edits,
    responses((status = 200, description = "What became of each.", body = Data<Vec<EndUserOutcome>>), Any, Change))]
async fn replace_several(caller: Caller, Body { said, .. }: Body<Edits>) -> Result<Json<Data<Vec<EndUserOutcome>>>, Fault> {
    not_too_many(said.data.len())?;
    Ok(Json(Data { data: each(said.data, |Edit { id, given }| change(&caller, id, given.whole(), None)).await }))
}

/// The same at the address that older clients use.
#[utoipa::path(put, path = "/v1/endusers", operation_id = "replaceEndUsersAsBefore", tag = "users", request_body = Edits,
    responses((status = 200, description = "What became of each.", body = Data<Vec<EndUserOutcome>>), Any, Change))]
async fn replace_several_as_before(caller: Caller, body: Body<Edits>) -> Result<Json<Data<Vec<EndUserOutcome>>>, Fault> {
    replace_several(caller, body).await
}

/// Changes some of what is known of end users: of each that can be, and says of each others why not, in their order.
#[utoipa::path(patch, path = "/v1/endusers/bulk", operation_id = "editEndUsers", tag = "users", request_body = Edits,
    responses((status = 200, description = "What became of each.", body = Data<Vec<EndUserOutcome>>), Any, Change))]
async fn edit_several(caller: Caller, Body { said, .. }: Body<Edits>) -> Result<Json<Data<Vec<EndUserOutcome>>>, Fault> {
    not_too_many(said.data.len())?;
    Ok(Json(Data { data: each(said.data, |Edit { id, given }| change(&caller, id, given, None)).await }))
}

/// The conversations of an end user by their numbers, in pages.
#[utoipa::path(get, path = "/v1/endusers/{userId}/conversations", operation_id = "listEndUserConversations",
    tag = "users", params(NamedUser, Paging),
    responses((status = 200, description = "A page of them.", body = Page<Talk>), Any, Absent))]
async fn conversations(
    caller: Caller,
    Ours(Path(NamedUser { user_id })): Ours<Path<NamedUser>>,
    Ours(Query(paging)): Ours<Query<Paging>>,
) -> Result<Json<Page<Talk>>, Fault> {
    let (account, address) = (caller.account(), format!("{LIST}/{user_id}/conversations"));
    let consumer = caller.end_user(user_id).await?.ok_or_else(|| nobody(user_id))?;
    let place: Behind = paging.page_key.map_or(Ok(Behind::default()), |key| page::open(account, &address, &key))?;
    let limit = limit(paging.page_limit, place.limit.unwrap_or(USUAL), MOST)?;
    let behind = (place.number, i64::MAX);
    let mut some = caller.gateway().of_consumer(caller.actor(), &consumer.id, behind, true, limit + 1).await?;
    let has_more = some.len() > limit;
    some.truncate(limit);
    let next = some.last().filter(|_| has_more).map(|last| Behind { number: last.details.number, limit: Some(limit) });
    let data = some.iter().map(|conversation| talk(account, conversation)).collect();
    Ok(Json(Page::new(data, next.map(|next| page::address(account, &address, &next)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Given {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_not_said_stays_and_null_takes_away() {
        let after = read(r#"{"email":null,"firstName":"A.","middleNames":["B."],"unknown":7}"#).profile();
        assert_eq!(Value::Object(after), json!({"firstName": "A.", "middleNames": ["B."], "privateData": {"mail": null}}));
        assert_eq!(Value::Object(read("{}").profile()), json!({}));
        let whole = read(r#"{"displayName":"Ann","email":"ann@shop.example","phoneNumber":"+4512345678"}"#).whole().profile();
        let private = json!({"mail": "ann@shop.example", "mobileNum": "+4512345678", "additionalMails": null, "additionalNums": null});
        assert_eq!((&whole["privateData"], &whole["firstName"]), (&private, &json!(null)));
        assert_eq!(read("{}").whole().profile()["nickName"], json!(null));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for (text, name) in [
            (r#"{"email":"nobody"}"#, "email must be"),
            (r#"{"additionalEmails":["a@b.example","@"]}"#, "additionalEmails must be"),
            (r#"{"phoneNumber":"call me"}"#, "phoneNumber must be"),
            (r#"{"externalId":""}"#, "externalId is empty"),
        ] {
            let fault = read(text).check().unwrap_err();
            assert!(fault.message().contains(name), "{text}: {}", fault.message());
        }
        let long = format!(r#"{{"displayName":"{}"}}"#, "x".repeat(LONGEST + 1));
        assert!(read(&long).check().is_err() && read(r#"{"displayName":"x"}"#).check().is_ok());
    }
}
