//! Consumers known to an identity provider of the account's own: its tokens are checked here and exchanged for ours.
//!
//! Nothing in such a token says how to check it. Its key is the configured one, or the one of its name among those that
//! the configured address gives; the key says the algorithm. A header that brings keys or names places for them is refused.

use super::jwks::{self, KeySet, Missing, PublicKey};
use super::keys::Keys;
use super::token::{self, Ext, SignedInClaims};
use super::{Account, Denied, Identity, KeyError, LEEWAY, SignedIn, seconds};
use crate::config::{self, KeySource};
use crate::domain::Actor;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Number, Value};
use std::collections::HashMap;
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ConsumerId};

/// Longest token that is looked at.
const LONGEST: usize = 16 * 1024;
/// Longest subject, in bytes; the longest there is by OpenID Connect.
const LONGEST_SUBJECT: usize = 255;
/// What a token may say about its consumer, in bytes as our own token carries it: that one must fit into a header.
const LARGEST_SDES: usize = 4 * 1024;
/// Members of a header that would change where keys come from or what is signed.
const REFUSED: [&str; 9] = ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc", "epk"];

/// Why an external token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error("its header is not that of a signed JWT, or brings keys of its own")]
    Header,
    #[error("its algorithm is not that of the provider's key")]
    Algorithm,
    #[error("it names no key")]
    NoKey,
    #[error("the provider has no key of the name that it names")]
    UnknownKey,
    #[error("the provider's keys cannot be fetched now")]
    Unavailable,
    #[error("its signature is wrong")]
    Signature,
    #[error("sub, iss, aud, iat or exp is missing, or a claim is of the wrong kind")]
    Claims,
    #[error("iss is another")]
    Issuer,
    #[error("aud does not name us")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is not yet valid, or was issued in the future")]
    Early,
    #[error("sub is empty, longer than {LONGEST_SUBJECT} bytes, or has control characters")]
    Subject,
    #[error("lp_sdes is larger than {LARGEST_SDES} bytes")]
    Sdes,
}

impl From<Fault> for Denied {
    fn from(fault: Fault) -> Self {
        if fault == Fault::Unavailable { Self::Unavailable } else { Self::Invalid }
    }
}

/// An identity provider of an account.
#[derive(Debug)]
pub struct Provider {
    id: String,
    issuer: String,
    audience: String,
    keys: ProviderKeys,
}

#[derive(Debug)]
enum ProviderKeys {
    Fetched(Arc<KeySet>),
    Given(Arc<PublicKey>),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    sub: String,
    exp: Number,
    iat: Number,
    nbf: Option<Number>,
    lp_sdes: Option<Vec<Value>>,
}

/// Whom an external token names.
#[derive(Debug)]
struct Subject {
    sub: String,
    lp_sdes: Option<Vec<Value>>,
}

impl Provider {
    /// Its name in the account.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    async fn check(&self, token: &str, now: u64) -> Result<Subject, Fault> {
        if token.len() > LONGEST {
            return Err(Fault::TooLong);
        }
        let header = header(token).ok_or(Fault::Header)?;
        let key = match &self.keys {
            ProviderKeys::Given(key) => key.clone(),
            ProviderKeys::Fetched(keys) => {
                // Known before anything is fetched: what names another algorithm is not worth a fetch.
                if !["RS256", "ES256"].contains(&header.alg.as_str()) {
                    return Err(Fault::Algorithm);
                }
                keys.key(header.kid.as_deref().ok_or(Fault::NoKey)?).await.map_err(|missing| match missing {
                    Missing::Unknown => Fault::UnknownKey,
                    Missing::Unavailable => Fault::Unavailable,
                })?
            }
        };
        if header.alg != name(key.algorithm) {
            return Err(Fault::Algorithm);
        }
        self.subject(open(&key, token)?, now)
    }

    fn subject(&self, claims: Claims, now: u64) -> Result<Subject, Fault> {
        let time = |number: &Number| seconds_of(number).ok_or(Fault::Claims);
        if claims.iss != self.issuer {
            return Err(Fault::Issuer);
        }
        let is_for_us = match &claims.aud {
            Audience::One(one) => *one == self.audience,
            Audience::Many(many) => many.contains(&self.audience),
        };
        if !is_for_us {
            return Err(Fault::Audience);
        }
        if time(&claims.exp)?.saturating_add(LEEWAY) <= now {
            return Err(Fault::Expired);
        }
        let begins = claims.nbf.as_ref().map(time).transpose()?.unwrap_or_default().max(time(&claims.iat)?);
        if begins > now + LEEWAY {
            return Err(Fault::Early);
        }
        if claims.sub.is_empty() || claims.sub.len() > LONGEST_SUBJECT || claims.sub.chars().any(char::is_control) {
            return Err(Fault::Subject);
        }
        let size = |sdes: &Vec<Value>| serde_json::to_string(sdes).map_or(usize::MAX, |text| token::plain(&text).len());
        if claims.lp_sdes.as_ref().is_some_and(|sdes| size(sdes) > LARGEST_SDES) {
            return Err(Fault::Sdes);
        }
        Ok(Subject { sub: claims.sub, lp_sdes: claims.lp_sdes })
    }
}

fn name(algorithm: Algorithm) -> &'static str {
    if algorithm == Algorithm::ES256 { "ES256" } else { "RS256" }
}

fn header(token: &str) -> Option<Header> {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: Header = serde_json::from_slice(&bytes).ok()?;
    let is_jwt = header.typ.as_ref().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
    let is_plain = !REFUSED.iter().any(|name| header.more.contains_key(*name));
    (is_jwt && is_plain).then_some(header)
}

/// What a token says, if it was signed with the key. All claims are the caller's to check, by its own clock.
fn open(key: &PublicKey, token: &str) -> Result<Claims, Fault> {
    let mut validation = Validation::new(key.algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    match jsonwebtoken::decode(token.as_bytes(), &key.key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => Err(Fault::Claims),
        Err(_) => Err(Fault::Signature),
    }
}

/// A time in whole seconds; some issuers write fractions.
fn seconds_of(number: &Number) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the bounds of both")]
    let whole = |time: f64| (0.0..9e15).contains(&time).then_some(time as u64);
    number.as_u64().or_else(|| number.as_f64().and_then(whole))
}

/// Every account's providers.
#[derive(Debug)]
pub(super) struct Providers(HashMap<AccountId, Vec<Arc<Provider>>>);

impl Providers {
    pub(super) fn open(accounts: &[config::Account]) -> Result<Self, KeyError> {
        // Entries with the same address share what is fetched from there.
        let mut fetched: HashMap<Url, Arc<KeySet>> = HashMap::new();
        let mut all = HashMap::new();
        for account in accounts {
            let open = |entry: &config::SignIn| {
                let fail = |reason| KeyError::Provider { account: account.id.clone(), id: entry.id.clone(), reason };
                let keys = match entry.keys().map_err(fail)? {
                    KeySource::Given(algorithm, key) => ProviderKeys::Given(Arc::new(PublicKey { algorithm, key })),
                    KeySource::Fetched(url) => ProviderKeys::Fetched(match fetched.get(&url) {
                        Some(keys) => keys.clone(),
                        None => {
                            let keys = Arc::new(KeySet::new(url.clone(), jwks::client().map_err(|error| fail(error.to_string()))?));
                            fetched.insert(url, keys.clone());
                            keys
                        }
                    }),
                };
                let (id, issuer, audience) = (entry.id.clone(), entry.issuer.clone(), entry.audience.clone());
                Ok(Arc::new(Provider { id, issuer, audience, keys }))
            };
            let providers: Vec<Arc<Provider>> = account.sign_in.iter().map(open).collect::<Result<_, _>>()?;
            all.insert(AccountId::from(account.id.as_str()), providers);
        }
        Ok(Self(all))
    }
}

/// The consumer behind a subject: the same one each time, another for each account and provider.
fn consumer(keys: &Keys, account: &AccountId, provider: &str, sub: &str) -> ConsumerId {
    ConsumerId::from(keys.uuid(&["external", account.as_str(), provider, sub]))
}

impl Identity {
    /// The identity providers of an account.
    #[must_use]
    pub fn providers(&self, account: &Account) -> Vec<Arc<Provider>> {
        self.providers.load().0.get(&account.id).cloned().unwrap_or_default()
    }

    /// An identity provider by its name. The only one is also `default`.
    #[must_use]
    pub fn provider(&self, account: &Account, name: &str) -> Option<Arc<Provider>> {
        let all = self.providers(account);
        let only = || all.first().filter(|_| name == "default" && all.len() == 1);
        all.iter().find(|provider| provider.id == name).or_else(only).cloned()
    }

    /// A token of ours for the consumer that an external token names. One that was anonymous before, by the token that
    /// it had of us then, steps up: the new token says which it was.
    ///
    /// # Errors
    /// [`Denied::Invalid`] if the external token is not good; [`Denied::Unavailable`] if it cannot be checked now.
    pub async fn sign_in(&self, account: &Account, provider: &Provider, token: &str, before: Option<SignedIn>) -> Result<String, Denied> {
        let subject = provider.check(token, seconds(&self.issuer.clock)).await.map_err(|fault| {
            tracing::debug!(account = %account.id, provider = provider.id, %fault, "an external token is refused");
            Denied::from(fault)
        })?;
        let id = consumer(&self.issuer.keys(), &account.id, &provider.id, &subject.sub);
        let was = before.and_then(|before| was(before, &id)).map(|was| was.to_string());
        self.consumer_token(&account.id, &id, SignedInClaims { was, ext: Some(Ext { sub: subject.sub }), lp_sdes: subject.lp_sdes })
    }
}

/// The anonymous consumer that one was who has a token already. Of another that had signed in it is none: what that one
/// wrote does not become this one's.
fn was(before: SignedIn, now: &ConsumerId) -> Option<ConsumerId> {
    match before {
        SignedIn { actor: Actor::Consumer { id, .. }, claims: None, .. } => Some(id),
        SignedIn { actor: Actor::Consumer { id, was, .. }, .. } if id == *now => was,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, EncodingKey};
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    struct Signer {
        key: EncodingKey,
        algorithm: Algorithm,
        public: String,
        provider: Provider,
    }

    fn signer(algorithm: Algorithm) -> Signer {
        let kind = if algorithm == Algorithm::ES256 { &rcgen::PKCS_ECDSA_P256_SHA256 } else { &rcgen::PKCS_RSA_SHA256 };
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let (private, public) = (pair.serialize_pem(), pair.public_key_pem());
        let (key, verify) = match algorithm {
            Algorithm::ES256 => (EncodingKey::from_ec_pem(private.as_bytes()), DecodingKey::from_ec_pem(public.as_bytes())),
            _ => (EncodingKey::from_rsa_pem(private.as_bytes()), DecodingKey::from_rsa_pem(public.as_bytes())),
        };
        let keys = ProviderKeys::Given(Arc::new(PublicKey { algorithm, key: verify.unwrap() }));
        let provider = Provider { id: "default".into(), issuer: "https://login.example".into(), audience: "shop".into(), keys };
        Signer { key: key.unwrap(), algorithm, public, provider }
    }

    fn claims() -> Value {
        json!({"iss": "https://login.example", "aud": "shop", "sub": "ann", "iat": NOW, "exp": NOW + 60})
    }

    fn message(header: &Value, claims: &Value) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    impl Signer {
        fn sign(&self, header: &Value, claims: &Value) -> String {
            let message = message(header, claims);
            format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap())
        }

        fn check(&self, token: &str) -> Result<Subject, Fault> {
            // A key that is given is not waited for.
            futures::FutureExt::now_or_never(self.provider.check(token, NOW)).unwrap()
        }

        fn saying(&self, name: &str, value: Value) -> Result<Subject, Fault> {
            let mut claims = claims();
            claims[name] = value;
            let header = json!({"alg": super::name(self.algorithm)});
            self.check(&self.sign(&header, &claims))
        }
    }

    #[test]
    fn good_tokens_name_their_subject() {
        for signer in [signer(Algorithm::RS256), signer(Algorithm::ES256)] {
            let alg = name(signer.algorithm);
            for header in [json!({"alg": alg}), json!({"alg": alg, "typ": "jwt", "kid": "any", "x5t": "print"})] {
                assert_eq!(signer.check(&signer.sign(&header, &claims())).unwrap().sub, "ann");
            }
            for (name, value) in [
                ("aud", json!(["other", "shop"])),
                ("exp", json!(NOW - LEEWAY + 1)),
                ("iat", json!(NOW + LEEWAY)),
                ("nbf", json!(NOW + LEEWAY)),
                ("nbf", json!(null)),
                ("exp", json!(1_800_000_060.5)),
                ("lp_sdes", json!([{"type": "ctmrinfo", "info": {"ctype": "vip"}}])),
                ("lp_sdes", json!([])),
                ("sub", json!("é".repeat(127))),
                ("more", json!({"a": 1})),
            ] {
                assert!(signer.saying(name, value.clone()).is_ok(), "{name} {value}");
            }
        }
    }

    #[test]
    fn each_claim_is_required_and_checked() {
        let signer = signer(Algorithm::ES256);
        for (name, value, fault) in [
            ("iss", json!("https://login.example/"), Fault::Issuer),
            ("iss", json!(["https://login.example"]), Fault::Claims),
            ("aud", json!("shop2"), Fault::Audience),
            ("aud", json!(["other"]), Fault::Audience),
            ("aud", json!([]), Fault::Audience),
            ("aud", json!({"shop": 1}), Fault::Claims),
            ("exp", json!(NOW - LEEWAY), Fault::Expired),
            ("exp", json!(0), Fault::Expired),
            ("exp", json!(-1), Fault::Claims),
            ("exp", json!("1800000060"), Fault::Claims),
            ("exp", json!(1e300), Fault::Claims),
            ("iat", json!(NOW + LEEWAY + 1), Fault::Early),
            ("iat", json!(true), Fault::Claims),
            ("nbf", json!(NOW + LEEWAY + 1), Fault::Early),
            ("nbf", json!("x"), Fault::Claims),
            ("sub", json!(""), Fault::Subject),
            ("sub", json!("a".repeat(256)), Fault::Subject),
            ("sub", json!("a\u{0}b"), Fault::Subject),
            ("sub", json!(7), Fault::Claims),
            ("lp_sdes", json!({"type": "x"}), Fault::Claims),
            ("lp_sdes", json!(["a".repeat(4096)]), Fault::Sdes),
            // As our own token would carry them they are six times as long.
            ("lp_sdes", json!(["~".repeat(1000)]), Fault::Sdes),
        ] {
            assert_eq!(signer.saying(name, value.clone()).unwrap_err(), fault, "{name} {value}");
        }
        for name in ["iss", "aud", "sub", "exp", "iat"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(signer.check(&signer.sign(&json!({"alg": "ES256"}), &claims)).unwrap_err(), Fault::Claims, "without {name}");
        }
    }

    #[test]
    fn nothing_in_a_token_says_how_to_check_it() {
        let (rsa, ec) = (signer(Algorithm::RS256), signer(Algorithm::ES256));
        for signer in [&rsa, &ec] {
            let alg = name(signer.algorithm);
            let other = if alg == "RS256" { "ES256" } else { "RS256" };
            for wrong in ["none", "None", "HS256", "HS512", "RS384", "RS512", "PS256", "ES384", "EdDSA", "", "rs256", "es256", other] {
                let message = message(&json!({"alg": wrong}), &claims());
                // Unsigned, signed by the right key, and signed with the public key taken for a secret.
                let secret = EncodingKey::from_secret(signer.public.as_bytes());
                let confused = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
                let right = jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, signer.algorithm).unwrap();
                for signature in ["", &confused, &right] {
                    assert_eq!(signer.check(&format!("{message}.{signature}")).unwrap_err(), Fault::Algorithm, "{alg} {wrong:?}");
                }
            }
            for name in REFUSED {
                let header = json!({"alg": alg, name: "https://evil.example/jwks"});
                assert_eq!(signer.check(&signer.sign(&header, &claims())).unwrap_err(), Fault::Header, "{name}");
            }
            for typ in ["at+jwt", "JWE", ""] {
                let header = json!({"alg": alg, "typ": typ});
                assert_eq!(signer.check(&signer.sign(&header, &claims())).unwrap_err(), Fault::Header, "{typ}");
            }
        }
        for header in [json!({}), json!([]), json!("x"), json!({"alg": 1}), json!({"alg": "ES256", "kid": 7})] {
            assert_eq!(ec.check(&ec.sign(&header, &claims())).unwrap_err(), Fault::Header, "{header}");
        }
    }

    #[test]
    fn what_was_not_signed_by_the_key_is_refused() {
        let (ours, theirs) = (signer(Algorithm::ES256), signer(Algorithm::ES256));
        let header = json!({"alg": "ES256"});
        let good = ours.sign(&header, &claims());
        let (message, signature) = good.rsplit_once('.').unwrap();
        let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
        for token in [
            theirs.sign(&header, &claims()),
            format!("{message}."),
            format!("{message}.{}", &signature[..40]),
            format!("{message}.{zeros}"),
            format!("{message}.{signature}=="),
            format!("{good}.x"),
            message.to_owned(),
        ] {
            assert_eq!(ours.check(&token).unwrap_err(), Fault::Signature, "{token}");
        }
        for token in ["", "..", "abc", "é.é.é"] {
            assert_eq!(ours.check(token).unwrap_err(), Fault::Header, "{token}");
        }
        assert_eq!(ours.check(&"a".repeat(LONGEST + 1)).unwrap_err(), Fault::TooLong);
    }

    #[test]
    fn a_subject_is_one_consumer_of_one_account_and_provider() {
        let dir = tempfile::tempdir().unwrap();
        let of = |account: &str, provider: &str, sub: &str| {
            // Read anew each time, as after a restart.
            consumer(&Keys::open(dir.path(), false).unwrap(), &AccountId::from(account), provider, sub)
        };
        let ann = of("shop", "default", "ann");
        assert_eq!(of("shop", "default", "ann"), ann);
        uuid::Uuid::parse_str(ann.as_str()).unwrap();
        for other in
            [of("shop2", "default", "ann"), of("shop", "default2", "ann"), of("shop", "default", "bob"), of("shop", "defaulta", "nn")]
        {
            assert_ne!(other, ann);
        }
    }

    #[test]
    fn only_who_was_anonymous_becomes_somebody() {
        let one = |id: &str, was: Option<&str>, claims: Option<Value>| SignedIn {
            actor: Actor::Consumer {
                account: AccountId::from("shop"),
                id: ConsumerId::from(id),
                app: None,
                was: was.map(ConsumerId::from),
            },
            remaining: std::time::Duration::from_secs(1),
            claims,
        };
        let ann = ConsumerId::from("ann");
        let known = || Some(json!({}));
        assert_eq!(was(one("nobody", None, None), &ann), Some(ConsumerId::from("nobody")));
        assert_eq!(was(one("ann", Some("nobody"), known()), &ann), Some(ConsumerId::from("nobody")), "signing in again");
        assert_eq!(was(one("bob", None, known()), &ann), None, "another who had signed in");
        assert_eq!(was(one("bob", Some("nobody"), known()), &ann), None);
    }
}
