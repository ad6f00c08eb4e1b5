//! Activities that are read.

use super::Hubster;
use super::caller::{Caller, Id, Origin};
use super::error::{Code, Fault};
use super::object::Activity;
use super::openapi::ActivitiesRefused;
use crate::domain::{Message, Millis, Person};
use crate::things::IntegrationKind;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName};
use axum::{Extension, Json};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Most activities of one answer; the next one goes on behind the last of them.
const MOST: usize = 1_000;

/// Most parts of a conversation that are looked through for one answer, of a thousand events each.
const MOST_PARTS: usize = 20;

/// The `eventId` up to which an answer goes, where that is not the conversation's end and no activity says it.
pub(super) const NEXT: HeaderName = HeaderName::from_static("x-next-leid");

/// Which activities.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `Customer`, `Agent` or `Bot`: activities of which either end is such.
    #[param(required = true)]
    r#type: Option<String>,
    /// The `eventId` behind which they begin; 0, if it is left out.
    leid: Option<String>,
}

impl Which {
    fn read(&self) -> Result<(IntegrationKind, Millis), Fault> {
        let kind = match self.r#type.as_deref().map(str::to_lowercase).as_deref() {
            None | Some("") => return Err(Fault::new(Code::ParameterMissing, "Query parameter 'type' is required.")),
            Some("customer") => IntegrationKind::Customer,
            Some("agent") => IntegrationKind::Agent,
            Some("bot") => IntegrationKind::Bot,
            Some(_) => return Err(Fault::new(Code::Unsupported, "Query parameter 'type' must be Customer, Agent or Bot.")),
        };
        let after = match self.leid.as_deref().map(str::trim) {
            None | Some("") => 0,
            Some(text) => {
                let wrong = || Fault::new(Code::BadFormat, "Query parameter 'leid' must be an eventId: milliseconds since 1970.");
                text.parse().map_err(|_| wrong())?
            }
        };
        match after {
            0.. => Ok((kind, after)),
            _ => Err(Fault::new(Code::OutOfRange, "Query parameter 'leid' must be at least 0.")),
        }
    }
}

/// What was said in a conversation behind an event, the oldest first; at most 1,000 activities. The next call goes on behind the last
/// of them, or behind `X-Next-Leid`, if the answer has that.
#[utoipa::path(get, path = "/api/v1/interactions/activities/{conversationId}", operation_id = "listActivities", tag = "activities",
    params(("conversationId" = String, Path, description = "A GUID; anything else is no conversation."), Which),
    responses((status = 200, description = "They.", body = Vec<Activity>,
        headers(("X-Next-Leid" = Option<i64>, description = "If it looked through many of other kinds, and is not at the end: the `eventId` behind which to go on."))),
        ActivitiesRefused))]
pub(super) async fn activities(
    State(hubster): State<Arc<Hubster>>,
    Extension(caller): Extension<Caller>,
    Extension(Origin(origin)): Extension<Origin>,
    Id(id): Id,
    Query(which): Query<Which>,
) -> Result<(HeaderMap, Json<Vec<Activity>>), Fault> {
    let (kind, after) = which.read()?;
    let known = caller.conversation(&hubster.gateway, &id).await?;
    let scene = hubster.scene(&caller.account, &origin);
    // What a customer says goes to all who answer in the hub.
    let hears_customers = kind == IntegrationKind::Customer || scene.has(known.integration.thing.hub, kind);
    let is_wanted = |message: &Message| match message.from {
        Person::Consumer(_) => hears_customers,
        Person::Agent { .. } => kind == IntegrationKind::Customer || scene.sender(&known, (&message.from, message.role)).kind == kind,
    };
    let to = (kind != IntegrationKind::Customer).then_some(kind);
    let (mut shown, mut parts) = (Vec::new(), 0);
    let mut from = hubster.gateway.first_after(&known.conversation, after).await?;
    while let Some(some) = hubster.gateway.said_from(&known.conversation, from).await? {
        from = some.next;
        for sight in some.said.iter().filter(|sight| sight.message().is_some_and(is_wanted)) {
            shown.extend(scene.activity(&known, sight, to));
            if shown.len() >= MOST {
                return Ok((HeaderMap::new(), Json(shown)));
            }
        }
        parts += 1;
        if parts == MOST_PARTS && from < known.conversation.next[0] {
            return Ok((HeaderMap::from_iter([(NEXT, some.at.into())]), Json(shown)));
        }
    }
    Ok((HeaderMap::new(), Json(shown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_read_or_refused() {
        let read = |kind: Option<&str>, leid: Option<&str>| Which { r#type: kind.map(str::to_owned), leid: leid.map(str::to_owned) }.read();
        assert_eq!(read(Some("AGENT"), None), Ok((IntegrationKind::Agent, 0)));
        assert_eq!(read(Some("Bot"), Some("1795170547511")), Ok((IntegrationKind::Bot, 1_795_170_547_511)));
        for (kind, leid, number) in [
            (None, None, 200),
            (Some(""), None, 200),
            (Some("System"), None, 206),
            (Some("bot"), Some("x"), 201),
            (Some("bot"), Some("-1"), 212),
        ] {
            let said = format!("{:?}", read(kind, leid).unwrap_err());
            assert!(said.contains(&format!("code: {number},")), "{said}");
        }
    }
}
