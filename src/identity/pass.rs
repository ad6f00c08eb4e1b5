//! Passes: tokens of ours for the calls and sockets of other vendors' APIs, whose programs expect to be given one.
//!
//! All are signed with one key, and each says what it is good for: one for a socket opens no call, and a code is no access. What
//! it stands for must still be there when it is shown, which is for whoever checks it to see.

use super::checked::Checked;
use super::keys::Purpose;
use super::{Account, Denied, Identity, seconds};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::AccountId;

/// What a pass is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassKind {
    /// Opens an agent's socket of UltraCart's dialect.
    #[serde(rename = "ultracart-socket")]
    UltraCartSocket,
    /// An OAuth access token of UltraCart's dialect.
    #[serde(rename = "ultracart-access")]
    UltraCartAccess,
    /// An OAuth refresh token of UltraCart's dialect.
    #[serde(rename = "ultracart-refresh")]
    UltraCartRefresh,
    /// An OAuth authorisation code of UltraCart's dialect.
    #[serde(rename = "ultracart-code")]
    UltraCartCode,
    /// Opens Hubster's calls and its hub of events for a tenant.
    #[serde(rename = "hubster-engine")]
    HubsterEngine,
    /// Opens Hubster's calls for a visitor of a web chat.
    #[serde(rename = "hubster-web-chat")]
    HubsterWebChat,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PassClaims {
    aud: PassKind,
    account: AccountId,
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<String>,
    jti: String,
    iat: u64,
    pub(super) exp: u64,
}

/// A pass that is well signed and has not ended.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Its account, as it is now.
    pub account: Arc<Account>,
    /// Whom or what it stands for.
    pub subject: String,
    /// What else it is bound to, if it is.
    pub bound: Option<String>,
    /// Its own name, which no other has.
    pub id: String,
    /// When it was given out, in seconds since 1970.
    pub issued: u64,
    /// For how long it still holds.
    pub remaining: Duration,
}

impl Identity {
    /// A pass that holds for a time of whole seconds, at least one.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if it cannot be signed.
    pub fn issue_pass(
        &self,
        kind: PassKind,
        account: &Account,
        subject: &str,
        bound: Option<&str>,
        time: Duration,
    ) -> Result<String, Denied> {
        let iat = seconds(&self.issuer.clock);
        let claims = PassClaims {
            aud: kind,
            account: account.id.clone(),
            sub: subject.to_owned(),
            bound: bound.map(str::to_owned),
            jti: uuid::Uuid::new_v4().simple().to_string(),
            iat,
            exp: iat + time.as_secs().max(1),
        };
        self.issue(Purpose::Pass, claims, Checked::Pass)
    }

    /// Checks a pass, which says itself whose account's it is.
    ///
    /// # Errors
    /// [`Denied::Invalid`], also for one that is good for something else, and if its account is no more.
    pub fn check_pass(&self, kind: PassKind, token: &str) -> Result<Pass, Denied> {
        if self.is_expired(token) {
            return Err(Denied::Invalid);
        }
        let pick = |checked: &Checked| match checked {
            Checked::Pass(claims) => Some(claims.clone()),
            _ => None,
        };
        let claims = self.opened(Purpose::Pass, token, pick, Checked::Pass)?;
        let remaining = self.remaining(claims.exp).filter(|_| claims.aud == kind).ok_or(Denied::Invalid)?;
        let account = self.directory().account(claims.account.as_str()).ok_or(Denied::Invalid)?;
        let PassClaims { sub, bound, jti, iat, .. } = &*claims;
        Ok(Pass { account, subject: sub.clone(), bound: bound.clone(), id: jti.clone(), issued: *iat, remaining })
    }
}
