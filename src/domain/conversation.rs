//! What a conversation and a consumer are: the sum of their journal entries.

use super::Millis;
use super::entry::{Change, Entry, Message, Opened};
use super::facts::{Facts, Link};
use super::origin::{Channel, Direction, Origin};
use super::people::{Person, Role};
use super::routing::{Refused, Ring, RingState};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;
use std::sync::{Arc, LazyLock};
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, QueueId, UserId};

/// How far the times of a conversation's events may run ahead of the clock, in milliseconds.
pub const EVENTS_AHEAD: Millis = 60_000;

/// A conversation. Cloning is cheap: what an event does not change is shared.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Conversation {
    /// Everything but what changes with each event.
    pub details: Arc<Details>,
    /// The next sequence of each dialog, in the order of `details.dialogs`.
    pub next: Vec<u64>,
    /// When an answer is due, or -1.
    pub due: Millis,
    /// Since when it waits for an agent; none if it has one, is closed, or the consumer has not said anything yet.
    pub waiting: Option<Millis>,
    /// The time of the last entry; entries of one conversation never go back in time.
    pub last_at: Millis,
    /// The time of the last change that subscribers hear of; strictly grows.
    pub updated: Millis,
    /// The journal position of that change; strictly grows.
    pub version: u64,
    /// The journal position of the last change that a conversation's subscribers can see, which an offer is not.
    pub shown: u64,
    /// When somebody last wrote into the MAIN dialog; at first when it was opened.
    pub spoken: Millis,
    /// When the consumer last wrote into the MAIN dialog since it is open.
    pub heard: Option<Millis>,
    /// The last content that everybody may see.
    pub last_content: Option<LastContent>,
    /// The last card that everybody may see, if no content came after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_card: Option<LastContent>,
    /// How many contents and cards everybody may see in the MAIN dialog.
    #[serde(default)]
    pub contents: u64,
    /// How many contents of others each participant has not answered or marked as read.
    pub unread: Vec<Unread>,
    /// Who hears of its events; derived from `details`.
    #[serde(skip)]
    pub audience: Arc<Audience>,
}

/// A content with its time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastContent {
    /// When it was published.
    pub at: Millis,
    /// The message, shared with its journal entry.
    pub message: Arc<Message>,
}

/// What somebody has still to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Who.
    pub person: Person,
    /// How many contents.
    pub count: u32,
}

/// What changes seldom in a conversation.
#[skip_serializing_none]
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
    /// The agents' last note.
    pub note: Option<String>,
    /// How many notes there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub notes: u32,
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
    /// Who closed it, or its MAIN dialog.
    pub closed_by: Option<Closer>,
    /// Whether an agent was ever assigned.
    pub was_assigned: bool,
    /// What the consumer's client said at opening that it can do.
    pub features: Vec<String>,
    /// The opener's own name for it.
    pub binding: Option<String>,
    /// How long nobody may write before it is closed.
    pub silence: Option<Millis>,
    /// The agent to whom it is offered now.
    pub ring: Option<Ring>,
    /// The offer before, and how it ended.
    pub last_ring: Option<Ring>,
    /// Agents who did not take it, and until when they are not asked again.
    pub refused: Vec<Refused>,
    /// Where it comes from, if its opener said.
    pub origin: Option<Arc<Origin>>,
    /// Whether an agent opened it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_agent: bool,
    /// When it came into its queue.
    pub queued: Millis,
    /// Since when its agent has it.
    pub assigned: Option<Millis>,
    /// Since when it is open, or closed.
    pub staged: Millis,
    /// How long the consumer may be silent before it counts as abandoned.
    pub patience: Option<Millis>,
    /// When it is looked at whether the consumer has been silent for so long.
    pub patient_until: Option<Millis>,
    /// When it counted as abandoned.
    pub abandoned: Option<Millis>,
    /// When it was said that what was said in it is to be erased.
    pub anonymised: Option<Millis>,
    /// What else is known of it.
    facts: Option<Arc<Facts>>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A part of a conversation with a log of its own.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dialog {
    /// The dialog; the MAIN one has the conversation's id.
    pub id: DialogId,
    /// What it is for.
    pub kind: DialogKind,
    /// Who leads it beside the consumer; the MAIN one has the conversation's participants instead.
    pub host: Option<Person>,
    /// When it is closed if nobody does.
    pub until: Option<Millis>,
    /// The question of a survey that was asked last.
    pub asked: Option<String>,
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

/// What a dialog is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DialogKind {
    /// The conversation itself.
    Main,
    /// The questions after it.
    Survey,
}

impl DialogKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "MAIN",
            Self::Survey => "POST_SURVEY",
        }
    }
}

/// Open or closed.
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

impl Participant {
    /// As what it takes part; none while it is only invited.
    #[must_use]
    pub fn active_role(&self) -> Option<Role> {
        (self.state == ParticipantState::Active).then_some(self.role)
    }
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
    /// The gateway, because nobody wrote for too long.
    Timeout,
}

impl Closer {
    /// Who closed it, as the wire names them.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "CONSUMER",
            Self::Agent => "AGENT",
            Self::System | Self::Timeout => "SYSTEM",
        }
    }

    /// Why it was closed, as the wire names it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Timeout => "TIMEOUT",
            other => other.as_str(),
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
        let began = opened.origin.as_ref().and_then(|origin| origin.began).map_or(at, |began| began.min(at));
        let main = Dialog::open(opened.conversation.main_dialog(), DialogKind::Main, None, None, began);
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
            started: began,
            ended: None,
            closed_by: None,
            was_assigned: opened.agent.is_some(),
            features: opened.features.clone(),
            binding: opened.binding.clone(),
            silence: opened.silence,
            ring: None,
            last_ring: None,
            refused: Vec::new(),
            notes: 0,
            origin: opened.origin.clone(),
            by_agent: opened.agent.is_some(),
            queued: at,
            assigned: opened.agent.is_some().then_some(at),
            staged: began,
            patience: opened.patience,
            patient_until: None,
            abandoned: None,
            anonymised: None,
            facts: None,
        };
        // Who asked to be called waits without a word.
        let is_callback = opened.origin.as_ref().is_some_and(|origin| origin.channel == Channel::Callback);
        let waiting = (is_callback && opened.agent.is_none()).then_some(at);
        let audience = Arc::new(details.audience());
        Self {
            details: Arc::new(details),
            next: vec![0],
            due: -1,
            waiting,
            last_at: at,
            updated: at,
            version: position,
            shown: position,
            spoken: at,
            heard: None,
            last_content: None,
            last_card: None,
            contents: 0,
            unread: Vec::new(),
            audience,
        }
    }

    /// Restores what is derived, after the conversation was read back.
    #[must_use]
    pub fn restored(mut self) -> Self {
        self.audience = Arc::new(self.details.audience());
        self
    }

    /// The time that an event written now gets: the clock's, but later than the last entry's, so that it names one event, as some
    /// dialects' programs have it. Under a load that no people make the times would run away from the clock: they do so as far as
    /// [`EVENTS_AHEAD`], and from there on several share one.
    #[must_use]
    pub fn event_time(&self, now: Millis) -> Millis {
        now.max(self.last_at.saturating_add(1).min(now.saturating_add(EVENTS_AHEAD))).max(self.last_at)
    }

    /// The time that a change written now gets: as an event's, but later than the last change's, by which clients order
    /// what they hear of a conversation.
    #[must_use]
    pub fn change_time(&self, now: Millis) -> Millis {
        self.event_time(now).max(self.updated.saturating_add(1))
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

    /// Whether an agent must still be found for it, or an invited one asked.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.details.main_is_open() && (self.waiting.is_some() || self.details.suggested().is_some())
    }

    /// Since when it is pending; the order in a queue.
    #[must_use]
    pub fn pending_since(&self) -> Millis {
        self.waiting.unwrap_or(self.updated)
    }

    /// Whether the offer that stands has become pointless: the conversation is closed, somebody answers it, it is in another
    /// queue, or the invitation is another's or was withdrawn.
    #[must_use]
    pub fn has_moot_ring(&self) -> bool {
        let details = &self.details;
        details.ring.as_ref().is_some_and(|ring| {
            // Who was invited is asked as long as the invitation stands; while one stands, nobody else is.
            let stands = match details.suggested() {
                Some(suggested) => suggested.person == ring.agent,
                None => !ring.is_invited,
            };
            !self.is_pending() || ring.queue != details.queue || !stands
        })
    }

    /// When something must happen to it by itself, if nothing else does before.
    #[must_use]
    pub fn wakes(&self) -> Option<Millis> {
        let details = &self.details;
        let ring = details.ring.as_ref().map(|ring| ring.until);
        let refusals = details.refused.iter().map(|refused| refused.until).min().filter(|_| ring.is_none() && self.is_pending());
        let dialogs = details.dialogs.iter().filter(|dialog| dialog.state == OpenState::Open).filter_map(|dialog| dialog.until).min();
        let patience = details.patient_until.filter(|_| details.main_is_open());
        [ring, refusals, dialogs, self.falls_silent(), patience].into_iter().flatten().min()
    }

    /// What becomes of a consumer's patience that has run out; nothing, if it has not.
    #[must_use]
    pub fn patience_ran_out(&self, now: Millis) -> Option<Change> {
        let details = &self.details;
        details.patient_until.filter(|until| *until <= now && details.main_is_open())?;
        let until = self.heard?.saturating_add(details.patience?);
        Some(if until <= now { Change::Abandoned } else { Change::PatienceRenewed { until } })
    }

    /// When it is closed because nobody writes.
    #[must_use]
    pub fn falls_silent(&self) -> Option<Millis> {
        let silence = self.details.silence.filter(|_| self.details.main_is_open())?;
        Some(self.spoken.saturating_add(silence))
    }

    /// What was said last, be it a content or a card.
    #[must_use]
    pub fn last_word(&self) -> Option<&LastContent> {
        self.last_card.as_ref().or(self.last_content.as_ref())
    }

    /// Whether a message that is to be added is the first that the consumer says in it.
    #[must_use]
    pub fn begins_with(&self, message: &Message) -> bool {
        let is_said = message.class != EventClass::Receipt && !message.whisper && message.role == Role::Consumer;
        self.heard.is_none() && is_said && message.dialog == self.details.id.main_dialog()
    }

    /// Adds an event of the dialog. An answer from the brand's side settles what was due. What subscribers see of the
    /// conversation changes when that does, and when it begins to wait for an agent.
    pub fn add_message(&mut self, message: &Arc<Message>, at: Millis, position: u64) {
        let is_main = match self.dialog(&message.dialog) {
            Some((place, dialog)) => {
                let is_main = dialog.kind == DialogKind::Main;
                self.next[place] = message.sequence + 1;
                is_main
            }
            None => false,
        };
        self.last_at = at;
        self.count_unread(message);
        if message.class == EventClass::Receipt || !is_main {
            return;
        }
        self.spoken = at;
        if message.whisper {
            return;
        }
        self.contents += 1;
        let last = Some(LastContent { at, message: message.clone() });
        if message.class == EventClass::Content {
            (self.last_content, self.last_card) = (last, None);
        } else {
            self.last_card = last;
        }
        // A word of the gateway's own answers nobody.
        if message.role == Role::Controller {
            return;
        }
        let before = (self.due, self.waiting);
        if message.from.is_agent() {
            self.due = self.details.manual_due.unwrap_or(-1);
        } else {
            if self.heard.is_none()
                && let Some(patience) = self.details.patience
            {
                Arc::make_mut(&mut self.details).patient_until = Some(at.saturating_add(patience));
            }
            self.heard = Some(at);
            if self.due < 0 {
                let seconds = Millis::try_from(self.details.ttr.seconds).unwrap_or(Millis::MAX);
                self.due = at.saturating_add(seconds.saturating_mul(1000));
            }
            if self.waiting.is_none() && self.details.assignee().is_none() {
                self.waiting = Some(at);
            }
        }
        if before != (self.due, self.waiting) {
            self.updated = at.max(self.updated.saturating_add(1));
            self.version = position;
            self.shown = position;
        }
    }

    fn count_unread(&mut self, message: &Message) {
        if message.class == EventClass::Receipt {
            let is_read = message.event.get().contains("\"READ\"");
            if let Some(unread) = self.unread.iter_mut().find(|unread| is_read && unread.person == message.from) {
                unread.count = 0;
            }
            return;
        }
        let details = self.details.clone();
        let Some((_, dialog)) = self.dialog(&message.dialog) else { return };
        let is_main = dialog.kind == DialogKind::Main;
        for participant in details.participants.iter().filter(|participant| participant.state == ParticipantState::Active) {
            let is_consumer = participant.role == Role::Consumer;
            // A survey is the consumer's, and a whisper is not.
            if if is_main { message.whisper && is_consumer } else { !is_consumer } {
                continue;
            }
            let place = self.unread.iter().position(|unread| unread.person == participant.person).unwrap_or_else(|| {
                self.unread.push(Unread { person: participant.person.clone(), count: 0 });
                self.unread.len() - 1
            });
            let unread = &mut self.unread[place];
            unread.count = if participant.person == message.from { 0 } else { unread.count.saturating_add(1) };
        }
    }

    /// Adds changes that were made together.
    pub fn change(&mut self, changes: &[Change], at: Millis, position: u64) {
        let details = Arc::make_mut(&mut self.details);
        let (had_agent, was_open) = (details.assignee().is_some(), details.main_is_open());
        let queue = details.queue.clone();
        for change in changes {
            details.change(change, at);
        }
        if details.main_is_open() && !was_open {
            // It is as fresh as one that was just opened.
            (self.spoken, self.heard) = (at, None);
        }
        let is_erased = |last: &LastContent| {
            changes.iter().any(|change| match change {
                Change::Anonymised { .. } => true,
                Change::MessageAnonymised { dialog, sequence, .. } => last.message.dialog == *dialog && last.message.sequence == *sequence,
                _ => false,
            })
        };
        self.last_content.take_if(|last| is_erased(last));
        self.last_card.take_if(|last| is_erased(last));
        self.next.resize(details.dialogs.len(), 0);
        if let Some(due) = details.manual_due {
            self.due = due;
        }
        if details.main_is_open() {
            match details.assignee() {
                Some(_) => self.waiting = None,
                // Whoever loses its agent waits, also if the consumer has not said anything yet.
                None if had_agent || !was_open => self.waiting = Some(at),
                None if queue != details.queue && self.waiting.is_some() => self.waiting = Some(at),
                None if changes.iter().any(|change| matches!(change, Change::QueueSet { asks: true, .. })) => self.waiting = Some(at),
                None => {}
            }
        } else {
            self.due = -1;
            self.waiting = None;
        }
        let participants = &details.participants;
        self.unread.retain(|unread| participants.iter().any(|participant| participant.person == unread.person));
        self.updated = at;
        self.version = position;
        if changes.iter().any(Change::is_shown) {
            self.shown = position;
        }
        self.audience = Arc::new(details.audience());
        self.last_at = at;
    }
}

impl Dialog {
    fn open(id: DialogId, kind: DialogKind, host: Option<Person>, until: Option<Millis>, at: Millis) -> Self {
        Self {
            id,
            kind,
            host,
            until,
            asked: None,
            state: OpenState::Open,
            started: at,
            ended: None,
            closed_by: None,
            closed_cause: None,
            updated: at,
        }
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
            agents: agents.filter_map(|participant| participant.person.user().cloned()).collect(),
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

    /// The agent who is invited to answer, if there is one.
    #[must_use]
    pub fn suggested(&self) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.state == ParticipantState::Suggested)
    }

    /// Who began it: as its opener says, else who opened it.
    #[must_use]
    pub fn direction(&self) -> Direction {
        let opened = if self.by_agent { Direction::Outbound } else { Direction::Inbound };
        self.origin.as_ref().map_or(opened, |origin| origin.direction)
    }

    /// Whether the MAIN dialog takes events.
    #[must_use]
    pub fn main_is_open(&self) -> bool {
        self.dialogs.first().is_some_and(|main| main.state == OpenState::Open)
    }

    /// The agents of whose capacity it takes a part: who answers, and to whom it is offered.
    pub fn occupies(&self) -> impl Iterator<Item = &UserId> {
        let assignee = self.assignee().filter(|_| self.main_is_open()).and_then(|assignee| assignee.person.user());
        let ringing = self.ring.as_ref().and_then(|ring| ring.agent.user()).filter(move |user| Some(*user) != assignee);
        assignee.into_iter().chain(ringing)
    }

    /// In which role somebody may write into a dialog; nothing for somebody who takes no part in it.
    #[must_use]
    pub fn role_in(&self, dialog: &Dialog, person: &Person) -> Option<Role> {
        let active = |participant: &&Participant| participant.state == ParticipantState::Active;
        match &dialog.host {
            None => self.participant(person).filter(active).map(|participant| participant.role),
            Some(host) if host == person => Some(Role::Agent),
            Some(_) => self.participant(person).filter(active).map(|participant| participant.role).filter(|role| *role == Role::Consumer),
        }
    }

    /// What else is known of it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        static NONE: LazyLock<Facts> = LazyLock::new(Facts::default);
        self.facts.as_deref().unwrap_or(&NONE)
    }

    fn facts_mut(&mut self) -> &mut Facts {
        Arc::make_mut(self.facts.get_or_insert_default())
    }

    fn change(&mut self, change: &Change, at: Millis) {
        let had = self.assignee().map(|assignee| assignee.person.clone());
        self.make(change, at);
        if self.assignee().map(|assignee| &assignee.person) != had.as_ref() {
            self.assigned = self.assignee().is_some().then_some(at);
        }
        if let Change::Claimed { since: Some(since), .. } = change {
            self.assigned = Some(*since);
        }
    }

    fn make(&mut self, change: &Change, at: Millis) {
        match change {
            Change::DialogClosed { dialog, by, cause } => {
                self.close_dialogs(Some(dialog), *by, cause.as_deref(), at);
                if !self.main_is_open() {
                    self.closed_by.get_or_insert(*by);
                    self.withdraw();
                }
            }
            Change::Closed { by } => {
                self.close_dialogs(None, *by, None, at);
                self.stage = OpenState::Closed;
                self.staged = at;
                self.ended = Some(at);
                self.closed_by.get_or_insert(*by);
                self.withdraw();
            }
            Change::Joined { person, role, suggested } => {
                let state = if *suggested { ParticipantState::Suggested } else { ParticipantState::Active };
                self.participants.retain(|participant| participant.person != *person);
                self.participants.push(Participant { person: person.clone(), role: *role, state });
                self.participants.sort_by_key(|participant| participant.state);
                self.was_assigned |= *role == Role::AssignedAgent && !suggested;
            }
            Change::Left { person, .. } => self.participants.retain(|participant| participant.person != *person),
            Change::RoleSet { person, role } => {
                for participant in self.participants.iter_mut().filter(|participant| participant.person == *person) {
                    participant.role = *role;
                }
                self.was_assigned |= self.assignee().is_some();
            }
            Change::QueueSet { queue, .. } => {
                if *queue != self.queue {
                    self.refused.clear();
                }
                self.queue = queue.clone();
                self.queued = at;
            }
            Change::TtrSet { ttr } => self.ttr = ttr.clone(),
            Change::DueSet { at } => self.manual_due = Some(*at),
            Change::Rated { csat } => self.csat = Some(csat.clone()),
            Change::Noted { note, .. } => {
                self.note = Some(note.clone());
                self.notes = self.notes.saturating_add(1);
            }
            Change::Reopened => {
                self.stage = OpenState::Open;
                (self.staged, self.queued) = (at, at);
                (self.ended, self.closed_by) = (None, None);
                // Nobody has said anything since, so there is nobody whose patience could end.
                (self.abandoned, self.patient_until, self.manual_due) = (None, None, None);
                self.participants.retain(|participant| participant.role != Role::AssignedAgent);
                // Whoever is asked how it was finds that it goes on.
                self.close_dialogs(None, Closer::System, None, at);
                if let Some(main) = self.dialogs.first_mut() {
                    main.state = OpenState::Open;
                    (main.ended, main.closed_by, main.closed_cause) = (None, None, None);
                    main.updated = at;
                }
            }
            Change::Claimed { person, .. } => {
                self.participants.retain(|participant| participant.role != Role::AssignedAgent && participant.person != *person);
                self.participants.push(Participant { person: person.clone(), role: Role::AssignedAgent, state: ParticipantState::Active });
                self.participants.sort_by_key(|participant| participant.state);
                self.was_assigned = true;
            }
            Change::Tagged { tag } => {
                let facts = self.facts_mut();
                if !facts.tags.contains(tag) {
                    facts.tags.push(tag.clone());
                }
            }
            Change::Untagged { tag } => self.facts_mut().tags.retain(|kept| kept != tag),
            Change::AttributesSet { values } => {
                let attributes = &mut self.facts_mut().attributes;
                for (id, value) in values {
                    match value {
                        Some(value) => attributes.insert(id.clone(), value.clone()),
                        None => attributes.remove(id),
                    };
                }
            }
            Change::RatingOffered { rating } => self.facts_mut().ratings.push(rating.as_ref().clone()),
            Change::RatingAnswered { rating, given } => {
                for known in self.facts_mut().ratings.iter_mut().filter(|known| known.id == *rating) {
                    known.given = Some(given.clone());
                }
            }
            Change::LinkedToParent { parent, number, kind } => {
                self.facts_mut().parent = Some(Link { parent: parent.clone(), number: *number, kind: *kind });
            }
            Change::LinkedFromChild { child, .. } => self.facts_mut().children.push(child.clone()),
            Change::PlaceSet { place, id } => self.facts_mut().place(*place).clone_from(id),
            Change::Answered { answer } => {
                let answers = &mut self.facts_mut().answers;
                match answers.iter_mut().find(|known| known.id == answer.id) {
                    Some(known) => known.clone_from(answer),
                    None => answers.push(answer.clone()),
                }
            }
            Change::Booked { booking, stands } => {
                let bookings = &mut self.facts_mut().bookings;
                bookings.retain(|known| known != booking);
                if *stands {
                    bookings.push(booking.clone());
                }
            }
            Change::Abandoned => (self.abandoned, self.patient_until) = (Some(at), None),
            Change::PatienceRenewed { until } => self.patient_until = Some(*until),
            Change::Anonymised { .. } => self.forget_words(at),
            Change::MessageAnonymised { .. } => {}
            Change::Offered { ring, agent, until } => {
                let is_invited = self.suggested().is_some_and(|suggested| suggested.person == *agent);
                self.ring = Some(Ring {
                    id: ring.clone(),
                    agent: agent.clone(),
                    queue: self.queue.clone(),
                    is_invited,
                    since: at,
                    until: *until,
                    state: RingState::Waiting,
                });
            }
            Change::RingEnded { state, not_before } => {
                let Some(ring) = self.ring.take() else { return };
                if let (Some(until), Some(user)) = (*not_before, ring.agent.user().cloned()) {
                    self.refused.retain(|refused| refused.agent != user);
                    self.refused.push(Refused { agent: user, until });
                }
                self.last_ring = Some(ring.ended(*state));
            }
            Change::RefusalsForgotten { now } => self.refused.retain(|refused| refused.until > *now),
            Change::DialogOpened { dialog, kind, host, until } => {
                self.dialogs.push(Dialog::open(dialog.clone(), *kind, Some(host.clone()), Some(*until), at));
            }
            Change::Asked { dialog, question } => {
                for dialog in self.dialogs.iter_mut().filter(|known| known.id == *dialog) {
                    dialog.asked = Some(question.clone());
                    dialog.updated = at;
                }
            }
            Change::ConsumerReplaced { consumer } => {
                for participant in self.participants.iter_mut().filter(|participant| participant.role == Role::Consumer) {
                    participant.person = Person::Consumer(consumer.clone());
                }
                self.consumer = consumer.clone();
            }
        }
    }

    /// Forgets what people said or could be known by. Tags, times and scores stay: they say nothing of anybody.
    fn forget_words(&mut self, at: Millis) {
        self.anonymised = Some(at);
        (self.note, self.notes, self.context, self.campaign, self.binding) = (None, 0, None, None, None);
        for dialog in &mut self.dialogs {
            dialog.closed_cause = None;
        }
        self.origin = self.origin.as_ref().map(|origin| Arc::new(origin.without_words()));
        if self.facts.is_some() {
            let facts = self.facts_mut();
            facts.attributes.clear();
            facts.answers.clear();
            facts.bookings.clear();
            for given in facts.ratings.iter_mut().filter_map(|rating| rating.given.as_mut()) {
                given.comment = None;
            }
        }
    }

    /// Nobody is invited or asked any more.
    fn withdraw(&mut self) {
        self.participants.retain(|participant| participant.state == ParticipantState::Active);
        self.refused.clear();
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
    /// What its identity provider says of it, if it signed in there.
    pub claims: Option<Box<RawValue>>,
    /// How many conversations it has had.
    pub opened: u64,
    /// When it was seen first.
    #[serde(default)]
    pub seen: Millis,
    /// When what is known of it was last changed.
    #[serde(default)]
    pub updated: Millis,
}

impl Consumer {
    /// A consumer of whom nothing is known yet.
    #[must_use]
    pub fn unknown(account: &AccountId, id: &ConsumerId) -> Self {
        Self {
            account: account.clone(),
            id: id.clone(),
            app: None,
            ext_id: None,
            profile: serde_json::Map::new(),
            claims: None,
            opened: 0,
            seen: 0,
            updated: 0,
        }
    }

    /// What it is called by its profile, if that says so.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let text = |name: &str| self.profile.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let whole = || {
            let parts: Vec<String> = ["firstName", "lastName"].into_iter().filter_map(text).collect();
            (!parts.is_empty()).then(|| parts.join(" "))
        };
        text("nickName").or_else(whole)
    }

    /// Its e-mail address, by its profile.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.private("mail")
    }

    /// Its telephone number, by its profile.
    #[must_use]
    pub fn phone(&self) -> Option<&str> {
        self.private("mobileNum")
    }

    fn private(&self, name: &str) -> Option<&str> {
        self.profile.get("privateData")?.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// Adds an entry that names this consumer, and was written at a time.
    pub fn apply(&mut self, entry: &Entry, at: Millis) {
        if self.seen == 0 {
            (self.seen, self.updated) = (at, at);
        }
        if !matches!(entry, Entry::Opened(_)) {
            self.updated = at;
        }
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
            Entry::ClaimsSeen { claims, .. } => self.claims = Some(claims.clone()),
            Entry::Opened(_) => self.opened += 1,
            Entry::Published(_) | Entry::Changed { .. } | Entry::AgentStateSet { .. } | Entry::Removed { .. } => {}
        }
    }
}
