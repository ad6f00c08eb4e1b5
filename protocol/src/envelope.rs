//! The envelope: requests read from text, responses and notifications written to it.

use crate::json::{self, Text};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Longest request id, in characters.
pub const MAX_ID: usize = 64;
/// Longest `encodedMetadata`, in bytes.
pub const MAX_ENCODED_METADATA: usize = 5 * 1024;

/// A request as it came: its envelope read, its body still text.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The id, as the text that `reqId` repeats. A number is given back as its digits.
    pub id: String,
    /// The message type, in whichever spelling it came.
    pub kind: Cow<'a, str>,
    /// Typed objects beside the body, such as a token.
    pub headers: Vec<Header<'a>>,
    /// An array of typed objects, stored with an event and shown to each receiver.
    pub metadata: Option<&'a RawValue>,
    /// As `metadata`, opaque base64 of at most [`MAX_ENCODED_METADATA`] bytes.
    pub encoded_metadata: Option<Cow<'a, str>>,
    /// The body, unread.
    pub body: Option<&'a RawValue>,
}

/// One typed object of `headers`. Members that this version does not know are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Header<'a> {
    /// What the header is, such as `.ams.headers.ConsumerAuthentication`.
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    /// A token, in the authentication headers.
    #[serde(borrow, default)]
    pub jwt: Option<Text<'a>>,
    /// The key, in an `IdempotencyKey` header.
    #[serde(borrow, default)]
    pub key: Option<Text<'a>>,
    /// All of it, as it came.
    #[serde(skip)]
    pub raw: Option<&'a RawValue>,
}

impl Request<'_> {
    /// The first header of a type, whatever comes before the last dot of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Header<'_>> {
        self.headers.iter().find(|header| header.kind.rsplit('.').next() == Some(name))
    }
}

/// Why a text is no request, and which request it would have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The request's id, if it could be read.
    pub id: Option<String>,
    /// What is wrong, in a sentence without its end.
    pub reason: String,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    type_: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, rename = "encodedMetadata")]
    encoded_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// Reads one request.
///
/// # Errors
/// [`Malformed`] if the text is no JSON object, breaks a limit of [`json`], or a member of the envelope is
/// missing or of the wrong type.
pub fn read(text: &str) -> Result<Request<'_>, Malformed> {
    check(text)?;
    // An array would be taken for an object whose members have no names.
    if !text.trim_start().starts_with('{') {
        return Err(Malformed { id: None, reason: "not a JSON request: it must be an object".into() });
    }
    let raw: Raw<'_> = serde_json::from_str(text).map_err(|error| syntax(text, &error))?;
    let id = match raw.id.map(|id| id_text(id.get())) {
        None => return Err(Malformed { id: None, reason: "the request has no id".into() }),
        Some(None) => return Err(Malformed { id: None, reason: "the id is neither a string nor a number".into() }),
        Some(Some(id)) => id,
    };
    let fail = |reason: &str| Malformed { id: Some(id.clone()), reason: reason.into() };
    if id.is_empty() || id.chars().count() > MAX_ID {
        let reason = format!("the id must have 1 to {MAX_ID} characters");
        return Err(Malformed { id: (!id.is_empty()).then(|| id.chars().take(MAX_ID).collect()), reason });
    }
    match raw.kind.map(text_of) {
        Some(Some(kind)) if kind == "req" => {}
        Some(Some(_)) => return Err(fail("kind must be \"req\": only the gateway sends responses and notifications")),
        _ => return Err(fail("the request has no kind; it must be \"req\"")),
    }
    let Some(kind) = raw.type_.and_then(text_of) else { return Err(fail("the request has no type")) };
    let headers = match raw.headers {
        None => Vec::new(),
        Some(headers) => read_headers(headers).map_err(|_| fail("headers must be an array of objects with a type"))?,
    };
    let encoded_metadata = match raw.encoded_metadata.filter(|value| value.get() != "null") {
        None => None,
        Some(value) => Some(text_of(value).ok_or_else(|| fail("encodedMetadata must be a string"))?),
    };
    if encoded_metadata.as_ref().is_some_and(|text| text.len() > MAX_ENCODED_METADATA) {
        return Err(fail("encodedMetadata is longer than 5120 bytes"));
    }
    let metadata = raw.metadata.filter(|value| value.get() != "null");
    if metadata.is_some_and(|value| !value.get().starts_with('[')) {
        return Err(fail("metadata must be an array of objects"));
    }
    let body = raw.body.filter(|value| value.get() != "null");
    Ok(Request { kind, headers, metadata, encoded_metadata, body, id })
}

fn read_headers(headers: &RawValue) -> serde_json::Result<Vec<Header<'_>>> {
    let each: Vec<&RawValue> = match headers.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str(headers.get())?,
        Some(b'n') => Vec::new(),
        _ => vec![headers],
    };
    each.into_iter().map(|raw| Ok(Header { raw: Some(raw), ..serde_json::from_str(raw.get())? })).collect()
}

/// Splits an array of requests; a text that is no array is one request.
///
/// # Errors
/// [`Malformed`] without an id if the text is no JSON.
pub fn split(text: &str) -> Result<Batch<'_>, Malformed> {
    if !text.trim_start().starts_with('[') {
        return Ok(Batch::One(text));
    }
    check(text)?;
    let parts: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| syntax(text, &error))?;
    Ok(Batch::Many(parts.into_iter().map(RawValue::get).collect()))
}

/// One request or an array of them, still text.
#[derive(Debug)]
pub enum Batch<'a> {
    /// A single request, answered by a single response.
    One(&'a str),
    /// An array, answered by an array, all or nothing.
    Many(Vec<&'a str>),
}

fn check(text: &str) -> Result<(), Malformed> {
    json::check(text).map_err(|fault| Malformed { id: None, reason: fault.to_string() })
}

fn syntax(text: &str, error: &serde_json::Error) -> Malformed {
    // The envelope may still name its request, e.g. when a member is there twice.
    let id = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
        .ok()
        .and_then(|map| id_text(&map.get("id")?.to_string()))
        .filter(|id| !id.is_empty() && id.chars().count() <= MAX_ID);
    Malformed { id, reason: format!("not a JSON request: {error}") }
}

fn id_text(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// An array field, which may be written as its only element.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// An array.
    Many(Vec<T>),
    /// An element that stands for an array of one.
    One(T),
}

impl<T> OneOrMany<T> {
    /// The elements.
    pub fn into_vec(self) -> Vec<T> {
        match self {
            Self::Many(many) => many,
            Self::One(one) => vec![one],
        }
    }
}

/// The code of a response: `"OK"` over the Connector API, an integer elsewhere and in every error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Code {
    /// Success over the Connector API.
    Ok(OkText),
    /// An HTTP status.
    Status(u16),
}

/// The text `"OK"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum OkText {
    /// `"OK"`.
    #[serde(rename = "OK")]
    Ok,
}

/// A response on a WebSocket: `kind`, `reqId`, `code`, `type`, `body`, in this order.
#[derive(Debug, Serialize)]
pub struct Response<'a, B> {
    /// Always `"resp"`.
    pub kind: RespKind,
    /// The request's id, always a string; absent if it could not be read.
    #[serde(rename = "reqId", skip_serializing_if = "Option::is_none")]
    pub req_id: Option<&'a str>,
    /// What became of it, as an HTTP status.
    pub code: u16,
    /// The response's type.
    #[serde(rename = "type")]
    pub kind_name: &'a str,
    /// The result, or a sentence about the error.
    pub body: B,
    /// `true` if this is the stored answer to an earlier request of the same idempotency key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}

/// The text `"resp"`.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum RespKind {
    /// `"resp"`.
    #[serde(rename = "resp")]
    Resp,
}

/// A notification: `kind`, `type`, `body`.
#[derive(Debug, Serialize)]
pub struct Notification<'a, B> {
    /// Always `"notification"`.
    pub kind: NotificationKind,
    /// The notification's type.
    #[serde(rename = "type")]
    pub kind_name: &'a str,
    /// What there is to know.
    pub body: B,
}

/// The text `"notification"`.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum NotificationKind {
    /// `"notification"`.
    #[serde(rename = "notification")]
    Notification,
}

/// A response of the Connector API: `code`, `body`, `reqId`, in this order; on the connector socket with `kind` in front.
#[derive(Debug, Serialize)]
pub struct ConnectorResponse<'a, B> {
    /// `"resp"` on the connector socket, absent over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RespKind>,
    /// `"OK"`.
    pub code: Code,
    /// The result.
    pub body: B,
    /// The request's id, always a string.
    #[serde(rename = "reqId")]
    pub req_id: &'a str,
    /// `true` if this is the stored answer to an earlier request of the same key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}

/// An error of the Connector API.
#[derive(Debug, Serialize)]
pub struct ConnectorError<'a> {
    /// Always `"resp"`.
    pub kind: RespKind,
    /// The HTTP status.
    pub code: u16,
    /// Always `.ReqBody$ErrorResp`.
    #[serde(rename = "type")]
    pub kind_name: &'a str,
    /// Title, details and code.
    pub body: ConnectorErrorBody<'a>,
    /// The request's id, where the error belongs to one.
    #[serde(rename = "reqId", skip_serializing_if = "Option::is_none")]
    pub req_id: Option<&'a str>,
}

/// The body of a [`ConnectorError`].
#[derive(Debug, Serialize)]
pub struct ConnectorErrorBody<'a> {
    /// What is wrong, in two or three words.
    pub title: &'a str,
    /// What is wrong, in a sentence.
    pub details: &'a str,
    /// A number whose first three digits are the status.
    #[serde(rename = "errorCode")]
    pub error_code: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_seeds_requests_are_read() {
        let request = read(r#"{"kind":"req","id":5,"type":"cm.UpdateConversationField","body":{"a":1}}"#).unwrap();
        assert_eq!((request.id.as_str(), &*request.kind), ("5", "cm.UpdateConversationField"));
        assert_eq!(request.body.map(RawValue::get), Some(r#"{"a":1}"#));
        assert_eq!(read(r#"{"kind":"req","id":"1,","type":"x","headers":null}"#).unwrap().id, "1,");
    }

    #[test]
    fn headers_are_found_by_the_last_part_of_their_type() {
        let text = r#"{"kind":"req","id":"0","type":"InitConnection","headers":[{"type":".ams.headers.ConsumerAuthentication","jwt":"a.b.c","more":1}]}"#;
        let request = read(text).unwrap();
        assert_eq!(request.header("ConsumerAuthentication").and_then(|h| h.jwt.as_deref()), Some("a.b.c"));
        assert!(request.header("AppAuthentication").is_none());
    }

    #[test]
    fn what_is_no_request_is_said_with_its_id() {
        for (text, id, reason) in [
            ("", None, "not a JSON request"),
            ("[]", None, "not a JSON request"),
            ("7", None, "not a JSON request"),
            (r#"["req","7","x",[],[],"",{}]"#, None, "must be an object"),
            (r#"{"id":"7"}"#, Some("7"), "no kind"),
            (r#"{"kind":"resp","id":"7","type":"x"}"#, Some("7"), "kind must be"),
            (r#"{"kind":"req","id":"7"}"#, Some("7"), "no type"),
            (r#"{"kind":"req","type":"x"}"#, None, "no id"),
            (r#"{"kind":"req","id":{},"type":"x"}"#, None, "neither a string nor a number"),
            (r#"{"kind":"req","id":"","type":"x"}"#, None, "1 to 64"),
            (r#"{"kind":"req","kind":"req","id":"7","type":"x"}"#, Some("7"), "duplicate field"),
            (r#"{"kind":"req","id":"7","type":"x","headers":[1]}"#, Some("7"), "headers must be"),
            (r#"{"kind":"req","id":"7","type":"x","metadata":{}}"#, Some("7"), "metadata must be"),
            (r#"{"kind":"req","id":"7","type":"x","body":"\ud800"}"#, None, "surrogate"),
        ] {
            let malformed = read(text).unwrap_err();
            assert_eq!(malformed.id.as_deref(), id, "{text}");
            assert!(malformed.reason.contains(reason), "{text}: {}", malformed.reason);
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC*") {
            let _ = read(&text);
            let _ = split(&text);
        }

        #[test]
        fn every_id_comes_back_as_a_string(id in "[ -~]{1,64}") {
            let text = serde_json::json!({"kind":"req","id":id,"type":"x"}).to_string();
            prop_assert_eq!(read(&text).unwrap().id, id);
        }
    }
}
