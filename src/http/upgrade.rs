//! The upgrade of a connection to a WebSocket.
//!
//! Nearly each connection begins with one, so what comes first on a connection is looked at here. If it is the whole head of an
//! upgrade request and nothing is unusual about it, the socket begins at once. Whatever else it is, and each request that is
//! refused, is left to hyper and to the router, which reads the same request again and has the last word: so there is one place
//! where anything is said to a peer but that it is welcome.

use super::front::{self, Front};
use super::wire::Stream;
use super::ws::{self, Surroundings};
use super::{Carrier, HEAD, Place, say};
use crate::config::{Limits, LiveLimits};
use crate::dialect::origin::is_allowed_origin;
use crate::dialect::{Https, Socket, fits};
use crate::hub::{ConnectionId, Swept};
use crate::session::Admission;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use futures::FutureExt;
use futures::future::{BoxFuture, poll_fn};
use hyper::upgrade::OnUpgrade;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::ready;
use tokio::io::ReadBuf;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{create_response_with_body, write_response};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// A socket of a dialect's, with what it is served with.
pub(super) struct Plug<S> {
    pub(super) socket: S,
    pub(super) around: Surroundings,
    pub(super) limits: LiveLimits,
    pub(super) origins: Arc<[String]>,
    pub(super) tasks: TaskTracker,
}

/// Leaves the socket on a stream to a task, with the bytes that came along with the request.
type Serve = Box<dyn FnOnce(Stream, Bytes, Place) + Send>;

/// A socket, whatever the dialect.
pub(super) trait Upgrades: Send + Sync {
    fn path(&self) -> &'static str;

    /// Serves who may come in. Nothing for anybody else.
    fn admit<'p>(&'p self, parts: &'p Parts, peer: SocketAddr) -> BoxFuture<'p, Option<Serve>>;
}

impl<S: Socket> Upgrades for Plug<S> {
    fn path(&self) -> &'static str {
        self.socket.path()
    }

    fn admit<'p>(&'p self, parts: &'p Parts, peer: SocketAddr) -> BoxFuture<'p, Option<Serve>> {
        Box::pin(async move {
            if !self.is_allowed(parts) {
                return None;
            }
            let swept = self.around.gateway.hub().swept();
            // One that panics does so again when the router asks it, and that is answered there.
            let admission = AssertUnwindSafe(self.socket.admit(parts)).catch_unwind().await.ok()?.ok()?;
            let around = self.surroundings();
            let serve: Serve = Box::new({
                let (connection, span) = self.open(Some(peer));
                let tasks = self.tasks.clone();
                move |stream, early, place| {
                    let serve = async move {
                        serve(around, (stream, early), (admission, swept), connection).await;
                        drop(place);
                    };
                    // One of its own, for this one has room for all that comes before a socket.
                    tasks.spawn(serve.instrument(span));
                }
            });
            Some(serve)
        })
    }
}

impl<S: Socket> Plug<S> {
    /// The route of the socket.
    pub(super) fn route(self: &Arc<Self>) -> Router {
        let this = self.clone();
        let route = move |request: Request| {
            let this = this.clone();
            async move { this.upgrade(request).await }
        };
        Router::new().route(self.socket.path(), any(route))
    }

    /// Whether a page of its origin may connect, if it comes from one.
    fn is_allowed(&self, parts: &Parts) -> bool {
        is_allowed_origin(&parts.headers, &self.origins) || self.socket.allows_origin(parts)
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings { limits: self.limits.load_full(), ..self.around.clone() }
    }

    /// Counts another socket, and names it.
    fn open(&self, peer: Option<SocketAddr>) -> (ConnectionId, Span) {
        let connection = self.around.gateway.hub().next_connection();
        // Beside the span of the HTTP connection, which would otherwise be kept with it.
        let span = tracing::info_span!(parent: None, "websocket", peer = peer.map(tracing::field::display), connection_id = %connection, path = self.socket.path());
        front::OPENED.increment(1);
        (connection, span)
    }

    /// Reads an upgrade request, and leaves the socket to a task.
    async fn upgrade(&self, request: Request) -> Response {
        let (mut parts, _) = request.into_parts();
        if !self.is_allowed(&parts) {
            return say(StatusCode::FORBIDDEN, "this origin may not connect; add it to server.allowed_origins");
        }
        let response = match switching(&parts) {
            Ok(response) => response,
            Err(reason) => return say(StatusCode::BAD_REQUEST, &reason),
        };
        let Some(on) = parts.extensions.remove::<OnUpgrade>() else {
            return say(StatusCode::UPGRADE_REQUIRED, "the connection cannot be upgraded");
        };
        let Some(carrier) = parts.extensions.get::<Carrier>().cloned() else {
            return super::internal();
        };
        let swept = self.around.gateway.hub().swept();
        let admission = match self.socket.admit(&parts).await {
            Ok(admission) => admission,
            Err(response) => return *response,
        };
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let (connection, span) = self.open(peer);
        let around = self.surroundings();
        let serve = async move {
            match on.await.map(Stream::of) {
                Ok(Some(stream)) => serve(around, stream, (admission, swept), connection).await,
                Ok(None) => tracing::error!("the upgraded connection is of no known kind"),
                Err(error) => tracing::debug!(%error, "the upgrade failed"),
            }
            drop(carrier.place);
        };
        self.tasks.spawn(serve.instrument(span));
        response
    }
}

async fn serve<D: crate::session::Doorway>(
    around: Surroundings,
    stream: (Stream, Bytes),
    admission: (Admission<D>, Swept),
    connection: ConnectionId,
) {
    tracing::info!("websocket opened");
    ws::serve(around, stream, admission, connection).await;
}

/// The reply that switches protocols, or what is wrong with the request.
fn switching(parts: &Parts) -> Result<Response, String> {
    let mut head = axum::http::Request::<()>::default();
    *head.method_mut() = parts.method.clone();
    *head.version_mut() = parts.version;
    *head.headers_mut() = parts.headers.clone();
    create_response_with_body(&head, Body::empty).map_err(|error| format!("this is a WebSocket: {error}"))
}

/// What comes first on a connection.
pub(super) enum First {
    /// A plain upgrade request, whole.
    Asks(Box<Asking>),
    /// Anything else; these bytes were read.
    Other(Bytes),
    /// The peer has gone without a word.
    Nothing,
}

thread_local! {
    /// Where first bytes are read to: most are looked at once and not kept.
    static FIRST: RefCell<Vec<u8>> = RefCell::new(vec![0; HEAD]);
}

/// Reads what comes first, once.
pub(super) async fn first(stream: &mut Stream, front: &Front) -> io::Result<First> {
    poll_fn(|context| {
        FIRST.with_borrow_mut(|bytes| {
            let mut buffer = ReadBuf::new(bytes);
            ready!(stream.poll_read(context, &mut buffer))?;
            std::task::Poll::Ready(Ok(match buffer.filled() {
                [] => First::Nothing,
                bytes => Asking::read(bytes, front)
                    .map_or_else(|| First::Other(Bytes::copy_from_slice(bytes)), |asking| First::Asks(asking.into())),
            }))
        })
    })
    .await
}

/// A plain upgrade request.
pub(super) struct Asking {
    began: Instant,
    parts: Parts,
    /// The reply, as it is written.
    reply: Vec<u8>,
    plug: Arc<dyn Upgrades>,
    /// All that was read, and how much of it is the request.
    bytes: Bytes,
    head: usize,
}

impl Asking {
    fn read(bytes: &[u8], front: &Front) -> Option<Self> {
        // Most requests are told apart by their method.
        if !bytes.starts_with(b"GET /") {
            return None;
        }
        let began = Instant::now();
        let (head, request) = axum::http::Request::<()>::try_parse(bytes).ok()??;
        let plug = front.plugs().iter().find(|plug| fits(plug.path(), request.uri().path()))?.clone();
        // A body, or somebody who waits for leave to send one, is hyper's business.
        let has_more = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT];
        if request.uri().authority().is_some() || has_more.iter().any(|name| request.headers().contains_key(name)) {
            return None;
        }
        let mut reply = Vec::with_capacity(160);
        write_response(&mut reply, &create_response_with_body(&request, || ()).ok()?).ok()?;
        Some(Self { began, parts: request.into_parts().0, reply, plug, bytes: Bytes::copy_from_slice(bytes), head })
    }

    /// Lets in who may come in. Who may not is left to the router, which says why.
    pub(super) async fn admit(mut self: Box<Self>, peer: SocketAddr, is_tls: bool) -> Result<Admitted, Bytes> {
        // As the router's requests have it.
        self.parts.extensions.insert(ConnectInfo(peer));
        if is_tls {
            self.parts.extensions.insert(Https);
        }
        match self.plug.admit(&self.parts, peer).await {
            Some(serve) => {
                let Self { began, reply, plug, bytes, head, .. } = *self;
                let early = if head == bytes.len() { Bytes::new() } else { bytes.slice(head..) };
                Ok(Admitted { began, reply, route: plug.path(), early, serve })
            }
            None => Err(self.bytes),
        }
    }
}

/// Who was let in, and has not been told.
pub(super) struct Admitted {
    began: Instant,
    reply: Vec<u8>,
    route: &'static str,
    early: Bytes,
    serve: Serve,
}

impl Admitted {
    /// Welcomes the peer, and leaves its socket to a task.
    pub(super) async fn welcome(self, mut stream: Stream, limits: &Limits, place: Place) {
        front::note(&Method::GET, self.route, StatusCode::SWITCHING_PROTOCOLS, self.began);
        match timeout(limits.write_timeout.0, say_all(&mut stream, &self.reply)).await {
            Ok(Ok(())) => (self.serve)(stream, self.early, place),
            Ok(Err(error)) => tracing::debug!(%error, "the upgrade failed"),
            Err(_) => tracing::debug!("the upgrade failed: it was not taken in time"),
        }
    }
}

async fn say_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|context| stream.poll_write(context, bytes)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    poll_fn(|context| stream.poll_flush(context)).await
}
