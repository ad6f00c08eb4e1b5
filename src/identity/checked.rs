//! Tokens that are known to be well signed: to check a signature costs as much as hundreds of look-ups.
//!
//! All are known by their SHA-256. Those that were shown last are also kept to the letter, for to compare a token costs a tenth
//! of its hash. Nobody learns of such a comparison how much of another's token is right: only who knows the end of its
//! signature comes as far as that.

use super::fingerprint;
use super::keys::Purpose;
use super::pass::PassClaims;
use super::token::{AgentClaims, AppClaims, ConsumerClaims};
use crate::store::Fingerprint;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tokens that are remembered.
const REMEMBERED: usize = 50_000;
/// Places for those that were shown last, each in the place that the end of its signature says. With the longest in each they
/// take 4 MiB.
const RECENT: usize = 4_096;
/// Longest token that is kept to the letter.
const LONGEST_KEPT: usize = 1_024;
/// How much of a signature says where it is kept.
const END: usize = 64;

/// What a token says.
#[derive(Debug, Clone)]
pub(super) enum Checked {
    App(Arc<AppClaims>),
    Consumer(Arc<ConsumerClaims>),
    Agent(Arc<AgentClaims>),
    Pass(Arc<PassClaims>),
}

/// The tokens.
#[derive(Default)]
pub(super) struct Tokens {
    hashing: RandomState,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    all: HashMap<Fingerprint, Checked>,
    /// Grows each time that all are forgotten.
    generation: u64,
    /// Empty until there is one.
    recent: Vec<Option<Recent>>,
}

struct Recent {
    end: u64,
    purpose: Purpose,
    token: Box<str>,
    checked: Checked,
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, token: &str) -> u64 {
        let bytes = token.as_bytes();
        self.hashing.hash_one(&bytes[bytes.len().saturating_sub(END)..])
    }

    /// What a token says that was checked for this purpose.
    pub(super) fn get(&self, purpose: Purpose, token: &str) -> Option<Checked> {
        let end = self.end(token);
        let is_it = |recent: &&Recent| recent.end == end && recent.purpose == purpose && *recent.token == *token;
        let recent =
            self.lock().recent.get(place(end)).and_then(|recent| recent.as_ref().filter(is_it).map(|recent| recent.checked.clone()));
        recent.or_else(|| {
            let print = print(purpose, token);
            let mut known = self.lock();
            let checked = known.all.get(&print)?.clone();
            known.keep(end, purpose, token, &checked);
            Some(checked)
        })
    }

    /// To be asked for before a token is checked.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Remembers that a token is well signed, unless all were forgotten since it was begun to check that: the key may hold no
    /// more. Times and the directory are to be looked at each time.
    pub(super) fn remember(&self, generation: u64, purpose: Purpose, token: &str, checked: Checked, now: u64) {
        let (end, print) = (self.end(token), print(purpose, token));
        let mut known = self.lock();
        if known.generation != generation {
            return;
        }
        known.keep(end, purpose, token, &checked);
        if known.all.len() >= REMEMBERED {
            known.all.retain(|_, checked| match checked {
                Checked::App(claims) => claims.exp > now,
                Checked::Agent(claims) => claims.exp > now,
                Checked::Pass(claims) => claims.exp > now,
                Checked::Consumer(_) => false,
            });
            // Else they would be looked through for each token that comes from now on.
            if known.all.len() > REMEMBERED / 2 {
                known.all.clear();
            }
        }
        known.all.insert(print, checked);
    }

    /// Forgets all of them, for a key may hold no more.
    pub(super) fn clear(&self) {
        let mut known = self.lock();
        *known = Known { generation: known.generation + 1, ..Known::default() };
    }
}

impl Known {
    fn keep(&mut self, end: u64, purpose: Purpose, token: &str, checked: &Checked) {
        if token.len() > LONGEST_KEPT {
            return;
        }
        if self.recent.is_empty() {
            self.recent.resize_with(RECENT, || None);
        }
        self.recent[place(end)] = Some(Recent { end, purpose, token: token.into(), checked: checked.clone() });
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what is cut off does not count")]
fn place(end: u64) -> usize {
    end as usize % RECENT
}

fn print(purpose: Purpose, token: &str) -> Fingerprint {
    fingerprint(&[purpose.name(), token])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(name: &str) -> Checked {
        Checked::Consumer(Arc::new(ConsumerClaims {
            account_id: "demo".into(),
            ext_consumer_id: name.into(),
            lp_consumer_id: name.into(),
            azp: "app".into(),
        }))
    }

    fn name(checked: Option<Checked>) -> Option<String> {
        match checked? {
            Checked::Consumer(claims) => Some(claims.ext_consumer_id.clone()),
            _ => None,
        }
    }

    #[test]
    fn a_token_is_known_to_the_last_letter_and_for_its_purpose() {
        let tokens = Tokens::default();
        // Short, as long as what is hashed, kept, and too long to be kept.
        for length in [10, END, 600, LONGEST_KEPT, LONGEST_KEPT + 1] {
            let token = format!("{length}{}", "x".repeat(length - length.to_string().len()));
            tokens.remember(tokens.generation(), Purpose::Consumer, &token, consumer(&token), 0);
            for _ in 0..2 {
                assert_eq!(name(tokens.get(Purpose::Consumer, &token)), Some(token.clone()));
                assert!(tokens.get(Purpose::App, &token).is_none());
                for place in [0, length / 2, length - 1] {
                    let mut other = token.clone();
                    other.replace_range(place..=place, "!");
                    assert!(tokens.get(Purpose::Consumer, &other).is_none(), "{length} {place}");
                }
                assert!(tokens.get(Purpose::Consumer, &token[1..]).is_none());
            }
        }
        tokens.clear();
        assert!(tokens.get(Purpose::Consumer, &format!("600{}", "x".repeat(597))).is_none());
    }

    #[test]
    fn what_was_checked_with_keys_of_before_is_not_remembered() {
        let tokens = Tokens::default();
        let begun = tokens.generation();
        tokens.clear();
        tokens.remember(begun, Purpose::Consumer, "token", consumer("ann"), 0);
        assert!(tokens.get(Purpose::Consumer, "token").is_none());
        tokens.remember(tokens.generation(), Purpose::Consumer, "token", consumer("ann"), 0);
        assert!(tokens.get(Purpose::Consumer, "token").is_some());
    }

    #[test]
    fn when_too_many_live_ones_are_known_room_is_made_for_more_than_one() {
        let tokens = Tokens::default();
        let agent = Checked::Agent(Arc::new(AgentClaims { sub: "1".into(), aud: "demo".into(), sid: None, iat: 0, exp: u64::MAX }));
        let known = |tokens: &Tokens| tokens.lock().all.len();
        for number in 0..=REMEMBERED {
            tokens.remember(0, Purpose::Agent, &number.to_string(), agent.clone(), 1);
        }
        assert_eq!(known(&tokens), 1, "they are checked once more, instead of being looked through each time");
        assert!(tokens.get(Purpose::Agent, &REMEMBERED.to_string()).is_some());
    }

    #[test]
    fn who_loses_a_place_is_still_known() {
        let tokens = Tokens::default();
        let all: Vec<String> = (0..2 * RECENT).map(|number| format!("token-{number}")).collect();
        all.iter().for_each(|token| tokens.remember(0, Purpose::Consumer, token, consumer(token), 0));
        for token in all.iter().chain(&all) {
            assert_eq!(name(tokens.get(Purpose::Consumer, token)).as_ref(), Some(token));
        }
    }
}
