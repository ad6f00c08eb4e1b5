//! What runs by itself: the search for agents, what falls due, and the removal of what is kept no longer.
//!
//! Nothing here is of record. What must happen is read from conversations, and happens by decisions like everybody
//! else's, so a restart forgets nothing and two gateways at the same work would do it once.

mod desk;
mod retention;
mod router;

pub use retention::{Hold, Retention};
pub use router::{Absence, Router};

#[cfg(test)]
mod tests;
