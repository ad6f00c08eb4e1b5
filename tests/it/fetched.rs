//! Attachments that are given by URL: fetched from public places only, bounded, and kept like uploads or not at all.

use crate::installations::hostile;
use crate::sink::{React, Sink};
use crate::support::*;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tieline::domain::Person;
use tieline::files::{FetchRefused, Fetched, Held};
use tieline::gateway::Gateway;
use tieline_protocol::code::ErrorCode;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
/// A thousand megabytes of nothing, as `gzip` packs them: its first bytes.
const BOMB: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xed\xc1\x01\x0d\0\0\0\xc2\xa0\xf7Om\x0e7\xa0";
/// Where the receiver may be.
const ALLOWED: &str = "[files]\nlargest = \"64KiB\"\nfetch_allow = [\"127.0.0.1\"]\n[limits]\nuploads_per_minute = 10000\n\n";

fn ada(gateway: &Gateway) -> Person {
    gateway.identity().directory().account(ACCOUNT).unwrap().agent("1001").unwrap().person()
}

async fn fetch(gateway: &Arc<Gateway>, urls: &[&str]) -> Result<Held, FetchRefused> {
    gateway.fetch_all(&ACCOUNT.into(), &ada(gateway), urls).await
}

/// What there is of files, whole or not.
fn kept(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.flat_map(|entry| if entry.path().is_dir() { kept(&entry.path()) } else { vec![entry.path().display().to_string()] }).collect()
}

async fn until_nothing_is_kept(server: &TestServer) {
    until("what was not taken is removed", async || kept(&server.data().join("files")).is_empty()).await;
}

#[tokio::test]
async fn an_attachment_given_by_url_is_shown_and_got_by_who_may_see_it() {
    const TYPE: &[(&str, &str)] = &[("content-type", "image/png"), ("set-cookie", "a=b")];
    let sink = Sink::start(|hit| match hit.path.as_str() {
        "/moved/a.png" => React::To("/b.png?c=d"),
        _ => React::Give(TYPE, PNG),
    })
    .await;
    let server = TestServer::guarded(ALLOWED).await;
    let (api, gateway) = (server.api(), server.gateway.clone());
    let (ann, bob) = (api.speaker("ann").await, api.speaker("bob").await);
    let id = ann.open().await;
    let mut ada = api.agent("ada", "3").await;
    ada.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    let fetched = fetch(&gateway, &[&sink.url("/moved/a.png?key=hush")]).await.unwrap();
    let more = fetch(&gateway, &[&sink.url("/c")]).await.unwrap();
    let [Fetched { path, size, kind: "PNG", mime: "image/png" }] = &fetched[..] else { panic!("{fetched:?}") };
    assert_eq!((*size, more[0].size), (PNG.len() as u64, PNG.len() as u64));
    // Nothing in the requests says for whom they are, and nobody is asked to pack anything.
    for hit in sink.hits() {
        let names: Vec<&str> = hit.headers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names.iter().filter(|name| !["host", "accept", "user-agent"].contains(name)).count(), 0, "{names:?}");
    }
    let download = request("d", "ms.GenerateURLForDownloadFile", json!({"relativePath": path})).to_string();
    assert_eq!(ann.post(SEND, download.clone()).await.status, 400, "it is not shown yet");
    let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {"relativePath": path, "fileType": "PNG"}});
    let shown = request("f", "ms.PublishEvent", json!({"dialogId": id, "event": event}));
    assert_eq!(ada.ask(&shown).await["code"], 200);
    let url = ann.post(SEND, download.clone()).await.json()["body"].clone();
    let got = reqwest::get(api.url(&signed(&url))).await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), PNG);
    assert_eq!(bob.post(SEND, download).await.status, 400, "another's conversation");
    // It is ada's: nobody else shows it.
    let theirs = bob.open().await;
    let foreign = request("f", "ms.PublishEvent", json!({"dialogId": theirs, "event": shown["body"]["event"]}));
    assert_eq!(bob.post(SEND, foreign.to_string()).await.status, 400);
    more.discard().await;
    assert_eq!(kept(&server.data().join("files")).len(), 1);
    let metrics = api.get("/metrics").await.text;
    for series in ["tieline_fetches_total{result=\"fetched\"}", "tieline_fetch_seconds_count"] {
        assert!(metrics.contains(series), "{series}");
    }
}

#[tokio::test]
async fn what_is_not_taken_is_said_and_leaves_nothing() {
    const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];
    const PAGE: &[(&str, &str)] = &[("content-type", "text/html")];
    const DRAWING: &[(&str, &str)] = &[("content-type", "image/svg+xml")];
    const PACKED: &[(&str, &str)] = &[("content-type", "text/plain"), ("content-encoding", "gzip")];
    let sink = Sink::open().await;
    let server = TestServer::guarded(ALLOWED).await;
    let gateway = server.gateway.clone();
    let large: &'static [u8] = Box::leak([PNG, &[0; 64 * 1024]].concat().into_boxed_slice());
    let url = sink.url("/a.png?key=hush");
    for (react, label, said) in [
        (React::Answer(404), "status", "it answered 404, and must answer 200"),
        (React::Answer(204), "status", "it answered 204"),
        (React::Answer(401), "status", "it answered 401"),
        (React::Give(&[], large), "too_large", "from 1 to 65536 bytes"),
        // Without a length, the first of which alone would do.
        (React::Chunks(large, 1), "too_large", "from 1 to 65536 bytes"),
        (React::Chunks(b"\xff\xd8\xff\xe0 a picture that does not end", 1_000_000_000), "too_large", "from 1 to 65536 bytes"),
        (React::Cut(200), "broken", "it did not answer"),
        (React::Close, "broken", "it did not answer"),
        (React::Give(&[], b""), "empty", "it is empty"),
        (React::Give(PAGE, b"<!doctype html><script>alert(1)</script>"), "type", "one of JPG, JPEG, PNG"),
        (React::Give(TEXT, b"<!doctype html><script>alert(1)</script>"), "type", "one of JPG"),
        (React::Give(PAGE, b"no tag, and a page all the same"), "type", "one of JPG"),
        (React::Give(DRAWING, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"), "type", "one of JPG"),
        (React::Give(TEXT, b"\x7fELF\x02\x01\x01\0"), "type", "one of JPG"),
        // Packed bytes are never unpacked, said to be so or not.
        (React::Give(PACKED, BOMB), "encoded", "Content-Encoding"),
        (React::Give(TEXT, BOMB), "type", "one of JPG"),
        (React::Redirect, "redirects", "it redirects more than 3 times"),
        (React::To("http://localhost:22/"), "refused", "localhost is not fetched: it must be https"),
        (React::To("http://127.0.0.2:9/"), "refused", "127.0.0.2 is not fetched: it must be public; loopback addresses are refused"),
        (React::To("http://169.254.169.254/latest/"), "refused", "link-local addresses are refused"),
        (React::To("https://[::ffff:10.0.0.1]/"), "refused", "unless the operator lists the host or its network in files.fetch_allow"),
        (React::To("gopher://127.0.0.1/"), "redirects", "to where nothing can be fetched"),
    ] {
        sink.set(move |_| react);
        let refused = fetch(&gateway, &[&url]).await.unwrap_err();
        let text = refused.to_string();
        assert!(refused.label() == label && text.contains(said), "{react:?}: {label}: {text}");
        assert!(!text.contains("hush") && text.starts_with("the attachment at "), "{text}");
        assert_eq!(refused.code(), if label == "too_large" { ErrorCode::TooLarge } else { ErrorCode::InvalidRequest });
        until_nothing_is_kept(&server).await;
    }
    let refused = fetch(&gateway, &[&crate::sink::nobody()]).await.unwrap_err();
    assert_eq!(refused.label(), "unreachable", "{refused}");
    // Without a length and not too large is fine, and so is text.
    sink.set(|_| React::Chunks(PNG, 1));
    let png = fetch(&gateway, &[&url]).await.unwrap();
    sink.set(|_| React::Give(TEXT, "gr\u{fc}\u{df}e".as_bytes()));
    let text = fetch(&gateway, &[&url]).await.unwrap();
    assert_eq!((png[0].kind, text[0].kind), ("PNG", "TXT"));
    png.discard().await;
    text.discard().await;
    // One that fails takes the others with it.
    sink.set(|hit| if hit.path == "/gone" { React::Answer(410) } else { React::Give(&[], PNG) });
    let refused = fetch(&gateway, &[&url, &url, &sink.url("/gone"), &url]).await.unwrap_err();
    assert_eq!(refused.label(), "status");
    until_nothing_is_kept(&server).await;
    let metrics = server.api().get("/metrics").await.text;
    for label in ["too_large", "refused", "type", "encoded", "status"] {
        assert!(metrics.contains(&format!("tieline_fetches_total{{result=\"{label}\"}}")), "{label}");
    }
}

#[tokio::test]
async fn what_is_too_slow_is_given_up() {
    let sink = Sink::open().await;
    let server = TestServer::guarded(&ALLOWED.replace("largest", "fetch_timeout = \"300ms\"\nlargest")).await;
    for react in [React::Hang, React::Stall(PNG), React::Late(Duration::from_secs(600), 200)] {
        sink.set(move |_| react);
        let refused = fetch(&server.gateway, &[&sink.url("/a.png")]).await.unwrap_err();
        assert_eq!(refused.to_string(), "the attachment at 127.0.0.1 is not fetched: it did not come in time", "{react:?}");
        until_nothing_is_kept(&server).await;
    }
}

#[tokio::test]
async fn no_url_that_leads_inside_is_fetched() {
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port();
    let server = TestServer::guarded(&ALLOWED.replace("\"127.0.0.1\"", "")).await;
    let mut tried = 0;
    let hosts = hostile::HOSTILE
        .iter()
        .flat_map(|(host, rule)| [format!("https://{host}:{port}/a"), format!("http://{host}:{port}/a")].map(|url| (url, *rule)));
    let urls = hostile::URLS.iter().map(|(url, reason)| (url.replace("PORT", &port.to_string()), *reason));
    for (url, reason) in hosts.chain(urls) {
        let said = fetch(&server.gateway, &[&url]).await.unwrap_err().to_string();
        let reason = match reason {
            "no user" => "a user or a password",
            "no control characters" => "spaces or control characters",
            reason => reason,
        };
        assert!(said.contains(reason), "{url:?}: {said:?} does not name {reason:?}");
        tried += 1;
    }
    assert!(tried >= 200, "{tried}");
    // Connections wait in the order they came: whoever had called would be taken before us.
    let ours = tokio::net::TcpStream::connect(trap.local_addr().unwrap()).await.unwrap();
    assert_eq!(trap.accept().await.unwrap().1, ours.local_addr().unwrap(), "somebody called the trap");
    assert!(kept(&server.data().join("files")).is_empty());
    // A double for tests fetches from this machine; what else is inside stays so.
    let sink = Sink::start(|_| React::Give(&[], PNG)).await;
    let double = TestServer::start().await;
    assert_eq!(fetch(&double.gateway, &[&sink.url("/a")]).await.unwrap()[0].kind, "PNG");
    assert_eq!(fetch(&double.gateway, &["https://10.0.0.1/"]).await.unwrap_err().label(), "refused");
}

#[tokio::test]
async fn what_is_fetched_counts_as_uploaded() {
    let sink = Sink::start(|_| React::Give(&[], PNG)).await;
    let server = TestServer::guarded(&ALLOWED.replace("10000", "2")).await;
    let url = sink.url("/a.png");
    fetch(&server.gateway, &[&url, &url]).await.unwrap();
    let refused = fetch(&server.gateway, &[&url]).await.unwrap_err();
    assert_eq!((refused.code(), refused.label()), (ErrorCode::TooMany, "too_often"));
    let ann = Person::Consumer("ann".into());
    server.gateway.fetch_all(&ACCOUNT.into(), &ann, &[&url]).await.unwrap();
}
