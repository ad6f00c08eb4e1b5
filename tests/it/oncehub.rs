//! OnceHub's dialect: its objects and what is expanded of them, lists, failures, webhooks, what falls silent, and facts by the admin's
//! calls. Each answer is one that the document has.

use crate::sink::{Hit, React, Sink};
use crate::support::*;
use aws_lc_rs::hmac;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;
use tieline::dialect::oncehub::openapi;

const KEY: &str = "a-key-of-the-account";
const AGENTS_KEY: &str = "a-key-of-an-agent";
const ADMIN: [(&str, &str); 1] = [("authorization", "Bearer of my own")];

/// The demo account with keys and things, and an account whose consumers are soon taken to be gone.
const ONCEHUB: &str = r#"
[internal]
admin_key = "of my own"
[webhooks]
retry_wait = "20ms"

[limits]
oncehub_per_address = 1000000

[[accounts]]
id = "hasty"
abandoned_after = "100ms"
[[accounts.apps]]
client_id = "demo-connector"
client_secret = "demo-connector-secret"
[[accounts.api_keys]]
dialect = "oncehub"
key = "hasty-key"
per_second = 100000
# app demo-connector

[[accounts.api_keys]]
dialect = "oncehub"
key = "a-key-of-the-account"
per_second = 100000
[[accounts.api_keys]]
dialect = "oncehub"
key = "a-key-of-an-agent"
agent = "1001"
per_second = 100000
[[accounts.api_keys]]
dialect = "dixa"
key = "a-key-of-another-dialect"
[[accounts.websites]]
id = "shop"
name = "Shop"
url = "https://shop.example"
[[accounts.bots]]
id = "helper"
name = "Helper"
[[accounts.audiences]]
id = "returning"
name = "Returning visitors"
"#;

/// Calls with a key. Whatever is answered must be in the document.
struct Client {
    api: Api,
    key: &'static str,
}

/// The statuses that the document has of each operation.
static DOCUMENTED: LazyLock<Vec<(String, Method, BTreeSet<String>)>> = LazyLock::new(|| {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| ["get", "post", "delete"].contains(&name.as_str())) {
            let statuses = operation["responses"].as_object().unwrap().keys().cloned().collect();
            all.push((path.clone(), method.to_uppercase().parse().unwrap(), statuses));
        }
    }
    all
});

fn fits(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/').collect::<Vec<_>>(), path.split('/').collect::<Vec<_>>());
    template.len() == path.len() && template.iter().zip(&path).all(|(one, other)| one.starts_with('{') || one == other)
}

impl Client {
    async fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        let reply = self.api.call(method, path, &[("api-key", self.key)], body).await;
        let plain = path.split('?').next().unwrap();
        let known = DOCUMENTED.iter().find(|(template, known, _)| fits(template, plain) && known.as_str() == method);
        if let Some((template, _, statuses)) = known {
            assert!(
                statuses.contains(&reply.status.to_string()),
                "{method} {template}: {} is not documented: {}",
                reply.status,
                reply.text
            );
        }
        assert!(reply.headers.contains_key("request-id"), "{method} {path}");
        assert_eq!(reply.headers["content-type"], "application/json");
        if reply.status >= 400 {
            let members: Vec<String> = reply.json().as_object().unwrap().keys().cloned().collect();
            assert!(reply.json()["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", reply.text);
            assert!(members.iter().all(|name| ["type", "message", "param"].contains(&name.as_str())), "{}", reply.text);
        }
        reply
    }

    async fn get(&self, path: &str) -> Value {
        let reply = self.call("GET", path, "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()
    }

    /// The status, type and parameter of a refusal.
    async fn refused(&self, method: &str, path: &str, body: &str) -> (u16, String, Option<String>) {
        let reply = self.call(method, path, body).await;
        let text = |name: &str| reply.json()[name].as_str().map(str::to_owned);
        (reply.status, text("type").unwrap_or_default(), text("param"))
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        ids(&self.get(path).await)
    }

    async fn subscribe(&self, name: &str, url: &str, events: &[&str]) -> Value {
        let reply = self.call("POST", "/v2/webhooks", &json!({"url": url, "name": name, "events": events}).to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }
}

fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn client(server: &TestServer) -> Client {
    Client { api: server.api(), key: KEY }
}

fn bad(param: &str) -> (u16, String, Option<String>) {
    (400, "invalid_request_error".into(), Some(param.into()))
}

async fn gateway() -> TestServer {
    TestServer::with(ONCEHUB).await
}

/// The ids of what the configuration sets up, by kind.
async fn things(server: &TestServer) -> HashMap<&'static str, String> {
    let mut found = HashMap::new();
    for kind in ["websites", "bots", "audiences"] {
        let all = server.api().call("GET", &format!("/admin/v1/accounts/demo/{kind}"), &ADMIN, "").await.json();
        found.insert(kind, all[0]["id"].as_str().unwrap_or_else(|| panic!("{all}")).to_owned());
    }
    found
}

async fn admin(server: &TestServer, method: &str, path: &str, body: Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.api().call(method, &format!("/admin/v1/accounts/demo/conversations/{path}"), &ADMIN, body).await
}

/// Opens a conversation and says something: its id, and what it is called here.
async fn begin(speaker: &Speaker, client: &Client) -> (String, String) {
    let before: BTreeSet<String> = client.ids("/v2/conversations?limit=100").await.into_iter().collect();
    let id = speaker.open().await;
    speaker.say(&id, "hello").await;
    let after = client.ids("/v2/conversations?limit=100").await;
    let fresh: Vec<_> = after.into_iter().filter(|id| !before.contains(id)).collect();
    assert_eq!(fresh.len(), 1);
    (id, fresh[0].clone())
}

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}

const CONVERSATION: [&str; 14] = [
    "object",
    "id",
    "creation_time",
    "initiated_by",
    "last_updated_time",
    "last_interacted_time",
    "contact",
    "owner",
    "status",
    "bot",
    "website",
    "audience",
    "answers",
    "bookings",
];

const CONTACT: [&str; 25] = [
    "object",
    "id",
    "creation_time",
    "last_updated_time",
    "last_interacted_time",
    "owner",
    "status",
    "first_name",
    "last_name",
    "email",
    "phone",
    "mobile_phone",
    "company",
    "company_size",
    "job_title",
    "employees",
    "salutation",
    "street_address",
    "city",
    "state",
    "post_code",
    "country",
    "timezone",
    "has_consent",
    "terms_of_sevice",
];

#[tokio::test]
async fn a_conversation_has_all_its_fields_and_expands_what_it_refers_to() {
    let server = gateway().await;
    let client = client(&server);
    let ann = server.api().speaker("ann").await;
    let profile = json!({"firstName": "Ann", "lastName": "Example", "company": "Shop", "employees": 7, "hasConsent": true,
        "privateData": {"mail": "ann@customer.example", "mobileNum": "+4512345678"}, "customFields": {"size": "L"}});
    let mut opening = ann.opening();
    opening[0]["body"] = profile;
    let opened = ann.post(crate::support::CONVERSATION, opening.to_string()).await;
    let id = opened.json()[1]["body"]["conversationId"].as_str().unwrap_or_else(|| panic!("{}", opened.text)).to_owned();
    // Nobody has answered yet, so it is none.
    assert_eq!(client.ids("/v2/conversations").await, [""; 0]);
    ann.say(&id, "hello").await;
    let [cvr] = client.ids("/v2/conversations").await.try_into().unwrap();
    let path = format!("/v2/conversations/{cvr}");
    let shown = client.get(&path).await;
    assert_eq!(members(&shown), BTreeSet::from(CONVERSATION));
    let tail = |id: &Value, prefix: &str| {
        let tail = id.as_str().unwrap().strip_prefix(prefix).unwrap_or_else(|| panic!("{id} begins with {prefix}")).to_owned();
        assert!(tail.len() >= 10 && tail.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()), "{id}");
    };
    tail(&shown["id"], "CVR-");
    tail(&shown["contact"], "CTC-");
    assert_eq!(
        (&shown["object"], &shown["status"], &shown["initiated_by"]),
        (&json!("conversation"), &json!("started"), &json!("contact"))
    );
    for name in ["owner", "bot", "website", "audience"] {
        assert_eq!(shown[name], Value::Null, "{name}");
    }
    assert_eq!((&shown["answers"], &shown["bookings"]), (&json!([]), &json!([])));
    for name in ["creation_time", "last_updated_time", "last_interacted_time"] {
        let time = shown[name].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{name}: {time}");
    }
    // An agent takes it, which an agent's console hears; facts come by the admin's calls.
    let mut ada = server.api().agent("ada", "2.1").await;
    assert_eq!(ada.ask(&add_agent("join", &id, "ASSIGNED_AGENT")).await["code"], 200);
    let things = things(&server).await;
    let patch = json!({"website": things["websites"], "bot": things["bots"], "audience": things["audiences"]});
    let patched = admin(&server, "PATCH", &format!("{id}/facts"), patch).await;
    assert_eq!(patched.status, 200, "{}", patched.text);
    let answer = json!({"label": "Name", "question": "Your name?", "value": "Ann"});
    assert_eq!(admin(&server, "POST", &format!("{id}/answers"), answer).await.status, 201);
    assert_eq!(admin(&server, "PUT", &format!("{id}/bookings/BKNG-1A2B3C4D5E"), Value::Null).await.status, 200);
    let shown = client.get(&path).await;
    for (name, prefix) in [("owner", "USR-"), ("bot", "BOT-"), ("website", "WEB-"), ("audience", "AUD-"), ("contact", "CTC-")] {
        tail(&shown[name], prefix);
    }
    tail(&shown["answers"][0]["id"], "INT-");
    assert_eq!(members(&shown["answers"][0]), BTreeSet::from(["id", "internal_label", "question", "value"]));
    assert_eq!(shown["answers"][0]["internal_label"], "Name");
    assert_eq!(shown["bookings"], json!(["BKNG-1A2B3C4D5E"]));
    // Expanded, each id is the one that stood there.
    let whole = client.get(&format!("{path}?expand=contact,owner,bot,website,audience")).await;
    for name in ["contact", "owner", "bot", "website", "audience"] {
        assert_eq!(whole[name]["id"], shown[name], "{name}");
        let object = if name == "owner" { "user" } else { name };
        assert_eq!(whole[name]["object"], object);
    }
    assert_eq!((&whole["website"]["name"], &whole["website"]["url"]), (&json!("Shop"), &json!("https://shop.example")));
    assert_eq!((&whole["bot"]["name"], &whole["audience"]["name"]), (&json!("Helper"), &json!("Returning visitors")));
    let contact = &whole["contact"];
    assert_eq!(members(contact), CONTACT.into_iter().chain(["custom_fields"]).collect());
    for (name, value) in [
        ("first_name", json!("Ann")),
        ("last_name", json!("Example")),
        ("email", json!("ann@customer.example")),
        ("mobile_phone", json!("+4512345678")),
        ("company", json!("Shop")),
        ("employees", json!(7)),
        ("has_consent", json!(true)),
        ("terms_of_sevice", json!(false)),
        ("status", Value::Null),
        ("city", Value::Null),
        ("custom_fields", json!([{"name": "size", "value": "L"}])),
    ] {
        assert_eq!(contact[name], value, "{name}");
    }
    assert_eq!(contact["owner"], shown["owner"], "an id, unless it is expanded, too");
    assert_eq!(contact["last_interacted_time"], whole["last_interacted_time"]);
    let user = ["object", "id", "first_name", "last_name", "email", "status", "role_name", "timezone", "teams"];
    assert_eq!(members(&whole["owner"]), BTreeSet::from(user));
    let deep = client.get(&format!("{path}?expand=data.contact.owner")).await;
    assert_eq!(deep["contact"]["owner"], whole["owner"]);
    assert_eq!(deep["owner"], shown["owner"]);
    let listed = client.get("/v2/conversations?expand=data.website,contact").await;
    assert_eq!((&listed["data"][0]["website"], &listed["data"][0]["contact"]["id"]), (&whole["website"], &shown["contact"]));
    for wrong in ["answers", "bookings", "data.status", "contact.owner.teams", "owner.teams", "contact,nonsense"] {
        assert_eq!(client.refused("GET", &format!("{path}?expand={wrong}"), "").await, bad("expand"), "{wrong}");
        assert_eq!(client.refused("GET", &format!("/v2/conversations?expand={wrong}"), "").await, bad("expand"), "{wrong}");
    }
    // The booking is known by it.
    let booking = client.get("/v2/bookings/BKNG-1A2B3C4D5E").await;
    assert_eq!(booking, json!({"object": "booking", "id": "BKNG-1A2B3C4D5E", "conversation": cvr}));
    let booking = client.get("/v2/bookings/BKNG-1A2B3C4D5E?expand=conversation").await;
    assert_eq!(booking["conversation"], shown);
    let booking = client.get("/v2/bookings/BKNG-1A2B3C4D5E?expand=conversation.website").await;
    assert_eq!(booking["conversation"]["website"], whole["website"]);
    assert_eq!(client.refused("GET", "/v2/bookings/BKNG-1A2B3C4D5E?expand=conversation.contact.owner", "").await, bad("expand"));
    // It comes to its end; each change moves the time of the last.
    let before = client.get(&path).await;
    let close = change("c", &id, json!({"field": "ConversationStateField", "conversationState": "CLOSE"}));
    assert_eq!(ada.ask(&close).await["code"], 200);
    let closed = client.get(&path).await;
    assert_eq!((&closed["status"], &closed["owner"]), (&json!("closed"), &shown["owner"]));
    assert!(closed["last_updated_time"].as_str() > before["last_updated_time"].as_str());
    assert_eq!(closed["last_interacted_time"], before["last_interacted_time"]);
    // What was deleted shrinks, and what is on disk is as it was.
    let site = format!("/admin/v1/accounts/demo/websites/{}", things["websites"]);
    let deleted = server.api().call("DELETE", &site, &ADMIN, "").await;
    assert!(deleted.status < 300, "{}", deleted.text);
    let server = server.restart().await;
    let client = self::client(&server);
    assert_eq!(client.get(&path).await, closed);
    let again = client.get(&format!("{path}?expand=website,bot,contact.owner")).await;
    assert_eq!(again["website"], json!({"object": "website", "id": shown["website"], "deleted": true}));
    assert_eq!((&again["bot"], &again["contact"]["owner"]), (&whole["bot"], &whole["owner"]));
    assert_eq!(client.get("/v2/bookings/BKNG-1A2B3C4D5E").await["conversation"], json!(cvr));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_form() {
    let server = gateway().await;
    let client = client(&server);
    let unknown = |what: Option<&str>| (404, "invalid_request_error".to_owned(), what.map(str::to_owned));
    let other = Client { api: server.api(), key: "another" };
    let unauthorized = (401, "authentication_error".to_owned(), None);
    for key in ["another", "a-key-of-another-dialect", ""] {
        assert_eq!(Client { api: server.api(), key }.refused("GET", "/v2/test", "").await, unauthorized, "{key:?}");
    }
    assert_eq!(server.api().get("/v2/test").await.status, 401);
    for path in ["/v2/conversations", "/v2/contacts", "/v2/users", "/v2/webhooks", "/v2/bookings/BKNG-1"] {
        assert_eq!(other.refused("GET", path, "").await, unauthorized, "{path}");
    }
    assert!(client.get("/v2/test").await["message"].as_str().unwrap().contains("demo"));
    let nobody = "0".repeat(26);
    for path in [
        format!("/v2/conversations/CVR-{nobody}"),
        "/v2/conversations/CVR-X".into(),
        format!("/v2/conversations/CTC-{nobody}"),
        format!("/v2/contacts/CTC-{nobody}"),
        format!("/v2/users/USR-{nobody}"),
        format!("/v2/webhooks/WHK-{nobody}"),
        "/v2/bookings/BKNG-X".into(),
        format!("/v2/conversations/{}", "x".repeat(3000)),
    ] {
        assert_eq!(client.refused("GET", &path, "").await, unknown(Some("id")), "{path}");
    }
    for path in ["/v2/nonsense", "/v2", "/v2/", "/v2/conversations/a/b"] {
        assert_eq!(client.refused("GET", path, "").await, unknown(None), "{path}");
    }
    assert_eq!(client.refused("GET", "/v2/conversations/%ff", "").await.0, 400);
    let reply = client.call("PUT", "/v2/webhooks", "").await;
    assert_eq!((reply.status, reply.json()["type"].as_str().unwrap()), (405, "invalid_request_error"));
    assert!(reply.headers["allow"].to_str().unwrap().contains("POST"));
    for list in ["/v2/conversations", "/v2/contacts", "/v2/users", "/v2/webhooks"] {
        for limit in ["0", "101", "x", "-1"] {
            assert_eq!(client.refused("GET", &format!("{list}?limit={limit}"), "").await, bad("limit"), "{list} {limit}");
        }
        assert_eq!(client.refused("GET", &format!("{list}?after=a&before=b"), "").await, (400, "invalid_request_error".into(), None));
        for (param, id) in [("after", "CVR-X"), ("before", "nonsense")] {
            assert_eq!(client.refused("GET", &format!("{list}?{param}={id}"), "").await, bad(param), "{list} {param}");
        }
        assert_eq!(client.refused("GET", &format!("{list}?limit=1&limit=2"), "").await.0, 400);
    }
    for (query, param) in [
        ("creation_time.gt=yesterday", "creation_time.gt"),
        ("creation_time.lt=1706781600", "creation_time.lt"),
        ("last_updated_time.gt=x", "last_updated_time.gt"),
        ("last_updated_time.lt=2024-02-31", "last_updated_time.lt"),
        ("creation_time.gt=2024-02-02&creation_time.lt=2024-02-01T10:00:00Z", "creation_time.gt"),
        ("last_updated_time.gt=2024-02-02&last_updated_time.lt=2024-02-01", "last_updated_time.gt"),
        ("status=open", "status"),
        ("owner=CTC-1", "owner"),
        ("contact=1", "contact"),
        ("website=WEB-", "website"),
        ("bot=%F0%9F%A4%96", "bot"),
    ] {
        assert_eq!(client.refused("GET", &format!("/v2/conversations?{query}"), "").await, bad(param), "{query}");
    }
    // Another account's are not there.
    let ann = server.api().speaker("ann").await;
    let (_, cvr) = begin(&ann, &client).await;
    let hasty = Client { api: server.api(), key: "hasty-key" };
    assert_eq!(hasty.refused("GET", &format!("/v2/conversations/{cvr}"), "").await, unknown(Some("id")));
    assert_eq!(hasty.ids("/v2/conversations").await, [""; 0]);
    // Switched off, it says so.
    let off = TestServer::with("[server]\ndialects = [\"liveperson\"]\n").await;
    let off = off.api().call("GET", "/v2/conversations", &[("api-key", KEY)], "").await;
    assert!(off.status == 404 && off.json()["message"].as_str().unwrap().contains("server.dialects"), "{}", off.text);
}

#[tokio::test]
async fn too_many_requests_of_an_account_or_an_address_are_told_when_to_come_again() {
    let keys = |extra: &str| {
        let key = |name: &str| format!("[[accounts.api_keys]]\ndialect = \"oncehub\"\nkey = \"{name}\"\n{extra}");
        format!("# app demo-connector\n\n{}{}", key(KEY), key("second"))
    };
    let spent = async |server: &TestServer, tries: usize| {
        let mut statuses = Vec::new();
        for place in 0..tries {
            let key = if place % 2 == 0 { KEY } else { "second" };
            let reply = Client { api: server.api(), key }.call("GET", "/v2/test", "").await;
            if reply.status == 429 {
                assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
                assert_eq!(reply.json()["type"], "rate_limit_error");
            }
            statuses.push(reply.status);
        }
        statuses
    };
    // The day's number does not come back while the test runs.
    let server = TestServer::with(&keys("per_day = 5\n")).await;
    assert_eq!(spent(&server, 7).await, [200, 200, 200, 200, 200, 429, 429], "both keys are the account's");
    let server = TestServer::with(&format!("[limits]\noncehub_per_address = 3\n\n{}", keys("per_second = 1000\n"))).await;
    let statuses = spent(&server, 5).await;
    assert_eq!(statuses[..3], [200, 200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

/// The link of a relation.
fn link(reply: &Reply, rel: &str) -> Option<String> {
    let links = reply.headers.get("link")?.to_str().unwrap();
    let found = links.split(", ").find(|link| link.ends_with(&format!("rel=\"{rel}\"")))?;
    Some(found.strip_prefix('<').unwrap().split('>').next().unwrap().to_owned())
}

#[tokio::test]
async fn pages_lead_through_all_in_both_directions_while_more_are_added() {
    let server = gateway().await;
    let client = client(&server);
    let ann = server.api().speaker("ann").await;
    let mut all = Vec::new();
    for _ in 0..7 {
        all.insert(0, begin(&ann, &client).await.1);
        // One that nobody has answered is in no list.
        ann.open().await;
    }
    let follow = async |url: &str| {
        let path = url.strip_prefix(&format!("http://{}", server.address)).unwrap_or_else(|| panic!("{url} is not absolute")).to_owned();
        let reply = client.call("GET", &path, "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply
    };
    let first = client.call("GET", "/v2/conversations?limit=3&status=started&expand=contact", "").await;
    assert_eq!((ids(&first.json()), first.json()["has_more"].clone()), (all[..3].to_vec(), json!(true)));
    assert_eq!((first.json()["object"].clone(), link(&first, "previous")), (json!("list"), None));
    // What comes now is in front of all that is seen, and moves none of it.
    let fresh = begin(&ann, &client).await.1;
    let (mut seen, mut page) = (ids(&first.json()), first);
    while let Some(next) = link(&page, "next") {
        assert!(next.contains("limit=3") && next.contains("status=started") && next.contains("after=CVR-"), "{next}");
        assert_eq!(page.json()["has_more"], true);
        page = follow(&next).await;
        assert!(page.json()["data"][0]["contact"]["id"].is_string(), "what else was asked for goes along");
        seen.extend(ids(&page.json()));
    }
    assert_eq!((&seen, &page.json()["has_more"]), (&all, &json!(false)));
    // And back, to what came meanwhile.
    let mut back = ids(&page.json());
    while let Some(previous) = link(&page, "previous") {
        assert!(previous.contains("before=CVR-"), "{previous}");
        page = follow(&previous).await;
        let mut these = ids(&page.json());
        these.extend(back);
        back = these;
    }
    all.insert(0, fresh);
    assert_eq!(back, all);
    // Who counts by ids alone comes to an empty page, and who has all on one sees no link.
    let last = all.last().unwrap();
    let end = client.call("GET", &format!("/v2/conversations?after={last}"), "").await;
    assert_eq!((ids(&end.json()), end.json()["has_more"].clone(), link(&end, "next")), (vec![], json!(false), None));
    let whole = client.call("GET", "/v2/conversations?limit=100", "").await;
    assert_eq!((ids(&whole.json()), whole.headers.get("link")), (all.clone(), None));
    assert_eq!(client.ids("/v2/conversations").await.len(), 8, "ten, where nobody says");
    // Other lists have the same ways.
    for list in ["/v2/users", "/v2/contacts"] {
        for name in ["bob", "cid", "dan"] {
            server.api().speaker(name).await.open().await;
        }
        let all = client.ids(&format!("{list}?limit=100")).await;
        let (mut seen, mut page) = (Vec::new(), client.call("GET", &format!("{list}?limit=2"), "").await);
        loop {
            seen.extend(ids(&page.json()));
            let Some(next) = link(&page, "next") else { break };
            page = follow(&next).await;
        }
        assert_eq!(seen, all, "{list}");
        let mut back = ids(&page.json());
        while let Some(previous) = link(&page, "previous") {
            page = follow(&previous).await;
            back.splice(0..0, ids(&page.json()));
        }
        assert_eq!(back, all, "{list}");
    }
}

#[tokio::test]
async fn lists_hold_what_the_filters_ask_for() {
    let server = gateway().await;
    let client = client(&server);
    let api = server.api();
    let (ann, bob) = (api.speaker("ann").await, api.speaker("bob").await);
    let (first, one) = begin(&ann, &client).await;
    let (second, two) = begin(&bob, &client).await;
    let (_, three) = begin(&ann, &client).await;
    let mut ada = api.agent("ada", "2.1").await;
    assert_eq!(ada.ask(&add_agent("join", &second, "ASSIGNED_AGENT")).await["code"], 200);
    let close = change("c", &first, json!({"field": "ConversationStateField", "conversationState": "CLOSE"}));
    assert_eq!(ann.post(SEND, close.to_string()).await.status, 200);
    let things = things(&server).await;
    admin(&server, "PATCH", &format!("{second}/facts"), json!({"website": things["websites"], "bot": things["bots"]})).await;
    let shown = client.get(&format!("/v2/conversations/{two}")).await;
    let text = |name: &str| shown[name].as_str().unwrap().to_owned();
    let created = async |id: &str| client.get(&format!("/v2/conversations/{id}")).await["creation_time"].as_str().unwrap().to_owned();
    let (at_one, at_three) = (created(&one).await, created(&three).await);
    let none: [&str; 0] = [];
    for (query, expected) in [
        ("status=started".to_owned(), vec![&three, &two]),
        ("status=closed".into(), vec![&one]),
        ("status=abandoned".into(), vec![]),
        (format!("owner={}", text("owner")), vec![&two]),
        (format!("contact={}", text("contact")), vec![&two]),
        (format!("website={}", text("website")), vec![&two]),
        (format!("bot={}&website={}", text("bot"), text("website")), vec![&two]),
        (format!("bot={}&status=closed", text("bot")), vec![]),
        (format!("contact=CTC-{}", "0".repeat(26)), vec![]),
        ("creation_time.lt=2024-02-01".into(), vec![]),
        ("creation_time.gt=2024-02-01T10:00:00Z".into(), vec![&three, &two, &one]),
        ("last_updated_time.gt=2024-02-01&last_updated_time.lt=2999-01-01".into(), vec![&three, &two, &one]),
        ("creation_time.gt=2999-01-01".into(), vec![]),
    ] {
        assert_eq!(client.ids(&format!("/v2/conversations?{query}")).await.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    // The bounds themselves are out.
    let between = client.ids(&format!("/v2/conversations?creation_time.gt={at_one}&creation_time.lt={at_three}")).await;
    assert!(!between.contains(&one) && !between.contains(&three), "{between:?}");
    let of_ann = client.get(&format!("/v2/conversations/{one}")).await["contact"].as_str().unwrap().to_owned();
    let paged = client.call("GET", &format!("/v2/conversations?contact={of_ann}&limit=1"), "").await;
    assert_eq!(ids(&paged.json()), [three.as_str()]);
    assert_eq!(client.ids(&format!("/v2/conversations?contact={of_ann}&limit=1&after={three}")).await, [one.as_str()]);
    assert_eq!(client.ids(&format!("/v2/conversations?contact={of_ann}&before={one}")).await, [three.as_str()]);
    assert_eq!(client.ids(&format!("/v2/conversations?contact={of_ann}&after={one}")).await, none);
}

#[tokio::test]
async fn contacts_and_users_are_found_by_their_ids() {
    let server = gateway().await;
    let client = client(&server);
    let ann = server.api().speaker("ann").await;
    let (id, cvr) = begin(&ann, &client).await;
    let mut ada = server.api().agent("ada", "2.1").await;
    assert_eq!(ada.ask(&add_agent("join", &id, "ASSIGNED_AGENT")).await["code"], 200);
    let shown = client.get(&format!("/v2/conversations/{cvr}?expand=contact,owner")).await;
    let contact = client.get(&format!("/v2/contacts/{}", shown["contact"]["id"].as_str().unwrap())).await;
    assert_eq!(contact, shown["contact"]);
    assert_eq!(client.ids("/v2/contacts").await, [contact["id"].as_str().unwrap()]);
    let path = format!("/v2/contacts/{}", contact["id"].as_str().unwrap());
    assert_eq!(client.get(&format!("{path}?expand=owner")).await["owner"], shown["owner"]);
    assert_eq!(client.refused("GET", &format!("{path}?expand=company"), "").await, bad("expand"));
    // A consumer that came by itself has an id of another form.
    let token = server.api().sign_up().await;
    let mut own =
        server.api().socket(&format!("/ws_api/account/{ACCOUNT}/messaging/consumer?v=3"), &[("authorization", &token)]).await.unwrap();
    let opened = own.ask(&request("o", "cm.ConsumerRequestConversation", json!({"brandId": ACCOUNT}))).await;
    let id = opened["body"]["conversationId"].as_str().unwrap().to_owned();
    assert_eq!(own.ask(&publish("p", &id, "hello")).await["code"], 200);
    let newest = client.get("/v2/conversations?limit=1&expand=contact").await["data"][0].clone();
    let path = format!("/v2/contacts/{}", newest["contact"]["id"].as_str().unwrap());
    assert_eq!(client.get(&path).await, newest["contact"]);
    assert_eq!(client.ids("/v2/contacts").await.len(), 2);
    // Ada has to do with the first alone: of the other an agent's key shows the id, and no more.
    let adas = Client { api: server.api(), key: AGENTS_KEY };
    let seen = adas.get("/v2/conversations?expand=contact").await["data"].clone();
    assert_eq!((&seen[0]["contact"], seen[1]["contact"]["id"] == contact["id"]), (&newest["contact"]["id"], true));
    assert_eq!(adas.refused("GET", &path, "").await.0, 404);
    let users = client.get("/v2/users").await;
    let users = users["data"].as_array().unwrap();
    assert_eq!(users.iter().map(|user| user["role_name"].as_str().unwrap()).collect::<Vec<_>>(), ["Member", "Team Manager", "Member"]);
    assert_eq!(users[0], shown["owner"]);
    for user in users {
        assert_eq!(client.get(&format!("/v2/users/{}", user["id"].as_str().unwrap())).await, *user);
        assert!(user["teams"].as_array().unwrap().iter().all(|team| team.as_str().unwrap().starts_with("TM-")));
        assert_eq!(user["status"], "active");
    }
    assert_eq!(client.refused("GET", "/v2/users?expand=teams", "").await, bad("expand"));
    // An agent's key sees the account's, too.
    assert_eq!(Client { api: server.api(), key: AGENTS_KEY }.ids("/v2/conversations").await.len(), 2);
}

#[tokio::test]
async fn webhooks_are_subscribed_to_shown_and_deleted() {
    let server = gateway().await;
    let client = client(&server);
    let sink = Sink::open().await;
    let made = client.subscribe("one", &sink.url("/one"), &["conversation.closed", "booking.scheduled"]).await;
    let fields = ["object", "id", "api_version", "name", "url", "events", "creation_time", "secret"];
    assert_eq!(members(&made), BTreeSet::from(fields));
    assert_eq!((&made["object"], &made["api_version"], &made["name"]), (&json!("webhook"), &json!("v2"), &json!("one")));
    assert_eq!((&made["url"], &made["events"]), (&json!(sink.url("/one")), &json!(["conversation.closed", "booking.scheduled"])));
    assert!(made["id"].as_str().unwrap().starts_with("WHK-") && made["secret"].as_str().unwrap().len() >= 32);
    let other = client.subscribe("two", &sink.url("/two"), &["conversation"]).await;
    let path = format!("/v2/webhooks/{}", made["id"].as_str().unwrap());
    assert_eq!(client.get(&path).await, made);
    let list = client.get("/v2/webhooks").await;
    assert_eq!((&list["data"], &list["has_more"]), (&json!([other, made]), &json!(false)));
    let url = "https://hooks.shop.example/x";
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({"url": url, "name": "three", "events": ["conversation"]});
        change(&mut body);
        body.to_string()
    };
    let invalid = |param: Option<&str>| (400, "invalid_request_error".to_owned(), param.map(str::to_owned));
    for (body, expected) in [
        (with(&|body| body["name"] = json!("one")), (409, "invalid_request_error".to_owned(), Some("name".to_owned()))),
        (with(&|body| body["name"] = json!("")), invalid(Some("name"))),
        (with(&|body| body["name"] = json!("x".repeat(257))), invalid(Some("name"))),
        (with(&|body| body["url"] = json!("http://shop.example/x")), invalid(Some("url"))),
        (with(&|body| body["url"] = json!("ftp://shop.example")), invalid(Some("url"))),
        (with(&|body| body["url"] = json!("nonsense")), invalid(Some("url"))),
        (with(&|body| body["events"] = json!([])), invalid(Some("events"))),
        (with(&|body| body["events"] = json!(["conversation.opened"])), invalid(Some("events"))),
        (with(&|body| body["events"] = json!(["bookings"])), invalid(Some("events"))),
        (with(&|body| body["events"] = json!("conversation")), invalid(None)),
        (with(&|body| drop(body.as_object_mut().unwrap().remove("url"))), invalid(None)),
        ("[".to_owned(), invalid(None)),
        (with(&|body| body["more"] = json!("x".repeat(70_000))), (413, "invalid_request_error".to_owned(), None)),
    ] {
        let shown: String = body.chars().take(200).collect();
        assert_eq!(client.refused("POST", "/v2/webhooks", &body).await, expected, "{shown}");
    }
    // An agent who is no manager does not see them, for each is shown with its secret; and not everybody's contacts.
    let agents = Client { api: server.api(), key: AGENTS_KEY };
    let forbidden = (403, "authentication_error".to_owned(), None);
    for path in ["/v2/webhooks", &path, "/v2/contacts"] {
        assert_eq!(agents.refused("GET", path, "").await, forbidden, "{path}");
    }
    assert_eq!(agents.refused("POST", "/v2/webhooks", &with(&|_| ())).await, forbidden);
    assert_eq!(agents.refused("DELETE", &path, "").await, forbidden);
    let gone = client.call("DELETE", &path, "").await;
    assert_eq!((gone.status, gone.json()), (200, json!({"id": made["id"], "deleted": true})));
    assert_eq!(client.refused("DELETE", &path, "").await.0, 404);
    assert_eq!(client.refused("GET", &path, "").await, (404, "invalid_request_error".into(), Some("id".into())));
    // Its name is free, and so is what it was owed.
    client.subscribe("one", &sink.url("/again"), &["conversation"]).await;
    let row = |row: tieline::delivery::View| (row.row.app.to_string(), row.row.target);
    let known: Vec<_> = server.deliveries.list().await.unwrap().into_iter().map(row).collect();
    assert!(known.len() == 2 && known.iter().all(|(app, _)| *app != made["id"]), "{known:?}");
    // What a start reads is what there was.
    let before = client.get("/v2/webhooks").await;
    let server = server.restart().await;
    assert_eq!(self::client(&server).get("/v2/webhooks").await, before);
    // In earnest nothing leads inside.
    let guarded = TestServer::guarded(ONCEHUB).await;
    let client = self::client(&guarded);
    for url in ["http://127.0.0.1:8080/x", "https://127.0.0.1/x", "https://10.0.0.1/x", "https://localhost/x", "http://shop.example/x"] {
        let body = json!({"url": url, "name": "x", "events": ["conversation"]}).to_string();
        assert_eq!(client.refused("POST", "/v2/webhooks", &body).await, bad("url"), "{url}");
    }
}

/// The event of a webhook, whose signature must be right.
fn event(hit: &Hit, secret: &str) -> Value {
    let signature = hit.header("oncehub-signature");
    let (time, hex) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",s=")).unwrap_or_else(|| panic!("{signature:?}"));
    assert!(hex.len() == 64 && time.parse::<i64>().unwrap() > 1_700_000_000, "{signature}");
    let tag: Vec<u8> = (0..64).step_by(2).map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap()).collect();
    let signed = [time.as_bytes(), b".", &hit.body].concat();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &signed, &tag).expect("the signature is of the time and the body");
    serde_json::from_slice(&hit.body).unwrap()
}

fn at<'h>(hits: &'h [Hit], path: &str) -> Vec<&'h Hit> {
    hits.iter().filter(|hit| hit.path == path).collect()
}

#[tokio::test]
async fn conversations_are_told_to_webhooks_once_they_begin_and_end_also_over_a_restart() {
    let server = gateway().await;
    let client = client(&server);
    let mut sink = Sink::open().await;
    let all = client.subscribe("all", &sink.url("/all"), &["conversation", "conversation.closed"]).await;
    let closed = client.subscribe("closed", &sink.url("/closed"), &["conversation.closed"]).await;
    let secret = |made: &Value| made["secret"].as_str().unwrap().to_owned();
    let (all, closed) = (secret(&all), secret(&closed));
    let ann = server.api().speaker("ann").await;
    let silent = ann.open().await;
    let (id, cvr) = begin(&ann, &client).await;
    ann.say(&id, "more").await;
    sink.until("the beginning", SOON, |hits| at(hits, "/all").len() == 1).await;
    let started = event(at(&sink.hits(), "/all")[0], &all);
    assert_eq!(members(&started), BTreeSet::from(["id", "object", "creation_time", "type", "api_version", "data"]));
    assert_eq!(
        (&started["object"], &started["type"], &started["api_version"]),
        (&json!("event"), &json!("conversation.started"), &json!("v2"))
    );
    assert!(started["id"].as_str().unwrap().starts_with("EVNT-") && started["creation_time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(members(&started["data"]), BTreeSet::from(CONVERSATION));
    assert_eq!((&started["data"]["id"], &started["data"]["status"]), (&json!(cvr), &json!("started")));
    assert_eq!((&started["data"]["contact"]["object"], &started["data"]["owner"]), (&json!("contact"), &Value::Null));
    // One endpoint takes nothing for a while: answers that lead elsewhere are failures, and so is what only says that it is gone.
    sink.set(|hit| match (hit.path.as_str(), hit.before) {
        ("/closed", 0) => React::Redirect,
        ("/closed", 1) => React::Answer(410),
        ("/closed", 2) => React::Answer(500),
        _ => React::Answer(202),
    });
    let mut ada = server.api().agent("ada", "2.1").await;
    assert_eq!(ada.ask(&add_agent("join", &id, "ASSIGNED_AGENT")).await["code"], 200);
    for conversation in [&id, &silent] {
        let close = change("c", conversation, json!({"field": "ConversationStateField", "conversationState": "CLOSE"}));
        assert_eq!(ann.post(SEND, close.to_string()).await.status, 200);
    }
    sink.until("the end", SOON, |hits| at(hits, "/closed").len() == 4 && at(hits, "/all").len() == 2).await;
    let hits = sink.hits();
    let ended = event(at(&hits, "/all")[1], &all);
    assert_eq!((&ended["type"], &ended["data"]["status"]), (&json!("conversation.closed"), &json!("closed")));
    assert_eq!((&ended["data"]["owner"]["object"], &ended["data"]["contact"]["id"]), (&json!("user"), &started["data"]["contact"]["id"]));
    let tries: Vec<Value> = at(&hits, "/closed").into_iter().map(|hit| event(hit, &closed)).collect();
    assert!(tries.iter().all(|one| one["id"] == tries[0]["id"] && one["type"] == "conversation.closed" && one["data"]["id"] == cvr));
    assert_ne!(ended["id"], started["id"]);
    assert!(at(&hits, "/elsewhere").is_empty(), "nobody follows");
    assert!(hits.iter().all(|hit| hit.headers.keys().all(|name| !name.as_str().contains("liveperson"))));
    // What is owed when the gateway ends is paid by the next.
    sink.set(|_| React::Answer(503));
    let (_, next) = begin(&ann, &client).await;
    sink.until("a try", SOON, |hits| at(hits, "/all").len() > 2).await;
    let server = server.restart().await;
    sink.set(|_| React::Answer(200));
    sink.until("what was owed", SOON, |hits| at(hits, "/all").last().is_some_and(|hit| hit.is_taken())).await;
    let hits = sink.hits();
    let paid = event(at(&hits, "/all").last().unwrap(), &all);
    assert_eq!((&paid["type"], &paid["data"]["id"]), (&json!("conversation.started"), &json!(next)));
    // Whoever unsubscribes hears no more.
    let client = self::client(&server);
    let all_id = ids(&client.get("/v2/webhooks").await)[1].clone();
    assert_eq!(client.call("DELETE", &format!("/v2/webhooks/{all_id}"), "").await.status, 200);
    let before = at(&sink.hits(), "/all").len();
    let ann = server.api().speaker("ann").await;
    let (id, _) = begin(&ann, &client).await;
    let close = change("c", &id, json!({"field": "ConversationStateField", "conversationState": "CLOSE"}));
    assert_eq!(ann.post(SEND, close.to_string()).await.status, 200);
    sink.until("the other's", SOON, |hits| at(hits, "/closed").len() == 5).await;
    assert_eq!(at(&sink.hits(), "/all").len(), before);
}

#[tokio::test]
async fn whoever_is_silent_for_too_long_has_abandoned_the_conversation_for_good() {
    let server = gateway().await;
    let client = Client { api: server.api(), key: "hasty-key" };
    let mut sink = Sink::open().await;
    let secret = client.subscribe("all", &sink.url("/all"), &["conversation"]).await["secret"].as_str().unwrap().to_owned();
    let api = server.api();
    let app = api.app_token_of("hasty", "demo-connector").await;
    let jws = api.consumer_of("hasty", &app, "ann").await;
    let ann = Speaker { api, account: "hasty".into(), app, jws };
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    sink.until("both", SOON, |hits| at(hits, "/all").len() == 2).await;
    let types =
        |hits: &[Hit]| at(hits, "/all").into_iter().map(|hit| event(hit, &secret)["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(types(&sink.hits()), ["conversation.started", "conversation.abandoned"]);
    let told = event(at(&sink.hits(), "/all")[1], &secret);
    let path = format!("/v2/conversations/{}", told["data"]["id"].as_str().unwrap());
    assert_eq!((&told["data"]["status"], &client.get(&path).await["status"]), (&json!("abandoned"), &json!("abandoned")));
    assert_eq!(client.ids("/v2/conversations?status=abandoned").await.len(), 1);
    assert_eq!(client.ids("/v2/conversations?status=started").await.len(), 0);
    // It stays so, whatever comes: another word, or its end, of which nobody is told any more.
    ann.say(&id, "I am back").await;
    let close = change("c", &id, json!({"field": "ConversationStateField", "conversationState": "CLOSE"}));
    assert_eq!(ann.post(SEND, close.to_string()).await.status, 200);
    assert_eq!(client.get(&path).await["status"], "abandoned");
    let id = ann.open().await;
    ann.say(&id, "once more").await;
    sink.until("the next", SOON, |hits| at(hits, "/all").len() == 4).await;
    let expected = ["conversation.started", "conversation.abandoned", "conversation.started", "conversation.abandoned"];
    assert_eq!(types(&sink.hits()), expected);
}

#[tokio::test]
async fn facts_are_kept_by_the_admins_calls_and_pushed() {
    let server = gateway().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut grace = server.api().agent("grace", "2.1").await;
    let follow = request("s", "cqm.SubscribeExConversations", json!({"convState": ["OPEN"]}));
    assert_eq!(grace.ask(&follow).await["code"], 200);
    let heard = async |grace: &mut Ws| {
        let notified = grace.notification("ExConversationChangeNotification").await;
        notified["body"]["changes"][0]["result"]["convId"].as_str().unwrap_or_else(|| panic!("{notified}")).to_owned()
    };
    assert_eq!(heard(&mut grace).await, id, "as it is when the agent begins to follow");
    let things = things(&server).await;
    let facts = async |path: &str, body: Value| admin(&server, "PATCH", path, body).await;
    let patched = facts(&format!("{id}/facts"), json!({"website": things["websites"]})).await;
    assert_eq!(patched.status, 200, "{}", patched.text);
    let nothing = json!({"website": null, "bot": null, "audience": null, "answers": [], "bookings": []});
    let mut expected = nothing.clone();
    expected["website"] = json!(things["websites"]);
    assert_eq!(patched.json(), expected);
    assert_eq!(heard(&mut grace).await, id, "as it is changed");
    // By its number, too; null takes away, and what is left out stays.
    assert_eq!(facts("1/facts", json!({"bot": things["bots"], "website": null})).await.json()["bot"], json!(things["bots"]));
    assert_eq!(admin(&server, "GET", "1/facts", Value::Null).await.json()["website"], Value::Null);
    let added = admin(&server, "POST", &format!("{id}/answers"), json!({"id": "INT-1", "question": "Why?", "value": "So"})).await;
    assert_eq!((added.status, added.json()), (201, json!({"id": "INT-1", "label": "", "question": "Why?", "value": "So"})));
    assert_eq!(admin(&server, "POST", &format!("{id}/answers"), json!({"question": "Who?", "value": "Ann"})).await.status, 201);
    assert_eq!(
        admin(&server, "POST", &format!("{id}/answers"), json!({"id": "INT-1", "question": "Why?", "value": "No"})).await.status,
        201
    );
    let answers = admin(&server, "GET", &format!("{id}/answers"), Value::Null).await.json();
    assert_eq!((answers.as_array().unwrap().len(), &answers[0]["value"]), (2, &json!("No")), "{answers}");
    assert!(answers[1]["id"].as_str().unwrap().starts_with("INT-"));
    assert_eq!(admin(&server, "PUT", &format!("{id}/bookings/B-1"), Value::Null).await.json(), json!(["B-1"]));
    assert_eq!(admin(&server, "PUT", &format!("{id}/bookings/B-1"), Value::Null).await.json(), json!(["B-1"]));
    assert_eq!(admin(&server, "DELETE", &format!("{id}/bookings/B-1"), Value::Null).await.status, 204);
    assert_eq!(admin(&server, "DELETE", &format!("{id}/bookings/B-1"), Value::Null).await.status, 404);
    let client = client(&server);
    assert_eq!(client.refused("GET", "/v2/bookings/B-1", "").await.0, 404);
    for (method, path, body, status) in [
        ("GET", "nonsense/facts", Value::Null, 404),
        ("GET", "99/facts", Value::Null, 404),
        ("PATCH", "1/facts", json!({"website": things["bots"]}), 400),
        ("PATCH", "1/facts", json!({"website": "nonsense"}), 400),
        ("PATCH", "1/facts", json!({"page": null}), 400),
        ("POST", "1/answers", json!({"question": "Why?"}), 400),
        ("POST", "1/answers", json!({"id": "", "question": "Why?", "value": ""}), 400),
        ("POST", "1/answers", json!({"question": "Why?", "value": "x".repeat(4_001)}), 400),
        ("PUT", "1/bookings/a%20b", Value::Null, 400),
    ] {
        assert_eq!(admin(&server, method, path, body.clone()).await.status, status, "{method} {path} {body}");
    }
    assert_eq!(server.api().get("/admin/v1/accounts/demo/conversations/1/facts").await.status, 401);
    let other = server.api().call("GET", "/admin/v1/accounts/other/conversations/1/facts", &ADMIN, "").await;
    assert_eq!(other.status, 404);
    let before = admin(&server, "GET", "1/facts", Value::Null).await.json();
    let server = server.restart().await;
    assert_eq!(admin(&server, "GET", "1/facts", Value::Null).await.json(), before);
}
