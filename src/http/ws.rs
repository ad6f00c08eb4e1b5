//! WebSockets: the upgrade, and the one loop that every socket of every dialect runs in.
//!
//! The loop does I/O and keeps time; what frames mean is the session's business. One task per socket. It has four reasons to
//! wake ([`wakes`]), and looks only at those parts that woke it: a socket that is written to is not read, and no timer is
//! touched for a message.

mod wakes;

use self::wakes::{Part, Wakes};
use super::wire::{Moved, Socket, Stream};
use crate::config::Limits;
use crate::gateway::Gateway;
use crate::hub::{ConnectionId, Frame, Swept, put_frame};
use crate::session::{Admission, Admitted, Codec, Doorway, Greeting, Out, Session, SessionLimits};
use futures::future::poll_fn;
use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tieline_protocol::code::CloseCode;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};
use tokio_util::sync::CancellationToken;

/// Frames taken in one turn, so that what a peer sends at once is committed together.
const TURN: usize = 128;

/// How long a close frame may take to be written, and the peer's to come. With it a socket whose credential has ended
/// is gone within the promised 5 s.
const FAREWELL: Duration = Duration::from_secs(2);

/// Bytes read at once. The buffer is there for each connection as long as it lives, and is zeroed at each read.
const READ: usize = 1024;

/// Bytes written at once, about.
const WRITE: usize = 64 * 1024;

/// Bytes read on after a close frame was sent, so that what is in flight does not reset the connection before the
/// peer has read it.
const LINGER: usize = 4 * 1024 * 1024;

/// Bounds on what a peer can make us hold.
fn config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
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

/// Serves an upgraded connection to its end. With the stream are those bytes that came along with the request; `swept` is from
/// before it was admitted.
pub(super) async fn serve<D: Doorway>(
    around: Surroundings,
    stream: (Stream, Bytes),
    (admission, swept): (Admission<D>, Swept),
    connection: ConnectionId,
) {
    let mut socket = Socket::new(stream, config(&around.limits));
    let (code, last) = match admission {
        Admission::Turned(code) => (Some(code), None),
        Admission::Known(admitted) => run(&around, &mut socket, admitted, None, connection, swept).await,
        Admission::Unknown(doorway) => match identify(&around, &mut socket, doorway).await {
            Ok((reply, admitted, swept)) => run(&around, &mut socket, admitted, Some(reply), connection, swept).await,
            Err(code) => (code, None),
        },
    };
    let number = code.map_or(1006, CloseCode::number);
    metrics::counter!("tieline_websocket_closes_total", "code" => number.to_string()).increment(1);
    tracing::info!(code = number, "websocket closed");
    if let Some(code) = code {
        farewell(socket, code, last).await;
    }
}

/// Sends what there is to say last and the close frame, then reads on a little so that it arrives.
async fn farewell(mut socket: Socket, code: CloseCode, last: Option<Frame>) {
    let said = timeout(FAREWELL, async {
        if let Some(last) = last {
            // Whatever is wrong with the socket shows at once.
            let _ = socket.put(Message::Text(last));
        }
        // The answer to the peer's own close waits to be flushed, and is all there is to say then.
        let frame = CloseFrame { code: code.number().into(), reason: code.reason().into() };
        let put = if code == CloseCode::Normal { Ok(()) } else { socket.put(Message::Close(Some(frame))) };
        let is_put = matches!(put, Ok(()) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed));
        is_put && socket.wire.flush().await.is_ok()
    });
    if said.await != Ok(true) || code == CloseCode::Normal {
        return;
    }
    let linger = async {
        // Not a part of the task, which would be as much larger for as long as it lives.
        let mut buffer = vec![0; 4096];
        let mut left = LINGER;
        while let Ok(read @ 1..) = poll_fn(|context| socket.wire.poll_read(context, &mut buffer)).await {
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
async fn identify<D: Doorway>(
    around: &Surroundings,
    socket: &mut Socket,
    mut doorway: D,
) -> Result<(Frame, Box<Admitted<D::Codec>>, Swept), Option<CloseCode>> {
    let deadline = Instant::now() + around.limits.identify_timeout.0;
    let mut refused = 0;
    loop {
        let message = tokio::select! {
            () = sleep_until(deadline) => return Err(Some(CloseCode::Policy)),
            () = around.stop.cancelled() => return Err(Some(CloseCode::Restart)),
            message = socket.next() => message,
        };
        let text = match read(message)? {
            Heard::Text(text) => text,
            Heard::Sign => {
                // Its answer waits on the wire.
                say(around, socket, None).await?;
                continue;
            }
        };
        let swept = around.gateway.hub().swept();
        match doorway.greet(text.as_str()) {
            Greeting::Welcome(reply, admitted) => return Ok((reply, admitted, swept)),
            Greeting::Turned(code) => return Err(Some(code)),
            Greeting::Refused(reply, code) => {
                say(around, socket, Some(reply)).await?;
                return Err(Some(code));
            }
            Greeting::NotYet(reply) => {
                refused += 1;
                if refused >= around.limits.bad_frames {
                    return Err(Some(CloseCode::Policy));
                }
                say(around, socket, Some(reply)).await?;
            }
            // It has no more time for it than for the whole.
            Greeting::Part => {}
        }
    }
}

/// Sends a reply, and what waits before it.
async fn say(around: &Surroundings, socket: &mut Socket, reply: Option<Frame>) -> Result<(), Option<CloseCode>> {
    let said = async {
        match reply {
            Some(reply) => socket.send(Message::Text(reply)).await.is_ok(),
            None => socket.wire.flush().await.is_ok(),
        }
    };
    match timeout(around.limits.write_timeout.0, said).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(None),
        Err(_) => Err(Some(CloseCode::SlowConsumer)),
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

fn is_reset(error: &ProtocolError) -> bool {
    matches!(error, ProtocolError::ResetWithoutClosingHandshake)
}

/// Runs a session to its end; the code to close with, if anybody is left to be told, and what to say before.
async fn run<C: Codec>(
    around: &Surroundings,
    socket: &mut Socket,
    admitted: Box<Admitted<C>>,
    reply: Option<Frame>,
    connection: ConnectionId,
    swept: Swept,
) -> (Option<CloseCode>, Option<Frame>) {
    let membership = around.gateway.hub().join(connection, admitted.actor.clone(), swept);
    let limits = SessionLimits { pending: around.limits.pending, bad_frames: around.limits.bad_frames };
    let lease = admitted.lease.clone();
    // Boxed, for a task keeps room for each place that a value was moved from.
    let session = Box::new(Session::begin(around.gateway.clone(), membership, *admitted, limits));
    socket.wire.lease(lease.clone());
    session.connect(socket.wire.clone());
    if let Some(reply) = reply
        && let Err(code) = say(around, socket, Some(reply)).await
    {
        return (code, None);
    }
    let wakes = Wakes::new();
    let now = Instant::now();
    let mut serving = Serving {
        limits: &around.limits,
        clocks: Clocks::start(&around.limits, session.heartbeat(), socket.wire.moved()),
        socket,
        session,
        leave_by: None,
        end: None,
        is_readable: true,
        held: None,
        writing: None,
    };
    let mut ended = pin!(lease.ended());
    let mut stopped = pin!(async {
        around.stop.cancelled().await;
        sleep(around.spread.mul_f64(crate::random::fraction())).await;
    });
    let mut clock = pin!(sleep_until(now));
    let code = poll_fn(|context| {
        let mut woken = wakes.woken(context);
        if woken.contains(Part::Time) {
            let context = &mut wakes.context(Part::Time);
            if ended.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(CloseCode::Token));
            }
            if serving.leave_by.is_none() && stopped.as_mut().poll(context).is_ready() {
                // Until then what was asked may still be answered.
                serving.leave_by = Some(Instant::now() + FAREWELL);
            }
            if let Err(code) = serving.look(clock.as_mut(), context) {
                return Poll::Ready(Some(code));
            }
            woken.add(Part::Session);
        }
        let done = serving.turn(&wakes, woken);
        if done.is_pending() && serving.has_new_deadline() {
            // Looked at in the next turn, which comes at once.
            wakes.wake(Part::Time);
        }
        done
    })
    .await;
    (code, code.and_then(|code| serving.session.farewell(code)))
}

/// The largest ping, pong or close from a client, with its head and mask.
const LARGEST_SIGN: u64 = 131;

/// The clocks of one socket.
struct Clocks {
    heard: Instant,
    next_ping: Instant,
    /// What is sent then in place of a ping, if there is such a thing.
    heartbeat: Option<Frame>,
    ping: Duration,
    /// Bytes read when the last whole message was, and since when more have come.
    bytes: u64,
    partial_since: Option<Instant>,
}

impl Clocks {
    fn start(limits: &Limits, heartbeat: Option<(Duration, Frame)>, moved: Moved) -> Self {
        let now = Instant::now();
        let ping = heartbeat.as_ref().map_or(limits.ping.0, |(every, _)| limits.ping.0.min(*every));
        // The first ping is spread, so that sockets which came together are not pinged together.
        let spread = ping.mul_f64(crate::random::fraction());
        let heartbeat = heartbeat.map(|(_, frame)| frame);
        Self { heard: now, next_ping: now + spread, heartbeat, ping, bytes: moved.read, partial_since: None }
    }

    /// Something came. A whole message ends what had begun; a sign of life does not.
    fn heard(&mut self, moved: Moved, is_message: bool) {
        self.heard = Instant::now();
        // A sign of life is itself a few bytes; if no more came since, it was all that had begun.
        if is_message || self.partial_since.is_none() || moved.read <= self.bytes + LARGEST_SIGN {
            self.bytes = moved.read;
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
    fn look(&mut self, limits: &Limits, moved: Moved, is_reading: bool) -> Result<Option<Message>, CloseCode> {
        let now = Instant::now();
        if now >= self.heard + limits.idle.0 {
            return Err(CloseCode::Idle);
        }
        if is_reading && moved.read > self.bytes {
            let since = *self.partial_since.get_or_insert(now);
            if now >= since + limits.body_timeout.0 {
                return Err(CloseCode::Policy);
            }
        }
        if now < self.next_ping {
            return Ok(None);
        }
        self.next_ping = now + self.ping;
        Ok(Some(self.heartbeat.clone().map_or_else(|| Message::Ping(Bytes::new()), Message::Text)))
    }
}

/// The least that a peer must take within each write timeout, to count as slow and not as stalled.
const TRICKLE: u64 = 4 * 1024;

/// A write that the peer has not taken all of.
struct Writing {
    began: Instant,
    /// By when it must have got on, from how many bytes.
    by: Instant,
    from: u64,
    /// Whether it must leave alone.
    is_alone: bool,
    /// Whether the clock knows of it.
    is_timed: bool,
}

/// A socket being served.
struct Serving<'s, C: Codec> {
    limits: &'s Limits,
    socket: &'s mut Socket,
    session: Box<Session<C>>,
    clocks: Clocks,
    /// Set when the gateway drains.
    leave_by: Option<Instant>,
    /// The code with which it ends when everything is said.
    end: Option<CloseCode>,
    /// Whether there may be something to read.
    is_readable: bool,
    /// A frame that must leave alone, and waits for those before it.
    held: Option<Frame>,
    writing: Option<Writing>,
}

thread_local! {
    /// Where frames are put together for one write.
    static FRAMES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<C: Codec> Serving<'_, C> {
    fn is_reading(&self) -> bool {
        self.leave_by.is_none() && self.end.is_none() && self.writing.is_none() && self.session.is_accepting()
    }

    /// Looks at the clocks, and sets the time at which they must be looked at next.
    fn look(&mut self, mut clock: Pin<&mut Sleep>, context: &mut Context<'_>) -> Result<(), CloseCode> {
        let now = Instant::now();
        if let Some(writing) = &mut self.writing {
            writing.is_timed = true;
            if now >= writing.by {
                if self.socket.wire.moved().written < writing.from + TRICKLE {
                    return Err(self.slow());
                }
                (writing.by, writing.from) = (now + self.limits.write_timeout.0, self.socket.wire.moved().written);
            }
        } else if let Some(ping) = self.clocks.look(self.limits, self.socket.wire.moved(), self.is_reading())? {
            // Whatever is wrong with the socket shows when it is read.
            let _ = self.socket.put(ping);
        }
        let next = match &self.writing {
            Some(writing) => writing.by,
            None => self.clocks.next(self.limits, self.is_reading()),
        };
        clock.as_mut().reset(self.leave_by.map_or(next, |leave_by| leave_by.min(next)));
        if clock.poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Whether there is a deadline that the clock was not set to.
    fn has_new_deadline(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.is_timed)
    }

    fn slow(&self) -> CloseCode {
        metrics::counter!("tieline_slow_consumers_total").increment(1);
        CloseCode::SlowConsumer
    }

    /// Does what there is to do. Ready with the code to close with, if anybody is left to be told.
    fn turn(&mut self, wakes: &Wakes, woken: wakes::Woken) -> Poll<Option<CloseCode>> {
        self.is_readable |= woken.contains(Part::Read);
        let mut may_have_more = woken.contains(Part::Session);
        let mut taken = 0;
        loop {
            // A credential that has ended asks for nothing more, and is told nothing more.
            if self.session.lease().is_over() {
                return Poll::Ready(Some(CloseCode::Token));
            }
            if self.writing.is_some() {
                match self.socket.wire.poll_flush(&mut wakes.context(Part::Write)) {
                    Poll::Pending if self.leave_by.is_some_and(|leave_by| Instant::now() >= leave_by) => {
                        return Poll::Ready(Some(CloseCode::Restart));
                    }
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(lost(&error)),
                    Poll::Ready(Ok(())) => self.written(),
                }
                may_have_more = true;
            }
            while self.is_readable && self.is_reading() && taken < TURN {
                match self.socket.poll_next(&mut wakes.context(Part::Read)) {
                    Poll::Pending => self.is_readable = false,
                    Poll::Ready(message) => {
                        self.clocks.heard(self.socket.wire.moved(), matches!(message, Ok(Message::Text(_))));
                        match read(message) {
                            Ok(Heard::Text(text)) => self.end = self.session.accept(text.as_str()).err(),
                            Ok(Heard::Sign) => {}
                            Err(code) => return Poll::Ready(code),
                        }
                        taken += 1;
                        may_have_more = true;
                    }
                }
            }
            if std::mem::take(&mut may_have_more)
                && self.session.poll(&mut wakes.context(Part::Session)).is_ready()
                && let Some(end) = self.session.end()
            {
                return Poll::Ready(Some(if end == CloseCode::SlowConsumer { self.slow() } else { end }));
            }
            match self.write(&mut wakes.context(Part::Write)) {
                Ok(true) => may_have_more = true,
                Ok(false) => break,
                Err(error) => return Poll::Ready(lost(&error)),
            }
        }
        if self.end.is_some() {
            return Poll::Ready(self.end);
        }
        if self.leave_by.is_some_and(|leave_by| self.session.is_settled() || Instant::now() >= leave_by) {
            return Poll::Ready(Some(CloseCode::Restart));
        }
        if self.is_readable {
            // Where there is no room for what may come, an answer makes it, and wakes.
            if self.is_reading() {
                // Others have their turn first.
                wakes.wake(Part::Read);
            }
        } else if self.leave_by.is_none() {
            self.session.rest();
        }
        Poll::Pending
    }

    /// Writes some of what is ready, in one write. Whether there was anything.
    fn write(&mut self, context: &mut Context<'_>) -> std::io::Result<bool> {
        FRAMES.with_borrow_mut(|frames| {
            frames.clear();
            let mut is_alone = false;
            if let Some(held) = self.held.take() {
                put_frame(frames, held.as_bytes());
                is_alone = true;
            }
            while !is_alone && frames.len() < WRITE {
                match self.session.pop() {
                    Some(Out::Frame(frame)) => put_frame(frames, frame.as_bytes()),
                    Some(Out::Framed(framed)) => frames.extend_from_slice(&framed),
                    Some(Out::Alone(frame)) if frames.is_empty() => {
                        put_frame(frames, frame.as_bytes());
                        is_alone = true;
                    }
                    Some(Out::Alone(frame)) => {
                        self.held = Some(frame);
                        break;
                    }
                    None => break,
                }
            }
            let was_empty = frames.is_empty();
            let sent = self.socket.wire.poll_send(context, frames);
            if frames.capacity() > 4 * WRITE {
                *frames = Vec::new();
            }
            if let Poll::Ready(Err(error)) = sent {
                return Err(error);
            }
            // What answers a ping may have waited on the wire, without any frame of ours.
            if was_empty && sent.is_ready() {
                return Ok(false);
            }
            let (began, from) = (Instant::now(), self.socket.wire.moved().written);
            self.writing = Some(Writing { began, by: began + self.limits.write_timeout.0, from, is_alone, is_timed: false });
            if sent.is_ready() {
                self.written();
            }
            Ok(true)
        })
    }

    /// Everything written has left.
    fn written(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        self.session.sent();
        if writing.is_alone {
            self.session.flushed();
        }
        // Who took a long write was there, though nothing could be read meanwhile.
        if writing.is_timed && writing.began.elapsed() > FAREWELL {
            self.clocks.heard = Instant::now();
        }
    }
}

fn lost(error: &std::io::Error) -> Option<CloseCode> {
    tracing::debug!(%error, "the socket broke");
    None
}
