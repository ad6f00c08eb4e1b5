//! Projections: the journal, carried over from the tail, and what is derived from it, brought up to date behind the acks.

use super::super::Retry;
use super::super::memory::{At, Inner};
use super::tail::{Frame, Kept, Resent};
use super::{Memory, OpenError, erasure, lookup, row, run};
use crate::domain::{AgentState, Change, Consumer, Conversation, Entry, Millis, OpenState, Sight};
use crate::map::{Map, Set};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction};
use std::path::Path;
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId};

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

/// Bytes of a write that is to see whether a disk that was full has room again: as large as a message.
pub(super) const PROBE: usize = 64 * 1024;

/// A write that changes nothing anybody reads: as small as can be, or as large as is to be known.
pub(super) fn probe(connection: &Connection, at: i64, was_full: bool) -> rusqlite::Result<()> {
    // Not by a width, which has to be less than 64 Ki.
    let padding = " ".repeat(if was_full { PROBE } else { 0 });
    set_meta(connection, "probe", &format!("{at}{padding}"))
}

/// How far the projections on disk have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The last frame of the tail that is in them.
    pub(super) frame: u64,
    /// The position of the last entry that is in them.
    pub(super) position: u64,
}

pub(super) fn cursor(connection: &Connection) -> Result<Cursor, OpenError> {
    let number = |key| match meta(connection, key)? {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| OpenError::Journal(format!("{key:?} is {text:?}, which is no number"))),
    };
    Ok(Cursor { frame: number("frame")?, position: number("projected")? })
}

/// Reads into memory what the projections lack: after a crash a bounded tail, after a good end nothing. The frames are those
/// behind the cursor; they come back with what their entries stand for, among them the entries that are in the database
/// without a frame.
pub(super) fn catch_up(connection: &Connection, memory: &Memory, cursor: Cursor, frames: Vec<Frame>) -> Result<Vec<Arc<Frame>>, OpenError> {
    let mut memory = memory.write();
    memory.start_at(cursor.position);
    let mut whole = Vec::with_capacity(frames.len());
    let mut number = cursor.frame;
    for frame in frames {
        while memory.head() + 1 < frame.position {
            let Some(row) = entry_of_row(connection, memory.head() + 1)? else {
                return Err(OpenError::Journal(format!("after position {} comes {}", memory.head(), frame.position)));
            };
            whole.push(fold_all(connection, &mut memory, row_frame(number, row)?)?);
        }
        if frame.position != memory.head() + 1 {
            return Err(OpenError::Journal(format!("after position {} comes {}", memory.head(), frame.position)));
        }
        number = frame.number;
        whole.push(fold_all(connection, &mut memory, frame)?);
    }
    while let Some(row) = entry_of_row(connection, memory.head() + 1)? {
        whole.push(fold_all(connection, &mut memory, row_frame(number, row)?)?);
    }
    // A removal behind entries of which there is no frame: they were acked, and their places must not be given to others.
    let newest: Option<i64> = connection.query_row("SELECT max(position) FROM journal", [], |row| row.get(0))?;
    match newest.map(i64::cast_unsigned) {
        Some(newest) if newest > memory.head() => {
            Err(OpenError::Journal(format!("after position {} comes {newest}; what is between them is in no file", memory.head())))
        }
        _ => Ok(whole),
    }
}

fn entry_of_row(connection: &Connection, position: u64) -> rusqlite::Result<Option<Arc<Sight>>> {
    let sql = "SELECT position, at, account, entry FROM journal WHERE position = ?1";
    connection.prepare_cached(sql)?.query_row([position.cast_signed()], row::sight).optional()
}

fn row_frame(number: u64, row: Arc<Sight>) -> Result<Frame, OpenError> {
    Frame::of_row(number, row).map_err(|error| OpenError::Journal(error.to_string()))
}

fn fold_all(connection: &Connection, memory: &mut Inner, mut frame: Frame) -> Result<Arc<Frame>, OpenError> {
    for sight in &mut frame.sights {
        *sight = fold(connection, memory, sight.clone())?;
    }
    Ok(Arc::new(frame))
}

/// Adds one entry to the states it names, which are read from disk on first need.
fn fold(connection: &Connection, memory: &mut Inner, sight: Arc<Sight>) -> Result<Arc<Sight>, OpenError> {
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
            known.state.apply(&sight.entry, at);
            known.applied = position;
        }
        memory.put_consumer(key, known.state, known.applied);
    }
    if let Some(state) = AgentState::of(&sight.account, &sight.entry, at, position) {
        memory.put_agent(state);
    }
    let sight = Arc::new(sight);
    memory.push(sight.clone());
    Ok(sight)
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

/// Carrying frames of the tail over into the database, in small transactions between which decisions are taken.
///
/// Rows are written sorted, so that what lies together on disk is written together, and a conversation's state once,
/// however many of its entries there are: that makes a long sweep much cheaper for each entry than many short ones. Until it
/// is through the cursor stands; rows that are ahead of it hurt nobody, because memory is asked first and each state says
/// which entries it holds. If a step is lost, the tail still has what it held: it need not be synced.
#[derive(Debug)]
pub(super) struct Sweep {
    target: Cursor,
    frames: Vec<Arc<Frame>>,
    /// Conversations of which more than events is new.
    changed: Set<ConversationId>,
    conversations: Vec<ConversationId>,
    consumers: Vec<(AccountId, ConsumerId)>,
    rows: Vec<Row>,
    /// How many of `rows` are written.
    done: usize,
}

/// Answers in one frame have places of their own: more than there are decisions in a batch.
const KEPT: u64 = 1 << 16;

/// What is written in one go.
#[derive(Debug)]
enum Row {
    /// An entry, by its frame and its place there.
    Entry(usize, usize),
    Feed(AccountId, ClientId, Vec<u64>),
    /// Events of a dialog, from a number on.
    Events(DialogId, u64, Vec<u64>),
    /// What an entry adds beside those.
    Beside(Arc<Sight>),
    Conversation(ConversationId),
    Consumer((AccountId, ConsumerId)),
    /// By its place in the tail.
    Kept(u64, Arc<Kept>),
    Resent(Resent),
}

impl Sweep {
    /// Of these frames; nothing, if there are none.
    pub(super) fn begin(frames: Vec<Arc<Frame>>) -> Option<Self> {
        let last = frames.last()?;
        let target = Cursor { frame: last.number, position: last.position + last.sights.len() as u64 - 1 };
        let mut rows = Vec::new();
        for (place, frame) in frames.iter().enumerate() {
            rows.extend((0..frame.sights.len()).map(|entry| Row::Entry(place, entry)));
        }
        let mut feeds: Map<(&AccountId, &ClientId), Vec<u64>> = Map::default();
        let mut accounts: Map<&AccountId, Vec<u64>> = Map::default();
        let mut events: Map<&DialogId, (u64, Vec<u64>)> = Map::default();
        let (mut beside, mut changed, mut conversations) = (Vec::new(), Set::default(), Set::default());
        for sight in frames.iter().flat_map(|frame| &frame.sights) {
            if let Some(app) = sight.audience.as_ref().and_then(|audience| audience.app.as_ref()) {
                feeds.entry((&sight.account, app)).or_default().push(sight.position);
            }
            accounts.entry(&sight.account).or_default().push(sight.position);
            let conversation = sight.entry.conversation();
            conversations.extend(conversation);
            match sight.message() {
                Some(message) => {
                    events.entry(&message.dialog).or_insert_with(|| (message.sequence, Vec::new())).1.push(sight.position);
                    beside.extend((message.file.is_some() || message.external.is_some()).then(|| sight.clone()));
                }
                None => {
                    changed.extend(conversation.cloned());
                    beside.push(sight.clone());
                }
            }
        }
        for ((account, app), positions) in sorted(feeds) {
            rows.extend(positions.chunks(run::LENGTH).map(|run| Row::Feed(account.clone(), app.clone(), run.to_vec())));
        }
        let all = ClientId::from(lookup::ACCOUNT);
        for (account, positions) in sorted(accounts) {
            rows.extend(positions.chunks(run::LENGTH).map(|run| Row::Feed(account.clone(), all.clone(), run.to_vec())));
        }
        for (dialog, (first, positions)) in sorted(events) {
            let runs = (first..).step_by(run::LENGTH).zip(positions.chunks(run::LENGTH));
            rows.extend(runs.map(|(first, run)| Row::Events(dialog.clone(), first, run.to_vec())));
        }
        beside.sort_by(|one, other| one.entry.conversation().cmp(&other.entry.conversation()));
        rows.extend(beside.into_iter().map(Row::Beside));
        let mut conversations: Vec<ConversationId> = conversations.into_iter().cloned().collect();
        conversations.sort_unstable();
        rows.extend(conversations.iter().cloned().map(Row::Conversation));
        let consumers: Set<_> = frames.iter().flat_map(|frame| &frame.sights).filter_map(|sight| consumer_of(sight)).collect();
        let mut consumers: Vec<_> = consumers.into_iter().collect();
        consumers.sort_unstable();
        rows.extend(consumers.iter().cloned().map(Row::Consumer));
        for frame in &frames {
            rows.extend((frame.number * KEPT..).zip(&frame.kept).map(|(place, kept)| Row::Kept(place, kept.clone())));
        }
        rows.extend(frames.iter().flat_map(|frame| &frame.resent).cloned().map(Row::Resent));
        Some(Self { target, frames, changed, conversations, consumers, rows, done: 0 })
    }

    /// The frames that it carries over.
    pub(super) fn frames(&self) -> &[Arc<Frame>] {
        &self.frames
    }

    /// How many rows are written.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// Writes so many rows, in one transaction. The new cursor, when that was the last of it.
    pub(super) fn step(&mut self, connection: &mut Connection, memory: &Memory, most: usize) -> rusqlite::Result<Option<Cursor>> {
        let to = self.done.saturating_add(most).min(self.rows.len());
        set_synchronous(connection, Synchronous::Normal)?;
        let written = self.write(connection, memory, to);
        set_synchronous(connection, Synchronous::Full)?;
        written?;
        self.done = to;
        if to < self.rows.len() {
            return Ok(None);
        }
        memory.write().projected(self.target.position, &self.conversations, &self.consumers);
        Ok(Some(self.target))
    }

    fn write(&self, connection: &mut Connection, memory: &Memory, to: usize) -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut writing = Writing::begin(&transaction)?;
        self.rows[self.done..to].iter().try_for_each(|row| self.write_row(row, &mut writing, &transaction, memory))?;
        drop(writing);
        if to == self.rows.len() {
            set_meta(&transaction, "projected", &self.target.position.to_string())?;
            set_meta(&transaction, "frame", &self.target.frame.to_string())?;
        }
        transaction.commit()
    }

    fn write_row(&self, row: &Row, writing: &mut Writing<'_>, transaction: &Transaction<'_>, memory: &Memory) -> rusqlite::Result<()> {
        match row {
            Row::Entry(frame, place) => {
                let frame = &self.frames[*frame];
                let sight = &frame.sights[*place];
                let (position, entry) = (sight.position.cast_signed(), frame.entry(*place));
                writing.entry.execute((position, sight.at, sight.account.as_str(), entry))?;
            }
            Row::Feed(account, app, positions) => {
                let first = positions.first().copied().unwrap_or(0).cast_signed();
                writing.feed.execute((account.as_str(), app.as_str(), first, run::encode(positions.iter().copied())))?;
            }
            Row::Events(dialog, first, positions) => {
                writing.events.execute((dialog.as_str(), first.cast_signed(), run::encode(positions.iter().copied())))?;
            }
            Row::Beside(sight) => write_beside(transaction, sight)?,
            Row::Conversation(id) => {
                let at = memory.read().dirty(id).cloned();
                if let Some(at) = at
                    && (self.changed.contains(id) || !write_state(&mut writing.state, &at)?)
                {
                    write_conversation(transaction, &at)?;
                }
            }
            Row::Consumer(key) => {
                let at = memory.read().dirty_consumer(key).cloned();
                if let Some(At { state, applied }) = at {
                    writing.consumer.execute((state.account.as_str(), state.id.as_str(), applied.cast_signed(), to_json(&state)?))?;
                }
            }
            Row::Kept(place, kept) => {
                let Kept { retry: Retry { name, fingerprint }, answer, at } = kept.as_ref();
                writing.kept.execute((place.cast_signed(), row::head(name), name.as_slice(), fingerprint.as_slice(), answer, at))?;
            }
            Row::Resent(Resent { conversation, fingerprint, stored }) => {
                writing.resent.execute((conversation.as_str(), fingerprint.as_slice(), stored.cast_signed()))?;
            }
        }
        Ok(())
    }
}

/// What most rows are written with.
struct Writing<'t> {
    entry: CachedStatement<'t>,
    feed: CachedStatement<'t>,
    events: CachedStatement<'t>,
    state: CachedStatement<'t>,
    consumer: CachedStatement<'t>,
    kept: CachedStatement<'t>,
    resent: CachedStatement<'t>,
}

impl<'t> Writing<'t> {
    fn begin(transaction: &'t Transaction<'_>) -> rusqlite::Result<Self> {
        let prepare = |sql| transaction.prepare_cached(sql);
        Ok(Self {
            entry: prepare("INSERT OR IGNORE INTO journal (position, at, account, entry) VALUES (?1, ?2, ?3, ?4)")?,
            // A sweep that was cut off may have written a shorter run with the same beginning.
            feed: prepare("INSERT OR REPLACE INTO feeds (account, app, first, positions) VALUES (?1, ?2, ?3, ?4)")?,
            events: prepare("INSERT OR REPLACE INTO events (dialog, first, positions) VALUES (?1, ?2, ?3)")?,
            state: prepare(
                "UPDATE conversations SET applied = ?2, state = ?3
                 WHERE id = ?1 AND consumer = ?4 AND open = ?5 AND updated = ?6 AND word = ?7 AND wakes IS ?8 AND pending = ?9",
            )?,
            consumer: prepare("INSERT OR REPLACE INTO consumers (account, id, applied, state) VALUES (?1, ?2, ?3, ?4)")?,
            kept: prepare("INSERT OR IGNORE INTO retries (place, hash, name, fingerprint, answer, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            resent: prepare(
                "INSERT INTO resends (conversation, fingerprint, stored) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET stored = max(stored, excluded.stored)",
            )?,
        })
    }
}

fn sorted<K: Ord, V>(all: Map<K, V>) -> Vec<(K, V)> {
    let mut all: Vec<(K, V)> = all.into_iter().collect();
    all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    all
}

/// Carries over into a copy of the database what the tail of the folder that it was made from has more.
pub(super) fn complete(copy: &mut Connection, folder: &Path) -> Result<(), OpenError> {
    let memory = Memory::default();
    let cursor = cursor(copy)?;
    let frames = super::tail::read(folder, cursor.frame)?.frames;
    let frames = catch_up(copy, &memory, cursor, frames)?;
    if let Some(mut sweep) = Sweep::begin(frames) {
        sweep.step(copy, &memory, usize::MAX)?;
    }
    Ok(())
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

/// What an entry adds beside the journal, the runs and the states.
fn write_beside(transaction: &Transaction<'_>, sight: &Sight) -> rusqlite::Result<()> {
    let position = sight.position.cast_signed();
    if let Some(message) = sight.message() {
        if let Some(file) = &message.file {
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO file_uses (account, path, conversation, whisper, position) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((sight.account.as_str(), file, message.conversation.as_str(), message.whisper, position))?;
        }
        if let Some(name) = &message.external {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO named (conversation, name) VALUES (?1, ?2)")?
                .execute((message.conversation.as_str(), name))?;
        }
    } else if let Some(conversation) = sight.entry.conversation() {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO changes (conversation, position) VALUES (?1, ?2)")?
            .execute((conversation.as_str(), position))?;
    }
    write_contacts(transaction, sight)?;
    write_bookings(transaction, sight)?;
    write_erasures(transaction, sight)?;
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
fn write_state(statement: &mut CachedStatement<'_>, At { state, applied }: &At<Conversation>) -> rusqlite::Result<bool> {
    let details = &state.details;
    let written = statement.execute((
        details.id.as_str(),
        applied.cast_signed(),
        to_json(state)?,
        details.consumer.as_str(),
        details.stage == OpenState::Open,
        state.updated,
        word(state.spoken),
        state.wakes(),
        state.is_pending(),
    ))?;
    Ok(written == 1)
}

/// In which period somebody wrote, as conversations are found by it.
pub(super) fn word(spoken: Millis) -> Millis {
    spoken.div_euclid(10_000)
}

fn write_conversation(transaction: &Transaction<'_>, At { state, applied }: &At<Conversation>) -> rusqlite::Result<()> {
    let details = &state.details;
    let open = details.stage == OpenState::Open;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO conversations
             (id, account, number, consumer, open, updated, word, wakes, pending, binding, app, applied, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute((
            details.id.as_str(),
            details.account.as_str(),
            details.number,
            details.consumer.as_str(),
            open,
            state.updated,
            word(state.spoken),
            state.wakes(),
            state.is_pending(),
            details.binding.as_deref(),
            details.app.as_ref().map(|app| app.as_str()),
            applied.cast_signed(),
            to_json(state)?,
        ))?;
    transaction.prepare_cached("DELETE FROM conversation_agents WHERE conversation = ?1")?.execute([details.id.as_str()])?;
    let busy: Vec<_> = details.occupies().collect();
    let agents: Set<_> =
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

/// How a consumer can be found, where an entry says that anew.
fn write_contacts(transaction: &Transaction<'_>, sight: &Sight) -> rusqlite::Result<()> {
    let account = sight.account.as_str();
    let add =
        |consumer: &ConsumerId, kind: &str, value: &str| {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO contacts (account, kind, value, consumer) VALUES (?1, ?2, ?3, ?4)")?
                .execute((account, kind, value, consumer.as_str()))
        };
    match &sight.entry {
        Entry::ConsumerSeen { consumer, ext_id: Some(ext_id), .. } => add(consumer, "ext", ext_id).map(drop),
        Entry::ProfileSet { consumer, .. } => {
            let mut said = Consumer::unknown(&sight.account, consumer);
            said.apply(&sight.entry, sight.at);
            if !said.profile.contains_key("privateData") {
                return Ok(());
            }
            transaction
                .prepare_cached("DELETE FROM contacts WHERE account = ?1 AND consumer = ?2 AND kind IN ('mail', 'phone')")?
                .execute((account, consumer.as_str()))?;
            if let Some(mail) = said.email() {
                add(consumer, "mail", &mail.to_lowercase())?;
            }
            said.phone().map_or(Ok(()), |phone| add(consumer, "phone", phone).map(drop))
        }
        _ => Ok(()),
    }
}

/// What was booked, or called off, by an entry.
fn write_bookings(transaction: &Transaction<'_>, sight: &Sight) -> rusqlite::Result<()> {
    let Entry::Changed { conversation, changes, .. } = &sight.entry else { return Ok(()) };
    let (account, conversation) = (sight.account.as_str(), conversation.as_str());
    for change in changes {
        match change {
            Change::Booked { booking, stands: true } => transaction
                .prepare_cached("INSERT OR IGNORE INTO bookings (account, booking, conversation) VALUES (?1, ?2, ?3)")?
                .execute((account, booking, conversation))?,
            Change::Booked { booking, stands: false } => transaction
                .prepare_cached("DELETE FROM bookings WHERE account = ?1 AND booking = ?2 AND conversation = ?3")?
                .execute((account, booking, conversation))?,
            Change::Anonymised { .. } => {
                transaction.prepare_cached("DELETE FROM bookings WHERE conversation = ?1")?.execute([conversation])?
            }
            _ => continue,
        };
    }
    Ok(())
}

/// What an entry asks to be erased.
fn write_erasures(transaction: &Transaction<'_>, sight: &Sight) -> rusqlite::Result<()> {
    erasure::asked(sight).try_for_each(|erasure| erasure::ask(transaction, &erasure))
}
