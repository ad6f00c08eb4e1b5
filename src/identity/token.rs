//! Tokens: signed JSON, checked with the key of their purpose and with nothing that they say of themselves.

use super::keys::{ALGORITHM, Key, Keys, Purpose};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId};

/// Longest token that is looked at.
const LONGEST: usize = 8 * 1024;

/// The issuer of AppJWTs, which clients look for.
pub(super) const APP_ISSUER: &str = "Sentinel";
/// The issuer of tokens of consumers that signed up themselves, which clients look for.
pub(super) const SIGN_UP_ISSUER: &str = "https://idp.liveperson.net";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AppClaims {
    pub(super) aud: String,
    pub(super) azp: ClientId,
    pub(super) scope: String,
    pub(super) iss: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ConsumerClaims {
    pub(super) account_id: AccountId,
    pub(super) ext_consumer_id: String,
    pub(super) lp_consumer_id: ConsumerId,
    /// The application that speaks for the consumer.
    pub(super) azp: ClientId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SignUpClaims {
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) iss: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
    #[serde(flatten)]
    pub(super) signed_in: SignedInClaims,
}

/// What is added for a consumer that signed in at an identity provider.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SignedInClaims {
    /// The anonymous consumer that it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<String>,
    #[serde(default, rename = "lp.ext", skip_serializing_if = "Option::is_none")]
    pub(super) ext: Option<Ext>,
    /// What the provider says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lp_sdes: Option<Vec<Value>>,
}

/// Who a consumer is at its identity provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ext {
    pub(super) sub: String,
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
    let (header, claims) = (serde_json::to_string(&header).ok()?, serde_json::to_string(claims).ok()?);
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(plain(&claims)));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.sign, ALGORITHM).ok()?;
    Some(format!("{message}.{signature}"))
}

/// The same JSON, in characters whose base64 is alike in both alphabets: clients in browsers read a token with the one
/// that it is not written in.
pub(super) fn plain(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside of strings JSON has none of the others, so each can be escaped where it stands.
        if c.is_ascii() && !matches!(c, '>' | '?' | '~' | '\u{7f}') {
            plain.push(c);
        } else {
            plain.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    plain
}

/// What a token says, if it was signed with a key of the purpose. Times are the caller's to check, by its own clock.
pub(super) fn open<T: DeserializeOwned>(keys: &Keys, purpose: Purpose, token: &str) -> Option<T> {
    if token.len() > LONGEST {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    // Of several keys the one that the token names: which purpose it is for it is not asked.
    let key = keys.named(purpose, &kid(header)?)?;
    key.verify.verify_sig(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// The key that a header names. One that brings keys of its own, demands extensions, or names another algorithm is not ours.
fn kid(header: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Plain {
        alg: String,
        kid: String,
        typ: Option<String>,
    }
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let header: Plain = serde_json::from_slice(&header).ok()?;
    (header.alg == "RS256" && header.typ.is_none_or(|typ| typ == "JWT")).then_some(header.kid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_reads_the_same_in_either_alphabet_of_base64() {
        let all: String = (0..0x2100_u32).filter_map(char::from_u32).chain("😀>?~>>??~~\\".chars()).collect();
        // At each place within a group of three bytes.
        for shift in 0..3 {
            let json = serde_json::to_string(&serde_json::json!({"x".repeat(shift + 1): all})).unwrap();
            let plain = plain(&json);
            assert!(!URL_SAFE_NO_PAD.encode(&plain).contains(['-', '_']));
            assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), serde_json::from_str::<Value>(&json).unwrap());
        }
    }
}
