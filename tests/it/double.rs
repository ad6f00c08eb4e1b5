//! `serve --dev`: a double for tests, with faults on demand and the same ids everywhere.

use crate::support::*;
use serde_json::{Value, json};
use std::time::Instant;

const DEV: &str = "[server]\ndev = true\n";
const KEY: (&str, &str) = ("authorization", "Bearer dev");

async fn set(api: &Api, mut fault: Value) -> Value {
    fault["account"] = json!("demo");
    let reply = api.call("POST", "/admin/v1/faults", &[KEY], fault.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

#[tokio::test]
async fn faults_happen_when_asked_for_on_both_transports_and_nowhere_else() {
    let server = TestServer::with(DEV).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let mut socket = ann.consumer_socket().await;

    // The next reply is dropped; what was asked for has happened.
    set(&api, json!({"dropReplies": 1})).await;
    let path = format!("/api/account/demo/messaging/consumer/{SEND}?v=3");
    let lost = api.try_call("POST", &path, &ann.headers(), publish("1", &id, "over HTTP").to_string()).await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(ann.say(&id, "next").await, 1);
    set(&api, json!({"dropReplies": 1})).await;
    socket.send(&publish("lost", &id, "over a socket")).await;
    let next = socket.ask(&publish("next", &id, "next")).await;
    assert_eq!(next["body"]["sequence"], 3, "the one before is stored, and was never answered: {next}");

    // Replies are delayed, on a socket in their order.
    set(&api, json!({"delayReplies": "300ms"})).await;
    let before = Instant::now();
    assert_eq!(ann.say(&id, "slow").await, 4);
    assert!(before.elapsed().as_millis() >= 300);
    let before = Instant::now();
    for number in 0..3 {
        socket.send(&request(&number.to_string(), "GetClock", json!({}))).await;
    }
    for number in 0..3 {
        assert_eq!(socket.frame().await["reqId"], number.to_string());
    }
    assert!(before.elapsed().as_millis() >= 300);
    let cleared = api.call("DELETE", "/admin/v1/faults?account=demo", &[KEY], "").await;
    assert_eq!(cleared.status, 204);
    let shown = api.call("GET", "/admin/v1/faults?account=demo", &[KEY], "").await.json();
    assert_eq!((&shown["delayReplies"], &shown["dropReplies"]), (&Value::Null, &json!(0)));

    // Sockets are closed with the code that is wanted; another tenant's stay.
    let bearer = {
        let body = json!({"username": "ada", "password": "ada-demo"}).to_string();
        api.call("POST", "/api/account/other/login?v=1.3", &[], body).await.json()["bearer"].as_str().unwrap().to_owned()
    };
    let mut other = api.socket(&format!("/ws_api/account/other/messaging/brand/{bearer}?v=3"), &[]).await.unwrap();
    let mut agent = api.agent("ada", "2.1").await;
    assert_eq!(set(&api, json!({"closeSockets": 4408})).await["closedSockets"], 2);
    assert_eq!((socket.closed().await.0, agent.closed().await.0), (4408, 4408));
    assert_eq!(other.ask(&request("c", "GetClock", json!({}))).await["code"], 200);

    // This token is worthless now; another of the same application is not.
    let mut socket = ann.consumer_socket().await;
    let fresh = Speaker { app: api.app_token().await, ..ann.clone() };
    assert!(set(&api, json!({"expireToken": ann.app})).await["expiredToken"].as_u64().unwrap() >= 1);
    assert_eq!(socket.closed().await.0, 4401);
    let refused = ann.post(SEND, publish("1", &id, "x").to_string()).await;
    assert_eq!((refused.status, refused.error_code()), (401, 40102));
    // The tokens of a second may be the same text.
    if fresh.app != ann.app {
        assert_eq!(fresh.say(&id, "with another token").await, 5);
    }

    // Only for who has the key, and what is no fault is said.
    assert_eq!(api.call("POST", "/admin/v1/faults", &[("authorization", "Bearer x")], "{}").await.status, 401);
    for wrong in [
        json!({}),
        json!({"account": "nobody"}),
        json!({"account": "demo", "closeSockets": 1005}),
        json!({"account": "demo", "delayReplies": "long"}),
        json!({"account": "demo", "delayReplies": "1h"}),
        json!({"account": "demo", "dropreplies": 1}),
    ] {
        let status = api.call("POST", "/admin/v1/faults", &[KEY], wrong.to_string()).await.status;
        assert!(status == 400 || status == 404, "{wrong}: {status}");
    }
}

#[tokio::test]
async fn a_gateway_for_customers_has_no_faults_and_no_known_key() {
    let server = TestServer::start().await;
    assert_eq!(server.api().call("GET", "/admin/v1/faults?account=demo", &[KEY], "").await.status, 404);
    let server = TestServer::with("[internal]\nadmin_key = \"of my own\"\n").await;
    let own = ("authorization", "Bearer of my own");
    let reply = server.api().call("POST", "/admin/v1/faults", &[own], json!({"account": "demo", "dropReplies": 1}).to_string()).await;
    assert_eq!(reply.status, 409, "{}", reply.text);
    let ann = server.api().speaker("ann").await;
    ann.open().await;
}

#[tokio::test]
async fn a_double_gives_the_same_ids_in_every_folder() {
    let (one, other) = (TestServer::with(DEV).await, TestServer::with(DEV).await);
    let (real, _) = (TestServer::start().await, ());
    let pid = async |server: &TestServer| server.api().login("ada").await.pid;
    let consumer = async |server: &TestServer| {
        let jws = server.api().speaker("ann").await.jws;
        let payload = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, jws.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice::<Value>(&payload).unwrap()["lp_consumer_id"].clone()
    };
    assert_eq!((pid(&one).await, consumer(&one).await), (pid(&other).await, consumer(&other).await));
    assert_ne!(pid(&one).await, pid(&real).await);
}

#[tokio::test]
async fn a_folder_that_a_double_made_serves_nobody_else() {
    let mut double = TestServer::with(DEV).await;
    double.stop().await;
    let set = |name: &str, value: &str| (format!("TIELINE__SERVER__{name}"), value.to_owned());
    let variables = [set("LISTEN", "127.0.0.1:0"), set("DATA_DIR", &double.data().display().to_string())];
    let config = tieline::config::Config::from_parts(None, variables).unwrap();
    let refused = tieline::Server::bind(config).await.unwrap_err().to_string();
    assert!(refused.contains("ids everybody can foresee"), "{refused}");
}
