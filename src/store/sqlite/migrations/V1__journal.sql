-- The journal: append-only, in commit order, until a conversation is removed or what was said in it erased. It follows the files of the tail, as do
-- `retries`, `resends` and the projections; an entry that says that a conversation was removed is written here first. Everything
-- else but `sessions`, `documents`, `cursors`, `removals`, and the tables of webhooks is derived from it.
CREATE TABLE journal (
    position INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    account TEXT NOT NULL,
    entry TEXT NOT NULL
);

-- Answers to requests that came with an idempotency key, in the order of the tail. `name` is a SHA-256 of the account, the
-- sender and the key, and `hash` its first eight bytes: an index by names would be as large as the table, and as scattered.
CREATE TABLE retries (
    place INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL,
    name BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    answer TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX retries_by_hash ON retries (hash);

-- How often the very same request was stored, for applications that count that.
CREATE TABLE resends (
    conversation TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    stored INTEGER NOT NULL,
    PRIMARY KEY (conversation, fingerprint)
) WITHOUT ROWID;

-- Agents' logins.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    agent TEXT NOT NULL,
    csrf TEXT NOT NULL,
    made_with BLOB NOT NULL,
    expires INTEGER NOT NULL,
    ended INTEGER NOT NULL
) WITHOUT ROWID;

-- What was set up while running, such as applications that were installed; each change makes a new revision.
CREATE TABLE documents (
    account TEXT NOT NULL,
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (account, collection, id)
) WITHOUT ROWID;

-- Where webhooks go, or are fetched from.
CREATE TABLE endpoints (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    app TEXT NOT NULL,
    target TEXT NOT NULL,
    events TEXT NOT NULL,
    since INTEGER NOT NULL,
    behind INTEGER NOT NULL,
    state TEXT NOT NULL,
    changed INTEGER NOT NULL
);

-- Entries that are owed to endpoints, written with the cursor of who found them. `turn` grows and is never used again.
CREATE TABLE owed (
    endpoint INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    position INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    since INTEGER NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (endpoint, turn)
) WITHOUT ROWID;
CREATE INDEX owed_by_conversation ON owed (conversation);

-- What was owed and is not tried any more.
CREATE TABLE dead_letters (
    endpoint INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    position INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    since INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    last TEXT,
    PRIMARY KEY (endpoint, turn)
) WITHOUT ROWID;
CREATE INDEX dead_letters_by_time ON dead_letters (at);
CREATE INDEX dead_letters_by_conversation ON dead_letters (conversation);

-- What was tried, and what came of it.
CREATE TABLE attempts (
    position INTEGER NOT NULL,
    endpoint INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    at INTEGER NOT NULL,
    took INTEGER NOT NULL,
    result TEXT NOT NULL,
    status INTEGER,
    answer TEXT,
    PRIMARY KEY (position, endpoint, turn, at)
) WITHOUT ROWID;
CREATE INDEX attempts_by_time ON attempts (at);

-- How far those have come who follow the log from outside: one value under each name.
CREATE TABLE cursors (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Conversations that were taken away, and of which rows are still to be erased.
CREATE TABLE removals (
    conversation TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    app TEXT,
    dialogs TEXT NOT NULL
) WITHOUT ROWID;

-- Projections: with the journal they follow the tail up to the frame and the position in `meta`.

-- Where the journal holds the events of a dialog: the positions of a run of them that were carried over together, the first of
-- which has the number `first`. Positions are LEB128 numbers, each the distance from the one before.
CREATE TABLE events (
    dialog TEXT NOT NULL,
    first INTEGER NOT NULL,
    positions BLOB NOT NULL,
    PRIMARY KEY (dialog, first)
) WITHOUT ROWID;

CREATE TABLE conversations (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    number INTEGER NOT NULL,
    consumer TEXT NOT NULL,
    open INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    -- In which period of ten seconds somebody last wrote: an index by the very time would be touched by each message.
    word INTEGER NOT NULL,
    -- When something must happen to it by itself; whether an agent must be found for it; its opener's name for it.
    wakes INTEGER,
    pending INTEGER NOT NULL,
    binding TEXT,
    -- The application through which it was opened.
    app TEXT,
    applied INTEGER NOT NULL,
    state TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX conversations_by_number ON conversations (account, number);
CREATE INDEX conversations_by_word ON conversations (account, word);
CREATE INDEX conversations_by_update ON conversations (account, open, updated);
CREATE INDEX conversations_by_time ON conversations (account, updated);
CREATE INDEX conversations_by_consumer ON conversations (account, consumer, updated);
CREATE INDEX conversations_of_consumer ON conversations (account, consumer, number);

CREATE INDEX conversations_closed ON conversations (updated) WHERE open = 0;

-- Where the journal holds what is no event: how a conversation was opened and changed.
CREATE TABLE changes (
    conversation TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (conversation, position)
) WITHOUT ROWID;

CREATE INDEX conversations_by_wake ON conversations (wakes) WHERE wakes IS NOT NULL;
CREATE INDEX conversations_pending ON conversations (account) WHERE pending = 1;
CREATE INDEX conversations_open_by_app ON conversations (account, app, updated) WHERE open = 1 AND app IS NOT NULL;
CREATE INDEX conversations_by_binding ON conversations (account, consumer, binding) WHERE binding IS NOT NULL;

-- Agents who take part, or to whom it is offered; busy are those of whose capacity it takes a part.
CREATE TABLE conversation_agents (
    account TEXT NOT NULL,
    agent TEXT NOT NULL,
    open INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    busy INTEGER NOT NULL,
    PRIMARY KEY (account, agent, open, conversation)
) WITHOUT ROWID;
CREATE INDEX conversation_agents_by_conversation ON conversation_agents (conversation);

CREATE TABLE consumers (
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    applied INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;

CREATE TABLE agents (
    account TEXT NOT NULL,
    agent TEXT NOT NULL,
    applied INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (account, agent)
) WITHOUT ROWID;

-- Where files are shown.
CREATE TABLE file_uses (
    account TEXT NOT NULL,
    path TEXT NOT NULL,
    conversation TEXT NOT NULL,
    whisper INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (account, path, position)
) WITHOUT ROWID;
CREATE INDEX file_uses_by_conversation ON file_uses (conversation);

-- What belongs to an application, in runs as in `events`; `first` is the first position at the time of writing. Under an empty name
-- of an application, all that belongs to the account.
CREATE TABLE feeds (
    account TEXT NOT NULL,
    app TEXT NOT NULL,
    first INTEGER NOT NULL,
    positions BLOB NOT NULL,
    PRIMARY KEY (account, app, first)
) WITHOUT ROWID;

-- Messages by the names that their writers gave them.
CREATE TABLE named (
    conversation TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (conversation, name)
) WITHOUT ROWID;

-- Consumers by how they can be reached (`mail`, `phone`), and by what applications call them (`ext`).
CREATE TABLE contacts (
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    consumer TEXT NOT NULL,
    PRIMARY KEY (account, kind, value, consumer)
) WITHOUT ROWID;
CREATE INDEX contacts_by_consumer ON contacts (account, consumer, kind);

-- Conversations by what was booked in them. Whether it still stands the conversation itself says.
CREATE TABLE bookings (
    account TEXT NOT NULL,
    booking TEXT NOT NULL,
    conversation TEXT NOT NULL,
    PRIMARY KEY (account, booking, conversation)
) WITHOUT ROWID;
CREATE INDEX bookings_by_conversation ON bookings (conversation);

-- What is asked to be erased, of a whole conversation or of one message; kept when it is done, for whoever asks, as long as the
-- conversation is.
CREATE TABLE erasures (
    id TEXT NOT NULL,
    account TEXT NOT NULL,
    conversation TEXT NOT NULL,
    dialog TEXT,
    sequence INTEGER,
    by TEXT NOT NULL,
    at INTEGER NOT NULL,
    position INTEGER NOT NULL,
    place INTEGER NOT NULL,
    done INTEGER,
    PRIMARY KEY (position, place)
) WITHOUT ROWID;
CREATE INDEX erasures_to_do ON erasures (position) WHERE done IS NULL;
CREATE INDEX erasures_by_id ON erasures (account, id);
CREATE INDEX erasures_by_conversation ON erasures (conversation);

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
