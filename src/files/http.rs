//! The routes under `/files/`. They know nobody: a signature is all that counts, so any page may use them.
//!
//! What is served says of itself that it is to be saved, not shown as a page; that its type is what it says; and that,
//! should a browser show it all the same, nothing in it may run or load.

use super::{Download, Files, Refused, kind};
use crate::openapi::{Sentence, refusals};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{Content, ObjectBuilder, OpenApi as Document, RefOr, ResponseBuilder, Schema};
use utoipa::{IntoParams, IntoResponses, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

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
    calls().layer(cors).with_state(Desk { files, clock }).into()
}

fn calls() -> OpenApiRouter<Desk> {
    OpenApiRouter::with_openapi(About::openapi()).routes(routes!(download, head, upload))
}

/// What their document says.
#[must_use]
pub fn openapi() -> Document {
    calls().into_openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Files",
        description = "Attachments. The addresses are given out by `ms.GenerateURLForUploadFile` and `ms.GenerateURLForDownloadFile`, \
            signed, and are good for a short time; whoever has one may use it, from any origin.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Sentence)),
    tags((name = "files", description = "Attachments, by signed addresses.")),
)]
struct About;

/// The signature in an address.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read from the query as it was sent; here it is described")]
struct Signature {
    /// For one method, one path and one time.
    temp_url_sig: Option<String>,
    /// Until when, in seconds since 1970.
    temp_url_expires: Option<String>,
}

/// The bytes of a file of any type that is taken.
struct Bytes;

fn binary() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary))).into()
}

impl IntoResponses for Bytes {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let ok = ResponseBuilder::new().description("The file, as an attachment.");
        let ok = kind::mimes().fold(ok, |ok, mime| ok.content(mime, Content::new(Some(binary()))));
        BTreeMap::from([("200".to_owned(), RefOr::T(ok.build()))])
    }
}

/// The bytes of an upload.
struct Raw;

impl utoipa::PartialSchema for Raw {
    fn schema() -> RefOr<Schema> {
        binary()
    }
}

impl utoipa::ToSchema for Raw {}

refusals! {
    /// Why a file is not given.
    NotGiven {
        400: "The address cannot be read.",
        401: "The signature is missing, for something else, or over.",
        404: "There is no such file.",
        503: "Files cannot be read now; try again in a while.",
    }
}

refusals! {
    /// Why a file is not taken.
    NotKept {
        400: "The body is shorter than the address is for, or broke off.",
        401: "The signature is missing, for something else, or over.",
        404: "There is no such path.",
        408: "The body did not come in time.",
        409: "A file was put here already.",
        413: "The body is longer than the address is for.",
        415: "The bytes, or their declared type, are not of the type that the address is for.",
        503: "Files cannot be stored now; try again in a while.",
        507: "There is no room for this file now.",
    }
}

/// Puts a file there, once.
#[utoipa::path(
    put, path = "/files/{account}/{owner}/{name}", operation_id = "files_put", tag = "files",
    params(
        ("account" = String, Path, description = "The account."), ("owner" = String, Path, description = "Whose it is, as a tag."),
        ("name" = String, Path, description = "An id, the size and the type: `{uuid}-{size}.{TYPE}`."), Signature,
    ),
    request_body(
        content = inline(Raw), content_type = "application/octet-stream",
        description = "The bytes. `Content-Type` may be the type's or missing.",
    ),
    responses((status = 201, description = "It is there."), NotKept),
)]
async fn upload(State(desk): State<Desk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // The path as it was sent: what a router decodes could be another.
    match desk.files.put(parts.uri.path(), parts.uri.query(), &parts.headers, body, (desk.clock)()).await {
        Ok(()) => status(StatusCode::CREATED, Body::empty()),
        Err(refused) => refuse(&refused),
    }
}

/// A file.
#[utoipa::path(
    get, path = "/files/{account}/{owner}/{name}", operation_id = "files_get", tag = "files",
    params(
        ("account" = String, Path, description = "The account."), ("owner" = String, Path, description = "Whose it is, as a tag."),
        ("name" = String, Path, description = "An id, the size and the type: `{uuid}-{size}.{TYPE}`."), Signature,
    ),
    responses(Bytes, NotGiven),
)]
async fn download(State(desk): State<Desk>, request: Request) -> Response {
    let uri = request.uri();
    desk.files.get(uri.path(), uri.query(), (desk.clock)()).await.map_or_else(|refused| refuse(&refused), serve)
}

/// What a file is, without its bytes.
#[utoipa::path(
    head, path = "/files/{account}/{owner}/{name}", operation_id = "files_head", tag = "files",
    params(
        ("account" = String, Path, description = "The account."), ("owner" = String, Path, description = "Whose it is, as a tag."),
        ("name" = String, Path, description = "An id, the size and the type: `{uuid}-{size}.{TYPE}`."), Signature,
    ),
    responses((status = 200, description = "It is there; the headers are those of the file."), NotGiven),
)]
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
