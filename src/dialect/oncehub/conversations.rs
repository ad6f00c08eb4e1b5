//! Conversations, and the bookings that they name.

use super::error::Refused;
use super::expand::{self, Expand};
use super::list::{Answer, Asked, From, List, Page, Paging, no_such_cursor};
use super::object::{self, Booking, Conversation, Status, conversation_id, conversation_of};
use super::openapi::{ListRefused, OneRefused};
use super::{Caller, OnceHub};
use crate::domain::{self, Millis};
use crate::gateway;
use axum::extract::{Extension, Path, Query, State};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::sync::Arc;
use tieline_protocol::ids::ConsumerId;
use utoipa::IntoParams;

/// Conversations that are read at a time where only some are wanted.
const SOME: usize = 200;
/// Conversations that are looked at for one page: when none of them is wanted the page ends, and its link leads on.
const LOOKED_AT: usize = 20_000;

/// What is to be shown of references.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Expanding {
    /// References to be shown as objects: names with commas between them; one of a field of a referred object has that field's
    /// name and a dot in front. In lists a leading `data.` says no more.
    pub(super) expand: Option<String>,
}

/// Which conversations.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filters {
    /// Created later than this.
    #[serde(rename = "creation_time.gt")]
    #[param(rename = "creation_time.gt")]
    created_after: Option<String>,
    /// Created earlier than this.
    #[serde(rename = "creation_time.lt")]
    #[param(rename = "creation_time.lt")]
    created_before: Option<String>,
    /// Last changed later than this.
    #[serde(rename = "last_updated_time.gt")]
    #[param(rename = "last_updated_time.gt")]
    updated_after: Option<String>,
    /// Last changed earlier than this.
    #[serde(rename = "last_updated_time.lt")]
    #[param(rename = "last_updated_time.lt")]
    updated_before: Option<String>,
    /// `started`, `closed` or `abandoned`.
    status: Option<String>,
    /// The id of the user who answers.
    owner: Option<String>,
    /// The id of the contact.
    contact: Option<String>,
    /// The id of the website.
    website: Option<String>,
    /// The id of the bot.
    bot: Option<String>,
}

/// The same, understood.
#[derive(Debug, Default)]
struct Wanted {
    created: Span,
    updated: Span,
    status: Option<Status>,
    owner: Option<String>,
    contact: Option<String>,
    website: Option<String>,
    bot: Option<String>,
}

/// What lies between two times, neither included.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    after: Option<Millis>,
    before: Option<Millis>,
}

impl Span {
    fn read(after: Option<&str>, before: Option<&str>, names: [&'static str; 2]) -> Result<Self, Refused> {
        let read = |text: Option<&str>, name| text.map(|text| date(text).ok_or_else(|| bad_date(name))).transpose();
        let span = Self { after: read(after, names[0])?, before: read(before, names[1])? };
        match span {
            Self { after: Some(after), before: Some(before) } if after > before => {
                Err(Refused::param(names[0], format!("{} is later than {}", names[0], names[1])))
            }
            _ => Ok(span),
        }
    }

    fn has(self, at: Millis) -> bool {
        self.after.is_none_or(|after| at > after) && self.before.is_none_or(|before| at < before)
    }
}

fn bad_date(param: &'static str) -> Refused {
    Refused::param(param, format!("{param} must be a date, such as 2024-02-01T10:00:00Z"))
}

/// A time with its offset, or a day, which begins at midnight UTC.
fn date(text: &str) -> Option<Millis> {
    // In a query a plus means a space.
    let text = text.trim().replace(' ', "+");
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    let day: Date = text.parse().ok().filter(|_| text.len() == "2024-02-01".len())?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// An id with a prefix. Whether something has it is not asked: nothing that has not is in any list.
fn id(given: Option<&str>, param: &'static str, prefix: &str) -> Result<Option<String>, Refused> {
    match given {
        Some(id)
            if id.strip_prefix(prefix).is_none_or(|rest| rest.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric())) =>
        {
            Err(Refused::param(param, format!("{param} must be an id that begins with {prefix}")))
        }
        id => Ok(id.map(str::to_owned)),
    }
}

impl Filters {
    fn read(&self) -> Result<Wanted, Refused> {
        let text = |given: &Option<String>| given.as_deref().map(str::to_owned);
        let status = match self.status.as_deref() {
            None => None,
            Some("started") => Some(Status::Started),
            Some("closed") => Some(Status::Closed),
            Some("abandoned") => Some(Status::Abandoned),
            Some(_) => return Err(Refused::param("status", "status is started, closed or abandoned")),
        };
        let span =
            |after: &Option<String>, before: &Option<String>, names| Span::read(text(after).as_deref(), text(before).as_deref(), names);
        Ok(Wanted {
            created: span(&self.created_after, &self.created_before, ["creation_time.gt", "creation_time.lt"])?,
            updated: span(&self.updated_after, &self.updated_before, ["last_updated_time.gt", "last_updated_time.lt"])?,
            status,
            owner: id(self.owner.as_deref(), "owner", "USR-")?,
            contact: id(self.contact.as_deref(), "contact", "CTC-")?,
            website: id(self.website.as_deref(), "website", "WEB-")?,
            bot: id(self.bot.as_deref(), "bot", "BOT-")?,
        })
    }
}

impl Wanted {
    /// Whether all are wanted.
    fn is_all(&self) -> bool {
        let Self { created, updated, status, owner, contact, website, bot } = self;
        let times = [created.after, created.before, updated.after, updated.before];
        times.iter().all(Option::is_none) && status.is_none() && [owner, contact, website, bot].iter().all(|id| id.is_none())
    }

    fn has(&self, conversation: &domain::Conversation) -> bool {
        let details = &conversation.details;
        let facts = details.facts();
        let is = |wanted: &Option<String>, shown: &dyn Fn() -> Option<String>| wanted.is_none() || *wanted == shown();
        object::is_one(conversation)
            && self.created.has(details.started)
            && self.updated.has(object::last_updated(conversation))
            && self.status.is_none_or(|status| status == object::status(conversation))
            && is(&self.owner, &|| details.assignee().map(|one| object::user_id(one.person.public_id())))
            && is(&self.contact, &|| Some(object::contact_id(&details.consumer)))
            && is(&self.website, &|| facts.website.as_ref().map(|id| object::thing_id("WEB-", id)))
            && is(&self.bot, &|| facts.bot.as_ref().map(|id| object::thing_id("BOT-", id)))
    }

    /// Whether none that was opened before this one is wanted. One that was written down later than it began says nothing of those.
    fn ends_at(&self, conversation: &domain::Conversation) -> bool {
        let is_as_old = conversation.details.origin.as_ref().is_none_or(|origin| origin.began.is_none());
        is_as_old && self.created.after.is_some_and(|after| conversation.details.started <= after)
    }
}

/// Where conversations are looked for.
enum Among {
    All,
    /// Those of a consumer.
    Of(ConsumerId),
    Nothing,
}

impl OnceHub {
    /// The next conversations from a number on, in the direction of travel.
    async fn some(
        &self,
        caller: &Caller,
        among: &Among,
        between: (i64, i64),
        is_up: bool,
        limit: usize,
    ) -> Result<Vec<domain::Conversation>, Refused> {
        match among {
            Among::All => Ok(self.gateway.by_number(caller.actor(), between, is_up, limit).await?),
            Among::Of(consumer) => Ok(self.gateway.of_consumer(caller.actor(), consumer, between, is_up, limit).await?),
            Among::Nothing => Ok(Vec::new()),
        }
    }

    async fn among(&self, caller: &Caller, wanted: &Wanted) -> Result<Among, Refused> {
        let Some(contact) = &wanted.contact else { return Ok(Among::All) };
        Ok(self.consumer(caller, contact).await?.map_or(Among::Nothing, |consumer| Among::Of(consumer.id)))
    }

    /// The number of a conversation that a page begins at.
    async fn number(&self, caller: &Caller, id: &str, from: &From) -> Result<i64, Refused> {
        let id = conversation_of(id).ok_or_else(|| no_such_cursor(from))?;
        match self.gateway.conversation(caller.actor(), &id).await {
            Ok(found) => Ok(found.details.number),
            Err(error) if error.is_no_such_conversation() => Err(no_such_cursor(from)),
            Err(error) => Err(error.into()),
        }
    }

    async fn page(&self, caller: &Caller, wanted: &Wanted, limit: usize, from: &From) -> Result<Page<domain::Conversation>, Refused> {
        let among = self.among(caller, wanted).await?;
        let (mut between, is_up) = match from {
            From::Start => ((0, i64::MAX), false),
            From::After(id) => ((0, self.number(caller, id, from).await?), false),
            From::Before(id) => ((self.number(caller, id, from).await?, i64::MAX), true),
        };
        // Where all are wanted few are left out.
        let step = if wanted.is_all() { limit + 1 } else { (limit + 1).max(SOME) };
        let (mut found, mut looked_at, mut last) = (Vec::new(), 0, None);
        while found.len() <= limit && looked_at < LOOKED_AT {
            let some = self.some(caller, &among, between, is_up, step).await?;
            let is_end = some.len() < step;
            looked_at += some.len();
            for one in some {
                if is_up {
                    between.0 = one.details.number
                } else {
                    between.1 = one.details.number
                }
                last = Some(conversation_id(&one.details.id));
                let ends = !is_up && wanted.ends_at(&one);
                if !ends && found.len() <= limit && wanted.has(&one) {
                    found.push(one);
                }
                if ends {
                    return Ok(Page::of(found, limit, from, |one| conversation_id(&one.details.id)));
                }
            }
            if is_end {
                last = None;
                break;
            }
        }
        // A page that was cut leads on from what was looked at last, be it that it is not in the list.
        let is_cut = found.len() <= limit;
        let mut page = Page::of(found, limit, from, |one: &domain::Conversation| conversation_id(&one.details.id));
        if is_cut && last.is_some() {
            *(if is_up { &mut page.previous } else { &mut page.next }) = last;
        }
        Ok(page)
    }
}

/// One conversation.
#[utoipa::path(get, path = "/v2/conversations/{id}", operation_id = "conversations_get", tag = "conversations",
    params(("id" = String, Path, description = "`CVR-…`"), Expanding),
    responses((status = 200, description = "It.", body = Conversation), OneRefused))]
pub(super) async fn one(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(expanding): Query<Expanding>,
) -> Result<axum::Json<Conversation>, Refused> {
    let expand = Expand::read(expanding.expand.as_deref(), &expand::CONVERSATION)?;
    let no_such = || Refused::no_such("conversation", &id);
    let own = conversation_of(&id).ok_or_else(no_such)?;
    let found = oncehub.gateway.conversation(caller.actor(), &own).await;
    let found = found.map_err(|error: gateway::Error| if error.is_no_such_conversation() { no_such() } else { error.into() })?;
    if !object::is_one(&found) {
        return Err(no_such());
    }
    Ok(axum::Json(oncehub.scene(&caller).conversation(&found, &expand).await?))
}

/// Conversations, the newest first.
#[utoipa::path(get, path = "/v2/conversations", operation_id = "conversations_list", tag = "conversations",
    params(Paging, Filters, Expanding), responses((status = 200, description = "A page of them.", body = List<Conversation>), ListRefused))]
pub(super) async fn list(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    Extension(asked): Extension<Asked>,
    Query(paging): Query<Paging>,
    Query(filters): Query<Filters>,
    Query(expanding): Query<Expanding>,
) -> Result<Answer<Conversation>, Refused> {
    let (limit, from) = paging.read()?;
    let wanted = filters.read()?;
    let expand = Expand::read(expanding.expand.as_deref(), &expand::CONVERSATION)?;
    let Page { data, next, previous, is_back } = oncehub.page(&caller, &wanted, limit, &from).await?;
    let scene = oncehub.scene(&caller);
    let mut shown = Vec::with_capacity(data.len());
    for one in &data {
        shown.push(scene.conversation(one, &expand).await?);
    }
    Ok(Answer { page: Page { data: shown, next, previous, is_back }, limit, asked })
}

/// A booking, as far as it is known: by the conversation that names it.
#[utoipa::path(get, path = "/v2/bookings/{id}", operation_id = "bookings_get", tag = "conversations",
    params(("id" = String, Path, description = "As the booking system gave it, such as `BKNG-…`"), Expanding),
    responses((status = 200, description = "It.", body = Booking), OneRefused))]
pub(super) async fn booking(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(expanding): Query<Expanding>,
) -> Result<axum::Json<Booking>, Refused> {
    let expand = Expand::read(expanding.expand.as_deref(), &expand::BOOKING)?;
    let found = oncehub.gateway.booked(caller.actor(), &id).await?.ok_or_else(|| Refused::no_such("booking", &id))?;
    Ok(axum::Json(oncehub.scene(&caller).booking(&id, &found, &expand).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_time_with_its_offset_or_a_day() {
        let ten = Some(1_706_781_600_000);
        for text in ["2024-02-01T10:00:00Z", "2024-02-01T10:00:00.000Z", "2024-02-01T11:00:00+01:00", "2024-02-01T11:00:00 01:00"] {
            assert_eq!(date(text), ten, "{text}");
        }
        assert_eq!(date("2024-02-01"), Some(1_706_745_600_000));
        for text in ["", "yesterday", "2024-02-30", "2024-02-01T10:00:00", "1706781600", "2024-02"] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn filters_say_which_of_them_is_wrong() {
        let refused = |filters: Filters| format!("{:?}", filters.read().unwrap_err());
        let text = |text: &str| Some(text.to_owned());
        for (filters, param) in [
            (Filters { created_after: text("x"), ..Default::default() }, "creation_time.gt"),
            (Filters { updated_before: text("x"), ..Default::default() }, "last_updated_time.lt"),
            (Filters { created_after: text("2024-02-02"), created_before: text("2024-02-01"), ..Default::default() }, "creation_time.gt"),
            (Filters { status: text("open"), ..Default::default() }, "status"),
            (Filters { owner: text("CTC-1"), ..Default::default() }, "owner"),
            (Filters { bot: text("BOT-"), ..Default::default() }, "bot"),
        ] {
            let refused = refused(filters);
            assert!(refused.contains(&format!("param: Some(\"{param}\")")), "{refused}");
        }
        assert!(Filters::default().read().unwrap().is_all());
        assert!(!Filters { website: text("WEB-1"), ..Default::default() }.read().unwrap().is_all());
    }
}
