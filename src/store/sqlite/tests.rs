//! The contract, and what is SQLite's own: a full disk, a folder in use, and the writer step by step.

use super::super::contract::{self, Told};
use super::super::{Health, Range, Store, StoreError};
use super::writer::{Job, Writer};
use super::*;
use crate::domain::fixtures::{self, publish};
use crate::domain::{Actor, Command, Draft, FieldChange, Outcome, Policy, decide};
use std::sync::atomic::{AtomicI64, Ordering};

fn clock() -> Clock {
    let ticks = AtomicI64::new(1_000);
    Arc::new(move || ticks.fetch_add(1, Ordering::Relaxed))
}

fn announce(told: Told) -> Announce {
    Box::new(move |committed| told.lock().unwrap().push(committed))
}

fn open(folder: &Path, told: Told) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(folder, clock(), announce(told)).unwrap())
}

macro_rules! contract {
    ($($name:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $name() {
            contract::$name(open).await;
        }
    )+ };
}

contract!(
    numbers_are_dense_and_announced_in_order,
    ranges_are_inclusive_ascending_and_the_same_from_memory_and_disk,
    a_refusal_or_a_panic_fails_alone,
    a_key_is_answered_once_and_again,
    a_restart_changes_nothing_that_is_read,
    a_batch_that_opens_and_publishes_counts_as_one_change,
    a_closed_store_answers_and_a_probe_says_that_it_writes,
    scope_keys_bound_what_a_rule_sees,
    debts_stand_with_their_cursor_until_they_are_settled,
    old_dead_letters_and_attempts_are_tidied,
    the_journal_is_read_by_position_and_time_also_from_disk,
    what_must_stay_does_not_hide_what_is_kept_no_longer,
    programs_find_what_they_look_for_from_memory_and_disk,
    what_is_erased_is_read_nowhere_and_its_place_is_kept,
    what_is_closed_is_not_opened_again_while_another_stands_under_its_name,
    a_file_goes_with_the_last_message_that_shows_it,
    a_booking_is_known_by_the_last_conversation_in_which_it_stands,
    consumers_are_listed_in_both_directions,
);

/// With a clock that goes on where the store is opened anew, in strides.
fn open_striding<const STEP: i64>(folder: &Path, told: Told) -> Arc<dyn Store> {
    static TICKS: AtomicI64 = AtomicI64::new(1_000);
    let clock: Clock = Arc::new(|| TICKS.fetch_add(STEP, Ordering::Relaxed));
    Arc::new(SqliteStore::open(folder, clock, announce(told)).unwrap())
}

#[tokio::test]
async fn conversations_are_found_by_who_was_written_to_last_a_moment_ago_or_long_ago() {
    contract::conversations_are_found_by_who_was_written_to_last(open_striding::<1>).await;
    contract::conversations_are_found_by_who_was_written_to_last(open_striding::<3_700>).await;
}

#[tokio::test]
async fn one_process_per_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), Told::default());
    let second = SqliteStore::open(dir.path(), clock(), announce(Told::default()));
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    first.close().await;
    drop(first);
    assert!(SqliteStore::open(dir.path(), clock(), announce(Told::default())).is_ok());
}

/// A writer that is driven by hand, on a database of its own.
struct ByHand {
    writer: Writer,
    memory: Arc<Memory>,
    health: watch::Receiver<Health>,
    path: PathBuf,
    dir: tempfile::TempDir,
}

impl ByHand {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tieline.db");
        let mut connection = connect(&path).unwrap();
        migrations::migrations::runner().run(&mut connection).unwrap();
        let memory = Arc::new(Memory::default());
        let (tell, health) = watch::channel(Health::Writing);
        let writer = Writer::start(dir.path(), connection, memory.clone(), clock(), (answers(), announce(Told::default())), tell).unwrap();
        Self { writer, memory, health, path, dir }
    }

    /// As after the process was killed, and started again.
    fn start_again(&mut self) -> Result<(), OpenError> {
        let memory = Arc::new(Memory::default());
        let (tell, health) = watch::channel(Health::Writing);
        let (connection, tell_all) = (connect(&self.path).unwrap(), (answers(), announce(Told::default())));
        self.writer = Writer::start(self.dir.path(), connection, memory.clone(), clock(), tell_all, tell)?;
        (self.memory, self.health) = (memory, health);
        Ok(())
    }

    /// Whether it writes.
    fn probe(&mut self) -> Result<(), StoreError> {
        let (tell, mut probed) = oneshot::channel();
        self.writer.step(vec![Job::Probe(tell)]);
        probed.try_recv().expect("it is answered in the step")
    }

    /// Takes a conversation away; whether it was there, and old.
    fn remove(&mut self, id: &str) -> Result<bool, StoreError> {
        let (tell, mut taken) = oneshot::channel();
        self.writer.step(vec![Job::Remove(id.into(), i64::MAX, tell)]);
        taken.try_recv().expect("it is answered in the step")
    }

    /// The numbers of the frames in the tail behind one, if none is missing.
    fn frames(&self, behind: u64) -> Option<Vec<u64>> {
        Some(tail::read(self.dir.path(), behind).ok()?.frames.iter().map(|frame| frame.number).collect())
    }

    fn step(&mut self, commands: Vec<Vec<Command>>) -> Vec<Result<Vec<Outcome>, StoreError>> {
        let (jobs, answers): (Vec<_>, Vec<_>) = commands
            .into_iter()
            .map(|commands| {
                let actor = Actor::Consumer { account: "demo".into(), id: "ann".into(), app: None, was: None };
                let scope = commands.iter().flat_map(|command| command.scope(&actor)).collect();
                let rule = Box::new(move |draft: &mut Draft<'_>| decide(&actor, &commands, &Policy::default(), draft));
                let (tell, answer) = AnswerTo::once();
                (
                    Job::Decide(Box::new(Decision { account: "demo".into(), scope, rule, received: 0, retry: None, resend: None }), tell),
                    answer,
                )
            })
            .unzip();
        self.writer.step(jobs);
        answers
            .into_iter()
            .map(|mut answer| answer.try_recv().expect("each is answered in the step").map(|decided| decided.outcomes))
            .collect()
    }
}

#[test]
fn nothing_is_seen_before_its_commit_and_a_full_disk_refuses_whole_batches() {
    let mut store = ByHand::start();
    store.writer.set_room(200_000);
    assert!(store.step(vec![vec![fixtures::open("a")]])[0].is_ok());
    let mut acked = 0;
    let refused = loop {
        let answers = store.step(vec![vec![publish("a", &"x".repeat(2_000))], vec![publish("a", "y")], vec![publish("nowhere", "z")]]);
        match &answers[0] {
            Ok(_) => acked += 2,
            Err(_) => break answers,
        }
        assert!(acked < 10_000, "the disk does not fill");
    };
    assert_eq!(refused[..2], [Err(StoreError::DiskFull), Err(StoreError::DiskFull)], "certain: nothing was written");
    assert!(matches!(refused[2], Err(StoreError::Refused(..) | StoreError::DiskFull)));
    assert_eq!(*store.health.borrow(), Health::DiskFull);
    let id = tieline_protocol::ids::ConversationId::from("a");
    assert_eq!(store.memory.read().conversation(&id).unwrap().next, [acked], "nothing of the failed batch is seen");
    // Whether there is room is asked by a write as large as a message, which ends nothing.
    assert_eq!((store.probe(), *store.health.borrow()), (Err(StoreError::DiskFull), Health::DiskFull));
    // Room again: it is noticed, writes work without a restart, and numbers go on without a hole.
    store.writer.set_room(u64::MAX);
    assert_eq!((store.probe(), *store.health.borrow()), (Ok(()), Health::Writing));
    assert_eq!(store.step(vec![vec![publish("a", "z")]]), [Ok(vec![Outcome::Published { sequence: acked, resends: 0 }])]);
    assert_eq!(*store.health.borrow(), Health::Writing);
}

#[test]
fn what_the_database_does_not_take_is_acked_only_as_far_as_memory_reaches() {
    let mut store = ByHand::start();
    assert!(store.step(vec![vec![fixtures::open("a")]])[0].is_ok());
    store.writer.set_page_limit(60);
    let mut acked = 0_u64;
    // It is carried over as by the thread that runs the writer, and at some time the database is full.
    let refused = loop {
        let answers = store.step((0..200).map(|_| vec![publish("a", &"x".repeat(100))]).collect());
        match &answers[0] {
            Ok(_) => acked += 200,
            Err(error) => break error.clone(),
        }
        store.writer.project_if_due();
        assert!(acked < 100_000, "the database does not fill");
    };
    assert_eq!((refused, *store.health.borrow()), (StoreError::DiskFull, Health::DiskFull));
    assert!(acked > 10_000, "for a while it goes on: {acked}");
    store.writer.set_page_limit(1_000_000);
    assert_eq!(store.step(vec![vec![publish("a", "z")]]), [Ok(vec![Outcome::Published { sequence: acked, resends: 0 }])]);
    assert_eq!(*store.health.borrow(), Health::Writing);
}

#[test]
fn the_projections_catch_up_from_wherever_they_were() {
    let mut store = ByHand::start();
    store.step(vec![vec![fixtures::open("a")]]);
    for number in 0..40 {
        store.step(vec![vec![publish("a", &number.to_string())]]);
        if number % 7 == 0 {
            // Some of it is projected, with state rows that are ahead of the cursor.
            store.writer.project_some(5);
        }
    }
    let ByHand { writer, memory, path, dir, .. } = store;
    let before = serde_json::to_string(memory.read().conversation(&"a".into()).unwrap()).unwrap();
    drop(writer);
    let memory = Arc::new(Memory::default());
    let connection = connect(&path).unwrap();
    let cursor = projection::cursor(&connection).unwrap();
    let frames = tail::read(dir.path(), cursor.frame).unwrap().frames;
    projection::catch_up(&connection, &memory, cursor, frames).unwrap();
    let head = memory.read().head();
    assert!(cursor.position > 0 && cursor.position < head, "a crash in between: {cursor:?} of {head}");
    assert_eq!(head, 41);
    assert_eq!(serde_json::to_string(memory.read().conversation(&"a".into()).unwrap()).unwrap(), before);
    let all = reader::events(&connection, &memory, &"a".into(), Range::Forward { from: 0, to: u64::MAX, limit: 1000 }).unwrap();
    assert_eq!(all.iter().map(|sight| sight.message().unwrap().sequence).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
}

#[test]
fn a_file_that_a_message_not_yet_projected_shows_stays() {
    let show = |id: &str| match publish(id, "a file") {
        Command::Publish { conversation, dialog, class, event, metadata, encoded_metadata, client, whisper, .. } => {
            let file = Some("/demo/a".to_owned());
            Command::Publish { conversation, dialog, class, event, metadata, encoded_metadata, client, file, whisper }
        }
        other => other,
    };
    let close = Command::Update { conversation: "old".into(), changes: vec![FieldChange::Close] };
    let mut store = ByHand::start();
    let told = store.step(vec![vec![fixtures::open("old")], vec![fixtures::open("new")], vec![show("old")], vec![close]]);
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    store.writer.project_some(100);
    assert_eq!(store.remove("old"), Ok(true));
    let reader = connect(&store.path).unwrap();
    let only_there = |memory: &Memory| removal::shown_only_in(&reader, memory, &"old".into()).unwrap();
    assert_eq!(only_there(&store.memory), ["/demo/a"]);
    assert!(store.step(vec![vec![show("new")]])[0].is_ok());
    assert_eq!(only_there(&store.memory), [""; 0], "by memory");
    store.writer.project_some(100);
    assert_eq!(only_there(&store.memory), [""; 0], "by the disk");
}

#[test]
fn the_journal_is_read_past_what_was_removed() {
    let close = Command::Update { conversation: "old".into(), changes: vec![FieldChange::Close] };
    let mut store = ByHand::start();
    let commands = [fixtures::open("old"), fixtures::open("new"), publish("new", "x"), publish("old", "x"), close];
    let told = store.step(commands.into_iter().map(|command| vec![command]).collect());
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    store.writer.project_some(100);
    let floor = store.memory.read().head();
    assert_eq!(store.remove("old"), Ok(true));
    let reader = connect(&store.path).unwrap();
    while removal::erase(&reader, &"old".into()).unwrap() {}
    let read = |after, limit| {
        let (sights, reached) = debts::journal(&reader, floor, after, limit).unwrap();
        (sights.iter().map(|sight| sight.position).collect::<Vec<_>>(), reached)
    };
    assert_eq!((read(0, 1), read(0, 2)), ((vec![2], 2), (vec![2, 3], 3)), "as far as it was read");
    assert_eq!((read(0, 3), read(3, 3), read(4, 3)), ((vec![2, 3], floor), (vec![], floor), (vec![], floor)), "past the hole");
    assert_eq!(read(floor + 1, 3), (vec![], floor + 1), "never back");
}

#[test]
fn nothing_is_acked_behind_a_failed_sync_also_in_the_same_step() {
    let close = Command::Update { conversation: "old".into(), changes: vec![FieldChange::Close] };
    let mut store = ByHand::start();
    let commands = [fixtures::open("old"), fixtures::open("new"), close];
    assert!(store.step(commands.into_iter().map(|command| vec![command]).collect()).iter().all(Result::is_ok));
    store.writer.project_some(100);
    store.writer.fail_a_sync();
    let (tell, mut probed) = oneshot::channel();
    let (tell_taken, mut taken) = oneshot::channel();
    let (tell_later, mut later) = oneshot::channel();
    store.writer.step(vec![Job::Probe(tell), Job::Remove("old".into(), i64::MAX, tell_taken), Job::Probe(tell_later)]);
    assert_eq!((probed.try_recv(), later.try_recv()), (Ok(Err(StoreError::Unknown)), Ok(Err(StoreError::Unknown))));
    assert_eq!(taken.try_recv(), Ok(Err(StoreError::Unknown)), "its place may be another's");
    assert_eq!(*store.health.borrow(), Health::Failed);
}

/// A store with a conversation that may be removed, and one that goes on.
fn with_an_old_one() -> ByHand {
    let close = Command::Update { conversation: "old".into(), changes: vec![FieldChange::Close] };
    let mut store = ByHand::start();
    let told = store.step([fixtures::open("old"), fixtures::open("new"), close].into_iter().map(|command| vec![command]).collect());
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    assert!(store.writer.sweep_on(100));
    store
}

#[test]
fn regression_what_a_killed_gateway_acked_stays_in_the_tail_until_a_checkpoint_has_it() {
    let mut store = with_an_old_one();
    store.step(vec![vec![publish("new", "x")]]);
    assert!(store.writer.sweep_on(100));
    assert_eq!(store.frames(0), Some(vec![1, 2]));
    // Where the database's own log was when the process was killed, nobody knows.
    store.start_again().unwrap();
    assert!(store.step(vec![vec![publish("new", "y")]])[0].is_ok());
    store.writer.look_after();
    assert_eq!(store.frames(0), Some(vec![1, 2, 3]));
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while store.frames(0).is_some() {
        assert!(std::time::Instant::now() < end, "no checkpoint comes");
        store.writer.look_after();
        std::thread::yield_now();
    }
    assert_eq!(store.frames(2), Some(vec![3]));
}

#[test]
fn regression_places_behind_lost_entries_are_not_given_to_others() {
    let mut store = with_an_old_one();
    assert!(store.step(vec![vec![publish("new", "x")]])[0].is_ok());
    assert_eq!(store.remove("old"), Ok(true), "its entry is in the database, behind one that is in the tail alone");
    for file in tail::FILES {
        std::fs::remove_file(store.dir.path().join(file)).unwrap();
    }
    let started = store.start_again();
    assert!(matches!(&started, Err(OpenError::Journal(why)) if why.contains("after position 3 comes 5")), "{started:?}");
}

#[test]
fn a_sweep_goes_on_over_a_removal() {
    let mut store = with_an_old_one();
    let told = store.step((0..8).map(|number| vec![publish("new", &number.to_string())]).collect());
    assert!(told.iter().all(Result::is_ok));
    assert!(!store.writer.sweep_on(5), "it is not through");
    assert_eq!(store.remove("old"), Ok(true));
    assert!(store.step(vec![vec![publish("new", "8")]])[0].is_ok());
    assert!(store.writer.sweep_on(6), "it has not begun anew: eight entries, the dialog's index and the account's, their conversation");
    assert!(store.writer.sweep_on(100), "and the rest");
    store.start_again().unwrap();
    let (memory, reader) = (store.memory.clone(), connect(&store.path).unwrap());
    let range = Range::Forward { from: 0, to: u64::MAX, limit: 1000 };
    let events = reader::events(&reader, &memory, &"new".into(), range).unwrap();
    assert_eq!(events.iter().map(|sight| sight.message().unwrap().sequence).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert!(row::conversation(&reader, &"old".into()).unwrap().is_none());
    assert_eq!(memory.read().head(), 13);
}

#[test]
fn a_row_that_cannot_be_read_fails_alone() {
    let mut store = ByHand::start();
    assert!(store.step(vec![vec![fixtures::open("broken")], vec![fixtures::open("whole")]]).iter().all(Result::is_ok));
    store.writer.project_some(100);
    connect(&store.path).unwrap().execute("UPDATE conversations SET open = 0, state = '{' WHERE id = 'broken'", []).unwrap();
    // Memory has neither.
    store.start_again().unwrap();
    let told = store.step(vec![vec![publish("whole", "x")], vec![publish("broken", "x")], vec![publish("whole", "y")]]);
    assert_eq!(told[1], Err(StoreError::Internal));
    assert!(told[0].is_ok() && told[2].is_ok(), "{told:?}");
    assert_eq!(store.remove("broken"), Ok(false));
    // Also where a write of its own finds it.
    let (tell, mut written) = oneshot::channel();
    let read = |connection: &Connection| row::conversation(connection, &"broken".into()).map(drop);
    store.writer.step(vec![Job::Write(Box::new(read), Durability::Written, tell)]);
    assert_eq!(written.try_recv(), Ok(Err(StoreError::Internal)));
    assert_eq!(*store.health.borrow(), Health::Writing, "the store is well");
    assert!(store.step(vec![vec![publish("whole", "z")]])[0].is_ok());
}

#[tokio::test]
async fn regression_reads_that_nobody_polls_hold_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), clock(), announce(Told::default())).unwrap();
    // More than there are connections, each begun and then left alone, as by a peer that takes no writes.
    let mut left_alone: Vec<_> = (0..64).map(|_| store.endpoints()).collect();
    futures::future::poll_fn(|context| {
        for read in &mut left_alone {
            assert!(futures::FutureExt::poll_unpin(read, context).is_pending());
        }
        std::task::Poll::Ready(())
    })
    .await;
    let read = tokio::time::timeout(Duration::from_secs(20), store.endpoints()).await;
    assert_eq!(read.expect("it is read"), Ok(Vec::new()));
}
