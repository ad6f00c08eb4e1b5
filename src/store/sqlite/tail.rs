//! The tail of the journal: what is committed and not yet in the database.
//!
//! A batch of decisions is one *frame*, appended to a file of our own and synced before anything of it is answered. That
//! is a fraction of what a transaction of the database costs, which has to write whole pages. Projections carry frames into
//! the database, many at a time; when that is synced their places are free.
//!
//! There are two files, written in turns: while one is being filled, what is in the other is carried over. A file that is
//! written again is not cut first, so that its size stays, and a sync has data to write and nothing else. What is left in
//! it of frames of old is told apart by their numbers, which grow by one from frame to frame and never start again.
//!
//! A frame that was cut off in the middle was the last one, and nothing of it was answered. A frame that cannot be read
//! in front of one that can is damage: then the store does not open, because what was acked is missing. Frames share sectors:
//! as SQLite does, we count on a disk that loses power in a write to leave alone the bytes that it was not told to write.
//!
//! ```text
//! frame:  "tlt1"  length u32  crc32 u32  0 u32  number u64  position u64  record*     all little-endian; the sum is over
//!                                                                                     what follows it, the length is of all
//! record: 1  at i64  account  entry                 the entry at `position`, `position` + 1, ...; texts are length u32, UTF-8
//!         2  at i64  name [32]  fingerprint [32]  answer
//!         3  conversation  fingerprint [32]  stored u64
//!         0  padding
//! ```

use super::super::{Fingerprint, Retry};
use super::{OpenError, backup};
use crate::domain::{Entry, Millis, Sight};
use memchr::memmem;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tieline_protocol::ids::{AccountId, ConversationId};

/// The files in a data folder.
pub(super) const FILES: [&str; 2] = ["tieline.tail-0", "tieline.tail-1"];

const MAGIC: &[u8; 4] = b"tlt1";
const HEADER: usize = 32;
/// What the sum is over begins here.
const SUMMED: usize = 12;
/// Bytes by which a file grows, zeros until they are used: its size changes with few of the syncs.
const GROWTH: u64 = 1024 * 1024;
/// Bytes after which the other file is taken, if it is free.
const ENOUGH: u64 = 16 * 1024 * 1024;

/// An answer that is kept under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) retry: Retry,
    /// JSON.
    pub(super) answer: String,
    pub(super) at: Millis,
}

/// How often the same request was stored, by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resent {
    pub(super) conversation: ConversationId,
    pub(super) fingerprint: Fingerprint,
    pub(super) stored: u64,
}

/// What one batch wrote.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Its number; that of the frame before, if it is in the database by itself.
    pub(super) number: u64,
    /// The position of its first entry, or of the next if it has none.
    pub(super) position: u64,
    pub(super) sights: Vec<Arc<Sight>>,
    pub(super) kept: Vec<Arc<Kept>>,
    pub(super) resent: Vec<Resent>,
    bytes: Arc<Vec<u8>>,
    /// Where in `bytes` the JSON of each entry is.
    entries: Vec<Range<usize>>,
}

impl Frame {
    /// How many rows it will be, about.
    pub(super) fn rows(&self) -> usize {
        self.sights.len() + self.kept.len() + self.resent.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The JSON of an entry, by its place in `sights`.
    pub(super) fn entry(&self, place: usize) -> &str {
        // What was taken for text when it was written or read is still so.
        self.entries.get(place).and_then(|range| std::str::from_utf8(self.bytes.get(range.clone())?).ok()).unwrap_or_default()
    }

    /// A frame of an entry that is in the database, at its place among the others.
    pub(super) fn of_row(number: u64, sight: Arc<Sight>) -> serde_json::Result<Self> {
        let mut draft = FrameDraft::default();
        draft.entry(&sight)?;
        let FrameDraft { bytes, entries } = draft;
        let position = sight.position;
        Ok(Self { number, position, sights: vec![sight], kept: Vec::new(), resent: Vec::new(), bytes: Arc::new(bytes), entries })
    }
}

/// A frame in the making.
#[derive(Debug)]
pub(super) struct FrameDraft {
    bytes: Vec<u8>,
    entries: Vec<Range<usize>>,
}

impl Default for FrameDraft {
    fn default() -> Self {
        Self { bytes: vec![0; HEADER], entries: Vec::new() }
    }
}

impl FrameDraft {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    /// Adds an entry, or leaves the draft as it was.
    pub(super) fn entry(&mut self, sight: &Sight) -> serde_json::Result<()> {
        let before = self.bytes.len();
        self.bytes.push(1);
        self.bytes.extend(sight.at.to_le_bytes());
        self.text(sight.account.as_str());
        self.bytes.extend([0; 4]);
        let from = self.bytes.len();
        if let Err(error) = serde_json::to_writer(&mut self.bytes, &sight.entry) {
            self.bytes.truncate(before);
            return Err(error);
        }
        let range = from..self.bytes.len();
        self.bytes[from - 4..from].copy_from_slice(&length(range.len()));
        self.entries.push(range);
        Ok(())
    }

    pub(super) fn kept(&mut self, kept: &Kept) {
        self.bytes.push(2);
        self.bytes.extend(kept.at.to_le_bytes());
        self.bytes.extend(kept.retry.name);
        self.bytes.extend(kept.retry.fingerprint);
        self.text(&kept.answer);
    }

    pub(super) fn resent(&mut self, resent: &Resent) {
        self.bytes.push(3);
        self.text(resent.conversation.as_str());
        self.bytes.extend(resent.fingerprint);
        self.bytes.extend(resent.stored.to_le_bytes());
    }

    /// Says nothing, and takes so many bytes.
    pub(super) fn pad(&mut self, bytes: usize) {
        self.bytes.resize(self.bytes.len() + bytes.max(1), 0);
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend(length(text.len()));
        self.bytes.extend(text.as_bytes());
    }
}

/// How long a frame or a text in it is. No text is longer than its frame, and of a frame it is checked before it is written.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// Why a frame was not appended.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// It was not written, or not all of it: it is as if it had never been.
    #[error("the tail cannot be written: {0}")]
    Write(io::Error),
    /// It was written, and whether it is on disk nobody knows.
    #[error("the tail cannot be synced: {0}")]
    Sync(io::Error),
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Where the next frame goes.
    end: u64,
    size: u64,
    /// The last frame in it.
    last: u64,
    /// Whether it must not keep what is in it longer than need be.
    is_purged: bool,
}

impl Segment {
    fn is_free(&self, released: u64) -> bool {
        self.last <= released
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let to = self.end + bytes.len() as u64;
        if to > self.size {
            let size = to.next_multiple_of(GROWTH);
            let zeros = vec![0; usize::try_from(size - to).unwrap_or(0)];
            // On a disk without room for them a frame may still fit.
            self.size = match self.file.write_all_at(&zeros, to) {
                Ok(()) => size,
                Err(_) => self.file.set_len(to).map(|()| to)?,
            };
        }
        self.file.write_all_at(bytes, self.end)
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.end, self.size, self.is_purged) = (0, 0, false);
        Ok(())
    }
}

/// The files, as their one writer has them.
#[derive(Debug)]
pub(super) struct Tail {
    folder: PathBuf,
    segments: [Segment; 2],
    active: usize,
    /// The last frame that was written.
    number: u64,
    /// Frames up to this one are in the database, synced.
    released: u64,
    #[cfg(test)]
    room: u64,
    #[cfg(test)]
    is_ill: bool,
}

impl Tail {
    /// Opens the files of a folder, making them if need be, and reads the frames behind a number, which are on disk when this
    /// returns. What was in the files before is purged as soon as a checkpoint has it in the database, synced: it may be of
    /// something that was removed.
    ///
    /// # Errors
    /// [`OpenError`] if a file cannot be used, or if frames are missing.
    pub(super) fn open(folder: &Path, behind: u64) -> Result<(Self, Vec<Frame>), OpenError> {
        let Found { frames, ends } = read(folder, behind)?;
        let number = frames.last().map_or(behind, |frame| frame.number);
        let open = |place: usize| {
            let path = folder.join(FILES[place]);
            let failed = |source| OpenError::Folder { path: path.clone(), source };
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            let End { last, end, .. } = ends[place];
            settle(&path, &file, &ends[place]).map_err(failed)?;
            Ok::<_, OpenError>(Segment { file, end, size, last, is_purged: size > 0 })
        };
        let segments = [open(0)?, open(1)?];
        // Both files must be found again after a power cut, once something in them is acked.
        let failed = |source| OpenError::Folder { path: folder.to_owned(), source };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let active = usize::from(segments[1].last > segments[0].last);
        let tail = Self {
            folder: folder.to_owned(),
            segments,
            active,
            number,
            // What the database has behind a crash may be in memory alone.
            released: 0,
            #[cfg(test)]
            room: u64::MAX,
            #[cfg(test)]
            is_ill: false,
        };
        Ok((tail, frames))
    }

    /// The number of the last frame.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Appends a frame, and syncs it.
    pub(super) fn append(&mut self, draft: FrameDraft, position: u64) -> Result<Frame, AppendError> {
        let FrameDraft { mut bytes, entries } = draft;
        let number = self.number + 1;
        let all = length(bytes.len());
        if u32::try_from(bytes.len()).is_err() {
            return Err(AppendError::Write(io::ErrorKind::FileTooLarge.into()));
        }
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&all);
        bytes[16..24].copy_from_slice(&number.to_le_bytes());
        bytes[24..32].copy_from_slice(&position.to_le_bytes());
        let sum = crc32fast::hash(&bytes[SUMMED..]).to_le_bytes();
        bytes[8..SUMMED].copy_from_slice(&sum);
        self.take_turns(bytes.len() as u64);
        #[cfg(test)]
        if self.segments.iter().map(|segment| segment.end).sum::<u64>() + bytes.len() as u64 > self.room {
            return Err(AppendError::Write(io::ErrorKind::StorageFull.into()));
        }
        let segment = &mut self.segments[self.active];
        segment.write(&bytes).map_err(AppendError::Write)?;
        segment.file.sync_data().map_err(AppendError::Sync)?;
        #[cfg(test)]
        if std::mem::take(&mut self.is_ill) {
            return Err(AppendError::Sync(io::ErrorKind::Other.into()));
        }
        segment.end += bytes.len() as u64;
        segment.last = number;
        self.number = number;
        let bytes = Arc::new(bytes);
        Ok(Frame { number, position, sights: Vec::new(), kept: Vec::new(), resent: Vec::new(), bytes, entries })
    }

    /// Takes the other file for the next frame, if it is time, and if that is free.
    fn take_turns(&mut self, bytes: u64) {
        let (active, other) = (&self.segments[self.active], &self.segments[1 - self.active]);
        let is_time = active.is_purged || active.end + bytes > ENOUGH;
        if active.end == 0 || !is_time || !other.is_free(self.released) {
            return;
        }
        // Whoever copies the database reads here what its copy lacks.
        if let Some(_held) = self.hold() {
            self.active = 1 - self.active;
            let segment = &mut self.segments[self.active];
            segment.end = 0;
            let has_grown = segment.size > ENOUGH + GROWTH;
            if (segment.is_purged || has_grown)
                && let Err(error) = segment.cut()
            {
                tracing::warn!(%error, "a file of the tail cannot be cut");
            }
        }
    }

    fn hold(&self) -> Option<File> {
        backup::hold(&self.folder, false).unwrap_or_else(|error| {
            tracing::warn!(%error, "the tail goes on growing");
            None
        })
    }

    /// Frames up to a number are in the database, synced.
    pub(super) fn release(&mut self, number: u64) {
        self.released = number;
        self.purge_what_is_due();
    }

    /// What is in the files now is to go as soon as it is in the database.
    pub(super) fn purge(&mut self) {
        for segment in &mut self.segments {
            segment.is_purged |= segment.size > 0;
        }
        self.purge_what_is_due();
    }

    /// Whether something is to go that can go, but for who holds it.
    pub(super) fn is_purge_due(&self) -> bool {
        self.segments.iter().any(|segment| segment.is_purged && segment.is_free(self.released))
    }

    /// Whether something could go, or a file be taken, if only frames up to a number were released.
    pub(super) fn waits_for(&self, number: u64) -> bool {
        let (active, other) = (&self.segments[self.active], &self.segments[1 - self.active]);
        let would_help = |segment: &Segment| !segment.is_free(self.released) && segment.is_free(number);
        self.segments.iter().any(|segment| segment.is_purged && would_help(segment)) || (active.end > ENOUGH && would_help(other))
    }

    pub(super) fn purge_what_is_due(&mut self) {
        if !self.is_purge_due() {
            return;
        }
        let Some(_held) = self.hold() else { return };
        let released = self.released;
        for segment in self.segments.iter_mut().filter(|segment| segment.is_purged && segment.is_free(released)) {
            if let Err(error) = segment.cut() {
                tracing::warn!(%error, "a file of the tail cannot be cut");
            }
        }
    }

    /// The next sync fails, and those behind it do not.
    #[cfg(test)]
    pub(super) fn fail_once(&mut self) {
        self.is_ill = true;
    }

    #[cfg(test)]
    pub(super) fn set_room(&mut self, bytes: u64) {
        self.room = bytes;
    }
}

/// Where the frames of a file end.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    last: u64,
    end: u64,
    /// Where those begin that are not in the database.
    fresh: u64,
}

/// Sees to it that the frames found in a file are on disk. They were read from memory, maybe: a process that was killed did not
/// wait for its sync, and after a sync that failed the next one says nothing of it. So what is needed is written once more.
fn settle(path: &Path, file: &File, end: &End) -> io::Result<()> {
    if end.fresh < end.end {
        let mut bytes = vec![0; usize::try_from(end.end - end.fresh).map_err(io::Error::other)?];
        File::open(path)?.read_exact_at(&mut bytes, end.fresh)?;
        file.write_all_at(&bytes, end.fresh)?;
    }
    file.sync_data()
}

/// What is found in a folder.
#[derive(Debug)]
pub(super) struct Found {
    /// In order, without holes.
    pub(super) frames: Vec<Frame>,
    ends: [End; 2],
}

/// Reads the frames behind a number, changing nothing. A frame that is just being written may be in it or not.
///
/// # Errors
/// [`OpenError`] if a file cannot be read, or if frames are missing.
pub(super) fn read(folder: &Path, behind: u64) -> Result<Found, OpenError> {
    let mut found = Found { frames: Vec::new(), ends: [End::default(); 2] };
    let mut contents = Vec::new();
    for (file, end) in FILES.iter().zip(&mut found.ends) {
        let path = folder.join(file);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(OpenError::Folder { path, source }),
            _ => {}
        }
        let mut at = 0;
        while let Some(head) = Head::read(&bytes, at).filter(|head| end.last == 0 || head.number == end.last + 1) {
            if head.number <= behind {
                end.fresh = (at + head.length) as u64;
            } else {
                let frame = head.frame(&bytes, at).ok_or_else(|| damaged(&path, at, "a frame says what this version cannot read"))?;
                found.frames.push(frame);
            }
            at += head.length;
            (end.last, end.end) = (head.number, at as u64);
        }
        contents.push((path, bytes, at));
    }
    found.frames.sort_by_key(|frame| frame.number);
    let last = found.ends.iter().map(|end| end.last).max().unwrap_or(0).max(behind);
    for (path, bytes, at) in &contents {
        let mut later = memmem::find_iter(&bytes[*at..], MAGIC).filter_map(|place| Head::read(bytes, at + place));
        if later.any(|head| head.number > last) {
            return Err(damaged(path, *at, "a frame is damaged, and later ones are not"));
        }
    }
    for (number, frame) in (behind + 1..).zip(&found.frames) {
        if frame.number != number {
            return Err(OpenError::Journal(format!("frame {number} is in no file of {}, and later ones are", folder.display())));
        }
    }
    Ok(found)
}

fn damaged(path: &Path, at: usize, what: &str) -> OpenError {
    OpenError::Journal(format!("{}: at byte {at} {what}; what was acked would be missing", path.display()))
}

struct Head {
    length: usize,
    number: u64,
    position: u64,
}

impl Head {
    /// The head of a whole frame.
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let bytes = bytes.get(at..)?;
        let head = bytes.first_chunk::<HEADER>()?;
        let length = usize::try_from(u32::from_le_bytes(*head[4..].first_chunk()?)).ok()?;
        let sum = u32::from_le_bytes(*head[8..].first_chunk()?);
        let whole = bytes.get(..length).filter(|_| head.starts_with(MAGIC) && length >= HEADER)?;
        (crc32fast::hash(&whole[SUMMED..]) == sum).then_some(Self {
            length,
            number: u64::from_le_bytes(*head[16..].first_chunk()?),
            position: u64::from_le_bytes(*head[24..].first_chunk()?),
        })
    }

    fn frame(&self, bytes: &[u8], at: usize) -> Option<Frame> {
        let bytes = bytes.get(at..at + self.length)?.to_vec();
        let mut frame = Frame {
            number: self.number,
            position: self.position,
            sights: Vec::new(),
            kept: Vec::new(),
            resent: Vec::new(),
            bytes: Arc::new(Vec::new()),
            entries: Vec::new(),
        };
        let mut reader = Reader { bytes: &bytes, at: HEADER };
        while reader.at < bytes.len() {
            match reader.take::<1>()?[0] {
                0 => {}
                1 => {
                    let at = Millis::from_le_bytes(reader.take()?);
                    let account = AccountId::from(reader.text()?);
                    let text = reader.text()?;
                    let entry: Entry = serde_json::from_str(text).ok()?;
                    frame.entries.push(reader.at - text.len()..reader.at);
                    let position = self.position + frame.sights.len() as u64;
                    frame.sights.push(Arc::new(Sight { position, at, account, entry, audience: None }));
                }
                2 => {
                    let at = Millis::from_le_bytes(reader.take()?);
                    let retry = Retry { name: reader.take()?, fingerprint: reader.take()? };
                    frame.kept.push(Arc::new(Kept { retry, answer: reader.text()?.to_owned(), at }));
                }
                3 => {
                    let conversation = ConversationId::from(reader.text()?);
                    let fingerprint = reader.take()?;
                    frame.resent.push(Resent { conversation, fingerprint, stored: u64::from_le_bytes(reader.take()?) });
                }
                _ => return None,
            }
        }
        frame.bytes = Arc::new(bytes);
        Some(frame)
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'b str> {
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        let text = self.bytes.get(self.at..)?.get(..length)?;
        self.at += length;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame of one entry, which says its number in so many bytes and more.
    fn draft(number: u64, bytes: usize) -> FrameDraft {
        let mut draft = FrameDraft::default();
        let consumer = format!("{number}{}", "x".repeat(bytes));
        let entry = Entry::ConsumerSeen { consumer: consumer.as_str().into(), app: None, ext_id: None };
        draft.entry(&Sight { position: number, at: 7, account: "demo".into(), entry, audience: None }).unwrap();
        draft.resent(&Resent { conversation: "c".into(), fingerprint: [9; 32], stored: number });
        draft.pad(3);
        draft.kept(&Kept { retry: Retry { name: [1; 32], fingerprint: [2; 32] }, answer: number.to_string(), at: 8 });
        draft
    }

    fn fill(tail: &mut Tail, numbers: std::ops::RangeInclusive<u64>, bytes: usize) {
        for number in numbers {
            assert_eq!(tail.append(draft(number, bytes), number).unwrap().number, number);
        }
    }

    fn numbers(folder: &Path, behind: u64) -> Result<Vec<u64>, OpenError> {
        let found = read(folder, behind)?;
        for frame in &found.frames {
            assert_eq!(frame.position, frame.number);
            assert!(
                matches!(&frame.sights[0].entry, Entry::ConsumerSeen { consumer, .. } if consumer.as_str().starts_with(&frame.number.to_string()))
            );
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(frame.entry(0)).unwrap(),
                serde_json::to_value(&frame.sights[0].entry).unwrap()
            );
            assert_eq!((frame.kept[0].answer.clone(), frame.resent[0].stored), (frame.number.to_string(), frame.number));
        }
        Ok(found.frames.iter().map(|frame| frame.number).collect())
    }

    /// Bytes of a file that are in use.
    fn used(folder: &Path, file: usize) -> usize {
        let bytes = std::fs::read(folder.join(FILES[file])).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    #[test]
    fn what_was_appended_is_read_also_when_a_frame_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tail, found) = Tail::open(dir.path(), 0).unwrap();
        assert!(found.is_empty());
        fill(&mut tail, 1..=3, 100);
        let end = used(dir.path(), 0);
        fill(&mut tail, 4..=4, 100);
        drop(tail);
        assert_eq!(numbers(dir.path(), 0).unwrap(), [1, 2, 3, 4]);
        assert_eq!(numbers(dir.path(), 2).unwrap(), [3, 4]);
        // The power went while the last one was written: it is gone, and the next takes its place.
        let file = OpenOptions::new().write(true).open(dir.path().join(FILES[0])).unwrap();
        file.write_all_at(&[0; 40], end as u64 + 60).unwrap();
        let (mut tail, found) = Tail::open(dir.path(), 0).unwrap();
        assert_eq!(found.iter().map(|frame| frame.number).collect::<Vec<_>>(), [1, 2, 3]);
        fill(&mut tail, 4..=5, 10);
        assert_eq!(numbers(dir.path(), 0).unwrap(), [1, 2, 3, 4, 5]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_becomes_of_a_byte_no_frame_that_was_synced_is_missed_in_silence(place in 0.0..1.0f64, flip in 1..=255u8) {
            let dir = tempfile::tempdir().unwrap();
            let (mut tail, _) = Tail::open(dir.path(), 0).unwrap();
            let mut ends = Vec::new();
            for number in 1..=4 {
                fill(&mut tail, number..=number, 50);
                ends.push(used(dir.path(), 0));
            }
            let path = dir.path().join(FILES[0]);
            let mut bytes = std::fs::read(&path).unwrap();
            let hit = (place * ends[3] as f64) as usize;
            bytes[hit] ^= flip;
            std::fs::write(&path, bytes).unwrap();
            // Damage of the last looks like one that was cut off; damage of any other is said.
            match numbers(dir.path(), 0) {
                Ok(found) => prop_assert!(hit >= ends[2] && found == [1, 2, 3], "{hit} of {ends:?}: {found:?}"),
                Err(error) => prop_assert!(hit < ends[2] && error.to_string().contains("damaged"), "{hit} of {ends:?}: {error}"),
            }
        }
    }

    #[test]
    fn the_files_are_written_in_turns_and_do_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tail, _) = Tail::open(dir.path(), 0).unwrap();
        let size = || FILES.map(|file| std::fs::metadata(dir.path().join(file)).unwrap().len());
        // Eight of them fill a file. What is released is three frames behind.
        let mut last = 0;
        let mut active = Vec::new();
        for number in 1..=80 {
            fill(&mut tail, number..=number, 2 * 1024 * 1024);
            last = number;
            tail.release(number.saturating_sub(3));
            active.push(tail.active);
        }
        active.dedup();
        assert!(active.len() > 8, "in turns: {active:?}");
        assert!(size().iter().all(|size| *size <= ENOUGH + GROWTH), "{:?}", size());
        drop(tail);
        assert_eq!(numbers(dir.path(), last - 3).unwrap(), [last - 2, last - 1, last], "those of old are not taken for new ones");
        let (mut tail, _) = Tail::open(dir.path(), last - 3).unwrap();
        fill(&mut tail, last + 1..=last + 1, 10);
        assert_eq!(numbers(dir.path(), last - 3).unwrap().last(), Some(&(last + 1)));
        // A file that went missing is missed.
        let lost = if tail.active == 0 { FILES[0] } else { FILES[1] };
        fill(&mut tail, last + 2..=last + 2, 10);
        std::fs::remove_file(dir.path().join(lost)).unwrap();
        let missing = numbers(dir.path(), last - 30);
        assert!(missing.is_err(), "{missing:?}");
    }

    #[test]
    fn nothing_is_taken_again_that_is_not_released_or_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tail, _) = Tail::open(dir.path(), 0).unwrap();
        fill(&mut tail, 1..=12, 2 * 1024 * 1024);
        assert_eq!(tail.active, 1, "the first is full");
        fill(&mut tail, 13..=30, 2 * 1024 * 1024);
        assert_eq!(tail.active, 1, "nothing is released: this one grows");
        assert_eq!(numbers(dir.path(), 0).unwrap().len(), 30);
        tail.release(10);
        let held = backup::hold(dir.path(), true).unwrap().unwrap();
        fill(&mut tail, 31..=31, 10);
        assert_eq!(tail.active, 1, "somebody copies what is there");
        drop(held);
        fill(&mut tail, 32..=32, 10);
        assert_eq!(tail.active, 0);
        assert_eq!(numbers(dir.path(), 10).unwrap(), (11..=32).collect::<Vec<_>>());
        // What had to grow is as large as the others again.
        tail.release(32);
        fill(&mut tail, 33..=40, 2 * 1024 * 1024);
        assert_eq!(tail.active, 1);
        let size = std::fs::metadata(dir.path().join(FILES[1])).unwrap().len();
        assert!(size <= 3 * GROWTH, "{size}");
        assert_eq!(numbers(dir.path(), 32).unwrap(), (33..=40).collect::<Vec<_>>());
    }

    #[test]
    fn after_a_start_nothing_goes_before_a_checkpoint_says_that_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tail, _) = Tail::open(dir.path(), 0).unwrap();
        fill(&mut tail, 1..=8, 2 * 1024 * 1024);
        fill(&mut tail, 9..=9, 100);
        assert_eq!(tail.active, 1);
        drop(tail);
        // The database has all of it, but where a power cut would leave it nobody knows.
        let (mut tail, found) = Tail::open(dir.path(), 9).unwrap();
        assert!(found.is_empty() && !tail.is_purge_due() && tail.waits_for(9));
        tail.purge_what_is_due();
        fill(&mut tail, 10..=20, 2 * 1024 * 1024);
        assert_eq!(numbers(dir.path(), 0).unwrap(), (1..=20).collect::<Vec<_>>());
        tail.release(9);
        fill(&mut tail, 21..=21, 10);
        assert_eq!((tail.active, numbers(dir.path(), 9).unwrap()), (0, (10..=21).collect()));
    }

    #[test]
    fn what_is_purged_goes_when_it_is_released_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tail, _) = Tail::open(dir.path(), 0).unwrap();
        fill(&mut tail, 1..=3, 100);
        tail.purge();
        assert!(tail.waits_for(3) && !tail.waits_for(2) && !tail.is_purge_due());
        assert_eq!(numbers(dir.path(), 0).unwrap(), [1, 2, 3]);
        // What comes next goes elsewhere, so that under load it is released at all.
        fill(&mut tail, 4..=4, 100);
        assert_eq!(tail.active, 1);
        tail.release(3);
        assert_eq!((used(dir.path(), 0), numbers(dir.path(), 3).unwrap()), (0, vec![4]));
        drop(tail);
        // A start purges what it finds.
        let (mut tail, found) = Tail::open(dir.path(), 3).unwrap();
        assert_eq!(found.len(), 1);
        let held = backup::hold(dir.path(), true).unwrap().unwrap();
        tail.release(4);
        assert!(tail.is_purge_due() && used(dir.path(), 1) > 0, "as long as somebody copies it stays");
        drop(held);
        tail.purge_what_is_due();
        assert_eq!((used(dir.path(), 1), tail.is_purge_due()), (0, false));
        fill(&mut tail, 5..=5, 100);
        assert_eq!(numbers(dir.path(), 4).unwrap(), [5]);
    }
}
