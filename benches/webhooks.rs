//! Webhooks against the plain HTTP client: `cargo bench --bench webhooks`.
//!
//! 10,000 events are owed to 10 endpoints. The gateway, on core 0, posts them to a receiver in this process, on core 1; so
//! does, in turns with it, a plain loop over the same HTTP client with the same bodies and as many requests at a time, which
//! knows nothing of order, retries, signatures or disks. What counts is CPU per delivery of whoever posts; the time depends
//! on the receiver as well. Rounds and the number of events can be set: `-- --rounds 5 --events 10000`.
//!
//! With `-- --latency` instead: 1,000 publishes a second for ten seconds, and how long after each was due its webhook came.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

mod support;

use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{
    ADMIN, Cpu, Gateway, Http, Setup, Socket, Spread, Words, median, micros_each, open_conversations, own, publish_in_turns,
    publish_request, read_sequences, request, run, table, until,
};

const ENDPOINTS: usize = 10;
const AT_A_TIME: usize = 8;
const CONVERSATIONS: usize = 100;
/// As large as a webhook about a short message.
const BODY: usize = 520;
/// Publishes a second, and for how long, where latency is measured.
const RATE: usize = 1_000;
const SECONDS: usize = 10;

fn main() {
    let words = Words::read();
    let (rounds, events) = (words.number("--rounds", 3), words.number("--events", 10_000));
    if let Some(address) = words.after("--limit") {
        return run(plain_loop(address, events));
    }
    if words.has("--latency") {
        return run(latency(rounds));
    }
    run(compare(rounds, events));
}

/// What a plain loop does.
async fn plain_loop(address: &str, events: usize) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = hyper::body::Bytes::from("x".repeat(BODY));
    let began = Cpu::of(std::process::id());
    let mut loops = tokio::task::JoinSet::new();
    let left: Vec<_> = (0..ENDPOINTS).map(|_| Arc::new(AtomicUsize::new(events))).collect();
    for (endpoint, left) in left.into_iter().enumerate() {
        for _ in 0..AT_A_TIME {
            let (client, body, left, url) = (client.clone(), body.clone(), left.clone(), format!("http://{address}/{endpoint}"));
            loops.spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let request = client.post(&url).header("content-type", "application/json").body(body.clone());
                    request.send().await.unwrap().bytes().await.unwrap();
                }
            });
        }
    }
    while let Some(done) = loops.join_next().await {
        done.unwrap();
    }
    println!("{}", began.used().as_nanos());
}

/// A receiver that takes everything, and has each body looked at.
async fn receiver(look: impl Fn(&[u8]) + Clone + Send + Sync + 'static) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let look = look.clone();
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let look = look.clone();
                async move {
                    look(&axum::body::to_bytes(axum::body::Body::new(request.into_body()), 1 << 20).await.unwrap());
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(axum::body::Body::empty()))
                }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    address
}

/// A gateway with so many endpoints.
async fn start(receiver: SocketAddr, endpoints: usize) -> Gateway {
    let app = |number: usize| {
        format!(
            "[[accounts.apps]]\nclient_id = \"app-{number}\"\nclient_secret = \"secret\"\ncapabilities = [\"webhooks\"]\n\
             webhooks = [{{ event = \"ms.MessagingEventNotification.ContentEvent\", all = true, endpoint = \"http://{receiver}/{number}\" }}]\n"
        )
    };
    let settings = "[webhooks]\nallow = [\"127.0.0.1\"]".to_owned();
    Gateway::start(&Setup { settings, apps: (0..endpoints).map(app).collect(), ..Setup::default() }).await
}

async fn each_endpoint(gateway: &Gateway, call: &str) {
    let mut http = Http::connect(gateway.address).await;
    for endpoint in 1..=ENDPOINTS {
        let key = format!("Bearer {ADMIN}");
        let (status, body) = http.call(&request(&format!("/admin/v1/webhooks/{endpoint}/{call}"), &[("authorization", &key)], "")).await;
        assert!((200..300).contains(&status), "{status} {}", String::from_utf8_lossy(body));
    }
}

async fn owed(gateway: &Gateway) -> u64 {
    let mut http = Http::connect(gateway.address).await;
    let list = format!("GET /admin/v1/webhooks HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {ADMIN}\r\n\r\n");
    let list: Value = http.ask(list.as_bytes()).await;
    list["endpoints"].as_array().unwrap().iter().map(|one| one["owed"].as_u64().unwrap()).sum()
}

/// Publishes so many events; the CPU of that.
async fn publish(gateway: &Gateway, events: usize) -> Duration {
    let opened = open_conversations(gateway, "consumer", CONVERSATIONS).await;
    let cpu = Cpu::of(gateway.pid());
    publish_in_turns(gateway, &opened, 0..events / CONVERSATIONS).await;
    cpu.used()
}

async fn compare(rounds: usize, events: usize) {
    let total = events * ENDPOINTS;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let address = receiver(move |_| _ = counted.fetch_add(1, Ordering::Relaxed)).await;
    let [mut plain, mut paid, mut owing, mut rates, mut plain_rates] = [(); 5].map(|()| vec![]);
    println!("{events} events to {ENDPOINTS} endpoints, {AT_A_TIME} at a time each; CPU us per delivery, and deliveries a second");
    for round in 1..=rounds {
        count.store(0, Ordering::Relaxed);
        let began = Instant::now();
        let child = own(&["--limit", &address.to_string(), "--events", &events.to_string()]);
        let output = tokio::process::Command::from(child).output().await.unwrap();
        let used = Duration::from_nanos(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap());
        assert_eq!(count.load(Ordering::Relaxed), total);
        plain.push(micros_each(used, total));
        plain_rates.push(total as f64 / began.elapsed().as_secs_f64());

        // Publishing alone, then with everything owed to paused endpoints, then paying.
        let bare = start(address, 0).await;
        let publishing = publish(&bare, events).await;
        drop(bare);
        count.store(0, Ordering::Relaxed);
        let gateway = start(address, ENDPOINTS).await;
        each_endpoint(&gateway, "pause").await;
        let opened = open_conversations(&gateway, "consumer", CONVERSATIONS).await;
        let cpu = Cpu::of(gateway.pid());
        publish_in_turns(&gateway, &opened, 0..events / CONVERSATIONS).await;
        until("all is owed", async || owed(&gateway).await == total as u64).await;
        owing.push(micros_each(cpu.used().saturating_sub(publishing), total));
        let (began, cpu) = (Instant::now(), Cpu::of(gateway.pid()));
        each_endpoint(&gateway, "resume").await;
        until("all is paid", async || count.load(Ordering::Relaxed) >= total).await;
        let took = began.elapsed().as_secs_f64();
        until("all is settled", async || owed(&gateway).await == 0).await;
        paid.push(micros_each(cpu.used(), total));
        rates.push(total as f64 / took);
        println!(
            "round {round}: plain loop {:.1} us, {:.0}/s; gateway: {:.1} us to write a debt, {:.1} us to pay it, {:.0}/s; repeats {}",
            plain[round - 1],
            plain_rates[round - 1],
            owing[round - 1],
            paid[round - 1],
            rates[round - 1],
            count.load(Ordering::Relaxed) - total,
        );
    }
    let limit = median(&plain);
    let row = |name: &str, micros: &[f64], rates: &[f64]| {
        let rate = if rates.is_empty() { String::new() } else { format!("{:.0}", median(rates)) };
        vec![name.into(), format!("{:.1} us ({:.2} x)", median(micros), median(micros) / limit), rate]
    };
    let rows = [row("the plain loop", &plain, &plain_rates), row("Tieline: owe", &owing, &[]), row("Tieline: pay", &paid, &rates)];
    table(&["", "CPU for each delivery", "Deliveries a second"], &rows);
}

/// When each webhook came, by the number at the head of its text.
type Arrivals = Arc<Mutex<Vec<Vec<Instant>>>>;

async fn latency(rounds: usize) {
    let total = RATE * SECONDS;
    let arrivals: Arrivals = Arc::default();
    let arriving = arrivals.clone();
    let address = receiver(move |body| {
        const MARK: &[u8] = b"\"message\":\"";
        let place = memchr::memmem::find(body, MARK).unwrap() + MARK.len();
        let digits = body[place..].iter().take_while(|byte| byte.is_ascii_digit());
        let number = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        arriving.lock().unwrap()[number].push(Instant::now());
    })
    .await;
    let [mut ack50, mut ack99, mut hook50, mut hook99] = [(); 4].map(|()| vec![]);
    println!("{RATE} publishes a second for {SECONDS} s into {CONVERSATIONS} conversations; ms from when each was due, p50 / p99");
    for round in 1..=rounds {
        *arrivals.lock().unwrap() = vec![Vec::new(); total];
        let gateway = start(address, 1).await;
        let opened = open_conversations(&gateway, "consumer", CONVERSATIONS).await;
        gateway.settled().await;
        let mut socket = Socket::connector(&gateway).await;
        let writer = socket.writer();
        // A little later, so that the first is not late already.
        let begin = Instant::now() + Duration::from_millis(100);
        let due = move |number: usize| begin + Duration::from_secs(1) * number as u32 / RATE as u32;
        let asked = opened.clone();
        let asking = tokio::spawn(async move {
            for number in 0..total {
                tokio::time::sleep_until(due(number).into()).await;
                let one = &asked[number % CONVERSATIONS];
                let jws = (number < CONVERSATIONS).then_some(one.jws.as_str());
                writer.send(&publish_request(&one.id, &format!("{number}-"), jws)).await;
            }
        });
        let mut acks = Vec::with_capacity(total);
        while acks.len() < total {
            read_sequences(socket.next().await, |sequence| {
                assert_eq!(sequence as usize, acks.len() / CONVERSATIONS, "an ack out of order");
                acks.push(due(acks.len()).elapsed().as_secs_f64() * 1e3);
            });
        }
        asking.await.unwrap();
        until("every webhook has come", async || arrivals.lock().unwrap().iter().all(|came| !came.is_empty())).await;
        until("all is settled", async || owed(&gateway).await == 0).await;
        let came = std::mem::take(&mut *arrivals.lock().unwrap());
        assert!(came.iter().all(|came| came.len() == 1), "a webhook came twice");
        let is_in_order = |conversation: usize| came[conversation..].iter().step_by(CONVERSATIONS).is_sorted_by_key(|came| came[0]);
        assert!((0..CONVERSATIONS).all(is_in_order), "webhooks of a conversation came out of order");
        let times = came.iter().enumerate().map(|(number, came)| came[0].saturating_duration_since(due(number)).as_secs_f64() * 1e3);
        let (hook, ack) = (Spread::of(times.collect()), Spread::of(acks));
        for (all, value) in
            [(&mut ack50, ack.at(0.5)), (&mut ack99, ack.at(0.99)), (&mut hook50, hook.at(0.5)), (&mut hook99, hook.at(0.99))]
        {
            all.push(value);
        }
        let last = round - 1;
        println!("round {round}: ack {:.1} / {:.1}, webhook {:.1} / {:.1}", ack50[last], ack99[last], hook50[last], hook99[last]);
    }
    let row = |name: &str, p50: &[f64], p99: &[f64]| vec![name.into(), format!("{:.1} ms", median(p50)), format!("{:.1} ms", median(p99))];
    table(&["Since it was due", "p50", "p99"], &[row("the ack", &ack50, &ack99), row("the webhook, received", &hook50, &hook99)]);
}
