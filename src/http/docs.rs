//! `/docs/`: what is answered here, as OpenAPI documents and as a page that shows them. The page is static, compiled in, and
//! loads nothing from elsewhere.

use super::console::{POLICY, static_file};
use super::say;
use crate::openapi::{Document, operations};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::RustEmbed;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(RustEmbed)]
#[folder = "viewer/"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "*.svg"]
struct Files;

/// The documents as they are sent.
#[derive(Debug)]
struct Shelf {
    list: Bytes,
    documents: Vec<(&'static str, Bytes)>,
}

impl Shelf {
    fn new(documents: &[Document]) -> Self {
        let entry = |Document { name, api }: &Document| {
            json!({
                "name": name, "title": api.info.title, "description": api.info.description, "operations": operations(api).count(),
                "url": format!("openapi/{name}.json"),
            })
        };
        let list = json!({"documents": documents.iter().map(entry).collect::<Vec<Value>>()});
        // A document of ours has text for keys and no number that is none.
        let text = |document: &Document| Bytes::from(document.api.to_json().unwrap_or_default());
        Self { list: list.to_string().into(), documents: documents.iter().map(|document| (document.name, text(document))).collect() }
    }
}

/// The routes of some documents and of the page.
pub fn routes(documents: &[Document]) -> Router {
    Router::new()
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route("/docs/openapi/", get(list))
        .route("/docs/openapi/{file}", get(document))
        .route("/docs/{file}", get(|Path(path): Path<String>, headers: HeaderMap| async move { file(&path, &headers) }))
        .with_state(Arc::new(Shelf::new(documents)))
}

fn file(path: &str, asked: &HeaderMap) -> Response {
    static_file::<Files>(path, asked, "there is no such file here; the documents are at /docs/")
}

async fn list(State(shelf): State<Arc<Shelf>>) -> Response {
    json_text(shelf.list.clone())
}

async fn document(State(shelf): State<Arc<Shelf>>, Path(file): Path<String>) -> Response {
    let name = file.strip_suffix(".json").unwrap_or_default();
    match shelf.documents.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => json_text(text.clone()),
        None => say(StatusCode::NOT_FOUND, "there is no such document here; /docs/openapi/ lists those there are"),
    }
}

fn json_text(text: Bytes) -> Response {
    let fixed = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (fixed.map(|(name, value)| (name, HeaderValue::from_static(value))), text).into_response()
}
