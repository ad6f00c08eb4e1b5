//! An upload's bytes as they come: not for ever, and read on after a refusal.

use super::refused::Refused;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How often an upload may stand still nearly too long: who sends a byte now and then would hold it open for ever.
const STALLS: u32 = 10;
/// Most bytes that are read only to be thrown away. An upload of the right size is never larger.
const DRAIN: u64 = 64 * 1024 * 1024;

/// A request's body.
#[derive(Debug)]
pub(super) struct Arriving {
    body: BodyDataStream,
    length: Option<u64>,
    stall: Duration,
    whole_by: Instant,
    /// Whether the client sends the body without being asked to.
    comes: bool,
}

impl Arriving {
    pub(super) fn new(body: Body, headers: &HeaderMap, stall: Duration) -> Self {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self {
            body: body.into_data_stream(),
            length,
            stall,
            whole_by: Instant::now() + stall.saturating_mul(STALLS),
            comes: !headers.contains_key(header::EXPECT),
        }
    }

    /// How long the client says it is.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        let by = self.whole_by.min(Instant::now() + self.stall);
        let next = timeout_at(by, self.body.next()).await;
        // Reading tells a client that waits to begin. Of one that stands still or broke off nothing more comes.
        self.comes = matches!(next, Ok(Some(Ok(_))));
        match next {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "an upload broke off");
                Err(Refused::BrokenOff)
            }
            Err(_) => Err(Refused::Stalled),
        }
    }

    /// Reads what else the client sends, within bounds: closing a connection on unread bytes resets it, and the client
    /// may never see the answer.
    pub(super) async fn drain(mut self) {
        if !self.comes {
            return;
        }
        let rest = async {
            let mut drained = 0;
            while let Some(Ok(bytes)) = self.body.next().await {
                drained += bytes.len() as u64;
                if drained > DRAIN {
                    break;
                }
            }
        };
        let _ = timeout(self.stall, rest).await;
    }
}
