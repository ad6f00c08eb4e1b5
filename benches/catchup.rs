//! Catching up: `cargo bench --bench catchup`.
//!
//! One agent's socket resumes at the beginning of a dialog with 200,000 events and reads them all. Beside it, on the same core:
//! the store's own reads of the same events without a session, and a process that writes as many bytes from memory into a
//! socket. Then a thousand agents' sockets resume at once, each in a dialog of its own, while somebody publishes at a steady
//! rate; what counts is how long its acks take, with them and without. Every number is checked to come once and in order.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{
    Cpu, Gateway, Opened, Setup, Socket, Spread, Words, median, micros_each, open_conversations, own, publish_in_turns, publish_request,
    read_sequences, run, table,
};
use tieline::store::sqlite::SqliteStore;
use tieline::store::{Range, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

/// Publishes a second while many resume.
const RATE: usize = 500;
/// How long is published before many resume.
const CALM: Duration = Duration::from_secs(4);
/// Events in one read of the log, as many as a session reads.
const READ: usize = 100;
/// Bytes in one write of the process that only writes.
const WRITE: usize = 256 * 1024;

fn main() {
    let words = Words::read();
    if let Some(folder) = words.after("--read") {
        return run(read_alone(Path::new(folder), words.after("--dialog").unwrap().to_owned()));
    }
    if let Some(address) = words.after("--write") {
        return run(write_alone(address, words.number("--bytes", 0)));
    }
    let rounds = words.number("--rounds", 3);
    run(async move {
        one(rounds, words.number("--events", 200_000)).await;
        many(rounds, words.number("--subscribers", 1_000), words.number("--history", 200)).await;
    });
}

/// The store's reads, without a session; prints its CPU nanoseconds.
async fn read_alone(folder: &Path, dialog: String) {
    let store = SqliteStore::open(folder, tieline::wall_clock(), Box::new(|_| {})).unwrap();
    let cpu = Cpu::of(std::process::id());
    let mut next = 0;
    loop {
        let events = store.events(dialog.as_str().into(), Range::Forward { from: next, to: u64::MAX, limit: READ }).await.unwrap();
        let Some(last) = events.last().and_then(|sight| sight.message()) else { break };
        next = last.sequence + 1;
    }
    println!("{} {next}", cpu.used().as_nanos());
    store.close().await;
}

/// Writes so many bytes to an address; prints its CPU nanoseconds.
async fn write_alone(address: &str, bytes: usize) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (block, cpu) = (vec![b'x'; WRITE], Cpu::of(std::process::id()));
    let mut left = bytes;
    while left > 0 {
        let some = left.min(WRITE);
        stream.write_all(&block[..some]).await.unwrap();
        left -= some;
    }
    println!("{} {bytes}", cpu.used().as_nanos());
}

/// What such a process says.
async fn say(words: &[&str]) -> (Duration, usize) {
    let child = tokio::process::Command::from(own(words)).stdout(Stdio::piped()).spawn().unwrap();
    let said = String::from_utf8(child.wait_with_output().await.unwrap().stdout).unwrap();
    let (nanos, count) = said.trim().split_once(' ').unwrap_or_else(|| panic!("{words:?} said {said:?}"));
    (Duration::from_nanos(nanos.parse().unwrap()), count.parse().unwrap())
}

fn subscribe(conversation: &str) -> String {
    json!({"kind": "req", "id": "1", "type": "ms.SubscribeMessagingEvents", "body": {"dialogId": conversation, "fromSeq": 0}}).to_string()
}

/// Resumes from the beginning, and reads on until so many events came, each once and in order; the bytes of all frames.
async fn resume(socket: &mut Socket, conversation: &str, count: usize) -> usize {
    let reply: Value = socket.ask(&subscribe(conversation)).await;
    assert_eq!(reply["body"]["headSeq"], count as u64 - 1);
    let (mut next, mut bytes) = (0, 0);
    while next < count as u64 {
        let frame = socket.next().await;
        bytes += frame.len();
        read_sequences(frame, |sequence| {
            assert_eq!(sequence, next, "an event is missing, or came twice");
            next += 1;
        });
    }
    bytes
}

async fn one(rounds: usize, events: usize) {
    let mut gateway = Gateway::start(&Setup { agents: 1, ..Setup::default() }).await;
    let opened = open_conversations(&gateway, "long", 1).await;
    publish_in_turns(&gateway, &opened, 0..events).await;
    let dialog = opened[0].id.clone();
    let [mut tieline, mut read, mut write, mut rates] = [(); 4].map(|()| Vec::new());
    println!("{events} events to one subscriber");
    for round in 1..=rounds {
        // What was published last is no longer in memory.
        gateway.stop();
        let (cpu, count) = say(&["--read", gateway.data().to_str().unwrap(), "--dialog", &dialog]).await;
        assert_eq!(count, events);
        read.push(micros_each(cpu, events));
        gateway.start_again().await;
        let mut socket = Socket::agent(&gateway, &gateway.agent_token(0)).await;
        let (cpu, began) = (Cpu::of(gateway.pid()), Instant::now());
        let bytes = resume(&mut socket, &dialog, events).await;
        let took = began.elapsed();
        tieline.push(micros_each(cpu.used(), events));
        rates.push(events as f64 / took.as_secs_f64());
        write.push(micros_each(take(bytes).await, events));
        let last = round - 1;
        println!(
            "round {round}: {:.2} us an event, {:.0}/s, {} bytes each; reading alone {:.2} us, writing alone {:.2} us",
            tieline[last],
            rates[last],
            bytes / events,
            read[last],
            write[last]
        );
    }
    let limit = median(&read) + median(&write);
    let row = |name: &str, all: &[f64], rate: String| {
        vec![name.into(), format!("{:.2} us", median(all)), format!("{:.2} x", median(all) / limit), rate]
    };
    let rows = [
        row("the store's reads, without a session", &read, String::new()),
        row("as many bytes written to a socket", &write, String::new()),
        vec!["both: the limit".into(), format!("{limit:.2} us"), "1.00 x".into(), format!("{:.0}", 1e6 / limit)],
        row("Tieline", &tieline, format!("{:.0}", median(&rates))),
    ];
    table(&["", "CPU for each event", "of the limit", "Events a second"], &rows);
}

/// Takes so many bytes from a process that only writes; its CPU.
async fn take(bytes: usize) -> Duration {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let taking = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut block, mut taken) = (vec![0; WRITE], 0);
        while let Ok(some @ 1..) = stream.read(&mut block).await {
            taken += some;
        }
        taken
    });
    let (cpu, _) = say(&["--write", &address, "--bytes", &bytes.to_string()]).await;
    assert_eq!(taking.await.unwrap(), bytes);
    cpu
}

/// Publishes at a steady rate, from a number on, until told to stop. Of each: when it was due, and how long after that its ack came, in ms.
///
/// On a thread of its own, so that what the subscribers read does not keep it waiting.
fn publish_steadily(
    gateway: &Gateway,
    opened: Opened,
    begins: usize,
    mut stop: oneshot::Receiver<()>,
) -> std::thread::JoinHandle<Vec<(Instant, f64)>> {
    let (address, app) = (gateway.address, gateway.app_token());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let path = format!("/ws_api/account/{}/messaging/connector?v=3", support::ACCOUNT);
            let mut socket = Socket::connect(address, &path, &[("authorization", &app)]).await;
            let (mut due, mut times) = (Instant::now(), Vec::new());
            while stop.try_recv().is_err() {
                tokio::time::sleep_until(due.into()).await;
                socket.send(&publish_request(&opened.id, &format!("{}-", times.len()), Some(&opened.jws))).await;
                read_sequences(socket.next().await, |sequence| {
                    assert_eq!(sequence, (begins + times.len()) as u64);
                    times.push((due, due.elapsed().as_secs_f64() * 1e3));
                });
                due += Duration::from_secs(1) / RATE as u32;
            }
            times
        })
    })
}

async fn many(rounds: usize, subscribers: usize, history: usize) {
    let [mut calm50, mut calm99, mut storm50, mut storm99, mut rates] = [(); 5].map(|()| Vec::new());
    println!("{subscribers} subscribers resume at once, {history} events each, beside {RATE} publishes a second");
    let mut gateway = Gateway::start(&Setup { agents: 1, ..Setup::default() }).await;
    let opened = open_conversations(&gateway, "many", subscribers).await;
    publish_in_turns(&gateway, &opened, 0..history).await;
    let steady = open_conversations(&gateway, "steady", 1).await.remove(0);
    let mut published = 0;
    for round in 1..=rounds {
        gateway.stop();
        gateway.start_again().await;
        let bearer = gateway.agent_token(0);
        let mut sockets = Vec::with_capacity(subscribers);
        for _ in 0..subscribers {
            sockets.push(Socket::agent(&gateway, &bearer).await);
        }
        let (stop, stopped) = oneshot::channel();
        let publishing = publish_steadily(&gateway, steady.clone(), published, stopped);
        // Connecting and the first publishes make both sides warm.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let calm = Instant::now();
        tokio::time::sleep(CALM).await;
        let storm = Instant::now();
        let mut resuming = tokio::task::JoinSet::new();
        for (mut socket, one) in sockets.into_iter().zip(opened.clone()) {
            resuming.spawn(async move { resume(&mut socket, &one.id, history).await });
        }
        while let Some(done) = resuming.join_next().await {
            done.unwrap();
        }
        let over = Instant::now();
        stop.send(()).unwrap();
        let times = publishing.join().unwrap();
        published += times.len();
        let within = |from: Instant, to: Instant| {
            Spread::of(times.iter().filter(|(due, _)| *due >= from && *due < to).map(|(_, time)| *time).collect())
        };
        let (before, during) = (within(calm, storm), within(storm, over));
        calm50.push(before.at(0.5));
        calm99.push(before.at(0.99));
        storm50.push(during.at(0.5));
        storm99.push(during.at(0.99));
        rates.push((subscribers * history) as f64 / (over - storm).as_secs_f64());
        println!(
            "round {round}: acks before {:.2} / {:.2} ms, during {:.2} / {:.2} ms; caught up in {:.2} s",
            before.at(0.5),
            before.at(0.99),
            during.at(0.5),
            during.at(0.99),
            (over - storm).as_secs_f64()
        );
    }
    let row = |name: &str, p50: &[f64], p99: &[f64], rate: String| {
        vec![name.into(), format!("{:.2} / {:.2} ms", median(p50), median(p99)), format!("{:.1} x", median(p99) / median(&calm99)), rate]
    };
    let rows = [
        row("a publisher alone", &calm50, &calm99, String::new()),
        row(&format!("while {subscribers} catch up"), &storm50, &storm99, format!("{:.0}", median(&rates))),
    ];
    table(&["", "Ack, p50 / p99", "p99", "Events a second to those who catch up"], &rows);
}
