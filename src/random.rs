//! Randomness from the system.

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

/// A number from 0 to 1, to spread what would otherwise happen at once.
#[must_use]
pub fn fraction() -> f64 {
    f64::from(u32::from_ne_bytes(bytes())) / f64::from(u32::MAX)
}
