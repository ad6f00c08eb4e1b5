//! Reads of programs that know an account's conversations and consumers by numbers, lists and contacts: memory first, then the disk.

use super::super::memory::{Inner, Memory};
use super::super::{ConsumersBy, Feed};
use super::debts::count;
use super::projection::word;
use super::{reader, row};
use crate::domain::{Consumer, Conversation, Entry, Millis, Sight};
use crate::map::Set;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId};

/// The name under which all that belongs to an account is in a feed: no application has it.
pub(super) const ACCOUNT: &str = "";

/// The conversation of a number.
pub(super) fn numbered(
    connection: &Connection,
    memory: &Memory,
    account: &AccountId,
    number: i64,
) -> rusqlite::Result<Option<Conversation>> {
    if let Some(found) = memory.read().numbered(account, number) {
        return Ok(Some(found.clone()));
    }
    let sql = "SELECT state, applied FROM conversations WHERE account = ?1 AND number = ?2";
    let found = connection.prepare_cached(sql)?.query_row((account.as_str(), number), row::conversation_at).optional()?;
    Ok(found.map(|at| at.state))
}

/// The conversations whose numbers lie between two, in the order of the numbers: the smallest of them, or the largest.
pub(super) fn by_number(
    connection: &Connection,
    memory: &Memory,
    account: &AccountId,
    (above, below): (i64, i64),
    is_up: bool,
    limit: usize,
) -> rusqlite::Result<Vec<Conversation>> {
    let here: Vec<Conversation> = {
        let memory = memory.read();
        let all = memory.dirty_all().map(|(_, state)| state).filter(|state| state.details.account == *account);
        all.filter(|state| state.details.number > above && state.details.number < below).cloned().collect()
    };
    let sql = format!(
        "SELECT state, applied FROM conversations WHERE account = ?1 AND number > ?2 AND number < ?3 ORDER BY number {} LIMIT ?4",
        if is_up { "ASC" } else { "DESC" }
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map((account.as_str(), above, below, count(limit)), row::conversation_at)?;
    let mut found = BTreeMap::new();
    for at in rows {
        let state = at?.state;
        found.insert(state.details.number, state);
    }
    // What is newer in memory counts as it is there.
    found.extend(here.into_iter().map(|state| (state.details.number, state)));
    let taken: Vec<Conversation> =
        if is_up { found.into_values().take(limit).collect() } else { found.into_values().rev().take(limit).collect() };
    Ok(taken)
}

/// Conversations by when somebody last wrote in them, the newest first. The disk knows the period alone: what of it is wanted, and no
/// more, is read and put in order.
pub(super) fn by_word(
    connection: &Connection,
    memory: &Memory,
    account: &AccountId,
    before: Option<Millis>,
    (offset, limit): (usize, usize),
) -> rusqlite::Result<Vec<Conversation>> {
    let is_before = |state: &Conversation| before.is_none_or(|before| state.spoken < before);
    let (mut here, newer) = {
        let memory = memory.read();
        let mut here: BTreeMap<Reverse<Millis>, Vec<ConversationId>> = BTreeMap::new();
        let all = memory.dirty_all().filter(|(_, state)| state.details.account == *account && is_before(state));
        all.for_each(|(id, state)| here.entry(Reverse(word(state.spoken))).or_default().push(id.clone()));
        (here, memory.dirty_ids(account))
    };
    // What has gone from memory since is on disk.
    let state = |id: &ConversationId| -> rusqlite::Result<Option<Conversation>> {
        let here = memory.read().dirty(id).map(|at| at.state.clone());
        if here.is_some() {
            return Ok(here);
        }
        Ok(row::conversation(connection, id)?.map(|at| at.state))
    };
    let sql = "SELECT word, id FROM conversations WHERE account = ?1 AND word <= ?2 ORDER BY word DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query_map((account.as_str(), before.map_or(Millis::MAX, word)), |row| {
        Ok((row.get::<_, Millis>(0)?, ConversationId::from(row.get_ref(1)?.as_str()?)))
    })?;
    let mut next = rows.next().transpose()?;
    let (mut passed, mut found) = (0, Vec::new());
    while found.len() < limit {
        let newest = here.first_key_value().map(|(period, _)| period.0);
        let Some(period) = newest.max(next.as_ref().map(|(period, _)| *period)) else { break };
        let mut ids = here.remove(&Reverse(period)).unwrap_or_default();
        while let Some((_, id)) = next.take_if(|(of, _)| *of == period) {
            if !newer.contains(&id) {
                ids.push(id);
            }
            next = rows.next().transpose()?;
        }
        // Of the first some may be too new.
        let is_cut = before.is_some_and(|before| word(before) == period);
        if !is_cut && passed + ids.len() <= offset {
            passed += ids.len();
            continue;
        }
        let mut all = Vec::with_capacity(ids.len());
        for id in &ids {
            all.extend(state(id)?.filter(is_before));
        }
        all.sort_by_key(|state| Reverse((state.spoken, state.details.number)));
        let skipped = offset.saturating_sub(passed).min(all.len());
        passed += skipped;
        found.extend(all.into_iter().skip(skipped).take(limit - found.len()));
    }
    Ok(found)
}

/// The conversations of a consumer whose numbers lie between two.
pub(super) fn of_consumer(
    connection: &Connection,
    memory: &Memory,
    (account, consumer): (&AccountId, &ConsumerId),
    (above, below): (i64, i64),
    is_up: bool,
    limit: usize,
) -> rusqlite::Result<Vec<Conversation>> {
    let is_one = |state: &&Conversation| {
        let details = &state.details;
        details.account == *account && details.consumer == *consumer && details.number > above && details.number < below
    };
    // What is newer in memory counts as it is there, also where it says that a conversation is another consumer's by now.
    let (here, newer) = {
        let memory = memory.read();
        let here: Vec<Conversation> = memory.dirty_all().map(|(_, state)| state).filter(is_one).cloned().collect();
        (here, memory.dirty_ids(account))
    };
    let sql = format!(
        "SELECT state, applied FROM conversations WHERE account = ?1 AND consumer = ?2 AND number > ?3 AND number < ?4
         ORDER BY number {}",
        if is_up { "ASC" } else { "DESC" }
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query_map((account.as_str(), consumer.as_str(), above, below), row::conversation_at)?;
    let mut found: BTreeMap<i64, Conversation> = here.into_iter().map(|state| (state.details.number, state)).collect();
    let mut read = 0;
    while read < limit
        && let Some(at) = rows.next()
    {
        let state = at?.state;
        if !newer.contains(&state.details.id) {
            found.insert(state.details.number, state);
            read += 1;
        }
    }
    Ok(if is_up { found.into_values().take(limit).collect() } else { found.into_values().rev().take(limit).collect() })
}

/// The conversation in which something is booked: of several the one that was opened last.
pub(super) fn booked(
    connection: &Connection,
    memory: &Memory,
    account: &AccountId,
    booking: &str,
) -> rusqlite::Result<Option<Conversation>> {
    let stands =
        |state: &Conversation| state.details.account == *account && state.details.facts().bookings.iter().any(|known| known == booking);
    // What is newer in memory counts as it is there, also where it says that the booking does not stand.
    let (mut found, newer) = {
        let memory = memory.read();
        let here: Vec<Conversation> = memory.dirty_all().map(|(_, state)| state).filter(|state| stands(state)).cloned().collect();
        (here, memory.dirty_ids(account))
    };
    let sql = "SELECT state, applied FROM conversations
               WHERE id IN (SELECT conversation FROM bookings WHERE account = ?1 AND booking = ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((account.as_str(), booking), row::conversation_at)?;
    for at in rows {
        let state = at?.state;
        if stands(&state) && !newer.contains(&state.details.id) {
            found.push(state);
        }
    }
    Ok(found.into_iter().max_by_key(|state| state.details.number))
}

/// What changed a conversation and is no event.
pub(super) fn changes(connection: &Connection, memory: &Memory, conversation: &ConversationId) -> rusqlite::Result<Vec<Arc<Sight>>> {
    let (floor, here) = {
        let memory = memory.read();
        let is_change = |sight: &&Arc<Sight>| sight.entry.conversation() == Some(conversation) && sight.message().is_none();
        let here: Vec<_> = memory.after(memory.floor()).into_iter().flatten().filter(is_change).cloned().collect();
        (memory.floor(), here)
    };
    let sql = "SELECT j.position, j.at, j.account, j.entry FROM changes c JOIN journal j ON j.position = c.position
               WHERE c.conversation = ?1 AND c.position <= ?2 ORDER BY c.position";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((conversation.as_str(), floor.cast_signed()), row::sight)?;
    let mut found: Vec<_> = rows.collect::<Result<_, _>>()?;
    found.extend(here);
    Ok(found)
}

/// All entries of an account behind a position, if memory has everything after that.
pub(super) fn account_feed_at_hand(memory: &Inner, account: &AccountId, after: u64, limit: usize) -> Option<Feed> {
    if !memory.reaches(after) {
        return None;
    }
    // Where something was removed memory has an entry that says nothing.
    let is_empty = |sight: &Arc<Sight>| matches!(sight.entry, Entry::Removed { number: 0, .. });
    let is_theirs = |sight: &&Arc<Sight>| sight.account == *account && !is_empty(sight);
    let theirs = memory.after(after).into_iter().flatten().filter(is_theirs).cloned().map(Ok);
    let (found, is_cut) = reader::within(theirs, limit).unwrap_or_default();
    let reached = if found.len() < limit && !is_cut { memory.head().max(after) } else { found.last().map_or(after, |last| last.position) };
    Some((found, reached))
}

/// All entries of an account behind a position.
pub(super) fn account_feed(
    connection: &Connection,
    memory: &Memory,
    account: &AccountId,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Feed> {
    reader::feed(connection, memory, account, &ClientId::from(ACCOUNT), after, limit)
}

/// Consumers in the order of their ids.
pub(super) fn consumers(
    connection: &Connection,
    memory: &Memory,
    account: &AccountId,
    by: &ConsumersBy,
    after: Option<&ConsumerId>,
    limit: usize,
) -> rusqlite::Result<Vec<Consumer>> {
    let after = after.map_or("", ConsumerId::as_str);
    let fits = |consumer: &Consumer| consumer.id.as_str() > after && by.has(consumer);
    let (here, newer): (Vec<Consumer>, Set<ConsumerId>) = {
        let memory = memory.read();
        let here = memory.dirty_consumers(account).filter(|consumer| fits(consumer)).cloned().collect();
        (here, memory.dirty_consumers(account).map(|consumer| consumer.id.clone()).collect())
    };
    let mut values = vec![account.as_str().to_owned(), after.to_owned()];
    let filter = match by {
        ConsumersBy::Account => String::new(),
        ConsumersBy::Id(prefix) => {
            // Ids are of plain letters and digits, so that nothing that begins so lies behind the prefix and a tilde.
            values.extend([prefix.clone(), format!("{prefix}~")]);
            "AND id >= ?3 AND id < ?4".to_owned()
        }
        ConsumersBy::Mail(mail) => contact(&mut values, "mail", &mail.to_lowercase()),
        ConsumersBy::Phone(phone) => contact(&mut values, "phone", phone),
        ConsumersBy::ExtId(ext_id) => contact(&mut values, "ext", ext_id),
    };
    let sql = format!("SELECT state FROM consumers WHERE account = ?1 AND id > ?2 {filter} ORDER BY id");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found: BTreeMap<ConsumerId, Consumer> = BTreeMap::new();
    while found.len() < limit {
        let Some(next) = rows.next()? else { break };
        let consumer: Consumer = row::json(next, 0)?;
        if !newer.contains(&consumer.id) && by.has(&consumer) {
            found.insert(consumer.id.clone(), consumer);
        }
    }
    found.extend(here.into_iter().map(|consumer| (consumer.id.clone(), consumer)));
    Ok(found.into_values().take(limit).collect())
}

/// The last consumers in front of one, in the order of their ids.
pub(super) fn consumers_before(
    connection: &Connection,
    memory: &Memory,
    account: &AccountId,
    before: &ConsumerId,
    limit: usize,
) -> rusqlite::Result<Vec<Consumer>> {
    let here: Vec<Consumer> = memory.read().dirty_consumers(account).filter(|consumer| consumer.id < *before).cloned().collect();
    let mut statement =
        connection.prepare_cached("SELECT state FROM consumers WHERE account = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3")?;
    let rows = statement.query_map((account.as_str(), before.as_str(), count(limit)), |row| row::json::<Consumer>(row, 0))?;
    let mut found: BTreeMap<ConsumerId, Consumer> = BTreeMap::new();
    for consumer in rows {
        let consumer = consumer?;
        found.insert(consumer.id.clone(), consumer);
    }
    // What is newer in memory counts as it is there.
    found.extend(here.into_iter().map(|consumer| (consumer.id.clone(), consumer)));
    let skipped = found.len().saturating_sub(limit);
    Ok(found.into_values().skip(skipped).collect())
}

fn contact(values: &mut Vec<String>, kind: &str, value: &str) -> String {
    values.extend([kind.to_owned(), value.to_owned()]);
    "AND id IN (SELECT consumer FROM contacts WHERE account = ?1 AND kind = ?3 AND value = ?4)".to_owned()
}
