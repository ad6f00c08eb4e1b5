//! When an event that was not taken is tried again, and when an endpoint is left alone: pure, without a clock.

use crate::store::GivenUp;
use std::collections::HashSet;
use std::time::Duration;
use tieline_protocol::ids::ConversationId;

/// The longest wait of the vendor's retry by time, and between two looks at an endpoint that takes nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The longest that an endpoint may ask for.
pub(super) const LONGEST_ASKED_FOR: Duration = Duration::from_secs(86_400);
/// Conversations that fail one after the other, without one that is taken, before the endpoint itself counts as failing.
const CONVERSATIONS: usize = 5;
/// Connections that fail one after the other before it does.
const CONNECTIONS: u32 = 3;

/// The waits of a configuration.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    /// Between the attempts of an application that says nothing about retries.
    pub(super) schedule: Vec<Duration>,
    /// The first of those that double.
    pub(super) first: Duration,
    /// Between attempts that are counted.
    pub(super) counted: Duration,
}

impl Waits {
    /// The longest that anything waits between two attempts, so that a wall clock that was set does not hold it for years.
    pub(super) fn longest(&self) -> Duration {
        let all = self.schedule.iter().chain([&self.counted, &LONGEST_WAIT, &LONGEST_ASKED_FOR]);
        all.max().map_or(LONGEST_ASKED_FOR, |longest| jittered(*longest))
    }
}

/// How long an event is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retries {
    /// By the schedule.
    Scheduled,
    /// The vendor's, by time: with waits that double, until it is so old.
    Timed(Duration),
    /// The vendor's, by number: so many more times.
    Counted(u32),
}

impl Retries {
    /// What the vendor's settings mean: by time takes precedence, but an event type without retries is not stored.
    pub(super) fn of(retention: Option<Duration>, max_retries: Option<u32>) -> Self {
        match (retention, max_retries) {
            (_, Some(0)) => Self::Counted(0),
            (Some(retention), _) => Self::Timed(retention),
            (None, Some(number)) => Self::Counted(number),
            (None, None) => Self::Scheduled,
        }
    }

    /// How long after an attempt that failed the next one is due, or why there is none. `attempts` is how many there
    /// were, `age` since when the event is owed, `least` what the endpoint itself asked for.
    pub(super) fn after(self, waits: &Waits, attempts: u32, age: Duration, least: Option<Duration>) -> Result<Duration, GivenUp> {
        let wait = match self {
            Self::Counted(number) if attempts > number => return Err(GivenUp::Exhausted),
            Self::Counted(_) => waits.counted,
            Self::Timed(retention) if age >= retention => return Err(GivenUp::TooOld),
            Self::Timed(retention) => doubled(waits.first, attempts).min(retention.saturating_sub(age).max(waits.first)),
            Self::Scheduled => {
                let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
                *waits.schedule.get(place).ok_or(GivenUp::Exhausted)?
            }
        };
        Ok(wait.max(least.unwrap_or_default()))
    }

    /// The age at which an event is given up that could not even be tried, because its endpoint takes nothing: when its
    /// retries would have been over.
    pub(super) fn oldest(self, waits: &Waits) -> Duration {
        match self {
            Self::Counted(number) => waits.counted.saturating_mul(number.max(1)),
            Self::Timed(retention) => retention,
            Self::Scheduled => waits.schedule.iter().sum(),
        }
    }
}

/// `first`, twice that, four times …, at most [`LONGEST_WAIT`].
fn doubled(first: Duration, attempts: u32) -> Duration {
    let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
    first.saturating_mul(factor).min(LONGEST_WAIT.max(first))
}

/// A wait and up to a tenth more, so that what failed together does not return together.
pub(super) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + crate::random::fraction() / 10.0)
}

/// Whether an endpoint is failing as a whole. Then one event at a time is tried, now and then, and the others wait
/// without having failed. One conversation that is not taken never opens it.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    /// Conversations that failed since something was taken.
    conversations: HashSet<ConversationId>,
    connections: u32,
    /// How often it was looked at since it opened.
    looks: Option<u32>,
}

impl Circuit {
    pub(super) fn is_open(&self) -> bool {
        self.looks.is_some()
    }

    /// How often the endpoint was looked at since it opened.
    pub(super) fn looks(&self) -> u32 {
        self.looks.unwrap_or(0)
    }

    /// Something was taken: whether the circuit closes by it.
    pub(super) fn taken(&mut self) -> bool {
        let was_open = self.is_open();
        *self = Self::default();
        was_open
    }

    /// An attempt failed; with an open circuit, how long nothing is to be tried. `is_unreachable`: there was not even a
    /// connection.
    pub(super) fn failed(&mut self, waits: &Waits, conversation: &ConversationId, is_unreachable: bool) -> Option<Duration> {
        self.connections = if is_unreachable { self.connections + 1 } else { 0 };
        if self.conversations.len() < CONVERSATIONS {
            self.conversations.insert(conversation.clone());
        }
        let is_failing = self.conversations.len() >= CONVERSATIONS || self.connections >= CONNECTIONS;
        if self.looks.is_none() && !is_failing {
            return None;
        }
        let looks = self.looks.map_or(1, |looks| looks.saturating_add(1));
        self.looks = Some(looks);
        Some(doubled(waits.first, looks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn waits() -> Waits {
        let schedule = [5, 300, 1800, 7200].map(seconds).to_vec();
        Waits { schedule, first: seconds(2), counted: seconds(30) }
    }

    #[test]
    fn the_vendors_settings_choose_the_mode() {
        for (retention, retries, mode) in [
            (None, None, Retries::Scheduled),
            (None, Some(3), Retries::Counted(3)),
            (None, Some(0), Retries::Counted(0)),
            (Some(60), None, Retries::Timed(seconds(60))),
            (Some(60), Some(3), Retries::Timed(seconds(60))),
            (Some(60), Some(0), Retries::Counted(0)),
        ] {
            assert_eq!(Retries::of(retention.map(seconds), retries), mode);
        }
    }

    #[test]
    fn waits_follow_their_mode_to_its_end() {
        let waits = waits();
        let after = |mode: Retries, attempts: u32, age: u64| mode.after(&waits, attempts, seconds(age), None);
        for (attempts, wait) in [(1, 5), (2, 300), (3, 1800), (4, 7200)] {
            assert_eq!(after(Retries::Scheduled, attempts, 0), Ok(seconds(wait)));
        }
        assert_eq!(after(Retries::Scheduled, 5, 0), Err(GivenUp::Exhausted));
        for (attempts, wait) in [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (40, 300), (u32::MAX, 300)] {
            assert_eq!(after(Retries::Timed(seconds(9_000)), attempts, 10), Ok(seconds(wait)));
        }
        assert_eq!(after(Retries::Timed(seconds(60)), 9, 40), Ok(seconds(20)), "once more at the end");
        assert_eq!(after(Retries::Timed(seconds(60)), 9, 59), Ok(seconds(2)));
        assert_eq!(after(Retries::Timed(seconds(60)), 1, 60), Err(GivenUp::TooOld));
        assert_eq!(after(Retries::Counted(0), 1, 0), Err(GivenUp::Exhausted));
        assert_eq!((after(Retries::Counted(1), 1, 900), after(Retries::Counted(1), 2, 0)), (Ok(seconds(30)), Err(GivenUp::Exhausted)));
        assert_eq!(Retries::Scheduled.after(&waits, 1, seconds(0), Some(seconds(77))), Ok(seconds(77)), "the endpoint asked for more");
        assert_eq!(Retries::Scheduled.after(&waits, 2, seconds(0), Some(seconds(77))), Ok(seconds(300)));
    }

    #[test]
    fn what_cannot_be_tried_is_given_up_by_age() {
        assert_eq!(Retries::Scheduled.oldest(&waits()), seconds(9305));
        assert_eq!(Retries::Timed(seconds(60)).oldest(&waits()), seconds(60));
        assert_eq!([0, 1, 5].map(|number| Retries::Counted(number).oldest(&waits())), [30, 30, 150].map(seconds));
    }

    #[test]
    fn one_conversation_never_opens_the_circuit_and_several_do() {
        let waits = waits();
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            assert_eq!(circuit.failed(&waits, &"a".into(), false), None);
        }
        for other in ["b", "c", "d"] {
            assert_eq!(circuit.failed(&waits, &other.into(), false), None);
        }
        assert!(!circuit.taken());
        for other in ["b", "c", "d", "e"] {
            assert_eq!(circuit.failed(&waits, &other.into(), false), None, "counted anew");
        }
        for wait in [2, 4, 8, 16] {
            assert_eq!(circuit.failed(&waits, &"f".into(), false), Some(seconds(wait)));
        }
        assert!(circuit.is_open() && circuit.taken() && !circuit.is_open());
    }

    #[test]
    fn an_endpoint_without_connections_opens_it_at_once() {
        let waits = waits();
        let mut circuit = Circuit::default();
        let mut failed = |is_unreachable| circuit.failed(&waits, &"a".into(), is_unreachable);
        assert_eq!([failed(true), failed(true), failed(false), failed(true), failed(true)], [None; 5]);
        assert_eq!([failed(true), failed(true)], [Some(seconds(2)), Some(seconds(4))]);
    }
}
