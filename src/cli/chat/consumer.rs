//! The consumer's end.

use super::screen::{Screen, Who};
use super::seen::Seen;
use super::{ask_once, follow};
use crate::cli::link::Link;
use serde_json::{Value, json};

pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) link: Link,
    account: String,
    queue: Option<String>,
    connection: u64,
    seen: Option<Seen>,
}

impl Consumer {
    pub(super) fn new(name: String, link: Link, account: String, conversation: Option<String>, queue: Option<String>) -> Self {
        Self { name, link, account, queue, connection: 0, seen: conversation.as_deref().map(Seen::new) }
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection > 0
    }

    /// A new connection: everything is followed on from where it was.
    pub(super) fn up(&mut self, connection: u64) {
        self.connection = connection;
        self.subscribe();
    }

    fn subscribe(&self) {
        let Some(seen) = &self.seen else { return };
        for (dialog, next) in &seen.next {
            follow(&self.link, self.connection, &seen.id, dialog, *next);
        }
        ask_once(&self.link, self.connection, "cqm.SubscribeExConversations", &json!({"conversationId": seen.id}));
    }

    pub(super) fn told(&mut self, frame: &Value, screen: &Screen) {
        let Some(seen) = &mut self.seen else { return };
        let mut survey = None;
        for change in frame["body"]["changes"].as_array().into_iter().flatten() {
            if frame["type"] == "ms.MessagingEventNotification" {
                if change["conversationId"] == seen.id.as_str() && seen.is_new(change) {
                    screen.say(Who::Consumer, &self.name, &screen.event(change));
                }
            } else if change["result"]["convId"] == seen.id.as_str() {
                for line in seen.change(&change["result"]["conversationDetails"], screen) {
                    screen.say(Who::Consumer, &self.name, &line);
                }
                survey = seen.survey.clone().filter(|dialog| !seen.next.contains_key(dialog));
            }
        }
        if let Some(dialog) = survey {
            seen.next.insert(dialog.clone(), 0);
            follow(&self.link, self.connection, &seen.id, &dialog, 0);
        }
    }

    /// Whether what is said next needs a new conversation.
    pub(super) fn must_open(&self) -> bool {
        self.seen.as_ref().is_none_or(|seen| seen.survey.is_none() && seen.is_closed(&seen.id))
    }

    /// The profile, and the request for a conversation.
    pub(super) fn opening(&self) -> (Value, Value) {
        let mut opening = json!({"brandId": self.account});
        if let Some(queue) = &self.queue {
            opening["skillId"] = json!(queue);
        }
        (json!({"firstName": self.name}), opening)
    }

    pub(super) fn opened(&mut self, id: &str) {
        self.seen = Some(Seen::new(id));
        self.subscribe();
    }

    /// The conversation and the dialog to speak in.
    pub(super) fn target(&self) -> Option<(String, String)> {
        let seen = self.seen.as_ref().filter(|seen| !seen.is_over)?;
        Some((seen.id.clone(), seen.survey.clone().unwrap_or_else(|| seen.id.clone())))
    }

    pub(super) fn knows(&self, conversation: &str) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.id == conversation)
    }

    /// Whether a notification has shown the present conversation.
    pub(super) fn is_shown(&self) -> bool {
        self.seen.as_ref().is_some_and(Seen::is_shown)
    }

    /// The next number of a conversation's main dialog; 0 for another's.
    pub(super) fn next_of(&self, conversation: &str) -> u64 {
        self.seen.as_ref().and_then(|seen| seen.next.get(conversation)).copied().unwrap_or(0)
    }

    pub(super) fn is_with(&self, id: &str) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.is_with(id))
    }

    pub(super) fn is_closed(&self, dialog: &str) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.is_closed(dialog))
    }

    pub(super) fn has_seen(&self, dialog: &str, number: u64) -> bool {
        self.seen.as_ref().is_none_or(|seen| seen.has_seen(dialog, number))
    }

    pub(super) fn who(&self, screen: &Screen) {
        let line = self.seen.as_ref().map_or_else(
            || "no conversation yet".to_owned(),
            |seen| format!("{}{}: {}", seen.id, if seen.is_over { ", closed" } else { "" }, seen.people(screen)),
        );
        screen.say(Who::Consumer, &self.name, &line);
    }
}
