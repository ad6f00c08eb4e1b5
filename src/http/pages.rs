//! Pages for operators: health, version, metrics.

use super::admin::{Admin, AdminKey, Reload};
use super::say;
use super::webhooks::Webhooks;
use crate::delivery::Deliveries;
use crate::gateway::Gateway;
use crate::openapi::Sentence;
use crate::store::Health;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long the answer of one write test stands.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A store that takes longer than this for one write is not ready.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// The pages.
#[derive(Clone)]
pub struct Pages {
    gateway: Arc<Gateway>,
    deliveries: Deliveries,
    metrics: PrometheusHandle,
    stop: CancellationToken,
    admin_key: AdminKey,
    probed: Arc<Mutex<Option<(Instant, bool)>>>,
    reload: Option<Reload>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

impl Pages {
    /// The pages of a gateway.
    #[must_use]
    pub fn new(
        gateway: Arc<Gateway>,
        deliveries: Deliveries,
        metrics: PrometheusHandle,
        stop: CancellationToken,
        admin_key: AdminKey,
    ) -> Self {
        Self { gateway, deliveries, metrics, stop, admin_key, probed: Arc::default(), reload: None }
    }

    /// The part of them that applications may call, for a listener that strangers reach: without the admin key.
    pub fn for_applications(&self) -> Router {
        Webhooks::routes(self.gateway.clone(), self.deliveries.clone(), AdminKey::default(), self.stop.clone())
    }

    /// With the call that reloads the configuration.
    #[must_use]
    pub fn with_reload(mut self, reload: Reload) -> Self {
        self.reload = Some(reload);
        self
    }

    /// Their routes.
    pub fn routes(self) -> Router {
        let admin = Admin::routes(self.gateway.clone(), self.deliveries.clone(), self.admin_key.clone(), self.reload.clone());
        let webhooks = Webhooks::routes(self.gateway.clone(), self.deliveries.clone(), self.admin_key.clone(), self.stop.clone());
        Router::from(Self::calls().with_state(self)).merge(admin).merge(webhooks)
    }

    fn calls() -> OpenApiRouter<Self> {
        OpenApiRouter::default().routes(routes!(live)).routes(routes!(ready)).routes(routes!(version)).routes(routes!(metrics))
    }

    /// What the document of operators says: these and the admin's calls.
    #[must_use]
    pub fn openapi() -> OpenApi {
        Admin::openapi().merge_from(Self::calls().into_openapi())
    }

    /// What the document of [`Self::for_applications`] says.
    #[must_use]
    pub fn webhooks_openapi() -> OpenApi {
        Webhooks::openapi()
    }

    /// Whether a write is possible, by one, at most once a second.
    async fn can_write(&self) -> bool {
        let last = *self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, can)) = last.filter(|(at, _)| at.elapsed() < PROBE_EVERY) {
            return can;
        }
        let can = matches!(timeout(PROBE_TIME, self.gateway.store().probe()).await, Ok(Ok(Ok(()))));
        *self.probed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), can));
        can
    }
}

/// How it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Condition {
    /// `live` or `ready`.
    status: &'static str,
}

/// Whether the process answers.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", security(()), responses((status = 200, description = "It does.", body = Condition)),
)]
async fn live() -> Response {
    axum::Json(Condition { status: "live" }).into_response()
}

/// Whether it takes work: it is not draining, and the store takes a write.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", security(()),
    responses(
        (status = 200, description = "It does.", body = Condition),
        (status = 503, description = "Not now; the sentence says why.", body = Sentence),
    ),
)]
async fn ready(State(pages): State<Pages>) -> Response {
    if pages.stop.is_cancelled() {
        return say(StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    let can_write = pages.can_write().await;
    match *pages.gateway.store().health().borrow() {
        Health::Failed => say(StatusCode::SERVICE_UNAVAILABLE, "a sync to disk failed; the process is ending"),
        Health::DiskFull => say(StatusCode::SERVICE_UNAVAILABLE, "the disk is full"),
        Health::Writing if !can_write => say(StatusCode::SERVICE_UNAVAILABLE, "the store takes no write"),
        Health::Writing => axum::Json(Condition { status: "ready" }).into_response(),
    }
}

/// What runs here.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct About {
    name: &'static str,
    version: &'static str,
    /// The log's name. Numbers of events are those of one epoch.
    epoch: String,
}

/// What runs here, and on which log.
#[utoipa::path(get, path = "/version", tag = "operations", security(()), responses((status = 200, description = "What was asked for.", body = About)))]
async fn version(State(pages): State<Pages>) -> Response {
    let epoch = pages.gateway.store().epoch().to_owned();
    axum::Json(About { name: "tieline", version: env!("CARGO_PKG_VERSION"), epoch }).into_response()
}

/// Figures, as Prometheus reads them.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", security(()),
    responses(
        (
            status = 200, description = "In the text format.", body = String,
            content_type = "text/plain; version=0.0.4; charset=utf-8",
        ),
    ),
)]
async fn metrics(State(pages): State<Pages>) -> Response {
    let mut response = Response::new(pages.metrics.render().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
