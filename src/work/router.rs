//! The search for agents, and what falls due: one task that looks at the desk and hands in decisions.

use super::desk::{Attempt, Desk};
use crate::domain::{Actor, Availability, Command, Conversation, Outcome, Policy, Routed};
use crate::gateway::{Error, Gateway, Note, Noted, Pending, Request};
use crate::store::{ReadError, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ConversationId, QueueId, UserId};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often is looked for what has fallen due; so much later than its time something may happen.
const TICK: Duration = Duration::from_millis(200);
/// How often is looked for agents who are gone.
const LOOK: Duration = Duration::from_millis(500);
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
        let mut looked = Instant::now();
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
                if looked.elapsed() >= LOOK {
                    looked = Instant::now();
                    self.look_for_absent().await;
                }
            }
            self.round().await;
            metrics::gauge!("tieline_conversations_waiting").set(self.desk.waiting() as f64);
        }
    }

    /// Reads which conversations need somebody, and, where agents can lose theirs, which have one; from then on commits
    /// leave notes.
    pub(super) async fn begin(&mut self) {
        let conversations = loop {
            match self.unsettled().await {
                Ok(conversations) => break conversations,
                Err(error) => {
                    tracing::warn!(%error, "the waiting conversations cannot be read");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let mut noted = Noted::default();
        noted.conversations.extend(conversations.iter().map(|conversation| (conversation.details.id.clone(), Note::of(conversation))));
        // What was noted meanwhile is newer.
        self.desk.hear(noted);
        // What agents said before, nobody may have heard.
        for (account, agent) in self.desk.agents() {
            self.take_back_from(&account, &agent).await;
        }
    }

    /// Somebody came who may be free for anything.
    pub(super) fn came(&mut self) {
        self.desk.stir_all();
    }

    async fn unsettled(&self) -> Result<Vec<Conversation>, ReadError> {
        let mut all = self.gateway.store().pending().await?;
        if self.absence.released.is_some() {
            all.extend(self.gateway.store().assigned().await?);
        }
        Ok(all)
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
            let Some(task) = self.desk.next() else { return };
            let (account, queue, _) = &task.line;
            let attempt = self.route(account, queue, &task.id).await;
            self.desk.tried(&task, attempt);
            if attempt == Attempt::Failed {
                // The next tick stirs the line again; the store has trouble enough.
                tokio::time::sleep(TICK).await;
                self.desk.stir(account);
                return;
            }
        }
    }

    /// Hands a command in at once; what is returned comes when it is decided.
    fn submit_as(&self, actor: Actor, command: Command) -> Pending {
        self.gateway.submit(Request { actor, commands: vec![command], key: None, resend: None })
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
        match self.submit_as(account.system(), command).await.map(|decided| decided.outcomes.into_iter().next()) {
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
        // Handed in together, so that they share commits, and awaited behind that.
        let mut woken = Vec::with_capacity(due.len());
        for id in due {
            match self.gateway.store().conversation(id.clone()).await {
                Ok(Some(conversation)) => {
                    let command = Command::Wake { conversation: id.clone() };
                    woken.push((id, self.submit_as(self.system(&conversation.details.account), command)));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, conversation = %id, "what has fallen due cannot be read"),
            }
        }
        for (id, woken) in woken {
            if let Err(error) = woken.await {
                tracing::warn!(%error, conversation = %id, "what has fallen due cannot be done now");
            }
        }
    }

    /// The gateway itself, also in an account that is no longer configured: what is due there must not stand before what is
    /// due elsewhere.
    fn system(&self, account: &AccountId) -> Actor {
        let known = self.gateway.identity().directory().account(account.as_str());
        known.map_or_else(|| Actor::System { account: account.clone(), bot: Policy::default().bot }, |known| known.system())
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
        for (conversation, ring) in self.desk.rings_of(&(account.clone(), agent.clone())) {
            if let Err(error) = self.submit_as(self.system(account), Command::CancelRing { conversation, ring }).await {
                tracing::warn!(%error, "an offer cannot be taken back");
            }
        }
    }

    /// Agents without a socket for too long are offered nothing, and may lose what they have.
    pub(super) async fn look_for_absent(&mut self) {
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
    }

    async fn release(&mut self, account: &AccountId, agent: &UserId) {
        for conversation in self.desk.assigned_to(&(account.clone(), agent.clone())) {
            let command = Command::Release { conversation: conversation.clone(), agent: agent.clone() };
            match self.submit_as(self.system(account), command).await {
                Ok(_) => tracing::info!(%conversation, %agent, "returned to its queue: its agent is gone"),
                Err(error) => tracing::warn!(%error, "a conversation cannot be returned to its queue"),
            }
        }
    }
}
