//! Closed conversations that were kept long enough go, with all that was said and shown in them, and nothing else does.

use crate::support::*;
use rusqlite::Connection;
use serde_json::json;
use std::path::Path;

const SECRET: &str = "a text that must not outlive its conversation";
const KEPT: &str = "a text of somebody else";

fn config(kept: &str) -> String {
    format!("[retention]\nconversations = \"{kept}\"\n\n[internal]\nadmin_key = \"the-admin-key\"\n{CONFIG}")
}

fn count(data: &Path, sql: &str) -> i64 {
    let connection = Connection::open(data.join("tieline.db")).unwrap();
    connection.busy_timeout(SOON).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Whether a text is anywhere in the files of the store.
fn is_on_disk(data: &Path, text: &str) -> bool {
    let files =
        ["tieline.db", "tieline.db-wal", "tieline.tail-0", "tieline.tail-1"].map(|file| std::fs::read(data.join(file)).unwrap_or_default());
    files.iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

async fn status(api: &Api, conversation: &str) -> u16 {
    api.call("GET", &format!("/admin/v1/conversations/{conversation}"), &ADMIN_KEY, "").await.status
}

async fn close(speaker: &Speaker, conversation: &str) {
    let field = json!({"field": "Stage", "conversationState": "CLOSE"});
    assert_eq!(speaker.post(SEND, change("x", conversation, field).to_string()).await.status, 200);
}

/// Puts a file and shows it; its path.
async fn put_and_show(speaker: &Speaker, conversation: &str, name: &str) -> String {
    let path = speaker.upload(format!("{name}\n").into_bytes(), "TXT").await;
    speaker.show_file(conversation, &path, "TXT").await;
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_long_enough_goes_over_kills_while_others_publish_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let port = free_port();
    let mut server = TestProcess::start_with(dir.path(), port, &[], &config("")).await;
    let api = server.api();
    let (ann, bob) = (api.speaker("ann").await, api.speaker("bob").await);
    let (old, other, open) = (ann.open().await, ann.open().await, bob.open().await);
    let mut socket = ann.consumer_socket().await;
    for number in 0..1_500 {
        socket.send(&publish(&number.to_string(), &old, &format!("{number}: {SECRET}"))).await;
    }
    socket.response("1499").await;
    ann.say(&other, KEPT).await;
    bob.say(&open, KEPT).await;
    let only = put_and_show(&ann, &old, "only here").await;
    let both = put_and_show(&ann, &old, "in both").await;
    ann.show_file(&other, &both, "TXT").await;
    close(&ann, &old).await;
    let file = |path: &str| data.join(path.trim_start_matches('/')).is_file();
    assert!(file(&only) && file(&both), "{only}");
    assert!(is_on_disk(&data, SECRET) && status(&api, &old).await == 200);
    // Kept for ever until it is configured otherwise; then it goes, killed in between as often as it takes a few steps.
    let mut kills = 0;
    server.kill();
    loop {
        server = TestProcess::start_with(dir.path(), port, &[], &config("1s")).await;
        let rows = count(&data, "SELECT count(*) FROM journal");
        until("some rows are erased, or all of it", async || {
            count(&data, "SELECT count(*) FROM journal") < rows || status(&server.api(), &old).await == 404
        })
        .await;
        if kills == 3 {
            break;
        }
        server.kill();
        kills += 1;
    }
    // Meanwhile others are served.
    let api = server.api();
    let bob = Speaker { api: api.clone(), ..bob };
    let mut said = 1;
    until("nothing is left to erase", async || {
        assert_eq!(bob.say(&open, KEPT).await, said);
        said += 1;
        status(&api, &old).await == 404 && count(&data, "SELECT count(*) FROM removals") == 0
    })
    .await;
    assert!(!file(&only), "a file that was shown there alone is gone");
    assert!(file(&both), "a file that another conversation shows stays");
    let of_old = |table: &str| count(&data, &format!("SELECT count(*) FROM {table} WHERE conversation = '{old}'"));
    for table in ["changes", "file_uses", "conversation_agents", "resends", "dead_letters"] {
        assert_eq!(of_old(table), 0, "{table}");
    }
    let about = |what: &str| count(&data, &format!("SELECT count(*) FROM journal WHERE entry LIKE '%{what}%'"));
    assert_eq!((about(SECRET), about(&old)), (0, 1), "one entry says that it was removed");
    assert_eq!(count(&data, &format!("SELECT count(*) FROM events WHERE dialog = '{old}'")), 0);
    // Nobody finds it, also by its number, by a feed or by a search.
    let refused = ann_again(&api).await.post(SEND, publish("p", &old, "x").to_string()).await;
    assert_eq!((refused.status, refused.error_code()), (401, 40103));
    let mut agent = api.agent("grace", "3").await;
    let asked = agent.ask(&request("q", "ms.QueryMessages", json!({"dialogId": old, "maxQuantity": 10}))).await;
    assert_eq!(asked["code"], 400, "{asked}");
    // What is open, and what is of another conversation, is as it was; a new one gets a number of its own.
    assert_eq!((status(&api, &open).await, status(&api, &other).await), (200, 200));
    let asked = agent.ask(&request("r", "ms.QueryMessages", json!({"dialogId": open, "maxQuantity": 1000}))).await;
    assert_eq!(asked["body"].as_array().unwrap().len(), usize::try_from(said).unwrap());
    ann_again(&api).await.open().await;
    assert_eq!(count(&data, "SELECT count(*) - count(DISTINCT number) FROM conversations"), 0);
    // Once the write-ahead log is moved into the database, its bytes are nowhere.
    assert!(server.end("TERM").success());
    assert!(!is_on_disk(&data, SECRET) && is_on_disk(&data, KEPT));
    // And the gateway starts on what is left.
    let server = TestProcess::start_with(dir.path(), port, &[], &config("1s")).await;
    assert_eq!(Speaker { api: server.api(), ..bob }.say(&open, KEPT).await, said);
}

async fn ann_again(api: &Api) -> Speaker {
    api.speaker("ann").await
}

/// When the gateway last looked for what is kept no longer, in seconds since 1970.
async fn looked(api: &Api) -> i64 {
    let metrics = api.get("/metrics").await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("tieline_retention_last_run_timestamp_seconds "));
    line.map_or(0, |at| at.parse::<f64>().unwrap().round() as i64)
}

#[tokio::test]
async fn nothing_is_removed_while_a_backup_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config("1s")).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let (old, newest) = (ann.open().await, ann.open().await);
    ann.say(&old, SECRET).await;
    let held = tieline::store::sqlite::backup::hold(&data, true).unwrap().expect("nothing is removed yet");
    close(&ann, &old).await;
    close(&ann, &newest).await;
    // It was looked for what is old, when this was: the gauge is set behind each look.
    let closed = jiff::Timestamp::now().as_second();
    until("a look when it is old enough", async || looked(&api).await >= closed + 3).await;
    assert_eq!(status(&api, &old).await, 200);
    drop(held);
    until("it goes when the backup is done", async || status(&api, &old).await == 404).await;
    assert_eq!(status(&api, &newest).await, 200, "the newest stays, so that its number is not given out again");
}

#[tokio::test]
async fn a_file_that_cannot_be_removed_keeps_nothing_else_and_goes_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config("1s")).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let (old, newest) = (ann.open().await, ann.open().await);
    ann.say(&old, SECRET).await;
    let said = format!("SELECT count(*) FROM journal WHERE entry LIKE '%{SECRET}%'");
    until("its words are carried over", async || count(&data, &said) == 1).await;
    let path = put_and_show(&ann, &old, "stuck").await;
    let file = data.join(path.trim_start_matches('/'));
    // In its place a folder that holds something.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    close(&ann, &old).await;
    close(&ann, &newest).await;
    until("its words are erased", async || count(&data, &said) == 0).await;
    let left = ["removals", "file_uses"].map(|table| count(&data, &format!("SELECT count(*) FROM {table} WHERE conversation = '{old}'")));
    assert_eq!((status(&api, &old).await, left), (404, [1, 1]), "what says that a file is still to go");
    std::fs::remove_dir_all(&file).unwrap();
    std::fs::write(&file, "stuck\n").unwrap();
    until("the file is gone, too", async || count(&data, "SELECT count(*) FROM removals") == 0 && !file.exists()).await;
}

#[tokio::test]
async fn an_upload_that_nothing_shows_goes_and_one_that_is_shown_stays() {
    let server = TestServer::with("[retention]\nuploads = \"1s\"\n\n").await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let shown = put_and_show(&ann, &id, "shown").await;
    let unshown = ann.upload(b"unshown\n".to_vec(), "TXT").await;
    let file = |path: &str| server.data().join(path.trim_start_matches('/')).is_file();
    assert!(file(&shown) && file(&unshown));
    until("what nothing shows goes", async || !file(&unshown)).await;
    // Everything of that age was looked at by now, for the folder is the same.
    let later = ann.upload(b"later\n".to_vec(), "TXT").await;
    until("so does the next", async || !file(&later)).await;
    assert!(file(&shown));
    assert!(api.get("/metrics").await.text.contains("tieline_retention_removed_total{what=\"uploads\"} 2"));
}

#[tokio::test]
async fn a_file_that_begins_to_go_cannot_be_shown_any_more() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let path = ann.upload(b"a text\n".to_vec(), "TXT").await;
    let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {"relativePath": path, "fileType": "TXT"}});
    let shows = request("f", "ms.PublishEvent", json!({"dialogId": id, "event": event})).to_string();
    let gone = server.gateway.files().going().enter(&path);
    let refused = ann.post(SEND, shows.clone()).await;
    assert!(refused.status == 400 && refused.text.contains("put it here again"), "{}", refused.text);
    drop(gone);
    assert_eq!(ann.post(SEND, shows).await.status, 200);
}
