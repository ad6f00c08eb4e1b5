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
    /// Its place in the queue: since when it is pending, and its number.
    pub place: (Millis, i64),
    /// Whether it needs an agent.
    pub is_pending: bool,
    /// Whether an agent is invited, who need not serve the queue.
    pub is_invited: bool,
    /// To whom it is offered.
    pub ring: Option<(UserId, RingId)>,
    /// Who answers.
    pub assignee: Option<UserId>,
    /// How many agents are not asked, because they did not take it; when they are fewer, there is somebody to ask.
    pub refusals: usize,
}

impl Note {
    /// The note of a conversation as it is.
    #[must_use]
    pub fn of(conversation: &Conversation) -> Self {
        let details = &conversation.details;
        let ring = details.ring.as_ref().and_then(|ring| Some((ring.agent.user()?.clone(), ring.id.clone())));
        let assignee = details.assignee().filter(|_| details.main_is_open()).and_then(|assignee| assignee.person.user().cloned());
        Self {
            account: details.account.clone(),
            queue: details.queue.clone(),
            place: (conversation.pending_since(), details.number),
            is_pending: conversation.is_pending(),
            is_invited: details.suggested().is_some(),
            ring,
            assignee,
            refusals: details.refused.len(),
        }
    }
}

/// Everything noted since somebody last looked.
#[derive(Debug, Default)]
pub struct Noted {
    /// Conversations.
    pub conversations: HashMap<ConversationId, Note>,
    /// Accounts in which an agent has fewer conversations than before.
    pub freed: HashSet<AccountId>,
    /// Agents who said something of themselves.
    pub agents: HashSet<(AccountId, UserId)>,
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

    /// Takes what was noted.
    pub fn take(&self) -> Noted {
        std::mem::take(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something is noted.
    pub async fn written(&self) {
        self.wake.notified().await;
    }
}
