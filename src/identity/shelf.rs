//! Where an account's [things](crate::things) are: in memory to be read, in the store to last.
//!
//! The configuration file names some of them, others are set up while running. An entry of the file is taken when it is another
//! than when it was last taken; else what is kept wins, be it that somebody has changed or deleted the thing since. What is
//! deleted is remembered, so that what names it can still say what it was.

use super::directory::Account;
use super::{Denied, Identity};
use crate::config::{self, Config, things::Entry};
use crate::domain::Millis;
use crate::store::{Document, Store, StoreError};
use crate::things::{
    Attribute, Audience, Bot, ContactEndpoint, DefaultQueue, Entity, Flow, Hub, Integration, Kind, Tag, Thing, ThingId, Website,
};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use tieline_protocol::ids::QueueId;

/// Most things of one kind that an account may have; each change makes the list anew.
const MOST: usize = 5_000;
/// What names the one default queue.
const ONLY: &str = "only";

/// A thing with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept<T> {
    /// Its id.
    pub id: ThingId,
    /// What it is, or was when it was deleted.
    pub thing: T,
    /// Grows by one with each change that is kept.
    pub revision: u64,
    /// When it was made.
    pub created: Millis,
    /// When it was last changed.
    pub updated: Millis,
    /// Whether it is no more.
    pub is_deleted: bool,
    /// What the file said when it was last taken.
    applied: Option<T>,
}

/// Where a thing comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It is as the file says.
    File,
    /// It is in the file, and was changed or deleted while running.
    Changed,
    /// It was set up while running.
    Running,
}

/// How it is written.
#[derive(Serialize, Deserialize)]
struct Body<T> {
    thing: T,
    #[serde(default = "Option::default")]
    applied: Option<T>,
    created: Millis,
    updated: Millis,
    deleted: bool,
}

impl<T: Thing> Kept<T> {
    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        match &self.applied {
            None => Source::Running,
            Some(applied) if *applied == self.thing && !self.is_deleted => Source::File,
            Some(_) => Source::Changed,
        }
    }

    fn read(document: &Document) -> Option<Self> {
        let Body { thing, applied, created, updated, deleted } = serde_json::from_str(&document.body).ok()?;
        let id = document.id.parse().ok()?;
        Some(Self { id, thing, revision: document.revision, created, updated, is_deleted: deleted, applied })
    }

    fn document(&self, account: &Account) -> Document {
        let body = Body {
            thing: &self.thing,
            applied: self.applied.as_ref(),
            created: self.created,
            updated: self.updated,
            deleted: self.is_deleted,
        };
        Document {
            account: account.id.clone(),
            collection: T::KIND.name().into(),
            id: self.id.to_string(),
            revision: self.revision + 1,
            // Texts and numbers always become JSON.
            body: serde_json::to_string(&body).unwrap_or_default(),
        }
    }
}

/// The things of one kind.
#[derive(Debug)]
pub struct Shelf<T>(ArcSwap<Snapshot<T>>);

#[derive(Debug)]
struct Snapshot<T> {
    all: HashMap<ThingId, Arc<Kept<T>>>,
    live: Arc<[Arc<Kept<T>>]>,
    names: HashMap<String, ThingId>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(Snapshot { all: HashMap::new(), live: Arc::from([]), names: HashMap::new() }))
    }
}

impl<T: Thing> Snapshot<T> {
    fn of(all: HashMap<ThingId, Arc<Kept<T>>>) -> Self {
        let mut live: Vec<_> = all.values().filter(|kept| !kept.is_deleted).cloned().collect();
        live.sort_by_key(|kept| (kept.created, kept.id));
        let names = live.iter().filter_map(|kept| Some((kept.thing.unique()?, kept.id))).collect();
        Self { all, live: live.into(), names }
    }
}

impl<T: Thing> Shelf<T> {
    /// Those that there are, the oldest first.
    #[must_use]
    pub fn live(&self) -> Arc<[Arc<Kept<T>>]> {
        self.0.load().live.clone()
    }

    /// One that there is.
    #[must_use]
    pub fn get(&self, id: ThingId) -> Option<Arc<Kept<T>>> {
        self.resolve(id).filter(|kept| !kept.is_deleted)
    }

    /// One that there is or was.
    #[must_use]
    pub fn resolve(&self, id: ThingId) -> Option<Arc<Kept<T>>> {
        self.0.load().all.get(&id).cloned()
    }

    /// Those that there were, the last deleted first.
    #[must_use]
    pub fn deleted(&self) -> Vec<Arc<Kept<T>>> {
        let mut all: Vec<_> = self.0.load().all.values().filter(|kept| kept.is_deleted).cloned().collect();
        all.sort_by_key(|kept| (std::cmp::Reverse(kept.updated), kept.id));
        all
    }

    fn like(&self, thing: &T) -> Option<Arc<Kept<T>>> {
        let snapshot = self.0.load();
        snapshot.all.get(snapshot.names.get(&thing.unique()?)?).cloned()
    }

    /// To be called while changes are held.
    fn put(&self, changed: impl IntoIterator<Item = Kept<T>>) {
        let mut all = self.0.load().all.clone();
        all.extend(changed.into_iter().map(|kept| (kept.id, Arc::new(kept))));
        self.0.store(Arc::new(Snapshot::of(all)));
    }
}

impl<T: Shelved> Shelf<T> {
    /// What changes by what the file says now, and what of it cannot be, in words.
    fn changes(&self, wanted: Vec<(ThingId, T)>, now: Millis) -> (Vec<Kept<T>>, Vec<String>) {
        let before = self.0.load();
        let gone = before.all.values().filter(|kept| kept.applied.is_some() && !wanted.iter().any(|(id, _)| *id == kept.id));
        let gone: Vec<_> = gone.map(|kept| (kept.id, None)).collect();
        let mut changes: HashMap<ThingId, Kept<T>> = HashMap::new();
        let mut refused = Vec::new();
        for (id, file) in wanted.into_iter().map(|(id, thing)| (id, Some(thing))).chain(gone) {
            let known = before.all.get(&id);
            if known.and_then(|known| known.applied.as_ref()) == file.as_ref() {
                continue;
            }
            let Some(thing) = file.clone().or_else(|| known.map(|known| known.thing.clone())) else { continue };
            if let Some(Err(why)) = known.map(|known| known.thing.may_become(&thing)) {
                refused.push(format!("{id}: {why}"));
                continue;
            }
            let kept = Kept {
                id,
                thing,
                revision: known.map_or(0, |known| known.revision),
                created: known.map_or(now, |known| known.created),
                updated: now,
                is_deleted: file.is_none(),
                applied: file,
            };
            changes.insert(id, kept);
        }
        // To leave one out brings back what it was, with a name that another may have taken.
        while let Some(id) = self.clash(&before, &changes) {
            let name = changes.remove(&id).and_then(|kept| kept.thing.unique()).unwrap_or_default();
            refused.push(format!("{name:?} is set up while running, and in the file under another id"));
        }
        (changes.into_values().collect(), refused)
    }

    /// A change by which two things have one name.
    fn clash(&self, before: &Snapshot<T>, changes: &HashMap<ThingId, Kept<T>>) -> Option<ThingId> {
        let stays = before.live.iter().filter(|kept| !changes.contains_key(&kept.id));
        let taken: HashMap<String, ThingId> = stays.filter_map(|kept| Some((kept.thing.unique()?, kept.id))).collect();
        let mut clashes =
            changes.values().filter(|kept| !kept.is_deleted && kept.thing.unique().is_some_and(|name| taken.contains_key(&name)));
        clashes.next().map(|kept| kept.id)
    }
}

impl Shelf<Tag> {
    /// A tag by its name, in whatever case.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<Arc<Kept<Tag>>> {
        self.like(&Tag { name: name.to_owned(), color: None, active: true })
    }
}

impl Shelf<Attribute> {
    /// An attribute by what programs call it.
    #[must_use]
    pub fn by_identifier(&self, entity: Entity, identifier: &str) -> Option<Arc<Kept<Attribute>>> {
        self.live().iter().find(|kept| kept.thing.entity == entity && kept.thing.identifier == identifier).cloned()
    }
}

/// A kind of thing with its place.
pub trait Shelved: Thing {
    /// Where they are.
    fn shelf(things: &Things) -> &Shelf<Self>;

    /// What the file says.
    fn of_file(file: &config::Account, account: &Account) -> Vec<(ThingId, Self)>;

    /// Whether it goes with what else there is.
    ///
    /// # Errors
    /// What does not.
    fn fits(&self, _account: &Account) -> Result<(), String> {
        Ok(())
    }

    /// Whether it may become another.
    ///
    /// # Errors
    /// What of it must stay.
    fn may_become(&self, _next: &Self) -> Result<(), String> {
        Ok(())
    }

    /// What of the account needs it, so that it cannot be deleted.
    fn needed_by(_id: ThingId, _things: &Things) -> Option<String> {
        None
    }
}

/// What an account has set up beside people and queues.
#[derive(Debug, Default)]
pub struct Things {
    /// What conversations are marked with.
    pub tags: Shelf<Tag>,
    /// What conversations and consumers may have.
    pub attributes: Shelf<Attribute>,
    /// At what the account can be reached.
    pub contact_endpoints: Shelf<ContactEndpoint>,
    /// How conversations come in.
    pub flows: Shelf<Flow>,
    /// Where consumers write.
    pub websites: Shelf<Website>,
    /// Groups of visitors.
    pub audiences: Shelf<Audience>,
    /// Programs that answer.
    pub bots: Shelf<Bot>,
    /// Where integrations meet.
    pub hubs: Shelf<Hub>,
    /// The ways to these.
    pub integrations: Shelf<Integration>,
    /// At most one.
    pub(super) default_queue: Shelf<DefaultQueue>,
    /// Held while one change is written.
    changing: tokio::sync::Mutex<()>,
}

fn of_entries<E: Entry>(entries: &[E], file: &config::Account, account: &Account) -> Vec<(ThingId, E::Thing)> {
    let made = |kind: Kind, id: &str, uuid: Option<uuid::Uuid>| uuid.map_or_else(|| account.thing_id(kind, id), ThingId::from);
    let named = |kind: Kind, id: &str| made(kind, id, file.uuid_of(kind, id));
    // What is wrong with them was said when the file was read.
    entries.iter().filter_map(|entry| Some((made(E::Thing::KIND, entry.id(), entry.uuid()), entry.thing(&named).ok()?))).collect()
}

/// Says of kinds where they are, here and in the file, and what more holds for some.
macro_rules! shelved {
    ($($kind:ident: $field:ident { $($more:tt)* })+) => {
        $(impl Shelved for $kind {
            fn shelf(things: &Things) -> &Shelf<Self> {
                &things.$field
            }

            fn of_file(file: &config::Account, account: &Account) -> Vec<(ThingId, Self)> {
                of_entries(&file.$field, file, account)
            }

            $($more)*
        })+
    };
}

shelved! {
    Tag: tags {}
    Attribute: attributes {}
    ContactEndpoint: contact_endpoints {
        fn needed_by(id: ThingId, things: &Things) -> Option<String> {
            let flow = things.flows.live().iter().find(|flow| flow.thing.contact_endpoint == id).cloned()?;
            Some(format!("the flow {:?} leads through it; change or delete that first", flow.thing.name))
        }
    }
    Flow: flows {
        fn fits(&self, account: &Account) -> Result<(), String> {
            let known = account.things.contact_endpoints.get(self.contact_endpoint);
            known.map(drop).ok_or_else(|| format!("contactEndpoint: there is no contact endpoint {}", self.contact_endpoint))
        }
    }
    Website: websites {}
    Audience: audiences {}
    Bot: bots {}
    Hub: hubs {
        fn needed_by(id: ThingId, things: &Things) -> Option<String> {
            let integration = things.integrations.live().iter().find(|integration| integration.thing.hub == id).cloned()?;
            Some(format!("the integration {:?} leads to it; change or delete that first", integration.thing.name))
        }
    }
    Integration: integrations {
        fn fits(&self, account: &Account) -> Result<(), String> {
            if account.things.hubs.get(self.hub).is_none() {
                return Err(format!("hub: there is no hub {}", self.hub));
            }
            if let Some(agent) = self.agent.as_ref().filter(|agent| account.agent(agent.as_str()).is_none_or(|known| known.user != **agent)) {
                return Err(format!("agent: {:?} is the user_id of no agent of the account", agent.as_str()));
            }
            match self.queue.as_ref().filter(|queue| !account.has_queue(queue)) {
                Some(queue) => Err(format!("queue: {:?} is no queue of the account", queue.as_str())),
                None => Ok(()),
            }
        }

        fn may_become(&self, next: &Self) -> Result<(), String> {
            // Conversations and customers are known by it.
            if self.hub == next.hub { Ok(()) } else { Err("hub: an integration stays at its hub; make another one there".into()) }
        }
    }
}

impl Shelved for DefaultQueue {
    fn shelf(things: &Things) -> &Shelf<Self> {
        &things.default_queue
    }

    fn of_file(file: &config::Account, account: &Account) -> Vec<(ThingId, Self)> {
        let queue = file.default_queue.as_deref().map(QueueId::from);
        queue.map(|queue| (account.thing_id(Kind::DefaultQueue, ONLY), Self { queue })).into_iter().collect()
    }

    fn fits(&self, account: &Account) -> Result<(), String> {
        if account.has_queue(&self.queue) { Ok(()) } else { Err(format!("queue: {:?} is no queue of the account", self.queue)) }
    }
}

impl Account {
    /// The id of an entry of the file: always the same.
    pub(super) fn thing_id(&self, kind: Kind, entry: &str) -> ThingId {
        self.uuid_of(kind.name(), entry).into()
    }

    /// How the default queue is set, if it is, or was and is not any more.
    #[must_use]
    pub fn default_queue_setting(&self) -> Option<Arc<Kept<DefaultQueue>>> {
        self.things.default_queue.resolve(self.thing_id(Kind::DefaultQueue, ONLY))
    }
}

/// Why a thing is not as it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThingError {
    /// There is none.
    #[error("there is no such thing")]
    NotFound,
    /// It cannot be like this.
    #[error("{0}")]
    Invalid(String),
    /// Another has its name.
    #[error("another has the same name: {0}")]
    Taken(ThingId),
    /// Something needs it.
    #[error("{0}")]
    Needed(String),
    /// There are too many.
    #[error("an account has at most {MOST} of these; delete some")]
    TooMany,
    /// It was changed since.
    #[error("it was changed meanwhile: its revision is {0}; look at it and try again")]
    OtherRevision(u64),
    /// It could not be kept.
    #[error(transparent)]
    Store(StoreError),
}

/// Makes of a thing what it is to be, or says why not.
type Edit<T> = Box<dyn FnOnce(&T) -> Result<T, String> + Send>;

/// What is to become of things.
enum Change<T> {
    Create(T),
    /// Made if it is not there, and brought back if it was deleted.
    Put(ThingId, T),
    Edit(ThingId, Edit<T>),
    Delete(ThingId),
}

impl Identity {
    /// Makes a thing.
    ///
    /// # Errors
    /// [`ThingError`].
    pub async fn create_thing<T: Shelved>(&self, account: &Arc<Account>, thing: T) -> Result<Arc<Kept<T>>, ThingError> {
        self.change(account, None, Change::Create(thing)).await
    }

    /// Changes a thing; one whose revision is another than the given is left as it is.
    ///
    /// # Errors
    /// [`ThingError`]; what `edit` says is [`ThingError::Invalid`].
    pub async fn edit_thing<T: Shelved>(
        &self,
        account: &Arc<Account>,
        id: ThingId,
        revision: Option<u64>,
        edit: impl FnOnce(&T) -> Result<T, String> + Send + 'static,
    ) -> Result<Arc<Kept<T>>, ThingError> {
        self.change(account, revision, Change::Edit(id, Box::new(edit))).await
    }

    /// Deletes a thing: it is remembered and found by [`Shelf::resolve`] alone.
    ///
    /// # Errors
    /// [`ThingError`].
    pub async fn delete_thing<T: Shelved>(
        &self,
        account: &Arc<Account>,
        id: ThingId,
        revision: Option<u64>,
    ) -> Result<Arc<Kept<T>>, ThingError> {
        self.change(account, revision, Change::Delete(id)).await
    }

    /// Sets the queue of conversations whose opener names none, or lets that be the queue of those without one.
    ///
    /// # Errors
    /// [`ThingError`].
    pub async fn set_default_queue(
        &self,
        account: &Arc<Account>,
        queue: Option<QueueId>,
        revision: Option<u64>,
    ) -> Result<Arc<Kept<DefaultQueue>>, ThingError> {
        let id = account.thing_id(Kind::DefaultQueue, ONLY);
        let change = queue.map_or(Change::Delete(id), |queue| Change::Put(id, DefaultQueue { queue }));
        self.change(account, revision, change).await
    }

    /// Makes a change to its end, also when nobody waits for it any more: what is on disk must hold.
    async fn change<T: Shelved>(
        &self,
        account: &Arc<Account>,
        revision: Option<u64>,
        change: Change<T>,
    ) -> Result<Arc<Kept<T>>, ThingError> {
        let (store, account, now) = (self.store.clone(), account.clone(), self.now());
        let changed = tokio::spawn(async move {
            let _turn = account.things.changing.lock().await;
            let kept = changed(&account, revision, change, now)?;
            keep(&*store, &account, kept).await.map_err(ThingError::Store)
        });
        changed.await.unwrap_or(Err(ThingError::Store(StoreError::Unknown)))
    }

    /// Reads what is kept, and takes what the file says where that is another than it was. Returns what of the file cannot be,
    /// in words.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if it cannot be read; then nothing of that kind is changed.
    pub async fn take_things(&self, config: &Config) -> Result<Vec<String>, Denied> {
        let mut refused = Vec::new();
        // Flows behind what they lead through.
        self.take_kind::<Tag>(config, &mut refused).await?;
        self.take_kind::<Attribute>(config, &mut refused).await?;
        self.take_kind::<ContactEndpoint>(config, &mut refused).await?;
        self.take_kind::<Flow>(config, &mut refused).await?;
        self.take_kind::<Website>(config, &mut refused).await?;
        self.take_kind::<Audience>(config, &mut refused).await?;
        self.take_kind::<Bot>(config, &mut refused).await?;
        self.take_kind::<Hub>(config, &mut refused).await?;
        self.take_kind::<Integration>(config, &mut refused).await?;
        self.take_kind::<DefaultQueue>(config, &mut refused).await?;
        Ok(refused)
    }

    async fn take_kind<T: Shelved>(&self, config: &Config, refused: &mut Vec<String>) -> Result<(), Denied> {
        let documents = self.store.documents(T::KIND.name()).await.map_err(|_| Denied::Unavailable)?;
        for file in &config.accounts {
            let Some(account) = self.directory().account(&file.id) else { continue };
            let _turn = account.things.changing.lock().await;
            let shelf = T::shelf(&account.things);
            let mut newer = Vec::new();
            for document in documents.iter().filter(|document| document.account == account.id) {
                let kept = Kept::<T>::read(document).ok_or_else(|| {
                    tracing::error!(account = %account.id, kind = T::KIND.name(), id = document.id, "what is set up cannot be read");
                    Denied::Unavailable
                })?;
                // What was changed since they were read is known better here.
                if shelf.resolve(kept.id).is_none_or(|known| known.revision < kept.revision) {
                    newer.push(kept);
                }
            }
            shelf.put(newer);
            let (changes, left_out) = shelf.changes(T::of_file(file, &account), self.now());
            refused.extend(left_out.iter().map(|why| format!("accounts.{}: {} {why}", account.id, T::KIND.name())));
            self.keep_all(&account, shelf, changes).await;
        }
        Ok(())
    }

    /// Lets what the file says hold. If it cannot be kept it holds all the same: it is taken again by the next start.
    async fn keep_all<T: Shelved>(&self, account: &Account, shelf: &Shelf<T>, mut changes: Vec<Kept<T>>) {
        if changes.is_empty() {
            return;
        }
        let answers: Vec<_> = changes.iter().map(|kept| self.store.keep_document(kept.document(account))).collect();
        let mut failed = 0;
        for (kept, answer) in changes.iter_mut().zip(answers) {
            match answer.await {
                Ok(Ok(())) => kept.revision += 1,
                Ok(Err(_)) | Err(_) => failed += 1,
            }
        }
        if failed > 0 {
            tracing::warn!(account = %account.id, kind = T::KIND.name(), failed, "what the configuration sets up holds, and could not be kept");
        }
        shelf.put(changes);
    }
}

/// A thing as it is to be, if it can be.
fn changed<T: Shelved>(account: &Account, revision: Option<u64>, change: Change<T>, now: Millis) -> Result<Kept<T>, ThingError> {
    let shelf = T::shelf(&account.things);
    let fresh = |id, thing| Kept { id, thing, revision: 0, created: now, updated: now, is_deleted: false, applied: None };
    let with = |known: &Kept<T>, thing| Kept { thing, updated: now, is_deleted: false, ..known.clone() };
    let known = match &change {
        Change::Create(_) => None,
        Change::Put(id, _) => shelf.resolve(*id),
        Change::Edit(id, _) | Change::Delete(id) => Some(shelf.get(*id).ok_or(ThingError::NotFound)?),
    };
    let there = known.as_ref().map_or(0, |known| known.revision);
    if revision.is_some_and(|revision| revision != there) {
        return Err(ThingError::OtherRevision(there));
    }
    let kept = match (change, known) {
        (Change::Delete(id), Some(known)) => {
            T::needed_by(id, &account.things).map_or(Ok(()), |why| Err(ThingError::Needed(why)))?;
            return Ok(Kept { is_deleted: true, updated: now, ..(*known).clone() });
        }
        (Change::Edit(_, edit), Some(known)) => with(&known, edit(&known.thing).map_err(ThingError::Invalid)?),
        (Change::Put(_, thing), Some(known)) => with(&known, thing),
        (Change::Put(id, thing), None) => fresh(id, thing),
        (Change::Create(thing), _) => fresh(ThingId::random(), thing),
        (Change::Edit(..) | Change::Delete(_), None) => return Err(ThingError::NotFound),
    };
    kept.thing.check().and_then(|()| kept.thing.fits(account)).map_err(ThingError::Invalid)?;
    shelf.resolve(kept.id).map_or(Ok(()), |before| before.thing.may_become(&kept.thing)).map_err(ThingError::Invalid)?;
    if let Some(other) = shelf.like(&kept.thing).filter(|other| other.id != kept.id) {
        return Err(ThingError::Taken(other.id));
    }
    if shelf.get(kept.id).is_none() && shelf.live().len() >= MOST {
        return Err(ThingError::TooMany);
    }
    Ok(kept)
}

/// Keeps a thing, and lets it hold.
async fn keep<T: Shelved>(store: &dyn Store, account: &Account, mut kept: Kept<T>) -> Result<Arc<Kept<T>>, StoreError> {
    let shelf = T::shelf(&account.things);
    let error = match store.keep_document(kept.document(account)).await {
        Ok(Ok(())) => {
            kept.revision += 1;
            let id = kept.id;
            shelf.put([kept]);
            return shelf.resolve(id).ok_or(StoreError::Unknown);
        }
        Ok(Err(error)) => error,
        Err(_) => StoreError::Unknown,
    };
    // It may be there all the same.
    let there = store.documents(T::KIND.name()).await.unwrap_or_default();
    let is_it = |document: &&Document| document.account == account.id && document.id == kept.id.to_string();
    shelf.put(there.iter().find(is_it).and_then(Kept::read));
    Err(error)
}
