//! Erasure: what was said in an anonymised conversation or message goes from the journal, from memory and with its files, soon after
//! that was asked for, and whatever comes between.

use super::retention::Hold;
use crate::gateway::Gateway;
use crate::store::{Erasure, Range, ReadError, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked for something to erase.
const PERIOD: Duration = Duration::from_millis(500);

/// Erases what was said, where that was asked for.
pub struct Eraser {
    gateway: Arc<Gateway>,
    hold: Hold,
}

impl std::fmt::Debug for Eraser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Eraser")
    }
}

impl Eraser {
    /// For a gateway; `hold` says when a copy of its folder is being made.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, hold: Hold) -> Self {
        Self { gateway, hold }
    }

    /// Looks now and then, for ever.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "what is to be erased cannot be looked up now");
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn round(&self) -> Result<(), ReadError> {
        for erasure in self.gateway.store().erasures().await? {
            // While a copy is made nothing goes that it may be about to copy.
            let Some(_held) = (self.hold)() else { return Ok(()) };
            match self.erase(&erasure).await {
                Ok(true) => {
                    metrics::counter!("tieline_erasures_total").increment(1);
                    tracing::info!(conversation = %erasure.conversation, erasure = %erasure.id, "erased what was said");
                }
                // What was said is still on its way into the database.
                Ok(false) | Err(StoreError::Busy) => {}
                Err(error) => tracing::warn!(%error, conversation = %erasure.conversation, "what was said cannot be erased now"),
            }
        }
        Ok(())
    }

    /// Erases words, then files. As long as a file cannot be removed, what names it stays, and it is tried again.
    async fn erase(&self, erasure: &Erasure) -> Result<bool, StoreError> {
        let store = self.gateway.store();
        let unread = |_: ReadError| StoreError::Busy;
        let files = match &erasure.message {
            None => store.shown_only_in(erasure.conversation.clone()).await.map_err(unread)?,
            Some((dialog, sequence)) => {
                let range = Range::Forward { from: *sequence, to: *sequence, limit: 1 };
                let found = store.events(dialog.clone(), range).await.map_err(unread)?;
                found.iter().filter_map(|sight| sight.message()?.file.clone()).collect()
            }
        };
        // First of all, for a message that says no more which file it showed cannot be asked again.
        let mut is_done = true;
        for path in files {
            if let Err(error) = self.gateway.files().delete(&path).await {
                tracing::warn!(%error, conversation = %erasure.conversation, "a file that is to be erased cannot be removed now");
                is_done = false;
            }
        }
        if !is_done {
            return Ok(false);
        }
        let mut from = 0;
        while let Some(next) = store.erase_words(erasure.clone(), from).await.unwrap_or(Err(StoreError::Unknown))? {
            from = next;
        }
        let now = self.gateway.identity().now();
        store.end_erasure(erasure.clone(), now).await.unwrap_or(Err(StoreError::Unknown))?;
        Ok(true)
    }
}
