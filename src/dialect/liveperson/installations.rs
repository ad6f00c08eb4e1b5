//! Application installations: what an administrator installs, changes and removes while the gateway runs.
//!
//! All of an account are one document of the store, so its revision is what `ac-revision` says and `If-Match` repeats.
//! Applications of the configuration file are shown beside them, and changed there.

use super::openapi::{AdministrationRefused, Application, Change};
use super::socket::bare;
use super::{Native, error};
use crate::config::{Config, Header, Webhook, WebhookSecret, WebhookSettings, WebhookSignature, check_secrets};
use crate::delivery::{AppWebhooks, Deliveries, Hook};
use crate::domain::{Actor, AgentRole};
use crate::gateway::Error;
use crate::identity::{Account, App, Denied};
use crate::outbound::Guard;
use crate::store::{Document, StoreError};
use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::ids::{AccountId, ClientId};
use tokio::sync::Mutex;
use utoipa::ToSchema;

/// Where they are kept.
const COLLECTION: &str = "installations";

/// Most applications of an account, the largest manifest, and the largest that all of an account may be, in bytes.
const MOST: usize = 200;
const LARGEST: usize = 64 * 1024;
const LARGEST_ALL: usize = 1024 * 1024;

/// Longest name and description, in characters.
const LONGEST_NAME: usize = 128;
const LONGEST_DESCRIPTION: usize = 256;

/// What it takes to install applications.
#[derive(Debug)]
pub(super) struct Installations {
    deliveries: Deliveries,
    /// The webhooks of the configuration file.
    configured: ArcSwap<Vec<AppWebhooks>>,
    settings: WebhookSettings,
    guard: Guard,
    allows_loopback: bool,
    /// What is installed, by account; held while one change is written.
    installed: Mutex<HashMap<AccountId, Installed>>,
    /// Held while what is wanted is handed to the deliveries, so that the newest is the last.
    delivering: Mutex<()>,
}

/// The installations of one account.
#[derive(Debug, Default, Clone)]
struct Installed {
    revision: u64,
    apps: Vec<Map<String, Value>>,
}

/// What a manifest may say; what else it says is kept and given back.
#[derive(Debug, Deserialize, ToSchema)]
struct Manifest {
    /// At most 128 characters.
    #[schema(value_type = String)]
    client_name: Option<String>,
    #[serde(default)]
    #[schema(max_length = 256)]
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

#[derive(Debug, Deserialize, ToSchema)]
struct Capabilities {
    #[serde(default)]
    webhooks: Option<Webhooks>,
}

/// Event types and, among them, the retries.
#[derive(Debug, Deserialize, ToSchema)]
struct Webhooks {
    #[serde(default)]
    retry: Option<Retry>,
    /// Ours: `sha256` instead of the vendor's default.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    signature: Option<WebhookSignature>,
    /// Ours: the secrets of the standard signatures.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    secrets: Vec<WebhookSecret>,
    #[serde(flatten)]
    events: BTreeMap<String, Line>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct Retry {
    retention_time: u64,
}

/// Where one type of event goes; `pull`, `all` and `enabled` are ours.
#[derive(Debug, Deserialize, ToSchema)]
struct Line {
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    pull: bool,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    max_retries: Option<u32>,
    #[serde(default)]
    headers: Option<Vec<WebhookHeader>>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct WebhookHeader {
    header_name: String,
    header_value: String,
}

fn text<'m>(app: &'m Map<String, Value>, name: &str) -> &'m str {
    app.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Installations {
    pub(super) fn new(deliveries: Deliveries, config: &Config) -> Self {
        Self {
            deliveries,
            configured: ArcSwap::from_pointee(AppWebhooks::configured(config)),
            settings: config.webhooks.clone(),
            guard: Guard::of_webhooks(&config.webhooks),
            allows_loopback: config.allow_loopback_webhooks,
            installed: Mutex::default(),
            delivering: Mutex::default(),
        }
    }

    /// Takes the webhooks of another configuration; [`Native::restore`] then gives them to the deliveries.
    pub(super) fn accounts_changed(&self, config: &Config) {
        self.configured.store(Arc::new(AppWebhooks::configured(config)));
    }

    /// The webhooks of an application, checked.
    fn webhooks(&self, account: &AccountId, id: &str, secret: &str, webhooks: &Webhooks) -> Result<AppWebhooks, Error> {
        let retention = webhooks.retry.as_ref().map(|retry| Duration::from_secs(retry.retention_time));
        if retention.is_some_and(|retention| !(2..=259_200).contains(&retention.as_secs())) {
            return Err(Error::invalid("retention_time must be from 2 to 259200 seconds"));
        }
        check_secrets(&webhooks.secrets).map_err(Error::invalid)?;
        let lines: Vec<Webhook> = webhooks.events.iter().map(|(event, line)| self.line(event, line)).collect::<Result<_, _>>()?;
        Ok(AppWebhooks {
            account: account.clone(),
            client_id: ClientId::from(id),
            secret: secret.into(),
            signature: webhooks.signature.unwrap_or_default(),
            keys: webhooks.secrets.clone(),
            retention,
            is_guarded: !self.allows_loopback,
            hooks: Hook::configured(&lines),
            render: None,
        })
    }

    fn line(&self, event: &str, line: &Line) -> Result<Webhook, Error> {
        let fail = |reason: String| Error::invalid(format!("webhooks: {event}: {reason}"));
        let mut headers = Vec::new();
        for given in line.headers.iter().flatten() {
            let header = json!({"name": given.header_name, "value": given.header_value});
            headers.push(serde_json::from_value::<Header>(header).map_err(|error| fail(error.to_string()))?);
        }
        let webhook = Webhook {
            event: event.to_owned(),
            endpoint: line.endpoint.as_deref().map(str::parse).transpose().map_err(fail)?,
            pull: line.pull,
            all: line.all,
            enabled: line.enabled.unwrap_or(true),
            max_retries: line.max_retries,
            headers,
        };
        webhook.check().map_err(fail)?;
        let refused = webhook.endpoint.as_ref().and_then(|endpoint| {
            if self.allows_loopback {
                let is_fine = self.settings.lets_send(endpoint, true);
                (!is_fine).then(|| "it must be https; http is for this machine, and for hosts in webhooks.allow".to_owned())
            } else {
                self.guard.refuses(endpoint).map(|refusal| refusal.to_string())
            }
        });
        refused.map_or(Ok(webhook), |reason| Err(fail(format!("the endpoint is refused: {reason}"))))
    }

    /// Gives deliveries what is wanted now.
    async fn deliver(&self) {
        let _turn = self.delivering.lock().await;
        let installed = self.installed.lock().await.clone();
        let mut wanted = Vec::clone(&self.configured.load());
        for (account, installed) in &installed {
            for app in &installed.apps {
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

/// Says what a manifest leaves out, or leaves out by `null`.
fn complete(app: &mut Map<String, Value>) {
    for (name, usual) in [("enabled", Value::from(true)), ("scope", Value::from("msg.consumer"))] {
        if app.get(name).is_none_or(Value::is_null) {
            app.insert(name.to_owned(), usual);
        }
    }
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
    async fn administered(&self, account: &str, headers: &HeaderMap) -> Result<Arc<Account>, Box<Response>> {
        let not_signed_in = || refused(&Error::fault(ErrorCode::NotAuthenticated, "the bearer is not valid; sign in again"));
        let account = self.account(account).ok_or_else(not_signed_in)?;
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(bare).unwrap_or_default();
        match self.gateway.identity().check_agent(&account, bearer).await {
            Ok((Actor::Agent { roles, .. }, _)) if roles.contains(&AgentRole::Admin) => Ok(account),
            Ok(_) => Err(refused(&Error::fault(ErrorCode::NotPermitted, "only an administrator may do this"))),
            Err(Denied::Invalid) => Err(not_signed_in()),
            Err(Denied::Unavailable) => Err(refused(&Error::Unreadable)),
        }
    }

    /// Reads what was installed, lets its tokens be good, and begins to deliver its webhooks. Called again when the accounts
    /// have changed, it brings what is installed into those that there are now.
    ///
    /// # Errors
    /// [`Error::Unreadable`]. What cannot be read must not be taken for nothing, or the next change would write over it.
    pub async fn restore(&self) -> Result<(), Error> {
        let mut installed = self.installations.installed.lock().await;
        let documents = self.gateway.store().documents(COLLECTION).await.map_err(|_| Error::Unreadable)?;
        installed.retain(|id, _| self.account(id.as_str()).is_some());
        for Document { account: id, revision, body, .. } in documents {
            if self.account(id.as_str()).is_none() {
                continue;
            }
            let apps: Vec<Map<String, Value>> = serde_json::from_str(&body).map_err(|error| {
                tracing::error!(%error, account = %id, "the installed applications cannot be read");
                Error::Unreadable
            })?;
            self.let_hold(&id, &mut installed, Installed { revision, apps });
        }
        drop(installed);
        self.installations.deliver().await;
        Ok(())
    }

    /// Lets what is installed hold, and ends what was installed and is not any more. In the account as it is now: the one that
    /// the caller began with may have been replaced by a reload. Of an account that is gone nothing holds; if it comes back it is
    /// read anew.
    fn let_hold(&self, id: &AccountId, all: &mut HashMap<AccountId, Installed>, now: Installed) {
        let Some(account) = self.account(id.as_str()) else { return };
        let account = &account;
        now.apps.iter().for_each(|app| enrol(account, app));
        let before = all.get(&account.id).map(|before| before.apps.clone()).unwrap_or_default();
        for id in before.iter().chain(&now.apps).map(|app| ClientId::from(text(app, "id"))) {
            if !now.apps.iter().any(|app| text(app, "id") == id.as_str()) {
                account.remove_app(&id);
            }
            // Disabled or gone: its sockets end as its tokens do.
            if account.app(&id).is_none() {
                self.gateway.close_app(&account.id, &id);
            }
        }
        all.insert(account.id.clone(), now);
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
        if body.len() > LARGEST_ALL {
            let why = format!("the account's installations would have more than {LARGEST_ALL} bytes; remove some");
            return Err(refused(&Error::fault(ErrorCode::Refused, why)));
        }
        let document = Document { account: account.id.clone(), collection: COLLECTION.into(), id: "all".into(), revision, body };
        let error = match self.gateway.store().keep_document(document).await {
            Ok(Ok(())) => {
                self.let_hold(&account.id, all, Installed { revision, apps });
                return Ok(revision);
            }
            Ok(Err(error)) => error,
            Err(_) => StoreError::Unknown,
        };
        // It may be there all the same.
        let there = self.gateway.store().documents(COLLECTION).await.ok();
        let there = there.into_iter().flatten().find(|document| document.account == account.id);
        if let Some((revision, apps)) = there.and_then(|there| Some((there.revision, serde_json::from_str(&there.body).ok()?))) {
            self.let_hold(&account.id, all, Installed { revision, apps });
        }
        Err(refused(&Error::Store(error)))
    }

    async fn manifest(&self, mut body: Body) -> Result<Map<String, Value>, Box<Response>> {
        let text = self.read_body(&mut body, LARGEST).await.map_err(|error| refused(&error))?;
        tieline_protocol::json::object(&text)
            .map_err(|reason| refused(&Error::invalid(format!("the manifest is not understood: {reason}"))))
    }

    async fn list(&self, account: &str, headers: &HeaderMap) -> Result<Response, Box<Response>> {
        let account = self.administered(account, headers).await?;
        let installed = self.installations.installed.lock().await.get(&account.id).cloned().unwrap_or_default();
        let own = installed.apps.iter().cloned().map(Value::Object);
        let configured = account.apps().into_iter().filter(|id| !installed.apps.iter().any(|app| text(app, "id") == id.as_str()));
        let all: Vec<Value> = configured.map(|id| of_the_file(&id)).chain(own).collect();
        Ok(reply(StatusCode::OK, installed.revision, &Value::from(all)))
    }

    async fn one(&self, account: &str, id: &str, headers: &HeaderMap) -> Result<Response, Box<Response>> {
        let account = self.administered(account, headers).await?;
        let installed = self.installations.installed.lock().await.get(&account.id).cloned().unwrap_or_default();
        match installed.apps.iter().find(|app| text(app, "id") == id) {
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
        complete(&mut app);
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
        if apps.len() >= MOST {
            return Err(refused(&Error::fault(ErrorCode::Refused, format!("an account has at most {MOST} installations; remove one"))));
        }
        apps.push(app.clone());
        let revision = self.keep(&account, &mut all, apps).await?;
        drop(all);
        self.installations.deliver().await;
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
        let Some(place) = apps.iter().position(|app| text(app, "id") == id) else {
            let of_file = account.app(&ClientId::from(id)).is_some();
            let why = "this application is in the configuration file; change it there";
            return Err(refused(&if of_file { Error::fault(ErrorCode::Refused, why) } else { no_such(id) }));
        };
        if named != known.revision.to_string() {
            return Err(refused(&Error::Store(StoreError::OtherRevision(known.revision))));
        }
        let shown = match manifest {
            None => {
                let mut gone = apps.remove(place);
                gone.insert("deleted".into(), Value::from(true));
                gone.remove("client_secret");
                gone
            }
            Some(manifest) => {
                let app = &mut apps[place];
                checked(self, &account.id, &manifest, id, text(app, "client_secret")).map_err(|error| refused(&error))?;
                let kept = ["id", "client_id", "client_secret", "client_id_issued_at", "deleted"];
                let own: Vec<_> = kept.iter().filter_map(|name| Some(((*name).to_owned(), app.get(*name)?.clone()))).collect();
                *app = manifest;
                app.extend(own);
                complete(app);
                app.clone()
            }
        };
        let revision = self.keep(&account, &mut all, apps).await?;
        drop(all);
        self.installations.deliver().await;
        Ok(reply(StatusCode::OK, revision, &Value::Object(shown)))
    }
}

/// Makes a change to its end, also when nobody waits for it any more: what is on disk must hold.
async fn to_the_end(change: impl Future<Output = Result<Response, Box<Response>>> + Send + 'static) -> Response {
    match tokio::spawn(change).await {
        Ok(result) => either(result),
        Err(error) => {
            tracing::error!(%error, "a change of installations did not end");
            *refused(&Error::Store(StoreError::Unknown))
        }
    }
}

fn either(result: Result<Response, Box<Response>>) -> Response {
    result.unwrap_or_else(|response| *response)
}

/// Every application of the account.
#[utoipa::path(
    get, path = "/api/account/{account}/configuration/app-install/installations", operation_id = "installations_list",
    tag = "installations", security(("bearer" = [])), params(("account" = String, Path, description = "The account.")),
    responses(
        (
            status = 200, description = "All of them.", body = Vec<Application>,
            headers(("ac-revision" = u64, description = "What `If-Match` must repeat.")),
        ),
        AdministrationRefused,
    ),
)]
pub(super) async fn list(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap) -> Response {
    either(native.list(&account, &headers).await)
}

/// Installs an application.
#[utoipa::path(
    post, path = "/api/account/{account}/configuration/app-install/installations", operation_id = "installations_add",
    tag = "installations", security(("bearer" = [])), params(("account" = String, Path, description = "The account.")),
    request_body(
        content = Manifest,
        example = json!({"client_name": "Shop", "grant_types": ["client_credentials"], "scope": "msg.consumer"}),
    ),
    responses(
        (
            status = 201, description = "It, with its id and secret.", body = Application,
            headers(("ac-revision" = u64, description = "What `If-Match` must repeat.")),
        ),
        AdministrationRefused,
    ),
)]
pub(super) async fn install(State(native): State<Arc<Native>>, Path(account): Path<String>, headers: HeaderMap, body: Body) -> Response {
    to_the_end(async move { native.install(&account, &headers, body).await }).await
}

/// One application.
#[utoipa::path(
    get, path = "/api/account/{account}/configuration/app-install/installations/{id}", operation_id = "installations_get",
    tag = "installations", security(("bearer" = [])),
    params(("account" = String, Path, description = "The account."), ("id" = String, Path, description = "The application's id.")),
    responses(
        (
            status = 200, description = "What was asked for.", body = Application,
            headers(("ac-revision" = u64, description = "What `If-Match` must repeat.")),
        ),
        AdministrationRefused,
    ),
)]
pub(super) async fn one(State(native): State<Arc<Native>>, Path((account, id)): Path<(String, String)>, headers: HeaderMap) -> Response {
    either(native.one(&account, &id, &headers).await)
}

/// Changes an application: the manifest replaces the one before.
#[utoipa::path(
    put, path = "/api/account/{account}/configuration/app-install/installations/{id}", operation_id = "installations_change",
    tag = "installations", security(("bearer" = [])),
    params(
        ("account" = String, Path, description = "The account."), ("id" = String, Path, description = "The application's id."),
        Change,
    ),
    request_body(
        content = Manifest,
        example = json!({"client_name": "Shop", "grant_types": ["client_credentials"], "scope": "msg.consumer"}),
    ),
    responses(
        (
            status = 200, description = "It, as it is now.", body = Application,
            headers(("ac-revision" = u64, description = "What `If-Match` must repeat.")),
        ),
        AdministrationRefused,
    ),
)]
pub(super) async fn change(
    State(native): State<Arc<Native>>,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    to_the_end(async move { native.change(&account, &id, &headers, Some(body)).await }).await
}

/// A change or a removal by clients that can only POST.
#[utoipa::path(
    post, path = "/api/account/{account}/configuration/app-install/installations/{id}", operation_id = "installations_override",
    tag = "installations", security(("bearer" = [])),
    params(
        ("account" = String, Path, description = "The account."), ("id" = String, Path, description = "The application's id."),
        Change, ("x-http-method-override" = String, Header, description = "`PUT` or `DELETE`."),
    ),
    request_body = Option<Manifest>,
    responses(
        (
            status = 200, description = "As that method says.", body = Application,
            headers(("ac-revision" = u64, description = "What `If-Match` must repeat.")),
        ),
        AdministrationRefused,
    ),
)]
pub(super) async fn overridden(native: State<Arc<Native>>, path: Path<(String, String)>, headers: HeaderMap, body: Body) -> Response {
    let method = headers.get("x-http-method-override").and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_uppercase();
    match method.as_str() {
        "PUT" => change(native, path, headers, body).await,
        "DELETE" => remove(native, path, headers).await,
        _ => *refused(&Error::invalid("send PUT, or POST with X-HTTP-Method-Override: PUT")),
    }
}

/// Removes an application.
#[utoipa::path(
    delete, path = "/api/account/{account}/configuration/app-install/installations/{id}", operation_id = "installations_remove",
    tag = "installations", security(("bearer" = [])),
    params(
        ("account" = String, Path, description = "The account."), ("id" = String, Path, description = "The application's id."),
        Change,
    ),
    responses(
        (
            status = 200, description = "It, as it was, without its secret.", body = Application,
            headers(("ac-revision" = u64, description = "What `If-Match` must repeat.")),
        ),
        AdministrationRefused,
    ),
)]
pub(super) async fn remove(State(native): State<Arc<Native>>, Path((account, id)): Path<(String, String)>, headers: HeaderMap) -> Response {
    to_the_end(async move { native.change(&account, &id, &headers, None).await }).await
}
