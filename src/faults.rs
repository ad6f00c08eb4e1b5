//! Faults on demand, so that whoever writes a client can see what it does when something goes wrong.
//!
//! Only a double for tests (`serve --dev`) has them. They are turned per account through `/admin/v1/faults`, each that
//! happens is in the log, and none is lost on a restart because none is kept.

use dashmap::DashMap;
use std::time::Duration;
use tieline_protocol::ids::AccountId;

/// What is to go wrong in an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How many of the next replies are not sent. What was asked for happens.
    pub drop_replies: u32,
    /// How long each reply is held back.
    pub delay: Option<Duration>,
    /// How many of the next webhooks are sent twice.
    pub double_webhooks: u32,
}

/// The faults of every account.
#[derive(Debug, Default)]
pub struct Faults {
    is_on: bool,
    accounts: DashMap<AccountId, Wanted>,
}

/// Whose request it was: put into a reply's extensions by a dialect whose addresses do not say so.
#[derive(Debug, Clone)]
pub struct Tenant(pub AccountId);

impl Faults {
    /// Faults that can be turned on, or that never happen.
    #[must_use]
    pub fn new(is_on: bool) -> Self {
        Self { is_on, accounts: DashMap::new() }
    }

    /// Whether there can be any.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// What is to go wrong in an account.
    #[must_use]
    pub fn wanted(&self, account: &AccountId) -> Wanted {
        self.accounts.get(account).map(|wanted| *wanted).unwrap_or_default()
    }

    /// Sets what is to go wrong in an account from now on.
    pub fn want(&self, account: &AccountId, wanted: Wanted) {
        if self.is_on {
            tracing::warn!(%account, ?wanted, "faults are set");
            self.accounts.insert(account.clone(), wanted);
        }
    }

    fn take(&self, account: &AccountId, count: impl FnOnce(&mut Wanted) -> &mut u32) -> bool {
        if !self.is_on {
            return false;
        }
        let Some(mut wanted) = self.accounts.get_mut(account) else { return false };
        let left = count(&mut wanted);
        let happens = *left > 0;
        *left = left.saturating_sub(1);
        happens
    }

    /// Whether the reply that is about to be sent is not; it counts.
    #[must_use]
    pub fn drops_reply(&self, account: &AccountId) -> bool {
        let happens = self.take(account, |wanted| &mut wanted.drop_replies);
        if happens {
            tracing::warn!(%account, "fault: a reply is dropped");
        }
        happens
    }

    /// Whether the webhook that was just sent is sent again; it counts.
    #[must_use]
    pub fn doubles_webhook(&self, account: &AccountId) -> bool {
        let happens = self.take(account, |wanted| &mut wanted.double_webhooks);
        if happens {
            tracing::warn!(%account, "fault: a webhook is sent twice");
        }
        happens
    }

    /// How long a reply is held back.
    #[must_use]
    pub fn delay(&self, account: &AccountId) -> Option<Duration> {
        let delay = if self.is_on { self.wanted(account).delay } else { None };
        if let Some(delay) = delay {
            tracing::warn!(%account, ?delay, "fault: a reply is delayed");
        }
        delay
    }
}
