//! UltraCart's dialect: each call with its failures, for both generations of clients, what clients are strict about, and the requests
//! of the first one byte for byte.

use crate::programs::{clients, is_ready};
use crate::support::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;
use tieline::dialect::ultracart::openapi;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Of agent 1001, of the manager 1002, of the account itself, and one that is used up soon.
const ADA: &str = "ada-key";
const GRACE: &str = "grace-key";
const NOBODY: &str = "account-key";
const ADA_ARN: &str = "arn:gw:conversation:DEMO:agent/1001";

const ULTRACART: &str = r#"
[[accounts]]
id = "merchant-7"
[[accounts.agents]]
user_id = "99999999999999999999"
login = "mia"
password = "mia-demo"
roles = ["admin"]
[[accounts.api_keys]]
dialect = "ultracart"
key = "mia-key"
agent = "99999999999999999999"
per_second = 100000
# app demo-connector

[[accounts.api_keys]]
dialect = "ultracart"
key = "ada-key"
agent = "1001"
per_second = 100000
[[accounts.api_keys]]
dialect = "ultracart"
key = "grace-key"
agent = "1002"
per_second = 100000
[[accounts.api_keys]]
dialect = "ultracart"
key = "account-key"
per_second = 100000
[[accounts.api_keys]]
dialect = "ultracart"
key = "slow-key"
agent = "1003"
per_second = 1
[[accounts.api_keys]]
dialect = "dixa"
key = "a-key-of-another-dialect"
"#;

const BASE: &str = "/rest/v2/conversation";
const ALL: &str = "/conversations";

/// The statuses that the document has of each operation.
static DOCUMENTED: LazyLock<Vec<(String, String, BTreeSet<String>)>> = LazyLock::new(|| {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys().cloned().collect();
            all.push((path.clone(), method.to_uppercase(), statuses));
        }
    }
    all
});

fn fits(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/').collect::<Vec<_>>(), path.split('/').collect::<Vec<_>>());
    template.len() == path.len() && template.iter().zip(&path).all(|(one, other)| one.starts_with('{') || one == other)
}

/// Nowhere is there a `null`, which the strictest client takes for an error.
fn has_no_null(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(all) => all.iter().all(has_no_null),
        Value::Object(members) => members.values().all(has_no_null),
        _ => true,
    }
}

/// What the clients hold members to, wherever they stand.
fn check_types(name: &str, value: &Value) {
    let is_right = match name {
        "unread_messages" | "message_count" | "user_id" | "count" | "limit" | "offset" | "next_offset" | "message_epoch" => {
            value.is_i64() || value.is_boolean() && name == "unread_messages"
        }
        "success" | "more" | "closed" | "visible" | "chat_admin" | "chat_user" => value.is_boolean(),
        "participants"
        | "messages"
        | "conversations"
        | "media_urls"
        | "transport_statuses"
        | "twilio_phone_numbers"
        | "twilio_accounts"
        | "agents"
        | "queue_entries"
        | "queue_statuses"
        | "conversation_messages" => value.is_array(),
        "error" | "metadata" | "conversation" | "agent_auth" | "result_set" | "conversation_multimedia_upload_url" => value.is_object(),
        name if name.starts_with("agent_") && name.ends_with("_count") || name.starts_with("customer_") && name.ends_with("_count") => {
            value.is_i64()
        }
        "medium" => value == "sms" || value == "websocket",
        "type" => value == "message" || value == "notice",
        _ => value.is_string() || value.is_i64() && name == "agent_count",
    };
    assert!(is_right, "{name}: {value}");
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| check_types(name, value)),
        Value::Array(all) => all.iter().filter_map(Value::as_object).flatten().for_each(|(name, value)| check_types(name, value)),
        _ => {}
    }
}

/// Calls with a key. Whatever is answered is in the document, has no `null`, and is of the types that clients expect.
struct Client {
    api: Api,
    key: &'static str,
}

impl Client {
    async fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        self.call_with(method, path, &[("x-ultracart-simple-key", self.key)], body).await
    }

    async fn call_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let path = format!("{BASE}{path}");
        let reply = self.api.call(method, &path, headers, body).await;
        let plain = path.split('?').next().unwrap();
        if let Some((template, _, statuses)) = DOCUMENTED.iter().find(|(template, known, _)| fits(template, plain) && known == method) {
            assert!(
                statuses.contains(&reply.status.to_string()),
                "{method} {template}: {} is not documented: {}",
                reply.status,
                reply.text
            );
        }
        assert_eq!(reply.headers["content-type"], "application/json", "{method} {path}");
        let said = reply.json();
        assert!(has_no_null(&said), "{method} {path}: {said}");
        said.as_object().unwrap().iter().for_each(|(name, value)| check_types(name, value));
        assert_eq!(said["success"], reply.status < 400, "{said}");
        assert!(said["metadata"].is_object(), "{said}");
        if reply.status >= 400 {
            let error = &said["error"];
            assert_eq!(error["error_code"], reply.status.to_string());
            let sentence = error["developer_message"].as_str().unwrap();
            assert!(!sentence.is_empty() && error["user_message"] == sentence, "{said}");
            let header = reply.headers["uc-rest-error"].to_str().unwrap();
            assert!(sentence.is_ascii() && header == sentence || header.contains('?') || header.len() == 512, "{header} {sentence}");
        }
        reply
    }

    async fn get(&self, path: &str) -> Value {
        self.good("GET", path, "").await
    }

    async fn good(&self, method: &str, path: &str, body: &str) -> Value {
        let reply = self.call(method, path, body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        reply.json()
    }

    /// The status of a refusal, whose sentence has these words.
    async fn refused(&self, method: &str, path: &str, body: &str, words: &str) -> u16 {
        let reply = self.call(method, path, body).await;
        let said = reply.json()["error"]["developer_message"].as_str().unwrap_or_else(|| panic!("{}", reply.text)).to_owned();
        assert!(said.contains(words), "{method} {path}: {said}");
        reply.status
    }

    async fn start(&self, body: Value) -> Value {
        self.good("PUT", ALL, &body.to_string()).await
    }
}

fn of(server: &TestServer, key: &'static str) -> Client {
    Client { api: server.api(), key }
}

async fn gateway() -> TestServer {
    TestServer::with(ULTRACART).await
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}"))
}

/// Who takes part in a conversation, by name: whether it has left, and how much it has not read.
fn participants(conversation: &Value) -> BTreeMap<String, (String, i64)> {
    let all = conversation["participants"].as_array().unwrap();
    let one = |one: &Value| {
        let name = text(one, "conversation_participant_name").to_owned();
        (name, (text(one, "status").to_owned(), one["unread_messages"].as_i64().unwrap()))
    };
    all.iter().map(one).collect()
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.ends_with('Z') && text.len() == 24 && text.parse::<jiff::Timestamp>().is_ok())
}

#[tokio::test]
async fn keys_are_known_in_the_ways_in_which_clients_send_them() {
    let server = gateway().await;
    let ada = of(&server, ADA);
    let call = async |headers: &[(&str, &str)]| ada.call_with("GET", ALL, headers, "").await;
    for good in [
        &[("x-ultracart-simple-key", "ada-key")][..],
        // As one client sends it: a blank behind the key, and a bearer of nothing.
        &[("x-ultracart-simple-key", "ada-key "), ("authorization", "Bearer "), ("content-type", "application/json")],
        &[("x-ultracart-simple-key", "ada-key"), ("authorization", "Bearer something"), ("x-ultracart-api-version", "2017-03-01")],
        &[("x-ultracart-simple-key", "ada-key"), ("x-ultracart-api-version", "of another time"), ("accept", "text/plain")],
    ] {
        assert_eq!(call(good).await.status, 200, "{good:?}");
    }
    for wrong in [
        &[][..],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer ada-key")],
        &[("authorization", "ada-key")],
        &[("x-ultracart-simple-key", "")],
        &[("x-ultracart-simple-key", "wrong")],
        &[("x-ultracart-simple-key", "wrong"), ("authorization", "Bearer ada-key")],
        &[("x-ultracart-simple-key", "a-key-of-another-dialect")],
        &[("x-ultracart-browser-key", "ada-key")],
    ] {
        assert_eq!(call(wrong).await.status, 401, "{wrong:?}");
    }
    let slow = of(&server, "slow-key");
    let statuses = [slow.call("GET", ALL, "").await, slow.call("GET", ALL, "").await];
    assert_eq!(statuses.each_ref().map(|reply| reply.status), [200, 429]);
    assert!(statuses[1].headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn whatever_is_refused_is_refused_in_one_form() {
    let server = gateway().await;
    let ada = of(&server, ADA);
    for (method, path, status) in [
        ("GET", "", 404),
        ("GET", "/nothing", 404),
        ("POST", "/conversations/search", 404),
        ("POST", "/conversations/autocomplete", 404),
        ("GET", "/conversations/nobody", 404),
        ("GET", "/conversations/%ff", 400),
        ("POST", ALL, 405),
        ("DELETE", "/agent/auth", 405),
        ("PUT", "/conversations/queues/statuses", 405),
        ("GET", "/conversations?_limit=1&_limit=2", 400),
        ("GET", "/conversations/x/messages/yesterday", 400),
    ] {
        assert_eq!(ada.call(method, path, "").await.status, status, "{method} {path}");
    }
    assert!(ada.call("POST", ALL, "").await.headers.contains_key("allow"));
    for body in ["{", "[]", "7", "\"x\"", "\u{feff}{}", "{\"resolve_only\":\"yes\"}", "{\"add_conversation_participant_arns\":7}"] {
        assert_eq!(ada.refused("PUT", ALL, body, "the body is not understood").await, 400, "{body}");
    }
    let large = format!("{{\"conversation_arn\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(ada.refused("PUT", ALL, &large, "larger than").await, 413);
    // Of what is refused nothing began.
    assert_eq!(ada.get(ALL).await["conversations"], json!([]));
    let off = TestServer::with("[server]\ndialects = [\"liveperson\"]\n").await;
    let reply = off.api().get("/rest/v2/conversation/conversations").await;
    assert!(reply.status == 404 && reply.text.contains("server.dialects"), "{}", reply.text);
}

#[tokio::test]
async fn an_agent_is_told_what_it_is_and_where_its_socket_is() {
    let server = gateway().await;
    let (ada, grace, mia) = (of(&server, ADA), of(&server, GRACE), of(&server, "mia-key"));
    let told = ada.good("PUT", "/agent/auth", "").await;
    let members = ["conversation_participant_arn", "conversation_participant_name", "merchant_id", "jwt", "websocket_url"];
    for name in members {
        assert_eq!(told[name], told["agent_auth"][name], "{name} is for both generations");
        assert!(!text(&told, name).is_empty());
    }
    assert_eq!((text(&told, "conversation_participant_arn"), text(&told, "merchant_id")), ("arn:gw:conversation:DEMO:agent/1001", "DEMO"));
    let url = format!("ws://{}{BASE}/ws?jwt={}", server.address, text(&told, "jwt"));
    assert_eq!(text(&told, "websocket_url"), url);
    let auth = &told["agent_auth"];
    assert_eq!((&auth["user_id"], &auth["chat_user"], &auth["chat_admin"]), (&json!(1001), &json!(true), &json!(false)));
    assert_eq!((&told["twilio_phone_numbers"], &auth["twilio_accounts"]), (&json!([]), &json!([])));
    assert_eq!(grace.good("PUT", "/agent/auth", "").await["agent_auth"]["chat_admin"], true);
    // A number that no integer holds is left out.
    let mia = mia.good("PUT", "/agent/auth", "").await;
    assert!(mia["agent_auth"].get("user_id").is_none() && mia["merchant_id"] == "MERCH", "{mia}");
    assert_eq!(ada.get("/agent/keepalive").await, json!({"success": true, "metadata": {}}));
    let nobody = of(&server, NOBODY);
    for (method, path) in [
        ("PUT", "/agent/auth"),
        ("PUT", "/conversations/x/join"),
        ("DELETE", "/conversations/x/leave"),
        ("PUT", "/conversations/x/markread"),
        ("GET", "/upload_url/jpg"),
        ("PUT", "/conversations/queues/77/status"),
    ] {
        assert_eq!(nobody.refused(method, path, "", "bind it to an agent").await, 400, "{method} {path}");
    }
    assert_eq!(nobody.call("GET", ALL, "").await.status, 200);
    // Behind a public address that is what is told.
    let public = TestServer::with(&format!("[server]\npublic_url = \"https://chat.shop.example/\"\n{ULTRACART}")).await;
    let told = of(&public, ADA).good("PUT", "/agent/auth", "").await;
    assert!(text(&told, "websocket_url").starts_with("wss://chat.shop.example/rest/v2/conversation/ws?jwt="), "{told}");
}

#[tokio::test]
async fn conversations_are_listed_by_the_last_word_page_by_page() {
    let server = gateway().await;
    let (ada, grace) = (of(&server, ADA), of(&server, GRACE));
    let mut order = Vec::new();
    for name in ["ann", "bob", "cid", "dan", "eve"] {
        let speaker = server.api().speaker(name).await;
        let id = speaker.open().await;
        speaker.say(&id, &format!("I am {name}")).await;
        order.insert(0, (id, speaker));
    }
    // Who writes again, be it a moment later, comes first.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let (id, bob) = order.remove(3);
    bob.say(&id, "one more").await;
    order.insert(0, (id, bob));
    let ids: Vec<&str> = order.iter().map(|(id, _)| id.as_str()).collect();
    let (mut listed, mut path, mut pages) = (Vec::new(), "/conversations?_limit=2".to_owned(), 0);
    loop {
        let page = ada.get(&path).await;
        let rows = page["conversations"].as_array().unwrap();
        listed.extend(rows.iter().map(|row| text(row, "conversation_uuid").to_owned()));
        let set = &page["metadata"]["result_set"];
        pages += 1;
        assert_eq!(
            (&set["count"], &set["limit"], page["metadata"]["payload_name"].as_str()),
            (&json!(rows.len()), &json!(2), Some("conversations"))
        );
        if set["more"] == false {
            assert!(set.get("next_offset").is_none(), "{set}");
            break;
        }
        path = format!("/conversations?_limit=2&_offset={}", set["next_offset"]);
    }
    assert_eq!((listed.iter().map(String::as_str).collect::<Vec<_>>(), pages), (ids.clone(), 3));
    let all = grace.get("/conversations?_limit=1000").await;
    assert_eq!(all["metadata"]["result_set"], json!({"count": 5, "limit": 200, "offset": 0, "more": false}));
    let first = &all["conversations"][0];
    assert_eq!(text(first, "conversation_arn"), format!("arn:gw:conversation:DEMO:conversation/{}", ids[0]));
    assert_eq!((text(first, "last_conversation_message_body"), text(first, "merchant_id")), ("one more", "DEMO"));
    assert_eq!((&first["message_count"], &first["unread_messages"], &first["closed"]), (&json!(2), &json!(true), &json!(false)));
    assert_eq!(
        (text(first, "last_conversation_participant_name"), text(first, "medium")),
        ("Ann", "websocket"),
        "a manager knows all by name"
    );
    assert!(is_time(&first["last_message_dts"]) && is_time(&first["start_dts"]), "{first}");
    assert!(text(first, "last_conversation_participant_arn").starts_with("arn:gw:conversation:DEMO:customer/"));
    let seen = ada.get("/conversations?_limit=1").await["conversations"][0].clone();
    assert_eq!(text(&seen, "last_conversation_participant_name"), "Visitor", "an agent knows those with whom it speaks");
    let before = text(&all["conversations"][2], "last_message_dts").to_owned();
    let older = ada.get(&format!("/conversations?before={before}")).await;
    let older: Vec<&str> = older["conversations"].as_array().unwrap().iter().map(|row| text(row, "conversation_uuid")).collect();
    assert_eq!(older, ids[3..]);
    assert_eq!(ada.get("/conversations?medium=websocket&_offset=4").await["metadata"]["result_set"]["count"], 1);
    assert_eq!(ada.get("/conversations?medium=sms").await["conversations"], json!([]));
    for query in ["_limit=0", "_limit=-1", "_limit=ten", "_offset=-1", "_offset=x", "medium=fax", "before=yesterday"] {
        let name = query.split('=').next().unwrap();
        assert_eq!(ada.refused("GET", &format!("/conversations?{query}"), "", name).await, 400, "{query}");
    }
    // Another account has none of it.
    let mia = of(&server, "mia-key");
    assert_eq!(mia.get(ALL).await["conversations"], json!([]));
    assert_eq!(mia.refused("GET", &format!("/conversations/{}", ids[0]), "", "does not exist").await, 404);
}

#[tokio::test]
async fn a_conversation_is_begun_found_and_taken() {
    let server = gateway().await;
    let (ada, grace) = (of(&server, ADA), of(&server, GRACE));
    for body in ["", " ", "{}", "{\"add_conversation_participant_arns\":[],\"resolve_only\":false}"] {
        let begun = ada.good("PUT", ALL, body).await;
        let id = text(&begun, "conversation_uuid");
        assert_eq!(text(&begun, "conversation_arn"), format!("arn:gw:conversation:DEMO:conversation/{id}"));
        assert_eq!(begun["conversation"]["conversation_uuid"], id, "for both generations");
        assert_eq!(begun["conversation"]["messages"], json!([]));
        let takes_part = participants(&begun["conversation"]);
        assert_eq!(takes_part["ada"].0, "joined");
        assert_eq!(takes_part.keys().map(String::as_str).collect::<Vec<_>>(), ["Visitor", "ada"]);
    }
    let ann = server.api().speaker("ann").await;
    let waits = ann.open().await;
    ann.say(&waits, "hello").await;
    let listed = grace.get("/conversations?_limit=1").await;
    let customer = text(&listed["conversations"][0], "last_conversation_participant_arn").to_owned();
    // With a customer and other agents.
    let [ada_arn, grace_arn] = ["1001", "1002"].map(|user| format!("arn:gw:conversation:DEMO:agent/{user}"));
    let both = json!({"add_conversation_participant_arns": [customer, grace_arn, ada_arn]});
    let begun = ada.start(both.clone()).await;
    assert_ne!(begun["conversation_uuid"], waits.as_str());
    let takes_part = participants(&begun["conversation"]);
    assert_eq!(takes_part.keys().map(String::as_str).collect::<Vec<_>>(), ["Ann", "ada", "grace"]);
    // A key of the account itself has the first agent answer.
    let account = of(&server, NOBODY);
    let by_account = account.start(both).await;
    assert_eq!(participants(&by_account["conversation"]).len(), 3);
    // Who is named twice still answers it: only of who answers is known since when.
    let twice = json!({"add_conversation_participant_arns": [ADA_ARN, ADA_ARN]});
    let twice = account.start(twice).await["conversation_uuid"].clone();
    let rows = ada.get(ALL).await;
    let row = rows["conversations"].as_array().unwrap().iter().find(|row| row["conversation_uuid"] == twice).unwrap().clone();
    let named = row["participants"].as_array().unwrap().iter().find(|one| one["conversation_participant_arn"] == ADA_ARN).unwrap();
    assert!(is_time(&named["joined_dts"]), "{row}");
    // One that is there.
    let arn = text(&begun, "conversation_arn").to_owned();
    let again = ada.start(json!({"conversation_arn": arn})).await;
    assert_eq!(again["conversation_uuid"], begun["conversation_uuid"]);
    let more =
        ada.start(json!({"conversation_arn": arn, "add_conversation_participant_arns": ["arn:gw:conversation:DEMO:agent/1003"]})).await;
    assert!(participants(&more["conversation"]).contains_key("bea"));
    let same =
        ada.start(json!({"conversation_arn": arn, "add_conversation_participant_arns": ["arn:gw:conversation:DEMO:agent/1003"]})).await;
    assert_eq!(participants(&same["conversation"]), participants(&more["conversation"]));
    // Only what is there.
    let resolved = ada
        .start(json!({"resolve_only": true, "add_conversation_participant_arns": [customer, "arn:gw:conversation:DEMO:agent/1003"]}))
        .await;
    assert_eq!(resolved["conversation_uuid"], begun["conversation_uuid"]);
    let unknown = ada.start(json!({})).await;
    let other = text(&unknown["conversation"]["participants"][0], "conversation_participant_arn").to_owned();
    let resolved = ada.start(json!({"resolve_only": true, "add_conversation_participant_arns": [other]})).await;
    assert_eq!(resolved["conversation_uuid"], unknown["conversation_uuid"]);
    // Who waits is taken by one.
    assert_eq!(
        ada.start(json!({"resolve_only": true, "conversation_webchat_queue_uuid": waits})).await["conversation_uuid"],
        waits.as_str()
    );
    let taken = ada.start(json!({"conversation_webchat_queue_uuid": waits})).await;
    assert_eq!(participants(&taken["conversation"])["ada"].0, "joined");
    assert_eq!(ada.start(json!({"conversation_webchat_queue_uuid": waits})).await["conversation_uuid"], waits.as_str());
    let missing = "11111111-2222-4333-8444-555555555555";
    let named = |arns: &[&str]| json!({"add_conversation_participant_arns": arns}).to_string();
    for (body, words, status) in [
        (json!({"conversation_webchat_queue_uuid": waits}).to_string(), "already has an assigned agent", 400),
        (json!({"conversation_webchat_queue_uuid": missing}).to_string(), "does not exist", 404),
        (json!({"conversation_webchat_queue_uuid": waits, "conversation_arn": arn}).to_string(), "not by both", 400),
        (json!({"conversation_arn": format!("arn:gw:conversation:DEMO:conversation/{missing}")}).to_string(), "does not exist", 404),
        (json!({"conversation_arn": missing}).to_string(), "no arn of a conversation", 400),
        (json!({"conversation_arn": customer}).to_string(), "no arn of a conversation", 400),
        (json!({"conversation_arn": arn, "add_conversation_participant_arns": [other]}).to_string(), "with another customer", 400),
        (json!({"resolve_only": true}).to_string(), "name a customer", 400),
        (
            json!({"resolve_only": true, "add_conversation_participant_arns": ["arn:gw:conversation:DEMO:customer/nobody"]}).to_string(),
            "no open conversation",
            404,
        ),
        (named(&["arn:gw:conversation:DEMO:customer/nobody"]), "does not exist", 400),
        (named(&["arn:gw:conversation:DEMO:agent/9"]), "no agent 9", 400),
        (named(&["arn:gw:conversation:OTHER:agent/1001"]), "of this account", 400),
        (named(&["1001"]), "of this account", 400),
        (named(&[&customer, &other]), "one customer", 400),
    ] {
        assert_eq!(grace.refused("PUT", ALL, &body, words).await, status, "{body}");
    }
}

#[tokio::test]
async fn one_conversation_is_shown_with_who_took_part_and_what_was_said() {
    let server = gateway().await;
    let (ada, grace) = (of(&server, ADA), of(&server, GRACE));
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let path = format!("/conversations/{id}");
    ann.say(&id, "hello").await;
    ada.good("PUT", &format!("{path}/join"), "").await;
    let mut socket = server.api().agent("ada", "2.1").await;
    assert_eq!(socket.ask(&publish("1", &id, "hi Ann")).await["code"], 200);
    let whisper = json!({"dialogId": id, "messageAudience": "AGENTS_AND_MANAGERS", "event": {"type": "ContentEvent", "message": "psst"}});
    assert_eq!(socket.ask(&request("2", "ms.PublishEvent", whisper)).await["code"], 200);
    let mut marked = publish("3", &id, "I look it up");
    marked["metadata"] = json!([{"type": "ultracart", "client_message_id": "own-7"}]);
    assert_eq!(socket.ask(&marked).await["code"], 200);
    let file = ann.upload(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0".to_vec(), "PNG").await;
    ann.show_file(&id, &file, "PNG").await;
    let shown = ada.get(&path).await;
    let mut wrapped = shown["conversation"].clone();
    for (name, value) in wrapped.as_object().unwrap() {
        // Addresses are signed anew for each.
        assert!(name == "messages" || shown[name] == *value, "{name} is for both generations");
    }
    assert_eq!((&shown["message_count"], &shown["metadata"]), (&json!(4), &json!({"payload_name": "conversation"})));
    let messages = wrapped["messages"].take();
    let messages = messages.as_array().unwrap();
    let bodies: Vec<&str> = messages.iter().map(|message| text(message, "body")).collect();
    assert_eq!(bodies, ["hello", "hi Ann", "I look it up", ""], "what is whispered is not for programs that may show it");
    let epochs: Vec<i64> = messages.iter().map(|message| message["message_epoch"].as_i64().unwrap()).collect();
    assert!(epochs.is_sorted_by(|one, other| one < other), "{epochs:?}");
    let uuids: BTreeSet<&str> = messages.iter().map(|message| text(message, "conversation_message_uuid")).collect();
    assert!(uuids.len() == 4 && uuids.iter().all(|uuid| uuid.len() == 36), "{uuids:?}");
    let (first, last) = (&messages[0], &messages[3]);
    assert_eq!((text(first, "author_conversation_participant_name"), text(first, "type")), ("Ann", "message"));
    assert_eq!(
        first["transport_statuses"],
        json!([{"conversation_participant_arn": "arn:gw:conversation:DEMO:agent/1001", "status": "sent"}])
    );
    assert!(is_time(&first["message_dts"]) && first["media_urls"] == json!([]) && first.get("client_message_id").is_none(), "{first}");
    assert_eq!(text(&messages[2], "client_message_id"), "own-7");
    let url = last["media_urls"][0].as_str().unwrap();
    let got = reqwest::get(url).await.unwrap();
    assert!(got.status() == 200 && got.bytes().await.unwrap().starts_with(b"\x89PNG"), "{url}");
    // Read.
    assert_eq!(participants(&shown)["ada"].1, 1);
    assert_eq!(shown["unread_messages"], true);
    for _ in 0..2 {
        assert_eq!(ada.good("PUT", &format!("{path}/markread"), "").await, json!({"success": true, "metadata": {}}));
    }
    let read = ada.get(&path).await;
    assert_eq!((&read["unread_messages"], participants(&read)["ada"].1), (&json!(false), 0));
    for (place, status) in [(0, "read"), (3, "read"), (1, "sent")] {
        assert_eq!(read["messages"][place]["transport_statuses"][0]["status"], status, "{place}");
    }
    let mut watcher = server.api().agent("grace", "2.1").await;
    let everything = request("q", "ms.QueryMessages", json!({"dialogId": id, "maxQuantity": 100}));
    let events = watcher.ask(&everything).await.to_string();
    assert_eq!(events.matches("AcceptStatusEvent").count(), 1, "what is read stays read: {events}");
    assert_eq!(grace.refused("PUT", &format!("{path}/markread"), "", "Agent does not exist").await, 400);
    // The newest, and those behind a time.
    let newest = ada.get(&format!("{path}?limit=2")).await;
    assert_eq!(newest["messages"].as_array().unwrap().iter().map(|one| text(one, "body")).collect::<Vec<_>>(), ["I look it up", ""]);
    assert_eq!(ada.refused("GET", &format!("{path}?limit=0"), "", "limit").await, 400);
    let since = async |since: &str| {
        let said = ada.get(&format!("{path}/messages/{since}")).await;
        said["conversation_messages"].as_array().unwrap().iter().map(|one| text(one, "body").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(since("0").await, bodies);
    assert_eq!(since(&epochs[1].to_string()).await, bodies[2..]);
    assert_eq!(since(text(&messages[0], "message_dts")).await, bodies[1..]);
    assert_eq!(since(&epochs[3].to_string()).await, [""; 0]);
    // What is whispered is unread until it is marked, which is whispered, too.
    grace.good("PUT", &format!("{path}/join"), "").await;
    let whisper = json!({"dialogId": id, "messageAudience": "AGENTS_AND_MANAGERS", "event": {"type": "ContentEvent", "message": "and?"}});
    assert_eq!(watcher.ask(&request("w", "ms.PublishEvent", whisper)).await["code"], 200);
    assert_eq!(ada.get(&path).await["unread_messages"], true);
    for _ in 0..2 {
        ada.good("PUT", &format!("{path}/markread"), "").await;
    }
    assert_eq!(ada.get(&path).await["unread_messages"], false);
    assert_eq!(watcher.ask(&everything).await.to_string().matches("AcceptStatusEvent").count(), 2);
    let mut consumer = ann.consumer_socket().await;
    assert_eq!(consumer.ask(&everything).await.to_string().matches("AcceptStatusEvent").count(), 1);
    // A card is a word as any other.
    ann.say(&id, "and now?").await;
    assert_eq!(text(&ada.get(&path).await, "last_conversation_message_body"), "and now?");
    let card = json!({"type": "RichContentEvent", "content": {"type": "vertical", "elements": [{"type": "text", "text": "a card"}]}});
    let card = socket.ask(&request("c", "ms.PublishEvent", json!({"dialogId": id, "event": card}))).await;
    assert_eq!(card["code"], 200, "{card}");
    let row = of(&server, NOBODY).get(ALL).await["conversations"][0].clone();
    assert_eq!((&row["unread_messages"], text(&row, "last_conversation_message_body")), (&json!(false), "a card"));
    assert!(text(&row, "last_conversation_participant_arn").ends_with("agent/1001"), "{row}");
    assert_eq!(since("0?limit=1").await, ["hello"], "the oldest, so that one goes on from it");
    assert_eq!(ada.refused("GET", "/conversations/nothing/messages/0", "", "does not exist").await, 404);
}

#[tokio::test]
async fn agents_come_and_go_and_a_conversation_without_one_waits_again() {
    let server = gateway().await;
    let (ada, grace) = (of(&server, ADA), of(&server, GRACE));
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    let path = format!("/conversations/{id}");
    let done = json!({"success": true, "metadata": {}});
    let waiting = async || ada.get("/conversations/queues/statuses").await["queue_statuses"][0]["customer_waiting_count"].clone();
    assert_eq!(waiting().await, 1);
    assert_eq!(ada.good("PUT", &format!("{path}/join"), "{\"participant_language_iso_code\":\"en\"}").await, done);
    assert_eq!((waiting().await, ada.good("PUT", &format!("{path}/join"), "").await), (json!(0), done.clone()));
    assert_eq!(grace.good("PUT", &format!("{path}/join"), "{}").await, done);
    let shown = ada.get(&path).await;
    let takes_part = participants(&shown);
    assert_eq!((takes_part["ada"].0.as_str(), takes_part["grace"].0.as_str()), ("joined", "joined"));
    for one in shown["participants"].as_array().unwrap() {
        assert!(is_time(&one["joined_dts"]) && one.get("left_dts").is_none(), "{one}");
    }
    assert_eq!(ada.good("DELETE", &format!("{path}/leave"), "").await, done);
    assert_eq!(ada.good("DELETE", &format!("{path}/leave"), "").await, done, "who is not there has left");
    assert_eq!(waiting().await, 1, "who lost its agent waits in its queue");
    let shown = ada.get(&path).await;
    let left = shown["participants"].as_array().unwrap().iter().find(|one| one["conversation_participant_name"] == "ada").unwrap();
    assert!(text(left, "status") == "left" && is_time(&left["left_dts"]), "{left}");
    assert_eq!(ada.good("PUT", &format!("{path}/join"), "").await, done);
    let back = ada.get(&path).await;
    assert_eq!(participants(&back)["ada"].0, "joined");
    for (body, words) in [("{", "not understood"), ("{\"participant_language_iso_code\":7}", "not understood")] {
        assert_eq!(grace.refused("PUT", &format!("{path}/join"), body, words).await, 400);
    }
    // Closed.
    let mut socket = server.api().agent("ada", "2.1").await;
    let close = change("c", &id, json!({"field": "ConversationStateField", "conversationState": "CLOSE"}));
    assert_eq!(socket.ask(&close).await["code"], 200);
    let bea = Client { api: server.api(), key: "slow-key" };
    assert_eq!(bea.refused("PUT", &format!("{path}/join"), "", "closed").await, 400);
    assert_eq!(ada.refused("DELETE", &format!("{path}/leave"), "", "closed").await, 400);
    assert_eq!(ada.get(&path).await["closed"], true);
    for (method, call) in [("PUT", "join"), ("DELETE", "leave"), ("PUT", "markread")] {
        assert_eq!(ada.refused(method, &format!("/conversations/nothing/{call}"), "", "does not exist").await, 404);
    }
}

#[tokio::test]
async fn queues_say_who_waits_and_which_agents_are_there() {
    let server = gateway().await;
    let (ada, grace) = (of(&server, ADA), of(&server, GRACE));
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    let status = async |client: &Client, name: &str| {
        let all = client.get("/conversations/queues/statuses").await;
        let all = all["queue_statuses"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["queue_name"] == name).unwrap_or_else(|| panic!("no queue {name}"))
    };
    let unassigned = status(&grace, "-1").await;
    let counts = |status: &Value| {
        [
            "agent_count",
            "agent_available_count",
            "agent_busy_count",
            "agent_unavailable_count",
            "customer_active_count",
            "customer_waiting_count",
        ]
        .map(|name| status[name].as_i64().unwrap())
    };
    assert_eq!(counts(&unassigned), [2, 0, 0, 2, 0, 1]);
    let entry = &unassigned["queue_entries"][0];
    assert_eq!((text(entry, "conversation_webchat_queue_uuid"), text(entry, "conversation_participant_name")), (id.as_str(), "Ann"));
    assert_eq!(entry["join_dts"], unassigned["customer_waiting_join_dts"]);
    assert_eq!(text(&status(&ada, "-1").await["queue_entries"][0], "conversation_participant_name"), "Visitor");
    for (said, shown) in [("busy", [2, 0, 1, 1, 0, 1]), ("unavailable", [2, 0, 0, 2, 0, 1])] {
        ada.good("PUT", "/conversations/queues/77/status", &json!({"agent_status": said}).to_string()).await;
        assert_eq!(counts(&status(&ada, "-1").await), shown, "an agent's state is one for all its queues");
    }
    // Who becomes available is offered what waits.
    ada.good("PUT", "/conversations/queues/-1/status", "{\"agent_status\":\"available\"}").await;
    assert_eq!(counts(&status(&ada, "77").await)[1], 1);
    let agent = &status(&ada, "77").await["agents"][0];
    assert_eq!(
        (text(agent, "agent_status"), text(agent, "conversation_participant_arn")),
        ("available", "arn:gw:conversation:DEMO:agent/1001")
    );
    ada.good("PUT", &format!("/conversations/{id}/join"), "").await;
    assert_eq!(counts(&status(&ada, "-1").await)[4..], [1, 0]);
    let path = "/conversations/queues/77/status";
    for (path, body, words, wanted) in [
        ("/conversations/queues/nothing/status", "{\"agent_status\":\"busy\"}", "no such queue", 404),
        (path, "", "agent_status is missing", 400),
        (path, "{}", "agent_status is missing", 400),
        (path, "{\"agent_status\":\"away\"}", "not understood", 400),
    ] {
        assert_eq!(ada.refused("PUT", path, body, words).await, wanted, "{path} {body}");
    }
}

#[tokio::test]
async fn a_file_is_put_where_the_upload_url_says() {
    let server = gateway().await;
    let ada = of(&server, ADA);
    let told = ada.get("/upload_url/png").await;
    let (key, url) = (text(&told["conversation_multimedia_upload_url"], "key"), text(&told["conversation_multimedia_upload_url"], "url"));
    assert!(url.starts_with(&server.api().url(key)) && key.ends_with("-any.PNG"), "{told}");
    let bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0".to_vec();
    let put = reqwest::Client::new().put(url).body(bytes.clone()).send().await.unwrap();
    assert_eq!(put.status(), 201);
    // It is the agent's own, to be shown in a message.
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ada.good("PUT", &format!("/conversations/{id}/join"), "").await;
    let mut socket = server.api().agent("ada", "2.1").await;
    let file = json!({"relativePath": key, "fileType": "PNG", "caption": "a dot"});
    let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": file});
    let shown = socket.ask(&request("f", "ms.PublishEvent", json!({"dialogId": id, "event": event}))).await;
    assert_eq!(shown["code"], 200, "{shown}");
    let message = ada.get(&format!("/conversations/{id}")).await["messages"][0].clone();
    assert_eq!(text(&message, "body"), "a dot");
    let got = reqwest::get(message["media_urls"][0].as_str().unwrap()).await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), bytes);
    for extension in ["svg", "exe", "tar.gz", "%2f"] {
        assert_eq!(ada.refused("GET", &format!("/upload_url/{extension}"), "", "send one of JPG").await, 400, "{extension}");
    }
}

/// What the Ruby gem writes, but for the host: each header as it stands, of each call that it has.
const RUBY: &str = include_str!("../clients/ultracart_ruby.http");

#[tokio::test]
async fn the_ruby_gems_requests_are_answered_as_it_reads_them() {
    let server = gateway().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    let mut asked = 0;
    for request in RUBY.split("###\n").filter(|request| !request.trim().is_empty()) {
        let (head, body) = request.split_once("\n\n").unwrap();
        let head = head.replace("{host}", &server.address.to_string()).replace("{conversation}", &id).replace('\n', "\r\n");
        let wire = format!("{head}\r\n\r\n{}", body.trim_end());
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(wire.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let line = wire.lines().next().unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: application/json"), "{line}: {answer}");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error}: {body}"));
        assert!(has_no_null(&body), "{line}: {body}");
        asked += 1;
    }
    assert_eq!(asked, 7, "all that the gem has");
    let shown = of(&server, ADA).get(&format!("/conversations/{id}")).await;
    assert_eq!(participants(&shown)["ada"].0, "left", "joined, and left");
}

#[tokio::test]
async fn the_vendors_python_sdk_does_what_an_agents_program_does() {
    let python = clients(".venv-ultracart/bin/python");
    if !is_ready("ultracart", &python, true) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = CONFIG.replacen(
        "[accounts.survey]",
        "[[accounts.api_keys]]\ndialect = \"ultracart\"\nkey = \"ada-key\"\nagent = \"1001\"\nper_second = 10000\n[accounts.survey]",
        1,
    );
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config).await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "Is it in stock?").await;
    let mut command = Command::new(python);
    command.arg("ultracart_sdk.py").current_dir(clients("")).env("TIELINE_KEY", ADA).env("TIELINE_HTTP", server.api().url(""));
    command.env("TIELINE_CONVERSATION", &id).env("NO_PROXY", "*");
    let ran = tokio::task::spawn_blocking(move || output(&mut command, LONG)).await.unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    println!("{}", said.trim());
    assert!(ran.status.success() && said.contains("ok "), "{said}\n{wrong}");
}

/// A program of the demo account without a secret, one with a secret, and one of the other account.
const OAUTH: &str = r#"
[[accounts.oauth_apps]]
client_id = "crm"
name = "CRM <b>&"
redirect_uris = ["https://crm.example/back?x=1", "http://127.0.0.1:9/back"]
[[accounts.oauth_apps]]
client_id = "safe"
client_secret = "of+the/safe=one"
redirect_uris = ["https://safe.example/"]
"#;
const BACK: &str = "https://crm.example/back?x=1";
/// RFC 7636's own example.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

struct OAuth {
    http: reqwest::Client,
    base: String,
}

impl OAuth {
    fn of(api: &Api) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, base: api.url("/rest/v2/oauth") }
    }

    /// The status, the body, and where it leads.
    async fn send(request: reqwest::RequestBuilder) -> (u16, String, Option<reqwest::Url>, reqwest::header::HeaderMap) {
        let reply = request.send().await.unwrap();
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        let to = headers.get("location").map(|to| reqwest::Url::parse(to.to_str().unwrap()).unwrap());
        (status, reply.text().await.unwrap(), to, headers)
    }

    /// Signs in, and is sent back.
    async fn sign_in(&self, members: &[(&str, &str)]) -> (u16, String, Option<reqwest::Url>) {
        let (status, text, to, headers) = Self::send(self.http.post(format!("{}/authorize", self.base)).form(members)).await;
        protected(&headers);
        (status, text, to)
    }

    /// The code of an agent's.
    async fn code(&self, more: &[(&str, &str)]) -> String {
        let usual = [
            ("client_id", "crm"),
            ("redirect_uri", BACK),
            ("response_type", "code"),
            ("state", "a b"),
            ("login", "ada"),
            ("password", "ada-demo"),
        ];
        let (status, text, to) = self.sign_in(&[&usual, more].concat()).await;
        assert_eq!(status, 303, "{text}");
        let to = to.unwrap();
        let told: BTreeMap<String, String> = to.query_pairs().into_owned().collect();
        assert!(to.as_str().starts_with("https://crm.example/back?x=1&") && told["state"] == "a b", "{to}");
        told["code"].clone()
    }

    async fn post(&self, call: &str, members: &[(&str, &str)]) -> (u16, Value) {
        let (status, text, _, headers) = Self::send(self.http.post(format!("{}/{call}", self.base)).form(members)).await;
        assert!(call != "token" || headers["cache-control"] == "no-store");
        let said: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(status == 200 || said["error"].is_string() && said["error_description"].is_string(), "{said}");
        (status, said)
    }

    async fn tokens(&self, code: &str) -> Value {
        let (status, said) = self.post("token", &redeeming(code)).await;
        assert_eq!(status, 200, "{said}");
        said
    }
}

fn redeeming(code: &str) -> [(&str, &str); 4] {
    [("grant_type", "authorization_code"), ("client_id", "crm"), ("code", code), ("redirect_uri", BACK)]
}

fn refreshing(token: &str) -> [(&str, &str); 3] {
    [("grant_type", "refresh_token"), ("client_id", "crm"), ("refresh_token", token)]
}

fn protected(headers: &reqwest::header::HeaderMap) {
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!((&headers["x-frame-options"], &headers["cache-control"]), (&"DENY".parse().unwrap(), &"no-store".parse().unwrap()));
}

/// The status of a call with an access token.
async fn by_token(api: &Api, method: &str, path: &str, token: &str) -> u16 {
    let client = Client { api: api.clone(), key: "" };
    client.call_with(method, path, &[("authorization", &format!("Bearer {token}"))], "").await.status
}

/// The path of a socket that is asked for with an access token, and the socket.
async fn socket_by_token(api: &Api, token: &str) -> (String, Ws) {
    let client = Client { api: api.clone(), key: "" };
    let told = client.call_with("PUT", "/agent/auth", &[("authorization", &format!("Bearer {token}"))], "").await.json();
    let path = format!("{BASE}/ws?jwt={}", text(&told, "jwt"));
    let socket = api.socket(&path, &[]).await.unwrap();
    (path, socket)
}

#[tokio::test]
async fn an_agent_lets_a_program_act_for_it() {
    let server = TestServer::with(&format!("{ULTRACART}{OAUTH}")).await;
    let (api, oauth) = (server.api(), OAuth::of(&server.api()));
    let ask =
        format!("{}/authorize?client_id=crm&response_type=code&redirect_uri={}", oauth.base, "https%3A%2F%2Fcrm.example%2Fback%3Fx%3D1");
    let (status, page, _, headers) = OAuth::send(oauth.http.get(format!("{ask}&state=%22%3E%3Cscript%3E"))).await;
    assert_eq!(status, 200);
    protected(&headers);
    assert!(headers["content-security-policy"].to_str().unwrap().contains("form-action 'self' https://crm.example;"));
    assert!(
        page.contains("Sign in for CRM &lt;b&gt;&amp;") && !page.contains("<script") && page.contains("<label for=\"password\">"),
        "{page}"
    );
    let code = oauth.code(&[("scope", "conversation_read conversation_write")]).await;
    let given = oauth.tokens(&code).await;
    let names: Vec<&String> = given.as_object().unwrap().keys().collect();
    assert_eq!(names, ["access_token", "expires_in", "merchant_id", "refresh_token", "scope", "token_type"]);
    assert_eq!((text(&given, "token_type"), text(&given, "expires_in"), text(&given, "merchant_id")), ("bearer", "3600", "DEMO"));
    let (access, refresh) = (text(&given, "access_token"), text(&given, "refresh_token"));
    let ada = Client { api: api.clone(), key: "" };
    let bearer = format!("Bearer {access}");
    let told = ada.call_with("PUT", "/agent/auth", &[("authorization", &bearer)], "").await.json();
    assert_eq!(told["conversation_participant_arn"], "arn:gw:conversation:DEMO:agent/1001");
    // No token is good for another thing.
    for wrong in [&code, refresh, text(&told, "jwt"), &format!("{access}x")] {
        assert_eq!(by_token(&api, "GET", ALL, wrong).await, 401, "{wrong}");
    }
    let (_, said) = oauth.post("token", &refreshing(access)).await;
    assert_eq!(said["error"], "invalid_grant");
    // A further one, also after a restart.
    let (status, further) = oauth.post("token", &refreshing(refresh)).await;
    assert_eq!((status, &further["refresh_token"]), (200, &given["refresh_token"]));
    assert_eq!(by_token(&api, "GET", ALL, text(&further, "access_token")).await, 200);
    let server = server.restart().await;
    let (api, oauth) = (server.api(), OAuth::of(&server.api()));
    assert_eq!(by_token(&api, "GET", ALL, access).await, 200);
    assert_eq!(oauth.post("token", &refreshing(refresh)).await.0, 200);
    // A code holds once; shown again it ends what was given for it.
    assert_eq!(oauth.post("token", &redeeming(&code)).await.1["error"], "invalid_grant");
    assert_eq!((by_token(&api, "GET", ALL, access).await, oauth.post("token", &refreshing(refresh)).await.0), (401, 400));
    // What is given back is over, with all that came with it, and after a restart.
    for name in ["access_token", "refresh_token"] {
        let given = oauth.tokens(&oauth.code(&[]).await).await;
        let other =
            oauth.post("revoke", &[("client_id", "safe"), ("client_secret", "of+the/safe=one"), ("token", text(&given, name))]).await;
        assert_eq!((other.0, by_token(&api, "GET", ALL, text(&given, "access_token")).await), (200, 200), "another's is not touched");
        let revoked = oauth.post("revoke", &[("client_id", "crm"), ("token", text(&given, name))]).await;
        assert_eq!((revoked.0, &revoked.1["successful"]), (200, &json!(true)));
        assert_eq!(by_token(&api, "GET", ALL, text(&given, "access_token")).await, 401);
        assert_eq!(oauth.post("token", &refreshing(text(&given, "refresh_token"))).await.1["error"], "invalid_grant");
        assert_eq!(oauth.post("revoke", &[("client_id", "crm"), ("token", text(&given, name))]).await.0, 200);
    }
    // A socket that was opened for a grant ends with it, and no other does.
    let given = oauth.tokens(&oauth.code(&[]).await).await;
    let (address, mut own) = socket_by_token(&api, text(&given, "access_token")).await;
    let other = oauth.tokens(&oauth.code(&[]).await).await;
    let (_, mut others) = socket_by_token(&api, text(&other, "access_token")).await;
    oauth.post("revoke", &[("client_id", "crm"), ("token", text(&given, "access_token"))]).await;
    assert_eq!(own.closed().await.0, 4401);
    assert!(api.socket(&address, &[]).await.is_err());
    others.send_text(r#"{"type":"ping"}"#).await;
    others.first(|frame| frame["type"] == "ping" && frame["cursor"].is_null()).await;
    let server = server.restart().await;
    assert!(server.api().socket(&address, &[]).await.is_err());
    assert_eq!(by_token(&server.api(), "GET", ALL, text(&given, "access_token")).await, 401);
}

#[tokio::test]
async fn a_token_is_for_its_scopes_its_program_and_whom_it_was_made_for() {
    let server = TestServer::with(&format!("{ULTRACART}{OAUTH}")).await;
    let (api, oauth) = (server.api(), OAuth::of(&server.api()));
    let given = oauth.tokens(&oauth.code(&[("scope", "conversation_read")]).await).await;
    let read = text(&given, "access_token");
    assert_eq!((text(&given, "scope"), by_token(&api, "GET", ALL, read).await), ("conversation_read", 200));
    for (method, path) in [("PUT", ALL), ("PUT", "/conversations/x/join"), ("DELETE", "/conversations/x/leave"), ("PUT", "/agent/auth")] {
        assert_eq!(by_token(&api, method, path, read).await, 400, "{method} {path}");
    }
    let given = oauth.tokens(&oauth.code(&[("scope", "conversation_write")]).await).await;
    let write = text(&given, "access_token");
    let own = of(&server, "ada-key").start(json!({})).await;
    let join = format!("/conversations/{}/join", text(&own, "conversation_uuid"));
    assert_eq!((by_token(&api, "PUT", &join, write).await, by_token(&api, "GET", "/upload_url/jpg", write).await), (200, 200));
    // Of the calls of a program so many are in a second.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    // Whatever shows what was said is reading, whatever its method, and what opens the socket is both.
    for (method, path) in [("GET", ALL), ("PUT", ALL), ("PUT", "/agent/auth")] {
        assert_eq!(by_token(&api, method, path, write).await, 400, "{method} {path}");
    }
    assert_eq!(by_token(&api, "GET", "/upload_url/jpg", read).await, 400);
    // A program has the rate of a key, over all that one agent grants it.
    let further = oauth.tokens(&oauth.code(&[]).await).await;
    let calls = (0..40).map(|_| by_token(&api, "GET", "/agent/keepalive", text(&further, "access_token")));
    let statuses: BTreeSet<u16> = futures::future::join_all(calls).await.into_iter().collect();
    assert_eq!(statuses, BTreeSet::from([200, 429]));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    // What was said with the request for a code must be shown with it, and nothing else.
    let code = oauth.code(&[("code_challenge", CHALLENGE), ("code_challenge_method", "S256")]).await;
    for wrong in [&[][..], &[("code_verifier", "x")]] {
        assert_eq!(oauth.post("token", &[&redeeming(&code)[..], wrong].concat()).await.1["error"], "invalid_grant");
    }
    assert_eq!(oauth.post("token", &[&redeeming(&code)[..], &[("code_verifier", VERIFIER)]].concat()).await.0, 200);
    let code = oauth.code(&[]).await;
    let elsewhere =
        [("grant_type", "authorization_code"), ("client_id", "crm"), ("code", code.as_str()), ("redirect_uri", "http://127.0.0.1:9/back")];
    for (members, status, error) in [
        (&elsewhere[..], 400, "invalid_grant"),
        (
            &[
                ("grant_type", "authorization_code"),
                ("client_id", "safe"),
                ("client_secret", "of+the/safe=one"),
                ("code", &code),
                ("redirect_uri", BACK),
            ],
            400,
            "invalid_grant",
        ),
        (&[("grant_type", "authorization_code"), ("client_id", "safe"), ("code", &code), ("redirect_uri", BACK)], 401, "invalid_client"),
        (
            &[("grant_type", "authorization_code"), ("client_id", "crm"), ("client_secret", "x"), ("code", &code), ("redirect_uri", BACK)],
            401,
            "invalid_client",
        ),
        (&[("grant_type", "refresh_token"), ("client_id", "nobody"), ("refresh_token", "x")], 401, "invalid_client"),
        (&[("grant_type", "password"), ("client_id", "crm")], 400, "unsupported_grant_type"),
        (&[("grant_type", "authorization_code"), ("client_id", "crm")], 400, "invalid_request"),
        (&[("grant_type", "refresh_token"), ("client_id", "crm")], 400, "invalid_request"),
        (&[("client_id", "crm")], 400, "invalid_request"),
        (&[], 400, "invalid_request"),
    ] {
        let (answered, said) = oauth.post("token", members).await;
        assert_eq!((answered, said["error"].as_str()), (status, Some(error)), "{members:?}");
    }
    assert_eq!(oauth.post("token", &redeeming(&code)).await.0, 200, "what others tried with it changes nothing");
    assert_eq!(oauth.post("revoke", &[("client_id", "crm")]).await.1["error"], "invalid_request");
    // By a header, too.
    let basic = oauth.http.post(format!("{}/token", oauth.base)).basic_auth("safe", Some("of+the/safe=one"));
    let (status, text, _, _) = OAuth::send(basic.form(&[("grant_type", "refresh_token"), ("refresh_token", "x")])).await;
    assert!(status == 400 && text.contains("invalid_grant"), "{text}");
}

#[tokio::test]
async fn nobody_is_sent_where_the_program_has_not_said_and_strangers_do_not_sign_in() {
    let server = TestServer::with(&format!("{ULTRACART}{OAUTH}")).await;
    let oauth = OAuth::of(&server.api());
    let get = async |query: &str| OAuth::send(oauth.http.get(format!("{}/authorize?{query}", oauth.base))).await;
    for query in [
        "",
        "client_id=nobody&response_type=code",
        "client_id=crm&response_type=code",
        "client_id=crm&response_type=code&redirect_uri=https://evil.example/",
        "client_id=crm&response_type=code&redirect_uri=https://crm.example/back",
        "client_id=crm&client_id=crm",
    ] {
        let (status, page, to, headers) = get(query).await;
        assert!(status == 400 && to.is_none() && page.contains("role=\"alert\""), "{query}: {page}");
        protected(&headers);
    }
    // Where there is but one address it need not be said.
    assert_eq!(get("client_id=safe&response_type=code").await.0, 200);
    for (query, error) in [
        ("response_type=token", "unsupported_response_type"),
        ("", "unsupported_response_type"),
        ("response_type=code&scope=order_read", "invalid_scope"),
        ("response_type=code&code_challenge=x&code_challenge_method=S256", "invalid_request"),
        (&format!("response_type=code&code_challenge={CHALLENGE}"), "invalid_request"),
        (&format!("response_type=code&code_challenge={CHALLENGE}&code_challenge_method=plain"), "invalid_request"),
    ] {
        let (status, _, to, _) = get(&format!("client_id=safe&state=s&{query}")).await;
        let to = to.unwrap();
        let told: BTreeMap<String, String> = to.query_pairs().into_owned().collect();
        assert_eq!(
            (status, told["error"].as_str(), told["state"].as_str(), to.host_str()),
            (303, error, "s", Some("safe.example")),
            "{query}"
        );
    }
    let usual = [("client_id", "safe"), ("response_type", "code")];
    for (login, password) in [("ada", "wrong"), ("nobody", "ada-demo"), ("", ""), ("mia", "mia-demo")] {
        let (status, page, to) = oauth.sign_in(&[&usual[..], &[("login", login), ("password", password)]].concat()).await;
        assert!(
            status == 401 && to.is_none() && page.contains("The login or the password is wrong.") && !page.contains("mia-demo"),
            "{page}"
        );
    }
    let (status, _, to) = oauth.sign_in(&[&usual[..], &[("cancel", "1")]].concat()).await;
    assert_eq!((status, to.unwrap().as_str()), (303, "https://safe.example/?error=access_denied"));
    let good = [&usual[..], &[("login", "ada"), ("password", "ada-demo")]].concat();
    let foreign = oauth.http.post(format!("{}/authorize", oauth.base)).header("sec-fetch-site", "cross-site").form(&good);
    let (status, page, to, _) = OAuth::send(foreign).await;
    assert!(status == 400 && to.is_none() && page.contains("another site"), "{page}");
    assert_eq!(oauth.sign_in(&good).await.0, 303);
    let slow = TestServer::with(&format!("[limits]\nlogins_per_minute = 2\n\n{ULTRACART}{OAUTH}")).await;
    let oauth = OAuth::of(&slow.api());
    let wrong = [&usual[..], &[("login", "ada"), ("password", "wrong")]].concat();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(oauth.sign_in(&wrong).await.0);
    }
    assert_eq!(statuses, [401, 401, 429]);
}

#[tokio::test]
async fn what_is_taken_out_of_the_configuration_ends_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let config = CONFIG.replacen("[accounts.survey]", &format!("{OAUTH}[accounts.survey]"), 1);
    let with = |config: &str| format!("[internal]\nadmin_key = \"the-admin-key\"\n{config}");
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &with(&config)).await;
    let (api, oauth) = (server.api(), OAuth::of(&server.api()));
    let reload = async |config: &str| {
        std::fs::write(dir.path().join("test.toml"), with(config)).unwrap();
        let reply = api.call("POST", "/admin/v1/reload", &[("authorization", "Bearer the-admin-key")], "").await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    };
    let given = oauth.tokens(&oauth.code(&[]).await).await;
    let (access, refresh) = (text(&given, "access_token"), text(&given, "refresh_token"));
    assert_eq!(by_token(&api, "GET", ALL, access).await, 200);
    let (_, mut socket) = socket_by_token(&api, access).await;
    reload(CONFIG).await;
    assert_eq!(socket.closed().await.0, 4401);
    assert_eq!((by_token(&api, "GET", ALL, access).await, oauth.post("token", &refreshing(refresh)).await.0), (410, 401));
    reload(&config).await;
    assert_eq!(by_token(&api, "GET", ALL, access).await, 200);
    // Another password ends what the agent granted before.
    reload(&config.replacen("ada-demo", "another", 1)).await;
    assert_eq!((by_token(&api, "GET", ALL, access).await, oauth.post("token", &refreshing(refresh)).await.0), (401, 400));
    let gone = config.replacen("user_id = \"1001\"\nlogin = \"ada\"", "user_id = \"1009\"\nlogin = \"ida\"", 1);
    reload(&gone).await;
    assert_eq!(by_token(&api, "GET", ALL, access).await, 410);
}
