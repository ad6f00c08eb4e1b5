//! `tieline demo` over a kill and a restart of the gateway: what it says of itself, and what the log says of it.

use crate::support::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::process::Command;

/// Refusals are soon forgotten, agents take more, and the survey is for all queues.
fn config() -> String {
    let text = CONFIG.replace("capacity = 3", "capacity = 20").replace("[accounts.survey]\nqueues = [\"77\"]\n", "[accounts.survey]\n");
    format!("[routing]\nrefusal = \"200ms\"\n{text}")
}

fn start(dir: &Path, gateway: &TestProcess, words: &[&str]) -> tokio::process::Child {
    Command::new(env!("CARGO_BIN_EXE_tieline"))
        .args(["--config", "test.toml", "demo", "--url", &gateway.api().url("")])
        .args(words)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn end(child: tokio::process::Child) -> (Output, String) {
    let output = tokio::time::timeout(SOON * 4, child.wait_with_output()).await.expect("the demo ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// All conversations, as a manager sees them.
async fn conversations(gateway: &TestProcess) -> Vec<Value> {
    let mut grace = gateway.api().agent("grace", "3").await;
    let answer = grace.ask(&request("all", "cqm.SubscribeExConversations", json!({}))).await;
    assert_eq!(answer["code"], 200, "{answer}");
    let snapshot = grace.notification("ExConversationChangeNotification").await;
    snapshot["body"]["changes"].as_array().unwrap().iter().map(|change| change["result"].clone()).collect()
}

#[tokio::test]
async fn what_is_published_through_a_kill_is_seen_once_surveys_are_filled_and_all_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (port, config) = (free_port(), config());
    let mut gateway = TestProcess::start_with(dir.path(), port, &[], &config).await;
    let demo = start(dir.path(), &gateway, &["--messages", "600", "--rate", "150", "--seed", "5"]);
    // Killed when something is going on: some were answered, and some are open.
    let began = std::time::Instant::now();
    loop {
        let all = conversations(&gateway).await;
        if all.iter().filter(|one| one["conversationDetails"]["stage"] == "CLOSE").count() >= 5 {
            break;
        }
        assert!(began.elapsed() < SOON * 2, "the demo does not get going: {all:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    gateway.kill();
    let gateway = TestProcess::start_with(dir.path(), port, &[], &config).await;
    let (output, said) = end(demo).await;
    assert!(output.status.success(), "{said}");
    assert!(said.contains("missed 0, doubled 0"), "{said}");

    let all = conversations(&gateway).await;
    assert!(all.len() > 20, "{} conversations: {said}", all.len());
    let details: Vec<&Value> = all.iter().map(|one| &one["conversationDetails"]).collect();
    assert!(details.iter().all(|one| one["stage"] == "CLOSE"), "some stay open: {said}");
    let filled = details.iter().filter(|one| one["csat"]["status"] == "FILLED").count();
    assert!(filled >= 3, "{filled} surveys are filled: {said}");
    // From the log: numbers without holes, nothing of ours twice, and some went from one agent to another.
    let mut ada = gateway.api().agent("ada", "3").await;
    let (mut marks, mut events, mut moved, mut kinds) = (BTreeSet::new(), 0, 0, BTreeSet::new());
    for one in &all {
        let id = one["convId"].as_str().unwrap();
        for dialog in one["conversationDetails"]["dialogs"].as_array().unwrap() {
            let dialog = dialog["dialogId"].as_str().unwrap();
            let query = json!({"conversationId": id, "dialogId": dialog, "newerThanSequence": 0, "maxQuantity": 1000});
            let answer = ada.ask(&request("read", "ms.QueryMessages", query)).await;
            let log = answer["body"].as_array().unwrap_or_else(|| panic!("{answer}"));
            let mut agents = BTreeSet::new();
            for (place, change) in log.iter().enumerate() {
                assert_eq!(change["sequence"], json!(place), "{dialog}");
                let event = &change["event"];
                kinds.insert(format!("{} {}", event["type"].as_str().unwrap(), event["contentType"].as_str().unwrap_or_default()));
                kinds.insert(change["messageAudience"].as_str().unwrap().to_owned());
                if change["originatorMetadata"]["role"] == "ASSIGNED_AGENT" {
                    agents.insert(change["originatorId"].to_string());
                }
                if let Some(mark) = change["metadata"][0]["id"].as_str() {
                    assert!(marks.insert(mark.to_owned()), "{mark} is stored twice");
                    events += 1;
                }
            }
            moved += usize::from(agents.len() > 1);
        }
    }
    assert!(moved >= 2, "{moved} went from one agent to another: {said}");
    assert!(events > 600, "{events} events of ours");
    for kind in ["ContentEvent text/plain", "ContentEvent hosted/file", "RichContentEvent ", "AcceptStatusEvent ", "AGENTS_AND_MANAGERS"] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    // What the demo counted is what is there.
    assert!(said.contains(&format!("published {events}, seen {events}, ")), "{events} are in the log: {said}");
}

#[tokio::test]
async fn without_agents_consumers_wait_for_people_and_go_on_when_these_write() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = TestProcess::start_with(dir.path(), free_port(), &[], &config()).await;
    let mut ada = gateway.api().agent("ada", "3").await;
    let demo = start(dir.path(), &gateway, &["--no-agents", "--consumers", "1", "--rate", "200", "--seed", "3"]);
    let answer = ada.ask(&request("all", "cqm.SubscribeExConversations", json!({"stage": ["OPEN"]}))).await;
    assert_eq!(answer["code"], 200);
    let told = ada.first(|frame| frame["body"]["changes"][0]["type"] == "UPSERT").await;
    let id = told["body"]["changes"][0]["result"]["convId"].as_str().unwrap().to_owned();
    assert_eq!(ada.ask(&add_agent("join", &id, "ASSIGNED_AGENT")).await["code"], 200);
    ada.follow(&id, 0).await;
    // Each text is answered, until the consumer has said all and closes.
    let closed = |frame: &Value| frame["body"]["changes"][0]["type"] == "DELETE";
    let content = |frame: &Value| {
        let change = &frame["body"]["changes"][0];
        frame["type"] == "ms.MessagingEventNotification"
            && change["originatorMetadata"]["role"] == "CONSUMER"
            && change["event"]["type"] != "AcceptStatusEvent"
    };
    let mut texts = 0;
    loop {
        let frame = ada.first(|frame| content(frame) || closed(frame)).await;
        if closed(&frame) {
            break;
        }
        if frame["body"]["changes"][0]["sequence"].is_u64() {
            texts += 1;
            ada.send(&publish("p", &id, "I see")).await;
        }
    }
    assert!(texts >= 2, "the consumer said more than how it began: {texts}");
    let pid = demo.id().unwrap();
    assert!(std::process::Command::new("kill").arg("-INT").arg(pid.to_string()).status().unwrap().success());
    let (output, said) = end(demo).await;
    assert!(output.status.success() && said.contains("missed 0, doubled 0"), "{said}");
    assert!(conversations(&gateway).await.iter().all(|one| one["conversationDetails"]["stage"] == "CLOSE"), "Ctrl-C leaves in good order");
}

/// Has the gateway read a changed configuration, and waits until it says that it did.
async fn reload(gateway: &TestProcess, dir: &Path, text: &str) {
    std::fs::write(dir.join("test.toml"), text).unwrap();
    let key = [("authorization", "Bearer the-admin-key")];
    let said = gateway.api().call("POST", "/admin/v1/reload", &key, "").await;
    assert_eq!(said.status, 200, "{}", said.text);
}

#[tokio::test]
async fn nothing_is_missed_while_the_gateway_reloads_rotates_its_keys_is_backed_up_and_drains() {
    let dir = tempfile::tempdir().unwrap();
    let (port, text) = (free_port(), format!("[internal]\nadmin_key = \"the-admin-key\"\n{}", config()));
    let mut gateway = TestProcess::start_with(dir.path(), port, &[], &text).await;
    let demo = start(dir.path(), &gateway, &["--messages", "1500", "--rate", "150", "--seed", "8"]);
    let closed = async |gateway: &TestProcess| {
        conversations(gateway).await.iter().filter(|one| one["conversationDetails"]["stage"] == "CLOSE").count()
    };
    // Each step comes when the traffic has gone on since the one before.
    let mut reached = 0;
    let beside = |words: &[&str]| {
        let words = [&["--config", "test.toml"], words].concat();
        let (is_done, said) = tieline(dir.path(), &dir.path().join("data"), &gateway.api().url(""), &words);
        assert!(is_done, "{words:?}: {said}");
    };
    for step in 0..4 {
        let began = std::time::Instant::now();
        while closed(&gateway).await < reached + 3 {
            assert!(began.elapsed() < SOON * 2, "the demo goes on, after step {step}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        reached = closed(&gateway).await;
        match step {
            0 => reload(&gateway, dir.path(), &text.replace("[limits]", "[limits]\ntext = 7999")).await,
            1 => beside(&["keys", "rotate"]),
            2 => beside(&["backup", "copy"]),
            _ => reload(&gateway, dir.path(), &text).await,
        }
    }
    // In good order, as an update does it.
    assert!(gateway.end("TERM").success());
    let gateway = TestProcess::start_with(dir.path(), port, &[], &text).await;
    let (output, said) = end(demo).await;
    assert!(output.status.success() && said.contains("missed 0, doubled 0"), "{said}");
    assert!(closed(&gateway).await > reached, "it went on behind the last step");
    println!(
        "demo: nothing missed over 2 reloads, a rotation of 5 keys, a backup and a drain: {}",
        said.lines().last().unwrap_or_default()
    );
}
