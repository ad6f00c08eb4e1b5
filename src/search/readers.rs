//! Threads that search, each with a connection of its own that only reads.

use super::index::is_damaged;
use super::{Hits, Question, SearchError, query};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Searches that may wait. More are refused at once.
const WAITING: usize = 32;
/// How long one search may run. What it found until then is its page.
const TIME: Duration = Duration::from_secs(1);
/// Steps of SQLite between two looks at the clock.
const STEPS: i32 = 200;

/// A search, and where its answer goes.
struct Job(Question, oneshot::Sender<Result<Hits, SearchError>>);

/// The threads.
pub(super) struct Readers {
    jobs: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    /// Half the processors, so that searches leave the others alone. `made` counts how often the file was made anew.
    pub(super) fn start(path: &Path, made: &Arc<AtomicU64>, damaged: impl Fn() + Send + Sync + 'static) -> Result<Self, SearchError> {
        let (tell, jobs) = sync_channel(WAITING);
        let (jobs, damaged) = (Arc::new(Mutex::new(jobs)), Arc::new(damaged));
        let count = (std::thread::available_parallelism().map_or(2, usize::from) / 2).clamp(1, 4);
        let mut threads = Vec::new();
        for _ in 0..count {
            let reader =
                Reader { path: path.to_owned(), made: made.clone(), opened: None, deadline: Arc::default(), began: Instant::now() };
            let (jobs, damaged) = (jobs.clone(), damaged.clone());
            let thread = std::thread::Builder::new().name("search".into()).spawn(move || reader.run(&jobs, &*damaged));
            threads.push(thread.map_err(|source| SearchError::File { path: path.to_owned(), source })?);
        }
        Ok(Self { jobs: Mutex::new(Some(tell)), threads: Mutex::new(threads) })
    }

    /// The answer to come; an end of the channel means that the index was closed.
    pub(super) fn ask(&self, question: Question) -> Result<oneshot::Receiver<Result<Hits, SearchError>>, SearchError> {
        let (tell, answer) = oneshot::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = jobs.as_ref().ok_or(SearchError::Closed)?;
        match queue.try_send(Job(question, tell)) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(SearchError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(SearchError::Closed),
        }
    }

    /// Lets the threads end, and returns them.
    pub(super) fn close(&self) -> Vec<JoinHandle<()>> {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One of them.
struct Reader {
    path: PathBuf,
    made: Arc<AtomicU64>,
    /// The connection, and which making of the file it is to.
    opened: Option<(Connection, u64)>,
    /// When what runs is to end, in milliseconds from when this began; 0 for never.
    deadline: Arc<AtomicU64>,
    began: Instant,
}

impl Reader {
    fn run(mut self, jobs: &Mutex<Receiver<Job>>, damaged: &(dyn Fn() + Send + Sync)) {
        super::step_back();
        loop {
            // One of them waits for a search, the others for their turn to wait.
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job(question, tell)) = next else { return };
            // Nobody may wait any more.
            if tell.is_closed() {
                continue;
            }
            let found = self.search(&question);
            if let Err(SearchError::Database(error)) = &found {
                tracing::error!(%error, "a search failed");
                self.opened = None;
                if is_damaged(error) {
                    damaged();
                }
            }
            drop(tell.send(found));
        }
    }

    fn search(&mut self, question: &Question) -> Result<Hits, SearchError> {
        let made = self.made.load(Ordering::Acquire);
        if self.opened.as_ref().is_none_or(|(_, opened)| *opened != made) {
            self.opened = Some((self.open()?, made));
        }
        let Some((connection, _)) = &self.opened else { return Err(SearchError::Closed) };
        let now = u64::try_from((self.began.elapsed() + TIME).as_millis()).unwrap_or(u64::MAX);
        self.deadline.store(now, Ordering::Relaxed);
        let found = query::search(connection, question);
        self.deadline.store(0, Ordering::Relaxed);
        found
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let mut connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(TIME)?;
        connection.set_prepared_statement_cache_capacity(64);
        query::prepare(&connection)?;
        let (deadline, began) = (self.deadline.clone(), self.began);
        let is_over = move || match deadline.load(Ordering::Relaxed) {
            0 => false,
            deadline => began.elapsed().as_millis() > u128::from(deadline),
        };
        connection.progress_handler(STEPS, Some(is_over))?;
        Ok(connection)
    }
}
