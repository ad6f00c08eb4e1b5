//! Outboxes stay bounded and say what was missed; interests end with their guards.

use super::*;
use crate::domain::{Entry, Message, Person, Role};
use futures::task::noop_waker;
use tieline_protocol::event::EventClass;

fn sight(sequence: u64, bytes: usize) -> Arc<Sight> {
    let audience =
        Audience { account: "demo".into(), conversation: "a".into(), consumer: "ann".into(), app: None, agents: vec!["1".into()] };
    let message = Message {
        conversation: "a".into(),
        dialog: "a".into(),
        sequence,
        class: EventClass::Content,
        from: Person::Consumer("ann".into()),
        role: Role::Consumer,
        whisper: false,
        begins: false,
        event: serde_json::value::to_raw_value(&"x".repeat(bytes)).unwrap(),
        metadata: None,
        encoded_metadata: None,
        client: None,
        file: None,
        app: None,
        written: None,
        external: None,
    };
    Arc::new(Sight {
        position: sequence + 1,
        at: 0,
        account: "demo".into(),
        entry: Entry::Published(Arc::new(message)),
        audience: Some(Arc::new(audience)),
    })
}

fn join(hub: &Arc<Hub>) -> Membership {
    let actor = Actor::Application { account: "demo".into(), app: "app".into() };
    hub.join(hub.next_connection(), actor, hub.swept())
}

/// What a session is told to close with.
fn close_of(session: &Membership) -> Option<CloseCode> {
    session.outbox().take(&noop_waker()).and_then(|taken| taken.close)
}

#[test]
fn regression_who_is_revoked_between_being_let_in_and_joining_does_not_slip_in() {
    let hub = Hub::new(1);
    let consumer = |id: &str| Actor::Consumer { account: "demo".into(), id: id.into(), app: None, was: None };
    // Looked at, then revoked, then on the map.
    let swept = hub.swept();
    assert_eq!(hub.close_consumer(&"demo".into(), &"ann".into(), CloseCode::Token), 0, "it is not here yet");
    let ann = hub.join(hub.next_connection(), consumer("ann"), swept);
    let bob = hub.join(hub.next_connection(), consumer("bob"), swept);
    assert_eq!((close_of(&ann), close_of(&bob)), (Some(CloseCode::Token), None));
    // Looked at since, and found good.
    let again = hub.join(hub.next_connection(), consumer("ann"), hub.swept());
    assert_eq!(close_of(&again), None);
    // On the map first: as ever.
    assert_eq!(hub.close_all(&"demo".into(), CloseCode::Restart), 3);
    assert_eq!((close_of(&bob), close_of(&again)), (Some(CloseCode::Restart), Some(CloseCode::Restart)));
}

fn deliver(hub: &Arc<Hub>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for shard in &hub.shards {
        let batch = std::mem::take(&mut *lock(&shard.queue));
        runtime.block_on(shard.deliver(batch, &hub.traces));
    }
}

fn dialog() -> Topic {
    Topic::Dialog("a".into(), "a".into())
}

#[test]
fn an_outbox_that_is_not_emptied_keeps_the_first_number_missed_and_no_more_memory() {
    let hub = Hub::new(2);
    let session = join(&hub);
    let _interest = session.follow(dialog());
    for sequence in 0..5_000 {
        hub.announce(vec![sight(sequence, 10)], Vec::new());
        deliver(&hub);
    }
    let taken = session.outbox().take(&noop_waker()).unwrap();
    let first_missed = taken.gaps[&DialogId::from("a")];
    assert_eq!(taken.items.len() as u64, first_missed, "what waits is a prefix, the gap begins behind it");
    assert!(taken.items.len() <= 1_024 && !taken.lost);
    assert!(session.outbox().take(&noop_waker()).is_none());
    // By bytes, too.
    for sequence in 0..50 {
        hub.announce(vec![sight(sequence, 60_000)], Vec::new());
    }
    deliver(&hub);
    let taken = session.outbox().take(&noop_waker()).unwrap();
    assert!(taken.items.len() <= 20, "{} large events wait", taken.items.len());
    assert_eq!(taken.gaps[&DialogId::from("a")], taken.items.len() as u64);
}

#[test]
fn an_announcer_that_is_behind_keeps_heads_and_sessions_read_the_gap() {
    let hub = Hub::new(1);
    let session = join(&hub);
    let _interest = session.follow(dialog());
    let more = QUEUE as u64 + 10;
    hub.announce((0..more).map(|sequence| sight(sequence, 1)).collect(), Vec::new());
    assert!((QUEUE..QUEUE + 128).contains(&lock(&hub.shards[0].queue).count));
    deliver(&hub);
    let taken = session.outbox().take(&noop_waker()).unwrap();
    assert!(taken.gaps.contains_key(&DialogId::from("a")));
}

#[test]
fn interests_are_counted_and_end_with_their_guards() {
    let hub = Hub::new(3);
    let session = join(&hub);
    let other = join(&hub);
    assert_eq!(hub.sessions(), 2);
    let (one, two) = (session.follow(dialog()), session.follow(dialog()));
    let agent = other.follow(Topic::AgentEvents("demo".into(), "1".into()));
    let heard = |session: &Membership| {
        hub.announce(vec![sight(0, 1)], Vec::new());
        deliver(&hub);
        session.outbox().take(&noop_waker()).map_or(0, |taken| taken.items.len())
    };
    assert_eq!(heard(&session), 1, "two interests in one topic hear once");
    assert_eq!(heard(&other), 2, "an agent hears by its conversations");
    drop(one);
    session.outbox().take(&noop_waker());
    assert_eq!(heard(&session), 1);
    drop(two);
    session.outbox().take(&noop_waker());
    assert_eq!(heard(&session), 0);
    drop(agent);
    assert!(hub.shards.iter().all(|shard| lock(&shard.index).is_empty()), "nothing is left of them");
    drop((session, other));
    assert_eq!(hub.sessions(), 0);
}

/// A line that takes what it is told to.
#[derive(Debug, Default)]
struct Taking {
    taken: Mutex<Vec<u8>>,
    sends: AtomicU64,
    refuses: std::sync::atomic::AtomicBool,
}

impl Line for Taking {
    fn send(&self, frames: &[u8]) -> Sent {
        self.sends.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) {
            return Sent::Nothing;
        }
        lock(&self.taken).extend_from_slice(frames);
        Sent::All
    }

    fn approach(&self) {}
}

#[test]
fn an_answer_goes_over_the_line_of_who_waits_for_it_alone_and_an_event_never_before_it() {
    let hub = Hub::new(1);
    let session = join(&hub);
    let live = Arc::new(Live::new(EventEncoder::Shared(Slot(0), |_| Some("event".into())), true, None));
    live.set_open(true);
    let _interest = session.follow_dialog("a".into(), "a".into(), live.clone());
    let (line, outbox) = (Arc::new(Taking::default()), session.outbox());
    outbox.connect(line.clone());
    let taken = || std::mem::take(&mut *lock(&line.taken));
    let reply = || outbox.reply(|frames| frames.extend_from_slice(b"reply"));
    let tell = |sequence| {
        hub.announce(vec![sight(sequence, 1)], Vec::new());
        deliver(&hub);
    };
    // It has something to do: the answer is left to it.
    reply();
    assert!(taken().is_empty() && outbox.take(&noop_waker()).is_none());
    // Woken, it finds the answer by itself; until it has looked, it does not rest.
    reply();
    outbox.rest(true);
    reply();
    assert!(taken().is_empty());
    // At rest and waiting for one answer: that is sent, and it goes on listening.
    outbox.take(&noop_waker());
    outbox.rest(true);
    reply();
    assert_eq!(taken(), b"reply");
    tell(0);
    assert!(taken().ends_with(b"event"));
    // An event that comes while an answer is waited for waits, too, and both are the session's.
    outbox.take(&noop_waker());
    outbox.rest(true);
    tell(1);
    reply();
    assert!(taken().is_empty());
    assert_eq!(outbox.take(&noop_waker()).unwrap().items.len(), 1);
    // Nothing was taken: the session is to see why.
    line.refuses.store(true, Ordering::Relaxed);
    outbox.rest(true);
    reply();
    let sends = line.sends.load(Ordering::Relaxed);
    reply();
    assert_eq!(line.sends.load(Ordering::Relaxed), sends, "it rests no more");
    assert_eq!(outbox.take(&noop_waker()).unwrap().reply.as_deref(), Some(b"reply".as_slice()), "and nothing is lost");
}

/// Of what is not shown nobody may say that it was sent.
#[test]
fn what_a_session_is_not_shown_is_left_to_it_and_what_it_is_shown_goes_over_its_line() {
    let hub = Hub::new(1);
    let session = join(&hub);
    let shows_odd = |sight: &Sight| sight.message().filter(|message| message.sequence % 2 == 1).map(|_| "odd".to_owned());
    let live = Arc::new(Live::new(EventEncoder::Own(Arc::new(shows_odd)), true, None));
    live.set_open(true);
    let _interest = session.follow_dialog("a".into(), "a".into(), live.clone());
    let (line, outbox) = (Arc::new(Taking::default()), session.outbox());
    outbox.connect(line.clone());
    outbox.rest(false);
    hub.announce(vec![sight(0, 1)], Vec::new());
    deliver(&hub);
    assert_eq!((line.sends.load(Ordering::Relaxed), live.next()), (0, 0));
    assert_eq!(outbox.take(&noop_waker()).unwrap().items.len(), 1);
    live.set_next(1);
    outbox.rest(false);
    hub.announce(vec![sight(1, 1)], Vec::new());
    deliver(&hub);
    assert!(lock(&line.taken).ends_with(b"odd"));
    assert!(outbox.take(&noop_waker()).is_none());
}
