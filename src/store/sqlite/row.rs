//! Rows to values and back. A row that cannot be understood is an error of the read, never a guess.

use super::super::memory::At;
use super::super::{Document, FileUse, Fingerprint, SessionRow};
use crate::domain::{AgentState, Consumer, Conversation, Entry, Millis, Sight};
use crate::map::Set;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ConsumerId, ConversationId, UserId};

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
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

/// What an idempotency key is found by.
pub(super) fn head(name: &Fingerprint) -> i64 {
    name.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

/// How often the same request was stored in a conversation.
pub(super) fn resends(connection: &Connection, conversation: &ConversationId, fingerprint: &Fingerprint) -> rusqlite::Result<u64> {
    let sql = "SELECT stored FROM resends WHERE conversation = ?1 AND fingerprint = ?2";
    let found =
        connection.prepare_cached(sql)?.query_row((conversation.as_str(), fingerprint.as_slice()), |row| unsigned(row, 0)).optional()?;
    Ok(found.unwrap_or(0))
}

pub(super) fn cursor(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached("SELECT value FROM cursors WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

pub(super) fn session(connection: &Connection, id: &str) -> rusqlite::Result<Option<SessionRow>> {
    connection
        .prepare_cached("SELECT id, account, agent, csrf, made_with, expires, ended FROM sessions WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(SessionRow {
                id: row.get(0)?,
                account: AccountId::from(row.get_ref(1)?.as_str()?),
                agent: row.get(2)?,
                csrf: row.get(3)?,
                made_with: row.get(4)?,
                expires: row.get(5)?,
                ended: row.get(6)?,
            })
        })
        .optional()
}

pub(super) fn agent(connection: &Connection, key: &(AccountId, UserId)) -> rusqlite::Result<Option<AgentState>> {
    connection
        .prepare_cached("SELECT state FROM agents WHERE account = ?1 AND agent = ?2")?
        .query_row([key.0.as_str(), key.1.as_str()], |row| json(row, 0))
        .optional()
}

pub(super) fn agents(connection: &Connection, account: &AccountId) -> rusqlite::Result<Vec<AgentState>> {
    let mut statement = connection.prepare_cached("SELECT state FROM agents WHERE account = ?1")?;
    let found = statement.query_map([account.as_str()], |row| json(row, 0))?;
    found.collect()
}

/// The conversations that an agent has or is offered.
pub(super) fn load(connection: &Connection, key: &(AccountId, UserId)) -> rusqlite::Result<Set<ConversationId>> {
    let sql = "SELECT conversation FROM conversation_agents WHERE account = ?1 AND agent = ?2 AND open = 1 AND busy = 1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([key.0.as_str(), key.1.as_str()], id)?;
    found.collect()
}

fn id(row: &Row<'_>) -> rusqlite::Result<ConversationId> {
    Ok(ConversationId::from(row.get_ref(0)?.as_str()?))
}

/// Open conversations of a consumer that their opener named so.
pub(super) fn named(
    connection: &Connection,
    account: &AccountId,
    consumer: &ConsumerId,
    name: &str,
) -> rusqlite::Result<Vec<ConversationId>> {
    let sql = "SELECT id FROM conversations WHERE account = ?1 AND consumer = ?2 AND binding = ?3 AND open = 1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([account.as_str(), consumer.as_str(), name], id)?;
    found.collect()
}

/// Whether a message has this name of its writer's.
pub(super) fn has_message(connection: &Connection, (conversation, name): &(ConversationId, String)) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM named WHERE conversation = ?1 AND name = ?2")?.exists([conversation.as_str(), name])
}

/// Where a file is shown.
pub(super) fn shows(connection: &Connection, account: &AccountId, file: &str) -> rusqlite::Result<Vec<FileUse>> {
    let sql = "SELECT conversation, whisper, position FROM file_uses WHERE account = ?1 AND path = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row<'_>| Ok(FileUse { conversation: id(row)?, is_whisper: row.get(1)?, position: unsigned(row, 2)? });
    let found = statement.query_map([account.as_str(), file], read)?;
    found.collect()
}

/// Conversations for which something has fallen due.
pub(super) fn due(connection: &Connection, now: Millis, limit: usize) -> rusqlite::Result<Vec<ConversationId>> {
    let sql = "SELECT id FROM conversations WHERE wakes IS NOT NULL AND wakes <= ?1 ORDER BY wakes LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map((now, i64::try_from(limit).unwrap_or(i64::MAX)), id)?;
    found.collect()
}

/// Conversations for which an agent must be found.
pub(super) fn pending(connection: &Connection) -> rusqlite::Result<Vec<Conversation>> {
    let mut statement = connection.prepare_cached("SELECT state, applied FROM conversations WHERE pending = 1")?;
    let found = statement.query_map([], |row| Ok(conversation_at(row)?.state))?;
    found.collect()
}

/// The same of one account.
pub(super) fn pending_of(connection: &Connection, account: &AccountId) -> rusqlite::Result<Vec<Conversation>> {
    let mut statement = connection.prepare_cached("SELECT state, applied FROM conversations WHERE pending = 1 AND account = ?1")?;
    let found = statement.query_map([account.as_str()], |row| Ok(conversation_at(row)?.state))?;
    found.collect()
}

/// Open conversations that take a part of an agent's capacity.
pub(super) fn busy(connection: &Connection) -> rusqlite::Result<Vec<Conversation>> {
    let sql =
        "SELECT state, applied FROM conversations WHERE id IN (SELECT conversation FROM conversation_agents WHERE open = 1 AND busy = 1)";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([], |row| Ok(conversation_at(row)?.state))?;
    found.collect()
}

pub(super) fn documents(connection: &Connection, collection: &str) -> rusqlite::Result<Vec<Document>> {
    let mut statement =
        connection.prepare_cached("SELECT account, id, revision, body FROM documents WHERE collection = ?1 ORDER BY account, id")?;
    let found = statement.query_map([collection], |row| {
        Ok(Document {
            account: AccountId::from(row.get_ref(0)?.as_str()?),
            collection: collection.to_owned(),
            id: row.get(1)?,
            revision: unsigned(row, 2)?,
            body: row.get(3)?,
        })
    })?;
    found.collect()
}
