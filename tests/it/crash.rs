//! The process, killed: what was acked is there, once, in order; and that each ack waited for the disk.

use crate::checker::{Attempts, Outcome, Verdict, View, check};
use crate::support::*;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

const ROUNDS: usize = 40;
const CONVERSATIONS: usize = 4;
const PUBLISHERS: usize = 16;

/// A small generator, so that a seed repeats a run's choices.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One publisher: odd ones over HTTP, even ones over a socket. It sends one value at a time and, while it does not
/// know what became of it, sends it again with the same key.
struct Publisher {
    number: usize,
    speaker: Speaker,
    conversation: String,
    stop: Arc<AtomicBool>,
    attempts: Arc<Mutex<Attempts>>,
}

impl Publisher {
    async fn run(self) {
        let mut socket = None;
        for counter in 0_u64.. {
            let value = format!("p{}-{counter}", self.number);
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let outcome = if self.number % 2 == 1 { self.over_http(&value).await } else { self.over_socket(&value, &mut socket).await };
                self.attempts.lock().await.record(&value, outcome);
                if outcome != Outcome::Unknown {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn over_http(&self, value: &str) -> Outcome {
        let headers: Vec<_> = self.speaker.headers().into_iter().chain([("idempotency-key", value)]).collect();
        let path = format!("/api/account/{ACCOUNT}/messaging/consumer/{SEND}?v=3");
        match self.speaker.api.try_call("POST", &path, &headers, publish("1", &self.conversation, value).to_string()).await {
            Ok(reply) if reply.status == 200 => Outcome::Acked(reply.json()["body"]["sequence"].as_u64().unwrap()),
            Ok(reply) if reply.status < 500 => Outcome::Refused,
            Ok(_) | Err(_) => Outcome::Unknown,
        }
    }

    async fn over_socket(&self, value: &str, socket: &mut Option<Ws>) -> Outcome {
        if socket.is_none() {
            let headers = [("authorization", self.speaker.app.as_str()), ("x-lp-on-behalf", self.speaker.jws.as_str())];
            *socket = self.speaker.api.socket(&format!("/ws_api/account/{ACCOUNT}/messaging/consumer?v=3"), &headers).await.ok();
        }
        let Some(open) = socket.as_mut() else { return Outcome::Unknown };
        let mut frame = publish("1", &self.conversation, value);
        frame["headers"] = json!([{"type": "IdempotencyKey", "key": value}]);
        let sent = futures::SinkExt::send(&mut open.socket, tokio_tungstenite::tungstenite::Message::text(frame.to_string())).await;
        let came = if sent.is_ok() { open.come().await } else { Came::Gone };
        match came {
            Came::Frame(answer) if answer["code"] == 200 => Outcome::Acked(answer["body"]["sequence"].as_u64().unwrap()),
            Came::Frame(answer) if answer["code"].as_u64().unwrap() < 500 => Outcome::Refused,
            _ => {
                *socket = None;
                Outcome::Unknown
            }
        }
    }
}

/// Follows a dialog through every restart, resuming behind the last number it saw.
async fn follower(api: Api, bearer: String, conversation: String, until: Arc<Mutex<Option<u64>>>) -> View {
    let mut view = View::new();
    loop {
        let path = format!("/ws_api/account/{ACCOUNT}/messaging/brand/{bearer}?v=3");
        if let Ok(mut socket) = api.socket(&path, &[]).await {
            let from = view.last().map_or(0, |(number, _)| number + 1);
            let subscribed = futures::SinkExt::send(
                &mut socket.socket,
                tokio_tungstenite::tungstenite::Message::text(follow("f", &conversation, from).to_string()),
            );
            let _ = subscribed.await;
            loop {
                if let Some(end) = *until.lock().await
                    && view.len() as u64 >= end
                {
                    return view;
                }
                let Ok(came) = tokio::time::timeout(Duration::from_millis(300), socket.come()).await else { continue };
                let Came::Frame(frame) = came else { break };
                for change in frame["body"]["changes"].as_array().into_iter().flatten() {
                    view.push((change["sequence"].as_u64().unwrap(), change["event"]["message"].as_str().unwrap().to_owned()));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The whole log of a dialog, by pages.
async fn read_log(agent: &mut Ws, conversation: &str) -> View {
    let mut log = View::new();
    loop {
        let page = request("q", "ms.QueryMessages", json!({"dialogId": conversation, "newerThanSequence": log.len(), "maxQuantity": 1000}));
        let answer = agent.ask(&page).await;
        let events = answer["body"].as_array().unwrap();
        if events.is_empty() {
            return log;
        }
        log.extend(
            events.iter().map(|change| (change["sequence"].as_u64().unwrap(), change["event"]["message"].as_str().unwrap().to_owned())),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_survives_being_killed_under_load() {
    let seed: u64 = std::env::var("TIELINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| std::process::id().into());
    println!("crash: seed {seed} (repeat with TIELINE_SEED={seed})");
    let mut dice = Dice(seed | 1);
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut process = TestProcess::start(dir.path(), port, &[]).await;
    let api = process.api();
    let bearer = api.login("ada").await.bearer;
    let mut conversations = Vec::new();
    for place in 0..CONVERSATIONS {
        let speaker = api.speaker(&format!("consumer-{place}")).await;
        conversations.push((speaker.open().await, speaker));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let attempts: Vec<_> = (0..CONVERSATIONS).map(|_| Arc::new(Mutex::new(Attempts::default()))).collect();
    let publishing: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let (conversation, speaker) = conversations[number % CONVERSATIONS].clone();
            let attempts = attempts[number % CONVERSATIONS].clone();
            // Two to each conversation by each transport.
            tokio::spawn(
                Publisher {
                    number: number / CONVERSATIONS + 4 * (number % CONVERSATIONS),
                    speaker,
                    conversation,
                    stop: stop.clone(),
                    attempts,
                }
                .run(),
            )
        })
        .collect();
    let ends: Vec<_> = (0..CONVERSATIONS).map(|_| Arc::new(Mutex::new(None))).collect();
    let following: Vec<_> = conversations
        .iter()
        .zip(&ends)
        .map(|((conversation, _), end)| tokio::spawn(follower(api.clone(), bearer.clone(), conversation.clone(), end.clone())))
        .collect();
    let mut slowest_start = Duration::ZERO;
    for _ in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(200 + dice.throw(600))).await;
        process.kill();
        let began = Instant::now();
        process = TestProcess::start(dir.path(), port, &[]).await;
        slowest_start = slowest_start.max(began.elapsed());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    futures::future::join_all(publishing).await;
    let mut agent = process.api().agent("ada", "3").await;
    let (mut all, mut acked, mut unknown, mut stored) = (Verdict::default(), 0, 0, 0);
    let mut logs = Vec::new();
    for ((conversation, _), end) in conversations.iter().zip(&ends) {
        let log = read_log(&mut agent, conversation).await;
        *end.lock().await = Some(log.len() as u64);
        stored += log.len();
        logs.push(log);
    }
    let views = tokio::time::timeout(SOON, futures::future::join_all(following)).await.expect("the followers catch up");
    for ((attempts, log), view) in attempts.iter().zip(&logs).zip(views) {
        let attempts = attempts.lock().await;
        acked += attempts.acked();
        unknown += attempts.unknown();
        let verdict = check(&attempts, log, &[view.unwrap()]);
        all.lost += verdict.lost;
        all.unexpected += verdict.unexpected;
        all.repeated += verdict.repeated;
        all.out_of_order += verdict.out_of_order;
        all.holes += verdict.holes;
        all.divergent += verdict.divergent;
    }
    println!("crash: {ROUNDS} rounds, {acked} acked, {stored} stored, {unknown} never known, slowest start {slowest_start:?}: {all:?}");
    assert_eq!(all, Verdict::default());
    assert!(acked > 100, "the load was real: {acked}");
}

/// Whether a tool is there; a suite without it says so and is skipped.
pub fn has(tool: &str) -> bool {
    Command::new(tool).arg("-V").output().is_ok_and(|output| output.status.success())
}

/// One traced system call: when it began and ended, and what it was.
struct Call {
    began: f64,
    ended: f64,
    text: String,
}

fn traced(file: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut unfinished: std::collections::HashMap<&str, (f64, String)> = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        // The process's number is padded.
        let Some((pid, line)) = line.split_once(' ') else { continue };
        let Some((time, rest)) = line.trim_start().split_once(' ') else { continue };
        let Ok(time) = time.parse::<f64>() else { continue };
        if rest.ends_with("<unfinished ...>") {
            unfinished.insert(pid, (time, rest.to_owned()));
            continue;
        }
        let (began, begun) =
            if rest.starts_with("<...") { unfinished.remove(pid).unwrap_or((time, String::new())) } else { (time, String::new()) };
        let took = rest.rsplit_once('<').and_then(|(_, took)| took.trim_end_matches('>').parse::<f64>().ok()).unwrap_or(0.0);
        // A call that was interrupted by another thread's line ends where it is resumed.
        let ended = if begun.is_empty() { began + took } else { time };
        calls.push(Call { began, ended, text: format!("{begun} {rest}") });
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_ack_waits_for_a_sync_and_many_share_one() {
    if !has("strace") {
        println!("SKIPPED each_ack_waits_for_a_sync_and_many_share_one: strace is not installed");
        return;
    }
    const SERIAL: usize = 200;
    const PIPELINED: usize = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let calls = "trace=fsync,fdatasync,sendto,sendmsg,write,writev,recvfrom,read";
    let strace = ["strace", "-D", "-f", "-ttt", "-T", "-s", "256", "-e", calls, "-o", trace.to_str().unwrap()];
    let process = TestProcess::start(dir.path(), free_port(), &strace).await;
    let ann = process.api().speaker("ann").await;
    let id = ann.open().await;
    let mut socket = ann.consumer_socket().await;
    for number in 0..SERIAL {
        let answer = socket.ask(&publish(&format!("serial-{number}"), &id, "x")).await;
        assert_eq!(answer["code"], 200);
    }
    for number in 0..PIPELINED {
        socket.send(&publish(&format!("piped-{number}"), &id, "x")).await;
    }
    socket.response(&format!("piped-{}", PIPELINED - 1)).await;
    let calls = end_traced(process, &trace).await;
    let is_sync = |call: &&Call| (call.text.contains("fdatasync(") || call.text.contains("fsync(")) && call.text.contains("= 0");
    let syncs: Vec<&Call> = calls.iter().filter(is_sync).collect();
    let sends: Vec<&Call> = calls
        .iter()
        .filter(|call| call.text.contains("resp") && !call.text.contains("read(") && !call.text.contains("recvfrom("))
        .collect();
    let mut asked = 0.0;
    let mut last_send = None;
    for number in 0..SERIAL {
        let ack = format!("serial-{number}\\\"");
        let send = sends.iter().find(|call| call.text.contains(&ack)).unwrap_or_else(|| panic!("no write of the ack of {number}"));
        // A sync began after the last ack, hence after this request, and ended before this ack was written.
        let synced = syncs.iter().any(|sync| sync.began >= asked && sync.ended <= send.began + 0.000_001);
        assert!(synced, "no sync between the request and the ack of {number}");
        asked = send.began;
        last_send = Some(send.began);
    }
    let shared = syncs.iter().filter(|sync| Some(sync.began) > last_send).count();
    println!("syncs: {SERIAL} serial publishes each behind a sync; {PIPELINED} pipelined ones with {shared} syncs");
    assert!(shared > 0 && shared * 4 < PIPELINED, "{shared} syncs for {PIPELINED} pipelined publishes");
}

/// Ends a process in good order that runs under strace; what it called. With `-D` it is our child and strace is not, so that
/// no gateway is left when a test fails: it would hold open what the test writes to, and whoever reads that would wait for ever.
async fn end_traced(mut process: TestProcess, trace: &Path) -> Vec<Call> {
    let (pid, status) = tokio::task::spawn_blocking(move || (process.pid(), process.end("TERM"))).await.unwrap();
    assert!(status.success(), "{status}");
    let is_end = |line: &str| line.starts_with(&format!("{pid} ")) && line.contains(" +++ exited with ");
    until("the trace is written to its end", async || std::fs::read_to_string(trace).unwrap().lines().any(is_end)).await;
    traced(trace)
}

/// What a killed process wrote may be in memory alone, and a power cut may still come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_a_kill_has_on_disk_what_it_found_before_anything_of_it_goes() {
    if !has("strace") {
        println!("SKIPPED a_start_after_a_kill_has_on_disk_what_it_found_before_anything_of_it_goes: strace is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (port, trace) = (free_port(), dir.path().join("trace"));
    let mut process = TestProcess::start(dir.path(), port, &[]).await;
    let ann = process.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "before").await;
    // So that it is in the database, where no sync was asked for yet.
    until("it is carried over", async || process.api().get("/metrics").await.text.contains("\ntieline_store_unprojected 0\n")).await;
    process.kill();
    let calls = "trace=fsync,fdatasync,ftruncate,pwrite64,listen";
    let strace = ["strace", "-D", "-f", "-y", "-ttt", "-T", "-s", "16", "-e", calls, "-o", trace.to_str().unwrap()];
    let process = TestProcess::start(dir.path(), port, &strace).await;
    ann.say(&id, "after").await;
    let goes = |text: &str| text.starts_with("ftruncate(") && text.contains("tieline.tail-0");
    // Whenever that is: the file may have been written again by now, and what went too early is to be found below.
    until("what was found goes", async || traced(&trace).iter().any(|call| goes(call.text.trim_start()))).await;
    let calls = end_traced(process, &trace).await;
    let first = |what: &dyn Fn(&str) -> bool| calls.iter().find(|call| what(call.text.trim_start()) && !call.text.contains("= -1"));
    let is_sync = |text: &str, file: &str| text.contains("sync(") && text.contains(file);
    let listens = first(&|text| text.starts_with("listen(")).expect("it listens");
    let tail = first(&|text| is_sync(text, "tieline.tail-0")).expect("the tail is synced");
    assert!(tail.ended <= listens.began, "what was found is on disk before anybody is answered");
    let log = first(&|text| is_sync(text, "tieline.db-wal")).expect("the database's log is synced");
    let goes = first(&goes).expect("what was found goes");
    assert!(log.ended <= goes.began, "what was found went before it was in the database, on disk");
    let again = |text: &str| text.starts_with("pwrite64(") && text.contains("tieline.tail-0") && text.contains(", 0) = ");
    let again = calls.iter().filter(|call| call.began > listens.began).find(|call| again(call.text.trim_start()));
    assert!(again.is_none_or(|again| goes.ended <= again.began), "nothing is written over it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_the_end_of_writing_and_of_the_process() {
    if !has("strace") {
        println!("SKIPPED a_failed_sync_is_the_end_of_writing_and_of_the_process: strace is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    // The first start makes the keys, on a disk that is well.
    let mut process = TestProcess::start(dir.path(), port, &[]).await;
    let ann = process.api().speaker("ann").await;
    let id = ann.open().await;
    process.kill();
    let fails = "inject=fsync,fdatasync:error=EIO:when=60+";
    let strace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", fails];
    let mut process = TestProcess::start(dir.path(), port, &strace).await;
    let mut acked = 0_u64;
    // Until one is not acked, one at a time: from then on none may be.
    loop {
        match ann.try_say(&id, &format!("n{acked}")).await {
            Outcome::Acked(sequence) => assert_eq!(sequence, acked),
            Outcome::Unknown => break,
            Outcome::Refused => panic!("a failed sync is no refusal: what is on disk is not known"),
        }
        acked += 1;
        assert!(acked < 200, "no sync fails");
    }
    for number in 0..5 {
        assert_eq!(ann.try_say(&id, &format!("late{number}")).await, Outcome::Unknown, "no ack after the first failed sync");
    }
    let status = tokio::task::spawn_blocking(move || process.status()).await.unwrap();
    assert_eq!(status.code(), Some(1), "a supervisor starts it again");
    let process = TestProcess::start(dir.path(), port, &[]).await;
    let mut agent = process.api().agent("ada", "3").await;
    let log = read_log(&mut agent, &id).await;
    assert!(log.len() as u64 >= acked && log.iter().enumerate().all(|(place, (number, _))| *number == place as u64));
    println!("crash: a failed sync after {acked} acks: 0 acked behind it, all {acked} there after the next start");
}

impl Speaker {
    /// Publishes, and says what became of it.
    async fn try_say(&self, conversation: &str, text: &str) -> Outcome {
        let path = format!("/api/account/{ACCOUNT}/messaging/consumer/{SEND}?v=3");
        match self.api.try_call("POST", &path, &self.headers(), publish("1", conversation, text).to_string()).await {
            Ok(reply) if reply.status == 200 => Outcome::Acked(reply.json()["body"]["sequence"].as_u64().unwrap()),
            Ok(reply) if reply.status < 500 => Outcome::Refused,
            Ok(_) | Err(_) => Outcome::Unknown,
        }
    }
}
