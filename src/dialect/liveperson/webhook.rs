//! What webhooks carry: notifications as a v3 socket shows them, without what belongs to a subscription.

use super::render;
use super::render::Side;
use crate::delivery::{EventKey, Made, Render, Rendered};
use crate::domain::{Conversation, Message, Millis, Sight};
use crate::hub::Typing;
use crate::store::ReadError;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::value::RawValue;
use tieline_protocol::event::EventClass;
use tieline_protocol::kind::{Version, conversations_notification, events_notification};
use tieline_protocol::notify::{Changes, ConversationChange, EventChange};
use tieline_protocol::webhook;

/// Renders webhooks in this dialect. Notes between agents are among them, marked by their `messageAudience`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Webhooks;

fn event(change: EventChange<'_>) -> Vec<u8> {
    body(events_notification(Version::V3), None, change)
}

fn body<C: Serialize>(name: &str, sent_ts: Option<Millis>, change: C) -> Vec<u8> {
    let body = Changes { subscription_id: None, sent_ts, dialog_id: None, cursor: None, changes: vec![change] };
    render::notification(name, body).as_bytes().to_vec()
}

fn key(message: &Message) -> EventKey {
    EventKey(match message.class {
        EventClass::Content => webhook::CONTENT,
        EventClass::Rich => webhook::RICH,
        EventClass::Receipt => webhook::RECEIPT,
    })
}

/// What is posted of an entry.
fn rendered(now: Millis, sight: &Sight, conversation: Option<&Conversation>) -> Option<Rendered> {
    if let Some(message) = sight.message() {
        return render::with_event(Version::V3, sight, event).map(|body| (key(message), body));
    }
    if !sight.entry.changes_what_is_shown() {
        return None;
    }
    let shown = render::conversation(Version::V3, Side::Consumer, conversation?);
    // It is JSON that we wrote ourselves.
    let result: &RawValue = serde_json::from_str(shown.as_str()).ok()?;
    let change = ConversationChange { kind: "UPSERT", result };
    Some((EventKey(webhook::CONVERSATION), body(conversations_notification(Version::V3), Some(now), change)))
}

impl Render for Webhooks {
    fn key(&self, sight: &Sight) -> Option<EventKey> {
        match sight.message() {
            Some(message) => Some(key(message)),
            None => sight.entry.changes_what_is_shown().then_some(EventKey(webhook::CONVERSATION)),
        }
    }

    fn entry<'r>(
        &'r self,
        now: Millis,
        _: &'r str,
        sight: &'r Sight,
        conversation: Option<&'r Conversation>,
    ) -> BoxFuture<'r, Result<Made, ReadError>> {
        Box::pin(std::future::ready(Ok(rendered(now, sight, conversation).map_or(Made::Lost, Made::This))))
    }

    fn typing(&self, typing: &Typing) -> Option<Rendered> {
        Some((EventKey(webhook::TYPING), render::with_typing(Version::V3, typing, event)))
    }

    fn test(&self, now: Millis) -> Vec<u8> {
        // Of a type of ours: a receiver that looks into changes finds none to misread.
        let body = Changes::<()> { subscription_id: None, sent_ts: Some(now), dialog_id: None, cursor: None, changes: Vec::new() };
        render::notification("tieline.WebhookTest", body).as_bytes().to_vec()
    }
}
