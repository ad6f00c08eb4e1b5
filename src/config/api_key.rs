//! Keys for the dialects whose callers show one with each request.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;

/// Longest key, in bytes: longer ones than this stand in no header.
const LONGEST_KEY: usize = 512;

/// A dialect whose callers show a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Dixa's Conversations API.
    Dixa,
    /// OnceHub's API.
    OnceHub,
    /// UltraCart's API.
    UltraCart,
    /// Hubster's API.
    Hubster,
}

impl Dialect {
    /// What it is called in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dixa => "dixa",
            Self::OnceHub => "oncehub",
            Self::UltraCart => "ultracart",
            Self::Hubster => "hubster",
        }
    }

    /// Whether all keys of an account share one rate, as the vendor has it.
    #[must_use]
    pub fn shares_rate(self) -> bool {
        self == Self::OnceHub
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Whose API it opens.
    pub dialect: Dialect,
    /// The key.
    pub key: SecretString,
    /// The agent as whom its bearer acts; none: as the account itself.
    #[serde(default)]
    pub agent: Option<String>,
    /// What it is called in the log.
    #[serde(default)]
    pub name: String,
    /// Requests in a second.
    #[serde(default)]
    pub per_second: Option<u32>,
    /// Requests at once.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Requests in a day.
    #[serde(default)]
    pub per_day: Option<u32>,
}

/// How often a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRate {
    /// In a second.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
    /// In a day, if that is limited.
    pub per_day: Option<u32>,
}

impl ApiKey {
    /// How often it may be used: as it says, else as the vendor has it.
    #[must_use]
    pub fn rate(&self) -> KeyRate {
        let (per_second, burst, per_day) = match self.dialect {
            Dialect::Dixa => (10, Some(4), Some(864_000)),
            Dialect::OnceHub => (5, None, None),
            // They publish none that is counted by the second.
            Dialect::UltraCart | Dialect::Hubster => (10, None, None),
        };
        let per_second = self.per_second.unwrap_or(per_second);
        let burst = self.burst.or(burst.filter(|_| self.per_second.is_none())).unwrap_or(per_second);
        KeyRate { per_second, burst, per_day: self.per_day.or(per_day) }
    }
}

/// Finds what is wrong with the keys of an account. `known` are those of the accounts before.
pub(super) fn validate<'c>(account: &'c super::Account, known: &mut HashMap<(Dialect, &'c str), &'c str>) -> Result<(), String> {
    let mut rates = HashMap::new();
    for (place, key) in account.api_keys.iter().enumerate() {
        let number = place + 1;
        let dialect = key.dialect;
        let text = key.key.expose_secret();
        if text.is_empty() {
            return Err(format!("key {number} is empty; write a long random text"));
        }
        if text.len() > LONGEST_KEY || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "key {number} must be at most {LONGEST_KEY} letters, digits and signs, without spaces: it stands in a header"
            ));
        }
        if let Some(other) = known.insert((dialect, text), &account.id) {
            let whose = if other == account.id { "this account".to_owned() } else { format!("account {other:?}") };
            return Err(format!("key {number} for {dialect} is there already, in {whose}; a key must say who calls"));
        }
        if let Some(unknown) = key.agent.as_ref().filter(|agent| !account.agents.iter().any(|known| known.user_id == **agent)) {
            return Err(format!("key {number}: {unknown:?} is no agent of the account; write the user_id of one"));
        }
        let rate = key.rate();
        if rate.per_second == 0 || rate.burst == 0 || rate.per_day == Some(0) {
            return Err(format!("key {number}: per_second, burst and per_day must be at least 1"));
        }
        if dialect.shares_rate() && *rates.entry(dialect).or_insert(rate) != rate {
            return Err(format!("the keys for {dialect} share one rate; write the same per_second, burst and per_day for each"));
        }
    }
    Ok(())
}
