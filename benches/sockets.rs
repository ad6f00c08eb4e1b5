//! Many real sockets: `cargo bench --bench sockets`.
//!
//! 19,000 consumers' sockets, three in five of which follow their own conversation, while 2,000 messages a second are published
//! into those. What counts is what a socket costs in memory, and that latency is the same at the end as at the beginning.
//! Both processes need a descriptor for each socket: `-- --sockets 900` for those who may not have so many.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

mod support;

use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{
    Cpu, Gateway, Memory, Setup, Socket, Spread, Words, micros_each, open_conversations, publish_request, read_sequences, run, table,
};

/// Of how many sockets how many follow.
const FOLLOWING: (usize, usize) = (5, 3);
/// Slices of the time for which latency is told.
const SLICES: usize = 6;
/// Sockets that are opened side by side.
const OPENING: usize = 32;

fn main() {
    let words = Words::read();
    run(compare(words.number("--sockets", 19_000), words.number("--rate", 2_000), words.number("--seconds", 60)));
}

async fn compare(count: usize, rate: usize, seconds: usize) {
    let following = count / FOLLOWING.0 * FOLLOWING.1;
    // More sockets come from one address than the shipped configuration allows beside the publisher's.
    let settings = "[limits]\nconnections_per_address = 100000".to_owned();
    let gateway = Gateway::start(&Setup { settings, ..Setup::default() }).await;
    let opened = open_conversations(&gateway, "consumer", following).await;
    gateway.settled().await;
    let app = gateway.app_token();
    let before = Memory::of(gateway.pid());
    let (mut sockets, mut opening) = (Vec::with_capacity(count), tokio::task::JoinSet::new());
    let address = gateway.address;
    for number in 0..count {
        let jws = opened.get(number).map_or_else(|| gateway.consumer_token(&format!("idle-{number}")), |one| one.jws.clone());
        let (app, conversation) = (app.clone(), opened.get(number).map(|one| one.id.clone()));
        if opening.len() == OPENING {
            sockets.push(opening.join_next().await.unwrap().unwrap());
        }
        opening.spawn(async move {
            let path = format!("/ws_api/account/{}/messaging/consumer?v=3", support::ACCOUNT);
            let mut socket = Socket::connect(address, &path, &[("authorization", &app), ("x-lp-on-behalf", &jws)]).await;
            if let Some(conversation) = conversation {
                let body = json!({"dialogId": conversation, "fromSeq": 0});
                socket.ask(&json!({"kind": "req", "id": "1", "type": "ms.SubscribeMessagingEvents", "body": body}).to_string()).await;
                assert!(memchr::memmem::find(socket.next().await, b"\"changes\":[]").is_some(), "something was there already");
                return (socket, Some(number));
            }
            (socket, None)
        });
    }
    sockets.extend(opening.join_all().await);
    let joined = Memory::of(gateway.pid());
    let each = |memory: Memory| (memory.anonymous.saturating_sub(before.anonymous)) as f64 / count as f64;
    println!("{count} sockets, {following} of which follow: {:.1} KiB each", each(joined));

    let total = rate * seconds;
    let heard: Arc<Mutex<Vec<Option<Instant>>>> = Arc::new(Mutex::new(vec![None; total]));
    let mut hearing = tokio::task::JoinSet::new();
    let mut resting = Vec::new();
    for (mut socket, number) in sockets {
        let Some(number) = number else {
            resting.push(socket);
            continue;
        };
        let heard = heard.clone();
        let expected = (total + following - 1 - number) / following;
        hearing.spawn(async move {
            for next in 0..expected {
                read_sequences(socket.next().await, |sequence| assert_eq!(sequence, next as u64, "an event is missing, or came twice"));
                heard.lock().unwrap()[next * following + number] = Some(Instant::now());
            }
            socket
        });
    }
    // Those who only rest answer pings, and hear nothing.
    let mut quiet = tokio::task::JoinSet::new();
    for mut socket in resting {
        quiet.spawn(async move { String::from_utf8_lossy(socket.next().await).into_owned() });
    }
    let mut socket = Socket::connector(&gateway).await;
    let writer = socket.writer();
    let (cpu, begin) = (Cpu::of(gateway.pid()), Instant::now() + Duration::from_millis(100));
    let due = move |number: usize| begin + Duration::from_secs(1) * number as u32 / rate as u32;
    let asking = tokio::spawn(async move {
        for number in 0..total {
            tokio::time::sleep_until(due(number).into()).await;
            let one = &opened[number % opened.len()];
            writer.send(&publish_request(&one.id, &format!("{number}-"), Some(&one.jws))).await;
        }
    });
    for number in 0..total {
        read_sequences(socket.next().await, |sequence| assert_eq!(sequence as usize, number / following, "an ack out of order"));
    }
    asking.await.unwrap();
    let listening = hearing.join_all().await;
    let used = micros_each(cpu.used(), total);
    assert!(quiet.try_join_next().is_none(), "somebody heard what was not theirs");
    let after = Memory::of(gateway.pid());
    let heard = heard.lock().unwrap();
    let times: Vec<f64> =
        heard.iter().enumerate().map(|(number, at)| at.unwrap().saturating_duration_since(due(number)).as_secs_f64() * 1e3).collect();
    let slice = total.div_ceil(SLICES);
    let mut rows = Vec::new();
    for (place, some) in times.chunks(slice).enumerate() {
        let (from, some) = (place * slice / rate, Spread::of(some.to_vec()));
        rows.push(vec![format!("from {from} s on"), format!("{:.1} ms", some.at(0.5)), format!("{:.1} ms", some.at(0.99))]);
    }
    println!("{rate} messages a second for {seconds} s; {used:.1} us for each, published and delivered");
    table(&["From when it was due until it was read", "p50", "p99"], &rows);
    let memory =
        |name: &str, memory: Memory| vec![name.into(), format!("{:.1} MiB", memory.mebibytes()), format!("{:.1} KiB", each(memory))];
    let rows = [memory("before the sockets", before), memory("with them, at rest", joined), memory("after the messages", after)];
    table(&["Memory of the gateway", "PSS", "for each socket"], &rows);
    drop(listening);
}
