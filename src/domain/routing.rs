//! Who is offered a waiting conversation: a pure choice over the conversation, the agents and the time.

use super::Millis;
use super::people::{Availability, Person};
use serde::{Deserialize, Serialize};
use tieline_protocol::ids::{QueueId, RingId, UserId};

/// An offer of a conversation to one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// The offer.
    pub id: RingId,
    /// To whom.
    pub agent: Person,
    /// The queue it was offered from.
    pub queue: QueueId,
    /// Whether the agent was invited to answer it, by name.
    pub is_invited: bool,
    /// When it was made.
    pub since: Millis,
    /// Until when it may be accepted.
    pub until: Millis,
    /// How it stands.
    pub state: RingState,
}

impl Ring {
    pub(super) fn ended(self, state: RingState) -> Self {
        Self { state, ..self }
    }
}

/// How an offer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RingState {
    /// The agent has not answered.
    Waiting,
    /// The agent took it.
    Accepted,
    /// The agent does not want it.
    Rejected,
    /// The agent did not answer in time.
    Expired,
    /// It is no longer to be had.
    Cancelled,
}

impl RingState {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Accepted => "ACCEPTED",
            Self::Rejected => "REJECTED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// An agent who did not take an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The agent.
    pub agent: UserId,
    /// Until when it is not offered the same conversation again.
    pub until: Millis,
}

/// An agent who may be asked, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The agent.
    pub agent: Person,
    /// How many conversations at a time; offers count.
    pub capacity: usize,
    /// Whether it serves the conversation's queue.
    pub is_skilled: bool,
}

/// A candidate as it stands now.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'c> {
    /// Who, and how many conversations.
    pub candidate: &'c Candidate,
    /// What it said of itself.
    pub availability: Availability,
    /// How many conversations it has or is offered.
    pub load: usize,
}

impl Standing<'_> {
    fn is_free(&self) -> bool {
        self.availability == Availability::Online && self.load < self.candidate.capacity
    }
}

/// What is to be done with a pending conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Offer it to this agent.
    Offer(Person),
    /// The invited agent cannot take it: withdraw the invitation.
    Withdraw(Person),
    /// Nobody who serves the queue is free.
    NobodyFree,
    /// Somebody is free, but has not taken it.
    AllRefused,
}

/// Chooses who is asked: the invited agent if there is one and it is free; else, of those who serve the queue, are
/// online, free and have not refused it, the one with the least to do. Equals take turns by `turn`.
#[must_use]
pub fn choose<'c>(invited: Option<&Person>, refused: &[Refused], now: Millis, turn: usize, standings: &[Standing<'c>]) -> Choice {
    let has_refused = |person: &Person| refused.iter().any(|refused| Some(&refused.agent) == person.user() && refused.until > now);
    if let Some(invited) = invited {
        let is_free = standings.iter().any(|standing| standing.candidate.agent == *invited && standing.is_free());
        return if is_free { Choice::Offer(invited.clone()) } else { Choice::Withdraw(invited.clone()) };
    }
    let free: Vec<&Standing<'c>> = standings.iter().filter(|standing| standing.candidate.is_skilled && standing.is_free()).collect();
    let count = free.len();
    let first = if count == 0 { 0 } else { turn % count };
    let willing = free.iter().enumerate().filter(|(_, standing)| !has_refused(&standing.candidate.agent));
    // Beginning at a place that differs from conversation to conversation, so that equals take turns.
    match willing.min_by_key(|(place, standing)| (standing.load, (place + count - first) % count)) {
        Some((_, standing)) => Choice::Offer(standing.candidate.agent.clone()),
        None if count == 0 => Choice::NobodyFree,
        None => Choice::AllRefused,
    }
}
