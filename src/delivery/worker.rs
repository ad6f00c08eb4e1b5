//! Who is owed what: follows the journal, writes debts with its cursor, and keeps a runner for each endpoint.
//!
//! One task owns the endpoints, the cursor and the counter of turns, and does one thing at a time: an order from a
//! [`Deliveries`](super::Deliveries), a batch of the journal, or a batch of what is owed again. So nothing here is
//! locked, and a debt is never written twice.

use super::handle::{Command, DeliveryError, Look};
use super::runner::{self, Ended, Over, Reins, Runner};
use super::{AppWebhooks, EventKey, Of, Settings, Shared, Status, Target, lock};
use crate::domain::{Entry, Millis, Sight};
use crate::hub::{Interest, Item, Membership, Topic};
use crate::store::{Balance, DeadLetter, EndpointId, EndpointRow, EndpointState, Owed, Owing, ReadError, StoreError};
use futures::FutureExt;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tieline_protocol::ids::{AccountId, ClientId, ConversationId};
use tieline_protocol::webhook::TYPING;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Most entries matched in one go, and most debts in one write: a publish may wait behind it.
const BATCH: usize = 256;
/// Entries that nobody is owed may be looked at again after a crash; the cursor is written at least so often.
const KEPT_EVERY: u64 = 1_000;
/// How long a read or a write that failed waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often what is too old is removed.
const TIDY: Duration = Duration::from_secs(60);
/// How long decisions have the writer between two parts of that.
const REST: Duration = Duration::from_secs(1);
/// The cursor's name.
const CURSOR: &str = "webhooks";

/// Runs deliveries.
pub struct Worker {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    /// What is wanted, by the parts in which it is said.
    parts: BTreeMap<&'static str, Vec<AppWebhooks>>,
    endpoints: BTreeMap<EndpointId, Known>,
    /// The endpoints of an account, of those that somebody wants.
    by_account: HashMap<AccountId, Vec<EndpointId>>,
    cursor: Cursor,
    /// What is to be owed again.
    again: VecDeque<Again>,
    /// No write is tried before.
    not_before: Option<Instant>,
    runners: JoinSet<(EndpointId, Ended)>,
    typing: Membership,
    _interests: Vec<Interest>,
}

/// How far the journal is matched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    /// Every entry up to here has its debts.
    position: u64,
    /// The last turn, and the last number of an endpoint, that were given out.
    turn: u64,
    endpoint: EndpointId,
    /// The position on disk.
    kept: u64,
}

/// An endpoint, wanted now or not.
struct Known {
    row: EndpointRow,
    /// Whether the row is to be written.
    is_unsaved: bool,
    /// None, if nobody wants it now.
    settings: Option<watch::Sender<Arc<Settings>>>,
    news: watch::Sender<u64>,
    status: Arc<Mutex<Status>>,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    ended: CancellationToken,
    typing: mpsc::Sender<(Instant, Arc<crate::hub::Typing>)>,
}

/// Entries that are owed again, page by page between other things.
struct Again {
    endpoint: EndpointId,
    left: Left,
    done: u64,
    tell: oneshot::Sender<Result<u64, DeliveryError>>,
}

/// What is still to be owed again.
pub(super) enum Left {
    /// Dead letters after a turn and up to another.
    Dead(u64, u64),
    /// Entries after a position and up to another.
    Range(u64, u64),
    These(VecDeque<u64>),
}

/// The endpoint of an application that its webhooks make, before it has a number.
struct Wanted {
    app: AppWebhooks,
    target: Target,
    events: Vec<String>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("endpoints", &self.endpoints.len()).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl Known {
    fn is_owed(&self) -> bool {
        self.settings.is_some() && matches!(self.row.state, EndpointState::On | EndpointState::Paused)
    }

    fn is_run(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| matches!(settings.borrow().target, Target::Post(_)))
            && self.row.state == EndpointState::On
    }

    /// Whether it is to be looked at whether an entry goes there, and then of which conversations.
    fn asks_for(&self, shared: &Shared, sight: &Sight) -> Option<Of> {
        let settings = self.settings.as_ref()?.borrow();
        let hook = settings.hook(shared.render(&settings.app).key(sight)?)?;
        Some(settings.of(hook))
    }

    /// Sets the state. One that is owed nothing new remembers how far it was, by the position up to which entries are
    /// matched, and is owed what happened meanwhile when it comes back.
    fn set(&mut self, state: EndpointState, now: Millis, matched: u64) {
        if self.row.state == state {
            return;
        }
        let is_followed = |state| matches!(state, EndpointState::On | EndpointState::Paused);
        match (is_followed(self.row.state), is_followed(state)) {
            (true, false) if !self.row.is_behind => self.row.since = self.row.since.max(matched),
            (false, true) => self.row.is_behind = true,
            _ => {}
        }
        (self.row.state, self.row.changed, self.is_unsaved) = (state, now, true);
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, commands: mpsc::Receiver<Command>) -> Self {
        let typing = shared.parts.hub.listen();
        Self {
            shared,
            commands,
            parts: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            by_account: HashMap::new(),
            cursor: Cursor::default(),
            again: VecDeque::new(),
            not_before: None,
            runners: JoinSet::new(),
            typing,
            _interests: Vec::new(),
        }
    }

    /// Delivers until `stop` is cancelled; then each attempt that is under way gets a while to end.
    ///
    /// # Panics
    /// If a runner panicked.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Err(ReadError) = self.begin().await {
            tracing::warn!("webhooks do not begin yet");
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(AGAIN) => {}
            }
        }
        // On its own, because it waits for reads and writes of which nobody who is delivered to knows.
        let mut tidying: JoinSet<()> = JoinSet::new();
        tidying.spawn(tidy(self.shared.clone()));
        let hub = self.shared.parts.hub.clone();
        loop {
            let is_held = self.not_before.filter(|from| Instant::now() < *from);
            let has_work = self.has_work();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(command) = self.commands.recv() => self.take(command, &stop).await,
                Some(ended) = self.runners.join_next() => self.ended(ended, &stop),
                typing = heard(&self.typing) => self.pass_on(typing),
                Some(ended) = tidying.join_next() => drop(surface(ended)),
                () = std::future::ready(()), if has_work && is_held.is_none() => self.work().await,
                () = sleep(is_held.map_or(AGAIN, |from| from - Instant::now())), if has_work && is_held.is_some() => {}
                () = hub.committed(), if !has_work => {}
            }
        }
        for known in self.endpoints.values_mut() {
            known.running.take().inspect(|running| running.stop.cancel());
        }
        while let Some(ended) = self.runners.join_next().await {
            surface(ended);
        }
        self.keep_cursor().await;
    }

    /// Reads which endpoints there are and how far the journal is matched.
    async fn begin(&mut self) -> Result<(), ReadError> {
        let store = &self.shared.parts.store;
        let (rows, kept, head) = (store.endpoints().await?, store.cursor(CURSOR.into()).await?, store.head());
        let active = rows.iter().filter(|row| matches!(row.state, EndpointState::On | EndpointState::Paused));
        let first = active.map(|row| row.since).min().unwrap_or(head);
        let newest = rows.iter().map(|row| row.id).max().unwrap_or(0);
        let known = kept.as_deref().and_then(read_cursor);
        self.cursor = match known {
            // A copy of a log, under a new name, brings its debts and its cursor along.
            Some((epoch, cursor)) if cursor.position <= head => {
                if epoch != store.epoch() {
                    tracing::warn!(epoch, position = cursor.position, "webhooks go on from where they were in another log");
                }
                cursor
            }
            Some((epoch, cursor)) => {
                tracing::error!(
                    epoch,
                    position = cursor.position,
                    head,
                    "the log ends before what was owed of it; webhooks begin at its head"
                );
                Cursor { position: head, kept: 0, ..cursor }
            }
            None => Cursor { position: first.min(head), ..Cursor::default() },
        };
        self.cursor.endpoint = self.cursor.endpoint.max(newest);
        for row in rows {
            let (news, status) = (watch::channel(self.cursor.turn).0, Arc::default());
            self.endpoints.insert(row.id, Known { row, is_unsaved: false, settings: None, news, status, running: None });
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        !self.again.is_empty()
            || self.endpoints.values().any(|known| known.is_unsaved || (known.row.is_behind && known.is_owed()))
            || (!self.by_account.is_empty() && self.shared.parts.store.head() > self.cursor.position)
    }

    /// One piece of work; if the store does not take it, it is done again later.
    async fn work(&mut self) {
        let done = async {
            self.save().await?;
            self.owe_again().await?;
            self.catch_up().await?;
            self.follow().await
        };
        self.not_before = done.await.err().map(|()| Instant::now() + AGAIN);
    }

    /// Writes endpoints that changed.
    async fn save(&mut self) -> Result<(), ()> {
        for known in self.endpoints.values_mut().filter(|known| known.is_unsaved) {
            match self.shared.parts.store.keep_endpoint(known.row.clone()).await {
                Ok(Ok(())) => known.is_unsaved = false,
                failed => {
                    tracing::debug!(?failed, endpoint = known.row.id, "an endpoint was not kept");
                    return Err(());
                }
            }
        }
        Ok(())
    }

    /// Matches the next entries of the journal.
    async fn follow(&mut self) -> Result<(), ()> {
        if self.by_account.is_empty() {
            return Ok(());
        }
        let (sights, reached) = self.shared.parts.store.journal(self.cursor.position, BATCH).await.map_err(|ReadError| ())?;
        let mut owed = Vec::new();
        let mut cursor = Cursor { position: reached, ..self.cursor };
        for sight in &sights {
            let Some(conversation) = sight.entry.conversation() else { continue };
            let Some(ids) = self.by_account.get(&sight.account) else { continue };
            let mut opener = None;
            for id in ids {
                let Some(known) = self.endpoints.get(id) else { continue };
                if known.row.is_behind || !known.is_owed() || known.row.since >= sight.position {
                    continue;
                }
                let is_owed = match known.asks_for(&self.shared, sight) {
                    None => false,
                    Some(Of::All) => true,
                    Some(Of::Its(app)) => {
                        if opener.is_none() {
                            opener = Some(self.app_of(sight, conversation).await.map_err(|ReadError| ())?);
                        }
                        opener.as_ref().is_some_and(|opener| opener.as_ref() == Some(&app))
                    }
                };
                if is_owed {
                    cursor.turn += 1;
                    owed.push(self.debt(*id, cursor.turn, sight.position, conversation));
                }
            }
        }
        if owed.is_empty() && cursor.position < self.cursor.kept + KEPT_EVERY {
            self.cursor = cursor;
            return Ok(());
        }
        self.owe(Owing { owed, ..Owing::default() }, cursor).await
    }

    /// Matches the next entries for one endpoint that is behind; at the cursor it joins the others, so that nothing new is
    /// owed before what is older.
    async fn catch_up(&mut self) -> Result<(), ()> {
        let Some(known) = self.endpoints.values().find(|known| known.row.is_behind && known.is_owed()) else { return Ok(()) };
        let mut row = known.row.clone();
        let (sights, reached) = self.shared.parts.store.journal(row.since, BATCH).await.map_err(|ReadError| ())?;
        let mut cursor = self.cursor;
        let mut owed = Vec::new();
        for sight in sights.iter().filter(|sight| sight.position <= cursor.position) {
            if let Some(conversation) = self.is_for(row.id, sight).await.map_err(|ReadError| ())? {
                cursor.turn += 1;
                owed.push(self.debt(row.id, cursor.turn, sight.position, conversation));
            }
        }
        row.since = reached.clamp(row.since, cursor.position.max(row.since));
        row.is_behind = row.since < cursor.position && reached > known.row.since;
        let id = row.id;
        self.owe(Owing { owed, endpoints: vec![row.clone()], ..Owing::default() }, cursor).await?;
        if let Some(known) = self.endpoints.get_mut(&id) {
            (known.row, known.is_unsaved) = (row, false);
        }
        Ok(())
    }

    /// The application through which an entry's conversation was opened.
    async fn app_of(&self, sight: &Sight, conversation: &ConversationId) -> Result<Option<ClientId>, ReadError> {
        Ok(match (&sight.audience, &sight.entry) {
            (Some(audience), _) => audience.app.clone(),
            (None, Entry::Published(message)) => message.app.clone(),
            (None, Entry::Opened(opened)) => opened.app.clone(),
            // Read back from disk, it does not say so itself.
            _ => self.shared.parts.store.conversation(conversation.clone()).await?.and_then(|known| known.details.app.clone()),
        })
    }

    fn debt(&self, endpoint: EndpointId, turn: u64, position: u64, conversation: &ConversationId) -> Owed {
        Owed { endpoint, turn, position, conversation: conversation.clone(), since: self.shared.now(), due: 0, attempts: 0 }
    }

    /// Writes debts with the cursor, and tells who is to pay them.
    async fn owe(&mut self, owing: Owing, cursor: Cursor) -> Result<(), ()> {
        let value = format!("{}:{}:{}:{}", self.shared.parts.store.epoch(), cursor.position, cursor.turn, cursor.endpoint);
        let owing = Arc::new(Owing { cursor: Some((CURSOR.into(), value)), ..owing });
        match self.shared.parts.store.owe(owing.clone()).await {
            Ok(Ok(())) => {}
            failed => {
                tracing::debug!(?failed, "what is owed to webhooks was not written; it is tried again");
                return Err(());
            }
        }
        self.cursor = Cursor { kept: cursor.position, ..cursor };
        let touched: HashSet<EndpointId> = owing.owed.iter().map(|owed| owed.endpoint).collect();
        for id in touched {
            if let Some(known) = self.endpoints.get(&id) {
                known.news.send_replace(cursor.turn);
            }
        }
        Ok(())
    }

    async fn keep_cursor(&mut self) {
        if self.cursor.kept != self.cursor.position && self.owe(Owing::default(), self.cursor).await.is_err() {
            tracing::debug!("the cursor of webhooks was not kept; what follows it is looked at again");
        }
    }

    async fn take(&mut self, command: Command, stop: &CancellationToken) {
        match command {
            Command::Apply { part, apps, holds, tell } => {
                self.parts.insert(part, apps);
                if holds {
                    self.apply(stop);
                    // Whoever waits for it does not wait for a sick disk: it is tried again.
                    self.work().await;
                }
                let _ = tell.send(());
            }
            Command::List { tell } => {
                let _ = tell.send(self.endpoints.values().map(|known| (known.row.clone(), lock(&known.status).clone())).collect());
            }
            Command::Look { id, tell } => {
                let _ = tell.send(self.look(id));
            }
            Command::Set { id, state, tell } => {
                let _ = tell.send(self.set(id, state, stop).await);
            }
            Command::Forget { id, tell } => {
                let _ = tell.send(self.forget(id).await);
            }
            Command::Replay { id, left, tell } => self.replay(id, left, tell),
        }
    }

    /// Brings the endpoints to what is wanted now.
    fn apply(&mut self, stop: &CancellationToken) {
        let (now, head, matched) = (self.shared.now(), self.shared.parts.store.head(), self.cursor.position);
        let mut by_app: BTreeMap<(AccountId, ClientId), Vec<Wanted>> = BTreeMap::new();
        for app in self.parts.values().flatten() {
            by_app.insert(app.key(), grouped(app));
        }
        let was_followed = !self.by_account.is_empty();
        self.by_account.clear();
        let mut wanted = Vec::new();
        for known in self.endpoints.values() {
            let own = by_app.get_mut(&(known.row.account.clone(), known.row.app.clone()));
            let place = own.as_ref().and_then(|own| own.iter().position(|one| one.target.name() == known.row.target));
            if let (Some(own), Some(place)) = (own, place) {
                wanted.push((known.row.id, own.swap_remove(place)));
            }
        }
        // One that moved: it gets what its types of events were owed under the old address.
        for known in self.endpoints.values() {
            let is_placed = wanted.iter().any(|(id, _)| *id == known.row.id);
            let Some(own) = by_app.get_mut(&(known.row.account.clone(), known.row.app.clone())).filter(|_| !is_placed) else { continue };
            if let Some(place) = own.iter().position(|one| one.events.iter().any(|event| known.row.events.contains(event))) {
                wanted.push((known.row.id, own.swap_remove(place)));
            }
        }
        for one in by_app.into_values().flatten() {
            self.cursor.endpoint += 1;
            let id = self.cursor.endpoint;
            let row = EndpointRow {
                id,
                account: one.app.account.clone(),
                app: one.app.client_id.clone(),
                target: one.target.name(),
                events: one.events.clone(),
                since: head,
                is_behind: false,
                state: EndpointState::On,
                changed: now,
            };
            let news = watch::channel(self.cursor.turn).0;
            self.endpoints.insert(id, Known { row, is_unsaved: true, settings: None, news, status: Arc::default(), running: None });
            wanted.push((id, one));
        }
        for (id, known) in &mut self.endpoints {
            if !wanted.iter().any(|(wanted, _)| wanted == id) {
                known.settings = None;
                known.set(EndpointState::Off, now, matched);
            }
        }
        // The order of the file is nothing that endpoints keep.
        wanted.sort_by_key(|(id, _)| *id);
        for (id, Wanted { app, target, events }) in wanted {
            self.by_account.entry(app.account.clone()).or_default().push(id);
            let Some(known) = self.endpoints.get_mut(&id) else { continue };
            // Elsewhere, nobody has said yet that it is gone.
            let is_elsewhere = known.row.target != target.name();
            if known.row.state == EndpointState::Off || (known.row.state == EndpointState::Gone && is_elsewhere) {
                known.set(EndpointState::On, now, matched);
            }
            if is_elsewhere || known.row.events != events {
                (known.row.target, known.row.events, known.is_unsaved) = (target.name(), events, true);
            }
            let settings = Arc::new(Settings { id, app, target });
            match &known.settings {
                Some(known) => {
                    known.send_if_modified(|before| {
                        !before.is_as(&settings) && {
                            *before = settings;
                            true
                        }
                    });
                }
                None => known.settings = Some(watch::channel(settings).0),
            }
        }
        self.hear_typing();
        // While nobody was owed anything the journal was not followed, and who comes back looks for itself.
        if !was_followed {
            let first = self.endpoints.values().filter(|known| known.is_owed() && !known.row.is_behind).map(|known| known.row.since).min();
            self.cursor.position = self.cursor.position.max(first.unwrap_or(head));
        }
        self.run_all(stop);
    }

    /// Hears typing states where somebody wants them.
    fn hear_typing(&mut self) {
        let mut topics = HashSet::new();
        for settings in self.endpoints.values().filter_map(|known| known.settings.as_ref()) {
            let settings = settings.borrow();
            let (account, app) = settings.app.key();
            if let Some(hook) = settings.hook(EventKey(TYPING)) {
                topics.insert(if hook.all { Topic::Typing(account) } else { Topic::Feed(account, Some(app)) });
            }
        }
        self._interests = topics.into_iter().map(|topic| self.typing.follow(topic)).collect();
    }

    fn pass_on(&mut self, states: Vec<Arc<crate::hub::Typing>>) {
        for state in states {
            for id in self.by_account.get(&state.audience.account).into_iter().flatten() {
                if let Some(running) = self.endpoints.get(id).and_then(|known| known.running.as_ref()) {
                    // One that finds no place is dropped.
                    let _ = running.typing.try_send((Instant::now(), state.clone()));
                }
            }
        }
    }

    /// Starts and stops runners as their endpoints want it.
    fn run_all(&mut self, stop: &CancellationToken) {
        for (id, known) in &mut self.endpoints {
            match (known.is_run(), &known.running) {
                (true, Some(running)) if !running.stop.is_cancelled() => {}
                (false, Some(running)) => running.stop.cancel(),
                (false, None) => {}
                // The old one must have ended: both would pay the same debts.
                (true, before) => {
                    let Some(settings) = known.settings.as_ref().map(watch::Sender::subscribe) else { continue };
                    let before = before.as_ref().map(|before| before.ended.clone());
                    let (typing, heard) = mpsc::channel(runner::TYPING);
                    let running = Running { stop: stop.child_token(), ended: CancellationToken::new(), typing };
                    let (news, status) = (known.news.subscribe(), known.status.clone());
                    let reins = Reins { settings, news, typing: heard, status, stop: running.stop.clone() };
                    let (shared, id, ended) = (self.shared.clone(), *id, running.ended.clone().drop_guard());
                    self.runners.spawn(async move {
                        let _ended = ended;
                        if let Some(before) = before {
                            before.cancelled().await;
                        }
                        (id, Runner::new(shared, reins).run().await)
                    });
                    known.running = Some(running);
                }
            }
        }
    }

    fn ended(&mut self, ended: Result<(EndpointId, Ended), tokio::task::JoinError>, stop: &CancellationToken) {
        let Some((id, Ended::Over(target, why))) = surface(ended) else { return };
        let (now, matched) = (self.shared.now(), self.cursor.position);
        let Some(known) = self.endpoints.get_mut(&id).filter(|known| known.row.state == EndpointState::On) else { return };
        known.running = None;
        // The old address said so, of one that has another by now.
        if known.row.target != target.name() {
            return self.run_all(stop);
        }
        let (account, client_id) = (&known.row.account, &known.row.app);
        match why {
            Over::Gone => {
                tracing::warn!(%account, %client_id, endpoint = id, "an endpoint answered 410 (gone): what it is owed waits until it is resumed");
            }
            Over::GivenUp => {
                tracing::warn!(%account, %client_id, endpoint = id, "an endpoint is switched off, because it did not take an event for too long; it can be resumed");
            }
        }
        known.set(EndpointState::Gone, now, matched);
        self.run_all(stop);
    }

    fn look(&self, id: EndpointId) -> Result<Look, DeliveryError> {
        let known = self.endpoints.get(&id).ok_or(DeliveryError::NoSuchEndpoint)?;
        Ok(Look {
            row: known.row.clone(),
            settings: known.settings.as_ref().map(|settings| settings.borrow().clone()),
            news: known.news.subscribe(),
            newest: self.cursor.turn,
        })
    }

    /// Pauses an endpoint or lets it go on.
    async fn set(&mut self, id: EndpointId, state: EndpointState, stop: &CancellationToken) -> Result<(), DeliveryError> {
        let (now, matched) = (self.shared.now(), self.cursor.position);
        let known = self.endpoints.get_mut(&id).ok_or(DeliveryError::NoSuchEndpoint)?;
        if known.settings.is_none() {
            return Err(DeliveryError::IsOff);
        }
        if (known.row.state, state) == (EndpointState::Gone, EndpointState::Paused) {
            return Err(DeliveryError::IsGone);
        }
        known.set(state, now, matched);
        self.run_all(stop);
        self.save().await.map_err(|()| DeliveryError::NotKept)
    }

    /// Forgets an endpoint that nobody wants any more, with what it is owed.
    async fn forget(&mut self, id: EndpointId) -> Result<(), DeliveryError> {
        let known = self.endpoints.get(&id).ok_or(DeliveryError::NoSuchEndpoint)?;
        if known.settings.is_some() {
            return Err(DeliveryError::IsWanted);
        }
        if let Some(running) = &known.running {
            running.ended.cancelled().await;
        }
        match self.shared.parts.store.forget_endpoint(id).await {
            Ok(Ok(())) => {
                self.endpoints.remove(&id);
                Ok(())
            }
            _ => Err(DeliveryError::NotKept),
        }
    }

    fn replay(&mut self, id: EndpointId, left: Left, tell: oneshot::Sender<Result<u64, DeliveryError>>) {
        match self.begin_replay(id, left) {
            Ok(left) => self.again.push_back(Again { endpoint: id, left, done: 0, tell }),
            Err(error) => drop(tell.send(Err(error))),
        }
    }

    fn begin_replay(&self, id: EndpointId, left: Left) -> Result<Left, DeliveryError> {
        let known = self.endpoints.get(&id).ok_or(DeliveryError::NoSuchEndpoint)?;
        match (&known.settings, known.row.state) {
            (None, _) => return Err(DeliveryError::IsOff),
            (_, EndpointState::Gone) => return Err(DeliveryError::IsGone),
            _ => {}
        }
        // Whoever asks again and again is not to fill the memory, nor to owe the same many times over.
        if self.again.iter().any(|again| again.endpoint == id) {
            return Err(DeliveryError::IsReplaying);
        }
        // What is given up, or is still to be matched, from now on is owed anyway.
        Ok(match left {
            Left::Dead(after, to) => Left::Dead(after, to.min(self.cursor.turn)),
            Left::Range(after, to) => Left::Range(after, to.min(self.cursor.position)),
            Left::These(positions) => Left::These(positions),
        })
    }

    /// Owes the next page of what is to be owed again, and puts the rest of it back.
    async fn owe_again(&mut self) -> Result<(), ()> {
        let Some(mut again) = self.again.pop_front() else { return Ok(()) };
        match self.replay_some(again.endpoint, &mut again.left).await {
            Ok((more, is_all)) => {
                again.done += more;
                if is_all {
                    tracing::info!(endpoint = again.endpoint, entries = again.done, "owed again");
                    let _ = again.tell.send(Ok(again.done));
                } else {
                    self.again.push_back(again);
                }
                Ok(())
            }
            Err(()) => {
                self.again.push_front(again);
                Err(())
            }
        }
    }

    /// Owes a part of what is to be owed again; how much that was, and whether it was all.
    async fn replay_some(&mut self, endpoint: EndpointId, left: &mut Left) -> Result<(u64, bool), ()> {
        let store = self.shared.parts.store.clone();
        let failed = |ReadError| ();
        let mut cursor = self.cursor;
        let (mut owed, mut revived) = (Vec::new(), Vec::new());
        let mut again = |worker: &Self, position: u64, conversation: &ConversationId| {
            cursor.turn += 1;
            owed.push(worker.debt(endpoint, cursor.turn, position, conversation));
        };
        let (next, is_all) = match left {
            Left::Dead(after, to) => {
                let dead = store.dead_letters(endpoint, *after, BATCH).await.map_err(failed)?;
                let mut last = None;
                for DeadLetter { owed, .. } in dead.iter().filter(|dead| dead.owed.turn <= *to) {
                    revived.push((endpoint, owed.turn));
                    again(self, owed.position, &owed.conversation);
                    last = Some(owed.turn);
                }
                (last.map(|last| Left::Dead(last, *to)), last.is_none())
            }
            Left::Range(after, to) => {
                let (sights, reached) = store.journal(*after, BATCH).await.map_err(failed)?;
                for sight in sights.iter().filter(|sight| sight.position <= *to) {
                    if let Some(conversation) = self.is_for(endpoint, sight).await.map_err(failed)? {
                        again(self, sight.position, conversation);
                    }
                }
                (Some(Left::Range(reached, *to)), reached >= *to || reached == *after)
            }
            Left::These(positions) => {
                for position in positions.iter().take(BATCH) {
                    let Some(sight) = store.entry(*position).await.map_err(failed)? else { continue };
                    if let Some(conversation) = self.is_for(endpoint, &sight).await.map_err(failed)? {
                        again(self, *position, conversation);
                    }
                }
                let rest: VecDeque<u64> = positions.iter().skip(BATCH).copied().collect();
                let is_all = rest.is_empty();
                (Some(Left::These(rest)), is_all)
            }
        };
        let count = owed.len() as u64;
        if count > 0 {
            self.owe(Owing { owed, revived, ..Owing::default() }, cursor).await?;
        }
        if let Some(next) = next {
            *left = next;
        }
        Ok((count, is_all))
    }

    /// The conversation of an entry that an endpoint would be owed, had it happened now.
    async fn is_for<'s>(&self, endpoint: EndpointId, sight: &'s Sight) -> Result<Option<&'s ConversationId>, ReadError> {
        let settings = self.endpoints.get(&endpoint).and_then(|known| known.settings.as_ref()).map(|settings| settings.borrow().clone());
        let Some((settings, conversation)) = settings.zip(sight.entry.conversation()) else { return Ok(None) };
        if settings.app.account != sight.account {
            return Ok(None);
        }
        let key = self.shared.render(&settings.app).key(sight);
        let is_for = match key.and_then(|key| settings.hook(key)).map(|hook| settings.of(hook)) {
            None => false,
            Some(Of::All) => true,
            Some(Of::Its(app)) => self.app_of(sight, conversation).await? == Some(app),
        };
        Ok(is_for.then_some(conversation))
    }
}

/// Removes what is older than it is to be kept, and counts what is owed, now and then.
async fn tidy(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(TIDY);
    loop {
        tick.tick().await;
        if let Ok(balances) = shared.parts.store.balances().await {
            count(&balances, shared.now());
        }
        let before = |kept: Duration| shared.now().saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
        let next = Instant::now() + TIDY;
        while Instant::now() < next {
            let retention = shared.parts.retention.load_full();
            match shared.parts.store.tidy_debts(before(retention.dead_letters.0), before(retention.traces.0)).await {
                Ok(true) => sleep(REST).await,
                Ok(false) | Err(_) => break,
            }
        }
    }
}

/// Says how much is owed.
fn count(balances: &[(EndpointId, Balance)], now: Millis) {
    let total = |count: fn(&Balance) -> u64| balances.iter().map(|(_, balance)| count(balance)).sum::<u64>() as f64;
    metrics::gauge!("tieline_webhook_owed").set(total(|balance| balance.owed));
    metrics::gauge!("tieline_webhook_dead_letters").set(total(|balance| balance.dead));
    let oldest = balances.iter().filter_map(|(_, balance)| balance.oldest).min();
    let age = oldest.map_or(0, |oldest| now.saturating_sub(oldest));
    metrics::gauge!("tieline_webhook_oldest_seconds").set(age as f64 / 1000.0);
}

/// The endpoints that an application's webhooks make: one for each place that something goes to.
fn grouped(app: &AppWebhooks) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for hook in &app.hooks {
        match all.iter_mut().find(|one| one.target == hook.target) {
            Some(one) => one.events.push(hook.event.clone()),
            None => all.push(Wanted { app: app.clone(), target: hook.target.clone(), events: vec![hook.event.clone()] }),
        }
    }
    all
}

fn read_cursor(text: &str) -> Option<(&str, Cursor)> {
    let mut parts = text.split(':');
    let epoch = parts.next()?;
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (position, turn, endpoint) = (number()?, number()?, number()?);
    Some((epoch, Cursor { position, turn, endpoint: endpoint.cast_signed(), kept: position }))
}

async fn heard(typing: &Membership) -> Vec<Arc<crate::hub::Typing>> {
    let taken = poll_fn(|context| typing.outbox().take(context.waker()).map_or(Poll::Pending, Poll::Ready)).await;
    let states = taken.items.into_iter().filter_map(|item| if let Item::Typing(state) = item { Some(state) } else { None });
    states.collect()
}

pub(super) async fn written(answer: oneshot::Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
    answer.map(|answer| answer.unwrap_or(Err(StoreError::Unknown))).await
}

/// A runner that panicked stops the gateway, loudly.
fn surface<T>(ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    match ended {
        Ok(ended) => Some(ended),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
