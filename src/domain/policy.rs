//! What an account has decided beforehand: how offers are made, what is asked after a conversation, when it is closed.

use super::Millis;
use super::people::Person;
use serde_json::json;
use serde_json::value::RawValue;
use tieline_protocol::ids::{ParticipantId, QueueId, UserId};

/// An account's policy. Rules look at it as they look at the clock: it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// As whom the gateway itself appears.
    pub bot: Person,
    /// How long an offer stands.
    pub ring: Millis,
    /// How long an agent who did not take an offer is not asked again.
    pub refusal: Millis,
    /// How long nobody may write before a conversation is closed.
    pub silence: Option<Millis>,
    /// How long a consumer may be silent before a conversation counts as abandoned.
    pub patience: Option<Millis>,
    /// What a consumer is told behind its first message.
    pub welcome: Option<String>,
    /// What a consumer is asked when the conversation is closed.
    pub survey: Option<Survey>,
}

impl Default for Policy {
    /// As the shipped configuration has it, without anything that is off there.
    fn default() -> Self {
        Self {
            bot: Person::Agent { user: UserId::from("0"), pid: ParticipantId::from("00000000-0000-8000-8000-000000000000") },
            ring: 72_000,
            refusal: 120_000,
            silence: None,
            patience: None,
            welcome: None,
            survey: None,
        }
    }
}

/// How soon after opening a consumer must write to be welcomed.
pub(super) const WELCOME_WITHIN: Millis = 10_000;

/// Questions behind a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Conversations of which queues; all, if empty.
    pub queues: Vec<QueueId>,
    /// How long the consumer has.
    pub time: Millis,
    /// The questions, in order; at least one.
    pub questions: Vec<Question>,
    /// What is said at the end.
    pub thanks: Option<String>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its name, shown in the metadata of question and answer.
    pub id: String,
    /// What is asked.
    pub text: String,
    /// What counts as an answer.
    pub kind: QuestionKind,
}

/// What counts as an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuestionKind {
    /// A number from 1 to 5; it becomes the conversation's rating.
    Csat,
    /// Yes or no; it becomes the rating's "is the matter settled".
    Resolved,
    /// One of these.
    Choice(Vec<String>),
    /// Anything.
    Text,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Rating(u8),
    Resolved(bool),
    Other,
}

impl Question {
    fn choices(&self) -> Vec<String> {
        match &self.kind {
            QuestionKind::Csat => (1..=5).map(|rate| rate.to_string()).collect(),
            QuestionKind::Resolved => vec!["Yes".into(), "No".into()],
            QuestionKind::Choice(choices) => choices.clone(),
            QuestionKind::Text => Vec::new(),
        }
    }

    /// The question as an event, with a button for each answer where there are few.
    pub(super) fn event(&self) -> Box<RawValue> {
        let mut event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": self.text});
        let buttons: Vec<_> = self
            .choices()
            .into_iter()
            .map(|choice| {
                let metadata = json!([{"type": "Answer", "questionId": self.id, "id": choice}]);
                let click = json!({"actions": [{"type": "publishText", "text": choice}], "metadata": metadata});
                json!({"type": "button", "title": choice, "tooltip": choice, "click": click})
            })
            .collect();
        if !buttons.is_empty() {
            event["quickReplies"] = json!({"type": "quickReplies", "itemsPerRow": 8, "replies": buttons});
        }
        raw(&event)
    }

    pub(super) fn metadata(&self) -> Box<RawValue> {
        raw(&json!([{"type": "Question", "questionId": self.id}]))
    }

    /// What a text answers; nothing, if it is no answer to this question.
    pub(super) fn answer(&self, text: &str) -> Option<Answer> {
        let text = text.trim();
        match &self.kind {
            QuestionKind::Csat => text.parse().ok().filter(|rate| (1..=5).contains(rate)).map(Answer::Rating),
            QuestionKind::Resolved if text.eq_ignore_ascii_case("yes") => Some(Answer::Resolved(true)),
            QuestionKind::Resolved if text.eq_ignore_ascii_case("no") => Some(Answer::Resolved(false)),
            QuestionKind::Resolved => None,
            QuestionKind::Choice(choices) => choices.iter().any(|choice| choice.eq_ignore_ascii_case(text)).then_some(Answer::Other),
            QuestionKind::Text => (!text.is_empty()).then_some(Answer::Other),
        }
    }
}

/// A text of the gateway's own as an event.
pub(super) fn text_event(text: &str) -> Box<RawValue> {
    raw(&json!({"type": "ContentEvent", "contentType": "text/plain", "message": text}))
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    // What was just made of JSON values is JSON.
    serde_json::value::to_raw_value(value).unwrap_or_default()
}
