//! Attachments that a client gives by their URL: fetched by us, and then kept as if they had been uploaded.
//!
//! Whoever may send a message chooses the URL, so it is guarded as webhooks that tenants install are
//! ([`outbound`](crate::outbound)). A redirect is followed a few times, each judged as if it had been written. Nothing of the
//! request says for whom it is made.
//!
//! The bytes come to the disk as those of an upload do, at most as many as one may have, and all of one request's attachments
//! in one time. What they are nobody declared: their beginning says it, and where several types begin alike, their name
//! and what the answer calls them. Bytes are taken as they come; an answer that is encoded is refused, so nothing is ever
//! unpacked.
//!
//! Of several attachments all are kept or none, also when who asked for them is gone meanwhile.

use super::disk::Partial;
use super::kind::{HEAD, Hints, Inspector, Kind, guess};
use super::path::FilePath;
use super::refused::{FetchFault, FetchRefused, Refused};
use super::{Files, Store};
use crate::config::Endpoint;
use crate::outbound::{Clients, Guard, Unanswered};
use axum::http::{StatusCode, header};
use dashmap::DashMap;
use futures::future::try_join_all;
use reqwest::Response;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::AccountId;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// Most redirects on the way to one attachment. Stores that sign their URLs redirect once, shorteners in front of them once more.
const REDIRECTS: usize = 3;
/// Most attachments of one request: all of them lie on the disk until the last has come.
pub const MOST_AT_ONCE: usize = 20;

/// How attachments are fetched.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// For all of one request.
    pub timeout: Duration,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// How many of one account are fetched at a time.
    pub concurrency: usize,
    /// Where they may lie.
    pub guard: Guard,
}

/// An attachment that was fetched and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where, as it is published and asked for.
    pub path: String,
    /// How many bytes.
    pub size: u64,
    /// Its type, as `files.types` names it.
    pub kind: &'static str,
    /// What it is served as.
    pub mime: &'static str,
}

impl From<&FilePath> for Fetched {
    fn from(path: &FilePath) -> Self {
        let kind = path.kind();
        Self { path: path.to_string(), size: path.size().unwrap_or_default(), kind: kind.extension, mime: kind.mime }
    }
}

/// Attachments that were fetched for something that is to show them, in their order. Dropped, they are removed; where nothing runs
/// any more that could do so, the sweep of uploads that nobody shows finds them.
#[derive(Debug)]
pub struct Held {
    store: Arc<Store>,
    fetched: Vec<Fetched>,
}

impl Deref for Held {
    type Target = [Fetched];

    fn deref(&self) -> &[Fetched] {
        &self.fetched
    }
}

impl Held {
    /// They stay: what shows them is written down, or nobody knows whether it is.
    pub fn keep(mut self) {
        self.fetched.clear();
    }

    /// Removes them; they are gone when this ends.
    pub async fn discard(mut self) {
        let paths = self.take();
        remove(&self.store, paths).await;
    }

    fn take(&mut self) -> Vec<FilePath> {
        std::mem::take(&mut self.fetched).iter().filter_map(|fetched| FilePath::parse(&fetched.path)).collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let paths = self.take();
        if let (false, Ok(runtime)) = (paths.is_empty(), Handle::try_current()) {
            let store = self.store.clone();
            runtime.spawn(async move { remove(&store, paths).await });
        }
    }
}

/// What fetching needs.
#[derive(Debug)]
pub(super) struct Fetching {
    clients: Clients,
    timeout: Duration,
    concurrency: usize,
    /// By account, so that one does not wait for another. There are no more than accounts.
    turns: DashMap<AccountId, Arc<Semaphore>>,
}

/// What came of an attachment, and is not kept yet.
type Came = (&'static Kind, u64, Partial);

impl Fetching {
    pub(super) fn new(settings: &FetchSettings) -> Self {
        Self {
            clients: Clients::new(settings.connect_timeout, settings.guard.clone()),
            timeout: settings.timeout,
            concurrency: settings.concurrency,
            turns: DashMap::new(),
        }
    }

    /// Waits until an account may fetch one more. It ends when the permit is dropped.
    async fn turn(&self, account: &AccountId, by: Instant) -> Result<OwnedSemaphorePermit, FetchRefused> {
        let turns = self.turns.entry(account.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.concurrency))).clone();
        // They are never closed.
        timeout_at(by, turns.acquire_owned()).await.ok().and_then(Result::ok).ok_or(FetchRefused::Busy)
    }

    /// The answer with the bytes, and where it came from in the end.
    async fn ask(&self, first: &Endpoint) -> Result<(Response, Endpoint), FetchRefused> {
        let mut at = first.clone();
        for _ in 0..=REDIRECTS {
            let failed = |why: Unanswered| fault(&at, why);
            let response = self.clients.guarded(&at).map_err(failed)?.get(at.0.clone()).send().await.map_err(|why| failed(why.into()))?;
            match response.status() {
                StatusCode::OK => return Ok((response, at)),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => at = next(&at, &response).ok_or_else(|| fault(&at, FetchFault::NoWay))?,
                status => return Err(fault(&at, FetchFault::Status(status.as_u16()))),
            }
        }
        Err(fault(&at, FetchFault::Redirects(REDIRECTS)))
    }
}

fn fault(at: &Endpoint, fault: impl Into<FetchFault>) -> FetchRefused {
    FetchRefused::There { host: at.host().to_owned(), fault: fault.into() }
}

/// Where an answer redirects to, if that is a URL.
fn next(from: &Endpoint, response: &Response) -> Option<Endpoint> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    Endpoint::read(from.0.join(location).ok()?.as_str()).ok()
}

/// The end of the name in a URL.
fn extension(at: &Endpoint) -> &str {
    at.0.path().rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension)
}

impl Files {
    /// Fetches attachments for an owner, and keeps them as if the owner had uploaded them: all of them, in their order, or none.
    /// It may be dropped at any time; then nothing is kept.
    ///
    /// # Errors
    /// [`FetchRefused`], of the first that failed.
    pub async fn fetch_all(&self, account: &AccountId, owner: &str, urls: &[&str]) -> Result<Held, FetchRefused> {
        if urls.len() > MOST_AT_ONCE {
            return Err(FetchRefused::TooMany(MOST_AT_ONCE));
        }
        let by = Instant::now() + self.fetching.timeout;
        // All of them are read before any is asked for.
        let urls: Vec<Endpoint> = urls.iter().map(|url| Endpoint::read(url)).collect::<Result<_, _>>()?;
        let tag = self.signer.tag(account, owner);
        let arriving = urls.iter().map(async |url| {
            let (kind, size, partial) = self.fetch(account, url, by).await?;
            let path = FilePath::new(account, tag.clone(), Uuid::new_v4(), Some(size), kind).ok_or(Refused::Account)?;
            Ok::<_, FetchRefused>((path, partial))
        });
        let arrived = try_join_all(arriving).await?;
        Ok(self.keep_all(arrived).await?)
    }

    async fn fetch(&self, account: &AccountId, url: &Endpoint, by: Instant) -> Result<Came, FetchRefused> {
        let _turn = self.fetching.turn(account, by).await?;
        let began = Instant::now();
        let fetched = timeout_at(by, async {
            let (response, at) = self.fetching.ask(url).await?;
            self.receive_answer(response, url, &at).await
        });
        let fetched = fetched.await.unwrap_or_else(|_| Err(fault(url, FetchFault::TimedOut)));
        metrics::histogram!("tieline_fetch_seconds").record(began.elapsed().as_secs_f64());
        fetched
    }

    async fn receive_answer(&self, mut response: Response, url: &Endpoint, at: &Endpoint) -> Result<Came, FetchRefused> {
        let coding = response.headers().get(header::CONTENT_ENCODING);
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(fault(at, FetchFault::Encoded));
        }
        let too_large = || fault(at, FetchFault::TooLarge(self.largest));
        if response.content_length().is_some_and(|length| length > self.largest) {
            return Err(too_large());
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
        let hints = Hints { extensions: [extension(url), extension(at)], content_type: content_type.as_ref() };
        let mut coming = Coming { hints, taken: &self.kinds, head: Vec::new(), inspector: None };
        let not_taken = || fault(at, FetchFault::NotTaken(self.taken()));
        let mut partial = self.spool.begin().await?;
        let mut size = 0;
        while let Some(bytes) = response.chunk().await.map_err(|why| fault(at, Unanswered::from(why)))? {
            size += bytes.len() as u64;
            if size > self.largest {
                return Err(too_large());
            }
            coming.take(&bytes).ok_or_else(not_taken)?;
            partial.write(&bytes).await?;
        }
        if size == 0 {
            return Err(fault(at, FetchFault::Empty));
        }
        let kind = coming.finish().ok_or_else(not_taken)?;
        Ok((kind, size, partial))
    }

    /// Keeps all of them or none; none, too, if nobody waits for it any more.
    async fn keep_all(&self, arrived: Vec<(FilePath, Partial)>) -> Result<Held, Refused> {
        let mut held = Held { store: self.store.clone(), fetched: Vec::with_capacity(arrived.len()) };
        let (tell, told) = oneshot::channel();
        // A task of its own, so that it gets to its end when this is dropped.
        tokio::spawn(async move {
            for (path, partial) in arrived {
                if let Err(refused) = held.store.keep(&path, partial).await {
                    held.discard().await;
                    // Nothing is kept, heard of or not.
                    let _ = tell.send(Err(refused));
                    return;
                }
                held.fetched.push(Fetched::from(&path));
            }
            // If nobody takes it, it is dropped.
            let _ = tell.send(Ok(held));
        });
        told.await.unwrap_or(Err(Refused::Unavailable))
    }
}

/// Finds out what bytes are while they come, and then looks whether they go on so.
struct Coming<'c> {
    hints: Hints<'c>,
    taken: &'c [&'static Kind],
    /// What came before it was known: at most [`HEAD`] and the piece behind it.
    head: Vec<u8>,
    inspector: Option<Inspector>,
}

impl Coming<'_> {
    /// Nothing, if these are not of a type that is taken.
    fn take(&mut self, bytes: &[u8]) -> Option<()> {
        if let Some(inspector) = &mut self.inspector {
            return inspector.take(bytes).ok();
        }
        self.head.extend_from_slice(bytes);
        if self.head.len() < HEAD { Some(()) } else { self.begin() }
    }

    fn begin(&mut self) -> Option<()> {
        let head = std::mem::take(&mut self.head);
        let kind = guess(&head[..head.len().min(HEAD)], &self.hints, self.taken)?;
        self.inspector.insert(Inspector::new(kind)).take(&head).ok()
    }

    fn finish(mut self) -> Option<&'static Kind> {
        if self.inspector.is_none() {
            self.begin()?;
        }
        let inspector = self.inspector?;
        let kind = inspector.kind();
        inspector.finish().ok().map(|()| kind)
    }
}

/// Removes files that nobody has seen. One that cannot be removed stays as an upload does that nobody has shown; the log says so.
async fn remove(store: &Store, paths: impl IntoIterator<Item = FilePath>) {
    for path in paths {
        let _ = store.delete(&path).await;
    }
}

#[cfg(test)]
mod tests;
