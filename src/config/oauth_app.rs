//! Programs that act for agents who signed in for them (OAuth).

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::HashMap;

/// Longest name and address, in bytes.
const LONGEST: usize = 512;

/// A program that agents may let act for them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthApp {
    /// Its id; no other of any account has it.
    pub client_id: String,
    /// What it is called where agents sign in.
    #[serde(default)]
    pub name: String,
    /// Where it may be told the outcome, to the letter.
    pub redirect_uris: Vec<String>,
    /// What it must show, if it can keep a secret.
    #[serde(default)]
    pub client_secret: Option<SecretString>,
}

/// Finds what is wrong with the programs of an account. `known` are those of the accounts before.
pub(super) fn validate<'c>(account: &'c super::Account, known: &mut HashMap<&'c str, &'c str>) -> Result<(), String> {
    for app in &account.oauth_apps {
        let id = app.client_id.as_str();
        if id.is_empty() || id.len() > LONGEST || !id.bytes().all(|byte| byte.is_ascii_graphic()) || app.name.len() > LONGEST {
            return Err(format!("client_id {id:?} must be 1 to {LONGEST} letters, digits and signs, and name no longer"));
        }
        if let Some(other) = known.insert(id, &account.id) {
            return Err(format!("client_id {id:?} is there already, in account {other:?}; it must say which program is meant"));
        }
        if app.redirect_uris.is_empty() {
            return Err(format!("{id:?} needs redirect_uris: where agents are sent back to"));
        }
        for uri in &app.redirect_uris {
            let is_good = |url: &Url| ["http", "https"].contains(&url.scheme()) && url.has_host() && url.fragment().is_none();
            if uri.len() > LONGEST || !Url::parse(uri).is_ok_and(|url| is_good(&url)) {
                return Err(format!("{uri:?} is no address to be sent back to; write https://… without a fragment"));
            }
        }
        if app.client_secret.as_ref().is_some_and(|secret| secret.expose_secret().is_empty()) {
            return Err(format!("the client_secret of {id:?} is empty; write a long random text, or leave it out"));
        }
    }
    Ok(())
}
