//! The agent socket of UltraCart's dialect: who gets in and for how long, every frame in both directions, and that nothing is lost or
//! told twice, however often it is cut off.

use crate::programs::{clients, is_ready};
use crate::support::*;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

const KEYS: &str = r#"
[internal]
admin_key = "the-admin-key"
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
key = "bea-key"
agent = "1003"
per_second = 100000
[[accounts.api_keys]]
dialect = "dixa"
key = "dixa-key"
"#;

const SOCKET: &str = "/rest/v2/conversation/ws";

async fn gateway() -> TestServer {
    TestServer::with(KEYS).await
}

/// Calls of an agent's program.
async fn rest(api: &Api, agent: &str, method: &str, path: &str) -> Value {
    let key = format!("{agent}-key");
    let reply = api.call(method, &format!("/rest/v2/conversation{path}"), &[("x-ultracart-simple-key", &key)], "").await;
    assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
    reply.json()
}

async fn jwt(api: &Api, agent: &str) -> String {
    rest(api, agent, "PUT", "/agent/auth").await["jwt"].as_str().unwrap().to_owned()
}

/// An agent's socket, with what it has been told of the feed.
struct Agent {
    api: Api,
    jwt: String,
    ws: Ws,
    /// Of the last frame that had one.
    cursor: String,
    /// Every frame that came, pings left out.
    told: Vec<Value>,
}

impl Agent {
    async fn come(api: &Api, name: &str) -> Self {
        let jwt = jwt(api, name).await;
        let (ws, cursor) = Self::open(api, &jwt, "").await;
        Self { api: api.clone(), jwt, ws, cursor, told: Vec::new() }
    }

    /// A socket, which says where it begins.
    async fn open(api: &Api, jwt: &str, after: &str) -> (Ws, String) {
        let mut ws = api.socket(&format!("{SOCKET}?jwt={jwt}&after={after}"), &[]).await.unwrap();
        let hello = ws.frame().await;
        assert_eq!(hello["type"], "ping", "{hello}");
        let cursor = hello["cursor"].as_str().unwrap().to_owned();
        assert!(after.is_empty() || after == cursor, "{after} {cursor}");
        (ws, cursor)
    }

    /// Cuts the connection without a word, and comes again with the last cursor.
    async fn come_again(&mut self) {
        let (ws, _) = Self::open(&self.api, &self.jwt, &self.cursor).await;
        self.ws = ws;
    }

    async fn next(&mut self) -> Value {
        let frame = self.ws.frame().await;
        if let Some(cursor) = frame["cursor"].as_str() {
            cursor.clone_into(&mut self.cursor);
        }
        if frame["type"] != "ping" {
            self.told.push(frame.clone());
        }
        frame
    }

    /// The next frame of a kind: `message`, `notice`, or the type of an event. Those before it are passed over.
    async fn next_of(&mut self, kind: &str) -> Value {
        let began = self.told.len();
        loop {
            let frame = self.next().await;
            if kind_of(&frame) == kind {
                return frame;
            }
            assert!(self.told.len() < began + 1000, "no {kind}");
        }
    }

    /// The kinds of the next frames, up to the one that says so.
    async fn kinds_until(&mut self, last: &str) -> Vec<String> {
        let mut kinds = Vec::new();
        while kinds.last().map(String::as_str) != Some(last) {
            kinds.push(kind_of(&self.next().await));
        }
        kinds
    }

    async fn send(&mut self, frame: Value) {
        self.ws.send(&frame).await;
    }

    async fn say(&mut self, conversation: &str, body: &str, name: &str) {
        self.send(said(conversation, body, name)).await;
    }

    async fn event(&mut self, conversation: &str, kind: &str) {
        self.send(json!({"type": "event", "event_type": kind, "conversation_uuid": conversation})).await;
    }

    /// Comes to a conversation, and waits until that is told.
    async fn join(&mut self, conversation: &str) -> Value {
        self.event(conversation, "participant join").await;
        self.next_of("participant join").await
    }

    /// Waits until all is told that was done before: a word of its own, which goes to nobody else's screen.
    async fn nothing_but(&mut self, conversation: &str) -> Vec<Value> {
        let before = self.told.len();
        let mark = format!("mark {before}");
        self.say(conversation, &mark, &mark).await;
        while self.next_of("message").await["message"]["client_message_id"] != *mark {}
        assert_eq!(self.next().await["event_type"], "new message");
        self.told[before..].to_vec()
    }
}

fn said(conversation: &str, body: &str, name: &str) -> Value {
    json!({"type": "message", "conversation_uuid": conversation, "message": {"body": body, "client_message_id": name}})
}

fn kind_of(frame: &Value) -> String {
    match frame["type"].as_str().unwrap() {
        "event" => frame["event_type"].as_str().unwrap().to_owned(),
        "message" => if frame["message"]["type"] == "notice" { "notice" } else { "message" }.to_owned(),
        other => other.to_owned(),
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}"))
}

async fn status_of(opening: Result<Ws, WsError>) -> u16 {
    match opening {
        Err(WsError::Http(response)) => {
            assert!(response.headers().contains_key("uc-rest-error"));
            assert_eq!(response.headers()["content-type"], "application/json");
            response.status().as_u16()
        }
        Err(error) => panic!("{error}"),
        Ok(mut ws) => ws.closed().await.0,
    }
}

#[tokio::test]
async fn the_token_may_come_in_every_way_in_which_clients_send_it() {
    let server = gateway().await;
    let api = server.api();
    let auth = rest(&api, "ada", "PUT", "/agent/auth").await;
    let token = text(&auth, "jwt").to_owned();
    let url = text(&auth, "websocket_url").strip_prefix(&format!("ws://{}", server.address)).unwrap().to_owned();
    let protocol = "sec-websocket-protocol";
    let (bearer, alone, beside) = (format!("Bearer {token}"), token.clone(), format!("ultracart, {token}"));
    let query = |name: &str| format!("{SOCKET}?{name}={token}");
    for (path, headers, spoken) in [
        (url.as_str(), vec![], None),
        (&query("token"), vec![], None),
        (&query("access_token"), vec![], None),
        (SOCKET, vec![("authorization", bearer.as_str())], None),
        (SOCKET, vec![(protocol, alone.as_str())], Some(token.as_str())),
        (SOCKET, vec![(protocol, beside.as_str())], Some("ultracart")),
        (&query("jwt"), vec![(protocol, "chat, v2")], Some("chat")),
        // What is wrong does not stand in the way of what is right.
        (&query("jwt"), vec![("authorization", "Bearer something")], None),
    ] {
        let mut ws = api.socket(path, &headers).await.unwrap_or_else(|error| panic!("{path} {headers:?}: {error}"));
        assert_eq!(ws.frame().await["type"], "ping");
        // The same without the short way, which a blank at the end of a line is enough for.
        let raw: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        for more in ["", "expect: nothing\r\n"] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let upgrade =
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
            let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{upgrade}{raw}{more}\r\n", server.address);
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                let byte = tokio::time::timeout(SOON, stream.read_u8()).await.unwrap().unwrap();
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            assert!(head.starts_with("http/1.1 101"), "{head}");
            let line = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
            assert_eq!(line.map(str::to_owned), spoken.map(str::to_lowercase), "{path} {headers:?}");
        }
    }
}

#[tokio::test]
async fn who_has_no_good_token_is_refused_before_the_upgrade() {
    let server = gateway().await;
    let api = server.api();
    let native = api.login("ada").await.bearer;
    let app = api.app_token().await;
    let token = jwt(&api, "ada").await;
    let tampered = format!("{}x", &token[..token.len() - 3]);
    for path in [
        SOCKET.to_owned(),
        format!("{SOCKET}?jwt="),
        format!("{SOCKET}?jwt=nonsense"),
        format!("{SOCKET}?jwt={native}"),
        format!("{SOCKET}?jwt={app}"),
        format!("{SOCKET}?jwt={tampered}"),
        format!("{SOCKET}?jwt=ada-key"),
    ] {
        assert_eq!(status_of(api.socket(&path, &[]).await).await, 401, "{path}");
    }
    assert_eq!(status_of(api.socket(&format!("{SOCKET}?jwt={token}&jwt={token}"), &[]).await).await, 400);
    // The token opens nothing else.
    for (name, value) in [("authorization", format!("Bearer {token}")), ("x-ultracart-simple-key", token.clone())] {
        assert_eq!(api.call("GET", "/rest/v2/conversation/conversations", &[(name, &value)], "").await.status, 401);
    }
}

#[tokio::test]
async fn a_socket_ends_with_its_token_and_another_token_lets_it_in_again() {
    let server = TestServer::with(&format!("[tokens]\napp = \"4s\"\n{KEYS}")).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let mut ada = Agent::come(&api, "ada").await;
    let began = Instant::now();
    ann.say(&id, "before").await;
    ada.next_of("new message").await;
    assert_eq!(ada.ws.closed().await.0, 4401);
    assert!(began.elapsed() < Duration::from_secs(4 + 5), "{:?}", began.elapsed());
    assert_eq!(status_of(api.socket(&format!("{SOCKET}?jwt={}", ada.jwt), &[]).await).await, 401);
    // Meanwhile the application's token has ended, too.
    let ann = api.speaker("ann").await;
    ann.say(&id, "between").await;
    ada.jwt = jwt(&api, "ada").await;
    ada.come_again().await;
    assert_eq!(ada.next_of("new message").await["event_new_message"]["last_conversation_message_body"], "between");
}

#[tokio::test]
async fn a_token_that_is_made_to_expire_ends_its_own_socket_alone() {
    let server = TestServer::with(&format!("[server]\ndev = true\n{KEYS}")).await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    let mut grace = Agent::come(&api, "grace").await;
    let fault = json!({"account": "demo", "expireToken": ada.jwt}).to_string();
    let reply = api.call("POST", "/admin/v1/faults", &[("authorization", "Bearer the-admin-key")], fault).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(ada.ws.closed().await.0, 4401);
    assert_eq!(status_of(api.socket(&format!("{SOCKET}?jwt={}", ada.jwt), &[]).await).await, 401);
    grace.send(json!({"type": "ping"})).await;
    assert_eq!(grace.next().await["type"], "ping");
}

#[tokio::test]
async fn an_agent_that_is_removed_or_changed_by_a_reload_loses_its_socket_and_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let keys = KEYS.split_once("# app demo-connector\n\n").unwrap().1;
    let head = "[internal]\nadmin_key = \"the-admin-key\"\n";
    let usual = format!("{head}{}", CONFIG.replacen("[accounts.survey]", &format!("{keys}[accounts.survey]"), 1));
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &usual).await;
    let api = server.api();
    let (mut ada, mut grace, mut bea) = (Agent::come(&api, "ada").await, Agent::come(&api, "grace").await, Agent::come(&api, "bea").await);
    let bea_entry = "[[accounts.agents]]\nuser_id = \"1003\"\nlogin = \"bea\"\npassword = \"bea-demo\"\nskills = [\"88\"]\ncapacity = 1\n";
    let bea_key = "[[accounts.api_keys]]\ndialect = \"ultracart\"\nkey = \"bea-key\"\nagent = \"1003\"\nper_second = 100000\n";
    let mut changed = usual.replace("password = \"ada-demo\"\nskills", "password = \"ada-new\"\nskills");
    for gone in [bea_entry, bea_key] {
        assert!(changed.contains(gone));
        changed = changed.replace(gone, "");
    }
    std::fs::write(dir.path().join("test.toml"), changed).unwrap();
    let said = api.call("POST", "/admin/v1/reload", &[("authorization", "Bearer the-admin-key")], "").await;
    assert_eq!(said.status, 200, "{}", said.text);
    assert_eq!((ada.ws.closed().await.0, bea.ws.closed().await.0), (4401, 4401));
    for agent in [&ada, &bea] {
        assert_eq!(status_of(api.socket(&format!("{SOCKET}?jwt={}", agent.jwt), &[]).await).await, 410);
    }
    grace.send(json!({"type": "ping"})).await;
    assert_eq!(grace.next().await["type"], "ping");
    Agent::come(&api, "ada").await;
    // Nor does a token outlive the key that it was asked for with.
    let without = usual.replace("key = \"grace-key\"", "key = \"another-key\"");
    std::fs::write(dir.path().join("test.toml"), without).unwrap();
    let said = api.call("POST", "/admin/v1/reload", &[("authorization", "Bearer the-admin-key")], "").await;
    assert_eq!(said.status, 200, "{}", said.text);
    assert_eq!(grace.ws.closed().await.0, 4401);
    assert_eq!(status_of(api.socket(&format!("{SOCKET}?jwt={}", grace.jwt), &[]).await).await, 401);
}

#[tokio::test]
async fn an_agent_hears_messages_where_it_takes_part_and_of_all_else_what_its_list_needs() {
    let server = gateway().await;
    let api = server.api();
    let (mut ada, mut grace) = (Agent::come(&api, "ada").await, Agent::come(&api, "grace").await);
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let opened = ada.next().await;
    assert_eq!(kind_of(&opened), "new conversation");
    let summary = &opened["event_new_conversation"];
    assert_eq!((text(&opened, "conversation_uuid"), text(summary, "conversation_uuid")), (id.as_str(), id.as_str()));
    assert_eq!(opened["conversation_arn"], format!("arn:gw:conversation:DEMO:conversation/{id}"));
    assert_eq!((&summary["message_count"], &summary["closed"]), (&json!(0), &json!(false)));
    ann.say(&id, "Is it in stock?").await;
    // It waits from the first word on, and nobody takes part.
    assert_eq!(ada.kinds_until("queue new member").await, ["new message", "queue new member"]);
    let waits = ada.told.last().unwrap()["event_queue_new_member"].clone();
    assert_eq!(
        (text(&waits, "conversation_webchat_queue_uuid"), text(&waits, "question"), text(&waits, "queue_name")),
        (id.as_str(), "Is it in stock?", "-1")
    );
    ann.say(&id, "Hello?").await;
    assert_eq!(ada.kinds_until("new message").await, ["new message"]);
    let joined = ada.join(&id).await;
    let who = &joined["event_participant_join_participant"];
    assert_eq!((text(who, "conversation_participant_name"), text(who, "status")), ("ada", "joined"));
    assert_eq!(who["conversation_participant_arn"], "arn:gw:conversation:DEMO:agent/1001");
    assert_eq!(joined["event_participant_join"]["participants"].as_array().unwrap().len(), 2);
    ada.say(&id, "It is.", "m-1").await;
    let own = ada.next().await;
    let message = &own["message"];
    assert_eq!((text(message, "body"), text(message, "client_message_id"), text(message, "type")), ("It is.", "m-1", "message"));
    assert_eq!((&message["sequence"], message["media_urls"].as_array().unwrap().len()), (&json!(2), 0));
    let list = ada.next().await;
    assert_eq!((kind_of(&list).as_str(), &list["event_new_message"]["message_count"]), ("new message", &json!(3)));
    assert_eq!(list["event_new_message"]["unread_messages"], false);
    // The same message by REST, and to the consumer.
    let shown = rest(&api, "ada", "GET", &format!("/conversations/{id}")).await;
    let last = shown["messages"].as_array().unwrap().last().unwrap().clone();
    for name in
        ["conversation_message_uuid", "body", "message_dts", "message_epoch", "client_message_id", "author_conversation_participant_arn"]
    {
        assert_eq!(last[name], message[name], "{name}");
    }
    let mut consumer = ann.consumer_socket().await;
    consumer.follow(&id, 0).await;
    assert_eq!(consumer.events(3).await[2], (2, "It is.".to_owned()));
    ann.say(&id, "Thanks").await;
    let said = ada.next_of("message").await;
    assert_eq!(said["message"]["author_conversation_participant_name"], "Ann");
    assert_eq!(ada.next().await["event_new_message"]["unread_messages"], true);
    // Grace takes no part: the same events in the same order, without the messages.
    ada.nothing_but(&id).await;
    while grace.next_of("new message").await["event_new_message"]["message_count"] != 5 {}
    let kinds: Vec<String> = grace.told.iter().map(kind_of).collect();
    let adas: Vec<String> = ada.told.iter().map(kind_of).filter(|kind| kind != "message").collect();
    assert_eq!(kinds, adas);
    assert!(grace.told.iter().all(|frame| frame["message"].is_null()));
    // A manager knows the consumer, and an agent one with whom it has a conversation.
    let names =
        |agent: &Agent, name: &str| agent.told.iter().any(|frame| frame["event_new_message"]["last_conversation_participant_name"] == name);
    assert!(names(&grace, "Ann") && names(&ada, "Visitor") && names(&ada, "Ann"));
}

#[tokio::test]
async fn who_comes_goes_takes_over_closes_and_reopens_is_told() {
    let server = gateway().await;
    let api = server.api();
    let (mut ada, mut grace) = (Agent::come(&api, "ada").await, Agent::come(&api, "grace").await);
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    ada.join(&id).await;
    grace.join(&id).await;
    // Whoever is there stays as it is, and so does who is not; both are no news.
    for kind in ["participant join", "participant join"] {
        grace.event(&id, kind).await;
    }
    let joins: Vec<_> = ada.nothing_but(&id).await.iter().map(kind_of).collect();
    assert_eq!(joins, ["participant join", "message", "new message"]);
    grace.event(&id, "participant left").await;
    let left = ada.next_of("participant left").await;
    let who = &left["event_participant_left_participant"];
    assert_eq!((text(who, "conversation_participant_name"), text(who, "status")), ("grace", "left"));
    assert!(who["left_dts"].is_string() && left["event_participant_left"]["participants"].as_array().unwrap().len() == 2);
    grace.event(&id, "participant left").await;
    // By REST it is the same.
    rest(&api, "grace", "PUT", &format!("/conversations/{id}/join")).await;
    assert_eq!(ada.next().await["event_type"], "participant join");
    rest(&api, "grace", "DELETE", &format!("/conversations/{id}/leave")).await;
    assert_eq!(ada.next().await["event_type"], "participant left");
    // Who answered leaves: it waits again.
    ada.event(&id, "participant left").await;
    assert_eq!(ada.kinds_until("queue new member").await, ["participant left", "queue new member"]);
    grace.join(&id).await;
    assert_eq!(ada.next().await["event_participant_join"]["participants"].as_array().unwrap().len(), 2);
    // By another surface somebody takes it over.
    let claim = |agent: &str| json!({"agentId": agent, "force": true});
    let dixa: Vec<(&str, &str)> = vec![("authorization", "dixa-key")];
    let agents = api.call("GET", "/v1/agents", &dixa, "").await.json();
    let uuid = |login: &str| {
        let all = agents["data"].as_array().unwrap();
        let found =
            all.iter().find(|agent| agent["email"].as_str().is_some_and(|email| email.starts_with(login)) || agent["displayName"] == login);
        text(found.unwrap_or_else(|| panic!("{agents}")), "id").to_owned()
    };
    let taken = api
        .call("PUT", "/v1/conversations/1/claim", &[dixa[0], ("content-type", "application/json")], claim(&uuid("ada")).to_string())
        .await;
    assert!(taken.status < 300, "{} {}", taken.status, taken.text);
    assert_eq!(ada.kinds_until("participant join").await, ["participant left", "participant join"]);
    let parts = &ada.told[ada.told.len() - 2..];
    assert_eq!(parts[0]["event_participant_left_participant"]["conversation_participant_name"], "grace");
    assert_eq!(parts[1]["event_participant_join_participant"]["conversation_participant_name"], "ada");
    // A client that is cut between the two has the first and lacks the second.
    let first = text(&parts[0], "cursor").to_owned();
    let (mut other, _) = Agent::open(&api, &ada.jwt, &first).await;
    assert_eq!(other.frame().await["event_type"], "participant join");
    ada.event(&id, "conversation closed").await;
    let closed = ada.next_of("conversation closed").await;
    assert_eq!((&closed["event_conversation_closed"]["closed"], text(&closed, "conversation_uuid")), (&json!(true), id.as_str()));
    let reopened = api.call("PUT", "/v1/conversations/1/reopen", &[dixa[0], ("content-type", "application/json")], "{}").await;
    assert!(reopened.status < 300, "{} {}", reopened.status, reopened.text);
    assert_eq!(ada.kinds_until("queue new member").await, ["new conversation", "queue new member"]);
}

#[tokio::test]
async fn files_whispers_typing_and_receipts_go_both_ways() {
    let server = gateway().await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    let mut other = Agent::come(&api, "ada").await;
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ada.join(&id).await;
    let mut consumer = ann.consumer_socket().await;
    consumer.follow(&id, 0).await;
    // Typing, from both sides; one's own is not shown.
    let typing = |value: &str| json!({"type": "event", "event_type": "typing", "conversation_uuid": id, "event_typing": {"value": value}});
    ada.send(typing("It")).await;
    let shown = consumer.first(|frame| frame.to_string().contains("COMPOSING")).await;
    assert!(!shown.to_string().contains("It\""), "{shown}");
    ada.send(typing("")).await;
    consumer.first(|frame| frame.to_string().contains("PAUSE")).await;
    let native =
        |state: &str| request("t", "ms.PublishEvent", json!({"dialogId": id, "event": {"type": "ChatStateEvent", "chatState": state}}));
    for (state, value) in [("COMPOSING", "typing"), ("PAUSE", "")] {
        consumer.ask(&native(state)).await;
        let shown = ada.next_of("typing").await;
        assert_eq!(shown["event_typing"]["value"], value);
        assert!(text(&shown["event_typing"], "author_conversation_participant_arn").contains("customer/"));
        assert!(shown["cursor"].is_null());
    }
    let typed = |agent: &Agent| agent.told.iter().filter(|frame| frame["event_type"] == "typing").count();
    assert_eq!(typed(&ada), 2);
    // A colleague's typing is shown with its name; its whisper is a notice, and nothing to the consumer.
    let mut grace = api.agent("grace", "2.1").await;
    grace.ask(&add_agent("j", &id, "AGENT")).await;
    grace.ask(&native("COMPOSING")).await;
    assert_eq!(ada.next_of("typing").await["event_typing"]["author_conversation_participant_name"], "grace");
    let mut whisper = publish("w", &id, "a word between us");
    whisper["body"]["messageAudience"] = json!("AGENTS_AND_MANAGERS");
    assert_eq!(grace.ask(&whisper).await["code"], 200);
    let notice = ada.next_of("notice").await;
    assert_eq!((text(&notice["message"], "body"), notice["error"].is_null()), ("a word between us", true));
    // A file of the consumer's can be fetched.
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0".to_vec();
    let path = ann.upload(png.clone(), "PNG").await;
    ann.show_file(&id, &path, "PNG").await;
    let file = ada.next_of("message").await;
    let url = file["message"]["media_urls"][0].as_str().unwrap().to_owned();
    assert_eq!(reqwest::get(&url).await.unwrap().bytes().await.unwrap(), png);
    // One of the agent's, with a text: two messages, and both or none.
    let place = rest(&api, "ada", "GET", "/upload_url/png").await["conversation_multimedia_upload_url"].clone();
    let put = reqwest::Client::new().put(text(&place, "url")).body(png.clone()).send().await.unwrap();
    assert!(put.status().is_success());
    let key = text(&place, "key");
    let both = |keys: &[&str]| {
        json!({"type": "message", "conversation_uuid": id,
            "message": {"body": "see", "client_message_id": "with files", "upload_keys": keys}})
    };
    ada.send(both(&[key, "/files/of/another.png"])).await;
    let refused = ada.next_of("notice").await;
    assert!(text(&refused["message"], "body").contains("upload_keys"), "{refused}");
    assert_eq!((text(&refused["message"], "client_message_id"), &refused["error"]["error_code"]), ("with files", &json!("400")));
    ada.send(both(&[key])).await;
    let (first, _, second) = (ada.next().await, ada.next().await, ada.next().await);
    assert_eq!((text(&first["message"], "body"), text(&first["message"], "client_message_id")), ("see", "with files"));
    assert!(second["message"]["client_message_id"].is_null() && second["message"]["body"] == "");
    let url = second["message"]["media_urls"][0].as_str().unwrap();
    assert_eq!(reqwest::get(url).await.unwrap().bytes().await.unwrap(), png);
    // The consumer has read it; the agent reads up to a message.
    let last = second["message"]["sequence"].as_u64().unwrap();
    let receipt = json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [last - 1, last]});
    consumer.ask(&request("r", "ms.PublishEvent", json!({"dialogId": id, "event": receipt}))).await;
    let read = ada.next_of("read message").await["event_read_message"].clone();
    assert_eq!(read["conversation_message_uuid"], second["message"]["conversation_message_uuid"]);
    assert_eq!(read["message_epoch"], second["message"]["message_epoch"]);
    assert!(text(&read, "conversation_participant_arn").contains("customer/"));
    for word in ["one", "two"] {
        ann.say(&id, word).await;
    }
    let one = ada.next_of("message").await["message"].clone();
    let uuid = text(&one, "conversation_message_uuid");
    ada.send(json!({"type": "event", "event_type": "read message", "conversation_uuid": id, "event_read_message": {"conversation_message_uuid": uuid}})).await;
    // Another socket of the same agent hears of it.
    let heard = other.next_of("read message").await;
    assert!(heard["event_read_message"]["message_epoch"] != Value::Null);
    let mine = loop {
        let frame = other.next_of("read message").await;
        if text(&frame["event_read_message"], "conversation_participant_arn").ends_with("agent/1001") {
            break frame["event_read_message"].clone();
        }
    };
    assert_eq!(mine["conversation_message_uuid"], uuid);
    let shown = rest(&api, "grace", "GET", &format!("/conversations/{id}")).await;
    let status = |body: &str| {
        let message = shown["messages"].as_array().unwrap().iter().find(|message| message["body"] == body).unwrap();
        let all = message["transport_statuses"].as_array().unwrap();
        let one = all.iter().find(|one| text(one, "conversation_participant_arn").ends_with("agent/1001")).unwrap();
        text(one, "status").to_owned()
    };
    assert_eq!((status("one"), status("two")), ("read".to_owned(), "sent".to_owned()));
    ada.send(json!({"type": "event", "event_type": "read message", "conversation_uuid": id})).await;
    loop {
        let frame = ada.next_of("read message").await;
        let read = &frame["event_read_message"];
        if text(read, "conversation_participant_arn").ends_with("agent/1001") && read["conversation_message_uuid"] != uuid {
            break;
        }
    }
}

#[tokio::test]
async fn offers_names_erasures_and_queues_are_told_to_whom_they_concern() {
    let server = gateway().await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    let mut bea = Agent::come(&api, "bea").await;
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let position = |conversation: &str| json!({"type": "check queue position", "conversation_uuid": conversation});
    let place = async |agent: &mut Agent, conversation: &str| {
        agent.send(position(conversation)).await;
        let shown = agent.next_of("queue position").await;
        assert_eq!(shown["conversation_uuid"], conversation);
        (shown["event_queue_position"]["position"].as_i64().unwrap(), shown["event_queue_position"]["available"].as_bool().unwrap())
    };
    // Nobody has said anything, so it does not wait.
    assert_eq!(place(&mut bea, &id).await, (-1, false));
    let mut waiting = Vec::new();
    for name in ["ann", "ben", "cyd"] {
        let speaker = api.speaker(name).await;
        let id = if name == "ann" { id.clone() } else { speaker.open().await };
        speaker.say(&id, "hello").await;
        waiting.push(id);
    }
    for (number, id) in (1..).zip(&waiting) {
        assert_eq!(place(&mut bea, id).await, (number, false));
    }
    // An agent of the queue comes: it is offered all three.
    let body = json!({"agent_status": "available"}).to_string();
    let key = [("x-ultracart-simple-key", "ada-key")];
    assert_eq!(api.call("PUT", "/rest/v2/conversation/conversations/queues/-1/status", &key, body).await.status, 200);
    let mut offered = BTreeSet::new();
    while offered.len() < 3 {
        let entry = ada.next_of("engage customer").await;
        assert_eq!(entry["event_engage_customer"]["conversation_webchat_queue_uuid"], entry["conversation_uuid"]);
        offered.insert(text(&entry, "conversation_uuid").to_owned());
    }
    assert_eq!(offered, waiting.iter().cloned().collect());
    assert_eq!(place(&mut bea, &waiting[2]).await, (3, true));
    assert!(bea.told.iter().all(|frame| frame["event_type"] != "engage customer"));
    ada.join(&id).await;
    assert_eq!(place(&mut bea, &id).await, (-1, true));
    // The consumer is called something else.
    let named =
        ann.post(SEND, request("n", "userprofile.SetUserProfile", json!({"firstName": "Anna", "lastName": "Bell"})).to_string()).await;
    assert_eq!(named.status, 200, "{}", named.text);
    let update = ada.next_of("participant update").await;
    let names: Vec<&str> = update["event_participant_update"]["participants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| text(one, "conversation_participant_name"))
        .collect();
    assert!(update["conversation_uuid"] == *id && names.contains(&"Anna Bell"), "{update}");
    // A message is erased, and then all of them.
    ann.say(&id, "my number is 4711").await;
    let secret = ada.next_of("message").await["message"].clone();
    let dixa = [("authorization", "dixa-key"), ("content-type", "application/json")];
    let path = format!("/v1/conversations/1/messages/{}/anonymize", text(&secret, "conversation_message_uuid"));
    let asked = api.call("PATCH", &path, &dixa, "").await;
    assert!(asked.status < 300, "{} {}", asked.status, asked.text);
    let left = ada.next_of("updated message").await["event_updated_message"].clone();
    assert_eq!((left["conversation_message_uuid"].clone(), text(&left, "body")), (secret["conversation_message_uuid"].clone(), ""));
    assert_eq!(left["message_epoch"], secret["message_epoch"]);
    ada.say(&id, "a word", "w").await;
    ada.next_of("message").await;
    let asked = api.call("PATCH", "/v1/conversations/1/anonymize?force=true", &dixa, "").await;
    assert!(asked.status < 300, "{} {}", asked.status, asked.text);
    let mut erased = BTreeSet::new();
    while erased.len() < 3 {
        let frame = ada.next_of("updated message").await;
        assert_eq!(frame["event_updated_message"]["body"], "");
        assert_eq!(frame["event_updated_message"]["transport_statuses"], json!([]), "who has read it is not taken back");
        erased.insert(text(&frame["event_updated_message"], "conversation_message_uuid").to_owned());
    }
    ada.say(&id, "too late", "late").await;
    assert_eq!(ada.next_of("notice").await["message"]["client_message_id"], "late");
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_there_once_and_its_sender_hears_so() {
    let server = gateway().await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    let mut grace = Agent::come(&api, "grace").await;
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ada.join(&id).await;
    grace.join(&id).await;
    for _ in 0..3 {
        ada.say(&id, "once", "m-1").await;
    }
    // It is told once by the feed, and to who repeats it that it is there: in whatever order.
    let mut replayed = 0;
    let mut echoes = Vec::new();
    while replayed < 2 || echoes.is_empty() {
        let frame = ada.next_of("message").await;
        match frame["replayed"].as_bool() {
            Some(true) => {
                assert!(frame["cursor"].is_null());
                replayed += 1;
            }
            _ => echoes.push(frame.clone()),
        }
        assert_eq!((text(&frame["message"], "body"), text(&frame["message"], "client_message_id")), ("once", "m-1"));
    }
    let uuids: BTreeSet<_> = ada.told.iter().filter_map(|frame| frame["message"]["conversation_message_uuid"].as_str()).collect();
    assert_eq!((uuids.len(), echoes.len()), (1, 1));
    // Another text under the same name is refused; another agent's name is its own, and so is that in another conversation.
    ada.say(&id, "twice", "m-1").await;
    let refused = ada.next_of("notice").await;
    assert_eq!((text(&refused["message"], "client_message_id"), &refused["error"]["error_code"]), ("m-1", &json!("409")));
    grace.say(&id, "grace's", "m-1").await;
    let second = api.speaker("ben").await.open().await;
    ada.join(&second).await;
    ada.say(&second, "elsewhere", "m-1").await;
    while ada.next_of("message").await["message"]["body"] != "elsewhere" {}
    // After a restart the name still stands for the message.
    let server = server.restart().await;
    let api = server.api();
    ada.api = api.clone();
    ada.come_again().await;
    ada.say(&id, "once", "m-1").await;
    let again = ada.next_of("message").await;
    assert_eq!((&again["replayed"], &again["message"]["sequence"]), (&json!(true), &json!(0)));
    let shown = rest(&api, "ada", "GET", &format!("/conversations/{id}")).await;
    let bodies: Vec<&str> = shown["messages"].as_array().unwrap().iter().map(|message| text(message, "body")).collect();
    assert_eq!(bodies, ["once", "grace's"]);
}

#[tokio::test]
async fn what_is_refused_is_said_to_its_sender_alone_and_ten_bad_frames_end_the_socket() {
    let server = gateway().await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    let mut grace = Agent::come(&api, "grace").await;
    let ann = api.speaker("ann").await;
    let (id, closed) = (ann.open().await, api.speaker("ben").await.open().await);
    ada.join(&id).await;
    ada.join(&closed).await;
    ada.event(&closed, "conversation closed").await;
    ada.next_of("conversation closed").await;
    let nowhere = "11111111-2222-4333-8444-555555555555";
    let event = |kind: &str, conversation: &str| json!({"type": "event", "event_type": kind, "conversation_uuid": conversation});
    let long = "x".repeat(8_001);
    for (frame, code, reason) in [
        (said(nowhere, "x", "n"), "404", "does not exist"),
        (said(&closed, "x", "n"), "400", "closed"),
        (said(&id, &long, "n"), "400", "the limit is 8000"),
        (said(&id, "", "n"), "400", "neither a body"),
        (said(&id, "x", &"n".repeat(129)), "400", "client_message_id"),
        (event("participant join", nowhere), "404", "does not exist"),
        (event("participant left", nowhere), "404", "does not exist"),
        (event("conversation closed", nowhere), "404", "does not exist"),
        (event("read message", nowhere), "404", "does not exist"),
        (event("typing", nowhere), "404", "does not exist"),
        (event("new message", &id), "400", "nothing that an agent sends"),
        (json!({"type": "check queue position", "conversation_uuid": nowhere}), "404", "does not exist"),
        (
            json!({"type": "event", "event_type": "read message", "conversation_uuid": id,
                "event_read_message": {"conversation_message_uuid": nowhere}}),
            "400",
            "no message",
        ),
    ] {
        ada.send(frame.clone()).await;
        let notice = ada.next_of("notice").await;
        assert_eq!(notice["error"]["error_code"], code, "{frame} {notice}");
        let body = text(&notice["message"], "body");
        assert!(body.contains(reason) && notice["error"]["developer_message"] == body, "{frame} {notice}");
        assert_eq!(notice["conversation_uuid"], frame["conversation_uuid"]);
        assert_eq!(notice["message"]["client_message_id"], frame["message"]["client_message_id"]);
    }
    // Who takes no part does not write, be it a manager's socket.
    grace.say(&id, "x", "g").await;
    assert_eq!(grace.next_of("notice").await["error"]["error_code"], "400");
    // Nine bad frames and a good one are nothing; ten are the end. Each is answered.
    for round in 0..2 {
        for number in 0..9 + round {
            ada.ws.send_text(if number % 2 == 0 { "no frame" } else { r#"{"type":"pong"}"# }).await;
        }
        if round == 0 {
            ada.event(&id, "participant join").await;
            for _ in 0..9 {
                ada.next_of("notice").await;
            }
        }
    }
    let (code, frames) = ada.ws.closed().await;
    assert_eq!((code, frames.iter().filter(|frame| kind_of(frame) == "notice").count()), (1008, 10));
    assert!(grace.told.iter().filter(|frame| kind_of(frame) == "notice").count() == 1);
    // Nothing of it was stored.
    assert!(rest(&api, "ada", "GET", &format!("/conversations/{id}")).await["messages"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_ping_is_answered_once_in_a_while() {
    let server = gateway().await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    for _ in 0..20 {
        ada.send(json!({"type": "ping"})).await;
    }
    let id = api.speaker("ann").await.open().await;
    ada.event(&id, "participant join").await;
    let mut pings = 0;
    loop {
        let frame = ada.next().await;
        match kind_of(&frame).as_str() {
            "ping" => pings += 1,
            "participant join" => break,
            _ => {}
        }
    }
    assert_eq!(pings, 1);
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    ada.send(json!({"type": "ping"})).await;
    assert_eq!(ada.next().await, json!({"type": "ping"}));
}

/// The numbers of the messages and of the updates of a list, as they came.
fn numbers(told: &[Value]) -> (Vec<u64>, Vec<u64>) {
    let messages = told.iter().filter(|frame| kind_of(frame) == "message").map(|frame| frame["message"]["sequence"].as_u64().unwrap());
    let lists = told.iter().filter_map(|frame| frame["cursor"].as_str().filter(|_| frame["event_type"] == "new message"));
    (messages.collect(), lists.map(|cursor| cursor.rsplit_once(':').unwrap().1.parse().unwrap()).collect())
}

#[tokio::test]
async fn a_socket_that_is_cut_off_again_and_again_misses_nothing_and_hears_nothing_twice() {
    let server = gateway().await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    let mut steady = Agent::come(&api, "ada").await;
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ada.join(&id).await;
    let total = 300;
    let publishing = tokio::spawn({
        let (ann, id) = (ann.clone(), id.clone());
        async move {
            let mut socket = ann.consumer_socket().await;
            for number in 0..total {
                socket.ask(&publish("p", &id, &number.to_string())).await;
            }
        }
    });
    // Cut behind each number of frames that comes: between the two frames of a message, too.
    let last = (total - 1).to_string();
    let mut cuts = 0;
    loop {
        for _ in 0..(cuts * 7) % 23 + 1 {
            ada.next().await;
            if ada.told.last().unwrap()["event_new_message"]["last_conversation_message_body"] == *last
                && numbers(&ada.told).0.len() == total
            {
                break;
            }
        }
        if numbers(&ada.told).0.len() == total {
            break;
        }
        ada.come_again().await;
        cuts += 1;
    }
    publishing.await.unwrap();
    assert!(cuts >= 10, "{cuts}");
    let (messages, _) = numbers(&ada.told);
    assert_eq!(messages, (0..total as u64).collect::<Vec<_>>());
    ada.nothing_but(&id).await;
    // One that was never cut off has heard the same.
    while numbers(&steady.told).0.len() < total + 1 {
        steady.next().await;
    }
    steady.next_of("new message").await;
    assert_eq!(numbers(&steady.told), numbers(&ada.told));
    assert_eq!(numbers(&ada.told).1.len(), total + 1);
}

#[tokio::test]
async fn two_agents_hear_the_same_in_the_same_order_while_many_write() {
    let server = gateway().await;
    let api = server.api();
    let (mut ada, mut grace) = (Agent::come(&api, "ada").await, Agent::come(&api, "grace").await);
    let mut writers = Vec::new();
    for name in ["ann", "ben", "cyd", "dan"] {
        let speaker = api.speaker(name).await;
        let id = speaker.open().await;
        ada.join(&id).await;
        grace.join(&id).await;
        writers.push((speaker, id));
    }
    let writing = writers.iter().map(|(speaker, id)| {
        let (speaker, id) = (speaker.clone(), id.clone());
        tokio::spawn(async move {
            for number in 0..50 {
                speaker.say(&id, &format!("{number}")).await;
            }
        })
    });
    for writing in writing.collect::<Vec<_>>() {
        writing.await.unwrap();
    }
    let mut orders = Vec::new();
    for agent in [&mut ada, &mut grace] {
        let mut order = Vec::new();
        while order.len() < 200 {
            let frame = agent.next_of("message").await;
            order.push((text(&frame, "conversation_uuid").to_owned(), frame["message"]["sequence"].as_u64().unwrap()));
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
}

#[tokio::test]
async fn a_cursor_of_another_log_is_refused_in_words_and_by_a_code() {
    let server = gateway().await;
    let api = server.api();
    let ada = Agent::come(&api, "ada").await;
    let mut ws = api.socket(&format!("{SOCKET}?jwt={}&after=another:7", ada.jwt), &[]).await.unwrap();
    let (code, frames) = ws.closed().await;
    let [notice] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!((code, &notice["error"]["error_code"], kind_of(notice).as_str()), (4409, &json!("409"), "notice"));
    let (epoch, position) = ada.cursor.rsplit_once(':').unwrap();
    let beyond = format!("{epoch}:{}", position.parse::<u64>().unwrap() + 1);
    for wrong in ["nonsense", "7", &beyond] {
        let path = format!("{SOCKET}?jwt={}&after={wrong}", ada.jwt);
        assert_eq!(status_of(api.socket(&path, &[]).await).await, 400, "{wrong}");
    }
}

#[tokio::test]
async fn who_does_not_read_is_closed_and_goes_on_by_its_cursor() {
    let extra = format!("[limits]\nwrite_timeout = \"1s\"\n{KEYS}");
    let server = TestServer::with(&extra).await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ada.join(&id).await;
    // From here on it does not read, while more is said than the system's buffers hold.
    let text = "x".repeat(7_000);
    let mut socket = ann.consumer_socket().await;
    let total = 1_500;
    for number in 0..total {
        socket.ask(&publish("p", &id, &format!("{number} {text}"))).await;
    }
    let began = Instant::now();
    while server.gateway.hub().session_list(|actor| actor.person().is_some_and(|person| person.is_agent())).len() == 1 {
        assert!(began.elapsed() < SOON, "it is not closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What had left before is read; then it goes on.
    let mut cut = false;
    while !cut {
        match ada.ws.come().await {
            Came::Frame(frame) => {
                frame["cursor"].as_str().into_iter().for_each(|cursor| cursor.clone_into(&mut ada.cursor));
                ada.told.push(frame);
            }
            Came::Closed(code) => {
                assert_eq!(code, 4408);
                cut = true;
            }
            Came::Gone => cut = true,
        }
    }
    assert!(numbers(&ada.told).0.len() < total);
    ada.come_again().await;
    while numbers(&ada.told).0.len() < total {
        match ada.ws.come().await {
            Came::Frame(frame) => {
                frame["cursor"].as_str().into_iter().for_each(|cursor| cursor.clone_into(&mut ada.cursor));
                ada.told.push(frame);
            }
            // On a busy machine it may be slow once more.
            Came::Closed(4408) | Came::Gone => ada.come_again().await,
            Came::Closed(code) => panic!("{code}"),
        }
    }
    assert_eq!(numbers(&ada.told).0, (0..total as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_sent_at_once_is_taken_in_its_order() {
    let server = gateway().await;
    let api = server.api();
    let ada = Agent::come(&api, "ada").await;
    let id = api.speaker("ann").await.open().await;
    // It comes, and writes without waiting for anything; more than may be pending at a time.
    let (mut sink, _) = ada.ws.socket.split();
    let join = json!({"type": "event", "event_type": "participant join", "conversation_uuid": id}).to_string();
    sink.feed(Message::text(join)).await.unwrap();
    for number in 0..500 {
        sink.feed(Message::text(said(&id, &number.to_string(), &number.to_string()).to_string())).await.unwrap();
    }
    tokio::time::timeout(SOON, sink.flush()).await.unwrap().unwrap();
    let mut other = Agent::come(&api, "ada").await;
    let begin = format!("{}:0", other.cursor.rsplit_once(':').unwrap().0);
    (other.ws, _) = Agent::open(&api, &other.jwt, &begin).await;
    for number in 0..500 {
        let frame = other.next_of("message").await;
        assert_eq!(frame["message"]["client_message_id"], number.to_string());
    }
}

#[tokio::test]
async fn every_kind_of_frame_is_one_of_the_vendors_sdk() {
    let python = clients(".venv-ultracart/bin/python");
    let server = gateway().await;
    let api = server.api();
    let mut ada = Agent::come(&api, "ada").await;
    let hello = json!({"type": "ping", "cursor": ada.cursor});
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    let key = [("x-ultracart-simple-key", "ada-key")];
    let body = json!({"agent_status": "available"}).to_string();
    assert_eq!(api.call("PUT", "/rest/v2/conversation/conversations/queues/-1/status", &key, body).await.status, 200);
    ada.next_of("engage customer").await;
    ada.join(&id).await;
    ada.say(&id, "hi", "m").await;
    ada.say(&id, "hi", "m").await;
    ada.say("nowhere", "hi", "m").await;
    ada.send(json!({"type": "check queue position", "conversation_uuid": id})).await;
    let mut consumer = ann.consumer_socket().await;
    let event = |event: Value| request("e", "ms.PublishEvent", json!({"dialogId": id, "event": event}));
    consumer.ask(&event(json!({"type": "ChatStateEvent", "chatState": "COMPOSING"}))).await;
    consumer.ask(&event(json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [1]}))).await;
    consumer
        .ask(&request(
            "n",
            "userprofile.SetUserProfile",
            json!({"firstName": "Anna", "privateData": {"mail": "a@shop.example", "mobileNum": "4711"}}),
        ))
        .await;
    let dixa = [("authorization", "dixa-key"), ("content-type", "application/json")];
    ada.next_of("participant update").await;
    let uuid = ada.told.iter().find_map(|frame| frame["message"]["conversation_message_uuid"].as_str()).unwrap().to_owned();
    api.call("PATCH", &format!("/v1/conversations/1/messages/{uuid}/anonymize"), &dixa, "").await;
    ada.next_of("updated message").await;
    ada.event(&id, "participant left").await;
    ada.join(&id).await;
    ada.event(&id, "conversation closed").await;
    ada.next_of("conversation closed").await;
    let mut frames = ada.told.clone();
    frames.push(hello);
    let kinds: BTreeSet<String> = frames.iter().map(kind_of).collect();
    let all = [
        "conversation closed",
        "engage customer",
        "message",
        "new conversation",
        "new message",
        "notice",
        "participant join",
        "participant left",
        "participant update",
        "ping",
        "queue new member",
        "queue position",
        "read message",
        "typing",
        "updated message",
    ];
    assert_eq!(kinds, all.map(str::to_owned).into());
    assert!(frames.iter().all(has_no_null));
    if !is_ready("ultracart", &python, true) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("frames.jsonl");
    std::fs::write(&file, frames.iter().map(|frame| format!("{frame}\n")).collect::<String>()).unwrap();
    let mut command = Command::new(python);
    command.arg("ultracart_frames.py").arg(&file).current_dir(clients(""));
    let ran = tokio::task::spawn_blocking(move || output(&mut command, LONG)).await.unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    println!("{}", said.trim());
    assert!(ran.status.success() && said.contains(&format!("ok {} frames", frames.len())), "{said}\n{wrong}");
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
