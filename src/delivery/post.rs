//! One attempt: signed over the bytes that are sent, bounded in time and in what is read of the answer.
//!
//! An endpoint that a tenant chose is [guarded](crate::outbound): it leads to public addresses or nowhere, unless the operator
//! allowed it.
//!
//! By LivePerson's manner two signatures go along: the vendor's, and that of [Standard
//! Webhooks](https://www.standardwebhooks.com), which holds the message's id and the time of the attempt as well. By OnceHub's goes
//! its own, of the time and the body.

use super::Manner;
use super::retry::LONGEST_ASKED_FOR;
use crate::config::{Endpoint, WebhookSecret, WebhookSettings, WebhookSignature};
use crate::outbound::{Clients, Guard, Unanswered, is_public};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tieline_protocol::ids::{AccountId, ClientId};
use tokio::time::timeout;

/// How much of an answer's body is read, and for how long: so that the connection can be used again.
const LARGEST_ANSWER: usize = 64 * 1024;
const BODY: Duration = Duration::from_secs(1);
/// How much of it is kept, for whoever looks for the reason of a failure.
const EXCERPT: usize = 256;

/// What is to be posted, and where.
#[derive(Debug)]
pub(super) struct Request<'r> {
    pub(super) endpoint: &'r Endpoint,
    pub(super) headers: &'r HeaderMap,
    pub(super) account: &'r AccountId,
    pub(super) client_id: &'r ClientId,
    pub(super) manner: Manner,
    pub(super) signing: Signing<'r>,
    /// Whether a tenant chose the endpoint.
    pub(super) is_guarded: bool,
    /// The same in each attempt.
    pub(super) id: &'r str,
    pub(super) taken: Taken,
    pub(super) body: &'r Bytes,
}

/// Which answers mean that it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// 200 and 201, as the vendor counts.
    TwoHundredAndOne,
    /// Any from 200 to 299.
    Any2xx,
}

/// What an application's webhooks are signed with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signing<'r> {
    /// Of the vendor's signature.
    pub(super) secret: &'r SecretString,
    pub(super) kind: WebhookSignature,
    /// Of the standard one; none: the secret's bytes.
    pub(super) keys: &'r [WebhookSecret],
}

/// What an endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The first of its bytes, where they may be shown.
    pub(super) excerpt: Option<String>,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It does not count as taken.
    #[error("it answered {}", .answer.status)]
    Status {
        answer: Answer,
        /// For how long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

impl Failure {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Unanswered(why) => why.label(),
        }
    }

    pub(super) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Status { answer, .. } => Some(answer),
            _ => None,
        }
    }

    /// For how long the endpoint asked to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the endpoint says that it is there no more.
    pub(super) fn is_gone(&self) -> bool {
        self.answer().is_some_and(|answer| answer.status == StatusCode::GONE.as_u16())
    }

    /// Whether there was not even a connection.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unanswered(Unanswered::Unreachable(_) | Unanswered::Refused(_) | Unanswered::Client(_)))
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Unanswered::from(error).into()
    }
}

/// Sends.
#[derive(Debug)]
pub(super) struct Poster {
    answer_timeout: Duration,
    clients: Clients,
}

impl Poster {
    pub(super) fn new(settings: &WebhookSettings) -> Self {
        let clients = Clients::new(settings.connect_timeout.0, Guard::of_webhooks(settings));
        Self { answer_timeout: settings.answer_timeout.0, clients }
    }

    /// Makes one attempt; `now` is the time in seconds since 1970. It may be dropped at any time; what was sent may have
    /// been taken nevertheless.
    pub(super) async fn send(&self, request: Request<'_>, now: i64) -> Result<Answer, Failure> {
        let began = Instant::now();
        let sent = self.try_to_send(request, now).await;
        metrics::histogram!("tieline_webhook_seconds").record(began.elapsed().as_secs_f64());
        let result = sent.as_ref().map_or_else(Failure::label, |_| "delivered");
        metrics::counter!("tieline_webhook_deliveries_total", "result" => result).increment(1);
        sent
    }

    /// The client that may send to an endpoint.
    fn client(&self, request: &Request<'_>) -> Result<&Client, Unanswered> {
        if request.is_guarded { self.clients.guarded(request.endpoint) } else { self.clients.free() }
    }

    async fn try_to_send(&self, request: Request<'_>, now: i64) -> Result<Answer, Failure> {
        let sent = self.client(&request)?.post(request.endpoint.0.clone()).headers(request.headers.clone());
        let sent = sent.header("content-type", "application/json");
        let sent = match request.manner {
            Manner::LivePerson => sent
                .header("x-liveperson-account-id", request.account.as_str())
                .header("x-liveperson-client-id", request.client_id.as_str())
                .header("x-liveperson-signature", request.signing.vendors(request.body))
                .header("webhook-id", request.id)
                .header("webhook-timestamp", now)
                .header("webhook-signature", request.signing.standard(request.id, now, request.body)),
            Manner::OnceHub => sent.header("oncehub-signature", request.signing.oncehubs(now, request.body)),
        };
        let sent = sent.body(request.body.clone());
        let response = timeout(self.answer_timeout, sent.send()).await.map_err(|_| Unanswered::TimedOut)??;
        let status = response.status();
        let retry_after = retry_after(response.headers(), now);
        // What is inside shows nothing of itself to a tenant.
        let is_shown = !request.is_guarded || response.remote_addr().is_some_and(|peer| is_public(peer.ip()));
        // Whatever the body says, the status has said it.
        let excerpt = read_a_little(response).await;
        let answer = Answer { status: status.as_u16(), excerpt: excerpt.filter(|_| is_shown) };
        let is_taken = match request.taken {
            Taken::TwoHundredAndOne => [StatusCode::OK, StatusCode::CREATED].contains(&status),
            Taken::Any2xx => status.is_success(),
        };
        if is_taken { Ok(answer) } else { Err(Failure::Status { answer, retry_after }) }
    }
}

/// Reads an answer's body, as far as it is small and comes soon; what is kept of it.
async fn read_a_little(mut response: Response) -> Option<String> {
    let (mut kept, mut left) = (Vec::new(), LARGEST_ANSWER);
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let wanted = EXCERPT.saturating_sub(kept.len()).min(chunk.len());
            kept.extend_from_slice(&chunk[..wanted]);
            let Some(rest) = left.checked_sub(chunk.len()) else { return };
            left = rest;
        }
    };
    let _ = timeout(BODY, reading).await;
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    (!kept.is_empty()).then(|| String::from_utf8_lossy(&kept).chars().map(shown).collect())
}

/// For how long an answer asks to be left alone: seconds or a date, at most a day.
fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for anybody is a very long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let now = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(now).ok()?))?;
        httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?
    };
    Some(asked.min(LONGEST_ASKED_FOR))
}

impl Signing<'_> {
    /// The vendor's signature of a body, with the name of its algorithm in front.
    fn vendors(&self, body: &[u8]) -> String {
        let (name, algorithm) = match self.kind {
            WebhookSignature::Sha1 => ("sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            WebhookSignature::Sha256 => ("sha256", hmac::HMAC_SHA256),
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, self.secret.expose_secret().as_bytes()), body);
        format!("{name}={}", STANDARD.encode(tag))
    }

    /// OnceHub's signature: of the time and the body.
    fn oncehubs(&self, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose_secret().as_bytes()));
        context.update(format!("{timestamp}.").as_bytes());
        context.update(body);
        let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("t={timestamp},s={hex}")
    }

    /// The signatures of Standard Webhooks, one for each key.
    fn standard(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let sign = |key: &[u8]| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        if self.keys.is_empty() {
            return sign(self.secret.expose_secret().as_bytes());
        }
        self.keys.iter().map(|key| sign(key.key())).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::hostile::HOSTILE;
    use crate::outbound::tests::{Answers, trap};
    use std::sync::atomic::Ordering;
    use tokio::net::TcpListener;

    fn settings() -> WebhookSettings {
        crate::config::Config::from_parts(None, []).unwrap().webhooks
    }

    fn keys(texts: &[&str]) -> Vec<WebhookSecret> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The standard signatures under some keys, or under the secret `s`.
    fn standard(texts: &[&str], id: &str, timestamp: i64, body: &[u8]) -> String {
        Signing { secret: &"s".to_owned().into(), kind: WebhookSignature::Sha1, keys: &keys(texts) }.standard(id, timestamp, body)
    }

    async fn post(poster: &Poster, is_guarded: bool, url: &str) -> Result<Answer, Failure> {
        let request = Request {
            endpoint: &url.parse().unwrap_or_else(|error| panic!("{url}: {error}")),
            headers: &HeaderMap::new(),
            account: &"demo".into(),
            client_id: &"connector".into(),
            manner: Manner::LivePerson,
            signing: Signing { secret: &"s".to_owned().into(), kind: WebhookSignature::Sha1, keys: &[] },
            is_guarded,
            id: "log:1",
            taken: Taken::Any2xx,
            body: &Bytes::from_static(b"{}"),
        };
        poster.send(request, 1_700_000_000).await
    }

    async fn send(poster: &Poster, is_guarded: bool, url: &str) -> Failure {
        post(poster, is_guarded, url).await.expect_err("nobody answers")
    }

    /// A poster whose names lead where they are told to, guarded or not.
    fn poster(answers: &[&[&str]], allow: &[&str]) -> Poster {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut settings = settings();
        settings.allow = allow.iter().map(|text| text.parse().unwrap()).collect();
        // The traps listen on ports that the system chooses.
        settings.ports = (1..=u16::MAX).collect();
        let clients = Clients::answering(&Answers::new(answers), settings.connect_timeout.0, Guard::of_webhooks(&settings));
        Poster { answer_timeout: settings.answer_timeout.0, clients }
    }

    fn was_refused(failure: &Failure, because: &str) -> bool {
        matches!(failure, Failure::Unanswered(Unanswered::Refused(refusal)) if refusal.rule() == because) && failure.label() == "refused"
    }

    /// Whether a trap took the call.
    fn is_trapped(failure: &Failure) -> bool {
        matches!(failure, Failure::Unanswered(Unanswered::Unreachable(_) | Unanswered::Broken(_)))
    }

    #[tokio::test]
    async fn no_endpoint_of_a_tenant_leads_inside() {
        let (port, calls) = trap().await;
        // Every name leads to the trap as well, should one of these hosts be taken for a name.
        let poster = poster(&[&["127.0.0.1"]], &[]);
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
        assert!(is_trapped(&failure), "{failure}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let failure = send(&poster, false, &format!("http://2130706433:{port}/lp")).await;
        assert!(is_trapped(&failure), "{failure}");
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_allowed_inside_is_reached_and_shows_nothing_of_itself() {
        let app = axum::Router::new().fallback(|| async { (StatusCode::IM_A_TEAPOT, "the inside\u{7}") });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(app.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        let poster = poster(&[&["127.0.0.1"]], &["shop.internal"]);
        let url = format!("http://shop.internal:{port}/");
        let excerpt = |failure: Failure| failure.answer().map(|answer| (answer.status, answer.excerpt.clone()));
        assert_eq!(excerpt(send(&poster, true, &url).await), Some((418, None)));
        assert_eq!(excerpt(send(&poster, false, &url).await), Some((418, Some("the inside ".into()))), "the operator's own may");
        assert!(was_refused(&send(&poster, true, &format!("https://other.internal:{port}/")).await, "loopback"));
    }

    #[test]
    fn an_endpoint_may_ask_for_time_in_seconds_or_by_a_date() {
        let asked = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), 784_111_770);
        for (text, seconds) in [("7", Some(7)), (" 0 ", Some(0)), ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)), ("99999999", Some(86_400))] {
            assert_eq!(asked(text), seconds.map(Duration::from_secs), "{text}");
        }
        // The two forms that are obsolete, and a number that no clock holds.
        for (text, seconds) in [("Sunday, 06-Nov-94 08:49:37 GMT", 7), ("Sun Nov  6 08:49:37 1994", 7), ("18446744073709551616", 86_400)] {
            assert_eq!(asked(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["soon", "-1", "", "+1", "Sun, 06 Nov 1994 08:49:27 GMT"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }

    #[test]
    fn each_key_signs_and_without_one_the_secret_does() {
        let (old, new) = ("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNk");
        let body = "{\"message\":\"🦀 \u{2028} \\u00e9\"}";
        let now = jiff::Timestamp::now().as_second();
        let both = standard(&[new, old], "log:1", now, body.as_bytes());
        assert_eq!(both.split(' ').count(), 2);
        for key in [old, new] {
            let mut headers = axum::http::HeaderMap::new();
            for (name, value) in [("webhook-id", "log:1"), ("webhook-timestamp", &now.to_string()), ("webhook-signature", &both)] {
                headers.insert(name, value.parse().unwrap());
            }
            standardwebhooks::Webhook::new(key).unwrap().verify(body.as_bytes(), &headers).unwrap();
        }
        assert_eq!(
            standard(&[], "i", 5, b"x"),
            format!("v1,{}", STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s"), b"i.5.x")))
        );
    }

    #[test]
    fn the_vendors_published_signatures_come_out() {
        let secret = "rl9hacst6kqilbofup64n11ga3";
        let body = r#"{"kind":"notification","body":{"changes":[{"originatorId":"2969e404f3be1c8cdda63f0b72d205ab5afb3fe3e3d7d72ab58245f564fdfd91","originatorMetadata":{"id":"2969e404f3be1c8cdda63f0b72d205ab5afb3fe3e3d7d72ab58245f564fdfd91","role":"CONSUMER"},"event":{"type":"ChatStateEvent","chatState":"PAUSE"},"conversationId":"b8b83fe9-75f0-46f2-baaa-2930f7192cfb","dialogId":"b8b83fe9-75f0-46f2-baaa-2930f7192cfb"}]},"type":"ms.MessagingEventNotification"}"#;
        let signed = |kind| Signing { secret: &secret.to_owned().into(), kind, keys: &[] }.vendors(body.as_bytes());
        assert_eq!(signed(WebhookSignature::Sha1), "sha1=e/TfS0wv1HbvEsMqcBMmFLcMslI=");
        assert_eq!(signed(WebhookSignature::Sha256), "sha256=PH84lxXVcKluSQQ3Fy8oaaZe1vDHZ3JZMNEQoQjUjsU=");
    }
}
