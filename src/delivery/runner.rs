//! Pays what one endpoint is owed: in each conversation one event at a time and in order, several conversations at a time.
//!
//! A conversation with debts is a [`Lane`]. Its first debt is being tried, waits for its time, or is ready; the others
//! stand behind it. Memory holds names of entries only, of a conversation a few and of an endpoint a bounded number; the
//! rest is read when there is room. What became of debts is written behind the attempts, in the order it happened, in
//! one write at a time: what a crash takes of it is tried again.

use super::post::{Failure, Request, Signing, Taken};
use super::retry::{Circuit, Retries, jittered};
use super::{Hook, Made, Manner, Settings, Shared, Status, Target, lock};
use crate::domain::Millis;
use crate::hub::Typing;
use crate::outbound::Unanswered;
use crate::store::{Attempt, DeadLetter, GivenUp, Owed, ReadError, Settlement, StoreError};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::body::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tieline_protocol::ids::ConversationId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Most debts in one read, and most that memory holds of one conversation: what is behind them is read when those are paid.
const PAGE: usize = 500;
const DEPTH: usize = 64;
/// Conversations of one endpoint in memory. With so many unpaid nothing more is read until one is.
const LANES: usize = 20_000;
/// Most results that may wait to be written before nothing new is tried.
const UNWRITTEN: usize = 2_000;
/// Results are written together, so many or after so long: a write costs the same for one as for many, and a crash repeats
/// what is not written.
const TOGETHER: usize = 256;
const SOON: Duration = Duration::from_millis(20);
/// How long a read or a write that failed waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long attempts get that are under way when the runner is told to stop. Their outcome is unknown then, and they are
/// made again.
const GRACE: Duration = Duration::from_secs(5);
/// How old a typing state may become; it would say what is no longer so.
const STALE: Duration = Duration::from_secs(5);

/// Typing states that may wait for the one that is being posted. More are dropped.
pub(super) const TYPING: usize = 32;

/// What a runner is made of.
pub(super) struct Reins {
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    /// The newest turn that is owed.
    pub(super) news: watch::Receiver<u64>,
    pub(super) typing: mpsc::Receiver<(Instant, Arc<Typing>)>,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) stop: CancellationToken,
}

/// Why a runner ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was told to.
    Stopped,
    /// There is nothing more to be done for this address.
    Over(Target, Over),
}

/// Why nothing is delivered to an endpoint any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// It said that it is gone for good.
    Gone,
    /// An event was given up, and by the manner of its webhooks that ends it.
    GivenUp,
}

/// The debts of one conversation, the first of which is dealt with.
#[derive(Debug)]
struct Lane {
    debts: VecDeque<Owed>,
    /// Whether there may be more on disk than here.
    is_cut: bool,
    place: Place,
    /// The last turn that was dealt with.
    passed: u64,
    /// When one of its debts was last tried without success.
    failed: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Flying,
    /// Until then.
    Waiting(Instant),
    /// Its next debts are on disk.
    Reading,
}

/// What came of an attempt.
struct Landed {
    owed: Owed,
    /// Where it was posted to, which may have changed since, and in which manner.
    target: Target,
    manner: Manner,
    result: Result<Delivered, Missed>,
}

enum Delivered {
    Taken(Attempt),
    /// Nobody is to be told it: the subscription has changed since, or what it is about has.
    Unwanted,
}

enum Missed {
    /// It was posted, or tried to be.
    Failed { failure: Failure, retries: Retries, attempt: Attempt },
    /// There is nothing to post.
    Unreadable,
    /// The store cannot be read now.
    NotRead,
}

pub(super) struct Runner {
    shared: Arc<Shared>,
    reins: Reins,
    lanes: HashMap<ConversationId, Lane>,
    ready: VecDeque<ConversationId>,
    waiting: BTreeMap<Instant, VecDeque<ConversationId>>,
    /// Conversations whose next debts are to be read.
    cut: Vec<ConversationId>,
    /// The last turn that was read, and whether there may be more.
    loaded: u64,
    may_have_more: bool,
    /// Nothing is read before, because a read failed.
    read_from: Option<Instant>,
    circuit: Circuit,
    /// With an open circuit: when the next attempt may be made.
    closed_until: Option<Instant>,
    unwritten: Settlement,
    /// Since when there is something to be written.
    unwritten_since: Option<Instant>,
    writing: Option<Writing>,
}

struct Writing {
    settlement: Arc<Settlement>,
    stage: Stage,
}

enum Stage {
    /// The store was asked.
    Asked(oneshot::Receiver<Result<(), StoreError>>),
    /// It could not, and is asked again then.
    Again(Instant),
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>, reins: Reins) -> Self {
        Self {
            shared,
            reins,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeMap::new(),
            cut: Vec::new(),
            loaded: 0,
            may_have_more: true,
            read_from: None,
            circuit: Circuit::default(),
            closed_until: None,
            unwritten: Settlement::default(),
            unwritten_since: None,
            writing: None,
        }
    }

    /// Delivers until it is told to stop or the endpoint is gone.
    pub(super) async fn run(mut self) -> Ended {
        let (show, shown) = mpsc::channel(TYPING);
        let typist = show_typing(self.shared.clone(), self.reins.settings.clone(), shown);
        let ended = tokio::select! {
            ended = self.deliver(&show) => ended,
            never = typist => match never {},
        };
        if std::mem::take(&mut lock(&self.reins.status).is_open) {
            metrics::gauge!("tieline_webhook_endpoints_failing").decrement(1.0);
        }
        ended
    }

    async fn deliver(&mut self, show: &mpsc::Sender<(Instant, Arc<Typing>)>) -> Ended {
        let mut flying = FuturesUnordered::new();
        let stop = self.reins.stop.clone();
        let mut over = None;
        while over.is_none() && !stop.is_cancelled() {
            self.load().await;
            while let Some(owed) = self.next(flying.len()) {
                let (shared, settings) = (self.shared.clone(), self.reins.settings.borrow().clone());
                flying.push(attempt(shared, settings, owed));
            }
            self.write();
            let next = self.next_time();
            tokio::select! {
                () = stop.cancelled() => {}
                Some(landed) = flying.next() => over = self.land(landed),
                written = written(&mut self.writing) => self.written(written),
                Some((heard, state)) = self.reins.typing.recv() => {
                    if !self.is_stuck(&state.audience.conversation) {
                        // One that finds no place is dropped.
                        let _ = show.try_send((heard, state));
                    }
                }
                Ok(()) = self.reins.news.changed() => self.may_have_more = true,
                Ok(()) = self.reins.settings.changed() => self.refresh(),
                () = std::future::ready(()), if self.wants_more() => {}
                () = until(next) => self.wake(),
            }
        }
        // What is under way may still be taken, and then need not be sent again.
        let finish = async {
            while let Some(landed) = flying.next().await {
                over = self.land(landed).or(over.take());
            }
        };
        let _ = timeout(GRACE, finish).await;
        self.write_all().await;
        over.map_or(Ended::Stopped, |(target, why)| Ended::Over(target, why))
    }

    /// Whether a conversation's events wait because one was not taken: what is typed meanwhile would come before them.
    fn is_stuck(&self, conversation: &ConversationId) -> bool {
        self.circuit.is_open() || self.lanes.get(conversation).is_some_and(|lane| lane.debts.front().is_some_and(|owed| owed.attempts > 0))
    }

    /// Reads what is owed, as far as there is room.
    async fn load(&mut self) {
        if self.read_from.is_some_and(|from| Instant::now() < from) {
            return;
        }
        // A read that fails is made again after a while; the loop must not spin on a sick disk.
        self.read_from = self.try_to_load().await.err().map(|ReadError| Instant::now() + AGAIN);
    }

    async fn try_to_load(&mut self) -> Result<(), ReadError> {
        let id = self.reins.settings.borrow().id;
        let store = self.shared.parts.store.clone();
        while let Some(conversation) = self.cut.last().cloned() {
            let more = store.owed_of(id, conversation.clone(), self.passed(&conversation), DEPTH).await?;
            self.cut.pop();
            self.refill(conversation, more);
        }
        if self.wants_more() {
            let page = store.owed(id, self.loaded, PAGE).await?;
            self.may_have_more = page.len() == PAGE;
            for owed in page {
                self.loaded = owed.turn;
                self.add(owed);
            }
        }
        Ok(())
    }

    /// Whether there may be more to read and there is room. What is ready is enough to go on with; the rest is read while
    /// that is under way, a page at a time.
    fn wants_more(&self) -> bool {
        let is_waiting = self.read_from.is_some_and(|from| Instant::now() < from);
        !is_waiting && self.may_have_more && self.lanes.len() < LANES && self.ready.len() < PAGE
    }

    /// The last turn of a conversation that is dealt with.
    fn passed(&self, conversation: &ConversationId) -> u64 {
        self.lanes.get(conversation).map_or(0, |lane| lane.passed)
    }

    fn refill(&mut self, conversation: ConversationId, mut more: Vec<Owed>) {
        let Some(lane) = self.lanes.get_mut(&conversation) else { return };
        // What was not read in its turn comes in its turn, and must not come twice.
        let is_full = more.len() == DEPTH;
        more.retain(|owed| owed.turn <= self.loaded);
        lane.is_cut = is_full && more.len() == DEPTH;
        if more.is_empty() {
            self.lanes.remove(&conversation);
            return;
        }
        lane.debts.extend(more);
        lane.place = Place::Ready;
        self.ready.push_back(conversation);
    }

    fn add(&mut self, owed: Owed) {
        if let Some(lane) = self.lanes.get_mut(&owed.conversation) {
            if lane.is_cut || lane.debts.len() >= DEPTH {
                lane.is_cut = true;
            } else {
                lane.debts.push_back(owed);
            }
            return;
        }
        // Its time was kept by the wall clock, which may have been set since.
        let wait = Duration::from_millis(u64::try_from(owed.due.saturating_sub(self.shared.now())).unwrap_or(0));
        let conversation = owed.conversation.clone();
        let lane = Lane { debts: VecDeque::from([owed]), is_cut: false, place: Place::Ready, passed: 0, failed: None };
        self.lanes.insert(conversation.clone(), lane);
        if wait.is_zero() { self.ready.push_back(conversation) } else { self.wait(conversation, wait.min(self.shared.waits.longest())) }
    }

    fn wait(&mut self, conversation: ConversationId, wait: Duration) {
        let until = Instant::now() + wait;
        if let Some(lane) = self.lanes.get_mut(&conversation) {
            lane.place = Place::Waiting(until);
            self.waiting.entry(until).or_default().push_back(conversation);
        }
    }

    /// The next debt to try, if one may be.
    fn next(&mut self, flying: usize) -> Option<Owed> {
        if flying >= self.shared.parts.settings.concurrency || self.unwritten() >= UNWRITTEN {
            return None;
        }
        if self.circuit.is_open() {
            let is_held = flying > 0 || self.closed_until.is_some_and(|until| Instant::now() < until);
            return if is_held { None } else { self.look() };
        }
        while let Some(conversation) = self.ready.pop_front() {
            // It may have been given up since, or stand here twice.
            let Some(lane) = self.lanes.get_mut(&conversation).filter(|lane| lane.place == Place::Ready) else { continue };
            if let Some(first) = lane.debts.front() {
                lane.place = Place::Flying;
                return Some(first.clone());
            }
        }
        None
    }

    /// What to try at an endpoint that takes nothing, to see whether it is well again: in turns the oldest that failed
    /// before, because it may only have needed one more try, and one that did not, or that failed longest ago, because the
    /// others may be what is wrong.
    fn look(&mut self) -> Option<Owed> {
        self.closed_until = None;
        let is_again = self.circuit.looks() % 2 == 1;
        let waiting = self.lanes.values_mut().filter(|lane| matches!(lane.place, Place::Ready | Place::Waiting(_)));
        let ordered = waiting.filter_map(|lane| {
            let turn = lane.debts.front()?.turn;
            let order = if is_again { (lane.failed.is_none(), None, turn) } else { (lane.failed.is_some(), lane.failed, turn) };
            Some((order, lane))
        });
        let (_, lane) = ordered.min_by_key(|(order, _)| *order)?;
        lane.place = Place::Flying;
        lane.debts.front().cloned()
    }

    /// A conversation that waits until a time is ready, unless it was tried since and waits for another.
    fn ready_again(&mut self, conversation: ConversationId, until: Instant) {
        if let Some(lane) = self.lanes.get_mut(&conversation)
            && lane.place == Place::Waiting(until)
        {
            lane.place = Place::Ready;
            self.ready.push_back(conversation);
        }
    }

    /// When something is to be done that nobody else says.
    fn next_time(&self) -> Option<Instant> {
        let waiting = self.waiting.keys().next().copied();
        let closed = self.closed_until.filter(|_| !self.lanes.is_empty());
        let next = if self.circuit.is_open() { closed } else { waiting };
        let write = self.unwritten_since.filter(|_| self.writing.is_none()).map(|since| since + SOON);
        next.into_iter().chain(self.read_from).chain(write).min()
    }

    /// How many results wait to be written.
    fn unwritten(&self) -> usize {
        self.unwritten.done.len() + self.unwritten.waiting.len() + self.unwritten.dead.len()
    }

    /// What has waited long enough is ready.
    fn wake(&mut self) {
        let now = Instant::now();
        while let Some((until, conversations)) = self.waiting.pop_first() {
            if until > now {
                self.waiting.insert(until, conversations);
                break;
            }
            conversations.into_iter().for_each(|conversation| self.ready_again(conversation, until));
        }
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
        }
    }

    /// Other settings may succeed at once where others failed.
    fn refresh(&mut self) {
        self.closed_until = None;
        self.ready_all();
    }

    fn ready_all(&mut self) {
        for (until, conversations) in std::mem::take(&mut self.waiting) {
            conversations.into_iter().for_each(|conversation| self.ready_again(conversation, until));
        }
    }

    /// Takes in what came of an attempt; the address, if nothing more is to be delivered there.
    fn land(&mut self, Landed { owed, target, manner, result }: Landed) -> Option<(Target, Over)> {
        let is_lenient = manner == Manner::LivePerson;
        match result {
            Ok(delivered) => {
                if let Delivered::Taken(attempt) = delivered {
                    self.taken(&attempt);
                    self.unwritten.attempts.push(attempt);
                }
                self.unwritten.done.push((owed.endpoint, owed.turn));
                self.pass(&owed.conversation);
                None
            }
            Err(Missed::NotRead) => {
                self.wait(owed.conversation, AGAIN);
                None
            }
            Err(Missed::Unreadable) => {
                self.bury(owed.clone(), GivenUp::Unreadable, None);
                self.pass(&owed.conversation);
                None
            }
            Err(Missed::Failed { failure, retries, attempt }) => {
                self.unwritten.attempts.push(attempt);
                if failure.is_gone() && is_lenient {
                    // It stays owed, for whoever resumes the endpoint.
                    self.note_failure(&failure, self.shared.now(), &owed);
                    return Some((target, Over::Gone));
                }
                let is_given_up = self.failed(owed, &failure, retries);
                (is_given_up && !is_lenient).then_some((target, Over::GivenUp))
            }
        }
    }

    fn taken(&mut self, attempt: &Attempt) {
        let settings = self.reins.settings.borrow().clone();
        let was_open = {
            let mut status = lock(&self.reins.status);
            status.taken = Some(attempt.at);
            std::mem::take(&mut status.is_open)
        };
        if was_open {
            metrics::gauge!("tieline_webhook_endpoints_failing").decrement(1.0);
            tracing::info!(account = %settings.app.account, client_id = %settings.app.client_id, endpoint = settings.id, "an endpoint takes webhooks again");
        }
        if self.circuit.taken() {
            self.closed_until = None;
            self.ready_all();
        }
    }

    /// Whether anything is given up by that.
    fn failed(&mut self, mut owed: Owed, failure: &Failure, retries: Retries) -> bool {
        let buried = self.unwritten.dead.len();
        owed.attempts = owed.attempts.saturating_add(1);
        let now = self.shared.now();
        self.note_failure(failure, now, &owed);
        let age = Duration::from_millis(u64::try_from(now.saturating_sub(owed.since)).unwrap_or(0));
        // What was under way when the circuit opened says nothing new of the endpoint.
        let is_look = self.circuit.is_open() && self.closed_until.is_none();
        if (is_look || !self.circuit.is_open())
            && let Some(pause) = self.circuit.failed(&self.shared.waits, &owed.conversation, failure.is_unreachable())
        {
            // What the endpoint asks for while it takes nothing, it asks for all.
            let pause = pause.max(failure.retry_after().unwrap_or_default());
            self.closed_until = Some(Instant::now() + jittered(pause));
            self.bury_old(now);
        }
        // An event that was only tried to see how the endpoint fares keeps the tries that its schedule gives it.
        let is_free = is_look && retries == Retries::Scheduled;
        if is_free {
            owed.attempts -= 1;
        }
        let next = if is_free && age >= retries.oldest(&self.shared.waits) {
            Err(GivenUp::TooOld)
        } else {
            retries.after(&self.shared.waits, owed.attempts.max(1), age, failure.retry_after())
        };
        match next {
            Ok(wait) => {
                let wait = jittered(wait);
                owed.due = now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                let conversation = owed.conversation.clone();
                if let Some(lane) = self.lanes.get_mut(&conversation)
                    && let Some(first) = lane.debts.front_mut()
                {
                    *first = owed.clone();
                    lane.failed = Some(Instant::now());
                }
                self.unwritten.waiting.push(owed);
                self.wait(conversation, wait);
            }
            Err(why) => {
                let conversation = owed.conversation.clone();
                self.bury(owed, why, Some(failure.to_string()));
                self.pass(&conversation);
            }
        }
        self.unwritten.dead.len() > buried
    }

    fn note_failure(&mut self, failure: &Failure, now: Millis, owed: &Owed) {
        let settings = self.reins.settings.borrow().clone();
        let (account, client_id, endpoint, position) = (&settings.app.account, &settings.app.client_id, settings.id, owed.position);
        let mut status = lock(&self.reins.status);
        // Said once, until something is taken again.
        let is_news = status.failed.as_ref().is_none_or(|(failed, _)| status.taken.is_some_and(|taken| taken >= *failed));
        status.failed = Some((now, failure.to_string()));
        if self.circuit.is_open() && !std::mem::replace(&mut status.is_open, true) {
            metrics::gauge!("tieline_webhook_endpoints_failing").increment(1.0);
            tracing::warn!(%account, %client_id, endpoint, %failure, "an endpoint takes no webhooks; it is tried now and then, and what it is owed waits");
        } else if is_news {
            tracing::info!(%account, %client_id, endpoint, position, %failure, "a webhook failed; it is tried again");
        } else {
            tracing::debug!(%account, %client_id, endpoint, position, %failure, "a webhook failed");
        }
    }

    /// The first debt of a conversation is dealt with.
    fn pass(&mut self, conversation: &ConversationId) {
        let Some(lane) = self.lanes.get_mut(conversation) else { return };
        if let Some(owed) = lane.debts.pop_front() {
            lane.passed = owed.turn;
        }
        if !lane.debts.is_empty() {
            lane.place = Place::Ready;
            self.ready.push_back(conversation.clone());
        } else if lane.is_cut {
            lane.place = Place::Reading;
            self.cut.push(conversation.clone());
        } else {
            self.lanes.remove(conversation);
        }
    }

    fn bury(&mut self, owed: Owed, why: GivenUp, last: Option<String>) {
        let settings = self.reins.settings.borrow().clone();
        tracing::warn!(
            account = %settings.app.account, client_id = %settings.app.client_id, endpoint = settings.id, conversation = %owed.conversation,
            position = owed.position, reason = why.as_str(), "a webhook is given up"
        );
        metrics::counter!("tieline_webhook_given_up_total", "reason" => why.as_str()).increment(1);
        self.unwritten.dead.push(DeadLetter { owed, at: self.shared.now(), reason: why.as_str().into(), last });
    }

    /// With an endpoint that takes nothing, what has waited as long as anything may is given up without a try of its own.
    fn bury_old(&mut self, now: Millis) {
        let settings = self.reins.settings.borrow().clone();
        let hooks = settings.app.hooks.iter().filter(|hook| hook.target == settings.target);
        let oldest = hooks.map(|hook| Retries::of(settings.app.retention, hook.max_retries).oldest(&self.shared.waits)).max();
        let Some(oldest) = oldest.and_then(|oldest| i64::try_from(oldest.as_millis()).ok()) else { return };
        let is_old = |lane: &Lane| lane.debts.front().is_some_and(|owed| now.saturating_sub(owed.since) >= oldest);
        let old = self.lanes.iter().filter(|(_, lane)| lane.place != Place::Flying && is_old(lane));
        let old: Vec<ConversationId> = old.map(|(conversation, _)| conversation.clone()).collect();
        for conversation in old {
            while let Some(lane) = self.lanes.get(&conversation).filter(|lane| is_old(lane) && self.unwritten.dead.len() < UNWRITTEN) {
                let Some(owed) = lane.debts.front().cloned() else { break };
                self.bury(owed, GivenUp::TooOld, None);
                self.pass(&conversation);
            }
        }
    }

    /// Begins to write what has become of debts, if nothing is being written and there is much of it, or it has waited.
    fn write(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        let since = *self.unwritten_since.get_or_insert_with(Instant::now);
        if self.unwritten() >= TOGETHER || since.elapsed() >= SOON {
            self.write_now();
        }
    }

    fn write_now(&mut self) {
        if self.writing.is_none() && !self.unwritten.is_empty() {
            self.unwritten_since = None;
            let settlement = Arc::new(std::mem::take(&mut self.unwritten));
            self.ask(settlement);
        }
    }

    fn ask(&mut self, settlement: Arc<Settlement>) {
        let stage = Stage::Asked(self.shared.parts.store.settle(settlement.clone()));
        self.writing = Some(Writing { settlement, stage });
    }

    /// Goes on behind a write, or a wait for the next try of it: what became of debts since waits for it, until there is too
    /// much, and what is under way goes on.
    fn written(&mut self, written: Written) {
        let Some(Writing { settlement, .. }) = self.writing.take() else { return };
        match written {
            Written::Done(Ok(())) => {}
            Written::Done(Err(error)) => {
                // The store's own trouble is in the log already.
                tracing::debug!(%error, "what became of webhooks was not written; it is tried again");
                self.writing = Some(Writing { settlement, stage: Stage::Again(Instant::now() + AGAIN) });
            }
            Written::Again => self.ask(settlement),
        }
    }

    /// Writes what is left, once: what cannot be written is tried again after the next start.
    async fn write_all(&mut self) {
        // Not after a while: now, or never.
        if let Some(Writing { stage: Stage::Again(_), .. }) = self.writing {
            self.written(Written::Again);
        }
        if self.writing.is_some() {
            let _ = written(&mut self.writing).await;
            self.writing = None;
        }
        self.write_now();
        if self.writing.is_some() {
            let _ = written(&mut self.writing).await;
        }
    }
}

/// What is new of a write.
enum Written {
    Done(Result<(), StoreError>),
    /// Its next try has come.
    Again,
}

async fn written(writing: &mut Option<Writing>) -> Written {
    match writing.as_mut().map(|writing| &mut writing.stage) {
        Some(Stage::Asked(answer)) => Written::Done(answer.await.unwrap_or(Err(StoreError::Unknown))),
        Some(Stage::Again(then)) => {
            sleep_until(*then).await;
            Written::Again
        }
        None => pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// One attempt at a debt.
async fn attempt(shared: Arc<Shared>, settings: Arc<Settings>, owed: Owed) -> Landed {
    let result = try_once(&shared, &settings, &owed).await;
    Landed { owed, target: settings.target.clone(), manner: shared.render(&settings.app).manner(), result }
}

async fn try_once(shared: &Shared, settings: &Settings, owed: &Owed) -> Result<Delivered, Missed> {
    let Ok(sight) = shared.parts.store.entry(owed.position).await else { return Err(Missed::NotRead) };
    let Some(sight) = sight else { return Err(Missed::Unreadable) };
    let (event, body) = match shared.made(&settings.app, &sight).await {
        Ok(Made::This(rendered)) => rendered,
        Ok(Made::Untold) => return Ok(Delivered::Unwanted),
        Ok(Made::Lost) => return Err(Missed::Unreadable),
        Err(ReadError) => return Err(Missed::NotRead),
    };
    let Some(hook) = settings.hook(event) else { return Ok(Delivered::Unwanted) };
    let (id, body, at, began) = (shared.message_id(owed.position), Bytes::from(body), shared.now(), Instant::now());
    let posted = post(shared, settings, hook, &id, &body).await;
    let (result, answer) = match &posted {
        Ok(answer) => ("delivered", Some(answer)),
        Err(failure) => (failure.label(), failure.answer()),
    };
    let attempt = Attempt {
        position: owed.position,
        endpoint: owed.endpoint,
        turn: owed.turn,
        at,
        took: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        result: result.into(),
        status: answer.map(|answer| answer.status),
        answer: answer.and_then(|answer| answer.excerpt.clone()),
    };
    match posted {
        Ok(_) => {
            if (shared.parts.twice)(&settings.app.account) {
                tracing::info!(account = %settings.app.account, client_id = %settings.app.client_id, "a webhook is sent twice, as was asked");
                let _ = post(shared, settings, hook, &id, &body).await;
            }
            Ok(Delivered::Taken(attempt))
        }
        Err(failure) => Err(Missed::Failed { failure, retries: Retries::of(settings.app.retention, hook.max_retries), attempt }),
    }
}

/// Posts a body to where a hook leads.
pub(super) async fn post(
    shared: &Shared,
    settings: &Settings,
    hook: &Hook,
    id: &str,
    body: &Bytes,
) -> Result<super::post::Answer, Failure> {
    let Target::Post(endpoint) = &hook.target else { return Err(Unanswered::Client("this endpoint is fetched from".into()).into()) };
    let manner = shared.render(&settings.app).manner();
    let taken = match (manner, Retries::of(settings.app.retention, hook.max_retries)) {
        (Manner::OnceHub, _) | (_, Retries::Scheduled) => Taken::Any2xx,
        (Manner::LivePerson, Retries::Timed(_) | Retries::Counted(_)) => Taken::TwoHundredAndOne,
    };
    let request = Request {
        endpoint,
        headers: &hook.headers,
        account: &settings.app.account,
        client_id: &settings.app.client_id,
        manner,
        signing: Signing { secret: &settings.app.secret, kind: settings.app.signature, keys: &settings.app.keys },
        is_guarded: settings.app.is_guarded,
        id,
        taken,
        body,
    };
    shared.poster.send(request, shared.now() / 1000).await
}

/// Posts typing states, each once and in order, for ever.
async fn show_typing(
    shared: Arc<Shared>,
    settings: watch::Receiver<Arc<Settings>>,
    mut typing: mpsc::Receiver<(Instant, Arc<Typing>)>,
) -> Infallible {
    while let Some((heard, state)) = typing.recv().await {
        let settings = settings.borrow().clone();
        let Some((event, body)) = shared.render(&settings.app).typing(&state).filter(|_| heard.elapsed() <= STALE) else { continue };
        let Some(hook) = settings.wants(event, state.audience.app.as_ref()) else { continue };
        let id = format!("typing:{}", uuid::Uuid::new_v4().simple());
        if let Err(failure) = post(&shared, &settings, hook, &id, &body.into()).await {
            tracing::debug!(account = %settings.app.account, endpoint = settings.id, %failure, "a typing state was not delivered");
        }
    }
    pending().await
}
