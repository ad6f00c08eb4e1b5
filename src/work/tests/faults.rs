//! Faults, seeded into what really happened in a town: that the judge says nothing of a town is worth something only if
//! it says something of each of these.

use super::Simulation;
use super::judge::{Agent, Fact, Judge, Rule, Seen};
use crate::domain::{Availability, Change, Conversation, Details, Entry, Person, RingState, Role, Sight};
use std::sync::Arc;
use tieline_protocol::ids::{ConversationId, UserId};

/// What must happen from here on for a rule to be broken; nothing, if it cannot be now.
type Fault = fn(&Judge) -> Option<Vec<Fact>>;

const FAULTS: [(Rule, &str, Fault); 12] = [
    (Rule::NeverLost, "a conversation leaves its queue for nobody", |judge| {
        let (_, seen) = find(judge, |seen| seen.waits() && seen.invited.is_none())?;
        Some(vec![Fact::State(Box::new(Conversation { waiting: None, ..state(seen) }))])
    }),
    (Rule::OneAssignee, "a second agent joins", |judge| {
        let (id, seen) = find(judge, |seen| seen.is_open && !seen.assigned.is_empty())?;
        let other = agent(judge, |user, agent| !seen.assigned.contains(user) && agent.load < agent.capacity)?;
        Some(vec![changed(judge, id, vec![joined(other)])])
    }),
    (Rule::Capacity, "an agent gets more than it takes", |judge| {
        let full = agent(judge, |_, agent| agent.load == agent.capacity)?;
        let (id, _) = find(judge, |seen| seen.waits() && seen.offer.is_none())?;
        Some(vec![changed(judge, id, vec![joined(full)])])
    }),
    (Rule::FitOffer, "an agent is offered what is not its business", |judge| {
        let (id, seen) = find(judge, |seen| seen.waits() && seen.offer.is_none() && seen.invited.is_none())?;
        let stranger = agent(judge, |_, agent| is_free(agent) && !agent.skills.contains(&seen.queue))?;
        Some(vec![changed(judge, id, vec![offered(judge, stranger)])])
    }),
    (Rule::FitOffer, "an agent is offered again what it has just rejected", |judge| {
        let (id, seen) = find(judge, |seen| seen.waits() && seen.offer.is_some() && seen.invited.is_none())?;
        let again = offered(judge, &seen.offer.as_ref()?.agent);
        Some(vec![changed(judge, id, vec![ended(RingState::Rejected)]), changed(judge, id, vec![again])])
    }),
    (Rule::InTurn, "a conversation is offered before one that waits longer", |judge| {
        let lined_up = |seen: &Seen| seen.waits() && seen.offer.is_none() && seen.invited.is_none();
        judge.conversations.iter().filter(|(_, seen)| lined_up(seen)).find_map(|(late, seen)| {
            let (_, early) = find(judge, |other| lined_up(other) && other.queue == seen.queue && other.is_before(seen))?;
            let comes = agent(judge, |user, agent| {
                let is_away = !is_free(agent) && agent.load < agent.capacity;
                let has_refused = seen.has_refused(user, judge.now) || early.has_refused(user, judge.now);
                is_away && agent.skills.contains(&seen.queue) && !has_refused
            })?;
            Some(vec![Fact::Came(comes.clone()), online(judge, comes), changed(judge, late, vec![offered(judge, comes)])])
        })
    }),
    (Rule::OneEnd, "an offer ends twice", |judge| {
        let (id, _) = find(judge, |seen| seen.offer.is_some())?;
        let ended = changed(judge, id, vec![ended(RingState::Cancelled)]);
        Some(vec![ended.clone(), ended])
    }),
    (Rule::OneEnd, "an offer is accepted when its time is over", |judge| {
        let (id, seen) = find(judge, |seen| seen.offer.is_some())?;
        let offer = seen.offer.as_ref()?;
        Some(vec![Fact::Clock(offer.until), changed(judge, id, vec![ended(RingState::Accepted), joined(&offer.agent)])])
    }),
    (Rule::NoStaleOffer, "an offer that is over has no end", |judge| {
        let (_, seen) = find(judge, |seen| seen.offer.is_some())?;
        // Nobody else may wait, or the time would break another rule first.
        let is_quiet = judge.conversations.values().all(|seen| !seen.waits() || seen.offer.is_some());
        is_quiet.then(|| vec![Fact::Clock(seen.offer.as_ref().unwrap().until)])
    }),
    (Rule::NoNeedlessWait, "a conversation waits beside a free agent", |judge| {
        let (id, seen) = find(judge, |seen| seen.waits() && seen.offer.is_some() && seen.invited.is_none())?;
        let skills = &judge.agents[&seen.offer.as_ref()?.agent].skills;
        if !skills.contains(&seen.queue) {
            return None;
        }
        let state = with(seen, |details| details.ring = None);
        Some(vec![changed(judge, id, vec![ended(RingState::Cancelled)]), Fact::State(Box::new(state))])
    }),
    (Rule::NothingForTheAbsent, "an agent goes and keeps what it has", |judge| {
        let (_, seen) = find(judge, |seen| seen.is_open && !seen.assigned.is_empty())?;
        let user = seen.assigned.first()?;
        let is_offered = judge.conversations.values().any(|seen| seen.offer.as_ref().is_some_and(|offer| offer.agent == *user));
        (!is_offered).then(|| vec![Fact::Went(user.clone())])
    }),
    (Rule::OneTruth, "the store says another queue than the journal", |judge| {
        let (_, seen) = find(judge, |seen| seen.is_open && seen.queue.as_str() != "60")?;
        Some(vec![Fact::State(Box::new(with(seen, |details| details.queue = "60".into())))])
    }),
];

fn find(judge: &Judge, is_it: impl Fn(&Seen) -> bool) -> Option<(&ConversationId, &Seen)> {
    judge.conversations.iter().find(|(_, seen)| is_it(seen))
}

fn agent(judge: &Judge, is_it: impl Fn(&UserId, &Agent) -> bool) -> Option<&UserId> {
    judge.agents.iter().find(|(user, agent)| is_it(user, agent)).map(|(user, _)| user)
}

fn is_free(agent: &Agent) -> bool {
    agent.is_online && agent.has_socket && agent.load < agent.capacity
}

fn person(user: &UserId) -> Person {
    Person::Agent { user: user.clone(), pid: "".into() }
}

fn state(seen: &Seen) -> Conversation {
    seen.state.as_deref().unwrap().clone()
}

fn with(seen: &Seen, change: impl FnOnce(&mut Details)) -> Conversation {
    let mut state = state(seen);
    change(Arc::make_mut(&mut state.details));
    state
}

fn joined(user: &UserId) -> Change {
    Change::Joined { person: person(user), role: Role::AssignedAgent, suggested: false }
}

fn offered(judge: &Judge, user: &UserId) -> Change {
    Change::Offered { ring: "of-the-fault".into(), agent: person(user), until: judge.now + super::judge::RING }
}

fn ended(state: RingState) -> Change {
    Change::RingEnded { state, not_before: None }
}

fn written(judge: &Judge, entry: Entry) -> Fact {
    Fact::Written(Arc::new(Sight { position: 0, at: judge.now, account: "demo".into(), entry, audience: None }))
}

fn changed(judge: &Judge, id: &ConversationId, changes: Vec<Change>) -> Fact {
    written(judge, Entry::Changed { conversation: id.clone(), by: person(&"0".into()), changes })
}

fn online(judge: &Judge, user: &UserId) -> Fact {
    let (agent, availability, channels) = (user.clone(), Availability::Online, Vec::new());
    written(judge, Entry::AgentStateSet { agent, availability, channels, description: None, reason: None })
}

/// Tells a judge a town's history until the fault can happen, and then that. What it says of it; nothing, if it never can.
fn judged(mut judge: Judge, history: &[Fact], fault: Fault) -> Option<Result<(), Rule>> {
    for fact in history {
        judge.hear(fact).expect("the history itself is good");
        if !matches!(fact, Fact::Settled) {
            continue;
        }
        if let Some(faults) = fault(&judge) {
            let mut told = faults.iter().chain([&Fact::Settled]);
            return Some(told.try_for_each(|fact| judge.hear(fact)).map_err(|violation| violation.rule));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_sees_each_fault_that_is_seeded_into_a_good_history() {
    let mut simulation = Simulation::new(4).await;
    let judge = simulation.town.unknowing.clone();
    simulation.run(250).await;
    for (rule, what, fault) in FAULTS {
        assert_eq!(judged(judge.clone(), &simulation.town.facts, fault), Some(Err(rule)), "{what}");
    }
}
