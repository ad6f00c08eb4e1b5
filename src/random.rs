//! Randomness from the system.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Random bytes.
///
/// # Panics
/// If the system has none to give, in which case nothing secret can be made.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// 24 random bytes as text that is safe in a URL and in TOML.
#[must_use]
pub fn secret() -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes::<24>())
}

/// A number from 0 to 1, to spread what would otherwise happen at once. Only where it begins comes from the system, which is asked
/// once: nothing secret can be made of it.
#[must_use]
pub fn fraction() -> f64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(u64::from_ne_bytes(bytes())));
    // SplitMix64: even steps, well mixed.
    let mut mixed = NEXT.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let top = u32::try_from(mixed >> 32).unwrap_or(u32::MAX);
    f64::from(top) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_spread_evenly() {
        const COUNT: usize = 10_000;
        let mut slices = [0_usize; 10];
        for _ in 0..COUNT {
            let fraction = fraction();
            assert!((0.0..=1.0).contains(&fraction));
            slices[(0..9).find(|slice| fraction < f64::from(slice + 1) / 10.0).unwrap_or(9) as usize] += 1;
        }
        // Each slice is to have a thousand, give or take thirty; ten times that does not happen.
        assert!(slices.iter().all(|count| count.abs_diff(COUNT / 10) < 300), "{slices:?}");
    }
}
