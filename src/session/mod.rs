//! One connected peer, without its socket.
//!
//! A [`Session`] takes frames ([`Session::accept`], synchronous) and gives frames ([`Session::ready`], then
//! [`Session::pop`]). It holds what the peer asked and waits to hear ([`desk`]: replies leave in request order), what
//! it follows ([`follow`]: dialogs by number) and what it watches ([`watch`]: conversations by filter). What is
//! announced arrives in its outbox; what it lacks it reads from the log. It never sees a socket, an HTTP type or SQL.
//!
//! **The hold.** A client registers a subscription only after it has handled the reply. So the reply leaves in a write
//! of its own, and the first notification it causes follows [`HOLD`] later; nothing else waits for it.

mod agents;
mod codec;
mod desk;
mod follow;
mod watch;

pub use codec::{Admission, Admitted, Answer, Ask, Asked, BatchEncoder, ChangeKind, Codec, Course, Doorway, Greeting, batches};

use self::agents::AgentWatches;
use self::desk::{Desk, Pending};
use self::follow::{Dialogs, FeedCursor};
use self::watch::{Shows, Watches};
use crate::domain::{Actor, Command, ConversationFilter, Refusal};
use crate::gateway::{Error, Gateway, Pending as Answering};
use crate::hub::{Frame, Item, Line, Membership, Taken, Topic};
use crate::identity::Lease;
use crate::store::{AnswerTo, Decision};
use dashmap::DashMap;
use futures::future::BoxFuture;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tieline_protocol::code::{CloseCode, ErrorCode};
use tieline_protocol::ids::{ConversationId, UserId};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::tungstenite::Bytes;

/// How long the first notification of a subscription waits behind its reply. Measured on loopback with a real client:
/// up to 10 ms some notifications were read together with the reply and lost; one second is too late for another.
pub const HOLD: Duration = Duration::from_millis(50);

/// Bytes of frames that may wait to be sent before nothing more is made ready.
const OUT_BYTES: usize = 256 * 1024;

/// Most requests in one frame, where it may hold several.
pub const MOST_IN_FRAME: usize = 256;

/// Room for events of one write that a connection keeps.
const KEPT_EVENTS: usize = 64;

/// The frames that wait to be sent.
#[derive(Debug, Default)]
struct Outgoing {
    /// Each with how many events have left when it has.
    frames: VecDeque<(Out, usize)>,
    bytes: usize,
    /// The positions of the events in the frames, and in those that were popped and not reported as sent: how many.
    events: VecDeque<u64>,
    popped: usize,
}

impl Outgoing {
    fn push(&mut self, out: Out) {
        self.bytes += out.len();
        self.frames.push_back((out, 0));
    }

    /// Adds frames that hold events, which have left when the last of the frames has.
    fn tell(&mut self, frames: impl IntoIterator<Item = Out>, positions: impl Iterator<Item = u64>) {
        let before = self.frames.len();
        self.extend(frames);
        if self.frames.len() == before {
            return;
        }
        let known = self.events.len();
        self.events.extend(positions);
        if let Some((_, events)) = self.frames.back_mut() {
            *events += self.events.len() - known;
        }
    }

    /// The positions of the events that were popped since this was last asked.
    fn take_popped(&mut self) -> impl Iterator<Item = u64> {
        self.events.drain(..std::mem::take(&mut self.popped))
    }

    fn pop(&mut self) -> Option<Out> {
        let (out, events) = self.frames.pop_front()?;
        self.popped += events;
        self.bytes -= out.len();
        Some(out)
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether what is ready must leave first. The session is polled again when it has.
    fn is_full(&self) -> bool {
        self.bytes >= OUT_BYTES
    }
}

impl Extend<Out> for Outgoing {
    fn extend<T: IntoIterator<Item = Out>>(&mut self, frames: T) {
        frames.into_iter().for_each(|out| self.push(out));
    }
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// The text of a frame, which may share a write with others.
    Frame(Frame),
    /// One that must leave in a write of its own; [`Session::flushed`] must be called after it.
    Alone(Frame),
    /// Whole frames, as they go over the socket.
    Framed(Bytes),
}

impl Out {
    fn len(&self) -> usize {
        match self {
            Self::Frame(frame) | Self::Alone(frame) => frame.len(),
            Self::Framed(frames) => frames.len(),
        }
    }
}

/// Where something stands that must not follow its reply too closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// The reply has not been given out.
    Reply,
    /// The reply has been given out and not been flushed.
    Flush,
    /// The reply left; this is when the rest may follow.
    Until(Instant),
    /// Free.
    Over,
}

impl Hold {
    fn flushed(&mut self, now: Instant) {
        if *self == Self::Flush {
            *self = Self::Until(now + HOLD);
        }
    }

    /// Ends a hold whose time has come; whether it is over.
    fn is_over(&mut self, now: Instant) -> bool {
        if matches!(self, Self::Until(at) if *at <= now) {
            *self = Self::Over;
        }
        *self == Self::Over
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(*at),
            _ => None,
        }
    }
}

/// What a request waits for.
enum Waiting {
    Ready(Option<Result<Answer, Error>>),
    /// Something to be decided, until it is handed in. The desk is told of the answer.
    Decision(Option<Box<Decision>>),
    Answer(Answering),
    Query(BoxFuture<'static, Result<Answer, Error>>),
    Follow(BoxFuture<'static, Result<follow::Start, Error>>),
    Feed(BoxFuture<'static, Result<follow::FeedStart, Error>>),
}

/// An answer, or what begins with it.
enum Answered {
    Is(Answer),
    Follow(follow::Start),
    Feed(follow::FeedStart),
}

impl Waiting {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Answered, Error>> {
        match self {
            Self::Ready(result) => Poll::Ready(result.take().unwrap_or(Err(Error::Unreadable)).map(Answered::Is)),
            Self::Decision(_) => Poll::Pending,
            Self::Answer(answer) => Pin::new(answer).poll(context).map_ok(|decided| Answered::Is(Answer::Decided(decided))),
            Self::Query(query) => query.as_mut().poll(context).map_ok(Answered::Is),
            Self::Follow(start) => start.as_mut().poll(context).map_ok(Answered::Follow),
            Self::Feed(start) => start.as_mut().poll(context).map_ok(Answered::Feed),
        }
    }

    fn take_decision(&mut self) -> Option<Box<Decision>> {
        match self {
            Self::Decision(decision) => decision.take(),
            _ => None,
        }
    }
}

/// What a reply sets going.
enum Then {
    Nothing,
    /// The subscription of this id may be told, after the hold.
    Watch(String),
    /// The conversation may be told of, after the hold.
    Opened(ConversationId),
}

/// One connected peer.
pub struct Session<C: Codec> {
    gateway: Arc<Gateway>,
    desk: Arc<Desk<C>>,
    actor: Actor,
    lease: Lease,
    bad_frames: u32,
    most_bad_frames: u32,
    dialogs: Dialogs,
    watches: Watches,
    agents: AgentWatches,
    feed: Option<FeedCursor>,
    /// Conversations opened here whose reply has not settled.
    opened: HashMap<ConversationId, Hold>,
    out: Outgoing,
    timer: Option<Pin<Box<Sleep>>>,
    end: Option<CloseCode>,
    // Last: interests go before the membership they were taken with.
    membership: Membership,
}

impl<C: Codec> std::fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("connection", &self.membership.connection())
            .field("pending", &self.desk.len())
            .field("out", &self.out.frames.len())
            .finish_non_exhaustive()
    }
}

/// What a session is held to.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Requests that may wait for their answers.
    pub pending: usize,
    /// Bad frames in a row.
    pub bad_frames: u32,
}

impl<C: Codec> Session<C> {
    /// Begins a session with a peer that is known.
    #[must_use]
    pub fn begin(gateway: Arc<Gateway>, membership: Membership, admitted: Admitted<C>, limits: SessionLimits) -> Self {
        let Admitted { actor, lease, codec, first } = admitted;
        let unasked = match &actor {
            Actor::Agent { account, user, .. } if codec.hears_unasked() => {
                Some(membership.follow(Topic::AgentEvents(account.clone(), user.clone())))
            }
            _ => None,
        };
        let mut session = Self {
            dialogs: Dialogs::new(&codec, &actor, unasked),
            watches: Watches::default(),
            agents: AgentWatches::default(),
            feed: None,
            gateway,
            desk: Desk::new(codec, membership.outbox(), limits.pending),
            actor,
            lease,
            bad_frames: 0,
            most_bad_frames: limits.bad_frames,
            opened: HashMap::new(),
            out: Outgoing::default(),
            timer: None,
            end: None,
            membership,
        };
        first.into_iter().for_each(|asked| session.take(asked, 0));
        session
    }

    /// How long the peer's credential holds.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether another frame may be accepted. While it may not, the peer is not read, so that TCP slows it.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.desk.has_room()
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// The code to close with, if there were too many bad requests in a row, or there are too many in the frame.
    pub fn accept(&mut self, text: &str) -> Result<(), CloseCode> {
        let Some(separator) = C::SEPARATOR else { return self.accept_one(text) };
        for (place, one) in text.split_inclusive(separator).enumerate() {
            if place >= MOST_IN_FRAME {
                return Err(CloseCode::Policy);
            }
            self.accept_one(one)?;
        }
        Ok(())
    }

    fn accept_one(&mut self, text: &str) -> Result<(), CloseCode> {
        let asked = self.desk.codec().decode(text);
        let is_bad = matches!(asked.ask, Ask::Bad(_));
        self.bad_frames = if is_bad { self.bad_frames + 1 } else { 0 };
        self.take(asked, text.len());
        if self.bad_frames >= self.most_bad_frames { Err(CloseCode::Policy) } else { Ok(()) }
    }

    /// Takes a request that was so long.
    fn take(&mut self, asked: Asked<C::Tag>, size: usize) {
        let Asked { tag, ask } = asked;
        let (mut answer, then) = self.start(ask);
        let decision = answer.take_decision();
        let delay = self.gateway.faults().delay(self.actor.account());
        let not_before = delay.map(|delay| Instant::now() + delay);
        let number = self.desk.lock().push(Pending { tag, size, answer, then, not_before });
        if let Some(decision) = decision {
            self.gateway.store().decide_to(decision, AnswerTo::asker(self.desk.clone(), number));
        }
    }

    /// What is sent when nothing else was to be read for a time, and that time, if the peer is not pinged instead.
    #[must_use]
    pub fn heartbeat(&self) -> Option<(Duration, Frame)> {
        self.desk.codec().heartbeat()
    }

    /// What is said before the socket is closed with a code, if anything.
    #[must_use]
    pub fn farewell(&self, code: CloseCode) -> Option<Frame> {
        self.desk.codec().farewell(code)
    }

    fn start(&mut self, ask: Ask) -> (Waiting, Then) {
        let gateway = self.gateway.clone();
        let ready = |result| Waiting::Ready(Some(result));
        match ask {
            Ask::Submit(request) => {
                let opens = request.commands.iter().find_map(|command| match command {
                    Command::Open { conversation, .. } => Some(conversation.clone()),
                    _ => None,
                });
                let then = match opens {
                    None => Then::Nothing,
                    Some(id) => {
                        self.opened.insert(id.clone(), Hold::Reply);
                        Then::Opened(id)
                    }
                };
                let answer = gateway.prepare(request).map_or_else(Waiting::Answer, |decision| Waiting::Decision(Some(decision)));
                (answer, then)
            }
            Ask::Nothing => (ready(Ok(Answer::Nothing)), Then::Nothing),
            Ask::Clock => (ready(Ok(Answer::Clock(gateway.identity().now()))), Then::Nothing),
            Ask::Renew(time) => {
                if let Some(time) = time {
                    self.lease.renew(time);
                }
                (ready(Ok(Answer::Renewed)), Then::Nothing)
            }
            Ask::Watch(actor, filter) => match gateway.narrow(&actor, filter) {
                Err(error) => (ready(Err(error)), Then::Nothing),
                Ok(filter) => watching(self.watches.add(&self.membership, Shows::Conversations, filter)),
            },
            Ask::WatchOffers(actor, agent) => match may_watch_offers(&actor, &agent) {
                Err(error) => (ready(Err(error)), Then::Nothing),
                Ok(()) => {
                    let filter = ConversationFilter::offered(actor.account().clone(), agent);
                    watching(self.watches.add(&self.membership, Shows::Offers, filter))
                }
            },
            Ask::RewatchOffers(id) => match self.watches.restart(&id) {
                true => (ready(Ok(Answer::Watching(id.clone()))), Then::Watch(id)),
                false => (ready(Err(no_such_subscription(&id))), Then::Nothing),
            },
            Ask::WatchAgents(actor, agents) => match actor {
                Actor::Agent { account, .. } => watching(self.agents.add(&self.membership, account, agents)),
                _ => (ready(Err(Error::invalid("agents' states are for agents"))), Then::Nothing),
            },
            Ask::Rewatch(actor, id, filter) => match gateway.narrow(&actor, filter) {
                Err(error) => (ready(Err(error)), Then::Nothing),
                Ok(filter) => match self.watches.change(&self.membership, &id, filter) {
                    true => (ready(Ok(Answer::Watching(id.clone()))), Then::Watch(id)),
                    false => (ready(Err(no_such_subscription(&id))), Then::Nothing),
                },
            },
            Ask::Unwatch(id) => {
                let is_known = self.watches.remove(&id) || self.agents.remove(&id);
                let result = if is_known { Ok(Answer::Unwatched) } else { Err(no_such_subscription(&id)) };
                (ready(result), Then::Nothing)
            }
            Ask::Follow { .. } if self.dialogs.is_full() => (ready(Err(too_many_subscriptions())), Then::Nothing),
            Ask::Follow { actor, conversation, dialog, from, epoch } => {
                // The interest comes before the head is read, so that nothing falls between.
                let live = self.dialogs.live();
                let interest = self.membership.follow_dialog(conversation.clone(), dialog.clone(), live.clone());
                let start = async move {
                    let followed = gateway.follow(&actor, &conversation, &dialog, from, epoch.as_deref()).await?;
                    Ok(follow::Start { conversation, dialog, interest, live, followed })
                };
                (Waiting::Follow(Box::pin(start)), Then::Nothing)
            }
            Ask::FollowFeed(after) => (Waiting::Feed(Box::pin(std::future::ready(self.feed_start(after)))), Then::Nothing),
            Ask::Query(actor, query) => {
                let query = async move { gateway.ask(&actor, query).await.map(Answer::Found) };
                (Waiting::Query(Box::pin(query)), Then::Nothing)
            }
            Ask::Course(Course(course)) => (Waiting::Query(course), Then::Nothing),
            Ask::Refuse(error) | Ask::Bad(error) => (ready(Err(error)), Then::Nothing),
        }
    }

    fn feed_start(&self, after: Option<(String, u64)>) -> Result<follow::FeedStart, Error> {
        let store = self.gateway.store();
        let actor = self.actor.clone();
        let (account, app) = match &actor {
            Actor::Application { account, app } => (account, Some(app)),
            Actor::Agent { account, .. } => (account, None),
            _ => return Err(Error::invalid("only an application's own socket has a feed; open the connector socket with an AppJWT")),
        };
        let interest = self.membership.follow(Topic::Feed(account.clone(), app.cloned()));
        let head = store.head();
        let after = match after {
            None => head,
            Some((epoch, position)) if epoch == store.epoch() => position.min(head),
            Some(_) => return Err(Error::OtherEpoch { epoch: store.epoch().to_owned(), oldest: 0, head: Some(head) }),
        };
        Ok(follow::FeedStart { actor, interest, after, head })
    }

    /// Waits until there is something to send, or the session is lost. It may be dropped at any time.
    pub async fn ready(&mut self) {
        poll_fn(|context| self.poll(context)).await;
    }

    /// Says that everything has left, and nothing is to do but to listen or to wait for the answer to one decision: until the
    /// session is polled again, events, or that answer, may be written to its socket by whoever has them.
    pub fn rest(&self) {
        if self.out.is_empty() && self.end.is_none() {
            // Where a reply may be dropped on demand it is the session's to say.
            self.desk.rest(!self.gateway.faults().is_on());
        }
    }

    /// Says where the frames go, for events and answers that need not wait for this session's turn.
    pub fn connect(&self, line: Arc<dyn Line>) {
        self.membership.outbox().connect(line);
    }

    /// The next frame to send.
    pub fn pop(&mut self) -> Option<Out> {
        self.out.pop()
    }

    /// Whether everything that was asked is answered.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.desk.len() == 0 && self.out.is_empty()
    }

    /// Why the session must end now, if it must: so much was missed that the peer has to begin afresh, or it was told to.
    #[must_use]
    pub fn end(&self) -> Option<CloseCode> {
        self.end
    }

    /// Everything popped so far was written to the socket.
    pub fn sent(&mut self) {
        if self.out.popped == 0 {
            return;
        }
        self.membership.pushed(self.out.take_popped(), self.gateway.identity().now());
        // A connection that rests costs little, however much it once caught up.
        if self.out.events.is_empty() && self.out.events.capacity() > KEPT_EVENTS {
            self.out.events = VecDeque::new();
        }
    }

    /// Everything popped so far has left.
    pub fn flushed(&mut self) {
        let now = Instant::now();
        self.opened.values_mut().for_each(|hold| hold.flushed(now));
        self.watches.flushed(now);
        self.agents.flushed(now);
        self.dialogs.flushed(now);
        if let Some(feed) = &mut self.feed {
            feed.hold.flushed(now);
        }
    }

    /// As [`Session::ready`].
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.out.is_empty() || self.end.is_some() {
            return Poll::Ready(());
        }
        let now = Instant::now();
        // First of all, for it ends the rest. What is not taken now waits in the outbox, which is bounded.
        let mut taken = self.membership.outbox().take(context.waker());
        self.out.extend(taken.as_mut().and_then(|taken| taken.reply.take()).map(Out::Framed));
        self.poll_replies(context, now);
        while let Some(heard) = taken.take() {
            self.hear(*heard);
            if !self.out.is_full() {
                taken = self.membership.outbox().take(context.waker());
            }
        }
        self.opened.retain(|_, hold| !hold.is_over(now));
        let Self { gateway, desk, watches, agents, dialogs, feed, out, opened, .. } = self;
        {
            let codec = &*desk.codec();
            watches.poll(context, now, gateway, codec, opened, out);
            agents.poll(context, now, gateway, codec, out);
            dialogs.poll(context, now, gateway, out);
            if let Some(feed) = feed {
                feed.poll(context, now, gateway, codec, out);
            }
        }
        if !self.out.is_empty() || self.end.is_some() {
            return Poll::Ready(());
        }
        self.poll_timer(context, now)
    }

    /// Replies leave in the order of their requests.
    fn poll_replies(&mut self, context: &mut Context<'_>, now: Instant) {
        while !self.out.is_full() {
            // Whoever answers must not wait for what is made of answers.
            let answered = {
                let mut asked = self.desk.lock();
                let Some(front) = asked.front_mut().filter(|front| front.not_before.is_none_or(|at| at <= now)) else { return };
                let Poll::Ready(result) = front.answer.poll(context) else { return };
                asked.pop().map(|Pending { tag, then, .. }| (tag, result, then))
            };
            let Some((tag, result, then)) = answered else { return };
            let result = result.map(|answered| self.take_in(answered));
            self.reply(tag, result, then);
        }
    }

    /// Lets begin what was asked for.
    fn take_in(&mut self, answered: Answered) -> Answer {
        let epoch = || self.gateway.store().epoch().to_owned();
        match answered {
            Answered::Is(answer) => answer,
            Answered::Follow(start) => {
                let answer = Answer::Following { epoch: epoch(), oldest: 0, head: start.followed.head };
                self.dialogs.follow(start);
                answer
            }
            Answered::Feed(start) => {
                let answer = Answer::Following { epoch: epoch(), oldest: start.after, head: Some(start.head) };
                self.feed = Some(FeedCursor::new(start));
                answer
            }
        }
    }

    fn reply(&mut self, tag: C::Tag, result: Result<Answer, Error>, then: Then) {
        let is_good = result.is_ok();
        let starts = matches!(result, Ok(Answer::Following { .. }));
        let frame = self.desk.reply(tag, result);
        if !is_good {
            self.end = self.end.or(self.desk.codec().end());
        }
        let holds = match then {
            Then::Nothing => starts,
            Then::Watch(id) => {
                self.watches.replied(&id);
                self.agents.replied(&id);
                true
            }
            Then::Opened(id) => {
                if is_good {
                    self.opened.insert(id, Hold::Flush);
                } else {
                    self.opened.remove(&id);
                }
                is_good
            }
        };
        match frame {
            Some(frame) if !self.gateway.faults().drops_reply(self.actor.account()) => {
                self.out.push(if holds { Out::Alone(frame) } else { Out::Frame(frame) });
            }
            // Nothing is said, so nothing can be read together with it.
            _ if holds => self.flushed(),
            _ => {}
        }
    }

    /// Takes in what was announced.
    fn hear(&mut self, taken: Taken) {
        let Taken { reply: _, items, gaps, changes, agents, feed, lost, close } = taken;
        let codec = &*self.desk.codec();
        for state in agents.into_values() {
            self.agents.heard(&state, codec, &mut self.out);
        }
        let lost = lost.then_some(CloseCode::SlowConsumer);
        self.end = self.end.or(close).or(lost);
        for item in items {
            match item {
                Item::Events(run) => self.dialogs.events(&run, &mut self.out),
                Item::Change(change) => {
                    self.watches.change_heard(&change, codec, &self.opened, self.gateway.identity().now(), &mut self.out)
                }
                Item::Typing(typing) => {
                    let hears = self.feed.is_some() || self.dialogs.hears(&typing.dialog, &typing.audience, typing.whisper);
                    if hears && codec.shows_typing(&typing) {
                        let frame = typing.frame(codec.slot(), |typing| codec.typing(typing));
                        self.out.push(Out::Frame(frame));
                    }
                }
            }
        }
        for (dialog, sequence) in gaps {
            self.dialogs.gap(dialog, sequence);
        }
        for change in changes.into_values() {
            self.watches.change_heard(&change, codec, &self.opened, self.gateway.identity().now(), &mut self.out);
        }
        if let (true, Some(feed)) = (feed, &mut self.feed) {
            feed.behind = true;
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<()> {
        let holds = self.opened.values().filter_map(Hold::deadline);
        let feed = self.feed.iter().filter_map(|feed| feed.hold.deadline());
        let delayed = self.desk.lock().front_mut().and_then(|front| front.not_before).filter(|at| *at > now);
        let earliest = delayed
            .into_iter()
            .chain(holds)
            .chain(self.watches.deadline())
            .chain(self.agents.deadline())
            .chain(self.dialogs.deadline())
            .chain(feed)
            .min();
        let Some(deadline) = earliest else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        match timer.as_mut().poll(context) {
            // Polled again at once: the hold that ended has something to say.
            Poll::Ready(()) => {
                self.timer = None;
                // What begins with a hold is mostly followed by a long time of listening.
                self.desk.lock().shrink();
                self.out.frames.shrink_to_fit();
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<C: Codec> Drop for Session<C> {
    fn drop(&mut self) {
        // A decision that is still to come keeps the desk, and would keep what else is waited for.
        self.desk.clear();
    }
}

/// The answer to a subscription that was taken, or not because there are too many.
fn watching(id: Option<String>) -> (Waiting, Then) {
    match id {
        Some(id) => (Waiting::Ready(Some(Ok(Answer::Watching(id.clone())))), Then::Watch(id)),
        None => (Waiting::Ready(Some(Err(too_many_subscriptions()))), Then::Nothing),
    }
}

/// An agent hears what is offered to itself; a manager what is offered to anybody.
fn may_watch_offers(actor: &Actor, agent: &UserId) -> Result<(), Error> {
    match actor {
        Actor::Agent { user, .. } if user == agent || actor.is_manager() => Ok(()),
        Actor::Agent { .. } => Err(Refusal::NotPermitted("only a manager may see what is offered to another agent".into()).into()),
        _ => Err(Error::invalid("routing tasks are for agents")),
    }
}

fn too_many_subscriptions() -> Error {
    Error::fault(ErrorCode::TooMany, "this connection has too many subscriptions; end some, or open another connection")
}

fn no_such_subscription(id: &str) -> Error {
    Error::invalid(format!("there is no subscription {id:?} on this connection"))
}

/// Counts a request and what became of it.
pub fn count_request(name: &'static str, code: u32) {
    // To find a counter by its labels costs more than to count, and mostly it is the last one again.
    static COUNTERS: LazyLock<DashMap<(&'static str, u32), metrics::Counter>> = LazyLock::new(DashMap::new);
    thread_local! {
        static LAST: RefCell<Option<(&'static str, u32, metrics::Counter)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some((last, last_code, counter)) = last
            && std::ptr::eq(*last, name)
            && *last_code == code
        {
            return counter.increment(1);
        }
        let register = || metrics::counter!("tieline_requests_total", "type" => name, "code" => code.to_string());
        let counter = COUNTERS.entry((name, code)).or_insert_with(register).clone();
        counter.increment(1);
        *last = Some((name, code, counter));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was popped since the last time, as the trace is told of it when it was sent.
    fn sent(out: &mut Outgoing) -> Vec<u64> {
        out.take_popped().collect()
    }

    #[test]
    fn an_event_has_left_when_the_last_of_its_frames_was_popped_and_no_sooner() {
        let mut out = Outgoing::default();
        let frame = |text: &'static str| Out::Frame(Frame::from(text));
        out.push(Out::Alone(Frame::from("a reply")));
        out.tell([frame("one"), frame("two")], [7, 8].into_iter());
        out.push(frame("typing"));
        out.tell([frame("three")], std::iter::once(9));
        out.tell(Vec::new(), std::iter::once(10));
        let expected: [&[u64]; 5] = [&[], &[], &[7, 8], &[], &[9]];
        for expected in expected {
            assert!(out.pop().is_some());
            assert_eq!(sent(&mut out), expected);
        }
        assert!(out.pop().is_none() && out.events.is_empty(), "what no frame shows was told to nobody");
    }

    #[test]
    fn what_is_popped_together_has_left_together() {
        let mut out = Outgoing::default();
        for position in 1..4 {
            out.tell([Out::Frame(Frame::from("event"))], std::iter::once(position));
        }
        out.pop();
        out.pop();
        assert_eq!((sent(&mut out), sent(&mut out)), (vec![1, 2], vec![]));
        out.pop();
        assert_eq!(sent(&mut out), [3]);
    }
}
