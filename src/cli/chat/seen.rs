//! What one end has seen of one conversation.

use super::screen::Screen;
use serde_json::Value;
use std::collections::BTreeMap;

/// A conversation, as its last change showed it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) id: String,
    /// The next number of each dialog.
    pub(super) next: BTreeMap<String, u64>,
    /// Who takes part, by id, and in which role.
    people: BTreeMap<String, String>,
    queue: Option<String>,
    /// Dialogs that are closed.
    closed: Vec<String>,
    /// The dialog of a survey that is open.
    pub(super) survey: Option<String>,
    pub(super) is_over: bool,
}

impl Seen {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), next: BTreeMap::from([(id.to_owned(), 0)]), ..Self::default() }
    }

    pub(super) fn is_shown(&self) -> bool {
        !self.people.is_empty()
    }

    pub(super) fn is_with(&self, id: &str) -> bool {
        self.people.contains_key(id)
    }

    pub(super) fn is_closed(&self, dialog: &str) -> bool {
        self.is_over || self.closed.iter().any(|closed| closed == dialog)
    }

    pub(super) fn has_seen(&self, dialog: &str, number: u64) -> bool {
        self.next.get(dialog).is_none_or(|next| *next > number)
    }

    /// Whether an event is new here. Numbers only grow; what has none is always new.
    pub(super) fn is_new(&mut self, change: &Value) -> bool {
        let Some(number) = change["sequence"].as_u64() else { return true };
        let dialog = change["dialogId"].as_str().unwrap_or_default();
        let Some(next) = self.next.get_mut(dialog) else { return false };
        let is_new = number >= *next;
        *next = (*next).max(number + 1);
        is_new
    }

    /// Who takes part, by name.
    pub(super) fn people(&self, screen: &Screen) -> String {
        let names: Vec<String> =
            self.people.iter().map(|(id, role)| screen.called(&Value::from(id.as_str()), &Value::from(role.as_str()))).collect();
        names.join(", ")
    }

    /// Takes over what a notification shows; one line for each thing that changed.
    pub(super) fn change(&mut self, details: &Value, screen: &Screen) -> Vec<String> {
        let mut lines = Vec::new();
        let mut people = BTreeMap::new();
        // Of the main dialog: the gateway's own agent, who asks a survey, joins no conversation.
        let main = details["dialogs"].as_array().into_iter().flatten().find(|dialog| dialog["dialogType"] == "MAIN");
        for person in main.and_then(|main| main["participantsDetails"].as_array()).into_iter().flatten() {
            let (Some(id), Some(role)) = (person["id"].as_str(), person["role"].as_str()) else { continue };
            if person["state"] == "ACTIVE" {
                people.insert(id.to_owned(), role.to_owned());
            }
        }
        let called = |id: &String, role: &String| screen.called(&Value::from(id.as_str()), &Value::from(role.as_str()));
        let news = |is: &BTreeMap<String, String>, was: &BTreeMap<String, String>| -> Vec<(String, String)> {
            is.iter()
                .filter(|(id, role)| !was.contains_key(*id) && *role != "CONSUMER")
                .map(|(id, role)| (id.clone(), role.clone()))
                .collect()
        };
        lines.extend(news(&people, &self.people).iter().map(|(id, role)| format!("{} joined", called(id, role))));
        lines.extend(news(&self.people, &people).iter().map(|(id, role)| format!("{} left", called(id, role))));
        self.people = people;
        let queue = details["skillId"].as_str().map(str::to_owned);
        if self.queue.is_some() && self.queue != queue {
            lines.push(format!("moved to queue {}", queue.as_deref().unwrap_or("?")));
        }
        self.queue = queue;
        for dialog in details["dialogs"].as_array().into_iter().flatten() {
            let Some(id) = dialog["dialogId"].as_str() else { continue };
            let is_survey = dialog["dialogType"] == "POST_SURVEY";
            if dialog["state"] == "CLOSE" {
                if !self.is_closed(id) {
                    let what = if is_survey { "survey closed" } else { "closed" };
                    lines.push(format!("{what} by {}", dialog["closedBy"].as_str().unwrap_or("?").to_lowercase()));
                    self.closed.push(id.to_owned());
                }
                self.survey = self.survey.take().filter(|survey| survey != id);
            } else if is_survey && self.survey.is_none() {
                lines.push("a survey follows".to_owned());
                self.survey = Some(id.to_owned());
            }
        }
        self.is_over |= details["stage"] == "CLOSE";
        lines
    }
}
