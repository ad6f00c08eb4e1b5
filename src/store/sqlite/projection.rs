//! Projections: what is derived from the journal, brought up to date behind the acks.

use super::super::memory::{At, Inner};
use super::row;
use super::{Memory, OpenError};
use crate::domain::{AgentState, Consumer, Conversation, Entry, OpenState, Sight};
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::collections::HashSet;
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId};

fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?
        .execute([key, value])?;
    Ok(())
}

/// Marks a copy: whoever starts on it goes a way of its own, and the log needs another name.
pub(super) fn mark_as_copy(connection: &Connection) -> rusqlite::Result<()> {
    set_meta(connection, "copy", "1")
}

/// Gives the log a new name, if it is a copy that nobody started on before.
pub(super) fn rename_copy(connection: &Connection) -> rusqlite::Result<()> {
    if meta(connection, "copy")?.is_none() {
        return Ok(());
    }
    // Both or neither: a name without the mark would be the original's.
    connection.execute_batch("BEGIN; DELETE FROM meta WHERE key IN ('copy', 'epoch'); COMMIT")
}

/// The name of this log, given on its first day.
pub(super) fn epoch(connection: &Connection) -> rusqlite::Result<String> {
    if let Some(epoch) = meta(connection, "epoch")? {
        return Ok(epoch);
    }
    let epoch = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
    set_meta(connection, "epoch", &epoch)?;
    Ok(epoch)
}

/// A write that changes nothing anybody reads: as small as can be, or, to see whether a disk that was full has room again,
/// as large as a message.
pub(super) fn probe(connection: &Connection, at: i64, was_full: bool) -> rusqlite::Result<()> {
    let padding = if was_full { 64 * 1024 } else { 0 };
    set_meta(connection, "probe", &format!("{at}{:padding$}", ""))
}

/// The position up to which the projections are on disk.
pub(super) fn cursor(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(meta(connection, "projected")?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Reads what the projections lack into memory: after a crash a bounded tail, after a good end nothing.
/// Returns the position of the last entry.
pub(super) fn catch_up(connection: &Connection, memory: &Memory, cursor: u64) -> Result<u64, OpenError> {
    let mut memory = memory.write();
    memory.start_at(cursor);
    let mut statement = connection.prepare("SELECT position, at, account, entry FROM journal WHERE position > ?1 ORDER BY position")?;
    let mut rows = statement.query([cursor.cast_signed()])?;
    while let Some(next) = rows.next()? {
        let sight = row::sight(next)?;
        if sight.position != memory.head() + 1 {
            return Err(OpenError::Journal(format!("after position {} comes {}", memory.head(), sight.position)));
        }
        fold(connection, &mut memory, sight)?;
    }
    Ok(memory.head())
}

/// Adds one entry to the states it names, which are read from disk on first need.
fn fold(connection: &Connection, memory: &mut Inner, sight: Arc<Sight>) -> Result<(), OpenError> {
    let mut sight = Arc::unwrap_or_clone(sight);
    let (position, at) = (sight.position, sight.at);
    if let Some(id) = sight.entry.conversation() {
        let known = match memory.dirty(id) {
            Some(at) => Some(at.clone()),
            None => row::conversation(connection, id)?,
        };
        let At { state, applied } = folded(known, &sight, position, at)
            .ok_or_else(|| OpenError::Journal(format!("position {position} changes a conversation that was never opened")))?;
        sight.audience = Some(state.audience.clone());
        memory.put(id.clone(), state, applied);
    }
    if let Some(key) = consumer_of(&sight) {
        let known = match memory.dirty_consumer(&key) {
            Some(at) => Some(at.clone()),
            None => row::consumer(connection, &key)?,
        };
        let mut known = known.unwrap_or_else(|| At { state: Consumer::unknown(&key.0, &key.1), applied: 0 });
        if known.applied < position {
            known.state.apply(&sight.entry);
            known.applied = position;
        }
        memory.put_consumer(key, known.state, known.applied);
    }
    if let Some(state) = AgentState::of(&sight.account, &sight.entry, at, position) {
        memory.put_agent(state);
    }
    memory.push(Arc::new(sight));
    Ok(())
}

/// A state row may already hold entries behind the cursor, so each says which it holds.
fn folded(known: Option<At<Conversation>>, sight: &Sight, position: u64, at: i64) -> Option<At<Conversation>> {
    match (known, &sight.entry) {
        (Some(known), _) if known.applied >= position => Some(known),
        (_, Entry::Opened(opened)) => Some(At { state: Conversation::open(&sight.account, opened, at, position), applied: position }),
        (Some(mut known), Entry::Published(message)) => {
            known.state.add_message(message, at, position);
            known.applied = position;
            Some(known)
        }
        (Some(mut known), Entry::Changed { changes, .. }) => {
            known.state.change(changes, at, position);
            known.applied = position;
            Some(known)
        }
        (known, _) => known,
    }
}

/// The consumer whose state an entry changes.
pub(super) fn consumer_of(sight: &Sight) -> Option<(AccountId, ConsumerId)> {
    let consumer = match &sight.entry {
        Entry::ConsumerSeen { consumer, .. } | Entry::ClaimsSeen { consumer, .. } | Entry::ProfileSet { consumer, .. } => consumer,
        Entry::Opened(opened) => &opened.consumer,
        Entry::Published(_) | Entry::Changed { .. } | Entry::AgentStateSet { .. } | Entry::Removed { .. } => return None,
    };
    Some((sight.account.clone(), consumer.clone()))
}

/// Bringing the projections on to a position, in small transactions between which decisions are taken.
///
/// Rows are written sorted, so that what lies together on disk is written together, and a conversation's state once,
/// however many of its entries there are: that makes a long sweep much cheaper for each entry than many short ones. Until it
/// is through the cursor stands; rows that are ahead of it hurt nobody, because memory is asked first and each state says
/// which entries it holds. If a step is lost, the journal still has what it held: it need not be synced.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Up to here.
    target: u64,
    /// Entries of applications' feeds, in journal order.
    feeds: Vec<Arc<Sight>>,
    /// All entries, by conversation.
    sights: Vec<Arc<Sight>>,
    /// Conversations of which more than events is new.
    changed: HashSet<ConversationId>,
    /// How many of `feeds`, and then of `sights`, are written.
    done: usize,
}

impl Sweep {
    /// Of everything behind a cursor; nothing, if there is nothing.
    pub(super) fn begin(memory: &Memory, cursor: u64) -> Option<Self> {
        Self::of_some(memory, cursor, usize::MAX)
    }

    /// Of so many entries behind a cursor.
    pub(super) fn of_some(memory: &Memory, cursor: u64, most: usize) -> Option<Self> {
        let mut sights: Vec<Arc<Sight>> = memory.read().after(cursor)?.take(most).cloned().collect();
        let target = sights.last()?.position;
        let feeds = sights.iter().filter(|sight| app_of(sight).is_some()).cloned().collect();
        sights.sort_by(|one, other| one.entry.conversation().cmp(&other.entry.conversation()).then(one.position.cmp(&other.position)));
        let changes = sights.iter().filter(|sight| sight.message().is_none());
        let changed = changes.filter_map(|sight| sight.entry.conversation().cloned()).collect();
        Some(Self { target, feeds, sights, changed, done: 0 })
    }

    /// Writes about so many rows, in one transaction. The new cursor, when that was the last of it.
    pub(super) fn step(&mut self, connection: &mut Connection, memory: &Memory, most: usize) -> rusqlite::Result<Option<u64>> {
        let all = self.feeds.len() + self.sights.len();
        let to = self.done.saturating_add(most).min(all);
        set_synchronous(connection, Synchronous::Normal)?;
        let written = self.write(connection, memory, to);
        set_synchronous(connection, Synchronous::Full)?;
        written?;
        self.done = to;
        if to < all {
            return Ok(None);
        }
        let conversations: Vec<ConversationId> = runs(&self.sights).cloned().collect();
        let consumers: Vec<(AccountId, ConsumerId)> = unique(self.sights.iter().filter_map(|sight| consumer_of(sight)));
        memory.write().projected(self.target, &conversations, &consumers);
        Ok(Some(self.target))
    }

    fn write(&self, connection: &mut Connection, memory: &Memory, to: usize) -> rusqlite::Result<()> {
        let place = |number: usize| number.saturating_sub(self.feeds.len());
        let feeds = &self.feeds[self.done.min(self.feeds.len())..to.min(self.feeds.len())];
        let sights = &self.sights[place(self.done)..place(to)];
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut feed = transaction.prepare_cached("INSERT OR IGNORE INTO feeds (account, app, position) VALUES (?1, ?2, ?3)")?;
        for sight in feeds {
            if let Some(app) = app_of(sight) {
                feed.execute((sight.account.as_str(), app.as_str(), sight.position.cast_signed()))?;
            }
        }
        drop(feed);
        sights.iter().try_for_each(|sight| write_entry(&transaction, sight))?;
        // A conversation's state is written with the last of its entries.
        let after = self.sights.get(place(to)).and_then(|sight| sight.entry.conversation());
        let touched = runs(sights).filter(|id| after != Some(*id));
        let states: Vec<At<Conversation>> = {
            let memory = memory.read();
            touched.filter_map(|id| memory.dirty(id).cloned()).collect()
        };
        for at in &states {
            if self.changed.contains(&at.state.details.id) || !write_state(&transaction, at)? {
                write_conversation(&transaction, at)?;
            }
        }
        let consumers = unique(sights.iter().filter_map(|sight| consumer_of(sight)));
        let states: Vec<At<Consumer>> = {
            let memory = memory.read();
            consumers.iter().filter_map(|key| memory.dirty_consumer(key).cloned()).collect()
        };
        for At { state, applied } in &states {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO consumers (account, id, applied, state) VALUES (?1, ?2, ?3, ?4)")?
                .execute((state.account.as_str(), state.id.as_str(), applied.cast_signed(), to_json(state)?))?;
        }
        if to == self.feeds.len() + self.sights.len() {
            set_meta(&transaction, "projected", &self.target.to_string())?;
        }
        transaction.commit()
    }
}

/// How a commit is kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Synchronous {
    /// Written; the next full one takes it along.
    Normal,
    /// On disk.
    Full,
}

pub(super) fn set_synchronous(connection: &Connection, mode: Synchronous) -> rusqlite::Result<()> {
    connection.execute_batch(match mode {
        Synchronous::Normal => "PRAGMA synchronous = NORMAL",
        Synchronous::Full => "PRAGMA synchronous = FULL",
    })
}

/// The conversations of entries that are sorted by them, each once.
fn runs(sights: &[Arc<Sight>]) -> impl Iterator<Item = &ConversationId> {
    let by_conversation = sights.chunk_by(|one, other| one.entry.conversation() == other.entry.conversation());
    by_conversation.filter_map(|run| run.first()?.entry.conversation())
}

fn unique<T: Clone + Eq + std::hash::Hash>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    all.filter(|one| seen.insert(one.clone())).collect()
}

/// The application whose feed an entry belongs to.
fn app_of(sight: &Sight) -> Option<&ClientId> {
    sight.audience.as_ref()?.app.as_ref()
}

/// What an entry adds beside the states.
fn write_entry(transaction: &Transaction<'_>, sight: &Sight) -> rusqlite::Result<()> {
    let position = sight.position.cast_signed();
    if let Some(message) = sight.message() {
        transaction.prepare_cached("INSERT OR IGNORE INTO events (dialog, sequence, position) VALUES (?1, ?2, ?3)")?.execute((
            message.dialog.as_str(),
            message.sequence.cast_signed(),
            position,
        ))?;
        if let Some(file) = &message.file {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO file_uses (account, path, conversation, whisper) VALUES (?1, ?2, ?3, ?4)")?
                .execute((sight.account.as_str(), file, message.conversation.as_str(), message.whisper))?;
        }
    } else if let Some(conversation) = sight.entry.conversation() {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO changes (conversation, position) VALUES (?1, ?2)")?
            .execute((conversation.as_str(), position))?;
    }
    if let Some(state) = AgentState::of(&sight.account, &sight.entry, sight.at, sight.position) {
        transaction.prepare_cached("INSERT OR REPLACE INTO agents (account, agent, applied, state) VALUES (?1, ?2, ?3, ?4)")?.execute((
            state.account.as_str(),
            state.agent.as_str(),
            position,
            to_json(&state)?,
        ))?;
    }
    Ok(())
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Writes a conversation of which only events are new, where its row says nothing else that is not so any more: then no index
/// is touched. Whether that was all.
fn write_state(transaction: &Transaction<'_>, At { state, applied }: &At<Conversation>) -> rusqlite::Result<bool> {
    let details = &state.details;
    let written = transaction
        .prepare_cached(
            "UPDATE conversations SET applied = ?2, state = ?3
             WHERE id = ?1 AND consumer = ?4 AND open = ?5 AND updated = ?6 AND wakes IS ?7 AND pending = ?8",
        )?
        .execute((
            details.id.as_str(),
            applied.cast_signed(),
            to_json(state)?,
            details.consumer.as_str(),
            details.stage == OpenState::Open,
            state.updated,
            state.wakes(),
            state.is_pending(),
        ))?;
    Ok(written == 1)
}

fn write_conversation(transaction: &Transaction<'_>, At { state, applied }: &At<Conversation>) -> rusqlite::Result<()> {
    let details = &state.details;
    let open = details.stage == OpenState::Open;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO conversations (id, account, number, consumer, open, updated, wakes, pending, binding, applied, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute((
            details.id.as_str(),
            details.account.as_str(),
            details.number,
            details.consumer.as_str(),
            open,
            state.updated,
            state.wakes(),
            state.is_pending(),
            details.binding.as_deref(),
            applied.cast_signed(),
            to_json(state)?,
        ))?;
    transaction.prepare_cached("DELETE FROM conversation_agents WHERE conversation = ?1")?.execute([details.id.as_str()])?;
    let busy: Vec<_> = details.occupies().collect();
    let agents: HashSet<_> =
        details.participants.iter().filter_map(|participant| participant.person.user()).chain(busy.iter().copied()).collect();
    for user in agents {
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO conversation_agents (account, agent, open, conversation, busy) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((details.account.as_str(), user.as_str(), open, details.id.as_str(), busy.contains(&user)))?;
    }
    Ok(())
}
