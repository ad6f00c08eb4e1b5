//! A copy of the database while it is in use, and what must be known of one before it is put in use itself.

use super::{OpenError, connect, lock, projection, tail};
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Held while a backup is made, shared; whoever removes what a backup may be about to copy holds it alone.
pub const BACKUP_LOCK: &str = "backup.lock";

/// Held by whoever serves a data folder, or puts a copy in its place.
pub const LOCK: &str = "lock";

/// The database's file in a data folder.
pub const DATABASE: &str = "tieline.db";
/// What belongs to the database in a data folder, besides its file.
pub const BESIDE: [&str; 4] = ["tieline.db-wal", "tieline.db-shm", tail::FILES[0], tail::FILES[1]];
/// Where a gateway finds, in its data folder, when it was last copied.
pub const LAST: &str = "last-backup.json";
/// A folder in a data folder while a copy is put in its place.
pub const RESTORING: &str = ".restoring";

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The name of the log that it is a copy of.
    pub epoch: String,
    /// The journal's last position in it: everything up to there, and nothing behind it.
    pub position: u64,
}

/// Keeps what a backup needs from being removed until it is dropped. `None`, if a removal is under way right now.
///
/// # Errors
/// [`OpenError::Folder`] if the folder cannot be written.
pub fn hold(folder: &Path, is_shared: bool) -> Result<Option<File>, OpenError> {
    let path = folder.join(BACKUP_LOCK);
    let failed = |source| OpenError::Folder { path: path.clone(), source };
    // Only read where it is there: whoever made it may be another user than the gateway's.
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::options().create(true).truncate(false).write(true).open(&path),
        opened => opened,
    };
    let file = file.map_err(failed)?;
    let taken = if is_shared { file.try_lock_shared() } else { file.try_lock() };
    match taken {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Writes a copy of the database of a data folder, with all that is committed, to a file that is not there yet, synced. The
/// gateway may go on writing, but nothing may be removed meanwhile: see [`hold`]. The copy is of one moment, and marked, so that a
/// gateway which starts on it gives the log a new name.
///
/// # Errors
/// [`OpenError`], also if there is no database.
pub fn copy(folder: &Path, to: &Path) -> Result<Copied, OpenError> {
    let source = folder.join(DATABASE);
    // Writable, or what a killed gateway left in the write-ahead log could not be read; not created if it is not there.
    let from = Connection::open_with_flags(&source, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    from.busy_timeout(Duration::from_secs(30))?;
    let failed = |source| OpenError::Folder { path: to.to_owned(), source };
    // Made first, because SQLite would let others read it where the folder lets them in.
    File::options().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    from.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    drop(from);
    let mut copy = connect(to)?;
    complete(&mut copy, folder)?;
    let copied = look(&copy)?;
    projection::mark_as_copy(&copy)?;
    // One file that holds all, for whoever moves it.
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    drop(copy);
    File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
    Ok(copied)
}

/// Carries over into a copy what was committed and is not yet in the database that it was made from.
fn complete(copy: &mut Connection, folder: &Path) -> Result<(), OpenError> {
    // The gateway may be writing a frame while it is read, and then the next: read before the first is whole, they look damaged.
    let mut tries = 0..3;
    loop {
        match projection::complete(copy, folder) {
            Err(OpenError::Journal(_)) if tries.next().is_some() => std::thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
}

fn look(connection: &Connection) -> Result<Copied, OpenError> {
    let head: Option<i64> = connection.query_row("SELECT max(position) FROM journal", [], |row| row.get(0))?;
    // What retention removed at the end is behind the projections' cursor.
    let position = head.map_or(0, i64::cast_unsigned).max(projection::cursor(connection)?.position);
    Ok(Copied { epoch: projection::epoch(connection)?, position })
}

/// Reads a whole copy, and says what it holds.
///
/// # Errors
/// [`OpenError`] if it is damaged.
pub fn check(database: &Path) -> Result<Copied, OpenError> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(OpenError::Journal(said));
    }
    look(&connection)
}

/// Makes sure that no gateway uses a data folder until the result is dropped.
///
/// # Errors
/// [`OpenError::InUse`] if one does.
pub fn claim(folder: &Path) -> Result<File, OpenError> {
    lock(folder)
}
