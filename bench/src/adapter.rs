//! What differs between servers.

use std::fmt::Debug;
use tokio_tungstenite::tungstenite::Message;

/// What a connection is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publishes into its channel.
    Publisher,
    /// Hears what is published into its channel.
    Subscriber,
}

/// One connection.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// Its number among those of a run, from 0.
    pub number: usize,
    /// What it is there for.
    pub role: Role,
    /// Of which channel.
    pub channel: u32,
}

/// Something that a frame says.
#[derive(Debug)]
pub enum Said {
    /// The connection is let in, and subscribed if it is a subscriber's.
    Ready,
    /// The oldest publish of this connection that was not acked yet is acked.
    Ack,
    /// A delivery.
    Message(crate::mark::Mark),
    /// The server does not do what it was asked.
    Refused(String),
}

/// The state of one connection, for an adapter's use.
#[derive(Debug)]
pub struct Talk {
    /// Which connection it is.
    pub seat: Seat,
    /// How far an opening has got; what the numbers mean is the adapter's to say.
    pub step: u32,
    /// How many were published.
    pub published: u64,
    /// Bytes of a frame that is not complete, where a protocol does not keep to WebSocket's frames.
    pub rest: Vec<u8>,
    /// What is to be sent next.
    pub out: Vec<Message>,
}

impl Talk {
    /// At the beginning.
    #[must_use]
    pub fn new(seat: Seat) -> Self {
        Self { seat, step: 0, published: 0, rest: Vec::new(), out: Vec::new() }
    }

    /// Whether it is a publisher's.
    #[must_use]
    pub fn publishes(&self) -> bool {
        self.seat.role == Role::Publisher
    }
}

/// How a kind of server is talked to. Deliveries of a connection are told in the order in which they came, each once; acks in
/// the order of the publishes.
pub trait Adapter: Debug + Send + Sync + 'static {
    /// The path and query of the upgrade.
    fn path(&self, seat: &Seat) -> String;

    /// Headers of the upgrade.
    fn headers(&self, _seat: &Seat) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The upgrade is done: puts into `out` what comes first. Whether the connection is ready with that.
    fn open(&self, talk: &mut Talk) -> bool;

    /// Tells what a frame says; what is to be answered goes into `out`.
    fn hear(&self, talk: &mut Talk, frame: &[u8], tell: &mut dyn FnMut(Said));

    /// Puts a publish of this body into `out`.
    fn publish(&self, talk: &mut Talk, body: &str);

    /// Whether a publisher is told that its message was taken.
    fn acks(&self) -> bool {
        true
    }
}

/// Tells each message whose mark is in a frame; how many there were.
pub fn tell_marks(frame: &[u8], tell: &mut dyn FnMut(Said)) -> usize {
    let (mut rest, mut count) = (frame, 0);
    while let Some((mark, behind)) = crate::mark::Mark::find(rest) {
        tell(Said::Message(mark));
        (rest, count) = (behind, count + 1);
    }
    count
}

/// Whether this is in a frame.
#[must_use]
pub fn has(frame: &[u8], part: &str) -> bool {
    memchr::memmem::find(frame, part.as_bytes()).is_some()
}

/// The beginning of a frame, to be shown.
#[must_use]
pub fn shown(frame: &[u8]) -> String {
    String::from_utf8_lossy(&frame[..frame.len().min(200)]).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
