//! `tieline backup` and `tieline restore`: the data folder, copied while the gateway runs, and put back.
//!
//! The copy holds the database as it was at one moment, the keys, the TLS CA and the attachments. Attachments come last, so
//! that every file the database names is there: a file is never changed once it is there, and none is removed while a backup
//! is made. `backup.json` is written when all the rest is on disk: a copy without it is not whole.

use crate::config::Config;
use crate::store::sqlite::backup::{self, BESIDE, Copied, DATABASE, LOCK, RESTORING};
use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What says that a copy is whole.
const MANIFEST: &str = "backup.json";
/// The folders that are copied besides the database.
const FOLDERS: [&str; 3] = ["keys", "tls", "files"];
/// Those of them that hold keys; of these a digest is kept.
const KEYS: [&str; 2] = ["keys", "tls"];
/// The key that no copy may lack: ids are made with it.
const IDS: &str = "keys/ids.key";
/// Unfinished uploads: their senders were told nothing yet.
const INCOMING: &str = ".incoming";
/// How long a backup waits for a batch of removals, between which the gateway rests.
const PATIENCE: Duration = Duration::from_secs(60);
/// The version of the copy's layout.
const LAYOUT: u32 = 1;

/// `tieline backup`
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// Where to: a folder that is not there yet, or is empty
    to: PathBuf,
}

/// `tieline restore`
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The copy: a folder that `tieline backup` made
    from: PathBuf,
    /// Move what the data folder holds out of the way, instead of refusing
    #[arg(long)]
    replace: bool,
}

/// What a copy says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    layout: u32,
    version: String,
    /// When it was made.
    at: jiff::Timestamp,
    /// Of which log it is a copy.
    epoch: String,
    /// Everything up to this position of the journal is in it.
    position: u64,
    /// How many attachments, and their bytes.
    files: u64,
    bytes: u64,
    /// SHA-256 of each file with a key, by its path.
    keys: BTreeMap<String, String>,
}

/// Makes a folder, for its owner alone.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| path.display().to_string())
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).with_context(|| path.display().to_string())
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().with_context(|| path.display().to_string())
}

/// What a folder holds: files and folders, links to such followed, with what they are. What vanishes meanwhile was not needed;
/// a link that leads nowhere was.
fn content(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Metadata)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_name() == INCOMING {
            continue;
        }
        match fs::metadata(entry.path()) {
            Ok(metadata) => all.push((entry.path(), metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound && !entry.file_type().is_ok_and(|kind| kind.is_symlink()) => {}
            Err(error) => bail!("{}: {error}", entry.path().display()),
        }
    }
    Ok(all)
}

/// Copies a folder with all that is in it, synced; how many files, and their bytes.
fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<(u64, u64)> {
    make_folder(to)?;
    let (mut files, mut bytes) = (0, 0);
    for (source, metadata) in content(from)? {
        let target = to.join(source.file_name().unwrap_or_default());
        if metadata.is_dir() {
            let (more, size) = copy_tree(&source, &target)?;
            files += more;
            bytes += size;
        } else if metadata.is_file() {
            match fs::copy(&source, &target) {
                Ok(size) => {
                    File::open(&target).and_then(|file| file.sync_all()).with_context(|| target.display().to_string())?;
                    files += 1;
                    bytes += size;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => bail!("{}: {error}", source.display()),
            }
        }
    }
    sync_folder(to)?;
    Ok((files, bytes))
}

/// How many files are in a folder of a copy, and their bytes.
fn count(folder: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for (path, metadata) in content(folder)? {
        let (more, size) = if metadata.is_dir() { count(&path)? } else { (1, metadata.len()) };
        files += more;
        bytes += size;
    }
    Ok((files, bytes))
}

/// A digest of each file with a key that a copy holds.
fn digests(copy: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for folder in KEYS.into_iter().filter(|folder| copy.join(folder).is_dir()) {
        for (path, _) in content(&copy.join(folder))?.into_iter().filter(|(_, metadata)| metadata.is_file()) {
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            let name = format!("{folder}/{}", path.file_name().unwrap_or_default().to_string_lossy());
            all.insert(name, digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    Ok(all)
}

/// Makes sure that a copy holds what it says of itself, without changing anything.
fn check(from: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let found = backup::check(&from.join(DATABASE)).with_context(|| format!("{} is damaged; nothing was changed", from.display()))?;
    if found != (Copied { epoch: manifest.epoch.clone(), position: manifest.position }) {
        bail!(
            "{} holds position {} of log {}, and {MANIFEST} says another; nothing was changed",
            from.display(),
            found.position,
            found.epoch
        );
    }
    let keys = digests(from)?;
    let wrong = |name: &&String| keys.get(*name) != manifest.keys.get(*name);
    if let Some(name) = manifest.keys.keys().chain(keys.keys()).find(wrong) {
        bail!("{}: {name} is missing, or is not the one that was copied; nothing was changed", from.display());
    }
    if !keys.contains_key(IDS) {
        bail!("{}: {IDS} is missing, without which everybody would get another id; nothing was changed", from.display());
    }
    let folder = from.join("files");
    let (files, bytes) = if folder.is_dir() { count(&folder)? } else { (0, 0) };
    if (files, bytes) != (manifest.files, manifest.bytes) {
        bail!(
            "{}: there are {files} attachments ({bytes} bytes), and {MANIFEST} says {} ({} bytes); nothing was changed",
            folder.display(),
            manifest.files,
            manifest.bytes
        );
    }
    Ok(())
}

/// Whether a folder is not there, or holds nothing.
fn is_vacant(path: &Path) -> anyhow::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => bail!("{}: {error}", path.display()),
    }
}

/// What root makes in the folder of another user is to be that user's: the gateway must read and write it.
fn give_to_owner_of(folder: &Path, made: &Path) -> anyhow::Result<()> {
    let give = |owner: &Metadata, path: &Path| {
        let own = fs::metadata(path)?;
        if own.uid() == owner.uid() { Ok(own) } else { chown(path, Some(owner.uid()), Some(owner.gid())).map(|()| own) }
    };
    let owner = fs::metadata(folder).with_context(|| folder.display().to_string())?;
    if give(&owner, made).with_context(|| made.display().to_string())?.is_dir() {
        for (path, _) in content(made)? {
            give_to_owner_of(folder, &path)?;
        }
    }
    Ok(())
}

/// Keeps anything from being removed; a removal that is under way is waited for.
fn hold(data: &Path) -> anyhow::Result<File> {
    let end = Instant::now() + PATIENCE;
    loop {
        match backup::hold(data, true)? {
            Some(held) => return Ok(held),
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            None => bail!("the gateway has been removing old conversations for {} s; try again", PATIENCE.as_secs()),
        }
    }
}

pub(super) fn backup(config: &Config, args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let (data, to) = (&config.server.data_dir, &args.to);
    if !data.join(DATABASE).is_file() {
        bail!("there is no database in {}; run this with the gateway's configuration, from its folder", data.display());
    }
    if !data.join(IDS).is_file() {
        bail!("there is no {IDS} in {}; a copy without it would be of no use", data.display());
    }
    if !is_vacant(to)? {
        bail!("{} holds something; name a folder that is not there yet", to.display());
    }
    let began = Instant::now();
    let at = jiff::Timestamp::now();
    make_folder(to)?;
    let _held = hold(data)?;
    let Copied { epoch, position } = backup::copy(data, &to.join(DATABASE))?;
    let (mut files, mut bytes) = (0, 0);
    for folder in FOLDERS {
        let source = data.join(folder);
        if source.is_dir() {
            let (more, size) = copy_tree(&source, &to.join(folder))?;
            if folder == "files" {
                (files, bytes) = (more, size);
            }
        }
    }
    sync_folder(to)?;
    let (version, keys) = (env!("CARGO_PKG_VERSION").into(), digests(to)?);
    let manifest = Manifest { layout: LAYOUT, version, at, epoch, position, files, bytes, keys };
    let text = serde_json::to_string_pretty(&manifest)?;
    write(&to.join(MANIFEST), text.as_bytes())?;
    sync_folder(to)?;
    // For the metrics only: a backup is no worse without it.
    let last = data.join(backup::LAST);
    if let Err(error) = write(&last, text.as_bytes()).and_then(|()| give_to_owner_of(data, &last)) {
        eprintln!("tieline: the backup is made, but the gateway's metrics will not show it: {error:#}");
    }
    println!(
        "{}: everything up to position {position} of log {}, and {files} attachments ({bytes} bytes), in {:.1} s",
        to.display(),
        manifest.epoch,
        began.elapsed().as_secs_f64()
    );
    if !config.files.url.is_empty() {
        println!("attachments are not in it: they are in the store that files.url names; copy that after this");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(config: &Config, args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let (data, from) = (&config.server.data_dir, &args.from);
    let path = from.join(MANIFEST);
    let text = fs::read_to_string(&path).with_context(|| format!("{}: this is no whole backup", path.display()))?;
    let manifest: Manifest = serde_json::from_str(&text).with_context(|| format!("{}: this is no whole backup", path.display()))?;
    if manifest.layout != LAYOUT {
        bail!(
            "{}: it has layout {}; this version knows {LAYOUT}: use the version {} that made it",
            path.display(),
            manifest.layout,
            manifest.version
        );
    }
    let began = Instant::now();
    check(from, &manifest)?;
    make_folder(data)?;
    let _claimed = backup::claim(data)?;
    let stage = data.join(RESTORING);
    let holds_data = data.join(DATABASE).exists();
    if holds_data && !args.replace {
        bail!("{} holds a database; add --replace to move it out of the way, into a folder beside it", data.display());
    }
    // While this folder is there no gateway starts: what a restore that was cut off leaves is neither the old nor the new.
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| stage.display().to_string())?;
    }
    copy_tree(from, &stage)?;
    give_to_owner_of(data, &stage)?;
    give_to_owner_of(data, &data.join(LOCK))?;
    let aside = data.join(format!("replaced-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    // The database first when it goes, and last when it comes: without it no gateway takes what else there is for its own.
    for name in [DATABASE].into_iter().chain(BESIDE).chain(FOLDERS) {
        move_if_there(&data.join(name), &aside, name)?;
    }
    if aside.exists() {
        give_to_owner_of(data, &aside)?;
    }
    sync_folder(data)?;
    for name in FOLDERS.into_iter().chain([DATABASE]) {
        move_if_there(&stage.join(name), data, name)?;
    }
    sync_folder(data)?;
    fs::remove_dir_all(&stage).with_context(|| stage.display().to_string())?;
    println!(
        "{}: as it was at {}, position {} of log {}, in {:.1} s; the next start gives the log a new name",
        data.display(),
        manifest.at,
        manifest.position,
        manifest.epoch,
        began.elapsed().as_secs_f64()
    );
    if aside.exists() {
        println!("what was there is in {}; remove it when you do not need it any more", aside.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn move_if_there(from: &Path, to: &Path, name: &str) -> anyhow::Result<()> {
    if from.exists() {
        make_folder(to)?;
        fs::rename(from, to.join(name)).with_context(|| from.display().to_string())?;
    }
    Ok(())
}
