//! Contacts, who are our consumers, and users, who are our agents.

use super::super::ids::{consumer_of_uuid, unprefixed};
use super::conversations::Expanding;
use super::error::Refused;
use super::expand::{self, Expand};
use super::list::{Answer, Asked, From, List, Page, Paging, no_such_cursor};
use super::object::{self, Contact, User, contact_id, user_id};
use super::openapi::{ListRefused, OneRefused};
use super::{Caller, OnceHub};
use crate::domain::Consumer;
use crate::store::ConsumersBy;
use axum::extract::{Extension, Path, Query, State};
use std::sync::Arc;

impl OnceHub {
    /// The consumer that a contact's id names.
    pub(super) async fn consumer(&self, caller: &Caller, id: &str) -> Result<Option<Consumer>, Refused> {
        let Some(uuid) = unprefixed("CTC-", id) else { return Ok(None) };
        Ok(consumer_of_uuid(&self.gateway, caller.actor(), uuid).await?)
    }
}

/// One contact.
#[utoipa::path(get, path = "/v2/contacts/{id}", operation_id = "contacts_get", tag = "people",
    params(("id" = String, Path, description = "`CTC-…`"), Expanding), responses((status = 200, description = "It.", body = Contact), OneRefused))]
pub(super) async fn contact(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(expanding): Query<Expanding>,
) -> Result<axum::Json<Contact>, Refused> {
    let expand = Expand::read(expanding.expand.as_deref(), &expand::CONTACT)?;
    let found = oncehub.consumer(&caller, &id).await?.ok_or_else(|| Refused::no_such("contact", &id))?;
    Ok(axum::Json(oncehub.scene(&caller).contact_of(&found, &expand).await?))
}

/// Contacts, in an order that stays.
#[utoipa::path(get, path = "/v2/contacts", operation_id = "contacts_list", tag = "people", params(Paging, Expanding),
    responses((status = 200, description = "A page of them.", body = List<Contact>), ListRefused, super::openapi::Forbidden))]
pub(super) async fn contacts(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    Extension(asked): Extension<Asked>,
    Query(paging): Query<Paging>,
    Query(expanding): Query<Expanding>,
) -> Result<Answer<Contact>, Refused> {
    // An agent knows those with whom it has a conversation, and finds them there.
    caller.may_manage()?;
    let (limit, from) = paging.read()?;
    let expand = Expand::read(expanding.expand.as_deref(), &expand::CONTACT)?;
    let at = match &from {
        From::Start => None,
        From::After(id) | From::Before(id) => Some(oncehub.consumer(&caller, id).await?.ok_or_else(|| no_such_cursor(&from))?.id),
    };
    let mut found = match (&from, at) {
        (From::Before(_), Some(at)) => oncehub.gateway.consumers_before(caller.actor(), at, limit + 1).await?,
        (_, at) => oncehub.gateway.consumers(caller.actor(), ConsumersBy::Account, at, limit + 1).await?,
    };
    if matches!(from, From::Before(_)) {
        found.reverse();
    }
    let Page { data, next, previous, is_back } = Page::of(found, limit, &from, |one| contact_id(&one.id));
    let scene = oncehub.scene(&caller);
    let mut shown = Vec::with_capacity(data.len());
    for one in &data {
        shown.push(scene.contact_of(one, &expand).await?);
    }
    Ok(Answer { page: Page { data: shown, next, previous, is_back }, limit, asked })
}

/// One user.
#[utoipa::path(get, path = "/v2/users/{id}", operation_id = "users_get", tag = "people",
    params(("id" = String, Path, description = "`USR-…`"), Expanding),
    responses((status = 200, description = "It.", body = User), OneRefused))]
pub(super) async fn user(
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(expanding): Query<Expanding>,
) -> Result<axum::Json<User>, Refused> {
    Expand::read(expanding.expand.as_deref(), &[])?;
    let account = caller.account();
    let pid = unprefixed("USR-", &id).map(|uuid| uuid.to_string());
    let found = pid.and_then(|pid| account.agent(&pid)).ok_or_else(|| Refused::no_such("user", &id))?;
    Ok(axum::Json(object::user(account, found)))
}

/// Users, by their numbers.
#[utoipa::path(get, path = "/v2/users", operation_id = "users_list", tag = "people", params(Paging, Expanding),
    responses((status = 200, description = "A page of them.", body = List<User>), ListRefused))]
pub(super) async fn users(
    Extension(caller): Extension<Caller>,
    Extension(asked): Extension<Asked>,
    Query(paging): Query<Paging>,
    Query(expanding): Query<Expanding>,
) -> Result<Answer<User>, Refused> {
    let (limit, from) = paging.read()?;
    Expand::read(expanding.expand.as_deref(), &[])?;
    let account = caller.account();
    let page = Page::cut(account.agents(), limit, &from, |agent| user_id(agent.pid.as_str()))?;
    Ok(Answer { page: page.map(|agent| object::user(account, agent)), limit, asked })
}
