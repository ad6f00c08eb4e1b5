//! What is announced, with one encoding per kind of codec, made on first need and shared by all who need it.

use crate::domain::{Audience, Conversation, Person, Role, Sight};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};
use tieline_protocol::ids::{ConversationId, DialogId};
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data as OpData, OpCode};

/// A text ready to be sent, shared without copying.
pub type Frame = tokio_tungstenite::tungstenite::Utf8Bytes;

/// How many kinds of encoding there can be.
pub const SLOTS: usize = 8;

/// A kind of encoding: codecs that encode alike share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub usize);

#[derive(Debug, Default)]
struct Frames([OnceLock<Frame>; SLOTS]);

impl Frames {
    fn get(&self, Slot(slot): Slot, encode: impl FnOnce() -> Frame) -> Frame {
        self.0[slot].get_or_init(encode).clone()
    }
}

/// Makes the text of an event; nothing, if it is not shown.
type Encode = dyn Fn(&Sight) -> Option<String> + Send + Sync;

/// How one event is told to who is there when it happens, as text; nothing, if it is not shown.
#[derive(Clone)]
pub enum EventEncoder {
    /// As to everybody of the slot: it is made once for all of them.
    Shared(Slot, fn(&Sight) -> Option<String>),
    /// As to nobody else.
    Own(Arc<Encode>),
}

impl std::fmt::Debug for EventEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shared(slot, _) => slot.fmt(f),
            Self::Own(_) => f.write_str("Own"),
        }
    }
}

impl EventEncoder {
    /// An event as text.
    #[must_use]
    pub fn encode(&self, sight: &Sight) -> Option<String> {
        match self {
            Self::Shared(_, encode) => encode(sight),
            Self::Own(encode) => encode(sight),
        }
    }
}

/// Consecutive events of one dialog that were committed together, on their way to those who follow it.
#[derive(Debug)]
pub struct Run {
    /// The dialog.
    pub dialog: DialogId,
    /// The entries, by number and without holes.
    pub events: Vec<Arc<Sight>>,
    /// Who should hear of all of them.
    pub audience: Arc<Audience>,
    /// The number of the first.
    pub first: u64,
    /// Whether some are only for the brand's side.
    pub has_whispers: bool,
    bytes: usize,
    encoded: [OnceLock<Encoded>; SLOTS],
}

/// The frames of a run, one for each event, as they go over a socket.
#[derive(Debug, Clone)]
pub struct Encoded {
    frames: Bytes,
    /// Where each ends.
    ends: Vec<usize>,
    /// Whether there is a frame for each event.
    is_whole: bool,
}

/// Most events and bytes of one run.
const RUN: usize = 128;
const RUN_BYTES: usize = 128 * 1024;

impl Run {
    /// Begins a run; nothing, if the entry is no event or nobody is known who should hear of it.
    pub(super) fn begin(sight: Arc<Sight>) -> Option<Self> {
        let audience = sight.audience.clone()?;
        let message = sight.message()?;
        let (dialog, first, has_whispers, bytes) = (message.dialog.clone(), message.sequence, message.whisper, message.bytes());
        Some(Self { dialog, events: vec![sight], audience, first, has_whispers, bytes, encoded: Default::default() })
    }

    /// Adds the next event of the dialog; it is given back where it does not go with the others.
    pub(super) fn add(&mut self, sight: Arc<Sight>) -> Result<(), Arc<Sight>> {
        let Some(message) = sight.message() else { return Err(sight) };
        let is_next = message.dialog == self.dialog && message.sequence == self.end();
        let is_same = sight.audience.as_ref().is_some_and(|audience| Arc::ptr_eq(audience, &self.audience));
        if !is_next || !is_same || self.events.len() >= RUN || self.bytes >= RUN_BYTES {
            return Err(sight);
        }
        self.has_whispers |= message.whisper;
        self.bytes += message.bytes();
        self.events.push(sight);
        Ok(())
    }

    /// The number behind the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// About how many bytes it keeps alive.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames as an encoder makes them.
    pub fn encoded(&self, encoder: &EventEncoder) -> Cow<'_, Encoded> {
        match encoder {
            EventEncoder::Shared(Slot(slot), encode) => Cow::Borrowed(self.encoded[*slot].get_or_init(|| self.encode(encode))),
            EventEncoder::Own(encode) => Cow::Owned(self.encode(&**encode)),
        }
    }

    fn encode(&self, encode: impl Fn(&Sight) -> Option<String>) -> Encoded {
        // What surrounds a message is about as long again as a short one.
        let mut frames = Vec::with_capacity(self.bytes + self.events.len() * 512);
        let mut ends = Vec::with_capacity(self.events.len());
        let mut is_whole = true;
        for sight in &self.events {
            match encode(sight) {
                Some(text) => put_frame(&mut frames, text.as_bytes()),
                None => is_whole = false,
            }
            ends.push(frames.len());
        }
        Encoded { frames: frames.into(), ends, is_whole }
    }
}

impl Encoded {
    /// The frames of some of the events, by their places in the run.
    #[must_use]
    pub fn of(&self, places: std::ops::Range<usize>) -> Bytes {
        let end = |place: usize| place.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        self.frames.slice(end(places.start)..end(places.end))
    }

    /// Whether every event is shown.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Bytes {
        self.frames.clone()
    }
}

/// Appends a text to what goes over a socket, as one frame of a server.
pub fn put_frame(to: &mut Vec<u8>, text: &[u8]) {
    let header = FrameHeader { opcode: OpCode::Data(OpData::Text), ..FrameHeader::default() };
    // A vector takes everything.
    let _ = header.format(text.len() as u64, to);
    to.extend_from_slice(text);
}

/// A conversation that changed, as it was and as it is.
#[derive(Debug)]
pub struct ConversationChange {
    /// As it was when those who hear this last heard of it; nothing, if it is new.
    pub before: Option<Conversation>,
    /// As it is.
    pub after: Conversation,
    frames: Arc<Frames>,
}

impl ConversationChange {
    /// A change from one state to another.
    #[must_use]
    pub fn new(before: Option<Conversation>, after: Conversation) -> Self {
        Self { before, after, frames: Arc::default() }
    }

    /// The same for somebody who last heard of it as it was earlier. It says the same of what it is now, and is encoded once for
    /// all.
    #[must_use]
    pub fn since(&self, before: Option<Conversation>) -> Self {
        Self { before, after: self.after.clone(), frames: self.frames.clone() }
    }

    /// The conversation.
    #[must_use]
    pub fn id(&self) -> &ConversationId {
        &self.after.details.id
    }

    /// What the codec of a slot makes of the conversation as it is.
    pub fn frame(&self, slot: Slot, encode: impl FnOnce(&Conversation) -> Frame) -> Frame {
        // To find a counter costs more than to count.
        static ENCODED: LazyLock<metrics::Counter> = LazyLock::new(|| metrics::counter!("tieline_conversation_encodings_total"));
        self.frames.get(slot, || {
            ENCODED.increment(1);
            encode(&self.after)
        })
    }
}

/// Adds a change to those that wait, one for each conversation: from its oldest *before* to its newest *after*.
pub fn coalesce(changes: &mut HashMap<ConversationId, Arc<ConversationChange>>, change: Arc<ConversationChange>) {
    match changes.get_mut(change.id()) {
        Some(earlier) if earlier.after.version < change.after.version => {
            *earlier = Arc::new(change.since(earlier.before.clone()));
        }
        Some(_) => {}
        None => {
            changes.insert(change.id().clone(), change);
        }
    }
}

/// Somebody is typing.
#[derive(Debug)]
pub struct Typing {
    /// Who should see it.
    pub audience: Arc<Audience>,
    /// The conversation as it is, which need not be at hand otherwise.
    pub conversation: Conversation,
    /// Where.
    pub dialog: DialogId,
    /// Who types.
    pub from: Person,
    /// In which role.
    pub role: Role,
    /// The event as it came.
    pub event: Box<RawValue>,
    /// Whether only the brand's side may see it.
    pub whisper: bool,
    frames: Frames,
}

impl Typing {
    /// A typing state of somebody in a role.
    #[must_use]
    pub fn new(conversation: Conversation, dialog: DialogId, (from, role): (Person, Role), event: Box<RawValue>, whisper: bool) -> Self {
        Self { audience: conversation.audience.clone(), conversation, dialog, from, role, event, whisper, frames: Frames::default() }
    }

    /// The encoding of a slot.
    pub fn frame(&self, slot: Slot, encode: impl FnOnce(&Self) -> Frame) -> Frame {
        self.frames.get(slot, || encode(self))
    }
}
