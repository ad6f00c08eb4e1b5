//! Refusals: a status and one sentence, `{"message": …}`, whatever went wrong.

use crate::domain::Refusal;
use crate::gateway::Error;
use crate::store::StoreError;
use crate::throttle::Wait;
use axum::Json;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tieline_protocol::code::ErrorCode;
use utoipa::openapi::{Content, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    status: StatusCode,
    message: Cow<'static, str>,
    wait: Option<Wait>,
}

/// What is said of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
struct Said<'f> {
    /// What is wrong, for people to read.
    message: &'f str,
}

impl Fault {
    fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), wait: None }
    }

    /// It is not understood, or names what is not there.
    pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no key, or it is not good for this.
    pub(super) fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// What it is about is not there.
    pub(super) fn missing(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The body is too large.
    pub(super) fn large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes"))
    }

    /// Too many requests.
    pub(super) fn many(wait: Wait) -> Self {
        Self { wait: Some(wait), ..Self::new(StatusCode::TOO_MANY_REQUESTS, format!("too many requests; wait {} s", wait.0)) }
    }

    /// The same, but what it is about is at fault and not that it is missing.
    pub(super) fn or_bad(self) -> Self {
        if self.status == StatusCode::NOT_FOUND { Self { status: StatusCode::BAD_REQUEST, ..self } } else { self }
    }

    /// What is wrong, in a sentence.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// A sentence for whatever others refused without one.
    pub(super) fn of(status: StatusCode, text: &str) -> Self {
        let message = match status {
            _ if !text.is_empty() => text.to_owned(),
            StatusCode::METHOD_NOT_ALLOWED => "this path does not take this method".to_owned(),
            status => status.canonical_reason().unwrap_or("it failed").to_owned(),
        };
        Self::new(status, message)
    }
}

/// What a refusal of the rules is here.
fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoSuchConversation | Refusal::NoSuchDialog | Refusal::NobodyThere(_) => StatusCode::NOT_FOUND,
        // The API has no other status for who may not do what it asks.
        Refusal::NotAParticipant | Refusal::NotPermitted(_) => StatusCode::UNAUTHORIZED,
        Refusal::DialogClosed | Refusal::NotNow(_) | Refusal::Taken | Refusal::Anonymised => StatusCode::CONFLICT,
        Refusal::Duplicate(_) | Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::new(status(&refusal), refusal.to_string())
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
            ErrorCode::KeyReused | ErrorCode::OtherEpoch | ErrorCode::OtherRevision => (StatusCode::CONFLICT, None),
            ErrorCode::NotFound => (StatusCode::NOT_FOUND, None),
            ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
            ErrorCode::NotPermitted
            | ErrorCode::NotAuthenticated
            | ErrorCode::InvalidAppJwt
            | ErrorCode::InvalidConsumerJws
            | ErrorCode::MissingConsumerJws
            | ErrorCode::MissingAppJwt => (StatusCode::UNAUTHORIZED, None),
            ErrorCode::MissingParameter | ErrorCode::InvalidRequest | ErrorCode::Refused | ErrorCode::TooLarge => {
                (StatusCode::BAD_REQUEST, None)
            }
        };
        Self { wait, ..Self::new(status, error.to_string()) }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Said { message: &self.message })).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        match self.wait {
            Some(wait) => wait.say(response),
            None => response,
        }
    }
}

/// Says in our words what the router and its extractors refused in theirs.
pub(super) async fn in_our_words(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !(status.is_client_error() || status.is_server_error()) || kind == "application/json" {
        return response;
    }
    let is_text = kind.starts_with("text/plain");
    let allowed = response.headers().get(header::ALLOW).cloned();
    let text = if is_text { axum::body::to_bytes(response.into_body(), 4 * 1024).await.unwrap_or_default() } else { Vec::new().into() };
    let mut said = Fault::of(status, &String::from_utf8_lossy(&text)).into_response();
    if let Some(allowed) = allowed {
        said.headers_mut().insert(header::ALLOW, allowed);
    }
    said
}

/// What is said where the gateway itself is wrong.
pub(super) fn internal() -> Response<Body> {
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
}

/// An extractor whose refusals are ours.
#[derive(Debug)]
pub(super) struct Ours<E>(pub(super) E);

impl<S: Send + Sync, E: FromRequestParts<S, Rejection: std::fmt::Display>> FromRequestParts<S> for Ours<E> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Fault> {
        E::from_request_parts(parts, state).await.map(Self).map_err(|rejection| Fault::bad(rejection.to_string()))
    }
}

/// Sets of refusals, for the document.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $why:literal),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Described>> {
                    described(&[$(($status, $why)),+])
                }
            }
        )+
    };
}

refusals! {
    /// Of every call.
    Any {
        "400": "The request is not understood.",
        "401": "There is no such key, or whoever it stands for may not do this.",
        "429": "Too many requests; `Retry-After` says how long to wait.",
        "500": "A fault of the gateway.",
        "503": "The gateway cannot answer now; `Retry-After` says how long to wait.",
    }
    /// Of calls about something.
    Absent {
        "404": "What it is about is not there.",
    }
    /// Of calls that change something.
    Change {
        "409": "It is not possible in the present state, or the `Idempotency-Key` was used for another request.",
        "413": "The body is too large.",
    }
}

fn described(refusals: &[(&str, &str)]) -> BTreeMap<String, RefOr<Described>> {
    let said = |why: &str| {
        let content = Content::new(Some(Ref::from_schema_name("Error")));
        RefOr::T(ResponseBuilder::new().description(why).content("application/json", content).build())
    };
    refusals.iter().map(|(status, why)| ((*status).to_owned(), said(why))).collect()
}

/// The schema of what is said, for the document.
pub(super) fn schema() -> (String, RefOr<utoipa::openapi::Schema>) {
    (Said::name().into_owned(), <Said<'_> as utoipa::PartialSchema>::schema())
}
