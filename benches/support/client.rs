//! Bare clients: HTTP over a connection that is kept, and WebSocket.

use super::{ACCOUNT, Gateway};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;

/// Room for what is read.
const READ: usize = 64 * 1024;
/// Requests of one socket that wait for their answers: fewer than the gateway lets wait.
const PENDING: usize = 200;

/// What was read and not looked at yet.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Reads more; false at the end.
    async fn fill(&mut self, stream: &TcpStream) -> bool {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            // A connection that hears little has little.
            let room = if self.bytes.is_empty() { 1024 } else { (self.bytes.len() * 2).max(READ) };
            if self.end * 2 >= self.bytes.len() {
                self.bytes.resize(room, 0);
            }
        }
        loop {
            stream.readable().await.unwrap();
            match stream.try_read(&mut self.bytes[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return read > 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A POST.
pub fn request(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: bench\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// One HTTP connection.
pub struct Http {
    stream: TcpStream,
    buffer: Buffer,
}

impl Http {
    pub async fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self { stream: open(address).await?, buffer: Buffer::default() })
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// Sends a request, and waits for the status and the body of its reply.
    pub async fn call(&mut self, request: &[u8]) -> (u16, &[u8]) {
        write(&self.stream, request).await;
        let (status, head, length) = loop {
            if let Some(end) = memchr::memmem::find(self.buffer.unread(), b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer.unread()[..end]).unwrap();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                break (head[9..12].parse().unwrap(), end + 4, length.map_or(0, |length| length.parse().unwrap()));
            }
            assert!(self.buffer.fill(&self.stream).await, "the connection was closed before the reply");
        };
        while self.buffer.unread().len() < head + length {
            assert!(self.buffer.fill(&self.stream).await, "the connection was closed within the reply");
        }
        let body = self.buffer.start + head;
        self.buffer.start = body + length;
        (status, &self.buffer.bytes[body..body + length])
    }

    /// The same, of JSON, where nothing but success is understood.
    pub async fn ask(&mut self, request: &[u8]) -> Value {
        let (status, body) = self.call(request).await;
        assert!((200..300).contains(&status), "{status} {}", String::from_utf8_lossy(body));
        serde_json::from_slice(body).unwrap()
    }
}

struct Shared {
    stream: TcpStream,
    /// Whether a frame is being written, into which no pong may come.
    is_writing: AtomicBool,
}

/// The reading half of a WebSocket.
pub struct Socket {
    shared: Arc<Shared>,
    buffer: Buffer,
}

/// The writing half.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

/// A client's frame, masked with zeros: the payload stands as it is.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match payload.len() {
        small @ 0..126 => frame.push(0x80 | small as u8),
        middle @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((middle as u16).to_be_bytes());
        }
        large => {
            frame.push(0x80 | 127);
            frame.extend((large as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The payload of the first frame there, and where it ends; none while it is not there whole.
fn parse(bytes: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let (opcode, short) = (bytes.first()? & 0x0f, usize::from(*bytes.get(1)?));
    let (head, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        short => (2, short),
    };
    (bytes.len() >= head + length).then_some((opcode, head..head + length))
}

impl Socket {
    pub async fn connect(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let upgrade = format!(
            "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        let stream = open(address).await.unwrap();
        write(&stream, upgrade.as_bytes()).await;
        let mut buffer = Buffer::default();
        loop {
            if let Some(end) = memchr::memmem::find(buffer.unread(), b"\r\n\r\n") {
                assert!(buffer.unread().starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(buffer.unread()));
                buffer.start += end + 4;
                return Self { shared: Arc::new(Shared { stream, is_writing: AtomicBool::new(false) }), buffer };
            }
            assert!(buffer.fill(&stream).await, "the connection was closed before the upgrade");
        }
    }

    /// An application's own.
    pub async fn connector(gateway: &Gateway) -> Self {
        let path = format!("/ws_api/account/{ACCOUNT}/messaging/connector?v=3");
        Self::connect(gateway.address, &path, &[("authorization", &gateway.app_token())]).await
    }

    /// An agent's, v3.
    pub async fn agent(gateway: &Gateway, bearer: &str) -> Self {
        let path = format!("/ws_api/account/{ACCOUNT}/messaging/brand?v=3");
        Self::connect(gateway.address, &path, &[("authorization", bearer)]).await
    }

    /// A consumer's, opened by the application.
    pub async fn consumer(gateway: &Gateway, app: &str, jws: &str) -> Self {
        let path = format!("/ws_api/account/{ACCOUNT}/messaging/consumer?v=3");
        Self::connect(gateway.address, &path, &[("authorization", app), ("x-lp-on-behalf", jws)]).await
    }

    pub fn writer(&self) -> Writer {
        Writer(self.shared.clone())
    }

    pub async fn send(&self, text: &str) {
        self.writer().send(text).await;
    }

    /// The next text. Pings are answered.
    pub async fn next(&mut self) -> &[u8] {
        loop {
            let Some((opcode, payload)) = parse(self.buffer.unread()) else {
                assert!(self.buffer.fill(&self.shared.stream).await, "the socket was closed");
                continue;
            };
            let (from, to) = (self.buffer.start + payload.start, self.buffer.start + payload.end);
            self.buffer.start = to;
            match opcode {
                1 => return &self.buffer.bytes[from..to],
                9 => self.pong(),
                8 => panic!("closed: {}", String::from_utf8_lossy(&self.buffer.bytes[from..to])),
                other => panic!("opcode {other}"),
            }
        }
    }

    /// What is being written is as good a sign of life.
    fn pong(&self) {
        if !self.shared.is_writing.load(Ordering::Relaxed) {
            let _ = self.shared.stream.try_write(&frame(10, b""));
        }
    }

    /// Asks, and waits for the reply, which is the next text there is.
    pub async fn ask(&mut self, text: &str) -> Value {
        self.send(text).await;
        let text = self.next().await;
        let reply: Value = serde_json::from_slice(text).unwrap();
        assert!(reply[0]["code"] == "OK" || reply["code"] == "OK" || reply["code"] == 200, "{reply}");
        reply
    }
}

impl Writer {
    pub async fn send(&self, text: &str) {
        self.0.is_writing.store(true, Ordering::Relaxed);
        write(&self.0.stream, &frame(1, text.as_bytes())).await;
        self.0.is_writing.store(false, Ordering::Relaxed);
    }
}

/// The numbers of the events in a notification, in order. Events of benchmarks hold no such text themselves.
pub fn read_sequences(frame: &[u8], mut each: impl FnMut(u64)) {
    const MARK: &[u8] = b"\"sequence\":";
    for place in memchr::memmem::find_iter(frame, MARK) {
        let digits = frame[place + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        each(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
    }
}

/// A conversation that a benchmark has opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The ConsumerJWS of its consumer.
    pub jws: String,
    pub id: String,
}

/// A text of a hundred characters that begins with something to know it by.
pub fn publish_text(name: &str) -> String {
    format!("{name:x<100}")
}

/// A request to publish such a text.
pub fn publish_request(conversation: &str, name: &str, jws: Option<&str>) -> String {
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": publish_text(name)});
    let mut request = json!({"kind": "req", "id": "1", "type": "ms.PublishEvent", "body": {"dialogId": conversation, "event": event}});
    if let Some(jws) = jws {
        request["headers"] = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": jws}]);
    }
    request.to_string()
}

/// Opens a conversation for each of so many consumers, by one connector socket.
pub async fn open_conversations(gateway: &Gateway, name: &str, count: usize) -> Vec<Opened> {
    let mut socket = Socket::connector(gateway).await;
    let tokens: Vec<String> = (0..count).map(|number| gateway.consumer_token(&format!("{name}-{number}"))).collect();
    let ask = |jws: &str| {
        let headers = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": jws}]);
        let body = json!({"brandId": ACCOUNT});
        json!([
            {"kind": "req", "id": "1", "type": "userprofile.SetUserProfile", "headers": headers, "body": {"firstName": "Ann"}},
            {"kind": "req", "id": "2", "type": "cm.ConsumerRequestConversation", "body": body},
        ])
        .to_string()
    };
    let mut opened = Vec::with_capacity(count);
    pipeline(
        &mut socket,
        count,
        |number| ask(&tokens[number]),
        |number, reply| {
            let reply: Value = serde_json::from_slice(reply).unwrap();
            let id = reply[1]["body"]["conversationId"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
            opened.push(Opened { jws: tokens[number].clone(), id });
        },
    )
    .await;
    opened
}

/// Asks so many times, with many requests on their way, and takes the replies, which come in the order of the requests.
pub async fn pipeline(socket: &mut Socket, count: usize, mut ask: impl FnMut(usize) -> String, mut answered: impl FnMut(usize, &[u8])) {
    let writer = socket.writer();
    let mut asked = 0;
    for number in 0..count {
        // Not one at a time, so that several frames share a packet as they do when many consumers write at once.
        if asked - number <= PENDING / 2 {
            while asked < count && asked - number < PENDING {
                writer.send(&ask(asked)).await;
                asked += 1;
            }
        }
        answered(number, socket.next().await);
    }
}

/// Publishes the events with these numbers into each conversation, in turns, by one connector socket; each ack is checked.
pub async fn publish_in_turns(gateway: &Gateway, opened: &[Opened], numbers: std::ops::Range<usize>) {
    let mut socket = Socket::connector(gateway).await;
    let ask = |asked: usize| {
        let one = &opened[asked % opened.len()];
        let jws = (asked < opened.len()).then_some(one.jws.as_str());
        publish_request(&one.id, &format!("{asked}-"), jws)
    };
    let count = numbers.len() * opened.len();
    pipeline(&mut socket, count, ask, |number, reply| {
        let mut acks = 0;
        read_sequences(reply, |sequence| {
            assert_eq!(sequence as usize, numbers.start + number / opened.len(), "an ack out of order");
            acks += 1;
        });
        assert_eq!(acks, 1, "{}", String::from_utf8_lossy(reply));
    })
    .await;
    gateway.settled().await;
}
