//! Debts in SQLite: reads on a reader's connection, writes as the writer's jobs.

use super::super::Feed;
use super::super::debts::{Attempt, Balance, DeadLetter, EndpointId, EndpointRow, Owed, Owing, Settlement};
use super::super::memory::{Inner, Memory};
use super::row::{self, unsigned};
use crate::domain::{Millis, Sight};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ClientId, ConversationId};

/// Most rows removed in one go: a decision waits behind them.
pub(in crate::store) const TIDIED: usize = 2_000;

pub(super) fn journal_at_hand(memory: &Inner, after: u64, limit: usize) -> Option<Feed> {
    let found: Vec<_> = memory.after(after)?.take(limit).cloned().collect();
    let reached = found.last().map_or(after, |last| last.position);
    Some((found, reached))
}

/// From disk, up to where memory begins; the rest follows from there.
pub(super) fn journal(connection: &Connection, floor: u64, after: u64, limit: usize) -> rusqlite::Result<Feed> {
    let sql = "SELECT position, at, account, entry FROM journal WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map((after.cast_signed(), floor.cast_signed(), count(limit)), row::sight)?;
    let found: Vec<_> = found.collect::<Result<_, _>>()?;
    // Where nothing more is found there is nothing, be it that what was there was removed: a reader that went no further than
    // the last entry would never get past such a hole.
    let reached = found.last().filter(|_| found.len() >= limit).map_or(floor.max(after), |last| last.position);
    Ok((found, reached))
}

pub(super) fn entry(connection: &Connection, position: u64) -> rusqlite::Result<Option<Arc<Sight>>> {
    connection
        .prepare_cached("SELECT position, at, account, entry FROM journal WHERE position = ?1")?
        .query_row([position.cast_signed()], row::sight)
        .optional()
}

/// A number of rows, for SQLite.
pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn parsed<T, E>(column: usize, read: Result<T, E>) -> rusqlite::Result<T>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    read.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

pub(super) fn endpoints(connection: &Connection) -> rusqlite::Result<Vec<EndpointRow>> {
    let sql = "SELECT id, account, app, target, events, since, behind, state, changed FROM endpoints ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([], |row| {
        Ok(EndpointRow {
            id: row.get(0)?,
            account: AccountId::from(row.get_ref(1)?.as_str()?),
            app: ClientId::from(row.get_ref(2)?.as_str()?),
            target: row.get(3)?,
            events: parsed(4, serde_json::from_str(row.get_ref(4)?.as_str()?))?,
            since: unsigned(row, 5)?,
            is_behind: row.get(6)?,
            state: parsed(7, row.get_ref(7)?.as_str()?.parse())?,
            changed: row.get(8)?,
        })
    })?;
    found.collect()
}

pub(super) fn keep_endpoint(connection: &Connection, row: &EndpointRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO endpoints (id, account, app, target, events, since, behind, state, changed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            row.id,
            row.account.as_str(),
            row.app.as_str(),
            &row.target,
            super::projection::to_json(&row.events)?,
            row.since.cast_signed(),
            row.is_behind,
            row.state.as_str(),
            row.changed,
        ))?;
    Ok(())
}

pub(super) fn forget_endpoint(connection: &Connection, id: EndpointId) -> rusqlite::Result<()> {
    for sql in
        ["DELETE FROM owed WHERE endpoint = ?1", "DELETE FROM dead_letters WHERE endpoint = ?1", "DELETE FROM endpoints WHERE id = ?1"]
    {
        connection.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

pub(super) fn owe(connection: &Connection, owing: &Owing) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO owed (endpoint, turn, position, conversation, since, due, attempts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for owed in &owing.owed {
        insert.execute((
            owed.endpoint,
            owed.turn.cast_signed(),
            owed.position.cast_signed(),
            owed.conversation.as_str(),
            owed.since,
            owed.due,
            owed.attempts,
        ))?;
    }
    let mut delete = connection.prepare_cached("DELETE FROM dead_letters WHERE endpoint = ?1 AND turn = ?2")?;
    for (endpoint, turn) in &owing.revived {
        delete.execute((endpoint, turn.cast_signed()))?;
    }
    owing.endpoints.iter().try_for_each(|row| keep_endpoint(connection, row))?;
    if let Some((name, value)) = &owing.cursor {
        connection
            .prepare_cached("INSERT INTO cursors (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?
            .execute((name, value))?;
    }
    Ok(())
}

pub(super) fn settle(connection: &Connection, settlement: &Settlement) -> rusqlite::Result<()> {
    let mut pay = connection.prepare_cached("DELETE FROM owed WHERE endpoint = ?1 AND turn = ?2")?;
    for (endpoint, turn) in &settlement.done {
        pay.execute((endpoint, turn.cast_signed()))?;
    }
    let mut wait = connection.prepare_cached("UPDATE owed SET due = ?3, attempts = ?4 WHERE endpoint = ?1 AND turn = ?2")?;
    for owed in &settlement.waiting {
        wait.execute((owed.endpoint, owed.turn.cast_signed(), owed.due, owed.attempts))?;
    }
    let mut bury = connection.prepare_cached(
        "INSERT OR REPLACE INTO dead_letters (endpoint, turn, position, conversation, since, attempts, at, reason, last)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for DeadLetter { owed, at, reason, last } in &settlement.dead {
        // One that was forgotten with its endpoint meanwhile does not come back.
        if pay.execute((owed.endpoint, owed.turn.cast_signed()))? == 0 {
            continue;
        }
        let (turn, position) = (owed.turn.cast_signed(), owed.position.cast_signed());
        bury.execute((owed.endpoint, turn, position, owed.conversation.as_str(), owed.since, owed.attempts, at, reason, last))?;
    }
    let mut attempted = connection.prepare_cached(
        "INSERT OR REPLACE INTO attempts (position, endpoint, turn, at, took, result, status, answer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for attempt in &settlement.attempts {
        attempted.execute((
            attempt.position.cast_signed(),
            attempt.endpoint,
            attempt.turn.cast_signed(),
            attempt.at,
            attempt.took.cast_signed(),
            &attempt.result,
            attempt.status,
            &attempt.answer,
        ))?;
    }
    Ok(())
}

/// `endpoint, turn, position, conversation, since, due, attempts`
fn owed_row(row: &Row<'_>) -> rusqlite::Result<Owed> {
    Ok(Owed {
        endpoint: row.get(0)?,
        turn: unsigned(row, 1)?,
        position: unsigned(row, 2)?,
        conversation: ConversationId::from(row.get_ref(3)?.as_str()?),
        since: row.get(4)?,
        due: row.get(5)?,
        attempts: row.get(6)?,
    })
}

pub(super) fn owed(connection: &Connection, endpoint: EndpointId, after: u64, limit: usize) -> rusqlite::Result<Vec<Owed>> {
    let sql = "SELECT endpoint, turn, position, conversation, since, due, attempts FROM owed
               WHERE endpoint = ?1 AND turn > ?2 ORDER BY turn LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map((endpoint, after.cast_signed(), count(limit)), owed_row)?;
    found.collect()
}

pub(super) fn owed_of(
    connection: &Connection,
    endpoint: EndpointId,
    conversation: &ConversationId,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Owed>> {
    let sql = "SELECT endpoint, turn, position, conversation, since, due, attempts FROM owed
               WHERE endpoint = ?1 AND turn > ?2 AND conversation = ?3 ORDER BY turn LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map((endpoint, after.cast_signed(), conversation.as_str(), count(limit)), owed_row)?;
    found.collect()
}

pub(super) fn dead_letters(connection: &Connection, endpoint: EndpointId, after: u64, limit: usize) -> rusqlite::Result<Vec<DeadLetter>> {
    let sql = "SELECT endpoint, turn, position, conversation, since, 0, attempts, at, reason, last FROM dead_letters
               WHERE endpoint = ?1 AND turn > ?2 ORDER BY turn LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map((endpoint, after.cast_signed(), count(limit)), |row| {
        Ok(DeadLetter { owed: owed_row(row)?, at: row.get(7)?, reason: row.get(8)?, last: row.get(9)? })
    })?;
    found.collect()
}

pub(super) fn balances(connection: &Connection) -> rusqlite::Result<Vec<(EndpointId, Balance)>> {
    let sql = "SELECT e.id, (SELECT count(*) FROM owed o WHERE o.endpoint = e.id), (SELECT min(since) FROM owed o WHERE o.endpoint = e.id),
               (SELECT count(*) FROM dead_letters d WHERE d.endpoint = e.id) FROM endpoints e ORDER BY e.id";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_map([], |row| Ok((row.get(0)?, Balance { owed: unsigned(row, 1)?, oldest: row.get(2)?, dead: unsigned(row, 3)? })))?;
    found.collect()
}

/// Halves the journal until the place is found: positions follow time, as far as the clock goes forward. What memory has is not
/// looked for on disk.
pub(super) fn position_at(connection: &Connection, memory: &Memory, time: Millis) -> rusqlite::Result<u64> {
    let (floor, here) = {
        let memory = memory.read();
        let here = memory.after(memory.floor()).into_iter().flatten().find(|sight| sight.at >= time);
        (memory.floor(), here.map_or(memory.head() + 1, |sight| sight.position))
    };
    let (mut low, mut high): (i64, i64) = (0, floor.cast_signed() + 1);
    let mut next = connection.prepare_cached("SELECT position, at FROM journal WHERE position >= ?1 ORDER BY position LIMIT 1")?;
    let mut found = None;
    // What is in front of `low` was written before; what is at `high` or behind it, and was found first, was not.
    while low < high {
        let middle = low + (high - low) / 2;
        let entry: Option<(i64, Millis)> = next.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match entry.filter(|(position, _)| *position < high) {
            Some((position, at)) if at < time => low = position + 1,
            Some((position, _)) => (found, high) = (Some(position.cast_unsigned()), middle),
            None => high = middle,
        }
    }
    Ok(found.unwrap_or(here))
}

pub(super) fn attempts(connection: &Connection, position: u64) -> rusqlite::Result<Vec<Attempt>> {
    let sql = "SELECT position, endpoint, turn, at, took, result, status, answer FROM attempts
               WHERE position = ?1 ORDER BY endpoint, turn, at";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([position.cast_signed()], |row| {
        Ok(Attempt {
            position: unsigned(row, 0)?,
            endpoint: row.get(1)?,
            turn: unsigned(row, 2)?,
            at: row.get(3)?,
            took: unsigned(row, 4)?,
            result: row.get(5)?,
            status: row.get(6)?,
            answer: row.get(7)?,
        })
    })?;
    found.collect()
}

/// Removes some of what is old. Whether there may be more.
pub(super) fn tidy(connection: &Connection, dead_before: Millis, attempts_before: Millis) -> rusqlite::Result<bool> {
    let attempts = "DELETE FROM attempts WHERE (position, endpoint, turn, at) IN
        (SELECT position, endpoint, turn, at FROM attempts WHERE at < ?1 ORDER BY at LIMIT ?2)";
    let attempts = connection.prepare_cached(attempts)?.execute((attempts_before, count(TIDIED)))?;
    let dead = "DELETE FROM dead_letters WHERE (endpoint, turn) IN (SELECT endpoint, turn FROM dead_letters WHERE at < ?1 LIMIT ?2)";
    let dead = connection.prepare_cached(dead)?.execute((dead_before, count(TIDIED)))?;
    Ok(attempts.max(dead) >= TIDIED)
}
