//! Errors of the Connector API: the same body over HTTP and on the connector socket.

use super::render;
use crate::gateway::Error;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::envelope::{ConnectorError, ConnectorErrorBody, RespKind};
use tieline_protocol::kind::CONNECTOR_ERROR;
use tieline_protocol::text;

/// What clients of the vendor are told, where it is fixed.
pub(super) fn details(error: &Error) -> String {
    text::details(error.code()).map_or_else(|| error.to_string(), str::to_owned)
}

/// The error as text.
pub(super) fn body(req_id: Option<&str>, error: &Error) -> String {
    let code = error.code();
    let details = details(error);
    render::to_text(&ConnectorError {
        kind: RespKind::Resp,
        code: code.status(),
        kind_name: CONNECTOR_ERROR,
        body: ConnectorErrorBody { title: code.title(), details: &details, error_code: code.number() },
        req_id,
    })
}

/// A JSON reply.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What can be written, as a JSON reply.
pub(super) fn written(status: StatusCode, body: &impl serde::Serialize) -> Response {
    json(status, render::to_text(body))
}

/// The error as a reply.
pub(super) fn response(req_id: Option<&str>, error: &Error) -> Response {
    let code = error.code();
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body(req_id, error));
    let headers = response.headers_mut();
    if code.wants_app_token() {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    } else if matches!(code, ErrorCode::Busy | ErrorCode::TooMany | ErrorCode::Unknown | ErrorCode::DiskFull) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
