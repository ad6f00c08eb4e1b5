//! The store on one machine: SQLite in write-ahead mode, and the tail of the journal in files of our own.
//!
//! One thread owns the writing connection ([`writer`]) and the files to which decisions are committed ([`tail`]); reads use a few
//! connections of their own ([`reader`]) and the memory of what is not in the database yet. There the journal is an append-only
//! rowid table, and the indexes over it hold runs of positions ([`run`]), one row for many entries.

pub mod backup;
mod checkpoint;
mod debts;
mod erasure;
mod lookup;
mod projection;
mod reader;
mod removal;
mod row;
mod run;
mod tail;
mod writer;

use self::reader::Readers;
use self::writer::{Answers, Durability, Finished, Job, Writer};
use super::memory::Memory;
use super::{
    Announce, AnswerTo, Attempt, Balance, Clock, ConsumersBy, DeadLetter, Debts, Decision, Document, EndpointId, EndpointRow, Erased,
    Erasure, Feed, FileUse, Health, Owed, Owing, Range, ReadError, SessionRow, Settlement, Snapshot, Store, StoreError,
};
use crate::domain::{AgentState, Consumer, Conversation, ConversationFilter, Millis, Sight};
use futures::future::BoxFuture;
use rusqlite::Connection;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, QueueId, UserId};
use tokio::sync::{mpsc, oneshot, watch};

/// Decisions that may wait for the writer. When it is full, callers are refused with [`StoreError::Busy`] at once.
const QUEUE: usize = 16_384;

/// KiB of the database that the writer may keep in memory: what live conversations' rows and the indexes above them need.
const CACHE: usize = 32 * 1024;
/// Pages of the write-ahead log, of 4 KiB, after which the writer copies them into the database itself, should there be so many
/// because checkpoints are not asked for or readers keep them from it.
const CHECKPOINT: usize = 16_384;

mod migrations {
    refinery::embed_migrations!("src/store/sqlite/migrations");
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves this folder.
    #[error("{} is in use by another process; stop it, or give this one a `server.data_dir` of its own", .0.display())]
    InUse(PathBuf),
    /// A restore was cut off.
    #[error("a restore into {} was cut off; run `tieline restore` again", .0.display())]
    Restoring(PathBuf),
    /// The folder or a file in it cannot be used.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The path at fault.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be used.
    #[error("the database cannot be opened: {0}")]
    Database(#[from] rusqlite::Error),
    /// The database is of a newer version, or damaged.
    #[error("the database cannot be brought to this version: {0}")]
    Migration(#[from] refinery::Error),
    /// A row cannot be understood.
    #[error("the journal cannot be read: {0}")]
    Journal(String),
}

/// The store. It is closed when dropped, but [`Store::close`] says when that is done.
pub struct SqliteStore {
    jobs: Mutex<Option<SyncSender<Job>>>,
    waiting: Arc<AtomicUsize>,
    memory: Arc<Memory>,
    readers: Arc<Readers>,
    health: watch::Receiver<Health>,
    epoch: String,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the store in a folder, which is made if need be, and starts its writer.
    ///
    /// # Errors
    /// [`OpenError`], with what to do about it where something can be done.
    pub fn open(folder: &Path, clock: Clock, announce: Announce) -> Result<Self, OpenError> {
        let lock = lock(folder)?;
        if folder.join(backup::RESTORING).exists() {
            return Err(OpenError::Restoring(folder.to_owned()));
        }
        let path = folder.join(backup::DATABASE);
        let mut connection = connect(&path)?;
        connection.execute_batch(&format!("PRAGMA cache_size = -{CACHE}; PRAGMA wal_autocheckpoint = {CHECKPOINT};"))?;
        migrations::migrations::runner().run(&mut connection)?;
        projection::rename_copy(&connection)?;
        let epoch = projection::epoch(&connection)?;
        let memory = Arc::new(Memory::default());
        let (tell_health, health) = watch::channel(Health::Writing);
        let writer = Writer::start(folder, connection, memory.clone(), clock, (answers(), announce), tell_health)?;
        let (jobs, queue) = sync_channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let waiting = waiting.clone();
                move || {
                    writer.run(&queue, &waiting);
                    // As long as it writes, nobody else may.
                    drop(lock);
                }
            })
            .map_err(|source| OpenError::Folder { path: path.clone(), source })?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            waiting,
            memory,
            readers: Arc::new(Readers::new(path)),
            health,
            epoch,
            writer: Mutex::new(Some(thread)),
        })
    }

    fn hand_in(&self, job: Job) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = jobs.as_ref() else {
            // Whoever is told may ask for more, here and below.
            drop(jobs);
            // Closed: with the job goes where its answer was to go, which a caller reads as unknown.
            return tracing::debug!("a decision came after the store was closed");
        };
        let handed_in = queue.try_send(job);
        drop(jobs);
        let (job, error) = match handed_in {
            Ok(()) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(TrySendError::Full(job)) => (job, StoreError::Busy),
            Err(TrySendError::Disconnected(job)) => (job, StoreError::Unknown),
        };
        metrics::counter!("tieline_store_refused_total").increment(1);
        job.fail(error);
    }

    fn write(
        &self,
        durability: Durability,
        write: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> oneshot::Receiver<Result<(), StoreError>> {
        let (tell, answer) = oneshot::channel();
        self.hand_in(Job::Write(Box::new(write), durability, tell));
        answer
    }

    /// Writes a part of something; the answer says whether there may be more.
    fn write_some(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<bool> + Send + 'static,
    ) -> BoxFuture<'static, Result<bool, StoreError>> {
        let is_left = Arc::new(AtomicBool::new(true));
        let told = is_left.clone();
        let written = self.write(Durability::Written, move |connection| {
            told.store(write(connection)?, Ordering::Relaxed);
            Ok(())
        });
        Box::pin(async move { written.await.unwrap_or(Err(StoreError::Unknown)).map(|()| is_left.load(Ordering::Relaxed)) })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Memory) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ReadError>> {
        let (readers, memory) = (self.readers.clone(), self.memory.clone());
        Box::pin(async move { readers.with(move |connection| read(connection, &memory)).await })
    }
}

/// Answers that are given in one go, before others come to their turn.
const ANSWERS: usize = 64;

/// Answers in the runtime, where there is one: each answer that is sent from a thread outside wakes it anew, and may so take the
/// processor away from whoever sends the next.
fn answers() -> Answers {
    let answer_all = |finished: Vec<Finished>| finished.into_iter().for_each(Finished::answer);
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Box::new(answer_all) };
    let (tell, mut told) = mpsc::unbounded_channel::<Vec<Finished>>();
    runtime.spawn(async move {
        while let Some(mut finished) = told.recv().await {
            // To answer may be to write to a socket: many are for all processors, and none of them alone for long.
            while finished.len() > ANSWERS {
                let rest = finished.split_off(ANSWERS);
                tokio::spawn(async move { answer_all(finished) });
                finished = rest;
            }
            answer_all(finished);
        }
    });
    Box::new(move |finished| {
        // The runtime is about to end.
        if let Err(mpsc::error::SendError(finished)) = tell.send(finished) {
            answer_all(finished);
        }
    })
}

/// One process per folder: two would each give out the same numbers.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Folder { path, source }
    };
    let is_new = !folder.exists();
    // People's words are in it: nobody else on the machine may look.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    // A folder that is gone after a power cut takes all with it. Where we may not look into the one above, we cannot help it.
    if is_new && let Some(Ok(above)) = folder.canonicalize().ok().and_then(|whole| whole.parent().map(File::open)) {
        above.sync_all().map_err(failed(folder))?;
    }
    let path = folder.join(backup::LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Folder { path, source }),
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // FULL: the write-ahead log is synced at each commit; NORMAL would lose the last ones with the power.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;",
    )?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

impl Store for SqliteStore {
    fn decide_to(&self, decision: Box<Decision>, to: AnswerTo) {
        self.hand_in(Job::Decide(decision, to));
    }

    fn events(&self, dialog: DialogId, range: Range) -> BoxFuture<'static, Result<Vec<Arc<Sight>>, ReadError>> {
        if let Some(events) = reader::events_at_hand(&self.memory.read(), &dialog, range) {
            return Box::pin(std::future::ready(Ok(events)));
        }
        self.read(move |connection, memory| reader::events(connection, memory, &dialog, range))
    }

    fn events_at_hand(&self, dialog: &DialogId, range: Range, most: usize) -> Option<Vec<Arc<Sight>>> {
        let few = match range {
            Range::Forward { from, to, limit } => Range::Forward { from, to, limit: limit.min(most + 1) },
            Range::Backward { to, limit } => Range::Backward { to, limit: limit.min(most + 1) },
        };
        reader::events_at_hand(&self.memory.read(), dialog, few).filter(|found| found.len() <= most)
    }

    fn conversation(&self, id: ConversationId) -> BoxFuture<'static, Result<Option<Conversation>, ReadError>> {
        if let Some(found) = self.conversation_at_hand(&id) {
            return Box::pin(std::future::ready(Ok(Some(found))));
        }
        self.read(move |connection, _| Ok(row::conversation(connection, &id)?.map(|at| at.state)))
    }

    fn conversation_at_hand(&self, id: &ConversationId) -> Option<Conversation> {
        self.memory.read().conversation(id).cloned()
    }

    fn conversations(&self, filter: ConversationFilter, limit: usize) -> BoxFuture<'static, Result<Snapshot, ReadError>> {
        self.read(move |connection, memory| reader::conversations(connection, memory, &filter, limit))
    }

    fn consumer(&self, account: AccountId, id: ConsumerId) -> BoxFuture<'static, Result<Option<Consumer>, ReadError>> {
        let key = (account, id);
        if let Some(found) = self.memory.read().consumer(&key).cloned() {
            return Box::pin(std::future::ready(Ok(Some(found))));
        }
        self.read(move |connection, _| Ok(row::consumer(connection, &key)?.map(|at| at.state)))
    }

    fn feed(&self, account: AccountId, app: ClientId, after: u64, limit: usize) -> BoxFuture<'static, Result<Feed, ReadError>> {
        if let Some(found) = reader::feed_at_hand(&self.memory.read(), &account, &app, after, limit) {
            return Box::pin(std::future::ready(Ok(found)));
        }
        self.read(move |connection, memory| reader::feed(connection, memory, &account, &app, after, limit))
    }

    fn agent(&self, account: AccountId, agent: UserId) -> BoxFuture<'static, Result<AgentState, ReadError>> {
        let key = (account, agent);
        if let Some(found) = self.memory.read().agent(&key).cloned() {
            return Box::pin(std::future::ready(Ok(found)));
        }
        self.read(move |connection, _| Ok(row::agent(connection, &key)?.unwrap_or_else(|| AgentState::unknown(&key.0, &key.1))))
    }

    fn agents(&self, account: AccountId) -> BoxFuture<'static, Result<Vec<AgentState>, ReadError>> {
        self.read(move |connection, memory| reader::agents(connection, memory, &account))
    }

    fn shows(&self, account: AccountId, file: String) -> BoxFuture<'static, Result<Vec<FileUse>, ReadError>> {
        self.read(move |connection, memory| {
            let mut shown = memory.read().shows(&file).to_vec();
            shown.extend(row::shows(connection, &account, &file)?);
            Ok(shown)
        })
    }

    fn due(&self, now: Millis, limit: usize) -> BoxFuture<'static, Result<Vec<ConversationId>, ReadError>> {
        self.read(move |connection, memory| reader::due(connection, memory, now, limit))
    }

    fn pending(&self) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>> {
        self.read(|connection, memory| reader::all_where(connection, memory, row::pending, Conversation::is_pending))
    }

    fn pending_in(&self, account: AccountId, queue: QueueId) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>> {
        self.read(move |connection, memory| {
            let is_there = |state: &Conversation| state.details.account == account && state.details.queue == queue && state.is_pending();
            let mut all = reader::all_where(connection, memory, |connection| row::pending_of(connection, &account), is_there)?;
            all.retain(is_there);
            Ok(all)
        })
    }

    fn assigned(&self) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>> {
        let is_assigned = |state: &Conversation| state.details.main_is_open() && state.details.assignee().is_some();
        self.read(move |connection, memory| {
            let mut all = reader::all_where(connection, memory, row::busy, is_assigned)?;
            all.retain(is_assigned);
            Ok(all)
        })
    }

    fn expired(&self, before: Millis, limit: usize) -> BoxFuture<'static, Result<Vec<ConversationId>, ReadError>> {
        self.read(move |connection, _| removal::expired(connection, before, limit))
    }

    fn remove(&self, conversation: ConversationId, before: Millis) -> oneshot::Receiver<Result<bool, StoreError>> {
        let (tell, answer) = oneshot::channel();
        self.hand_in(Job::Remove(conversation, before, tell));
        answer
    }

    fn removals(&self) -> BoxFuture<'static, Result<Vec<ConversationId>, ReadError>> {
        self.read(|connection, _| removal::pending(connection))
    }

    fn shown_only_in(&self, conversation: ConversationId) -> BoxFuture<'static, Result<Vec<String>, ReadError>> {
        self.read(move |connection, memory| removal::shown_only_in(connection, memory, &conversation))
    }

    fn erase(&self, conversation: ConversationId) -> BoxFuture<'static, Result<bool, StoreError>> {
        self.write_some(move |connection| removal::erase(connection, &conversation))
    }

    fn forget_removed(&self, conversation: ConversationId) -> oneshot::Receiver<Result<(), StoreError>> {
        self.write(Durability::Written, move |connection| removal::forget(connection, &conversation))
    }

    fn numbered(&self, account: AccountId, number: i64) -> BoxFuture<'static, Result<Option<Conversation>, ReadError>> {
        self.read(move |connection, memory| lookup::numbered(connection, memory, &account, number))
    }

    fn by_number(
        &self,
        account: AccountId,
        between: (i64, i64),
        is_up: bool,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>> {
        self.read(move |connection, memory| lookup::by_number(connection, memory, &account, between, is_up, limit))
    }

    fn by_word(
        &self,
        account: AccountId,
        before: Option<Millis>,
        offset: usize,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>> {
        self.read(move |connection, memory| lookup::by_word(connection, memory, &account, before, (offset, limit)))
    }

    fn of_consumer(
        &self,
        account: AccountId,
        consumer: ConsumerId,
        between: (i64, i64),
        is_up: bool,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Conversation>, ReadError>> {
        self.read(move |connection, memory| lookup::of_consumer(connection, memory, (&account, &consumer), between, is_up, limit))
    }

    fn consumers_before(
        &self,
        account: AccountId,
        before: ConsumerId,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Consumer>, ReadError>> {
        self.read(move |connection, memory| lookup::consumers_before(connection, memory, &account, &before, limit))
    }

    fn booked(&self, account: AccountId, booking: String) -> BoxFuture<'static, Result<Option<Conversation>, ReadError>> {
        self.read(move |connection, memory| lookup::booked(connection, memory, &account, &booking))
    }

    fn changes(&self, conversation: ConversationId) -> BoxFuture<'static, Result<Vec<Arc<Sight>>, ReadError>> {
        self.read(move |connection, memory| lookup::changes(connection, memory, &conversation))
    }

    fn account_feed(&self, account: AccountId, after: u64, limit: usize) -> BoxFuture<'static, Result<Feed, ReadError>> {
        if let Some(found) = lookup::account_feed_at_hand(&self.memory.read(), &account, after, limit) {
            return Box::pin(std::future::ready(Ok(found)));
        }
        self.read(move |connection, memory| lookup::account_feed(connection, memory, &account, after, limit))
    }

    fn consumers(
        &self,
        account: AccountId,
        by: ConsumersBy,
        after: Option<ConsumerId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Consumer>, ReadError>> {
        self.read(move |connection, memory| lookup::consumers(connection, memory, &account, &by, after.as_ref(), limit))
    }

    fn erasures(&self) -> BoxFuture<'static, Result<Vec<Erasure>, ReadError>> {
        self.read(|connection, _| erasure::pending(connection))
    }

    fn erasure(&self, account: AccountId, id: String) -> BoxFuture<'static, Result<Option<Erasure>, ReadError>> {
        self.read(move |connection, memory| erasure::find(connection, memory, &account, &id))
    }

    fn erase_words(&self, erasure: Erasure, from: Erased) -> oneshot::Receiver<Result<Option<Erased>, StoreError>> {
        let (tell, answer) = oneshot::channel();
        self.hand_in(Job::Erase(Box::new(erasure), from, tell));
        answer
    }

    fn shown_only_by(&self, erasure: Erasure) -> BoxFuture<'static, Result<Vec<String>, ReadError>> {
        self.read(move |connection, memory| erasure::shown_only_by(connection, memory, &erasure))
    }

    fn end_erasure(&self, erasure: Erasure, now: Millis) -> oneshot::Receiver<Result<(), StoreError>> {
        self.write(Durability::Synced, move |connection| erasure::end(connection, &erasure, now))
    }

    fn documents(&self, collection: &'static str) -> BoxFuture<'static, Result<Vec<Document>, ReadError>> {
        self.read(move |connection, _| row::documents(connection, collection))
    }

    fn keep_document(&self, document: Document) -> oneshot::Receiver<Result<(), StoreError>> {
        let (tell, answer) = oneshot::channel();
        self.hand_in(Job::KeepDocument(document, tell));
        answer
    }

    fn head(&self) -> u64 {
        self.memory.read().head()
    }

    fn waiting(&self) -> usize {
        // What is taken may be counted before what was handed in.
        self.waiting.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }

    fn epoch(&self) -> &str {
        &self.epoch
    }

    fn session(&self, id: String) -> BoxFuture<'static, Result<Option<SessionRow>, ReadError>> {
        self.read(move |connection, _| row::session(connection, &id))
    }

    fn keep_session(&self, session: SessionRow) -> oneshot::Receiver<Result<(), StoreError>> {
        self.write(Durability::Synced, move |connection| writer::keep_session(connection, &session))
    }

    fn end_sessions(&self, account: AccountId, agent: UserId) -> oneshot::Receiver<Result<(), StoreError>> {
        self.write(Durability::Synced, move |connection| {
            let mut end = connection.prepare_cached("UPDATE sessions SET ended = 1 WHERE account = ?1 AND agent = ?2 AND ended = 0")?;
            end.execute((account.as_str(), agent.as_str())).map(drop)
        })
    }

    fn cursor(&self, name: String) -> BoxFuture<'static, Result<Option<String>, ReadError>> {
        self.read(move |connection, _| row::cursor(connection, &name))
    }

    fn probe(&self) -> oneshot::Receiver<Result<(), StoreError>> {
        let (tell, answer) = oneshot::channel();
        self.hand_in(Job::Probe(tell));
        answer
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        // The writer finishes what is in the queue when the last sender is gone.
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.readers.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let Some(thread) = thread else { return };
            if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
                tracing::error!("the store's writer did not end in good order");
            }
        })
    }
}

impl Debts for SqliteStore {
    fn journal(&self, after: u64, limit: usize) -> BoxFuture<'static, Result<Feed, ReadError>> {
        if let Some(found) = debts::journal_at_hand(&self.memory.read(), after, limit) {
            return Box::pin(std::future::ready(Ok(found)));
        }
        self.read(move |connection, memory| {
            let floor = memory.read().floor();
            debts::journal(connection, floor, after, limit)
        })
    }

    fn entry(&self, position: u64) -> BoxFuture<'static, Result<Option<Arc<Sight>>, ReadError>> {
        if let Some(found) = self.memory.read().entry(position) {
            return Box::pin(std::future::ready(Ok(Some(found.clone()))));
        }
        self.read(move |connection, _| debts::entry(connection, position))
    }

    fn endpoints(&self) -> BoxFuture<'static, Result<Vec<EndpointRow>, ReadError>> {
        self.read(|connection, _| debts::endpoints(connection))
    }

    fn keep_endpoint(&self, row: EndpointRow) -> oneshot::Receiver<Result<(), StoreError>> {
        self.write(Durability::Synced, move |connection| debts::keep_endpoint(connection, &row))
    }

    fn forget_endpoint(&self, id: EndpointId) -> oneshot::Receiver<Result<(), StoreError>> {
        self.write(Durability::Synced, move |connection| debts::forget_endpoint(connection, id))
    }

    fn owe(&self, owing: Arc<Owing>) -> oneshot::Receiver<Result<(), StoreError>> {
        self.write(Durability::Written, move |connection| debts::owe(connection, &owing))
    }

    fn settle(&self, settlement: Arc<Settlement>) -> oneshot::Receiver<Result<(), StoreError>> {
        self.write(Durability::Written, move |connection| debts::settle(connection, &settlement))
    }

    fn owed(&self, endpoint: EndpointId, after: u64, limit: usize) -> BoxFuture<'static, Result<Vec<Owed>, ReadError>> {
        self.read(move |connection, _| debts::owed(connection, endpoint, after, limit))
    }

    fn owed_of(
        &self,
        endpoint: EndpointId,
        conversation: ConversationId,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Owed>, ReadError>> {
        self.read(move |connection, _| debts::owed_of(connection, endpoint, &conversation, after, limit))
    }

    fn dead_letters(&self, endpoint: EndpointId, after: u64, limit: usize) -> BoxFuture<'static, Result<Vec<DeadLetter>, ReadError>> {
        self.read(move |connection, _| debts::dead_letters(connection, endpoint, after, limit))
    }

    fn balances(&self) -> BoxFuture<'static, Result<Vec<(EndpointId, Balance)>, ReadError>> {
        self.read(|connection, _| debts::balances(connection))
    }

    fn position_at(&self, time: Millis) -> BoxFuture<'static, Result<u64, ReadError>> {
        self.read(move |connection, memory| debts::position_at(connection, memory, time))
    }

    fn attempts(&self, position: u64) -> BoxFuture<'static, Result<Vec<Attempt>, ReadError>> {
        self.read(move |connection, _| debts::attempts(connection, position))
    }

    fn tidy_debts(&self, dead_before: Millis, attempts_before: Millis) -> BoxFuture<'static, Result<bool, StoreError>> {
        self.write_some(move |connection| debts::tidy(connection, dead_before, attempts_before))
    }
}

#[cfg(test)]
mod tests;
