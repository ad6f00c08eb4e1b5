//! Dixa's Conversations API: each call with its fields, its statuses and what it refuses, beside connectors and agents on the native
//! surface. [`basics`] is what all calls have in common; [`begin`] and [`moved`] are about conversations, [`talk`] about what is said in
//! them, [`notes`] about what is noted, [`linked`] about what belongs together.

mod basics;
mod begin;
mod linked;
mod moved;
mod notes;
mod talk;

use crate::support::*;
use serde_json::{Value, json};

/// Keys of the demo account, as an account's, a manager's and an agent's, none of them slow; and an application of another channel.
pub const SETUP: &str = r#"
# app demo-connector
[[accounts.api_keys]]
dialect = "dixa"
key = "account-key"
per_second = 10000
[[accounts.api_keys]]
dialect = "dixa"
key = "manager-key"
agent = "1002"
per_second = 10000
[[accounts.api_keys]]
dialect = "dixa"
key = "agent-key"
agent = "1001"
per_second = 10000
[[accounts.api_keys]]
dialect = "dixa"
key = "slow-key"
per_second = 1
burst = 2
[[accounts.api_keys]]
dialect = "oncehub"
key = "oncehub-key"
[[accounts.contact_endpoints]]
id = "mail"
address = "shop@shop.example"
name = "Shop"
[[accounts.contact_endpoints]]
id = "phone"
number = "+4512345678"
# app counting
channel = "whatsapp"
"#;

/// A client with a key.
#[derive(Clone)]
pub struct Dixa {
    pub api: Api,
    pub key: &'static str,
}

impl Dixa {
    pub fn with(api: &Api, key: &'static str) -> Self {
        Self { api: api.clone(), key }
    }

    pub async fn call(&self, method: &str, path: &str, body: impl Into<String>) -> Reply {
        self.call_with(method, path, &[], body).await
    }

    pub async fn call_with(&self, method: &str, path: &str, more: &[(&str, &str)], body: impl Into<String>) -> Reply {
        let headers: Vec<_> = [("authorization", self.key)].into_iter().chain(more.iter().copied()).collect();
        let reply = self.api.call(method, &format!("/v1{path}"), &headers, body).await;
        if reply.status >= 400 {
            let said = reply.json();
            let message = said["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty() && said.as_object().unwrap().len() == 1, "{method} {path}: {}", reply.text);
        }
        reply
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call_with("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.call_with("PUT", path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// What a call that must go well answers.
    pub async fn data(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()["data"].clone()
    }

    /// A conversation.
    pub async fn conversation(&self, number: i64) -> Value {
        self.data(&format!("/conversations/{number}")).await
    }
}

/// A gateway, and a client with the account's key.
pub async fn start() -> (TestServer, Dixa) {
    let server = TestServer::with(SETUP).await;
    let dixa = Dixa::with(&server.api(), "account-key");
    (server, dixa)
}

/// Opens a conversation natively, in a queue, and says something in it: its id, and its number, which is the newest.
pub async fn open(dixa: &Dixa, speaker: &Speaker, queue: &str, text: &str) -> (String, i64) {
    let mut opening = speaker.opening();
    opening[1]["body"]["skillId"] = json!(queue);
    let reply = speaker.post(CONVERSATION, opening.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let id = reply.json()[1]["body"]["conversationId"].as_str().unwrap().to_owned();
    speaker.say(&id, text).await;
    let mut number = 0;
    while dixa.get(&format!("/conversations/{}", number + 1)).await.status == 200 {
        number += 1;
    }
    (id, number)
}

/// A UUID that nobody has.
pub const NOBODY: &str = "11111111-2222-4333-8444-555555555555";

/// Who there is in the demo account.
pub struct People {
    pub ada: String,
    pub grace: String,
    /// An end user with an address and a number.
    pub ann: String,
    pub speaker: Speaker,
}

pub async fn people(dixa: &Dixa) -> People {
    let speaker = dixa.api.speaker("ann").await;
    let mut opening = speaker.opening();
    opening[0]["body"] = json!({"firstName": "Ann", "privateData": {"mail": "ann@home.example", "mobileNum": "+4587654321"}});
    let reply = speaker.post(CONVERSATION, opening.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let ann = dixa.conversation(1).await["requesterId"].as_str().unwrap().to_owned();
    let pid = async |login: &str| dixa.api.login(login).await.pid;
    People { ada: pid("ada").await, grace: pid("grace").await, ann, speaker }
}

/// A text, as content.
pub fn text(value: &str) -> Value {
    json!({"_type": "Text", "value": value})
}

/// A chat that an end user begins.
pub fn chat(requester: &str, value: &str) -> Value {
    json!({"_type": "Chat", "requesterId": requester, "widgetId": "shop", "message": {"_type": "Inbound", "content": text(value)}})
}

impl Dixa {
    /// Begins a conversation; its number.
    pub async fn begin(&self, body: &Value) -> i64 {
        let reply = self.post("/conversations", body).await;
        assert_eq!(reply.status, 201, "{body}: {}", reply.text);
        reply.json()["data"]["id"].as_i64().unwrap()
    }

    /// The UUID of a queue.
    pub async fn queue(&self, speaker: &Speaker, queue: &str) -> String {
        let (_, number) = open(self, speaker, queue, "hello").await;
        self.conversation(number).await["queue"]["id"].as_str().unwrap().to_owned()
    }

    /// How a call is refused.
    pub async fn refused(&self, method: &str, path: &str, body: &Value, status: u16) -> String {
        let reply = self.call_with(method, path, &[("content-type", "application/json")], body.to_string()).await;
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.text);
        reply.json()["message"].as_str().unwrap().to_owned()
    }
}
