//! The reverse proxies of `deploy/proxy`, as they stand but for addresses and files, in front of a gateway.

use crate::packaging::{program, root, succeeds};
use crate::support::*;
use futures::{SinkExt, StreamExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A folder with a certificate for `localhost`, and where a proxy will listen.
struct Place {
    dir: TempDir,
    port: u16,
    pem: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (name, text) in [("fullchain.pem", &pem), ("privkey.pem", &key), ("tieline.pem", &format!("{pem}{key}"))] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self { dir, port: free_port(), pem }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A configuration of `deploy/proxy` with this place's addresses and files in it.
    fn configure(&self, name: &str, swaps: &[(&str, String)]) -> PathBuf {
        let text = std::fs::read_to_string(root().join("deploy/proxy").join(name)).unwrap();
        let text = swaps.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{name} has no {from:?}");
            text.replace(from, to)
        });
        let file = self.dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// What is said to standard output and error goes where [`Place::logged`] looks.
    fn start(&self, mut proxy: std::process::Command) -> Running {
        let out = std::fs::File::create(self.dir.path().join("said.log")).unwrap();
        proxy.stdout(out.try_clone().unwrap()).stderr(out).stdin(Stdio::null()).env("HOME", self.dir.path());
        Running(proxy.env("XDG_DATA_HOME", self.dir.path()).env("XDG_CONFIG_HOME", self.dir.path()).spawn().unwrap())
    }

    fn logged(&self) -> String {
        let logs = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
        logs.filter(is_log).map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    fn client(&self) -> reqwest::Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let trusted = reqwest::Certificate::from_pem(self.pem.as_bytes()).unwrap();
        let here = ([127, 0, 0, 1], self.port).into();
        reqwest::Client::builder().no_proxy().timeout(SOON).tls_certs_only([trusted]).resolve("localhost", here).build().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// Sends a frame on a socket through the proxy; what comes back.
    async fn ask(&self, path: &str, headers: &[(&str, &str)], frame: &serde_json::Value) -> serde_json::Value {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let tls = TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()));
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let shaking = tls.connect(ServerName::try_from("localhost").unwrap(), stream);
        let stream = tokio::time::timeout(SOON, shaking).await.expect("TLS is spoken soon").unwrap();
        let mut request = format!("wss://localhost:{}{path}", self.port).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let opening = tokio_tungstenite::client_async(request, stream);
        let (mut socket, _) = tokio::time::timeout(SOON, opening).await.expect("a socket is opened soon").unwrap();
        socket.send(Message::text(frame.to_string())).await.unwrap();
        loop {
            let came = tokio::time::timeout(SOON, socket.next()).await.expect("a reply comes soon");
            if let Message::Text(text) = came.unwrap().unwrap() {
                let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
                if frame["kind"] == "resp" {
                    return frame;
                }
            }
        }
    }
}

/// With limits above those of the proxies, to see whose it is.
async fn gateway() -> TestServer {
    let limits = "[limits]\nmessage = \"1MiB\"\nbatch = \"1MiB\"\n";
    TestServer::with(&format!("[internal]\nadmin_key = \"the operator's own long key\"\n\n{limits}")).await
}

/// Sockets and calls go through; what is the operator's does not; no log says what was asked for.
async fn is_carried(place: &Place, mut server: TestServer) {
    until("the proxy listens", async || TcpStream::connect(("127.0.0.1", place.port)).await.is_ok()).await;
    let (api, client) = (server.api(), place.client());
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let path = format!("/ws_api/account/{ACCOUNT}/messaging/consumer?v=3");
    let headers = [("authorization", ann.app.as_str()), ("x-lp-on-behalf", ann.jws.as_str())];
    let answer = place.ask(&path, &headers, &publish("1", &id, "through a proxy")).await;
    assert_eq!((&answer["code"], &answer["body"]["sequence"]), (&200.into(), &0.into()), "{answer}");
    let bearer = api.login("ada").await.bearer;
    let clock = request("2", "GetClock", serde_json::json!({}));
    let answer = place.ask(&format!("/ws_api/account/{ACCOUNT}/messaging/brand/{bearer}?v=3"), &[], &clock).await;
    assert_eq!(answer["code"], 200, "{answer}");

    let get = async |path: &str| client.get(place.url(path)).send().await.unwrap();
    let lookup = get(&format!("/api/account/{ACCOUNT}/service/asyncMessagingEnt/baseURI.json?version=1.0")).await;
    let lookup = lookup.text().await.unwrap();
    assert!(lookup.contains(&format!("localhost:{}", place.port)), "the Host is handed on: {lookup}");
    for inside in ["/metrics", "/readyz", "/healthz", "/version", "/admin/v1/faults"] {
        assert_ne!(api.get(inside).await.status, 404, "{inside} is there");
        assert_eq!(get(inside).await.status(), 404, "{inside} is not passed on");
    }
    let put = async |path: &str, size: usize| client.put(place.url(path)).body(vec![b'x'; size]).send().await.unwrap().status().as_u16();
    assert_eq!(put(&format!("/files/{ACCOUNT}/x/y.png?sig=hidden-signature"), 1 << 20).await, 404, "the gateway's own answer");
    let send = async |size: usize| {
        let text = format!("{}{}", publish("1", &id, "long"), " ".repeat(size));
        let post = client.post(place.url(&format!("/api/account/{ACCOUNT}/messaging/consumer/{SEND}?v=3"))).body(text);
        ann.headers()
            .into_iter()
            .fold(post, |post, (name, value)| post.header(name, value))
            .send()
            .await
            .map(|answer| answer.status().as_u16())
    };
    assert_eq!(send(200 << 10).await.unwrap(), 200);
    // A proxy that refuses may hang up before the client has sent all and has read why; then it asks again.
    let mut refused = send(300 << 10).await;
    for _ in 0..10 {
        if refused.is_err() {
            refused = send(300 << 10).await;
        }
    }
    assert_eq!(refused.unwrap(), 413, "the gateway would take it");

    // Also what fails is not logged with its address.
    server.stop().await;
    assert!(get(&format!("/ws_api/account/{ACCOUNT}/messaging/brand/{bearer}?v=3")).await.status().is_server_error());
    until("the failure is logged", async || ["502", "503"].iter().any(|status| place.logged().contains(status))).await;
    let logged = place.logged();
    for hidden in [bearer.as_str(), ann.app.as_str(), ann.jws.as_str(), "ws_api", "hidden-signature"] {
        assert!(!logged.contains(hidden), "{hidden} is in the log: {logged}");
    }
}

/// A client that calls too often is refused by the proxy; the gateway of the tests has no such limit.
async fn is_throttled(place: &Place) {
    let client = place.client();
    let path = place.url(&format!("/sentinel/api/account/{ACCOUNT}/app/token?v=1.0"));
    for number in 0..400 {
        if client.post(&path).send().await.unwrap().status() == 429 {
            assert!(number >= 50, "refused at {number} already");
            return;
        }
    }
    panic!("nothing is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_carries_sockets_and_logs_no_address() {
    let name = "nginx_carries_sockets";
    let (Some(mut check), Some(mut serve)) = (program(name, "nginx"), program(name, "nginx")) else { return };
    let (place, server) = (Place::new(), gateway().await);
    let site = place.configure(
        "nginx.conf",
        &[
            ("listen 443 ssl;", format!("listen 127.0.0.1:{} ssl;", place.port)),
            ("127.0.0.1:8080", server.address.to_string()),
            ("/etc/ssl/tieline", place.dir.path().display().to_string()),
            ("/var/log/nginx", place.dir.path().display().to_string()),
        ],
    );
    // What the package's own nginx.conf says around it; one process, so that none is left when it is killed.
    let folders: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {};\n", place.path(kind))).concat();
    let main = format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\n{folders}include {};\n}}\n",
        place.path("pid"),
        place.path("main.log"),
        site.display()
    );
    std::fs::write(place.path("main.conf"), main).unwrap();
    for nginx in [&mut check, &mut serve] {
        nginx.args(["-e", &place.path("main.log"), "-c", &place.path("main.conf")]);
    }
    succeeds(check.arg("-t"));
    let _proxy = place.start(serve);
    until("the proxy listens", async || TcpStream::connect(("127.0.0.1", place.port)).await.is_ok()).await;
    is_throttled(&place).await;
    is_carried(&place, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_carries_sockets_and_logs_no_address() {
    let name = "haproxy_carries_sockets";
    let (Some(mut check), Some(mut serve)) = (program(name, "haproxy"), program(name, "haproxy")) else { return };
    let (place, server) = (Place::new(), gateway().await);
    let file = place.configure(
        "haproxy.cfg",
        &[
            ("bind :443", format!("bind 127.0.0.1:{}", place.port)),
            ("127.0.0.1:8080", server.address.to_string()),
            ("/etc/haproxy/tieline.pem", place.path("tieline.pem")),
            ("log /dev/log local0", "log stdout format raw local0".to_owned()),
            // Where few files may be open.
            ("maxconn 100000", "maxconn 100".to_owned()),
        ],
    );
    succeeds(check.args(["-c", "-f"]).arg(&file));
    serve.arg("-f").arg(&file);
    let _proxy = place.start(serve);
    until("the proxy listens", async || TcpStream::connect(("127.0.0.1", place.port)).await.is_ok()).await;
    is_throttled(&place).await;
    is_carried(&place, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_carries_sockets_and_logs_no_address() {
    let name = "caddy_carries_sockets";
    let (Some(mut check), Some(mut serve)) = (program(name, "caddy"), program(name, "caddy")) else { return };
    let (place, server) = (Place::new(), gateway().await);
    let tls = format!("tls {} {}", place.path("fullchain.pem"), place.path("privkey.pem"));
    let file = place.configure(
        "Caddyfile",
        &[
            ("chat.example {", format!("https://localhost:{} {{\n\tbind 127.0.0.1\n\t{tls}", place.port)),
            ("127.0.0.1:8080", server.address.to_string()),
            // No port 80, and no port for commands.
            ("\n{\n", "\n{\n\tadmin off\n\tauto_https disable_redirects\n".to_owned()),
        ],
    );
    let within = |path: &Path| path.display().to_string();
    check.args(["validate", "--adapter", "caddyfile", "--config", &within(&file)]).env("HOME", place.dir.path());
    succeeds(check.env("XDG_DATA_HOME", place.dir.path()).env("XDG_CONFIG_HOME", place.dir.path()));
    serve.args(["run", "--adapter", "caddyfile", "--config", &within(&file)]);
    let _proxy = place.start(serve);
    is_carried(&place, server).await;
}
