//! Application installations: what an administrator installs, changes and removes while the gateway runs.
//!
//! All of an account are one document of the store, so its revision is what `ac-revision` says and `If-Match` repeats.
//! Applications of the configuration file are shown beside them, and changed there.

use super::socket::bare;
use super::{Native, error};
use crate::config::{Endpoint, Header, WebhookSignature};
use crate::delivery::{AppWebhooks, Deliveries, Hook};
use crate::domain::{Actor, AgentRole};
use crate::gateway::Error;
use crate::identity::{Account, App, Denied};
use crate::store::{Document, StoreError};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use reqwest::header::HeaderMap as Headers;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::ids::{AccountId, ClientId};
use tieline_protocol::webhook::EVENTS;
use tokio::sync::Mutex;

/// Where they are kept.
const COLLECTION: &str = "installations";
/// Most applications of an account, and the largest manifest, in bytes.
const MOST: usize = 200;
const LARGEST: usize = 64 * 1024;
/// Longest name and description, in characters.
const LONGEST_NAME: usize = 128;
const LONGEST_DESCRIPTION: usize = 256;
/// How long an event is tried that says nothing else.
const RETENTION: Duration = Duration::from_secs(3 * 86_400);

/// What it takes to install applications.
#[derive(Debug)]
pub(super) struct Installations {
    deliveries: Deliveries,
    /// The webhooks of the configuration file.
    configured: Vec<AppWebhooks>,
    allows_loopback: bool,
    /// What is installed, by account; held while one change is made.
    installed: Mutex<HashMap<AccountId, Installed>>,
}

/// The installations of one account.
#[derive(Debug, Default, Clone)]
struct Installed {
    revision: u64,
    apps: Vec<Map<String, Value>>,
}

/// What a manifest may say; what else it says is kept and given back.
#[derive(Debug, Deserialize)]
struct Manifest {
    client_name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    grant_types: Option<Vec<String>>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    capabilities: Option<Capabilities>,
}

#[derive(Debug, Deserialize)]
struct Capabilities {
    #[serde(default)]
    webhooks: Option<Webhooks>,
}

/// Event types and, among them, the retries.
#[derive(Debug, Deserialize)]
struct Webhooks {
    #[serde(default)]
    retry: Option<Retry>,
    /// Ours: `sha256` instead of the vendor's default.
    #[serde(default)]
    signature: Option<WebhookSignature>,
    #[serde(flatten)]
    events: BTreeMap<String, Webhook>,
}

#[derive(Debug, Deserialize)]
struct Retry {
    retention_time: u64,
}

#[derive(Debug, Deserialize)]
struct Webhook {
    endpoint: String,
    #[serde(default)]
    max_retries: Option<u32>,
    #[serde(default)]
    headers: Vec<WebhookHeader>,
}

#[derive(Debug, Deserialize)]
struct WebhookHeader {
    header_name: String,
    header_value: String,
}

fn text<'m>(app: &'m Map<String, Value>, name: &str) -> &'m str {
    app.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn is_deleted(app: &Map<String, Value>) -> bool {
    app.get("deleted").and_then(Value::as_bool).unwrap_or(false)
}

impl Installations {
    pub(super) fn new(deliveries: Deliveries, configured: Vec<AppWebhooks>, allows_loopback: bool) -> Self {
        Self { deliveries, configured, allows_loopback, installed: Mutex::default() }
    }

    /// The webhooks of an application, checked.
    fn webhooks(&self, account: &AccountId, id: &str, secret: &str, webhooks: &Webhooks) -> Result<AppWebhooks, Error> {
        let retention = webhooks.retry.as_ref().map_or(RETENTION, |retry| Duration::from_secs(retry.retention_time));
        if !(2..=259_200).contains(&retention.as_secs()) {
            return Err(Error::invalid("retention_time must be from 2 to 259200 seconds"));
        }
        let hooks = webhooks.events.iter().map(|(event, hook)| self.hook(event, hook)).collect::<Result<_, _>>()?;
        Ok(AppWebhooks {
            account: account.clone(),
            client_id: ClientId::from(id),
            secret: secret.into(),
            signature: webhooks.signature.unwrap_or_default(),
            retention,
            hooks,
        })
    }

    fn hook(&self, event: &str, hook: &Webhook) -> Result<Hook, Error> {
        if !EVENTS.contains(&event) {
            return Err(Error::invalid(format!("webhooks: {event:?} is no event; it must be one of {}", EVENTS.join(", "))));
        }
        let fail = |reason: String| Error::invalid(format!("webhooks: {event}: {reason}"));
        let endpoint: Endpoint = hook.endpoint.parse().map_err(fail)?;
        if endpoint.0.scheme() != "https" && !self.allows_loopback {
            return Err(fail("the endpoint must be https; http to this machine is for `tieline serve --dev`".into()));
        }
        if hook.max_retries.is_some_and(|retries| retries > 5) {
            return Err(fail("max_retries must be from 0 to 5".into()));
        }
        let mut headers = Headers::new();
        for given in &hook.headers {
            let header = json!({"name": given.header_name, "value": given.header_value});
            let header: Header = serde_json::from_value(header).map_err(|error| fail(error.to_string()))?;
            headers.append(header.name, header.value);
        }
        Ok(Hook { event: event.to_owned(), endpoint, max_retries: hook.max_retries, headers })
    }

    /// Gives deliveries what is wanted now.
    async fn deliver(&self, installed: &HashMap<AccountId, Installed>) {
        let mut wanted = self.configured.clone();
        for (account, installed) in installed {
            for app in installed.apps.iter().filter(|app| !is_deleted(app)) {
                let Ok(manifest) = serde_json::from_value::<Manifest>(Value::Object(app.clone())) else { continue };
                let is_enabled = manifest.enabled.unwrap_or(true);
                let webhooks = manifest.capabilities.and_then(|capabilities| capabilities.webhooks).filter(|_| is_enabled);
                let webhooks = webhooks.map(|webhooks| self.webhooks(account, text(app, "id"), text(app, "client_secret"), &webhooks));
                // It was checked when it was installed; a setting that allowed it may be gone.
                match webhooks {
                    Some(Ok(webhooks)) if !webhooks.hooks.is_empty() => wanted.push(webhooks),
                    Some(Err(error)) => tracing::warn!(%error, %account, app = text(app, "id"), "webhooks are not delivered"),
                    _ => {}
                }
            }
        }
        self.deliveries.apply(wanted).await;
    }
}

/// Puts an installed application among those whose tokens are good.
fn enrol(account: &Account, app: &Map<String, Value>) {
    let id = ClientId::from(text(app, "id"));
    if is_deleted(app) {
        return account.remove_app(&id);
    }
    let scopes = Some(text(app, "scope")).filter(|scope| !scope.is_empty()).unwrap_or("msg.consumer");
    let is_enabled = app.get("enabled").and_then(Value::as_bool).unwrap_or(true);
    let scopes = scopes.split(' ').map(str::to_owned).collect();
    account.put_app(id, App::new(text(app, "client_secret").into(), scopes, is_enabled));
}

/// Checks a manifest; its own members win over those that it may not say.
fn checked(native: &Native, account: &AccountId, manifest: &Map<String, Value>, id: &str, secret: &str) -> Result<(), Error> {
    let fail = |reason: String| Error::invalid(format!("the manifest is not understood: {reason}"));
    let read: Manifest = serde_json::from_value(Value::Object(manifest.clone())).map_err(|error| fail(error.to_string()))?;
    let name = read.client_name.filter(|name| !name.is_empty()).ok_or_else(|| Error::missing("client_name is missing"))?;
    if name.chars().count() > LONGEST_NAME {
        return Err(fail(format!("client_name has at most {LONGEST_NAME} characters")));
    }
    if read.description.is_some_and(|text| text.chars().count() > LONGEST_DESCRIPTION) {
        return Err(fail(format!("description has at most {LONGEST_DESCRIPTION} characters")));
    }
    if read.grant_types.is_some_and(|grants| !grants.iter().any(|grant| grant == "client_credentials")) {
        return Err(fail("grant_types must hold client_credentials".into()));
    }
    if read.scope.is_some_and(|scope| scope.split(' ').any(|scope| scope != "msg.consumer")) {
        return Err(fail("scope must be msg.consumer; nothing else is served".into()));
    }
    if let Some(webhooks) = read.capabilities.and_then(|capabilities| capabilities.webhooks) {
        native.installations.webhooks(account, id, secret, &webhooks)?;
    }
    Ok(())
}

/// A reply with the revision that a change must name.
fn reply(status: StatusCode, revision: u64, body: &Value) -> Response {
    let mut response = error::json(status, body.to_string());
    response.headers_mut().insert("ac-revision", HeaderValue::from(revision));
    response
}

fn refused(error: &Error) -> Box<Response> {
    Box::new(error::response(None, error))
}

fn no_such(id: &str) -> Error {
    Error::fault(ErrorCode::NotFound, format!("there is no installation {id:?}"))
}

/// An application of the configuration file, as it is shown: without its secret, which stands there.
fn of_the_file(id: &ClientId) -> Value {
    json!({"id": id, "client_id": id, "client_name": id, "enabled": true, "deleted": false, "scope": "msg.consumer",
        "description": "of the configuration file"})
}

impl Native {
    /// The account, if the caller is an administrator of it.
    async fn administered(&self, account: &str, headers: &HeaderMap) -> Result<&Account, Box<Response>> {
        let not_signed_in = || refused(&Error::fault(ErrorCode::NotAuthenticated, "the bearer is not valid; sign in again"));
        let account = self.account(account).ok_or_else(not_signed_in)?;
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(bare).unwrap_or_default();
        match self.gateway.identity().check_agent(account, bearer).await {
            Ok((Actor::Agent { roles, .. }, _)) if roles.contains(&AgentRole::Admin) => Ok(account),
            Ok(_) => Err(refused(&Error::fault(ErrorCode::NotPermitted, "only an administrator may do this"))),
            Err(Denied::Invalid) => Err(not_signed_in()),
            Err(Denied::Unavailable) => Err(refused(&Error::Unreadable)),
        }
    }

    /// Reads what was installed, lets its tokens be good, and begins to deliver its webhooks.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub async fn restore(&self) -> Result<(), Error> {
        let documents = self.gateway.store().documents(COLLECTION).await.map_err(|_| Error::Unreadable)?;
        let mut installed = self.installations.installed.lock().await;
        for Document { account: id, revision, body, .. } in documents {
            let Some(account) = self.account(id.as_str()) else { continue };
            let apps: Vec<Map<String, Value>> = serde_json::from_str(&body).unwrap_or_default();
            apps.iter().for_each(|app| enrol(account, app));
            installed.insert(id, Installed { revision, apps });
        }
        self.installations.deliver(&installed).await;
        Ok(())
    }

    /// Keeps an account's installations as they are wanted, and lets them hold.
    async fn keep(
        &self,
        account: &Account,
        all: &mut HashMap<AccountId, Installed>,
        apps: Vec<Map<String, Value>>,
    ) -> Result<u64, Box<Response>> {
        let revision = all.get(&account.id).map_or(0, |known| known.revision) + 1;
        let body = Value::from(apps.iter().cloned().map(Value::Object).collect::<Vec<_>>()).to_string();
        let document = Document { account: account.id.clone(), collection: COLLECTION.into(), id: "all".into(), revision, body };
        match self.gateway.store().keep_document(document).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refused(&Error::Store(error))),
            Err(_) => return Err(refused(&Error::Store(StoreError::Unknown))),
        }
        apps.iter().for_each(|app| enrol(account, app));
        all.insert(account.id.clone(), Installed { revision, apps });
        self.installations.deliver(all).await;
        Ok(revision)
    }

    async fn manifest(&self, body: Body) -> Result<Map<String, Value>, Box<Response>> {
        let text = self.read_body(body, LARGEST).await.map_err(|error| refused(&error))?;
        tieline_protocol::json::object(&text)
            .map_err(|reason| refused(&Error::invalid(format!("the manifest is not understood: {reason}"))))
    }

    async fn list(&self, account: &str, headers: &HeaderMap) -> Result<Response, Box<Response>> {
        let account = self.administered(account, headers).await?;
        let installed = self.installations.installed.lock().await.get(&account.id).cloned().unwrap_or_default();
        let own = installed.apps.iter().filter(|app| !is_deleted(app)).cloned().map(Value::Object);
        let configured = account.apps().into_iter().filter(|id| !installed.apps.iter().any(|app| text(app, "id") == id.as_str()));
        let all: Vec<Value> = configured.map(|id| of_the_file(&id)).chain(own).collect();
        Ok(reply(StatusCode::OK, installed.revision, &Value::from(all)))
    }

    async fn one(&self, account: &str, id: &str, headers: &HeaderMap) -> Result<Response, Box<Response>> {
        let account = self.administered(account, headers).await?;
        let installed = self.installations.installed.lock().await.get(&account.id).cloned().unwrap_or_default();
        match installed.apps.iter().find(|app| text(app, "id") == id && !is_deleted(app)) {
            Some(app) => Ok(reply(StatusCode::OK, installed.revision, &Value::Object(app.clone()))),
            None if account.app(&ClientId::from(id)).is_some() => {
                Ok(reply(StatusCode::OK, installed.revision, &of_the_file(&ClientId::from(id))))
            }
            None => Err(refused(&no_such(id))),
        }
    }

    async fn install(&self, account: &str, headers: &HeaderMap, body: Body) -> Result<Response, Box<Response>> {
        let account = self.administered(account, headers).await?;
        let mut app = self.manifest(body).await?;
        let (id, secret) = (uuid::Uuid::new_v4().to_string(), crate::random::secret());
        checked(self, &account.id, &app, &id, &secret).map_err(|error| refused(&error))?;
        app.entry("enabled").or_insert(Value::from(true));
        app.entry("scope").or_insert(Value::from("msg.consumer"));
        let issued = self.gateway.identity().now() / 1000;
        app.extend([
            ("id".to_owned(), Value::from(id.clone())),
            ("client_id".to_owned(), Value::from(id)),
            ("client_secret".to_owned(), Value::from(secret)),
            ("client_id_issued_at".to_owned(), Value::from(issued)),
            ("deleted".to_owned(), Value::from(false)),
        ]);
        let mut all = self.installations.installed.lock().await;
        let mut apps = all.get(&account.id).cloned().unwrap_or_default().apps;
        if apps.iter().filter(|app| !is_deleted(app)).count() >= MOST {
            return Err(refused(&Error::fault(ErrorCode::Refused, format!("an account has at most {MOST} installations; remove one"))));
        }
        apps.push(app.clone());
        let revision = self.keep(account, &mut all, apps).await?;
        Ok(reply(StatusCode::CREATED, revision, &Value::Object(app)))
    }

    /// Changes an installation, or removes it where no manifest is given.
    async fn change(&self, account: &str, id: &str, headers: &HeaderMap, body: Option<Body>) -> Result<Response, Box<Response>> {
        let account = self.administered(account, headers).await?;
        let manifest = match body {
            Some(body) => Some(self.manifest(body).await?),
            None => None,
        };
        let named = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()).map(|value| value.trim_matches('"').to_owned());
        let named = named.ok_or_else(|| refused(&Error::missing("If-Match is missing; send the ac-revision of the last answer")))?;
        let mut all = self.installations.installed.lock().await;
        let known = all.get(&account.id).cloned().unwrap_or_default();
        let mut apps = known.apps;
        let Some(app) = apps.iter_mut().find(|app| text(app, "id") == id && !is_deleted(app)) else {
            let of_file = account.app(&ClientId::from(id)).is_some();
            let why = "this application is in the configuration file; change it there";
            return Err(refused(&if of_file { Error::fault(ErrorCode::Refused, why) } else { no_such(id) }));
        };
        if named != known.revision.to_string() {
            return Err(refused(&Error::Store(StoreError::OtherRevision(known.revision))));
        }
        match manifest {
            None => {
                app.insert("deleted".into(), Value::from(true));
                // What is gone needs no secret, and must not come back with it.
                app.insert("client_secret".into(), Value::from(""));
            }
            Some(manifest) => {
                checked(self, &account.id, &manifest, id, text(app, "client_secret")).map_err(|error| refused(&error))?;
                let kept = ["id", "client_id", "client_secret", "client_id_issued_at", "deleted"];
                let own: Vec<_> = kept.iter().filter_map(|name| Some(((*name).to_owned(), app.get(*name)?.clone()))).collect();
                *app = manifest;
                app.extend(own);
                app.entry("enabled").or_insert(Value::from(true));
                app.entry("scope").or_insert(Value::from("msg.consumer"));
            }
        }
        let shown = Value::Object(app.clone());
        let revision = self.keep(account, &mut all, apps).await?;
        Ok(reply(StatusCode::OK, revision, &shown))
    }
}

fn either(result: Result<Response, Box<Response>>) -> Response {
    result.unwrap_or_else(|response| *response)
}

pub(super) async fn list(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap) -> Response {
    either(native.list(&account, &headers).await)
}

pub(super) async fn install(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap, body: Body) -> Response {
    either(native.install(&account, &headers, body).await)
}

pub(super) async fn one(State(native): State<Arc<Native>>, Path((account, id)): Path<(String, String)>, headers: HeaderMap) -> Response {
    either(native.one(&account, &id, &headers).await)
}

pub(super) async fn change(
    State(native): State<Arc<Native>>,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    either(native.change(&account, &id, &headers, Some(body)).await)
}

/// A change by clients that can only POST.
pub(super) async fn overridden(native: State<Arc<Native>>, path: Path<(String, String)>, headers: HeaderMap, body: Body) -> Response {
    let method = headers.get("x-http-method-override").and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_uppercase();
    match method.as_str() {
        "PUT" => change(native, path, headers, body).await,
        "DELETE" => remove(native, path, headers).await,
        _ => *refused(&Error::invalid("send PUT, or POST with X-HTTP-Method-Override: PUT")),
    }
}

pub(super) async fn remove(State(native): State<Arc<Native>>, Path((account, id)): Path<(String, String)>, headers: HeaderMap) -> Response {
    either(native.change(&account, &id, &headers, None).await)
}
