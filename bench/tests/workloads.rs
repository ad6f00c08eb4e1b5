//! The workloads against the limit, in the clear, with TLS and durable; and against servers that do wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use futures::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;
use tieline_bench::adapters::Plain;
use tieline_bench::engine::{Failure, PATIENCE, Target};
use tieline_bench::meter::Processes;
use tieline_bench::report::Outcome;
use tieline_bench::workload::{Bench, Unwatched, Workload};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Message;

/// The server, which ends with the test.
struct Limit {
    child: Child,
    address: SocketAddr,
}

impl Limit {
    async fn start(words: &[&str]) -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_limit"));
        let mut child = command.args(["--listen", &address.to_string()]).args(words).spawn().unwrap();
        while TcpStream::connect(address).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the server ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { child, address }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn run(target: Target, pids: Vec<u32>, patience: Duration, workload: Workload) -> Result<Outcome, Failure> {
    let meter = Processes(pids);
    let time = Duration::from_millis(200);
    Bench { adapter: Arc::new(Plain), target, meter: &meter, watch: &Unwatched, time, patience }.run(&workload).await
}

fn plain(address: SocketAddr) -> Target {
    Target { address, authority: address.to_string(), tls: None }
}

/// All workloads in small; every message must have come to everybody.
async fn all(target: Target, pid: u32) {
    let run = async |workload| run(target.clone(), vec![pid], PATIENCE, workload).await.unwrap();
    let Outcome::Fanout(fanout) = run(Workload::Fanout { subscribers: 5, rate: 1000.0 }).await else { panic!("another outcome") };
    for window in &fanout.windows {
        assert!(window.messages > 0 && window.deliveries == 5 * window.messages && window.cpu.is_some(), "{window:?}");
    }
    assert_eq!((fanout.bad, fanout.paced.messages, fanout.paced.deliveries), (0, 40, 200));
    let Outcome::Many(many) = run(Workload::Many { conversations: 3, in_flight: 64 }).await else { panic!("another outcome") };
    assert!(many.bad == 0 && many.turns > 0 && many.ack.is_some(), "{many:?}");
    let Outcome::Idle(idle) = run(Workload::Idle { connections: 700 }).await else { panic!("another outcome") };
    assert_eq!((idle.bad, idle.deliveries), (0, 10 * 699));
    assert!(idle.idle.is_some(), "{idle:?}");
    let Outcome::Durable(durable) = run(Workload::Durable { publishers: 4, keys: false }).await else { panic!("another outcome") };
    assert!(durable.acks >= 4, "{durable:?}");
}

#[tokio::test]
async fn the_limit_delivers_each_message_once_and_in_order() {
    rlimit::increase_nofile_limit(4096).unwrap();
    let limit = Limit::start(&[]).await;
    all(plain(limit.address), limit.child.id()).await;
}

#[tokio::test]
async fn with_tls_and_a_file_it_does_the_same() {
    rlimit::increase_nofile_limit(4096).unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = std::env::temp_dir().join(format!("tieline-bench-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(file("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let limit = Limit::start(&["--tls", &file("cert.pem"), &file("key.pem"), "--durable", &file("journal")]).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tls = Some((Arc::new(config).into(), ServerName::try_from("localhost").unwrap()));
    all(Target { tls, ..plain(limit.address) }, limit.child.id()).await;
    let journal = std::fs::read_to_string(dir.join("journal")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(journal.len() > 256 * 100 && journal.len().is_multiple_of(256) && journal.starts_with("{\"mark\":\""), "{}", journal.len());
}

/// What a server makes of the how many-th message.
type Wrong = fn(usize, String) -> Vec<String>;

/// A hub that speaks the same protocol and delivers what `wrong` makes of each message.
async fn hub(wrong: Wrong) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, _) = broadcast::channel(4096);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(talk(stream, tell.clone(), wrong));
        }
    });
    address
}

async fn talk(stream: TcpStream, tell: broadcast::Sender<String>, wrong: Wrong) {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    let (mut told, mut hears, mut count) = (tell.subscribe(), false, 0);
    loop {
        let answer = tokio::select! {
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) if text.starts_with('S') => {
                    hears = true;
                    "ready".to_owned()
                }
                Some(Ok(Message::Text(text))) => {
                    for body in wrong(count, text.split_once(' ').unwrap().1.to_owned()) {
                        tell.send(body).unwrap();
                    }
                    count += 1;
                    "ack".to_owned()
                }
                _ => return,
            },
            body = told.recv(), if hears => body.unwrap(),
        };
        if socket.send(Message::text(answer)).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_repeat_is_counted() {
    let twice: Wrong = |count, body| if count % 3 == 1 { vec![body.clone(), body] } else { vec![body] };
    let target = plain(hub(twice).await);
    let outcome = run(target, Vec::new(), PATIENCE, Workload::Fanout { subscribers: 2, rate: 1000.0 }).await.unwrap();
    assert!(outcome.bad() > 0, "{outcome:?}");
    let Outcome::Fanout(fanout) = outcome else { panic!("another outcome") };
    assert!(fanout.windows.iter().all(|window| window.cpu.is_none()), "nothing is known of its CPU");
}

#[tokio::test]
async fn a_loss_ends_the_run() {
    let hole: Wrong = |count, body| if count == 7 { Vec::new() } else { vec![body] };
    let target = plain(hub(hole).await);
    let failure = run(target, Vec::new(), Duration::from_secs(3), Workload::Fanout { subscribers: 3, rate: 1000.0 }).await.unwrap_err();
    assert!(matches!(failure, Failure::Lost { missing: 3, bad: 0 }), "{failure}");
}

#[tokio::test]
async fn a_server_that_is_away_closes_or_refuses_is_told() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let workload = Workload::Durable { publishers: 1, keys: false };
    let failure = run(plain(free), Vec::new(), PATIENCE, workload).await.unwrap_err();
    assert!(failure.to_string().starts_with("connection 1 of 1 is not made: Connection refused"), "{failure}");
    let nonsense: Wrong = |_, _| vec!["nonsense".to_owned()];
    let target = plain(hub(nonsense).await);
    let failure = run(target, Vec::new(), PATIENCE, Workload::Fanout { subscribers: 1, rate: 100.0 }).await.unwrap_err();
    assert_eq!(failure.to_string(), "the server refused: nonsense");
}
