//! How often one caller may do something: a token bucket per caller. An IPv6 caller is its /64, since whoever has one
//! address has all of those. The rate can be changed while running; then everybody begins anew.

use arc_swap::ArcSwap;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A limit that is kept for each caller.
#[derive(Debug)]
pub struct Throttle {
    limiter: ArcSwap<(u32, DefaultKeyedRateLimiter<(String, IpAddr)>)>,
    period: Duration,
    clock: DefaultClock,
}

/// How long a refused caller should wait, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub u64);

impl Wait {
    /// Says so in a reply.
    #[must_use]
    pub fn say(self, mut response: Response) -> Response {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.0));
        response
    }
}

/// The network that counts as one caller.
#[must_use]
pub fn caller(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Throttle {
    /// So many a minute, all of which may come at once.
    #[must_use]
    pub fn per_minute(times: u32) -> Self {
        Self::over(Duration::from_secs(60), times)
    }

    /// So many in a time, all of which may come at once.
    #[must_use]
    pub fn over(period: Duration, times: u32) -> Self {
        Self { limiter: ArcSwap::from_pointee((times, keyed(period, times))), period, clock: DefaultClock::default() }
    }

    /// So many in the same time from now on.
    pub fn set(&self, times: u32) {
        if self.limiter.load().0 != times {
            self.limiter.store(Arc::new((times, keyed(self.period, times))));
        }
    }

    /// Counts one try of a caller.
    ///
    /// # Errors
    /// How long to wait, if it was one too many.
    pub fn check(&self, what: &str, address: IpAddr) -> Result<(), Wait> {
        self.limiter.load().1.check_key(&(what.to_owned(), caller(address))).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            Wait(wait.as_secs() + 1)
        })
    }

    /// Forgets callers that have been quiet.
    pub fn tidy(&self) {
        let limiter = self.limiter.load();
        limiter.1.retain_recent();
        limiter.1.shrink_to_fit();
    }
}

/// What lets so many come in a time, at once or evenly.
#[must_use]
pub fn quota(period: Duration, times: u32) -> Quota {
    let times = NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN);
    let each = period.checked_div(times.get()).filter(|each| !each.is_zero()).unwrap_or(Duration::from_nanos(1));
    Quota::with_period(each).unwrap_or_else(|| Quota::per_minute(times)).allow_burst(times)
}

fn keyed(period: Duration, times: u32) -> DefaultKeyedRateLimiter<(String, IpAddr)> {
    RateLimiter::keyed(quota(period, times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_limit_of_its_own() {
        let throttle = Throttle::per_minute(2);
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(throttle.check("a", one).is_ok() && throttle.check("a", one).is_ok());
        assert!(throttle.check("a", one).is_err_and(|wait| wait.0 >= 1));
        assert!(throttle.check("b", one).is_ok());
        assert!(throttle.check("a", "10.0.0.2".parse().unwrap()).is_ok());
        // The same rate again forgives nothing, another one holds at once.
        throttle.set(2);
        assert!(throttle.check("a", one).is_err());
        throttle.set(1);
        assert!(throttle.check("a", one).is_ok() && throttle.check("a", one).is_err());
    }

    #[test]
    fn an_ipv6_caller_is_its_network() {
        let caller = |text: &str| caller(text.parse().unwrap());
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::ffff:2"));
        assert_ne!(caller("2001:db8::1"), caller("2001:db8:0:1::1"));
        assert_eq!(caller("::ffff:10.0.0.1"), caller("10.0.0.1"));
    }
}
