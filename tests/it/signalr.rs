//! Hubster's events hub: who may connect, how, what they are told, and how it ends; with sockets that speak byte by byte, and with the
//! stock SignalR client.

use crate::programs::{clients, gateway, is_ready, run};
use crate::support::*;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use uuid::Uuid;

const SECRET: &str = "a-secret-of-the-account";
const ADAS_SECRET: &str = "a-secret-of-ada";
const SHOP: &str = "00000000-0000-0000-0000-000000000023";
const ADA: &str = "00000000-0000-0000-0000-000000000024";
const BOT: &str = "00000000-0000-0000-0000-000000000025";
const WEB: &str = "00000000-0000-0000-0000-000000000026";
const PAUSED: &str = "00000000-0000-0000-0000-000000000027";
const ECHOING: &str = "00000000-0000-0000-0000-000000000028";
const GRACE: &str = "00000000-0000-0000-0000-00000000002a";
const SALES: &str = "00000000-0000-0000-0000-00000000002b";
const SELLER: &str = "00000000-0000-0000-0000-00000000002c";
const PAGE: &str = "https://shop.example";
const HUB: &str = "/engine-chat-hub";

/// What the demo account has for these tests: two hubs.
const THINGS: &str = r#"
[[accounts.api_keys]]
dialect = "hubster"
key = "a-secret-of-the-account"
per_second = 100000
[[accounts.api_keys]]
dialect = "hubster"
key = "a-secret-of-ada"
agent = "1001"
per_second = 100000
[[accounts.hubs]]
id = "support"
name = "Support"
[[accounts.hubs]]
id = "sales"
name = "Sales"
[[accounts.integrations]]
id = "shop"
uuid = "00000000-0000-0000-0000-000000000023"
name = "Shop app"
hub = "support"
[[accounts.integrations]]
id = "ada"
uuid = "00000000-0000-0000-0000-000000000024"
name = "Ada"
hub = "support"
kind = "agent"
agent = "1001"
[[accounts.integrations]]
id = "bot"
uuid = "00000000-0000-0000-0000-000000000025"
name = "Greeter"
hub = "support"
kind = "bot"
channel = "Bot"
agent = "1003"
echo = true
[[accounts.integrations]]
id = "web"
uuid = "00000000-0000-0000-0000-000000000026"
name = "Shop page"
hub = "support"
channel = "WebChat"
allowed_origins = ["https://shop.example"]
[[accounts.integrations]]
id = "paused"
uuid = "00000000-0000-0000-0000-000000000027"
name = "Paused"
hub = "support"
state = "paused"
[[accounts.integrations]]
id = "echoing"
uuid = "00000000-0000-0000-0000-000000000028"
name = "Second app"
hub = "support"
echo = true
[[accounts.integrations]]
id = "grace"
uuid = "00000000-0000-0000-0000-00000000002a"
name = "Grace"
hub = "support"
kind = "agent"
agent = "1002"
[[accounts.integrations]]
id = "sales-app"
uuid = "00000000-0000-0000-0000-00000000002b"
name = "Sales app"
hub = "sales"
[[accounts.integrations]]
id = "seller"
uuid = "00000000-0000-0000-0000-00000000002c"
name = "Sales desk"
hub = "sales"
kind = "agent"
agent = "1002"
"#;

fn config(more: &str) -> String {
    format!("{more}\n# app demo-connector\n{THINGS}")
}

async fn start() -> TestServer {
    TestServer::with(&config("")).await
}

fn tenant(server: &TestServer) -> Uuid {
    server.gateway.identity().directory().account(ACCOUNT).unwrap().uuid()
}

async fn token_of(api: &Api, tenant: Uuid, secret: &str) -> String {
    let form = format!("grant_type=client_credentials&client_id=hubster.engine.api.{}&client_secret={secret}", tenant.simple());
    let reply = api.call("POST", "/connect/token", &[("content-type", "application/x-www-form-urlencoded")], form).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

/// Calls with a token.
#[derive(Clone)]
struct Client {
    api: Api,
    token: String,
    authorization: String,
}

impl Client {
    async fn of(server: &TestServer, secret: &str) -> Self {
        Self::with(&server.api(), token_of(&server.api(), tenant(server), secret).await)
    }

    fn with(api: &Api, token: String) -> Self {
        Self { api: api.clone(), authorization: format!("Bearer {token}"), token }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let headers = [("authorization", self.authorization.as_str()), ("content-type", "application/json")];
        let reply = self.api.call("POST", path, &headers, body.to_string()).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()
    }

    /// Establishes a conversation; its id.
    async fn open(&self, integration: &str, binding: &str) -> String {
        let channel = if integration == WEB { "WebChat" } else { "Direct" };
        let body = json!({"integrationId": integration, "binding": binding, "channelType": channel});
        let established = self.post("/api/v1/conversations/establish", &body).await;
        established["conversationId"].as_str().unwrap().to_owned()
    }

    /// A customer says something; its `eventId`.
    async fn say(&self, conversation: &str, text: &str) -> i64 {
        let body = json!({"message": {"type": "text", "text": text}});
        self.post(&format!("/inbound/customer/v1/direct/activity/{conversation}"), &body).await["eventId"].as_i64().unwrap()
    }

    /// An agent or a bot says something; its `eventId`.
    async fn answer(&self, conversation: &str, integration: &str, text: &str) -> i64 {
        self.business(conversation, integration, json!({"message": {"type": "text", "text": text}})).await["eventId"].as_i64().unwrap()
    }

    async fn business(&self, conversation: &str, integration: &str, mut body: Value) -> Value {
        body["sender"] = json!({"integrationId": integration});
        self.post(&format!("/inbound/business/v1/direct/activity/{conversation}"), &body).await
    }

    async fn events(&self, query: &str) -> Events {
        let mut events = Events::open(&self.api, query, &self.authorization).await.unwrap();
        events.shake_hands().await;
        events
    }
}

/// A connection to the events hub.
struct Events {
    socket: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
    waiting: VecDeque<Value>,
}

impl Events {
    async fn open(api: &Api, query: &str, authorization: &str) -> Result<Self, WsError> {
        let socket = api.socket(&format!("{HUB}?{query}"), &[("authorization", authorization)]).await?.socket;
        Ok(Self { socket, waiting: VecDeque::new() })
    }

    async fn shake_hands(&mut self) {
        self.send("{\"protocol\":\"json\",\"version\":1}\u{1e}").await;
        assert_eq!(self.next().await, json!({}));
    }

    async fn send(&mut self, text: &str) {
        tokio::time::timeout(SOON, self.socket.send(Message::text(text))).await.expect("it is read soon").unwrap();
    }

    /// The next message, or the code with which it is closed.
    async fn come(&mut self) -> Result<Value, u16> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Ok(message);
            }
            match tokio::time::timeout(SOON, self.socket.next()).await.expect("something comes soon") {
                Some(Ok(Message::Text(text))) => {
                    let whole = text.strip_suffix('\u{1e}').unwrap_or_else(|| panic!("no end: {text:?}"));
                    self.waiting.extend(whole.split('\u{1e}').map(|message| serde_json::from_str(message).unwrap()));
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(Message::Ping(_))) => panic!("a client of SignalR is pinged by a message"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    async fn next(&mut self) -> Value {
        self.come().await.unwrap_or_else(|code| panic!("closed with {code}"))
    }

    /// The next that is no sign of life.
    async fn said(&mut self) -> Value {
        loop {
            let next = self.next().await;
            if next != json!({"type": 6}) {
                return next;
            }
        }
    }

    /// The next activity.
    async fn activity(&mut self) -> Value {
        let said = self.said().await;
        assert_eq!((&said["type"], &said["target"]), (&json!(1), &json!("ReceiveDirectActivities")), "{said}");
        assert_eq!((said["arguments"].as_array().map(Vec::len), said.as_object().map(|said| said.len())), (Some(1), Some(3)), "{said}");
        said["arguments"][0].clone()
    }

    /// What the next activities say: texts, and the kinds of events.
    async fn words(&mut self, count: usize) -> Vec<String> {
        let mut words = Vec::new();
        while words.len() < count {
            words.push(word(&self.activity().await));
        }
        words
    }

    /// The last that it is told, and the code with which it is closed then.
    async fn end(&mut self) -> (Value, u16) {
        let mut last = Value::Null;
        loop {
            match self.come().await {
                Ok(message) => last = message,
                Err(code) => return (last, code),
            }
        }
    }
}

fn word(activity: &Value) -> String {
    let said = activity["message"]["text"].as_str().or_else(|| activity["event"]["type"].as_str());
    said.unwrap_or_else(|| panic!("neither: {activity}")).to_owned()
}

/// The status and the code of who is refused an upgrade.
fn refusal(refused: Result<Events, WsError>) -> (u16, u64) {
    match refused.map(|_| ()) {
        Err(WsError::Http(response)) => {
            assert_eq!(response.headers()["content-type"], "application/json");
            let body: Value = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
            assert_eq!(body["status"], response.status().as_u16());
            (response.status().as_u16(), body["errors"][0]["code"].as_u64().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

async fn web_token(api: &Api) -> String {
    let reply = api.call("GET", &format!("/api/v1/integrations/web-chat/token/{WEB}"), &[("origin", PAGE)], "").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_negotiation_offers_websockets_with_text_in_both_versions_and_by_every_way_to_show_a_token() {
    let server = start().await;
    let api = server.api();
    let client = Client::of(&server, SECRET).await;
    let id = client.open(SHOP, "ann").await;
    let negotiate = async |query: &str, headers: &[(&str, &str)]| {
        let reply = api.call("POST", &format!("{HUB}/negotiate?{query}"), headers, "").await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
        reply
    };
    let way = json!([{"transport": "WebSockets", "transferFormats": ["Text"]}]);
    let own = [("authorization", client.authorization.as_str())];
    let query = format!("iId={SHOP}&cId={id}");
    let first = negotiate(&format!("{query}&negotiateVersion=1"), &own).await.json();
    let (connection, token) = (first["connectionId"].as_str().unwrap(), first["connectionToken"].as_str().unwrap());
    assert!(connection.len() >= 20 && token.len() >= 20 && connection != token);
    let whole = json!({"negotiateVersion": 1, "connectionId": connection, "connectionToken": token, "availableTransports": way.clone()});
    assert_eq!(first, whole);
    for version in ["", "&negotiateVersion=0"] {
        let old = negotiate(&format!("{query}{version}"), &own).await.json();
        assert_eq!(old, json!({"negotiateVersion": 0, "connectionId": old["connectionId"], "availableTransports": way.clone()}));
    }
    // Later versions are answered with what there is.
    assert_eq!(negotiate(&format!("{query}&negotiateVersion=2&useStatefulReconnect=true"), &own).await.json()["negotiateVersion"], 1);
    let (engine, web) = (client.token.as_str(), web_token(&api).await);
    negotiate(&format!("{query}&access_token={engine}"), &[]).await;
    negotiate(&format!("IID={SHOP}&CID={id}"), &own).await;
    // A stock client puts its own word in front of every token.
    let visitor = Client::with(&api, web);
    let authorization = format!("WebBearer {}", visitor.token);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = json!({"integrationId": WEB, "binding": "b", "channelType": "WebChat"}).to_string();
    let established = api.call("POST", "/api/v1/conversations/establish", &headers, body).await;
    let visited = established.json()["conversationId"].as_str().unwrap().to_owned();
    let theirs = format!("iId={WEB}&cId={visited}");
    for word in ["Bearer", "bearer", "WebBearer"] {
        let shown = format!("{word} {}", visitor.token);
        let reply = negotiate(&theirs, &[("authorization", &shown), ("origin", PAGE)]).await;
        assert_eq!(reply.headers["access-control-allow-origin"], PAGE);
    }
    // And the socket by each of them, with the id of a negotiation or none.
    for path in [format!("{query}&id={token}&access_token={engine}"), format!("{theirs}&access_token={}", visitor.token)] {
        let socket = api.socket(&format!("{HUB}?{path}"), &[]).await.unwrap().socket;
        Events { socket, waiting: VecDeque::new() }.shake_hands().await;
    }
    // A page's origin is asked for as with other sockets, or is one that an integration names.
    for (origin, is_good) in [(PAGE, true), ("https://evil.example", false)] {
        let opened = api.socket(&format!("{HUB}?{theirs}"), &[("authorization", &authorization), ("origin", origin)]).await;
        assert_eq!(opened.is_ok(), is_good, "{origin}");
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_at_negotiation_and_at_the_upgrade() {
    let server = start().await;
    let api = server.api();
    let (client, ada) = (Client::of(&server, SECRET).await, Client::of(&server, ADAS_SECRET).await);
    let (id, echoing) = (client.open(SHOP, "ann").await, client.open(ECHOING, "ann").await);
    let web = Client::with(&api, web_token(&api).await);
    let nobody = "00000000-0000-0000-0000-0000000000ff";
    let of = |integration: &str, conversation: &str| format!("iId={integration}&cId={conversation}");
    let agents = |integration: &str| format!("iId={integration}");
    let authorization = client.authorization.as_str();
    let (basic, forged) = (format!("Basic {}", client.token), format!("Bearer {}x", web.token));
    for (query, shown, status, code) in [
        (of(SHOP, &id), "", 401, 102),
        (of(SHOP, &id), "Bearer nonsense", 401, 102),
        (of(SHOP, &id), basic.as_str(), 401, 102),
        (of(WEB, &id), forged.as_str(), 401, 102),
        (String::new(), authorization, 400, 200),
        (agents("nonsense"), authorization, 404, 6_000),
        (agents(nobody), authorization, 404, 6_000),
        (agents(PAUSED), authorization, 400, 6_503),
        (agents(SHOP), authorization, 403, 101),
        (of(SHOP, "nonsense"), authorization, 404, 6_500),
        (of(SHOP, nobody), authorization, 404, 6_500),
        // Each conversation is one integration's, and one hub's.
        (of(SHOP, &echoing), authorization, 404, 6_500),
        (of(SELLER, &id), authorization, 404, 6_500),
        (format!("{}&leid=soon", of(SHOP, &id)), authorization, 400, 201),
        (format!("{}&leid=-1", of(SHOP, &id)), authorization, 400, 212),
        // A visitor's token is for its own conversations, and an agent's key for its own desk.
        (of(SHOP, &id), &web.authorization, 403, 101),
        (agents(ADA), &web.authorization, 403, 101),
        (agents(GRACE), &ada.authorization, 403, 110),
    ] {
        let headers = [("authorization", shown)];
        let reply = api.call("POST", &format!("{HUB}/negotiate?{query}"), if shown.is_empty() { &[][..] } else { &headers[..] }, "").await;
        let negotiated = (reply.status, reply.json()["errors"][0]["code"].as_u64().unwrap());
        assert_eq!(negotiated, (status, code), "{query} by {shown:?}: {}", reply.text);
        assert_eq!(refusal(Events::open(&api, &query, shown).await), (status, code), "{query} by {shown:?}");
    }
    let wrong = format!("{HUB}/negotiate?{}&negotiateVersion=x", of(SHOP, &id));
    assert_eq!(api.call("POST", &wrong, &[("authorization", authorization)], "").await.status, 400);
    // The same ones come in where they may.
    ada.events(&agents(ADA)).await;
    client.events(&agents(GRACE)).await;
    client.events(&of(ADA, &id)).await;
    let (path, headers) = (format!("{HUB}/nothing"), [("authorization", authorization)]);
    assert_eq!(api.call("POST", &path, &headers, "").await.json()["errors"][0]["code"], 105);
    assert_eq!(api.call("GET", &format!("{HUB}/negotiate"), &headers, "").await.status, 405);
}

#[tokio::test]
async fn hands_are_shaken_in_one_protocol_whole_or_in_parts_and_with_more_in_the_same_breath() {
    let server = start().await;
    let client = Client::of(&server, SECRET).await;
    let id = client.open(SHOP, "ann").await;
    let query = format!("iId={SHOP}&cId={id}");
    let open = async || Events::open(&client.api, &query, &client.authorization).await.unwrap();
    let endless = "x".repeat(5_000);
    let many = format!("{{\"protocol\":\"json\",\"version\":1}}\u{1e}{}", "{\"type\":6}\u{1e}".repeat(257));
    for (handshake, says) in [
        ("{\"protocol\":\"messagepack\",\"version\":1}\u{1e}", "messagepack"),
        ("{\"protocol\":\"json\",\"version\":2}\u{1e}", "Version 2"),
        ("{\"type\":6}\u{1e}", "no handshake"),
        ("\u{1e}", "no handshake"),
        (endless.as_str(), "does not end"),
        (many.as_str(), "at most 256 messages"),
    ] {
        let mut events = open().await;
        events.send(handshake).await;
        let (last, code) = events.end().await;
        assert_eq!((last.as_object().unwrap().len(), code), (1, 1008), "{last}");
        assert!(last["error"].as_str().unwrap().contains(says), "{last}");
    }
    // Nothing is said before.
    let mut events = open().await;
    client.answer(&id, ADA, "early").await;
    for part in ["", "{\"protocol\":", "\"json\",\"version\"", ":1}", "\u{1e}{\"type\":6}\u{1e}{\"type\":1,\"invocationId\":\"7\",", ""] {
        events.send(part).await;
    }
    assert_eq!(events.next().await, json!({}));
    assert_eq!(events.words(1).await, ["early"], "what came since the upgrade is not lost");
    // Of what came with the handshake the end is still to come.
    let rest = "\"target\":\"Send\",\"arguments\":[\"x\"]}\u{1e}{\"type\":5,\"invocationId\":\"8\"}\u{1e}";
    events.send(rest).await;
    for id in ["7", "8"] {
        let outcome = events.said().await;
        assert_eq!((&outcome["type"], &outcome["invocationId"]), (&json!(3), &json!(id)), "{outcome}");
        assert!(outcome["error"].as_str().unwrap().contains("to call; activities are sent by POST"), "{outcome}");
    }
    // Who wants no answer gets none.
    events
        .send("{\"type\":1,\"target\":\"Send\",\"arguments\":[]}\u{1e}{\"type\":3,\"invocationId\":\"9\"}\u{1e}{\"type\":99}\u{1e}")
        .await;
    events.send("{\"type\":4,\"invocationId\":\"10\",\"target\":\"Flow\",\"arguments\":[]}\u{1e}").await;
    assert_eq!(events.said().await["invocationId"], "10");
}

#[tokio::test]
async fn a_customer_is_told_what_others_say_and_do_in_its_conversation_by_whichever_desk() {
    let server = start().await;
    let client = Client::of(&server, SECRET).await;
    let (id, other) = (client.open(SHOP, "ann").await, client.open(SHOP, "bob").await);
    client.answer(&id, BOT, "before").await;
    let mut events = client.events(&format!("iId={SHOP}&cId={id}")).await;
    client.say(&id, "own words").await;
    client.answer(&other, BOT, "to bob").await;
    let at = client.answer(&id, BOT, "by the bot").await;
    let told = events.activity().await;
    assert_eq!((word(&told).as_str(), &told["eventId"], &told["isEcho"]), ("by the bot", &json!(at), &json!(false)));
    assert_eq!(told["eventTrigger"], "message:bot");
    assert_eq!(told["sender"]["integrationId"], BOT);
    assert_eq!((&told["recipient"]["integrationId"], &told["recipient"]["integrationType"]), (&json!(SHOP), &json!("Customer")));
    // An agent at a desk of another kind, who first says something to its colleagues alone.
    let mut ada = client.api.agent("ada", "3").await;
    ada.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    let aside = |mut frame: Value| {
        frame["body"]["messageAudience"] = json!("AGENTS_AND_MANAGERS");
        frame
    };
    let typing =
        |state: &str| request("t", "ms.PublishEvent", json!({"dialogId": id, "event": {"type": "ChatStateEvent", "chatState": state}}));
    for frame in [
        aside(publish("w", &id, "between us")),
        aside(typing("COMPOSING")),
        typing("COMPOSING"),
        typing("PAUSE"),
        publish("p", &id, "by ada"),
        request(
            "r",
            "ms.PublishEvent",
            json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "ACCEPT", "sequenceList": [1]}}),
        ),
        request(
            "r",
            "ms.PublishEvent",
            json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [1]}}),
        ),
        publish("q", &id, "and on"),
    ] {
        assert_eq!(ada.ask(&frame).await["code"], 200, "{frame}");
    }
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(events.activity().await);
    }
    let mut words: Vec<_> = told.iter().map(word).collect();
    // Typing is shown at once; what is written down comes when it is.
    words.sort_by_key(|word| !word.starts_with("typing"));
    assert_eq!(words, ["typing_on", "typing_off", "by ada", "seen", "and on"]);
    for activity in &told {
        assert_eq!((&activity["sender"]["integrationId"], &activity["sender"]["integrationType"]), (&json!(ADA), &json!("Agent")));
        let is_message = activity["type"] == "message";
        assert_eq!((activity["interactionId"].is_string(), activity["event"].is_object()), (is_message, !is_message), "{activity}");
        // No place from which to go on.
        assert_eq!(activity["eventId"] == 0, word(activity).starts_with("typing"), "{activity}");
    }
    // Its own it is not told, be it a text, a receipt or typing.
    for event in [json!({"type": "typing_on"}), json!({"type": "seen"})] {
        client.post(&format!("/inbound/customer/v1/direct/activity/{id}"), &json!({"event": event})).await;
    }
    client.answer(&id, ADA, "the last").await;
    assert_eq!(events.words(1).await, ["the last"]);
}

#[tokio::test]
async fn an_echo_is_told_where_the_integration_wants_it() {
    let server = start().await;
    let client = Client::of(&server, SECRET).await;
    let id = client.open(ECHOING, "ann").await;
    client.answer(&id, GRACE, "hello").await;
    let (mut customer, mut bot) = (client.events(&format!("iId={ECHOING}&cId={id}")).await, client.events(&format!("iId={BOT}")).await);
    client.say(&id, "hi").await;
    client.answer(&id, BOT, "beep").await;
    let echo = customer.activity().await;
    assert_eq!((word(&echo).as_str(), &echo["isEcho"], &echo["sender"]["integrationId"]), ("hi", &json!(true), &json!(ECHOING)));
    assert_eq!(echo["recipient"]["integrationId"], GRACE, "who answers by now");
    let heard = bot.activity().await;
    assert_eq!((word(&heard).as_str(), &heard["isEcho"], &heard["recipient"]["integrationId"]), ("hi", &json!(false), &json!(BOT)));
    let heard = customer.activity().await;
    assert_eq!((word(&heard).as_str(), &heard["isEcho"]), ("beep", &json!(false)));
    let echo = bot.activity().await;
    assert_eq!((word(&echo).as_str(), &echo["isEcho"], &echo["eventTrigger"]), ("beep", &json!(true), &json!("message:bot")));
}

#[tokio::test]
async fn an_agent_is_told_of_every_conversation_of_its_hub_and_of_no_other() {
    let server = start().await;
    let client = Client::of(&server, SECRET).await;
    let (ann, bob, sale) = (client.open(SHOP, "ann").await, client.open(ECHOING, "bob").await, client.open(SALES, "cid").await);
    let at = client.say(&ann, "before").await;
    let mut ada = client.events(&format!("iId={ADA}")).await;
    let mut of_bob = client.events(&format!("iId={ADA}&cId={bob}")).await;
    let mut seller = client.events(&format!("iId={SELLER}")).await;
    client.post(&format!("/inbound/customer/v1/direct/activity/{sale}"), &json!({"event": {"type": "typing_on"}})).await;
    client.say(&sale, "to sales").await;
    client.say(&ann, "from ann").await;
    client.answer(&ann, ADA, "own words").await;
    client.answer(&ann, GRACE, "a colleague's").await;
    client.say(&bob, "from bob").await;
    let third = client.open(WEB, "later").await;
    client.say(&third, "from a new one").await;
    let mut told = Vec::new();
    while told.len() < 4 {
        told.push(ada.activity().await);
    }
    assert_eq!(told.iter().map(word).collect::<Vec<_>>(), ["from ann", "a colleague's", "from bob", "from a new one"]);
    // Which conversation it is says the token of the brand's end.
    let conversations: Vec<_> = told
        .iter()
        .map(|activity| if activity["sender"]["integrationType"] == "Customer" { &activity["recipient"] } else { &activity["sender"] })
        .map(|end| end["tokenId"].as_str().unwrap().split_once('.').unwrap().0.to_owned())
        .collect();
    assert_eq!(conversations, [&*ann, &ann, &bob, &third]);
    assert_eq!((&told[0]["recipient"]["integrationId"], &told[1]["sender"]["integrationId"]), (&json!(ADA), &json!(GRACE)));
    assert_eq!(of_bob.words(1).await, ["from bob"]);
    let mut heard = seller.words(2).await;
    heard.sort();
    assert_eq!(heard, ["to sales", "typing_on"]);
    // From an event on: it comes again, and everything behind it.
    let mut again = client.events(&format!("iId={ADA}&leid={at}")).await;
    assert_eq!(again.words(5).await, ["before", "from ann", "a colleague's", "from bob", "from a new one"]);
    client.say(&ann, "live").await;
    assert_eq!(again.words(1).await, ["live"]);
    assert_eq!(ada.words(1).await, ["live"]);
}

#[tokio::test]
async fn behind_an_event_everything_is_told_in_order_and_then_what_happens_each_once() {
    let server = start().await;
    let client = Client::of(&server, SECRET).await;
    let id = client.open(SHOP, "ann").await;
    let mut at = Vec::new();
    for number in 0..30 {
        at.push(client.answer(&id, ADA, &number.to_string()).await);
    }
    for (after, first) in [(0, 0), (at[0] - 1, 0), (at[0], 1), (at[28], 29), (at[29], 30), (i64::MAX, 30)] {
        let mut events = client.events(&format!("iId={SHOP}&cId={id}&leid={after}")).await;
        let mut last = 0;
        for (number, at) in at.iter().enumerate().skip(first) {
            let activity = events.activity().await;
            assert_eq!((word(&activity), activity["eventId"].as_i64()), (number.to_string(), Some(*at)), "behind {after}");
            assert!(*at > last);
            last = *at;
        }
        let text = format!("live behind {after}");
        client.answer(&id, ADA, &text).await;
        // Those that were said for others come first.
        let mut heard = events.words(1).await;
        while heard.last() != Some(&text) {
            heard.extend(events.words(1).await);
        }
        let unique: std::collections::BTreeSet<_> = heard.iter().collect();
        assert_eq!(unique.len(), heard.len(), "{heard:?}");
    }
}

/// The key of these has one call in a second.
#[tokio::test]
async fn a_program_brings_all_its_connections_back_at_once() {
    let server = TestServer::with(&config("").replacen("per_second = 100000", "per_second = 1", 1)).await;
    let client = Client::of(&server, SECRET).await;
    let query = format!("iId={ADA}");
    let mut all = Vec::new();
    for _ in 0..50 {
        let negotiated =
            client.api.call("POST", &format!("{HUB}/negotiate?{query}"), &[("authorization", &client.authorization)], "").await;
        assert_eq!(negotiated.status, 200, "{}", negotiated.text);
        all.push(client.events(&query).await);
    }
    assert_eq!(server.gateway.hub().sessions(), 50);
}

#[tokio::test]
async fn a_client_hears_a_sign_of_life_in_time_and_its_own_are_taken_as_such() {
    let server = start().await;
    let client = Client::of(&server, SECRET).await;
    let id = client.open(SHOP, "ann").await;
    let mut events = client.events(&format!("iId={SHOP}&cId={id}")).await;
    events.send("{\"type\":6}\u{1e}").await;
    // A client waits for 30 s; this waits for less.
    assert_eq!(events.next().await, json!({"type": 6}));
}

#[tokio::test]
async fn what_cannot_be_read_ends_in_a_reason_and_no_return() {
    let server = start().await;
    let client = Client::of(&server, SECRET).await;
    let id = client.open(SHOP, "ann").await;
    let query = format!("iId={SHOP}&cId={id}");
    for bad in ["nonsense\u{1e}".to_owned(), "{}\u{1e}".repeat(5), "x".repeat(33 * 1024), "{\"type\":6}\u{1e}".repeat(257)] {
        let mut events = client.events(&query).await;
        for _ in 0..50 {
            if events.socket.send(Message::text(bad.as_str())).await.is_err() {
                break;
            }
        }
        let (last, code) = events.end().await;
        assert_eq!((&last["type"], last.get("allowReconnect"), code), (&json!(7), None, 1008), "{last}");
        assert!(last["error"].as_str().unwrap().contains("HubException: [201]: "), "{last}");
    }
    // One that is good in between makes up for it.
    let mut events = client.events(&query).await;
    for _ in 0..20 {
        events.send("nonsense\u{1e}{\"type\":6}\u{1e}").await;
    }
    client.answer(&id, ADA, "still here").await;
    assert_eq!(events.words(1).await, ["still here"]);
    // Who closes is not told why.
    events.send("{\"type\":7}\u{1e}").await;
    events.socket.close(None).await.unwrap();
    assert!(events.come().await.is_err());
}

#[tokio::test]
async fn who_loses_what_let_it_in_is_told_so_and_who_is_to_come_back_that() {
    let mut server = TestServer::with(&config("[server]\ndev = true\n\n")).await;
    let client = Client::of(&server, SECRET).await;
    let other = Client::of(&server, SECRET).await;
    let id = client.open(SHOP, "ann").await;
    let query = format!("iId={SHOP}&cId={id}");
    let (mut first, mut agent, mut second) =
        (client.events(&query).await, client.events(&format!("iId={ADA}")).await, other.events(&query).await);
    assert_eq!(server.gateway.identity().expire(&client.token), 2);
    for events in [&mut first, &mut agent] {
        let (last, code) = events.end().await;
        assert_eq!((&last["type"], last.get("allowReconnect"), code), (&json!(7), None, 4401), "{last}");
        assert!(last["error"].as_str().unwrap().contains("HubException: [102]: The token is missing, expired"), "{last}");
    }
    assert_eq!(refusal(Events::open(&client.api, &query, &client.authorization).await), (401, 102));
    // A token that ends between the upgrade and the handshake opens nothing.
    let third = Client::of(&server, SECRET).await;
    let mut late = Events::open(&third.api, &query, &third.authorization).await.unwrap();
    server.gateway.identity().expire(&third.token);
    late.send("{\"protocol\":\"json\",\"version\":1}\u{1e}").await;
    let (last, code) = late.end().await;
    assert!(last["error"].as_str().unwrap().contains("[102]") && code == 4401, "{last}");
    other.answer(&id, ADA, "still here").await;
    assert_eq!(second.words(1).await, ["still here"]);
    // So is a customer who is revoked, who does not come in again.
    let (bob, web) = (other.open(SHOP, "bob").await, format!("iId={SHOP}&cId="));
    let mut revoked = other.events(&format!("{web}{bob}")).await;
    let mut waiting = Events::open(&other.api, &format!("{web}{bob}"), &other.authorization).await.unwrap();
    let account = server.gateway.identity().directory().account(ACCOUNT).unwrap();
    let conversation = server.gateway.conversation(&account.system(), &bob.as_str().into()).await.unwrap();
    let consumer = conversation.details.consumer.clone();
    server.gateway.identity().set_revoked(&account.id, &consumer, true).await.unwrap();
    server.gateway.hub().close_consumer(&account.id, &consumer, tieline_protocol::code::CloseCode::Token);
    let (last, code) = revoked.end().await;
    assert!(last["error"].as_str().unwrap().contains("[102]") && code == 4401, "{last}");
    waiting.send("{\"protocol\":\"json\",\"version\":1}\u{1e}").await;
    let (last, code) = waiting.end().await;
    assert!(last["error"].as_str().unwrap().contains("[110]: This customer is revoked") && code == 4401, "{last}");
    assert_eq!(refusal(Events::open(&other.api, &format!("{web}{bob}"), &other.authorization).await), (403, 110));
    server.begin_stop();
    let (last, code) = second.end().await;
    assert_eq!((&last["type"], &last["allowReconnect"], code), (&json!(7), &json!(true), 1012), "{last}");
    server.stop().await;
}

#[tokio::test]
async fn a_key_that_is_taken_away_ends_the_connections_of_its_tokens_and_no_others() {
    const ADMIN: [(&str, &str); 1] = [("authorization", "Bearer the-admin-key")];
    let text = |things: &str| {
        let usual = CONFIG.replacen(
            "client_secret = \"demo-connector-secret\"\n",
            &format!("client_secret = \"demo-connector-secret\"\n{things}\n"),
            1,
        );
        format!(
            "[internal]\nadmin_key = \"the-admin-key\"\n{}",
            usual.replacen("id = \"demo\"", "id = \"demo\"\nuuid = \"00000000-0000-0000-0000-0000000000f1\"", 1)
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let process = TestProcess::start_with(dir.path(), free_port(), &[], &text(THINGS)).await;
    let api = process.api();
    let tenant = Uuid::parse_str("00000000-0000-0000-0000-0000000000f1").unwrap();
    let client = Client::with(&api, token_of(&api, tenant, SECRET).await);
    let ada = Client::with(&api, token_of(&api, tenant, ADAS_SECRET).await);
    let id = client.open(SHOP, "ann").await;
    let query = format!("iId={SHOP}&cId={id}");
    let (mut kept, mut lost) = (client.events(&query).await, ada.events(&query).await);
    std::fs::write(dir.path().join("test.toml"), text(&THINGS.replace(ADAS_SECRET, "another-secret-of-ada"))).unwrap();
    let said = api.call("POST", "/admin/v1/reload", &ADMIN, "").await;
    assert_eq!(said.status, 200, "{}", said.text);
    assert!(said.text.contains("1 sockets must come back"), "{}", said.text);
    let (last, code) = lost.end().await;
    assert_eq!((&last["type"], code), (&json!(7), 4401), "{last}");
    assert!(last["error"].as_str().unwrap().contains("HubException: [102]: "), "{last}");
    client.answer(&id, GRACE, "still here").await;
    assert_eq!(kept.words(1).await, ["still here"]);
    assert_eq!(refusal(Events::open(&api, &query, &ada.authorization).await), (401, 102));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_is_closed_while_others_go_on_and_comes_back_behind_what_it_had() {
    const MESSAGES: usize = 400;
    let server = TestServer::with(&config("[limits]\nwrite_timeout = \"2s\"\n\n")).await;
    let client = Client::of(&server, SECRET).await;
    let id = client.open(SHOP, "ann").await;
    let query = format!("iId={SHOP}&cId={id}");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut request = format!("ws://{}{HUB}?{query}", client.api.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", client.authorization.parse().unwrap());
    let stream = socket.connect(client.api.address).await.unwrap();
    let (mut slow, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    slow.send(Message::text("{\"protocol\":\"json\",\"version\":1}\u{1e}")).await.unwrap();
    assert_eq!(slow.next().await.unwrap().unwrap(), Message::text("{}\u{1e}"));
    let mut healthy = client.events(&query).await;
    let reading = tokio::spawn(async move {
        let mut at = Vec::new();
        while at.len() < MESSAGES {
            at.push(healthy.activity().await["eventId"].as_i64().unwrap());
        }
        at
    });
    let text = "x".repeat(7_000);
    for _ in 0..MESSAGES / 8 {
        futures::future::join_all((0..8).map(|_| client.answer(&id, ADA, &text))).await;
    }
    let all = reading.await.unwrap();
    assert!(all.is_sorted_by(|one, next| one < next));
    // It is closed before it reads again, and what it finds then is the beginning without a gap.
    let slow_sessions = || server.gateway.hub().sessions();
    until("the close of who does not read", async || slow_sessions() == 0).await;
    let mut read = Vec::new();
    while let Ok(Some(Ok(message))) = tokio::time::timeout(SOON, slow.next()).await {
        let Message::Text(text) = message else { continue };
        for message in text.split_terminator('\u{1e}').map(|message| serde_json::from_str::<Value>(message).unwrap()) {
            read.extend(message["arguments"][0]["eventId"].as_i64());
        }
    }
    assert!(!read.is_empty() && read.len() < MESSAGES && all.starts_with(&read), "{} were read", read.len());
    let mut again = client.events(&format!("{query}&leid={}", read.last().unwrap())).await;
    for at in &all[read.len()..] {
        assert_eq!(again.activity().await["eventId"], *at);
    }
}

#[test]
fn the_stock_signalr_client_loses_nothing_over_cuts() {
    if !is_ready("signalr", &clients("node_modules/@microsoft/signalr"), true) {
        return;
    }
    let (_runtime, server) = gateway(&config("[server.tls]\nlisten = \"127.0.0.1:0\"\nself_signed = true\n"));
    let tenant = tenant(&server).simple().to_string();
    run("signalr", Path::new("node"), "signalr.mjs", &server, &[("TIELINE_TENANT", &tenant)]);
}
