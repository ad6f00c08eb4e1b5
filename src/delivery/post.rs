//! One attempt: signed over the bytes that are sent, bounded in time and in what is read of the answer.

use super::{AppWebhooks, Hook};
use crate::config::WebhookSignature;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the answer's head may take, counted from the request.
const ANSWER: Duration = Duration::from_secs(5);
/// How much of an answer's body is read, and for how long: only so that the connection can be used again.
const LARGEST_ANSWER: usize = 64 * 1024;
const BODY: Duration = Duration::from_secs(1);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Only 200 and 201 count as taken.
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it did not answer in time")]
    TimedOut,
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The system's certificates cannot be used, or something as basic.
    #[error("no request can be made: {0}")]
    Client(String),
}

impl Failure {
    fn label(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::TimedOut => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Client(_) => "client",
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        // The innermost reason says most, and none of them may show the URL, in whose query there may be a key.
        let error = error.without_url();
        let mut reason: &dyn std::error::Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Self::Unreachable(reason.to_string())
    }
}

/// Sends.
#[derive(Debug, Default)]
pub(super) struct Poster {
    /// Made with the first webhook: a gateway without webhooks needs no certificates to trust.
    client: OnceLock<Result<Client, String>>,
}

fn client() -> Result<Client, String> {
    let client = Client::builder()
        .user_agent(concat!("tieline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build();
    client.map_err(|error| error.to_string())
}

impl Poster {
    /// Makes one attempt. It may be dropped at any time; what was sent may have been taken nevertheless.
    pub(super) async fn send(&self, app: &AppWebhooks, hook: &Hook, body: &Bytes) -> Result<(), Failure> {
        let began = Instant::now();
        let sent = self.try_to_send(app, hook, body).await;
        metrics::histogram!("tieline_webhook_seconds").record(began.elapsed().as_secs_f64());
        let result = sent.as_ref().map_or_else(Failure::label, |()| "delivered");
        metrics::counter!("tieline_webhook_deliveries_total", "result" => result).increment(1);
        sent
    }

    async fn try_to_send(&self, app: &AppWebhooks, hook: &Hook, body: &Bytes) -> Result<(), Failure> {
        let client = self.client.get_or_init(client).as_ref().map_err(|reason| Failure::Client(reason.clone()))?;
        let request = client
            .post(hook.endpoint.0.clone())
            .headers(hook.headers.clone())
            .header("content-type", "application/json")
            .header("x-liveperson-account-id", app.account.as_str())
            .header("x-liveperson-client-id", app.client_id.as_str())
            .header("x-liveperson-signature", signature(app.signature, app.secret.expose_secret(), body))
            .body(body.clone());
        let response = request.send().await?;
        let status = response.status();
        // Whatever the body says, the status has said it.
        let _ = tokio::time::timeout(BODY, read_a_little(response)).await;
        if status == StatusCode::OK || status == StatusCode::CREATED { Ok(()) } else { Err(Failure::Status(status)) }
    }
}

async fn read_a_little(mut response: Response) {
    let mut left = LARGEST_ANSWER;
    while let Ok(Some(chunk)) = response.chunk().await {
        let Some(rest) = left.checked_sub(chunk.len()) else { return };
        left = rest;
    }
}

/// The signature of a body under an application's secret, with the name of its algorithm in front.
fn signature(kind: WebhookSignature, secret: &str, body: &[u8]) -> String {
    let (name, algorithm) = match kind {
        WebhookSignature::Sha1 => ("sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        WebhookSignature::Sha256 => ("sha256", hmac::HMAC_SHA256),
    };
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), body);
    format!("{name}={}", STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_published_signatures_come_out() {
        let secret = "rl9hacst6kqilbofup64n11ga3";
        let body = r#"{"kind":"notification","body":{"changes":[{"originatorId":"2969e404f3be1c8cdda63f0b72d205ab5afb3fe3e3d7d72ab58245f564fdfd91","originatorMetadata":{"id":"2969e404f3be1c8cdda63f0b72d205ab5afb3fe3e3d7d72ab58245f564fdfd91","role":"CONSUMER"},"event":{"type":"ChatStateEvent","chatState":"PAUSE"},"conversationId":"b8b83fe9-75f0-46f2-baaa-2930f7192cfb","dialogId":"b8b83fe9-75f0-46f2-baaa-2930f7192cfb"}]},"type":"ms.MessagingEventNotification"}"#;
        assert_eq!(signature(WebhookSignature::Sha1, secret, body.as_bytes()), "sha1=e/TfS0wv1HbvEsMqcBMmFLcMslI=");
        assert_eq!(signature(WebhookSignature::Sha256, secret, body.as_bytes()), "sha256=PH84lxXVcKluSQQ3Fy8oaaZe1vDHZ3JZMNEQoQjUjsU=");
    }
}
