//! What a session hears of agents' states. A state is sent whole, so the newest is all that counts.

use super::follow::RETRY;
use super::{Codec, Hold, Out, Outgoing};
use crate::domain::AgentState;
use crate::gateway::{Error, Gateway};
use crate::hub::{Interest, Membership, Topic};
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use tieline_protocol::ids::{AccountId, UserId};
use tokio::time::Instant;

/// Most subscriptions of one connection.
const MOST: usize = 16;

struct AgentWatch {
    account: AccountId,
    /// All of the account, if empty.
    agents: Vec<UserId>,
    hold: Hold,
    reading: Option<BoxFuture<'static, Result<Vec<AgentState>, Error>>>,
    /// Whether the present states were sent.
    is_live: bool,
    /// The newest that was sent, or waits for the present states to be sent first.
    newest: HashMap<UserId, u64>,
    waiting: HashMap<UserId, AgentState>,
    _interest: Interest,
}

/// The subscriptions of a session.
#[derive(Default)]
pub(super) struct AgentWatches(HashMap<String, AgentWatch>);

impl AgentWatches {
    /// A new subscription; none if there are too many.
    pub(super) fn add(&mut self, membership: &Membership, account: AccountId, agents: Vec<UserId>) -> Option<String> {
        if self.0.len() >= MOST {
            return None;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let watch = AgentWatch {
            _interest: membership.follow(Topic::Agents(account.clone())),
            account,
            agents,
            hold: Hold::Reply,
            reading: None,
            is_live: false,
            newest: HashMap::new(),
            waiting: HashMap::new(),
        };
        self.0.insert(id.clone(), watch);
        Some(id)
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        self.0.remove(id).is_some()
    }

    pub(super) fn replied(&mut self, id: &str) {
        if let Some(watch) = self.0.get_mut(id) {
            watch.hold = Hold::Flush;
        }
    }

    pub(super) fn flushed(&mut self, now: Instant) {
        self.0.values_mut().for_each(|watch| watch.hold.flushed(now));
    }

    pub(super) fn deadline(&self) -> impl Iterator<Item = Instant> {
        self.0.values().filter_map(|watch| watch.hold.deadline())
    }

    /// Takes in what an agent said.
    pub(super) fn heard<C: Codec>(&mut self, state: &AgentState, codec: &C, out: &mut Outgoing) {
        for (id, watch) in &mut self.0 {
            if watch.account != state.account || !(watch.agents.is_empty() || watch.agents.contains(&state.agent)) {
                continue;
            }
            if !watch.is_live {
                watch.waiting.insert(state.agent.clone(), state.clone());
            } else if watch.is_news(state) {
                out.push(Out::Frame(codec.agents(id, std::slice::from_ref(state))));
            }
        }
    }

    pub(super) fn poll<C: Codec>(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        gateway: &Arc<Gateway>,
        codec: &C,
        out: &mut Outgoing,
    ) {
        for (id, watch) in &mut self.0 {
            if watch.is_live || !watch.hold.is_over(now) || out.is_full() {
                continue;
            }
            let reading = watch.reading.get_or_insert_with(|| {
                let (gateway, account, agents) = (gateway.clone(), watch.account.clone(), watch.agents.clone());
                Box::pin(async move { gateway.agent_states(&account, &agents).await })
            });
            let Poll::Ready(read) = reading.as_mut().poll(context) else { continue };
            watch.reading = None;
            match read {
                Ok(mut states) => {
                    watch.is_live = true;
                    // What was heard meanwhile is newer, or the same.
                    for state in &mut states {
                        if let Some(newer) = watch.waiting.remove(&state.agent).filter(|newer| newer.version > state.version) {
                            *state = newer;
                        }
                    }
                    states.extend(std::mem::take(&mut watch.waiting).into_values());
                    for state in &states {
                        watch.is_news(state);
                    }
                    out.push(Out::Frame(codec.agents(id, &states)));
                }
                Err(error) => {
                    tracing::debug!(%error, "agents' states cannot be read");
                    watch.hold = Hold::Until(now + RETRY);
                }
            }
        }
    }
}

impl AgentWatch {
    /// Whether a state is newer than what was sent of its agent; it counts as sent then.
    fn is_news(&mut self, state: &AgentState) -> bool {
        let newest = self.newest.entry(state.agent.clone()).or_insert(0);
        let is_news = state.version > *newest;
        *newest = state.version.max(*newest);
        is_news
    }
}
