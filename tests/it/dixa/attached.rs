//! Attachments that are given by URL: fetched before the message is accepted, and shown with it.

use super::{Dixa, People, SETUP, chat, people, text};
use crate::sink::{React, Sink};
use crate::support::*;
use serde_json::{Value, json};
use std::path::Path;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
const ALLOWED: &str = "[files]\nfetch_allow = [\"127.0.0.1\"]\n[limits]\nuploads_per_minute = 10000\n\n";

/// A server with files: a picture at every path but `/gone`.
async fn start() -> (TestServer, Dixa, Sink) {
    let sink = Sink::start(|hit| match hit.path.as_str() {
        "/gone" => React::Answer(404),
        _ => React::Give(&[("content-type", "image/png")], PNG),
    })
    .await;
    let server = TestServer::guarded(&format!("{ALLOWED}{SETUP}")).await;
    let dixa = Dixa::with(&server.api(), "account-key");
    (server, dixa, sink)
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// How a message ends in its list: its content, and its files by their names. Each of them can be fetched.
async fn shown(message: &Value) -> (Value, Vec<Value>) {
    let attributes = &message["attributes"];
    let mut names = Vec::new();
    for file in attributes["attachments"].as_array().unwrap() {
        let got = reqwest::Client::new().get(file["url"].as_str().unwrap()).send().await.unwrap();
        assert_eq!((got.status().as_u16(), got.bytes().await.unwrap().as_ref()), (200, PNG));
        names.push(file["prettyName"].clone());
    }
    (attributes["content"].clone(), names)
}

#[tokio::test]
async fn a_message_with_files_is_one_message_here_and_several_events_on_a_socket() {
    let (_server, dixa, sink) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    let picture = |name: &str| json!({"url": sink.url(&format!("/{name}.png")), "prettyName": name});
    let mut first = chat(&ann, "look");
    first["message"]["attachments"] = json!([picture("one"), {"url": sink.url("/two.png")}]);
    first["message"]["externalId"] = "e".into();
    let number = dixa.begin(&first).await;
    let path = format!("/conversations/{number}/messages");
    // Another of the same end user, right behind it, is another message; and a file may be all that there is.
    assert_eq!(dixa.post(&path, &json!({"_type": "Inbound", "content": text("and"), "attachments": []})).await.status, 200);
    let only = json!({"_type": "Outbound", "agentId": ada, "content": text(""), "attachments": [picture("three"), picture("four")]});
    let reply = dixa.post(&path, &only).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let messages = dixa.data(&path).await;
    let messages = messages.as_array().unwrap();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(shown(&messages[0]).await, (text("look"), vec![json!("one"), Value::Null]));
    assert_eq!(messages[0]["externalId"], "e");
    assert_eq!(shown(&messages[1]).await, (text("and"), Vec::new()));
    assert_eq!(shown(&messages[2]).await, (Value::Null, vec![json!("three"), json!("four")]));
    assert_eq!(messages[2]["id"], reply.json()["data"]["messageId"]);
    // A socket sees each file as it sees any.
    let mut ada = dixa.api.agent("ada", "2").await;
    let list = request("s", "cqm.SubscribeExConversations", json!({"brandId": ACCOUNT, "convState": ["OPEN"]}));
    assert_eq!(ada.ask(&list).await["code"], 200);
    let is_it = |frame: &Value| {
        frame["body"]["changes"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["result"]["lastContentEventNotification"]["event"]["message"]["caption"] == "four"))
    };
    let told = ada.first(is_it).await;
    let found = told["body"]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["result"]["lastContentEventNotification"]["event"]["message"]["caption"] == "four")
        .unwrap();
    assert_eq!(found["result"]["lastContentEventNotification"]["event"]["contentType"], "hosted/file", "{found}");
}

#[tokio::test]
async fn what_cannot_be_fetched_refuses_the_message_and_leaves_no_file() {
    let (server, dixa, sink) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    let path = format!("/conversations/{number}/messages");
    let with = |urls: &[String]| {
        let attachments: Vec<Value> = urls.iter().map(|url| json!({"url": url})).collect();
        json!({"_type": "Inbound", "content": text("look"), "attachments": attachments})
    };
    let good = sink.url("/a.png");
    for (urls, why) in [
        (vec![good.clone(), sink.url("/gone")], "404"),
        (vec![good.clone(), "not a url".to_owned()], "URL"),
        (vec!["http://127.0.0.2/a.png".to_owned()], "127.0.0.2"),
        (vec![good.clone(); 21], "at most 20"),
    ] {
        let said = dixa.refused("POST", &path, &with(&urls), 400).await;
        assert!(said.contains(why), "{urls:?}: {said}");
        let mut begins = chat(&ann, "look");
        begins["message"]["attachments"] = with(&urls)["attachments"].clone();
        dixa.refused("POST", "/conversations", &begins, 400).await;
    }
    dixa.refused("POST", &path, &json!({"_type": "Inbound", "content": text("x"), "attachments": [{"prettyName": "x"}]}), 400).await;
    let long = json!([{"url": good, "prettyName": "x".repeat(501)}]);
    dixa.refused("POST", &path, &json!({"_type": "Inbound", "content": text("x"), "attachments": long}), 400).await;
    // What is refused after it was fetched.
    let mut named = with(std::slice::from_ref(&good));
    named["externalId"] = "e".into();
    assert_eq!(dixa.post(&path, &named).await.status, 200);
    dixa.refused("POST", &path, &named, 400).await;
    let folder = server.data().join("files");
    until("only what is shown is kept", async || files(&folder) == 1).await;
    // A repeat shows what is shown already.
    let repeat = async || dixa.call_with("POST", &path, &[("idempotency-key", "k")], with(std::slice::from_ref(&good)).to_string()).await;
    assert_eq!((repeat().await.status, repeat().await.headers["idempotent-replayed"].to_str().unwrap()), (200, "true"));
    until("a repeat keeps nothing more", async || files(&folder) == 2).await;
    assert_eq!(dixa.get("/conversations/3").await.status, 404, "no conversation began");
    assert_eq!(dixa.data(&path).await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_import_says_which_messages_lack_their_files() {
    let (_server, dixa, sink) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let message = |name: &str, url: String| json!({"_type": "InboundImport", "createdAt": "2022-01-01T09:00:00Z", "externalId": name, "content": text(name), "attachments": [{"url": url}]});
    let body = json!({"_type": "GenericConversationImport", "genericChannelName": "email", "requesterId": ann, "direction": "Inbound",
        "createdAt": "2022-01-01T09:00:00Z", "messages": [message("good", sink.url("/a.png")), message("gone", sink.url("/gone")), message("odd", "not a url".into())]});
    let reply = dixa.post("/conversations/import", &body).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let errors = reply.json()["data"]["partialErrors"].clone();
    let said: Vec<&str> = errors.as_array().unwrap().iter().map(|error| error["message"].as_str().unwrap()).collect();
    assert!(said.len() == 2 && said[0].contains("gone") && said[1].contains("odd"), "{said:?}");
    let number = reply.json()["data"]["id"].as_i64().unwrap();
    assert_eq!(dixa.conversation(number).await["_type"], "EmailConversation");
    let messages = dixa.data(&format!("/conversations/{number}/messages")).await;
    let has: Vec<usize> =
        messages.as_array().unwrap().iter().map(|message| message["attributes"]["attachments"].as_array().unwrap().len()).collect();
    assert_eq!(has, [1, 0, 0]);
    assert_eq!(messages[0]["attributes"]["emailContent"], json!({"_type": "Regular", "content": text("good")}));
    let from_and_to = [&messages[0]["attributes"]["from"]["email"], &messages[0]["attributes"]["to"][0]["email"]];
    assert_eq!(from_and_to, ["ann@home.example", "conversations@demo.invalid"]);
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_time_when_its_files_are_gone_and_its_uploads_spent() {
    let is_there = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let asked = is_there.clone();
    let mut sink = Sink::start(move |hit| match hit.path.as_str() {
        "/gone" => React::Answer(404),
        _ if asked.load(std::sync::atomic::Ordering::SeqCst) => React::Give(&[("content-type", "image/png")], PNG),
        _ => React::Answer(410),
    })
    .await;
    // Three are fetched, and two more asked for in vain.
    let server = TestServer::guarded(&format!("{}{SETUP}", ALLOWED.replace("10000", "4"))).await;
    let dixa = Dixa::with(&server.api(), "account-key");
    let People { ann, .. } = people(&dixa).await;
    let url = |name: &str| json!([{"url": sink.url(name)}]);
    let mut begins = chat(&ann, "look");
    begins["message"]["attachments"] = url("/a.png");
    let adds = json!({"_type": "Inbound", "content": text("and"), "externalId": "e", "attachments": url("/b.png")});
    let old = |name: &str, file: Value| json!({"_type": "InboundImport", "createdAt": "2022-01-01T09:00:00Z", "externalId": name, "content": text(name), "attachments": file});
    let import = json!({"_type": "GenericConversationImport", "genericChannelName": "email", "requesterId": ann, "direction": "Inbound",
        "createdAt": "2022-01-01T09:00:00Z", "messages": [old("good", url("/c.png")), old("gone", url("/gone"))]});
    let calls = [("/conversations", begins, "b"), ("/conversations/2/messages", adds, "m"), ("/conversations/import", import, "i")];
    let mut first = Vec::new();
    for (path, body, key) in &calls {
        let reply = dixa.call_with("POST", path, &[("idempotency-key", key)], body.to_string()).await;
        assert!((200..300).contains(&reply.status), "{path}: {}", reply.text);
        first.push((reply.status, reply.json()));
    }
    assert_eq!(first[2].1["data"]["partialErrors"].as_array().unwrap().len(), 1, "{}", first[2].1);
    is_there.store(false, std::sync::atomic::Ordering::SeqCst);
    let before = sink.hits().len();
    for ((path, body, key), (status, said)) in calls.iter().zip(&first) {
        let again = dixa.call_with("POST", path, &[("idempotency-key", key)], body.to_string()).await;
        assert_eq!((again.status, &again.json()), (*status, said), "{path}");
        assert_eq!(again.headers["idempotent-replayed"], "true");
        // In other words it is no repeat.
        let other = body.to_string().replace("/a.png", "/x.png").replace("/b.png", "/x.png").replace("/c.png", "/x.png");
        let other = dixa.call_with("POST", path, &[("idempotency-key", key)], other).await;
        assert_eq!(other.status, 409, "{path}: {}", other.text);
    }
    sink.until("nothing", SOON, |_| true).await;
    assert_eq!(sink.hits().len(), before, "nothing is fetched again");
    assert_eq!(dixa.data("/conversations/2/messages").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_fetched_goes_when_the_client_hangs_up_before_it_is_shown() {
    let sink = Sink::start(|hit| match hit.path.as_str() {
        "/slow.png" => React::Hang,
        _ => React::Give(&[("content-type", "image/png")], PNG),
    })
    .await;
    let server = TestServer::guarded(&format!("{ALLOWED}{SETUP}")).await;
    let dixa = Dixa::with(&server.api(), "account-key");
    let People { ann, .. } = people(&dixa).await;
    let old = |path: &str| json!({"_type": "InboundImport", "createdAt": "2022-01-01T09:00:00Z", "content": text("look"), "attachments": [{"url": sink.url(path)}]});
    let import = json!({"_type": "GenericConversationImport", "genericChannelName": "email", "requesterId": ann, "direction": "Inbound",
        "createdAt": "2022-01-01T09:00:00Z", "messages": [old("/a.png"), old("/slow.png")]});
    let folder = server.data().join("files");
    let asking = tokio::spawn({
        let dixa = dixa.clone();
        async move { dixa.post("/conversations/import", &import).await }
    });
    let kept = || files(&folder) - files(&folder.join(".incoming"));
    until("the first has come", async || kept() == 1).await;
    asking.abort();
    until("it goes", async || kept() == 0).await;
}

#[tokio::test]
async fn an_import_has_so_many_messages_at_most() {
    let (_server, dixa, _sink) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let message = |number: usize| json!({"_type": "InboundImport", "createdAt": "2022-01-01T09:00:00Z", "externalId": number.to_string(), "content": text("x")});
    let import = |count: usize| {
        json!({"_type": "GenericConversationImport", "genericChannelName": "email", "requesterId": ann, "direction": "Inbound",
        "createdAt": "2022-01-01T09:00:00Z", "messages": (0..count).map(message).collect::<Vec<_>>()})
    };
    let said = dixa.refused("POST", "/conversations/import", &import(1_001), 400).await;
    assert!(said.contains("1001") && said.contains("1000"), "{said}");
    let number = dixa.made("POST", "/conversations/import", &import(1_000), 201).await["id"].as_i64().unwrap();
    assert_eq!(dixa.data(&format!("/conversations/{number}/messages")).await.as_array().unwrap().len(), 1_000);
}
