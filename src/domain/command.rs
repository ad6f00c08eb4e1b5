//! What an actor may want, and the rules that say whether it happens.

use super::Millis;
use super::access::visible;
use super::conversation::{Closer, Conversation, Csat, OpenState, ParticipantState, Ttr};
use super::draft::Draft;
use super::entry::{Change, Entry, Message, Opened};
use super::facts::{Answer, AttributeValue, LinkKind, Place, Rating, RatingGiven};
use super::origin::{Channel, Direction, Origin};
use super::outcome::Outcome;
use super::people::{Actor, Availability, Person, Role};
use super::policy::{Policy, WELCOME_WITHIN, text_event};
use super::refusal::Refusal;
use super::routing::Candidate;
use super::{offer, record, survey};
use serde_json::value::RawValue;
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{
    AccountId, AttributeId, ClientId, ConsumerId, ConversationId, DialogId, NoteId, PlainId, QueueId, RatingId, RingId, TagId, UserId,
};
use tieline_protocol::text;

/// Most bytes of a consumer's profile, as JSON.
const LARGEST_PROFILE: usize = 64 * 1024;

/// What an actor wants. Whether ids name something of the directory (agents, queues) is known before.
#[derive(Debug, Clone)]
pub enum Command {
    /// An application names a consumer it speaks for. Nothing happens if it is known already.
    SeeConsumer {
        /// Whether it is refused if it is known already.
        is_new: bool,
        /// The consumer.
        consumer: ConsumerId,
        /// The application; none if the consumer signed up itself.
        app: Option<ClientId>,
        /// What the application calls it.
        ext_id: Option<String>,
    },
    /// A consumer that signed in brings what its identity provider says of it. Nothing happens if that is known already.
    SeeClaims {
        /// A JSON object.
        claims: Box<RawValue>,
    },
    /// A consumer sets members of its own profile, or whoever acts for the account those of a consumer's.
    SetProfile {
        /// Whose, if not the actor's own. Of what is private in it the members given are set then, as where an application speaks for
        /// its consumer, and the others stay.
        consumer: Option<ConsumerId>,
        /// A JSON object.
        profile: Box<RawValue>,
    },
    /// Nothing happens. The sentence stands among the outcomes, so that the answer to a repeat can say it again.
    Remark(String),
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
        /// What the consumer's client says that it can do.
        features: Vec<String>,
        /// The opener's own name for it: while a conversation of this name is open, it is found instead of opened.
        binding: Option<String>,
        /// Where it comes from, if the opener says. Of one that the consumer began, that began earlier, or in which the consumer is to be
        /// called, no agent has charge by opening it.
        origin: Option<Arc<Origin>>,
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
        /// What the publisher's client says of itself, as it came.
        client: Option<Box<RawValue>>,
        /// The path of the file that it shows, if it shows one of ours.
        file: Option<String>,
        /// Whether only the brand's side may see it.
        whisper: bool,
    },
    /// Writes a content down in the MAIN dialog that somebody wrote elsewhere: for managers and for the account itself, in anybody's
    /// name, and for agents who take part in their own.
    Record {
        /// The conversation.
        conversation: ConversationId,
        /// Who wrote it: the conversation's consumer, or an agent.
        from: Person,
        /// The event.
        event: Box<RawValue>,
        /// Shown as it is.
        metadata: Option<Box<RawValue>>,
        /// The path of the file that it shows, if it shows one of ours.
        file: Option<String>,
        /// When it was written, if that was not now.
        written: Option<Millis>,
        /// Its writer's own name for it: refused, if a message of the conversation has it already.
        external: Option<String>,
    },
    /// Links a conversation to another.
    Link {
        /// The conversation.
        child: ConversationId,
        /// The one that it belongs to from now on.
        parent: ConversationId,
        /// As what.
        kind: LinkKind,
        /// To which it is linked now, as far as is known. If that is no more, it counts for nothing.
        was: Option<ConversationId>,
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
    /// An agent says whether it takes conversations.
    SetAvailability {
        /// The agent.
        agent: UserId,
        /// Whether it does.
        availability: Availability,
        /// As it came.
        channels: Vec<String>,
        /// As it came.
        description: Option<String>,
        /// As it came.
        reason: Option<String>,
    },
    /// The gateway looks for an agent for a pending conversation.
    Route {
        /// The conversation.
        conversation: ConversationId,
        /// The queue for which the candidates were looked up.
        queue: QueueId,
        /// Who may be asked.
        candidates: Vec<Candidate>,
    },
    /// An agent answers an offer.
    AnswerRing {
        /// The conversation.
        conversation: ConversationId,
        /// The offer.
        ring: RingId,
        /// Whether it takes it.
        accepts: bool,
        /// How many conversations the agent may have at a time.
        capacity: usize,
    },
    /// The gateway takes an offer back.
    CancelRing {
        /// The conversation.
        conversation: ConversationId,
        /// The offer.
        ring: RingId,
    },
    /// The gateway does what has fallen due in a conversation.
    Wake {
        /// The conversation.
        conversation: ConversationId,
    },
    /// The gateway returns a conversation to its queue, because its agent is gone.
    Release {
        /// The conversation.
        conversation: ConversationId,
        /// The agent.
        agent: UserId,
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
    /// Somebody comes, and answers if nobody does. Who is there already stays as it is.
    Come {
        /// An agent.
        person: Person,
    },
    /// Somebody goes, whatever it is there. Nothing happens if it is not there.
    Go {
        /// An agent.
        person: Person,
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
    /// A note of an agent's, as it was written elsewhere.
    AddNote {
        /// Its id.
        id: NoteId,
        /// The text.
        note: String,
        /// Whose it is.
        author: Person,
        /// When it was written, if that was not now.
        written: Option<Millis>,
    },
    /// Opens again what is closed, in its queue and without an agent.
    Reopen,
    /// Gives it to an agent.
    Claim {
        /// The agent.
        person: Person,
        /// Also if another has it.
        takes_over: bool,
        /// Since when the agent has it, if that is not now.
        since: Option<Millis>,
    },
    /// Puts it into a queue, without an agent, open again if it is closed.
    Transfer(QueueId),
    /// Adds a tag.
    Tag(TagId),
    /// Takes a tag off.
    Untag(TagId),
    /// Sets values of custom attributes, or takes them away. That they fit their definitions is known before.
    SetAttributes(Vec<(AttributeId, Option<AttributeValue>)>),
    /// Asks the consumer for a rating.
    OfferRating(Rating),
    /// The consumer's answer to that.
    AnswerRating {
        /// Which.
        rating: RatingId,
        /// What it says.
        given: RatingGiven,
    },
    /// Sets what of the directory it has to do with, or takes that away.
    SetPlace(Place, Option<PlainId>),
    /// Writes down what the consumer was asked and said.
    Answer(Answer),
    /// Something was booked in it, or that was called off.
    Book {
        /// The other system's name for it.
        booking: String,
        /// Whether it stands.
        stands: bool,
    },
    /// Has all that was said in it erased.
    Anonymise {
        /// The request's id.
        request: PlainId,
        /// Also if it is open; then it is closed first.
        closes: bool,
    },
    /// Has erased what was said in one message.
    AnonymiseMessage {
        /// The request's id.
        request: PlainId,
        /// The dialog.
        dialog: DialogId,
        /// The message's place in it.
        sequence: u64,
        /// How many files it shows.
        files: u32,
    },
    /// A consumer that has signed in takes over what it began before.
    TakeOver,
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
    /// An agent: what it said of itself, and how many conversations it has.
    Agent(AccountId, UserId),
    /// The open conversation of a consumer that the opener has named so.
    Binding(AccountId, ConsumerId, String),
    /// Whether a message of a conversation has this name of its writer's.
    Named(ConversationId, String),
}

impl Command {
    /// What the decision about it must have at hand.
    #[must_use]
    pub fn scope(&self, actor: &Actor) -> Vec<ScopeKey> {
        let account = actor.account().clone();
        let own = match actor {
            Actor::Consumer { id, .. } => Some(id.clone()),
            Actor::Agent { .. } | Actor::Application { .. } | Actor::System { .. } => None,
        };
        let agents = |agents: &mut dyn Iterator<Item = &UserId>| -> Vec<ScopeKey> {
            agents.map(|agent| ScopeKey::Agent(account.clone(), agent.clone())).collect()
        };
        match self {
            Self::Remark(_) => Vec::new(),
            Self::SeeConsumer { consumer, .. } => vec![ScopeKey::Consumer(account, consumer.clone())],
            Self::SetProfile { consumer: Some(consumer), .. } => vec![ScopeKey::Consumer(account, consumer.clone())],
            Self::SetProfile { .. } | Self::SeeClaims { .. } => own.map(|id| ScopeKey::Consumer(account, id)).into_iter().collect(),
            Self::Open { consumer, binding, .. } => {
                let whose = consumer.clone().or(own);
                let named = whose.clone().zip(binding.clone()).map(|(id, name)| ScopeKey::Binding(account.clone(), id, name));
                let whose = whose.map(|id| ScopeKey::Consumer(account.clone(), id));
                whose.into_iter().chain(named).chain([ScopeKey::Numbers(account)]).collect()
            }
            Self::SetAvailability { agent, .. } => agents(&mut std::iter::once(agent)),
            Self::Route { conversation, candidates, .. } => {
                let mut scope = agents(&mut candidates.iter().filter_map(|candidate| candidate.agent.user()));
                scope.push(ScopeKey::Conversation(conversation.clone()));
                scope
            }
            Self::AnswerRing { conversation, .. } => {
                let answering = actor.person();
                let mut scope = agents(&mut answering.iter().filter_map(Person::user));
                scope.push(ScopeKey::Conversation(conversation.clone()));
                scope
            }
            Self::Record { conversation, external, .. } => {
                let named = external.clone().map(|name| ScopeKey::Named(conversation.clone(), name));
                [ScopeKey::Conversation(conversation.clone())].into_iter().chain(named).collect()
            }
            Self::Link { child, parent, was, .. } => {
                [child, parent].into_iter().chain(was).map(|id| ScopeKey::Conversation(id.clone())).collect()
            }
            Self::Publish { conversation, .. }
            | Self::Type { conversation, .. }
            | Self::Update { conversation, .. }
            | Self::CancelRing { conversation, .. }
            | Self::Wake { conversation }
            | Self::Release { conversation, .. } => vec![ScopeKey::Conversation(conversation.clone())],
        }
    }
}

/// Decides about commands that belong together: all of them happen or none.
///
/// # Errors
/// The place of the first command that is refused, and why.
pub fn decide(actor: &Actor, commands: &[Command], policy: &Policy, draft: &mut Draft<'_>) -> Result<Vec<Outcome>, (usize, Refusal)> {
    let one = |(place, command)| one(actor, command, policy, draft).map_err(|refusal| (place, refusal));
    commands.iter().enumerate().map(one).collect()
}

fn one(actor: &Actor, command: &Command, policy: &Policy, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    match command {
        Command::SeeConsumer { is_new: true, consumer, .. } if draft.knows_consumer(actor.account(), consumer) => {
            Err(Refusal::Duplicate("A consumer of that name".into()))
        }
        Command::SeeConsumer { consumer, app, ext_id, .. } => {
            if !draft.knows_consumer(actor.account(), consumer) {
                let entry = Entry::ConsumerSeen { consumer: consumer.clone(), app: app.clone(), ext_id: ext_id.clone() };
                draft.about_consumer(actor.account(), consumer, entry);
            }
            Ok(Outcome::ConsumerSeen)
        }
        Command::SeeClaims { claims } => see_claims(actor, claims, draft),
        Command::SetProfile { consumer, profile } => set_profile(actor, consumer.as_ref(), profile, draft),
        Command::Remark(sentence) => Ok(Outcome::Remarked(sentence.clone())),
        Command::Open { .. } => open(actor, command, policy, draft),
        Command::Publish { .. } => publish(actor, command, policy, draft),
        Command::Record { .. } => record::record(actor, command, draft),
        Command::Link { child, parent, kind, was } => record::link(actor, (child, parent), *kind, was.as_ref(), draft),
        Command::Type { conversation, dialog, whisper, .. } => {
            let (conversation, dialog) = draft.meant(conversation, dialog);
            let may = may_publish(actor, &conversation, &dialog, EventClass::Content, draft)?;
            may_whisper(*whisper, &may.from)?;
            Ok(Outcome::Published { sequence: 0, resends: 0 })
        }
        Command::Update { conversation, changes } => update(actor, conversation, changes, policy, draft),
        Command::SetAvailability { .. } => set_availability(actor, command, draft),
        Command::Route { conversation, queue, candidates } => {
            system_only(actor).and_then(|()| offer::route(actor, conversation, queue, candidates, policy, draft))
        }
        Command::AnswerRing { conversation, ring, accepts, capacity } => {
            let answer = if *accepts { offer::Answer::Accepts { capacity: *capacity } } else { offer::Answer::Rejects };
            offer::answer(actor, conversation, ring, answer, policy, draft)
        }
        Command::CancelRing { conversation, ring } => system_only(actor).and_then(|()| offer::cancel(actor, conversation, ring, draft)),
        Command::Wake { conversation } => system_only(actor).and_then(|()| wake(actor, conversation, policy, draft)),
        Command::Release { conversation, agent } => {
            system_only(actor)?;
            // By its number: an agent that is no longer configured has no other name.
            let assignee = visible(actor, draft.conversation(conversation))?.details.assignee().map(|assignee| assignee.person.clone());
            let gone = assignee.filter(|person| person.user() == Some(agent));
            let leave = gone.map(|person| FieldChange::Leave { person, role: Role::AssignedAgent });
            update(actor, conversation, leave.as_slice(), policy, draft)
        }
    }
}

fn system_only(actor: &Actor) -> Result<(), Refusal> {
    match actor {
        Actor::System { .. } => Ok(()),
        _ => Err(Refusal::NotPermitted("only the gateway itself does this".into())),
    }
}

fn speaking_consumer(actor: &Actor) -> Result<(&ConsumerId, Option<&ClientId>), Refusal> {
    match actor {
        Actor::Consumer { id, app, .. } => Ok((id, app.as_ref())),
        Actor::Agent { .. } | Actor::System { .. } => Err(Refusal::NotPermitted("only a consumer may do this".into())),
        Actor::Application { .. } => Err(silent_application()),
    }
}

fn silent_application() -> Refusal {
    Refusal::NotPermitted("an application acts only with the ConsumerJWS of the consumer it speaks for".into())
}

/// Members of a profile that others say of a consumer, and it not of itself.
const OTHERS_SAY: [&str; 4] = ["userId", "claims", "acr", "role"];

fn set_profile(actor: &Actor, whose: Option<&ConsumerId>, profile: &RawValue, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let (consumer, knows) = match whose {
        Some(consumer) if !actor.is_manager() => {
            return Err(Refusal::NotPermitted(format!("only a manager may change what is known of consumer {consumer}").into()));
        }
        Some(consumer) if !draft.knows_consumer(actor.account(), consumer) => {
            return Err(Refusal::NobodyThere(format!("Consumer {consumer}").into()));
        }
        Some(consumer) => (consumer, true),
        None => speaking_consumer(actor).map(|(consumer, app)| (consumer, app.is_some()))?,
    };
    let object = || Refusal::Invalid("a profile must be an object".into());
    let mut given: serde_json::Map<String, serde_json::Value> = serde_json::from_str(profile.get()).map_err(|_| object())?;
    // What is known for certain of a consumer an application says that knows it; a web page does not.
    let is_theirs = |name: &String| !OTHERS_SAY.contains(&name.as_str()) && (knows || name != "authenticatedData");
    given.retain(|name, _| is_theirs(name));
    let mut merged = draft.consumer(actor.account(), consumer).profile.clone();
    // A program names the members that it changes, of what is private, too: two who change others at once lose nothing. A web page
    // says all that it knows.
    if knows
        && let (Some(before), Some(news)) = (merged.get("privateData"), given.get_mut("privateData"))
        && let (Some(before), Some(news)) = (before.as_object(), news.as_object_mut())
    {
        let said = std::mem::replace(news, before.clone());
        news.extend(said);
    }
    merged.extend(given.clone());
    if serde_json::to_string(&merged).map_or(0, |text| text.len()) > LARGEST_PROFILE {
        return Err(Refusal::Invalid(format!("a profile has at most {LARGEST_PROFILE} bytes").into()));
    }
    if !given.is_empty() {
        let profile = serde_json::value::to_raw_value(&given).map_err(|_| object())?;
        draft.about_consumer(actor.account(), consumer, Entry::ProfileSet { consumer: consumer.clone(), profile });
    }
    Ok(Outcome::ProfileSet)
}

fn see_claims(actor: &Actor, claims: &RawValue, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let (consumer, _) = speaking_consumer(actor)?;
    let known = &draft.consumer(actor.account(), consumer).claims;
    if known.as_ref().is_none_or(|known| known.get() != claims.get()) {
        let entry = Entry::ClaimsSeen { consumer: consumer.clone(), claims: claims.to_owned() };
        draft.about_consumer(actor.account(), consumer, entry);
    }
    Ok(Outcome::ConsumerSeen)
}

/// An agent speaks for itself; a manager may speak for others.
fn set_availability(actor: &Actor, command: &Command, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let Command::SetAvailability { agent, availability, channels, description, reason } = command else { return Ok(Outcome::Updated) };
    match actor {
        Actor::Agent { user, .. } if user == agent || actor.is_manager() => {}
        Actor::Agent { .. } => return Err(Refusal::NotPermitted("only a manager may set another agent's state".into())),
        _ => return Err(Refusal::NotPermitted("only an agent has a state".into())),
    }
    let known = draft.agent(actor.account(), agent);
    let is_new = known.version == 0
        || (known.availability, &known.channels, &known.description, &known.reason) != (*availability, channels, description, reason);
    if is_new {
        draft.set_agent_state(
            actor.account(),
            Entry::AgentStateSet {
                agent: agent.clone(),
                availability: *availability,
                channels: channels.clone(),
                description: description.clone(),
                reason: reason.clone(),
            },
        );
    }
    Ok(Outcome::Updated)
}

fn open(actor: &Actor, command: &Command, policy: &Policy, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let Command::Open { conversation, consumer, queue, ttr, context, campaign, features, binding, origin } = command else {
        return Ok(Outcome::Updated);
    };
    let account = actor.account();
    let (consumer, app, agent) = match actor {
        Actor::Consumer { id, app, .. } => (id.clone(), app.clone(), None),
        Actor::Agent { .. } | Actor::System { .. } => {
            let Some(consumer) = consumer else { return Err(Refusal::Invalid("consumerId is missing".into())) };
            if !draft.knows_consumer(account, consumer) {
                return Err(Refusal::NobodyThere(format!("Consumer {consumer}").into()));
            }
            // Nobody has charge by opening of what the consumer began, of what is over, and of a call that is still to be made.
            let takes = |origin: &Arc<Origin>| {
                origin.direction == Direction::Outbound && origin.channel != Channel::Callback && origin.began.is_none()
            };
            let takes = matches!(actor, Actor::Agent { .. }) && origin.as_ref().is_none_or(takes);
            (consumer.clone(), draft.consumer(account, consumer).app.clone(), actor.person().filter(|_| takes))
        }
        Actor::Application { .. } => return Err(silent_application()),
    };
    if let Some(found) = binding.as_ref().and_then(|name| draft.bound(account, &consumer, name)) {
        // What else the batch says of the conversation it meant to open is said of this one.
        draft.stands_for(conversation, &found);
        return Ok(Outcome::Opened { conversation: found, found: true });
    }
    origin.as_deref().map_or(Ok(()), record::fits)?;
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
        features: features.clone(),
        binding: binding.clone(),
        silence: policy.silence,
        patience: policy.patience,
        origin: origin.clone(),
    };
    draft.open(account, opened);
    Ok(Outcome::Opened { conversation: conversation.clone(), found: false })
}

/// How the actor may publish.
struct MayPublish {
    from: Person,
    role: Role,
    sequence: u64,
    app: Option<ClientId>,
}

fn may_publish(
    actor: &Actor,
    conversation: &ConversationId,
    dialog: &DialogId,
    class: EventClass,
    draft: &mut Draft<'_>,
) -> Result<MayPublish, Refusal> {
    let conversation = visible(actor, draft.conversation(conversation))?;
    let Some(from) = actor.person() else { return Err(silent_application()) };
    record::is_not_erased(conversation)?;
    let Some((place, found)) = conversation.dialog(dialog) else { return Err(Refusal::NoSuchDialog) };
    let Some(role) = conversation.details.role_in(found, &from) else { return Err(Refusal::NotAParticipant) };
    // A receipt may come late: it says what happened to a message, and adds none.
    if found.state == OpenState::Closed && class != EventClass::Receipt {
        return Err(Refusal::DialogClosed);
    }
    Ok(MayPublish { from, role, sequence: conversation.next[place], app: conversation.details.app.clone() })
}

fn may_whisper(whisper: bool, from: &Person) -> Result<(), Refusal> {
    if whisper && !from.is_agent() {
        return Err(Refusal::Invalid("messageAudience AGENTS_AND_MANAGERS is for the brand's side; a consumer writes to ALL".into()));
    }
    Ok(())
}

fn publish(actor: &Actor, command: &Command, policy: &Policy, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let Command::Publish { conversation, dialog, class, event, metadata, encoded_metadata, client, file, whisper } = command else {
        return Ok(Outcome::Updated);
    };
    let (conversation, dialog) = draft.meant(conversation, dialog);
    let MayPublish { from, role, sequence, app } = may_publish(actor, &conversation, &dialog, *class, draft)?;
    may_whisper(*whisper, &from)?;
    let resends = draft.resends();
    let is_consumers = role == Role::Consumer && *class != EventClass::Receipt;
    draft.publish(Message {
        conversation: conversation.clone(),
        dialog: dialog.clone(),
        sequence,
        class: *class,
        from,
        role,
        whisper: *whisper,
        begins: false,
        event: event.clone(),
        metadata: metadata.clone(),
        encoded_metadata: encoded_metadata.clone(),
        client: client.clone(),
        file: file.clone(),
        app,
        written: None,
        external: None,
    });
    if is_consumers {
        if dialog == conversation.main_dialog() {
            welcome(&conversation, policy, draft);
        } else {
            survey::answered(&conversation, &dialog, event, policy, draft);
        }
    }
    Ok(Outcome::Published { sequence, resends })
}

/// Welcomes a consumer whose client knows automatic messages, behind its first message, if that comes soon.
fn welcome(conversation: &ConversationId, policy: &Policy, draft: &mut Draft<'_>) {
    let Some(text) = &policy.welcome else { return };
    let Some(known) = draft.conversation(conversation) else { return };
    let knows_them = known.details.features.iter().any(|feature| feature == "AUTO_MESSAGES");
    if knows_them && known.next[0] == 1 && known.last_at <= known.details.started + WELCOME_WITHIN {
        let dialog = conversation.main_dialog();
        draft.say(conversation, &dialog, &policy.bot, Role::Controller, text_event(text), None);
    }
}

/// Does what has fallen due.
fn wake(actor: &Actor, id: &ConversationId, policy: &Policy, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let now = draft.now();
    let Some(by) = actor.person() else { return Err(silent_application()) };
    let conversation = visible(actor, draft.conversation(id))?;
    let details = &conversation.details;
    let is_due = |at: Option<Millis>| at.is_some_and(|at| at <= now);
    let overdue = details.dialogs.iter().find(|dialog| dialog.state == OpenState::Open && is_due(dialog.until));
    let changes = if is_due(conversation.falls_silent()) {
        close(conversation, Closer::Timeout)
    } else if let Some(dialog) = overdue {
        survey::ended(conversation, &dialog.id.clone(), Closer::Timeout, "Timeout")
    } else if is_due(details.ring.as_ref().map(|ring| ring.until)) {
        offer::expired(conversation, now, policy)
    } else if let Some(change) = conversation.patience_ran_out(now) {
        vec![change]
    } else if details.refused.iter().any(|refused| refused.until <= now) {
        vec![Change::RefusalsForgotten { now }]
    } else {
        Vec::new()
    };
    draft.change(id, by, changes);
    Ok(Outcome::Updated)
}

fn update(actor: &Actor, id: &ConversationId, wanted: &[FieldChange], policy: &Policy, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    if wanted.contains(&FieldChange::TakeOver) {
        return take_over(actor, id, draft);
    }
    let now = draft.now();
    let (id, _) = draft.meant(id, &id.main_dialog());
    let mut after = visible(actor, draft.conversation(&id))?.clone();
    let Some(by) = actor.person() else { return Err(silent_application()) };
    let mut had_main = after.details.main_is_open();
    // Whoever leaves with one field of a request may still say with another what becomes of the conversation.
    let present = after.details.participant(&by).map(|participant| participant.state);
    let mut changes = Vec::new();
    for field in wanted {
        record::is_not_erased(&after)?;
        // Whoever is only invited may come, or not.
        let may = present == Some(ParticipantState::Active)
            || match field {
                FieldChange::Join { person, .. } | FieldChange::Claim { person, .. } => *person == by,
                FieldChange::Come { person } | FieldChange::Go { person } => *person == by,
                FieldChange::Leave { person, .. } => *person == by && present.is_some(),
                _ => false,
            };
        if by.is_agent() && !may && !actor.is_manager() {
            return Err(Refusal::NotAParticipant);
        }
        let made = field_change(actor, &by, &after, field, policy, now)?;
        if after.details.binding.is_some() && made.contains(&Change::Reopened) {
            is_unbound(&after, draft)?;
        }
        // The next field is judged by what this one makes of the conversation; times and versions are the draft's.
        let (at, version) = (after.last_at, after.version);
        after.change(&made, at, version);
        had_main |= after.details.main_is_open();
        record::is_not_too_much(&made, &after)?;
        changes.extend(made);
    }
    let opens_survey = had_main && !after.details.main_is_open() && after.details.stage == OpenState::Open;
    let host = by.clone();
    draft.change(&id, by, changes);
    if opens_survey {
        survey::begin(&id, &host, policy, draft);
    }
    Ok(Outcome::Updated)
}

/// While another conversation stands under its opener's name for it, one is not opened again: two would answer to it.
fn is_unbound(closed: &Conversation, draft: &Draft<'_>) -> Result<(), Refusal> {
    let details = &closed.details;
    let name = details.binding.as_deref().unwrap_or_default();
    match draft.bound(&details.account, &details.consumer, name) {
        Some(other) if other != details.id => {
            Err(Refusal::NotNow(format!("conversation {other} is open under the same name ({name}); go on with that").into()))
        }
        _ => Ok(()),
    }
}

/// A consumer that has signed in goes on with a conversation that it began before.
fn take_over(actor: &Actor, id: &ConversationId, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let Actor::Consumer { id: now, was, .. } = actor else {
        return Err(Refusal::NotPermitted("only a consumer that has signed in takes a conversation over".into()));
    };
    let Some(conversation) = draft.conversation(id) else { return Err(Refusal::NoSuchConversation) };
    let details = &conversation.details;
    let is_theirs = details.account == *actor.account() && (details.consumer == *now || Some(&details.consumer) == was.as_ref());
    if !is_theirs {
        return Err(Refusal::NoSuchConversation);
    }
    if details.consumer != *now {
        let change = Change::ConsumerReplaced { consumer: now.clone() };
        draft.change(id, Person::Consumer(now.clone()), vec![change]);
    }
    Ok(Outcome::Updated)
}

/// What one field becomes; nothing, if it is so already.
fn field_change(
    actor: &Actor,
    by: &Person,
    conversation: &Conversation,
    field: &FieldChange,
    policy: &Policy,
    now: Millis,
) -> Result<Vec<Change>, Refusal> {
    let details = &conversation.details;
    let closer = match actor {
        Actor::System { .. } => Closer::System,
        _ if by.is_agent() => Closer::Agent,
        _ => Closer::Consumer,
    };
    let brand_only = || match by.is_agent() {
        true => Ok(()),
        false => Err(Refusal::NotPermitted("only the brand's side may change this".into())),
    };
    let open_only = || match details.main_is_open() {
        true => Ok(()),
        false => Err(Refusal::NotNow("Conversation is closed".into())),
    };
    match field {
        FieldChange::Close => Ok(close(conversation, closer)),
        FieldChange::CloseDialog { dialog, cause } => close_dialog(conversation, dialog.as_ref(), closer, cause.as_ref(), policy),
        FieldChange::TakeOver => Err(Refusal::NotPermitted("an identity is taken over in a request of its own".into())),
        FieldChange::Rate(csat) => match by.is_agent() {
            true => Err(Refusal::NotPermitted("only the consumer may rate a conversation".into())),
            false => Ok(vec![Change::Rated { csat: csat.clone() }]),
        },
        FieldChange::SetTtr(ttr) => open_only().map(|()| vec![Change::TtrSet { ttr: ttr.clone() }]),
        FieldChange::Note(note) => brand_only().map(|()| vec![Change::Noted { note: note.clone(), id: None, author: None, written: None }]),
        FieldChange::SetDue(at) => brand_only().and_then(|()| open_only()).map(|()| vec![Change::DueSet { at: *at }]),
        FieldChange::SetQueue(queue) => {
            brand_only().and_then(|()| open_only()).map(|()| vec![Change::QueueSet { queue: queue.clone(), asks: false }])
        }
        FieldChange::Join { .. } | FieldChange::Leave { .. } | FieldChange::Suggest { .. } | FieldChange::SetRole { .. } => {
            brand_only()?;
            open_only()?;
            participation(conversation, field)
        }
        FieldChange::Come { person } => {
            brand_only()?;
            if details.participant(person).is_some_and(|present| present.state == ParticipantState::Active) {
                return Ok(Vec::new());
            }
            open_only()?;
            let role = if details.assignee().is_some() { Role::Agent } else { Role::AssignedAgent };
            participation(conversation, &FieldChange::Join { person: person.clone(), role })
        }
        FieldChange::Go { person } => {
            brand_only()?;
            let Some(present) = details.participant(person) else { return Ok(Vec::new()) };
            open_only()?;
            Ok(vec![Change::Left { person: person.clone(), role: present.active_role() }])
        }
        FieldChange::AnswerRating { rating, given } => match by.is_agent() && !actor.is_manager() {
            true => Err(Refusal::NotPermitted("only the consumer, or a manager for it, gives a rating".into())),
            false => record::answer_rating(conversation, rating, given),
        },
        FieldChange::AddNote { author, .. } if author != by && !actor.is_manager() => {
            Err(Refusal::NotPermitted("only a manager writes in another's name".into()))
        }
        FieldChange::Anonymise { .. } | FieldChange::AnonymiseMessage { .. } if !actor.is_manager() => {
            Err(Refusal::NotPermitted("only a manager has something erased".into()))
        }
        FieldChange::AddNote { .. }
        | FieldChange::Reopen
        | FieldChange::Claim { .. }
        | FieldChange::Transfer(_)
        | FieldChange::Tag(_)
        | FieldChange::Untag(_)
        | FieldChange::SetAttributes(_)
        | FieldChange::OfferRating(_)
        | FieldChange::SetPlace(..)
        | FieldChange::Answer(_)
        | FieldChange::Book { .. }
        | FieldChange::Anonymise { .. }
        | FieldChange::AnonymiseMessage { .. } => brand_only().and_then(|()| record::field_change(conversation, field, closer, now)),
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
    policy: &Policy,
) -> Result<Vec<Change>, Refusal> {
    let main = conversation.details.id.main_dialog();
    let wanted = dialog.unwrap_or(&main);
    let Some((_, found)) = conversation.dialog(wanted) else { return Err(Refusal::NoSuchDialog) };
    if found.state == OpenState::Closed {
        return Ok(Vec::new());
    }
    let closed = Change::DialogClosed { dialog: wanted.clone(), by, cause: cause.cloned() };
    let others = conversation.details.dialogs.iter().any(|dialog| dialog.id != *wanted && dialog.state == OpenState::Open);
    let is_followed = *wanted == main && survey::follows(conversation, by, policy);
    Ok(if others || is_followed { vec![closed] } else { vec![closed, Change::Closed { by }] })
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
            Some(_) => Err(Refusal::NotNow(text::ALREADY_A_PARTICIPANT.into())),
            None => {
                // One at a time: who was invited before is not any more.
                let before = details.suggested().map(|suggested| Change::Left { person: suggested.person.clone(), role: None });
                let joined = Change::Joined { person: person.clone(), role: Role::AssignedAgent, suggested: true };
                Ok(before.into_iter().chain([joined]).collect())
            }
        },
        FieldChange::Leave { person, role } => match details.participant(person) {
            Some(present) if present.role == *role => Ok(vec![Change::Left { person: person.clone(), role: present.active_role() }]),
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
