//! Grants: an agent lets a program act for it, which gets tokens of its own and never learns a password (OAuth 2.0).
//!
//! A grant is kept as a login of the agent is, so that it ends with the agent's logins, with another password, and over a restart.
//! The program is given a code, once, for it an access token and a refresh token, and for the latter further access tokens. All
//! name the grant, and none holds longer than it.

use super::directory::same;
use super::pass::{Pass, PassKind, Warrant};
use super::{Account, Denied, Identity, Session, millis};
use crate::domain::Actor;
use crate::identity::Lease;
use crate::store::SessionRow;
use crate::throttle::{Throttle, Wait};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::UserId;

/// How long a code holds.
const CODE_TIME: Duration = Duration::from_secs(60);
/// How long an access token holds.
const ACCESS_TIME: Duration = Duration::from_secs(3_600);
/// How long a grant holds, and with it the refresh token.
const GRANT_TIME: Duration = Duration::from_secs(30 * 86_400);
/// Calls of a program in the name of one agent in a second, and at once: as many as an API key has where nothing is said.
const CALLS: u32 = 10;

/// How often a program may call in the name of an agent.
pub(super) fn calls() -> Throttle {
    Throttle::over(Duration::from_secs(1), CALLS)
}

/// A program that agents may let act for them.
#[derive(Debug)]
pub struct OAuthApp {
    /// Its id.
    pub client_id: String,
    /// What it is called.
    pub name: String,
    /// Where it may be told the outcome, to the letter.
    pub redirect_uris: Vec<String>,
    pub(super) secret: Option<SecretString>,
}

impl OAuthApp {
    /// Whether it shows the secret that it has. One that has none shows none.
    #[must_use]
    pub fn shows(&self, secret: Option<&str>) -> bool {
        match (&self.secret, secret) {
            (Some(own), Some(given)) => same(own.expose_secret(), given),
            (Some(_), None) => false,
            (None, given) => given.is_none(),
        }
    }
}

/// What a program may do in an agent's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes {
    /// Read conversations.
    pub read: bool,
    /// Change them.
    pub write: bool,
}

impl Scopes {
    const READ: &str = "conversation_read";
    const WRITE: &str = "conversation_write";

    /// What an API key may do.
    pub const ALL: Self = Self { read: true, write: true };

    /// Reads names with blanks between them; all, if there is none. Nothing, if one is not known.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut scopes = Self { read: false, write: false };
        for name in text.split_whitespace() {
            match name {
                Self::READ => scopes.read = true,
                Self::WRITE => scopes.write = true,
                _ => return None,
            }
        }
        Some(if scopes.read || scopes.write { scopes } else { Self::ALL })
    }

    /// Those of them that others lack, if any.
    #[must_use]
    pub fn without(self, others: Self) -> Option<Self> {
        let left = Self { read: self.read && !others.read, write: self.write && !others.write };
        (left.read || left.write).then_some(left)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.read, Self::READ), (self.write, Self::WRITE)].into_iter().filter(|(has, _)| *has);
        f.write_str(&names.map(|(_, name)| name).collect::<Vec<_>>().join(" "))
    }
}

/// What a program asks an agent for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Where it is told, as it will say again when it shows the code.
    pub redirect_uri: String,
    /// Of what it will show with the code: the SHA-256, in URL-safe base64 without padding.
    pub challenge: Option<String>,
    /// What for.
    pub scopes: Scopes,
}

/// What a program is given.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// For calls.
    pub access: String,
    /// For how long that holds: no longer than the grant.
    pub access_time: Duration,
    /// For further access tokens.
    pub refresh: String,
    /// What for.
    pub scopes: Scopes,
}

/// Who shows an access token.
#[derive(Debug, Clone)]
pub struct Access {
    /// The account.
    pub account: Arc<Account>,
    /// The agent, as whom it acts.
    pub actor: Actor,
    /// The same.
    pub agent: UserId,
    /// What it may do.
    pub scopes: Scopes,
    /// By what.
    pub warrant: Warrant,
}

/// Why an access token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAccess {
    /// It is not good, or not any more.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Its program was disabled, or its agent is gone.
    #[error("the application was disabled, or its agent is gone")]
    Gone,
    /// The program called too often in the agent's name.
    #[error("too many requests; wait {} s", .0.0)]
    TooMany(Wait),
}

/// What a pass of a grant is bound to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bound {
    grant: String,
    app: String,
    scopes: Scopes,
    /// Of a code alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    once: Option<Once>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Once {
    /// What the grant has kept until the code is used.
    mark: String,
    redirect_uri: String,
    challenge: Option<String>,
}

/// A pass of a grant, with the grant.
struct Granted {
    pass: Pass,
    bound: Bound,
    session: Session,
}

impl Identity {
    /// Has an agent sign in for a program: the code that the program is told.
    ///
    /// # Errors
    /// As [`Identity::login`].
    pub async fn grant(&self, account: &Account, login: &str, password: &str, app: &OAuthApp, asked: &Asked) -> Result<String, Denied> {
        let agent = self.authenticated(account, login, password).await?;
        let (grant, mark) = (uuid::Uuid::new_v4().simple().to_string(), uuid::Uuid::new_v4().simple().to_string());
        let Asked { redirect_uri, challenge, scopes } = asked.clone();
        let once = Once { mark: mark.clone(), redirect_uri, challenge };
        let bound = Bound { grant: grant.clone(), app: app.client_id.clone(), scopes, once: Some(once) };
        let row = SessionRow {
            id: grant.clone(),
            account: account.id.clone(),
            agent: agent.user.to_string(),
            csrf: mark,
            made_with: agent.made_with,
            // One that nobody fetches tokens for is soon over.
            expires: self.now() + millis(CODE_TIME),
            ended: false,
        };
        let code = self.bound_pass(PassKind::UltraCartCode, account, &agent.user, &bound, CODE_TIME)?;
        self.keep(row.clone()).await?;
        self.sessions.insert(grant, Session { row, lease: Lease::lasting(CODE_TIME) });
        Ok(code)
    }

    fn bound_pass(&self, kind: PassKind, account: &Account, agent: &UserId, bound: &Bound, time: Duration) -> Result<String, Denied> {
        let bound = serde_json::to_string(bound).map_err(|_| Denied::Unavailable)?;
        self.issue_pass(kind, account, agent.as_str(), Some(&bound), time)
    }

    /// A pass of a program's, as long as its grant holds.
    async fn granted(&self, kind: PassKind, client: &str, token: &str) -> Result<Granted, Denied> {
        let pass = self.check_pass(kind, token)?;
        let bound: Bound = pass.bound.as_deref().and_then(|bound| serde_json::from_str(bound).ok()).ok_or(Denied::Invalid)?;
        if bound.app != client {
            return Err(Denied::Invalid);
        }
        let agent = pass.account.agent(&pass.subject).ok_or(Denied::Invalid)?;
        let session = self.session(&bound.grant, &pass.account, agent).await?;
        Ok(Granted { pass, bound, session })
    }

    fn tokens(&self, granted: &Granted) -> Result<Tokens, Denied> {
        let Granted { pass, bound, session } = granted;
        let agent = UserId::from(pass.subject.as_str());
        let bound = Bound { once: None, ..bound.clone() };
        let left = u64::try_from(session.row.expires - self.now()).map_or(Duration::ZERO, Duration::from_millis);
        let access_time = ACCESS_TIME.min(left);
        let access = self.bound_pass(PassKind::UltraCartAccess, &pass.account, &agent, &bound, access_time)?;
        let refresh = self.bound_pass(PassKind::UltraCartRefresh, &pass.account, &agent, &bound, left)?;
        Ok(Tokens { access, access_time, refresh, scopes: bound.scopes })
    }

    /// The tokens for a code. One that is shown twice was stolen, before or now: then the grant ends.
    ///
    /// # Errors
    /// [`Denied::Invalid`], also where the program, the address or what was to be shown with it is another.
    pub async fn redeem(&self, app: &OAuthApp, code: &str, redirect_uri: &str, verifier: Option<&str>) -> Result<Tokens, Denied> {
        // Two at once must not both find it unused.
        let _turn = self.redeeming.lock().await;
        let mut granted = self.granted(PassKind::UltraCartCode, &app.client_id, code).await?;
        let Some(once) = granted.bound.once.clone() else { return Err(Denied::Invalid) };
        if once.redirect_uri != redirect_uri || !proves(once.challenge.as_deref(), verifier) {
            return Err(Denied::Invalid);
        }
        if !same(&granted.session.row.csrf, &once.mark) {
            self.end(granted.session).await?;
            return Err(Denied::Invalid);
        }
        let row = &mut granted.session.row;
        row.csrf = uuid::Uuid::new_v4().simple().to_string();
        row.expires = self.now() + millis(GRANT_TIME);
        self.keep(row.clone()).await?;
        granted.session.lease.renew(GRANT_TIME);
        if let Some(mut kept) = self.sessions.get_mut(&granted.bound.grant) {
            kept.row = granted.session.row.clone();
        }
        self.tokens(&granted)
    }

    /// Further tokens for a refresh token. It goes on to hold as long as the grant.
    ///
    /// # Errors
    /// [`Denied::Invalid`], also for another program's.
    pub async fn renew(&self, app: &OAuthApp, refresh: &str) -> Result<Tokens, Denied> {
        let granted = self.granted(PassKind::UltraCartRefresh, &app.client_id, refresh).await?;
        Ok(Tokens { refresh: refresh.to_owned(), ..self.tokens(&granted)? })
    }

    /// Ends the grant of an access or a refresh token, with all that was given for it. Of a token that is over nothing is left to end.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if that cannot be kept.
    pub async fn end_grant(&self, app: &OAuthApp, token: &str) -> Result<(), Denied> {
        for kind in [PassKind::UltraCartAccess, PassKind::UltraCartRefresh] {
            match self.granted(kind, &app.client_id, token).await {
                Ok(granted) => return self.end(granted.session).await,
                Err(Denied::Invalid) => {}
                Err(Denied::Unavailable) => return Err(Denied::Unavailable),
            }
        }
        Ok(())
    }

    /// Who shows an access token. It counts as a call of the program's in the agent's name, however many grants it has.
    ///
    /// # Errors
    /// [`NoAccess`].
    pub async fn check_access(&self, token: &str) -> Result<Access, NoAccess> {
        let pass = self.check_pass(PassKind::UltraCartAccess, token)?;
        let bound: Bound = pass.bound.as_deref().and_then(|bound| serde_json::from_str(bound).ok()).ok_or(Denied::Invalid)?;
        let is_known = pass.account.oauth_app(&bound.app).is_some();
        let agent = pass.account.agent(&pass.subject).filter(|_| is_known).ok_or(NoAccess::Gone)?;
        self.session(&bound.grant, &pass.account, agent).await?;
        let (actor, agent) = (agent.actor(&pass.account.id), agent.user.clone());
        let who = serde_json::to_string(&(&pass.account.id, &agent, &bound.app)).map_err(|_| Denied::Unavailable)?;
        self.program_calls.check(&who, Ipv4Addr::UNSPECIFIED.into()).map_err(NoAccess::TooMany)?;
        let warrant = Warrant::Grant { id: bound.grant, app: bound.app };
        Ok(Access { actor, agent, scopes: bound.scopes, warrant, account: pass.account })
    }
}

/// Whether what is shown with a code is what was said of it when it was asked for.
fn proves(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
            same(&URL_SAFE_NO_PAD.encode(digest), challenge)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_written_by_their_names() {
        let of = |read, write| Some(Scopes { read, write });
        for (text, scopes) in [
            ("", of(true, true)),
            ("conversation_read", of(true, false)),
            ("conversation_write", of(false, true)),
            (" conversation_write  conversation_read ", of(true, true)),
            ("conversation_read order_read", None),
            ("Conversation_Read", None),
        ] {
            assert_eq!(Scopes::parse(text), scopes, "{text}");
        }
        assert_eq!(Scopes::ALL.to_string(), "conversation_read conversation_write");
        assert_eq!(Scopes { read: false, write: true }.to_string(), "conversation_write");
    }

    /// The example of RFC 7636.
    #[test]
    fn a_verifier_proves_its_own_challenge_alone() {
        let (challenge, verifier) = ("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert!(proves(Some(challenge), Some(verifier)) && proves(None, None));
        assert!(!proves(Some(challenge), None) && !proves(None, Some(verifier)) && !proves(Some(challenge), Some("x")));
    }

    #[test]
    fn a_program_shows_the_secret_that_it_has() {
        let app = |secret: Option<&str>| OAuthApp {
            client_id: "a".into(),
            name: String::new(),
            redirect_uris: Vec::new(),
            secret: secret.map(|secret| secret.to_owned().into()),
        };
        assert!(app(None).shows(None) && app(Some("s")).shows(Some("s")));
        assert!(!app(None).shows(Some("s")) && !app(Some("s")).shows(None) && !app(Some("s")).shows(Some("x")));
    }
}
