//! Attachments that are given by URL: fetched before what shows them is written down.

use super::caller::Caller;
use super::error::Fault;
use super::message::{File, Writing};
use crate::store::Decided;

/// What was fetched for messages, in their order.
#[derive(Debug)]
pub(super) struct Fetching {
    files: Vec<Vec<File>>,
}

impl Fetching {
    /// Fetches all attachments of some messages, or none.
    ///
    /// # Errors
    /// 400 for one that is not there, 429, 503.
    pub(super) async fn of<'w>(_caller: &Caller, writings: impl IntoIterator<Item = &'w Writing>) -> Result<Self, Fault> {
        let writings: Vec<&Writing> = writings.into_iter().collect();
        if writings.iter().any(|writing| !writing.attachments.is_empty()) {
            return Err(Fault::bad("attachments are not fetched yet"));
        }
        Ok(Self { files: vec![Vec::new(); writings.len()] })
    }

    /// Fetches the attachments of some messages that can be fetched, and says which cannot.
    ///
    /// # Errors
    /// 429, 503.
    pub(super) async fn as_they_come(caller: &Caller, writings: &[Writing]) -> Result<(Self, Vec<String>), Fault> {
        Ok((Self::of(caller, writings).await?, Vec::new()))
    }

    /// The files of the message at a place.
    pub(super) fn files(&self, place: usize) -> &[File] {
        self.files.get(place).map_or(&[], Vec::as_slice)
    }

    /// Keeps what was fetched, if it is shown; removes it, if what was to show it was refused, or stands already.
    pub(super) async fn shown_by(self, decided: Result<Decided, Fault>) -> Result<Decided, Fault> {
        decided
    }
}
