//! Reads: memory first, then the disk for what memory does not have. Memory is looked at before the disk, because
//! entries only ever move from there to here: what memory no longer had is on disk by then.

use super::super::memory::{Inner, Memory, weight};
use super::super::{Feed, Range, ReadError, Snapshot};
use super::{row, run};
use crate::domain::{AgentState, Conversation, ConversationFilter, Millis, OpenState, Sight};
use crate::map::Set;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId, ConversationId, DialogId};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

/// Reads at one time. More would only queue for the same two cores.
const CONNECTIONS: usize = 4;

/// A few read-only connections, opened on first need.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), places: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// Runs a read on a connection, off the runtime's own threads. It goes on by itself once it is asked for: a place that
    /// is held by a future which nobody polls just now, such as that of a peer that takes no writes, would be missing to
    /// everybody else.
    pub(super) async fn with<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        // Whoever does not wait any more takes its place in the queue along; a read that has begun is done to its end.
        let reading = AbortOnDropHandle::new(tokio::spawn(self.clone().take_turn(read)));
        reading.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a read did not end");
            Err(ReadError)
        })
    }

    async fn take_turn<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let Ok(place) = self.places.clone().acquire_owned().await else { return Err(ReadError) };
        let done = tokio::task::spawn_blocking(move || {
            // Kept until the read is done, also when nobody waits for it any more.
            let _place = place;
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = idle.map_or_else(|| self.open(), Ok)?;
            let found = read(&connection);
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            found
        });
        match done.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::error!(%error, "a read failed");
                Err(ReadError)
            }
            Err(error) => {
                tracing::error!(%error, "a read did not end");
                Err(ReadError)
            }
        }
    }

    /// Closes the connections that rest.
    pub(super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    }
}

/// Bytes of events in one read; a reader that wants more asks again.
const BUDGET: usize = 1024 * 1024;

fn sequence(sight: &Arc<Sight>) -> u64 {
    sight.message().map_or(0, |message| message.sequence)
}

/// Takes entries up to a number and up to the budget, but at least one. Whether the budget ended it.
pub(super) fn within(
    entries: impl Iterator<Item = rusqlite::Result<Arc<Sight>>>,
    limit: usize,
) -> rusqlite::Result<(Vec<Arc<Sight>>, bool)> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for entry in entries.take(limit) {
        let entry = entry?;
        bytes += weight(&entry);
        found.push(entry);
        if bytes > BUDGET {
            return Ok((found, true));
        }
    }
    Ok((found, false))
}

/// The part of a dialog's entries in memory that a range asks for, in the range's own direction. Numbers have no holes,
/// so a number says where its entry stands.
fn in_memory(entries: &VecDeque<Arc<Sight>>, range: Range) -> (Vec<Arc<Sight>>, bool) {
    let oldest = entries.front().map_or(0, sequence);
    let place = |number: u64| usize::try_from(number.saturating_sub(oldest)).unwrap_or(usize::MAX).min(entries.len());
    let end = |to: u64| if to < oldest { 0 } else { place(to.saturating_add(1)) };
    let taken = match range {
        Range::Forward { from, to, limit } => within(entries.range(place(from).min(end(to))..end(to)).cloned().map(Ok), limit),
        Range::Backward { to, limit } => within(entries.range(..end(to)).rev().cloned().map(Ok), limit),
    };
    // Memory gives no errors.
    taken.unwrap_or_default()
}

/// Events, if memory has all that the range asks for.
pub(super) fn events_at_hand(memory: &Inner, dialog: &DialogId, range: Range) -> Option<Vec<Arc<Sight>>> {
    // Whoever asks from the end on, as most do who begin to follow, is told so by the conversation itself.
    if let Range::Forward { from, .. } = range
        && let Some(conversation) = memory.conversation(&dialog.as_conversation())
        && conversation.next_sequence(dialog).is_some_and(|next| next <= from)
    {
        return Some(Vec::new());
    }
    let entries = memory.dialog(dialog)?;
    let oldest = entries.front().map(sequence)?;
    match range {
        Range::Forward { from, .. } => (from >= oldest).then(|| in_memory(entries, range).0),
        Range::Backward { limit, .. } => {
            let (mut found, is_cut) = in_memory(entries, range);
            found.reverse();
            (oldest == 0 || found.len() == limit || is_cut).then_some(found)
        }
    }
}

pub(super) fn events(connection: &Connection, memory: &Memory, dialog: &DialogId, range: Range) -> rusqlite::Result<Vec<Arc<Sight>>> {
    // What memory has, it has up to the newest; the disk has everything older. Memory's part is taken first.
    let (below, (recent, is_recent_cut)) = {
        let memory = memory.read();
        memory
            .dialog(dialog)
            .map_or((u64::MAX, (Vec::new(), false)), |entries| (entries.front().map_or(u64::MAX, sequence), in_memory(entries, range)))
    };
    let on_disk = |from: u64, to: u64, limit: usize, is_up: bool| -> rusqlite::Result<(Vec<Arc<Sight>>, bool)> {
        let Some(last) = below.checked_sub(1).map(|last| last.min(to)) else { return Ok((Vec::new(), false)) };
        entries(connection, &positions(connection, dialog, (from, last), limit, is_up)?, limit)
    };
    match range {
        Range::Forward { from, to, limit } => {
            let (mut found, is_cut) = on_disk(from, to, limit, true)?;
            if !is_cut {
                found.extend(recent.into_iter().take(limit - found.len()));
            }
            Ok(found)
        }
        Range::Backward { to, limit } => {
            let mut found = recent;
            if found.len() < limit && !is_recent_cut {
                found.extend(on_disk(0, to, limit - found.len(), false)?.0);
            }
            found.reverse();
            Ok(found)
        }
    }
}

/// Where the journal holds the events of a dialog from one number to another, both included, up or down; no more than so many.
fn positions(connection: &Connection, dialog: &DialogId, (from, to): (u64, u64), limit: usize, is_up: bool) -> rusqlite::Result<Vec<u64>> {
    let clamp = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    // From the run on that holds the first of them.
    let sql = format!(
        "SELECT first, positions FROM events WHERE dialog = ?1 AND first <= ?3
         AND first >= ifnull((SELECT max(first) FROM events WHERE dialog = ?1 AND first <= ?2), 0) ORDER BY first {}",
        if is_up { "ASC" } else { "DESC" }
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((dialog.as_str(), clamp(from), clamp(to)))?;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some(next) = rows.next()? else { break };
        let run = (row::unsigned(next, 0)?..).zip(run::decode(next.get_ref(1)?.as_blob()?));
        let wanted = run.filter(|(number, _)| (from..=to).contains(number)).map(|(_, position)| position);
        let left = limit - found.len();
        if is_up {
            found.extend(wanted.take(left));
        } else {
            let wanted: Vec<u64> = wanted.collect();
            found.extend(wanted.into_iter().rev().take(left));
        }
    }
    Ok(found)
}

/// The entries at some positions, in their order, up to a number and to the budget. Whether the budget ended it. Neighbours are
/// read together; an entry that was erased is left out.
fn entries(connection: &Connection, positions: &[u64], limit: usize) -> rusqlite::Result<(Vec<Arc<Sight>>, bool)> {
    let sql =
        |order| format!("SELECT position, at, account, entry FROM journal WHERE position BETWEEN ?1 AND ?2 ORDER BY position {order}");
    let (mut found, mut bytes) = (Vec::new(), 0);
    let are_neighbours =
        |one: &u64, other: &u64| one.abs_diff(*other) == 1 && (*one < *other) == (positions[0] < positions[positions.len() - 1]);
    for group in positions.chunk_by(are_neighbours) {
        let (first, last) = (group[0], group[group.len() - 1]);
        let mut statement = connection.prepare_cached(&sql(if first <= last { "ASC" } else { "DESC" }))?;
        let mut rows = statement.query((first.min(last).cast_signed(), first.max(last).cast_signed()))?;
        while let Some(next) = rows.next()? {
            if found.len() == limit {
                return Ok((found, false));
            }
            let entry = row::sight(next)?;
            bytes += weight(&entry);
            found.push(entry);
            if bytes > BUDGET {
                return Ok((found, true));
            }
        }
    }
    Ok((found, false))
}

pub(super) fn conversations(
    connection: &Connection,
    memory: &Memory,
    filter: &ConversationFilter,
    limit: usize,
) -> rusqlite::Result<Snapshot> {
    let (position, mut found, fresh) = {
        let memory = memory.read();
        let found = memory.dirty_matching(filter);
        // What is newer in memory than on disk counts as it is in memory, matching or not.
        let fresh = memory.dirty_ids(&filter.account);
        (memory.head(), found, fresh)
    };
    found.extend(conversations_on_disk(connection, filter, limit, &fresh)?);
    found.sort_by_key(|conversation| std::cmp::Reverse((conversation.updated, conversation.version)));
    found.truncate(limit);
    Ok(Snapshot { position, conversations: found })
}

fn conversations_on_disk(
    connection: &Connection,
    filter: &ConversationFilter,
    limit: usize,
    but: &Set<tieline_protocol::ids::ConversationId>,
) -> rusqlite::Result<Vec<Conversation>> {
    let account = filter.account.as_str().to_owned();
    // An agent to whom one is offered stands in the same table as those who take part.
    let agents: Vec<_> = filter.rings.iter().chain(&filter.agents).collect();
    let (from, mut values): (String, Vec<String>) = if let Some(id) = &filter.conversation {
        ("conversations c WHERE c.id = ?1".into(), vec![id.as_str().into()])
    } else if let Some(consumer) = &filter.consumer {
        ("conversations c WHERE c.account = ?1 AND c.consumer = ?2".into(), vec![account, consumer.as_str().into()])
    } else if let (Some(app), true) = (&filter.app, agents.is_empty()) {
        ("conversations c WHERE c.account = ?1 AND c.app = ?2".into(), vec![account, app.as_str().into()])
    } else if agents.is_empty() {
        ("conversations c WHERE c.account = ?1".into(), vec![account])
    } else {
        let places: Vec<_> = (0..agents.len()).map(|place| format!("?{}", place + 2)).collect();
        let from = format!(
            "conversations c WHERE c.id IN (SELECT conversation FROM conversation_agents WHERE account = ?1 AND agent IN ({}){})",
            places.join(","),
            open_only(filter).map_or(String::new(), |open| format!(" AND open = {open}")),
        );
        (from, std::iter::once(account).chain(agents.iter().map(|agent| agent.as_str().to_owned())).collect())
    };
    let mut sql = format!("SELECT c.state, c.applied FROM {from}");
    if let Some(open) = open_only(filter) {
        sql += &format!(" AND c.open = {open}");
    }
    for (bound, operator) in [(filter.updated_from, ">="), (filter.updated_to, "<=")] {
        if let Some(bound) = bound {
            values.push(bound.to_string());
            sql += &format!(" AND c.updated {operator} CAST(?{} AS INTEGER)", values.len());
        }
    }
    sql += " ORDER BY c.updated DESC";
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some(next) = rows.next()? else { break };
        let conversation = row::conversation_at(next)?.state;
        if !but.contains(&conversation.details.id) && filter.matches(&conversation) {
            found.push(conversation);
        }
    }
    Ok(found)
}

fn open_only(filter: &ConversationFilter) -> Option<u8> {
    match (filter.stages.as_slice(), filter.states.as_slice()) {
        // With its MAIN dialog open a conversation is open; with it closed it may be either.
        ([OpenState::Open], _) | (_, [OpenState::Open]) => Some(1),
        ([OpenState::Closed], _) => Some(0),
        // What is due and what has an open dialog is open, and so is what is offered.
        _ if filter.due_by.is_some() || !filter.dialogs.is_empty() || filter.rings.is_some() => Some(1),
        _ => None,
    }
}

/// A feed, if memory has everything after the position.
pub(super) fn feed_at_hand(memory: &Inner, account: &AccountId, app: &ClientId, after: u64, limit: usize) -> Option<Feed> {
    if !memory.reaches(after) {
        return None;
    }
    let head = memory.head().max(after);
    let Some(entries) = memory.app(account, app) else { return Some((Vec::new(), head)) };
    let from = entries.partition_point(|sight| sight.position <= after);
    let (found, _) = within(entries.range(from..).cloned().map(Ok), limit).unwrap_or_default();
    let is_all = from + found.len() == entries.len();
    let reached = if is_all { head } else { found.last().map_or(after, |last| last.position) };
    Some((found, reached))
}

pub(super) fn feed(
    connection: &Connection,
    memory: &Memory,
    account: &AccountId,
    app: &ClientId,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Feed> {
    // The index is read only up to where memory begins; the rest follows from there.
    let floor = memory.read().floor();
    // From the run on that holds the first of them.
    let sql = "SELECT positions FROM feeds WHERE account = ?1 AND app = ?2 AND first <= ?4
               AND first >= ifnull((SELECT max(first) FROM feeds WHERE account = ?1 AND app = ?2 AND first <= ?3 + 1), 0) ORDER BY first";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((account.as_str(), app.as_str(), after.cast_signed(), floor.cast_signed()))?;
    let mut positions = Vec::new();
    while positions.len() < limit {
        let Some(next) = rows.next()? else { break };
        let run = run::decode(next.get_ref(0)?.as_blob()?).filter(|position| *position > after && *position <= floor);
        positions.extend(run.take(limit - positions.len()));
    }
    let (found, is_cut) = entries(connection, &positions, limit)?;
    // There may be more, by bytes or by count: then this went as far as the last one, be it that it was erased.
    let reached = match (is_cut, positions.len() == limit) {
        (true, _) => found.last().map_or(floor, |sight| sight.position),
        (false, true) => positions.last().copied().unwrap_or(after),
        (false, false) => floor.max(after),
    };
    Ok((found, reached))
}

/// The agents of an account that ever said something of themselves.
pub(super) fn agents(connection: &Connection, memory: &Memory, account: &AccountId) -> rusqlite::Result<Vec<AgentState>> {
    let mut all = memory.read().agents(account);
    let here: Set<_> = all.iter().map(|state| state.agent.clone()).collect();
    all.extend(row::agents(connection, account)?.into_iter().filter(|state| !here.contains(&state.agent)));
    all.retain(|state| state.version > 0);
    Ok(all)
}

/// Conversations in which something has fallen due.
pub(super) fn due(connection: &Connection, memory: &Memory, now: Millis, limit: usize) -> rusqlite::Result<Vec<ConversationId>> {
    let mut found: Vec<_> = memory.read().due(now).take(limit).cloned().collect();
    let mut most = limit;
    while found.len() < limit {
        let rows = row::due(connection, now, most)?;
        let is_all = rows.len() < most;
        let here = memory.read();
        // A row whose conversation is in memory may say what was.
        let is_due = |id: &ConversationId| here.conversation(id).is_none_or(|state| state.wakes().is_some_and(|at| at <= now));
        let all: Vec<_> = rows.into_iter().filter(is_due).filter(|id| !found.contains(id)).take(limit - found.len()).collect();
        if is_all || found.len() + all.len() >= limit {
            found.extend(all);
            break;
        }
        most *= 4;
    }
    Ok(found)
}

/// Conversations of every account: of those not projected the ones that pass, and what a look at the disk finds of the rest.
pub(super) fn all_where(
    connection: &Connection,
    memory: &Memory,
    on_disk: impl FnOnce(&Connection) -> rusqlite::Result<Vec<Conversation>>,
    passes: impl Fn(&Conversation) -> bool,
) -> rusqlite::Result<Vec<Conversation>> {
    let (mut found, touched) = {
        let memory = memory.read();
        let found: Vec<_> = memory.dirty_all().filter(|(_, state)| passes(state)).map(|(_, state)| state.clone()).collect();
        (found, memory.dirty_all().map(|(id, _)| id.clone()).collect::<Set<_>>())
    };
    found.extend(on_disk(connection)?.into_iter().filter(|state| !touched.contains(&state.details.id)));
    Ok(found)
}
