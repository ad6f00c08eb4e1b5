//! Who is connected, who wants to hear what, and the way from a committed entry to each session's outbox.
//!
//! The log is the truth; an announcement is only a hint that there is something to read. Topics are sharded by
//! conversation and each shard is served by one announcer, so a dialog's events reach every session in order. Events of a
//! dialog that were committed together are a [`Run`], encoded once per kind of codec and shared: a session at rest gets it
//! written to its socket at once, for another it is a pointer in a bounded [`Outbox`].

mod announcement;
mod outbox;
mod sweep;
mod trace;

pub use announcement::{ConversationChange, Encoded, EventEncoder, Frame, Run, SLOTS, Slot, Typing, coalesce, put_frame};
use outbox::Pushed;
pub use outbox::{Item, Line, Live, Outbox, Sent, Taken};
use sweep::Sweeps;
pub use sweep::Swept;
pub use trace::{Commit, Push, Traces};

use crate::domain::{Actor, AgentState, Audience, Conversation, ConversationFilter, Millis, Sight};
use dashmap::DashMap;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tieline_protocol::code::CloseCode;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, UserId};
use tokio::sync::Notify;

/// Announcements that may wait for one announcer. Beyond it only the first missed number of each dialog is kept,
/// and sessions read the gap from the log.
const QUEUE: usize = 65_536;

/// A connection, as the process numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a session may be interested in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The events of a dialog.
    Dialog(ConversationId, DialogId),
    /// The events of every conversation in which an agent takes part.
    AgentEvents(AccountId, UserId),
    /// Changes of conversations.
    Changes(Reach),
    /// Everything that happens in conversations opened through an application; in all of the account, if none is named.
    Feed(AccountId, Option<ClientId>),
    /// What an account's agents say of themselves.
    Agents(AccountId),
    /// Every typing state of an account.
    Typing(AccountId),
}

/// The narrowest index entry that covers a filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All of an account.
    Account(AccountId),
    /// Those of an agent.
    Agent(AccountId, UserId),
    /// Those of a consumer.
    Consumer(AccountId, ConsumerId),
    /// One conversation.
    Conversation(AccountId, ConversationId),
    /// Those that are offered to an agent.
    Offers(AccountId, UserId),
}

impl Reach {
    /// What a subscription must be indexed under, so that no change it is about passes it by.
    #[must_use]
    pub fn of(filter: &ConversationFilter) -> Vec<Self> {
        let account = || filter.account.clone();
        if let Some(agent) = &filter.rings {
            vec![Self::Offers(account(), agent.clone())]
        } else if let Some(id) = &filter.conversation {
            vec![Self::Conversation(account(), id.clone())]
        } else if let Some(id) = &filter.consumer {
            vec![Self::Consumer(account(), id.clone())]
        } else if filter.agents.is_empty() {
            vec![Self::Account(account())]
        } else {
            filter.agents.iter().map(|agent| Self::Agent(account(), agent.clone())).collect()
        }
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dialog(_, dialog) => write!(f, "events of dialog {dialog}"),
            Self::AgentEvents(_, agent) => write!(f, "events of the conversations of agent {agent}"),
            Self::Changes(Reach::Account(_)) => f.write_str("conversations of the account"),
            Self::Changes(Reach::Agent(_, agent)) => write!(f, "conversations of agent {agent}"),
            Self::Changes(Reach::Consumer(_, consumer)) => write!(f, "conversations of consumer {consumer}"),
            Self::Changes(Reach::Conversation(_, conversation)) => write!(f, "conversation {conversation}"),
            Self::Changes(Reach::Offers(_, agent)) => write!(f, "offers to agent {agent}"),
            Self::Feed(_, Some(app)) => write!(f, "feed of application {app}"),
            Self::Feed(_, None) => f.write_str("feed of the account"),
            Self::Agents(_) => f.write_str("states of agents"),
            Self::Typing(_) => f.write_str("typing of the account"),
        }
    }
}

/// A session as an operator sees it.
#[derive(Debug, Clone)]
pub struct SessionView {
    /// Its connection.
    pub connection: u64,
    /// Who it is.
    pub actor: Actor,
    /// For how long it is on the map.
    pub since: Duration,
    /// Announcements that wait in its outbox.
    pub waiting: usize,
    /// Whether it missed some, and has to read the log.
    pub is_lagging: bool,
}

impl SessionView {
    fn of(connection: u64, handle: &Handle) -> Self {
        let (waiting, is_lagging) = handle.outbox.fill();
        Self { connection, actor: handle.actor.clone(), since: handle.since.elapsed(), waiting, is_lagging }
    }
}

/// What is known of a connected session.
#[derive(Debug)]
pub struct Handle {
    /// Who it is.
    pub actor: Actor,
    /// Where its announcements go.
    pub outbox: Arc<Outbox>,
    /// Since when.
    pub since: Instant,
}

/// The hub.
#[derive(Debug)]
pub struct Hub {
    sessions: DashMap<ConnectionId, Handle>,
    shards: Box<[Shard]>,
    last_connection: AtomicU64,
    sweeps: Sweeps,
    agents: DashMap<(AccountId, UserId), Presence>,
    presence: Notify,
    committed: Notify,
    traces: Traces,
    since: Instant,
}

/// Whether an agent has a socket.
#[derive(Debug, Clone, Copy)]
struct Presence {
    sockets: usize,
    /// When it last had one.
    left: Instant,
}

#[derive(Debug, Default)]
struct Shard {
    queue: Mutex<Queue>,
    wake: Notify,
    index: Mutex<HashMap<Topic, Followers>>,
}

/// Who follows a topic, by connection. Whoever announces keeps what it found, so that nobody waits for it to be through.
type Followers = Arc<Vec<Subscriber>>;

#[derive(Debug, Clone)]
struct Subscriber {
    connection: ConnectionId,
    outbox: Arc<Outbox>,
    /// How many interests of the connection this stands for.
    times: u32,
    /// How the session stands to the dialog, if that is the topic.
    live: Option<Arc<Live>>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Announced>,
    /// Items, each event of a run counted.
    count: usize,
    /// Where the newest run of a dialog stands among the items, to which events may be added as long as it waits.
    newest: HashMap<DialogId, usize>,
    /// What did not fit: the first number missed of each dialog, and the coalesced change of each conversation.
    missed: HashMap<DialogId, (u64, Arc<Audience>)>,
    changes: HashMap<ConversationId, Arc<ConversationChange>>,
    /// Applications' feeds in which there is something new.
    feeds: HashSet<Topic>,
    /// The newest that agents said.
    agents: HashMap<(AccountId, UserId), AgentState>,
}

/// Announcements delivered in one go.
const SLICE: usize = 256;
/// Sessions told before others get their turn.
const TURN: usize = 64;

impl Queue {
    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.missed.is_empty() && self.feeds.is_empty() && self.changes.is_empty() && self.agents.is_empty()
    }

    /// The next items; with the last of them what did not fit, which is newer.
    fn slice(&mut self) -> Self {
        let mut count = 0;
        let is_too_much = |item: &Announced| {
            count += item.count();
            count > SLICE
        };
        let end = self.items.iter().position(is_too_much).unwrap_or(self.items.len()).max(1);
        if end >= self.items.len() {
            return std::mem::take(self);
        }
        Self { items: self.items.drain(..end).collect(), ..Self::default() }
    }

    /// Adds an event: to those of its dialog that wait, so that they are told together, or as a new run. Of one that does not
    /// fit the number is kept.
    fn put_event(&mut self, sight: Arc<Sight>) {
        let Some(dialog) = sight.message().map(|message| &message.dialog) else { return };
        let waiting = self.newest.get(dialog).and_then(|place| match self.items.get_mut(*place) {
            Some(Announced::Events(run)) => Arc::get_mut(run),
            _ => None,
        });
        let is_full = self.count >= QUEUE;
        let alone = match waiting.filter(|_| !is_full) {
            Some(run) => run.add(sight).err(),
            None => Some(sight),
        };
        let Some(alone) = alone else {
            self.count += 1;
            return;
        };
        let Some(run) = Run::begin(alone) else { return };
        if !is_full {
            self.count += 1;
            self.newest.insert(run.dialog.clone(), self.items.len());
            return self.items.push_back(Announced::Events(Arc::new(run)));
        }
        let missed = self.missed.entry(run.dialog).or_insert_with(|| (run.first, run.audience.clone()));
        if missed.1.agents != run.audience.agents {
            let mut all = (*missed.1).clone();
            all.agents.extend(run.audience.agents.iter().filter(|agent| !missed.1.agents.contains(agent)).cloned());
            missed.1 = Arc::new(all);
        }
    }

    /// Adds a change. Events that come behind it are told behind it.
    fn put_change(&mut self, change: Arc<ConversationChange>) {
        for dialog in &change.after.details.dialogs {
            self.newest.remove(&dialog.id);
        }
        if self.count >= QUEUE || self.changes.contains_key(change.id()) {
            coalesce(&mut self.changes, change);
        } else {
            self.count += 1;
            self.items.push_back(Announced::Change(change));
        }
    }
}

#[derive(Debug)]
enum Announced {
    // Shared with nobody while it waits here.
    Events(Arc<Run>),
    Change(Arc<ConversationChange>),
    Typing(Arc<Typing>),
}

impl Announced {
    fn count(&self) -> usize {
        match self {
            Self::Events(run) => run.events.len(),
            Self::Change(_) | Self::Typing(_) => 1,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub with as many announcers as given.
    #[must_use]
    pub fn new(announcers: usize) -> Arc<Self> {
        let shards = (0..announcers.max(1)).map(|_| Shard::default()).collect();
        Arc::new(Self {
            sessions: DashMap::new(),
            shards,
            last_connection: AtomicU64::new(0),
            sweeps: Sweeps::default(),
            agents: DashMap::new(),
            presence: Notify::new(),
            committed: Notify::new(),
            traces: Traces::new(jiff::Timestamp::now().as_millisecond()),
            since: Instant::now(),
        })
    }

    /// A number for a new connection.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// How far sockets were closed by whose they are. To be asked for before a credential is looked at, and given to
    /// [`Hub::join`].
    #[must_use]
    pub fn swept(&self) -> Swept {
        self.sweeps.swept()
    }

    /// Puts a session on the map. It leaves when the guard is dropped. Who was meant when sockets were closed since its
    /// credential was looked at is closed as those were.
    pub fn join(self: &Arc<Self>, connection: ConnectionId, actor: Actor, swept: Swept) -> Membership {
        let outbox = Arc::new(Outbox::default());
        if let Some(key) = agent_of(&actor) {
            self.agents.entry(key).or_insert(Presence { sockets: 0, left: self.since }).sockets += 1;
            self.presence.notify_one();
        }
        self.sessions.insert(connection, Handle { actor: actor.clone(), outbox: outbox.clone(), since: Instant::now() });
        // Behind the join: a sweep that comes from here on finds it on the map.
        if let Some(code) = self.sweeps.missed(swept, &actor) {
            outbox.close(code);
        }
        metrics::gauge!("tieline_sessions").increment(1.0);
        Membership { hub: self.clone(), connection, outbox }
    }

    /// Whether an agent has a socket, or had one until less than a time ago. At the start everybody counts as just gone.
    #[must_use]
    pub fn is_present(&self, account: &AccountId, agent: &UserId, absence: Duration) -> bool {
        let known = self.agents.get(&(account.clone(), agent.clone())).map(|presence| *presence);
        let presence = known.unwrap_or(Presence { sockets: 0, left: self.since });
        presence.sockets > 0 || presence.left.elapsed() < absence
    }

    /// Waits until an agent comes.
    pub async fn presence_changed(&self) {
        self.presence.notified().await;
    }

    /// Waits until something was announced since this last returned. For one waiter: who follows the journal as a whole.
    pub async fn committed(&self) {
        self.committed.notified().await;
    }

    /// What is remembered of where events went.
    #[must_use]
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Whose connection it is, or was.
    #[must_use]
    pub fn who(&self, connection: u64) -> Option<Actor> {
        let here = self.sessions.get(&ConnectionId(connection)).map(|session| session.actor.clone());
        here.or_else(|| self.traces.who(connection))
    }

    /// A place beside the map, for a part of the gateway that hears announcements without being a session.
    pub fn listen(self: &Arc<Self>) -> Membership {
        Membership { hub: self.clone(), connection: self.next_connection(), outbox: Arc::new(Outbox::default()) }
    }

    /// Closes every socket of an account with a code; how many.
    pub fn close_all(&self, account: &AccountId, code: CloseCode) -> usize {
        let account = account.clone();
        self.close_where(move |actor| *actor.account() == account, code)
    }

    /// Closes the sockets of those who are meant, those too that are just being let in; how many are here. What they were let in
    /// by is worth nothing any more before this is called, or it lets them in again.
    pub fn close_where(&self, is_meant: impl Fn(&Actor) -> bool + Send + Sync + 'static, code: CloseCode) -> usize {
        let is_meant = Arc::new(is_meant);
        self.sweeps.note(is_meant.clone(), code);
        let theirs: Vec<_> =
            self.sessions.iter().filter(|session| is_meant(&session.actor)).map(|session| session.outbox.clone()).collect();
        for outbox in &theirs {
            outbox.close(code);
        }
        theirs.len()
    }

    /// Closes the sockets of a consumer; how many.
    pub fn close_consumer(&self, account: &AccountId, consumer: &ConsumerId, code: CloseCode) -> usize {
        let (account, consumer) = (account.clone(), consumer.clone());
        let is_it = move |actor: &Actor| matches!(actor, Actor::Consumer { id, .. } if *id == consumer);
        self.close_where(move |actor| *actor.account() == account && is_it(actor), code)
    }

    /// Closes one socket; whether there was one.
    pub fn close(&self, connection: u64, code: CloseCode) -> bool {
        let outbox = self.sessions.get(&ConnectionId(connection)).map(|session| session.outbox.clone());
        outbox.is_some_and(|outbox| {
            outbox.close(code);
            true
        })
    }

    /// A session as it stands.
    #[must_use]
    pub fn session(&self, connection: u64) -> Option<SessionView> {
        self.sessions.get(&ConnectionId(connection)).map(|session| SessionView::of(connection, &session))
    }

    /// The sessions of those who are meant, the oldest first.
    pub fn session_list(&self, is_meant: impl Fn(&Actor) -> bool) -> Vec<SessionView> {
        let meant = self.sessions.iter().filter(|session| is_meant(&session.actor));
        let mut all: Vec<_> = meant.map(|session| SessionView::of(session.key().0, &session)).collect();
        all.sort_by_key(|session| session.connection);
        all
    }

    /// What a session is subscribed to, in words. It looks through every subscription there is.
    #[must_use]
    pub fn subscriptions(&self, connection: u64) -> Vec<String> {
        let connection = ConnectionId(connection);
        let mut all = Vec::new();
        for shard in &self.shards {
            let index = lock(&shard.index);
            all.extend(index.iter().filter(|(_, followers)| place_of(followers, connection).is_ok()).map(|(topic, _)| topic.to_string()));
        }
        all.sort();
        all.dedup();
        all
    }

    /// How many sessions are on the map.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Announces what a batch changed. It does not block.
    pub fn announce(&self, sights: Vec<Arc<Sight>>, changes: Vec<(Option<Conversation>, Conversation)>) {
        let mut touched = HashSet::new();
        let mut feeds: HashSet<(usize, Topic)> = HashSet::new();
        for sight in sights {
            if let Some(state) = AgentState::of(&sight.account, &sight.entry, sight.at, sight.position) {
                lock(&self.shards[0].queue).agents.insert((state.account.clone(), state.agent.clone()), state);
                touched.insert(0);
            }
            let Some(audience) = &sight.audience else { continue };
            let shard = self.shard(&audience.conversation);
            for_feed(audience, |topic| {
                feeds.insert((shard, topic.clone()));
            });
            if sight.message().is_some() {
                lock(&self.shards[shard].queue).put_event(sight);
                touched.insert(shard);
            }
        }
        for (shard, topic) in feeds {
            lock(&self.shards[shard].queue).feeds.insert(topic);
            touched.insert(shard);
        }
        for (before, after) in changes {
            let shard = self.shard(&after.details.id);
            lock(&self.shards[shard].queue).put_change(Arc::new(ConversationChange::new(before, after)));
            touched.insert(shard);
        }
        for shard in touched {
            self.shards[shard].wake.notify_one();
        }
        self.committed.notify_one();
    }

    /// Shows a typing state to who is there. Under pressure it is the first to go.
    pub fn show_typing(&self, typing: Typing) {
        let shard = &self.shards[self.shard(&typing.audience.conversation)];
        let mut queue = lock(&shard.queue);
        if queue.count < QUEUE / 2 {
            queue.count += 1;
            queue.items.push_back(Announced::Typing(Arc::new(typing)));
            shard.wake.notify_one();
        }
    }

    /// Serves one shard for ever. Each of [`Hub::announcers`] must be served by exactly one task.
    pub async fn serve(self: Arc<Self>, shard: usize) {
        let shard = &self.shards[shard];
        loop {
            shard.wake.notified().await;
            loop {
                let mut batch = std::mem::take(&mut *lock(&shard.queue));
                if batch.is_empty() {
                    break;
                }
                // In slices, so that sessions come to their turn before their outboxes overflow.
                while !batch.is_empty() {
                    shard.deliver(batch.slice(), &self.traces).await;
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// How many shards there are to serve.
    #[must_use]
    pub fn announcers(&self) -> usize {
        self.shards.len()
    }

    fn shard(&self, conversation: &ConversationId) -> usize {
        let mut hasher = DefaultHasher::new();
        conversation.hash(&mut hasher);
        (hasher.finish() % self.shards.len() as u64) as usize
    }

    /// A dialog's topic lives in one shard; the others span conversations and so live in each.
    fn shards_of(&self, topic: &Topic) -> std::ops::Range<usize> {
        match topic {
            Topic::Dialog(conversation, _) => {
                let shard = self.shard(conversation);
                shard..shard + 1
            }
            Topic::AgentEvents(..) | Topic::Changes(_) | Topic::Feed(..) | Topic::Typing(_) => 0..self.shards.len(),
            // They are no conversation's.
            Topic::Agents(_) => 0..1,
        }
    }
}

impl Shard {
    fn followers(&self, topic: &Topic) -> Followers {
        lock(&self.index).get(topic).cloned().unwrap_or_default()
    }

    async fn deliver(&self, batch: Queue, traces: &Traces) {
        let mut deliveries = 0_u64;
        for item in batch.items {
            match item {
                Announced::Events(run) => deliveries += self.tell_run(&run, traces).await,
                Announced::Change(change) => deliveries += self.tell_change(&change),
                Announced::Typing(typing) => {
                    // Nothing numbers a typing state, so it is sent to each connection once.
                    let mut told = HashSet::new();
                    let mut push = |subscriber: &Subscriber| told.insert(subscriber.connection) && subscriber.outbox.push_typing(&typing);
                    deliveries += self.tell(&Topic::Dialog(typing.audience.conversation.clone(), typing.dialog.clone()), &mut push);
                    for_agents(&typing.audience, |topic| deliveries += self.tell(topic, &mut push));
                    for_feed(&typing.audience, |topic| deliveries += self.tell(topic, &mut push));
                    deliveries += self.tell(&Topic::Typing(typing.audience.account.clone()), &mut push);
                }
            }
        }
        for (dialog, (sequence, audience)) in batch.missed {
            let mut push = |subscriber: &Subscriber| subscriber.outbox.push_gap(&dialog, sequence);
            deliveries += self.tell(&Topic::Dialog(audience.conversation.clone(), dialog.clone()), &mut push);
            for_agents(&audience, |topic| deliveries += self.tell(topic, &mut push));
        }
        for topic in batch.feeds {
            deliveries += self.tell(&topic, &mut |subscriber| subscriber.outbox.push_feed());
        }
        for change in batch.changes.into_values() {
            deliveries += self.tell_change(&change);
        }
        for state in batch.agents.into_values() {
            deliveries += self.tell(&Topic::Agents(state.account.clone()), &mut |subscriber| subscriber.outbox.push_agent(&state));
        }
        metrics::counter!("tieline_deliveries_total").increment(deliveries);
    }

    /// Tells everybody who follows a topic, and wakes those of whom `push` says so; how many they are.
    fn tell(&self, topic: &Topic, push: &mut dyn FnMut(&Subscriber) -> bool) -> u64 {
        let followers = self.followers(topic);
        for subscriber in followers.iter() {
            if push(subscriber) {
                subscriber.outbox.wake();
            }
        }
        followers.len() as u64
    }

    /// Events of a dialog go to who follows it, and to the agents of its conversation.
    async fn tell_run(&self, run: &Arc<Run>, traces: &Traces) -> u64 {
        let followers = self.followers(&Topic::Dialog(run.audience.conversation.clone(), run.dialog.clone()));
        let mut told: Vec<u64> = Vec::with_capacity(followers.len());
        let mut pushes = 0;
        for turn in followers.chunks(TURN) {
            if pushes > 0 {
                tokio::task::yield_now().await;
            }
            pushes += turn.len() as u64;
            turn.iter().for_each(|subscriber| subscriber.outbox.approach(subscriber.live.as_deref()));
            for subscriber in turn {
                match subscriber.outbox.push_run(run, subscriber.live.as_deref()) {
                    Pushed::Sent => told.push(subscriber.connection.0),
                    Pushed::Waits(true) => subscriber.outbox.wake(),
                    Pushed::Waits(false) => {}
                }
            }
        }
        if !told.is_empty() {
            let positions = run.events.iter().map(|sight| sight.position).collect();
            traces.sent(positions, told, jiff::Timestamp::now().as_millisecond());
        }
        // Who hears this twice, by dialog and as an agent, drops the second by its number.
        let mut push = |subscriber: &Subscriber| subscriber.outbox.push_run(run, None) == Pushed::Waits(true);
        for_agents(&run.audience, |topic| pushes += self.tell(topic, &mut push));
        pushes
    }

    /// A change reaches everybody who could see the conversation before or can see it now, each once.
    fn tell_change(&self, change: &Arc<ConversationChange>) -> u64 {
        let details = &change.after.details;
        let account = &details.account;
        let both = || change.before.iter().chain([&change.after]).map(|conversation| &conversation.details);
        let agents: HashSet<_> =
            both().flat_map(|details| &details.participants).filter_map(|participant| participant.person.user()).collect();
        let consumers: HashSet<_> = both().map(|details| &details.consumer).collect();
        let offered: HashSet<_> = both().filter_map(|details| details.ring.as_ref()?.agent.user()).collect();
        let reaches = [Reach::Account(account.clone()), Reach::Conversation(account.clone(), details.id.clone())];
        let agents = agents.into_iter().map(|agent| Reach::Agent(account.clone(), agent.clone()));
        let consumers = consumers.into_iter().map(|consumer| Reach::Consumer(account.clone(), consumer.clone()));
        let offered = offered.into_iter().map(|agent| Reach::Offers(account.clone(), agent.clone()));
        let mut told = HashSet::new();
        let mut push = |subscriber: &Subscriber| told.insert(subscriber.connection) && subscriber.outbox.push_change(change);
        reaches.into_iter().chain(agents).chain(consumers).chain(offered).map(|reach| self.tell(&Topic::Changes(reach), &mut push)).sum()
    }
}

/// Where a connection stands among those who follow a topic, or would stand.
fn place_of(followers: &[Subscriber], connection: ConnectionId) -> Result<usize, usize> {
    followers.binary_search_by_key(&connection, |subscriber| subscriber.connection)
}

fn agent_of(actor: &Actor) -> Option<(AccountId, UserId)> {
    match actor {
        Actor::Agent { account, user, .. } => Some((account.clone(), user.clone())),
        _ => None,
    }
}

fn for_agents(audience: &Audience, mut tell: impl FnMut(&Topic)) {
    for agent in &audience.agents {
        tell(&Topic::AgentEvents(audience.account.clone(), agent.clone()));
    }
}

fn for_feed(audience: &Audience, mut tell: impl FnMut(&Topic)) {
    if audience.app.is_some() {
        tell(&Topic::Feed(audience.account.clone(), audience.app.clone()));
    }
    tell(&Topic::Feed(audience.account.clone(), None));
}

/// A session's place on the map; dropping it leaves.
#[derive(Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    connection: ConnectionId,
    outbox: Arc<Outbox>,
}

impl Membership {
    /// Where announcements arrive.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The entries at these positions were written to the socket, now.
    pub fn pushed(&self, positions: impl Iterator<Item = u64>, now: Millis) {
        self.outbox.told();
        self.hub.traces.pushed(self.connection.0, positions, now);
    }

    /// Takes an interest in a topic until the guard is dropped. Interests are counted: two in one topic hear once.
    #[must_use]
    pub fn follow(&self, topic: Topic) -> Interest {
        self.follow_as(topic, None)
    }

    /// Takes an interest in a dialog. `live` says from when on, and what, may be sent to the session at once; the newest of
    /// several in one dialog counts.
    #[must_use]
    pub fn follow_dialog(&self, conversation: ConversationId, dialog: DialogId, live: Arc<Live>) -> Interest {
        self.follow_as(Topic::Dialog(conversation, dialog), Some(live))
    }

    fn follow_as(&self, topic: Topic, live: Option<Arc<Live>>) -> Interest {
        for shard in self.hub.shards_of(&topic) {
            let mut index = lock(&self.hub.shards[shard].index);
            let followers = Arc::make_mut(index.entry(topic.clone()).or_default());
            match place_of(followers, self.connection) {
                Ok(place) => {
                    followers[place].times += 1;
                    followers[place].live = live.clone();
                }
                Err(place) => {
                    let fresh = Subscriber { connection: self.connection, outbox: self.outbox.clone(), times: 1, live: live.clone() };
                    followers.insert(place, fresh);
                }
            }
        }
        Interest { hub: self.hub.clone(), connection: self.connection, topic }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.outbox.retire();
        // Who looks for it finds it in one place or the other.
        if self.outbox.was_told()
            && let Some(actor) = self.hub.sessions.get(&self.connection).map(|session| session.actor.clone())
        {
            self.hub.traces.left(self.connection.0, actor, jiff::Timestamp::now().as_millisecond());
        }
        let Some((_, handle)) = self.hub.sessions.remove(&self.connection) else { return };
        metrics::gauge!("tieline_sessions").decrement(1.0);
        if let Some(key) = agent_of(&handle.actor)
            && let Some(mut presence) = self.hub.agents.get_mut(&key)
        {
            presence.sockets -= 1;
            presence.left = Instant::now();
        }
    }
}

/// An interest in a topic; dropping it ends it.
#[derive(Debug)]
pub struct Interest {
    hub: Arc<Hub>,
    connection: ConnectionId,
    topic: Topic,
}

impl Drop for Interest {
    fn drop(&mut self) {
        for shard in self.hub.shards_of(&self.topic) {
            let mut index = lock(&self.hub.shards[shard].index);
            let Some(followers) = index.get_mut(&self.topic) else { continue };
            let followers = Arc::make_mut(followers);
            if let Ok(place) = place_of(followers, self.connection) {
                followers[place].times -= 1;
                if followers[place].times == 0 {
                    followers.remove(place);
                }
            }
            if followers.is_empty() {
                index.remove(&self.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests;
