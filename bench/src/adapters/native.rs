//! Tieline's own wire: publishers are consumers, each in a conversation of its own; subscribers are sockets of one agent that
//! follow these conversations.

use crate::adapter::{Adapter, Said, Seat, Talk, has, shown, tell_marks};
use tokio_tungstenite::tungstenite::Message;

/// A conversation that is open, and the token of its consumer.
#[derive(Debug, Clone)]
pub struct Place {
    /// The conversation's id, which is also that of its main dialog.
    pub dialog: String,
    /// The ConsumerJWS.
    pub consumer: String,
}

/// The adapter. Channel n is the n-th place.
#[derive(Debug)]
pub struct Native {
    /// The account.
    pub account: String,
    /// The AppJWT.
    pub app: String,
    /// The agent's bearer.
    pub bearer: String,
    /// Where there is something to say.
    pub places: Vec<Place>,
    /// What idempotency keys begin with, if requests have some; no other run's keys may.
    pub keys: Option<String>,
}

/// Behind the last event there will ever be, so that a replay is empty.
const BEHIND: u32 = 1_000_000_000;

/// Where a response says what it is: its members before the body are short.
const HEAD: usize = 128;

impl Native {
    fn place(&self, seat: &Seat) -> &Place {
        &self.places[seat.channel as usize]
    }
}

impl Adapter for Native {
    fn path(&self, seat: &Seat) -> String {
        let end = if seat.role == crate::adapter::Role::Publisher { "consumer" } else { "brand" };
        format!("/ws_api/account/{}/messaging/{end}?v=3", self.account)
    }

    fn headers(&self, seat: &Seat) -> Vec<(&'static str, String)> {
        if seat.role == crate::adapter::Role::Publisher {
            vec![("authorization", self.app.clone()), ("x-lp-on-behalf", self.place(seat).consumer.clone())]
        } else {
            vec![("authorization", format!("Bearer {}", self.bearer))]
        }
    }

    fn open(&self, talk: &mut Talk) -> bool {
        if !talk.publishes() {
            let dialog = &self.place(&talk.seat).dialog;
            talk.out.push(Message::text(format!(
                r#"{{"kind":"req","id":"0","type":"ms.SubscribeMessagingEvents","body":{{"dialogId":"{dialog}","fromSeq":{BEHIND}}}}}"#
            )));
        }
        talk.publishes()
    }

    fn hear(&self, talk: &mut Talk, frame: &[u8], tell: &mut dyn FnMut(Said)) {
        let head = &frame[..frame.len().min(HEAD)];
        if has(head, r#""kind":"resp""#) {
            if !has(head, r#""code":200"#) {
                tell(Said::Refused(shown(frame)));
            } else if talk.publishes() {
                tell(Said::Ack);
            }
        } else if tell_marks(frame, tell) == 0 && talk.step == 0 && has(frame, r#""changes":[]"#) {
            // The replay is over: from here on it is live.
            talk.step = 1;
            tell(Said::Ready);
        }
    }

    fn publish(&self, talk: &mut Talk, body: &str) {
        talk.published += 1;
        let dialog = &self.place(&talk.seat).dialog;
        let number = talk.published;
        let headers = self.keys.as_ref().map_or_else(String::new, |run| {
            format!(r#""headers":[{{"type":"IdempotencyKey","key":"{run}-{}-{number}"}}],"#, talk.seat.number)
        });
        talk.out.push(Message::text(format!(
            r#"{{"kind":"req","id":"{number}",{headers}"type":"ms.PublishEvent","body":{{"dialogId":"{dialog}","event":{{"type":"RichContentEvent","content":{{"type":"vertical","elements":[{body}]}}}}}}}}"#
        )));
    }
}
