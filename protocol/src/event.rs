//! What `ms.PublishEvent` carries: the event, read as deep as the gateway must and otherwise left as text.

use crate::json::Text;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What kind of event a stored text holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventClass {
    /// A message: text, a file, a form.
    Content,
    /// A structured card.
    Rich,
    /// A receipt: accepted, read, acted upon.
    Receipt,
}

/// An event as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Stored, numbered, pushed and replayed.
    Stored(EventClass),
    /// A typing state: pushed to who is there, neither stored nor numbered.
    Typing,
}

/// Longest texts, in characters.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// A plain text.
    pub text: usize,
    /// The JSON text of rich content.
    pub rich: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { text: 8_000, rich: 15_000 }
    }
}

/// Why an event was refused: a sentence without its end.
pub type Reason = Cow<'static, str>;

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, rename = "contentType", default)]
    content_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, rename = "sequenceList", default)]
    sequence_list: Option<&'a RawValue>,
    #[serde(borrow, rename = "chatState", default)]
    chat_state: Option<Text<'a>>,
}

/// Reads what must be known of an event to accept it. Its text is kept as it is.
///
/// # Errors
/// A [`Reason`] that names the member at fault and what it should be.
pub fn inspect(event: &RawValue, limits: EventLimits) -> Result<Event, Reason> {
    if !event.get().starts_with('{') {
        return Err("event is not understood: it must be an object".into());
    }
    let raw: Raw<'_> = serde_json::from_str(event.get()).map_err(|error| format!("event is not understood: {error}"))?;
    match raw.kind.as_deref() {
        Some("ContentEvent") => content(&raw, limits),
        Some("RichContentEvent") => rich(&raw, limits),
        Some("AcceptStatusEvent") => receipt(&raw),
        Some("ChatStateEvent") => match raw.chat_state {
            Some(_) => Ok(Event::Typing),
            None => Err("chatState is missing".into()),
        },
        Some(other) => Err(format!(
            "event type {other:?} is not known; it must be ContentEvent, RichContentEvent, AcceptStatusEvent or ChatStateEvent"
        )
        .into()),
        None => Err("event.type is missing".into()),
    }
}

/// The path of the file that an event shows, if it shows one of the gateway's own (`hosted/file`).
#[must_use]
pub fn hosted_file(event: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Hosted<'a> {
        #[serde(borrow, rename = "contentType")]
        content_type: Cow<'a, str>,
        message: File,
    }
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "relativePath", default)]
        relative_path: String,
    }
    // Nearly no event is one, and looking costs less than reading.
    if !event.get().contains("hosted") {
        return None;
    }
    let hosted: Hosted<'_> = serde_json::from_str(event.get()).ok()?;
    (hosted.content_type == "hosted/file").then_some(hosted.message.relative_path)
}

/// The numbers of the events of which a receipt says that they were read; none, if it says something else.
#[must_use]
pub fn read_numbers(receipt: &RawValue) -> Vec<u64> {
    #[derive(Deserialize)]
    struct Receipt<'a> {
        #[serde(borrow)]
        status: Cow<'a, str>,
        #[serde(rename = "sequenceList")]
        sequences: Vec<u64>,
    }
    match serde_json::from_str::<Receipt<'_>>(receipt.get()) {
        Ok(receipt) if receipt.status == "READ" => receipt.sequences,
        _ => Vec::new(),
    }
}

fn content(raw: &Raw<'_>, limits: EventLimits) -> Result<Event, Reason> {
    let Some(message) = raw.message.filter(|message| message.get() != "null") else { return Err("message is missing".into()) };
    let plain = raw.content_type.as_deref().is_none_or(|kind| kind == "text/plain");
    let (is_text, is_object) = (message.get().starts_with('"'), message.get().starts_with('{'));
    match (plain, is_text, is_object) {
        (true, true, _) => {
            let text: Text<'_> = serde_json::from_str(message.get()).map_err(|error| format!("message is not text: {error}"))?;
            let length = text.chars().count();
            if length > limits.text {
                return Err(format!("message has {length} characters; the limit is {}", limits.text).into());
            }
            Ok(Event::Stored(EventClass::Content))
        }
        (true, ..) => Err("message must be a string".into()),
        (false, false, false) => Err("message must be a string or an object".into()),
        (false, ..) => Ok(Event::Stored(EventClass::Content)),
    }
}

fn rich(raw: &Raw<'_>, limits: EventLimits) -> Result<Event, Reason> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type")]
        _kind: Cow<'a, str>,
    }
    let Some(content) = raw.content else { return Err("content is missing".into()) };
    if serde_json::from_str::<Typed<'_>>(content.get()).is_err() {
        return Err("content must be an object with a type".into());
    }
    let length = content.get().chars().count();
    if length > limits.rich {
        return Err(format!("content has {length} characters; the limit is {}", limits.rich).into());
    }
    Ok(Event::Stored(EventClass::Rich))
}

fn receipt(raw: &Raw<'_>) -> Result<Event, Reason> {
    const STATUSES: [&str; 9] = ["ACCEPT", "READ", "ACCESS", "NACK", "ACTION", "ENRICH", "VIEWED", "ABORTED", "ERROR"];
    match raw.status.as_deref() {
        None => return Err("status is missing".into()),
        Some(status) if !STATUSES.contains(&status) => {
            return Err(format!("status {status:?} is not known; it must be one of {}", STATUSES.join(", ")).into());
        }
        Some(_) => {}
    }
    let list = raw.sequence_list.map(|list| serde_json::from_str::<Vec<u64>>(list.get()));
    match list {
        Some(Ok(_)) => Ok(Event::Stored(EventClass::Receipt)),
        Some(Err(_)) => Err("sequenceList must be an array of sequence numbers".into()),
        None => Err("sequenceList is missing".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Event, String> {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        inspect(&raw, EventLimits { text: 5, rich: 40 }).map_err(Cow::into_owned)
    }

    #[test]
    fn each_type_is_told_apart() {
        use EventClass as C;
        for (text, event) in [
            (r#"{"type":"ContentEvent","contentType":"text/plain","message":"hello"}"#, Event::Stored(C::Content)),
            (r#"{"type":"ContentEvent","message":"hi"}"#, Event::Stored(C::Content)),
            (r#"{"type":"ContentEvent","contentType":"hosted/file","message":{"relativePath":"a"}}"#, Event::Stored(C::Content)),
            (r#"{"type":"RichContentEvent","content":{"type":"text","text":"a"}}"#, Event::Stored(C::Rich)),
            (r#"{"type":"AcceptStatusEvent","status":"READ","sequenceList":[3,4]}"#, Event::Stored(C::Receipt)),
            (r#"{"type":"ChatStateEvent","chatState":"COMPOSING"}"#, Event::Typing),
        ] {
            assert_eq!(read(text), Ok(event), "{text}");
        }
    }

    #[test]
    fn only_a_hosted_file_has_a_path() {
        let path = |text: &str| hosted_file(&serde_json::from_str::<Box<RawValue>>(text).unwrap());
        let file = r#"{"type":"ContentEvent","contentType":"hosted/file","message":{"relativePath":"/files/a"}}"#;
        assert_eq!(path(file).as_deref(), Some("/files/a"));
        assert_eq!(path(r#"{"type":"ContentEvent","contentType":"hosted\/file","message":{"relativePath":"/a"}}"#).as_deref(), Some("/a"));
        assert_eq!(path(r#"{"type":"ContentEvent","contentType":"text/plain","message":"hosted/file"}"#), None);
        assert_eq!(path(r#"{"type":"ContentEvent","contentType":"hosted/file","message":{}}"#).as_deref(), Some(""));
    }

    #[test]
    fn only_a_receipt_of_reading_says_what_was_read() {
        let numbers = |text: &str| read_numbers(&serde_json::from_str::<Box<RawValue>>(text).unwrap());
        assert_eq!(numbers(r#"{"type":"AcceptStatusEvent","status":"READ","sequenceList":[3,4]}"#), [3, 4]);
        for other in [r#"{"type":"AcceptStatusEvent","status":"ACCEPT","sequenceList":[3]}"#, r#"{"status":"READ"}"#, "7"] {
            assert_eq!(numbers(other), [0; 0], "{other}");
        }
    }

    #[test]
    fn a_refusal_names_the_member_at_fault() {
        for (text, reason) in [
            (r#"{"type":"ContentEvent"}"#, "message is missing"),
            (r#"{"type":"ContentEvent","message":"hello!"}"#, "6 characters; the limit is 5"),
            (r#"{"type":"ContentEvent","message":7}"#, "message must be a string"),
            (r#"{"type":"RichContentEvent","content":[]}"#, "an object with a type"),
            (r#"{"type":"RichContentEvent","content":{"type":"text","text":"aaaaaaaaaaaaaaaaaaaa"}}"#, "the limit is 40"),
            (r#"{"type":"AcceptStatusEvent","status":"SEEN","sequenceList":[1]}"#, "\"SEEN\" is not known"),
            (r#"{"type":"AcceptStatusEvent","status":"READ","sequenceList":["1"]}"#, "sequenceList must be"),
            (r#"{"type":"Nonsense"}"#, "\"Nonsense\" is not known"),
            (r"{}", "event.type is missing"),
            (r"[]", "not understood"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert!(read(r#"{"type":"ContentEvent","message":"😀😀😀😀😀"}"#).is_ok());
        assert!(read(r#"{"type":"ContentEvent","message":"\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00"}"#).is_ok());
    }
}
