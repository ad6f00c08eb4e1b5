//! Who acts, and who is named in what happened.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ParticipantId, UserId};

/// Who does something: the result of checking a credential. Checks happen elsewhere; whoever holds an `Actor`
/// may believe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A consumer, by a token of its own or through a connector that speaks for it.
    Consumer {
        /// The tenant.
        account: AccountId,
        /// The consumer.
        id: ConsumerId,
        /// The application that speaks for the consumer, if one does.
        app: Option<ClientId>,
        /// Who the consumer was before it signed in, if its token proves that.
        was: Option<ConsumerId>,
    },
    /// An agent.
    Agent {
        /// The tenant.
        account: AccountId,
        /// The agent.
        user: UserId,
        /// The agent's participant id.
        pid: ParticipantId,
        /// What the agent may do.
        roles: Arc<[AgentRole]>,
    },
    /// An application that speaks for nobody: it may listen to what it opened, and nothing else.
    Application {
        /// The tenant.
        account: AccountId,
        /// The application.
        app: ClientId,
    },
    /// The gateway itself: routing, timers, surveys.
    System {
        /// The tenant.
        account: AccountId,
        /// As whom it appears.
        bot: Person,
    },
}

/// What an agent may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentRole {
    /// Reads the account's conversations, joins them, answers in those it joined.
    Agent,
    /// As an agent, and changes conversations it has not joined.
    Manager,
    /// As a manager, and administers the account.
    Admin,
}

impl Actor {
    /// The tenant.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        match self {
            Self::Consumer { account, .. }
            | Self::Agent { account, .. }
            | Self::Application { account, .. }
            | Self::System { account, .. } => account,
        }
    }

    /// The actor as it is named in the journal; an application that speaks for nobody is not.
    #[must_use]
    pub fn person(&self) -> Option<Person> {
        match self {
            Self::Consumer { id, .. } => Some(Person::Consumer(id.clone())),
            Self::Agent { user, pid, .. } => Some(Person::Agent { user: user.clone(), pid: pid.clone() }),
            Self::Application { .. } => None,
            Self::System { bot, .. } => Some(bot.clone()),
        }
    }

    /// Whether an agent may change conversations that it has not joined.
    #[must_use]
    pub fn is_manager(&self) -> bool {
        match self {
            Self::Agent { roles, .. } => roles.iter().any(|role| *role != AgentRole::Agent),
            Self::System { .. } => true,
            Self::Consumer { .. } | Self::Application { .. } => false,
        }
    }

    /// This actor's powers in an agent's name, as a program has them that acts for the account: for anybody, if it is a manager,
    /// else only for itself.
    #[must_use]
    pub fn in_the_name_of(&self, agent: &Person) -> Option<Self> {
        let Person::Agent { user, pid } = agent else { return None };
        let roles: Arc<[AgentRole]> = match self {
            Self::Agent { user: own, roles, .. } if own == user || self.is_manager() => roles.clone(),
            Self::System { .. } => Arc::new([AgentRole::Manager]),
            _ => return None,
        };
        Some(Self::Agent { account: self.account().clone(), user: user.clone(), pid: pid.clone(), roles })
    }

    /// A name that is unique within the account, for retry keys.
    #[must_use]
    pub fn sender(&self) -> String {
        match self {
            Self::Consumer { id, .. } => format!("consumer:{id}"),
            Self::Agent { user, .. } => format!("agent:{user}"),
            Self::Application { app, .. } => format!("app:{app}"),
            Self::System { .. } => "system".to_owned(),
        }
    }
}

/// Somebody who takes part in a conversation, with every id that a dialect may show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Person {
    /// A consumer.
    Consumer(ConsumerId),
    /// An agent.
    Agent {
        /// The number within the account.
        user: UserId,
        /// The participant id.
        pid: ParticipantId,
    },
}

impl Person {
    /// The id that everybody sees: a consumer's own, an agent's participant id.
    #[must_use]
    pub fn public_id(&self) -> &str {
        match self {
            Self::Consumer(id) => id.as_str(),
            Self::Agent { pid, .. } => pid.as_str(),
        }
    }

    /// The agent's number, if this is an agent.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Agent { user, .. } => Some(user),
            Self::Consumer(_) => None,
        }
    }

    /// Whether this is an agent.
    #[must_use]
    pub fn is_agent(&self) -> bool {
        matches!(self, Self::Agent { .. })
    }
}

/// Whether an agent takes conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// It does.
    Online,
    /// It is busy; no offers.
    Occupied,
    /// It will be back soon; no offers.
    BackSoon,
    /// It is away; no offers.
    Away,
    /// It is not there; no offers.
    Offline,
}

impl Availability {
    const ALL: [Self; 5] = [Self::Online, Self::Occupied, Self::BackSoon, Self::Away, Self::Offline];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "ONLINE",
            Self::Occupied => "OCCUPIED",
            Self::BackSoon => "BACK_SOON",
            Self::Away => "AWAY",
            Self::Offline => "OFFLINE",
        }
    }

    /// Reads a name from the wire.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|availability| availability.as_str() == name)
    }
}

/// What somebody is in a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// The consumer.
    Consumer,
    /// The one agent who answers.
    AssignedAgent,
    /// A further agent.
    Agent,
    /// A manager who joined.
    Manager,
    /// Somebody who only reads.
    Reader,
    /// A bot of the brand.
    BrandBot,
    /// A bot that steers.
    Controller,
}

impl Role {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "CONSUMER",
            Self::AssignedAgent => "ASSIGNED_AGENT",
            Self::Agent => "AGENT",
            Self::Manager => "MANAGER",
            Self::Reader => "READER",
            Self::BrandBot => "BRAND_BOT",
            Self::Controller => "CONTROLLER",
        }
    }

    /// Reads a name from the wire.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Consumer, Self::AssignedAgent, Self::Agent, Self::Manager, Self::Reader, Self::BrandBot, Self::Controller]
            .into_iter()
            .find(|role| role.as_str() == name)
    }
}
