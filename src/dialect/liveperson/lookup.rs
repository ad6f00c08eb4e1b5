//! The domain lookup: every client asks first where each service lives. Here each lives on this origin.

use super::openapi::UnknownHere;
use super::{Native, error};
use crate::dialect::origin::host;
use crate::openapi::Sentence;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

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
    fn host<'a>(&'a self, headers: &'a HeaderMap) -> &'a str {
        host(&self.public_url, headers)
    }

    /// Every service of an account.
    pub(super) fn services(&self, account: &str, headers: &HeaderMap) -> Vec<Service> {
        let host = self.host(headers);
        let shown = |service| Service { service, account: account.to_owned(), base_uri: host.to_owned() };
        SERVICES.into_iter().map(shown).collect()
    }
}

/// Where a service lives.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    service: &'static str,
    account: String,
    /// Host and port, never a scheme.
    #[serde(rename = "baseURI")]
    base_uri: String,
}

/// Where each service lives.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Services {
    #[serde(rename = "baseURIs")]
    pub(super) base_uris: Vec<Service>,
}

fn unknown(what: &str) -> Response {
    error::json(StatusCode::BAD_REQUEST, json!({"error": what}).to_string())
}

/// Where each service lives.
#[utoipa::path(
    get, path = "/api/account/{account}/service/baseURI.json", operation_id = "services_list", tag = "lookup", security(()),
    params(("account" = String, Path, description = "The account.")),
    responses((status = 200, description = "All of them.", body = Services), UnknownHere),
)]
pub(super) async fn all(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap) -> Response {
    if native.account(&account).is_none() {
        return unknown("unknown account");
    }
    error::written(StatusCode::OK, &Services { base_uris: native.services(&account, &headers) })
}

/// Where one service lives.
#[utoipa::path(
    get, path = "/api/account/{account}/service/{service}/baseURI.json", operation_id = "services_get", tag = "lookup",
    security(()),
    params(
        ("account" = String, Path, description = "The account."),
        ("service" = String, Path, description = "The service, such as `sentinel`."),
    ),
    responses(
        (status = 200, description = "What was asked for.", body = Service), UnknownHere,
        (status = 404, description = "There is no such service.", body = Sentence),
    ),
)]
pub(super) async fn one(
    State(native): State<Arc<Native>>,
    Path((account, service)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if native.account(&account).is_none() {
        return unknown("unknown account");
    }
    let found = native.services(&account, &headers).into_iter().find(|known| known.service == service);
    found.map_or_else(
        || error::json(StatusCode::NOT_FOUND, json!({"error": "unknown service"}).to_string()),
        |service| error::written(StatusCode::OK, &service),
    )
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Callback {
    /// The function to call: letters, digits, `_`, `$` and `.`, at most 128 of them.
    cb: Option<String>,
    /// Another name for it.
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

/// Where one service lives, as JavaScript.
#[utoipa::path(
    get, path = "/api/account/{account}/service/{service}/baseURI.lpCsds", operation_id = "services_script", tag = "lookup",
    security(()),
    params(
        ("account" = String, Path, description = "The account."),
        ("service" = String, Path, description = "The service, such as `sentinel`."), Callback,
    ),
    responses(
        (
            status = 200, description = "A call of the function.", body = String,
            content_type = "application/javascript; charset=utf-8",
        ),
        UnknownHere,
    ),
)]
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
        Some(name) => call(&name, &json!({"ResultSet": {"lpData": [{"lpServer": native.host(&headers)}]}})),
    }
}
