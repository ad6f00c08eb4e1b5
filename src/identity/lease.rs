//! How long a credential holds. All sockets of a credential share a lease, so that a refresh reaches each of them
//! and so does the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What lasts longer than the clock can say lasts for a century.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A deadline on the monotonic clock that can be moved, and reached early.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// Nanoseconds after `began`: it is asked for with every message, and so has no lock.
    ends: AtomicU64,
    moved: Notify,
    /// Those that are revoked with it.
    within: Mutex<Vec<Weak<Inner>>>,
}

impl Inner {
    fn lasting(time: Duration) -> Self {
        let inner = Self { began: Instant::now(), ends: AtomicU64::new(0), moved: Notify::new(), within: Mutex::default() };
        inner.ends.store(inner.after(time), Ordering::Release);
        inner
    }

    fn revoke(&self) {
        self.ends.store(0, Ordering::Release);
        self.moved.notify_waiters();
        let within = std::mem::take(&mut *self.within.lock().unwrap_or_else(PoisonError::into_inner));
        within.iter().filter_map(Weak::upgrade).for_each(|one| one.revoke());
    }

    /// A time from now, as it is kept.
    fn after(&self, time: Duration) -> u64 {
        let ends = self.began.elapsed().saturating_add(time.min(LONGEST));
        u64::try_from(ends.as_nanos()).unwrap_or(u64::MAX)
    }

    fn ends(&self) -> Duration {
        Duration::from_nanos(self.ends.load(Ordering::Acquire))
    }
}

impl Lease {
    /// A lease that ends after a time.
    #[must_use]
    pub fn lasting(time: Duration) -> Self {
        Self(Arc::new(Inner::lasting(time)))
    }

    /// A lease of its own that ends after a time, but no later than this one now does, and with this one when that is revoked.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        let left = self.0.ends().saturating_sub(self.0.began.elapsed());
        let one = Self::lasting(time.min(left));
        let mut within = self.0.within.lock().unwrap_or_else(PoisonError::into_inner);
        if within.len() == within.capacity() {
            within.retain(|one| one.strong_count() > 0);
        }
        within.push(Arc::downgrade(&one.0));
        drop(within);
        // Whoever revoked it before that did not find this one.
        if self.is_over() {
            one.revoke();
        }
        one
    }

    /// Lets it end after a time from now instead, unless it has ended.
    pub fn renew(&self, time: Duration) {
        let ends = self.0.after(time);
        let goes_on = |known: u64| (Duration::from_nanos(known) > self.0.began.elapsed()).then_some(ends);
        if self.0.ends.fetch_update(Ordering::AcqRel, Ordering::Acquire, goes_on).is_ok() {
            self.0.moved.notify_waiters();
        }
    }

    /// Ends it now, for ever.
    pub fn revoke(&self) {
        self.0.revoke();
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.ends() <= self.0.began.elapsed()
    }

    /// Whether nobody else has it any more.
    pub(super) fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Waits for its end.
    pub async fn ended(self) {
        loop {
            // Heard of from here on, so that no move is missed.
            let moved = self.0.moved.notified();
            let at = self.0.began + self.0.ends();
            if self.is_over() {
                return;
            }
            tokio::select! {
                () = sleep_until(at) => {}
                () = moved => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_on_time_and_renewals_move_it() {
        let lease = Lease::lasting(Duration::from_secs(10));
        let ended = tokio::spawn(lease.clone().ended());
        tokio::time::sleep(Duration::from_secs(9)).await;
        lease.renew(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(!ended.is_finished() && !lease.is_over());
        tokio::time::sleep(Duration::from_millis(1001)).await;
        assert!(lease.is_over());
        ended.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_lease_is_over_at_once_and_for_ever() {
        let lease = Lease::lasting(Duration::from_secs(10));
        let ended = tokio::spawn(lease.clone().ended());
        tokio::task::yield_now().await;
        lease.revoke();
        ended.await.unwrap();
        lease.renew(Duration::from_secs(10));
        assert!(lease.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_within_another_ends_by_itself_and_with_it() {
        let all = Lease::lasting(Duration::from_secs(100));
        let (short, long) = (all.within(Duration::from_secs(10)), all.within(Duration::from_secs(1_000)));
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(short.is_over() && !long.is_over() && !all.is_over());
        let ended = tokio::spawn(long.clone().ended());
        tokio::task::yield_now().await;
        all.revoke();
        ended.await.unwrap();
        assert!(long.is_over() && all.within(Duration::from_secs(10)).is_over());
        let all = Lease::lasting(Duration::from_secs(100));
        let long = all.within(Duration::from_secs(1_000));
        tokio::time::sleep(Duration::from_secs(101)).await;
        assert!(long.is_over());
    }
}
