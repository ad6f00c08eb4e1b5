//! The index's file: one table of words for each account, and how far it follows the journal.
//!
//! A row is a message, or a conversation's own words, and its number is the position of the entry that it comes from: so the
//! newest come first where rows are read backwards. The tables keep the texts themselves, because to take words out of an
//! index one must know them.

use super::SearchError;
use super::text::{self, Fields, Piece};
use crate::domain::Sight;
use crate::map::Map;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ConversationId, DialogId};

/// The index's file in a data folder.
pub const DATABASE: &str = "search.db";
/// How the tables are made. A file of another layout is made anew, from the journal.
const LAYOUT: &str = "2";
/// KiB of the file that the one who writes it keeps in memory.
const CACHE: usize = 16 * 1024;
/// Pages of the write-ahead log, of 4 KiB, after which they are copied into the file itself.
const CHECKPOINT: usize = 4_096;

/// The index, for the one who writes it.
pub(super) struct Index {
    path: PathBuf,
    epoch: String,
    connection: Connection,
    /// Every entry up to here is in it.
    cursor: u64,
    tables: Map<AccountId, i64>,
    /// What was taken out may still be in the write-ahead log.
    is_dirty: bool,
}

/// What a conversation's rows are found by, beside words: its id may hold anything, this does not.
pub(super) fn mark(conversation: &ConversationId) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, conversation.as_str().as_bytes());
    digest.as_ref().iter().take(8).fold(String::with_capacity(16), |text, byte| text + &format!("{byte:02x}"))
}

/// What the row with a conversation's own words is found by, among many of its messages.
pub(super) fn own_mark(conversation: &ConversationId) -> String {
    format!("own{}", mark(conversation))
}

/// The name of the table of an account, if it has one.
pub(super) fn table(connection: &Connection, account: &AccountId) -> rusqlite::Result<Option<String>> {
    Ok(number(connection, account)?.map(name))
}

/// How texts are cut into words, those that are indexed and those that are searched for. The tables of SQLite know few of the
/// symbols that were added to Unicode of late, and take the others for letters.
pub(super) fn tokenizer() -> String {
    let symbols: String = ('\u{1F000}'..='\u{1FBFF}').filter(|c| !c.is_alphanumeric()).collect();
    format!("tokenize = \"unicode61 remove_diacritics 2 separators '{symbols}'\"")
}

fn name(number: i64) -> String {
    format!("words_{number}")
}

fn number(connection: &Connection, account: &AccountId) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT number FROM accounts WHERE id = ?1")?.query_row([account.as_str()], |row| row.get(0)).optional()
}

fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?
        .execute([key, value])?;
    Ok(())
}

/// Whether the file itself is at fault, and not the moment.
pub(super) fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

impl Index {
    /// Opens the index of a log that has come to a position. One that is of another log, ahead of this one, of another layout or
    /// damaged is made anew, empty.
    pub(super) fn open(folder: &Path, epoch: &str, head: u64) -> Result<Self, SearchError> {
        let path = folder.join(DATABASE);
        match Self::try_open(&path, epoch).map(|opened| opened.filter(|index| index.cursor <= head)) {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => {}
            Err(SearchError::Database(error)) if is_damaged(&error) => tracing::warn!(%error, "the search index is damaged"),
            Err(error) => return Err(error),
        }
        tracing::info!("the search index is made anew: there is none that is of this log and of this version");
        remove(&path)?;
        let index = Self::try_open(&path, epoch)?;
        index.ok_or_else(|| SearchError::File { path, source: std::io::Error::other("the file was made anew and is another again") })
    }

    /// None, if it is of another log or layout.
    fn try_open(path: &Path, epoch: &str) -> Result<Option<Self>, SearchError> {
        let failed = |source| SearchError::File { path: path.to_owned(), source };
        // Made first, because SQLite would let others read it where the folder lets them in: people's words are in it.
        match std::fs::File::options().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_prepared_statement_cache_capacity(64);
        // NORMAL: what a power cut takes back is indexed again. The journal is the truth.
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -{CACHE}; PRAGMA wal_autocheckpoint = {CHECKPOINT};"
        ))?;
        if !connection.table_exists(None, "meta")? {
            connection.execute_batch(&format!(
                "BEGIN;
                 CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
                 CREATE TABLE accounts (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
                 INSERT INTO meta (key, value) VALUES ('layout', '{LAYOUT}');
                 COMMIT"
            ))?;
            set_meta(&connection, "epoch", epoch)?;
        }
        let (layout, log) = (meta(&connection, "layout")?, meta(&connection, "epoch")?);
        if (layout.as_deref(), log.as_deref()) != (Some(LAYOUT), Some(epoch)) {
            return Ok(None);
        }
        let cursor = meta(&connection, "cursor")?.and_then(|text| text.parse().ok()).unwrap_or(0);
        let (path, epoch) = (path.to_owned(), epoch.to_owned());
        // It was closed, or killed, with what was removed perhaps still in the write-ahead log.
        Ok(Some(Self { path, epoch, connection, cursor, tables: Map::default(), is_dirty: true }))
    }

    /// Begins anew with an empty file.
    pub(super) fn begin_anew(&mut self) -> Result<(), SearchError> {
        tracing::warn!(position = self.cursor, "the search index is made anew");
        // The connection keeps the old file as long as it is open, and no more.
        remove(&self.path)?;
        let folder = self.path.parent().map(Path::to_owned).unwrap_or_default();
        *self = Self::open(&folder, &self.epoch, 0)?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Takes in entries, and moves the cursor, together.
    pub(super) fn take(&mut self, sights: &[Arc<Sight>], reached: u64) -> rusqlite::Result<()> {
        let before = self.is_dirty;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut tables = std::mem::take(&mut self.tables);
        let taken = take_all(&transaction, &mut tables, sights, &mut self.is_dirty);
        // A table that was made is gone with the transaction.
        let written = taken.and_then(|()| set_meta(&transaction, "cursor", &reached.to_string())).and_then(|()| transaction.commit());
        match written {
            Ok(()) => (self.tables, self.cursor) = (tables, reached),
            Err(_) => self.is_dirty = before,
        }
        written
    }

    /// A transaction for what no entry brings.
    #[cfg(test)]
    pub(super) fn writing(&mut self) -> Transaction<'_> {
        self.connection.transaction().unwrap()
    }

    /// Whether something that was taken out may still be on the disk.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Empties the write-ahead log, in which what was taken out may still be read, unless a search is in its way.
    pub(super) fn tidy(&mut self) -> rusqlite::Result<()> {
        let is_busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))? != 0;
        self.is_dirty &= is_busy;
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), SearchError> {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(SearchError::File { path, source }),
            _ => {}
        }
    }
    Ok(())
}

/// What a row says beside its words.
struct Row {
    rowid: i64,
    conversation: String,
    dialog: String,
    sequence: Option<u64>,
}

impl Row {
    /// Whether it is of the event at this place.
    fn is_at(&self, dialog: &DialogId, sequence: u64) -> bool {
        self.sequence == Some(sequence) && self.dialog == dialog.as_str()
    }
}

fn take_all(
    transaction: &Transaction<'_>,
    tables: &mut Map<AccountId, i64>,
    sights: &[Arc<Sight>],
    is_dirty: &mut bool,
) -> rusqlite::Result<()> {
    for sight in sights {
        let Some(piece) = text::piece(sight) else { continue };
        if let Piece::Removed(conversation) = piece {
            if let Some(number) = number(transaction, &sight.account)? {
                *is_dirty |= forget(transaction, number, (&mark(conversation), conversation), |_| true)?;
            }
            continue;
        }
        if let Piece::Unsaid { conversation, places } = &piece {
            if let Some(number) = number(transaction, &sight.account)? {
                let is_meant = |row: &Row| places.iter().any(|(dialog, sequence)| row.is_at(dialog, *sequence));
                *is_dirty |= forget(transaction, number, (&mark(conversation), conversation), is_meant)?;
            }
            continue;
        }
        let number = match tables.get(&sight.account) {
            Some(number) => *number,
            None => {
                let number = number_or_new(transaction, &sight.account)?;
                tables.insert(sight.account.clone(), number);
                number
            }
        };
        put(transaction, number, sight.position, &piece, is_dirty)?;
    }
    Ok(())
}

fn number_or_new(transaction: &Transaction<'_>, account: &AccountId) -> rusqlite::Result<i64> {
    if let Some(number) = number(transaction, account)? {
        return Ok(number);
    }
    transaction.execute("INSERT INTO accounts (id) VALUES (?1)", [account.as_str()])?;
    let number = transaction.last_insert_rowid();
    let name = name(number);
    // Sizes of columns serve ranks alone, and what is found is not ranked. `secure-delete`: words that are taken out are
    // erased, and not only marked as gone.
    transaction.execute_batch(&format!(
        "CREATE VIRTUAL TABLE {name} USING fts5(mark, conversation UNINDEXED, dialog UNINDEXED, sequence UNINDEXED, whisper UNINDEXED,
                                                subject, text, {}, columnsize = 0);
         INSERT INTO {name} ({name}, rank) VALUES ('secure-delete', 1);",
        tokenizer()
    ))?;
    Ok(number)
}

/// Adds a row. A conversation's own words replace those that it had.
pub(super) fn put(
    transaction: &Transaction<'_>,
    number: i64,
    position: u64,
    piece: &Piece<'_>,
    is_dirty: &mut bool,
) -> rusqlite::Result<()> {
    let name = name(number);
    let insert = format!(
        "INSERT INTO {name} (rowid, mark, conversation, dialog, sequence, whisper, subject, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    );
    let position = position.cast_signed();
    match piece {
        Piece::Removed(_) | Piece::Unsaid { .. } => Ok(()),
        Piece::Fields { conversation, fields: Fields { subject } } => {
            let own = own_mark(conversation);
            *is_dirty |= forget(transaction, number, (&own, conversation), |_| true)?;
            let (dialog, sequence): (&str, Option<i64>) = ("", None);
            let id = conversation.as_str();
            transaction.prepare_cached(&insert)?.execute((
                position,
                format!("{} {own}", mark(conversation)),
                id,
                dialog,
                sequence,
                false,
                subject,
                "",
            ))?;
            Ok(())
        }
        Piece::Message { conversation, dialog, sequence, whisper, text } => {
            let (id, sequence) = (conversation.as_str(), sequence.cast_signed());
            let row = (position, mark(conversation), id, dialog.as_str(), sequence, whisper, "", text);
            transaction.prepare_cached(&insert)?.execute(row)?;
            Ok(())
        }
    }
}

/// Takes rows of a conversation out, of those that have a mark; whether there were any.
fn forget(
    transaction: &Transaction<'_>,
    number: i64,
    (mark, conversation): (&str, &ConversationId),
    is_meant: impl Fn(&Row) -> bool,
) -> rusqlite::Result<bool> {
    let name = name(number);
    let rows: Vec<Row> = {
        let sql = format!("SELECT rowid, conversation, dialog, sequence FROM {name} WHERE {name} MATCH ?1");
        let mut statement = transaction.prepare_cached(&sql)?;
        let read = |row: &rusqlite::Row<'_>| {
            let sequence = row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned);
            Ok(Row { rowid: row.get(0)?, conversation: row.get(1)?, dialog: row.get(2)?, sequence })
        };
        statement.query_map([format!("mark : \"{mark}\"")], read)?.collect::<Result<_, _>>()?
    };
    let mut was_any = false;
    for row in rows.iter().filter(|row| row.conversation == conversation.as_str() && is_meant(row)) {
        transaction.prepare_cached(&format!("DELETE FROM {name} WHERE rowid = ?1"))?.execute([row.rowid])?;
        was_any = true;
    }
    Ok(was_any)
}
