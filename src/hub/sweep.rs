//! What sockets were closed by, kept for those who were let in before and come on the map behind it.
//!
//! A socket's credential is looked at first, and some time later its session joins the hub. When the credential is revoked in
//! between, the sweep that closes sockets does not find it. So each sweep is noted before it looks at the map, and each session
//! looks at the notes when it is on the map: one of them finds the other.

use super::lock;
use crate::domain::Actor;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tieline_protocol::code::CloseCode;

/// Sweeps that are kept. Who missed an older one comes again.
const KEPT: usize = 1_024;

/// How many sweeps there had been at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Swept(u64);

/// Whose sockets are meant.
type Meant = Arc<dyn Fn(&Actor) -> bool + Send + Sync>;

/// The last sweeps.
#[derive(Default)]
pub(super) struct Sweeps(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// How many are no longer kept.
    gone: u64,
    sweeps: VecDeque<(Meant, CloseCode)>,
}

impl std::fmt::Debug for Sweeps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sweeps").field(&self.swept()).finish()
    }
}

impl Sweeps {
    pub(super) fn swept(&self) -> Swept {
        let kept = lock(&self.0);
        Swept(kept.gone + kept.sweeps.len() as u64)
    }

    pub(super) fn note(&self, is_meant: Meant, code: CloseCode) {
        let mut kept = lock(&self.0);
        if kept.sweeps.len() == KEPT {
            kept.sweeps.pop_front();
            kept.gone += 1;
        }
        kept.sweeps.push_back((is_meant, code));
    }

    /// The code to close with for a sweep since then that meant this one, or that is not known any more.
    pub(super) fn missed(&self, since: Swept, actor: &Actor) -> Option<CloseCode> {
        let kept = lock(&self.0);
        let Some(known) = since.0.checked_sub(kept.gone) else { return Some(CloseCode::Restart) };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        kept.sweeps.iter().skip(known).find(|(is_meant, _)| is_meant(actor)).map(|(_, code)| *code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_since_counts_and_what_is_forgotten_means_everybody() {
        let (sweeps, app) = (Sweeps::default(), Actor::Application { account: "demo".into(), app: "app".into() });
        let first = sweeps.swept();
        sweeps.note(Arc::new(|_: &Actor| false), CloseCode::Normal);
        assert_eq!(sweeps.missed(first, &app), None);
        sweeps.note(Arc::new(|actor: &Actor| actor.account().as_str() == "demo"), CloseCode::Token);
        let second = sweeps.swept();
        assert_eq!((sweeps.missed(first, &app), sweeps.missed(second, &app)), (Some(CloseCode::Token), None));
        (0..KEPT).for_each(|_| sweeps.note(Arc::new(|_: &Actor| false), CloseCode::Normal));
        assert_eq!((sweeps.missed(first, &app), sweeps.missed(second, &app)), (Some(CloseCode::Restart), None));
    }
}
