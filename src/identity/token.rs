//! Tokens: signed JSON, checked with the key of their purpose and with nothing that they say of themselves.

use super::keys::{ALGORITHM, Key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest token that is looked at.
const LONGEST: usize = 8 * 1024;

/// The issuer of AppJWTs, which clients look for.
pub(super) const APP_ISSUER: &str = "Sentinel";
/// The issuer of tokens of consumers that signed up themselves, which clients look for.
pub(super) const SIGN_UP_ISSUER: &str = "https://idp.liveperson.net";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AppClaims {
    pub(super) aud: String,
    pub(super) azp: String,
    pub(super) scope: String,
    pub(super) iss: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ConsumerClaims {
    pub(super) account_id: String,
    pub(super) ext_consumer_id: String,
    pub(super) lp_consumer_id: String,
    /// The application that speaks for the consumer.
    pub(super) azp: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SignUpClaims {
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) iss: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AgentClaims {
    pub(super) sub: String,
    pub(super) aud: String,
    /// The session; none if the token stands for itself until `exp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sid: Option<String>,
    pub(super) iat: u64,
    pub(super) exp: u64,
}

/// For the service that keeps secure forms, which checks it by the published key.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FormClaims<'c> {
    pub(super) aud: &'c str,
    pub(super) sub: &'c str,
    #[serde(rename = "use")]
    pub(super) purpose: &'static str,
    #[serde(rename = "dialogId")]
    pub(super) dialog_id: &'c str,
    #[serde(rename = "invitationId")]
    pub(super) invitation_id: &'c str,
    #[serde(rename = "submissionId", skip_serializing_if = "Option::is_none")]
    pub(super) submission_id: Option<&'c str>,
    /// What the service remembers, so that it takes each token once.
    pub(super) jti: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
}

pub(super) fn sign(key: &Key, claims: &impl Serialize) -> Option<String> {
    let mut header = Header::new(ALGORITHM);
    header.kid = Some(key.kid.clone());
    jsonwebtoken::encode(&header, claims, &key.sign).ok()
}

/// What a token says, if it was signed with the key. Times are the caller's to check, by its own clock.
pub(super) fn open<T: DeserializeOwned>(key: &Key, token: &str) -> Option<T> {
    if token.len() > LONGEST || !has_plain_header(key, token) {
        return None;
    }
    let mut validation = Validation::new(ALGORITHM);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode(token.as_bytes(), &key.verify, &validation).ok().map(|data| data.claims)
}

/// A header that brings keys of its own, demands extensions, or names another key or algorithm is not ours.
fn has_plain_header(key: &Key, token: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Plain {
        alg: String,
        kid: String,
        typ: Option<String>,
    }
    let Some(Ok(header)) = token.split('.').next().map(|part| URL_SAFE_NO_PAD.decode(part)) else { return false };
    serde_json::from_slice::<Plain>(&header)
        .is_ok_and(|header| header.alg == "RS256" && header.kid == key.kid && header.typ.is_none_or(|typ| typ == "JWT"))
}
