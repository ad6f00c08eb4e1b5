//! Decisions that a seed makes: the same seed makes the same ones, on every machine.

/// Sebastiano Vigna's SplitMix64: every seed, also a small one, gives a good sequence.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// Dice of their own for one thing, so that what is decided of others does not change it.
    pub(super) fn of(seed: u64, thing: u64) -> Self {
        let mut outer = Self(seed);
        Self(outer.next() ^ thing.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// Whether something of this likelihood (0 to 1) happens.
    pub(super) fn happens(&mut self, likelihood: f64) -> bool {
        // 2^-53: what a f64 tells apart.
        let fraction = (self.next() >> 11) as f64 / 9_007_199_254_740_992.0;
        fraction < likelihood
    }

    /// One of some, of which there must be at least one.
    pub(super) fn pick<'a, T>(&mut self, some: &'a [T]) -> &'a T {
        let place = self.next() % u64::try_from(some.len()).unwrap_or(1).max(1);
        &some[usize::try_from(place).unwrap_or(0)]
    }
}
