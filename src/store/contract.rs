//! What every store must do, whichever engine it is: the suite is run once for each.

use super::{Committed, Decision, Health, Range, Retry, SessionRow, Store, StoreError};
use crate::domain::fixtures::{open, publish};
use crate::domain::{
    Actor, AgentRole, Command, ConversationFilter, FieldChange, OpenState, Outcome, Person, Policy, Refusal, Role, ScopeKey, decide,
};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId};

/// What a store told of its commits: positions and texts, and which conversations changed.
pub(super) type Told = Arc<Mutex<Vec<Committed>>>;

/// A way to open a store on a folder.
pub(super) type Open = fn(&Path, Told) -> Arc<dyn Store>;

fn account() -> AccountId {
    "demo".into()
}

fn ann() -> Actor {
    Actor::Consumer { account: account(), id: "ann".into(), app: Some("connector".into()), was: None }
}

fn ada() -> Actor {
    Actor::Agent { account: account(), user: "1".into(), pid: "pid-1".into(), roles: [AgentRole::Agent].into() }
}

fn decision(actor: Actor, commands: Vec<Command>) -> Decision {
    let scope = commands.iter().flat_map(|command| command.scope(&actor)).collect();
    Decision {
        account: account(),
        scope,
        rule: Box::new(move |draft| decide(&actor, &commands, &Policy::default(), draft)),
        retry: None,
        resend: None,
    }
}

fn update(id: &str, change: FieldChange) -> Command {
    Command::Update { conversation: id.into(), changes: vec![change] }
}

async fn take(store: &Arc<dyn Store>, actor: Actor, commands: Vec<Command>) -> Result<Vec<Outcome>, StoreError> {
    store.decide(decision(actor, commands)).await.unwrap().map(|decided| decided.outcomes)
}

async fn numbers(store: &Arc<dyn Store>, id: &str, range: Range) -> Vec<u64> {
    let events = store.events(ConversationId::from(id).main_dialog(), range).await.unwrap();
    events.iter().map(|sight| sight.message().unwrap().sequence).collect()
}

const ALL: Range = Range::Forward { from: 0, to: u64::MAX, limit: usize::MAX };

fn start(open_store: Open) -> (tempfile::TempDir, Told, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let told = Told::default();
    let store = open_store(dir.path(), told.clone());
    (dir, told, store)
}

pub(super) async fn numbers_are_dense_and_announced_in_order(open_store: Open) {
    let (_dir, told, store) = start(open_store);
    take(&store, ann(), vec![open("a")]).await.unwrap();
    let answers: Vec<_> = (0..300).map(|number| store.decide(decision(ann(), vec![publish("a", &number.to_string())]))).collect();
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap().unwrap().outcomes, [Outcome::Published { sequence: number as u64, resends: 0 }]);
    }
    assert_eq!(numbers(&store, "a", ALL).await, (0..300).collect::<Vec<_>>());
    // An answer may come before its announcement; a closed store has said everything.
    let head = store.head();
    store.close().await;
    let told: Vec<u64> = told.lock().unwrap().iter().flat_map(|committed| committed.sights.iter().map(|sight| sight.position)).collect();
    assert_eq!(told, (1..=told.len() as u64).collect::<Vec<_>>(), "each entry once, in journal order");
    assert_eq!(head, told.len() as u64);
}

pub(super) async fn ranges_are_inclusive_ascending_and_the_same_from_memory_and_disk(open_store: Open) {
    let (dir, told, store) = start(open_store);
    take(&store, ann(), vec![open("a")]).await.unwrap();
    for number in 0..50 {
        take(&store, ann(), vec![publish("a", &number.to_string())]).await.unwrap();
    }
    let expected = |from: u64, to: u64| (from..=to).collect::<Vec<_>>();
    let cases = [
        (Range::Forward { from: 10, to: 12, limit: 100 }, expected(10, 12)),
        (Range::Forward { from: 48, to: u64::MAX, limit: 100 }, expected(48, 49)),
        (Range::Forward { from: 0, to: u64::MAX, limit: 3 }, expected(0, 2)),
        (Range::Forward { from: 50, to: u64::MAX, limit: 3 }, vec![]),
        (Range::Backward { to: u64::MAX, limit: 2 }, expected(48, 49)),
        (Range::Backward { to: 7, limit: 3 }, expected(5, 7)),
        (Range::Backward { to: 1, limit: 30 }, expected(0, 1)),
    ];
    for (range, expected) in &cases {
        assert_eq!(numbers(&store, "a", *range).await, *expected, "{range:?} from memory");
    }
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told);
    for (range, expected) in &cases {
        assert_eq!(numbers(&store, "a", *range).await, *expected, "{range:?} from disk");
    }
    take(&store, ann(), vec![publish("a", "50")]).await.unwrap();
    for range in [Range::Forward { from: 48, to: u64::MAX, limit: 100 }, Range::Backward { to: u64::MAX, limit: 3 }] {
        assert_eq!(numbers(&store, "a", range).await, expected(48, 50), "{range:?} over the seam");
    }
}

pub(super) async fn a_refusal_or_a_panic_fails_alone(open_store: Open) {
    let (_dir, told, store) = start(open_store);
    take(&store, ann(), vec![open("a")]).await.unwrap();
    let panics = Decision { rule: Box::new(|_| panic!("a rule that is wrong")), ..decision(ann(), vec![]) };
    let half = decision(ann(), vec![publish("a", "half"), publish("nowhere", "x")]);
    let answers = [
        store.decide(decision(ann(), vec![publish("a", "0")])),
        store.decide(panics),
        store.decide(half),
        store.decide(decision(ann(), vec![publish("a", "1")])),
    ];
    let mut results = Vec::new();
    for answer in answers {
        results.push(answer.await.unwrap().map(|decided| decided.outcomes));
    }
    assert_eq!(results[0], Ok(vec![Outcome::Published { sequence: 0, resends: 0 }]));
    assert_eq!(results[1], Err(StoreError::Internal));
    assert_eq!(results[2], Err(StoreError::Refused(1, Refusal::NoSuchConversation)), "which of them, and why");
    assert_eq!(results[3], Ok(vec![Outcome::Published { sequence: 1, resends: 0 }]), "nothing of the others is there");
    assert_eq!(numbers(&store, "a", ALL).await, [0, 1]);
    store.close().await;
    assert_eq!(told.lock().unwrap().iter().map(|committed| committed.sights.len()).sum::<usize>(), 3);
}

pub(super) async fn a_key_is_answered_once_and_again(open_store: Open) {
    let (dir, told, store) = start(open_store);
    let keyed = |commands: Vec<Command>, sender: &str, fingerprint: u8| Decision {
        retry: Some(Retry { sender: sender.into(), key: "key".into(), fingerprint: [fingerprint; 32] }),
        ..decision(ann(), commands)
    };
    let first = store.decide(keyed(vec![open("a"), publish("a", "x")], "ann", 1)).await.unwrap().unwrap();
    assert!(!first.replayed);
    // In one batch, too: the second sees the first's row before the commit.
    let racing = [store.decide(keyed(vec![open("b")], "ann", 1)), store.decide(keyed(vec![open("c")], "ann", 1))];
    for answer in racing {
        let again = answer.await.unwrap().unwrap();
        assert_eq!((again.outcomes, again.replayed), (first.outcomes.clone(), true));
    }
    assert_eq!(store.decide(keyed(vec![open("d")], "ann", 2)).await.unwrap(), Err(StoreError::KeyReused));
    assert!(!store.decide(keyed(vec![open("e")], "bob", 2)).await.unwrap().unwrap().replayed, "another sender's key is its own");
    let refused = keyed(vec![publish("nowhere", "x")], "carol", 3);
    assert!(store.decide(refused).await.unwrap().is_err());
    assert!(!store.decide(keyed(vec![open("f")], "carol", 4)).await.unwrap().unwrap().replayed, "a refusal is not remembered");
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told);
    assert_eq!(store.decide(keyed(vec![open("g")], "ann", 1)).await.unwrap().unwrap().outcomes, first.outcomes, "after a restart");
    for never in ["b", "c", "d", "g"] {
        assert!(store.conversation(never.into()).await.unwrap().is_none(), "{never}");
    }
}

pub(super) async fn a_restart_changes_nothing_that_is_read(open_store: Open) {
    let (dir, told, store) = start(open_store);
    let agent = Person::Agent { user: "1".into(), pid: "pid-1".into() };
    for (place, id) in ["a", "b", "c"].into_iter().enumerate() {
        take(&store, ann(), vec![open(id)]).await.unwrap();
        for number in 0..place {
            take(&store, ann(), vec![publish(id, &number.to_string())]).await.unwrap();
        }
    }
    let join = FieldChange::Join { person: agent, role: Role::AssignedAgent };
    take(&store, ada(), vec![update("b", join)]).await.unwrap();
    take(&store, ann(), vec![update("c", FieldChange::Close)]).await.unwrap();
    let profile = serde_json::value::to_raw_value(&serde_json::json!({"firstName": "Ann"})).unwrap();
    take(&store, ann(), vec![Command::SetProfile { profile }]).await.unwrap();
    let row = SessionRow { id: "s".into(), account: account(), agent: "1".into(), csrf: "c".into(), expires: 7, ended: false };
    store.keep_session(row.clone()).await.unwrap().unwrap();

    let filters = |change: fn(&mut ConversationFilter)| {
        let mut filter = ConversationFilter::all(account());
        change(&mut filter);
        filter
    };
    let filters = [
        (filters(|_| {}), vec!["c", "b", "a"]),
        (filters(|filter| filter.stages = vec![OpenState::Open]), vec!["b", "a"]),
        (filters(|filter| filter.states = vec![OpenState::Closed]), vec!["c"]),
        (filters(|filter| filter.agents = vec!["1".into()]), vec!["b"]),
        (filters(|filter| filter.agents = vec!["2".into()]), vec![]),
        (filters(|filter| filter.consumer = Some("ann".into())), vec!["c", "b", "a"]),
        (filters(|filter| filter.consumer = Some("bob".into())), vec![]),
        (filters(|filter| filter.conversation = Some("a".into())), vec!["a"]),
        (filters(|filter| filter.account = "other".into()), vec![]),
    ];
    let seen = |store: Arc<dyn Store>| {
        let filters = filters.clone();
        async move {
            let mut seen = Vec::new();
            for (filter, expected) in filters {
                let snapshot = store.conversations(filter.clone(), 100).await.unwrap();
                let found: Vec<String> = snapshot.conversations.iter().map(|conversation| conversation.details.id.to_string()).collect();
                assert_eq!(found, expected, "{filter:?}");
                seen.push(serde_json::to_string(&snapshot.conversations).unwrap());
            }
            for id in ["a", "b", "c"] {
                seen.push(format!("{:?}", numbers(&store, id, ALL).await));
            }
            let consumer = store.consumer(account(), ConsumerId::from("ann")).await.unwrap().unwrap();
            seen.push(serde_json::to_string(&consumer).unwrap());
            let (feed, reached) = store.feed(account(), ClientId::from("connector"), 0, 1000).await.unwrap();
            seen.push(format!("{:?} {reached}", feed.iter().map(|sight| sight.position).collect::<Vec<_>>()));
            seen.push(format!("{:?} {} {}", store.session("s".into()).await.unwrap(), store.head(), store.epoch()));
            seen
        }
    };
    let before = seen(store.clone()).await;
    assert_eq!(store.session("s".into()).await.unwrap(), Some(row));
    // What is not projected at the end is read from the journal at the start; either way it is the same.
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told.clone());
    assert_eq!(seen(store.clone()).await, before);
    // And numbers go on where they were.
    take(&store, ann(), vec![open("d")]).await.unwrap();
    assert_eq!(store.conversation("d".into()).await.unwrap().unwrap().details.number, 4);
}

pub(super) async fn a_batch_that_opens_and_publishes_counts_as_one_change(open_store: Open) {
    let (_dir, told, store) = start(open_store);
    take(&store, ann(), vec![open("a"), publish("a", "x"), update("a", FieldChange::Close)]).await.unwrap();
    store.close().await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.len(), 1);
    let (before, after) = &told[0].changes[0];
    assert!(before.is_none() && after.details.stage == OpenState::Closed && told[0].changes.len() == 1);
}

pub(super) async fn a_closed_store_answers_and_a_probe_says_that_it_writes(open_store: Open) {
    let (_dir, _, store) = start(open_store);
    assert_eq!(store.probe().await.unwrap(), Ok(()));
    assert_eq!(*store.health().borrow(), Health::Writing);
    store.close().await;
    assert!(store.decide(decision(ann(), vec![open("a")])).await.is_err(), "nobody is there to answer, which callers read as unknown");
}

pub(super) async fn scope_keys_bound_what_a_rule_sees(open_store: Open) {
    let (_dir, _, store) = start(open_store);
    take(&store, ann(), vec![open("a")]).await.unwrap();
    let blind = Decision { scope: vec![ScopeKey::Consumer(account(), "ann".into())], ..decision(ann(), vec![publish("a", "x")]) };
    assert_eq!(store.decide(blind).await.unwrap(), Err(StoreError::Refused(0, Refusal::NoSuchConversation)));
}

pub(super) async fn a_cursor_is_what_was_kept_last_also_after_a_restart(open_store: Open) {
    let (dir, told, store) = start(open_store);
    assert_eq!(store.cursor("a".into()).await.unwrap(), None);
    for value in ["1", "2"] {
        store.keep_cursor("a".into(), value.into()).await.unwrap().unwrap();
        assert_eq!(store.cursor("a".into()).await.unwrap().as_deref(), Some(value));
    }
    assert_eq!(store.cursor("b".into()).await.unwrap(), None, "each name has its own");
    store.close().await;
    drop(store);
    assert_eq!(open_store(dir.path(), told).cursor("a".into()).await.unwrap().as_deref(), Some("2"));
}
