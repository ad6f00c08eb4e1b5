//! The daemon: time-outs, health, drain, TLS, one process per folder, the command line.

use crate::support::*;
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn tieline(dir: &std::path::Path, args: &[&str]) -> std::process::Output {
    output(Command::new(env!("CARGO_BIN_EXE_tieline")).args(args).current_dir(dir), SOON * 4)
}

/// Reads until the other side closes.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut all)).await.expect("it is closed in time");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let limits = "[limits]\nhead_timeout = \"1s\"\nkeep_alive = \"2s\"\nidentify_timeout = \"1s\"\nidle = \"2s\"\nping = \"1s\"\nbody_timeout = \"1s\"";
    let server = TestServer::with(limits).await;
    let api = server.api();
    let connect = || TcpStream::connect(server.address);
    // A silent connection, half a head, half a body, an idle keep-alive.
    until_closed(connect().await.unwrap()).await;
    let mut half = connect().await.unwrap();
    half.write_all(b"GET /healthz HT").await.unwrap();
    until_closed(half).await;
    let mut slow = connect().await.unwrap();
    slow.write_all(b"POST /api/account/demo/login HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    assert!(until_closed(slow).await.contains("did not come in time"));
    let mut idle = connect().await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(until_closed(idle).await.starts_with("HTTP/1.1 200"));
    // A socket that does not say who it is.
    let mut nobody = api.socket("/ws_api/account/demo/messaging/consumer?v=3", &[]).await.unwrap();
    assert_eq!(nobody.closed().await.0, 1008);
    let ann = api.speaker("ann").await;
    // One that is there and answers pings lives; one that does not is idle.
    let mut alive = ann.consumer_socket().await;
    let mut dead = ann.consumer_socket().await;
    let began = Instant::now();
    let pings = tokio::time::timeout(Duration::from_secs(5), futures::StreamExt::next(&mut alive.socket));
    let came = pings.await;
    assert!(matches!(came, Ok(Some(Ok(tokio_tungstenite::tungstenite::Message::Ping(_))))), "{came:?}");
    while began.elapsed() < Duration::from_secs(4) {
        // Reading answers pings.
        let _ = tokio::time::timeout(Duration::from_millis(200), futures::StreamExt::next(&mut alive.socket)).await;
    }
    assert_eq!(alive.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    // Read without the library, which would answer the pings at last and fail at that.
    let tokio_tungstenite::MaybeTlsStream::Plain(stream) = dead.socket.get_mut() else { panic!("it is plain TCP") };
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("it was closed");
    assert!(bytes.windows(2).any(|pair| pair == 1001_u16.to_be_bytes()), "closed as idle: {bytes:?}");
}

#[tokio::test]
async fn half_a_message_is_not_waited_for_though_pings_are_answered() {
    let server = TestServer::with("[limits]\nidle = \"60s\"\nping = \"1s\"\nbody_timeout = \"3s\"").await;
    let ann = server.api().speaker("ann").await;
    let mut half = ann.consumer_socket().await;
    let mut whole = ann.consumer_socket().await;
    // A fragment of a message, and more of it; the library answers pings while it reads.
    let fragment = |payload: &[u8], head: u8| [&[head, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0][..], payload].concat();
    let began = Instant::now();
    if let tokio_tungstenite::MaybeTlsStream::Plain(stream) = half.socket.get_mut() {
        stream.write_all(&fragment(&[b'x'; 100], 0x01)).await.unwrap();
        stream.write_all(&fragment(&[b'x'; 100], 0x00)).await.unwrap();
    }
    assert_eq!(half.closed().await.0, 1008);
    assert!(began.elapsed() >= Duration::from_secs(2), "it had its time");
    assert_eq!(whole.ask(&request("c", "GetClock", json!({}))).await["code"], 200, "who only answers pings lives");
}

#[tokio::test]
async fn too_many_connections_of_one_address_are_refused_and_room_comes_back() {
    let server = TestServer::with("[limits]\nconnections_per_address = 3").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut buffer = [0; 512];
        assert!(tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("it is answered soon").unwrap() > 0);
        open.push(stream);
    }
    let refused = TcpStream::connect(server.address).await.unwrap();
    assert!(until_closed(refused).await.starts_with("HTTP/1.1 503"));
    open.pop();
    let began = Instant::now();
    loop {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        if asked.is_ok() && until_closed(stream).await.starts_with("HTTP/1.1 200") {
            return;
        }
        assert!(began.elapsed() < SOON, "there is no room again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn health_version_and_metrics_tell_the_truth() {
    let mut server = TestServer::with("[server]\ndialects = [\"liveperson\"]").await;
    let api = server.api();
    assert_eq!(api.get("/healthz").await.status, 200);
    assert_eq!(api.get("/readyz").await.json()["status"], "ready");
    assert_eq!(api.get("/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "x").await;
    let mut agent = api.agent("ada", "3").await;
    agent.follow(&id, 0).await;
    let metrics = api.get("/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    for name in [
        "tieline_connections",
        "tieline_sessions",
        "tieline_websockets_total",
        "tieline_requests_total",
        "tieline_http_requests_total",
        "tieline_http_request_seconds_bucket",
        "tieline_store_commit_seconds_bucket",
        "tieline_store_commit_decisions_bucket",
        "tieline_store_waiting",
        "tieline_store_unprojected",
        "tieline_deliveries_total",
    ] {
        assert!(metrics.text.lines().any(|line| line.starts_with(name)), "{name}");
    }
    assert!(!metrics.text.contains(&id), "no conversation is in a label");
    // While it drains it is not ready.
    server.begin_stop();
    assert_eq!(agent.closed().await.0, 1012);
    server.stop().await;
}

#[tokio::test]
async fn operators_pages_can_have_an_address_of_their_own() {
    let port = free_port();
    let server = TestServer::with(&format!("[internal]\nlisten = \"127.0.0.1:{port}\"")).await;
    assert_eq!(server.api().get("/metrics").await.status, 404);
    let inside = Api::new(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(inside.get("/readyz").await.status, 200);
    assert_eq!(inside.get("/api/account/demo/service/baseURI.json").await.status, 404);
}

#[tokio::test]
async fn a_dialect_that_is_off_says_so() {
    let server = TestServer::with("[server]\ndialects = []").await;
    let reply = server.api().get("/api/account/demo/service/baseURI.json").await;
    assert_eq!(reply.status, 404);
    assert!(reply.text.contains("server.dialects"), "{}", reply.text);
    assert_eq!(server.api().get("/readyz").await.status, 200);
}

#[tokio::test]
async fn tls_is_served_with_a_ca_that_a_client_can_trust_and_keeps() {
    let server = TestServer::with("[server.tls]\nlisten = \"127.0.0.1:0\"\nself_signed = true").await;
    let ca = std::fs::read(server.data().join("tls/ca.pem")).unwrap();
    let address = server.tls.unwrap();
    let client = || {
        let certificate = reqwest::Certificate::from_pem(&ca).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).build().unwrap()
    };
    for host in ["127.0.0.1", "localhost"] {
        let reply = client().get(format!("https://{host}:{}/readyz", address.port())).send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 200, "{host}");
    }
    let untrusting = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(untrusting.get(format!("https://127.0.0.1:{}/readyz", address.port())).send().await.is_err());
    let server = server.restart().await;
    assert_eq!(std::fs::read(server.data().join("tls/ca.pem")).unwrap(), ca, "clients that trust it go on doing so");
    let reply = client().get(format!("https://127.0.0.1:{}/readyz", server.tls.unwrap().port())).send().await.unwrap();
    assert_eq!(reply.status().as_u16(), 200);
}

#[tokio::test]
async fn sigterm_drains_answers_what_was_asked_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = TestProcess::start(dir.path(), free_port(), &[]).await;
    let ann = process.api().speaker("ann").await;
    let id = ann.open().await;
    let mut socket = ann.consumer_socket().await;
    let publishing = tokio::spawn(async move {
        let mut acked = 0;
        for number in 0_u64.. {
            let sent = futures::SinkExt::send(
                &mut socket.socket,
                tokio_tungstenite::tungstenite::Message::text(publish("p", &id, &number.to_string()).to_string()),
            );
            if sent.await.is_err() {
                return (id, acked, 1006);
            }
            match socket.come().await {
                Came::Frame(frame) => {
                    assert_eq!(frame["code"], 200);
                    acked += 1;
                }
                Came::Closed(code) => return (id, acked, code),
                Came::Gone => return (id, acked, 1006),
            }
        }
        unreachable!("the numbers do not end")
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let status = tokio::task::spawn_blocking(move || process.end("TERM")).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let (id, acked, code) = publishing.await.unwrap();
    assert_eq!(code, 1012, "told to come back");
    let process = TestProcess::start(dir.path(), free_port(), &[]).await;
    let mut agent = process.api().agent("ada", "3").await;
    let head = agent.follow(&id, 0).await["body"]["headSeq"].as_u64().unwrap();
    assert!(head + 1 >= acked && acked > 0, "{acked} acked, the log ends at {head}");
}

#[tokio::test]
async fn a_second_process_on_one_folder_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let _first = TestProcess::start(dir.path(), free_port(), &[]).await;
    let mut second = Command::new(env!("CARGO_BIN_EXE_tieline"));
    second.current_dir(dir.path()).env("TIELINE__SERVER__LISTEN", format!("127.0.0.1:{}", free_port()));
    let second = output(second.env("TIELINE__SERVER__DATA_DIR", dir.path().join("data")), SOON * 4);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another process") && said.contains("server.data_dir"), "{said}");
}

#[tokio::test]
async fn secrets_and_peoples_words_stay_out_of_logs_at_every_level_and_out_of_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = format!("export TIELINE__LOG__LEVEL=trace TIELINE__LOG__FORMAT=json; exec \"$0\" \"$@\" 2> {}", log.display());
    let mut process = TestProcess::start(dir.path(), free_port(), &["bash", "-c", &script]).await;
    let api = process.api();
    let ann = api.speaker("canary-consumer").await;
    let id = ann.open().await;
    ann.say(&id, "canary-text").await;
    let login = api.login("ada").await;
    let mut agent = api.agent_by(&login.bearer, "3").await;
    agent.follow(&id, 0).await;
    assert_eq!(agent.events(1).await.len(), 1);
    let mut consumer = ann.consumer_socket().await;
    consumer.ask(&publish("p", &id, "canary-frame")).await;
    consumer.send_text("canary-bad-frame").await;
    consumer.frame().await;
    api.call("POST", "/api/account/demo/login", &[], json!({"username": "ada", "password": "canary-password"}).to_string()).await;
    api.get("/api/account/demo/signup.jsonp?callback=canary-query").await;
    let metrics = api.get("/metrics").await.text;
    tokio::task::spawn_blocking(move || process.end("TERM")).await.unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("websocket opened") && log.lines().count() > 10, "there is a log to look at: {log}");
    let opened = log.lines().find(|line| line.contains("websocket opened")).unwrap();
    let opened: serde_json::Value = serde_json::from_str(opened).expect("each line is a JSON object");
    assert!(opened["span"]["connection_id"].is_string() && opened["spans"][0]["peer"].is_string(), "with a span per connection: {opened}");
    for canary in ["canary", &ann.app, &ann.jws, &login.bearer, &login.csrf, &login.session, "demo-connector-secret", "ada-demo"] {
        assert!(!log.contains(canary), "{canary:.20} is in the log: {:?}", log.lines().find(|line| line.contains(canary)));
        assert!(!metrics.contains(canary), "{canary:.20} is in the metrics");
    }
}

/// The file size limit stands for a disk that is full: a write fails, and nothing is committed.
#[tokio::test]
async fn a_disk_that_takes_no_more_refuses_writes_and_goes_on_reading() {
    let dir = tempfile::tempdir().unwrap();
    let limited = ["bash", "-c", "ulimit -f 2048; exec \"$0\" \"$@\""];
    let mut process = TestProcess::start(dir.path(), free_port(), &limited).await;
    let api = process.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let text = "x".repeat(7_900);
    let mut acked = 0_u64;
    let refused = loop {
        let reply = ann.post(SEND, publish("1", &id, &text).to_string()).await;
        if reply.status != 200 {
            break reply;
        }
        acked += 1;
        assert!(acked < 5_000, "the limit is not reached");
    };
    assert_eq!((refused.status, refused.error_code()), (507, 50701), "{}", refused.text);
    let ready = api.get("/readyz").await;
    assert!(ready.status == 503 && ready.text.contains("disk is full"), "{}", ready.text);
    assert_eq!(api.get("/healthz").await.status, 200, "the process itself is well");
    // Who is signed in reads on; what was acked is there, and nothing else.
    let mut socket = ann.consumer_socket().await;
    let all =
        socket.ask(&request("q", "ms.QueryMessages", json!({"dialogId": id, "olderThanSequence": 1_000_000, "maxQuantity": 1}))).await;
    assert_eq!(all["body"][0]["sequence"].as_u64(), Some(acked - 1));
    process.kill();
    let process = TestProcess::start(dir.path(), free_port(), &[]).await;
    let ann = process.api().speaker("ann").await;
    assert_eq!(ann.say(&id, "room again").await, acked);
}

#[test]
fn the_command_line_says_what_is_wrong_and_with_which_code() {
    let dir = tempfile::tempdir().unwrap();
    let check = tieline(dir.path(), &["check"]);
    let shown = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success() && shown.contains("listen = \"127.0.0.1:8080\"") && !shown.contains("ada-demo"), "{shown}");
    let init = tieline(dir.path(), &["init"]);
    assert!(init.status.success(), "{init:?}");
    let text = std::fs::read_to_string(dir.path().join("config.toml")).unwrap();
    assert!(!text.contains("ada-demo") && text.contains("# "), "its own secrets, and the comments");
    assert!(tieline(dir.path(), &["check"]).status.success());
    assert_eq!(tieline(dir.path(), &["init"]).status.code(), Some(1), "it does not write over a file");
    assert!(tieline(dir.path(), &["init", "--force"]).status.success());
    std::fs::write(dir.path().join("bad.toml"), "[server]\nlissten = \"127.0.0.1:80\"\n").unwrap();
    for command in ["check", "serve"] {
        let bad = tieline(dir.path(), &["--config", "bad.toml", command]);
        let said = String::from_utf8_lossy(&bad.stderr).into_owned();
        assert_eq!(bad.status.code(), Some(78), "{said}");
        assert!(said.contains("bad.toml:2:1") && said.contains("lissten") && said.contains("`listen`"), "{said}");
    }
    assert_eq!(tieline(dir.path(), &["--config", "none.toml", "check"]).status.code(), Some(78));
    assert_eq!(tieline(dir.path(), &["nonsense"]).status.code(), Some(2));
    assert_eq!(tieline(dir.path(), &["send", "--account", "demo"]).status.code(), Some(2));
    let away = tieline(dir.path(), &["health", "--url", "http://127.0.0.1:1"]);
    let said = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(away.status.code() == Some(1) && said.contains("tieline serve"), "{said}");
    let nowhere = tieline(dir.path(), &["token", "app", "--account", "demo"]);
    assert!(nowhere.status.code() == Some(1) && String::from_utf8_lossy(&nowhere.stderr).contains("there are no keys"), "{nowhere:?}");
    std::fs::create_dir_all(dir.path().join("data/keys")).unwrap();
    let token = tieline(dir.path(), &["token", "app", "--account", "demo"]);
    let token = String::from_utf8(token.stdout).unwrap();
    assert_eq!((token.lines().count(), token.trim().split('.').count()), (1, 3), "the token alone");
}

#[tokio::test]
async fn a_supervisor_is_told_ready_alive_reloading_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let heard = tokio::net::UnixDatagram::bind(&path).unwrap();
    let port = free_port();
    let child = Command::new(env!("CARGO_BIN_EXE_tieline"))
        .arg("serve")
        .current_dir(dir.path())
        .env("TIELINE__SERVER__LISTEN", format!("127.0.0.1:{port}"))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "600000")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let told = async |what: &str| {
        let until = async {
            loop {
                let mut bytes = [0; 512];
                let length = heard.recv(&mut bytes).await.unwrap();
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if text.lines().any(|line| line == what) {
                    return text;
                }
            }
        };
        tokio::time::timeout(SOON, until).await.unwrap_or_else(|_| panic!("{what} is told in time"))
    };
    told("READY=1").await;
    // Ready means that connections are accepted.
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    told("WATCHDOG=1").await;
    let signal = |name: &str| assert!(Command::new("kill").args([name, &child.0.id().to_string()]).status().unwrap().success());
    signal("-HUP");
    assert!(told("RELOADING=1").await.contains("MONOTONIC_USEC="));
    told("READY=1").await;
    signal("-TERM");
    told("STOPPING=1").await;
    assert!(child.status().success());
}
