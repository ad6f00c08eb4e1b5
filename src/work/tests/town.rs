//! A gateway in small that is real where routing happens: store, hub, directory, gateway and router, with a clock that
//! the test moves, and a judge who hears of everything.

use super::judge::{Agent, Fact, Judge, Offer};
use crate::config::Config;
use crate::domain::fixtures::publish;
use crate::domain::{
    Actor, Availability, Command, Conversation, ConversationFilter, Draft, FieldChange, Millis, OpenState, Role, ScopeKey, Ttr,
};
use crate::faults::Faults;
use crate::files::Files;
use crate::gateway::{Error, Gateway, Notes, Parts, Request, announcer};
use crate::hub::{Hub, Membership};
use crate::identity::{Identity, Issuer};
use crate::store::sqlite::SqliteStore;
use crate::store::{Clock, Committed, Decision, Store};
use crate::throttle::Throttle;
use crate::work::{Absence, Router};
use arc_swap::ArcSwap;
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tieline_protocol::ids::{AccountId, ConversationId, QueueId, RingId, UserId};
use tokio::task::JoinHandle;

/// The queues. Few serve the last one.
pub(super) const QUEUES: [&str; 7] = ["-1", "10", "20", "30", "40", "50", "60"];
const AGENTS: usize = 50;
const ACCOUNT: &str = "demo";
const BEGIN: Millis = 1_700_000_000_000;

/// Numbers that look random and are the same for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below a bound: SplitMix64, whose every seed is good.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T>(&mut self, from: Vec<T>) -> Option<T> {
        let count = from.len();
        if count == 0 { None } else { from.into_iter().nth(self.below(count)) }
    }
}

/// Fifty agents with one to three skills each, who take one to five conversations at a time.
fn staff(dice: &mut Dice) -> BTreeMap<UserId, Agent> {
    let agent = |place: usize| {
        let rare = if place < 3 { Some(QUEUES[6]) } else { None };
        let skills = (0..=dice.below(3)).map(|_| QUEUES[dice.below(6)]).chain(rare).chain([QUEUES[place % 6]]);
        (UserId::from((1001 + place).to_string()), Agent::new(skills.map(QueueId::from).collect(), 1 + dice.below(5)))
    };
    (0..AGENTS).map(agent).collect()
}

fn config(staff: &BTreeMap<UserId, Agent>, dir: &TempDir) -> Config {
    let agents: String = staff
        .iter()
        .map(|(user, agent)| {
            let skills: Vec<&str> = agent.skills.iter().map(QueueId::as_str).collect();
            let capacity = agent.capacity;
            format!(
                "[[accounts.agents]]\nuser_id = \"{user}\"\nlogin = \"a{user}\"\npassword = \"p{user}-demo\"\nskills = {skills:?}\ncapacity = {capacity}\n"
            )
        })
        .collect();
    let queues: String = QUEUES.iter().skip(1).map(|queue| format!("[[accounts.queues]]\nid = \"{queue}\"\n")).collect();
    let text =
        format!("[routing]\nring = \"72s\"\nrefusal = \"120s\"\n[[accounts]]\nid = \"{ACCOUNT}\"\nsilence = \"1h\"\n{agents}{queues}");
    let folder = ("TIELINE__SERVER__DATA_DIR".to_owned(), dir.path().join("data").display().to_string());
    Config::from_parts(Some(("the town's", &text)), [folder]).unwrap()
}

/// An offer, as the agent hears of it.
#[derive(Debug, Clone)]
pub(super) struct Offered {
    conversation: ConversationId,
    ring: RingId,
    pub(super) agent: UserId,
}

/// A gateway between two restarts.
struct Running {
    gateway: Arc<Gateway>,
    router: Router,
    hub: JoinHandle<()>,
    sockets: BTreeMap<UserId, Membership>,
}

/// The town.
pub(super) struct Town {
    dir: TempDir,
    config: Config,
    clock: Arc<AtomicI64>,
    heard: Arc<Mutex<Vec<Fact>>>,
    absence: Absence,
    running: Option<Running>,
    seed: u64,
    /// The last entry that was heard of.
    position: u64,
    pub(super) judge: Judge,
    /// The judge before it heard anything.
    pub(super) unknowing: Judge,
    /// Everything that happened, in order.
    pub(super) facts: Vec<Fact>,
    pub(super) dice: Dice,
}

impl Town {
    /// Opens a town in which everybody is absent, and agents who go lose what they have or keep it.
    pub(super) async fn open(seed: u64, is_released: bool) -> Self {
        let mut dice = Dice::new(seed);
        let (dir, staff) = (tempfile::tempdir().unwrap(), staff(&mut dice));
        let queues: BTreeSet<QueueId> = QUEUES.into_iter().map(QueueId::from).collect();
        let config = config(&staff, &dir);
        let judge = Judge::new(staff, queues, BEGIN, is_released);
        // Sockets go by the machine's own clock, which the test cannot move: whoever has none is absent at once.
        let absence = Absence { unasked: Duration::ZERO, released: is_released.then_some(Duration::ZERO) };
        let mut town = Self {
            config,
            dir,
            clock: Arc::new(AtomicI64::new(BEGIN)),
            heard: Arc::default(),
            absence,
            running: None,
            seed,
            position: 0,
            unknowing: judge.clone(),
            judge,
            facts: Vec::new(),
            dice,
        };
        town.start(BTreeSet::new()).await;
        town
    }

    /// Starts the gateway, to which these agents come back at once.
    async fn start(&mut self, present: BTreeSet<UserId>) {
        let (heard, clock) = (self.heard.clone(), self.clock.clone());
        let clock: Clock = Arc::new(move || clock.load(Ordering::SeqCst));
        let (hub, notes) = (Hub::new(1), Arc::new(Notes::default()));
        let announce = announcer(hub.clone(), notes.clone());
        let tell = move |committed: Committed| {
            let written = committed.sights.iter().cloned().map(Fact::Written);
            let states = committed.changes.iter().map(|(_, after)| Fact::State(Box::new(after.clone())));
            let facts: Vec<Fact> = written.chain(states).collect();
            announce(committed);
            heard.lock().unwrap().extend(facts);
        };
        let data = self.dir.path().join("data");
        let store = Arc::new(SqliteStore::open(&data, clock.clone(), Box::new(tell)).unwrap());
        let issuer = Issuer::open(&self.config, clock).unwrap();
        let files = Arc::new(Files::open(&crate::file_settings(&self.config), &data, issuer.files_key()).unwrap());
        let identity = Arc::new(Identity::new(issuer, store.clone(), &self.config).unwrap());
        let live = |config: &Config| (ArcSwap::from_pointee(config.limits.clone()), ArcSwap::from_pointee(config.retention.clone()));
        let (limits, retention) = live(&self.config);
        let (faults, uploads) = (Arc::new(Faults::new(false)), Throttle::per_minute(1));
        let gateway = Gateway::new(Parts {
            store,
            hub: hub.clone(),
            identity,
            files,
            limits: Arc::new(limits),
            notes,
            faults,
            uploads,
            retention: Arc::new(retention),
        });
        let router = Router::new(gateway.clone(), self.absence);
        self.running = Some(Running { gateway, router, hub: tokio::spawn(hub.serve(0)), sockets: BTreeMap::new() });
        present.into_iter().for_each(|user| self.come(user));
        self.running().router.begin().await;
    }

    /// Ends the gateway, whatever its router had still to do, and starts it on what is on disk. So many percent of those
    /// who had a socket come back at once.
    pub(super) async fn restart(&mut self, percent: usize) {
        self.listen().await;
        let Running { gateway, router, hub, sockets } = self.running.take().unwrap();
        hub.abort();
        gateway.store().close().await;
        drop((gateway, router));
        // The folder is free when the hub's task has let go of what it holds.
        let _ = hub.await;
        self.tell(Fact::Restarted);
        let present = sockets.into_keys().filter(|_| self.dice.percent(percent)).collect();
        self.start(present).await;
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    fn gateway(&self) -> Arc<Gateway> {
        self.running.as_ref().unwrap().gateway.clone()
    }

    fn actor(&self, user: &UserId) -> Actor {
        let gateway = self.gateway();
        let account = gateway.identity().directory().account(ACCOUNT).unwrap();
        account.agent(user.as_str()).unwrap().actor(&account.id)
    }

    fn tell(&mut self, fact: Fact) {
        self.facts.push(fact);
        let fact = self.facts.last().unwrap();
        let Err(violation) = self.judge.hear(fact) else { return };
        let names = |id: &ConversationId, fact: &Fact| match fact {
            Fact::Written(sight) => sight.entry.conversation() == Some(id) || sight.entry.conversation().is_none(),
            Fact::State(_) | Fact::Known | Fact::Settled => false,
            Fact::Clock(_) | Fact::Came(_) | Fact::Went(_) | Fact::Restarted => true,
        };
        let id = violation.conversation.clone().unwrap_or_else(|| "".into());
        let history: Vec<_> = self.facts.iter().filter(|fact| names(&id, fact)).collect();
        for fact in &history[history.len().saturating_sub(60)..] {
            match fact {
                Fact::Written(sight) => println!("  {} {:?}", sight.at, sight.entry),
                other => println!("  {other:?}"),
            }
        }
        panic!("seed {}: {:?} is broken for {id}: {}", self.seed, violation.rule, violation.detail);
    }

    /// Hears all that is committed. What is answered may not be announced yet; then the writer is asked for another turn.
    async fn listen(&mut self) {
        let store = self.gateway().store().clone();
        loop {
            let heard = std::mem::take(&mut *self.heard.lock().unwrap());
            for fact in heard {
                if let Fact::Written(sight) = &fact {
                    self.position = sight.position;
                }
                self.tell(fact);
            }
            if self.position == store.head() {
                break;
            }
            let (scope, rule) = (Vec::new(), Box::new(|_: &mut Draft<'_>| Ok(Vec::new())));
            let nothing = Decision { account: ACCOUNT.into(), scope, rule, received: 0, retry: None, resend: None };
            store.decide(nothing).await.unwrap().unwrap();
        }
        self.tell(Fact::Known);
    }

    /// Lets the router work as it does by itself, until a tick finds nothing more to do, and has everything judged.
    pub(super) async fn settle(&mut self) {
        let mut ticked = None;
        loop {
            self.listen().await;
            let Running { gateway, router, .. } = self.running();
            if gateway.hub().presence_changed().now_or_never().is_some() {
                router.came();
                router.round().await;
            } else if gateway.notes().written().now_or_never().is_some() {
                router.round().await;
            } else if ticked != Some(gateway.store().head()) {
                ticked = Some(gateway.store().head());
                router.wake().await;
                self.listen().await;
                self.running().router.look_for_absent().await;
                self.listen().await;
                self.running().router.round().await;
            } else {
                break;
            }
        }
        self.tell(Fact::Settled);
    }

    /// Hands in what several do at the same moment; the answers come in the same order.
    async fn submit_all(&mut self, requests: Vec<(Actor, Vec<Command>)>) -> Vec<Result<(), Error>> {
        let gateway = self.gateway();
        let request = |(actor, commands)| gateway.submit(Request { actor, commands, key: None, resend: None });
        let pending: Vec<_> = requests.into_iter().map(request).collect();
        let answers = futures::future::join_all(pending).await;
        self.listen().await;
        answers.into_iter().map(|answer| answer.map(|_| ())).collect()
    }

    async fn submit(&mut self, actor: Actor, commands: Vec<Command>) -> Result<(), Error> {
        self.submit_all(vec![(actor, commands)]).await.remove(0)
    }

    /// Consumers open conversations with these numbers, in these queues; some speak at once.
    pub(super) async fn begin(&mut self, conversations: Vec<(usize, &str, bool)>) {
        let requests = conversations.into_iter().map(|(number, queue, speaks)| {
            let conversation = ConversationId::from(format!("c{number:05}"));
            let open = Command::Open {
                conversation: conversation.clone(),
                consumer: None,
                queue: queue.into(),
                ttr: Ttr::named(None, None).unwrap(),
                context: None,
                campaign: None,
                features: Vec::new(),
                binding: None,
                origin: None,
            };
            let commands = [Some(open), speaks.then(|| words(&conversation))].into_iter().flatten().collect();
            (consumer(&conversation), commands)
        });
        let requests = requests.collect();
        self.submit_all(requests).await.into_iter().for_each(|answer| answer.unwrap());
    }

    /// The consumer speaks, or an agent does.
    pub(super) async fn speak(&mut self, conversation: &ConversationId, agent: Option<&UserId>) {
        let actor = agent.map_or_else(|| consumer(conversation), |user| self.actor(user));
        self.submit(actor, vec![words(conversation)]).await.unwrap();
    }

    /// The consumer changes its conversation, or an agent does.
    pub(super) async fn update(&mut self, conversation: &ConversationId, agent: Option<&UserId>, changes: Vec<FieldChange>) {
        let actor = agent.map_or_else(|| consumer(conversation), |user| self.actor(user));
        self.submit(actor, vec![Command::Update { conversation: conversation.clone(), changes }]).await.unwrap();
    }

    /// An agent leaves a conversation to another queue, or to another agent, or to its queue.
    pub(super) async fn hand_over(&mut self, conversation: &ConversationId, from: &UserId, to: Vec<FieldChange>) {
        let leave = FieldChange::Leave { person: self.person(from), role: Role::AssignedAgent };
        self.update(conversation, Some(from), to.into_iter().chain([leave]).collect()).await;
    }

    pub(super) fn person(&self, user: &UserId) -> crate::domain::Person {
        self.actor(user).person().unwrap()
    }

    /// Agents answer offers, each as it likes.
    pub(super) async fn answer(&mut self, answers: Vec<(Offered, bool)>) -> Vec<Result<(), Error>> {
        let request = |(offered, accepts): (Offered, bool)| {
            let Offered { conversation, ring, agent } = offered;
            let capacity = self.judge.agents[&agent].capacity;
            (self.actor(&agent), vec![Command::AnswerRing { conversation, ring, accepts, capacity }])
        };
        let requests = answers.into_iter().map(request).collect();
        self.submit_all(requests).await
    }

    /// An agent says whether it takes conversations.
    pub(super) async fn say(&mut self, user: &UserId, availability: Availability) {
        let (channels, description, reason) = (vec!["MESSAGING".into()], None, None);
        let state = Command::SetAvailability { agent: user.clone(), availability, channels, description, reason };
        self.submit(self.actor(user), vec![state]).await.unwrap();
    }

    /// An agent gets a socket.
    pub(super) fn come(&mut self, user: UserId) {
        let (hub, actor) = (self.gateway().hub().clone(), self.actor(&user));
        let membership = hub.join(hub.next_connection(), actor, hub.swept());
        self.running().sockets.insert(user.clone(), membership);
        self.tell(Fact::Came(user));
    }

    /// An agent loses it.
    pub(super) fn go(&mut self, user: UserId) {
        self.running().sockets.remove(&user);
        self.tell(Fact::Went(user));
    }

    /// It becomes later.
    pub(super) fn pass(&mut self, time: Millis) {
        let now = self.clock.fetch_add(time, Ordering::SeqCst) + time;
        self.tell(Fact::Clock(now));
    }

    /// Offers that stand, to agents who can answer now.
    pub(super) fn offers(&self) -> Vec<Offered> {
        let standing = self.judge.offers().into_iter();
        let can_answer = |offer: &Offer| self.judge.now < offer.until && self.judge.agents[&offer.agent].has_socket;
        let standing = standing.filter(|(_, offer)| can_answer(offer));
        standing.map(|(conversation, Offer { ring, agent, .. })| Offered { conversation, ring, agent }).collect()
    }

    /// Conversations that agents who have a socket answer.
    pub(super) fn assigned(&self) -> Vec<(ConversationId, UserId)> {
        let open = self.judge.conversations.iter().filter(|(_, seen)| seen.is_open);
        let assigned = open.filter_map(|(id, seen)| Some((id.clone(), seen.assigned.first()?.clone())));
        assigned.filter(|(_, user)| self.judge.agents[user].has_socket).collect()
    }

    /// Open conversations.
    pub(super) fn open_ones(&self) -> Vec<ConversationId> {
        self.judge.conversations.iter().filter(|(_, seen)| seen.is_open).map(|(id, _)| id.clone()).collect()
    }

    /// Agents who have a socket, or have none.
    pub(super) fn agents(&self, has_socket: bool) -> Vec<UserId> {
        self.judge.agents.iter().filter(|(_, agent)| agent.has_socket == has_socket).map(|(user, _)| user.clone()).collect()
    }

    /// Counts again, by what the store says, what the judge has counted by what happened, and what decisions are told.
    pub(super) async fn recount(&mut self) {
        let store = self.gateway().store().clone();
        let everything = store.conversations(ConversationFilter::all(ACCOUNT.into()), usize::MAX >> 1).await.unwrap().conversations;
        assert_eq!(everything.len(), self.judge.opened(), "each conversation once");
        let counted: BTreeMap<UserId, usize> = self.judge.agents.iter().map(|(user, agent)| (user.clone(), agent.load)).collect();
        let mut listed: BTreeMap<UserId, usize> = counted.keys().map(|user| (user.clone(), 0)).collect();
        for user in everything.iter().flat_map(holders) {
            *listed.get_mut(&user).unwrap() += 1;
        }
        assert_eq!(counted, listed, "loads by what the store lists");
        assert_eq!(counted, told(&store, counted.keys().cloned().collect()).await, "loads by what decisions are told");
        let pending = store.pending().await.unwrap();
        let pending: BTreeSet<ConversationId> = pending.into_iter().map(|conversation| conversation.details.id.clone()).collect();
        let seen = self.judge.conversations.iter().filter(|(_, seen)| seen.waits() || (seen.is_open && seen.invited.is_some()));
        assert_eq!(pending, seen.map(|(id, _)| id.clone()).collect(), "what waits");
    }
}

/// What decisions are told of agents' loads.
async fn told(store: &Arc<dyn Store>, agents: Vec<UserId>) -> BTreeMap<UserId, usize> {
    let account = AccountId::from(ACCOUNT);
    let told = Arc::new(Mutex::new(BTreeMap::new()));
    let (tell, asked, whose) = (told.clone(), agents.clone(), account.clone());
    let decision = Decision {
        account: account.clone(),
        scope: agents.into_iter().map(|user| ScopeKey::Agent(account.clone(), user)).collect(),
        rule: Box::new(move |draft| {
            tell.lock().unwrap().extend(asked.iter().map(|user| (user.clone(), draft.load(&whose, user))));
            Ok(Vec::new())
        }),
        received: 0,
        retry: None,
        resend: None,
    };
    store.decide(decision).await.unwrap().unwrap();
    std::mem::take(&mut *told.lock().unwrap())
}

/// Of whose capacity a conversation takes a part, by what anybody can read of it.
fn holders(conversation: &Conversation) -> BTreeSet<UserId> {
    let details = &conversation.details;
    let is_open = details.dialogs[0].state == OpenState::Open;
    let assigned = details.participants.iter().filter(|participant| is_open && participant.role == Role::AssignedAgent);
    let assigned = assigned.filter(|participant| participant.state == crate::domain::ParticipantState::Active);
    let persons = assigned.map(|participant| &participant.person).chain(details.ring.as_ref().map(|ring| &ring.agent));
    persons.filter_map(|person| person.user().cloned()).collect()
}

fn consumer(conversation: &ConversationId) -> Actor {
    let id = format!("of-{conversation}").into();
    Actor::Consumer { account: ACCOUNT.into(), id, app: None, was: None }
}

fn words(conversation: &ConversationId) -> Command {
    publish(conversation.as_str(), "well then")
}
