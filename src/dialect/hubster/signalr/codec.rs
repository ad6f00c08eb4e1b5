//! A connection that has shaken hands: what its client says, and what it is told.

use super::super::error::{Code, Fault};
use super::view::{Reach, View};
use super::wire::{self, END, PING, Said};
use crate::domain::Millis;
use crate::gateway::{Error, Fed};
use crate::hub::{EventEncoder, Frame, Slot, Typing};
use crate::session::{Answer, Ask, Asked, BatchEncoder, Codec};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::{Advice, CloseCode};

/// How often a client hears something: half of what it waits for.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Longest part of a message that is kept until the rest comes: what the vendor's hub reads at most.
const LONGEST_PART: usize = 32 * 1024;

/// The codec of a connection.
pub struct EventsCodec {
    view: Arc<View>,
    /// The beginning of a message of which the end is to come.
    part: String,
    /// Why it could not begin: there is nothing to stay for.
    over: Option<Fault>,
}

impl std::fmt::Debug for EventsCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventsCodec").finish_non_exhaustive()
    }
}

/// What a reply must know of its request.
#[derive(Debug)]
pub enum Tag {
    /// That it begins to follow what it is shown.
    Begin,
    /// Nothing is said to it.
    Silent,
    /// It calls what is not there.
    Call {
        /// The call's id.
        id: String,
        /// The method.
        method: String,
    },
    /// It cannot be read.
    Unreadable,
}

impl EventsCodec {
    pub(super) fn new(view: View) -> Self {
        Self { view: Arc::new(view), part: String::new(), over: None }
    }
}

/// A whole message without its end, with what came of it before; none yet, if this is a part.
fn whole(part: &mut String, text: &str) -> Result<Option<String>, String> {
    match text.strip_suffix(END) {
        Some(rest) => {
            let mut whole = std::mem::take(part);
            whole.push_str(rest);
            Ok(Some(whole))
        }
        None if part.len() + text.len() > LONGEST_PART => {
            *part = String::new();
            Err(format!("a message in parts has at most {LONGEST_PART} bytes"))
        }
        None => {
            part.push_str(text);
            Ok(None)
        }
    }
}

/// What is said last to who could not begin: whom only the moment refuses should come back by itself.
fn last_words(fault: &Fault) -> String {
    wire::closing(&fault.exception(), fault.is_passing())
}

impl Codec for EventsCodec {
    type Tag = Tag;

    const SEPARATOR: Option<char> = Some(END);
    const FEED_HAS_STATES: bool = true;

    fn slot(&self) -> Slot {
        Slot(7)
    }

    fn encoder(&self) -> EventEncoder {
        match self.view.reach {
            Reach::Conversation(_) => {
                let view = self.view.clone();
                EventEncoder::Own(Arc::new(move |sight| view.event(sight)))
            }
            // It follows its hub's feed, and no single dialogs.
            Reach::Hub(_) => EventEncoder::Shared(self.slot(), |_| None),
        }
    }

    fn hears_unasked(&self) -> bool {
        false
    }

    fn heartbeat(&self) -> Option<(Duration, Frame)> {
        Some((HEARTBEAT, Frame::from_static(PING)))
    }

    fn end(&self) -> Option<CloseCode> {
        self.over.as_ref().map(|fault| if fault.is_passing() { CloseCode::Restart } else { CloseCode::Policy })
    }

    fn farewell(&self, code: CloseCode) -> Option<Frame> {
        if let Some(fault) = &self.over {
            return Some(Frame::from(last_words(fault)));
        }
        let text = match code.advice() {
            Advice::Done => return None,
            // Its position is a time, which means the same in every log.
            Advice::Reconnect | Advice::Afresh => wire::closing(&format!("Connection closed: {}.", code.reason()), true),
            Advice::NewToken => wire::closing(&Fault::unauthorised().exception(), false),
            Advice::Fix => {
                let fault =
                    Fault::new(Code::BadFormat, "Messages cannot be read, are too many or too large, or did not come to their ends.");
                wire::closing(&fault.exception(), false)
            }
        };
        Some(Frame::from(text))
    }

    fn decode(&mut self, text: &str) -> Asked<Tag> {
        let said = whole(&mut self.part, text).and_then(|whole| whole.as_deref().map_or(Ok(Said::Nothing), wire::read));
        match said {
            Ok(Said::Nothing) => Asked { tag: Tag::Silent, ask: Ask::Nothing },
            Ok(Said::Call { id, method }) => Asked { tag: Tag::Call { id, method }, ask: Ask::Nothing },
            Err(reason) => Asked { tag: Tag::Unreadable, ask: Ask::Bad(Error::invalid(reason)) },
        }
    }

    fn name(&self, tag: &Tag) -> &'static str {
        match tag {
            Tag::Begin => "signalr.Begin",
            Tag::Silent => "signalr.Message",
            Tag::Call { .. } => "signalr.Invocation",
            Tag::Unreadable => "unknown",
        }
    }

    fn reply(&mut self, tag: Tag, result: Result<Answer, Error>) -> Option<Frame> {
        match (tag, result) {
            (Tag::Call { id, method }, _) => Some(Frame::from(wire::unknown(&id, &method))),
            (Tag::Begin, Err(error)) => {
                self.over = Some(error.into());
                None
            }
            (Tag::Begin, Ok(_)) | (Tag::Silent | Tag::Unreadable, _) => None,
        }
    }

    fn batch_encoder(&self) -> BatchEncoder {
        let view = self.view.clone();
        Arc::new(move |_, sights| sights.iter().filter_map(|sight| view.event(sight)).map(Frame::from).collect())
    }

    fn shows_typing(&self, typing: &Typing) -> bool {
        self.view.shows(typing)
    }

    fn typing(&self, typing: &Typing) -> Frame {
        // It was there a moment ago; if it is not any more, a sign of life does no harm.
        self.view.typing(typing).map_or(Frame::from_static(PING), Frame::from)
    }

    fn feed(&self, _: &str, _: Millis, entries: &[Fed]) -> Vec<Frame> {
        entries.iter().filter_map(|fed| self.view.entry(&fed.sight, fed.conversation.as_ref()?)).map(Frame::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tieline_protocol::code::ErrorCode;

    #[test]
    fn a_message_is_put_together_from_its_parts_and_an_endless_one_given_up() {
        let mut part = String::new();
        assert_eq!(whole(&mut part, "{\"type\":"), Ok(None));
        assert_eq!(whole(&mut part, ""), Ok(None));
        assert_eq!(whole(&mut part, "6}\u{1e}"), Ok(Some("{\"type\":6}".to_owned())));
        assert_eq!(whole(&mut part, "\u{1e}"), Ok(Some(String::new())));
        assert_eq!(whole(&mut part, &"x".repeat(LONGEST_PART)), Ok(None));
        assert!(whole(&mut part, "y").is_err());
        assert_eq!(whole(&mut part, "{}\u{1e}"), Ok(Some("{}".to_owned())), "what comes then is read for itself");
    }

    #[test]
    fn who_could_not_begin_comes_back_if_only_the_moment_was_wrong() {
        let fault = |code| Fault::from(Error::fault(code, "why"));
        for (fault, comes_back) in [
            (Error::Unreadable.into(), true),
            (fault(ErrorCode::Busy), true),
            (fault(ErrorCode::TooMany), true),
            (Fault::no_conversation(), false),
            (Fault::unauthorised(), false),
        ] {
            assert_eq!(last_words(&fault).contains("\"allowReconnect\":true"), comes_back, "{fault:?}");
        }
    }
}
