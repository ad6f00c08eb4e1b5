//! One page of a search, on a connection that only reads.
//!
//! What is searched for is cut into terms by the index's own tokenizer, and each term is quoted: nothing that people type is
//! ever the syntax of a query. Rows are read from the newest on, so a page ends as soon as it is full.

use super::index::{mark, own_mark, table, tokenizer};
use super::text::{BEGIN, END};
use super::{Cursor, Found, Hit, Hits, Mode, Question, Scope, SearchError};
use crate::map::Set;
use rusqlite::{Connection, ErrorCode};
use tieline_protocol::ids::{ConversationId, DialogId};

/// Most terms of one search.
const TERMS: usize = 32;
/// Most rows that are looked at for one page.
const ROWS: usize = 5_000;
/// Most messages that are shown of one conversation.
pub const MESSAGES: usize = 10;
/// Tokens of a fragment.
const FRAGMENT: usize = 32;
/// Bytes of a term from which on it may be the beginning of a word: one character of Chinese, three of English.
const BEGINNING: usize = 3;

/// Makes a connection ready to cut texts into terms.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;
         CREATE VIRTUAL TABLE temp.typed USING fts5(text, {});
         CREATE VIRTUAL TABLE temp.terms USING fts5vocab(temp, typed, instance);",
        tokenizer()
    ))
}

/// The terms of a text, in order, as the index has them.
fn terms(connection: &Connection, text: &str) -> rusqlite::Result<Vec<String>> {
    // Never committed, so that it is empty again.
    let transaction = connection.unchecked_transaction()?;
    transaction.prepare_cached("INSERT INTO temp.typed (text) VALUES (?1)")?.execute([text.replace('\0', " ")])?;
    let mut statement = transaction.prepare_cached("SELECT term FROM temp.terms ORDER BY offset")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn quoted(term: &str) -> String {
    format!("\"{}\"", term.replace('"', "\"\""))
}

/// What is searched for, in the syntax of the index.
fn expression(terms: &[String], mode: Mode, is_beginning: bool) -> String {
    let quoted: Vec<String> = terms.iter().map(|term| quoted(term)).collect();
    let joined = quoted.join(match mode {
        Mode::Exact => " + ",
        Mode::Loose => " AND ",
    });
    format!("{{subject text}} : ({joined}{})", if is_beginning { " *" } else { "" })
}

/// Why a page ended before it was full.
enum Cut {
    /// Nothing more is there.
    End,
    /// There may be more from this row on.
    At(i64),
}

struct Page<'a> {
    connection: &'a Connection,
    name: String,
    expression: String,
    scope: Scope,
    limit: usize,
    /// The newest row that belongs to this search: what came after its first page is not in it.
    from: i64,
    hits: Vec<Hit>,
}

/// One page. What was found until the time was over is a page, too.
pub(super) fn search(connection: &Connection, question: &Question) -> Result<Hits, SearchError> {
    let terms = terms(connection, &question.text)?;
    if terms.is_empty() {
        return Err(SearchError::NoWords);
    }
    if terms.len() > TERMS {
        return Err(SearchError::TooMuch);
    }
    // One view of the index for all that is read for a page.
    let _view = connection.unchecked_transaction()?;
    let Some(name) = table(connection, &question.account)? else { return Ok(Hits::default()) };
    let newest = || {
        let sql = format!("SELECT ifnull(max(rowid), 0) FROM {name}");
        connection.prepare_cached(&sql)?.query_row([], |row| row.get::<_, i64>(0))
    };
    let begin = match &question.after {
        Some(after) => after.clone(),
        None => Cursor { from: newest()?, next: i64::MAX, is_beginning: false },
    };
    let page = |is_beginning| {
        let expression = expression(&terms, question.mode, is_beginning);
        let (name, scope, limit, from) = (name.clone(), question.scope, question.limit.max(1), begin.from);
        let mut page = Page { connection, name, expression, scope, limit, from, hits: Vec::new() };
        let cut = page.fill(begin.next)?;
        let next = match cut {
            Cut::End => None,
            Cut::At(row) => Some(Cursor { from: begin.from, next: row, is_beginning }),
        };
        Ok::<_, SearchError>(Hits { hits: page.hits, next })
    };
    let found = page(begin.is_beginning)?;
    let may_begin = question.mode == Mode::Loose && terms.last().is_some_and(|term| term.len() >= BEGINNING);
    // Only where nothing has the whole words is the last taken for one that is not typed to its end.
    if question.after.is_none() && may_begin && found.hits.is_empty() && found.next.is_none() { page(true) } else { Ok(found) }
}

fn is_time_over(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

impl Page<'_> {
    /// Reads rows from one on, downwards, until the page is full.
    fn fill(&mut self, next: i64) -> Result<Cut, SearchError> {
        let mut at = None;
        match self.fill_in_time(next, &mut at) {
            // Where nothing was reached there is nothing to go on from.
            Err(error) if is_time_over(&error) => at.map(Cut::At).ok_or(SearchError::TooLong),
            cut => Ok(cut?),
        }
    }

    fn fill_in_time(&mut self, next: i64, at: &mut Option<i64>) -> rusqlite::Result<Cut> {
        let is_first_page = next == i64::MAX;
        let sql = format!("SELECT rowid, conversation, whisper FROM {0} WHERE {0} MATCH ?1 AND rowid <= ?2 ORDER BY rowid DESC", self.name);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query((&self.expression, next.min(self.from)))?;
        // Those that are on this page, and those that were on an earlier one.
        let mut known: Set<ConversationId> = Set::default();
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            let rowid: i64 = row.get(0)?;
            if looked_at == ROWS {
                return Ok(Cut::At(rowid));
            }
            looked_at += 1;
            if self.shows(row.get(2)?) && !known.contains(row.get_ref(1)?.as_str()?) {
                let conversation = ConversationId::from(row.get_ref(1)?.as_str()?);
                if is_first_page || !self.was_met(&conversation, rowid)? {
                    if self.hits.len() == self.limit {
                        return Ok(Cut::At(rowid));
                    }
                    let hit = self.hit(&conversation)?;
                    self.hits.push(hit);
                }
                known.insert(conversation);
            }
            *at = Some(rowid - 1);
        }
        Ok(Cut::End)
    }

    fn shows(&self, is_whisper: bool) -> bool {
        self.scope == Scope::Everything || !is_whisper
    }

    /// A search among the rows that have a mark.
    fn within(&self, mark: &str) -> String {
        format!("mark : \"{mark}\" AND {}", self.expression)
    }

    /// Whether a conversation has a match above a row, with which it stood on an earlier page.
    fn was_met(&self, conversation: &ConversationId, row: i64) -> rusqlite::Result<bool> {
        let sql = format!(
            "SELECT conversation, whisper FROM {0} WHERE {0} MATCH ?1 AND rowid > ?2 AND rowid <= ?3 ORDER BY rowid DESC",
            self.name
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query((self.within(&mark(conversation)), row, self.from))?;
        while let Some(row) = rows.next()? {
            if row.get_ref(0)?.as_str()? == conversation.as_str() && self.shows(row.get(1)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A conversation that has a match, with its newest ones.
    fn hit(&self, conversation: &ConversationId) -> rusqlite::Result<Hit> {
        let mut hit = Hit { conversation: conversation.clone(), subject: Vec::new(), messages: Vec::new() };
        self.collect(&mut hit, &mark(conversation))?;
        // Its own words are as old as itself, so that many messages may stand before them.
        if hit.messages.len() == MESSAGES {
            self.collect(&mut hit, &own_mark(conversation))?;
        }
        Ok(hit)
    }

    fn collect(&self, hit: &mut Hit, mark: &str) -> rusqlite::Result<()> {
        let sql = format!(
            "SELECT dialog, sequence, snippet({0}, iif(sequence IS NULL, 5, 6), '{BEGIN}', '{END}', '…', {FRAGMENT}) FROM {0}
             WHERE {0} MATCH ?1 AND rowid <= ?2 AND conversation = ?3 AND whisper <= ?4 ORDER BY rowid DESC LIMIT {MESSAGES}",
            self.name
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let (id, is_all) = (hit.conversation.clone(), self.scope == Scope::Everything);
        let mut rows = statement.query((self.within(mark), self.from, id.as_str(), is_all))?;
        while let Some(row) = rows.next()? {
            let fragment = marked(row.get_ref(2)?.as_str()?);
            match row.get::<_, Option<i64>>(1)? {
                None => hit.subject.push(fragment),
                Some(sequence) => {
                    let dialog = DialogId::from(row.get_ref(0)?.as_str()?);
                    hit.messages.push(Found { dialog, sequence: sequence.cast_unsigned(), fragment });
                }
            }
        }
        Ok(())
    }
}

/// A fragment as HTML: safe, and with what matches marked.
fn marked(fragment: &str) -> String {
    let mut html = String::with_capacity(fragment.len() + 40);
    for c in fragment.chars() {
        match c {
            BEGIN => html.push_str("<em class=\"highlight\">"),
            END => html.push_str("</em>"),
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}
