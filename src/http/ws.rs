//! WebSockets: the upgrade, and the one loop that every socket of every dialect runs in.
//!
//! The loop does I/O and keeps time; what frames mean is the session's business. One task per socket, and the only
//! place that writes is [`write_ready`].

use super::connection::Progress;
use crate::config::Limits;
use crate::gateway::Gateway;
use crate::hub::{ConnectionId, Frame};
use crate::session::{Admission, Admitted, Codec, Doorway, Greeting, Out, Session, SessionLimits};
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::CloseCode;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};
use tokio_util::sync::CancellationToken;

/// Frames taken in one turn, so that what a peer sends at once is committed together.
const TURN: usize = 128;
/// How long a close frame may take to be written, and the peer's to come. With it a socket whose credential has ended
/// is gone within the promised 5 s.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes read on after a close frame was sent, so that what is in flight does not reset the connection before the
/// peer has read it.
const LINGER: usize = 4 * 1024 * 1024;

/// An upgrade that was asked for correctly.
#[derive(Debug)]
pub(super) struct Upgrade {
    on: OnUpgrade,
    response: Response,
}

impl Upgrade {
    /// Reads an upgrade request.
    pub(super) fn of(parts: &mut Parts) -> Result<Self, (StatusCode, String)> {
        let mut head = Request::<()>::default();
        *head.method_mut() = parts.method.clone();
        *head.version_mut() = parts.version;
        *head.headers_mut() = parts.headers.clone();
        let response = create_response_with_body(&head, Body::empty)
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("this is a WebSocket: {error}")))?;
        let on =
            parts.extensions.remove::<OnUpgrade>().ok_or((StatusCode::UPGRADE_REQUIRED, "the connection cannot be upgraded".to_owned()))?;
        Ok(Self { on, response })
    }

    /// The reply that switches protocols, and the socket to come.
    pub(super) fn split(self) -> (Response, OnUpgrade) {
        (self.response, self.on)
    }
}

/// Bounds on what a peer can make us hold. The read buffer is small because it is allocated for each connection and
/// zeroed at each poll.
fn config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(64 * 1024 * 1024)
        .max_message_size(Some(limits.message.0))
        .max_frame_size(Some(limits.message.0))
}

/// What every socket needs.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) gateway: Arc<Gateway>,
    /// As they were when the connection was made.
    pub(super) limits: Arc<Limits>,
    /// Cancelled when the gateway drains.
    pub(super) stop: CancellationToken,
    /// Sockets leave at a random time within this after `stop`.
    pub(super) spread: Duration,
}

/// Serves an upgraded connection to its end.
pub(super) async fn serve<D: Doorway>(
    around: Surroundings,
    on: OnUpgrade,
    admission: Admission<D>,
    connection: ConnectionId,
    progress: Progress,
) {
    let io = match on.await {
        Ok(io) => TokioIo::new(io),
        Err(error) => return tracing::debug!(%error, "the upgrade failed"),
    };
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config(&around.limits))).await;
    let code = match admission {
        Admission::Turned(code) => Some(code),
        Admission::Known(admitted) => run(&around, &mut socket, *admitted, None, connection, &progress).await,
        Admission::Unknown(doorway) => match identify(&around, &mut socket, doorway).await {
            Ok((reply, admitted)) => run(&around, &mut socket, admitted, Some(reply), connection, &progress).await,
            Err(code) => code,
        },
    };
    let number = code.map_or(1006, CloseCode::number);
    metrics::counter!("tieline_websocket_closes_total", "code" => number.to_string()).increment(1);
    tracing::info!(code = number, "websocket closed");
    if let Some(code) = code {
        farewell(socket, code).await;
    }
}

/// Sends the close frame, then reads on a little so that it arrives.
async fn farewell<S>(mut socket: WebSocketStream<S>, code: CloseCode)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let said = timeout(FAREWELL, async {
        // The answer to the peer's own close waits to be flushed, and is all there is to say then.
        let frame = CloseFrame { code: code.number().into(), reason: code.reason().into() };
        let sent = if code == CloseCode::Normal { socket.flush().await } else { socket.send(Message::Close(Some(frame))).await };
        match sent {
            Ok(()) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => true,
            Err(_) => false,
        }
    });
    if said.await != Ok(true) || code == CloseCode::Normal {
        return;
    }
    let mut io = socket.into_inner();
    let linger = async {
        let mut buffer = [0; 4096];
        let mut left = LINGER;
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            left = left.saturating_sub(read);
            // The peer's answer to our close is small and the last thing it sends.
            if left == 0 || read as u64 <= LARGEST_SIGN {
                break;
            }
        }
    };
    let _ = timeout(FAREWELL / 2, linger).await;
}

/// Waits for a peer to say who it is. Nothing else can be asked here.
async fn identify<S, D>(around: &Surroundings, socket: &mut S, mut doorway: D) -> Result<(Frame, Admitted<D::Codec>), Option<CloseCode>>
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
    D: Doorway,
{
    let deadline = Instant::now() + around.limits.identify_timeout.0;
    let mut refused = 0;
    loop {
        let message = tokio::select! {
            () = sleep_until(deadline) => return Err(Some(CloseCode::Policy)),
            () = around.stop.cancelled() => return Err(Some(CloseCode::Restart)),
            message = socket.next() => message,
        };
        let text = match message.map_or(Err(None), read)? {
            Heard::Text(text) => text,
            Heard::Sign => continue,
        };
        match doorway.greet(text.as_str()) {
            Greeting::Welcome(reply, admitted) => return Ok((reply, *admitted)),
            Greeting::Turned(code) => return Err(Some(code)),
            Greeting::NotYet(reply) => {
                refused += 1;
                if refused >= around.limits.bad_frames {
                    return Err(Some(CloseCode::Policy));
                }
                match timeout(around.limits.write_timeout.0, socket.send(Message::Text(reply))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(None),
                    Err(_) => return Err(Some(CloseCode::SlowConsumer)),
                }
            }
        }
    }
}

/// What a message is to the loop.
enum Heard {
    /// A request.
    Text(Frame),
    /// A sign of life.
    Sign,
}

/// The close that a message or an error means; none if there is nobody left to tell.
fn read(message: Result<Message, WsError>) -> Result<Heard, Option<CloseCode>> {
    match message {
        Ok(Message::Text(text)) => Ok(Heard::Text(text)),
        Ok(Message::Ping(_) | Message::Pong(_)) => Ok(Heard::Sign),
        Ok(Message::Binary(_)) => Err(Some(CloseCode::Binary)),
        Ok(Message::Close(_) | Message::Frame(_)) => Err(Some(CloseCode::Normal)),
        Err(WsError::Capacity(CapacityError::MessageTooLong { .. } | CapacityError::TooManyHeaders)) => Err(Some(CloseCode::TooBig)),
        Err(WsError::Utf8(_)) => Err(Some(CloseCode::NotUtf8)),
        // A peer that just goes is not at fault.
        Err(WsError::Protocol(error)) if is_reset(&error) => Err(None),
        Err(WsError::Protocol(error)) => {
            tracing::debug!(%error, "the peer breaks the protocol");
            Err(Some(CloseCode::Protocol))
        }
        Err(error) => {
            tracing::debug!(%error, "the socket broke");
            Err(None)
        }
    }
}

fn is_reset(error: &tokio_tungstenite::tungstenite::error::ProtocolError) -> bool {
    matches!(error, tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
}

/// Runs a session to its end; the code to close with, if anybody is left to be told.
async fn run<S, C>(
    around: &Surroundings,
    socket: &mut S,
    admitted: Admitted<C>,
    reply: Option<Frame>,
    connection: ConnectionId,
    progress: &Progress,
) -> Option<CloseCode>
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
    C: Codec,
{
    let membership = around.gateway.hub().join(connection, admitted.actor.clone());
    let limits = SessionLimits { pending: around.limits.pending, bad_frames: around.limits.bad_frames };
    let mut session = Session::begin(around.gateway.clone(), membership, admitted, limits);
    if let Some(reply) = reply
        && timeout(around.limits.write_timeout.0, socket.send(Message::Text(reply))).await.is_err()
    {
        return Some(CloseCode::SlowConsumer);
    }
    drive(around, socket, &mut session, progress).await
}

/// The largest ping, pong or close from a client, with its head and mask.
const LARGEST_SIGN: u64 = 131;

/// The clocks of one socket.
struct Clocks {
    heard: Instant,
    next_ping: Instant,
    /// Bytes read when the last whole message was, and since when more have come.
    bytes: u64,
    partial_since: Option<Instant>,
}

impl Clocks {
    fn start(limits: &Limits, progress: &Progress) -> Self {
        let now = Instant::now();
        // The first ping is spread, so that sockets which came together are not pinged together.
        let spread = limits.ping.0.mul_f64(crate::random::fraction());
        Self { heard: now, next_ping: now + spread, bytes: progress.read(), partial_since: None }
    }

    /// Something came. A whole message ends what had begun; a sign of life does not.
    fn heard(&mut self, progress: &Progress, is_message: bool) {
        self.heard = Instant::now();
        // A sign of life is itself a few bytes; if no more came since, it was all that had begun.
        if is_message || self.partial_since.is_none() || progress.read() <= self.bytes + LARGEST_SIGN {
            self.bytes = progress.read();
            self.partial_since = None;
        }
    }

    /// When the loop must look at the clocks again.
    fn next(&self, limits: &Limits, is_reading: bool) -> Instant {
        let idle = self.heard + limits.idle.0;
        // Looked at often enough to notice that a message has begun.
        let partial = self
            .partial_since
            .filter(|_| is_reading)
            .map_or(self.heard.max(self.next_ping) + limits.ping.0, |since| since + limits.body_timeout.0);
        idle.min(self.next_ping).min(partial)
    }

    /// What the time means now.
    fn look(&mut self, limits: &Limits, progress: &Progress, is_reading: bool) -> Result<Option<Message>, CloseCode> {
        let now = Instant::now();
        if now >= self.heard + limits.idle.0 {
            return Err(CloseCode::Idle);
        }
        if is_reading && progress.read() > self.bytes {
            let since = *self.partial_since.get_or_insert(now);
            if now >= since + limits.body_timeout.0 {
                return Err(CloseCode::Policy);
            }
        }
        if now < self.next_ping {
            return Ok(None);
        }
        self.next_ping = now + limits.ping.0;
        Ok(Some(Message::Ping(Bytes::new())))
    }
}

/// The loop. It returns the code to close with, if anybody is left to be told.
async fn drive<S, C>(around: &Surroundings, socket: &mut S, session: &mut Session<C>, progress: &Progress) -> Option<CloseCode>
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
    C: Codec,
{
    let limits = &around.limits;
    let mut clocks = Clocks::start(limits, progress);
    let mut ended = pin!(session.lease().clone().ended());
    let mut stopped = pin!(async {
        around.stop.cancelled().await;
        sleep(around.spread.mul_f64(crate::random::fraction())).await;
    });
    // Set when the gateway drains: until then what was asked may still be answered.
    let mut leave_by: Option<Instant> = None;
    let mut end: Option<CloseCode> = None;
    let mut control: Option<Message> = None;
    loop {
        let is_reading = leave_by.is_none() && session.is_accepting();
        let clock = clocks.next(limits, is_reading);
        let clock = leave_by.map_or(clock, |leave_by| leave_by.min(clock));
        // Only what can be dropped without loss is waited for here; the work is done behind the arrows.
        tokio::select! {
            () = &mut ended => return Some(CloseCode::Token),
            () = &mut stopped, if leave_by.is_none() => leave_by = Some(Instant::now() + FAREWELL),
            () = session.ready() => {}
            message = socket.next(), if is_reading => {
                let mut next = Some(message);
                let mut taken = 0;
                while let Some(message) = next.take() {
                    clocks.heard(progress, matches!(message, Some(Ok(Message::Text(_)))));
                    match message.map_or(Err(None), read) {
                        // A credential that has ended asks for nothing more.
                        Ok(Heard::Text(_)) if session.lease().is_over() => return Some(CloseCode::Token),
                        Ok(Heard::Text(text)) => end = end.or(session.accept(text.as_str()).err()),
                        Ok(Heard::Sign) => {}
                        Err(code) => return code,
                    }
                    taken += 1;
                    if taken < TURN && end.is_none() && session.is_accepting() {
                        next = socket.next().now_or_never();
                    }
                }
            }
            () = sleep_until(clock) => match clocks.look(limits, progress, is_reading) {
                Ok(ping) => control = ping,
                Err(code) => return Some(code),
            },
        }
        // Polled once more without waiting: what was just accepted may be answered already.
        let _ = session.ready().now_or_never();
        // Whatever became ready with the credential's end is not told any more.
        if session.lease().is_over() {
            return Some(CloseCode::Token);
        }
        if let Some(end) = session.end() {
            if end == CloseCode::SlowConsumer {
                metrics::counter!("tieline_slow_consumers_total").increment(1);
            }
            return Some(end);
        }
        let began = Instant::now();
        let write = steadily(limits.write_timeout.0, progress, write_ready(socket, session, control.take()));
        let written = tokio::select! {
            // In order: a write that is done is not taken back by a lease that ends just then.
            biased;
            written = write => written,
            () = &mut ended => return Some(CloseCode::Token),
        };
        match written {
            // Who took a long write was there, though nothing could be read meanwhile.
            Some(Ok(())) if began.elapsed() > FAREWELL => clocks.heard = Instant::now(),
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "the socket broke");
                return None;
            }
            None => {
                metrics::counter!("tieline_slow_consumers_total").increment(1);
                return Some(CloseCode::SlowConsumer);
            }
        }
        if end.is_some() {
            return end;
        }
        if leave_by.is_some_and(|leave_by| session.is_settled() || Instant::now() >= leave_by) {
            return Some(CloseCode::Restart);
        }
    }
}

/// The least that a peer must take within each write timeout, to count as slow and not as stalled.
const TRICKLE: u64 = 4 * 1024;

/// Waits for a write as long as it gets on; none if it stalls.
async fn steadily<T>(time: Duration, progress: &Progress, write: impl Future<Output = T>) -> Option<T> {
    let mut write = pin!(write);
    loop {
        let before = progress.written();
        match timeout(time, write.as_mut()).await {
            Ok(done) => return Some(done),
            Err(_) if progress.written() >= before + TRICKLE => {}
            Err(_) => return None,
        }
    }
}

/// Writes everything that is ready, in as few writes as may be.
async fn write_ready<S, C>(socket: &mut S, session: &mut Session<C>, control: Option<Message>) -> Result<(), WsError>
where
    S: Sink<Message, Error = WsError> + Unpin,
    C: Codec,
{
    let mut is_dirty = false;
    if let Some(control) = control {
        socket.feed(control).await?;
        is_dirty = true;
    }
    while let Some(out) = session.pop() {
        match out {
            Out::Frame(frame) => {
                socket.feed(Message::Text(frame)).await?;
                is_dirty = true;
            }
            Out::Alone(frame) => {
                if std::mem::take(&mut is_dirty) {
                    socket.flush().await?;
                }
                socket.send(Message::Text(frame)).await?;
                session.sent();
                session.flushed();
            }
        }
    }
    if is_dirty {
        socket.flush().await?;
        session.sent();
    }
    Ok(())
}
