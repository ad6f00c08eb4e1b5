//! What an agent last said of itself: whether it takes conversations.

use super::Millis;
use super::entry::Entry;
use super::people::Availability;
use serde::{Deserialize, Serialize};
use tieline_protocol::ids::{AccountId, UserId};

/// What an agent last said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// The tenant.
    pub account: AccountId,
    /// The agent.
    pub agent: UserId,
    /// Whether it takes conversations.
    pub availability: Availability,
    /// As it came.
    pub channels: Vec<String>,
    /// As it came.
    pub description: Option<String>,
    /// As it came.
    pub reason: Option<String>,
    /// Since when, in milliseconds.
    pub since: Millis,
    /// The journal position of this.
    pub version: u64,
}

impl AgentState {
    /// An agent that has said nothing yet takes no conversations.
    #[must_use]
    pub fn unknown(account: &AccountId, agent: &UserId) -> Self {
        Self {
            account: account.clone(),
            agent: agent.clone(),
            availability: Availability::Offline,
            channels: vec!["MESSAGING".into()],
            description: None,
            reason: None,
            since: 0,
            version: 0,
        }
    }

    /// The state that an entry sets, if it sets one.
    #[must_use]
    pub fn of(account: &AccountId, entry: &Entry, at: Millis, position: u64) -> Option<Self> {
        let Entry::AgentStateSet { agent, availability, channels, description, reason } = entry else { return None };
        Some(Self {
            account: account.clone(),
            agent: agent.clone(),
            availability: *availability,
            channels: channels.clone(),
            description: description.clone(),
            reason: reason.clone(),
            since: at,
            version: position,
        })
    }
}
