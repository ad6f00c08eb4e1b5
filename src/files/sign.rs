//! What makes a URL good: an HMAC over its purpose, method, path, size and expiry.
//!
//! The parameters have the vendor's names, and the signature its 40 hexadecimal digits: clients hand both on as they
//! are.

use super::path::{FilePath, TAG};
use super::refused::Refused;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use std::fmt::Write;
use std::time::Duration;
use tieline_protocol::ids::AccountId;

/// The parameter with the signature.
pub const SIGNATURE: &str = "temp_url_sig";
/// The parameter with the expiry.
pub const EXPIRES: &str = "temp_url_expires";
/// Hexadecimal digits of a signature: 160 bits.
const DIGITS: usize = 40;

/// A path, and what must stand in the query for it to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The path, with a slash in front.
    pub path: String,
    /// `temp_url_sig`.
    pub signature: String,
    /// `temp_url_expires`: seconds since 1970.
    pub expires: u64,
}

impl Signed {
    /// Path and query.
    #[must_use]
    pub fn relative_url(&self) -> String {
        format!("{}?{SIGNATURE}={}&{EXPIRES}={}", self.path, self.signature, self.expires)
    }
}

/// What a URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Upload,
    Download,
}

impl Purpose {
    fn method(self) -> &'static str {
        match self {
            Self::Upload => "PUT",
            Self::Download => "GET",
        }
    }
}

/// The key that signs.
pub(super) struct Signer(hmac::Key);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// Hexadecimal digits that nobody without the key can make. The first part says for what, so that digits made for one
    /// thing are good for no other.
    fn digits(&self, parts: &[&str], digits: usize) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            // With its length in front no two lists of parts are alike.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut text = String::with_capacity(64);
        for byte in context.sign().as_ref() {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.truncate(digits);
        text
    }

    /// What stands for an owner in paths: it tells nobody who that is, and differs from account to account.
    pub(super) fn tag(&self, account: &AccountId, owner: &str) -> String {
        self.digits(&["file owner", account.as_str(), owner], TAG)
    }

    fn signature(&self, purpose: Purpose, path: &FilePath, expires: u64) -> String {
        // The size stands in the path, too.
        let (text, size) = (path.to_string(), path.size().map(|size| size.to_string()).unwrap_or_default());
        self.digits(&["file url", purpose.method(), &text, &size, &expires.to_string()], DIGITS)
    }

    pub(super) fn url(&self, purpose: Purpose, path: &FilePath, now_ms: i64, time: Duration) -> Signed {
        let now = Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
        let expires = now.saturating_add(time).as_secs();
        Signed { path: path.to_string(), signature: self.signature(purpose, path, expires), expires }
    }

    /// The path of a request, if its signature is good and its time not over.
    pub(super) fn check(&self, purpose: Purpose, path: &str, query: Option<&str>, now_ms: i64) -> Result<FilePath, Refused> {
        let path = FilePath::parse(path).ok_or(Refused::NoSuchFile)?;
        let (signature, expires) = claim(query.unwrap_or_default()).ok_or(Refused::BadSignature)?;
        let good = self.signature(purpose, &path, expires);
        verify_slices_are_equal(good.as_bytes(), signature.as_bytes()).map_err(|_| Refused::BadSignature)?;
        let is_over = u64::try_from(now_ms).unwrap_or(u64::MAX) >= expires.saturating_mul(1000);
        if is_over { Err(Refused::Expired) } else { Ok(path) }
    }
}

/// Signature and expiry out of a query, each of which must stand there once. Neither has a character that is ever encoded.
fn claim(query: &str) -> Option<(&str, u64)> {
    let (mut signature, mut expires) = (None, None);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let place = match name {
            SIGNATURE => &mut signature,
            EXPIRES => &mut expires,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    let (signature, expires) = (signature?, expires?);
    let seconds: u64 = expires.parse().ok()?;
    (seconds.to_string() == expires).then_some((signature, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_924_992_000_500;
    const MINUTE: Duration = Duration::from_secs(60);

    fn path() -> FilePath {
        FilePath::parse("/files/demo/0123456789abcdef/6f1c1b86-53d5-4b0e-9d39-0c6ab1a7c6ee-5020.PNG").unwrap()
    }

    fn query(signed: &Signed) -> String {
        signed.relative_url().split_once('?').unwrap().1.to_owned()
    }

    #[test]
    fn a_signature_is_forty_digits_and_lives_its_time_and_no_longer() {
        let signer = Signer::new([7; 32]);
        let signed = signer.url(Purpose::Upload, &path(), NOW, MINUTE);
        assert_eq!((signed.signature.len(), signed.expires), (40, 1_924_992_060));
        let check = |now| signer.check(Purpose::Upload, &signed.path, Some(&query(&signed)), now);
        assert_eq!(check(NOW), Ok(path()));
        assert_eq!(check(1_924_992_059_999), Ok(path()));
        assert_eq!(check(1_924_992_060_000), Err(Refused::Expired));
        assert_eq!(check(-1), Err(Refused::Expired));
    }

    #[test]
    fn nothing_else_can_be_made_of_a_signature() {
        let signer = Signer::new([7; 32]);
        let signed = signer.url(Purpose::Upload, &path(), NOW, MINUTE);
        let good = query(&signed);
        let refused = |purpose, path: &str, query: Option<&str>| signer.check(purpose, path, query, NOW).unwrap_err();
        for query in [
            None,
            Some(String::new()),
            Some(good.replace(EXPIRES, "expires")),
            Some(good.replace(SIGNATURE, "sig")),
            Some(good.replace("1924992060", "1924995660")),
            Some(good.replace("1924992060", "01924992060")),
            Some(good.replace("1924992060", "+1924992060")),
            Some(good.replace("1924992060", "")),
            Some(good.replace("1924992060", "99999999999999999999")),
            Some(format!("{good}&{EXPIRES}=1924995660")),
            Some(format!("{good}&{SIGNATURE}={}", signed.signature)),
            Some(good.replace(&signed.signature, &signed.signature.to_uppercase())),
            Some(good.replace(&signed.signature, &signed.signature[..39])),
            Some(good.replace(&signed.signature, &format!("{}0", signed.signature))),
            Some(good.replace(&signed.signature, "")),
        ] {
            assert_eq!(refused(Purpose::Upload, &signed.path, query.as_deref()), Refused::BadSignature, "{query:?}");
        }
        assert_eq!(refused(Purpose::Download, &signed.path, Some(&good)), Refused::BadSignature);
        for (from, to) in [("demo", "other"), ("0123", "1123"), ("-5020", "-5021"), ("6f1c", "6f1d"), ("PNG", "JPG")] {
            assert_eq!(refused(Purpose::Upload, &signed.path.replace(from, to), Some(&good)), Refused::BadSignature, "{to}");
        }
        let other = Signer::new([8; 32]);
        assert_eq!(other.check(Purpose::Upload, &signed.path, Some(&good), NOW), Err(Refused::BadSignature));
        // Parameters that a client adds do no harm.
        assert_eq!(signer.check(Purpose::Upload, &signed.path, Some(&format!("x=1&{good}&_")), NOW), Ok(path()));
    }

    #[test]
    fn an_owner_has_another_tag_in_each_account() {
        let signer = Signer::new([7; 32]);
        let tag = |account: &str, owner: &str| signer.tag(&account.into(), owner);
        assert_eq!(tag("demo", "ann").len(), 16);
        assert_eq!(tag("demo", "ann"), tag("demo", "ann"));
        let all = [tag("demo", "ann"), tag("other", "ann"), tag("demo", "bob"), tag("demoa", "nn")];
        assert!(all.iter().enumerate().all(|(place, tag)| !all[..place].contains(tag)));
    }
}
