//! Whether what is stored, or who is there, makes a publish dearer: `cargo bench --bench growth`.
//!
//! Gateways with 100, 10,000 and 100,000 stored conversations (`-- --full`: 1,000,000, which takes minutes to make and some
//! GB of disk) start in turns; of each, how long that takes, and what a publish costs it in CPU and in bytes written, with 10
//! sockets of others that rest and with 10,000. The conversations are made by the library's own store; each was opened, written
//! into and closed. Then what a change of a conversation costs while subscriptions by filter exist that it does not match.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on should say where")]
#![allow(missing_docs, reason = "nothing outside uses a benchmark")]

mod support;

use serde_json::{Value, json};
use support::{
    ACCOUNT, Cpu, Gateway, Opened, Setup, Socket, Words, median, micros_each, open_conversations, pipeline, publish_in_turns, run, table,
    written,
};

/// Conversations that are published into.
const ACTIVE: usize = 100;
/// Events for each of them in one measurement: so many that sweeps and checkpoints, which come at once for thousands, count as
/// they do in the long run.
const EVENTS: usize = 2_000;
/// Events for each of them before it: after a start the files of the tail are new, and grow until they are used again.
const BEFORE: usize = 2_000;
/// Sockets of others that rest.
const IDLE: [usize; 2] = [10, 10_000];
/// Subscriptions by filter, and how many of them a socket has.
const FILTERS: usize = 1_024;
const ON_ONE_SOCKET: usize = 64;
/// Changes that no filter matches, for each conversation.
const CHANGES: usize = 50;

fn main() {
    let words = Words::read();
    let mut sizes = vec![100, 10_000, if words.has("--full") { 1_000_000 } else { 100_000 }];
    if let Some(size) = words.after("--size") {
        sizes = vec![size.parse().unwrap()];
    }
    run(compare(words.number("--rounds", 3), sizes));
}

/// A gateway with so many stored conversations, and what was measured of it.
struct Stored {
    gateway: Gateway,
    size: usize,
    active: Vec<Opened>,
    bystanders: Vec<String>,
    published: usize,
    started: Vec<f64>,
    /// For each number of sockets that rest.
    cpu: [Vec<f64>; 2],
    bytes: [Vec<f64>; 2],
}

impl Stored {
    async fn make(size: usize) -> Self {
        let began = std::time::Instant::now();
        let mut gateway = Gateway::set_up(&Setup { agents: 1, ..Setup::default() });
        support::fill(gateway.data(), size).await;
        gateway.start_again().await;
        let active = open_conversations(&gateway, "active", ACTIVE).await;
        let bystanders = (0..*IDLE.iter().max().unwrap()).map(|number| gateway.consumer_token(&format!("idle-{number}"))).collect();
        gateway.settled().await;
        println!("{size} conversations made in {:.0} s", began.elapsed().as_secs_f64());
        gateway.stop();
        let [started, cpu, other, bytes, more] = [(); 5].map(|()| Vec::new());
        Self { gateway, size, active, bystanders, published: 0, started, cpu: [cpu, other], bytes: [bytes, more] }
    }

    async fn round(&mut self) {
        let took = self.gateway.start_again().await;
        self.started.push(took.as_secs_f64() * 1e3);
        let (app, mut idle) = (self.gateway.app_token(), Vec::new());
        for (place, count) in IDLE.into_iter().enumerate() {
            while idle.len() < count {
                idle.push(Socket::consumer(&self.gateway, &app, &self.bystanders[idle.len()]).await);
            }
            // What the start left in memory, or did not yet put there, is not what this is about.
            self.publish(BEFORE).await;
            let (cpu, bytes) = (Cpu::of(self.gateway.pid()), written(self.gateway.pid()));
            self.publish(EVENTS).await;
            let count = EVENTS * ACTIVE;
            self.cpu[place].push(micros_each(cpu.used(), count));
            self.bytes[place].push((written(self.gateway.pid()) - bytes) as f64 / count as f64);
        }
        let last = |all: &Vec<f64>| all[all.len() - 1];
        println!(
            "{} conversations: started in {:.0} ms; {:.1} us and {:.0} bytes a publish with {} sockets at rest, {:.1} us and {:.0} bytes with {}",
            self.size,
            last(&self.started),
            last(&self.cpu[0]),
            last(&self.bytes[0]),
            IDLE[0],
            last(&self.cpu[1]),
            last(&self.bytes[1]),
            IDLE[1]
        );
        drop(idle);
        self.gateway.stop();
    }

    async fn publish(&mut self, events: usize) {
        publish_in_turns(&self.gateway, &self.active, self.published..self.published + events).await;
        self.published += events;
    }
}

async fn compare(rounds: usize, sizes: Vec<usize>) {
    let mut all = Vec::new();
    for size in sizes {
        all.push(Stored::make(size).await);
    }
    for _ in 0..rounds {
        for one in &mut all {
            one.round().await;
        }
    }
    let (cpu, bytes) = (median(&all[0].cpu[0]), median(&all[0].bytes[0]));
    let mut rows = Vec::new();
    for one in &all {
        for (place, idle) in IDLE.into_iter().enumerate() {
            let (own_cpu, own_bytes) = (median(&one.cpu[place]), median(&one.bytes[place]));
            rows.push(vec![
                one.size.to_string(),
                idle.to_string(),
                format!("{own_cpu:.1} us ({:.2} x)", own_cpu / cpu),
                format!("{own_bytes:.0} ({:.2} x)", own_bytes / bytes),
                format!("{:.0} ms", median(&one.started)),
            ]);
        }
    }
    table(&["Stored conversations", "Sockets at rest", "CPU for each publish", "Bytes written for each", "Start"], &rows);
    filters(rounds).await;
}

/// Changes how soon answers are due, in each conversation in turns.
async fn change(gateway: &Gateway, opened: &[Opened], from: usize) {
    let mut socket = Socket::connector(gateway).await;
    let ask = |number: usize| {
        let one = &opened[number % opened.len()];
        let field = json!({"field": "TTRField", "ttrType": "CUSTOM", "value": 1000 + from + number / opened.len()});
        let headers = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": one.jws}]);
        let body = json!({"conversationId": one.id, "conversationField": field});
        json!({"kind": "req", "id": "1", "type": "cm.UpdateConversationField", "headers": headers, "body": body}).to_string()
    };
    let good = |_, reply: &[u8]| assert!(memchr::memmem::find(reply, b"\"code\":\"OK\"").is_some(), "{}", String::from_utf8_lossy(reply));
    pipeline(&mut socket, CHANGES * opened.len(), ask, good).await;
    gateway.settled().await;
}

async fn filters(rounds: usize) {
    let gateway = Gateway::start(&Setup { agents: 2, ..Setup::default() }).await;
    let opened = open_conversations(&gateway, "active", ACTIVE).await;
    let [mut without, mut by_consumer, mut by_agent] = [(); 3].map(|()| Vec::new());
    let mut changed = 0;
    for _ in 0..rounds {
        for (kind, costs) in [("", &mut without), ("consumerId", &mut by_consumer), ("agentIds", &mut by_agent)] {
            let mut sockets = Vec::new();
            for number in 0..if kind.is_empty() { 0 } else { FILTERS } {
                if number % ON_ONE_SOCKET == 0 {
                    sockets.push(Socket::agent(&gateway, &gateway.agent_token(0)).await);
                }
                let who = if kind == "agentIds" { json!(["1001"]) } else { json!(format!("{number:064x}")) };
                let mut body = json!({"brandId": ACCOUNT});
                body[kind] = who;
                let ask = json!({"kind": "req", "id": "1", "type": "cqm.SubscribeExConversations", "body": body});
                let socket = sockets.last_mut().unwrap();
                socket.ask(&ask.to_string()).await;
                let first: Value = serde_json::from_slice(socket.next().await).unwrap();
                assert_eq!(first["body"]["changes"], json!([]), "{first}");
            }
            change(&gateway, &opened, changed).await;
            changed += CHANGES;
            let cpu = Cpu::of(gateway.pid());
            change(&gateway, &opened, changed).await;
            costs.push(micros_each(cpu.used(), CHANGES * ACTIVE));
            changed += CHANGES;
            for socket in &mut sockets {
                // The next thing it hears is the answer to what it asks now: nobody was told of the changes.
                let clock = socket.ask(&json!({"kind": "req", "id": "1", "type": "GetClock"}).to_string()).await;
                assert_eq!(clock["type"], "GetClockResponse");
            }
        }
    }
    let limit = median(&without);
    let row = |name: String, costs: &[f64]| vec![name, format!("{:.1} us", median(costs)), format!("{:.2} x", median(costs) / limit)];
    let rows = [
        row("no subscription".into(), &without),
        row(format!("{FILTERS} subscriptions by other consumers"), &by_consumer),
        row(format!("{FILTERS} subscriptions by another agent"), &by_agent),
    ];
    table(&["", "CPU for each change that nobody's filter matches", ""], &rows);
}
