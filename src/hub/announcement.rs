//! What is announced, with one encoding per kind of codec, made on first need and shared by all who need it.

use crate::domain::{Audience, Conversation, Person, Role, Sight};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use tieline_protocol::ids::{ConversationId, DialogId};

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

/// A committed event on its way to those who follow its dialog.
#[derive(Debug)]
pub struct Announcement {
    /// The entry.
    pub sight: Arc<Sight>,
    frames: Frames,
}

impl Announcement {
    pub(super) fn new(sight: Arc<Sight>) -> Self {
        Self { sight, frames: Frames::default() }
    }

    /// The encoding of a slot.
    pub fn frame(&self, slot: Slot, encode: impl FnOnce(&Arc<Sight>) -> Frame) -> Frame {
        self.frames.get(slot, || encode(&self.sight))
    }
}

/// A conversation that changed, as it was and as it is.
#[derive(Debug)]
pub struct ConversationChange {
    /// As it was when those who hear this last heard of it; nothing, if it is new.
    pub before: Option<Conversation>,
    /// As it is.
    pub after: Conversation,
    frames: Frames,
}

impl ConversationChange {
    /// A change from one state to another.
    #[must_use]
    pub fn new(before: Option<Conversation>, after: Conversation) -> Self {
        Self { before, after, frames: Frames::default() }
    }

    /// The conversation.
    #[must_use]
    pub fn id(&self) -> &ConversationId {
        &self.after.details.id
    }

    /// What the codec of a slot makes of the conversation as it is.
    pub fn frame(&self, slot: Slot, encode: impl FnOnce(&Conversation) -> Frame) -> Frame {
        self.frames.get(slot, || encode(&self.after))
    }
}

/// Adds a change to those that wait, one for each conversation: from its oldest *before* to its newest *after*.
pub fn coalesce(changes: &mut HashMap<ConversationId, Arc<ConversationChange>>, change: Arc<ConversationChange>) {
    match changes.get_mut(change.id()) {
        Some(earlier) if earlier.after.version < change.after.version => {
            *earlier = Arc::new(ConversationChange::new(earlier.before.clone(), change.after.clone()));
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
    pub fn new(audience: Arc<Audience>, dialog: DialogId, (from, role): (Person, Role), event: Box<RawValue>, whisper: bool) -> Self {
        Self { audience, dialog, from, role, event, whisper, frames: Frames::default() }
    }

    /// The encoding of a slot.
    pub fn frame(&self, slot: Slot, encode: impl FnOnce(&Self) -> Frame) -> Frame {
        self.frames.get(slot, || encode(self))
    }
}
