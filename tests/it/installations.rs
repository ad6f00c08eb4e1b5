//! Applications that an administrator installs while the gateway runs; and what a console asks when all is over.

use crate::support::*;
use serde_json::{Value, json};

#[path = "../../src/outbound/address/hostile.rs"]
pub mod hostile;

const ADMIN: &str = r#"
[[accounts]]
id = "shop"
[[accounts.apps]]
client_id = "of-the-file"
client_secret = "of-the-file-secret"
[[accounts.agents]]
user_id = "1"
login = "root"
password = "root-demo"
roles = ["admin"]
[[accounts.agents]]
user_id = "2"
login = "eve"
password = "eve-demo"
"#;

const PATH: &str = "/api/account/shop/configuration/app-install/installations";

async fn bearer(api: &Api, login: &str) -> String {
    let body = json!({"username": login, "password": format!("{login}-demo")}).to_string();
    let reply = api.call("POST", "/api/account/shop/login?v=1.3", &[], body).await;
    format!("Bearer {}", reply.json()["bearer"].as_str().unwrap())
}

fn manifest(name: &str) -> Value {
    json!({"client_name": name, "description": "carries SMS", "grant_types": ["client_credentials"], "scope": "msg.consumer",
        "logo_uri": "/logo.png", "enabled": true, "capabilities": {}})
}

async fn token(api: &Api, app: &Value) -> Reply {
    let form = format!("client_id={}&client_secret={}", app["client_id"].as_str().unwrap(), app["client_secret"].as_str().unwrap());
    let kind = ("content-type", "application/x-www-form-urlencoded");
    api.call("POST", "/sentinel/api/account/shop/app/token?v=1.0&grant_type=client_credentials", &[kind], form).await
}

fn revision(reply: &Reply) -> String {
    reply.headers["ac-revision"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_administrator_installs_changes_and_removes_an_application() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    let (root, eve) = (bearer(&api, "root").await, bearer(&api, "eve").await);
    let call = async |method: &str, path: &str, more: &[(&str, &str)], body: Value| {
        let headers: Vec<_> = [("authorization", root.as_str())].into_iter().chain(more.iter().copied()).collect();
        api.call(method, &format!("{PATH}{path}?v=1.0"), &headers, if body.is_null() { String::new() } else { body.to_string() }).await
    };
    // Only an administrator, and not with anything else that is a token.
    for headers in [vec![], vec![("authorization", eve.as_str())]] {
        let refused = api.call("POST", PATH, &headers, manifest("x").to_string()).await;
        assert_eq!(refused.status, if headers.is_empty() { 401 } else { 403 }, "{}", refused.text);
    }
    let installed = call("POST", "", &[], manifest("sms")).await;
    assert_eq!(installed.status, 201, "{}", installed.text);
    let app = installed.json();
    assert_eq!((&app["logo_uri"], &app["deleted"]), (&json!("/logo.png"), &json!(false)), "what it says else is given back");
    assert_eq!(token(&api, &app).await.status, 200);
    let id = app["id"].as_str().unwrap().to_owned();
    let all = call("GET", "", &[], Value::Null).await;
    assert_eq!(revision(&all), revision(&installed));
    let ids: Vec<_> = all.json().as_array().unwrap().iter().map(|app| app["id"].clone()).collect();
    assert_eq!(ids, [json!("of-the-file"), json!(id)]);

    // A change names the revision it is based on.
    let one = call("GET", &format!("/{id}"), &[], Value::Null).await;
    assert_eq!(one.json(), app);
    let mut disabled = manifest("sms");
    disabled["enabled"] = json!(false);
    disabled["client_secret"] = json!("chosen");
    let path = format!("/{id}");
    assert_eq!(call("PUT", &path, &[], disabled.clone()).await.status, 400, "no If-Match");
    let other = call("PUT", &path, &[("if-match", "99")], disabled.clone()).await;
    assert_eq!((other.status, other.error_code()), (412, 41201));
    let live = token(&api, &app).await.json()["access_token"].as_str().unwrap().to_owned();
    let mut socket = api.socket("/ws_api/account/shop/messaging/connector?v=3", &[("authorization", &live)]).await.unwrap();
    assert_eq!(socket.ask(&request("c", "GetClock", json!({}))).await["code"], "OK");
    let changed = call("PUT", &path, &[("if-match", &revision(&one))], disabled).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.json()["client_secret"], app["client_secret"], "a secret is not chosen");
    assert_eq!(token(&api, &app).await.status, 401, "disabled");
    let consumer = api.call("POST", "/api/account/shop/consumer", &[("authorization", &live)], r#"{"ext_consumer_id":"a"}"#).await;
    assert_eq!(consumer.status, 401, "its tokens are worth nothing either");
    assert_eq!(socket.closed().await.0, 4401, "and its sockets end");
    let over = [("if-match", revision(&changed)), ("x-http-method-override", "PUT".to_owned())];
    let over: Vec<_> = over.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let enabled = call("POST", &path, &over, manifest("sms")).await;
    assert_eq!(enabled.status, 200, "{}", enabled.text);
    assert_eq!(token(&api, &app).await.status, 200);

    // It is there after a restart, and gone when it is removed.
    let server = server.restart().await;
    let api = server.api();
    let root = bearer(&api, "root").await;
    assert_eq!(token(&api, &app).await.status, 200);
    let headers = [("authorization", root.as_str()), ("if-match", &revision(&enabled))];
    let removed = api.call("DELETE", &format!("{PATH}/{id}"), &headers, "").await;
    assert_eq!((removed.status, &removed.json()["deleted"]), (200, &json!(true)));
    assert_eq!(token(&api, &app).await.status, 401);
    assert_eq!(api.call("GET", &format!("{PATH}/{id}"), &headers[..1], "").await.status, 404);
    let headers = [("authorization", root.as_str()), ("if-match", &revision(&removed))];
    assert_eq!(api.call("DELETE", &format!("{PATH}/of-the-file"), &headers, "").await.status, 400, "that one stands in the file");
}

#[tokio::test]
async fn regression_what_is_null_in_a_manifest_has_the_usual_value_and_is_shown_with_it() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    let root = bearer(&api, "root").await;
    let body = json!({"client_name": "silent", "scope": null, "enabled": null}).to_string();
    let silent = api.call("POST", PATH, &[("authorization", &root)], body).await;
    assert_eq!(silent.status, 201, "{}", silent.text);
    assert_eq!((&silent.json()["scope"], &silent.json()["enabled"]), (&json!("msg.consumer"), &json!(true)));
}

#[tokio::test]
async fn a_manifest_that_makes_no_sense_is_refused_with_the_reason() {
    let server = TestServer::guarded(ADMIN).await;
    let api = server.api();
    let root = bearer(&api, "root").await;
    let with = |members: Value| {
        let mut manifest = manifest("sms");
        manifest.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        manifest
    };
    let hook = |event: &str, hook: Value| with(json!({"capabilities": {"webhooks": {event: hook}}}));
    const CONTENT: &str = "ms.MessagingEventNotification.ContentEvent";
    for (manifest, reason) in [
        (json!([]), "not understood"),
        (json!({}), "client_name is missing"),
        (with(json!({"client_name": "x".repeat(129)})), "at most 128"),
        (with(json!({"description": "x".repeat(257)})), "at most 256"),
        (with(json!({"grant_types": ["password"]})), "client_credentials"),
        (with(json!({"scope": "everything"})), "msg.consumer"),
        (hook("ms.Nonsense", json!({"endpoint": "https://a.example"})), "is not known; write one of"),
        (hook(CONTENT, json!({"endpoint": "ftp://a.example"})), "must be https"),
        (hook(CONTENT, json!({"endpoint": "http://127.0.0.1:9"})), "loopback addresses are refused"),
        (hook(CONTENT, json!({"endpoint": "https://localhost:9"})), "loopback addresses are refused"),
        (hook(CONTENT, json!({"endpoint": "https://0xa9fea9fe/latest"})), "link-local addresses are refused"),
        (hook(CONTENT, json!({"endpoint": "https://a.example", "max_retries": 6})), "0 to 5"),
        (
            hook(CONTENT, json!({"endpoint": "https://a.example", "headers": [{"header_name": "Host", "header_value": "x"}]})),
            "set by the gateway",
        ),
        (hook("retry", json!({"retention_time": 1})), "2 to 259200"),
        (with(json!({"capabilities": {"webhooks": {CONTENT: {"endpoint": "nonsense", "headers": null}}}})), "is no URL"),
    ] {
        let reply = api.call("POST", PATH, &[("authorization", &root)], manifest.to_string()).await;
        assert_eq!(reply.status, 400, "{manifest}");
        assert!(reply.text.contains(reason), "{manifest}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_conversation_that_is_over_is_told_in_one_answer_to_agents_of_its_account() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "hello 😀").await;
    let mut ada = api.agent("ada", "3").await;
    ada.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    ada.ask(&publish("p", &id, "hi")).await;
    let event = json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]});
    ada.ask(&request("r", "ms.PublishEvent", json!({"dialogId": id, "event": event}))).await;
    let card = json!({"type": "RichContentEvent", "content": {"type": "vertical", "elements": []}});
    ada.ask(&request("r", "ms.PublishEvent", json!({"dialogId": id, "event": card}))).await;
    let rate = json!({"field": "CSATRate", "csatRate": 5, "csatResolutionConfirmation": true, "status": "FILLED"});
    ann.post(SEND, change("c", &id, rate).to_string()).await;
    ann.post(SEND, change("c", &id, json!({"field": "ConversationStateField", "conversationState": "CLOSE"})).to_string()).await;

    let path = "/messaging_history/api/account/demo/conversations/conversation/search";
    let bearer = format!("Bearer {}", api.login("grace").await.bearer);
    let asked = json!({"conversationId": id}).to_string();
    let reply = api.call("POST", path, &[("authorization", &bearer)], asked.clone()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let record = reply.json()["conversationHistoryRecords"][0].clone();
    let messages: Vec<_> = record["messageRecords"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (message["seq"].clone(), message["type"].clone(), message["sentBy"].clone()))
        .collect();
    assert_eq!(
        messages,
        [
            (json!(0), json!("TEXT_PLAIN"), json!("Consumer")),
            (json!(1), json!("TEXT_PLAIN"), json!("Agent")),
            (json!(3), json!("RICH_CONTENT"), json!("Agent")),
        ]
    );
    assert_eq!(record["messageRecords"][0]["messageData"]["msg"]["text"], "hello 😀");
    assert_eq!((&record["messageStatuses"][0]["messageDeliveryStatus"], &record["messageStatuses"][0]["seq"]), (&json!("READ"), &json!(2)));
    assert_eq!(
        (&record["info"]["status"], &record["info"]["closeReason"], &record["info"]["csatRate"]),
        (&json!("CLOSE"), &json!("CONSUMER"), &json!(5))
    );
    assert_eq!(
        (&record["agentParticipants"][0]["agentLoginName"], &record["consumerParticipants"][0]["firstName"]),
        (&json!("ada"), &json!("Ann"))
    );
    // Not for who is not signed in, and another tenant's conversation is not there.
    assert_eq!(api.call("POST", path, &[], asked.clone()).await.status, 401);
    let body = json!({"username": "ada", "password": "ada-demo"}).to_string();
    let other = api.call("POST", "/api/account/other/login?v=1.3", &[], body).await.json()["bearer"].as_str().unwrap().to_owned();
    let theirs = api.call("POST", &path.replace("demo", "other"), &[("authorization", &format!("Bearer {other}"))], asked).await;
    assert_eq!((theirs.status, theirs.json()["conversationHistoryRecords"].clone()), (200, json!([])));
}

#[tokio::test]
async fn no_endpoint_that_leads_inside_is_installed_and_the_answer_names_the_rule() {
    let mut traps = Vec::new();
    for address in ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"] {
        // A machine without IPv6 has nothing to trap there.
        let Ok(listener) = tokio::net::TcpListener::bind(address).await else { continue };
        traps.push(listener);
    }
    let server = TestServer::guarded(ADMIN).await;
    let api = server.api();
    let root = bearer(&api, "root").await;
    let install = async |endpoint: &str| {
        let hook = json!({"ms.MessagingEventNotification.ContentEvent": {"endpoint": endpoint}});
        let manifest = json!({"client_name": "sms", "capabilities": {"webhooks": hook}});
        api.call("POST", PATH, &[("authorization", &root)], manifest.to_string()).await
    };
    let mut tried = 0;
    for trap in &traps {
        let port = trap.local_addr().unwrap().port();
        let hosts = hostile::HOSTILE
            .iter()
            .flat_map(|(host, rule)| [format!("https://{host}:{port}/lp"), format!("http://{host}:{port}/lp")].map(|url| (url, *rule)));
        let urls = hostile::URLS.iter().map(|(url, reason)| (url.replace("PORT", &port.to_string()), *reason));
        for (url, reason) in hosts.chain(urls) {
            let reply = install(&url).await;
            assert_eq!(reply.status, 400, "{url:?}: {}", reply.text);
            let details = reply.json()["body"]["details"].as_str().unwrap().to_owned();
            assert!(details.contains(reason), "{url:?}: {details:?} does not name {reason:?}");
            tried += 1;
        }
    }
    // Connections wait in the order they came: whoever had called would be taken before us.
    for trap in &traps {
        let ours = tokio::net::TcpStream::connect(trap.local_addr().unwrap()).await.unwrap();
        let (_, first) = trap.accept().await.unwrap();
        assert_eq!(first, ours.local_addr().unwrap(), "somebody called {trap:?}");
    }
    println!("webhooks: {tried} hostile endpoints refused by name, no trap of {} called", traps.len());
    assert!(tried >= 100);
    assert_eq!(install("https://shop.example/lp").await.status, 201);
}
