//! A socket that stays: it is opened again whenever it ends, and what was not answered is asked again.
//!
//! A [`Link`] is the handle of a task that owns the socket. Whoever owns the handle asks, and hears what happens as
//! [`Event`]s. It subscribes anew at each [`Happened::Up`], from where it stood: a link knows of no positions.

use super::client::{Client, Refused, Socket, text, told_to_wait};
use crate::config::Config;
use anyhow::Context;
use backon::{BackoffBuilder, ExponentialBuilder};
use base64::Engine;
use futures::{SinkExt, StreamExt};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;

/// How many requests of one socket are unanswered at most; half of what a gateway lets wait.
const UNANSWERED: usize = 128;

/// A socket from which nothing came for so long is given up: more than three pings of the gateway.
const SILENCE: Duration = Duration::from_secs(90);

/// How long a link waits before it repeats what the gateway could not do just now.
const AGAIN: Duration = Duration::from_secs(1);

/// The longest wait between two attempts to connect.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a socket has to close in good order.
const FAREWELL: Duration = Duration::from_secs(2);

/// The account of a gateway, and who we are there.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) config: Config,
    pub(super) account: String,
    pub(super) client_id: Option<String>,
}

/// Who opens a socket.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    Agent { login: String, password: String },
    Consumer { name: String },
    Application,
}

/// What the clients of this program can show, told when a consumer's conversation is opened: as a header of a frame, or of the
/// upgrade.
pub(super) fn properties() -> Value {
    json!({"type": ".ams.headers.ClientProperties", "appId": "tieline", "features": ["AUTO_MESSAGES", "MULTI_DIALOG", "RICH_CONTENT"]})
}

impl Place {
    pub(super) async fn app_token(&self) -> anyhow::Result<String> {
        self.client.app_token(&self.config, &self.account, self.client_id.as_deref()).await
    }

    /// A consumer's token.
    pub(super) async fn consumer(&self, app: &str, name: &str) -> anyhow::Result<String> {
        let path = format!("/api/account/{}/consumer?v=1.0", self.account);
        let request = self.client.post(&path)?.header("authorization", app).json(&json!({"ext_consumer_id": name}));
        text(&self.client.json(request).await?, "token")
    }

    /// Opens a socket: with the id of who opened it, and when its permission ends.
    async fn dial(&self, peer: &Peer) -> anyhow::Result<(Socket, String, Option<Instant>)> {
        let base = format!("/ws_api/account/{}/messaging", self.account);
        match peer {
            Peer::Agent { login, password } => {
                let path = format!("/api/account/{}/login?v=1.3", self.account);
                let request = self.client.post(&path)?.json(&json!({"username": login, "password": password}));
                let signed = self.client.json(request).await?;
                let socket = self.client.socket(&format!("{base}/brand?v=3"), &text(&signed, "bearer")?).await?;
                Ok((socket, text(&signed["config"], "userPid")?, None))
            }
            Peer::Consumer { name } => {
                let app = self.app_token().await?;
                let consumer = self.consumer(&app, name).await?;
                let properties = properties().to_string();
                let headers = [("authorization", app.as_str()), ("x-lp-on-behalf", &consumer), ("client-properties", &properties)];
                let socket = self.client.socket_with(&format!("{base}/consumer?v=3"), &headers).await?;
                Ok((socket, text(&claims(&consumer)?, "lp_consumer_id")?, None))
            }
            Peer::Application => {
                let app = self.app_token().await?;
                let socket = self.client.socket(&format!("{base}/connector?v=3"), &app).await?;
                Ok((socket, String::new(), renewal(&app)))
            }
        }
    }
}

/// What a token says, unchecked: that is the gateway's to do.
fn claims(token: &str) -> anyhow::Result<Value> {
    let payload = token.split('.').nth(1).context("the gateway's token is no JWT")?;
    Ok(serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload)?)?)
}

/// When a token should be renewed: when four fifths of what is left of it are over.
fn renewal(token: &str) -> Option<Instant> {
    let seconds = claims(token).ok()?["exp"].as_i64()? - jiff::Timestamp::now().as_second();
    Some(Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)) * 4 / 5)
}

/// For how long the gateway asks to be left alone, if that is what an error says.
fn wait_of(error: &anyhow::Error) -> Option<Duration> {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return refused.wait;
    }
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Http(response)) => told_to_wait(response.status().as_u16(), response.headers()),
        _ => None,
    }
}

fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Sends what `build` makes until it is taken or refused for good: without an answer again and again, and as told where the
/// gateway says when.
pub(super) async fn patiently(place: &Place, build: impl Fn(&Client) -> anyhow::Result<RequestBuilder>) -> anyhow::Result<Value> {
    let mut delays = backoff();
    loop {
        let error = match place.client.json(build(&place.client)?).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let is_final = error.downcast_ref::<Refused>().is_some_and(|refused| refused.wait.is_none() && !refused.status.is_server_error());
        if is_final {
            return Err(error);
        }
        tokio::time::sleep(wait_of(&error).or_else(|| delays.next()).unwrap_or(LONGEST)).await;
    }
}

/// A request of a link's owner.
#[derive(Debug)]
pub(super) struct Ask {
    /// What the owner knows the answer by.
    pub(super) tag: u64,
    /// One request, or several as an array, without ids.
    pub(super) frame: Value,
    pub(super) life: Life,
}

#[derive(Debug)]
pub(super) enum Life {
    /// Asked again until it is answered; the key makes that harmless.
    Kept { key: String },
    /// For the connection of this number only: forgotten with it, and then not answered.
    Once(u64),
}

/// What a link has to say.
#[derive(Debug)]
pub(super) struct Event {
    /// Which of the owner's links it is.
    pub(super) link: usize,
    pub(super) what: Happened,
}

#[derive(Debug)]
pub(super) enum Happened {
    /// There is a connection, the how many-th it is, and who we are on it.
    Up { connection: u64, id: String },
    /// The answer to a request; refusals that pass by themselves are not told.
    Answer { tag: u64, frame: Value },
    /// A notification.
    Told(Value),
    /// The connection ended.
    Down(String),
    /// There was never a connection, and there will be none.
    Failed(anyhow::Error),
}

/// What the code of an answer says; nothing if it was done.
pub(super) fn refusal(frame: &Value) -> Option<(u64, String)> {
    let code = frame["code"].as_u64().filter(|code| *code > 399)?;
    let body = &frame["body"];
    let said = body.as_str().or_else(|| body["details"].as_str()).map_or_else(|| body.to_string(), str::to_owned);
    Some((body["errorCode"].as_u64().unwrap_or(code), said))
}

/// The handle.
#[derive(Debug)]
pub(super) struct Link {
    // Not bounded here but by its owners: they ask for what they have planned or were told, one thing after another in each
    // conversation, and must not wait for a task that waits for them.
    asks: mpsc::UnboundedSender<Ask>,
    leave: CancellationToken,
    again: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Link {
    /// Connects, and stays connected until it is closed. Events wait in `events` until they are read, and the socket with them.
    pub(super) fn open(place: Arc<Place>, peer: Peer, number: usize, events: mpsc::Sender<Event>) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let leave = CancellationToken::new();
        let again = Arc::new(Notify::new());
        let task = Task {
            place,
            peer,
            number,
            events,
            asked,
            again: again.clone(),
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            next: 0,
            connection: 0,
        };
        let left = leave.clone();
        let run = async move {
            tokio::select! {
                () = task.run(left.clone()) => {}
                // A close frame has its time, and then nothing more.
                () = async { left.cancelled().await; tokio::time::sleep(FAREWELL).await } => {}
            }
        };
        Self { asks, leave, again, task: tokio::spawn(run) }
    }

    pub(super) fn ask(&self, ask: Ask) {
        // A link that failed has told so, and its owner is about to leave.
        let _ = self.asks.send(ask);
    }

    /// Connects anew: what was subscribed to on the old connection ends with it.
    pub(super) fn come_again(&self) {
        self.again.notify_one();
    }

    /// Ends the connection in good order.
    pub(super) async fn close(self) {
        self.leave.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "a socket did not end in good order");
        }
    }
}

struct Task {
    place: Arc<Place>,
    peer: Peer,
    number: usize,
    events: mpsc::Sender<Event>,
    asked: mpsc::UnboundedReceiver<Ask>,
    again: Arc<Notify>,
    waiting: VecDeque<(String, Ask)>,
    sent: VecDeque<(String, Ask)>,
    next: u64,
    connection: u64,
}

/// Why a connection is over.
enum End {
    Left,
    Lost(String),
    /// The permission is over: come back at once with another.
    Expired,
}

impl Task {
    async fn tell(&self, what: Happened) {
        // An owner that does not listen any more is about to close us.
        let _ = self.events.send(Event { link: self.number, what }).await;
    }

    async fn run(mut self, leave: CancellationToken) {
        let mut delays = backoff();
        loop {
            let dialled = tokio::select! {
                dialled = self.place.dial(&self.peer) => dialled,
                () = leave.cancelled() => return,
            };
            let mut wait = None;
            match dialled {
                Ok((socket, id, renew)) => {
                    self.connection += 1;
                    delays = backoff();
                    self.begin(id).await;
                    let began = Instant::now();
                    match self.talk(socket, renew, &leave).await {
                        End::Left => return,
                        End::Lost(why) => self.tell(Happened::Down(why)).await,
                        End::Expired => {
                            self.tell(Happened::Down("the token has ended".into())).await;
                            // Unless it always has, such as where two clocks differ.
                            wait = (began.elapsed() > AGAIN).then_some(Duration::ZERO);
                        }
                    }
                }
                Err(error) => match wait_of(&error) {
                    Some(told) => wait = Some(told),
                    // A first failure is a mistake of the command; later ones are the gateway's and pass.
                    None if self.connection == 0 => return self.tell(Happened::Failed(error)).await,
                    None => tracing::debug!(%error, "still away"),
                },
            }
            tokio::select! {
                () = tokio::time::sleep(wait.or_else(|| delays.next()).unwrap_or(LONGEST)) => {}
                () = leave.cancelled() => return,
            }
        }
    }

    /// What was asked on a connection that is gone: kept in its order in front of what waits, or forgotten.
    async fn begin(&mut self, id: String) {
        while let Some(unanswered) = self.sent.pop_back() {
            self.waiting.push_front(unanswered);
        }
        self.waiting.retain(|(_, ask)| matches!(ask.life, Life::Kept { .. }));
        self.tell(Happened::Up { connection: self.connection, id }).await;
    }

    async fn talk(&mut self, mut socket: Socket, mut renew: Option<Instant>, leave: &CancellationToken) -> End {
        let mut resume = Instant::now();
        let mut silent = Instant::now() + SILENCE;
        loop {
            if let Err(error) = self.send(&mut socket, resume).await {
                return End::Lost(error.to_string());
            }
            let is_held = !self.waiting.is_empty() && resume > Instant::now();
            tokio::select! {
                () = leave.cancelled() => {
                    // An end that is not heard is an end all the same.
                    let _ = socket.close(None).await;
                    while let Some(Ok(_)) = socket.next().await {}
                    return End::Left;
                }
                () = tokio::time::sleep_until(resume), if is_held => {}
                () = tokio::time::sleep_until(renew.unwrap_or(silent)), if renew.is_some() => {
                    renew = match self.renew(&mut socket).await {
                        Ok(next) => next,
                        Err(error) => return End::Lost(format!("no new token: {error:#}")),
                    };
                }
                () = self.again.notified() => return End::Lost("it followed much that is over".into()),
                () = tokio::time::sleep_until(silent) => return End::Lost("nothing came any more".into()),
                Some(ask) = self.asked.recv() => self.enqueue(ask),
                message = socket.next() => {
                    silent = Instant::now() + SILENCE;
                    match self.take(message).await {
                        Taken::Nothing => {}
                        Taken::Hold => resume = Instant::now() + AGAIN,
                        Taken::Renew => {
                            renew = Some(Instant::now());
                            resume = Instant::now() + AGAIN;
                        }
                        Taken::End(end) => return end,
                    }
                }
            }
        }
    }

    fn enqueue(&mut self, mut ask: Ask) {
        if matches!(ask.life, Life::Once(connection) if connection != self.connection) {
            return;
        }
        self.next += 1;
        let id = self.next.to_string();
        let key = match &ask.life {
            Life::Kept { key } => Some(json!({"type": "IdempotencyKey", "key": key})),
            Life::Once(_) => None,
        };
        let frames = match &mut ask.frame {
            Value::Array(frames) => frames.as_mut_slice(),
            frame => std::slice::from_mut(frame),
        };
        for frame in frames.iter_mut() {
            frame["id"] = json!(id);
        }
        if let (Some(key), Some(first)) = (key, frames.first_mut()) {
            match &mut first["headers"] {
                Value::Array(headers) => headers.push(key),
                headers => *headers = json!([key]),
            }
        }
        self.waiting.push_back((id, ask));
    }

    async fn send(&mut self, socket: &mut Socket, resume: Instant) -> Result<(), tungstenite::Error> {
        if resume > Instant::now() {
            return Ok(());
        }
        while self.sent.len() < UNANSWERED {
            let Some((id, ask)) = self.waiting.pop_front() else { break };
            socket.feed(Message::text(ask.frame.to_string())).await?;
            self.sent.push_back((id, ask));
        }
        socket.flush().await
    }

    async fn renew(&self, socket: &mut Socket) -> anyhow::Result<Option<Instant>> {
        let token = self.place.app_token().await?;
        let header = json!([{"type": ".ams.headers.AppAuthentication", "jwt": token}]);
        // Its answer is nobody's: where it is refused the socket ends, and is opened anew.
        let frame = json!({"kind": "req", "id": "renewal", "type": "InitConnection", "headers": header});
        socket.send(Message::text(frame.to_string())).await?;
        Ok(renewal(&token))
    }

    async fn take(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Taken {
        let text = match message {
            None => return Taken::End(End::Lost("the connection ended".into())),
            Some(Err(error)) => return Taken::End(End::Lost(error.to_string())),
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 4401 => return Taken::End(End::Expired),
            Some(Ok(Message::Close(frame))) => {
                let why =
                    frame.map_or_else(|| "closed".to_owned(), |frame| format!("closed with {}: {}", u16::from(frame.code), frame.reason));
                return Taken::End(End::Lost(why));
            }
            Some(Ok(_)) => return Taken::Nothing,
        };
        let Ok(frame) = serde_json::from_str::<Value>(&text) else {
            return Taken::End(End::Lost(format!("this is not what a gateway sends: {text:.200}")));
        };
        if frame["kind"] == "notification" {
            self.tell(Happened::Told(frame)).await;
            return Taken::Nothing;
        }
        let id = if frame.is_array() { &frame[0]["reqId"] } else { &frame["reqId"] };
        let Some(place) = self.sent.iter().position(|(sent, _)| id == sent.as_str()) else { return Taken::Nothing };
        let Some((id, ask)) = self.sent.remove(place) else { return Taken::Nothing };
        let again = match refusal(&frame) {
            Some((40102 | 40105, _)) => Some(Taken::Renew),
            Some((code, _)) if matches!(code / if code > 999 { 100 } else { 1 }, 500 | 503 | 507) => Some(Taken::Hold),
            _ => None,
        };
        match (again, &ask.life) {
            (Some(again), Life::Kept { .. }) => {
                self.waiting.push_front((id, ask));
                again
            }
            (_, Life::Kept { .. } | Life::Once(_)) => {
                self.tell(Happened::Answer { tag: ask.tag, frame }).await;
                Taken::Nothing
            }
        }
    }
}

/// What became of a message.
enum Taken {
    Nothing,
    /// What waits should wait a little.
    Hold,
    /// The token must be renewed before what waits is asked.
    Renew,
    End(End),
}
