//! The listener: TCP and TLS, HTTP with every limit that must hold before anybody is known, the WebSocket upgrade.

mod admin;
mod connection;
mod console;
mod docs;
mod drain;
mod facts;
mod front;
mod operate;
mod pages;
mod things;
mod tls;
mod trace;
mod upgrade;
mod webhooks;
mod wire;
mod ws;

pub use admin::{AdminKey, Reload};
pub use console::routes as console;
pub use docs::routes as docs;
pub use front::{Front, Routes};
pub use pages::Pages;
pub use tls::{Certificate, TlsError};

use self::connection::{Place, Places};
use self::upgrade::{First, Plug};
use self::wire::{Rewound, Stream};
use self::ws::Surroundings;
use crate::config::{Config, Limits, LiveLimits};
use crate::dialect::{Https, Socket};
use crate::faults::Tenant;
use crate::gateway::Gateway;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::future::BoxFuture;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tieline_protocol::ids::AccountId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// Largest request head; more is refused with 431 before it is parsed.
const HEAD: usize = 16 * 1024;

/// What a request's handler may know of its connection.
#[derive(Debug, Clone)]
struct Carrier {
    /// Kept by the socket's task, which outlives the HTTP connection.
    place: Arc<Place>,
    /// Ends the connection without another word.
    cut: CancellationToken,
}

/// Everything that listens.
#[derive(Debug)]
pub struct Listener {
    around: Surroundings,
    limits: LiveLimits,
    origins: Arc<[String]>,
    places: Arc<Places>,
    tasks: TaskTracker,
}

impl Listener {
    /// A listener that serves a gateway, and drains when `stop` is cancelled.
    #[must_use]
    pub fn new(config: &Config, limits: LiveLimits, gateway: Arc<Gateway>, stop: CancellationToken) -> Self {
        let now = limits.load_full();
        let spread = config.server.drain.0.mul_f64(0.2).min(Duration::from_secs(2));
        Self {
            places: Places::new(now.connections, now.connections_per_address),
            around: Surroundings { gateway, limits: now, stop, spread },
            limits,
            origins: config.server.allowed_origins.clone().into(),
            tasks: TaskTracker::new(),
        }
    }

    /// Holds connections to come to the limits as they are now.
    pub fn limits_changed(&self) {
        let now = self.limits.load();
        self.places.set(now.connections, now.connections_per_address);
    }

    /// A dialect's socket, with what it is served with.
    fn plug<S: Socket>(&self, socket: S) -> Arc<Plug<S>> {
        Arc::new(Plug {
            socket,
            around: self.around.clone(),
            limits: self.limits.clone(),
            origins: self.origins.clone(),
            tasks: self.tasks.clone(),
        })
    }

    /// Lays around all routes what holds for each of them.
    pub fn finish(&self, routes: impl Into<Routes>) -> Front {
        let Routes { router, plugs, calls } = routes.into();
        let router = router
            .fallback(|| async { say(StatusCode::NOT_FOUND, "there is nothing at this path; the protocol page lists what there is") })
            .layer(axum::middleware::map_response(in_json))
            .layer(axum::middleware::from_fn_with_state(self.around.gateway.clone(), disturb))
            .layer(axum::middleware::from_fn(drain::unread))
            .layer(axum::middleware::from_fn(record))
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(|_| internal()));
        Front::new(self.around.gateway.clone(), router, plugs, calls)
    }

    /// Accepts connections until the gateway drains.
    ///
    /// # Errors
    /// Never: what goes wrong with one connection ends that connection.
    pub async fn serve(&self, listener: TcpListener, front: Front, tls: Option<Certificate>) {
        loop {
            let accepted = tokio::select! {
                () = self.around.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer, front.clone(), tls.as_ref().map(Certificate::acceptor)),
                Err(error) => {
                    // Out of descriptors: waiting lets some close, spinning would not.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, front: Front, acceptor: Option<TlsAcceptor>) {
        let Some(place) = self.places.take(peer.ip()) else {
            tracing::debug!(%peer, "too many connections");
            // Said without waiting for a request, to whom it can be said; TLS would cost a handshake first.
            if acceptor.is_none() && self.tasks.len() < self.places.most() + REFUSALS {
                self.tasks.spawn(refuse(stream));
            }
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        let visit = Visit { peer, place, limits: self.limits.load_full(), stop: self.around.stop.clone() };
        match acceptor {
            None => self.tasks.spawn(visit.receive(Stream::Plain(stream), front)),
            Some(acceptor) => self.tasks.spawn(visit.shake_hands(stream, acceptor, front)),
        };
    }

    /// Waits until every connection has ended, or the time is over. Returns whether all ended.
    pub async fn drained(&self, time: Duration) -> bool {
        self.tasks.close();
        timeout(time, self.tasks.wait()).await.is_ok()
    }
}

/// What a connection too many is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Refusals said at one time; beyond it a connection is dropped without a word.
const REFUSALS: usize = 256;

async fn refuse(mut stream: TcpStream) {
    let said = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        // Read on, so that what the peer was sending does not reset the reply away.
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(Duration::from_secs(1), said).await;
}

/// A connection that was accepted.
struct Visit {
    peer: SocketAddr,
    place: Place,
    /// As they were when it was accepted.
    limits: Arc<Limits>,
    stop: CancellationToken,
}

impl Visit {
    /// Made where it is used: most connections become WebSockets, which have spans of their own.
    fn span(&self) -> Span {
        tracing::info_span!("connection", peer = %self.peer)
    }

    async fn shake_hands(self, stream: TcpStream, acceptor: TlsAcceptor, front: Front) {
        // Both boxed, for the task would keep room for the one while the other goes on.
        let shaken = Box::pin(timeout(self.limits.head_timeout.0, acceptor.accept(stream))).await;
        match shaken {
            Ok(Ok(stream)) => Box::pin(self.receive(Stream::Tls(Box::new(stream)), front)).await,
            Ok(Err(error)) => self.span().in_scope(|| tracing::debug!(%error, "TLS handshake")),
            Err(_) => self.span().in_scope(|| tracing::debug!("no TLS handshake in time")),
        }
    }

    /// Looks at what comes first. A plain request for a socket is answered here, for a connection of HTTP would cost more than
    /// the socket; whatever else it is, hyper begins with it.
    async fn receive(self, mut stream: Stream, front: Front) {
        let head_by = Instant::now() + self.limits.head_timeout.0;
        let first = tokio::select! {
            first = upgrade::first(&mut stream, &front) => first,
            () = self.stop.cancelled() => return,
            () = tokio::time::sleep_until(head_by) => return self.span().in_scope(|| tracing::debug!("no request in time")),
        };
        let early = match first {
            Ok(First::Asks(asking)) => {
                // The span has no more to say than the line of the request, which is for debugging.
                let span = if tracing::enabled!(tracing::Level::DEBUG) { self.span() } else { Span::none() };
                match asking.admit(self.peer, matches!(stream, Stream::Tls(_))).instrument(span.clone()).await {
                    Ok(admitted) => return admitted.welcome(stream, &self.limits, self.place).instrument(span).await,
                    Err(early) => early,
                }
            }
            Ok(First::Other(early)) => early,
            Ok(First::Nothing) => return,
            Err(error) => return self.span().in_scope(|| tracing::debug!(%error, "the connection ended early")),
        };
        self.serve(early, stream, front, head_by).await;
    }

    /// Boxed, for the task would otherwise keep room for whatever a connection can become.
    fn serve(self, early: Bytes, stream: Stream, front: Front, head_by: Instant) -> BoxFuture<'static, ()> {
        let span = self.span();
        let Self { peer, place, limits, stop } = self;
        Box::pin(serve(Rewound::new(early, stream), peer, front, Arc::new(place), limits, stop, head_by).instrument(span))
    }
}

/// Serves one connection until it ends, is idle too long, or the gateway drains.
async fn serve(
    stream: Rewound,
    peer: SocketAddr,
    front: Front,
    place: Arc<Place>,
    limits: Arc<Limits>,
    stop: CancellationToken,
    head_by: Instant,
) {
    let cut = CancellationToken::new();
    let carrier = Carrier { place, cut: cut.clone() };
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = has_asked.clone();
    let is_tls = stream.is_tls();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let (front, carrier) = (front.clone(), carrier.clone());
        async move {
            let request = request.map(Body::new);
            Ok::<_, Infallible>(
                front
                    .answer_with(request, |extensions| {
                        extensions.insert(ConnectInfo(peer));
                        extensions.insert(carrier);
                        if is_tls {
                            extensions.insert(Https);
                        }
                    })
                    .await,
            )
        }
    });
    let mut builder = http1::Builder::new();
    // One timer serves for the head and for the wait between requests, so the first head has a deadline of its own.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.keep_alive.0.max(limits.head_timeout.0)).max_buf_size(HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut is_first = true;
    let done = loop {
        tokio::select! {
            done = connection.as_mut() => break done,
            () = cut.cancelled() => return,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
            () = tokio::time::sleep_until(head_by), if is_first => {
                is_first = false;
                if !has_asked.load(Ordering::Relaxed) {
                    return tracing::debug!("no request in time");
                }
            }
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "the connection ended early");
    }
}

/// Says in a sentence what the router and its extractors say in plain text or not at all; clients read JSON and nothing
/// else. Not by the router's own fallback, which would take the place of what answers browsers that ask beforehand.
async fn in_json(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let allowed = response.headers().get(header::ALLOW).cloned();
    let mut said = if status == StatusCode::METHOD_NOT_ALLOWED && kind.is_empty() {
        say(status, "this path does not take this method")
    } else if status.is_client_error() && kind.starts_with("text/plain") {
        let text = axum::body::to_bytes(response.into_body(), 4 * 1024).await.unwrap_or_default();
        say(status, &String::from_utf8_lossy(&text))
    } else {
        return response;
    };
    if let Some(allowed) = allowed {
        said.headers_mut().insert(header::ALLOW, allowed);
    }
    said
}

/// A reply in one sentence.
fn say(status: StatusCode, sentence: &str) -> Response {
    let mut response = Response::new(Body::from(json!({"error": sentence}).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is said where the gateway itself is wrong.
fn internal() -> Response {
    say(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}

/// Lets replies go wrong, where that was asked for.
async fn disturb(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let faults = gateway.faults();
    if !faults.is_on() || request.uri().path().starts_with("/admin/") {
        return next.run(request).await;
    }
    let cut = request.extensions().get::<Carrier>().map(|carrier| carrier.cut.clone());
    let named = tenant_in(request.uri().path());
    let response = next.run(request).await;
    let Some(account) = response.extensions().get::<Tenant>().map(|tenant| tenant.0.clone()).or(named) else { return response };
    // An upgrade is not the reply to a request of the dialect's.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    if let Some(delay) = faults.delay(&account) {
        tokio::time::sleep(delay).await;
    }
    match cut.filter(|_| faults.drops_reply(&account)) {
        Some(cut) => {
            cut.cancel();
            std::future::pending().await
        }
        None => response,
    }
}

/// The account in an address of the native dialect.
fn tenant_in(path: &str) -> Option<AccountId> {
    let mut segments = path.split('/').skip_while(|segment| *segment != "account");
    segments.nth(1).map(AccountId::from)
}

/// Counts each request and logs it by its route: bearers travel in paths, so the path itself is never logged.
async fn record(matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let response = next.run(request).await;
    front::note(&method, matched.as_ref().map_or("(none)", MatchedPath::as_str), response.status(), began);
    response
}
