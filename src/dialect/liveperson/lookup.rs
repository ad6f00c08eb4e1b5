//! The domain lookup: every client asks first where each service lives. Here each lives on this origin.

use super::{Native, error};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The services that clients ask for.
const SERVICES: [&str; 11] = [
    "agentVep",
    "asyncMessagingEnt",
    "facadeMsg",
    "idp",
    "sentinel",
    "swift",
    "accountConfigReadWrite",
    "accountConfigReadOnly",
    "msgHist",
    "acCdnDomain",
    "messagingRestApiDomain",
];

impl Native {
    /// Host and port, never a scheme: clients put one in front.
    fn origin(&self, headers: &HeaderMap) -> String {
        let asked = || headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let public = self.public_url.trim_end_matches('/');
        let public = public.split_once("://").map_or(public, |(_, host)| host);
        if public.is_empty() { asked().to_owned() } else { public.to_owned() }
    }

    /// Every service of an account.
    pub(super) fn services(&self, account: &str, headers: &HeaderMap) -> Vec<Value> {
        let origin = self.origin(headers);
        SERVICES.iter().map(|service| json!({"service": service, "account": account, "baseURI": origin})).collect()
    }
}

fn unknown(what: &str) -> Response {
    error::json(StatusCode::BAD_REQUEST, json!({"error": what}).to_string())
}

pub(super) async fn all(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap) -> Response {
    if native.account(&account).is_none() {
        return unknown("unknown account");
    }
    error::json(StatusCode::OK, json!({"baseURIs": native.services(&account, &headers)}).to_string())
}

pub(super) async fn one(
    State(native): State<Arc<Native>>,
    Path((account, service)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if native.account(&account).is_none() {
        return unknown("unknown account");
    }
    let found = native.services(&account, &headers).into_iter().find(|known| known["service"] == service.as_str());
    found.map_or_else(
        || error::json(StatusCode::NOT_FOUND, json!({"error": "unknown service"}).to_string()),
        |service| error::json(StatusCode::OK, service.to_string()),
    )
}

#[derive(Debug, Deserialize)]
pub(super) struct Callback {
    cb: Option<String>,
    callback: Option<String>,
}

impl Callback {
    /// The name of the function to call, if it is one: anything else could be script of somebody else's.
    pub(super) fn name(self) -> Option<String> {
        let name = self.cb.or(self.callback)?;
        let is_name =
            !name.is_empty() && name.len() <= 128 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.'));
        is_name.then_some(name)
    }
}

/// A call of a function with a value, as JavaScript.
pub(super) fn call(name: &str, value: &Value) -> Response {
    // The comment keeps the reply from being taken for another kind of file.
    let mut response = Response::new(format!("/**/{name}({value})").into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/javascript; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) async fn script(
    State(native): State<Arc<Native>>,
    Path((account, service)): Path<(String, String)>,
    Query(callback): Query<Callback>,
    headers: HeaderMap,
) -> Response {
    if native.account(&account).is_none() || !SERVICES.contains(&service.as_str()) {
        return unknown("unknown account or service");
    }
    match callback.name() {
        None => unknown("cb must name a function"),
        Some(name) => call(&name, &json!({"ResultSet": {"lpData": [{"lpServer": native.origin(&headers)}]}})),
    }
}
