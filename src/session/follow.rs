//! What a session follows by number: dialogs, and the feed of its application.
//!
//! The rule for a dialog is one sentence: the next number is sent, a smaller one is dropped, a larger one means that
//! something is missing, so the log is read. Catching up after a subscription, after a full outbox and after a gap are
//! the same case. One batch is read per turn, so a long catch-up never keeps the loop from its other duties.

use super::{BatchEncoder, Codec, Hold, Out, Outgoing};
use crate::domain::{Actor, Audience, Sight};
use crate::gateway::{CATCH_UP, Fed, Followed, Gateway};
use crate::hub::{EventEncoder, Frame, Interest, Live, Run};
use crate::store::{Range, ReadError};
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tieline_protocol::ids::{ConversationId, DialogId};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Cursors of dialogs that were heard unasked; beyond it those at rest are forgotten and begin anew with the next event.
const UNASKED: usize = 4_096;

/// How long a read that failed waits before it is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// Most dialogs that one connection follows.
const MOST: usize = 50_000;

/// A dialog that may be followed from now on.
pub(super) struct Start {
    pub(super) conversation: ConversationId,
    pub(super) dialog: DialogId,
    pub(super) interest: Interest,
    pub(super) live: Arc<Live>,
    pub(super) followed: Followed,
}

type Read<T> = BoxFuture<'static, Result<T, ReadError>>;

struct Cursor {
    /// None for a dialog that is heard unasked.
    conversation: Option<ConversationId>,
    /// The next number to send, and whether whoever announces it may do so.
    live: Arc<Live>,
    reading: Option<Read<Batch>>,
    /// Whether the log must be read again.
    behind: bool,
    hold: Hold,
    /// Whether the peer is still to be told that there is nothing, if there is nothing.
    first: bool,
    /// Whether it stands in the list of those that need a look.
    is_restless: bool,
    /// None for a dialog that is heard unasked.
    interest: Option<Interest>,
}

impl Cursor {
    fn needs_a_look(&self) -> bool {
        self.hold != Hold::Over || self.behind || self.reading.is_some()
    }

    /// To be called when that may have changed.
    fn settle(&self) {
        self.live.set_open(!self.needs_a_look());
    }
}

/// The dialogs of a session.
pub(super) struct Dialogs {
    encoder: EventEncoder,
    encode_batch: BatchEncoder,
    sees_whispers: bool,
    /// The consumer whose session this is: what is handed to another identity it hears no more.
    owner: Option<Actor>,
    cursors: HashMap<DialogId, Cursor>,
    /// The dialogs that are held, behind or being read: all that a turn must look at, however many are followed.
    restless: Vec<DialogId>,
    /// An agent's interest in all of its conversations, which begin to be followed when they are first heard.
    unasked: Option<Interest>,
}

impl Dialogs {
    pub(super) fn new<C: Codec>(codec: &C, actor: &Actor, unasked: Option<Interest>) -> Self {
        let (encoder, encode_batch) = (codec.encoder(), codec.batch_encoder());
        let sees_whispers = matches!(actor, Actor::Agent { .. });
        let owner = Some(actor.clone()).filter(|actor| matches!(actor, Actor::Consumer { .. }));
        Self { encoder, encode_batch, sees_whispers, owner, cursors: HashMap::new(), restless: Vec::new(), unasked }
    }

    /// How the session will stand to a dialog that it begins to follow.
    pub(super) fn live(&self) -> Arc<Live> {
        let owner = self.owner.as_ref().and_then(|owner| match owner {
            Actor::Consumer { id, .. } => Some(id.clone()),
            _ => None,
        });
        Arc::new(Live::new(self.encoder.clone(), self.sees_whispers, owner))
    }

    /// Follows a dialog. One that is followed already is replayed and goes on, each event live once.
    pub(super) fn follow(&mut self, start: Start) {
        let Start { conversation, dialog, interest, live, followed } = start;
        let known = self.cursors.remove(&dialog);
        live.set_next(known.as_ref().map_or(followed.next, |known| known.live.next().min(followed.next)));
        let is_restless = known.is_some_and(|known| known.is_restless);
        let cursor = Cursor {
            conversation: Some(conversation),
            live,
            reading: None,
            behind: true,
            hold: Hold::Flush,
            first: true,
            is_restless,
            interest: Some(interest),
        };
        self.cursors.insert(dialog.clone(), cursor);
        self.stir(&dialog);
    }

    /// Puts a dialog on the list of those that need a look, if it is one and not there yet.
    fn stir(&mut self, dialog: &DialogId) {
        if let Some(cursor) = self.cursors.get_mut(dialog)
            && cursor.needs_a_look()
            && !std::mem::replace(&mut cursor.is_restless, true)
        {
            self.restless.push(dialog.clone());
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.cursors.len() >= MOST
    }

    /// Whether what happens with an audience is still this peer's business.
    fn belongs(&self, audience: &Audience) -> bool {
        match &self.owner {
            Some(Actor::Consumer { id, .. }) => audience.consumer == *id,
            _ => true,
        }
    }

    /// Whether a typing state in a dialog is for this peer.
    pub(super) fn hears(&self, dialog: &DialogId, audience: &Audience, whisper: bool) -> bool {
        self.belongs(audience) && (self.unasked.is_some() || self.cursors.contains_key(dialog)) && (!whisper || self.sees_whispers)
    }

    pub(super) fn events(&mut self, run: &Run, out: &mut Outgoing) {
        if !self.belongs(&run.audience) {
            self.cursors.remove(&run.dialog);
            return;
        }
        let (sees_whispers, encoder) = (self.sees_whispers, self.encoder.clone());
        let Some(cursor) = self.cursor(&run.dialog, run.first) else { return };
        let next = cursor.live.next();
        if cursor.needs_a_look() || run.end() <= next {
            return;
        }
        if run.first > next {
            cursor.behind = true;
            cursor.settle();
            return self.stir(&run.dialog);
        }
        cursor.live.set_next(run.end());
        let encoded = run.encoded(&encoder);
        let first = usize::try_from(next - run.first).unwrap_or(usize::MAX);
        if (sees_whispers || !run.has_whispers) && encoded.is_whole() {
            let positions = run.events[first..].iter().map(|sight| sight.position);
            return out.tell([Out::Framed(encoded.of(first..run.events.len()))], positions);
        }
        for (place, sight) in run.events.iter().enumerate().skip(first) {
            let frame = encoded.of(place..place + 1);
            // What is not shown was told to nobody.
            if !frame.is_empty() && sight.message().is_some_and(|message| sees_whispers || !message.whisper) {
                out.tell([Out::Framed(frame)], std::iter::once(sight.position));
            }
        }
    }

    pub(super) fn gap(&mut self, dialog: DialogId, sequence: u64) {
        if let Some(cursor) = self.cursor(&dialog, sequence) {
            cursor.behind = true;
            cursor.settle();
            self.stir(&dialog);
        }
    }

    /// The cursor of a dialog; of one that is heard unasked and for the first time, a new one that begins here.
    fn cursor(&mut self, dialog: &DialogId, sequence: u64) -> Option<&mut Cursor> {
        if self.unasked.is_some() && !self.cursors.contains_key(dialog) {
            if self.cursors.len() >= UNASKED {
                self.cursors.retain(|_, cursor| cursor.interest.is_some() || cursor.needs_a_look());
            }
            let live = self.live();
            live.set_next(sequence);
            let fresh = Cursor {
                conversation: None,
                live,
                reading: None,
                behind: false,
                hold: Hold::Over,
                first: false,
                is_restless: false,
                interest: None,
            };
            self.cursors.insert(dialog.clone(), fresh);
        }
        self.cursors.get_mut(dialog)
    }

    pub(super) fn flushed(&mut self, now: Instant) {
        for dialog in &self.restless {
            if let Some(cursor) = self.cursors.get_mut(dialog) {
                cursor.hold.flushed(now);
            }
        }
    }

    pub(super) fn deadline(&self) -> impl Iterator<Item = Instant> {
        self.restless.iter().filter_map(|dialog| self.cursors.get(dialog)?.hold.deadline())
    }

    /// Reads on for who is behind.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, now: Instant, gateway: &Arc<Gateway>, out: &mut Outgoing) {
        let Self { cursors, restless, owner, sees_whispers, encode_batch, .. } = self;
        restless.retain(|dialog| {
            let Some(cursor) = cursors.get_mut(dialog) else { return false };
            if cursor.hold.is_over(now) && (cursor.behind || cursor.reading.is_some()) && !out.is_full() {
                cursor.read_on(context, dialog, (owner.as_ref(), *sees_whispers), gateway, encode_batch, out);
            }
            cursor.settle();
            cursor.is_restless = cursor.needs_a_look();
            cursor.is_restless
        });
    }
}

/// Events that were read for a session, as they are told.
#[derive(Debug)]
struct Batch {
    /// The number behind the last; none, if there were none.
    next: Option<u64>,
    frames: Vec<Frame>,
    /// Of those that are shown.
    positions: Vec<u64>,
}

/// So many events are encoded where they are, without a turn for it.
const FEW: usize = 4;

impl Batch {
    fn of(dialog: &DialogId, mut sights: Vec<Arc<Sight>>, sees_whispers: bool, encode: &BatchEncoder) -> Self {
        let next = sights.last().and_then(|sight| sight.message()).map(|message| message.sequence + 1);
        sights.retain(|sight| sees_whispers || sight.message().is_none_or(|message| !message.whisper));
        Self { next, frames: encode(dialog, &sights), positions: sights.iter().map(|sight| sight.position).collect() }
    }
}

/// Reads and encodes the next events. Many sessions may have much to catch up with at once: they take turns, so that whoever
/// publishes meanwhile waits for a few of them at most. A turn does not depend on its session, which may be held up by its
/// peer.
fn read_batch(
    gateway: &Arc<Gateway>,
    owner: Option<(Actor, ConversationId)>,
    dialog: DialogId,
    from: u64,
    (sees_whispers, encode): (bool, BatchEncoder),
) -> Read<Batch> {
    let range = Range::Forward { from, to: u64::MAX, limit: CATCH_UP };
    if owner.is_none()
        && let Some(few) = gateway.store().events_at_hand(&dialog, range, FEW)
    {
        return Box::pin(std::future::ready(Ok(Batch::of(&dialog, few, sees_whispers, &encode))));
    }
    let gateway = gateway.clone();
    let turn = AbortOnDropHandle::new(tokio::spawn(async move {
        let _turn = gateway.catch_up_turn().await;
        let sights = match owner {
            None => gateway.store().events(dialog.clone(), range).await?,
            Some((owner, conversation)) => gateway.follow_on(&owner, conversation, dialog.clone(), range).await?,
        };
        Ok(Batch::of(&dialog, sights, sees_whispers, &encode))
    }));
    Box::pin(async move { turn.await.unwrap_or(Err(ReadError)) })
}

impl Cursor {
    fn read_on(
        &mut self,
        context: &mut Context<'_>,
        dialog: &DialogId,
        (owner, sees_whispers): (Option<&Actor>, bool),
        gateway: &Arc<Gateway>,
        encode: &BatchEncoder,
        out: &mut Outgoing,
    ) {
        let reading = self.reading.get_or_insert_with(|| {
            self.behind = false;
            let owner = owner.cloned().zip(self.conversation.clone());
            read_batch(gateway, owner, dialog.clone(), self.live.next(), (sees_whispers, encode.clone()))
        });
        let Poll::Ready(read) = reading.as_mut().poll(context) else { return };
        self.reading = None;
        let Ok(Batch { next, frames, positions }) = read else {
            // Tried again after a while; the loop must not spin on a sick disk.
            self.behind = true;
            self.hold = Hold::Until(Instant::now() + RETRY);
            return;
        };
        if let Some(next) = next {
            self.live.set_next(next);
        }
        // A read may give less than there is, by count or by bytes, and of a gap only its beginning is known: there may be
        // more until a read finds nothing.
        self.behind |= next.is_some();
        if !positions.is_empty() || (self.first && !self.behind) {
            self.first = false;
            out.tell(frames.into_iter().map(Out::Frame), positions.into_iter());
        }
        if self.behind {
            context.waker().wake_by_ref();
        }
    }
}

/// A feed that may be followed from now on.
pub(super) struct FeedStart {
    pub(super) actor: Actor,
    pub(super) interest: Interest,
    pub(super) after: u64,
    pub(super) head: u64,
}

/// Where a session stands in a feed: its application's, or that of its account. The conversations are spread over all
/// announcers, so an announcement only says that there is something; the order is the journal's.
pub(super) struct FeedCursor {
    actor: Actor,
    after: u64,
    reading: Option<Read<(Vec<Fed>, u64)>>,
    pub(super) behind: bool,
    pub(super) hold: Hold,
    _interest: Interest,
}

impl FeedCursor {
    pub(super) fn new(start: FeedStart) -> Self {
        let FeedStart { actor, interest, after, .. } = start;
        Self { actor, after, reading: None, behind: true, hold: Hold::Flush, _interest: interest }
    }

    pub(super) fn poll<C: Codec>(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        gateway: &Arc<Gateway>,
        codec: &C,
        out: &mut Outgoing,
    ) {
        if !self.hold.is_over(now) || !(self.behind || self.reading.is_some()) {
            return;
        }
        let reading = self.reading.get_or_insert_with(|| {
            self.behind = false;
            let (gateway, actor, after) = (gateway.clone(), self.actor.clone(), self.after);
            Box::pin(async move { gateway.feed(&actor, after, C::FEED_HAS_STATES).await })
        });
        let Poll::Ready(read) = reading.as_mut().poll(context) else { return };
        self.reading = None;
        let Ok((entries, reached)) = read else {
            self.behind = true;
            self.hold = Hold::Until(now + RETRY);
            return;
        };
        // Until a read finds nothing new, there may be more.
        self.behind |= reached > self.after;
        self.after = reached;
        // Other entries are nothing that anybody traces.
        let events = entries.iter().filter(|fed| fed.sight.message().is_some()).map(|fed| fed.sight.position);
        out.tell(codec.feed(gateway.store().epoch(), gateway.identity().now(), &entries).into_iter().map(Out::Frame), events);
        if self.behind {
            context.waker().wake_by_ref();
        }
    }
}
