//! Places for accepted TCP connections, which are bounded in all and from each address.

use crate::throttle;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Connections that have a place.
static OPEN: LazyLock<metrics::Gauge> = LazyLock::new(|| metrics::gauge!("tieline_connections"));

/// How many connections there are, in all and from each address.
#[derive(Debug)]
pub(super) struct Places {
    most: AtomicUsize,
    most_per_address: AtomicUsize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// A connection's place; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most: most.into(), most_per_address: most_per_address.into(), taken: Mutex::default() })
    }

    /// Holds for connections to come; those that are open stay.
    pub(super) fn set(&self, most: usize, most_per_address: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.most_per_address.store(most_per_address, Ordering::Relaxed);
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = throttle::caller(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.1.get(&address).copied().unwrap_or(0);
        if taken.0 >= self.most() || of_address >= self.most_per_address.load(Ordering::Relaxed) {
            metrics::counter!("tieline_connections_refused_total").increment(1);
            return None;
        }
        taken.0 += 1;
        taken.1.insert(address, of_address + 1);
        OPEN.increment(1.0);
        Some(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0 -= 1;
        if let Some(of_address) = taken.1.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.1.remove(&self.address);
            }
        }
        OPEN.decrement(1.0);
    }
}
