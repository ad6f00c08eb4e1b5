//! The wire of one WebSocket: its stream, and those bytes of whole frames that the stream has not taken yet.
//!
//! The socket's task and whoever has an event or an answer for it write to it in turns; a frame is put down whole, so frames never
//! mix. What the stream does not take at once stays here, and the task sees that it leaves. Framing is tungstenite's: it reads
//! through [`Socket`], which never lets it write to the stream itself.

use crate::hub::{Line, Sent};
use crate::identity::Lease;
use futures::future::poll_fn;
use futures::task::noop_waker_ref;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};

/// Room for unsent bytes that a wire keeps when there are none.
const KEPT: usize = 1024;

/// What is under a WebSocket, taken out of the HTTP connection that it was.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// What the listener serves, with the bytes that came along with the request; none for anything else.
    pub(super) fn of(upgraded: Upgraded) -> Option<(Self, Bytes)> {
        let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<Rewound>>().ok()?;
        let Rewound { early, stream } = io.into_inner();
        if early.is_empty() {
            return Some((stream, read_buf));
        }
        // What was read first and not taken comes behind what was taken.
        Some((stream, [read_buf, early].concat().into()))
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // It keeps nothing back.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}

/// A stream of which something was read, for whoever has to begin at its beginning.
#[derive(Debug)]
pub(super) struct Rewound {
    early: Bytes,
    stream: Stream,
}

impl Rewound {
    pub(super) fn new(early: Bytes, stream: Stream) -> Self {
        Self { early, stream }
    }

    /// Whether it is encrypted, by us.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return self.stream.poll_read(context, buffer);
        }
        let some = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early.split_to(some));
        if self.early.is_empty() {
            // Else it would hold on to the buffer for as long as the connection lives.
            self.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    state: Mutex<State>,
    /// Whose end is the end of what announcers write.
    lease: OnceLock<Lease>,
}

#[derive(Debug)]
struct State {
    stream: Stream,
    /// Bytes that were read with the upgrade request.
    early: Bytes,
    /// How many bytes were read and written.
    moved: Moved,
    /// What the stream has not taken, from `sent` on.
    rest: Vec<u8>,
    sent: usize,
    is_flushed: bool,
    /// What went wrong with a write of which the task has not heard.
    failed: Option<io::Error>,
}

/// How many bytes went over a wire, so that a message which never ends is noticed, and a peer that takes nothing is told from
/// one that is slow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved {
    pub(super) read: u64,
    pub(super) written: u64,
}

impl State {
    fn has_rest(&self) -> bool {
        self.sent < self.rest.len()
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        match ready!(self.stream.poll_write(context, bytes)) {
            Ok(0) => Poll::Ready(Err(ErrorKind::WriteZero.into())),
            Ok(written) => {
                self.moved.written += written as u64;
                Poll::Ready(Ok(written))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Writes frames, behind those that wait. What is not taken waits, too.
    fn poll_send(&mut self, context: &mut Context<'_>, mut frames: &[u8]) -> Poll<io::Result<()>> {
        while !self.has_rest() && !frames.is_empty() {
            match self.poll_write(context, frames) {
                Poll::Ready(Ok(written)) => frames = &frames[written..],
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        self.rest.extend_from_slice(frames);
        self.poll_flush(context)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        while self.has_rest() {
            let rest = std::mem::take(&mut self.rest);
            let written = self.poll_write(context, &rest[self.sent..]);
            self.rest = rest;
            self.sent += ready!(written)?;
        }
        if self.sent > 0 {
            self.sent = 0;
            self.rest.clear();
            self.rest.shrink_to(KEPT);
        }
        if !self.is_flushed {
            ready!(self.stream.poll_flush(context))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says by whose leave announcers may write, once.
    pub(super) fn lease(&self, lease: Lease) {
        let _ = self.lease.set(lease);
    }

    pub(super) fn moved(&self) -> Moved {
        self.lock().moved
    }

    /// Sends whole frames. If that is pending they are taken nevertheless: the rest leaves with [`Wire::poll_flush`].
    pub(super) fn poll_send(&self, context: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<()>> {
        self.lock().poll_send(context, frames)
    }

    /// Sends what waits.
    pub(super) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_flush(context)
    }

    pub(super) async fn flush(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Reads bytes as they come.
    pub(super) fn poll_read(&self, context: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let mut buffer = ReadBuf::new(bytes);
        if state.early.is_empty() {
            ready!(state.stream.poll_read(context, &mut buffer))?;
        } else {
            let some = state.early.len().min(buffer.remaining());
            buffer.put_slice(&state.early.split_to(some));
        }
        let read = buffer.filled().len();
        state.moved.read += read as u64;
        Poll::Ready(Ok(read))
    }
}

impl Line for Wire {
    fn approach(&self) {
        std::hint::black_box(self.state.is_poisoned());
    }

    fn send(&self, frames: &[u8]) -> Sent {
        if self.lease.get().is_none_or(Lease::is_over) {
            return Sent::Nothing;
        }
        let mut state = self.lock();
        // Nobody is to be woken by the stream: where something is left, the session's task is told to take over.
        match state.poll_send(&mut Context::from_waker(noop_waker_ref()), frames) {
            Poll::Ready(Ok(())) => Sent::All,
            Poll::Pending => Sent::Part,
            Poll::Ready(Err(error)) => {
                state.failed = Some(error);
                Sent::Part
            }
        }
    }
}

/// A WebSocket of a server: tungstenite's protocol over a wire.
#[derive(Debug)]
pub(super) struct Socket {
    protocol: WebSocketContext,
    pub(super) wire: Arc<Wire>,
}

impl Socket {
    pub(super) fn new((stream, early): (Stream, Bytes), config: WebSocketConfig) -> Self {
        // No bytes, too, would hold on to the buffer that the request was read into.
        let early = if early.is_empty() { Bytes::new() } else { early };
        let state = State { stream, early, moved: Moved::default(), rest: Vec::new(), sent: 0, is_flushed: true, failed: None };
        let wire = Arc::new(Wire { state: Mutex::new(state), lease: OnceLock::new() });
        Self { protocol: WebSocketContext::new(Role::Server, Some(config)), wire }
    }

    /// The next message. The answer to a ping or a close waits on the wire when it is here.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Message, WsError>> {
        let mut duct = Duct { wire: &self.wire, context: Some(context) };
        let read = self.protocol.read(&mut duct);
        match read {
            Err(WsError::Io(error)) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Ok(message) if message.is_text() => Poll::Ready(Ok(message)),
            Ok(message) => {
                // Only what answers a close can fail here, for nothing comes after it.
                let _ = self.protocol.flush(&mut Duct { wire: &self.wire, context: None });
                Poll::Ready(Ok(message))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Message, WsError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Puts a message on the wire.
    pub(super) fn put(&mut self, message: Message) -> Result<(), WsError> {
        let mut duct = Duct { wire: &self.wire, context: None };
        self.protocol.write(&mut duct, message)?;
        self.protocol.flush(&mut duct)
    }

    pub(super) async fn send(&mut self, message: Message) -> Result<(), WsError> {
        self.put(message)?;
        Ok(self.wire.flush().await?)
    }
}

/// What the protocol reads from and writes to.
struct Duct<'d, 'c> {
    wire: &'d Wire,
    /// None where nothing is to be read.
    context: Option<&'d mut Context<'c>>,
}

impl Read for Duct<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.context.as_deref_mut().map(|context| self.wire.poll_read(context, bytes)) {
            Some(Poll::Ready(read)) => read,
            Some(Poll::Pending) | None => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Duct<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.lock().rest.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // It leaves in the task's own time.
        Ok(())
    }
}
