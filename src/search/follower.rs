//! Who follows the journal, and the thread that writes the index.
//!
//! The journal is read in the runtime, at its priority: who reads it holds a lock for a moment that the store's writer needs. The
//! index is written by a thread of its own, which gives way to everything else.

use super::index::{Index, is_damaged};
use super::{SearchError, Shared};
use crate::domain::Sight;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most entries that are taken in together.
const BATCH: usize = 2_048;
/// How often is looked for new entries, unless somebody waits for them.
const LOOK: Duration = Duration::from_millis(100);
/// Writes that wait in the store, from which on whoever made them goes first: the index is written when there are fewer.
const PRESSED: usize = 16;
/// For how long, and how many entries it may lack meanwhile.
const LATE: Duration = Duration::from_secs(10);
const BEHIND: u64 = 65_536;
/// How long a read or a write that failed waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the thread is asked for.
pub(super) enum Order {
    /// Take in entries: all that are after a position, up to another. Nothing, if the index is not at that position.
    Take { after: u64, sights: Vec<Arc<Sight>>, reached: u64, tell: oneshot::Sender<Result<(), SearchError>> },
    /// The file was found damaged.
    BeginAnew,
}

/// Follows the journal.
pub struct Follower {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Follower")
    }
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Has everything indexed that is committed, until the index is closed.
    pub async fn run(self, store: Arc<dyn Store>) {
        // When it last had everything, but for what came meanwhile.
        let mut current = Instant::now();
        while !self.shared.is_closed() {
            let after = *self.shared.indexed.borrow();
            let head = store.head();
            let lag = head.saturating_sub(after);
            metrics::gauge!("tieline_search_lag").set(lag as f64);
            if lag == 0 {
                current = Instant::now();
            }
            let is_awaited = self.shared.indexed.receiver_count() > 0;
            if lag == 0 || (!is_awaited && gives_way(store.waiting(), lag, current.elapsed())) {
                tokio::select! {
                    () = self.shared.hurry.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
                continue;
            }
            match self.follow(&store, after).await {
                Ok(()) if lag <= BATCH as u64 => current = Instant::now(),
                Ok(()) => {}
                Err(SearchError::Closed) => return,
                // Who could not read or write has said so.
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Has the next entries indexed.
    async fn follow(&self, store: &Arc<dyn Store>, after: u64) -> Result<(), SearchError> {
        let (sights, reached) = store.journal(after, BATCH).await.map_err(|_| SearchError::Unreadable)?;
        let (tell, answer) = oneshot::channel();
        self.shared.order(Order::Take { after, sights, reached, tell })?;
        answer.await.map_err(|_| SearchError::Closed)?
    }
}

/// Whether the index is better written later.
fn gives_way(waiting: usize, lag: u64, since: Duration) -> bool {
    waiting >= PRESSED && lag < BEHIND && since < LATE
}

/// Writes the index until nobody is there to ask for more.
pub(super) fn write(mut index: Index, orders: &Receiver<Order>, shared: &Shared) {
    super::step_back();
    let mut was_well = true;
    loop {
        let order = if index.is_dirty() { orders.recv_timeout(AGAIN) } else { orders.recv().map_err(|_| RecvTimeoutError::Disconnected) };
        let done = match order {
            Ok(Order::Take { after, sights, reached, tell }) => {
                // It may have been made anew since they were read.
                let taken = if after == index.cursor() { index.take(&sights, reached) } else { Ok(()) };
                let outcome = taken.as_ref().copied().map_err(|_| SearchError::NotWritten);
                shared.indexed.send_replace(index.cursor());
                drop(tell.send(outcome));
                taken
            }
            Ok(Order::BeginAnew) => {
                begin_anew(&mut index, shared);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => index.tidy(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let was_well_before = std::mem::replace(&mut was_well, done.is_ok());
        if let Err(error) = done {
            // It is tried again each second, and said once.
            if was_well_before {
                tracing::warn!(%error, position = index.cursor(), "the search index cannot be written now");
            }
            if is_damaged(&error) {
                begin_anew(&mut index, shared);
            }
        }
    }
}

fn begin_anew(index: &mut Index, shared: &Shared) {
    match index.begin_anew() {
        Ok(()) => {
            shared.made.fetch_add(1, Ordering::Release);
            shared.indexed.send_replace(index.cursor());
        }
        Err(error) => tracing::error!(%error, "the search index cannot be made anew"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_way_to_many_who_write_but_not_for_ever() {
        let (soon, at_last) = (Duration::ZERO, LATE);
        assert!(!gives_way(PRESSED - 1, 1, soon), "few are not disturbed");
        assert!(gives_way(PRESSED, 1, soon) && gives_way(usize::MAX, BEHIND - 1, soon));
        assert!(!gives_way(PRESSED, BEHIND, soon), "it lacks too much");
        assert!(!gives_way(PRESSED, 1, at_last), "it has waited for long enough");
    }
}
