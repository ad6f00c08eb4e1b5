//! How far an application's webhooks have come, kept in the store.

use crate::store::{ReadError, Store};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId};
use tokio::time::Instant;

/// How often a cursor is kept at most: each time is a sync to disk, and a crash repeats what was delivered since.
const EVERY: Duration = Duration::from_secs(1);

/// A cursor: the log's name, and the position up to which everything is delivered.
pub(super) struct Cursor {
    store: Arc<dyn Store>,
    name: String,
    after: u64,
    /// The position on disk.
    kept: Option<u64>,
    tried: Option<Instant>,
}

impl Cursor {
    /// Reads the cursor of an application; one that has none begins at `head`.
    pub(super) async fn open(store: Arc<dyn Store>, (account, app): &(AccountId, ClientId), head: u64) -> Result<Self, ReadError> {
        let name = format!("webhooks/{account}/{app}");
        let known = store.cursor(name.clone()).await?;
        let newest = store.head();
        let (after, kept) = match known.as_deref().map(read) {
            None => (head, None),
            Some(Some((epoch, position))) if epoch == store.epoch() => (position.min(newest), Some(position)),
            // A copy of a log, under a new name, brings its cursors along, and they stand in the part that was copied.
            Some(Some((epoch, position))) if position <= newest => {
                tracing::warn!(cursor = name, epoch, position, "a cursor of another log: what follows it here is delivered");
                (position, None)
            }
            Some(_) => {
                tracing::warn!(cursor = name, "a cursor that this log does not reach: webhooks begin at the head");
                (head, None)
            }
        };
        let mut cursor = Self { store, name, after, kept, tried: None };
        cursor.keep().await;
        Ok(cursor)
    }

    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// Everything up to a position is delivered.
    pub(super) async fn reach(&mut self, position: u64) {
        self.after = self.after.max(position);
        if self.tried.is_none_or(|tried| tried.elapsed() >= EVERY) {
            self.keep().await;
        }
    }

    /// Keeps it, if it is not on disk already.
    pub(super) async fn keep(&mut self) {
        if self.kept == Some(self.after) {
            return;
        }
        self.tried = Some(Instant::now());
        let position = self.after;
        match self.store.keep_cursor(self.name.clone(), format!("{}:{position}", self.store.epoch())).await {
            Ok(Ok(())) => self.kept = Some(position),
            // The store's own trouble is in the log already. It is tried again; meanwhile more would be repeated.
            failed => tracing::debug!(cursor = self.name, ?failed, "a cursor was not kept"),
        }
    }

    /// Waits until it should be kept; for ever, if it is.
    pub(super) async fn due(&self) {
        match self.tried {
            _ if self.kept == Some(self.after) => std::future::pending().await,
            Some(tried) => tokio::time::sleep_until(tried + EVERY).await,
            None => {}
        }
    }
}

fn read(text: &str) -> Option<(&str, u64)> {
    let (epoch, position) = text.split_once(':')?;
    Some((epoch, position.parse().ok()?))
}
