//! Attachments that are given by URL: fetched before what shows them is accepted.

use super::query::owner;
use super::{Error, Gateway};
use crate::domain::Person;
use crate::files::{FetchRefused, Fetched};
use std::net::Ipv4Addr;
use tieline_protocol::ids::AccountId;

impl From<FetchRefused> for Error {
    fn from(refused: FetchRefused) -> Self {
        Self::fault(refused.code(), refused.to_string())
    }
}

impl Gateway {
    /// Fetches an attachment for the person who is to publish it: its path goes into the publish, and whoever may see that may
    /// fetch it as any file. It counts as an upload of theirs.
    ///
    /// # Errors
    /// [`FetchRefused`]; then nothing of it is kept.
    pub async fn fetch(&self, account: &AccountId, person: &Person, url: &str) -> Result<Fetched, FetchRefused> {
        // One that is asked for is one that comes.
        self.fetch_all(account, person, &[url]).await.map(|mut fetched| fetched.swap_remove(0))
    }

    /// Fetches several attachments, in their order: all of them or none. If what was to show them is not accepted after all,
    /// [`Gateway::discard`] them.
    ///
    /// # Errors
    /// [`FetchRefused`] of the first that failed; then nothing of any is kept.
    pub async fn fetch_all(&self, account: &AccountId, person: &Person, urls: &[&str]) -> Result<Vec<Fetched>, FetchRefused> {
        let fetched = self.try_to_fetch(account, &owner(person), urls).await;
        match &fetched {
            Ok(fetched) => metrics::counter!("tieline_fetches_total", "result" => "fetched").increment(fetched.len() as u64),
            Err(error) => {
                metrics::counter!("tieline_fetches_total", "result" => error.label()).increment(1);
                tracing::info!(%account, failure = error.label(), %error, "an attachment was not fetched");
            }
        }
        fetched
    }

    async fn try_to_fetch(&self, account: &AccountId, owner: &str, urls: &[&str]) -> Result<Vec<Fetched>, FetchRefused> {
        for _ in urls {
            let counted = self.uploads.check(&format!("{account}/{owner}"), Ipv4Addr::UNSPECIFIED.into());
            counted.map_err(|wait| FetchRefused::TooOften(wait.0))?;
        }
        self.files.fetch_all(account, owner, urls).await
    }

    /// Removes what was fetched for something that was not accepted.
    pub async fn discard(&self, fetched: &[Fetched]) {
        self.files.discard(fetched).await;
    }
}
