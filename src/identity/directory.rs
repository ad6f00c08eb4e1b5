//! Who there is: accounts with their applications, agents, queues and API keys, as configured. A reload of the configuration
//! replaces them as a whole; who holds an account goes on with it as it was.

use super::api_keys::{ADDRESS_PERIOD, ApiKey, ApiKeys};
use super::keys::{Ids, Keys};
use super::oauth::OAuthApp;
use super::shelf::Things;
use crate::config::{self, Dialect, ReplySequence};
use crate::domain::{Actor, AgentRole, Candidate, Channel, Policy, Question, QuestionKind, Survey};
use crate::domain::{Millis, Person};
use crate::store::Fingerprint;
use crate::things::check_email;
use crate::throttle::Throttle;
use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId, ParticipantId, QueueId, UserId};
use uuid::Uuid;

/// Everybody.
#[derive(Debug)]
pub struct Directory {
    all: ArcSwap<Everybody>,
    /// OnceHub's calls, by address.
    addresses: Arc<Throttle>,
}

/// Accounts, and the keys that stand for them.
#[derive(Debug)]
struct Everybody {
    accounts: HashMap<AccountId, Arc<Account>>,
    api_keys: ApiKeys,
}

/// A tenant.
#[derive(Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// What it has decided beforehand.
    pub policy: Arc<Policy>,
    /// Applications come and go while running.
    apps: RwLock<HashMap<ClientId, Arc<App>>>,
    agents: HashMap<UserId, Agent>,
    logins: HashMap<String, UserId>,
    pids: HashMap<ParticipantId, UserId>,
    emails: HashMap<String, UserId>,
    queues: HashMap<QueueId, String>,
    queue_uuids: HashMap<Uuid, QueueId>,
    uuid: Uuid,
    nobody: Password,
    ids: Ids,
    /// Programs that agents may let act for them.
    oauth_apps: Vec<Arc<OAuthApp>>,
    /// What is set up beside; it stays the same while the account is there.
    pub(super) things: Arc<Things>,
}

/// An application.
#[derive(Debug)]
pub struct App {
    pub(super) secret: SecretString,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What `sequence` means in its SEND replies.
    pub reply_sequence: ReplySequence,
    /// By what way its consumers write, if that is said.
    pub channel: Option<Channel>,
    /// Whether its tokens are good.
    pub is_enabled: bool,
    /// Whether it was installed while running, and is no entry of the configuration file.
    is_installed: bool,
}

impl App {
    /// An application that is installed while running.
    #[must_use]
    pub fn new(secret: SecretString, scopes: Vec<String>, is_enabled: bool) -> Self {
        Self { secret, scopes, reply_sequence: ReplySequence::Position, channel: None, is_enabled, is_installed: true }
    }
}

/// An agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// The number within the account.
    pub user: UserId,
    /// The participant id.
    pub pid: ParticipantId,
    /// The name to sign in with.
    pub login: String,
    /// The name to show.
    pub name: String,
    /// The mail address to show. One that is not configured is made up, under `.invalid`, where no mail can go.
    pub email: String,
    /// The telephone number to show.
    pub phone: Option<String>,
    /// What the agent may do.
    pub roles: Arc<[AgentRole]>,
    /// The queues it serves.
    pub skills: Arc<HashSet<QueueId>>,
    /// How many conversations it is given at a time.
    pub capacity: usize,
    pub(super) password: Password,
    /// Of login, password and roles: who signed in when it was another may not go on. Nobody without the key of ids can guess
    /// at it.
    pub(super) made_with: Fingerprint,
}

#[derive(Debug, Clone)]
pub(super) enum Password {
    Plain(SecretString),
    Hash(SecretString),
}

impl Agent {
    /// The agent as an actor of an account.
    #[must_use]
    pub fn actor(&self, account: &AccountId) -> Actor {
        Actor::Agent { account: account.clone(), user: self.user.clone(), pid: self.pid.clone(), roles: self.roles.clone() }
    }

    /// The agent as somebody who may be offered a conversation of a queue.
    #[must_use]
    pub fn candidate(&self, queue: &QueueId) -> Candidate {
        Candidate { agent: self.person(), capacity: self.capacity, is_skilled: self.skills.contains(queue) }
    }

    /// The agent as a participant.
    #[must_use]
    pub fn person(&self) -> Person {
        Person::Agent { user: self.user.clone(), pid: self.pid.clone() }
    }
}

impl Directory {
    pub(super) fn new(config: &config::Config, keys: &Keys) -> Self {
        let addresses = Arc::new(Throttle::over(ADDRESS_PERIOD, config.limits.oncehub_per_address));
        let accounts = read(config, keys, None);
        let api_keys = ApiKeys::of(config, &accounts, &addresses, None);
        Self { all: ArcSwap::from_pointee(Everybody { accounts, api_keys }), addresses }
    }

    /// Whose API key it is; none for one that nobody has, or has for another dialect. [`super::Identity::check_key`] also counts.
    #[must_use]
    pub fn api_key(&self, dialect: Dialect, given: &str) -> Option<Arc<ApiKey>> {
        self.all.load().api_keys.find(dialect, given)
    }

    /// The API key of an id, as tokens name it; none, if it is there no more.
    #[must_use]
    pub fn api_key_named(&self, dialect: Dialect, id: Uuid) -> Option<Arc<ApiKey>> {
        self.all.load().api_keys.named(dialect, id)
    }

    /// The API keys of an account, by dialect and name.
    #[must_use]
    pub fn api_keys(&self, account: &AccountId) -> Vec<Arc<ApiKey>> {
        self.all.load().api_keys.of_account(account)
    }

    pub(super) fn tidy(&self) {
        self.addresses.tidy();
    }

    /// Every account, in the order of their ids.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<_> = self.all.load().accounts.values().cloned().collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// An account by its id.
    #[must_use]
    pub fn account(&self, id: &str) -> Option<Arc<Account>> {
        self.all.load().accounts.get(id).cloned()
    }

    /// A program that agents may let act for them, and their account.
    #[must_use]
    pub fn oauth_app(&self, client_id: &str) -> Option<(Arc<Account>, Arc<OAuthApp>)> {
        self.all.load().accounts.values().find_map(|account| Some((account.clone(), account.oauth_app(client_id)?.clone())))
    }

    /// Takes the accounts of another configuration instead. Applications that were installed while running stay. Returns who
    /// may no longer do what they could.
    pub(super) fn replace(&self, config: &config::Config, keys: &Keys) -> Vec<Dropped> {
        let before = self.all.load_full();
        let fresh = read(config, keys, Some(&before.accounts));
        let mut dropped = Vec::new();
        for (id, account) in &before.accounts {
            let Some(now) = fresh.get(id) else {
                dropped.push(Dropped::Account(id.clone(), account.agents.keys().cloned().collect()));
                continue;
            };
            let apps = account.apps.read().unwrap_or_else(PoisonError::into_inner);
            for (client, app) in apps.iter() {
                match now.app(client) {
                    Some(same) if same.secret.expose_secret() == app.secret.expose_secret() => {}
                    None if app.is_installed => {
                        now.keep_app(client.clone(), app.clone());
                    }
                    _ => dropped.push(Dropped::App(id.clone(), client.clone())),
                }
            }
            let has_left = |agent: &&Agent| now.agents.get(&agent.user).is_none_or(|now| now.made_with != agent.made_with);
            let is_out = |app: &&Arc<OAuthApp>| now.oauth_app(&app.client_id).is_none();
            let out = account.oauth_apps.iter().filter(is_out).map(|app| account.oauth_app_id(&app.client_id));
            dropped.extend(out.map(Dropped::Key));
            dropped.extend(account.agents.values().filter(has_left).map(|agent| Dropped::Agent(id.clone(), agent.user.clone())));
        }
        self.addresses.set(config.limits.oncehub_per_address);
        let api_keys = ApiKeys::of(config, &fresh, &self.addresses, Some(&before.api_keys));
        dropped.extend(before.api_keys.lost_in(&api_keys).map(Dropped::Key));
        self.all.store(Arc::new(Everybody { accounts: fresh, api_keys }));
        dropped
    }
}

/// Who lost something by a change of the configuration: their sockets must close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dropped {
    /// The whole account, which had these agents.
    Account(AccountId, Vec<UserId>),
    /// An application: it is gone, or has another secret.
    App(AccountId, ClientId),
    /// An agent: it is gone, or has another login, password or role.
    Agent(AccountId, UserId),
    /// The API key of an id: it is gone, or its bearer acts as somebody else. Or a program of that id that agents let act for them.
    Key(Uuid),
}

type Accounts = HashMap<AccountId, Arc<Account>>;

fn read(config: &config::Config, keys: &Keys, before: Option<&Accounts>) -> Accounts {
    let things = |id: &str| before.and_then(|before| before.get(id)).map(|account| account.things.clone()).unwrap_or_default();
    let accounts = config.accounts.iter().map(|account| Arc::new(Account::new(account, &config.routing, keys, things(&account.id))));
    accounts.map(|account| (account.id.clone(), account)).collect()
}

impl Account {
    fn new(account: &config::Account, routing: &config::Routing, keys: &Keys, things: Arc<Things>) -> Self {
        let ids = keys.ids().clone();
        let unassigned = QueueId::unassigned();
        let queues = account.queues.iter().map(|queue| QueueId::from(queue.id.as_str())).chain([unassigned]);
        let agents: Vec<Agent> = account.agents.iter().map(|agent| Agent::new(&account.id, agent, keys)).collect();
        let apps = account.apps.iter().map(|app| {
            let known = App {
                secret: app.client_secret.clone(),
                scopes: app.scopes.clone(),
                reply_sequence: app.reply_sequence,
                channel: app.channel.clone(),
                is_enabled: true,
                is_installed: false,
            };
            (ClientId::from(app.client_id.as_str()), Arc::new(known))
        });
        let uses_hashes = account.agents.iter().any(|agent| agent.password_hash.is_some());
        Self {
            nobody: Password::nobodys(uses_hashes),
            uuid: account.uuid.unwrap_or_else(|| ids.uuid(&["account", &account.id])),
            id: AccountId::from(account.id.as_str()),
            name: account.name.clone(),
            policy: Arc::new(policy(account, routing, keys)),
            apps: RwLock::new(apps.collect()),
            logins: agents.iter().map(|agent| (agent.login.clone(), agent.user.clone())).collect(),
            pids: agents.iter().map(|agent| (agent.pid.clone(), agent.user.clone())).collect(),
            emails: agents.iter().map(|agent| (agent.email.to_lowercase(), agent.user.clone())).collect(),
            agents: agents.into_iter().map(|agent| (agent.user.clone(), agent)).collect(),
            queue_uuids: queues.map(|queue| (queue_uuid(&ids, &account.id, &queue), queue)).collect(),
            queues: account.queues.iter().map(|queue| (QueueId::from(queue.id.as_str()), queue.name.clone())).collect(),
            ids,
            oauth_apps: account.oauth_apps.iter().map(|app| Arc::new(oauth_app(app))).collect(),
            things,
        }
    }

    /// A program that agents may let act for them.
    #[must_use]
    pub fn oauth_app(&self, client_id: &str) -> Option<&Arc<OAuthApp>> {
        self.oauth_apps.iter().find(|app| app.client_id == client_id)
    }

    /// The id of such a program.
    pub(super) fn oauth_app_id(&self, client_id: &str) -> Uuid {
        self.uuid_of("oauth app", client_id)
    }

    /// An application, if it is installed and enabled.
    #[must_use]
    pub fn app(&self, id: &ClientId) -> Option<Arc<App>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).get(id).filter(|app| app.is_enabled).cloned()
    }

    /// The applications that are installed, enabled or not.
    #[must_use]
    pub fn apps(&self) -> Vec<ClientId> {
        let mut all: Vec<_> = self.apps.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        all.sort();
        all
    }

    /// Installs an application or changes it.
    pub fn put_app(&self, id: ClientId, app: App) {
        self.keep_app(id, Arc::new(app));
    }

    fn keep_app(&self, id: ClientId, app: Arc<App>) -> Option<Arc<App>> {
        self.apps.write().unwrap_or_else(PoisonError::into_inner).insert(id, app)
    }

    /// Removes an application.
    pub fn remove_app(&self, id: &ClientId) {
        self.apps.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The gateway itself, as an actor of this account.
    #[must_use]
    pub fn system(&self) -> Actor {
        Actor::System { account: self.id.clone(), bot: self.policy.bot.clone() }
    }

    /// Every agent, in the order of their numbers.
    #[must_use]
    pub fn agents(&self) -> Vec<&Agent> {
        let mut all: Vec<_> = self.agents.values().collect();
        all.sort_by_key(|agent| (agent.user.as_str().len(), agent.user.clone()));
        all
    }

    /// An agent by any of the names it goes by: `{account}.{userId}`, the number alone, or the participant id.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        let number = name.strip_prefix(self.id.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
        self.agents.get(number).or_else(|| self.agents.get(self.pids.get(name)?))
    }

    /// An agent by its login.
    #[must_use]
    pub fn agent_by_login(&self, login: &str) -> Option<&Agent> {
        self.agents.get(self.logins.get(login)?)
    }

    /// An agent by its mail address, in whatever case.
    #[must_use]
    pub fn agent_by_email(&self, email: &str) -> Option<&Agent> {
        self.agents.get(self.emails.get(&email.to_lowercase())?)
    }

    /// The account's UUID, for dialects that show only such.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The UUID of something of the account that has an id of another form: always the same, and nothing can be told from it.
    #[must_use]
    pub fn uuid_of(&self, kind: &str, id: &str) -> Uuid {
        self.ids.uuid(&[kind, self.id.as_str(), id])
    }

    /// The UUID of a queue, also of one that is no more.
    #[must_use]
    pub fn queue_uuid(&self, queue: &QueueId) -> Uuid {
        queue_uuid(&self.ids, self.id.as_str(), queue)
    }

    /// The queue that a UUID names.
    #[must_use]
    pub fn queue_by_uuid(&self, uuid: Uuid) -> Option<&QueueId> {
        self.queue_uuids.get(&uuid)
    }

    /// The queue of conversations whose opener names none: the one that is set, as long as it is there.
    #[must_use]
    pub fn default_queue(&self) -> QueueId {
        let set = self.things.default_queue.live().first().map(|kept| kept.thing.queue.clone());
        set.filter(|queue| self.has_queue(queue)).unwrap_or_else(QueueId::unassigned)
    }

    /// What is set up beside people and queues.
    #[must_use]
    pub fn things(&self) -> &Things {
        &self.things
    }

    /// A password that nobody has, and that takes as long to check as the account's others.
    pub(super) fn nobodys_password(&self) -> Password {
        self.nobody.clone()
    }

    /// The queues by their ids, with their names.
    #[must_use]
    pub fn queues(&self) -> BTreeMap<&str, &str> {
        self.queues.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect()
    }

    /// The name of a queue; none for one that has none.
    #[must_use]
    pub fn queue_name(&self, id: &QueueId) -> Option<&str> {
        self.queues.get(id).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Whether there is such a queue. The queue of conversations without one always is.
    #[must_use]
    pub fn has_queue(&self, id: &QueueId) -> bool {
        *id == QueueId::unassigned() || self.queues.contains_key(id)
    }
}

/// The participant id of an agent: a UUID that is the same at each start.
fn pid(account: &str, user: &str, keys: &Keys) -> ParticipantId {
    ParticipantId::from(keys.uuid(&["agent", account, user]))
}

fn queue_uuid(ids: &Ids, account: &str, queue: &QueueId) -> Uuid {
    ids.uuid(&["queue", account, queue.as_str()])
}

/// A mail address for an agent that has none: under a name that no mail can go to.
fn made_up_email(account: &str, agent: &config::Agent) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let name = if !agent.login.is_empty() && agent.login.chars().all(is_plain) { &agent.login } else { &agent.user_id };
    format!("{name}@{}.invalid", account.replace('_', "-")).to_lowercase()
}

fn oauth_app(app: &config::OAuthApp) -> OAuthApp {
    OAuthApp {
        client_id: app.client_id.clone(),
        name: if app.name.is_empty() { app.client_id.clone() } else { app.name.clone() },
        redirect_uris: app.redirect_uris.clone(),
        secret: app.client_secret.clone(),
    }
}

fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}

fn policy(account: &config::Account, routing: &config::Routing, keys: &Keys) -> Policy {
    Policy {
        bot: Person::Agent { user: UserId::from(config::BOT), pid: pid(&account.id, config::BOT, keys) },
        ring: millis(routing.ring.0),
        refusal: millis(routing.refusal.0),
        silence: account.silence.0.map(millis),
        patience: account.abandoned_after.0.map(millis),
        welcome: Some(account.welcome.clone()).filter(|welcome| !welcome.is_empty()),
        survey: account.survey.as_ref().map(|survey| Survey {
            queues: survey.queues.iter().map(|queue| QueueId::from(queue.as_str())).collect(),
            time: millis(survey.time.0),
            questions: survey.questions.iter().map(question).collect(),
            thanks: Some(survey.thanks.clone()).filter(|thanks| !thanks.is_empty()),
        }),
    }
}

fn question(question: &config::Question) -> Question {
    let kind = match question.kind {
        config::QuestionKind::Csat => QuestionKind::Csat,
        config::QuestionKind::Resolved => QuestionKind::Resolved,
        config::QuestionKind::Choice => QuestionKind::Choice(question.choices.clone()),
        config::QuestionKind::Text => QuestionKind::Text,
    };
    Question { id: question.id.clone(), text: question.text.clone(), kind }
}

impl Agent {
    fn new(account: &str, agent: &config::Agent, keys: &Keys) -> Self {
        let pid = pid(account, &agent.user_id, keys);
        let password = match (&agent.password, &agent.password_hash) {
            (_, Some(hash)) => Password::Hash(hash.clone()),
            (Some(plain), None) => Password::Plain(plain.clone()),
            // Refused by the configuration's own check; a random password lets nobody in.
            (None, None) => Password::Plain(crate::random::secret().into()),
        };
        let (kind, secret) = match &password {
            Password::Plain(plain) => ("plain", plain.expose_secret()),
            Password::Hash(hash) => ("hash", hash.expose_secret()),
        };
        let roles: String = agent.roles.iter().map(|role| format!("{role:?} ")).collect();
        let made_with = keys.pseudonym(&["login", account, &agent.user_id, &agent.login, kind, secret, &roles]);
        Self {
            user: UserId::from(agent.user_id.as_str()),
            pid,
            login: agent.login.clone(),
            name: if agent.name.is_empty() { agent.login.clone() } else { agent.name.clone() },
            // Who signs in by a mail address has one.
            email: match &agent.email {
                Some(email) => email.clone(),
                None if check_email(&agent.login).is_ok() => agent.login.clone(),
                None => made_up_email(account, agent),
            },
            phone: agent.phone.clone(),
            roles: agent.roles.clone().into(),
            skills: Arc::new(agent.skills.iter().map(|skill| QueueId::from(skill.as_str())).collect()),
            capacity: agent.capacity,
            password,
            made_with,
        }
    }
}

impl Password {
    fn nobodys(is_hash: bool) -> Self {
        use argon2::password_hash::PasswordHasher;
        let random = crate::random::secret();
        let hash = if is_hash { argon2::Argon2::default().hash_password(random.as_bytes()).ok() } else { None };
        hash.map_or_else(|| Self::Plain(random.into()), |hash| Self::Hash(hash.to_string().into()))
    }

    /// Whether it is this one. It takes a while for a hash, so call it off the runtime's own threads.
    pub(super) fn is(&self, given: &str) -> bool {
        match self {
            Self::Plain(plain) => same(plain.expose_secret(), given),
            Self::Hash(hash) => {
                use argon2::password_hash::PasswordVerifier;
                use argon2::password_hash::phc::PasswordHash;
                PasswordHash::new(hash.expose_secret())
                    .is_ok_and(|hash| argon2::Argon2::default().verify_password(given.as_bytes(), &hash).is_ok())
            }
        }
    }
}

/// Compares in a time that does not depend on where two texts differ.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    let hash = |text: &str| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    aws_lc_rs::constant_time::verify_slices_are_equal(hash(one).as_ref(), hash(other).as_ref()).is_ok()
}
