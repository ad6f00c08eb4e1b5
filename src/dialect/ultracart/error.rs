//! How a call is refused: the API's envelope, and its sentence once more in a header, whoever refused.

use crate::domain::Refusal;
use crate::gateway::Error;
use crate::identity::{Denied, KeyRefused, NoAccess};
use crate::store::StoreError;
use crate::throttle::Wait;
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use tieline_protocol::code::ErrorCode;
use utoipa::ToSchema;

/// The header that repeats the sentence.
const SAID: HeaderName = HeaderName::from_static("uc-rest-error");
/// Longest value of it, in bytes.
const LONGEST: usize = 512;

/// Nothing: the API shows an empty object where it has no more to say.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(super) struct Nothing {}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
struct Described<'f> {
    /// The status.
    error_code: String,
    /// What is wrong, for people to read.
    developer_message: &'f str,
    /// The same.
    user_message: &'f str,
}

/// An answer that is a refusal.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorResponse)]
pub(super) struct Envelope<'f> {
    /// `false`.
    success: bool,
    error: Described<'f>,
    metadata: Nothing,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    status: StatusCode,
    message: Cow<'static, str>,
    wait: Option<Wait>,
}

impl Fault {
    /// A status with a sentence.
    pub(super) fn of(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), wait: None }
    }

    /// It is not understood, not possible now, or not for this caller.
    pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, message)
    }

    /// Who calls is not known.
    pub(super) fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::UNAUTHORIZED, message)
    }

    /// What it is about is not there.
    pub(super) fn missing(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::NOT_FOUND, message)
    }

    /// The body is too large.
    pub(super) fn large(limit: usize) -> Self {
        Self::of(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes"))
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, in a sentence.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The same, but what it names is at fault and not that it is missing.
    pub(super) fn or_bad(self) -> Self {
        if self.status == StatusCode::NOT_FOUND { Self { status: StatusCode::BAD_REQUEST, ..self } } else { self }
    }
}

impl From<KeyRefused> for Fault {
    fn from(refused: KeyRefused) -> Self {
        match refused {
            KeyRefused::Unknown => Self::denied("The simple key is not known."),
            KeyRefused::TooMany(wait) => {
                Self { wait: Some(wait), ..Self::of(StatusCode::TOO_MANY_REQUESTS, format!("too many requests; wait {} s", wait.0)) }
            }
        }
    }
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Invalid => Self::denied("The access token is not valid."),
            Denied::Unavailable => Self { wait: Some(Wait(1)), ..Self::of(StatusCode::SERVICE_UNAVAILABLE, denied.to_string()) },
        }
    }
}

impl From<NoAccess> for Fault {
    fn from(refused: NoAccess) -> Self {
        match refused {
            NoAccess::Denied(denied) => denied.into(),
            NoAccess::TooMany(wait) => KeyRefused::TooMany(wait).into(),
            NoAccess::Gone => Self::of(StatusCode::GONE, "The application was disabled, or its agent is gone."),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::NoSuchConversation | Refusal::NoSuchDialog | Refusal::NobodyThere(_) => StatusCode::NOT_FOUND,
            // The API documents no status for what is not possible or not allowed, and 401 would have clients drop their key.
            Refusal::NotAParticipant
            | Refusal::NotPermitted(_)
            | Refusal::DialogClosed
            | Refusal::NotNow(_)
            | Refusal::Taken
            | Refusal::Anonymised
            | Refusal::Duplicate(_)
            | Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
        };
        Self::of(status, refusal.to_string())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if let Error::Store(StoreError::Refused(_, refusal)) = error {
            return refusal.into();
        }
        let (status, wait) = match error.code() {
            ErrorCode::TooMany => (StatusCode::TOO_MANY_REQUESTS, Some(Wait(1))),
            ErrorCode::Unknown | ErrorCode::Busy | ErrorCode::DiskFull => (StatusCode::SERVICE_UNAVAILABLE, Some(Wait(1))),
            ErrorCode::NotFound => (StatusCode::NOT_FOUND, None),
            ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
            // Of the socket, which has no statuses of the vendor's.
            ErrorCode::OtherEpoch | ErrorCode::KeyReused => (StatusCode::CONFLICT, None),
            _ => (StatusCode::BAD_REQUEST, None),
        };
        Self { wait, ..Self::of(status, error.to_string()) }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let message = &*self.message;
        let error = Described { error_code: self.status.as_u16().to_string(), developer_message: message, user_message: message };
        let mut response = (self.status, Json(Envelope { success: false, error, metadata: Nothing {} })).into_response();
        response.headers_mut().insert(SAID, for_a_header(message));
        match self.wait {
            Some(wait) => wait.say(response),
            None => response,
        }
    }
}

/// A sentence as a header may have it: without line ends, and with question marks for letters that not everybody reads there.
fn for_a_header(message: &str) -> HeaderValue {
    let plain: String = message.chars().take(LONGEST).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    HeaderValue::try_from(plain).unwrap_or_else(|_| HeaderValue::from_static("error"))
}

/// Says in our words what the router and its extractors refused in theirs.
pub(super) async fn in_our_words(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || response.headers().contains_key(&SAID) {
        return response;
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    if kind.starts_with("application/json") || kind.starts_with("text/html") {
        return response;
    }
    let allowed = response.headers().get(header::ALLOW).cloned();
    let text =
        if kind.starts_with("text/plain") { axum::body::to_bytes(response.into_body(), 4 * 1024).await } else { Ok(Vec::new().into()) };
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    let said = match status {
        StatusCode::METHOD_NOT_ALLOWED => "this path does not take this method".to_owned(),
        _ if !text.is_empty() => text,
        status => status.canonical_reason().unwrap_or("it failed").to_owned(),
    };
    let mut said = Fault::of(status, said).into_response();
    if let Some(allowed) = allowed {
        said.headers_mut().insert(header::ALLOW, allowed);
    }
    said
}

/// What is said where the gateway itself is wrong.
pub(super) fn internal() -> Response<Body> {
    Fault::of(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
}

/// A set of refusals, for the document.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $why:literal),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl utoipa::IntoResponses for $name {
                fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                    crate::openapi::answers::<Envelope<'static>>([$(($status, String::from($why))),+])
                }
            }
        )+
    };
}

refusals! {
    /// Of every call.
    Any {
        400: "The request is not understood, or not possible now, or not for whom the key stands.",
        401: "There is no such key or token.",
        410: "The application of the token was disabled, or its agent is gone.",
        429: "Too many requests; `Retry-After` says how long to wait.",
        500: "A fault of the gateway.",
        503: "The gateway cannot answer now; `Retry-After` says how long to wait.",
    }
    /// Of calls about something.
    Absent {
        404: "What it is about is not there.",
    }
    /// Of calls with a body.
    Large {
        413: "The body is too large.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_fits_a_header() {
        assert_eq!(for_a_header("no\r\nInjected: 1 \u{2014} \u{e9}"), "no??Injected: 1 ? ?");
        assert_eq!(for_a_header(&"x".repeat(10_000)).len(), LONGEST);
    }
}
