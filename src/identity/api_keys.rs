//! Who calls by an API key, and how often.
//!
//! A key is found by its SHA-256, so that how long that takes tells nothing of how much of a guess is right. A rate goes on over
//! a reload that leaves the key as it was.

use super::directory::{Account, Agent};
use super::fingerprint;
use crate::config::{self, Dialect, KeyRate};
use crate::domain::Actor;
use crate::store::Fingerprint;
use crate::throttle::{Throttle, Wait, caller, quota};
use dashmap::DashMap;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use secrecy::ExposeSecret;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tieline_protocol::ids::{AccountId, UserId};
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(86_400);
/// Over which OnceHub counts the calls of an address.
pub(super) const ADDRESS_PERIOD: Duration = Duration::from_secs(300);
/// Addresses that are remembered of a key.
const REMEMBERED: usize = 10_000;

/// A key that was found.
#[derive(Debug)]
pub struct ApiKey {
    /// Whose it is, as the account was when the key was found.
    pub account: Arc<Account>,
    /// Whose API it opens.
    pub dialect: Dialect,
    /// As whom its bearer acts: an agent with its roles, or the account itself.
    pub actor: Actor,
    /// The agent, if it is bound to one.
    pub agent: Option<UserId>,
    /// What it is called in the log: never the key.
    pub name: String,
    /// What names it in tokens that are given for it: always the same for the same key, and nobody can tell the key from it.
    pub id: Uuid,
    rates: Arc<Rates>,
    addresses: Option<Arc<Throttle>>,
}

/// What is left of a rate, to be said in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests that may come at once.
    pub limit: u32,
    /// Those that still may, now.
    pub remaining: u32,
}

/// Why a key does not let its bearer in. A key that is missing and one that is wrong are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// There is no such key.
    #[error("the API key is not valid")]
    Unknown,
    /// It was used, or guessed at from this address, too often.
    #[error("too many requests; wait {} s", .0.0)]
    TooMany(Wait),
}

impl ApiKey {
    /// Counts one request.
    ///
    /// # Errors
    /// How long to wait, if it was one too many.
    pub fn admit(&self, address: IpAddr) -> Result<Allowance, Wait> {
        if let Some(addresses) = &self.addresses {
            addresses.check(self.dialect.name(), address)?;
        }
        self.rates.admit()
    }

    /// Whether it was used from an address before; from now on it was.
    pub(super) fn was_used_from(&self, address: IpAddr) -> bool {
        let known = self.rates.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&caller(address))
    }

    pub(super) fn note_use_from(&self, address: IpAddr) {
        let mut known = self.rates.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(caller(address));
    }
}

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>;

/// How often a key, or all of an account's, may be used, and was.
#[derive(Debug)]
struct Rates<C: Clock = DefaultClock> {
    rate: KeyRate,
    second: Limiter<C>,
    day: Option<Limiter<C>>,
    clock: C,
    /// From where.
    known: Mutex<HashSet<IpAddr>>,
}

impl<C: Clock + Clone> Rates<C> {
    fn new(rate: KeyRate, clock: C) -> Self {
        let limiter = |quota: Quota| RateLimiter::direct_with_clock(quota, clock.clone()).with_middleware();
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        Self {
            rate,
            second: limiter(quota(Duration::from_secs(1), rate.per_second).allow_burst(burst)),
            day: rate.per_day.map(|times| limiter(quota(DAY, times))),
            known: Mutex::default(),
            clock,
        }
    }

    fn admit(&self) -> Result<Allowance, Wait> {
        let check = |limiter: &Limiter<C>| {
            let until = limiter.check().map(|state| state.remaining_burst_capacity());
            until.map_err(|until| Wait(until.wait_time_from(self.clock.now()).as_secs() + 1))
        };
        let now = check(&self.second)?;
        let today = self.day.as_ref().map(check).transpose()?;
        Ok(Allowance { limit: self.rate.burst, remaining: today.map_or(now, |today| today.min(now)) })
    }
}

/// Whose rate it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    Key(Dialect, Fingerprint),
    Account(Dialect, AccountId),
}

/// The keys.
#[derive(Debug, Default)]
pub(super) struct ApiKeys {
    all: HashMap<(Dialect, Fingerprint), Arc<ApiKey>>,
    named: HashMap<(Dialect, Uuid), Arc<ApiKey>>,
    rates: HashMap<Scope, Arc<Rates>>,
}

fn print(dialect: Dialect, key: &str) -> Fingerprint {
    fingerprint(&["api key", dialect.name(), key])
}

impl ApiKeys {
    /// The keys of a configuration. Those that are as they were before go on with their rates.
    pub(super) fn of(
        config: &config::Config,
        accounts: &HashMap<AccountId, Arc<Account>>,
        addresses: &Arc<Throttle>,
        before: Option<&Self>,
    ) -> Self {
        let mut keys = Self::default();
        for configured in &config.accounts {
            let Some(account) = accounts.get(configured.id.as_str()) else { continue };
            for key in &configured.api_keys {
                let (dialect, print) = (key.dialect, print(key.dialect, key.key.expose_secret()));
                let agent = key.agent.as_ref().and_then(|agent| account.agent(agent));
                // Who is to act as an agent that is not there acts as nobody; the configuration's own check refuses it.
                if key.agent.is_some() && agent.is_none() {
                    continue;
                }
                let rates = keys.rates(dialect, print, &account.id, key.rate(), before);
                let actor = agent.map_or_else(|| account.system(), |agent| agent.actor(&account.id));
                let found = ApiKey {
                    account: account.clone(),
                    dialect,
                    actor,
                    agent: agent.map(|agent: &Agent| agent.user.clone()),
                    id: account.uuid_of(&format!("{dialect} key"), key.key.expose_secret()),
                    name: if key.name.is_empty() { format!("{dialect} key of {}", account.id) } else { key.name.clone() },
                    rates,
                    addresses: (dialect == Dialect::OnceHub).then(|| addresses.clone()),
                };
                let found = Arc::new(found);
                keys.named.insert((dialect, found.id), found.clone());
                keys.all.insert((dialect, print), found);
            }
        }
        keys
    }

    fn rates(&mut self, dialect: Dialect, print: Fingerprint, account: &AccountId, rate: KeyRate, before: Option<&Self>) -> Arc<Rates> {
        let scope = if dialect.shares_rate() { Scope::Account(dialect, account.clone()) } else { Scope::Key(dialect, print) };
        let known = self.rates.get(&scope).or_else(|| before?.rates.get(&scope)).filter(|known| known.rate == rate).cloned();
        let rates = known.unwrap_or_else(|| Arc::new(Rates::new(rate, DefaultClock::default())));
        self.rates.insert(scope, rates.clone());
        rates
    }

    pub(super) fn of_account(&self, account: &AccountId) -> Vec<Arc<ApiKey>> {
        let mut all: Vec<_> = self.all.values().filter(|key| key.account.id == *account).cloned().collect();
        all.sort_by(|one, other| (one.dialect, &one.name).cmp(&(other.dialect, &other.name)));
        all
    }

    pub(super) fn named(&self, dialect: Dialect, id: Uuid) -> Option<Arc<ApiKey>> {
        self.named.get(&(dialect, id)).cloned()
    }

    /// Those that let nobody in any more as who they were.
    pub(super) fn lost_in(&self, now: &Self) -> impl Iterator<Item = Uuid> {
        let is_lost = |(print, key): &(&(Dialect, Fingerprint), &Arc<ApiKey>)| {
            now.all.get(*print).is_none_or(|same| same.id != key.id || same.actor != key.actor)
        };
        self.all.iter().filter(is_lost).map(|(_, key)| key.id)
    }

    pub(super) fn find(&self, dialect: Dialect, given: &str) -> Option<Arc<ApiKey>> {
        self.all.get(&(dialect, print(dialect, given))).cloned()
    }
}

/// Keys that were wrong, by address. Who has shown too many is not listened to for a while, but for keys that were good from
/// there before: strangers behind one proxy must not lock out those who are in.
#[derive(Debug)]
pub(super) struct Failures {
    tries: Throttle,
    spent: DashMap<IpAddr, Instant>,
}

impl Failures {
    pub(super) fn per_minute(times: u32) -> Self {
        Self { tries: Throttle::per_minute(times), spent: DashMap::new() }
    }

    pub(super) fn set(&self, times: u32) {
        self.tries.set(times);
    }

    /// How long an address is not listened to.
    pub(super) fn spent(&self, address: IpAddr) -> Option<Wait> {
        if self.spent.is_empty() {
            return None;
        }
        let until = *self.spent.get(&caller(address))?;
        let left = until.checked_duration_since(Instant::now())?;
        Some(Wait(left.as_secs() + 1))
    }

    /// Counts one.
    pub(super) fn count(&self, address: IpAddr) -> Result<(), Wait> {
        let counted = self.tries.check("api key", address);
        if let Err(wait) = counted {
            self.spent.insert(caller(address), Instant::now() + Duration::from_secs(wait.0));
        }
        counted
    }

    pub(super) fn tidy(&self) {
        let now = Instant::now();
        self.spent.retain(|_, until| *until > now);
        self.tries.tidy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Clock as WallClock;
    use governor::clock::FakeRelativeClock;

    fn rate(per_second: u32, burst: u32, per_day: Option<u32>) -> KeyRate {
        KeyRate { per_second, burst, per_day }
    }

    #[test]
    fn a_rate_is_a_burst_that_fills_again_and_a_number_of_the_day() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::new(rate(10, 4, None), clock.clone());
        let left = |rates: &Rates<FakeRelativeClock>| rates.admit().map(|allowance| allowance.remaining);
        assert_eq!([left(&rates), left(&rates), left(&rates), left(&rates)], [Ok(3), Ok(2), Ok(1), Ok(0)]);
        assert_eq!(left(&rates), Err(Wait(1)));
        clock.advance(Duration::from_millis(100));
        assert_eq!((left(&rates), left(&rates)), (Ok(0), Err(Wait(1))));
        clock.advance(Duration::from_secs(1));
        assert_eq!(left(&rates), Ok(3));
        let rates = Rates::new(rate(10, 10, Some(2)), clock.clone());
        assert_eq!(rates.admit(), Ok(Allowance { limit: 10, remaining: 1 }));
        assert_eq!((left(&rates), left(&rates)), (Ok(0), Err(Wait(43_201))));
        clock.advance(Duration::from_secs(43_200));
        assert_eq!((left(&rates), left(&rates)), (Ok(0), Err(Wait(43_201))));
    }

    const ONE: &str = "10.0.0.1";

    fn directory(text: &str, dir: &tempfile::TempDir) -> (super::super::Issuer, config::Config) {
        let set = ("TIELINE__SERVER__DATA_DIR".to_owned(), dir.path().display().to_string());
        let config = config::Config::from_parts(Some(("test", text)), [set]).unwrap();
        let clock: WallClock = Arc::new(|| 0);
        (super::super::Issuer::open(&config, clock).unwrap(), config)
    }

    fn keys(text: &str) -> String {
        let agents = "[[accounts.agents]]\nuser_id = \"1\"\nlogin = \"ada\"\npassword = \"x\"\nroles = [\"manager\"]\n";
        format!("[limits]\noncehub_per_address = 3\n[[accounts]]\nid = \"a\"\n{agents}{text}[[accounts]]\nid = \"b\"\n")
    }

    fn key(dialect: &str, key: &str, more: &str) -> String {
        format!("[[accounts.api_keys]]\ndialect = \"{dialect}\"\nkey = \"{key}\"\n{more}\n")
    }

    #[test]
    fn a_key_acts_as_its_agent_or_as_the_account_and_opens_one_dialect() {
        let dir = tempfile::tempdir().unwrap();
        let text = keys(&(key("dixa", "one", "agent = \"1\"") + &key("oncehub", "two", "name = \"the exporter\"")));
        let (issuer, _) = directory(&text, &dir);
        let one = issuer.directory().api_key(Dialect::Dixa, "one").unwrap();
        assert!(matches!(&one.actor, Actor::Agent { user, .. } if user.as_str() == "1") && one.actor.is_manager());
        assert_eq!((one.account.id.as_str(), one.name.as_str(), one.agent.as_ref().unwrap().as_str()), ("a", "dixa key of a", "1"));
        let two = issuer.directory().api_key(Dialect::OnceHub, "two").unwrap();
        assert_eq!((&two.actor, two.name.as_str(), &two.agent), (&two.account.system(), "the exporter", &None));
        let by_id = |dialect, id| issuer.directory().api_key_named(dialect, id).map(|key| key.name.clone());
        assert_eq!((by_id(Dialect::Dixa, one.id), by_id(Dialect::OnceHub, one.id)), (Some(one.name.clone()), None));
        for (dialect, given) in [(Dialect::OnceHub, "one"), (Dialect::Dixa, "two"), (Dialect::Dixa, "On"), (Dialect::Dixa, "")] {
            assert!(issuer.directory().api_key(dialect, given).is_none(), "{dialect} {given}");
        }
    }

    #[test]
    fn a_reload_keeps_the_rates_of_keys_that_stay_as_they_were_and_ends_those_that_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let once = "per_day = 2";
        let text = keys(&(key("dixa", "one", "per_day = 1") + &key("oncehub", "two", once) + &key("oncehub", "three", once)));
        let (issuer, _) = directory(&text, &dir);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let use_it = |dialect, key: &str, from: &str| issuer.directory().api_key(dialect, key).unwrap().admit(address(from)).is_ok();
        assert!(use_it(Dialect::Dixa, "one", ONE) && !use_it(Dialect::Dixa, "one", ONE));
        // The account's keys share theirs, and the address has one of its own.
        assert!(use_it(Dialect::OnceHub, "two", ONE) && use_it(Dialect::OnceHub, "three", ONE));
        assert!(!use_it(Dialect::OnceHub, "three", ONE));
        let take = |text: &str| {
            let (_, config) = directory(text, &dir);
            issuer.directory().replace(&config, &issuer.keys());
        };
        take(&text.replace("[[accounts.agents]]", "name = \"A\"\n[[accounts.agents]]"));
        assert!(!use_it(Dialect::Dixa, "one", ONE) && !use_it(Dialect::OnceHub, "two", "10.0.0.2"));
        // Another rate begins anew.
        take(&text.replace("per_day = 1", "per_day = 3").replace("per_day = 2", "per_day = 4"));
        assert!(use_it(Dialect::Dixa, "one", ONE) && use_it(Dialect::OnceHub, "two", "10.0.0.2"));
        assert!(!use_it(Dialect::OnceHub, "two", ONE), "the address has used up its own");
        take(&keys(&key("oncehub", "two", "")));
        assert!(issuer.directory().api_key(Dialect::Dixa, "one").is_none());
        assert!(issuer.directory().api_key(Dialect::OnceHub, "three").is_none());
    }

    #[test]
    fn who_shows_too_many_wrong_keys_is_not_listened_to() {
        let failures = Failures::per_minute(2);
        let (one, other): (IpAddr, IpAddr) = (ONE.parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert_eq!((failures.count(one), failures.count(one), failures.spent(one)), (Ok(()), Ok(()), None));
        assert!(failures.count(one).is_err() && failures.spent(one).is_some());
        assert_eq!((failures.count(other), failures.spent(other)), (Ok(()), None));
        failures.tidy();
        assert!(failures.spent(one).is_some());
    }
}
