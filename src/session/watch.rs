//! What a session watches by filter: conversations.
//!
//! A subscription is about state, not a stream: first a snapshot, then what changed since, each conversation by its
//! newest state. Changes that come before the snapshot wait; those the snapshot already holds are dropped.

use super::follow::RETRY;
use super::{ChangeKind, Codec, Hold, OUT_BYTES, Out, Outgoing, batches};
use crate::domain::{Conversation, ConversationFilter, Millis, Ring, RingState};
use crate::gateway::{Error, Gateway};
use crate::hub::{ConversationChange, Frame, Interest, Membership, Reach, Topic, coalesce};
use crate::store::Snapshot;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use tieline_protocol::ids::{ConversationId, UserId};
use tokio::time::Instant;

/// What a subscription shows of the conversations that pass its filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// The conversations.
    Conversations,
    /// What is offered to the agent of the filter.
    Offers,
}

struct Watch {
    shows: Shows,
    filter: ConversationFilter,
    hold: Hold,
    snapshot: Stage,
    /// Changes that wait: for the snapshot, or for the reply that opened the conversation.
    waiting: HashMap<ConversationId, Arc<ConversationChange>>,
    _interests: Vec<Interest>,
}

enum Stage {
    /// The snapshot is still to be read.
    Wanted,
    /// It is being read.
    Reading(BoxFuture<'static, Result<Snapshot, Error>>),
    /// It was sent; it holds every change up to here.
    Sent(u64),
}

/// Most subscriptions of one connection; each is looked at for each change that reaches it.
const MOST: usize = 64;
/// Bytes of conversations in one notification. Clients take the first for the whole, so it is seldom reached: a thousand
/// conversations without a context of their own fit.
const LARGEST: usize = 8 * OUT_BYTES;

/// The subscriptions of a session.
#[derive(Default)]
pub(super) struct Watches(HashMap<String, Watch>);

fn interests(membership: &Membership, filter: &ConversationFilter) -> Vec<Interest> {
    Reach::of(filter).into_iter().map(|reach| membership.follow(Topic::Changes(reach))).collect()
}

impl Watches {
    /// A new subscription; none if there are too many.
    pub(super) fn add(&mut self, membership: &Membership, shows: Shows, filter: ConversationFilter) -> Option<String> {
        if self.0.len() >= MOST {
            return None;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let interests = interests(membership, &filter);
        self.0.insert(
            id.clone(),
            Watch { shows, filter, hold: Hold::Reply, snapshot: Stage::Wanted, waiting: HashMap::new(), _interests: interests },
        );
        Some(id)
    }

    /// Gives a subscription another filter; it begins with a snapshot again. Whether there is one of this id.
    pub(super) fn change(&mut self, membership: &Membership, id: &str, filter: ConversationFilter) -> bool {
        let Some(watch) = self.0.get_mut(id).filter(|watch| watch.shows == Shows::Conversations) else { return false };
        let interests = interests(membership, &filter);
        *watch = Watch {
            shows: watch.shows,
            filter,
            hold: Hold::Reply,
            snapshot: Stage::Wanted,
            waiting: HashMap::new(),
            _interests: interests,
        };
        true
    }

    /// Begins a subscription of offers with its snapshot again. Whether there is one of this id.
    pub(super) fn restart(&mut self, id: &str) -> bool {
        let Some(watch) = self.0.get_mut(id).filter(|watch| watch.shows == Shows::Offers) else { return false };
        (watch.hold, watch.snapshot) = (Hold::Reply, Stage::Wanted);
        true
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

    /// Takes a change in: sent at once, unless it must wait.
    pub(super) fn change_heard<C: Codec>(
        &mut self,
        change: &Arc<ConversationChange>,
        codec: &C,
        held: &HashMap<ConversationId, Hold>,
        now: Millis,
        out: &mut Outgoing,
    ) {
        for (id, watch) in &mut self.0 {
            match watch.snapshot {
                Stage::Sent(seam) if !held.contains_key(change.id()) && !watch.waiting.contains_key(change.id()) => {
                    if change.after.version > seam {
                        let was_in = change.before.as_ref().is_some_and(|before| watch.filter.matches(before));
                        out.extend(watch.notification(codec, id, now, watch.kind_of(change, was_in)));
                    }
                }
                Stage::Sent(_) | Stage::Wanted | Stage::Reading(_) => coalesce(&mut watch.waiting, change.clone()),
            }
        }
    }

    pub(super) fn poll<C: Codec>(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        gateway: &Arc<Gateway>,
        codec: &C,
        held: &HashMap<ConversationId, Hold>,
        out: &mut Outgoing,
    ) {
        for (id, watch) in &mut self.0 {
            if !watch.hold.is_over(now) || out.is_full() {
                continue;
            }
            if matches!(watch.snapshot, Stage::Wanted) {
                let (gateway, filter) = (gateway.clone(), watch.filter.clone());
                watch.snapshot = Stage::Reading(Box::pin(async move { gateway.snapshot(filter).await }));
            }
            let at = gateway.identity().now();
            if let Stage::Reading(reading) = &mut watch.snapshot {
                let Poll::Ready(read) = reading.as_mut().poll(context) else { continue };
                match read {
                    Ok(snapshot) => out.extend(watch.seam(codec, id, at, &snapshot)),
                    Err(error) => {
                        tracing::debug!(%error, "a snapshot cannot be read");
                        watch.snapshot = Stage::Wanted;
                        watch.hold = Hold::Until(now + RETRY);
                    }
                }
            } else if !watch.waiting.is_empty() {
                let free: Vec<_> = watch.waiting.keys().filter(|id| !held.contains_key(*id)).cloned().collect();
                for free in free {
                    let Some(change) = watch.waiting.remove(&free) else { continue };
                    let was_in = change.before.as_ref().is_some_and(|before| watch.filter.matches(before));
                    out.extend(watch.notification(codec, id, at, watch.kind_of(&change, was_in)));
                }
            }
        }
    }
}

/// A change as it is told.
type Told<'c> = (ChangeKind, &'c ConversationChange);

impl Watch {
    /// What there is to tell of a change.
    fn notification<C: Codec>(&self, codec: &C, id: &str, now: Millis, told: Option<Told<'_>>) -> Option<Out> {
        let (kind, change) = told?;
        match self.shows {
            Shows::Conversations => {
                let frame = change.frame(codec.conversation_slot(), |conversation| codec.conversation(conversation));
                Some(Out::Frame(codec.conversations(id, now, &[(kind, frame)])))
            }
            Shows::Offers => {
                let rings = offers(change, self.filter.rings.as_ref());
                let shown: Vec<_> = rings.iter().map(|ring| (&change.after, ring)).collect();
                (!shown.is_empty()).then(|| Out::Frame(codec.offers(id, &shown)))
            }
        }
    }

    /// What a change means to this subscription; nothing, if it was not and is not about the conversation.
    fn kind_of<'c>(&self, change: &'c ConversationChange, was_in: bool) -> Option<Told<'c>> {
        let is_shown = || change.before.as_ref().is_none_or(|before| before.shown != change.after.shown);
        if self.filter.matches(&change.after) {
            // Who has it already need not hear of what it cannot see.
            (!was_in || self.shows == Shows::Offers || is_shown()).then_some((ChangeKind::Upsert, change))
        } else if was_in || (self.shows == Shows::Conversations && is_anonymised(change) && self.filter.is_about(&change.after)) {
            // Whoever had it while it was open may show it still, with what was said: that must go there, too.
            Some((ChangeKind::Delete, change))
        } else {
            None
        }
    }

    /// The snapshot, and behind it what changed since it was taken.
    fn seam<C: Codec>(&mut self, codec: &C, id: &str, now: Millis, snapshot: &Snapshot) -> Vec<Out> {
        let mut out = self.first(codec, id, now, snapshot);
        let inside: HashMap<_, _> = snapshot.conversations.iter().map(|conversation| (&conversation.details.id, conversation)).collect();
        for change in std::mem::take(&mut self.waiting).into_values() {
            if change.after.version > snapshot.position {
                // As it was before means as it was in the snapshot, which is the last that the peer heard.
                let before = inside.get(change.id()).map(|conversation| (*conversation).clone());
                let was_in = before.is_some();
                let change = change.since(before);
                out.extend(self.notification(codec, id, now, self.kind_of(&change, was_in)));
            }
        }
        self.snapshot = Stage::Sent(snapshot.position);
        out
    }

    fn first<C: Codec>(&self, codec: &C, id: &str, now: Millis, snapshot: &Snapshot) -> Vec<Out> {
        if self.shows == Shows::Offers {
            let offered =
                snapshot.conversations.iter().filter_map(|conversation| Some((conversation, conversation.details.ring.as_ref()?)));
            return vec![Out::Frame(codec.offers(id, &offered.collect::<Vec<_>>()))];
        }
        // One notification, unless it would be a very large one.
        let changes = snapshot.conversations.iter().map(|conversation| (ChangeKind::Upsert, codec.conversation(conversation)));
        let batches = batches(changes, LARGEST, |(_, frame): &(ChangeKind, Frame)| frame.len());
        batches.iter().map(|changes| Out::Frame(codec.conversations(id, now, changes))).collect()
    }
}

/// Whether what was said in it is taken away by this change.
fn is_anonymised(change: &ConversationChange) -> bool {
    let is = |conversation: &Conversation| conversation.details.anonymised.is_some();
    is(&change.after) && !change.before.as_ref().is_some_and(is)
}

/// The offers that a change is about: the agent's own that has ended, and the one that stands. Nothing of one that stands
/// as it did.
fn offers(change: &ConversationChange, agent: Option<&UserId>) -> Vec<Ring> {
    let theirs = |ring: &&Ring| ring.agent.user() == agent;
    let before = change.before.as_ref().and_then(|before| before.details.ring.as_ref()).filter(theirs);
    let details = &change.after.details;
    let now = details.ring.as_ref().filter(theirs);
    let over = before.filter(|before| now.is_none_or(|now| now.id != before.id)).map(|before| {
        let ended = details.last_ring.as_ref().filter(|ended| ended.id == before.id).cloned();
        // So much has happened since that how it ended is no longer known.
        ended.unwrap_or_else(|| Ring { state: RingState::Cancelled, ..before.clone() })
    });
    let fresh = now.filter(|now| before.is_none_or(|before| before.id != now.id)).cloned();
    over.into_iter().chain(fresh).collect()
}
