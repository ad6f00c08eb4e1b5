//! Attachments over a real listener, on a real disk, and in an S3-compatible server where there is one.

use super::*;
use reqwest::{Client, Method, StatusCode};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const NOW: i64 = 1_924_992_000_000;
const SOON: Duration = Duration::from_secs(20);
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";

fn settings() -> Settings {
    let defaults = crate::file_settings(&crate::config::Config::defaults());
    Settings {
        url: String::new(),
        largest: 3_000_000,
        url_time: Duration::from_secs(60),
        stall: Duration::from_secs(5),
        types: ["JPG", "JPEG", "PNG", "GIF", "PDF", "TXT", "MP4", "DOCX"].map(String::from).to_vec(),
        ..defaults
    }
}

fn open(settings: &Settings, folder: &Path) -> Files {
    Files::open(settings, folder, [7; 32]).unwrap()
}

/// Attachments that are served.
struct Lab {
    files: Arc<Files>,
    address: SocketAddr,
    clock: Arc<AtomicI64>,
    client: Client,
    folder: TempDir,
    serving: JoinHandle<()>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Lab {
    async fn start() -> Self {
        Self::with(settings()).await
    }

    async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Arc::new(open(&settings, folder.path()));
        let clock = Arc::new(AtomicI64::new(NOW));
        let read = clock.clone();
        let routes = http::routes(files.clone(), Arc::new(move || read.load(Ordering::Relaxed)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let client = Client::builder().timeout(SOON).no_proxy().build().unwrap();
        Self { files, address, clock, client, folder, serving }
    }

    fn upload_url(&self, size: usize, kind: &str) -> Signed {
        self.files.upload_url(&"demo".into(), "ann", Some(size as u64), kind, NOW).unwrap()
    }

    fn download_url(&self, path: &str) -> Signed {
        self.files.download_url(path, NOW).unwrap()
    }

    async fn ask(&self, method: Method, relative_url: &str, body: impl Into<reqwest::Body>) -> (StatusCode, String) {
        let url = format!("http://{}{relative_url}", self.address);
        let response = self.client.request(method, url).body(body).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn put(&self, signed: &Signed, body: impl Into<reqwest::Body>) -> StatusCode {
        self.ask(Method::PUT, &signed.relative_url(), body).await.0
    }

    async fn get(&self, signed: &Signed) -> reqwest::Response {
        self.client.get(format!("http://{}{}", self.address, signed.relative_url())).send().await.unwrap()
    }

    /// The status of a request that is written as it stands here, and its answer's body.
    async fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        status_of(&answer)
    }

    /// What there is on disk of files, and of uploads that are not whole.
    fn kept(&self) -> Vec<String> {
        let mut kept = Vec::new();
        let mut folders = vec![self.folder.path().join("files")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    kept.push(entry.path().display().to_string());
                }
            }
        }
        kept
    }

    async fn until_nothing_is_kept(&self) {
        let began = Instant::now();
        while !self.kept().is_empty() {
            assert!(began.elapsed() < SOON, "{:?}", self.kept());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn status_of(answer: &[u8]) -> (u16, String) {
    let text = String::from_utf8_lossy(answer);
    let status = text.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {text:?}")).parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn put_head(target: &str, more: &str) -> Vec<u8> {
    format!("PUT {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n\r\n").into_bytes()
}

/// Bytes of a type, as many as wanted.
fn of_size(head: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.resize(size, b'x');
    bytes
}

/// What holds wherever files are kept.
async fn an_upload_is_taken_once_and_comes_back_as_it_was(lab: &Lab) {
    let bytes = of_size(PNG, 2_500_000);
    let upload = lab.upload_url(bytes.len(), "png");
    assert!(!lab.files.exists(&upload.path).await.unwrap());
    let missing = lab.get(&lab.download_url(&upload.path)).await;
    assert_eq!(missing.status(), 404);
    assert_eq!(lab.put(&upload, bytes.clone()).await, 201);
    assert!(lab.files.exists(&upload.path).await.unwrap());

    let download = lab.download_url(&upload.path);
    let found = lab.get(&download).await;
    assert_eq!(found.status(), 200);
    let name = upload.path.rsplit('/').next().unwrap();
    for (header, value) in [
        ("content-type", "image/png"),
        ("content-length", "2500000"),
        ("content-disposition", &format!("attachment; filename=\"{name}\"")),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cache-control", "private, no-store"),
        ("cross-origin-resource-policy", "cross-origin"),
    ] {
        assert_eq!(found.headers()[header], value, "{header}");
    }
    assert!(found.bytes().await.unwrap() == bytes);

    let head = lab.client.head(format!("http://{}{}", lab.address, download.relative_url())).send().await.unwrap();
    assert_eq!((head.status(), head.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "2500000"));

    // The same bytes again, and others.
    let (status, text) = lab.ask(Method::PUT, &upload.relative_url(), bytes.clone()).await;
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::CONFLICT, r#"{"error":"a file was already put here; ask for a new URL for another one"}"#)
    );
    assert_eq!(lab.put(&upload, of_size(PNG, 2_500_000).iter().map(|b| b ^ 1).collect::<Vec<_>>()).await, 409);
    assert!(lab.get(&download).await.bytes().await.unwrap() == bytes);

    let other = lab.upload_url(PNG.len(), "PNG");
    assert_eq!(lab.put(&other, PNG).await, 201);
    lab.files.delete(&upload.path).await.unwrap();
    lab.files.delete(&upload.path).await.unwrap();
    assert!(!lab.files.exists(&upload.path).await.unwrap());
    assert_eq!(lab.get(&download).await.status(), 404);
    assert!(lab.files.exists(&other.path).await.unwrap());
}

#[tokio::test]
async fn a_disk_takes_an_upload_once_and_gives_it_back() {
    let lab = Lab::start().await;
    an_upload_is_taken_once_and_comes_back_as_it_was(&lab).await;
    // Two at one time: whichever is first.
    let twice = lab.upload_url(PNG.len(), "PNG");
    let (one, other) = tokio::join!(lab.put(&twice, PNG), lab.put(&twice, PNG));
    let mut statuses = [one.as_u16(), other.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
}

#[tokio::test]
async fn what_is_kept_is_for_this_user_alone_and_survives_a_restart() {
    let lab = Lab::start().await;
    let upload = lab.upload_url(5, "TXT");
    assert_eq!(lab.put(&upload, "hello").await, 201);
    let [file] = &lab.kept()[..] else { panic!("{:?}", lab.kept()) };
    assert!(file.ends_with(&upload.path), "{file} is not at {}", upload.path);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(file.as_ref()), 0o600);
    for folder in Path::new(file).ancestors().skip(1).take(3) {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    // A crash left an upload that was not whole.
    let left = lab.folder.path().join("files/.incoming/6f1c1b86");
    fs::write(&left, "hel").unwrap();
    let again = open(&settings(), lab.folder.path());
    assert!(!left.exists());
    assert!(again.exists(&upload.path).await.unwrap());
    let query = upload.relative_url().split_once('?').unwrap().1.to_owned();
    assert_eq!(again.put(&upload.path, Some(&query), &HeaderMap::new(), Body::from("hello"), NOW).await, Err(Refused::Used));
}

#[tokio::test]
async fn a_url_is_good_for_its_own_method_path_and_time_only() {
    let lab = Lab::start().await;
    let upload = lab.upload_url(PNG.len(), "PNG");
    let good = upload.relative_url();
    let expires = upload.expires.to_string();
    let digit = if upload.signature.starts_with('0') { "1" } else { "0" };
    let tampered = [
        upload.path.clone(),
        good.replace(&expires, &(upload.expires + 3600).to_string()),
        good.replace(&upload.signature, &format!("{digit}{}", &upload.signature[1..])),
        good.replace(&upload.signature, ""),
        good.replace("/demo/", "/other/"),
        good.replace(&format!("-{}.", PNG.len()), &format!("-{}.", PNG.len() + 1)),
        good.replace(".PNG", ".PDF"),
        format!("{}?{}", lab.upload_url(PNG.len(), "PNG").path, good.split_once('?').unwrap().1),
    ];
    for url in &tampered {
        assert_eq!(lab.ask(Method::PUT, url, PNG).await.0, 401, "{url}");
    }
    // An upload's signature does not fetch, and a download's does not put.
    assert_eq!(lab.put(&lab.download_url(&upload.path), PNG).await, 401);
    assert_eq!(lab.put(&upload, PNG).await, 201);
    assert_eq!(lab.get(&upload).await.status(), 401);
    assert_eq!(lab.ask(Method::HEAD, &good, "").await.0, 401);
    assert_eq!(lab.ask(Method::DELETE, &good, "").await.0, 405);
    assert_eq!(lab.ask(Method::POST, &good, PNG).await.0, 405);

    let (download, late) = (lab.download_url(&upload.path), lab.upload_url(PNG.len(), "PNG"));
    lab.clock.store(NOW + 60_000, Ordering::Relaxed);
    let extended = Signed { expires: download.expires + 60, ..download.clone() };
    for (signed, error) in [(&download, "this URL has expired"), (&extended, "the signature is missing")] {
        let (status, text) = lab.ask(Method::GET, &signed.relative_url(), "").await;
        assert!(status == 401 && text.contains(error), "{text}");
    }
    assert_eq!(lab.put(&late, PNG).await, 401);
    assert_eq!(lab.kept().len(), 1);
}

#[tokio::test]
async fn a_path_belongs_to_one_owner_of_one_account() {
    let lab = Lab::start().await;
    let path = lab.upload_url(5, "TXT").path;
    assert_eq!(Files::account_of(&path), Some("demo".into()));
    let is_owner = |account: &str, owner: &str, path: &str| lab.files.is_owner(&account.into(), owner, path);
    assert!(is_owner("demo", "ann", &path));
    assert!(!is_owner("demo", "bob", &path));
    assert!(!is_owner("other", "ann", &path));
    assert!(!is_owner("other", "ann", &path.replace("demo", "other")));
    assert!(!is_owner("demo", "ann", &format!("{path}/../x")));
    assert_eq!(lab.files.download_url(&path.replace("/demo/", "/../demo/"), NOW), Err(Refused::NoSuchFile));
}

#[tokio::test]
async fn a_file_whose_size_is_not_known_beforehand_is_held_to_the_largest_alone() {
    let lab = Lab::start().await;
    let ask = || lab.files.upload_url(&"demo".into(), "ann", None, "png", NOW).unwrap();
    let (upload, bytes) = (ask(), of_size(PNG, 2_500_000));
    assert!(upload.path.ends_with("-any.PNG") && lab.files.is_owner(&"demo".into(), "ann", &upload.path), "{upload:?}");
    assert_eq!(lab.put(&upload, bytes.clone()).await, StatusCode::CREATED);
    assert_eq!(lab.put(&upload, bytes.clone()).await, StatusCode::CONFLICT);
    assert_eq!(lab.get(&lab.download_url(&upload.path)).await.bytes().await.unwrap(), bytes);
    let (status, why) = lab.ask(Method::PUT, &ask().relative_url(), of_size(PNG, 3_000_001)).await;
    assert!(status == StatusCode::PAYLOAD_TOO_LARGE && why.contains("3000000"), "{why}");
    assert_eq!(lab.put(&ask(), Vec::new()).await, StatusCode::BAD_REQUEST);
    let chunked = put_head(&ask().relative_url(), "transfer-encoding: chunked\r\n");
    assert_eq!(lab.raw(&[&chunked[..], b"0\r\n\r\n"].concat()).await.0, 400);
    let sized = ask().relative_url().replace("-any.", "-5020.");
    assert_eq!(lab.ask(Method::PUT, &sized, of_size(PNG, 5_020)).await.0, StatusCode::UNAUTHORIZED, "nothing else is made of it");
    assert_eq!(lab.kept().len(), 1);
}

#[tokio::test]
async fn what_is_not_taken_is_said_when_the_url_is_asked_for() {
    let lab = Lab::start().await;
    let ask = |size: u64, kind: &str| {
        lab.files
            .upload_url(&"demo".into(), "ann", Some(size), kind, NOW)
            .map(|_| ())
            .map_err(|refused| (refused.status(), refused.to_string()))
    };
    assert_eq!(ask(3_000_000, "jpeg"), Ok(()));
    assert_eq!(ask(0, "PNG"), Err((400, "an empty file is not taken; its size must be from 1 to 3000000 bytes".into())));
    assert_eq!(ask(3_000_001, "PNG"), Err((413, "this file is too large; its size must be from 1 to 3000000 bytes".into())));
    assert_eq!(ask(u64::MAX, "PNG").unwrap_err().0, 413);
    for kind in ["SVG", "svg", "HTML", "ZIP", "PNG/../x", ".PNG", "", "PNG\0", &"A".repeat(100_000)] {
        let (status, text) = ask(5, kind).unwrap_err();
        assert!(status == 415 && text.ends_with("are not taken; send one of JPG, JPEG, PNG, GIF, PDF, TXT, MP4, DOCX"), "{text}");
        assert!(text.len() < 200);
    }
    let odd = lab.files.upload_url(&"../x".into(), "ann", Some(5), "PNG", NOW);
    assert_eq!(odd, Err(Refused::Account));
}

#[test]
fn settings_that_cannot_be_kept_are_the_operators_to_correct() {
    let folder = tempfile::tempdir().unwrap();
    let open = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        Files::open(&settings, folder.path(), [7; 32]).map(|_| ()).map_err(|error| error.to_string()).unwrap_err()
    };
    assert!(open(|settings| settings.types.push("SVG".into())).starts_with("files.types: SVG is never taken"));
    assert!(open(|settings| settings.types.push("EXE".into())).starts_with("files.types: \"EXE\" is not known; choose from JPG"));
    assert!(open(|settings| settings.largest = 0).starts_with("files.largest"));
    assert!(open(|settings| settings.largest = usize::MAX).starts_with("files.largest"));
    assert!(open(|settings| settings.url_time = Duration::from_secs(901)).starts_with("files.url_time"));
    assert!(open(|settings| settings.stall = Duration::ZERO).starts_with("files.stall"));
    assert!(open(|settings| settings.url = "gs://bucket".into()).starts_with("files.url: this is neither empty nor"));
    let s3 = open(|settings| settings.url = "s3://bucket?secret=hush".into());
    assert!(s3.starts_with("files.url") && !s3.contains("hush"), "{s3}");
    fs::write(folder.path().join("files"), "no folder").unwrap();
    assert!(open(|_| ()).contains("/files/.incoming: "));
    let shown = format!("{:?}", Settings { url: "s3://bucket?secret_access_key=hush".into(), ..settings() });
    assert!(shown.contains("s3://bucket") && !shown.contains("hush"));
}

#[tokio::test]
async fn a_body_of_another_length_is_refused_and_nothing_of_it_kept() {
    let lab = Lab::start().await;
    let upload = lab.upload_url(100, "PNG");
    let target = upload.relative_url();
    assert_eq!(lab.put(&upload, of_size(PNG, 101)).await, 413);
    assert_eq!(lab.put(&upload, of_size(PNG, 99)).await, 400);
    assert_eq!(lab.put(&upload, "").await, 400);
    // A client that sends everything before it reads anything gets to read why.
    let everything = [put_head(&target, "content-length: 20000000"), of_size(PNG, 20_000_000)].concat();
    let (status, text) = lab.raw(&everything).await;
    assert!(status == 413 && text.contains("longer than the 100 bytes"), "{text}");
    let chunked = |size: usize| {
        let mut request = put_head(&target, "transfer-encoding: chunked");
        for piece in of_size(PNG, size).chunks(40) {
            request.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            request.extend(piece);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        request
    };
    let (status, text) = lab.raw(&chunked(101)).await;
    assert!(status == 413 && text.contains("longer than the 100 bytes"), "{text}");
    let (status, text) = lab.raw(&chunked(99)).await;
    assert!(status == 400 && text.contains("shorter than the 100 bytes"), "{text}");
    // A client that waits to be asked for its body is not asked for one that would be refused.
    let (status, _) = lab.raw(&put_head(&target, "content-length: 101\r\nexpect: 100-continue")).await;
    assert_eq!(status, 413);
    // One that leaves in the middle.
    let mut stream = TcpStream::connect(lab.address).await.unwrap();
    stream.write_all(&put_head(&target, "content-length: 100")).await.unwrap();
    stream.write_all(&of_size(PNG, 50)).await.unwrap();
    drop(stream);
    lab.until_nothing_is_kept().await;
    // None of that has used the URL up; no length is needed when it ends at the right one.
    assert_eq!(lab.raw(&chunked(100)).await.0, 201);
    assert_eq!(lab.get(&lab.download_url(&upload.path)).await.bytes().await.unwrap(), of_size(PNG, 100));
}

#[tokio::test]
async fn an_upload_that_stands_still_or_crawls_is_given_up() {
    let lab = Lab::with(Settings { stall: Duration::from_millis(200), ..settings() }).await;
    let target = lab.upload_url(100, "TXT").relative_url();
    let began = Instant::now();
    let (status, text) = lab.raw(&[&put_head(&target, "content-length: 100")[..], b"hello"].concat()).await;
    assert!(status == 408 && text.contains("did not come in time"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(2));

    let mut stream = TcpStream::connect(lab.address).await.unwrap();
    stream.write_all(&put_head(&target, "content-length: 100")).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let crawl = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = Vec::new();
    timeout(SOON, read.read_to_end(&mut answer)).await.unwrap().unwrap();
    crawl.abort();
    assert_eq!(status_of(&answer).0, 408);
    assert!(began.elapsed() < Duration::from_secs(5));
    lab.until_nothing_is_kept().await;
}

#[test]
fn an_upload_whose_client_leaves_at_once_leaves_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let lab = Lab::start().await;
        {
            let begun = std::pin::pin!(lab.files.spool.begin());
            assert!(futures::poll!(begun).is_pending());
        }
        // Behind what makes the file: there is one thread for both.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(lab.kept(), [""; 0]);
    });
}

#[tokio::test]
async fn bytes_that_are_not_of_the_type_are_refused_and_polyglots_are_served_as_nothing_else() {
    let lab = Lab::start().await;
    let html = b"<!DOCTYPE html><script>alert(1)</script>".to_vec();
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>".to_vec();
    let hidden = of_size(b"  \n<!-- \x89PNG -->", 5000);
    for kind in ["JPG", "JPEG", "PNG", "GIF", "PDF", "TXT", "MP4", "DOCX"] {
        for bytes in [&html, &svg, &hidden] {
            let upload = lab.upload_url(bytes.len(), kind);
            let (status, text) = lab.ask(Method::PUT, &upload.relative_url(), bytes.clone()).await;
            assert!(status == 415 && text.contains(&format!("these bytes are no {kind}")), "{kind}: {text}");
        }
    }
    let upload = lab.upload_url(PNG.len(), "PNG");
    let typed = |mime: &str| {
        lab.client.put(format!("http://{}{}", lab.address, upload.relative_url())).header("content-type", mime).body(PNG).send()
    };
    let refused = typed("text/html").await.unwrap();
    assert_eq!(refused.status(), 415);
    assert_eq!(refused.text().await.unwrap(), r#"{"error":"this URL is for PNG; send it with Content-Type: image/png, or without one"}"#);
    assert_eq!(typed("image/svg+xml").await.unwrap().status(), 415);
    lab.until_nothing_is_kept().await;
    assert_eq!(typed("image/png").await.unwrap().status(), 201);

    // A picture as far as anybody can tell, and a page for who does not look at the beginning.
    let polyglot = [b"GIF89a\x01\0\x01\0\0\0\0;".as_slice(), &html].concat();
    let upload = lab.upload_url(polyglot.len(), "GIF");
    assert_eq!(lab.put(&upload, polyglot.clone()).await, 201);
    let found = lab.get(&lab.download_url(&upload.path)).await;
    assert_eq!(found.headers()["content-type"], "image/gif");
    assert_eq!(found.headers()["x-content-type-options"], "nosniff");
    assert!(found.headers()["content-disposition"].to_str().unwrap().starts_with("attachment;"));
    assert_eq!(found.bytes().await.unwrap(), polyglot);
    let renamed = lab.upload_url(polyglot.len(), "PNG");
    assert_eq!(lab.put(&renamed, polyglot).await, 415);
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let lab = Lab::start().await;
    fs::write(lab.folder.path().join("secret"), PNG).unwrap();
    let upload = lab.upload_url(PNG.len(), "PNG");
    assert_eq!(lab.put(&upload, PNG).await, 201);
    let download = lab.download_url(&upload.path);
    let (path, query) = (&upload.path, download.relative_url().split_once('?').unwrap().1.to_owned());
    let name = path.rsplit('/').next().unwrap();
    let paths = [
        "/files/../secret".to_owned(),
        "/files/../../secret".into(),
        "/files/../../../secret".into(),
        "/files/demo/../../secret".into(),
        "/files/demo/x/../../../secret".into(),
        "/files/%2e%2e/%2e%2e/secret".into(),
        "/files/..%2f..%2fsecret/x/y".into(),
        "/files/demo/%2e%2e/secret".into(),
        "/files/demo/..%5c..%5c/secret".into(),
        "/files/demo/x/..%2f..%2f..%2fsecret".into(),
        "/files/demo/x/secret%00.PNG".into(),
        "/files/demo/x/%00".into(),
        "/files//etc/passwd".into(),
        "/files/demo//etc".into(),
        "//files/demo/x/y".into(),
        "/files/.incoming/x/y".into(),
        path.replace("/demo/", "/demo/./"),
        path.replace("/demo/", "/demo%2f"),
        path.replace("/demo/", "//demo/"),
        path.replace("/demo/", "/d%65mo/"),
        path.replace("/files/", "/files/x/../"),
        path.replace(name, &format!("..%2f{name}")),
        path.replace(name, &format!("{name}%00")),
        path.replace(name, &format!("{name};x")),
        format!("{path}/"),
        format!("{path}/.."),
        format!("{path}%2f..%2f{name}"),
    ];
    for path in paths {
        for method in ["GET", "PUT", "HEAD"] {
            let body = if method == "PUT" { format!("content-length: {}\r\n", PNG.len()) } else { String::new() };
            let head = format!("{method} {path}?{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{body}\r\n");
            let request = if method == "PUT" { [head.as_bytes(), PNG].concat() } else { head.into_bytes() };
            let (status, _) = lab.raw(&request).await;
            assert!([400, 404].contains(&status), "{method} {path}: {status}");
        }
    }
    // A NUL as it is.
    let (status, _) = lab.raw(format!("GET {path}\0?{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await;
    assert_eq!(status, 400);
    assert_eq!(lab.kept().len(), 1, "{:?}", lab.kept());
}

#[tokio::test]
async fn any_page_may_put_and_fetch_without_cookies() {
    let lab = Lab::start().await;
    let upload = lab.upload_url(PNG.len(), "PNG");
    let url = format!("http://{}{}", lab.address, upload.relative_url());
    let preflight = lab
        .client
        .request(Method::OPTIONS, &url)
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "content-type,authorization")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 200);
    let header = |name: &str| preflight.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("*"));
    assert!(header("access-control-allow-methods").unwrap().contains("PUT"));
    assert_eq!(header("access-control-allow-headers").as_deref(), Some("content-type,authorization"));
    assert_eq!(header("access-control-allow-credentials"), None);
    let put = lab.client.put(&url).header("origin", "https://shop.example").body(PNG).send().await.unwrap();
    assert_eq!((put.status(), put.headers()["access-control-allow-origin"].to_str().unwrap()), (StatusCode::CREATED, "*"));
    let again = lab.client.put(&url).header("origin", "https://shop.example").body(PNG).send().await.unwrap();
    assert_eq!((again.status(), again.headers()["access-control-allow-origin"].to_str().unwrap()), (StatusCode::CONFLICT, "*"));
}

/// Against a server of its own, `moto_server`: named by `TIELINE_MOTO_SERVER`, or in the tests' Python environment.
#[cfg(feature = "s3")]
#[tokio::test]
async fn an_s3_store_takes_an_upload_once_and_gives_it_back() {
    use object_store::aws::AmazonS3Builder;
    use object_store::{Attribute, ObjectStoreExt};
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/.venv/bin/moto_server");
    let program = std::env::var("TIELINE_MOTO_SERVER").unwrap_or_else(|_| beside.to_owned());
    if !Path::new(&program).is_file() {
        println!("SKIPPED s3: there is no {program}; pip install 'moto[s3,server]'");
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut server = tokio::process::Command::new(program);
    server.args(["-H", "127.0.0.1", "-p", &port.to_string()]).kill_on_drop(true);
    server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let server = server.spawn().unwrap();
    let (client, began) = (Client::builder().no_proxy().build().unwrap(), Instant::now());
    while !client.put(format!("http://127.0.0.1:{port}/attachments")).send().await.is_ok_and(|made| made.status().is_success()) {
        assert!(began.elapsed() < SOON * 2, "the S3 server does not answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let credentials = "access_key_id=test&secret_access_key=a%2Fb%2Bc";
    let url = format!("s3://attachments/tieline?region=us-east-1&endpoint=http%3A%2F%2F127.0.0.1:{port}&{credentials}");
    let lab = Lab::with(Settings { url, ..settings() }).await;
    an_upload_is_taken_once_and_comes_back_as_it_was(&lab).await;
    assert!(lab.kept().is_empty(), "uploads do not stay on the local disk: {:?}", lab.kept());
    let refused = lab.upload_url(5, "PNG");
    assert_eq!(lab.put(&refused, "<svg>").await, 415);
    assert!(!lab.files.exists(&refused.path).await.unwrap());
    // Served by itself, the bucket would tell the type, and show no page.
    let kept = lab.upload_url(PNG.len(), "PNG");
    assert_eq!(lab.put(&kept, PNG).await, 201);
    let object = kept.path.strip_prefix("/files/").unwrap();
    let direct = AmazonS3Builder::new().with_bucket_name("attachments").with_region("us-east-1").with_allow_http(true);
    let direct = direct.with_endpoint(format!("http://127.0.0.1:{port}")).with_access_key_id("test").with_secret_access_key("test");
    let found = direct.build().unwrap().get(&format!("tieline/{object}").into()).await.unwrap();
    assert_eq!(found.attributes.get(&Attribute::ContentType).unwrap().as_ref(), "image/png");
    assert_eq!(found.attributes.get(&Attribute::ContentDisposition).unwrap().as_ref(), "attachment");
    assert_eq!(found.bytes().await.unwrap(), PNG);
    // A store that is not there is said to be so, and is not waited for endlessly.
    drop(server);
    let began = Instant::now();
    assert_eq!(lab.get(&lab.download_url(&kept.path)).await.status(), 503);
    assert!(began.elapsed() < SOON);
}
