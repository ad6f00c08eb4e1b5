//! The least that can be said: `S3` subscribes to channel 3 and is answered `ready`; `P3 body` publishes, is answered `ack`, and
//! each subscriber gets `body`. Spoken by `limit`, and by `peers/ws.js`.

use crate::adapter::{Adapter, Said, Seat, Talk, shown, tell_marks};
use tokio_tungstenite::tungstenite::Message;

/// The adapter.
#[derive(Debug)]
pub struct Plain;

impl Adapter for Plain {
    fn path(&self, _seat: &Seat) -> String {
        "/".to_owned()
    }

    fn open(&self, talk: &mut Talk) -> bool {
        if !talk.publishes() {
            talk.out.push(Message::text(format!("S{}", talk.seat.channel)));
        }
        talk.publishes()
    }

    fn hear(&self, _talk: &mut Talk, frame: &[u8], tell: &mut dyn FnMut(Said)) {
        match frame {
            b"ack" => tell(Said::Ack),
            b"ready" => tell(Said::Ready),
            _ if tell_marks(frame, tell) == 0 => tell(Said::Refused(shown(frame))),
            _ => {}
        }
    }

    fn publish(&self, talk: &mut Talk, body: &str) {
        talk.out.push(Message::text(format!("P{} {body}", talk.seat.channel)));
    }
}
