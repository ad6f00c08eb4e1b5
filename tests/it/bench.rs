//! `tieline bench` in small: what it counts, that it leaves nothing open, and what it says when it cannot.

use crate::support::*;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

fn command(dir: &Path, url: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieline"));
    command.args(["--config", "test.toml", "bench", "--url", url]).args(words).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Whether it was done, what it printed, and what it said.
async fn run(dir: &Path, url: &str, words: &[&str]) -> (bool, String, String) {
    let output = tokio::time::timeout(SOON * 4, command(dir, url, words).output()).await.expect("the bench ends").unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// States of all conversations.
async fn states(gateway: &TestProcess) -> Vec<Value> {
    let mut grace = gateway.api().agent("grace", "3").await;
    let answer = grace.ask(&request("all", "cqm.SubscribeExConversations", json!({}))).await;
    assert_eq!(answer["code"], 200, "{answer}");
    let snapshot = grace.notification("ExConversationChangeNotification").await;
    snapshot["body"]["changes"].as_array().unwrap().iter().map(|one| one["result"]["conversationDetails"]["state"].clone()).collect()
}

#[tokio::test]
async fn each_workload_counts_what_it_published_and_leaves_no_conversation_open() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = TestProcess::start(dir.path(), free_port(), &[]).await;
    let sizes = ["--subscribers", "7", "--conversations", "5", "--connections", "11", "--publishers", "1,4", "--rate", "700"];
    let words = [&["--json", "--seconds", "0.5"], &sizes[..]].concat();
    let (is_done, output, said) = run(dir.path(), &gateway.api().url(""), &words).await;
    assert!(is_done, "{said}");
    let found: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
    let all = found["workloads"].as_array().unwrap();
    let names: Vec<&str> = all.iter().map(|one| one["workload"].as_str().unwrap()).collect();
    assert_eq!(names, ["fanout", "many", "idle", "durable", "durable", "durable", "durable"]);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {found}"));
    assert!(all.iter().all(|one| one.get("bad").is_none_or(|bad| *bad == 0)), "{found}");

    let fanout = &all[0];
    for (window, in_flight) in fanout["windows"].as_array().unwrap().iter().zip([1, 64]) {
        assert_eq!(window["in_flight"], in_flight);
        assert!(number(&window["messages"]) > 0.0, "{window}");
        assert_eq!(number(&window["deliveries"]), 7.0 * number(&window["messages"]), "{window}");
    }
    // 100 messages a second for half a second.
    assert_eq!((&fanout["paced"]["messages"], &fanout["paced"]["deliveries"]), (&json!(50), &json!(350)), "{fanout}");
    assert!(number(&fanout["paced"]["last"]["p50"]) >= number(&fanout["paced"]["delivery"]["p50"]), "{fanout}");

    let (many, idle) = (&all[1], &all[2]);
    assert_eq!((&many["conversations"], &many["subscribers"], &many["in_flight"]), (&json!(5), &json!(2), &json!(5)), "{many}");
    assert!(number(&many["turns"]) > 0.0 && number(&many["ack"]["p50"]) > 0.0, "{many}");
    // One of the eleven publishes, ten times, to the others.
    assert_eq!((&idle["connections"], &idle["deliveries"]), (&json!(11), &json!(100)), "{idle}");

    let durable: Vec<_> = all[3..].iter().map(|one| (one["publishers"].as_u64().unwrap(), one["keys"].as_bool().unwrap())).collect();
    assert_eq!(durable, [(1, false), (1, true), (4, false), (4, true)]);
    assert!(all[3..].iter().all(|one| number(&one["acks"]) > 0.0 && number(&one["cpu"]) > 0.0), "{found}");

    let states = states(&gateway).await;
    assert!(states.len() == 5 && states.iter().all(|state| state == "CLOSE"), "{states:?}");
}

#[tokio::test]
async fn an_interrupt_prints_what_there_is_and_closes_the_conversations() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = TestProcess::start(dir.path(), free_port(), &[]).await;
    let words = ["--workload", "b", "--conversations", "9", "--seconds", "600"];
    let bench = command(dir.path(), &gateway.api().url(""), &words).spawn().unwrap();
    let began = std::time::Instant::now();
    while states(&gateway).await.len() < 9 {
        assert!(began.elapsed() < SOON, "its conversations are opened soon");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let pid = bench.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = tokio::time::timeout(SOON, bench.wait_with_output()).await.expect("it leaves soon").unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "tieline: interrupted\n");
    assert!(states(&gateway).await.iter().all(|state| state == "CLOSE"));
}

#[tokio::test]
async fn what_is_wrong_is_said_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = TestProcess::start(dir.path(), free_port(), &[]).await;
    let url = gateway.api().url("");
    let small = ["--workload", "idle", "--connections", "2"];
    let (is_done, _, said) = run(dir.path(), &url, &[&small[..], &["--password", "wrong"]].concat()).await;
    assert!(!is_done && said.contains("the agent \"ada\" is not let in with this password"), "{said}");
    let (is_done, _, said) = run(dir.path(), &url, &[&small[..], &["--agent", "nobody"]].concat()).await;
    assert!(!is_done && said.contains("no password for the agent \"nobody\""), "{said}");
    let (is_done, _, said) = run(dir.path(), &url, &["--workload", "typing"]).await;
    assert!(!is_done && said.contains("fanout, many, idle, durable"), "{said}");
    let program = env!("CARGO_BIN_EXE_tieline");
    let mut few = std::process::Command::new("sh");
    few.args(["-c", "ulimit -n 200 && exec \"$@\"", "sh", program, "--config", "test.toml", "bench", "--url", &url]);
    let few = output(few.current_dir(dir.path()), SOON * 4);
    let said = String::from_utf8_lossy(&few.stderr).into_owned();
    assert!(!few.status.success() && said.contains("needs 3064 open files, but the limit is 200"), "{said}");
    assert!(states(&gateway).await.is_empty(), "nothing was opened for any of these");
    gateway.kill();
    let (is_done, _, said) = run(dir.path(), &url, &small).await;
    assert!(!is_done && said.contains("does not answer; is `tieline serve` running there?"), "{said}");
}
