//! What commits leave behind for whoever looks for agents: which conversations need one, whose agent has become free,
//! which agents have said something.
//!
//! The writer writes the notes and must not wait, so they are a set and not a queue: however much happens before
//! somebody looks, of each conversation only its newest note is kept.

use crate::domain::{Conversation, Entry, Millis};
use crate::store::Committed;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use tieline_protocol::ids::{AccountId, ConversationId, QueueId, RingId, UserId};
use tokio::sync::Notify;

/// How a conversation stands with regard to its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The tenant.
    pub account: AccountId,
    /// Its queue.
    pub queue: QueueId,
    /// Its place in the queue: since when it is pending, and its number. It has none while it is not.
    pub place: (Millis, i64),
    /// Whether it needs an agent.
    pub is_pending: bool,
    /// Who is invited to answer it.
    pub invited: Option<UserId>,
    /// To whom it is offered.
    pub ring: Option<(UserId, RingId)>,
    /// Who answers.
    pub assignee: Option<UserId>,
    /// How many agents did not take it; when one of them may be asked again it must be looked at anew.
    pub refused: usize,
}

impl Note {
    /// The note of a conversation as it is.
    #[must_use]
    pub fn of(conversation: &Conversation) -> Self {
        let details = &conversation.details;
        let is_pending = conversation.is_pending();
        let ring = details.ring.as_ref().and_then(|ring| Some((ring.agent.user()?.clone(), ring.id.clone())));
        let assignee = details.assignee().filter(|_| details.main_is_open()).and_then(|assignee| assignee.person.user().cloned());
        Self {
            account: details.account.clone(),
            queue: details.queue.clone(),
            place: (if is_pending { conversation.pending_since() } else { 0 }, details.number),
            is_pending,
            invited: details.suggested().filter(|_| is_pending).and_then(|suggested| suggested.person.user().cloned()),
            ring,
            assignee,
            refused: details.refused.len(),
        }
    }
}

/// Everything noted since somebody last looked.
#[derive(Debug, Default)]
pub struct Noted {
    /// Conversations.
    pub conversations: HashMap<ConversationId, Note>,
    /// Accounts in which an agent has fewer conversations than before, or whose agents have changed.
    pub freed: HashSet<AccountId>,
    /// Agents who said something of themselves.
    pub agents: HashSet<(AccountId, UserId)>,
}

/// Counts offers by how they ended, and how long whoever got an agent had waited.
fn measure(before: Option<&Conversation>, after: &Conversation) {
    let Some(before) = before else { return };
    if let Some(ended) = after.details.last_ring.as_ref().filter(|ended| before.details.last_ring.as_ref() != Some(ended)) {
        metrics::counter!("tieline_rings_total", "state" => ended.state.as_str()).increment(1);
    }
    if let (Some(since), Some(_)) = (before.waiting, after.details.assignee()) {
        metrics::histogram!("tieline_conversation_wait_seconds").record((after.updated - since) as f64 / 1000.0);
    }
}

/// The notes.
#[derive(Debug, Default)]
pub struct Notes {
    noted: Mutex<Noted>,
    wake: Notify,
}

impl Notes {
    /// Notes what a commit changed.
    pub(super) fn write(&self, committed: &Committed) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_news = false;
        for (before, after) in &committed.changes {
            measure(before.as_ref(), after);
            let (was, is) = (before.as_ref().map(Note::of), Note::of(after));
            if was.as_ref() != Some(&is) {
                let held = |note: &Note| [&note.ring.as_ref().map(|(user, _)| user.clone()), &note.assignee].into_iter().flatten().count();
                if was
                    .as_ref()
                    .is_some_and(|was| held(was) > 0 && (held(&is) < held(was) || was.assignee != is.assignee || was.ring != is.ring))
                {
                    noted.freed.insert(is.account.clone());
                }
                noted.conversations.insert(after.details.id.clone(), is);
                is_news = true;
            }
        }
        for sight in &committed.sights {
            if let Entry::AgentStateSet { agent, .. } = &sight.entry {
                noted.agents.insert((sight.account.clone(), agent.clone()));
                is_news = true;
            }
        }
        drop(noted);
        if is_news {
            self.wake.notify_one();
        }
    }

    /// Notes that an account's agents or queues may be others than before.
    pub fn stir(&self, account: &AccountId) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).freed.insert(account.clone());
        self.wake.notify_one();
    }

    /// Takes what was noted.
    pub fn take(&self) -> Noted {
        std::mem::take(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something is noted.
    pub async fn written(&self) {
        self.wake.notified().await;
    }
}
