//! `tieline chat` with a script: the transcript of each end, whatever happens to the gateway meanwhile.

use crate::support::*;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A chat whose lines are typed by a test.
struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    shown: Vec<String>,
}

impl Chat {
    fn start(dir: &Path, gateway: &TestProcess, words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tieline"))
            .args(["--config", "test.toml", "chat", "--url", &gateway.api().url("")])
            .args(words)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take(), child, output, shown: Vec::new() }
    }

    async fn types(&mut self, lines: &[&str]) {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        self.input.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(SOON * 2, self.output.next_line()).await.expect("a line is shown soon").unwrap()?;
        self.shown.push(line.clone());
        Some(line)
    }

    /// Reads on until a line with this is shown.
    async fn shows(&mut self, part: &str) -> String {
        loop {
            match self.line().await {
                Some(line) if line.contains(part) => return line,
                Some(_) => {}
                None => panic!("{part:?} is not shown: {:#?}", self.shown),
            }
        }
    }

    /// The input ends; the whole transcript, and how the command ended.
    async fn ends(mut self) -> (Vec<String>, ExitStatus) {
        drop(self.input.take());
        while self.line().await.is_some() {}
        let status = tokio::time::timeout(SOON, self.child.wait()).await.expect("it ends with its input").unwrap();
        (self.shown, status)
    }
}

/// What one end saw, the conversation's id left out.
fn of(end: &str, transcript: &[String]) -> Vec<String> {
    let id = transcript.iter().find_map(|line| line.split_once("| conversation ")).expect("a conversation is opened").1;
    transcript.iter().filter_map(|line| line.strip_prefix(&format!("{end}| "))).map(|line| line.replace(id, "ID")).collect()
}

#[tokio::test]
async fn a_script_for_both_ends_shows_each_what_it_saw_also_over_a_kill_of_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut gateway = TestProcess::start(dir.path(), port, &[]).await;
    let mut chat = Chat::start(dir.path(), &gateway, &[]);
    chat.types(&["hello", "/who", "a: /accept", "a: hi, how can I help?", "/note friendly", "c: where is my parcel?"]).await;
    chat.shows("ada| #1 3 ann: where is my parcel?").await;
    gateway.kill();
    // Typed while nobody is there.
    chat.types(&["a: it is on its way", "c: thanks"]).await;
    let gateway = TestProcess::start(dir.path(), port, &[]).await;
    chat.types(&["/who", "a: /transfer 77", "a: /accept", "/who", "a: bye", "a: /close", "c: 9", "c: 4", "c: nothing"]).await;
    let (transcript, status) = chat.ends().await;
    assert!(status.success(), "{transcript:#?}");
    let ann = [
        "conversation ID",
        "0 ann: hello",
        "ID: ann",
        "ada joined",
        "1 ada: hi, how can I help?",
        "3 ann: where is my parcel?",
        "4 ada: it is on its way",
        "5 ann: thanks",
        "ID: ada, ann",
        "ada left",
        "moved to queue 77",
        "ada joined",
        "6 ada: bye",
        "closed by agent",
        "a survey follows",
        "0 agent: How did we do? [1, 2, 3, 4, 5]",
        "1 ann: 9",
        "2 agent: How did we do? [1, 2, 3, 4, 5]",
        "3 ann: 4",
        "4 agent: What could be better?",
        "5 ann: nothing",
        "survey closed by agent",
    ];
    let seen = of("ann", &transcript);
    // Who takes part is listed by id, and ids are as they come.
    let seen: Vec<String> = seen.into_iter().map(|line| line.replace("ann, ada", "ada, ann")).collect();
    assert_eq!(seen, ann, "{transcript:#?}");
    let ada = [
        "it rings in queue -1: ID; /accept takes it",
        "#1 is conversation ID",
        "#1 ada joined",
        "#1 0 ann: hello",
        "#1 1 ada: hi, how can I help?",
        "#1 2 ada (note): friendly",
        "#1 3 ann: where is my parcel?",
        "#1 4 ada: it is on its way",
        "#1 5 ann: thanks",
        "#1 ada left",
        "#1 moved to queue 77",
        "it rings in queue 77: ID; /accept takes it",
        "#1 ada joined",
        "#1* ID: ada, ann",
        "#1 6 ada: bye",
        "#1 closed by agent",
    ];
    let seen: Vec<String> = of("ada", &transcript).into_iter().map(|line| line.replace("ann, ada", "ada, ann")).take(ada.len()).collect();
    assert_eq!(seen, ada, "{transcript:#?}");
    drop(gateway);
}

#[tokio::test]
async fn a_consumers_end_alone_shows_others_typing_and_goes_on_in_its_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = TestProcess::start(dir.path(), free_port(), &[]).await;
    let mut chat = Chat::start(dir.path(), &gateway, &["--as", "consumer:ann"]);
    chat.types(&["hello"]).await;
    let id = chat.shows("conversation ").await.split_once(' ').unwrap().1.to_owned();
    chat.shows("0 ann: hello").await;
    let mut ada = gateway.api().agent("ada", "3").await;
    assert_eq!(ada.ask(&add_agent("join", &id, "ASSIGNED_AGENT")).await["code"], 200);
    chat.shows("assigned agent joined").await;
    let typing = serde_json::json!({"dialogId": id, "event": {"type": "ChatStateEvent", "chatState": "COMPOSING"}});
    assert_eq!(ada.ask(&request("t", "ms.PublishEvent", typing)).await["code"], 200);
    chat.shows("assigned agent is typing").await;
    // What another says must not steer the terminal.
    assert_eq!(ada.ask(&publish("p", &id, "hi\u{1b}[2J")).await["code"], 200);
    chat.shows("1 assigned agent: hi [2J").await;
    let (_, status) = chat.ends().await;
    assert!(status.success());
    let mut chat = Chat::start(dir.path(), &gateway, &["--as", "consumer:ann", "--conversation", &id]);
    chat.types(&["and more", "/close"]).await;
    let (transcript, status) = chat.ends().await;
    assert!(status.success(), "{transcript:#?}");
    assert!(transcript.contains(&"0 ann: hello".to_owned()) && transcript.contains(&"2 ann: and more".to_owned()), "{transcript:#?}");
    assert_eq!(transcript.last().map(String::as_str), Some("closed by consumer"));
    // Somebody else's conversation is refused, and said to be.
    let mut chat = Chat::start(dir.path(), &gateway, &["--as", "consumer:bob", "--conversation", &id]);
    chat.types(&["not mine"]).await;
    let (transcript, status) = chat.ends().await;
    assert!(!status.success() && transcript.iter().any(|line| line.starts_with("not done: ")), "{transcript:#?}");
}
