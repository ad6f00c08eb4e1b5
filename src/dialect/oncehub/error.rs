//! How a call is refused: a flat object, which also stands in for whatever the router and its extractors say by themselves.

use crate::gateway;
use crate::identity::KeyRefused;
use crate::throttle::Wait;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) enum Kind {
    /// Who calls is not known, or may not do this.
    #[serde(rename = "authentication_error")]
    Authentication,
    /// The request is wrong, or names what is not there.
    #[serde(rename = "invalid_request_error")]
    InvalidRequest,
    /// There were too many.
    #[serde(rename = "rate_limit_error")]
    RateLimit,
    /// The gateway cannot answer now.
    #[serde(rename = "api_error")]
    Api,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    r#type: Kind,
    /// What is wrong, in a sentence.
    message: String,
    /// The parameter that is to blame, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'static str>,
}

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    body: Box<ErrorBody>,
    wait: Option<Wait>,
}

impl Refused {
    fn with(status: StatusCode, kind: Kind, message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { status, body: Box::new(ErrorBody { r#type: kind, message: message.into(), param }), wait: None }
    }

    /// A status with a sentence, of the kind that goes with it.
    pub(super) fn of(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Authentication,
            StatusCode::TOO_MANY_REQUESTS => Kind::RateLimit,
            _ if status.is_server_error() => Kind::Api,
            _ => Kind::InvalidRequest,
        };
        Self::with(status, kind, message, None)
    }

    /// A request that is wrong.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, message)
    }

    /// A request with a parameter that is wrong.
    pub(super) fn param(param: &'static str, message: impl Into<String>) -> Self {
        Self::with(StatusCode::BAD_REQUEST, Kind::InvalidRequest, message, Some(param))
    }

    /// There is nothing of that id.
    pub(super) fn no_such(what: &str, id: &str) -> Self {
        let shown: String = id.chars().take(64).collect();
        let message = format!("No such {what}: '{shown}'");
        Self::with(StatusCode::NOT_FOUND, Kind::InvalidRequest, message, Some("id"))
    }

    /// Another has the name.
    pub(super) fn taken(param: &'static str, message: impl Into<String>) -> Self {
        Self::with(StatusCode::CONFLICT, Kind::InvalidRequest, message, Some(param))
    }

    /// The store cannot be read or written now.
    pub(super) fn unavailable() -> Self {
        Self { wait: Some(Wait(1)), ..Self::of(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read or written now; try again") }
    }
}

impl From<KeyRefused> for Refused {
    fn from(refused: KeyRefused) -> Self {
        match refused {
            KeyRefused::Unknown => Self::of(StatusCode::UNAUTHORIZED, "send a valid API key in the header API-Key"),
            KeyRefused::TooMany(wait) => {
                Self { wait: Some(wait), ..Self::of(StatusCode::TOO_MANY_REQUESTS, format!("too many requests; wait {} s", wait.0)) }
            }
        }
    }
}

impl From<gateway::Error> for Refused {
    fn from(error: gateway::Error) -> Self {
        match StatusCode::from_u16(error.code().status()) {
            Ok(status) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => Self::of(status, error.to_string()),
            _ => Self::unavailable(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(&*self.body)).into_response();
        if let Some(wait) = self.wait {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.0));
        }
        response
    }
}

/// Longest text of the router's own that is repeated.
const LONGEST: usize = 4 * 1024;

/// An error in this form, whoever made it.
pub(super) async fn flat(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !(status.is_client_error() || status.is_server_error()) || kind.starts_with("application/json") {
        return response;
    }
    let kept: Vec<_> = [header::ALLOW, header::RETRY_AFTER]
        .into_iter()
        .filter_map(|name| Some((name.clone(), response.headers().get(name)?.clone())))
        .collect();
    let text = axum::body::to_bytes(response.into_body(), LONGEST).await.unwrap_or_default();
    let said = match status {
        StatusCode::METHOD_NOT_ALLOWED => "this path does not take this method".to_owned(),
        _ if text.is_empty() => status.canonical_reason().unwrap_or("the request cannot be served").to_owned(),
        _ => String::from_utf8_lossy(&text).into_owned(),
    };
    let mut flat = Refused::of(status, said).into_response();
    flat.headers_mut().extend(kept);
    flat
}
