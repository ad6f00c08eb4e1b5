//! The routes under `/files/`. They know nobody: a signature is all that counts, so any page may use them.
//!
//! What is served says of itself that it is to be saved, not shown as a page; that its type is what it says; and that,
//! should a browser show it all the same, nothing in it may run or load.

use super::{Download, Files, Refused};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// How long a browser may remember what it was allowed.
const PREFLIGHT: Duration = Duration::from_secs(600);

/// The wall clock, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Clone)]
struct Desk {
    files: Arc<Files>,
    clock: Clock,
}

/// Uploads and downloads.
pub fn routes(files: Arc<Files>, clock: Clock) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::PUT])
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(PREFLIGHT);
    Router::new()
        .route("/files/{account}/{owner}/{name}", get(download).head(head).put(upload))
        .layer(cors)
        .with_state(Desk { files, clock })
}

async fn upload(State(desk): State<Desk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // The path as it was sent: what a router decodes could be another.
    match desk.files.put(parts.uri.path(), parts.uri.query(), &parts.headers, body, (desk.clock)()).await {
        Ok(()) => status(StatusCode::CREATED, Body::empty()),
        Err(refused) => refuse(&refused),
    }
}

async fn download(State(desk): State<Desk>, request: Request) -> Response {
    let uri = request.uri();
    desk.files.get(uri.path(), uri.query(), (desk.clock)()).await.map_or_else(|refused| refuse(&refused), serve)
}

async fn head(State(desk): State<Desk>, request: Request) -> Response {
    let uri = request.uri();
    desk.files.head(uri.path(), uri.query(), (desk.clock)()).await.map_or_else(|refused| refuse(&refused), serve)
}

fn status(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn refuse(refused: &Refused) -> Response {
    let code = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = status(code, Body::from(json!({"error": refused.to_string()}).to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn serve(download: Download) -> Response {
    let disposition = format!("attachment; filename=\"{}\"", download.path.name());
    let mut response = status(StatusCode::OK, download.body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(download.path.kind().mime));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(download.size));
    // A file's name is made of digits, letters, hyphens and a dot.
    if let Ok(disposition) = HeaderValue::try_from(disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cache-control", "private, no-store"),
        // The console may be another origin, and shows pictures.
        ("cross-origin-resource-policy", "cross-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
