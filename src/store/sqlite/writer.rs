//! The one writer: runs waiting decisions in order, commits once for all of them with a sync, then answers and tells.
//!
//! What decisions write goes to the tail, and from there into the database behind the acks; writes that are no decisions go to
//! the database at once, in a transaction of their own.

use super::super::memory::{Memory, Name, closed_name, name_of};
use super::super::{
    Announce, AnswerTo, Clock, Committed, Decided, Decision, Document, Erased, Erasure, Fingerprint, Health, Retry, SessionRow, StoreError,
};
use super::checkpoint::{CheckpointError, Checkpoints};
use super::projection::{Cursor, Sweep, Synchronous, set_synchronous};
use super::tail::{AppendError, Frame, FrameDraft, Kept, Resent, Tail};
use super::{OpenError, erasure, projection, removal, row};
use crate::domain::{AgentState, Consumer, Conversation, Draft, Millis, Outcome, ScopeKey, Sight, View};
use crate::map::{Map, Set};
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId, UserId};
use tokio::sync::{oneshot, watch};

/// Most decisions in one commit: bounds how long the first of them waits.
const BATCH: usize = 1_024;
/// After a batch of so many decisions there is load enough that others are about to come: who has them ready and waits for the
/// processor gets it first, so that they share the next sync. Where a processor is free nobody waits.
const SHARED: usize = 8;
/// Rows projected in one go when nothing waits.
const CHUNK: usize = 512;
/// How long projecting may take between two commits, about: so long a decision waits behind it. What rows take depends on the load
/// and on the disk, so it is measured.
const SLICE: Duration = Duration::from_millis(1);
/// Rows projected between two commits at least and at most, but for what the last commit added.
const SLICE_ROWS: std::ops::RangeInclusive<usize> = 16..=512;
/// Rows and bytes that may wait to be projected; beyond it each commit is followed by some projecting, waiting decisions or not.
/// The more they are, the less each costs.
const WAITING: usize = 12_288;
/// As many while few come at a time: a sweep is cheaper for each the longer it is, but to begin and to end a long one takes longer than
/// decisions should wait, and where there is time to spare that is what counts.
const WAITING_AT_EASE: usize = 1_024;
/// After so many batches in a row of fewer than share a sync there is time to spare.
const EASE: usize = 64;
const WAITING_BYTES: usize = 8 * 1024 * 1024;
/// As many, when the database cannot be written: beyond it decisions are refused.
const STUCK: usize = 2 * WAITING;
const STUCK_BYTES: usize = 8 * WAITING_BYTES;
/// Bytes that are swept between two checkpoints.
const UNCHECKED_BYTES: usize = 1024 * 1024;
/// How long the writer waits for the next decision before it projects what is left.
const QUIET: Duration = Duration::from_millis(5);
/// How long until it tries again what it was kept from.
const LATER: Duration = Duration::from_secs(1);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub(super) enum Job {
    Decide(Box<Decision>, AnswerTo),
    KeepDocument(Document, Answer<()>),
    Write(Write, Durability, Answer<()>),
    Remove(ConversationId, Millis, removal::Taken),
    Erase(Box<Erasure>, Erased, Answer<Option<Erased>>),
    Probe(Answer<()>),
}

/// A write of its own, in the transaction of its batch.
pub(super) type Write = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// When it is on disk.
    Synced,
    /// When it is written: the next sync takes it along, and a power cut before may take it back, with all that came after.
    Written,
}

impl Job {
    /// Answers without doing it. A receiver that is gone does not mind.
    pub(super) fn fail(self, error: StoreError) {
        match self {
            Self::Decide(_, to) => to.answer(Err(error)),
            Self::Remove(.., answer) => drop(answer.send(Err(error))),
            Self::Erase(.., answer) => drop(answer.send(Err(error))),
            Self::KeepDocument(_, answer) | Self::Write(.., answer) | Self::Probe(answer) => drop(answer.send(Err(error))),
        }
    }

    fn needs_sync(&self) -> bool {
        !matches!(self, Self::Write(_, Durability::Written, _))
    }
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Tail(#[from] AppendError),
    #[error(transparent)]
    Checkpoint(CheckpointError),
}

/// A decision with what became of it.
#[derive(Debug)]
pub(super) struct Finished(AnswerTo, Result<Decided, StoreError>);

impl Finished {
    pub(super) fn answer(self) {
        self.0.answer(self.1);
    }
}

/// Takes what is finished, and answers it.
pub(super) type Answers = Box<dyn Fn(Vec<Finished>) + Send>;

/// The answer to a decision that waits for the commit.
enum Waiting {
    Decided(AnswerTo, Result<Decided, StoreError>),
    /// Refused by what was committed before the batch: it stands whatever becomes of the batch.
    Refused(AnswerTo, StoreError),
    Probed(Answer<()>),
}

pub(super) struct Writer {
    connection: Connection,
    memory: Arc<Memory>,
    clock: Clock,
    answers: Answers,
    announce: Announce,
    health: watch::Sender<Health>,
    tail: Tail,
    checkpoints: Checkpoints,
    /// Bytes that were swept since the last one was asked for.
    unchecked: usize,
    position: u64,
    projected: Cursor,
    /// The frames that are not projected, and how many rows and bytes they have.
    frames: VecDeque<Arc<Frame>>,
    rows: usize,
    bytes: usize,
    /// The answers and the counts in them.
    kept: Map<Fingerprint, Arc<Kept>>,
    resent: Map<(ConversationId, Fingerprint), u64>,
    sweep: Option<Sweep>,
    /// Seconds that a row of a sweep takes, of late.
    row_time: f64,
    /// Whether the last attempt to project failed.
    is_stuck: bool,
    numbers: Map<AccountId, i64>,
}

/// What a batch has made so far; nobody else sees it before the commit.
#[derive(Default)]
struct Staged {
    frame: FrameDraft,
    sights: Vec<Arc<Sight>>,
    /// In the order in which they are in the frame.
    kept: Vec<Arc<Kept>>,
    kept_by_name: Map<Fingerprint, Arc<Kept>>,
    resent: Map<(ConversationId, Fingerprint), u64>,
    conversations: Map<ConversationId, Conversation>,
    consumers: Map<(AccountId, ConsumerId), Consumer>,
    applied: Map<ConversationId, u64>,
    applied_consumers: Map<(AccountId, ConsumerId), u64>,
    numbers: Map<AccountId, i64>,
    /// Conversations as they were before the batch.
    before: Map<ConversationId, Conversation>,
    agents: Map<(AccountId, UserId), AgentState>,
    /// By how much the batch has changed the number of an agent's conversations.
    loads: Map<(AccountId, UserId), i64>,
    names: Map<Name, ConversationId>,
    /// What writers call messages of the batch.
    named: Set<(ConversationId, String)>,
    /// The first position of each decision that wrote something, and when it was handed in.
    decisions: Vec<(u64, Millis)>,
}

impl Staged {
    /// Counts by how much agents' conversations become more or fewer, where one changes from one state to another.
    fn shift_loads(&mut self, before: Option<&Conversation>, after: &Conversation) {
        let account = &after.details.account;
        let mut shift = |user: &UserId, by: i64| *self.loads.entry((account.clone(), user.clone())).or_default() += by;
        before.iter().flat_map(|before| before.details.occupies()).for_each(|user| shift(user, -1));
        after.details.occupies().for_each(|user| shift(user, 1));
    }
}

/// What one decision may see: its scope, loaded.
struct Scope<'s> {
    staged: &'s Staged,
    conversations: Map<ConversationId, Conversation>,
    consumers: Map<(AccountId, ConsumerId), Consumer>,
    numbers: Map<AccountId, i64>,
    agents: Map<(AccountId, UserId), AgentState>,
    loads: Map<(AccountId, UserId), usize>,
    names: Map<Name, ConversationId>,
    named: Set<(ConversationId, String)>,
    resends: u64,
}

impl View for Scope<'_> {
    fn conversation(&self, id: &ConversationId) -> Option<Conversation> {
        self.staged.conversations.get(id).or_else(|| self.conversations.get(id)).cloned()
    }
    fn consumer(&self, account: &AccountId, id: &ConsumerId) -> Option<Consumer> {
        let key = (account.clone(), id.clone());
        self.staged.consumers.get(&key).or_else(|| self.consumers.get(&key)).cloned()
    }
    fn next_number(&self, account: &AccountId) -> i64 {
        self.staged.numbers.get(account).or_else(|| self.numbers.get(account)).copied().unwrap_or(1)
    }
    fn resends(&self) -> u64 {
        self.resends
    }
    fn agent(&self, account: &AccountId, agent: &UserId) -> Option<AgentState> {
        let key = (account.clone(), agent.clone());
        self.staged.agents.get(&key).or_else(|| self.agents.get(&key)).cloned()
    }
    fn load(&self, account: &AccountId, agent: &UserId) -> usize {
        let key = (account.clone(), agent.clone());
        let shifted = self.staged.loads.get(&key).copied().unwrap_or(0);
        let shift = isize::try_from(shifted).unwrap_or(0);
        self.loads.get(&key).copied().unwrap_or(0).saturating_add_signed(shift)
    }
    fn bound(&self, account: &AccountId, consumer: &ConsumerId, name: &str) -> Option<ConversationId> {
        self.names.get(&(account.clone(), consumer.clone(), name.to_owned())).cloned()
    }
    fn has_message(&self, conversation: &ConversationId, name: &str) -> bool {
        let named = (conversation.clone(), name.to_owned());
        self.named.contains(&named) || self.staged.named.contains(&named)
    }
}

impl Writer {
    pub(super) fn start(
        folder: &Path,
        connection: Connection,
        memory: Arc<Memory>,
        clock: Clock,
        (answers, announce): (Answers, Announce),
        health: watch::Sender<Health>,
    ) -> Result<Self, OpenError> {
        let projected = projection::cursor(&connection)?;
        let (tail, frames) = Tail::open(folder, projected.frame)?;
        let frames = projection::catch_up(&connection, &memory, projected, frames)?;
        let position = memory.read().head();
        if position > projected.position {
            tracing::info!(entries = position - projected.position, "projections go on from the journal");
        }
        let mut writer = Self {
            connection,
            memory,
            clock,
            answers,
            announce,
            health,
            tail,
            checkpoints: Checkpoints::start(folder)?,
            unchecked: 0,
            position,
            projected,
            frames: VecDeque::new(),
            rows: 0,
            bytes: 0,
            kept: Map::default(),
            resent: Map::default(),
            sweep: None,
            row_time: 0.0,
            is_stuck: false,
            numbers: Map::default(),
        };
        for frame in frames {
            for kept in &frame.kept {
                writer.kept.insert(kept.retry.name, kept.clone());
            }
            for Resent { conversation, fingerprint, stored } in &frame.resent {
                writer.resent.insert((conversation.clone(), *fingerprint), *stored);
            }
            writer.wait_for_projection(frame);
        }
        Ok(writer)
    }

    fn wait_for_projection(&mut self, frame: Arc<Frame>) {
        self.rows += frame.rows();
        self.bytes += frame.bytes();
        self.frames.push_back(frame);
    }

    /// Runs until every sender is gone, or a sync has failed. `waiting` counts what was handed in and is not taken yet.
    pub(super) fn run(mut self, queue: &Receiver<Job>, waiting: &AtomicUsize) {
        let taken = |jobs: usize| {
            // It may be counted a moment after it was taken.
            let before = waiting.fetch_sub(jobs, Ordering::Relaxed);
            metrics::gauge!("tieline_store_waiting").set(before.wrapping_sub(jobs).cast_signed().max(0) as f64);
        };
        // Batches in a row of fewer than share a sync.
        let mut small = 1_usize;
        loop {
            let is_at_rest = self.frames.is_empty();
            let is_owed = self.checkpoints.is_under_way() || self.is_checkpoint_due() || self.tail.is_purge_due();
            let quiet = match (is_at_rest, is_owed) {
                (false, _) => Some(QUIET),
                (true, true) => Some(LATER),
                (true, false) => None,
            };
            let job = match quiet.map_or_else(|| queue.recv().map_err(|_| RecvTimeoutError::Disconnected), |time| queue.recv_timeout(time))
            {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.look_after_checkpoints();
                    if !is_at_rest && !self.has_failed() {
                        self.project(CHUNK);
                    }
                    None
                }
            };
            if let Some(first) = job {
                if small == 0 {
                    std::thread::yield_now();
                }
                let mut batch = vec![first];
                batch.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(BATCH - 1));
                taken(batch.len());
                small = if batch.len() < SHARED { small + 1 } else { 0 };
                let before = self.rows;
                self.step(batch);
                // Under load nobody rests, and what is not projected must not grow: a sweep that has begun gets on at least as
                // fast as it is added to.
                self.look_after_checkpoints();
                let enough = if small < EASE { WAITING } else { WAITING_AT_EASE };
                if !self.has_failed() && (self.sweep.is_some() || self.rows > enough || self.bytes > WAITING_BYTES) {
                    self.project(self.slice().max(self.rows.saturating_sub(before).saturating_mul(4)));
                }
            }
            if self.has_failed() {
                for job in queue {
                    taken(1);
                    job.fail(StoreError::Unknown);
                }
                return;
            }
        }
        self.checkpoints.close();
        self.hear_of_checkpoints();
        while !self.has_failed() && !self.frames.is_empty() && self.carry_on(CHUNK) {}
        if self.has_failed() {
            return;
        }
        // The whole database in one file, for whoever copies it while nothing runs.
        match self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)) {
            Ok(false) => {
                self.tail.release(self.projected.frame);
                self.tail.purge();
            }
            Ok(true) => tracing::warn!("somebody still reads the database: the write-ahead log and the tail stay beside it"),
            Err(error) => tracing::warn!(%error, "the write-ahead log and the tail stay beside the database"),
        }
    }

    fn has_failed(&self) -> bool {
        *self.health.borrow() == Health::Failed
    }

    /// Decides, commits, answers and tells about one batch.
    pub(super) fn step(&mut self, batch: Vec<Job>) {
        let mut decisions = Vec::with_capacity(batch.len());
        let mut writes = Vec::new();
        for job in batch {
            match job {
                Job::Decide(..) | Job::Probe(_) => decisions.push(job),
                Job::KeepDocument(..) | Job::Write(..) => writes.push(job),
                // What comes before it is not old, what comes after it may not see what was removed, and its entry has a place
                // between theirs.
                Job::Remove(conversation, before, answer) => {
                    self.write_all(std::mem::take(&mut writes));
                    self.decide_all(std::mem::take(&mut decisions));
                    self.remove(&conversation, before, answer);
                }
                Job::Erase(erasure, from, answer) => {
                    self.write_all(std::mem::take(&mut writes));
                    self.decide_all(std::mem::take(&mut decisions));
                    self.erase(&erasure, from, answer);
                }
            }
        }
        self.write_all(writes);
        self.decide_all(decisions);
    }

    /// Whether writing has ended, maybe in this very step: then nothing more is written or acked, and these jobs are told so.
    fn has_ended(&self, jobs: &mut Vec<Job>) -> bool {
        let has_failed = self.has_failed();
        if has_failed {
            jobs.drain(..).for_each(|job| job.fail(StoreError::Unknown));
        }
        has_failed
    }

    fn decide_all(&mut self, mut batch: Vec<Job>) {
        if batch.is_empty() || self.has_ended(&mut batch) {
            return;
        }
        let size = batch.len();
        let began = Instant::now();
        let mut waiting = Vec::with_capacity(size);
        match self.commit(batch, &mut waiting) {
            Ok((staged, frame)) => {
                metrics::histogram!("tieline_store_commit_seconds").record(began.elapsed().as_secs_f64());
                metrics::histogram!("tieline_store_commit_decisions").record(size as f64);
                if frame.is_some() && !self.is_stuck {
                    self.is_well();
                }
                let committed = self.publish(staged, frame);
                self.answer(waiting, None);
                if !committed.sights.is_empty() {
                    (self.announce)(committed);
                }
            }
            Err(error) => {
                let failure = self.failed(&error);
                self.answer(waiting, Some(&failure));
            }
        }
    }

    fn answer(&self, waiting: Vec<Waiting>, failure: Option<&StoreError>) {
        let mut finished = Vec::with_capacity(waiting.len());
        for answer in waiting {
            match answer {
                Waiting::Decided(answer, result) => finished.push(Finished(answer, failure.map_or(result, |failure| Err(failure.clone())))),
                Waiting::Refused(answer, refused) => finished.push(Finished(answer, Err(refused))),
                Waiting::Probed(answer) => drop(answer.send(failure.map_or(Ok(()), |failure| Err(failure.clone())))),
            }
        }
        (self.answers)(finished);
    }

    /// Runs decisions, and appends what they write to the tail.
    fn commit(&mut self, batch: Vec<Job>, waiting: &mut Vec<Waiting>) -> Result<(Staged, Option<Frame>), Failure> {
        let mut staged = Staged::default();
        // What the database does not take stays in memory, which must not grow without end.
        let mut failure = if self.is_stuck && (self.rows > STUCK || self.bytes > STUCK_BYTES) {
            self.carry_over(*SLICE_ROWS.end()).err().map(Failure::Database)
        } else {
            None
        };
        // The disk is asked for each key: in one transaction it is locked once.
        let reads = |job: &Job| matches!(job, Job::Decide(decision, _) if decision.retry.is_some() || decision.resend.is_some());
        let is_reading = failure.is_none() && batch.iter().filter(|job| reads(job)).take(2).count() == 2;
        if is_reading {
            failure = self.connection.execute_batch("BEGIN").err().map(Failure::Database);
        }
        for job in batch {
            match job {
                Job::Decide(decision, answer) if failure.is_none() => match self.decide(&decision, &mut staged) {
                    Ok(Err(refused)) if staged.frame.is_empty() => waiting.push(Waiting::Refused(answer, refused)),
                    Ok(result) => waiting.push(Waiting::Decided(answer, result)),
                    Err(error) => {
                        failure = Some(error.into());
                        waiting.push(without_answer(answer));
                    }
                },
                Job::Probe(answer) if failure.is_none() => {
                    let was_full = *self.health.borrow() == Health::DiskFull;
                    failure = projection::probe(&self.connection, (self.clock)(), was_full).err().map(Failure::Database);
                    staged.frame.pad(if was_full { projection::PROBE } else { 1 });
                    waiting.push(Waiting::Probed(answer));
                }
                Job::Decide(_, answer) => waiting.push(without_answer(answer)),
                Job::Probe(answer) => waiting.push(Waiting::Probed(answer)),
                Job::KeepDocument(..) | Job::Write(..) | Job::Remove(..) | Job::Erase(..) => {}
            }
        }
        if is_reading && let Err(error) = self.end_transaction(None) {
            failure = failure.or(Some(error.into()));
        }
        let draft = std::mem::take(&mut staged.frame);
        match failure {
            Some(failure) => Err(failure),
            None if draft.is_empty() => Ok((staged, None)),
            None => Ok((staged, Some(self.tail.append(draft, self.position + 1)?))),
        }
    }

    /// Runs writes that are no decisions, in one transaction, and answers.
    fn write_all(&mut self, mut writes: Vec<Job>) {
        if writes.is_empty() || self.has_ended(&mut writes) {
            return;
        }
        let is_synced = writes.iter().any(Job::needs_sync);
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        let ready = if is_synced { Ok(()) } else { set_synchronous(&self.connection, Synchronous::Normal) };
        let mut failure = ready.and_then(|()| self.connection.execute_batch("BEGIN IMMEDIATE")).err();
        for job in writes {
            match job {
                Job::KeepDocument(document, answer) if failure.is_none() => match keep_document(&self.connection, &document) {
                    Ok(Ok(())) => done.push(answer),
                    Ok(Err(why)) => refused.push((answer, why)),
                    Err(error) => {
                        failure = Some(error);
                        done.push(answer);
                    }
                },
                Job::Write(write, _, answer) if failure.is_none() => {
                    failure = write(&self.connection).err();
                    done.push(answer);
                }
                Job::KeepDocument(_, answer) | Job::Write(_, _, answer) => done.push(answer),
                Job::Decide(..) | Job::Probe(_) | Job::Remove(..) | Job::Erase(..) => {}
            }
        }
        let committed = self.end_transaction(failure);
        // Without it the next ack would not mean on disk.
        let committed = if is_synced { committed } else { committed.and(set_synchronous(&self.connection, Synchronous::Full)) };
        let answer_all = committed.map_err(|error| self.failed(&Failure::Database(error)));
        if answer_all.is_ok() && !done.is_empty() {
            self.is_well();
        }
        for answer in done {
            drop(answer.send(answer_all.clone()));
        }
        for (answer, why) in refused {
            drop(answer.send(Err(why)));
        }
    }

    fn end_transaction(&self, failure: Option<rusqlite::Error>) -> rusqlite::Result<()> {
        failure.map_or_else(|| self.connection.execute_batch("COMMIT"), Err).inspect_err(|_| {
            if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                tracing::debug!(%error, "nothing to roll back");
            }
        })
    }

    /// From a full disk there is a way back, by something that was really written; from a failed sync none.
    fn is_well(&self) {
        self.health
            .send_if_modified(|health| *health == Health::DiskFull && std::mem::replace(health, Health::Writing) == Health::DiskFull);
    }

    /// Takes a conversation away. Its entry is written into the database with it, not into the tail: both are there, or neither.
    fn remove(&mut self, conversation: &ConversationId, before: Millis, answer: removal::Taken) {
        if self.has_failed() {
            drop(answer.send(Err(StoreError::Unknown)));
            return;
        }
        let place = (self.position + 1, (self.clock)());
        let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
        let taken = begun.and_then(|()| removal::begin(&self.connection, &self.memory, conversation, before, place));
        // All that can fail comes before the commit: behind it the entry's place is taken.
        let framed = taken.and_then(|taken| taken.map(|sight| self.frame_of(Arc::new(sight))).transpose());
        let (taken, failure) = match framed {
            Ok(taken) => (taken, None),
            Err(error) => (None, Some(error)),
        };
        // A row that cannot be read says nothing about the disk: the conversation stays.
        let is_unreadable = failure.as_ref().is_some_and(|error| error.sqlite_error_code().is_none());
        match self.end_transaction(failure) {
            Ok(()) => {}
            Err(error) if is_unreadable => {
                tracing::error!(%error, %conversation, "a row cannot be read");
                drop(answer.send(Ok(false)));
                return;
            }
            Err(error) => {
                let failure = self.failed(&Failure::Database(error));
                drop(answer.send(Err(failure)));
                return;
            }
        }
        let Some((frame, sight)) = taken else {
            drop(answer.send(Ok(false)));
            return;
        };
        // A sweep has nothing of it, for it was projected; what the tail has must go.
        self.memory.write().forget(conversation);
        self.tail.purge();
        let committed = self.publish(Staged { sights: vec![sight], ..Staged::default() }, Some(frame));
        drop(answer.send(Ok(true)));
        (self.announce)(committed);
    }

    /// Erases some of what was said. What is still on its way into the database is waited for: it would come back otherwise.
    fn erase(&mut self, erasure: &Erasure, from: Erased, answer: Answer<Option<Erased>>) {
        if self.has_failed() {
            drop(answer.send(Err(StoreError::Unknown)));
            return;
        }
        // Of a conversation nothing is added any more; of one with more to come its state says nothing of the message.
        let is_whole = erasure.message.is_none();
        if self.projected.position < erasure.position || is_whole && self.memory.read().dirty(&erasure.conversation).is_some() {
            drop(answer.send(Err(StoreError::Busy)));
            return;
        }
        // As a sweep: what is lost of it is done again, for its end is synced.
        let ready = set_synchronous(&self.connection, Synchronous::Normal);
        let begun = ready.and_then(|()| self.connection.execute_batch("BEGIN IMMEDIATE"));
        let (next, failure) = match begun.and_then(|()| erasure::step(&self.connection, erasure, from)) {
            Ok(next) => (next, None),
            Err(error) => (None, Some(error)),
        };
        let ended = self.end_transaction(failure).and(set_synchronous(&self.connection, Synchronous::Full));
        let erased = ended.map_err(|error| self.failed(&Failure::Database(error)));
        if erased.is_ok() && next.is_none() {
            self.memory.write().forget_words(&erasure.conversation, erasure.message.as_ref());
            self.tail.purge();
            // What stood there goes from the database's file and from its log as soon as that can be.
            self.unchecked = self.unchecked.max(UNCHECKED_BYTES + 1);
        }
        drop(answer.send(erased.map(|()| next)));
    }

    fn frame_of(&self, sight: Arc<Sight>) -> rusqlite::Result<(Frame, Arc<Sight>)> {
        let frame = Frame::of_row(self.tail.number(), sight.clone());
        Ok((frame.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?, sight))
    }

    /// One decision. The outer error is the store's and ends the batch, the inner one is the decision's own.
    fn decide(&mut self, decision: &Decision, staged: &mut Staged) -> rusqlite::Result<Result<Decided, StoreError>> {
        if let Some(retry) = &decision.retry
            && let Some(known) = self.known(retry, staged)?
        {
            return Ok(known);
        }
        let scope = match self.scope(decision, staged) {
            // Nothing of it is written yet: it fails alone.
            Err(error) if error.sqlite_error_code().is_none() => {
                tracing::error!(%error, ?decision, "a row cannot be read");
                return Ok(Err(StoreError::Internal));
            }
            scope => scope?,
        };
        let mut draft = Draft::new(&scope, (self.clock)(), self.position + staged.sights.len() as u64 + 1);
        // A rule that panics takes nothing with it: the draft is dropped, and what is shared was not touched.
        let decided = catch_unwind(AssertUnwindSafe(|| (decision.rule)(&mut draft)));
        let outcomes = match decided {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err((place, refusal))) => return Ok(Err(StoreError::Refused(place, refusal))),
            Err(_) => {
                tracing::error!(?decision, "a decision panicked");
                return Ok(Err(StoreError::Internal));
            }
        };
        let Draft { sights, conversations, consumers, numbers, agents, stored, .. } = draft;
        let Scope { conversations: loaded, resends, .. } = scope;
        staged.decisions.extend(sights.first().map(|first| (first.position, decision.received)));
        for sight in &sights {
            if let Err(error) = staged.frame.entry(sight) {
                return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(error)));
            }
            if let Some(id) = sight.entry.conversation() {
                staged.applied.insert(id.clone(), sight.position);
            }
            if let Some(consumer) = projection::consumer_of(sight) {
                staged.applied_consumers.insert(consumer, sight.position);
            }
        }
        if let Some(retry) = decision.retry {
            let kept = Arc::new(Kept { retry, answer: projection::to_json(&outcomes)?, at: (self.clock)() });
            staged.frame.kept(&kept);
            staged.kept.push(kept.clone());
            staged.kept_by_name.insert(retry.name, kept);
        }
        if let (Some((conversation, fingerprint)), true) = (&decision.resend, stored > 0) {
            let resent = Resent { conversation: conversation.clone(), fingerprint: *fingerprint, stored: resends + stored };
            staged.frame.resent(&resent);
            staged.resent.insert((resent.conversation, resent.fingerprint), resent.stored);
        }
        // Conversations only looked at are not changed; what is staged has an entry.
        for (id, after) in conversations {
            if !staged.applied.contains_key(&id) {
                continue;
            }
            let before = staged.conversations.get(&id).or_else(|| loaded.get(&id));
            if before.is_none_or(|before| before.version != after.version) {
                let before = before.cloned();
                staged.shift_loads(before.as_ref(), &after);
                if let Some(name) = name_of(&after) {
                    staged.names.insert(name, id.clone());
                }
            }
            staged.conversations.insert(id, after);
        }
        // Those only looked at are as they were.
        staged.agents.extend(agents);
        staged.consumers.extend(consumers.into_iter().filter(|(key, _)| staged.applied_consumers.contains_key(key)));
        for (id, state) in loaded {
            staged.before.entry(id).or_insert(state);
        }
        staged.numbers.extend(numbers);
        let names =
            sights.iter().filter_map(Sight::message).filter_map(|message| Some((message.conversation.clone(), message.external.clone()?)));
        staged.named.extend(names);
        staged.sights.extend(sights.into_iter().map(Arc::new));
        Ok(Ok(Decided { outcomes, replayed: false }))
    }

    fn known(&self, retry: &Retry, staged: &Staged) -> rusqlite::Result<Option<Result<Decided, StoreError>>> {
        if let Some(kept) = staged.kept_by_name.get(&retry.name).or_else(|| self.kept.get(&retry.name)) {
            return Ok(Some(answer_again(retry, &kept.retry.fingerprint, &kept.answer)));
        }
        self.connection
            .prepare_cached("SELECT fingerprint, answer FROM retries WHERE hash = ?1 AND name = ?2")?
            .query_row((row::head(&retry.name), retry.name.as_slice()), |row| {
                Ok(answer_again(retry, row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_str()?))
            })
            .optional()
    }

    fn scope<'s>(&mut self, decision: &Decision, staged: &'s Staged) -> rusqlite::Result<Scope<'s>> {
        let mut scope = Scope {
            staged,
            conversations: Map::default(),
            consumers: Map::default(),
            numbers: Map::default(),
            agents: Map::default(),
            loads: Map::default(),
            names: Map::default(),
            named: Set::default(),
            resends: 0,
        };
        for key in &decision.scope {
            match key {
                ScopeKey::Conversation(id) => {
                    if let Some(state) = self.load(id)? {
                        // What is closed may be opened again, unless another stands under its name by now.
                        if let Some(name) = closed_name(&state)
                            && let Some(other) = self.named(&name, staged)?
                        {
                            scope.names.insert(name, other);
                        }
                        scope.conversations.insert(id.clone(), state);
                    }
                }
                ScopeKey::Consumer(account, id) => {
                    let key = (account.clone(), id.clone());
                    if let Some(state) = self.load_consumer(&key)? {
                        scope.consumers.insert(key, state);
                    }
                }
                ScopeKey::Numbers(account) => {
                    scope.numbers.insert(account.clone(), self.next_number(account)?);
                }
                ScopeKey::Agent(account, agent) => {
                    let key = (account.clone(), agent.clone());
                    scope.agents.insert(key.clone(), self.load_agent(&key)?);
                    scope.loads.insert(key.clone(), self.count(&key)?);
                }
                ScopeKey::Named(conversation, name) => {
                    let name = (conversation.clone(), name.clone());
                    if self.memory.read().has_message(&name) || row::has_message(&self.connection, &name)? {
                        scope.named.insert(name);
                    }
                }
                ScopeKey::Binding(account, consumer, name) => {
                    let name = (account.clone(), consumer.clone(), name.clone());
                    if let Some(id) = self.named(&name, staged)? {
                        if let Some(state) = self.load(&id)? {
                            scope.conversations.insert(id.clone(), state);
                        }
                        scope.names.insert(name, id);
                    }
                }
            }
        }
        // A message may be written into the conversation that is found under a name instead of opened.
        for key in &decision.scope {
            let ScopeKey::Named(_, name) = key else { continue };
            for found in scope.names.values() {
                let name = (found.clone(), name.clone());
                if self.memory.read().has_message(&name) || row::has_message(&self.connection, &name)? {
                    scope.named.insert(name);
                }
            }
        }
        if let Some(resend) = &decision.resend {
            let known = staged.resent.get(resend).or_else(|| self.resent.get(resend));
            scope.resends = match known {
                Some(known) => *known,
                None => row::resends(&self.connection, &resend.0, &resend.1)?,
            };
        }
        Ok(scope)
    }

    fn load(&self, id: &ConversationId) -> rusqlite::Result<Option<Conversation>> {
        if let Some(found) = self.memory.read().conversation(id) {
            return Ok(Some(found.clone()));
        }
        let Some(at) = row::conversation(&self.connection, id)? else { return Ok(None) };
        self.memory.write().put_clean(id.clone(), at.clone());
        Ok(Some(at.state))
    }

    fn load_consumer(&self, key: &(AccountId, ConsumerId)) -> rusqlite::Result<Option<Consumer>> {
        if let Some(found) = self.memory.read().consumer(key) {
            return Ok(Some(found.clone()));
        }
        let Some(at) = row::consumer(&self.connection, key)? else { return Ok(None) };
        self.memory.write().put_clean_consumer(key.clone(), at.clone());
        Ok(Some(at.state))
    }

    fn load_agent(&self, key: &(AccountId, UserId)) -> rusqlite::Result<AgentState> {
        if let Some(found) = self.memory.read().agent(key) {
            return Ok(found.clone());
        }
        let state = row::agent(&self.connection, key)?.unwrap_or_else(|| AgentState::unknown(&key.0, &key.1));
        self.memory.write().put_agent(state.clone());
        Ok(state)
    }

    /// How many conversations an agent has or is offered, by what is committed.
    fn count(&self, key: &(AccountId, UserId)) -> rusqlite::Result<usize> {
        if let Some(load) = self.memory.read().load(key) {
            return Ok(load);
        }
        let on_disk = row::load(&self.connection, key)?;
        let mut memory = self.memory.write();
        memory.begin_load(key, on_disk);
        Ok(memory.load(key).unwrap_or(0))
    }

    /// The open conversation of a name, as the batch has it so far.
    fn named(&self, name: &Name, staged: &Staged) -> rusqlite::Result<Option<ConversationId>> {
        let holds = |state: &Conversation| name_of(state).as_ref() == Some(name);
        if let Some(id) = staged.names.get(name).filter(|id| staged.conversations.get(*id).is_some_and(holds)) {
            return Ok(Some(id.clone()));
        }
        let mut found: Vec<ConversationId> = self.memory.read().named(name).into_iter().collect();
        found.extend(row::named(&self.connection, &name.0, &name.1, &name.2)?);
        for id in found {
            // What is closed or handed over by now may still stand so on disk.
            let state = match staged.conversations.get(&id) {
                Some(state) => Some(state.clone()),
                None => self.load(&id)?,
            };
            if state.is_some_and(|state| holds(&state)) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn next_number(&mut self, account: &AccountId) -> rusqlite::Result<i64> {
        if let Some(next) = self.numbers.get(account) {
            return Ok(*next);
        }
        let on_disk: Option<i64> = self
            .connection
            .prepare_cached("SELECT max(number) FROM conversations WHERE account = ?1")?
            .query_row([account.as_str()], |row| row.get(0))?;
        let next = on_disk.unwrap_or(0).max(self.memory.read().largest_number(account)) + 1;
        self.numbers.insert(account.clone(), next);
        Ok(next)
    }

    /// The batch is on disk: readers see it from here on.
    fn publish(&mut self, staged: Staged, frame: Option<Frame>) -> Committed {
        let Staged {
            sights,
            kept,
            kept_by_name,
            resent,
            conversations,
            consumers,
            applied,
            applied_consumers,
            numbers,
            mut before,
            agents,
            decisions,
            ..
        } = staged;
        self.position += sights.len() as u64;
        if let Some(mut frame) = frame {
            let counts = resent.iter().map(|((conversation, fingerprint), stored)| Resent {
                conversation: conversation.clone(),
                fingerprint: *fingerprint,
                stored: *stored,
            });
            (frame.sights, frame.kept, frame.resent) = (sights.clone(), kept, counts.collect());
            self.wait_for_projection(Arc::new(frame));
        }
        self.kept.extend(kept_by_name);
        self.resent.extend(resent);
        self.numbers.extend(numbers);
        let mut changes = Vec::new();
        let mut memory = self.memory.write();
        for sight in &sights {
            memory.push(sight.clone());
        }
        for (id, after) in conversations {
            // Not from memory, which may have let go of it during the batch.
            let before = before.remove(&id);
            let changed = before.as_ref().is_none_or(|before| before.version != after.version);
            if changed {
                memory.shift_load(before.as_ref(), &after);
                changes.push((before, after.clone()));
            }
            let position = applied.get(&id).copied().unwrap_or(self.position);
            memory.put(id, after, position);
        }
        for state in agents.into_values() {
            memory.put_agent(state);
        }
        for (key, state) in consumers {
            let position = applied_consumers.get(&key).copied().unwrap_or(self.position);
            memory.put_consumer(key, state, position);
        }
        metrics::gauge!("tieline_store_unprojected").set((self.position - self.projected.position) as f64);
        Committed { sights, changes, decisions }
    }

    /// Takes in what became of a checkpoint, and begins one where it is time.
    fn look_after_checkpoints(&mut self) {
        self.hear_of_checkpoints();
        if self.is_checkpoint_due() && !self.checkpoints.is_under_way() {
            self.checkpoints.begin(self.projected.frame);
            self.unchecked = 0;
        }
        self.tail.purge_what_is_due();
    }

    fn hear_of_checkpoints(&mut self) {
        match self.checkpoints.ended() {
            Some(Ok(frame)) => self.tail.release(frame),
            Some(Err(error)) => drop(self.failed(&Failure::Checkpoint(error))),
            None => {}
        }
    }

    fn is_checkpoint_due(&self) -> bool {
        self.unchecked > UNCHECKED_BYTES || self.tail.waits_for(self.projected.frame)
    }

    /// Brings the projections on by so many rows, unless it is better to wait for a checkpoint: when that has copied all of the
    /// database's own log, that begins anew. Whether it may go on.
    fn project(&mut self, rows: usize) -> bool {
        let waits = self.sweep.is_none() && self.rows < STUCK && self.checkpoints.is_under_way();
        waits || self.carry_on(rows)
    }

    fn carry_on(&mut self, rows: usize) -> bool {
        if let Err(error) = self.carry_over(rows) {
            self.failed(&Failure::Database(error));
            // What is not projected stays in memory; a full disk is tried again, but not in a tight loop.
            std::thread::sleep(Duration::from_millis(50));
            return false;
        }
        true
    }

    /// Rows that can be projected in a slice of time.
    fn slice(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float that is too large is as many as can be")]
        let rows = (SLICE.as_secs_f64() / self.row_time) as usize;
        rows.clamp(*SLICE_ROWS.start(), *SLICE_ROWS.end())
    }

    fn carry_over(&mut self, rows: usize) -> rusqlite::Result<()> {
        let began = Instant::now();
        let Some(mut sweep) = self.sweep.take().or_else(|| Sweep::begin(self.frames.iter().cloned().collect())) else { return Ok(()) };
        let before = sweep.done();
        let done = sweep.step(&mut self.connection, &self.memory, rows);
        self.is_stuck = done.is_err();
        let rows = sweep.done() - before;
        if rows > 0 {
            self.row_time += (began.elapsed().as_secs_f64() / rows as f64 - self.row_time) / 4.0;
        }
        match done {
            Ok(Some(cursor)) => {
                self.projected = cursor;
                for frame in sweep.frames() {
                    self.let_go(frame);
                }
                metrics::gauge!("tieline_store_unprojected").set((self.position - self.projected.position) as f64);
            }
            Ok(None) => self.sweep = Some(sweep),
            Err(error) => {
                self.sweep = Some(sweep);
                return Err(error);
            }
        }
        metrics::histogram!("tieline_store_projection_seconds").record(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// What is in it is in the database.
    fn let_go(&mut self, frame: &Frame) {
        self.frames.pop_front();
        self.rows -= frame.rows();
        self.bytes -= frame.bytes();
        self.unchecked += frame.bytes();
        for kept in &frame.kept {
            self.kept.remove(&kept.retry.name);
        }
        for Resent { conversation, fingerprint, stored } in &frame.resent {
            let name = (conversation.clone(), *fingerprint);
            if self.resent.get(&name) == Some(stored) {
                self.resent.remove(&name);
            }
        }
    }

    /// What a failed write means for those who wait, and for the store.
    fn failed(&mut self, error: &Failure) -> StoreError {
        metrics::counter!("tieline_store_failures_total").increment(1);
        let code = match error {
            Failure::Database(error) | Failure::Checkpoint(CheckpointError::Database(error)) => error.sqlite_error_code(),
            Failure::Tail(_) | Failure::Checkpoint(CheckpointError::Sync(_) | CheckpointError::Ended) => None,
        };
        let (health, answer) = match (error, code) {
            // A write that fails before the sync has committed nothing.
            (Failure::Tail(AppendError::Write(error)), _) if is_full(error) => (Health::DiskFull, StoreError::DiskFull),
            (_, Some(ErrorCode::DiskFull)) => (Health::DiskFull, StoreError::DiskFull),
            (Failure::Database(error) | Failure::Checkpoint(CheckpointError::Database(error)), _) if is_write_refused(error) => {
                (Health::DiskFull, StoreError::DiskFull)
            }
            (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => (*self.health.borrow(), StoreError::Busy),
            // A row that cannot be understood says nothing about the disk, and the batch was rolled back.
            (Failure::Database(_), None) => (*self.health.borrow(), StoreError::Internal),
            // After a failed sync nobody knows what is on disk, and a second sync may claim success over lost data.
            _ => (Health::Failed, StoreError::Unknown),
        };
        if answer == StoreError::Busy {
            tracing::warn!(%error, "another program holds the database");
        } else if answer == StoreError::Internal {
            tracing::error!(%error, "a row cannot be read");
        } else if *self.health.borrow() == health {
            tracing::debug!(%error, ?health, "the store still cannot write");
        } else {
            tracing::error!(%error, ?health, "the store cannot write");
        }
        self.health.send_if_modified(|now| *now != Health::Failed && std::mem::replace(now, health) != health);
        answer
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn is_write_refused(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE)
}

/// Waits for a commit that does not come, and so gets the failure instead of this empty answer.
fn without_answer(to: AnswerTo) -> Waiting {
    Waiting::Decided(to, Ok(Decided { outcomes: Vec::new(), replayed: false }))
}

/// The answer to a request of a key that was used before.
fn answer_again(retry: &Retry, fingerprint: &[u8], answer: &str) -> Result<Decided, StoreError> {
    if fingerprint != retry.fingerprint {
        return Err(StoreError::KeyReused);
    }
    let outcomes: Vec<Outcome> = serde_json::from_str(answer).map_err(|error| {
        tracing::error!(%error, "a stored answer cannot be read");
        StoreError::Internal
    })?;
    Ok(Decided { outcomes, replayed: true })
}

pub(super) fn keep_session(connection: &Connection, row: &SessionRow) -> rusqlite::Result<()> {
    connection
        // What has ended stays so, whatever a refresh that began before wants to write.
        .prepare_cached(
            "INSERT INTO sessions (id, account, agent, csrf, made_with, expires, ended) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET csrf = excluded.csrf, expires = excluded.expires, ended = max(ended, excluded.ended)",
        )?
        .execute((&row.id, row.account.as_str(), &row.agent, &row.csrf, &row.made_with, row.expires, row.ended))?;
    Ok(())
}

/// Writes a document, if its revision follows the one that is there.
fn keep_document(connection: &Connection, document: &Document) -> rusqlite::Result<Result<(), StoreError>> {
    let known: Option<i64> = connection
        .prepare_cached("SELECT revision FROM documents WHERE account = ?1 AND collection = ?2 AND id = ?3")?
        .query_row((document.account.as_str(), &document.collection, &document.id), |row| row.get(0))
        .optional()?;
    let known = known.unwrap_or(0).cast_unsigned();
    if document.revision != known + 1 {
        return Ok(Err(StoreError::OtherRevision(known)));
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO documents (account, collection, id, revision, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((document.account.as_str(), &document.collection, &document.id, document.revision.cast_signed(), &document.body))?;
    Ok(Ok(()))
}

#[cfg(test)]
impl Writer {
    pub(super) fn set_page_limit(&self, pages: u32) {
        self.connection.execute_batch(&format!("PRAGMA max_page_count = {pages}")).unwrap();
    }

    pub(super) fn project_some(&mut self, most: usize) {
        self.sweep = Sweep::begin(self.frames.iter().take(most).cloned().collect());
        self.carry_over(usize::MAX).unwrap();
    }

    /// So many rows of a sweep, which begins if none has; whether it is through.
    pub(super) fn sweep_on(&mut self, rows: usize) -> bool {
        self.carry_over(rows).unwrap();
        self.sweep.is_none()
    }

    pub(super) fn look_after(&mut self) {
        self.look_after_checkpoints();
    }

    pub(super) fn project_if_due(&mut self) {
        if self.rows > WAITING {
            self.carry_on(usize::MAX);
        }
    }

    pub(super) fn fail_a_sync(&mut self) {
        self.tail.fail_once();
    }

    pub(super) fn set_room(&mut self, bytes: u64) {
        self.tail.set_room(bytes);
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("position", &self.position).field("projected", &self.projected).finish_non_exhaustive()
    }
}
