//! What the projections lack, and a little more: recent entries, and conversations and consumers as they are now.
//!
//! Only the writer changes it, after a commit; readers look here first and on disk for the rest. What is not yet
//! projected is never dropped, so *disk ∪ memory* is always everything.

use super::FileUse;
use crate::domain::{AgentState, Consumer, Conversation, ConversationFilter, Entry, Message, Millis, Sight};
use crate::map::{Map, Set};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId, DialogId, UserId};

/// Entries kept after they are projected, so that who just fell behind is served without the disk: so many at most, and
/// so many bytes.
const RECENT: usize = 16_384;
const RECENT_BYTES: usize = 32 * 1024 * 1024;
/// Conversations and consumers kept after they are projected, so that a live conversation is decided without the disk.
const CLEAN: usize = 50_000;

#[derive(Debug, Default)]
pub(crate) struct Memory(RwLock<Inner>);

/// A state with the position of the last entry in it.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) state: T,
    pub(crate) applied: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Every entry above this position is in `recent`, whose positions are contiguous.
    floor: u64,
    recent: VecDeque<Arc<Sight>>,
    recent_bytes: usize,
    by_dialog: Map<DialogId, VecDeque<Arc<Sight>>>,
    by_app: Map<(AccountId, ClientId), VecDeque<Arc<Sight>>>,
    dirty: Map<ConversationId, At<Conversation>>,
    /// When something falls due in those.
    wakes: BTreeSet<(Millis, ConversationId)>,
    clean: Map<ConversationId, At<Conversation>>,
    dirty_consumers: Map<(AccountId, ConsumerId), At<Consumer>>,
    clean_consumers: Map<(AccountId, ConsumerId), At<Consumer>>,
    /// Agents that were looked at or said something; there are few, so they stay.
    agents: Map<(AccountId, UserId), AgentState>,
    /// The conversations that an agent has or is offered, of agents that were looked at.
    loads: Map<(AccountId, UserId), Set<ConversationId>>,
    /// Names of conversations that are not projected; whether they still hold the conversation itself says.
    names: Map<Name, ConversationId>,
    /// Where files are shown, by their paths, of the entries in `recent`.
    files: Map<String, Vec<FileUse>>,
    /// The names that writers gave to messages in `recent`.
    named: Set<(ConversationId, String)>,
    /// Conversations that are not projected, by their numbers.
    numbers: Map<(AccountId, i64), ConversationId>,
}

/// A consumer's conversation as its opener named it.
pub(crate) type Name = (AccountId, ConsumerId, String);

impl Memory {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        // Nothing in here can be left half done by a panic that matters more than serving on.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(crate) fn start_at(&mut self, position: u64) {
        self.floor = position;
    }

    pub(crate) fn head(&self) -> u64 {
        self.floor + self.recent.len() as u64
    }

    pub(crate) fn push(&mut self, sight: Arc<Sight>) {
        if let Some(message) = sight.message() {
            if let Some(file) = &message.file {
                self.files.entry(file.clone()).or_default().push(FileUse::of(message, sight.position));
            }
            if let Some(name) = &message.external {
                self.named.insert((message.conversation.clone(), name.clone()));
            }
            self.by_dialog.entry(message.dialog.clone()).or_default().push_back(sight.clone());
        }
        if let Some(app) = app_of(&sight) {
            self.by_app.entry(app).or_default().push_back(sight.clone());
        }
        self.recent_bytes += weight(&sight);
        self.recent.push_back(sight);
    }

    pub(crate) fn put(&mut self, id: ConversationId, state: Conversation, applied: u64) {
        self.clean.remove(&id);
        self.unname(&id);
        if let Some(name) = name_of(&state) {
            self.names.insert(name, id.clone());
        }
        let (wakes, number) = (state.wakes(), state.details.number);
        if !self.dirty.contains_key(&id) {
            self.numbers.insert((state.details.account.clone(), number), id.clone());
        }
        let before = self.dirty.insert(id.clone(), At { state, applied }).and_then(|before| before.state.wakes());
        if before != wakes {
            self.let_sleep(before, &id);
            self.wakes.extend(wakes.map(|at| (at, id)));
        }
    }

    pub(crate) fn put_consumer(&mut self, key: (AccountId, ConsumerId), state: Consumer, applied: u64) {
        self.clean_consumers.remove(&key);
        self.dirty_consumers.insert(key, At { state, applied });
    }

    /// Forgets when something falls due in a conversation.
    fn let_sleep(&mut self, wakes: Option<Millis>, id: &ConversationId) {
        if let Some(at) = wakes {
            self.wakes.remove(&(at, id.clone()));
        }
    }

    /// Conversations that are not projected in which something has fallen due, the longest due first.
    pub(crate) fn due(&self, now: Millis) -> impl Iterator<Item = &ConversationId> {
        self.wakes.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| id)
    }

    /// Forgets the name of a conversation that is not projected, as it was.
    fn unname(&mut self, id: &ConversationId) {
        if let Some(name) = self.dirty.get(id).and_then(|at| name_of(&at.state))
            && self.names.get(&name) == Some(id)
        {
            self.names.remove(&name);
        }
    }

    /// Forgets a conversation that is no more, with what was said in it. Positions stay contiguous: its entries' places are
    /// taken by entries that say nothing.
    pub(crate) fn forget(&mut self, id: &ConversationId) {
        self.clean.remove(id);
        for place in 0..self.recent.len() {
            let sight = self.recent[place].clone();
            if sight.entry.conversation() != Some(id) {
                continue;
            }
            if let Some(message) = sight.message() {
                self.by_dialog.remove(&message.dialog);
                if let Some(name) = &message.external {
                    self.named.remove(&(message.conversation.clone(), name.clone()));
                }
                if let Some(file) = &message.file
                    && let Some(shown) = self.files.get_mut(file)
                {
                    shown.retain(|shown| shown.conversation != *id);
                    if shown.is_empty() {
                        self.files.remove(file);
                    }
                }
            }
            if let Some(app) = app_of(&sight)
                && let Some(list) = self.by_app.get_mut(&app)
            {
                list.retain(|kept| kept.position != sight.position);
            }
            let entry = Entry::Removed { conversation: id.clone(), number: 0 };
            let empty = Sight { position: sight.position, at: sight.at, account: sight.account.clone(), entry, audience: None };
            self.recent_bytes -= weight(&sight);
            self.recent_bytes += weight(&empty);
            self.recent[place] = Arc::new(empty);
        }
    }

    /// Puts entries without words in the place of those of a conversation, or of one of its messages.
    pub(crate) fn forget_words(&mut self, id: &ConversationId, message: Option<&(DialogId, u64)>) {
        let is_meant = |sight: &Sight| match (sight.message(), message) {
            (Some(found), Some((dialog, sequence))) => found.dialog == *dialog && found.sequence == *sequence,
            (None, Some(_)) => false,
            (_, None) => sight.entry.conversation() == Some(id),
        };
        for place in 0..self.recent.len() {
            let sight = self.recent[place].clone();
            if !is_meant(&sight) {
                continue;
            }
            let fresh = Arc::new(Sight { entry: sight.entry.without_words(), ..sight.as_ref().clone() });
            self.recent_bytes = self.recent_bytes.saturating_sub(weight(&sight)) + weight(&fresh);
            let lists = [
                sight.message().and_then(|message| self.by_dialog.get_mut(&message.dialog)),
                app_of(&sight).and_then(|app| self.by_app.get_mut(&app)),
            ];
            for list in lists.into_iter().flatten() {
                if let Ok(place) = list.binary_search_by_key(&sight.position, |kept| kept.position) {
                    list[place].clone_from(&fresh);
                }
            }
            if let Some(found) = sight.message() {
                if let Some(name) = &found.external {
                    self.named.remove(&(found.conversation.clone(), name.clone()));
                }
                if let Some(file) = &found.file {
                    self.drop_file_use(file, sight.position);
                }
            }
            self.recent[place] = fresh;
        }
    }

    fn drop_file_use(&mut self, file: &str, position: u64) {
        if let Some(shown) = self.files.get_mut(file) {
            shown.retain(|shown| shown.position != position);
            if shown.is_empty() {
                self.files.remove(file);
            }
        }
    }

    /// Remembers a conversation that was read from disk.
    pub(crate) fn put_clean(&mut self, id: ConversationId, at: At<Conversation>) {
        if !self.dirty.contains_key(&id) {
            make_room(&mut self.clean);
            self.clean.insert(id, at);
        }
    }

    pub(crate) fn put_clean_consumer(&mut self, key: (AccountId, ConsumerId), at: At<Consumer>) {
        if !self.dirty_consumers.contains_key(&key) {
            make_room(&mut self.clean_consumers);
            self.clean_consumers.insert(key, at);
        }
    }

    pub(crate) fn conversation(&self, id: &ConversationId) -> Option<&Conversation> {
        self.dirty.get(id).or_else(|| self.clean.get(id)).map(|at| &at.state)
    }

    pub(crate) fn consumer(&self, key: &(AccountId, ConsumerId)) -> Option<&Consumer> {
        self.dirty_consumers.get(key).or_else(|| self.clean_consumers.get(key)).map(|at| &at.state)
    }

    pub(crate) fn dirty(&self, id: &ConversationId) -> Option<&At<Conversation>> {
        self.dirty.get(id)
    }

    pub(crate) fn dirty_consumer(&self, key: &(AccountId, ConsumerId)) -> Option<&At<Consumer>> {
        self.dirty_consumers.get(key)
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) fn agent(&self, key: &(AccountId, UserId)) -> Option<&AgentState> {
        self.agents.get(key)
    }

    /// Remembers an agent, unless something newer is known.
    pub(crate) fn put_agent(&mut self, state: AgentState) {
        let key = (state.account.clone(), state.agent.clone());
        if self.agents.get(&key).is_none_or(|known| known.version <= state.version) {
            self.agents.insert(key, state);
        }
    }

    /// Every agent of an account that is here.
    pub(crate) fn agents(&self, account: &AccountId) -> Vec<AgentState> {
        self.agents.values().filter(|state| state.account == *account).cloned().collect()
    }

    /// How many conversations an agent has or is offered, if it was looked at before.
    pub(crate) fn load(&self, key: &(AccountId, UserId)) -> Option<usize> {
        self.loads.get(key).map(Set::len)
    }

    /// Begins to count an agent's conversations: those on disk, and over them what is here.
    pub(crate) fn begin_load(&mut self, key: &(AccountId, UserId), on_disk: Set<ConversationId>) {
        let mut all = on_disk;
        for (id, at) in &self.dirty {
            let details = &at.state.details;
            if details.account == key.0 && details.occupies().any(|user| *user == key.1) {
                all.insert(id.clone());
            } else {
                all.remove(id);
            }
        }
        self.loads.insert(key.clone(), all);
    }

    /// Counts anew for whom a conversation stands.
    pub(crate) fn shift_load(&mut self, before: Option<&Conversation>, after: &Conversation) {
        let account = &after.details.account;
        for user in before.iter().flat_map(|before| before.details.occupies()) {
            if let Some(load) = self.loads.get_mut(&(account.clone(), user.clone())) {
                load.remove(&after.details.id);
            }
        }
        for user in after.details.occupies() {
            if let Some(load) = self.loads.get_mut(&(account.clone(), user.clone())) {
                load.insert(after.details.id.clone());
            }
        }
    }

    /// The open conversation of a name, of those not projected.
    pub(crate) fn named(&self, name: &Name) -> Option<ConversationId> {
        let id = self.names.get(name)?;
        let holds = self.dirty.get(id).is_some_and(|at| name_of(&at.state).as_ref() == Some(name));
        holds.then(|| id.clone())
    }

    /// Whether a message that is here has this name of its writer's.
    pub(crate) fn has_message(&self, name: &(ConversationId, String)) -> bool {
        self.named.contains(name)
    }

    /// The conversation of a number, if it is not projected.
    pub(crate) fn numbered(&self, account: &AccountId, number: i64) -> Option<&Conversation> {
        let id = self.numbers.get(&(account.clone(), number))?;
        self.dirty.get(id).map(|at| &at.state)
    }

    /// Consumers of an account that are not projected.
    pub(crate) fn dirty_consumers(&self, account: &AccountId) -> impl Iterator<Item = &Consumer> {
        self.dirty_consumers.iter().filter(move |(key, _)| key.0 == *account).map(|(_, at)| &at.state)
    }

    /// Where a file is shown, by entries that are here.
    pub(crate) fn shows(&self, file: &str) -> &[FileUse] {
        self.files.get(file).map_or(&[], Vec::as_slice)
    }

    /// Conversations that are not projected, of every account.
    pub(crate) fn dirty_all(&self) -> impl Iterator<Item = (&ConversationId, &Conversation)> {
        self.dirty.iter().map(|(id, at)| (id, &at.state))
    }

    pub(crate) fn dirty_ids(&self, account: &AccountId) -> Set<ConversationId> {
        self.dirty.iter().filter(|(_, at)| at.state.details.account == *account).map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn dirty_matching(&self, filter: &ConversationFilter) -> Vec<Conversation> {
        self.dirty.values().map(|at| &at.state).filter(|state| filter.matches(state)).cloned().collect()
    }

    pub(crate) fn largest_number(&self, account: &AccountId) -> i64 {
        self.numbers.keys().filter(|(owner, _)| owner == account).map(|(_, number)| *number).max().unwrap_or(0)
    }

    /// The dialog's entries that are here, ascending and without holes up to the newest.
    pub(crate) fn dialog(&self, dialog: &DialogId) -> Option<&VecDeque<Arc<Sight>>> {
        self.by_dialog.get(dialog)
    }

    /// Whether every entry after a position is here.
    pub(crate) fn reaches(&self, position: u64) -> bool {
        position >= self.floor
    }

    /// An application's entries that are here, ascending.
    pub(crate) fn app(&self, account: &AccountId, app: &ClientId) -> Option<&VecDeque<Arc<Sight>>> {
        self.by_app.get(&(account.clone(), app.clone()))
    }

    /// The entry at a position, if it is here.
    pub(crate) fn entry(&self, position: u64) -> Option<&Arc<Sight>> {
        let place = usize::try_from(position.checked_sub(self.floor + 1)?).ok()?;
        self.recent.get(place)
    }

    /// Entries after a position, if they all are here.
    pub(crate) fn after(&self, position: u64) -> Option<impl Iterator<Item = &Arc<Sight>>> {
        let skip = usize::try_from(position.checked_sub(self.floor)?).ok()?;
        Some(self.recent.iter().skip(skip))
    }

    /// Everything up to `projected` is on disk: what was last touched there is clean, and what is old may go.
    pub(crate) fn projected(&mut self, projected: u64, conversations: &[ConversationId], consumers: &[(AccountId, ConsumerId)]) {
        for id in conversations {
            if self.dirty.get(id).is_none_or(|at| at.applied > projected) {
                continue;
            }
            self.unname(id);
            if let Some(at) = self.dirty.remove(id) {
                self.numbers.remove(&(at.state.details.account.clone(), at.state.details.number));
                self.let_sleep(at.state.wakes(), id);
                make_room(&mut self.clean);
                self.clean.insert(id.clone(), at);
            }
        }
        for key in consumers {
            if self.dirty_consumers.get(key).is_some_and(|at| at.applied <= projected)
                && let Some(at) = self.dirty_consumers.remove(key)
            {
                make_room(&mut self.clean_consumers);
                self.clean_consumers.insert(key.clone(), at);
            }
        }
        let is_full = |inner: &Self| inner.recent.len() > RECENT || inner.recent_bytes > RECENT_BYTES;
        while is_full(self) && self.recent.front().is_some_and(|sight| sight.position <= projected) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.recent.pop_front() else { return };
        self.floor = oldest.position;
        self.recent_bytes -= weight(&oldest);
        if let Some(app) = app_of(&oldest) {
            drop_first(&mut self.by_app, &app);
        }
        if let Some(message) = oldest.message() {
            if let Some(name) = &message.external {
                self.named.remove(&(message.conversation.clone(), name.clone()));
            }
            drop_first(&mut self.by_dialog, &message.dialog);
            if let Some(file) = &message.file {
                self.drop_file_use(file, oldest.position);
            }
        }
    }
}

/// The name under which a conversation is found, while it is open.
pub(crate) fn name_of(conversation: &Conversation) -> Option<Name> {
    let details = &conversation.details;
    let name = details.binding.as_ref().filter(|_| details.main_is_open())?;
    Some((details.account.clone(), details.consumer.clone(), name.clone()))
}

/// The name under which a conversation was found, while it was open.
pub(crate) fn closed_name(conversation: &Conversation) -> Option<Name> {
    let details = &conversation.details;
    let name = details.binding.as_ref().filter(|_| !details.main_is_open())?;
    Some((details.account.clone(), details.consumer.clone(), name.clone()))
}

/// Whose feed an entry belongs to.
fn app_of(sight: &Sight) -> Option<(AccountId, ClientId)> {
    Some((sight.account.clone(), sight.audience.as_ref()?.app.clone()?))
}

fn drop_first<K: Eq + std::hash::Hash>(lists: &mut Map<K, VecDeque<Arc<Sight>>>, key: &K) {
    if let Some(list) = lists.get_mut(key) {
        list.pop_front();
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

/// About how many bytes an entry holds on to.
pub(crate) fn weight(sight: &Sight) -> usize {
    sight.message().map_or(0, Message::bytes) + 512
}

/// Drops a tenth of a full cache, whichever come first in its keyed, hence random, order.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(cache: &mut Map<K, V>) {
    if cache.len() >= CLEAN {
        let victims: Vec<K> = cache.keys().take(CLEAN / 10).cloned().collect();
        for key in victims {
            cache.remove(&key);
        }
    }
}
