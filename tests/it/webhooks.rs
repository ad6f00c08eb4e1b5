//! Webhooks, received by a real HTTP server that can be told to fail.

use crate::support::*;
use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tieline::config::WebhookSignature;
use tieline::delivery::{AppWebhooks, Hook, Target};
use tieline_protocol::webhook::{CONTENT, CONVERSATION, EVENTS, RECEIPT, RICH, TYPING};
use tokio::sync::mpsc;

/// What the receiver does with what comes to a path.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Answer(u16),
    Hang,
    /// To the path `/elsewhere`.
    Redirect,
}

/// What came.
#[derive(Debug, Clone)]
struct Posted {
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Posted {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn change(&self) -> Value {
        self.json()["body"]["changes"][0].clone()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The text of a message, with its number.
    fn text(&self) -> (u64, String) {
        let change = self.change();
        (change["sequence"].as_u64().unwrap(), change["event"]["message"].as_str().unwrap().to_owned())
    }
}

#[derive(Clone)]
struct Desk {
    hows: Arc<Mutex<HashMap<String, How>>>,
    tell: mpsc::UnboundedSender<Posted>,
}

/// A connector's own HTTP server.
struct TestReceiver {
    address: SocketAddr,
    desk: Desk,
    posted: mpsc::UnboundedReceiver<Posted>,
}

async fn receive(State(desk): State<Desk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    let how = desk.hows.lock().unwrap().get(&path).copied().unwrap_or(How::Answer(200));
    let _ = desk.tell.send(Posted { path, headers: parts.headers, body: String::from_utf8(body.into()).unwrap() });
    match how {
        How::Answer(status) => StatusCode::from_u16(status).unwrap().into_response(),
        How::Hang => std::future::pending().await,
        How::Redirect => Redirect::temporary("/elsewhere").into_response(),
    }
}

impl TestReceiver {
    async fn start() -> Self {
        let (tell, posted) = mpsc::unbounded_channel();
        let desk = Desk { hows: Arc::default(), tell };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(receive).with_state(desk.clone());
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(routes.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        Self { address, desk, posted }
    }

    fn set(&self, path: &str, how: How) {
        self.desk.hows.lock().unwrap().insert(path.to_owned(), how);
    }

    async fn next(&mut self) -> Posted {
        tokio::time::timeout(SOON, self.posted.recv()).await.expect("a webhook comes").unwrap()
    }

    async fn texts(&mut self, count: usize) -> Vec<(u64, String)> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.next().await.text());
        }
        texts
    }

    /// What came and was not looked at.
    fn rest(&mut self) -> Vec<Posted> {
        std::iter::from_fn(|| self.posted.try_recv().ok()).collect()
    }

    /// The lines that give an application webhooks to paths of this receiver; `more` goes into each.
    fn hooks(&self, hooks: &[(&str, &str)], more: &str) -> String {
        let hook = |(event, path): &(&str, &str)| format!("{{ event = \"{event}\", endpoint = \"http://{}{path}\"{more} }}", self.address);
        let hooks: Vec<String> = hooks.iter().map(hook).collect();
        format!("capabilities = [\"webhooks\"]\nwebhooks = [{}]\nwebhook_retention = \"1h\"\n", hooks.join(", "))
    }
}

const QUICK: &str = "[webhooks]\nretry_wait = \"30ms\"\n\n";

/// A gateway whose demo application has these lines.
async fn gateway(app: &str) -> TestServer {
    TestServer::with(&format!("{QUICK}# app demo-connector\n{app}")).await
}

fn signed(algorithm: hmac::Algorithm, secret: &str, body: &str) -> String {
    STANDARD.encode(hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), body.as_bytes()))
}

fn texts(range: std::ops::Range<u64>) -> Vec<(u64, String)> {
    range.map(|number| (number, format!("text {number}"))).collect()
}

async fn say(speaker: &Speaker, id: &str, range: std::ops::Range<u64>) {
    for number in range {
        assert_eq!(speaker.say(id, &format!("text {number}")).await, number);
    }
}

#[tokio::test]
async fn a_conversation_is_posted_from_both_sides_in_order_signed_and_byte_for_byte() {
    let mut receiver = TestReceiver::start().await;
    let hooks: Vec<_> = EVENTS.iter().filter(|event| **event != TYPING).map(|event| (*event, "/lp?key=hush")).collect();
    let server = gateway(&receiver.hooks(&hooks, ", headers = [{ name = \"X-Shop\", value = \"7\" }]")).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let pid = api.login("ada").await.pid;
    let mut ada = api.agent("ada", "3").await;

    let id = ann.open().await;
    ann.say(&id, "grüß 🦀").await;
    ada.ask(&add_agent("a", &id, "ASSIGNED_AGENT")).await;
    let publish = |event: Value| request("p", "ms.PublishEvent", json!({"dialogId": id, "event": event}));
    ada.ask(&publish(json!({"type": "RichContentEvent", "content": {"type": "vertical"}}))).await;
    ada.ask(&publish(json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]}))).await;
    let mut whisper = publish(json!({"type": "ContentEvent", "contentType": "text/plain", "message": "among us"}));
    whisper["body"]["messageAudience"] = json!("AGENTS_AND_MANAGERS");
    ada.ask(&whisper).await;
    ann.post(SEND, change("c", &id, json!({"field": "Stage", "conversationState": "CLOSE"})).to_string()).await;

    let mut posted = Vec::new();
    for _ in 0..7 {
        posted.push(receiver.next().await);
    }
    for one in &posted {
        assert_eq!(one.path, "/lp");
        let headers = ["content-type", "x-liveperson-account-id", "x-liveperson-client-id", "x-shop"].map(|name| one.header(name));
        assert_eq!(headers, ["application/json", "demo", "demo-connector", "7"]);
        let expected = format!("sha1={}", signed(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, "demo-connector-secret", &one.body));
        assert_eq!(one.header("x-liveperson-signature"), expected);
    }
    let opened = posted[0].change()["result"].clone();
    let consumer = opened["conversationDetails"]["participants"][0]["id"].as_str().unwrap().to_owned();
    let event = |place: usize, sequence: u64, who: &str, role: &str, event: &str, audience: &str| {
        let at = posted[place].change()["serverTimestamp"].as_i64().unwrap();
        let expected = format!(
            r#"{{"kind":"notification","type":"ms.MessagingEventNotification","body":{{"changes":[{{"sequence":{sequence},"originatorId":"{who}","originatorMetadata":{{"id":"{who}","role":"{role}"}},"serverTimestamp":{at},"event":{event},"conversationId":"{id}","dialogId":"{id}","messageAudience":"{audience}"}}]}}}}"#
        );
        assert_eq!(posted[place].body, expected);
    };
    event(1, 0, &consumer, "CONSUMER", r#"{"contentType":"text/plain","message":"grüß 🦀","type":"ContentEvent"}"#, "ALL");
    event(3, 1, &pid, "ASSIGNED_AGENT", r#"{"content":{"type":"vertical"},"type":"RichContentEvent"}"#, "ALL");
    event(4, 2, &pid, "ASSIGNED_AGENT", r#"{"sequenceList":[0],"status":"READ","type":"AcceptStatusEvent"}"#, "ALL");
    let text = r#"{"contentType":"text/plain","message":"among us","type":"ContentEvent"}"#;
    event(5, 3, &pid, "ASSIGNED_AGENT", text, "AGENTS_AND_MANAGERS");
    for place in [0, 2, 6] {
        let one = posted[place].json();
        let (sent, change) = (one["body"]["sentTs"].as_i64().unwrap(), &one["body"]["changes"][0]);
        assert_eq!((&change["type"], &change["result"]["convId"]), (&json!("UPSERT"), &json!(id)));
        let prefix = format!(
            r#"{{"kind":"notification","type":"cqm.ExConversationChangeNotification","body":{{"sentTs":{sent},"changes":[{{"type":"UPSERT","result":{{"convId":"{id}","#
        );
        assert!(posted[place].body.starts_with(&prefix), "{}", posted[place].body);
        assert!(!posted[place].body.contains("subscriptionId") && !posted[place].body.contains("participantsPId"));
    }
    let closed = posted[6].change()["result"]["conversationDetails"].clone();
    assert_eq!((&closed["state"], &closed["closeReason"]), (&json!("CLOSE"), &json!("CONSUMER")));
    assert_eq!(closed["dialogs"][0]["closedBy"], "CONSUMER");
    assert!(closed["participants"].as_array().unwrap().iter().any(|one| one["id"] == pid.as_str()), "{closed}");
}

#[tokio::test]
async fn only_200_and_201_count_and_order_is_kept_until_they_come() {
    let mut receiver = TestReceiver::start().await;
    let server = gateway(&receiver.hooks(&[(CONTENT, "/lp")], "")).await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut number = 0;
    for refusal in [How::Answer(500), How::Answer(202), How::Answer(204), How::Redirect] {
        receiver.set("/lp", refusal);
        say(&ann, &id, number..number + 5).await;
        let first = receiver.next().await;
        assert_eq!(first.text(), (number, format!("text {number}")));
        for _ in 0..2 {
            let again = receiver.next().await;
            assert_eq!((&again.path, &again.body), (&first.path, &first.body), "{refusal:?}: the same event again, and no other address");
        }
        receiver.set("/lp", How::Answer(201));
        // An attempt that was under way when the receiver recovered was still refused.
        let mut recovered = receiver.next().await.text();
        while recovered.0 == number {
            recovered = receiver.next().await.text();
        }
        assert_eq!(recovered.0, number + 1);
        assert_eq!(receiver.texts(3).await, texts(number + 2..number + 5));
        number += 5;
    }
    let metrics = server.api().get("/metrics").await.text;
    for name in ["tieline_webhook_deliveries_total{result=\"status\"}", "tieline_webhook_seconds_bucket"] {
        assert!(metrics.contains(name), "{name}");
    }
}

#[tokio::test]
async fn an_event_without_retries_is_tried_once_and_not_waited_for() {
    let mut receiver = TestReceiver::start().await;
    let once = receiver.hooks(&[(CONTENT, "/once")], ", max_retries = 0");
    let both = once
        .replace("webhooks = [", &format!("webhooks = [{{ event = \"{RECEIPT}\", endpoint = \"http://{}/kept\" }}, ", receiver.address));
    let server = gateway(&both).await;
    let ann = server.api().speaker("ann").await;
    receiver.set("/once", How::Answer(500));
    let id = ann.open().await;
    say(&ann, &id, 0..2).await;
    let receipt = json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]}});
    ann.post(SEND, request("r", "ms.PublishEvent", receipt).to_string()).await;
    let mut paths = Vec::new();
    for _ in 0..3 {
        paths.push(receiver.next().await.path);
    }
    // They are two endpoints, neither of which waits for the other.
    paths.sort_unstable();
    assert_eq!(paths, ["/kept", "/once", "/once"]);
    receiver.set("/once", How::Answer(200));
    say(&ann, &id, 3..4).await;
    assert_eq!(receiver.next().await.text(), (3, "text 3".into()), "the lost ones do not come back");
}

#[tokio::test]
async fn an_event_that_is_too_old_is_given_up_and_the_next_is_tried() {
    let mut receiver = TestReceiver::start().await;
    let hooks = receiver.hooks(&[(CONTENT, "/lp")], "");
    let server = gateway(&hooks.replace("\"1h\"", "\"1s\"")).await;
    let ann = server.api().speaker("ann").await;
    receiver.set("/lp", How::Answer(500));
    let id = ann.open().await;
    say(&ann, &id, 0..1).await;
    assert_eq!(receiver.next().await.text().0, 0);
    // The metric says when it was given up; the next event finds the way free.
    let given_up = "tieline_webhook_given_up_total{reason=\"too_old\"}";
    let began = std::time::Instant::now();
    while !server.api().get("/metrics").await.text.contains(given_up) {
        assert!(began.elapsed() < SOON, "it is given up");
        tokio::task::yield_now().await;
    }
    receiver.set("/lp", How::Answer(200));
    receiver.rest();
    say(&ann, &id, 1..2).await;
    assert_eq!(receiver.next().await.text(), (1, "text 1".into()));
}

fn typing(id: &str, state: &str) -> Value {
    request("t", "ms.PublishEvent", json!({"dialogId": id, "event": {"type": "ChatStateEvent", "chatState": state}}))
}

#[tokio::test]
async fn typing_states_are_posted_once_and_dropped_while_events_of_the_conversation_wait() {
    let mut receiver = TestReceiver::start().await;
    let hooks = receiver.hooks(&[(CONTENT, "/lp"), (RICH, "/typing"), (TYPING, "/typing")], "");
    let server =
        TestServer::with(&format!("[webhooks]\nretry_wait = \"30ms\"\nanswer_timeout = \"1s\"\n\n# app demo-connector\n{hooks}")).await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut consumer = ann.consumer_socket().await;
    let mut ada = server.api().agent("ada", "3").await;
    ada.follow(&id, 0).await;

    consumer.ask(&typing(&id, "COMPOSING")).await;
    let posted = receiver.next().await;
    let who = posted.change()["originatorId"].as_str().unwrap().to_owned();
    let expected = format!(
        r#"{{"kind":"notification","type":"ms.MessagingEventNotification","body":{{"changes":[{{"originatorId":"{who}","originatorMetadata":{{"id":"{who}","role":"CONSUMER"}},"event":{{"chatState":"COMPOSING","type":"ChatStateEvent"}},"conversationId":"{id}","dialogId":"{id}","messageAudience":"ALL"}}]}}}}"#
    );
    assert_eq!((posted.path.as_str(), posted.body), ("/typing", expected));

    // One that fails is not repeated, and nothing waits for it.
    receiver.set("/typing", How::Answer(500));
    consumer.ask(&typing(&id, "PAUSE")).await;
    assert_eq!(receiver.next().await.change()["event"]["chatState"], "PAUSE");
    receiver.set("/typing", How::Hang);
    consumer.ask(&typing(&id, "ACTIVE")).await;
    assert_eq!(receiver.next().await.change()["event"]["chatState"], "ACTIVE");
    say(&ann, &id, 0..1).await;
    assert_eq!(receiver.next().await.text().0, 0, "while the typing state hangs");

    // While an event of the conversation waits, typing states to that endpoint are dropped: the agent has seen it, and
    // attempts go on, before the receiver recovers.
    receiver.set("/typing", How::Answer(500));
    let card = |title: &str| json!({"dialogId": id, "event": {"type": "RichContentEvent", "content": {"type": title}}});
    ann.post(SEND, request("r", "ms.PublishEvent", card("first")).to_string()).await;
    let is_card = |posted: &Posted| posted.change()["event"]["type"] == "RichContentEvent";
    for _ in 0..2 {
        assert!(is_card(&receiver.next().await));
    }
    consumer.ask(&typing(&id, "INACTIVE")).await;
    ada.first(|frame| frame["body"]["changes"][0]["event"]["chatState"] == "INACTIVE").await;
    for _ in 0..3 {
        assert!(is_card(&receiver.next().await));
    }
    receiver.set("/typing", How::Answer(200));
    ann.post(SEND, request("r", "ms.PublishEvent", card("second")).to_string()).await;
    while receiver.next().await.change()["event"]["content"]["type"] != "second" {}
    consumer.ask(&typing(&id, "GONE")).await;
    assert_eq!(receiver.next().await.change()["event"]["chatState"], "GONE");
}

#[tokio::test]
async fn a_restart_loses_nothing_and_repeats_nothing() {
    let mut receiver = TestReceiver::start().await;
    let mut server = gateway(&receiver.hooks(&[(CONTENT, "/lp"), (CONVERSATION, "/conversation")], "")).await;
    let id = server.api().speaker("ann").await.open().await;
    assert_eq!(receiver.next().await.path, "/conversation");
    for round in 0..3_u64 {
        let ann = server.api().speaker("ann").await;
        let from = round * 10;
        say(&ann, &id, from..from + 5).await;
        assert_eq!(receiver.texts(5).await, texts(from..from + 5));
        receiver.set("/lp", if round == 2 { How::Hang } else { How::Answer(503) });
        say(&ann, &id, from + 5..from + 10).await;
        assert_eq!(receiver.next().await.text().0, from + 5);
        server.stop().await;
        assert!(receiver.rest().iter().all(|posted| posted.text().0 == from + 5), "nothing overtakes");
        receiver.set("/lp", How::Answer(200));
        server = server.restart().await;
        assert_eq!(receiver.texts(5).await, texts(from + 5..from + 10));
    }
}

#[tokio::test]
async fn applications_have_lanes_of_their_own() {
    let (mut receiver, mut other) = (TestReceiver::start().await, TestReceiver::start().await);
    let apps = format!(
        "{QUICK}# app demo-connector\n{}# app counting\nwebhook_signature = \"sha256\"\n{}",
        receiver.hooks(&[(CONTENT, "/demo")], ""),
        other.hooks(&[(CONTENT, "/counting")], "")
    );
    let server = TestServer::with(&apps).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let app = api.app_token_of(ACCOUNT, "counting").await;
    let jws = api.consumer_of(ACCOUNT, &app, "ann").await;
    let bob = Speaker { api, account: ACCOUNT.into(), app, jws };
    receiver.set("/demo", How::Hang);
    let id = ann.open().await;
    say(&ann, &id, 0..3).await;
    assert_eq!(receiver.next().await.text().0, 0);
    // The other application's arrive while that one hangs.
    let id = bob.open().await;
    for number in 0..50 {
        bob.post(SEND, publish("1", &id, &format!("text {number}")).to_string()).await;
    }
    for number in 0..50 {
        let posted = other.next().await;
        assert_eq!((posted.text(), posted.header("x-liveperson-client-id")), ((number, format!("text {number}")), "counting"));
        let expected = format!("sha256={}", signed(hmac::HMAC_SHA256, "counting-secret", &posted.body));
        assert_eq!(posted.header("x-liveperson-signature"), expected);
    }
    assert!(receiver.rest().is_empty(), "it still hangs, and nothing overtakes");
    receiver.set("/demo", How::Answer(200));
    assert_eq!(receiver.next().await.text().0, 0, "after the time-out");
    assert_eq!(receiver.texts(2).await, texts(1..3));
    assert!(other.rest().is_empty());
}

fn webhooks(receiver: &TestReceiver, path: &str) -> AppWebhooks {
    let hook = Hook {
        event: CONTENT.into(),
        target: Target::Post(format!("http://{}{path}", receiver.address).parse().unwrap()),
        all: false,
        max_retries: None,
        headers: HeaderMap::new(),
    };
    AppWebhooks {
        account: ACCOUNT.into(),
        client_id: "demo-connector".into(),
        secret: "another-secret".to_owned().into(),
        signature: WebhookSignature::Sha256,
        keys: Vec::new(),
        retention: Some(SOON),
        is_guarded: false,
        hooks: vec![hook],
        render: None,
    }
}

#[tokio::test]
async fn applications_come_change_and_go_while_the_gateway_runs() {
    let mut receiver = TestReceiver::start().await;
    let server = TestServer::with(QUICK).await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    say(&ann, &id, 0..2).await;
    server.deliveries.apply(vec![webhooks(&receiver, "/first")]).await;
    say(&ann, &id, 2..3).await;
    let posted = receiver.next().await;
    assert_eq!((posted.path.as_str(), posted.text().0), ("/first", 2), "what was before is not told");
    assert!(posted.header("x-liveperson-signature").ends_with(&signed(hmac::HMAC_SHA256, "another-secret", &posted.body)));
    // Another endpoint takes what the one before refuses.
    receiver.set("/first", How::Answer(500));
    say(&ann, &id, 3..5).await;
    assert_eq!(receiver.next().await.text().0, 3);
    server.deliveries.apply(vec![webhooks(&receiver, "/second")]).await;
    let mut posted = receiver.next().await;
    while posted.path == "/first" {
        posted = receiver.next().await;
    }
    assert_eq!((posted.path.as_str(), posted.text().0), ("/second", 3));
    assert_eq!(receiver.next().await.text().0, 4);
    // Gone, then back: it goes on where it was.
    server.deliveries.apply(Vec::new()).await;
    say(&ann, &id, 5..7).await;
    server.deliveries.apply(vec![webhooks(&receiver, "/third")]).await;
    for number in 5..7 {
        let posted = receiver.next().await;
        assert_eq!((posted.path.as_str(), posted.text().0), ("/third", number));
    }
}

#[tokio::test]
async fn an_application_that_is_told_nothing_of_a_type_gets_the_others() {
    let mut receiver = TestReceiver::start().await;
    let server = gateway(&receiver.hooks(&[(RICH, "/rich")], "")).await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    say(&ann, &id, 0..3).await;
    let card = json!({"dialogId": id, "event": {"type": "RichContentEvent", "content": {"type": "vertical"}}});
    ann.post(SEND, request("r", "ms.PublishEvent", card).to_string()).await;
    let posted = receiver.next().await;
    assert_eq!((posted.path.as_str(), posted.change()["sequence"].as_u64()), ("/rich", Some(3)));
}
