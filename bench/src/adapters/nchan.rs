//! nginx with nchan: a location to hear a channel, and one to publish into it, which answers each message with its state.

use crate::adapter::{Adapter, Role, Said, Seat, Talk, has, shown, tell_marks};
use tokio_tungstenite::tungstenite::Message;

/// The adapter.
#[derive(Debug)]
pub struct Nchan;

impl Adapter for Nchan {
    fn path(&self, seat: &Seat) -> String {
        let what = if seat.role == Role::Publisher { "say" } else { "hear" };
        format!("/{what}/bench{}", seat.channel)
    }

    fn open(&self, _talk: &mut Talk) -> bool {
        true
    }

    fn hear(&self, talk: &mut Talk, frame: &[u8], tell: &mut dyn FnMut(Said)) {
        if !talk.publishes() {
            tell_marks(frame, tell);
        } else if has(frame, "queued messages") {
            tell(Said::Ack);
        } else {
            tell(Said::Refused(shown(frame)));
        }
    }

    fn publish(&self, talk: &mut Talk, body: &str) {
        talk.out.push(Message::text(body));
    }
}
