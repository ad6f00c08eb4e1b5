//! What is found and what is not, page by page; and an index that follows a store, is lost, and comes back.

use super::index::{Index, put};
use super::text::fields;
use super::*;
use crate::domain::fixtures::{open, publish};
use crate::domain::{Actor, AgentRole, Change, Command, Entry, FieldChange, Message, Person, Policy, Role, Sight, decide};
use crate::store::sqlite::SqliteStore;
use crate::store::{Decision, Store};
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;
use std::collections::BTreeMap;
use tieline_protocol::event::EventClass;

/// A message as the journal has it.
fn said(position: u64, account: &str, conversation: &str, text: &str, whisper: bool) -> Arc<Sight> {
    let conversation = ConversationId::from(conversation);
    let message = Message {
        dialog: conversation.main_dialog(),
        conversation,
        // In these tests it says where it came from.
        sequence: position,
        class: EventClass::Content,
        from: Person::Consumer("ann".into()),
        role: Role::Consumer,
        whisper,
        begins: false,
        event: serde_json::value::to_raw_value(&json!({"type": "ContentEvent", "message": text})).unwrap(),
        metadata: None,
        encoded_metadata: None,
        client: None,
        file: None,
        app: None,
        written: None,
        external: None,
    };
    Arc::new(Sight { position, at: 0, account: account.into(), entry: Entry::Published(Arc::new(message)), audience: None })
}

fn removed(position: u64, account: &str, conversation: &str) -> Arc<Sight> {
    let entry = Entry::Removed { conversation: conversation.into(), number: 1 };
    Arc::new(Sight { position, at: 0, account: account.into(), entry, audience: None })
}

/// That a message is anonymised.
fn unsaid(position: u64, account: &str, conversation: &str, sequence: u64) -> Arc<Sight> {
    let conversation = ConversationId::from(conversation);
    let change = Change::MessageAnonymised { request: "r".into(), dialog: conversation.main_dialog(), sequence, files: 0 };
    let entry = Entry::Changed { conversation, by: Person::Consumer("ann".into()), changes: vec![change] };
    Arc::new(Sight { position, at: 0, account: account.into(), entry, audience: None })
}

/// An index without threads, and a connection that reads it.
struct Bare {
    dir: tempfile::TempDir,
    index: Index,
    reader: Connection,
}

impl Bare {
    fn of(sights: &[Arc<Sight>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::open(dir.path(), "log", 0).unwrap();
        index.take(sights, sights.len() as u64).unwrap();
        let reader = Connection::open(dir.path().join(DATABASE)).unwrap();
        query::prepare(&reader).unwrap();
        Self { dir, index, reader }
    }

    /// Gives a conversation a subject; whether that took one out.
    fn name(&mut self, position: u64, conversation: &str, subject: &str) -> bool {
        let (conversation, mut is_dirty) = (ConversationId::from(conversation), false);
        let transaction = self.index.writing();
        put(&transaction, 1, position, &fields(&conversation, Some(subject)).unwrap(), &mut is_dirty).unwrap();
        transaction.commit().unwrap();
        is_dirty
    }

    fn page(&self, question: &Question) -> Result<Hits, SearchError> {
        query::search(&self.reader, question)
    }

    /// All pages, one after the other.
    fn all(&self, question: Question) -> Vec<Hit> {
        let mut question = question;
        let mut all = Vec::new();
        loop {
            let Hits { hits, next } = self.page(&question).unwrap();
            assert!(hits.len() <= question.limit);
            all.extend(hits);
            let Some(next) = next else { return all };
            assert_eq!(next.to_string().parse(), Ok(next.clone()));
            question.after = Some(next);
        }
    }

    fn found(&self, mode: Mode, text: &str) -> Vec<String> {
        self.all(ask(mode, text)).iter().map(|hit| hit.conversation.to_string()).collect()
    }
}

fn ask(mode: Mode, text: &str) -> Question {
    Question { account: "demo".into(), text: text.into(), mode, scope: Scope::Everything, limit: 3, after: None }
}

fn fragments(hits: &[Hit]) -> Vec<&str> {
    hits.iter().flat_map(|hit| hit.messages.iter().map(|found| found.fragment.as_str())).collect()
}

#[test]
fn exact_finds_the_phrase_and_loose_the_words() {
    let texts = ["Where is parcel A-17?", "parcel is where", "is where the PÄRCEL was", "nothing of it"];
    let index = Bare::of(&(1..).zip(texts).map(|(at, text)| said(at, "demo", &at.to_string(), text, false)).collect::<Vec<_>>());
    assert_eq!(index.found(Mode::Exact, "where is"), ["1"]);
    assert_eq!(index.found(Mode::Exact, "is  WHERE"), ["3", "2"]);
    assert_eq!(index.found(Mode::Loose, "where is"), ["3", "2", "1"]);
    assert_eq!(index.found(Mode::Loose, "parcel"), ["3", "2", "1"], "neither case nor diacritics matter");
    assert_eq!(index.found(Mode::Exact, "a 17"), ["1"], "words are letters and digits");
    assert_eq!(index.found(Mode::Loose, "is parc"), ["3", "2", "1"], "a last word that nobody wrote is a beginning");
    assert_eq!(index.found(Mode::Loose, "parc is"), [""; 0], "another is not");
    assert_eq!(index.found(Mode::Exact, "parc"), [""; 0]);
    assert_eq!(index.found(Mode::Loose, "no"), [""; 0], "and no beginning is so short");
}

#[test]
fn what_people_type_is_never_syntax() {
    let index = Bare::of(&[said(1, "demo", "a", "text OR mark NEAR parcel's \"end\"", false)]);
    for typed in ["text : OR", "mark:", "\"end", "NEAR(parcel", "parcel*", "-parcel", "text AND", "^text", "end\"\"", "par\0cel OR"] {
        let found = index.page(&ask(Mode::Loose, typed)).unwrap();
        assert_eq!(found.hits.len(), usize::from(!typed.contains("AND") && !typed.contains('\0')), "{typed}");
        index.page(&ask(Mode::Exact, typed)).unwrap();
    }
    let mark = index::mark(&"a".into());
    assert_eq!(index.found(Mode::Loose, &mark), [""; 0], "what conversations are found by is no word of theirs");
    for typed in ["", " ", "?!*\"", "\0", "🙂"] {
        assert!(matches!(index.page(&ask(Mode::Loose, typed)), Err(SearchError::NoWords)), "{typed:?}");
    }
    assert!(matches!(index.page(&ask(Mode::Loose, &"a ".repeat(40))), Err(SearchError::TooMuch)));
}

#[test]
fn fragments_are_safe_html_with_what_matches_marked() {
    let long = "before ".repeat(100) + "<b>parcel</b> & 'A-17' \u{E000}\u{E001}" + &" behind".repeat(100);
    let index = Bare::of(&[said(1, "demo", "a", &long, false), said(2, "demo", "a", "<script>parcel</script>", false)]);
    let hits = index.all(ask(Mode::Loose, "parcel a"));
    let [fragment] = fragments(&hits)[..] else { panic!("{hits:?}") };
    let marked = "&lt;b&gt;<em class=\"highlight\">parcel</em>&lt;/b&gt; &amp; &#39;<em class=\"highlight\">A</em>-17&#39;";
    assert!(fragment.contains(marked) && fragment.starts_with('…') && fragment.ends_with('…'), "{fragment}");
    assert!(fragment.len() < 500 && !fragment.contains(['\u{E000}', '\u{E001}']), "{fragment}");
    let hits = index.all(ask(Mode::Exact, "parcel b a 17"));
    assert!(fragments(&hits)[0].contains("<em class=\"highlight\">parcel&lt;/b&gt; &amp; &#39;A-17</em>"), "{hits:?}");
}

#[test]
fn chinese_is_found_by_the_beginning_of_a_run() {
    let index = Bare::of(&[said(1, "demo", "a", "我的包裹在哪里，谢谢", false)]);
    assert_eq!(index.found(Mode::Loose, "我的包裹"), ["a"]);
    assert_eq!(index.found(Mode::Exact, "谢谢"), ["a"]);
    assert_eq!(index.found(Mode::Loose, "包裹"), [""; 0], "the limit that is documented");
}

#[test]
fn whispers_are_found_by_the_brands_side_alone() {
    let index =
        Bare::of(&[said(1, "demo", "a", "seen", false), said(2, "demo", "a", "seen not", true), said(3, "demo", "b", "seen", true)]);
    let numbers = |scope| {
        let hits = index.all(Question { scope, ..ask(Mode::Loose, "seen") });
        hits.iter().map(|hit| (hit.conversation.to_string(), hit.messages.iter().map(|found| found.sequence).collect())).collect::<Vec<_>>()
    };
    assert_eq!(numbers(Scope::Everything), [("b".to_owned(), vec![3]), ("a".to_owned(), vec![2, 1])]);
    assert_eq!(numbers(Scope::Shown), [("a".to_owned(), vec![1])]);
}

#[test]
fn a_conversation_has_words_of_its_own_that_are_replaced() {
    let mut sights: Vec<_> = (2..30).map(|at| said(at, "demo", "a", "parcel", false)).collect();
    sights.insert(0, said(1, "demo", "b", "nothing", false));
    let mut index = Bare::of(&sights);
    assert!(!index.name(30, "b", "Where is <parcel> A-17?"));
    let hits = index.all(ask(Mode::Loose, "parcel"));
    assert_eq!(hits[0].subject, ["Where is &lt;<em class=\"highlight\">parcel</em>&gt; A-17?"]);
    assert!(hits[0].messages.is_empty());
    assert_eq!(hits[1].messages.iter().map(|found| found.sequence).collect::<Vec<_>>(), (20..30).rev().collect::<Vec<_>>(), "{MESSAGES}");
    assert!(!index.name(0, "a", "an old parcel"), "older than all that is said");
    assert_eq!(index.all(ask(Mode::Loose, "parcel"))[1].subject.len(), 1, "it is found behind many messages");
    assert!(index.name(31, "b", "a letter"), "something was taken out");
    assert_eq!((index.found(Mode::Loose, "parcel"), index.found(Mode::Loose, "letter")), (vec!["a".to_owned()], vec!["b".to_owned()]));
}

#[test]
fn a_page_that_is_cut_is_gone_on_with_and_nothing_is_lost_or_shown_twice() {
    let sights: Vec<_> = (1..=300).map(|at| said(at, "demo", &(at * 7 % 40).to_string(), "parcel", at % 3 == 0)).collect();
    let index = Bare::of(&sights);
    let question = Question { limit: 30, ..ask(Mode::Loose, "parcel") };
    let whole = index.all(question.clone());
    assert_eq!(whole.len(), 40);
    let mut were_cut = 0;
    for steps in (1..400).step_by(7) {
        let mut reader = Connection::open(index.dir.path().join(DATABASE)).unwrap();
        query::prepare(&reader).unwrap();
        let mut left = steps;
        let is_over = move || {
            left -= 1;
            left == 0
        };
        reader.progress_handler(50, Some(is_over)).unwrap();
        let first = match query::search(&reader, &question) {
            Ok(first) => first,
            Err(SearchError::TooLong) => continue,
            // It was not even begun.
            Err(SearchError::Database(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        were_cut += usize::from(first.hits.len() < 30);
        let mut all = first.hits;
        all.extend(index.all(Question { after: Some(first.next.unwrap()), ..question.clone() }));
        assert_eq!(all, whole, "after {steps} steps");
    }
    assert!(were_cut > 5, "{were_cut}");
}

#[test]
fn many_matches_of_one_conversation_end_a_page_and_not_the_search() {
    let mut sights = vec![said(1, "demo", "old", "parcel", false)];
    sights.extend((2..=12_000).map(|at| said(at, "demo", "long", "parcel", false)));
    let index = Bare::of(&sights);
    let first = index.page(&ask(Mode::Loose, "parcel")).unwrap();
    assert_eq!((first.hits.len(), first.next.is_some()), (1, true));
    assert_eq!(index.found(Mode::Loose, "parcel"), ["long", "old"]);
}

#[test]
fn what_came_after_the_first_page_is_not_on_a_later_one() {
    let mut index = Bare::of(&(1..=6).map(|at| said(at, "demo", &at.to_string(), "parcel", false)).collect::<Vec<_>>());
    let question = ask(Mode::Loose, "parcel");
    let first = index.page(&question).unwrap();
    index.index.take(&[said(7, "demo", "2", "parcel", false), said(8, "demo", "new", "parcel", false)], 8).unwrap();
    let rest = index.all(Question { after: first.next, ..question });
    assert_eq!(rest.iter().map(|hit| hit.conversation.as_str()).collect::<Vec<_>>(), ["3", "2", "1"]);
    assert_eq!(rest[1].messages.len(), 1);
}

/// A word that nothing else has, in no other word's order.
fn odd(number: u64) -> String {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut letter = || {
        mixed = mixed.wrapping_mul(0xD129_0D3B_3C4B_7F4F).rotate_left(23);
        char::from(b'a' + (mixed % 26) as u8)
    };
    (0..24).map(|_| letter()).collect()
}

#[test]
fn what_is_removed_or_forgotten_leaves_the_file() {
    let text = |number: u64| format!("hello {} and {}", odd(number), odd(number % 50 + 10_000));
    let sights: Vec<_> = (1..=3_000).map(|at| said(at, "demo", &(at % 50).to_string(), &text(at), false)).collect();
    let mut index = Bare::of(&sights);
    index.index.tidy().unwrap();
    let holds = |index: &Bare, word: &str| {
        let all =
            [DATABASE.to_owned(), format!("{DATABASE}-wal")].map(|name| std::fs::read(index.dir.path().join(name)).unwrap_or_default());
        // Words share their first letters with their neighbours in the index.
        all.iter().any(|bytes| memchr::memmem::find(bytes, &word.as_bytes()[4..]).is_some())
    };
    let of = |conversation: u64| (1..=3_000).filter(move |at| at % 50 == conversation);
    assert!(of(7).all(|at| holds(&index, &odd(at))), "they can be seen where they are");
    index.index.take(&[removed(3_001, "demo", "7"), removed(3_002, "other", "9"), removed(3_003, "demo", "unknown")], 3_003).unwrap();
    assert!(index.index.is_dirty());
    index.index.tidy().unwrap();
    assert!(!index.index.is_dirty());
    assert_eq!(index.found(Mode::Loose, &odd(10_007)), [""; 0]);
    let left: Vec<_> = of(7).map(odd).chain([odd(10_007)]).filter(|word| holds(&index, word)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(of(8).chain(of(9)).all(|at| holds(&index, &odd(at))), "nothing else is gone");
    index.index.take(&[unsaid(3_004, "demo", "9", 59)], 3_004).unwrap();
    index.index.tidy().unwrap();
    assert!(!holds(&index, &odd(59)) && holds(&index, &odd(109)));
    assert!(index.found(Mode::Loose, &odd(59)).is_empty() && index.found(Mode::Loose, &odd(109)) == ["9"]);
    let check = index.reader.execute_batch("INSERT INTO words_1 (words_1, rank) VALUES ('integrity-check', 1)");
    assert!(check.is_ok(), "{check:?}");
}

#[test]
fn an_index_of_another_log_or_ahead_of_it_or_damaged_is_made_anew() {
    let index = Bare::of(&[said(1, "demo", "a", "parcel", false)]);
    let dir = index.dir;
    drop((index.index, index.reader));
    let cursor = |epoch, head| Index::open(dir.path(), epoch, head).unwrap().cursor();
    assert_eq!((cursor("log", 1), cursor("log", 1)), (1, 1), "it stays as it is");
    assert_eq!((cursor("other", 1), cursor("other", 1)), (0, 0));
    Index::open(dir.path(), "other", 1).unwrap().take(&[], 5).unwrap();
    assert_eq!((cursor("other", 5), cursor("other", 4)), (5, 0));
    Index::open(dir.path(), "other", 1).unwrap().take(&[], 5).unwrap();
    let path = dir.path().join(DATABASE);
    let length = std::fs::metadata(&path).unwrap().len() as usize;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100..].fill(0x55);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!((length > 4_096, cursor("other", 5)), (true, 0));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// What a text's words are to the index, as far as the test has such words.
fn words(text: &str) -> Vec<String> {
    let folded = text.to_lowercase().replace('ä', "a").replace("a\u{308}", "a");
    folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn matches(mode: Mode, typed: &[String], text: &[String], is_beginning: bool) -> bool {
    let is = |place: usize, word: &String| {
        *word == typed[place] || (is_beginning && place + 1 == typed.len() && word.starts_with(&typed[place]))
    };
    match mode {
        Mode::Exact => text.windows(typed.len()).any(|window| window == typed),
        Mode::Loose => (0..typed.len()).all(|place| text.iter().any(|word| is(place, word))),
    }
}

fn text(most: usize) -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec!["par", "parcel", "parcels", "Pärcel", "pa\u{308}r", "a", "17", "late", "THE", "la"]);
    let space = prop::sample::select(vec![" ", ", ", "-", "  ", "\" OR \"", "_", "🙂"]);
    prop::collection::vec((word, space), 1..most).prop_map(|all| all.into_iter().map(|(word, space)| format!("{word}{space}")).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_matches_is_found_once_and_nothing_else(
        said_so in prop::collection::vec((0..2_usize, 0..6_usize, text(7), any::<bool>()), 1..60),
        typed in prop::collection::vec((text(4), any::<bool>(), any::<bool>(), 1..5_usize), 1..6),
    ) {
        const ACCOUNTS: [&str; 2] = ["demo", "other"];
        let sights: Vec<_> = (1..).zip(&said_so)
            .map(|(at, (account, number, text, whisper))| said(at, ACCOUNTS[*account], &format!("{account}-{number}"), text, *whisper))
            .collect();
        let index = Bare::of(&sights);
        for (text, is_exact, sees_whispers, limit) in &typed {
            let mode = if *is_exact { Mode::Exact } else { Mode::Loose };
            let scope = if *sees_whispers { Scope::Everything } else { Scope::Shown };
            let typed = words(text);
            for (number, account) in ACCOUNTS.into_iter().enumerate() {
                let model = |is_beginning| {
                    let mut newest: BTreeMap<u64, (String, Vec<u64>)> = BTreeMap::new();
                    for (at, (owner, conversation, text, whisper)) in (1..).zip(&said_so) {
                        let is_seen = *owner == number && (*sees_whispers || !whisper);
                        if is_seen && matches(mode, &typed, &words(text), is_beginning) {
                            let id = format!("{owner}-{conversation}");
                            let before = newest.iter().find(|(_, (known, _))| *known == id).map(|(at, _)| *at);
                            let mut all = before.and_then(|before| newest.remove(&before)).map(|(_, all)| all).unwrap_or_default();
                            all.insert(0, at);
                            all.truncate(MESSAGES);
                            newest.insert(at, (id, all));
                        }
                    }
                    newest.into_values().rev().collect::<Vec<_>>()
                };
                let mut expected = model(false);
                if expected.is_empty() && !is_exact && typed.last().is_some_and(|last| last.len() >= 3) {
                    expected = model(true);
                }
                let question = Question { account: account.into(), text: text.clone(), mode, scope, limit: *limit, after: None };
                let found: Vec<(String, Vec<u64>)> = index.all(question).into_iter()
                    .map(|hit| (hit.conversation.to_string(), hit.messages.iter().map(|found| found.sequence).collect()))
                    .collect();
                prop_assert_eq!(found, expected, "{:?} {:?} in {}", mode, typed, account);
            }
        }
    }
}

#[test]
fn cursors_are_read_as_they_are_written_and_nothing_else_is() {
    for cursor in [Cursor { from: 7, next: 5, is_beginning: true }, Cursor { from: i64::MAX, next: 0, is_beginning: false }] {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
    for text in ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.2bb", "99999999999999999999.1", "a.b"] {
        assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
    }
}

fn manager() -> Actor {
    Actor::Agent { account: "demo".into(), user: "2".into(), pid: "pid-2".into(), roles: [AgentRole::Manager].into() }
}

/// An index that follows a store.
struct Followed {
    store: Arc<SqliteStore>,
    search: Search,
    following: tokio::task::JoinHandle<()>,
}

impl Followed {
    fn start(folder: &Path) -> Self {
        let store = Arc::new(SqliteStore::open(folder, Arc::new(|| 1_000), Box::new(|_| {})).unwrap());
        let (search, follower) = Search::open(folder, &*store).unwrap();
        let following = tokio::spawn(follower.run(store.clone()));
        Self { store, search, following }
    }

    async fn take(&self, account: &str, commands: Vec<Command>) {
        self.take_by(Actor::Consumer { account: account.into(), id: "ann".into(), app: None, was: None }, commands).await;
    }

    async fn take_by(&self, actor: Actor, commands: Vec<Command>) {
        let decision = Decision {
            account: actor.account().clone(),
            scope: commands.iter().flat_map(|command| command.scope(&actor)).collect(),
            rule: Box::new(move |draft| decide(&actor, &commands, &Policy::default(), draft)),
            received: 0,
            retry: None,
            resend: None,
        };
        self.store.decide(decision).await.unwrap().unwrap();
    }

    async fn found(&self, account: &str, text: &str) -> Vec<String> {
        self.search.caught_up(self.store.head()).await;
        let found = self.search.search(Question { account: account.into(), ..ask(Mode::Loose, text) }).await.unwrap();
        found.hits.iter().map(|hit| hit.conversation.to_string()).collect()
    }

    async fn stop(self) {
        self.search.close().await;
        self.following.await.unwrap();
        self.store.close().await;
        assert!(matches!(self.search.search(ask(Mode::Loose, "parcel")).await, Err(SearchError::Closed)));
    }
}

#[tokio::test]
async fn what_is_acked_is_found_after_a_restart_and_when_the_file_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let world = Followed::start(dir.path());
    assert!(world.found("demo", "parcel").await.is_empty());
    for (account, id) in [("demo", "a"), ("demo", "b"), ("other", "c")] {
        world.take(account, vec![open(id), publish(id, "where is my parcel")]).await;
    }
    assert_eq!(world.found("demo", "parcel").await, ["b", "a"]);
    assert_eq!(world.found("other", "parcel").await, ["c"]);
    assert!(world.found("nobody", "parcel").await.is_empty());
    world.search.0.shared.order(Order::BeginAnew).unwrap();
    world.take("demo", vec![publish("a", "and my letter")]).await;
    assert_eq!(world.found("demo", "letter").await, ["a"]);
    // Made anew beneath an open reader: it is read again from the first entry on.
    assert_eq!(world.found("demo", "parcel").await, ["b", "a"]);
    world.stop().await;
    for is_lost in [false, true] {
        if is_lost {
            std::fs::remove_file(dir.path().join(DATABASE)).unwrap();
        }
        let world = Followed::start(dir.path());
        assert!(is_lost || world.search.indexed() == world.store.head());
        assert_eq!(world.found("demo", "parcel").await, ["b", "a"]);
        world.stop().await;
    }
}

#[tokio::test]
async fn a_long_journal_is_indexed_in_parts_and_removals_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let world = Followed::start(dir.path());
    for id in ["a", "b", "c"] {
        world.take("demo", vec![open(id)]).await;
        for part in 0..40 {
            let all = (0..50).map(|number| publish(id, &format!("parcel {id}{part}x{number}"))).collect();
            world.take("demo", all).await;
        }
        let close = Command::Update { conversation: id.into(), changes: vec![FieldChange::Close] };
        world.take("demo", vec![close]).await;
    }
    assert_eq!(world.found("demo", "parcel").await, ["c", "b", "a"]);
    assert_eq!(world.found("demo", "b39x49").await, ["b"]);
    world.stop().await;
    // What was just done may be in the store's memory alone, and is then not removed; after a start all is on disk.
    let world = Followed::start(dir.path());
    assert!(world.store.remove("a".into(), i64::MAX).await.unwrap().unwrap());
    assert!(world.found("demo", "a39x49").await.is_empty());
    assert_eq!(world.found("demo", "b0x0").await, ["b"]);
    let b = ConversationId::from("b");
    let message = FieldChange::AnonymiseMessage { request: "m".into(), dialog: b.main_dialog(), sequence: 0, files: 0 };
    world.take_by(manager(), vec![Command::Update { conversation: b.clone(), changes: vec![message] }]).await;
    assert!(world.found("demo", "b0x0").await.is_empty());
    assert_eq!(world.found("demo", "b0x1").await, ["b"]);
    let all = FieldChange::Anonymise { request: "r".into(), closes: false };
    world.take_by(manager(), vec![Command::Update { conversation: b, changes: vec![all] }]).await;
    assert!(world.found("demo", "b0x1").await.is_empty());
    world.stop().await;
}
