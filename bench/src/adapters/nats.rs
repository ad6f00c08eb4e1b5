//! NATS over WebSocket. Its core acks a publish, in verbose mode, as soon as it is parsed; JetStream when its stream has it.

use crate::adapter::{Adapter, Said, Seat, Talk, has, shown, tell_marks};
use tokio_tungstenite::tungstenite::Message;

/// The adapter.
#[derive(Debug)]
pub struct Nats {
    /// Whether publishes go to a stream in files.
    pub jetstream: bool,
}

/// Steps of an opening: the first answer is awaited; the stream is being made; ready.
const GREETED: u32 = 0;
const MAKING: u32 = 1;
const READY: u32 = 2;

/// A protocol line, and the payload behind it if it has one.
fn piece(bytes: &[u8]) -> Option<usize> {
    let line = memchr::memchr(b'\n', bytes)? + 1;
    if !bytes.starts_with(b"MSG ") {
        return Some(line);
    }
    let length: usize = std::str::from_utf8(&bytes[..line]).ok()?.split_whitespace().next_back()?.parse().ok()?;
    Some(line + length + 2)
}

fn publish(subject: &str, reply: &str, payload: &str) -> Message {
    Message::binary(format!("PUB {subject} {reply}{}\r\n{payload}\r\n", payload.len()).into_bytes())
}

impl Nats {
    fn inbox(talk: &Talk) -> String {
        format!("inbox.{}", talk.seat.number)
    }

    fn take(&self, talk: &mut Talk, piece: &[u8], tell: &mut dyn FnMut(Said)) {
        let is_publisher = talk.publishes();
        match piece {
            [b'M', ..] if !is_publisher => drop(tell_marks(piece, tell)),
            // The answers of the stream.
            [b'M', ..] if has(piece, "\"error\"") => tell(Said::Refused(shown(piece))),
            [b'M', ..] if talk.step == MAKING => {
                talk.step = READY;
                tell(Said::Ready);
            }
            [b'M', ..] => tell(Said::Ack),
            [b'+', ..] if talk.step == READY && is_publisher && !self.jetstream => tell(Said::Ack),
            [b'-', ..] => tell(Said::Refused(shown(piece))),
            [b'P', b'I', ..] => talk.out.push(Message::binary(&b"PONG\r\n"[..])),
            [b'P', b'O', ..] if talk.step == GREETED => {
                if self.jetstream && talk.seat.number == 0 {
                    talk.step = MAKING;
                    let stream = r#"{"name":"BENCH","subjects":["bench.*"],"storage":"file","num_replicas":1}"#;
                    talk.out.push(publish("$JS.API.STREAM.CREATE.BENCH", &format!("{} ", Self::inbox(talk)), stream));
                } else {
                    talk.step = READY;
                    tell(Said::Ready);
                }
            }
            _ => {}
        }
    }
}

impl Adapter for Nats {
    fn path(&self, _seat: &Seat) -> String {
        "/".to_owned()
    }

    fn open(&self, talk: &mut Talk) -> bool {
        let is_verbose = talk.publishes() && !self.jetstream;
        let subject = match (talk.publishes(), self.jetstream) {
            (false, _) => Some(format!("bench.{}", talk.seat.channel)),
            (true, true) => Some(Self::inbox(talk)),
            (true, false) => None,
        };
        let subscribe = subject.map_or_else(String::new, |subject| format!("SUB {subject} 1\r\n"));
        let options = format!(r#"{{"verbose":{is_verbose},"pedantic":false,"lang":"bench","version":"1"}}"#);
        talk.out.push(Message::binary(format!("CONNECT {options}\r\n{subscribe}PING\r\n").into_bytes()));
        false
    }

    fn hear(&self, talk: &mut Talk, frame: &[u8], tell: &mut dyn FnMut(Said)) {
        super::pieces(talk, frame, piece, |talk, piece, tell| self.take(talk, piece, tell), tell);
    }

    fn publish(&self, talk: &mut Talk, body: &str) {
        let reply = if self.jetstream { format!("{} ", Self::inbox(talk)) } else { String::new() };
        talk.out.push(publish(&format!("bench.{}", talk.seat.channel), &reply, body));
    }
}
