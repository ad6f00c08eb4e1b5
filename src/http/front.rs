//! The front: all that a listener answers.
//!
//! Behind it stands the router with its layers, which answers everything. But the layers cost more than what is asked most often,
//! so a [`Call`] that is asked for in the plainest way is answered without them, and what they promise is kept here: each request
//! is counted and logged, what its handler leaves of a body is read, and a panic becomes an answer. Where replies are to go wrong
//! on demand, all goes through the router.

use super::upgrade::{Plug, Upgrades};
use super::{Listener, drain, internal};
use crate::dialect::{Call, Socket};
use crate::gateway::Gateway;
use axum::Router;
use axum::extract::Request;
use axum::http::{Extensions, Method, StatusCode};
use axum::response::Response;
use futures::FutureExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use metrics::{Counter, Histogram};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use tokio::time::Instant;

/// What a listener is to answer.
pub struct Routes {
    pub(super) router: Router,
    pub(super) plugs: Vec<Arc<dyn Upgrades>>,
    pub(super) calls: Vec<Arc<dyn Call>>,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Routes")
    }
}

impl From<Router> for Routes {
    fn from(router: Router) -> Self {
        Self { router, plugs: Vec::new(), calls: Vec::new() }
    }
}

impl Routes {
    /// These, and others.
    #[must_use]
    pub fn merge(self, others: Router) -> Self {
        Self { router: self.router.merge(others), ..self }
    }

    /// These, and a dialect's socket.
    #[must_use]
    pub fn socket<S: Socket>(mut self, listener: &Listener, socket: S) -> Self {
        let plug: Arc<Plug<S>> = listener.plug(socket);
        let route = plug.route();
        self.plugs.push(plug);
        self.merge(route)
    }

    /// A call that the router answers, too, is answered without it where that makes no difference.
    #[must_use]
    pub fn call(mut self, call: impl Call) -> Self {
        self.calls.push(Arc::new(call));
        self
    }
}

/// All that a listener answers.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    gateway: Arc<Gateway>,
    router: TowerToHyperService<Router>,
    plugs: Vec<Arc<dyn Upgrades>>,
    calls: Vec<Arc<dyn Call>>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Front")
    }
}

impl Front {
    pub(super) fn new(gateway: Arc<Gateway>, router: Router, plugs: Vec<Arc<dyn Upgrades>>, calls: Vec<Arc<dyn Call>>) -> Self {
        Self(Arc::new(Inner { gateway, router: TowerToHyperService::new(router), plugs, calls }))
    }

    /// The sockets.
    pub(super) fn plugs(&self) -> &[Arc<dyn Upgrades>] {
        &self.0.plugs
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request) -> Response {
        self.answer_with(request, |_| {}).await
    }

    /// Answers a request. What the router is to know beside it is added where it is asked.
    pub(super) async fn answer_with(&self, mut request: Request, add: impl FnOnce(&mut Extensions)) -> Response {
        let call = self.0.calls.iter().find(|call| call.is_meant(request.method(), request.uri()));
        match call.filter(|_| !self.0.gateway.faults().is_on()) {
            // What panics has no answer of its own.
            Some(call) => AssertUnwindSafe(answer(&**call, request)).catch_unwind().await.unwrap_or_else(|_| internal()),
            None => {
                add(request.extensions_mut());
                let Ok(response) = self.0.router.call(request).await;
                response
            }
        }
    }
}

async fn answer(call: &dyn Call, request: Request) -> Response {
    let began = Instant::now();
    let (parts, mut body) = request.into_parts();
    let mut response = call.answer(&parts, &mut body).await;
    drain::finish(&parts.headers, &mut body, &mut response).await;
    note(&parts.method, call.path(), response.status(), began);
    response
}

/// Sockets that were opened.
pub(super) static OPENED: LazyLock<Counter> = LazyLock::new(|| metrics::counter!("tieline_websockets_total"));

/// Counts a request by its route, and logs it.
pub(super) fn note(method: &Method, route: &str, status: StatusCode, began: Instant) {
    static SECONDS: LazyLock<Histogram> = LazyLock::new(|| metrics::histogram!("tieline_http_request_seconds"));
    let (status, seconds) = (status.as_u16(), began.elapsed().as_secs_f64());
    count(route, status);
    SECONDS.record(seconds);
    tracing::debug!(%method, route, status, seconds, "request");
}

fn count(route: &str, status: u16) {
    /// To find a counter by its labels costs more than to count. There are only so many routes.
    type Known = HashMap<Box<str>, Vec<(u16, Counter)>>;
    static COUNTERS: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);
    let of_status =
        |counters: &Vec<(u16, Counter)>| counters.iter().find(|(known, _)| *known == status).map(|(_, counter)| counter.clone());
    let known = COUNTERS.read().unwrap_or_else(PoisonError::into_inner).get(route).and_then(of_status);
    let counter = known.unwrap_or_else(|| {
        let counter = metrics::counter!("tieline_http_requests_total", "route" => route.to_owned(), "status" => status.to_string());
        let mut all = COUNTERS.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(route.into()).or_default().push((status, counter.clone()));
        counter
    });
    counter.increment(1);
}
