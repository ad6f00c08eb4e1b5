//! Agents who watch everything: `cargo bench --bench agents`.
//!
//! 1,000 agents' sockets subscribe to all open conversations, while 1,000 conversations a second change: first at a rate that may
//! be kept up, told as CPU for each delivery, then as fast as they are taken. A socket that cannot follow is told the newest state of
//! each conversation and not each step, so within a second after the last change each picture must be what the store says,
//! and nothing must have piled up.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

mod support;

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{ACCOUNT, Cpu, Gateway, Memory, Opened, Setup, Socket, Words, open_conversations, run, table};

/// Conversations that change in turns.
const CONVERSATIONS: usize = 200;
/// How soon after the last change each picture must be right.
const SETTLED: Duration = Duration::from_secs(1);

fn main() {
    let words = Words::read();
    run(compare(words.number("--agents", 1_000), words.number("--rate", 1_000), words.number("--seconds", 5)));
}

/// What an agent knows: of each conversation, how many seconds its answer may take. Only that changes here, and it only grows.
type Picture = Arc<Mutex<HashMap<String, u64>>>;

/// Reads the conversations and their seconds out of a notification, without reading it whole.
fn look(frame: &[u8], picture: &mut HashMap<String, u64>) -> usize {
    const ID: &[u8] = b"\"convId\":\"";
    const TTR: &[u8] = b"\"ttrType\":\"CUSTOM\",\"value\":";
    let mut count = 0;
    for place in memchr::memmem::find_iter(frame, ID) {
        let rest = &frame[place + ID.len()..];
        let id = std::str::from_utf8(&rest[..memchr::memchr(b'"', rest).unwrap()]).unwrap();
        let next = memchr::memmem::find(rest, ID).unwrap_or(rest.len());
        count += 1;
        let Some(value) = memchr::memmem::find(&rest[..next], TTR) else { continue };
        let digits = rest[value + TTR.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        let seconds = digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        match picture.get_mut(id) {
            Some(known) => {
                assert!(*known <= seconds, "an older state came behind a newer one");
                *known = seconds;
            }
            None => drop(picture.insert(id.to_owned(), seconds)),
        }
    }
    count
}

/// Changes conversations in turns, at a rate or as fast as they are taken; when the last was acked.
async fn change(gateway: &Gateway, opened: &[Opened], numbers: std::ops::Range<usize>, rate: Option<usize>) -> Instant {
    let mut socket = Socket::connector(gateway).await;
    let (writer, begin, first) = (socket.writer(), Instant::now(), numbers.start);
    let opened: Vec<Opened> = opened.to_vec();
    let count = numbers.len();
    let (free, taken) = (Arc::new(tokio::sync::Semaphore::new(200)), AtomicUsize::new(0));
    let room = free.clone();
    let asking = tokio::spawn(async move {
        for number in numbers {
            if let Some(rate) = rate {
                tokio::time::sleep_until((begin + Duration::from_secs(1) * (number - first) as u32 / rate as u32).into()).await;
            }
            room.acquire().await.unwrap().forget();
            let one = &opened[number % opened.len()];
            let field = json!({"field": "TTRField", "ttrType": "CUSTOM", "value": 1_000 + number});
            let headers = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": one.jws}]);
            let body = json!({"conversationId": one.id, "conversationField": field});
            let ask = json!({"kind": "req", "id": "1", "type": "cm.UpdateConversationField", "headers": headers, "body": body});
            writer.send(&ask.to_string()).await;
        }
    });
    while taken.load(Ordering::Relaxed) < count {
        let reply = socket.next().await;
        assert!(memchr::memmem::find(reply, b"\"code\":\"OK\"").is_some(), "{}", String::from_utf8_lossy(reply));
        taken.fetch_add(1, Ordering::Relaxed);
        free.add_permits(1);
    }
    asking.await.unwrap();
    Instant::now()
}

async fn compare(agents: usize, rate: usize, seconds: usize) {
    let gateway = Gateway::start(&Setup { agents: 1, ..Setup::default() }).await;
    let opened = open_conversations(&gateway, "consumer", CONVERSATIONS).await;
    let before = Memory::of(gateway.pid());
    let deliveries = Arc::new(AtomicUsize::new(0));
    let bearer = gateway.agent_token(0);
    let subscribe = json!({"kind": "req", "id": "1", "type": "cqm.SubscribeExConversations", "body": {"convState": ["OPEN"]}}).to_string();
    let mut pictures: Vec<Picture> = Vec::new();
    for _ in 0..agents {
        let mut socket = Socket::agent(&gateway, &bearer).await;
        socket.ask(&subscribe).await;
        let picture = Picture::default();
        assert_eq!(look(socket.next().await, &mut picture.lock().unwrap()), CONVERSATIONS);
        pictures.push(picture.clone());
        let deliveries = deliveries.clone();
        tokio::spawn(async move {
            loop {
                let frame = socket.next().await;
                deliveries.fetch_add(look(frame, &mut picture.lock().unwrap()), Ordering::Relaxed);
            }
        });
    }
    let (mut rows, mut changed) = (Vec::new(), 0);
    let mut costs = [0.0; 2];
    for (name, rate, agents_change) in [("at a steady rate", Some(rate), true), ("as fast as they are taken", None, false)] {
        let count = rate.unwrap_or(10 * CONVERSATIONS) * if agents_change { seconds } else { 2 };
        let encoded = async || gateway.metric("tieline_conversation_encodings_total").await;
        let encoded_before = encoded().await;
        let (cpu, began, heard) = (Cpu::of(gateway.pid()), Instant::now(), deliveries.load(Ordering::Relaxed));
        let peak = Arc::new(AtomicUsize::new(0));
        let (seen, pid) = (peak.clone(), gateway.pid());
        let watching = tokio::spawn(async move {
            loop {
                seen.fetch_max(Memory::of(pid).pss as usize, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let last = change(&gateway, &opened, changed..changed + count, rate).await;
        changed += count;
        // The newest state of each conversation, by the last change that it got.
        let newest = |place: usize| 1_000 + ((changed - 1 - place) / CONVERSATIONS * CONVERSATIONS + place) as u64;
        let is_right = |picture: &Picture| {
            let picture = picture.lock().unwrap();
            opened.iter().enumerate().all(|(place, one)| picture.get(&one.id) == Some(&newest(place)))
        };
        support::until("each picture is right", async || pictures.iter().all(is_right)).await;
        let right = last.elapsed();
        watching.abort();
        let (used, told) = (cpu.used(), deliveries.load(Ordering::Relaxed) - heard);
        costs[usize::from(!agents_change)] = used.as_secs_f64() * 1e6 / told as f64;
        rows.push(vec![
            format!("{count} changes {name}, {:.0}/s", count as f64 / (last - began).as_secs_f64()),
            format!("{:.0} % of {}", 100.0 * told as f64 / (count * agents) as f64, count * agents),
            format!("{:.3}", (encoded().await - encoded_before) / count as f64),
            format!("{:.2} us", used.as_secs_f64() * 1e6 / told as f64),
            format!("{:.2} s{}", right.as_secs_f64(), if right > SETTLED { ", too late" } else { "" }),
            format!("{:.0} MiB", peak.load(Ordering::Relaxed) as f64 / 1024.0),
            format!("{:.0} MiB", Memory::of(gateway.pid()).mebibytes()),
        ]);
    }
    // What the agents see is what the store says to somebody who asks now.
    let mut socket = Socket::agent(&gateway, &bearer).await;
    socket.ask(&subscribe).await;
    let snapshot: Value = serde_json::from_slice(socket.next().await).unwrap();
    let mut stored = HashMap::new();
    for one in snapshot["body"]["changes"].as_array().unwrap() {
        let ttr = one["result"]["conversationDetails"]["ttr"]["value"].as_u64().unwrap();
        stored.insert(one["result"]["convId"].as_str().unwrap().to_owned(), ttr);
    }
    assert!(pictures.iter().all(|picture| *picture.lock().unwrap() == stored), "an agent's picture is not what the store says");
    println!("{agents} agents' sockets in account {ACCOUNT}; {:.0} MiB before they came", before.mebibytes());
    let head = [
        "",
        "Told, of what each step to each would be",
        "Encodings for each change",
        "CPU for each told",
        "Right after",
        "Memory at the peak",
        "after",
    ];
    table(&head, &rows);
}
