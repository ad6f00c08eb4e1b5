//! Checks a webhook from Tieline. Needs `aws-lc-rs` and `base64`.
//!
//! Hand in the bytes of the body exactly as they came: not parsed, not decoded, not trimmed.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How many seconds a webhook's time may be off: an old one may have been recorded and sent again by somebody else.
const TOLERANCE: i64 = 5 * 60;

/// Whether a body carries a Standard Webhooks signature by one of your secrets, and is fresh.
///
/// `secrets` are `whsec_…` each; two while you exchange one. `header` gives a header by its name in lower case; `now` is in
/// seconds since 1970.
pub fn verify_standard<'h>(secrets: &[&str], header: impl Fn(&str) -> Option<&'h str>, body: &[u8], now: i64) -> bool {
    let (Some(id), Some(timestamp)) = (header("webhook-id"), header("webhook-timestamp")) else { return false };
    let is_fresh = timestamp.parse::<i64>().is_ok_and(|then| now.saturating_sub(then).saturating_abs() <= TOLERANCE);
    let given: Vec<_> = header("webhook-signature").unwrap_or_default().split(' ').filter_map(tag).collect();
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    // An empty key, of a setting left empty, would let anybody sign.
    let keys = secrets.iter().filter_map(|secret| STANDARD.decode(secret.trim_start_matches("whsec_")).ok()).filter(|key| !key.is_empty());
    // Once for each key: anybody may list thousands of signatures, and each must not cost a look at the whole body.
    let expected: Vec<_> = keys.map(|key| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed)).collect();
    // Each comparison takes the same time, whatever it finds.
    let is_signed = given.iter().any(|tag| expected.iter().any(|own| verify_slices_are_equal(own.as_ref(), tag).is_ok()));
    is_fresh && is_signed
}

/// What a signature of the only known version says.
fn tag(signature: &str) -> Option<Vec<u8>> {
    STANDARD.decode(signature.strip_prefix("v1,")?).ok()
}

/// Whether `X-Liveperson-Signature`, `sha1=…` or `sha256=…`, is that of a body under an application's client secret.
pub fn verify_vendor(client_secret: &str, signature: &str, body: &[u8]) -> bool {
    let (algorithm, tag) = match signature.split_once('=') {
        Some(("sha1", tag)) => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, tag),
        Some(("sha256", tag)) => (hmac::HMAC_SHA256, tag),
        _ => return false,
    };
    let key = hmac::Key::new(algorithm, client_secret.as_bytes());
    !client_secret.is_empty() && STANDARD.decode(tag).is_ok_and(|tag| hmac::verify(&key, body, &tag).is_ok())
}
