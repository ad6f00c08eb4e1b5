//! What a conversation and a consumer are: the sum of their journal entries.

use super::Millis;
use super::entry::{Change, Entry, Message, Opened};
use super::people::{Person, Role};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, QueueId, UserId};

/// A conversation. Cloning is cheap: what an event does not change is shared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Conversation {
    /// Everything but what changes with each event.
    pub details: Arc<Details>,
    /// The next sequence of each dialog, in the order of `details.dialogs`.
    pub next: Vec<u64>,
    /// When an answer is due, or -1.
    pub due: Millis,
    /// The time of the last entry; entries of one conversation never go back in time.
    pub last_at: Millis,
    /// Who hears of its events; derived from `details`.
    #[serde(skip)]
    pub audience: Arc<Audience>,
}

/// What changes seldom in a conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Details {
    /// The tenant.
    pub account: AccountId,
    /// The conversation.
    pub id: ConversationId,
    /// Its number within the account.
    pub number: i64,
    /// Its consumer.
    pub consumer: ConsumerId,
    /// The application it was opened through.
    pub app: Option<ClientId>,
    /// Its queue.
    pub queue: QueueId,
    /// State of the whole conversation.
    pub stage: OpenState,
    /// Its dialogs, the MAIN one first.
    pub dialogs: Vec<Dialog>,
    /// Who takes part; who is only invited comes last.
    pub participants: Vec<Participant>,
    /// How soon an answer is due.
    pub ttr: Ttr,
    /// When an agent said the answer is due.
    pub manual_due: Option<Millis>,
    /// The consumer's rating.
    pub csat: Option<Csat>,
    /// The agents' note.
    pub note: Option<String>,
    /// Given at opening.
    pub context: Option<Box<RawValue>>,
    /// Given at opening.
    pub campaign: Option<Box<RawValue>>,
    /// Whether it is the consumer's first.
    pub first: bool,
    /// When it was opened.
    pub started: Millis,
    /// When it was closed.
    pub ended: Option<Millis>,
    /// Who closed it.
    pub closed_by: Option<Closer>,
    /// The time of the last change; strictly grows.
    pub updated: Millis,
    /// The journal position of the last change; strictly grows.
    pub version: u64,
}

/// A part of a conversation with a log of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dialog {
    /// The dialog; the MAIN one has the conversation's id.
    pub id: DialogId,
    /// Its state.
    pub state: OpenState,
    /// When it was opened.
    pub started: Millis,
    /// When it was closed.
    pub ended: Option<Millis>,
    /// Who closed it.
    pub closed_by: Option<Closer>,
    /// Why it was closed.
    pub closed_cause: Option<String>,
    /// The time of its last change.
    pub updated: Millis,
}

/// Open or closed. What is closed never reopens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OpenState {
    /// Takes events.
    Open,
    /// Takes receipts only.
    Closed,
}

impl OpenState {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Closed => "CLOSE",
        }
    }
}

/// Somebody who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Who.
    pub person: Person,
    /// As what.
    pub role: Role,
    /// Whether yet.
    pub state: ParticipantState,
}

/// Whether somebody takes part yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ParticipantState {
    /// Takes part.
    Active,
    /// Is being offered the conversation.
    Suggested,
}

impl ParticipantState {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Suggested => "SUGGESTED",
        }
    }
}

/// Who closed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Closer {
    /// The consumer.
    Consumer,
    /// An agent.
    Agent,
    /// The gateway.
    System,
}

impl Closer {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "CONSUMER",
            Self::Agent => "AGENT",
            Self::System => "SYSTEM",
        }
    }
}

/// How soon an answer is due after a consumer's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ttr {
    /// `NORMAL`, `URGENT`, `PRIORITIZED`, `CUSTOM`.
    pub kind: String,
    /// Seconds.
    pub seconds: u64,
}

impl Ttr {
    /// The names that are known, each with its seconds where none are given.
    pub const KINDS: [(&str, u64); 4] = [("NORMAL", 3600), ("PRIORITIZED", 1800), ("URGENT", 600), ("CUSTOM", 3600)];

    /// A kind by its name; `NORMAL` if there is none.
    #[must_use]
    pub fn named(kind: Option<&str>, seconds: Option<u64>) -> Option<Self> {
        let kind = kind.unwrap_or("NORMAL");
        let default = Self::KINDS.iter().find(|(name, _)| *name == kind)?.1;
        Some(Self { kind: kind.to_owned(), seconds: seconds.unwrap_or(default) })
    }
}

/// A consumer's rating.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Csat {
    /// 0 to 5.
    pub rate: Option<u8>,
    /// Whether the matter is settled.
    pub resolved: Option<bool>,
    /// How much of the survey was filled.
    pub status: String,
}

/// Who should hear of what happens in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// The tenant.
    pub account: AccountId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Its consumer.
    pub consumer: ConsumerId,
    /// The application it was opened through.
    pub app: Option<ClientId>,
    /// The agents who take part.
    pub agents: Vec<UserId>,
}

impl Default for Audience {
    fn default() -> Self {
        Self { account: "".into(), conversation: "".into(), consumer: "".into(), app: None, agents: Vec::new() }
    }
}

impl Conversation {
    /// A conversation as it is opened.
    #[must_use]
    pub fn open(account: &AccountId, opened: &Opened, at: Millis, position: u64) -> Self {
        let main = Dialog {
            id: opened.conversation.main_dialog(),
            state: OpenState::Open,
            started: at,
            ended: None,
            closed_by: None,
            closed_cause: None,
            updated: at,
        };
        let consumer =
            Participant { person: Person::Consumer(opened.consumer.clone()), role: Role::Consumer, state: ParticipantState::Active };
        let agent = opened.agent.iter().map(|agent| Participant {
            person: agent.clone(),
            role: Role::AssignedAgent,
            state: ParticipantState::Active,
        });
        let details = Details {
            account: account.clone(),
            id: opened.conversation.clone(),
            number: opened.number,
            consumer: opened.consumer.clone(),
            app: opened.app.clone(),
            queue: opened.queue.clone(),
            stage: OpenState::Open,
            dialogs: vec![main],
            participants: std::iter::once(consumer).chain(agent).collect(),
            ttr: opened.ttr.clone(),
            manual_due: None,
            csat: None,
            note: None,
            context: opened.context.clone(),
            campaign: opened.campaign.clone(),
            first: opened.first,
            started: at,
            ended: None,
            closed_by: None,
            updated: at,
            version: position,
        };
        let audience = Arc::new(details.audience());
        Self { details: Arc::new(details), next: vec![0], due: -1, last_at: at, audience }
    }

    /// Restores what is derived, after the conversation was read back.
    #[must_use]
    pub fn restored(mut self) -> Self {
        self.audience = Arc::new(self.details.audience());
        self
    }

    /// The time that an event written now gets: the clock's, but never earlier than the last entry's. Numbers order
    /// events, so many may share a time; growing strictly, times would run away from the clock under load.
    #[must_use]
    pub fn event_time(&self, now: Millis) -> Millis {
        now.max(self.last_at)
    }

    /// The time that a change written now gets: as an event's, but later than the last change's, by which clients order
    /// what they hear of a conversation.
    #[must_use]
    pub fn change_time(&self, now: Millis) -> Millis {
        self.event_time(now).max(self.details.updated.saturating_add(1))
    }

    /// A dialog by its id, with its place.
    #[must_use]
    pub fn dialog(&self, id: &DialogId) -> Option<(usize, &Dialog)> {
        self.details.dialogs.iter().enumerate().find(|(_, dialog)| dialog.id == *id)
    }

    /// The next sequence of a dialog.
    #[must_use]
    pub fn next_sequence(&self, id: &DialogId) -> Option<u64> {
        self.dialog(id).map(|(place, _)| self.next[place])
    }

    /// Adds an event of the dialog. An answer from the brand's side settles what was due.
    pub fn add_message(&mut self, message: &Message, at: Millis) {
        if let Some((place, _)) = self.dialog(&message.dialog) {
            self.next[place] = message.sequence + 1;
        }
        self.last_at = at;
        if message.class == EventClass::Receipt || message.whisper {
            return;
        }
        if message.from.is_agent() {
            self.due = -1;
        } else if self.due < 0 {
            let seconds = Millis::try_from(self.details.ttr.seconds).unwrap_or(Millis::MAX);
            self.due = at.saturating_add(seconds.saturating_mul(1000));
        }
    }

    /// Adds changes that were made together.
    pub fn change(&mut self, changes: &[Change], at: Millis, position: u64) {
        let details = Arc::make_mut(&mut self.details);
        for change in changes {
            details.change(change, at);
        }
        if let Some(due) = details.manual_due {
            self.due = due;
        }
        details.updated = at;
        details.version = position;
        if details.stage == OpenState::Closed {
            self.due = -1;
        }
        self.audience = Arc::new(details.audience());
        self.last_at = at;
    }
}

impl Details {
    fn audience(&self) -> Audience {
        let agents = self.participants.iter().filter(|participant| participant.state == ParticipantState::Active);
        Audience {
            account: self.account.clone(),
            conversation: self.id.clone(),
            consumer: self.consumer.clone(),
            app: self.app.clone(),
            agents: agents
                .filter_map(|participant| match &participant.person {
                    Person::Agent { user, .. } => Some(user.clone()),
                    Person::Consumer(_) => None,
                })
                .collect(),
        }
    }

    /// Somebody's place among the participants.
    #[must_use]
    pub fn participant(&self, person: &Person) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.person == *person)
    }

    /// The agent who answers, if there is one.
    #[must_use]
    pub fn assignee(&self) -> Option<&Participant> {
        self.participants
            .iter()
            .find(|participant| participant.role == Role::AssignedAgent && participant.state == ParticipantState::Active)
    }

    fn change(&mut self, change: &Change, at: Millis) {
        match change {
            Change::DialogClosed { dialog, by, cause } => self.close_dialogs(Some(dialog), *by, cause.as_deref(), at),
            Change::Closed { by } => {
                self.close_dialogs(None, *by, None, at);
                self.stage = OpenState::Closed;
                self.ended = Some(at);
                self.closed_by = Some(*by);
            }
            Change::Joined { person, role, suggested } => {
                let state = if *suggested { ParticipantState::Suggested } else { ParticipantState::Active };
                self.participants.retain(|participant| participant.person != *person);
                self.participants.push(Participant { person: person.clone(), role: *role, state });
                self.participants.sort_by_key(|participant| participant.state);
            }
            Change::Left { person } => self.participants.retain(|participant| participant.person != *person),
            Change::RoleSet { person, role } => {
                for participant in self.participants.iter_mut().filter(|participant| participant.person == *person) {
                    participant.role = *role;
                }
            }
            Change::QueueSet { queue } => self.queue = queue.clone(),
            Change::TtrSet { ttr } => self.ttr = ttr.clone(),
            Change::DueSet { at } => self.manual_due = Some(*at),
            Change::Rated { csat } => self.csat = Some(csat.clone()),
            Change::Noted { note } => self.note = Some(note.clone()),
        }
    }

    fn close_dialogs(&mut self, which: Option<&DialogId>, by: Closer, cause: Option<&str>, at: Millis) {
        let wanted = |dialog: &&mut Dialog| which.is_none_or(|id| dialog.id == *id) && dialog.state == OpenState::Open;
        for dialog in self.dialogs.iter_mut().filter(wanted) {
            dialog.state = OpenState::Closed;
            dialog.ended = Some(at);
            dialog.closed_by = Some(by);
            dialog.closed_cause = cause.map(str::to_owned);
            dialog.updated = at;
        }
    }
}

/// A consumer: who it is, and its profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Consumer {
    /// The tenant.
    pub account: AccountId,
    /// The consumer.
    pub id: ConsumerId,
    /// The application that speaks for it; none if it signed up itself.
    pub app: Option<ClientId>,
    /// What that application calls it.
    pub ext_id: Option<String>,
    /// A JSON object.
    pub profile: serde_json::Map<String, serde_json::Value>,
    /// How many conversations it has had.
    pub opened: u64,
}

impl Consumer {
    /// A consumer of whom nothing is known yet.
    #[must_use]
    pub fn unknown(account: &AccountId, id: &ConsumerId) -> Self {
        Self { account: account.clone(), id: id.clone(), app: None, ext_id: None, profile: serde_json::Map::new(), opened: 0 }
    }

    /// Adds an entry that names this consumer.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::ConsumerSeen { app, ext_id, .. } => {
                self.app.clone_from(app);
                self.ext_id.clone_from(ext_id);
            }
            Entry::ProfileSet { profile, .. } => {
                // Written as an object by `decide`; what is no object adds nothing.
                if let Ok(members) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(profile.get()) {
                    self.profile.extend(members);
                }
            }
            Entry::Opened(_) => self.opened += 1,
            Entry::Published(_) | Entry::Changed { .. } => {}
        }
    }
}
