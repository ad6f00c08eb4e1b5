//! One folder per vendor: their requests to our operations, our events to their frames. A dialect is a translation
//! and holds no rule of its own.
//!
//! A dialect gives the listener a router for its HTTP calls and, for each socket it has, a [`Socket`]: a path, and
//! what an upgrade request says about who it is. The upgrade itself and the loop are the listener's. A [`Call`] is one of the
//! router's calls once more, for it is made so often.
//!
//! Each dialect has a function `openapi`, which says what its document says, and makes it by the router that serves its calls: a
//! handler that is not documented is not served.

pub mod dixa;
pub mod form;
pub mod hubster;
pub mod ids;
pub mod liveperson;
pub mod oncehub;
pub mod origin;
pub mod rich;
pub mod ultracart;

use crate::domain::{Channel, Conversation};
use crate::identity::Account;
use crate::openapi::Document;
use crate::session::{Admission, Doorway};
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Uri};
use axum::response::Response;
use futures::future::BoxFuture;
use utoipa::openapi::OpenApi;

/// Makes a dialect's document.
type Describe = fn() -> OpenApi;

/// What each dialect's document says, by the name that the configuration has for it.
const DOCUMENTS: [(&str, Describe); 5] = [
    ("liveperson", liveperson::openapi),
    ("dixa", dixa::openapi),
    ("oncehub", oncehub::openapi),
    ("ultracart", ultracart::openapi),
    ("hubster", hubster::openapi),
];

/// The documents of the dialects that are switched on.
#[must_use]
pub fn documents(is_on: impl Fn(&str) -> bool) -> Vec<Document> {
    let on = DOCUMENTS.into_iter().filter(|(name, _)| is_on(name));
    on.map(|(name, openapi)| Document { name, api: openapi() }).collect()
}

/// Among a request's extensions: that it came by TLS of our own.
#[derive(Debug, Clone, Copy)]
pub struct Https;

/// By what way a conversation came: as its opener says, else as is said of its application.
pub(crate) fn channel(account: &Account, conversation: &Conversation) -> Channel {
    let details = &conversation.details;
    let said = details.origin.as_ref().map(|origin| &origin.channel).filter(|channel| **channel != Channel::Messenger);
    let of_app = || details.app.as_ref().and_then(|app| account.app(app)?.channel.clone());
    said.cloned().or_else(of_app).unwrap_or(Channel::Messenger)
}

/// A WebSocket that a dialect serves.
pub trait Socket: Clone + Send + Sync + 'static {
    /// How a peer is greeted that has not said who it is.
    type Doorway: Doorway;

    /// The path, as the router spells it.
    fn path(&self) -> &'static str;

    /// Which of the subprotocols that an upgrade request offers is spoken, if the peer is to be told of one.
    fn protocol(&self, _parts: &Parts) -> Option<HeaderValue> {
        None
    }

    /// Whether a page of an origin may connect that is not among those which may everywhere.
    fn allows_origin(&self, _parts: &Parts) -> bool {
        false
    }

    /// Reads an upgrade request. An answer instead of an admission is sent in place of the upgrade.
    fn admit<'p>(&'p self, parts: &'p Parts) -> BoxFuture<'p, Result<Admission<Self::Doorway>, Box<Response>>>;
}

/// A call that is made so often that it is answered without the router, which answers it, too, and in the same way.
pub trait Call: Send + Sync + 'static {
    /// The path, as the router spells it.
    fn path(&self) -> &'static str;

    /// Whether it is asked for in the plainest way, so that the router could only come to the same. Anything else is the router's.
    fn is_meant(&self, method: &Method, uri: &Uri) -> bool;

    /// Answers it. What is left of the body is read by the caller.
    fn answer<'c>(&'c self, parts: &'c Parts, body: &'c mut Body) -> BoxFuture<'c, Response>;
}

/// Whether a path is plainly one of a route's: of as many segments, and none that would have to be decoded.
pub(crate) fn fits(route: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (route.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted.starts_with('{') => {
                if given.is_empty() || given.contains('%') {
                    return false;
                }
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_fit_a_route() {
        let route = "/api/account/{account}/send";
        assert!(fits(route, "/api/account/demo/send"));
        for other in [
            "/api/account/demo/send/",
            "/api/account//send",
            "/api/account/d%65mo/send",
            "/api/account/demo",
            "/api/account/demo/sent",
            "api/account/demo/send",
            "",
        ] {
            assert!(!fits(route, other), "{other}");
        }
        assert!(fits("/a/{b}/c/{d}", "/a/1/c/2"));
        assert!(!fits("/a/{b}/c/{d}", "/a/1/c/"));
    }
}
