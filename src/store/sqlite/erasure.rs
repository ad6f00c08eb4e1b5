//! The erasure of what was said, in steps so small that no publish waits for them: entries of the journal are written again without
//! words, at their places: the one thing besides removal by which the journal is changed. What was asked for stands in `erasures` until it is done, so that a crash loses nothing.

use super::super::memory::Memory;
use super::super::{Erased, Erasure, FileUse};
use super::debts::count;
use super::{projection, removal, row, run};
use crate::domain::{Entry, Person};
use rusqlite::{Connection, OptionalExtension, Row};
use tieline_protocol::ids::{AccountId, ConversationId, DialogId};

/// Entries that are written again in one step.
const STEP: usize = 64;

const COLUMNS: &str = "id, account, conversation, dialog, sequence, by, at, position, place, done";

fn erasure(row: &Row<'_>) -> rusqlite::Result<Erasure> {
    let dialog: Option<String> = row.get(3)?;
    let sequence: Option<i64> = row.get(4)?;
    let by: Person = row::json(row, 5)?;
    Ok(Erasure {
        id: row.get(0)?,
        account: AccountId::from(row.get_ref(1)?.as_str()?),
        conversation: ConversationId::from(row.get_ref(2)?.as_str()?),
        message: dialog.map(DialogId::from).zip(sequence.map(i64::cast_unsigned)),
        by,
        at: row.get(6)?,
        position: row::unsigned(row, 7)?,
        place: row::unsigned(row, 8)?,
        done: row.get(9)?,
    })
}

/// Remembers what is to be erased.
pub(super) fn ask(connection: &Connection, erasure: &Erasure) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO erasures (id, account, conversation, dialog, sequence, by, at, position, place)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let (dialog, sequence) = erasure.message.as_ref().map(|(dialog, sequence)| (dialog.as_str(), sequence.cast_signed())).unzip();
    let Erasure { id, account, conversation, by, at, position, place, .. } = erasure;
    let by = projection::to_json(by)?;
    let (position, place) = (position.cast_signed(), place.cast_signed());
    let values = (id, account.as_str(), conversation.as_str(), dialog, sequence, by, at, position, place);
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// What is not done, the oldest first.
pub(super) fn pending(connection: &Connection) -> rusqlite::Result<Vec<Erasure>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM erasures WHERE done IS NULL ORDER BY position"))?;
    let found = statement.query_map([], erasure)?;
    found.collect()
}

/// What was asked for under an id.
pub(super) fn find(connection: &Connection, account: &AccountId, id: &str) -> rusqlite::Result<Option<Erasure>> {
    let sql = format!("SELECT {COLUMNS} FROM erasures WHERE account = ?2 AND id = ?1 ORDER BY position, place LIMIT 1");
    connection.prepare_cached(&sql)?.query_row([id, account.as_str()], erasure).optional()
}

/// Erases the next entries from a position on. Where the next step begins; nothing, if there is nothing more.
pub(super) fn step(connection: &Connection, wanted: &Erasure, from: Erased) -> rusqlite::Result<Option<Erased>> {
    let mut positions = match &wanted.message {
        Some((dialog, sequence)) => event(connection, dialog, *sequence)?.into_iter().collect(),
        None => positions(connection, &wanted.conversation, from)?,
    };
    positions.sort_unstable();
    positions.dedup();
    let is_all = positions.len() <= STEP;
    positions.truncate(STEP);
    for position in &positions {
        let read = connection
            .prepare_cached("SELECT entry FROM journal WHERE position = ?1")?
            .query_row([position.cast_signed()], |row| row::json::<Entry>(row, 0));
        if let Some(entry) = read.optional()? {
            if let Entry::Published(message) = &entry
                && let Some(name) = &message.external
            {
                let forget = "DELETE FROM named WHERE conversation = ?1 AND name = ?2";
                connection.prepare_cached(forget)?.execute((message.conversation.as_str(), name))?;
            }
            // What receivers of webhooks answered may repeat what they were sent.
            connection.prepare_cached("UPDATE attempts SET answer = NULL WHERE position = ?1")?.execute([position.cast_signed()])?;
            let letters = "UPDATE dead_letters SET last = NULL WHERE conversation = ?1 AND position = ?2";
            connection.prepare_cached(letters)?.execute((wanted.conversation.as_str(), position.cast_signed()))?;
            let entry = projection::to_json(&entry.without_words())?;
            connection.prepare_cached("UPDATE journal SET entry = ?2 WHERE position = ?1")?.execute((position.cast_signed(), entry))?;
        }
    }
    if !is_all {
        return Ok(positions.last().map(|last| last + 1));
    }
    if wanted.message.is_none() {
        connection.prepare_cached("DELETE FROM resends WHERE conversation = ?1")?.execute([wanted.conversation.as_str()])?;
    }
    Ok(None)
}

/// Where the journal holds an event.
fn event(connection: &Connection, dialog: &DialogId, sequence: u64) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT first, positions FROM events WHERE dialog = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
    let run = connection.prepare_cached(sql)?.query_row((dialog.as_str(), sequence.cast_signed()), |row| {
        let first = row::unsigned(row, 0)?;
        Ok((first..).zip(run::decode(row.get_ref(1)?.as_blob()?)).find(|(number, _)| *number == sequence).map(|(_, position)| position))
    });
    run.optional().map(Option::flatten)
}

/// Where the journal holds what is said in a conversation, from a position on: some more than a step takes, if there is so much.
fn positions(connection: &Connection, conversation: &ConversationId, from: Erased) -> rusqlite::Result<Vec<u64>> {
    let mut found = Vec::new();
    let mut changes =
        connection.prepare_cached("SELECT position FROM changes WHERE conversation = ?1 AND position >= ?2 ORDER BY position LIMIT ?3")?;
    let rows = changes.query_map((conversation.as_str(), from.cast_signed(), count(STEP + 1)), |row| row::unsigned(row, 0))?;
    found.extend(rows.collect::<Result<Vec<_>, _>>()?);
    let Some(at) = row::conversation(connection, conversation)? else { return Ok(found) };
    for dialog in &at.state.details.dialogs {
        let mut runs = connection.prepare_cached("SELECT positions FROM events WHERE dialog = ?1 ORDER BY first")?;
        let mut rows = runs.query([dialog.id.as_str()])?;
        let mut taken = 0;
        while taken <= STEP
            && let Some(next) = rows.next()?
        {
            let run = run::decode(next.get_ref(0)?.as_blob()?).filter(|position| *position >= from).collect::<Vec<_>>();
            taken += run.len();
            found.extend(run);
        }
    }
    Ok(found)
}

/// The files that are shown by what it is about, and by nothing else.
pub(super) fn shown_only_by(connection: &Connection, memory: &Memory, erasure: &Erasure) -> rusqlite::Result<Vec<String>> {
    let Some((dialog, sequence)) = &erasure.message else {
        return removal::shown_only_in(connection, memory, &erasure.conversation);
    };
    let Some(position) = event(connection, dialog, *sequence)? else { return Ok(Vec::new()) };
    let sql = "SELECT path FROM file_uses WHERE conversation = ?1 AND position = ?2";
    let read = |row: &Row<'_>| row.get::<_, String>(0);
    let path = connection.prepare_cached(sql)?.query_row((erasure.conversation.as_str(), position.cast_signed()), read).optional()?;
    let Some(path) = path else { return Ok(Vec::new()) };
    let is_other = |place: &FileUse| place.position != position;
    let is_elsewhere =
        memory.read().shows(&path).iter().any(is_other) || row::shows(connection, &erasure.account, &path)?.iter().any(is_other);
    Ok(if is_elsewhere { Vec::new() } else { vec![path] })
}

/// Notes that it is done.
pub(super) fn end(connection: &Connection, erasure: &Erasure, now: i64) -> rusqlite::Result<()> {
    let conversation = erasure.conversation.as_str();
    match &erasure.message {
        None => connection.prepare_cached("DELETE FROM file_uses WHERE conversation = ?1")?.execute([conversation])?,
        Some((dialog, sequence)) => {
            let position = event(connection, dialog, *sequence)?.unwrap_or(0).cast_signed();
            let sql = "DELETE FROM file_uses WHERE conversation = ?1 AND position = ?2";
            connection.prepare_cached(sql)?.execute((conversation, position))?
        }
    };
    let place = (erasure.position.cast_signed(), erasure.place.cast_signed());
    let sql = "UPDATE erasures SET done = ?3 WHERE position = ?1 AND place = ?2";
    connection.prepare_cached(sql)?.execute((place.0, place.1, now)).map(drop)
}
