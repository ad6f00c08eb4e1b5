//! Webhooks against the plain HTTP client: `cargo bench --bench webhooks`.
//!
//! 10,000 events are owed to 10 endpoints. The gateway, on core 0, posts them to a receiver in this process, on core 1; so
//! does, in turns with it, a plain loop over the same HTTP client with the same bodies and as many requests at a time, which
//! knows nothing of order, retries, signatures or disks. What counts is CPU per delivery of whoever posts; the time depends
//! on the receiver as well. Rounds and the number of events can be set: `-- --rounds 5 --events 10000`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ENDPOINTS: usize = 10;
const AT_A_TIME: usize = 8;
const CONVERSATIONS: usize = 100;
const ADMIN: &str = "bench";
/// As large as a webhook about a short message.
const BODY: usize = 520;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let set = |name: &str, default: usize| {
        let place = words.iter().position(|word| word == name);
        place.and_then(|place| words.get(place + 1)?.parse().ok()).unwrap_or(default)
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    if let Some(place) = words.iter().position(|word| word == "--limit") {
        return runtime.block_on(plain_loop(&words[place + 1], set("--events", 10_000)));
    }
    runtime.block_on(compare(set("--rounds", 3), set("--events", 10_000)));
}

/// CPU time that a process has used, all threads, in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// A program on core 0.
fn pinned(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", program]).args(words).stdin(Stdio::null());
    command
}

/// What a plain loop does.
async fn plain_loop(address: &str, events: usize) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = hyper::body::Bytes::from("x".repeat(BODY));
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
    println!("{}", cpu(std::process::id()));
}

/// A receiver that takes everything, and counts.
async fn receiver() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let counted = counted.clone();
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let counted = counted.clone();
                async move {
                    axum::body::to_bytes(axum::body::Body::new(request.into_body()), 1 << 20).await.unwrap();
                    counted.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(axum::body::Body::empty()))
                }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    (address, count)
}

async fn until(what: &str, passes: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !passes().await {
        assert!(began.elapsed() < Duration::from_secs(300), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A gateway on core 0, with so many endpoints.
struct Gateway {
    child: Child,
    url: String,
    http: reqwest::Client,
    _dir: tempfile::TempDir,
}

impl Gateway {
    async fn start(receiver: SocketAddr, endpoints: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let hook = "{ event = \"ms.MessagingEventNotification.ContentEvent\", all = true, endpoint";
        let apps: String = (0..endpoints)
            .map(|number| {
                format!(
                    "[[accounts.apps]]\nclient_id = \"app-{number}\"\nclient_secret = \"secret\"\ncapabilities = [\"webhooks\"]\nwebhooks = [{hook} = \"http://{receiver}/{number}\" }}]\n"
                )
            })
            .collect();
        let text = format!(
            "[internal]\nadmin_key = \"{ADMIN}\"\n[webhooks]\nallow = [\"127.0.0.1\"]\n[log]\nlevel = \"warn\"\n[limits]\ntoken_calls_per_minute = 100000\n[[accounts]]\nid = \"demo\"\n[[accounts.apps]]\nclient_id = \"demo\"\nclient_secret = \"secret\"\n{apps}"
        );
        let config = dir.path().join("bench.toml");
        std::fs::write(&config, text).unwrap();
        let child = pinned(env!("CARGO_BIN_EXE_tieline"), &["--config", config.to_str().unwrap(), "serve"])
            .env("TIELINE__SERVER__LISTEN", format!("127.0.0.1:{port}"))
            .env("TIELINE__SERVER__DATA_DIR", dir.path().join("data"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _dir: dir,
        };
        until("the gateway is ready", async || {
            this.http.get(format!("{}/readyz", this.url)).send().await.is_ok_and(|reply| reply.status() == 200)
        })
        .await;
        this
    }

    fn cpu(&self) -> f64 {
        cpu(self.child.id())
    }

    async fn call(&self, path: &str, headers: &[(&str, &str)], body: String) -> Value {
        call(&self.http, &format!("{}{path}", self.url), headers, body).await
    }

    async fn each_endpoint(&self, call: &str) {
        for endpoint in 1..=ENDPOINTS {
            self.call(&format!("/admin/v1/webhooks/{endpoint}/{call}"), &[("authorization", &format!("Bearer {ADMIN}"))], String::new())
                .await;
        }
    }

    async fn owed(&self) -> u64 {
        let list = self.http.get(format!("{}/admin/v1/webhooks", self.url)).header("authorization", format!("Bearer {ADMIN}"));
        let list: Value = serde_json::from_str(&list.send().await.unwrap().text().await.unwrap()).unwrap();
        list["endpoints"].as_array().unwrap().iter().map(|one| one["owed"].as_u64().unwrap()).sum()
    }

    /// Publishes events into 100 conversations, side by side.
    async fn publish(&self, events: usize) {
        let form = ("content-type", "application/x-www-form-urlencoded");
        let path = "/sentinel/api/account/demo/app/token?v=1.0";
        let token = self.call(path, &[form], "client_id=demo&client_secret=secret&grant_type=client_credentials".into()).await;
        let app = token["access_token"].as_str().unwrap().to_owned();
        let mut talking = tokio::task::JoinSet::new();
        for number in 0..CONVERSATIONS {
            let body = json!({"ext_consumer_id": format!("c{number}")}).to_string();
            let token = self.call("/api/account/demo/consumer?v=1.0", &[("authorization", &app)], body).await;
            let jws = token["token"].as_str().unwrap().to_owned();
            let (app, http, url) = (app.clone(), self.http.clone(), format!("{}/api/account/demo/messaging/consumer", self.url));
            talking.spawn(async move {
                let headers = [("authorization", app.as_str()), ("x-lp-on-behalf", jws.as_str()), ("content-type", "application/json")];
                let open = json!([
                    {"kind": "req", "id": "1", "type": "userprofile.SetUserProfile", "body": {"firstName": "Ann"}},
                    {"kind": "req", "id": "2", "type": "cm.ConsumerRequestConversation", "body": {"brandId": "demo"}},
                ]);
                let opened = call(&http, &format!("{url}/conversation?v=3"), &headers, open.to_string()).await;
                let id = opened[1]["body"]["conversationId"].as_str().unwrap();
                let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": "x".repeat(100)});
                let one = json!({"kind": "req", "id": "1", "type": "ms.PublishEvent", "body": {"dialogId": id, "event": event}});
                for _ in 0..events / CONVERSATIONS {
                    call(&http, &format!("{url}/conversation/send?v=3"), &headers, one.to_string()).await;
                }
            });
        }
        while let Some(done) = talking.join_next().await {
            done.unwrap();
        }
    }
}

async fn call(http: &reqwest::Client, url: &str, headers: &[(&str, &str)], body: String) -> Value {
    let mut request = http.post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = request.send().await.unwrap();
    let status = reply.status();
    let text = reply.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

async fn compare(rounds: usize, events: usize) {
    let total = events * ENDPOINTS;
    let (address, count) = receiver().await;
    let micros = |seconds: f64| seconds * 1e6 / total as f64;
    let (mut plain, mut paid, mut owing, mut rates, mut plain_rates) = (vec![], vec![], vec![], vec![], vec![]);
    println!("{events} events to {ENDPOINTS} endpoints, {AT_A_TIME} at a time each; CPU us per delivery, and deliveries a second");
    for round in 1..=rounds {
        count.store(0, Ordering::Relaxed);
        let began = Instant::now();
        let own = std::env::current_exe().unwrap();
        let child = pinned(own.to_str().unwrap(), &["--limit", &address.to_string(), "--events", &events.to_string()]);
        let output = tokio::process::Command::from(child).output().await.unwrap();
        let used: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), total);
        plain.push(micros(used));
        plain_rates.push(total as f64 / began.elapsed().as_secs_f64());

        // Publishing alone, then with everything owed to paused endpoints, then paying.
        let bare = Gateway::start(address, 0).await;
        let began = bare.cpu();
        bare.publish(events).await;
        let publishing = bare.cpu() - began;
        drop(bare);
        count.store(0, Ordering::Relaxed);
        let gateway = Gateway::start(address, ENDPOINTS).await;
        gateway.each_endpoint("pause").await;
        let began = gateway.cpu();
        gateway.publish(events).await;
        until("all is owed", async || gateway.owed().await == total as u64).await;
        owing.push(micros(gateway.cpu() - began - publishing));
        let (began, cpu) = (Instant::now(), gateway.cpu());
        gateway.each_endpoint("resume").await;
        until("all is paid", async || count.load(Ordering::Relaxed) >= total).await;
        let took = began.elapsed().as_secs_f64();
        until("all is settled", async || gateway.owed().await == 0).await;
        paid.push(micros(gateway.cpu() - cpu));
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
    let (limit, pay, owe) = (median(&mut plain), median(&mut paid), median(&mut owing));
    println!("medians: plain loop {limit:.1} us, {:.0}/s", median(&mut plain_rates));
    println!("         gateway    {pay:.1} us to pay ({:.2} x), {owe:.1} us to owe, {:.0}/s", pay / limit, median(&mut rates));
}
