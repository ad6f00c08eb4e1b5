//! STOMP 1.2 over WebSocket, as RabbitMQ's web-stomp has it: a publish is acked by its receipt, a publisher's confirm.

use crate::adapter::{Adapter, Said, Seat, Talk, has, shown, tell_marks};
use tokio_tungstenite::tungstenite::Message;

/// The adapter.
#[derive(Debug)]
pub struct Stomp {
    /// Whether publishes are persistent and go to one durable queue, instead of a topic for each channel.
    pub durable: bool,
}

impl Adapter for Stomp {
    fn path(&self, _seat: &Seat) -> String {
        "/ws".to_owned()
    }

    fn headers(&self, _seat: &Seat) -> Vec<(&'static str, String)> {
        vec![("sec-websocket-protocol", "v12.stomp".to_owned())]
    }

    fn open(&self, talk: &mut Talk) -> bool {
        talk.out.push(Message::text("CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\nheart-beat:0,0\n\n\0"));
        false
    }

    fn hear(&self, talk: &mut Talk, frame: &[u8], tell: &mut dyn FnMut(Said)) {
        let is = |kind: &str| frame.starts_with(kind.as_bytes());
        if is("MESSAGE") {
            tell_marks(frame, tell);
        } else if is("RECEIPT") {
            tell(if talk.publishes() { Said::Ack } else { Said::Ready });
        } else if is("CONNECTED") && talk.publishes() {
            tell(Said::Ready);
        } else if is("CONNECTED") {
            let topic = talk.seat.channel;
            talk.out.push(Message::text(format!("SUBSCRIBE\nid:0\ndestination:/topic/bench{topic}\nack:auto\nreceipt:0\n\n\0")));
        } else if is("ERROR") || !has(frame, "\n") {
            tell(Said::Refused(shown(frame)));
        }
    }

    fn publish(&self, talk: &mut Talk, body: &str) {
        talk.published += 1;
        let to = if self.durable { "/queue/bench\npersistent:true".to_owned() } else { format!("/topic/bench{}", talk.seat.channel) };
        talk.out.push(Message::text(format!("SEND\ndestination:{to}\nreceipt:{}\n\n{body}\0", talk.published)));
    }
}
