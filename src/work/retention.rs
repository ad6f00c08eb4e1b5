//! Retention: closed conversations go when they were kept long enough, with their attachments, a little at a time.

use crate::config::LiveRetention;
use crate::domain::Millis;
use crate::gateway::Gateway;
use crate::store::{ReadError, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tieline_protocol::ids::ConversationId;

/// Conversations that are taken away in one go, before what is left of them is erased.
const BATCH: usize = 64;
/// How long a copy may begin between two batches, however much there is to remove.
const REST: Duration = Duration::from_millis(50);
/// The longest wait between two looks.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(100);

/// Whether nothing may be removed just now, because a copy of the data folder is being made. What it returns is held meanwhile.
pub type Hold = Arc<dyn Fn() -> Option<std::fs::File> + Send + Sync>;

/// Removes what is kept no longer.
pub struct Retention {
    gateway: Arc<Gateway>,
    settings: LiveRetention,
    hold: Hold,
}

impl std::fmt::Debug for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Retention")
    }
}

impl Retention {
    /// For a gateway; `hold` says when a copy of its folder is being made.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, settings: LiveRetention, hold: Hold) -> Self {
        Self { gateway, settings, hold }
    }

    /// Looks now and then, for ever.
    pub async fn run(self) {
        loop {
            let kept = self.settings.load().conversations.0;
            if let Err(error) = self.round(kept).await {
                tracing::warn!(%error, "what is kept no longer cannot be removed now");
            }
            metrics::gauge!("tieline_retention_last_run_timestamp_seconds").set((self.gateway.identity().now() / 1000) as f64);
            tokio::time::sleep(kept.map_or(LONGEST, |kept| (kept / 4).clamp(SHORTEST, LONGEST))).await;
        }
    }

    /// Takes away what is old enough, and erases what was taken away, be it before a restart.
    async fn round(&self, kept: Option<Duration>) -> Result<(), ReadError> {
        let store = self.gateway.store();
        for some in store.removals().await?.chunks(BATCH) {
            // While a copy is made nothing goes that it may be about to copy.
            let Some(held) = (self.hold)() else { return Ok(()) };
            for conversation in some {
                self.erase(conversation.clone()).await?;
            }
            drop(held);
            tokio::time::sleep(REST).await;
        }
        let Some(kept) = kept else { return Ok(()) };
        let kept = Millis::try_from(kept.as_millis()).unwrap_or(Millis::MAX);
        loop {
            let Some(held) = (self.hold)() else { return Ok(()) };
            let before = self.gateway.identity().now().saturating_sub(kept);
            let mut taken = Vec::new();
            for conversation in store.expired(before, BATCH).await? {
                match store.remove(conversation.clone(), before).await {
                    Ok(Ok(true)) => taken.push(conversation),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, %conversation, "a conversation that is kept no longer cannot be removed now");
                        return Ok(());
                    }
                    // The gateway is stopping.
                    Err(_) => return Ok(()),
                }
            }
            if taken.is_empty() {
                return Ok(());
            }
            metrics::counter!("tieline_retention_removed_total", "what" => "conversations").increment(taken.len() as u64);
            for conversation in taken {
                self.erase(conversation).await?;
            }
            drop(held);
            tokio::time::sleep(REST).await;
        }
    }

    /// Erases what is left of a conversation. As long as a file cannot be removed, what names it stays, and it is tried again.
    async fn erase(&self, conversation: ConversationId) -> Result<(), ReadError> {
        let store = self.gateway.store();
        let mut is_done = true;
        // Nothing else may begin to show them from here on: what does by now is seen when it is asked again.
        let going = self.gateway.go(&store.shown_only_in(conversation.clone()).await?).await?;
        for path in store.shown_only_in(conversation.clone()).await?.into_iter().filter(|path| going.contains(path)) {
            match self.gateway.files().delete(&path).await {
                Ok(()) => metrics::counter!("tieline_retention_removed_total", "what" => "files").increment(1),
                Err(error) => {
                    tracing::warn!(%error, %conversation, "a file that is kept no longer cannot be removed now");
                    is_done = false;
                }
            }
        }
        let erased = async {
            while store.erase(conversation.clone()).await? {}
            if is_done { store.forget_removed(conversation.clone()).await.unwrap_or(Err(StoreError::Unknown)) } else { Ok(()) }
        };
        match erased.await {
            Ok(()) => tracing::debug!(%conversation, "erased: it was kept long enough"),
            Err(error) => tracing::warn!(%error, %conversation, "a removed conversation cannot be erased now"),
        }
        Ok(())
    }
}
