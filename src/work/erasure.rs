//! Erasure: what was said in an anonymised conversation or message goes from the journal, from memory and with its files, soon after
//! that was asked for, and whatever comes between.

use super::retention::Hold;
use crate::gateway::Gateway;
use crate::store::{Erasure, ReadError, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked for something to erase.
const PERIOD: Duration = Duration::from_millis(500);
/// How long it waits behind what failed.
const LATER: Duration = Duration::from_secs(10);

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
            let wait = match self.round().await {
                Ok(true) => PERIOD,
                Ok(false) => LATER,
                Err(error) => {
                    tracing::warn!(%error, "what is to be erased cannot be looked up now");
                    LATER
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether nothing failed.
    async fn round(&self) -> Result<bool, ReadError> {
        let mut is_well = true;
        for erasure in self.gateway.store().erasures().await? {
            // While a copy is made nothing goes that it may be about to copy.
            let Some(_held) = (self.hold)() else { return Ok(is_well) };
            match self.erase(&erasure).await {
                Ok(true) => {
                    metrics::counter!("tieline_erasures_total").increment(1);
                    tracing::info!(conversation = %erasure.conversation, erasure = %erasure.id, "erased what was said");
                }
                Ok(false) => is_well = false,
                // What was said is still on its way into the database.
                Err(StoreError::Busy) => {}
                Err(error) => {
                    tracing::warn!(%error, conversation = %erasure.conversation, "what was said cannot be erased now");
                    is_well = false;
                }
            }
        }
        Ok(is_well)
    }

    /// Erases words, then files: whether all is gone. As long as a file cannot be removed, what names it stays, and it is tried again.
    async fn erase(&self, erasure: &Erasure) -> Result<bool, StoreError> {
        let store = self.gateway.store();
        let mut from = 0;
        while let Some(next) = store.erase_words(erasure.clone(), from).await.unwrap_or(Err(StoreError::Unknown))? {
            from = next;
        }
        let mut is_done = true;
        // Nothing else may begin to show them from here on: what does by now is seen when it is asked again.
        let shown = async || store.shown_only_by(erasure.clone()).await.map_err(|_| StoreError::Busy);
        let going = self.gateway.go(&shown().await?).await.map_err(|_| StoreError::Busy)?;
        for path in shown().await?.into_iter().filter(|path| going.contains(path)) {
            if let Err(error) = self.gateway.files().delete(&path).await {
                tracing::warn!(%error, conversation = %erasure.conversation, "a file that is to be erased cannot be removed now");
                is_done = false;
            }
        }
        if !is_done {
            return Ok(false);
        }
        let now = self.gateway.identity().now();
        store.end_erasure(erasure.clone(), now).await.unwrap_or(Err(StoreError::Unknown))?;
        Ok(true)
    }
}
