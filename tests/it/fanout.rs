//! One conversation, a thousand followers.

use crate::support::*;
use futures::StreamExt;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

const FOLLOWERS: usize = 1_000;
const MESSAGES: u64 = 1_000;

/// Follows until it has every message; returns the numbers in the order they came.
async fn follow_all(mut agent: Ws, total: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.last().is_none_or(|last| last + 1 < total) {
        let message = tokio::time::timeout(SOON * 6, agent.socket.next()).await.expect("events come").unwrap().unwrap();
        let Message::Text(text) = message else { continue };
        // Read without a parser: a million frames are a test of the gateway, not of serde.
        let mut rest = text.as_str();
        while let Some(at) = rest.find("\"sequence\":") {
            rest = &rest[at + 11..];
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
            numbers.push(rest[..digits].parse().unwrap());
        }
    }
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_followers_get_each_of_a_thousand_messages_once_in_order_and_one_that_stops_reading_is_closed() {
    let server = TestServer::crowded("[limits]\nwrite_timeout = \"3s\"", FOLLOWERS).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let bearer = api.login("ada").await.bearer;
    let mut following = Vec::new();
    for number in 0..FOLLOWERS {
        let mut agent = api.agent(&format!("agent-{number}"), "3").await;
        agent.send(&follow("f", &id, 0)).await;
        agent.response("f").await;
        following.push(tokio::spawn(follow_all(agent, MESSAGES)));
    }
    // One that asks and then reads nothing; its receive buffer is small, so that the gateway's writes soon block.
    let mut slow = slow_follower(&api, &bearer, &id).await;
    let mut publisher = ann.consumer_socket().await;
    let text = "x".repeat(7_000);
    for number in 0..MESSAGES {
        publisher.send(&publish(&number.to_string(), &id, &text)).await;
        if number % 50 == 49 {
            publisher.response(&number.to_string()).await;
        }
    }
    for numbers in futures::future::join_all(following).await {
        assert_eq!(numbers.unwrap(), (0..MESSAGES).collect::<Vec<_>>());
    }
    // The slow one is closed, before it reads again; what it finds then is a prefix without a gap, and it resumes behind it.
    // The metric would not do: it counts the other suites' sockets as well.
    let slow_port = slow.0.get_ref().local_addr().unwrap().port();
    let began = std::time::Instant::now();
    while is_open(api.address.port(), slow_port) {
        assert!(began.elapsed() < SOON, "it is not closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (read, code) = slow.read_to_end().await;
    assert!(read.iter().enumerate().all(|(place, number)| *number == place as u64), "no gap before the close");
    assert!((read.len() as u64) < MESSAGES, "it could not have taken everything: {} were read", read.len());
    assert!(matches!(code, Some(4408) | None), "closed as a slow consumer, or reset where even that could not be written: {code:?}");
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.lines().any(|line| line.starts_with("tieline_slow_consumers_total ") && !line.ends_with(" 0")));
    let mut again = api.agent_by(&bearer, "3").await;
    again.follow(&id, read.len() as u64).await;
    assert_eq!(follow_all(again, MESSAGES).await, (read.len() as u64..MESSAGES).collect::<Vec<_>>());
}

/// Whether the system still has a connection between two ports as established, seen from the first.
fn is_open(from: u16, to: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = [from, to].map(|port| format!(":{port:04X}"));
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1).is_some_and(|local| local.ends_with(&ends[0]))
            && fields.get(2).is_some_and(|remote| remote.ends_with(&ends[1]))
            && fields.get(3) == Some(&"01")
    })
}

/// A follower that reads its reply and then nothing, until it is told to.
struct Slow(tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>);

async fn slow_follower(api: &Api, bearer: &str, id: &str) -> Slow {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(api.address).await.unwrap();
    let url = format!("ws://{}/ws_api/account/{ACCOUNT}/messaging/brand/{bearer}?v=3", api.address);
    let opening = tokio_tungstenite::client_async(url, stream);
    let (mut socket, _) = tokio::time::timeout(SOON, opening).await.expect("a socket is opened soon").unwrap();
    futures::SinkExt::send(&mut socket, Message::text(follow("f", id, 0).to_string())).await.unwrap();
    tokio::time::timeout(SOON, socket.next()).await.expect("it is answered soon").unwrap().unwrap();
    socket.get_mut().flush().await.unwrap();
    Slow(socket)
}

impl Slow {
    async fn read_to_end(&mut self) -> (Vec<u64>, Option<u16>) {
        let mut numbers = Vec::new();
        loop {
            match tokio::time::timeout(SOON, self.0.next()).await.expect("the end comes") {
                Some(Ok(Message::Text(text))) => {
                    numbers.extend(sequences(&text));
                }
                Some(Ok(Message::Close(frame))) => return (numbers, frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (numbers, None),
            }
        }
    }
}

/// The numbers of the events in a frame.
fn sequences(text: &str) -> Vec<u64> {
    let frame: serde_json::Value = serde_json::from_str(text).unwrap();
    frame["body"]["changes"].as_array().into_iter().flatten().filter_map(|change| change["sequence"].as_u64()).collect()
}

/// Reads until there are so many events, however they come.
async fn read_on(slow: &mut Slow, total: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < total {
        let message = tokio::time::timeout(SOON, slow.0.next()).await.expect("it goes on").unwrap().unwrap();
        if let Message::Text(text) = message {
            numbers.extend(sequences(&text));
        }
    }
    numbers
}

/// A gateway of its own, so that nothing else counts in its memory, that waits long for who does not read.
async fn patient(dir: &std::path::Path) -> TestProcess {
    TestProcess::start(dir, free_port(), &["env", "TIELINE__LIMITS__WRITE_TIMEOUT=10m", "TIELINE__LIMITS__IDLE=20m"]).await
}

/// What waits for a session that does not read stays small, and the others do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_that_stop_reading_cost_bounded_memory() {
    const TOTAL: u64 = 4_000;
    let dir = tempfile::tempdir().unwrap();
    let process = patient(dir.path()).await;
    let api = process.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let bearer = api.login("ada").await.bearer;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(slow_follower(&api, &bearer, &id).await);
    }
    let mut healthy = api.agent_by(&bearer, "3").await;
    healthy.send(&follow("f", &id, 0)).await;
    let following = tokio::spawn(follow_all(healthy, TOTAL));
    let before = resident(process.pid());
    let mut publisher = ann.consumer_socket().await;
    let text = "y".repeat(7_900);
    for number in 0..TOTAL {
        publisher.send(&publish(&number.to_string(), &id, &text)).await;
        if number % 50 == 49 {
            publisher.response(&number.to_string()).await;
        }
    }
    assert_eq!(following.await.unwrap(), (0..TOTAL).collect::<Vec<_>>());
    let grown = resident(process.pid()).saturating_sub(before) / 1024 / 1024;
    // 32 MB of messages for each of 20 would be 640 MB; the recent log itself is kept in memory once, up to 32 MB.
    println!("fanout: 20 stopped readers, {TOTAL} messages of 8 KB: resident memory grew by {grown} MiB");
    assert!(grown < 200, "resident memory grew by {grown} MiB");
    // They read again, and miss nothing.
    for slow in &mut slow[..3] {
        assert_eq!(read_on(slow, TOTAL).await, (0..TOTAL).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_follower_behind_large_events_catches_up_without_a_further_event() {
    let dir = tempfile::tempdir().unwrap();
    let process = patient(dir.path()).await;
    let api = process.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let bearer = api.login("ada").await.bearer;
    let mut slow = slow_follower(&api, &bearer, &id).await;
    let mut publisher = ann.consumer_socket().await;
    // So large that a read is ended by its bytes and an outbox by its own, and that the socket is full.
    let mut large = publish("l", &id, "x");
    large["body"]["event"]["extra"] = json!("e".repeat(60_000));
    for _ in 0..300 {
        assert_eq!(publisher.ask(&large).await["code"], 200);
    }
    assert_eq!(read_on(&mut slow, 300).await, (0..300).collect::<Vec<_>>());
    assert_eq!(ann.say(&id, "and on").await, 300);
    assert_eq!(read_on(&mut slow, 1).await, [300]);
}

fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
