//! What runs by itself: the search for agents, what falls due, the removal of what is kept no longer and of uploads that nothing
//! shows, and the erasure of what was said where that is asked for.
//!
//! Nothing here is of record. What must happen is read from conversations, and happens by decisions like everybody
//! else's, so a restart forgets nothing and two gateways at the same work would do it once.

mod desk;
mod erasure;
mod retention;
mod router;
mod uploads;

pub use erasure::Eraser;
pub use retention::{Hold, Retention};
pub use router::{Absence, Router};
pub use uploads::Sweeper;

#[cfg(test)]
mod tests;
