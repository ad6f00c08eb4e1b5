//! The body of a message, which is known again whatever protocol carries it.

use std::fmt::Write;

/// How long a body is.
pub const BODY: usize = 256;

/// What a mark begins with; nothing else in a frame does.
const START: &[u8] = b"tlb:";

/// Channel, sequence and time in hexadecimal digits, each behind a colon.
const DIGITS: usize = 8 + 1 + 8 + 1 + 16;

/// Which message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The channel it was published into.
    pub channel: u32,
    /// The how many-th of its channel it is, from 0.
    pub sequence: u32,
    /// When it was published, or was due, in nanoseconds of the engine's clock.
    pub at: u64,
}

impl Mark {
    /// The body: an object of [`BODY`] bytes.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = String::with_capacity(BODY);
        // A string takes whatever is written.
        let _ = write!(body, "{{\"mark\":\"tlb:{:08x}:{:08x}:{:016x}\",\"fill\":\"", self.channel, self.sequence, self.at);
        body.extend(std::iter::repeat_n('.', BODY - 2 - body.len()));
        body.push_str("\"}");
        body
    }

    /// The first mark in a frame, and what is behind it.
    #[must_use]
    pub fn find(frame: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = frame;
        loop {
            rest = &rest[memchr::memmem::find(rest, START)? + START.len()..];
            let (digits, behind) = rest.split_at_checked(DIGITS)?;
            let number = |from: usize, to: usize| u64::from_str_radix(std::str::from_utf8(&digits[from..to]).ok()?, 16).ok();
            if let (Some(channel), Some(sequence), Some(at)) = (number(0, 8), number(9, 17), number(18, 34)) {
                // Eight digits are 32 bits.
                return Some((Self { channel: channel as u32, sequence: sequence as u32, at }, behind));
            }
        }
    }
}

/// What one subscriber has to get: each message of its channel once, in order.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    channel: u32,
    next: u32,
}

impl Stream {
    /// Of a channel, from its first message on.
    #[must_use]
    pub fn new(channel: u32) -> Self {
        Self { channel, next: 0 }
    }

    /// Whether this is the message that comes next. Behind a gap it goes on with what came.
    pub fn see(&mut self, mark: &Mark) -> bool {
        let is_next = mark.channel == self.channel && mark.sequence == self.next;
        if mark.channel == self.channel {
            self.next = self.next.max(mark.sequence.saturating_add(1));
        }
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::{BODY, Mark, Stream};

    #[test]
    fn a_body_is_known_again_in_any_frame() {
        let (one, two) = (Mark { channel: 7, sequence: 1, at: 1 << 40 }, Mark { channel: u32::MAX, sequence: 0, at: u64::MAX });
        assert_eq!(one.body().len(), BODY);
        let frame = format!("tlb:no mark{}{}tlb:", one.body(), two.body());
        let (found, rest) = Mark::find(frame.as_bytes()).unwrap();
        assert_eq!(found, one);
        let (found, rest) = Mark::find(rest).unwrap();
        assert_eq!(found, two);
        assert_eq!(Mark::find(rest), None);
    }

    #[test]
    fn gaps_repeats_and_other_channels_are_bad() {
        let mark = |channel, sequence| Mark { channel, sequence, at: 0 };
        let mut stream = Stream::new(3);
        let seen: Vec<bool> = [(3, 0), (3, 1), (3, 1), (3, 3), (3, 4), (3, 2), (4, 5), (3, 5)]
            .into_iter()
            .map(|(channel, sequence)| stream.see(&mark(channel, sequence)))
            .collect();
        assert_eq!(seen, [true, true, false, false, true, false, false, true]);
    }
}
