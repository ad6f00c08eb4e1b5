//! Webhooks: what happens in an application's conversations, posted to the application's own endpoints.
//!
//! What is owed is nowhere written down a second time: it is the application's feed behind a durable cursor. Each
//! application has a lane ([`lane`]) that posts the entries of its feed strictly in journal order, each to the endpoint
//! of its type. A delivery that fails is tried again, with growing waits, until it succeeds or is too old; everything
//! behind it waits in the log and costs nothing. The cursor is kept at most every second and when a lane ends, never
//! for each event: **delivery is at least once**, and a receiver drops repeats by `dialogId` and `sequence`.
//!
//! Typing states are in no log: each is posted once, beside the lane, and dropped while the lane waits.
//!
//! What a body looks like is the dialect's business ([`Render`]). [`post`] signs and sends it.

pub mod address;
mod cursor;
mod lane;
mod post;

use self::lane::Lane;
use self::post::Poster;
use crate::config::{self, Config, Endpoint, WebhookSignature};
use crate::domain::{Conversation, Millis, Sight};
use crate::hub::{Hub, Typing};
use crate::store::{Clock, Store};
use futures::future::join_all;
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The type of an event, by which its endpoint is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKey(pub &'static str);

/// What is posted: its type and the body, byte for byte.
pub type Rendered = (EventKey, Vec<u8>);

/// What a dialect makes of what happened. Nothing, if webhooks do not tell it.
pub trait Render: Send + Sync + std::fmt::Debug {
    /// An entry of the feed; one that is about a conversation comes with the conversation as it is now.
    fn entry(&self, now: Millis, sight: &Sight, conversation: Option<&Conversation>) -> Option<Rendered>;

    /// A typing state.
    fn typing(&self, typing: &Typing) -> Option<Rendered>;
}

/// Where the events of one type go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The type.
    pub event: String,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// With 0, events of this type are tried once and not waited for.
    pub max_retries: Option<u32>,
    /// Sent along.
    pub headers: HeaderMap,
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
    /// How they are signed.
    pub signature: WebhookSignature,
    /// How old an event may become that is tried again.
    pub retention: Duration,
    /// Whether its endpoints were chosen by a tenant: only public addresses.
    pub is_guarded: bool,
    /// Where they go, each type of event at most once.
    pub hooks: Vec<Hook>,
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
                retention: app.webhook_retention.0,
                is_guarded: false,
                hooks: app.webhooks.iter().map(Hook::configured).collect(),
            })
            .collect()
    }

    fn key(&self) -> Key {
        (self.account.clone(), self.client_id.clone())
    }

    fn hook(&self, EventKey(event): EventKey) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.event == event)
    }

    fn is_as(&self, other: &Self) -> bool {
        self.secret.expose_secret() == other.secret.expose_secret()
            && (self.signature, self.retention, self.is_guarded) == (other.signature, other.retention, other.is_guarded)
            && self.hooks == other.hooks
    }
}

impl Hook {
    fn configured(hook: &config::Webhook) -> Self {
        let mut headers = HeaderMap::new();
        for header in &hook.headers {
            headers.append(header.name.clone(), header.value.clone());
        }
        Self { event: hook.event.clone(), endpoint: hook.endpoint.clone(), max_retries: hook.max_retries, headers }
    }
}

/// Whether the next webhook of an account is to be sent twice: what receivers must be able to bear, on demand.
pub type Twice = Arc<dyn Fn(&AccountId) -> bool + Send + Sync>;

/// What deliveries are made with.
pub struct Parts {
    /// The log.
    pub store: Arc<dyn Store>,
    /// Says when there is something to read.
    pub hub: Arc<Hub>,
    /// Makes the bodies.
    pub render: Arc<dyn Render>,
    /// The wall clock.
    pub clock: Clock,
    /// The first wait after a failure.
    pub first_wait: Duration,
    /// Asked once for each webhook that was delivered.
    pub twice: Twice,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("store", &self.store).field("first_wait", &self.first_wait).finish_non_exhaustive()
    }
}

/// What all lanes share.
struct Shared {
    parts: Parts,
    poster: Poster,
}

type Key = (AccountId, ClientId);

/// Which applications have webhooks.
#[derive(Debug, Clone)]
pub struct Deliveries {
    wanted: mpsc::Sender<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    apps: Vec<AppWebhooks>,
    begun: oneshot::Sender<()>,
}

/// Sets that may wait to be applied; who applies one waits for it anyway.
const WANTED: usize = 8;

impl Deliveries {
    /// The handle, and the worker that must be run for anything to be delivered.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Worker) {
        let (tell, wanted) = mpsc::channel(WANTED);
        let shared = Arc::new(Shared { parts, poster: Poster::default() });
        let worker = Worker { shared, wanted, lanes: HashMap::new(), leaving: HashMap::new(), tasks: JoinSet::new() };
        (Self { wanted: tell }, worker)
    }

    /// Replaces the whole set. An application that is new begins at the head of the log, or where it was when it had
    /// webhooks before; one that is gone stops; another setting of one that stays holds from the next attempt on. What
    /// happens after this returns is delivered to the new ones.
    pub async fn apply(&self, apps: Vec<AppWebhooks>) {
        let (begun, all_begun) = oneshot::channel();
        // A worker that has stopped delivers nothing more; the log keeps what is owed.
        if self.wanted.send(Wanted { apps, begun }).await.is_ok() {
            let _ = all_begun.await;
        }
    }
}

/// Runs the lanes.
pub struct Worker {
    shared: Arc<Shared>,
    wanted: mpsc::Receiver<Wanted>,
    lanes: HashMap<Key, Running>,
    /// Lanes that were told to stop and may still be at it: a new lane of the application waits for the old one's end.
    leaving: HashMap<Key, CancellationToken>,
    tasks: JoinSet<()>,
}

struct Running {
    settings: watch::Sender<Arc<AppWebhooks>>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Delivers until `stop` is cancelled; then each lane ends its attempt and keeps its cursor.
    ///
    /// # Panics
    /// If a lane panicked.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(wanted) = self.wanted.recv() => self.apply(wanted, &stop),
                Some(ended) = self.tasks.join_next() => surface(ended),
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            surface(ended);
        }
    }

    fn apply(&mut self, Wanted { apps, begun }: Wanted, stop: &CancellationToken) {
        let wanted: HashMap<Key, AppWebhooks> = apps.into_iter().map(|app| (app.key(), app)).collect();
        for (key, lane) in self.lanes.extract_if(|key, _| !wanted.contains_key(key)) {
            lane.stop.cancel();
            self.leaving.insert(key, lane.ended);
        }
        let mut beginning = Vec::new();
        for (key, app) in wanted {
            match self.lanes.get(&key) {
                Some(lane) => {
                    lane.settings.send_if_modified(|known| {
                        let is_new = !known.is_as(&app);
                        if is_new {
                            *known = Arc::new(app);
                        }
                        is_new
                    });
                }
                None => beginning.push(self.start(key, app, stop)),
            }
        }
        self.leaving.retain(|_, ended| !ended.is_cancelled());
        self.tasks.spawn(async move {
            join_all(beginning).await;
            let _ = begun.send(());
        });
    }

    /// Starts a lane; what is returned comes when it knows where it begins.
    fn start(&mut self, key: Key, app: AppWebhooks, stop: &CancellationToken) -> oneshot::Receiver<()> {
        let before = self.leaving.remove(&key);
        let (tell, begun) = oneshot::channel();
        let (settings, heard) = watch::channel(Arc::new(app));
        let running = Running { settings, stop: stop.child_token(), ended: CancellationToken::new() };
        let head = self.shared.parts.store.head();
        let lane = Lane::new(self.shared.clone(), &key, heard, running.stop.clone());
        let ended = running.ended.clone().drop_guard();
        self.tasks.spawn(async move {
            let _ended = ended;
            if let Some(before) = before {
                before.cancelled().await;
            }
            lane.run(head, tell).await;
        });
        self.lanes.insert(key, running);
        begun
    }
}

/// A lane that panicked stops the gateway, loudly.
fn surface(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
#[cfg(test)]
mod tests;
