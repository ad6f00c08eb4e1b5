//! Copies of the data folder, made while the gateway is written to, and put back.

use crate::support::*;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
const CONVERSATIONS: usize = 16;
/// Messages that are published between two copies, at least.
const MORE: u64 = 400;

/// A command on a data folder, which needs no gateway.
fn offline(dir: &Path, data: &Path, words: &[&str]) -> (bool, String) {
    tieline(dir, data, "http://127.0.0.1:9", words)
}

/// The journal of a database, row for row, up to a position.
fn journal(database: &Path, up_to: i64) -> Vec<(i64, i64, String, String)> {
    let connection = Connection::open(database).unwrap();
    let mut rows = connection.prepare("SELECT position, at, account, entry FROM journal WHERE position <= ?1 ORDER BY position").unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    rows.query_map([up_to], read).unwrap().collect::<Result<_, _>>().unwrap()
}

async fn epoch(api: &Api) -> String {
    api.get("/version").await.json()["epoch"].as_str().unwrap().to_owned()
}

/// How many events a dialog has, each seen once and in order, with the texts that were published under these numbers.
async fn check(api: &Api, conversation: &str) -> u64 {
    let mut agent = api.agent("grace", "3").await;
    let (mut next, mut seen) = (0, 0);
    loop {
        let body = json!({"dialogId": conversation, "newerThanSequence": next, "maxQuantity": 1000});
        let answer = agent.ask(&request("q", "ms.QueryMessages", body)).await;
        assert_eq!(answer["code"], 200, "{answer}");
        let events: Vec<Value> = answer["body"].as_array().unwrap().clone();
        for event in &events {
            assert_eq!(event["sequence"], seen, "{conversation}: no hole and no repeat");
            assert_eq!(event["event"]["message"], format!("{seen} of {conversation}"));
            seen += 1;
        }
        match events.len() {
            0 => return seen,
            _ => next = seen,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backup_under_load_is_a_gap_free_prefix_and_a_gateway_goes_on_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestProcess::start(dir.path(), free_port(), &[]).await;
    let api = server.api();
    let data = dir.path().join("data");
    let ann = Arc::new(api.speaker("ann").await);
    let mut conversations = Vec::new();
    for _ in 0..CONVERSATIONS {
        conversations.push((ann.open().await, Arc::new(AtomicU64::new(0))));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = conversations
        .iter()
        .map(|(conversation, acked)| {
            let (ann, conversation, acked, stop) = (ann.clone(), conversation.clone(), acked.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = acked.load(Ordering::Relaxed);
                    assert_eq!(ann.say(&conversation, &format!("{number} of {conversation}")).await, number);
                    acked.store(number + 1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut copies = Vec::new();
    let mut slowest = Duration::ZERO;
    let total = || conversations.iter().map(|(_, acked)| acked.load(Ordering::Relaxed)).sum::<u64>();
    for round in 0..ROUNDS {
        let end = Instant::now() + SOON;
        while total() < (round as u64 + 1) * MORE {
            assert!(Instant::now() < end, "publishing goes on");
            tokio::task::yield_now().await;
        }
        let acked: Vec<u64> = conversations.iter().map(|(_, acked)| acked.load(Ordering::Relaxed)).collect();
        let to = dir.path().join(format!("copy-{round}"));
        let (began, target, folder) = (Instant::now(), to.clone(), data.clone());
        let cwd = dir.path().to_owned();
        let (is_done, said) =
            tokio::task::spawn_blocking(move || offline(&cwd, &folder, &["backup", target.to_str().unwrap()])).await.unwrap();
        assert!(is_done, "{said}");
        slowest = slowest.max(began.elapsed());
        copies.push((to, acked));
    }
    let published = total();
    stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert!(api.get("/metrics").await.status == 200);
    let original = epoch(&api).await;
    let mut epochs = std::collections::HashSet::from([original]);
    let (mut least_ahead, mut restoring) = (u64::MAX, Duration::ZERO);
    for (round, (copy, acked)) in copies.iter().enumerate() {
        let manifest: Value = serde_json::from_str(&std::fs::read_to_string(copy.join("backup.json")).unwrap()).unwrap();
        let position = manifest["position"].as_i64().unwrap();
        let rows = journal(&copy.join("tieline.db"), i64::MAX);
        // The original carries over behind its acks.
        let end = Instant::now() + SOON;
        while journal(&data.join("tieline.db"), position).len() < rows.len() {
            assert!(Instant::now() < end, "it is carried over");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(rows.len(), usize::try_from(position).unwrap(), "every position up to the last");
        assert!(rows == journal(&data.join("tieline.db"), position), "the copy's journal is the beginning of the original's");
        // Put back, a gateway goes on from it: under a new name, and with the tokens of before.
        let home = dir.path().join(format!("home-{round}"));
        std::fs::create_dir(&home).unwrap();
        let began = Instant::now();
        let (is_done, said) = offline(&home, &home.join("data"), &["restore", copy.to_str().unwrap()]);
        assert!(is_done, "{said}");
        let restored = TestProcess::start(&home, free_port(), &[]).await;
        restoring = restoring.max(began.elapsed());
        assert!(epochs.insert(epoch(&restored.api()).await), "each has a name of its own");
        for (place, (conversation, _)) in conversations.iter().enumerate() {
            let seen = check(&restored.api(), conversation).await;
            assert!(seen >= acked[place], "{seen} of {} that were acked before the copy was begun", acked[place]);
            least_ahead = least_ahead.min(seen - acked[place]);
        }
        let speaker = Speaker { api: restored.api(), account: "demo".into(), app: ann.app.clone(), jws: ann.jws.clone() };
        let conversation = &conversations[0].0;
        let seen = check(&restored.api(), conversation).await;
        assert_eq!(speaker.say(conversation, &format!("{seen} of {conversation}")).await, seen);
    }
    println!(
        "backup: {ROUNDS} copies while {published} messages were published, each a prefix; the slowest took {} ms, the slowest restore with its start {} ms",
        slowest.as_millis(),
        restoring.as_millis()
    );
}

#[tokio::test]
async fn a_backup_holds_attachments_and_keys_and_a_restore_replaces_nothing_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = TestProcess::start(dir.path(), free_port(), &[]).await;
    let (api, data) = (server.api(), dir.path().join("data"));
    let ann = api.speaker("ann").await;
    let conversation = ann.open().await;
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0".to_vec();
    let path = ann.upload(png.clone(), "PNG").await;
    ann.show_file(&conversation, &path, "PNG").await;
    // Attachments on another disk, and a key that is kept elsewhere: links are followed.
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let account =
        data.join("files").read_dir().unwrap().map(|entry| entry.unwrap().path()).find(|path| !path.ends_with(".incoming")).unwrap();
    for (name, place) in [("files", account), ("key", data.join("keys/form.pem"))] {
        std::fs::rename(&place, elsewhere.join(name)).unwrap();
        std::os::unix::fs::symlink(elsewhere.join(name), place).unwrap();
    }
    // Into a folder that holds something nothing is copied; in one that others may enter they read nothing.
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!offline(dir.path(), &data, &["backup", data.to_str().unwrap()]).0);
    assert!(offline(dir.path(), &data, &["backup", copy.to_str().unwrap()]).0);
    for file in ["tieline.db", "backup.json", "keys/ids.key", "keys/form.pem"] {
        let metadata = std::fs::symlink_metadata(copy.join(file)).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode().trailing_zeros() >= 6, "{file}");
    }
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(copy.join("backup.json")).unwrap()).unwrap();
    assert_eq!((&manifest["files"], &manifest["bytes"]), (&json!(1), &json!(png.len())));
    assert_eq!(ann.say(&conversation, "after the copy").await, 1);
    // A gateway that runs is not replaced, nor a folder that holds data.
    let restore = |more: &[&str]| offline(dir.path(), &data, &[&["restore", copy.to_str().unwrap()], more].concat());
    let (is_done, said) = restore(&["--replace"]);
    assert!(!is_done && said.contains("is in use by another process"), "{said}");
    server.kill();
    let (is_done, said) = restore(&[]);
    assert!(!is_done && said.contains("add --replace"), "{said}");
    // A copy that was cut off is none, one that was damaged is none, and nothing is changed.
    let broken = dir.path().join("broken");
    assert!(Command::new("cp").args(["-r", copy.to_str().unwrap(), broken.to_str().unwrap()]).status().unwrap().success());
    let database = std::fs::read(broken.join("tieline.db")).unwrap();
    std::fs::write(broken.join("tieline.db"), &database[..database.len() / 2]).unwrap();
    let (is_done, said) = offline(dir.path(), &data, &["restore", broken.to_str().unwrap(), "--replace"]);
    assert!(!is_done && said.contains("nothing was changed"), "{said}");
    std::fs::remove_file(broken.join("backup.json")).unwrap();
    let (is_done, said) = offline(dir.path(), &data, &["restore", broken.to_str().unwrap(), "--replace"]);
    assert!(!is_done && said.contains("this is no whole backup"), "{said}");
    // Nor one of which a key or an attachment is missing or is another.
    let damaged = async |damage: &str, expected: &str| {
        let broken = dir.path().join(damage.replace(['/', ' ', '>'], "-"));
        assert!(Command::new("cp").args(["-r", copy.to_str().unwrap(), broken.to_str().unwrap()]).status().unwrap().success());
        assert!(Command::new("sh").current_dir(&broken).args(["-c", damage]).status().unwrap().success(), "{damage}");
        let (is_done, said) = offline(dir.path(), &data, &["restore", broken.to_str().unwrap(), "--replace"]);
        assert!(!is_done && said.contains(expected) && said.contains("nothing was changed"), "{damage}: {said}");
    };
    damaged("rm keys/ids.key", "keys/ids.key is missing").await;
    damaged("cp keys/form.pem keys/app.pem", "keys/app.pem is missing, or is not the one").await;
    damaged("touch keys/more.pem", "keys/more.pem").await;
    damaged("rm -r keys", "is missing").await;
    damaged("find files -type f -delete", "there are 0 attachments").await;
    damaged("rm -r files", "there are 0 attachments").await;
    assert!(!data.read_dir().unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("replaced-")));
    // What a restore leaves that is cut off is not started on.
    std::fs::create_dir(data.join(".restoring")).unwrap();
    let started = offline(dir.path(), &data, &["serve"]);
    assert!(!started.0 && started.1.contains("run `tieline restore` again"), "{}", started.1);
    let (is_done, said) = restore(&["--replace"]);
    assert!(is_done, "{said}");
    let back = TestProcess::start(dir.path(), free_port(), &[]).await;
    let speaker = Speaker { api: back.api(), account: "demo".into(), app: ann.app.clone(), jws: ann.jws.clone() };
    assert_eq!(speaker.say(&conversation, "after the restore").await, 1);
    let asked = request("d", "ms.GenerateURLForDownloadFile", json!({"relativePath": path}));
    let download = speaker.post(SEND, asked.to_string()).await.json()["body"].clone();
    let got = reqwest::get(back.api().url(&signed(&download))).await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), png);
    // What was there is kept, with what was said after the copy.
    let aside =
        data.read_dir().unwrap().map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().contains("replaced-")).unwrap();
    assert!(aside.join("tieline.db").is_file() && aside.join("keys/ids.key").is_file());
    // A client that knows the log by its name is told that this is another.
    let version = back.api().get("/version").await.json();
    let mut agent = back.api().agent("grace", "3").await;
    let asked = json!({"dialogId": conversation, "fromSeq": 0, "epoch": "another"});
    let refused = agent.ask(&request("s", "ms.SubscribeMessagingEvents", asked)).await;
    assert_eq!(refused["code"], 409, "{version} {refused}");
}

#[tokio::test]
async fn a_backup_waits_for_a_removal_that_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestProcess::start(dir.path(), free_port(), &[]).await;
    let data = dir.path().join("data");
    // The gateway itself holds it for moments.
    let end = Instant::now() + SOON;
    let removing = loop {
        match tieline::store::sqlite::backup::hold(&data, false).unwrap() {
            Some(held) => break held,
            None => assert!(Instant::now() < end, "nobody holds it for long"),
        }
    };
    let program = env!("CARGO_BIN_EXE_tieline");
    let backup = ["--config", "test.toml", "backup", "copy"];
    let copying = Command::new(program).args(backup).current_dir(dir.path()).env("TIELINE__SERVER__DATA_DIR", &data).spawn();
    let mut copying = Running(copying.unwrap());
    while !dir.path().join("copy").exists() {
        assert!(Instant::now() < end && copying.0.try_wait().unwrap().is_none(), "it begins");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It has just tried, and would have given up.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(copying.0.try_wait().unwrap().is_none() && !dir.path().join("copy/tieline.db").exists(), "it waits");
    drop(removing);
    assert!(copying.status().success());
    assert!(dir.path().join("copy/backup.json").is_file());
    drop(server);
}

#[tokio::test]
async fn what_root_restores_and_writes_belongs_to_whom_the_folder_belongs() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestProcess::start(dir.path(), free_port(), &[]).await;
    let (copy, data) = (dir.path().join("copy"), dir.path().join("data"));
    assert!(offline(dir.path(), &data, &["backup", copy.to_str().unwrap()]).0);
    drop(server);
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    // Only root can give files away; for anybody else all is as it was.
    let (mine, is_root) = (std::fs::metadata(&home).unwrap().uid(), std::os::unix::fs::chown(&home, Some(4_321), Some(4_321)).is_ok());
    let owner = if is_root { 4_321 } else { mine };
    let (is_done, said) = offline(dir.path(), &home, &["restore", copy.to_str().unwrap()]);
    assert!(is_done, "{said}");
    let (is_done, said) = offline(dir.path(), &home, &["backup", dir.path().join("again").to_str().unwrap()]);
    assert!(is_done, "{said}");
    for name in ["lock", "tieline.db", "keys", "keys/ids.key", "last-backup.json"] {
        assert_eq!(std::fs::metadata(home.join(name)).unwrap().uid(), owner, "{name}");
    }
}
