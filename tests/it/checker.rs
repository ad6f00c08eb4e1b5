//! Judges a history: what was attempted and how it was answered, the log as it is at the end, and what each follower
//! saw. It knows nothing of transports, so every kind of fault test can use it.

use std::collections::{BTreeMap, HashMap, HashSet};

/// How an attempt was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With success and this number.
    Acked(u64),
    /// With a refusal: it is certain that nothing was written.
    Refused,
    /// Not at all: it may be in the log.
    Unknown,
}

/// Everything that was tried in one dialog: each value is unique.
#[derive(Debug, Default)]
pub struct Attempts(HashMap<String, Outcome>);

impl Attempts {
    pub fn record(&mut self, value: &str, outcome: Outcome) {
        self.0.insert(value.to_owned(), outcome);
    }

    pub fn acked(&self) -> usize {
        self.0.values().filter(|outcome| matches!(outcome, Outcome::Acked(_))).count()
    }

    pub fn unknown(&self) -> usize {
        self.0.values().filter(|outcome| **outcome == Outcome::Unknown).count()
    }
}

/// A reader's view: numbers and values in the order they came.
pub type View = Vec<(u64, String)>;

/// What is wrong; all zero if nothing is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acked and not in the log, or there under another number.
    pub lost: usize,
    /// In the log and never attempted, or refused.
    pub unexpected: usize,
    /// In the log more than once.
    pub repeated: usize,
    /// One publisher's values that stand in another order than they were acked in.
    pub out_of_order: usize,
    /// Numbers missing between 0 and the head.
    pub holes: usize,
    /// Places where a follower's view is not the log.
    pub divergent: usize,
}

/// Judges one dialog. Values are `publisher-counter`: each publisher awaits one answer before its next attempt, so
/// its counters grow along the log.
pub fn check(attempts: &Attempts, log: &View, followers: &[View]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    for (place, (number, value)) in log.iter().enumerate() {
        places.entry(value).or_default().push(*number);
        verdict.holes += usize::from(*number != place as u64);
    }
    verdict.repeated = places.values().filter(|numbers| numbers.len() > 1).count();
    for (value, outcome) in &attempts.0 {
        match outcome {
            Outcome::Acked(number) => {
                verdict.lost += usize::from(places.get(value.as_str()).is_none_or(|numbers| !numbers.contains(number)))
            }
            Outcome::Refused => verdict.unexpected += usize::from(places.contains_key(value.as_str())),
            Outcome::Unknown => {}
        }
    }
    verdict.unexpected += places.keys().filter(|value| !attempts.0.contains_key(**value)).count();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut seen = HashSet::new();
    for (_, value) in log.iter().filter(|(_, value)| seen.insert(value.as_str())) {
        let Some((publisher, counter)) = value.rsplit_once('-').and_then(|(publisher, counter)| Some((publisher, counter.parse().ok()?)))
        else {
            continue;
        };
        verdict.out_of_order += usize::from(last.insert(publisher, counter).is_some_and(|earlier| earlier > counter));
    }
    for view in followers {
        let differing = view.iter().zip(log).filter(|(seen, logged)| seen != logged).count();
        verdict.divergent += differing + view.len().abs_diff(log.len());
    }
    verdict
}

mod tests {
    use super::*;

    fn log(values: &[&str]) -> View {
        values.iter().enumerate().map(|(number, value)| (number as u64, (*value).to_owned())).collect()
    }

    fn acked(values: &[&str]) -> Attempts {
        let mut attempts = Attempts::default();
        for (number, value) in values.iter().enumerate() {
            attempts.record(value, Outcome::Acked(number as u64));
        }
        attempts
    }

    const VALUES: [&str; 4] = ["a-0", "b-0", "a-1", "b-1"];

    #[test]
    fn a_sound_history_has_nothing_wrong() {
        let mut attempts = acked(&VALUES);
        attempts.record("a-2", Outcome::Unknown);
        attempts.record("b-2", Outcome::Refused);
        assert_eq!(check(&attempts, &log(&VALUES), &[log(&VALUES), log(&VALUES)]), Verdict::default());
        // An unknown one may be there, too.
        let mut with = VALUES.to_vec();
        with.push("a-2");
        assert_eq!(check(&attempts, &log(&with), &[log(&with)]), Verdict::default());
    }

    #[test]
    fn an_ack_before_the_commit_is_caught() {
        assert_eq!(check(&acked(&VALUES), &log(&VALUES[..3]), &[]), Verdict { lost: 1, ..Verdict::default() });
    }

    #[test]
    fn an_ack_with_another_number_is_caught() {
        let mut attempts = acked(&VALUES);
        attempts.record("b-1", Outcome::Acked(7));
        assert_eq!(check(&attempts, &log(&VALUES), &[]).lost, 1);
    }

    #[test]
    fn a_refused_one_that_was_written_is_caught() {
        let mut attempts = acked(&VALUES[..3]);
        attempts.record("b-1", Outcome::Refused);
        assert_eq!(check(&attempts, &log(&VALUES), &[]), Verdict { unexpected: 1, ..Verdict::default() });
    }

    #[test]
    fn what_nobody_sent_is_caught() {
        assert_eq!(check(&acked(&VALUES[..3]), &log(&VALUES), &[]), Verdict { unexpected: 1, ..Verdict::default() });
    }

    #[test]
    fn a_retry_that_was_stored_twice_is_caught() {
        let twice = ["a-0", "b-0", "a-1", "b-1", "b-1"];
        assert_eq!(check(&acked(&VALUES), &log(&twice), &[]), Verdict { repeated: 1, ..Verdict::default() });
    }

    #[test]
    fn a_number_that_was_skipped_is_caught() {
        let mut gap = log(&VALUES);
        gap[3].0 = 4;
        let mut attempts = acked(&VALUES);
        attempts.record("b-1", Outcome::Acked(4));
        assert_eq!(check(&attempts, &gap, &[]), Verdict { holes: 1, ..Verdict::default() });
    }

    #[test]
    fn shuffled_publishes_are_caught() {
        let shuffled = ["a-1", "b-0", "a-0", "b-1"];
        assert_eq!(check(&acked(&shuffled), &log(&shuffled), &[]), Verdict { out_of_order: 1, ..Verdict::default() });
    }

    #[test]
    fn a_follower_that_skips_repeats_or_shuffles_is_caught() {
        let whole = log(&VALUES);
        let skips: View = [&whole[..1], &whole[2..]].concat();
        let repeats: View = [&whole[..2], &whole[1..]].concat();
        let mut shuffles = whole.clone();
        shuffles.swap(1, 2);
        for view in [skips, repeats, shuffles, whole[..3].to_vec()] {
            assert!(check(&acked(&VALUES), &whole, std::slice::from_ref(&view)).divergent > 0, "{view:?}");
        }
    }
}
