//! The agent's end: what rings, and the conversations that it takes part in, known by numbers that are short to type.

use super::screen::{Screen, Who};
use super::seen::Seen;
use super::{ask_once, follow};
use crate::cli::link::Link;
use serde_json::{Value, json};

/// Closed conversations that are remembered, to be looked at by `/who`; then the oldest is forgotten.
const CLOSED: usize = 100;

#[derive(Debug)]
struct Ring {
    id: String,
    conversation: String,
}

/// A conversation under the number that it has in this terminal.
#[derive(Debug)]
struct Known {
    number: usize,
    seen: Seen,
    /// We take part.
    is_in: bool,
}

pub(super) struct Agent {
    pub(super) login: String,
    pub(super) link: Link,
    pub(super) id: String,
    connection: u64,
    rings: Vec<Ring>,
    known: Vec<Known>,
    numbers: usize,
    present: Option<String>,
    /// The subscription to our conversations: its first notification on a connection shows all there are.
    snapshot: Option<Value>,
}

impl Agent {
    pub(super) fn new(login: String, link: Link) -> Self {
        let (id, rings, known) = (String::new(), Vec::new(), Vec::new());
        Self { login, link, id, connection: 0, rings, known, numbers: 0, present: None, snapshot: None }
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection > 0
    }

    /// A new connection: everything is followed on from where it was.
    pub(super) fn up(&mut self, connection: u64, id: String) {
        (self.connection, self.id, self.snapshot) = (connection, id, None);
        // What rings is told anew.
        self.rings.clear();
        ask_once(&self.link, connection, "cqm.SubscribeExConversations", &json!({"agentIds": [self.id], "stage": ["OPEN"]}));
        for known in self.known.iter().filter(|known| !known.seen.is_over) {
            follow(&self.link, connection, &known.seen.id, &known.seen.id, known.seen.next.get(&known.seen.id).copied().unwrap_or(0));
        }
        ask_once(&self.link, connection, "rs.SubscribeRoutingTasks", &json!({}));
        ask_once(&self.link, connection, "rs.SetAgentState", &json!({"availability": "ONLINE"}));
    }

    /// The answer to something asked in [`Agent::up`].
    pub(super) fn subscribed(&mut self, frame: &Value) {
        if frame["type"] == "cqm.SubscribeExConversationsResponse" {
            self.snapshot = Some(frame["body"]["subscriptionId"].clone());
        }
    }

    pub(super) fn told(&mut self, frame: &Value, screen: &Screen) {
        let changes = frame["body"]["changes"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        match frame["type"].as_str() {
            Some("ms.MessagingEventNotification") => changes.iter().for_each(|change| self.event(change, screen)),
            Some("cqm.ExConversationChangeNotification") => {
                if self.snapshot.take().is_some_and(|id| id == frame["body"]["subscriptionId"]) {
                    self.left_meanwhile(changes, screen);
                }
                for change in changes {
                    self.change(change, screen);
                }
            }
            Some("rs.RoutingTaskNotification") => {
                for ring in changes.iter().flat_map(|change| change["result"]["ringsDetails"].as_array().into_iter().flatten()) {
                    self.ring(ring, screen);
                }
            }
            _ => {}
        }
    }

    /// What we took part in before the connection was lost, and do not any more.
    fn left_meanwhile(&mut self, snapshot: &[Value], screen: &Screen) {
        for known in self.known.iter_mut().filter(|known| known.is_in) {
            if !snapshot.iter().any(|change| change["result"]["convId"] == known.seen.id.as_str()) {
                known.is_in = false;
                screen.say(Who::Agent, &self.login, &format!("#{} closed, or given to others", known.number));
            }
        }
    }

    fn event(&mut self, change: &Value, screen: &Screen) {
        let Some(known) = self.known.iter_mut().find(|known| change["conversationId"] == known.seen.id.as_str()) else { return };
        if known.seen.is_new(change) {
            screen.say(Who::Agent, &self.login, &format!("#{} {}", known.number, screen.event(change)));
        }
    }

    fn change(&mut self, change: &Value, screen: &Screen) {
        let Some(id) = change["result"]["convId"].as_str() else { return };
        let details = &change["result"]["conversationDetails"];
        let place = self.known.iter().position(|known| known.seen.id == id).unwrap_or_else(|| {
            self.numbers += 1;
            self.known.push(Known { number: self.numbers, seen: Seen::new(id), is_in: false });
            screen.say(Who::Agent, &self.login, &format!("#{} is conversation {id}", self.numbers));
            follow(&self.link, self.connection, id, id, 0);
            self.known.len() - 1
        });
        let known = &mut self.known[place];
        for line in known.seen.change(details, screen) {
            screen.say(Who::Agent, &self.login, &format!("#{} {line}", known.number));
        }
        known.is_in = known.seen.is_with(&self.id) && !known.seen.is_closed(id);
        if self.present.is_none() && known.is_in {
            self.present = Some(id.to_owned());
        }
        if let Some(oldest) = self.known.iter().position(|known| !known.is_in).filter(|_| self.known.len() > CLOSED) {
            self.known.remove(oldest);
        }
    }

    fn ring(&mut self, ring: &Value, screen: &Screen) {
        let text = |member: &str| ring[member].as_str().unwrap_or_default().to_owned();
        let (id, conversation) = (text("ringId"), text("convId"));
        if ring["ringState"] != "WAITING" {
            let rang = self.rings.len();
            self.rings.retain(|known| known.id != id);
            if rang > self.rings.len() && ring["ringState"] != "ACCEPTED" {
                screen.say(Who::Agent, &self.login, &format!("it does not ring any more: {}", text("ringState").to_lowercase()));
            }
        } else if !self.rings.iter().any(|known| known.id == id) {
            screen.say(Who::Agent, &self.login, &format!("it rings in queue {}: {conversation}; /accept takes it", text("skillId")));
            self.rings.push(Ring { id, conversation });
        }
    }

    pub(super) fn rings(&self) -> bool {
        !self.rings.is_empty()
    }

    /// What rings longest: the ring and its conversation.
    pub(super) fn first_ring(&self) -> Option<(String, String)> {
        self.rings.first().map(|ring| (ring.id.clone(), ring.conversation.clone()))
    }

    /// What was accepted is spoken in from now on.
    pub(super) fn accepted(&mut self, conversation: &str) {
        self.rings.retain(|ring| ring.conversation != conversation);
        self.present = Some(conversation.to_owned());
    }

    /// The conversation and the dialog to speak in.
    pub(super) fn target(&self) -> Option<(String, String)> {
        let present = self.present.as_ref()?;
        let known = self.known.iter().find(|known| known.seen.id == *present && known.is_in)?;
        Some((known.seen.id.clone(), known.seen.id.clone()))
    }

    /// An accepted conversation counts as known before it is told of.
    pub(super) fn knows(&self, conversation: &str) -> bool {
        self.present.as_deref() == Some(conversation) || self.known.iter().any(|known| known.seen.id == conversation)
    }

    pub(super) fn is_in(&self, conversation: &str) -> bool {
        self.known.iter().any(|known| known.seen.id == conversation && known.is_in)
    }

    pub(super) fn has_seen(&self, dialog: &str, number: u64) -> bool {
        self.known.iter().find(|known| known.seen.id == dialog).is_none_or(|known| known.seen.has_seen(dialog, number))
    }

    /// Goes to the conversation of a number; whether there is one.
    pub(super) fn go(&mut self, number: &str, screen: &Screen) -> bool {
        let number = number.trim_start_matches('#').parse().ok();
        let Some(known) = self.known.iter().find(|known| Some(known.number) == number) else { return false };
        self.present = Some(known.seen.id.clone());
        screen.say(Who::Agent, &self.login, &format!("now in #{}", known.number));
        true
    }

    pub(super) fn who(&self, screen: &Screen) {
        for known in &self.known {
            let mark = if self.present.as_ref() == Some(&known.seen.id) { "*" } else { "" };
            let state = if known.is_in { "" } else { ", closed or given to others" };
            let line = format!("#{}{mark} {}{state}: {}", known.number, known.seen.id, known.seen.people(screen));
            screen.say(Who::Agent, &self.login, &line);
        }
        for ring in &self.rings {
            screen.say(Who::Agent, &self.login, &format!("rings: {}", ring.conversation));
        }
        if self.known.is_empty() && self.rings.is_empty() {
            screen.say(Who::Agent, &self.login, "no conversations");
        }
    }
}
