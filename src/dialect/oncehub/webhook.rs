//! What webhooks carry: the conversation as it is now, its references expanded, with the status that the event says.

use super::super::ids::prefixed;
use super::expand::Expand;
use super::object::{self, Conversation, Scene, time};
use crate::delivery::{EventKey, Made, Manner, Render, Rendered};
use crate::domain::{self, Change, Entry, Millis, Sight};
use crate::gateway::{Gateway, derived_uuid};
use crate::hub::Typing;
use crate::store::ReadError;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// The visitor has said something for the first time.
const STARTED: &str = "conversation.started";
/// It came to its end.
const CLOSED: &str = "conversation.closed";
/// The visitor was silent for too long.
const ABANDONED: &str = "conversation.abandoned";

/// Each of them.
pub(super) const EVENTS: [&str; 3] = [STARTED, CLOSED, ABANDONED];
/// All of them.
pub(super) const CONVERSATION: &str = "conversation";

/// What is posted.
#[derive(Debug, Serialize)]
struct Event {
    id: String,
    object: &'static str,
    creation_time: String,
    r#type: &'static str,
    api_version: &'static str,
    data: Conversation,
}

/// Renders webhooks in this dialect.
#[derive(Debug)]
pub(super) struct Told(pub(super) Arc<Gateway>);

/// The event that an entry is.
fn event(sight: &Sight) -> Option<(&'static str, object::Status)> {
    match &sight.entry {
        Entry::Published(message) => message.begins.then_some((STARTED, object::Status::Started)),
        Entry::Changed { changes, .. } => changes.iter().find_map(|change| match change {
            Change::Closed { .. } => Some((CLOSED, object::Status::Closed)),
            Change::Abandoned => Some((ABANDONED, object::Status::Abandoned)),
            _ => None,
        }),
        _ => None,
    }
}

fn event_id(id: &str) -> String {
    prefixed("EVNT-", derived_uuid(&["oncehub event", id]))
}

impl Told {
    async fn made(&self, id: &str, sight: &Sight, conversation: Option<&domain::Conversation>) -> Result<Made, ReadError> {
        let (Some((name, status)), Some(conversation)) = (event(sight), conversation) else { return Ok(Made::Lost) };
        let Some(account) = self.0.identity().directory().account(sight.account.as_str()) else { return Ok(Made::Lost) };
        // What was abandoned has come to its end already, and what nobody has answered is no conversation.
        let is_over = name == CLOSED && conversation.details.abandoned.is_some();
        if is_over || !object::is_one(conversation) {
            return Ok(Made::Untold);
        }
        let scene = Scene { gateway: &self.0, account: &account, actor: &account.system() };
        let expand = Expand::of(&["contact", "owner", "bot", "website", "audience"]);
        // What cannot be shown now may be later: only reads of the store fail here.
        let data = scene.conversation(conversation, &expand).await.map_err(|_| ReadError)?.with(status);
        let creation_time = time(sight.at);
        let event = Event { id: event_id(id), object: "event", creation_time, r#type: name, api_version: "v2", data };
        Ok(serde_json::to_vec(&event).map_or(Made::Lost, |body| Made::This((EventKey(name), body))))
    }
}

impl Render for Told {
    fn manner(&self) -> Manner {
        Manner::OnceHub
    }

    fn key(&self, sight: &Sight) -> Option<EventKey> {
        event(sight).map(|(name, _)| EventKey(name))
    }

    fn entry<'r>(
        &'r self,
        _: Millis,
        id: &'r str,
        sight: &'r Sight,
        conversation: Option<&'r domain::Conversation>,
    ) -> BoxFuture<'r, Result<Made, ReadError>> {
        Box::pin(self.made(id, sight, conversation))
    }

    fn typing(&self, _: &Typing) -> Option<Rendered> {
        None
    }

    fn test(&self, now: Millis) -> Vec<u8> {
        // Of a type of ours: a receiver that knows the others finds none to misread.
        json!({"id": event_id("test"), "object": "event", "creation_time": time(now), "type": "tieline.test", "api_version": "v2", "data": null})
            .to_string()
            .into_bytes()
    }
}
