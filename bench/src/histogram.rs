//! Latencies, counted in buckets that are at most 1/64 wide.

use crate::report::Latency;

/// A bucket's place keeps the value's top bits: the first, and so many behind it.
const BITS: u32 = 6;

/// How many took how long.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, nanoseconds: u64) {
        let shift = nanoseconds.max(1).ilog2().saturating_sub(BITS);
        let place = ((shift as usize) << BITS) + (nanoseconds >> shift) as usize;
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What this share of them took at most, in nanoseconds, to the bucket's lower end; 0 of none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let place = place.unwrap_or(0) as u64;
        // The inverse of `add`.
        let shift = (place >> BITS).saturating_sub(1);
        (place - (shift << BITS)) << shift
    }

    /// The quantiles that are reported, in microseconds.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.quantile(share) as f64 / 1e3);
        Latency { p50, p99, p999 }
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn quantiles_are_right_to_two_per_cent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=100_000u64).for_each(|n| histogram.add(n * 1000));
        assert_eq!(histogram.total(), 100_000);
        for (share, exact) in [(0.5, 5e7), (0.99, 9.9e7), (0.999, 9.99e7), (1.0, 1e8), (0.0, 1e3)] {
            let found = histogram.quantile(share) as f64;
            assert!(found <= exact && found > exact * 0.98, "{share}: {found}");
        }
        for value in (0..200).chain([1 << 20, u64::MAX]) {
            let mut one = Histogram::default();
            one.add(value);
            let found = one.quantile(0.5);
            assert!(found <= value && value - found <= value / 64, "{value}: {found}");
        }
    }
}
