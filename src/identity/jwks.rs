//! The keys of an identity provider: fetched from the address in the configuration and from nowhere else, and kept.
//!
//! They are fetched when first needed, when a token names a key that is not among them, and when they have become old.
//! A token costs nothing to make up, so it cannot cause more than one fetch in [`PAUSE`]. While the provider cannot be
//! reached, or answers with something else, the keys that are known go on to hold.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{StatusCode, Url, header};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a provider is left alone after a fetch that tokens caused, or that failed.
const PAUSE: Duration = Duration::from_secs(30);
/// When keys are fetched again though all of them are known: one that was withdrawn must not hold for ever.
const OLD: Duration = Duration::from_secs(600);
/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest set of keys that is read.
const LARGEST: usize = 256 * 1024;

/// A public key, and the only algorithm it is used with.
#[derive(Debug, Clone)]
pub(super) struct PublicKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The provider has none of that name.
    Unknown,
    /// The provider could not be asked.
    Unavailable,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Transport(reqwest::Error),
    #[error("it answers with status {0}")]
    Status(StatusCode),
    #[error("it answers with more than {LARGEST} bytes")]
    TooLarge,
    #[error("it answers with no JWK set: {0}")]
    Content(#[from] serde_json::Error),
    #[error("none of its keys is for RS256 or ES256 signatures")]
    Unusable,
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error.without_url())
    }
}

type ByName = HashMap<String, Arc<PublicKey>>;

/// The keys at one address.
#[derive(Debug)]
pub(super) struct KeySet {
    url: Url,
    http: reqwest::Client,
    pause: Duration,
    old: Duration,
    known: Mutex<Known>,
    /// When the provider was last asked in vain or for a token's sake. Whoever holds it asks; others wait and look again.
    turn: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

#[derive(Debug, Default)]
struct Known {
    keys: ByName,
    fetched: Option<Instant>,
    failed: bool,
}

/// A client that asks exactly whom it is told to.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(TIMEOUT).build()
}

impl KeySet {
    pub(super) fn new(url: Url, http: reqwest::Client) -> Self {
        Self { url, http, pause: PAUSE, old: OLD, known: Mutex::default(), turn: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of a name, and whether the set is still fresh.
    fn find(&self, kid: &str) -> (Option<Arc<PublicKey>>, bool) {
        let known = self.known();
        (known.keys.get(kid).cloned(), known.fetched.is_some_and(|at| at.elapsed() < self.old))
    }

    /// The key of a name.
    pub(super) async fn key(self: &Arc<Self>, kid: &str) -> Result<Arc<PublicKey>, Missing> {
        let found = match self.find(kid) {
            (Some(key), true) => return Ok(key),
            (found, _) => found,
        };
        let turn = match found {
            None => Some(self.turn.clone().lock_owned().await),
            // An old key serves while somebody else asks for a new one.
            Some(_) => self.turn.clone().try_lock_owned().ok(),
        };
        if let Some(turn) = turn {
            self.refresh(kid, turn).await;
        }
        let missing = if self.known().failed { Missing::Unavailable } else { Missing::Unknown };
        self.find(kid).0.ok_or(missing)
    }

    async fn refresh(self: &Arc<Self>, kid: &str, mut turn: tokio::sync::OwnedMutexGuard<Option<Instant>>) {
        // Whoever waited for the turn may find it done.
        let is_done = matches!(self.find(kid), (Some(_), true));
        if is_done || turn.is_some_and(|asked| asked.elapsed() < self.pause) {
            return;
        }
        let set = self.clone();
        // By a task of its own, which goes on when the caller goes away: else callers that hang up at once could keep
        // new keys from ever being fetched. It ends by its timeout.
        let fetching = tokio::spawn(async move {
            let fetched = set.fetch().await;
            let had_keys = set.known().fetched.is_some();
            // The first set is no answer to a token, so the first key that is not in it is asked for at once.
            *turn = (had_keys || fetched.is_err()).then(Instant::now);
            set.learn(fetched);
        });
        if let Err(error) = fetching.await {
            tracing::error!(%error, "fetching an identity provider's keys ended");
        }
    }

    fn learn(&self, fetched: Result<ByName, FetchError>) {
        let mut known = self.known();
        known.failed = fetched.is_err();
        match fetched {
            Ok(keys) => {
                tracing::debug!(url = %self.url, keys = keys.len(), "an identity provider's keys are fetched");
                known.keys = keys;
                known.fetched = Some(Instant::now());
            }
            Err(error) => tracing::warn!(url = %self.url, %error, kept = known.keys.len(), "an identity provider's keys cannot be fetched"),
        }
    }

    async fn fetch(&self) -> Result<ByName, FetchError> {
        let mut response = self.http.get(self.url.clone()).header(header::ACCEPT, "application/json").send().await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > LARGEST {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        read(&body)
    }
}

/// The keys of a set that can be used. Others, of kinds that we do not know, do no harm.
fn read(body: &[u8]) -> Result<ByName, FetchError> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(body)?;
    let keys: ByName = set.keys.into_iter().filter_map(|key| usable(&serde_json::from_value(key).ok()?)).collect();
    if keys.is_empty() { Err(FetchError::Unusable) } else { Ok(keys) }
}

/// A key by its name. Its kind says the algorithm; a shared secret is none that somebody publishes.
fn usable(jwk: &Jwk) -> Option<(String, Arc<PublicKey>)> {
    let algorithm = match (&jwk.algorithm, jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Algorithm::RS256,
        (AlgorithmParameters::EllipticCurve(key), None | Some(KeyAlgorithm::ES256)) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let may_verify = jwk.common.key_operations.as_ref().is_none_or(|may| may.contains(&KeyOperations::Verify));
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| is_for_signatures && may_verify)?;
    Some((jwk.common.key_id.clone()?, Arc::new(PublicKey { algorithm, key })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::State;
    use axum::http::StatusCode as Status;
    use axum::response::{IntoResponse, Redirect, Response};
    use serde_json::json;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn ec(kid: &str) -> Value {
        let key = "A".repeat(43);
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": key, "y": key})
    }

    #[test]
    fn only_keys_for_signatures_that_we_check_are_used() {
        let rsa = json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"});
        let with = |key: &Value, more: Value| {
            let mut key = key.clone();
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        for (key, algorithm) in [
            (rsa.clone(), Some(Algorithm::RS256)),
            (with(&rsa, json!({"alg": "RS256", "use": "sig", "x5t": "x", "x5c": ["x"], "new": 1})), Some(Algorithm::RS256)),
            (ec("ec"), Some(Algorithm::ES256)),
            (with(&ec("ec"), json!({"key_ops": ["verify"]})), Some(Algorithm::ES256)),
            (with(&rsa, json!({"alg": "RS512"})), None),
            (with(&rsa, json!({"alg": "PS256"})), None),
            (with(&rsa, json!({"alg": "HS256"})), None),
            (with(&rsa, json!({"alg": "none"})), None),
            (with(&rsa, json!({"use": "enc"})), None),
            (with(&rsa, json!({"key_ops": ["encrypt"]})), None),
            (with(&rsa, json!({"kid": null})), None),
            (with(&rsa, json!({"n": "?"})), None),
            (with(&ec("ec"), json!({"crv": "P-384"})), None),
            (with(&ec("ec"), json!({"crv": "secp256k1"})), None),
            (with(&ec("ec"), json!({"alg": "RS256"})), None),
            (json!({"kty": "oct", "kid": "oct", "k": "AQAB"}), None),
            (json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "AQAB"}), None),
            (json!("key"), None),
        ] {
            let set = json!({"keys": [key, {"kty": "other"}]}).to_string();
            let read = read(set.as_bytes()).ok().map(|keys| keys.values().next().unwrap().algorithm);
            assert_eq!(read, algorithm, "{key}");
        }
        assert!(matches!(read(b"{\"keys\": []}"), Err(FetchError::Unusable)));
        assert!(matches!(read(b"[]"), Err(FetchError::Content(_))));
    }

    /// What the provider does.
    #[derive(Debug, Clone)]
    enum Answer {
        Keys(Vec<&'static str>),
        Fails,
        Elsewhere,
        Endless,
    }

    struct Stub {
        answer: Mutex<Answer>,
        fetches: AtomicU32,
        /// No answer comes while somebody holds it.
        held: tokio::sync::Mutex<()>,
    }

    impl Stub {
        fn answers(&self, answer: Answer) {
            *self.answer.lock().unwrap() = answer;
        }

        fn fetches(&self) -> u32 {
            self.fetches.load(Ordering::SeqCst)
        }

        async fn until_fetched(&self, times: u32) {
            let began = Instant::now();
            while self.fetches() < times {
                assert!(began.elapsed() < Duration::from_secs(20), "it is asked soon");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn answer(State(stub): State<Arc<Stub>>) -> Response {
        stub.fetches.fetch_add(1, Ordering::SeqCst);
        drop(stub.held.lock().await);
        let answer = stub.answer.lock().unwrap().clone();
        match answer {
            Answer::Keys(keys) => axum::Json(json!({"keys": keys.into_iter().map(ec).collect::<Vec<_>>()})).into_response(),
            Answer::Fails => (Status::INTERNAL_SERVER_ERROR, axum::Json(json!({"keys": [ec("failed")]}))).into_response(),
            Answer::Elsewhere => Redirect::temporary("/elsewhere").into_response(),
            Answer::Endless => vec![b' '; LARGEST + 1].into_response(),
        }
    }

    const SHORT: Duration = Duration::from_millis(1500);

    async fn provider(first: Answer) -> (Arc<Stub>, Arc<KeySet>) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let stub = Arc::new(Stub { answer: Mutex::new(first), fetches: AtomicU32::new(0), held: tokio::sync::Mutex::default() });
        let elsewhere = || async { axum::Json(json!({"keys": [ec("elsewhere")]})) };
        let routes = axum::Router::new().route("/jwks", axum::routing::get(answer)).with_state(stub.clone());
        let routes = routes.route("/elsewhere", axum::routing::get(elsewhere));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let set = KeySet { pause: SHORT, ..KeySet::new(Url::parse(&url).unwrap(), client().unwrap()) };
        (stub, Arc::new(set))
    }

    #[tokio::test]
    async fn callers_share_a_fetch_and_unknown_names_cause_one_in_a_while() {
        let (stub, set) = provider(Answer::Keys(vec!["one"])).await;
        let all = futures::future::join_all((0..50).map(|_| set.key("one"))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(stub.fetches(), 1);
        stub.answers(Answer::Keys(vec!["two"]));
        assert!(set.key("two").await.is_ok(), "a new key holds at once");
        assert_eq!(stub.fetches(), 2);
        assert_eq!(set.key("one").await.unwrap_err(), Missing::Unknown, "one that was taken back does not");
        let all = futures::future::join_all((0..50).map(|_| set.key("none"))).await;
        assert!(all.iter().all(|found| matches!(found, Err(Missing::Unknown))));
        assert_eq!(stub.fetches(), 2, "made-up names are not asked for");
        stub.answers(Answer::Keys(vec!["two", "three"]));
        tokio::time::sleep(SHORT).await;
        let all = futures::future::join_all((0..50).map(|_| set.key("three"))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(stub.fetches(), 3);
    }

    #[tokio::test]
    async fn what_is_known_holds_while_the_provider_fails() {
        for answer in [Answer::Fails, Answer::Elsewhere, Answer::Endless, Answer::Keys(vec![])] {
            let (stub, set) = provider(Answer::Keys(vec!["one"])).await;
            assert!(set.key("one").await.is_ok());
            stub.answers(answer.clone());
            for kid in ["two", "failed", "elsewhere"] {
                assert_eq!(set.key(kid).await.unwrap_err(), Missing::Unavailable, "{answer:?} {kid}");
            }
            assert!(set.key("one").await.is_ok(), "{answer:?}");
            assert_eq!(stub.fetches(), 2, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_provider_that_fails_at_first_is_asked_again_after_a_pause() {
        let (stub, set) = provider(Answer::Fails).await;
        for _ in 0..10 {
            assert_eq!(set.key("one").await.unwrap_err(), Missing::Unavailable);
        }
        assert_eq!(stub.fetches(), 1);
        stub.answers(Answer::Keys(vec!["one"]));
        tokio::time::sleep(SHORT).await;
        assert!(set.key("one").await.is_ok());
        assert_eq!(stub.fetches(), 2);
    }

    #[tokio::test]
    async fn callers_that_go_away_do_not_end_a_fetch() {
        let (stub, set) = provider(Answer::Keys(vec!["one"])).await;
        let held = stub.held.lock().await;
        let asking = tokio::spawn({
            let set = set.clone();
            async move { set.key("one").await.is_ok() }
        });
        stub.until_fetched(1).await;
        asking.abort();
        asking.await.unwrap_err();
        drop(held);
        assert!(set.key("one").await.is_ok());
        assert_eq!(stub.fetches(), 1);
    }

    #[tokio::test]
    async fn old_keys_are_fetched_again_and_serve_meanwhile() {
        let (stub, set) = provider(Answer::Keys(vec!["one", "two"])).await;
        let old = Duration::from_millis(100);
        let set = Arc::new(KeySet { old, pause: PAUSE, ..Arc::into_inner(set).unwrap() });
        assert!(set.key("one").await.is_ok());
        tokio::time::sleep(old).await;
        stub.answers(Answer::Keys(vec!["one"]));
        let held = stub.held.lock().await;
        let asking = tokio::spawn({
            let set = set.clone();
            async move { set.key("one").await.is_ok() }
        });
        stub.until_fetched(2).await;
        assert!(set.key("two").await.is_ok(), "it serves while the provider is asked");
        drop(held);
        assert!(asking.await.unwrap());
        assert_eq!(set.key("two").await.unwrap_err(), Missing::Unknown, "one that was withdrawn is gone");
        assert_eq!(stub.fetches(), 2);
    }
}
