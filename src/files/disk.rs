//! Files on the local disk, and unfinished uploads wherever files are kept.
//!
//! An upload is written under a name of its own in `.incoming`, which no account can be called, synced, and then linked to
//! its place: a link is made or is not, and never replaces anything. When the folders on the way are synced too, it is
//! confirmed. Folders and files are for this process's user alone.

use super::path::FilePath;
use super::refused::{FilesError, Refused};
use axum::body::{Body, Bytes};
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Where uploads are while they come.
const INCOMING: &str = ".incoming";
/// Bytes read at a time.
const PIECE: usize = 64 * 1024;
/// How often a folder is made anew because it was removed, being empty, just before a file came.
const TRIES: usize = 5;

/// What went wrong is for the log, what to do for the client.
fn failed(what: &'static str, error: &io::Error) -> Refused {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            tracing::warn!(%error, "{what}");
            Refused::DiskFull
        }
        _ => {
            tracing::error!(%error, "{what}");
            Refused::Unavailable
        }
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Uploads that are not whole.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// Makes the folders, and removes what a crash left.
    pub(super) fn open(files: &Path) -> Result<Self, FilesError> {
        let folder = files.join(INCOMING);
        let prepare = || {
            make_folder(&folder)?;
            for folder in [files, &folder] {
                fs::set_permissions(folder, Permissions::from_mode(0o700))?;
            }
            let mut removed = 0;
            for entry in fs::read_dir(&folder)? {
                fs::remove_file(entry?.path())?;
                removed += 1;
            }
            if removed > 0 {
                tracing::info!(removed, "removed what was left of unfinished uploads");
            }
            files.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), sync_folder)
        };
        prepare().map_err(|source| FilesError::Folder { path: folder.clone(), source })?;
        Ok(Self { folder })
    }

    pub(super) async fn begin(&self) -> Result<Partial, Refused> {
        let path = self.folder.join(Uuid::new_v4().to_string());
        // The name comes out together with the file: when nobody waits any more, both go.
        let begun = tokio::task::spawn_blocking(move || {
            let file = fs::OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(&path)?;
            Ok((file, Name(path)))
        });
        let (file, name) = begun.await.map_err(io::Error::other).flatten().map_err(|error| failed("an upload cannot be begun", &error))?;
        Ok(Partial { file: File::from_std(file), name })
    }
}

/// The name of an unfinished upload, which is removed when it is no longer needed.
#[derive(Debug)]
struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            // The next start removes it.
            tracing::warn!(%error, "what is left of an upload cannot be removed");
        }
    }
}

/// An upload that is not kept yet. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    name: Name,
}

impl Partial {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.file.write_all(bytes).await.map_err(|error| failed("an upload cannot be written", &error))
    }

    /// The file, with everything written.
    async fn finish(mut self) -> Result<(fs::File, Name), Refused> {
        // Errors of writes before are told here.
        self.file.flush().await.map_err(|error| failed("an upload cannot be written", &error))?;
        Ok((self.file.into_std().await, self.name))
    }

    /// The bytes, for a store that wants them in one piece.
    #[cfg(feature = "s3")]
    pub(super) async fn into_bytes(self) -> Result<Bytes, Refused> {
        let (_, name) = self.finish().await?;
        tokio::fs::read(&name.0).await.map(Bytes::from).map_err(|error| failed("an upload cannot be read", &error))
    }
}

/// The local folder.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
}

/// Where a file lies: the folders from the outermost, and the file itself.
struct Place {
    account: PathBuf,
    owner: PathBuf,
    file: PathBuf,
}

impl Disk {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn place(&self, path: &FilePath) -> Place {
        let account = self.folder.join(path.account().as_str());
        let owner = account.join(path.owner());
        Place { file: owner.join(path.name()), owner, account }
    }

    pub(super) async fn size(&self, path: &FilePath) -> Result<Option<u64>, Refused> {
        match tokio::fs::metadata(self.place(path).file).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("a file cannot be looked at", &error)),
        }
    }

    pub(super) async fn keep(&self, path: &FilePath, partial: Partial) -> Result<(), Refused> {
        let (file, name) = partial.finish().await?;
        let (root, place) = (self.folder.clone(), self.place(path));
        // In one go: when the client leaves now, it is done all the same.
        let kept = tokio::task::spawn_blocking(move || {
            file.sync_all()?;
            link(&name.0, &place)?;
            drop(name);
            let synced = [&place.owner, &place.account, &root].into_iter().try_for_each(|folder| sync_folder(folder));
            if synced.is_err() {
                // Not confirmed, so not kept either.
                let _ = fs::remove_file(&place.file);
            }
            synced
        });
        match kept.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == ErrorKind::AlreadyExists => Err(Refused::Used),
            Ok(Err(error)) => Err(failed("an upload cannot be kept", &error)),
            Err(error) => Err(failed("an upload cannot be kept", &io::Error::other(error))),
        }
    }

    pub(super) async fn read(&self, path: &FilePath) -> Result<(u64, Body), Refused> {
        let missing = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => Refused::NoSuchFile,
            _ => failed("a file cannot be read", &error),
        };
        let file = File::open(self.place(path).file).await.map_err(missing)?;
        let size = file.metadata().await.map_err(missing)?.len();
        let pieces = futures::stream::try_unfold(file, |mut file| async move {
            let mut piece = Vec::with_capacity(PIECE);
            let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
            io::Result::Ok((read > 0).then(|| (Bytes::from(piece), file)))
        });
        Ok((size, Body::from_stream(pieces)))
    }

    /// Tells of every file that was kept within a time.
    pub(super) async fn old(&self, kept: Range<SystemTime>, tell: mpsc::Sender<FilePath>) -> Result<(), Refused> {
        let folder = self.folder.clone();
        let walked = tokio::task::spawn_blocking(move || walk(&folder, &kept, &tell)).await;
        walked.map_err(io::Error::other).flatten().map_err(|error| failed("the files cannot be listed", &error))
    }

    pub(super) async fn delete(&self, path: &FilePath) -> Result<(), Refused> {
        let place = self.place(path);
        let deleted = tokio::task::spawn_blocking(move || {
            fs::remove_file(&place.file)?;
            sync_folder(&place.owner)?;
            // Only an empty folder is removed, and if it is not removed no harm is done.
            let _ = fs::remove_dir(&place.owner);
            Ok(())
        });
        match deleted.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if io::Error::kind(&error) == ErrorKind::NotFound => Ok(()),
            Ok(Err(error)) => Err(failed("a file cannot be removed", &error)),
            Err(error) => Err(failed("a file cannot be removed", &io::Error::other(error))),
        }
    }
}

/// Tells of every file that was written within a time, until nobody wants to hear of more.
fn walk(files: &Path, kept: &Range<SystemTime>, tell: &mpsc::Sender<FilePath>) -> io::Result<()> {
    let folders = |folder: &Path| -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect())
    };
    let unless_gone = |error: io::Error| if error.kind() == ErrorKind::NotFound { Ok(Vec::new()) } else { Err(error) };
    for account in folders(files)? {
        for owner in folders(&account).or_else(unless_gone)? {
            // An empty folder goes at any time, and so does a file.
            let entries = match fs::read_dir(&owner) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
                // What is not ours to the letter is none of our files.
                let path = entry.path().strip_prefix(files).ok().and_then(|path| FilePath::parse(&format!("/files/{}", path.to_str()?)));
                if let Some(path) = path.filter(|_| kept.contains(&written))
                    && tell.blocking_send(path).is_err()
                {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn link(from: &Path, place: &Place) -> io::Result<()> {
    for _ in 1..TRIES {
        make_folder(&place.owner)?;
        match fs::hard_link(from, &place.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            linked => return linked,
        }
    }
    fs::hard_link(from, &place.file)
}
