//! Passes: tokens of ours for the calls and sockets of other vendors' APIs, whose programs expect to be given one.
//!
//! All are signed with one key, and each says what it is good for: one for a socket opens no call, and a code is no access. What
//! it stands for must still be there when it is shown, which is for whoever checks it to see.

use super::checked::Checked;
use super::keys::Purpose;
use super::oauth::NoAccess;
use super::{Account, Agent, Denied, Identity, Lease, seconds};
use crate::config::Dialect;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::AccountId;
use uuid::Uuid;

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

/// By what an agent's pass was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Warrant {
    /// An API key, by its id.
    Key(Uuid),
    /// What the agent granted a program.
    Grant {
        /// Which grant.
        id: String,
        /// Which program.
        app: String,
    },
}

/// An agent's pass that is good.
#[derive(Debug)]
pub struct AgentPass {
    /// The account, as it is now.
    pub account: Arc<Account>,
    /// The agent, as it is now.
    pub agent: Agent,
    /// How long what is opened with it may stay open: it ends with the pass, and with that by which the pass was asked for.
    pub lease: Lease,
}

/// What an agent's pass is bound to.
#[derive(Debug, Serialize, Deserialize)]
struct AgentBound {
    made_with: String,
    warrant: Warrant,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

    /// A pass for an agent, as [`Self::issue_pass`]. It is worth nothing any more when the agent gets another login, password or role,
    /// or when that ends by which it was asked for.
    ///
    /// # Errors
    /// As [`Self::issue_pass`].
    pub fn issue_agent_pass(
        &self,
        kind: PassKind,
        account: &Account,
        agent: &Agent,
        warrant: &Warrant,
        time: Duration,
    ) -> Result<String, Denied> {
        let bound = AgentBound { made_with: hex(&agent.made_with), warrant: warrant.clone() };
        let bound = serde_json::to_string(&bound).map_err(|_| Denied::Unavailable)?;
        self.issue_pass(kind, account, agent.user.as_str(), Some(&bound), time)
    }

    /// Checks an agent's pass: whose it is, and how long what is opened with it may stay open.
    ///
    /// # Errors
    /// [`NoAccess::Denied`], also where that has ended by which it was asked for; [`NoAccess::Gone`], if its agent is gone or another
    /// than it was, or its program is.
    pub async fn check_agent_pass(&self, kind: PassKind, token: &str) -> Result<AgentPass, NoAccess> {
        let pass = self.check_pass(kind, token)?;
        let bound: AgentBound = pass.bound.as_deref().and_then(|bound| serde_json::from_str(bound).ok()).ok_or(Denied::Invalid)?;
        let is_same = |agent: &&Agent| bound.made_with == hex(&agent.made_with);
        let agent = pass.account.agent(&pass.subject).filter(is_same).cloned().ok_or(NoAccess::Gone)?;
        let lease = match &bound.warrant {
            Warrant::Key(id) => {
                let its_key = || {
                    let key = self.directory().api_key_named(Dialect::UltraCart, *id);
                    key.filter(|key| key.account.id == pass.account.id && key.agent.as_ref() == Some(&agent.user))
                };
                let lease = self.key_lease(&*its_key().ok_or(Denied::Invalid)?, token, pass.remaining);
                // A key that was taken away meanwhile may not have found the lease.
                its_key().map(|_| lease).ok_or(Denied::Invalid)?
            }
            Warrant::Grant { id, app } => {
                let has_app = || self.directory().account(pass.account.id.as_str()).is_some_and(|account| account.oauth_app(app).is_some());
                let lease = self.session(id, &pass.account, &agent).await?.lease.within(pass.remaining);
                self.note_lease(token, &lease);
                self.note_end(pass.account.oauth_app_id(app), &lease);
                has_app().then_some(lease).ok_or(NoAccess::Gone)?
            }
        };
        Ok(AgentPass { account: pass.account, agent, lease })
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
