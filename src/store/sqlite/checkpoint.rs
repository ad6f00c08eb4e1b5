//! Checkpoints of the database, on a thread of their own: neither a decision nor a sweep waits for their syncs.
//!
//! What sweeps wrote is in the database's write-ahead log and need not be on disk, because the tail has it, too. A checkpoint
//! makes it so: it syncs that log, and then copies it into the database as far as readers let it. When it is done the tail may
//! let go of what was swept before it began.

use super::connect;
use rusqlite::Connection;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

/// Why a checkpoint failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckpointError {
    /// The write-ahead log may not be on disk.
    #[error("the write-ahead log cannot be synced: {0}")]
    Sync(io::Error),
    /// It could not be copied.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// There is nobody any more who makes them.
    #[error("the thread of the checkpoints has ended")]
    Ended,
}

/// The thread, and what it was asked.
#[derive(Debug)]
pub(super) struct Checkpoints {
    ask: Option<SyncSender<()>>,
    done: Receiver<Result<(), CheckpointError>>,
    /// The last frame that was swept when it was asked for the checkpoint that is under way.
    under_way: Option<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn start(folder: &Path) -> rusqlite::Result<Self> {
        let connection = connect(&folder.join(super::backup::DATABASE))?;
        let log = folder.join(super::backup::BESIDE[0]);
        let (ask, asked) = sync_channel(1);
        let (tell, done) = sync_channel(1);
        let run = move || {
            // Kept open: of a write that failed, a file that is opened later says nothing.
            let mut file = File::open(&log).ok();
            while asked.recv().is_ok() {
                if tell.send(checkpoint(&connection, &log, &mut file)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(run)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(Self { ask: Some(ask), done, under_way: None, thread: Some(thread) })
    }

    /// Begins one, unless one is under way. `frame` is the last that was swept.
    pub(super) fn begin(&mut self, frame: u64) {
        if self.under_way.is_none() && self.ask.as_ref().is_some_and(|ask| ask.try_send(()).is_ok()) {
            self.under_way = Some(frame);
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What became of the one that was under way: the frame up to which all is on disk.
    pub(super) fn ended(&mut self) -> Option<Result<u64, CheckpointError>> {
        let done = match self.done.try_recv() {
            Ok(done) => done,
            Err(TryRecvError::Disconnected) if self.is_under_way() => Err(CheckpointError::Ended),
            Err(_) => return None,
        };
        let frame = self.under_way.take().unwrap_or(0);
        Some(done.map(|()| frame))
    }

    /// Waits for the one that is under way, and ends the thread.
    pub(super) fn close(&mut self) {
        self.ask = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the checkpoints did not end in good order");
        }
    }
}

fn checkpoint(connection: &Connection, log: &Path, file: &mut Option<File>) -> Result<(), CheckpointError> {
    if file.is_none() {
        match File::open(log) {
            Ok(opened) => *file = Some(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CheckpointError::Sync(error)),
        }
    }
    // SQLite syncs it only if it finds something to copy, which a reader may forbid.
    if let Some(file) = file {
        file.sync_data().map_err(CheckpointError::Sync)?;
    }
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}
