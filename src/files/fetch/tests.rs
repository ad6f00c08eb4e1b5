//! Attachments that are fetched from a server on this machine, by names that lead where a test says.

use super::*;
use crate::config::Config;
use crate::outbound::tests::{Answers, trap};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response as Answer;
use std::path::Path;
use std::sync::atomic::Ordering;
use tempfile::TempDir;
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(20);
const NOW: i64 = 1_924_992_000_000;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
/// Where the names of these tests lead.
const HERE: &[&[&str]] = &[&["127.0.0.1"]];

/// What there is on disk of files, and of those that are not whole.
fn kept(folder: &Path) -> Vec<String> {
    let mut kept = Vec::new();
    let mut folders = vec![folder.join("files")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => kept.push(entry.path().display().to_string()),
            }
        }
    }
    kept
}

/// Waits until nothing of what was begun is there any more.
async fn until_nothing_is_kept(folder: &TempDir) {
    let began = Instant::now();
    while !kept(folder.path()).is_empty() {
        assert!(began.elapsed() < SOON, "{:?}", kept(folder.path()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Attachments whose URLs may name `files.internal`, which is this machine.
fn open(answers: &[&[&str]]) -> (Files, TempDir) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let text = "[files]\nfetch_allow = [\"files.internal\"]\n";
    let config = Config::from_parts(Some(("test", text)), []).unwrap();
    let mut settings = crate::file_settings(&config);
    settings.fetch.timeout = SOON;
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::open(&settings, folder.path(), [7; 32]).unwrap();
    files.fetching.clients = Clients::answering(&Answers::new(answers), SOON, settings.fetch.guard);
    (files, folder)
}

/// A server that answers a path as a test says; its port.
async fn serve(answer: impl Fn(&str) -> Answer + Clone + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let routes = Router::new().fallback(async move |request: Request| answer(request.uri().path()));
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    port
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let builder = headers.iter().fold(Answer::builder().status(status), |answer, (name, value)| answer.header(*name, *value));
    builder.body(body.into()).unwrap()
}

/// A body that begins and does not go on.
fn hanging() -> Body {
    use futures::StreamExt;
    let begun = futures::stream::once(std::future::ready(Ok::<_, std::io::Error>(PNG)));
    Body::from_stream(begun.chain(futures::stream::pending()))
}

async fn fetch(files: &Files, url: &str) -> Result<Held, FetchRefused> {
    files.fetch_all(&"demo".into(), "ann", &[url]).await
}

async fn fault_of(files: &Files, url: &str) -> FetchFault {
    match fetch(files, url).await {
        Err(FetchRefused::There { fault, .. }) => fault,
        other => panic!("{url}: {other:?}"),
    }
}

fn is_refused(fault: &FetchFault, rule: &str) -> bool {
    matches!(fault, FetchFault::Refused(refusal) if refusal.rule() == rule && refusal.to_string().contains("files.fetch_allow"))
}

#[tokio::test]
async fn what_is_fetched_is_as_if_its_owner_had_uploaded_it() {
    let (files, folder) = open(HERE);
    let port = serve(|_| answer(200, &[("content-type", "application/octet-stream")], PNG)).await;
    let held = fetch(&files, &format!("http://files.internal:{port}/a?key=secret")).await.unwrap();
    let fetched = held[0].clone();
    assert_eq!((fetched.size, fetched.kind, fetched.mime), (PNG.len() as u64, "PNG", "image/png"));
    assert!(files.is_owner(&"demo".into(), "ann", &fetched.path) && !files.is_owner(&"demo".into(), "bob", &fetched.path));
    let url = files.download_url(&fetched.path, NOW).unwrap();
    let (path, query) = (url.path.clone(), url.relative_url());
    let download = files.get(&path, query.split_once('?').map(|(_, query)| query), NOW).await.unwrap();
    assert_eq!(axum::body::to_bytes(download.body, 1 << 20).await.unwrap(), PNG);
    held.discard().await;
    until_nothing_is_kept(&folder).await;
}

#[tokio::test]
async fn no_redirect_and_no_name_leads_inside() {
    let (inside, calls) = trap().await;
    let away = format!("http://127.0.0.1:{inside}/");
    let named = format!("https://shop.example:{inside}/");
    let port = serve(move |path| {
        let location = match path {
            "/address" => &away,
            "/name" => &named,
            "/plain" => "http://shop.example/",
            "/port" => "https://1.1.1.1:22/",
            "/scheme" => "file:///etc/passwd",
            "/user" => "//user:hush@files.internal/",
            "/round" => "round",
            "/none" => return answer(302, &[], ""),
            "/1" => "2",
            "/2" => "/3",
            "/3" => "4",
            _ => return answer(200, &[], PNG),
        };
        answer(302, &[("location", location)], "")
    })
    .await;
    let (mut files, folder) = open(HERE);
    let at = |path: &str| format!("http://files.internal:{port}{path}");
    for (path, rule) in [("/address", "loopback"), ("/plain", "http"), ("/port", "port"), ("/name", "port")] {
        let fault = fault_of(&files, &at(path)).await;
        assert!(is_refused(&fault, rule), "{path}: {fault:?}");
    }
    for path in ["/scheme", "/user", "/none"] {
        assert_eq!(fault_of(&files, &at(path)).await, FetchFault::NoWay, "{path}");
    }
    assert_eq!(fault_of(&files, &at("/round")).await, FetchFault::Redirects(3));
    assert_eq!(fetch(&files, &at("/1")).await.unwrap()[0].kind, "PNG", "three of them are followed");
    // Any port, so that only the name's address is left to be refused, written or redirected to.
    let mut config = Config::from_parts(Some(("test", "[files]\nfetch_allow = [\"files.internal\"]\n")), []).unwrap();
    config.webhooks.ports = (1..=u16::MAX).collect();
    files.fetching.clients = Clients::answering(&Answers::new(HERE), SOON, Guard::of_files(&config));
    for url in [at("/name"), format!("https://shop.example:{inside}/")] {
        let fault = fault_of(&files, &url).await;
        assert!(is_refused(&fault, "loopback"), "{url}: {fault:?}");
    }
    // And one that led to where it may when it was asked for first.
    let mixed: &[&[&str]] = &[&["1.1.1.1", "127.0.0.1"], &["169.254.169.254"]];
    files.fetching.clients = Clients::answering(&Answers::new(mixed), SOON, Guard::of_files(&config));
    for rule in ["loopback", "link-local"] {
        assert!(is_refused(&fault_of(&files, &format!("https://shop.example:{inside}/")).await, rule), "{rule}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    until_nothing_is_kept(&folder).await;
}

#[tokio::test]
async fn a_refusal_names_the_host_and_nothing_else_of_the_url() {
    let (files, _folder) = open(HERE);
    let port = serve(|_| answer(404, &[], "")).await;
    let said = async |url: &str| fetch(&files, url).await.unwrap_err().to_string();
    let not_there = said(&format!("http://files.internal:{port}/hush/a.png?key=hush#hush")).await;
    assert_eq!(not_there, "the attachment at files.internal is not fetched: it answered 404, and must answer 200");
    for (url, because) in [
        ("https://ann:hush@files.internal/a.png", "a user or a password"),
        ("https://hush files.internal/", "spaces"),
        ("hush", "it is no URL: relative URL without a base"),
        ("ftp://files.internal/hush", "it must be https"),
        ("https://10.1.2.3/hush?hush", "the attachment at 10.1.2.3 is not fetched: it must be public; private addresses"),
    ] {
        let said = said(url).await;
        assert!(said.contains(because) && !said.contains("hush"), "{said}");
    }
    let long = format!("https://files.internal/{}", "a".repeat(3_000));
    assert!(said(&long).await.contains("more than 2048 bytes"));
}

#[tokio::test]
async fn of_several_all_are_kept_in_their_order_or_none() {
    let (files, folder) = open(HERE);
    let port = serve(|path| match path {
        "/gone" => answer(404, &[], ""),
        "/text" => answer(200, &[("content-type", "text/plain")], "a few words"),
        _ => answer(200, &[], PNG),
    })
    .await;
    let urls = |paths: &[&str]| paths.iter().map(|path| format!("http://files.internal:{port}{path}")).collect::<Vec<_>>();
    let fetch_all = async |paths: &[&str]| {
        let urls = urls(paths);
        files.fetch_all(&"demo".into(), "ann", &urls.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let refused = fetch_all(&["/a", "/b", "/gone", "/c"]).await.unwrap_err();
    assert_eq!((refused.label(), refused.code()), ("status", tieline_protocol::code::ErrorCode::InvalidRequest));
    until_nothing_is_kept(&folder).await;
    assert_eq!(fetch_all(&["/a"; MOST_AT_ONCE + 1]).await.unwrap_err(), FetchRefused::TooMany(MOST_AT_ONCE));
    assert!(fetch_all(&[]).await.unwrap().is_empty());
    let fetched = fetch_all(&["/a", "/text", "/b"]).await.unwrap();
    assert_eq!(fetched.iter().map(|fetched| fetched.kind).collect::<Vec<_>>(), ["PNG", "TXT", "PNG"]);
    assert_eq!(kept(folder.path()).len(), 3);
    drop(fetched);
    until_nothing_is_kept(&folder).await;
    fetch_all(&["/a", "/b"]).await.unwrap().keep();
    fetch_all(&["/a"]).await.unwrap().discard().await;
    assert_eq!(kept(folder.path()).len(), 2, "they stay");
}

#[tokio::test]
async fn one_that_cannot_be_kept_takes_the_others_with_it() {
    let (files, folder) = open(HERE);
    let mut arrived = Vec::new();
    for _ in 0..3 {
        let mut partial = files.spool.begin().await.unwrap();
        partial.write(PNG).await.unwrap();
        let path =
            FilePath::new(&"demo".into(), files.signer.tag(&"demo".into(), "ann"), Uuid::new_v4(), Some(PNG.len() as u64), files.kinds[0]);
        arrived.push((path.unwrap(), partial));
    }
    // The place of the last one is taken.
    arrived[2].0 = arrived[0].0.clone();
    assert_eq!(files.keep_all(arrived).await.unwrap_err(), Refused::Used);
    until_nothing_is_kept(&folder).await;
}

#[tokio::test]
async fn whoever_is_gone_leaves_nothing() {
    let (files, folder) = open(HERE);
    let (tell, mut told) = tokio::sync::watch::channel(());
    let port = serve(move |path| match path {
        "/hangs" => {
            tell.send_replace(());
            answer(200, &[], hanging())
        }
        _ => answer(200, &[], PNG),
    })
    .await;
    let (good, hangs) = (format!("http://files.internal:{port}/a"), format!("http://files.internal:{port}/hangs"));
    // While it comes.
    {
        let account = "demo".into();
        let urls = [good.as_str(), hangs.as_str()];
        let fetching = files.fetch_all(&account, "ann", &urls);
        tokio::select! {
            fetched = fetching => panic!("it does not end: {fetched:?}"),
            asked = told.changed() => asked.unwrap(),
        }
    }
    until_nothing_is_kept(&folder).await;
    // While it is kept: whoever keeps it goes on, and then finds nobody to tell.
    let (kind, size, partial) = files.fetch(&"demo".into(), &good.parse().unwrap(), Instant::now() + SOON).await.unwrap();
    let path = FilePath::new(&"demo".into(), files.signer.tag(&"demo".into(), "ann"), Uuid::new_v4(), Some(size), kind).unwrap();
    {
        let keeping = std::pin::pin!(files.keep_all(vec![(path, partial)]));
        assert!(futures::poll!(keeping).is_pending());
    }
    while Arc::strong_count(&files.store) > 1 {
        tokio::task::yield_now().await;
    }
    until_nothing_is_kept(&folder).await;
}

#[tokio::test]
async fn accounts_do_not_wait_for_each_other_and_all_is_bounded_in_time() {
    let (mut files, folder) = open(HERE);
    let port = serve(|path| if path == "/hangs" { answer(200, &[], hanging()) } else { answer(200, &[], PNG) }).await;
    let url = format!("http://files.internal:{port}/a");
    files.fetching.concurrency = 1;
    let turn = files.fetching.turn(&"demo".into(), Instant::now() + SOON).await.unwrap();
    let other = files.fetch_all(&"other".into(), "ann", &[&url]).await.unwrap();
    other.discard().await;
    files.fetching.timeout = Duration::from_millis(300);
    let refused = fetch(&files, &url).await.unwrap_err();
    assert_eq!((refused.code(), refused), (tieline_protocol::code::ErrorCode::Busy, FetchRefused::Busy));
    drop(turn);
    assert_eq!(fault_of(&files, &format!("http://files.internal:{port}/hangs")).await, FetchFault::TimedOut);
    until_nothing_is_kept(&folder).await;
}
