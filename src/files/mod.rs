//! Attachments: bytes that people send beside their words, kept on the local disk or in an S3-compatible store.
//!
//! Whoever may send a file asks for an upload URL, puts the bytes there, and publishes the path; whoever may see it asks
//! for a download URL. A URL is good for one method, one path and a short time. What is promised:
//!
//! - the path names the account, the owner, the size (unless that is not known yet) and the type, and all of it is signed: nothing can be made out of
//!   a URL but what it was given for;
//! - an upload is taken once, whole, and only if its bytes are of the type that its name says; a confirmed upload is
//!   on disk, a refused one leaves nothing;
//! - nothing that a browser would run is ever taken, and what is taken is served as an attachment that no browser
//!   interprets;
//! - a path out of a request touches the store only if it is, to the letter, one that this module could have given out.
//!
//! An attachment can also be given by a URL that leads elsewhere; it is fetched from there by [`Files::fetch_all`], and kept under
//! the same promises.
//!
//! Who may ask for which URL is the caller's to decide: [`Files::is_owner`] says whose a path is.
//!
//! - [`path`]: the paths; [`sign`]: the signatures; [`kind`]: the types, and how their bytes look;
//! - [`receive`]: an upload's bytes as they come; [`fetch`]: those of an attachment that is fetched; [`disk`] and, as a feature, `s3`: where they are kept; [`http`]: the routes.

mod disk;
mod fetch;
pub mod http;
mod kind;
mod path;
mod receive;
mod refused;
#[cfg(feature = "s3")]
mod s3;
mod sign;
#[cfg(test)]
mod tests;

pub use self::fetch::{FetchSettings, Fetched, Held, MOST_AT_ONCE};
pub use self::path::FilePath;
pub use self::refused::{FetchFault, FetchRefused, FilesError, Refused};
pub use self::sign::{EXPIRES, SIGNATURE, Signed};

use self::disk::{Disk, Partial, Spool};
use self::fetch::Fetching;
use self::kind::{Inspector, Kind};
use self::receive::Arriving;
use self::sign::{Purpose, Signer};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use dashmap::DashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tieline_protocol::ids::AccountId;
use tokio::sync::mpsc;
use uuid::Uuid;

/// The largest that `largest` may be: an upload to S3 is sent from memory.
const LARGEST: usize = 64 * 1024 * 1024;
/// The longest that a URL may live: whoever finds one in a log or a history should find it expired.
const LONGEST_URL_TIME: Duration = Duration::from_secs(15 * 60);

/// How attachments are kept.
#[derive(Clone)]
pub struct Settings {
    /// Empty: the folder `files` of the data folder. Or `s3://bucket/prefix?region=…&endpoint=…`, whose credentials are
    /// taken from the `AWS_*` environment variables, or from `access_key_id`, `secret_access_key` and `session_token`
    /// in the query.
    pub url: String,
    /// The largest file, in bytes.
    pub largest: usize,
    /// How long a URL is good for.
    pub url_time: Duration,
    /// How long an upload may stand still.
    pub stall: Duration,
    /// The types that are taken, by their extensions in upper case.
    pub types: Vec<String>,
    /// How those are fetched that are given by URL.
    pub fetch: FetchSettings,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The query may hold credentials.
        let url = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("Settings")
            .field("url", &url)
            .field("largest", &self.largest)
            .field("url_time", &self.url_time)
            .field("stall", &self.stall)
            .field("types", &self.types)
            .field("fetch", &self.fetch)
            .finish()
    }
}

/// Where the bytes are.
#[derive(Debug)]
enum Store {
    Disk(Disk),
    #[cfg(feature = "s3")]
    S3(s3::S3),
}

impl Store {
    async fn size(&self, path: &FilePath) -> Result<Option<u64>, Refused> {
        match self {
            Self::Disk(disk) => disk.size(path).await,
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.size(path).await,
        }
    }

    async fn keep(&self, path: &FilePath, partial: Partial) -> Result<(), Refused> {
        match self {
            Self::Disk(disk) => disk.keep(path, partial).await,
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.keep(path, partial).await,
        }
    }

    async fn read(&self, path: &FilePath) -> Result<(u64, Body), Refused> {
        match self {
            Self::Disk(disk) => disk.read(path).await,
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.read(path).await,
        }
    }

    async fn old(&self, kept: Range<SystemTime>, tell: mpsc::Sender<FilePath>) -> Result<(), Refused> {
        match self {
            Self::Disk(disk) => disk.old(kept, tell).await,
            #[cfg(feature = "s3")]
            // What this gateway does not show, another may that has the same bucket, or a copy of this one's database.
            Self::S3(_) => Ok(()),
        }
    }

    async fn delete(&self, path: &FilePath) -> Result<(), Refused> {
        match self {
            Self::Disk(disk) => disk.delete(path).await,
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.delete(path).await,
        }
    }
}

/// A file on its way out.
#[derive(Debug)]
pub struct Download {
    /// Its path.
    pub path: FilePath,
    /// How many bytes there are.
    pub size: u64,
    /// The bytes; none if only the head was asked for.
    pub body: Body,
}

/// The attachments.
#[derive(Debug)]
pub struct Files {
    signer: Signer,
    kinds: Vec<&'static Kind>,
    largest: u64,
    url_time: Duration,
    stall: Duration,
    spool: Spool,
    store: Arc<Store>,
    fetching: Fetching,
    going: Going,
}

/// Files that are looked at once more before they are removed because nothing shows them: nothing may begin to show them meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Going(Arc<DashSet<String>>);

impl Going {
    /// Whether this file is among them.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        // Hardly ever is there any.
        !self.0.is_empty() && self.0.contains(path)
    }

    /// Puts a file among them; it is until what this returns is dropped.
    #[must_use]
    pub fn enter(&self, path: &str) -> Gone {
        self.0.insert(path.to_owned());
        Gone { going: self.clone(), path: path.to_owned() }
    }
}

/// That a file is about to be removed.
#[derive(Debug)]
pub struct Gone {
    going: Going,
    path: String,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.going.0.remove(&self.path);
    }
}

impl Files {
    /// Opens the store, and removes what a crash left of unfinished uploads: one process at a time may have a data folder.
    ///
    /// # Errors
    /// [`FilesError`], for the operator to read.
    pub fn open(settings: &Settings, data_dir: &Path, key: [u8; 32]) -> Result<Self, FilesError> {
        if !(1..=LARGEST).contains(&settings.largest) {
            return Err(FilesError::Largest(settings.largest));
        }
        if settings.url_time < Duration::from_secs(1) || settings.url_time > LONGEST_URL_TIME {
            return Err(FilesError::UrlTime(settings.url_time));
        }
        if settings.stall.is_zero() {
            return Err(FilesError::Stall);
        }
        let kinds = settings.types.iter().map(|name| kind::configured(name)).collect::<Result<_, _>>()?;
        let folder = data_dir.join("files");
        let store = Arc::new(open_store(&settings.url, &folder)?);
        Ok(Self {
            signer: Signer::new(key),
            kinds,
            largest: settings.largest as u64,
            url_time: settings.url_time,
            stall: settings.stall,
            spool: Spool::open(&folder)?,
            store,
            fetching: Fetching::new(&settings.fetch),
            going: Going::default(),
        })
    }

    /// Where, and until when, an owner's file of this size and type may be put; of any size that is taken, if none is given.
    ///
    /// # Errors
    /// [`Refused`], with what would be taken.
    pub fn upload_url(&self, account: &AccountId, owner: &str, size: Option<u64>, kind: &str, now_ms: i64) -> Result<Signed, Refused> {
        let kind = kind::find(kind).ok_or_else(|| self.not_taken(kind))?;
        self.check_taken(size, kind)?;
        let path = FilePath::new(account, self.signer.tag(account, owner), Uuid::new_v4(), size, kind).ok_or(Refused::Account)?;
        Ok(self.signer.url(Purpose::Upload, &path, now_ms, self.url_time))
    }

    /// Until when a file may be fetched. Whether it is there is not asked.
    ///
    /// # Errors
    /// [`Refused::NoSuchFile`] if this is no path of a file.
    pub fn download_url(&self, path: &str, now_ms: i64) -> Result<Signed, Refused> {
        let path = FilePath::parse(path).ok_or(Refused::NoSuchFile)?;
        Ok(self.signer.url(Purpose::Download, &path, now_ms, self.url_time))
    }

    /// Whether a path was given out to this owner of this account.
    #[must_use]
    pub fn is_owner(&self, account: &AccountId, owner: &str, path: &str) -> bool {
        FilePath::parse(path).is_some_and(|path| path.account() == account && path.owner() == self.signer.tag(account, owner))
    }

    /// The account in which a file lies, if this is a path of one.
    #[must_use]
    pub fn account_of(path: &str) -> Option<AccountId> {
        FilePath::parse(path).map(|path| path.account().clone())
    }

    /// Takes an upload. After `Ok` it is kept for good; after a refusal nothing of it is, and what the client had still
    /// to send was read, within bounds, so that it gets to hear why.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn put(&self, path: &str, query: Option<&str>, headers: &HeaderMap, body: Body, now_ms: i64) -> Result<(), Refused> {
        let mut body = Arriving::new(body, headers, self.stall);
        let taken = self.take(path, query, headers, &mut body, now_ms).await;
        if taken.is_err() {
            body.drain().await;
        }
        taken
    }

    async fn take(&self, path: &str, query: Option<&str>, headers: &HeaderMap, body: &mut Arriving, now_ms: i64) -> Result<(), Refused> {
        let path = self.signer.check(Purpose::Upload, path, query, now_ms)?;
        // Settings may have become narrower since the URL was given out.
        self.check_taken(path.size(), path.kind())?;
        path.kind().check_header(headers.get(header::CONTENT_TYPE))?;
        if let Some(length) = body.length() {
            self.check_length(length, &path)?;
        }
        // Asked early to spare a useless upload; what decides is the store, at the end.
        if self.store.size(&path).await?.is_some() {
            return Err(Refused::Used);
        }
        let partial = self.receive(&path, body).await?;
        self.store.keep(&path, partial).await
    }

    async fn receive(&self, path: &FilePath, body: &mut Arriving) -> Result<Partial, Refused> {
        let mut partial = self.spool.begin().await?;
        let mut inspector = Inspector::new(path.kind());
        let mut length = 0;
        while let Some(bytes) = body.next().await? {
            length += bytes.len() as u64;
            if length > path.size().unwrap_or(self.largest) {
                return Err(path.size().map_or(Refused::TooLarge(self.largest), Refused::TooLong));
            }
            inspector.take(&bytes)?;
            partial.write(&bytes).await?;
        }
        self.check_length(length, path)?;
        inspector.finish()?;
        Ok(partial)
    }

    /// A file, as a stream of its bytes.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn get(&self, path: &str, query: Option<&str>, now_ms: i64) -> Result<Download, Refused> {
        let path = self.signer.check(Purpose::Download, path, query, now_ms)?;
        let (size, body) = self.store.read(&path).await?;
        Ok(Download { path, size, body })
    }

    /// What [`Files::get`] would say of a file, without its bytes.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn head(&self, path: &str, query: Option<&str>, now_ms: i64) -> Result<Download, Refused> {
        let path = self.signer.check(Purpose::Download, path, query, now_ms)?;
        let size = self.store.size(&path).await?.ok_or(Refused::NoSuchFile)?;
        Ok(Download { path, size, body: Body::empty() })
    }

    /// Whether a file was put there.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] if the store does not say.
    pub async fn exists(&self, path: &str) -> Result<bool, Refused> {
        match FilePath::parse(path) {
            Some(path) => Ok(self.store.size(&path).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Files that are about to be removed.
    #[must_use]
    pub fn going(&self) -> &Going {
        &self.going
    }

    /// Tells of every file that was kept within a time, in no order; of none in a bucket, which may be others', too. Whoever wants to
    /// hear of no more drops the receiver.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] if the store does not say all; the log has the reason.
    pub async fn old(&self, kept: Range<SystemTime>, tell: mpsc::Sender<FilePath>) -> Result<(), Refused> {
        self.store.old(kept, tell).await
    }

    /// Removes a file; that there is none is fine. While its upload URL is good, it can be put there again.
    ///
    /// # Errors
    /// [`Refused::NoSuchFile`] if this is no path of a file; [`Refused::Unavailable`] if it may still be there.
    pub async fn delete(&self, path: &str) -> Result<(), Refused> {
        let path = FilePath::parse(path).ok_or(Refused::NoSuchFile)?;
        self.store.delete(&path).await
    }

    fn check_length(&self, length: u64, path: &FilePath) -> Result<(), Refused> {
        match path.size() {
            Some(declared) => check_length(length, declared),
            None => self.check_size(length),
        }
    }

    fn check_taken(&self, size: Option<u64>, kind: &'static Kind) -> Result<(), Refused> {
        if !self.kinds.contains(&kind) {
            return Err(self.not_taken(kind.extension));
        }
        size.map_or(Ok(()), |size| self.check_size(size))
    }

    fn check_size(&self, size: u64) -> Result<(), Refused> {
        match size {
            0 => Err(Refused::Empty(self.largest)),
            size if size > self.largest => Err(Refused::TooLarge(self.largest)),
            _ => Ok(()),
        }
    }

    fn not_taken(&self, kind: &str) -> Refused {
        Refused::NotTaken { kind: kind.chars().take(16).collect(), taken: self.taken() }
    }

    /// The types that are taken, for who asks.
    fn taken(&self) -> String {
        self.kinds.iter().map(|kind| kind.extension).collect::<Vec<_>>().join(", ")
    }
}

fn check_length(length: u64, declared: u64) -> Result<(), Refused> {
    match length.cmp(&declared) {
        std::cmp::Ordering::Less => Err(Refused::TooShort(declared)),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Refused::TooLong(declared)),
    }
}

fn open_store(url: &str, folder: &Path) -> Result<Store, FilesError> {
    if url.is_empty() {
        return Ok(Store::Disk(Disk::new(folder)));
    }
    if !url.starts_with("s3://") {
        return Err(FilesError::Url("this is neither empty nor a URL that begins with s3://".to_owned()));
    }
    #[cfg(feature = "s3")]
    return s3::S3::open(url).map(Store::S3);
    #[cfg(not(feature = "s3"))]
    Err(FilesError::NoS3)
}
