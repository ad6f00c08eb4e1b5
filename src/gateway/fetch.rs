//! Attachments that are given by URL: fetched before what shows them is accepted.

use super::query::owner;
use super::{Error, Gateway, Request};
use crate::domain::Person;
use crate::files::{FetchRefused, Held};
use crate::store::{Decided, StoreError};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tieline_protocol::ids::AccountId;

impl From<FetchRefused> for Error {
    fn from(refused: FetchRefused) -> Self {
        Self::fault(refused.code(), refused.to_string())
    }
}

impl Gateway {
    /// Fetches attachments for the person who is to publish them, in their order: all of them or none. Their paths go into what is
    /// published by [`Gateway::show`], and whoever may see that may fetch them as any file. Each counts as an upload of theirs.
    ///
    /// # Errors
    /// [`FetchRefused`] of the first that failed; then nothing of any is kept.
    pub async fn fetch_all(&self, account: &AccountId, person: &Person, urls: &[&str]) -> Result<Held, FetchRefused> {
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

    async fn try_to_fetch(&self, account: &AccountId, owner: &str, urls: &[&str]) -> Result<Held, FetchRefused> {
        for _ in urls {
            let counted = self.uploads.check(&format!("{account}/{owner}"), Ipv4Addr::UNSPECIFIED.into());
            counted.map_err(|wait| FetchRefused::TooOften(wait.0))?;
        }
        self.files.fetch_all(account, owner, urls).await
    }

    /// Has commands done that show what was fetched. If nothing of them is written, or it stands there already, the files go; where
    /// nobody knows, they stay. This is so also when nobody waits for the answer any more.
    ///
    /// # Errors
    /// As of [`Gateway::submit`].
    pub async fn show(self: &Arc<Self>, request: Request, held: Vec<Held>) -> Result<Decided, Error> {
        let answer = self.submit(request);
        if held.is_empty() {
            return answer.await;
        }
        let shown = tokio::spawn(async move {
            let decided = answer.await;
            for one in held {
                if may_be_shown(&decided) { one.keep() } else { one.discard().await }
            }
            decided
        });
        shown.await.unwrap_or(Err(Error::Store(StoreError::Unknown)))
    }
}

/// Whether commands may have written something down, as far as their answer tells.
fn may_be_shown(decided: &Result<Decided, Error>) -> bool {
    match decided {
        Ok(decided) => !decided.replayed,
        Err(error) => matches!(error, Error::Store(StoreError::Unknown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Refusal;

    #[test]
    fn only_what_is_certainly_shown_nowhere_goes() {
        let answer = |replayed| Ok(Decided { outcomes: Vec::new(), replayed });
        for (decided, may) in [
            (answer(false), true),
            (answer(true), false),
            (Err(Error::Store(StoreError::Unknown)), true),
            (Err(Error::Store(StoreError::Busy)), false),
            (Err(Error::Store(StoreError::DiskFull)), false),
            (Err(Error::Store(StoreError::Internal)), false),
            (Err(Error::Unreadable), false),
            (Err(Refusal::DialogClosed.into()), false),
        ] {
            assert_eq!(may_be_shown(&decided), may, "{decided:?}");
        }
    }
}
