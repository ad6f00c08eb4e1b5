//! Webhooks: what happens in an application's conversations, posted to the application's endpoints, or kept for it to fetch.
//!
//! The journal entry is the debt. One [`Worker`] follows the journal with one durable cursor, finds which endpoints are
//! owed an entry, and writes that in the transaction that moves the cursor; so an entry is owed once, whatever dies in
//! between. Each endpoint that is posted to has a [`runner`] of its own: in each conversation one event at a time, in
//! order, several conversations at a time, and everything again until it is taken or given up ([`retry`]). What was
//! given up stands in a list of dead letters and can be owed again. Bodies are made from the journal when they are sent.
//!
//! **Delivery is at least once and in order per conversation and endpoint.** A repeat has the same `webhook-id`. A
//! conversation that is stuck delays itself, an endpoint that is stuck delays itself, and nobody else.
//!
//! Typing states are in no journal: each is posted once, beside the order, and dropped where an endpoint is in trouble.
//!
//! What a body looks like is the dialect's business ([`Render`]). [`post`] signs and sends it.

mod handle;
mod post;
mod retry;
mod runner;
mod worker;

pub use handle::{Deliveries, DeliveryError, Pulled, PulledEvent, Replay, Tested, View};
pub use worker::Worker;

use self::post::Poster;
use self::retry::Waits;
use crate::config::{self, ANY_EVENT, Config, Endpoint, WebhookSecret, WebhookSettings, WebhookSignature};
use crate::domain::{Conversation, Millis, Sight};
use crate::hub::{Hub, Typing};
use crate::store::{Clock, EndpointId, ReadError, Store};
use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId};
use tieline_protocol::webhook::{EVENTS, TYPING};

/// The type of an event, by which its endpoint is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKey(pub &'static str);

/// What is posted: its type and the body, byte for byte.
pub type Rendered = (EventKey, Vec<u8>);

/// What a dialect makes of an entry when it is to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// This.
    This(Rendered),
    /// By what has happened since, or before, it is not told.
    Untold,
    /// It cannot be told any more: what it is about is gone.
    Lost,
}

/// Whose way of signing webhooks, of naming who sends them and of taking answers is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Manner {
    /// LivePerson's, with the signatures of Standard Webhooks beside its own. Taken is what is answered as the application's retries
    /// have it; 410 ends an endpoint, and what is given up is one event.
    LivePerson,
    /// OnceHub's. Taken is what is answered 2xx; an event that is given up ends the endpoint.
    OnceHub,
}

/// What a dialect makes of what happened. Nothing, if webhooks do not tell it.
pub trait Render: Send + Sync + std::fmt::Debug {
    /// In whose manner it is posted.
    fn manner(&self) -> Manner {
        Manner::LivePerson
    }

    /// The type of what [`Render::entry`] makes of an entry.
    fn key(&self, sight: &Sight) -> Option<EventKey>;

    /// An entry of the journal; one that is about a conversation comes with the conversation as it is now. `id` is the same in
    /// each attempt, and another for each entry. It fails if the store cannot be read now.
    fn entry<'r>(
        &'r self,
        now: Millis,
        id: &'r str,
        sight: &'r Sight,
        conversation: Option<&'r Conversation>,
    ) -> BoxFuture<'r, Result<Made, ReadError>>;

    /// A typing state.
    fn typing(&self, typing: &Typing) -> Option<Rendered>;

    /// What is posted to see whether an endpoint takes anything: it tells nothing.
    fn test(&self, now: Millis) -> Vec<u8>;
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// They are posted to this address.
    Post(Endpoint),
    /// They wait until they are fetched.
    Pull,
}

impl Target {
    /// The name under which an endpoint is known: its whole URL, or `pull`.
    fn name(&self) -> String {
        match self {
            Self::Post(endpoint) => endpoint.0.to_string(),
            Self::Pull => "pull".into(),
        }
    }
}

/// Where the events of one type go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The type.
    pub event: String,
    /// Where to.
    pub target: Target,
    /// Whether it gets events of every conversation of the account, not only of those opened through the application.
    pub all: bool,
    /// How often it is tried again; none: as the application says.
    pub max_retries: Option<u32>,
    /// Sent along.
    pub headers: HeaderMap,
}

impl Hook {
    /// What lines of webhooks mean: those that are switched off are left out, and [`ANY_EVENT`] stands for every type
    /// that has no line of its own, switched off or not. What is fetched holds no typing states.
    #[must_use]
    pub fn configured(lines: &[config::Webhook]) -> Vec<Self> {
        let is_written = |event: &str| lines.iter().any(|line| line.event == event);
        let mut all = Vec::new();
        for line in lines.iter().filter(|line| line.enabled) {
            let target = line.endpoint.clone().map_or(Target::Pull, Target::Post);
            let is_left_out = |event: &str| is_written(event) || (line.pull && event == TYPING);
            let any = EVENTS.into_iter().filter(|event| !is_left_out(event));
            let events: Vec<&str> = if line.event == ANY_EVENT { any.collect() } else { vec![&line.event] };
            let mut headers = HeaderMap::new();
            for header in &line.headers {
                headers.append(header.name.clone(), header.value.clone());
            }
            for event in events {
                let (event, target, headers) = (event.to_owned(), target.clone(), headers.clone());
                all.push(Self { event, target, all: line.all, max_retries: line.max_retries, headers });
            }
        }
        all
    }
}

/// The webhooks of one application.
#[derive(Debug, Clone)]
pub struct AppWebhooks {
    /// The tenant.
    pub account: AccountId,
    /// The application.
    pub client_id: ClientId,
    /// What its webhooks are signed with.
    pub secret: SecretString,
    /// How they are signed for the vendor's clients.
    pub signature: WebhookSignature,
    /// The keys of the standard signatures; none: the secret's bytes.
    pub keys: Vec<WebhookSecret>,
    /// The vendor's retry by time: how old an event may become that is tried again.
    pub retention: Option<Duration>,
    /// Whether its endpoints were chosen by a tenant: only public addresses.
    pub is_guarded: bool,
    /// Where they go.
    pub hooks: Vec<Hook>,
    /// Makes their bodies; none: as the deliveries' own.
    pub render: Option<Arc<dyn Render>>,
}

impl AppWebhooks {
    /// The webhooks of every application that a configuration gives some.
    #[must_use]
    pub fn configured(config: &Config) -> Vec<Self> {
        let apps = config.accounts.iter().flat_map(|account| account.apps.iter().map(move |app| (account, app)));
        apps.filter(|(_, app)| app.has_webhooks() && !app.webhooks.is_empty())
            .map(|(account, app)| Self {
                account: AccountId::from(account.id.as_str()),
                client_id: ClientId::from(app.client_id.as_str()),
                secret: app.client_secret.clone(),
                signature: app.webhook_signature,
                keys: app.webhook_secrets.clone(),
                retention: app.webhook_retention.map(|retention| retention.0),
                is_guarded: false,
                hooks: Hook::configured(&app.webhooks),
                render: None,
            })
            .collect()
    }

    fn key(&self) -> (AccountId, ClientId) {
        (self.account.clone(), self.client_id.clone())
    }
}

/// What deliveries are made with.
pub struct Parts {
    /// The log.
    pub store: Arc<dyn Store>,
    /// Says when there is something to read.
    pub hub: Arc<Hub>,
    /// Makes the bodies, where an application's webhooks say nothing else.
    pub render: Arc<dyn Render>,
    /// The wall clock.
    pub clock: Clock,
    /// Times and bounds.
    pub settings: WebhookSettings,
    /// How long dead letters and attempts are kept.
    pub retention: config::LiveRetention,
    /// Whether the next webhook of an account is to be sent twice: what receivers must be able to bear, on demand.
    pub twice: Twice,
}

/// Asked once for each webhook that was delivered.
pub type Twice = Arc<dyn Fn(&AccountId) -> bool + Send + Sync>;

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("store", &self.store).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What everybody here shares.
struct Shared {
    parts: Parts,
    poster: Poster,
    waits: Waits,
}

impl Shared {
    fn new(parts: Parts) -> Self {
        let settings = &parts.settings;
        let schedule = settings.schedule.iter().map(|span| span.0).collect();
        let waits = Waits { schedule, first: settings.retry_wait.0, counted: settings.number_wait.0 };
        let poster = Poster::new(settings);
        Self { parts, poster, waits }
    }

    fn now(&self) -> Millis {
        (self.parts.clock)()
    }

    /// What makes the bodies of an application's webhooks.
    fn render<'a>(&'a self, app: &'a AppWebhooks) -> &'a dyn Render {
        app.render.as_deref().unwrap_or(&*self.parts.render)
    }

    /// What is posted of an entry, with the conversation as it is now where the entry is about that.
    async fn made(&self, app: &AppWebhooks, sight: &Sight) -> Result<Made, ReadError> {
        let render = self.render(app);
        // Natively an event says all that is told of it.
        let conversation = match (sight.message(), sight.entry.conversation()) {
            (Some(_), Some(_)) if render.manner() == Manner::LivePerson => None,
            (_, Some(id)) => self.parts.store.conversation(id.clone()).await?,
            _ => None,
        };
        render.entry(self.now(), &self.message_id(sight.position), sight, conversation.as_ref()).await
    }

    /// The id that every attempt at an entry carries, in each log its own.
    fn message_id(&self, position: u64) -> String {
        format!("{}:{position}", self.parts.store.epoch())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.fmt(f)
    }
}

/// Of which conversations something is told.
#[derive(Debug)]
enum Of {
    /// Of every one of the account.
    All,
    /// Of those that were opened through an application.
    Its(ClientId),
}

/// How one endpoint is delivered to now.
#[derive(Debug)]
struct Settings {
    id: EndpointId,
    app: AppWebhooks,
    target: Target,
}

impl Settings {
    /// Where events of a type go here, if they do.
    fn hook(&self, EventKey(event): EventKey) -> Option<&Hook> {
        self.app.hooks.iter().find(|hook| hook.event == event && hook.target == self.target)
    }

    /// Where events of a type go here that happen in a conversation of an application, or of none.
    fn wants(&self, event: EventKey, app: Option<&ClientId>) -> Option<&Hook> {
        self.hook(event).filter(|hook| hook.all || app == Some(&self.app.client_id))
    }

    /// Of which conversations a hook tells.
    fn of(&self, hook: &Hook) -> Of {
        if hook.all { Of::All } else { Of::Its(self.app.client_id.clone()) }
    }

    fn is_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.app, &other.app);
        self.target == other.target
            && a.secret.expose_secret() == b.secret.expose_secret()
            && a.keys == b.keys
            && (a.signature, a.retention, a.is_guarded) == (b.signature, b.retention, b.is_guarded)
            && a.hooks == b.hooks
    }
}

/// How an endpoint fares, for who looks at it.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// When something was last taken.
    pub taken: Option<Millis>,
    /// When an attempt last failed, and how.
    pub failed: Option<(Millis, String)>,
    /// Whether only one event at a time is tried, now and then, because the endpoint takes nothing.
    pub is_open: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
