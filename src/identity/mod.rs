//! Who somebody is: credentials are issued and checked here, and nowhere else.
//!
//! Four kinds of token, never interchangeable, each with a key of its own: the **AppJWT** of an application
//! (60 minutes), the **ConsumerJWS** that names a consumer for whom it speaks (no expiry), the token of a consumer
//! that signed up itself, and the **bearer** of an agent, which holds a session that slides. A checked credential
//! comes with a [`Lease`]: whoever goes on acting on it must stop when the lease ends.
//!
//! A consumer may also show the token of an identity provider of the account's own ([`external`]); it is exchanged for
//! one of ours and serves for nothing else.

mod api_keys;
mod checked;
mod directory;
mod external;
mod jwks;
mod keys;
mod lease;
mod oauth;
mod pass;
mod shelf;
mod token;

pub use api_keys::{Allowance, ApiKey, KeyRefused};
pub use directory::same;
pub use directory::{Account, Agent, App, Directory, Dropped};
pub use external::Provider;
pub use keys::{KeyError, KeyInfo, Purpose, list as list_keys, revoke as revoke_key, rotate as rotate_key};
pub use lease::Lease;
pub use oauth::{Access, Asked, NoAccess, OAuthApp, Scopes, Tokens as GrantTokens};
pub use pass::{AgentPass, Pass, PassKind, Warrant};
pub use shelf::{Kept, Shelf, Shelved, Source, ThingError, Things};

use self::api_keys::Failures;
use self::checked::{Checked, Tokens as CheckedTokens};
use self::external::Providers;
use self::keys::Keys;
use self::token::{AgentClaims, AppClaims, ConsumerClaims, SignUpClaims, SignedInClaims};
use crate::config::{Config, Dialect, Tokens};
use crate::domain::{Actor, Millis};
use crate::store::{Clock, Document, SessionRow, Store, StoreError};
use crate::throttle::Throttle;
use arc_swap::{ArcSwap, Guard};
use dashmap::DashMap;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, DialogId, UserId};

/// How far an issuer's clock may be ahead.
const LEEWAY: u64 = 5;
/// The longest that an AppJWT may live, whatever is configured for new ones.
const LONGEST_APP_TOKEN: u64 = 3_600;
/// How long a bearer may be refreshed before a new login is needed.
const LONGEST_SESSION: Duration = Duration::from_secs(30 * 86_400);

/// Why a credential is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not good: forged, expired, revoked, for another account or another purpose.
    #[error("the credential is not valid")]
    Invalid,
    /// It could not be checked or kept now.
    #[error("the credential cannot be checked now")]
    Unavailable,
}

/// What a token for a secure form is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormUse {
    /// To fill it.
    Fill,
    /// To read it.
    Read,
}

/// How long a token for a secure form holds.
const FORM_TIME: u64 = 300;

/// An application that showed its AppJWT.
#[derive(Debug, Clone)]
pub struct AppIdentity {
    /// The tenant.
    pub account: AccountId,
    /// The application.
    pub app: ClientId,
    /// How long the token holds from now.
    pub remaining: Duration,
}

/// A consumer that showed a token of its own.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The consumer.
    pub actor: Actor,
    /// How long the token holds from now.
    pub remaining: Duration,
    /// What an identity provider says about it; none of one that is anonymous.
    pub claims: Option<serde_json::Value>,
}

/// An agent's login.
#[derive(Debug, Clone)]
pub struct Login {
    /// The agent.
    pub agent: Agent,
    /// The token.
    pub bearer: String,
    /// The session.
    pub session: String,
    /// What a refresh must repeat.
    pub csrf: String,
    /// How long it holds without a refresh.
    pub time: Duration,
}

/// Issues and checks credentials.
pub struct Identity {
    issuer: Issuer,
    store: Arc<dyn Store>,
    lifetimes: ArcSwap<Tokens>,
    sessions: DashMap<String, Session>,
    checked: CheckedTokens,
    hashing: Arc<tokio::sync::Semaphore>,
    providers: ArcSwap<Providers>,
    /// On a double for tests: tokens that were made worthless, and the leases of those that are in use.
    is_double: bool,
    expired: DashMap<[u8; 32], ()>,
    leases: DashMap<[u8; 32], Vec<Lease>>,
    /// The leases of applications' sockets, which end with the application, and of sockets that are open by the tokens of an API
    /// key or of a program that agents let act for them, by its id.
    app_leases: DashMap<(AccountId, ClientId), Vec<Lease>>,
    key_leases: DashMap<uuid::Uuid, Vec<Lease>>,
    /// Consumers whose tokens are worthless, or were once.
    revoked: DashMap<(AccountId, ConsumerId), Revoked>,
    /// Held while one change of that is written.
    revoking: tokio::sync::Mutex<()>,
    /// Calls of programs that agents let act for them.
    program_calls: Throttle,
    /// Held while a code is looked at that holds once.
    redeeming: tokio::sync::Mutex<()>,
    /// API keys that were wrong.
    failures: Failures,
}

/// Where it is kept which consumers are revoked.
const REVOKED: &str = "revoked-consumers";

#[derive(Debug, Clone, Copy)]
struct Revoked {
    revision: u64,
    is_revoked: bool,
}

type RevokedRef<'d> = dashmap::mapref::multiple::RefMulti<'d, (AccountId, ConsumerId), Revoked>;

#[derive(Debug, Clone)]
struct Session {
    row: SessionRow,
    lease: Lease,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Issues tokens without a store, for the command line beside a server.
pub struct Issuer {
    keys: ArcSwap<Keys>,
    directory: Directory,
    clock: Clock,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Issuer {
    /// Opens the keys of a data folder.
    ///
    /// # Errors
    /// [`KeyError`] if they cannot be read or made.
    pub fn open(config: &Config, clock: Clock) -> Result<Self, KeyError> {
        let keys = Keys::open(&config.server.data_dir.join("keys"), config.server.dev)?;
        let directory = Directory::new(config, &keys);
        Ok(Self { keys: ArcSwap::from_pointee(keys), directory, clock })
    }

    /// Who there is.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    fn keys(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }

    /// What URLs of files are signed with.
    #[must_use]
    pub fn files_key(&self) -> [u8; 32] {
        self.keys().files()
    }

    /// An AppJWT.
    #[must_use]
    pub fn app(&self, account: &Account, app: &ClientId, time: Duration) -> Option<String> {
        token::sign(self.keys().of(Purpose::App), &self.app_claims(account, app, time)?)
    }

    fn app_claims(&self, account: &Account, app: &ClientId, time: Duration) -> Option<AppClaims> {
        let scope = account.app(app)?.scopes.join(" ");
        let iat = seconds(&self.clock);
        Some(AppClaims {
            aud: account.id.to_string(),
            azp: app.clone(),
            scope,
            iss: token::APP_ISSUER.into(),
            iat,
            exp: iat + time.as_secs().clamp(1, LONGEST_APP_TOKEN),
        })
    }

    /// The consumer that an application calls by a name of its own, and its ConsumerJWS. The same name always gives
    /// the same consumer; another application's is another.
    #[must_use]
    pub fn consumer(&self, account: &AccountId, app: &ClientId, ext_id: &str) -> Option<(ConsumerId, String)> {
        let claims = self.consumer_claims(account, app, ext_id);
        let token = token::sign(self.keys().of(Purpose::Consumer), &claims)?;
        Some((claims.lp_consumer_id, token))
    }

    fn consumer_claims(&self, account: &AccountId, app: &ClientId, ext_id: &str) -> ConsumerClaims {
        ConsumerClaims {
            account_id: account.clone(),
            ext_consumer_id: ext_id.to_owned(),
            lp_consumer_id: self.consumer_id(account, app, ext_id),
            azp: app.clone(),
        }
    }

    fn consumer_id(&self, account: &AccountId, app: &ClientId, ext_id: &str) -> ConsumerId {
        let name = self.keys().pseudonym(&["consumer", account.as_str(), app.as_str(), ext_id]);
        ConsumerId::from(name.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// A bearer for an agent that stands for itself: it ends after a time and cannot be refreshed.
    #[must_use]
    pub fn agent(&self, account: &Account, agent: &Agent, time: Duration) -> Option<String> {
        token::sign(self.keys().of(Purpose::Agent), &self.agent_claims(&account.id, agent, None, time))
    }

    fn agent_claims(&self, account: &AccountId, agent: &Agent, session: Option<&str>, time: Duration) -> AgentClaims {
        let iat = seconds(&self.clock);
        AgentClaims {
            sub: agent.user.to_string(),
            aud: account.to_string(),
            sid: session.map(str::to_owned),
            iat,
            exp: iat + time.as_secs().max(1),
        }
    }
}

fn seconds(clock: &Clock) -> u64 {
    u64::try_from(clock() / 1000).unwrap_or(0)
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Keys and identity providers that were read and can be used.
pub struct Prepared {
    keys: Keys,
    providers: Providers,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prepared")
    }
}

impl Identity {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`KeyError`] if the key of an identity provider cannot be used.
    pub fn new(issuer: Issuer, store: Arc<dyn Store>, config: &Config) -> Result<Self, KeyError> {
        Ok(Self {
            issuer,
            store,
            lifetimes: ArcSwap::from_pointee(config.tokens.clone()),
            sessions: DashMap::new(),
            checked: CheckedTokens::default(),
            hashing: Arc::new(tokio::sync::Semaphore::new(2)),
            is_double: config.server.dev,
            expired: DashMap::new(),
            leases: DashMap::new(),
            app_leases: DashMap::new(),
            key_leases: DashMap::new(),
            program_calls: oauth::calls(),
            revoked: DashMap::new(),
            revoking: tokio::sync::Mutex::default(),
            redeeming: tokio::sync::Mutex::default(),
            failures: Failures::per_minute(config.limits.logins_per_minute),
            providers: ArcSwap::from_pointee(Providers::open(&config.accounts)?),
        })
    }

    /// Who there is.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.issuer.directory
    }

    /// Reads the keys, and what another configuration says of identity providers, without taking it.
    ///
    /// # Errors
    /// [`KeyError`] if they cannot be used.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, KeyError> {
        let folder = config.server.data_dir.join("keys");
        let keys = Keys::open(&folder, config.server.dev)?;
        if !keys.makes_the_same_as(&self.issuer.keys()) {
            return Err(KeyError::OtherKeys(folder));
        }
        Ok(Prepared { keys, providers: Providers::open(&config.accounts)? })
    }

    /// Takes what was prepared, and the accounts and lifetimes of the same configuration. Returns who may no longer do what they
    /// could, and the purposes of which a key holds no more.
    pub fn take(&self, prepared: Prepared, config: &Config) -> (Vec<Dropped>, Vec<Purpose>) {
        let Prepared { keys, providers } = prepared;
        let lost = self.issuer.keys().lost_in(&keys);
        let dropped = self.issuer.directory.replace(config, &keys);
        self.issuer.keys.store(Arc::new(keys));
        self.providers.store(Arc::new(providers));
        self.lifetimes.store(Arc::new(config.tokens.clone()));
        self.failures.set(config.limits.logins_per_minute);
        // What was checked was checked with the old keys.
        self.checked.clear();
        (dropped, lost)
    }

    /// The public halves of the keys, as a JWK set.
    #[must_use]
    pub fn published_keys(&self) -> jsonwebtoken::jwk::JwkSet {
        self.issuer.keys().published()
    }

    /// The lease of a token that holds for a time from now.
    pub fn lease(&self, token: &str, time: Duration) -> Lease {
        let lease = Lease::lasting(time);
        self.note_lease(token, &lease);
        lease
    }

    fn note_lease(&self, token: &str, lease: &Lease) {
        if self.is_double {
            keep_lease(&mut self.leases.entry(fingerprint(&[token])).or_default(), lease);
            // It may have expired since it was looked at, and nobody ends this lease then.
            if self.is_expired(token) {
                lease.revoke();
            }
        }
    }

    /// The lease of a socket that an application opened with its AppJWT.
    pub fn app_lease(&self, account: &AccountId, app: &ClientId, token: &str, time: Duration) -> Lease {
        let lease = self.lease(token, time);
        keep_lease(&mut self.app_leases.entry((account.clone(), app.clone())).or_default(), &lease);
        lease
    }

    /// Ends every socket of an application that is removed or disabled.
    pub fn end_app(&self, account: &AccountId, app: &ClientId) {
        let ended = self.app_leases.remove(&(account.clone(), app.clone()));
        ended.into_iter().flat_map(|(_, leases)| leases).for_each(|lease| lease.revoke());
    }

    /// The lease of a socket that was opened with a token which was given for an API key. Whoever asks for it looks again whether
    /// the key is there: one that is taken away ends only what it finds.
    pub fn key_lease(&self, key: &ApiKey, token: &str, time: Duration) -> Lease {
        let lease = self.lease(token, time);
        self.note_end(key.id, &lease);
        lease
    }

    /// Has a lease end with an API key or a program.
    fn note_end(&self, id: uuid::Uuid, lease: &Lease) {
        keep_lease(&mut self.key_leases.entry(id).or_default(), lease);
    }

    /// Ends every socket that is open by the tokens of an API key, or of a program, that was taken away; how many.
    pub fn end_key(&self, key: uuid::Uuid) -> usize {
        let ended = self.key_leases.remove(&key).map(|(_, leases)| leases).unwrap_or_default();
        let open: Vec<_> = ended.iter().filter(|lease| !lease.is_over()).collect();
        open.iter().for_each(|lease| lease.revoke());
        open.len()
    }

    /// Makes a token worthless from now on, on a double for tests; its sockets close. How many had a lease.
    pub fn expire(&self, token: &str) -> usize {
        if !self.is_double {
            return 0;
        }
        self.expired.insert(fingerprint(&[token]), ());
        let leases = self.leases.remove(&fingerprint(&[token])).map(|(_, leases)| leases).unwrap_or_default();
        leases.iter().for_each(Lease::revoke);
        leases.len()
    }

    fn is_expired(&self, token: &str) -> bool {
        self.is_double && self.expired.contains_key(&fingerprint(&[token]))
    }

    /// The time now, in milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.issuer.clock)()
    }

    /// How long a new AppJWT holds.
    #[must_use]
    pub fn app_token_time(&self) -> Duration {
        self.lifetimes.load().app.0.min(Duration::from_secs(LONGEST_APP_TOKEN))
    }

    /// Gives an application an AppJWT for its secret.
    ///
    /// # Errors
    /// [`Denied::Invalid`] if there is no such application or the secret is another.
    pub fn sign_in_app(&self, account: &Account, client_id: &str, secret: &str) -> Result<String, Denied> {
        let id = ClientId::from(client_id);
        let app = account.app(&id).ok_or(Denied::Invalid)?;
        if !directory::same(app.secret.expose_secret(), secret) {
            return Err(Denied::Invalid);
        }
        let claims = self.issuer.app_claims(account, &id, self.lifetimes.load().app.0).ok_or(Denied::Unavailable)?;
        self.issue(Purpose::App, claims, Checked::App)
    }

    /// Checks an AppJWT against the account of the address.
    ///
    /// # Errors
    /// [`Denied::Invalid`].
    pub fn check_app(&self, account: &Account, token: &str) -> Result<AppIdentity, Denied> {
        if self.is_expired(token) {
            return Err(Denied::Invalid);
        }
        let pick = |checked: &Checked| match checked {
            Checked::App(claims) => Some(claims.clone()),
            _ => None,
        };
        let claims = self.opened(Purpose::App, token, pick, Checked::App)?;
        let app = claims.azp.clone();
        let good = claims.iss == token::APP_ISSUER
            && claims.aud == account.id.as_str()
            && claims.iat <= seconds(&self.issuer.clock) + LEEWAY
            && claims.exp <= claims.iat.saturating_add(LONGEST_APP_TOKEN)
            && claims.scope.split(' ').any(|scope| scope == "msg.consumer")
            && account.app(&app).is_some();
        let remaining = self.remaining(claims.exp).filter(|_| good).ok_or(Denied::Invalid)?;
        Ok(AppIdentity { account: account.id.clone(), app, remaining })
    }

    /// A consumer of an application, and its ConsumerJWS.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if it cannot be signed.
    pub fn name_consumer(&self, app: &AppIdentity, ext_id: &str) -> Result<(ConsumerId, String), Denied> {
        let claims = self.issuer.consumer_claims(&app.account, &app.app, ext_id);
        Ok((claims.lp_consumer_id.clone(), self.issue(Purpose::Consumer, claims, Checked::Consumer)?))
    }

    /// Checks the ConsumerJWS that an application shows.
    ///
    /// # Errors
    /// [`Denied::Invalid`], also for a consumer of another account or application.
    pub fn check_consumer(&self, app: &AppIdentity, token: &str) -> Result<Actor, Denied> {
        if self.is_expired(token) {
            return Err(Denied::Invalid);
        }
        let pick = |checked: &Checked| match checked {
            Checked::Consumer(claims) => Some(claims.clone()),
            _ => None,
        };
        let claims = self.opened(Purpose::Consumer, token, pick, Checked::Consumer)?;
        let id = claims.lp_consumer_id.clone();
        if claims.account_id != app.account || claims.azp != app.app || self.is_revoked(&app.account, &id) {
            return Err(Denied::Invalid);
        }
        Ok(Actor::Consumer { account: app.account.clone(), id, app: Some(app.app.clone()), was: None })
    }

    /// A token for a consumer that signs up itself; a new consumer unless one is given.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if it cannot be signed.
    pub fn sign_up(&self, account: &AccountId, known: Option<ConsumerId>) -> Result<(ConsumerId, String), Denied> {
        let id = known.unwrap_or_else(|| ConsumerId::from(uuid::Uuid::new_v4().to_string()));
        let token = self.consumer_token(account, &id, SignedInClaims::default())?;
        Ok((id, token))
    }

    fn consumer_token(&self, account: &AccountId, id: &ConsumerId, signed_in: SignedInClaims) -> Result<String, Denied> {
        let iat = seconds(&self.issuer.clock);
        let claims = SignUpClaims {
            sub: id.to_string(),
            aud: format!("acc:{account}"),
            iss: token::SIGN_UP_ISSUER.into(),
            iat,
            exp: iat + self.lifetimes.load().consumer.0.as_secs().max(1),
            signed_in,
        };
        token::sign(self.issuer.keys().of(Purpose::SignUp), &claims).ok_or(Denied::Unavailable)
    }

    /// Checks the token of a consumer that signed up itself or signed in at an identity provider.
    ///
    /// # Errors
    /// [`Denied::Invalid`].
    pub fn check_sign_up(&self, account: &Account, token: &str) -> Result<SignedIn, Denied> {
        if self.is_expired(token) {
            return Err(Denied::Invalid);
        }
        let claims: SignUpClaims = token::open(&self.issuer.keys(), Purpose::SignUp, token).ok_or(Denied::Invalid)?;
        let good = claims.iss == token::SIGN_UP_ISSUER
            && claims.aud == format!("acc:{}", account.id)
            && claims.iat <= seconds(&self.issuer.clock) + LEEWAY;
        let good = good && !self.is_revoked(&account.id, &ConsumerId::from(claims.sub.as_str()));
        let remaining = self.remaining(claims.exp).filter(|_| good).ok_or(Denied::Invalid)?;
        let SignedInClaims { was, ext, lp_sdes } = claims.signed_in;
        // Clients expect the list, be it empty.
        let says = |ext: token::Ext| json!({"sub": ext.sub, "iss": claims.iss, "lp_sdes": lp_sdes.unwrap_or_default()});
        Ok(SignedIn {
            actor: Actor::Consumer {
                account: account.id.clone(),
                id: ConsumerId::from(claims.sub),
                app: None,
                was: was.map(ConsumerId::from),
            },
            remaining,
            claims: ext.map(says),
        })
    }

    /// Lets in who shows an API key, and counts the request; wrong keys are counted by address.
    ///
    /// # Errors
    /// [`KeyRefused`]. A key that is missing and one that is wrong are refused alike.
    pub fn check_key(&self, dialect: Dialect, given: Option<&str>, address: IpAddr) -> Result<(Arc<ApiKey>, Allowance), KeyRefused> {
        let found = given.and_then(|given| self.directory().api_key(dialect, given));
        let spent = self.failures.spent(address);
        match (found, spent) {
            (Some(key), spent) if spent.is_none() || key.was_used_from(address) => {
                key.note_use_from(address);
                let allowance = key.admit(address).map_err(KeyRefused::TooMany)?;
                Ok((key, allowance))
            }
            (_, Some(wait)) => Err(KeyRefused::TooMany(wait)),
            (_, None) => {
                self.failures.count(address).map_err(KeyRefused::TooMany)?;
                Err(KeyRefused::Unknown)
            }
        }
    }

    /// A token for a secure form, for the service that keeps such forms. It names who may do what with which form, and is
    /// checked by the published key.
    #[must_use]
    pub fn form_token(
        &self,
        account: &AccountId,
        whose: &str,
        purpose: FormUse,
        dialog: &DialogId,
        invitation: &str,
        submission: Option<&str>,
    ) -> Option<String> {
        let iat = seconds(&self.issuer.clock);
        let claims = token::FormClaims {
            aud: account.as_str(),
            sub: whose,
            purpose: match purpose {
                FormUse::Fill => "fill",
                FormUse::Read => "read",
            },
            dialog_id: dialog.as_str(),
            invitation_id: invitation,
            submission_id: submission,
            jti: uuid::Uuid::new_v4().to_string(),
            iat,
            exp: iat + FORM_TIME,
        };
        token::sign(self.issuer.keys().of(Purpose::Form), &claims)
    }

    /// Signs an agent in.
    ///
    /// # Errors
    /// [`Denied::Invalid`] for a wrong login or password, [`Denied::Unavailable`] if the session cannot be kept.
    pub async fn login(&self, account: &Account, login: &str, password: &str) -> Result<Login, Denied> {
        let agent = self.authenticated(account, login, password).await?;
        let session = uuid::Uuid::new_v4().simple().to_string();
        let csrf = uuid::Uuid::new_v4().simple().to_string();
        let time = self.lifetimes.load().agent.0;
        let row = SessionRow {
            id: session.clone(),
            account: account.id.clone(),
            agent: agent.user.to_string(),
            csrf: csrf.clone(),
            made_with: agent.made_with,
            expires: self.now() + millis(time),
            ended: false,
        };
        let claims = self.issuer.agent_claims(&account.id, &agent, Some(&session), LONGEST_SESSION);
        let bearer = self.issue(Purpose::Agent, claims, Checked::Agent)?;
        self.keep(row.clone()).await?;
        self.sessions.insert(session.clone(), Session { row, lease: Lease::lasting(time) });
        Ok(Login { agent, bearer, session, csrf, time })
    }

    /// The agent of a login and a password.
    async fn authenticated(&self, account: &Account, login: &str, password: &str) -> Result<Agent, Denied> {
        let agent = account.agent_by_login(login).cloned();
        // An unknown login costs what a known one costs.
        let stored = agent.as_ref().map_or_else(|| account.nobodys_password(), |agent| agent.password.clone());
        let given = password.to_owned();
        // Each check of a hash takes memory and a core for a while; more at once would only take more.
        let turn = self.hashing.clone().acquire_owned().await.map_err(|_| Denied::Unavailable)?;
        let is_right = tokio::task::spawn_blocking(move || {
            // Kept until the check is done, also when nobody waits for it any more.
            let _turn = turn;
            stored.is(&given)
        });
        let is_right = is_right.await.unwrap_or(false);
        agent.filter(|_| is_right).ok_or(Denied::Invalid)
    }

    /// Checks an agent's bearer.
    ///
    /// # Errors
    /// [`Denied::Invalid`], or [`Denied::Unavailable`] if the session cannot be looked up.
    pub async fn check_agent(&self, account: &Account, bearer: &str) -> Result<(Actor, Lease), Denied> {
        if self.is_expired(bearer) {
            return Err(Denied::Invalid);
        }
        let pick = |checked: &Checked| match checked {
            Checked::Agent(claims) => Some(claims.clone()),
            _ => None,
        };
        let claims = self.opened(Purpose::Agent, bearer, pick, Checked::Agent)?;
        let good = claims.aud == account.id.as_str() && claims.iat <= seconds(&self.issuer.clock) + LEEWAY;
        let remaining = self.remaining(claims.exp).filter(|_| good).ok_or(Denied::Invalid)?;
        let agent = account.agent(&claims.sub).ok_or(Denied::Invalid)?;
        let lease = match &claims.sid {
            None => self.lease(bearer, remaining),
            Some(id) => {
                let lease = self.session(id, account, agent).await?.lease;
                self.note_lease(bearer, &lease);
                lease
            }
        };
        Ok((agent.actor(&account.id), lease))
    }

    /// A live session, from memory or from the store. One that was made with another password than the agent has now is over,
    /// whoever should have ended it.
    async fn session(&self, id: &str, account: &Account, agent: &Agent) -> Result<Session, Denied> {
        let known = self.sessions.get(id).map(|session| session.clone());
        let session = match known {
            Some(session) => session,
            None => {
                let row = self.store.session(id.to_owned()).await.map_err(|_| Denied::Unavailable)?.ok_or(Denied::Invalid)?;
                let left = u64::try_from(row.expires - self.now()).ok().filter(|_| !row.ended).ok_or(Denied::Invalid)?;
                let fresh = Session { row, lease: Lease::lasting(Duration::from_millis(left)) };
                // Two that look it up at once must share one lease.
                self.sessions.entry(id.to_owned()).or_insert(fresh).clone()
            }
        };
        let row = &session.row;
        let is_theirs = row.account == account.id && row.agent == agent.user.as_str() && row.made_with == agent.made_with;
        if session.lease.is_over() || !is_theirs { Err(Denied::Invalid) } else { Ok(session) }
    }

    /// Lets a session go on for its full time from now.
    ///
    /// # Errors
    /// [`Denied::Invalid`] if it has ended or the CSRF token is another's.
    pub async fn refresh(&self, account: &Account, id: &str, csrf: &str) -> Result<(), Denied> {
        let mut session = self.own_session(account, id, csrf).await?;
        let time = self.lifetimes.load().agent.0;
        session.row.expires = self.now() + millis(time);
        self.keep(session.row.clone()).await?;
        session.lease.renew(time);
        if let Some(mut kept) = self.sessions.get_mut(id) {
            kept.row = session.row;
        }
        Ok(())
    }

    /// Ends a session: its sockets close, its bearer holds no more.
    ///
    /// # Errors
    /// [`Denied::Invalid`] if it has ended or the CSRF token is another's.
    pub async fn logout(&self, account: &Account, id: &str, csrf: &str) -> Result<(), Denied> {
        self.end(self.own_session(account, id, csrf).await?).await
    }

    /// Ends a session.
    async fn end(&self, mut session: Session) -> Result<(), Denied> {
        session.row.ended = true;
        let (kept, lease) = (self.store.keep_session(session.row), session.lease);
        // To its end, also when who asked for it hangs up: what has ended on disk is not to go on here.
        let ended = tokio::spawn(async move {
            let is_kept = matches!(kept.await, Ok(Ok(())));
            if is_kept {
                // It stays on the map for a while, over: a look-up that began before must not bring it back.
                lease.revoke();
            }
            is_kept
        });
        if ended.await.unwrap_or(false) { Ok(()) } else { Err(Denied::Unavailable) }
    }

    /// The consumer that an application calls by a name of its own.
    #[must_use]
    pub fn consumer_id(&self, account: &AccountId, app: &ClientId, ext_id: &str) -> ConsumerId {
        self.issuer.consumer_id(account, app, ext_id)
    }

    /// The consumers of an account whose tokens are worthless.
    #[must_use]
    pub fn revoked_consumers(&self, account: &AccountId) -> Vec<ConsumerId> {
        let is_theirs = |one: &RevokedRef<'_>| one.key().0 == *account && one.value().is_revoked;
        let mut all: Vec<_> = self.revoked.iter().filter(is_theirs).map(|one| one.key().1.clone()).collect();
        all.sort();
        all
    }

    /// Whether the tokens of a consumer are worthless.
    #[must_use]
    pub fn is_revoked(&self, account: &AccountId, consumer: &ConsumerId) -> bool {
        // Asked for each request of a connector: nobody pays for a key where there is nothing to find.
        !self.revoked.is_empty() && self.revoked.get(&(account.clone(), consumer.clone())).is_some_and(|one| one.is_revoked)
    }

    /// Makes every token of a consumer worthless, those to come too, or good again.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if that cannot be kept. A revocation holds all the same, until a restart.
    pub async fn set_revoked(&self, account: &AccountId, consumer: &ConsumerId, is_revoked: bool) -> Result<(), Denied> {
        let _turn = self.revoking.lock().await;
        let key = (account.clone(), consumer.clone());
        let revision = self.revoked.get(&key).map_or(0, |one| one.revision);
        if is_revoked {
            self.revoked.insert(key.clone(), Revoked { revision, is_revoked });
        }
        let document = Document {
            account: account.clone(),
            collection: REVOKED.into(),
            id: consumer.to_string(),
            revision: revision + 1,
            body: json!({"revoked": is_revoked}).to_string(),
        };
        match self.store.keep_document(document).await {
            Ok(Ok(())) => {
                self.revoked.insert(key, Revoked { revision: revision + 1, is_revoked });
                Ok(())
            }
            // It may be there all the same, under the next revision.
            Ok(Err(StoreError::OtherRevision(found))) => {
                self.revoked.insert(key, Revoked { revision: found, is_revoked });
                Err(Denied::Unavailable)
            }
            Ok(Err(_)) | Err(_) => Err(Denied::Unavailable),
        }
    }

    /// Reads which consumers are revoked. To be called before anybody's token is checked.
    ///
    /// # Errors
    /// [`Denied::Unavailable`]: to go on without would let them in.
    pub async fn restore(&self) -> Result<(), Denied> {
        for document in self.store.documents(REVOKED).await.map_err(|_| Denied::Unavailable)? {
            let body: serde_json::Value = serde_json::from_str(&document.body).map_err(|_| Denied::Unavailable)?;
            let one = Revoked { revision: document.revision, is_revoked: body["revoked"] == true };
            self.revoked.insert((document.account, ConsumerId::from(document.id)), one);
        }
        Ok(())
    }

    /// Ends every login of an agent: its sockets close, its bearers hold no more.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if that cannot be kept: then those that nobody uses now would hold again if the agent got
    /// back what it was let in by, and after a restart.
    pub async fn end_logins(&self, account: &AccountId, agent: &UserId) -> Result<(), Denied> {
        let is_theirs = |session: &Session| session.row.account == *account && session.row.agent == agent.as_str();
        let ended = self.store.end_sessions(account.clone(), agent.clone());
        self.sessions.iter().filter(|session| is_theirs(session)).for_each(|session| session.lease.revoke());
        match ended.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Denied::Unavailable),
        }
    }

    async fn own_session(&self, account: &Account, id: &str, csrf: &str) -> Result<Session, Denied> {
        let agent = match self.sessions.get(id).map(|session| session.row.agent.clone()) {
            Some(agent) => agent,
            None => match self.store.session(id.to_owned()).await {
                Ok(Some(row)) => row.agent,
                Ok(None) => return Err(Denied::Invalid),
                Err(_) => return Err(Denied::Unavailable),
            },
        };
        let agent = account.agent(&agent).ok_or(Denied::Invalid)?;
        let session = self.session(id, account, agent).await?;
        if directory::same(&session.row.csrf, csrf) { Ok(session) } else { Err(Denied::Invalid) }
    }

    async fn keep(&self, row: SessionRow) -> Result<(), Denied> {
        match self.store.keep_session(row).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Denied::Unavailable),
        }
    }

    /// Forgets sessions that are over, and callers that have been quiet. Call it now and then.
    pub fn tidy(&self) {
        self.sessions.retain(|_, session| !session.lease.is_over());
        self.failures.tidy();
        self.program_calls.tidy();
        self.directory().tidy();
    }

    fn remaining(&self, exp: u64) -> Option<Duration> {
        let left = Millis::try_from(exp).ok()?.checked_mul(1000)? - self.now();
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis)
    }

    /// A token, remembered as if it had been shown: whoever asks for one is about to.
    fn issue<T: Serialize>(&self, purpose: Purpose, claims: T, keep: fn(Arc<T>) -> Checked) -> Result<String, Denied> {
        let generation = self.checked.generation();
        let token = token::sign(self.issuer.keys().of(purpose), &claims).ok_or(Denied::Unavailable)?;
        self.checked.remember(generation, purpose, &token, keep(Arc::new(claims)), seconds(&self.issuer.clock));
        Ok(token)
    }

    /// What a token says that is well signed: as it was remembered, or checked now.
    fn opened<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        token: &str,
        pick: fn(&Checked) -> Option<Arc<T>>,
        keep: fn(Arc<T>) -> Checked,
    ) -> Result<Arc<T>, Denied> {
        if let Some(claims) = self.checked.get(purpose, token).as_ref().and_then(pick) {
            return Ok(claims);
        }
        let generation = self.checked.generation();
        let claims: Arc<T> = Arc::new(token::open(&self.issuer.keys(), purpose, token).ok_or(Denied::Invalid)?);
        self.checked.remember(generation, purpose, token, keep(claims.clone()), seconds(&self.issuer.clock));
        Ok(claims)
    }
}

/// Adds a lease to others; those that are over go when there are twice as many as were kept the last time.
fn keep_lease(leases: &mut Vec<Lease>, lease: &Lease) {
    if leases.len() == leases.capacity() {
        leases.retain(|lease| !lease.is_over() && !lease.is_forgotten());
    }
    leases.push(lease.clone());
}

/// SHA-256 of parts that belong together.
#[must_use]
pub fn fingerprint(parts: &[&str]) -> crate::store::Fingerprint {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests;
