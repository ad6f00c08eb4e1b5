//! How long a credential holds. All sockets of a credential share a lease, so that a refresh reaches each of them
//! and so does the end.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A deadline on the monotonic clock that can be moved, and reached early.
#[derive(Debug, Clone)]
pub struct Lease(Arc<watch::Sender<Instant>>);

impl Lease {
    /// A lease that ends after a time.
    #[must_use]
    pub fn lasting(time: Duration) -> Self {
        Self(Arc::new(watch::Sender::new(after(time))))
    }

    /// Lets it end after a time from now instead, unless it has ended.
    pub fn renew(&self, time: Duration) {
        self.0.send_if_modified(|deadline| {
            let goes_on = *deadline > Instant::now();
            if goes_on {
                *deadline = after(time);
            }
            goes_on
        });
    }

    /// Ends it now, for ever.
    pub fn revoke(&self) {
        self.0.send_replace(Instant::now());
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.0.borrow() <= Instant::now()
    }

    /// Waits for its end.
    pub async fn ended(self) {
        let mut deadline = self.0.subscribe();
        loop {
            let at = *deadline.borrow_and_update();
            if at <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(at) => {}
                changed = deadline.changed() => if changed.is_err() { return },
            }
        }
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    // What lasts longer than the clock can say lasts for a century.
    now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
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
}
