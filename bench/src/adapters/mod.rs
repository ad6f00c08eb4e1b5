//! An adapter for each kind of server.

mod mqtt;
mod native;
mod nats;
mod nchan;
mod plain;
mod socketio;
mod stomp;

pub use mqtt::Mqtt;
pub use native::{Native, Place};
pub use nats::Nats;
pub use nchan::Nchan;
pub use plain::Plain;
pub use socketio::SocketIo;
pub use stomp::Stomp;

use crate::adapter::{Said, Talk};

/// Takes whole pieces from the front of what has come, for protocols that do not keep to WebSocket's frames. `piece` says how
/// long the first one is, or nothing if it is not complete.
fn pieces(
    talk: &mut Talk,
    frame: &[u8],
    piece: impl Fn(&[u8]) -> Option<usize>,
    mut take: impl FnMut(&mut Talk, &[u8], &mut dyn FnMut(Said)),
    tell: &mut dyn FnMut(Said),
) {
    let mut whole = std::mem::take(&mut talk.rest);
    // Nearly always a frame ends with a piece, and nothing is copied.
    let mut rest = if whole.is_empty() {
        frame
    } else {
        whole.extend_from_slice(frame);
        &whole
    };
    while let Some(length) = piece(rest).filter(|length| *length <= rest.len()) {
        let (first, behind) = rest.split_at(length);
        take(talk, first, tell);
        rest = behind;
    }
    talk.rest = rest.to_vec();
}
