//! Full-text search over what is said, and what conversations are about.
//!
//! The index is a projection like others, but apart from them: a file of its own ([`DATABASE`]), written by a thread of its own
//! that follows the journal by a cursor in that file. A publish never waits for it, and it may be behind: a search answers from
//! what is indexed, [`Search::indexed`] says how far that is, and [`Search::caught_up`] waits. The file may be deleted while
//! nobody uses it; it is made anew from the journal, also where it is damaged, or of another log.
//!
//! - Each account has a table of its own, hence words of its own: nothing crosses it.
//! - Found are the texts of contents and cards, HTML without its tags, and captions of files; of forms nothing. Whispers are
//!   indexed, too, and found by who may see them: [`Scope`].
//! - Words are what Unicode calls letters and digits; case and diacritics do not matter. Chinese and Japanese are written without
//!   spaces, and are not cut into words: a run of their characters is found by itself, or by its beginning.
//! - What was removed leaves the file: rows, words and write-ahead log.
//!
//! Searches run on a few threads that give way to everything else, each for a limited time.

mod follower;
mod index;
mod query;
mod readers;
#[cfg(test)]
mod tests;
mod text;

pub use self::follower::Follower;
pub use self::index::DATABASE;
pub use self::query::MESSAGES;
pub use self::text::read_of;

use self::follower::Order;
use self::index::Index;
use self::readers::Readers;
use crate::store::Store;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::ids::{AccountId, ConversationId, DialogId};
use tokio::sync::{Notify, watch};

/// Longest text that is searched for, in characters.
const LONGEST: usize = 1_000;
/// Orders that may wait for the thread that writes. One is the follower's; when it is full, who wants something forgotten is
/// told to ask again.
const ORDERS: usize = 64;
/// By how much the threads of the search give way to all others.
const NICENESS: i32 = 19;

/// How a text is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its words one after the other, as they stand there.
    Exact,
    /// All of its words in one message, wherever. If no message has them, the last one may be the beginning of a word.
    Loose,
}

/// Who asks, as far as it matters to what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The brand's side, which sees whispers.
    Everything,
    /// What consumers see.
    Shown,
}

/// A search.
#[derive(Debug, Clone)]
pub struct Question {
    /// The tenant.
    pub account: AccountId,
    /// What for, as somebody typed it. Nothing in it is syntax.
    pub text: String,
    /// How.
    pub mode: Mode,
    /// Where.
    pub scope: Scope,
    /// Most conversations of a page.
    pub limit: usize,
    /// The page after this one's; none for the first.
    pub after: Option<Cursor>,
}

/// Where the next page begins. It belongs to the text and mode that it came from, and holds as long as the log does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    from: i64,
    next: i64,
    is_beginning: bool,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.from, self.next, if self.is_beginning { "b" } else { "" })
    }
}

/// A text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of a search")]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (text, is_beginning) = text.strip_suffix('b').map_or((text, false), |text| (text, true));
        let (from, next) = text.split_once('.').ok_or(NoCursor)?;
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0).ok_or(NoCursor);
        Ok(Self { from: number(from)?, next: number(next)?, is_beginning })
    }
}

/// A page. It may have less than was asked for, even nothing, and yet a next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hits {
    /// Conversations, those with the newest match first. Each stands on one page only.
    pub hits: Vec<Hit>,
    /// Where the next page begins, if there may be more.
    pub next: Option<Cursor>,
}

/// A conversation with what matches in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The conversation.
    pub conversation: ConversationId,
    /// Fragments of its subject.
    pub subject: Vec<String>,
    /// Its matching messages, the newest first; no more than [`MESSAGES`].
    pub messages: Vec<Found>,
}

/// A message that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its dialog.
    pub dialog: DialogId,
    /// Its number there.
    pub sequence: u64,
    /// The part of its text that matches, as HTML: escaped, what matches in `<em class="highlight">`.
    pub fragment: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// There is no letter or digit in what is searched for.
    #[error("there is no word to search for")]
    NoWords,
    /// It is longer, or has more words, than is searched for.
    #[error("search for fewer words")]
    TooMuch,
    /// Nothing was found in the time that a search has.
    #[error("the search took too long; try words that are rarer")]
    TooLong,
    /// Too many wait.
    #[error("too many searches are waiting; try again in a second")]
    Busy,
    /// The gateway stops.
    #[error("the search index is closed")]
    Closed,
    /// The journal cannot be read now.
    #[error("the journal cannot be read now")]
    Unreadable,
    /// The index cannot be written now; the log says why.
    #[error("the search index cannot be written now")]
    NotWritten,
    /// The index cannot be used now.
    #[error("the search index cannot be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl SearchError {
    /// The code that tells a client what to do.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoWords | Self::TooMuch | Self::TooLong => ErrorCode::InvalidRequest,
            Self::Busy | Self::Closed | Self::Unreadable | Self::NotWritten => ErrorCode::Busy,
            Self::Database(_) | Self::File { .. } => ErrorCode::Internal,
        }
    }
}

/// What the parts of the index share.
struct Shared {
    orders: Mutex<Option<SyncSender<Order>>>,
    /// Every entry up to here is in the index.
    indexed: watch::Sender<u64>,
    /// Somebody waits for the index to catch up.
    hurry: Notify,
    /// How often the file was made anew while it was open.
    made: Arc<AtomicU64>,
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Takes no more orders; the thread ends when it has done those that it has.
    fn close(&self) {
        drop(self.orders.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.hurry.notify_one();
    }

    fn order(&self, order: Order) -> Result<(), SearchError> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        match orders.as_ref().ok_or(SearchError::Closed)?.try_send(order) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(SearchError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(SearchError::Closed),
        }
    }
}

/// The search.
#[derive(Clone)]
pub struct Search(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    readers: Readers,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("indexed", &self.indexed()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The thread that writes has a share of what it is asked through.
        self.shared.close();
    }
}

/// Lets the calling thread give way to the others of the process. Where that is not allowed, it does not.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the search keeps the priority of all");
    }
}

impl Search {
    /// Opens the index of a log in a folder, and starts its threads. What is committed is taken in while the [`Follower`] runs.
    ///
    /// # Errors
    /// [`SearchError::File`] or [`SearchError::Database`].
    pub fn open(folder: &Path, store: &dyn Store) -> Result<(Self, Follower), SearchError> {
        let index = Index::open(folder, store.epoch(), store.head())?;
        let path = index.path().to_owned();
        let (orders, queue) = sync_channel(ORDERS);
        let shared = Arc::new(Shared {
            orders: Mutex::new(Some(orders)),
            indexed: watch::Sender::new(index.cursor()),
            hurry: Notify::new(),
            made: Arc::default(),
        });
        let readers = Readers::start(&path, &shared.made, {
            let shared = shared.clone();
            move || drop(shared.order(Order::BeginAnew))
        })?;
        let writer = std::thread::Builder::new().name("search-writer".into()).spawn({
            let shared = shared.clone();
            move || follower::write(index, &queue, &shared)
        });
        let writer = writer.map_err(|source| SearchError::File { path, source })?;
        let follower = Follower::new(shared.clone());
        Ok((Self(Arc::new(Inner { shared, readers, writer: Mutex::new(Some(writer)) })), follower))
    }

    /// One page of a search.
    ///
    /// # Errors
    /// [`SearchError`]: what is wrong with the question, or that too many wait.
    pub async fn search(&self, question: Question) -> Result<Hits, SearchError> {
        if question.text.chars().nth(LONGEST).is_some() {
            return Err(SearchError::TooMuch);
        }
        let began = Instant::now();
        let found = self.0.readers.ask(question)?.await.unwrap_or(Err(SearchError::Closed));
        metrics::histogram!("tieline_search_seconds").record(began.elapsed().as_secs_f64());
        found
    }

    /// The position up to which the journal can be searched.
    #[must_use]
    pub fn indexed(&self) -> u64 {
        *self.0.shared.indexed.borrow()
    }

    /// Waits until the journal can be searched up to a position. It does not end if that is never reached.
    pub async fn caught_up(&self, position: u64) {
        let mut indexed = self.0.shared.indexed.subscribe();
        self.0.shared.hurry.notify_one();
        // The sender lives as long as this does.
        drop(indexed.wait_for(|indexed| *indexed >= position).await);
    }

    /// Finishes what is being done, and ends the threads. Later searches are refused.
    pub async fn close(&self) {
        self.0.shared.close();
        let mut threads = self.0.readers.close();
        threads.extend(self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok())).await;
        if !matches!(ended, Ok(true)) {
            tracing::error!("a thread of the search did not end in good order");
        }
    }
}
