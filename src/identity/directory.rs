//! Who there is: accounts with their applications, agents and queues, as configured.

use super::keys::Keys;
use crate::config::{self, ReplySequence};
use crate::domain::{Actor, AgentRole, Person};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ClientId, ParticipantId, QueueId, UserId};

/// Everybody.
#[derive(Debug)]
pub struct Directory {
    accounts: HashMap<AccountId, Account>,
}

/// A tenant.
#[derive(Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its applications.
    pub apps: HashMap<ClientId, App>,
    agents: HashMap<UserId, Agent>,
    logins: HashMap<String, UserId>,
    pids: HashMap<ParticipantId, UserId>,
    queues: HashSet<QueueId>,
    nobody: Password,
}

/// An application.
#[derive(Debug)]
pub struct App {
    pub(super) secret: SecretString,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What `sequence` means in its SEND replies.
    pub reply_sequence: ReplySequence,
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
    /// What the agent may do.
    pub roles: Arc<[AgentRole]>,
    pub(super) password: Password,
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

    /// The agent as a participant.
    #[must_use]
    pub fn person(&self) -> Person {
        Person::Agent { user: self.user.clone(), pid: self.pid.clone() }
    }
}

impl Directory {
    pub(super) fn new(accounts: &[config::Account], keys: &Keys) -> Self {
        let accounts = accounts.iter().map(|account| Account::new(account, keys));
        Self { accounts: accounts.map(|account| (account.id.clone(), account)).collect() }
    }

    /// An account by its id.
    #[must_use]
    pub fn account(&self, id: &str) -> Option<&Account> {
        self.accounts.get(&AccountId::from(id))
    }
}

impl Account {
    fn new(account: &config::Account, keys: &Keys) -> Self {
        let agents: Vec<Agent> = account.agents.iter().map(|agent| Agent::new(&account.id, agent, keys)).collect();
        let apps = account.apps.iter().map(|app| {
            let known = App { secret: app.client_secret.clone(), scopes: app.scopes.clone(), reply_sequence: app.reply_sequence };
            (ClientId::from(app.client_id.as_str()), known)
        });
        let uses_hashes = account.agents.iter().any(|agent| agent.password_hash.is_some());
        Self {
            nobody: Password::nobodys(uses_hashes),
            id: AccountId::from(account.id.as_str()),
            apps: apps.collect(),
            logins: agents.iter().map(|agent| (agent.login.clone(), agent.user.clone())).collect(),
            pids: agents.iter().map(|agent| (agent.pid.clone(), agent.user.clone())).collect(),
            agents: agents.into_iter().map(|agent| (agent.user.clone(), agent)).collect(),
            queues: account.queues.iter().map(|queue| QueueId::from(queue.id.as_str())).collect(),
        }
    }

    /// An agent by any of the names it goes by: `{account}.{userId}`, the number alone, or the participant id.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        let number = name.strip_prefix(self.id.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
        self.agents.get(&UserId::from(number)).or_else(|| self.agents.get(self.pids.get(&ParticipantId::from(name))?))
    }

    /// An agent by its login.
    #[must_use]
    pub fn agent_by_login(&self, login: &str) -> Option<&Agent> {
        self.agents.get(self.logins.get(login)?)
    }

    /// A password that nobody has, and that takes as long to check as the account's others.
    pub(super) fn nobodys_password(&self) -> Password {
        self.nobody.clone()
    }

    /// Whether there is such a queue. The queue of conversations without one always is.
    #[must_use]
    pub fn has_queue(&self, id: &QueueId) -> bool {
        *id == QueueId::unassigned() || self.queues.contains(id)
    }
}

impl Agent {
    fn new(account: &str, agent: &config::Agent, keys: &Keys) -> Self {
        let pid = keys.uuid(&["agent", account, &agent.user_id]);
        let password = match (&agent.password, &agent.password_hash) {
            (_, Some(hash)) => Password::Hash(hash.clone()),
            (Some(plain), None) => Password::Plain(plain.clone()),
            // Refused by the configuration's own check; a random password lets nobody in.
            (None, None) => Password::Plain(crate::random::secret().into()),
        };
        Self {
            user: UserId::from(agent.user_id.as_str()),
            pid: ParticipantId::from(pid),
            login: agent.login.clone(),
            name: if agent.name.is_empty() { agent.login.clone() } else { agent.name.clone() },
            roles: agent.roles.clone().into(),
            password,
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
pub(super) fn same(one: &str, other: &str) -> bool {
    let hash = |text: &str| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    aws_lc_rs::constant_time::verify_slices_are_equal(hash(one).as_ref(), hash(other).as_ref()).is_ok()
}
