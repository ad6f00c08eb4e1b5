//! MQTT 3.1.1 over WebSocket: publishes and subscriptions of quality 1, so that a delivery, too, is acknowledged.

use crate::adapter::{Adapter, Said, Seat, Talk, shown, tell_marks};
use tokio_tungstenite::tungstenite::Message;

/// The adapter.
#[derive(Debug)]
pub struct Mqtt;

/// The length that a packet says behind its first byte, and how many bytes that took.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (place, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((length, place + 1));
        }
    }
    None
}

fn piece(bytes: &[u8]) -> Option<usize> {
    length(bytes).map(|(length, taken)| 1 + taken + length)
}

fn packet(first: u8, parts: &[&[u8]]) -> Message {
    let mut left: usize = parts.iter().map(|part| part.len()).sum();
    let mut packet = vec![first];
    loop {
        let low = (left & 0x7f) as u8;
        left >>= 7;
        packet.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    parts.iter().for_each(|part| packet.extend_from_slice(part));
    Message::binary(packet)
}

/// A string with its length in front.
fn string(text: &str) -> Vec<u8> {
    // Names here are short.
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn topic(talk: &Talk) -> Vec<u8> {
    string(&format!("bench/{}", talk.seat.channel))
}

fn take(talk: &mut Talk, piece: &[u8], tell: &mut dyn FnMut(Said)) {
    let body = length(piece).map_or(&[] as &[u8], |(_, taken)| &piece[1 + taken..]);
    match (piece[0] >> 4, body) {
        // CONNACK
        (2, [_, 0]) if talk.publishes() => tell(Said::Ready),
        (2, [_, 0]) => talk.out.push(packet(0x82, &[&[0, 1], &topic(talk), &[1]])),
        // SUBACK, PUBACK
        (9, [_, _, 0 | 1]) => tell(Said::Ready),
        (4, _) => tell(Said::Ack),
        // PUBLISH
        (3, [high, low, rest @ ..]) => {
            tell_marks(rest, tell);
            let named = usize::from(u16::from_be_bytes([*high, *low]));
            if let Some(id) = rest.get(named..named + 2).filter(|_| piece[0] & 0b110 == 0b010) {
                talk.out.push(packet(0x40, &[id]));
            }
        }
        _ => tell(Said::Refused(shown(piece))),
    }
}

impl Adapter for Mqtt {
    fn path(&self, _seat: &Seat) -> String {
        "/mqtt".to_owned()
    }

    fn headers(&self, _seat: &Seat) -> Vec<(&'static str, String)> {
        vec![("sec-websocket-protocol", "mqtt".to_owned())]
    }

    fn open(&self, talk: &mut Talk) -> bool {
        // Level 4, a clean session, no keep-alive.
        let name = string(&format!("bench-{}", talk.seat.number));
        talk.out.push(packet(0x10, &[&string("MQTT"), &[4, 2, 0, 0], &name]));
        false
    }

    fn hear(&self, talk: &mut Talk, frame: &[u8], tell: &mut dyn FnMut(Said)) {
        super::pieces(talk, frame, piece, take, tell);
    }

    fn publish(&self, talk: &mut Talk, body: &str) {
        talk.published += 1;
        // Any number but 0 that is not in flight.
        let id = (talk.published % 65_535 + 1) as u16;
        talk.out.push(packet(0x32, &[&topic(talk), &id.to_be_bytes(), body.as_bytes()]));
    }
}
