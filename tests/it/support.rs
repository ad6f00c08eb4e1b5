//! Servers of their own for each test, and clients that speak the protocol.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tieline::Server;
use tieline::config::Config;
use tieline::delivery::Deliveries;
use tieline::gateway::Gateway;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

/// How long anything may take that should be soon. Ten times what it should be, for machines under load.
pub const SOON: Duration = Duration::from_secs(20);

/// How long a program may take that is not ours, and does a lot.
pub const LONG: Duration = Duration::from_secs(600);

/// Waits for a state, with a deadline.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < SOON, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a command said and how it ended, which must be in time; it is killed when it is not.
pub fn output(command: &mut Command, limit: Duration) -> Output {
    let shown = format!("{command:?}");
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    output_of(spawned.unwrap_or_else(|error| panic!("{shown}: {error}")), &shown, limit)
}

/// As [`output`], of a program that runs already.
pub fn output_of(child: Child, shown: &str, limit: Duration) -> Output {
    let pid = child.id().to_string();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(limit) else {
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
        panic!("it does not end in {limit:?}: {shown}");
    };
    output.unwrap()
}

/// A process that ends with the test, however that ends.
pub struct Running(pub Child);

impl Running {
    /// How it ended, which it must soon: by itself, or because it was told to.
    pub fn status(&mut self) -> ExitStatus {
        let began = std::time::Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            // A drain has its time, too.
            assert!(began.elapsed() < SOON * 2, "process {} does not end", self.0.id());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub const ACCOUNT: &str = "demo";

/// What switches the admin's calls on, and the header that makes them.
pub const ADMIN: &str = "[internal]\nadmin_key = \"the-admin-key\"\n\n";
pub const ADMIN_KEY: [(&str, &str); 1] = [("authorization", "Bearer the-admin-key")];

/// Two tenants with identical ids, agents of different skills, a survey, and an application that counts repeats.
pub const CONFIG: &str = r#"
[limits]
logins_per_minute = 10000
token_calls_per_minute = 100000

[[accounts]]
id = "demo"
[[accounts.apps]]
client_id = "demo-connector"
client_secret = "demo-connector-secret"
[[accounts.apps]]
client_id = "counting"
client_secret = "counting-secret"
reply_sequence = "resend_count"
[[accounts.apps]]
client_id = "scopeless"
client_secret = "scopeless-secret"
scopes = ["other"]
[[accounts.agents]]
user_id = "1001"
login = "ada"
password = "ada-demo"
skills = ["-1", "77"]
capacity = 3
[[accounts.agents]]
user_id = "1002"
login = "grace"
password = "grace-demo"
roles = ["manager"]
skills = ["-1", "77"]
capacity = 3
[[accounts.agents]]
user_id = "1003"
login = "bea"
password = "bea-demo"
skills = ["88"]
capacity = 1
[[accounts.queues]]
id = "77"
[[accounts.queues]]
id = "88"
[accounts.survey]
queues = ["77"]
[[accounts.survey.questions]]
id = "score"
kind = "csat"
text = "How did we do?"
[[accounts.survey.questions]]
id = "why"
kind = "text"
text = "What could be better?"

[[accounts]]
id = "other"
[[accounts.apps]]
client_id = "demo-connector"
client_secret = "demo-connector-secret"
[[accounts.agents]]
user_id = "1001"
login = "ada"
password = "ada-demo"
"#;

/// A gateway in this process, on a free port, with a folder of its own.
pub struct TestServer {
    pub address: SocketAddr,
    pub tls: Option<SocketAddr>,
    pub deliveries: Deliveries,
    pub gateway: Arc<Gateway>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    dir: Option<TempDir>,
    extra: String,
    agents: usize,
    allows_loopback: bool,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With more configuration in front of the usual.
    pub async fn with(extra: &str) -> Self {
        Self::open(tempfile::tempdir().unwrap(), extra.to_owned(), 0, true).await
    }

    /// As `with`, but endpoints are judged as in earnest: none may be on this machine.
    pub async fn guarded(extra: &str) -> Self {
        Self::open(tempfile::tempdir().unwrap(), extra.to_owned(), 0, false).await
    }

    /// With so many agents more in the demo account, who sign in as `agent-0` and so on.
    pub async fn crowded(extra: &str, agents: usize) -> Self {
        Self::open(tempfile::tempdir().unwrap(), extra.to_owned(), agents, true).await
    }

    async fn open(dir: TempDir, extra: String, agents: usize, allows_loopback: bool) -> Self {
        // A thousand followers and the gateway's ends of them are more than some machines allow at first.
        rlimit::increase_nofile_limit(u64::MAX).unwrap();
        let (settings, apps) = apps_of(&extra);
        // One section of each name: what a test sets of the limits goes into the usual ones.
        let (own, rest) = settings.split_once("[limits]\n").map_or(("", settings), |(before, after)| (after, before));
        let (own, behind) = own.split_once("\n\n").unwrap_or((own, ""));
        let usual: String =
            CONFIG.lines().filter(|line| !own.lines().any(|set| key(set) == key(line))).map(|line| format!("{line}\n")).collect();
        let crowd: String = (0..agents)
            .map(|number| {
                format!(
                    "[[accounts.agents]]\nuser_id = \"{}\"\nlogin = \"agent-{number}\"\npassword = \"agent-{number}-demo\"\n",
                    5000 + number
                )
            })
            .collect();
        let usual = apps.into_iter().fold(usual, |usual, (app, lines)| {
            let secret = format!("client_secret = \"{app}-secret\"\n");
            usual.replacen(&secret, &format!("{secret}{lines}\n"), 1)
        });
        let usual = usual.replacen("[[accounts.queues]]", &format!("{crowd}[[accounts.queues]]"), 1);
        let text = format!("{rest}\n{}\n{behind}", usual.replacen("[limits]\n", &format!("[limits]\n{own}\n"), 1));
        let set = |name: &str, value: &str| (format!("TIELINE__SERVER__{name}"), value.to_owned());
        let variables = [set("LISTEN", "127.0.0.1:0"), set("DATA_DIR", &dir.path().join("data").display().to_string()), set("DRAIN", "3s")];
        let mut config = Config::from_parts(Some(("test", &text)), variables).unwrap();
        config.allow_loopback_webhooks = allows_loopback;
        let server = Server::bind(config).await.unwrap();
        let (deliveries, gateway) = (server.deliveries(), server.gateway());
        let (address, tls) = (server.address().unwrap(), server.tls_address());
        let stop = CancellationToken::new();
        let running = stop.clone();
        let task = tokio::spawn(async move { server.run(running).await.unwrap() });
        Self { address, tls, deliveries, gateway, stop, task: Some(task), dir: Some(dir), extra, agents, allows_loopback }
    }

    /// Stops in good order and starts again on the same folder.
    pub async fn restart(mut self) -> Self {
        self.stop().await;
        let dir = self.dir.take().unwrap();
        Self::open(dir, self.extra.clone(), self.agents, self.allows_loopback).await
    }

    /// Drains, and waits until that is done.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            tokio::time::timeout(SOON, task).await.expect("the drain ends").unwrap();
        }
    }

    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    pub fn data(&self) -> PathBuf {
        self.dir.as_ref().unwrap().path().join("data")
    }

    pub fn api(&self) -> Api {
        Api::new(self.address)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a test gives applications of the demo account: the lines behind each `# app NAME`, at the end of the text.
fn apps_of(extra: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = extra.split("# app ");
    (parts.next().unwrap_or_default(), parts.filter_map(|part| part.split_once('\n')).collect())
}

/// The key of a line of configuration.
fn key(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim())
}

/// A gateway as a process of its own, which can be killed.
pub struct TestProcess {
    pub address: SocketAddr,
    child: Running,
}

impl TestProcess {
    /// Starts the program on a folder and a port, and waits until it is ready. `wrap` is put in front of the command, and must
    /// have the program take its place: what is not our child would outlive a test that fails.
    pub async fn start(dir: &Path, port: u16, wrap: &[&str]) -> Self {
        Self::start_with(dir, port, wrap, CONFIG).await
    }

    pub async fn start_with(dir: &Path, port: u16, wrap: &[&str], text: &str) -> Self {
        let config = dir.join("test.toml");
        std::fs::write(&config, text).unwrap();
        let program = env!("CARGO_BIN_EXE_tieline");
        let mut words: Vec<&str> = wrap.to_vec();
        words.extend([program, "--config", config.to_str().unwrap(), "serve"]);
        let child = Command::new(words[0])
            .args(&words[1..])
            .current_dir(dir)
            .env("TIELINE__SERVER__LISTEN", format!("127.0.0.1:{port}"))
            .env("TIELINE__SERVER__DATA_DIR", dir.join("data"))
            .env("TIELINE__LOG__LEVEL", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { address: SocketAddr::from(([127, 0, 0, 1], port)), child: Running(child) };
        this.api().until_ready().await;
        this
    }

    pub fn api(&self) -> Api {
        Api::new(self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// How it ended by itself.
    pub fn status(&mut self) -> ExitStatus {
        self.child.status()
    }

    /// A signal by its name; returns how the process ended.
    pub fn end(&mut self, signal: &str) -> ExitStatus {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status();
        assert!(sent.unwrap().success());
        self.child.status()
    }
}

/// Runs the program to its end, with a data folder and a gateway to talk to; whether it was good, and what it said.
pub fn tieline(dir: &Path, data: &Path, url: &str, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieline"));
    command.args(words).current_dir(dir).env("TIELINE__SERVER__DATA_DIR", data).env("TIELINE_URL", url);
    let output = output(&mut command, SOON * 4);
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A reply over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub text: String,
    pub headers: reqwest::header::HeaderMap,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The `errorCode` of the Connector API.
    pub fn error_code(&self) -> u64 {
        self.json()["body"]["errorCode"].as_u64().unwrap_or_else(|| panic!("no errorCode: {}", self.text))
    }
}

/// The HTTP side.
#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    http: reqwest::Client,
}

impl Api {
    pub fn new(address: SocketAddr) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
        Self { address, http }
    }

    /// Sends a request and hangs up at once, without waiting for an answer.
    pub async fn call_and_leave(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n{body}", self.address, body.len());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn try_call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Result<Reply, reqwest::Error> {
        let mut request = self.http.request(method.parse().unwrap(), self.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply { status, text: response.text().await?, headers })
    }

    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<String>) -> Reply {
        self.try_call(method, path, headers, body.into()).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "").await
    }

    pub async fn until_ready(&self) {
        let began = std::time::Instant::now();
        loop {
            if let Ok(Reply { status: 200, .. }) = self.try_call("GET", "/readyz", &[], String::new()).await {
                return;
            }
            assert!(began.elapsed() < SOON * 2, "the gateway does not become ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn app_token_of(&self, account: &str, app: &str) -> String {
        let form = format!("client_id={app}&client_secret={}-secret&grant_type=client_credentials", app.trim_end_matches("-secret"));
        let reply = self
            .call(
                "POST",
                &format!("/sentinel/api/account/{account}/app/token?v=1.0"),
                &[("content-type", "application/x-www-form-urlencoded")],
                form,
            )
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn app_token(&self) -> String {
        self.app_token_of(ACCOUNT, "demo-connector").await
    }

    pub async fn consumer_of(&self, account: &str, app: &str, name: &str) -> String {
        let path = format!("/api/account/{account}/consumer?v=1.0");
        let reply = self.call("POST", &path, &[("authorization", app)], json!({"ext_consumer_id": name}).to_string()).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()["token"].as_str().unwrap().to_owned()
    }

    /// A consumer that the demo application speaks for.
    pub async fn speaker(&self, name: &str) -> Speaker {
        let app = self.app_token().await;
        let jws = self.consumer_of(ACCOUNT, &app, name).await;
        Speaker { api: self.clone(), account: ACCOUNT.to_owned(), app, jws }
    }

    pub async fn login(&self, login: &str) -> Login {
        let body = json!({"username": login, "password": format!("{login}-demo")}).to_string();
        let reply = self.call("POST", &format!("/api/account/{ACCOUNT}/login?v=1.3"), &[], body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let answer = reply.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Login {
            bearer: text(&answer["bearer"]),
            session: text(&answer["sessionId"]),
            csrf: text(&answer["csrf"]),
            pid: text(&answer["config"]["userPid"]),
            user: text(&answer["config"]["userId"]),
        }
    }

    /// An agent's socket.
    pub async fn agent(&self, login: &str, version: &str) -> Ws {
        let bearer = self.login(login).await.bearer;
        self.agent_by(&bearer, version).await
    }

    pub async fn agent_by(&self, bearer: &str, version: &str) -> Ws {
        self.socket(&format!("/ws_api/account/{ACCOUNT}/messaging/brand/{bearer}?v={version}"), &[]).await.unwrap()
    }

    pub async fn socket(&self, path: &str, headers: &[(&str, &str)]) -> Result<Ws, WsError> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let opening = tokio_tungstenite::connect_async(request);
        let (socket, _) = tokio::time::timeout(SOON, opening).await.expect("a socket is opened or refused soon")?;
        Ok(Ws { socket, waiting: VecDeque::new() })
    }

    /// A token of a consumer that signed up itself.
    pub async fn sign_up(&self) -> String {
        let reply = self.call("POST", &format!("/api/account/{ACCOUNT}/signup"), &[], "").await;
        reply.json()["jwt"].as_str().unwrap().to_owned()
    }
}

#[derive(Debug, Clone)]
pub struct Login {
    pub bearer: String,
    pub session: String,
    pub csrf: String,
    pub pid: String,
    pub user: String,
}

/// A consumer and the application that speaks for it.
#[derive(Clone)]
pub struct Speaker {
    pub api: Api,
    pub account: String,
    pub app: String,
    pub jws: String,
}

pub const SEND: &str = "conversation/send";
pub const CONVERSATION: &str = "conversation";

impl Speaker {
    pub fn headers(&self) -> [(&str, &str); 3] {
        [("authorization", &self.app), ("x-lp-on-behalf", &self.jws), ("content-type", "application/json")]
    }

    pub async fn post(&self, call: &str, body: impl Into<String>) -> Reply {
        self.post_with(call, &[], body).await
    }

    pub async fn post_with(&self, call: &str, more: &[(&str, &str)], body: impl Into<String>) -> Reply {
        let headers: Vec<_> = self.headers().into_iter().chain(more.iter().copied()).collect();
        self.api.call("POST", &format!("/api/account/{}/messaging/consumer/{call}?v=3", self.account), &headers, body).await
    }

    pub fn opening(&self) -> Value {
        json!([
            {"kind": "req", "id": "1,", "type": "userprofile.SetUserProfile", "body": {"firstName": "Ann"}},
            {"kind": "req", "id": "2,", "type": "cm.ConsumerRequestConversation", "body": {"brandId": self.account, "skillId": "-1"}},
        ])
    }

    /// Opens a conversation; its id.
    pub async fn open(&self) -> String {
        let reply = self.post(CONVERSATION, self.opening().to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()[1]["body"]["conversationId"].as_str().unwrap().to_owned()
    }

    /// Publishes a text; its number.
    pub async fn say(&self, conversation: &str, text: &str) -> u64 {
        let reply = self.post(SEND, publish("1", conversation, text).to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["body"]["sequence"].as_u64().unwrap()
    }

    /// Puts a file where a URL says that it asks for; its path.
    pub async fn upload(&self, bytes: Vec<u8>, kind: &str) -> String {
        let wanted = request("u", "ms.GenerateURLForUploadFile", json!({"fileSize": bytes.len(), "fileType": kind}));
        let url = self.post(SEND, wanted.to_string()).await.json()["body"].clone();
        let put = reqwest::Client::new().put(self.api.url(&signed(&url))).body(bytes).send().await.unwrap();
        assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
        url["relativePath"].as_str().unwrap().to_owned()
    }

    /// Publishes a file that was put.
    pub async fn show_file(&self, conversation: &str, path: &str, kind: &str) {
        let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {"relativePath": path, "fileType": kind}});
        let body = json!({"dialogId": conversation, "event": event});
        let shown = self.post(SEND, request("p", "ms.PublishEvent", body).to_string()).await;
        assert_eq!(shown.status, 200, "{}", shown.text);
    }

    pub async fn consumer_socket(&self) -> Ws {
        let headers = [("authorization", self.app.as_str()), ("x-lp-on-behalf", self.jws.as_str())];
        self.api.socket(&format!("/ws_api/account/{}/messaging/consumer?v=3", self.account), &headers).await.unwrap()
    }

    pub async fn connector_socket(&self) -> Ws {
        let path = format!("/ws_api/account/{}/messaging/connector?v=3", self.account);
        self.api.socket(&path, &[("authorization", &self.app)]).await.unwrap()
    }
}

/// The path and the query of a URL that a file is put to, or got from.
pub fn signed(url: &Value) -> String {
    let value = |name: &str| url["queryParams"][name].as_str().map_or_else(|| url["queryParams"][name].to_string(), str::to_owned);
    let path = url["relativePath"].as_str().unwrap_or_else(|| panic!("no URL: {url}"));
    format!("{path}?temp_url_sig={}&temp_url_expires={}", value("temp_url_sig"), value("temp_url_expires"))
}

pub fn request(id: &str, kind: &str, body: Value) -> Value {
    json!({"kind": "req", "id": id, "type": kind, "body": body})
}

pub fn publish(id: &str, dialog: &str, text: &str) -> Value {
    request(
        id,
        "ms.PublishEvent",
        json!({"dialogId": dialog, "event": {"type": "ContentEvent", "contentType": "text/plain", "message": text}}),
    )
}

pub fn follow(id: &str, dialog: &str, from: u64) -> Value {
    request(id, "ms.SubscribeMessagingEvents", json!({"dialogId": dialog, "fromSeq": from}))
}

pub fn change(id: &str, conversation: &str, field: Value) -> Value {
    request(id, "cm.UpdateConversationField", json!({"conversationId": conversation, "conversationField": field}))
}

pub fn add_agent(id: &str, conversation: &str, role: &str) -> Value {
    change(id, conversation, json!([{"field": "ParticipantsChange", "type": "ADD", "role": role}]))
}

/// A WebSocket client.
pub struct Ws {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    waiting: VecDeque<Value>,
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    Frame(Value),
    Closed(u16),
    Gone,
}

impl Ws {
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        let sending = self.socket.send(Message::text(text.into()));
        tokio::time::timeout(SOON, sending).await.expect("what is sent is read soon").unwrap();
    }

    /// The next frame or the end, if one comes soon. Pings are neither, however often they come.
    async fn coming(&mut self) -> Option<Came> {
        let coming = async {
            loop {
                match self.socket.next().await {
                    None => return Came::Gone,
                    Some(Err(_)) => return Came::Gone,
                    Some(Ok(Message::Text(text))) => return Came::Frame(serde_json::from_str(&text).unwrap()),
                    Some(Ok(Message::Close(Some(frame)))) => return Came::Closed(frame.code.into()),
                    Some(Ok(Message::Close(None))) => return Came::Closed(1005),
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::time::timeout(SOON, coming).await.ok()
    }

    /// The next frame or the end, as it comes.
    pub async fn come(&mut self) -> Came {
        self.coming().await.expect("something comes soon")
    }

    pub async fn frame(&mut self) -> Value {
        if let Some(frame) = self.waiting.pop_front() {
            return frame;
        }
        match self.come().await {
            Came::Frame(frame) => frame,
            end => panic!("a frame was expected and not {end:?}"),
        }
    }

    /// The first frame that passes; others wait.
    pub async fn first(&mut self, passes: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.waiting.iter().position(&passes) {
            return self.waiting.remove(place).unwrap();
        }
        loop {
            match self.come().await {
                Came::Frame(frame) if passes(&frame) => return frame,
                Came::Frame(frame) => self.waiting.push_back(frame),
                end => panic!("a frame was expected and not {end:?}; waiting: {:?}", self.waiting),
            }
        }
    }

    pub async fn response(&mut self, id: &str) -> Value {
        self.first(|frame| frame["kind"] == "resp" && frame["reqId"] == id).await
    }

    pub async fn notification(&mut self, kind: &str) -> Value {
        self.first(|frame| frame["kind"] == "notification" && frame["type"].as_str().is_some_and(|name| name.ends_with(kind))).await
    }

    /// Asks and gets the answer.
    pub async fn ask(&mut self, frame: &Value) -> Value {
        self.send(frame).await;
        let id = frame["id"].as_str().map_or_else(|| frame["id"].to_string(), str::to_owned);
        self.response(&id).await
    }

    /// The code the socket is closed with; frames before it are returned too.
    pub async fn closed(&mut self) -> (u16, Vec<Value>) {
        let mut frames: Vec<Value> = self.waiting.drain(..).collect();
        let began = std::time::Instant::now();
        loop {
            match self.coming().await {
                Some(Came::Frame(frame)) if began.elapsed() < SOON * 3 => frames.push(frame),
                Some(Came::Closed(code)) => return (code, frames),
                Some(Came::Gone) => return (1006, frames),
                None | Some(Came::Frame(_)) => panic!("the socket is not closed; {} frames came", frames.len()),
            }
        }
    }

    /// Events of a dialog as they come, replayed or live, until so many are there: number and text.
    pub async fn events(&mut self, count: usize) -> Vec<(u64, String)> {
        let mut events = Vec::new();
        while events.len() < count {
            let frame = self.notification("ms.MessagingEventNotification").await;
            for change in frame["body"]["changes"].as_array().unwrap() {
                if let Some(sequence) = change["sequence"].as_u64() {
                    events.push((sequence, change["event"]["message"].as_str().unwrap_or_default().to_owned()));
                }
            }
        }
        events
    }

    /// Subscribes to a dialog and waits for the reply.
    pub async fn follow(&mut self, dialog: &str, from: u64) -> Value {
        let answer = self.ask(&follow("follow", dialog, from)).await;
        assert_eq!(answer["code"], 200, "{answer}");
        answer
    }
}
