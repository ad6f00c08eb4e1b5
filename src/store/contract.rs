//! What every store must do, whichever engine it is: the suite is run once for each.

use super::{
    Attempt, Balance, Committed, ConsumersBy, DeadLetter, Decision, EndpointRow, EndpointState, Erasure, Health, Owed, Owing, Range, Retry,
    SessionRow, Settlement, Store, StoreError,
};
use crate::domain::fixtures::{open, publish};
use crate::domain::{
    Actor, AgentRole, Command, Conversation, ConversationFilter, FieldChange, OpenState, Outcome, Person, Policy, Refusal, Role, ScopeKey,
    decide,
};
use std::collections::BTreeSet;
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
        received: 0,
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
        retry: Some(Retry { name: [sender.as_bytes()[0]; 32], fingerprint: [fingerprint; 32] }),
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
    take(&store, ann(), vec![Command::SetProfile { consumer: None, profile }]).await.unwrap();
    let (id, agent, csrf) = ("s".into(), "1".into(), "c".into());
    let row = SessionRow { id, account: account(), agent, csrf, made_with: [3; 32], expires: 7, ended: false };
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
        (filters(|filter| filter.app = Some("connector".into())), vec!["c", "b", "a"]),
        (filters(|filter| (filter.app, filter.stages) = (Some("connector".into()), vec![OpenState::Open])), vec!["b", "a"]),
        (filters(|filter| filter.app = Some("other".into())), vec![]),
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

fn debt(endpoint: i64, turn: u64, position: u64, conversation: &str) -> Owed {
    Owed { endpoint, turn, position, conversation: conversation.into(), since: 100, due: 0, attempts: 0 }
}

fn cursor(value: &str) -> Option<(String, String)> {
    Some(("webhooks".to_owned(), value.to_owned()))
}

async fn owe(store: &Arc<dyn Store>, owing: Owing) {
    store.owe(Arc::new(owing)).await.unwrap().unwrap();
}

async fn settle(store: &Arc<dyn Store>, settlement: Settlement) {
    store.settle(Arc::new(settlement)).await.unwrap().unwrap();
}

async fn turns(store: &Arc<dyn Store>, endpoint: i64) -> Vec<u64> {
    store.owed(endpoint, 0, 100).await.unwrap().iter().map(|owed| owed.turn).collect()
}

fn endpoint(id: i64) -> EndpointRow {
    EndpointRow {
        id,
        account: account(),
        app: "connector".into(),
        target: format!("https://shop.example/{id}"),
        events: vec!["a".into(), "b".into()],
        since: 7,
        is_behind: false,
        state: EndpointState::On,
        changed: 5,
    }
}

pub(super) async fn debts_stand_with_their_cursor_until_they_are_settled(open_store: Open) {
    let (dir, told, store) = start(open_store);
    assert_eq!(store.cursor("webhooks".into()).await.unwrap(), None);
    for id in [1, 2] {
        store.keep_endpoint(endpoint(id)).await.unwrap().unwrap();
    }
    let paused = EndpointRow { state: EndpointState::Paused, changed: 9, ..endpoint(2) };
    store.keep_endpoint(paused.clone()).await.unwrap().unwrap();
    assert_eq!(store.endpoints().await.unwrap(), [endpoint(1), paused]);

    let owed = vec![debt(1, 1, 10, "a"), debt(2, 2, 10, "a"), debt(1, 3, 11, "b"), debt(1, 4, 12, "a")];
    let moved = EndpointRow { since: 12, is_behind: true, ..endpoint(1) };
    owe(&store, Owing { owed, endpoints: vec![moved.clone()], cursor: cursor("12"), ..Owing::default() }).await;
    assert_eq!(store.endpoints().await.unwrap()[0], moved);
    assert_eq!(store.cursor("webhooks".into()).await.unwrap().as_deref(), Some("12"));
    assert_eq!((turns(&store, 1).await, turns(&store, 2).await), (vec![1, 3, 4], vec![2]));
    assert_eq!(store.owed(1, 1, 1).await.unwrap(), [debt(1, 3, 11, "b")]);
    assert_eq!(store.owed_of(1, "a".into(), 1, 9).await.unwrap(), [debt(1, 4, 12, "a")]);

    let waiting = Owed { due: 900, attempts: 2, ..debt(1, 3, 11, "b") };
    let tried = |turn, at| Attempt {
        position: 10,
        endpoint: 1,
        turn,
        at,
        took: 3,
        result: "status".into(),
        status: Some(500),
        answer: Some("no".into()),
    };
    let buried = DeadLetter { owed: debt(1, 4, 12, "a"), at: 50, reason: "exhausted".into(), last: Some("it answered 500".into()) };
    let settlement = Settlement {
        done: vec![(1, 1), (2, 2)],
        waiting: vec![waiting.clone()],
        dead: vec![buried.clone()],
        attempts: vec![tried(1, 20), tried(1, 30)],
    };
    settle(&store, settlement).await;
    store.close().await;
    drop(store);

    let store = open_store(dir.path(), told);
    assert_eq!(store.owed(1, 0, 9).await.unwrap(), [waiting]);
    assert_eq!(turns(&store, 2).await, [0; 0]);
    assert_eq!(store.dead_letters(1, 0, 9).await.unwrap(), std::slice::from_ref(&buried));
    assert_eq!(store.attempts(10).await.unwrap(), [tried(1, 20), tried(1, 30)]);
    let balances = [(1, Balance { owed: 1, oldest: Some(100), dead: 1 }), (2, Balance::default())];
    assert_eq!(store.balances().await.unwrap(), balances);

    owe(&store, Owing { owed: vec![debt(1, 5, 12, "a")], revived: vec![(1, 4)], ..Owing::default() }).await;
    assert_eq!((turns(&store, 1).await, store.dead_letters(1, 0, 9).await.unwrap()), (vec![3, 5], vec![]));
    assert_eq!(store.cursor("webhooks".into()).await.unwrap().as_deref(), Some("12"), "a revival moves no cursor");

    store.forget_endpoint(1).await.unwrap().unwrap();
    settle(&store, Settlement { dead: vec![buried], ..Settlement::default() }).await;
    assert_eq!((turns(&store, 1).await, store.dead_letters(1, 0, 9).await.unwrap()), (vec![], vec![]), "what was forgotten stays so");
    assert_eq!(store.endpoints().await.unwrap().len(), 1);
}

pub(super) async fn old_dead_letters_and_attempts_are_tidied(open_store: Open) {
    let (_dir, _, store) = start(open_store);
    let attempt = |position, at| Attempt {
        position,
        endpoint: 1,
        turn: position,
        at,
        took: 1,
        result: "delivered".into(),
        status: Some(200),
        answer: None,
    };
    let dead = |turn, at| DeadLetter { owed: debt(1, turn, turn, "a"), at, reason: "gone".into(), last: None };
    owe(&store, Owing { owed: (1..4).map(|turn| debt(1, turn, turn, "a")).collect(), ..Owing::default() }).await;
    let settlement = Settlement {
        dead: vec![dead(1, 10), dead(2, 20), dead(3, 30)],
        attempts: vec![attempt(1, 10), attempt(2, 20), attempt(3, 30)],
        ..Settlement::default()
    };
    settle(&store, settlement).await;
    assert_eq!(store.tidy_debts(20, 30).await, Ok(false));
    let left: Vec<_> = store.dead_letters(1, 0, 9).await.unwrap().iter().map(|dead| dead.owed.turn).collect();
    assert_eq!(left, [2, 3]);
    for (position, count) in [(1, 0), (2, 0), (3, 1)] {
        assert_eq!(store.attempts(position).await.unwrap().len(), count, "{position}");
    }
    // Many, with those in front of them that were tried again just now: each call removes some, until all are gone.
    let (many, old) = (5_000, 40);
    let again = (0..many).map(|turn| Attempt { turn, ..attempt(1, 50) }).collect();
    settle(&store, Settlement { attempts: again, ..Settlement::default() }).await;
    settle(&store, Settlement { attempts: (0..many).map(|turn| Attempt { turn, ..attempt(4, old) }).collect(), ..Settlement::default() })
        .await;
    let mut calls = 1;
    while store.tidy_debts(20, old + 1).await.unwrap() {
        calls += 1;
    }
    assert!(calls > 1, "a decision never waits behind all of it");
    let left = async |position| store.attempts(position).await.unwrap().len() as u64;
    assert_eq!((left(1).await, left(3).await, left(4).await), (many, 0, 0));
}

pub(super) async fn the_journal_is_read_by_position_and_time_also_from_disk(open_store: Open) {
    let (dir, told, store) = start(open_store);
    take(&store, ann(), vec![open("a")]).await.unwrap();
    for _ in 0..5 {
        take(&store, ann(), vec![publish("a", "x")]).await.unwrap();
    }
    let head = store.head();
    let positions = |(sights, reached): crate::store::Feed| (sights.iter().map(|sight| sight.position).collect::<Vec<_>>(), reached);
    let check = async |store: &Arc<dyn Store>| {
        assert_eq!(positions(store.journal(0, 100).await.unwrap()), ((1..=head).collect(), head));
        assert_eq!(positions(store.journal(2, 2).await.unwrap()), (vec![3, 4], 4));
        assert_eq!(positions(store.journal(head, 2).await.unwrap()), (vec![], head));
        assert_eq!(store.entry(3).await.unwrap().unwrap().position, 3);
        assert!(store.entry(head + 1).await.unwrap().is_none() && store.entry(0).await.unwrap().is_none());
        assert_eq!((store.position_at(0).await.unwrap(), store.position_at(i64::MAX).await.unwrap()), (1, head + 1));
        for position in 1..=head {
            let at = store.entry(position).await.unwrap().unwrap().at;
            let around = (store.position_at(at).await.unwrap(), store.position_at(at + 1).await.unwrap());
            assert_eq!(around, (position, position + 1), "the clock of the test never stands still");
        }
    };
    check(&store).await;
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told);
    check(&store).await;
}

pub(super) async fn a_booking_is_known_by_the_last_conversation_in_which_it_stands(open_store: Open) {
    let (dir, told, store) = start(open_store);
    let system = || Actor::System { account: account(), bot: Person::Agent { user: "0".into(), pid: "bot".into() } };
    let book = |id: &str, booking: &str, stands| update(id, FieldChange::Book { booking: booking.into(), stands });
    for id in ["a", "b"] {
        take(&store, ann(), vec![open(id), publish(id, "x")]).await.unwrap();
        take(&store, system(), vec![book(id, "B-1", true), book(id, id, true)]).await.unwrap();
    }
    take(&store, system(), vec![book("b", "b", false)]).await.unwrap();
    let booked = async |store: &Arc<dyn Store>, account: &str, booking: &str| {
        let found = store.booked(account.into(), booking.into()).await.unwrap();
        found.map(|found| found.details.id.to_string()).unwrap_or_default()
    };
    let check = async |store: &Arc<dyn Store>, of_both: &str| {
        let mut found = Vec::new();
        for (account, booking) in [("demo", "B-1"), ("demo", "a"), ("demo", "b"), ("demo", "B-2"), ("other", "B-1")] {
            found.push(booked(store, account, booking).await);
        }
        assert_eq!(found, [of_both, "a", "", "", ""]);
    };
    check(&store, "b").await;
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told.clone());
    check(&store, "b").await;
    // What is newer in memory counts, also where it takes away what is on disk.
    take(&store, system(), vec![book("b", "B-1", false)]).await.unwrap();
    check(&store, "a").await;
    store.close().await;
    drop(store);
    check(&open_store(dir.path(), told), "a").await;
}

pub(super) async fn consumers_are_listed_in_both_directions(open_store: Open) {
    let (dir, told, store) = start(open_store);
    let see = async |store: &Arc<dyn Store>, id: &str| {
        let seen = Command::SeeConsumer { is_new: false, consumer: id.into(), app: None, ext_id: None };
        take(store, ann(), vec![seen]).await.unwrap();
    };
    for id in ["d", "b", "e"] {
        see(&store, id).await;
    }
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told);
    // Some on disk, some in memory.
    for id in ["c", "a"] {
        see(&store, id).await;
    }
    let before = async |id: &str, limit| {
        let found = store.consumers_before(account(), id.into(), limit).await.unwrap();
        found.iter().map(|consumer| consumer.id.to_string()).collect::<String>()
    };
    assert_eq!([before("e", 2).await, before("e", 9).await, before("c", 9).await, before("a", 9).await], ["cd", "abcd", "ab", ""]);
    let after = store.consumers(account(), crate::store::ConsumersBy::Account, Some("b".into()), 2).await.unwrap();
    assert_eq!(after.iter().map(|consumer| consumer.id.as_str()).collect::<Vec<_>>(), ["c", "d"]);
    assert!(after.iter().all(|consumer| consumer.seen > 0 && consumer.updated == consumer.seen));
}

pub(super) async fn what_must_stay_does_not_hide_what_is_kept_no_longer(open_store: Open) {
    let (dir, told, store) = start(open_store);
    for id in ["owed", "owed too", "kept no longer", "newest"] {
        take(&store, ann(), vec![open(id)]).await.unwrap();
        take(&store, ann(), vec![update(id, FieldChange::Close)]).await.unwrap();
    }
    owe(&store, Owing { owed: vec![debt(1, 1, 1, "owed"), debt(1, 2, 3, "owed too")], ..Owing::default() }).await;
    // What was just done may be in memory alone; after a start all of it is on disk.
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told);
    let expired = async || store.expired(i64::MAX, 2).await.unwrap();
    assert_eq!(expired().await, ["kept no longer".into()]);
    let removed = async |id: &str| store.remove(id.into(), i64::MAX).await.unwrap().unwrap();
    assert!(!removed("owed").await && !removed("newest").await && removed("kept no longer").await);
    assert_eq!(expired().await, []);
    settle(&store, Settlement { done: vec![(1, 1)], ..Settlement::default() }).await;
    assert_eq!(expired().await, ["owed".into()]);
}

/// Writes a content down in Ann's name.
fn record(id: &str, text: &str, name: Option<&str>) -> Command {
    Command::Record {
        conversation: id.into(),
        from: Person::Consumer("ann".into()),
        event: serde_json::value::to_raw_value(&serde_json::json!({"type": "ContentEvent", "message": text})).unwrap(),
        metadata: None,
        file: None,
        written: Some(7),
        external: name.map(str::to_owned),
    }
}

fn grace() -> Actor {
    Actor::Agent { account: account(), user: "2".into(), pid: "pid-2".into(), roles: [AgentRole::Manager].into() }
}

pub(super) async fn programs_find_what_they_look_for_from_memory_and_disk(open_store: Open) {
    let (dir, told, store) = start(open_store);
    let see = |id: &str, ext: &str| Command::SeeConsumer {
        is_new: false,
        consumer: id.into(),
        app: Some("connector".into()),
        ext_id: Some(ext.into()),
    };
    take(&store, ann(), vec![see("ann", "+44"), see("bob", "+45")]).await.unwrap();
    let profile = serde_json::json!({"privateData": {"mail": "Ann@Shop.example", "mobileNum": "+49"}});
    let profile = serde_json::value::to_raw_value(&profile).unwrap();
    take(&store, grace(), vec![Command::SetProfile { consumer: Some("ann".into()), profile }]).await.unwrap();
    for id in ["a", "b", "c"] {
        take(&store, ann(), vec![open(id)]).await.unwrap();
    }
    take(&store, grace(), vec![record("b", "first", Some("m-1"))]).await.unwrap();
    take(&store, grace(), vec![update("b", FieldChange::Tag("t".into()))]).await.unwrap();
    let check = async |store: &Arc<dyn Store>| {
        let numbered = async |number| store.numbered(account(), number).await.unwrap().map(|found| found.details.id.to_string());
        assert_eq!((numbered(2).await.as_deref(), numbered(4).await, numbered(-1).await), (Some("b"), None, None));
        assert!(store.numbered("other".into(), 2).await.unwrap().is_none(), "another account's numbers are its own");
        let listed = async |between, is_up, limit| {
            let found = store.by_number(account(), between, is_up, limit).await.unwrap();
            found.iter().map(|found| found.details.number).collect::<Vec<_>>()
        };
        assert_eq!(listed((0, i64::MAX), true, 2).await, [1, 2]);
        assert_eq!(listed((0, i64::MAX), false, 2).await, [3, 2]);
        assert_eq!((listed((1, 3), true, 9).await, listed((3, i64::MAX), true, 9).await), (vec![2], vec![]));
        let of = async |consumer: &str, between, is_up, limit| {
            let found = store.of_consumer(account(), consumer.into(), between, is_up, limit).await.unwrap();
            found.iter().map(|found| found.details.number).collect::<Vec<_>>()
        };
        assert_eq!((of("ann", (0, i64::MAX), true, 2).await, of("ann", (0, i64::MAX), false, 2).await), (vec![1, 2], vec![3, 2]));
        assert_eq!((of("ann", (1, 3), true, 9).await, of("ann", (3, i64::MAX), true, 9).await), (vec![2], vec![]));
        assert!(of("bob", (0, i64::MAX), true, 9).await.is_empty(), "another's");
        assert!(store.of_consumer("other".into(), "ann".into(), (0, 9), true, 9).await.unwrap().is_empty(), "another account's");
        let found = async |by: ConsumersBy| {
            let found = store.consumers(account(), by, None, 10).await.unwrap();
            found.iter().map(|found| found.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(ConsumersBy::Account).await, ["ann", "bob"]);
        assert_eq!(found(ConsumersBy::Mail("ann@shop.EXAMPLE".into())).await, ["ann"]);
        assert_eq!(found(ConsumersBy::Phone("+49".into())).await, ["ann"]);
        assert_eq!(
            (found(ConsumersBy::ExtId("+45".into())).await, found(ConsumersBy::Id("bo".into())).await),
            (vec!["bob".into()], vec!["bob".into()])
        );
        assert!(found(ConsumersBy::Phone("+44".into())).await.is_empty(), "what an application calls it is no number");
        let behind = store.consumers(account(), ConsumersBy::Account, Some("ann".into()), 10).await.unwrap();
        assert_eq!(behind.len(), 1);
        let changes = store.changes("b".into()).await.unwrap();
        assert_eq!(changes.len(), 2, "opened and tagged; what was said is none");
        let (all, reached) = store.account_feed(account(), 0, 100).await.unwrap();
        assert_eq!((all.len() as u64, reached), (store.head(), store.head()));
        let (others, reached) = store.account_feed("other".into(), 0, 100).await.unwrap();
        assert_eq!((others.len(), reached), (0, store.head()));
        let (some, reached) = store.account_feed(account(), 2, 2).await.unwrap();
        assert_eq!((some.iter().map(|sight| sight.position).collect::<Vec<_>>(), reached), (vec![3, 4], 4));
    };
    check(&store).await;
    let again = take(&store, grace(), vec![record("b", "again", Some("m-1"))]).await;
    assert!(matches!(again, Err(StoreError::Refused(0, Refusal::Duplicate(_)))), "{again:?}");
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told);
    check(&store).await;
    let again = take(&store, grace(), vec![record("b", "again", Some("m-1"))]).await;
    assert!(matches!(again, Err(StoreError::Refused(0, Refusal::Duplicate(_)))), "{again:?}");
    let elsewhere = [record("c", "x", Some("m-1")), record("c", "y", None), record("c", "z", None)];
    take(&store, grace(), elsewhere.into()).await.unwrap();
}

pub(super) async fn conversations_are_found_by_who_was_written_to_last(open_store: Open) {
    let (dir, told, store) = start(open_store);
    let ids: Vec<String> = (0..9).map(|number| format!("c{number}")).collect();
    let mut order: Vec<String> = Vec::new();
    for id in &ids {
        take(&store, ann(), vec![open(id)]).await.unwrap();
        order.insert(0, id.clone());
    }
    let say = async |store: &Arc<dyn Store>, order: &mut Vec<String>, id: &String| {
        take(store, ann(), vec![publish(id, "hello")]).await.unwrap();
        order.retain(|known| known != id);
        order.insert(0, id.clone());
    };
    let check = async |store: &Arc<dyn Store>, order: &[String]| {
        let listed = async |before, offset, limit| {
            let found = store.by_word(account(), before, offset, limit).await.unwrap();
            found.into_iter().map(|found| (found.details.id.to_string(), found.spoken)).unzip::<_, _, Vec<_>, Vec<_>>()
        };
        let (all, times) = listed(None, 0, 100).await;
        assert_eq!(all, order);
        for offset in 0..=order.len() + 1 {
            for limit in [0, 1, 2, 5, 100] {
                let wanted: Vec<_> = order.iter().skip(offset).take(limit).cloned().collect();
                assert_eq!(listed(None, offset, limit).await.0, wanted, "{offset} {limit}");
            }
        }
        for (place, time) in times.iter().enumerate() {
            let (before, at) = (listed(Some(*time), 1, 3).await.0, listed(Some(time + 1), 0, 2).await.0);
            let wanted = |from: usize, count: usize| order.iter().skip(from).take(count).cloned().collect::<Vec<_>>();
            assert_eq!((before, at), (wanted(place + 2, 3), wanted(place, 2)), "before the word at place {place}");
        }
        assert!(store.by_word("other".into(), None, 0, 9).await.unwrap().is_empty());
        let ids = |found: Vec<Conversation>| found.into_iter().map(|found| found.details.id.to_string()).collect::<BTreeSet<_>>();
        let queue = store.conversation("c0".into()).await.unwrap().unwrap().details.queue.clone();
        let waiting = ids(store.pending_in(account(), queue.clone()).await.unwrap());
        assert!(waiting.contains("c8") && waiting == ids(store.pending().await.unwrap()), "{waiting:?}");
        assert!(store.pending_in("other".into(), queue).await.unwrap().is_empty());
        assert!(store.pending_in(account(), "another".into()).await.unwrap().is_empty());
    };
    for place in [4, 0, 7, 7, 2, 8, 4] {
        say(&store, &mut order, &ids[place]).await;
    }
    check(&store, &order).await;
    store.close().await;
    drop(store);
    // What is on disk, and what is newer than that.
    let store = open_store(dir.path(), told);
    check(&store, &order).await;
    for place in [1, 8, 5] {
        say(&store, &mut order, &ids[place]).await;
        check(&store, &order).await;
    }
}

pub(super) async fn what_is_erased_is_read_nowhere_and_its_place_is_kept(open_store: Open) {
    let (dir, told, store) = start(open_store);
    take(&store, ann(), vec![open("a"), open("b")]).await.unwrap();
    let note = FieldChange::AddNote { id: "n".into(), note: "secret".into(), author: grace().person().unwrap(), written: None };
    for id in ["a", "b"] {
        let said = (0..600).map(|_| record(id, "secret", None)).collect();
        take(&store, grace(), said).await.unwrap();
        take(&store, grace(), vec![update(id, note.clone())]).await.unwrap();
    }
    take(&store, grace(), vec![update("a", FieldChange::Anonymise { request: "r".into(), closes: true })]).await.unwrap();
    let message = FieldChange::AnonymiseMessage { request: "m".into(), dialog: "b".into(), sequence: 1, files: 0 };
    take(&store, grace(), vec![update("b", message)]).await.unwrap();
    for id in ["r", "m"] {
        let asked = store.erasure("demo".into(), id.into()).await.unwrap();
        assert_eq!(asked.map(|asked| (asked.by, asked.done)), Some((grace().person().unwrap(), None)), "{id} is known at once");
    }
    assert_eq!(store.erasure("other".into(), "r".into()).await.unwrap(), None);
    let late = take(&store, grace(), vec![record("a", "late", None)]).await;
    assert!(matches!(late, Err(StoreError::Refused(0, Refusal::Anonymised))), "{late:?}");
    let texts = async |store: &Arc<dyn Store>, id: &str| {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let some =
                store.events(ConversationId::from(id).main_dialog(), Range::Forward { from, to: u64::MAX, limit: 1000 }).await.unwrap();
            let Some(last) = some.last() else { break };
            from = last.message().unwrap().sequence + 1;
            all.extend(some.iter().map(|sight| sight.message().unwrap().event.get().to_owned()));
        }
        for sight in store.changes(id.into()).await.unwrap() {
            all.push(serde_json::to_string(&sight.entry).unwrap());
        }
        all
    };
    // It is remembered behind the acks, and what was said must have arrived before.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut left = vec!["r".to_owned(), "m".to_owned()];
    while !left.is_empty() {
        assert!(tokio::time::Instant::now() < until, "{left:?} is not erased");
        for erasure in store.erasures().await.unwrap() {
            let mut from = 0;
            loop {
                match store.erase_words(erasure.clone(), from).await.unwrap() {
                    Ok(Some(next)) => from = next,
                    Ok(None) => {
                        store.end_erasure(erasure.clone(), 77).await.unwrap().unwrap();
                        left.retain(|id| *id != erasure.id);
                        break;
                    }
                    Err(error) => {
                        assert_eq!(error, StoreError::Busy);
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                        break;
                    }
                }
            }
        }
    }
    let check = async |store: &Arc<dyn Store>| {
        let erased = texts(store, "a").await;
        assert_eq!(erased.len(), 600 + 3, "every place is kept");
        assert!(erased.iter().all(|text| !text.contains("secret")), "and says nothing");
        let kept = texts(store, "b").await;
        assert!(!kept[1].contains("secret") && kept[0].contains("secret") && kept[2].contains("secret"), "one message alone");
        let done = store.erasure(account(), "r".into()).await.unwrap().unwrap();
        assert_eq!((done.done, done.conversation.as_str(), done.by), (Some(77), "a", grace().person().unwrap()));
        assert!(store.erasure("other".into(), "r".into()).await.unwrap().is_none());
        assert!(store.erasures().await.unwrap().is_empty());
        let state = store.conversation("a".into()).await.unwrap().unwrap();
        assert!(!serde_json::to_string(&state).unwrap().contains("secret") && state.details.anonymised.is_some());
    };
    check(&store).await;
    store.close().await;
    drop(store);
    check(&open_store(dir.path(), told)).await;
}

pub(super) async fn what_is_closed_is_not_opened_again_while_another_stands_under_its_name(open_store: Open) {
    let (dir, told, store) = start(open_store);
    let named = |id: &str| match open(id) {
        Command::Open { conversation, consumer, queue, ttr, context, campaign, features, origin, .. } => {
            Command::Open { conversation, consumer, queue, ttr, context, campaign, features, origin, binding: Some("order".into()) }
        }
        other => other,
    };
    take(&store, ann(), vec![named("a")]).await.unwrap();
    take(&store, ann(), vec![update("a", FieldChange::Close)]).await.unwrap();
    take(&store, ann(), vec![named("b")]).await.unwrap();
    let refused = |taken: &Result<Vec<Outcome>, StoreError>| matches!(taken, Err(StoreError::Refused(0, Refusal::NotNow(_))));
    for reopens in [FieldChange::Reopen, FieldChange::Transfer("-1".into())] {
        let again = take(&store, grace(), vec![update("a", reopens)]).await;
        assert!(refused(&again), "{again:?}");
    }
    store.close().await;
    drop(store);
    let store = open_store(dir.path(), told);
    assert!(refused(&take(&store, grace(), vec![update("a", FieldChange::Reopen)]).await), "also from disk");
    take(&store, ann(), vec![update("b", FieldChange::Close)]).await.unwrap();
    take(&store, grace(), vec![update("a", FieldChange::Reopen)]).await.unwrap();
    let found = take(&store, ann(), vec![named("c"), record_in("c", "m")]).await;
    assert!(matches!(found, Err(StoreError::Refused(1, Refusal::NotPermitted(_)))), "{found:?}");
    // What is written into the one that is found is there once, whatever it was to be written into.
    let opens = |id: &str| vec![for_ann(named(id)), record_in(id, "m")];
    let first = take(&store, grace(), opens("d")).await.unwrap();
    assert_eq!(first[0], Outcome::Opened { conversation: "a".into(), found: true });
    let again = take(&store, grace(), opens("e")).await;
    assert!(matches!(again, Err(StoreError::Refused(1, Refusal::Duplicate(_)))), "{again:?}");
}

fn record_in(id: &str, name: &str) -> Command {
    record(id, "x", Some(name))
}

/// The same, opened by an agent with Ann.
fn for_ann(command: Command) -> Command {
    match command {
        Command::Open { conversation, queue, ttr, context, campaign, features, origin, binding, .. } => {
            Command::Open { conversation, consumer: Some("ann".into()), queue, ttr, context, campaign, features, origin, binding }
        }
        other => other,
    }
}

pub(super) async fn a_file_goes_with_the_last_message_that_shows_it(open_store: Open) {
    let (_dir, _told, store) = start(open_store);
    take(&store, ann(), vec![open("a"), open("b")]).await.unwrap();
    let shows = |id: &str, path: &str| match record(id, "x", None) {
        Command::Record { conversation, from, event, metadata, written, external, .. } => {
            Command::Record { conversation, from, event, metadata, written, external, file: Some(path.to_owned()) }
        }
        other => other,
    };
    let all = vec![shows("a", "twice"), shows("a", "twice"), shows("a", "elsewhere"), shows("b", "elsewhere"), shows("a", "once")];
    take(&store, grace(), all).await.unwrap();
    let erasure = |sequence: Option<u64>| Erasure {
        id: "r".into(),
        account: account(),
        conversation: "a".into(),
        message: sequence.map(|sequence| ("a".into(), sequence)),
        by: grace().person().unwrap(),
        at: 0,
        position: 1,
        place: 0,
        done: None,
    };
    // Shown is what was carried over.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let only = async |sequence| {
        let mut found = store.shown_only_by(erasure(sequence)).await.unwrap();
        found.sort();
        found
    };
    while only(None).await.len() < 2 {
        assert!(tokio::time::Instant::now() < until, "{:?}", only(None).await);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(only(None).await, ["once", "twice"]);
    let none: [&str; 0] = [];
    assert_eq!(
        (only(Some(0)).await, only(Some(2)).await, only(Some(3)).await),
        (none.map(String::from).into(), vec![], vec!["once".to_owned()])
    );
}
