//! One folder per vendor: their requests to our operations, our events to their frames. A dialect is a translation
//! and holds no rule of its own.
//!
//! A dialect gives the listener a router for its HTTP calls and, for each socket it has, a [`Socket`]: a path, and
//! what an upgrade request says about who it is. The upgrade itself and the loop are the listener's.

pub mod liveperson;

use crate::session::{Admission, Doorway};
use axum::http::request::Parts;
use axum::response::Response;
use futures::future::BoxFuture;

/// A WebSocket that a dialect serves.
pub trait Socket: Clone + Send + Sync + 'static {
    /// How a peer is greeted that has not said who it is.
    type Doorway: Doorway;

    /// The path, as the router spells it.
    fn path(&self) -> &'static str;

    /// Reads an upgrade request. An answer instead of an admission is sent in place of the upgrade.
    fn admit<'p>(&'p self, parts: &'p Parts) -> BoxFuture<'p, Result<Admission<Self::Doorway>, Box<Response>>>;
}
