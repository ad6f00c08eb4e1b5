//! The removal of conversations that are kept no longer, in steps so small that no publish waits for them.
//!
//! First, in one step with the entry of the journal that says so, the conversation's row goes, and with it every way to it; a
//! row of `removals` remembers what is still to be erased. Then its events, its other entries and what hangs on them go, some
//! hundred rows at a time. A crash in between loses nothing: `removals` says where to go on.

use super::super::memory::Memory;
use super::super::{FileUse, StoreError};
use super::debts::count;
use super::{lookup, projection, row, run};
use crate::domain::{Entry, Millis, OpenState, Sight};
use rusqlite::{Connection, OptionalExtension};
use tieline_protocol::ids::{AccountId, ConversationId, DialogId};

/// Rows of the journal that are erased in one step.
const STEP: usize = 256;

/// Closed conversations of all accounts that nothing has changed since a time, those first that are so for longest. Those that
/// must stay are left out: else enough of them would be found each time, and nothing else.
pub(super) fn expired(connection: &Connection, before: Millis, limit: usize) -> rusqlite::Result<Vec<ConversationId>> {
    let sql = "SELECT id FROM conversations c WHERE open = 0 AND updated < ?1
               AND number < (SELECT max(number) FROM conversations n WHERE n.account = c.account)
               AND NOT EXISTS (SELECT 1 FROM owed WHERE conversation = c.id) ORDER BY updated LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map((before, count(limit)), |row| row.get::<_, String>(0))?;
    found.map(|id| id.map(ConversationId::from)).collect()
}

/// Takes a conversation away, on the writer's thread, within its transaction. The entry that says so, if it was taken; memory is to
/// forget it when that is committed.
pub(super) fn begin(
    connection: &Connection,
    memory: &Memory,
    id: &ConversationId,
    before: Millis,
    (position, now): (u64, Millis),
) -> rusqlite::Result<Option<Sight>> {
    // What is not projected has changed just now, and is not old.
    if memory.read().dirty(id).is_some() {
        return Ok(None);
    }
    let Some(state) = row::conversation(connection, id)?.map(|at| at.state) else { return Ok(None) };
    let details = &state.details;
    let account = details.account.as_str();
    if details.stage == OpenState::Open || state.updated >= before || details.main_is_open() {
        return Ok(None);
    }
    // The next conversation's number is one above the largest; it must not be given out twice.
    let newest: i64 =
        connection.prepare_cached("SELECT max(number) FROM conversations WHERE account = ?1")?.query_row([account], |row| row.get(0))?;
    let owed = connection.prepare_cached("SELECT 1 FROM owed WHERE conversation = ?1 LIMIT 1")?.exists([id.as_str()])?;
    if details.number == newest || owed {
        return Ok(None);
    }
    let dialogs: Vec<&DialogId> = details.dialogs.iter().map(|dialog| &dialog.id).collect();
    connection.prepare_cached("INSERT INTO removals (conversation, account, app, dialogs) VALUES (?1, ?2, ?3, ?4)")?.execute((
        id.as_str(),
        account,
        details.app.as_ref().map(|app| app.as_str()),
        projection::to_json(&dialogs)?,
    ))?;
    connection.prepare_cached("DELETE FROM conversations WHERE id = ?1")?.execute([id.as_str()])?;
    connection.prepare_cached("DELETE FROM conversation_agents WHERE conversation = ?1")?.execute([id.as_str()])?;
    let entry = Entry::Removed { conversation: id.clone(), number: details.number };
    connection.prepare_cached("INSERT INTO journal (position, at, account, entry) VALUES (?1, ?2, ?3, ?4)")?.execute((
        position.cast_signed(),
        now,
        account,
        projection::to_json(&entry)?,
    ))?;
    Ok(Some(Sight { position, at: now, account: details.account.clone(), entry, audience: None }))
}

/// What was taken away and is not erased yet.
pub(super) fn pending(connection: &Connection) -> rusqlite::Result<Vec<ConversationId>> {
    let mut statement = connection.prepare_cached("SELECT conversation FROM removals")?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?;
    found.map(|id| id.map(ConversationId::from)).collect()
}

/// The files that are shown in a conversation and in no other.
pub(super) fn shown_only_in(connection: &Connection, memory: &Memory, id: &ConversationId) -> rusqlite::Result<Vec<String>> {
    let found: Vec<(String, String)> = {
        let mut statement = connection.prepare_cached("SELECT DISTINCT account, path FROM file_uses WHERE conversation = ?1")?;
        statement.query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    let is_other = |place: &FileUse| place.conversation != *id;
    let mut files = Vec::new();
    for (account, path) in found {
        // Memory before the disk: what memory no longer has is there by then.
        let is_elsewhere = memory.read().shows(&path).iter().any(is_other)
            || row::shows(connection, &AccountId::from(account), &path)?.iter().any(is_other);
        files.extend((!is_elsewhere).then_some(path));
    }
    Ok(files)
}

/// Erases the next rows of a conversation that was taken away, but for those that name its files. Whether there may be more.
pub(super) fn erase(connection: &Connection, id: &ConversationId) -> rusqlite::Result<bool> {
    let sql = "SELECT account, app, dialogs FROM removals WHERE conversation = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row::json(row, 2)?));
    let found: Option<(String, Option<String>, Vec<String>)> = connection.prepare_cached(sql)?.query_row([id.as_str()], read).optional()?;
    let Some((account, app, dialogs)) = found else { return Ok(false) };
    let mut positions: Vec<i64> = Vec::new();
    for dialog in &dialogs {
        while positions.len() < STEP {
            let sql =
                "DELETE FROM events WHERE dialog = ?1 AND first = (SELECT min(first) FROM events WHERE dialog = ?1) RETURNING positions";
            let mut statement = connection.prepare_cached(sql)?;
            let run = |row: &rusqlite::Row<'_>| Ok(run::decode(row.get_ref(0)?.as_blob()?).map(u64::cast_signed).collect::<Vec<_>>());
            let Some(run) = statement.query_row([dialog], run).optional()? else { break };
            positions.extend(run);
        }
    }
    let left = STEP.saturating_sub(positions.len());
    let sql = "DELETE FROM changes WHERE conversation = ?1 AND position IN (SELECT position FROM changes WHERE conversation = ?1 LIMIT ?2)
               RETURNING position";
    let mut statement = connection.prepare_cached(sql)?;
    positions.extend(statement.query_map((id.as_str(), count(left)), |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?);
    for position in &positions {
        connection.prepare_cached("DELETE FROM journal WHERE position = ?1")?.execute([position])?;
        connection.prepare_cached("DELETE FROM attempts WHERE position = ?1")?.execute([position])?;
    }
    positions.sort_unstable();
    for feed in app.as_deref().into_iter().chain([lookup::ACCOUNT]) {
        take_from_feed(connection, &account, feed, &positions)?;
    }
    if positions.is_empty() {
        for table in ["resends", "dead_letters", "named", "bookings", "erasures"] {
            connection.prepare_cached(&format!("DELETE FROM {table} WHERE conversation = ?1"))?.execute([id.as_str()])?;
        }
    }
    Ok(!positions.is_empty())
}

/// Takes ascending positions out of the runs of a feed.
fn take_from_feed(connection: &Connection, account: &str, app: &str, positions: &[i64]) -> rusqlite::Result<()> {
    let sql = "SELECT first, positions FROM feeds WHERE account = ?1 AND app = ?2 AND first <= ?3 ORDER BY first DESC LIMIT 1";
    let mut left = positions;
    while let Some(position) = left.first() {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, run::decode(row.get_ref(1)?.as_blob()?).collect()));
        let found: Option<(i64, Vec<u64>)> = connection.prepare_cached(sql)?.query_row((account, app, position), read).optional()?;
        let (first, run) = found.unwrap_or_default();
        let last = run.last().copied().unwrap_or(0).cast_signed().max(*position);
        let kept: Vec<u64> = run.into_iter().filter(|kept| left.binary_search(&kept.cast_signed()).is_err()).collect();
        if kept.is_empty() {
            connection
                .prepare_cached("DELETE FROM feeds WHERE account = ?1 AND app = ?2 AND first = ?3")?
                .execute((account, app, first))?;
        } else {
            connection.prepare_cached("UPDATE feeds SET positions = ?4 WHERE account = ?1 AND app = ?2 AND first = ?3")?.execute((
                account,
                app,
                first,
                run::encode(kept.into_iter()),
            ))?;
        }
        left = &left[left.partition_point(|position| *position <= last)..];
    }
    Ok(())
}

/// Forgets that a conversation was taken away, and which files were shown in it.
pub(super) fn forget(connection: &Connection, id: &ConversationId) -> rusqlite::Result<()> {
    for sql in ["DELETE FROM file_uses WHERE conversation = ?1", "DELETE FROM removals WHERE conversation = ?1"] {
        connection.prepare_cached(sql)?.execute([id.as_str()])?;
    }
    Ok(())
}

/// The answer of a removal: whether the conversation was taken.
pub(super) type Taken = tokio::sync::oneshot::Sender<Result<bool, StoreError>>;
