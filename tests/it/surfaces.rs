//! One conversation on several surfaces: what is changed through one is told on the others at once, and looks the same on all.

use crate::programs::{TLS, clients, gateway, is_ready, run};
use crate::support::*;
use serde_json::{Value, json};
use std::collections::HashMap;

const SETUP: &str = r#"
[internal]
admin_key = "the-admin-key"

# app demo-connector
[[accounts.api_keys]]
dialect = "dixa"
key = "dixa-key"
per_second = 10000
[[accounts.api_keys]]
dialect = "dixa"
key = "adas-key"
agent = "1001"
per_second = 10000
[[accounts.api_keys]]
dialect = "oncehub"
key = "oncehub-key"
per_second = 10000
[[accounts.tags]]
id = "late"
name = "Late"
"#;

/// Calls of helpdesk programs.
struct Desk {
    api: Api,
}

impl Desk {
    async fn dixa(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let headers = [("authorization", "dixa-key"), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.api.call(method, &format!("/v1{path}"), &headers, body).await;
        (reply.status, if reply.text.is_empty() { Value::Null } else { reply.json() })
    }

    /// The same, where it must go well.
    async fn data(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.dixa(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer["data"].clone()
    }

    async fn oncehub(&self, path: &str) -> Value {
        let reply = self.api.call("GET", &format!("/v2{path}"), &[("api-key", "oncehub-key")], "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()
    }
}

/// An agent's socket that follows every conversation.
struct Watcher {
    socket: Ws,
    told: Vec<Value>,
}

impl Watcher {
    async fn of(api: &Api, login: &str) -> Self {
        let mut socket = api.agent(login, "3").await;
        let answer = socket.ask(&request("all", "cqm.SubscribeExConversations", json!({}))).await;
        assert_eq!(answer["code"], 200, "{answer}");
        Self { socket, told: Vec::new() }
    }

    /// Waits until a conversation is told as it should be; what was told before is looked at, too.
    async fn sees(&mut self, id: &str, what: &str, passes: impl Fn(&Value) -> bool) -> Value {
        let is_it = |change: &&Value| change["result"]["convId"] == id && passes(&change["result"]["conversationDetails"]);
        if let Some(found) = self.told.iter().find(is_it) {
            return found["result"]["conversationDetails"].clone();
        }
        loop {
            let frame =
                tokio::time::timeout(std::time::Duration::from_secs(20), self.socket.notification("ExConversationChangeNotification"))
                    .await
                    .unwrap_or_else(|_| panic!("nobody tells that it is {what}"));
            let changes = frame["body"]["changes"].as_array().unwrap().clone();
            self.told.extend(changes.iter().cloned());
            if let Some(found) = changes.iter().find(is_it) {
                return found["result"]["conversationDetails"].clone();
            }
        }
    }

    /// From here on only what is told later counts.
    fn look_away(&mut self) {
        self.told.clear();
    }
}

fn assigned(details: &Value) -> Option<&str> {
    let participants = details["participants"].as_array()?;
    participants.iter().find(|one| one["role"] == "ASSIGNED_AGENT")?["id"].as_str()
}

async fn agents(desk: &Desk) -> HashMap<String, String> {
    let all = desk.data("GET", "/agents", Value::Null).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.as_array().unwrap().iter().map(|agent| (text(&agent["displayName"]), text(&agent["id"]))).collect()
}

#[tokio::test]
async fn a_connectors_conversation_is_worked_on_through_one_surface_watched_on_another_and_the_same_on_a_third() {
    let server = TestServer::with(SETUP).await;
    let api = server.api();
    let desk = Desk { api: api.clone() };
    let mut grace = Watcher::of(&api, "grace").await;
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "Where is my parcel A-17?").await;
    grace.sees(&id, "open", |details| details["state"] == "OPEN").await;
    let mut events = api.agent("grace", "3").await;
    events.follow(&id, 0).await;

    let hub = desk.oncehub("/conversations").await;
    let hub_id = hub["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((hub["data"][0]["status"].as_str(), hub["data"][0]["initiated_by"].as_str()), (Some("started"), Some("contact")));
    let one = "/conversations/1";
    let shown = desk.data("GET", one, Value::Null).await;
    assert_eq!((shown["id"].as_i64(), shown["state"].as_str()), (Some(1), Some("Open")), "{shown}");

    // Claimed, with a second claim refused.
    let people = agents(&desk).await;
    let (ada, bea) = (people["ada"].as_str(), people["bea"].as_str());
    assert_eq!(desk.dixa("PUT", &format!("{one}/claim"), json!({"agentId": ada, "force": false})).await.0, 204);
    assert_eq!(desk.dixa("PUT", &format!("{one}/claim"), json!({"agentId": bea, "force": false})).await.0, 409);
    grace.sees(&id, "Ada's", |details| assigned(details) == Some(ada)).await;
    let owner = desk.oncehub(&format!("/conversations/{hub_id}?expand=owner")).await["owner"].clone();
    assert_eq!(owner["object"], "user", "{owner}");

    // Tagged and noted.
    let tag = desk.data("GET", "/tags", Value::Null).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(desk.dixa("PUT", &format!("{one}/tags/{tag}"), Value::Null).await.0, 204);
    grace.sees(&id, "tagged", |details| details["facts"]["tags"][0]["name"] == "Late").await;
    let note = desk.data("POST", &format!("{one}/notes"), json!({"message": "lost in the depot", "agentId": ada})).await;
    assert_eq!(note["csid"], 1);
    grace.sees(&id, "noted", |details| details["facts"]["notes"] == 1).await;

    // Answered: the event comes to who follows, once and in its place.
    let said = json!({"_type": "Outbound", "agentId": ada, "content": {"_type": "Text", "value": "We look for it."}, "externalId": "a-1"});
    let message = desk.data("POST", &format!("{one}/messages"), said.clone()).await;
    assert_eq!(message["authorId"], ada);
    assert_eq!(events.events(2).await, [(0, "Where is my parcel A-17?".into()), (1, "We look for it.".into())]);
    assert_eq!(desk.dixa("POST", &format!("{one}/messages"), said).await.0, 400, "the same external id");

    // Transferred: without an agent in another queue.
    let queues = desk.data("GET", "/queues", Value::Null).await;
    let queue = queues.as_array().unwrap().iter().find(|queue| queue["name"] == "77" || queue["id"] != queues[0]["id"]).unwrap();
    let queue = queue["id"].as_str().unwrap();
    assert_eq!(desk.dixa("PUT", &format!("{one}/transfer/queue"), json!({"queueId": queue})).await.0, 204);
    grace.sees(&id, "without an agent again", |details| assigned(details).is_none() && details["facts"]["notes"] == 1).await;
    assert_eq!(desk.data("GET", one, Value::Null).await["queue"]["id"], queue);
    assert_eq!(desk.oncehub(&format!("/conversations/{hub_id}")).await["owner"], Value::Null);

    // Rated: the score is the conversation's on every surface.
    let requester = shown["requesterId"].as_str().unwrap();
    let offer = json!({"userId": requester, "agentId": ada, "ratingType": "Csat"});
    let rating = desk.data("POST", &format!("{one}/ratings/offer"), offer).await["id"].as_str().unwrap().to_owned();
    let result = json!({"userId": requester, "ratingResult": {"_type": "Csat", "value": 4}, "comment": "slow"});
    desk.data("POST", &format!("{one}/ratings/{rating}/submit"), result).await;
    grace.sees(&id, "rated", |details| details["csat"]["csatRate"] == 4 && details["facts"]["ratings"][0]["comment"] == "slow").await;

    // Closed and opened again.
    assert_eq!(desk.dixa("PUT", &format!("{one}/close"), Value::Null).await.0, 204);
    grace.sees(&id, "closed", |details| details["stage"] == "CLOSE").await;
    assert_eq!(desk.oncehub(&format!("/conversations/{hub_id}")).await["status"], "closed");
    grace.look_away();
    assert_eq!(desk.dixa("PUT", &format!("{one}/reopen"), json!({})).await.0, 204);
    grace.sees(&id, "open again", |details| details["stage"] == "OPEN" && assigned(details).is_none()).await;
    ann.say(&id, "Any news?").await;
    assert_eq!(events.events(1).await, [(2, "Any news?".into())], "numbers go on");

    // Found by what was said in it.
    until("it is found", async || {
        let found = desk.data("GET", "/search/conversations?query=parcel", Value::Null).await;
        found.as_array().unwrap().iter().any(|hit| hit["id"] == 1 && hit.to_string().contains("<em class=\\\"highlight\\\">parcel</em>"))
    })
    .await;

    // Anonymised: nothing of it is said on any surface, and search finds nothing.
    assert_eq!(desk.dixa("PATCH", &format!("{one}/anonymize"), Value::Null).await.0, 409, "it is open");
    let asked = desk.data("PATCH", &format!("{one}/anonymize?force=true"), Value::Null).await;
    assert_eq!(asked["targetEntityId"], "1");
    grace.sees(&id, "anonymised", |details| details["facts"]["anonymisedAt"].is_i64()).await;
    let gone = desk.data("GET", one, Value::Null).await;
    assert_eq!(gone["_type"], "AnonymizedConversation", "{gone}");
    let request = format!("/anonymization/request/{}", asked["id"].as_str().unwrap());
    until("it is erased", async || desk.data("GET", &request, Value::Null).await["processedAt"].is_string()).await;
    until("it is not found", async || {
        desk.data("GET", "/search/conversations?query=parcel", Value::Null).await.as_array().unwrap().is_empty()
    })
    .await;
    let mut late = api.agent("grace", "3").await;
    late.follow(&id, 0).await;
    assert!(late.events(3).await.iter().all(|(_, text)| text.is_empty()), "what is read again says nothing");
    let left = desk.oncehub(&format!("/conversations/{hub_id}?expand=contact")).await;
    assert_eq!(left["status"], "closed");
    let refused = ann.post(SEND, publish("1", &id, "hello?").to_string()).await;
    assert_ne!(refused.status, 200, "nothing is added any more");
    // Every change was written down, in order.
    let log = desk.data("GET", &format!("{one}/activitylog"), Value::Null).await;
    let kinds: Vec<&str> = log.as_array().unwrap().iter().map(|entry| entry["_type"].as_str().unwrap()).collect();
    for (earlier, later) in [
        ("ConversationCreatedByCustomer", "ConversationClaimed"),
        ("ConversationClaimed", "TagAdded"),
        ("TagAdded", "NoteAdded"),
        ("NoteAdded", "ConversationRated"),
        ("ConversationRated", "ConversationClosed"),
        ("ConversationClosed", "ConversationReopened"),
    ] {
        let place = |kind: &str| kinds.iter().position(|known| *known == kind).unwrap_or_else(|| panic!("no {kind}: {kinds:?}"));
        assert!(place(earlier) < place(later), "{earlier} before {later}: {kinds:?}");
    }
}

#[tokio::test]
async fn of_many_who_take_a_conversation_through_two_surfaces_at_once_one_wins() {
    let server = TestServer::with(SETUP).await;
    let api = server.api();
    let desk = Desk { api: api.clone() };
    let people = agents(&desk).await;
    let ann = api.speaker("ann").await;
    for round in 1..=8 {
        let id = ann.open().await;
        ann.say(&id, "hello").await;
        let path = format!("/conversations/{round}");
        let claims: Vec<_> = ["ada", "grace", "bea"].into_iter().cycle().take(9).collect();
        let by_rest = claims.iter().map(|agent| {
            let (desk, path, pid) = (&desk, format!("{path}/claim"), people[*agent].clone());
            async move { (desk.dixa("PUT", &path, json!({"agentId": pid, "force": false})).await.0, pid) }
        });
        let by_socket = ["ada", "bea"].map(|agent| {
            let (api, id, pid) = (&api, id.clone(), people[agent].clone());
            async move {
                let mut socket = api.agent(agent, "3").await;
                let answer = socket.ask(&add_agent("take", &id, "ASSIGNED_AGENT")).await;
                (if answer["code"] == 200 { 204 } else { 409 }, pid)
            }
        });
        let (rest, sockets) = futures::join!(futures::future::join_all(by_rest), futures::future::join_all(by_socket));
        let owner = desk.data("GET", &path, Value::Null).await["assignment"]["agentId"].as_str().unwrap().to_owned();
        for (status, pid) in rest.into_iter().chain(sockets) {
            // Who has it may say again that it takes it.
            assert_eq!(status, if pid == owner { 204 } else { 409 }, "round {round}: {pid} while {owner} has it");
        }
    }
}

/// An agent on UltraCart's socket, one on v2.1 and one in the console, and a customer of a Hubster integration.
const DESKS: &str = r#"
# app demo-connector
[[accounts.api_keys]]
dialect = "ultracart"
key = "demo-ultracart-key"
agent = "1001"
per_second = 10000
[[accounts.api_keys]]
dialect = "hubster"
key = "demo-hubster-secret"
per_second = 10000
[[accounts.hubs]]
id = "support"
name = "Support"
[[accounts.integrations]]
id = "shop-app"
uuid = "00000000-0000-0000-0000-000000000023"
name = "Shop app"
hub = "support"
queue = "88"
[[accounts.integrations]]
id = "ada"
name = "Ada"
hub = "support"
kind = "agent"
agent = "1001"
"#;

#[test]
fn one_conversation_is_seen_and_answered_at_three_desks_in_one_order() {
    let name = "three_desks (with @microsoft/signalr, node-agent-sdk and chromium)";
    let has_chromium = std::process::Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success());
    let needs = ["@microsoft/signalr", "node-agent-sdk", "playwright-core"].map(|package| clients(&format!("node_modules/{package}")));
    if !needs.iter().all(|needs| is_ready(name, needs, has_chromium)) {
        return;
    }
    let (_runtime, server) = gateway(&format!("{TLS}{DESKS}"));
    let account = server.gateway.identity().directory().account(ACCOUNT).unwrap();
    let tenant = account.uuid().simple().to_string();
    run("three_desks", std::path::Path::new("node"), "three_desks.mjs", &server, &[("TIELINE_TENANT", &tenant)]);
}
