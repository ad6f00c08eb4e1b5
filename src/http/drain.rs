//! What a handler leaves of a request's body.
//!
//! Some clients send head and body in two segments. Answered before the body has come, their connection would be closed
//! behind the reply without a word, and their next request would break on it. So a small rest is read and thrown away,
//! and where there is too much of it, or it does not come, the reply says that the connection ends.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// Most that is thrown away of one body.
const MOST: usize = 64 * 1024;

/// How long is waited for it.
const TIME: Duration = Duration::from_secs(1);

/// A body that can be read on when its reader is gone.
#[derive(Clone)]
struct Shared(Arc<Mutex<Body>>);

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Body) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        self.with(|body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.with(|body| body.size_hint())
    }
}

/// Reads what the handler has left, so that the connection can go on.
pub(super) async fn unread(request: Request, next: Next) -> Response {
    // A client that waits to be asked for its body must not be asked when it is refused.
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let shared = Shared(Arc::new(Mutex::new(body)));
    let mut response = next.run(Request::from_parts(parts, Body::new(shared.clone()))).await;
    if !shared.is_end_stream() {
        throw_away(Body::new(shared), &mut response).await;
    }
    response
}

/// As [`unread`], for who keeps the body.
pub(super) async fn finish(headers: &HeaderMap, body: &mut Body, response: &mut Response) {
    if !body.is_end_stream() && !headers.contains_key(header::EXPECT) {
        throw_away(std::mem::take(body), response).await;
    }
}

async fn throw_away(rest: Body, response: &mut Response) {
    let rest = timeout(TIME, axum::body::to_bytes(rest, MOST)).await;
    if !matches!(rest, Ok(Ok(_))) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}
