//! Where a conversation stands.

use super::ledger::Book;
use super::plan::{By, Conversation, Doing, Saying, Step};
use serde_json::Value;

/// Who is the assigned agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// One of ours, by its link.
    Ours(usize),
    /// Somebody at a desk.
    Person,
}

/// What is going on with the present step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing: it may begin when its turn comes.
    Idle,
    /// Somebody thinks, waits for the turn, types, or has asked.
    Busy,
    /// Left to another queue, which the conversation has not reached yet.
    Moving,
}

/// A conversation that is going on.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) plan: Conversation,
    /// Its id, once it is opened.
    pub(super) id: Option<String>,
    pub(super) at: usize,
    pub(super) progress: Progress,
    pub(super) holder: Holder,
    pub(super) queue: String,
    /// Offers so far.
    pub(super) offers: usize,
    /// A person has written since the consumer last did.
    pub(super) is_answered: bool,
    /// The main dialog is closed, or we are about to close it.
    pub(super) is_closed: bool,
    /// All of it is closed.
    pub(super) is_over: bool,
    /// A turn was taken, and what was to be said in it is not stored yet.
    pub(super) is_speaking: bool,
    /// Answers to a survey that were acked.
    pub(super) answers: usize,
    /// Requests that are not answered.
    pub(super) asked: usize,
    /// Its opening was refused, and is asked again with another token.
    pub(super) is_renewed: bool,
    pub(super) book: Book,
}

impl Talk {
    pub(super) fn new(plan: Conversation) -> Self {
        let queue = plan.queue.clone();
        Self {
            plan,
            id: None,
            at: 0,
            progress: Progress::Busy,
            holder: Holder::Nobody,
            queue,
            offers: 0,
            is_answered: false,
            is_closed: false,
            is_over: false,
            is_speaking: true,
            answers: 0,
            asked: 0,
            is_renewed: false,
            book: Book::default(),
        }
    }

    pub(super) fn step(&self) -> Option<&Step> {
        self.plan.steps.get(self.at)
    }

    /// Whether somebody should take it.
    pub(super) fn waits(&self) -> bool {
        !self.is_closed && self.holder == Holder::Nobody
    }

    /// The step that may begin now, and who does it: with a person at the other end the agent's steps fall away, and the
    /// consumer goes on whenever that person has written.
    pub(super) fn begin(&mut self) -> Option<(Step, By)> {
        if self.progress != Progress::Idle || self.is_closed || self.id.is_none() {
            return None;
        }
        let step = self.step()?;
        let by = match (step.by, self.holder) {
            (By::Consumer, _) => By::Consumer,
            (By::Agent, Holder::Ours(_)) => By::Agent,
            (By::Agent, Holder::Nobody | Holder::Person) if !self.is_answered => return None,
            (By::Agent, Holder::Nobody | Holder::Person) => {
                let next = |step: &Step| step.by == By::Consumer || step.doing == Doing::Close;
                self.at += self.plan.steps[self.at..].iter().position(next)?;
                self.is_answered = false;
                By::Consumer
            }
        };
        self.progress = Progress::Busy;
        Some((self.plan.steps[self.at].clone(), by))
    }

    /// Takes over what a notification shows; whether it was just closed.
    pub(super) fn change(&mut self, details: &Value, ours: impl Fn(&str) -> Option<usize>) -> bool {
        let queue = details["skillId"].as_str().unwrap_or_default();
        if self.queue != queue {
            queue.clone_into(&mut self.queue);
            if self.progress == Progress::Moving {
                self.progress = Progress::Idle;
                self.at += 1;
            }
        }
        let assigned = details["participants"].as_array().into_iter().flatten().find(|person| person["role"] == "ASSIGNED_AGENT");
        self.holder = match assigned.map(|person| person["id"].as_str().and_then(&ours)) {
            None => Holder::Nobody,
            Some(Some(link)) => Holder::Ours(link),
            Some(None) => Holder::Person,
        };
        self.is_closed |= details["state"] == "CLOSE";
        let was_over = std::mem::replace(&mut self.is_over, details["stage"] == "CLOSE");
        self.is_over && !was_over
    }

    /// Whether nothing more can come of it.
    pub(super) fn is_done(&self) -> bool {
        self.is_over && self.asked == 0 && self.book.is_settled()
    }
}

impl Saying {
    /// What is published; a picture's once it is put where this path leads.
    pub(super) fn event(&self, path: Option<&str>) -> Value {
        use serde_json::json;
        match self {
            Self::Text(text) => json!({"type": "ContentEvent", "contentType": "text/plain", "message": text}),
            Self::Photo { caption, .. } => {
                let file = json!({"relativePath": path, "fileType": "PNG", "caption": caption});
                json!({"type": "ContentEvent", "contentType": "hosted/file", "message": file})
            }
            Self::Card { title, button } => {
                let action = json!({"type": "publishText", "text": button});
                let elements = json!([
                    {"type": "text", "text": title, "tooltip": title},
                    {"type": "button", "title": button, "tooltip": button, "click": {"actions": [action]}},
                ]);
                json!({"type": "RichContentEvent", "content": {"type": "vertical", "elements": elements}})
            }
        }
    }
}
