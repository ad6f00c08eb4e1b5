//! Pages of long lists. What leads to the next is all that is needed to ask for it, so that a client may follow it and say no more.

use super::error::Fault;
use crate::identity::Account;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

/// Bytes of what shows that a key is ours.
const SEAL: usize = 16;

/// What leads to other pages.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde_with::skip_serializing_none]
pub(super) struct Meta {
    /// The address of the next page, relative to this origin; none behind the last.
    pub(super) next: Option<String>,
    /// The address of the page before.
    pub(super) previous: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde_with::skip_serializing_none]
pub(super) struct Page<T: ToSchema> {
    /// What is on it.
    pub(super) data: Vec<T>,
    /// What leads to other pages, if there are any.
    pub(super) meta: Option<Meta>,
}

impl<T: ToSchema> Page<T> {
    /// A page, and the address of the next one, if there is one.
    pub(super) fn new(data: Vec<T>, next: Option<String>) -> Self {
        Self { data, meta: next.map(|next| Meta { next: Some(next), previous: None }) }
    }
}

/// What is put in front of what a key says: nobody can make it without this gateway's secret, and it is of one account and list.
fn seal(account: &Account, list: &str, text: &str) -> [u8; SEAL] {
    account.uuid_of("page", &format!("{list} {text}")).into_bytes()
}

/// The address of a page of a list of an account, which is served at `list`.
pub(super) fn address(account: &Account, list: &str, page: &impl Serialize) -> String {
    // Texts and numbers always become JSON.
    let text = serde_json::to_string(page).unwrap_or_default();
    let key = [&seal(account, list, &text)[..], text.as_bytes()].concat();
    format!("{list}?pageKey={}", BASE64.encode(key))
}

/// What a key says.
///
/// # Errors
/// A sentence, if it was not made by [`address`] for this account and list.
pub(super) fn open<P: DeserializeOwned>(account: &Account, list: &str, key: &str) -> Result<P, Fault> {
    let read = || {
        let bytes = BASE64.decode(key.trim_end_matches('=')).ok()?;
        let (sealed, text) = bytes.split_at_checked(SEAL)?;
        let text = std::str::from_utf8(text).ok().filter(|text| seal(account, list, text) == sealed)?;
        serde_json::from_str(text).ok()
    };
    read().ok_or_else(|| Fault::bad("pageKey is none of this list; take it from meta.next as it stands"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::identity::Issuer;
    use serde::Deserialize;
    use std::sync::Arc;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Place {
        query: String,
        after: i64,
    }

    #[test]
    fn a_key_leads_on_in_its_own_list_and_is_none_anywhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let set = ("TIELINE__SERVER__DATA_DIR".to_owned(), dir.path().display().to_string());
        let text = "[[accounts]]\nid = \"a\"\n[[accounts]]\nid = \"b\"\n";
        let config = Config::from_parts(Some(("test", text)), [set]).unwrap();
        let issuer = Issuer::open(&config, Arc::new(|| 0)).unwrap();
        let (one, other) = (issuer.directory().account("a").unwrap(), issuer.directory().account("b").unwrap());
        let place = Place { query: "käse & brot".into(), after: 7 };
        let next = address(&one, "/v1/things", &place);
        let key = next.strip_prefix("/v1/things?pageKey=").unwrap();
        assert_eq!(open::<Place>(&one, "/v1/things", key), Ok(place));
        assert!(open::<Place>(&other, "/v1/things", key).is_err() && open::<Place>(&one, "/v1/others", key).is_err());
        let longer = format!("{key}AAAA");
        let forged = BASE64.encode(br#"0123456789abcdef{"query":"x","after":1}"#);
        for wrong in ["", "=", "AAAA", "not base64!", &key[1..], &key[..key.len() - 2], &longer, &forged] {
            assert!(open::<Place>(&one, "/v1/things", wrong).is_err(), "{wrong}");
        }
    }
}
