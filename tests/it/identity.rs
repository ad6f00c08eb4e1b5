//! Credentials: what is no token, and what happens on live sockets when one ends.

use crate::support::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// An RSA key that is not the gateway's.
fn foreign_key() -> (jsonwebtoken::EncodingKey, String) {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref()));
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair);
    (jsonwebtoken::EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), B64.encode(public.as_ref()))
}

/// The gateway's own key for a purpose, out of its folder: what a mistake of ours could sign with.
fn own_key(server: &TestServer, purpose: &str) -> jsonwebtoken::EncodingKey {
    let pem = std::fs::read(server.data().join(format!("keys/{purpose}.pem"))).unwrap();
    jsonwebtoken::EncodingKey::from_rsa_pem(&pem).unwrap()
}

fn signed(header: &Value, claims: &Value, key: &jsonwebtoken::EncodingKey) -> String {
    signed_text(&header.to_string(), &claims.to_string(), key)
}

fn signed_text(header: &str, claims: &str, key: &jsonwebtoken::EncodingKey) -> String {
    let message = format!("{}.{}", B64.encode(header), B64.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, jsonwebtoken::Algorithm::RS256).unwrap();
    format!("{message}.{signature}")
}

/// Everything that looks like an AppJWT and is none.
fn corpus(server: &TestServer, good: &str, jws: &str, bearer: &str, sign_up: &str) -> Vec<(String, String)> {
    let part = |token: &str, place: usize| -> Value {
        serde_json::from_slice(&B64.decode(token.split('.').nth(place).unwrap()).unwrap()).unwrap()
    };
    let (header, claims) = (part(good, 0), part(good, 1));
    let (foreign, public) = foreign_key();
    let own = own_key(server, "app");
    let now = claims["iat"].as_u64().unwrap();
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: String, token: String| all.push((name, token));
    for (name, token) in [
        ("a ConsumerJWS", jws),
        ("an agent's bearer", bearer),
        ("a consumer's own token", sign_up),
        ("nothing", ""),
        ("dots", ".."),
        ("text", "abc"),
    ] {
        add(name.into(), token.into());
    }
    let (message, signature) = good.rsplit_once('.').unwrap();
    add("no signature".into(), format!("{message}."));
    add("two parts".into(), message.into());
    add("four parts".into(), format!("{good}.x"));
    add("five parts, as encrypted ones have".into(), format!("{good}.x.y"));
    add("another signature".into(), format!("{message}.{}", B64.encode([7; 256])));
    add("a short signature".into(), format!("{message}.{}", &signature[..40]));
    add("padding".into(), format!("{good}=="));
    add(
        "a changed claim".into(),
        format!("{}.{}.{signature}", message.split('.').next().unwrap(), B64.encode(json!({"aud": "demo"}).to_string())),
    );
    for alg in ["none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS384", "RS512", "PS256", "ES256", "EdDSA", "", "rs256"] {
        let mut header = header.clone();
        header["alg"] = json!(alg);
        add(format!("alg {alg:?}, signed by our key"), signed(&header, &claims, &own));
        add(format!("alg {alg:?}, unsigned"), format!("{}.{}.", B64.encode(header.to_string()), B64.encode(claims.to_string())));
        let secret = jsonwebtoken::EncodingKey::from_secret(public.as_bytes());
        let confused = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let hmac = jsonwebtoken::crypto::sign(confused.as_bytes(), &secret, jsonwebtoken::Algorithm::HS256).unwrap();
        add(format!("alg {alg:?}, key confusion"), format!("{confused}.{hmac}"));
    }
    for (name, value) in [
        ("jwk", json!({"kty": "RSA", "n": public, "e": "AQAB"})),
        ("jku", json!("http://127.0.0.1:1/jwks.json")),
        ("x5u", json!("http://127.0.0.1:1/x.pem")),
        ("x5c", json!([public])),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
    ] {
        let mut header = header.clone();
        header[name] = value.clone();
        add(format!("header {name} {value}, foreign key"), signed(&header, &claims, &foreign));
        add(format!("header {name} {value}, own key"), signed(&header, &claims, &own));
    }
    for kid in [json!("../app"), json!("app"), json!(""), json!(null), json!(7), json!("agent-000000000000")] {
        let mut header = header.clone();
        header["kid"] = kid.clone();
        add(format!("kid {kid}"), signed(&header, &claims, &own));
    }
    for typ in ["at+jwt", "JWE", "jwt-consumer", ""] {
        let mut header = header.clone();
        header["typ"] = json!(typ);
        add(format!("typ {typ:?}"), signed(&header, &claims, &own));
    }
    add("signed by another key".into(), signed(&header, &claims, &foreign));
    for purpose in ["consumer", "signup", "agent"] {
        add(format!("signed by our key for {purpose}"), signed(&header, &claims, &own_key(server, purpose)));
    }
    for (name, value) in [
        ("iss", json!("sentinel")),
        ("iss", json!("Other")),
        ("iss", json!(null)),
        ("iss", json!(["Sentinel"])),
        ("aud", json!("other")),
        ("aud", json!("")),
        ("aud", json!(null)),
        ("aud", json!(["demo", "other"])),
        ("aud", json!("demo ")),
        ("azp", json!("nobody")),
        ("azp", json!("")),
        ("azp", json!(null)),
        ("azp", json!("scopeless/../demo-connector")),
        ("scope", json!("")),
        ("scope", json!("other")),
        ("scope", json!("msg.consumerx")),
        ("scope", json!(null)),
        ("exp", json!(now - 1)),
        ("exp", json!(0)),
        ("exp", json!(-1)),
        ("exp", json!(null)),
        ("exp", json!("9999999999")),
        ("exp", json!(1.5)),
        ("exp", json!(now + 3601)),
        ("exp", json!(now + 10_000_000)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(true)),
        ("iat", json!(now + 600)),
        ("iat", json!(null)),
        ("iat", json!("1")),
        ("iat", json!(-5)),
    ] {
        let mut claims = claims.clone();
        claims[name] = value.clone();
        add(format!("claim {name} {value}"), signed(&header, &claims, &own));
        claims.as_object_mut().unwrap().remove(name);
        add(format!("claim {name} is missing"), signed(&header, &claims, &own));
    }
    let text = claims.to_string();
    add("a claim twice".into(), signed_text(&header.to_string(), &text.replacen('{', "{\"aud\":\"other\",", 1), &own));
    add("a header member twice".into(), signed_text(&header.to_string().replacen('{', "{\"alg\":\"RS256\",", 1), &text, &own));
    add("claims that are no object".into(), signed_text(&header.to_string(), "[]", &own));
    add("a header that is no JSON".into(), signed_text("x", &text, &own));
    add("very long".into(), "a".repeat(12_000));
    all
}

#[tokio::test]
async fn what_is_no_token_opens_nothing() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let corpus = corpus(&server, &ann.app, &ann.jws, &api.login("ada").await.bearer, &api.sign_up().await);
    assert!(corpus.len() >= 100, "{}", corpus.len());
    for (name, token) in &corpus {
        let forged = Speaker { app: token.clone(), ..ann.clone() };
        let reply = forged.post(SEND, publish("1", &id, "forged").to_string()).await;
        assert_eq!((reply.status, reply.error_code()), (401, 40102), "{name}: {}", reply.text);
        let path = format!("/ws_api/account/{ACCOUNT}/messaging/connector?v=3");
        assert!(api.socket(&path, &[("authorization", token)]).await.is_err(), "{name}: the connector socket");
        if !token.contains([' ', '\n']) && !token.is_empty() {
            let brand = format!("/ws_api/account/{ACCOUNT}/messaging/brand/{token}?v=3");
            let is_bearer = name == "an agent's bearer";
            assert_eq!(api.socket(&brand, &[]).await.is_ok(), is_bearer, "{name}: the agent's socket");
        }
    }
    // What the corpus is made of would have worked unchanged, and none of it reached the log.
    assert_eq!(ann.say(&id, "real").await, 0);
    println!("tokens: {} forged, 0 accepted", corpus.len());
}

/// What a socket does while its token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Following,
    Publishing,
    Pinging,
    HalfAFrame,
}

/// By how many milliseconds the times of two events that come together may run ahead of the clock. Who publishes pauses between two,
/// so that they do not run on.
const TOGETHER: i64 = 10;

/// What a socket saw of its end.
#[derive(Debug)]
struct Ended {
    code: u16,
    at: Instant,
    /// The numbers acked to it, and the newest event pushed to it, by the gateway's clock.
    acked: Vec<u64>,
    newest: i64,
}

#[tokio::test]
async fn a_socket_whose_token_ends_is_closed_with_4401_whatever_it_does() {
    let server = TestServer::with("[tokens]\napp = \"8s\"").await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    // An agent, whose session goes on, publishes all the while: there is always something that could be pushed.
    let mut agent = api.agent("ada", "3").await;
    agent.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let published = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let publishing = tokio::spawn({
        let (stop, published, id) = (stop.clone(), published.clone(), id.clone());
        async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(agent.ask(&publish("a", &id, "agent")).await["code"], 200);
                published.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            agent
        }
    });
    let fresh = Speaker { app: api.app_token().await, ..ann.clone() };
    let exp = crate::connector_api::claims(&fresh.app)["exp"].as_i64().unwrap() * 1000;
    let now = || i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let expires = Instant::now() + Duration::from_millis(u64::try_from(exp - now()).unwrap());
    let all = [Doing::Nothing, Doing::Following, Doing::Publishing, Doing::Pinging, Doing::HalfAFrame];
    let mut running = Vec::new();
    for doing in all {
        let (socket, id) = (fresh.consumer_socket().await, id.clone());
        running.push(tokio::spawn(async move {
            let life = tokio::time::timeout(SOON * 2, live(doing, socket, &id)).await;
            (doing, life.unwrap_or_else(|_| panic!("{doing:?} is not closed")))
        }));
    }
    let mut latest = Duration::ZERO;
    let mut acked = Vec::new();
    for ended in futures::future::join_all(running).await {
        let (doing, ended) = ended.unwrap();
        assert_eq!(ended.code, 4401, "{doing:?}");
        let late = ended.at.saturating_duration_since(expires);
        assert!(late < Duration::from_secs(5), "{doing:?} was closed {late:?} after the token's end");
        assert!(ended.at + Duration::from_millis(100) >= expires, "{doing:?} was closed early");
        assert!(ended.newest <= exp + TOGETHER, "{doing:?} was pushed an event of {} ms after the token's end", ended.newest - exp);
        assert_eq!(doing == Doing::Following, ended.newest > 0, "{doing:?}");
        assert_eq!(doing == Doing::Publishing, !ended.acked.is_empty(), "{doing:?}");
        acked.extend(ended.acked);
        latest = latest.max(late);
    }
    // What was acked was stored before the end; events after it there are, the agent's.
    let so_far = published.load(std::sync::atomic::Ordering::Relaxed);
    while published.load(std::sync::atomic::Ordering::Relaxed) < so_far + 3 {
        assert!(expires.elapsed() < SOON, "the agent publishes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut agent = publishing.await.unwrap();
    let mut times = std::collections::HashMap::new();
    loop {
        let page = request("q", "ms.QueryMessages", json!({"dialogId": id, "newerThanSequence": times.len(), "maxQuantity": 1000}));
        let answer = agent.ask(&page).await;
        let events = answer["body"].as_array().unwrap();
        if events.is_empty() {
            break;
        }
        times.extend(events.iter().map(|change| (change["sequence"].as_u64().unwrap(), change["serverTimestamp"].as_i64().unwrap())));
    }
    assert!(times.values().any(|at| *at > exp), "there was something that could have been pushed too late");
    for sequence in &acked {
        assert!(
            times[sequence] <= exp + TOGETHER,
            "number {sequence} was acked and stored {} ms after the token's end",
            times[sequence] - exp
        );
    }
    println!("expiry: {} sockets, {} acks before the end, latest close {latest:?} after it", all.len(), acked.len());
    let reply = fresh.post(SEND, publish("1", &id, "late").to_string()).await;
    assert_eq!((reply.status, reply.error_code()), (401, 40102), "over HTTP, too");
}

/// Lives until nothing more can come.
async fn live(doing: Doing, mut socket: Ws, id: &str) -> Ended {
    let mut ended = Ended { code: 1006, at: Instant::now(), acked: Vec::new(), newest: 0 };
    if doing == Doing::Following {
        socket.follow(id, 0).await;
    }
    if doing == Doing::HalfAFrame {
        use tokio::io::AsyncWriteExt;
        if let tokio_tungstenite::MaybeTlsStream::Plain(stream) = socket.socket.get_mut() {
            // The head of a masked text frame of 100 bytes, and a few of them.
            stream.write_all(&[0x81, 0x80 | 100, 1, 2, 3, 4, 5, 6, 7]).await.unwrap();
        }
    }
    loop {
        // The close may have come already; then the next read says so.
        let _ = match doing {
            Doing::Publishing => {
                tokio::time::sleep(Duration::from_millis(3)).await;
                futures::SinkExt::send(&mut socket.socket, Message::text(publish("p", id, "consumer").to_string())).await
            }
            Doing::Pinging => futures::SinkExt::send(&mut socket.socket, Message::Ping(vec![1].into())).await,
            Doing::Nothing | Doing::Following | Doing::HalfAFrame => Ok(()),
        };
        match tokio::time::timeout(SOON, socket.socket.next()).await.expect("the close comes") {
            Some(Ok(Message::Close(Some(frame)))) => (ended.code, ended.at) = (frame.code.into(), Instant::now()),
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                let times =
                    frame["body"]["changes"].as_array().into_iter().flatten().filter_map(|change| change["serverTimestamp"].as_i64());
                ended.newest = times.fold(ended.newest, i64::max);
                ended.acked.extend(frame["body"]["sequence"].as_u64());
            }
            Some(Ok(_)) => {}
            // Read to the very end: whatever came behind the close would have been seen.
            Some(Err(_)) | None => return ended,
        }
    }
}

#[tokio::test]
async fn what_was_acked_before_the_end_is_all_that_is_acked() {
    let server = TestServer::with("[tokens]\napp = \"6s\"").await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let fresh = Speaker { app: api.app_token().await, ..ann.clone() };
    let mut socket = fresh.consumer_socket().await;
    let mut acked = 0_u64;
    let began = Instant::now();
    let code = loop {
        assert!(began.elapsed() < SOON * 2, "it is not closed");
        socket.send_all(&id, acked).await;
        match socket.come().await {
            Came::Frame(frame) => {
                assert_eq!(frame["code"], 200);
                acked += 1;
            }
            Came::Closed(code) => break code,
            Came::Gone => break 1006,
        }
    };
    assert_eq!(code, 4401);
    let mut agent = api.agent("ada", "3").await;
    let head = agent.follow(&id, 0).await["body"]["headSeq"].as_u64().unwrap();
    // One may have been committed and not acked: it is unknown to its sender.
    assert!(head + 1 == acked || head == acked, "{acked} acked, the log ends at {head}");
}

impl Ws {
    async fn send_all(&mut self, id: &str, number: u64) {
        // The close may have come already; then the next read says so.
        let _ = futures::SinkExt::send(&mut self.socket, Message::text(publish("p", id, &number.to_string()).to_string())).await;
    }
}

#[tokio::test]
async fn a_fresh_token_for_the_same_identity_lets_a_socket_live_on() {
    let server = TestServer::with("[tokens]\napp = \"6s\"\nconsumer = \"6s\"").await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let mut jwt = api.sign_up().await;
    let mut consumer = ann.consumer_socket().await;
    let mut connector = ann.connector_socket().await;
    let mut web = api.socket("/ws_api/account/demo/messaging/consumer?v=3", &[("authorization", &jwt)]).await.unwrap();
    let init = |kind: &str, jwt: &str| {
        let mut frame = request("i", "InitConnection", json!({}));
        frame["headers"] = json!([{"type": kind, "jwt": jwt}]);
        frame
    };
    let counting = api.app_token_of(ACCOUNT, "counting").await;
    assert_eq!(consumer.ask(&init(".ams.headers.AppAuthentication", &counting)).await["code"], 401, "another application's");
    assert_eq!(connector.ask(&init(".ams.headers.AppAuthentication", &counting)).await["code"], 401);
    assert_eq!(web.ask(&init(".ams.headers.ConsumerAuthentication", &api.sign_up().await)).await["code"], 401, "another consumer's");
    let began = Instant::now();
    // Twice as long as a token lives.
    while began.elapsed() < Duration::from_secs(12) {
        let app = api.app_token().await;
        assert_eq!(consumer.ask(&init(".ams.headers.AppAuthentication", &app)).await["code"], 200);
        assert_eq!(connector.ask(&init(".ams.headers.AppAuthentication", &app)).await["code"], "OK");
        let again = api.call("POST", "/api/account/demo/anonymous/authorize", &[], json!({"id_token": jwt}).to_string()).await;
        jwt = again.json()["token"].as_str().unwrap().to_owned();
        assert_eq!(web.ask(&init(".ams.headers.ConsumerAuthentication", &jwt)).await["code"], 200);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for socket in [&mut consumer, &mut web] {
        assert_eq!(socket.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    }
    assert_eq!(connector.ask(&request("c", "GetClock", json!({}))).await["code"], "OK");
}

#[tokio::test]
async fn an_agents_session_slides_with_refresh_and_ends_with_logout_on_all_sockets() {
    let server = TestServer::with("[tokens]\nagent = \"6s\"").await;
    let api = server.api();
    let login = api.login("ada").await;
    let other = api.login("ada").await;
    let (mut one, mut two) = (api.agent_by(&login.bearer, "3").await, api.agent_by(&login.bearer, "2.1").await);
    let mut others = api.agent_by(&other.bearer, "3").await;
    let post = |path: &str, cookie: String, csrf: String| {
        let (api, path) = (api.clone(), format!("/api/account/demo/{path}"));
        async move { api.call("POST", &path, &[("cookie", &cookie)], json!({"csrf": csrf}).to_string()).await }
    };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(9) {
        let refreshed = post("refresh?v=1.3", format!("Session_id={}", login.session), login.csrf.clone()).await;
        assert_eq!((refreshed.status, refreshed.text.as_str()), (200, ""), "an empty body: clients look for an error in it");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(one.ask(&request("c", "GetClock", json!({}))).await["code"], 200, "it lived on past its first end");
    assert_eq!(others.closed().await.0, 4401, "a login that was not refreshed ends");
    assert!(api.socket(&format!("/ws_api/account/demo/messaging/brand/{}?v=3", other.bearer), &[]).await.is_err());
    for (cookie, csrf) in
        [("x=y", login.csrf.as_str()), ("Session_id=unknown", &login.csrf), (&format!("Session_id={}", login.session), "wrong")]
    {
        assert!([400, 401].contains(&post("refresh", cookie.to_owned(), csrf.to_owned()).await.status), "{cookie} {csrf}");
    }
    // Another spelling of the cookie's name, as one client has it.
    assert_eq!(post("logout", format!("a=b; session_id={};", login.session), login.csrf.clone()).await.status, 200);
    assert_eq!((one.closed().await.0, two.closed().await.0), (4401, 4401));
    assert_eq!(post("refresh", format!("Session_id={}", login.session), login.csrf.clone()).await.status, 401);
}

#[tokio::test]
async fn a_bearer_outlives_a_restart_and_a_wrong_password_is_refused() {
    let server = TestServer::start().await;
    let login = server.api().login("ada").await;
    let server = server.restart().await;
    let api = server.api();
    let mut agent = api.agent_by(&login.bearer, "3").await;
    assert_eq!(agent.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    let mut by_header =
        api.socket("/ws_api/account/demo/messaging/brand?v=2.1", &[("authorization", &format!("Bearer {}", login.bearer))]).await.unwrap();
    assert_eq!(by_header.ask(&request("c", ".GetClock", json!({}))).await["type"], ".GetClock$Response");
    for (body, status) in [
        (json!({"username": "ada", "password": "guess"}), 401),
        (json!({"username": "nobody", "password": "guess"}), 401),
        (json!({"username": "ada"}), 400),
        (json!(["ada", "ada-demo"]), 400),
        (json!("x"), 400),
    ] {
        let reply = api.call("POST", "/api/account/demo/login?v=1.3", &[], body.to_string()).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        assert!(reply.json()["error"].is_string(), "clients call string methods on it");
    }
    let reply = api.call("POST", "/api/account/nobody/login", &[], json!({"username": "ada", "password": "ada-demo"}).to_string()).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn password_attempts_are_limited_and_hashes_are_understood() {
    let hash = {
        use argon2::password_hash::PasswordHasher;
        argon2::Argon2::default().hash_password(b"hashed-demo").unwrap().to_string()
    };
    let extra = format!(
        "[limits]\nlogins_per_minute = 5\n\n[[accounts]]\nid = \"hashed\"\n[[accounts.agents]]\nuser_id = \"7\"\nlogin = \"hashed\"\npassword_hash = \"{hash}\"\n"
    );
    let server = TestServer::with(&extra).await;
    let api = server.api();
    let login = |password: &str| json!({"username": "hashed", "password": password}).to_string();
    assert_eq!(api.call("POST", "/api/account/hashed/login", &[], login("hashed-demo")).await.status, 200);
    let mut last = api.call("POST", "/api/account/hashed/login", &[], login("guess")).await;
    for _ in 0..6 {
        last = api.call("POST", "/api/account/hashed/login", &[], login("guess")).await;
    }
    assert_eq!(last.status, 429);
    assert!(last.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(api.call("POST", "/api/account/hashed/login", &[], login("hashed-demo")).await.status, 429, "also with the right one");
}
