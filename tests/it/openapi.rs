//! The documents of the calls: they say what is served, and what is served is as they say.

use crate::support::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

const ADMIN: &str = "[internal]\nadmin_key = \"the-admin-key\"\n[limits]\noncehub_per_address = 1000000\n\n";
/// An account with an administrator, with keys of the dialects, and with what the examples of their documents name.
const SHOP: &str = r#"[[accounts]]
id = "shop"
uuid = "00000000-0000-0000-0000-000000000001"
[[accounts.agents]]
user_id = "1"
login = "root"
password = "root-demo"
roles = ["admin"]
[[accounts.api_keys]]
dialect = "dixa"
key = "dixa-key"
per_second = 100000
[[accounts.api_keys]]
dialect = "oncehub"
key = "oncehub-key"
per_second = 100000
[[accounts.api_keys]]
dialect = "ultracart"
key = "ultracart-key"
agent = "1"
per_second = 100000
[[accounts.api_keys]]
dialect = "hubster"
key = "demo-hubster-secret"
per_second = 100000
[[accounts.hubs]]
id = "support"
uuid = "00000000-0000-0000-0000-0000000000a2"
name = "Support"
[[accounts.integrations]]
id = "app"
uuid = "00000000-0000-0000-0000-000000000023"
name = "App"
hub = "support"
[[accounts.integrations]]
id = "root"
uuid = "00000000-0000-0000-0000-000000000024"
name = "Root"
hub = "support"
kind = "agent"
agent = "1"
[[accounts.integrations]]
id = "page"
uuid = "00000000-0000-0000-0000-000000000026"
name = "Page"
hub = "support"
channel = "WebChat"
allowed_origins = ["https://shop.example"]

"#;
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names of the documents that a listener lists.
async fn names(api: &Api) -> Vec<String> {
    let list = api.get("/docs/openapi/").await.json();
    list["documents"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

async fn documents(api: &Api) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for name in names(api).await {
        let reply = api.get(&format!("/docs/openapi/{name}.json")).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.text);
        all.insert(name, reply.json());
    }
    all
}

/// Path, method and operation.
fn operations(document: &Value) -> Vec<(&str, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| (path.as_str(), method.to_uppercase(), operation))
        })
        .collect()
}

/// Every reference in a value.
fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn each_document_says_of_every_call_what_it_takes_and_how_it_answers() {
    let server = TestServer::with(ADMIN).await;
    let all = documents(&server.api()).await;
    assert_eq!(all.keys().collect::<Vec<_>>(), ["admin", "dixa", "files", "hubster", "liveperson", "oncehub", "ultracart", "webhooks"]);
    for (name, document) in &all {
        assert_eq!((&document["openapi"], &document["info"]["version"]), (&json!("3.1.0"), &json!(env!("CARGO_PKG_VERSION"))), "{name}");
        let mut found = Vec::new();
        references(document, &mut found);
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{name}: {reference} leads nowhere");
        }
        let tags: BTreeSet<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).map(ToString::to_string).collect();
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(document) {
            let context = format!("{name}: {method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap_or_else(|| panic!("{context}"))), "{context}: the id is another's");
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 4), "{context} has no summary");
            assert!(tags.contains(&operation["tags"][0].to_string()), "{context} has no tag that the document explains");
            let parameters = operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "path");
            let declared: BTreeSet<_> = parameters.map(|one| format!("{{{}}}", one["name"].as_str().unwrap())).collect();
            let in_path: BTreeSet<_> = path.split('/').filter(|part| part.starts_with('{')).map(str::to_owned).collect();
            assert_eq!(declared, in_path, "{context}");
            for way in operation["security"].as_array().or(document["security"].as_array()).into_iter().flatten() {
                for scheme in way.as_object().unwrap().keys() {
                    assert!(document["components"]["securitySchemes"][scheme].is_object(), "{context}: {scheme}");
                }
            }
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with(['2', '3'])), "{context} never succeeds");
            for (status, answer) in answers {
                let bodies = answer["content"].as_object().into_iter().flatten();
                assert!(bodies.clone().all(|(_, body)| body["schema"].is_object()), "{context}: {status} has no schema");
                // What is refused is refused with a reason; who is sent elsewhere finds it there.
                assert!(status.starts_with(['2', '3']) || bodies.count() > 0, "{context}: {status} has no body");
            }
        }
    }
}

#[tokio::test]
async fn every_documented_call_is_served_and_no_other_method_is() {
    let server = TestServer::with(&format!("{ADMIN}{SHOP}")).await;
    let api = server.api();
    let mut asked = 0;
    for (name, document) in documents(&api).await {
        let mut by_path: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, method, _) in operations(&document) {
            by_path.entry(path.to_owned()).or_default().insert(method);
        }
        for (path, documented) in by_path {
            let plain = path.replace(['{', '}'], "");
            let key = match name.as_str() {
                "dixa" => ("authorization", "dixa-key"),
                "oncehub" => ("api-key", "oncehub-key"),
                "ultracart" => ("x-ultracart-simple-key", "ultracart-key"),
                _ => ("authorization", "Bearer the-admin-key"),
            };
            for method in METHODS {
                let reply = api.call(method, &plain, &[key], "").await;
                // Where there is a GET, a HEAD is answered too.
                let is_served = documented.contains(method) || method == "HEAD" && documented.contains("GET");
                assert_eq!(reply.status != 405, is_served, "{name}: {method} {path}: {}", reply.status);
                assert!(!reply.text.contains("there is nothing at this path"), "{name}: {method} {path}");
                asked += 1;
            }
        }
    }
    assert!(asked > 200, "{asked}");
}

/// Routes are made together with what is said of them, and nowhere else; but for pages, sockets and what is switched off.
#[test]
fn no_call_is_routed_beside_the_documents() {
    let undocumented = [
        "http/console.rs",
        "http/docs.rs",
        "http/upgrade.rs",
        "dialect/dixa/mod.rs",
        "dialect/hubster/mod.rs",
        "dialect/liveperson/mod.rs",
        "dialect/oncehub/mod.rs",
        "dialect/ultracart/mod.rs",
    ];
    let mut folders = ["http", "files", "dialect"].map(|folder| root().join("src").join(folder)).to_vec();
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            if text.replace(".route()", "").contains(".route(") && !path.to_string_lossy().contains("/tests") {
                found.insert(path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(found, undocumented.map(str::to_owned).into());
    // The dialects': what answers while they are switched off, and where there is nothing.
    for (dialect, count) in [("liveperson", 1), ("dixa", 4), ("oncehub", 1), ("ultracart", 1), ("hubster", 1)] {
        let text = std::fs::read_to_string(root().join(format!("src/dialect/{dialect}/mod.rs"))).unwrap();
        assert_eq!(text.matches(".route(").count(), count, "{dialect}");
    }
}

#[tokio::test]
async fn what_is_switched_off_is_not_listed_and_operators_have_their_own_where_they_have_a_listener() {
    let port = free_port();
    let server = TestServer::with(&format!("[internal]\nlisten = \"127.0.0.1:{port}\"\nadmin_key = \"the-admin-key\"\n\n")).await;
    assert_eq!(names(&server.api()).await, ["liveperson", "dixa", "oncehub", "ultracart", "hubster", "files", "webhooks"]);
    assert_eq!(server.api().get("/docs/openapi/admin.json").await.status, 404);
    let internal = Api::new(([127, 0, 0, 1], port).into());
    assert_eq!(names(&internal).await, ["admin", "webhooks"]);
    assert_eq!(internal.get("/docs/openapi/liveperson.json").await.status, 404);
    let without = TestServer::with("[server]\ndialects = []\n\n").await;
    assert_eq!(names(&without.api()).await, ["files", "admin", "webhooks"]);
}

#[tokio::test]
async fn the_viewer_comes_with_a_strict_policy_and_needs_nothing_from_elsewhere() {
    let server = TestServer::start().await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = |path: &str| client.get(server.api().url(path)).send();
    assert_eq!(get("/docs").await.unwrap().headers()["location"], "/docs/");
    for name in ["", "index.html", "viewer.js", "viewer.css", "icon.svg", "openapi/", "openapi/liveperson.json"] {
        let reply = get(&format!("/docs/{name}")).await.unwrap();
        assert_eq!(reply.status(), 200, "{name}");
        let policy = reply.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{name}: {policy}");
        let text = reply.text().await.unwrap();
        if ["index.html", "viewer.js", "viewer.css"].contains(&name) {
            assert_eq!(text, std::fs::read_to_string(root().join("viewer").join(name)).unwrap());
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("innerHTML"), "{name}");
        }
    }
    assert_eq!(get("/docs/nothing.js").await.unwrap().status(), 404);
    assert_eq!(get("/docs/openapi/nothing.json").await.unwrap().status(), 404);
}

/// Of a double for tests.
const DOUBLE: &str = "[server]\ndev = true\n\n";
/// An application that fetches its webhooks.
const FETCHING: &str = r#"# app demo-connector
capabilities = ["webhooks"]
webhooks = [{ event = "ms.MessagingEventNotification.ContentEvent", pull = true }]
"#;

/// One run of the fuzzer: a document, some of its tags, who calls, and what its parameters are.
struct Run<'r> {
    document: &'r str,
    tags: &'r [&'r str],
    headers: Vec<(&'r str, String)>,
    parameters: Vec<(&'r str, String)>,
}

const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";
const SEED: &str = "7";

impl Run<'_> {
    /// Runs it to a good end. Which calls succeeded at least once is said by the traffic that it kept.
    async fn to_a_good_end(&self, schemathesis: &Path, server: &TestServer, folder: &Path) -> Vec<(String, String, u64)> {
        let kept = folder.join("traffic.har");
        let settings = folder.join("schemathesis.toml");
        let lines: String = self.parameters.iter().map(|(name, value)| format!("\"{name}\" = {}\n", json!(value))).collect();
        std::fs::write(&settings, format!("[parameters]\n{lines}")).unwrap();
        let mut command = Command::new(schemathesis);
        command.arg("--config-file").arg(&settings).arg("run").arg(server.api().url(&format!("/docs/openapi/{}.json", self.document)));
        command.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--seed", SEED, "--no-color"]);
        command.args(["--generation-database", "none", "--warnings", "off", "--report", "har", "--report-har-path"]).arg(&kept);
        for tag in self.tags {
            command.args(["--include-tag", tag]);
        }
        for (name, value) in &self.headers {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        let output = command.current_dir(folder).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(240), output).await.expect("the fuzzer ends").unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{} {:?}, seed {SEED}: {said}\n{}",
            self.document,
            self.tags,
            String::from_utf8_lossy(&output.stderr)
        );
        let traffic: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
        let entries = traffic["log"]["entries"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        entries
            .map(|entry| (text(&entry["request"]["method"]), text(&entry["request"]["url"]), entry["response"]["status"].as_u64().unwrap()))
            .collect()
    }
}

/// Whether a path is one of a template's.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fuzzer_finds_no_answer_that_the_documents_do_not_have() {
    let schemathesis: PathBuf = root().join("tests/clients/.venv/bin/schemathesis");
    if !schemathesis.exists() {
        assert!(std::env::var_os("TIELINE_CLIENTS").is_none(), "schemathesis is missing, and was to be installed");
        println!("SKIPPED openapi (schemathesis): {} is missing; `cargo xtask test` installs it", schemathesis.display());
        return;
    }
    let (folder, server) = (tempfile::tempdir().unwrap(), TestServer::with(&format!("{DOUBLE}{ADMIN}{SHOP}{FETCHING}")).await);
    let api = server.api();
    let ann = api.speaker("ann").await;
    let conversation = ann.open().await;
    ann.say(&conversation, "hello").await;
    let _ada = api.agent("ada", "3").await;
    let bearer = format!("Bearer {}", api.login("grace").await.bearer);
    let root_login = json!({"username": "root", "password": "root-demo"}).to_string();
    let admin = api.call("POST", "/api/account/shop/login", &[], root_login).await.json();
    let admin = format!("Bearer {}", admin["bearer"].as_str().unwrap());
    let key = || vec![("Authorization", "Bearer the-admin-key".to_owned())];
    let endpoints = api.call("GET", "/admin/v1/webhooks", &[("authorization", "Bearer the-admin-key")], "").await.json();
    let endpoint = endpoints["endpoints"][0]["id"].to_string();
    let of = |name: &'static str, value: &str| (name, value.to_owned());
    let demo = || vec![of("path.account", ACCOUNT), of("query.account", ACCOUNT), of("query.v", "3"), of("path.service", "sentinel")];
    let script = || vec![of("query.cb", "call"), of("query.callback", "call")];
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0".to_vec();
    let place = ann.upload(png, "PNG").await;
    let wanted = request("d", "ms.GenerateURLForDownloadFile", json!({"relativePath": place}));
    let url = ann.post(SEND, wanted.to_string()).await.json();
    let mut at = place.trim_start_matches('/').split('/').skip(1).map(str::to_owned);
    let mut file = ["path.account", "path.owner", "path.name"].map(|name| (name, at.next().unwrap())).to_vec();
    for (name, member) in [("query.temp_url_sig", "temp_url_sig"), ("query.temp_url_expires", "temp_url_expires")] {
        file.push((name, url["body"]["queryParams"][member].as_str().unwrap().to_owned()));
    }
    let dixa_key = || vec![("Authorization", "dixa-key".to_owned())];
    let make = async |path: &str, body: Value| {
        let headers = [("authorization", "dixa-key"), ("content-type", "application/json")];
        let reply = api.call("POST", &format!("/v1{path}"), &headers, body.to_string()).await;
        assert!((200..300).contains(&reply.status), "{path}: {}", reply.text);
        reply.json()["data"]["id"].as_str().map_or_else(|| reply.json()["data"]["id"].to_string(), str::to_owned)
    };
    let user = make("/endusers", json!({"displayName": "Ann"})).await;
    let content = json!({"_type": "Text", "value": "hello"});
    let chat = json!({"_type": "Chat", "requesterId": user, "widgetId": "w", "message": {"_type": "Inbound", "content": content}});
    let number = make("/conversations", chat).await;
    let rating = make(&format!("/conversations/{number}/ratings/offer"), json!({"ratingType": "Nps"})).await;
    let tag = make("/tags", json!({"name": "VIP"})).await;
    let dixa = vec![
        ("path.conversationId", number),
        ("path.ratingId", rating),
        ("path.tagId", tag),
        ("path.userId", user),
        ("query.query", "hello".to_owned()),
    ];
    let ultracart_key = || vec![("x-ultracart-simple-key", "ultracart-key".to_owned())];
    let simple_key = [("x-ultracart-simple-key", "ultracart-key")];
    let begun = api.call("PUT", "/rest/v2/conversation/conversations", &simple_key, "{}").await.json();
    let ultracart = vec![
        of("path.conversation_uuid", begun["conversation_uuid"].as_str().unwrap()),
        of("path.since", "0"),
        of("path.queue_name", "-1"),
        of("path.extension", "jpg"),
    ];
    let form =
        "grant_type=client_credentials&client_id=hubster.engine.api.00000000000000000000000000000001&client_secret=demo-hubster-secret";
    let token = api.call("POST", "/connect/token", &[], form).await.json();
    let engine = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let wanted = json!({"integrationId": "00000000-0000-0000-0000-000000000023", "binding": "customer-81", "channelType": 2000});
    let established = api.call("POST", "/api/v1/conversations/establish", &[("authorization", &engine)], wanted.to_string()).await.json();
    let hubster = vec![
        of("path.conversationId", established["conversationId"].as_str().unwrap()),
        of("path.hubId", "00000000-0000-0000-0000-0000000000a2"),
        of("path.integrationId", "00000000-0000-0000-0000-000000000026"),
        of("query.type", "Agent"),
        of("query.iId", "00000000-0000-0000-0000-000000000024"),
        of("query.cId", established["conversationId"].as_str().unwrap()),
    ];
    let engine = || vec![("Authorization", engine.clone()), ("Origin", "https://shop.example".to_owned())];
    let runs = [
        Run { document: "admin", tags: &[], headers: key(), parameters: Vec::new() },
        Run {
            document: "admin",
            tags: &["people", "operations"],
            headers: key(),
            parameters: [demo(), vec![of("path.conversation", &conversation), of("path.sequence", "0")]].concat(),
        },
        Run { document: "admin", tags: &["faults"], headers: key(), parameters: demo() },
        Run { document: "webhooks", tags: &[], headers: key(), parameters: vec![of("query.wait", "0")] },
        Run {
            document: "webhooks",
            tags: &["webhooks"],
            headers: key(),
            parameters: vec![of("path.endpoint", &endpoint), of("query.wait", "0")],
        },
        Run { document: "files", tags: &[], headers: Vec::new(), parameters: file },
        Run { document: "liveperson", tags: &["connector", "applications"], headers: Vec::new(), parameters: Vec::new() },
        Run {
            document: "liveperson",
            tags: &["connector", "applications"],
            headers: vec![("Authorization", ann.app.clone()), ("X-LP-ON-BEHALF", ann.jws.clone())],
            parameters: demo(),
        },
        Run { document: "liveperson", tags: &["lookup", "consumers"], headers: Vec::new(), parameters: Vec::new() },
        Run { document: "liveperson", tags: &["lookup", "consumers"], headers: Vec::new(), parameters: [demo(), script()].concat() },
        Run { document: "liveperson", tags: &["agents"], headers: vec![("Authorization", bearer)], parameters: demo() },
        Run { document: "dixa", tags: &[], headers: dixa_key(), parameters: Vec::new() },
        Run { document: "dixa", tags: &[], headers: dixa_key(), parameters: dixa },
        Run { document: "ultracart", tags: &[], headers: ultracart_key(), parameters: Vec::new() },
        Run { document: "ultracart", tags: &[], headers: ultracart_key(), parameters: ultracart },
        Run { document: "hubster", tags: &[], headers: engine(), parameters: Vec::new() },
        Run { document: "hubster", tags: &[], headers: engine(), parameters: hubster },
        Run { document: "oncehub", tags: &[], headers: vec![("API-Key", "oncehub-key".to_owned())], parameters: Vec::new() },
        Run {
            document: "liveperson",
            tags: &["installations"],
            headers: vec![("Authorization", admin)],
            parameters: vec![of("path.account", "shop")],
        },
    ];
    let mut traffic: Vec<(String, String, u64)> = Vec::new();
    for run in &runs {
        traffic.extend(run.to_a_good_end(&schemathesis, &server, folder.path()).await);
    }
    let base = server.api().url("");
    let mut never = BTreeSet::new();
    let mut count = 0;
    for document in documents(&api).await.values() {
        for (path, method, operation) in operations(document) {
            let is_it = |(by, url, _): &&(String, String, u64)| {
                *by == method && fits(path, url.strip_prefix(&base).unwrap_or(url).split('?').next().unwrap_or_default())
            };
            let answers: BTreeSet<u64> = traffic.iter().filter(is_it).map(|(_, _, status)| *status).collect();
            assert!(!answers.is_empty(), "{method} {path} was never asked");
            count += 1;
            if !answers.iter().any(|status| (200..300).contains(status)) {
                never.insert(operation["operationId"].as_str().unwrap().to_owned());
            }
        }
    }
    println!("openapi: {} requests to {count} calls, seed {SEED}; {} never succeeded: {never:?}", traffic.len(), never.len());
    assert!(traffic.len() > 1_000 && never.len() * 3 < count, "{never:?}");
}
