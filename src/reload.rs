//! A running gateway takes another configuration: accounts, keys, certificates, limits, lifetimes, retention, the admin key.
//!
//! Everything that can fail is done first. If anything does, nothing is changed and the error says why; so a reload applies
//! whole or not at all. What a start alone can change, such as an address or the data folder, is refused by name: to take the
//! rest and leave that would make the file say what does not hold.

use crate::config::{Config, ConfigError, LiveLimits, LiveRetention};
use crate::dialect::liveperson::Native;
use crate::dialect::oncehub::{Begin, OnceHub};
use crate::domain::Actor;
use crate::gateway::Gateway;
use crate::http::{AdminKey, Certificate, Listener, TlsError};
use crate::identity::{Dropped, KeyError, Purpose};
use std::sync::{Arc, OnceLock};
use tieline_protocol::code::CloseCode;

/// Reads the configuration anew, from where it was read at the start.
pub type Source = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Nobody said where to read the configuration.
    #[error("this gateway was started without a configuration that could be read again")]
    NoSource,
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what only a start can change.
    #[error("{} cannot change while the gateway runs; restart it, or undo that", .0.join(", "))]
    Fixed(Vec<String>),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store could not be read or written.
    #[error(
        "the configuration holds, but the store did not end all logins of changed agents, or tell what is installed or set up; reload again"
    )]
    Store,
}

/// What a reload reaches.
pub(crate) struct Reach {
    pub(crate) gateway: Arc<Gateway>,
    /// The native dialect, if it is on.
    pub(crate) native: Option<Arc<Native>>,
    pub(crate) oncehub: Option<Arc<OnceHub>>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) limits: LiveLimits,
    pub(crate) retention: LiveRetention,
    pub(crate) admin_key: AdminKey,
}

/// Notes for the metrics that a configuration holds from now on.
pub(crate) fn note_applied() {
    metrics::gauge!("tieline_config_last_reload_timestamp_seconds").set(jiff::Timestamp::now().as_second() as f64);
}

/// Takes another configuration, one at a time.
pub struct Reloader {
    source: Option<Source>,
    /// Beside what the gateway takes: what the process does, such as how much it logs.
    and_then: Box<dyn Fn(&Config) + Send + Sync>,
    config: tokio::sync::Mutex<Config>,
    reach: OnceLock<Reach>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reloader")
    }
}

impl Reloader {
    /// For a gateway that was started with a configuration. Without a source it only says that it cannot.
    #[must_use]
    pub fn new(config: Config, source: Option<Source>, and_then: Box<dyn Fn(&Config) + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { source, and_then, config: tokio::sync::Mutex::new(config), reach: OnceLock::new() })
    }

    /// Says what to change. A gateway serves once.
    pub(crate) fn serve(&self, reach: Reach) {
        if self.reach.set(reach).is_err() {
            tracing::error!("a reloader serves two gateways; it changes the first");
        }
    }

    /// Reads the configuration, the keys and the certificate anew, and takes them as a whole. Returns what changed for those who
    /// are connected, in words.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing was changed, but for [`ReloadError::Store`].
    pub async fn reload(&self) -> Result<String, ReloadError> {
        let mut now = self.config.lock().await;
        let done = self.apply(&mut now).await;
        let (result, is_fine) = if done.is_ok() { ("applied", 1.0) } else { ("refused", 0.0) };
        metrics::counter!("tieline_config_reloads_total", "result" => result).increment(1);
        metrics::gauge!("tieline_config_last_reload_successful").set(is_fine);
        if done.is_ok() {
            note_applied();
        }
        match &done {
            Ok(said) => tracing::info!(said, "reloaded"),
            Err(error @ ReloadError::Store) => tracing::error!(%error, "reloaded in part"),
            Err(error) => tracing::error!(%error, "the reload was refused; nothing was changed"),
        }
        done
    }

    async fn apply(&self, now: &mut Config) -> Result<String, ReloadError> {
        let config = self.source.as_ref().ok_or(ReloadError::NoSource)?()?;
        config.check_endpoints()?;
        let fixed = now.fixed_differences(&config);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        let reach = self.reach.get().ok_or(ReloadError::NoSource)?;
        let certificate = match &reach.certificate {
            Some(_) => Some(Certificate::read(&config)?),
            None => None,
        };
        let prepared = reach.gateway.identity().prepare(&config)?;
        // From here on nothing fails but the store, which is said.
        if let (Some(certificate), Some(checked)) = (&reach.certificate, certificate) {
            certificate.replace(checked);
        }
        let (dropped, lost) = reach.gateway.identity().take(prepared, &config);
        reach.limits.store(Arc::new(config.limits.clone()));
        reach.retention.store(Arc::new(config.retention.clone()));
        reach.admin_key.store(config.admin_key().map(Arc::new));
        reach.listener.limits_changed();
        if let Some(native) = &reach.native {
            native.limits_changed();
        }
        reach.gateway.limits_changed();
        (self.and_then)(&config);
        let mut is_kept = true;
        for one in &dropped {
            let (account, agents) = match one {
                Dropped::Account(account, agents) => (account, agents.as_slice()),
                Dropped::Agent(account, agent) => (account, std::slice::from_ref(agent)),
                Dropped::App(..) | Dropped::Key(_) => continue,
            };
            for agent in agents {
                is_kept &= reach.gateway.identity().end_logins(account, agent).await.is_ok();
            }
        }
        let closed = close(&reach.gateway, &dropped, &lost);
        for account in reach.gateway.identity().directory().accounts() {
            reach.gateway.notes().stir(&account.id);
        }
        let mut is_restored = true;
        if let Some(oncehub) = &reach.oncehub {
            let begin = if reach.native.is_some() { Begin::WithOthers } else { Begin::Now };
            is_restored = oncehub.restore(begin).await.is_ok();
        }
        if let Some(native) = &reach.native {
            is_restored &= native.accounts_changed(&config).await.is_ok();
        }
        let things = reach.gateway.identity().take_things(&config).await;
        *now = config;
        let left_out = match things {
            Ok(left_out) if is_kept && is_restored => left_out,
            _ => return Err(ReloadError::Store),
        };
        let left_out: String = left_out.iter().map(|reason| format!("; left out: {reason}")).collect();
        Ok(format!("{closed} sockets must come back or sign in again; every other goes on{left_out}"))
    }
}

/// Closes the sockets of those who lost what they were let in by. How many.
fn close(gateway: &Gateway, dropped: &[Dropped], lost: &[Purpose]) -> usize {
    let hub = gateway.hub();
    let mut closed = 0;
    for one in dropped {
        closed += match one {
            Dropped::Account(account, _) => hub.close_all(account, CloseCode::Token),
            Dropped::App(account, app) => gateway.close_app(account, app),
            Dropped::Key(key) => gateway.identity().end_key(*key),
            Dropped::Agent(account, agent) => {
                let (account, agent) = (account.clone(), agent.clone());
                let is_theirs = move |actor: &Actor| matches!(actor, Actor::Agent { user, .. } if *user == agent);
                hub.close_where(move |actor| *actor.account() == account && is_theirs(actor), CloseCode::Token)
            }
        };
    }
    // Which socket was let in by which key is not kept: all of the kind come back, and are let in again or not.
    for purpose in lost.iter().copied() {
        let is_meant = move |actor: &Actor| {
            matches!(
                (purpose, actor),
                (Purpose::Agent | Purpose::Pass, Actor::Agent { .. })
                    | (Purpose::App | Purpose::Consumer | Purpose::Pass, Actor::Application { .. } | Actor::Consumer { app: Some(_), .. })
                    | (Purpose::SignUp, Actor::Consumer { app: None, .. })
            )
        };
        closed += hub.close_where(is_meant, CloseCode::Restart);
    }
    closed
}
