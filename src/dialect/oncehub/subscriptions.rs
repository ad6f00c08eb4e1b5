//! Webhooks: what is subscribed to while the gateway runs.
//!
//! All of an account are one document of the store. Each is an application of its own to the deliveries, with an endpoint that hears
//! of every conversation of the account; what it is owed outlives restarts, and goes with the subscription.

use super::super::ids::{prefixed, unprefixed};
use super::error::Refused;
use super::list::{Answer, Asked, List, Page, Paging};
use super::object::time;
use super::openapi::{ChangeRefused, ListRefused, OneRefused};
use super::webhook::{CONVERSATION, EVENTS, Told};
use super::{Caller, OnceHub};
use crate::config::{Endpoint, WebhookSettings, WebhookSignature};
use crate::delivery::{AppWebhooks, Deliveries, Hook, Target};
use crate::domain::Millis;
use crate::identity::Denied;
use crate::outbound::Guard;
use crate::store::{Document, StoreError};
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId};
use tokio::sync::Mutex;
use utoipa::ToSchema;
use uuid::Uuid;

/// Where they are kept.
const COLLECTION: &str = "oncehub-webhooks";
/// Most subscriptions of an account.
const MOST: usize = 100;
/// Longest name, in characters, and most names of events.
const LONGEST_NAME: usize = 256;
const MOST_EVENTS: usize = 32;
/// For how long an event is tried; then the subscription is switched off.
const TRIED: Duration = Duration::from_secs(3 * 86_400);
/// What begins the names of events that are taken and that nothing of ours causes.
const OTHERS: &str = "booking";
/// The prefix of their ids, and of the applications that they are to the deliveries.
const PREFIX: &str = "WHK-";

/// A subscription, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Subscription {
    id: Uuid,
    url: String,
    name: String,
    events: Vec<String>,
    created: Millis,
    secret: String,
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    /// `webhook`.
    object: &'static str,
    /// `WHK-…`.
    id: String,
    /// `v2`.
    api_version: &'static str,
    name: String,
    url: String,
    events: Vec<String>,
    #[schema(format = DateTime)]
    creation_time: String,
    /// The key of its signatures.
    secret: String,
}

/// A subscription that was deleted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unsubscribed {
    id: String,
    /// Always true.
    deleted: bool,
}

/// What is to be subscribed to.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Subscribe {
    /// Where events are posted: https.
    url: String,
    /// No other subscription of the account may have it.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// `conversation.started`, `conversation.closed`, `conversation.abandoned`, or `conversation` for all of them. Names that begin
    /// with `booking` are taken, and nothing here causes such events.
    #[schema(min_items = 1, max_items = 32)]
    events: Vec<String>,
}

impl Subscription {
    fn shown_id(&self) -> String {
        prefixed(PREFIX, self.id)
    }

    fn shown(&self) -> Webhook {
        Webhook {
            object: "webhook",
            id: self.shown_id(),
            api_version: "v2",
            name: self.name.clone(),
            url: self.url.clone(),
            events: self.events.clone(),
            creation_time: time(self.created),
            secret: self.secret.clone(),
        }
    }

    /// What the deliveries are told of it.
    fn webhooks(&self, account: &AccountId, is_guarded: bool, render: &Arc<Told>) -> Option<AppWebhooks> {
        let endpoint: Endpoint = self.url.parse().ok()?;
        let is_wanted = |event: &&str| self.events.iter().any(|wanted| wanted == event || wanted == CONVERSATION);
        let hook = |event: &str| Hook {
            event: event.to_owned(),
            target: Target::Post(endpoint.clone()),
            all: true,
            max_retries: None,
            headers: HeaderMap::new(),
        };
        Some(AppWebhooks {
            account: account.clone(),
            client_id: ClientId::from(self.shown_id()),
            secret: self.secret.clone().into(),
            signature: WebhookSignature::Sha256,
            keys: Vec::new(),
            retention: Some(TRIED),
            is_guarded,
            hooks: EVENTS.into_iter().filter(is_wanted).map(hook).collect(),
            render: Some(render.clone()),
        })
    }
}

/// The subscriptions of one account, the oldest first.
#[derive(Debug, Default, Clone)]
struct Subscribed {
    revision: u64,
    all: Vec<Subscription>,
}

/// What it takes to subscribe.
#[derive(Debug)]
pub(super) struct Subscriptions {
    deliveries: Deliveries,
    settings: WebhookSettings,
    guard: Guard,
    allows_loopback: bool,
    render: Arc<Told>,
    /// By account; held while one change is written.
    all: Mutex<HashMap<AccountId, Subscribed>>,
    /// Held while what is wanted is handed to the deliveries, so that the newest is the last.
    delivering: Mutex<()>,
}

/// Whether the deliveries are to begin with it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// They are.
    Now,
    /// They begin when they are told of others.
    WithOthers,
}

impl Subscriptions {
    pub(super) fn new(deliveries: &Deliveries, settings: &WebhookSettings, allows_loopback: bool, render: Arc<Told>) -> Self {
        Self {
            deliveries: deliveries.part("oncehub"),
            settings: settings.clone(),
            guard: Guard::of_webhooks(settings),
            allows_loopback,
            render,
            all: Mutex::default(),
            delivering: Mutex::default(),
        }
    }

    /// What is wrong with what is to be subscribed to.
    fn check(&self, wanted: &Subscribe) -> Result<(), Refused> {
        let endpoint: Endpoint = wanted.url.parse().map_err(|reason: String| Refused::param("url", reason))?;
        let refused = if self.allows_loopback {
            let is_fine = self.settings.lets_send(&endpoint, true);
            (!is_fine).then(|| "it must be https; http is for this machine, and for hosts in webhooks.allow".to_owned())
        } else {
            self.guard.refuses(&endpoint).map(|refusal| refusal.to_string())
        };
        if let Some(reason) = refused {
            return Err(Refused::param("url", format!("the url is refused: {reason}")));
        }
        let is_name = |name: &str| !name.trim().is_empty() && name.chars().count() <= LONGEST_NAME && !name.chars().any(char::is_control);
        if !is_name(&wanted.name) {
            return Err(Refused::param("name", format!("name has 1 to {LONGEST_NAME} characters, and no control characters")));
        }
        if !(1..=MOST_EVENTS).contains(&wanted.events.len()) {
            return Err(Refused::param("events", format!("events has 1 to {MOST_EVENTS} names")));
        }
        let is_others =
            |event: &str| event.strip_prefix(OTHERS).is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.starts_with('.')));
        let is_known = |event: &String| EVENTS.contains(&event.as_str()) || event == CONVERSATION || (is_name(event) && is_others(event));
        match wanted.events.iter().find(|event| !is_known(event)) {
            Some(unknown) => {
                let shown: String = unknown.chars().take(64).collect();
                let known = EVENTS.join(", ");
                Err(Refused::param("events", format!("there is no event '{shown}'; there are {known}, and {CONVERSATION} for all of them")))
            }
            None => Ok(()),
        }
    }
}

impl OnceHub {
    /// Reads what is subscribed to, and begins to deliver it.
    ///
    /// # Errors
    /// [`Denied::Unavailable`]: what cannot be read must not be taken for nothing, or the next change would write over it.
    pub async fn restore(&self, begin: Begin) -> Result<(), Denied> {
        let documents = self.gateway.store().documents(COLLECTION).await.map_err(|_| Denied::Unavailable)?;
        let mut all = self.subscriptions.all.lock().await;
        for document in documents {
            let read = serde_json::from_str(&document.body).map_err(|error| {
                tracing::error!(%error, account = %document.account, "what is subscribed to cannot be read");
                Denied::Unavailable
            })?;
            // What was changed since it was read is known better here.
            if all.get(&document.account).is_none_or(|known| known.revision < document.revision) {
                all.insert(document.account, Subscribed { revision: document.revision, all: read });
            }
        }
        drop(all);
        self.deliver(begin).await;
        Ok(())
    }

    /// Gives the deliveries what is wanted now. What nobody wants any more is forgotten with what it is owed.
    async fn deliver(&self, begin: Begin) {
        let Subscriptions { deliveries, delivering, allows_loopback, render, .. } = &self.subscriptions;
        let _turn = delivering.lock().await;
        let all = self.subscriptions.all.lock().await.clone();
        let directory = self.gateway.identity().directory();
        // An account that is gone may come back, with what it subscribed to.
        let there = all.iter().filter(|(account, _)| directory.account(account.as_str()).is_some());
        let subscriptions = there.flat_map(|(account, subscribed)| subscribed.all.iter().map(move |one| (account, one)));
        let wanted = subscriptions.filter_map(|(account, one)| one.webhooks(account, !allows_loopback, render));
        let wanted: Vec<AppWebhooks> = wanted.filter(|webhooks| !webhooks.hooks.is_empty()).collect();
        if begin == Begin::WithOthers {
            return deliveries.announce(wanted).await;
        }
        deliveries.apply(wanted).await;
        let is_known = |account: &AccountId, app: &ClientId| {
            all.get(account).is_some_and(|subscribed| subscribed.all.iter().any(|one| one.shown_id() == app.as_str()))
        };
        let is_over = |row: &crate::store::EndpointRow| unprefixed(PREFIX, row.app.as_str()).is_some() && !is_known(&row.account, &row.app);
        if let Err(error) = deliveries.forget_apps(is_over).await {
            tracing::debug!(%error, "an endpoint that nobody wants is not forgotten yet");
        }
    }

    /// Keeps the subscriptions of an account, and lets them hold.
    async fn keep(&self, account: &AccountId, all: &mut HashMap<AccountId, Subscribed>, kept: Vec<Subscription>) -> Result<(), Refused> {
        let revision = all.get(account).map_or(0, |known| known.revision) + 1;
        // Texts and numbers always become JSON.
        let body = serde_json::to_string(&kept).unwrap_or_default();
        let document = Document { account: account.clone(), collection: COLLECTION.into(), id: "all".into(), revision, body };
        let error = match self.gateway.store().keep_document(document).await {
            Ok(Ok(())) => {
                all.insert(account.clone(), Subscribed { revision, all: kept });
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(_) => StoreError::Unknown,
        };
        tracing::debug!(%error, "what is subscribed to was not kept");
        // It may be there all the same.
        let there = self.gateway.store().documents(COLLECTION).await.ok();
        let there = there.into_iter().flatten().find(|document| document.account == *account);
        if let Some((revision, kept)) = there.and_then(|there| Some((there.revision, serde_json::from_str(&there.body).ok()?))) {
            all.insert(account.clone(), Subscribed { revision, all: kept });
        }
        Err(Refused::unavailable())
    }

    async fn subscribed(&self, caller: &Caller) -> Vec<Subscription> {
        self.subscriptions.all.lock().await.get(&caller.account().id).cloned().unwrap_or_default().all
    }

    async fn subscribe(&self, caller: &Caller, body: &[u8]) -> Result<Webhook, Refused> {
        caller.may_manage()?;
        let wanted: Subscribe =
            serde_json::from_slice(body).map_err(|error| Refused::bad(format!("the body is not understood: {error}")))?;
        self.subscriptions.check(&wanted)?;
        let mut all = self.subscriptions.all.lock().await;
        let mut kept = all.get(&caller.account().id).cloned().unwrap_or_default().all;
        if kept.iter().any(|known| known.name == wanted.name) {
            return Err(Refused::taken("name", "another webhook has this name"));
        }
        if kept.len() >= MOST {
            return Err(Refused::bad(format!("an account has at most {MOST} webhooks; delete one")));
        }
        let Subscribe { url, name, events } = wanted;
        let (id, created, secret) = (Uuid::new_v4(), self.gateway.identity().now(), crate::random::secret());
        let fresh = Subscription { id, url, name, events, created, secret };
        kept.push(fresh.clone());
        let is_kept = self.keep(&caller.account().id, &mut all, kept).await;
        drop(all);
        // Also where it is not known whether it is kept: what is listed is delivered to.
        self.deliver(Begin::Now).await;
        is_kept?;
        tracing::info!(account = %caller.account().id, client_id = fresh.shown_id(), "a webhook is subscribed to");
        Ok(fresh.shown())
    }

    async fn unsubscribe(&self, caller: &Caller, id: &str) -> Result<Unsubscribed, Refused> {
        caller.may_manage()?;
        let mut all = self.subscriptions.all.lock().await;
        let mut kept = all.get(&caller.account().id).cloned().unwrap_or_default().all;
        let place = kept.iter().position(|one| one.shown_id() == id).ok_or_else(|| Refused::no_such("webhook", id))?;
        kept.remove(place);
        let is_kept = self.keep(&caller.account().id, &mut all, kept).await;
        drop(all);
        self.deliver(Begin::Now).await;
        is_kept?;
        tracing::info!(account = %caller.account().id, client_id = id, "a webhook is no longer subscribed to");
        Ok(Unsubscribed { id: id.to_owned(), deleted: true })
    }
}

/// Makes a change to its end, also when nobody waits for it any more: what is on disk must hold.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<axum::Json<T>, Refused> {
    match tokio::spawn(change).await {
        Ok(result) => result.map(axum::Json),
        Err(error) => {
            tracing::error!(%error, "a change of webhooks did not end");
            Err(Refused::of(StatusCode::INTERNAL_SERVER_ERROR, "internal error; look whether the change holds"))
        }
    }
}

/// Subscribes to events.
#[utoipa::path(post, path = "/v2/webhooks", operation_id = "webhooks_create", tag = "webhooks", request_body = Subscribe,
    responses((status = 200, description = "The subscription.", body = Webhook), ChangeRefused))]
pub(super) async fn create(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<axum::Json<Webhook>, Refused> {
    to_the_end(async move { oncehub.subscribe(&caller, &body).await }).await
}

/// Subscriptions, the newest first.
#[utoipa::path(get, path = "/v2/webhooks", operation_id = "webhooks_list", tag = "webhooks", params(Paging),
    responses((status = 200, description = "A page of them.", body = List<Webhook>), ListRefused, super::openapi::Forbidden))]
pub(super) async fn list(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    Extension(asked): Extension<Asked>,
    Query(paging): Query<Paging>,
) -> Result<Answer<Webhook>, Refused> {
    // Each is shown with its secret.
    caller.may_manage()?;
    let (limit, from) = paging.read()?;
    let mut all = oncehub.subscribed(&caller).await;
    all.reverse();
    let page = Page::cut(all, limit, &from, Subscription::shown_id)?;
    Ok(Answer { page: page.map(|one| one.shown()), limit, asked })
}

/// One subscription.
#[utoipa::path(get, path = "/v2/webhooks/{id}", operation_id = "webhooks_get", tag = "webhooks",
    params(("id" = String, Path, description = "`WHK-…`")), responses((status = 200, description = "It.", body = Webhook), OneRefused, super::openapi::Forbidden))]
pub(super) async fn one(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<axum::Json<Webhook>, Refused> {
    caller.may_manage()?;
    let found = oncehub.subscribed(&caller).await.into_iter().find(|one| one.shown_id() == id);
    found.map(|one| axum::Json(one.shown())).ok_or_else(|| Refused::no_such("webhook", &id))
}

/// Ends a subscription, with what it is owed.
#[utoipa::path(delete, path = "/v2/webhooks/{id}", operation_id = "webhooks_delete", tag = "webhooks",
    params(("id" = String, Path, description = "`WHK-…`")),
    responses((status = 200, description = "It was deleted.", body = Unsubscribed), OneRefused, super::openapi::Forbidden))]
pub(super) async fn delete(
    State(oncehub): State<Arc<OnceHub>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<axum::Json<Unsubscribed>, Refused> {
    to_the_end(async move { oncehub.unsubscribe(&caller, &id).await }).await
}
