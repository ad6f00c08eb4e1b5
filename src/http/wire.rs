//! The wire of one WebSocket: its stream, and those bytes of whole frames that the stream has not taken yet.
//!
//! The socket's task and whoever announces events write to it in turns; a frame is put down whole, so frames never mix. What
//! the stream does not take at once stays here, and the task sees that it leaves. Framing is tungstenite's: it reads through
//! [`Socket`], which never lets it write to the stream itself.

use crate::hub::{Line, Sent};
use crate::identity::Lease;
use futures::future::poll_fn;
use futures::task::noop_waker_ref;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};

/// Room for unsent bytes that a wire keeps when there are none.
const KEPT: usize = 1024;

#[derive(Debug)]
pub(super) struct Wire(Mutex<State>);

#[derive(Debug)]
struct State {
    io: TokioIo<Upgraded>,
    /// What the stream has not taken, from `sent` on.
    rest: Vec<u8>,
    sent: usize,
    is_flushed: bool,
    /// What went wrong with a write of which the task has not heard.
    failed: Option<io::Error>,
}

impl State {
    fn has_rest(&self) -> bool {
        self.sent < self.rest.len()
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        match ready!(Pin::new(&mut self.io).poll_write(context, bytes)) {
            Ok(0) => Poll::Ready(Err(ErrorKind::WriteZero.into())),
            done => Poll::Ready(done),
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
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut buffer = ReadBuf::new(bytes);
        ready!(Pin::new(&mut self.lock().io).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

/// The wire of a session, for those who announce events.
#[derive(Debug)]
pub(super) struct LeasedLine {
    pub(super) wire: Arc<Wire>,
    /// Whose end is the end of what is told.
    pub(super) lease: Lease,
}

impl Line for LeasedLine {
    fn send(&self, frames: &Bytes) -> Sent {
        if self.lease.is_over() {
            return Sent::Nothing;
        }
        let mut state = self.wire.lock();
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
    pub(super) fn new(io: Upgraded, config: WebSocketConfig) -> Self {
        let state = State { io: TokioIo::new(io), rest: Vec::new(), sent: 0, is_flushed: true, failed: None };
        Self { protocol: WebSocketContext::new(Role::Server, Some(config)), wire: Arc::new(Wire(Mutex::new(state))) }
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
