//! Rows to values and back. A row that cannot be understood is an error of the read, never a guess.

use super::super::SessionRow;
use super::super::memory::At;
use crate::domain::{Consumer, Conversation, Entry, Sight};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId};

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// `position, at, account, entry`
pub(super) fn sight(row: &Row<'_>) -> rusqlite::Result<Arc<Sight>> {
    let entry: Entry = json(row, 3)?;
    Ok(Arc::new(Sight {
        position: unsigned(row, 0)?,
        at: row.get(1)?,
        account: AccountId::from(row.get_ref(2)?.as_str()?),
        entry,
        audience: None,
    }))
}

/// `state, applied`
pub(super) fn conversation_at(row: &Row<'_>) -> rusqlite::Result<At<Conversation>> {
    let state: Conversation = json(row, 0)?;
    Ok(At { state: state.restored(), applied: unsigned(row, 1)? })
}

pub(super) fn conversation(connection: &Connection, id: &ConversationId) -> rusqlite::Result<Option<At<Conversation>>> {
    connection
        .prepare_cached("SELECT state, applied FROM conversations WHERE id = ?1")?
        .query_row([id.as_str()], conversation_at)
        .optional()
}

pub(super) fn consumer(connection: &Connection, key: &(AccountId, ConsumerId)) -> rusqlite::Result<Option<At<Consumer>>> {
    connection
        .prepare_cached("SELECT state, applied FROM consumers WHERE account = ?1 AND id = ?2")?
        .query_row([key.0.as_str(), key.1.as_str()], |row| Ok(At { state: json(row, 0)?, applied: unsigned(row, 1)? }))
        .optional()
}

pub(super) fn cursor(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached("SELECT value FROM cursors WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

pub(super) fn session(connection: &Connection, id: &str) -> rusqlite::Result<Option<SessionRow>> {
    connection
        .prepare_cached("SELECT id, account, agent, csrf, expires, ended FROM sessions WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(SessionRow {
                id: row.get(0)?,
                account: AccountId::from(row.get_ref(1)?.as_str()?),
                agent: row.get(2)?,
                csrf: row.get(3)?,
                expires: row.get(4)?,
                ended: row.get(5)?,
            })
        })
        .optional()
}
