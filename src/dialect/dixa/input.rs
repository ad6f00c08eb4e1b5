//! What is read of requests: bodies, dates, keys that make repeats harmless.

use super::caller::Caller;
use super::error::Fault;
use crate::domain::Millis;
use crate::gateway::IdempotencyKey;
use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// How far a clock may run ahead of ours.
const AHEAD: Millis = 60_000;

/// A body of JSON, and the key that makes a repeat of the request harmless.
#[derive(Debug)]
pub(super) struct Body<T> {
    /// What it says.
    pub(super) said: T,
    /// The key, if one came.
    pub(super) key: Option<IdempotencyKey>,
}

/// A body that is not looked at, whatever is in it.
#[derive(Debug, Default)]
pub(super) struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A body that may be left out.
#[derive(Debug)]
pub(super) struct Perhaps<T>(pub(super) Body<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let (text, key) = read(request).await?;
        parse(&text).map(|said| Self { said, key })
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for Perhaps<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let (text, key) = read(request).await?;
        let said = if text.trim().is_empty() { T::default() } else { parse(&text)? };
        Ok(Self(Body { said, key }))
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::bad(format!("the body is not understood: {error}")))
}

async fn read(request: Request) -> Result<(String, Option<IdempotencyKey>), Fault> {
    let caller = Caller::of(request.extensions())?.clone();
    let limits = caller.limits();
    let (parts, body) = request.into_parts();
    // One that does not say what it is is taken for JSON; one that says that it is something else is not.
    let kind = parts.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default().to_ascii_lowercase());
    let is_json = |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    let limit = limits.batch.0;
    let read = tokio::time::timeout(limits.body_timeout.0, to_bytes(body, limit)).await;
    let bytes = match read {
        Err(_) => return Err(Fault::bad("the body did not come in time")),
        // Whether it broke off cannot be told: then nobody is there to be told.
        Ok(Err(_)) => return Err(Fault::large(limit)),
        Ok(Ok(bytes)) => bytes,
    };
    if !bytes.is_empty() && kind.is_some_and(|kind| !is_json(&kind)) {
        return Err(Fault::bad("Content-Type must be application/json"));
    }
    let text = String::from_utf8(bytes.into()).map_err(|_| Fault::bad("the body is not UTF-8"))?;
    let key = key(&parts.headers, &[parts.method.as_str(), parts.uri.path(), &text])?;
    Ok((text, key.map(|key| key.kept_for(caller.actor()))))
}

fn key(headers: &HeaderMap, asked: &[&str]) -> Result<Option<IdempotencyKey>, Fault> {
    let key = headers.get("idempotency-key").map(|key| IdempotencyKey::new(key.to_str().unwrap_or_default(), asked));
    Ok(key.transpose()?)
}

/// The header that makes a repeat harmless, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read from the headers; here it is described")]
pub(super) struct Repeat {
    /// Makes a repeat harmless: the same key with the same request is answered as the first time, and changes nothing.
    #[param(rename = "Idempotency-Key", max_length = 255)]
    idempotency_key: Option<String>,
}

/// A time in a request: ISO 8601, also with `[GMT]` behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When(pub(super) Millis);

impl When {
    /// A time that has come, as it is in history. A clock that runs a little ahead of ours is ours.
    ///
    /// # Errors
    /// A sentence with the member's name, if it lies in the future.
    pub(super) fn past(self, name: &str, now: Millis) -> Result<Millis, Fault> {
        match self.0 {
            at if at > now + AHEAD => Err(Fault::bad(format!("{name} lies in the future"))),
            at => Ok(at.min(now)),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let plain = text.strip_suffix(']').and_then(|text| text.rsplit_once('[')).map_or(text, |(plain, _)| plain);
        let at = plain.parse::<jiff::Timestamp>().ok()?.as_millisecond();
        (at >= 0).then_some(Self(at))
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text)
            .ok_or_else(|| D::Error::custom("a time must be ISO 8601 with its offset, since 1970, such as \"2024-05-06T07:08:09.123Z\""))
    }
}

/// A time in an answer: ISO 8601 in UTC, with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) Millis);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // No time of ours lies beyond the year 9999.
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

fn date_time() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into()
}

impl PartialSchema for When {
    fn schema() -> RefOr<Schema> {
        date_time()
    }
}

impl ToSchema for When {}

impl PartialSchema for Stamp {
    fn schema() -> RefOr<Schema> {
        date_time()
    }
}

impl ToSchema for Stamp {}

/// A text that must not be longer than so many characters.
///
/// # Errors
/// A sentence with the member's name.
pub(super) fn at_most(name: &str, text: &str, most: usize) -> Result<(), Fault> {
    match text.chars().count() {
        count if count > most => Err(Fault::bad(format!("{name} has {count} characters; the limit is {most}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_and_without_its_zone_and_written_in_one_form() {
        for (text, read) in [
            ("2024-05-06T07:08:09.123Z", Some(1_714_979_289_123)),
            ("2024-05-06T07:08:09Z[GMT]", Some(1_714_979_289_000)),
            ("2024-05-06T09:08:09+02:00", Some(1_714_979_289_000)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59Z", None),
            ("2024-05-06T07:08:09", None),
            ("2024-05-06", None),
            ("2024-05-06T07:08:09Z]", None),
            ("[GMT]", None),
            ("", None),
        ] {
            assert_eq!(When::read(text).map(|when| when.0), read, "{text}");
        }
        assert_eq!(serde_json::to_string(&Stamp(1_714_979_289_000)).unwrap(), "\"2024-05-06T07:08:09.000Z\"");
        assert_eq!(serde_json::to_string(&Stamp(i64::MAX)).unwrap(), "\"1970-01-01T00:00:00.000Z\"");
    }

    #[test]
    fn what_lies_in_the_future_is_refused_and_a_fast_clock_is_not() {
        assert_eq!(When(5).past("createdAt", 10), Ok(5));
        assert_eq!(When(10 + AHEAD).past("createdAt", 10), Ok(10));
        assert!(When(11 + AHEAD).past("createdAt", 10).unwrap_err().message().contains("createdAt"));
    }
}
