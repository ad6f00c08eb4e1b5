//! A running gateway takes another configuration, other keys and another certificate: whole or not at all, and who is not
//! meant notices nothing.

use crate::support::*;
use base64::Engine;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio_tungstenite::tungstenite::http;

/// The usual configuration, changed by replacing texts that must be in it.
fn config(changes: &[(&str, &str)]) -> String {
    let usual = format!("{ADMIN}{CONFIG}");
    changes.iter().fold(usual, |text, (before, after)| {
        assert!(text.contains(before), "{before:?} is in the configuration");
        text.replacen(before, after, 1)
    })
}

async fn reload(dir: &Path, api: &Api, text: &str) -> Reply {
    std::fs::write(dir.join("test.toml"), text).unwrap();
    api.call("POST", "/admin/v1/reload", &ADMIN_KEY, "").await
}

fn kid(token: &str) -> String {
    let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&head).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// A command with the gateway's configuration and folder.
fn beside(dir: &Path, words: &[&str], address: std::net::SocketAddr) -> (bool, String) {
    tieline(dir, &dir.join("data"), &format!("http://{address}"), &[&["--config", "test.toml"], words].concat())
}

async fn login(api: &Api, login: &str, password: &str) -> u16 {
    let body = json!({"username": login, "password": password}).to_string();
    api.call("POST", "/api/account/demo/login?v=1.3", &[], body).await.status
}

#[tokio::test]
async fn a_reload_takes_accounts_limits_and_the_admin_key_and_ends_only_who_lost_what_let_it_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config(&[])).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let (mut ada, mut grace, mut consumer) = (api.agent("ada", "3").await, api.agent("grace", "3").await, ann.consumer_socket().await);
    let mut counting = {
        let app = api.app_token_of("demo", "counting").await;
        api.socket("/ws_api/account/demo/messaging/connector?v=3", &[("authorization", &app)]).await.unwrap()
    };
    assert_eq!(counting.ask(&request("c", "GetClock", json!({}))).await["code"], "OK");
    let conversation = ann.open().await;
    assert_eq!(ann.say(&conversation, "0123456789").await, 0);
    consumer.follow(&conversation, 0).await;
    let changed = config(&[
        ("password = \"ada-demo\"", "password = \"ada-new\""),
        ("client_secret = \"counting-secret\"", "client_secret = \"counting-new\""),
        ("login = \"bea\"", "login = \"zoe\""),
        ("password = \"bea-demo\"", "password = \"zoe-demo\""),
        ("[limits]", "[limits]\ntext = 10"),
    ]);
    let said = reload(dir.path(), &api, &changed).await;
    assert_eq!(said.status, 200, "{}", said.text);
    // Whose password or secret is another has to come back with it; the others go on.
    assert_eq!(ada.closed().await.0, 4401);
    assert_eq!(counting.closed().await.0, 4401);
    assert_eq!(grace.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    assert_eq!((login(&api, "ada", "ada-demo").await, login(&api, "ada", "ada-new").await), (401, 200));
    assert_eq!((login(&api, "bea", "bea-demo").await, login(&api, "zoe", "zoe-demo").await), (401, 200));
    assert_eq!(ann.say(&conversation, "9876543210").await, 1);
    assert_eq!(consumer.events(2).await.last().unwrap().1, "9876543210");
    let long = ann.post(SEND, publish("2", &conversation, "more than ten").to_string()).await;
    assert_eq!((long.status, long.error_code()), (400, 40002), "{}", long.text);
    // What is wrong, and what only a start can change, is refused by name, and what held before still holds.
    let before = config(&[("login = \"bea\"", "login = \"zoe\""), ("password = \"bea-demo\"", "password = \"zoe-demo\"")]);
    for (text, named) in [
        (before.replace("[limits]", "[limits]\ntext = \"many\""), "test.toml:"),
        (before.replace("[limits]", "[server]\ndrain = \"1s\"\n[limits]"), "server.drain cannot change while the gateway runs"),
        (before.replace("roles = [\"manager\"]", "roles = [\"chief\"]"), "chief"),
    ] {
        let refused = reload(dir.path(), &api, &text).await;
        assert_eq!(refused.status, 409, "{}", refused.text);
        assert!(refused.text.contains(named), "{named:?}: {}", refused.text);
        assert_eq!((login(&api, "ada", "ada-demo").await, login(&api, "ada", "ada-new").await), (401, 200));
        assert_eq!(ann.post(SEND, publish("2", &conversation, "more than ten").to_string()).await.status, 400);
    }
    // The admin key itself, and the roles of an agent.
    let other = changed.replace("the-admin-key", "another-key").replace("roles = [\"manager\"]", "roles = [\"agent\"]");
    assert_eq!(reload(dir.path(), &api, &other).await.status, 200);
    assert_eq!(grace.closed().await.0, 4401);
    assert_eq!(api.call("POST", "/admin/v1/reload", &ADMIN_KEY, "").await.status, 401);
    let metrics = api.get("/metrics").await.text;
    for line in ["tieline_config_reloads_total{result=\"applied\"} 2", "tieline_config_reloads_total{result=\"refused\"} 3"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_reload_is_made_to_its_end_also_when_who_asked_for_it_hangs_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config(&[])).await;
    let api = server.api();
    let mut agents = Vec::new();
    for name in ["ada", "grace", "bea"] {
        agents.push(api.agent(name, "3").await);
    }
    let changed = config(&[
        ("password = \"ada-demo\"", "password = \"ada-new\""),
        ("password = \"grace-demo\"", "password = \"grace-new\""),
        ("password = \"bea-demo\"", "password = \"bea-new\""),
    ]);
    std::fs::write(dir.path().join("test.toml"), changed).unwrap();
    // Whoever is gone before the call was read has asked for nothing. Nor does a second call what the first left undone: it finds
    // nothing changed.
    let ask = async {
        loop {
            api.call_and_leave("POST", "/admin/v1/reload", &ADMIN_KEY, "").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let end = async {
        for closed in futures::future::join_all(agents.iter_mut().map(Ws::closed)).await {
            assert_eq!(closed.0, 4401);
        }
    };
    tokio::select! {
        () = ask => {}
        () = end => {}
    }
}

#[tokio::test]
async fn a_login_ends_with_what_it_was_made_with_also_where_nobody_ended_it() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = TestProcess::start_with(dir.path(), port, &[], &config(&[])).await;
    let api = server.api();
    let (ada, grace, bea) = (api.login("ada").await, api.login("grace").await, api.login("bea").await);
    assert!(server.end("TERM").success());
    // Nothing ends them at a start; they are looked at when they are shown.
    let changed = config(&[("password = \"ada-demo\"", "password = \"ada-new\""), ("roles = [\"manager\"]", "roles = [\"agent\"]")]);
    let mut server = TestProcess::start_with(dir.path(), port, &[], &changed).await;
    let enters =
        async |api: &Api, bearer: &str| api.socket(&format!("/ws_api/account/demo/messaging/brand/{bearer}?v=3"), &[]).await.is_ok();
    let refreshes = async |api: &Api, login: &Login| {
        let cookie = format!("Session_id={}", login.session);
        let csrf = json!({"csrf": login.csrf}).to_string();
        api.call("POST", "/api/account/demo/refresh?v=1.3", &[("cookie", &cookie)], csrf).await.status == 200
    };
    let api = server.api();
    for (login, holds) in [(&ada, false), (&grace, false), (&bea, true)] {
        assert_eq!((refreshes(&api, login).await, enters(&api, &login.bearer).await), (holds, holds), "{}", login.user);
    }
    // With an account that is gone all of its logins end, also if it comes back.
    let gone = changed.replace("id = \"demo\"", "id = \"moved\"");
    assert_eq!(reload(dir.path(), &api, &gone).await.status, 200);
    assert!(!enters(&api, &bea.bearer).await);
    assert_eq!(reload(dir.path(), &api, &changed).await.status, 200);
    assert!(!enters(&api, &bea.bearer).await && !refreshes(&api, &bea).await);
    assert!(server.end("TERM").success());
}

#[tokio::test]
async fn a_hangup_reloads_and_an_account_may_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = TestProcess::start_with(dir.path(), free_port(), &[], &config(&[])).await;
    let api = server.api();
    let without = config(&[]).split("[[accounts]]\nid = \"other\"").next().unwrap().to_owned();
    let hangup = async |text: &str, expected: u16| {
        std::fs::write(dir.path().join("test.toml"), text).unwrap();
        assert!(Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap().success());
        let body = json!({"username": "ada", "password": "ada-demo"}).to_string();
        let end = tokio::time::Instant::now() + SOON;
        while api.call("POST", "/api/account/other/login?v=1.3", &[], body.clone()).await.status != expected {
            assert!(tokio::time::Instant::now() < end, "the reload is seen in time");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    hangup(&without, 401).await;
    hangup(&config(&[]), 200).await;
    assert!(server.end("TERM").success());
}

#[tokio::test]
async fn keys_are_rotated_with_overlap_and_revoked_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config(&[])).await;
    let api = server.api();
    let old = api.speaker("ann").await;
    let conversation = old.open().await;
    let (mut old_socket, mut agent) = (old.consumer_socket().await, api.agent("ada", "3").await);
    let signed_up = api.sign_up().await;
    let published = async || api.get("/.well-known/jwks.json").await.json()["keys"].as_array().unwrap().len();
    assert_eq!(published().await, 6);
    let (is_done, said) = beside(dir.path(), &["keys", "rotate", "app", "consumer"], server.address);
    assert!(is_done && said.contains("the gateway has read them"), "{said}");
    // Both keys are good, the new one signs, and nobody was disturbed.
    assert_eq!(published().await, 8);
    let new = api.speaker("ann").await;
    assert_ne!(kid(&old.app), kid(&new.app));
    assert_ne!(kid(&old.jws), kid(&new.jws));
    assert_eq!((old.say(&conversation, "old").await, new.say(&conversation, "new").await), (0, 1));
    assert_eq!(old_socket.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    let (_, listed) = beside(dir.path(), &["keys", "list"], server.address);
    let state = |kid: &str| listed.lines().find(|line| line.starts_with(kid)).unwrap().split_whitespace().nth(2).unwrap().to_owned();
    assert_eq!((state(&kid(&old.app)), state(&kid(&new.app))), ("checks".into(), "signs".into()), "{listed}");
    // Revoked: what the old key signed is worthless at once, its sockets come back, others are not touched.
    let (is_done, said) = beside(dir.path(), &["keys", "revoke", &kid(&old.app)], server.address);
    assert!(is_done, "{said}");
    assert_eq!(old_socket.closed().await.0, 1012);
    assert_eq!(old.post(SEND, publish("2", &conversation, "x").to_string()).await.error_code(), 40102);
    assert_eq!(new.say(&conversation, "still").await, 2);
    assert_eq!(agent.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    // The key that signs: another takes its place.
    let (is_done, said) = beside(dir.path(), &["keys", "revoke", &kid(&new.app)], server.address);
    assert!(is_done && said.contains("signs app tokens"), "{said}");
    assert_eq!(new.post(SEND, publish("2", &conversation, "x").to_string()).await.error_code(), 40102);
    assert_eq!(api.speaker("ann").await.say(&conversation, "newest").await, 3);
    // Ids stay as they are while it runs.
    let ids = dir.path().join("data/keys/ids.key");
    let kept = std::fs::read(&ids).unwrap();
    std::fs::write(&ids, [7; 32]).unwrap();
    let refused = api.call("POST", "/admin/v1/reload", &ADMIN_KEY, "").await;
    assert!(refused.status == 409 && refused.text.contains("ids.key"), "{}", refused.text);
    std::fs::write(&ids, kept).unwrap();
    // A consumer's own token is signed by a key that was not touched.
    assert!(api.socket("/ws_api/account/demo/messaging/consumer?v=3", &[("authorization", &signed_up)]).await.is_ok());
    let (is_done, said) = beside(dir.path(), &["keys", "revoke", "app-000000000000"], server.address);
    assert!(!is_done && said.contains("there is no key"), "{said}");
    assert!(
        !dir.path().join("data/keys").read_dir().unwrap().any(|file| file.unwrap().path().extension().is_some_and(|end| end == "partial"))
    );
}

/// A certificate for `localhost` of a CA of its own, written where the gateway reads it.
fn certificate(dir: &Path) -> rustls::pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Whether a gateway's certificate is this one: a request over TLS is answered.
async fn serves(port: u16, trusted: &rustls::pki_types::CertificateDer<'static>) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let Ok(stream) = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await else { return false };
    let request = http::Request::builder()
        .uri("wss://localhost/ws_api/account/demo/messaging/consumer?v=3")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap();
    tokio_tungstenite::client_async(request, stream).await.is_ok()
}

#[tokio::test]
async fn a_certificate_is_exchanged_for_connections_to_come_and_a_wrong_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let port = free_port();
    let first = certificate(dir.path());
    let at = |file: &str| dir.path().join(file).display().to_string();
    let tls = format!("[server.tls]\nlisten = \"127.0.0.1:{port}\"\ncert = {:?}\nkey = {:?}\n", at("cert.pem"), at("key.pem"));
    let text = format!("{tls}{}", config(&[]));
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &text).await;
    let api = server.api();
    let serves = async |port, trusted| tokio::time::timeout(SOON, serves(port, trusted)).await.expect("it answers soon");
    assert!(serves(port, &first).await);
    let second = certificate(dir.path());
    assert!(serves(port, &first).await && !serves(port, &second).await, "not before it is reloaded");
    assert_eq!(reload(dir.path(), &api, &text).await.status, 200);
    assert!(serves(port, &second).await && !serves(port, &first).await);
    // A key that is not the certificate's: nothing else of the new file is taken either.
    std::fs::write(dir.path().join("key.pem"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let refused = reload(dir.path(), &api, &text.replace("password = \"ada-demo\"", "password = \"ada-new\"")).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(serves(port, &second).await);
    assert_eq!(login(&api, "ada", "ada-demo").await, 200);
}

#[tokio::test]
async fn a_reload_begins_no_webhooks_of_a_dialect_that_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let hook = "capabilities = [\"webhooks\"]\nwebhooks = [{ event = \"ms.MessagingEventNotification.ContentEvent\", endpoint = \"https://shop.example/lp\", all = true }]";
    let secret = "client_secret = \"demo-connector-secret\"";
    let text = config(&[(secret, &format!("{secret}\n{hook}")), ("[limits]", "[server]\ndialects = [\"dixa\", \"oncehub\"]\n[limits]")]);
    let text = format!("{text}\n[[accounts.api_keys]]\ndialect = \"oncehub\"\nkey = \"the-oncehub-key\"\n");
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &text).await;
    let api = server.api();
    let subscribed = json!({"url": "https://shop.example/oncehub", "name": "one", "events": ["conversation"]}).to_string();
    let reply = api.call("POST", "/v2/webhooks", &[("api-key", "the-oncehub-key")], subscribed).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let targets = async || {
        let listed = api.call("GET", "/admin/v1/webhooks", &ADMIN_KEY, "").await.json();
        let endpoints = listed["endpoints"].as_array().unwrap_or_else(|| panic!("{listed}")).clone();
        endpoints.iter().map(|one| one["endpoint"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(targets().await, ["https://shop.example/oncehub"]);
    assert_eq!(reload(dir.path(), &api, &text).await.status, 200);
    assert_eq!(targets().await, ["https://shop.example/oncehub"]);
}
