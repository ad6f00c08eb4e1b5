//! A receiver of webhooks that does to each what it is told to, and remembers all of it.

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use futures::StreamExt;
use hyper::service::service_fn;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum React {
    Answer(u16),
    /// After so long.
    Late(Duration, u16),
    Hang,
    /// The connection ends without an answer.
    Close,
    /// A head with this status, and a body that ends before it should.
    Cut(u16),
    /// 503, and for how many seconds to wait.
    RetryAfter(u64),
    /// 200 with these headers and these bytes.
    Give(&'static [(&'static str, &'static str)], &'static [u8]),
    /// 200 with these bytes, so many times over, and without a length.
    Chunks(&'static [u8], usize),
    /// 200 with these bytes, and then nothing.
    Stall(&'static [u8]),
    /// 302 to a URL.
    To(&'static str),
    /// 301 to the path `/elsewhere` of the same receiver.
    Redirect,
}

/// One request that came.
#[derive(Debug, Clone)]
pub struct Hit {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub at: Instant,
    /// How often this message came to this path before.
    pub before: usize,
    pub reacted: React,
}

impl Hit {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn change(&self) -> Value {
        serde_json::from_slice::<Value>(&self.body).unwrap()["body"]["changes"][0].clone()
    }

    /// The dialog and the number of an event.
    pub fn event(&self) -> (String, u64) {
        let change = self.change();
        (change["dialogId"].as_str().unwrap().to_owned(), change["sequence"].as_u64().unwrap())
    }

    /// Whether it was answered so that it counts as taken.
    pub fn is_taken(&self) -> bool {
        matches!(self.reacted, React::Answer(status) | React::Late(_, status) | React::Cut(status) if (200..300).contains(&status))
    }
}

type Rule = Box<dyn Fn(&Hit) -> React + Send>;

struct Desk {
    rule: Mutex<Rule>,
    hits: Mutex<Vec<Hit>>,
    times: Mutex<HashMap<(String, String), usize>>,
    count: watch::Sender<usize>,
}

/// The receiver.
pub struct Sink {
    pub address: SocketAddr,
    desk: Arc<Desk>,
    count: watch::Receiver<usize>,
}

impl Sink {
    pub async fn start(rule: impl Fn(&Hit) -> React + Send + 'static) -> Self {
        let (tell, count) = watch::channel(0);
        let desk = Arc::new(Desk { rule: Mutex::new(Box::new(rule)), hits: Mutex::default(), times: Mutex::default(), count: tell });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = desk.clone();
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let desk = serving.clone();
                let service = service_fn(move |request| receive(desk.clone(), request));
                let io = hyper_util::rt::TokioIo::new(stream);
                connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        Self { address, desk, count }
    }

    /// One that takes everything.
    pub async fn open() -> Self {
        Self::start(|_| React::Answer(200)).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn set(&self, rule: impl Fn(&Hit) -> React + Send + 'static) {
        *self.desk.rule.lock().unwrap() = Box::new(rule);
    }

    pub fn hits(&self) -> Vec<Hit> {
        self.desk.hits.lock().unwrap().clone()
    }

    /// What was taken at a path, in the order it came: the events of a dialog by their numbers.
    pub fn taken(&self, path: &str) -> HashMap<String, Vec<u64>> {
        let mut all: HashMap<String, Vec<u64>> = HashMap::new();
        for hit in self.hits().iter().filter(|hit| hit.path == path && hit.is_taken()) {
            let (dialog, sequence) = hit.event();
            all.entry(dialog).or_default().push(sequence);
        }
        all
    }

    /// Waits until what came passes.
    pub async fn until(&mut self, what: &str, limit: Duration, passes: impl Fn(&[Hit]) -> bool) {
        let desk = self.desk.clone();
        let reached = self.count.wait_for(|_| passes(&desk.hits.lock().unwrap()));
        if tokio::time::timeout(limit, reached).await.is_err() {
            let hits = self.hits();
            let mut paths: HashMap<&str, (usize, usize)> = HashMap::new();
            for hit in &hits {
                let (came, taken) = paths.entry(&hit.path).or_default();
                *came += 1;
                *taken += usize::from(hit.is_taken());
            }
            eprintln!("came and taken, by path: {paths:?}");
            panic!(
                "{what}: {} came, the last of it {:?}",
                hits.len(),
                hits.last().map(|hit| (&hit.path, hit.id().to_owned(), hit.reacted))
            );
        }
    }
}

async fn receive(desk: Arc<Desk>, request: hyper::Request<hyper::body::Incoming>) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(Body::new(body), 1 << 20).await.unwrap().to_vec();
    let mut hit =
        Hit { path: parts.uri.path().to_owned(), headers: parts.headers, body, at: Instant::now(), before: 0, reacted: React::Hang };
    {
        let mut times = desk.times.lock().unwrap();
        let seen = times.entry((hit.path.clone(), hit.id().to_owned())).or_default();
        hit.before = *seen;
        *seen += 1;
    }
    let react = desk.rule.lock().unwrap()(&hit);
    hit.reacted = react;
    desk.hits.lock().unwrap().push(hit);
    desk.count.send_modify(|count| *count += 1);
    let answer = |status: u16| Response::builder().status(status);
    let respond = |response: axum::http::response::Builder, body: Body| Ok(response.body(body).unwrap());
    match react {
        React::Answer(status) => respond(answer(status), Body::from("it is what it is")),
        React::Late(time, status) => {
            tokio::time::sleep(time).await;
            respond(answer(status), Body::empty())
        }
        React::Hang => std::future::pending::<Result<_, std::io::Error>>().await,
        React::Close => Err(std::io::Error::other("the receiver hangs up")),
        React::Cut(status) => {
            // The end comes when the half has left.
            let pieces = futures::stream::unfold(0, |piece| async move {
                match piece {
                    0 => Some((Ok("half of it"), 1)),
                    _ => {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                        Some((Err(std::io::Error::other("and no more")), 2))
                    }
                }
            });
            respond(answer(status).header("content-length", 1_000), Body::from_stream(pieces))
        }
        React::Give(headers, bytes) => {
            let response = headers.iter().fold(answer(200), |response, (name, value)| response.header(*name, *value));
            respond(response, Body::from(bytes))
        }
        React::Chunks(bytes, times) => {
            let pieces = futures::stream::iter(std::iter::repeat_n(bytes, times).map(Ok::<_, std::io::Error>));
            respond(answer(200), Body::from_stream(pieces))
        }
        React::Stall(bytes) => {
            let begun = futures::stream::once(std::future::ready(Ok::<_, std::io::Error>(bytes)));
            respond(answer(200), Body::from_stream(begun.chain(futures::stream::pending())))
        }
        React::To(url) => respond(answer(302).header("location", url), Body::empty()),
        React::RetryAfter(seconds) => respond(answer(503).header("retry-after", seconds), Body::empty()),
        React::Redirect => respond(answer(StatusCode::MOVED_PERMANENTLY.as_u16()).header("location", "/elsewhere"), Body::empty()),
    }
}

/// Nobody is there, and nobody will be: an address that was free a moment ago.
pub fn nobody() -> String {
    format!("http://127.0.0.1:{}/dead", crate::support::free_port())
}
