//! Tags, attributes, contact endpoints, flows and the like: what the file says, what an operator changes, and which of both
//! holds over restarts and reloads. And that no API key is shown.

use crate::support::*;
use serde_json::{Value, json};
use std::path::Path;

const TAGS: &str = "/admin/v1/accounts/demo/tags";

/// The usual configuration with more in its first account.
fn config(more: &str) -> String {
    let usual = CONFIG.replacen("[accounts.survey]", &format!("{more}\n[accounts.survey]"), 1);
    assert_ne!(usual, CONFIG);
    format!("{ADMIN}{usual}")
}

fn tag(id: &str, name: &str) -> String {
    format!("[[accounts.tags]]\nid = \"{id}\"\nname = \"{name}\"\n")
}

async fn call(api: &Api, method: &str, path: &str, body: Value) -> Reply {
    api.call(method, path, &ADMIN_KEY, if body.is_null() { String::new() } else { body.to_string() }).await
}

async fn see(api: &Api, path: &str) -> Value {
    let reply = call(api, "GET", path, Value::Null).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    reply.json()
}

/// The names of all tags, each with where it comes from.
async fn tags(api: &Api) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> = see(api, TAGS).await.as_array().unwrap().iter().map(|tag| (text(&tag["name"]), text(&tag["source"]))).collect();
    all.sort();
    all
}

fn list(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect()
}

async fn reload(dir: &Path, api: &Api, text: &str) -> Reply {
    std::fs::write(dir.join("test.toml"), text).unwrap();
    call(api, "POST", "/admin/v1/reload", Value::Null).await
}

#[tokio::test]
async fn the_file_and_what_an_operator_changed_hold_over_restarts_and_reloads_as_the_page_says() {
    let dir = tempfile::tempdir().unwrap();
    let text = config(&(tag("vip", "VIP") + &tag("late", "Late")));
    let mut server = TestProcess::start_with(dir.path(), free_port(), &[], &text).await;
    let api = server.api();
    assert_eq!(tags(&api).await, list(&[("Late", "file"), ("VIP", "file")]));
    let made = call(&api, "POST", TAGS, json!({"name": "Own", "color": "#1e90ff"})).await;
    assert_eq!((made.status, made.json()["source"].as_str()), (201, Some("running")), "{}", made.text);
    let all = see(&api, TAGS).await;
    let id = |name: &str| all.as_array().unwrap().iter().find(|tag| tag["name"] == name).unwrap()["id"].as_str().unwrap().to_owned();
    let (vip, late) = (format!("{TAGS}/{}", id("VIP")), format!("{TAGS}/{}", id("Late")));
    assert_eq!(call(&api, "PATCH", &vip, json!({"active": false})).await.json()["source"], "changed");
    assert_eq!(call(&api, "DELETE", &late, Value::Null).await.status, 200);
    let now = list(&[("Own", "running"), ("VIP", "changed")]);
    assert_eq!(tags(&api).await, now);
    // A kill, for what was answered is on disk.
    server.kill();
    let mut server = TestProcess::start_with(dir.path(), free_port(), &[], &text).await;
    let api = server.api();
    assert_eq!(tags(&api).await, now);
    assert_eq!(see(&api, &vip).await["active"], false);
    // A reload of the same leaves it, one with another entry takes that, and that alone.
    assert_eq!(reload(dir.path(), &api, &text).await.status, 200);
    assert_eq!(tags(&api).await, now);
    let changed = config(&(tag("vip", "V.I.P.") + &tag("late", "Late") + &tag("own", "own")));
    let said = reload(dir.path(), &api, &changed).await;
    assert!(said.status == 200 && said.text.contains("left out: accounts.demo: tags \\\"own\\\""), "{}", said.text);
    assert_eq!(tags(&api).await, list(&[("Own", "running"), ("V.I.P.", "file")]));
    assert_eq!(see(&api, &vip).await["active"], true);
    // What the file names twice changes nothing.
    let refused = reload(dir.path(), &api, &config(&(tag("vip", "X") + &tag("vip", "Y")))).await;
    assert!(refused.status == 409 && refused.text.contains("accounts.demo.tags.vip"), "{}", refused.text);
    assert!(server.end("TERM").success());
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config(&tag("late", "Later"))).await;
    let api = server.api();
    assert_eq!(tags(&api).await, list(&[("Later", "file"), ("Own", "running")]));
    assert_eq!(see(&api, &late).await["name"], "Later");
    let gone = see(&api, &format!("{TAGS}?deleted=true")).await;
    assert_eq!((gone.as_array().unwrap().len(), &gone[0]["name"], &gone[0]["deleted"]), (1, &json!("V.I.P."), &json!(true)));
    assert_eq!(see(&api, "/admin/v1/accounts/other/tags").await, json!([]));
}

#[tokio::test]
async fn each_kind_is_made_shown_replaced_changed_and_deleted_and_bad_calls_are_told_why() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    let at = |kind: &str| format!("/admin/v1/accounts/demo/{kind}");
    let make = async |kind: &str, body: Value| {
        let made = call(&api, "POST", &at(kind), body).await;
        assert_eq!(made.status, 201, "{kind}: {}", made.text);
        assert_eq!(made.headers["etag"], "\"1\"");
        made.json()
    };
    let mail = make("contact-endpoints", json!({"type": "email", "address": "support@shop.example"})).await;
    let hub = make("hubs", json!({"name": "Support"})).await;
    let path = |kind: &str, one: &Value| format!("{}/{}", at(kind), one["id"].as_str().unwrap());
    for (kind, body, patch) in [
        ("tags", json!({"name": "VIP", "active": true}), json!({"color": "#000000"})),
        (
            "attributes",
            json!({"entity": "contact", "identifier": "topic", "label": "Topic", "required": false, "archived": false, "deactivated": true,
                "input": {"type": "select", "options": [["Shipping", "Lost"], ["Other"]]}}),
            json!({"input": {"options": [["Other"]]}}),
        ),
        ("contact-endpoints", json!({"type": "telephony", "number": "+45 1234", "functionality": ["Sms"]}), json!({"name": "Phone"})),
        ("flows", json!({"name": "Mail", "channel": "Email", "contactEndpoint": mail["id"]}), json!({"channel": "WidgetChat"})),
        ("websites", json!({"name": "Shop", "url": "https://shop.example"}), json!({"url": "https://shop.example/new"})),
        ("audiences", json!({"name": "Returning"}), json!({"name": "New"})),
        ("bots", json!({"name": "Greeter"}), json!({"name": "Doorman"})),
        ("hubs", json!({"name": "Main"}), json!({"name": "Side", "description": "For friends"})),
        (
            "integrations",
            json!({"name": "Ada's desk", "hub": hub["id"], "kind": "agent", "channel": "Direct", "agent": "1001", "state": "active", "echo": true}),
            json!({"state": "paused"}),
        ),
    ] {
        let made = make(kind, body.clone()).await;
        let path = path(kind, &made);
        for (name, member) in body.as_object().unwrap() {
            assert_eq!(made[name], *member, "{kind}.{name}");
        }
        let patched = call(&api, "PATCH", &path, patch.clone()).await;
        assert_eq!((patched.status, &patched.json()["revision"]), (200, &json!(2)), "{kind}: {}", patched.text);
        for (name, member) in patch.as_object().unwrap().iter().filter(|(name, _)| *name != "input") {
            assert_eq!(patched.json()[name], *member, "{kind}.{name}");
        }
        // What was shown can be sent back.
        let put = call(&api, "PUT", &path, patched.json()).await;
        assert_eq!((put.status, &put.json()["revision"]), (200, &json!(3)), "{kind}: {}", put.text);
        assert_eq!(see(&api, &path).await, put.json());
        for (method, body) in [("PUT", json!({})), ("PATCH", json!({"nonsense": 1})), ("POST", json!({"id": "x"})), ("PUT", json!([]))] {
            let target = if method == "POST" { at(kind) } else { path.clone() };
            let refused = call(&api, method, &target, body).await;
            assert!(refused.status == 400 && refused.text.contains("not understood"), "{kind} {method}: {}", refused.text);
        }
        let stale = api.call("DELETE", &path, &[ADMIN_KEY[0], ("if-match", "\"2\"")], "").await;
        assert!(stale.status == 412 && stale.text.contains("revision is 3"), "{}", stale.text);
        assert_eq!(api.call("DELETE", &path, &[ADMIN_KEY[0], ("if-match", "three")], "").await.status, 400);
        let deleted = api.call("DELETE", &path, &[ADMIN_KEY[0], ("if-match", "\"3\"")], "").await;
        assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)), "{}", deleted.text);
        assert_eq!((see(&api, &path).await["deleted"].clone(), call(&api, "DELETE", &path, Value::Null).await.status), (json!(true), 404));
        let left = see(&api, &at(kind)).await;
        assert_eq!(left.as_array().unwrap().len(), usize::from(["contact-endpoints", "hubs"].contains(&kind)), "{kind}: {left}");
    }
    // What leads to what is there.
    for (body, said) in [
        (json!({"name": "Shop", "hub": "00000000-0000-0000-0000-000000000001"}), "there is no hub"),
        (json!({"name": "Shop", "hub": hub["id"], "queue": "99"}), "is no queue"),
        (json!({"name": "Desk", "hub": hub["id"], "kind": "agent", "agent": "9"}), "of no agent"),
        (json!({"name": "Desk", "hub": hub["id"], "kind": "agent"}), "agent goes with"),
    ] {
        let refused = call(&api, "POST", &at("integrations"), body.clone()).await;
        assert!(refused.status == 400 && refused.text.contains(said), "{body}: {}", refused.text);
    }
    let integration = make("integrations", json!({"name": "Shop", "hub": hub["id"]})).await;
    // Its conversations are known by the hub.
    let elsewhere = make("hubs", json!({"name": "Elsewhere"})).await;
    let refused = call(&api, "PATCH", &path("integrations", &integration), json!({"hub": elsewhere["id"]})).await;
    assert!(refused.status == 400 && refused.text.contains("stays at its hub"), "{}", refused.text);
    assert_eq!(call(&api, "DELETE", &path("hubs", &elsewhere), Value::Null).await.status, 200);
    let refused = call(&api, "DELETE", &path("hubs", &hub), Value::Null).await;
    assert!(refused.status == 409 && refused.text.contains("\\\"Shop\\\""), "{}", refused.text);
    assert_eq!(call(&api, "DELETE", &path("integrations", &integration), Value::Null).await.status, 200);
    assert_eq!(call(&api, "DELETE", &path("hubs", &hub), Value::Null).await.status, 200);
    // Who is needed or has another's name.
    let flow = make("flows", json!({"name": "Mail", "channel": "Email", "contactEndpoint": mail["id"]})).await;
    let refused = call(&api, "DELETE", &path("contact-endpoints", &mail), Value::Null).await;
    assert!(refused.status == 409 && refused.text.contains("\\\"Mail\\\""), "{}", refused.text);
    let again = call(&api, "POST", &at("contact-endpoints"), json!({"type": "email", "address": "Support@Shop.example"})).await;
    assert!(again.status == 409 && again.text.contains(mail["id"].as_str().unwrap()), "{}", again.text);
    assert_eq!(call(&api, "DELETE", &path("flows", &flow), Value::Null).await.status, 200);
    assert_eq!(call(&api, "DELETE", &path("contact-endpoints", &mail), Value::Null).await.status, 200);
    for (method, target, status) in [
        ("GET", "/admin/v1/accounts/none/tags", 404),
        ("GET", "/admin/v1/accounts/demo/dogs", 404),
        ("POST", "/admin/v1/accounts/demo/default-queue", 405),
        ("GET", "/admin/v1/accounts/demo/default-queue/x", 404),
        ("GET", "/admin/v1/accounts/demo/tags/x", 404),
        ("DELETE", "/admin/v1/accounts/demo/tags/x", 404),
        ("GET", "/admin/v1/accounts/demo/tags?deleted=perhaps", 400),
    ] {
        assert_eq!(call(&api, method, target, Value::Null).await.status, status, "{method} {target}");
    }
    assert_eq!(api.get(TAGS).await.status, 401);
    assert_eq!(see(&api, "/admin/v1/accounts/demo/revoked-consumers").await, json!([]), "it is no kind");
}

#[tokio::test]
async fn a_change_is_made_to_its_end_also_when_who_asked_for_it_hangs_up() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    // Whoever is gone before the call was read has asked for nothing, and asks again; the name is given once.
    let ask = async || {
        api.call_and_leave("POST", TAGS, &ADMIN_KEY, &json!({"name": "VIP"}).to_string()).await;
        tags(&api).await == list(&[("VIP", "running")])
    };
    until("the tag is there", ask).await;
    let server = server.restart().await;
    assert_eq!(tags(&server.api()).await, list(&[("VIP", "running")]));
}

#[tokio::test]
async fn the_default_queue_is_set_and_unset() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    let path = "/admin/v1/accounts/demo/default-queue";
    assert_eq!(see(&api, path).await, json!({"queue": "-1", "revision": 0}));
    assert_eq!(call(&api, "DELETE", path, Value::Null).await.status, 200);
    for (body, status) in [(json!({"queue": "99"}), 400), (json!({}), 400), (json!({"queue": 77}), 400), (json!({"queue": "77"}), 200)] {
        let set = call(&api, "PUT", path, body.clone()).await;
        assert_eq!(set.status, status, "{body}: {}", set.text);
    }
    let set = see(&api, path).await;
    assert_eq!((&set["queue"], &set["source"], &set["revision"]), (&json!("77"), &json!("running"), &json!(1)));
    assert_eq!(api.call("PUT", path, &[ADMIN_KEY[0], ("if-match", "\"9\"")], json!({"queue": "88"}).to_string()).await.status, 412);
    let server = server.restart().await;
    let api = server.api();
    assert_eq!(see(&api, path).await, set);
    assert_eq!(call(&api, "DELETE", path, Value::Null).await.json()["queue"], "-1");
    assert_eq!(see(&api, "/admin/v1/accounts/other/default-queue").await["queue"], "-1");
}

#[tokio::test]
async fn an_operator_sees_which_api_keys_there_are_until_a_reload_removes_them() {
    let dir = tempfile::tempdir().unwrap();
    let key = |dialect: &str, more: &str| format!("[[accounts.api_keys]]\ndialect = \"{dialect}\"\nkey = \"hunter2\"\n{more}\n");
    let text = config(&(key("oncehub", "") + &key("dixa", "name = \"the export\"\nagent = \"1002\"")));
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &text).await;
    let api = server.api();
    let seen = see(&api, "/admin/v1/accounts").await;
    assert!(!seen.to_string().contains("hunter2"), "{seen}");
    let bound = json!({"dialect": "dixa", "name": "the export", "agent": "1002"});
    let unbound = json!({"dialect": "oncehub", "name": "oncehub key of demo", "agent": null});
    assert_eq!((&seen[0]["apiKeys"], &seen[1]["apiKeys"]), (&json!([bound, unbound]), &json!([])));
    assert_eq!(seen[0]["agents"][0]["email"], "ada@demo.invalid");
    assert_eq!(reload(dir.path(), &api, &config(&key("oncehub", ""))).await.status, 200);
    assert_eq!(see(&api, "/admin/v1/accounts").await[0]["apiKeys"], json!([unbound]));
}

#[tokio::test]
async fn no_api_key_is_shown_and_init_makes_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let run = |words: &[&str]| tieline(dir.path(), &data, "http://127.0.0.1:1", words);
    let (is_good, shown) = run(&["check"]);
    assert!(is_good && shown.contains("[[accounts.api_keys]]") && !shown.contains("demo-dixa-key"), "{shown}");
    assert!(run(&["init", "own.toml"]).0);
    let made = std::fs::read_to_string(dir.path().join("own.toml")).unwrap();
    let keys: Vec<&str> = made.lines().filter(|line| line.starts_with("key = \"") && !line.contains("\"\"")).collect();
    let demo = ["demo-dixa-key", "demo-oncehub-key", "demo-ultracart-key", "demo-hubster-secret"];
    assert!(keys.len() == demo.len() && keys[0] != keys[1] && !demo.iter().any(|key| made.contains(key)), "{keys:?}");
    let (is_good, shown) = run(&["--config", "own.toml", "check"]);
    assert!(is_good && keys.iter().all(|key| !shown.contains(key.trim_start_matches("key = "))), "{shown}");
}
