//! One attempt: signed over the bytes that are sent, bounded in time and in what is read of the answer.
//!
//! An endpoint that a tenant chose is guarded: it leads to public addresses ([`address`]) or nowhere. Its name is resolved
//! for each connection, and the addresses that were checked are those that are connected to, so that an answer that
//! changes changes nothing. Guarded connections are kept apart from the others: the same name may lead an endpoint of
//! the operator's inside.

use super::{AppWebhooks, Hook, address};
use crate::config::WebhookSignature;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use std::net::SocketAddr;
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
    /// A tenant chose an endpoint that is not public; no connection was made.
    #[error(transparent)]
    Refused(#[from] Refused),
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
            Self::Refused(_) => "refused",
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
        if let Some(Refused(rule)) = reason.downcast_ref() {
            return Self::Refused(Refused(rule));
        }
        Self::Unreachable(reason.to_string())
    }
}

/// The rule of [`address`] that an endpoint breaks.
#[derive(Debug, thiserror::Error)]
#[error("it is no public endpoint: {0} addresses are refused")]
pub(super) struct Refused(&'static str);

/// Sends.
#[derive(Debug, Default)]
pub(super) struct Poster {
    /// Made with the first webhook: a gateway without webhooks needs no certificates to trust.
    client: OnceLock<Result<Client, String>>,
    /// For endpoints that tenants chose.
    guarded: OnceLock<Result<Client, String>>,
}

/// Every client goes straight to the endpoint: a redirect or a proxy would lead where nobody has looked.
fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("tieline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

fn client() -> Result<Client, String> {
    builder().build().map_err(|error| error.to_string())
}

/// A client that connects to no name that leads inside. An endpoint that names an address must be checked before.
fn guarded(resolver: impl Resolve + 'static) -> Result<Client, String> {
    builder().dns_resolver(Public(resolver)).build().map_err(|error| error.to_string())
}

/// The system's resolver.
#[derive(Debug)]
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // Port 0 becomes the URL's.
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Another resolver's answers, as long as they are public. One address that is refused speaks against the whole name: who
/// mixes them means that one.
#[derive(Debug)]
struct Public<R>(R);

impl<R: Resolve> Resolve for Public<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let answer = self.0.resolve(name);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = answer.await?.collect();
            match addresses.iter().find_map(|address| address::refusal(address.ip())) {
                Some(rule) => Err(Refused(rule).into()),
                None => Ok(Box::new(addresses.into_iter()) as Addrs),
            }
        })
    }
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

    /// The client that may send to an endpoint.
    fn client(&self, app: &AppWebhooks, hook: &Hook) -> Result<&Client, Failure> {
        let client = if app.is_guarded {
            // The resolver is not asked about an address.
            if let Some(rule) = address::refuses(&hook.endpoint) {
                return Err(Refused(rule).into());
            }
            self.guarded.get_or_init(|| guarded(System))
        } else {
            self.client.get_or_init(client)
        };
        client.as_ref().map_err(|reason| Failure::Client(reason.clone()))
    }

    async fn try_to_send(&self, app: &AppWebhooks, hook: &Hook, body: &Bytes) -> Result<(), Failure> {
        let request = self
            .client(app, hook)?
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
    use super::super::address::tests::HOSTILE;
    use super::*;
    use reqwest::header::HeaderMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::TcpListener;

    /// Gives one answer for every name, whatever it is, and the next one when it is asked again; the last one remains.
    #[derive(Debug)]
    struct Answers(Vec<Vec<SocketAddr>>, AtomicUsize);

    impl Answers {
        fn new(answers: &[&[&str]]) -> Self {
            let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
            Self(answers.iter().map(|answer| answer.iter().map(address).collect()).collect(), AtomicUsize::new(0))
        }
    }

    impl Resolve for Answers {
        fn resolve(&self, _: Name) -> Resolving {
            let asked = self.1.fetch_add(1, Ordering::Relaxed);
            let answer = self.0[asked.min(self.0.len() - 1)].clone();
            Box::pin(std::future::ready(Ok(Box::new(answer.into_iter()) as Addrs)))
        }
    }

    /// A listener on loopback that hangs up: its port, and how often it was called.
    async fn trap() -> (u16, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        (port, calls)
    }

    async fn send(poster: &Poster, is_guarded: bool, url: &str) -> Failure {
        let app = AppWebhooks {
            account: "demo".into(),
            client_id: "connector".into(),
            secret: "s".to_owned().into(),
            signature: WebhookSignature::Sha1,
            retention: Duration::from_secs(60),
            is_guarded,
            hooks: Vec::new(),
        };
        let endpoint = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let hook = Hook { event: "event".into(), endpoint, max_retries: None, headers: HeaderMap::new() };
        poster.send(&app, &hook, &Bytes::from_static(b"{}")).await.expect_err("nobody answers")
    }

    /// A poster whose names lead where they are told to, guarded or not.
    fn poster(answers: &[&[&str]]) -> Poster {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let open = builder().dns_resolver(Answers::new(answers)).build().map_err(|error| error.to_string());
        Poster { client: OnceLock::from(open), guarded: OnceLock::from(guarded(Answers::new(answers))) }
    }

    fn was_refused(failure: &Failure, because: &str) -> bool {
        matches!(failure, Failure::Refused(Refused(rule)) if *rule == because) && failure.label() == "refused"
    }

    #[tokio::test]
    async fn no_endpoint_of_a_tenant_leads_inside() {
        let (port, calls) = trap().await;
        // Every name leads to the trap as well, should one of these hosts be taken for a name.
        let poster = poster(&[&["127.0.0.1"]]);
        for (host, rule) in HOSTILE {
            let failure = send(&poster, true, &format!("https://{host}:{port}/lp")).await;
            assert!(was_refused(&failure, rule), "{host}: {failure}");
        }
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            let failure = send(&poster, true, &format!("http://{host}:{port}/lp")).await;
            assert!(was_refused(&failure, "loopback"), "{host}: {failure}");
        }
        assert!(was_refused(&send(&poster, true, &format!("https://shop.example:{port}/lp")).await, "loopback"));
        // The operator may send there, and the trap counts: this call is the first.
        let failure = send(&poster, false, &format!("https://shop.example:{port}/lp")).await;
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let failure = send(&poster, false, &format!("http://2130706433:{port}/lp")).await;
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_checked_at_each_connection() {
        let asked = |resolver: &Public<Answers>| resolver.resolve("shop.example".parse().unwrap());
        // An answer that changes, and some that hide the one that is meant behind others.
        let resolver = Public(Answers::new(&[
            &["1.1.1.1", "2606:4700::1111"],
            &["127.0.0.1"],
            &["1.1.1.1", "::ffff:10.0.0.1"],
            &["2606:4700::1111", "1.1.1.1", "169.254.169.254"],
            &[],
        ]));
        let found: Vec<String> = asked(&resolver).await.unwrap().map(|address| address.ip().to_string()).collect();
        assert_eq!(found, ["1.1.1.1", "2606:4700::1111"]);
        for because in ["loopback", "private", "link-local"] {
            let Err(error) = asked(&resolver).await else { panic!("{because} is taken") };
            assert_eq!(error.to_string(), format!("it is no public endpoint: {because} addresses are refused"));
        }
        assert_eq!(asked(&resolver).await.unwrap().count(), 0);
    }

    #[tokio::test]
    async fn the_systems_names_are_guarded() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (port, calls) = trap().await;
        // Past the check of what an endpoint names, as a name would be that the system knows from its own table.
        let error = guarded(System).unwrap().get(format!("http://localhost:{port}/")).send().await.unwrap_err();
        assert!(was_refused(&Failure::from(error), "loopback"));
        let failure = send(&Poster::default(), false, &format!("http://localhost:{port}/")).await;
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_vendors_published_signatures_come_out() {
        let secret = "rl9hacst6kqilbofup64n11ga3";
        let body = r#"{"kind":"notification","body":{"changes":[{"originatorId":"2969e404f3be1c8cdda63f0b72d205ab5afb3fe3e3d7d72ab58245f564fdfd91","originatorMetadata":{"id":"2969e404f3be1c8cdda63f0b72d205ab5afb3fe3e3d7d72ab58245f564fdfd91","role":"CONSUMER"},"event":{"type":"ChatStateEvent","chatState":"PAUSE"},"conversationId":"b8b83fe9-75f0-46f2-baaa-2930f7192cfb","dialogId":"b8b83fe9-75f0-46f2-baaa-2930f7192cfb"}]},"type":"ms.MessagingEventNotification"}"#;
        assert_eq!(signature(WebhookSignature::Sha1, secret, body.as_bytes()), "sha1=e/TfS0wv1HbvEsMqcBMmFLcMslI=");
        assert_eq!(signature(WebhookSignature::Sha256, secret, body.as_bytes()), "sha256=PH84lxXVcKluSQQ3Fy8oaaZe1vDHZ3JZMNEQoQjUjsU=");
    }
}
