//! The listener: TCP and TLS, HTTP with every limit that must hold before anybody is known, the WebSocket upgrade.

mod admin;
mod connection;
mod console;
mod drain;
mod operate;
mod pages;
mod tls;
mod trace;
mod webhooks;
mod wire;
mod ws;

pub use admin::{AdminKey, Reload};
pub use console::routes as console;
pub use pages::Pages;
pub use tls::{Certificate, TlsError};

use self::connection::{Place, Places};
use self::ws::{Surroundings, Upgrade};
use crate::config::{Config, Limits, LiveLimits};
use crate::dialect::Socket;
use crate::faults::Tenant;
use crate::gateway::Gateway;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::any;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tieline_protocol::ids::AccountId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

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

    /// The route of a dialect's socket.
    pub fn socket<S: Socket>(&self, socket: S) -> Router {
        let (around, limits, origins, tasks) = (self.around.clone(), self.limits.clone(), self.origins.clone(), self.tasks.clone());
        let path = socket.path();
        Router::new().route(
            path,
            any(move |request: Request| {
                let (socket, origins, tasks) = (socket.clone(), origins.clone(), tasks.clone());
                let around = Surroundings { limits: limits.load_full(), ..around.clone() };
                async move { upgrade(request, socket, around, &origins, &tasks).await }
            }),
        )
    }

    /// Lays around all routes what holds for each of them.
    pub fn finish(&self, routes: Router) -> Router {
        routes
            .fallback(|| async { say(StatusCode::NOT_FOUND, "there is nothing at this path; the protocol page lists what there is") })
            .layer(axum::middleware::map_response(in_json))
            .layer(axum::middleware::from_fn_with_state(self.around.gateway.clone(), disturb))
            .layer(axum::middleware::from_fn(drain::unread))
            .layer(axum::middleware::from_fn(record))
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(|_| say(StatusCode::INTERNAL_SERVER_ERROR, "internal error")))
    }

    /// Accepts connections until the gateway drains.
    ///
    /// # Errors
    /// Never: what goes wrong with one connection ends that connection.
    pub async fn serve(&self, listener: TcpListener, router: Router, tls: Option<Certificate>) {
        loop {
            let accepted = tokio::select! {
                () = self.around.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer, router.clone(), tls.as_ref().map(Certificate::acceptor)),
                Err(error) => {
                    // Out of descriptors: waiting lets some close, spinning would not.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, router: Router, acceptor: Option<TlsAcceptor>) {
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
        let place = Arc::new(place);
        let (limits, stop) = (self.limits.load_full(), self.around.stop.clone());
        let span = tracing::info_span!("connection", %peer);
        let serve = async move {
            let Some(acceptor) = acceptor else { return serve(stream, peer, router, place, &limits, stop).await };
            match timeout(limits.head_timeout.0, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, peer, router, place, &limits, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
                Err(_) => tracing::debug!("no TLS handshake in time"),
            }
        };
        self.tasks.spawn(serve.instrument(span));
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

/// Serves one connection until it ends, is idle too long, or the gateway drains.
async fn serve<S>(stream: S, peer: SocketAddr, router: Router, place: Arc<Place>, limits: &Limits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut = CancellationToken::new();
    let carrier = Carrier { place, cut: cut.clone() };
    let has_asked = Arc::new(AtomicBool::new(false));
    let router = TowerToHyperService::new(router);
    let asked = has_asked.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(carrier.clone());
        router.call(request)
    });
    let mut builder = http1::Builder::new();
    // One timer serves for the head and for the wait between requests, so the first head has a deadline of its own.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.keep_alive.0.max(limits.head_timeout.0)).max_buf_size(HEAD);
    let stream = TokioIo::new(stream);
    let mut connection = pin!(builder.serve_connection(stream, service).with_upgrades());
    let head_by = Instant::now() + limits.head_timeout.0;
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

/// Reads an upgrade request, and leaves the socket to a task.
async fn upgrade<S: Socket>(request: Request, socket: S, around: Surroundings, origins: &[String], tasks: &TaskTracker) -> Response {
    let (mut parts, _) = request.into_parts();
    if !is_allowed_origin(&parts.headers, origins) {
        return say(StatusCode::FORBIDDEN, "this origin may not connect; add it to server.allowed_origins");
    }
    let upgrade = match Upgrade::of(&mut parts) {
        Ok(upgrade) => upgrade,
        Err((status, reason)) => return say(status, &reason),
    };
    let Some(carrier) = parts.extensions.get::<Carrier>().cloned() else {
        return say(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
    };
    let swept = around.gateway.hub().swept();
    let admission = match socket.admit(&parts).await {
        Ok(admission) => admission,
        Err(response) => return *response,
    };
    let (response, on) = upgrade.split();
    let connection = around.gateway.hub().next_connection();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    // Beside the span of the HTTP connection, which would otherwise be kept with it.
    let span = tracing::info_span!(parent: None, "websocket", peer = peer.map(tracing::field::display), connection_id = %connection, path = socket.path());
    metrics::counter!("tieline_websockets_total").increment(1);
    let serve = async move {
        tracing::info!("websocket opened");
        ws::serve(around, on, admission, connection, swept).await;
        drop(carrier.place);
    };
    tasks.spawn(serve.instrument(span));
    response
}

/// A browser's page may connect from this origin, or from one that is listed to the letter. Programs send none.
fn is_allowed_origin(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_same = !host.is_empty() && [format!("http://{host}"), format!("https://{host}")].iter().any(|same| same == origin);
    is_same || allowed.iter().any(|allowed| allowed == origin)
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
    let route = matched.map_or_else(|| "(none)".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let seconds = began.elapsed().as_secs_f64();
    metrics::counter!("tieline_http_requests_total", "route" => route.clone(), "status" => status.to_string()).increment(1);
    metrics::histogram!("tieline_http_request_seconds").record(seconds);
    tracing::debug!(%method, route, status, seconds, "request");
    response
}
