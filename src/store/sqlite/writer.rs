//! The one writer: runs waiting decisions in order, commits once for all of them with a sync, then answers and tells.

use super::super::memory::{Memory, Name, name_of};
use super::super::{Announce, Clock, Committed, Decided, Decision, Document, Health, Retry, SessionRow, StoreError};
use super::projection::{Sweep, Synchronous, set_synchronous};
use super::{OpenError, projection, removal, row};
use crate::domain::{AgentState, Consumer, Conversation, Draft, Millis, Outcome, ScopeKey, Sight, View};
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId, UserId};
use tokio::sync::{oneshot, watch};

/// Most decisions in one commit: bounds how long the first of them waits.
const BATCH: usize = 1_024;
/// Rows projected in one go when nothing waits.
const CHUNK: usize = 512;
/// Rows projected between two commits at least: bounds how long a decision waits behind them.
const SLICE: usize = 128;
/// Entries that may wait to be projected; beyond it each commit is followed by some projecting, waiting decisions or not. The
/// more they are, the less each costs.
const TAIL: u64 = 12_288;
/// How long the writer waits for the next decision before it projects what is left.
const QUIET: Duration = Duration::from_millis(5);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub(super) enum Job {
    Decide(Box<Decision>, Answer<Decided>),
    KeepDocument(Document, Answer<()>),
    Write(Write, Durability, Answer<()>),
    Remove(ConversationId, Millis, removal::Taken),
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
            Self::Decide(_, answer) => drop(answer.send(Err(error))),
            Self::Remove(.., answer) => drop(answer.send(Err(error))),
            Self::KeepDocument(_, answer) | Self::Write(.., answer) | Self::Probe(answer) => drop(answer.send(Err(error))),
        }
    }

    fn needs_sync(&self) -> bool {
        !matches!(self, Self::Write(_, Durability::Written, _))
    }
}

/// An answer that waits for the commit.
enum Waiting {
    Decided(Answer<Decided>, Result<Decided, StoreError>),
    /// Refused by what was committed before the batch: it stands whatever becomes of the batch.
    Refused(Answer<Decided>, StoreError),
    Done(Answer<()>),
    Removed(removal::Taken, bool),
    /// Not done, for a reason that stands whatever becomes of the batch.
    NotDone(Answer<()>, StoreError),
}

pub(super) struct Writer {
    connection: Connection,
    memory: Arc<Memory>,
    clock: Clock,
    announce: Announce,
    health: watch::Sender<Health>,
    position: u64,
    projected: u64,
    sweep: Option<Sweep>,
    numbers: HashMap<AccountId, i64>,
}

/// What a batch has made so far; nobody else sees it before the commit.
#[derive(Default)]
struct Staged {
    sights: Vec<Arc<Sight>>,
    conversations: HashMap<ConversationId, Conversation>,
    consumers: HashMap<(AccountId, ConsumerId), Consumer>,
    applied: HashMap<ConversationId, u64>,
    applied_consumers: HashMap<(AccountId, ConsumerId), u64>,
    numbers: HashMap<AccountId, i64>,
    /// Conversations as they were before the batch.
    before: HashMap<ConversationId, Conversation>,
    agents: HashMap<(AccountId, UserId), AgentState>,
    /// By how much the batch has changed the number of an agent's conversations.
    loads: HashMap<(AccountId, UserId), i64>,
    names: HashMap<Name, ConversationId>,
    /// Conversations that the batch takes away, and that memory may still have.
    removed: HashSet<ConversationId>,
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
    conversations: HashMap<ConversationId, Conversation>,
    consumers: HashMap<(AccountId, ConsumerId), Consumer>,
    numbers: HashMap<AccountId, i64>,
    agents: HashMap<(AccountId, UserId), AgentState>,
    loads: HashMap<(AccountId, UserId), usize>,
    names: HashMap<Name, ConversationId>,
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
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        memory: Arc<Memory>,
        clock: Clock,
        announce: Announce,
        health: watch::Sender<Health>,
    ) -> Result<Self, OpenError> {
        let projected = projection::cursor(&connection)?;
        let position = projection::catch_up(&connection, &memory, projected)?;
        if position > projected {
            tracing::info!(entries = position - projected, "projections go on from the journal");
        }
        Ok(Self { connection, memory, clock, announce, health, position, projected, sweep: None, numbers: HashMap::new() })
    }

    /// Runs until every sender is gone, or a sync has failed. `waiting` counts what was handed in and is not taken yet.
    pub(super) fn run(mut self, queue: &Receiver<Job>, waiting: &AtomicUsize) {
        let taken = |jobs: usize| {
            // It may be counted a moment after it was taken.
            let before = waiting.fetch_sub(jobs, Ordering::Relaxed);
            metrics::gauge!("tieline_store_waiting").set(before.wrapping_sub(jobs).cast_signed().max(0) as f64);
        };
        loop {
            let job = if self.projected < self.position {
                match queue.recv_timeout(QUIET) {
                    Ok(job) => Some(job),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        self.project(CHUNK);
                        None
                    }
                }
            } else {
                match queue.recv() {
                    Ok(job) => Some(job),
                    Err(_) => break,
                }
            };
            if let Some(first) = job {
                let mut batch = vec![first];
                batch.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(BATCH - 1));
                taken(batch.len());
                let before = self.position;
                self.step(batch);
                // Under load nobody rests, and what is not projected must not grow: a sweep that has begun gets on faster than
                // it is added to. There are two rows or so for each entry.
                if !self.has_failed() && (self.sweep.is_some() || self.position - self.projected > TAIL) {
                    let added = usize::try_from(self.position - before).unwrap_or(usize::MAX);
                    self.project(SLICE.max(added.saturating_mul(4)));
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
        while self.projected < self.position && self.project(CHUNK) {}
        // The whole database in one file, for whoever copies it while nothing runs.
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the write-ahead log stays beside the database");
        }
    }

    fn has_failed(&self) -> bool {
        *self.health.borrow() == Health::Failed
    }

    /// Decides, commits, answers and tells about one batch.
    pub(super) fn step(&mut self, batch: Vec<Job>) {
        let size = batch.len();
        let began = Instant::now();
        match self.commit(batch) {
            Ok((staged, waiting)) => {
                metrics::histogram!("tieline_store_commit_seconds").record(began.elapsed().as_secs_f64());
                metrics::histogram!("tieline_store_commit_decisions").record(size as f64);
                // From a full disk there is a way back, by something that was really written; from a failed sync none.
                let has_written = !staged.sights.is_empty() || waiting.iter().any(|answer| matches!(answer, Waiting::Done(_)));
                self.health.send_if_modified(|health| {
                    has_written && *health == Health::DiskFull && std::mem::replace(health, Health::Writing) == Health::DiskFull
                });
                let committed = self.publish(staged);
                for answer in waiting {
                    match answer {
                        Waiting::Decided(answer, result) => drop(answer.send(result)),
                        Waiting::Refused(answer, refused) => drop(answer.send(Err(refused))),
                        Waiting::Done(answer) => drop(answer.send(Ok(()))),
                        Waiting::Removed(answer, is_taken) => drop(answer.send(Ok(is_taken))),
                        Waiting::NotDone(answer, why) => drop(answer.send(Err(why))),
                    }
                }
                if !committed.sights.is_empty() {
                    (self.announce)(committed);
                }
            }
            Err((error, waiting)) => {
                let failure = self.failed(&error);
                for answer in waiting {
                    match answer {
                        Waiting::Refused(answer, refused) => drop(answer.send(Err(refused))),
                        Waiting::Decided(answer, _) => drop(answer.send(Err(failure.clone()))),
                        Waiting::Done(answer) => drop(answer.send(Err(failure.clone()))),
                        Waiting::Removed(answer, _) => drop(answer.send(Err(failure.clone()))),
                        Waiting::NotDone(answer, why) => drop(answer.send(Err(why))),
                    }
                }
            }
        }
    }

    fn commit(&mut self, batch: Vec<Job>) -> Result<(Staged, Vec<Waiting>), (rusqlite::Error, Vec<Waiting>)> {
        let is_synced = batch.iter().any(Job::needs_sync);
        if is_synced {
            return self.transact(batch);
        }
        if let Err(error) = set_synchronous(&self.connection, Synchronous::Normal) {
            return Err((error, batch.into_iter().map(unanswered).collect()));
        }
        let done = self.transact(batch);
        // Without it the next ack would not mean on disk.
        match set_synchronous(&self.connection, Synchronous::Full) {
            Ok(()) => done,
            Err(error) => Err((error, done.map_or_else(|(_, waiting)| waiting, |(_, waiting)| waiting))),
        }
    }

    /// Runs the jobs of a batch in one transaction.
    fn transact(&mut self, batch: Vec<Job>) -> Result<(Staged, Vec<Waiting>), (rusqlite::Error, Vec<Waiting>)> {
        let mut waiting = Vec::with_capacity(batch.len());
        let mut staged = Staged::default();
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            waiting.extend(batch.into_iter().map(unanswered));
            return Err((error, waiting));
        }
        let mut failure = None;
        for job in batch {
            if failure.is_some() {
                waiting.push(unanswered(job));
                continue;
            }
            match job {
                Job::Decide(decision, answer) => {
                    let result = self.decide(&decision, &mut staged);
                    match result {
                        Ok(Err(refused)) if staged.sights.is_empty() => waiting.push(Waiting::Refused(answer, refused)),
                        Ok(result) => waiting.push(Waiting::Decided(answer, result)),
                        Err(error) => {
                            failure = Some(error);
                            waiting.push(without_answer(answer));
                        }
                    }
                }
                Job::KeepDocument(document, answer) => match keep_document(&self.connection, &document) {
                    Ok(Ok(())) => waiting.push(Waiting::Done(answer)),
                    Ok(Err(why)) => waiting.push(Waiting::NotDone(answer, why)),
                    Err(error) => {
                        failure = Some(error);
                        waiting.push(Waiting::Done(answer));
                    }
                },
                Job::Write(write, _, answer) => {
                    failure = write(&self.connection).err();
                    waiting.push(Waiting::Done(answer));
                }
                Job::Remove(conversation, before, answer) => {
                    let place = (self.position + staged.sights.len() as u64 + 1, (self.clock)());
                    // What the batch itself has changed is not old.
                    let taken = if staged.conversations.contains_key(&conversation) || staged.applied.contains_key(&conversation) {
                        Ok(None)
                    } else {
                        removal::begin(&self.connection, &self.memory, &conversation, before, place)
                    };
                    match taken {
                        Ok(taken) => {
                            waiting.push(Waiting::Removed(answer, taken.is_some()));
                            staged.removed.extend(taken.is_some().then_some(conversation));
                            staged.sights.extend(taken.map(Arc::new));
                        }
                        // It stays, and the others go.
                        Err(error) if error.sqlite_error_code().is_none() => {
                            tracing::error!(%error, %conversation, "a row cannot be read");
                            waiting.push(Waiting::Removed(answer, false));
                        }
                        Err(error) => {
                            failure = Some(error);
                            waiting.push(Waiting::Removed(answer, false));
                        }
                    }
                }
                Job::Probe(answer) => {
                    failure = projection::probe(&self.connection, (self.clock)(), *self.health.borrow() == Health::DiskFull).err();
                    waiting.push(Waiting::Done(answer));
                }
            }
        }
        match failure.map_or_else(|| self.connection.execute_batch("COMMIT"), Err) {
            Ok(()) => Ok((staged, waiting)),
            Err(error) => {
                if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                    tracing::debug!(%error, "nothing to roll back");
                }
                Err((error, waiting))
            }
        }
    }

    /// One decision. The outer error is the store's and ends the batch, the inner one is the decision's own.
    fn decide(&mut self, decision: &Decision, staged: &mut Staged) -> rusqlite::Result<Result<Decided, StoreError>> {
        if let Some(retry) = &decision.retry
            && let Some(known) = self.known(&decision.account, retry)?
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
        let Scope { conversations: loaded, .. } = scope;
        staged.decisions.extend(sights.first().map(|first| (first.position, decision.received)));
        for sight in &sights {
            self.connection.prepare_cached("INSERT INTO journal (position, at, account, entry) VALUES (?1, ?2, ?3, ?4)")?.execute((
                sight.position.cast_signed(),
                sight.at,
                sight.account.as_str(),
                projection::to_json(&sight.entry)?,
            ))?;
            if let Some(id) = sight.entry.conversation() {
                staged.applied.insert(id.clone(), sight.position);
            }
            if let Some(consumer) = projection::consumer_of(sight) {
                staged.applied_consumers.insert(consumer, sight.position);
            }
        }
        if let Some(retry) = &decision.retry {
            self.remember(&decision.account, retry, &outcomes)?;
        }
        if let (Some((conversation, fingerprint)), true) = (&decision.resend, stored > 0) {
            self.connection
                .prepare_cached(
                    "INSERT INTO resends (conversation, fingerprint, stored) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET stored = stored + excluded.stored",
                )?
                .execute((conversation.as_str(), fingerprint.as_slice(), stored.cast_signed()))?;
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
        staged.sights.extend(sights.into_iter().map(Arc::new));
        Ok(Ok(Decided { outcomes, replayed: false }))
    }

    fn known(&self, account: &AccountId, retry: &Retry) -> rusqlite::Result<Option<Result<Decided, StoreError>>> {
        let found: Option<(Vec<u8>, String)> = self
            .connection
            .prepare_cached("SELECT fingerprint, answer FROM retries WHERE account = ?1 AND sender = ?2 AND key = ?3")?
            .query_row((account.as_str(), &retry.sender, &retry.key), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(found.map(|(fingerprint, answer)| {
            if fingerprint != retry.fingerprint {
                return Err(StoreError::KeyReused);
            }
            let outcomes: Vec<Outcome> = serde_json::from_str(&answer).map_err(|error| {
                tracing::error!(%error, "a stored answer cannot be read");
                StoreError::Internal
            })?;
            Ok(Decided { outcomes, replayed: true })
        }))
    }

    fn remember(&self, account: &AccountId, retry: &Retry, outcomes: &[Outcome]) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT INTO retries (account, sender, key, fingerprint, answer, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute((
                account.as_str(),
                &retry.sender,
                &retry.key,
                retry.fingerprint.as_slice(),
                projection::to_json(&outcomes)?,
                (self.clock)(),
            ))?;
        Ok(())
    }

    fn scope<'s>(&mut self, decision: &Decision, staged: &'s Staged) -> rusqlite::Result<Scope<'s>> {
        let mut scope = Scope {
            staged,
            conversations: HashMap::new(),
            consumers: HashMap::new(),
            numbers: HashMap::new(),
            agents: HashMap::new(),
            loads: HashMap::new(),
            names: HashMap::new(),
            resends: 0,
        };
        for key in &decision.scope {
            match key {
                ScopeKey::Conversation(id) if staged.removed.contains(id) => {}
                ScopeKey::Conversation(id) => {
                    if let Some(state) = self.load(id)? {
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
        if let Some((conversation, fingerprint)) = &decision.resend {
            let stored: Option<i64> = self
                .connection
                .prepare_cached("SELECT stored FROM resends WHERE conversation = ?1 AND fingerprint = ?2")?
                .query_row((conversation.as_str(), fingerprint.as_slice()), |row| row.get(0))
                .optional()?;
            scope.resends = stored.unwrap_or(0).cast_unsigned();
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
    fn publish(&mut self, staged: Staged) -> Committed {
        let Staged {
            sights, conversations, consumers, applied, applied_consumers, numbers, mut before, agents, decisions, removed, ..
        } = staged;
        self.position += sights.len() as u64;
        self.numbers.extend(numbers);
        let mut changes = Vec::new();
        let mut memory = self.memory.write();
        for sight in &sights {
            memory.push(sight.clone());
        }
        if !removed.is_empty() {
            removed.iter().for_each(|id| memory.forget(id));
            // What it still has of them must not be written any more.
            self.sweep = None;
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
        metrics::gauge!("tieline_store_unprojected").set((self.position - self.projected) as f64);
        Committed { sights, changes, decisions }
    }

    /// Brings the projections on by so many rows; whether that worked.
    fn project(&mut self, rows: usize) -> bool {
        let began = Instant::now();
        let Some(mut sweep) = self.sweep.take().or_else(|| Sweep::begin(&self.memory, self.projected)) else { return true };
        let done = sweep.step(&mut self.connection, &self.memory, rows);
        match done {
            Ok(Some(cursor)) => {
                self.projected = cursor;
                metrics::gauge!("tieline_store_unprojected").set((self.position - self.projected) as f64);
            }
            Ok(None) => self.sweep = Some(sweep),
            Err(error) => {
                self.sweep = Some(sweep);
                self.failed(&error);
                // What is not projected stays in memory; a full disk is tried again, but not in a tight loop.
                std::thread::sleep(Duration::from_millis(50));
                return false;
            }
        }
        metrics::histogram!("tieline_store_projection_seconds").record(began.elapsed().as_secs_f64());
        true
    }

    /// What a failed write means for those who wait, and for the store.
    fn failed(&mut self, error: &rusqlite::Error) -> StoreError {
        metrics::counter!("tieline_store_failures_total").increment(1);
        let (health, answer) = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => (Health::DiskFull, StoreError::DiskFull),
            // A write that fails before the sync, as one over a file size limit or a quota does, has committed nothing.
            _ if is_write_refused(error) => (Health::DiskFull, StoreError::DiskFull),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (*self.health.borrow(), StoreError::Busy),
            // A row that cannot be understood says nothing about the disk, and the batch was rolled back.
            None => (*self.health.borrow(), StoreError::Internal),
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

fn is_write_refused(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE)
}

/// Waits for a commit that does not come, and so gets the failure instead of this empty answer.
fn without_answer(answer: Answer<Decided>) -> Waiting {
    Waiting::Decided(answer, Ok(Decided { outcomes: Vec::new(), replayed: false }))
}

fn unanswered(job: Job) -> Waiting {
    match job {
        Job::Decide(_, answer) => without_answer(answer),
        Job::KeepDocument(_, answer) | Job::Write(.., answer) | Job::Probe(answer) => Waiting::Done(answer),
        Job::Remove(.., answer) => Waiting::Removed(answer, false),
    }
}

pub(super) fn keep_session(connection: &Connection, row: &SessionRow) -> rusqlite::Result<()> {
    connection
        // What has ended stays so, whatever a refresh that began before wants to write.
        .prepare_cached(
            "INSERT INTO sessions (id, account, agent, csrf, made_with, expires, ended) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, ended = max(ended, excluded.ended)",
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
        if let Some(mut sweep) = Sweep::of_some(&self.memory, self.projected, most) {
            self.projected = sweep.step(&mut self.connection, &self.memory, usize::MAX).unwrap().unwrap();
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("position", &self.position).field("projected", &self.projected).finish_non_exhaustive()
    }
}
