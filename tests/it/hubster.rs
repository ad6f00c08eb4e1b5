//! Hubster's dialect: tokens, conversations that are established, activities that are sent and read, visitors of web pages, and each
//! way to be refused. Each answer is one that the document has.

use crate::support::*;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use tieline::dialect::hubster::openapi;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

const SECRET: &str = "a-secret-of-the-account";
const HUB: &str = "00000000-0000-0000-0000-0000000000a2";
const SHOP: &str = "00000000-0000-0000-0000-000000000023";
const ADA: &str = "00000000-0000-0000-0000-000000000024";
const BOT: &str = "00000000-0000-0000-0000-000000000025";
const WEB: &str = "00000000-0000-0000-0000-000000000026";
const PAUSED: &str = "00000000-0000-0000-0000-000000000027";
const GONE: &str = "00000000-0000-0000-0000-000000000028";
const ELSEWHERE: &str = "00000000-0000-0000-0000-000000000029";
const GRACE: &str = "00000000-0000-0000-0000-00000000002a";
const TENANT: &str = "00000000-0000-0000-0000-0000000000f1";
const PAGE: &str = "https://shop.example";

/// What the demo account has for these tests.
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
[[accounts.api_keys]]
dialect = "oncehub"
key = "a-key-of-another-dialect"
per_second = 100000
[[accounts.hubs]]
id = "support"
uuid = "00000000-0000-0000-0000-0000000000a2"
name = "Support"
description = "Support hub"
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
[[accounts.integrations]]
id = "web"
uuid = "00000000-0000-0000-0000-000000000026"
name = "Shop page"
hub = "support"
channel = "WebChat"
queue = "77"
allowed_origins = ["https://shop.example"]
[[accounts.integrations]]
id = "paused"
uuid = "00000000-0000-0000-0000-000000000027"
name = "Paused"
hub = "support"
state = "paused"
[[accounts.integrations]]
id = "gone"
uuid = "00000000-0000-0000-0000-000000000028"
name = "Gone"
hub = "support"
state = "cancelled"
[[accounts.integrations]]
id = "elsewhere"
uuid = "00000000-0000-0000-0000-000000000029"
name = "Sales desk"
hub = "sales"
kind = "agent"
agent = "1002"
[[accounts.integrations]]
id = "grace"
uuid = "00000000-0000-0000-0000-00000000002a"
name = "Grace"
hub = "support"
kind = "agent"
agent = "1002"
"#;

/// An account that gives its own UUID, beside the demo account with what it has here.
fn config(more: &str) -> String {
    format!(
        r#"{more}
[[accounts]]
id = "shop"
uuid = "{TENANT}"
[[accounts.api_keys]]
dialect = "hubster"
key = "a-secret-of-the-shop"
per_second = 100000
[[accounts.hubs]]
id = "hub"
name = "Shop"
[[accounts.integrations]]
id = "app"
uuid = "00000000-0000-0000-0000-0000000000f3"
name = "App"
hub = "hub"

# app demo-connector
{THINGS}"#
    )
}

const SHOPS_OWN: &str = "00000000-0000-0000-0000-0000000000f3";

async fn gateway() -> TestServer {
    TestServer::with(&config("")).await
}

/// The statuses that the document has of each operation.
static DOCUMENTED: LazyLock<Vec<(String, Method, BTreeSet<String>)>> = LazyLock::new(|| {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| ["get", "post"].contains(&name.as_str())) {
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

fn no_nulls(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => items.iter().all(no_nulls),
        Value::Object(members) => members.values().all(no_nulls),
        _ => true,
    }
}

/// Holds an answer to the document and to the one form of refusals.
fn held(method: &str, path: &str, reply: Reply) -> Reply {
    let plain = path.split('?').next().unwrap();
    // What is named in full goes before what is named by a place.
    let mut known: Vec<_> = DOCUMENTED.iter().filter(|(template, known, _)| fits(template, plain) && known.as_str() == method).collect();
    known.sort_by_key(|(template, ..)| template.matches('{').count());
    if let Some((template, _, statuses)) = known.first() {
        assert!(statuses.contains(&reply.status.to_string()), "{method} {template}: {} is not documented: {}", reply.status, reply.text);
    }
    assert_eq!(reply.headers["content-type"], "application/json", "{method} {path}");
    assert!(no_nulls(&reply.json()), "{method} {path}: {}", reply.text);
    if reply.status >= 400 && !path.starts_with("/connect/token") {
        let body = reply.json();
        let members: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(members, ["errors", "status"], "{}", reply.text);
        assert_eq!(body["status"], reply.status, "{}", reply.text);
        let errors = body["errors"].as_array().unwrap();
        assert!(!errors.is_empty(), "{}", reply.text);
        for error in errors {
            let name = format!("(code: ENG{:06})", error["code"].as_u64().unwrap());
            assert!(error["description"].as_str().unwrap().ends_with(&name), "{error}");
        }
    }
    assert_eq!(reply.headers.contains_key("retry-after"), [429, 503].contains(&reply.status), "{method} {path}");
    reply
}

async fn token_of(api: &Api, tenant: Uuid, secret: &str) -> Reply {
    let form = format!("grant_type=client_credentials&client_id=hubster.engine.api.{}&client_secret={secret}", tenant.simple());
    held("POST", "/connect/token", api.call("POST", "/connect/token", &FORM, form).await)
}

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

fn tenant(server: &TestServer) -> Uuid {
    server.gateway.identity().directory().account(ACCOUNT).unwrap().uuid()
}

/// Calls with a token, as the vendor's client does.
#[derive(Clone)]
struct Client {
    api: Api,
    authorization: String,
}

impl Client {
    async fn of(server: &TestServer, secret: &str) -> Self {
        let reply = token_of(&server.api(), tenant(server), secret).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Self { api: server.api(), authorization: format!("Bearer {}", reply.json()["access_token"].as_str().unwrap()) }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        let headers = [("authorization", self.authorization.as_str()), ("content-type", "application/json")];
        held(method, path, self.api.call(method, path, &headers, body).await)
    }

    async fn good(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.call(method, path, &body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        reply.json()
    }

    /// The status and the codes of a refusal.
    async fn refused(&self, method: &str, path: &str, body: impl ToString) -> (u16, Vec<u64>) {
        codes(&self.call(method, path, &body.to_string()).await)
    }

    async fn establish(&self, binding: &str) -> Value {
        let body = json!({"integrationId": SHOP, "binding": binding, "channelType": "Direct"});
        self.good("POST", ESTABLISH, body).await
    }

    /// Establishes a conversation; its id.
    async fn open(&self, binding: &str) -> String {
        id(&self.establish(binding).await)
    }

    async fn say(&self, conversation: &str, message: Value) -> Value {
        self.good("POST", &format!("{CUSTOMER}/{conversation}"), json!({"message": message})).await
    }

    async fn answer(&self, conversation: &str, integration: &str, message: Value) -> Value {
        let body = json!({"sender": {"integrationId": integration}, "message": message});
        self.good("POST", &format!("{BUSINESS}/{conversation}"), body).await
    }

    async fn poll(&self, conversation: &str, kind: &str, after: i64) -> Vec<Value> {
        let found = self.good("GET", &format!("{ACTIVITIES}/{conversation}?type={kind}&leid={after}"), Value::Null).await;
        found.as_array().unwrap().clone()
    }
}

const ESTABLISH: &str = "/api/v1/conversations/establish";
const CONVERSATIONS: &str = "/api/v1/conversations";
const ACTIVITIES: &str = "/api/v1/interactions/activities";
const CUSTOMER: &str = "/inbound/customer/v1/direct/activity";
const VISITOR: &str = "/inbound/customer/v1/web-chat";
const BUSINESS: &str = "/inbound/business/v1/direct/activity";
const UNKNOWN: &str = "64200563-9452-4be2-9fca-01a1f880b71c";

fn codes(reply: &Reply) -> (u16, Vec<u64>) {
    let body = reply.json();
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("{}", reply.text));
    (reply.status, errors.iter().map(|error| error["code"].as_u64().unwrap()).collect())
}

fn id(established: &Value) -> String {
    established["conversationId"].as_str().unwrap_or_else(|| panic!("{established}")).to_owned()
}

fn text(said: &str) -> Value {
    json!({"type": "text", "text": said})
}

fn guid(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 36 && Uuid::try_parse(text).is_ok())
}

#[tokio::test]
async fn a_program_gets_a_token_for_its_secret_and_hears_in_oauths_words_why_not() {
    let server = gateway().await;
    let api = server.api();
    let reply = token_of(&api, tenant(&server), SECRET).await;
    let token = reply.json();
    assert_eq!(
        (&token["expires_in"], &token["token_type"], &token["scope"]),
        (&json!(2_592_000), &json!("Bearer"), &json!("hubster-engine-api"))
    );
    assert_eq!((reply.status, &reply.headers["cache-control"]), (200, &"no-store".parse().unwrap()));
    assert_eq!(token.as_object().unwrap().len(), 4);
    let shop: Uuid = TENANT.parse().unwrap();
    assert_eq!(token_of(&api, shop, "a-secret-of-the-shop").await.status, 200, "by the tenant's id of the file");
    let own = format!("hubster.engine.api.{}", tenant(&server).simple());
    for (form, error) in [
        (String::new(), "invalid_request"),
        ("{\"grant_type\": \"client_credentials\"}".to_owned(), "invalid_request"),
        (format!("grant_type=client_credentials&client_id={own}"), "invalid_request"),
        (format!("grant_type=client_credentials&client_secret={SECRET}"), "invalid_request"),
        (format!("grant_type=password&client_id={own}&client_secret={SECRET}"), "unsupported_grant_type"),
        (format!("grant_type=client_credentials&client_id={own}&client_secret=wrong"), "invalid_client"),
        (format!("grant_type=client_credentials&client_id={own}&client_secret=a-secret-of-the-shop"), "invalid_client"),
        (format!("grant_type=client_credentials&client_id={own}&client_secret=a-key-of-another-dialect"), "invalid_client"),
        (format!("grant_type=client_credentials&client_id=hubster.engine.api.x&client_secret={SECRET}"), "invalid_client"),
        (format!("grant_type=client_credentials&client_id=hubster.portal.api.{}&client_secret={SECRET}", shop.simple()), "invalid_client"),
        ("grant_type=password&client_id=hubster.portal&username=a&password=b".to_owned(), "invalid_client"),
    ] {
        let reply = held("POST", "/connect/token", api.call("POST", "/connect/token", &FORM, form.clone()).await);
        assert_eq!((reply.status, &reply.json()["error"]), (400, &json!(error)), "{form}: {}", reply.text);
        assert!(reply.json()["error_description"].as_str().is_some_and(|text| text.len() > 10));
        let is_portals = form.contains("hubster.portal");
        assert_eq!(reply.text.contains("portal is not served"), is_portals, "{form}");
    }
    let large = "a".repeat(70 * 1024);
    assert_eq!(held("POST", "/connect/token", api.call("POST", "/connect/token", &FORM, large).await).status, 413);
    assert_eq!(api.get("/connect/token").await.status, 405);
}

#[tokio::test]
async fn guesses_at_secrets_are_slowed_down_and_calls_are_counted() {
    let server =
        TestServer::with(&config("[limits]\nlogins_per_minute = 2\n").replace("per_second = 100000", "per_second = 1\nburst = 3")).await;
    let api = server.api();
    let client = Client::of(&server, SECRET).await;
    let path = format!("{CONVERSATIONS}/{UNKNOWN}");
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        seen.insert(client.call("GET", &path, "").await.status);
    }
    assert_eq!(seen, BTreeSet::from([404, 429]));
    assert_eq!(codes(&client.call("GET", &path, "").await), (429, vec![110]));
    let statuses = [
        token_of(&api, tenant(&server), "x").await,
        token_of(&api, tenant(&server), "y").await,
        token_of(&api, tenant(&server), "z").await,
    ];
    assert_eq!(statuses.each_ref().map(|reply| reply.status), [400, 400, 429]);
    assert_eq!(statuses[2].json()["error"], "temporarily_unavailable");
}

#[tokio::test]
async fn a_binding_names_one_open_conversation() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    let given = json!({"profile": {"full name": "Visitor One", "phone": "416-555-0001", "tier": "gold"}, "additional": {"order": "A-17"}});
    let asked = json!({"integrationId": SHOP, "binding": "customer-81", "channelType": 2000, "properties": given});
    let new = client.good("POST", ESTABLISH, asked.clone()).await;
    let wanted = json!({"profile": {"device": "Direct", "full name": "Visitor One", "phone": "416-555-0001", "tier": "gold"}, "additional": {"order": "A-17"}});
    assert_eq!(new["properties"], wanted);
    assert_eq!((&new["isNew"], &new["hubId"], &new["integrationId"]), (&json!(true), &json!(HUB), &json!(SHOP)));
    assert_eq!(new["tenantId"], tenant(&server).to_string());
    assert!(guid(&new["conversationId"]), "{new}");
    assert_eq!(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, new["tokenId"].as_str().unwrap()).unwrap().len(), 16);
    let opened = new["openedDateTime"].as_str().unwrap();
    assert!(opened.len() == "2026-11-20T10:29:07.4849310Z".len() && opened.ends_with('Z'), "{opened}");
    assert_eq!(new.as_object().unwrap().len(), 8);

    // Again, as the vendor's client writes it, which asks with other properties.
    let again = json!({"IntegrationId": SHOP.to_uppercase(), "Binding": "customer-81", "ChannelType": "direct",
        "Properties": {"Profile": {"email": "one@shop.example"}, "Additional": null}, "Other": 1});
    let found = client.good("POST", ESTABLISH, again).await;
    for name in ["conversationId", "tokenId", "openedDateTime", "properties"] {
        assert_eq!(found[name], new[name], "{name}");
    }
    assert_eq!(found["isNew"], false);
    // What was new about the customer is known at every desk.
    let key = [("api-key", "a-key-of-another-dialect")];
    let contacts = server.api().call("GET", "/v2/contacts", &key, "").await.json()["data"].clone();
    let contact = &contacts[0];
    assert_eq!(
        [&contact["first_name"], &contact["last_name"], &contact["email"], &contact["mobile_phone"]],
        [&json!("Visitor"), &json!("One"), &json!("one@shop.example"), &json!("416-555-0001")]
    );

    // Every way to write the channel.
    for (place, channel) in [json!(1), json!("2000"), json!("1"), json!("DIRECT"), json!("WebChat")].into_iter().enumerate() {
        let body = json!({"integrationId": SHOP, "binding": format!("b-{place}"), "channelType": channel});
        assert_eq!(client.good("POST", ESTABLISH, body).await["isNew"], true, "{channel}");
    }

    // Who says nothing gets a name, which stays the same.
    let unnamed = client.establish("nobody").await;
    let profile = unnamed["properties"]["profile"].as_object().unwrap();
    assert_eq!((profile.len(), &profile["device"], &unnamed["properties"]["additional"]), (2, &json!("Direct"), &json!({})));
    assert!(profile["full name"].as_str().unwrap().contains(' '));

    // Closed, its binding begins another, and the old one says when it ended.
    let grace = server.api().agent("grace", "3").await;
    let mut grace = grace;
    let first = id(&unnamed);
    let close = change("close", &first, json!([{"field": "ConversationStateField", "conversationState": "CLOSE"}]));
    assert_eq!(grace.ask(&close).await["code"], 200);
    let old = client.good("GET", &format!("{CONVERSATIONS}/{first}/established"), Value::Null).await;
    assert!(old["closedDateTime"].as_str().is_some_and(|text| text.ends_with('Z')), "{old}");
    let second = client.establish("nobody").await;
    assert_eq!((second["isNew"].as_bool(), &second["properties"]), (Some(true), &unnamed["properties"]));
    assert_ne!(id(&second), first);
    assert_eq!(client.refused("POST", &format!("{CUSTOMER}/{first}"), json!({"message": text("late")})).await, (400, vec![6_501]));

    // Kept over a restart, and so is the token.
    let server = server.restart().await;
    let client = Client { api: server.api(), ..client };
    let kept = client.good("POST", ESTABLISH, asked).await;
    assert_eq!(
        (kept["isNew"].as_bool(), &kept["conversationId"], &kept["tokenId"]),
        (Some(false), &new["conversationId"], &new["tokenId"])
    );
}

#[tokio::test]
async fn two_who_establish_at_once_get_one_conversation() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    for round in 0..10 {
        let binding = format!("race-{round}");
        let all = futures::future::join_all((0..8).map(|_| client.establish(&binding))).await;
        let ids: BTreeSet<_> = all.iter().map(|one| (one["conversationId"].to_string(), one["tokenId"].to_string())).collect();
        assert_eq!((ids.len(), all.iter().filter(|one| one["isNew"] == true).count()), (1, 1));
    }
}

#[tokio::test]
async fn all_that_is_wrong_with_a_request_is_said_at_once() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    for (body, status, wrong) in [
        (String::new(), 400, vec![3_000]),
        ("null".into(), 400, vec![3_000]),
        ("[]".into(), 400, vec![3_000]),
        ("{".into(), 400, vec![3_000]),
        ("{}".into(), 400, vec![3_001, 3_001, 3_001]),
        (json!({"integrationId": null, "binding": "", "channelType": null}).to_string(), 400, vec![3_001, 3_001, 3_001]),
        (json!({"integrationId": "x", "binding": "b", "channelType": 2000}).to_string(), 400, vec![3_002]),
        (json!({"integrationId": 7, "binding": {}, "channelType": "Fax"}).to_string(), 400, vec![3_002, 212, 206]),
        (json!({"integrationId": SHOP, "binding": "b".repeat(256), "channelType": 1}).to_string(), 400, vec![212]),
        (json!({"integrationId": SHOP, "binding": "b", "channelType": "Line"}).to_string(), 400, vec![206]),
        (json!({"integrationId": WEB, "binding": "b", "channelType": "Direct"}).to_string(), 400, vec![206]),
        (json!({"integrationId": ADA, "binding": "b", "channelType": "Direct"}).to_string(), 400, vec![206]),
        (
            json!({"integrationId": SHOP, "binding": "b", "channelType": 1, "properties": {"profile": {"a": []}}}).to_string(),
            400,
            vec![206],
        ),
        (
            json!({"integrationId": SHOP, "binding": "b", "channelType": 1, "properties": {"a": {"b": "x".repeat(9_000)}}}).to_string(),
            400,
            vec![212],
        ),
        (json!({"integrationId": UNKNOWN, "binding": "b", "channelType": 2000}).to_string(), 404, vec![6_000]),
        (json!({"integrationId": SHOPS_OWN, "binding": "b", "channelType": 2000}).to_string(), 404, vec![6_000]),
        (json!({"integrationId": PAUSED, "binding": "b", "channelType": 2000}).to_string(), 400, vec![6_503]),
        (json!({"integrationId": GONE, "binding": "b", "channelType": 2000}).to_string(), 400, vec![6_502]),
    ] {
        assert_eq!(client.refused("POST", ESTABLISH, &body).await, (status, wrong), "{body}");
    }
    // A binding may be a number, as keys in databases are.
    let body = json!({"integrationId": SHOP, "binding": 81, "channelType": 2000});
    let one = client.good("POST", ESTABLISH, body).await;
    assert_eq!(client.open("81").await, id(&one));
}

#[tokio::test]
async fn conversations_are_looked_up_by_those_whose_they_are() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    let new = client.establish("customer-81").await;
    let conversation = id(&new);
    let shown = client.good("GET", &format!("{CONVERSATIONS}/{conversation}"), Value::Null).await;
    let opened = new["openedDateTime"].as_str().unwrap().trim_end_matches('Z');
    let integration = &shown["integration"];
    let dates = [&integration["created"], &integration["modified"], &integration["hub"]["created"], &integration["hub"]["modified"]];
    assert!(dates.iter().all(|date| date.as_str().unwrap().len() == opened.len()), "{dates:?}");
    let date = dates[0].clone();
    let hub = json!({"hubId": HUB, "tenantId": tenant(&server), "name": "Support", "description": "Support hub", "statusId": 2000,
        "created": dates[2], "modified": dates[3]});
    let whole = json!({"conversationId": conversation, "integrationId": SHOP, "tokenId": new["tokenId"], "properties": new["properties"],
        "openedDateTime": opened,
        "integration": {"integrationId": SHOP, "hubId": HUB, "hub": hub, "integrationTypeId": "Customer", "channelId": "Direct",
            "name": "Shop app", "statusId": 3000, "created": date, "modified": dates[1]}});
    assert_eq!(shown, whole);
    let mut established = new.clone();
    established["isNew"] = false.into();
    assert_eq!(client.good("GET", &format!("{CONVERSATIONS}/{conversation}/established"), Value::Null).await, established);
    let second = client.open("customer-82").await;
    let list = client.good("GET", &format!("{CONVERSATIONS}/hubs/{HUB}/established"), Value::Null).await;
    let ids: Vec<_> = list.as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, [second.clone(), conversation.clone()], "the most recently changed first");

    // Others' are not there: another tenant's, and what was not established here.
    let ann = server.api().speaker("ann").await;
    let native = ann.open().await;
    let shop = token_of(&server.api(), TENANT.parse().unwrap(), "a-secret-of-the-shop").await.json();
    let other = Client { api: server.api(), authorization: format!("bearer {}", shop["access_token"].as_str().unwrap()) };
    for (who, one) in
        [(&client, native.as_str()), (&client, UNKNOWN), (&client, "not-a-guid"), (&client, "0"), (&other, conversation.as_str())]
    {
        for path in
            [format!("{CONVERSATIONS}/{one}"), format!("{CONVERSATIONS}/{one}/established"), format!("{ACTIVITIES}/{one}?type=Agent")]
        {
            assert_eq!(who.refused("GET", &path, "").await, (404, vec![6_500]), "{path}");
        }
        assert_eq!(who.refused("POST", &format!("{CUSTOMER}/{one}"), json!({"message": text("x")})).await, (404, vec![6_500]), "{one}");
    }
    assert_eq!(other.refused("GET", &format!("{CONVERSATIONS}/hubs/{HUB}/established"), "").await, (404, vec![5_500]));
    assert_eq!(client.refused("GET", &format!("{CONVERSATIONS}/hubs/x/established"), "").await, (404, vec![5_500]));
    let without = Client { api: server.api(), authorization: "Bearer x.y.z".into() };
    for who in [&without, &Client { authorization: client.authorization.replace("Bearer", "Basic"), ..client.clone() }] {
        let reply = who.call("GET", &format!("{CONVERSATIONS}/{conversation}"), "").await;
        assert_eq!((codes(&reply), &reply.headers["www-authenticate"]), ((401, vec![102]), &"Bearer".parse().unwrap()));
    }
    assert_eq!(server.api().call("GET", &format!("{CONVERSATIONS}/{conversation}"), &[], "").await.status, 401);
    // A paused integration and one that was deleted show themselves as such.
    let admin = server.gateway.identity();
    let account = admin.directory().account(ACCOUNT).unwrap();
    let shop_id = SHOP.parse().unwrap();
    admin
        .edit_thing(&account, shop_id, None, |shop: &tieline::things::Integration| {
            Ok(tieline::things::Integration { state: tieline::things::IntegrationState::Paused, ..shop.clone() })
        })
        .await
        .unwrap();
    let paused = client.good("GET", &format!("{CONVERSATIONS}/{conversation}"), Value::Null).await;
    assert_eq!(paused["integration"]["statusId"], 3002);
    assert_eq!(client.refused("POST", &format!("{CUSTOMER}/{conversation}"), json!({"message": text("x")})).await, (400, vec![6_503]));
    admin.delete_thing::<tieline::things::Integration>(&account, shop_id, None).await.unwrap();
    let gone = client.good("GET", &format!("{CONVERSATIONS}/{conversation}"), Value::Null).await;
    assert_eq!((&gone["integration"]["statusId"], &gone["integration"]["name"]), (&json!(3001), &json!("Shop app")));
    assert_eq!(client.refused("POST", &format!("{CUSTOMER}/{conversation}"), json!({"message": text("x")})).await, (400, vec![6_502]));
}

#[tokio::test]
async fn what_is_said_is_read_by_everybody_on_either_side() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    let new = client.establish("customer-81").await;
    let conversation = id(&new);
    // As the vendor's client sends it.
    let sent = client
        .good(
            "POST",
            &format!("{CUSTOMER}/{conversation}"),
            json!({"isEcho": false, "externalId": "order-17", "message": {"Text": "hi", "Type": "text"}}),
        )
        .await;
    let members: Vec<_> = sent.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["conversationId", "eventId", "externalId", "hubId", "integrationId", "interactionId", "status"]);
    assert_eq!((&sent["status"], &sent["hubId"], &sent["integrationId"]), (&json!(200), &json!(HUB), &json!(SHOP)));
    assert!(guid(&sent["interactionId"]));
    // An agent on another desk reads it as text, and answers there.
    let mut ada = server.api().agent("ada", "3").await;
    ada.follow(&conversation, 0).await;
    assert_eq!(ada.events(1).await, [(0, "hi".into())]);
    assert_eq!(ada.ask(&add_agent("join", &conversation, "ASSIGNED_AGENT")).await["code"], 200);
    assert_eq!(ada.ask(&publish("p", &conversation, "What can I do?")).await["code"], 200);
    let all = client.poll(&conversation, "Agent", 0).await;
    let business = format!("{conversation}.{ADA}");
    let customer = json!({"integrationId": SHOP, "integrationType": "Customer", "channelType": "Direct", "tokenId": new["tokenId"]});
    let agent = json!({"integrationId": ADA, "integrationType": "Agent", "channelType": "Direct", "tokenId": business});
    let first = json!({"type": "message", "eventTrigger": "message:customer", "eventId": sent["eventId"], "externalId": "order-17", "isEcho": false,
        "interactionId": sent["interactionId"], "flowProcess": "Default", "sender": customer, "recipient": agent, "message": text("hi")});
    assert_eq!((all.len(), &all[0]), (2, &first));
    let second = &all[1];
    assert_eq!(second["message"], text("What can I do?"));
    assert_eq!((&second["eventTrigger"], &second["sender"], &second["recipient"]), (&json!("message:agent"), &agent, &customer));
    assert!(second["eventId"].as_i64() > first["eventId"].as_i64());
    // The bound is not included.
    assert_eq!(client.poll(&conversation, "customer", sent["eventId"].as_i64().unwrap()).await, std::slice::from_ref(second));
    assert_eq!(client.poll(&conversation, "AGENT", second["eventId"].as_i64().unwrap()).await, Vec::<Value>::new());
    assert_eq!(client.poll(&conversation, "Customer", 0).await, [first, second.clone()], "to whom it goes does not hang on who reads");
    // A bot reads what customers say, and not what agents do.
    let bots = client.poll(&conversation, "Bot", 0).await;
    assert_eq!(
        (bots.len(), &bots[0]["recipient"]["integrationId"], &bots[0]["recipient"]["integrationType"]),
        (1, &json!(BOT), &json!("Bot"))
    );

    // Every kind of message comes back as it was sent, and is words to others.
    let link = "https://shop.example/a";
    let kinds = [
        json!({"type": "text", "text": "Pick", "actions": [{"type": "reply", "title": "Red", "payload": {"Url": "kept"}}], "channels": [{"type": "Line", "metadata": [{"key": "a", "value": "b"}]}]}),
        json!({"type": "youtube", "url": link}),
        json!({"type": "vimeo", "url": link}),
        json!({"type": "video", "url": link, "label": "Film", "mimeType": "video/mp4", "size": 17}),
        json!({"type": "audio", "url": link}),
        json!({"type": "image", "url": link, "title": "A shoe", "alt": "shoe"}),
        json!({"type": "attachment", "label": "Bill", "mimeType": "application/pdf", "url": link}),
        json!({"type": "location", "latitude": 43.65, "longitude": -79.38}),
        json!({"type": "contact", "title": "Ann", "properties": [{"key": "phone", "value": "1", "type": "text"}]}),
        json!({"type": "card", "title": "Shoes", "url": link, "urlType": "image"}),
    ];
    let lists = [
        json!({"type": "carousel", "items": [{"title": "One"}]}),
        json!({"type": "list", "items": [{"title": "Two"}], "actions": [{"type": "link", "url": link}]}),
    ];
    let after = second["eventId"].as_i64().unwrap();
    for message in &kinds {
        client.say(&conversation, message.clone()).await;
    }
    for message in &lists {
        client.answer(&conversation, ADA, message.clone()).await;
    }
    let read: Vec<Value> = client.poll(&conversation, "Customer", after).await.iter().map(|one| one["message"].clone()).collect();
    assert_eq!(read, [kinds.as_slice(), lists.as_slice()].concat());
    let words: Vec<String> = ada.events(13).await.into_iter().map(|(_, text)| text).collect();
    assert!(
        words.contains(&format!("Bill\n{link}")) && words.contains(&"43.65, -79.38".to_owned()) && words.contains(&"One".to_owned()),
        "{words:?}"
    );
    assert!(words.iter().all(|text| !text.is_empty()), "{words:?}");
}

#[tokio::test]
async fn a_file_of_another_desk_is_an_attachment_at_an_address_that_is_good_for_a_while() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    let conversation = client.open("customer-81").await;
    client.say(&conversation, text("hi")).await;
    let mut ada = server.api().agent("ada", "3").await;
    assert_eq!(ada.ask(&add_agent("join", &conversation, "ASSIGNED_AGENT")).await["code"], 200);
    let bytes = b"%PDF-1.4 a bill\n%%EOF".to_vec();
    let wanted = request("u", "ms.GenerateURLForUploadFile", json!({"fileSize": bytes.len(), "fileType": "PDF"}));
    let url = ada.ask(&wanted).await["body"].clone();
    let put = reqwest::Client::new().put(server.api().url(&signed(&url))).body(bytes.clone()).send().await.unwrap();
    assert_eq!(put.status(), 201);
    let message = json!({"relativePath": url["relativePath"], "fileType": "PDF", "caption": "Bill"});
    let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message});
    assert_eq!(ada.ask(&request("p", "ms.PublishEvent", json!({"dialogId": conversation, "event": event}))).await["code"], 200);
    let rich = json!({"type": "RichContentEvent", "content": {"type": "vertical", "elements": [{"type": "text", "text": "Which?"}, {"type": "button", "title": "This"}]}});
    assert_eq!(ada.ask(&request("r", "ms.PublishEvent", json!({"dialogId": conversation, "event": rich}))).await["code"], 200);
    let all = client.poll(&conversation, "Customer", 0).await;
    let file = &all[1]["message"];
    assert_eq!((&file["type"], &file["label"], &file["mimeType"]), (&json!("attachment"), &json!("Bill"), &json!("application/pdf")));
    let got = reqwest::get(file["url"].as_str().unwrap()).await.unwrap();
    assert_eq!((got.status().as_u16(), got.bytes().await.unwrap().to_vec()), (200, bytes));
    assert_eq!(all[2]["message"], text("Which?\nThis"));
}

#[tokio::test]
async fn agents_come_when_they_write_and_bots_beside_them() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    let conversation = client.open("customer-81").await;
    client.say(&conversation, text("hi")).await;
    let stored = async || server.gateway.store().conversation(conversation.as_str().into()).await.unwrap().unwrap();
    let roles = async || -> BTreeSet<(String, String)> {
        let found = stored().await;
        let people = found.details.participants.iter();
        people.map(|one| (one.person.user().map_or("customer".into(), ToString::to_string), one.role.as_str().to_owned())).collect()
    };
    let role = |user: &str, role: &str| (user.to_owned(), role.to_owned());
    let greeted = client.answer(&conversation, BOT, text("One moment")).await;
    assert_eq!(greeted["integrationId"], BOT);
    assert_eq!(roles().await, BTreeSet::from([role("customer", "CONSUMER"), role("1003", "BRAND_BOT")]));
    assert!(stored().await.waiting.is_some(), "an agent is still looked for");
    client.answer(&conversation, ADA, text("Hello, I am Ada")).await;
    client.answer(&conversation, GRACE, text("And I am Grace")).await;
    let expected = [("customer", "CONSUMER"), ("1001", "ASSIGNED_AGENT"), ("1002", "AGENT"), ("1003", "BRAND_BOT")];
    assert_eq!(roles().await, expected.iter().map(|(user, name)| role(user, name)).collect());
    let senders: Vec<_> = client
        .poll(&conversation, "Customer", 0)
        .await
        .iter()
        .map(|one| (one["eventTrigger"].clone(), one["sender"]["integrationId"].clone()))
        .collect();
    let pair = |trigger: &str, from: &str| (json!(format!("message:{trigger}")), json!(from));
    assert_eq!(senders, [pair("customer", SHOP), pair("bot", BOT), pair("agent", ADA), pair("agent", GRACE)]);

    // Two who come at once are both there.
    for round in 0..5 {
        let conversation = client.open(&format!("both-{round}")).await;
        let hello = text("hello");
        tokio::join!(client.answer(&conversation, ADA, hello.clone()), client.answer(&conversation, GRACE, hello.clone()));
        assert_eq!(client.poll(&conversation, "Agent", 0).await.len(), 2);
    }

    // A key of an agent writes as that agent alone.
    let adas = Client::of(&server, "a-secret-of-ada").await;
    adas.answer(&conversation, ADA, text("Me again")).await;
    let path = format!("{BUSINESS}/{conversation}");
    let as_other = json!({"sender": {"integrationId": GRACE}, "message": text("not me")});
    assert_eq!(adas.refused("POST", &path, as_other).await, (403, vec![110]));
    let wanted = json!({"integrationId": SHOP, "binding": "customer-81", "channelType": 2000});
    for (path, body) in [(ESTABLISH.to_owned(), wanted), (format!("{CUSTOMER}/{conversation}"), json!({"message": text("not me")}))] {
        assert_eq!(adas.refused("POST", &path, body).await, (403, vec![110]), "an agent speaks for no customer");
    }
    for (sender, status, wrong) in [
        (json!({}), 400, 5_001),
        (json!({"integrationId": "x"}), 400, 5_020),
        (json!({"integrationId": UNKNOWN}), 404, 6_000),
        (json!({"integrationId": ELSEWHERE}), 400, 5_002),
        (json!({"integrationId": SHOP}), 400, 5_002),
    ] {
        let body = json!({"sender": sender, "message": text("x")});
        assert_eq!(client.refused("POST", &path, body).await, (status, vec![wrong]), "{sender}");
    }
    let command = json!({"sender": {"integrationId": ADA}, "message": text("::close")});
    assert_eq!(client.refused("POST", &path, command).await, (400, vec![9_000]));
}

#[tokio::test]
async fn activities_that_are_wrong_are_refused_and_nothing_is_written() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    let conversation = client.open("customer-81").await;
    let path = format!("{CUSTOMER}/{conversation}");
    for (body, wrong) in [
        (String::new(), vec![5_000]),
        ("{".into(), vec![5_000]),
        ("{}".into(), vec![5_003]),
        (json!({"message": text("a"), "event": {"type": "seen"}}).to_string(), vec![5_004]),
        (json!({"type": "letter", "message": text("a")}).to_string(), vec![5_002]),
        (json!({"message": {"type": "text"}}).to_string(), vec![5_023]),
        (json!({"message": {"type": "text", "items": []}}).to_string(), vec![5_015]),
        (json!({"message": {"type": "attachment", "label": "x"}}).to_string(), vec![5_001, 5_001]),
        (json!({"message": {"type": "location"}}).to_string(), vec![5_024]),
        (json!({"message": {"type": "location", "latitude": "x", "longitude": 1}}).to_string(), vec![5_021]),
        (json!({"message": {"type": "carousel", "items": [{"title": "x"}]}}).to_string(), vec![5_002]),
        (json!({"message": text(&"x".repeat(8_001))}).to_string(), vec![212]),
        (json!({"event": {"type": "payload"}}).to_string(), vec![5_001, 5_001]),
    ] {
        assert_eq!(client.refused("POST", &path, &body).await, (400, wrong), "{body:.80}");
    }
    assert_eq!(client.poll(&conversation, "Customer", 0).await, Vec::<Value>::new());
    for (query, wrong) in [("", 200), ("?type=", 200), ("?type=System", 206), ("?type=Agent&leid=x", 201), ("?type=Agent&leid=-1", 212)] {
        assert_eq!(client.refused("GET", &format!("{ACTIVITIES}/{conversation}{query}"), "").await, (400, vec![wrong]), "{query}");
    }
}

#[tokio::test]
async fn events_are_receipts_typing_and_payloads() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    let conversation = client.open("customer-81").await;
    client.say(&conversation, text("hi")).await;
    let mut ada = server.api().agent("ada", "3").await;
    ada.follow(&conversation, 0).await;
    assert_eq!(ada.events(1).await.len(), 1);
    assert_eq!(ada.ask(&add_agent("join", &conversation, "ASSIGNED_AGENT")).await["code"], 200);
    let path = format!("{CUSTOMER}/{conversation}");
    let event = |event: Value| json!({"type": "event", "event": event});
    let change = async |ada: &mut Ws| ada.notification("MessagingEventNotification").await["body"]["changes"][0]["event"].clone();
    // Typing is shown, and not kept.
    let sent = client.good("POST", &path, event(json!({"type": "typing_on"}))).await;
    assert!(sent["eventId"].as_i64() > Some(0) && sent.get("interactionId").is_none(), "{sent}");
    let shown = change(&mut ada).await;
    assert_eq!((&shown["type"], &shown["chatState"]), (&json!("ChatStateEvent"), &json!("COMPOSING")));
    client.good("POST", &path, event(json!({"type": "typing_off"}))).await;
    assert_eq!(change(&mut ada).await["chatState"], "ACTIVE");
    // What was seen is said once.
    assert_eq!(ada.ask(&publish("p", &conversation, "Hello")).await["code"], 200);
    assert_eq!(change(&mut ada).await["message"], "Hello");
    client.good("POST", &path, event(json!({"type": "seen"}))).await;
    let receipt = change(&mut ada).await;
    assert_eq!((&receipt["status"], &receipt["sequenceList"]), (&json!("READ"), &json!([1])));
    client.good("POST", &path, event(json!({"type": "seen"}))).await;
    // A payload is kept as it is, and is JSON to others.
    let payload = json!({"type": "payload", "payloadType": "cart", "payload": {"Items": [1, null]}});
    let sent = client.good("POST", &path, json!({"event": payload, "externalId": "e-1"})).await;
    assert_eq!((sent.get("interactionId"), &sent["externalId"]), (None, &json!("e-1")));
    let shown = change(&mut ada).await;
    assert_eq!(serde_json::from_str::<Value>(shown["message"].as_str().unwrap()).unwrap(), payload["payload"]);
    let all = client
        .api
        .call("GET", &format!("{ACTIVITIES}/{conversation}?type=agent"), &[("authorization", &client.authorization)], "")
        .await
        .json();
    let last = &all[2];
    assert_eq!(
        (all.as_array().unwrap().len(), &last["type"], &last["event"], &last["eventId"]),
        (3, &json!("event"), &payload, &sent["eventId"])
    );
    assert!(last.get("eventTrigger").is_none() && last.get("interactionId").is_none());
    // An agent who has not come has nothing to say of it, and comes by typing.
    let business = |event: Value| json!({"sender": {"integrationId": GRACE}, "event": event});
    let path = format!("{BUSINESS}/{conversation}");
    for kind in ["seen", "typing_off"] {
        client.good("POST", &path, business(json!({"type": kind}))).await;
    }
    let taking_part =
        async || server.gateway.store().conversation(conversation.as_str().into()).await.unwrap().unwrap().details.participants.len();
    assert_eq!(taking_part().await, 2);
    client.good("POST", &path, business(json!({"type": "typing_on"}))).await;
    assert_eq!(taking_part().await, 3);
}

#[tokio::test]
async fn visitors_of_a_page_have_their_own_conversations_and_nobody_elses() {
    let server = TestServer::with(&config("[server]\nallowed_origins = [\"https://everywhere.example\"]\n\n")).await;
    let api = server.api();
    let path = format!("/api/v1/integrations/web-chat/token/{WEB}");
    let token = async |headers: &[(&str, &str)]| held("GET", &path, api.call("GET", &path, headers, "").await);
    let visitor = async |headers: &[(&str, &str)]| {
        let reply = token(headers).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!((&reply.json()["token_type"], &reply.json()["expires_in"]), (&json!("WebBearer"), &json!(2_592_000)));
        Client { api: api.clone(), authorization: format!("WebBearer {}", reply.json()["access_token"].as_str().unwrap()) }
    };
    let (ann, bob) = (visitor(&[("origin", PAGE)]).await, visitor(&[("origin", "https://everywhere.example")]).await);
    for headers in [vec![], vec![("origin", "https://evil.example")], vec![("origin", "null")]] {
        assert_eq!(codes(&token(&headers).await), (403, vec![101]), "{headers:?}");
    }
    for other in [SHOP, ADA, UNKNOWN, "x"] {
        let path = format!("/api/v1/integrations/web-chat/token/{other}");
        let reply = held("GET", &path, api.call("GET", &path, &[("origin", PAGE)], "").await);
        assert_eq!(codes(&reply), (404, vec![6_000]), "{other}");
    }
    let asked = json!({"integrationId": WEB, "binding": "visitor", "channelType": "WebChat"});
    let (anns, bobs) = (ann.good("POST", ESTABLISH, asked.clone()).await, bob.good("POST", ESTABLISH, asked.clone()).await);
    assert_ne!(id(&anns), id(&bobs), "the same binding of two visitors");
    assert_eq!((&anns["isNew"], &bobs["isNew"], &anns["properties"]["profile"]["device"]), (&json!(true), &json!(true), &json!("WebChat")));
    let queue = server.gateway.store().conversation(id(&anns).as_str().into()).await.unwrap().unwrap().details.queue.clone();
    assert_eq!(queue.as_str(), "77");
    // Who shows its token goes on as itself.
    let again = visitor(&[("origin", PAGE), ("authorization", &ann.authorization)]).await;
    assert_eq!(id(&again.good("POST", ESTABLISH, asked).await), id(&anns));
    ann.good("POST", &format!("{VISITOR}/{}", id(&anns)), json!({"message": text("hi")})).await;
    let engine = Client::of(&server, SECRET).await;
    engine.answer(&id(&anns), ADA, text("Hello")).await;
    assert_eq!(again.poll(&id(&anns), "Agent", 0).await.len(), 2);
    // And nobody else's.
    let shop = engine.open("customer-81").await;
    for one in [id(&anns), shop] {
        for path in
            [format!("{CONVERSATIONS}/{one}"), format!("{CONVERSATIONS}/{one}/established"), format!("{ACTIVITIES}/{one}?type=Customer")]
        {
            assert_eq!(bob.refused("GET", &path, "").await, (403, vec![101]), "{path}");
        }
        assert_eq!(bob.refused("POST", &format!("{VISITOR}/{one}"), json!({"message": text("x")})).await, (403, vec![101]));
    }
    assert_eq!(bob.refused("GET", &format!("{CONVERSATIONS}/{UNKNOWN}"), "").await, (404, vec![6_500]));
    let elsewhere = json!({"integrationId": SHOP, "binding": "b", "channelType": "Direct"});
    assert_eq!(bob.refused("POST", ESTABLISH, elsewhere).await, (403, vec![101]));
    assert_eq!(bob.refused("GET", &format!("{CONVERSATIONS}/hubs/{HUB}/established"), "").await, (403, vec![101]));
    let business = json!({"sender": {"integrationId": ADA}, "message": text("x")});
    assert_eq!(bob.refused("POST", &format!("{BUSINESS}/{}", id(&bobs)), business).await, (403, vec![101]));
    // A token is good for what it was given for, by its own word alone.
    for client in [&ann, &engine] {
        let (word, token) = client.authorization.split_once(' ').unwrap();
        let other = if word == "Bearer" { "WebBearer" } else { "Bearer" };
        let wrong = Client { api: api.clone(), authorization: format!("{other} {token}") };
        assert_eq!(wrong.refused("GET", &format!("{CONVERSATIONS}/{}", id(&anns)), "").await, (401, vec![102]));
    }
    // Who is revoked neither says nor reads anything.
    let account = server.gateway.identity().directory().account(ACCOUNT).unwrap();
    let conversation = server.gateway.conversation(&account.system(), &id(&anns).as_str().into()).await.unwrap();
    server.gateway.identity().set_revoked(&account.id, &conversation.details.consumer, true).await.unwrap();
    for path in ["", "/established"].map(|rest| format!("{CONVERSATIONS}/{}{rest}", id(&anns))) {
        assert_eq!(ann.refused("GET", &path, "").await, (403, vec![110]), "{path}");
    }
    assert_eq!(ann.refused("GET", &format!("{ACTIVITIES}/{}?type=Customer", id(&anns)), "").await, (403, vec![110]));
    assert_eq!(engine.poll(&id(&anns), "Agent", 0).await.len(), 2, "the brand does");

    // Pages may call from where they may be.
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        ];
        api.call("OPTIONS", ESTABLISH, &headers, "").await
    };
    for origin in [PAGE, "https://everywhere.example"] {
        let reply = preflight(origin).await;
        assert_eq!((reply.status, &reply.headers["access-control-allow-origin"]), (200, &origin.parse().unwrap()));
        assert!(reply.headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
        assert_eq!(reply.headers["access-control-allow-headers"], "authorization,content-type");
    }
    assert!(!preflight("https://evil.example").await.headers.contains_key("access-control-allow-origin"));
    let refused = api.call("GET", &format!("{CONVERSATIONS}/{UNKNOWN}"), &[("origin", PAGE)], "").await;
    assert_eq!(
        (refused.status, &refused.headers["access-control-allow-origin"]),
        (401, &PAGE.parse().unwrap()),
        "refusals can be read, too"
    );
}

#[tokio::test]
async fn whatever_goes_wrong_is_said_in_the_one_form() {
    let server = TestServer::with(&config("[limits]\nbody_timeout = \"300ms\"\n")).await;
    let api = server.api();
    let client = Client::of(&server, SECRET).await;
    for (method, path, status, code) in [
        ("GET", "/api/v1", 404, 105),
        ("GET", "/api/v1/nothing", 404, 105),
        ("GET", "/inbound/customer", 404, 105),
        ("GET", "/connect", 404, 105),
        ("GET", ESTABLISH, 405, 110),
        ("DELETE", "/api/v1/conversations/x", 405, 110),
        ("GET", CUSTOMER_ONE, 405, 110),
    ] {
        let reply = api.call(method, path, &[], "").await;
        assert_eq!((codes(&reply), &reply.json()["status"]), ((status, vec![code]), &json!(status)), "{method} {path}");
    }
    let large = json!({"binding": "x".repeat(70 * 1024)}).to_string();
    assert_eq!(client.refused("POST", ESTABLISH, &large).await, (413, vec![212]));
    // A body that does not come.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST {ESTABLISH} HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\ncontent-length: 100\r\n\r\n{{", client.authorization);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("ENG000108"), "{said}");
    // A body is read whatever it says that it is, and a GET may say that it has one.
    let body = json!({"integrationId": SHOP, "binding": "b", "channelType": 2000}).to_string();
    let headers = [("authorization", client.authorization.as_str()), ("content-type", "text/plain")];
    assert_eq!(api.call("POST", ESTABLISH, &headers, body).await.status, 200);
    // Who is revoked is not spoken for any more.
    let account = server.gateway.identity().directory().account(ACCOUNT).unwrap();
    let conversation = client.open("b").await;
    let consumer = server.gateway.store().conversation(conversation.as_str().into()).await.unwrap().unwrap().details.consumer.clone();
    server.gateway.identity().set_revoked(&account.id, &consumer, true).await.unwrap();
    let again = json!({"integrationId": SHOP, "binding": "b", "channelType": 2000});
    assert_eq!(client.refused("POST", ESTABLISH, again).await, (403, vec![110]));
    assert_eq!(client.refused("POST", &format!("{CUSTOMER}/{conversation}"), json!({"message": text("x")})).await, (403, vec![110]));
    let off = TestServer::with("[server]\ndialects = []\n\n").await;
    let reply = off.api().call("POST", ESTABLISH, &[], "").await;
    assert!(codes(&reply) == (404, vec![105]) && reply.text.contains("server.dialects"), "{}", reply.text);
}

const CUSTOMER_ONE: &str = "/inbound/customer/v1/direct/activity/x";

#[tokio::test]
async fn a_key_that_is_taken_away_ends_its_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let keys = |keys: &str| {
        let hub = "[[accounts.hubs]]\nid = \"h\"\nname = \"H\"\n";
        let usual = CONFIG.replacen("[accounts.survey]", &format!("{keys}{hub}[accounts.survey]"), 1);
        let usual = usual.replacen("id = \"demo\"\n", &format!("id = \"demo\"\nuuid = \"{TENANT}\"\n"), 1);
        format!("[internal]\nadmin_key = \"k\"\n{usual}")
    };
    let key = |secret: &str| format!("[[accounts.api_keys]]\ndialect = \"hubster\"\nkey = \"{secret}\"\nper_second = 1000\n");
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &keys(&(key("one") + &key("two")))).await;
    let api = server.api();
    let client = async |secret: &str| {
        let token = token_of(&api, TENANT.parse().unwrap(), secret).await.json();
        Client {
            api: api.clone(),
            authorization: format!("Bearer {}", token["access_token"].as_str().unwrap_or_else(|| panic!("{token}"))),
        }
    };
    let (one, two) = (client("one").await, client("two").await);
    let path = format!("{CONVERSATIONS}/{UNKNOWN}");
    assert_eq!((one.refused("GET", &path, "").await.0, two.refused("GET", &path, "").await.0), (404, 404));
    std::fs::write(dir.path().join("test.toml"), keys(&key("two"))).unwrap();
    assert_eq!(api.call("POST", "/admin/v1/reload", &[("authorization", "Bearer k")], "").await.status, 200);
    assert_eq!((one.refused("GET", &path, "").await, two.refused("GET", &path, "").await.0), ((401, vec![102]), 404));
}

/// The file size limit stands for a disk that is full.
#[tokio::test]
async fn a_disk_that_takes_no_more_is_told_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let limited = ["bash", "-c", "ulimit -f 2048; exec \"$0\" \"$@\""];
    let own = "[[accounts.integrations]]\nid = \"shop\"\nuuid = \"00000000-0000-0000-0000-000000000023\"\nname = \"S\"\nhub = \"h\"\n";
    let hub =
        "[[accounts.hubs]]\nid = \"h\"\nname = \"H\"\n[[accounts.api_keys]]\ndialect = \"hubster\"\nkey = \"one\"\nper_second = 100000\n";
    let text_of = CONFIG.replacen("[accounts.survey]", &format!("{hub}{own}[accounts.survey]"), 1);
    let text_of = text_of.replacen("id = \"demo\"\n", &format!("id = \"demo\"\nuuid = \"{TENANT}\"\n"), 1);
    let server = TestProcess::start_with(dir.path(), free_port(), &limited, &text_of).await;
    let api = server.api();
    let token = token_of(&api, TENANT.parse().unwrap(), "one").await.json();
    let client = Client { api, authorization: format!("Bearer {}", token["access_token"].as_str().unwrap()) };
    let conversation = client.open("b").await;
    let body = json!({"message": text(&"x".repeat(7_900))}).to_string();
    let mut sent = 0;
    let refused = loop {
        let reply = client.call("POST", &format!("{CUSTOMER}/{conversation}"), &body).await;
        if reply.status != 200 {
            break reply;
        }
        sent += 1;
        assert!(sent < 5_000, "the limit is not reached");
    };
    assert_eq!(codes(&refused), (503, vec![100]));
    // A smaller one may still have had room.
    let establishing = async |number: usize| {
        let properties = json!({"additional": {"note": "x".repeat(6_000)}});
        let body = json!({"integrationId": SHOP, "binding": format!("b-{number}"), "channelType": 2000, "properties": properties});
        client.call("POST", ESTABLISH, &body.to_string()).await
    };
    let mut number = 0;
    let refused = loop {
        number += 1;
        match establishing(number).await {
            reply if reply.status == 200 && number < 50 => {}
            reply => break reply,
        }
    };
    assert_eq!(codes(&refused), (503, vec![100]));
    assert_eq!(client.poll(&conversation, "Customer", 0).await.len(), sent, "what was answered is there");
}

#[tokio::test]
async fn a_long_conversation_is_read_in_parts_from_any_event_on() {
    let server = gateway().await;
    let client = Client::of(&server, SECRET).await;
    let conversation = client.open("customer-81").await;
    let path = format!("{CUSTOMER}/{conversation}");
    let numbers: Vec<usize> = (0..1_030).collect();
    for some in numbers.chunks(50) {
        let all = some.iter().map(|number| client.good("POST", &path, json!({"message": text(&number.to_string())})));
        futures::future::join_all(all).await;
    }
    let (mut read, mut after) = (Vec::new(), 0);
    loop {
        let some = client.poll(&conversation, "Agent", after).await;
        let Some(last) = some.last() else { break };
        assert!(some.len() <= 1_000);
        after = last["eventId"].as_i64().unwrap();
        read.extend(some);
    }
    let times: Vec<i64> = read.iter().map(|one| one["eventId"].as_i64().unwrap()).collect();
    assert_eq!(read.len(), numbers.len());
    assert!(times.windows(2).all(|two| two[0] < two[1]), "each has a time of its own");
    let said: BTreeSet<usize> = read.iter().map(|one| one["message"]["text"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(said.len(), numbers.len());
    for place in [0, 17, 512, 999, 1_028] {
        let behind = client.poll(&conversation, "Agent", times[place]).await;
        assert_eq!(behind.first(), read.get(place + 1), "{place}");
    }
}
