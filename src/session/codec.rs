//! What a dialect must know how to say, so that its sockets can be served by the one session and the one loop.

use crate::domain::{Actor, AgentState, Conversation, ConversationFilter, Millis, Ring, Sight};
use crate::gateway::{Error, Fed, Found, Query, Request};
use crate::hub::{EventEncoder, Frame, Slot, Typing};
use crate::identity::Lease;
use crate::store::Decided;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::CloseCode;
use tieline_protocol::ids::{ConversationId, DialogId, UserId};

/// How events of a dialog are told that were read from the log. For an empty list: what tells the peer that there are none,
/// if it expects to be told.
pub type BatchEncoder = Arc<dyn Fn(&DialogId, &[Arc<Sight>]) -> Vec<Frame> + Send + Sync>;

/// A translation in both directions: a peer's frames to what it asks for, and what there is to tell to frames.
///
/// A codec holds no rule of its own. It is never called at the same time twice.
pub trait Codec: Send + 'static {
    /// What a reply must know of its request, such as its id.
    type Tag: Send + 'static;

    /// What ends a request, where a frame may hold several, or parts of them. The codec is given it, too: a text without it is a part,
    /// and what belongs to it follows.
    const SEPARATOR: Option<char> = None;

    /// Whether in a feed each entry comes with all that is known of what it is about; else only with its conversation, if it is no
    /// event.
    const FEED_HAS_STATES: bool = false;

    /// The kind of encoding: codecs of one slot encode alike.
    fn slot(&self) -> Slot;

    /// The kind of encoding of conversations as they are, where codecs that encode events alike differ in that: who is on the brand's
    /// side sees more of them.
    fn conversation_slot(&self) -> Slot {
        self.slot()
    }

    /// How an event is told as it happens.
    fn encoder(&self) -> EventEncoder;

    /// Whether the peer hears the events of its agent's conversations without asking.
    fn hears_unasked(&self) -> bool;

    /// What is sent when nothing else was to be read for a time, if the protocol has such a thing of its own, and that time. Without
    /// it the socket is pinged.
    fn heartbeat(&self) -> Option<(Duration, Frame)> {
        None
    }

    /// What is said before the socket is closed with a code, if anything.
    fn farewell(&self, _code: CloseCode) -> Option<Frame> {
        None
    }

    /// Why the session must end, if the reply to a request that failed was the last: what is left to say is the farewell.
    fn end(&self) -> Option<CloseCode> {
        None
    }

    /// Reads one request.
    fn decode(&mut self, text: &str) -> Asked<Self::Tag>;

    /// The name of a request, for the count of requests: one of few.
    fn name(&self, tag: &Self::Tag) -> &'static str;

    /// The reply to a request, if it is to have one.
    fn reply(&mut self, tag: Self::Tag, result: Result<Answer, Error>) -> Option<Frame>;

    /// How events are told that were read from the log.
    fn batch_encoder(&self) -> BatchEncoder;

    /// Whether the peer is told of somebody who types, of all that reaches its session.
    fn shows_typing(&self, _typing: &Typing) -> bool {
        true
    }

    /// Somebody types.
    fn typing(&self, typing: &Typing) -> Frame;

    /// A conversation, as it stands inside a notification. This and the next three are never asked of a codec whose peers cannot
    /// subscribe to such things.
    fn conversation(&self, _conversation: &Conversation) -> Frame {
        Frame::default()
    }

    /// A notification about conversations, each encoded by [`Codec::conversation`].
    fn conversations(&self, _subscription: &str, _now: Millis, _changes: &[(ChangeKind, Frame)]) -> Frame {
        Frame::default()
    }

    /// Offers to the peer's agent, as they stand.
    fn offers(&self, _subscription: &str, _offers: &[(&Conversation, &Ring)]) -> Frame {
        Frame::default()
    }

    /// What agents say of themselves.
    fn agents(&self, _subscription: &str, _agents: &[AgentState]) -> Frame {
        Frame::default()
    }

    /// Entries of a feed, and the log's name.
    fn feed(&self, epoch: &str, now: Millis, entries: &[Fed]) -> Vec<Frame>;
}

/// What became of a conversation in a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is in, new or changed.
    Upsert,
    /// It was in and is not any more.
    Delete,
}

/// Splits items into batches of about so many bytes, each with at least one item; no items are one empty batch.
#[must_use]
pub fn batches<T>(items: impl IntoIterator<Item = T>, bytes: usize, size_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches = vec![Vec::new()];
    let mut size = 0;
    for item in items {
        size += size_of(&item);
        if size > bytes && batches.last().is_some_and(|batch| !batch.is_empty()) {
            batches.push(Vec::new());
            size = size_of(&item);
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(item);
        }
    }
    batches
}

/// A frame, read.
#[derive(Debug)]
pub struct Asked<T> {
    /// What the reply needs.
    pub tag: T,
    /// What the peer asks for.
    pub ask: Ask,
}

/// What a peer can ask of its session.
#[derive(Debug)]
pub enum Ask {
    /// Nothing: it is a sign of life.
    Nothing,
    /// To change something.
    Submit(Request),
    /// What time it is.
    Clock,
    /// To go on as the same identity: with a fresh credential, checked already, that holds for this long, or with the
    /// one it has.
    Renew(Option<Duration>),
    /// To hear of conversations that pass a filter.
    Watch(Actor, ConversationFilter),
    /// To hear of others under the same subscription.
    Rewatch(Actor, String, ConversationFilter),
    /// To hear of conversations that are offered to an agent.
    WatchOffers(Actor, UserId),
    /// To begin such a subscription anew.
    RewatchOffers(String),
    /// To hear what agents say of themselves: these, or all of the account.
    WatchAgents(Actor, Vec<UserId>),
    /// To end a subscription.
    Unwatch(String),
    /// To follow a dialog from a number on.
    Follow {
        /// Who asks.
        actor: Actor,
        /// The conversation.
        conversation: ConversationId,
        /// The dialog.
        dialog: DialogId,
        /// The first number wanted.
        from: u64,
        /// The log the number is from.
        epoch: Option<String>,
    },
    /// To follow its application's feed, or an agent that of its account: after a position of a log, or from now on.
    FollowFeed(Option<(String, u64)>),
    /// To know something once.
    Query(Actor, Query),
    /// To have something done that takes several operations.
    Course(Course),
    /// Nothing: the request is refused.
    Refuse(Error),
    /// Nothing: the frame is no request. Several in a row end the connection.
    Bad(Error),
}

/// Several operations on their way to one answer.
pub struct Course(pub BoxFuture<'static, Result<Answer, Error>>);

impl std::fmt::Debug for Course {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Course")
    }
}

/// What a reply has to say.
#[derive(Debug)]
pub enum Answer {
    /// Nothing was asked.
    Nothing,
    /// It happened.
    Decided(Decided),
    /// The time.
    Clock(Millis),
    /// The credential is renewed.
    Renewed,
    /// The subscription.
    Watching(String),
    /// The subscription has ended.
    Unwatched,
    /// The dialog or feed is followed.
    Following {
        /// The log.
        epoch: String,
        /// The oldest number of a dialog; where a feed begins for this session.
        oldest: u64,
        /// The newest number, if there is any.
        head: Option<u64>,
    },
    /// What was asked for.
    Found(Found),
}

/// What a session begins with, once its peer is known.
pub struct Admitted<C: Codec> {
    /// Who the peer is.
    pub actor: Actor,
    /// How long that holds.
    pub lease: Lease,
    /// How it speaks.
    pub codec: C,
    /// What it asks for by coming.
    pub first: Vec<Asked<C::Tag>>,
}

/// A peer that has not said who it is. It is a type of its own, so that nothing else can be asked of it.
pub trait Doorway: Send + 'static {
    /// How it will speak.
    type Codec: Codec;

    /// Reads the first frames.
    fn greet(&mut self, text: &str) -> Greeting<Self::Codec>;
}

/// What became of one of the first frames.
pub enum Greeting<C: Codec> {
    /// The peer is known: what to reply, and what its session begins with.
    Welcome(Frame, Box<Admitted<C>>),
    /// It is not known yet: what to reply.
    NotYet(Frame),
    /// It has begun to say who it is, and there is nothing to reply.
    Part,
    /// It is turned away: what to say, and the code.
    Refused(Frame, CloseCode),
    /// It is turned away.
    Turned(CloseCode),
}

/// What a dialect makes of an upgrade request.
pub enum Admission<D: Doorway> {
    /// The request said who it is.
    Known(Box<Admitted<D::Codec>>),
    /// It will say so in its first frame.
    Unknown(D),
    /// It cannot come in so. The socket is accepted to tell it by a close code, which is all that a browser can see, and by what is
    /// said before.
    Turned(CloseCode, Option<Frame>),
}

impl<C: Codec> std::fmt::Debug for Admitted<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitted").field("actor", &self.actor).finish_non_exhaustive()
    }
}

impl<C: Codec> std::fmt::Debug for Greeting<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Welcome(..) => "Welcome",
            Self::NotYet(_) => "NotYet",
            Self::Part => "Part",
            Self::Refused(..) => "Refused",
            Self::Turned(_) => "Turned",
        })
    }
}

impl<D: Doorway> std::fmt::Debug for Admission<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Known(_) => "Known",
            Self::Unknown(_) => "Unknown",
            Self::Turned(..) => "Turned",
        })
    }
}
