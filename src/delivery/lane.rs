//! The lane of one application: its feed in order, one entry at a time, and typing states beside it.
//!
//! A lane is one task with three parts that share nothing but a few flags: [`Lane::hear`] takes in announcements,
//! [`Follower`] posts what the log holds, [`Lane::show_typing`] posts typing states. A lane with nothing to do
//! waits for an announcement, without a timer.

use super::cursor::Cursor;
use super::post::Failure;
use super::{AppWebhooks, EventKey, Hook, Key, Shared};
use crate::domain::Sight;
use crate::hub::{Item, Membership, Topic, Typing};
use crate::store::ReadError;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use hyper::body::Bytes;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Most entries in one read of the feed.
const BATCH: usize = 100;
/// The longest wait between two attempts; the vendor's.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long a read that failed waits before it is tried again.
const REREAD: Duration = Duration::from_secs(1);
/// Typing states that may wait for the one that is being posted. More are dropped.
const TYPING: usize = 32;
/// How old a typing state may become; it would say what is no longer so.
const STALE: Duration = Duration::from_secs(5);

/// A lane.
pub(super) struct Lane {
    shared: Arc<Shared>,
    key: Key,
    settings: watch::Receiver<Arc<AppWebhooks>>,
    stop: CancellationToken,
    /// Set when the feed has something new.
    news: Notify,
    /// Whether the last attempt failed and is to be repeated.
    is_failing: AtomicBool,
}

/// The lane was told to stop.
#[derive(Debug)]
struct Stopped;

/// Why an event is given up.
#[derive(Debug, Clone, Copy)]
enum Lost {
    TooOld,
    NoRetries,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, key: &Key, settings: watch::Receiver<Arc<AppWebhooks>>, stop: CancellationToken) -> Self {
        Self { shared, key: key.clone(), settings, stop, news: Notify::new(), is_failing: AtomicBool::new(false) }
    }

    /// Delivers until it is told to stop. `head` is where an application begins that never had webhooks; `begun` is told
    /// when that is settled.
    pub(super) async fn run(self, head: u64, begun: oneshot::Sender<()>) {
        // Heard from here on, so that nothing falls between the first read and the first announcement.
        let membership = self.shared.parts.hub.listen();
        let _interest = membership.follow(Topic::Feed(self.key.0.clone(), self.key.1.clone()));
        let Some(cursor) = self.begin(head, begun).await else { return };
        let (tell, typing) = mpsc::channel(TYPING);
        let mut follower = Follower { lane: &self, cursor, waits: None };
        tokio::select! {
            () = follower.follow() => {}
            () = self.hear(&membership, &tell) => {}
            () = self.show_typing(typing) => {}
        }
        self.calm();
    }

    async fn begin(&self, head: u64, begun: oneshot::Sender<()>) -> Option<Cursor> {
        let mut begun = Some(begun);
        loop {
            let opened = Cursor::open(self.shared.parts.store.clone(), &self.key, head).await;
            // Whoever waits for it does not wait for a sick disk.
            if let Some(begun) = begun.take() {
                let _ = begun.send(());
            }
            match opened {
                Ok(cursor) => return Some(cursor),
                Err(error) => {
                    tracing::warn!(account = %self.key.0, client_id = %self.key.1, %error, "webhooks do not begin yet");
                    self.wait(REREAD).await.ok()?;
                }
            }
        }
    }

    /// Takes in what is announced, for ever.
    async fn hear(&self, membership: &Membership, typing: &mpsc::Sender<(Instant, Arc<Typing>)>) {
        loop {
            let taken = poll_fn(|context| membership.outbox().take(context.waker()).map_or(Poll::Pending, Poll::Ready)).await;
            if taken.feed {
                self.news.notify_one();
            }
            for item in taken.items {
                if let Item::Typing(state) = item
                    && !self.is_failing()
                {
                    // One that finds no place is dropped.
                    let _ = typing.try_send((Instant::now(), state));
                }
            }
        }
    }

    /// Posts typing states, each once and in order, for ever.
    async fn show_typing(&self, mut typing: mpsc::Receiver<(Instant, Arc<Typing>)>) {
        while let Some((heard, state)) = typing.recv().await {
            if self.is_failing() || heard.elapsed() > STALE {
                continue;
            }
            let Some((event, body)) = self.shared.parts.render.typing(&state) else { continue };
            let settings = self.settings.borrow().clone();
            let Some(hook) = settings.hook(event) else { continue };
            if let Err(failure) = self.shared.poster.send(&settings, hook, &body.into()).await {
                tracing::debug!(account = %self.key.0, client_id = %self.key.1, endpoint = %hook.endpoint, %failure, "a typing state was not delivered");
            }
        }
    }

    fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    async fn wait(&self, time: Duration) -> Result<(), Stopped> {
        tokio::select! {
            () = self.stop.cancelled() => Err(Stopped),
            () = sleep(time) => Ok(()),
        }
    }

    /// What is posted of an entry, with the conversation as it is now where the entry is about that.
    async fn render(&self, sight: &Sight) -> Result<Option<(EventKey, Bytes)>, ReadError> {
        let parts = &self.shared.parts;
        let conversation = match (sight.message(), sight.entry.conversation()) {
            (None, Some(id)) => parts.store.conversation(id.clone()).await?,
            _ => None,
        };
        let rendered = parts.render.entry((parts.clock)(), sight, conversation.as_ref());
        Ok(rendered.map(|(event, body)| (event, body.into())))
    }

    /// Whether an event is older than it may become.
    fn is_too_old(&self, settings: &AppWebhooks, sight: &Sight) -> bool {
        let age = (self.shared.parts.clock)().saturating_sub(sight.at);
        Duration::from_millis(u64::try_from(age).unwrap_or(0)) >= settings.retention
    }

    fn give_up(&self, sight: &Sight, EventKey(event): EventKey, why: Lost) {
        let reason = match why {
            Lost::TooOld => "retention",
            Lost::NoRetries => "no_retries",
        };
        let conversation = sight.entry.conversation().map(ToString::to_string);
        tracing::warn!(account = %self.key.0, client_id = %self.key.1, event, conversation, position = sight.position, reason, "a webhook is given up");
        metrics::counter!("tieline_webhook_given_up_total", "reason" => reason).increment(1);
    }

    fn failed(&self, hook: &Hook, failure: &Failure) {
        let (account, client_id, endpoint) = (&self.key.0, &self.key.1, &hook.endpoint);
        if self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(%account, %client_id, %endpoint, %failure, "a webhook failed again");
        } else {
            metrics::gauge!("tieline_webhook_waiting").increment(1.0);
            tracing::warn!(%account, %client_id, %endpoint, %failure, "a webhook failed; this application's wait until it is taken");
        }
    }

    /// Ends the lane's trouble, if it is in any; whether it was.
    fn calm(&self) -> bool {
        let was_failing = self.is_failing.swap(false, Ordering::Relaxed);
        if was_failing {
            metrics::gauge!("tieline_webhook_waiting").decrement(1.0);
        }
        was_failing
    }
}

/// The part of a lane that follows the log.
struct Follower<'l> {
    lane: &'l Lane,
    cursor: Cursor,
    /// The waits of the trouble that the lane is in.
    waits: Option<ExponentialBackoff>,
}

impl Follower<'_> {
    /// Delivers until the lane is told to stop, which is between two attempts; then the cursor is kept.
    async fn follow(&mut self) {
        while self.turn().await.is_ok() {}
        self.cursor.keep().await;
    }

    /// Reads and delivers one batch, or waits until there is one.
    async fn turn(&mut self) -> Result<(), Stopped> {
        let lane = self.lane;
        let (account, app) = lane.key.clone();
        let Ok((sights, reached)) = lane.shared.parts.store.feed(account, app, self.cursor.after(), BATCH).await else {
            return lane.wait(REREAD).await;
        };
        for sight in &sights {
            self.deliver(sight).await?;
            self.cursor.reach(sight.position).await;
        }
        // Until a read finds nothing new, there may be more.
        if reached > self.cursor.after() || !sights.is_empty() {
            self.cursor.reach(reached).await;
            return if lane.stop.is_cancelled() { Err(Stopped) } else { Ok(()) };
        }
        // What failed was given up, and nothing waits behind it.
        self.waits = None;
        lane.calm();
        tokio::select! {
            () = lane.stop.cancelled() => Err(Stopped),
            () = lane.news.notified() => Ok(()),
            () = self.cursor.due() => {
                self.cursor.keep().await;
                Ok(())
            }
        }
    }

    /// Delivers one entry: returns when it was taken, or given up.
    async fn deliver(&mut self, sight: &Sight) -> Result<(), Stopped> {
        let lane = self.lane;
        let rendered = loop {
            match lane.render(sight).await {
                Ok(rendered) => break rendered,
                Err(_) => lane.wait(REREAD).await?,
            }
        };
        // The same bytes in each attempt.
        let Some((event, body)) = rendered else { return Ok(()) };
        let mut settings = lane.settings.clone();
        loop {
            if lane.stop.is_cancelled() {
                return Err(Stopped);
            }
            let app = settings.borrow_and_update().clone();
            let Some(hook) = app.hook(event) else { return Ok(()) };
            // In trouble, what is too old is not tried once more: each try may take seconds, and younger events wait.
            if lane.is_failing() && lane.is_too_old(&app, sight) {
                lane.give_up(sight, event, Lost::TooOld);
                return Ok(());
            }
            let Err(failure) = lane.shared.poster.send(&app, hook, &body).await else {
                self.waits = None;
                if lane.calm() {
                    tracing::info!(account = %app.account, client_id = %app.client_id, "webhooks are taken again");
                }
                if (lane.shared.parts.twice)(&app.account) {
                    tracing::info!(account = %app.account, client_id = %app.client_id, "a webhook is sent twice, as was asked");
                    let _ = lane.shared.poster.send(&app, hook, &body).await;
                }
                return Ok(());
            };
            if hook.max_retries == Some(0) {
                tracing::debug!(account = %app.account, client_id = %app.client_id, endpoint = %hook.endpoint, %failure, "a webhook failed");
                lane.give_up(sight, event, Lost::NoRetries);
                return Ok(());
            }
            lane.failed(hook, &failure);
            self.cursor.keep().await;
            let wait = self.next_wait();
            tokio::select! {
                () = lane.stop.cancelled() => return Err(Stopped),
                // Another endpoint, perhaps: tried at once.
                Ok(()) = settings.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// 2, 4, 8 … 300 s by default, and up to a tenth more, so that applications that failed together do not return together.
    fn next_wait(&mut self) -> Duration {
        let fresh = || {
            let waits = ExponentialBuilder::new().with_min_delay(self.lane.shared.parts.first_wait).with_max_delay(LONGEST_WAIT);
            waits.without_max_times().build()
        };
        let wait = self.waits.get_or_insert_with(fresh).next().unwrap_or(LONGEST_WAIT);
        wait.mul_f64(1.0 + crate::random::fraction() / 10.0)
    }
}
