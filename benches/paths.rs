//! The steady figures: what the hot paths allocate and how many instructions they take: `cargo bench --bench paths`.
//!
//! The real store, gateway and sessions in one process, without sockets. Each path is run so many times and twice as many times,
//! each in a process of its own to the end of the store, and the difference is what counts: what happens once, at the start and
//! at the end, is in both. Allocations are counted in the process, instructions by `valgrind --tool=callgrind`, if it is there.
//! Both hardly depend on the machine, so they are held to `benches/baseline.json`, within a tenth; `-- --write` renews that.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

mod support;

use axum::body::Body;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use support::{ACCOUNT, Gateway as Running, Setup, Words, publish_request, run, table};
use tieline::config::{Config, LiveLimits, LiveRetention};
use tieline::delivery::{Deliveries, Parts as DeliveryParts};
use tieline::dialect::Socket;
use tieline::dialect::liveperson::{Native, Webhooks};
use tieline::faults::Faults;
use tieline::files::{FetchSettings, Files, Settings};
use tieline::gateway::{Gateway, Notes, Parts, announcer};
use tieline::http::{Front, Listener, Routes};
use tieline::hub::Hub;
use tieline::identity::{Account, Identity, Issuer};
use tieline::outbound::Guard;
use tieline::session::{Admission, Admitted, Codec, Doorway, Out, Session, SessionLimits};
use tieline::store::Store;
use tieline::store::sqlite::SqliteStore;
use tieline::throttle::Throttle;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baseline.json");
/// By how much a figure may grow.
const TOLERANCE: f64 = 0.1;
const SUBSCRIBERS: usize = 100;
/// Consumers whose tokens are made beforehand, since making one costs more than what is measured.
const TOKENS: usize = 600;

/// What is measured, and how often it is done at least.
const PATHS: [(&str, usize); 8] = [
    ("decode", 4_000),
    ("publish", 256),
    ("publish_100", 256),
    ("publish_10000", 256),
    ("deliver", 64),
    ("token", 4_000),
    ("token_first_use", 200),
    ("send", 256),
];

/// How many conversations are stored where a path begins.
fn stored(path: &str) -> usize {
    path.strip_prefix("publish_").map_or(0, |count| count.parse().unwrap())
}

fn shown(path: &str) -> String {
    match path {
        "decode" => "read one publish frame".into(),
        "publish" => "publish on a socket, to the reply".into(),
        "publish_100" | "publish_10000" => format!("the same, with {} conversations stored", stored(path)),
        "deliver" => format!("the same with {SUBSCRIBERS} sockets that follow, to the last frame"),
        "token" => "check an AppJWT and a ConsumerJWS that were checked before".into(),
        "token_first_use" => "the same, the first use of the ConsumerJWS".into(),
        _ => "SEND over HTTP, to the reply".into(),
    }
}

fn main() {
    let words = Words::read();
    if let Some(path) = words.after("--path") {
        let (path, folder) = (path.to_owned(), words.after("--folder").unwrap().to_owned());
        return run(walk(path, words.number("--times", 1), folder));
    }
    run(compare(words.has("--write")));
}

/// What a process is given: a data folder with keys, and tokens made with them.
#[derive(Serialize, Deserialize)]
struct Given {
    config: String,
    app: String,
    agent: String,
    consumers: Vec<String>,
}

/// A gateway in this process.
struct World {
    store: Arc<SqliteStore>,
    hub: Arc<Hub>,
    gateway: Arc<Gateway>,
    native: Arc<Native>,
    front: Front,
    account: Arc<Account>,
    given: Given,
}

impl World {
    fn open(folder: &Path) -> Self {
        let given: Given = serde_json::from_slice(&std::fs::read(folder.join("given.json")).unwrap()).unwrap();
        let data = folder.join("data");
        let variables = [("TIELINE__SERVER__DATA_DIR".to_owned(), data.display().to_string())];
        let config = Config::from_parts(Some(("bench", &given.config)), variables).unwrap();
        let hub = Hub::new(1);
        let notes = Arc::new(Notes::default());
        let store = Arc::new(SqliteStore::open(&data, tieline::wall_clock(), announcer(hub.clone(), notes.clone())).unwrap());
        let issuer = Issuer::open(&config, tieline::wall_clock()).unwrap();
        let settings = Settings {
            url: String::new(),
            largest: config.files.largest.0,
            url_time: config.files.url_time.0,
            stall: config.limits.body_timeout.0,
            types: config.files.types.clone(),
            fetch: FetchSettings {
                timeout: config.files.fetch_timeout.0,
                connect_timeout: config.files.fetch_connect_timeout.0,
                concurrency: config.files.fetch_concurrency,
                guard: Guard::of_files(&config),
            },
        };
        let files = Arc::new(Files::open(&settings, &data, issuer.files_key()).unwrap());
        let identity = Arc::new(Identity::new(issuer, store.clone(), &config).unwrap());
        let limits = LiveLimits::new(arc_swap::ArcSwap::from_pointee(config.limits.clone()));
        let retention = LiveRetention::new(arc_swap::ArcSwap::from_pointee(config.retention.clone()));
        let gateway = Gateway::new(Parts {
            store: store.clone(),
            hub: hub.clone(),
            identity: identity.clone(),
            files,
            limits: limits.clone(),
            notes,
            faults: Arc::new(Faults::new(false)),
            uploads: Throttle::per_minute(config.limits.uploads_per_minute),
            retention: retention.clone(),
        });
        let (deliveries, _) = Deliveries::new(DeliveryParts {
            store: store.clone(),
            hub: hub.clone(),
            render: Arc::new(Webhooks),
            clock: tieline::wall_clock(),
            settings: config.webhooks.clone(),
            retention,
            twice: Arc::new(|_| false),
        });
        let native = Native::new(gateway.clone(), &config, limits.clone(), deliveries);
        let listener = Listener::new(&config, limits, gateway.clone(), CancellationToken::new());
        let front = listener.finish(Routes::from(native.routes()).call(native.send_call()));
        let account = identity.directory().account(ACCOUNT).unwrap();
        tokio::spawn(hub.clone().serve(0));
        Self { store, hub, gateway, native, front, account, given }
    }

    async fn admit<S: Socket>(&self, socket: S, path: &str, headers: &[(&str, &str)]) -> Admitted<<S::Doorway as Doorway>::Codec> {
        let mut request = hyper::Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match socket.admit(&request.body(()).unwrap().into_parts().0).await {
            Ok(Admission::Known(admitted)) => *admitted,
            _ => panic!("{path}: not admitted"),
        }
    }

    fn begin<C: Codec>(&self, admitted: Admitted<C>) -> Session<C> {
        let membership = self.hub.join(self.hub.next_connection(), admitted.actor.clone(), self.hub.swept());
        Session::begin(self.gateway.clone(), membership, admitted, SessionLimits { pending: 256, bad_frames: 10 })
    }

    async fn consumer(
        &self,
        number: usize,
    ) -> Admitted<<<tieline::dialect::liveperson::ConsumerSocket as Socket>::Doorway as Doorway>::Codec> {
        let headers = [("authorization", self.given.app.as_str()), ("x-lp-on-behalf", self.given.consumers[number].as_str())];
        self.admit(self.native.consumer_socket(), &format!("/ws_api/account/{ACCOUNT}/messaging/consumer?v=3"), &headers).await
    }

    /// A consumer's session, and a conversation of it.
    async fn talking(&self) -> (Session<impl Codec>, String) {
        let mut session = self.begin(self.consumer(0).await);
        let open = json!({"kind": "req", "id": "1", "type": "cm.ConsumerRequestConversation", "body": {"brandId": ACCOUNT}});
        let reply: Value = serde_json::from_str(&exchange(&mut session, &open.to_string()).await).unwrap();
        let id = reply["body"]["conversationId"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
        (session, id)
    }
}

/// Takes the frames that are ready, as the loop of a socket does; how many.
async fn frames<C: Codec>(session: &mut Session<C>, mut each: impl FnMut(&str)) -> usize {
    session.ready().await;
    let mut count = 0;
    while let Some(out) = session.pop() {
        count += 1;
        match out {
            Out::Frame(frame) => each(frame.as_str()),
            Out::Framed(framed) => {
                // One event, behind a head of two bytes or four.
                let head = if framed[1] < 126 { 2 } else { 4 };
                each(std::str::from_utf8(&framed[head..]).unwrap());
            }
            Out::Alone(frame) => {
                each(frame.as_str());
                session.sent();
                session.flushed();
            }
        }
    }
    session.sent();
    count
}

/// Sends a frame, and waits for what comes first.
async fn exchange<C: Codec>(session: &mut Session<C>, frame: &str) -> String {
    session.accept(frame).unwrap();
    let mut reply = String::new();
    assert_eq!(frames(session, |frame| reply.push_str(frame)).await, 1);
    reply
}

/// Publishes, and waits for the ack.
async fn publish<C: Codec>(session: &mut Session<C>, frame: &str, sequence: usize) {
    session.accept(frame).unwrap();
    hear(session, sequence, "}").await;
}

/// Takes one frame, which holds a number and what stands behind it.
async fn hear<C: Codec>(session: &mut Session<C>, sequence: usize, behind: &str) {
    let is_it = |frame: &str| {
        let rest = frame.split_once("\"sequence\":").map(|(_, rest)| rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap()));
        rest.is_some_and(|(number, rest)| number.parse() == Ok(sequence) && rest.starts_with(behind))
    };
    assert_eq!(frames(session, |frame| assert!(is_it(frame), "{frame}")).await, 1);
}

/// Goes along a path so many times, in a gateway of its own; prints how often it allocated.
async fn walk(path: String, times: usize, folder: String) {
    let region = Region::new(ALLOCATOR);
    let world = World::open(Path::new(&folder));
    match path.as_str() {
        "decode" => {
            let mut codec = world.consumer(0).await.codec;
            let frame = publish_request("5b78783f-fc30-4246-ab7a-258445318f0a", "decode-", None);
            for _ in 0..times {
                assert!(matches!(codec.decode(&frame).ask, tieline::session::Ask::Submit(_)));
            }
        }
        "publish" | "publish_100" | "publish_10000" => {
            let (mut session, id) = world.talking().await;
            let frame = publish_request(&id, "publish-", None);
            for sequence in 0..times {
                publish(&mut session, &frame, sequence).await;
            }
        }
        "deliver" => deliver(&world, times).await,
        "token" => {
            for _ in 0..times {
                check(&world, 0);
            }
        }
        "token_first_use" => (0..times).for_each(|number| check(&world, number)),
        _ => send(&world, times).await,
    }
    world.store.close().await;
    println!("{}", region.change().allocations);
}

async fn deliver(world: &World, times: usize) {
    let (mut session, id) = world.talking().await;
    let mut followers = Vec::new();
    let path = format!("/ws_api/account/{ACCOUNT}/messaging/brand?v=3");
    let follow =
        json!({"kind": "req", "id": "1", "type": "ms.SubscribeMessagingEvents", "body": {"dialogId": id, "fromSeq": 0}}).to_string();
    let [_, socket] = world.native.agent_sockets();
    for _ in 0..SUBSCRIBERS {
        let mut follower = world.begin(world.admit(socket.clone(), &path, &[("authorization", &world.given.agent)]).await);
        exchange(&mut follower, &follow).await;
        followers.push(follower);
    }
    for follower in &mut followers {
        // That there is nothing yet.
        frames(follower, |frame| assert!(frame.contains("\"changes\":[]"), "{frame}")).await;
    }
    let frame = publish_request(&id, "deliver-", None);
    for sequence in 0..times {
        publish(&mut session, &frame, sequence).await;
        for follower in &mut followers {
            hear(follower, sequence, ",").await;
        }
    }
}

fn check(world: &World, number: usize) {
    let identity = world.gateway.identity();
    let app = identity.check_app(&world.account, &world.given.app).unwrap();
    identity.check_consumer(&app, &world.given.consumers[number]).unwrap();
}

async fn send(world: &World, times: usize) {
    let (_, id) = world.talking().await;
    let body = publish_request(&id, "send-", None);
    for sequence in 0..times {
        let request = hyper::Request::post(format!("/api/account/{ACCOUNT}/messaging/consumer/conversation/send?v=3"))
            .header("authorization", &world.given.app)
            .header("x-lp-on-behalf", &world.given.consumers[0])
            .header("content-type", "application/json")
            .body(Body::from(body.clone()))
            .unwrap();
        let reply = world.front.answer(request).await;
        let reply = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        assert_eq!(reply, format!(r#"{{"code":"OK","body":{{"sequence":{sequence}}},"reqId":"1"}}"#));
    }
}

/// What one time along a path costs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Cost {
    allocations: f64,
    /// None where nothing can count them.
    instructions: Option<f64>,
}

/// A data folder with keys, and nothing else; and what each process is given.
async fn prepare() -> (tempfile::TempDir, Given) {
    let setup = Setup { agents: 1, ..Setup::default() };
    let running = Running::start(&setup).await;
    let given = Given {
        config: setup.text(),
        app: running.app_token(),
        agent: running.agent_token(0),
        consumers: (0..TOKENS).map(|number| running.consumer_token(&format!("consumer-{number}"))).collect(),
    };
    let template = tempfile::tempdir().unwrap();
    copy(&running.data().join("keys"), &template.path().join("keys"));
    for stored in PATHS.iter().map(|(path, _)| stored(path)).filter(|stored| *stored > 0) {
        support::fill(&template.path().join(stored.to_string()), stored).await;
    }
    (template, given)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// A process that goes along a path; how often it allocated, and how many instructions it took if that is counted.
fn walked(template: &Path, given: &Given, path: &str, times: usize, counts_instructions: bool) -> (f64, Option<f64>) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    copy(&template.join("keys"), &data.join("keys"));
    if stored(path) > 0 {
        copy(&template.join(stored(path).to_string()), &data);
    }
    std::fs::write(dir.path().join("given.json"), serde_json::to_vec(given).unwrap()).unwrap();
    let own = std::env::current_exe().unwrap();
    let profile = dir.path().join("profile");
    let mut command = match counts_instructions {
        true => {
            let mut valgrind = Command::new("valgrind");
            valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", profile.display())).arg(own);
            valgrind
        }
        false => Command::new(own),
    };
    command.args(["--path", path, "--times", &times.to_string(), "--folder", dir.path().to_str().unwrap()]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{path}: {errors}");
    let instructions = counts_instructions.then(|| instructions(&std::fs::read_to_string(profile).unwrap()) as f64);
    (said.trim().parse().unwrap(), instructions)
}

/// What is different in each process: entropy is gathered from jitter, and the clock is calibrated, once.
const CHANCE: [&str; 4] = ["jitterentropy", "quanta", "clock_gettime", "OnceCell"];

/// The instructions in a profile of callgrind's, but for what chance makes different.
fn instructions(profile: &str) -> u64 {
    // A name is written out once, and is a number from then on.
    let mut is_chance: HashMap<(bool, &str), bool> = HashMap::new();
    let mut look = |is_function: bool, name| -> bool {
        let (number, name): (&str, &str) = str::split_once(name, ") ").unwrap_or((name, ""));
        let number = number.trim_end_matches(')');
        if !name.is_empty() {
            is_chance.insert((is_function, number), CHANCE.iter().any(|chance| name.contains(chance)));
        }
        is_chance.get(&(is_function, number)).copied().unwrap_or(false)
    };
    let (mut file, mut function, mut sum) = (false, false, 0);
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        match line.split_once('=') {
            Some(("fl" | "fi" | "fe", name)) => file = look(false, name),
            Some(("fn", name)) => function = look(true, name),
            Some(("cfi" | "cfl", name)) => drop(look(false, name)),
            Some(("cfn", name)) => drop(look(true, name)),
            // Behind it stands what the called function took, which is counted there.
            Some(("calls", _)) => drop(lines.next()),
            None if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) && !(file || function) => {
                sum += line.split(' ').nth(1).map_or(0, |cost| cost.parse::<u64>().unwrap());
            }
            _ => {}
        }
    }
    sum
}

async fn compare(is_new: bool) {
    let has_valgrind = Command::new("valgrind").arg("--version").output().is_ok();
    if !has_valgrind {
        println!("there is no valgrind here, so instructions are not counted");
    }
    let (template, given) = prepare().await;
    let baseline: BTreeMap<String, Cost> = match std::fs::read(BASELINE) {
        Ok(text) => serde_json::from_slice(&text).unwrap(),
        Err(_) if is_new => BTreeMap::new(),
        Err(error) => panic!("{BASELINE}: {error}; make it with --write"),
    };
    let (mut costs, mut rows, mut worse) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (path, times) in PATHS {
        let each = |counts: bool| {
            let [once, twice] = [1, 2].map(|factor| walked(template.path(), &given, path, factor * times, counts));
            let per = |once: f64, twice: f64| (twice - once) / times as f64;
            (per(once.0, twice.0), once.1.zip(twice.1).map(|(once, twice)| per(once, twice)))
        };
        let allocations = each(false).0;
        let instructions = if has_valgrind { each(true).1 } else { None };
        let known = baseline.get(path);
        let mut told = |name: &str, now: f64, known: Option<f64>| match known {
            None => (format!("{now:.0}"), String::new()),
            Some(known) => {
                // One more of a few is more than a tenth, and still the same.
                if now > known * (1.0 + TOLERANCE) + 0.5 {
                    worse.push(format!("{path}: {now:.0} {name} instead of {known:.0}"));
                }
                (format!("{now:.0}"), format!("{:+.1} %", (now / known.max(0.5) - 1.0) * 100.0))
            }
        };
        let (allocated, allocated_change) = told("allocations", allocations, known.map(|known| known.allocations));
        let (took, took_change) =
            instructions.map(|now| told("instructions", now, known.and_then(|known| known.instructions))).unwrap_or_default();
        rows.push(vec![shown(path), allocated, allocated_change, took, took_change]);
        costs.insert(path, Cost { allocations, instructions });
    }
    table(&["", "Allocations", "since the baseline", "Instructions", "since the baseline"], &rows);
    if is_new {
        let rounded =
            |cost: Cost| Cost { allocations: (cost.allocations * 10.0).round() / 10.0, instructions: cost.instructions.map(f64::round) };
        let costs: BTreeMap<_, _> = costs.into_iter().map(|(path, cost)| (path, rounded(cost))).collect();
        std::fs::write(BASELINE, serde_json::to_string_pretty(&costs).unwrap() + "\n").unwrap();
    } else if !worse.is_empty() {
        println!("worse than the baseline by more than a tenth:\n{}", worse.join("\n"));
        // What ends a process at once leaves its folders.
        drop(template);
        std::process::exit(1);
    }
}
