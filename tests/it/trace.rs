//! Where is it: the way of an event, as an operator sees it.

use crate::sink::{React, Sink};
use crate::support::*;
use serde_json::{Value, json};
use std::time::Instant;

const KEY: (&str, &str) = ("authorization", "Bearer of my own");
/// What somebody says: it must not be found in an answer.
const CANARY: &str = "canary-in-the-mine";

async fn trace(api: &Api, id: &str, sequence: u64) -> Reply {
    let reply = api.call("GET", &format!("/admin/v1/conversations/{id}/events/{sequence}/trace"), &[KEY], "").await;
    assert!(!reply.text.contains(CANARY), "{}", reply.text);
    reply
}

/// Waits until the trace of an event passes: what is on its way is recorded when it left.
async fn until(api: &Api, id: &str, sequence: u64, what: &str, passes: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let found = trace(api, id, sequence).await.json();
        if passes(&found) {
            return found;
        }
        assert!(began.elapsed() < SOON, "{what}: {found}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn count(found: &Value, list: &str) -> usize {
    found[list].as_array().unwrap().len()
}

#[tokio::test]
async fn an_event_is_traced_from_its_request_to_its_receipts() {
    let sink = Sink::start(|hit| if hit.before == 0 { React::Answer(500) } else { React::Answer(200) }).await;
    let hook = format!(
        "capabilities = [\"webhooks\"]\nwebhooks = [{{ event = \"ms.MessagingEventNotification.ContentEvent\", endpoint = \"{}\" }}]\n",
        sink.url("/lp")
    );
    let extra = "[internal]\nadmin_key = \"of my own\"\n[webhooks]\nschedule = [\"10ms\"]\n\n";
    let server = TestServer::with(&format!("{extra}# app demo-connector\n{hook}")).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let (mut ada, mut grace) = (api.agent("ada", "3").await, api.agent("grace", "3").await);
    for agent in [&mut ada, &mut grace] {
        agent.follow(&id, 0).await;
    }
    let mut consumer = ann.consumer_socket().await;
    consumer.follow(&id, 0).await;
    let mut feed = ann.connector_socket().await;
    feed.ask(&request("feed", "ms.SubscribeApplicationEvents", json!({}))).await;
    let before = jiff::Timestamp::now();
    ann.say(&id, CANARY).await;
    for socket in [&mut ada, &mut grace, &mut consumer] {
        assert_eq!(socket.events(1).await, [(0, CANARY.to_owned())]);
    }
    feed.events(1).await;

    let found = until(&api, &id, 0, "it is pushed to four and posted twice", |found| {
        count(found, "pushes") == 4 && found["webhooks"][0]["attempts"].as_array().is_some_and(|attempts| attempts.len() == 2)
    })
    .await;
    let mut who: Vec<_> = found["pushes"].as_array().unwrap().iter().map(|push| push["as"].as_str().unwrap().to_owned()).collect();
    who.sort();
    assert_eq!(who, ["agent", "agent", "application", "consumer"]);
    let mut ids: Vec<_> =
        found["pushes"].as_array().unwrap().iter().filter(|push| push["as"] == "agent").map(|push| push["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["1001", "1002"]);
    let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let steps = [&found["received"], &found["decided"], &found["committed"], &found["pushes"][0]["at"]].map(at);
    assert!(steps.is_sorted() && steps[0].as_millisecond() >= before.as_millisecond(), "{found}");
    assert_eq!((&found["type"], &found["from"]["role"], &found["account"]), (&json!("ContentEvent"), &json!("CONSUMER"), &json!(ACCOUNT)));
    let hook = &found["webhooks"][0];
    assert_eq!(
        (&hook["clientId"], &hook["attempts"][0]["status"], &hook["attempts"][1]["result"]),
        (&json!("demo-connector"), &json!(500), &json!("delivered"))
    );
    assert_eq!((hook["attempts"][0].get("answer"), found["message"].as_str()), (None, Some(sink.hits()[0].id())));

    // Who resumes later is pushed it again; who left is still named.
    let mut later = ann.consumer_socket().await;
    later.follow(&id, 0).await;
    later.events(1).await;
    drop((later, consumer));
    let found = until(&api, &id, 0, "it is pushed once more", |found| count(found, "pushes") == 5).await;
    assert_eq!(found["pushes"][4]["as"], "consumer");

    // A receipt, and a note among agents, which the consumer is not pushed.
    ada.ask(&add_agent("a", &id, "ASSIGNED_AGENT")).await;
    ada.ask(&request(
        "r",
        "ms.PublishEvent",
        json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "ACCEPT", "sequenceList": [0]}}),
    ))
    .await;
    let mut whisper = publish("w", &id, CANARY);
    whisper["body"]["messageAudience"] = json!("AGENTS_AND_MANAGERS");
    let mut consumer = ann.consumer_socket().await;
    consumer.follow(&id, 1).await;
    ada.ask(&whisper).await;
    ann.say(&id, "after it").await;
    assert_eq!(consumer.events(2).await, [(1, String::new()), (3, "after it".to_owned())]);
    let found = until(&api, &id, 0, "the receipt shows", |found| count(found, "receipts") == 1).await;
    let receipt = &found["receipts"][0];
    assert_eq!((&receipt["status"], &receipt["by"]["id"], &receipt["sequence"]), (&json!("ACCEPT"), &json!("1001"), &json!(1)));
    let found = until(&api, &id, 2, "the note is pushed to agents and the feed", |found| count(found, "pushes") == 3).await;
    assert!(found["pushes"].as_array().unwrap().iter().all(|push| push["as"] != "consumer"), "{found}");

    // What is not there, who may not, and the command line.
    let other = ann.open().await;
    for (id, sequence) in [(id.as_str(), 77), ("none", 0), (other.as_str(), 0)] {
        assert_eq!(trace(&api, id, sequence).await.status, 404, "{id} {sequence}");
    }
    let path = format!("/admin/v1/conversations/{id}/events/0/trace");
    assert_eq!(api.call("GET", &format!("{path}?dialog={other}"), &[KEY], "").await.status, 404);
    assert_eq!((api.get(&path).await.status, api.call("GET", &path.replace("/0/", "/x/"), &[KEY], "").await.status), (401, 400));
    let tieline = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tieline"));
        command.args(words).args(["--url", &format!("http://{}", server.address)]).env("TIELINE__INTERNAL__ADMIN_KEY", "of my own");
        command
    };
    let run = async |words: &[&str]| {
        let mut command = tokio::process::Command::from(tieline(words));
        tokio::time::timeout(SOON * 4, command.kill_on_drop(true).output()).await.expect("it ends").unwrap()
    };
    let output = run(&["trace", &id, "0"]).await;
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for said in [
        "ContentEvent 0 of CONSUMER",
        "received",
        "committed",
        "pushed to agent 1001",
        "endpoint 1 of demo-connector: status 500",
        "ACCEPT by",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!text.contains(CANARY));
    let output = run(&["webhooks", "list"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("demo-connector") && text.lines().count() == 2, "{text}");
    for (words, code, said) in [
        (vec!["webhooks", "show", "1"], 0, "state          on"),
        (vec!["webhooks", "owed", "1"], 0, "nothing is owed"),
        (vec!["webhooks", "dead", "1"], 0, "nothing was given up"),
        (vec!["webhooks", "attempts", "1", sink.hits()[0].header("webhook-id")], 0, "delivered"),
        (vec!["webhooks", "replay", "1", "--from", sink.hits()[0].header("webhook-id")], 0, "events are delivered again"),
        (vec!["webhooks", "pause", "1"], 0, "endpoint 1 waits"),
        (vec!["webhooks", "resume", "1"], 0, "endpoint 1 goes on"),
        (vec!["webhooks", "test", "1"], 1, "it answered 500"),
        (vec!["webhooks", "list", "--json"], 0, "\"owed\""),
        (vec!["webhooks", "replay", "1"], 1, "say what to deliver again"),
        (vec!["webhooks", "forget", "1"], 1, "still names this endpoint"),
        (vec!["webhooks", "show", "7"], 1, "no such endpoint"),
    ] {
        let output = run(&words).await;
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!((output.status.code(), text.contains(said)), (Some(code), true), "{words:?}: {text}");
    }
}
