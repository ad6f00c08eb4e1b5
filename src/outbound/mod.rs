//! Requests that are made to where others say: to endpoints that take webhooks, and for attachments that are given by URL.
//!
//! What a stranger chose is guarded: it leads to public addresses ([`address`]) or nowhere, unless the operator allowed it.
//! A name is resolved for each connection, and the addresses that were checked are those that are connected to, so that
//! an answer that changes changes nothing. Guarded connections are kept apart from the others: the same name may lead what
//! the operator wrote inside.
//!
//! No client follows a redirect or asks a proxy: either would lead where nobody has looked. Who wants to follow one judges it
//! as if it had been written.

mod address;

#[cfg(test)]
pub(crate) use self::address::hostile;
pub(crate) use self::address::is_public;
pub use self::address::{Guard, Refusal};

use crate::config::Endpoint;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Names that are looked up at one time for one purpose. Each takes a thread until it is answered, also when nobody waits any
/// more, and the store reads with such threads, too.
const LOOKUPS: usize = 32;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Not in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// A stranger chose what is not public; no connection was made.
    #[error("the endpoint is refused: {0}")]
    Refused(Refusal),
    /// There is no connection to it.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The connection ended before the answer; whether the request was taken nobody knows.
    #[error("it did not answer: {0}")]
    Broken(String),
    /// The system's certificates cannot be used, or something as basic.
    #[error("no request can be made: {0}")]
    Client(String),
}

impl Unanswered {
    /// Its name in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::Refused(_) => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Broken(_) => "broken",
            Self::Client(_) => "client",
        }
    }
}

impl From<reqwest::Error> for Unanswered {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let is_connected = !error.is_connect();
        // The innermost reason says most, and none of them may show the URL, in whose query there may be a key.
        let error = error.without_url();
        let mut reason: &dyn std::error::Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        match reason.downcast_ref() {
            Some(refusal) => Self::Refused(*refusal),
            None if is_connected => Self::Broken(reason.to_string()),
            None => Self::Unreachable(reason.to_string()),
        }
    }
}

/// The clients for one purpose. Each is made with its first request: a gateway that makes none needs no certificates to trust.
#[derive(Debug)]
pub struct Clients {
    connect_timeout: Duration,
    guard: Arc<Guard>,
    /// Purposes do not wait for each other's names.
    lookups: Arc<Semaphore>,
    free: OnceLock<Result<Client, String>>,
    guarded: OnceLock<Result<Client, String>>,
}

impl Clients {
    /// With a guard, and so long for a connection to be made.
    #[must_use]
    pub fn new(connect_timeout: Duration, guard: Guard) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS));
        Self { connect_timeout, guard: Arc::new(guard), lookups, free: OnceLock::new(), guarded: OnceLock::new() }
    }

    /// The client for what the operator wrote.
    ///
    /// # Errors
    /// [`Unanswered::Client`].
    pub fn free(&self) -> Result<&Client, Unanswered> {
        made(self.free.get_or_init(|| build(builder(self.connect_timeout).dns_resolver(self.system()))))
    }

    /// The client for what a stranger chose, if that may be asked at all.
    ///
    /// # Errors
    /// [`Unanswered::Refused`] and [`Unanswered::Client`].
    pub fn guarded(&self, endpoint: &Endpoint) -> Result<&Client, Unanswered> {
        // The resolver is not asked about an address.
        if let Some(refusal) = self.guard.refuses(endpoint) {
            return Err(Unanswered::Refused(refusal));
        }
        let make = || build(builder(self.connect_timeout).dns_resolver(Guarded(self.system(), self.guard.clone())));
        made(self.guarded.get_or_init(make))
    }

    fn system(&self) -> System {
        System(self.lookups.clone())
    }
}

fn builder(connect_timeout: Duration) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("tieline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

fn build(builder: ClientBuilder) -> Result<Client, String> {
    builder.build().map_err(|error| error.to_string())
}

fn made(client: &Result<Client, String>) -> Result<&Client, Unanswered> {
    client.as_ref().map_err(|reason| Unanswered::Client(reason.clone()))
}

/// The system's resolver, and how many may ask it at a time.
#[derive(Debug)]
struct System(Arc<Semaphore>);

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        let turns = self.0.clone();
        Box::pin(async move {
            let place = turns.acquire_owned().await?;
            let found = tokio::task::spawn_blocking(move || {
                let _place = place;
                // Port 0 becomes the URL's.
                (name.as_str(), 0).to_socket_addrs()
            });
            Ok(Box::new(found.await??) as Addrs)
        })
    }
}

/// Another resolver's answers, as long as they may be led to. One address that is refused speaks against the whole name:
/// who mixes them means that one.
#[derive(Debug)]
struct Guarded<R>(R, Arc<Guard>);

impl<R: Resolve> Resolve for Guarded<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, guard) = (name.as_str().to_owned(), self.1.clone());
        let answer = self.0.resolve(name);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = answer.await?.collect();
            match addresses.iter().find_map(|address| guard.refuses_address(&host, address.ip())) {
                Some(refusal) => Err(refusal.into()),
                None => Ok(Box::new(addresses.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
