//! What a search takes, how far the index is behind, and whether either slows a publish: `cargo bench --bench search`.
//!
//! The real store and the real index in one process, without sockets. Messages of words that are as unlike in frequency as those
//! of a language are stored (`-- --full`: 1,000,000 of them, which takes minutes and some GB of disk) while the index follows.
//! Then searches, one at a time; then publishers, in turns without an index, beside one, and beside one that is searched without
//! a pause.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

mod support;

use serde_json::json;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Spread, Words, median, table};
use tieline::domain::{Actor, Command, Policy, Ttr, decide};
use tieline::search::{Follower, Hits, Mode, Question, Scope, Search, SearchError};
use tieline::store::sqlite::SqliteStore;
use tieline::store::{Decision, Store};
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ConversationId};

const ACCOUNT: &str = "demo";
/// Different words. The first is in a fifth of all messages, the last in hardly any.
const VOCABULARY: u64 = 50_000;
/// Messages of a conversation.
const EACH: u64 = 10;
/// Searches of each kind.
const SEARCHES: usize = 500;
/// Publishers that wait for their acks.
const PUBLISHERS: usize = 64;
/// Who search all the time, while others publish.
const SEARCHERS: usize = 8;
/// Publishes a second, at the fixed rate.
const RATE: u32 = 1_000;

fn main() {
    let words = Words::read();
    let count = words.number("--messages", if words.has("--full") { 1_000_000 } else { 20_000 });
    let (rounds, seconds) = (words.number("--rounds", 3), words.number("--seconds", 3));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(count as u64, rounds, Duration::from_secs(seconds as u64)));
}

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The place of a word: the tenth is as frequent as the tenth word of a language.
    fn place(&mut self) -> u64 {
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (VOCABULARY as f64).powf(fraction) as u64
    }
}

/// A word, of two to four syllables.
fn word(place: u64) -> String {
    let mut numbers = Numbers(place);
    let syllable = |number: u64| {
        let consonant = char::from(b"bdfgklmnprstvz"[(number % 14) as usize]);
        let vowel = char::from(b"aeiou"[(number / 14 % 5) as usize]);
        format!("{consonant}{vowel}")
    };
    (0..2 + numbers.next() % 3).map(|_| syllable(numbers.next())).collect::<String>() + &format!("{place:x}")
}

/// What a message says: some sixteen words.
fn text(number: u64) -> Vec<String> {
    let mut numbers = Numbers(number << 20);
    (0..8 + numbers.next() % 17).map(|_| word(numbers.place())).collect()
}

fn ann() -> Actor {
    Actor::Consumer { account: ACCOUNT.into(), id: "ann".into(), app: Some("bench".into()), was: None }
}

fn open(conversation: &ConversationId) -> Command {
    Command::Open {
        conversation: conversation.clone(),
        consumer: None,
        queue: "-1".into(),
        ttr: Ttr { kind: "NORMAL".into(), seconds: 3600 },
        context: None,
        campaign: None,
        features: Vec::new(),
        binding: None,
        origin: None,
    }
}

fn publish(conversation: &ConversationId, text: &str) -> Command {
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": text});
    Command::Publish {
        dialog: conversation.main_dialog(),
        conversation: conversation.clone(),
        class: EventClass::Content,
        event: serde_json::value::to_raw_value(&event).unwrap(),
        metadata: None,
        encoded_metadata: None,
        client: None,
        file: None,
        whisper: false,
    }
}

fn decision(commands: Vec<Command>) -> Decision {
    let actor = ann();
    Decision {
        account: ACCOUNT.into(),
        received: (tieline::wall_clock())(),
        scope: commands.iter().flat_map(|command| command.scope(&actor)).collect(),
        retry: None,
        resend: None,
        rule: Box::new(move |draft| decide(&actor, &commands, &Policy::default(), draft)),
    }
}

/// An index that follows a store.
struct Index {
    search: Search,
    following: tokio::task::JoinHandle<()>,
}

impl Index {
    fn open(folder: &Path, store: &Arc<SqliteStore>) -> Self {
        let (search, follower): (Search, Follower) = Search::open(folder, &**store).unwrap();
        Self { search, following: tokio::spawn(follower.run(store.clone())) }
    }

    async fn close(self) {
        self.search.close().await;
        self.following.await.unwrap();
    }
}

fn size(folder: &Path, start: &str) -> f64 {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let ours = files.filter(|file| file.file_name().to_string_lossy().starts_with(start));
    ours.map(|file| file.metadata().unwrap().len() as f64).sum::<f64>() / (1024.0 * 1024.0)
}

async fn measure(count: u64, rounds: usize, span: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path(), tieline::wall_clock(), Box::new(|_| {})).unwrap());
    let index = Index::open(dir.path(), &store);
    fill(dir.path(), &store, &index, count).await;
    searches(&index, count).await;
    index.close().await;
    beside(dir.path(), &store, count, rounds, span).await;
    store.close().await;
}

async fn fill(folder: &Path, store: &Arc<SqliteStore>, index: &Index, count: u64) {
    let began = Instant::now();
    let mut waiting = VecDeque::new();
    for number in 0..count / EACH {
        let conversation = ConversationId::from(uuid::Uuid::new_v4().to_string());
        let said = (0..EACH).map(|part| publish(&conversation, &text(number * EACH + part).join(" ")));
        waiting.push_back(store.decide(decision(std::iter::once(open(&conversation)).chain(said).collect())));
        if waiting.len() >= 512 {
            waiting.pop_front().unwrap().await.unwrap().unwrap();
        }
    }
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    let (stored, head) = (began.elapsed().as_secs_f64(), store.head());
    let lag = head - index.search.indexed();
    index.search.caught_up(head).await;
    let all = began.elapsed().as_secs_f64();
    let row = vec![
        count.to_string(),
        format!("{stored:.1} s ({:.0} a second)", count as f64 / stored),
        format!("{lag} of {head} entries"),
        format!("{:.1} s later ({:.0} messages a second in all)", all - stored, count as f64 / all),
        format!("{:.0} MiB beside {:.0} MiB", size(folder, "search.db"), size(folder, "tieline.db")),
    ];
    table(&["Messages", "Stored in", "The index lacked then", "Had caught up", "Its size beside the database's"], &[row]);
}

/// What is searched for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Rare,
    Common,
    TwoCommon,
    Phrase,
    RarePhrase,
    Beginning,
    Nothing,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Rare, "a rare word"),
    (Kind::Common, "a common word"),
    (Kind::TwoCommon, "two common words"),
    (Kind::Phrase, "a phrase of two common words"),
    (Kind::RarePhrase, "a phrase of three words that somebody said"),
    (Kind::Beginning, "the beginning of a common word"),
    (Kind::Nothing, "a common and a rare word that nobody said together"),
];

fn question(kind: Kind, number: u64, count: u64) -> Question {
    let mut numbers = Numbers(number.wrapping_mul(77) + 5);
    let common = |numbers: &mut Numbers| word(1 + numbers.next() % 30);
    let rare = |numbers: &mut Numbers| word(VOCABULARY - 1 - numbers.next() % (VOCABULARY / 4));
    let (mode, text) = match kind {
        Kind::Rare => (Mode::Loose, rare(&mut numbers)),
        Kind::Common => (Mode::Loose, common(&mut numbers)),
        Kind::TwoCommon => (Mode::Loose, format!("{} {}", common(&mut numbers), common(&mut numbers))),
        Kind::Phrase => (Mode::Exact, format!("{} {}", common(&mut numbers), common(&mut numbers))),
        Kind::RarePhrase => {
            let said = text(numbers.next() % count);
            let from = numbers.next() as usize % (said.len() - 3);
            (Mode::Exact, said[from..from + 3].join(" "))
        }
        Kind::Beginning => {
            let whole = common(&mut numbers);
            (Mode::Loose, whole[..4].to_owned())
        }
        Kind::Nothing => (Mode::Loose, format!("{} {}", common(&mut numbers), rare(&mut numbers))),
    };
    Question { account: AccountId::from(ACCOUNT), text, mode, scope: Scope::Everything, limit: 20, after: None }
}

async fn searches(index: &Index, count: u64) {
    let mut rows = Vec::new();
    for (kind, name) in KINDS {
        let (mut times, mut hits, mut ended) = (Vec::new(), 0, 0);
        for number in 0..SEARCHES {
            let question = question(kind, number as u64, count);
            let began = Instant::now();
            let found = index.search.search(question).await;
            times.push(began.elapsed().as_secs_f64() * 1e3);
            match found {
                Ok(Hits { hits: found, .. }) => hits += found.len(),
                Err(SearchError::TooLong) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(!matches!(kind, Kind::RarePhrase) || hits >= SEARCHES, "what was said is found");
        let spread = Spread::of(times);
        rows.push(vec![
            name.to_owned(),
            format!("{:.2} ms", spread.at(0.5)),
            format!("{:.2} ms", spread.at(0.99)),
            format!("{:.2} ms", spread.at(1.0)),
            format!("{:.1}", hits as f64 / SEARCHES as f64),
            ended.to_string(),
        ]);
    }
    table(&["Searched for", "p50", "p99", "longest", "hits on a page, mean", "out of time"], &rows);
}

/// What publishers get.
#[derive(Debug, Default)]
struct Got {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    paced_p50: Vec<f64>,
    paced_p99: Vec<f64>,
    searches: Vec<f64>,
}

async fn beside(folder: &Path, store: &Arc<SqliteStore>, count: u64, rounds: usize, span: Duration) {
    let conversations: Vec<ConversationId> = (0..PUBLISHERS).map(|_| uuid::Uuid::new_v4().to_string().into()).collect();
    for conversation in &conversations {
        store.decide(decision(vec![open(conversation)])).await.unwrap().unwrap();
    }
    let names = ["no index", "an index that follows", "the same, searched without a pause"];
    let mut all: [Got; 3] = Default::default();
    // The first round, which finds files new and caches empty, does not count.
    for round in 0..=rounds {
        for (place, got) in all.iter_mut().enumerate() {
            let index = (place > 0).then(|| Index::open(folder, store));
            if let Some(index) = &index {
                index.search.caught_up(store.head()).await;
            }
            // What the store puts off while it is busy is not this round's.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let (stop, searched) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
            let mut searchers = Vec::new();
            for number in 0..if place == 2 { SEARCHERS } else { 0 } {
                let (search, stop, searched) = (index.as_ref().unwrap().search.clone(), stop.clone(), searched.clone());
                searchers.push(tokio::spawn(async move {
                    let mut next = number as u64 * 1_000_003;
                    while !stop.load(Ordering::Relaxed) {
                        next += 1;
                        let found = search.search(question(KINDS[next as usize % KINDS.len()].0, next, count)).await;
                        assert!(matches!(found, Ok(_) | Err(SearchError::TooLong)), "{found:?}");
                        searched.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
            let began = Instant::now();
            // First, because the other leaves the index far behind.
            let paced = paced(store, &conversations, span).await;
            let (rate, closed) = closed_loop(store, &conversations, span).await;
            let taken = began.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            for searcher in searchers {
                searcher.await.unwrap();
            }
            if let Some(index) = index {
                index.close().await;
            }
            if round > 0 {
                got.rate.push(rate);
                got.p50.push(closed.at(0.5));
                got.p99.push(closed.at(0.99));
                got.paced_p50.push(paced.at(0.5));
                got.paced_p99.push(paced.at(0.99));
                got.searches.push(searched.load(Ordering::Relaxed) as f64 / taken);
            }
        }
    }
    let limit = median(&all[0].rate);
    let row = |(name, got): (&str, &Got)| {
        vec![
            name.to_owned(),
            format!("{:.0} ({:.2} x)", median(&got.rate), median(&got.rate) / limit),
            format!("{:.2} / {:.2} ms", median(&got.p50), median(&got.p99)),
            format!("{:.2} / {:.2} ms", median(&got.paced_p50), median(&got.paced_p99)),
            format!("{:.0}", median(&got.searches)),
        ]
    };
    let rows: Vec<_> = names.into_iter().zip(&all).map(row).collect();
    let closed = format!("Acks a second, {PUBLISHERS} publishers");
    table(&["Beside", &closed, "Ack, p50 / p99", &format!("Ack at {RATE} a second, p50 / p99"), "Searches a second"], &rows);
}

/// Publishers that wait for their acks; how many a second, and how long each took.
async fn closed_loop(store: &Arc<SqliteStore>, conversations: &[ConversationId], span: Duration) -> (f64, Spread) {
    let began = Instant::now();
    let publishers = conversations.iter().enumerate().map(|(number, conversation)| {
        let (store, conversation) = (store.clone(), conversation.clone());
        tokio::spawn(async move {
            let (mut times, mut next) = (Vec::new(), number as u64 * 1_000_003);
            while began.elapsed() < span {
                next += 1;
                let decision = decision(vec![publish(&conversation, &text(next).join(" "))]);
                let asked = Instant::now();
                store.decide(decision).await.unwrap().unwrap();
                times.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            times
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut times = Vec::new();
    for publisher in publishers {
        times.extend(publisher.await.unwrap());
    }
    (times.len() as f64 / began.elapsed().as_secs_f64(), Spread::of(times))
}

/// Publishes when they are due, whatever comes back; how long each took from then.
async fn paced(store: &Arc<SqliteStore>, conversations: &[ConversationId], span: Duration) -> Spread {
    let (began, each) = (Instant::now(), Duration::from_secs(1) / RATE);
    let mut answers = Vec::new();
    let count = span.as_secs() as u32 * RATE;
    for number in 0..count {
        let due = began + each * number;
        tokio::time::sleep_until(due.into()).await;
        let conversation = &conversations[number as usize % conversations.len()];
        let answer = store.decide(decision(vec![publish(conversation, &text(u64::from(number)).join(" "))]));
        answers.push(tokio::spawn(async move {
            answer.await.unwrap().unwrap();
            due.elapsed().as_secs_f64() * 1e3
        }));
    }
    let mut times = Vec::new();
    for answer in answers {
        times.push(answer.await.unwrap());
    }
    Spread::of(times)
}
