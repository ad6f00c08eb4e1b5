//! What an actor may want, and the rules that say whether it happens.

use super::Millis;
use super::conversation::{Closer, Conversation, Csat, OpenState, ParticipantState, Ttr};
use super::draft::Draft;
use super::entry::{Change, Entry, Message, Opened};
use super::people::{Actor, Person, Role};
use super::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, QueueId};

/// Most bytes of a consumer's profile, as JSON.
const LARGEST_PROFILE: usize = 64 * 1024;

/// What an actor wants. Whether ids name something of the directory (agents, queues) is known before.
#[derive(Debug, Clone)]
pub enum Command {
    /// An application names a consumer it speaks for. Nothing happens if it is known already.
    SeeConsumer {
        /// The consumer.
        consumer: ConsumerId,
        /// The application; none if the consumer signed up itself.
        app: Option<ClientId>,
        /// What the application calls it.
        ext_id: Option<String>,
    },
    /// A consumer sets members of its own profile.
    SetProfile {
        /// A JSON object.
        profile: Box<RawValue>,
    },
    /// Opens a conversation: a consumer its own, an agent one with a consumer.
    Open {
        /// Its id, chosen by the gateway.
        conversation: ConversationId,
        /// With whom, when an agent opens.
        consumer: Option<ConsumerId>,
        /// Its queue.
        queue: QueueId,
        /// How soon an answer is due.
        ttr: Ttr,
        /// Kept as it is.
        context: Option<Box<RawValue>>,
        /// Kept as it is.
        campaign: Option<Box<RawValue>>,
    },
    /// Publishes an event that is stored.
    Publish {
        /// The conversation.
        conversation: ConversationId,
        /// The dialog.
        dialog: DialogId,
        /// What kind of event.
        class: EventClass,
        /// The event as it came.
        event: Box<RawValue>,
        /// As it came.
        metadata: Option<Box<RawValue>>,
        /// As it came.
        encoded_metadata: Option<String>,
        /// Whether only the brand's side may see it.
        whisper: bool,
    },
    /// Shows a typing state: checked like an event, and not stored.
    Type {
        /// The conversation.
        conversation: ConversationId,
        /// The dialog.
        dialog: DialogId,
        /// The event as it came.
        event: Box<RawValue>,
        /// Whether only the brand's side may see it.
        whisper: bool,
    },
    /// Changes a conversation: all of the changes or none.
    Update {
        /// The conversation.
        conversation: ConversationId,
        /// What to change.
        changes: Vec<FieldChange>,
    },
}

/// One change that an actor wants.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldChange {
    /// Close a dialog; the conversation closes with its last one.
    CloseDialog {
        /// The dialog; the MAIN one if absent.
        dialog: Option<DialogId>,
        /// Why.
        cause: Option<String>,
    },
    /// Close the whole conversation.
    Close,
    /// Somebody joins.
    Join {
        /// An agent.
        person: Person,
        /// As what.
        role: Role,
    },
    /// Somebody leaves.
    Leave {
        /// An agent.
        person: Person,
        /// As what it is said to be there.
        role: Role,
    },
    /// Somebody is invited to answer.
    Suggest {
        /// An agent.
        person: Person,
    },
    /// Somebody's role changes.
    SetRole {
        /// An agent.
        person: Person,
        /// As what from now on.
        role: Role,
    },
    /// The conversation moves to another queue.
    SetQueue(QueueId),
    /// How soon an answer is due.
    SetTtr(Ttr),
    /// When the answer is due.
    SetDue(Millis),
    /// The consumer's rating.
    Rate(Csat),
    /// An agent's note.
    Note(String),
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The consumer is known.
    ConsumerSeen,
    /// The profile is set.
    ProfileSet,
    /// The conversation is open.
    Opened {
        /// Its id.
        conversation: ConversationId,
    },
    /// The event is stored, or, for a typing state, shown.
    Published {
        /// Its position in the dialog; 0 for a typing state.
        sequence: u64,
        /// How often the very same request was stored before, where the application counts that.
        resends: u64,
    },
    /// The conversation is changed.
    Updated,
}

/// What a decision must have at hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ScopeKey {
    /// A conversation.
    Conversation(ConversationId),
    /// A consumer.
    Consumer(AccountId, ConsumerId),
    /// The account's conversation numbers.
    Numbers(AccountId),
}

impl Command {
    /// What the decision about it must have at hand.
    #[must_use]
    pub fn scope(&self, actor: &Actor) -> Vec<ScopeKey> {
        let account = actor.account().clone();
        let own = match actor {
            Actor::Consumer { id, .. } => Some(id.clone()),
            Actor::Agent { .. } | Actor::Application { .. } => None,
        };
        match self {
            Self::SeeConsumer { consumer, .. } => vec![ScopeKey::Consumer(account, consumer.clone())],
            Self::SetProfile { .. } => own.map(|id| ScopeKey::Consumer(account, id)).into_iter().collect(),
            Self::Open { consumer, .. } => {
                let whose = consumer.clone().or(own).map(|id| ScopeKey::Consumer(account.clone(), id));
                whose.into_iter().chain([ScopeKey::Numbers(account)]).collect()
            }
            Self::Publish { conversation, .. } | Self::Type { conversation, .. } | Self::Update { conversation, .. } => {
                vec![ScopeKey::Conversation(conversation.clone())]
            }
        }
    }
}

/// Decides about commands that belong together: all of them happen or none.
///
/// # Errors
/// The place of the first command that is refused, and why.
pub fn decide(actor: &Actor, commands: &[Command], draft: &mut Draft<'_>) -> Result<Vec<Outcome>, (usize, Refusal)> {
    let one = |(place, command)| one(actor, command, draft).map_err(|refusal| (place, refusal));
    commands.iter().enumerate().map(one).collect()
}

fn one(actor: &Actor, command: &Command, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    match command {
        Command::SeeConsumer { consumer, app, ext_id } => {
            if !draft.knows_consumer(actor.account(), consumer) {
                let entry = Entry::ConsumerSeen { consumer: consumer.clone(), app: app.clone(), ext_id: ext_id.clone() };
                draft.about_consumer(actor.account(), consumer, entry);
            }
            Ok(Outcome::ConsumerSeen)
        }
        Command::SetProfile { profile } => set_profile(actor, profile, draft),
        Command::Open { .. } => open(actor, command, draft),
        Command::Publish { .. } => publish(actor, command, draft),
        Command::Type { conversation, dialog, whisper, .. } => {
            let (from, ..) = may_publish(actor, conversation, dialog, EventClass::Content, draft)?;
            may_whisper(*whisper, &from)?;
            Ok(Outcome::Published { sequence: 0, resends: 0 })
        }
        Command::Update { conversation, changes } => update(actor, conversation, changes, draft),
    }
}

fn speaking_consumer(actor: &Actor) -> Result<(&ConsumerId, Option<&ClientId>), Refusal> {
    match actor {
        Actor::Consumer { id, app, .. } => Ok((id, app.as_ref())),
        Actor::Agent { .. } => Err(Refusal::NotPermitted("only a consumer may do this".into())),
        Actor::Application { .. } => Err(silent_application()),
    }
}

fn silent_application() -> Refusal {
    Refusal::NotPermitted("an application acts only with the ConsumerJWS of the consumer it speaks for".into())
}

fn set_profile(actor: &Actor, profile: &RawValue, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let (consumer, _) = speaking_consumer(actor)?;
    if !profile.get().starts_with('{') {
        return Err(Refusal::Invalid("a profile must be an object".into()));
    }
    let mut merged = draft.consumer(actor.account(), consumer).profile.clone();
    merged.extend(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(profile.get()).unwrap_or_default());
    if serde_json::to_string(&merged).map_or(0, |text| text.len()) > LARGEST_PROFILE {
        return Err(Refusal::Invalid(format!("a profile has at most {LARGEST_PROFILE} bytes").into()));
    }
    if profile.get() != "{}" {
        let entry = Entry::ProfileSet { consumer: consumer.clone(), profile: profile.to_owned() };
        draft.about_consumer(actor.account(), consumer, entry);
    }
    Ok(Outcome::ProfileSet)
}

fn open(actor: &Actor, command: &Command, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let Command::Open { conversation, consumer, queue, ttr, context, campaign } = command else { return Ok(Outcome::Updated) };
    let account = actor.account();
    let (consumer, app, agent) = match actor {
        Actor::Consumer { id, app, .. } => (id.clone(), app.clone(), None),
        Actor::Agent { .. } => {
            let Some(consumer) = consumer else { return Err(Refusal::Invalid("consumerId is missing".into())) };
            if !draft.knows_consumer(account, consumer) {
                return Err(Refusal::NobodyThere(format!("Consumer {consumer}").into()));
            }
            (consumer.clone(), draft.consumer(account, consumer).app.clone(), actor.person())
        }
        Actor::Application { .. } => return Err(silent_application()),
    };
    let opened = Opened {
        conversation: conversation.clone(),
        number: draft.take_number(account),
        first: draft.consumer(account, &consumer).opened == 0,
        consumer,
        app,
        agent,
        queue: queue.clone(),
        ttr: ttr.clone(),
        context: context.clone(),
        campaign: campaign.clone(),
    };
    draft.open(account, opened);
    Ok(Outcome::Opened { conversation: conversation.clone() })
}

/// The conversation, if the actor may know of it at all.
///
/// # Errors
/// [`Refusal::NoSuchConversation`], the same for one that is not there and for one of somebody else.
pub fn visible<'c>(actor: &Actor, conversation: Option<&'c Conversation>) -> Result<&'c Conversation, Refusal> {
    let conversation = conversation.ok_or(Refusal::NoSuchConversation)?;
    let details = &conversation.details;
    let theirs = details.account == *actor.account()
        && match actor {
            Actor::Consumer { id, .. } => details.consumer == *id,
            Actor::Agent { .. } => true,
            Actor::Application { app, .. } => details.app.as_ref() == Some(app),
        };
    if theirs { Ok(conversation) } else { Err(Refusal::NoSuchConversation) }
}

/// The role in which the actor may publish, and the event's number.
fn may_publish(
    actor: &Actor,
    conversation: &ConversationId,
    dialog: &DialogId,
    class: EventClass,
    draft: &mut Draft<'_>,
) -> Result<(Person, Role, u64, Option<ClientId>), Refusal> {
    let conversation = visible(actor, draft.conversation(conversation))?;
    let Some(person) = actor.person() else { return Err(silent_application()) };
    let Some((place, found)) = conversation.dialog(dialog) else { return Err(Refusal::NoSuchDialog) };
    let participant = conversation.details.participant(&person).filter(|participant| participant.state == ParticipantState::Active);
    let Some(participant) = participant else { return Err(Refusal::NotAParticipant) };
    // A receipt may come late: it says what happened to a message, and adds none.
    if found.state == OpenState::Closed && class != EventClass::Receipt {
        return Err(Refusal::DialogClosed);
    }
    Ok((person, participant.role, conversation.next[place], conversation.details.app.clone()))
}

fn may_whisper(whisper: bool, from: &Person) -> Result<(), Refusal> {
    if whisper && !from.is_agent() {
        return Err(Refusal::Invalid("messageAudience AGENTS_AND_MANAGERS is for the brand's side; a consumer writes to ALL".into()));
    }
    Ok(())
}

fn publish(actor: &Actor, command: &Command, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let Command::Publish { conversation, dialog, class, event, metadata, encoded_metadata, whisper } = command else {
        return Ok(Outcome::Updated);
    };
    let (from, role, sequence, app) = may_publish(actor, conversation, dialog, *class, draft)?;
    may_whisper(*whisper, &from)?;
    let resends = draft.resends();
    draft.publish(Message {
        conversation: conversation.clone(),
        dialog: dialog.clone(),
        sequence,
        class: *class,
        from,
        role,
        whisper: *whisper,
        event: event.clone(),
        metadata: metadata.clone(),
        encoded_metadata: encoded_metadata.clone(),
        app,
    });
    Ok(Outcome::Published { sequence, resends })
}

fn update(actor: &Actor, id: &ConversationId, wanted: &[FieldChange], draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let mut after = visible(actor, draft.conversation(id))?.clone();
    let Some(by) = actor.person() else { return Err(silent_application()) };
    let mut changes = Vec::new();
    for field in wanted {
        let made = field_change(actor, &by, &after, field)?;
        // The next field is judged by what this one makes of the conversation; times and versions are the draft's.
        let (at, version) = (after.last_at, after.details.version);
        after.change(&made, at, version);
        changes.extend(made);
    }
    if !changes.is_empty() {
        draft.change(id, by, changes);
    }
    Ok(Outcome::Updated)
}

/// What one field becomes; nothing, if it is so already.
fn field_change(actor: &Actor, by: &Person, conversation: &Conversation, field: &FieldChange) -> Result<Vec<Change>, Refusal> {
    let details = &conversation.details;
    let closer = if by.is_agent() { Closer::Agent } else { Closer::Consumer };
    let is_participant = details.participant(by).is_some();
    let joins = matches!(field, FieldChange::Join { person, .. } if person == by);
    if by.is_agent() && !is_participant && !actor.is_manager() && !joins {
        return Err(Refusal::NotAParticipant);
    }
    let brand_only = || match by.is_agent() {
        true => Ok(()),
        false => Err(Refusal::NotPermitted("only the brand's side may change this".into())),
    };
    let open_only = || match details.stage {
        OpenState::Open => Ok(()),
        OpenState::Closed => Err(Refusal::NotNow("Conversation is closed".into())),
    };
    match field {
        FieldChange::Close => Ok(close(conversation, closer)),
        FieldChange::CloseDialog { dialog, cause } => close_dialog(conversation, dialog.as_ref(), closer, cause.as_ref()),
        FieldChange::Rate(csat) => match by.is_agent() {
            true => Err(Refusal::NotPermitted("only the consumer may rate a conversation".into())),
            false => Ok(vec![Change::Rated { csat: csat.clone() }]),
        },
        FieldChange::SetTtr(ttr) => open_only().map(|()| vec![Change::TtrSet { ttr: ttr.clone() }]),
        FieldChange::Note(note) => brand_only().map(|()| vec![Change::Noted { note: note.clone() }]),
        FieldChange::SetDue(at) => brand_only().and_then(|()| open_only()).map(|()| vec![Change::DueSet { at: *at }]),
        FieldChange::SetQueue(queue) => brand_only().and_then(|()| open_only()).map(|()| vec![Change::QueueSet { queue: queue.clone() }]),
        FieldChange::Join { .. } | FieldChange::Leave { .. } | FieldChange::Suggest { .. } | FieldChange::SetRole { .. } => {
            brand_only()?;
            open_only()?;
            participation(conversation, field)
        }
    }
}

fn close(conversation: &Conversation, by: Closer) -> Vec<Change> {
    match conversation.details.stage {
        OpenState::Open => vec![Change::Closed { by }],
        OpenState::Closed => Vec::new(),
    }
}

fn close_dialog(
    conversation: &Conversation,
    dialog: Option<&DialogId>,
    by: Closer,
    cause: Option<&String>,
) -> Result<Vec<Change>, Refusal> {
    let main = conversation.details.id.main_dialog();
    let wanted = dialog.unwrap_or(&main);
    let Some((_, found)) = conversation.dialog(wanted) else { return Err(Refusal::NoSuchDialog) };
    if found.state == OpenState::Closed {
        return Ok(Vec::new());
    }
    let closed = Change::DialogClosed { dialog: wanted.clone(), by, cause: cause.cloned() };
    let others = conversation.details.dialogs.iter().any(|dialog| dialog.id != *wanted && dialog.state == OpenState::Open);
    Ok(if others { vec![closed] } else { vec![closed, Change::Closed { by }] })
}

fn participation(conversation: &Conversation, field: &FieldChange) -> Result<Vec<Change>, Refusal> {
    let details = &conversation.details;
    let taken =
        |person: &Person, role: Role| role == Role::AssignedAgent && details.assignee().is_some_and(|assignee| assignee.person != *person);
    let already = || Refusal::NotNow("Conversation already has an assigned agent".into());
    match field {
        FieldChange::Join { person, role } => match details.participant(person) {
            _ if *role == Role::Consumer || !person.is_agent() => Err(Refusal::NotPermitted("an agent cannot join as CONSUMER".into())),
            _ if taken(person, *role) => Err(already()),
            Some(present) if present.role == *role && present.state == ParticipantState::Active => Ok(Vec::new()),
            _ => Ok(vec![Change::Joined { person: person.clone(), role: *role, suggested: false }]),
        },
        FieldChange::Suggest { person } => match details.participant(person) {
            Some(_) => Err(Refusal::NotNow("Transfer to agent failed: Agent already exist".into())),
            None => Ok(vec![Change::Joined { person: person.clone(), role: Role::AssignedAgent, suggested: true }]),
        },
        FieldChange::Leave { person, role } => match details.participant(person) {
            Some(present) if present.role == *role => Ok(vec![Change::Left { person: person.clone() }]),
            _ => Err(Refusal::NotAParticipant),
        },
        FieldChange::SetRole { person, role } => match details.participant(person) {
            None => Err(Refusal::NotAParticipant),
            Some(_) if *role == Role::Consumer || !person.is_agent() => {
                Err(Refusal::NotPermitted("nobody else can become or cease to be the CONSUMER".into()))
            }
            Some(_) if taken(person, *role) => Err(already()),
            Some(_) => Ok(vec![Change::RoleSet { person: person.clone(), role: *role }]),
        },
        _ => Ok(Vec::new()),
    }
}
