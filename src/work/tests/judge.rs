//! The rules of routing as a reader knows them who has never seen the router: told what happened, it keeps books of its
//! own and says which rule is broken. Nothing of how agents are chosen is used here.

use crate::domain::{Availability, Change, Conversation, Entry, Millis, OpenState, Person, RingState, Role, Sight};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{ConversationId, QueueId, RingId, UserId};

/// How long an offer stands.
pub(super) const RING: Millis = 72_000;
/// How long an agent who did not take a conversation is not asked again.
pub(super) const REFUSAL: Millis = 120_000;

/// Something that happened.
#[derive(Debug, Clone)]
pub(super) enum Fact {
    /// It is later.
    Clock(Millis),
    /// An agent has a socket.
    Came(UserId),
    /// It has none any more.
    Went(UserId),
    /// Nobody has one any more.
    Restarted,
    /// An entry of the journal.
    Written(Arc<Sight>),
    /// What a conversation is by now, as the store tells it.
    State(Box<Conversation>),
    /// Whoever looks for agents can know of all this from here on.
    Known,
    /// Nothing is left to do until something happens.
    Settled,
}

/// A rule that may be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Rule {
    /// A conversation that needs somebody is in a queue, or somebody has it.
    NeverLost,
    /// Nobody shares a conversation.
    OneAssignee,
    /// Nobody has or is offered more than it takes.
    Capacity,
    /// An offer is made to somebody who is there, fits, is free and has not refused.
    FitOffer,
    /// Among those of one queue that an agent may take, the longest waiting is offered to it first.
    InTurn,
    /// An offer ends once: accepted or rejected in time, expired after it, or cancelled.
    OneEnd,
    /// No offer stands that is over, or that nobody can take.
    NoStaleOffer,
    /// Nobody waits while somebody is free who fits and has not refused.
    NoNeedlessWait,
    /// Who is gone keeps nothing, where that is so configured.
    NothingForTheAbsent,
    /// The store says the same as the journal.
    OneTruth,
}

/// A broken rule, and how it was seen.
#[derive(Debug, Clone)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) conversation: Option<ConversationId>,
    pub(super) detail: String,
}

type Verdict = Result<(), Violation>;

fn hold(is_kept: bool, rule: Rule, conversation: &ConversationId, detail: impl FnOnce() -> String) -> Verdict {
    if is_kept { Ok(()) } else { Err(Violation { rule, conversation: Some(conversation.clone()), detail: detail() }) }
}

/// An agent, as configured and as seen.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) skills: BTreeSet<QueueId>,
    pub(super) capacity: usize,
    pub(super) is_online: bool,
    pub(super) has_socket: bool,
    /// How many conversations it has or is offered.
    pub(super) load: usize,
}

impl Agent {
    pub(super) fn new(skills: BTreeSet<QueueId>, capacity: usize) -> Self {
        Self { skills, capacity, is_online: false, has_socket: false, load: 0 }
    }

    fn is_there(&self) -> bool {
        self.is_online && self.has_socket
    }

    fn is_free(&self) -> bool {
        self.is_there() && self.load < self.capacity
    }
}

/// An offer that stands.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) ring: RingId,
    pub(super) agent: UserId,
    pub(super) until: Millis,
}

/// A conversation, as seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) queue: QueueId,
    pub(super) is_open: bool,
    /// The consumer has spoken, or somebody had it.
    needs_somebody: bool,
    pub(super) assigned: BTreeSet<UserId>,
    pub(super) invited: Option<UserId>,
    pub(super) offer: Option<Offer>,
    refused: BTreeMap<UserId, Millis>,
    number: i64,
    since: Millis,
    /// When it could be known that it stands in its queue, counted in [`Fact::Known`].
    ready: u64,
    pub(super) state: Option<Box<Conversation>>,
}

impl Seen {
    /// Whether somebody must be found for it.
    pub(super) fn waits(&self) -> bool {
        self.is_open && self.needs_somebody && self.assigned.is_empty()
    }

    /// Whether it stands in its queue and could be offered to the next who is free.
    fn is_ready(&self) -> bool {
        self.waits() && self.offer.is_none() && self.invited.is_none()
    }

    pub(super) fn has_refused(&self, agent: &UserId, now: Millis) -> bool {
        self.refused.get(agent).is_some_and(|until| now < *until)
    }

    /// Whether it stands before another of its queue.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        (self.since, self.number) < (other.since, other.number)
    }

    fn may_be_offered(&self, user: &UserId, agent: &Agent, now: Millis) -> bool {
        agent.skills.contains(&self.queue) && !self.has_refused(user, now)
    }

    /// Of whose capacity it takes a part.
    fn holders(&self) -> Vec<UserId> {
        let assigned = self.assigned.iter().filter(|_| self.is_open);
        let offered = self.offer.iter().map(|offer| &offer.agent).filter(|agent| !self.assigned.contains(*agent));
        assigned.chain(offered).cloned().collect()
    }
}

/// How offers ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    pub(super) accepted: usize,
    pub(super) rejected: usize,
    pub(super) expired: usize,
    pub(super) cancelled: usize,
}

/// The judge.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    pub(super) agents: BTreeMap<UserId, Agent>,
    /// Those that are open, or about which something was heard since they were judged.
    pub(super) conversations: BTreeMap<ConversationId, Seen>,
    /// The others: they are over.
    past: BTreeMap<ConversationId, Seen>,
    pub(super) now: Millis,
    pub(super) ends: Ends,
    /// Offers that were ever made, and whether they are over.
    rings: BTreeMap<RingId, bool>,
    queues: BTreeSet<QueueId>,
    is_released: bool,
    known: u64,
}

impl Judge {
    /// Before anything happened. Agents who go either keep what they have, or it is released.
    pub(super) fn new(agents: BTreeMap<UserId, Agent>, queues: BTreeSet<QueueId>, now: Millis, is_released: bool) -> Self {
        Self {
            agents,
            conversations: BTreeMap::new(),
            past: BTreeMap::new(),
            now,
            ends: Ends::default(),
            rings: BTreeMap::new(),
            queues,
            is_released,
            known: 0,
        }
    }

    /// Takes in what happened.
    pub(super) fn hear(&mut self, fact: &Fact) -> Verdict {
        match fact {
            Fact::Clock(now) => self.now = *now,
            Fact::Came(user) => self.agent(user).has_socket = true,
            Fact::Went(user) => self.agent(user).has_socket = false,
            Fact::Restarted => self.agents.values_mut().for_each(|agent| agent.has_socket = false),
            Fact::State(state) => self.seen(&state.details.id).state = Some(state.clone()),
            Fact::Written(sight) => return self.written(sight),
            Fact::Known => self.known += 1,
            Fact::Settled => {
                self.settled()?;
                let over = self.conversations.extract_if(.., |_, seen| !seen.is_open);
                self.past.extend(over);
            }
        }
        Ok(())
    }

    fn seen(&mut self, id: &ConversationId) -> &mut Seen {
        if let Some(past) = self.past.remove(id) {
            self.conversations.insert(id.clone(), past);
        }
        self.conversations.get_mut(id).expect("opened before")
    }

    fn agent(&mut self, user: &UserId) -> &mut Agent {
        self.agents.get_mut(user).expect("only configured agents act")
    }

    fn written(&mut self, sight: &Sight) -> Verdict {
        match &sight.entry {
            Entry::Removed { conversation, .. } => unreachable!("nothing is configured to be removed: {conversation}"),
            Entry::AgentStateSet { agent, availability, .. } => self.agent(agent).is_online = *availability == Availability::Online,
            Entry::Opened(opened) => {
                let seen = Seen {
                    queue: opened.queue.clone(),
                    is_open: true,
                    needs_somebody: false,
                    assigned: BTreeSet::new(),
                    invited: None,
                    offer: None,
                    refused: BTreeMap::new(),
                    number: opened.number,
                    since: 0,
                    ready: 0,
                    state: None,
                };
                self.conversations.insert(opened.conversation.clone(), seen);
            }
            Entry::Published(message) => {
                let known = self.known;
                let seen = self.seen(&message.conversation);
                if message.role == Role::Consumer && message.class == EventClass::Content && !seen.needs_somebody {
                    (seen.needs_somebody, seen.since, seen.ready) = (true, sight.at, known);
                }
            }
            Entry::Changed { conversation, changes, .. } => return self.changed(conversation, changes, sight.at),
            Entry::ConsumerSeen { .. } | Entry::ClaimsSeen { .. } | Entry::ProfileSet { .. } => {}
        }
        Ok(())
    }

    fn changed(&mut self, id: &ConversationId, changes: &[Change], at: Millis) -> Verdict {
        let mut seen = self.seen(id).clone();
        self.conversations.remove(id);
        let before = (seen.holders(), seen.assigned.clone(), seen.queue.clone(), seen.is_ready());
        for change in changes {
            self.change(id, &mut seen, change)?;
        }
        let is_elsewhere = before.2 != seen.queue;
        if seen.waits() && (is_elsewhere || !before.1.is_empty()) {
            (seen.needs_somebody, seen.since) = (true, at);
        }
        if is_elsewhere || !before.3 {
            seen.ready = self.known;
        }
        hold(seen.assigned.len() <= 1, Rule::OneAssignee, id, || format!("it has {:?}", seen.assigned))?;
        let after = seen.holders();
        for user in &before.0 {
            self.agent(user).load -= 1;
        }
        for user in &after {
            let agent = self.agent(user);
            agent.load += 1;
            let (load, capacity) = (agent.load, agent.capacity);
            hold(load <= capacity, Rule::Capacity, id, || format!("{user} has {load} and takes {capacity}"))?;
        }
        self.conversations.insert(id.clone(), seen);
        Ok(())
    }

    fn change(&mut self, id: &ConversationId, seen: &mut Seen, change: &Change) -> Verdict {
        match change {
            Change::DialogClosed { .. } | Change::Closed { .. } => {
                seen.is_open = false;
                seen.invited = None;
                seen.refused.clear();
            }
            Change::Joined { person, role: Role::AssignedAgent, suggested } => {
                let user = user(person);
                seen.needs_somebody |= !suggested;
                if *suggested {
                    seen.invited = Some(user);
                } else {
                    seen.invited = seen.invited.take().filter(|invited| *invited != user);
                    seen.assigned.insert(user);
                }
            }
            Change::Left { person } => {
                let user = user(person);
                seen.assigned.remove(&user);
                seen.invited = seen.invited.take().filter(|invited| *invited != user);
            }
            Change::QueueSet { queue, .. } => {
                if *queue != seen.queue {
                    seen.refused.clear();
                }
                seen.queue = queue.clone();
            }
            Change::Offered { ring, agent, until } => {
                let user = user(agent);
                self.may_offer(id, seen, &user, *until)?;
                let is_new = self.rings.insert(ring.clone(), false).is_none();
                hold(is_new && seen.offer.is_none(), Rule::OneEnd, id, || format!("{ring} is offered while another stands"))?;
                seen.offer = Some(Offer { ring: ring.clone(), agent: user, until: *until });
            }
            Change::RingEnded { state, .. } => self.ended(id, seen, *state)?,
            Change::RefusalsForgotten { .. } => {}
            other => panic!("no step of the simulation does this: {other:?}"),
        }
        Ok(())
    }

    fn may_offer(&self, id: &ConversationId, seen: &Seen, user: &UserId, until: Millis) -> Verdict {
        let agent = &self.agents[user];
        let (now, is_invited) = (self.now, seen.invited.as_ref() == Some(user));
        let fits = is_invited || (seen.is_ready() && seen.may_be_offered(user, agent, now));
        // Changes of one conversation at one moment stand a millisecond apart.
        let is_as_long = (RING..RING + 1000).contains(&(until - now));
        hold(fits && agent.is_free() && is_as_long, Rule::FitOffer, id, || format!("offered to {user}, who is {agent:?}: {seen:?}"))?;
        if is_invited {
            return Ok(());
        }
        let passed = self.conversations.iter().find(|(_, other)| {
            let is_before = other.queue == seen.queue && other.is_before(seen);
            is_before && other.is_ready() && other.ready < self.known && other.may_be_offered(user, agent, now)
        });
        hold(passed.is_none(), Rule::InTurn, id, || format!("offered to {user} before {:?}", passed.map(|(id, _)| id)))
    }

    fn ended(&mut self, id: &ConversationId, seen: &mut Seen, state: RingState) -> Verdict {
        let Some(offer) = seen.offer.take() else {
            return hold(false, Rule::OneEnd, id, || "an end without an offer".into());
        };
        let was_over = self.rings.insert(offer.ring.clone(), true);
        let is_in_time = match state {
            RingState::Accepted | RingState::Rejected => self.now < offer.until,
            RingState::Expired => self.now >= offer.until,
            RingState::Cancelled => true,
            RingState::Waiting => false,
        };
        hold(was_over == Some(false) && is_in_time, Rule::OneEnd, id, || format!("{offer:?} ends as {state:?} at {}", self.now))?;
        match state {
            RingState::Accepted => self.ends.accepted += 1,
            RingState::Rejected => self.ends.rejected += 1,
            RingState::Expired => self.ends.expired += 1,
            RingState::Cancelled | RingState::Waiting => self.ends.cancelled += 1,
        }
        if matches!(state, RingState::Rejected | RingState::Expired) {
            seen.refused.insert(offer.agent, self.now + REFUSAL);
        }
        Ok(())
    }

    fn settled(&self) -> Verdict {
        let free: Vec<_> = self.agents.iter().filter(|(_, agent)| agent.is_free()).collect();
        for (id, seen) in &self.conversations {
            self.agrees(id, seen)?;
            self.is_somewhere(id, seen)?;
            self.is_offered_well(id, seen)?;
            let is_kept = self.is_released && seen.is_open && seen.assigned.iter().any(|user| !self.agents[user].has_socket);
            hold(!is_kept, Rule::NothingForTheAbsent, id, || format!("{:?} has it and is gone", seen.assigned))?;
            if seen.offer.is_some() || !seen.is_open {
                continue;
            }
            hold(seen.invited.is_none(), Rule::NoNeedlessWait, id, || format!("{:?} is invited and not asked", seen.invited))?;
            let taker = free.iter().find(|(user, agent)| seen.waits() && seen.may_be_offered(user, agent, self.now));
            hold(taker.is_none(), Rule::NoNeedlessWait, id, || format!("{taker:?} could have it: {seen:?}"))?;
        }
        Ok(())
    }

    fn is_somewhere(&self, id: &ConversationId, seen: &Seen) -> Verdict {
        let is_in_queue = seen.state.as_ref().is_some_and(|state| state.is_pending()) && self.queues.contains(&seen.queue);
        hold(!seen.waits() || is_in_queue, Rule::NeverLost, id, || format!("nobody has it and no queue: {seen:?}"))
    }

    /// Every offer that stands has still time, and somebody who can take it.
    fn is_offered_well(&self, id: &ConversationId, seen: &Seen) -> Verdict {
        let Some(offer) = &seen.offer else { return Ok(()) };
        let is_wanted = seen.invited.as_ref().map_or(seen.waits(), |invited| seen.is_open && *invited == offer.agent);
        let is_good = is_wanted && self.now < offer.until && self.agents[&offer.agent].is_there();
        hold(is_good, Rule::NoStaleOffer, id, || format!("at {} it is {seen:?}, and {:?}", self.now, self.agents[&offer.agent]))
    }

    /// Whether the store says the same of a conversation as the journal does.
    fn agrees(&self, id: &ConversationId, seen: &Seen) -> Verdict {
        let state = seen.state.as_ref().expect("the store tells of each conversation");
        let details = &state.details;
        let is_open = details.stage == OpenState::Open;
        let assigned = details.assignee().and_then(|assignee| assignee.person.user());
        let ring = details.ring.as_ref().map(|ring| &ring.id);
        let invited = details.suggested().and_then(|suggested| suggested.person.user());
        let is_same = (is_open, &details.queue, assigned, ring, invited)
            == (seen.is_open, &seen.queue, seen.assigned.first(), seen.offer.as_ref().map(|offer| &offer.ring), seen.invited.as_ref());
        hold(is_same, Rule::OneTruth, id, || format!("{details:?} is not {seen:?}"))
    }

    /// Offers that have no end yet.
    pub(super) fn offers(&self) -> Vec<(ConversationId, Offer)> {
        let offers = self.conversations.iter().filter_map(|(id, seen)| seen.offer.clone().map(|offer| (id.clone(), offer)));
        offers.collect()
    }

    /// How many conversations there ever were.
    pub(super) fn opened(&self) -> usize {
        self.conversations.len() + self.past.len()
    }

    /// How many offers were made.
    pub(super) fn rings(&self) -> usize {
        self.rings.len()
    }

    /// How many have none.
    pub(super) fn standing(&self) -> usize {
        self.rings.values().filter(|is_over| !**is_over).count()
    }
}

fn user(person: &Person) -> UserId {
    person.user().expect("only agents take part in what agents do").clone()
}
