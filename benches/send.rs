//! SEND against what is left of it without a gateway: `cargo bench --bench send`.
//!
//! 64 connections that are kept publish messages, one request of each at a time, with an AppJWT and a ConsumerJWS. Beside it
//! stand servers of the same requests, of replies of the same size, on the same core: one that only answers (hyper), and one
//! that has each body on disk before it answers, many with one sync, as the gateway does; and a third, which also checks the
//! signature of each ConsumerJWS. None knows conversations, numbers or subscribers. What counts is the CPU of the server for each
//! message.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

mod support;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use support::{
    ACCOUNT, Cpu, Gateway, Http, Opened, Setup, Spread, Words, median, micros_each, open_conversations, own, publish_text, request, run,
    table,
};
use tokio::sync::oneshot;

const CONNECTIONS: usize = 64;
/// Messages of each conversation behind the first of a round, where there are many.
const LATER: usize = 8;
/// Messages of each connection with which a server that has just started is made warm.
const WARM: usize = 8;

fn main() {
    let words = Words::read();
    if let Some(kind) = words.after("--limit") {
        return limit(kind, words.after("--folder").unwrap());
    }
    run(compare(words.number("--rounds", 3), words.number("--conversations", 4_096)));
}

/// A server that shows a limit: `answer`, `append`, or `verify`, which also checks a signature. It says where it listens, and serves
/// until it is killed.
fn limit(kind: &str, folder: &str) {
    let disk = (kind != "answer").then(|| Disk::start(folder));
    let keys = (kind == "verify").then(|| Arc::new(Keys::read(folder)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (disk, keys) = (disk.clone(), keys.clone());
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (disk, keys) = (disk.clone(), keys.clone());
                async move {
                    if let Some(keys) = keys {
                        keys.check(request.headers()["x-lp-on-behalf"].to_str().unwrap());
                    }
                    let body = axum::body::to_bytes(axum::body::Body::new(request.into_body()), 1 << 20).await.unwrap();
                    if let Some(disk) = &disk {
                        disk.append(body.to_vec()).await;
                    }
                    let reply = axum::body::Body::from(r#"{"code":"OK","body":{"sequence":0},"reqId":"1"}"#);
                    Ok::<_, std::convert::Infallible>(
                        hyper::Response::builder().header("content-type", "application/json").body(reply).unwrap(),
                    )
                }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
}

/// The public halves of a gateway's keys.
struct Keys(HashMap<String, DecodingKey>);

impl Keys {
    const FILE: &str = "keys.json";

    fn read(folder: &str) -> Self {
        let text = std::fs::read(std::path::Path::new(folder).join(Self::FILE)).unwrap();
        let set: JwkSet = serde_json::from_slice(&text).unwrap();
        Self(set.keys.iter().map(|key| (key.common.key_id.clone().unwrap(), DecodingKey::from_jwk(key).unwrap())).collect())
    }

    fn check(&self, token: &str) {
        let key = &self.0[&jsonwebtoken::decode_header(token).unwrap().kid.unwrap()];
        let mut validation = Validation::new(Algorithm::RS256);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        jsonwebtoken::decode::<Value>(token, key, &validation).unwrap();
    }
}

/// A file that grows, with one sync for all that wait.
#[derive(Clone)]
struct Disk(mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>);

impl Disk {
    fn start(folder: &str) -> Self {
        use std::io::Write;
        let (send, waiting) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>();
        let mut file = std::fs::File::create(std::path::Path::new(folder).join("log")).unwrap();
        std::thread::spawn(move || {
            while let Ok(first) = waiting.recv() {
                let all: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
                let bytes: Vec<u8> = all.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
                file.write_all(&bytes).unwrap();
                file.sync_data().unwrap();
                for (_, done) in all {
                    let _ = done.send(());
                }
            }
        });
        Self(send)
    }

    async fn append(&self, bytes: Vec<u8>) {
        let (done, is_done) = oneshot::channel();
        self.0.send((bytes, done)).unwrap();
        is_done.await.unwrap();
    }
}

/// Such a server, running.
struct Limit {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Limit {
    fn start(kind: &str, keys: &[u8]) -> Self {
        use std::io::BufRead;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(Keys::FILE), keys).unwrap();
        let mut child = own(&["--limit", kind, "--folder", dir.path().to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap(), _dir: dir }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one part of a round came to.
#[derive(Default)]
struct Cost {
    micros: Vec<f64>,
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Cost {
    fn take(&mut self, cpu: Duration, took: Duration, times: Vec<f64>) {
        let count = times.len();
        let times = Spread::of(times);
        self.micros.push(micros_each(cpu, count));
        self.rate.push(count as f64 / took.as_secs_f64());
        self.p50.push(times.at(0.5));
        self.p99.push(times.at(0.99));
    }

    fn row(&self, name: &str, limit: f64) -> Vec<String> {
        let micros = median(&self.micros);
        vec![
            name.into(),
            format!("{micros:.1} us"),
            format!("{:.2} x", micros / limit),
            format!("{:.0}", median(&self.rate)),
            format!("{:.1} / {:.1} ms", median(&self.p50), median(&self.p99)),
        ]
    }
}

/// A request, and the reply that it must have.
type Asked = (Vec<u8>, String);

/// Sends requests over all connections, each connection its own in order; milliseconds to each reply.
async fn drive(address: SocketAddr, asked: Vec<Vec<Asked>>) -> Vec<f64> {
    let mut driving = tokio::task::JoinSet::new();
    for asked in asked {
        driving.spawn(async move {
            let mut http = Http::connect(address).await;
            let mut times = Vec::with_capacity(asked.len());
            for (request, expected) in &asked {
                let began = Instant::now();
                let (status, body) = http.call(request).await;
                times.push(began.elapsed().as_secs_f64() * 1e3);
                assert!(status == 200 && body == expected.as_bytes(), "{status} {} instead of {expected}", String::from_utf8_lossy(body));
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(done) = driving.join_next().await {
        times.extend(done.unwrap());
    }
    times
}

fn reply(sequence: usize) -> String {
    format!(r#"{{"code":"OK","body":{{"sequence":{sequence}}},"reqId":"1"}}"#)
}

fn text(conversation: usize, number: usize) -> String {
    publish_text(&format!("{conversation}-{number}-"))
}

/// The messages with these numbers of each of the conversations, spread over the connections.
fn messages(app: &str, opened: &[Opened], numbers: std::ops::Range<usize>, expected: impl Fn(usize) -> String) -> Vec<Vec<Asked>> {
    let mut asked: Vec<Vec<Asked>> = vec![Vec::new(); CONNECTIONS];
    let path = format!("/api/account/{ACCOUNT}/messaging/consumer/conversation/send?v=3");
    for number in numbers {
        for (conversation, one) in opened.iter().enumerate() {
            let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": text(conversation, number)});
            let body = json!({"kind": "req", "id": "1", "type": "ms.PublishEvent", "body": {"dialogId": one.id, "event": event}});
            let request = request(&path, &[("authorization", app), ("x-lp-on-behalf", &one.jws)], &body.to_string());
            asked[conversation % CONNECTIONS].push((request, expected(number)));
        }
    }
    asked
}

/// Everything that was sent stands in its conversation, once and in order.
async fn check(gateway: &Gateway, opened: &[Opened], count: usize) {
    const PAGE: usize = 1_000;
    let app = gateway.app_token();
    let path = format!("/api/account/{ACCOUNT}/messaging/consumer/conversation/send?v=3");
    let mut http = Http::connect(gateway.address).await;
    for (conversation, one) in opened.iter().enumerate() {
        for from in (0..=count).step_by(PAGE) {
            let body = json!({"dialogId": one.id, "newerThanSequence": from, "maxQuantity": PAGE});
            let body = json!({"kind": "req", "id": "1", "type": "ms.QueryMessages", "body": body});
            let request = request(&path, &[("authorization", &app), ("x-lp-on-behalf", &one.jws)], &body.to_string());
            let stored: Value = http.ask(&request).await;
            let stored = stored["body"].as_array().unwrap().iter().map(|change| change["event"]["message"].as_str().unwrap());
            let sent: Vec<String> = (from..count.min(from + PAGE)).map(|number| text(conversation, number)).collect();
            assert!(stored.eq(sent.iter()), "conversation {conversation} from {from} on");
        }
    }
}

/// Runs a part of a round, to the end of what the server does behind its answers.
async fn measure(address: SocketAddr, pid: u32, cost: &mut Cost, asked: Vec<Vec<Asked>>, settled: impl Future<Output = ()>) {
    let (cpu, began) = (Cpu::of(pid), Instant::now());
    let times = drive(address, asked).await;
    let took = began.elapsed();
    settled.await;
    cost.take(cpu.used(), took, times);
}

async fn compare(rounds: usize, conversations: usize) {
    let mut gateway = Gateway::start(&Setup::default()).await;
    let wide = open_conversations(&gateway, "wide", conversations).await;
    let narrow = open_conversations(&gateway, "narrow", CONNECTIONS).await;
    let warm = open_conversations(&gateway, "warm", CONNECTIONS).await;
    let (later, often) = (LATER, LATER * conversations / CONNECTIONS);
    let [mut cold, mut spread, mut first_use, mut issued, mut gathered] = [(); 5].map(|()| Cost::default());
    let [mut answer, mut append, mut verify] = [(); 3].map(|()| Cost::default());
    let keys = Http::connect(gateway.address).await.call(b"GET /.well-known/jwks.json HTTP/1.1\r\nhost: bench\r\n\r\n").await.1.to_vec();
    // Messages in each of many conversations: after a start, later ones, with a token that is not known, with one just asked for.
    let each = 1 + later + 2;
    println!("{conversations} conversations, {CONNECTIONS} connections; CPU us for each message of a round");
    for round in 0..rounds {
        // A gateway that has not seen the tokens.
        gateway.settled().await;
        gateway.stop();
        gateway.start_again().await;
        let (app, address, pid) = (gateway.app_token(), gateway.address, gateway.pid());
        drive(address, messages(&app, &warm, round * WARM..(round + 1) * WARM, reply)).await;
        gateway.settled().await;
        let begins = round * each;
        measure(address, pid, &mut cold, messages(&app, &wide, begins..begins + 1, reply), gateway.settled()).await;
        measure(address, pid, &mut spread, messages(&app, &wide, begins + 1..begins + 1 + later, reply), gateway.settled()).await;
        let [first, second] = [1 + later, 2 + later].map(|number| messages(&app, &wide, begins + number..begins + number + 1, reply));
        gateway.forget_tokens().await;
        measure(address, pid, &mut first_use, first, gateway.settled()).await;
        gateway.forget_tokens().await;
        let mut http = Http::connect(address).await;
        for (number, one) in wide.iter().enumerate() {
            let body = json!({"ext_consumer_id": format!("wide-{number}")}).to_string();
            let path = format!("/api/account/{ACCOUNT}/consumer?v=1.0");
            assert_eq!(http.ask(&request(&path, &[("authorization", &app)], &body)).await["token"], one.jws);
        }
        gateway.settled().await;
        measure(address, pid, &mut issued, second, gateway.settled()).await;
        measure(address, pid, &mut gathered, messages(&app, &narrow, round * often..(round + 1) * often, reply), gateway.settled()).await;
        for (kind, cost) in [("answer", &mut answer), ("append", &mut append), ("verify", &mut verify)] {
            let limit = Limit::start(kind, &keys);
            drive(limit.address, messages(&app, &warm, 0..WARM, |_| reply(0))).await;
            measure(limit.address, limit.child.id(), cost, messages(&app, &wide, 0..later, |_| reply(0)), async {}).await;
        }
        let of = |cost: &Cost| cost.micros[round];
        println!(
            "round {}: {CONNECTIONS} conversations {:.1}, {conversations} conversations {:.1}, a token's first use {:.1}, after it was asked for \
             {:.1}, after a start {:.1}; answer alone {:.1}, append {:.1}, verify {:.1}",
            round + 1,
            of(&gathered),
            of(&spread),
            of(&first_use),
            of(&issued),
            of(&cold),
            of(&answer),
            of(&append),
            of(&verify)
        );
    }
    check(&gateway, &wide, rounds * each).await;
    check(&gateway, &narrow, rounds * often).await;
    let limit = median(&append.micros);
    let rows = [
        answer.row("hyper, the answer alone", limit),
        append.row("hyper, each body synced to disk before its answer: the limit", limit),
        verify.row("the same, and one signature checked", limit),
        gathered.row(&format!("Tieline, in {CONNECTIONS} conversations"), limit),
        spread.row(&format!("Tieline, in {conversations} conversations"), limit),
        issued.row("the first use of a token that was asked for before", limit),
        first_use.row("the first use of a token that is not known", limit),
        cold.row("the same after a start, when the conversation is on disk alone", limit),
    ];
    table(&["", "CPU for each message", "of the limit", "Messages a second", "Reply, p50 / p99"], &rows);
}
