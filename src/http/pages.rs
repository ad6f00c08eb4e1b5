//! Pages for operators: health, version, metrics.

use super::admin::{Admin, AdminKey, Reload};
use super::say;
use super::webhooks::Webhooks;
use crate::delivery::Deliveries;
use crate::gateway::Gateway;
use crate::store::Health;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

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
        Router::new()
            .route("/healthz", get(|| async { json_page(&json!({"status": "live"})) }))
            .route("/readyz", get(ready))
            .route("/version", get(version))
            .route("/metrics", get(metrics))
            .with_state(self)
            .merge(admin)
            .merge(webhooks)
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

async fn ready(State(pages): State<Pages>) -> Response {
    if pages.stop.is_cancelled() {
        return say(StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    let can_write = pages.can_write().await;
    match *pages.gateway.store().health().borrow() {
        Health::Failed => say(StatusCode::SERVICE_UNAVAILABLE, "a sync to disk failed; the process is ending"),
        Health::DiskFull => say(StatusCode::SERVICE_UNAVAILABLE, "the disk is full"),
        Health::Writing if !can_write => say(StatusCode::SERVICE_UNAVAILABLE, "the store takes no write"),
        Health::Writing => json_page(&json!({"status": "ready"})),
    }
}

async fn version(State(pages): State<Pages>) -> Response {
    json_page(&json!({"name": "tieline", "version": env!("CARGO_PKG_VERSION"), "epoch": pages.gateway.store().epoch()}))
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let mut response = Response::new(pages.metrics.render().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

fn json_page(page: &serde_json::Value) -> Response {
    let mut response = Response::new(page.to_string().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
