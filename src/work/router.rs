//! The search for agents, and what falls due: one task that looks at the desk and hands in decisions.

use super::desk::{Attempt, Desk};
use crate::domain::{Availability, Command, Conversation, ConversationFilter, OpenState, Outcome, Person, Routed};
use crate::gateway::{Error, Gateway, Note, Noted, Request};
use crate::identity::Account;
use crate::store::{Decided, ReadError, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ConversationId, QueueId, UserId};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often is looked for what has fallen due; so much later than its time something may happen.
const TICK: Duration = Duration::from_millis(200);
/// Most that is woken between two looks at the queues.
const DUE: usize = 256;

/// How long agents may be without a socket.
#[derive(Debug, Clone, Copy)]
pub struct Absence {
    /// Before they are offered nothing more.
    pub unasked: Duration,
    /// Before their conversations return to their queues, if ever.
    pub released: Option<Duration>,
}

/// Looks for agents for waiting conversations.
#[derive(Debug)]
pub struct Router {
    gateway: Arc<Gateway>,
    absence: Absence,
    desk: Desk,
}

impl Router {
    /// A router that serves every account.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, absence: Absence) -> Self {
        Self { gateway, absence, desk: Desk::default() }
    }

    /// Works for ever.
    pub async fn run(mut self) {
        self.begin().await;
        let gateway = self.gateway.clone();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Whichever comes first; each round does all that there is to do.
            let is_tick = tokio::select! {
                () = gateway.notes().written() => false,
                () = gateway.hub().presence_changed() => {
                    self.came();
                    false
                }
                _ = tick.tick() => true,
            };
            if is_tick {
                self.wake().await;
                self.look_for_absent().await;
            }
            self.round().await;
        }
    }

    /// Reads which conversations need somebody, and who has which; from then on commits leave notes.
    pub(super) async fn begin(&mut self) {
        let known = loop {
            match self.read().await {
                Ok(known) => break known,
                Err(error) => {
                    tracing::warn!(%error, "the waiting conversations cannot be read");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let mut noted = Noted::default();
        noted.conversations.extend(known.iter().map(|conversation| (conversation.details.id.clone(), Note::of(conversation))));
        // What was noted meanwhile is newer.
        self.desk.hear(noted);
        // What agents said before, nobody may have heard.
        for (account, agent) in self.desk.agents() {
            self.take_back_from(&account, &agent).await;
        }
    }

    async fn read(&self) -> Result<Vec<Conversation>, ReadError> {
        let store = self.gateway.store();
        let mut known = store.pending().await?;
        // Those that are answered matter only where absent agents lose them.
        for account in self.gateway.identity().directory().accounts().filter(|_| self.absence.released.is_some()) {
            let agents = account.agents().into_iter().map(|agent| agent.user.clone()).collect();
            let answered = ConversationFilter { agents, states: vec![OpenState::Open], ..ConversationFilter::all(account.id.clone()) };
            known.extend(store.conversations(answered, usize::MAX).await?.conversations);
        }
        Ok(known)
    }

    /// Does all that the notes ask for.
    pub(super) async fn round(&mut self) {
        loop {
            let noted = self.gateway.notes().take();
            let agents: Vec<_> = noted.agents.iter().cloned().collect();
            self.desk.hear(noted);
            for (account, agent) in agents {
                self.take_back_from(&account, &agent).await;
            }
            let Some((account, queue, id)) = self.desk.next() else { return };
            let attempt = self.route(&account, &queue, &id).await;
            self.desk.tried(&id, attempt);
            if attempt == Attempt::Failed {
                // The next tick stirs the line again; the store has trouble enough.
                tokio::time::sleep(TICK).await;
                self.desk.stir(&account);
                return;
            }
        }
    }

    /// Somebody came who may be free for anything.
    pub(super) fn came(&mut self) {
        self.desk.stir_all();
    }

    async fn submit(&self, account: &Account, command: Command) -> Result<Decided, Error> {
        let request = Request { actor: account.system(), commands: vec![command], key: None, resend: None };
        self.gateway.submit(request).await
    }

    async fn route(&self, account: &AccountId, queue: &QueueId, id: &ConversationId) -> Attempt {
        let Some(account) = self.gateway.identity().directory().account(account.as_str()) else {
            // Its account is no longer configured.
            return Attempt::GoOn;
        };
        let is_here = |user: &UserId| self.gateway.hub().is_present(&account.id, user, self.absence.unasked);
        let candidates = account.agents().into_iter().filter(|agent| is_here(&agent.user)).map(|agent| agent.candidate(queue));
        // An invited agent need not serve the queue.
        let candidates = candidates.collect();
        let command = Command::Route { conversation: id.clone(), queue: queue.clone(), candidates };
        match self.submit(account, command).await.map(|decided| decided.outcomes.into_iter().next()) {
            // Whose invitation was withdrawn takes its place in its queue, by the note that this leaves.
            Ok(Some(Outcome::Routed(Routed::Offered | Routed::Withdrawn | Routed::AllRefused | Routed::NotPending))) => Attempt::GoOn,
            Ok(Some(Outcome::Routed(Routed::NobodyFree))) => Attempt::Enough,
            Ok(_) => Attempt::GoOn,
            Err(Error::Store(StoreError::Refused(_, refusal))) => {
                tracing::debug!(%refusal, conversation = %id, "a conversation is not offered");
                Attempt::GoOn
            }
            Err(error) => {
                tracing::warn!(%error, "no agents can be found now");
                Attempt::Failed
            }
        }
    }

    /// Does what has fallen due.
    pub(super) async fn wake(&mut self) {
        let now = self.gateway.identity().now();
        let due = match self.gateway.store().due(now, DUE).await {
            Ok(due) => due,
            Err(error) => return tracing::warn!(%error, "what has fallen due cannot be read"),
        };
        for id in due {
            let known = self.gateway.store().conversation(id.clone()).await;
            let Ok(Some(conversation)) = known else { continue };
            let Some(account) = self.gateway.identity().directory().account(conversation.details.account.as_str()) else { continue };
            if let Err(error) = self.submit(account, Command::Wake { conversation: id.clone() }).await {
                tracing::warn!(%error, conversation = %id, "what has fallen due cannot be done now");
            }
        }
    }

    /// Takes back what is offered to an agent who is not online.
    async fn take_back_from(&mut self, account: &AccountId, agent: &UserId) {
        match self.gateway.store().agent(account.clone(), agent.clone()).await {
            Ok(state) if state.availability == Availability::Online => {}
            Ok(_) => self.take_back(account, agent).await,
            Err(error) => tracing::warn!(%error, "an agent's state cannot be read"),
        }
    }

    async fn take_back(&mut self, account: &AccountId, agent: &UserId) {
        let Some(known) = self.gateway.identity().directory().account(account.as_str()) else { return };
        let theirs = self.desk.rings().filter(|(owner, user, ..)| *owner == account && *user == agent);
        let theirs: Vec<_> = theirs.map(|(_, _, id, ring)| (id.clone(), ring.clone())).collect();
        for (conversation, ring) in theirs {
            if let Err(error) = self.submit(known, Command::CancelRing { conversation, ring }).await {
                tracing::warn!(%error, "an offer cannot be taken back");
            }
        }
    }

    /// Agents without a socket for too long are offered nothing, and may lose what they have.
    pub(super) async fn look_for_absent(&mut self) {
        let began = Instant::now();
        for (account, agent) in self.desk.agents() {
            let hub = self.gateway.hub();
            if hub.is_present(&account, &agent, self.absence.unasked) {
                continue;
            }
            let is_released = self.absence.released.is_some_and(|time| !hub.is_present(&account, &agent, time));
            self.take_back(&account, &agent).await;
            if is_released {
                self.release(&account, &agent).await;
            }
        }
        tracing::trace!(elapsed = ?began.elapsed(), "looked for absent agents");
    }

    async fn release(&mut self, account: &AccountId, agent: &UserId) {
        let Some(known) = self.gateway.identity().directory().account(account.as_str()) else { return };
        let Some(person) = known.agent(agent.as_str()).map(crate::identity::Agent::person) else { return };
        let theirs: Vec<ConversationId> =
            self.desk.assigned().filter(|(owner, user, _)| *owner == account && *user == agent).map(|(_, _, id)| id.clone()).collect();
        for conversation in theirs {
            let command = Command::Release { conversation: conversation.clone(), agent: Person::clone(&person) };
            match self.submit(known, command).await {
                Ok(_) => tracing::info!(%conversation, agent = %agent, "returned to its queue: its agent is gone"),
                Err(error) => tracing::warn!(%error, "a conversation cannot be returned to its queue"),
            }
        }
    }
}
