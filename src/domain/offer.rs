//! Offers of pending conversations to agents: made, answered, expired, and taken back when there is nothing to offer.

use super::Millis;
use super::access::visible;
use super::conversation::Conversation;
use super::draft::Draft;
use super::entry::Change;
use super::outcome::{Outcome, Routed};
use super::people::{Actor, Person, Role};
use super::policy::Policy;
use super::refusal::Refusal;
use super::routing::{Candidate, Choice, RingState, Standing, choose};
use tieline_protocol::ids::{ConversationId, QueueId, RingId};

/// An agent's answer to an offer.
pub(super) enum Answer {
    Accepts { capacity: usize },
    Rejects,
}

fn person(actor: &Actor) -> Result<Person, Refusal> {
    actor.person().ok_or_else(|| Refusal::NotPermitted("only agents are offered conversations".into()))
}

/// Looks for somebody to ask.
pub(super) fn route(
    actor: &Actor,
    id: &ConversationId,
    queue: &QueueId,
    candidates: &[Candidate],
    policy: &Policy,
    draft: &mut Draft<'_>,
) -> Result<Outcome, Refusal> {
    let by = person(actor)?;
    let now = draft.now();
    let conversation = visible(actor, draft.conversation(id))?.clone();
    let details = &conversation.details;
    if !conversation.is_pending() || details.ring.is_some() || details.queue != *queue {
        return Ok(Outcome::Routed(Routed::NotPending));
    }
    let mut standings = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let Some(user) = candidate.agent.user() else { continue };
        let availability = draft.agent(&details.account, user).availability;
        standings.push(Standing { candidate, availability, load: draft.load(&details.account, user) });
    }
    let invited = details.suggested().map(|suggested| &suggested.person);
    let turn = usize::try_from(details.number).unwrap_or(0);
    let (change, routed) = match choose(invited, &details.refused, now, turn, &standings) {
        Choice::NobodyFree => return Ok(Outcome::Routed(Routed::NobodyFree)),
        Choice::AllRefused => return Ok(Outcome::Routed(Routed::AllRefused)),
        Choice::Withdraw(invited) => (Change::Left { person: invited, role: None }, Routed::Withdrawn),
        Choice::Offer(agent) => {
            let at = conversation.change_time(now);
            // Changes of a conversation never share a time, so neither do its offers. One stands for the whole time that it is
            // said to, counted from then.
            let ring = RingId::from(format!("{id}_{}_{at}", details.account));
            (Change::Offered { ring, agent, until: at.saturating_add(policy.ring) }, Routed::Offered)
        }
    };
    draft.change(id, by, vec![change]);
    Ok(Outcome::Routed(routed))
}

/// An agent's answer.
pub(super) fn answer(
    actor: &Actor,
    id: &ConversationId,
    ring: &RingId,
    answer: Answer,
    policy: &Policy,
    draft: &mut Draft<'_>,
) -> Result<Outcome, Refusal> {
    let agent = person(actor)?;
    let now = draft.now();
    let no_ring = || Refusal::NobodyThere("Ring".into());
    // Who is not offered it does not learn whether there is such a conversation.
    let Ok(conversation) = visible(actor, draft.conversation(id)).cloned() else { return Err(no_ring()) };
    let details = &conversation.details;
    let known = [&details.ring, &details.last_ring].into_iter().flatten().find(|known| known.id == *ring && known.agent == agent);
    let Some(known) = known else { return Err(no_ring()) };
    let is_waiting = details.ring.as_ref().is_some_and(|waiting| waiting.id == *ring) && known.until > now;
    if !is_waiting {
        let state = if details.ring.as_ref().is_some_and(|waiting| waiting.id == *ring) { RingState::Expired } else { known.state };
        return Err(Refusal::NotNow(format!("Ring is no longer waiting: it is {}", state.as_str()).into()));
    }
    let changes = match answer {
        Answer::Rejects => not_taken(&conversation, RingState::Rejected, now, policy),
        Answer::Accepts { capacity } => {
            let load = agent.user().map_or(0, |user| draft.load(&details.account, user));
            // The offer itself is counted.
            if load > capacity {
                return Err(Refusal::NotNow(format!("Agent has {} conversations, and takes {capacity} at a time", load - 1).into()));
            }
            let before = details.assignee().filter(|assignee| assignee.person != agent);
            let left = before.map(|assignee| Change::Left { person: assignee.person.clone(), role: Some(assignee.role) });
            let ended = Change::RingEnded { state: RingState::Accepted, not_before: None };
            let joined = Change::Joined { person: agent.clone(), role: Role::AssignedAgent, suggested: false };
            std::iter::once(ended).chain(left).chain([joined]).collect()
        }
    };
    draft.change(id, agent, changes);
    Ok(Outcome::Updated)
}

/// What it means that the agent did not take it: it is not asked again for a while, and an invitation ends.
fn not_taken(conversation: &Conversation, state: RingState, now: Millis, policy: &Policy) -> Vec<Change> {
    let Some(ring) = &conversation.details.ring else { return Vec::new() };
    let invited = conversation.details.suggested().filter(|suggested| suggested.person == ring.agent);
    let left = invited.map(|suggested| Change::Left { person: suggested.person.clone(), role: None });
    let ended = Change::RingEnded { state, not_before: Some(now.saturating_add(policy.refusal)) };
    std::iter::once(ended).chain(left).collect()
}

/// The agent did not answer in time.
pub(super) fn expired(conversation: &Conversation, now: Millis, policy: &Policy) -> Vec<Change> {
    not_taken(conversation, RingState::Expired, now, policy)
}

/// The gateway takes an offer back; nothing happens if it is over.
pub(super) fn cancel(actor: &Actor, id: &ConversationId, ring: &RingId, draft: &mut Draft<'_>) -> Result<Outcome, Refusal> {
    let by = person(actor)?;
    let conversation = visible(actor, draft.conversation(id))?;
    if conversation.details.ring.as_ref().is_some_and(|waiting| waiting.id == *ring) {
        // An invited agent that cannot be asked is asked no more; the queue is.
        let invited = conversation.details.suggested().map(|suggested| Change::Left { person: suggested.person.clone(), role: None });
        let ended = Change::RingEnded { state: RingState::Cancelled, not_before: None };
        draft.change(id, by, std::iter::once(ended).chain(invited).collect());
    }
    Ok(Outcome::Updated)
}
