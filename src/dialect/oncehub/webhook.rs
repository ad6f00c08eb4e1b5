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
        // An account that a reload took away may come back: until then what is owed to it waits.
        let Some(account) = self.0.identity().directory().account(sight.account.as_str()) else { return Err(ReadError) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;
    use crate::config::Config;
    use crate::domain::{Actor, fixtures};
    use crate::gateway::Request;
    use crate::store::Range;

    #[tokio::test]
    async fn what_is_owed_to_an_account_that_is_gone_waits_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let set = |name: &str, value: String| (format!("TIELINE__SERVER__{name}"), value);
        let settings = [set("DATA_DIR", dir.path().display().to_string()), set("LISTEN", "127.0.0.1:0".into())];
        let config = Config::from_parts(Some(("test", "[[accounts]]\nid = \"there\"\n")), settings).unwrap();
        let server = Server::bind(config).await.unwrap();
        let gateway = server.gateway();
        let ann = Actor::Consumer { account: "gone".into(), id: "ann".into(), app: None, was: None };
        let commands = vec![fixtures::open("c"), fixtures::publish("c", "hello")];
        gateway.submit(Request { actor: ann, commands, key: None, resend: None }).await.unwrap();
        let conversation = gateway.store().conversation("c".into()).await.unwrap().unwrap();
        let dialog = conversation.details.id.main_dialog();
        let sights = gateway.store().events(dialog, Range::Forward { from: 0, to: 0, limit: 1 }).await.unwrap();
        assert!(event(&sights[0]).is_some(), "something is told of it");
        let made = Told(gateway).made("id", &sights[0], Some(&conversation)).await;
        assert!(matches!(made, Err(ReadError)), "{made:?}");
    }
}
