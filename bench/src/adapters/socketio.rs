//! Socket.IO 4 over its WebSocket transport: calls with acknowledgements, to `peers/socketio.js`.

use crate::adapter::{Adapter, Said, Seat, Talk, shown, tell_marks};
use tokio_tungstenite::tungstenite::Message;

/// The adapter.
#[derive(Debug)]
pub struct SocketIo;

/// A subscriber has called `hear`, and its acknowledgement is awaited.
const CALLED: u32 = 1;

impl Adapter for SocketIo {
    fn path(&self, _seat: &Seat) -> String {
        "/socket.io/?EIO=4&transport=websocket".to_owned()
    }

    fn open(&self, _talk: &mut Talk) -> bool {
        false
    }

    fn hear(&self, talk: &mut Talk, frame: &[u8], tell: &mut dyn FnMut(Said)) {
        // The first digit is Engine.IO's: open, close, ping, pong, message; the second is Socket.IO's.
        match frame {
            [b'0', ..] => talk.out.push(Message::text("40")),
            b"2" => talk.out.push(Message::text("3")),
            [b'4', b'0', ..] if talk.publishes() => tell(Said::Ready),
            [b'4', b'0', ..] => {
                talk.step = CALLED;
                talk.out.push(Message::text(format!(r#"420["hear","{}"]"#, talk.seat.channel)));
            }
            [b'4', b'2', ..] => drop(tell_marks(frame, tell)),
            [b'4', b'3', ..] if talk.step == CALLED => tell(Said::Ready),
            [b'4', b'3', ..] => tell(Said::Ack),
            _ => tell(Said::Refused(shown(frame))),
        }
    }

    fn publish(&self, talk: &mut Talk, body: &str) {
        talk.published += 1;
        talk.out.push(Message::text(format!(r#"42{}["say","{}",{body}]"#, talk.published, talk.seat.channel)));
    }
}
