//! Uploads that nothing shows: a file that was put here and never published, or fetched for what was not written down, goes when it
//! was kept long enough.

use super::retention::Hold;
use crate::config::LiveRetention;
use crate::files::FilePath;
use crate::gateway::{Error, Gateway};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// The longest wait between two looks, and the shortest.
const LONGEST: Duration = Duration::from_secs(60 * 60);
const SHORTEST: Duration = Duration::from_millis(100);
/// How long a file may be on its way into its place after its last byte was written.
const ARRIVING: Duration = Duration::from_secs(15 * 60);
/// Files that are looked at in one go, before a copy of the folder may begin.
const BATCH: usize = 64;
/// The rest behind each, however many there are.
const REST: Duration = Duration::from_millis(50);

/// Removes uploads that nothing shows.
pub struct Sweeper {
    gateway: Arc<Gateway>,
    settings: LiveRetention,
    hold: Hold,
}

impl std::fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sweeper")
    }
}

/// What keeps a round from its end.
enum Unfinished {
    /// A copy of the data folder is being made.
    Held,
    /// The store, of events or of files.
    Failed(Error),
}

impl Sweeper {
    /// For a gateway; `hold` says when a copy of its folder is being made.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, settings: LiveRetention, hold: Hold) -> Self {
        Self { gateway, settings, hold }
    }

    /// Looks now and then, for ever.
    pub async fn run(self) {
        // What was kept before this and is shown stays shown until it goes with what shows it: it is looked at once.
        let mut seen = SystemTime::UNIX_EPOCH;
        loop {
            let kept = self.settings.load().uploads.0;
            if let Some(before) = kept.and_then(|kept| SystemTime::now().checked_sub(kept)) {
                match self.round(seen..before).await {
                    Ok(()) => seen = before.checked_sub(ARRIVING).unwrap_or(seen),
                    Err(Unfinished::Held) => {}
                    Err(Unfinished::Failed(error)) => tracing::warn!(%error, "uploads that nothing shows cannot be looked for now"),
                }
            }
            tokio::time::sleep(kept.map_or(LONGEST, |kept| (kept / 4).clamp(SHORTEST, LONGEST))).await;
        }
    }

    /// Looks at what came within a time.
    async fn round(&self, kept: Range<SystemTime>) -> Result<(), Unfinished> {
        // Whoever walks waits for whoever looks.
        let (tell, mut told) = mpsc::channel(BATCH);
        let files = self.gateway.files().clone();
        let walking = tokio::spawn(async move { files.old(kept, tell).await });
        let mut some = Vec::with_capacity(BATCH);
        let mut kept_back = None;
        while told.recv_many(&mut some, BATCH).await > 0 {
            // While a copy is made nothing goes that it may be about to copy.
            let Some(held) = (self.hold)() else { return Err(Unfinished::Held) };
            for path in some.drain(..) {
                // One that cannot go now keeps no other.
                if let Err(error) = self.look_at(&path).await {
                    kept_back = Some(Unfinished::Failed(error));
                }
            }
            drop(held);
            tokio::time::sleep(REST).await;
        }
        let unlisted = |_| Unfinished::Failed(Error::Unreadable);
        walking.await.map_err(|_| Unfinished::Failed(Error::Unreadable))?.map_err(unlisted)?;
        kept_back.map_or(Ok(()), Err)
    }

    /// Removes a file, if nothing shows it and nothing that was handed in will.
    async fn look_at(&self, file: &FilePath) -> Result<(), Error> {
        let path = file.to_string();
        if self.is_shown(file, &path).await? {
            return Ok(());
        }
        let _gone = self.gateway.files().going().enter(&path);
        self.gateway.settled(file.account()).await?;
        if self.is_shown(file, &path).await? {
            return Ok(());
        }
        match self.gateway.files().delete(&path).await {
            Ok(()) => {
                metrics::counter!("tieline_retention_removed_total", "what" => "uploads").increment(1);
                tracing::debug!(account = %file.account(), "an upload is removed: nothing has shown it for long enough");
                Ok(())
            }
            // The log says why; it is looked at again.
            Err(_) => Err(Error::Unreadable),
        }
    }

    async fn is_shown(&self, file: &FilePath, path: &str) -> Result<bool, Error> {
        let shown = self.gateway.store().shows(file.account().clone(), path.to_owned()).await;
        shown.map(|places| !places.is_empty()).map_err(|_| Error::Unreadable)
    }
}
