//! A small picture as a PNG file, made from a number.

use super::dice::Dice;

/// Pixels on a side, of which each is shown eight times as large.
const SIDE: usize = 8;
const SCALE: usize = 8;

/// A symmetric pattern in one colour, as a PNG of 64 × 64 pixels.
pub(super) fn png(number: u64) -> Vec<u8> {
    let mut dice = Dice::of(number, 0);
    let [red, green, blue, ..] = dice.next().to_le_bytes();
    let pattern: Vec<Vec<bool>> = (0..SIDE).map(|_| (0..SIDE / 2).map(|_| dice.happens(0.5)).collect()).collect();
    let side = SIDE * SCALE;
    let mut rows = Vec::with_capacity(side * (1 + side));
    for y in 0..side {
        // No filter.
        rows.push(0);
        for x in 0..side {
            let column = (x / SCALE).min(SIDE - 1 - x / SCALE);
            rows.push(u8::from(pattern[y / SCALE][column]));
        }
    }
    let size = u32::try_from(side).unwrap_or(0).to_be_bytes();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    // Eight bits a pixel, which name a colour of the palette.
    chunk(&mut file, *b"IHDR", &[size.as_slice(), &size, &[8, 3, 0, 0, 0]].concat());
    chunk(&mut file, *b"PLTE", &[250, 250, 245, red, green, blue]);
    chunk(&mut file, *b"IDAT", &zlib(&rows));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], body: &[u8]) {
    file.extend(u32::try_from(body.len()).unwrap_or(0).to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(body);
    let sum = crc(&file[start..]);
    file.extend(sum.to_be_bytes());
}

/// Stored in one block, not compressed: a picture of this size has 4,160 bytes, and a block may have 65,535.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let mut stream = vec![0x78, 0x01, 0x01];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(bytes);
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    stream.extend((high << 16 | low).to_be_bytes());
    stream
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pictures_sums_are_those_of_the_standards() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        assert_eq!(zlib(b"Wikipedia")[zlib(b"Wikipedia").len() - 4..], 0x11e6_0398_u32.to_be_bytes());
        assert!(png(1).starts_with(b"\x89PNG\r\n\x1a\n") && png(1).ends_with(b"IEND\xae\x42\x60\x82"));
        assert!(png(1) == png(1) && png(1) != png(2));
    }
}
