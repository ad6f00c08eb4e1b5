//! Attachments that are given by URL: fetched before what shows them is written down.

use super::caller::Caller;
use super::error::Fault;
use super::message::{File, Writing};
use crate::domain::{Actor, Command};
use crate::files::{FetchRefused, Fetched, Held};
use crate::gateway::{Error, IdempotencyKey, Request};
use crate::store::Decided;
use crate::throttle::Wait;
use futures::future::join_all;

/// What was fetched for messages, in their order.
#[derive(Debug)]
pub(super) struct Fetching<'c> {
    caller: &'c Caller,
    held: Vec<Held>,
    files: Vec<Vec<File>>,
}

impl From<FetchRefused> for Fault {
    fn from(refused: FetchRefused) -> Self {
        match refused {
            FetchRefused::TooOften(seconds) => Self::many(Wait(seconds)),
            refused => Error::from(refused).into(),
        }
    }
}

impl<'c> Fetching<'c> {
    /// Fetches all attachments of a message, or none.
    ///
    /// # Errors
    /// 400 for what cannot be fetched, 429, 503.
    pub(super) async fn of(caller: &'c Caller, writing: Option<&Writing>) -> Result<Self, Fault> {
        let mut this = Self { caller, held: Vec::new(), files: Vec::new() };
        if let Some(writing) = writing {
            let held = fetch(caller, writing).await?;
            this.add(writing, held);
        }
        Ok(this)
    }

    /// Fetches the attachments of many messages at once: of each all or none, and says why not. They come within the time of one.
    pub(super) async fn of_many(caller: &'c Caller, writings: &[Writing]) -> (Self, Vec<String>) {
        let mut this = Self { caller, held: Vec::new(), files: Vec::new() };
        let mut refused = Vec::new();
        let mut fetching = Vec::with_capacity(writings.len());
        for writing in writings {
            fetching.push(fetch(caller, writing));
        }
        let answers = join_all(fetching).await;
        for (writing, answer) in writings.iter().zip(answers) {
            let held = answer.unwrap_or_else(|error| {
                let name = writing.external.as_deref().map_or_else(String::new, |name| format!(" with the external id {name}"));
                refused.push(format!("the attachments of the message{name} are left out: {error}"));
                None
            });
            this.add(writing, held);
        }
        (this, refused)
    }

    fn add(&mut self, writing: &Writing, held: Option<Held>) {
        let fetched = held.as_deref().unwrap_or_default();
        let file = |(fetched, name): (&Fetched, Option<String>)| File { path: fetched.path.clone(), kind: fetched.kind, name };
        let names = writing.attachments.iter().map(|attachment| attachment.pretty_name.clone());
        self.files.push(fetched.iter().zip(names).map(file).collect());
        self.held.extend(held);
    }

    /// The files of the message at a place.
    pub(super) fn files(&self, place: usize) -> &[File] {
        self.files.get(place).map_or(&[], Vec::as_slice)
    }

    /// Has commands done that show what was fetched.
    ///
    /// # Errors
    /// What the gateway refuses.
    pub(super) async fn shown_by(self, actor: Actor, commands: Vec<Command>, key: Option<IdempotencyKey>) -> Result<Decided, Fault> {
        Ok(self.caller.gateway().show(Request { actor, commands, key, resend: None }, self.held).await?)
    }
}

async fn fetch(caller: &Caller, writing: &Writing) -> Result<Option<Held>, FetchRefused> {
    let urls: Vec<&str> = writing.attachments.iter().map(|attachment| attachment.url.as_str()).collect();
    match urls.as_slice() {
        [] => Ok(None),
        urls => caller.gateway().fetch_all(&caller.account().id, &writing.from, urls).await.map(Some),
    }
}
