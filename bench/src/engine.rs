//! Thousands of connections, and what happens on them as one stream of events.
//!
//! Each connection is a task that owns its socket. It reads with a small buffer: the library clears the whole of it at every
//! read, and a large one would cost more than the message.

use crate::adapter::{Adapter, Role, Said, Seat, Talk};
use crate::mark::Mark;
use futures::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

/// How many connections are being opened at a time.
const OPENING: usize = 64;

/// A server that lets nothing happen for so long, with something in flight, is not waited for any longer; or another time.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long all connections together have to end in good order.
const FAREWELL: Duration = Duration::from_secs(5);

/// How many events are taken at a time.
const EVENTS: usize = 4096;

/// Why a run ends early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A connection is not made.
    #[error("connection {number} of {wanted} is not made: {why}")]
    Open {
        /// Which.
        number: usize,
        /// How many were to be opened.
        wanted: usize,
        /// Why.
        why: String,
    },
    /// A connection ended.
    #[error("the server ended connection {number}: {why}")]
    Closed {
        /// Which.
        number: usize,
        /// What it said.
        why: String,
    },
    /// A request was refused.
    #[error("the server refused: {0}")]
    Refused(String),
    /// What was in flight did not come.
    #[error("nothing comes any more: {missing} deliveries or acks are lost, and {bad} came that should not")]
    Lost {
        /// Deliveries and acks.
        missing: u64,
        /// Deliveries of the wrong message.
        bad: u64,
    },
}

/// Where a server is.
#[derive(Clone)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// Host and port, as the upgrade names them.
    pub authority: String,
    /// With TLS: by what it is known.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("authority", &self.authority).field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// Something that happened on a connection.
#[derive(Debug)]
pub struct Event {
    /// On which.
    pub number: usize,
    /// When, in nanoseconds of the engine's clock.
    pub at: u64,
    /// What.
    pub what: What,
}

/// What can happen on a connection.
#[derive(Debug)]
pub enum What {
    /// A frame said something.
    Said(Said),
    /// It ended, or was never made.
    Ended(String),
}

/// The connections of one run.
#[derive(Debug)]
pub struct Engine<A> {
    adapter: Arc<A>,
    target: Target,
    patience: Duration,
    began: Instant,
    links: Vec<mpsc::UnboundedSender<Mark>>,
    tell: mpsc::UnboundedSender<Event>,
    told: mpsc::UnboundedReceiver<Event>,
    tasks: JoinSet<()>,
}

impl<A: Adapter> Engine<A> {
    /// Without connections yet.
    #[must_use]
    pub fn new(adapter: Arc<A>, target: Target, patience: Duration) -> Self {
        // Not bounded here, but by what is in flight: a message brings one event for each of its subscribers.
        let (tell, told) = mpsc::unbounded_channel();
        Self { adapter, target, patience, began: Instant::now(), links: Vec::new(), tell, told, tasks: JoinSet::new() }
    }

    /// Nanoseconds since the beginning.
    #[must_use]
    pub fn now(&self) -> u64 {
        nanoseconds(self.began)
    }

    /// When that is, by the clock that sleeps.
    #[must_use]
    pub fn instant(&self, nanoseconds: u64) -> Instant {
        self.began + Duration::from_nanos(nanoseconds)
    }

    /// Opens a connection for each of these, numbered in this order, and waits until all are ready. The first comes alone, for
    /// it may set up what the others need.
    ///
    /// # Errors
    ///
    /// If one is not made, ends or is refused.
    pub async fn open(&mut self, seats: &[(Role, u32)], mut progress: impl FnMut(usize)) -> Result<(), Failure> {
        let first = self.links.len();
        let (mut begun, mut ready) = (0, 0);
        while ready < seats.len() {
            let at_a_time = if ready == 0 { 1 } else { OPENING };
            while begun < seats.len() && begun - ready < at_a_time {
                let (role, channel) = seats[begun];
                self.begin(Seat { number: first + begun, role, channel });
                begun += 1;
            }
            let mut events = Vec::new();
            let missing = (seats.len() - ready) as u64;
            match self.hear(&mut events, || (missing, 0)).await {
                Ok(()) => {}
                Err(Failure::Closed { number, why }) => {
                    return Err(Failure::Open { number: number - first + 1, wanted: seats.len(), why });
                }
                Err(Failure::Lost { .. }) => {
                    let why = format!("nothing came for {:?}", self.patience);
                    return Err(Failure::Open { number: ready + 1, wanted: seats.len(), why });
                }
                Err(failure) => return Err(failure),
            }
            ready += events.iter().filter(|event| matches!(event.what, What::Said(Said::Ready))).count();
            progress(ready);
        }
        Ok(())
    }

    fn begin(&mut self, seat: Seat) {
        // Bounded by what the workload has in flight.
        let (link, marks) = mpsc::unbounded_channel();
        self.links.push(link);
        let tell = Tell { number: seat.number, began: self.began, events: self.tell.clone() };
        self.tasks.spawn(connect(self.target.clone(), self.adapter.clone(), Talk::new(seat), marks, tell));
    }

    /// Publishes on a connection.
    pub fn publish(&self, number: usize, mark: Mark) {
        // A connection that ended has told so.
        let _ = self.links[number].send(mark);
    }

    /// Waits until something happens, and puts what did into `events`. `missing` says how many deliveries and acks are waited
    /// for, and how many were wrong.
    ///
    /// # Errors
    ///
    /// If nothing happens for long, a connection ends, or the server refuses something.
    pub async fn hear(&mut self, events: &mut Vec<Event>, missing: impl Fn() -> (u64, u64)) -> Result<(), Failure> {
        events.clear();
        if timeout(self.patience, self.told.recv_many(events, EVENTS)).await.is_err() {
            let (missing, bad) = missing();
            return Err(Failure::Lost { missing, bad });
        }
        for event in events {
            match &mut event.what {
                What::Ended(why) => return Err(Failure::Closed { number: event.number, why: std::mem::take(why) }),
                What::Said(Said::Refused(why)) => return Err(Failure::Refused(std::mem::take(why))),
                What::Said(_) => {}
            }
        }
        Ok(())
    }

    /// Ends all connections in good order, or in five seconds.
    pub async fn close(mut self) {
        self.links.clear();
        // What is late is dropped with the set.
        let _ = timeout(FAREWELL, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Where a connection tells what happens.
struct Tell {
    number: usize,
    began: Instant,
    events: mpsc::UnboundedSender<Event>,
}

impl Tell {
    fn tell(&self, at: u64, what: What) {
        // Nobody listens any more when the run is over.
        let _ = self.events.send(Event { number: self.number, at, what });
    }
}

async fn connect<A: Adapter>(target: Target, adapter: Arc<A>, talk: Talk, marks: mpsc::UnboundedReceiver<Mark>, tell: Tell) {
    let dial = async {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = match dial.await {
        Ok(stream) => stream,
        Err(error) => return tell.tell(nanoseconds(tell.began), What::Ended(error.to_string())),
    };
    match target.tls {
        None => upgrade(stream, "ws", &target.authority, adapter, talk, marks, tell).await,
        Some((connector, name)) => match connector.connect(name, stream).await {
            Ok(stream) => upgrade(stream, "wss", &target.authority, adapter, talk, marks, tell).await,
            Err(error) => tell.tell(nanoseconds(tell.began), What::Ended(format!("TLS: {error}"))),
        },
    }
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin, A: Adapter>(
    stream: S,
    scheme: &str,
    authority: &str,
    adapter: Arc<A>,
    talk: Talk,
    marks: mpsc::UnboundedReceiver<Mark>,
    tell: Tell,
) {
    let opened = async {
        let mut request = format!("{scheme}://{authority}{}", adapter.path(&talk.seat)).into_client_request()?;
        for (name, value) in adapter.headers(&talk.seat) {
            request.headers_mut().insert(name, HeaderValue::from_str(&value)?);
        }
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(64 * 1024);
        Ok::<_, tungstenite::Error>(tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?.0)
    };
    let why = match opened.await {
        Ok(socket) => drive(socket, &*adapter, talk, marks, &tell).await,
        Err(tungstenite::Error::Http(response)) => Some(said_by(&response)),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        tell.tell(nanoseconds(tell.began), What::Ended(why));
    }
}

fn said_by(response: &tungstenite::http::Response<Option<Vec<u8>>>) -> String {
    let body = response.body().as_deref().unwrap_or_default();
    format!("{} {}", response.status(), crate::adapter::shown(body))
}

/// Publishes and listens until the run is over; why it ended, if it ended before.
async fn drive<S: AsyncRead + AsyncWrite + Unpin, A: Adapter>(
    mut socket: WebSocketStream<S>,
    adapter: &A,
    mut talk: Talk,
    mut marks: mpsc::UnboundedReceiver<Mark>,
    tell: &Tell,
) -> Option<String> {
    if adapter.open(&mut talk) {
        tell.tell(nanoseconds(tell.began), What::Said(Said::Ready));
    }
    loop {
        if !talk.out.is_empty() {
            for message in talk.out.drain(..) {
                if let Err(error) = socket.feed(message).await {
                    return Some(error.to_string());
                }
            }
            if let Err(error) = socket.flush().await {
                return Some(error.to_string());
            }
        }
        tokio::select! {
            // What is to be published leaves before more is read, so that a window fills in one write.
            biased;
            mark = marks.recv() => {
                let Some(mark) = mark else {
                    // The run is over; the server's farewell is not waited for.
                    let _ = socket.close(None).await;
                    return None;
                };
                adapter.publish(&mut talk, &mark.body());
                while let Ok(mark) = marks.try_recv() {
                    adapter.publish(&mut talk, &mark.body());
                }
            }
            frame = socket.next() => {
                let at = nanoseconds(tell.began);
                let mut tell = |said| tell.tell(at, What::Said(said));
                match frame {
                    Some(Ok(Message::Text(text))) => adapter.hear(&mut talk, text.as_bytes(), &mut tell),
                    Some(Ok(Message::Binary(bytes))) => adapter.hear(&mut talk, &bytes, &mut tell),
                    Some(Ok(Message::Close(Some(frame)))) => return Some(format!("{}: {}", u16::from(frame.code), frame.reason)),
                    Some(Ok(Message::Close(None))) | None => return Some("closed".to_owned()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Some(error.to_string()),
                }
            }
        }
    }
}
