//! Runs: positions of entries that belong together and were carried over together, in one row of an index.

/// Most positions in a run: what one read takes in at least.
pub(super) const LENGTH: usize = 512;

/// Encodes ascending positions: LEB128 numbers, each the distance from the one before.
pub(super) fn encode(positions: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut before = 0;
    for position in positions {
        let mut left = position - before;
        before = position;
        while left > 0x7f {
            bytes.push(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        bytes.push(left.to_le_bytes()[0]);
    }
    bytes
}

/// What [`encode`] was given; of bytes that it never made, something.
pub(super) fn decode(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let mut before = 0_u64;
    let mut rest = bytes.iter();
    std::iter::from_fn(move || {
        let mut distance = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = *rest.next()?;
            distance |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        before = before.wrapping_add(distance);
        Some(before)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(mut positions in proptest::collection::vec(1..u64::MAX, 0..100)) {
            positions.sort_unstable();
            positions.dedup();
            let bytes = encode(positions.iter().copied());
            prop_assert_eq!(decode(&bytes).collect::<Vec<_>>(), positions);
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(decode(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn neighbours_take_a_byte_each() {
        assert_eq!(encode(1_000_000..1_000_100).len(), 3 + 99);
    }
}
