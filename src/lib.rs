//! Tieline: a messaging connector gateway.
//!
//! Connectors publish consumers' messages into conversations, agents' consoles get each event pushed once and in
//! order, and what is acknowledged is on disk.
//!
//! # The map
//!
//! ```text
//! main -> cli -> lib -> reload -> http -> dialect -> session -> gateway -> identity -> hub, store, files -> domain -> protocol
//!                lib -> work -> gateway;  dialect -> delivery -> hub, store;  dialect, work -> search -> store
//! ```
//!
//! Imports run this way and no other; `session`, `delivery` and `work` do not know each other. [`config`], [`faults`], [`map`],
//! [`openapi`], [`outbound`], [`random`], [`things`] and [`throttle`] lie beside it for anybody to use, and themselves use no more
//! than [`domain`] and each other.
//!
//! | Module | What it is |
//! |---|---|
//! | [`tieline_protocol`] | the native wire: envelope, ids, message types, error and close codes |
//! | [`domain`] | the rules, pure: no I/O, no `async`, no clock of its own |
//! | [`store`] | the journal and what is derived from it; SQLite |
//! | [`search`] | an index of what is said, in a file of its own; highlighted fragments |
//! | [`files`] | attachments: local disk or S3-compatible, signed URLs |
//! | [`hub`] | who is connected, who wants to hear what, fan-out |
//! | [`things`] | what an account has set up beside people and queues: values and their rules |
//! | [`identity`] | tokens, keys, sessions, leases; who and what there is |
//! | [`gateway`] | the operations: every command and query there is |
//! | [`work`] | what runs by itself: the search for agents, what falls due, the removal of what is kept no longer, erasure |
//! | [`session`] | one connected peer without its socket |
//! | [`delivery`] | webhooks: what is owed to whom, attempts, signatures |
//! | [`dialect`] | a folder per vendor: their frames to our operations and back |
//! | [`http`] | the listener, its limits, the WebSocket loop, health and metrics, the admin's calls, the console's files, the documents of the calls |
//! | [`openapi`] | what the documents of the HTTP calls have in common; each stands beside its handlers |
//! | [`outbound`] | requests to where strangers say: public addresses only |
//! | [`reload`] | another configuration, taken while running |
//! | [`cli`] | the command line |
//!
//! # The life of a message
//!
//! 1. [`http`] reads a frame; the dialect's codec decodes it. It is parsed once, and only as deep as needed.
//! 2. [`session::Session::accept`] takes it without waiting, hands the operation in and keeps a pending reply; replies
//!    leave in request order. A peer with too many pending is not read.
//! 3. [`gateway`] hands the store a decision: a scope and a pure rule of [`domain`], in which ownership is checked.
//! 4. The store's writer runs every waiting decision, numbers what they write, and appends it to the journal's
//!    tail, once for all of them, with a sync to disk. A decision that refuses fails alone; a commit that fails makes its
//!    batch *unknown*. Nobody sees a change before the commit.
//! 5. The caller is answered. From here the event is durable.
//! 6. Committed entries go, in order, to the hub's announcers; their queue is bounded.
//! 7. [`hub`] tells a dialog's events, those that wait together and encoded once per kind of codec: written to the socket of a
//!    session that is at rest and has all before them, put into the bounded outbox of any other. A session sends the next
//!    number, drops a smaller one, and reads the log when one is missing.
//! 8. Projections follow in sweeps: the journal's rows, states, the (dialog, sequence) index, applications' feeds. Memory holds what
//!    they lack, so a read is always current. [`delivery`] follows an application's feed by a cursor of its own and posts it.
//!    [`search`] follows the journal into a file of its own; a search may lack what was just said.
//!
//! Typing states skip 4, 5 and 8.

pub mod cli;
pub mod config;
pub mod delivery;
pub mod dialect;
pub mod domain;
pub mod faults;
pub mod files;
pub mod gateway;
pub mod http;
pub mod hub;
pub mod identity;
pub mod map;
pub mod openapi;
pub mod outbound;
pub mod random;
pub mod reload;
pub mod search;
pub mod session;
pub mod store;
pub mod things;
pub mod throttle;
pub mod work;

use crate::config::{Config, LiveLimits, LiveRetention};
use crate::delivery::{Deliveries, Worker};
use crate::dialect::dixa::Dixa;
use crate::dialect::hubster::Hubster;
use crate::dialect::liveperson::{Native, Webhooks};
use crate::dialect::oncehub::{Begin, OnceHub};
use crate::dialect::ultracart::UltraCart;
use crate::faults::Faults;
use crate::files::{Files, FilesError};
use crate::gateway::{Gateway, Notes, Parts};
use crate::http::{AdminKey, Certificate, Front, Listener, Pages, Routes};
use crate::hub::Hub;
use crate::identity::{Identity, Issuer};
use crate::openapi::Document;
use crate::reload::{Reach, Reloader};
use crate::search::{Follower, Search, SearchError};
use crate::store::sqlite::SqliteStore;
use crate::store::{Clock, Health, Store};
use crate::throttle::Throttle;
use crate::work::{Absence, Eraser, Retention, Router as AgentRouter, Sweeper};
use arc_swap::ArcSwap;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why the gateway does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration allows what this start does not.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] store::sqlite::OpenError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] identity::KeyError),
    /// The attachments cannot be kept.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The search index cannot be kept.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// TLS cannot be served.
    #[error(transparent)]
    Tls(#[from] http::TlsError),
    /// An address cannot be listened on.
    #[error("{address}: {source}; is another process listening there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A sync to disk failed. What is on disk is no longer known, so the process must be started again.
    #[error("a write to disk was not confirmed; start again when the disk is well")]
    StoreFailed,
    /// What was set up while running cannot be read.
    #[error("the installed applications, the revoked consumers, or what accounts have set up, cannot be read from the database")]
    Unreadable,
    /// A part of the gateway ended that never ends.
    #[error("a task of the gateway ended: {0}")]
    Task(String),
}

/// The wall clock.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| jiff::Timestamp::now().as_millisecond())
}

/// The process's metrics: one recorder, however many gateways a test starts.
fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let seconds = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        let waits = [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];
        let sizes = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &seconds)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_decisions".into()), &sizes))
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full("tieline_conversation_wait_seconds".into()), &waits));
        // Buckets that are not empty cannot fail; without them histograms turn into summaries, which still serve.
        let recorder = builder.unwrap_or_else(|_| PrometheusBuilder::new()).build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        metrics_process::Collector::default().describe();
        describe_metrics();
        handle
    };
    HANDLE.get_or_init(install).clone()
}

fn describe_metrics() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    gauge!("tieline_build_info", "1, with the version that runs");
    gauge!("tieline_journal_position", "How many entries the journal has had");
    counter!("tieline_config_reloads_total", "Reloads of the configuration, applied or refused");
    gauge!("tieline_config_last_reload_successful", "Whether the last reload was applied");
    gauge!("tieline_config_last_reload_timestamp_seconds", "When the configuration was last applied, at the start or by a reload");
    counter!("tieline_retention_removed_total", "What was removed because it was kept long enough");
    counter!("tieline_erasures_total", "Conversations and messages whose words were erased because that was asked for");
    gauge!("tieline_retention_last_run_timestamp_seconds", "When it was last looked for what is kept no longer");
    gauge!("tieline_backup_last_success_timestamp_seconds", "When the data folder was last copied by `tieline backup`");
    gauge!("tieline_connections", "Open TCP connections");
    counter!("tieline_connections_refused_total", "TCP connections refused because there were too many");
    gauge!("tieline_sessions", "Peers that have said who they are");
    counter!("tieline_websockets_total", "WebSockets opened");
    counter!("tieline_websocket_closes_total", "WebSockets closed, by close code; 1006 is a peer that just left");
    counter!("tieline_slow_consumers_total", "WebSockets closed because they took no write in time");
    counter!("tieline_requests_total", "Requests on sockets and over the Connector API, by type and by result: 200 or an error code");
    counter!("tieline_http_requests_total", "HTTP requests by route and status");
    histogram!("tieline_http_request_seconds", "Time to an HTTP reply");
    histogram!("tieline_store_commit_seconds", "Time to decide and commit one batch, with its sync");
    histogram!("tieline_store_commit_decisions", "Decisions in one batch");
    histogram!("tieline_store_projection_seconds", "Time to project one chunk of the journal");
    gauge!("tieline_store_waiting", "Decisions that wait for the writer");
    gauge!("tieline_store_unprojected", "Journal entries that the projections lack");
    gauge!("tieline_search_lag", "Journal entries that the search index lacks");
    histogram!("tieline_search_seconds", "Time to a page of a search");
    gauge!("tieline_conversations_waiting", "Conversations that need an agent, offered to one or not");
    counter!("tieline_rings_total", "Offers of conversations to agents, by how they ended");
    histogram!("tieline_conversation_wait_seconds", "How long a conversation waited for its agent");
    counter!("tieline_store_refused_total", "Decisions refused because too many waited");
    counter!("tieline_store_failures_total", "Batches or projections that failed");
    counter!("tieline_deliveries_total", "Announcements to sessions: written to their sockets, or put into their outboxes");
    counter!("tieline_conversation_encodings_total", "States of conversations that were encoded for those who follow them");
    counter!("tieline_fetches_total", "Attachments that were given by URL, by result: fetched, or why not");
    histogram!("tieline_fetch_seconds", "Time to fetch one attachment");
    counter!("tieline_webhook_deliveries_total", "Attempts to post a webhook, by result: delivered, or why not");
    histogram!("tieline_webhook_seconds", "Time to a webhook's answer");
    counter!("tieline_webhook_given_up_total", "Webhooks given up, by reason; they are in the list of dead letters");
    gauge!("tieline_webhook_endpoints_failing", "Endpoints that take nothing, so that they are tried only now and then");
    gauge!("tieline_webhook_owed", "Events that endpoints are owed, counted once a minute");
    gauge!("tieline_webhook_oldest_seconds", "For how long the oldest of them is owed, counted once a minute");
    gauge!("tieline_webhook_dead_letters", "Events that were given up and are kept, counted once a minute");
}

/// Whether a gateway does its work.
#[derive(Debug)]
pub struct Pulse(Arc<SqliteStore>);

impl Pulse {
    /// Whether the store's writer answers in time, be it that it cannot write now.
    pub async fn beats(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.0.probe()).await.is_ok_and(|answer| answer.is_ok())
    }
}

/// A gateway that is bound to its addresses and not yet serving.
pub struct Server {
    config: Config,
    limits: LiveLimits,
    retention: LiveRetention,
    reloader: Option<Arc<Reloader>>,
    ready: Option<Box<dyn FnOnce() + Send>>,
    store: Arc<SqliteStore>,
    hub: Arc<Hub>,
    native: Arc<Native>,
    oncehub: Option<Arc<OnceHub>>,
    hubster: Option<Arc<Hubster>>,
    gateway: Arc<Gateway>,
    deliveries: Deliveries,
    delivering: Worker,
    search: Search,
    follower: Follower,
    plain: Option<TcpListener>,
    tls: Option<(TcpListener, Certificate)>,
    internal: Option<TcpListener>,
    metrics: PrometheusHandle,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address()).field("tls_address", &self.tls_address()).finish_non_exhaustive()
    }
}

fn file_settings(config: &Config) -> files::Settings {
    let config::FileSettings { url, largest, url_time, types, fetch_timeout, fetch_connect_timeout, fetch_concurrency, .. } =
        config.files.clone();
    let fetch = files::FetchSettings {
        timeout: fetch_timeout.0,
        connect_timeout: fetch_connect_timeout.0,
        concurrency: fetch_concurrency,
        guard: outbound::Guard::of_files(config),
    };
    files::Settings { url, largest: largest.0, url_time: url_time.0, stall: config.limits.body_timeout.0, types, fetch }
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, ServeError> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|source| ServeError::Listen { address, source })
}

impl Server {
    /// Opens the store, the keys and the listeners.
    ///
    /// # Errors
    /// [`ServeError`], for the operator to read.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        // Named first thing, so that no library picks its own. A second gateway in a process finds them installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        config.check_endpoints()?;
        let metrics = recorder();
        let hub = Hub::new(std::thread::available_parallelism().map_or(2, usize::from));
        let notes = Arc::new(Notes::default());
        let announcer = gateway::announcer(hub.clone(), notes.clone());
        let store = Arc::new(SqliteStore::open(&config.server.data_dir, wall_clock(), announcer)?);
        let (search, follower) = Search::open(&config.server.data_dir, &*store)?;
        let issuer = Issuer::open(&config, wall_clock())?;
        let files = Arc::new(Files::open(&file_settings(&config), &config.server.data_dir, issuer.files_key())?);
        let identity = Arc::new(Identity::new(issuer, store.clone(), &config)?);
        let limits: LiveLimits = Arc::new(ArcSwap::from_pointee(config.limits.clone()));
        let retention: LiveRetention = Arc::new(ArcSwap::from_pointee(config.retention.clone()));
        let faults = Arc::new(Faults::new(config.server.dev));
        let parts = Parts {
            store: store.clone(),
            hub: hub.clone(),
            identity,
            files,
            limits: limits.clone(),
            notes,
            faults: faults.clone(),
            uploads: Throttle::per_minute(config.limits.uploads_per_minute),
            retention: retention.clone(),
        };
        let gateway = Gateway::new(parts);
        let (deliveries, delivering) = Deliveries::new(delivery::Parts {
            store: store.clone(),
            hub: hub.clone(),
            render: Arc::new(Webhooks),
            clock: wall_clock(),
            settings: config.webhooks.clone(),
            retention: retention.clone(),
            twice: Arc::new(move |account| faults.doubles_webhook(account)),
        });
        let native = Native::new(gateway.clone(), &config, limits.clone(), deliveries.clone());
        let is_on = config.server.dialects.iter().any(|dialect| dialect == "oncehub");
        let oncehub = is_on.then(|| OnceHub::new(gateway.clone(), &config, limits.clone(), &deliveries));
        let is_on = config.server.dialects.iter().any(|dialect| dialect == "hubster");
        let hubster = is_on.then(|| Hubster::new(gateway.clone(), &config, limits.clone()));
        let plain = listen(config.server.listen.0).await?;
        let tls = match listen(config.server.tls.listen.0).await? {
            Some(listener) => Some((listener, Certificate::new(Certificate::read(&config)?))),
            None => None,
        };
        let internal = listen(config.internal.listen.0).await?;
        Ok(Self {
            config,
            limits,
            retention,
            reloader: None,
            ready: None,
            store,
            hub,
            native,
            oncehub,
            hubster,
            gateway,
            deliveries,
            delivering,
            search,
            follower,
            plain,
            tls,
            internal,
            metrics,
        })
    }

    /// Where HTTP and WebSocket are served.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.plain.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where HTTPS and WSS are served.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which applications have webhooks, for whoever changes that while the gateway runs.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        self.deliveries.clone()
    }

    /// The search over what was said.
    #[must_use]
    pub fn search(&self) -> Search {
        self.search.clone()
    }

    /// The operations, for whoever asks for some in this process.
    #[must_use]
    pub fn gateway(&self) -> Arc<Gateway> {
        self.gateway.clone()
    }

    /// Whether the gateway does its work, for whoever watches it from outside.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.store.clone())
    }

    /// Lets a reloader change what can change while the gateway runs.
    #[must_use]
    pub fn with_reloader(mut self, reloader: Arc<Reloader>) -> Self {
        self.reloader = Some(reloader);
        self
    }

    /// Has somebody told when connections are accepted.
    #[must_use]
    pub fn when_ready(mut self, ready: impl FnOnce() + Send + 'static) -> Self {
        self.ready = Some(Box::new(ready));
        self
    }

    /// The log's name.
    #[must_use]
    pub fn epoch(&self) -> &str {
        self.store.epoch()
    }

    fn serves(&self, name: &str) -> bool {
        self.config.server.dialects.iter().any(|dialect| dialect == name)
    }

    fn serves_native(&self) -> bool {
        self.serves("liveperson")
    }

    /// What is documented on the listener that strangers reach, and what on that of operators. Where there is but one, the first
    /// has all.
    fn documents(&self) -> (Vec<Document>, Vec<Document>) {
        let webhooks = Document { name: "webhooks", api: Pages::webhooks_openapi() };
        let operators = vec![Document { name: "admin", api: Pages::openapi() }, webhooks.clone()];
        let mut strangers = dialect::documents(|name| self.serves(name));
        strangers.push(Document { name: "files", api: files::http::openapi() });
        match self.internal {
            None => strangers.extend(operators.iter().cloned()),
            Some(_) => strangers.push(webhooks),
        }
        (strangers, operators)
    }

    fn routes(&self, listener: &Listener, pages: &Pages) -> Front {
        let mut routes = Routes::from(http::console());
        if self.serves_native() {
            routes = routes
                .merge(self.native.routes())
                .call(self.native.send_call())
                .socket(listener, self.native.consumer_socket())
                .socket(listener, self.native.connector_socket());
            for socket in self.native.agent_sockets() {
                routes = routes.socket(listener, socket);
            }
        } else {
            routes = routes.merge(Native::switched_off());
        }
        routes = routes.merge(match self.serves("dixa") {
            true => Dixa::new(self.gateway.clone(), self.search.clone(), &self.config, self.limits.clone()).routes(),
            false => Dixa::switched_off(),
        });
        routes = routes.merge(match self.serves("ultracart") {
            true => UltraCart::new(self.gateway.clone(), &self.config, self.limits.clone()).routes(),
            false => UltraCart::switched_off(),
        });
        routes = routes.merge(self.oncehub.as_ref().map_or_else(OnceHub::switched_off, OnceHub::routes));
        routes = match &self.hubster {
            Some(hubster) => routes.merge(hubster.routes()).socket(listener, hubster.events_socket()),
            None => routes.merge(Hubster::switched_off()),
        };
        routes = routes.merge(files::http::routes(self.gateway.files().clone(), wall_clock()));
        routes = match self.internal {
            None => routes.merge(pages.clone().routes()),
            Some(_) => routes.merge(pages.for_applications()),
        };
        listener.finish(routes.merge(http::docs(&self.documents().0)))
    }

    /// Serves until `stop` is cancelled, then drains: not ready, no new connections, what was asked is answered,
    /// sockets are told to come back, webhooks stop between two attempts, the store is closed.
    ///
    /// # Errors
    /// [`ServeError::StoreFailed`] if a sync to disk failed; [`ServeError::Task`] if a task panicked.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServeError> {
        let listener = Arc::new(Listener::new(&self.config, self.limits.clone(), self.gateway.clone(), stop.clone()));
        let admin_key = AdminKey::new(self.config.admin_key().map(Arc::new).into());
        if let Some(reloader) = &self.reloader {
            reloader.serve(Reach {
                gateway: self.gateway.clone(),
                native: self.serves_native().then(|| self.native.clone()),
                oncehub: self.oncehub.clone(),
                listener: listener.clone(),
                certificate: self.tls.as_ref().map(|(_, certificate)| certificate.clone()),
                limits: self.limits.clone(),
                retention: self.retention.clone(),
                admin_key: admin_key.clone(),
            });
        }
        let mut pages = Pages::new(self.gateway.clone(), self.deliveries.clone(), self.metrics.clone(), stop.clone(), admin_key);
        if let Some(reloader) = self.reloader.clone() {
            pages = pages.with_reload(Arc::new(move || {
                let reloader = reloader.clone();
                Box::pin(async move { reloader.reload().await.map_err(|error| error.to_string()) })
            }));
        }
        let routes = self.routes(&listener, &pages);
        let internal_routes = listener.finish(pages.routes().merge(http::docs(&self.documents().1)));
        let mut tasks: JoinSet<()> = JoinSet::new();
        for shard in 0..self.hub.announcers() {
            tasks.spawn(self.hub.clone().serve(shard));
        }
        let absence = Absence { unasked: self.config.routing.absence.0, released: self.config.routing.release.0 };
        tasks.spawn(AgentRouter::new(self.gateway.clone(), absence).run());
        let folder = self.config.server.data_dir.clone();
        let hold = move || match store::sqlite::backup::hold(&folder, false) {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "nothing is removed now");
                None
            }
        };
        let hold: work::Hold = Arc::new(hold);
        tasks.spawn(Retention::new(self.gateway.clone(), self.retention.clone(), hold.clone()).run());
        tasks.spawn(Sweeper::new(self.gateway.clone(), self.retention.clone(), hold.clone()).run());
        tasks.spawn(Eraser::new(self.gateway.clone(), hold).run());
        let tidied = (self.native.clone(), self.hubster.clone(), self.gateway.clone());
        tasks.spawn(housekeeping(tidied, self.metrics.clone(), self.config.server.data_dir.clone()));
        let serves_native = self.serves_native();
        // On a set of its own, because it ends by itself, and a token of its own, because it ends after the peers have.
        let mut delivering: JoinSet<()> = JoinSet::new();
        let delivered = CancellationToken::new();
        delivering.spawn(self.delivering.run(delivered.clone()));
        tasks.spawn(self.follower.run(self.store.clone()));
        // Before anybody can be answered: what is acked from here on is delivered.
        self.gateway.identity().restore().await.map_err(|_| ServeError::Unreadable)?;
        for reason in self.gateway.identity().take_things(&self.config).await.map_err(|_| ServeError::Unreadable)? {
            tracing::warn!(reason, "an entry of the configuration is left out");
        }
        if let Some(oncehub) = &self.oncehub {
            let begin = if serves_native { Begin::WithOthers } else { Begin::Now };
            oncehub.restore(begin).await.map_err(|_| ServeError::Unreadable)?;
        }
        if serves_native {
            self.native.restore().await.map_err(|_| ServeError::Unreadable)?;
        }
        let mut accepting: JoinSet<()> = JoinSet::new();
        let plain = self.plain.map(|socket| (socket, routes.clone(), None));
        let tls = self.tls.map(|(socket, acceptor)| (socket, routes, Some(acceptor)));
        let internal = self.internal.map(|socket| (socket, internal_routes, None));
        for (socket, routes, acceptor) in [plain, tls, internal].into_iter().flatten() {
            let listener = listener.clone();
            accepting.spawn(async move { listener.serve(socket, routes, acceptor).await });
        }
        metrics::gauge!("tieline_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        metrics::gauge!("tieline_config_last_reload_successful").set(1.0);
        reload::note_applied();
        tracing::info!("serving");
        if let Some(ready) = self.ready {
            ready();
        }
        let mut health = self.store.health();
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            failed = health.wait_for(|health| *health == Health::Failed) => {
                drop(failed);
                Err(ServeError::StoreFailed)
            }
            ended = tasks.join_next() => Err(ServeError::Task(format!("{ended:?}"))),
            ended = delivering.join_next() => Err(ServeError::Task(format!("{ended:?}"))),
        };
        stop.cancel();
        while accepting.join_next().await.is_some() {}
        let drain = self.config.server.drain.0;
        if !listener.drained(drain).await {
            tracing::warn!(?drain, "connections were still open when the drain was over");
        }
        delivered.cancel();
        while delivering.join_next().await.is_some() {}
        tasks.shutdown().await;
        self.search.close().await;
        self.store.close().await;
        tracing::info!("stopped");
        outcome
    }
}

/// Shows when the data folder was last copied, which another process did.
fn last_backup(data_dir: &Path) {
    let Ok(text) = std::fs::read_to_string(data_dir.join(store::sqlite::backup::LAST)) else { return };
    let at = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|made| made["at"].as_str()?.parse::<jiff::Timestamp>().ok());
    if let Some(at) = at {
        metrics::gauge!("tieline_backup_last_success_timestamp_seconds").set(at.as_second() as f64);
    }
}

/// What must be done now and then.
async fn housekeeping(tidied: (Arc<Native>, Option<Arc<Hubster>>, Arc<Gateway>), metrics: PrometheusHandle, data_dir: PathBuf) {
    let (native, hubster, gateway) = tidied;
    let collector = metrics_process::Collector::default();
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    let mut ticks = 0_u64;
    loop {
        tick.tick().await;
        // Histograms gather until they are drained, scraped or not.
        metrics.run_upkeep();
        collector.collect();
        metrics::gauge!("tieline_journal_position").set(gateway.store().head() as f64);
        if ticks.is_multiple_of(12) {
            last_backup(&data_dir);
        }
        ticks += 1;
        if ticks.is_multiple_of(12) {
            native.tidy();
            if let Some(hubster) = &hubster {
                hubster.tidy();
            }
            gateway.tidy();
        }
    }
}
