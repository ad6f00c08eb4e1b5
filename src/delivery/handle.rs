//! What others may do with webhooks: say which are wanted, look at them, pause them, have entries owed again, fetch.

use super::worker::{Left, written};
use super::{AppWebhooks, Made, Parts, Settings, Shared, Status, Target, Worker, runner};
use crate::domain::Millis;
use crate::store::{Attempt, Balance, DeadLetter, EndpointId, EndpointRow, EndpointState, Owed, ReadError, Settlement};
use hyper::body::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

/// Commands that may wait; who gives one waits for it anyway.
const COMMANDS: usize = 16;
/// Bytes of bodies in one answer to who fetches.
const PULLED: usize = 1024 * 1024;
/// Debts that are settled in one write.
const PAGE: usize = 1_000;

/// Why something cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// No endpoint has that number.
    #[error("there is no such endpoint")]
    NoSuchEndpoint,
    /// Nobody wants it now.
    #[error("this endpoint is off: no application names it any more; name it again, or forget it")]
    IsOff,
    /// It answered 410.
    #[error("this endpoint answered 410 (gone); resume it first")]
    IsGone,
    /// Somebody paused it.
    #[error("this endpoint is paused; resume it first")]
    IsPaused,
    /// A replay is under way there.
    #[error("a replay to this endpoint is under way; wait until it has ended")]
    IsReplaying,
    /// It cannot be forgotten.
    #[error("an application still names this endpoint; take it away there first")]
    IsWanted,
    /// It is posted to.
    #[error("this endpoint is posted to; nothing is fetched from it")]
    IsPosted,
    /// It is fetched from.
    #[error("this endpoint is fetched from; nothing is posted to it")]
    IsPulled,
    /// A cursor that was not given out.
    #[error("this cursor is not of this log; begin without one")]
    OtherCursor,
    /// The store could not be read.
    #[error("the store cannot be read now; try again")]
    Unreadable,
    /// The store did not confirm the change.
    #[error("the store did not confirm the change; look whether it holds, and try again")]
    NotKept,
    /// The gateway is ending.
    #[error("the gateway is stopping")]
    Stopping,
}

impl From<ReadError> for DeliveryError {
    fn from(ReadError: ReadError) -> Self {
        Self::Unreadable
    }
}

/// An endpoint as it stands.
#[derive(Debug, Clone)]
pub struct View {
    /// What it is.
    pub row: EndpointRow,
    /// What it is owed.
    pub balance: Balance,
    /// How it fares.
    pub status: Status,
}

/// What is to be owed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// Every dead letter.
    Dead,
    /// What happened from one position of the journal to another, both included.
    Range {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// What happened from one time to another, both included; without an end, until now.
    Time {
        /// From when.
        from: Millis,
        /// Until when.
        to: Option<Millis>,
    },
    /// The entries at these positions.
    These(Vec<u64>),
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// `delivered`, or why not.
    pub result: String,
    /// The same in words, if it failed.
    pub reason: Option<String>,
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// The first bytes of the answer, where they are shown.
    pub answer: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// In order.
    pub events: Vec<PulledEvent>,
    /// What to send as `after` to acknowledge these and get the next.
    pub cursor: String,
}

/// One event that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledEvent {
    /// The id that a webhook would carry.
    pub id: String,
    /// What to send as `after` to acknowledge this and all before it.
    pub cursor: String,
    /// The type of event.
    pub event: &'static str,
    /// The body, as it would be posted: JSON.
    pub body: Vec<u8>,
}

type Tell<T> = oneshot::Sender<Result<T, DeliveryError>>;

pub(super) enum Command {
    Apply { part: &'static str, apps: Vec<AppWebhooks>, holds: bool, tell: oneshot::Sender<()> },
    List { tell: oneshot::Sender<Vec<(EndpointRow, Status)>> },
    Look { id: EndpointId, tell: Tell<Look> },
    Set { id: EndpointId, state: EndpointState, tell: Tell<()> },
    Forget { id: EndpointId, tell: Tell<()> },
    Replay { id: EndpointId, left: Left, tell: Tell<u64> },
}

/// What it takes to post to an endpoint, or to fetch from it.
pub(super) struct Look {
    pub(super) row: EndpointRow,
    pub(super) settings: Option<Arc<Settings>>,
    pub(super) news: watch::Receiver<u64>,
    /// The newest turn that was given out.
    pub(super) newest: u64,
}

/// The way to the worker.
#[derive(Debug, Clone)]
pub struct Deliveries {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    part: &'static str,
}

impl Deliveries {
    /// The handle, and the worker that must be run for anything to be delivered.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Worker) {
        let (commands, taken) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared::new(parts));
        (Self { commands, shared: shared.clone(), part: "" }, Worker::new(shared, taken))
    }

    /// The same for a part of the set, which is said and replaced by itself.
    #[must_use]
    pub fn part(&self, part: &'static str) -> Self {
        Self { part, ..self.clone() }
    }

    /// Says what this part of the set is from the next [`Deliveries::apply`] of another part on: so that at a start no endpoint
    /// seems to be gone only because its part comes last.
    pub async fn announce(&self, apps: Vec<AppWebhooks>) {
        self.send(apps, false).await;
    }

    /// Replaces this part of the set. An endpoint that is new is owed what happens from now on. One whose address changed is
    /// owed what it was. One that is gone from the set is owed nothing new; if it comes back it is owed what is then
    /// left, and what happens from then on. Other settings hold from the next attempt on.
    pub async fn apply(&self, apps: Vec<AppWebhooks>) {
        self.send(apps, true).await;
    }

    async fn send(&self, apps: Vec<AppWebhooks>, holds: bool) {
        let (tell, applied) = oneshot::channel();
        // A worker that has stopped delivers nothing more; the journal keeps what is owed.
        if self.commands.send(Command::Apply { part: self.part, apps, holds, tell }).await.is_ok() {
            let _ = applied.await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Tell<T>) -> Command) -> Result<T, DeliveryError> {
        let (tell, answer) = oneshot::channel();
        self.commands.send(command(tell)).await.map_err(|_| DeliveryError::Stopping)?;
        answer.await.unwrap_or(Err(DeliveryError::Stopping))
    }

    /// Every endpoint that is known, by number.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn list(&self) -> Result<Vec<View>, DeliveryError> {
        let all = self.rows().await?;
        // Read here, where it holds up nobody who is delivered to.
        let balances: HashMap<_, _> = self.shared.parts.store.balances().await?.into_iter().collect();
        let balance = |id| balances.get(&id).copied().unwrap_or_default();
        Ok(all.into_iter().map(|(row, status)| View { balance: balance(row.id), row, status }).collect())
    }

    async fn rows(&self) -> Result<Vec<(EndpointRow, Status)>, DeliveryError> {
        let (tell, answer) = oneshot::channel();
        self.commands.send(Command::List { tell }).await.map_err(|_| DeliveryError::Stopping)?;
        answer.await.map_err(|_| DeliveryError::Stopping)
    }

    /// Forgets the endpoints that are off and of such an account and application, with what they are owed.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn forget_apps(&self, is_meant: impl Fn(&EndpointRow) -> bool) -> Result<(), DeliveryError> {
        for (row, _) in self.rows().await? {
            if row.state == EndpointState::Off && is_meant(&row) {
                self.forget(row.id).await?;
            }
        }
        Ok(())
    }

    /// An endpoint, without what it is owed.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn endpoint(&self, id: EndpointId) -> Result<EndpointRow, DeliveryError> {
        Ok(self.look(id).await?.row)
    }

    async fn look(&self, id: EndpointId) -> Result<Look, DeliveryError> {
        self.ask(|tell| Command::Look { id, tell }).await
    }

    /// Lets an endpoint wait: it is owed what happens, and gets it when it is resumed. An attempt that is under way ends.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn pause(&self, id: EndpointId) -> Result<(), DeliveryError> {
        self.ask(|tell| Command::Set { id, state: EndpointState::Paused, tell }).await
    }

    /// Lets an endpoint go on that was paused, or is gone.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn resume(&self, id: EndpointId) -> Result<(), DeliveryError> {
        self.ask(|tell| Command::Set { id, state: EndpointState::On, tell }).await
    }

    /// Forgets an endpoint that is off, with what it is owed and its dead letters.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn forget(&self, id: EndpointId) -> Result<(), DeliveryError> {
        self.ask(|tell| Command::Forget { id, tell }).await
    }

    /// Has entries owed again, behind what is owed already; how many. What the endpoint does not subscribe to is left out.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn replay(&self, id: EndpointId, replay: Replay) -> Result<u64, DeliveryError> {
        let store = &self.shared.parts.store;
        let left = match replay {
            Replay::Dead => Left::Dead(0, u64::MAX),
            Replay::Range { from, to } => Left::Range(from.saturating_sub(1), to),
            Replay::Time { from, to } => {
                let after = store.position_at(from).await?.saturating_sub(1);
                let to = match to {
                    Some(to) => store.position_at(to.saturating_add(1)).await?.saturating_sub(1),
                    None => u64::MAX,
                };
                Left::Range(after, to)
            }
            Replay::These(positions) => Left::These(positions.into()),
        };
        self.ask(|tell| Command::Replay { id, left, tell }).await
    }

    /// What an endpoint is owed after a turn.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn owed(&self, id: EndpointId, after: u64, limit: usize) -> Result<Vec<Owed>, DeliveryError> {
        Ok(self.shared.parts.store.owed(id, after, limit).await?)
    }

    /// What was given up at an endpoint after a turn.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn dead_letters(&self, id: EndpointId, after: u64, limit: usize) -> Result<Vec<DeadLetter>, DeliveryError> {
        Ok(self.shared.parts.store.dead_letters(id, after, limit).await?)
    }

    /// The attempts to deliver the entry at a position to any endpoint.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn attempts(&self, position: u64) -> Result<Vec<Attempt>, DeliveryError> {
        Ok(self.shared.parts.store.attempts(position).await?)
    }

    /// The id that a webhook about the entry at a position carries.
    #[must_use]
    pub fn message_id(&self, position: u64) -> String {
        self.shared.message_id(position)
    }

    /// Posts something that tells nothing, once, whatever state the endpoint is in.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn test(&self, id: EndpointId) -> Result<Tested, DeliveryError> {
        let settings = self.look(id).await?.settings.ok_or(DeliveryError::IsOff)?;
        let Some(hook) = settings.app.hooks.iter().find(|hook| hook.target == settings.target) else { return Err(DeliveryError::IsOff) };
        if settings.target == Target::Pull {
            return Err(DeliveryError::IsPulled);
        }
        let body = Bytes::from(self.shared.render(&settings.app).test(self.shared.now()));
        let (id, began) = (format!("test:{}", uuid::Uuid::new_v4().simple()), Instant::now());
        let posted = runner::post(&self.shared, &settings, hook, &id, &body).await;
        let took = began.elapsed();
        let (result, reason, answer) = match &posted {
            Ok(answer) => ("delivered", None, Some(answer)),
            Err(failure) => (failure.label(), Some(failure.to_string()), failure.answer()),
        };
        let (status, answer) = (answer.map(|answer| answer.status), answer.and_then(|answer| answer.excerpt.clone()));
        Ok(Tested { result: result.into(), reason, status, answer, took })
    }

    /// Fetches what an endpoint is owed, in order. Everything up to and with `after` is acknowledged, and owed no more.
    /// If nothing is owed behind it, this waits until something is, or until a time.
    ///
    /// # Errors
    /// [`DeliveryError`]
    pub async fn pull(&self, id: EndpointId, after: Option<&str>, limit: usize, until: Instant) -> Result<Pulled, DeliveryError> {
        let mut look = self.look(id).await?;
        let settings = look.settings.take().ok_or(DeliveryError::IsOff)?;
        if settings.target != Target::Pull {
            return Err(DeliveryError::IsPosted);
        }
        if look.row.state == EndpointState::Paused {
            return Err(DeliveryError::IsPaused);
        }
        let after = match after {
            None => 0,
            Some(cursor) => self.turn(cursor).filter(|turn| *turn <= look.newest).ok_or(DeliveryError::OtherCursor)?,
        };
        if after > 0 {
            self.acknowledge(id, after).await?;
        }
        loop {
            look.news.borrow_and_update();
            let owed = self.shared.parts.store.owed(id, after, limit).await?;
            let (events, reached) = self.shown(&settings.app, &owed).await?;
            if !events.is_empty() {
                return Ok(Pulled { events, cursor: self.cursor(reached) });
            }
            // What nobody can be shown is not waited for.
            if reached > 0 {
                self.acknowledge(id, reached).await?;
                continue;
            }
            match timeout_at(until, look.news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(DeliveryError::Stopping),
                Err(_) => return Ok(Pulled { events: Vec::new(), cursor: self.cursor(after) }),
            }
        }
    }

    fn cursor(&self, turn: u64) -> String {
        format!("{}:{turn}", self.shared.parts.store.epoch())
    }

    fn turn(&self, cursor: &str) -> Option<u64> {
        let (epoch, turn) = cursor.split_once(':')?;
        (epoch == self.shared.parts.store.epoch()).then_some(())?;
        turn.parse().ok()
    }

    /// What is shown of debts, and the turn of the last that was looked at.
    async fn shown(&self, app: &AppWebhooks, owed: &[Owed]) -> Result<(Vec<PulledEvent>, u64), DeliveryError> {
        let (mut events, mut reached, mut bytes) = (Vec::new(), 0, 0);
        for one in owed {
            let sight = self.shared.parts.store.entry(one.position).await?;
            let made = match &sight {
                Some(sight) => self.shared.made(app, sight).await?,
                None => Made::Lost,
            };
            reached = one.turn;
            let Made::This((event, body)) = made else { continue };
            bytes += body.len();
            let (id, cursor) = (self.shared.message_id(one.position), self.cursor(one.turn));
            events.push(PulledEvent { id, cursor, event: event.0, body });
            if bytes >= PULLED {
                break;
            }
        }
        Ok((events, reached))
    }

    async fn acknowledge(&self, id: EndpointId, up_to: u64) -> Result<(), DeliveryError> {
        loop {
            let mut owed = self.shared.parts.store.owed(id, 0, PAGE).await?;
            owed.retain(|owed| owed.turn <= up_to);
            if owed.is_empty() {
                return Ok(());
            }
            let at = self.shared.now();
            let attempt = |owed: &Owed| Attempt {
                position: owed.position,
                endpoint: id,
                turn: owed.turn,
                at,
                took: 0,
                result: "acknowledged".into(),
                status: None,
                answer: None,
            };
            let attempts = owed.iter().map(attempt).collect();
            let done = owed.iter().map(|owed| (owed.endpoint, owed.turn)).collect();
            let settlement = Settlement { done, attempts, ..Settlement::default() };
            written(self.shared.parts.store.settle(Arc::new(settlement))).await.map_err(|_| DeliveryError::NotKept)?;
        }
    }
}
